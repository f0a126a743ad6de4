"""What signals are made of: ramps from 0 to 1, and differences from what is usual for a class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from detectime.boxes import Floats
from detectime.doubt.reasons import Reason

Signals = dict[Reason, Floats]
"""How much each reason applies to each row: float64, shape (N,), 0…1; 0 also where nothing is known."""

_FEW = 10  # samples of a class, of which the median says little: that of all classes is used


def make_ramp(values: Floats, none: float, full: float) -> Floats:
    """Map values to 0…1: 0 at `none` and beyond, 1 at `full` and beyond, 0 where a value is NaN.

    Parameters
    ----------
    values
        Of any shape.
    none, full
        Either may be the larger one.

    Examples
    --------
    >>> make_ramp(np.array([0.0, 1.0, 2.0, np.nan]), 0.5, 1.5).tolist()
    [0.0, 0.5, 1.0, 0.0]
    """
    ramp: Floats = np.nan_to_num(np.clip((values - none) / (full - none), 0, 1), nan=0.0)
    return ramp


def subtract_usual(values: Floats, classes: pd.Series) -> Floats:
    """Subtract the median of each value's class, or of all values where the class has fewer than ten.

    Parameters
    ----------
    values
        Shape (N,); NaN where there is none.
    classes
        The class of each value.

    Examples
    --------
    >>> subtract_usual(np.array([1.0, 2.0, 6.0, np.nan]), pd.Series(["ok", "ok", "stop", "ok"])).tolist()
    [-1.0, 0.0, 4.0, nan]
    """
    series = pd.Series(values, index=classes.index)
    of_class = series.groupby(classes)
    usual = of_class.transform("median").where(of_class.transform("count") >= _FEW, series.median())
    return np.asarray(series - usual, np.float64)
