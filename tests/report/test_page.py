"""One page about whatever a path holds, in words and in a real browser."""

import json
import re
import shlex
from pathlib import Path
from shutil import copyfile

import numpy as np
import pandas as pd
import pytest

from browsing import opened
from medgan.data.streams import write_json
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError
from medgan.evaluation.evaluate import evaluate
from medgan.evaluation.judging import Modalities
from medgan.inference.jobs import MANIFEST
from medgan.report.evaluation import read_evaluation
from medgan.report.page import Beside, kind_of, report_line, write_report
from medgan.report.study import write_page
from medgan.report.training import read_training
from report_scans import write_scans

ROOT = Path(__file__).parents[2]


def text_of(path):
    """A page without what is packed, in which any two letters may stand."""
    return re.sub(r"base64,[^\"]*|(?<=\"data\": \")[^\"]*|(?<=niivue\">)[^<]*", "", path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def page(judged):
    return write_report(judged)


@pytest.fixture
def run(tmp_path):
    """A finished run of the phantom."""
    folder = tmp_path / "runs/ct_contrast/first"
    (folder / "model").mkdir(parents=True)
    facts = {"pipeline": "ct_contrast", "phantom": True, "data": None, "data_fingerprint": "f1", "seed": 3}
    write_json(folder / "run.json", facts)
    (folder / "config.yaml").write_text("seed: 3\n")
    (folder / "metrics.csv").write_text("epoch,train/cycle,val/score_hu\n1,0.5,\n2,0.4,20\n")
    pair = {"source": {"name": "contrast"}, "target": {"name": "plain"}}
    model = {"task": "translation", "epoch": 2, "pair": pair, "metrics": {"val/score_hu": 20.0}}
    write_json(folder / "model/model.json", model)
    card = "# A model <script>alert(1)</script>\n\n| a | b |\n|---|---|\n| c | d |\n"
    (folder / "model/MODEL_CARD.md").write_text(card)
    return folder


def test_the_page_of_an_evaluation_says_verdict_failures_and_commands_and_escapes_odd_names(page):
    text = text_of(page)
    assert "<title>Phantom: Translations by ct_contrast, judged</title>" in text
    assert "<h1>Phantom evaluation: Translations by ct_contrast, judged</h1>" in text
    assert "Better than doing nothing" in text
    assert re.search(r"Failed: egon: [^<]*reference/egon.nii.gz", text)
    assert "&lt;b&gt;x&amp;y" in text
    assert "<b>" not in text
    assert "medgan evaluate --synthetic" in text
    assert shlex.join(["medgan", "report", str(page.parent)]) in text
    assert text.index("Figures</h2>") < text.index("Worst cases first</h2>") < text.index("Are the HU right?</h2>")


def test_in_a_browser_nothing_is_asked_for_nothing_fails_and_a_telephone_scrolls_down_only(browser, page):
    for width in (1280, 390):
        with opened(browser, page, width) as shown:
            assert (shown.errors, shown.requests, shown.serious()) == ([], [], [])
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.page.locator("h1").count() == 1


def test_with_other_names_neither_subjects_nor_places_are_told(judged, tmp_path):
    names = {"anna": "case 1", "bert": "case 2", "<b>x&y": "case 3", "dora": "case 4"}
    text = text_of(write_report(judged, tmp_path / "page.html", Beside(names=names)))
    assert "case 3" in text
    assert not re.search(r"\b(anna|bert|dora|egon)\b|x&amp;y", text)
    assert str(judged.parent) not in text
    assert "Failed: 1 images" in text


def test_a_run_says_that_it_cannot_say_and_which_commands_can(run):
    text = text_of(write_report(run))
    assert "Phantom run: Training of ct_contrast, first" in text
    assert "A training by itself cannot say that" in text
    assert f"medgan convert COHORT OUT --part test --model {run}/model" in text
    assert "medgan evaluate --synthetic OUT --reference COHORT:plain --source COHORT:contrast --out EVALUATION" in text
    assert f"medgan train --pipeline ct_contrast --config {run}/config.yaml --name first-again" in text
    assert "Epoch 2 was kept." in text
    assert "A model &lt;script&gt;" in text
    assert "<script" not in text
    assert "<td>d</td>" in text
    assert kind_of(run / "model") == "model"
    assert "Model ct_contrast" in text_of(write_report(run / "model"))


def test_a_run_that_did_not_make_the_images_is_refused(judged, run):
    with pytest.raises(ConfigError, match="is not the model that made these images"):
        write_report(judged, beside=Beside(run=run))


def test_the_run_that_made_the_images_is_found_by_their_hash_and_told_without_names_if_asked(tmp_path, run):
    places = write_scans(tmp_path, ["anna", "bert"])
    digest = read_training(run).sha256
    for sidecar in places["synthetic"].glob("*.json"):
        facts = {
            "Model": {"Name": "ct_contrast", "DescriptionSHA256": digest},
            "Direction": "to_target",
            "ChangeMap": "HU",
        }
        write_json(sidecar, facts)
    (run / "samples").mkdir()
    copyfile(next(ROOT.glob("docs/images/*.png")), run / "samples/epoch_0002.png")
    evaluate(**places)
    text = text_of(write_report(places["out"]))
    assert "Samples while it trained" in text
    assert f"medgan convert {places['source']} {places['synthetic']} --change-map --model {run}/model" in text
    page = write_report(places["out"], tmp_path / "page.html", Beside(names={"anna": "case 1", "bert": "case 2"}))
    assert "Curves" in text_of(page)
    assert "Samples while it trained" not in text_of(page)
    assert str(tmp_path) not in text_of(page)


def test_translations_without_truth_show_what_was_done_and_changed(tmp_path):
    places = write_scans(tmp_path, ["s0", "s1"])
    ends = {
        "s0": ("done", "", ["slices of 1 mm"]),
        "s1": ("kept", "", []),
        "s2": ("failed", "empty", []),
    }
    keys = ("input", "output", "status", "message", "warnings")
    outcomes = [dict(zip(keys, (*[f"{name}.nii.gz"] * 2, *end), strict=True)) for name, end in ends.items()]
    (places["synthetic"] / MANIFEST).write_text("".join(json.dumps(each) + "\n" for each in outcomes))
    said = {"Direction": "to_target", "Unit": "HU", "Warnings": ["slices of 2.5 mm"]}  # when it was converted
    write_json(places["synthetic"] / "s1.json", said)
    text = text_of(write_report(places["synthetic"], beside=Beside(source=places["source"])))
    assert "Translations alone cannot say that" in text
    assert "2 of 3: slices of … mm" in text
    assert "such as: slices of 1 mm" in text
    assert re.search(r"s2.nii.gz</td><td class=.text.>empty", text)
    assert "enhancing, HU" in text
    without = text_of(write_report(places["synthetic"]))
    assert "give the inputs by --source" in without


def test_patients_whom_a_model_of_the_phantom_translated_are_not_called_a_phantom(tmp_path, run):
    places = write_scans(tmp_path, ["s0", "s1"])
    outcomes = [{"input": f"{name}.nii.gz", "output": f"{name}.nii.gz", "status": "done"} for name in ("s0", "s1")]
    (places["synthetic"] / MANIFEST).write_text("".join(json.dumps(each) + "\n" for each in outcomes))
    for sidecar in places["synthetic"].glob("*.json"):
        write_json(sidecar, {"Direction": "to_target", "Unit": "HU"})
    for sources in (None, places["source"]):
        text = text_of(write_report(places["synthetic"], beside=Beside(run, source=sources)))
        assert "The model was trained on the built-in phantom, and is none for patients." in text
        assert "All images are of the built-in phantom" not in text
    for image in places["source"].glob("*.nii.gz"):
        write_json(image.with_name(image.name.replace(".nii.gz", ".json")), {"phantom": True})
    assert "All images are of the built-in phantom" in text_of(
        write_report(places["synthetic"], beside=Beside(run, source=places["source"]))
    )


def test_a_study_is_its_own_page_written_anew(tmp_path):
    shown = {"title": "sweep", "question": "Better?", "description": {"phantom": True}, "command": "medgan study sweep"}
    nothing = {"findings": {"a": "b"}, "tables": {}, "failures": {}, "headlines": (), "answer": {}}
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(DataError, match=r"page\.json"):
        write_report(tmp_path)
    page = write_page(tmp_path, **shown, **nothing, comparisons=pd.DataFrame())
    before = page.read_text(encoding="utf-8")
    page.unlink()
    assert write_report(tmp_path) == page
    assert page.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("made", [False, True])
def test_what_is_nothing_to_report_is_refused_with_what_it_could_be(tmp_path, made):
    folder = tmp_path / "f"
    if made:
        folder.mkdir()
    why = "holds nothing to report" if made else "is not there"
    with pytest.raises(ConfigError, match=f"{why}; give a model"):
        write_report(folder)


def test_a_page_that_cannot_be_written_stops_nothing_and_is_named(judged, tmp_path):
    assert report_line(lambda: write_report(tmp_path)).startswith(f"report: not written: {tmp_path}: holds nothing")
    assert report_line(lambda: 1 / 0) == "report: not written: unexpected ZeroDivisionError: division by zero"
    figures = {"dice_liver": {"mean": 0.9, "lower": None, "upper": None, "n": 1}}
    write_json(
        tmp_path / "faithfulness.json", {"figures": figures, "verdict": ["lesion: 1 invented in 1 of 1 subjects."]}
    )
    text = text_of(write_report(judged, tmp_path / "joined.html", Beside(faithfulness=tmp_path)))
    assert "Invented or erased: lesion: 1 invented in 1 of 1 subjects." in text
    assert "dice_liver" in text


def test_registration_is_told_where_the_cohort_has_one_the_least_overlap_first(run, tmp_path):
    pairs = tmp_path / "pairs"
    (pairs / "pictures").mkdir(parents=True)
    head, good = "subject,status,dice_before,dice_after,reason", "a,accepted,0.5,0.95,"
    rows = [head, good, "b,rejected,0.1,0.2,bodies do not overlap"]
    (pairs / "quality.csv").write_text("\n".join(rows))
    facts = json.loads((run / "run.json").read_text()) | {"data": str(pairs / "cohort.csv"), "phantom": False}
    write_json(run / "run.json", facts)
    text = text_of(write_report(run))
    assert "1 of 2 pairs: rejected" in text
    assert text.index("bodies do not overlap") < text.index(">a</td>")
    assert "bodies do not overlap" not in text_of(write_report(run, tmp_path / "p.html", Beside(names={})))


def test_synthetic_lesions_have_their_two_verdicts_first(tmp_path):
    record = {
        "memorisation": "Memorisation: none shown.", "collapse": "Mode collapse: COLLAPSED.", "features": "encoder",
        "notes": ["Few."], "failures": [{"image": "a<b", "reason": "broken"}],
    }  # fmt: skip
    write_json(tmp_path / "synthesis.json", record)
    (tmp_path / "synthesis.csv").write_text("measure,name,synthetic,real\nrecall,recall,0.25,0.5\n")
    text = text_of(write_report(tmp_path))
    assert text.index("Mode collapse: COLLAPSED.") < text.index("<td>0.25</td>")
    assert "Failed: a&lt;b: broken" in text
    (tmp_path / "synthesis.csv").unlink()
    with pytest.raises(DataError, match="evaluate again"):
        write_report(tmp_path)


def test_unpaired_and_mr_images_are_shown_in_their_own_units(tmp_path):
    places = write_scans(tmp_path, ["s0", "s1", "s2"])
    evaluate(**places, paired=False)
    text = text_of(write_report(places["out"]))
    assert "Are its intensities nearer to real images" in text
    assert "Worst cases first" not in text
    assert 'id="slices"' in text
    out = tmp_path / "mr"
    evaluate(**places | {"out": out}, paired=True, modalities=Modalities("MR", "CT"))
    mr = read_evaluation(out)
    assert (mr.units["source"], mr.units["truth"]) == ("arbitrary", "HU")
    text = text_of(write_report(out))
    assert "percentiles" not in text  # of pictures, which are pixels
    assert '"unit": ""' in text
    assert '"unit": "HU"' in text


def test_a_picture_leads_to_the_place_of_the_error_and_a_lost_lesion_to_its_own(judged, tmp_path):
    write_json(tmp_path / "faithfulness.json", {"figures": {}, "verdict": ["lesion: 1 lost."]})
    rows = [
        "subject,image,structure,kind,x_mm,y_mm,z_mm",
        "dora,d,lesion,lost,-12.5,40,3",
        "nobody,n,lesion,lost,1,2,3",
    ]
    (tmp_path / "places.csv").write_text("\n".join(rows))
    text = text_of(write_report(judged, tmp_path / "joined.html", Beside(faithfulness=tmp_path)))
    order = list(read_evaluation(judged).by_subject("core_mae_hu").index)
    assert f'<a href="#case-{order.index("dora") + 1}@-12.5,40.0,3.0">dora, lesion, lost at -12, 40, 3 mm</a>' in text
    for number, subject in enumerate(order, start=1):
        link = re.search(rf'href="#case-{number}@([-\d.,]+)"', text)[1]
        case = read_evaluation(judged).cases.set_index("subject").loc[subject]
        true, made = (read_volume(Path(case[role])) for role in ("reference", "synthetic"))
        x, y, z = np.rint(np.linalg.solve(true.grid.affine, [*map(float, link.split(",")), 1.0]))[:3].astype(int)
        error = np.abs(made.voxels - true.voxels)
        assert error[x - 1 : x + 2, y - 1 : y + 2, z].mean() > 5 * error.mean()
