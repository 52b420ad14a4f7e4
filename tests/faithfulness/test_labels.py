"""Label maps by other tools' conventions: each finds its study, its names and its place."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK
from rich.console import Console
from typer.testing import CliRunner

from medgan import cli
from medgan.errors import ConfigError, DataError
from medgan.evaluation.matching import read_images
from medgan.faithfulness.converted import ConvertedOrder, check_converted
from medgan.faithfulness.labels import read_label_maps
from medgan.faithfulness.structures import Rule

SHAPE = (40, 36, 20)
AFFINE = np.diag([-2.0, 2.0, 2.5, 1.0])
AFFINE[:3, 3] = [40, -30, -20]
LIVER, LESION = 5, 13
CARET = (
    '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0"><LabelTable>'
    '<Label Key="5" Red="0.2" Green="0.2" Blue="0.2" Alpha="1"><![CDATA[liver]]></Label>'
    '<Label Key="13" Red="0.2" Green="0.2" Blue="0.2" Alpha="1"><![CDATA[lesion]]></Label>'
    "</LabelTable></VolumeInformation></CaretExtension>"
)


def ball(centre, radius):
    index = np.indices(SHAPE).T
    return (((index - np.array(centre)) ** 2).sum(axis=-1) <= radius**2).T


def body(*lesions):
    labels = np.where(ball((20, 18, 10), 9), LIVER, 0).astype(np.uint8)
    for centre in lesions:
        labels[ball(centre, 3)] = LESION
    return labels


KEPT, LOST, INVENTED = (17, 15, 10), (24, 18, 10), (20, 23, 12)
BEFORE, AFTER = body(KEPT, LOST), body(KEPT, INVENTED)


def save(path, voxels, affine=AFFINE, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    if text:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, text.encode()))
    image.to_filename(path)


def totalsegmentator_folders(root, case, labels):
    for name, value in {"liver": LIVER, "lesion": LESION, "spleen": 1}.items():
        save(root / case / "segmentations" / f"{name}.nii.gz", (labels == value).astype(np.uint8))


def totalsegmentator_multilabel(root, case, labels):
    save(root / f"{case}.nii.gz", labels, text=CARET)


def nnunet(root, case, labels):
    save(root / f"{case}.nii.gz", labels)
    names = {"background": 0, "liver": [LIVER, LESION], "lesion": LESION}
    (root / "dataset.json").write_text(json.dumps({"labels": names, "regions_class_order": [1, 2]}))


def nnunet_training(root, case, labels):
    save(root / "labelsTr" / f"{case}.nii.gz", labels)
    (root / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "5": "liver", "13": "lesion"}}))


def bids(root, case, labels):
    save(root / f"sub-{case}" / "anat" / f"sub-{case}_desc-auto_dseg.nii.gz", labels)
    (root / "desc-auto_dseg.tsv").write_text("index\tname\tcolor\n5\tliver\t#ff0000\n13\tlesion\t#00ff00\n")


def slicer_nrrd(root, case, labels):
    """Stored as 3D Slicer does: cut to what is marked, in LPS, names in the header."""
    root.mkdir(parents=True, exist_ok=True)
    (x, y, z), (to_x, to_y, to_z) = np.argwhere(labels).min(axis=0), np.argwhere(labels).max(axis=0) + 1
    image = SimpleITK.GetImageFromArray(labels[x:to_x, y:to_y, z:to_z].T)
    lps = np.diag([-1, -1, 1, 1]) @ AFFINE
    image.SetSpacing((2.0, 2.0, 2.5))
    image.SetDirection((lps[:3, :3] / [2, 2, 2.5]).ravel().tolist())
    image.SetOrigin((lps @ [x, y, z, 1])[:3].tolist())
    for number, (name, value) in enumerate({"liver": LIVER, "lesion": LESION}.items()):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
    SimpleITK.WriteImage(image, root / f"{case}.seg.nrrd")


def itk_snap(root, case, labels):
    """Turned to another orientation of the same space, with ITK-SNAP's label descriptions beside it."""
    turned = nib.as_closest_canonical(nib.Nifti1Image(labels, AFFINE))
    root.mkdir(parents=True, exist_ok=True)
    turned.to_filename(root / f"{case}_segmentation.nii.gz")
    (root / "labels.txt").write_text(
        '# IDX -R- -G- -B- -A-- VIS MSH LABEL\n 0 0 0 0 0 0 0 "Clear Label"\n'
        f' {LIVER} 255 0 0 1 1 1 "liver"\n {LESION} 0 255 0 1 1 1 "lesion"\n'
    )


