"""From the bytes of a file to pixels."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import ArrayLike, NDArray
from PIL import Image, UnidentifiedImageError

RGB = NDArray[np.uint8]
"""Pixels: uint8, shape (height, width, 3), red first."""

FORMATS = ("PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What is read beside JPEG."""

_ORIENTATION = 0x0112  # the EXIF tag, 1 to 8
_UPRIGHT = 1
_ON_ITS_SIDE = (5, 6, 7, 8)
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
"""By EXIF orientation: quarter turns to the left that make a picture upright, and whether it is mirrored then."""

_HASHED_SIDE, _FREQUENCIES = 64, 16  # pixels to which a crop is averaged, and the lowest frequencies of them
_SMALLEST = 8  # of a JPEG's blocks of 8 x 8 pixels the least is one pixel each


class UnreadableImageError(ValueError):
    """An image that cannot be read; the message says why.

    Attributes
    ----------
    content
        What `describe_content` says of its bytes; None if they could not be read.
    """

    content: str | None = None


class EncodedImage:
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
        Of the whole image, turned, in pixels.
    orientation
        As it is stored, EXIF's 1 to 8 (1 if none of these is); None if `exif` is ``ignore``.

    Raises
    ------
    Unreadable
        If this is no image or is too large.
    """

    def __init__(self, content: bytes, *, exif: str = "ignore", max_pixels: int = 100_000_000) -> None:
        self._encoded = content
        self._whole: RGB | None = None
        self._ahead: tuple[int | None, RGB] | None = None
        self.orientation: int | None = None
        self._turned_as = _UPRIGHT  # the orientation that the decoder leaves to be undone
        try:
            self._stored = self._read_size(max_pixels)
            if exif == "apply":
                self.orientation, self._turned_as = _read_orientation(content)
        except UnreadableImageError as error:
            error.content = self.content
            raise
        self.width, self.height = self._stored[:: -1 if self._turned_as in _ON_ITS_SIDE else 1]

    @functools.cached_property
    def content(self) -> str:
        """What `describe_content` says of the file."""
        return describe_content(self._encoded)

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
            image = _decode_jpeg(self._encoded, *self._shrunk(side)) if self._whole is None else self._whole
            return turn_upright(image, self._turned_as)

    def decode_ahead(self, side: int | None = None) -> None:
        """Decode in a thread what `pixels` will be asked for; what is wrong with it `pixels` says."""
        with contextlib.suppress(UnreadableImageError):
            self._ahead = side, self.pixels(side)

    def is_whole(self, image: RGB) -> bool:
        """Whether `image`, of `pixels`, has every pixel."""
        return image.shape[:2] == (self.height, self.width)

    def _read_size(self, max_pixels: int) -> tuple[int, int]:
        """Return width and height as they are stored, after a check; what is no JPEG is decoded."""
        if not self._encoded:
            raise UnreadableImageError("the file is empty")
        with _faults_of_the_image():
            if self._encoded.startswith(b"\xff\xd8"):
                height, width, *_ = simplejpeg.decode_jpeg_header(self._encoded, strict=False)
                check_size(width, height, max_pixels)
                return width, height
            # Nothing is gained by waiting: only a JPEG can be decoded in part.
            self._whole = _decode_other(self._encoded, max_pixels)
            return self._whole.shape[1], self._whole.shape[0]

    def _shrunk(self, side: int | None) -> tuple[int, int]:
        factor = 1
        while side and factor < _SMALLEST and max(self._stored) >= 2 * factor * side:
            factor *= 2
        width, height = self._stored
        return -(-width // factor), -(-height // factor)


class DecodedImage(EncodedImage):
    """A picture whose pixels are there already, as those of a frame of a video.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3), red first, upright.
    content
        What `describe_content` says of the file that it was decoded from.
    orientation
        How the file stores it, EXIF's 1 to 8; None if that is not known.
    """

    def __init__(self, image: RGB, content: str, orientation: int | None = None) -> None:
        self._image = image
        self.content = content
        self.orientation = orientation
        self.height, self.width = image.shape[:2]

    def pixels(self, side: int | None = None) -> RGB:
        """Return every pixel, whatever longer side is enough."""
        return self._image


def decode_image(content: bytes, *, exif: str = "ignore", max_pixels: int = 100_000_000) -> RGB:
    """Decode every pixel of an image to RGB, uint8, shape (height, width, 3): see `EncodedImage`.

    Raises
    ------
    Unreadable
        If this is no image, is too large, or its data ends early.
    """
    return EncodedImage(content, exif=exif, max_pixels=max_pixels).pixels()


def describe_content(content: bytes) -> str:
    """Describe encoded bytes by their size and CRC-32: equal texts, equal frames.

    Examples
    --------
    >>> describe_content(b"hello")
    '5-3610a686'
    """
    return f"{len(content)}-{zlib.crc32(content):08x}"


def hash_crop(image: RGB, box: ArrayLike) -> bytes | None:
    """Hash what is inside a box so that crops that look alike have hashes of which few bits differ.

    As Facebook's PDQ does (<https://github.com/facebook/ThreatExchange/tree/main/pdq>): the luminance, averaged to
    64 × 64 pixels, of which the lowest 16 × 16 frequencies of the discrete cosine transform, but for the constant ones,
    are compared with their median. Numbers are whole from the pixels on, so that every machine makes the same bits.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3), red first.
    box
        ``[x1, y1, x2, y2]`` in pixels of `image`; pixels of which it covers a part count, what is outside does not.

    Returns
    -------
    bytes or None
        32 bytes, a bit for each frequency, row by row; None if nothing of the box is inside the image.

    Examples
    --------
    >>> image = np.arange(48, dtype=np.uint8).repeat(64 * 3).reshape(48, 64, 3)
    >>> len(hash_crop(image, [10, 10, 50.5, 40]))
    32
    >>> hash_crop(image, [70, 10, 90, 40]) is None
    True
    """
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float64).tolist()
    crop = image[max(0, math.floor(y1)) : max(0, math.ceil(y2)), max(0, math.floor(x1)) : max(0, math.ceil(x2))]
    if not crop.size:
        return None
    small = _average_luminance(crop).astype(np.float64)
    frequencies = (_COSINES @ small @ _COSINES.T).ravel()
    middle = len(frequencies) // 2 - 1  # half of the bits are set
    return np.packbits(frequencies > np.partition(frequencies, middle)[middle]).tobytes()


def _average_luminance(crop: RGB) -> NDArray[np.uint8]:
    """Bring the luminance of a crop to the size that is hashed."""
    grey: Any = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    while min(grey.shape) >= 2 * _HASHED_SIDE:  # halves cost a fraction of what an average over parts of pixels does
        half = grey.shape[1] // 2, grey.shape[0] // 2
        grey = cv2.resize(grey[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
    # Of a smaller crop the average would be squares of equal pixels, with edges that the crop does not have.
    smooth = cv2.INTER_LINEAR if min(grey.shape) < _HASHED_SIDE else cv2.INTER_AREA
    return np.asarray(cv2.resize(grey, (_HASHED_SIDE, _HASHED_SIDE), interpolation=smooth), dtype=np.uint8)


def _make_cosines() -> NDArray[np.float64]:
    """Make the lowest rows of the cosine transform but the constant one, as whole numbers: sums of them are exact."""
    rows, columns = np.mgrid[1 : _FREQUENCIES + 1, :_HASHED_SIDE]
    cosines: NDArray[np.float64] = np.rint(4096 * np.cos(np.pi / (2 * _HASHED_SIDE) * rows * (2 * columns + 1)))
    return cosines


_COSINES = _make_cosines()


def shrink_image(image: RGB, side: int) -> RGB:
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
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"not an image: neither JPEG nor {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"too large: {error}") from error
    except Exception as error:
        raise UnreadableImageError(f"broken image: {error}") from error


def _decode_jpeg(content: bytes, width: int, height: int) -> RGB:
    def decoded(strict: bool) -> RGB:
        return np.asarray(simplejpeg.decode_jpeg(content, "RGB", min_width=width, min_height=height, strict=strict))

    try:
        return decoded(True)
    except ValueError as error:
        # The decoder fills what is missing with grey and only warns, and of its warnings it tells the first alone: if
        # that was another one (of stray bytes, which cost no picture), Pillow says whether the data ends early.
        if "premature end" in str(error).lower():
            raise UnreadableImageError("truncated: the JPEG's data ends early") from error
        with _open(content) as picture:
            picture.load()
        return decoded(False)


def _decode_other(content: bytes, max_pixels: int) -> RGB:
    with _open(content) as header:
        check_size(*header.size, max_pixels)
        kind = header.format
    pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise UnreadableImageError(f"truncated or broken {kind}")
    return np.asarray(pixels, dtype=np.uint8)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a size of more than `max_pixels`, or of none.

    Raises
    ------
    Unreadable
        If it is refused.
    """
    if width * height > max_pixels:
        raise UnreadableImageError(f"too large: {width} x {height} pixels, more than max_pixels ({max_pixels})")
    if width < 1 or height < 1:
        raise UnreadableImageError(f"no pixels: {width} x {height}")


