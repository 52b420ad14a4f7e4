"""The notebook of the docs runs as it stands, but for its cell of parameters, which is made small."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "medgan-in-python.ipynb"
SMALL = """subjects, shape = 12, (48, 48, 12)
settings = {
    "fit": {"epochs": 1, "iterations_per_epoch": 4},
    "patch": {"size_voxels": 32},
    "generator": {"network": {"kind": "resnet", "channels": 4, "downs": 1, "blocks": 1}},
    "discriminator": {"receptive_field": 16, "channels": 4},
}"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The notebook after it ran, and the folder that it ran in."""
    folder, notebook = tmp_path_factory.mktemp("notebook"), nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    assert [line.partition("=")[0] for line in parameters.source.splitlines()] == ["subjects, shape ", "settings "]
    if not os.environ.get("MEDGAN_DOCS_FULL"):  # as for the commands of the pages
        parameters.source = SMALL
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
        NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook, folder


def printed(notebook):
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )  # fmt: skip


def test_the_notebook_tells_its_story(ran):
    notebook, folder = ran
    text = printed(notebook)
    assert "Nifti1Image" in text
    assert "int16 True" in text
    assert "the model was trained on the built-in phantom" in text
    assert all(arm in text for arm in ("synthetic", "do_nothing", "intensity_lookup"))
    assert (folder / "medgan-notebook" / "evaluation" / "evaluation.csv").is_file()
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
    errors = [o for cell in notebook.cells for o in cell.get("outputs", ()) if o.get("name") == "stderr"]
    assert not errors


def test_what_is_kept_of_its_outputs_is_small_and_names_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 250_000
    assert not [word for word in ("/tmp/", "/home/", "/root/", "Traceback") if word in text]
