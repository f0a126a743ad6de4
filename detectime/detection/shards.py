"""The results of a run in its folder: shards while it works, one ``detections.parquet`` in the end.

A shard itself says which frames it holds. If several files hold a frame the latest counts: ``detections.parquet`` is
the oldest, the shards follow by number.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectime.boxes import Integers
from detectime.schema import (
    CORNERS,
    DETECTION_OUTCOMES,
    DETECTIONS,
    DETECTIONS_FILE,
    PAIRING_COLUMNS,
    REPLACED,
    DamagedTableError,
    TableVersionError,
    get_table_version,
    upgrade_table,
)
from detectime.storage.run_tables import ROWS_PER_GROUP
from detectime.storage.store import Store, find_free_name, rename_to_free_name

SHARDS = "shards"
"""Folder of the shards in the folder of a run."""

_DIGITS = 9  # of a shard's number, so that names sort as numbers do
_SHARD_NAME = re.compile(rf"{SHARDS}/(\d{{{_DIGITS}}})\.parquet")
_NAME_COLUMNS = [f"{boxes}.list.element.{name}" for boxes in ("faces", "hands") for name in ("detector", "stage")]
_PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "write_page_checksum": True,
    "use_dictionary": ["outcome", "error", *_NAME_COLUMNS],  # numbers and frame paths hardly repeat
}
_INDEX_COLUMNS = ("frame_path", "stamp", "content", "outcome")
_MAX_SMALL_TABLES = 500  # small tables take several times the memory of a combined one


class DamagedError(Exception):
    """A file of results that cannot be read whole.

    Parameters
    ----------
    name
        The file in the folder of the run.
    reason
        Why it cannot be read.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: damaged ({reason})")
        self.name = name


@dataclass(frozen=True)
class _RowGroup:
    """A row group of a file."""

    file: str
    number: int
    rows: int


