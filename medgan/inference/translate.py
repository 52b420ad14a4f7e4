"""One volume through a model and back onto its own voxel grid.

The network sees the study on its own grid (RAS+, its spacing, its window): in slices, neighbour slices or blocks, and
only where the body is. What it found is carried back through both affines. A model that predicts the change adds it to
the input's stored intensities, so that whatever it leaves alone keeps its value to the bit; a model that draws the
image gives the whole of it. A one-sided change is an amount of contrast agent, and any share of it can be added.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from medgan.data.domains import Domain
from medgan.data.grid import slabs
from medgan.data.masks import body_mask
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared, denormalise, normalise, prepare
from medgan.data.volumes import Grid, Volume
from medgan.errors import ConfigError, GeometryError, ModelError
from medgan.networks.outputs import ChangeOutput
from medgan.networks.sliding import Network, maps_over_blocks, maps_over_slices
from medgan.training.architecture import Direction, TranslationDescription, TranslationModel, scale_ends

SMALLEST_PLANE_VOXELS = 4
"""Below it an axis in plane is no axial image: a coronal or a sagittal slice has one voxel there."""

TOLERANCE = 0.1
"""How far intensities may reach beyond the training's before a warning, as a share of their range there."""

STRONGEST = 1.2
"""The largest strength: a little more than was ever seen in training, which the limits of a change still hold."""

OF_PHANTOM = "the model was trained on the built-in phantom, not on patients"

INT16 = np.iinfo(np.int16)

Slab = tuple[slice, NDArray[np.float32]]
"""Slices along Z, and values (X, Y, slices) for them."""
MARGIN_VOXELS = 8
"""How far around the body's box the network looks."""

FEWEST_VOXELS = 33
"""Smaller planes are grown by their edge: after up to five halvings, reflection still finds a second voxel."""


@dataclass(frozen=True, eq=False)
class Translation:
    """A translated study on the grid of its input."""

    voxels: NDArray[np.int16] | NDArray[np.float32]
    """(X, Y, Z): int16 HU for CT, float32 in arbitrary units for MR."""
    change: NDArray[np.float32] | None
    """Output minus input in the input's unit, before rounding, (X, Y, Z); None unless asked for."""
    warnings: tuple[str, ...]
    """What to know before using it; they name no file."""


