import pytest
from typer.testing import CliRunner

from medgan.cli import app
from medgan.commands import evaluate
from medgan.errors import ConfigError


def test_organs_are_named_by_their_label_values():
    assert evaluate._organs(["aorta=9", "kidneys=7,8"]) == {"aorta": [9], "kidneys": [7, 8]}
    assert evaluate._organs(None) is None


@pytest.mark.parametrize("organ", ["aorta", "=9", "aorta=nine", "aorta=9,"])
def test_an_organ_without_values_is_refused(organ):
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        evaluate._organs([organ])


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_without_real_images_it_says_what_to_give(tmp_path):
    found = run("--synthetic", tmp_path, "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert "--reference is missing" in found.output
    assert "--synthesis" in found.output


def test_made_lesions_are_asked_for_with_synthesis(tmp_path):
    found = run("--synthesis", "--synthetic", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert "nowhere" in found.output
    assert "--reference is missing" not in found.output


def test_made_lesions_are_not_judged_by_what_concerns_translations(tmp_path):
    found = run("--synthesis", "--synthetic", tmp_path, "--out", tmp_path / "out", "--labels", tmp_path, "--unpaired")
    assert found.exit_code == 2
    assert "--synthesis does not take --labels or --paired or --unpaired" in " ".join(found.output.split())
