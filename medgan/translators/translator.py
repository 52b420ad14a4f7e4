"""What translators share: their generators, how held-out subjects are translated, and how panels look."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from typing import NotRequired, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan import losses
from medgan.data.domains import Domain, DomainPair
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared, denormalise
from medgan.inference.translate import apply
from medgan.pictures.panels import CASES, Panel, panel, shown_slices
from medgan.pictures.tiles import Row, Tile
from medgan.pictures.views import View, view
from medgan.pictures.windows import DisplayWindow, change, window_between
from medgan.training.architecture import Direction, DiscriminatorConfig, GeneratorConfig
from medgan.training.learner import HeldOut, Judgement, Learner, Networks, Terms, bare, joined
from medgan.translators.features import Features
from medgan.translators.validation import Volumes, unpaired_metrics

CHANGE_SHARE = 0.25
"""Of the window's width, the change that has the fullest colour: 100 HU in the window of soft tissue."""
COLLAPSED = 0.005
"""An epoch's mean least-squares or cross-entropy loss below which a discriminator tells every patch apart."""


class Parts(TypedDict):
    """What every translator is made of, beside its own settings."""

    pair: DomainPair
    patch: PatchConfig
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    features: NotRequired[Features | None]


class Translator(Learner):
    """A learner whose kept networks are generators, named by direction; discriminators' names end with that word."""

    to_target: nn.Module
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    adversarial: losses.Adversarial
    gradient_penalty: float
    """Weight of the gradient penalty of the Wasserstein game."""

    def __init__(self, **parts: Unpack[Parts]) -> None:
        super().__init__()
        self.pair, self.patch = parts["pair"], parts["patch"]
        self.generator, self.discriminator_config = parts["generator"], parts["discriminator"]
        self.features = parts.get("features")

    @property
    def same_unit(self) -> bool:
        """Whether both sides measure the same thing, so that their difference means something."""
        return self.pair.source.unit == self.pair.target.unit

    def build_generator(self, direction: Direction) -> nn.Module:
        """A fresh generator."""
        return self.generator.build(self.pair, self.patch, direction)

    def build_discriminator(self, domain: Domain, channels: int = 1) -> nn.Module:
        """A fresh discriminator of patches (B, channels, *shape) whose last channel is of ``domain``."""
        return self.discriminator_config.build(self.patch.spatial, channels, domain)

    def translate(self, network: nn.Module, study: Prepared) -> NDArray[np.float32]:
        """``study`` in the target domain: (X, Y, Z) in the target's unit.

        With a change map the change is added to the untouched voxels, so what lies outside the window keeps its value.
        """
        output = apply(network, study, self.patch, self.generator.network.multiple, self.attached)
        if self.generator.change == "none":
            return denormalise(output, self.target_bounds(study))
        lower, upper = study.bounds
        return np.asarray(study.voxels + (output - study.normalised()) * (upper - lower) / 2, dtype=np.float32)

    def around(self, image: Tensor, centre: Tensor) -> Tensor:
        """A stack like ``image`` (B, C, *shape) for a generator to see, with a generated ``centre`` (B, 1, *shape).

        The neighbouring slices stay as they were where both domains measure the same. Where they do not, those would
        be in another unit, and show what the generator is asked to restore: the generated slice is repeated.
        """
        if image.shape[1] == 1:
            return centre
        if not self.same_unit:
            return centre.repeat_interleave(image.shape[1], dim=1)
        channels = list(image.split(1, dim=1))
        channels[len(channels) // 2] = centre
        return torch.cat(channels, dim=1)

    def discriminator_terms(self, discriminator: str, real: Tensor, fake: Tensor) -> Terms:
        """The terms of one discriminator, named like its attribute; ``fake`` is detached."""
        network = getattr(self, discriminator)
        terms = {discriminator: losses.discriminator_loss(self.adversarial, *joined(network, [real, fake]))}
        if self.adversarial == "wasserstein":
            name = discriminator.replace("discriminator", "gradient_penalty")
            terms[name] = self.gradient_penalty * losses.gradient_penalty(bare(network), real, fake)
        return terms

    @contextmanager
    def frozen_discriminators(self) -> Iterator[None]:
        """While a generator learns, discriminators judge and do not learn."""
        judges = [network for name, network in self.networks().items() if name.endswith("discriminator")]
        for judge in judges:
            judge.requires_grad_(False)
        yield
        for judge in judges:
            judge.requires_grad_(True)

    def target_bounds(self, study: Prepared) -> tuple[float, float]:
        """Intensities of the target for -1 and +1: its window, or the study's own bounds where units are arbitrary."""
        window = self.pair.target.window
        return study.bounds if window.percentiles else (window.lower, window.upper)

    def panel(self, sources: Sequence[Prepared], fakes: Volumes, targets: Sequence[Prepared] = ()) -> Panel:
        """Slices as rows: source, translation, what it changed where both measure the same, target, and error.

        What is black and white is the same in every epoch. Where the source is no CT the whole range is drawn anew, and
        is shown more widely than iodine asks for.
        """
        rows = []
        for number, (source, fake, target) in enumerate(list(zip_longest(sources, fakes, targets))[:CASES], start=1):
            windows = self._windows(source, target)
            for plane, place in shown_slices(source.body, source.affine):
                slices = [
                    view(voxels, source.affine, plane, place, placed=source.scan is None or source.scan.placed)
                    for voxels in (source.voxels, fake, *([target.voxels] if target else []))
                ]
                rows.append(Row(self._tiles(slices, *windows), f"case {number}: {slices[0].caption}"))
        return panel(rows, f"{self.pair.source.name} to {self.pair.target.name}")

    def _windows(self, source: Prepared, target: Prepared | None) -> tuple[DisplayWindow, DisplayWindow]:
        """How a subject's source and target are shown."""
        name = "soft tissue" if self.pair.one_unit else "bone"
        bounds = self.target_bounds(target or source)
        shown = window_between(self.pair.target, bounds, name)
        return (shown if self.same_unit else window_between(self.pair.source, source.bounds, name)), shown

    def _tiles(self, slices: Sequence[View], before: DisplayWindow, after: DisplayWindow) -> list[Tile]:
        """A slice of source, translation and, where there is one, target, with their differences."""
        source, fake, *targets = slices
        limit, unit = CHANGE_SHARE * (after.upper - after.lower), after.unit
        tiles = [Tile(source, before, f"source: {self.pair.source.name}"), Tile(fake, after, "translation")]
        if self.same_unit:
            tiles.append(Tile(fake.minus(source), change(limit, unit), "change: translation − source"))
        for target in targets:
            tiles.append(Tile(target, after, f"target: {self.pair.target.name}"))
            tiles.append(Tile(fake.minus(target), change(limit, unit, "error"), "error: translation − target"))
        return tiles


class UnpairedTranslator(Translator):
    """Learns without pairs; validation is by distributions, see :mod:`medgan.translators.validation`."""

    best = "val/score_hu"
    settings: str
    """The section of the settings that holds its learning rates."""

    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """Distances of distributions, and changes where nothing may change."""
        fakes = self.ranks.shared_out(held_out.source, partial(self.translate, networks["to_target"]))
        return Judgement(unpaired_metrics(held_out, fakes, self.pair), self.panel(held_out.source, fakes))

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """Advice where an epoch's mean loss shows that a discriminator is always right: it gives no gradient to follow.

        Hinge and Wasserstein losses have no floor that would tell.
        """
        if self.adversarial not in ("vanilla", "least_squares"):
            return None
        for name in self.trained:
            mean = means.get(f"train/{name}", float("inf"))
            if name.endswith("_discriminator") and mean < COLLAPSED:
                return (
                    f"the {name.removesuffix('_discriminator')} discriminator tells every patch apart (mean loss "
                    f"{mean:.4f}); lower {self.settings}.discriminator_rate, choose a smaller "
                    "discriminator.receptive_field, or look for a trivial difference between the domains (window, "
                    "spacing, table) with `medgan data check`."
                )
        return None
