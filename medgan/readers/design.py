"""A study's trials: what stands beside what, in which order, and the key that only its makers hold.

Ids, sides and orders are keyed hashes (HMAC-SHA-256) of the seed in the key file: without that they cannot be told.
"""

import hashlib
import hmac
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from medgan.config import Config
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError

Task = Literal["2afc", "single", "preference", "find"]
Arm = Literal["real", "synthetic", "other", "source", "catch"]
"""What an image is: ``other`` is of the second method, ``catch`` an obvious fake, or an obvious lesion."""
Role = Literal["practice", "scored", "repeat", "catch"]

KEY = "key.json"
SIDES = ("left", "right")
CHOICES: dict[Task, tuple[str, str]] = {
    "2afc": SIDES, "preference": SIDES, "single": ("real", "synthetic"), "find": ("present", "absent"),
}  # fmt: skip
"""The answers of each task."""
MOST_PRACTICE_LEVELS = 12
"""Trials that one subject gives for practice and catch trials."""


class ReaderStudy(Config):
    """What readers are asked, and how images are brought to one look."""

    task: Task = "2afc"
    unaware_first: bool = False
    """Readers first look for lesions without being told that images are synthetic; then they tell single images."""
    levels: int = Field(default=1, ge=1, le=20)
    """Places of a subject that are shown, each once."""
    slices: int = Field(default=9, ge=1, le=99)
    """Of a stack, around its level."""
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    window: str = "auto"
    """Name of a window, ``LOWER,UPPER``, or auto: soft tissue for HU, percentiles of the real image for others."""
    pixel_mm: float | None = Field(default=None, gt=0)
    """Edge of a pixel; by default the middle one of the studies."""
    body_only: bool = False
    """Make air and table alike: what is outside of the body in all arms is black."""
    equal_noise: bool = False
    """Add noise to the smoother arm of each pair."""
    burn_in: int = Field(default=10, ge=0, le=100)
    """Trials before those that count, with feedback."""
    repeats: float = Field(default=0.1, ge=0, le=1)
    """Share of the trials that are shown twice."""
    catch: float = Field(default=0.05, ge=0, le=1)
    """Obvious trials, as a share of the others."""
    tell_prevalence: bool = True
    """Readers are told how many of the images are real, or have a lesion."""
    question: str = Field(default="", max_length=300)
    """Instead of the task's own question."""

    @property
    def reserved(self) -> bool:
        """Whether some subjects are kept for practice and catch trials."""
        return self.burn_in > 0 or self.catch > 0

    @property
    def asked(self) -> tuple[Task, ...]:
        """The tasks, in the order of their blocks."""
        return ("find", "single") if self.unaware_first else (self.task,)


class Lesion(Config):
    """A lesion within a stack: a mark on its slices and near its centre has found it."""

    first: int
    last: int
    row: float
    column: float
    radius: float
    """In pixels, to its farthest pixel and 3 mm beyond."""


class Stack(Config):
    """What an image of the page is."""

    id: str
    subject: str
    image: str
    """The name of the synthetic image; of the real one beside it too."""
    level: int
    arm: Arm
    lesions: tuple[Lesion, ...] = ()


class Trial(Config):
    """One question, its images from left to right, and its right answer, empty where there is none."""

    id: str
    task: Task
    role: Role
    subject: str
    image: str
    level: int
    stacks: tuple[str, ...]
    arms: tuple[Arm, ...]
    source: str = ""
    """The stack that stands beside, for comparison."""
    answer: str = ""
    lesions: tuple[Lesion, ...] = ()
    repeats: str = ""
    """Which trial is shown again."""
    half: int = 0
    """The two arms of a subject come in different halves, and repeats in the second."""


class Equalised(Config):
    """What both arms have in common, and what was measured in them."""

    pixel_mm: float
    slice_mm: float
    rows: int
    columns: int
    slices: int
    lower: float
    upper: float
    """The intensities of grey 0 and 255; of images without a unit percent of the real image's range."""
    unit: str
    window: str
    """The name of the window that is shown first."""
    shown: tuple[float, float]
    noise: dict[str, float]
    """By arm, the middle noise in grey levels of 255, as shown."""
    noise_before: dict[str, float]
    grain: dict[str, float]
    """By arm, how coarse the noise is: that in means of 2 x 2 pixels as a share of it; .5 if white."""
    sharpness: dict[str, float]
    """By arm, the middle absolute step between neighbouring pixels, in grey levels."""
    blob_bytes: int
    """Of every stack in the page."""


class Key(Config):
    """Who is who in a study; readers must not have it."""

    study: str
    """SHA-256 of what the page holds."""
    seed: str
    medgan: str
    settings: ReaderStudy
    equalised: Equalised
    stacks: tuple[Stack, ...]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Key":
        """A key file, or that in a study's folder.

        Raises:
            DataError: It is missing or no key.
        """
        file = path / KEY if path.is_dir() else path
        try:
            return cls.model_validate(read_json(file))
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"{file}: {reason}; give the {KEY} that `medgan reader-study make` wrote.") from None
        except (ValueError, ValidationError) as error:
            reason = "it is not the key of a reader study" if isinstance(error, ValidationError) else str(error)
            raise DataError(f"{file}: {reason}; give the {KEY} that `medgan reader-study make` wrote.") from None


def keyed(seed: str, *words: object) -> str:
    """A word of 64 hexadecimal digits that only who has the seed can tell."""
    return hmac.new(seed.encode(), "\n".join(map(str, words)).encode(), hashlib.sha256).hexdigest()


