import json
from collections import Counter

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medgan.data.volumes import read_volume
from medgan.errors import ConfigError
from medgan.phantom.cohort import COLUMNS, PAIRED, UNPAIRED, split_parts, write_phantom
from medgan.phantom.ct import render_subject
from medgan.phantom.kinds import KINDS
from medgan.phantom.tissues import Tissue

SHAPE = (32, 32, 6)
SUBJECTS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    table = write_phantom(tmp_path_factory.mktemp("phantom"), subjects=SUBJECTS, seed=6, lesions=0.5, shape=SHAPE)
    assert table.name == "cohort.csv"
    return table.parent


@pytest.fixture(scope="module")
def paired(folder):
    return pd.read_csv(folder / "cohort.csv")


@pytest.fixture(scope="module")
def unpaired(folder):
    return pd.read_csv(folder / UNPAIRED)


def test_files_hold_the_voxels_that_were_rendered(folder):
    volumes = render_subject(6, 2, shape=SHAPE, lesions=0.5)
    for name, voxels in volumes.items():
        image = nib.load(folder / "sub-003" / f"{name}.nii.gz")
        assert image.get_data_dtype() == voxels.dtype
        assert np.array_equal(np.asanyarray(image.dataobj), voxels)


def test_all_volumes_lie_on_one_ras_grid_in_mm_around_the_origin(folder):
    for path in sorted(folder.glob("sub-00[1-3]/*.nii.gz")):
        image = nib.load(path)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert np.allclose(image.header.get_zooms(), (365 / 32, 365 / 32, 20))
        assert np.allclose(image.affine @ [15.5, 15.5, 2.5, 1], [0, 0, 0, 1], atol=1e-3)
        assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
        assert image.header.get_xyzt_units()[0] == "mm"


def test_the_liver_is_towards_the_patients_right_in_world_coordinates(folder):
    labels = read_volume(folder / "sub-001" / "labels.nii.gz")
    middle = np.argwhere(labels.voxels == Tissue.LIVER).mean(axis=0)
    assert (labels.grid.affine @ [*middle, 1])[0] > 20


def test_tables_name_existing_files_and_the_labels_as_masks(folder, paired, unpaired):
    for table in (paired, unpaired):
        assert tuple(table.columns) == COLUMNS
        assert all((folder / image).is_file() for image in (*table["image"], *table["mask"]))
        assert (table["mask"] == table["subject"] + "/labels.nii.gz").all()


def test_the_paired_table_has_both_scans_of_every_subject(paired):
    assert paired.groupby("subject")["domain"].agg(set).map(lambda d: d == {"contrast", "plain"}).all()
    assert paired["subject"].nunique() == SUBJECTS


def test_the_unpaired_table_never_shows_both_scans_of_anyone(unpaired):
    assert unpaired["subject"].is_unique
    assert len(unpaired) == SUBJECTS


def test_test_subjects_truth_stays_out_of_the_unpaired_table(unpaired):
    assert set(unpaired.loc[unpaired["split"] == "test", "domain"]) == {"contrast"}


def test_both_tables_put_each_subject_in_the_same_part(paired, unpaired):
    parts = paired.groupby("subject")["split"].agg(set)
    assert all(parts[row.subject] == {row.split} for row in unpaired.itertuples())


def test_a_cohort_of_24_trains_on_8_and_8_validates_on_2_and_2_and_tests_on_4(tmp_path):
    write_phantom(tmp_path, subjects=24, seed=0, shape=(8, 8, 1))
    table = pd.read_csv(tmp_path / UNPAIRED)
    assert Counter(zip(table["split"], table["domain"], strict=True)) == {
        ("train", "contrast"): 8,
        ("train", "plain"): 8,
        ("validation", "contrast"): 2,
        ("validation", "plain"): 2,
        ("test", "contrast"): 4,
    }


@pytest.mark.parametrize("subjects", range(1, 40))
def test_every_part_keeps_its_share_of_a_cohort_of_any_size(subjects):
    parts = Counter(split_parts(subjects))
    assert sum(parts.values()) == subjects
    assert parts["train"] >= parts["validation"] + (subjects < 5)
    assert parts["validation"] % 2 == 0
    if subjects >= 5:
        assert parts["validation"] >= 2
        assert parts["test"] >= 1


def test_every_scan_says_that_it_is_a_phantom(folder):
    for domain in ("contrast", "plain"):
        note = json.loads((folder / "sub-002" / f"{domain}.json").read_text())
        assert note["phantom"] is True
        assert note["Synthetic"] is True
        assert (note["subject"], note["domain"], note["unit"]) == ("sub-002", domain, "HU")
        assert 0 <= note["phase"] <= 1


