import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu_check.py"
WITHOUT = """import runpy, sys
sys.modules |= {"mlflow": None, "monai": None}
sys.argv = [%r, "size=tiny", "--device", "cpu", "--out", %r]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_check_runs_whole_without_mlflow_monai_and_a_gpu_of_which_it_then_says_nothing(tmp_path):
    page = tmp_path / "page.md"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT % (str(SCRIPT), str(page))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    text = page.read_text(encoding="utf-8")
    assert text == done.stdout
    assert "**No GPU: these figures say nothing about one.**" in text
    for row in (
        "| 3D CycleGAN | ms an iteration, checkpointing |",
        "| 2.5D pix2pix | loader, ms a batch of 2 |",
        "| 2D CycleGAN | resume | equal to the bit after a stop and a resume; equal to the bit of two trainings",
        "| 2D CycleGAN | a memory that is too small | goes on with a batch in 2 parts |",
    ):
        assert row in text
    (parts,) = [line for line in text.splitlines() if "| a batch in two parts |" in line]
    assert float(parts.split("differ by ")[1].split()[0]) < 1e-5


def test_a_check_that_fails_is_told_and_the_others_go_on():
    check = runpy.run_path(str(SCRIPT))["check"]
    check.__globals__["Case"] = lambda name, size, device: type("Case", (), {"name": name})
    check.__globals__["speed"] = lambda case, on_gpu: {"waits": "none"}
    lines = list(check("tiny", "cpu", 100.0))
    assert sum("**failed**: " in line for line in lines) == 5
    assert sum("| none |" in line for line in lines) == 3
    assert any("not run: out of time" in line for line in check("tiny", "cpu", 0.0))


def test_another_size_is_wrong_use(capsys):
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT))["main"](["size=huge", "--device", "cpu"])
    assert end.value.code == 2
    assert "choose of tiny, small, full" in capsys.readouterr().err
