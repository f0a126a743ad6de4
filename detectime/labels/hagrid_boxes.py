"""All boxes of HaGRID's annotations, whatever they show: `hagrid` reads those that show the class as labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detectime.labels.annotations import UNKNOWN, AnnotationColumns, Annotations, parse_corners, read_bytes
from detectime.labels.hagrid_keys import strip_ending
from detectime.labels.hagrid_records import (
    BOX_FAULTS,
    IN_PIXELS,
    Fault,
    Faults,
    convert_boxes,
    find_fault,
    find_list_fault,
    is_record,
    load_records,
    read_size,
)
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
_TWICE = "image is in its file more than once", "images are in their file more than once"
_NO_RECORDS = "there are no records of HaGRID; pass the folder with a JSON file per class"
_OTHER_UNITS = frozenset([Fault.NO_SIZE, Fault.OTHER_UNIT])  # nothing is known of the picture
_UNKNOWN_BOXES = frozenset([Fault.NOT_FINITE, Fault.NO_AREA])


def read_boxes(annotations: str | os.PathLike[str]) -> Annotations:
    """Read all boxes of HaGRID's annotations, of every class, whether they show the class of their picture or not.

    Parameters
    ----------
    annotations
        As those of `hagrid.read_annotations`; or one of the files.

    Returns
    -------
    Annotations
        In fractions. Names are those of the images, without ending. Records that cannot be used are noted by reason,
        and their pictures are not annotated.

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
    columns, faults = AnnotationColumns(), Faults()
    for file in files:
        records, repeated = load_records(read_bytes(str(file)), file, _shorten_record)
        for name in repeated:
            columns.add_finding("twice", f"{file.stem}/{name}", *_TWICE)
        _add_records(records, file, columns, faults)
    if not columns.names:
        raise TableError(f"{annotations}: {faults.explain() if len(faults) else _NO_RECORDS}")
    return columns.collect("fractions", has_endings=False, notes=faults.list_notes())


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
    boxes: list[tuple[float, float, float, float]]
    """x, y, width and height of each; NaN where they are not four numbers."""
    size: tuple[float, float]
    frame_path: Any


def _shorten_record(pairs: dict[str, Any]) -> Any:
    """Parse a JSON object that may be a record, unchanged if it is not."""
    if not is_record(pairs):
        return pairs
    labels, boxes = pairs.get("labels"), pairs.get("bboxes")
    fault = find_list_fault(labels, boxes)
    if fault is not None and fault is not Fault.BOX_KIND:
        return fault
    numbers = [parse_corners(box, has_sizes=False) for box in boxes or ()]
    return _Boxes(labels or [], numbers, read_size(pairs), pairs.get("frame_path"))


def _add_records(records: dict[str, Any], file: Path, columns: AnnotationColumns, faults: Faults) -> None:
    """Add the pictures of a file whose records can be used, with their boxes as fractions."""
    found = [record for record in records.values() if isinstance(record, _Boxes)]
    boxes = np.array([box for record in found for box in record.boxes], np.float64).reshape(-1, 4)
    sizes = np.array([record.size for record in found for _ in record.boxes], np.float64).reshape(-1, 2)
    converted = convert_boxes(boxes, sizes, file)
    if converted.are_pixels:
        columns.add_finding("pixels", file.name, f"file has {IN_PIXELS}", f"files have {IN_PIXELS}")
    corners, codes = converted.corners.tolist(), converted.faults.tolist()
    end = 0
    for name, record in records.items():
        if not isinstance(record, _Boxes):
            faults.add(find_fault(record), f"{file.stem}/{name}")
            continue
        start, end = end, end + len(record.boxes)
        wrong = [BOX_FAULTS[code] for code in codes[start:end]]
        other_unit = next((fault for fault in wrong if fault in _OTHER_UNITS), None)
        if other_unit is not None:
            faults.add(other_unit, f"{file.stem}/{name}")
            continue
        image = columns.add_image(strip_ending(name), *record.size, record.frame_path)
        for label, box, fault in zip(record.labels, corners[start:end], wrong, strict=True):
            columns.add_box(image, label, UNKNOWN if fault in _UNKNOWN_BOXES else box)
