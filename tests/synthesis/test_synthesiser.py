import numpy as np
import pytest

from medgan.synthesis.insertion import InsertionConfig, Synthetic
from medgan.synthesis.methods import BASELINES, baseline


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("placement", ["add", "replace"])
def test_every_method_keeps_to_the_interface(name, placement, shape, domain, with_lesions):
    cases = with_lesions(shape, 3, radii=(2,))
    before = [(case.image.voxels.copy(), case.labels.copy()) for case in cases]
    synthetic = baseline(name, InsertionConfig(placement=placement), domain).synthesise(
        cases[0], cases, np.random.default_rng(0)
    )
    assert isinstance(synthetic, Synthetic)
    assert (synthetic.how["method"], synthetic.parents[0]) == (name, "s0")
    assert set(synthetic.parents) <= {"s0", "s1", "s2"}
    case = synthetic.case
    assert (case.image.voxels.dtype, case.labels.dtype) == (np.float32, np.uint8)
    assert (case.image.bounds, case.image.body) == (cases[0].image.bounds, cases[0].image.body)
    assert (case.image.voxels != cases[0].image.voxels).any()
    for given, (voxels, labels) in zip(cases, before, strict=True):
        np.testing.assert_array_equal(given.image.voxels, voxels)
        np.testing.assert_array_equal(given.labels, labels)
