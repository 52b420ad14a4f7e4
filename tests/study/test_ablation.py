"""Every cell of the ablation differs from the reference in the one thing that it is named after."""

import pytest

from medgan.config import flattened
from medgan.errors import ConfigError
from medgan.study.ablation import ablation, deepest
from medgan.study.plan import configured, make_plan

LARGE = ["patch.size_voxels=64", "discriminator.channels=2"]


def plan_of(asked, tmp_path, *groups, overrides=()):
    order, cells = ablation(asked(tmp_path, overrides=overrides), groups or ("losses", "discriminators", "generators"))
    return make_plan(order, cells)


def differences(plan):
    shown = {child.cell.name: flattened(child.config.model_dump(mode="json")) for child in plan.children}
    reference = shown[plan.cells[0]]
    keys = {
        name: {key for key in {*own, *reference} if own.get(key) != reference.get(key)} for name, own in shown.items()
    }
    return {name: {key: shown[name].get(key) for key in sorted(changed)} for name, changed in keys.items()}


def test_losses_and_discriminators_change_one_setting(asked, tmp_path):
    plan = plan_of(asked, tmp_path, "losses", "discriminators", overrides=LARGE)
    found = differences(plan)
    assert found.pop("l1+cgan") == {}
    assert found == {
        "l1": {"pix2pix.adversarial": "none"},
        "cgan": {"pix2pix.l1": 0},
        "discriminator=1": {"discriminator.receptive_field": 1},
        "discriminator=70": {"discriminator.receptive_field": 70},
    }
    assert plan.left_out["discriminator=16"] == "it has the settings of l1+cgan."
    assert "patches of 64 x 64 voxels do not fit discriminator" in plan.left_out["discriminator=286"]


@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_generators_are_a_unet_with_and_without_skips_and_a_resnet(asked, tmp_path, kind):
    network = [] if kind == "resnet" else ["generator.network={kind: unet, channels: 4, downs: 3, norm: instance}"]
    plan = plan_of(asked, tmp_path, "generators", overrides=network)
    networks = {child.cell.name: child.config.generator.network for child in plan.children}
    same = {"resnet": "resnet", "unet": "unet"}[kind]
    assert plan.left_out == {same: "it has the settings of l1+cgan."}
    networks[same] = networks.pop("l1+cgan")
    assert [networks[name].kind for name in ("unet", "encoder-decoder", "resnet")] == ["unet", "unet", "resnet"]
    assert (networks["unet"].skips, networks["encoder-decoder"].skips) == (True, False)
    assert networks["encoder-decoder"].downs == networks["unet"].downs == (4 if kind == "resnet" else 3)
    assert {(network.channels, network.norm) for network in networks.values()} == {(4, "instance")}


def test_a_setting_of_the_configured_network_does_not_reach_another_kind(asked, tmp_path):
    plan = plan_of(asked, tmp_path, "generators", overrides=["generator.network.blocks=2"])
    assert set(plan.cells) == {"l1+cgan", "unet", "encoder-decoder"}
    assert plan.children[0].config.generator.network.blocks == 2


def test_the_reference_plays_the_papers_game_where_the_pipelines_default_plays_none(asked, tmp_path):
    order, cells = ablation(asked(tmp_path, overrides=["pix2pix.adversarial=none"]), ["losses"])
    games = {cell.name: configured(order, cell.settings).config.pix2pix.adversarial for cell in cells}
    assert games == {"l1+cgan": "vanilla", "l1": "none", "cgan": "vanilla"}


def test_the_configured_game_is_kept(asked, tmp_path):
    order, (reference, *_) = ablation(asked(tmp_path, overrides=["pix2pix.adversarial=least_squares"]), ["losses"])
    assert configured(order, reference.settings).config.pix2pix.adversarial == "least_squares"


def test_without_an_l1_term_there_is_nothing_to_take_away(asked, tmp_path):
    with pytest.raises(ConfigError, match=r"pix2pix\.l1=0 leaves no L1 term"):
        ablation(asked(tmp_path, overrides=["pix2pix.l1=0"]))


@pytest.mark.parametrize(
    ("shape", "downs"), [((256, 256), 8), ((512, 512), 8), ((112, 112), 4), ((64, 64, 16), 4), ((6, 6), 2)]
)
def test_a_unet_is_as_deep_as_the_patch_lets_it(shape, downs):
    assert deepest(shape) == downs
