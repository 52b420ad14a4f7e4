import pytest
from typer.testing import CliRunner

from medgan.cli import app
from medgan.commands import evaluate
from medgan.errors import ConfigError


def test_organs_are_named_by_their_label_values():
    assert evaluate._organs(["aorta=9", "kidneys=7,8"]) == {"aorta": [9], "kidneys": [7, 8]}
    assert evaluate._organs(None) is None
    for organ in ("aorta", "=9", "aorta=nine", "aorta=9,"):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            evaluate._organs([organ])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--synthetic .", "--reference is missing"),
        ("--synthetic .", "--synthesis"),
        ("--synthesis --synthetic nowhere", "nowhere"),
        ("--synthesis --synthetic . --labels . --unpaired", "not take --labels or --paired or --unpaired"),
    ],
)
def test_without_real_images_it_says_what_to_give_and_made_lesions_are_judged_apart(arguments, said, tmp_path):
    found = CliRunner().invoke(app, ["evaluate", *arguments.split(), "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())
    assert "--synthesis" not in arguments or "--reference is missing" not in found.output
