"""Frames in a folder of this machine: see `detectime.sources`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from detectime.images import Picture, Unreadable
from detectime.sources import Missing, SourceError, most_bytes

# A path that cannot be the name of any file names a file that is not there.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}


@dataclass(frozen=True)
class Folder:
    """A folder of image files.

    Parameters
    ----------
    root
        The folder that every frame's path is relative to. Links in it are followed.
    exif, max_pixels
        How frames are decoded: see `images.Picture`.
    """

    root: str
    exif: str = "ignore"
    max_pixels: int = 100_000_000

    def names(self) -> Iterator[str]:
        """Walk over the files below the folder, once, and yield their paths relative to it, in no order.

        Nothing is opened and no file is asked for its status: on a mounted drive that is what costs.

        Raises
        ------
        SourceError
            If the folder cannot be listed.
        """
        # A folder, and where the links on the way to it lead: none leads there twice, so that a circle of links ends.
        waiting = [("", frozenset({os.path.realpath(self.root)}))]
        while waiting:
            place, linked = waiting.pop()
            try:
                entries = os.scandir(os.path.join(self.root, place))
            except OSError as error:
                if place:  # a folder inside that may not be listed: its frames are missing, the others are not
                    continue
                raise SourceError(
                    f"{self.root}: the images folder cannot be read: {error.strerror}; give it as `images`"
                ) from error
            with entries:
                for entry in entries:
                    name = f"{place}/{entry.name}" if place else entry.name
                    if entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if not os.path.isdir(target):
                            if os.path.exists(target):
                                yield name
                        elif target not in linked:
                            waiting.append((name, linked | {target}))
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append((name, linked))
                    else:
                        yield name

    def open(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, Picture | Missing | Unreadable]]:
        """Read frames, one at a time.

        Yields
        ------
        frame_path, frame
            The path as it was given; the picture, whose pixels are decoded when they are asked for, or the reason why
            there is none.
        """
        for frame_path in frame_paths:
            try:
                yield frame_path, Picture(self._read(frame_path), exif=self.exif, max_pixels=self.max_pixels)
            except (Missing, Unreadable) as error:
                yield frame_path, error

    def _read(self, frame_path: str) -> bytes:
        try:
            # Without O_NONBLOCK the opening of a FIFO waits for somebody to write into it.
            handle = os.open(Path(self.root, frame_path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except ValueError as error:  # a NUL character
            raise Missing(str(error)) from error
        except OSError as error:
            if error.errno in _NOT_THERE:
                raise Missing(error.strerror) from error
            raise Unreadable(f"cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not a regular file")
            if status.st_size > most_bytes(self.max_pixels):
                raise Unreadable(f"too large: {status.st_size} bytes")
            with open(handle, "rb", closefd=False) as file:
                return file.read()
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)
