import nibabel as nib
import numpy as np
import pytest

from medgan.errors import ConfigError, DataError
from medgan.readers import images
from medgan.readers.design import ReaderStudy
from medgan.readers.images import Person


def saved(path, voxels, affine):
    nib.save(nib.Nifti1Image(np.asarray(voxels, np.float32), affine), path)
    return path


def scene_of(settings, **arms):
    return images.scene(Person("one", "one", arms), settings, None)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "AIL"])
@pytest.mark.parametrize(("plane", "place"), [("axial", (1, 0)), ("coronal", (1, 0)), ("sagittal", (0, 0))])
def test_stacks_hang_as_radiologists_hang_them_however_they_are_stored(tmp_path, codes, plane, place):
    """A marker at the patient's left, front, head lies on the right, at the top; from the side in front, at the top."""
    ras = np.full((20, 22, 24), 40.0)
    ras[0, 0, 0] = -1000
    ras[:10, 11:, 12:] = 200
    nii = nib.Nifti1Image(ras.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(nii.affine), nib.orientations.axcodes2ornt(codes))
    stored = nii.as_reoriented(turn)
    path = tmp_path / "scan.nii.gz"
    nib.save(stored, path)
    settings = ReaderStudy(plane=plane, slices=9, pixel_mm=2.0)
    scene = scene_of(settings, real=path)
    frame = images.frame_for(iter([scene]), settings)
    through = scene.axes[2]
    level = (4, 17, 18)[through]
    greys, _ = images.stacks_at(scene, level, frame, settings, "seed")
    pixels = images.rounded(greys["real"])[4]
    bright = np.argwhere(pixels > 150)
    row, column = bright.mean(axis=0) / pixels.shape
    assert row < 0.5
    assert (column > 0.5) == (place[0] == 1)


def test_equal_volumes_on_different_grids_look_alike_and_equal_ones_are_equal(tmp_path):
    rng = np.random.default_rng(0)
    from scipy.ndimage import gaussian_filter

    voxels = 40 + 100 * gaussian_filter(rng.standard_normal((40, 40, 20)), 3)
    voxels[:3] = -1000
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    shifted = affine.copy()
    shifted[:3, 3] = [4.0, 6.0, 3.0]  # whole voxels: the same places, another box
    one = saved(tmp_path / "one.nii", voxels, affine)
    two = saved(tmp_path / "two.nii", voxels[2:, 3:, 1:], shifted)
    settings = ReaderStudy()
    scene = scene_of(settings, real=one, synthetic=two)
    frame = images.frame_for(iter([scene]), settings)
    greys, measured = images.stacks_at(scene, 10, frame, settings, "seed")
    same = images.rounded(greys["real"]), images.rounded(greys["synthetic"])
    middle = np.s_[:, 15:-15, 15:-15]
    assert np.abs(same[0][middle].astype(int) - same[1][middle]).max() <= 1
    twice = scene_of(settings, real=one, synthetic=one)
    greys, measured = images.stacks_at(twice, 10, frame, settings, "seed")
    np.testing.assert_array_equal(greys["real"], greys["synthetic"])
    assert measured["noise"]["real"] == measured["noise"]["synthetic"]


def test_noise_is_measured_and_made_equal():
    rng = np.random.default_rng(0)
    for sigma in (2.0, 6.0):
        assert images.noise((128 + sigma * rng.standard_normal((9, 64, 64))).astype(np.float32)) == pytest.approx(
            sigma, rel=0.1
        )


@pytest.mark.parametrize("width", [0.0, 0.8])
def test_added_noise_is_as_coarse_as_that_of_the_other_arm(width):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    anatomy = (128 + 30 * gaussian_filter(rng.standard_normal((9, 96, 96)), (0, 12, 12)) * 12).astype(np.float32)
    field = gaussian_filter(rng.standard_normal(anatomy.shape), (0, width, width))
    real = anatomy + 5 * (field / field.std()).astype(np.float32)
    smooth = images.noisier(anatomy, real, np.random.default_rng(1))
    assert (smooth - anatomy).std() == pytest.approx(5, rel=0.1)
    assert images.grain(smooth) == pytest.approx(images.grain(real), rel=0.1)
    np.testing.assert_array_equal(images.noisier(real, anatomy, rng), real)


