"""Every command of the pages runs, in a folder that holds what the pages suppose.

One rule makes them short: a phantom has twelve subjects at most, each with a third of its voxels along each edge,
networks and patches are tiny and few, and a training has a few iterations. `make docs-check` runs them at full length.
"""

import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from golden.studies import CONTRAST, TRANSLATOR, run
from medgan.phantom.kinds import KINDS
from test_docs import commands

ROOT = Path(__file__).parents[1]
FULL = bool(os.environ.get("MEDGAN_DOCS_FULL"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINS = {"train", "segment-train"}
SUBJECTS = 12
FEW = ("patch.size_voxels=16", "fit.epochs=1", "fit.iterations_per_epoch=2", "fit.batch_size=2", "fit.workers=0")
SHORT = {
    "ct_contrast": CONTRAST,
    "mr_to_ct": TRANSLATOR,
    "segmentation": (*FEW, "network={channels: 8, downs: 1}"),
    "lesion_classification": (*FEW, "unlabelled_patches=16"),
}
"""By pipeline, how a training is made short; that of every other takes few steps."""
COPIES = {
    "runs/ct_contrast/first": "ct_contrast/N", "runs/ct_contrast/demo": "ct_contrast/N", "RUN": "ct_contrast/N",
    "M": "ct_contrast/N/model", "runs/segmenter/organs": "segmenter/S",
    "SEGMENTER_1": "segmenter/S/model", "SEGMENTER_2": "segmenter/S/model",
}  # fmt: skip
"""Runs and models by further names."""
EXCEPT = {
    r"cuda": "needs two GPUs",
    r"^medgan (study|benefit|sweep)": "tests/golden runs the seven studies",
    r"--converted DIR": "tests/faithfulness reads label maps",
    r"--study runs": "tests/report reads a study",
    r"reader-study (serve|score)|--task": "tests/readers serves, answers and scores",
    r"SAMPLES": "tests/evaluation/synthesis judges patches",
    r"cycle20|@champion": "tests/comparison has runs of these names",
    r"=.*{subject}/": "its scans lie in a folder a subject: tests/data",
    r"^medgan plan|--plan --minutes|--config plan.yaml": "tests/planning; a small phantom is too small for it",
    r"^medgan data register": "tests/registration registers real pairs",
}
"""Commands that do not run here, and why."""


def shortened(line: str) -> list[str]:
    """A command as it is run: as it stands, a training with small settings after its own."""
    given = shlex.split(line, comments=True)[1:]
    if FULL:
        return given
    if "--subjects" in given:
        place = given.index("--subjects") + 1
        given[place] = str(min(int(given[place]), SUBJECTS))
    if given[0] not in TRAINS or "--resume" in given:
        return given
    pipeline = given[given.index("--pipeline") + 1] if "--pipeline" in given else "segmentation"
    return [*given, *SHORT.get(pipeline, FEW)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the pages suppose: scans, cohorts and models by the names that they use."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MEDGAN_HOME", str(folder / "home"))
        if not FULL:
            patch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", SUBJECTS)
            for name, kind in KINDS.items():
                patch.setitem(KINDS, name, replace(kind, shape=tuple(size // 3 for size in kind.shape)))
        patch.chdir(folder)
        furnish(folder)
        yield folder


def furnish(folder: Path) -> None:
    """Scans of a few subjects, cohorts, models and what they gave."""
    run("data", "phantom", "phantom", "--subjects", "6")
    run("data", "phantom", "pairs", "--subjects", "6", "--kind", "abdomen_mr_ct")
    run("data", "phantom", "head", "--subjects", "12", "--kind", "head_mr")
    shutil.copytree("head", "mr")
    for image in sorted(folder.glob("phantom/*/*.nii.gz")):
        subject, kind = image.parent.name, image.name.removesuffix(".nii.gz")
        places = {"contrast": ("STUDIES", "INPUT", "INPUTS"), "plain": ("TRUTH",)}.get(kind, ())
        for place in (*places, *([f"scans/{kind}"] if places else ["scans/masks"] if kind == "lesions" else [])):
            (folder / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder / place / f"{subject}_0000.nii.gz")
    run("data", "csv", "scans", "--out", "cohort.csv", "--image", "{domain}/{subject}_*.nii.gz")
    for image in sorted(folder.glob("head/*/flair.nii.gz")):
        (folder / "IMAGES").mkdir(exist_ok=True)
        shutil.copy(image, folder / "IMAGES" / f"{image.parent.name}.nii.gz")
    labels = "labels={lesion: [26, 27]}"
    for name, data, *settings in (
        ("ct_contrast/N", "phantom", *CONTRAST),
        ("mr_to_ct/N", "pairs", *TRANSLATOR),
        (
            "segmentation/S",
            "phantom",
            "domain.name=contrast",
            "labels={liver: 5, lesion: [29, 30]}",
            "patch.size_voxels=16",
            *FEW,
        ),
        ("lesion_classification/few", "head", labels, *FEW),
        ("lesion_augmentation/N", "head", labels, *FEW),
    ):
        pipeline, name = name.split("/")
        run("train", "--pipeline", pipeline, "--data", f"{data}/cohort.csv", "--name", name, *settings)
    rows = [line.rpartition(",")[0] for line in Path("pairs/cohort.csv").read_text().splitlines()]
    Path("pairs/cohort.csv").write_text("\n".join(rows))  # without parts, which folds draw
    for copy, model in COPIES.items():
        shutil.copytree(f"runs/{model}", copy)
    run("convert", "STUDIES", "OUT", "--model", "M", "--change-map")
    run("convert", "pairs/cohort.csv", "SYNTHETIC_CT", "--model", "runs/mr_to_ct/N/model", "--part", "test")
    shutil.copytree("OUT", "out")
    shutil.copytree("TRUTH", "REAL")
    run("augment", "head", "AUGMENTED", "--method", "copy-paste", "--domain", "flair", "--ratio", "50")
    shutil.copytree("AUGMENTED", "augmented")


def clear(given: list[str]) -> None:
    """Put away what a command is to write, so that it is the page's own from here on."""
    if given[0] in TRAINS and "--name" in given and "--resume" not in given:
        pipeline = given[given.index("--pipeline") + 1] if "--pipeline" in given else "segmenter"
        shutil.rmtree(Path("runs", pipeline, given[given.index("--name") + 1]), ignore_errors=True)
    if given[0] in ("convert", "segment", "classify", "augment"):
        shutil.rmtree(given[2], ignore_errors=True)
    if given[:2] == ["reader-study", "make"]:
        shutil.rmtree(given[2], ignore_errors=True)
    if given[:2] == ["data", "csv"]:
        Path(given[given.index("--out") + 1]).unlink(missing_ok=True)


def lines(page):
    return [line for line in commands(page) if not any(re.search(pattern, line) for pattern in EXCEPT)]


@pytest.mark.parametrize("page", [page for page in PAGES if lines(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page, world, tmp_path, monkeypatch):
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDGAN_HOME", str(tmp_path / "home"))
    for line in lines(page):
        given = shortened(line)
        clear(given)
        run(*given)


def test_every_exception_is_of_a_command_that_a_page_has():
    every = [line for page in PAGES for line in commands(page)]
    assert [pattern for pattern in EXCEPT if not any(re.search(pattern, line) for line in every)] == []
