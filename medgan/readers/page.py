"""The page that readers see: all of a study but its key, in one file that needs nothing else."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from medgan.errors import DataError
from medgan.pictures.views import sides
from medgan.pictures.windows import WINDOWS
from medgan.readers.design import CHOICES, Key, Task, Trial, ordered
from medgan.report.templates import in_script, template

PAGE = "study.html"
NOTICED = "noticed"
"""The name of the answer to what struck readers before they were told that images are synthetic."""
QUESTIONS: dict[Task, str] = {
    "2afc": "Which of the two images is the real scan?",
    "preference": "Which of the two images would you rather read?",
    "single": "Is this image a real scan, or synthetic?",
    "find": "Is there a lesion? Mark it in the image.",
}
LABELS: dict[Task, tuple[str, str]] = {
    "2afc": ("Image 1", "Image 2"), "preference": ("Image 1", "Image 2"), "single": ("Real", "Synthetic"),
    "find": ("Lesion", "No lesion"),
}  # fmt: skip
EMBEDDED = re.compile(r'(<script type="application/json" id="study">)(.*?)(</script>)', re.DOTALL)


def finished(key: Key, blobs: Mapping[str, bytes]) -> tuple[str, Key]:
    """The page of a study, and the key with the hash of what the page holds."""
    shown = _payload(key) | {"blobs": {id_: base64.b64encode(blob).decode() for id_, blob in sorted(blobs.items())}}
    study = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
    signed = key.model_copy(update={"study": study})
    script = files("medgan.readers").joinpath("page.js").read_text(encoding="utf-8")
    page = template("page.html", "medgan.readers")
    return page.render(script=Markup(script), study=_embedded({"study": study, "save": None} | shown)), signed


def for_reader(html: str, key: Key, reader: int, name: str, save: str) -> str:
    """The page in the order of one reader, who is known and whose answers go to the address ``save``."""
    found = EMBEDDED.search(html)
    content = json.loads(found[2]) if found else {}
    if content.get("study") != key.study:
        raise DataError("the page is not that of the key; give the folder that `medgan reader-study make` wrote.")
    content |= _payload(key, reader) | {"save": save, "reader": name}
    return EMBEDDED.sub(lambda match: match[1] + str(_embedded(content)) + match[3], html, count=1)


def _embedded(content: Mapping[str, Any]) -> Markup:
    return in_script(json.dumps(content, separators=(",", ":")))


def _payload(key: Key, reader: int = 0) -> dict[str, Any]:
    """What the page tells its script; nothing of it names a subject, a file or an arm, but for practice."""
    same, settings = key.equalised, key.settings
    windows = {same.window: same.shown}
    if same.unit == "HU":
        fits = {w.name: (w.lower, w.upper) for w in WINDOWS.values() if same.lower <= w.lower and w.upper <= same.upper}
        windows |= fits
    windows["whole range"] = (same.lower, same.upper)
    return {
        "title": "Reader study", "rows": same.rows, "columns": same.columns, "slices": same.slices,
        "pixel_mm": same.pixel_mm, "lower": same.lower, "upper": same.upper, "unit": same.unit,
        "windows": [{"name": name, "lower": low, "upper": high} for name, (low, high) in windows.items()],
        "sides": sides(settings.plane), "noticed": NOTICED if settings.unaware_first else None,
        "blocks": [_block(task, key) for task in settings.asked],
        "trials": [_shown(trial) for trial in ordered(key.trials, settings, key.seed, reader)],
    }  # fmt: skip


def _block(task: Task, key: Key) -> dict[str, Any]:
    labels, settings = LABELS[task], key.settings
    return {
        "task": task, "question": settings.question or QUESTIONS[task],
        "choices": [{"value": value, "label": label} for value, label in zip(CHOICES[task], labels, strict=True)],
        "intro": list(_intro(task, key)),
    }  # fmt: skip


def _intro(task: Task, key: Key) -> list[str]:
    """What readers are told before a block, by paragraph."""
    settings = key.settings
    own = [trial for trial in key.trials if trial.task == task]
    practice = sum(trial.role == "practice" for trial in own)
    counted = [trial for trial in own if trial.role == "scored"]
    share = round(100 * sum(trial.answer == CHOICES[task][0] for trial in counted) / max(len(counted), 1))
    what = {
        "2afc": "Each pair shows the same patient at the same level: one image is a real scan, the other is synthetic.",
        "preference": "Each pair shows the same patient at the same level, made by two methods.",
        "single": "Each image is either a real scan or synthetic.",
        "find": "In each stack there may be a lesion. If there is one, click on it; else choose “No lesion”.",
    }[task]
    told = {"single": f"{share} % of the images are real.", "find": f"{share} % of the stacks have a lesion."}.get(
        task, ""
    )
    feedback = "" if task == "preference" else " After each of them you see whether you were right."
    parts = [
        what,
        told if settings.tell_prevalence else "",
        f"There are {len(own)} trials. The first {practice} are for practice.{feedback}" if practice
        else f"There are {len(own)} trials.",
        "Say also how sure you are, from 1 (a guess) to 5 (certain). You may pause at any time.",
    ]  # fmt: skip
    return [part for part in parts if part]


def _shown(trial: Trial) -> dict[str, Any]:
    practice = None
    if trial.role == "practice" and trial.answer:
        marks = [lesion.model_dump() for lesion in trial.lesions]
        practice = {"right": CHOICES[trial.task].index(trial.answer), "lesions": marks}
    shown = {"id": trial.id, "task": trial.task, "stacks": trial.stacks, "source": trial.source or None}
    return shown | {"practice": practice}
