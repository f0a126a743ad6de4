"""From encoded bytes to upright pixels: header checks, decoding, and hashing a crop."""

from __future__ import annotations

import contextlib
import functools
import math
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from detectime.boxes import SIDEWAYS, invert_orientation
from detectime.decoding import formats, jpeg
from detectime.decoding.contract import RGB as RGB  # as others import it from here
from detectime.decoding.contract import UPRIGHT, Header, check_size
from detectime.decoding.contract import UnreadableImageError as UnreadableImageError

MAX_PIXELS = 178_956_970
"""Upper limit of `max_pixels`: Pillow refuses larger images."""

# By EXIF orientation: quarter turns to the left that make the image upright, and whether it is mirrored after that.
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}

_DARK = 40  # mean of the pixels that are not black, below which an image is dark
_BRIGHTENED = 90  # to what a pixel of a dark image is raised that equals the mean
_HASH_SIDE = 64  # pixels: a crop is averaged to a square of this side before it is hashed
_HASH_FREQUENCIES = 16  # the lowest ones in x and in y
_BLUR_MARGIN = 0.1  # of the sides of a box
_BLUR_SQUARES = 5  # across a box
_SMALLEST_BLOCK = 8  # a JPEG block of 8 x 8 pixels is decoded to one pixel at least


class LazyFrame(Protocol):
    """A frame that a source can describe without decoding it, such as a frame of a video.

    It can be decoded until the source is asked for the next frame.

    Attributes
    ----------
    width, height
        Size as stored, in pixels.
    orientation
        EXIF orientation as stored, 1 to 8.
    content
        `describe_content` of the file that holds the frame.
    """

    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def orientation(self) -> int: ...  # noqa: D102
    @property
    def content(self) -> str: ...  # noqa: D102

    def decode(self) -> RGB:
        """Decode the pixels as stored, neither turned nor mirrored.

        Raises
        ------
        UnreadableImageError
            If the frame, or data that it depends on, is damaged.
        """
        ...


class FrameImage(Protocol):
    """An image of known size, decoded or still encoded, and upright unless orientations are ignored: see `open_image`.

    Attributes
    ----------
    width, height
        Size of the upright image in pixels.
    orientation
        EXIF orientation as stored, 1 to 8, whether it is applied or not.
    content
        `describe_content` of the encoded bytes.
    """

    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def orientation(self) -> int: ...  # noqa: D102
    @property
    def content(self) -> str: ...  # noqa: D102

    def read_pixels(self, side: int | None = None) -> RGB:
        """Return the upright pixels; a smaller version will do if its longer side has `side` pixels at least."""
        ...


