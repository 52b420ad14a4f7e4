"""Whole volumes against the same network applied by hand."""

import pytest
import torch
from torch.nn import functional as F

from medgan.networks.generators import ResNetGenerator
from medgan.networks.outputs import ChangeOutput, ImageOutput, centre_channel
from medgan.networks.sliding import maps_over_blocks, maps_over_slices


def volume(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("neighbours", [0, 1, 2])
@pytest.mark.parametrize("shape", [(16, 12, 1), (9, 14, 2), (13, 8, 7)])
@torch.no_grad()
def test_every_slice_is_seen_with_its_neighbours_of_which_the_last_repeats_and_grown_by_its_edge(neighbours, shape):
    torch.manual_seed(0)
    scan, (width, height, depth) = volume(*shape), shape
    network = ImageOutput(ResNetGenerator(2, 2 * neighbours + 1, channels=4, blocks=1)).eval()
    (result,) = maps_over_slices(network, scan, neighbours=neighbours, multiple=4, batch_size=3)
    for z in range(depth):
        around = [min(max(z + offset, 0), depth - 1) for offset in range(-neighbours, neighbours + 1)]
        stack = torch.stack([scan[:, :, other] for other in around])[None]
        by_hand = network(F.pad(stack, (0, -height % 4, 0, -width % 4), mode="replicate"))
        torch.testing.assert_close(result[:, :, z], by_hand[0, 0, :width, :height])


@pytest.mark.parametrize("shape", [(32, 32, 16), (30, 41, 21), (16, 16, 8), (9, 20, 3), (5, 4, 1)])
def test_all_maps_of_the_identity_give_the_volume_back_over_slices_and_blocks(shape):
    scan = volume(*shape)
    expected = torch.stack([scan, 2 * scan])

    def two(image):
        centre = centre_channel(image)
        return torch.cat([centre, 2 * centre], dim=1)

    torch.testing.assert_close(maps_over_blocks(two, scan, block=(16, 16, 8)), expected)
    torch.testing.assert_close(maps_over_slices(two, scan, neighbours=1, multiple=16), expected)


@torch.no_grad()
def test_voxels_outside_a_change_maps_bounds_pass_through_blocks_too():
    network = ResNetGenerator(3, channels=4, blocks=1)
    output = ChangeOutput(network, one_sided=True, sign=1, largest=0.5, lower=-0.2, upper=0.6, ramp=0.1).eval()
    scan = volume(20, 17, 11)
    (result,) = maps_over_blocks(output, scan, block=(16, 16, 8))
    outside = (scan <= -0.2) | (scan >= 0.6)
    torch.testing.assert_close(result[outside], scan[outside])
    assert (result - scan)[~outside].max() > 1e-3


def test_blocks_that_differ_in_brightness_leave_no_seam():
    def own_statistics(block):
        """Shifts every block by its own mean, as instance norm does."""
        return block - block.mean(dim=(1, 2, 3, 4), keepdim=True)

    ramp = torch.linspace(0, 1, 64)[:, None, None].expand(64, 24, 16)
    shift = maps_over_blocks(own_statistics, ramp, block=(16, 16, 16))[0] - ramp
    between_blocks = float(8 * ramp[:, 0, 0].diff()[0])
    assert shift[0, 0, 0] - shift[-1, 0, 0] == pytest.approx(6 * between_blocks, rel=1e-3)
    assert shift.diff(dim=0).abs().max() < 0.5 * between_blocks
    assert shift.diff(dim=1).abs().max() < 1e-5
    assert shift.diff(dim=2).abs().max() < 1e-5


def test_a_thin_stack_is_continued_by_its_last_slices_and_in_plane_by_air():
    def darkest(block):
        return block.amin(dim=(2, 3, 4), keepdim=True) + torch.zeros_like(block)

    thin, narrow = volume(16, 16, 3) / 2, volume(10, 16, 8) / 2
    for scan, lowest in ((thin, float(thin.min())), (narrow, -1.0)):
        (result,) = maps_over_blocks(darkest, scan, block=(16, 16, 8))
        torch.testing.assert_close(result, torch.full_like(scan, lowest))


@pytest.mark.parametrize("largest", [1, 2])
def test_a_memory_that_is_too_small_for_a_batch_gets_smaller_ones_and_the_same_maps(largest):
    scan, seen = volume(16, 16, 10), []

    def small(image):
        seen.append(len(image))
        if len(image) > largest:
            raise torch.OutOfMemoryError
        return centre_channel(image) * 2

    slices = maps_over_slices(small, scan, neighbours=1, multiple=4)
    torch.testing.assert_close(slices[0], 2 * scan)
    assert seen == ([4, 2, 2, 2, 2, 2] if largest == 2 else [4, 2] + [1] * 10)
    torch.testing.assert_close(maps_over_blocks(small, scan, block=(8, 8, 8))[0], 2 * scan)
    largest = 0
    with pytest.raises(torch.OutOfMemoryError):
        maps_over_slices(small, scan, neighbours=1, multiple=4)
