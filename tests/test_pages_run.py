"""Every command of the pages runs, in a folder that holds what the pages suppose.

One rule makes them short: the phantom is rendered with an eighth of its voxels along each edge's half, networks are
tiny, and a training has a few iterations. `make docs-check` runs them at full length.
"""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from golden.studies import CONTRAST, TRANSLATOR, run
from test_docs import commands, words

from medgan.phantom.kinds import KINDS

ROOT = Path(__file__).parents[1]
FULL = bool(os.environ.get("MEDGAN_DOCS_FULL"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINS = {"train", "segment-train"}
FEW = ("fit.epochs=1", "fit.iterations_per_epoch=2", "fit.batch_size=2", "fit.workers=0")
SHORT = {"ct_contrast": CONTRAST, "mr_to_ct": TRANSLATOR}
"""By pipeline, how a training is made short; that of every other takes few steps."""
EXCEPT = {
    r"cuda": "needs two GPUs",
    r"^medgan (study|benefit|sweep)": "tests/golden runs the seven studies",
    r"^medgan data register": "tests/registration registers real pairs",
}
"""Commands that do not run here, and why."""


def shortened(line: str) -> list[str]:
    """A command as it is run: as it stands, a training with small settings after its own."""
    given = words(line)
    if FULL or given[0] not in TRAINS or "--resume" in given:
        return given
    pipeline = given[given.index("--pipeline") + 1] if "--pipeline" in given else "segmentation"
    return [*given, *SHORT.get(pipeline, FEW)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the pages suppose: scans, cohorts and models by the names that they use."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MEDGAN_CACHE", "MEDGAN_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        if not FULL:
            for name, kind in KINDS.items():
                patch.setitem(KINDS, name, replace(kind, shape=tuple(size // 2 for size in kind.shape)))
        patch.chdir(folder)
        furnish(folder)
        yield folder


def furnish(folder: Path) -> None:
    """Scans of six subjects, cohorts, models and what they gave."""
    run("data", "phantom", "phantom", "--subjects", "6")
    run("data", "phantom", "pairs", "--subjects", "6", "--kind", "abdomen_mr_ct")
    run("data", "phantom", "head", "--subjects", "6", "--kind", "head_mr")
    for image in sorted(folder.glob("phantom/*/*.nii.gz")):
        subject, kind = image.parent.name, image.name.removesuffix(".nii.gz")
        places = {"contrast": ("STUDIES", "INPUT", "INPUTS", "IMAGES"), "plain": ("TRUTH",)}.get(kind, ())
        for place in (*places, *([f"scans/{kind}"] if places else ["scans/masks"] if kind == "lesions" else [])):
            (folder / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder / place / f"{subject}_ct.nii.gz")
    run("data", "csv", "scans", "--out", "cohort.csv")
    train = ("train", "--pipeline", "ct_contrast", "--data", "phantom/cohort.csv", "--name", "N")
    run(*train, *SHORT["ct_contrast"])
    for name in ("first", "demo"):
        shutil.copytree("runs/ct_contrast/N", f"runs/ct_contrast/{name}")
    model = "runs/ct_contrast/N/model"
    shutil.copytree(model, "M")
    run("convert", "STUDIES", "OUT", "--model", model, "--change-map")


def lines(page):
    return [line for line in commands(page) if not any(re.search(pattern, line) for pattern in EXCEPT)]


@pytest.mark.parametrize("page", [page for page in PAGES if lines(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page, world, tmp_path, monkeypatch):
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for line in lines(page):
        if " data csv " in line:  # which writes over nothing
            Path("cohort.csv").unlink(missing_ok=True)
        run(*shortened(line))


def test_every_exception_is_of_a_command_that_a_page_has():
    every = [line for page in PAGES for line in commands(page)]
    assert [pattern for pattern in EXCEPT if not any(re.search(pattern, line) for line in every)] == []
