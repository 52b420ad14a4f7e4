import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medgan.cli import app

NO_MODEL = "is not a model folder, model.json is missing"


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("convert", ["--model", "{model}", "--uncertainty", "1"], "--uncertainty 1: a standard deviation needs 2"),
        ("convert", ["--model", "{model}", "--strength", "1.3"], "or equal to 1.2"),
        ("convert", ["--model", "{model}", "--tracking", "./mlruns"], "is a folder of files"),
        ("classify", ["--model", "{here}"], NO_MODEL),
        ("segment", ["--model", "{here}"], NO_MODEL),
        ("segment", ["--model", "{here}/nowhere"], NO_MODEL),
    ],
)
def test_wrong_use_is_said_before_anything_is_written(command, arguments, said, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("a.nii.gz", "model/model.json"):
        (tmp_path / name).touch()
    words = [word.format(here=tmp_path, model=tmp_path / "model") for word in arguments]
    found = CliRunner().invoke(app, [command, str(tmp_path / "a.nii.gz"), str(tmp_path / "out"), *words])
    assert found.exit_code == 2
    assert said in found.stderr
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
    for arguments, said in (
        (["placement=whole"], "copy-paste does not"),
        (["placement=replace", "--subject", "s3"], "in its test part"),
        (["placment=replace"], "placement"),
    ):
        wrong = run(cohort, tmp_path / "other", *arguments)
        assert wrong.exit_code == 2
        assert said in wrong.stderr
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


def test_the_exit_code_tells_whether_all_images_have_a_class(tmp_path, model):
    (tmp_path / "in").mkdir()
    hu = np.random.default_rng(0).integers(-1000, 500, (16, 16, 2), dtype=np.int16)
    nib.Nifti1Image(hu, np.eye(4)).to_filename(tmp_path / "in" / "a.nii.gz")
    asked = ["classify", str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(model), "--device", "cpu"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"broken")
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1
    assert "b.nii.gz" in result.stderr
    assert (tmp_path / "out" / "classes.csv").read_text().startswith("image,class,p_healthy,p_spot,")
