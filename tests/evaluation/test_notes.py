"""Notes: what is said of baselines, and when there are look-ups at all."""

import pytest

from medgan.evaluation.judging import Modalities
from medgan.evaluation.matching import Matching
from medgan.evaluation.notes import Facts, notes
from medgan.evaluation.seen import Seen

CT_CT, MR_CT, MR_MR = Modalities(), Modalities("MR", "CT"), Modalities("MR", "MR")


def facts(modalities, *, paired=True, **others):
    return Facts(Matching((), paired, 3, ()), modalities, **{"has_source": True} | others)


@pytest.mark.parametrize(
    ("setting", "subjects", "expected"),
    [
        (facts(CT_CT), 2, True),
        (facts(CT_CT), 1, False),
        (facts(CT_CT, trained=5), 1, True),
        (facts(CT_CT, has_source=False), 9, False),
        (facts(MR_CT, has_source=False), 9, True),
        (facts(MR_CT, paired=False), 9, False),
        (facts(MR_MR), 9, False),
    ],
)
def test_look_ups_need_other_subjects_and_a_unit(setting, subjects, expected):
    assert setting.looked_up(subjects) == expected


@pytest.mark.parametrize(
    ("setting", "said", "unsaid"),
    [
        (facts(CT_CT), "intensity_lookup is fitted for each subject on the pairs of the other", "true_shifted"),
        (facts(CT_CT, paired=False), "on the histograms of the other", "core:"),
        (
            facts(MR_CT, trained=7),
            "constant and intensity_lookup are fitted for each subject on the pairs of 7 tr",
            "none.",
        ),
        (facts(MR_CT), "do_nothing is left out: the intensities of MR are no CT", "training subjects"),
        (facts(MR_CT, paired=False), "have no baseline", "fitted"),
        (facts(MR_MR), "MR has no unit", "left out"),
        (facts(CT_CT, seen=Seen(validation=("a",))), "(these chose its epoch: a)", "trained on them"),
        (facts(CT_CT, has_source=False), "Without the source images", "core:"),
    ],
)
def test_notes_say_what_holds_and_nothing_else(setting, said, unsaid):
    text = " ".join(notes(setting, 3))
    assert said in text
    assert unsaid not in text


def test_what_was_passed_over_is_said():
    matching = Matching((), True, 3, (), {"all.zip": "packed; unpack it first"})
    assert "Passed over, packed; unpack it first (1): all.zip." in notes(Facts(matching, CT_CT, True), 3)
