"""Lesion prevalence: a study that has run; its cohorts, its detector, its slopes."""

import json
from collections import defaultdict
from copy import copy
from itertools import product
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from rich.console import Console

from golden.studies import PREVALENCE
from medgan.data.layouts import Study
from medgan.data.patches import PatchConfig
from medgan.data.tables import read_table
from medgan.data.volumes import Volume, read_volume, write_volume
from medgan.errors import ConfigError, LeakageError
from medgan.phantom.tissues import LESIONS, Tissue
from medgan.segmentation.settings import SegmenterDescription
from medgan.studies import lesion_prevalence
from medgan.studies.engine import read_json, run_study, write_json
from medgan.studies.lesion_prevalence import (
    LABELS,
    NUMBERS,
    PLAIN,
    REAL,
    WATCHED,
    WINDOWS_HU,
    LesionPrevalence,
    PrevalenceDesign,
    _Detector,
    _measures,
    _PrevalenceCohorts,
    _semantic_differences,
    _slopes,
)  # fmt: skip
from medgan.training.model_folder import read_model
from medgan.translators.semantic import SemanticConsistency
from tables import printed

TRANSLATORS = ("cyclegan", "cyclegan_semantic", "pix2pix")


@pytest.fixture(scope="module")
def study(ordered, tmp_path_factory):
    """A study that is not begun."""
    return LesionPrevalence(ordered("lesion-prevalence", tmp_path_factory.mktemp("study")), Console(quiet=True))


@pytest.fixture(scope="module")
def pipeline(study):
    return next(iter(study.parts[0, False].pipelines.values()))


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_the_segmenters_look_as_the_translator_does(study, pipeline, dimensions):
    patch = {"dimensions": dimensions, "size_voxels": 16} | ({"depth_voxels": 8} if dimensions == "3" else {})
    config = pipeline.config.model_copy(update={"patch": PatchConfig.model_validate(patch)})
    own = copy(study)
    own.parts = {0: SimpleNamespace(pipelines={"a": type(pipeline)(config)})}
    target, source = (own._segmenter_task(side).args[0] for side in ("target", "source"))
    assert target.patch.spatial == source.patch.spatial == config.patch.spatial
    assert source.patch.channels == 1
    assert target.patch.channels == (1 if dimensions == "3" else 3)
    assert target.grid == config.grid
    assert (target.domain.window, target.domain.name) == (WINDOWS_HU["target"], "plain")
    # Only the source's segmenter looks at images that are not of its domain.
    assert not target.patch.intensity.varies
    assert source.patch.intensity.varies


def test_every_translator_is_judged_at_every_prevalence_on_the_same_subjects_and_the_files_tell_all(golden, pipeline):
    folder = golden.resumed("lesion-prevalence").folder
    rows = pd.read_csv(folder / "detections.csv")
    subjects = rows[rows["translator"] != "real"].groupby(["translator", "prevalence_percent"])["subject"].agg(sorted)
    assert set(subjects.index) == {(name, percent) for name in TRANSLATORS for percent in (0, 100)}
    tested = sorted(rows[rows["translator"] == "real"]["subject"])
    assert all(own == tested for own in subjects)
    assert len(tested) == 2
    slopes, record = pd.read_csv(folder / "slopes.csv"), read_json(folder / "study.json")
    assert set(slopes["translator"]) == set(TRANSLATORS)
    assert {"recall", "false", "dice_liver", "lesion_erased", "lesion_invented"} <= set(slopes["measure"])
    assert record["phantom"] is True
    assert record["settings"]["design"]["prevalences_percent"] == [0, 100]
    assert record["findings"].keys() >= {f"{name} recall" for name in TRANSLATORS}
    watched = record["cells"]["cyclegan_semantic,prevalence=100"]
    assert any(setting.startswith("cyclegan.semantic_model=") for setting in watched)
    assert len(record["splits"]) == 4
    models = list(folder.glob("*,prevalence=*/*/model/model.json"))
    assert len(models) == 6
    assert all(read_json(path)["origin"]["phantom"] for path in models)
    # The frozen segmenters are fit for holding a translator to.
    model = folder / "segmenters" / "source" / "model"
    SemanticConsistency(model, pipeline.pair, PatchConfig(size_voxels=16), pipeline.config.grid)
    assert read_model(model, SegmenterDescription).description.origin.phantom


