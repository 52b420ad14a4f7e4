import pytest
from typer.testing import CliRunner

from medgan.cli import app


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_that_is_no_model_is_wrong_use(tmp_path, name):
    (tmp_path / "a.nii.gz").touch()
    asked = ["segment", str(tmp_path / "a.nii.gz"), str(tmp_path / "out"), "--model", str(tmp_path / name)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert "is not a model folder, model.json is missing" in result.stderr
    assert not (tmp_path / "out").exists()
