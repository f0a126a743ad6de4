"""The frames of a run as the widgets show them: one row per frame of its table, with boxes and words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.candidates import Indices
from detectime.config import PairingConfig
from detectime.decisions import Corners
from detectime.report.card_boxes import DetectedBoxes, Row, describe_outcome, get_box, is_larger
from detectime.report.cards import NOT_BLURRED
from detectime.report.thumbnail_worker import ThumbnailTask
from detectime.runs import FinishedRun
from detectime.schema import PAIRING_COLUMNS, SAMPLES, Outcome
from detectime.widgets.pictures import Wish, make_cut

_UNSEEN = (Outcome.MISSING.value, Outcome.UNREADABLE.value)  # detection had no pixels of these
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_TENTH = 0.06  # pixels: boxes on the screen are rounded to tenths


class RunFrames:
    """The rows of a run's outcomes, by number, with the detections of each.

    Parameters
    ----------
    run
        The run.
    samples
        Its outcomes: one row per row of the frame table.

    Attributes
    ----------
    samples
        The same, with a range as index.
    """

    def __init__(self, run: FinishedRun, samples: pd.DataFrame) -> None:
        self.run = run
        self.samples = samples.reset_index(drop=True)

    @cached_property
    def _detections(self) -> pa.Table:
        return self.run.read_detections(PAIRING_COLUMNS)

    @cached_property
    def _detected_rows(self) -> Indices:
        """The row of the detections of each row, -1 where there are none."""
        paths = pa.array(self.samples["frame_path"], pa.string())
        found = pc.index_in(paths, value_set=self._detections["frame_path"].combine_chunks())
        rows: Indices = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    def set_samples(self, samples: pd.DataFrame) -> None:
        """Take other outcomes of the same frames; detections are read anew when they are needed."""
        self.samples = samples.reset_index(drop=True)
        for name in ("_detections", "_detected_rows"):
            self.__dict__.pop(name, None)

    def get_row(self, row: int, samples: pd.DataFrame | None = None) -> Row:
        """Return a row of the outcomes, or of others of the same frames, as a dictionary."""
        table = self.samples if samples is None else samples
        return get_only_row(table.iloc[[row]])

    def read_boxes(self, rows: Sequence[int], settings: PairingConfig | None = None) -> DetectedBoxes:
        """Return the detected boxes of some rows; context squares are those of the settings, or of the run.

        Raises
        ------
        RunError
            If the detections cannot be read.
        """
        paths = self.samples["frame_path"].iloc[list(rows)].tolist()
        return DetectedBoxes(self.run, paths, self.take_detections(rows), settings)

    def take_detections(self, rows: Sequence[int]) -> pa.Table:
        """Return the detections of some rows, in their order; a frame without any has a row without boxes."""
        numbers = self._detected_rows[np.asarray(rows, np.int64)]
        nothing: dict[str, Any] = {"frame_path": "", "content": None, "faces": [], "hands": []}
        last = pa.Table.from_pylist([nothing], schema=self._detections.schema)
        found = self._detections.take(pa.array(np.maximum(numbers, 0))) if len(self._detections) else last.slice(1)
        if (numbers >= 0).all():
            return found
        return pa.concat_tables([last if number < 0 else found.slice(k, 1) for k, number in enumerate(numbers)])

    def make_task(self, wish: Wish) -> ThumbnailTask | str:
        """Return what has to be known to make a picture of a frame, or why there is none."""
        row = self.get_row(wish.row)
        path, size = row["frame_path"], get_size(row)
        if row["outcome"] in _UNSEEN:
            reason = row["error"] if isinstance(row["error"], str) else f"the frame is {row['outcome']}"
            return f"{reason[:1].upper()}{reason[1:]}."
        content = row.get("content")
        faces: tuple[Corners, ...] = ()
        if self.run.config.display.blur_faces or (size is not None and not isinstance(content, str)):
            detected = self.read_boxes([wish.row])
            content = detected.get_content(row)
            if self.run.config.display.blur_faces:
                faces = detected.list_faces(row)
                if not faces:
                    return f"Faces are blurred (`display.blur_faces`), and {NOT_BLURRED}."
        return ThumbnailTask(path, content if isinstance(content, str) else None, size, faces, (make_cut(wish.side),))

    def describe_row(self, row: Row, number: int) -> dict[str, Any]:
        """Return a row as the messages of both widgets have it, with the boxes of its sample."""
        width, height = get_size(row) or (None, None)
        return {
            "row": number,
            "frame_path": row["frame_path"],
            "frame_id": _get_number(row.get("frame_id")),
            "group": str(row["video_name"]),
            "class_name": str(row["class_name"]),
            "outcome": str(row["outcome"]),
            "outcome_sentence": _OUTCOMES[row["outcome"]].sentence,
            "is_sample": row["outcome"] in SAMPLES,
            "width": width,
            "height": height,
            "boxes": list_pair(row),
            "decision": _get_text(row.get("decision")),
            "decided_by": _get_text(row.get("decided_by")),
        }

    def list_rows_of_group(self, row: int) -> Indices:
        """Return the rows of the group of a row, in the order of their `frame_id`."""
        names = self.samples["video_name"]
        rows = np.flatnonzero((names == names.iloc[row]).to_numpy())
        order = self.samples["frame_id"].iloc[rows].argsort(kind="stable")
        ordered: Indices = rows[order.to_numpy()]
        return ordered


def list_pair(row: Row) -> list[dict[str, Any]]:
    """Return the boxes of a sample: face, crop where it is larger than the hand, and hand; none without a sample."""
    if row["outcome"] not in SAMPLES:
        return []
    face, crop, hand = (get_box(row, kind) for kind in ("face", "bbox", "hand"))
    found = {"face": face, "bbox": crop if is_larger(crop, hand) else None, "hand": hand}
    return [{"kind": kind, "corners": box, "label": ""} for kind, box in found.items() if box is not None]


def is_same_box(one: Corners | None, other: Corners | None) -> bool:
    """Whether two boxes are equal up to what rounding to tenths of pixels does, or there are none.

    Examples
    --------
    >>> is_same_box((1.0, 2.0, 3.0, 4.04), (1.0, 2.0, 3.0, 4.0)), is_same_box(None, (1.0, 2.0, 3.0, 4.0))
    (True, False)
    """
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=0, atol=_TENTH))


def get_only_row(table: pd.DataFrame) -> Row:
    """Return the row of a table that has one, as a dictionary."""
    values: Row = table.to_dict("records")[0]  # type: ignore[assignment]
    return values


def get_size(row: Row) -> tuple[int, int] | None:
    """Return width and height of the frame of a row in pixels; None if it was never decoded."""
    return None if pd.isna(row["width"]) else (int(row["width"]), int(row["height"]))


def describe_row_outcome(row: Row) -> Iterable[str]:
    """Yield sentences about the outcome of a row: what it means, and its scores or numbers."""
    yield _OUTCOMES[row["outcome"]].sentence
    yield describe_outcome(row)


def _get_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _get_number(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value)