class Results:
    """All rows of a run. A few columns are in memory; the others are read when they are needed.

    Attributes
    ----------
    index
        Table of `frame_path`, `stamp`, `content` and `outcome`, in the order in which rows were saved. A frame may have
        several rows, of which the last counts.
    is_compact
        Whether ``detections.parquet``, in this version's schema, is the only file.
    """

    def __init__(self, store: Store) -> None:
        """Read the index of all files.

        Raises
        ------
        DamagedError
            If a file cannot be read.
        TableVersionError
            If a file is not a detections table, or was made by a newer detectime.
        StoreError
            If a file cannot be reached.
        """
        self._store = store
        self._row_groups: list[_RowGroup] = []
        self._replaced: bytes | None = None
        self.is_compact = True
        tables: list[pa.Table] = []
        small: list[pa.Table] = []
        for name, content in self._read_files():
            self.is_compact &= name == DETECTIONS_FILE
            with _arrow_errors_as_damage(name):
                file = _open_parquet(store, name, content)
                self.is_compact &= file.schema_arrow.equals(DETECTIONS)
                if name == DETECTIONS_FILE:
                    self._replaced = _find_replaced(file.schema_arrow, store)
                # All columns are read, though few are kept, so that damage shows before work starts.
                for number in range(file.num_row_groups):
                    rows = file.read_row_group(number, use_threads=False)
                    self._row_groups.append(_RowGroup(name, number, len(rows)))
                    small.append(_select_index_columns(rows))
            if sum(map(len, small)) >= ROWS_PER_GROUP or len(small) >= _MAX_SMALL_TABLES:
                tables.append(pa.concat_tables(small).combine_chunks())
                small = []
        empty = DETECTIONS.empty_table().select(_INDEX_COLUMNS).replace_schema_metadata()
        self.index = pa.concat_tables([*tables, *small, empty]).combine_chunks()

    def __len__(self) -> int:
        return len(self.index)

    def _read_files(self) -> Iterator[tuple[str, BinaryIO]]:
        """Yield the files of results, the oldest first. Shards are small and read whole."""
        compact = self._store.open(DETECTIONS_FILE)
        if compact is not None:
            yield DETECTIONS_FILE, compact
        for name, content in self._store.contents(list_shards(self._store)):
            if content is not None:
                yield name, io.BytesIO(content)

    def find_rows(self, frame_paths: pa.Array) -> Integers:
        """Return the row of the index that counts for each frame, int64; -1 where there is none."""
        names = self.index["frame_path"]
        backwards = names.take(pa.array(np.arange(len(names))[::-1])) if len(names) else names
        found = pc.index_in(frame_paths, value_set=backwards).fill_null(len(names)).to_numpy(zero_copy_only=False)
        rows: Integers = len(names) - 1 - found.astype(np.int64)
        return rows

    def compact(self, frame_paths: pa.Array, stamps: pa.Array, contents: pa.Array | None = None) -> None:
        """Write all rows to ``detections.parquet``, one per frame, and delete the shards.

        Parameters
        ----------
        frame_paths
            Of the frame table: its frames come first, in its order; others follow by name.
        stamps
            The new stamp of each of these frames; null: the row keeps its own.
        contents
            The same for `content`.

        Raises
        ------
        DamagedError, StoreError
            If a file cannot be read or written.
        """
        names = self.index["frame_path"]
        positions = _find_positions(names, frame_paths)
        order = _order_rows(positions, names, len(frame_paths))
        old_shards = list_shards(self._store)
        with (
            self._store.writing(DETECTIONS_FILE) as file,
            pq.ParquetWriter(file, self._make_schema(), **_PARQUET_OPTIONS) as writer,
        ):
            for rows, table in self._read_in_order(order):
                table = _update_column(table, "stamp", positions[rows], stamps)
                if contents is not None:
                    table = _update_column(table, "content", positions[rows], contents)
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        self._store.delete(old_shards)  # a run that is killed here finds each row twice, with equal values

    def _make_schema(self) -> pa.Schema:
        """Return the schema of a new file; its metadata keeps the hash of a file of 0.2 that it replaces.

        Runs of 0.2 whose faces come from that file are bound to its bytes.
        """
        if self._replaced is None:
            return DETECTIONS
        return DETECTIONS.with_metadata({**DETECTIONS.metadata, REPLACED: self._replaced})

    def _read_in_order(self, order: Integers) -> Iterator[tuple[Integers, pa.Table]]:
        """Yield rows of the index in batches, each with all columns.

        A row group is read when its first row is needed and dropped after its last: rows were saved nearly in order, so
        few row groups are in memory at a time.
        """
        ends = np.cumsum([group.rows for group in self._row_groups], dtype=np.int64)
        starts = ends - [group.rows for group in self._row_groups]
        owner = np.searchsorted(ends, order, side="right")
        last_use = dict(zip(owner.tolist(), range(len(order)), strict=True))
        groups: dict[int, pa.Table] = {}
        files: dict[str, pq.ParquetFile] = {}
        for first in range(0, len(order), ROWS_PER_GROUP):
            rows, owners = order[first : first + ROWS_PER_GROUP], owner[first : first + ROWS_PER_GROUP]
            taken, positions = [], []
            for k in np.unique(owners).tolist():
                if k not in groups:
                    groups[k] = self._read_row_group(self._row_groups[k], files)
                own = np.flatnonzero(owners == k)
                taken.append(groups[k].take(pa.array(rows[own] - starts[k])))
                positions.append(own)
                if last_use[k] < first + ROWS_PER_GROUP:
                    del groups[k]
            batch = pa.concat_tables(taken).take(pa.array(np.argsort(np.concatenate(positions))))
            yield rows, batch.combine_chunks()

    def _read_row_group(self, group: _RowGroup, files: dict[str, pq.ParquetFile]) -> pa.Table:
        with _arrow_errors_as_damage(group.file):
            if group.file != DETECTIONS_FILE:
                file = _open_parquet(self._store, group.file)
                return upgrade_table(file.read_row_group(group.number, use_threads=False))
            if group.file not in files:
                files[group.file] = _open_parquet(self._store, group.file)
            return upgrade_table(files[group.file].read_row_group(group.number, use_threads=False))


def read_detections(store: Store, columns: Sequence[str] | None = PAIRING_COLUMNS) -> pa.Table:
    """Read ``detections.parquet``.

    Parameters
    ----------
    store
        Of a finished run.
    columns
        The columns to read; None: all. A million rows of all columns are most of a gigabyte.

    Returns
    -------
    Table
        These columns in the schema `schema.DETECTIONS`, whatever version made the file; empty if there is no file.

    Raises
    ------
    DamagedError
        If the file cannot be read.
    TableVersionError
        If it is not a detections table, was made by a newer detectime, or has values that no detector returns.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.storage.store import open_store
    >>> read_detections(open_store(paths.SAMPLE, reading=True), ["frame_path", "outcome"]).shape  # there is no run
    (0, 2)
    """
    wanted = DETECTIONS.names if columns is None else list(columns)
    schema = pa.schema([DETECTIONS.field(name) for name in wanted], metadata=DETECTIONS.metadata)
    content = store.open(DETECTIONS_FILE)
    if content is None:
        return schema.empty_table()
    with content, _arrow_errors_as_damage(DETECTIONS_FILE):
        file = _open_parquet(store, DETECTIONS_FILE, content)
        is_current = file.schema_arrow.equals(DETECTIONS)
        tables = []
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, columns=wanted if is_current else None, use_threads=False)
            rows = (rows if is_current else upgrade_table(rows)).select(wanted)
            _check_values(rows, f"{store}/{DETECTIONS_FILE}")
            tables.append(rows.replace_schema_metadata())
    empty = schema.remove_metadata().empty_table()
    return pa.concat_tables([*tables, empty]).replace_schema_metadata(schema.metadata)


