"""Whole checks of a model that changes nothing and of one that darkens its input, on made-up scans with a vessel."""

import io
import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy import stats
from torch import nn
from typer.testing import CliRunner

from medgan import cli
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.hashes import image_hash
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig, Prepared
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError
from medgan.evaluation.statistics import plain
from medgan.faithfulness.model import DISTURBANCES, NOISE_SHARE, FaithfulnessOrder, check_faithfulness, cycle_errors
from medgan.faithfulness.result import means
from medgan.inference.convert import ConvertOrder
from medgan.networks.outputs import centre_channel
from medgan.training.architecture import GeneratorConfig, ResNetConfig, TranslationDescription
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin, write_model
from tables import rewrite

CONTRAST, PLAIN = (
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window(lower=-300.0, upper=700.0))
    for name in ("contrast", "plain")
)


def raw_map(share):
    """The raw map at which a one-sided change holds a share of the largest change; an untrained one holds 2 %."""
    return float(torch.logit(torch.tensor(share)) - torch.logit(torch.tensor(0.02)))


def save_model(folder, *, removes_hu=0.0, directions=("to_target", "to_source"), trained_on=None):
    """A change that is the same everywhere within its limits: ``removes_hu`` on the way there, none on the way back."""
    pair, patch = DomainPair(source=CONTRAST, target=PLAIN, paired=False), PatchConfig(size_voxels=16)
    network = ResNetConfig(channels=4, downs=1, blocks=1, norm="group", skips=True)
    generator = GeneratorConfig(network=network, change="one-sided", largest=500.0)
    networks = {direction: generator.build(pair, patch, direction) for direction in directions}
    for direction, net in networks.items():
        *others, bias = net.parameters()
        for parameter in others:
            torch.nn.init.zeros_(parameter)
        share = removes_hu / generator.largest if direction == "to_target" else 0.0
        torch.nn.init.constant_(bias, raw_map(max(share, 1e-6)))
    write_model(
        folder, networks, TranslationDescription, name="ct_contrast", pair=pair, patch=patch, generator=generator,
        grid=GridConfig(spacing_mm=(None, None, None)), intensities={}, metrics={}, epoch=1,
        origin=Origin(split_hash="0", data_fingerprint="0", trained_on=trained_on),
    )  # fmt: skip
    return folder


def recorded_means(rows):
    return plain({figure: asdict(mean) for figure, mean in means(rows).items()})


@pytest.fixture
def asked(paired, tmp_path, segmenters):
    """What a user asks: ``asked(removes_hu=200, labels=True)``."""

    def make(removes_hu=0.0, *, labels=False, directions=("to_target", "to_source"), data=None, seen=None, **changes):
        model = save_model(tmp_path / "model", removes_hu=removes_hu, directions=directions, trained_on=seen)
        own = {"input_segmenter": segmenters(), "output_segmenter": segmenters()} if labels else {}
        conversion = ConvertOrder(data or paired, tmp_path / "out", str(model), device="cpu")
        return FaithfulnessOrder(conversion, **(own | changes))

    return make


def run(order):
    return check_faithfulness(order, Console(quiet=True))


def test_a_model_that_changes_nothing_keeps_everything_and_hides_nothing(asked, tmp_path):
    found = run(asked(labels=True))
    assert found.exit_code == 0
    assert found.rejected == (0, 4)
    assert (found.rows["dice_vessel"] > 0.99).all()
    assert (found.rows["cycle_percent"] < 0.05).all()
    assert (found.rows["cycle_8bit_excess_percent"] < 0.05).all()
    record = json.loads((tmp_path / "out/faithfulness.json").read_text())
    assert record["rejected"] == [0, 4]
    assert record["figures"]["dice_vessel"]["n"] == 4
    assert len(pd.read_csv(tmp_path / "out/faithfulness.csv")) == 4
    assert "s0" not in (tmp_path / "out/faithfulness.json").read_text()


def test_a_model_that_removes_the_vessel_is_rejected_image_by_image(asked):
    found = run(asked(240.0, labels=True))
    assert found.rejected == (4, 4)
    assert found.rows["rejected"].str.startswith("dice of vessel 0.").all()
    assert found.rows["cycle_percent"].min() > 1  # nothing brings it back