def test_the_sidecar_tells_who_has_lesions(folder):
    told = {path.parent.name: json.loads(path.read_text())["lesions"] for path in folder.glob("*/plain.json")}
    assert abs(sum(told.values()) - SUBJECTS / 2) <= 2
    for name, expected in told.items():
        if not expected:
            assert not read_volume(folder / name / "lesions.nii.gz").voxels.any()


def test_label_values_are_named(folder):
    truth = json.loads((folder / "labels.json").read_text())
    assert truth["phantom"] is True
    assert {int(value): name for value, name in truth["labels"].items()} == {t: t.name.lower() for t in Tissue}


def test_the_same_seed_gives_the_same_files(folder, tmp_path):
    write_phantom(tmp_path, subjects=2, seed=6, lesions=0.5, shape=SHAPE)
    for path in sorted(tmp_path.glob("sub-*/*.nii.gz")):
        again = nib.load(folder / path.relative_to(tmp_path))
        assert np.array_equal(np.asanyarray(nib.load(path).dataobj), np.asanyarray(again.dataobj))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kind": "knee_mr"}, "choose one of abdomen_ct, abdomen_mr_ct, head_mr"),
        ({"subjects": 0}, "subjects=0"),
        ({"seed": -1}, "seed=-1"),
        ({"lesions": 1.5}, "lesions=1.5"),
        ({"shape": (8, 0, 8)}, "shape="),
    ],
)
def test_numbers_out_of_range_are_refused_by_name_before_anything_is_written(tmp_path, wrong, named):
    with pytest.raises(ConfigError, match=named):
        write_phantom(tmp_path / "out", **({"subjects": 2, "seed": 0, "shape": (8, 8, 1)} | wrong))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module", params=KINDS)
def of_kind(request, tmp_path_factory):
    """A kind, and a small cohort of it."""
    folder = tmp_path_factory.mktemp(request.param)
    write_phantom(folder, kind=request.param, subjects=6, seed=1, lesions=0.5, shape=(24, 24, 4))
    return request.param, KINDS[request.param], folder


def test_a_cohort_of_any_kind_has_all_scans_of_each_subject_on_one_grid(of_kind):
    name, kind, folder = of_kind
    table = pd.read_csv(folder / PAIRED)
    assert table.groupby("subject")["domain"].agg(set).map(lambda there: there == set(kind.scans)).all()
    grids = {nib.load(folder / path).affine.tobytes() for path in (*table["image"], *table["mask"])}
    assert len(grids) == 1
    truth = json.loads((folder / "labels.json").read_text())
    assert (truth["kind"], set(map(int, truth["labels"]))) == (name, set(kind.labels))


def test_the_unpaired_table_of_any_kind_has_one_scan_of_each_subject_source_or_target(of_kind):
    _, kind, folder = of_kind
    table = pd.read_csv(folder / UNPAIRED)
    assert len(table) == table["subject"].nunique() == 6
    assert set(table.loc[table["split"] == "train", "domain"]) == set(kind.domains)
    assert set(table.loc[table["split"] == "test", "domain"]) == {kind.domains[0]}


def test_masks_of_any_kind_hold_values_that_its_labels_name(of_kind):
    _, kind, folder = of_kind
    for path in pd.read_csv(folder / PAIRED)["mask"].unique():
        mask = read_volume(folder / path).voxels
        assert set(np.unique(mask).astype(int)) <= set(kind.labels)
        labels = read_volume(folder / path.replace(kind.mask, "labels")).voxels
        assert np.array_equal(mask[mask > 0], labels[mask > 0])


def test_every_sidecar_of_any_kind_names_its_unit(of_kind):
    name, kind, folder = of_kind
    for domain, unit in kind.units.items():
        note = json.loads((folder / "sub-004" / f"{domain}.json").read_text())
        assert (note["phantom"], note["kind"], note["unit"], note["domain"]) == (True, name, unit, domain)
        assert note["lesions"] in (True, False)


def test_shape_and_lesions_are_the_kinds_where_none_are_asked_for(tmp_path):
    write_phantom(tmp_path, kind="head_mr", subjects=1, seed=0)
    image = nib.load(tmp_path / "sub-001" / "t1_gd.nii.gz")
    assert image.shape == KINDS["head_mr"].shape
    assert np.allclose(image.header.get_zooms(), (2, 2, 4))
