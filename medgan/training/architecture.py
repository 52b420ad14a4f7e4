"""Which networks a translation model is made of: settings that build them, for training and again for conversion."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import nn

from medgan.config import Channels, Config, Downs, Layers
from medgan.data.belonging import Scans
from medgan.data.domains import Domain, DomainPair
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.errors import ConfigError, ModelError
from medgan.networks.blocks import Norm, UpSampling
from medgan.networks.discriminators import PatchDiscriminator, ReceptiveField
from medgan.networks.generators import ResNetGenerator, UNetGenerator
from medgan.networks.outputs import Amount, Change, ChangeOutput, ImageOutput
from medgan.networks.windows import Windowed
from medgan.training.model_folder import Description, Line, Model, input_rows

Direction = Literal["to_target", "to_source"]
WindowsHU = Annotated[tuple[tuple[float, float], ...], Field(max_length=32)]


class _NetworkConfig(Config):
    """What the two kinds of network have in common; each declares ``downs`` where its settings list it."""

    kind_of_network: ClassVar[type[nn.Module]]
    if TYPE_CHECKING:
        downs: Downs

    def build(self, spatial: int, inputs: int) -> nn.Module:
        """The network: (B, inputs, *spatial) to (B, 1, *spatial)."""
        return self.kind_of_network(spatial, inputs, 1, **self.model_dump(exclude={"kind"}))

    @property
    def multiple(self) -> int:
        """What every axis of its input must be a multiple of."""
        return int(2**self.downs)


class ResNetConfig(_NetworkConfig):
    """CycleGAN's generator; the defaults are the reference's, but for the up-sampling, which draws no checkerboard."""

    kind_of_network = ResNetGenerator

    kind: Literal["resnet"] = "resnet"
    channels: Channels = 64
    """Channels at full size; they double with each down-sampling, up to eight times."""
    downs: Downs = 2
    blocks: Layers = 9
    """Residual blocks at the coarsest size: 9 in the reference, 6 for small images."""
    norm: Norm = "instance"
    upsampling: UpSampling = "resize"
    dropout: NonNegativeFloat = 0.0
    skips: bool = False
    """Join the encoder's maps at every size: as good with far fewer channels and blocks."""
    keep_variance: bool = False
    """Start all but the last layer from weights that keep a signal's variance instead of the reference's N(0, 0.02):
    a regression then learns faster."""


class UNetConfig(_NetworkConfig):
    """pix2pix's generator; the defaults are the reference's."""

    kind_of_network = UNetGenerator

    kind: Literal["unet"] = "unet"
    channels: Channels = 64
    """Channels after the first down-sampling; they double with each, up to eight times."""
    downs: Annotated[Downs, Field(ge=2)] = 8
    norm: Norm = "batch"
    upsampling: UpSampling = "transposed"
    dropout: NonNegativeFloat = 0.5
    skips: bool = True
    """Join the encoder's maps at every size; without them it is the paper's encoder-decoder."""


class GeneratorConfig(Config):
    """A generator: its network, and what its output means."""

    network: Annotated[ResNetConfig | UNetConfig, Field(discriminator="kind")] = ResNetConfig()
    change: Change = "none"
    """``one-sided`` and ``signed`` predict the change (CT to CT, MR to MR); ``none`` draws the target itself."""
    added_by: Literal["source", "target"] = "source"
    """For a one-sided change: which domain has the agent that adds attenuation or signal."""
    amount: Amount = "sigmoid"
    """How a one-sided change grows with what the network says: ``linear`` learns large changes several times faster."""
    windows_hu: WindowsHU = ()
    """Windows through which the network sees a CT, each as channels; none is the domain's own window, as always in MR.
    Organs that are 20 HU apart are then told apart from the start."""
    largest: PositiveFloat = 500.0
    """Greatest change of a voxel; like the bounds that follow in HU, and in MR in percent of the window."""
    lower: float = -50.0
    """Voxels below keep their value: air, lung, fat."""
    upper: float = 600.0
    """Voxels above keep their value: cortical bone, metal."""
    ramp: PositiveFloat = 50.0
    """Width over which a change fades in and out at these bounds."""

    @model_validator(mode="after")
    def _acts_somewhere(self) -> Self:
        if self.lower + 2 * self.ramp > self.upper:
            raise ValueError(f"nothing may change between lower={self.lower:g} and upper={self.upper:g}")
        return self

    def build(self, pair: DomainPair, patch: PatchConfig, direction: Direction) -> nn.Module:
        """The generator of one direction: (B, channels, *shape) in [-1, 1] to (B, 1, *shape)."""
        giver = pair.source if direction == "to_target" else pair.target
        network = _windowed(partial(self.network.build, patch.spatial), patch.channels, self.windows_hu, giver)
        if self.change == "none":
            return ImageOutput(network)
        scale = _position(1.0, giver) - _position(0.0, giver)
        adds = (direction == "to_source") == (self.added_by == "source") or self.change == "signed"
        return ChangeOutput(
            network, one_sided=self.change == "one-sided", sign=1 if adds else -1, largest=self.largest * scale,
            lower=_position(self.lower, giver), upper=_position(self.upper, giver), ramp=self.ramp * scale,
            amount=self.amount,
        )  # fmt: skip


