import shutil

import numpy as np
import pytest

from dicom_files import ROOT, report, save, save_stack, slice_of, stack
from medgan.data.dicom import dicom_files, read, read_grid, studies_among
from medgan.data.dicom_folder import is_series, part
from medgan.data.domains import DomainPair, domain_named
from medgan.data.hashes import file_hash
from medgan.data.listing import find_images
from medgan.data.studies import find_cohort
from medgan.data.tables import read_table
from medgan.data.volumes import read_volume
from medgan.errors import DataError

HU = np.zeros((32, 32))
OTHER = {"SeriesInstanceUID": f"{ROOT}.2", "SeriesNumber": 4}


def parted(folder):
    return part(folder, dicom_files(folder))


@pytest.fixture
def flat(tmp_path):
    """Two series in one folder, of four slices and of six."""
    save_stack(tmp_path)
    return save_stack(tmp_path, stack(6, first=21, **OTHER), "B{:03d}")


def test_each_series_of_a_flat_folder_is_a_study_that_can_be_named_read_and_hashed(flat):
    studies = find_images(flat).images
    assert studies == (flat / "series_1", flat / "series_4")
    assert [read_volume(path).grid.size[2] for path in studies] == [4, 6]
    assert [read_grid(path).size[2] for path in studies] == [4, 6]
    assert [len(dicom_files(path)) for path in studies] == [4, 6]
    assert all(is_series(path) and read(path).path == path for path in studies)
    assert len({file_hash(path) for path in (*studies, flat)}) == 3


def test_a_series_is_the_same_in_a_flat_folder_and_in_one_of_its_own(flat, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in dicom_files(flat / "series_4"):
        shutil.copy(path, alone)
    np.testing.assert_array_equal(read(flat / "series_4").voxels, read(alone).voxels)
    assert file_hash(flat / "series_4") == file_hash(alone)


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
    nameless, named = sorted(parted(folder).series, key=lambda one: len(one.headers[0].series[2]))
    with pytest.raises(DataError, match=r"IM006\.dcm: no SeriesInstanceUID, which other slices of its study here have"):
        read(folder / nameless.name)
    assert read(folder / named.name).grid.size[2] == 6


def test_a_folder_or_file_of_that_name_comes_first(flat):
    save_stack(flat / "series_1", stack(2))
    assert not is_series(flat / "series_1")
    assert read(flat / "series_1").grid.size[2] == 2
    names = [path.name for path in parted(flat).studies()]
    assert names[0].startswith("series_1_")
    assert read(flat / names[0]).grid.size[2] == 4


@pytest.mark.parametrize("kind", ["SR", "SEG", "RTSTRUCT", "RTDOSE", "PR", "KO"])
@pytest.mark.parametrize("first", ["A", "Z"])
def test_an_object_that_is_no_image_never_loses_the_series(tmp_path, kind, first):
    beside = save(save_stack(tmp_path / "s") / f"{first}1", report(kind))
    folder = beside.parent
    studies, left = studies_among(folder, dicom_files(folder))
    assert studies == [folder]
    assert list(left) == [beside]
    assert read(folder).grid.size[2] == 4
    assert read(folder).notes == ()
    with pytest.raises(DataError, match=f"{first}1: a .*, not an image"):
        read(beside)


def test_objects_alone_are_no_study(tmp_path):
    save(tmp_path / "a", report())
    studies, left = studies_among(tmp_path, dicom_files(tmp_path))
    assert (studies, list(left)) == ([], [tmp_path / "a"])
    with pytest.raises(DataError, match=r"no DICOM image \(a: a DICOM object without pixels"):
        read(tmp_path)


def test_copies_are_left_out_of_a_volume_and_counted_but_not_of_single_slices(tmp_path):
    folder = save_stack(tmp_path / "s")
    shutil.copy(folder / "IM001.dcm", folder / "IM001 (1).dcm")
    assert read(folder).notes == ("left out beside the slices: 1, IM001 (1).dcm (an exact copy of IM001.dcm)",)
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
    assert parted(folder).whole is (ends != "single")
    if ends == "refused":
        with pytest.raises(DataError, match="s: 4 slices lie like one volume, but have no common StudyInstanceUID"):
            read(folder)
    if ends == "stacked":
        assert read(folder).notes == ("stacked from 4 slices that have a SeriesInstanceUID each",)


def test_patients_that_share_uids_are_never_stacked(tmp_path):
    """Anonymisers that give everyone the same UIDs: even positions, but two bodies."""
    save_stack(tmp_path, stack(step=10))
    save_stack(
        tmp_path, stack(first=21, each=lambda k: {"ImagePositionPatient": [0, 0, 10 * k + 5], "PatientID": "P2"}), "B{}"
    )
    assert [one.name[:9] for one in parted(tmp_path).series] == ["series_1_", "series_1_"]
    assert len(parted(tmp_path).series) == 2


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
    assert parted(folder).studies() == [folder / "series_1", lone]
