"""Synthetic cases of a draw of few subjects: made once, of them alone, and read alike by every segmenter."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan.data.preparation import Prepared
from medgan.data.streams import replacing, write_json
from medgan.data.studies import Study
from medgan.errors import DataError, InsertionError, LeakageError
from medgan.segmentation.labelled import Labelled
from medgan.segmentation.settings import SegmenterConfig
from medgan.studies.base import Context
from medgan.studies.engine import read_json
from medgan.studies.images import stretched
from medgan.studies.segmenter import CaseReader, fitted
from medgan.synthesis.generators import GeneratorDescription, GeneratorModel, SynthesisConfig, generator_task
from medgan.synthesis.insertion import InsertionConfig, Synthesiser, Synthetic
from medgan.synthesis.methods import Bent, Elastic, baseline, by_network
from medgan.synthesis.shapes import ShapeConfig
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin, read_model

RECORD = "cases.json"
"""Beside the cases, written last: of what, by what and with which settings they were made."""
MOST_TRIES = 3
"""Recipients that are tried for each wanted case, before what there is must do."""


@dataclass(frozen=True)
class Draw:
    """The few subjects that everything of a size and a seed learns from: segmenters, generators, donors."""

    size: int
    seed: int
    labelled: tuple[str, ...]
    """Those with a labelled voxel, in the order in which they were drawn."""
    healthy: tuple[str, ...] = ()
    """Those besides whose masks mark nothing: they receive lesions and lend none."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """All of them."""
        return self.labelled + self.healthy

    @property
    def name(self) -> str:
        """How folders call it."""
        return f"n={self.size},seed={self.seed}"

    def refuse_others(self, parents: Iterable[str], what: str) -> None:
        """Refuse what is made of anybody outside the draw, by name: a ``LeakageError``."""
        if others := sorted(set(parents) - set(self.subjects)):
            raise LeakageError(
                f"{what} {', '.join(others)}, who are not among the {self.size} subjects of {self.name}: a gain would "
                "be theirs. Put that folder away."
            )


def train_on(
    context: Context, config: SynthesisConfig, segmenter: SegmenterConfig, draw: Draw, scans: tuple[Study, ...],
    validation: tuple[Study, ...], origin: Origin,
) -> None:  # fmt: skip
    """Train the generator of a draw, from wherever that was left."""
    task = generator_task(CaseReader(scans)(segmenter), CaseReader(validation)(segmenter), config, seed=draw.seed)
    fitted(context, task, config.fit.precision, origin)


@dataclass(frozen=True)
class CaseRecipe:
    """What a process needs to make a method's cases of a draw."""

    method: str
    draw: Draw
    segmenter: SegmenterConfig
    """Whose labels, domain and grid the cases have."""
    insertion: InsertionConfig
    """How the method inserts."""
    variation: ShapeConfig
    """How ``elastic`` and ``bend`` bend."""
    bend: bool
    """Whether every case is bent afterwards, as ``elastic`` bends real ones."""
    wanted: int
    """How many cases."""
    recipients: tuple[Study, ...]
    """Whom the method changes."""
    donors: tuple[Study, ...]
    """Who lends lesions."""
    generator: Path | None
    """The model folder of the draw's generator, for the method that has one."""

    @property
    def model(self) -> GeneratorModel:
        """The generator, which must have seen the draw's subjects alone: others' lesions would be a leak."""
        assert self.generator is not None
        model = read_model(self.generator, GeneratorDescription)
        self.draw.refuse_others(model.description.subjects, f"{self.generator} has learnt from")
        return model

    def synthesiser(self, device: str) -> Synthesiser:
        """What makes the cases."""
        elastic = Elastic(self.variation)
        if self.method in ("healthy", "elastic"):
            return _AsTheyAre() if self.method == "healthy" else elastic
        if self.method == "generator":
            model = self.model
            network = make_fabric(device, "32").to_device(model.network)
            inserting = by_network(network, model.description.config, self.insertion)
        else:
            inserting = baseline(self.method, self.insertion, self.segmenter.domain)
        return Bent(inserting, elastic) if self.bend else inserting


