"""What a run has found, in its folder: shards while it works, one ``detections.parquet`` in the end.

A shard says itself which frames it holds. Where several files hold a frame the later counts: ``detections.parquet`` is
the oldest, then the shards by number.
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
    DETECTIONS,
    DETECTIONS_FILE,
    PAIRING_COLUMNS,
    REPLACED,
    TableVersionError,
    table_version,
    upgrade_table,
)
from detectime.storage.run_tables import ROWS_PER_GROUP
from detectime.storage.store import Store, find_free_name, rename_to_free_name

SHARDS = "shards"
"""Folder of the shards in the folder of a run."""

_DIGITS = 9  # of a shard's number, so that names sort as numbers do
_SHARD = re.compile(rf"{SHARDS}/(\d{{{_DIGITS}}})\.parquet")
_NAMED = [f"{boxes}.list.element.{name}" for boxes in ("faces", "hands") for name in ("detector", "stage")]
_AS_WRITTEN: dict[str, Any] = {
    "compression": "zstd",
    "write_page_checksum": True,
    "use_dictionary": ["outcome", "error", *_NAMED],  # numbers and names of frames hardly repeat
}
_INDEX = ("frame_path", "stamp", "content", "outcome")


class DamagedError(Exception):
    """A file of results that cannot be read whole.

    Parameters
    ----------
    name
        Of the file in the folder of the run.
    reason
        Why it cannot be read.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: damaged ({reason})")
        self.name = name


@dataclass(frozen=True)
class _Part:
    """A row group of a file."""

    file: str
    group: int
    rows: int


