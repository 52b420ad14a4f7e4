import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medgan.data.domains import domain_named
from medgan.data.grid import Volume, made_up_grid, upright
from medgan.data.studies import Study
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import DataError, GeometryError
from medgan.registration.pair import PairFiles, _resampled, _without_bias, register_pair
from medgan.registration.side import matrix_lps

MR, CT = domain_named("mr"), domain_named("ct")


@pytest.fixture(scope="module")
def pair(scan, rigid, tmp_path_factory):
    """An MR and a CT on another grid, moved; with a mask of the CT's bone on the CT's grid."""
    folder = tmp_path_factory.mktemp("pair")
    fixed, moving = scan("MR"), scan("CT", rigid((0, 0, 8), (5, -4, 3)), shape=(30, 30, 20), spacing=(3, 3, 4))
    write_volume(np.rint(fixed.voxels), fixed.grid, folder / "mr.nii.gz", np.int16)
    write_volume(np.rint(moving.voxels), moving.grid, folder / "ct.nii.gz", np.int16)
    write_volume(moving.voxels > 400, moving.grid, folder / "bone.nii.gz", np.uint8)
    return Study("s1", "mr", folder / "mr.nii.gz"), Study("s1", "ct", folder / "ct.nii.gz", folder / "bone.nii.gz")


def files_in(folder):
    return PairFiles(folder / "out" / "s1", folder / "out" / "pictures" / "s1.png")


@pytest.fixture
def files(tmp_path):
    return files_in(tmp_path)


@pytest.fixture(scope="module")
def registered(pair, quick, tmp_path_factory):
    """The files, the figures and the status of the pair."""
    files = files_in(tmp_path_factory.mktemp("registered"))
    return files, *register_pair(pair, (MR, CT), files, quick)[:2]


def test_scan_and_mask_come_onto_the_fixed_grid_to_the_bit(pair, registered, scan):
    files, quality, status = registered
    assert status == "accepted"
    assert quality.dice_after > quality.dice_before
    assert quality.rotation_degrees == pytest.approx(8, abs=1.5)
    wanted = read_volume(pair[0].image)
    mr, ct, bone = (read_volume(path) for path in (files.image(MR), files.image(CT), files.mask(CT)))
    for volume in (mr, ct, bone):
        assert volume.grid.affine.tobytes() == wanted.grid.affine.tobytes()
        for name, value in wanted.grid.fields.items():
            assert volume.grid.fields[name].tobytes() == value.tobytes()
    np.testing.assert_array_equal(mr.voxels, wanted.voxels)
    truth, raw = scan("CT").voxels, read_volume(pair[1].image)
    still = _resampled(raw.voxels, raw.grid, wanted.grid, sitk.Transform(3, sitk.sitkIdentity), air=-1024.0)
    inside = truth > -500
    assert np.abs(ct.voxels - truth)[inside].mean() < 0.5 * np.abs(still - truth)[inside].mean()
    assert set(np.unique(bone.voxels)) == {0, 1}
    assert truth[bone.voxels > 0].mean() > 300
    assert files.picture.exists()
    moved = _resampled(raw.voxels, raw.grid, wanted.grid, sitk.ReadTransform(str(files.transform)), air=-1024.0)
    np.testing.assert_allclose(np.rint(moved), ct.voxels, atol=1)


def test_a_pair_that_is_aligned_is_not_interpolated(files, quick, scan, tmp_path):
    volume = scan("CT")
    write_volume(np.rint(volume.voxels), volume.grid, tmp_path / "ct.nii.gz", np.int16)
    write_volume(np.rint(volume.voxels), volume.grid, tmp_path / "again.nii.gz", np.int16)
    studies = (Study("s1", "ct", tmp_path / "ct.nii.gz"), Study("s1", "plain", tmp_path / "again.nii.gz"))
    quality, status, _ = register_pair(studies, (CT, domain_named("plain:CT")), files, quick)
    assert (status, quality.largest_displacement_mm) == ("accepted", 0)
    np.testing.assert_array_equal(read_volume(files.image(domain_named("plain:CT"))).voxels, np.rint(volume.voxels))


def stored(volume, axes, mirrored):
    """The same scan with its voxels stored in another order."""
    affine, voxels = volume.grid.affine.copy(), np.flip(volume.voxels, mirrored)
    for axis in mirrored:
        affine[:, 3] += affine[:, axis] * (voxels.shape[axis] - 1)
        affine[:, axis] *= -1
    affine[:, :3] = affine[:, list(axes)]
    voxels = voxels.transpose(axes)
    return Volume(voxels, made_up_grid(voxels.shape, affine), volume.path)


ORDERS = [((0, 1, 2), (0,)), ((0, 1, 2), (1, 2)), ((2, 0, 1), ()), ((1, 0, 2), (2,))]


