"""Average precision as COCO defines it, computed by hotcoco; draws of groups of frames are computed here."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from detectime.boxes import Flags, Floats, Integers, compute_iou

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Minimum IoU of a match: AP is the mean over all of them, AP50 that of the first."""

MEASURES = ("ap50", "ap")
"""The first threshold alone, and the mean of all."""

_Key = TypeVar("_Key", bound=Hashable)
_RECALLS = np.linspace(0, 1, 101)  # at which precision is read from the curve
_MOST_PER_FRAME = 100  # boxes per frame, the best ones; as in COCO
_MOST_BOXES = 500  # up to which the curve of a draw has a step per box
_STEPS = 250  # of the curve of a draw of more boxes
_CHUNK = 100  # draws that are computed at a time, so that their curves fit into the processor's cache


class FrameBoxes(NamedTuple):
    """Boxes of frames that have numbers."""

    frame: Integers
    """int64, shape (N,): the number of each box's frame."""
    corners: Floats
    """float64, shape (N, 4): x1, y1, x2, y2 in pixels."""

    def select(self, chosen: Flags) -> FrameBoxes:
        """Return some of the boxes; `chosen` is bool, shape (N,)."""
        return FrameBoxes(self.frame[chosen], self.corners[chosen])


def pair_boxes(own: FrameBoxes, others: FrameBoxes) -> tuple[Integers, Integers, Floats]:
    """Pair each box with each of the others in its frame.

    Returns
    -------
    own_box, other_box, iou
        Shape (pairs,): indices of the boxes (int64), and their IoU (float64).

    Examples
    --------
    >>> own = FrameBoxes(np.array([0, 1]), np.array([[0.0, 0, 4, 4], [0, 0, 4, 4]]))
    >>> others = FrameBoxes(np.array([1, 1]), np.array([[0.0, 0, 4, 1], [0, 0, 4, 2]]))
    >>> [values.tolist() for values in pair_boxes(own, others)]
    [[1, 1], [0, 1], [0.25, 0.5]]
    """
    left = pd.DataFrame({"frame": own.frame, "own": np.arange(len(own.frame))})
    right = pd.DataFrame({"frame": others.frame, "other": np.arange(len(others.frame))})
    pairs = left.merge(right, on="frame")
    own_box, other_box = pairs["own"].to_numpy(), pairs["other"].to_numpy()
    return own_box, other_box, compute_iou(own.corners[own_box], others.corners[other_box])


@dataclass(frozen=True, eq=False)
class Matches:
    """Ranked boxes, each of which matches an annotated box of its frame or none.

    Attributes
    ----------
    frame
        int64, shape (N,): the number of each box's frame, the box with the best score first. Equal scores are in the
        order of the frames.
    is_match
        bool, shape (N, thresholds): whether the box matches an annotated one by each of `THRESHOLDS`.
    annotated
        int64, shape (frames,): number of annotated boxes of each frame.
    """

    frame: Integers
    is_match: Flags
    annotated: Integers

    def select_frames(self, chosen: Integers) -> Matches:
        """Return the matches of some frames, renumbered in the order given.

        Parameters
        ----------
        chosen
            int64: numbers of frames, each at most once.
        """
        number = np.full(len(self.annotated), -1)
        number[chosen] = np.arange(len(chosen))
        frame = number[self.frame]
        return Matches(frame[frame >= 0], self.is_match[frame >= 0], self.annotated[chosen])


