import shutil
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from dicom_files import ROOT, report, save, save_stack, slice_of, stack
from medgan.data.dicom import dicom_files, is_dicom, is_series, read, read_grid, studies_among
from medgan.data.domains import DomainPair, domain_named
from medgan.data.hashes import file_hash
from medgan.data.listing import find_images
from medgan.data.studies import find_cohort
from medgan.data.tables import read_table
from medgan.data.volumes import read_volume
from medgan.errors import DataError

PIXELS = np.arange(20, dtype=np.int16).reshape(5, 4)


def affine_of(image):
    """The affine of a SimpleITK image by asking it where voxels lie, from LPS to RAS."""
    corner, *ends = (
        np.array(image.TransformIndexToPhysicalPoint(at)) for at in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    columns = [end - corner for end in ends]
    affine = np.eye(4)
    affine[:3] = np.column_stack([*columns, corner])
    return np.diag([-1, -1, 1, 1]) @ affine


def by_simpleitk(folder):
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def assert_as_simpleitk(volume, image):
    np.testing.assert_allclose(volume.grid.affine, affine_of(image), atol=1e-6)
    np.testing.assert_array_equal(volume.voxels, sitk.GetArrayFromImage(image).T)
    assert volume.voxels.dtype == np.float32
    assert volume.grid.shape == volume.voxels.shape


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [0.8, 0.6, 0, -0.6, 0.8, 0]])
def test_a_slice_has_the_values_and_the_place_that_simpleitk_gives_it(tmp_path, orientation):
    changed = {"ImageOrientationPatient": orientation, "PixelSpacing": [0.75, 0.5]}
    path = save(tmp_path / "slice.dcm", slice_of(PIXELS, (-12.5, 3, 40), **changed))
    volume = read(path)
    assert volume.voxels.shape == (4, 5, 1)
    assert_as_simpleitk(volume, sitk.ReadImage(path))
    np.testing.assert_array_equal(volume.voxels[..., 0].T, PIXELS)


def test_rescale_slopes_may_be_fractions_and_differ_between_slices(tmp_path):
    save_stack(tmp_path, each=lambda k: {"RescaleSlope": [1, 0.5, 2, 3][k], "RescaleIntercept": 0})
    stored = np.stack([one.pixel_array.T for one in stack()], axis=2)
    np.testing.assert_array_equal(read(tmp_path).voxels, stored * [1, 0.5, 2, 3])


@pytest.mark.parametrize("heights", [[6, 0, 4, 2], [-804.5, -800.5, -802.5]])
@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, -1, 0], [1, 0, 0, 0, -1, 0]])
def test_a_series_is_sorted_by_position_as_simpleitk_does(tmp_path, write_series, heights, orientation):
    folder = write_series(tmp_path / "series", heights, ImageOrientationPatient=orientation)
    volume = read(folder)
    assert_as_simpleitk(volume, by_simpleitk(folder))
    np.testing.assert_array_equal(read_grid(folder).affine, volume.grid.affine)
    assert volume.grid.spacing_mm == (0.5, 0.75, 2)  # the distance of positions, not the thickness of 5 mm
    for name in ("report.txt", "DICOMDIR", ".hidden.dcm"):  # do not count, nor do folders
        (folder / name).write_bytes(bytes(128) + (b"DICM" if name == "DICOMDIR" else b"none"))
    write_series(folder / "other", [0, 1], SeriesInstanceUID="9.9")
    assert len(dicom_files(folder)) == read(folder).voxels.shape[2] == len(heights)