def reserved_subjects(subjects: Sequence[str], settings: ReaderStudy, seed: str) -> list[str]:
    """Who is kept for practice and catch trials, so that feedback tells nothing of those that count."""
    if not settings.reserved:
        return []
    if len(subjects) < 2:
        raise ConfigError(
            "one subject is too few: practice and catch trials need one of their own; give more subjects, or "
            "--burn-in 0 --catch 0."
        )
    wanted = max(1, math.ceil(settings.burn_in / 5))
    return sorted(subjects, key=lambda name: keyed(seed, "reserved", name))[: min(wanted, max(1, len(subjects) // 4))]


def catches_for(scored: int, settings: ReaderStudy) -> int:
    """How many catch trials stand beside so many others."""
    return math.ceil(settings.catch * scored)


class Designer:
    """Makes trials of stacks."""

    def __init__(self, settings: ReaderStudy, seed: str, stacks: Sequence[Stack], reserved: Sequence[str]) -> None:
        self._settings, self._seed, self._reserved = settings, seed, frozenset(reserved)
        self._places: dict[tuple[str, int], dict[Arm, Stack]] = {}
        for stack in stacks:
            self._places.setdefault((stack.image, stack.level), {})[stack.arm] = stack
        self._subjects = {stack.image: stack.subject for stack in stacks}

    def trials(self) -> list[Trial]:
        """All of them, as a first reader sees them."""
        trials = [trial for task in self._settings.asked for trial in self._of_task(task)]
        return ordered(trials, self._settings, self._seed, 0)

    def _of_task(self, task: Task) -> Iterator[Trial]:
        """Practice, what counts, repeats and catch trials."""
        scored = self._in_halves([t for place in self._sorted(False) for t in self._trials_at(task, place, "scored")])
        yield from scored
        reserved = self._sorted(True)
        most_practice = self._settings.burn_in
        catches = catches_for(len(scored), self._settings)
        caught = [t for place in reserved for t in self._trials_at(task, place, "catch")][:catches]
        yield from self._in_halves(caught)
        used = {(trial.image, trial.level) for trial in caught}
        others = sorted(reserved, key=lambda place: place in used)
        yield from [t for place in others for t in self._trials_at(task, place, "practice")][:most_practice]
        first = sorted((t for t in scored if t.half == 0), key=lambda t: keyed(self._seed, "repeat", t.id))
        for trial in first[: math.ceil(self._settings.repeats * len(scored))]:
            sides = slice(None, None, -1)  # the other way round
            answer = SIDES[1 - SIDES.index(trial.answer)] if trial.answer in SIDES else trial.answer
            yield trial.model_copy(
                update={
                    "id": self._id("repeat", trial.id), "role": "repeat", "repeats": trial.id, "half": 1,
                    "stacks": trial.stacks[sides], "arms": trial.arms[sides], "answer": answer,
                }
            )  # fmt: skip

    def _sorted(self, reserved: bool) -> list[tuple[str, int]]:
        places = [place for place in self._places if (self._subjects[place[0]] in self._reserved) is reserved]
        return sorted(places, key=lambda place: keyed(self._seed, "place", *place))

    def _trials_at(self, task: Task, place: tuple[str, int], role: Role) -> Iterator[Trial]:
        """The questions about one level of an image."""
        there = self._places[place]
        if task in ("2afc", "preference"):
            pair: list[Arm] = ["real", "synthetic"] if task == "2afc" else ["synthetic", "other"]
            if role == "catch":
                pair = [pair[0], "catch"]
            if all(arm in there for arm in pair):
                yield self._trial(task, role, [there[arm] for arm in pair], there.get("source"))
            return
        arms: list[Arm] = ["catch"] if role == "catch" else ["real", "synthetic"]
        for arm in arms:
            if arm in there:
                yield self._trial(task, role, [there[arm]], None)

    def _trial(self, task: Task, role: Role, stacks: list[Stack], source: Stack | None) -> Trial:
        id_ = self._id(task, role, *(stack.id for stack in stacks))
        answer, turned = "", int(keyed(self._seed, "side", id_), 16) % 2
        if len(stacks) == 2:
            answer = SIDES[turned] if task == "2afc" or role == "catch" else ""
            stacks = stacks[::-1] if turned else stacks
        elif task == "single":
            answer = "real" if stacks[0].arm == "real" else "synthetic"
        else:
            answer = "present" if stacks[0].lesions else "absent"
        return Trial(
            id=id_, task=task, role=role, subject=stacks[0].subject, image=stacks[0].image,
            level=stacks[0].level, stacks=tuple(stack.id for stack in stacks),
            arms=tuple(stack.arm for stack in stacks), source=source.id if source else "", answer=answer,
            lesions=stacks[0].lesions if task == "find" else (),
        )  # fmt: skip

    def _in_halves(self, trials: list[Trial]) -> list[Trial]:
        """Each trial in a half: the arms of a place in different ones, and as many in one as in the other."""
        places = dict.fromkeys((trial.image, trial.level) for trial in trials)
        turn = {place: number % 2 for number, place in enumerate(places)}
        seen: dict[tuple[str, int], int] = {}
        halves = []
        for trial in trials:
            place = trial.image, trial.level
            halves.append(trial.model_copy(update={"half": (turn[place] + seen.get(place, 0)) % 2}))
            seen[place] = seen.get(place, 0) + 1
        return halves

    def _id(self, *words: object) -> str:
        return keyed(self._seed, "trial", *words)[:12]


def ordered(trials: Sequence[Trial], settings: ReaderStudy, seed: str, reader: int) -> list[Trial]:
    """The trials as a reader sees them, by number: practice first, then the halves, each in an order of their own."""
    blocks = {task: number for number, task in enumerate(settings.asked)}
    return sorted(
        trials,
        key=lambda t: (blocks[t.task], t.role != "practice", t.half, keyed(seed, "order", reader, t.id)),
    )
