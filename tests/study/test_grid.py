"""What is one value, which combinations there are, and what folders they get."""

import pytest

from medgan.config import from_overrides
from medgan.errors import ConfigError
from medgan.study.grid import Cell, grid, read_seeds, values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", ["1"]),
        ("1,2,3", ["1", "2", "3"]),
        ("1e-4, 2e-4", ["1e-4", "2e-4"]),
        ("[1,1,null]", ["[1,1,null]"]),
        ("[1,1,null],[2,2,null]", ["[1,1,null]", "[2,2,null]"]),
        ("{kind: unet, downs: 3},{kind: resnet}", ["{kind: unet, downs: 3}", "{kind: resnet}"]),
        ("[[0,1],[2,3]],[]", ["[[0,1],[2,3]]", "[]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('["a,]",b],c', ['["a,]",b]', "c"]),
        ("it's,its", ["it's", "its"]),
        ("", [""]),
    ],
)
def test_values_end_at_commas_outside_brackets_and_quotes(text, expected):
    assert values(f"key={text}", text) == expected


@pytest.mark.parametrize("text", ["[1,2", "{a: 1", "1,2]]", "'a,b"])
def test_a_bracket_or_quote_without_its_end_is_refused(text):
    with pytest.raises(ConfigError, match="without its end"):
        values(f"key={text}", text)


@pytest.mark.parametrize("text", ["1,", ",1", "1,,2"])
def test_nothing_between_commas_is_refused(text):
    with pytest.raises(ConfigError, match="no value between two commas"):
        values(f"key={text}", text)


def test_a_grid_is_every_combination_with_the_first_key_slowest():
    found = grid(["pix2pix.l1=10,100", "size=small", "fit.epochs=1,2,3", "grid.spacing_mm=[1,1,null]"])
    assert found.shared == ("size=small", "grid.spacing_mm=[1,1,null]")
    assert found.keys == ("pix2pix.l1", "fit.epochs")
    assert [cell.settings for cell in found.cells] == [
        (f"pix2pix.l1={weight}", f"fit.epochs={epochs}") for weight in (10, 100) for epochs in (1, 2, 3)
    ]
    assert found.cells[0].name == "pix2pix.l1=10,fit.epochs=1"


def test_without_an_axis_there_is_one_cell():
    assert grid(["fit.epochs=3"]).cells == (Cell("as_configured"),)
    assert grid([]).shared == ()


def test_of_a_key_that_is_given_twice_the_last_counts():
    assert grid(["fit.epochs=3,4", "fit.epochs=5"]).shared == ("fit.epochs=5",)


def test_a_cells_settings_are_what_every_command_reads():
    (_, cell) = grid(["grid.spacing_mm=[1,1,null],[2,2,null]"]).cells
    assert from_overrides(cell.settings) == {"grid": {"spacing_mm": [2, 2, None]}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["fit.epochs"], "is not a setting"), (["=3"], "is not a setting"), (["seed=1,2"], "give them as --seeds")],
)
def test_what_is_no_axis_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        grid(arguments)


def test_folders_say_what_is_in_them():
    assert Cell("pix2pix.l1=10,fit.epochs=1").folder(3) == "pix2pix.l1=10,fit.epochs=1,seed=3"


def test_names_that_no_folder_can_have_stay_apart():
    names = ["a/b", "a\\b", "a:b", 'a"b', "a b", "x" * 300, "x" * 301, "../a"]
    folders = [Cell(name).folder(0) for name in names]
    assert len(set(folders)) == len(names)
    assert not [folder for folder in folders if set(folder) & set('/\\:*?"<>| ') or len(folder) > 130]


@pytest.mark.parametrize(("text", "seeds"), [("1", (0,)), ("3", (0, 1, 2)), ("5,7", (5, 7)), ("4,", (4,))])
def test_seeds_are_a_number_of_them_or_a_list(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1,1", "1.5", ","])
def test_what_are_no_seeds_is_refused(text):
    with pytest.raises(ConfigError, match="--seeds"):
        read_seeds(text)
