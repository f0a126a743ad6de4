"""What decoders return, and the error that they raise."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detectime.errors import DocumentedError

RGB = NDArray[np.uint8]
"""Pixels: uint8, shape (height, width, 3), channels in the order red, green, blue."""

ORIENTATION_TAG = 0x0112
"""The tag in Exif, and in a TIFF itself."""
UPRIGHT = 1


class UnreadableImageError(DocumentedError, ValueError):
    """An image that cannot be decoded; the message says why.

    Attributes
    ----------
    content
        `images.describe_content` of its bytes; None if the bytes could not be read.
    """

    content: str | None = None


@dataclasses.dataclass(frozen=True)
class Header:
    """What an image file says of its pixels.

    Attributes
    ----------
    width, height
        Size of the pixels that its decoder returns.
    orientation
        EXIF orientation as stored, 1 to 8.
    is_upright
        Whether its decoder returns pixels that are upright already, whatever the orientation.
    is_reducible
        Whether it can be decoded to a half, a quarter or an eighth of its size.
    """

    width: int
    height: int
    orientation: int = UPRIGHT
    is_upright: bool = False
    is_reducible: bool = False


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image with more than `max_pixels` pixels, or with none.

    Raises
    ------
    UnreadableImageError
        If it is refused.

    Examples
    --------
    >>> check_size(64, 48, max_pixels=1_000_000)
    >>> check_size(6400, 4800, max_pixels=1_000_000)
    Traceback (most recent call last):
    detectime.decoding.contract.UnreadableImageError: too large: 6400 x 4800 pixels, more than max_pixels (1000000)
    """
    if width * height > max_pixels:
        raise UnreadableImageError(f"too large: {width} x {height} pixels, more than max_pixels ({max_pixels})")
    if width < 1 or height < 1:
        raise UnreadableImageError(f"no pixels: {width} x {height}")


def read_orientation(exif: bytes | None) -> int:
    """Return the orientation in a block of Exif.

    An orientation in XMP or in a text of a PNG, which Pillow would take next, does not count: browsers and
    ``cv2.imread`` do not turn by it.

    Parameters
    ----------
    exif
        The block, with or without the ``Exif\\0\\0`` before it; None if there is none.

    Returns
    -------
    int
        1 to 8; 1 if there is none, or if the block is broken.

    Examples
    --------
    >>> exif = Image.Exif()
    >>> exif[ORIENTATION_TAG] = 6
    >>> read_orientation(exif.tobytes()), read_orientation(b"broken"), read_orientation(None)
    (6, 1, 1)
    """
    if not exif:
        return UPRIGHT
    tags = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other broken tags
            tags.load(exif)
    except Exception:  # broken blocks make it raise all kinds, and do no harm to the pixels
        return UPRIGHT
    return check_orientation(tags.get(ORIENTATION_TAG))


def check_orientation(stored: object) -> int:
    """Return the value of the orientation tag if it is one of EXIF's, otherwise 1.

    Examples
    --------
    >>> check_orientation(6), check_orientation(9), check_orientation("six"), check_orientation(None)
    (6, 1, 1, 1)
    """
    return stored if isinstance(stored, int) and 1 <= stored <= 8 else UPRIGHT
