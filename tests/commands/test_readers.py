import json

import numpy as np
import pytest
from typer.testing import CliRunner

from medgan.cli import app
from medgan.readers.design import Key
from readers.studies import SUBJECTS, answer, write_answers


def medgan(*arguments):
    return CliRunner().invoke(app, ["reader-study", *map(str, arguments)])


@pytest.fixture
def identical(tmp_path):
    """Scans of noise, as real and as synthetic images to the bit."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    for subject in SUBJECTS:
        voxels = rng.normal(0, 60, (24, 22, 16)).astype(np.int16)
        for folder in ("real", "synthetic"):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3, 3, 1])), tmp_path / folder / f"{subject}.nii")
    return tmp_path


def test_a_study_is_made_read_and_scored_and_identical_images_give_one_half(identical, tmp_path):
    study = tmp_path / "study"
    made = medgan(
        "make", study, "--synthetic", identical / "synthetic", "--real", identical / "real", "--levels", 4,
        "--window", "-200,200",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "24 trials of 6 subjects" in made.output
    assert "note:" not in made.output, "identical images do not differ in noise"
    key = Key.load(study)
    content = json.loads((study / "study.html").read_text().partition('id="study">')[2].partition("</script>")[0])
    scored = [trial for trial in key.trials if trial.role == "scored"]
    blobs = [[content["blobs"][id_] for id_ in trial.stacks] for trial in scored]
    shown = [[blob[: len(blob) // 2] for blob in pair] for pair in blobs]
    assert len(shown) == 24
    assert all(one == two for one, two in shown), "what differs is padding alone"
    # Whoever sees no difference says the same each time, and is right as often as the real image stands there.
    given = [answer(trial, "left" if trial.role != "catch" else None) for trial in key.trials]
    path = write_answers(tmp_path / "ann.json", key, "ann", given)
    result = medgan("score", path, tmp_path / "no.json", "--key", study, "--out", tmp_path / "score")
    assert result.exit_code == 1
    assert "no.json" in " ".join(result.output.split())
    (reader,) = json.loads((tmp_path / "score" / "score.json").read_text())["readers"]
    assert reader["lower"] < 0.5 < reader["upper"]
    assert reader["auc"] == pytest.approx(0.5)
    assert "is not shown to differ from chance" in result.output
    assert "points of chance is not shown" in result.output, "24 trials do not show that they are alike"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("make out --synthetic nowhere --real .", "nowhere"),
        ("make out --synthetic .", "--task 2afc needs --real"),
        ("make out --synthetic . --task preference", "--task preference needs --other"),
        ("make out --synthetic . --real . --unaware-first", "--unaware-first is for --task find"),
        ("serve nowhere", "key.json"),
        ("score nowhere --key nowhere --out out", "key.json"),
    ],
)
def test_wrong_use_is_told_and_leaves_nothing(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = medgan(*arguments.split())
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())
