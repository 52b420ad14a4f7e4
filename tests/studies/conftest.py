"""A small paired cohort, and orders of studies whose translators train in a second."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medgan.studies.base import Order


@pytest.fixture(scope="session")
def cohort(save_cohort, tmp_path_factory) -> Path:
    """The CSV of 6 subjects with both scans: 2 are trained on, 2 validated, 2 tested."""
    return save_cohort(tmp_path_factory.mktemp("study"), paired=True, subjects=6, split=True)


@pytest.fixture(scope="session")
def ordered(cohort, tiny) -> Callable[..., Order]:
    """What a user asks: ``ordered(tmp_path, "fit.epochs=1", seeds=(0, 1))``, else a sweep of a tiny pix2pix."""
    settings = [setting for setting in tiny if not setting.startswith("seed=")]

    def make(out, *overrides, **changes):
        own = {"kind": "sweep", "pipeline": "ct_contrast", "name": "study", "data": cohort, "devices": ("cpu",)}
        return Order(out=out, overrides=(*settings, "translator=pix2pix", *overrides), **own | changes)

    return make
