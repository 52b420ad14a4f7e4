"""The two frozen segmenters of a lesion-prevalence study, each trained once on real images of its domain."""

from pathlib import Path
from typing import Any, Literal

from lightning_fabric import Fabric
from rich.console import Console

from medgan.data.cache import Cache, default_folder
from medgan.data.domains import Window
from medgan.data.patches import IntensityConfig, PatchConfig
from medgan.errors import ConfigError
from medgan.segmentation.labelled import read_labelled
from medgan.segmentation.settings import STANDARD, SegmenterConfig, SegmenterDescription, SegmenterModel
from medgan.segmentation.training import train_segmenter
from medgan.study.plan import StudyOrder
from medgan.study.prevalence_design import LABELS, PrevalenceCohorts
from medgan.training.fit import FitConfig
from medgan.training.model_folder import CARD, Origin, read_model
from medgan.translators.pipeline import TranslationPipeline

Side = Literal["source", "target"]
SIDES: tuple[Side, Side] = ("source", "target")

SEEN_HU: dict[Side, Window] = {"source": Window(lower=-60.0, upper=240.0), "target": Window(lower=-20.0, upper=120.0)}
"""What they see of a CT: soft tissue with contrast medium, and the narrower range without, in which lesions show."""
OF_TRANSLATIONS = IntensityConfig(gamma=0.3, contrast=0.3, brightness=0.1)
"""How the source's patches are varied: its segmenter must look at translations, which are no longer of its domain. The
detector sees the target as it is, whose lesions differ from the liver by less than such variations would add."""
FROZEN = FitConfig(epochs=24, iterations_per_epoch=50, batch_size=8, average_decay=0.99, validate_every=6)


def segmenter_folder(order: StudyOrder, side: Side) -> Path:
    """The model folder of a side's segmenter."""
    return order.folder / "segmenters" / side / "model"


def trained(
    order: StudyOrder,
    fit: FitConfig,
    cohorts: PrevalenceCohorts,
    pipeline: TranslationPipeline[Any],
    side: Side,
    fabric: Fabric,
    console: Console,
) -> SegmenterModel:
    """A side's segmenter: the one that is there, or one that is trained, or trained on.

    Raises:
        ConfigError: The study was begun with other settings.
    """
    folder = segmenter_folder(order, side)
    config = segmenter_config(side, pipeline, fit)
    if (folder / CARD).exists():
        model = read_model(folder, SegmenterDescription)
        if model.description.config != config:
            raise ConfigError(
                f"{folder} was trained with other settings; choose another --name, or put {folder.parent} away."
            )
        return model
    console.out(f"segmenter of the {side}: starts, or goes on", highlight=False)
    cache = Cache(default_folder())
    train, validation = (
        [read_labelled(study, config.domain, config.grid, config.labels, cache) for study in studies]
        for studies in cohorts.labelled(config.domain.name)
    )
    return train_segmenter(
        train, validation, config,
        seed=cohorts.design.seed, folder=folder.parent, fabric=fabric, resume=True, origin=Origin(phantom=True),
    )  # fmt: skip


def segmenter_config(side: Side, pipeline: TranslationPipeline[Any], fit: FitConfig) -> SegmenterConfig:
    """Settings of a side's segmenter, on the translator's grid.

    That of the source looks in slices or in blocks as the translator does, which can then be held to it. The detector
    sees neighbouring slices, too: in a single one the noise of a CT looks like a faint lesion.
    """
    domain = pipeline.pair.source if side == "source" else pipeline.pair.target
    patch = pipeline.config.patch
    look = STANDARD.model_dump() | {"intensity": OF_TRANSLATIONS if side == "source" else IntensityConfig()}
    if patch.spatial == 3:
        look |= {"dimensions": "3", "size_voxels": patch.size_voxels, "depth_voxels": patch.depth_voxels}
    elif side == "target":
        look |= {"dimensions": "2.5"}
    return SegmenterConfig(
        labels=LABELS,
        domain=domain.model_copy(update={"window": SEEN_HU[side]}) if domain.unit == "HU" else domain,
        grid=pipeline.config.grid,
        patch=PatchConfig.model_validate(look),
        fit=fit,
    )
