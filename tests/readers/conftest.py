"""Small made-up scans of subjects with names that no page may hold, and studies made of them."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medgan.readers.design import ReaderStudy
from medgan.readers.study import make_study
from readers.studies import SUBJECTS, places

AFFINE = np.diag([4.0, 4.0, 3.0, 1.0])
SIZE = (44, 36, 20)


def body(rng):
    """A bright ellipse with noise and texture in air, (X, Y, Z) in HU, and a lesion in it, brighter."""
    x, y, z = (
        np.linspace(-1, 1, size).reshape(shape)
        for size, shape in zip(SIZE, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    )
    inside = (x / 0.8) ** 2 + (y / 0.75) ** 2 + 0 * z < 1
    texture = gaussian_filter(rng.normal(0, 200, SIZE), 1.5) + rng.normal(0, 12, SIZE)
    lesion = np.zeros(SIZE, np.int16)
    row, column = rng.integers(14, 20), rng.integers(14, 28)
    lesion[column : column + 4, row : row + 4, 4:7] = 5
    return np.where(inside, 40 + texture + 60 * (lesion > 0), -1000.0), lesion


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """Folders ``real``, ``synthetic`` (smoother), ``other``, ``source`` and ``labels`` with an image a subject."""
    root = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for subject in SUBJECTS:
        voxels, lesion = body(rng)
        images = {"real": voxels, "synthetic": gaussian_filter(voxels, 0.7), "other": gaussian_filter(voxels, 1.2)}
        images |= {"source": voxels + 30 * (voxels > 0), "labels": lesion}
        for name, content in images.items():
            (root / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(np.rint(content).astype(np.int16), AFFINE), root / name / f"{subject}.nii.gz")
    (root / "labels" / "labels.json").write_text('{"lesion": 5}')
    return root


@pytest.fixture(scope="session")
def make(scans, tmp_path_factory):
    """Make a study of the scans in a new folder."""

    def made(task="2afc", seed="a seed", **settings):
        return make_study(
            places(scans, task), tmp_path_factory.mktemp(task), ReaderStudy(task=task, **settings), seed=seed
        )

    return made


@pytest.fixture(scope="session")
def choice_study(make):
    return make("2afc", levels=2)
