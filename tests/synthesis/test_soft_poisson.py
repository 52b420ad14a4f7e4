import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.methods import CopyPaste, SoftPoisson


def brighter(case, by):
    voxels = case.image.voxels + np.float32(by)
    return Labelled(case.subject, Prepared(voxels, case.image.affine, case.image.body, case.image.bounds), case.labels)


def test_a_donor_that_is_brighter_as_a_whole_gives_the_same_case(shape, domain, with_organ):
    recipient, donor = with_organ(shape, 2)
    config, images = InsertionConfig(placement="replace"), {}
    for method in (SoftPoisson, CopyPaste):
        images[method] = [
            method(config, domain).synthesise(recipient, [lent], np.random.default_rng(2)).case.image.voxels
            for lent in (donor, brighter(donor, 30))
        ]
    np.testing.assert_allclose(*images[SoftPoisson], atol=0.05)
    assert np.abs(np.subtract(*images[CopyPaste])).max() == pytest.approx(30, abs=0.1)
