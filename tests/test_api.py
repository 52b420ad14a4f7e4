"""medgan in Python: the same as the commands to the bit, for images in memory of three kinds."""

import ast
import inspect
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import medgan
from inference.conftest import *  # noqa: F403 - tiny models and studies
from medgan.data.grid import GEOMETRY_FIELDS
from medgan.errors import ConfigError, DataError, GeometryError, ModelError
from medgan.segmentation.segment import segment

TURNED = np.array([[-0.7, 0.1, 0, 31.4], [0.1, 0.7, 0, -2], [0, 0, -4.5, 900.1], [0, 0, 0, 1]])
ITK_DIRECTION = (0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1)


@pytest.fixture(scope="module")
def model(model_folder):
    return medgan.load(model_folder, device="cpu")


def quietly(call, *given, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", medgan.MedganWarning)
        return call(*given, **how)


def converted(source, model, folder):
    """What ``medgan convert`` writes of a file."""
    summary = quietly(medgan.convert, source, folder / "out.nii.gz", model, device="cpu")
    assert not summary.failed, summary.outcomes
    return nib.load(folder / "out.nii.gz")


def test_importing_medgan_loads_nothing_heavy_and_lists_what_it_has():
    code = "import sys, medgan; print(sorted({'torch', 'monai', 'mlflow', 'numpy', 'pandas'} & sys.modules.keys()))"
    code += "; print(medgan.__version__, 'load' in dir(medgan))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "[]"
    assert done.stdout.splitlines()[1].endswith(" True")
    assert all(getattr(medgan, name) for name in medgan.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = medgan.lod


KINDS = {
    "2d": {},
    "2.5d, drawn": {"dimensions": "2.5", "change": "none"},
    "3d": {"dimensions": "3"},
    "mr": {"pair": "mr", "change": "signed"},
    "mr to ct": {"pair": "mr to ct", "change": "none"},
}
GRIDS = {
    "volume": {"shape": (40, 33, 9), "affine": TURNED, "codes": (0, 2)},
    "slice": {"shape": (40, 33), "codes": (2, 0), "unit": "unknown"},
    "micrometres": {"shape": (40, 33, 3, 1), "affine": np.diag([2e3, 2e3, 5e3, 1]), "unit": "micron"},
}


BOTH = ("2d", "volume"), ("2d", "slice"), ("2.5d, drawn", "micrometres"), ("3d", "volume"), ("mr", "slice"), (
    "mr to ct", "volume",
)  # fmt: skip


@pytest.mark.parametrize(("kind", "grid"), BOTH)
def test_a_nibabel_image_becomes_to_the_bit_what_convert_writes(kind, grid, save_model, save_study, tmp_path):
    folder = save_model(tmp_path / "model", **KINDS[kind])
    source = save_study(tmp_path / "a.nii.gz", **GRIDS[grid])
    image = nib.load(source)
    before = np.asarray(image.dataobj).tobytes(), image.header.binaryblock
    output, written = quietly(medgan.load(folder, device="cpu"), image), converted(source, folder, tmp_path)
    assert type(output) is nib.Nifti1Image
    assert output.get_data_dtype() == written.get_data_dtype() == np.asarray(output.dataobj).dtype
    assert np.asarray(output.dataobj).dtype == (np.float32 if kind == "mr" else np.int16)
    np.testing.assert_array_equal(output.dataobj, written.dataobj)
    assert not np.array_equal(output.dataobj, image.dataobj)
    assert output.affine.tobytes() == image.affine.tobytes()
    for name in (*GEOMETRY_FIELDS, "descrip"):
        assert output.header[name].tobytes() == written.header[name].tobytes(), name
    assert (np.asarray(image.dataobj).tobytes(), image.header.binaryblock) == before


def test_a_strength_is_that_of_convert(model_folder, model, save_study, tmp_path):
    source = save_study(tmp_path / "a.nii.gz")
    output = quietly(model, nib.load(source), strength=0.4)
    quietly(medgan.convert, source, tmp_path / "out.nii.gz", model_folder, strength=0.4, device="cpu")
    written = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(output.dataobj, written.dataobj)
    assert output.header["descrip"] == written.header["descrip"]
    assert b"strength 0.4" in output.header["descrip"].item()


def test_scaled_files_have_the_intensities_that_medgan_reads(model, save_study, tmp_path):
    image = nib.load(save_study(tmp_path / "a.nii.gz", (40, 33, 3), dtype=np.float64))
    image.header.set_data_dtype(np.int16)
    scaled = nib.Nifti1Image(np.asarray(image.dataobj) / 3 + 0.1, image.affine, image.header)
    scaled.to_filename(tmp_path / "scaled.nii.gz")
    source = tmp_path / "scaled.nii.gz"
    assert nib.load(source).dataobj.slope != 1
    written = converted(source, model, tmp_path)
    np.testing.assert_array_equal(quietly(model, nib.load(source)).dataobj, written.dataobj)
    np.testing.assert_array_equal(quietly(model, source).dataobj, written.dataobj)


@pytest.mark.parametrize("shape", [(40, 33), (40, 33, 3)], ids=["2d", "3d"])
def test_arrays_come_back_as_they_are_given(shape, model, save_study, tmp_path):
    source = save_study(tmp_path / "a.nii.gz", shape, TURNED)
    array, affine = np.asarray(nib.load(source).dataobj), nib.load(source).affine
    expected = np.asarray(converted(source, model, tmp_path).dataobj)
    alone = quietly(model, array, affine=affine)
    both, same = quietly(model, (array.astype(np.int64), affine))
    np.testing.assert_array_equal(alone, expected)
    np.testing.assert_array_equal(both, expected)
    assert alone.shape == shape
    assert same is affine


@pytest.mark.parametrize("size", [(40, 33), (40, 33, 3)], ids=["2d", "3d"])
def test_a_simpleitk_image_keeps_its_frame_and_becomes_what_convert_writes(size, model, save_study, tmp_path):
    voxels = np.asarray(nib.load(save_study(tmp_path / "a.nii.gz", size)).dataobj)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    axes = len(size)
    image.SetOrigin((-31.25, 17.1, 900.3)[:axes])
    image.SetSpacing((1.9, 2.1, 4.7)[:axes])
    image.SetDirection(np.reshape(ITK_DIRECTION, (3, 3))[:axes, :axes].ravel().tolist())
    sitk.WriteImage(image, tmp_path / "a.mha")
    output, written = quietly(model, image), converted(tmp_path / "a.mha", model, tmp_path)
    assert (output.GetOrigin(), output.GetSpacing(), output.GetDirection()) == (
        image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    )  # fmt: skip
    assert output.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(output).T, np.asarray(written.dataobj).reshape(size))
    sitk.WriteImage(output, tmp_path / "itk.nii.gz")
    assert nib.load(tmp_path / "itk.nii.gz").header["descrip"].item().startswith(b"SYNTHETIC, medgan tiny")


def test_the_other_direction_and_several_calls_share_networks(model_folder, save_study, tmp_path):
    model, source = medgan.load(model_folder, device="cpu"), nib.load(save_study(tmp_path / "a.nii.gz"))
    assert model.directions == ("to_target", "to_source")
    first, back, again = (quietly(model, source, direction=way) for way in ("to_target", "to_source", None))
    np.testing.assert_array_equal(first.dataobj, again.dataobj)
    assert not np.array_equal(first.dataobj, back.dataobj)
    summary = quietly(medgan.convert, tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", model, direction="to_source")
    assert summary.counts()["done"] == 1
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii.gz").dataobj, back.dataobj)


def test_a_segmenter_gives_labels(segmenters, ct, tmp_path):
    from rich.console import Console

    from medgan.inference.batch import BatchOrder

    folder, affine = segmenters(), np.diag([2.0, 2.0, 5.0, 1.0])
    image = nib.Nifti1Image(np.rint(ct(1, contrast=True)).astype(np.int16), affine)
    image.to_filename(tmp_path / "a.nii.gz")
    model = medgan.load(folder, device="cpu")
    assert (model.task, model.labels, model.directions) == ("segmentation", {1: "vessel"}, ())
    labels = quietly(model, image)
    segment(BatchOrder(tmp_path / "a.nii.gz", tmp_path / "l.nii.gz", str(folder), device="cpu"), Console(quiet=True))
    written = nib.load(tmp_path / "l.nii.gz")
    np.testing.assert_array_equal(labels.dataobj, written.dataobj)
    assert labels.get_data_dtype() == np.uint8
    assert labels.header["descrip"] == written.header["descrip"]
    assert int(labels.header["intent_code"]) == 1002
    for asked in ({"direction": "to_target"}, {"strength": 0.5}):
        with pytest.raises(ConfigError, match="a segmenter has no direction and no strength"):
            model(image, **asked)


def itk(voxels, components=False):
    return sitk.GetImageFromArray(np.asarray(voxels).T, isVector=components)


AXIAL = np.diag([2.0, 2.0, 5.0, 1.0])
SHEARED = AXIAL + 0.4 * np.eye(4, k=1) * [[1], [0], [0], [0]]
BODY = np.random.default_rng(0).normal(0, 300, (40, 33, 3))
ODD = {
    "4D": (lambda: nib.Nifti1Image(np.zeros((8, 8, 8, 2), np.int16), AXIAL), DataError, "4D with shape"),
    "4D ITK": (lambda: sitk.Image((8, 8, 8, 2), sitk.sitkInt16), DataError, "4D with shape"),
    "NaN": (lambda: (np.where(BODY > 0, np.nan, BODY), AXIAL), DataError, "voxels are NaN or infinite"),
    "NaN ITK": (lambda: itk(BODY * np.nan), DataError, "voxels are NaN or infinite"),
    "colours": (
        lambda: nib.Nifti1Image(np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")]), AXIAL), DataError, "RGB",
    ),
    "colours ITK": (lambda: itk(np.zeros((3, 8, 8, 8)), components=True), DataError, "several values a voxel"),
    "complex": (lambda: (BODY * 1j, AXIAL), DataError, "complex numbers; save their magnitude"),
    "words": (lambda: (np.full((8, 8), "a"), AXIAL), DataError, "are no numbers"),
    "line": (lambda: (np.zeros(8), AXIAL), DataError, "no image or volume"),
    "sheared": (lambda: (BODY, SHEARED), GeometryError, "the voxel axes are sheared"),
    "huge voxels": (lambda: (BODY, AXIAL * 1000), GeometryError, "no scan of a patient"),
    "flat affine": (lambda: (BODY, np.zeros((4, 4))), GeometryError, "not positive"),
    "coronal": (lambda: (BODY[:, :1].repeat(40, 2), AXIAL), GeometryError, "no axial image"),
    "label map": (lambda: (np.indices((40, 40, 8))[0] // 10, AXIAL), DataError, "as in a label map"),
    "zero to one": (lambda: (BODY / 3000, AXIAL), DataError, "give the study itself, in HU, or give force=True"),
    "Minc": (lambda: nib.MGHImage(BODY.astype(np.float32), AXIAL), DataError, "Nifti1Image.from_image"),
    "no affine": (lambda: BODY, ConfigError, "give affine="),
    "small affine": (lambda: (BODY, np.eye(3)), ConfigError, r"an affine is \(4, 4\)"),
    "nothing": (lambda: None, ConfigError, "a NoneType is no image"),
    "no file": (lambda: "nowhere.nii.gz", DataError, "nowhere.nii.gz"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_what_cannot_be_used_is_refused_by_name(kind, model):
    image, error, words = ODD[kind]
    with pytest.raises(error, match=words) as raised:
        quietly(model, image())
    assert "--force" not in str(raised.value)


def test_what_is_odd_is_a_warning_that_names_the_image(model, save_study, tmp_path):
    with pytest.warns(medgan.MedganWarning, match=r"<array>: no value between -1024 and 0 HU") as given:
        model(np.abs(BODY) + 100, affine=AXIAL)
    assert {each.filename for each in given} == {__file__}
    with pytest.warns(medgan.MedganWarning, match=r"forced, although it cannot be a CT"):
        model(BODY / 3000, affine=AXIAL, force=True)
    save_study(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"")
    with pytest.warns(medgan.MedganWarning, match=r"not converted: b.nii.gz: b.nii.gz: an empty file"):
        summary = medgan.convert(tmp_path / "in", tmp_path / "out", model, device="cpu")
    assert summary.counts()["failed"] == 1


def test_a_training_image_is_named_as_such(save_model, save_study, tmp_path):
    from medgan.data.hashes import image_hash

    source = save_study(tmp_path / "a.nii.gz")
    folder = save_model(tmp_path / "model", trained_on={"train": (image_hash(source),), "validation": ()})
    with pytest.warns(medgan.MedganWarning, match=r"a\.nii\.gz: the model was trained on this image"):
        medgan.load(folder)(nib.load(source))


def test_a_model_for_another_task_and_none_are_refused(tmp_path):
    (tmp_path / "model.json").write_text('{"task": "synthesis", "schema_version": 2}')
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(ModelError, match="use it with `medgan augment`"):
        medgan.load(tmp_path)
    with pytest.raises(ModelError, match=r"model\.json is missing"):
        medgan.load(tmp_path / "none")


def test_train_load_convert_and_evaluate_are_the_commands_without_a_word(paired, tiny, tmp_path, capfd):
    settings = {key: json.loads(value) for key, _, value in (each.partition("=") for each in tiny)}
    settings |= {"seed": 7, "fit": {"epochs": 1}}
    trained = medgan.train("ct_contrast", paired, name="one", out=tmp_path / "runs", device="cpu", **settings)
    assert trained.folder == tmp_path / "runs" / "ct_contrast" / "one"
    assert trained.description.seed == 7
    assert len(trained.curves) == 1
    assert trained.model.folder == medgan.load(trained.folder, device="cpu").folder == trained.folder / "model"
    assert medgan.load(trained.model_uri, device="cpu").description.sha256 == trained.description.sha256
    place, out = f"{paired}:plain", tmp_path / "out"
    quietly(medgan.convert, paired, out, trained.folder, part="test", device="cpu")
    judged = medgan.evaluate(out, place, tmp_path / "evaluation", source=f"{paired}:contrast")
    assert {"synthetic", "do_nothing"} <= {*judged.summary["arm"]}
    assert len(judged.rows) == len((tmp_path / "evaluation" / "evaluation.csv").read_text().splitlines()) - 1
    page = medgan.write_report(tmp_path / "evaluation", tmp_path / "page.html", run=trained.folder)
    assert page.read_text(encoding="utf-8").startswith("<!")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ConfigError, match="did you mean 'ct_contrast'"):
        medgan.train("ct_contrats")
    with pytest.raises(ConfigError, match=r"unknown setting 'fit\.epoch'"):
        medgan.train("ct_contrast", paired, out=tmp_path / "runs", fit={"epoch": 1})


ROOT = Path(__file__).parents[1]
BLOCKS = [
    (page, block)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=lambda value: getattr(value, "name", ""))
def test_python_in_the_pages_parses_and_names_what_there_is(page, block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "medgan":
            assert node.attr in medgan.__all__
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("medgan."):
            function = getattr(medgan, node.func.attr)
            inspect.signature(function).bind(*node.args, **{each.arg: each.value for each in node.keywords})
