"""Every format but JPEG: decoded at once, since none can be decoded to a smaller size."""

from __future__ import annotations

import io
import re
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
    UPRIGHT,
    Header,
    UnreadableImageError,
    check_orientation,
    check_size,
    read_orientation,
)
from detectime.decoding.naming import TIFF_BEGINNINGS, name_content, name_raw, read_brand, read_tags

FORMATS = ("PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Formats that are read besides JPEG, as Pillow calls them; HEIC is read with the extra `heif`."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 13  # bytes
_CHECKED_CHUNKS = (b"IHDR", b"PLTE", b"IDAT")
_BY_PILLOW = ("AVIF", "JPEG2000", "HEIF")
_SIXTEEN_BITS = "JPEG2000"  # of which more than eight bits of grey become sixteen in Pillow
_RUNS = (1, 2)  # compression of a BMP
_DEFLATED = (8, 32946)  # compression of a TIFF
_WEBP = 50_001
_FILL_ORDER, _REVERSED_BITS = 0x010A, 2
_PLACES = (
    (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS),
    (TiffImagePlugin.STRIPBYTECOUNTS, TiffImagePlugin.TILEBYTECOUNTS),
)
_COLOURS = 3  # channels
_PIECE = 2**20  # bytes that are inflated at once
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P([1-6])" + _SPACE + rb"\d+" + _SPACE + rb"\d+" + _SPACE + rb"(\d*)")
_UNREAD = "a {} that is broken or of a kind that is not read; convert it to PNG"
_BEGINNINGS = (
    *((b"RIFF", "WebP"), (b"BM", "BMP"), (b"GIF8", "GIF")),
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
        if image.format == "JPEG2000":
            _check_channels(image, max_pixels)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _check_tiles(image.tag_v2, max_pixels)
            _check_deflated(encoded, image.tag_v2)
        if image.format == "PPM":
            pixels = _decode_pnm(encoded)
            return Header(pixels.shape[1], pixels.shape[0]), pixels
        orientation, is_upright = _read_orientation(image)  # before Pillow turns a TIFF
        is_tiled = TiffImagePlugin.TILEWIDTH in getattr(image, "tag_v2", ())
        # OpenCV returns what it could decode of some damaged files; Pillow tells.
        try:
            image.load()
        except Exception as error:  # hostile bytes make decoders raise all kinds
            if getattr(image, "tag_v2", {}).get(TiffImagePlugin.COMPRESSION) == _WEBP:
                raise UnreadableImageError(_UNREAD.format("TIFF")) from error
            raise UnreadableImageError(f"truncated or broken {_name(image)}") from error
    is_turned_by_tile = is_tiled and orientation != UPRIGHT  # by OpenCV
    pixels = _convert(image) if image.format in _BY_PILLOW or is_turned_by_tile else _decode_by_opencv(encoded, image)
    if image.format == "BMP" and image.info.get("compression") in _RUNS:  # OpenCV tells damage, but skews the rows
        pixels = _convert(image)
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


def _decode_pnm(encoded: bytes) -> RGB:
    """Decode a PPM, a PGM or a PBM; samples are scaled as Pillow does, which takes seconds for it."""
    header = _PNM.match(encoded)
    if header is None:
        raise UnreadableImageError(_UNREAD.format("PPM"))
    ended = encoded + b"\n" if header[1] in b"123" else encoded  # OpenCV wants white space behind the last number
    samples: Any = cv2.imdecode(np.frombuffer(ended, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise UnreadableImageError("truncated or broken PPM")
    is_grey = samples.ndim == 2
    if header[1] in b"56" or samples.dtype == np.uint16:  # OpenCV scales the others
        largest = int(header[2])
        scale_to, shift = (65_535, 8) if is_grey and samples.dtype == np.uint16 else (255, 0)
        table = np.minimum(np.rint(np.arange(65_536) / largest * scale_to), scale_to).astype(np.uint16) >> shift
        samples = table.astype(np.uint8)[samples]
    return np.array(np.dstack([samples] * 3) if is_grey else samples[..., ::-1], dtype=np.uint8, order="C")


def _name(image: Image.Image) -> str:
    return {"HEIF": "HEIC", "JPEG2000": "JPEG 2000", "WEBP": "WebP"}.get(str(image.format), str(image.format))


def _convert(image: Image.Image) -> RGB:
    """Convert what Pillow decoded."""
    if image.mode.startswith(("I", "F")):  # Pillow would clip it to eight bits
        if image.format != _SIXTEEN_BITS or image.mode.startswith("F"):
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
            if len(encoded) < position + 8 + _PNG_HEADER + 4:
                raise UnreadableImageError("truncated: the PNG ends in its header")
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


def _check_channels(image: Image.Image, max_pixels: int) -> None:
    """Refuse a JPEG 2000 that takes more memory than colours do: its decoder needs four bytes per sample, not one."""
    channels = len(image.getbands())
    if image.width * image.height * channels > max_pixels * _COLOURS:
        raise UnreadableImageError(
            f"too large: {image.width} x {image.height} pixels in {channels} channels, of which a JPEG 2000 may have "
            f"{_COLOURS}/{channels} of max_pixels ({max_pixels})"
        )


def _check_tiles(tags: Mapping[int, Any], max_pixels: int) -> None:
    """Refuse tiles that a small image does not need and that a decoder would make room for."""
    size = tags.get(TiffImagePlugin.TILEWIDTH), tags.get(TiffImagePlugin.TILELENGTH)
    if isinstance(size[0], int) and isinstance(size[1], int):
        check_size(size[0], size[1], max_pixels)


def _check_deflated(encoded: bytes, tags: Mapping[int, Any]) -> None:
    """Check the checksums of strips or tiles, which no decoder of TIFF looks at."""
    if tags.get(TiffImagePlugin.COMPRESSION) not in _DEFLATED or tags.get(_FILL_ORDER) == _REVERSED_BITS:
        return
    offsets, sizes = (
        [value] if isinstance(value, int) else list(value or [])
        for value in (tags.get(strips, tags.get(tiles)) for strips, tiles in _PLACES)
    )
    for offset, size in zip(offsets, sizes, strict=False):
        inflater = zlib.decompressobj()
        data = encoded[offset : offset + size]
        try:
            while data and not inflater.eof:
                inflater.decompress(data, _PIECE)
                data = inflater.unconsumed_tail
        except zlib.error as error:
            raise UnreadableImageError("truncated or broken TIFF") from error


def _explain(encoded: bytes) -> str:
    """Say why Pillow does not know a file."""
    if (name := name_content(encoded)) is not None:
        return name
    for beginning, kind in _BEGINNINGS:
        if encoded.startswith(beginning):
            return f"truncated or broken {kind}"
    if encoded.startswith(TIFF_BEGINNINGS):
        # The tags of a file that was cut are behind its end, or are incomplete.
        return (
            _UNREAD.format("TIFF") if TiffImagePlugin.IMAGEWIDTH in read_tags(encoded) else "truncated or broken TIFF"
        )
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
