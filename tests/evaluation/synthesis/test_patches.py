"""Patches: around each lesion by one rule, divided into synthetic, trained on and held out, and broken on purpose."""

import json

import nibabel as nib
import numpy as np
import pytest

from medgan.data.domains import domain_named
from medgan.data.hashes import image_hash
from medgan.data.preparation import Prepared
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError
from medgan.evaluation.synthesis.patches import (
    Patches,
    _lesion_patches,
    _read_rows,
    blurred,
    coarse,
    collapsed,
    copied,
    divided,
    gather,
)

SPATIAL = pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8)], ids=["2d", "3d"])


def study(shape=(40, 40, 20)):
    """A study whose voxels say where they are: 100 x + y."""
    x, y, _ = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    body = tuple((0, size) for size in shape)
    return Prepared((100.0 * x + y).astype(np.float32), np.eye(4), body, (0.0, 4000.0))


def box(labels, corner, size, value=1):
    labels[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = value


@SPATIAL
def test_each_lesion_lies_in_the_middle_of_its_patches(shape):
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (10, 20, 4), (4, 2, 12))
    box(labels, (30, 30, 10), (2, 2, 1), value=2)
    found = _lesion_patches(study(), labels, shape, "image", "s1")
    assert found.lesions.tolist() == (["image#1"] * 3 + ["image#2"] if len(shape) == 2 else ["image#1", "image#2"])
    assert found.images.shape[1:] == found.labels.shape[1:] == shape
    middle = (0, 3, 3, *([3] if len(shape) == 3 else []))
    assert (found.images[middle] + 1) * 2000 == pytest.approx(100 * 11 + 20, abs=0.1)
    assert found.labels[0].sum() == (8 if len(shape) == 2 else 64)
    assert found.classes.tolist() == ([1, 1, 1, 2] if len(shape) == 2 else [1, 2])
    assert found.origins[-1].centre == (30.5, 30.5, 10.0)


def test_slices_are_spread_over_the_lesion_each_once():
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (10, 20, 4), (4, 4, 8))
    heights = [origin.centre[2] for origin in _lesion_patches(study(), labels, (8, 8), "i", "s").origins]
    assert heights == [6, 8, 10]
    thin = np.zeros((40, 40, 20), np.uint8)
    box(thin, (10, 20, 4), (4, 4, 1))
    assert len(_lesion_patches(study(), thin, (8, 8), "i", "s")) == 1


@SPATIAL
def test_only_changed_lesions_of_a_synthetic_image_are_cut(shape):
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (10, 20, 4), (4, 4, 3))
    box(labels, (30, 30, 10), (2, 2, 2))
    changed = np.zeros(labels.shape, dtype=bool)
    changed[31, 31, 10] = True
    found = _lesion_patches(study(), labels, shape, "image", "made", recipient="s1", changed=changed)
    assert set(found.lesions) == {"image#2"}
    assert set(found.groups) == {"s1"}
    assert len(_lesion_patches(study(), labels, shape, "image", "made", changed=~(changed | True))) == 0


@SPATIAL
def test_beyond_the_image_there_is_air_without_labels(shape):
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (38, 10, 4), (2, 2, 12))
    found = _lesion_patches(study(), labels, shape, "i", "s")
    assert (found.images[0, 6:] == -1).all()
    assert not found.labels[0, 6:].any()


@SPATIAL
def test_coarse_patches_keep_means_and_lose_noise(shape):
    ramp = np.broadcast_to(np.linspace(-1, 1, 8, dtype=np.float32), (1, *shape))
    noise = np.random.default_rng(0).normal(0, 0.1, (50, *shape)).astype(np.float32)
    assert coarse(ramp).shape == (1, *(4 for _ in shape))
    assert coarse(ramp).mean() == pytest.approx(0, abs=1e-6)
    assert coarse(noise).std() < 0.35 * noise.std()


def test_patches_of_two_shapes_or_none_do_not_compare_and_are_drawn_each_once(make_lesions):
    patches = make_lesions(9, (16, 16))
    with pytest.raises(DataError, match=r"shapes \(16, 16\) and \(18, 18\) do not compare"):
        Patches.joined([patches, make_lesions(2, (18, 18))])
    with pytest.raises(DataError, match="there are no patches"):
        Patches.joined([])
    drawn = patches.drawn(4, seed=3)
    assert len(set(drawn.lesions)) == 4
    assert drawn.origins == patches.drawn(4, seed=3).origins
    assert patches.drawn(12, seed=0) is patches