class Results:
    """The rows that a run has, known by a few columns; the others are read when they are needed.

    Attributes
    ----------
    index
        A table of `frame_path`, `stamp`, `content` and `outcome`, in the order in which rows were saved. A frame may
        have several rows, of which the last counts.
    is_compact
        Whether ``detections.parquet``, of this version, is all there is.
    """

    def __init__(self, store: Store) -> None:
        """Read the index of all files.

        Raises
        ------
        DamagedError
            If a file cannot be read.
        TableVersionError
            If a file is no table of detections, or was made by a newer detectime.
        StoreError
            If a file cannot be reached.
        """
        self._store = store
        self._parts: list[_Part] = []
        self._replaced: bytes | None = None
        self.is_compact = True
        pieces: list[pa.Table] = []
        few: list[pa.Table] = []
        for name, content in self._read_files():
            self.is_compact &= name == DETECTIONS_FILE
            with _damage(name):
                file = _open(store, name, content)
                self.is_compact &= file.schema_arrow.equals(DETECTIONS)
                if name == DETECTIONS_FILE:
                    self._replaced = _find_replaced(file.schema_arrow, store)
                # All columns are read, though few are kept: what is wrong with a file shows before work starts.
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group, use_threads=False)
                    self._parts.append(_Part(name, group, len(rows)))
                    few.append(_project(rows))
            if sum(map(len, few)) >= ROWS_PER_GROUP or len(few) >= 500:  # small tables take many times more memory
                pieces.append(pa.concat_tables(few).combine_chunks())
                few = []
        empty = DETECTIONS.empty_table().select(_INDEX).replace_schema_metadata()
        self.index = pa.concat_tables([*pieces, *few, empty]).combine_chunks()

    def __len__(self) -> int:
        return len(self.index)

    def _read_files(self) -> Iterator[tuple[str, BinaryIO]]:
        """Yield the files of results, the oldest first; shards are small, and read whole."""
        compact = self._store.open(DETECTIONS_FILE)
        if compact is not None:
            yield DETECTIONS_FILE, compact
        for name, content in self._store.contents(list_shards(self._store)):
            if content is not None:
                yield name, io.BytesIO(content)

    def find_rows(self, frame_paths: pa.Array) -> Integers:
        """Return the row of the index that counts for each frame, -1 where there is none; int64."""
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
            Of the frame table: its frames come first, in its order; the others follow by name.
        stamps
            For each of these frames the stamp that it has now; null: the row keeps its own.
        contents
            The same for `content`.

        Raises
        ------
        DamagedError, StoreError
            If a file cannot be read or written.
        """
        names = self.index["frame_path"]
        place = _find_places(names, frame_paths)
        order = _order_rows(place, names, len(frame_paths))
        shards = list_shards(self._store)
        with (
            self._store.writing(DETECTIONS_FILE) as file,
            pq.ParquetWriter(file, self._schema(), **_AS_WRITTEN) as writer,
        ):
            for rows, table in self._read_in_order(order):
                table = _renew(table, "stamp", place[rows], stamps)
                if contents is not None:
                    table = _renew(table, "content", place[rows], contents)
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        self._store.delete(shards)  # a run that is killed here finds rows twice, and the same

    def _schema(self) -> pa.Schema:
        """Return the schema of a new file, which tells the hash of a file of 0.2 that it takes the place of.

        Runs of 0.2 whose faces come from that file are bound to its bytes.
        """
        if self._replaced is None:
            return DETECTIONS
        return DETECTIONS.with_metadata({**DETECTIONS.metadata, REPLACED: self._replaced})

    def _read_in_order(self, order: Integers) -> Iterator[tuple[Integers, pa.Table]]:
        """Yield rows of the index, a piece at a time, and these rows with all columns.

        A part is read when the first of its rows is needed, and forgotten after the last: rows were saved nearly in
        order, so that few parts are in memory at a time.
        """
        ends = np.cumsum([part.rows for part in self._parts], dtype=np.int64)
        starts = ends - [part.rows for part in self._parts]
        owner = np.searchsorted(ends, order, side="right")
        last_use = dict(zip(owner.tolist(), range(len(order)), strict=True))
        parts: dict[int, pa.Table] = {}
        files: dict[str, pq.ParquetFile] = {}
        for first in range(0, len(order), ROWS_PER_GROUP):
            rows, owners = order[first : first + ROWS_PER_GROUP], owner[first : first + ROWS_PER_GROUP]
            taken, places = [], []
            for k in np.unique(owners).tolist():
                if k not in parts:
                    parts[k] = self._read_part(self._parts[k], files)
                there = np.flatnonzero(owners == k)
                taken.append(parts[k].take(pa.array(rows[there] - starts[k])))
                places.append(there)
                if last_use[k] < first + ROWS_PER_GROUP:
                    del parts[k]
            yield rows, pa.concat_tables(taken).take(pa.array(np.argsort(np.concatenate(places)))).combine_chunks()

    def _read_part(self, part: _Part, files: dict[str, pq.ParquetFile]) -> pa.Table:
        with _damage(part.file):
            if part.file != DETECTIONS_FILE:
                return upgrade_table(_open(self._store, part.file).read_row_group(part.group, use_threads=False))
            if part.file not in files:
                files[part.file] = _open(self._store, part.file)
            return upgrade_table(files[part.file].read_row_group(part.group, use_threads=False))


def read_detections(store: Store, columns: Sequence[str] | None = PAIRING_COLUMNS) -> pa.Table:
    """Read ``detections.parquet``.

    Parameters
    ----------
    store
        Of a run that is finished.
    columns
        Those that are wanted; None: all. A million rows of all are most of a gigabyte.

    Returns
    -------
    Table
        In the schema of `schema.DETECTIONS`, as far as its columns are wanted, whatever version made the file; empty if
        there is no such file.

    Raises
    ------
    DamagedError
        If the file cannot be read.
    TableVersionError
        If it is no table of detections, or was made by a newer detectime.
    """
    wanted = DETECTIONS.names if columns is None else list(columns)
    schema = pa.schema([DETECTIONS.field(name) for name in wanted], metadata=DETECTIONS.metadata)
    content = store.open(DETECTIONS_FILE)
    if content is None:
        return schema.empty_table()
    with _damage(DETECTIONS_FILE):
        file = _open(store, DETECTIONS_FILE, content)
        is_current = file.schema_arrow.equals(DETECTIONS)
        pieces = []
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=wanted if is_current else None, use_threads=False)
            pieces.append((rows if is_current else upgrade_table(rows)).select(wanted).replace_schema_metadata())
    empty = schema.remove_metadata().empty_table()
    return pa.concat_tables([*pieces, empty]).replace_schema_metadata(schema.metadata)


def sort_detections(detections: pa.Table, frame_paths: pa.Array) -> pa.Table:
    """Bring detections, one row per frame, into the order of a frame table; other frames follow by name."""
    names = detections["frame_path"]
    order = _order_rows(_find_places(names, frame_paths), names, len(frame_paths))
    return detections if np.array_equal(order, np.arange(len(order))) else detections.take(pa.array(order))


def save_shard(store: Store, number: int, table: pa.Table) -> None:
    """Write a shard: rows in the schema `schema.DETECTIONS`."""
    with store.writing(f"{SHARDS}/{number:0{_DIGITS}d}.parquet") as file:
        pq.write_table(table, file, row_group_size=ROWS_PER_GROUP, **_AS_WRITTEN)


def list_shards(store: Store) -> list[str]:
    """Return the names of the shards in the order in which they were saved; what else lies there is somebody else's."""
    return [name for name in store.names(SHARDS) if _SHARD.fullmatch(name)]


