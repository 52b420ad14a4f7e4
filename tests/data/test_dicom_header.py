import numpy as np
import pytest

from dicom_files import report, save, slice_of
from medgan.data.dicom_header import read_header
from medgan.errors import DataError, GeometryError

HU = np.zeros((5, 4))


def header(folder, **changed):
    return read_header(save(folder / "a.dcm", slice_of(HU, **changed)))


def test_a_header_says_whose_it_is_where_it_lies_and_how_it_is_scaled(tmp_path):
    found = header(tmp_path, PixelSpacing=[0.75, 0.5], SpacingBetweenSlices=2, AcquisitionNumber=3)
    one = found.slice()
    assert found.series == ("P1", "1.2.826.0.1.0", "1.2.826.0.1.1")
    assert (found.number, found.object, found.aside) == (1, "", "")
    assert one.size == (4, 5)
    np.testing.assert_array_equal(one.spacing_mm, [0.5, 0.75, 2])  # between columns, between rows, between slices
    np.testing.assert_array_equal(one.direction, np.eye(3))
    assert (one.modality, one.scaling, one.positioned) == ("CT", (1, -1024), True)
    assert one.phases["AcquisitionNumber"] == "3"


def test_rounded_cosines_are_made_unit_vectors_again(tmp_path):
    direction = header(tmp_path, ImageOrientationPatient=[0.999, 0.0175, 0, -0.0175, 0.999, 0]).slice().direction
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(direction, axis=0), 1)


@pytest.mark.parametrize(("modality", "kind"), [("CT", "CT"), ("MR", "MR")])
def test_the_modality_is_told_by_the_storage_class_where_there_is_no_other_word(tmp_path, modality, kind):
    plain = save(tmp_path / "a.dcm", slice_of(HU, Modality=modality))
    silent = slice_of(HU, Modality=modality)
    del silent.Modality
    assert read_header(save(tmp_path / "b.dcm", silent)).slice().modality == read_header(plain).slice().modality == kind


@pytest.mark.parametrize("modality", ["MR", "NM", "OT"])
def test_other_modalities_than_ct_and_pet_do_without_scaling(tmp_path, modality):
    bare = header(tmp_path, Modality=modality, RescaleSlope=None, RescaleIntercept=None)
    assert bare.slice().scaling is None
    assert header(tmp_path, Modality=modality, RescaleSlope="2.5").slice().scaling == (2.5, -1024)


REFUSED = {
    "PET without slope": ({"Modality": "PT", "RescaleSlope": None}, DataError, "no RescaleSlope, so"),
    "CT without intercept": ({"RescaleIntercept": None}, DataError, "no RescaleIntercept, so"),
    "MR with half of it": ({"Modality": "MR", "RescaleSlope": None}, DataError, "no RescaleSlope, so"),
    "an infinite slope": ({"RescaleSlope": "inf"}, DataError, "RescaleSlope is inf, where 1"),
    "a slope with a comma": ({"RescaleIntercept": None, "Modality": "MR"}, DataError, "no RescaleIntercept"),
    "an endless position": ({"ImagePositionPatient": ["inf", 0, 0]}, DataError, "ImagePositionPatient is inf"),
    "no spacing": ({"PixelSpacing": ""}, GeometryError, "no PixelSpacing"),
    "no orientation": ({"ImageOrientationPatient": ""}, GeometryError, "no ImageOrientationPatient"),
    "half a frame": ({"NumberOfFrames": 0}, DataError, "multi-frame DICOM \\(0 frames\\)"),
    "a modality table": ({"ModalityLUTSequence": []}, DataError, "ModalityLUTSequence"),
    "electron density": ({"RescaleType": "ED"}, DataError, "no HU \\(RescaleType ED\\)"),
    "enhanced CT": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, DataError, "enhanced DICOM"),
    "a CT scout": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, DataError, "a localizer"),
}


@pytest.mark.parametrize(("changed", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_header_lacks_is_refused_by_name_and_its_series_is_still_known(tmp_path, changed, kind, message):
    found = header(tmp_path, **changed)
    assert found.series[2] == "1.2.826.0.1.1"
    with pytest.raises(kind, match=rf"a\.dcm: .*{message}"):
        found.slice()


def test_a_decimal_comma_is_no_number(tmp_path):
    path = save(tmp_path / "a.dcm", slice_of(HU, RescaleSlope="1.5"))
    path.write_bytes(path.read_bytes().replace(b"1.5 ", b"1,5 "))
    with pytest.raises(DataError, match="RescaleSlope is no number"):
        read_header(path).slice()


@pytest.mark.parametrize("kind", ["RescaleType", "HU"])
def test_a_ct_says_hu_or_nothing(tmp_path, kind):
    found = header(tmp_path, RescaleType="" if kind == "RescaleType" else kind).slice()
    assert found.size == HU.T.shape


@pytest.mark.parametrize("modality", ["SR", "RTSTRUCT", "PR", "SEG", "RTDOSE"])
def test_objects_are_no_images(tmp_path, modality):
    found = read_header(save(tmp_path / "a", report(modality)))
    assert found.object
    with pytest.raises(DataError, match=r"a: a .*, not an image; give the images that belong to it"):
        found.slice()
