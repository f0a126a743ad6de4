"""Signals from a sample's box: its size, its shape and its place, beside the face, the frame and its class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.boxes import Floats
from detectime.doubt.reasons import Reason
from detectime.doubt.signals import Signals, make_ramp, subtract_usual

# Natural logarithms of the ratio to the median: 10 % less, and a third. Larger boxes are wrong less often.
_SMALL, _TINY = -0.1, -1.0
_LARGE, _HUGE = 0.3, 1.3
_LARGE_SHARE = 0.5
_WIDE, _VERY_WIDE = 0.3, 1.0  # of width to height
_BESIDE, _ON = 0.1, 0.7  # share of the box on the face, beyond what is usual
_BORDER = 1.0  # pixel


def score_boxes(samples: pd.DataFrame) -> Signals:
    """Score the box of each sample.

    Parameters
    ----------
    samples
        Rows of outcomes: rows without a sample have NaN as their `hand`, and get 0.
    """
    hand, face = pairing.get_boxes(samples, "hand"), pairing.get_boxes(samples, "face")
    classes = samples["class_name"]
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = _replace_infinite(np.log((hand[:, 2] - hand[:, 0]) / (hand[:, 3] - hand[:, 1])))
        on_face = _replace_infinite(boxes.compute_overlap(hand, face) / boxes.compute_area(hand))
    return {
        Reason.ODD_SIZE: _score_size(samples, hand, face),
        Reason.ODD_SHAPE: make_ramp(np.abs(subtract_usual(shape, classes)), _WIDE, _VERY_WIDE),
        Reason.ON_FACE: make_ramp(subtract_usual(on_face, classes), _BESIDE, _ON),
        Reason.FAR_FROM_FACE: _find_fallbacks(samples),
        Reason.AT_BORDER: _count_borders(samples, hand) / 2,
    }


def _find_fallbacks(samples: pd.DataFrame) -> Floats:
    """Return 1 for each sample of the fallback, less in runs where it found many of them."""
    is_fallback = samples["fallback"].notna().to_numpy(np.float64)
    count = np.count_nonzero(samples["hand_x1"].notna())
    found: Floats = is_fallback * (1 - is_fallback.sum() / max(count, 1))
    return found


def _score_size(samples: pd.DataFrame, hand: Floats, face: Floats) -> Floats:
    """Return how unusual the longer side is: the mean of that relative to the face and to the frame.

    Without a face it is that relative to the frame.
    """
    longest = samples[["width", "height"]].max(axis=1).to_numpy(np.float64)
    of_frame, of_face = (
        _score_ratio(_measure_sides(hand), reference, samples["class_name"])
        for reference in (longest, _measure_sides(face))
    )
    both: Floats = np.where(np.isnan(face[:, 0]), of_frame, (of_frame + of_face) / 2)
    return both


def _score_ratio(side: Floats, reference: Floats, classes: pd.Series) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = subtract_usual(_replace_infinite(np.log(side / reference)), classes)
    odd: Floats = np.maximum(make_ramp(deviation, _SMALL, _TINY), _LARGE_SHARE * make_ramp(deviation, _LARGE, _HUGE))
    return odd


def _measure_sides(corners: Floats) -> Floats:
    """Return the longer side of each box."""
    sides: Floats = (corners[:, 2:] - corners[:, :2]).max(axis=1)
    return sides


def _replace_infinite(values: Floats) -> Floats:
    finite: Floats = np.where(np.isfinite(values), values, np.nan)
    return finite


def _count_borders(samples: pd.DataFrame, hand: Floats) -> Floats:
    """Return at how many borders of the frame the box ends, at most two."""
    size = samples[["width", "height"]].to_numpy(np.float64)
    count = np.count_nonzero(hand[:, :2] <= _BORDER, axis=1) + np.count_nonzero(hand[:, 2:] >= size - _BORDER, axis=1)
    most: Floats = np.minimum(count, 2).astype(np.float64)
    return most