def test_trainings_are_short_where_the_user_says_nothing(settled, ordered, tmp_path):
    own = [each for each in ordered("lesion-prevalence", tmp_path).overrides if not each.startswith("fit=")]
    for asked, epochs in (((), 8), (("fit.epochs=3",), 3)):
        study = settled(LesionPrevalence, overrides=(*own, *asked))
        configs = [pipeline.config for part in study.parts.values() for pipeline in part.pipelines.values()]
        assert {config.fit.epochs for config in configs} == {epochs}
    with pytest.raises(ConfigError, match="'mr_contrast' has no cyclegan"):
        settled(LesionPrevalence, pipeline="mr_contrast")


def test_leak_segmenters_of_other_subjects_judge_nobody(ordered, tmp_path):
    order = ordered("lesion-prevalence", tmp_path)
    design = PrevalenceDesign.model_validate({**PREVALENCE["design"], "seed": 6999, "prevalences_percent": [0, 50]})
    settings = {"design": design.model_dump(mode="json")}
    write_json(order.folder / "study.json", {"kind": order.kind, "schema": 2, "settings": settings})
    with pytest.raises(LeakageError, match=r"was begun with other subjects \(design\.seed\)"):
        run_study(LesionPrevalence, order, Console(quiet=True))


SHAPE, SPACING = (40, 40, 6), (4.0, 4.0, 5.0)
LIVER_HU, LESION_HU = 60.0, 20.0


def segmented(model, scan, fabric):
    """Liver where it is as bright as liver, lesion where it is as bright as a lesion; the model is a shift in HU."""
    voxels = (scan if isinstance(scan, Volume) else read_volume(scan.image)).voxels - model
    labels = np.zeros(SHAPE, np.uint8)
    labels[np.abs(voxels - LIVER_HU) < 10] = NUMBERS["liver"]
    labels[np.abs(voxels - LESION_HU) < 10] = NUMBERS["lesion"]
    return labels


def drawn(*lesions):
    """A liver with lesions (x, y, width) in HU, and its labels."""
    hu, labels = np.full(SHAPE, -100.0), np.zeros(SHAPE, np.uint8)
    hu[4:36, 4:36], labels[4:36, 4:36] = LIVER_HU, Tissue.LIVER
    for x, y, width in lesions:
        hu[x : x + width, y : y + width] = LESION_HU
        labels[x : x + width, y : y + width] = Tissue.HYPO_LESION
    return hu, labels


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(voxels.astype(np.float32), np.diag([*SPACING, 1])).to_filename(path)
    return path


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """A row for a translation with some lesions of an input with others: ``judged([(8, 8, 5)], [])``."""
    monkeypatch.setattr(lesion_prevalence, "segment_study", segmented)

    def judge(true, translated):
        hu, labels = drawn(*true)
        image = save(tmp_path / "in/s1.nii.gz", hu + 100)  # contrast medium: the source's segmenter knows of it
        scan = Study("s1", "contrast", image, save(tmp_path / "in/labels.nii.gz", labels))
        output = save(tmp_path / "out/s1.nii.gz", drawn(*translated)[0])
        before = segmented(100.0, scan, None)
        write_volume(before, read_volume(image).grid, tmp_path / "labels/s1.nii.gz", np.uint8)
        return _Detector(tmp_path, tmp_path / "labels", {"s1": scan}).row("s1", output, 0.0, None)

    return judge


@pytest.mark.parametrize(
    ("true", "translated", "expected"),
    [
        ([(8, 8, 5)], [(8, 8, 5)], {"found": 1, "missed": 0, "false": 0, "recall": 1.0, "lesion_kept": 1}),
        ([(8, 8, 5), (20, 20, 5)], [(8, 8, 5)], {"found": 1, "missed": 1, "recall": 0.5, "lesion_erased": 1}),
        ([(8, 8, 5)], [(8, 8, 5), (20, 20, 5)], {"found": 1, "false": 1, "lesion_invented": 1}),
        ([(8, 8, 5)], [], {"lesions": 1, "recall": 0.0, "lesion_erased": 1}),
    ],
    ids=["faithful", "erased", "invented", "blind"],
)
def test_lesions_are_found_missed_and_invented(judged, true, translated, expected):
    row = judged(true, translated)
    assert {key: row[key] for key in expected} == expected
    assert row["dice_liver"] > 0.9


