import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medgan.cli import app


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from medgan.classification.model import CLASSIFIER, write_classifier
    from medgan.classification.settings import ClassifierConfig
    from medgan.data.domains import domain_named
    from medgan.data.preparation import GridConfig
    from medgan.training.description import Origin
    from medgan.training.fit import Fitted

    torch.manual_seed(0)
    config = ClassifierConfig(names=("spot",), domain=domain_named("ct"), grid=GridConfig(), shape=(8, 8))
    folder = tmp_path_factory.mktemp("classifier")
    fitted = Fitted({CLASSIFIER: config.build()}, 1, {})
    write_classifier(folder, fitted, config, method="sgan", seed=0, labelled={}, unlabelled=0, origin=Origin())
    return folder


def asked(tmp_path, model):
    return ["classify", str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(model), "--device", "cpu"]


def test_the_exit_code_tells_whether_all_images_have_a_class(tmp_path, model):
    (tmp_path / "in").mkdir()
    hu = np.random.default_rng(0).integers(-1000, 500, (16, 16, 2), dtype=np.int16)
    image = nib.Nifti1Image(hu, np.eye(4))
    image.to_filename(tmp_path / "in" / "a.nii.gz")
    assert CliRunner().invoke(app, asked(tmp_path, model)).exit_code == 0
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"broken")
    result = CliRunner().invoke(app, asked(tmp_path, model))
    assert result.exit_code == 1
    assert "b.nii.gz" in result.stderr
    assert (tmp_path / "out" / "classes.csv").read_text().startswith("image,class,p_healthy,p_spot,")


def test_a_folder_that_is_no_model_is_wrong_use(tmp_path):
    (tmp_path / "in").mkdir()
    result = CliRunner().invoke(app, asked(tmp_path, tmp_path))
    assert result.exit_code == 2
    assert "is not a model folder, model.json is missing" in result.stderr
    assert not (tmp_path / "out").exists()
