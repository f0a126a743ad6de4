"""Every format but JPEG: decoded at once, since none can be decoded to a smaller size."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from detectime import paths
from detectime.decoding.contract import (
    ORIENTATION_TAG,
    RGB,
    Header,
    UnreadableImageError,
    check_orientation,
    check_size,
    read_orientation,
)
from detectime.decoding.naming import TIFF_BEGINNINGS, name_content, name_raw, read_brand

FORMATS = ("PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")
"""Formats that are read besides JPEG, as Pillow calls them; HEIC is read with the extra `heif`."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHECKED_CHUNKS = (b"IHDR", b"PLTE", b"IDAT")
_BY_PILLOW = ("AVIF", "JPEG2000", "PPM", "QOI", "HEIF")
_SIXTEEN_BITS = ("PPM", "JPEG2000")  # more than eight bits of grey become sixteen in Pillow
_UNREAD = "a {} that is broken or of a kind that is not read; convert it to PNG"
_BEGINNINGS = (
    *((b"RIFF", "WebP"), (b"BM", "BMP"), (b"GIF8", "GIF"), (b"qoif", "QOI")),
    *((b"\0\0\0\x0cjP", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000")),
)


def decode(encoded: bytes, max_pixels: int) -> tuple[Header, RGB]:
    """Decode an image file that is no JPEG.

    Raises
    ------
    UnreadableImageError
        If this is no image, is too large, or if its data is damaged or incomplete as far as its format can tell.

    Examples
    --------
    >>> header, pixels = decode(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes(), 1_000_000)
    >>> header, pixels.shape
    (Header(width=64, height=48, orientation=1, is_upright=False, is_reducible=False), (48, 64, 3))
    """
    if encoded.startswith(_PNG_SIGNATURE):
        orientation = _check_png(encoded, max_pixels)
        pixels = _decode_by_opencv(encoded)
        return Header(pixels.shape[1], pixels.shape[0], orientation), pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, which are checked, and of odd metadata, which does no harm
        image = _open(encoded)
        check_size(*image.size, max_pixels)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _check_tiles(image.tag_v2, max_pixels)
        orientation, is_upright = _read_orientation(image)  # before Pillow turns a TIFF
        # OpenCV returns what it could decode of some damaged files; Pillow tells.
        try:
            image.load()
        except Exception as error:  # hostile bytes make decoders raise all kinds
            raise UnreadableImageError(f"truncated or broken {_name(image)}") from error
    pixels = _convert(image) if image.format in _BY_PILLOW else _decode_by_opencv(encoded, image)
    check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    return Header(pixels.shape[1], pixels.shape[0], orientation, is_upright), pixels


def _decode_by_opencv(encoded: bytes, image: Image.Image | None = None) -> RGB:
    """Decode what Pillow decoded to `image`, which is wrong where samples have more than eight bits."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: Any = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if pixels is not None:
        return np.asarray(pixels, dtype=np.uint8)
    if image is None:
        raise UnreadableImageError("truncated or broken PNG")
    if image.format == "TIFF":  # of GIF and BMP, OpenCV refuses damage that Pillow accepts
        return _convert(image)
    raise UnreadableImageError(_UNREAD.format(_name(image)))


def _name(image: Image.Image) -> str:
    return {"HEIF": "HEIC", "JPEG2000": "JPEG 2000", "WEBP": "WebP"}.get(str(image.format), str(image.format))


def _convert(image: Image.Image) -> RGB:
    """Convert what Pillow decoded."""
    if image.mode.startswith(("I", "F")):  # Pillow would clip it to eight bits
        if image.format not in _SIXTEEN_BITS or image.mode.startswith("F"):
            raise UnreadableImageError(_UNREAD.format(_name(image)))
        return np.repeat((np.asarray(image)[..., np.newaxis] >> 8).astype(np.uint8), 3, axis=-1)
    return np.array(image.convert("RGB"))


def _check_png(encoded: bytes, max_pixels: int) -> int:
    """Check the size and the checksums of a PNG, and return its orientation.

    Pillow would have to decode the pixels to find a chunk of Exif behind them.
    """
    view = memoryview(encoded)
    exif: bytes | None = None
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(encoded):
        kind = encoded[position + 4 : position + 8]
        end = position + 8 + int.from_bytes(encoded[position : position + 4])
        if position == len(_PNG_SIGNATURE):
            if kind != b"IHDR":
                raise UnreadableImageError("broken PNG: it does not begin with its header")
            width, height = (int.from_bytes(encoded[position + k : position + k + 4]) for k in (8, 12))
            check_size(width, height, max_pixels)
        if kind in _CHECKED_CHUNKS and zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise UnreadableImageError(f"truncated or broken PNG: wrong checksum at byte {position}")
        if kind == b"eXIf" and exif is None:
            exif = encoded[position + 8 : end]
        position = end + 4
    return read_orientation(exif)


def _open(encoded: bytes) -> Image.Image:
    """Read the header alone."""
    kind = read_brand(encoded)
    if kind == "HEIC":
        return _open_heic(encoded)
    if (raw := name_raw(encoded)) is not None:  # Pillow would take its thumbnail
        raise UnreadableImageError(raw)
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except OSError as error:  # also UnidentifiedImageError
        raise UnreadableImageError("truncated or broken AVIF" if kind == "AVIF" else _explain(encoded)) from error


def _check_tiles(tags: Mapping[int, Any], max_pixels: int) -> None:
    """Refuse tiles that a small image does not need and that a decoder would make room for."""
    size = tags.get(TiffImagePlugin.TILEWIDTH), tags.get(TiffImagePlugin.TILELENGTH)
    if isinstance(size[0], int) and isinstance(size[1], int):
        check_size(size[0], size[1], max_pixels)


def _explain(encoded: bytes) -> str:
    """Say why Pillow does not know a file."""
    if (name := name_content(encoded)) is not None:
        return name
    for beginning, kind in _BEGINNINGS:
        if encoded.startswith(beginning):
            return f"truncated or broken {kind}"
    if encoded.startswith(TIFF_BEGINNINGS):
        return _UNREAD.format("TIFF")
    return f"not an image: neither JPEG nor {', '.join(FORMATS)}, HEIC"


def _open_heic(encoded: bytes) -> Image.Image:
    try:
        import pillow_heif  # an extra
    except ImportError as error:
        install = paths.format_install("heif")
        raise UnreadableImageError(f"a HEIC image, which needs the extra heif; install it with: {install}") from error
    try:
        return cast(Image.Image, pillow_heif.HeifImageFile(io.BytesIO(encoded)))
    except SyntaxError as error:
        raise UnreadableImageError("truncated or broken HEIC") from error


def _read_orientation(image: Image.Image) -> tuple[int, bool]:
    """Return the orientation that a file stores, and whether its decoder applies it."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # the tag belongs to the format itself
        return check_orientation(image.tag_v2.get(ORIENTATION_TAG)), True
    if image.format == "HEIF":
        return check_orientation(image.info.get("original_orientation")), True
    # Of an AVIF, Pillow makes Exif from what the container says, which counts alone.
    return read_orientation(image.info.get("exif")), False