def _check_values(rows: pa.Table, place: str) -> None:
    """Refuse values that no detector returns, as of a file that another program wrote."""
    faults = []
    if "outcome" in rows.column_names:
        known = pa.array(DETECTION_OUTCOMES, pa.string())
        faults.append(("outcome", pc.invert(pc.is_in(rows["outcome"], value_set=known))))
        is_ok = pc.equal(rows["outcome"], "ok")
        for side in ("width", "height"):
            if side in rows.column_names:
                is_size = pc.fill_null(pc.greater(rows[side], 0), False)
                faults.append((side, pc.and_(is_ok, pc.invert(is_size))))
    for name in ("faces", "hands"):
        if name in rows.column_names:
            boxes = rows[name].combine_chunks().flatten()
            numbers = {f"{name}.{field}": boxes.field(field) for field in (*CORNERS, "score")}
            faults += [(field, pc.invert(pc.fill_null(pc.is_finite(found), False))) for field, found in numbers.items()]
    for name, is_wrong in faults:
        if pc.any(is_wrong, min_count=0).as_py():
            raise DamagedTableError(
                f"{place}: damaged (a value of {name} is none that detection writes); put back the file that the run "
                "wrote, or move this one elsewhere and run again"
            )


def sort_detections(detections: pa.Table, frame_paths: pa.Array) -> pa.Table:
    """Sort detections, one row per frame, into the order of a frame table; other frames follow by name.

    Examples
    --------
    >>> sort_detections(pa.table({"frame_path": ["c", "b", "a"]}), pa.array(["b", "c"]))["frame_path"].to_pylist()
    ['b', 'c', 'a']
    """
    names = detections["frame_path"]
    order = _order_rows(_find_positions(names, frame_paths), names, len(frame_paths))
    return detections if np.array_equal(order, np.arange(len(order))) else detections.take(pa.array(order))


def set_stamps(table: pa.Table, stamps: pa.Array) -> pa.Table:
    """Set the column `stamp` of a worker's rows, and the metadata of the table's version.

    Examples
    --------
    >>> set_stamps(DETECTIONS.empty_table(), pa.array([], pa.string())).schema.equals(DETECTIONS)
    True
    """
    position = DETECTIONS.get_field_index("stamp")
    stamped = table.set_column(position, DETECTIONS.field(position), stamps)
    return stamped.replace_schema_metadata(DETECTIONS.metadata)


def save_shard(store: Store, number: int, table: pa.Table) -> None:
    """Write a shard: rows in the schema `schema.DETECTIONS`.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     save_shard(store, 7, DETECTIONS.empty_table())
    ...     list_shards(store), find_last_shard_number(store)
    (['shards/000000007.parquet'], 7)
    """
    with store.writing(f"{SHARDS}/{number:0{_DIGITS}d}.parquet") as file:
        pq.write_table(table, file, row_group_size=ROWS_PER_GROUP, **_PARQUET_OPTIONS)


def list_shards(store: Store) -> list[str]:
    """Return the names of the shards, in the order in which they were saved.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.storage.store import open_store
    >>> list_shards(open_store(paths.SAMPLE, reading=True))
    []
    """
    return [name for name in store.names(SHARDS) if _SHARD_NAME.fullmatch(name)]


def find_last_shard_number(store: Store) -> int:
    """Return the number of the shard that was saved last; 0 if there is none.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.storage.store import open_store
    >>> find_last_shard_number(open_store(paths.SAMPLE, reading=True))
    0
    """
    names = list_shards(store)
    return int(_SHARD_NAME.sub(r"\1", names[-1])) if names else 0