class EncodedImage:
    """An image file whose header has been read. Pixels are decoded on demand.

    Grey becomes three equal channels, 16 bits become 8, alpha is dropped, and of an animation the first image is taken.

    Parameters
    ----------
    encoded
        A whole file: JPEG, one of `decoding.formats.FORMATS`, or HEIC.
    exif
        ``apply``: pixels are turned as the EXIF orientation says; ``ignore``: pixels are as stored, also those of a
        TIFF or a HEIC, whose decoders turn them.
    max_pixels
        An image with more pixels is refused.

    Attributes
    ----------
    width, height
        Size in pixels of what `read_pixels` returns.
    orientation
        EXIF orientation as stored, 1 to 8, whether it is applied or not.

    Raises
    ------
    UnreadableImageError
        If this is not an image, or is too large.

    Examples
    --------
    >>> image = EncodedImage(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    >>> image.width, image.height, image.read_pixels().shape
    (64, 48, (48, 64, 3))
    """

    def __init__(self, encoded: bytes, *, exif: str = "apply", max_pixels: int = 100_000_000) -> None:
        self._encoded = encoded
        self._max_pixels = max_pixels
        self._pixels: RGB | None = None
        try:
            header = self._read_header()
        except UnreadableImageError as error:
            error.content = self.content
            raise
        self.orientation = header.orientation
        if exif == "apply":
            self._orientation_to_undo = UPRIGHT if header.is_upright else header.orientation
        else:
            self._orientation_to_undo = invert_orientation(header.orientation) if header.is_upright else UPRIGHT
        self._stored_size = header.width, header.height
        self._is_reducible = header.is_reducible
        self.width, self.height = self._stored_size[:: -1 if self._orientation_to_undo in SIDEWAYS else 1]

    @functools.cached_property
    def content(self) -> str:
        """`describe_content` of the file."""
        return describe_content(self._encoded)

    def read_pixels(self, side: int | None = None) -> RGB:
        """Decode the image.

        Parameters
        ----------
        side
            A longer side in pixels that is sufficient. A JPEG whose longer side is at least twice that is decoded to a
            half, a quarter or an eighth, from the lower frequencies of its blocks alone, never below `side`. The time
            falls in about the same proportion. None: full size.

        Returns
        -------
        ndarray
            uint8, shape (height, width, 3), or that divided by 2, 4 or 8 and rounded up. Kinds of JPEG that the fast
            decoder declines are never reduced.

        Raises
        ------
        UnreadableImageError
            If the data is broken or ends early.
        """
        with _decoder_errors_as_unreadable():
            stored = self._pixels
            if stored is None:
                stored = jpeg.decode(self._encoded, *self._choose_size(side), self._max_pixels)
            return turn_upright(stored, self._orientation_to_undo)

    def _read_header(self) -> Header:
        """Read and check the header; any format but JPEG is decoded."""
        if not self._encoded:
            raise UnreadableImageError("the file is empty")
        with _decoder_errors_as_unreadable():
            if self._encoded.startswith(jpeg.SIGNATURE):
                return jpeg.read_header(self._encoded, self._max_pixels)
            # Only a JPEG can be decoded to a smaller size: waiting would gain nothing.
            header, self._pixels = formats.decode(self._encoded, self._max_pixels)
            return header

    def _choose_size(self, side: int | None) -> tuple[int, int]:
        """Return the width and height to which a JPEG is decoded."""
        factor = 1
        while self._is_reducible and side and factor < _SMALLEST_BLOCK and max(self._stored_size) >= 2 * factor * side:
            factor *= 2
        width, height = self._stored_size
        return -(-width // factor), -(-height // factor)


class DecodedImage:
    """An upright image whose pixels are in memory, such as a frame of a video.

    Parameters
    ----------
    pixels
        uint8, shape (height, width, 3), red first, upright.
    content
        `describe_content` of the file that it was decoded from.
    orientation
        EXIF orientation as stored, 1 to 8.

    Examples
    --------
    >>> image = DecodedImage(np.zeros((48, 64, 3), np.uint8), "5-3610a686")
    >>> image.width, image.height
    (64, 48)
    """

    def __init__(self, pixels: RGB, content: str, orientation: int = UPRIGHT) -> None:
        self._pixels = pixels
        self.content = content
        self.orientation = orientation
        self.height, self.width = pixels.shape[:2]

    def read_pixels(self, side: int | None = None) -> RGB:
        """Return all pixels, whatever side is sufficient."""
        return self._pixels


def open_image(frame: bytes | LazyFrame, *, exif: str = "apply", max_pixels: int = 100_000_000) -> FrameImage:
    """Open what a source yields: check its size, and see to its orientation.

    Parameters
    ----------
    frame
        An encoded image, whose pixels are decoded later; or a lazy frame, which is decoded now.
    exif
        ``apply``: the image is turned as its orientation says; ``ignore``: it stays as stored.
    max_pixels
        A larger image is refused before it is decoded.

    Raises
    ------
    UnreadableImageError
        If it cannot be decoded, or is too large.

    Examples
    --------
    >>> open_image(b"not an image")
    Traceback (most recent call last):
    detectime.decoding.contract.UnreadableImageError: text, not an image; copy the image again
    """
    if isinstance(frame, bytes):
        return EncodedImage(frame, exif=exif, max_pixels=max_pixels)
    try:
        check_size(frame.width, frame.height, max_pixels)
        pixels = frame.decode()
        check_size(pixels.shape[1], pixels.shape[0], max_pixels)  # its size may differ from the file header's
    except UnreadableImageError as error:
        error.content = frame.content
        raise
    shown = turn_upright(pixels, frame.orientation) if exif == "apply" else pixels
    return DecodedImage(shown, frame.content, frame.orientation)


def decode_image(encoded: bytes, *, exif: str = "apply", max_pixels: int = 100_000_000) -> RGB:
    """Decode an image file to RGB, uint8, shape (height, width, 3): see `EncodedImage`.

    Raises
    ------
    UnreadableImageError
        If this is not an image, is too large, or its data ends early.

    Examples
    --------
    >>> decode_image(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()).shape
    (48, 64, 3)
    """
    return EncodedImage(encoded, exif=exif, max_pixels=max_pixels).read_pixels()


def is_full_size(pixels: RGB, image: FrameImage) -> bool:
    """Whether pixels that `FrameImage.read_pixels` returned are all that the image has.

    Examples
    --------
    >>> pixels = np.zeros((48, 64, 3), np.uint8)
    >>> is_full_size(pixels, DecodedImage(pixels, "5-3610a686"))
    True
    """
    return pixels.shape[:2] == (image.height, image.width)


def describe_content(encoded: bytes) -> str:
    """Describe encoded bytes by size and CRC-32: frames of equal content have equal descriptions.

    Examples
    --------
    >>> describe_content(b"hello")
    '5-3610a686'
    """
    return f"{len(encoded)}-{zlib.crc32(encoded):08x}"


def compute_max_bytes(max_pixels: int) -> int:
    """Return a file size in bytes that no image of `max_pixels` exceeds: 16 bits for each of four channels.

    Examples
    --------
    >>> compute_max_bytes(100_000_000)
    801048576
    """
    return 8 * max_pixels + 2**20


def hash_crop(image: RGB, box: ArrayLike) -> bytes | None:
    """Hash the pixels inside a box: crops that look alike have hashes that differ in few bits.

    The hash follows Facebook's PDQ (<https://github.com/facebook/ThreatExchange/tree/main/pdq>): the luminance is
    averaged to 64 × 64 pixels, and the lowest 16 × 16 frequencies of its discrete cosine transform, without the
    constant ones, are compared with their median. All numbers are integers, so every machine computes the same bits.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3), red first.
    box
        ``[x1, y1, x2, y2]`` in pixels of `image`. Pixels that it covers in part are included; what lies outside of the
        image is not.

    Returns
    -------
    bytes or None
        32 bytes, one bit per frequency, row by row; None if the box lies outside of the image.

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
    middle = len(frequencies) // 2 - 1  # so that half of the bits are set
    return np.packbits(frequencies > np.partition(frequencies, middle)[middle]).tobytes()


def _average_luminance(crop: RGB) -> NDArray[np.uint8]:
    """Resize the luminance of a crop to the square that is hashed."""
    grey: Any = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    while min(grey.shape) >= 2 * _HASH_SIDE:  # halving costs a fraction of an average over parts of pixels
        half = grey.shape[1] // 2, grey.shape[0] // 2
        grey = cv2.resize(grey[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
    # Averaging a smaller crop would give squares of equal pixels, with edges that the crop does not have.
    interpolation = cv2.INTER_LINEAR if min(grey.shape) < _HASH_SIDE else cv2.INTER_AREA
    return np.asarray(cv2.resize(grey, (_HASH_SIDE, _HASH_SIDE), interpolation=interpolation), dtype=np.uint8)


def _make_cosines() -> NDArray[np.float64]:
    """Make the lowest rows of the cosine transform, without the constant one, as integers, whose sums are exact."""
    rows, columns = np.mgrid[1 : _HASH_FREQUENCIES + 1, :_HASH_SIDE]
    cosines: NDArray[np.float64] = np.rint(4096 * np.cos(np.pi / (2 * _HASH_SIDE) * rows * (2 * columns + 1)))
    return cosines


_COSINES = _make_cosines()


def shrink_image(image: RGB, side: int) -> RGB:
    """Shrink an image to a longer side of `side` pixels; a smaller image is returned as it is.

    It is halved, each pixel the average of four, as often as possible; the rest is linear interpolation.

    Examples
    --------
    >>> shrink_image(np.zeros((480, 640, 3), np.uint8), 160).shape
    (120, 160, 3)
    """
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # An average over parts of pixels costs many times as much, and gave no better boxes.
    while image.shape[0] >= 2 * size[1] and image.shape[1] >= 2 * size[0]:
        half = image.shape[1] // 2, image.shape[0] // 2
        even = image[: 2 * half[1], : 2 * half[0]]
        image = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if size == (image.shape[1], image.shape[0]):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def blur_boxes(image: RGB, found: ArrayLike) -> RGB:
    """Make what boxes show unrecognisable: each becomes a mosaic of a few squares across, blurred.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3).
    found
        Boxes in pixels of `image`, shape (N, 4). Each is enlarged by a tenth of its size on every side: a face box ends
        at the forehead and the chin.

    Returns
    -------
    ndarray
        A copy; `image` itself if there are no boxes.

    Examples
    --------
    >>> image = np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)
    >>> blurred = blur_boxes(image, [[10, 10, 30, 30]])
    >>> np.array_equal(blurred[20, 20], image[20, 20]), np.array_equal(blurred[40, 60], image[40, 60])
    (False, True)
    """
    blurred = image
    for x1, y1, x2, y2 in np.asarray(found, np.float64).reshape(-1, 4).tolist():
        margin_x, margin_y = _BLUR_MARGIN * (x2 - x1), _BLUR_MARGIN * (y2 - y1)
        rows = slice(max(0, math.floor(y1 - margin_y)), max(0, math.ceil(y2 + margin_y)))
        columns = slice(max(0, math.floor(x1 - margin_x)), max(0, math.ceil(x2 + margin_x)))
        part = image[rows, columns]
        if not part.size:
            continue
        blurred = image.copy() if blurred is image else blurred
        small = cv2.resize(part, (_BLUR_SQUARES, _BLUR_SQUARES), interpolation=cv2.INTER_AREA)
        blurred[rows, columns] = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return blurred


def brighten_image(image: RGB) -> RGB:
    """Brighten a dark image by a gamma curve; any other is returned as it is.

    Networks that detect hands were trained in daylight. Of frames darkened to an eighth, three in four have their hand
    detected with it, and one in three without.

    Examples
    --------
    >>> dark, bright = np.full((48, 64, 3), 10, np.uint8), np.full((48, 64, 3), 200, np.uint8)
    >>> int(brighten_image(dark)[0, 0, 0]), brighten_image(bright) is bright
    (90, True)
    """
    mean = sum(cv2.mean(image)) / 3
    if mean < _DARK:  # black pixels may lie outside of the picture that the image was cut from
        shown = image[image.any(axis=-1)]
        mean = float(shown.mean()) if len(shown) else _DARK
    if mean >= _DARK:
        return image
    gamma = math.log(_BRIGHTENED / 255) / math.log(max(mean, 1.5) / 255)
    curve = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return curve[image]


@contextlib.contextmanager
def _decoder_errors_as_unreadable() -> Iterator[None]:
    """Turn any error of a decoder into `UnreadableImageError`: hostile bytes make decoders raise all kinds."""
    try:
        yield
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"too large: {error}") from error
    except Exception as error:
        raise UnreadableImageError(f"broken image: {error}") from error


def turn_upright(image: RGB, orientation: int) -> RGB:
    """Undo an EXIF orientation: 2, 4, 5 and 7 are mirrored, 5 to 8 lie on their side.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3), as stored.
    orientation
        1 to 8; any other number counts as 1.

    Returns
    -------
    ndarray
        The upright image, contiguous.

    Examples
    --------
    >>> turn_upright(np.zeros((48, 64, 3), np.uint8), 6).shape
    (64, 48, 3)
    """
    turns, mirrored = _TURNS.get(orientation, (0, False))
    turned = np.rot90(image, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
