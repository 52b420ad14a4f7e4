import subprocess
from importlib.metadata import version

import pytest

from medgan.tracking import code_revision


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    package = tmp_path / "medgan"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    return package


def head(folder):
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout.strip()


def test_a_checkout_is_named_by_its_commit(checkout):
    assert code_revision(checkout) == head(checkout)


def test_changed_files_make_it_dirty(checkout):
    (checkout / "__init__.py").write_text("changed = True")
    assert code_revision(checkout) == f"{head(checkout)}-dirty"


def test_a_release_is_named_by_its_version(tmp_path):
    assert code_revision(tmp_path) == f"medgan {version('medgan')}"


def test_an_environment_inside_of_another_repository_is_a_release(checkout):
    installed = checkout.parent / ".venv" / "medgan"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert code_revision(installed) == f"medgan {version('medgan')}"


def test_the_package_knows_its_own_revision():
    assert code_revision()
