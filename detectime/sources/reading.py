"""Frames of a source as upright images, and their content without decoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from detectime.images import FrameImage, UnreadableImageError, compute_max_bytes, describe_content, open_image
from detectime.sources.contract import MissingFrameError, Source


def read_images(
    source: Source, frame_paths: Iterable[str], *, exif: str = "apply", max_pixels: int
) -> Iterator[tuple[str, FrameImage | MissingFrameError | UnreadableImageError]]:
    """Read frames as upright images.

    Parameters
    ----------
    source, frame_paths
        The frames.
    exif, max_pixels
        How they are read: see `images.open_image`.

    Yields
    ------
    frame_path, image
        The path as given; and the image, whose pixels may still be encoded, or the reason why there is none.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.sources import open_source
    >>> source = open_source(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> ((_, image),) = read_images(source, ["nobody/0.jpg"], exif="ignore", max_pixels=1_000_000)
    >>> image
    MissingFrameError('No such file or directory')
    """
    for frame_path, frame in source.read_frames(frame_paths, compute_max_bytes(max_pixels)):
        if isinstance(frame, MissingFrameError | UnreadableImageError):
            yield frame_path, frame
            continue
        try:
            yield frame_path, open_image(frame, exif=exif, max_pixels=max_pixels)
        except UnreadableImageError as error:
            yield frame_path, error


def read_contents(source: Source, frame_paths: Iterable[str], *, max_pixels: int) -> Iterator[tuple[str, str | None]]:
    """Read the content of frames: see `images.describe_content`. No pixel is decoded.

    Parameters
    ----------
    source, frame_paths
        The frames.
    max_pixels
        A file that is larger than any image of so many pixels is not read.

    Yields
    ------
    frame_path, content
        The path as given; and the content, None if the frame cannot be read.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.sources import open_source
    >>> source = open_source(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> list(read_contents(source, ["nobody/0.jpg"], max_pixels=1_000_000))
    [('nobody/0.jpg', None)]
    """
    for frame_path, frame in source.read_frames(frame_paths, compute_max_bytes(max_pixels)):
        if isinstance(frame, MissingFrameError | UnreadableImageError):
            yield frame_path, None
        else:
            yield frame_path, describe_content(frame) if isinstance(frame, bytes) else frame.content
