"""What a reader must know of an evaluation to read its figures."""

from collections.abc import Iterator
from dataclasses import dataclass

from medgan.data.listing import told
from medgan.evaluation.judging import Modalities
from medgan.evaluation.matching import Matching
from medgan.evaluation.seen import NOBODY, Seen
from medgan.evaluation.statistics import LEVEL


@dataclass(frozen=True)
class Facts:
    """How an evaluation was set up."""

    matching: Matching
    modalities: Modalities
    has_source: bool
    seen: Seen = NOBODY
    """Who of the subjects the model had seen."""
    trained: int | None = None
    """Subjects of a training cohort on whom the baselines are fitted; nothing if on the other evaluated ones."""
    unchecked: str = ""
    """What the model's split cannot tell of what it has seen."""

    def looked_up(self, subjects: int) -> bool:
        """Whether there are arms that learn from other subjects: they need some, and a unit to learn."""
        if self.modalities.hounsfield:
            useful = self.has_source
        else:
            useful = self.matching.paired and self.modalities.reference == "CT"
        return useful and (subjects > 1 or bool(self.trained))


def notes(facts: Facts, subjects: int) -> Iterator[str]:
    """Sentences about pairs, subjects, regions and baselines.

    Args:
        facts: How the evaluation was set up.
        subjects: How many were judged.
    """
    own = facts.matching.own_references
    yield f"{own} of the synthetic images have a reference of their own name or subject."
    if facts.matching.paired:
        yield "Paired: each is compared with its own reference, inside the body or mask."
    else:
        yield "Unpaired: intensities are compared with those of real images of other subjects."
        yield "Tissues are the source's (without sources, each image's own); those of real images are their own."
    yield (
        f"Means and Student's {LEVEL:.0%} intervals are over {subjects} subjects; images of one subject are averaged."
    )
    if facts.matching.paired and facts.has_source:
        yield "core: where the bodies of source and reference agree, less 3 voxels at their edge in each slice."
    yield from facts.seen.notes(subjects)
    if facts.unchecked:
        yield f"{facts.unchecked[0].upper()}{facts.unchecked[1:]}."
    yield from _about_baselines(facts, subjects)
    for line in told(facts.matching.passed_over):
        yield f"{line[0].upper()}{line[1:]}."


def _about_baselines(facts: Facts, subjects: int) -> Iterator[str]:
    kinds = facts.modalities
    if not facts.matching.paired and not kinds.hounsfield:
        yield "Unpaired images of another modality have no baseline; if the subjects have pairs, evaluate on these."
        return
    if not facts.has_source:
        yield "Without the source images there is neither do_nothing nor intensity_lookup to compare with."
    elif kinds.source != kinds.reference:
        yield f"do_nothing is left out: the intensities of {kinds.source} are no {kinds.reference}."
    if facts.looked_up(subjects):
        kind = "the pairs" if facts.matching.paired else "the histograms"
        whom = f"{facts.trained} training subjects" if facts.trained else "the other evaluated subjects"
        what = "intensity_lookup is" if kinds.hounsfield else "constant and intensity_lookup are"
        yield f"{what} fitted for each subject on {kind} of {whom}."
    elif kinds.reference == "MR":
        yield "MR has no unit: each image is brought to the true one's scale first; no constant or look-up is fitted."
    elif facts.has_source:
        yield "An intensity_lookup is fitted on other subjects, and there is none."
    if not kinds.hounsfield:
        yield "true_shifted is the reference moved by one voxel left-right: what misregistration alone costs."
