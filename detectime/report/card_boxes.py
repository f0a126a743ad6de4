"""What is known of a frame that a card shows: the boxes that are drawn over it, and its outcome in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from detectime import boxes
from detectime.config import PairingConfig
from detectime.exports.selection import read_detections_of
from detectime.report.thumbnail_worker import Box
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES, Outcome

BOX_KINDS = {
    "face": "face",
    "square": "context square of a face",
    "hand": "hand",
    "bbox": "crop, where it is larger than the hand",
    "other": "other hand",
    "truth": "annotated",
    "suggested": "suggested",
    "before": "before",
    "after": "after",
}
"""What is drawn over a frame, each with its own colour and line, and its name in the legend."""

Row = Mapping[str, Any]
"""A row of the outcomes table."""

DETECTED_COLUMNS = ("frame_path", "content", "faces", "hands")
"""Columns of the detections table that `DetectedBoxes` needs."""

_MOST_OTHERS = 12  # boxes of hands or faces that were not chosen, the best of them
_SAME_BOX = 0.5  # IoU from which a detected box is the chosen one, which may be an average of several
_ROUNDING = 2  # pixels by which a crop may be larger than the hand that it shows


@dataclass(frozen=True)
class CardBox:
    """A box that is drawn over a frame.

    Attributes
    ----------
    kind
        What it is, and so how it looks: one of `BOX_KINDS`.
    corners
        x1, y1, x2, y2 in pixels of the frame; it may leave the frame.
    label
        A few words that the enlarged frame shows beside it, such as its score; may be empty.
    """

    kind: str
    corners: Box
    label: str = ""


class DetectedBoxes:
    """The faces and hands that were detected in some frames.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    frame_paths
        The frames, each once.
    detections
        Rows of the detections table, one per frame and in their order, with `DETECTED_COLUMNS`; None: they are read.
    settings
        Of the pairing whose context squares are drawn; None: those of the run.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """

    def __init__(
        self,
        run: FinishedRun,
        frame_paths: Sequence[str],
        detections: pa.Table | None = None,
        settings: PairingConfig | None = None,
    ) -> None:
        if detections is None:
            frames = pd.DataFrame({"frame_path": pd.Series(frame_paths, dtype=object)})
            detections = read_detections_of(run, DETECTED_COLUMNS, frames)
        self._rows = dict(zip(frame_paths, detections.to_pylist(), strict=True))
        config = settings or run.pairing
        # Without a pair, the squares of the last step of pairing.
        self._coefficient = config.crop_coefficient if config.fallback == "none" else config.wider_coefficient

    def get_content(self, row: Row) -> str | None:
        """Return the content of the frame of a row at detection; None if it is unknown."""
        own = row.get("content")
        return own if isinstance(own, str) else self._rows[row["frame_path"]]["content"]

    def list_faces(self, row: Row) -> tuple[Box, ...]:
        """Return all faces that were detected in the frame of a row."""
        return tuple(_get_corners(face) for face in self._rows[row["frame_path"]]["faces"])

    def list_boxes(self, row: Row) -> list[CardBox]:
        """Return the boxes of the frame of a row, in the order in which they are drawn.

        First what was not chosen, then the pair of the sample. Of a frame without one, all faces have their context
        square.
        """
        found = self._rows[row["frame_path"]]
        face, hand = (get_box(row, kind) if row["outcome"] in SAMPLES else None for kind in ("face", "hand"))
        faces = _list_others(found["faces"], "face", "face", face)
        hands = _list_others(found["hands"], "other", "hand" if hand is None else "other hand", hand)
        if hand is not None:
            return [*hands, *faces, *_list_pair(row)]
        squares = [boxes.make_context_squares(each.corners, self._coefficient).tolist() for each in faces]
        return [*(CardBox("square", _round_corners(square)) for square in squares), *faces, *hands]


def get_box(row: Row, kind: str) -> Box | None:
    """Return a box of a row, rounded to tenths of pixels; None if there is none.

    Parameters
    ----------
    row
        Of the outcomes table.
    kind
        ``face``, ``hand``, ``square`` or ``bbox``.

    Examples
    --------
    >>> get_box({"hand_x1": 10.04, "hand_y1": 20, "hand_x2": 30, "hand_y2": 40}, "hand")
    (10.0, 20.0, 30.0, 40.0)
    """
    corners = [row[f"{kind}_{corner}"] for corner in CORNERS]
    return None if pd.isna(corners).any() else _round_corners(corners)


def is_larger(crop: Box | None, hand: Box | None) -> bool:
    """Whether a crop shows more than its hand.

    Examples
    --------
    >>> is_larger((0, 0, 30, 30), (10, 10, 20, 20)), is_larger((10, 10, 21, 21), (10.2, 10.4, 20.5, 20.5))
    (True, False)
    """
    return crop is not None and hand is not None and crop[2] - crop[0] > hand[2] - hand[0] + _ROUNDING


def describe_outcome(row: Row) -> str:
    """Return an outcome with the scores of the pair, with the numbers of faces and hands, or with an error.

    Examples
    --------
    >>> describe_outcome({"outcome": "apart", "error": None, "faces": 1, "hands": 2})
    'apart: 1 face, 2 hands'
    """
    outcome = str(row["outcome"])
    if outcome in SAMPLES:
        pair = [_label_box(kind, row[f"{kind}_score"]) for kind in ("hand", "face") if get_box(row, kind)]
        return f"{outcome}: {', '.join(pair)}"
    if isinstance(row.get("error"), str):
        return f"{outcome}: {row['error']}"
    if outcome == Outcome.LEFT_OUT:
        return outcome
    return f"{outcome}: {_count_boxes(row['faces'], 'face')}, {_count_boxes(row['hands'], 'hand')}"


def _list_pair(row: Row) -> list[CardBox]:
    """Return the boxes of a sample, its hand last."""
    face, square, hand, bbox = (get_box(row, kind) for kind in ("face", "square", "hand", "bbox"))
    pair = []
    if square is not None:
        pair.append(CardBox("square", square))
    if face is not None:
        pair.append(CardBox("face", face, _label_box("face", row["face_score"])))
    assert hand is not None
    if bbox is not None and is_larger(bbox, hand):
        pair.append(CardBox("bbox", bbox, "crop"))
    return [*pair, CardBox("hand", hand, _label_box("hand", row["hand_score"]))]


def _list_others(found: Sequence[Mapping[str, Any]], kind: str, name: str, chosen: Box | None) -> list[CardBox]:
    """Return the best detected boxes, without those that show the chosen one."""
    others = []
    for box in sorted(found, key=lambda box: -box["score"]):
        corners = _get_corners(box)
        if chosen is None or boxes.compute_iou(corners, chosen) < _SAME_BOX:
            others.append(CardBox(kind, corners, _label_box(name, box["score"])))
    return others[:_MOST_OTHERS]


def _get_corners(box: Mapping[str, Any]) -> Box:
    return _round_corners([box[corner] for corner in CORNERS])


def _round_corners(corners: Iterable[float]) -> Box:
    x1, y1, x2, y2 = (round(float(corner), 1) for corner in corners)
    return x1, y1, x2, y2


def _label_box(name: str, score: float | None) -> str:
    """Return the name of a box with its score; the hand that a person drew has none."""
    return name if score is None or np.isnan(score) else f"{name} {score:.2f}"


def _count_boxes(number: float, name: str) -> str:
    return f"{int(number)} {name}{'' if number == 1 else 's'}"
