"""Signals from the frames before and after in the same video.

A group (`video_name`) may be a person with photos that have nothing in common. How much the neighbours in a group are
alike is therefore measured first, and what differs in a group whose neighbours differ anyway is not doubted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats
from detectime.candidates import Indices
from detectime.doubt.reasons import Reason
from detectime.doubt.signals import Signals, make_ramp
from detectime.schema import SAMPLES, Outcome

WITHOUT = (Outcome.APART.value, Outcome.NO_HAND.value, Outcome.NO_FACE.value)
"""Outcomes of frames in which pairing found no sample; other frames without one were not seen, or a person decided."""

# Distances are in units of the box's longer side, per usual number of frames between neighbours.
_STEADY, _UNSTEADY = 0.2, 0.6  # median distance of neighbours in a group
_STILL, _JUMPED = 0.3, 1.0  # distance from where a box is expected, beyond that of the frames before and after
_NEAR, _APART = 0.2, 0.8  # distance of the samples before and after a gap
_SHORT, _LONG = 4.0, 20.0  # from one end of a gap to the other, in usual numbers of frames
_FEW_STEPS = 4  # neighbours in a group, fewer of which say nothing about it
_RARE, _ALWAYS = 0.5, 1.0  # share of the frames of a group that have a sample
_SIDE = 3  # frames before, and as many after, whose classes are compared
_MIXED, _UNIFORM = 0.5, 0.9  # share of the neighbours in a group that have the same class
_SOME, _ALL = 0.6, 1.0  # share of the frames around that have another class


@dataclass(frozen=True, eq=False)
class _Order:
    """Rows by group, frame_id and path; all arrays are in this order, whose positions index `rows`.

    Attributes
    ----------
    rows
        int64, shape (M,): rows of the outcomes.
    group, time
        int64, shape (M,): number of the group, and `frame_id`.
    centre, side
        float64, shape (M, 2) and (M,): of the hand, in units of the frame's longer side; NaN without a sample.
    """

    rows: Indices
    group: Indices
    time: Indices
    centre: Floats
    side: Floats

    def take(self, positions: Indices) -> _Order:
        """Return some of the rows."""
        return _Order(
            self.rows[positions],
            self.group[positions],
            self.time[positions],
            self.centre[positions],
            self.side[positions],
        )


def score_neighbours(samples: pd.DataFrame) -> tuple[Signals, Floats]:
    """Score each frame against those before and after it in its group.

    Parameters
    ----------
    samples
        Rows of outcomes, in any order.

    Returns
    -------
    signals, suggested
        And boxes, float64, shape (N, 4): between those of the samples before and after a gap, in pixels of the frame;
        NaN elsewhere.
    """
    order = _order_frames(samples)
    is_sample = samples["outcome"].isin(SAMPLES).to_numpy()[order.rows] & ~np.isnan(order.side)
    found = np.flatnonzero(is_sample)
    sampled = order.take(found)
    usual, steadiness = _measure_groups(sampled, order.group.max(initial=-1) + 1)
    jump = np.zeros(len(samples))
    jump[sampled.rows] = _score_jumps(sampled, usual) * steadiness[sampled.group]
    gap, suggested = _score_gaps(samples, order, found, usual, steadiness)
    return {
        Reason.JUMP: jump,
        Reason.GAP: gap,
        Reason.MISSING_HERE: _score_missing(samples, is_sample[np.argsort(order.rows)]),
        Reason.LONE_LABEL: _score_lone_labels(samples, order),
    }, suggested


def _order_frames(samples: pd.DataFrame) -> _Order:
    group, path = (
        pd.factorize(samples[name].to_numpy(dtype=object), sort=True)[0] for name in ("video_name", "frame_path")
    )
    time = samples["frame_id"].to_numpy(np.int64)
    rows = np.lexsort((path, time, group))
    hand = pairing.get_boxes(samples, "hand")
    longest = samples[["width", "height"]].max(axis=1).to_numpy(np.float64)
    hand = hand / np.maximum(longest, 1)[:, None]
    side = (hand[:, 2:] - hand[:, :2]).max(axis=1)
    side[side <= 0] = np.nan
    centre = (hand[:, :2] + hand[:, 2:]) / 2
    return _Order(rows, group[rows], time[rows], centre[rows], side[rows])


def _measure_distance(order: _Order, a: Indices, b: Indices) -> Floats:
    """Return how far boxes are apart: centres in units of the mean side, plus the logarithm of the ratio of sides."""
    apart = np.linalg.norm(order.centre[a] - order.centre[b], axis=1)
    first, second = order.side[a], order.side[b]
    return np.asarray(apart / np.sqrt(first * second) + np.abs(np.log(first / second)), np.float64)


def _measure_groups(sampled: _Order, groups: int) -> tuple[Floats, Floats]:
    """Return for each group the usual number of frames between neighbours, and how steady its boxes are, 0…1."""
    left = np.flatnonzero(np.diff(sampled.group) == 0)
    group, step = sampled.group[left], np.maximum(np.diff(sampled.time)[left], 1)
    usual = pd.Series(step).groupby(group).median().reindex(range(groups), fill_value=1).to_numpy(np.float64)
    distance = _measure_distance(sampled, left, left + 1) / np.maximum(step / usual[group], 1)
    of_group = pd.Series(distance).groupby(group)
    median = of_group.median().where(of_group.size() >= _FEW_STEPS).reindex(range(groups)).to_numpy(np.float64)
    return usual, make_ramp(median, _UNSTEADY, _STEADY)


def _score_jumps(sampled: _Order, usual: Floats) -> Floats:
    """Return how far each box is from where its two nearest neighbours in order suggest, if these agree."""
    here = np.arange(len(sampled.rows))
    before, after, is_between = _find_neighbours(sampled.group)
    scores = np.zeros(len(here))
    known = np.flatnonzero(before >= 0)
    here, before, after, is_between = here[known], before[known], after[known], is_between[known]
    span = np.maximum(np.abs(sampled.time[after] - sampled.time[before]), 1)
    share = np.where(is_between, np.clip((sampled.time[here] - sampled.time[before]) / span, 0, 1), 0)[:, None]
    centre = sampled.centre[before] * (1 - share) + sampled.centre[after] * share
    side = sampled.side[before] ** (1 - share[:, 0]) * sampled.side[after] ** share[:, 0]
    own = sampled.side[here]
    offset = np.linalg.norm(sampled.centre[here] - centre, axis=1) / np.sqrt(own * side) + np.abs(np.log(own / side))
    nearest = np.abs(sampled.time[here] - sampled.time[before])
    nearest = np.where(is_between, np.minimum(nearest, np.abs(sampled.time[after] - sampled.time[here])), nearest)
    offset /= np.maximum(nearest / usual[sampled.group[here]], 1)
    scores[known] = make_ramp(offset - _measure_distance(sampled, before, after), _STILL, _JUMPED)
    return scores


def _find_neighbours(group: Indices) -> tuple[Indices, Indices, Flags]:
    """Return two neighbours of each sample in its group: before and after it, or the nearest and the next on one side.

    Returns
    -------
    nearest, other, is_between
        Positions, -1 in groups of fewer than three; and whether the sample is between the two.
    """
    here = np.arange(len(group))

    def find(offset: int) -> Flags:
        other = here + offset
        inside = (other >= 0) & (other < len(group))
        return np.asarray(inside & (group[np.clip(other, 0, max(len(group) - 1, 0))] == group), bool)

    is_between, is_last, is_first = find(-1) & find(1), find(-2), find(2)
    nearest = np.select([is_between, is_last, is_first], [here - 1, here - 1, here + 1], -1)
    other = np.select([is_between, is_last, is_first], [here + 1, here - 2, here + 2], -1)
    return nearest, other, is_between


def _score_gaps(
    samples: pd.DataFrame, order: _Order, found: Indices, usual: Floats, steadiness: Floats
) -> tuple[Floats, Floats]:
    """Return how likely a frame without a sample has one between those of its neighbours, and the box there."""
    scores, suggested = np.zeros(len(samples)), np.full((len(samples), 4), np.nan)
    if not len(found):
        return scores, suggested
    is_missing = (samples["outcome"].isin(WITHOUT) & samples["wanted"]).to_numpy()[order.rows]
    here = np.flatnonzero(is_missing)
    last = np.searchsorted(found, here)
    here, last = here[(last > 0) & (last < len(found))], last[(last > 0) & (last < len(found))]
    before, after = found[last - 1], found[last]
    classes = pd.factorize(samples["class_name"].to_numpy(dtype=object))[0][order.rows]
    is_inside = (order.group[before] == order.group[here]) & (order.group[after] == order.group[here])
    is_inside &= (classes[before] == classes[here]) & (classes[after] == classes[here])
    here, before, after = here[is_inside], before[is_inside], after[is_inside]
    length = np.maximum(order.time[after] - order.time[before], 1)
    likely = steadiness[order.group[here]] * make_ramp(_measure_distance(order, before, after), _APART, _NEAR)
    likely *= make_ramp(length / usual[order.group[here]], _LONG, _SHORT)
    rows = order.rows[here]
    scores[rows] = likely
    share = np.clip((order.time[here] - order.time[before]) / length, 0, 1)
    suggested[rows] = _interpolate_hands(samples, rows, order.rows[before], order.rows[after], share)
    suggested[scores == 0] = np.nan
    return scores, suggested


def _interpolate_hands(samples: pd.DataFrame, rows: Indices, before: Indices, after: Indices, share: Floats) -> Floats:
    """Return boxes between the hands of two frames, in pixels of a third one, which may be of another size."""
    size = samples[["width", "height"] * 2].to_numpy(np.float64)
    hand = pairing.get_boxes(samples, "hand") / size
    between = hand[before] * (1 - share[:, None]) + hand[after] * share[:, None]
    return boxes.clip_boxes(between * size[rows], size[rows, 0], size[rows, 1])


def _score_missing(samples: pd.DataFrame, is_sample: Flags) -> Floats:
    """Return how usual a sample is in the group of each frame without one."""
    is_missing = samples["outcome"].isin(WITHOUT).to_numpy() & samples["wanted"].to_numpy()
    seen = pd.Series(np.where(is_sample, 1.0, np.where(is_missing, 0.0, np.nan)))
    of_group = seen.groupby(samples["video_name"].to_numpy(dtype=object))
    share = of_group.transform("mean").where(of_group.transform("count") > _FEW_STEPS).to_numpy(np.float64)
    return np.where(is_missing, make_ramp(share, _RARE, _ALWAYS), 0)


def _score_lone_labels(samples: pd.DataFrame, order: _Order) -> Floats:
    """Return whether the frames around one have another class, in groups whose neighbours usually have the same."""
    classes = pd.factorize(samples["class_name"].to_numpy(dtype=object))[0][order.rows]
    same, count = np.zeros(len(classes)), np.zeros(len(classes))
    for offset in range(1, _SIDE + 1):
        in_group = order.group[offset:] == order.group[:-offset]
        is_same = in_group & (classes[offset:] == classes[:-offset])
        for part in (slice(offset, None), slice(None, -offset)):
            count[part] += in_group
            same[part] += is_same
    scores = np.zeros(len(samples))
    other = np.where(count >= _SIDE, 1 - same / np.maximum(count, 1), 0)
    scores[order.rows] = make_ramp(other, _SOME, _ALL) * _measure_uniformity(order.group, classes)
    return scores


def _measure_uniformity(group: Indices, classes: Indices) -> Floats:
    """Return how often neighbours in the group of each row have the same class, 0…1."""
    left = np.flatnonzero(np.diff(group) == 0)
    of_group = pd.Series(classes[left] == classes[left + 1]).groupby(group[left])
    share = of_group.mean().where(of_group.size() >= _FEW_STEPS)
    return make_ramp(share.reindex(group).to_numpy(np.float64), _MIXED, _UNIFORM)
