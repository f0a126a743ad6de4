"""The frame table and the outcomes of a run as Parquet files, and ``outcomes.csv`` of older runs.

A file is written atomically. Its metadata hold the kind of table, the version of its columns, and attributes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from detectime.notes import Note, notes_from_json, notes_to_json
from detectime.schema import (
    CORNERS,
    FRAMES_FILE,
    OUTCOMES_FILE,
    DamagedTableError,
    TableVersionError,
    check_outcomes,
    parse_version,
)
from detectime.storage.store import Store

ROWS_PER_GROUP = 65_536
"""Rows per Parquet row group, and per batch in memory."""

_FRAMES_VERSION = 1
_OUTCOMES_VERSION = 1
_OUTCOMES_CSV = "outcomes.csv"
_BBOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_KIND, _VERSION, _ATTRIBUTES = b"detectime.table", b"detectime.version", b"detectime.about"

TEXT, WHOLE, FLAGS, NUMBERS = "text", "whole numbers", "true or false", "numbers"
"""Kinds of columns: see `read_table`."""

_IS_KIND: dict[str, Callable[[pa.DataType], bool]] = {
    TEXT: lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    WHOLE: pa.types.is_integer,
    FLAGS: pa.types.is_boolean,
    NUMBERS: lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind),
}
FRAME_KINDS = {
    **dict.fromkeys(("frame_path", "video_name", "class_name"), TEXT),
    **dict.fromkeys(("frame_id", "label"), WHOLE),
    "on_disk": FLAGS,
}
"""Columns that every frame table has, and their kinds."""

_BOX_COLUMNS = [f"{box}_{corner}" for box in ("face", "hand", "square", "bbox") for corner in CORNERS]
OUTCOME_KINDS = {
    **FRAME_KINDS,
    "wanted": FLAGS,
    "outcome": TEXT,
    **dict.fromkeys(("width", "height", "faces", "hands", "overlap", "face_score", "hand_score"), NUMBERS),
    **dict.fromkeys(_BOX_COLUMNS, NUMBERS),
}
"""Columns that every outcomes table has, and their kinds."""


def write_frames(store: Store, table: pd.DataFrame) -> None:
    """Write the frame table of a run with its ``attrs``; raises as `write_table`.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> table = pd.DataFrame({"frame_path": ["a/1.jpg"], "video_name": "a", "frame_id": 1, "class_name": "ok"})
    >>> table = table.assign(label=3, on_disk=True, wanted=True)
    >>> table.attrs["labels"] = "train.csv"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_frames(open_store(folder), table)
    ...     read_frames(open_store(folder)).attrs
    {'labels': 'train.csv', 'notes': []}
    """
    attributes = {str(key): value for key, value in table.attrs.items() if key != "notes"}
    attributes["notes"] = notes_to_json(table.attrs.get("notes", ()))
    write_table(store, FRAMES_FILE, table, _FRAMES_VERSION, attributes)


def read_frames(store: Store) -> pd.DataFrame | None:
    """Read the frame table of a run with its ``attrs``, or return None if there is none; raises as `read_table`.

    If the file is missing or damaged, the rows are taken from ``outcomes.csv``, which repeats them.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_frames(open_store(folder)) is None
    True
    """
    try:
        loaded = read_table(store, FRAMES_FILE, _FRAMES_VERSION, FRAME_KINDS)
        if loaded is not None and loaded[0].empty:
            raise DamagedTableError(f"{store}/{FRAMES_FILE}: damaged (it has no rows); run again to rewrite it")
        notes = [] if loaded is None else _read_notes(loaded[1], f"{store}/{FRAMES_FILE}")
    except DamagedTableError:
        old = read_old_frames(store)
        if old is None:
            raise
        return old
    if loaded is None:
        return read_old_frames(store)
    table, attributes = loaded
    table.attrs.update(attributes)
    table.attrs["notes"] = notes
    return table


def _read_notes(attributes: Mapping[str, Any], place: str) -> list[Note]:
    try:
        return notes_from_json(attributes.get("notes", ()))
    except (TypeError, AttributeError) as error:
        raise DamagedTableError(f"{place}: damaged (its notes); run again to rewrite it") from error


def read_old_frames(store: Store) -> pd.DataFrame | None:
    """Return the frame table from ``outcomes.csv``, where 0.2 stored it, or None if there is no such file.

    Raises as `read_outcomes_csv`.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> content = b"frame_path,frame_id,label,on_disk,wanted,outcome,bbox_x1,bbox_y1,bbox_x2,bbox_y2\\n"
    >>> content += b"a/1.jpg,1,3,True,True,paired,10,20,30,40\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put("outcomes.csv", content)
    ...     list(read_old_frames(store))
    ['frame_path', 'frame_id', 'label', 'on_disk', 'wanted']
    """
    rows = read_outcomes_csv(store)
    return None if rows is None else rows.iloc[:, : rows.columns.get_loc("outcome")]  # pairing adds the rest


def read_outcomes_csv(store: Store) -> pd.DataFrame | None:
    """Read an ``outcomes.csv`` of any version, or return None if there is none.

    Returns
    -------
    DataFrame
        `frame_id` and `label` as int64, `on_disk` and `wanted` as bool, `bbox_x1` … `bbox_y2` as numbers in pixels
        (NaN where there is no box), and all other columns as text.

    Raises
    ------
    TableVersionError
        If it is not an outcomes table.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> content = b"frame_path,frame_id,label,on_disk,wanted,outcome,bbox_x1,bbox_y1,bbox_x2,bbox_y2\\n"
    >>> content += b"a/1.jpg,1,3,True,True,paired,10,20,30,40\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put("outcomes.csv", content)
    ...     read_outcomes_csv(store).filter(like="bbox").values.tolist()
    [[10, 20, 30, 40]]
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
        raise TableVersionError(f"{store}/{_OUTCOMES_CSV}: not an outcomes table ({error})") from error
    table = rows.assign(**numbers, **flags, **corners)
    table.attrs = {}
    return table


