"""The landmarks of samples: the 21 points of the hand that was chosen, where a detector found them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime import pairing, similarity
from detectime.runs import FinishedRun
from detectime.schema import LANDMARKS

COLUMNS = ("frame_path", "hands", "landmarks", "presence")
"""Columns of the detections table that landmarks are found by."""


def read_landmarks(run: FinishedRun, samples: pd.DataFrame) -> NDArray[np.float32]:
    """Read the landmarks of the detected hand of each sample.

    Several detectors may have found one hand. The landmark network sees each box turned upright, as far as its detector
    knows how; so of the detected hands that overlap the sample's `hand`, those landmarks are taken of which the network
    is surest that they are of a hand (`presence`).

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    samples
        Rows of its outcomes, in any order.

    Returns
    -------
    ndarray
        float32, shape (N, 21, 3): x and y in pixels of the upright frame, z in the same unit, 0 at the wrist. NaN where
        there are none: the detector of the hand finds no landmarks, or no detected hand has an IoU of .5 with it, as
        may be where a person drew it.

    Raises
    ------
    RunError
        If the detections cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> read_landmarks(run, run.outcomes).shape  # doctest: +SKIP
    (120, 21, 3)
    """
    return find_landmarks(samples, run.read_detections(COLUMNS))


def find_landmarks(samples: pd.DataFrame, detections: pa.Table) -> NDArray[np.float32]:
    """Find landmarks as `read_landmarks` does, among detections that were read.

    Parameters
    ----------
    samples
        Rows of an outcomes table.
    detections
        The `COLUMNS` of their detections.
    """
    rows = similarity.find_rows(samples, detections)
    landmarks, presence = (detections[name].combine_chunks().flatten() for name in ("landmarks", "presence"))
    preference = pc.if_else(landmarks.is_valid(), presence.fill_null(0), -1).to_numpy(zero_copy_only=False)
    best = similarity.match_hands(pairing.get_boxes(samples, "hand"), detections["hands"], rows, preference)
    matched = np.flatnonzero(best >= 0)
    found = landmarks.take(pa.array(best[matched]))
    is_there = found.is_valid().to_numpy(zero_copy_only=False)
    points = np.full((len(samples), LANDMARKS, 3), np.nan, np.float32)
    values = found.drop_null().flatten().to_numpy(zero_copy_only=False)
    points[matched[is_there]] = values.reshape(-1, LANDMARKS, 3)
    return points
