from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dicom_files import save, slice_of
from medgan.data.dicom_header import Slice, in_order, is_stack, read_header, series_affine
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


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_modality_is_told_by_the_storage_class_where_there_is_no_other_word(tmp_path, modality):
    silent = slice_of(HU, Modality=modality)
    del silent.Modality
    assert read_header(save(tmp_path / "b.dcm", silent)).slice().modality == modality


@pytest.mark.parametrize("modality", ["MR", "NM", "OT"])
def test_other_modalities_than_ct_and_pet_do_without_scaling(tmp_path, modality):
    bare = header(tmp_path, Modality=modality, RescaleSlope=None, RescaleIntercept=None)
    assert bare.slice().scaling is None
    assert header(tmp_path, Modality=modality, RescaleSlope="2.5").slice().scaling == (2.5, -1024)


REFUSED = {
    "PET without slope": ({"Modality": "PT", "RescaleSlope": None}, DataError, "no RescaleSlope, so"),
    "CT without intercept": ({"RescaleIntercept": None}, DataError, "no RescaleIntercept, so"),
    "MR with half of it": ({"Modality": "MR", "RescaleSlope": None}, DataError, "no RescaleSlope, so"),
    "an endless position": ({"ImagePositionPatient": ["inf", 0, 0]}, DataError, "ImagePositionPatient is inf"),
    "no spacing": ({"PixelSpacing": ""}, GeometryError, "no PixelSpacing"),
    "colours": ({"SamplesPerPixel": 3}, DataError, "the pixels are RGB colours"),
    "half a frame": ({"NumberOfFrames": 0}, DataError, "multi-frame DICOM \\(0 frames\\)"),
    "a modality table": ({"ModalityLUTSequence": []}, DataError, "ModalityLUTSequence"),
    "enhanced CT": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, DataError, "enhanced DICOM"),
}
"""More of them are rows of ``hostile.dicom_cases``."""


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


FOLDER = Path("study")


def one(position, name="slice", *, size=(4, 5), spacing=(0.5, 0.75, 1), turn=None, positioned=True, **more):
    direction = np.eye(3) if turn is None else turn
    return Slice(FOLDER / name, size, np.array(spacing), np.array(position, float), direction, positioned, **more)


def stack(heights, **options):
    return [one((1, 2, z), f"{number}.dcm", **options) for number, z in enumerate(heights)]


