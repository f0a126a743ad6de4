"""A worker: looks at frames and tells what it found, a row a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from detectime import boxes, detectors
from detectime.config import Detection
from detectime.detectors import Detections
from detectime.images import RGB, Unreadable
from detectime.schema import DETECTIONS
from detectime.sources import Folder, Missing

Row = dict[str, Any]


class Worker:
    """Detects faces, and hands near them. Built once in its process; its models stay loaded.

    Parameters
    ----------
    config
        Which detectors, and how they look.

    Raises
    ------
    ConfigError
        If there is no detector of that name, or if it needs an extra that is not installed.
    """

    def __init__(self, config: Detection) -> None:
        self.config = config
        faces, hands = detectors.faces(config), detectors.hands(config)
        self._faces = faces.build(config)
        self._hands = hands.build(config)
        self._longest = None if faces.shrinks else config.face_max_resolution
        self._everywhere = (config.search or hands.search) == "frame"

    def __call__(
        self, source: Folder, frame_paths: Sequence[str], at: Callable[[int], None] = lambda _: None
    ) -> pa.Table:
        """Look at a shard of frames.

        Parameters
        ----------
        source
            Where the frames are.
        frame_paths
            The frames.
        at
            Called with the position of each frame before it is looked at.

        Returns
        -------
        Table
            One row for each frame, in order, in the schema of `schema.DETECTIONS`.
        """
        rows = [self._row(frame_path, frame) for frame_path, frame in source.open(_telling(frame_paths, at))]
        return pa.Table.from_pylist(rows, schema=DETECTIONS)

    def look(self, image: RGB) -> tuple[Detections, Detections]:
        """Find the faces and the hands of one frame, in its pixels."""
        height, width = image.shape[:2]
        small, scale = _shrink(image, self._longest)
        faces = _scaled(self._faces.detect([small])[0], scale, width, height)
        if not len(faces):  # a hand counts only near a face
            return faces, Detections.none()
        if self._everywhere:
            return faces, self._hands.detect([image])[0]
        regions = boxes.square_around(faces.boxes, self.config.search_coefficient)
        return faces, self._hands.detect([image], [regions])[0]

    def _row(self, frame_path: str, frame: RGB | Missing | Unreadable) -> Row:
        if isinstance(frame, Exception):
            return row_without_boxes(frame_path, "missing" if isinstance(frame, Missing) else "unreadable", str(frame))
        try:
            faces, hands = self.look(frame)
        except Exception as error:  # whatever a detector trips over costs this frame, not the run
            return row_without_boxes(frame_path, "failed", f"{type(error).__name__}: {error}")
        return {
            "frame_path": frame_path,
            "outcome": "ok",
            "error": None,
            "width": frame.shape[1],
            "height": frame.shape[0],
            "faces": _boxes(faces, self.config.detector_type, "frame"),
            "hands": _boxes(hands, self.config.hand_detector, "frame" if self._everywhere else "near"),
        }


def row_without_boxes(frame_path: str, outcome: str, error: str) -> Row:
    """Row of a frame that could not be looked at."""
    return {
        "frame_path": frame_path,
        "outcome": outcome,
        "error": error[:500].encode(errors="replace").decode(),  # a name that is no Unicode may stand in it
        "width": None,
        "height": None,
        "faces": [],
        "hands": [],
    }


def _telling(frame_paths: Iterable[str], at: Callable[[int], None]) -> Iterable[str]:
    for position, frame_path in enumerate(frame_paths):
        at(position)
        yield frame_path


def _shrink(image: RGB, longest: int | None) -> tuple[RGB, tuple[float, float]]:
    """Shrink an image to a longer side of `longest` pixels; smaller ones stay. Pixels, and the scale of x and y."""
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width)) if longest else 1.0
    small = max(1, round(width * scale)), max(1, round(height * scale))
    if small == (width, height):
        return image, (1.0, 1.0)
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8), (small[0] / width, small[1] / height)


def _scaled(found: Detections, scale: tuple[float, float], width: int, height: int) -> Detections:
    """Bring boxes of a shrunk image back to the frame's pixels."""
    full = boxes.clip(found.boxes / np.array([*scale, *scale]), width, height)
    return Detections(boxes.as_boxes(full), found.scores)


def _boxes(found: Detections, detector: str, stage: str) -> list[Row]:
    return [
        {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": score, "detector": detector, "stage": stage}
        for (x1, y1, x2, y2), score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True)
    ]
