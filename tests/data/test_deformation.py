import numpy as np
import SimpleITK as sitk  # noqa: N813

from medgan.data.deformation import deformed
from medgan.data.registration_quality import measure


def test_bending_raises_the_mutual_information_that_a_rigid_transform_leaves(scan, sides, quick):
    swollen = np.diag([1.12, 0.94, 1.0, 1.0])
    fixed, moving = sides((scan("MR"), "MR"), (scan("CT", swollen), "CT"))
    still = sitk.Euler3DTransform()
    bent = deformed(fixed, moving, still, 40.0, quick.rigid)
    quality = measure(fixed, moving, still, bent)
    assert quality.mutual_information_after > quality.mutual_information_before + 0.05
    assert quality.dice_after > quality.dice_before
    # The body's edges, 30 mm from the middle, are 3.6 mm further out in the moving scan.
    for edge in (-30.0, 30.0):
        assert 1 < np.sign(edge) * bent.TransformPoint((edge, 0.0, 0.0))[0] - 30 < 5
