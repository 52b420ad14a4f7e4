"""Who is in which table: only the share of lesions in the target differs, and nobody is where he must not be."""

import json
from collections import defaultdict

import numpy as np
import pytest
from pydantic import ValidationError

from medgan.data.tables import read_table
from medgan.errors import ConfigError
from medgan.phantom.tissues import LESIONS
from medgan.study.prevalence_design import LABELS, PrevalenceDesign, rendered

DESIGN = PrevalenceDesign(
    train=3, validation=1, test=2, labelled=2, labelled_validation=1, labelled_percent=100, shape_voxels=(16, 16, 4)
)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return rendered(DESIGN, "abdomen_ct")


def parts(cohorts, percent, paired):
    found = defaultdict(set)
    for study in read_table(cohorts.table(percent, paired=paired)).studies:
        found[study.split, study.domain].add(study.subject)
    return found


def share_with_lesions(studies):
    """By the sidecars: in voxels as large as these a small lesion is in none."""
    return np.mean([json.loads(study.image.with_name("plain.json").read_text())["lesions"] for study in studies])


def in_training(cohorts, percent, paired, domain):
    table = read_table(cohorts.table(percent, paired=paired)).studies
    return [study for study in table if study.split != "test" and study.domain == domain]


@pytest.mark.parametrize(("percent", "least", "most"), [(0, 0, 0), (50, 0.2, 0.8), (100, 1, 1)])
def test_the_targets_subjects_have_lesions_as_often_as_the_table_says(cohorts, percent, least, most):
    for paired in (False, True):
        share = share_with_lesions(in_training(cohorts, percent, paired, "plain"))
        assert least <= share <= most


def test_the_source_is_the_same_at_every_prevalence_but_for_pairs(cohorts):
    sources = [in_training(cohorts, percent, False, "contrast") for percent in (0, 50, 100)]
    assert sources[0] == sources[1] == sources[2]
    assert 0.2 <= share_with_lesions(sources[0]) <= 0.8
    assert share_with_lesions(in_training(cohorts, 100, True, "contrast")) == 1


@pytest.mark.parametrize("percent", [0, 50, 100])
def test_unpaired_subjects_have_one_scan_and_pairs_two(cohorts, percent):
    unpaired, paired = parts(cohorts, percent, False), parts(cohorts, percent, True)
    for part, count in (("train", 3), ("validation", 1)):
        assert len(unpaired[part, "contrast"]) == len(unpaired[part, "plain"]) == count
        assert not unpaired[part, "contrast"] & unpaired[part, "plain"]
        assert paired[part, "contrast"] == paired[part, "plain"] == unpaired[part, "plain"]


def test_the_same_unseen_subjects_are_tested_everywhere(cohorts):
    tables = [parts(cohorts, percent, paired) for percent in (0, 50, 100) for paired in (False, True)]
    tested = {study.subject for study in cohorts.tested("contrast")}
    assert len(tested) == 2
    for table in tables:
        assert table["test", "contrast"] == table["test", "plain"] == tested
        assert not tested & (table["train", "contrast"] | table["train", "plain"])


def test_the_segmenters_subjects_are_nobody_elses(cohorts):
    train, validation = cohorts.labelled("plain")
    assert (len(train), len(validation)) == (2, 1)
    assert share_with_lesions(train) == 1
    images = {
        study.image for percent in (0, 50, 100) for study in read_table(cohorts.table(percent, paired=True)).studies
    }
    assert not images & {study.image for study in (*train, *validation)}


def test_subjects_are_rendered_once(cohorts, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(cohorts.root.parents[1]))
    before = {path: path.stat().st_mtime_ns for path in cohorts.root.rglob("*.nii.gz")}
    assert rendered(DESIGN, "abdomen_ct").root == cohorts.root
    assert {path: path.stat().st_mtime_ns for path in cohorts.root.rglob("*.nii.gz")} == before


def test_lesions_are_what_the_phantom_calls_so():
    assert set(LABELS["lesion"]) == set(LESIONS)


def test_a_phantom_without_liver_lesions_is_refused():
    with pytest.raises(ConfigError, match="'head_mr' has no liver lesions"):
        rendered(DESIGN, "head_mr")


@pytest.mark.parametrize("prevalences", [(50,), (0, 0), (0, 101)])
def test_prevalences_that_give_no_slope_are_refused(prevalences):
    with pytest.raises(ValidationError):
        PrevalenceDesign(prevalences_percent=prevalences)