def find_last_shard_number(store: Store) -> int:
    """Return the number of the shard that was saved last; 0 if there is none."""
    names = list_shards(store)
    return int(_SHARD.sub(r"\1", names[-1])) if names else 0


def set_aside_damaged(store: Store, name: str) -> tuple[str, int]:
    """Keep a damaged file under another name; what can still be read of it takes its place.

    So the rows keep their age, and a kill at any moment leaves the damaged file where it was, or its copy beside it.

    Returns
    -------
    str, int
        What the file is called now, and how many rows could be saved.
    """
    rescued: list[pa.Table] = []
    with contextlib.suppress(pa.ArrowException, OSError, TableVersionError):
        file = _open(store, name)
        for group in range(file.num_row_groups):
            rows = _read_what_is_whole(file, group)
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
        pq.write_table(pa.concat_tables(rescued), target, row_group_size=ROWS_PER_GROUP, **_AS_WRITTEN)
    return kept, sum(map(len, rescued))


def _read_what_is_whole(file: pq.ParquetFile, group: int) -> pa.Table | None:
    """Read the columns of a row group that can be read; None if one is not that must be known."""
    whole = []
    for name in file.schema_arrow.names:
        with contextlib.suppress(pa.ArrowException, OSError):
            file.read_row_group(group, columns=[name], use_threads=False)
            whole.append(name)
    if not set(PAIRING_COLUMNS) - {"orientation"} <= set(whole):
        return None
    return upgrade_table(file.read_row_group(group, columns=whole, use_threads=False))


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    """Take what the reader of a file trips over for damage."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(name, str(error)) from error


def _open(store: Store, name: str, content: BinaryIO | None = None) -> pq.ParquetFile:
    """Open a table of detections of any version that this one reads."""
    if content is None:
        content = store.open(name)
    if content is None:
        raise FileNotFoundError(f"{store}/{name}: not there")
    file = pq.ParquetFile(content, page_checksum_verification=True)
    if table_version(file.schema_arrow, f"{store}/{name}") is None:
        raise TableVersionError(
            f"{store}/{name}: this is no table of detections; give another `output`, or move the file elsewhere"
        )
    return file


def _project(rows: pa.Table) -> pa.Table:
    """Return the columns of the index, null where the file's version did not have them."""
    columns = [
        rows[name] if name in rows.column_names else pa.nulls(len(rows), DETECTIONS.field(name).type) for name in _INDEX
    ]
    return pa.table(columns, schema=pa.schema([DETECTIONS.field(name) for name in _INDEX]))


def _find_places(names: pa.ChunkedArray, frame_paths: pa.Array) -> Integers:
    """Return the place of each name among the frames of a table, their number where it is none of them; int32."""
    places = pc.index_in(names, value_set=frame_paths).fill_null(len(frame_paths))
    return np.asarray(places.to_numpy(zero_copy_only=False))


def _order_rows(place: Integers, names: pa.ChunkedArray, outside: int) -> Integers:
    """Order rows by place, those of the place `outside` by name; of the rows of one frame only the last is kept."""
    if (place == outside).any():
        keys = pa.table({"place": place, "name": names})
        order = pc.sort_indices(keys, [("place", "ascending"), ("name", "ascending")]).to_numpy().astype(np.int64)
    else:
        order = np.argsort(place, kind="stable")
    repeated = place[order[1:]] == place[order[:-1]]
    beyond = int(np.searchsorted(place[order], outside))  # from here on one place is not one frame
    others = names.take(pa.array(order[beyond:])).combine_chunks()
    repeated[beyond:] = pc.equal(others[1:], others[:-1]).to_numpy(zero_copy_only=False)
    kept: Integers = order[np.append(~repeated, True)[: len(order)]]
    return kept


def _renew(table: pa.Table, name: str, place: Integers, values: pa.Array) -> pa.Table:
    """Give rows the value that their frame has now, where it is known."""
    there = np.where(place < len(values), place, -1)
    now = values.take(pa.array(there, mask=there < 0))
    column = DETECTIONS.get_field_index(name)
    return table.set_column(column, DETECTIONS.field(column), pc.coalesce(now, table[name]))


def _find_replaced(schema: pa.Schema, store: Store) -> bytes | None:
    """Return the sha256 of the file of 0.2 that this is, or takes the place of; None if there was none."""
    if schema.metadata and REPLACED in schema.metadata:
        return bytes(schema.metadata[REPLACED])
    content = store.open(DETECTIONS_FILE) if table_version(schema, DETECTIONS_FILE) == 1 else None
    if content is None:
        return None
    with content:
        return hashlib.file_digest(content, "sha256").hexdigest().encode()  # type: ignore[arg-type]
