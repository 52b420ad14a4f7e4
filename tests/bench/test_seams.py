import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.networks.sliding import maps_over_blocks

MODULE = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "seams.py"))
seams, block_borders = MODULE["seams"], MODULE["block_borders"]


def wave(shape=(40, 30, 20)):
    x, y, z = np.indices(shape)
    return (np.sin(x / 7) + np.cos(y / 9) + z / 50).astype(np.float32)


def test_jumps_and_steps_of_a_line_by_hand():
    values = np.array([0, 1, 3, 6, 10, 20], np.float32)[:, None, None]
    found = seams(values, [[3], [], []])
    assert found.largest == 3
    assert found.usual == pytest.approx(np.percentile([1, 2, 4, 10], 99.9))
    assert found.share_above == 0
    # Jumps of 1, 2, 3, 4 and 10: the step before voxel 3 is 3 - (2 + 4) / 2, its neighbours' 2 - 2 and 4 - 6.5.
    assert found.largest_step == 0
    assert found.usual_step == pytest.approx(np.percentile([0, -2.5], 99.9))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_step_at_a_border_shows_and_the_same_step_elsewhere_does_not(axis):
    values = wave()
    np.moveaxis(values, axis, 0)[10:] += 1.0
    borders = [[], [], []]
    borders[axis] = [10]
    found = seams(values, borders)
    assert found.visible
    assert found.largest == pytest.approx(1.0, abs=0.15)
    assert found.largest_step == pytest.approx(1.0, abs=0.25)
    assert found.share_above == 1
    borders[axis] = [13]
    assert not seams(values, borders).visible


def test_in_texture_the_largest_jump_says_nothing_and_the_step_of_a_plane_does():
    values = np.random.default_rng(0).normal(size=(60, 50, 40)).astype(np.float32)
    borders = [[15, 30, 45], [12, 25], [20]]
    found = seams(values, borders)
    assert found.largest > found.usual
    assert 0.0005 < found.share_above < 0.002
    assert not found.visible
    values[30:] += 1.0  # one standard deviation: hidden in single voxels
    found = seams(values, borders)
    assert found.share_above < 0.01
    assert found.visible


def test_only_jumps_inside_count():
    values, inside = wave(), np.zeros((40, 30, 20), bool)
    values[10:] += 1.0
    inside[12:30] = True
    assert np.isnan(seams(values, [[10], [], []], inside).largest)
    inside[9] = True  # its neighbour is not inside
    assert np.isnan(seams(values, [[10], [], []], inside).largest)
    inside[8:12] = True
    assert seams(values, [[10], [], []], inside).visible
    for shape in ((40, 30, 20), (5, 4, 1), (1, 1, 1)):  # a volume of one block has no seam
        assert np.isnan(seams(wave(shape), [[], [], []]).largest)


@pytest.mark.parametrize("shape", [(32, 32, 16), (30, 41, 21), (40, 9, 8), (9, 20, 3)])
def test_borders_are_where_blocks_begin_and_end(shape):
    block, borders = (16, 16, 8), [set(), set(), set()]
    index = torch.stack(torch.meshgrid(*(torch.arange(float(size)) for size in shape), indexing="ij"))
    for axis in range(3):

        def note(parts, axis=axis):
            for part in parts[:, 0]:
                inside = part[part >= 0]  # beyond the volume there is air
                borders[axis] |= {int(inside.min()), int(inside.max()) + 1}
            return parts

        maps_over_blocks(note, index[axis], block=block)
    expected = tuple(tuple(sorted(ends - {0, size})) for ends, size in zip(borders, shape, strict=True))
    assert block_borders(shape, block) == expected