def test_a_series_that_is_no_volume_is_refused_by_name(tmp_path, write_series):
    write_series(tmp_path / "gap", [0, 2, 6, 8])
    write_series(tmp_path / "mixed", [0, 2], prefix="a")
    write_series(tmp_path / "mixed", [4, 6], prefix="b", SeriesInstanceUID="9.9")
    messages = {
        "gap": r"missing slices, 1 at.*\(-7\.5, 3\.25, 2\) and \(-7\.5, 3\.25, 6\)",
        "mixed": "4 single DICOM images, of mixed series.* or each series its own folder",
    }
    for (name, message), reader in product(messages.items(), (read, read_grid)):
        with pytest.raises(DataError, match=f"{name}: {message}"):
            reader(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "message", "content"),
    [
        ("half", "PixelData holds 20 bytes, where 4 × 5 pixels take 40", lambda whole: whole[:-20]),
        ("head", "not? ", lambda whole: whole[:200]),
        ("junk", r"not DICOM, or truncated \(", lambda whole: whole[:132] + b"j" * 99),
    ],
)
def test_broken_files_are_named_and_nothing_else_is_printed(tmp_path, write_series, capfd, kind, message, content):
    whole = slice_of(PIXELS, (-7.5, 3.25, 4), 9, PixelSpacing=[0.75, 0.5])
    whole = save(tmp_path / "whole.dcm", whole).read_bytes()
    path = write_series(tmp_path / "series", [0, 2]) / kind
    path.write_bytes(content(whole))
    for study in (path, path.parent):
        with pytest.raises(DataError, match=rf"series/{kind}: {message}"):
            read(study)
    assert capfd.readouterr() == ("", "")


def test_dicom_is_told_by_its_suffix_or_its_magic(tmp_path):
    save(tmp_path / "CT.1.3.12.16573", slice_of(PIXELS))
    contents = {"BROKEN.DCM": b"", "DICOMDIR": bytes(128) + b"DICM", "text": b"hello", "short": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    save(tmp_path / "000001", slice_of(np.zeros((5, 4))), bare=True)
    (tmp_path / "begins alike").write_bytes(b"\x08\0\x16\0 but is none" + bytes(200))
    names = {path.name for path in tmp_path.iterdir() if is_dicom(path)}
    assert names == {"CT.1.3.12.16573", "BROKEN.DCM", "000001"}


STUDIES = {
    "one series": ([[0, 2]], True),
    "a series with a gap": ([[0, 2, 4, 9]], True),
    "a series with time points": ([[0, 2, 0, 2]], True),
    "copies of one slice": ([[3, 3]], False),
    "a lone slice": ([[0]], False),
    "slices of many series": ([[0], [5], [9, 9]], False),
    "a few slices of two series": ([[0, 2, 4], [0, 2, 4]], False),
}


@pytest.mark.parametrize("broken", [False, True])  # it stays with its series, and is listed among single slices
@pytest.mark.parametrize(("series", "whole"), STUDIES.values(), ids=STUDIES)
def test_the_files_of_a_folder_are_one_study_or_one_each(tmp_path, write_series, series, whole, broken):
    for number, heights in enumerate(series):
        write_series(tmp_path, heights, prefix=str(number), SeriesInstanceUID=f"1.2.{number}")
    if broken:
        (tmp_path / "broken.dcm").write_bytes(b"broken")
    files = dicom_files(tmp_path)
    assert studies_among(tmp_path, files) == ([tmp_path] if whole else files, {})


@pytest.mark.parametrize("bare", [False, True])
def test_a_series_says_its_modality_and_nothing_about_how_it_is_shown_changes_its_hu(tmp_path, bare):
    plain = read(save_stack(tmp_path / "plain", bare=bare))
    shown = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 40, "WindowWidth": 80, "PixelPaddingValue": 0}
    odd = read(save_stack(tmp_path / "odd", bare=bare, **shown))
    np.testing.assert_array_equal(odd.voxels, plain.voxels)
    assert plain.modality == odd.modality == "CT"
    assert plain.notes == odd.notes == ()


def test_without_position_modality_or_scaling_a_lone_slice_is_read_as_it_is_and_says_so(tmp_path):
    bare = dict.fromkeys(("Modality", "RescaleSlope", "RescaleIntercept", "ImagePositionPatient"))
    volume = read(save(tmp_path / "a.dcm", slice_of(np.full((5, 4), -24), SOPClassUID="1.2.3.4", **bare)))
    assert volume.voxels.min() == volume.voxels.max() == 1000
    assert volume.modality is None
    np.testing.assert_array_equal(volume.grid.affine[:3, 3], 0)
    assert volume.notes == (
        "no ImagePositionPatient: it was put at the origin",
        "neither Modality nor RescaleSlope: the stored values were taken as they are",
    )


def test_real_slices_in_all_their_orientations(medgan_data):
    for path in dicom_files(medgan_data / "tcga_luad" / "dicom")[::11]:
        assert_as_simpleitk(read(path), sitk.ReadImage(path))