def write_outcomes(store: Store, samples: pd.DataFrame, pixels: str = "upright") -> None:
    """Write the outcomes table, with one row per row of the frame table; raises as `write_table`.

    The attribute `pixels` says which pixels its boxes are in, ``upright`` or ``stored``.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_outcomes(store, pd.DataFrame({"frame_path": ["a/1.jpg"], "outcome": ["paired"]}))
    ...     store.names(".")
    ['./outcomes.parquet']
    """
    write_table(store, OUTCOMES_FILE, samples, _OUTCOMES_VERSION, {"pixels": pixels})


def read_outcomes(store: Store) -> pd.DataFrame | None:
    """Read the outcomes table, or return None if there is none; raises as `read_table`.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_outcomes(open_store(folder)) is None
    True
    """
    loaded = read_table(store, OUTCOMES_FILE, _OUTCOMES_VERSION, OUTCOME_KINDS)
    if loaded is None:
        return None
    try:
        check_outcomes(loaded[0]["outcome"].unique())
    except ValueError as error:
        raise DamagedTableError(f"{store}/{OUTCOMES_FILE}: {error}; pair the run again to rewrite it") from error
    return loaded[0]


def write_table(
    store: Store, file_name: str, table: pd.DataFrame, version: int, attributes: Mapping[str, Any] | None = None
) -> None:
    """Write a DataFrame as a Parquet file, atomically.

    Parameters
    ----------
    store, file_name
        Where to write it; the name without its ending is stored as the kind of table.
    table
        Column names must be strings. A column with values of several types is written as text.
    version
        Version of this kind of table.
    attributes
        Stored with the table, as JSON.

    Raises
    ------
    StoreError
        If the file cannot be written; an earlier file of that name stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_table(store, "sizes.parquet", pd.DataFrame({"size": [3, "large"]}), 1, {"unit": "MiB"})
    ...     table, attributes = read_table(store, "sizes.parquet", 1)
    >>> table["size"].tolist(), attributes
    (['3', 'large'], {'unit': 'MiB'})
    """
    metadata = {
        _KIND: file_name.removesuffix(".parquet").encode(),
        _VERSION: str(version).encode(),
        _ATTRIBUTES: json.dumps(attributes or {}).encode(),
    }
    schema = pa.schema([pa.field(str(name), _choose_type(table[name])) for name in table.columns], metadata)
    with (
        store.writing(file_name) as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for first in range(0, len(table), ROWS_PER_GROUP):  # bounds the memory of the conversion
            batch = table.iloc[first : first + ROWS_PER_GROUP]
            columns = [_to_arrow(batch[name], kind) for name, kind in zip(table.columns, schema.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROWS_PER_GROUP)


def read_table(
    store: Store, file_name: str, version: int, columns: Mapping[str, str] = MappingProxyType({})
) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Read a file of `write_table`, or return None if it does not exist.

    Parameters
    ----------
    store, file_name
        Where it is; the name without its ending is the expected kind of table.
    version
        Latest version that is accepted.
    columns
        Columns that it must have, and their kinds: `TEXT`, `WHOLE`, `FLAGS`, or `NUMBERS`, which may be missing.

    Returns
    -------
    table, attributes
        As given to `write_table`.

    Raises
    ------
    DamagedTableError
        If it is damaged, or not a table of this kind.
    TableVersionError
        If it was made by a newer detectime.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_table(store, "sizes.parquet", pd.DataFrame({"size": [3, 4]}), 1)
    ...     table, _ = read_table(store, "sizes.parquet", 1)
    >>> table["size"].tolist()
    [3, 4]
    """
    content = store.get(file_name)
    if content is None:
        return None
    try:
        names = pq.read_schema(io.BytesIO(content)).names
        if len(set(names)) < len(names):
            raise DamagedTableError(f"{store}/{file_name}: damaged (a column is there twice); run again to rewrite it")
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedTableError(f"{store}/{file_name}: damaged ({error}); run again to rewrite it") from error
    metadata = table.schema.metadata or {}
    found = parse_version(metadata.get(_VERSION, b""))
    if metadata.get(_KIND) != file_name.removesuffix(".parquet").encode() or found is None:
        raise DamagedTableError(f"{store}/{file_name}: not a table of a run; run again to rewrite it")
    if found > version:
        raise TableVersionError(
            f"{store}/{file_name}: made by a newer detectime (version {found}, this one reads up to {version}); "
            "install that version"
        )
    try:
        attributes = json.loads(metadata.get(_ATTRIBUTES, b""))
        check_columns(table, columns)
        rows = table.replace_schema_metadata().to_pandas()
    except (pa.ArrowException, ValueError) as error:
        raise DamagedTableError(f"{store}/{file_name}: damaged ({error}); run again to rewrite it") from error
    if not isinstance(attributes, dict):
        raise DamagedTableError(f"{store}/{file_name}: damaged (its attributes); run again to rewrite it")
    return rows, attributes


def check_columns(table: pa.Table, columns: Mapping[str, str]) -> None:
    """Refuse a table, or a part of it, that lacks a column or a value, or has a column of another type.

    Parameters
    ----------
    table
        The rows.
    columns
        As for `read_table`.

    Raises
    ------
    ValueError
        If it is refused.

    Examples
    --------
    >>> check_columns(pa.table({"frame_path": ["a.jpg"]}), {"frame_path": TEXT})
    """
    for name, kind in columns.items():
        if name not in table.column_names:
            raise ValueError(f"the column {name} is missing")
        if table.column_names.count(name) > 1:
            raise ValueError(f"the column {name} is there twice")
        found = table.schema.field(name).type
        if not _IS_KIND[kind](found):
            raise ValueError(f"the column {name} is {found}, not {kind}")
        if kind != NUMBERS and table[name].null_count:
            raise ValueError(f"a value of {name} is missing")


def _choose_type(column: pd.Series) -> pa.DataType:
    """Return the type that a column is written with: text if its values have several types."""
    if isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype):
        return pa.string()
    try:
        return pa.array(column, from_pandas=True).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _to_arrow(column: pd.Series, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    elif pa.types.is_string(kind) and not isinstance(column.dtype, pd.StringDtype):
        column = column.map(str, na_action="ignore")
    return pa.array(column, kind, from_pandas=True)