@dataclass(frozen=True, eq=False)
class Ranking:
    """Boxes with scores, and the annotated boxes that they should match.

    All boxes are of one category; those of a frame beyond the best 100 do not count, as in COCO.

    Attributes
    ----------
    found, annotated
        The boxes, in any order.
    scores
        float64, shape (N,): of `found`. Infinity is accepted; NaN is not.
    frames
        Number of frames.
    """

    found: FrameBoxes
    scores: Floats
    annotated: FrameBoxes
    frames: int

    @cached_property
    def matches(self) -> Matches:
        """The matches, as COCO finds them.

        In each frame, and for each threshold, boxes take the annotated box with the largest IoU that no better box
        took, the box with the best score first.
        """
        order = np.lexsort((-self.scores, self.found.frame))
        place = np.empty(len(order), np.int64)  # of each box among those of its frame
        starts = np.searchsorted(self.found.frame[order], self.found.frame[order])
        place[order] = np.arange(len(order)) - starts
        is_match = _match_by_place(self.found, place, self.annotated)
        ranked = np.lexsort((self.found.frame, -self.scores))
        ranked = ranked[place[ranked] < _MOST_PER_FRAME]
        counts = np.bincount(self.annotated.frame, minlength=self.frames)
        return Matches(self.found.frame[ranked], is_match[ranked], counts)

    def compute_ap(self, slices: Mapping[_Key, Integers]) -> dict[_Key, Floats]:
        """Compute the average precision of the boxes of some frames, by hotcoco.

        Precision is the share of matches among the first boxes, recall that of the annotated boxes that they match. AP
        is the mean, over 101 recalls from 0 to 1 and over the `THRESHOLDS`, of the largest precision at that recall or
        above; 0 where that recall is not reached.

        Parameters
        ----------
        slices
            Numbers of frames, int64, by any key.

        Returns
        -------
        dict
            By the same keys: the `MEASURES`, float64, shape (2,); NaN if no box of the frames is annotated.

        Raises
        ------
        ImportError
            If hotcoco is not installed: see `has_hotcoco`.

        Examples
        --------
        >>> boxes = FrameBoxes(np.array([0, 1]), np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]]))
        >>> ranking = Ranking(boxes, np.array([0.5, 0.9]), boxes, frames=2)
        >>> if has_hotcoco():
        ...     assert ranking.compute_ap({"both": np.arange(2)})["both"].tolist() == [1.0, 1.0]
        """
        engine = self._open_engine()
        found = engine.slice_by({str(k): (rows + 1).tolist() for k, rows in enumerate(slices.values())})
        values = (np.array([found[str(k)]["AP50"], found[str(k)]["AP"]]) for k in range(len(slices)))
        return {key: np.where(value < 0, np.nan, value) for key, value in zip(slices, values, strict=True)}

    def _open_engine(self) -> Any:
        """Return hotcoco's evaluation of all frames; the ids of frames are their numbers and one."""
        import hotcoco

        images = [{"id": k + 1} for k in range(self.frames)]
        ids, ones = self.annotated.frame + 1, np.ones(len(self.scores))
        boxes = _measure_sides(self.annotated.corners)
        truth = hotcoco.COCO.from_arrays(images, [{"id": 1, "name": "hand"}], ids, np.ones_like(ids), boxes)
        sides = _measure_sides(self.found.corners)
        results = truth.load_res(np.column_stack([self.found.frame + 1, sides, self.scores, ones]))
        engine = hotcoco.COCOeval(truth, results, "bbox")
        engine.params.area_rng, engine.params.area_rng_lbl = [[0, float("inf")]], ["all"]
        engine.params.max_dets = [_MOST_PER_FRAME]
        engine.evaluate()
        return engine


def has_hotcoco() -> bool:
    """Whether hotcoco, of the extra ``evaluate``, is installed."""
    return importlib.util.find_spec("hotcoco") is not None


