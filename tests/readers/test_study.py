import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from medgan.errors import ConfigError, DataError
from medgan.readers import page
from medgan.readers.design import Key, ReaderStudy
from medgan.readers.instructions import instructions, power_lines
from medgan.readers.study import Places, make_study
from readers.studies import SUBJECTS, places


def payload(folder):
    html = (folder / "study.html").read_text(encoding="utf-8")
    return html, json.loads(page.EMBEDDED.search(html)[2])


@pytest.mark.parametrize("task", ["2afc", "single", "preference", "find"])
def test_the_page_holds_nothing_of_the_key(make, scans, task):
    made = make(task)
    html, content = payload(made.folder)
    key = json.loads((made.folder / "key.json").read_text())
    for word in (*SUBJECTS, str(scans), made.folder.name, key["seed"], ".nii"):
        assert word not in html, word
    shown = json.dumps({name: value for name, value in content.items() if name not in ("blobs", "blocks", "windows")})
    assert not re.search("repeat|catch|scored|subject|image|arm|half|answer", shown)
    trials = json.dumps([{**trial, "practice": None} for trial in content["trials"]])
    assert not re.search("real|synthetic|other|left|right|present|absent", trials)
    assert {frozenset(trial) for trial in content["trials"]} == {
        frozenset(("id", "task", "stacks", "source", "practice"))
    }
    with_feedback = {trial["id"] for trial in content["trials"] if trial["practice"]}
    assert with_feedback == {t.id for t in made.key.trials if t.role == "practice" and t.answer}
    assert list(content["blobs"]) == sorted(content["blobs"]), "their order is that of random ids"
    assert (made.folder / "key.json").stat().st_mode & 0o077 == 0


