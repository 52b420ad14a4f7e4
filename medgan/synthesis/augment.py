"""``medgan augment``: an augmented, labelled cohort; a case that cannot be made is named and never stops the rest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator
from rich.console import Console
from scipy import ndimage
from torch import nn

from medgan.config import load, user_layers
from medgan.data.cache import Cache, default_folder
from medgan.data.domains import domain_named
from medgan.data.grid import Grid, Volume, made_up_grid
from medgan.data.hashes import file_hash
from medgan.data.layouts import stem
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.data.studies import AUGMENTATION, Location, Study, augmented_left_out
from medgan.data.volumes import read_volume, stored_type
from medgan.errors import ConfigError, DataError, ModelError
from medgan.inference.batch import BatchOrder, BatchSummary, StudyBatch, local_model
from medgan.inference.jobs import MANIFEST, NOT_FOR_CLINICAL_USE, Facts, Job, MapKind, Plan, model_origin, write_outputs
from medgan.inference.translate import on_grid
from medgan.segmentation.labelled import Labelled, Labels
from medgan.synthesis.generators import GeneratorDescription, SynthesisConfig
from medgan.synthesis.insertion import InsertionConfig, Synthesiser
from medgan.synthesis.methods import Masks, baseline, by_network
from medgan.synthesis.real_cases import COHORT, read_real_cases, write_cohort
from medgan.training.model_folder import library_versions, read_model
from medgan.training.run_folder import split_of_model

SYNTHETIC = "synthetic"
"""The folder of the cases that are made."""


class _AugmentConfig(InsertionConfig):
    """Settings of ``medgan augment``."""

    masks: Masks = "real"
    """Where the masks that a network paints come from: real ones, varied, or a shape model of the real ones."""
    labels: Labels | None = None
    """Of a method without a network: what is inserted, by name; null is all that the masks mark."""
    grid: GridConfig = GridConfig(spacing_mm=(None, None, None))
    """Of a method without a network: the grid on which cases are made; by default the images' own."""

    @field_validator("labels", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, labels: Any) -> Any:
        if not isinstance(labels, Mapping):
            return labels
        return {name: (value,) if isinstance(value, int) else value for name, value in labels.items()}


@dataclass(frozen=True)
class AugmentOrder(BatchOrder):
    """What a user asks of ``medgan augment``; its input is a cohort with masks."""

    model: str = ""
    """A generator's model folder, ``runs:/ID/model`` or ``models:/NAME@ALIAS``; or else a method."""
    method: str = ""
    ratio_percent: float = 100.0
    """Synthetic cases for a hundred real training cases."""
    seed: int = 0
    subjects: tuple[str, ...] = ()
    """The recipients; none is every labelled training subject."""
    split: Path | None = None
    """Where the split is; None is the model's own, without a model the cohort's."""
    config: Path | None = None
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class _CaseJob(Job):
    """One case to make."""

    number: int
    recipient: Study

    @property
    def labels(self) -> Path:
        """``NAME_labels.nii.gz`` beside ``NAME.nii.gz``."""
        return self.output.with_name(f"{stem(self.output)}_labels.nii.gz")

    def images(self, maps: Collection[MapKind] = ()) -> tuple[Path, ...]:
        """The case and its label map; there are no other maps."""
        del maps
        return self.output, self.labels


def augment(order: AugmentOrder, console: Console) -> BatchSummary:
    """Write an augmented cohort: the real rows as they are, and the synthetic ones in the training part.

    Rows that an earlier augmentation made are no part of it: only real cases are donors and recipients.

    Case ``n`` is a function of the seed, its number, the donors and the settings alone: a run that was stopped goes on,
    and a larger ratio adds cases to those of a smaller one.

    Raises:
        ConfigError: A wrong order, or an output that is something else; nothing was written.
        DataError: A cohort that cannot be used.
        LeakageError: A recipient or donor that is validated or tested on.
        ModelError: A model that cannot be used, or whose split is not known.
    """
    return _Augmentation(order, console).complete()


