"""What a user wants to know of synthetic patches first: are they copies, and are they all the same."""

import math
from collections.abc import Mapping

from medgan.evaluation.synthesis.diversity import COLLAPSED, PARTLY
from medgan.evaluation.synthesis.memorisation import PERCENTILE, Nearest, Threshold


def memorisation_verdict(found: Nearest, threshold: Threshold) -> str:
    """One line: whether more samples lie at training patches than real patches of other subjects do.

    Args:
        found: The samples' nearest training patches.
        threshold: From real patches.
    """
    suspects, certain = int(threshold.suspects(found).sum()), int(threshold.certainly(found).sum())
    share = f"{suspects} of {len(found.distance)} samples ({suspects / len(found.distance):.0%})"
    if threshold.exceeded(found):
        beyond = f", {certain} of them beyond doubt" if certain else ""
        return f"Memorisation: COPIES. {share} are copies of training patches{beyond}; see nearest.png and nearest.csv."
    return (
        f"Memorisation: none found. {share} lie nearer to a training patch than {100 - PERCENTILE:.0f} % of other "
        f"subjects' real patches do; by chance up to {PERCENTILE:.0f} % would."
    )


def collapse_verdict(synthetic: Mapping[str, float], real: Mapping[str, float], modes: int) -> str:
    """One line: whether samples vary as real patches do.

    Args:
        synthetic: Its figures by measure.
        real: Those of as many held-out real patches.
        modes: How many kinds of real patches there are.
    """
    seen = f"{synthetic['modes']:.0f} of {modes} kinds of patches (held-out real ones: {real['modes']:.0f})"
    shares = {"images": synthetic["diversity"], "labelled shapes": synthetic["shape_diversity"]}
    known = {what: share for what, share in shares.items() if not math.isnan(share)}
    varied = " and ".join(f"{what} {share:.0%}" for what, share in known.items())
    facts = f"{seen}; diversity as a share of real: {varied or 'not known, they show one place'}"
    if any(share < COLLAPSED for share in known.values()) or synthetic["modes"] < COLLAPSED * real["modes"]:
        return f"Mode collapse: COLLAPSED. Samples come in {facts}."
    if synthetic["twins_percent"] > 100 * PARTLY:
        twins = f"{synthetic['twins_percent']:.0f} % of the samples have a twin"
        return f"Mode collapse: IN PART. {twins}; they come in {facts}."
    return f"Mode collapse: none found. Samples come in {facts}."
