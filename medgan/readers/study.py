"""``medgan reader-study make``: from images on disk to one blinded page, its key, and what to tell the readers."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data.masks import LABELS_JSON
from medgan.data.streams import write_json, write_text
from medgan.data.studies import AS_IT_IS, Options
from medgan.errors import ConfigError, DataError
from medgan.evaluation import matching
from medgan.evaluation.judging import label_names_of
from medgan.evaluation.matching import Place, Role
from medgan.readers import images, page
from medgan.readers.design import (
    KEY,
    MOST_PRACTICE_LEVELS,
    Arm,
    Designer,
    Equalised,
    Key,
    Lesion,
    ReaderStudy,
    Stack,
    Trial,
    catches_for,
    keyed,
    reserved_subjects,
)
from medgan.readers.images import Frame, Person, Scene
from medgan.readers.instructions import INSTRUCTIONS, instructions

UNLIKE = 1.2
"""A ratio of noise or sharpness in two arms from which it may give them away."""
LESIONS = ("lesion", "tumour", "tumor", "metasta", "nodule")
"""Within the names of labels."""


@dataclass(frozen=True)
class Places:
    """Where the images of a study are; each is FOLDER or COHORT:DOMAIN."""

    synthetic: Place
    real: Place | None = None
    other: Place | None = None
    """Of the second method, for preference."""
    source: Place | None = None
    labels: Place | None = None
    """Label maps with the lesions."""
    lesion: tuple[str, ...] = ()
    """Names in ``labels.json`` or numbers; by default what is called a lesion there, or the only label."""


@dataclass(frozen=True, eq=False)
class Made:
    """A study that was written."""

    key: Key
    folder: Path
    failures: tuple[str, ...]


def make_study(
    places: Places, out: Path, settings: ReaderStudy, *, seed: str | None = None, options: Options = AS_IT_IS
) -> Made:
    """Write ``study.html``, ``key.json`` and ``instructions.md`` into a folder.

    Raises:
        MedganError: Images that the task needs are missing, or no two of them belong together.
    """
    _check(places, settings, out)
    seed = seed or secrets.token_hex(16)
    people, values, failures = _people(places, settings, options)
    reserved = reserved_subjects(sorted({person.subject for person in people}), settings, seed)
    frame = images.frame_for((images.scene(person, settings, values) for person in people), settings)
    drawing = _Drawing(settings, frame, seed, reserved)
    scored = [person for person in people if person.subject not in reserved]
    for person in scored:
        drawing.add(images.scene(person, settings, values), settings.levels)
    for person in people:
        if person.subject in reserved:
            drawing.add(images.scene(person, settings, values), drawing.practice_levels(len(scored)))
    trials = Designer(settings, seed, drawing.stacks, reserved).trials()
    if not any(trial.role == "scored" for trial in trials):
        raise DataError("no trial could be made: no subject has the images that the task compares.")
    key = drawing.key(trials)
    html, key = page.finished(key, drawing.blobs)
    write_text(out / page.PAGE, html)
    write_text(out / INSTRUCTIONS, instructions(key))
    write_json(out / KEY, key.model_dump(mode="json"))
    (out / KEY).chmod(0o600)
    return Made(key, out, failures)


def _check(places: Places, settings: ReaderStudy, out: Path) -> None:
    if settings.unaware_first and settings.task != "find":
        raise ConfigError("--unaware-first is for --task find: readers look for lesions first.")
    needed = {"--real": places.real is None and settings.task != "preference",
              "--other": places.other is None and settings.task == "preference",
              "--labels": places.labels is None and settings.task == "find"}  # fmt: skip
    if lacking := [option for option, lacks in needed.items() if lacks]:
        raise ConfigError(f"--task {settings.task} needs {' and '.join(lacking)}; see docs/reader-study.md.")
    if (out / KEY).exists():
        raise ConfigError(f"{out} holds a study whose answers would be lost with its key; give another folder.")


def _people(
    places: Places, settings: ReaderStudy, options: Options
) -> tuple[list[Person], Sequence[int] | None, tuple[str, ...]]:
    """Images by arm, the first of which tells the grid; the values of lesions; and what is left out."""
    first: Arm = "other" if settings.task == "preference" else "real"
    reference = places.other if settings.task == "preference" else places.real
    assert reference is not None  # _check
    matching.check_heeded(options, [places.synthetic, reference, places.source, places.labels])
    others: dict[Role, matching.ImageSet] = {}
    if places.source is not None:
        others["source"] = matching.read_images(places.source, options=options)
    if places.labels is not None:
        others["labels"] = matching.read_images(places.labels, "mask", options=options)
    references = matching.read_images(reference, options=options)
    paired = None if settings.task == "single" and not settings.unaware_first else True
    matched = matching.match(matching.read_images(places.synthetic, options=options), references, others, paired)
    people = []
    for case in matched.cases:
        arms: dict[Arm, Path] = {}
        if "reference" in case.partners:
            arms[first] = case.partners["reference"]
        arms["synthetic"] = case.synthetic
        if settings.task == "preference" and "source" in case.partners:
            arms["source"] = case.partners["source"]
        people.append(Person(case.name, case.subject, arms, case.partners.get("labels")))
    if not matched.paired:
        people += [Person(f"real {image.name}", image.subject, {"real": image.path}) for image in references.images]
    if not people:
        reason = matched.failures[0].reason if matched.failures else "there are none"
        raise DataError(f"no synthetic image can be shown: {reason}")
    values = _lesion_values(places.lesion, others["labels"].folder) if "labels" in others else None
    return people, values, tuple(f"{failure.image}: {failure.reason}" for failure in matched.failures)


def _lesion_values(names: Sequence[str], folder: Path) -> list[int] | None:
    """The label values of lesions; None is whatever is marked."""
    known = label_names_of(None, folder) or {}
    wanted = [name for name in names if not name.isdigit()]
    if known and not names and not (wanted := [name for name in known if any(word in name for word in LESIONS)]):
        raise ConfigError(f"which of {', '.join(known)} is a lesion is not known; name it: --lesion NAME.")
    values = [int(name) for name in names if name.isdigit()]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--lesion {name}: {folder / LABELS_JSON} has {', '.join(known) or 'no labels'}.")
        value = known[name]
        values += [value] if isinstance(value, int) else value
    return values or None


class _Drawing:
    """Stacks and their pictures, as they are drawn."""

    def __init__(self, settings: ReaderStudy, frame: Frame, seed: str, reserved: Sequence[str]) -> None:
        self._settings, self._frame, self._seed, self._reserved = settings, frame, seed, reserved
        self._measured: list[Mapping[str, Mapping[str, float]]] = []
        self.stacks: list[Stack] = []
        self.blobs: dict[str, bytes] = {}

    def practice_levels(self, scored: int) -> int:
        """Of each reserved subject."""
        trials = scored * self._settings.levels * (1 if len(self._settings.asked) == 1 else 2)
        needed = self._settings.burn_in + catches_for(trials, self._settings)
        return min(MOST_PRACTICE_LEVELS, -(-needed // max(len(self._reserved), 1)))

    def add(self, scene: Scene, number: int) -> None:
        """Draw all arms at so many levels; of subjects for practice catch images too."""
        settings, frame, name = self._settings, self._frame, scene.person.name
        reserved = scene.person.subject in self._reserved
        choose = images.lesion_levels if settings.task == "find" else images.levels
        for level in choose(scene, number, frame):
            greys, measured = images.stacks_at(scene, level, frame, settings, self._seed)
            self._measured.append(measured)
            lesions = images.lesions_at(scene, level, frame, settings)
            stacks = {arm: images.rounded(values) for arm, values in greys.items()}
            for arm, pixels in stacks.items():
                self._keep(scene.person, level, arm, pixels, lesions)
            if reserved:
                word = keyed(self._seed, "catch", name, level)
                pixels = stacks.get("real", next(iter(stacks.values())))
                if settings.task == "find":
                    pixels, lesion = images.obvious_lesion(pixels, frame, word)
                    lesions = (*lesions, lesion)
                else:
                    pixels = images.obvious_fake(pixels, word)
                self._keep(scene.person, level, "catch", pixels, lesions)

    def _keep(self, person: Person, level: int, arm: Arm, pixels: NDArray[np.uint8], lesions: Sequence[Lesion]) -> None:
        id_ = keyed(self._seed, "stack", person.name, level, arm)[:12]
        stack = Stack(id=id_, subject=person.subject, image=person.name, level=level, arm=arm, lesions=tuple(lesions))
        self.stacks.append(stack)
        self.blobs[id_] = images.png(pixels)

    def key(self, trials: Sequence[Trial]) -> Key:
        """Everything about the study; blobs that no trial shows are forgotten, the others get one length."""
        used = {id_ for trial in trials for id_ in (*trial.stacks, trial.source)}
        self.blobs = images.padded({id_: blob for id_, blob in self.blobs.items() if id_ in used}, self._seed)
        frame = self._frame
        middle = {what: self._middle(what) for what in ("before", "noise", "grain", "sharpness")}
        equalised = Equalised(
            pixel_mm=frame.pixel_mm, slice_mm=frame.slice_mm, rows=frame.rows, columns=frame.columns,
            slices=frame.slices, lower=frame.lower, upper=frame.upper, unit=frame.window.unit,
            window=frame.window.name, shown=(frame.window.lower, frame.window.upper), noise=middle["noise"],
            noise_before=middle["before"], grain=middle["grain"], sharpness=middle["sharpness"],
            blob_bytes=len(next(iter(self.blobs.values()), b"")),
        )  # fmt: skip
        return Key(
            study="", seed=self._seed, medgan=version("medgan"), settings=self._settings, equalised=equalised,
            stacks=tuple(stack for stack in self.stacks if stack.id in used), trials=tuple(trials),
            notes=tuple(self._notes(trials, equalised)),
        )  # fmt: skip

    def _middle(self, what: str) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for measured in self._measured:
            for arm, value in measured[what].items():
                values.setdefault(arm, []).append(value)
        return {arm: round(float(np.median(each)), 3) for arm, each in values.items()}

    def _notes(self, trials: Sequence[Trial], equalised: Equalised) -> Iterator[str]:
        """What whoever made the study should know before anybody reads."""
        practice = min(
            sum(trial.role == "practice" and trial.task == task for trial in trials) for task in self._settings.asked
        )
        if practice < self._settings.burn_in:
            yield (
                f"Practice has {practice} trials instead of {self._settings.burn_in}: at most a quarter of the "
                "subjects is kept for it; give more subjects."
            )
        for what, values in (
            ("noise", equalised.noise),
            ("grain of noise", equalised.grain),
            ("sharpness", equalised.sharpness),
        ):
            low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
            if high > UNLIKE * low:
                told = ", ".join(f"{arm} {value:.2f}" for arm, value in values.items())
                advice = (
                    "; --equal-noise adds noise to the smoother arm"
                    if what == "noise" and not self._settings.equal_noise
                    else ""
                )
                yield f"The arms differ in {what} ({told}), by which readers may tell them{advice}."
