"""A small paired cohort, and orders of studies whose children train in a second."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medgan.study.plan import StudyOrder


@pytest.fixture(scope="session")
def cohort(save_cohort, tmp_path_factory) -> Path:
    """The CSV of 6 subjects with both scans: 2 are trained on, 2 validated, 2 tested."""
    return save_cohort(tmp_path_factory.mktemp("study"), paired=True, subjects=6, split=True)


@pytest.fixture(scope="session")
def asked(cohort, tiny) -> Callable[..., StudyOrder]:
    """What a user asks: ``asked(tmp_path, overrides=["fit.epochs=1"], seeds=(0, 1))``, else a tiny pix2pix."""
    settings = [setting for setting in tiny if not setting.startswith("seed=")]

    def make(out, *, overrides=(), **changes):
        order = {"pipeline": "ct_contrast", "kind": "sweep", "name": "study", "data": cohort, "device": "cpu"} | changes
        return StudyOrder(out=out, overrides=[*settings, "translator=pix2pix", *overrides], **order)

    return make
