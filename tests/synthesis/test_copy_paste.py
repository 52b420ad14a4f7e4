import numpy as np

from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.methods import CopyPaste
from medgan.synthesis.shapes import ShapeConfig, lesions_of

UNVARIED = ShapeConfig(rotation_degrees=0, scaling=0, deformation_mm=0, mirroring=False)


def test_an_unvaried_lesion_is_the_donors_to_the_bit(shape, domain, with_lesions):
    recipient, donor = with_lesions(shape, 2)
    config = InsertionConfig(shape=UNVARIED, most=1)
    synthetic = CopyPaste(config, domain).synthesise(recipient, [donor], np.random.default_rng(0))
    (told,) = synthetic.how["lesions"]
    new = (synthetic.case.labels > 0) & (recipient.labels == 0)
    sources = [lesion for lesion in lesions_of(donor) if lesion.voxels == told["voxels"]]
    shifted = [np.argwhere(new) - told["place"] + lesion.centre for lesion in sources]
    donated = [donor.image.voxels[tuple(voxels.T)] for voxels in shifted]
    assert any(np.array_equal(values, synthetic.case.image.voxels[new]) for values in donated)
