"""WebDataset: tar files with pictures, each followed by its class and what is known of it, for streaming."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Sequence
from typing import Any

from detectime.exports.contract import ExportData, ExportHead, Format, Picture, split_folder
from detectime.exports.huggingface import find_split_fault
from detectime.storage.store import Store

NO_SPLIT_NAME = "train"
"""The part that a set that is not split is written as."""

_FACTS = ("class_name", "label", "frame_path", "video_name", "frame_id", "width", "height")
_CROP = ("crop_x1", "crop_y1", "crop_x2", "crop_y2")
_OBJECT = ("class_name", "index", "x1", "y1", "x2", "y2", "score", "kind")


def name_shard(split: str, index: int, count: int) -> str:
    """Return the name of a tar file of a part of the split.

    Examples
    --------
    >>> name_shard("val", 0, 12), name_shard("", 3, 4)
    ('val-000000.tar', 'train-000003.tar')
    """
    return f"{split_folder(split, NO_SPLIT_NAME)}-{index:06}.tar"


def write_shard(store: Store, file: str, pictures: Sequence[Picture], head: ExportHead) -> None:
    """Write pictures as a tar file, one after the other in the given order; raises `StoreError`.

    A picture is three members: ``NAME.jpg`` or ``NAME.png``; ``NAME.cls``, the position of its class in
    ``classes.json``, from 0; ``NAME.json``, its frame, the crop, and its boxes in pixels of the frame.

    Parameters
    ----------
    store, file
        Where to write it.
    pictures
        Their `file` is not used: a member is called after `name`.
    head
        What the classes are.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> row = {"name": "a", "video_name": "v", "frame_path": "v/a.jpg", "frame_id": 1, "width": 64, "height": 48}
    >>> row |= {"class_name": "ok", "label": 4, "decision": "", "crop_x1": 2, "crop_y1": 3, "crop_x2": 9, "crop_y2": 9}
    >>> box = {"class_name": "ok", "index": 0, "x1": 2.5, "y1": 3, "x2": 8.2, "y2": 9, "score": 0.5, "kind": "sample"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     head = ExportHead(("ok",), {"ok": 4}, "crops")
    ...     write_shard(open_store(folder), "a.tar", [Picture(row, [box], b"JPEG", ".jpg")], head)
    ...     with tarfile.open(f"{folder}/a.tar") as tar:
    ...         tar.getnames(), tar.extractfile("a.cls").read()
    (['a.jpg', 'a.cls', 'a.json'], b'0')
    """
    positions = {name: str(number).encode() for number, name in enumerate(head.classes)}
    # Of the three formats of tar, PAX alone is a standard that holds names of more than 100 characters.
    with store.writing(file) as stream, tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for picture in pictures:
            name = picture.row["name"]
            _add_member(tar, f"{name}{picture.suffix}", picture.encoded)
            _add_member(tar, f"{name}.cls", positions[picture.row["class_name"]])
            _add_member(tar, f"{name}.json", _describe_picture(picture))


def write_classes(data: ExportData, store: Store) -> None:
    """Write ``classes.json``, which says what the numbers in ``.cls`` stand for; raises `StoreError`.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from detectime.storage.store import open_store
    >>> data = ExportData(pd.DataFrame(), pd.DataFrame(), ("ok",), {"ok": 4}, pictures="crops")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_classes(data, store)
    ...     json.loads(store.get("classes.json"))
    [{'class_name': 'ok', 'index': 0, 'label': 4}]
    """
    rows = [
        {"class_name": name, "index": index, "label": data.numbers[name]} for index, name in enumerate(data.classes)
    ]
    store.put("classes.json", json.dumps(rows, indent=4).encode())


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file without owner and time: the same pictures give the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _describe_picture(picture: Picture) -> bytes:
    row = picture.row
    facts = {name: row[name] for name in (*_FACTS, *_CROP, "decision")}
    objects = [{name: _drop_nan(box[name]) for name in _OBJECT} for box in picture.objects]
    return json.dumps(facts | {"objects": objects}, allow_nan=False).encode()


def _drop_nan(value: Any) -> Any:
    """Return None instead of NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


FORMAT = Format(
    name="webdataset",
    title="WebDataset: tar files with pictures, their classes and boxes, for streaming.",
    box="bbox",
    images="crops",
    accepted_images=("crops", "frames"),
    write=write_classes,
    write_shard=write_shard,
    name_shard=name_shard,
    find_data_fault=find_split_fault,
)