class _Augmentation(StudyBatch[Synthesiser]):
    """The making of many cases by one method."""

    order: AugmentOrder
    doing, done = "augmenting", "made"

    def __init__(self, order: AugmentOrder, console: Console) -> None:
        super().__init__(order, console)
        if bool(order.model) == bool(order.method):
            raise ConfigError("give either --model, a trained generator, or --method, such as copy-paste.")
        self.config = load(_AugmentConfig, *user_layers(order.config, order.overrides))
        self.cases: tuple[_CaseJob, ...] = ()

    def plan(self) -> Plan:
        """No case yet: the cohort is read once nobody else writes to OUTPUT, which may be nobody else's cohort."""
        path, output = Location.of(self.order.input).path, self.order.output
        root = path if path.is_dir() else path.parent
        if output.resolve() == root.resolve():
            raise ConfigError(
                f"OUTPUT is the cohort's folder {root}; give another, so that nothing of it is overwritten."
            )
        if output.exists() and not output.is_dir():
            raise ConfigError(f"{output} is a file and no folder; give a folder.")
        if (output / COHORT).exists() and not (output / MANIFEST).exists():
            raise ConfigError(f"{output / COHORT} exists and is no output of `medgan augment`; give another OUTPUT.")
        return Plan((), output)

    def begin(self, plan: Plan) -> Plan:
        """Load the model, read the training cases, and say which cases are made of them."""
        order, config, model = self.order, self.config, None
        split = Split.load(order.split) if order.split else None
        grid, labels = config.grid, config.labels
        if order.model:
            folder = local_model(order.model, order.tracking)
            model = read_model(folder, GeneratorDescription)
            learnt = model.description.config
            _check_use(order, config, learnt)
            trained_on, instead = model.description.origin.split_hash, "the run's split.json with --split"
            split = split_of_model(folder, trained_on, split_file=order.split, otherwise=instead)
            domain, grid, labels = learnt.domain, learnt.grid, learnt.labels
            synthesiser = by_network(model.network, learnt, config, config.masks)
        else:
            if order.domain is None:
                raise ConfigError("--method needs --domain, whose images are augmented: flair, t1 or plain:CT.")
            domain = domain_named(order.domain)
            synthesiser = baseline(order.method, config, domain)
        self.compute_with(synthesiser)
        cache = Cache(default_folder())
        self.real = real = read_real_cases(order.input, domain, grid, labels, split, order.subjects, cache)
        settings = config.model_dump(mode="json")
        # All that a case is made from but its number and recipient.
        self.facts = {
            "Synthetic": True,
            "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
            "Domain": domain.name,
            "Unit": domain.unit,
            "Model": model and model_origin(model.description),
            AUGMENTATION: {
                "Method": synthesiser.name,
                "Settings": settings,
                "SpacingMM": list(grid.spacing_mm),
                "Seed": order.seed,
                "DonorsSHA256": real.donors_hash,
                "SplitSHA256": real.split.hash,
            },
            "MaskOrigin": _mask_origin(synthesiser.name, config),
            "LabelMap": {name: list(values) for name, values in real.labels.items()},
            "Versions": library_versions(),
        }
        notes = [f"no donor: {study.subject}: {error}" for study, error in real.broken.items()]
        for note in filter(None, [augmented_left_out(real.left_out), *notes]):
            self.console.print(note, highlight=False, markup=False)
        self.cases = tuple(_jobs(order, real.recipients))
        return replace(plan, jobs=self.cases)

    def sources(self, job: Job) -> Facts:
        """Also which case it is."""
        assert isinstance(job, _CaseJob)
        real, study = self.real, job.recipient
        if study in real.broken:
            raise real.broken[study]
        return {
            AUGMENTATION: self.facts[AUGMENTATION] | {"Number": job.number},
            "Sources": [real.cohort.relative(study.image)],
            "SourceSHA256": file_hash(study.image),
        }

    def make(self, job: Job, facts: Facts) -> Sequence[str]:
        """Make one case and write it, on its recipient's grid where it is one of its images anew."""
        assert isinstance(job, _CaseJob)
        study, real = job.recipient, self.real
        assert study.mask is not None
        recipient, labels = real.cases[study], real.labels
        with self.device() as (synthesiser, fabric):
            if isinstance(network := getattr(synthesiser, "network", None), nn.Module):
                fabric.to_device(network)
            rng = np.random.default_rng([self.order.seed, job.number])
            synthetic = synthesiser.synthesise(recipient, real.donors, rng)
        case, (x, y, z) = synthetic.case, synthetic.case.labels.shape
        if case.labels.shape != recipient.labels.shape:  # a whole case, which is no part of the recipient's image
            grid = made_up_grid((x, y, z), case.image.affine)
            image = _as_stored(case.image.voxels, stored_type(study.image))
            marked = _values(case.labels, labels).astype(np.uint8)
        else:
            volume, mask = read_volume(study.image), read_volume(study.mask)
            image, marked = _stored_image(volume, recipient, case), _stored_labels(mask, recipient, case, labels)
            grid = volume.grid
        facts = facts | {"Parents": list(synthetic.parents), "How": synthetic.how}
        write_outputs(job, {job.output: image, job.labels: marked}, grid, facts)
        return ()

    def training(self, job: Job) -> None:
        """Nobody asks: all are made of training subjects."""

    def finish(self, folder: Path) -> None:
        """Write the cohort: its real rows, and those of the cases that are there."""
        outputs = {outcome.output for outcome in self.outcomes if outcome.status != "failed"}
        done = [job for job in self.cases if job.output.relative_to(folder).as_posix() in outputs]
        write_cohort(folder, self.real, [(job.name, job.output, job.labels) for job in done])