def _read_orientation(content: bytes) -> tuple[int, int]:
    """Return the orientation that a file stores, and the one that its decoder leaves to be undone; 1 is upright."""
    with _faults_of_the_image(), _open(content) as header:
        stored = header.getexif().get(_ORIENTATION)
        orientation = stored if isinstance(stored, int) and stored in _TURNS else _UPRIGHT
        # A TIFF's is its own, and every decoder has applied it.
        return orientation, _UPRIGHT if header.format == "TIFF" else orientation


def turn_upright(image: RGB, orientation: int) -> RGB:
    """Undo an orientation, EXIF's 1 to 8: 2, 4, 5 and 7 are mirrored, 5 to 8 lie on their side.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3), as it is stored.
    orientation
        As it is stored; another number means nothing.

    Returns
    -------
    ndarray
        The image upright, contiguous.

    Examples
    --------
    >>> turn_upright(np.zeros((48, 64, 3), np.uint8), 6).shape
    (64, 48, 3)
    """
    turns, mirrored = _TURNS.get(orientation, (0, False))
    turned = np.rot90(image, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _open(content: bytes) -> Image.Image:
    """Read the header alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures and odd EXIF: the first is checked, the second no matter
        return Image.open(io.BytesIO(content), formats=("JPEG", *FORMATS))