def _measure_sides(corners: Floats) -> Floats:
    """Return boxes as COCO has them: x, y, width, height."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _match_by_place(found: FrameBoxes, place: Integers, annotated: FrameBoxes) -> Flags:
    """Match the first boxes of all frames, then the second ones, and so on: bool, shape (N, thresholds)."""
    own, true, iou = pair_boxes(found, annotated)
    kept = (iou >= THRESHOLDS[0]) & (place[own] < _MOST_PER_FRAME)
    own, true, iou = own[kept], true[kept], iou[kept]
    order = np.lexsort((true, iou, own, place[own]))  # the best pair of each box last
    own, true, iou = own[order], true[order], iou[order]
    limits = np.flatnonzero(np.diff(place[own], prepend=-1, append=-1))
    is_match = np.zeros((len(found.frame), len(THRESHOLDS)), bool)
    is_taken = np.zeros((len(annotated.frame), len(THRESHOLDS)), bool)
    for start, stop in itertools.pairwise(limits):
        for k, threshold in enumerate(THRESHOLDS):
            pairs = start + np.flatnonzero((iou[start:stop] >= threshold) & ~is_taken[true[start:stop], k])
            best = pairs[np.flatnonzero(np.diff(own[pairs], append=-1))]
            is_match[own[best], k] = is_taken[true[best], k] = True
    return is_match


def accumulate_ap(matches: Matches) -> Floats:
    """Compute the average precision of matches: what `Ranking.compute_ap` returns for the same frames.

    Returns
    -------
    ndarray
        float64, shape (2,): the `MEASURES`; NaN if no box is annotated.

    Examples
    --------
    >>> matches = Matches(np.array([0, 1]), np.array([[True] * 10, [True] * 5 + [False] * 5]), np.array([1, 1]))
    >>> accumulate_ap(matches).round(3).tolist()
    [1.0, 0.752]
    """
    values: Floats = _draw_curves(matches, None, np.zeros(len(matches.annotated), np.int64), np.ones((1, 1)))[0]
    return values


def draw_ap(matches: Matches, numbers: Integers, counts: Floats) -> Floats:
    """Compute the average precision of draws of groups, in which a frame is there as often as its group was drawn.

    The curve of a draw has a step per box; of more than 500 boxes, 250 steps, each of as many boxes, and the draws are
    corrected by how much that changes the average precision of the matches themselves.

    Parameters
    ----------
    matches
        The ranked boxes.
    numbers
        int64, shape (frames,): the number of each frame's group: see `resampling.number_groups`.
    counts
        Shape (draws, groups): see `resampling.draw_groups`.

    Returns
    -------
    ndarray
        float64, shape (draws, 2): the `MEASURES`; NaN in draws without annotated boxes.

    Examples
    --------
    >>> matches = Matches(np.array([0, 1]), np.array([[True] * 10, [False] * 10]), np.array([1, 1]))
    >>> draw_ap(matches, np.array([0, 1]), np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])).round(3).tolist()
    [[1.0, 1.0], [0.0, 0.0], [0.505, 0.505]]
    """
    if np.isnan(counts).any():
        return np.full((len(counts), len(MEASURES)), np.nan)
    total = len(matches.frame)
    if total <= _MOST_BOXES:
        return _draw_curves(matches, None, numbers, counts)
    step, once = np.arange(total) * _STEPS // total, np.ones((1, counts.shape[1]))
    correction = accumulate_ap(matches) - _draw_curves(matches, step, numbers, once)
    return _draw_curves(matches, step, numbers, counts) + correction


def _draw_curves(matches: Matches, step: Integers | None, numbers: Integers, counts: Floats) -> Floats:
    """Return the `MEASURES` of draws, shape (draws, 2).

    Parameters
    ----------
    step
        int64, shape (N,), ascending: to which of the `_STEPS` of the curve each box belongs; None: each has its own.
    numbers, counts
        As for `draw_ap`.
    """
    annotated = counts @ np.bincount(numbers, matches.annotated, counts.shape[1])
    group = numbers[matches.frame]
    weights = [] if step is None else _weigh_steps(matches, group * _STEPS + step, counts)
    values = []
    for start in range(0, len(counts), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        sums = _sum_boxes(matches, counts[chunk][:, group]) if step is None else _sum_steps(weights, chunk)
        shown = next(sums)
        values.append([_average_curve(hits, shown, annotated[chunk]) for hits in sums])
    by_threshold = np.concatenate(values, axis=1)
    return np.stack([by_threshold[0], by_threshold.mean(axis=0)], axis=-1)


def _sum_boxes(matches: Matches, drawn: Floats) -> Iterator[Floats]:
    """Yield how many boxes, and then how many matches by each threshold, there are up to each box of each draw.

    Parameters
    ----------
    drawn
        Shape (draws, N): how often each box was drawn.
    """
    yield np.cumsum(drawn, axis=1)
    for is_match in matches.is_match.T:
        yield np.cumsum(drawn * is_match, axis=1)


def _sum_steps(weights: Sequence[Floats], chunk: slice) -> Iterator[Floats]:
    """Yield what `_sum_boxes` yields, up to each step, of some draws."""
    for weight in weights:
        yield np.cumsum(weight[chunk], axis=1, dtype=np.float64)


def _weigh_steps(matches: Matches, cell: Integers, counts: Floats) -> list[Floats]:
    """Return how many boxes, and how many matches by each threshold, are in each step: shape (draws, steps).

    Parameters
    ----------
    cell
        int64, shape (N,): the group and the step of each box as one number.
    counts
        As for `draw_ap`.
    """
    shape = counts.shape[1], _STEPS
    kept = [cell, *(cell[is_match] for is_match in matches.is_match.T)]
    tables = [np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape) for cells in kept]
    drawn = counts.astype(np.float32)  # sums of whole numbers below 2**24 are exact
    return [drawn @ table.astype(np.float32) for table in tables]


def _average_curve(hits: Floats, shown: Floats, annotated: Floats) -> Floats:
    """Return the mean precision over the recalls, shape (draws,); NaN without annotated boxes.

    Parameters
    ----------
    hits, shown
        Shape (draws, steps): matches, and boxes, up to each step.
    annotated
        Shape (draws,): number of annotated boxes.
    """
    precision = hits / np.maximum(shown, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = _count_recalls(hits / np.maximum(annotated, 1)[:, None])
    total = np.einsum("ij,ij->i", best, np.diff(reached, axis=1, prepend=0))
    return np.where(annotated > 0, total / len(_RECALLS), np.nan)


def _count_recalls(recall: Floats) -> Integers:
    """Return how many of the recalls are at most this one, shape (…): several times as fast as `searchsorted`."""
    nearest = np.rint(recall * (len(_RECALLS) - 1)).astype(np.int64)
    counts: Integers = nearest + (_RECALLS[nearest] <= recall)
    return counts
