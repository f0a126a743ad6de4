"""All boxes of HaGRID's annotations, whatever they show: `hagrid` reads those that show the class as labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from detectime.labels.annotations import AnnotationColumns, Annotations, parse_corners, read_bytes, read_json
from detectime.labels.tables import TableError

CLASSES = frozenset(
    [
        *("call", "dislike", "fist", "four", "like", "mute", "ok", "one", "palm", "peace", "peace_inverted", "rock"),
        *("stop", "stop_inverted", "three", "three2", "two_up", "two_up_inverted"),
        *("grabbing", "grip", "hand_heart", "hand_heart2", "holy", "little_finger", "middle_finger", "point"),
        *("take_picture", "three3", "three_gun", "thumb_index", "thumb_index2", "timeout", "xsign"),
    ]
)
"""The gestures of HaGRID, versions 1 and 2."""

_HEAD = 2**16  # bytes that tell whether a file has records
_MALFORMED = "record is malformed and left out", "records are malformed and left out"


def read_boxes(annotations: str | os.PathLike[str]) -> Annotations:
    """Read all boxes of HaGRID's annotations, of every class, whether they show the class of their picture or not.

    Parameters
    ----------
    annotations
        As those of `hagrid.read_annotations`; or one of the files.

    Returns
    -------
    Annotations
        In fractions. Names are those of the images, without folder and ending. A record that is malformed is noted, and
        its picture is not annotated.

    Raises
    ------
    TableError
        If no file can be used.

    Examples
    --------
    >>> import json, tempfile
    >>> record = {"user_id": "ann", "labels": ["ok", "no_gesture"], "bboxes": [[0, 0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ok.json").write_text(json.dumps({"7f3a": record}))
    ...     found = read_boxes(folder)
    >>> found.images["name"].tolist(), found.boxes["label"].tolist()
    (['7f3a'], ['ok', 'no_gesture'])
    """
    place = Path(annotations)
    files = [place]
    if place.is_dir():
        files = [file for file in sorted(place.rglob("*.json")) if is_hagrid(read_bytes(str(file), _HEAD))]
    columns = AnnotationColumns()
    for file in files:
        records = read_json(str(file), object_hook=_shorten_record)
        if not isinstance(records, dict):
            raise TableError(f"{file}: not annotations of HaGRID: the file must map each image to a record")
        for name, record in records.items():
            _add_record(name, record, columns, f"{file.stem}/{name}")
    if not columns.names:
        raise TableError(f"{annotations}: there are no records of HaGRID; pass the folder with a JSON file per class")
    return columns.collect("fractions", has_endings=False)


def is_hagrid(head: bytes) -> bool:
    """Whether the first bytes of a file are those of HaGRID's annotations.

    Examples
    --------
    >>> is_hagrid(b'{"7f3a": {"bboxes": [[0.5, 0.5, 0.1, 0.1]]}}')
    True
    """
    return b'"bboxes"' in head


class _Boxes(NamedTuple):
    """What is read of a record."""

    labels: list[str]
    corners: list[tuple[float, float, float, float]]
    width: Any
    height: Any
    frame_path: Any


def _shorten_record(pairs: dict[str, Any]) -> Any:
    """Parse a JSON object that may be a record, unchanged if it is not, or is malformed."""
    labels, found = pairs.get("labels"), pairs.get("bboxes")
    if not isinstance(labels, list) or not isinstance(found, list) or len(labels) != len(found):
        return pairs
    if not all(isinstance(label, str) for label in labels):
        return pairs
    corners = [parse_corners(box, has_sizes=True) for box in found]
    return _Boxes(labels, corners, pairs.get("width"), pairs.get("height"), pairs.get("frame_path"))


def _add_record(name: str, record: Any, columns: AnnotationColumns, place: str) -> None:
    if not isinstance(record, _Boxes):
        columns.add_finding("malformed", place, *_MALFORMED)
        return
    image = columns.add_image(name, record.width, record.height, record.frame_path)
    for label, corners in zip(record.labels, record.corners, strict=True):
        columns.add_box(image, label, corners)
