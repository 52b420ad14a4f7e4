"""A plan: the settings of a training from a cohort's fingerprint, a device and a time, with a reason for each."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from medgan import catalog
from medgan.config import Settings, flattened, merged, read_yaml, user_layers
from medgan.data.splits import split_subjects
from medgan.data.streams import write_text
from medgan.data.studies import Data
from medgan.errors import ConfigError
from medgan.pipeline import Pipeline
from medgan.planning.fingerprint import Fingerprint, Triple, fingerprint, times
from medgan.planning.trial import GIB, Measured, Trial, measure, phases
from medgan.text import duration
from medgan.training.device import make_fabric
from medgan.training.run import Order
from medgan.training.run_folder import RunFolder, folder_named, is_begun, new_run

LARGEST = {("2", "cpu"): 128, ("2", "gpu"): 256, ("3", "cpu"): 64, ("3", "gpu"): 128}
"""Voxels along the edge of a patch, by what a network convolves over and the device, as in the shipped settings."""
THICK = 3.0
"""Anisotropy from which slices are no volume: the thick axis keeps its own spacing, and no convolution crosses it."""
FEW_SLICES, NEAR_MM = 8, 5.0
"""Below so many slices, or farther apart, neighbouring slices are no help."""
SHARES = (1.0, 0.75, 0.5, 0.375)
"""Of the largest patch that the body and the device ask for, the patches that are tried."""
COARSEST_VOXELS, MOST_DOWNS = 4, 4
"""A network halves its input until its coarsest map would be smaller, and no more often than the shipped ones do."""
ITERATIONS, IN_A_MINUTE = 3000, 1250
"""That a training needs, or for each minute where time is short; only what is left goes into patches and batches."""
MINUTES = 20.0
EPOCHS, VALIDATED = 10, 0.1
"""How often a run looks at its progress, and the share of its time that validations may take."""
FREE_SHARE = 0.9
"""Of the memory that is free, where nobody states a limit."""
GROWTH = 0.7
"""Power of an iteration's work with which its time is thought to grow: less than it does, since what looks promising is
tried, and what is too slow is then dropped."""
BESIDE_GIB = 0.4
"""What a training loads beside its own work: MLflow, pictures, the record."""
MAPPED = 64
"""Prepared studies of which pages are in memory at the same time, at most."""


@dataclass(frozen=True)
class Wanted:
    """What a plan is for."""

    pipeline: str
    data: Data | None = None
    """None is the built-in phantom."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    settings: Settings = field(default_factory=dict)
    """Of a command's own options; all that is given is kept, and the rest is planned around it."""
    minutes: float | None = None
    """Of iterations and validations; None is ``MINUTES``."""
    memory_gib: float | None = None
    """A limit for the process, or on a GPU for its memory; None is most of what is free."""
    device: str = "auto"
    threads: int | None = None
    """Of the processor; None takes those that are free."""


