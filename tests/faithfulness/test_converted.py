"""Whole checks of translations without labels and without a model, of which some were tampered with."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from made_up_bodies import AFFINE, SHAPE, SPACING, ball, body, save, translated
from medgan import cli
from medgan.faithfulness.converted import ConvertedOrder, check_converted

PLACE = np.array((22, 30, 10))
LESION = -70 * ball(PLACE, 10)


@pytest.fixture
def cohort(tmp_path):
    """``cohort(4, change={...})``: translations, with what is added to that of a subject."""

    def make(subjects=4, *, change=None, maps=False):
        for number in range(subjects):
            name, source = f"p{number}.nii.gz", body(number)
            output = np.rint(translated(source, number))
            save(tmp_path / "studies" / name, source)
            save(tmp_path / "converted" / name, output + (change or {}).get(number, 0))
            if maps:
                save(tmp_path / "converted" / f"p{number}_change.nii.gz", np.rint(source) - output)
                beside = {"Synthetic": True, "ChangeMap": "HU, input minus output", "Warnings": ["far away"]}
                (tmp_path / "converted" / f"p{number}.json").write_text(json.dumps(beside))
                unsure = np.full(SHAPE, 2.0) + np.random.default_rng(number).normal(0, 0.2, SHAPE) + 9 * (LESION < 0)
                nib.Nifti1Image(unsure.astype(np.float32), AFFINE).to_filename(
                    tmp_path / "converted" / f"p{number}_uncertainty.nii.gz"
                )
        return tmp_path

    return make


def check(root, **changes):
    order = ConvertedOrder(str(root / "studies"), root / "out", str(root / "converted"), **changes)
    return check_converted(order, Console(quiet=True))


def apart_mm(row, place=PLACE):
    return np.linalg.norm(row[["x_mm", "y_mm", "z_mm"]].to_numpy(float) - (AFFINE @ [*place, 1])[:3])


def test_an_invented_lesion_is_listed_with_its_place_and_picture_and_others_say_how_seldom_that_is(cohort):
    root = cohort(change={1: LESION})
    found = check(root)
    places = pd.read_csv(root / "out/places.csv").sort_values("score", ascending=False)
    worst = places.iloc[0]
    assert (worst["subject"], worst["kind"], worst["false_alarms_per_study"]) == ("p1", "unexplained", 0)
    assert apart_mm(worst) < 5
    assert worst["axial_slice"] == pytest.approx(PLACE[2] + 1, abs=1)
    assert (places["false_alarms_per_study"] <= 1).all()
    picture = Image.open(root / "out" / worst["picture"])
    assert picture.width > 2 * 256
    assert "p1: not explained by the input, axial, slice" in picture.info["Description"]
    assert any(line.startswith("Places that the input does not explain: ") for line in found.verdict())
    record = json.loads((root / "out/faithfulness.json").read_text())
    assert record["figures"]["unexplained"]["n"] == 4
    assert any("no findings" in limit for limit in record["limits"])


def test_the_geometry_is_kept_where_mutual_information_falls_with_a_shift_and_with_another_subject(cohort):
    root = cohort(3)
    rows = check(root).rows
    assert (rows["nmi"] > rows["nmi_shifted"]).all()
    assert (rows["nmi_shifted"] > rows["nmi_other_subject"]).all()
    moved = np.roll(translated(body(0), 0), 1, axis=0)
    save(root / "converted" / "p0.nii.gz", moved)
    found = check(root)
    assert any(line.endswith("so perhaps displaced: p0.") for line in found.verdict())


def test_what_the_change_map_does_not_say_and_hot_spots_of_uncertainty_have_places(cohort):
    found = check(cohort(3, change={2: LESION}, maps=True))
    places = found.places
    beyond = places[places["kind"] == "beyond_change_map"]
    assert beyond["subject"].tolist() == ["p2"]
    assert apart_mm(beyond.iloc[0]) < 5
    assert beyond.iloc[0]["volume_ml"] == pytest.approx((LESION < 0).sum() * np.prod(SPACING) / 1000)
    hot = places[places["kind"] == "uncertain"]
    assert hot["subject"].tolist() == ["p0", "p1", "p2"]
    assert apart_mm(hot.iloc[0]) < 5
    assert found.rows["warnings"].tolist() == ["far away"] * 3
    assert any("Not what the change map beside it says: p2" in line for line in found.verdict())


def test_an_input_unlike_all_others_is_named_with_what_is_unlike(cohort):
    root = cohort(7)
    wide = AFFINE @ np.diag([2, 2, 2, 1])
    save(root / "studies" / "p3.nii.gz", body(3), wide)
    save(root / "converted" / "p3.nii.gz", translated(body(3), 3), wide)
    rows = check(root).rows.set_index("subject")
    assert rows["unlike_others"].ne("").sum() == 1
    assert "voxel along right is 6, of others 3 to 3" in rows.loc["p3", "unlike_others"]


def test_one_subject_alone_has_no_calibration_and_says_so(cohort):
    found = check(cohort(1, change={0: LESION}))
    assert any("One subject alone" in note for note in found.notes)
    assert apart_mm(found.places.iloc[0]) < 5
    assert np.isnan(found.rows["nmi_other_subject"]).all()


def test_between_modalities_a_single_subject_has_no_places_and_several_have(cohort):
    root = cohort(4)
    for number in range(4):
        hu, random = body(number), np.random.default_rng(number)
        source = np.where(hu < -500, random.uniform(0, 20, SHAPE), 900 - hu + random.normal(0, 8, SHAPE))
        save(root / "studies" / f"p{number}.nii.gz", source)
        save(root / "converted" / f"p{number}.nii.gz", hu + (2 * LESION if number == 1 else 0))
    found = check(root)
    assert not found.failures
    worst = found.places.sort_values("score", ascending=False).iloc[0]
    assert (worst["subject"], worst["false_alarms_per_study"]) == ("p1", 0)
    assert apart_mm(worst) < 5
    for number in (1, 2, 3):
        (root / "studies" / f"p{number}.nii.gz").unlink()
        (root / "converted" / f"p{number}.nii.gz").unlink()
    found = check(root)
    assert found.places.empty
    assert any("no place was looked for" in note for note in found.notes)


def test_a_study_without_a_translation_is_named_and_the_command_ends_with_1(cohort):
    root = cohort(3)
    (root / "converted" / "p1.nii.gz").unlink()
    command = ["faithfulness", root / "studies", root / "out", "--converted", root / "converted"]
    told = CliRunner().invoke(cli.app, [str(each) for each in command])
    assert told.exit_code == 1
    assert "there is no translation of it" in told.output
    assert len(pd.read_csv(root / "out/faithfulness.csv")) == 2
    assert "a page of them: medgan report" in told.output
    for number in (0, 2):
        (root / "converted" / f"p{number}.nii.gz").rename(root / "converted" / f"q{number}.nii.gz")
    told = CliRunner().invoke(cli.app, [str(each) for each in command])
    assert told.exit_code == 2
    assert "medgan report" not in told.output  # nothing was checked: a page would be empty
