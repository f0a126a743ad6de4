"""From the bytes of a file to pixels."""

from __future__ import annotations

import io
import warnings
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


class Unreadable(ValueError):
    """An image that cannot be read; the message says why."""


def decode(content: bytes, *, exif: str = "ignore", max_pixels: int = 100_000_000) -> RGB:
    """Decode an image to RGB.

    The header is looked at before anything is decoded. Grey becomes three equal channels, 16 bits become 8, alpha is
    dropped, of an animation the first picture is taken.

    Parameters
    ----------
    content
        A whole file: JPEG, or one of `FORMATS`.
    exif
        ``ignore``: pixels as they are stored; ``apply``: turned as the EXIF orientation says. A TIFF is turned always.
    max_pixels
        More pixels than this are not decoded.

    Returns
    -------
    ndarray
        uint8, shape (height, width, 3).

    Raises
    ------
    Unreadable
        If this is no image, is too large, or its data ends early.
    """
    if not content:
        raise Unreadable("the file is empty")
    # Decoders meet hostile bytes here: whatever they raise is the image's fault, not the run's.
    try:
        if content.startswith(b"\xff\xd8"):
            image = _decode_jpeg(content, max_pixels)
        else:
            image = _decode_other(content, max_pixels)
        return _turn(image, _orientation(content)) if exif == "apply" else image
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(f"not an image: neither JPEG nor {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"too large: {error}") from error
    except Exception as error:
        raise Unreadable(f"broken image: {error}") from error


def _decode_jpeg(content: bytes, max_pixels: int) -> RGB:
    height, width, *_ = simplejpeg.decode_jpeg_header(content, strict=False)
    _check_size(width, height, max_pixels)
    try:
        return np.asarray(simplejpeg.decode_jpeg(content, "RGB", strict=True))
    except ValueError as error:
        # The decoder fills what is missing with grey and only warns, and of its warnings it tells the first alone: if
        # that was another one (of stray bytes, which cost no picture), Pillow says whether the data ends early.
        if "premature end" in str(error).lower():
            raise Unreadable("truncated: the JPEG's data ends early") from error
        with _open(content) as picture:
            picture.load()
        return np.asarray(simplejpeg.decode_jpeg(content, "RGB", strict=False))


def _decode_other(content: bytes, max_pixels: int) -> RGB:
    with _open(content) as header:
        _check_size(*header.size, max_pixels)
        kind = header.format
    pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise Unreadable(f"truncated or broken {kind}")
    return np.asarray(pixels, dtype=np.uint8)


def _check_size(width: int, height: int, max_pixels: int) -> None:
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
