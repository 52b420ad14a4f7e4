import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medgan.data.domains import domain_named
from medgan.data.grid import LPS_TO_RAS, Volume, made_up_grid
from medgan.data.masks import body_mask
from medgan.data.volumes import read_volume
from medgan.errors import DataError
from medgan.registration import search as search_module
from medgan.registration.quality import measure
from medgan.registration.search import (
    COARSE_LEVELS,
    RegistrationConfig,
    _at_level,
    _inverse,
    _metric,
    centred,
    deformed,
    in_frame,
    look,
    matrix_lps,
    on,
    own_frame,
    register,
    side,
    to_itk,
    voxels_of,
)


@pytest.mark.parametrize(("half_width", "deep"), [(16, True), (3, False)])
def test_a_body_that_is_all_surface_is_looked_at_whole(tmp_path, half_width, deep):
    volume = Volume(np.full((40, 40, 8), -1000, np.float32), made_up_grid((40, 40, 8), np.diag([2, 2, 5, 1])), tmp_path)
    body = np.zeros((40, 40, 8), bool)
    body[20 - half_width : 20 + half_width, 20 - half_width : 20 + half_width] = True
    ready = side(volume, body, domain_named("ct"), RegistrationConfig())
    inside, near = (voxels_of(mask) > 0 for mask in (ready.inside, ready.near))
    assert np.array_equal(inside, near) != deep
    assert not deep or (inside.any() and not (inside & ~body).any())


@pytest.mark.parametrize(("share", "least"), [(0.8, 20_000), (0.9, 20_000), (0.9, 60_000), (0.5, 20_000)])
def test_the_metric_looks_around_bones_first_and_at_the_rest_thinly(scan, sides, quick, monkeypatch, share, least):
    monkeypatch.setattr(search_module, "LEAST_LOOKED_AT", least)
    (ready,) = sides((scan("CT", shape=(80, 70, 60), spacing=(1.0, 1.0, 1.5)), "CT"))
    bone, inside = (on(ready.image, mask) for mask in (ready.bone, ready.inside))
    config = quick.rigid.model_copy(update={"bone_share": share})
    looked_at = on(ready.image, look(ready, ready.image, ready.inside, config))
    assert bone.any()
    assert looked_at[bone].all()
    assert not looked_at[~bone & ~inside].any()
    wanted = max(least, bone.sum() / share)
    assert looked_at.sum() == pytest.approx(min(wanted, (bone | inside).sum()), rel=0.02)


def test_specks_of_bone_do_not_count_and_mr_has_none(scan, sides):
    volume = scan("CT")
    volume.voxels[volume.voxels > 200] = 40
    volume.voxels[15:17, 15:17, 10:12] = 900
    assert [ready.bone for ready in sides((volume, "CT"), (scan("MR"), "MR"))] == [None, None]


@pytest.mark.parametrize("mirrored", [False, True])
def test_in_its_own_frame_a_scan_has_its_axes_along_the_worlds_and_its_middle_at_zero(scan, sides, rigid, mirrored):
    volume = scan("CT")
    affine = rigid((70, -30, 110), (200, -80, 40)) @ np.diag([-1.0 if mirrored else 1.0, 1, 1, 1]) @ volume.grid.affine
    (ready,) = sides((Volume(volume.voxels, made_up_grid(volume.voxels.shape, affine), volume.path), "CT"))
    frame = own_frame(ready.image)
    placed = in_frame(ready, frame)
    assert np.linalg.det(frame) == pytest.approx(1)
    for before, after in zip(vars(ready).values(), vars(placed).values(), strict=True):
        np.testing.assert_allclose(np.abs(after.GetDirection()), np.eye(3).ravel(), atol=1e-6)
        ends = np.array([after.TransformIndexToPhysicalPoint(index) for index in ((0, 0, 0), (33, 29, 23))])
        np.testing.assert_allclose(ends.sum(axis=0), 0, atol=1e-3)
        there = [*before.TransformIndexToPhysicalPoint((3, 7, 11)), 1.0]
        np.testing.assert_allclose((frame @ there)[:3], after.TransformIndexToPhysicalPoint((3, 7, 11)), atol=1e-3)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (10, -20, 35)], ids=["straight", "oblique"])
