"""Small pictures of frames, made in a worker process.

A process of its own imports this module, so it imports little: no tables.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from detectime.boxes import round_outward
from detectime.images import RGB, FrameImage, UnreadableImageError, blur_boxes, shrink_image
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.reading import read_images

Box = tuple[float, float, float, float]

Encoder = Callable[[RGB, int, int], bytes]
"""Encodes pixels as a picture of at most so many pixels along its longer side, and of at most so many bytes."""

DATA_URI = "data:image/webp;base64,"
"""How the data URI of a picture begins."""

# WebP takes two thirds of the bytes of a JPEG that looks the same. Method 2 takes 6 % more than the default, and less
# than half of its time.
_QUALITIES = (60, 42)  # the second one to save bytes
_METHOD = 2
_SAVED = 0.96  # a little smaller than the area that should fit, so that one more attempt is enough

_RESULT = pa.schema(
    [
        pa.field("pictures", pa.list_(pa.binary())),
        pa.field("size", pa.list_(pa.int64())),
        pa.field("fault", pa.string()),
    ]
)
"""What a worker returns, one row per frame: its pictures and its width and height, or why there are none."""


@dataclass(frozen=True)
class Cut:
    """A picture to be made of a frame.

    Attributes
    ----------
    side
        Its longer side in pixels, at most.
    characters
        The length of its data URI, at most; it becomes smaller until it fits.
    box
        The part of the frame that it shows, in pixels of the frame; None: all of it.
    """

    side: int
    characters: int
    box: Box | None = None


@dataclass(frozen=True)
class ThumbnailTask:
    """A frame and the pictures to be made of it.

    Attributes
    ----------
    frame_path
        The frame.
    content, size
        Its content, and its width and height in pixels, at detection; None if unknown.
    faces
        Boxes of faces to be made unrecognisable, in pixels of the frame.
    cuts
        The pictures.
    """

    frame_path: str
    content: str | None
    size: tuple[int, int] | None
    faces: tuple[Box, ...]
    cuts: tuple[Cut, ...]


def encode_thumbnail(pixels: RGB, side: int, most_bytes: int) -> bytes:
    """Encode pixels as WebP; equal pixels give equal bytes.

    Parameters
    ----------
    pixels
        uint8, shape (height, width, 3), red first.
    side
        Longer side of the picture in pixels, at most.
    most_bytes
        Size of the file, at most: quality falls first, then the side.

    Examples
    --------
    >>> noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    >>> len(encode_thumbnail(noise, 160, 100_000)) > 4000, len(encode_thumbnail(noise, 160, 1000)) <= 1000
    (True, True)
    """
    side = min(side, max(pixels.shape[:2]))
    for quality in _QUALITIES:
        encoded = _encode_webp(shrink_image(pixels, side), quality)
        if len(encoded) <= most_bytes:
            return encoded
    while len(encoded) > most_bytes and side > 1:
        side = max(1, math.floor(side * min(0.9, _SAVED * math.sqrt(most_bytes / len(encoded)))))
        encoded = _encode_webp(shrink_image(pixels, side), _QUALITIES[-1])
    return encoded


def _encode_webp(pixels: RGB, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=quality, method=_METHOD)
    return stream.getvalue()


class ThumbnailWorker:
    """Makes the pictures of frames. Built once per process.

    Parameters
    ----------
    exif, max_pixels
        How frames are read: see `images.open_image`.
    encode
        How pictures are encoded.
    """

    def __init__(self, exif: str, max_pixels: int, encode: Encoder = encode_thumbnail) -> None:
        self._exif, self._max_pixels, self._encode = exif, max_pixels, encode

    def __call__(self, source: Source, tasks: Sequence[ThumbnailTask], at: Callable[[int | None], None]) -> pa.Table:
        """Make the pictures of a shard; return one row per frame.

        Parameters
        ----------
        source
            Where the frames are.
        tasks
            The frames.
        at
            Called with the position of each frame before work on it begins.
        """
        paths = [task.frame_path for task in tasks]
        images = read_images(source, paths, exif=self._exif, max_pixels=self._max_pixels)
        rows = [_try_pictures(task, image, self._encode) for task, image in _announce_frames(tasks, images, at)]
        return pa.Table.from_pylist(rows, schema=_RESULT)


_ReadImage = FrameImage | MissingFrameError | UnreadableImageError


def _announce_frames(
    tasks: Sequence[ThumbnailTask],
    images: Iterator[tuple[str, _ReadImage]],
    at: Callable[[int | None], None],
) -> Iterator[tuple[ThumbnailTask, _ReadImage]]:
    """Yield each frame with its image, and report it before the source is asked for it."""
    for position, task in enumerate(tasks):
        at(position)
        yield task, next(images)[1]
    for _ in images:  # nothing is left: the source may close its files
        pass


def _try_pictures(task: ThumbnailTask, image: _ReadImage, encode: Encoder) -> Mapping[str, Any]:
    if isinstance(image, Exception):
        return {"fault": str(image)}
    try:
        _check_frame(task, image)
        return {"pictures": list(_make_pictures(task, image, encode)), "size": [image.width, image.height]}
    except UnreadableImageError as error:
        return {"fault": str(error)}


def _check_frame(task: ThumbnailTask, image: FrameImage) -> None:
    """Refuse a frame that is not the one whose boxes are known."""
    if task.content is not None and image.content != task.content:
        raise UnreadableImageError("the file changed since detection")
    if task.size is not None and (image.width, image.height) != task.size:
        width, height = task.size
        raise UnreadableImageError(
            f"the frame has {image.width} x {image.height} pixels, and had {width} x {height} at detection"
        )


def _make_pictures(task: ThumbnailTask, image: FrameImage, encode: Encoder) -> Iterator[bytes]:
    longer = max(image.width, image.height)
    pixels = image.read_pixels(max(_find_side(cut, longer) for cut in task.cuts))
    scale = max(pixels.shape[:2]) / longer
    pixels = blur_boxes(pixels, np.array(task.faces).reshape(-1, 4) * scale)
    for cut in task.cuts:
        part = pixels if cut.box is None else _cut_box(pixels, np.array(cut.box) * scale)
        yield encode(part, cut.side, (cut.characters - len(DATA_URI)) // 4 * 3)


def _find_side(cut: Cut, longer: int) -> int:
    """Return the longer side at which a frame has to be decoded for a picture."""
    if cut.box is None:
        return cut.side
    x1, y1, x2, y2 = cut.box
    return math.ceil(min(1.0, cut.side / max(x2 - x1, y2 - y1, 1)) * longer)


def _cut_box(pixels: RGB, box: Iterable[float]) -> RGB:
    """Return the part of the pixels in a box, at least one pixel."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = round_outward(np.array(list(box))).tolist()
    left, top = min(max(0, x1), width - 1), min(max(0, y1), height - 1)
    return pixels[top : max(y2, top + 1), left : max(x2, left + 1)]
