"""Annotated frames: what the samples and the detections of a run are by the annotations of its frames."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime import pairing
from detectime.boxes import Flags, Floats, Integers
from detectime.candidates import FlatBoxes, find_candidates
from detectime.evaluation import measures
from detectime.evaluation.average_precision import FrameBoxes, pair_boxes
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES
from detectime.truth.contract import FACE, HAND, Truth

CORRECT = 0.5
"""Minimum IoU with an annotated hand for a sample to be correct."""

_FACE_LIMITS = (0.125, 0.25)  # of `measures.FACE_SIZES`


class Really(StrEnum):
    """What a frame really was, by its annotations: name and sentence. Every frame that counts is one of them."""

    sentence: str

    def __new__(cls, name: str, sentence: str) -> Self:
        """Create a member whose value is its name in tables."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    CORRECT = "correct", "The sample shows an annotated hand of the frame's class."
    WRONG_CLASS = "wrong class", "The sample shows an annotated hand that does not show the frame's class."
    WRONG_BOX = "wrong box", "The sample shows none of the annotated hands, or too small or large a part of one."
    NOT_CHOSEN = "hand detected but not chosen", "The hand was detected, but the frame has no sample."
    NOT_DETECTED = "hand not detected", "The frame has a hand of its class, but it was not detected."
    NO_HAND = "no hand", "No annotated hand shows the frame's class: a sample is wrong, no sample is right."


class RunBoxes(NamedTuple):
    """The boxes of the frames that count, which are numbered from 0."""

    hands: FrameBoxes
    """Annotated."""
    is_target: Flags
    faces: FrameBoxes
    """Annotated."""
    samples: FrameBoxes
    sample_scores: Floats
    found_hands: FrameBoxes
    """Detected."""
    found_scores: Floats
    found_faces: FrameBoxes
    """Detected."""

    def get_targets(self) -> FrameBoxes:
        """Return the annotated hands that show the class of their frame."""
        return self.hands.select(self.is_target)


def collect_boxes(run: FinishedRun, truth: Truth, counted: pd.DataFrame) -> RunBoxes:
    """Collect the annotated and the detected boxes of frames.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    truth
        What `truth.read_truth` returned.
    counted
        Rows of outcomes, those of the frames that count.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """
    numbers = find_rows(truth.boxes["frame_path"], counted["frame_path"])
    known = truth.boxes[numbers >= 0]
    annotated = FrameBoxes(numbers[numbers >= 0], known[list(CORNERS)].to_numpy(np.float64))
    is_hand = (known["kind"] == HAND).to_numpy()
    detections = run.read_detections(["frame_path", "faces", "hands"])
    row_numbers = find_rows(detections["frame_path"].to_pandas(), counted["frame_path"])
    candidates = find_candidates(detections)
    found_hands, found_scores = _number_boxes(candidates.hands, row_numbers)
    chosen = np.flatnonzero(counted["outcome"].isin(SAMPLES))
    return RunBoxes(
        hands=annotated.select(is_hand),
        is_target=known["is_target"].to_numpy(bool)[is_hand],
        faces=annotated.select((known["kind"] == FACE).to_numpy()),
        samples=FrameBoxes(chosen, pairing.get_boxes(counted, "hand")[chosen]),
        sample_scores=counted["hand_score"].to_numpy(np.float64)[chosen],
        found_hands=found_hands,
        found_scores=found_scores,
        found_faces=_number_boxes(candidates.faces, row_numbers)[0],
    )


def find_rows(paths: pd.Series | pd.Index, among: pd.Series | pd.Index) -> Integers:
    """Find the row of each frame path among those of a table: int64, shape (paths,); -1 where it is not there.

    Examples
    --------
    >>> find_rows(pd.Series(["b", "c"]), pd.Series(["a", "b"])).tolist()
    [1, -1]
    """
    found = pc.index_in(pa.array(paths, pa.string()), value_set=pa.array(among, pa.string()))
    rows: Integers = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return rows


def _number_boxes(found: FlatBoxes, row_numbers: Integers) -> tuple[FrameBoxes, Floats]:
    """Return the boxes of frames that count, and their scores; `row_numbers` has -1 for rows of other frames."""
    frame = row_numbers[found.frame]
    kept = frame >= 0
    return FrameBoxes(frame[kept], found.corners[kept].astype(np.float64)), found.scores[kept].astype(np.float64)


