"""Tables that are looked up by name: made once, sorted, and mapped into the memory of every process that asks.

A million rows as Python's objects, in each worker, would be gigabytes. As a file of Arrow's that is mapped they are
there once, and a worker reads the few pages that it needs. The files lie in the temporary folder, may vanish at any
time, and are made anew where they are not there, as on another machine. Those that nobody used for 30 days are deleted
when another one is made.
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
"""The column that is looked up, of bytes: a file's name need not be UTF-8."""

_FORMAT = 3  # of the files: to be raised when a column changes, so that no file of an older version is read

_KEPT = 30 * 24 * 3600  # seconds after their last use

Stamp = tuple[str, int, int]  # a file's path, its size and when it was changed


@dataclass(frozen=True)
class NameIndex:
    """A table in which a row is found by its name.

    Parameters
    ----------
    rows
        With the column `NAME_COLUMN`, sorted by it, each once.
    """

    rows: pa.RecordBatch

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the row of a name as Python's values; None if there is none."""
        try:
            wanted = os.fsencode(name)
        except UnicodeEncodeError:  # half a character, which no file's name can hold
            return None
        names = self.rows.column(NAME_COLUMN)
        place = bisect.bisect_left(names, wanted, key=operator.methodcaller("as_py"))
        if place == len(names) or names[place].as_py() != wanted:
            return None
        row: dict[str, Any] = self.rows.slice(place, 1).to_pylist()[0]
        return row


def load_or_build(make: Callable[..., pa.Table], files: tuple[str, ...], *more: str) -> NameIndex:
    """Return a table that is dear to make, from where this process or another one has put it, or make it.

    Parameters
    ----------
    make
        A function of a module: called with `files` and `more` it returns the table.
    files
        Paths of what the table is made of: it is made anew when one has changed its size or its time.
    more
        What else it depends on.

    Raises
    ------
    OSError
        If one of the files is not there; beside it, whatever `make` raises.
    """
    return _made_once(make, tuple(map(_stamp, files)), more)


@functools.lru_cache(maxsize=4)
def _made_once(make: Callable[..., pa.Table], stamps: tuple[Stamp, ...], more: tuple[str, ...]) -> NameIndex:
    identity = repr((_FORMAT, make.__module__, make.__qualname__, stamps, more))
    name = hashlib.sha256(os.fsencode(identity)).hexdigest() + ".arrow"
    with contextlib.suppress(OSError, pa.ArrowException):  # not there, or not whole
        return _opened(_folder() / name)
    with contextlib.suppress(OSError):
        _delete_unused(_folder())
    rows = _sorted(make(tuple(path for path, _, _ in stamps), *more))
    try:
        _write(rows, _folder() / name)
        opened = _opened(_folder() / name)
    except OSError:  # a full disk, or a temporary folder that may not be written to
        return NameIndex(rows)
    del rows
    pa.default_memory_pool().release_unused()  # Arrow keeps what is free; here that is all of the table
    return opened


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _sorted(table: pa.Table) -> pa.RecordBatch:
    """Sort rows, of which each name has one, into a single piece."""
    if not table.num_rows:
        return pa.RecordBatch.from_pylist([], schema=table.schema)
    (rows,) = table.combine_chunks().to_batches()
    return rows.take(pc.sort_indices(rows.column(NAME_COLUMN)))


def _folder() -> Path:
    """Folder of this user's tables: what others may write into is not to be trusted."""
    folder = Path(tempfile.gettempdir(), f"detectime-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder}: somebody else's")
    return folder


def _delete_unused(folder: Path) -> None:
    """Delete tables that were not used for long, and what was left by whoever was killed while writing one."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _KEPT:
                path.unlink()


def _opened(path: Path) -> NameIndex:
    with contextlib.suppress(OSError):
        os.utime(path)  # its last use: many disks do not write down when a file is read
    with pa.memory_map(str(path)) as file:
        return NameIndex(pa.ipc.open_file(file).get_batch(0))


def _write(rows: pa.RecordBatch, path: Path) -> None:
    """Write a file that appears whole, or not at all."""
    handle, partial = tempfile.mkstemp(dir=path.parent)
    try:
        with open(handle, "wb") as file, pa.ipc.new_file(file, rows.schema) as target:
            target.write_batch(rows)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
