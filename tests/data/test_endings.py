"""Who is who, from the names of files alone: the domains' endings, and what cannot be told."""

import pytest

from medgan.data.endings import plain_spelling, subjects_named

IDS = [f"PAT{number:03}" for number in range(1, 9)]


def named(contrast, plain):
    return subjects_named({"contrast": contrast, "plain": plain})


def each(pattern, ids=IDS):
    return [pattern.format(name) for name in ids]


@pytest.mark.parametrize(
    ("contrast", "plain", "words"),
    [
        (each("{}_ce"), each("{}_nc"), "'ce' and 'nc'"),
        (each("{}-CE"), each("{}-NC"), "'ce' and 'nc'"),
        (each("{}.contrast"), each("{}.plain"), "'contrast' and 'plain'"),
        ([*each("{}_ce", IDS[:4]), *each("{}_CE", IDS[4:])], each("{}-nc"), "'ce' and 'nc'"),
        (each("{}_T1"), each("{}_T2"), "'t1' and 't2'"),
        (each("{}_ce"), IDS, "'ce'"),
        (IDS, each("{}_native"), "'native'"),
        ([*each("{}_ce", IDS[1:]), IDS[0]], each("{}_nc"), "'ce' and 'nc'"),
        (each("site-A_{}_ce"), each("site-A_{}_nc"), "'ce' and 'nc'"),
    ],
)
def test_what_a_domain_adds_to_its_names_is_no_part_of_a_subjects_name(contrast, plain, words):
    found = named(contrast, plain)
    subjects = [
        {found.subjects.get((domain, name), name) for name in names}
        for domain, names in (("contrast", contrast), ("plain", plain))
    ]
    assert subjects[0] == subjects[1]
    assert len(subjects[0]) == 8
    assert f"(8 subjects have both): names lose {words} at the end" in found.note
    assert found.doubt == ""
    assert "\n" not in found.note


@pytest.mark.parametrize(
    ("contrast", "plain"),
    [
        (IDS, IDS),
        (each("{}_ct"), each("{}_ct")),
        (each("P_{}", range(0, 16, 2)), each("P_{}", range(1, 16, 2))),
        (each("a{}", range(8)), each("b{}", range(8))),
        (each("{}_ce"), each("X{}_nc", range(8))),
        (["3f2a-9c", "77b1-e0", "a90c-11"], ["5d5d-9d", "81c0-ff", "b1ee-12"]),
        (each("site1_{:03}", range(8)), each("site1_{:03}", range(8, 16))),
        (each("LUNG1-{:03}", range(8)), each("LIDC-IDRI-{:04}", range(8))),
        (each("a_{}", range(8)), each("b_{}", range(8))),
        ([f"{number:03}_{name}" for number, name in enumerate(IDS)], [f"{n:03}_x{n}" for n in range(8)]),
        (["horse"], ["zebra"]),
        (["P_a"], ["P_b"]),
    ],
)
def test_names_that_are_equal_or_share_nothing_stay_as_they_are(contrast, plain):
    found = named(contrast, plain)
    assert (dict(found.subjects), found.note, found.doubt) == ({}, "", "")


@pytest.mark.parametrize(
    ("contrast", "plain"),
    [
        (each("{}_0000"), each("{}_0001")),
        (each("{}_ce_01"), each("{}_nc_01")),
        (each("ce_{}"), each("nc_{}")),
        (each("ce_{:03}", range(8)), each("nc_{:03}", range(8))),
        (each("{:03}", range(8)), each("plain-{}", range(8))),
        ([f"A_{4217 * number + 10000}" for number in range(8)], [f"B_{4217 * number + 10000}" for number in range(8)]),
        ([f"{n}_2020010{n}" for n in range(1, 9)], [f"{n}_2021020{9 - n}" for n in range(1, 9)]),
        (each("{} ce"), each("{} nc")),
        (each("{}CE"), each("{}NC")),
        ([f"{who}_2020010{n}" for n, who in enumerate(IDS)], [f"{who}_2021020{9 - n}" for n, who in enumerate(IDS)]),
        ([name.lower() for name in IDS], IDS),
        ([f"{name.lower()}_ce" for name in IDS], each("{}_nc")),
        ([f"PAT{number}" for number in range(1, 9)], IDS),
        (["Mu\u0308ller", "Ko\u0308nig", "Scha\u0308fer"], ["Müller", "König", "Schäfer"]),
        ([*each("{}_ce"), "PAT001-CE"], each("{}_nc")),
        ([*each("{}_ce"), "PAT001"], each("{}_nc")),
        ([*each("{}_ce", IDS[1:]), "PAT001_late"], each("{}_nc")),
        (each("{}_ce"), [*each("{}_nc", IDS[:4]), *each("{}_native", IDS[4:])]),
    ],
)
def test_names_that_could_be_one_subjects_are_in_doubt(contrast, plain):
    doubt = named(contrast, plain).doubt
    assert doubt.startswith(("names of contrast and plain could be one subject's or two", "without 'ce' and 'nc'"))
    assert any(f"contrast/{name}" in doubt for name in contrast)


def test_one_domain_and_no_domain_have_nothing_to_tell():
    assert subjects_named({"contrast": each("{}_ce")}) == subjects_named({}) == named([], [])


def test_a_plain_spelling_tells_names_apart_and_ways_of_writing_not():
    for names in (["A7", "a7", "a_7", "A-07", "a 7 "], ["01", "1", "001"], ["Mu\u0308ller", "MÜLLER"]):
        assert len({plain_spelling(name) for name in names}) == 1
    assert len({plain_spelling(name) for name in ("1_11", "11_1", "111", "P1", "P10", "P1a", "1P")}) == 7
