"""Frames in a local folder: see `detectime.sources.contract`."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from detectime.images import UnreadableImageError
from detectime.notes import Note
from detectime.sources.contract import MissingFrameError, SourceError, check_file_size
from detectime.sources.names import FoldedNames, fold_name

# Errors of opening a path that names no file, some because no file can have such a name.
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}

_Folder = tuple[str, frozenset[str]]
"""A folder, and the targets of the links on the way to it: none is followed twice, so that a circle of links ends."""

_LEFT_OUT = {
    "links": ("link leads to no file, and is left out", "links lead to no file, and are left out"),
    "folders": (
        "folder cannot be read, and its files are left out",
        "folders cannot be read, and their files are left out",
    ),
}
"""What a note says of one, and of several."""


@dataclass(frozen=True)
class FolderSource:
    """A folder of image files.

    Parameters
    ----------
    root
        The folder that every `frame_path` is relative to. Links in it are followed.
    notes
        Notes about the folder from choosing the source: see `sources.open_source`.
    """

    root: str
    notes: tuple[Note, ...] = field(default=(), repr=False, compare=False)
    _left_out: dict[str, tuple[int, str]] = field(default_factory=dict, repr=False, compare=False)
    """How many links and folders could not be listed, and the first of each; few bytes, since workers get them too."""

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """List the files below the folder, each once, in no particular order; no file is opened.

        Yields
        ------
        frame_path, stamp
            The path relative to the folder; size in bytes and modification time in nanoseconds, links followed.

        Raises
        ------
        SourceError
            If the folder cannot be listed.
        """
        return self.list_files(None)

    def list_files(self, suffixes: tuple[str, ...] | None) -> Iterator[tuple[str, str | None]]:
        """List, as `list_frames` does, the files that have one of these lower-case suffixes; None: all files."""
        self._left_out.clear()
        pending: list[_Folder] = [("", frozenset({os.path.realpath(self.root)}))]
        while pending:
            folder = pending.pop()
            try:
                yield from self._list_folder(folder, pending, suffixes)
            except OSError as error:
                if not folder[0]:
                    raise SourceError(
                        f"{self.root}: the images folder cannot be read: {error.strerror}; give it as `images`"
                    ) from error
                # A folder inside that may not be listed: its frames are missing, the others are not.
                self._leave_out("folders", folder[0])

    def _list_folder(
        self, folder: _Folder, pending: list[_Folder], suffixes: tuple[str, ...] | None
    ) -> Iterator[tuple[str, str | None]]:
        """Yield the files of one folder, and add its folders to the pending ones."""
        path, targets = folder
        # Relative to an open folder the system looks a file up by its name alone, not by the whole path.
        with _open_folder(os.path.join(self.root, path)) as handle, os.scandir(handle) as entries:
            for entry in entries:
                name = f"{path}/{entry.name}" if path else entry.name
                if entry.is_symlink():
                    target = os.path.realpath(os.path.join(self.root, name))
                    if os.path.isdir(target):
                        if target not in targets:
                            pending.append((name, targets | {target}))
                        continue
                    if not os.path.exists(target):
                        self._leave_out("links", name)
                        continue
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((name, targets))
                    continue
                if suffixes is None or name.lower().endswith(suffixes):
                    try:
                        stamp = make_stamp(entry.stat())
                    except OSError:  # deleted meanwhile, or in a folder without permission to stat
                        stamp = None
                    yield name, stamp

    def list_notes(self) -> list[Note]:
        """Return the notes from choosing this source, and about what could not be listed."""
        notes = list(self.notes)
        for kind, (one, many) in _LEFT_OUT.items():
            if kind in self._left_out:
                count, first = self._left_out[kind]
                notes.append(Note(f"left_out_{kind}", count, one if count == 1 else many, first))
        return notes

    def _leave_out(self, kind: str, name: str) -> None:
        count, first = self._left_out.get(kind, (0, name))
        self._left_out[kind] = count + 1, min(first, name)

    def check_frames(self, frame_paths: pa.Array | pa.ChunkedArray) -> None:
        """Refuse nothing: what a frame is shows when it is read."""

    def list_top_folders(self) -> tuple[str, ...]:
        """Return no folders: the frames lie in this one."""
        return ()

    def read_frames(
        self, frame_paths: Iterable[str], max_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Read the bytes of files, one at a time: see `Source.read_frames`."""
        for frame_path in frame_paths:
            try:
                yield frame_path, self._read_file(frame_path, max_bytes)
            except (MissingFrameError, UnreadableImageError) as error:
                yield frame_path, error

    def _read_file(self, frame_path: str, max_bytes: int | None) -> bytes:
        try:
            handle = _open_file(os.path.join(self.root, frame_path))
        except MissingFrameError:
            spelling = find_spelling(self.root, frame_path)
            if spelling is None:
                raise
            handle = _open_file(os.path.join(self.root, spelling))
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImageError("not a regular file")
            check_file_size(status.st_size, max_bytes)
            with open(handle, "rb", closefd=False) as file:
                return file.read()
        except OSError as error:
            raise UnreadableImageError(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)


def find_spelling(root: str, path: str) -> str | None:
    """Return the path of a file that differs from one by Unicode form or blanks: see `fold_name`. None: there is none.

    Parameters
    ----------
    root
        A folder.
    path
        Relative to it; no such file exists.

    Raises
    ------
    MissingFrameError
        If there are several.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.close(os.open(f"{folder}/Zoe\\u0308.jpg", os.O_CREAT))
    ...     find_spelling(folder, "Zo\\u00eb.jpg") == "Zoe\\u0308.jpg"
    True
    """
    found: list[str] = []
    for part in path.split("/"):
        folder = os.path.join(root, *found)
        spelling = part if _exists(folder, part) else _choose_spelling(folder, part)
        if spelling is None:
            return None
        found.append(spelling)
    return "/".join(found)


def _choose_spelling(folder: str, name: str) -> str | None:
    """Return the only name in a folder that is another spelling of a name; None if there is none."""
    if fold_name(name) in ("", ".", ".."):  # another spelling of these must not leave the folder
        return None
    try:
        names = _fold_names(folder, os.stat(folder).st_mtime_ns)
    except (OSError, ValueError):
        return None
    spellings = names.find(name, lambda other: _exists(folder, other))
    if len(spellings) > 1:
        raise MissingFrameError(f"{len(spellings)} names in the folder differ from {name!r} by Unicode form or blanks")
    return spellings[0] if spellings else None


@functools.lru_cache(maxsize=16)
def _fold_names(folder: str, mtime: int) -> FoldedNames:
    """Return the names in a folder, read again when it has changed."""
    return FoldedNames(os.listdir(folder))


def _exists(folder: str, name: str) -> bool:
    try:
        return os.path.lexists(os.path.join(folder, name))
    except ValueError:  # a NUL character
        return False


def _open_file(path: str) -> int:
    try:
        # Without O_NONBLOCK opening a FIFO would wait until somebody writes to it.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL character
        raise MissingFrameError(str(error)) from error
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise MissingFrameError(error.strerror) from error
        raise UnreadableImageError(f"cannot be opened: {error.strerror}") from error


def make_stamp(status: os.stat_result) -> str:
    """Make the stamp of a local file: size in bytes and modification time in nanoseconds.

    Examples
    --------
    >>> make_stamp(os.stat(__file__)) == f"{os.path.getsize(__file__)}-{os.stat(__file__).st_mtime_ns}"
    True
    """
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextlib.contextmanager
def _open_folder(path: str) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