HU = np.zeros((32, 32))
OTHER = {"SeriesInstanceUID": f"{ROOT}.2", "SeriesNumber": 4}


def studies_of(folder):
    return studies_among(folder, dicom_files(folder))[0]


@pytest.fixture
def flat(tmp_path):
    """Two series in one folder, of four slices and of six."""
    save_stack(tmp_path)
    return save_stack(tmp_path, stack(6, first=21, **OTHER), "B{:03d}")


def test_each_series_of_a_flat_folder_is_a_study_that_can_be_named_read_and_hashed_as_in_one_of_its_own(flat):
    studies = find_images(flat).images
    assert studies == (flat / "series_1", flat / "series_4")
    assert [read_volume(path).grid.size[2] for path in studies] == [4, 6]
    assert [read_grid(path).size[2] for path in studies] == [4, 6]
    assert [len(dicom_files(path)) for path in studies] == [4, 6]
    assert all(is_series(path) and read(path).path == path for path in studies)
    assert len({file_hash(path) for path in (*studies, flat)}) == 3
    (flat / "alone").mkdir()
    for path in dicom_files(flat / "series_4"):
        shutil.copy(path, flat / "alone")
    np.testing.assert_array_equal(read(flat / "series_4").voxels, read(flat / "alone").voxels)
    assert file_hash(flat / "series_4") == file_hash(flat / "alone")


def test_a_flat_folder_as_such_is_refused_with_the_names_of_its_series(flat):
    with pytest.raises(DataError, match=r"2 volumes \(series_1, series_4\); name one, such as .*/series_1, or give"):
        read(flat)
    with pytest.raises(DataError, match=r"series_9: no series of that name; .* has series_1, series_4"):
        read(flat / "series_9")


def test_a_cohort_names_series_in_its_table_and_needs_a_folder_for_each_subject(flat, tmp_path):
    (tmp_path / "cohort.csv").write_text(
        "subject,domain,image\na,contrast,series_1\na,plain,series_4\nb,plain,series_9\n"
    )
    a, b, c = read_table(tmp_path / "cohort.csv").studies
    assert (a.image, b.image) == (flat / "series_1", flat / "series_4")
    with pytest.raises(DataError, match="series_9: no series of that name"):
        read_volume(c.image)
    (tmp_path / "cohort.csv").unlink()
    root = tmp_path.parent / "cohort"
    for domain in ("contrast", "plain"):
        shutil.copytree(flat, root / domain)
    pair = DomainPair(source=domain_named("contrast:CT"), target=domain_named("plain:CT"), paired=False)
    with pytest.raises(DataError, match=r"contrast holds several DICOM series and no folder for each subject"):
        find_cohort(root, pair)
    shutil.copytree(flat, root / "contrast" / "S1")
    for path in (*dicom_files(root / "contrast"), *dicom_files(root / "plain")):
        path.unlink()
    save_stack(root / "plain" / "S1")
    names = [(study.subject, study.image.name) for study in find_cohort(root, pair).studies]
    assert names == [("S1", "series_1"), ("S1", "series_4"), ("S1", "S1")]


def test_slices_that_lost_their_uid_are_not_taken_for_a_series(tmp_path):
    folder = save_stack(tmp_path, stack(12, each=lambda k: {"SeriesInstanceUID": ""} if k > 5 else {}))
    ends = set()
    for path in studies_of(folder):
        try:
            ends.add(read(path).grid.size[2])
        except DataError as error:
            ends.add(str(error).partition(", which other slices")[0])
    assert ends == {6, f"{folder / 'IM006.dcm'}: no SeriesInstanceUID"}


def test_a_folder_or_file_of_that_name_comes_first(flat):
    save_stack(flat / "series_1", stack(2))
    assert not is_series(flat / "series_1")
    assert read(flat / "series_1").grid.size[2] == 2
    names = [path.name for path in studies_of(flat)]
    assert names[0].startswith("series_1_")
    assert read(flat / names[0]).grid.size[2] == 4


