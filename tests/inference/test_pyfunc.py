"""A recorded model as MLflow itself uses it: a path in, a path out."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from medgan.data.studies import Location
from medgan.errors import DataError, ModelError
from medgan.inference.convert import ConvertOrder, convert
from medgan.inference.pyfunc import Translate
from medgan.tracking import KeptModel, Tracker, download_model, resolve_uri
from medgan.training.architecture import TranslationDescription

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory, ct):
    path = tmp_path_factory.mktemp("study") / "ct.nii.gz"
    nib.Nifti1Image(ct(0, contrast=True).astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(path)
    return path


LOADED = """
import json, sys
import mlflow
uris, source = json.loads(sys.argv[1]), sys.argv[2]
for number, uri in enumerate(uris):
    model = mlflow.pyfunc.load_model(uri)
    output = f"{source}.{number}.nii.gz"
    assert model.predict(source, params={"device": "cpu", "output": output}) == [output]
assert model.predict([source], params={"output": "folder"}) == ["folder/ct.nii.gz"]
dialled = model.predict(source, params={"strength": 0.0, "output": f"{source}.3.nii.gz"})
assert model.predict(source) == [source.replace(".nii.gz", "_desc-synthetic.nii.gz")]
"""


def test_mlflow_itself_makes_a_function_of_paths_of_a_model(save_model, study, tmp_path):
    """In a process that never imported medgan by itself."""
    translator = save_model(tmp_path / "model")
    facts = KeptModel(translator, "0" * 64, loader=TranslationDescription.loader)
    with Tracker.start(None, experiment="pyfunc", run_name="first", parameters={}, tags={}) as run:
        registered = run.model(facts, "ct_contrast")
    uris = [registered, f"runs:/{run.id}/first", "models:/ct_contrast@newest"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": resolve_uri()}
    command = [sys.executable, "-c", LOADED, json.dumps(uris), str(study)]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    outputs = sorted(path.name for path in study.parent.glob("*.nii.gz"))
    assert outputs == ["ct.nii.gz", *(f"ct.nii.gz.{n}.nii.gz" for n in range(4)), "ct_desc-synthetic.nii.gz"]
    truth = convert(ConvertOrder(Location(study), tmp_path / "again.nii.gz", str(translator), device="cpu"), QUIET)
    assert not truth.failed
    same = nib.load(study.with_name("ct.nii.gz.0.nii.gz")).get_fdata()
    np.testing.assert_array_equal(same, nib.load(tmp_path / "again.nii.gz").get_fdata())
    none = nib.load(study.with_name("ct.nii.gz.3.nii.gz")).get_fdata()
    np.testing.assert_array_equal(none, nib.load(study).get_fdata())
    assert not np.array_equal(none, same)
    kept = {path.name for path in download_model(registered).iterdir()}
    assert kept >= {"MLmodel", "model.json", "requirements.txt", "weights.safetensors"}
    assert not [name for name in kept if name.endswith((".pkl", ".pt"))]


def test_a_study_that_cannot_be_translated_and_a_folder_without_a_model_are_errors(save_model, tmp_path):
    (tmp_path / "notes.nii.gz").write_text("no image")
    with pytest.raises(DataError, match=r"notes\.nii\.gz"):
        Translate(save_model(tmp_path / "model")).predict(str(tmp_path / "notes.nii.gz"))
    with pytest.raises(ModelError, match="is not a model folder"):
        Translate(tmp_path)
