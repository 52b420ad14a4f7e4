"""Networks built from settings: kinds, sizes, directions, and change maps in HU."""

import pytest
import torch

from medgan.config import from_overrides, load
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import PatchConfig
from medgan.errors import ConfigError
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.generators import ResNetGenerator
from medgan.networks.outputs import ChangeOutput, ImageOutput
from medgan.networks.windows import Windowed
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, ResNetConfig, UNetConfig, check_change

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2.5", "3"])
NETWORKS = pytest.mark.parametrize(
    "network",
    [
        ResNetConfig(channels=4, blocks=1),
        ResNetConfig(channels=4, downs=3, blocks=1, skips=True, norm="group"),
        UNetConfig(channels=4, downs=3),
    ],
    ids=["resnet", "skips", "unet"],
)


def ct(name, window=None):
    return Domain(name=name, modality="CT", unit="HU", air=-1024, window=window or Window(lower=-300, upper=700))


PAIR = DomainPair(source=ct("contrast"), target=ct("plain"), paired=False)
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0, window=Window(lower=1, upper=99, percentiles=True))


def patch(dimensions):
    return PatchConfig(dimensions=dimensions, size_voxels=16)


def hu_image(config, batch=1):
    """Every HU in and beyond the window, normalised to it."""
    shape = (batch, config.channels, *config.shape)
    hu = torch.linspace(-500, 900, torch.Size(shape).numel()).reshape(shape)
    return ((hu + 300) / 500 - 1).clamp(-1, 1)


@DIMENSIONS
@NETWORKS
@pytest.mark.parametrize("change", ["one-sided", "signed", "none"])
def test_a_generator_takes_its_patch_and_gives_one_channel_and_is_built_again_from_its_settings(
    dimensions, network, change
):
    config, settings = patch(dimensions), GeneratorConfig(network=network, change=change)
    again = GeneratorConfig.model_validate_json(settings.model_dump_json())
    assert again == settings
    one, other = (each.build(PAIR, config, "to_target").eval() for each in (settings, again))
    assert isinstance(one, ImageOutput if change == "none" else ChangeOutput)
    other.load_state_dict(one.state_dict())
    image = hu_image(config, batch=2)
    with torch.no_grad():
        assert one(image).shape == (2, 1, *config.shape)
        assert torch.equal(one(image), other(image))


