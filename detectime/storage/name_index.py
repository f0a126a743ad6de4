"""Tables whose rows are found by name, built once and memory-mapped by every process that reads them.

A million rows as Python objects would take gigabytes in each worker. As a memory-mapped Arrow file, sorted by name,
they are in memory once, and a worker reads only the pages that it needs. The files are a cache in the temporary folder:
they may be deleted at any time and are rebuilt if missing. Building one deletes those unused for 30 days.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import operator
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

NAME_COLUMN = "name"
"""The column to search, as bytes: a file name need not be UTF-8."""

_FORMAT = 5  # of the files; raise it when a column changes, so that older files are not read

_MAX_AGE = 30 * 24 * 3600  # seconds since the last use

Stamp = tuple[str, int, int]
"""Absolute path, size in bytes and modification time in nanoseconds of a file."""


@dataclass(frozen=True)
class NameIndex:
    """A table whose rows are found by name.

    Parameters
    ----------
    rows
        Sorted by the column `NAME_COLUMN`, whose values are unique.

    Examples
    --------
    >>> index = NameIndex(pa.RecordBatch.from_pydict({"name": [b"a.jpg", b"b.jpg"], "size": [3, 5]}))
    >>> index.find("b.jpg")
    {'name': b'b.jpg', 'size': 5}
    >>> index.find("c.jpg") is None
    True
    """

    rows: pa.RecordBatch

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the row with this name as Python values, or None if there is none."""
        try:
            wanted = os.fsencode(name)
        except UnicodeEncodeError:  # half of a surrogate pair, which no file name can contain
            return None
        names = self.rows.column(NAME_COLUMN)
        position = bisect.bisect_left(names, wanted, key=operator.methodcaller("as_py"))
        if position == len(names) or names[position].as_py() != wanted:
            return None
        row: dict[str, Any] = self.rows.slice(position, 1).to_pylist()[0]
        return row


def load_or_build(build: Callable[..., pa.Table], files: tuple[str, ...], *arguments: str) -> NameIndex:
    """Return a cached table that is expensive to build, or build it.

    Parameters
    ----------
    build
        Module-level function that returns the table for ``build(files, *arguments)``.
    files
        Paths of the files that the table is built from; it is rebuilt if the size or time of one has changed.
    arguments
        What else the table depends on.

    Raises
    ------
    OSError
        If one of the files does not exist; also whatever `build` raises.

    Examples
    --------
    >>> def measure_names(files):
    ...     names = [os.path.basename(path).encode() for path in files]
    ...     return pa.table({"name": names, "length": [len(name) for name in names]})
    >>> with tempfile.NamedTemporaryFile(suffix=".zip") as file:
    ...     index = load_or_build(measure_names, (file.name,))
    >>> index.find(os.path.basename(file.name))["length"] == len(os.path.basename(file.name))
    True
    """
    return _load_or_build(build, tuple(map(_stamp_file, files)), arguments)


@functools.lru_cache(maxsize=4)
def _load_or_build(build: Callable[..., pa.Table], stamps: tuple[Stamp, ...], arguments: tuple[str, ...]) -> NameIndex:
    identity = repr((_FORMAT, build.__module__, build.__qualname__, stamps, arguments))
    name = hashlib.sha256(os.fsencode(identity)).hexdigest() + ".arrow"
    with contextlib.suppress(OSError, pa.ArrowException):  # missing or truncated
        return _open_file(_cache_folder() / name)
    with contextlib.suppress(OSError):
        _delete_unused(_cache_folder())
    rows = _sort_rows(build(tuple(path for path, _, _ in stamps), *arguments))
    try:
        _write_file(rows, _cache_folder() / name)
        index = _open_file(_cache_folder() / name)
    except OSError:  # a full disk, or a temporary folder that is not writable
        return NameIndex(rows)
    del rows
    pa.default_memory_pool().release_unused()  # Arrow would keep the memory of the whole table
    return index


def _stamp_file(path: str) -> Stamp:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _sort_rows(table: pa.Table) -> pa.RecordBatch:
    """Sort rows, whose names are unique, into a single batch."""
    if not table.num_rows:
        return pa.RecordBatch.from_pylist([], schema=table.schema)
    (rows,) = table.combine_chunks().to_batches()
    return rows.take(pc.sort_indices(rows.column(NAME_COLUMN)))


def _cache_folder() -> Path:
    """Return this user's cache folder, created if missing; refuse one that another user could have written to."""
    folder = Path(tempfile.gettempdir(), f"detectime-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder}: not a folder that only this user can write to")
    return folder


def _delete_unused(folder: Path) -> None:
    """Delete files that are past `_MAX_AGE`, including partial ones of writers that were killed."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _MAX_AGE:
                path.unlink()


def _open_file(path: Path) -> NameIndex:
    with contextlib.suppress(OSError):
        os.utime(path)  # marks its last use: many disks do not record access times
    with pa.memory_map(str(path)) as file:
        return NameIndex(pa.ipc.open_file(file).get_batch(0))


def _write_file(rows: pa.RecordBatch, path: Path) -> None:
    """Write a file atomically."""
    handle, partial = tempfile.mkstemp(dir=path.parent)
    try:
        with open(handle, "wb") as file, pa.ipc.new_file(file, rows.schema) as target:
            target.write_batch(rows)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
