"""Decoding by kind: odd pictures are decoded, damaged ones refused, and what is no picture is named."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import draw_noise, draw_pattern, encode_image, measure_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from jpegs import encode_jpeg, make_segment
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from skips import need_extra

from detectime import images, paths
from detectime.decoding.naming import name_content
from detectime.images import EncodedImage, UnreadableImageError, is_full_size

PATTERN = draw_pattern()
RGB = Image.fromarray(PATTERN)
YCC = np.asarray(RGB.convert("YCbCr"))
INVERSE = Image.fromarray(255 - PATTERN)
PICTURES = Path(__file__).parent / "pictures"
"""`draw_pattern` by other encoders: cjpeg -arithmetic, cjpeg -progressive -sample 4x2, imagecodecs (lossless, AVIF)."""


def read_reason(content: bytes, **options: int) -> str:
    """Return the reason why a file is unreadable."""
    with pytest.raises(UnreadableImageError) as refusal:
        EncodedImage(content, **options).read_pixels()
    return str(refusal.value)


def measure_difference(image: NDArray[np.uint8], expected: NDArray[np.uint8] = PATTERN) -> int:
    """Return the largest difference of two images of one shape."""
    assert image.shape == expected.shape
    return int(np.abs(image.astype(int) - expected).max())


# -- odd kinds of JPEG

ODD_FACTORS = {
    "4:1:0": [(4, 2), (1, 1), (1, 1)],
    "3x1": [(3, 1), (1, 1), (1, 1)],
    "2x2, 2x1, 1x1": [(2, 2), (2, 1), (1, 1)],
    "2x1, 1x2, 1x2": [(2, 1), (1, 2), (1, 2)],
    "luma below chroma": [(1, 1), (2, 2), (1, 1)],
    "luma below both chromas": [(1, 1), (2, 1), (2, 1)],
}
COMMON_FACTORS = {
    "4:4:4": [(1, 1), (1, 1), (1, 1)],
    "4:2:0": [(2, 2), (1, 1), (1, 1)],
    "4:1:1": [(4, 1), (1, 1), (1, 1)],
    "1x4": [(1, 4), (1, 1), (1, 1)],
}
INK = 255 - np.asarray(RGB.convert("CMYK"))
"""As Adobe stores it."""
INK_YCC = np.dstack([np.asarray(Image.fromarray(255 - INK[..., :3]).convert("YCbCr")), INK[..., 3]])
ODD = {name: encode_jpeg(YCC, factors) for name, factors in ODD_FACTORS.items()}


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        *(pytest.param(content, 9, id=name) for name, content in ODD.items()),
        *(pytest.param(encode_jpeg(YCC, factors), 9, id=name) for name, factors in COMMON_FACTORS.items()),
        pytest.param(encode_jpeg(PATTERN, [(1, 1)] * 3, transform=0), 1, id="RGB"),
        pytest.param(encode_jpeg(PATTERN, [(2, 2), (2, 1), (1, 1)], transform=0), 9, id="RGB, 2x2, 2x1, 1x1"),
        pytest.param(encode_jpeg(INK, [(1, 1)] * 4, transform=0), 3, id="CMYK"),
        pytest.param(encode_jpeg(INK, [(2, 2), (2, 1), (1, 1), (1, 1)], transform=0), 9, id="CMYK, 2x2, 2x1, 1x1, 1x1"),
        pytest.param(encode_jpeg(INK_YCC, [(2, 2), (1, 1), (1, 1), (2, 2)], transform=2), 6, id="YCCK"),
        pytest.param(encode_jpeg(YCC, COMMON_FACTORS["4:2:0"], interval=2), 6, id="restart markers"),
        pytest.param(encode_jpeg(YCC, COMMON_FACTORS["4:2:0"], scans=[[0], [1], [2]]), 6, id="a scan per component"),
        pytest.param((PICTURES / "arithmetic.jpg").read_bytes(), 6, id="arithmetic"),
        pytest.param((PICTURES / "progressive_4x2.jpg").read_bytes(), 9, id="progressive 4:1:0"),
        pytest.param((PICTURES / "lossless.jpg").read_bytes(), 0, id="lossless"),
        pytest.param(encode_image(RGB, "MPO", save_all=True, append_images=[INVERSE]), 9, id="MPO"),
    ],
)
def test_odd_jpegs_are_decoded(content: bytes, tolerance: int) -> None:
    picture = EncodedImage(content)
    assert (picture.width, picture.height) == (64, 48)
    image = picture.read_pixels()
    assert measure_difference(image) <= tolerance
    assert measure_difference(image, np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))) <= 2
    assert image.flags.writeable


def test_an_odd_grey_jpeg_is_decoded() -> None:
    image = images.decode_image(encode_jpeg(YCC[..., :1], [(2, 2)]))
    assert measure_difference(image, np.dstack([YCC[..., 0]] * 3)) <= 2


@pytest.mark.parametrize("name", [*ODD, "lossless"])
def test_a_jpeg_that_cannot_be_reduced_is_decoded_whole(name: str) -> None:
    """Of a lossless one, the fast decoder would write past the end of a smaller buffer."""
    picture = EncodedImage(ODD.get(name) or (PICTURES / "lossless.jpg").read_bytes())
    for side in (8, 20, 32, 64, None):
        image = picture.read_pixels(side)
        assert is_full_size(image, picture)
        np.testing.assert_array_equal(image, picture.read_pixels())


def test_an_odd_jpeg_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = ODD["4:1:0"]
    turned = content[:2] + make_segment(0xE1, b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")) + content[2:]
    picture = EncodedImage(turned)
    assert (picture.width, picture.height, picture.orientation) == (48, 64, 6)
    np.testing.assert_array_equal(picture.read_pixels(8), images.turn_upright(images.decode_image(content), 6))


@pytest.mark.parametrize("bits", [12, 16])
def test_a_jpeg_with_many_bits_is_named(bits: int) -> None:
    content = bytearray(encode_image(RGB, "JPEG"))
    content[content.index(b"\xff\xc0") + 4] = bits
    assert read_reason(bytes(content)) == f"a JPEG with {bits} bits per sample, which is not read; convert it to 8 bits"


def test_a_jpeg_ls_is_named() -> None:
    content = encode_image(RGB, "JPEG").replace(b"\xff\xc0", b"\xff\xf7")
    assert read_reason(content) == "a JPEG-LS image, which is not read; convert it to JPEG or PNG"


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    content = encode_image(RGB, "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    assert read_reason(content[:start] + content[start:-2] * 600) == "a JPEG with more than 500 scans"


# -- JPEGs that end early

FACTORS = COMMON_FACTORS["4:2:0"]
THUMBNAIL = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encode_image(RGB.resize((16, 12)), "JPEG")
DETAILED = Image.fromarray(np.vstack([draw_noise(75, 25), draw_pattern(75, 28)]))
DETAILED_YCC = np.asarray(DETAILED.convert("YCbCr"))
WHOLE = {
    "baseline": encode_image(DETAILED, "JPEG"),
    "restart markers": encode_jpeg(DETAILED_YCC, FACTORS, interval=3),
    "a scan per component": encode_jpeg(DETAILED_YCC, FACTORS, scans=[[0], [1], [2]]),
    "scans with restart markers": encode_jpeg(DETAILED_YCC, FACTORS, scans=[[0], [1, 2]], interval=2),
    "progressive": encode_image(DETAILED, "JPEG", progressive=True),
    "progressive, grey": encode_image(DETAILED.convert("L"), "JPEG", progressive=True),
    "thumbnail": encode_image(DETAILED, "JPEG", exif=THUMBNAIL),
    "CMYK": encode_image(DETAILED.convert("CMYK"), "JPEG"),
    "4:1:0": encode_jpeg(DETAILED_YCC, ODD_FACTORS["4:1:0"], interval=2),
    "arithmetic": (PICTURES / "arithmetic.jpg").read_bytes(),
}


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in ("4:1:0", "arithmetic")])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_without_its_end_marker_is_a_picture(name: str, lost: int) -> None:
    content = WHOLE[name]
    for side in (None, 20):
        expected = EncodedImage(content).read_pixels(side)
        for padding in (b"", bytes(1), bytes(5000), b"\xff" * 7):
            np.testing.assert_array_equal(EncodedImage(content[:-lost] + padding).read_pixels(side), expected)


@pytest.mark.parametrize("name", WHOLE)
def test_a_cut_jpeg_is_whole_or_unreadable(name: str) -> None:
    """Cut near the end, around each scan, and at some other places; also where zeros replace what is lost."""
    content = WHOLE[name]
    expected = images.decode_image(content)
    starts = [k for k in range(len(content)) if content[k : k + 2] == b"\xff\xda"]
    near = {start + k for start in starts for k in range(-30, 20)}
    decoded = 0
    for end in sorted(k for k in near | set(range(2, len(content), 7)) | set(range(len(content) - 60, len(content)))):
        for padding in (b"", bytes(3000)):
            try:
                image = images.decode_image(content[:end] + padding)
            except UnreadableImageError:
                continue
            np.testing.assert_array_equal(image, expected)
            decoded += 1
    assert decoded >= (4 if name not in ("4:1:0", "arithmetic") else 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([40, 75, 98]))
def test_any_jpeg_that_is_cut_is_whole_or_unreadable(
    width: int, height: int, seed: int, progressive: bool, quality: int
) -> None:
    content = encode_image(
        Image.fromarray(draw_noise(width, height, seed)), "JPEG", quality=quality, progressive=progressive
    )
    expected = images.decode_image(content)
    if content[-4:-2] == b"\xff\0" or content[-3]:  # a zero counts as padding
        np.testing.assert_array_equal(images.decode_image(content[:-2]), expected)
    for lost in range(3, 12):
        try:
            np.testing.assert_array_equal(images.decode_image(content[:-lost]), expected)
        except UnreadableImageError as error:
            assert str(error) == "truncated: the JPEG's data ends early"  # noqa: PT017


# -- JPEGs that are damaged

ODD_WHOLE = {
    **{name: encode_jpeg(DETAILED_YCC, ODD_FACTORS[name]) for name in ("4:1:0", "2x2, 2x1, 1x1")},
    "intervals": encode_jpeg(DETAILED_YCC, ODD_FACTORS["4:1:0"], interval=2),
    "scans": encode_jpeg(DETAILED_YCC, ODD_FACTORS["4:1:0"], scans=[[0], [1, 2]]),
    "progressive": (PICTURES / "progressive_4x2.jpg").read_bytes(),
    "arithmetic": (PICTURES / "arithmetic.jpg").read_bytes(),
}
TRUNCATED = "truncated: the JPEG's data ends early"
DAMAGED = "damaged: a part of the JPEG's data was lost or changed"
CONVERTED = "a file whose bytes were changed as if it were text; copy it again as binary"


@pytest.mark.parametrize("name", ODD_WHOLE)
def test_an_odd_jpeg_with_an_end_marker_behind_a_cut_is_whole_or_unreadable(name: str) -> None:
    content = ODD_WHOLE[name]
    expected = images.decode_image(content)
    start = content.index(b"\xff\xda") + 16
    lost = 2 if name != "arithmetic" else 12  # whose last bytes stand for many pixels
    for end in range(start, len(content) - lost, max(1, len(content) // 80)):
        cut = content[:end]
        try:
            image = images.decode_image(cut + b"\xff\xd9")
        except UnreadableImageError:
            continue
        np.testing.assert_array_equal(image, expected, err_msg=f"cut at {end} of {len(content)}")


@pytest.mark.parametrize("name", [name for name in ODD_WHOLE if name != "arithmetic"])
def test_an_odd_jpeg_without_its_end_marker_is_a_picture(name: str) -> None:
    for lost in (1, 2):
        image = images.decode_image(ODD_WHOLE[name][:-lost])
        np.testing.assert_array_equal(image, images.decode_image(ODD_WHOLE[name]))


@pytest.mark.parametrize("seed", range(20))
def test_a_small_odd_jpeg_is_whole(seed: int) -> None:
    """Some end with a byte FF, some are flat, and some have blocks beyond their edge."""
    noise = draw_noise(5 + 4 * seed, 3 + 2 * seed, seed)
    planes = np.asarray(
        Image.fromarray(noise if seed % 4 else noise[:1, :1].repeat(9, 0).repeat(9, 1)).convert("YCbCr")
    )
    content = encode_jpeg(planes, list(ODD_FACTORS.values())[seed % len(ODD_FACTORS)], interval=seed % 3)
    np.testing.assert_array_equal(images.decode_image(content[:-2]), images.decode_image(content))


@pytest.mark.parametrize("name", ["baseline", "progressive", "restart markers", "4:1:0"])
def test_a_jpeg_that_was_changed_as_text_is_named(name: str) -> None:
    content = {**WHOLE, "large": encode_image(Image.fromarray(draw_noise(300, 200)), "JPEG")}[name]
    assert content.count(b"\n") > content.count(b"\r\n") + 3
    assert read_reason(content.replace(b"\n", b"\r\n")) == CONVERTED


def test_restart_markers_tell_of_damage() -> None:
    content = WHOLE["restart markers"]
    first, second, third = (content.index(bytes([0xFF, 0xD0 + k])) for k in range(3))
    assert read_reason(content[:first] + content[second:]) == DAMAGED  # an interval is gone
    assert read_reason(content[:second] + bytes(range(1, 10)) + content[second:]) == DAMAGED
    # Some webcams write a few bytes too many.
    few = images.decode_image(content[:second] + b"\1\2\3" + content[second:])
    np.testing.assert_array_equal(few, images.decode_image(content))
    assert read_reason(content[: second + 6] + bytes(third - second - 6) + content[third:]) in (DAMAGED, TRUNCATED)
    odd = ODD_WHOLE["intervals"]
    assert read_reason(odd[: odd.index(b"\xff\xd1")] + odd[odd.index(b"\xff\xd2") :]) == DAMAGED


@pytest.mark.parametrize("name", ["baseline", "progressive", "a scan per component", "4:1:0"])
def test_stray_bytes_do_no_harm(name: str) -> None:
    content = WHOLE[name]
    expected = images.decode_image(content)
    comment = make_segment(0xFE, b"hello")
    strays = {
        "metadata": content[:2] + comment + b"\1\2\3" + content[2:],
        "zeros": content[:-2] + bytes(5) + content[-2:],
        "FF": content[:-2] + b"\xff" * 5 + content[-2:],
        "mixed": content[:-2] + b"\0\xff\0" + content[-2:],
        "revision": content.replace(b"JFIF\0\1", b"JFIF\0\7"),
        "profile": content[:2] + make_segment(0xE2, b"ICC_PROFILE\0\5\3abcd") + content[2:],
    }
    for changed in strays.values():
        np.testing.assert_array_equal(images.decode_image(changed), expected)
        for end in (-40, -200):
            with pytest.raises(UnreadableImageError):
                images.decode_image(changed[:end] + b"\xff\xd9")


def test_stray_bytes_that_were_pixels_or_tables_are_damage() -> None:
    content = WHOLE["baseline"]
    assert read_reason(content[:-2] + bytes(range(1, 10)) + content[-2:]) == DAMAGED
    table = content.index(b"\xff\xdb")
    assert read_reason(content[: table + 69] + b"\1\2\3" + content[table + 69 :]) == DAMAGED


def test_a_jpeg_that_ends_in_its_header_is_truncated() -> None:
    for name in ("baseline", "thumbnail", "4:1:0"):
        content = WHOLE[name]
        for end in range(3, content.rindex(b"\xff\xda"), 13):
            assert read_reason(content[:end]) == "truncated: the JPEG ends in its header"


@pytest.mark.parametrize("kind", [0xC0, 0xC9])
def test_a_sequential_jpeg_needs_few_scans(kind: int) -> None:
    content = encode_jpeg(YCC, COMMON_FACTORS["4:2:0"], scans=[[0], [1], [2]]).replace(b"\xff\xc0", bytes([0xFF, kind]))
    start = content.rindex(b"\xff\xda")
    assert read_reason(content[:start] + content[start:-2] * 20 + b"\xff\xd9") == "a JPEG with more than 16 scans"


def test_scans_behind_the_end_do_not_count() -> None:
    for content in (WHOLE["baseline"], WHOLE["progressive"]):
        image = images.decode_image(content + b"\xff\xda" * 600)
        np.testing.assert_array_equal(image, images.decode_image(content))


# -- orientation

TURNED = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def make_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_only_exif_turns_an_image() -> None:
    """As browsers and OpenCV have it: Pillow would also turn by XMP, and by ImageMagick's text in a PNG."""
    png, text = (
        encode_image(RGB),
        make_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (32, TURNED.hex().encode())),
    )
    jpeg = encode_image(RGB, "JPEG", xmp=XMP)
    for content in (png[:33] + text + png[33:], jpeg, encode_image(RGB, "WEBP", xmp=XMP)):
        assert Image.open(io.BytesIO(content)).getexif()[0x0112] == 6
        assert EncodedImage(content).orientation == 1
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)