def test_the_smoother_arm_gets_the_noise_of_the_other(make):
    plain, equal = make().key.equalised, make(equal_noise=True).key.equalised
    assert plain.noise["synthetic"] < 0.7 * plain.noise["real"]
    assert equal.noise_before == plain.noise
    assert equal.noise["synthetic"] == pytest.approx(equal.noise["real"], rel=0.05)
    assert any("differ in noise" in note for note in make().key.notes)
    assert not any("differ in noise" in note for note in make(equal_noise=True).key.notes)


def test_outside_of_the_body_all_is_black(tmp_path):
    voxels = np.full((40, 40, 12), -1000.0)
    voxels[8:32, 8:32] = 40
    table = voxels.copy()
    table[5:35, 36:38] = 0
    affine = np.diag([4.0, -4.0, 4.0, 1.0])
    real, synthetic = saved(tmp_path / "real.nii", table, affine), saved(tmp_path / "synthetic.nii", voxels, affine)
    pixels = {}
    for body_only in (False, True):
        settings = ReaderStudy(body_only=body_only)
        scene = scene_of(settings, real=real, synthetic=synthetic)
        frame = images.frame_for(iter([scene]), settings)
        greys, _ = images.stacks_at(scene, 6, frame, settings, "seed")
        pixels[body_only] = [images.rounded(greys[arm]) for arm in ("real", "synthetic")]
    assert not np.array_equal(*pixels[False])
    np.testing.assert_array_equal(*pixels[True])


def test_which_of_several_labels_is_a_lesion_is_asked(tmp_path):
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    image = saved(tmp_path / "image.nii", np.full((12, 12, 12), -500.0), affine)
    marked = np.zeros((12, 12, 12))
    marked[2:4, 2:4, 2:4], marked[6:9, 6:9, 6:9] = 1, 2
    person = Person("one", "one", {"real": image}, saved(tmp_path / "labels.nii", marked, affine))
    with pytest.raises(ConfigError, match="--lesion"):
        images.scene(person, ReaderStudy(), None)
    assert images.scene(person, ReaderStudy(), [2]).labels.sum() == 27


def test_units_are_not_mixed_and_windows_are_known(tmp_path):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    rng = np.random.default_rng(0)
    ct = saved(tmp_path / "ct.nii", rng.normal(-500, 400, (20, 20, 12)), affine)
    mr = saved(tmp_path / "mr.nii", np.abs(rng.normal(300, 100, (20, 20, 12))), affine)
    scenes = [scene_of(ReaderStudy(), real=path) for path in (ct, mr)]
    with pytest.raises(DataError, match="HU"):
        images.frame_for(iter(scenes), ReaderStudy())
    assert images.frame_for(iter(scenes[1:]), ReaderStudy()).window.unit == "%"
    assert images.frame_for(iter(scenes[:1]), ReaderStudy(window="lung")).window.name == "lung"
    assert images.frame_for(iter(scenes[:1]), ReaderStudy(window="0,100")).lower == -50
    for window in ("bright", "100,0"):
        with pytest.raises(ConfigError, match="--window"):
            images.frame_for(iter(scenes[:1]), ReaderStudy(window=window))


@pytest.mark.parametrize("word", [f"{number:064x}" for number in range(4)])
def test_catch_images_are_obvious(word):
    rng = np.random.default_rng(0)
    stack = rng.integers(40, 200, (9, 65, 64)).astype(np.uint8)
    fake = images.obvious_fake(stack, word)
    assert fake.shape == stack.shape
    assert np.abs(fake.astype(int) - stack).mean() > 10
    frame = images.Frame(2.0, 3.0, 65, 64, 9, images.WINDOWS["bone"], 0.0, 1.0)
    marked, lesion = images.obvious_lesion(stack, frame, word)
    assert marked[lesion.first, round(lesion.row), round(lesion.column)] == 255
