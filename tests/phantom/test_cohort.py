import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medgan.data.volumes import read_volume
from medgan.errors import ConfigError
from medgan.phantom import cohort as phantom_cohort
from medgan.phantom.cohort import COLUMNS, PAIRED, UNPAIRED, _split_parts, kept_phantom, rendering, write_phantom
from medgan.phantom.kinds import KINDS, Kind
from medgan.phantom.tissues import Tissue

SHAPE = (24, 24, 4)
SUBJECTS = 5


@pytest.fixture(scope="module", params=KINDS)
def cohort(request, tmp_path_factory):
    """A kind, and the folder, the paired and the unpaired table of a small cohort of it."""
    out = tmp_path_factory.mktemp(request.param)
    table = write_phantom(out, kind=request.param, subjects=SUBJECTS, seed=6, lesions=0.5, shape=SHAPE)
    assert table == out / "cohort.csv"
    return request.param, KINDS[request.param], out, pd.read_csv(table), pd.read_csv(out / UNPAIRED)


def test_files_hold_the_voxels_that_were_rendered_on_one_ras_grid_in_mm_around_the_origin(cohort):
    _, kind, folder, *_ = cohort
    for name, voxels in kind.render(6, 2, shape=SHAPE, lesions=0.5).items():
        image = nib.load(folder / "sub-003" / f"{name}.nii.gz")
        assert image.get_data_dtype() == voxels.dtype
        assert np.array_equal(np.asanyarray(image.dataobj), voxels)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert np.allclose(image.header.get_zooms(), kind.spacing_mm(SHAPE))
        assert np.allclose(image.affine @ [11.5, 11.5, 1.5, 1], [0, 0, 0, 1], atol=1e-3)
        assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
        assert image.header.get_xyzt_units()[0] == "mm"
    if kind.labels is Tissue:  # the liver is towards the patient's right in world coordinates
        labels = read_volume(folder / "sub-001" / "labels.nii.gz")
        middle = np.argwhere(labels.voxels == Tissue.LIVER).mean(axis=0)
        assert (labels.grid.affine @ [*middle, 1])[0] > 20


def test_tables_name_existing_files_and_masks_whose_values_the_labels_name(cohort):
    name, kind, folder, paired, unpaired = cohort
    for table in (paired, unpaired):
        assert tuple(table.columns) == COLUMNS
        assert all((folder / image).is_file() for image in (*table["image"], *table["mask"]))
        assert (table["mask"] == table["subject"] + f"/{kind.mask}.nii.gz").all()
    for path in paired["mask"].unique():
        mask, labels = (read_volume(folder / each).voxels for each in (path, path.replace(kind.mask, "labels")))
        assert set(np.unique(mask).astype(int)) <= set(kind.labels)
        assert np.array_equal(mask[mask > 0], labels[mask > 0])
    truth = json.loads((folder / "labels.json").read_text())
    assert (truth["phantom"], truth["kind"]) == (True, name)
    assert {int(value): label for value, label in truth["labels"].items()} == {t: t.name.lower() for t in kind.labels}


def test_the_paired_table_has_all_scans_of_every_subject_and_the_unpaired_one_of_each(cohort):
    _, kind, _, paired, unpaired = cohort
    assert paired.groupby("subject")["domain"].agg(set).map(lambda domains: domains == set(kind.scans)).all()
    assert paired["subject"].nunique() == len(unpaired) == SUBJECTS
    assert unpaired["subject"].is_unique
    assert set(unpaired.loc[unpaired["split"] == "train", "domain"]) == set(kind.domains)
    assert set(unpaired.loc[unpaired["split"] == "test", "domain"]) == {kind.domains[0]}
    parts = paired.groupby("subject")["split"].agg(set)
    assert all(parts[row.subject] == {row.split} for row in unpaired.itertuples())


def test_files_are_the_same_in_however_many_processes(tmp_path, monkeypatch):
    def files(folder):
        write_phantom(folder, subjects=6, seed=6, shape=SHAPE)
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    alone = files(tmp_path / "alone")
    monkeypatch.setattr(phantom_cohort, "SLOW_VOXELS", 1)
    assert files(tmp_path / "several") == alone


