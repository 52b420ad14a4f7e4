import json

import nibabel as nib
import numpy as np
import pytest

from medgan.errors import ConfigError, DataError
from medgan.evaluation.synthesis.rows import divided, read_rows


@pytest.fixture
def cohort(tmp_path):
    def save(name, rows):
        """Rows are (subject, domain, parents or None)."""
        folder = tmp_path / name
        folder.mkdir()
        lines = ["subject,domain,image"]
        for subject, domain, parents in rows:
            image = f"{subject}_{domain}.nii.gz"
            nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_filename(folder / image)
            if parents is not None:
                facts = {"Synthetic": True, "Parents": parents}
                (folder / f"{subject}_{domain}.json").write_text(json.dumps(facts))
            lines.append(f"{subject},{domain},{image}")
        (folder / "cohort.csv").write_text("\n".join(lines))
        return folder

    return save


REAL, MADE = ("s0", "t1", None), ("made", "t1", ["s0", "s1"])


def subjects(rows):
    return [row.study.subject for row in rows]


def test_sidecars_tell_synthetic_rows_and_their_recipients(cohort):
    made, real = divided(cohort("one", [REAL, MADE]) / "cohort.csv", None)
    assert (subjects(made), subjects(real)) == (["made"], ["s0"])
    assert (made[0].recipient, real[0].recipient) == ("s0", None)


def test_of_two_places_each_brings_its_own(cohort):
    one, other = cohort("one", [REAL, MADE]), cohort("other", [("s7", "t1", None), MADE])
    made, real = divided(one, other)
    assert (subjects(made), subjects(real)) == (["made"], ["s7"])
    made, real = divided(cohort("unmarked", [("x", "t1", None)]), other)
    assert subjects(made) == ["x"], "a place in which nothing is marked is meant as it is"


def test_one_place_must_hold_both(cohort):
    with pytest.raises(DataError, match=r"no sidecar in .* marks an image as synthetic"):
        divided(cohort("real", [REAL]), None)
    with pytest.raises(DataError, match="holds synthetic images only; give the real ones with --reference"):
        divided(cohort("made", [MADE]), None)
    with pytest.raises(DataError, match="holds synthetic images only; give real ones with --reference"):
        divided(cohort("one", [REAL, MADE]), cohort("marked", [MADE]))


def test_a_domain_is_asked_for_where_there_are_several(cohort):
    folder = cohort("two", [REAL, ("s1", "t2", None)])
    with pytest.raises(ConfigError, match=r"has images of t1, t2; say which, as in .*two:t1"):
        read_rows(folder)
    assert subjects(read_rows(f"{folder}:t2")) == subjects(read_rows(f"{folder / 'cohort.csv'}:t2")) == ["s1"]
    with pytest.raises(DataError, match="has no image of domain flair; it has t1, t2"):
        read_rows(f"{folder}:flair")


def test_a_folder_of_images_needs_no_cohort_and_what_is_not_there_is_said(cohort, tmp_path):
    folder = cohort("plain", [REAL])
    (folder / "cohort.csv").unlink()
    (folder / "s0_t1.json").write_text("no json")
    assert [row.synthetic for row in read_rows(folder)] == [False]
    with pytest.raises(DataError, match="nowhere"):
        read_rows(tmp_path / "nowhere")
