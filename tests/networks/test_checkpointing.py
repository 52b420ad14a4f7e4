"""Activation checkpointing: less is kept, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn

from medgan.networks.checkpointing import checkpoint_activations
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.generators import ResNetGenerator, UNetGenerator
from medgan.networks.outputs import ImageOutput
from medgan.networks.spade import SpadeGenerator
from medgan.segmentation.settings import SegmenterNetworkConfig

NETWORKS = {
    "resnet": lambda spatial: ResNetGenerator(spatial, channels=4, blocks=2, downs=1, dropout=0.5, skips=True),
    "unet": lambda spatial: UNetGenerator(spatial, channels=4, downs=3, upsampling="resize"),
    "spade": lambda spatial: SpadeGenerator(spatial, 1, channels=4, downs=1, hidden=4),
    "segmenter": lambda spatial: SegmenterNetworkConfig(channels=4, downs=2, norm="batch", dropout=0.2).build(
        spatial, 1, 2
    ),
}


def step(network, image):
    """The output, the gradients of weights and image, and the bytes that the graph keeps."""
    torch.manual_seed(3)
    kept, image = {}, image.clone().requires_grad_()

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(image)
    weights = {each.untyped_storage().data_ptr() for each in network.parameters()}
    size = sum(size for place, (size, _) in kept.items() if place not in weights)
    output.square().mean().backward()
    return output.detach(), [each.grad for each in (*network.parameters(), image)], size


@pytest.mark.parametrize("spatial", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_outputs_gradients_and_statistics_are_the_same_and_less_is_kept(build, spatial):
    torch.manual_seed(0)
    plain = ImageOutput(build(spatial)).train()
    lean, image = copy.deepcopy(plain), torch.rand(2, 1, *(16,) * spatial) * 2 - 1
    assert checkpoint_activations(lean) >= 3
    for _ in range(2):
        (output, gradients, kept), (same, same_gradients, less) = step(plain, image), step(lean, image)
        assert torch.equal(output, same)
        assert all(map(torch.equal, gradients, same_gradients))
        assert less < 0.5 * kept
    states = plain.state_dict(), lean.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    copied = copy.deepcopy(lean)
    nn.init.zeros_(next(copied.parameters()))
    with torch.no_grad():
        assert not torch.equal(copied.eval()(image), lean.eval()(image)), "a copy runs its own layers"
        assert torch.equal(plain.eval()(image), lean(image))


def test_a_network_of_bare_convolutions_has_nothing_to_compute_again():
    assert checkpoint_activations(PatchDiscriminator(2, channels=4)) == 0