def test_a_kept_phantom_is_rendered_once_and_who_comes_meanwhile_waits_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    begun = []

    def slow(folder, **_):
        begun.append(folder)
        time.sleep(0.3)
        folder.mkdir()
        (folder / PAIRED).touch()

    monkeypatch.setattr(phantom_cohort, "write_phantom", slow)
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(kept_phantom, ["abdomen_ct"] * 3))
    assert begun == folders[:1]
    assert (folders[2] / PAIRED).exists()


def test_only_what_takes_long_and_is_not_there_is_rendered_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    begun = []
    monkeypatch.setattr(phantom_cohort, "beside", lambda *what: begun.append(what) or nullcontext())
    for kind in ("abdomen_ct", "", "of_my_own"):
        with rendering(kind):
            pass
    assert begun == [(kept_phantom, "abdomen_ct")]
    monkeypatch.setattr(
        phantom_cohort, "write_phantom", lambda folder, **_: folder.mkdir() or (folder / PAIRED).touch()
    )
    kept_phantom("abdomen_ct")
    with rendering("abdomen_ct"):
        assert len(begun) == 1


@pytest.fixture
def orders(monkeypatch):
    """The orders to render, which are answered by empty volumes."""
    given = []

    def empty(self, seed, subject, *, shape, lesions):
        given.append((shape, lesions))
        return dict.fromkeys((*self.scans, "labels", "lesions"), np.zeros(shape, np.uint8))

    monkeypatch.setattr(Kind, "render", empty)
    return given


def test_a_cohort_of_24_trains_on_8_and_8_validates_on_2_and_2_and_tests_on_4(orders, tmp_path):
    write_phantom(tmp_path, subjects=24, seed=0, shape=(8, 8, 1))
    table = pd.read_csv(tmp_path / UNPAIRED)
    couples = {("train", "contrast"): 8, ("train", "plain"): 8, ("validation", "contrast"): 2}
    couples |= {("validation", "plain"): 2, ("test", "contrast"): 4}
    assert Counter(zip(table["split"], table["domain"], strict=True)) == couples
    # Every part keeps its share of a cohort of any size.
    for subjects in range(1, 40):
        parts = Counter(_split_parts(subjects))
        assert sum(parts.values()) == subjects
        assert parts["train"] >= parts["validation"] + (subjects < 5)
        assert parts["validation"] % 2 == 0
        assert subjects < 5 or (parts["validation"] >= 2 and parts["test"] >= 1)


def test_every_scan_says_what_it_is_and_who_has_lesions(cohort):
    name, kind, folder, *_ = cohort
    carriers = 0
    for subject in folder.glob("sub-*"):
        notes = {domain: json.loads((subject / f"{domain}.json").read_text()) for domain in kind.scans}
        for domain, note in notes.items():
            assert note["phantom"] is note["Synthetic"] is True
            shown = (note["kind"], note["subject"], note["domain"], note["unit"])
            assert shown == (name, subject.name, domain, kind.units[domain])
        (carrier,) = {note["lesions"] for note in notes.values()}
        carriers += carrier
        assert carrier or not read_volume(subject / "lesions.nii.gz").voxels.any()
    assert abs(carriers - SUBJECTS / 2) <= 2


def test_numbers_out_of_range_are_refused_by_name_before_anything_is_written(tmp_path):
    for wrong, named in (
        ({"kind": "knee_mr"}, "choose one of abdomen_ct, abdomen_mr_ct, head_mr"),
        ({"subjects": 0}, "subjects=0"),
        ({"seed": -1}, "seed=-1"),
        ({"lesions": 1.5}, "lesions=1.5"),
        ({"shape": (8, 0, 8)}, "shape="),
    ):
        with pytest.raises(ConfigError, match=named):
            write_phantom(tmp_path / "out", **({"subjects": 2, "seed": 0, "shape": (8, 8, 1)} | wrong))
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_shape_and_lesions_are_the_kinds_where_none_are_asked_for(orders, tmp_path, name, kind):
    write_phantom(tmp_path, kind=name, subjects=1, seed=0)
    image = nib.load(tmp_path / "sub-001" / f"{kind.scans[0]}.nii.gz")
    assert image.shape == kind.shape
    assert np.allclose(image.header.get_zooms(), kind.spacing_mm(kind.shape))
    assert orders == [(kind.shape, kind.lesions)]
