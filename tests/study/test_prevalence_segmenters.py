"""The frozen segmenters: fit for holding a translator to, trained once, and refused where they are others."""

import dataclasses

import pytest
from rich.console import Console

from medgan.data.patches import PatchConfig
from medgan.errors import ConfigError
from medgan.study.plan import configured
from medgan.study.prevalence_design import LABELS, PrevalenceDesign, rendered
from medgan.study.prevalence_segmenters import SEEN_HU, segmenter_config, segmenter_folder, trained
from medgan.training.device import make_fabric
from medgan.training.fit import FitConfig
from medgan.translators.semantic import SemanticConsistency

DESIGN = PrevalenceDesign(
    prevalences_percent=(0, 100), train=1, validation=1, test=1, labelled=1, labelled_validation=1,
    shape_voxels=(24, 24, 4),
)  # fmt: skip
SHORT = FitConfig(epochs=1, iterations_per_epoch=2, batch_size=2, average_decay=0.5)


@pytest.fixture
def pipeline(asked, tmp_path):
    return configured(asked(tmp_path), ["translator=cyclegan"])


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_it_looks_as_the_translator_does(asked, tmp_path, dimensions):
    settings = [f"patch.dimensions={dimensions}", *(["patch.depth_voxels=8"] if dimensions == "3" else [])]
    pipeline = configured(asked(tmp_path), settings)
    config, watching = (segmenter_config(side, pipeline, SHORT) for side in ("target", "source"))
    assert config.patch.spatial == watching.patch.spatial == pipeline.config.patch.spatial
    assert watching.patch.channels == 1
    assert config.patch.channels == (1 if dimensions == "3" else 3)
    assert config.grid == pipeline.config.grid
    assert config.domain.window == SEEN_HU["target"]
    assert config.domain.name == "plain"
    # Only the source's segmenter looks at images that are not of its domain.
    assert not config.patch.intensity.varies
    assert watching.patch.intensity.varies


def test_it_is_trained_once_and_a_translator_can_be_held_to_it(asked, pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    order = asked(tmp_path)
    given = (rendered(DESIGN, "abdomen_ct"), pipeline, "source", make_fabric("cpu", "32"), Console(quiet=True))
    model = trained(order, SHORT, *given)
    weights = segmenter_folder(order, "source") / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert list(model.names.values()) == list(LABELS)
    assert model.description.origin.phantom
    again = trained(order, SHORT, *given)
    assert weights.stat().st_mtime_ns == before
    assert again.description == model.description
    SemanticConsistency(weights.parent, pipeline.pair, PatchConfig(size_voxels=16), pipeline.config.grid)
    with pytest.raises(ConfigError, match="was trained with other settings; choose another --name"):
        trained(order, SHORT.model_copy(update={"epochs": 2}), *given)
    assert not (segmenter_folder(dataclasses.replace(order, name="other"), "source")).exists()
