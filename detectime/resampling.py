"""Intervals by resampling groups: frames of one video or person are alike, so whole groups are drawn, never frames.

A measure that is a ratio of sums over frames is drawn by ``draw_groups(groups) @ sum_groups(groups, values)``, and
`compute_interval` of the ratios is its interval: the percentile bootstrap, clustered by group.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from detectime.boxes import Floats, Integers

DRAWS = 1000
"""Number of random draws of groups."""

LEVEL = 0.95
"""Share of the draws that an interval holds."""

MOST_GROUPS = 1000
"""Number of groups beyond which whole groups are drawn in bundles, so that draws stay quick and small."""


def number_groups(groups: ArrayLike) -> tuple[Integers, int]:
    """Give each group a number, in the order of their names.

    More than `MOST_GROUPS` groups are merged to that many bundles of groups that follow each other by name: bundles
    are as independent as groups, so intervals stay as wide as they should be.

    Parameters
    ----------
    groups
        The group of each row, such as its `video_name`.

    Returns
    -------
    numbers, count
        int64, shape (rows,): the number of each row's group (or bundle), from 0; and how many there are.

    Examples
    --------
    >>> numbers, count = number_groups(["b", "a", "b"])
    >>> numbers.tolist(), count
    ([1, 0, 1], 2)
    """
    codes, names = pd.factorize(np.asarray(groups), sort=True)
    numbers, count = codes.astype(np.int64), len(names)
    return (numbers, count) if count <= MOST_GROUPS else (numbers * MOST_GROUPS // count, MOST_GROUPS)


def sum_groups(groups: ArrayLike, values: ArrayLike) -> Floats:
    """Sum the values of the rows of each group.

    Parameters
    ----------
    groups
        The group of each row.
    values
        Shape (rows, K), or (rows,) for one value.

    Returns
    -------
    ndarray
        float64, shape (groups, K), in the order of `number_groups`; the product of what `draw_groups` returns and these
        are the sums of each draw.

    Examples
    --------
    >>> sum_groups(["b", "a", "b"], [[1, 10], [2, 20], [3, 30]]).tolist()
    [[2.0, 20.0], [4.0, 40.0]]
    """
    numbers, count = number_groups(groups)
    rows = np.asarray(values, np.float64)
    columns = rows[:, None].T if rows.ndim == 1 else rows.T
    sums: Floats = np.array([np.bincount(numbers, column, count) for column in columns]).T
    return sums


def draw_groups(groups: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Draw groups at random with replacement, each time as many as there are.

    The draws depend on the number of groups alone, so that two evaluations of the same frames get the same groups.

    Parameters
    ----------
    groups
        The group of each row; or each group once.
    draws
        How often to draw.
    seed
        Of numpy's default generator, whose `multinomial` draws.

    Returns
    -------
    ndarray
        float64, shape (draws, groups): how often each group was drawn, in the order of `number_groups`. Fewer than two
        groups say nothing about others: they give NaN, and so do all measures computed from them.

    Examples
    --------
    >>> draw_groups(["anna", "anna", "ben", "cleo"], draws=2).tolist()
    [[1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]
    >>> draw_groups(["anna"], draws=1).tolist()
    [[nan]]
    """
    _, count = number_groups(groups)
    if count < 2:
        return np.full((draws, count), np.nan)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    return drawn.astype(np.float64)


def compute_interval(draws: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return the limits of the middle part of the draws of measures.

    Parameters
    ----------
    draws
        Shape (draws, …): the measures of each draw. NaN, a draw without anything to measure, is left out.
    level
        Share of the draws that lies between the limits.

    Returns
    -------
    low, high
        float64, shape (…): percentiles, interpolated linearly; NaN where all draws are NaN, as with fewer than two
        groups.

    Examples
    --------
    >>> low, high = compute_interval(np.arange(101), level=0.5)
    >>> float(low), float(high)
    (25.0, 75.0)
    """
    ordered = np.sort(np.asarray(draws, np.float64), axis=0)  # NaN last
    last = np.count_nonzero(~np.isnan(ordered), axis=0) - 1
    rest = (1 - level) / 2
    return _interpolate(ordered, last * rest), _interpolate(ordered, last * (1 - rest))


def _interpolate(ordered: Floats, position: Floats) -> Floats:
    """Return values between those of two ranks, shape (…); NaN at negative ranks: nothing was measured."""
    below = np.maximum(np.floor(position), 0).astype(np.int64)
    above = np.maximum(np.ceil(position), 0).astype(np.int64)
    low, high = (np.take_along_axis(ordered, rank[None], axis=0)[0] for rank in (below, above))
    values: Floats = np.where(position < 0, np.nan, low + (high - low) * (position - below))
    return values
