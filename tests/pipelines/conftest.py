import csv

import nibabel as nib
import numpy as np
import pytest

from medgan import catalog
from medgan.data.cache import Cache
from medgan.data.splits import split_subjects
from medgan.data.studies import find_cohort


@pytest.fixture
def configured(request):
    """The pipeline of a test file's name under settings: ``configured(translator="pix2pix")``."""
    name = request.module.__name__.rpartition("test_")[2]
    return lambda **settings: catalog.load(name).configured(settings, on_phantom=False, on_cpu=True)


@pytest.fixture
def task_of(configured, tmp_path):
    """What that pipeline learns from a cohort: ``task_of(cohort, labelled_patches=6)``."""

    def make(cohort, **settings):
        pipeline = configured(patch={"size_voxels": 16}, **settings)
        studies = find_cohort(cohort, pipeline.pair)
        split = split_subjects(studies, pipeline.pair, pipeline.config.split)
        return pipeline.task(studies, split, Cache(tmp_path))

    return make


@pytest.fixture(scope="session")
def save_lesions(tmp_path_factory):
    """The CSV of subjects with a lesion each, s4 for validation: ``save_lesions(6, size=32, unmasked=(5,))``."""

    def save(subjects, size, unmasked):
        folder, affine = tmp_path_factory.mktemp("lesions"), np.diag([1.0, 1.0, 3.0, 1.0])
        rows = [["subject", "domain", "image", "mask", "split"]]
        for number in range(subjects):
            voxels = np.random.default_rng(number).normal(100, 5, (size, size, 4)).astype(np.float32)
            labels = np.zeros(voxels.shape, dtype=np.uint8)
            labels[10 + number : 15 + number, 8:13, 1:3] = 1
            nib.Nifti1Image(voxels + 80 * labels, affine).to_filename(folder / f"s{number}.nii.gz")
            nib.Nifti1Image(labels, affine).to_filename(folder / f"s{number}_lesion.nii.gz")
            mask = "" if number in unmasked else f"s{number}_lesion.nii.gz"
            rows.append([f"s{number}", "flair", f"s{number}.nii.gz", mask, "validation" if number == 4 else "train"])
        with (folder / "cohort.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        return folder / "cohort.csv"

    return save


@pytest.fixture(scope="session")
def bare():
    """The CSV beside another whose subjects, all for training but for s4, have no masks."""

    def save(cohort):
        rows = [row.split(",") for row in cohort.read_text(encoding="utf-8").splitlines()]
        without = cohort.with_name("bare.csv")
        without.write_text("\n".join(",".join([*row[:3], row[4]]) for row in rows), encoding="utf-8")
        return without

    return save