CONVENTIONS = [totalsegmentator_folders, totalsegmentator_multilabel, nnunet, nnunet_training, bids, slicer_nrrd,
               itk_snap]  # fmt: skip


@pytest.fixture
def studies(tmp_path):
    """Studies and translations of three cases, by the names of a convention's."""

    def make(name="{}.nii.gz"):
        random = np.random.default_rng(0)
        for case in ("case_001", "case_002", "case_003"):
            for folder in ("studies", "converted"):
                hu = np.where(body() > 0, 60, -1000) + random.normal(0, 5, SHAPE)
                save(tmp_path / folder / name.format(case), hu.astype(np.int16))
        return tmp_path

    return make


def check(root, lesions=("lesion",), **changes):
    order = ConvertedOrder(
        str(root / "studies"), root / "out", str(root / "converted"), str(root / "in"), str(root / "made"),
        rule=Rule(lesions, smallest_mm3=100), **changes,
    )  # fmt: skip
    return check_converted(order, Console(quiet=True))


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.__name__)
def test_lesions_lost_and_invented_are_found_where_they_are(studies, convention):
    name = {"nnunet": "{}_0000.nii.gz", "bids": "sub-{0}/anat/sub-{0}_T1w.nii.gz"}.get(convention.__name__, "{}.nii.gz")
    root = studies(name)
    for case in ("case_001", "case_002", "case_003"):
        own = case.replace("_", "") if convention is bids else case
        convention(root / "in", own, BEFORE)
        convention(root / "made", own, AFTER if case == "case_001" else BEFORE)
    if convention is bids:
        for folder in ("studies", "converted"):
            for path in sorted((root / folder).rglob("*.nii.gz")):
                path.rename(path.with_name(path.name.replace("case_", "case")))
            for path in sorted((root / folder).iterdir()):
                path.rename(path.with_name(path.name.replace("case_", "case")))
    found = check(root)
    assert not found.failures
    assert found.rejected == (1, 3)
    rows = found.rows.set_index("image").sort_index()
    assert rows["lesion_kept"].tolist() == [1, 2, 2]
    assert rows["lesion_erased"].tolist() == rows["lesion_invented"].tolist() == [1, 0, 0]
    assert (rows["dice_liver"] > 0.9).all()
    places = found.places[found.places["structure"] == "lesion"].set_index("kind")
    for kind, centre in {"lost": LOST, "invented": INVENTED}.items():
        position = AFFINE @ [*centre, 1]
        assert places.loc[kind, ["x_mm", "y_mm", "z_mm"]].tolist() == pytest.approx(position[:3], abs=2.6)
        slices = places.loc[kind, ["sagittal_slice", "coronal_slice", "axial_slice"]].tolist()
        from_left = SHAPE[0] - centre[0], centre[1] + 1, centre[2] + 1  # the file's first axis runs to the left
        assert slices == pytest.approx(from_left, abs=1)
    fates = {(fate.structure, fate.kind): fate for fate in found.fates()}
    assert (fates["lesion", "lost"].count, fates["lesion", "lost"].n) == (1, 3)
    assert fates["lesion", "lost"].share.upper == pytest.approx(0.9057, abs=1e-3)  # Clopper-Pearson of 1 in 3
    assert any(line.startswith("lesion: 1 erased in 1 of 3 subjects, 33 [1, 91] %") for line in found.verdict())
    assert len(pd.read_csv(root / "out/places.csv")) == 2
    assert len(pd.read_csv(root / "out/structures.csv")) >= 6


def test_a_map_of_another_space_is_refused_by_name_and_a_missing_one_too_and_the_rest_goes_on(studies):
    root = studies()
    for case in ("case_001", "case_002", "case_003"):
        nnunet(root / "in", case, BEFORE)
        nnunet(root / "made", case, BEFORE)
    moved = AFFINE.copy()
    moved[0, 3] += 30
    save(root / "made" / "case_002.nii.gz", BEFORE, moved)
    (root / "in" / "case_003.nii.gz").unlink()
    found = check(root)
    assert found.exit_code == 1
    assert found.rows["image"].tolist() == ["case_001"]
    assert "does not lie in the study's space (30 mm beyond" in found.failures["case_002"]
    assert "no label map in" in found.failures["case_003"]