@given(
    st.permutations(range(6)),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.floats(0.3, 10),
    st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_slices_are_ordered_along_their_normal_whatever_their_names_and_orientation(order, turn, spacing, start):
    rotation = Rotation.from_rotvec(turn).as_matrix()
    slices = [one(np.array(start) + z * spacing * rotation[:, 2], str(z), turn=rotation) for z in order]
    ordered = in_order(FOLDER, slices)
    assert [part.path.name for part in ordered] == list("012345")
    affine = series_affine(ordered)
    for z, part in enumerate(ordered):
        np.testing.assert_allclose(affine @ [0, 0, z, 1], [*(part.origin_mm * [-1, -1, 1]), 1], atol=1e-6)


@pytest.mark.parametrize("heights", [[0], [0, 2], [5, 3, 1], [0.0, 0.7, 1.5, 2.2, 3.0], [-766.5, -768.5, -764.5]])
def test_even_positions_pass_with_the_rounding_that_files_have(heights):
    assert [part.origin_mm[2] for part in in_order(FOLDER, stack(heights))] == sorted(heights)


def test_the_rounding_of_spacings_and_directions_is_no_other_grid():
    turn = Rotation.from_rotvec([0, 0, 5e-6]).as_matrix()
    slices = [*stack([0], size=(512, 512)), *stack([2], size=(512, 512), spacing=(0.50004, 0.75004, 1), turn=turn)]
    assert len(in_order(FOLDER, slices)) == 2


def test_a_lone_slice_keeps_its_own_spacing_and_needs_no_position():
    lone = one((1, 2, 3), spacing=(1, 1, 5), positioned=False)
    np.testing.assert_array_equal(series_affine(in_order(FOLDER, [lone]))[:3, 2], [0, 0, 5])


TURNED = Rotation.from_euler("x", 90, degrees=True).as_matrix()
A_LITTLE = Rotation.from_rotvec([0, 0, 8e-4]).as_matrix()

NO_VOLUME = {
    "one missing": (stack([0, 2, 6, 8]), GeometryError, r"missing slices, 1 at a spacing of 2 mm.*\(1, 2, 2\) and \(1"),
    "many missing": (stack([0, 1, 2, 12, 14]), GeometryError, r"missing slices, 10 at.*\(1, 2, 2\) and \(1, 2, 12\)"),
    "uneven": (stack([0, 2, 4, 7]), GeometryError, r"uneven slice spacing, 2 to 3 mm \(between \(1, 2, 4\)"),
    "drifting": (stack([0, 1, 2.1, 3.3, 4.6]), GeometryError, r"uneven slice spacing"),
    "duplicate": (stack([0, 2, 2, 4]), GeometryError, r"duplicate positions, 1\.dcm and 2\.dcm lie at one place"),
    "all at one place": (stack([3, 3]), GeometryError, r"duplicate positions"),
    "tilted": ([one((0, 0.4 * z, 2 * z)) for z in range(5)], GeometryError, r"sheared.* 11\.31° off the slice normal"),
    "two spacings": (
        stack([0, 4, 8, 12, 16, 17.08, 24.08, 31.08, 38.08, 45.08]),
        GeometryError,
        r"2 slice spacings, 4 mm from \(1, 2, 0\) and 7 mm from \(1, 2, 17\.08\) on; put the slices of each range",
    ),
    "two spacings, one twice the other": (stack([0, 2, 4, 6, 10, 14, 18]), GeometryError, r"2 slice spacings, 2 mm"),
    "every other one missing in part": (stack([0, 2, 4, 6, 8, 12, 14, 16]), GeometryError, r"missing slices, 1 at"),
    "phases at one place": (
        [*stack([0, 2], phases={"EchoTime": "5"}), *stack([0, 2], phases={"EchoTime": "20"})],
        GeometryError,
        r"duplicate positions, .* of EchoTime (5 and 20|20 and 5); put the files of each phase",
    ),
    "phases in turns": (
        [*stack([0, 4, 8], phases={"EchoNumbers": "1"}), *stack([2, 6, 10], phases={"EchoNumbers": "2"})],
        GeometryError,
        r"slices of EchoNumbers 1, 2 in turns",
    ),
    "mixed frames": ([*stack([0, 2]), *stack([4], frame="9")], GeometryError, r"mixed frames of reference, so they"),
    "mixed modalities": (
        [*stack([0], modality="CT"), *stack([2], modality="MR")],
        DataError,
        "mixed modalities, MR and",
    ),
    "scaled in part": ([*stack([0, 2]), *stack([4], scaling=(1, 0))], DataError, r"only one has a RescaleSlope"),
    "mixed sizes": ([*stack([0, 2]), *stack([4], size=(8, 8))], GeometryError, r"mixed sizes, \(8, 8\) and \(4, 5\)"),
    "mixed spacings": ([*stack([0, 2]), *stack([4], spacing=(1, 1, 1))], GeometryError, r"mixed pixel spacings"),
    "mixed orientations": ([*stack([0, 2]), *stack([4], turn=TURNED)], GeometryError, r"mixed orientations"),
    "spacings a little apart": (
        [*stack([0, 2], size=(512, 512)), *stack([4], size=(512, 512), spacing=(0.5, 0.7504, 1))],
        GeometryError,
        r"differ a little in pixel spacing or orientation, so their corners lie 0\.41 pixels apart",
    ),
    "turned a little": (
        [*stack([0, 2], size=(512, 512)), *stack([4], size=(512, 512), turn=A_LITTLE)],
        GeometryError,
        r"corners lie 0\.7\d pixels apart",
    ),
    "nowhere": (stack([0, 2, 4], positioned=False), DataError, r"no ImagePositionPatient"),
}


@pytest.mark.parametrize(("slices", "kind", "message"), NO_VOLUME.values(), ids=NO_VOLUME)
def test_slices_that_are_no_upright_even_volume_are_refused_by_name(slices, kind, message):
    with pytest.raises(kind, match=rf"^study.*{message}"):
        in_order(FOLDER, slices[::-1])


@given(st.floats(-30, 30).filter(lambda degrees: abs(degrees) > 3), st.floats(0.5, 10), st.integers(2, 40))
def test_any_tilt_of_a_gantry_is_noticed(degrees, spacing, count):
    slope = np.tan(np.radians(degrees))
    with pytest.raises(GeometryError, match="tilted gantry"):
        in_order(FOLDER, [one((0, slope * spacing * z, spacing * z)) for z in range(count)])


def test_a_stack_is_four_even_positions():
    for heights in ([0, 2, 4, 6], [0, 2, 2, 4, 6, 6], [0, 2, 4, 6, 8, 10, 12, 60]):
        assert is_stack(stack(heights)), heights
    for heights in ([0, 2, 4], [0, 2, 4, 60], [0, 1, 4, 9, 16, 25, 36, 49], [0, 0, 0, 0]):
        assert not is_stack(stack(heights)), heights


@pytest.mark.parametrize("acquisitions", ["1122", "1234", "112233"])
def test_acquisitions_one_after_the_other_are_one_volume(acquisitions):
    slices = [one((0, 0, z), phases={"AcquisitionNumber": number}) for z, number in enumerate(acquisitions)]
    assert len(in_order(FOLDER, slices)) == len(acquisitions)
