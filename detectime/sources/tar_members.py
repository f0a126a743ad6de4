"""The members of a tar: where they are, and their content. See `detectime.sources.archive_index`."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Sequence
from typing import BinaryIO, cast

from detectime.images import UnreadableImageError
from detectime.sources.zip_members import read_exactly


def list_tar(archive: BinaryIO, take: Callable[[tarfile.TarInfo], None]) -> None:
    """Call a function with each member of a tar that is not a folder; no object is kept.

    Tars that are joined, ``cat a.tar b.tar``, are one.

    Raises
    ------
    ValueError
        If the archive is broken; the message has the reason.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> with tarfile.open(fileobj=file, mode="w") as target:
    ...     target.addfile(tarfile.TarInfo("anna/0001.jpg"))
    >>> list_tar(file, lambda member: print(member.name))
    anna/0001.jpg
    """
    try:
        size = archive.seek(0, os.SEEK_END)
        archive.seek(0)
        bounded = cast(BinaryIO, _BoundedFile(archive, size))
        start: int | None = 0
        while start is not None:
            archive.seek(start)
            with tarfile.open(fileobj=bounded, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                while (header := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                    if not header.isdir():
                        take(header)
            # The library takes anything that is not a header for the end of the archive, which is a block of zeros.
            archive.seek(tar.offset)
            if archive.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ValueError("it does not end where its members end")
            start = _find_next_tar(archive)
    except (tarfile.TarError, IndexError, OverflowError) as error:  # the library's own of damaged headers too
        raise ValueError(str(error)) from error


def _find_next_tar(archive: BinaryIO) -> int | None:
    """Return where another tar begins after the zeros at which a file is; None if there is none."""
    while block := archive.read(tarfile.BLOCKSIZE):
        if block.count(0) < len(block):
            try:
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except (tarfile.TarError, ValueError):  # padding of another kind
                return None
            return archive.tell() - len(block)
    return None


class _BoundedFile:
    """A file of which nothing is allocated for bytes that it does not have: a damaged header may ask for terabytes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, max(self._size - self._file.tell(), 0)))


def list_segments(header: tarfile.TarInfo) -> list[int] | None:
    """Return where the stored bytes of a sparse file belong: offset, length, offset, …; None: it is not sparse."""
    if not header.issparse():
        return None
    return [number for segment in cast(list[tuple[int, int]], header.sparse) for number in segment]


def read_tar_member(file: BinaryIO, start: int, stored: int, size: int, segments: Sequence[int] | None) -> bytes:
    """Return the content of a member.

    Parameters
    ----------
    file
        The archive.
    start
        Where the member's content begins.
    stored, size
        Bytes in the archive, and bytes of the content.
    segments
        See `list_segments`.

    Raises
    ------
    UnreadableImageError
        If the archive ends early.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import io
    >>> read_tar_member(io.BytesIO(b"abc"), 0, 3, 6, [1, 2, 5, 1])
    b'\\x00ab\\x00\\x00c'
    """
    file.seek(start)
    content = read_exactly(file, stored)
    if segments is None:
        return content
    try:
        whole = bytearray(size)
    except (MemoryError, OverflowError) as error:
        raise UnreadableImageError(f"broken in the archive: a sparse file of {size} bytes") from error
    taken = 0
    for offset, length in zip(segments[::2], segments[1::2], strict=True):
        whole[offset : offset + length] = content[taken : taken + length]
        taken += length
    if len(whole) != size:
        raise UnreadableImageError("broken in the archive: the parts of a sparse file are longer than the file")
    return bytes(whole)
