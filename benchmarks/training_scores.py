"""How often classifiers are right: of all frames and of those with a sample, with intervals over people.

Results are a DataFrame with one row per tested frame: `frame_path`, `person`, `has_sample` (bool), and `right`
(float64), the share of seeds in which the class of the frame was found, 0 where it has no sample. Thus a way of boxing
that finds no hand in hard frames does not profit from that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from detectime import resampling
from detectime.boxes import Floats

FEWEST_PEOPLE = 5
"""Below this number of people no interval is given: it would say nothing of other people."""

NOTHING_KNOWN = "–"


class Estimate(NamedTuple):
    """A value with its 95 % interval over people; the limits are NaN if there are too few people."""

    value: float
    low: float
    high: float

    def format(self, sign: str = "") -> str:
        """Return the value and its interval with two digits; `sign` is ``+`` for differences."""
        if np.isnan(self.value):
            return NOTHING_KNOWN
        value, low, high = (format(round(number, 2) + 0.0, f"{sign}.2f") for number in self)  # no -0.00
        return value if np.isnan(self.low) else f"{value} ({low}…{high})"


def estimate_accuracy(results: pd.DataFrame, *, of_samples: bool = False) -> Estimate:
    """Estimate the share of frames whose class is found.

    Parameters
    ----------
    results
        See the module.
    of_samples
        Only of the frames that have a sample.

    Examples
    --------
    >>> rows = [("a", "anna", True, 1.0), ("b", "anna", False, 0.0), ("c", "ben", True, 0.5)]
    >>> results = pd.DataFrame(rows, columns=["frame_path", "person", "has_sample", "right"])
    >>> estimate_accuracy(results).value, estimate_accuracy(results, of_samples=True).value
    (0.5, 0.75)
    """
    counted = results["has_sample"] if of_samples else pd.Series(True, results.index)
    return _estimate(results["person"], results["right"].where(counted, 0.0), counted)


def estimate_difference(results: pd.DataFrame, reference: pd.DataFrame) -> Estimate:
    """Estimate by how much the share of all frames whose class is found exceeds that of a reference.

    Both have the same people in each draw, so that how hard people are cancels out.

    Raises
    ------
    ValueError
        If the two were not tested on the same frames.
    """
    if results["frame_path"].tolist() != reference["frame_path"].tolist():
        raise ValueError("the two were tested on different frames")
    difference = results["right"].to_numpy() - reference["right"].to_numpy()
    return _estimate(results["person"], difference, np.ones(len(results)))


def _estimate(people: pd.Series, values: Floats | pd.Series, weights: Floats | pd.Series) -> Estimate:
    """Estimate a sum of values divided by a sum of weights."""
    sums = resampling.sum_groups(people, np.column_stack([values, weights]))
    total, weight = sums.sum(axis=0)
    if len(sums) < FEWEST_PEOPLE:
        return Estimate(total / weight if weight else np.nan, np.nan, np.nan)
    drawn = resampling.draw_groups(np.arange(len(sums))) @ sums
    with np.errstate(invalid="ignore"):
        low, high = resampling.compute_interval(drawn[:, 0] / drawn[:, 1])
    return Estimate(total / weight if weight else np.nan, float(low), float(high))


def limit_frames(frames: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most so many frames of each person and class, evenly spread over those there are.

    Examples
    --------
    >>> frames = pd.DataFrame({"person": ["a"] * 5, "class_name": ["ok"] * 4 + ["stop"]})
    >>> limit_frames(frames, 2).index.tolist()
    [0, 3, 4]
    """
    chosen: list[object] = []
    for _, group in frames.groupby(["person", "class_name"], sort=False):
        chosen += group.index[
            np.unique(np.linspace(0, len(group) - 1, min(most, len(group))).round().astype(int))
        ].tolist()
    return frames.loc[sorted(chosen)]  # type: ignore[type-var]
