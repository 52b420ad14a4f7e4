import shutil

import pytest
from rich.console import Console

from medgan.data.splits import Split
from medgan.data.studies import find_cohort
from medgan.errors import ConfigError, DataError
from medgan.studies.base import StudyOrder
from medgan.studies.translator import configured as study_configured
from medgan.synthesis.generators import GeneratorDescription
from medgan.training.model_folder import read_model
from medgan.training.run import Order, train

QUIET = Console(quiet=True)
TINY = [
    "patch.size_voxels=16",
    "generator={kind: mask_to_lesion, warm_up_iterations: 1, discriminator: {receptive_field: 16, channels: 4}}",
    "generator.network={kind: spade, channels: 4, downs: 1, hidden: 4}",
    'fit={epochs: 2, iterations_per_epoch: 2, batch_size: 2, precision: "32"}',
]


@pytest.fixture(scope="module")
def cohort(save_lesions):
    return save_lesions(6, size=32, unmasked=(5,))


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    """A training that nobody stopped."""
    out = tmp_path_factory.mktemp("runs")
    order = Order("lesion_augmentation", cohort, overrides=TINY, out=out, name="one", device="cpu")
    return train(order, QUIET)


def test_one_command_trains_a_generator_and_says_what_it_is_for(done):
    model = read_model(done.run.model, GeneratorDescription)
    assert done.used_by == "medgan augment COHORT OUTPUT"
    assert model.description.validated == 1
    assert model.description.subjects == ("s0", "s1", "s2", "s3")
    card = (done.run.model / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| Learnt from | training subjects: 4 with a lesion; left out: 1 without a mask; real studies |" in card
    assert "| Validation subjects | 1 |" in card
    assert not model.description.origin.phantom
    assert (done.run.path / "split.json").exists()


def test_a_generator_does_not_learn_from_cases_that_augment_made(configured, cohort, tmp_path):
    folder = shutil.copytree(cohort.parent, tmp_path / "augmented")
    for made in ("s1", "s2"):
        (folder / f"{made}.json").write_text('{"Synthetic": true, "Augmentation": {"Method": "copy-paste"}}')
    assert len(find_cohort(folder, configured().pair).subjects()) == 6  # a segmenter learns from all of them
    order = Order("lesion_augmentation", folder, overrides=TINY, out=tmp_path, name="own", device="cpu")
    with (tmp_path / "told.txt").open("w+", encoding="utf-8") as stream:
        done = train(order, Console(file=stream, width=200))
        stream.seek(0)
        assert "2 synthetic cases of `medgan augment` are left out: only real ones are learnt from" in stream.read()
    assert read_model(done.run.model, GeneratorDescription).description.subjects == ("s0", "s3")
    assert set(Split.load(done.run.path / "split.json").train) == {"s0", "s3", "s5"}


def test_images_without_a_mask_teach_nothing(cohort, bare, task_of):
    assert [case.subject for case in task_of(cohort).patches.cases] == ["s0", "s1", "s2", "s3"]
    with pytest.raises(DataError, match="no training subject has a flair image with a mask"):
        task_of(bare(cohort))


def test_what_compares_translations_refuses_it_by_name():
    with pytest.raises(ConfigError, match="translates no images; choose one of ct_contrast, mr_contr"):
        study_configured(StudyOrder("sweep", "lesion_augmentation"))


def test_a_progressive_generator_finds_its_rate_still_high_when_it_reaches_full_size(configured):
    config = configured(generator={"kind": "progressive"}).config
    assert config.fit.constant_share == 0.9
    assert config.generator.build(config).shapes == [(6, 6), (12, 12), (24, 24), (48, 48)]
    assert configured().config.fit.constant_share == 0.5


def test_a_generator_that_is_only_named_is_refused_like_any_other_setting(configured):
    with pytest.raises(ConfigError, match="setting 'generator'"):
        configured(generator="dcgan")
