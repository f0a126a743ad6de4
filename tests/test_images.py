"""Decoding: every kind of picture against Pillow, and every kind of broken one."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from conftest import encode, pattern
from PIL import Image, ImageOps

from detectime import images
from detectime.images import Unreadable

RGB = Image.fromarray(pattern())
ALPHA = RGB.copy()
ALPHA.putalpha(Image.fromarray(pattern()[..., 0]))
PALETTE = RGB.quantize(16)
NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
INVERSE = Image.fromarray(255 - pattern())
ANIMATED = {"save_all": True, "append_images": [INVERSE]}


def sixteen_bits(suffix: str, picture: np.ndarray) -> bytes:
    """Encode what Pillow cannot write: 16 bits of several channels."""
    done, content = cv2.imencode(suffix, picture)
    assert done
    return content.tobytes()


DEEP = pattern()[..., ::-1].astype(np.uint16) * 256 + 77  # blue first, as OpenCV wants it


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        pytest.param(encode(RGB, "JPEG"), 2, id="JPEG"),
        pytest.param(encode(RGB, "JPEG", progressive=True), 2, id="JPEG, progressive"),
        pytest.param(encode(RGB, "JPEG", subsampling=0, quality=100), 2, id="JPEG, 4:4:4"),
        pytest.param(encode(RGB.convert("L"), "JPEG"), 2, id="JPEG, grey"),
        pytest.param(encode(RGB.convert("CMYK"), "JPEG"), 3, id="JPEG, CMYK"),
        pytest.param(encode(RGB, "JPEG") + b"stray bytes", 2, id="JPEG, stray bytes after it"),
        pytest.param(encode(RGB), 0, id="PNG"),
        pytest.param(encode(RGB.convert("L")), 0, id="PNG, grey"),
        pytest.param(encode(RGB.convert("LA")), 0, id="PNG, grey and alpha"),
        pytest.param(encode(RGB.convert("1")), 0, id="PNG, one bit"),
        pytest.param(encode(ALPHA), 0, id="PNG, alpha"),
        pytest.param(encode(PALETTE), 0, id="PNG, palette"),
        pytest.param(encode(PALETTE, transparency=3), 0, id="PNG, palette and alpha"),
        pytest.param(encode(RGB, "PNG", **ANIMATED), 0, id="PNG, animated"),
        pytest.param(encode(RGB, "WEBP"), 2, id="WebP"),
        pytest.param(encode(RGB, "WEBP", lossless=True), 0, id="WebP, lossless"),
        pytest.param(encode(RGB.convert("L"), "WEBP"), 2, id="WebP, grey"),
        pytest.param(encode(ALPHA, "WEBP", lossless=True, exact=True), 0, id="WebP, alpha"),
        pytest.param(encode(RGB, "WEBP", lossless=True, **ANIMATED), 0, id="WebP, animated"),
        pytest.param(encode(RGB, "BMP"), 0, id="BMP"),
        pytest.param(encode(PALETTE, "GIF"), 0, id="GIF"),
        pytest.param(encode(RGB.convert("P"), "GIF", **ANIMATED), 0, id="GIF, animated"),
        pytest.param(encode(RGB, "TIFF"), 0, id="TIFF"),
        pytest.param(encode(RGB.convert("CMYK"), "TIFF"), 3, id="TIFF, CMYK"),
    ],
)
def test_colours_are_those_of_pillow(content: bytes, tolerance: int) -> None:
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    image = images.decode(content)
    assert (image.dtype, image.shape) == (np.uint8, (48, 64, 3))
    assert np.abs(image.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(sixteen_bits(".png", DEEP), id="PNG"),
        pytest.param(sixteen_bits(".png", np.dstack([DEEP, DEEP[..., 0]])), id="PNG, alpha"),
        pytest.param(sixteen_bits(".tiff", DEEP), id="TIFF"),
    ],
)
def test_of_sixteen_bits_the_upper_eight_stay(content: bytes) -> None:
    np.testing.assert_array_equal(images.decode(content), pattern())


def test_of_sixteen_bits_of_grey_the_upper_eight_stay() -> None:
    grey = pattern()[..., 0]
    image = images.decode(encode(grey.astype(np.uint16) * 256 + 77))
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 100}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_exif_orientation(kind: str, options: dict[str, object], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(RGB, kind, exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))).astype(int)
    applied = images.decode(content, exif="apply")
    assert applied.shape == upright.shape
    assert applied.flags.c_contiguous
    assert np.abs(applied - upright).max() <= 2
    ignored = images.decode(content)
    stored = upright if kind == "TIFF" else pattern().astype(int)  # a TIFF's orientation belongs to the format
    assert ignored.shape == stored.shape
    assert np.abs(ignored - stored).max() <= 16  # a JPEG of few pixels is not exact


TEXT_FOR_ORIENTATION = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"six\0", 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", TEXT_FOR_ORIENTATION], ids=["garbage", "text"])
def test_broken_exif_turns_nothing(exif: bytes) -> None:
    content = encode(RGB, "JPEG", exif=exif)
    np.testing.assert_array_equal(images.decode(content, exif="apply"), images.decode(content))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.99])
@pytest.mark.parametrize(
    ("content", "end"),
    [
        pytest.param(encode(NOISE, "JPEG"), b"", id="JPEG"),
        pytest.param(encode(NOISE, "JPEG"), b"\xff\xd9", id="JPEG, end marker"),
        pytest.param(encode(NOISE, "JPEG", progressive=True), b"\xff\xd9", id="JPEG, progressive, end marker"),
        pytest.param(encode(NOISE), b"", id="PNG"),
        pytest.param(encode(NOISE), encode(NOISE)[-12:], id="PNG, end chunk"),
        pytest.param(encode(NOISE, "WEBP"), b"", id="WebP"),
        pytest.param(encode(NOISE, "BMP"), b"", id="BMP"),
        pytest.param(encode(NOISE, "GIF"), b"", id="GIF"),
        pytest.param(encode(NOISE, "TIFF"), b"", id="TIFF"),
    ],
)
def test_a_file_that_is_cut_off_is_unreadable(content: bytes, end: bytes, share: float) -> None:
    with pytest.raises(Unreadable):
        images.decode(content[: int(len(content) * share)] + end)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"hello, I am text", "not an image: neither JPEG nor PNG", id="text"),
        pytest.param(b"\xff\xd8", "broken image", id="JPEG of two bytes"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "not an image|broken", id="PNG of eight bytes"),
        pytest.param(encode(RGB, "ICO"), "not an image", id="ICO"),
    ],
)
def test_what_is_no_picture_is_unreadable(content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        images.decode(content)


def huge_png(width: int, height: int) -> bytes:
    """Write a header that promises many pixels, and no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def huge_jpeg(width: int, height: int) -> bytes:
    """Write more pixels into the header of a small JPEG."""
    content = bytearray(encode(RGB.convert("L"), "JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(huge_png(30_000, 30_000), id="PNG"),
        pytest.param(huge_png(12_000, 12_000), id="PNG that Pillow accepts"),
        pytest.param(huge_jpeg(30_000, 30_000), id="JPEG"),
    ],
)
def test_of_a_picture_that_is_too_large_only_the_header_is_read(content: bytes) -> None:
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unreadable, match="too large: "):
        images.decode(content)
    assert time.monotonic() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_max_pixels_is_exact(kind: str) -> None:
    content = encode(RGB, kind)
    assert images.decode(content, max_pixels=64 * 48).shape == (48, 64, 3)
    with pytest.raises(Unreadable, match=r"64 x 48 pixels, more than max_pixels \(3071\)"):
        images.decode(content, max_pixels=64 * 48 - 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (31, 7)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_odd_sizes(kind: str, size: tuple[int, int]) -> None:
    assert images.decode(encode(Image.new("RGB", size), kind)).shape == (size[1], size[0], 3)