def test_what_can_be_checked_alone_is_and_labels_need_both_segmenters(asked, segmenters):
    found = run(asked())
    assert found.rejected is None
    assert [column for column in found.rows if column.startswith("dice")] == []
    assert recorded_means(found.rows)["cycle_percent"]["n"] == 4
    one_way = {"directions": ("to_target",)}
    found = run(asked(labels=True, **one_way))
    assert "cycle_percent" not in found.rows
    assert "dice_vessel" in found.rows
    with pytest.raises(ConfigError, match=r"'ct_contrast' has no way back.*--input-segmenter"):
        run(asked(**one_way))
    for given in ({"input_segmenter": segmenters()}, {"lesions": ("vessel",)}):
        with pytest.raises(ConfigError, match="give both --input-segmenter and --output-segmenter"):
            run(asked(**given))


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("s1_contrast.nii.gz", b"no image", ""),
        ("s1_contrast.json", b'{"Modality": "PT"}', "modality is PT"),
        (None, b"", "out of memory; see that nothing else fills it"),
    ],
    ids=["image", "modality", "memory"],
)
def test_a_study_that_cannot_be_checked_is_named_and_stops_no_other(
    asked, save_cohort, tmp_path, monkeypatch, file, content, reason
):
    def full(path):
        if path.name.startswith("s1"):
            raise MemoryError
        return read_volume(path)

    table = save_cohort(tmp_path / "cohort", paired=True, subjects=4)
    if file:
        (tmp_path / "cohort" / file).write_bytes(content)
    else:
        monkeypatch.setattr("medgan.inference.batch.read_volume", full)
    found = run(asked(data=table))
    assert found.exit_code == 1
    assert list(found.failures) == ["s1_contrast.nii.gz"]
    assert reason in found.failures["s1_contrast.nii.gz"]
    assert found.rows["subject"].tolist() == ["s0", "s2", "s3"]


def test_what_is_passed_over_is_listed(asked, paired, tmp_path):
    (tmp_path / "scans").mkdir()
    shutil.copy(paired.parent / "s0_contrast.nii.gz", tmp_path / "scans")
    (tmp_path / "scans/archive.zip").write_bytes(b"PK")
    console = Console(file=io.StringIO(), width=200)
    found = check_faithfulness(asked(data=tmp_path / "scans"), console)
    assert found.exit_code == 0
    assert "passed over" in console.file.getvalue()
    assert "archive.zip" in console.file.getvalue()


def seen_in(table, **parts):
    """What a model says it was trained on: ``seen_in(table, train=["s0"], validation=["s1"])``."""
    return {
        part: tuple(image_hash(table.parent / f"{subject}_contrast.nii.gz") for subject in subjects)
        for part, subjects in parts.items()
    }


def test_studies_that_the_model_has_seen_are_in_no_mean_and_are_told_apart(asked, paired, tmp_path):
    order = asked(240.0, labels=True, seen=seen_in(paired, train=["s0"], validation=["s1"]))
    found = run(order)
    assert found.rows.set_index("subject")["seen"].to_dict() == {
        "s0": "train", "s1": "validation", "s2": "unseen", "s3": "unseen",
    }  # fmt: skip
    assert (found.who.train, found.who.validation) == (("s0",), ("s1",))
    assert found.rejected == (2, 2)
    assert found.exit_code == 0
    record = json.loads((tmp_path / "out/faithfulness.json").read_text())
    assert record["figures"] == recorded_means(found.rows[found.rows["subject"].isin(["s2", "s3"])])
    assert record["figures_of_seen"] == recorded_means(found.rows[found.rows["subject"].isin(["s0", "s1"])])
    assert record["seen"] == {"train": 1, "validation": 1, "unseen": 2}
    none = run(asked(seen=seen_in(paired, train=["s0", "s1", "s2", "s3"], validation=[])))
    assert none.exit_code == 2
    assert recorded_means(none.unseen) == {}
    assert any("There is no figure for unseen subjects" in note for note in none.notes)


def test_several_images_of_a_subject_are_one_in_a_mean(asked, save_cohort, tmp_path):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=4)
    found = run(asked(data=rewrite(table, lambda row: row | {"subject": row["subject"].replace("s1", "s0")})))
    assert len(found.rows) == 4
    interval = recorded_means(found.rows)["cycle_percent"]
    assert interval["n"] == 3
    by_hand = found.rows.groupby("subject")["cycle_percent"].mean().mean()
    assert interval["mean"] == pytest.approx(by_hand)


def test_means_have_students_intervals_and_one_subject_has_none_and_what_is_not_known_is_null():
    rows = pd.DataFrame({"subject": ["a", "b", "c"], "image": "", "dice_liver": [0.9, 0.7, 0.8], "dice_kidney": np.nan})
    rows.loc[0, "dice_kidney"] = 0.5
    found, expected = recorded_means(rows), stats.ttest_1samp([0.9, 0.7, 0.8], 0).confidence_interval()
    assert [found["dice_liver"][key] for key in ("lower", "upper")] == pytest.approx([expected.low, expected.high])
    assert found["dice_kidney"] == {"mean": 0.5, "lower": None, "upper": None, "n": 1}
    unknown = recorded_means(rows.assign(dice_kidney=np.nan))["dice_kidney"]
    assert unknown == {"mean": None, "lower": None, "upper": None, "n": 0}


