"""The tables of a run that are DataFrames, as Parquet files: written whole, with what is known of them beside."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from detectime.notes import notes_from_json, notes_to_json
from detectime.schema import FRAMES_FILE, OUTCOMES_FILE, DamagedTableError, TableVersionError
from detectime.storage.store import Store

ROWS_PER_GROUP = 65_536
"""Rows that are handled together."""

_FRAMES_VERSION = 1
_OUTCOMES_VERSION = 1
_OUTCOMES_CSV = "outcomes.csv"
_BBOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_NAME, _VERSION, _ABOUT = b"detectime.table", b"detectime.version", b"detectime.about"


def write_frames(store: Store, table: pd.DataFrame) -> None:
    """Write the frame table of a run, with its ``attrs``; raises as `write_table`."""
    about = {str(key): value for key, value in table.attrs.items() if key != "notes"}
    about["notes"] = notes_to_json(table.attrs.get("notes", ()))
    write_table(store, FRAMES_FILE, table, _FRAMES_VERSION, about)


def read_frames(store: Store) -> pd.DataFrame | None:
    """Read the frame table of a run, ``attrs`` and all; None if it has none. Raises as `read_table`.

    A damaged file is no loss while ``outcomes.csv`` is there, which has the same rows.
    """
    try:
        found = read_table(store, FRAMES_FILE, _FRAMES_VERSION)
    except DamagedTableError:
        old = read_old_frames(store)
        if old is None:
            raise
        return old
    if found is None:
        return read_old_frames(store)
    table, about = found
    table.attrs.update(about)
    table.attrs["notes"] = notes_from_json(about.get("notes", ()))
    return table


def read_old_frames(store: Store) -> pd.DataFrame | None:
    """Take the frame table out of an ``outcomes.csv``, as runs of 0.2 have no other; None if there is none."""
    rows = read_outcomes_csv(store)
    return None if rows is None else rows.iloc[:, : rows.columns.get_loc("outcome")]  # what follows is of pairing


def read_outcomes_csv(store: Store) -> pd.DataFrame | None:
    """Read an ``outcomes.csv`` of any version; None if there is none.

    Returns
    -------
    DataFrame
        Columns of the frame table in their types, `bbox_x1` … `bbox_y2` as float64, all others as text.

    Raises
    ------
    TableVersionError
        If it is no table of outcomes.
    """
    content = store.get(_OUTCOMES_CSV)
    if content is None:
        return None
    try:
        rows = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, na_filter=False)
        numbers = {name: rows[name].astype("int64") for name in ("frame_id", "label")}
        flags = {name: rows[name] == "True" for name in ("on_disk", "wanted")}
        corners = {name: pd.to_numeric(rows[name], errors="coerce") for name in _BBOX}
        rows["outcome"]
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise TableVersionError(f"{store}/{_OUTCOMES_CSV}: this is no table of outcomes ({error})") from error
    table = rows.assign(**numbers, **flags, **corners)
    table.attrs = {}
    return table


def write_outcomes(store: Store, samples: pd.DataFrame) -> None:
    """Write what became of each row of the frame table; raises as `write_table`."""
    write_table(store, OUTCOMES_FILE, samples, _OUTCOMES_VERSION)


def read_outcomes(store: Store) -> pd.DataFrame | None:
    """Read what `write_outcomes` wrote; None if there is no such file. Raises as `read_table`."""
    found = read_table(store, OUTCOMES_FILE, _OUTCOMES_VERSION)
    return None if found is None else found[0]


def write_table(
    store: Store, file_name: str, frame: pd.DataFrame, version: int, about: Mapping[str, Any] | None = None
) -> None:
    """Write a DataFrame as a Parquet file, whole or not at all.

    Parameters
    ----------
    store, file_name
        Where it is written; the name without its ending is recorded as the kind of table.
    frame
        Its columns must have text as names. Values of a column that are not of one kind are written as text.
    version
        Of this kind of table.
    about
        What is known of it, as plain values.

    Raises
    ------
    StoreError
        If the file cannot be written; what was there before is still there then.
    """
    metadata = {
        _NAME: file_name.removesuffix(".parquet").encode(),
        _VERSION: str(version).encode(),
        _ABOUT: json.dumps(about or {}).encode(),
    }
    schema = pa.schema([pa.field(str(name), _find_type(frame[name])) for name in frame.columns], metadata)
    with (
        store.writing(file_name) as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for first in range(0, len(frame), ROWS_PER_GROUP):  # what Arrow makes of a million rows is not needed at once
            piece = frame.iloc[first : first + ROWS_PER_GROUP]
            columns = [_to_arrow(piece[name], kind) for name, kind in zip(frame.columns, schema.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROWS_PER_GROUP)


def read_table(store: Store, file_name: str, version: int) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Read what `write_table` wrote: the DataFrame, and what was known of it; None if there is no such file.

    Raises
    ------
    TableVersionError
        If it is no table of this kind, is damaged, or was made by a newer detectime.
    StoreError
        If it cannot be read.
    """
    content = store.get(file_name)
    if content is None:
        return None
    try:
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DamagedTableError(
            f"{store}/{file_name}: damaged ({error}); run again, and it is written again"
        ) from error
    metadata = table.schema.metadata or {}
    if metadata.get(_NAME) != file_name.removesuffix(".parquet").encode():
        raise DamagedTableError(f"{store}/{file_name}: this is no table of a run; run again, and it is written again")
    if int(metadata[_VERSION]) > version:
        raise TableVersionError(
            f"{store}/{file_name}: made by a newer detectime (version {int(metadata[_VERSION])}, this one reads up to "
            f"{version}); install that version"
        )
    about: dict[str, Any] = json.loads(metadata[_ABOUT])
    return table.replace_schema_metadata().to_pandas(), about


def _find_type(column: pd.Series) -> pa.DataType:
    """Return the type that a column is written with: text where its values are of several kinds."""
    if isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype):
        return pa.string()
    try:
        return pa.array(column, from_pandas=True).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _to_arrow(column: pd.Series, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("str")
    elif pa.types.is_string(kind) and not isinstance(column.dtype, pd.StringDtype):
        column = column.map(str, na_action="ignore")
    return pa.array(column, kind, from_pandas=True)