def test_an_image_is_what_simpleitk_reads_from_the_same_file(tmp_path, rigid, degrees):
    affine = rigid(degrees, (-12.5, 40, 7)) @ np.diag([-0.9, 1.1, 3.3, 1.0])
    voxels = np.random.default_rng(0).normal(0, 100, (5, 4, 3)).astype(np.float32)
    nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "scan.nii.gz")
    theirs = sitk.ReadImage(str(tmp_path / "scan.nii.gz"))
    volume = read_volume(tmp_path / "scan.nii.gz")
    ours = to_itk(volume.voxels, volume.grid.affine)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    for index in [(0, 0, 0), (4, 0, 0), (0, 3, 0), (4, 3, 2)]:
        point = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(ours.TransformIndexToPhysicalPoint(index), point, atol=1e-4)
    np.testing.assert_array_equal(voxels_of(ours), voxels)


def test_a_mask_becomes_zeros_and_ones():
    mask = np.arange(24).reshape(2, 3, 4) % 3 == 0
    np.testing.assert_array_equal(voxels_of(to_itk(mask, np.eye(4))), mask.astype(np.uint8))


def test_the_matrix_of_a_transform_takes_points_where_the_transform_does():
    transform = sitk.Euler3DTransform((3.0, -4.0, 5.0), 0.2, -0.1, 0.3, (7.0, 8.0, 9.0))
    point = np.array([11.0, -2.0, 6.0])
    moved = (matrix_lps(transform) @ [*point, 1])[:3]
    np.testing.assert_allclose(moved, transform.TransformPoint(point.tolist()), atol=1e-9)
    assert np.linalg.det(matrix_lps(transform)) == pytest.approx(np.linalg.det(LPS_TO_RAS))


CORNERS = np.array([[x, y, z, 1] for x in (-25, 25) for y in (-20, 20) for z in (-35, 35)], dtype=float).T


def error_mm(transform, truth):
    """The mean distance between where both take the corners of the body; the truth is in RAS+ mm."""
    found = LPS_TO_RAS @ matrix_lps(transform) @ LPS_TO_RAS
    return np.linalg.norm(((found - truth) @ CORNERS)[:3], axis=0).mean()


@pytest.mark.parametrize(
    ("fixed", "moving", "degrees", "shift_mm", "within_mm"),
    [
        *((*pair, (4, -3, 8), (6, -5, 3), 1.25) for pair in (("MR", "CT"), ("CT", "MR"), ("CT", "CT"))),  # half a voxel
        ("MR", "CT", (0, 0, 0), (0, 0, 0), 0.8),
        ("CT", "CT", (0, 0, 40), (0, 0, 0), 1.25),
    ],
)
def test_a_known_motion_is_recovered_across_modalities(
    scan, sides, rigid, quick, fixed, moving, degrees, shift_mm, within_mm
):
    """Also none, and one that needs starts that are turned, too."""
    truth, config = rigid(degrees, shift_mm), quick.rigid
    if degrees[2] == 40:
        config = config.model_copy(update={"start_rotation_degrees": 35.0, "kept_starts": 2})
    pair = sides((scan(fixed), fixed), (scan(moving, truth, seed=1), moving))
    assert (error_mm(sitk.Euler3DTransform(), truth) > 5) == any((*degrees, *shift_mm))
    assert error_mm(register(*pair, config), truth) < within_mm


@pytest.mark.parametrize(("fixed", "moving"), [("MR", "CT"), ("CT", "MR")])
def test_what_lies_beyond_a_scan_that_ends_early_is_not_made_up(scan, sides, rigid, quick, fixed, moving):
    """With the edges repeated at the finest levels, too, both are off by 1.4 mm."""
    truth = rigid((2, -2, 3), (2, -2, 2))
    whole = scan(moving, truth, seed=1)
    affine = whole.grid.affine @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 10], [0, 0, 0, 1]]
    voxels = whole.voxels[:, :, 10:]
    ends_early = Volume(voxels, made_up_grid(voxels.shape, affine), whole.path)
    pair = sides((scan(fixed), fixed), (ends_early, moving))
    assert error_mm(register(*pair, quick.rigid), truth) < 1.25


