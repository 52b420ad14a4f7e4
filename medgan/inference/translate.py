"""One volume through a model and back onto its own voxel grid.

The network sees the study on its own grid (RAS+, its spacing, its window). What it found is carried back through both
affines. A model that predicts the change adds it to the input's stored intensities, so that whatever it leaves alone
keeps its value to the bit; a model that draws the image gives the whole of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.domains import Domain
from medgan.data.grid import slabs
from medgan.data.masks import body_mask
from medgan.data.preparation import Prepared, denormalise, normalise, prepare
from medgan.data.volumes import Grid, Volume
from medgan.errors import GeometryError, ModelError
from medgan.inference.apply import apply
from medgan.networks.outputs import ChangeOutput
from medgan.training.architecture import (
    Direction,
    GeneratorConfig,
    TranslationDescription,
    TranslationModel,
    scale_ends,
)

SMALLEST_PLANE_VOXELS = 4
"""Below it an axis in plane is no axial image: a coronal or a sagittal slice has one voxel there."""

TOLERANCE = 0.1
"""How far intensities may reach beyond the training's before a warning, as a share of their range there."""

OF_PHANTOM = "the model was trained on the built-in phantom, not on patients"

INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class Translation:
    """A translated study on the grid of its input."""

    voxels: NDArray[np.int16] | NDArray[np.float32]
    """(X, Y, Z): int16 HU for CT, float32 in arbitrary units for MR."""
    change: NDArray[np.float32] | None
    """Output minus input in the input's unit, before rounding, (X, Y, Z); None unless asked for."""
    warnings: tuple[str, ...]
    """What to know before using it; they name no file."""


