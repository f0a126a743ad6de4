"""Frames in a folder of this machine: see `detectime.sources`."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detectime.images import EncodedImage, UnreadableImageError
from detectime.notes import Note
from detectime.sources.contract import MissingFrameError, SourceError, describe_contents, most_bytes, open_pictures

# A path that cannot be the name of any file names a file that is not there.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}

_Place = tuple[str, frozenset[str]]
"""A folder, and where the links on the way to it lead: none leads there twice, so that a circle of links ends."""


@dataclass(frozen=True)
class FolderSource:
    """A folder of image files.

    Parameters
    ----------
    root
        The folder that every frame's path is relative to. Links in it are followed.
    exif, max_pixels
        How frames are decoded: see `images.EncodedImage`.
    noticed
        What is worth telling about the folder: see `sources.open_source`.
    """

    root: str
    exif: str = "ignore"
    max_pixels: int = 100_000_000
    noticed: tuple[Note, ...] = field(default=(), repr=False, compare=False)

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """Walk over the files below the folder, each once, in no order; nothing is opened.

        Yields
        ------
        frame_path, stamp
            The path relative to the folder; size in bytes and time of change in nanoseconds of the file, links
            followed.

        Raises
        ------
        SourceError
            If the folder cannot be listed.
        """
        return self.list_files(None)

    def list_files(self, suffixes: tuple[str, ...] | None) -> Iterator[tuple[str, str | None]]:
        """Walk as `list_frames` over files whose names have one of these suffixes, in lower case; None: over all."""
        waiting: list[_Place] = [("", frozenset({os.path.realpath(self.root)}))]
        while waiting:
            place = waiting.pop()
            try:
                yield from self._list_folder(place, waiting, suffixes)
            except OSError as error:
                if not place[0]:
                    raise SourceError(
                        f"{self.root}: the images folder cannot be read: {error.strerror}; give it as `images`"
                    ) from error
                # A folder inside that may not be listed: its frames are missing, the others are not.

    def _list_folder(
        self,
        place: _Place,
        waiting: list[_Place],
        suffixes: tuple[str, ...] | None,
    ) -> Iterator[tuple[str, str | None]]:
        """Yield the files of one folder, and add the folders in it to those that are waiting."""
        # From an open folder the system finds the status of a file by its name alone, not by the whole path.
        folder, linked = place
        with _open_folder(os.path.join(self.root, folder)) as handle, os.scandir(handle) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    target = os.path.realpath(os.path.join(self.root, name))
                    if os.path.isdir(target):
                        if target not in linked:
                            waiting.append((name, linked | {target}))
                        continue
                    if not os.path.exists(target):
                        continue
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((name, linked))
                    continue
                if suffixes is None or name.lower().endswith(suffixes):
                    try:
                        stamp = make_stamp(entry.stat())
                    except OSError:  # gone meanwhile, or in a folder whose files may not be asked for their status
                        stamp = None
                    yield name, stamp

    def notes(self) -> list[Note]:
        """Return what was noticed when this source was chosen."""
        return list(self.noticed)

    def open(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
        """Read frames, one at a time.

        Yields
        ------
        frame_path, frame
            The path as it was given; the picture, whose pixels are decoded when they are asked for, or the reason why
            there is none.
        """
        yield from open_pictures(self._read_files(frame_paths), self.exif, self.max_pixels)

    def read_contents(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        """Describe the encoded bytes of files, one at a time: see `Source.read_contents`."""
        yield from describe_contents(self._read_files(frame_paths))

    def _read_files(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Yield each path with the bytes of its file, or with the reason why there are none."""
        for frame_path in frame_paths:
            try:
                yield frame_path, self._read(frame_path)
            except (MissingFrameError, UnreadableImageError) as error:
                yield frame_path, error

    def _read(self, frame_path: str) -> bytes:
        try:
            # Without O_NONBLOCK the opening of a FIFO waits for somebody to write into it.
            handle = os.open(Path(self.root, frame_path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except ValueError as error:  # a NUL character
            raise MissingFrameError(str(error)) from error
        except OSError as error:
            if error.errno in _NOT_THERE:
                raise MissingFrameError(error.strerror) from error
            raise UnreadableImageError(f"cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImageError("not a regular file")
            if status.st_size > most_bytes(self.max_pixels):
                raise UnreadableImageError(f"too large: {status.st_size} bytes")
            with open(handle, "rb", closefd=False) as file:
                return file.read()
        except OSError as error:
            raise UnreadableImageError(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)


def make_stamp(status: os.stat_result) -> str:
    """Return the stamp of a local file: its size in bytes, and the time of its last change in nanoseconds."""
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextlib.contextmanager
def _open_folder(path: str) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