@dataclass(frozen=True)
class Plan:
    """Settings, and why."""

    pipeline: str
    minutes: float
    fingerprint: Fingerprint
    settings: Settings
    """In the format of ``medgan train --config``."""
    reasons: Mapping[str, str]
    """By dotted key."""
    cost: str
    """What a training by it takes, for people."""

    def yaml(self) -> str:
        """The settings with a reason beside each, below the fingerprint; ``medgan train --config`` takes it."""
        used = f"medgan train --pipeline {self.pipeline} --config THIS_FILE"
        head = [f"A plan for {self.minutes:g} minutes; edit it, and give it by `{used}`.", self.cost]
        lines = [f"# {line}" for line in (*head, "", *self.fingerprint.lines())]
        return "\n".join([*(line.rstrip() for line in lines), *self._lines(self.settings)]) + "\n"

    def _lines(self, settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        indent = "  " * prefix.count(".")
        for key, value in settings.items():
            name = key if key.isidentifier() else json.dumps(key)
            if isinstance(value, Mapping) and value:
                yield f"{indent}{name}:"
                yield from self._lines(value, f"{prefix}{key}.")
            else:
                yield f"{indent}{name}: {json.dumps(value)}  # {self.reasons.get(prefix + key, 'as given')}"


@dataclass(frozen=True)
class _Candidate:
    """Settings that may be tried, and what they cost as far as that can be told from their sizes."""

    settings: Settings
    config: Any
    channels: int

    @property
    def name(self) -> str:
        """What people are told of it."""
        return f"{self.batch} patches of {times(self.config.patch.shape)} voxels, {self.channels} channels"

    @property
    def batch(self) -> int:
        """Patches of an iteration."""
        return int(self.config.fit.batch_size)

    @property
    def voxels(self) -> int:
        """Of a patch."""
        return math.prod(self.config.patch.shape)

    @property
    def work(self) -> float:
        """Proportional to an iteration's time, between linear and quadratic in the channels."""
        return float(self.batch * self.voxels * self.channels**1.5)

    @property
    def maps(self) -> float:
        """Proportional to the memory of an iteration's maps."""
        return float(self.batch * self.voxels * self.channels)


class Planner:
    """Plans for one pipeline, cohort and device; trials are measured by ``measure``, and ``say`` tells what is done."""

    def __init__(
        self,
        wanted: Wanted,
        say: Callable[[str], object],
        measure: Callable[[Trial], Measured | None],
    ) -> None:
        self.wanted, self.say, self.measure = wanted, say, measure
        self.on_cpu = make_fabric(wanted.device, "32").device.type == "cpu"
        self.kind, self.given = catalog.load(wanted.pipeline), dict(wanted.settings)
        for layer in user_layers(wanted.config, wanted.overrides):
            self.given = merged(self.given, read_yaml(layer) if isinstance(layer, Path) else layer)
        asked, pipeline = flattened(self.given), self.configured({}).complete(wanted.data)
        self.base, self.pair = pipeline.config, pipeline.pair
        self.cohort = pipeline.cohort(wanted.data)
        self.split = split_subjects(self.cohort, self.pair, self.base.split)
        self.fingerprint = fingerprint(self.cohort, self.pair)
        self.asked, self.reasons = frozenset(asked), {"size": f"the device is a {'CPU' if self.on_cpu else 'GPU'}"}
        if (labels := getattr(self.base, "labels", None)) and "labels" not in self.given:
            self.reasons |= {f"labels.{name}": "what the masks mark" for name in labels}
            self.given["labels"] = {name: list(values) for name, values in labels.items()}
        self.network = ("network",) if hasattr(self.base, "network") else ("generator", "network")
        self.minutes = wanted.minutes or MINUTES
        self.minimum = min(ITERATIONS, IN_A_MINUTE * self.minutes)
        self.limit_gib = wanted.memory_gib or FREE_SHARE * self._free_gib()
        self.spacing_mm: Triple = self.fingerprint.spacing_mm

    def configured(self, planned: Settings) -> Pipeline[Any]:
        """The pipeline with planned settings; what is given wins."""
        layer = merged(planned, self.given)
        return self.kind.configured(layer, on_phantom=self.wanted.data is None, on_cpu=self.on_cpu)

    def plan(self) -> Plan:
        """Grid and dimensions by the fingerprint, patch, batch and channels by trials, then as many iterations as fit.

        Raises:
            ConfigError: No patch suits the networks, or nothing fits into the memory.
        """
        self.say(f"{self.fingerprint.subjects} subjects, {times(self.fingerprint.size_voxels)} voxels")
        grid = self._grid()
        chosen, measured = self._chosen(self._candidates(grid))
        settings = merged({"size": self.base.size} | chosen.settings, self._length(chosen, measured))
        peak_gib = self._peak_gib(chosen, chosen, measured)
        cost = (
            f"Measured: {measured.step_s:.3g} s an iteration, {self._validation_s(measured):.3g} s a validation; "
            f"{peak_gib:.2g} GiB of memory at most, of {self.limit_gib:.3g}."
        )
        reasons = {key: reason for key, reason in self.reasons.items() if key not in self.asked}
        return Plan(self.wanted.pipeline, self.minutes, self.fingerprint, merged(settings, self.given), reasons, cost)

    def _free_gib(self) -> float:
        if self.on_cpu:
            return float(psutil.virtual_memory().available) / GIB
        import torch

        return float(torch.cuda.mem_get_info()[0]) / GIB if torch.cuda.is_available() else 8.0

    def _grid(self) -> Settings:
        """The spacing, and by how many axes the networks see; reasons on the way."""
        own, reasons = self.fingerprint, self.reasons
        body = [length / size for length, size in zip(own.body_mm, own.spacing_mm, strict=True)]
        dimensions, reason = self._dimensions(body)
        spatial = "3" if dimensions == "3" else "2"
        most = math.inf if spatial == "3" else 2 * LARGEST[spatial, self.device]
        coarser = max(1.0, max(body[:2]) / most)
        plane = [_round(size * coarser) for size in own.spacing_mm[:2]]
        thick = _round(own.spacing_mm[2]) if spatial == "3" else None
        spacing: list[float | None] = [*plane, thick]
        if coarser > 1:
            why = f"{coarser:.2g} times the median of {times(own.spacing_mm[:2])} mm: two patches reach over the body"
        elif own.one_spacing and (thick is None or own.spread_mm[0][2] > 0.99 * own.spread_mm[1][2]):
            spacing, why = [None, None, None], f"the studies' own: all have {times(own.spacing_mm[:2])} mm"
        else:
            why = f"the median of {times(own.spread_mm[0][:2])} to {times(own.spread_mm[1][:2])} mm"
        if thick is None:
            why += f"; along the third axis ({own.spacing_mm[2]:.3g} mm) nothing is convolved, and each keeps its own"
        grid = {"grid": {"spacing_mm": spacing}, "patch": {"dimensions": dimensions}}
        config = self.configured(grid).config
        wanted = zip(config.grid.spacing_mm, own.spacing_mm, strict=True)
        x, y, z = (size or median for size, median in wanted)
        self.spacing_mm = (x, y, z)
        reasons |= {"grid.spacing_mm": why, "patch.dimensions": reason}
        return grid

    @property
    def device(self) -> str:
        """By which sizes are looked up."""
        return "cpu" if self.on_cpu else "gpu"

    def _dimensions(self, body: Sequence[float]) -> tuple[str, str]:
        """2, 2.5 or 3 by the body's slices and their distance, and the reason."""
        own, largest = self.fingerprint, LARGEST["3", self.device]
        slices, thick_mm = body[2], own.spacing_mm[2]
        seen = f"{slices:.0f} slices of the body, {thick_mm:.3g} mm apart"
        if own.anisotropy <= THICK and min(body) >= 2 * FEW_SLICES and max(body) <= largest:
            return "3", f"{seen}: blocks of {largest} voxels hold the whole body"
        if slices < FEW_SLICES or thick_mm > NEAR_MM:
            return "2", f"{seen}: neighbouring slices are too few or too far to help"
        if not self.pair.paired and not hasattr(self.base, "labels"):
            return "2", f"{seen}, without pairs: in equal time slices did at least as well as slices with neighbours"
        return "2.5", f"{seen}: neighbours help, and a block that saw the body would cost many slices"

    def _candidates(self, grid: Settings) -> list[_Candidate]:
        """What may be tried: shares of the largest patch, batches and channels, around the shipped ones."""
        batch, channels = self.base.fit.batch_size, self._network(self.base).channels
        found, refused = dict[str, _Candidate](), None
        for share, size, wide in product(SHARES, {1, 2, 4, batch}, {channels // 2, channels, 2 * channels}):
            if size > batch:
                continue
            patch, downs = self._patch(share, grid["patch"]["dimensions"])
            inner: Settings = {"channels": wide, "downs": downs}
            for name in reversed(self.network):
                inner = {name: inner}
            settings = merged(merged(grid, {"patch": patch}), {"fit": {"batch_size": size}} | inner)
            try:
                config = self.configured(settings).config
            except ConfigError as error:
                refused = error
                continue
            candidate = _Candidate(settings, config, self._network(config).channels)
            found.setdefault(candidate.name, candidate)
        if not found:
            raise refused or ConfigError("no patch suits the networks; give patch.size_voxels.")
        return list(found.values())

    def _network(self, config: Any) -> Any:
        for name in self.network:
            config = getattr(config, name)
        return config

    def _patch(self, share: float, dimensions: str) -> tuple[Settings, int]:
        """A share of the largest patch that is no larger than the body, and how often a network halves it."""
        spatial = "3" if dimensions == "3" else "2"
        largest = LARGEST[spatial, self.device]
        axes = zip(self.fingerprint.body_mm, self.spacing_mm, strict=True)
        body = [length / size for length, size in axes][: int(spatial)]
        wanted = [max(2 * COARSEST_VOXELS, share * min(voxels, largest)) for voxels in body]
        downs = min(MOST_DOWNS, max(1, int(math.log2(min(wanted) / COARSEST_VOXELS))))
        multiple = 2**downs
        x, y, *z = (multiple * max(2, math.ceil(length / multiple - 0.25)) for length in wanted)
        patch = {"size_voxels": x} | ({"length_voxels": y} if y != x else {}) | ({"depth_voxels": z[0]} if z else {})
        return patch, downs

    def _chosen(self, candidates: Sequence[_Candidate]) -> tuple[_Candidate, Measured]:
        """The best of those that fit, by what was measured of others, until the best itself was measured.

        The first is the cheapest, so that nothing is tried of which a smaller one does not promise that it fits.
        """
        left, measured = list(candidates), dict[str, Measured]()
        best = min(left, key=self._cheapness)
        while best.name not in measured:
            result = self.measure(self._trial(best.config))
            if result is None:
                left = [each for each in left if each.maps < best.maps]
                if left and not measured:
                    best = min(left, key=lambda each: each.maps)
                    continue
            else:
                measured[best.name] = result
                self.say(
                    f"{best.name}: {result.step_s:.3g} s an iteration, {self._peak_gib(best, best, result):.2g} GiB"
                )
            known = [each for each in left if each.name in measured]
            costs = {each.name: self._cost(each, known, measured) for each in left} if known else {}
            small = [each for each in left if costs and costs[each.name][1] <= self.limit_gib]
            if not small:
                raise ConfigError(
                    f"{self.limit_gib:.3g} GiB of memory are too little for the smallest patch and batch of "
                    f"'{self.wanted.pipeline}'; give more by --memory, or fewer channels."
                )
            fast = [each for each in small if self._iterations(costs[each.name][0]) >= self._least(each)]
            best = max(fast, key=self._worth) if fast else min(small, key=lambda each: (each.batch < 2, each.work))
        return best, measured[best.name]

    def _cheapness(self, candidate: _Candidate) -> tuple[bool, bool, float]:
        """The lowest is the cheapest; single patches and narrow networks come after all others."""
        return candidate.batch < 2, candidate.channels < self._network(self.base).channels, candidate.work

    def _worth(self, candidate: _Candidate) -> tuple[float, ...]:
        """What comes first: two patches a batch, the shipped channels, the patch, and then all else."""
        usual, batch = self._network(self.base).channels, candidate.batch
        return min(batch, 2), min(candidate.channels, usual), candidate.voxels, batch, candidate.channels

    def _least(self, candidate: _Candidate) -> float:
        """Iterations that it needs; wider networks than the shipped ones pay where there is time in plenty."""
        return self.minimum * (2 if candidate.channels > self._network(self.base).channels else 1)

    def _iterations(self, step_s: float) -> float:
        return 60 * self.minutes * (1 - VALIDATED) / step_s

    def _cost(
        self, candidate: _Candidate, known: Sequence[_Candidate], measured: Mapping[str, Measured]
    ) -> tuple[float, float]:
        """Seconds an iteration and GiB, by the measured one that is most alike."""
        nearest = min(known, key=lambda each: abs(math.log(each.work / candidate.work)))
        result = measured[nearest.name]
        return result.step_s * (candidate.work / nearest.work) ** GROWTH, self._peak_gib(candidate, nearest, result)

    def _peak_gib(self, candidate: _Candidate, known: _Candidate, measured: Measured) -> float:
        """The most memory that a training takes: that of the trial, its maps scaled, and the whole cohort."""
        maps = (measured.peak_gib - measured.before_gib) * candidate.maps / known.maps
        if not self.on_cpu:
            return maps
        study_gib = 4000 * sum(self.fingerprint.millilitres.values()) / math.prod(self.spacing_mm) / GIB
        images = sum(self.fingerprint.images.values())
        # Pages of files, and of each pair the region where it agrees, and its target on the source's scale.
        share = min(1.0, MAPPED / images) + (1.0 if self.pair.paired else 0.25)
        return measured.before_gib + maps + share * study_gib + BESIDE_GIB

    def _trial(self, config: Any) -> Trial:
        """Two training subjects and the largest validation subject of each domain, or pairs of both."""
        covered = self.fingerprint.millilitres
        trained, judged = set[str](), set[str]()
        for part, who, count in ((self.split.train, trained, 2), (self.split.validation, judged, 1)):
            names = self.cohort.of_subjects(part).names()
            groups = [set.intersection(*names.values())] if self.pair.paired and names else list(names.values())
            for group in groups:
                who.update(sorted(group, key=lambda subject: (-covered.get(subject, 0), subject))[:count])
        parts = {"train": tuple(sorted(trained)), "validation": tuple(sorted(judged))}
        split, wanted = self.split.model_copy(update=parts), self.wanted
        return Trial(wanted.pipeline, config, self.cohort, split, wanted.device, wanted.threads)

    def _validation_s(self, measured: Measured) -> float:
        """Of all validation subjects, by what those of a trial took for each voxel."""
        covered = self.fingerprint.millilitres
        tried, all_of_them = (
            sum(covered.get(subject, 0) for subject in split.validation)
            for split in (self._trial(self.base).split, self.split)
        )
        return measured.validation_s * all_of_them / tried if tried else 0.0

    def _length(self, chosen: _Candidate, measured: Measured) -> Settings:
        """Epochs and iterations that take the time, and phases in proportion; reasons on the way."""
        budget_s, validation_s = 60 * self.minutes, self._validation_s(measured)
        affordable = VALIDATED * budget_s / max(validation_s, 1e-9)
        every = next(each for each in (1, 2, 5, EPOCHS) if EPOCHS / each <= affordable or each == EPOCHS)
        planned = self.configured(merged(chosen.settings, {"fit": {"epochs": EPOCHS, "validate_every": every}}))
        fit = planned.config.fit
        left_s = max(budget_s - validation_s * math.ceil(fit.epochs / fit.validate_every), budget_s / 2)
        each = max(1, int(left_s / measured.step_s / fit.epochs))
        total = each * fit.epochs
        settings: Settings = {"fit": {"epochs": fit.epochs, "iterations_per_epoch": each, "validate_every": every}}
        own = getattr(self.base, "translator", "pix2pix")
        for name, counts in phases(self.base).items():
            long = {key: total // 4 for key, count in counts.items() if count > total // 4 and name == own}
            self.reasons |= {f"{name}.{key}": "a quarter of the iterations; shipped for more of them" for key in long}
            settings |= {name: long} if long else {}
        body = zip(self.fingerprint.body_mm, self.spacing_mm, strict=True)
        voxels = times([round(length / size) for length, size in body])
        network, usual = ".".join(self.network), self._network(self.base).channels
        patch = chosen.config.patch
        self.reasons |= {
            "patch.size_voxels": f"{times(patch.shape)} of a body of {voxels}: the largest that fits time and memory",
            "patch.length_voxels": "the body is not square",
            "patch.depth_voxels": "the body's slices",
            f"{network}.channels": f"shipped are {usual}; fewer where time or memory is short, more where ample",
            f"{network}.downs": f"halved while the coarsest map has {COARSEST_VOXELS} voxels along its shortest edge",
            "fit.batch_size": f"at least 2, at most the shipped {self.base.fit.batch_size}",
            "fit.epochs": "looks at the progress",
            "fit.iterations_per_epoch": f"{total} in {duration(left_s)}, {measured.step_s:.3g} s each",
            "fit.validate_every": f"{validation_s:.2g} s a validation: at most {VALIDATED:.0%} of the time",
        }
        return settings


def _round(size_mm: float) -> float:
    """A spacing of three digits."""
    return float(f"{size_mm:.3g}")


def make_plan(wanted: Wanted, say: Callable[[str], object]) -> Plan:
    """Plan a training; trials run in processes of their own, and ``say`` tells what is tried.

    Raises:
        ConfigError: No patch suits the networks, or nothing fits into the memory.
        DataError: A cohort that cannot be trained on.
    """
    return Planner(wanted, say, measure).plan()


def planned(order: Order, console: Console, minutes: float | None, memory_gib: float | None) -> Order:
    """An order with a plan's settings, which is written into the run folder; a run that is begun keeps its own."""
    root = order.out / catalog.load(order.pipeline).experiment()
    begun = order.resume_or_start and is_begun(root, order.name)
    run = RunFolder(folder_named(root, str(order.name))) if begun else new_run(root, order.name)
    path = run.path / "plan.yaml"
    if begun and not path.exists():
        raise ConfigError(f"{run.path}: the run was begun without a plan; leave --plan out, or give another --name.")
    if not (order.resume_or_start and path.exists()):
        wanted = Wanted(
            order.pipeline, order.data, order.config, order.overrides, order.settings, minutes, memory_gib,
            order.device, order.threads,
        )  # fmt: skip
        write_text(path, make_plan(wanted, lambda line: console.out(line, highlight=False)).yaml())
    return replace(order, name=run.name, settings=merged(order.settings, read_yaml(path)))
