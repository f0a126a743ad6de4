"""HaGRID's annotations: ``hagrid_annotations/<split>/<class>.json`` beside ``hagrid_dataset/<class>``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from detectime.boxes import Integers
from detectime.exports.contract import ExportData, Format, join_path
from detectime.exports.json_chunks import encode_chunks
from detectime.schema import CORNERS
from detectime.storage.store import Store

ANNOTATIONS = "hagrid_annotations"
"""Folder of the annotations: `labels` of a run over an export; its `images` is the other one."""

PICTURES = "hagrid_dataset"
"""Folder of the pictures."""

_ENDING = ".json"
_LONGEST = 255  # bytes of a file name
_CHUNK = 4096  # pictures that are encoded at a time
_DIGITS = 9  # after the point


def write_hagrid(data: ExportData, store: Store) -> None:
    """Write a file for each part of the split and each class, also for classes without pictures.

    Parameters
    ----------
    data
        What is exported.
    store
        The folder of the export. If the set is not split, there is no folder for its only part.

    Raises
    ------
    StoreError
        If a file cannot be written.
    """
    for (split, class_name), rows in _group_pictures(data).items():
        with store.writing(join_path(ANNOTATIONS, split, f"{class_name}{_ENDING}")) as file:
            file.writelines(encode_records(data, rows))


def encode_records(data: ExportData, rows: Integers) -> Iterator[bytes]:
    """Yield the JSON text of the records of pictures, so that memory does not grow with their number.

    Parameters
    ----------
    data
        What is exported.
    rows
        Rows of the pictures.

    Yields
    ------
    bytes
        Joined: for each picture, by its name without ending, `bboxes` as x, y, width and height in fractions of its
        size, `labels`, the class of each box, `user_id`, which is the `video_name`, its `width` and `height` in
        pixels, `frame_path` and `frame_id`.

    Examples
    --------
    >>> import json
    >>> import pandas as pd
    >>> frame = {"name": "v-1", "frame_path": "v/1.jpg", "video_name": "v", "frame_id": 1, "width": 64, "height": 50}
    >>> objects = pd.DataFrame([{"image": 0, "class_name": "ok", "x1": 16.0, "y1": 5.0, "x2": 48.0, "y2": 50.0}])
    >>> data = ExportData(pd.DataFrame([frame]), objects, ("ok",), {"ok": 4})
    >>> record = json.loads(b"".join(encode_records(data, np.array([0]))))["v-1"]
    >>> record["bboxes"], record["labels"], record["user_id"]
    ([[0.25, 0.1, 0.5, 0.9]], ['ok'], 'v')
    """
    chunks = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
    return encode_chunks((_make_records(data, chunk) for chunk in chunks), "{}")


def find_fault(class_name: str) -> str | None:
    """Say why no file can have the name of the class; None if one can.

    Examples
    --------
    >>> find_fault("thumb up"), find_fault("up/down")
    (None, "it names a file, which cannot have '/' in its name")
    """
    for character in ("/", "\0"):
        if character in class_name:
            return f"it names a file, which cannot have {character!r} in its name"
    if class_name in ("", ".", ".."):
        return "it names a folder, which cannot be called so"
    if len(f"{class_name}{_ENDING}".encode()) > _LONGEST:
        return f"it names a file, whose name may have {_LONGEST} bytes"
    return None


def _group_pictures(data: ExportData) -> dict[tuple[str, str], Integers]:
    """Return the rows of the pictures of each part of the split and class, also of those without pictures."""
    groups: dict[tuple[str, str], Integers] = dict.fromkeys(
        itertools.product(data.splits, data.classes), np.empty(0, np.int64)
    )
    found: dict[Any, Any] = data.images.groupby(["split", "class_name"], sort=False).indices
    groups.update(found)
    return groups


def _make_records(data: ExportData, rows: Integers) -> dict[str, dict[str, Any]]:
    columns = ["name", "video_name", "width", "height", "frame_path", "frame_id"]
    images = data.images.iloc[rows]
    found = zip(_list_objects(data, rows), *(images[name].tolist() for name in columns), strict=True)
    return {
        name: {
            "detectime": True,  # so that `labels.hagrid` takes the names of classes as they are
            "bboxes": boxes,
            "labels": labels,
            "user_id": video_name,
            "width": width,
            "height": height,
            "frame_path": frame_path,
            "frame_id": frame_id,
        }
        for (boxes, labels), name, video_name, width, height, frame_path, frame_id in found
    }


def _list_objects(data: ExportData, rows: Integers) -> Iterator[tuple[list[list[float]], list[str]]]:
    """Yield the boxes, as fractions, and the classes of each picture."""
    image = data.objects["image"].to_numpy(np.int64)
    starts, ends = np.searchsorted(image, rows), np.searchsorted(image, rows, side="right")
    within = np.repeat(np.cumsum(ends - starts) - (ends - starts), ends - starts)
    chosen = np.arange(len(within)) - within + np.repeat(starts, ends - starts)
    objects = data.objects.iloc[chosen]
    sizes = data.images[["width", "height"]].to_numpy(np.float64)[image[chosen]]
    corners = objects[list(CORNERS)].to_numpy(np.float64) / np.tile(sizes, 2)
    boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).round(_DIGITS).tolist()
    labels = objects["class_name"].tolist()
    start = 0
    for count in (ends - starts).tolist():
        yield boxes[start : start + count], labels[start : start + count]
        start += count


def _name_picture(row: Mapping[str, Any]) -> str:
    return f"{PICTURES}/{row['class_name']}/{row['name']}"


FORMAT = Format(
    name="hagrid",
    title="HaGRID's annotations, which detectime reads too: a JSON file per class.",
    box="hand",
    images="frames",
    accepted_images=("frames", "none"),
    write=write_hagrid,
    name_picture=_name_picture,
    find_fault=find_fault,
)
