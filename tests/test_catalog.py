import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medgan import catalog
from medgan.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "monai", "mlflow", "lightning_fabric", "matplotlib", "pandas", "scipy", "numpy"}
LISTED = f"""
import json, sys
from medgan import catalog
print(json.dumps([catalog.summaries(), sorted({HEAVY} & sys.modules.keys())]))
"""


@pytest.mark.parametrize("name", catalog.names())
def test_a_pipeline_is_loaded_by_its_name_and_has_a_summary_of_one_sentence(name):
    summary = catalog.summaries()[name]
    assert summary.endswith(".")
    assert len(summary) < 120
    kind = catalog.load(name)
    assert issubclass(kind, Pipeline)
    assert kind.name() == name
    assert kind.phantom == catalog.phantom(name)


def test_a_new_pipeline_is_one_file_and_is_found_without_torch(tmp_path):
    installed = tmp_path / "medgan"
    for source, target in (("medgan", "."), ("pipelines", "pipelines"), ("configs", "configs")):
        shutil.copytree(ROOT / source, installed / target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pyc"))
    (installed / "pipelines" / "t1_gadolinium.py").write_text(
        '"""T1 before gadolinium to T1 after.\n\nMore."""\nimport torch\n'
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LISTED], env=environment, cwd=tmp_path, capture_output=True, check=True
    )
    summaries, heavy = json.loads(done.stdout)
    assert summaries == catalog.summaries() | {"t1_gadolinium": "T1 before gadolinium to T1 after."}
    assert heavy == []