def test_a_map_on_a_finer_grid_of_the_same_space_is_resampled_by_nearest_neighbour(studies):
    root = studies()
    for case in ("case_001", "case_002", "case_003"):
        nnunet(root / "in", case, BEFORE)
        fine, affine = BEFORE.repeat(2, 0).repeat(2, 1), AFFINE @ np.diag([0.5, 0.5, 1, 1])
        affine[:3, 3] = (AFFINE @ [-0.25, -0.25, 0, 1])[:3]
        nnunet(root / "made", case, fine)
        save(root / "made" / f"{case}.nii.gz", fine, affine)
    found = check(root)
    assert not found.failures
    assert (found.rows["dice_liver"] == 1).all()


def test_values_without_names_are_compared_by_number_and_lesions_are_named_so(studies):
    root = studies()
    for case in ("case_001", "case_002", "case_003"):
        save(root / "in" / f"{case}.nii.gz", BEFORE)
        save(root / "made" / f"{case}.nii.gz", np.where(BEFORE == LESION, 0, BEFORE))
    with pytest.raises(ConfigError, match=r"nothing says what label values mean.*--lesion label_2"):
        check(root)
    found = check(root, ("label_13",))
    assert (found.rows["label_13_erased"] == 2).all()
    assert any("compared by number" in note for note in found.notes)


def test_sides_with_no_name_in_common_are_refused(studies):
    root = studies()
    nnunet(root / "in", "case_001", BEFORE)
    save(root / "made" / "case_001.nii.gz", AFTER)
    (root / "made" / "labels.json").write_text('{"5": "Leber", "13": "Läsion"}')
    with pytest.raises(ConfigError, match="no structure in common"):
        check(root)


def test_a_folder_of_masks_that_are_label_maps_is_told(studies):
    root = studies()
    for side in ("in", "made"):
        for name in ("organs", "more"):
            save(root / side / "case_001" / f"{name}.nii.gz", BEFORE)
    found = check(root, ())
    assert "holds several labels" in found.failures["case_001"]
    studies_read = read_images(str(root / "studies"))
    assert len(read_label_maps(f"{root / 'in'}:organs", studies_read).maps) == 1


def test_a_lesion_that_no_label_has_is_refused(studies):
    root = studies()
    for side in ("in", "made"):
        nnunet(root / side, "case_001", BEFORE)
    with pytest.raises(ConfigError, match="--lesion tumour: both sides mark lesion, liver"):
        check(root, ("tumour",))
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="holds no label map"):
        read_label_maps(str(root / "empty"), read_images(str(root / "studies")))


def test_a_translation_on_another_grid_is_refused(studies):
    root = studies()
    save(root / "converted" / "case_001.nii.gz", np.zeros((4, 4, 4), np.int16))
    for side in ("in", "made"):
        for case in ("case_001", "case_002", "case_003"):
            nnunet(root / side, case, BEFORE)
    found = check(root)
    assert "does not lie on the voxel grid of" in found.failures["case_001"]
    assert len(found.rows) == 2


def test_the_command_answers_first_and_refuses_options_of_the_other_form(studies):
    root = studies()
    for case in ("case_001", "case_002", "case_003"):
        nnunet(root / "in", case, BEFORE)
        nnunet(root / "made", case, AFTER)
    command = ["faithfulness", root / "studies", root / "out", "--converted", root / "converted", "--lesion", "lesion"]
    sides = ["--input-labels", root / "in", "--output-labels", root / "made", "--smallest-mm3", "100"]

    def run(*arguments):
        return CliRunner().invoke(cli.app, [str(each) for each in arguments])

    told = run(*command, *sides)
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert "lesion: 3 erased in 3 of 3 subjects, 100 [29, 100] %: case_001, case_002, case_003." in lines
    assert "rejected: 3 of 3" in lines
    for wrong, message in {
        ("--model", "m"): "--converted DIR for translations that you have, or --model M",
        ("--part", "test"): "--part goes with --model",
        ("--input-segmenter", "s"): "--input-segmenter goes with --model",
    }.items():
        refused = run(*command, *sides, *wrong)
        assert (refused.exit_code, message in refused.stderr.replace("\n", " ")) == (2, True), refused.stderr
    for arguments, message in {
        (*command, *sides[:2]): "give both --input-labels and --output-labels",
        tuple(command): "--lesion names a label",
        (*command[:3], "--model", root, *sides): "goes with --converted",
        tuple(command[:3]): "say what is checked",
    }.items():
        refused = run(*arguments)
        assert (refused.exit_code, message in refused.stderr.replace("\n", " ")) == (2, True), refused.stderr