def _check_use(order: AugmentOrder, config: _AugmentConfig, learnt: SynthesisConfig) -> None:
    if order.domain is not None or config.labels is not None or config.grid != _AugmentConfig().grid:
        raise ConfigError("a model brings its own domain, labels and grid; leave these out.")
    if learnt.generator.kind == "inpainting":
        raise ModelError(f"{order.model} paints healthy tissue; give a generator of lesions, such as mask_to_lesion.")


def _jobs(order: AugmentOrder, recipients: Sequence[Study]) -> list[_CaseJob]:
    """The cases; each round goes once through all recipients in an order of its own."""
    count = round(order.ratio_percent / 100 * len(recipients))
    if not count:
        raise DataError(f"{order.ratio_percent:g} % of {len(recipients)} training images are none; ask for more.")
    jobs: list[_CaseJob] = []
    for turn in range(-(-count // len(recipients))):
        for index in np.random.default_rng([order.seed, turn]).permutation(len(recipients)):
            study, number = recipients[int(index)], len(jobs)
            name = f"{study.subject.replace('/', '_')}_synthetic_{number:04d}"
            jobs.append(_CaseJob(study.image, name, order.output / SYNTHETIC / f"{name}.nii.gz", number, study))
    return jobs[:count]


def _mask_origin(method: str, config: _AugmentConfig) -> str:
    """Where a case's labels come from, in words."""
    if method == "sampled":
        return "drawn by the network, with the image"
    if method == "painted" and config.masks == "generated":
        return "drawn by a shape model of the donors' masks"
    return "a donor's mask as it is" if method == "carve-mix" else "a donor's mask, varied"


def _stored_image(volume: Volume, recipient: Labelled, case: Labelled) -> NDArray[Any]:
    """The recipient's stored intensities, (X, Y, Z), plus the change that was made on the networks' grid.

    What did not change is the file to the bit; whole numbers are rounded and kept within their type.
    """
    change = case.image.voxels - recipient.image.voxels
    result = volume.voxels.copy()
    for slab, added in on_grid(change, case.image.affine, volume.grid):
        result[..., slab] = np.where(added == 0, result[..., slab], result[..., slab] + added)
    return _as_stored(result, stored_type(volume.path))


def _stored_labels(mask: Volume, recipient: Labelled, case: Labelled, labels: Labels) -> NDArray[Any]:
    """The recipient's label map, (X, Y, Z), with what changed; a name is stored as the first of its values.

    Values that have no name stay.
    """
    changed = _nearest((case.labels != recipient.labels).astype(np.uint8), case.image.affine, mask.grid) > 0
    new = _values(_nearest(case.labels, case.image.affine, mask.grid), labels)
    known = np.isin(mask.voxels, [0, *(value for values in labels.values() for value in values)])
    return np.where(changed & ((new > 0) | known), new, mask.voxels).astype(stored_type(mask.path))


def _as_stored(voxels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Intensities in a file's type."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(voxels), limits.min, limits.max).astype(dtype)
    return voxels.astype(dtype)


def _values(labels: NDArray[np.uint8], names: Labels) -> NDArray[np.int64]:
    """Labels, n for the n-th name, as the values that masks have."""
    return np.array([0, *(values[0] for values in names.values())])[labels]


def _nearest(labels: NDArray[np.uint8], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) on a grid of their own as the nearest voxels of another have them; beyond it 0."""
    index = np.linalg.inv(affine) @ grid.affine
    # A voxel of a file may lie up to half a voxel outside the networks' grid: its neighbour's label is its own.
    framed = np.pad(labels, 1, mode="edge")
    return np.asarray(
        ndimage.affine_transform(framed, index[:3, :3], index[:3, 3] + 1, output_shape=grid.size, order=0)
    )
