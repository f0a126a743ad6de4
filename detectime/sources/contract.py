"""Where frames come from: `Source.list_frames` says which there are, `Source.open` reads some of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from detectime.images import EncodedImage, UnreadableImageError, describe_content
from detectime.notes import Note

VIDEO_SUFFIXES = tuple(".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv".split())
"""Suffixes of video files."""


class SourceError(RuntimeError):
    """A source that is not there; the message names it."""


class MissingFrameError(FileNotFoundError):
    """A frame that the source does not have.

    Attributes
    ----------
    content
        None, as there are no bytes: see `images.UnreadableImageError`.
    """

    content: str | None = None


class UnreachableFrameError(UnreadableImageError):
    """A frame that could not be asked for, since the place of the frames does not answer."""


class Source(Protocol):
    """What a run needs of the place of the frames. A source goes to the workers: it can be pickled."""

    @property
    def root(self) -> str:
        """The place itself, for messages."""
        ...

    @property
    def exif(self) -> str:
        """How frames are turned: see `images.EncodedImage`."""
        ...

    @property
    def max_pixels(self) -> int:
        """How large a frame may be: see `images.EncodedImage`."""
        ...

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """Walk over all frames, each once, in no order.

        Yields
        ------
        frame_path, stamp
            Its path, and what is known of its file without reading it, such as size and time: a frame with another
            stamp than before may have changed. None if nothing is known.

        Raises
        ------
        SourceError
            If they cannot be listed.
        """
        ...

    def notes(self) -> list[Note]:
        """Return what is worth telling about the place, once its frames were listed."""
        ...

    def open(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
        """Read frames, in the order in which they are named.

        Yields
        ------
        frame_path, frame
            The path as it was given; the picture, whose pixels are decoded when they are asked for, or the reason why
            there is none.
        """
        ...

    def read_contents(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        """Describe the encoded bytes of frames, in the order in which they are named; no pixel is decoded.

        Yields
        ------
        frame_path, content
            The path as it was given, and what `Picture.content` would be; None if the frame cannot be read.
        """
        ...


Read = Iterable[tuple[str, bytes | MissingFrameError | UnreadableImageError]]
"""Paths of frames, each with the bytes of its file, or with the reason why there are none."""


def open_pictures(
    read: Read, exif: str, max_pixels: int
) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
    """Yield what `Source.open` does, of files that were read."""
    for frame_path, content in read:
        if not isinstance(content, bytes):
            yield frame_path, content
            continue
        try:
            yield frame_path, EncodedImage(content, exif=exif, max_pixels=max_pixels)
        except UnreadableImageError as error:
            yield frame_path, error


def describe_contents(read: Read) -> Iterator[tuple[str, str | None]]:
    """Yield what `Source.read_contents` does, of files that were read."""
    for frame_path, content in read:
        yield frame_path, describe_content(content) if isinstance(content, bytes) else None


def is_video(name: str) -> bool:
    """Whether a name has the suffix of a video file."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def most_bytes(max_pixels: int) -> int:
    """Size in bytes that no file of a picture needs: eight a pixel are 16 bits of red, green, blue and alpha."""
    return 8 * max_pixels + 2**20