class DiscriminatorConfig(Config):
    """A PatchGAN; the default is the reference's 70-voxel one."""

    receptive_field: ReceptiveField = 70
    """Voxels along each axis that one score judges."""
    channels: Channels = 64
    norm: Norm = "instance"
    windows_hu: WindowsHU = ()
    """Windows through which it sees a CT, each as a channel; none is the domain's own window, as always in MR."""

    def build(self, spatial: int, inputs: int, domain: Domain) -> nn.Module:
        """The network: (B, inputs, *spatial) of the domain's scale to (B, 1, *patches)."""
        settings = self.model_dump(exclude={"windows_hu"})
        return _windowed(partial(PatchDiscriminator, spatial, **settings), inputs, self.windows_hu, domain)


def _windowed(
    build: Callable[[int], nn.Module], inputs: int, windows_hu: Sequence[tuple[float, float]], domain: Domain
) -> nn.Module:
    """What ``build`` makes of a number of channels, behind the windows if there are any and the domain is in HU."""
    if not windows_hu or domain.unit != "HU":
        return build(inputs)
    windows = [(_position(lower, domain), _position(upper, domain)) for lower, upper in windows_hu]
    return Windowed(build(inputs * len(windows)), windows)


def check_change(generator: GeneratorConfig, pair: DomainPair) -> None:
    """Refuse a change map between domains that do not measure the same thing in the same window.

    Raises:
        ConfigError: Units or windows differ, or the change would act on voxels that the window cuts off.
    """
    if generator.change == "none":
        return
    if not pair.one_scale:
        raise ConfigError(
            f"change={generator.change} needs source and target on one scale: both in HU with one window, or paired MR "
            f"with one window; {pair.source.name} and {pair.target.name} are not: set generator.change=none."
        )
    lower, upper = scale_ends(pair.source)
    if generator.lower < lower or generator.upper > upper:
        raise ConfigError(
            f"a change from {generator.lower:g} to {generator.upper:g} reaches beyond the window of "
            f"{lower:g} to {upper:g} {'HU' if pair.source.unit == 'HU' else 'percent'}; set generator.lower and "
            "generator.upper inside it."
        )


def scale_ends(domain: Domain) -> tuple[float, float]:
    """The window's ends as settings name them: in HU, or 0 and 100 percent of an MR study's own window."""
    return (domain.window.lower, domain.window.upper) if domain.unit == "HU" else (0.0, 100.0)


def _position(value: float, domain: Domain) -> float:
    lower, upper = scale_ends(domain)
    return 2 * (value - lower) / (upper - lower) - 1


class TranslationDescription(Description):
    """All that must be known to convert a study with a model."""

    use = (
        "Convert studies with `medgan convert INPUT OUTPUT --model THIS_FOLDER`. Judge the result on subjects outside "
        "the\nsplit with `medgan evaluate`: the figures above chose the epoch and are no evidence of benefit."
    )
    lists, loader = "directions", "medgan.inference.pyfunc"

    task: Literal["translation"] = "translation"
    name: Line
    """The pipeline that trained it."""
    pair: DomainPair
    grid: GridConfig
    patch: PatchConfig
    generator: GeneratorConfig
    directions: tuple[Direction, ...] = Field(min_length=1, max_length=2)
    """What it can translate; a paired model knows only ``to_target``."""
    intensities: dict[str, tuple[float, float]]
    """By domain: the lowest and highest of the training subjects' intensities, .1 to 99.9 percentile."""
    scans: dict[str, Scans] = Field(default_factory=dict)
    """By domain, how the training subjects were scanned; empty in folders from before this was stored."""
    trained: int | None = None
    """Training subjects; None in schema 1, as for ``validated``."""
    validated: int | None = None

    def build(self) -> Mapping[str, nn.Module]:
        """Fresh generators by direction."""
        return {way: self.generator.build(self.pair, self.patch, way) for way in self.directions}

    def domains(self, direction: Direction) -> tuple[Domain, Domain]:
        """What goes in and what comes out.

        Raises:
            ModelError: The model was not trained for this direction.
        """
        if direction not in self.directions:
            known = ", ".join(self.directions)
            raise ModelError(f"model '{self.name}' cannot translate {direction}; it was trained for: {known}.")
        ends = self.pair.source, self.pair.target
        return ends if direction == "to_target" else ends[::-1]

    def model_name(self) -> str:
        """The pipeline's."""
        return self.name

    def card(self) -> tuple[str, str, dict[str, str]]:
        """The two domains, and how one becomes the other."""
        source, patch = self.pair.source, self.patch
        networks = f"generator {self.generator.network.kind}, change map {self.generator.change}"
        rows = {
            "Translates": ", ".join(self.directions),
            "Grid": input_rows(source, self.grid)["Grid"],
            "Input": f"{patch.dimensions}D, of {' x '.join(map(str, patch.shape))} voxels",
            "Window": f"{source.window.lower:g} to {source.window.upper:g}",
            "Training subjects": f"{self.trained} train, {self.validated} validation; {self.origin.data}",
        }
        return f"{self.name}: {source.name} to {self.pair.target.name}", networks, rows


TranslationModel = Model[TranslationDescription]
