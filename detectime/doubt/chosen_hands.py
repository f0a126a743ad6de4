"""What detection stored of the hand that became each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import pairing
from detectime.boxes import Flags, Floats
from detectime.candidates import Candidates, Indices, find_candidates
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, LANDMARKS
from detectime.similarity import find_rows, match_hands

_COLUMNS = ("frame_path", "faces", "hands", "landmarks", "presence", "handedness", "proposal")


@dataclass(frozen=True, eq=False)
class ChosenHands:
    """The hands of samples; N rows of outcomes.

    Attributes
    ----------
    boxes
        float64, shape (N, 4): the `hand` of each sample, which may be averaged over detectors; NaN without one.
    frame
        int64, shape (N,): the row of detections of each row; -1 without one.
    index
        int64, shape (N,): the detected hand that overlaps the sample's most, in `candidates.hands`; -1 if none has an
        IoU of .5 with it, as may be where a person drew the box.
    candidates
        All faces, hands and pairs of the run.
    presence, handedness
        float64, shape (N,): see `schema.DETECTIONS`; NaN where unknown, as in runs of 0.2.
    proposals
        float64, shape (N, 5): the box before refinement, and its score; NaN where unknown.
    landmarks
        float32, shape (N, 21, 3), in pixels of the frame; NaN where unknown.
    """

    boxes: Floats
    frame: Indices
    index: Indices
    candidates: Candidates
    presence: Floats
    handedness: Floats
    proposals: Floats
    landmarks: Floats


def read_chosen_hands(run: FinishedRun, samples: pd.DataFrame) -> ChosenHands:
    """Read what the detections of a run say of the hands of samples.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    samples
        Rows of its outcomes, in any order.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """
    detections = run.read_detections(_COLUMNS)
    candidates = find_candidates(detections)
    hand, frame = pairing.get_boxes(samples, "hand"), find_rows(samples, detections)
    index = match_hands(hand, detections["hands"], frame)

    def take(column: str) -> pa.Array:
        return detections[column].combine_chunks().flatten().take(pa.array(index, mask=index < 0))

    proposals = take("proposal")
    return ChosenHands(
        boxes=hand,
        frame=frame,
        index=index,
        candidates=candidates,
        presence=_to_floats(take("presence")),
        handedness=_to_floats(take("handedness")),
        proposals=np.column_stack([_to_floats(pc.struct_field(proposals, name)) for name in (*CORNERS, "score")]),
        landmarks=_stack_landmarks(take("landmarks")),
    )


def _to_floats(values: pa.Array) -> Floats:
    """Return numbers as float64, NaN for null."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _stack_landmarks(lists: Any) -> Floats:
    """Return lists of 63 numbers as an array, NaN for null."""
    count = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    known: Flags = count == 3 * LANDMARKS
    stacked = np.full((len(lists), LANDMARKS, 3), np.nan, np.float32)
    values = lists.filter(pa.array(known)).flatten().to_numpy(zero_copy_only=False)
    stacked[known] = values.reshape(-1, LANDMARKS, 3)
    return stacked
