"""``samples.csv``: what is exported as one table, for spreadsheets and scripts. Every export has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from detectime.exports.contract import ExportData, ExportError, Format, join_path
from detectime.schema import CORNERS
from detectime.storage.store import Store

FILE_NAME = "samples.csv"
"""Name of the file in the folder of an export."""

_TYPES = {
    "file": pa.string(),
    "name": pa.string(),
    "frame_path": pa.string(),
    "video_name": pa.string(),
    "frame_id": pa.int64(),
    "class_name": pa.string(),
    "label": pa.int64(),
    "split": pa.string(),
    **dict.fromkeys(CORNERS, pa.float64()),
    "width": pa.int64(),
    "height": pa.int64(),
    **{f"crop_{corner}": pa.int64() for corner in CORNERS},
    "score": pa.float64(),
    "kind": pa.string(),
    "content": pa.string(),
    "decision": pa.string(),
}
"""The columns of the file, in their order."""

_OF_OBJECTS = ("class_name", "label", *CORNERS, "score", "kind")
"""Columns that are empty where a picture has no box."""

_LARGEST_ROW = 2**26  # bytes; a row must fit into one block of the reader


def write_samples_csv(data: ExportData, store: Store) -> None:
    """Write ``samples.csv``: one row per box, and one for each picture without a box.

    Parameters
    ----------
    data
        What is exported.
    store
        The folder of the export. The file is CSV in UTF-8. Text is quoted and numbers are not; boxes have all digits,
        in pixels of the frame. `class_name`, `label`, the box, `score` and `kind` are empty where a picture has no box,
        `score` also where a person drew the box.

    Raises
    ------
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> frame = {"file": "v/1.jpg", "name": "v-1", "frame_path": "v/1.jpg", "video_name": "v", "frame_id": 1}
    >>> size = {"width": 640, "height": 480, "crop_x1": 0, "crop_y1": 0, "crop_x2": 640, "crop_y2": 480}
    >>> box = {"class_name": "ok", "x1": 0.5, "y1": 1.25, "x2": 20.0, "y2": 30.0, "score": 0.75, "kind": "sample"}
    >>> images = pd.DataFrame([{**frame, **size, "split": "train", "content": "9-af", "decision": ""}])
    >>> data = ExportData(images, pd.DataFrame([{"image": 0, **box}]), ("ok",), {"ok": 4}, ("train",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_samples_csv(data, open_store(folder))
    ...     print(open(f"{folder}/samples.csv").readlines()[1], end="")
    "v/1.jpg","v-1","v/1.jpg","v",1,"ok",4,"train",0.5,1.25,20,30,640,480,0,0,640,480,0.75,"sample","9-af",""
    """
    table = _make_table(data)
    with store.writing(FILE_NAME) as file:
        csv.write_csv(table, file)


def read_samples_csv(store: Store) -> pd.DataFrame:
    """Read the ``samples.csv`` of an export.

    Parameters
    ----------
    store
        The folder of the export.

    Returns
    -------
    DataFrame
        One row per box, and one for each picture without a box, with the columns of the file. Text is exactly what was
        exported: ``NA``, ``007`` and line breaks stay as they are. `label` is Int64, null where there is no box; the
        box and `score` are float64, NaN where there is none; `frame_id`, the size and the crop are int64.

    Raises
    ------
    ExportError
        If the folder has no such file, or it is not as it was written.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> images = pd.DataFrame({name: [] for name in _TYPES})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_samples_csv(ExportData(images, images.assign(image=[]), ("ok",), {"ok": 4}), store)
    ...     len(read_samples_csv(store))
    0
    """
    file = store.open(FILE_NAME)
    if file is None:
        raise ExportError(f"{store}/{FILE_NAME}: there is no such file; export again, or give the folder of an export")
    with file:
        try:
            table = _read_table(file)
        except (pa.ArrowInvalid, KeyError) as error:
            raise ExportError(
                f"{store}/{FILE_NAME}: not as detectime wrote it, perhaps saved by a spreadsheet: {error}; export again"
            ) from error
    return _to_pandas(table)


def _make_table(data: ExportData) -> pa.Table:
    """Return the rows of the file."""
    image, found = _join_rows(data)
    images, objects = data.images, data.objects
    numbers = objects["class_name"].map(dict(data.numbers))
    columns = []
    for name, kind in _TYPES.items():
        if name in _OF_OBJECTS:
            values = pa.array(numbers if name == "label" else objects[name], kind, from_pandas=True).take(found)
            columns.append(values.fill_null("") if kind == pa.string() else values)
        else:
            columns.append(pa.array(images[name], kind).take(image))
    return pa.table(columns, schema=pa.schema(_TYPES.items()))


def _join_rows(data: ExportData) -> tuple[pa.Array, pa.Array]:
    """Return, for each row of the file, the row of its picture and of its box, which is null if there is none."""
    of_box = data.objects["image"].to_numpy(np.int64)
    without = np.setdiff1d(np.arange(len(data.images)), of_box)
    image = np.concatenate([of_box, without])
    box = np.concatenate([np.arange(len(of_box)), np.full(len(without), -1)])
    order = np.argsort(image, kind="stable")
    image, box = image[order], box[order]
    return pa.array(image, pa.int64()), pa.array(box, pa.int64(), mask=box < 0)


def _read_table(file: Any) -> pa.Table:
    """Read the file; every column must be there."""
    table = csv.read_csv(
        file,
        read_options=csv.ReadOptions(block_size=_LARGEST_ROW),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=_TYPES, strings_can_be_null=False, null_values=[""]),
    )
    return table.select(list(_TYPES))


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    rows: pd.DataFrame = table.drop_columns(["label"]).to_pandas()
    rows.insert(list(_TYPES).index("label"), "label", pd.array(table["label"].to_pylist(), "Int64"))
    return rows


def _name_picture(row: Mapping[str, Any]) -> str:
    return join_path("images", row["split"], row["name"])


FORMAT = Format(
    name="csv",
    title="samples.csv, a table with one row per box, for spreadsheets and scripts.",
    box="hand",
    images="none",
    accepted_images=("none", "crops", "frames"),
    write=write_samples_csv,
    name_picture=_name_picture,
)