@dataclass(frozen=True)
class ChangeLimits:
    """How far a voxel may change on the study's own grid.

    The network keeps to these limits on its grid. Carried back, its map is smeared over a voxel of that grid, and would
    reach over the edge of air, fat or bone. The limits hold once more for each voxel's own intensity.
    """

    config: GeneratorConfig
    generator: ChangeOutput
    domain: Domain
    """Of the study."""
    bounds: tuple[float, float]
    """The window's ends in the study's own unit."""

    def of(self, intensities: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The lowest and the highest change in the study's unit, of the intensities' shape; 0 where nothing may."""
        config, (lower, upper) = self.config, self.bounds
        first, last = scale_ends(self.domain)  # as the settings count: in HU, or 0 and 100 percent
        unit = np.float32((upper - lower) / (last - first))
        value = (intensities - np.float32(lower)) / unit + np.float32(first)
        gate = np.clip((value - config.lower) / config.ramp, 0, 1) * np.clip((config.upper - value) / config.ramp, 0, 1)
        gate[(intensities < lower) | (intensities > upper)] = 0
        largest = np.float32(config.largest) * unit * gate
        one_sided, sign = self.generator.one_sided, self.generator.sign
        return -largest * (not one_sided or sign < 0), largest * (not one_sided or sign > 0)


def translate(
    volume: Volume,
    model: TranslationModel,
    direction: Direction,
    fabric: Fabric,
    *,
    keep_change: bool = False,
    use_up: bool = False,
) -> Translation:
    """A study of the one domain as it would look in the other, voxel by voxel where the input's voxels lie.

    Args:
        volume: The study, (X, Y, Z) on its own grid.
        model: A loaded model; the generator is moved to the device.
        direction: Which way.
        fabric: Device and precision.
        keep_change: Return the change map, too; only for models that predict the change.
        use_up: Let the change map take the place of the study's voxels in memory; the study is then of no more use.

    Raises:
        GeometryError: The study has no axial plane for the network to look at.
        ModelError: The model was not trained for this direction, or answers with values that are no numbers.
    """
    given, wanted = model.description.domains(direction)
    description = model.description
    generator = fabric.to_device(model.networks[direction])
    study = prepare(volume, given, description.grid)
    check_plane(volume, study)
    body = body_mask(study.voxels, given, to_the_edge=True)
    warnings = tuple(_input_warnings(study, body, given, description))
    if body.any():
        output = apply(generator, study, description.patch, description.generator.network.multiple, fabric)
        if wrong := output.size - int(np.count_nonzero(np.isfinite(output))):
            raise ModelError(
                f"{volume.path}: the model answers with {wrong} values that are no numbers; its training broke down: "
                "train it anew with a lower learning rate."
            )
    else:
        output = study.normalised()
    # From here on little is held beside input, output and one map: studies fill memory.
    affine, bounds = study.affine, study.bounds
    if isinstance(generator, ChangeOutput):
        limits = ChangeLimits(description.generator, generator, given, bounds)
        change = _change_in_place(output, study)
        del study, output, body
        kept = None if not keep_change else volume.voxels if use_up else np.empty_like(volume.voxels)
        result = _changed(volume, change, affine, limits, wanted, kept)
    else:
        image = denormalise(output, output_bounds(given, wanted, bounds, description))
        image[~body] = wanted.air
        del study, output, body
        result = _drawn(volume.grid, affine, image, wanted)
    return replace(result, warnings=(*warnings, *result.warnings))


def output_bounds(
    given: Domain, wanted: Domain, bounds: tuple[float, float], description: TranslationDescription
) -> tuple[float, float]:
    """The intensities of a drawn image's -1 and +1, of a study with these bounds.

    A fixed window is the answer itself. Where units are arbitrary, MR made of MR keeps the study's own scale, and MR
    made of CT takes the scale of the training's studies.
    """
    if not wanted.window.percentiles:
        return wanted.window.lower, wanted.window.upper
    return bounds if given.window.percentiles else description.intensities[wanted.name]


def on_grid(
    values: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Values carried onto a grid by linear interpolation, a slab of slices at a time.

    Args:
        values: (X, Y, Z) on a grid of their own; its outermost voxels continue beyond it.
        affine: (4, 4), their voxel index to RAS+ mm.
        grid: Where they shall lie.

    Yields:
        The slab's slices along Z, and its values (X, Y, slices).
    """
    index = np.linalg.inv(affine) @ grid.affine
    x, y, _ = grid.size
    for place in slabs(grid.size):
        start = (index @ (0, 0, place.start, 1))[:3]
        shape = (x, y, place.stop - place.start)
        yield place, ndimage.affine_transform(values, index[:3, :3], start, output_shape=shape, order=1, mode="nearest")


def _change_in_place(output: NDArray[np.float32], study: Prepared) -> NDArray[np.float32]:
    """The network's output (X, Y, Z) in [-1, 1] made into its difference from the study, in the study's unit."""
    lower, upper = study.bounds
    for z in range(output.shape[2]):
        output[..., z] -= normalise(study.voxels[..., z], study.bounds)
    output *= np.float32((upper - lower) / 2)
    return output


def _changed(
    volume: Volume,
    change: NDArray[np.float32],
    affine: NDArray[np.float64],
    limits: ChangeLimits,
    wanted: Domain,
    kept: NDArray[np.float32] | None,
) -> Translation:
    """The input's own intensities plus the change, (X, Y, Z) on a grid of its own; ``kept`` receives the change."""
    is_ct = wanted.modality == "CT"
    voxels = np.empty(volume.grid.size, np.int16 if is_ct else np.float32, order="F")
    beyond = fractions = False
    for slab, amount in on_grid(change, affine, volume.grid):
        before = volume.voxels[..., slab]
        amount = np.clip(amount, *limits.of(before))
        after = before + amount
        if is_ct:
            after = np.rint(after)
            beyond |= bool((after < INT16.min).any() or (after > INT16.max).any())
            fractions |= not np.array_equal(before, np.rint(before))
            after = np.clip(after, INT16.min, INT16.max)
        voxels[..., slab] = after
        if kept is not None:  # last: it may be the input's own memory
            kept[..., slab] = amount
    warnings = ["intensities beyond int16 were clipped to -32768 to 32767 HU"] if beyond else []
    warnings += ["the input has fractions of HU: the output is rounded to whole HU"] if fractions else []
    return Translation(voxels, kept, tuple(warnings))


def _drawn(grid: Grid, affine: NDArray[np.float64], image: NDArray[np.float32], wanted: Domain) -> Translation:
    """An image that the network drew on its own grid, (X, Y, Z) in the domain's unit."""
    is_ct = wanted.modality == "CT"
    voxels = np.empty(grid.size, np.int16 if is_ct else np.float32, order="F")
    for slab, values in on_grid(image, affine, grid):
        voxels[..., slab] = np.clip(np.rint(values), INT16.min, INT16.max) if is_ct else values
    return Translation(voxels, None, ())


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
    study: Prepared, body: NDArray[np.bool_], given: Domain, description: TranslationDescription
) -> Iterator[str]:
    if description.origin.phantom:
        yield OF_PHANTOM
    if not body.any():
        draws = description.generator.change == "none"
        yield f"no body found: {'the output is empty' if draws else 'nothing was changed'}"
    seen = description.intensities.get(given.name)
    if seen is None or given.unit != "HU":  # arbitrary units have a scale of their own in each study
        return
    low, high = np.percentile(study.voxels, [0.1, 99.9])  # of the whole volume, as the training measured them
    slack = TOLERANCE * (seen[1] - seen[0])
    if low < seen[0] - slack or high > seen[1] + slack:
        yield (
            f"intensities outside what the model saw: {low:.0f} to {high:.0f} HU here, "
            f"{seen[0]:.0f} to {seen[1]:.0f} HU in training (.1 to 99.9 percentile)"
        )
