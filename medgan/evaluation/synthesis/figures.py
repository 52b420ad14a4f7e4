"""Every figure of a set of patches against real ones, all on one set of features."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from medgan.evaluation.synthesis.diversity import diversity_ratio, shape_diversity_ratio, twins_percent
from medgan.evaluation.synthesis.encoder import Encoder, train_encoder
from medgan.evaluation.synthesis.frechet import Features, frechet_distance
from medgan.evaluation.synthesis.kernel import kernel_distance
from medgan.evaluation.synthesis.memorisation import Nearest, Threshold, nearest
from medgan.evaluation.synthesis.modes import Modes
from medgan.evaluation.synthesis.neighbours import neighbourhoods
from medgan.evaluation.synthesis.patches import Floats, Patches, smooth
from medgan.evaluation.synthesis.sliced_wasserstein import sliced_wasserstein

PROJECTIONS = 256


@dataclass(frozen=True)
class Measure:
    """How a figure is read."""

    right: Literal["0", "1", "high"]
    digits: int
    featured: bool = False
    """Whether it depends on the features, whose name it then carries."""


MEASURES = {
    "frechet": Measure("0", 2, featured=True),
    "kernel": Measure("0", 3, featured=True),
    "sliced_wasserstein": Measure("0", 3),
    "fine_wasserstein": Measure("0", 3),
    "precision": Measure("high", 2, featured=True),
    "recall": Measure("high", 2, featured=True),
    "density": Measure("1", 2, featured=True),
    "coverage": Measure("high", 2, featured=True),
    "modes": Measure("high", 0, featured=True),
    "diversity": Measure("1", 2),
    "shape_diversity": Measure("1", 2),
    "twins_percent": Measure("0", 0),
    "copies_percent": Measure("0", 0),
}


class Judge:
    """Figures of patches against real training patches.

    Args:
        training: Real patches that all others are compared with; the encoder is trained on them.
        held_out: Real patches of other subjects: the floor of every distance.
        suspected: Real patches that a generator may have copied.
        names: How many label names there are.
        seed: Of the encoder, the clusters and the projections.
    """

    def __init__(self, training: Patches, held_out: Patches, suspected: Patches, names: int, *, seed: int) -> None:
        self.training, self.held_out, self.suspected, self.seed = training, held_out, suspected, seed
        self.encoder: Encoder = train_encoder(training, names, seed=seed)
        self.real: Features = self.encoder.features(training)
        self.modes = Modes.of(self.real, seed)
        # Whoever may have been copied is no copy himself: each real patch against those of other subjects.
        self.threshold = Threshold.of(nearest(held_out, suspected, real=True))

    def figures(self, patches: Patches, found: Nearest) -> dict[str, float]:
        """By the names in ``MEASURES``; as many patches as there are held-out ones, or fewer, are comparable.

        Args:
            patches: What is judged.
            found: Its nearest suspected patches.
        """
        features = self.encoder.features(patches)
        return {
            "frechet": frechet_distance(features, self.real),
            "kernel": kernel_distance(features, self.real),
            "sliced_wasserstein": self._sliced(patches, lambda images: images),
            "fine_wasserstein": self._sliced(patches, lambda images: images - smooth(images)),
            **asdict(neighbourhoods(features, self.real)),
            "modes": float(self.modes.covered(features)),
            "diversity": diversity_ratio(patches, self.training),
            "shape_diversity": shape_diversity_ratio(patches, self.training),
            "twins_percent": twins_percent(patches, self.held_out),
            "copies_percent": 100 * float(self.threshold.suspects(found).mean()),
        }

    def full_name(self, measure: str) -> str:
        """A measure's name with that of the features that it was made with."""
        return f"{measure}[{self.encoder.name}]" if MEASURES[measure].featured else measure

    def _sliced(self, patches: Patches, view: Callable[[Floats], Floats]) -> float:
        return sliced_wasserstein(
            view(patches.images), view(self.training.images), projections=PROJECTIONS, seed=self.seed
        )
