import os

import numpy as np
import pytest

from medgan.data.listing import find_images, passed_over_lines
from medgan.data.volumes import read_volume
from medgan.errors import DataError

CT = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def test_images_are_found_at_any_depth_broken_ones_too_and_nothing_else(tmp_path, studies, write_nifti, write_series):
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    write_nifti(deep / "ct.nii", CT)
    write_series(deep / "singles", [3], SeriesInstanceUID="1.7")
    write_series(deep / "singles", [9], SeriesInstanceUID="1.8", prefix="x")
    for name in ("broken.nii.gz", "broken.dcm", "broken.png", "scan.nrrd"):
        (deep / name).write_bytes(b"not at all")
    (deep / "lost.nii").symlink_to(deep / "gone.nii")
    for name in ("cohort.csv", "ct.json", "notes.txt", ".ct.nii.gz.1a2b.part", ".hidden.nii", "DICOMDIR"):
        (deep / name).write_bytes(bytes(128) + b"DICM")
    np.save(deep / "ct.npy", CT)
    (tmp_path / ".cache").mkdir()
    write_nifti(tmp_path / ".cache" / "ct.nii", CT)
    names = ["broken.dcm", "broken.nii.gz", "broken.png", "ct.nii", "lost.nii", "scan.nrrd"]
    names += ["singles/99.dcm", "singles/x99.dcm"]
    found = find_images(tmp_path).images
    assert list(found) == sorted([*studies.values(), *(deep / name for name in names)])
    for path in [path for path in found if path.stem in ("broken", "lost", "scan")]:
        with pytest.raises(DataError, match=path.name):
            read_volume(path)


def test_linked_folders_are_followed_once_and_in_no_circle(tmp_path, write_nifti):
    (tmp_path / "root" / "one").mkdir(parents=True)
    write_nifti(tmp_path / "root" / "one" / "ct.nii", CT)
    (tmp_path / "elsewhere").mkdir()
    write_nifti(tmp_path / "elsewhere" / "ct.nii", CT)
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "one" / "circle").symlink_to(tmp_path / "root")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "root" / "one")
    found = find_images(tmp_path / "root").images
    assert len({path.resolve() for path in found}) == len(found) == 2


def test_images_are_sought_in_a_folder_that_exists(tmp_path):
    (tmp_path / "file").touch()
    for name in ("gone", "file"):
        with pytest.raises(DataError, match=rf"{name}: not a folder"):
            find_images(tmp_path / name)


def test_the_real_slices_of_many_patients_are_single_studies_and_the_series_is_one(medgan_data):
    assert len(find_images(medgan_data / "tcga_luad").images) == 66
    assert medgan_data / "torso_ct" / "dicom_series" in find_images(medgan_data / "torso_ct").images
    assert len(find_images(medgan_data / "torso_ct").images) == 6


def test_what_is_neither_read_nor_known_to_be_no_image_is_passed_over_with_its_reason(tmp_path, write_nifti):
    write_nifti(tmp_path / "ct.nii", CT)
    for name in ("scan.npy", "all.zip", "README", "Photo.JPG", "volume.PAR", ".hidden.nii.gz", "DICOMDIR"):
        (tmp_path / name).write_bytes(b"something")
    for quiet in ("notes.txt", "ct.json", "._ct.nii", ".DS_Store", "run.log"):
        (tmp_path / quiet).write_bytes(b"something")
    (tmp_path / "nothing").touch()
    os.mkfifo(tmp_path / "pipe")
    for link, target in (("lost", "gone"), ("again", "."), ("back", "..")):
        (tmp_path / link).symlink_to(target)
    listing = find_images(tmp_path)
    assert listing.images == (tmp_path / "ct.nii",)
    twice = "a link to a folder that is listed already, or that holds this one"
    assert {path.name: why for path, why in listing.passed_over.items()} == {
        ".hidden.nii.gz": "hidden",
        "DICOMDIR": "an index of DICOM files, no image",
        "Photo.JPG": "a picture that medgan does not read; give PNG or TIFF",
        "README": "not a file that medgan knows",
        "again": twice,
        "all.zip": "packed; unpack it first",
        "back": twice,
        "lost": "a link to a file that is not there",
        "nothing": "an empty file",
        "pipe": "a named pipe, not a file",
        "scan.npy": "numbers without a voxel grid; save them as NIfTI",
        "volume.PAR": "perhaps a Philips volume, which medgan does not read; convert it with `dcm2niix`",
    }


def test_files_that_break_the_listing_of_their_folder_break_no_other(tmp_path, monkeypatch, write_nifti, write_series):
    ct = write_nifti(tmp_path / "ct.nii", CT)
    write_series(tmp_path / "odd", [0])

    def breaks(*_):
        raise ValueError("a tag that nobody foresaw")

    monkeypatch.setattr("medgan.data.dicom._part", breaks)
    assert find_images(tmp_path).images == (ct, tmp_path / "odd")


def test_people_are_told_how_many_of_each_kind_and_the_first_names():
    passed_over = {f"{number}.zip": "packed" for number in range(4)} | {"x": "empty"}
    assert list(passed_over_lines(passed_over, most=2)) == [
        "passed over, empty (1): x",
        "passed over, packed (4): 0.zip, 1.zip, and 2 more",
    ]


def test_folders_that_cannot_be_listed_and_files_of_one_that_cannot_be_entered_are_named(
    shared_folder, bound_by_permissions, write_nifti
):
    ct = write_nifti(shared_folder / "ct.nii", CT)
    shut = shared_folder / "shut"
    shut.mkdir()
    inside = [write_nifti(shut / "a.nii", CT), shut / "b.dcm", shut / "folder.nii", shut / "unknown"]
    inside[1].write_bytes(b"any")
    inside[2].mkdir()
    inside[3].write_bytes(b"any")
    shut.chmod(0o444)
    closed = shared_folder / "closed"
    closed.mkdir(0)
    with bound_by_permissions():
        assert set(find_images(shared_folder).images) == {ct, closed, *inside}
        assert find_images(closed).images == (closed,)
        for path in (closed, *inside):
            with pytest.raises(DataError, match=rf"{path.name}: cannot be .* \(Permission denied\)"):
                read_volume(path)
