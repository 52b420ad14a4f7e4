"""What tests of reader studies share: whose scans, what a task needs, and answers as the page saves them."""

import json

from medgan.readers.answers import FORMAT
from medgan.readers.design import CHOICES
from medgan.readers.study import Places

SUBJECTS = tuple(f"zaphod{number:02d}" for number in range(8))


def places(scans, task):
    """What a task needs."""
    images = {name: scans / name for name in ("synthetic", "real", "other", "source", "labels")}
    needed = {
        "2afc": ("synthetic", "real"), "single": ("synthetic", "real"), "preference": ("synthetic", "other", "source"),
        "find": ("synthetic", "real", "labels"),
    }[task]  # fmt: skip
    return Places(**{name: images[name] for name in needed})


def answer(trial, choice=None, confidence=4):
    """To a trial, the right one by default, with a mark on the lesion."""
    choice = choice or trial.answer or CHOICES[trial.task][0]
    mark = None
    if choice == "present":
        lesion = trial.lesions[0] if trial.lesions else None
        mark = (
            {"slice": lesion.first, "row": lesion.row, "column": lesion.column}
            if lesion
            else dict.fromkeys(("slice", "row", "column"), 0)
        )
    return {"trial": trial.id, "choice": choice, "confidence": confidence, "mark": mark, "why": "", "seconds": 2.5}


def wrong(trial):
    """The other answer."""
    first, second = CHOICES[trial.task]
    return second if (trial.answer or first) == first else first


def write_answers(path, key, reader, answers, **changes):
    """A file as the page saves it."""
    content = {"format": FORMAT, "study": key.study, "reader": reader, "started": None, "answers": answers, **changes}
    path.write_text(json.dumps(content))
    return path