def test_broken_patches_lose_what_they_should_and_keep_the_rest(shape, make_lesions):
    real = make_lesions(5, shape)
    found = blurred(real)
    assert found.images.mean() == pytest.approx(real.images.mean(), abs=0.02)
    assert np.abs(np.diff(found.images, axis=1)).mean() < 0.7 * np.abs(np.diff(real.images, axis=1)).mean()
    np.testing.assert_array_equal(found.labels, real.labels)
    found = collapsed(real, seed=0)
    assert np.abs(found.images - real.images[0]).max() < 0.2
    assert len(set(found.groups)) == 5
    np.testing.assert_array_equal(collapsed(real, seed=0).images, found.images)
    found = copied(real, 7, seed=0)
    assert len(found) == len(set(found.groups)) == 7
    inside = [image[labels == 1].mean() for image, labels in zip(real.images, real.labels, strict=True)]
    for image, labels in zip(found.images, found.labels, strict=True):
        assert np.abs(image[labels == 1].mean() - inside).min() < 0.04, "the label still lies on a lesion"


FLAIR = domain_named("flair")


def add_one(voxels, mask, random):
    """A third lesion in healthy tissue; the recipient's own two stay."""
    voxels[18:22, 18:22, 7:11] += random.uniform(40, 90)
    mask[18:22, 18:22, 7:11] = 1


@pytest.fixture(scope="module")
def table(save_lesions, tmp_path_factory):
    return save_lesions(tmp_path_factory.mktemp("patches") / "cohort", synthetic=8, paint=add_one)


def only(table, name, leave_out=(), columns=5):
    """A table beside another, with some of its rows and columns."""
    rows = [line.split(",") for line in table.read_text().splitlines()]
    kept = [",".join(row[:columns]) for row in rows if row[0] not in leave_out]
    (table.parent / name).write_text("\n".join(kept))
    return table.parent / name


def gathered(table, shape, split=None):
    return gather(*divided(table, None), FLAIR, shape, split=split, seed=0)


def subjects(patches):
    return {origin.subject for origin in patches.origins}


@pytest.mark.parametrize("patch", [(16, 16), (16, 16, 16)], ids=["2d", "3d"])
def test_only_what_was_inserted_is_synthetic(table, patch):
    found = gathered(table, patch)
    assert len(found.synthetic) == 8 * (3 if len(patch) == 2 else 1)
    assert {origin.recipient for origin in found.synthetic.origins} == {f"s{number}" for number in range(5)}
    centres = np.array([origin.centre for origin in found.synthetic.origins])
    assert (np.abs(centres[:, :2] - 19.5) < 1).all()
    assert found.names == ("lesion",)
    assert found.failures == ()
    assert found.split_known, "the split column says who was trained on"
    assert subjects(found.training) == subjects(found.suspected) == {"s0", "s1", "s2", "s3", "s4"}
    assert subjects(found.held_out) == {"s5", "s6", "s7", "s8", "s9"}


def test_without_a_split_subjects_are_halved_and_all_are_suspected(table):
    found = gathered(only(table, "unsplit.csv", columns=4), (16, 16))
    assert not found.split_known
    assert len(subjects(found.training)) == len(subjects(found.held_out)) == 5
    assert not subjects(found.training) & subjects(found.held_out)
    assert len(subjects(found.suspected)) == 10


def test_a_runs_own_split_goes_before_the_column_and_knows_images_under_another_name(table):
    trained = next(row.study.image for row in divided(table, None)[1] if row.study.subject == "s6")
    images = {"gone": {"image.nii.gz": image_hash(trained)}}
    split = Split(train=("s0", "s7", "gone"), validation=(), test=(), files={}, images=images)
    found = gathered(table, (16, 16), split=split)
    assert found.split_known
    assert subjects(found.training) == {"s0", "s6", "s7"}
    assert "s6" not in subjects(found.held_out)


