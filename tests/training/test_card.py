import pytest

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.training.architecture import GeneratorConfig
from medgan.training.card import model_card
from medgan.training.model_folder import ModelDescription


@pytest.fixture
def card():
    def make(**changes):
        contrast, plain = (
            Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window(lower=-300.0, upper=700.0))
            for name in ("contrast", "plain")
        )
        description = {
            "name": "ct_contrast",
            "pair": DomainPair(source=contrast, target=plain, paired=False),
            "grid": GridConfig(spacing_mm=(1.5, 1.5, None)),
            "patch": PatchConfig(dimensions="2.5", size_voxels=96),
            "generator": GeneratorConfig(change="one-sided"),
            "directions": ("to_target", "to_source"),
            "intensities": {},
            "split_hash": "0123456789abcdef",
            "data_fingerprint": "f",
            "weights_sha256": "w",
            "metrics": {"val/score_hu": 12.3456, "val/distribution_distance_hu": 8.0},
            "epoch": 7,
            "versions": {"medgan": "1.2.3"},
            "phantom": False,
        }
        return model_card(ModelDescription(**(description | changes)), trained=10, validated=3)

    return make


def test_the_card_says_what_the_model_is_for_and_not_for(card):
    text = card()
    assert text.startswith("# ct_contrast: contrast to plain\n")
    assert "**Not a medical device: for research only, not for diagnosis.**" in text
    assert "Convert studies with `medgan convert INPUT OUTPUT --model THIS_FOLDER`" in text


@pytest.mark.parametrize(
    "row",
    [
        "| Translates | to_target, to_source |",
        "| Grid | 1.5 mm x 1.5 mm x own |",
        "| Input | 2.5D, of 96 x 96 voxels |",
        "| Window | -300 to 700 |",
        "| Training subjects | 10 train, 3 validation; real studies |",
        "| Split | `0123456789ab` |",
        "| Networks kept | averages after epoch 7 |",
        "| `val/score_hu` | 12.35 |",
        "| `val/distribution_distance_hu` | 8 |",
    ],
)
def test_the_card_tells_how_it_was_made(card, row):
    assert row in card().splitlines()


def test_a_model_of_the_phantom_says_so(card):
    assert "the built-in digital phantom, no patient" in card(phantom=True)


def test_the_table_is_whole(card):
    lines = card().splitlines()
    first = lines.index("|---|---|")
    table = lines[first:]
    rows = table[: table.index("")]
    assert len(rows) == 1 + 7 + 2
    assert all(row.count("|") == 3 for row in rows)
