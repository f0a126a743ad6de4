"""Where frames come from: ``names()`` tells which there are, ``open()`` reads some of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from detectime import remote
from detectime.config import Config
from detectime.images import Picture, Unreadable

VIDEOS = tuple(".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv".split())
"""Suffixes of video files."""


class SourceError(RuntimeError):
    """A source that is not there; the message names it."""


class Missing(FileNotFoundError):
    """A frame that the source does not have."""


class Unreachable(Unreadable):
    """A frame that could not be asked for, since the place of the frames does not answer."""


class Source(Protocol):
    """What a run needs of the place of the frames. A source goes to the workers: it can be pickled."""

    @property
    def root(self) -> str:
        """The place itself, for messages."""
        ...

    @property
    def exif(self) -> str:
        """How frames are turned: see `images.Picture`."""
        ...

    @property
    def max_pixels(self) -> int:
        """How large a frame may be: see `images.Picture`."""
        ...

    def names(self) -> Iterator[str]:
        """Walk over all frames, once, and yield their paths, in no order.

        Raises
        ------
        SourceError
            If that is not possible.
        """
        ...

    def open(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, Picture | Missing | Unreadable]]:
        """Read frames, in the order in which they are named.

        Yields
        ------
        frame_path, frame
            The path as it was given; the picture, whose pixels are decoded when they are asked for, or the reason why
            there is none.
        """
        ...


def of(config: Config) -> Source:
    """Return the source that a configuration describes.

    Raises
    ------
    SourceError
        If what its scheme or its kind needs is not installed, or if archives or videos lie in a bucket.
    """
    images, kind = config.data.images, config.data.source
    exif, max_pixels = config.detection.exif, config.detection.max_pixels
    if kind == "videos" or (kind is None and is_video(images)):
        from detectime.sources.videos import Videos

        return Videos(remote.local(images), exif, max_pixels)
    from detectime.sources import archive

    are_archives = kind == "archives" or (kind is None and archive.holds(remote.local(images)))
    if remote.is_remote(images):
        if are_archives:
            raise SourceError(f"{images}: archives cannot be read in a bucket; mount it, or bring them here")
        from detectime.sources.bucket import Bucket

        return Bucket(images, exif, max_pixels)
    from detectime.sources.folder import Folder

    return (archive.Archives if are_archives else Folder)(remote.local(images), exif, max_pixels)


def is_video(name: str) -> bool:
    """Whether a name has the suffix of a video file."""
    return name.lower().endswith(VIDEOS)


def most_bytes(max_pixels: int) -> int:
    """Size in bytes that no file of a picture needs: eight a pixel are 16 bits of red, green, blue and alpha."""
    return 8 * max_pixels + 2**20
