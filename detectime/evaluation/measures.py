"""Measures of annotated frames with their intervals: by class, by size of the face, and two evaluations compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from detectime import resampling
from detectime.boxes import Floats, Integers
from detectime.evaluation import average_precision
from detectime.evaluation.average_precision import Matches, Ranking

FACE_SIZES = ("no face", "< 1/8", "1/8–1/4", "> 1/4")
"""The longer side of the largest detected face as a share of that of the frame; a limit itself is in the larger."""

RANKINGS = {"samples": "", "hands": "hands_"}
"""What average precision ranks, and how the names of its measures begin."""

MOST_CLASSES = 200
"""Number of classes up to which each has its own average precision, which takes most of the time."""

_NAMES = {
    "mean_iou": "mean IoU",
    "ap50": "AP at IoU 0.5",
    "ap": "AP",
    "hands_ap50": "AP of all hands at IoU 0.5",
    "hands_ap": "AP of all hands",
}
_COLUMNS = ("by", "name", "frames", "groups", "measure", "value", "low", "high", "total")
_LEAST_GROUPS = 2  # that have any of what a measure is a share of: fewer give no interval


def name_measure(measure: str) -> str:
    """Return the name of a measure as people write it.

    Examples
    --------
    >>> name_measure("hand_recall"), name_measure("mean_iou"), name_measure("hands_ap50")
    ('hand recall', 'mean IoU', 'AP of all hands at IoU 0.5')
    """
    return _NAMES.get(measure, measure.replace("_", " "))


def measure_frames(frames: pd.DataFrame, classes: Sequence[str], rankings: Mapping[str, Ranking]) -> pd.DataFrame:
    """Compute the measures of all frames, of those of each class, and of those of each size of the face.

    Parameters
    ----------
    frames
        `evaluation.Evaluation.frames`.
    classes
        In the order of their rows; those without a frame have none.
    rankings
        `evaluation.Evaluation.rankings`.

    Returns
    -------
    DataFrame
        `evaluation.Evaluation.measures`.
    """
    groups, _ = pd.factorize(frames["group"], sort=True)
    (names, ratios), slices = _list_ratios(frames), _list_slices(frames, classes)
    ranked = {key: rows for key, rows in slices.items() if key[0] != "class" or len(classes) <= MOST_CLASSES}
    precisions = {kind: ranking.compute_ap(ranked) for kind, ranking in rankings.items()}
    drawn = []
    for key, rows in slices.items():
        chosen = {
            kind: (precisions[kind][key], ranking.matches.select_frames(rows))
            for kind, ranking in rankings.items()
            if key in ranked
        }
        found = _draw_measures(names, ratios[rows], chosen, groups[rows])
        low, high = _compute_interval(found.draws, found.count_groups())
        about = (*key, len(rows), len(np.unique(groups[rows])))
        totals = found.shares.sum(axis=0)
        drawn += [(*about, *row) for row in zip(found.names, found.values, low, high, totals, strict=True)]
    return pd.DataFrame(drawn, columns=list(_COLUMNS))


def compare_frames(
    a: pd.DataFrame, b: pd.DataFrame, rankings_a: Mapping[str, Ranking], rankings_b: Mapping[str, Ranking]
) -> pd.DataFrame:
    """Compare the measures of the frames that two evaluations have in common, drawing the same groups for both.

    Parameters
    ----------
    a, b
        `evaluation.Evaluation.frames`. The groups are those of `a`.
    rankings_a, rankings_b
        `evaluation.Evaluation.rankings`.

    Returns
    -------
    DataFrame
        What `evaluation.compare_evaluations` returns.
    """
    rows_b = pd.Index(b["frame_path"]).get_indexer(pd.Index(a["frame_path"]))
    rows_a = np.flatnonzero(rows_b >= 0)
    groups = a["group"].to_numpy(object)[rows_a]
    kinds = [kind for kind in RANKINGS if kind in rankings_a and kind in rankings_b]
    (names_a, ratios_a), (names_b, ratios_b) = _list_ratios(a), _list_ratios(b)
    names = names_a[: len(names_b)]  # only the last, that of faces, may be in one alone
    drawn_a, drawn_b = (
        _draw_measures(names, ratios[rows, : len(names)], _accumulate(rankings, kinds, rows), groups)
        for ratios, rankings, rows in ((ratios_a, rankings_a, rows_a), (ratios_b, rankings_b, rows_b[rows_a]))
    )
    least = np.minimum(drawn_a.count_groups(), drawn_b.count_groups())
    low, high = _compute_interval(drawn_b.draws - drawn_a.draws, least)
    about: dict[str, Any] = {"measure": drawn_a.names, "frames": len(rows_a), "groups": len(set(groups))}
    values = {"a": drawn_a.values, "b": drawn_b.values, "difference": drawn_b.values - drawn_a.values}
    return pd.DataFrame(about | values | {"low": low, "high": high})


def _accumulate(
    rankings: Mapping[str, Ranking], kinds: Sequence[str], rows: Integers
) -> dict[str, tuple[Floats, Matches]]:
    """Return the average precision of some frames, and their matches, by kind of ranking."""
    chosen = {kind: rankings[kind].matches.select_frames(rows) for kind in kinds}
    return {kind: (average_precision.accumulate_ap(matches), matches) for kind, matches in chosen.items()}


class _Drawn(NamedTuple):
    """M measures of some frames."""

    names: list[str]
    values: Floats
    """Shape (M,)."""
    draws: Floats
    """Shape (draws, M)."""
    shares: Floats
    """Shape (groups, M): how much each group has of what the measure is a share of."""

    def count_groups(self) -> Integers:
        """Return how many groups have any of what each measure is a share of: shape (M,)."""
        counts: Integers = np.count_nonzero(self.shares, axis=0)
        return counts


def _draw_measures(
    names: Sequence[str], ratios: Floats, ranked: Mapping[str, tuple[Floats, Matches]], groups: Any
) -> _Drawn:
    """Draw the groups of frames, and compute all measures: those that are ratios, and average precision.

    Parameters
    ----------
    names, ratios
        As `_list_ratios` returns them, for these frames.
    ranked
        Average precision of these frames, and their matches, by kind of ranking.
    groups
        The group of each frame.
    """
    numbers, count = resampling.number_groups(groups)
    counts = resampling.draw_groups(np.arange(count))
    parts = [_draw_ratios(names, ratios, numbers, counts)]
    parts += [_draw_ranking(kind, *ranked[kind], numbers, counts) for kind in ranked]
    return _Drawn(
        [name for part in parts for name in part.names],
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.draws for part in parts], axis=1),
        np.concatenate([part.shares for part in parts], axis=1),
    )


def _draw_ratios(names: Sequence[str], ratios: Floats, numbers: Integers, counts: Floats) -> _Drawn:
    sums = resampling.sum_groups(numbers, ratios.reshape(len(ratios), 2 * len(names))).reshape(-1, len(names), 2)
    return _Drawn(list(names), _divide(sums.sum(axis=0)), _divide(np.tensordot(counts, sums, axes=1)), sums[..., 1])


def _draw_ranking(kind: str, values: Floats, matches: Matches, numbers: Integers, counts: Floats) -> _Drawn:
    names = [RANKINGS[kind] + measure for measure in average_precision.MEASURES]
    annotated = resampling.sum_groups(numbers, matches.annotated)
    draws = average_precision.draw_ap(matches, numbers, counts)
    return _Drawn(names, values, draws, np.repeat(annotated, len(names), axis=1))


def _list_ratios(frames: pd.DataFrame) -> tuple[list[str], Floats]:
    """Return the measures that are ratios of sums, and their numerators and denominators: shape (frames, M, 2).

    The recall of faces, the last one, is left out if no face is annotated.
    """
    is_sample = frames["is_sample"]
    ratios = {
        "correct": (frames["is_correct"], frames["target_hands"] > 0),
        "precision": (frames["is_correct"], is_sample),
        "mean_iou": (frames["iou"].fillna(0), is_sample),
        "hand_recall": (frames["found_hands"], frames["true_hands"]),
        "face_recall": (frames["found_faces"], frames["true_faces"]),
    }
    if not frames["true_faces"].any():
        del ratios["face_recall"]
    columns = [np.column_stack(pair).astype(np.float64) for pair in ratios.values()]
    return list(ratios), np.stack(columns, axis=1)


def _list_slices(frames: pd.DataFrame, classes: Sequence[str]) -> dict[tuple[str, str], Integers]:
    """Return the rows of the frames of each part of the table, by `by` and `name`."""
    slices = {("all", "all"): np.arange(len(frames))}
    for by, column, names in (("class", "class_name", classes), ("face size", "face_size", FACE_SIZES)):
        rows = frames.groupby(column).indices
        slices |= {(by, name): np.asarray(rows[name], np.int64) for name in names if name in rows}
    return slices


def _divide(sums: Floats) -> Floats:
    """Return ratios of sums, shape (…, 2); NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore"):
        ratios: Floats = sums[..., 0] / sums[..., 1]
    return ratios


def _compute_interval(draws: Floats, groups: Integers) -> tuple[Floats, Floats]:
    """Return the interval of each measure; NaN where too few groups have any of what it is a share of."""
    low, high = resampling.compute_interval(draws)
    return np.where(groups < _LEAST_GROUPS, np.nan, low), np.where(groups < _LEAST_GROUPS, np.nan, high)