def find_best_iou(own: FrameBoxes, others: FrameBoxes) -> Floats:
    """Find the largest IoU of each box with one of the others in its frame, shape (N,); 0 if there is none.

    Examples
    --------
    >>> own = FrameBoxes(np.array([0, 1]), np.array([[0.0, 0, 4, 4], [0, 0, 4, 4]]))
    >>> others = FrameBoxes(np.array([0, 0]), np.array([[0.0, 0, 4, 1], [0, 0, 4, 2]]))
    >>> find_best_iou(own, others).tolist()
    [0.5, 0.0]
    """
    own_box, _, iou = pair_boxes(own, others)
    best = np.zeros(len(own.frame))
    np.maximum.at(best, own_box, iou)
    return best


def judge_frames(counted: pd.DataFrame, found: RunBoxes) -> pd.DataFrame:
    """Judge what the sample and the detections of each frame are: returns `evaluation.Evaluation.frames`.

    Parameters
    ----------
    counted
        As for `collect_boxes`, with the index 0, 1, 2 …
    found
        What `collect_boxes` returned.
    """
    frames = counted[["frame_path", "video_name", "class_name", "outcome"]].rename(columns={"video_name": "group"})
    count, targets = len(frames), found.get_targets()
    found_iou = find_best_iou(found.hands, found.found_hands)
    frames["is_sample"] = _spread(found.samples, True, count, False)
    frames["iou"] = _spread(found.samples, find_best_iou(found.samples, targets), count, np.nan)
    frames["is_correct"] = frames["iou"] >= CORRECT
    frames["true_hands"] = _count_boxes(found.hands, count)
    frames["target_hands"] = _count_boxes(targets, count)
    frames["found_hands"] = _count_boxes(found.hands.select(found_iou >= CORRECT), count)
    frames["true_faces"] = _count_boxes(found.faces, count)
    is_found = find_best_iou(found.faces, found.found_faces) >= CORRECT
    frames["found_faces"] = _count_boxes(found.faces.select(is_found), count)
    frames["best_iou"] = np.where(frames["target_hands"] > 0, 0.0, np.nan)
    best = frames["best_iou"].to_numpy().copy()
    np.maximum.at(best, targets.frame, found_iou[found.is_target])
    frames["best_iou"] = best
    frames["face_size"] = _name_face_sizes(found.found_faces, counted)
    others = found.hands.select(~found.is_target)
    frames["really"] = _name_really(frames, _spread(found.samples, find_best_iou(found.samples, others), count, 0.0))
    return frames


def _spread(found: FrameBoxes, values: object, count: int, default: object) -> NDArray[Any]:
    """Return values of frames that have one box, and the default of the others: shape (frames,)."""
    spread = np.full(count, default)
    spread[found.frame] = values
    return spread


def _count_boxes(found: FrameBoxes, count: int) -> Integers:
    return np.bincount(found.frame, minlength=count)


def _name_face_sizes(faces: FrameBoxes, counted: pd.DataFrame) -> pd.Series:
    """Return the `measures.FACE_SIZES` of frames."""
    side = np.full(len(counted), np.nan)
    np.fmax.at(side, faces.frame, (faces.corners[:, 2:] - faces.corners[:, :2]).max(axis=1, initial=0))
    share = side / counted[["width", "height"]].to_numpy(np.float64).max(axis=1, initial=0)
    codes = np.where(np.isnan(share), 0, 1 + np.digitize(share, _FACE_LIMITS))
    return pd.Series(np.array(measures.FACE_SIZES, object)[codes], dtype=object)


def _name_really(frames: pd.DataFrame, other_iou: Floats) -> NDArray[Any]:
    """Return the `Really` of frames; `other_iou` is that of their samples with annotated hands that are no target."""
    is_sample, has_target = frames["is_sample"], frames["target_hands"] > 0
    kinds = {
        Really.CORRECT: frames["is_correct"],
        Really.WRONG_CLASS: is_sample & (other_iou >= CORRECT),
        Really.WRONG_BOX: is_sample & has_target,
        Really.NOT_CHOSEN: has_target & (frames["best_iou"] >= CORRECT),
        Really.NOT_DETECTED: has_target,
    }
    names = np.array([kind.value for kind in kinds], object)
    return np.select([flags.to_numpy() for flags in kinds.values()], names.tolist(), Really.NO_HAND.value)