@DIMENSIONS
@NETWORKS
def test_an_axis_must_be_the_multiple_that_the_settings_tell(dimensions, network):
    spatial = patch(dimensions).spatial
    built = network.build(spatial, 1).eval()
    built(torch.zeros(1, 1, *[2 * network.multiple] * spatial))
    with pytest.raises(ValueError, match=f"multiple of {network.multiple}"):
        built(torch.zeros(1, 1, *[2 * network.multiple + network.multiple // 2] * spatial))


@DIMENSIONS
@pytest.mark.parametrize(
    ("added_by", "direction", "sign"),
    [("source", "to_target", -1), ("source", "to_source", 1), ("target", "to_target", 1), ("target", "to_source", -1)],
)
def test_contrast_agent_is_added_towards_the_domain_that_has_it_and_removed_on_the_way_back(
    dimensions, added_by, direction, sign
):
    settings = GeneratorConfig(network=ResNetConfig(channels=4, blocks=1), change="one-sided", added_by=added_by)
    change = settings.build(PAIR, patch(dimensions), direction).change(hu_image(patch(dimensions))).detach()
    assert (sign * change).min() >= 0
    assert (sign * change).max() > 0


@pytest.mark.parametrize("window", [Window(lower=-300, upper=700), Window(lower=-1000, upper=1000)])
def test_bounds_ramp_and_largest_change_are_in_hu_whatever_the_window(window):
    settings = GeneratorConfig(network=ResNetConfig(channels=4, blocks=0), change="one-sided", largest=200)
    pair = DomainPair(source=ct("contrast", window), target=ct("plain", window), paired=False)
    output = settings.build(pair, patch("2"), "to_source")
    with torch.no_grad():
        output.network.last[1].bias.fill_(1e4)
    hu = torch.linspace(-100, 650, 256).reshape(1, 1, 16, 16)
    scale = 2 / (window.upper - window.lower)
    change_hu = output.change((hu - window.lower) * scale - 1).detach() / scale
    expected = 200 * ((hu + 50) / 50).clamp(0, 1) * ((600 - hu) / 50).clamp(0, 1)
    torch.testing.assert_close(change_hu, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("spatial", [2, 3])
def test_a_discriminator_scores_patches(spatial):
    network = DiscriminatorConfig(receptive_field=34, channels=4).build(spatial, 2, PAIR.target)
    assert network(torch.zeros(1, 2, *[64] * spatial)).shape == (1, 1, *[14] * spatial)


def test_windows_in_hu_are_for_ct_alone():
    config = DiscriminatorConfig(receptive_field=16, channels=4, windows_hu=((-100, 200), (0, 1000)))
    assert isinstance(config.build(2, 1, PAIR.target), Windowed)
    assert isinstance(config.build(2, 1, MR), PatchDiscriminator)
    generator = GeneratorConfig(network=ResNetConfig(channels=4, blocks=1), windows_hu=((-300, 700), (0, 100)))
    built = generator.build(PAIR, patch("2.5"), "to_target")
    assert isinstance(built.network, Windowed)
    hu = hu_image(patch("2.5"))
    shown = built.network.views(hu)
    assert torch.equal(shown[:, :3], hu)
    torch.testing.assert_close(shown[:, 3:], ((hu + 1) * 500 - 350).div(50).clamp(-1, 1), atol=1e-4, rtol=0)
    assert all(map(torch.equal, built.encode(hu), built.network.network.encode(shown)))
    mr = DomainPair(source=MR, target=PAIR.target, paired=False)
    assert isinstance(
        generator.model_copy(update={"change": "none"}).build(mr, patch("3"), "to_target").network, ResNetGenerator
    )


def test_the_kind_of_network_may_be_chosen_by_an_override_alone():
    small = {"network": {"kind": "resnet", "channels": 16, "blocks": 4, "skips": True}}
    chosen = load(GeneratorConfig, small, from_overrides(["network.kind=unet", "network.downs=4"]))
    assert chosen.network == UNetConfig(downs=4)
    assert load(GeneratorConfig, from_overrides(["network.channels=8"])).network == ResNetConfig(channels=8)


@pytest.mark.parametrize(
    ("schema", "settings", "message"),
    [
        (DiscriminatorConfig, {"receptive_field": 71}, r"'receptive_field': Input should be 1, 16, 34, 70, 142 or 286"),
        (GeneratorConfig, {"network": {"chanels": 3}}, r"'network\.chanels' \(did you mean 'network\.channels'\?\)"),
        (GeneratorConfig, {"lower": 0, "upper": 90}, "nothing may change between lower=0 and upper=90"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(schema, settings, message):
    with pytest.raises(ConfigError, match=message):
        load(schema, settings)


@pytest.mark.parametrize("change", ["one-sided", "signed"])
def test_a_change_map_needs_one_unit_one_window_and_bounds_inside_it(change):
    generator = GeneratorConfig(change=change)
    check_change(generator, PAIR)
    other_window = ct("plain", Window(lower=-300, upper=800))
    for target in (MR, other_window):
        pair = DomainPair(source=PAIR.source, target=target, paired=False)
        with pytest.raises(ConfigError, match=rf"change={change} needs source and target on one scale"):
            check_change(generator, pair)
        check_change(GeneratorConfig(change="none"), pair)
    for bounds in ({"upper": 701}, {"lower": -301}):
        with pytest.raises(ConfigError, match=r"beyond the window of -300 to 700 HU; set generator\.lower"):
            check_change(GeneratorConfig(change=change, **bounds), PAIR)
