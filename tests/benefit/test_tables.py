from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medgan.benefit.arms import BY_NAME
from medgan.benefit.judge import KEYS
from medgan.benefit.segmenters import read_curves, read_figures
from medgan.benefit.tables import means, worst_cases
from medgan.benefit.tasks import Child
from medgan.data.studies import Study
from medgan.evaluation.segmentation import METRICS

FACTS = ("arm", "seed", "subset")
HEADER = "arm,seed,subset,ratio_percent,subject,test_set,organ," + ",".join(METRICS)


def child(folder, arm="real", seed=0, lines=()):
    made = Child(BY_NAME[arm], seed, 0, 0, folder / f"{arm},seed={seed}")
    made.folder.mkdir(parents=True)
    if lines:
        (made.folder / "rows.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return made


def rows(*values):
    """(arm, seed, subject, test set, dice), organ liver."""
    frame = pd.DataFrame(values, columns=["arm", "seed", "subject", "test_set", "dice"]).assign(subset=0, organ="liver")
    return frame.assign(**{metric: np.nan for metric in METRICS if metric != "dice"})


def test_figures_of_finished_children_are_read_whatever_subjects_are_called(tmp_path):
    one = child(tmp_path, lines=["real,0,0,0,NA,in,liver,0.5,,,,,", "real,0,0,0,007,out,liver,,3.5,,,,"])
    found = read_figures([one, child(tmp_path, seed=1)], KEYS)
    assert found["subject"].tolist() == ["NA", "007"]
    assert found["dice"].tolist()[0] == 0.5
    assert found["hd95_mm"].tolist()[1] == 3.5
    assert found[list(METRICS)].isna().to_numpy().sum() == 10


def test_without_finished_children_there_are_columns(tmp_path):
    assert list(read_figures([child(tmp_path)], KEYS).columns) == HEADER.split(",")
    assert read_curves([child(tmp_path, seed=1)], FACTS).empty


def test_curves_have_the_epochs_that_were_judged(tmp_path):
    one = child(tmp_path, seed=3)
    (one.folder / "metrics.csv").write_text("epoch,train/dice,val/dice\n1.0,.9,\n2.0,.8,.25\n4.0,.7,.5\n")
    assert read_curves([one], FACTS).to_dict("records") == [
        {"arm": "real", "seed": 3, "subset": 0, "epoch": 2, "val_dice": 0.25},
        {"arm": "real", "seed": 3, "subset": 0, "epoch": 4, "val_dice": 0.5},
    ]


def test_means_are_over_subjects_with_seeds_averaged_first():
    table = means(rows(("real", 0, "a", "in", 0.2), ("real", 1, "a", "in", 0.4), ("real", 0, "b", "in", 0.9)))
    (row,) = table.to_dict("records")
    assert (row["metric"], row["n"]) == ("dice", 2)
    assert row["mean"] == pytest.approx((0.3 + 0.9) / 2)
    assert row["lower"] < row["mean"] < row["upper"]


def test_either_test_set_has_means_of_its_own():
    table = means(rows(("real", 0, "a", "in", 0.2), ("real", 0, "a", "out", 0.6)))
    assert dict(zip(table["test_set"], table["mean"], strict=True)) == {"in": 0.2, "out": 0.6}


def test_the_worst_cases_are_of_the_translating_arm_with_files_to_look_at(tmp_path):
    studies = {name: Study(name, "plain", tmp_path / "data" / f"{name}.nii.gz", tmp_path / "m") for name in "abc"}
    plan = SimpleNamespace(
        order=SimpleNamespace(folder=tmp_path / "study"),
        segmenter=SimpleNamespace(labels={"liver": (5,)}),
        pair=SimpleNamespace(source=SimpleNamespace(name="contrast"), target=SimpleNamespace(name="plain")),
        subjects=SimpleNamespace(with_labels=lambda part, name: tuple(studies.values()) if name == "plain" else ()),
    )
    arm = "real+standard+synthetic"
    lines = [f"{arm},0,0,100,{name},out,liver,{dice},,,," for name, dice in (("a", 0.9), ("b", 0.1), ("c", 0.5))]
    children = [child(tmp_path / "study", lines=["real,0,0,0,a,out,liver,0.0,,,,"])]
    children.append(child(tmp_path / "study", arm, lines=lines))
    found = worst_cases(plan, children, read_figures(children, KEYS))
    assert [(case["subject"], case["dice"]) for case in found] == [("b", 0.1), ("c", 0.5), ("a", 0.9)]
    assert found[0] | {"dice": 0} == {
        "arm": arm,
        "seed": 0,
        "subject": "b",
        "test_set": "out",
        "organ": "liver",
        "value": 1,
        "dice": 0,
        "image": "../data/b.nii.gz",
        "truth": "truth/plain_0001.nii.gz",
        "label_map": f"{arm},seed=0/test/plain_0001.nii.gz",
    }
    assert not any(Path(case[key]).is_absolute() for case in found for key in ("image", "truth", "label_map"))
    assert worst_cases(plan, [child(tmp_path / "other")], pd.DataFrame()) == []
