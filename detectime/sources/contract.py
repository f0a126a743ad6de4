"""What a source of frames is, and why a frame may not be had from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import pyarrow as pa

from detectime.errors import DocumentedError
from detectime.images import LazyFrame, UnreadableImageError
from detectime.notes import Note


class SourceError(DocumentedError, RuntimeError):
    """A source that cannot be used; the message names it."""


class RefusedSourceError(SourceError):
    """A source that is there, and of which the user must decide something; the message names the key and the remedy."""


class MissingFrameError(DocumentedError, FileNotFoundError):
    """A frame that the source does not have.

    Attributes
    ----------
    content
        None, since there are no bytes: see `images.UnreadableImageError`.
    """

    content: str | None = None


class UnreachableFrameError(UnreadableImageError):
    """A frame that could not be read because its source does not answer."""


ReadFrame = bytes | LazyFrame | MissingFrameError | UnreadableImageError
"""What a source yields for a frame: its encoded bytes, a lazy frame (videos), or the reason why there is neither."""


class Source(Protocol):
    """Where frames come from: a folder, a bucket, archives or videos.

    A source yields frames as they are stored; the worker turns them upright and limits their size. It is sent to the
    workers, so it can be pickled.
    """

    @property
    def root(self) -> str:
        """The location, for messages."""
        ...

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """List all frames, each once, in no particular order.

        Yields
        ------
        frame_path, stamp
            The path; and what the listing knows of the file without reading it, such as its size and time. A frame
            whose stamp differs from an earlier one may have changed. None if nothing is known.

        Raises
        ------
        RefusedSourceError
            If somebody must decide first what the frames are.
        SourceError
            If the frames cannot be listed.
        """
        ...

    def list_notes(self) -> list[Note]:
        """Return notes about the location; called after its frames were listed."""
        ...

    def check_frames(self, frame_paths: pa.Array | pa.ChunkedArray) -> None:
        """Refuse frames, text, that are there and that no setting can read.

        Raises
        ------
        RefusedSourceError
            If there are any; the message names the count, one of them and what to do.
        """
        ...

    def list_top_folders(self) -> tuple[str, ...]:
        """Return folders with which a frame_path may begin or not, ``frames/`` for one: an archive's own folder."""
        ...

    def read_frames(self, frame_paths: Iterable[str], max_bytes: int | None = None) -> Iterator[tuple[str, ReadFrame]]:
        """Read frames in the order in which they are named.

        Parameters
        ----------
        frame_paths
            The frames. One that does not exist stands for another spelling of it, as in `Listing.find`.
        max_bytes
            A larger file is not read, but yielded as `UnreadableImageError`; None: no limit.

        Yields
        ------
        frame_path, frame
            The path as given, and the frame. A lazy frame can be decoded until the next one is asked for.
        """
        ...


def check_file_size(size: int, max_bytes: int | None) -> None:
    """Refuse a file that is larger than a limit.

    Raises
    ------
    UnreadableImageError
        If it is refused.

    Examples
    --------
    >>> check_file_size(1_000, max_bytes=2_000)
    >>> check_file_size(3_000, max_bytes=2_000)
    Traceback (most recent call last):
    detectime.decoding.contract.UnreadableImageError: too large: 3000 bytes
    """
    if max_bytes is not None and size > max_bytes:
        raise UnreadableImageError(f"too large: {size} bytes")
