"""How a moving scan is brought onto a fixed one: what a user may set of the rigid registration."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from medgan.config import Config

LEAST_BINS = 8


class RegistrationConfig(Config):
    """How a moving scan is brought onto a fixed one."""

    seed: NonNegativeInt = 0
    """Of the voxels that the metric looks at; equal seeds give equal transforms."""
    level_spacings_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (8.0, 4.0, 2.0, 1.0)
    """Voxel size at each of the four resolution levels; a scan that is coarser is taken as it is."""
    samples: PositiveInt = 50_000
    """Voxels that the metric looks at, drawn at random at each level. Along a limb mutual information is nearly flat,
    and with few of them its maximum moves with the draw."""
    bins: int = Field(default=40, ge=LEAST_BINS)
    """Of the joint histogram, along each axis; fewer at levels with few voxels."""
    iterations: PositiveInt = 300
    """At most, at each level."""
    start_rotation_degrees: NonNegativeFloat = 12.0
    """The coarsest level also starts turned by this much to either side about each axis; 0 starts only unturned."""
    kept_starts: PositiveInt = 4
    """How many different ends of the coarsest level, of each direction, go on to the second; half as many, of both
    together, go on to each finer one."""
    margin_mm: NonNegativeFloat = 12.0
    """Air around the body of the scan that is held fixed that the metric looks at."""
    inside_mm: NonNegativeFloat = 8.0
    """How deep below the surface of the body that is held fixed the metric looks at the fine levels: flesh is pressed
    differently on each table, and the skin would draw a rigid transform off the bones. 0 looks near the body at all
    levels."""
    bone_mm: NonNegativeFloat = 10.0
    """How far around the bones of a CT the metric looks closest, from the second level on: bones are rigid, flesh is
    not. 0 gives bones no weight of their own."""
    bone_share: float = Field(default=0.8, gt=0, le=1)
    """Of the voxels that the metric looks at, how many lie around bones. The rest holds where bones say nothing, as
    along a shaft, and has more of them where bones are few."""
    edge_mm: NonNegativeFloat = 40.0
    """How far the moving scan's outermost voxels are repeated beyond it at the two coarsest levels, so that sliding out
    of it gains nothing. At the finest, what is repeated is not what is there: it drew limbs along their axis."""
