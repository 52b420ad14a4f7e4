import re

import pytest

from medgan.phantom.kinds import KINDS


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_names_two_domains_and_its_labels(kind):
    assert len(set(kind.domains)) == 2
    assert kind.domains == kind.scans[:2]
    assert set(kind.units.values()) <= {"HU", "arbitrary"}
    assert 0 in set(kind.labels)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_what_a_kind_renders_is_what_it_says(kind):
    volumes = kind.renderer.render_subject(0, 0, shape=(16, 16, 2), lesions=kind.lesions)
    assert set(volumes) == {*kind.scans, "labels", "lesions"}
    assert kind.mask in volumes
    assert set(kind.renderer.describe(0, 0, lesions=kind.lesions)) == set(kind.scans)
    assert min(kind.renderer.default_spacing_mm(kind.shape)) > 0


def test_domains_are_words_that_a_cohort_can_hold():
    assert all(re.fullmatch("[a-z0-9_]+", domain) for kind in KINDS.values() for domain in kind.scans)