def test_images_have_one_length_no_text_and_what_the_key_says(make):
    made = make(levels=2)
    blobs = {id_: base64.b64decode(text) for id_, text in payload(made.folder)[1]["blobs"].items()}
    assert {len(blob) for blob in blobs.values()} == {made.key.equalised.blob_bytes}
    assert len({len(blob[: blob.index(b"IEND")]) for blob in blobs.values()}) > 1, "without padding they would differ"
    assert blobs.keys() == {stack.id for stack in made.key.stacks}
    for blob in blobs.values():
        assert not any(chunk in blob for chunk in (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf", b"pHYs"))
        with Image.open(io.BytesIO(blob)) as picture:
            same = made.key.equalised
            assert (picture.mode, picture.info) == ("L", {})
            assert picture.size == (same.columns, same.rows * same.slices)
            assert np.asarray(picture).std() > 5


def test_its_hash_is_that_of_what_it_shows(make):
    made = make()
    _, content = payload(made.folder)
    assert content["study"] == made.key.study == Key.load(made.folder).study
    assert make(slices=11).key.study != made.key.study
    assert make(slices=11).key.equalised.slices == 11


def test_lesions_lie_where_the_label_map_has_them(make):
    made = make("find", burn_in=0)
    _, content = payload(made.folder)
    same = made.key.equalised
    with_lesion = [trial for trial in made.key.trials if trial.lesions and trial.role == "scored"]
    assert {trial.answer for trial in made.key.trials} == {"present", "absent"}
    assert {trial.arms for trial in with_lesion} == {("real",), ("synthetic",)}
    for trial in with_lesion:
        with Image.open(io.BytesIO(base64.b64decode(content["blobs"][trial.stacks[0]]))) as picture:
            stack = np.asarray(picture).reshape(same.slices, same.rows, same.columns).astype(float)
        (lesion,) = trial.lesions
        rows, columns = np.ogrid[: same.rows, : same.columns]
        distance = np.hypot(rows - lesion.row, columns - lesion.column)
        middle = stack[(lesion.first + lesion.last) // 2]
        assert 0 < lesion.radius < 6
        assert middle[distance < 1.5].mean() > middle[(distance > 4) & (distance < 7)].mean()


def test_unaware_readers_first_look_for_lesions(make):
    made = make("find", unaware_first=True)
    _, content = payload(made.folder)
    assert [block["task"] for block in content["blocks"]] == ["find", "single"]
    assert "synthetic" not in json.dumps(content["blocks"][0])
    tasks = [trial["task"] for trial in content["trials"]]
    assert tasks == sorted(tasks), "find comes before single"
    assert content["noticed"] == page.NOTICED


def test_what_is_missing_is_said(scans, tmp_path, make):
    with pytest.raises(ConfigError, match="--real"):
        make_study(Places(scans / "synthetic"), tmp_path, ReaderStudy())
    with pytest.raises(ConfigError, match="--labels"):
        make_study(Places(scans / "synthetic", scans / "real"), tmp_path, ReaderStudy(task="find"))
    with pytest.raises(ConfigError, match="--unaware-first"):
        make_study(Places(scans / "synthetic", scans / "real"), tmp_path, ReaderStudy(unaware_first=True))
    wanted = Places(**{**vars(places(scans, "find")), "lesion": ("cyst",)})
    with pytest.raises(ConfigError, match="--lesion cyst"):
        make_study(wanted, tmp_path, ReaderStudy(task="find"))
    with pytest.raises(ConfigError, match="another folder"):
        make_study(places(scans, "2afc"), make().folder, ReaderStudy())
    shutil.copy(scans / "real" / f"{SUBJECTS[0]}.nii.gz", tmp_path / "alien.nii.gz")
    with pytest.raises(DataError, match="no synthetic image"):
        make_study(Places(tmp_path, scans / "real"), tmp_path / "out", ReaderStudy())
    assert list(tmp_path.glob("**/key.json")) == []


def test_the_order_of_a_reader_is_its_own_and_its_page_has_no_name_of_others(choice_study):
    html, content = payload(choice_study.folder)
    one, two = (
        json.loads(page.EMBEDDED.search(page.for_reader(html, choice_study.key, number, name, "/r/x/answers"))[2])
        for number, name in ((1, "ann"), (2, "bob </script>"))
    )
    ids = [[trial["id"] for trial in each["trials"]] for each in (content, one, two)]
    assert len({tuple(each) for each in ids}) == 3
    assert len({frozenset(each) for each in ids}) == 1
    assert two["reader"] == "bob </script>"
    with pytest.raises(DataError, match="not that of the key"):
        page.for_reader(html, choice_study.key.model_copy(update={"study": "x"}), 1, "ann", "")


def test_the_power_is_told_before_anybody_reads(choice_study):
    lines = " ".join(power_lines(choice_study.key))
    assert "12 trials of 6 subjects" in lines
    assert re.search(r"shown with \d+% for 3 and \d+% for 6 readers of these 6 subjects", lines)
    for trials in (85, 47, 215, 96):
        assert f"{trials} trials" in lines
    assert "4.00 mm" not in instructions(choice_study.key)
    assert "linear interpolation" in instructions(choice_study.key)


def test_single_images_may_be_of_other_subjects(scans, tmp_path):
    for number, subject in enumerate(SUBJECTS):
        (tmp_path / "strangers").mkdir(exist_ok=True)
        shutil.copy(scans / "real" / f"{subject}.nii.gz", tmp_path / "strangers" / f"stranger{number}.nii.gz")
    wanted = Places(scans / "synthetic", tmp_path / "strangers")
    made = make_study(wanted, tmp_path / "study", ReaderStudy(task="single", tell_prevalence=False))
    scored = [trial for trial in made.key.trials if trial.role == "scored"]
    assert {trial.arms[0] for trial in scored} == {"real", "synthetic"}
    assert {trial.subject.startswith("stranger") for trial in scored if trial.arms == ("real",)} == {True}
    assert len({trial.subject for trial in scored}) == len(scored)
    assert "%" not in json.dumps(payload(made.folder)[1]["blocks"]), "prevalence is not told"
    with pytest.raises(DataError, match="no synthetic image"):
        make_study(wanted, tmp_path / "pairs", ReaderStudy())