def test_without_a_lesion_there_is_no_recall_and_what_is_too_small_is_neither_lesion_nor_finding(judged):
    row = judged([], [(20, 20, 5)])
    assert np.isnan(row["recall"])
    assert (row["lesions"], row["false"]) == (0, 1)
    row = judged([(8, 8, 1)], [(20, 20, 1)])
    assert (row["lesions"], row["false"]) == (0, 0)
    expected = ["recall", "false", "dice_liver", "dice_kidney", "lesion_erased", "lesion_invented"]
    assert _measures(pd.DataFrame([row])) == expected


PERCENTS = (0, 50, 100)
FOLLOWS, HOLDS = 0.6, 0.0


def rows(subjects=10, seeds=(0, 1)):
    """Recall rises by ``FOLLOWS`` with ``PLAIN``, and not with ``WATCHED``; a subject without lesions has none."""
    random, made = np.random.default_rng(0), []
    for number in range(subjects):
        level = random.uniform(0.2, 0.3)
        for (name, rise), percent, seed in product(((PLAIN, FOLLOWS), (WATCHED, HOLDS)), PERCENTS, seeds):
            recall = level + rise * percent / 100 + random.normal(0, 0.01)
            keys = {"translator": name, "prevalence_percent": percent, "seed": seed, "subject": f"s{number}"}
            figures = {"recall": recall if number else np.nan, "false": 1.0, "dice_liver": 0.9, "lesion_erased": 0}
            made.append(keys | figures | {"lesion_invented": 2 * percent / 100})
        made.append({"translator": REAL, "subject": f"s{number}", "recall": 0.5, "false": 0.25, "dice_liver": 0.95})
    return pd.DataFrame(made)


def summary(made):
    return object.__new__(LesionPrevalence).summary(made)


def test_the_slope_is_the_rise_from_none_to_all_over_subjects():
    table = _slopes(rows()).set_index(["translator", "measure"])
    follows, holds = table.loc[PLAIN, "recall"], table.loc[WATCHED, "recall"]
    assert follows["slope"] == pytest.approx(FOLLOWS, abs=0.02)
    assert follows["lower"] > 0.5
    assert holds["slope"] == pytest.approx(HOLDS, abs=0.02)
    assert follows["n"] == 9
    assert follows["at_100"] - follows["at_0"] == pytest.approx(FOLLOWS, abs=0.02)
    assert table.loc[PLAIN, "lesion_invented"]["slope"] == pytest.approx(2)
    assert table.loc[PLAIN, "false"][REAL] == 0.25
    # Seeds do not count as subjects.
    assert _slopes(rows(seeds=(0,)))["n"].tolist() == _slopes(rows(seeds=(0, 1, 2, 3)))["n"].tolist()
    nothing = rows().query("translator == @REAL")
    assert _slopes(nothing).empty
    assert summary(nothing).findings == {}


def test_the_words_say_who_follows_the_prevalence_and_what_semantic_consistency_changes():
    found = summary(rows())
    words = found.findings
    assert words[f"{PLAIN} recall"].startswith("slope +0.")
    assert words[f"{PLAIN} recall"].endswith("]: follows the target's prevalence")
    assert words[f"{WATCHED} recall"].endswith("is not shown to follow the target's prevalence")
    assert words["semantic consistency at 100 percent recall"].startswith("-0.6")
    assert words["semantic consistency at 0 percent false"] == "+0.00 [+0.00, +0.00] with it"
    assert words["semantic consistency at 100 percent lesion_invented"] == "+0.00 [+0.00, +0.00] with it"
    assert summary(rows(subjects=2)).findings[f"{PLAIN} recall"].endswith("too few subjects to say")
    differences = _semantic_differences(rows()).set_index(["prevalence_percent", "measure"])
    assert differences.loc[(100, "recall"), "mean"] == pytest.approx(-FOLLOWS, abs=0.02)
    assert differences.loc[(100, "recall"), "upper"] < -0.5
    assert differences.loc[(0, "recall"), "lower"] < 0.01
    assert _semantic_differences(rows().query("translator != @WATCHED")).empty
    text = printed(found.shown)
    for word in (PLAIN, WATCHED, "0 %", "50 %", "100 %", REAL, "recall", "false", "lesion_invented"):
        assert word in text


