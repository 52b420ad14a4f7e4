"""Every cell of the ablation differs from the reference in the one thing that it is named after."""

import pytest

from medgan.config import flattened
from medgan.errors import ConfigError
from medgan.studies.ablation import Ablation

LARGE = ("patch.size_voxels=64", "discriminator.channels=2")


@pytest.fixture
def ablation(settled):
    """The translators of an ablation: ``ablation("pix2pix.l1=3", only="losses")``."""
    return lambda *overrides, only=None: (
        settled(Ablation, *overrides, options={"only": only} if only else {}).translators
    )


def differences(translators):
    shown = {name: flattened(each.config.model_dump(mode="json")) for name, each in translators.pipelines.items()}
    reference = shown[next(iter(shown))]
    return {
        name: {key: own.get(key) for key in {*own, *reference} if own.get(key) != reference.get(key)}
        for name, own in shown.items()
    }


def test_losses_change_one_setting(ablation):
    changed = differences(ablation(only="losses"))
    assert changed == {"l1+cgan": {}, "l1": {"pix2pix.adversarial": "none"}, "cgan": {"pix2pix.l1": 0}}
    everything = {"l1", "cgan", "discriminator=1", "unet", "encoder-decoder"}
    assert everything < set(ablation(*LARGE).cells), "without --only all groups are compared"


def test_discriminators_change_the_receptive_field(ablation):
    own = ablation(*LARGE, only="discriminators")
    assert differences(own) == {
        "l1+cgan": {},
        "discriminator=1": {"discriminator.receptive_field": 1},
        "discriminator=70": {"discriminator.receptive_field": 70},
    }
    assert own.left_out["discriminator=16"] == "it has the settings of l1+cgan."
    assert "patches of 64 x 64 voxels do not fit discriminator" in own.left_out["discriminator=286"]


@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_generators_are_a_unet_with_and_without_skips_and_a_resnet(ablation, kind):
    network = [] if kind == "resnet" else ["generator.network={kind: unet, channels: 4, downs: 3, norm: instance}"]
    own = ablation(*network, only="generators")
    networks = {name: each.config.generator.network for name, each in own.pipelines.items()}
    assert own.left_out == {kind: "it has the settings of l1+cgan."}
    networks[kind] = networks.pop("l1+cgan")
    assert [networks[name].kind for name in ("unet", "encoder-decoder", "resnet")] == ["unet", "unet", "resnet"]
    assert (networks["unet"].skips, networks["encoder-decoder"].skips) == (True, False)
    assert networks["encoder-decoder"].downs == networks["unet"].downs == (4 if kind == "resnet" else 3)
    norm = "group" if kind == "resnet" else "instance"
    assert {(network.channels, network.norm) for network in networks.values()} == {(4, norm)}


@pytest.mark.parametrize(("configured", "game"), [("none", "vanilla"), ("least_squares", "least_squares")])
def test_the_reference_plays_the_configured_game_or_the_papers(ablation, configured, game):
    own = ablation(f"pix2pix.adversarial={configured}", only="losses").pipelines
    games = {name: each.config.pix2pix.adversarial for name, each in own.items()}
    assert games == {"l1+cgan": game, "l1": "none", "cgan": game}


def test_a_setting_of_the_configured_network_reaches_no_other_kind_and_without_an_l1_term_nothing_is_taken_away(
    ablation,
):
    own = ablation("generator.network.blocks=2", only="generators")
    assert set(own.cells) == {"l1+cgan", "unet", "encoder-decoder"}
    assert own.pipelines["l1+cgan"].config.generator.network.blocks == 2
    with pytest.raises(ConfigError, match=r"pix2pix\.l1=0 leaves no L1 term"):
        ablation("pix2pix.l1=0")


@pytest.mark.parametrize(("patch", "downs"), [("size_voxels=64", 6), ("size_voxels=48", 4), ("size_voxels=20", 2)])
def test_a_unet_is_as_deep_as_the_patch_lets_it(ablation, patch, downs):
    own = ablation(f"patch.{patch}", only="generators")
    assert own.pipelines["unet"].config.generator.network.downs == downs
