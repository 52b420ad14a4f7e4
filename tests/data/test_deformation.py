import numpy as np
import SimpleITK as sitk  # noqa: N813

from medgan.data.deformation import deformed
from medgan.data.registration_quality import measure


def test_bending_raises_the_mutual_information_that_a_rigid_transform_leaves(scan, sides, quick):
    swollen = np.diag([1.12, 0.94, 1.0, 1.0])
    fixed, moving = sides((scan("MR"), "MR"), (scan("CT", swollen), "CT"))
    still = sitk.Euler3DTransform()
    bent = deformed(fixed, moving, still, 30.0, quick.rigid)
    quality = measure(fixed, moving, still, bent)
    assert quality.mutual_information_after > quality.mutual_information_before + 0.05
    assert quality.dice_after > quality.dice_before
    # The body's edge, 30 mm from the middle, is 12 % further out in the moving scan.
    np.testing.assert_allclose(bent.TransformPoint((-30.0, 0.0, 0.0)), (-33.6, 0.0, 0.0), atol=1.5)