def test_too_little_is_refused_with_a_way_out(table):
    few = only(table, "few.csv", leave_out=("s2", "s3", "s4"))
    with pytest.raises(DataError, match=r"4 real training patches cannot be judged, at least 8 can; .*--dimensions 2"):
        gathered(few, (16, 16, 16))
    lone = only(table, "lone.csv", leave_out=[f"s{number}" for number in range(1, 10)])
    with pytest.raises(DataError, match="there is one real subject"):
        gathered(lone, (16, 16))


def test_an_image_that_cannot_be_used_is_listed_and_the_rest_is_judged(table):
    broken = only(table, "broken.csv")
    broken.write_text(f"{broken.read_text()}\nbroken,flair,broken.nii.gz,made3_mask.nii.gz,train")
    (table.parent / "broken.nii.gz").write_bytes(b"")
    (table.parent / "broken.json").write_text((table.parent / "made3.json").read_text())
    found = gathered(broken, (16, 16))
    assert [failure.image for failure in found.failures] == ["broken.nii.gz"]
    assert "an empty file" in found.failures[0].reason
    assert len(subjects(found.synthetic)) == 8


@pytest.fixture
def cohort(tmp_path):
    def save(name, rows):
        """Rows are (subject, domain, parents or None)."""
        folder = tmp_path / name
        folder.mkdir()
        lines = ["subject,domain,image"]
        for subject, domain, parents in rows:
            image = f"{subject}_{domain}.nii.gz"
            nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_filename(folder / image)
            if parents is not None:
                facts = {"Synthetic": True, "Parents": parents}
                (folder / f"{subject}_{domain}.json").write_text(json.dumps(facts))
            lines.append(f"{subject},{domain},{image}")
        (folder / "cohort.csv").write_text("\n".join(lines))
        return folder

    return save


REAL, MADE = ("s0", "t1", None), ("made", "t1", ["s0", "s1"])


def row_subjects(rows):
    return [row.study.subject for row in rows]


def test_sidecars_tell_synthetic_rows_and_their_recipients_and_of_two_places_each_brings_its_own(cohort):
    one = cohort("one", [REAL, MADE])
    made, real = divided(one / "cohort.csv", None)
    assert (row_subjects(made), row_subjects(real)) == (["made"], ["s0"])
    assert (made[0].recipient, real[0].recipient) == ("s0", None)
    other = cohort("other", [("s7", "t1", None), MADE])
    made, real = divided(one, other)
    assert (row_subjects(made), row_subjects(real)) == (["made"], ["s7"])
    made, real = divided(cohort("unmarked", [("x", "t1", None)]), other)
    assert row_subjects(made) == ["x"], "a place in which nothing is marked is meant as it is"


def test_one_place_must_hold_both(cohort):
    with pytest.raises(DataError, match=r"no sidecar in .* marks an image as synthetic"):
        divided(cohort("real", [REAL]), None)
    with pytest.raises(DataError, match="holds synthetic images only; give the real ones with --reference"):
        divided(cohort("made", [MADE]), None)
    with pytest.raises(DataError, match="holds synthetic images only; give real ones with --reference"):
        divided(cohort("one", [REAL, MADE]), cohort("marked", [MADE]))


def test_a_domain_is_asked_for_where_there_are_several(cohort):
    folder = cohort("two", [REAL, ("s1", "t2", None)])
    with pytest.raises(ConfigError, match=r"has images of t1, t2; say which, as in .*two:t1"):
        _read_rows(folder)
    assert row_subjects(_read_rows(f"{folder}:t2")) == row_subjects(_read_rows(f"{folder / 'cohort.csv'}:t2")) == ["s1"]
    with pytest.raises(DataError, match="has no image of domain flair; it has t1, t2"):
        _read_rows(f"{folder}:flair")


def test_a_folder_of_images_needs_no_cohort_and_what_is_not_there_is_said(cohort, tmp_path):
    folder = cohort("plain", [REAL])
    (folder / "cohort.csv").unlink()
    (folder / "s0_t1.json").write_text("no json")
    assert [row.synthetic for row in _read_rows(folder)] == [False]
    with pytest.raises(DataError, match="nowhere"):
        _read_rows(tmp_path / "nowhere")