def _change_limits(
    intensities: NDArray[np.float32], model: TranslationModel, direction: Direction, bounds: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lowest and the highest change of a study's own intensities, in its unit and their shape; 0 where none may be.

    The network keeps to these limits on its grid. Carried back, its map is smeared over a voxel of that grid, and would
    reach over the edge of air, fat or bone. The limits hold once more for each voxel's own intensity. ``bounds`` are
    the window's ends in the study's own unit.
    """
    config, generator, (lower, upper) = model.description.generator, model.networks[direction], bounds
    assert isinstance(generator, ChangeOutput)
    first, last = scale_ends(model.description.domains(direction)[0])  # the settings' HU, or 0 and 100 percent
    unit = np.float32((upper - lower) / (last - first))
    value = (intensities - np.float32(lower)) / unit + np.float32(first)
    gate = np.clip((value - config.lower) / config.ramp, 0, 1) * np.clip((config.upper - value) / config.ramp, 0, 1)
    gate[(intensities < lower) | (intensities > upper)] = 0
    largest = np.float32(config.largest) * unit * gate
    one_sided, sign = generator.one_sided, generator.sign
    return -largest * (not one_sided or sign < 0), largest * (not one_sided or sign > 0)


def check_strength(strength: float, model: TranslationModel, direction: Direction) -> None:
    """Refuse a strength that is out of range, or other than 1 for a model whose change is no amount.

    Raises:
        ConfigError: What is wrong, and what to do.
    """
    if not 0 <= strength <= STRONGEST:  # not a number is none of these, either
        raise ConfigError(
            f"strength {strength:g} is not between 0 (the input) and {STRONGEST:g}; 1 is the whole change."
        )
    generator, name = model.networks[direction], f"strength {strength:g}: model '{model.description.name}'"
    if strength == 1 or (isinstance(generator, ChangeOutput) and generator.one_sided):
        return
    if isinstance(generator, ChangeOutput):
        reason = "predicts a signed change, of which no share is a phase between its domains"
    else:
        reason = "draws the image itself and has no change to take a share of"
    raise ConfigError(f"{name} {reason}; leave strength at 1, or train a model with generator.change=one-sided.")


def translate(
    volume: Volume,
    model: TranslationModel,
    direction: Direction,
    fabric: Fabric,
    *,
    strength: float = 1.0,
    keep_change: bool = False,
    use_up: bool = False,
) -> Translation:
    """A study of the one domain as it would look in the other, voxel by voxel where the input's voxels lie.

    ``strength`` is the share of a one-sided change that is added: 0 gives the input, 1 the translation. ``keep_change``
    also returns the change map, of models that predict the change; ``use_up`` lets it take the place of the study's
    voxels in memory, and the study is then of no more use.

    Raises:
        ConfigError: A strength that the model cannot give.
        GeometryError: The study has no axial plane for the network to look at.
        ModelError: The model was not trained for this direction, or answers with values that are no numbers.
    """
    description = model.description
    source, target = description.domains(direction)
    check_strength(strength, model, direction)
    generator = fabric.to_device(model.networks[direction])
    study = prepare(volume, source, description.grid)
    check_plane(volume, study)
    body = body_mask(study.voxels, source, to_the_edge=True)
    warnings = [*_input_warnings(study, body, source, description)]
    if body.any():
        output = apply(generator, study, description.patch, description.generator.network.multiple, fabric)
        if wrong := output.size - int(np.count_nonzero(np.isfinite(output))):
            raise ModelError(
                f"{volume.path}: the model answers with {wrong} values that are no numbers; its training broke down: "
                "train it anew with a lower learning rate."
            )
    else:
        output = study.normalised()
    changes, is_ct = isinstance(generator, ChangeOutput), target.modality == "CT"
    # From here on little is held beside input, output and one map: studies fill memory.
    slabs = answer(volume, model, direction, study, output, body, strength=strength)
    del study, output, body
    voxels = np.empty(volume.grid.size, np.int16 if is_ct else np.float32, order="F")
    change = None if not (keep_change and changes) else volume.voxels if use_up else np.empty_like(volume.voxels)
    beyond = fractions = False
    for place, values in slabs:
        before = volume.voxels[..., place]
        after = before + values if changes else values
        if is_ct:
            after = np.rint(after)
            beyond |= bool((after < INT16.min).any() or (after > INT16.max).any())
            fractions |= changes and not np.array_equal(before, np.rint(before))
            after = np.clip(after, INT16.min, INT16.max)
        voxels[..., place] = after
        if change is not None:  # last: it may be the input's own memory
            change[..., place] = values
    warnings += ["intensities beyond int16 were clipped to -32768 to 32767 HU"] if beyond else []
    warnings += ["the input has fractions of HU: the output is rounded to whole HU"] if fractions else []
    return Translation(voxels, change, tuple(warnings))


def answer(
    volume: Volume,
    model: TranslationModel,
    direction: Direction,
    study: Prepared,
    output: NDArray[np.float32],
    body: NDArray[np.bool_] | None = None,
    *,
    strength: float = 1.0,
) -> Iterator[Slab]:
    """What a network says, on the volume's own grid and in the output's unit: the image, or the change within limits.

    The unit of a drawn image is its fixed window's. Where units are arbitrary, MR made of MR keeps the study's own
    scale, and MR made of CT takes the scale of the training's studies.

    Args:
        volume: The study, (X, Y, Z).
        model: Whose network it is.
        direction: Which way.
        study: What the network saw of it, on a grid of its own.
        output: What the network made of that, (X, Y, Z) in [-1, 1]; it is used up.
        body: Outside of it a drawn image is air.
        strength: What a change is multiplied by, within its limits.
    """
    source, target = model.description.domains(direction)
    affine, bounds = study.affine, study.bounds
    if isinstance(model.networks[direction], ChangeOutput):
        for z in range(output.shape[2]):
            output[..., z] -= normalise(study.voxels[..., z], bounds)
        output *= np.float32((bounds[1] - bounds[0]) / 2)
        del study, body
        for place, amount in on_grid(output, affine, volume.grid):
            limits = _change_limits(volume.voxels[..., place], model, direction, bounds)
            yield place, np.clip(np.float32(strength) * np.clip(amount, *limits), *limits)
        return
    ends = target.window.lower, target.window.upper
    if target.window.percentiles:
        ends = bounds if source.window.percentiles else model.description.intensities[target.name]
    image = denormalise(output, ends)
    if body is not None:
        image[~body] = target.air
    del study, output, body
    yield from on_grid(image, affine, volume.grid)


def on_grid(values: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid) -> Iterator[Slab]:
    """Values (X, Y, Z) carried onto a grid by linear interpolation, a slab of slices at a time.

    ``affine`` (4, 4) takes their voxel index to RAS+ mm; the outermost voxels continue beyond their own grid.
    """
    index = np.linalg.inv(affine) @ grid.affine
    x, y, _ = grid.size
    for place in slabs(grid.size):
        start = (index @ (0, 0, place.start, 1))[:3]
        shape = (x, y, place.stop - place.start)
        yield place, ndimage.affine_transform(values, index[:3, :3], start, output_shape=shape, order=1, mode="nearest")


def check_plane(volume: Volume, study: Prepared) -> None:
    """Refuse a study without an axial plane for a network to look at.

    Raises:
        GeometryError: A coronal or a sagittal slice.
    """
    if min(study.voxels.shape[:2]) < SMALLEST_PLANE_VOXELS:
        x, y, z = study.voxels.shape
        raise GeometryError(
            f"{volume.path}: {x} × {y} × {z} voxels along right, anterior and superior, on the network's grid, are "
            f"no axial image of at least {SMALLEST_PLANE_VOXELS} × {SMALLEST_PLANE_VOXELS}; give the whole volume, "
            "or correct its spacing."
        )


def _input_warnings(
    study: Prepared, body: NDArray[np.bool_], domain: Domain, description: TranslationDescription
) -> Iterator[str]:
    if description.origin.phantom:
        yield OF_PHANTOM
    if not body.any():
        draws = description.generator.change == "none"
        yield f"no body found: {'the output is empty' if draws else 'nothing was changed'}"
    trained_range = description.intensities.get(domain.name)
    if trained_range is None or domain.unit != "HU":  # arbitrary units have a scale of their own in each study
        return
    low, high = np.percentile(study.voxels, [0.1, 99.9])  # of the whole volume, as the training measured them
    slack = TOLERANCE * (trained_range[1] - trained_range[0])
    if low < trained_range[0] - slack or high > trained_range[1] + slack:
        yield (
            f"intensities outside what the model saw: {low:.0f} to {high:.0f} HU here, "
            f"{trained_range[0]:.0f} to {trained_range[1]:.0f} HU in training (.1 to 99.9 percentile)"
        )


@torch.no_grad()
def apply(
    generator: nn.Module, study: Prepared, patch: PatchConfig, multiple: int, fabric: Fabric
) -> NDArray[np.float32]:
    """A generator's output for every voxel, (X, Y, Z) in [-1, 1]; away from the body the input.

    The generator takes (B, channels, *shape) to (B, 1, *shape), in evaluation mode; its axes must be multiples of
    ``multiple``, and ``patch`` is how it was trained to look.
    """
    result = study.normalised()
    result[looked_at(study)] = maps(generator, study, patch, multiple, fabric)[0]
    return result


@torch.no_grad()
def maps(network: nn.Module, study: Prepared, patch: PatchConfig, multiple: int, fabric: Fabric) -> NDArray[np.float32]:
    """All n maps of a network (B, channels, *shape) to (B, n, *shape), as for :func:`apply`.

    Returns:
        (n, *shape) of the part of the study that the network looks at, :func:`looked_at`.
    """
    part = normalise(study.voxels[looked_at(study)], study.bounds)
    volume = fabric.to_device(torch.from_numpy(np.ascontiguousarray(part)))
    del part
    with fabric.autocast():
        result = _maps_of(network, volume, patch, multiple)
        if patch.mirroring:  # the mean with the mirror image's, turned back
            result = (result + _maps_of(network, volume.flip(0), patch, multiple).flip(1)) / 2
        return np.asarray(result.float().cpu().numpy())


def looked_at(study: Prepared) -> tuple[slice, ...]:
    """The part of a study that the network sees: the body's box and a margin in plane."""
    margins = (MARGIN_VOXELS, MARGIN_VOXELS, 0)
    return tuple(
        slice(max(first - margin, 0), min(last + margin, size))
        for (first, last), margin, size in zip(study.body, margins, study.voxels.shape, strict=True)
    )


def _maps_of(network: Network, volume: torch.Tensor, patch: PatchConfig, multiple: int) -> torch.Tensor:
    """The maps (n, X, Y, Z) of (X, Y, Z), which is first grown by its edge where the network needs more to look at."""
    x, y, z = volume.shape
    if patch.spatial == 3:
        # Along superior a patch continues with the last slice in training, too.
        maps = maps_over_blocks(network, _grown(volume, (0, 0, patch.shape[2])), block=patch.shape)
    else:
        grown = _grown(volume, (FEWEST_VOXELS, FEWEST_VOXELS, 0))
        maps = maps_over_slices(network, grown, neighbours=patch.channels // 2, multiple=multiple)
    return maps[:, :x, :y, :z]


def _grown(volume: torch.Tensor, fewest: tuple[int, int, int]) -> torch.Tensor:
    """(X, Y, Z) with at least so many voxels along each axis."""
    x, y, z = (max(0, wanted - size) for wanted, size in zip(fewest, volume.shape, strict=True))
    if not x + y + z:
        return volume
    return F.pad(volume[None, None], (0, z, 0, y, 0, x), mode="replicate")[0, 0]
