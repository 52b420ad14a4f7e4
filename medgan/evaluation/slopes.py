"""How a figure changes with what was varied: a line through repeated measurements of the same subjects."""

import numpy as np
import pandas as pd

from medgan.evaluation.statistics import Interval, t_interval


def slope(values: pd.DataFrame) -> Interval:
    """The slope of the least-squares line through all measurements, with Student's interval over subjects.

    Every subject is measured at every place, so that this slope is the mean of the subjects' own, and has the interval
    of a mean.

    Args:
        values: A row a subject, a column a place; the columns' names are the places, at least two. Subjects without a
            value at some place are left out.

    Returns:
        The change of the figure per unit of place.
    """
    whole = values.dropna()
    places = np.asarray(whole.columns, dtype=np.float64)
    from_mean = places - places.mean()
    return t_interval(whole.to_numpy(dtype=np.float64) @ from_mean / (from_mean**2).sum())