@pytest.mark.parametrize("first", ["A", "Z"])
def test_objects_that_are_no_image_never_lose_the_series_and_are_no_study_alone(tmp_path, first):
    folder, alone = save_stack(tmp_path / "s"), tmp_path / "alone"
    beside = [save(folder / f"{first}{kind}", report(kind)) for kind in ("KO", "PR", "RTDOSE", "RTSTRUCT", "SEG", "SR")]
    studies, left = studies_among(folder, dicom_files(folder))
    assert (studies, list(left)) == ([folder], beside)
    assert (read(folder).grid.size[2], read(folder).notes) == (4, ())
    for path in beside:
        with pytest.raises(DataError, match=f"{path.name}: a .*, not an image"):
            read(path)
    save(alone / "a", report())
    studies, left = studies_among(alone, dicom_files(alone))
    assert (studies, list(left)) == ([], [alone / "a"])
    with pytest.raises(DataError, match=r"no DICOM image \(a: a DICOM object without pixels"):
        read(alone)


def test_copies_are_left_out_of_a_volume_but_not_of_single_slices(tmp_path):
    folder = save_stack(tmp_path / "s")
    shutil.copy(folder / "IM001.dcm", folder / "IM001 (1).dcm")
    assert read(folder).grid.size[2] == 4
    single = save(tmp_path / "t" / "a.dcm", slice_of(HU))
    shutil.copy(single, single.parent / "b.dcm")
    assert studies_among(single.parent, dicom_files(single.parent)) == ([single, single.parent / "b.dcm"], {})


@pytest.mark.parametrize("changed", [{"PixelData": bytes(2048)}, {"RescaleIntercept": -1000}])
def test_what_differs_is_no_copy(tmp_path, changed):
    folder = save_stack(tmp_path)
    save(folder / "again.dcm", stack(each=lambda k: changed if k == 1 else {})[1])
    with pytest.raises(DataError, match="duplicate positions"):
        read(folder)


UIDS = {
    "all agree": ({}, "stacked"),
    "another study": ({"StudyInstanceUID": f"{ROOT}.8"}, "refused"),
    "another frame of reference": ({"FrameOfReferenceUID": f"{ROOT}.8"}, "refused"),
    "another patient": ({"PatientID": "P2"}, "single"),
    "another size": ({"Rows": 16}, "single"),
    "another modality": ({"Modality": "PT"}, "single"),
    "another orientation": ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "single"),
}


@pytest.mark.parametrize(("changed", "ends"), UIDS.values(), ids=UIDS)
def test_slices_with_a_uid_each_are_stacked_where_all_else_agrees(tmp_path, changed, ends):
    uid = lambda k: {"SeriesInstanceUID": f"{ROOT}.3.{k}", **(changed if k > 1 else {})}  # noqa: E731
    folder = save_stack(tmp_path / "s", stack(each=uid))
    assert (studies_of(folder) == [folder]) is (ends != "single")
    if ends == "refused":
        with pytest.raises(DataError, match="s: 4 slices lie like one volume, but have no common StudyInstanceUID"):
            read(folder)


def test_patients_that_share_uids_are_never_stacked(tmp_path):
    """Anonymisers that give everyone the same UIDs: even positions, but two bodies."""
    save_stack(tmp_path, stack(step=10))
    second = lambda k: {"ImagePositionPatient": [0, 0, 10 * k + 5], "PatientID": "P2"}  # noqa: E731
    save_stack(tmp_path, stack(first=21, each=second), "B{}")
    assert [path.name[:9] for path in studies_of(tmp_path)] == ["series_1_", "series_1_"]


def test_a_scout_that_lies_across_is_left_out_whatever_it_is_called(tmp_path):
    folder = save_stack(tmp_path, stack(8))
    save(folder / "scout", slice_of(HU, n=99, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
    assert read(folder).grid.size[2] == 8
    assert read(folder).notes == ("left out beside the slices: 1, scout (a localizer, across the others)",)


def test_localizers_and_captures_are_read_where_there_is_nothing_else_and_say_what_they_are(tmp_path):
    scouts = save_stack(tmp_path / "s", Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    captures = save_stack(tmp_path / "c", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert read(scouts).notes == ("a localizer, by its header",)
    assert read(captures).notes == read(captures / "IM000.dcm").notes == ("a secondary capture, by its header",)


def test_a_lone_slice_beside_a_volume_is_a_study_of_its_own(tmp_path):
    folder = save_stack(tmp_path)
    lone = save(folder / "key.dcm", slice_of(HU, n=99, **OTHER))
    assert studies_of(folder) == [folder / "series_1", lone]
