"""Frames in a local folder: see `detectime.sources.contract`."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detectime.images import UnreadableImageError
from detectime.notes import Note
from detectime.sources.contract import MissingFrameError, SourceError, check_file_size

# Errors of opening a path that names no file, some because no file can have such a name.
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}

_Folder = tuple[str, frozenset[str]]
"""A folder, and the targets of the links on the way to it: none is followed twice, so that a circle of links ends."""


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
        """Return the notes from choosing this source."""
        return list(self.notes)

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
            # Without O_NONBLOCK opening a FIFO would wait until somebody writes to it.
            handle = os.open(Path(self.root, frame_path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except ValueError as error:  # a NUL character
            raise MissingFrameError(str(error)) from error
        except OSError as error:
            if error.errno in _NO_SUCH_FILE:
                raise MissingFrameError(error.strerror) from error
            raise UnreadableImageError(f"cannot be opened: {error.strerror}") from error
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
