"""Hugging Face: Parquet files with pictures and typed features, which `datasets` and the hub's viewer read.

The features are stored as the hub stores them, in the metadata of the Parquet schema, so that `datasets` is not needed
to write them. Boxes are COCO's ``[x, y, width, height]`` in pixels of the frame, as in the hub's data sets for object
detection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from detectime.exports.contract import ExportData, ExportHead, Format, Picture, split_folder
from detectime.schema import CORNERS
from detectime.storage.store import Store

NO_SPLIT_NAME = "train"
"""The split of a set that is not split: what `datasets` calls it."""

_PICTURES_PER_GROUP = 100  # rows of a row group: what streaming readers fetch at a time
_ROWS_PER_GROUP = 10_000  # the same without pictures
_OBJECT_COLUMNS = ("index", *CORNERS, "score", "kind")  # of `ExportData.objects`

_Feature = dict[str, Any]
_FACTS: dict[str, pa.DataType] = {
    "video_name": pa.string(),
    "frame_path": pa.string(),
    "frame_id": pa.int64(),
    "width": pa.int64(),
    "height": pa.int64(),
    "decision": pa.string(),
}
"""Columns of `ExportData.images` that are written as they are."""


def name_shard(split: str, index: int, count: int) -> str:
    """Return the path of a file of a part of the split.

    Examples
    --------
    >>> name_shard("val", 0, 12), name_shard("", 3, 4)
    ('data/val-00000-of-00012.parquet', 'data/train-00003-of-00004.parquet')
    """
    return f"data/{split_folder(split, NO_SPLIT_NAME)}-{index:05}-of-{count:05}.parquet"


def find_split_fault(data: ExportData) -> str | None:
    """Say why `datasets` cannot hold a part of the split; None if it can.

    Examples
    --------
    >>> import pandas as pd
    >>> find_split_fault(ExportData(pd.DataFrame(), pd.DataFrame(), (), {}, ("train", "fold-1")))  # doctest: +ELLIPSIS
    "split 'fold-1': `datasets` cannot hold a part of this name; accepted: letters, digits and _, but not 'all'; ..."
    """
    for split in data.splits:
        name = split_folder(split, NO_SPLIT_NAME)
        if name == "all" or not re.fullmatch(r"\w+(\.\w+)*", name):  # `all` stands for every part there
            return (
                f"split {split!r}: `datasets` cannot hold a part of this name; accepted: letters, digits and _, but "
                "not 'all'; rename it in split.csv"
            )
    return None


def write_shard(store: Store, file: str, pictures: Sequence[Picture], head: ExportHead) -> None:
    """Write pictures as a Parquet file; raises `StoreError`.

    Parameters
    ----------
    store, file
        Where to write it.
    pictures
        With `pictures` of `head` ``crops``, each has one object.
    head
        What the classes are.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> row = {"name": "a", "video_name": "v", "frame_path": "v/a.jpg", "frame_id": 1, "width": 64, "height": 48}
    >>> row |= {"class_name": "ok", "crop_x1": 2, "crop_y1": 3, "crop_x2": 12, "crop_y2": 23, "decision": ""}
    >>> box = {"index": 0, "x1": 2.5, "y1": 3.0, "x2": 12.0, "y2": 22.5, "score": 0.75, "kind": "sample"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     head = ExportHead(("ok",), {"ok": 4}, "crops")
    ...     write_shard(open_store(folder), "a.parquet", [Picture(row, [box], b"JPEG", ".jpg")], head)
    ...     (record,) = pq.read_table(f"{folder}/a.parquet").to_pylist()
    >>> record["image"], record["label"], record["bbox"]
    ({'bytes': b'JPEG', 'path': 'a.jpg'}, 0, [2.5, 3.0, 9.5, 19.5])
    """
    features = {"image": {"_type": "Image"}, **list_features(head.classes, head.pictures)}
    schema = _make_schema(features)
    with store.writing(file) as stream, _open_writer(stream, schema) as writer:
        for start in range(0, len(pictures), _PICTURES_PER_GROUP):
            chosen = pictures[start : start + _PICTURES_PER_GROUP]
            encoded = [{"bytes": picture.encoded, "path": picture.row["name"] + picture.suffix} for picture in chosen]
            columns = make_columns(*_make_tables(chosen), head)
            columns["image"] = pa.array(encoded, schema.field("image").type)
            writer.write_table(_order_columns(columns, schema))


def write_tables(data: ExportData, store: Store) -> None:
    """Write the tables, if they are exported without pictures; raises `StoreError`.

    A part of the split without rows has no file: `datasets` would load none of the parts.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> row = {"name": "a", "video_name": "v", "frame_path": "v/a.jpg", "frame_id": 1, "width": 64, "height": 48}
    >>> images = pd.DataFrame([row | {"class_name": "ok", "decision": "", "split": "train"}])
    >>> box = {"image": 0, "index": 0, "x1": 2.5, "y1": 3.0, "x2": 12.0, "y2": 22.5, "score": 0.75, "kind": "sample"}
    >>> data = ExportData(images, pd.DataFrame([box]), ("ok",), {"ok": 4}, ("train", "val"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tables(data, open_store(folder))
    ...     (record,) = pq.read_table(f"{folder}/data/train-00000-of-00001.parquet").to_pylist()
    >>> record["label"], record["objects"]["bbox"]
    (0, [[2.5, 3.0, 9.5, 19.5]])
    """
    head = ExportHead(data.classes, data.numbers, data.pictures)
    for split, part in data.iterate_splits():
        if data.pictures == "none" and len(part.images):
            write_table(store, name_shard(split, 0, 1), make_columns(part.images, part.objects, head), head)


def list_features(classes: Sequence[str], pictures: str) -> dict[str, _Feature]:
    """Return the features of a data set without its pictures, as `datasets` stores them in a Parquet file.

    Lists are called ``Sequence``, which every release of `datasets` reads; ``List`` is not known before 4.0.

    Parameters
    ----------
    classes
        Names of the classes in the order of their numbers.
    pictures
        ``crops``: `bbox` and `score` of the hand, and `crop`, what of the frame the picture shows. Otherwise `objects`,
        a dict of lists with one element per box.

    Examples
    --------
    >>> features = list_features(["ok", "like"], "crops")
    >>> features["label"]
    {'names': ['ok', 'like'], '_type': 'ClassLabel'}
    >>> features["bbox"]
    {'feature': {'dtype': 'float64', '_type': 'Value'}, 'length': 4, '_type': 'Sequence'}
    """
    label = {"names": list(classes), "_type": "ClassLabel"}
    score, box = _make_value("float64"), _make_list(_make_value("float64"), 4)
    facts = {name: _make_value("string" if kind == pa.string() else str(kind)) for name, kind in _FACTS.items()}
    if pictures == "crops":
        return {"label": label, "bbox": box, "score": score, "crop": _make_list(_make_value("int64"), 4), **facts}
    columns = {"bbox": box, "category": label, "area": score, "score": score, "kind": _make_value("string")}
    return {"label": label, "objects": {name: _make_list(column) for name, column in columns.items()}, **facts}


def make_columns(images: pd.DataFrame, objects: pd.DataFrame, head: ExportHead) -> dict[str, pa.Array]:
    """Return the columns of `list_features`, one row per picture.

    Parameters
    ----------
    images, objects
        As in `ExportData`.
    head
        What the classes are.
    """
    boxes = _convert_boxes(objects[list(CORNERS)].to_numpy(np.float64))
    columns = {name: pa.array(images[name], kind, from_pandas=True) for name, kind in _FACTS.items()}
    index = {name: number for number, name in enumerate(head.classes)}
    columns["label"] = pa.array([index[name] for name in images["class_name"]], pa.int64())
    if head.pictures == "crops":
        crops = _convert_boxes(images[[f"crop_{corner}" for corner in CORNERS]].to_numpy(np.int64))
        scores = pa.array(objects["score"].to_numpy(np.float64), from_pandas=True)
        return columns | {"bbox": _list_fours(boxes), "score": scores, "crop": _list_fours(crops)}
    columns["objects"] = _gather_objects(objects, boxes, len(images))
    return columns


def write_table(store: Store, file: str, columns: dict[str, pa.Array], head: ExportHead, **extra: _Feature) -> None:
    """Write columns of `make_columns`, and further ones, as a Parquet file without pictures; raises `StoreError`.

    Parameters
    ----------
    store, file
        Where to write it.
    columns
        One array for each feature.
    head
        What the classes are.
    extra
        Features of the further columns.
    """
    schema = _make_schema({**extra, **list_features(head.classes, head.pictures)})
    with store.writing(file) as stream, _open_writer(stream, schema) as writer:
        writer.write_table(_order_columns(columns, schema), row_group_size=_ROWS_PER_GROUP)


def _make_value(dtype: str) -> _Feature:
    return {"dtype": dtype, "_type": "Value"}


def _make_list(feature: _Feature, length: int = -1) -> _Feature:
    return {"feature": feature, "length": length, "_type": "Sequence"}


def _make_schema(features: dict[str, _Feature]) -> pa.Schema:
    """Return the schema with its features: a feature counts only if it fits the type of its column exactly."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(name, _choose_type(feature)) for name, feature in features.items()], metadata)


def _choose_type(feature: _Feature) -> pa.DataType:
    """Return the Arrow type that `datasets` gives a feature."""
    match feature.get("_type"):
        case "Image":
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        case "ClassLabel":
            return pa.int64()
        case "Value":
            return pa.string() if feature["dtype"] == "string" else pa.type_for_alias(feature["dtype"])
        case "Sequence":
            return pa.list_(_choose_type(feature["feature"]), feature["length"])
        case _:
            return pa.struct([(name, _choose_type(column)) for name, column in feature.items()])


def _open_writer(stream: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a writer of Parquet. Pictures are compressed already, and no two are equal."""
    if "image" not in schema.names:
        return pq.ParquetWriter(stream, schema, compression="zstd")
    texts = [field.name for field in schema if field.type == pa.string()]
    return pq.ParquetWriter(stream, schema, compression="none", use_dictionary=texts, write_statistics=texts)


def _order_columns(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _make_tables(pictures: Sequence[Picture]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `images` and `objects` of some pictures, as in `ExportData`."""
    counts = [len(picture.objects) for picture in pictures]
    rows = [row for picture in pictures for row in picture.objects]
    objects = pd.DataFrame(rows, columns=_OBJECT_COLUMNS)
    images = pd.DataFrame([picture.row for picture in pictures])
    return images, objects.assign(image=np.repeat(np.arange(len(counts)), counts))


def _convert_boxes(corners: NDArray[Any]) -> NDArray[Any]:
    """Return corners as x, y, width and height."""
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


def _list_fours(values: NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 4)


def _gather_objects(objects: pd.DataFrame, boxes: NDArray[np.float64], count: int) -> pa.StructArray:
    """Return a dict of lists for each of `count` pictures, with one element per box."""
    ends = np.cumsum(np.bincount(objects["image"].to_numpy(np.int64), minlength=count))
    starts = pa.array(np.concatenate([[0], ends]), pa.int32())
    columns = {
        "bbox": _list_fours(boxes),
        "category": pa.array(objects["index"].to_numpy(np.int64)),
        "area": pa.array(boxes[:, 2] * boxes[:, 3]),
        "score": pa.array(objects["score"].to_numpy(np.float64), from_pandas=True),
        "kind": pa.array(objects["kind"], pa.string()),
    }
    lists = [pa.ListArray.from_arrays(starts, values) for values in columns.values()]
    return pa.StructArray.from_arrays(lists, list(columns))


FORMAT = Format(
    name="huggingface",
    title="Hugging Face: Parquet files with pictures, for `datasets` and the hub.",
    box="bbox",
    images="crops",
    accepted_images=("crops", "frames", "none"),
    write=write_tables,
    write_shard=write_shard,
    name_shard=name_shard,
    find_data_fault=find_split_fault,
)
