import numpy as np
import pytest

from medgan.phantom.abdomen import _bones, _Trunk, _vessels, _wall, draw_abdomen
from medgan.phantom.anatomy import Layer
from medgan.phantom.space import Space
from medgan.phantom.tissues import LESIONS, Tissue

SPACE = Space.regular((73, 61, 13), (5.0, 5.0, 10.0))
MIDDLE = 47.5
"""Halfway from left to right, in voxels."""


def inside(shape):
    return shape.distance(SPACE) < 0


@pytest.fixture(params=range(3))
def trunk(request):
    return _Trunk.draw(np.random.default_rng(request.param))


@pytest.mark.parametrize("seed", range(4))
def test_the_build_is_a_persons_and_lesions_are_one_to_four_of_one_kind_within_the_liver(seed):
    anatomy = draw_abdomen(np.random.default_rng(seed), lesions=True)
    assert all(0.85 < scale < 1.25 for scale in anatomy.build)
    assert np.abs(anatomy.coordinates(SPACE).x - SPACE.x / anatomy.build[0]).max() < 10
    liver = next(layer.shape for layer in anatomy.layers if layer.tissue == Tissue.LIVER)
    masses = [layer for layer in anatomy.layers if layer.tissue in LESIONS]
    assert 1 <= len(masses) <= 4
    assert len({mass.tissue for mass in masses}) == 1
    space = Space.regular((56, 48, 40), (5.0, 5.0, 5.0))
    for mass in masses:
        assert (liver.distance(space)[mass.shape.distance(space) < 0] < 0).all()


def test_the_surfaces_lie_within_each_other_and_the_body_fits_the_field_of_view(trunk):
    skin, muscle, cavity, belly = map(inside, (trunk.skin, trunk.muscle, trunk.cavity, trunk.belly))
    assert belly.any()
    for inner, outer in ((belly, cavity), (cavity, muscle), (muscle, skin)):
        assert not (inner & ~outer).any()
    (x0, y0, _), (x1, y1, _) = trunk.muscle.low, trunk.muscle.high
    assert 1.2 < (x1 - x0) / (y1 - y0) < 1.7  # wider than deep
    assert trunk.skin.high[0] * 1.06 < 365 / 2
    # Lung lies at the top only, above the diaphragm.
    lung = inside(next(layer.shape for layer in _wall(np.random.default_rng(0), trunk) if layer.tissue is Tissue.LUNG))
    assert lung[..., -1].sum() > 50
    assert not lung[..., :4].any()
    assert not (lung & belly).any()


def test_vertebrae_enclose_a_canal_with_room_for_discs_and_ribs_ring_the_cavity_without_entering_it(trunk):
    layers = list(_bones(trunk))
    canal, ribs = (
        inside(next(layer.shape for layer in layers if layer.tissue is tissue))
        for tissue in (Tissue.SPINAL_CANAL, Tissue.RIB)
    )
    bones = [layer.shape for layer in layers if layer.tissue is Tissue.CORTICAL_BONE]
    assert not any((inside(bone) & canal).any() for bone in bones)
    assert all(25 < step < 40 for step in np.diff([bone.high[2] for bone in bones]))
    assert ribs[:36].any()
    assert ribs[37:].any()
    assert not (ribs & (inside(trunk.cavity) | ~inside(trunk.skin))).any()


def test_a_padded_organ_is_laid_over_its_coat_of_fat(trunk):
    coat, organ = trunk.padded(Layer(Tissue.LIVER, trunk.belly.grown(-20.0)), 3.0)
    assert (coat.tissue, organ.tissue) == (Tissue.VISCERAL_FAT, Tissue.LIVER)
    assert not (inside(organ.shape) & ~inside(coat.shape)).any()
    assert not (inside(coat.shape) & ~inside(trunk.belly)).any()


def test_organs_lie_where_those_of_a_patient_do(subject, centre):
    assert centre(Tissue.LIVER)[0] > MIDDLE + 8
    assert centre(Tissue.GALLBLADDER)[0] > MIDDLE
    assert centre(Tissue.STOMACH_WALL)[0] < MIDDLE
    assert centre(Tissue.SPLEEN)[0] < MIDDLE - 15
    assert centre(Tissue.SPLEEN)[1] < centre(Tissue.STOMACH_WALL)[1]
    assert centre(Tissue.KIDNEY_CORTEX)[1] < centre(Tissue.PANCREAS)[1]
    x = np.argwhere(subject["labels"] == Tissue.KIDNEY_CORTEX)[:, 0]  # one on each side of the spine
    right, left = (x > MIDDLE + 5).sum(), (x < MIDDLE - 5).sum()
    assert right + left > 0.95 * x.size
    assert 0.5 < right / left < 2


def test_the_medulla_lies_within_the_cortex_and_gas_floats_in_front_of_what_the_bowel_holds(subject):
    labels = subject["labels"]
    x, y, z = np.argwhere(labels == Tissue.KIDNEY_MEDULLA).T
    beside = np.stack([labels[x + dx, y + dy, z] for dx, dy in [(1, 0), (-1, 0), (0, 1), (0, -1)]])
    kidney = (Tissue.KIDNEY_MEDULLA, Tissue.KIDNEY_CORTEX, Tissue.VISCERAL_FAT, Tissue.URINE, Tissue.RENAL_VEIN)
    assert np.isin(beside, (*kidney, Tissue.ARTERY)).mean() > 0.9
    gas, content = labels == Tissue.GAS, labels == Tissue.CONTENT
    assert (gas[:, 1:] & content[:, :-1]).sum() > 5 * (gas[:, :-1] & content[:, 1:]).sum()


@pytest.mark.parametrize(
    ("tissue", "least_ml", "most_ml"),
    [
        (Tissue.LIVER, 700, 1900),
        (Tissue.SPLEEN, 60, 320),
        (Tissue.KIDNEY_CORTEX, 80, 300),
        (Tissue.PANCREAS, 20, 80),
        (Tissue.AORTA, 20, 60),
    ],
)
def test_organs_have_the_volume_of_real_ones_in_view(subject, tissue, least_ml, most_ml):
    voxel_ml = (365 / 96) ** 2 * 5 / 1000
    assert least_ml < (subject["labels"] == tissue).sum() * voxel_ml < most_ml


def test_all_vessels_are_laid_and_the_great_ones_lie_before_the_spine_and_pass_every_slice(subject, centre):
    rng = np.random.default_rng(2)
    laid = {layer.tissue for layer in _vessels(rng, _Trunk.draw(rng))} - {Tissue.VISCERAL_FAT}
    assert laid == {Tissue.AORTA, Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.RENAL_VEIN, Tissue.ARTERY}
    assert centre(Tissue.AORTA)[0] < centre(Tissue.VENA_CAVA)[0]
    for vessel in (Tissue.AORTA, Tissue.VENA_CAVA):
        assert centre(vessel)[1] > centre(Tissue.DISC)[1]
        assert (subject["labels"] == vessel).any(axis=(0, 1)).all()
    area_mm2 = (subject["labels"] == Tissue.AORTA).sum(axis=(0, 1)) * (365 / 96) ** 2
    assert 14 < 2 * np.sqrt(np.median(area_mm2) / np.pi) < 27  # about two centimetres wide
    # The portal vein leads to the liver on the right.
    assert np.argwhere(subject["labels"] == Tissue.PORTAL_VEIN)[:, 0].max() > centre(Tissue.VENA_CAVA)[0]
