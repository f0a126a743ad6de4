"""From the bytes of a file to pixels."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

RGB = NDArray[np.uint8]
"""Pixels: uint8, shape (height, width, 3), red first."""

FORMATS = ("PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What is read beside JPEG."""

_ORIENTATION = 0x0112  # the EXIF tag, 1 to 8
_ON_ITS_SIDE = (5, 6, 7, 8)
_SMALLEST = 8  # of a JPEG's blocks of 8 x 8 pixels the least is one pixel each


class Unreadable(ValueError):
    """An image that cannot be read; the message says why."""


class Picture:
    """An image file whose header was looked at; its pixels are decoded when they are asked for.

    Grey becomes three equal channels, 16 bits become 8, alpha is dropped, of an animation the first picture is taken.

    Parameters
    ----------
    content
        A whole file: JPEG, or one of `FORMATS`.
    exif
        ``ignore``: pixels as they are stored; ``apply``: turned as the EXIF orientation says. A TIFF is turned always.
    max_pixels
        More pixels than this are not decoded.

    Attributes
    ----------
    width, height
        Of the whole image, in pixels.

    Raises
    ------
    Unreadable
        If this is no image or is too large.
    """

    def __init__(self, content: bytes, *, exif: str = "ignore", max_pixels: int = 100_000_000) -> None:
        if not content:
            raise Unreadable("the file is empty")
        self._content = content
        self._orientation: object = None
        self._whole: RGB | None = None
        self._ahead: tuple[int | None, RGB] | None = None
        with _faults_of_the_image():
            if content.startswith(b"\xff\xd8"):
                height, width, *_ = simplejpeg.decode_jpeg_header(content, strict=False)
                check_size(width, height, max_pixels)
                self._stored = width, height
            else:  # nothing is gained by waiting: only a JPEG can be decoded in part
                self._whole = _decode_other(content, max_pixels)
                self._stored = self._whole.shape[1], self._whole.shape[0]
            if exif == "apply":
                self._orientation = _orientation(content)
        self.width, self.height = self._stored[:: -1 if self._orientation in _ON_ITS_SIDE else 1]

    def pixels(self, side: int | None = None) -> RGB:
        """Decode the image.

        Parameters
        ----------
        side
            A longer side, in pixels, that is enough: a JPEG of at least twice of that is decoded to a half, a quarter
            or an eighth (by the discrete cosine transform's lower frequencies alone), no smaller than `side`, in about
            that share of the time. None: every pixel.

        Returns
        -------
        ndarray
            uint8, shape (height, width, 3), or that divided by 2, 4 or 8 and rounded up.

        Raises
        ------
        Unreadable
            If its data is broken or ends early.
        """
        if self._ahead and self._ahead[0] == side:
            return self._ahead[1]
        with _faults_of_the_image():
            image = _decode_jpeg(self._content, *self._shrunk(side)) if self._whole is None else self._whole
            return _turn(image, self._orientation)

    def decode_ahead(self, side: int | None = None) -> None:
        """Decode in a thread what `pixels` will be asked for; what is wrong with it `pixels` says."""
        with contextlib.suppress(Unreadable):
            self._ahead = side, self.pixels(side)

    def is_whole(self, image: RGB) -> bool:
        """Whether `image`, of `pixels`, has every pixel."""
        return image.shape[:2] == (self.height, self.width)

    def _shrunk(self, side: int | None) -> tuple[int, int]:
        factor = 1
        while side and factor < _SMALLEST and max(self._stored) >= 2 * factor * side:
            factor *= 2
        width, height = self._stored
        return -(-width // factor), -(-height // factor)


class Decoded(Picture):
    """A picture whose pixels are there already, as those of a frame of a video.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3), red first.
    """

    def __init__(self, image: RGB) -> None:
        self._image = image
        self.height, self.width = image.shape[:2]

    def pixels(self, side: int | None = None) -> RGB:
        """Return every pixel, whatever longer side is enough."""
        return self._image


def decode(content: bytes, *, exif: str = "ignore", max_pixels: int = 100_000_000) -> RGB:
    """Decode every pixel of an image to RGB, uint8, shape (height, width, 3): see `Picture`.

    Raises
    ------
    Unreadable
        If this is no image, is too large, or its data ends early.
    """
    return Picture(content, exif=exif, max_pixels=max_pixels).pixels()


def shrink(image: RGB, side: int) -> RGB:
    """Shrink an image to a longer side of `side` pixels; smaller ones stay.

    By halves, each pixel the average of four, and the rest, less than a half, by interpolation between neighbours.
    """
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # An average over parts of pixels costs many times as much, and showed no better boxes.
    while image.shape[0] >= 2 * size[1] and image.shape[1] >= 2 * size[0]:
        half = image.shape[1] // 2, image.shape[0] // 2
        even = image[: 2 * half[1], : 2 * half[0]]
        image = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if size == (image.shape[1], image.shape[0]):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


@contextlib.contextmanager
def _faults_of_the_image() -> Iterator[None]:
    """Take whatever decoders raise, who meet hostile bytes, for the fault of the image, not of the run."""
    try:
        yield
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(f"not an image: neither JPEG nor {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"too large: {error}") from error
    except Exception as error:
        raise Unreadable(f"broken image: {error}") from error


def _decode_jpeg(content: bytes, width: int, height: int) -> RGB:
    def decoded(strict: bool) -> RGB:
        return np.asarray(simplejpeg.decode_jpeg(content, "RGB", min_width=width, min_height=height, strict=strict))

    try:
        return decoded(True)
    except ValueError as error:
        # The decoder fills what is missing with grey and only warns, and of its warnings it tells the first alone: if
        # that was another one (of stray bytes, which cost no picture), Pillow says whether the data ends early.
        if "premature end" in str(error).lower():
            raise Unreadable("truncated: the JPEG's data ends early") from error
        with _open(content) as picture:
            picture.load()
        return decoded(False)


def _decode_other(content: bytes, max_pixels: int) -> RGB:
    with _open(content) as header:
        check_size(*header.size, max_pixels)
        kind = header.format
    pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise Unreadable(f"truncated or broken {kind}")
    return np.asarray(pixels, dtype=np.uint8)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a size of more than `max_pixels`, or of none.

    Raises
    ------
    Unreadable
        If it is refused.
    """
    if width * height > max_pixels:
        raise Unreadable(f"too large: {width} x {height} pixels, more than max_pixels ({max_pixels})")
    if width < 1 or height < 1:
        raise Unreadable(f"no pixels: {width} x {height}")


def _orientation(content: bytes) -> object:
    with _open(content) as header:
        # A TIFF's orientation is its own, and every decoder has applied it.
        return None if header.format == "TIFF" else header.getexif().get(_ORIENTATION)


def _turn(image: RGB, orientation: object) -> RGB:
    """Undo an EXIF orientation: 2, 4, 5 and 7 are mirrored, 5 to 8 lie on their side; others mean nothing."""
    turned_as: dict[object, tuple[int, bool]] = {
        2: (0, True),
        3: (2, False),
        4: (2, True),
        5: (3, True),
        6: (3, False),
        7: (1, True),
        8: (1, False),
    }
    turns, mirrored = turned_as.get(orientation, (0, False))
    turned = np.rot90(image, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _open(content: bytes) -> Image.Image:
    """Read the header alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures and odd EXIF: the first is checked, the second no matter
        return Image.open(io.BytesIO(content), formats=("JPEG", *FORMATS))