@pytest.mark.parametrize(("fixed", "moving"), zip(ORDERS, [*ORDERS[1:], ORDERS[0]], strict=True))
def test_the_order_in_which_voxels_are_stored_changes_nothing(pair, registered, files, quick, tmp_path, fixed, moving):
    def again(path, order, dtype):
        volume = stored(read_volume(path), *order)
        write_volume(volume.voxels, volume.grid, tmp_path / path.name, dtype)
        return tmp_path / path.name

    mr, ct = pair
    studies = (
        Study("s1", "mr", again(mr.image, fixed, np.int16)),
        Study("s1", "ct", again(ct.image, moving, np.int16), again(ct.mask, moving, np.uint8)),
    )
    register_pair(studies, (MR, CT), files, quick)
    both = registered[0], files
    np.testing.assert_allclose(*(matrix_lps(sitk.ReadTransform(str(each.transform))) for each in both), atol=1e-3)
    for path in (PairFiles.image, PairFiles.mask):
        one, other = (upright(read_volume(path(each, CT))).voxels for each in both)
        np.testing.assert_allclose(one, other, atol=2)
    one, other = (upright(read_volume(each.image(MR))).voxels for each in both)
    np.testing.assert_array_equal(one, other)


def test_a_pair_whose_move_would_gain_no_more_than_noise_stays(files, quick, scan, rigid, tmp_path):
    mr, ct = scan("MR"), scan("CT", rigid(shift_mm=(0, 0, 1.2)), seed=2)  # a third of a slice
    for name, volume in (("mr", mr), ("ct", ct)):
        write_volume(np.rint(volume.voxels), volume.grid, tmp_path / f"{name}.nii.gz", np.int16)
    studies = (Study("s1", "mr", tmp_path / "mr.nii.gz"), Study("s1", "ct", tmp_path / "ct.nii.gz"))
    quality, status, _ = register_pair(studies, (MR, CT), files, quick)
    assert (status, quality.largest_displacement_mm) == ("accepted", 0)
    np.testing.assert_array_equal(read_volume(files.image(CT)).voxels, np.rint(ct.voxels))


def test_a_refused_pair_leaves_evidence_and_no_images(pair, files, quick):
    strict = quick.model_copy(update={"limits": quick.limits.model_copy(update={"least_dice": 0.9999})})
    _, status, reason = register_pair(pair, (MR, CT), files, strict)
    assert status == "refused"
    assert "0.9999" in reason
    assert files.picture.exists()
    assert sorted(path.name for path in files.folder.iterdir()) == ["fixed_to_moving.tfm"]


def test_a_mask_on_neither_grid_is_refused_by_name(pair, files, quick, scan, tmp_path):
    other = scan("CT", shape=(12, 12, 12))
    write_volume(other.voxels > 0, other.grid, tmp_path / "odd.nii.gz", np.uint8)
    astray = Study("s1", "ct", pair[1].image, tmp_path / "odd.nii.gz")
    with pytest.raises(GeometryError, match=r"odd\.nii\.gz is neither on the grid"):
        register_pair((pair[0], astray), (MR, CT), files, quick)


def test_a_mask_on_the_fixed_grid_stays_as_it_is(pair, files, quick, scan, tmp_path):
    fixed = scan("MR")
    write_volume(fixed.voxels > 400, fixed.grid, tmp_path / "fat.nii.gz", np.uint8)
    studies = (Study("s1", "mr", pair[0].image, tmp_path / "fat.nii.gz"), pair[1])
    register_pair(studies, (MR, CT), files, quick)
    np.testing.assert_array_equal(read_volume(files.mask(MR)).voxels, fixed.voxels > 400)


def test_beyond_the_moving_scan_there_is_air(scan):
    volume = scan("CT")
    far = sitk.TranslationTransform(3, (1000.0, 0.0, 0.0))
    assert np.unique(_resampled(volume.voxels, volume.grid, volume.grid, far, air=-1024.0)) == [-1024]


def test_a_folder_that_cannot_be_written_is_named(pair, quick, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        register_pair(pair, (MR, CT), PairFiles(tmp_path / "file", tmp_path / "s1.png"), quick)


def test_a_bias_field_is_taken_away_and_the_mean_stays():
    x, y, _ = (np.indices((36, 36, 16)) - np.array([18, 18, 8])[:, None, None, None]) * 3.0
    body = (x / 48) ** 2 + (y / 42) ** 2 < 1
    tissue = np.where(x**2 + (y - 15) ** 2 < 200, 150.0, 300.0)
    field = np.exp(0.4 * x / 54 - 0.3 * (y / 54) ** 2)
    noise = np.random.default_rng(0).normal(0, 4, x.shape)
    clean = np.where(body, tissue, 0.0)
    biased = np.where(body, tissue * field + noise, 0.0).astype(np.float32)
    corrected = _without_bias(biased, np.diag([3.0, 3.0, 3.0, 1.0]), body)
    one_tissue = body & (clean == 300)

    def spread(voxels):
        return voxels[one_tissue].std() / voxels[one_tissue].mean()

    assert spread(biased) > 0.15
    assert spread(corrected) < spread(biased) / 3
    np.testing.assert_allclose(corrected[body].mean(), biased[body].mean(), rtol=1e-4)


def test_voxels_without_a_body_stay_as_they_are():
    voxels = np.zeros((6, 6, 6), np.float32)
    np.testing.assert_array_equal(_without_bias(voxels, np.eye(4), voxels > 0), voxels)
