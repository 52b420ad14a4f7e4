import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medgan.cli import app


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