class _AsTheyAre:
    """Adds nothing: what healthy scans alone do for a segmenter that generated lesions could be credited with."""

    name = "healthy"

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`."""
        del donors, rng
        return Synthetic(recipient, (recipient.subject,), {"method": self.name})


def make_cases(context: Context, recipe: CaseRecipe) -> None:
    """Make the cases of a method and a draw.

    Raises:
        LeakageError: Anybody outside the draw among recipients and donors.
        DataError: Nothing could be placed in anybody.
    """
    draw = recipe.draw
    recipients, donors = (CaseReader(scans)(recipe.segmenter) for scans in (recipe.recipients, recipe.donors))
    outcomes = list(_synthesised(recipe.synthesiser(context.device), recipients, donors, draw.seed, recipe.wanted))
    cases = [each for each in outcomes if isinstance(each, Synthetic)]
    reasons = [str(each) for each in outcomes if isinstance(each, InsertionError)]
    if not cases:
        raise DataError(
            f"cases of {context.folder.name}: nothing could be placed in any of {len(recipients)} subjects: "
            f"{reasons[0]}"
        )
    draw.refuse_others([parent for case in cases for parent in case.parents], f"{context.folder} is made of")
    _write_cases(context.folder, cases, {"refused": len(reasons), "reasons": sorted(set(reasons))})


def outcome_of(folder: Path) -> str:
    """How many cases were made."""
    record = read_json(folder / RECORD)
    refused = f", {record['refused']} refused" if record["refused"] else ""
    return f"{len(record['cases'])} made{refused}"


def _synthesised(
    synthesiser: Synthesiser, recipients: list[Labelled], donors: list[Labelled], seed: int, wanted: int
) -> Iterator[Synthetic | InsertionError]:
    """So many cases, recipients taken in turn, and why some recipients could not have any.

    Case ``n`` is a function of the seed and its number alone, whatever became of those before it. A recipient is no
    donor of its own, if there is another.
    """
    placed = 0
    for number in range(wanted * MOST_TRIES):
        if placed == wanted:
            return
        recipient = recipients[number % len(recipients)]
        others = [case for case in donors if case.subject != recipient.subject] or donors
        try:
            yield synthesiser.synthesise(recipient, others, np.random.default_rng([seed, number]))
        except InsertionError as error:
            yield error
        else:
            placed += 1


@dataclass(frozen=True)
class SyntheticCases:
    """The synthetic cases of a draw, all of whose parents belong to it; read where they are needed."""

    folder: Path
    draw: Draw
    exchanged: bool = False
    """Whether each gets the labels of another one."""

    @property
    def sha256(self) -> str | None:
        """The hash of all voxels; None where they are not all there."""
        return read_json(self.folder / RECORD).get("sha256")

    def __call__(self, config: SegmenterConfig) -> list[Labelled]:
        """Read them.

        Raises:
            LeakageError: Somebody else is in them.
            DataError: They are not there, or damaged.
        """
        del config
        cases = _read_cases(self.folder)
        record = read_json(self.folder / RECORD)["cases"]
        parents = [case["parents"] for case in record]
        self.draw.refuse_others([parent for each in parents for parent in each], f"{self.folder} is made of")
        return shuffled(cases, [each[0] for each in parents]) if self.exchanged else cases


def _write_cases(folder: Path, synthetic_cases: Iterable[Synthetic], facts: Mapping[str, Any]) -> None:
    """Write cases as they come, a file each, and then the record of them.

    It has ``facts``, each case's subject, its parents and how it was made, and a hash of all voxels.
    """
    digest, records = hashlib.sha256(), []
    for number, synthetic in enumerate(synthetic_cases):
        case = synthetic.case
        image = case.image
        for array in (image.voxels, image.affine, case.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        with replacing(folder / f"{number:04d}.npz") as stream:
            np.savez_compressed(
                stream, voxels=image.voxels, affine=image.affine, body=np.array(image.body),
                bounds=np.array(image.bounds), labels=case.labels,
            )  # fmt: skip
        records.append({"subject": case.subject, "parents": list(synthetic.parents), "how": synthetic.how})
    write_json(folder / RECORD, {**facts, "sha256": digest.hexdigest(), "cases": records})


def _read_cases(folder: Path) -> list[Labelled]:
    """The cases of a folder, in the order in which they were made."""
    records: list[dict[str, Any]] = read_json(folder / RECORD).get("cases", [])
    if not records:
        raise DataError(f"{folder}: holds no synthetic cases; run the same command again, and they are made.")
    cases = []
    for number, record in enumerate(records):
        path = folder / f"{number:04d}.npz"
        try:
            with np.load(path) as stored:
                body = tuple((int(first), int(last)) for first, last in stored["body"])
                lower, upper = stored["bounds"].tolist()
                image = Prepared(stored["voxels"], stored["affine"], body, (lower, upper))
                cases.append(Labelled(record["subject"], image, stored["labels"]))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); remove its folder and run the same command again."
            ) from None
    return cases


def shuffled(cases: Sequence[Labelled], parents: Sequence[str]) -> list[Labelled]:
    """The same images, each with the labels of the next case of another recipient; no case keeps its own.

    Where grids differ, labels are stretched over the image: that they do not fit is the point. ``parents`` says whose
    anatomy each case has; where all have the same, the next case serves.

    Raises:
        DataError: One case only.
    """
    if len(cases) < 2:
        raise DataError(f"labels of {len(cases)} case(s) cannot be exchanged; leave the arm standard+shuffled out.")
    mixed = []
    for number, case in enumerate(cases):
        following = [(number + step) % len(cases) for step in range(1, len(cases))]
        other = next((other for other in following if parents[other] != parents[number]), following[0])
        mixed.append(Labelled(case.subject, case.image, stretched(cases[other].labels, case.image.voxels.shape)))
    return mixed
