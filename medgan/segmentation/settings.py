"""A segmenter's settings: what it learns to find, in which images, by which network, and how it is trained."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import nn

from medgan.config import Channels, Config, Downs, Layers
from medgan.data.domains import Domain, Window, domain_named
from medgan.data.patches import IntensityConfig, PatchConfig
from medgan.data.preparation import GridConfig
from medgan.training.fit import FitConfig
from medgan.training.model_folder import Description, Model, input_rows

SEGMENTER = "segmenter"
"""The name of the one network."""

MOST_LABELS = 255
"""Label maps are stored in 8 bits."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""What metrics and tables call a label."""

SOFT_TISSUE = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-200.0, upper=300.0))


def domain_called(name: str) -> Domain:
    """A domain by its name, ``contrast`` or ``plain:CT``; CT is looked at in the window of soft tissue."""
    domain = domain_named(name)
    return SOFT_TISSUE.model_copy(update={"name": domain.name}) if domain.modality == "CT" else domain


STANDARD_INTENSITY = IntensityConfig(gamma=0.3, contrast=0.2, brightness=0.1, noise=0.05)
STANDARD = PatchConfig(size_voxels=128, rotation_degrees=15.0, scaling=0.15, intensity=STANDARD_INTENSITY)
"""What ``augmentation: standard`` does by default. Nothing is mirrored: an abdomen has its liver on the right."""


class SegmenterNetworkConfig(Config):
    """A U-Net (Ronneberger et al. 2015, arXiv:1505.04597) as MONAI builds it."""

    channels: Channels = 16
    """Channels at full size; they double with each down-sampling."""
    downs: Downs = 3
    residual_units: Layers = 0
    """Convolutions within each residual unit; 0 is a single convolution a size, twice as fast as 2."""
    norm: Literal["instance", "batch"] = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def build(self, spatial: int, inputs: int, outputs: int) -> nn.Module:
        """The network: (B, inputs, *spatial) to raw scores (B, outputs, *spatial)."""
        from monai.networks.nets import UNet  # takes seconds: settings are read without it

        widths = [self.channels * 2**level for level in range(self.downs + 1)]
        strides = [2] * self.downs
        return UNet(
            spatial, inputs, outputs, widths, strides,
            num_res_units=self.residual_units, norm=self.norm, dropout=self.dropout,
        )  # fmt: skip

    @staticmethod
    def encoder(network: nn.Module) -> list[nn.Module]:
        """The layers on the way down of a network that :meth:`build` made, and that at the bottom."""
        layers: list[nn.Module] = []
        block: Any = network.model
        while hasattr(block[1], "submodule"):  # MONAI's down, skip connection around all that is below, up
            layers.append(block[0])
            block = block[1].submodule
        return [*layers, block]

    @property
    def multiple(self) -> int:
        """What every axis of its input must be a multiple of."""
        return int(2**self.downs)


class Labelling(Config):
    """What is learnt from label maps."""

    labels: dict[Name, tuple[PositiveInt, ...]] = Field(min_length=1, max_length=MOST_LABELS)
    """What is learnt, by name: the values that mark it in the masks, merged where there are several."""

    @field_validator("labels", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, labels: Any) -> Any:
        if not isinstance(labels, Mapping):
            return labels
        return {name: (value,) if isinstance(value, int) else value for name, value in labels.items()}

    @model_validator(mode="after")
    def _values_belong_to_one_name(self) -> Self:
        owner: dict[int, str] = {}
        for name, value in ((name, value) for name, values in self.labels.items() for value in values):
            if owner.setdefault(value, name) != name:
                raise ValueError(f"labels: value {value} belongs to both {owner[value]} and {name}")
        return self


class SegmenterConfig(Labelling):
    """Settings of a segmenter."""

    domain: Domain = SOFT_TISSUE
    """What it is trained on and looks at: CT in a fixed window of HU, or MR by percentiles."""
    grid: GridConfig = GridConfig()
    augmentation: Literal["none", "standard"] = "standard"
    """standard varies training patches as ``patch`` says: rotation, scaling, mirroring and intensities; none shows them
    as they are."""
    patch: PatchConfig = STANDARD
    network: SegmenterNetworkConfig = SegmenterNetworkConfig()
    rate: PositiveFloat = 4e-3
    weight_decay: NonNegativeFloat = 1e-4
    fit: FitConfig = FitConfig(epochs=40, iterations_per_epoch=100, batch_size=4, average_decay=0.99)

    @property
    def training_patch(self) -> PatchConfig:
        """The patch as it is varied in training."""
        return self.patch if self.augmentation == "standard" else self.patch.still()

    def build(self) -> nn.Module:
        """A fresh network: (B, channels, *shape) in [-1, 1] to raw scores (B, names + 1, *shape)."""
        return self.network.build(self.patch.spatial, self.patch.channels, len(self.labels) + 1)


class SegmenterDescription(Description):
    """All that must be known to segment a study with a model."""

    use = (
        "Segment studies with `medgan segment INPUT OUTPUT --model THIS_FOLDER`. The figures above chose the epoch; "
        "they are no\nevidence for other subjects."
    )

    called = SEGMENTER

    task: Literal["segmentation"] = "segmentation"
    config: SegmenterConfig
    trained: int
    """Subjects that it learnt from."""
    extra: int
    """Synthetic or other additional subjects among its training."""
    extra_share: float
    """The share of training patches that were drawn from these."""
    validated: int
    """Subjects that chose the epoch."""

    @property
    def names(self) -> dict[int, str]:
        """What the values of its label maps mean."""
        return dict(enumerate(self.config.labels, start=1))

    def build(self) -> Mapping[str, nn.Module]:
        """The network."""
        return {SEGMENTER: self.config.build()}

    def card(self) -> tuple[str, str, dict[str, str]]:
        """What is segmented, and in which images."""
        config, patch = self.config, self.config.patch
        input_size = f"{patch.dimensions}D, trained on {' x '.join(map(str, patch.shape))} voxels"
        subjects = f"{self.trained} train and {self.extra} extra, {self.validated} validation"
        rows = {
            "Segments": ", ".join(f"{value} {name}" for value, name in self.names.items()),
            **input_rows(config.domain, config.grid),
            "Input": f"{input_size}, augmentation {config.augmentation}",
            "Training subjects": f"{subjects}; {self.origin.data}",
        }
        return f"Segmenter of {', '.join(config.labels)}", "", rows


SegmenterModel = Model[SegmenterDescription]
