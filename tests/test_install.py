"""A wheel of the repository, installed where no checkout is in reach."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of what a commit would hold: a clean copy has no build folder or egg-info to lean on."""
    source = tmp_path_factory.mktemp("source")
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An empty environment with the wheel; it borrows only the dependencies, which take minutes to install."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder)
    python = str(folder / "bin" / "python")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Searched after the environment's own packages, and its .pth files, an editable medgan's among them, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = run(python, "-c", "import medgan; print(medgan.__file__)", cwd=folder).strip()
    assert Path(found).is_relative_to(packages)
    return folder


def test_the_wheel_holds_every_module_and_every_config(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    own = [path for pattern in ("*.py", "*.html") for path in (ROOT / "medgan").rglob(pattern)]
    modules = {str(path.relative_to(ROOT)) for path in own}
    beside = {
        f"medgan/{path.relative_to(ROOT)}" for pattern in ("pipelines/*.py", "configs/*") for path in ROOT.glob(pattern)
    }
    expected = {name for name in modules | beside if "__pycache__" not in name} | {"medgan/py.typed"}
    assert expected - held == set()
    assert any(name.endswith(".yaml") for name in expected)
    assert any(name.endswith("licenses/LICENSE") for name in held)


AUTHOR = "from importlib.metadata import metadata; print(metadata('medgan')['Author'])"
CONFIGS = "from importlib.resources import files; print([entry.name for entry in files('medgan.configs').iterdir()])"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["medgan", "pipelines"], "ct_contrast"),
        (["medgan", "--help"], "train"),
        (["python", "-m", "medgan", "--version"], "medgan "),
        (["python", "-c", AUTHOR], "The medgan developers\n"),
        (["python", "-c", CONFIGS], "'ct_contrast.yaml'"),
    ],
    ids=["pipelines", "help", "module", "author", "configs"],
)
def test_an_installed_medgan_answers(environment, command, said):
    assert said in run(str(environment / "bin" / command[0]), *command[1:], cwd=environment)
