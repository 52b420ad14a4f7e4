"""What is tested, and how; figures of whole studies are in test_study."""

import numpy as np
import pytest

from medgan.benefit.judge import images_to_test, seen_as, true_labels
from medgan.benefit.plan import make_plan
from medgan.data.domains import Domain, Window
from medgan.data.volumes import read_volume
from medgan.segmentation.settings import SEGMENTER, SegmenterDescription
from medgan.training.model_folder import Model, Origin


@pytest.fixture
def plan(asked, tmp_path):
    return make_plan(asked(tmp_path))


def test_source_images_of_test_subjects_are_in_distribution_and_target_images_out(plan):
    found = [(each.study.subject, each.study.domain, each.test_set) for each in images_to_test(plan)]
    assert found == [
        ("s5", "contrast", "in"),
        ("s6", "contrast", "in"),
        ("s5", "plain", "out"),
        ("s6", "plain", "out"),
    ]


def test_every_tested_image_has_a_file_of_its_own(plan):
    assert len({each.file for each in images_to_test(plan)}) == 4


def test_true_labels_are_numbered_as_the_segmenters_and_kept(asked, tmp_path):
    plan = make_plan(asked(tmp_path, overrides=["segmenter.labels={vessel: 2}"]))
    tested = images_to_test(plan)[0]
    volume = read_volume(tested.study.image)
    labels = true_labels(plan, tested, volume)
    np.testing.assert_array_equal(labels, (read_volume(tested.study.mask).voxels == 2).astype(np.uint8))
    kept = read_volume(plan.order.folder / "truth" / tested.file)
    np.testing.assert_array_equal(kept.voxels, labels)
    np.testing.assert_array_equal(kept.grid.affine, volume.grid.affine)


def test_a_model_looks_at_an_image_through_the_images_own_window(plan):
    description = SegmenterDescription(
        config=plan.segmenter, seed=0, trained=1, extra=0, extra_share=0, validated=1, origin=Origin(), metrics={},
        epoch=1, weights_sha256="", versions={},
    )  # fmt: skip
    model = Model(description, {SEGMENTER: plan.segmenter.build()})
    window = Window(lower=1, upper=99, percentiles=True)
    mr = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=window)
    other = seen_as(model, mr)
    assert other.description.config.domain == mr
    assert other.network is model.network
    assert model.description.config.domain == plan.segmenter.domain
