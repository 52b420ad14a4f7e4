"""Shapes, sizes, gradients and parameter counts of generators in 2D and 3D."""

from functools import partial

import pytest
import torch

from medgan.networks.generators import ResNetGenerator, UNetGenerator
from medgan.networks.spade import SpadeGenerator

SHAPES = {2: (16, 24), 3: (16, 8, 16)}


small_resnet = partial(ResNetGenerator, channels=4, blocks=2)
small_unet = partial(UNetGenerator, channels=4, downs=3)
small_spade = partial(SpadeGenerator, channels=4, hidden=4)


VARIANTS = [
    (small_resnet, {}),
    (small_resnet, {"skips": True, "norm": "group", "channels": 8}),
    (small_resnet, {"upsampling": "transposed", "norm": "batch", "dropout": 0.5}),
    (small_resnet, {"norm": "none", "downs": 1, "blocks": 0}),
    (small_unet, {}),
    (small_unet, {"upsampling": "resize", "norm": "instance"}),
    (small_unet, {"norm": "group", "channels": 12, "downs": 2}),
    (small_unet, {"norm": "none", "dropout": 0.0}),
    (small_unet, {"skips": False}),
    (small_unet, {"skips": False, "upsampling": "resize", "norm": "instance", "downs": 2}),
    (small_spade, {"norm": "instance"}),
    (small_spade, {"norm": "group"}),
]
BOTH = pytest.mark.parametrize("spatial", [2, 3], ids=["2d", "3d"])


def parameters(network):
    """As the references count, with the biases that instance norm removes; without a batch norm's statistics."""
    state = network.state_dict().items()
    return sum(value.numel() for name, value in state if name.endswith(("weight", "bias")))


@BOTH
@pytest.mark.parametrize(
    ("build", "options"), VARIANTS, ids=[f"{build.func.__name__}-{options}" for build, options in VARIANTS]
)
def test_the_output_has_the_inputs_size_and_every_layer_learns(spatial, build, options, learns):
    network = build(spatial, inputs=3, outputs=2, **options)
    result = network(torch.randn(2, 3, *SHAPES[spatial]))
    assert result.shape == (2, 2, *SHAPES[spatial])
    learns(network, result)


@BOTH
@pytest.mark.parametrize("build", [small_resnet, small_unet])
def test_the_raw_map_is_not_bounded_by_an_activation(spatial, build):
    network = build(spatial)
    with torch.no_grad():
        network.last[1].weight.mul_(1e4)
        result = network(torch.randn(1, 1, *SHAPES[spatial]))
    assert result.min() < -1
    assert result.max() > 1