def set_aside_damaged(store: Store, name: str) -> tuple[str, int]:
    """Keep a damaged file under another name, and put what can still be read of it in its place.

    So its rows keep their age, and a kill at any moment leaves the damaged file in place, or a copy beside it.

    Returns
    -------
    str, int
        The new name of the damaged file, and how many of its rows could be saved.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put(DETECTIONS_FILE, b"not a Parquet file")
    ...     set_aside_damaged(store, DETECTIONS_FILE)
    ('detections.parquet.damaged', 0)
    """
    rescued: list[pa.Table] = []
    with contextlib.suppress(pa.ArrowException, OSError, UnicodeDecodeError, TableVersionError):
        file = _open_parquet(store, name)
        for number in range(file.num_row_groups):
            rows = _read_undamaged_columns(file, number)
            if rows is not None:
                rescued.append(rows)
    if not rescued:
        return rename_to_free_name(store, name, f"{name}.damaged"), 0
    kept = find_free_name(store, f"{name}.damaged")
    damaged = store.open(name)
    if damaged is not None:
        with damaged, store.writing(kept) as copy:
            shutil.copyfileobj(damaged, copy)
    with store.writing(name) as target:
        pq.write_table(pa.concat_tables(rescued), target, row_group_size=ROWS_PER_GROUP, **_PARQUET_OPTIONS)
    return kept, sum(map(len, rescued))


def _read_undamaged_columns(file: pq.ParquetFile, number: int) -> pa.Table | None:
    """Read the columns of a row group that can be read; None if one that pairing needs cannot."""
    undamaged = []
    for name in file.schema_arrow.names:
        with contextlib.suppress(pa.ArrowException, OSError, UnicodeDecodeError):
            file.read_row_group(number, columns=[name], use_threads=False)
            undamaged.append(name)
    if not set(PAIRING_COLUMNS) - {"orientation", "content"} <= set(undamaged):
        return None
    return upgrade_table(file.read_row_group(number, columns=undamaged, use_threads=False))


@contextlib.contextmanager
def _arrow_errors_as_damage(name: str) -> Iterator[None]:
    """Turn errors of reading a file into `DamagedError`."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedError(name, str(error)) from error


def _open_parquet(store: Store, name: str, content: BinaryIO | None = None) -> pq.ParquetFile:
    """Open a detections table of any version that this one reads."""
    if content is None:
        content = store.open(name)
    if content is None:
        raise FileNotFoundError(f"{store}/{name}: not there")
    file = pq.ParquetFile(content, page_checksum_verification=True)
    if get_table_version(file.schema_arrow, f"{store}/{name}") is None:
        raise TableVersionError(
            f"{store}/{name}: this is not a detections table; give another `output`, or move the file elsewhere"
        )
    return file


def _select_index_columns(rows: pa.Table) -> pa.Table:
    """Return the columns of the index, null where the file's version did not have them."""
    fields = [DETECTIONS.field(name) for name in _INDEX_COLUMNS]
    columns = [
        rows[field.name] if field.name in rows.column_names else pa.nulls(len(rows), field.type) for field in fields
    ]
    return pa.table(columns, schema=pa.schema(fields))


def _find_positions(names: pa.ChunkedArray, frame_paths: pa.Array) -> Integers:
    """Return the position of each name among the frames of a table, int32; their number where it is none of them."""
    positions = pc.index_in(names, value_set=frame_paths).fill_null(len(frame_paths))
    return np.asarray(positions.to_numpy(zero_copy_only=False))


def _order_rows(positions: Integers, names: pa.ChunkedArray, outside: int) -> Integers:
    """Order rows by position, those at `outside` by name; of several rows of one frame only the last is kept."""
    if (positions == outside).any():
        keys = pa.table({"position": positions, "name": names})
        order = pc.sort_indices(keys, [("position", "ascending"), ("name", "ascending")]).to_numpy().astype(np.int64)
    else:
        order = np.argsort(positions, kind="stable")
    is_repeated = positions[order[1:]] == positions[order[:-1]]
    beyond = int(np.searchsorted(positions[order], outside))  # from here on rows of one position are of many frames
    others = names.take(pa.array(order[beyond:])).combine_chunks()
    is_repeated[beyond:] = pc.equal(others[1:], others[:-1]).to_numpy(zero_copy_only=False)
    kept: Integers = order[np.append(~is_repeated, True)[: len(order)]]
    return kept


def _update_column(table: pa.Table, name: str, positions: Integers, values: pa.Array) -> pa.Table:
    """Give rows the new value of their frame, where there is one."""
    known = np.where(positions < len(values), positions, -1)
    new = values.take(pa.array(known, mask=known < 0))
    column = DETECTIONS.get_field_index(name)
    return table.set_column(column, DETECTIONS.field(column), pc.coalesce(new, table[name]))


def _find_replaced(schema: pa.Schema, store: Store) -> bytes | None:
    """Return the sha256 of the file of 0.2 that this file is, or replaces; None if there was none."""
    if schema.metadata and REPLACED in schema.metadata:
        return bytes(schema.metadata[REPLACED])
    content = store.open(DETECTIONS_FILE) if get_table_version(schema, DETECTIONS_FILE) == 1 else None
    if content is None:
        return None
    with content:
        return hashlib.file_digest(content, "sha256").hexdigest().encode()  # type: ignore[arg-type]
