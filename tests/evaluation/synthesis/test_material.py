import numpy as np
import pytest

from medgan.data.domains import domain_named
from medgan.data.splits import Split
from medgan.data.volumes import image_hash
from medgan.errors import DataError
from medgan.evaluation.synthesis.material import gather
from medgan.evaluation.synthesis.rows import divided

FLAIR = domain_named("flair")


def add_one(voxels, mask, random):
    """A third lesion in healthy tissue; the recipient's own two stay."""
    voxels[18:22, 18:22, 7:11] += random.uniform(40, 90)
    mask[18:22, 18:22, 7:11] = 1


@pytest.fixture(scope="module")
def cohorts(save_lesions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    return {
        known: save_lesions(folder / str(known), synthetic=8, paint=add_one, split=known) for known in (True, False)
    }


def gathered(table, shape, split=None):
    return gather(*divided(table, None), FLAIR, shape, split=split, seed=0)


def subjects(patches):
    return {origin.subject for origin in patches.origins}


@pytest.mark.parametrize("patch", [(16, 16), (16, 16, 16)], ids=["2d", "3d"])
def test_only_what_was_inserted_is_synthetic(cohorts, patch):
    found = gathered(cohorts[True], patch)
    assert len(found.synthetic) == 8 * (3 if len(patch) == 2 else 1)
    assert {origin.recipient for origin in found.synthetic.origins} == {f"s{number}" for number in range(5)}
    centres = np.array([origin.centre for origin in found.synthetic.origins])
    assert (np.abs(centres[:, :2] - 19.5) < 1).all()
    assert found.names == ("lesion",)
    assert found.failures == ()


def test_the_split_column_says_who_was_trained_on(cohorts):
    found = gathered(cohorts[True], (16, 16))
    assert found.split_known
    assert subjects(found.training) == subjects(found.suspected) == {"s0", "s1", "s2", "s3", "s4"}
    assert subjects(found.held_out) == {"s5", "s6", "s7", "s8", "s9"}


def test_without_a_split_subjects_are_halved_and_all_are_suspected(cohorts):
    found = gathered(cohorts[False], (16, 16))
    assert not found.split_known
    assert len(subjects(found.training)) == len(subjects(found.held_out)) == 5
    assert not subjects(found.training) & subjects(found.held_out)
    assert len(subjects(found.suspected)) == 10


def test_a_runs_own_split_goes_before_the_column(cohorts):
    split = Split(train=("s0", "s6", "s7"), validation=(), test=(), files={})
    found = gathered(cohorts[True], (16, 16), split=split)
    assert subjects(found.training) == {"s0", "s6", "s7"}
    assert found.split_known


def test_an_image_that_was_trained_on_is_not_held_out_under_another_name(cohorts):
    trained = next(row.study.image for row in divided(cohorts[True], None)[1] if row.study.subject == "s6")
    images = {"gone": {"image.nii.gz": image_hash(trained)}}
    split = Split(train=("s0", "s7", "gone"), validation=(), test=(), files={}, images=images)
    found = gathered(cohorts[True], (16, 16), split=split)
    assert subjects(found.training) == {"s0", "s6", "s7"}
    assert "s6" not in subjects(found.held_out)


def test_too_little_is_refused_with_a_way_out(save_lesions, tmp_path):
    table = save_lesions(tmp_path / "few", subjects=4, synthetic=8, paint=add_one)
    with pytest.raises(DataError, match=r"4 real training patches cannot be judged, at least 8 can; .*--dimensions 2"):
        gathered(table, (16, 16, 16))
    lone = save_lesions(tmp_path / "one", subjects=2, synthetic=8, paint=add_one)
    lines = [line for line in lone.read_text().splitlines() if not line.startswith("s1,")]
    lone.write_text("\n".join(lines))
    with pytest.raises(DataError, match="there is one real subject"):
        gathered(lone, (16, 16))


def test_an_image_that_cannot_be_used_is_listed_and_the_rest_is_judged(save_lesions, tmp_path):
    table = save_lesions(tmp_path / "broken", synthetic=9, paint=add_one)
    (tmp_path / "broken" / "made3.nii.gz").write_bytes(b"")
    found = gathered(table, (16, 16))
    assert [failure.image for failure in found.failures] == ["made3.nii.gz"]
    assert "an empty file" in found.failures[0].reason
    assert len(subjects(found.synthetic)) == 8
