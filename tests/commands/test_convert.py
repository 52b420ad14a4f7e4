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
