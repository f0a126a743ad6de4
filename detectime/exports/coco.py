"""COCO: ``annotations/instances_<split>.json`` beside ``images/<split>``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from detectime.boxes import Integers
from detectime.exports.contract import ExportData, Format, join_path
from detectime.exports.json_chunks import encode_chunks
from detectime.schema import CORNERS
from detectime.storage.store import Store

_PICTURES = "images"
_CHUNK = 4096  # rows that are encoded at a time


def write_coco(data: ExportData, store: Store) -> None:
    """Write the annotations of each part of the split.

    Parameters
    ----------
    data
        What is exported.
    store
        The folder of the export. `name_file` gives the names of the files.

    Raises
    ------
    StoreError
        If a file cannot be written.
    """
    for split in data.splits:
        with store.writing(name_file(split)) as file:
            file.writelines(encode_instances(data, split))


def name_file(split: str) -> str:
    """Return the path of the annotations of a part of the split.

    Examples
    --------
    >>> name_file("val"), name_file("")
    ('annotations/instances_val.json', 'annotations/instances.json')
    """
    return f"annotations/instances_{split}.json" if split else "annotations/instances.json"


def encode_instances(data: ExportData, split: str) -> Iterator[bytes]:
    """Yield the JSON text of a part of the split, so that memory does not grow with the number of pictures.

    Parameters
    ----------
    data
        What is exported.
    split
        One of its `splits`.

    Yields
    ------
    bytes
        Joined: `images`, with `file_name` relative to the folder of the part, or the `frame_path` without pictures;
        `categories`, numbered from 1 in the order of the classes; and `annotations`, with boxes as x, y, width and
        height in pixels with all digits. The ids of pictures and of annotations differ across the parts too.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = {"file": "a.jpg", "frame_path": "a.jpg", "video_name": "v", "frame_id": 1, "split": ""}
    >>> box = {"image": 0, "index": 0, "x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 22.0, "score": 0.5, "kind": "sample"}
    >>> images, objects = pd.DataFrame([{**frame, "width": 64, "height": 48}]), pd.DataFrame([box])
    >>> made = json.loads(b"".join(encode_instances(ExportData(images, objects, ("ok",), {"ok": 4}), "")))
    >>> made["annotations"][0]["bbox"], made["categories"][0]["name"], made["images"][0]["file_name"]
    ([1.0, 2.0, 10.0, 20.0], 'ok', 'a.jpg')
    """
    in_part = (data.images["split"] == split).to_numpy()
    rows = np.flatnonzero(in_part)
    objects = np.flatnonzero(in_part[data.objects["image"].to_numpy(np.int64)])
    yield f'{{"info":{json.dumps(_describe_set(data))},\n"licenses":[],\n"categories":'.encode()
    yield from encode_chunks([_list_categories(data)], "[]")
    yield b',\n"images":'
    yield from encode_chunks((_list_images(data, chunk) for chunk in _cut(rows)), "[]")
    yield b',\n"annotations":'
    yield from encode_chunks((_list_annotations(data, chunk) for chunk in _cut(objects)), "[]")
    yield b"}\n"


def _cut(rows: Integers) -> Iterator[Integers]:
    return (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))


def _describe_set(data: ExportData) -> dict[str, Any]:
    known = {"version": data.about.get("detectime"), "date_created": data.about.get("finished")}
    found = {key: value for key, value in known.items() if value is not None}
    return {"description": "Hands that show gestures, exported by detectime", **found}


def _list_categories(data: ExportData) -> list[dict[str, Any]]:
    """Return the categories; `number` is the number of the class in the vocabulary."""
    return [
        {"id": position, "name": name, "supercategory": "gesture", "number": data.numbers[name]}
        for position, name in enumerate(data.classes, 1)
    ]


def _list_images(data: ExportData, rows: Integers) -> list[dict[str, Any]]:
    images = data.images.iloc[rows]
    columns = ["file", "width", "height", "frame_path", "video_name", "frame_id", "split"]
    found = zip(rows.tolist(), *(images[name].tolist() for name in columns), strict=True)
    return [
        {
            "id": row + 1,
            "file_name": file.removeprefix(f"{join_path(_PICTURES, split)}/") if data.pictures != "none" else file,
            "width": width,
            "height": height,
            "frame_path": frame_path,
            "video_name": video_name,
            "frame_id": frame_id,
        }
        for row, file, width, height, frame_path, video_name, frame_id, split in found
    ]


def _list_annotations(data: ExportData, rows: Integers) -> list[dict[str, Any]]:
    objects = data.objects.iloc[rows]
    corners = objects[list(CORNERS)].to_numpy(np.float64)
    boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    scores = [None if score != score else score for score in objects["score"].tolist()]  # JSON has no NaN
    found = zip(
        *(rows.tolist(), objects["image"].tolist(), objects["index"].tolist(), boxes.tolist()),
        *((boxes[:, 2] * boxes[:, 3]).tolist(), scores, objects["kind"].tolist()),
        strict=True,
    )
    return [
        {
            "id": row + 1,
            "image_id": image + 1,
            "category_id": index + 1,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "segmentation": [],
            "attributes": {"kind": kind, "score": score},
        }
        for row, image, index, box, area, score, kind in found
    ]


def _name_picture(row: Mapping[str, Any]) -> str:
    return join_path(_PICTURES, row["split"], row["name"])


FORMAT = Format(
    name="coco",
    title="COCO: annotations/instances_<split>.json and images/<split>, for most detectors.",
    box="hand",
    images="frames",
    accepted_images=("frames", "none"),
    write=write_coco,
    name_picture=_name_picture,
)