@pytest.mark.parametrize("position", [33, -12], ids=["before the pixels", "behind them"])
def test_a_png_is_turned_by_its_chunk(position: int) -> None:
    png = encode_image(RGB)
    picture = EncodedImage(png[:position] + make_chunk(b"eXIf", TURNED) + png[position:])
    np.testing.assert_array_equal(picture.read_pixels(), images.turn_upright(PATTERN, 6))


def test_of_two_blocks_of_exif_the_first_counts() -> None:
    jpeg = encode_image(RGB, "JPEG")
    blocks = [make_segment(0xE1, b"Exif\0\0" + TURNED.replace(b"\x06", bytes([k]))) for k in (8, 3)]
    assert EncodedImage(jpeg[:2] + b"".join(blocks) + jpeg[2:]).orientation == 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_and_tiff_come_upright(orientation: int) -> None:
    """The container of an AVIF says how it is turned; a TIFF is turned by its decoder, which is undone if ignored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = images.turn_upright(PATTERN, orientation)
    for kind, options in (("TIFF", {}), ("AVIF", {"quality": 95})):
        content = encode_image(RGB, kind, exif=exif, **options)
        exif[0x0112] = orientation  # taken out by Pillow
        for rule, expected in (("apply", upright), ("ignore", PATTERN)):
            picture = EncodedImage(content, exif=rule)
            assert measure_difference(picture.read_pixels(), expected) <= 6
            assert (picture.height, picture.width, 3) == expected.shape
            assert picture.orientation == orientation


# -- damage

DEEP = PATTERN[..., ::-1].astype(np.uint16) * 256 + 77


def encode_by_opencv(suffix: str, image: NDArray[np.generic]) -> bytes:
    done, content = cv2.imencode(suffix, image)
    assert done
    return content.tobytes()


def make_planar_tiff() -> bytes:
    """Make a TIFF of one strip per channel, which Pillow cannot write."""
    size = PATTERN[..., 0].size
    strips = 8 + 2 + 10 * 12 + 4 + 6 + 24
    tags = [
        *((0x100, 3, 1, 64), (0x101, 3, 1, 48), (0x102, 3, 3, strips - 30), (0x103, 3, 1, 1), (0x106, 3, 1, 2)),
        *(
            (0x111, 4, 3, strips - 24),
            (0x115, 3, 1, 3),
            (0x116, 3, 1, 48),
            (0x117, 4, 3, strips - 12),
            (0x11C, 3, 1, 2),
        ),
    ]
    header = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    values = struct.pack("<3H6I", 8, 8, 8, *(strips + k * size for k in range(3)), size, size, size)
    return header + bytes(4) + values + b"".join(PATTERN[..., k].tobytes() for k in range(3))


def make_top_down_bmp() -> bytes:
    content = bytearray(encode_image(Image.fromarray(PATTERN[::-1]), "BMP"))
    content[22:26] = struct.pack("<i", -48)
    return bytes(content)


def make_rle_bmp(width: int = 64) -> bytes:
    """Make a BMP of runs: 48 rows of equal pixels."""
    data = b"".join(bytes([width, row % 16, 0, 0]) for row in range(48)) + b"\0\x01"
    palette = b"".join(bytes([k * 10, k * 5, 255 - k * 10, 0]) for k in range(16))
    header = struct.pack("<IiiHHIIiiII", 40, width, 48, 1, 8, 1, len(data), 0, 0, 16, 16)
    start = 14 + 40 + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + header + palette + data


ALPHA = RGB.copy()
ALPHA.putalpha(Image.fromarray(PATTERN[..., 0]))
ANIMATED = {"save_all": True, "append_images": [INVERSE.copy()]}  # MPO left its options in the other
INTACT = {
    "TIFF": encode_image(RGB, "TIFF"),
    **{
        f"TIFF, {kind}": encode_image(RGB, "TIFF", compression=kind)
        for kind in ("tiff_lzw", "tiff_deflate", "packbits")
    },
    "TIFF, JPEG": encode_image(RGB, "TIFF", compression="jpeg", quality=100),
    "TIFF, group 4": encode_image(RGB.convert("1"), "TIFF", compression="group4"),
    "TIFF, LZMA": encode_image(RGB, "TIFF", compression="lzma"),
    "TIFF, planes": make_planar_tiff(),
    "TIFF, one bit": encode_image(RGB.convert("1"), "TIFF"),
    "TIFF, palette": encode_image(RGB.quantize(16), "TIFF"),
    "TIFF, CMYK": encode_image(RGB.convert("CMYK"), "TIFF"),
    "TIFF, alpha": encode_image(ALPHA, "TIFF"),
    "TIFF, pages": encode_image(RGB.copy(), "TIFF", **ANIMATED),
    "TIFF, BigTIFF": encode_image(RGB, "TIFF", big_tiff=True),
    "TIFF, 16 bits": encode_by_opencv(".tiff", DEEP),
    "TIFF, 16 bits of grey": encode_image(Image.fromarray(DEEP[..., 0]), "TIFF"),
    "WebP": encode_image(RGB, "WEBP", quality=95),
    "WebP, lossless": encode_image(RGB, "WEBP", lossless=True),
    "WebP, alpha": encode_image(ALPHA, "WEBP", lossless=True, exact=True),
    "WebP, animated": encode_image(RGB, "WEBP", lossless=True, **ANIMATED),
    "WebP, Exif": encode_image(RGB, "WEBP", quality=95, exif=TURNED.replace(b"\x06", b"\x01")),
    "BMP": encode_image(RGB, "BMP"),
    "BMP, top down": make_top_down_bmp(),
    "BMP, runs": make_rle_bmp(),
    "BMP, one bit": encode_image(RGB.convert("1"), "BMP"),
    "BMP, alpha": encode_image(ALPHA, "BMP"),
    "GIF": encode_image(RGB.quantize(64), "GIF"),
    "GIF, animated": encode_image(RGB.quantize(64), "GIF", save_all=True, append_images=[INVERSE.quantize(64)]),
    "PNG": encode_image(RGB),
    "PNG, 16 bits and alpha": encode_by_opencv(".png", np.dstack([DEEP, DEEP[..., 0]])),
    "PNG, animated": encode_image(RGB, "PNG", **ANIMATED),
    "AVIF": encode_image(RGB, "AVIF", quality=95),
    "AVIF, alpha": encode_image(ALPHA, "AVIF", quality=95),
    "AVIF, 10 bits": (PICTURES / "ten_bits.avif").read_bytes(),
    "AVIF, animated": encode_image(RGB, "AVIF", quality=95, **ANIMATED),
    "JPEG 2000": encode_image(RGB, "JPEG2000"),
    "JPEG 2000, code stream": encode_image(RGB, "JPEG2000", no_jp2=True),
    "JPEG 2000, grey": encode_image(RGB.convert("L"), "JPEG2000"),
    "PPM": encode_image(RGB, "PPM"),
    "PGM": encode_image(RGB.convert("L"), "PPM"),
    "PBM": encode_image(RGB.convert("1"), "PPM"),
    "PPM, text": b"P3\n64 48\n255\n" + " ".join(map(str, PATTERN.ravel())).encode(),
}


@pytest.mark.parametrize("name", INTACT)
def test_intact_pictures_of_odd_kinds_are_decoded(name: str) -> None:
    image = images.decode_image(INTACT[name])
    if "16 bits of grey" in name:
        np.testing.assert_array_equal(image, np.dstack([DEEP[..., 0] >> 8] * 3))
    elif "16 bits" in name:
        np.testing.assert_array_equal(image, PATTERN)
    else:
        expected = np.asarray(Image.open(io.BytesIO(INTACT[name])).convert("RGB"))
        if name == "TIFF, alpha":  # whose decoder multiplies by it
            expected = (expected * (PATTERN[..., :1] / 255)).astype(np.uint8)
        assert measure_difference(image, expected) <= 3


@pytest.mark.parametrize("name", [name for name in INTACT if name != "PPM, text"])  # its last number has no end
def test_a_cut_picture_is_whole_or_unreadable(name: str) -> None:
    content = INTACT[name]
    expected = images.decode_image(content)
    for end in [*range(1, len(content), max(1, len(content) // 40)), *range(len(content) - 15, len(content))]:
        try:
            image = images.decode_image(content[:end])
        except UnreadableImageError:
            continue
        np.testing.assert_array_equal(image, expected)
        assert end > len(content) * (0.3 if "animated" in name or "pages" in name else 0.95)


@pytest.mark.parametrize(
    "name", ["TIFF, tiff_lzw", "TIFF, tiff_deflate", "WebP", "WebP, Exif", "PNG", "PNG, animated", "GIF"]
)
def test_what_a_decompressor_rejects_is_unreadable(name: str) -> None:
    content = INTACT[name]
    start = {"TIFF": 8, "WebP": content.find(b"VP8 ") + 30, "PNG": 45, "GIF": 13 + 3 * 64 + 40}[name.split(",")[0]]
    damaged = content[:start] + b"\xff" * 40 + content[start + 40 :]
    assert read_reason(damaged).startswith(("truncated or broken", "a GIF that is broken"))


@pytest.mark.parametrize("name", ["PNG", "PNG, animated", "PNG, 16 bits and alpha"])
def test_a_wrong_checksum_of_a_png_is_noticed(name: str) -> None:
    """OpenCV does not check that of an animated one."""
    content = INTACT[name]
    data = content.index(b"IDAT") + 4
    length = struct.unpack(">I", content[data - 8 : data - 4])[0]
    for position in range(data, data + length + 4, max(1, length // 50)):
        damaged = bytearray(content)
        damaged[position] ^= 4
        assert "wrong checksum" in read_reason(bytes(damaged))


def test_sizes_beyond_the_file_are_noticed() -> None:
    webp = bytearray(INTACT["WebP"])
    webp[4:8] = struct.pack("<I", len(webp) + 1000)
    assert read_reason(bytes(webp)) == "truncated or broken WebP"
    tiff = TiffImagePlugin.TiffImageFile(io.BytesIO(INTACT["TIFF"]))
    entry = struct.pack("<HHII", 0x111, 4, 1, tiff.tag_v2[0x111][0])
    assert INTACT["TIFF"].count(entry) == 1
    moved = INTACT["TIFF"].replace(entry, struct.pack("<HHII", 0x111, 4, 1, 10**6))
    assert read_reason(moved) == "truncated or broken TIFF"


@pytest.mark.parametrize("width", [61, 62, 63])
def test_runs_of_a_bmp_of_any_width(width: int) -> None:
    content = make_rle_bmp(width)
    image = images.decode_image(content)
    np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    assert (image == image[:, :1]).all()


def make_tiled_tiff(orientation: int, image: NDArray[np.uint8] = PATTERN) -> bytes:
    """Make a TIFF of 6 deflated tiles of 32 x 16 pixels, the last of which reach beyond its edge."""
    padded = np.pad(image[:40, :60], ((0, 8), (0, 4), (0, 0)))
    tiles = [
        zlib.compress(padded[y : y + 16, x : x + 32].tobytes()) for y in range(0, 48, 16) for x in range(0, 64, 32)
    ]
    values = 8 + 2 + 12 * 12 + 4
    data = values + 6 + 48
    offsets = [data + sum(map(len, tiles[:k])) for k in range(6)]
    tags = [
        *((0x100, 3, 1, 60), (0x101, 3, 1, 40), (0x102, 3, 3, values), (0x103, 3, 1, 8), (0x106, 3, 1, 2)),
        *((0x112, 3, 1, orientation), (0x115, 3, 1, 3), (0x11C, 3, 1, 1), (0x142, 4, 1, 32), (0x143, 4, 1, 16)),
        *((0x144, 4, 6, values + 6), (0x145, 4, 6, values + 30)),
    ]
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    packed = struct.pack("<3H12I", 8, 8, 8, *offsets, *map(len, tiles))
    return b"II*\0\x08\0\0\0" + entries + bytes(4) + packed + b"".join(tiles)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiled_tiff_comes_upright(orientation: int) -> None:
    image = images.decode_image(make_tiled_tiff(orientation))
    np.testing.assert_array_equal(image, images.turn_upright(PATTERN[:40, :60], orientation))


@pytest.mark.parametrize("content", [INTACT["TIFF, tiff_deflate"], make_tiled_tiff(1)], ids=["strips", "tiles"])
def test_a_wrong_checksum_of_a_deflated_tiff_is_noticed(content: bytes) -> None:
    tags = TiffImagePlugin.TiffImageFile(io.BytesIO(content)).tag_v2
    offsets, sizes = ((tags.get(strips) or tags[tiles]) for strips, tiles in ((0x111, 0x144), (0x117, 0x145)))
    for offset, size in zip(offsets, sizes, strict=True):
        damaged = bytearray(content)
        damaged[offset + size - 1] ^= 1
        assert read_reason(bytes(damaged)) == "truncated or broken TIFF"


def test_a_png_that_ends_in_its_header_is_truncated() -> None:
    for end in range(20, 33):
        assert read_reason(INTACT["PNG"][:end]) == "truncated: the PNG ends in its header"


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_samples_without_a_white_are_named(kind: type[np.generic]) -> None:
    content = encode_image(Image.fromarray(PATTERN[..., 0].astype(kind)), "TIFF")
    assert read_reason(content) == "a TIFF that is broken or of a kind that is not read; convert it to PNG"


@pytest.mark.parametrize("largest", [1, 15, 255, 1023, 65_535])
def test_grey_of_a_pgm_is_scaled(largest: int) -> None:
    grey = np.arange(48 * 64).reshape(48, 64) % (largest + 1)
    content = b"P5\n64 48\n%d\n" % largest + grey.astype(">u2" if largest > 255 else "u1").tobytes()
    assert np.abs(images.decode_image(content)[..., 1] - grey * 255 / largest).max() < 1.01


@pytest.mark.parametrize("largest", [1, 100, 255, 1023, 65_535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_samples_of_a_ppm_are_those_of_pillow(kind: str, largest: int) -> None:
    samples = np.random.default_rng(3).integers(0, largest + 1, (48, 64, 3 if kind in ("P3", "P6") else 1))
    content = f"{kind}\n# a comment\n64 48\n{largest}\n".encode()
    if kind in ("P2", "P3"):
        content += " ".join(map(str, samples.ravel())).encode()
    else:
        content += samples.astype(">u2" if largest > 255 else "u1").tobytes()
    pillow = Image.open(io.BytesIO(content))
    grey = np.asarray(pillow) >> 8 if pillow.mode.startswith("I") else None
    expected = np.asarray(pillow.convert("RGB")) if grey is None else np.dstack([grey] * 3)
    tolerance = 1 if kind in ("P2", "P3") else 0  # OpenCV rounds down
    assert measure_difference(images.decode_image(content), expected) <= tolerance


def test_deep_samples_of_a_ppm_are_decoded_fast() -> None:
    content = b"P6 2000 2000 65535\n" + bytes(24_000_000)
    start = time.process_time()
    assert not images.decode_image(content).any()
    assert time.process_time() - start < 2


# -- HEIC


def encode_heic(image: Image.Image, exif: bytes | None = None) -> bytes:
    pillow_heif = need_extra("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, exif=exif, quality=95)
    return stream.getvalue()


@pytest.mark.extra
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_comes_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content, upright = encode_heic(RGB, exif.tobytes()), images.turn_upright(PATTERN, orientation)
    for rule, expected in (("apply", upright), ("ignore", PATTERN)):  # libheif always turns
        picture = EncodedImage(content, exif=rule)
        assert measure_difference(picture.read_pixels(8), expected) <= 8
        assert (picture.height, picture.width, picture.orientation) == (*expected.shape[:2], orientation)


@pytest.mark.extra
def test_a_heic_is_cut_or_too_large_or_has_alpha() -> None:
    content = encode_heic(ALPHA)
    assert measure_difference(images.decode_image(content)) <= 8
    for end in range(40, len(content), 37):
        assert read_reason(content[:end]) == "truncated or broken HEIC"
    assert read_reason(content, max_pixels=64 * 48 - 1).startswith("too large: 64 x 48")


WITHOUT_HEIF = """
import sys
sys.modules["pillow_heif"] = None
from detectime.images import EncodedImage, UnreadableImageError
try:
    EncodedImage(b"\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0mif1heic")
