"""Made-up lesions: bright ellipsoids of all sizes in tissue of its own texture, as patches and as cohorts on disk."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medgan.evaluation.synthesis import distances
from medgan.evaluation.synthesis.patches import Patches, PatchOrigin

SHAPES = {"2d": (16, 16), "3d": (16, 16, 8)}


def ellipsoid(shape, centre, random):
    """Where one lies, with half axes of 2 to 5 voxels."""
    at = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    return (((at - centre) / random.uniform(2, 5, size=len(shape))) ** 2).sum(axis=-1) < 1


def tissue(shape, random):
    """Smooth structure with noise, about 0."""
    texture = ndimage.gaussian_filter(random.standard_normal(shape), 2)
    return 0.25 * texture / texture.std() - 0.3 + random.normal(0, 0.05, shape)


def lesions(count, shape, seed=0, name="s"):
    """Patches of as many subjects."""
    random = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(count):
        inside = ellipsoid(shape, np.array(shape) / 2 - 0.5 + random.uniform(-1, 1, len(shape)), random)
        images.append(tissue(shape, random) + random.uniform(0.3, 0.9) * inside)
        labels.append(inside)
    origins = tuple(PatchOrigin(f"{name}{seed}-{number}", f"{name}{seed}-{number}#1") for number in range(count))
    return Patches(np.clip(np.stack(images), -1, 1).astype(np.float32), np.stack(labels).astype(np.uint8), origins)


@pytest.fixture(scope="session", autouse=True)
def short_training():
    """Encoders learn for a quarter of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "STEPS", distances.STEPS // 4)
        yield


@pytest.fixture(scope="session")
def make_lesions():
    return lesions


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES), scope="module")
def shape(request):
    return request.param


@pytest.fixture(scope="session")
def save_lesions():
    """Write a cohort of volumes with two lesions each, and synthetic ones made from them.

    ``paint(voxels, mask, random)`` changes copies of a recipient's voxels and mask in place.
    """

    def save(folder, subjects=10, *, synthetic, paint):
        folder.mkdir(parents=True)
        rows = [["subject", "domain", "image", "mask", "split"]]
        real = []
        for number in range(subjects):
            random = np.random.default_rng(number)
            voxels, mask = 100 * (tissue((40, 40, 18), random) + 1.2), np.zeros((40, 40, 18), np.uint8)
            for centre in ((9, 9, 8), (30, 30, 9)):
                inside = ellipsoid(voxels.shape, np.array(centre) + random.uniform(-1, 1, 3), random)
                voxels[inside] += random.uniform(40, 90)
                mask[inside] = 1
            real.append((voxels.astype(np.float32), mask))
            rows.append(_stored(folder, f"s{number}", *real[-1], "train" if number < subjects // 2 else "test"))
        for number in range(synthetic):
            recipient = number % (subjects // 2)
            voxels, mask = (part.copy() for part in real[recipient])
            paint(voxels, mask, np.random.default_rng(1000 + number))
            rows.append(_stored(folder, f"made{number}", voxels, mask, "train"))
            facts = {"Synthetic": True, "Parents": [f"s{recipient}"], "Outputs": {}}
            (folder / f"made{number}.json").write_text(json.dumps(facts))
        (folder / "labels.json").write_text('{"labels": {"1": "lesion"}}')
        with (folder / "cohort.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
        return folder / "cohort.csv"

    return save


def _stored(folder, name, voxels, mask, part):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    nib.Nifti1Image(voxels, affine).to_filename(folder / f"{name}.nii.gz")
    nib.Nifti1Image(mask, affine).to_filename(folder / f"{name}_mask.nii.gz")
    return [name, "flair", f"{name}.nii.gz", f"{name}_mask.nii.gz", part]
