import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medgan.cli import app


def test_a_spread_of_one_translation_is_wrong_use(tmp_path):
    for name in ("a.nii.gz", "model.json"):
        (tmp_path / name).touch()
    given = [str(tmp_path / "a.nii.gz"), str(tmp_path / "out"), "--model", str(tmp_path), "--uncertainty", "1"]
    found = CliRunner().invoke(app, ["convert", *given])
    assert found.exit_code == 2
    assert "--uncertainty 1: a standard deviation needs 2" in found.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def cohort(tmp_path):
    """Three subjects, an organ of labels 1 and 2 in noise; s0 is trained on, with s1."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["subject,domain,image,mask,split"]
    for number, part in enumerate(("train", "train", "validation", "test")):
        labels = np.zeros((20, 20, 6), dtype=np.uint8)
        labels[7:11, 8 : 12 + number, 2:4], labels[11:13, 8:12, 2:4] = 1, 2
        voxels = 100 + 30 * labels + random.integers(0, 9, labels.shape)
        nib.Nifti1Image(voxels.astype(np.int16), np.eye(4)).to_filename(folder / f"s{number}.nii.gz")
        nib.Nifti1Image(labels, np.eye(4)).to_filename(folder / f"s{number}_mask.nii.gz")
        rows.append(f"s{number},mr,s{number}.nii.gz,s{number}_mask.nii.gz,{part}")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder


def run(cohort, output, *arguments):
    asked = ["augment", str(cohort), str(output), "--method", "copy-paste", "--domain", "mr", "--device", "cpu"]
    return CliRunner().invoke(app, [*asked, *arguments])


def test_organs_take_new_shapes_and_the_next_command_is_told(cohort, tmp_path):
    result = run(cohort, tmp_path / "out", "placement=replace", "--ratio", "150", "--seed", "3")
    assert result.exit_code == 0, result.stderr
    assert "segment-train --data" in result.stdout
    assert "3 done" in result.stderr
    assert len((tmp_path / "out" / "cohort.csv").read_text().splitlines()) == 1 + 4 + 3


def test_some_failures_end_with_1_and_wrong_use_with_2(cohort, tmp_path):
    (cohort / "s1.nii.gz").write_bytes(b"broken")
    result = run(cohort, tmp_path / "out", "placement=replace")
    assert result.exit_code == 1
    assert "s1" in result.stderr
    wrong = run(cohort, tmp_path / "other", "placement=whole")
    assert wrong.exit_code == 2
    assert "copy-paste does not" in wrong.stderr
    leak = run(cohort, tmp_path / "other", "placement=replace", "--subject", "s3")
    assert leak.exit_code == 2
    assert "in its test part" in leak.stderr
    typo = run(cohort, tmp_path / "other", "placment=replace")
    assert typo.exit_code == 2
    assert "placement" in typo.stderr
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from medgan.classification.classifier import CLASSIFIER, ClassifierConfig, ClassifierDescription
    from medgan.data.domains import domain_named
    from medgan.data.preparation import GridConfig
    from medgan.training.model_folder import Origin, write_model

    torch.manual_seed(0)
    config = ClassifierConfig(names=("spot",), domain=domain_named("ct"), grid=GridConfig(), shape=(8, 8))
    folder = tmp_path_factory.mktemp("classifier")
    facts = {"method": "sgan", "labelled": {}, "unlabelled": 0, "origin": Origin(), "metrics": {}, "epoch": 1}
    write_model(folder, {CLASSIFIER: config.build()}, ClassifierDescription, config=config, **facts)
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


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_that_is_no_segmenter_is_wrong_use(tmp_path, name):
    (tmp_path / "a.nii.gz").touch()
    asked = ["segment", str(tmp_path / "a.nii.gz"), str(tmp_path / "out"), "--model", str(tmp_path / name)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert "is not a model folder, model.json is missing" in result.stderr
    assert not (tmp_path / "out").exists()
