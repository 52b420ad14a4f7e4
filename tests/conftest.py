"""What every test may ask for: the real data's folder, when there is one."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def medgan_data() -> Path:
    """The folder of real volumes; tests that need it skip where MEDGAN_DATA is unset and fail where it is wrong."""
    folder = os.environ.get("MEDGAN_DATA")
    if not folder:
        pytest.skip("MEDGAN_DATA is not set: no real volumes to test on")
    path = Path(folder)
    assert path.is_dir(), f"MEDGAN_DATA={folder} is not a folder"
    return path
