"""The random numbers of a phantom: one stream for each subject and purpose."""

import numpy as np

PURPOSES = (
    *("lesions", "scan", "anatomy", "materials", "contrast", "plain"),
    *("session", "relaxation", "mr", "t1", "t1_gd", "t2", "flair"),
)
"""Each has random numbers of its own: a finer grid, for example, takes more noise and leaves the anatomy as it is.

New ones go to the end: a purpose's place is part of its seed."""
GOLDEN = 0.6180339887498949


def stream(seed: int, subject: int, purpose: str) -> np.random.Generator:
    """The random numbers of a cohort's subject for one of ``PURPOSES``; the same on every machine."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, subject, PURPOSES.index(purpose)])))


def has_lesions(seed: int, subject: int, share: float) -> bool:
    """Whether a subject has lesions.

    Steps of the golden ratio from a random start spread such subjects evenly: any run of subjects has the share, within
    one or two, and so has every second one of them.
    """
    start = stream(seed, 0, "lesions").uniform()
    return bool((start + GOLDEN * subject) % 1.0 < share)