@BOTH
@pytest.mark.parametrize(
    ("build", "multiple", "least"),
    [(small_resnet, 4, 8), (small_unet, 8, 8), (small_spade, 4, 8)],
    ids=["resnet", "unet", "spade"],
)
def test_the_smallest_size_works_and_one_that_is_smaller_or_no_multiple_is_refused(spatial, build, multiple, least):
    network = build(spatial, inputs=1).eval()
    assert network.multiple == multiple
    network(torch.zeros(1, 1, *[least] * spatial))
    for passes in (network, *([network.encode] if build is small_resnet else [])):
        for last in (least + multiple // 2, least - multiple):
            message = rf"must be a multiple of {multiple} and at least {least}; pad it first"
            with pytest.raises(ValueError, match=message):
                passes(torch.zeros(1, 1, *[least] * (spatial - 1), last))


@BOTH
@pytest.mark.parametrize("build", [small_resnet, small_unet])
@pytest.mark.parametrize("skips", [True, False])
def test_only_skips_carry_detail_past_the_coarsest_map(spatial, build, skips):
    network = build(spatial, skips=skips, norm="none").eval()
    with torch.no_grad():
        for parameter in network.down[-1].parameters():
            parameter.zero_()
        results = [network(torch.randn(1, 1, *SHAPES[spatial])) for _ in range(2)]
    assert torch.equal(*results) is not skips


@pytest.mark.parametrize(
    ("build", "more", "millions"),
    [
        (lambda: ResNetGenerator(2, 3, 3, blocks=9, upsampling="transposed"), 0, 11.378),
        (lambda: ResNetGenerator(2, 3, 3, blocks=6, upsampling="transposed"), 0, 7.838),
        (lambda: UNetGenerator(2, 3, 3), 64 + 512, 54.414),  # the biases of the two halvings without a norm
    ],
    ids=["resnet-9", "resnet-6", "unet"],
)
def test_networks_have_as_many_parameters_as_the_reference_prints(build, more, millions):
    with torch.device("meta"):
        assert round((parameters(build()) - more) / 1e6, 3) == millions


@pytest.mark.parametrize(("spatial", "wide"), [(2, 16), (3, 4)])
def test_the_nine_block_resnet_has_as_many_parameters_as_its_layers(spatial, wide):
    def layer(kernel, inputs, outputs):
        return inputs * outputs * kernel**spatial + outputs

    ends = layer(7, 1, wide) + layer(7, wide, 1)
    halvings = layer(3, wide, 2 * wide) + layer(3, 2 * wide, 4 * wide)
    doublings = layer(3, 4 * wide, 2 * wide) + layer(3, 2 * wide, wide)
    with torch.device("meta"):
        network = ResNetGenerator(spatial, channels=wide, upsampling="transposed")
    assert parameters(network) == ends + halvings + 18 * layer(3, 4 * wide, 4 * wide) + doublings


@pytest.mark.parametrize("spatial", [2, 3])
def test_severed_skips_take_the_weights_that_read_them_and_no_others(spatial):
    whole, severed = (parameters(small_unet(spatial, skips=skips)) for skips in (True, False))
    # Kernels of 4 read the maps of width 8 (into 4) and of width 4 (into the output).
    assert whole - severed == 4**spatial * (8 * 4 + 4 * 1)


def test_the_unet_drops_out_in_the_three_blocks_after_the_innermost():
    network = UNetGenerator(2, channels=1)
    rates = [[layer.p for layer in block if isinstance(layer, torch.nn.Dropout2d)] for block in network.up]
    assert rates == [[], [0.5], [0.5], [0.5], [], [], []]


@pytest.mark.parametrize("spatial", [2, 3])
def test_weights_that_keep_the_variance_carry_a_signal_through_a_net_without_norm(spatial):
    image = torch.randn(1, 1, *[32] * spatial)
    for keep_variance, least, most in ((False, 0, 0.05), (True, 0.3, 5)):
        network = ResNetGenerator(spatial, channels=8, downs=3, blocks=2, norm="none", keep_variance=keep_variance)
        assert least < network.blocks(network.encode(image)[-2]).std() < most


@BOTH
@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize(("downs", "blocks"), [(1, 0), (2, 1), (2, 4)])
def test_the_encoder_shows_what_a_forward_pass_computes_on_its_way_down(spatial, skips, downs, blocks):
    network = small_resnet(spatial, inputs=3, downs=downs, blocks=blocks, skips=skips)
    computed = []
    for layer in (network.stem, *network.down, *network.blocks[: (blocks + 1) // 2]):
        layer.register_forward_hook(lambda layer, inputs, result: computed.append(result))
    image = torch.randn(2, 3, *SHAPES[spatial])
    network(image)
    expected = [image[:, 1:2], *computed[: 1 + downs], *([computed[-1]] if blocks else [])]
    maps = network.encode(image)
    assert len(maps) == len(expected) == len(network.encoded_widths)
    assert all(map(torch.equal, maps, expected))
    assert [each.shape[1] for each in maps] == list(network.encoded_widths)
    sizes = [SHAPES[spatial], *(tuple(size // 2**level for size in SHAPES[spatial]) for level in range(downs + 1))]
    assert [each.shape[2:] for each in maps[: downs + 2]] == sizes
