import csv

import pytest
from rich.console import Console
from typer.testing import CliRunner

from medgan.classification.classifier import ClassifierDescription
from medgan.cli import app
from medgan.errors import DataError
from medgan.training.model_folder import read_model
from medgan.training.run import Order, train

TINY = [
    "patch.size_voxels=16",
    "network={channels: 4}",
    "method={kind: sgan, channels: 4, latent: 3}",
    "labelled_patches=8",
    "unlabelled_patches=12",
    'fit={epochs: 2, iterations_per_epoch: 2, batch_size: 4, precision: "32"}',
]


@pytest.fixture(scope="module")
def cohort(save_lesions):
    return save_lesions(5, size=48, unmasked=(2, 3))


def test_one_command_trains_a_classifier_and_another_uses_it(cohort, tmp_path):
    order = Order("lesion_classification", cohort, overrides=TINY, out=tmp_path, name="one", device="cpu")
    done = train(order, Console(quiet=True))
    assert done.used_by == "medgan classify INPUT OUTPUT"
    description = read_model(done.run.model, ClassifierDescription).description
    assert (description.method, description.unlabelled) == ("sgan", 12)
    assert sum(description.labelled.values()) == 8
    asked = ["classify", cohort, tmp_path / "out", "--model", done.run.model, "--device", "cpu"]
    assert CliRunner().invoke(app, [str(each) for each in asked]).exit_code == 0
    with (tmp_path / "out" / "classes.csv").open(newline="") as stream:
        assert [row["image"] for row in csv.DictReader(stream)] == [f"s{number}.nii.gz" for number in range(5)]


def test_labels_come_from_masks_and_unlabelled_patches_from_all_training_subjects(cohort, task_of):
    counts = {"labelled_patches": 30, "unlabelled_patches": 40, "lesion_share": 1.0}
    patches = task_of(cohort, method={"kind": "sgan"}, **counts).patches
    assert patches.labelled.classes.tolist() == [1] * 30
    assert patches.unlabelled.shape == (40, 1, 16, 16)
    # Half of the subjects have masks, and all of their patches a lesion; those of the others lie anywhere.
    with_lesion = (patches.unlabelled.flatten(1).amax(1) > 0).tolist()
    assert all(with_lesion[:20])
    assert not all(with_lesion[20:])


def test_the_supervised_method_has_no_unlabelled_patches_and_keeps_the_last_epoch(cohort, task_of):
    task = task_of(cohort, labelled_patches=6)
    assert len(task.patches.unlabelled) == 0
    assert task.fit.keep == "last", "unless somebody is to choose"


def test_a_cohort_without_masks_teaches_nothing(cohort, bare, task_of):
    with pytest.raises(DataError, match="no training subject has a flair image with a mask"):
        task_of(bare(cohort))