@pytest.mark.parametrize(
    ("ct_is_fixed", "bone_mm", "inside_mm", "bones_meet"),
    [
        (False, 0.0, 0.0, False),
        (True, 0.0, 8.0, False),
        (False, 10.0, 0.0, False),
        (False, 10.0, 8.0, True),
        (True, 10.0, 8.0, True),
    ],
)
def test_flesh_that_lies_differently_does_not_draw_the_bones_along(
    scan, flesh_apart, rigid, quick, monkeypatch, ct_is_fixed, bone_mm, inside_mm, bones_meet
):
    """With both, bones are off by 1.6 mm of a 2.5 mm voxel; with one alone or none by more."""
    monkeypatch.setattr(search_module, "LEAST_LOOKED_AT", 2000)  # the scan has no more than the usual number
    config = quick.rigid.model_copy(update={"bone_mm": bone_mm, "inside_mm": inside_mm})
    scans = {"mr": scan("MR"), "ct": flesh_apart(flesh=rigid(shift_mm=(0, 7, 0)))}
    domains = {name: domain_named(name) for name in scans}
    ready = {
        name: side(scans[name], body_mask(scans[name].voxels, domain), domain, config)
        for name, domain in domains.items()
    }
    fixed, moving = ("ct", "mr") if ct_is_fixed else ("mr", "ct")
    assert bool(error_mm(register(ready[fixed], ready[moving], config), np.eye(4)) < 2.0) == bones_meet


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_coarse_levels_look_at_the_skin_and_fine_ones_beneath_it(scan, sides, quick, modality):
    (ready,) = sides((scan(modality), modality))
    for number in range(len(quick.rigid.level_spacings_mm)):
        level = _at_level(ready, ready, number, quick.rigid)
        where, near, inside = (on(level.fixed, mask) for mask in (level.where, ready.near, ready.inside))
        around_bone = on(level.fixed, ready.bone) if ready.bone is not None else np.zeros_like(near)
        skin = near & ~inside & ~around_bone
        assert (where & inside).any()
        assert (where & skin).any() == (number < COARSE_LEVELS)


def test_the_way_back_undoes_the_way_there_and_turns_about_the_same_tissue():
    there = sitk.Euler3DTransform()
    there.SetCenter((30.0, -200.0, 900.0))
    there.SetRotation(0.1, -0.2, 0.3)
    there.SetTranslation((5.0, 6.0, -7.0))
    back = _inverse(there)
    np.testing.assert_allclose(matrix_lps(back) @ matrix_lps(there), np.eye(4), atol=1e-6)
    np.testing.assert_allclose(back.TransformPoint(back.GetCenter()), there.GetCenter(), atol=1e-6)


@pytest.mark.parametrize("spacing", [(2.5, 2.5, 2.5), (2.5, 2.5, 5.0)])
def test_mutual_information_has_no_ripple_of_the_grids_period(scan, sides, quick, spacing):
    """From half a voxel on it falls all the way as a noisy scan is shifted: no maximum that the search is caught in."""
    shape = tuple(int(extent / mm) for extent, mm in zip((85, 75, 84), spacing, strict=True))
    volumes = [scan("CT", shape=shape, spacing=spacing, seed=seed) for seed in (0, 1)]
    for seed, volume in enumerate(volumes):
        volume.voxels[:] += np.random.default_rng(seed).normal(0, 60, volume.voxels.shape)
    level = _at_level(*sides(*((volume, "CT") for volume in volumes)), 3, quick.rigid)
    method = _metric(level.fixed, level.where, quick.rigid)
    for axis, step_mm in zip(np.eye(3), spacing, strict=True):
        values = []
        for quarters in range(2, 9):
            method.SetInitialTransform(sitk.TranslationTransform(3, (axis * step_mm * quarters / 4).tolist()))
            values.append(-method.MetricEvaluate(level.fixed, level.moving))
        assert np.all(np.diff(values) < 0), values