def test_the_command_says_every_mean_and_how_many_were_rejected(paired, segmenters, tmp_path):
    model = save_model(tmp_path / "model", removes_hu=240.0)
    command = ["faithfulness", paired, tmp_path / "out", "--model", model, "--device", "cpu", "--quiet"]
    watched = ["--input-segmenter", segmenters(), "--output-segmenter", segmenters()]
    quiet = CliRunner().invoke(cli.app, [str(each) for each in [*command, *watched]])
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    told = CliRunner().invoke(cli.app, [str(each) for each in [*command[:-1], *watched, "--threshold", "0"]])
    assert "dice_vessel: 0" in told.stdout
    assert "cycle_noise_excess_percent: " in told.stdout
    rejected, unknown = told.stdout.splitlines()[-2:]
    assert rejected == "rejected: 0 of 4"
    assert unknown.startswith("Of 4 subjects it cannot be told whether the model was trained on them")


DOMAIN = Domain(name="contrast", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-1200.0, upper=1200.0))
DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
SHOWN, FAINT = 2 / 17, 1e-4


class Way(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return self.function(centre_channel(image))


def coarse(image):
    return torch.round(image / SHOWN) * SHOWN


hiding = Way(lambda image: coarse(image) + FAINT * (image - coarse(image)))
"""Shows seventeen grey values, and hides the rest of the image in what the eye does not see."""
reading = Way(lambda image: coarse(image) + (image - coarse(image)) / FAINT)
darker, brighter = Way(lambda image: image - 0.05), Way(lambda image: image + 0.05)


@pytest.fixture
def study(ct):
    voxels = ct(0, contrast=True, shape=(32, 32, 4))
    return Prepared(voxels, np.diag([2.0, 2.0, 5.0, 1.0]), ((1, 31), (1, 31), (0, 4)), (-1200.0, 1200.0))


def errors(there, back, study, dimensions="2"):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, depth_voxels=4 if dimensions == "3" else None)
    return cycle_errors(there, back, study, DOMAIN, patch=patch, multiple=2, fabric=make_fabric("cpu", "32"))


@DIMENSIONS
def test_a_hidden_input_is_lost_by_eight_bits_and_by_noise(study, dimensions):
    row = errors(hiding, reading, study, dimensions)
    assert row["cycle_percent"] < 0.1
    assert row["cycle_8bit_excess_percent"] > 5
    assert row["cycle_noise_excess_percent"] > 5


@DIMENSIONS
def test_an_honest_way_back_loses_no_more_than_the_disturbance(study, dimensions):
    row = errors(darker, brighter, study, dimensions)
    assert row["cycle_percent"] < 0.1
    for name in DISTURBANCES:
        error, excess = row[f"cycle_{name}_percent"], row[f"cycle_{name}_excess_percent"]
        assert excess <= 1e-3
        assert error == pytest.approx(error - row["cycle_percent"] - excess, rel=0.1)
    assert len(row) == 1 + 2 * len(DISTURBANCES)


def test_the_error_is_in_percent_of_the_window_inside_the_body(study):
    shifted = errors(Way(lambda image: image), Way(lambda image: image + 0.1), study)
    assert shifted["cycle_percent"] == pytest.approx(5.0, rel=1e-4)


def test_a_study_without_a_body_has_no_error(study):
    empty = replace(study, voxels=np.full((32, 32, 4), -1000, np.float32))
    assert np.isnan(list(errors(hiding, reading, empty).values())).all()


def test_noise_has_the_size_that_is_stated():
    image = np.zeros((64, 64, 8), np.float32)
    assert DISTURBANCES["noise"](image).std() / 2 == pytest.approx(NOISE_SHARE, rel=0.02)
    assert np.array_equal(DISTURBANCES["noise"](image), DISTURBANCES["noise"](image))
    assert np.abs(DISTURBANCES["noise"](image + 1)).max() == 1


def test_eight_bits_are_what_an_image_file_holds():
    image = np.linspace(-1, 1, 10_001, dtype=np.float32)
    stored = np.uint8(np.rint((image + 1) * 127.5))
    np.testing.assert_allclose(DISTURBANCES["8bit"](image), stored / 127.5 - 1, atol=1e-6)