except UnreadableImageError as error:
    print(error)
"""


def test_without_the_extra_a_heic_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_HEIF], capture_output=True, text=True, check=True)
    reason = f"a HEIC image, which needs the extra heif; install it with: {paths.format_install('heif')}"
    assert done.stdout.strip() == reason


def test_the_extra_is_imported_for_a_heic_alone() -> None:
    script = (
        "import sys, detectime, detectime.images as images; images.decode_image(open(sys.argv[1], 'rb').read())\n"
        "print('pillow_heif' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(PICTURES / "ten_bits.avif")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


# -- what is no picture


def make_raw(**tags: int) -> bytes:
    """Make a TIFF with the tags of a camera raw file, whose first image is a thumbnail."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[0x010F] = "Camera"
    if "version" in tags:
        info.tagtype[0xC612] = 1
        info[0xC612] = bytes([1, tags["version"], 0, 0])
    if "reduced" in tags:
        info[0x00FE] = tags["reduced"]
        info[0x014A] = 8
    return encode_image(RGB, "TIFF", tiffinfo=info)


RAW = "a camera raw file, which is not read; convert it to JPEG or PNG"
VIDEO = "a video, not an image; give it with source_type: videos"
OTHER = {
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "fetch the images with: git lfs pull",
    ),
    "git-annex": (b"/annex/objects/SHA256E-s1--00.jpg\n", "git annex get"),
    "HTML": (
        b"\n<!DOCTYPE html><html>404</html>",
        "an HTML page, perhaps a server's error message; download the image again",
    ),
    "HTML, no doctype": (b"<HTML><body>Gone</body></HTML>", "an HTML page"),
    "XML": (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "XML, perhaps a server's error message"),
    "SVG": (b"<?xml version='1.0'?>\n<!-- Inkscape -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "JSON": (b'{"message": "Not Found"}', "JSON, perhaps a server's error message"),
    "text": ("Größe unbekannt\n".encode(), "text, not an image"),
    "UTF-16": ("hello".encode("utf-16"), "text, not an image"),
    "blank": (b"\r\n  \n", "only white space"),
    "zeros": (bytes(5000), "only zero bytes: the file was never written to its end; copy it again"),
    "JPEG XL": (b"\xff\x0a\xfa\x7f\x01", "a JPEG XL image, which is not read; convert it to JPEG or PNG"),
    "JPEG XL, boxes": (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "a JPEG XL image"),
    "MP4": (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", VIDEO),
    "MOV": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", VIDEO),
    "Matroska": (b"\x1aE\xdf\xa3\x01\0\0\0", VIDEO),
    "MOV, wide": (b"\0\0\0\x08wide\0\0\0\0mdat", VIDEO),
    "MOV, free": (b"\0\0\0\x08free\0\0\0\0mdat", VIDEO),
    "MPEG-TS": ((b"\x47\x40\0\x10" + bytes(184)) * 5, VIDEO),
    "WAV": (b"RIFF\x24\0\0\0WAVEfmt ", "a sound, not an image"),
    "DjVu": (b"AT&TFORM\0\0", "a DjVu document"),
    "property list": (b"bplist00\xd1", "a data file, not an image"),
    "Git LFS, byte order mark": (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "HTML, comment": (b"<!-- cached -->\n<html><body>Gone</body></html>", "an HTML page"),
    "AVI": (b"RIFF\x24\0\0\0AVI LIST", VIDEO),
    "zip": (b"PK\x03\x04\x14\0", "an archive, not an image"),
    "tar": (b"a.jpg".ljust(257, b"\0") + b"ustar\0", "an archive, not an image"),
    "gzip": (b"\x1f\x8b\x08\0", "a compressed file, not an image; unpack it"),
    "PDF": (b"%PDF-1.7\n", "a PDF document"),
    "QOI": (encode_image(RGB, "QOI"), "a QOI image, which is not read; convert it to JPEG or PNG"),
    "PSD": (b"8BPS\0\x01", "a Photoshop file"),
    "DNG": (make_raw(version=4), RAW),
    "NEF": (make_raw(reduced=1), RAW),
    "CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(50), RAW),
    "CR3": (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", RAW),
    "RAF": (b"FUJIFILMCCD-RAW 0201", RAW),
    "AppleDouble": (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "a macOS AppleDouble file"),
    "shortcut": (b"L\0\0\0\x01\x14\x02\0\0\0\0\0", "a link of Windows or macOS"),
    "line ends": (INTACT["PNG"].replace(b"\r\n", b"\n"), "a file whose bytes were changed as if it were text"),
    "decoded as UTF-8": (
        encode_image(RGB, "JPEG").decode(errors="replace").encode(),
        "a file whose bytes were changed",
    ),
    "base64": (b"/9j/4AAQSkZJRgABAQ", "an image in base64 text; decode it to bytes"),
    "unknown": (b"\x01\x02\x03", "not an image: neither JPEG nor PNG, WEBP, BMP, GIF, TIFF, AVIF"),
    "broken GIF": (b"GIF89a\x40\0", "truncated or broken GIF"),
    "broken AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "truncated or broken AVIF"),
    "TIFF of odd samples": (
        INTACT["TIFF"].replace(struct.pack("<HHI", 0x102, 3, 3), struct.pack("<HHI", 0x102, 3, 2)),
        "a TIFF that is broken or of a kind that is not read; convert it to PNG",
    ),
    "broken TIFF": (b"II*\0\x08\0\0\0", "truncated or broken TIFF"),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_is_no_image_is_named(name: str) -> None:
    content, reason = OTHER[name]
    found = read_reason(content)
    assert reason in found
    assert "\n" not in found
    assert len(found) < 120


@pytest.mark.parametrize("name", INTACT)
def test_no_image_is_named_as_something_else(name: str) -> None:
    assert name_content(INTACT[name]) in (
        None,
        RAW if "AVIF" in name else None,
        "text, not an image; copy the image again",
    )


def test_a_tiff_of_a_camera_is_no_raw_file() -> None:
    np.testing.assert_array_equal(images.decode_image(make_raw()), PATTERN)
    np.testing.assert_array_equal(images.decode_image(make_raw(reduced=0)), PATTERN)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", *{content[:24] for content, _ in OTHER.values()}, *{c[:40] for c in INTACT.values()}]),
)
def test_any_bytes_are_an_image_or_unreadable(content: bytes, start: bytes) -> None:
    try:
        EncodedImage(start + content).read_pixels()
    except UnreadableImageError as error:
        assert str(error)  # noqa: PT017


# -- limits


@pytest.mark.parametrize("name", [name for name in INTACT if ", " not in name])
def test_a_large_picture_of_any_format_is_refused_by_its_header(name: str) -> None:
    assert images.decode_image(INTACT[name], max_pixels=64 * 48).shape == (48, 64, 3)
    assert read_reason(INTACT[name], max_pixels=64 * 48 - 1).startswith("too large: 64 x 48 pixels")


def test_a_large_odd_jpeg_is_refused_by_its_header() -> None:
    assert read_reason(ODD["4:1:0"], max_pixels=64 * 48 - 1).startswith("too large: 64 x 48 pixels")
    content = bytearray(ODD["4:1:0"])
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", 40_000, 40_000)
    assert read_reason(bytes(content)).startswith("too large: 40000 x 40000 pixels")


def test_channels_of_a_jpeg_2000_count() -> None:
    """Its decoder takes four bytes for each sample: 100 million pixels with alpha would take more than 2 GB."""
    size = 64 * 48
    clear = encode_image(Image.new("RGBA", (64, 48)), "JPEG2000")
    reason = read_reason(clear, max_pixels=size)
    assert reason.startswith("too large: 64 x 48 pixels in 4 channels, of which a JPEG 2000 may have 3/4 of max_pixels")
    assert EncodedImage(clear, max_pixels=size * 4 // 3).read_pixels().shape == (48, 64, 3)
    for mode in ("RGB", "L"):
        assert EncodedImage(encode_image(Image.new(mode, (64, 48)), "JPEG2000"), max_pixels=size).width == 64


def test_a_tile_may_not_be_larger_than_an_image() -> None:
    data = zlib.compress(bytes(64 * 48))
    tags = [
        *((0x100, 3, 1, 64), (0x101, 3, 1, 48), (0x102, 3, 1, 8), (0x103, 3, 1, 8), (0x106, 3, 1, 1), (0x115, 3, 1, 1)),
        *((0x142, 4, 1, 64), (0x143, 4, 1, 48), (0x144, 4, 1, 134), (0x145, 4, 1, len(data))),
    ]
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    content = b"II*\0\x08\0\0\0" + entries + bytes(4) + data
    assert not images.decode_image(content).any()
    huge = content.replace(struct.pack("<HHII", 0x142, 4, 1, 64), struct.pack("<HHII", 0x142, 4, 1, 10**7))
    assert read_reason(huge).startswith("too large: 10000000 x 48 pixels")


BOMB = zlib.compress(bytes(300_000_000))
HOSTILE = {
    "text": encode_image(RGB)[:33] + make_chunk(b"zTXt", b"a\0\0" + BOMB) + encode_image(RGB)[33:],
    "frames": encode_image(
        RGB.quantize(64), "GIF", save_all=True, append_images=[INVERSE.quantize(64), RGB.quantize(64)] * 300
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_pixel_takes_no_memory(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(HOSTILE[name])
    setup = "import pathlib\nfrom detectime import images\ncontent = pathlib.Path(sys.argv[1]).read_bytes()"
    megabytes, lines = measure_memory(setup, "print(images.decode_image(content).shape)", tmp_path / "a")
    assert lines == ["(48, 64, 3)"]
    assert megabytes < 30