DESIGN = PrevalenceDesign(
    train=3, validation=1, test=2, labelled=2, labelled_validation=1, labelled_percent=100, shape_voxels=(16, 16, 4)
)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return _PrevalenceCohorts(DESIGN, "abdomen_ct")


def table_of(cohorts, percent, paired):
    """The subjects of each part and domain, and the training and validation studies of each domain."""
    subjects, studies = defaultdict(set), defaultdict(list)
    for study in read_table(cohorts.table(percent, paired=paired)).studies:
        subjects[study.split, study.domain].add(study.subject)
        if study.split != "test":
            studies[study.domain].append(study)
    return subjects, studies


def share_with_lesions(studies):
    """By the sidecars: in voxels as large as these a small lesion is in none."""
    return np.mean([json.loads(study.image.with_name("plain.json").read_text())["lesions"] for study in studies])


@pytest.mark.parametrize(("percent", "least", "most"), [(0, 0, 0), (50, 0.2, 0.8), (100, 1, 1)])
def test_targets_have_lesions_as_often_as_the_table_says_and_sources_the_same_at_every_prevalence_but_for_pairs(
    cohorts, percent, least, most
):
    (unpaired, own), (paired, of_pairs) = (table_of(cohorts, percent, pairs) for pairs in (False, True))
    for studies in (own, of_pairs):
        assert least <= share_with_lesions(studies["plain"]) <= most
    assert own["contrast"] == table_of(cohorts, 0, False)[1]["contrast"]
    assert 0.2 <= share_with_lesions(own["contrast"]) <= 0.8
    assert share_with_lesions(of_pairs["contrast"]) == share_with_lesions(of_pairs["plain"])
    # Unpaired subjects have one scan and pairs two; the same unseen subjects are tested everywhere.
    for part, count in (("train", 3), ("validation", 1)):
        assert len(unpaired[part, "contrast"]) == len(unpaired[part, "plain"]) == count
        assert not unpaired[part, "contrast"] & unpaired[part, "plain"]
        assert paired[part, "contrast"] == paired[part, "plain"] == unpaired[part, "plain"]
    tested = {study.subject for study in cohorts.tested("contrast")}
    assert len(tested) == 2
    for table in (unpaired, paired):
        assert table["test", "contrast"] == table["test", "plain"] == tested
        assert not tested & (table["train", "contrast"] | table["train", "plain"])


def test_the_segmenters_subjects_are_nobody_elses_and_all_are_rendered_once(cohorts, monkeypatch):
    train, validation = cohorts.labelled("plain")
    assert (len(train), len(validation)) == (2, 1)
    assert share_with_lesions(train) == 1
    tables = [read_table(cohorts.table(percent, paired=True)).studies for percent in (0, 50, 100)]
    assert not {study.image for table in tables for study in table} & {study.image for study in (*train, *validation)}
    monkeypatch.setenv("MEDGAN_CACHE", str(cohorts.root.parents[1]))
    before = {path: path.stat().st_mtime_ns for path in cohorts.root.rglob("*.nii.gz")}
    assert _PrevalenceCohorts(DESIGN, "abdomen_ct").root == cohorts.root
    assert {path: path.stat().st_mtime_ns for path in cohorts.root.rglob("*.nii.gz")} == before


def test_a_phantom_without_liver_lesions_and_prevalences_that_give_no_slope_are_refused():
    assert set(LABELS["lesion"]) == set(LESIONS)
    with pytest.raises(ConfigError, match="'head_mr' has no liver lesions"):
        _PrevalenceCohorts(DESIGN, "head_mr")
    for prevalences in ((50,), (0, 0), (0, 101)):
        with pytest.raises(ValidationError):
            PrevalenceDesign(prevalences_percent=prevalences)
