"""What lesion generators learn from: which labels of which images, in patches of which kind."""

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from medgan.data.domains import Domain, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.segmentation.settings import MOST_LABELS, Labelling, Name
from medgan.synthesis.condition import ConditionConfig

FLAIR = Domain(
    name="flair",
    modality="MR",
    unit="arbitrary",
    air=0.0,
    # Lesions are the brightest voxels of all: without room above, a percentile would cut them off.
    window=Window(lower=0.5, upper=99.5, percentiles=True, headroom=0.6),
)


class LesionConfig(Labelling):
    """Settings of what is learnt from; "lesion" is whatever the labels mark, a small organ as well."""

    labels: dict[Name, tuple[PositiveInt, ...]] = Field(default={"lesion": (1,)}, min_length=1, max_length=MOST_LABELS)
    """What is synthesised, by name: the values that mark it in the masks, merged where there are several."""
    domain: Domain = FLAIR
    """Whose images are learnt from."""
    grid: GridConfig = GridConfig(spacing_mm=(None, None, None))
    patch: PatchConfig = PatchConfig(size_voxels=32)
    lesion_share: float = Field(default=0.8, ge=0, le=1)
    """The share of patches with a lesion in their middle; the others are healthy: nothing in them is labelled."""
    jitter: float = Field(default=0.1, ge=0, le=0.5)
    """How far a lesion's centre may lie from the patch's, as a share of the patch's edge."""
    condition: ConditionConfig = ConditionConfig()

    @model_validator(mode="after")
    def _no_neighbours(self) -> Self:
        if self.patch.dimensions == "2.5":
            raise ValueError("patch.dimensions=2.5 translates a slice by its neighbours; a generator draws 2 or 3")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """What the values of prepared label maps mean, from 1."""
        return tuple(self.labels)

    @property
    def spatial(self) -> int:
        """Axes of a patch: 2 or 3."""
        return self.patch.spatial

    @property
    def shape(self) -> tuple[int, ...]:
        """A patch's spatial shape, (H, W) or (H, W, D)."""
        return self.patch.shape

    @property
    def condition_size(self) -> int:
        """D, the length of a patch's condition; 0 where nothing is asked."""
        return sum(self.condition.blocks(self.names).values())
