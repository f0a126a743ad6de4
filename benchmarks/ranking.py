"""How well scores rank wrong samples before right ones: AUC and precision, with intervals over groups; fitted weights.

Samples are compared within a stratum only, such as a run: which of its frames to look at first is the question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from detectime import resampling
from detectime.boxes import Flags, Floats, Integers

SHARE = 0.1
"""Share of the samples of a stratum that `compute_precision` looks at."""

GRID = (0.0, 0.15, 0.3, 0.5, 0.7, 0.9)
"""Weights among which `fit_weights` chooses."""

_FIRST = 0.5  # weight of each reason before its own is chosen
_PASSES = 2


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples of which it is known whether they are wrong.

    Attributes
    ----------
    wrong
        bool, shape (N,).
    stratum
        int64, shape (N,).
    group
        The person or video of each, shape (N,): the same in all strata.
    """

    wrong: Flags
    stratum: Integers
    group: pd.Series

    def select(self, kept: Flags) -> Judged:
        """Return some of the samples."""
        return Judged(self.wrong[kept], self.stratum[kept], self.group[kept])


def compute_auc(judged: Judged, scores: Floats) -> float:
    """Return the share of pairs of a wrong and a right sample of a stratum of which the wrong one has the higher score.

    Equal scores count half. NaN without such a pair.
    """
    return float(_compute_auc(judged, scores, np.ones((1, len(scores))))[0])


def draw_auc(judged: Judged, scores: Floats) -> Floats:
    """Return the AUC of random draws of groups: the same groups for any scores."""
    numbers, _ = resampling.number_groups(judged.group)
    return _compute_auc(judged, scores, resampling.draw_groups(judged.group)[:, numbers])


def _compute_auc(judged: Judged, scores: Floats, counts: Floats) -> Floats:
    """Return the AUC of draws in which each sample occurs so many times: `counts` has the shape (draws, N)."""
    won, pairs = np.zeros(len(counts)), np.zeros(len(counts))
    for rows in _list_strata(judged):
        ordered = rows[np.argsort(scores[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(scores[ordered], prepend=np.nan) != 0)
        wrong, right = (
            np.add.reduceat(counts[:, ordered] * flags[ordered], starts, axis=1)
            for flags in (judged.wrong, ~judged.wrong)
        )
        below = np.cumsum(right, axis=1) - right / 2
        won += (wrong * below).sum(axis=1)
        pairs += wrong.sum(axis=1) * right.sum(axis=1)
    with np.errstate(invalid="ignore"):
        auc: Floats = won / pairs
    return auc


def compute_precision(judged: Judged, scores: Floats) -> float:
    """Return the share of wrong samples among the first tenth of each stratum by score."""
    found = [
        judged.wrong[rows[np.argsort(-scores[rows], kind="stable")[: round(SHARE * len(rows))]]]
        for rows in _list_strata(judged)
    ]
    return float(np.concatenate(found).mean())


def combine_shares(shares: Floats, weights: Floats) -> Floats:
    """Return the doubt, 1 − Π (1 − weight × share), of shares, shape (N, reasons)."""
    doubt: Floats = 1 - np.prod(1 - shares * weights, axis=1)
    return doubt


def fit_weights(judged: Judged, shares: Floats) -> Floats:
    """Choose the weight of each reason in turn so that the AUC is largest.

    Parameters
    ----------
    judged
        The samples.
    shares
        Shape (N, reasons).

    Returns
    -------
    ndarray
        Shape (reasons,), values of `GRID`.
    """
    logarithms = np.log1p(-shares * np.array(GRID)[:, None, None])  # shape (weights, N, reasons)
    chosen = np.full(shares.shape[1], GRID.index(_FIRST))
    strata = _list_strata(judged)
    for _ in range(_PASSES):
        for reason in np.flatnonzero(shares.any(axis=0)):
            others = np.delete(np.take_along_axis(logarithms, chosen[None, None], axis=0)[0], reason, axis=1).sum(
                axis=1
            )
            found = [_rank_strata(judged, -(others + own), strata) for own in logarithms[:, :, reason]]
            chosen[reason] = int(np.argmax(found))
    weights: Floats = np.array(GRID)[chosen]
    return weights


def fit_two_weights(judged: Judged, shares: Floats) -> Floats:
    """Choose the weight of the first reason, and one of all others, so that the AUC is largest."""
    strata = _list_strata(judged)
    variants = [np.append(first, np.full(shares.shape[1] - 1, other)) for first in GRID for other in GRID]
    found = [_rank_strata(judged, combine_shares(shares, weights), strata) for weights in variants]
    return variants[int(np.argmax(found))]


def hold_groups_out(judged: Judged, shares: Floats, fit: Callable[[Judged, Floats], Floats]) -> Floats:
    """Rank the samples of each group by weights that were fitted to those of all other groups.

    Parameters
    ----------
    judged, shares
        As for `fit_weights`.
    fit
        `fit_weights` or `fit_two_weights`.

    Returns
    -------
    ndarray
        Shape (N,): the rank of each sample in its stratum, 0…1, since different weights give different scales.
    """
    ranks = np.zeros(len(shares))
    numbers, count = resampling.number_groups(judged.group)
    for group in range(count):
        held = numbers == group
        weights = fit(judged.select(~held), shares[~held])
        doubt = pd.Series(combine_shares(shares, weights))
        ranks[held] = doubt.groupby(judged.stratum).rank(pct=True).to_numpy()[held]
    return ranks


def _rank_strata(judged: Judged, scores: Floats, strata: list[Integers]) -> float:
    """Return what `compute_auc` returns, without draws: quickly."""
    won = pairs = 0.0
    for rows in strata:
        wrong = judged.wrong[rows]
        own, others = scores[rows[wrong]], np.sort(scores[rows[~wrong]])
        below = np.searchsorted(others, own) + np.searchsorted(others, own, side="right")
        won += below.sum() / 2
        pairs += len(own) * len(others)
    return won / max(pairs, 1)


def _list_strata(judged: Judged) -> list[Integers]:
    """Return the rows of each stratum."""
    order = np.argsort(judged.stratum, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(judged.stratum[order])) + 1)
