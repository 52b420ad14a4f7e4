import nibabel as nib
import numpy as np
import pytest

from medgan.data.domains import Domain, Window
from medgan.data.masks import body_mask
from medgan.data.studies import Study
from medgan.data.volumes import read_volume
from medgan.errors import DataError
from medgan.studies.copies import COPIES, matched, matched_copies, shuffled_masks, stretched

CONTRAST, PLAIN = (
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window(lower=-300.0, upper=700.0))
    for name in ("contrast", "plain")
)
MR = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1, upper=99, percentiles=True))


def volume(path, voxels):
    nib.Nifti1Image(voxels.astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(path)
    return read_volume(path)


@pytest.fixture
def scans(ct, tmp_path):
    """A scan with contrast medium and one of another subject without."""
    return volume(tmp_path / "a.nii.gz", ct(0, True)), volume(tmp_path / "b.nii.gz", ct(1, False))


def test_a_matched_body_has_the_quantiles_of_the_reference_and_keeps_the_order_of_intensities_and_the_air(scans):
    source, reference = scans
    found, bent = (matched(source, reference, CONTRAST, PLAIN, gamma) for gamma in (1.0, 1.2))
    inside, other = body_mask(source.voxels, CONTRAST), body_mask(reference.voxels, PLAIN)
    shares = np.linspace(0.05, 0.95, 19)
    expected = np.quantile(reference.voxels[other], shares)
    np.testing.assert_allclose(np.quantile(found[inside], shares), expected, atol=6)
    assert np.abs(np.quantile(source.voxels[inside], shares) - expected).max() > 50
    order = np.argsort(source.voxels[inside], kind="stable")
    assert (np.diff(bent[inside][order]) >= -1e-3).all()
    assert (bent[~inside] == -1024).all()


def test_gamma_bends_within_the_window_alone(scans):
    source, reference = scans
    plain, bent = (matched(source, reference, CONTRAST, PLAIN, gamma) for gamma in (1.0, 1.25))
    inside = body_mask(source.voxels, CONTRAST)
    share = (plain[inside] + 300) / 1000
    seen = (share > 0) & (share < 1)
    np.testing.assert_allclose(bent[inside][seen], -300 + 1000 * share[seen] ** 1.25, atol=1e-2)
    np.testing.assert_array_equal(bent[inside][~seen], plain[inside][~seen])


def test_mr_takes_the_histogram_of_ct_and_its_air_and_an_image_without_a_body_becomes_air(scans, tmp_path, ct):
    empty = volume(tmp_path / "empty.nii.gz", np.full((32, 32, 3), -1000))
    assert (matched(empty, scans[1], CONTRAST, PLAIN) == -1024).all()
    mr = volume(tmp_path / "mr.nii.gz", np.maximum(ct(3, True) + 1000, 0))
    found = matched(mr, scans[1], MR, PLAIN)
    assert found.min() == -1024
    assert found.max() <= scans[1].voxels.max()


def study(folder, subject, *, shape=(8, 8, 3), value=1):
    volume(folder / f"{subject}.nii.gz", np.full(shape, -1000.0))
    nib.Nifti1Image(np.full(shape, value, np.uint8), np.eye(4)).to_filename(folder / f"{subject}_mask.nii.gz")
    return Study(subject, "plain", folder / f"{subject}.nii.gz", folder / f"{subject}_mask.nii.gz")


def test_copies_keep_masks_and_count_as_the_target_domain(tmp_path, scans, ct):
    mask = tmp_path / "mask.nii.gz"
    mask.touch()
    source = Study("s0", "contrast", scans[0].path, mask)
    copies = matched_copies([source], [Study("s1", "plain", scans[1].path)], CONTRAST, PLAIN, tmp_path / "copies")
    assert [(copy.subject, copy.domain, copy.mask) for copy in copies] == [("s0", "plain", mask)] * COPIES
    voxels = [read_volume(copy.image).voxels for copy in copies]
    assert not np.array_equal(voxels[0], voxels[1])


def test_copies_that_are_there_are_kept_and_not_taken_for_those_of_other_images(tmp_path, scans):
    source = Study("s0", "contrast", scans[0].path)
    first, other, again = (
        {copy.image: copy.image.stat().st_mtime_ns for copy in copies}
        for copies in (
            matched_copies([source], [Study("s1", "plain", scan.path)], CONTRAST, PLAIN, tmp_path)
            for scan in (*scans, scans[0])
        )
    )
    assert again == first
    assert not first.keys() & other.keys()


def test_no_subject_keeps_its_mask_and_every_mask_is_used_once_and_one_subject_cannot_exchange(tmp_path):
    studies = [study(tmp_path, f"s{number}", value=number + 1) for number in range(5)]
    found = shuffled_masks(studies, tmp_path / "masks")
    values = [int(read_volume(each.mask).voxels[0, 0, 0]) for each in found]
    assert [each.image for each in found] == [each.image for each in studies]
    assert sorted(values) == [1, 2, 3, 4, 5]
    assert all(value != number + 1 for number, value in enumerate(values))
    # Two images of one subject both get another's.
    found = shuffled_masks([*studies[:2], studies[0]], tmp_path / "again")
    assert [int(read_volume(each.mask).voxels[0, 0, 0]) for each in found] == [2, 1, 2]
    with pytest.raises(DataError, match="masks of 1 subject"):
        shuffled_masks(studies[:1], tmp_path / "masks")


def test_a_wrong_mask_is_stretched_over_another_grid(tmp_path):
    studies = [study(tmp_path, "a", shape=(8, 8, 3)), study(tmp_path, "b", shape=(12, 10, 5))]
    found = shuffled_masks(studies, tmp_path / "masks")
    assert [read_volume(each.mask).voxels.shape for each in found] == [(8, 8, 3), (12, 10, 5)]
    labels = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    assert stretched(labels, (7, 1, 1)).ravel().tolist() == [0, 0, 1, 2, 2, 2, 3]
    np.testing.assert_array_equal(stretched(labels, (4, 1, 1)), labels)