def test_how_the_patient_lies_in_the_scanner_changes_nothing(scan, sides, rigid, quick):
    scans = scan("MR"), scan("CT", rigid((4, -3, 8), (6, -5, 3)), seed=1)
    lain = rigid((70, -30, 110), (200, -80, 40))
    elsewhere = [
        Volume(each.voxels, made_up_grid(each.voxels.shape, lain @ each.grid.affine), each.path) for each in scans
    ]
    found, found_there = (
        register(*sides((one, "MR"), (other, "CT")), quick.rigid) for one, other in (scans, elsewhere)
    )
    there = LPS_TO_RAS @ matrix_lps(found_there) @ LPS_TO_RAS
    # Where the axes are not the scan's own it is .37 and .45 mm.
    assert error_mm(found, np.linalg.inv(lain) @ there @ lain) < 0.2


def test_samples_are_counted_where_the_metric_looks(scan, sides, quick):
    level = _at_level(*sides((scan("MR"), "MR"), (scan("CT"), "CT")), 3, quick.rigid)
    assert on(level.fixed, level.where).mean() < 0.7
    method = _metric(level.fixed, level.where, quick.rigid.model_copy(update={"samples": 2000}))
    method.SetInitialTransform(sitk.Euler3DTransform())
    method.SetOptimizerAsGradientDescent(learningRate=0.01, numberOfIterations=1)
    counted = []
    method.AddCommand(sitk.sitkIterationEvent, lambda: counted.append(method.GetMetricNumberOfValidPoints()))
    method.Execute(level.fixed, level.moving)
    assert counted == [pytest.approx(2000, rel=0.1)]


def test_equal_seeds_give_equal_transforms(scan, sides, rigid, quick):
    pair = sides((scan("MR"), "MR"), (scan("CT", rigid((0, 0, 5), (3, 0, 0))), "CT"))
    config = quick.rigid.model_copy(update={"samples": 1000, "iterations": 10})
    one, again = (register(*pair, config).GetParameters() for _ in range(2))
    other = register(*pair, config.model_copy(update={"seed": 1})).GetParameters()
    assert one == again
    assert one != other


def test_bodies_are_centred_by_their_masks_not_by_their_intensities(scan, sides, rigid):
    fixed, moving = sides((scan("MR"), "MR"), (scan("CT", rigid(shift_mm=(6, -4, 0))), "CT"))
    np.testing.assert_allclose(centred(fixed, moving).GetTranslation(), (-6, 4, 0), atol=0.5)  # LPS


def test_the_table_under_a_ct_is_taken_away(scan, sides):
    volume = scan("CT")
    volume.voxels[:, 0, :] = 300
    (ready,) = sides((volume, "CT"))
    assert voxels_of(ready.image)[:, 0, :].max() == -250


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "problem"),
    [((20, 20, 3), 2, "too thin"), ((20, 20, 20), 0.1, "2 × 2 × 2 mm, too thin"), ((20, 20, 20), 1, "no body")],
)
def test_what_cannot_be_registered_is_refused_by_name(tmp_path, shape, spacing_mm, problem):
    affine = np.diag([spacing_mm] * 3 + [1.0])
    volume = Volume(np.full(shape, -1000, np.float32), made_up_grid(shape, affine), tmp_path / "ct.nii.gz")
    with pytest.raises(DataError, match=problem) as refused:
        side(volume, np.zeros(shape, bool), domain_named("ct"), RegistrationConfig())
    assert str(volume.path) in str(refused.value)


def test_bending_raises_the_mutual_information_that_a_rigid_transform_leaves(scan, sides, quick, monkeypatch):
    monkeypatch.setattr(search_module, "BENDING_ITERATIONS", 15)
    swollen = np.diag([1.12, 0.94, 1.0, 1.0])
    coarse = {"shape": (26, 23, 18), "spacing": (3.3, 3.3, 4.7)}
    fixed, moving = sides((scan("MR", **coarse), "MR"), (scan("CT", swollen, **coarse), "CT"))
    still = sitk.Euler3DTransform()
    bent = deformed(fixed, moving, still, 40.0, quick.rigid.model_copy(update={"samples": 3000}))
    quality = measure(fixed, moving, still, bent)
    assert quality.mutual_information_after > quality.mutual_information_before + 0.05
    assert quality.dice_after > quality.dice_before
    # The body's edges, 30 mm from the middle, are 3.6 mm further out in the moving scan.
    for edge in (-30.0, 30.0):
        assert 1 < np.sign(edge) * bent.TransformPoint((edge, 0.0, 0.0))[0] - 30 < 5
