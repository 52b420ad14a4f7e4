"""Whether registration brings bones together: two cohorts of the same MR, with the CT before and after.

Cortical bone is black in MR. How bright the MR is where the CT shows cortex (0 its 1st percentile, 1 its 99th) is a
measure of fit that registration does not look at as such. The table also has what the registered CT, taken for a
translation, would score against the CT as it was: the error that the alignment alone is worth.

    medgan data register sts/cohort.csv pairs --pipeline mr_to_ct
    python bench/registered_bones.py sts/cohort.csv pairs/cohort.csv
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.data.domains import DomainPair, domain_named
from medgan.data.masks import body_mask
from medgan.data.preparation import MARGIN_VOXELS, eroded_in_plane
from medgan.data.studies import find_cohort
from medgan.data.volumes import read_volume
from medgan.registration.quality import dice

CORTEX_HU, BONE_HU = 400.0, 200.0
LEAST_CORTEX_VOXELS = 100
MR, CT = domain_named("mr"), domain_named("ct")
PAIR = DomainPair(source=MR, target=CT, paired=True)


def main() -> None:
    """Print a row a subject, their means, and in how many the MR is darker after registration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="cohort with the pairs as they were, both on one grid")
    parser.add_argument("after", type=Path, help="the same, registered onto the MR")
    given = parser.parse_args()
    table = pd.DataFrame(rows(given.before, given.after)).set_index("subject")
    print(table.round(3).to_string())
    cortex = ["cortex_before", "cortex_after"]
    judged = table.dropna(subset=cortex)
    print(pd.concat([judged[cortex].mean(), table.drop(columns=cortex).mean()]).round(3).to_string())
    print(f"MR darker under cortex in {(judged.cortex_after < judged.cortex_before).sum()} of {len(judged)}")


def rows(before: Path, after: Path) -> Iterator[dict[str, object]]:
    """The figures of each subject that both cohorts have."""
    registered = {target.subject: target.image for _, target in find_cohort(after, PAIR).pairs(PAIR)}
    for source, target in find_cohort(before, PAIR).pairs(PAIR):
        if source.subject not in registered:
            continue
        mr, ct, moved = (read_volume(path).voxels for path in (source.image, target.image, registered[source.subject]))
        seen = moved > CT.air
        body = body_mask(mr, MR, to_the_edge=True)
        core = eroded_in_plane(body & body_mask(ct, CT), MARGIN_VOXELS) & seen
        bone, moved_bone = (ct > BONE_HU) & core, (moved > BONE_HU) & core
        yield {
            "subject": source.subject,
            "cortex_before": under_cortex(mr, ct, body),
            "cortex_after": under_cortex(mr, moved, body),
            "core_mae_hu": float(np.abs(moved - ct)[core].mean()),
            "bone_dice": dice(moved_bone, bone) if (bone | moved_bone).any() else np.nan,
        }


def under_cortex(mr: NDArray[np.float32], ct: NDArray[np.float32], body: NDArray[np.bool_]) -> float:
    """The MR's mean brightness where a CT shows cortex, between its 1st and 99th percentile.

    Only within the MR's body: air is as black as cortex is, and bone that was moved out of the body fits nothing.
    """
    cortex = (ct > CORTEX_HU) & body
    if cortex.sum() < LEAST_CORTEX_VOXELS:
        return np.nan
    lower, upper = np.percentile(mr[mr != 0], [1, 99])
    return float(np.clip((mr[cortex] - lower) / (upper - lower), 0, 1).mean())


if __name__ == "__main__":
    main()
