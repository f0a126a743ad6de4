"""Decoding: every kind of picture against Pillow, and every kind of broken one."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from conftest import draw_pattern, encode_image, make_huge_jpeg, make_huge_png, measure_memory
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from detectime import images, schema
from detectime.images import EncodedImage, UnreadableImageError, is_full_size

RGB = Image.fromarray(draw_pattern())
ALPHA = RGB.copy()
ALPHA.putalpha(Image.fromarray(draw_pattern()[..., 0]))
PALETTE = RGB.quantize(16)
NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
PROGRESSIVE = encode_image(NOISE, "JPEG", progressive=True)
STRAY = PROGRESSIVE.replace(b"\xff\xda", b"\0\0\0\xff\xda").replace(b"\0\0\0\xff\xda", b"\xff\xda", 1)
"""Bytes that no decoder needs, and that it warns of, before each scan but the first."""
INVERSE = Image.fromarray(255 - draw_pattern())
ANIMATED = {"save_all": True, "append_images": [INVERSE]}


def sixteen_bits(suffix: str, picture: np.ndarray) -> bytes:
    """Encode what Pillow cannot write: 16 bits of several channels."""
    done, content = cv2.imencode(suffix, picture)
    assert done
    return content.tobytes()


DEEP = draw_pattern()[..., ::-1].astype(np.uint16) * 256 + 77  # blue first, as OpenCV wants it


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        pytest.param(encode_image(RGB, "JPEG"), 2, id="JPEG"),
        pytest.param(encode_image(RGB, "JPEG", progressive=True), 2, id="JPEG, progressive"),
        pytest.param(encode_image(RGB, "JPEG", subsampling=0, quality=100), 2, id="JPEG, 4:4:4"),
        pytest.param(encode_image(RGB.convert("L"), "JPEG"), 2, id="JPEG, grey"),
        pytest.param(encode_image(RGB.convert("CMYK"), "JPEG"), 3, id="JPEG, CMYK"),
        pytest.param(encode_image(RGB, "JPEG") + b"stray bytes", 2, id="JPEG, stray bytes after it"),
        pytest.param(encode_image(RGB), 0, id="PNG"),
        pytest.param(encode_image(RGB.convert("L")), 0, id="PNG, grey"),
        pytest.param(encode_image(RGB.convert("LA")), 0, id="PNG, grey and alpha"),
        pytest.param(encode_image(RGB.convert("1")), 0, id="PNG, one bit"),
        pytest.param(encode_image(ALPHA), 0, id="PNG, alpha"),
        pytest.param(encode_image(PALETTE), 0, id="PNG, palette"),
        pytest.param(encode_image(PALETTE, transparency=3), 0, id="PNG, palette and alpha"),
        pytest.param(encode_image(RGB, "PNG", **ANIMATED), 0, id="PNG, animated"),
        pytest.param(encode_image(RGB, "WEBP"), 2, id="WebP"),
        pytest.param(encode_image(RGB, "WEBP", lossless=True), 0, id="WebP, lossless"),
        pytest.param(encode_image(RGB.convert("L"), "WEBP"), 2, id="WebP, grey"),
        pytest.param(encode_image(ALPHA, "WEBP", lossless=True, exact=True), 0, id="WebP, alpha"),
        pytest.param(encode_image(RGB, "WEBP", lossless=True, **ANIMATED), 0, id="WebP, animated"),
        pytest.param(encode_image(RGB, "BMP"), 0, id="BMP"),
        pytest.param(encode_image(PALETTE, "GIF"), 0, id="GIF"),
        pytest.param(encode_image(RGB.convert("P"), "GIF", **ANIMATED), 0, id="GIF, animated"),
        pytest.param(encode_image(RGB, "TIFF"), 0, id="TIFF"),
        pytest.param(encode_image(RGB.convert("CMYK"), "TIFF"), 3, id="TIFF, CMYK"),
    ],
)
def test_colours_are_those_of_pillow(content: bytes, tolerance: int) -> None:
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    image = images.decode_image(content)
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
    np.testing.assert_array_equal(images.decode_image(content), draw_pattern())


def test_of_sixteen_bits_of_grey_the_upper_eight_stay() -> None:
    grey = draw_pattern()[..., 0]
    image = images.decode_image(encode_image(grey.astype(np.uint16) * 256 + 77))
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 100}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_exif_orientation(kind: str, options: dict[str, object], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode_image(RGB, kind, exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))).astype(int)
    applied = images.decode_image(content, exif="apply")
    assert applied.shape == upright.shape
    assert applied.flags.c_contiguous
    assert np.abs(applied - upright).max() <= 2
    np.testing.assert_array_equal(images.decode_image(content), applied)
    ignored = images.decode_image(content, exif="ignore")
    stored = draw_pattern().astype(int)
    assert ignored.shape == stored.shape
    assert np.abs(ignored - stored).max() <= 16  # a JPEG of few pixels is not exact


TEXT_FOR_ORIENTATION = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"six\0", 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", TEXT_FOR_ORIENTATION], ids=["garbage", "text"])
def test_broken_exif_turns_nothing(exif: bytes) -> None:
    content = encode_image(RGB, "JPEG", exif=exif)
    np.testing.assert_array_equal(images.decode_image(content), images.decode_image(content, exif="ignore"))


def smooth(width: int, height: int) -> NDArray[np.uint8]:
    """Draw a picture that is no sharper than a camera's, without any symmetry."""
    few = np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def averages(image: NDArray[np.uint8], factor: int) -> NDArray[np.float64]:
    """Average squares of pixels; what is left over at the right and at the bottom is left out."""
    height, width = (side // factor for side in image.shape[:2])
    squares = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return squares.mean(axis=(1, 3))


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 450))
@example(800, 600, 100)
@example(799, 600, 100)
@example(65_500, 1, 640)
@example(1, 1, 1)
def test_a_jpeg_is_decoded_no_smaller_than_what_is_enough(width: int, height: int, side: int) -> None:
    done, content = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))
    assert done
    picture = EncodedImage(content.tobytes())
    factor = max(factor for factor in (1, 2, 4, 8) if factor == 1 or max(width, height) >= factor * side)
    image = picture.read_pixels(side)
    assert image.shape == (-(-height // factor), -(-width // factor), 3)
    assert (picture.width, picture.height) == (width, height)
    assert is_full_size(image, picture) == (max(width, height) == 1 or factor == 1)
    assert picture.read_pixels().shape == (height, width, 3)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encode_image(smooth(637, 475), "JPEG"), id="4:2:0"),
        pytest.param(encode_image(smooth(637, 475), "JPEG", subsampling=0), id="4:4:4"),
        pytest.param(encode_image(smooth(637, 475), "JPEG", progressive=True), id="progressive"),
        pytest.param(encode_image(Image.fromarray(smooth(637, 475)).convert("L"), "JPEG"), id="grey"),
        pytest.param(encode_image(Image.fromarray(smooth(637, 475)).convert("CMYK"), "JPEG"), id="CMYK"),
    ],
)
def test_a_reduced_jpeg_looks_as_the_average_of_its_pixels(content: bytes, factor: int) -> None:
    picture = EncodedImage(content)
    reduced, expected = picture.read_pixels(637 // factor), averages(picture.read_pixels(), factor)
    height, width = expected.shape[:2]
    assert reduced.shape == (-(-475 // factor), -(-637 // factor), 3)
    assert np.abs(reduced[:height, :width] - expected).max() <= 5
    assert np.abs(reduced[:height, 1:width] - expected[:, :-1]).max() > 8  # a pixel beside it would be seen


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side", [80, 40, 20])
def test_a_reduced_jpeg_is_turned_as_the_whole_one(orientation: int, side: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = EncodedImage(encode_image(smooth(160, 120), "JPEG", exif=exif, quality=95))
    upright = picture.read_pixels()
    assert upright.shape == (picture.height, picture.width, 3)
    reduced = picture.read_pixels(side)
    assert max(reduced.shape) == side
    assert reduced.flags.c_contiguous
    assert np.abs(reduced - averages(upright, 160 // side)).max() <= 9  # chroma is coarser


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_another_picture_is_never_reduced(kind: str) -> None:
    picture = EncodedImage(encode_image(RGB, kind))
    np.testing.assert_array_equal(picture.read_pixels(4), picture.read_pixels())
    assert is_full_size(picture.read_pixels(4), picture)


@pytest.mark.parametrize("side", [None, 20])
def test_stray_bytes_cost_no_pixel(side: int | None) -> None:
    with pytest.raises(ValueError, match="3 extraneous bytes"):
        simplejpeg.decode_jpeg(STRAY)
    np.testing.assert_array_equal(EncodedImage(STRAY).read_pixels(side), EncodedImage(PROGRESSIVE).read_pixels(side))


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 450))
@example(20_000, 1, 640)
@example(50, 20_000, 640)
def test_shrunk_pictures_have_their_size_and_their_colour(width: int, height: int, side: int) -> None:
    shrunk = images.shrink_image(np.full((height, width, 3), (10, 200, 77), np.uint8), side)
    scale = min(1.0, side / max(width, height))
    assert shrunk.shape == (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    assert max(shrunk.shape[:2]) == min(side, max(width, height))
    assert (shrunk == (10, 200, 77)).all()


@settings(deadline=None)
@given(st.integers(64, 400), st.integers(64, 400), st.integers(32, 400))
def test_shrunk_pictures_keep_their_average(width: int, height: int, side: int) -> None:
    image = smooth(width, height)
    shrunk = images.shrink_image(image, side)
    assert np.abs(shrunk.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 6


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_of_pixels_that_are_shrunk_away_each_one_counts(factor: int) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert (
        np.abs(images.shrink_image(noise, 320 // factor) - averages(noise, factor)).max() <= 2
    )  # rounded at each half


@st.composite
def draw_dark_images(draw: st.DrawFn) -> np.ndarray:
    """Draw images whose mean is below the threshold: noise up to a level, and a few pixels of any value."""
    height, width, level = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.integers(0, 70))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    image = random.integers(0, level + 1, (height, width, 3), dtype=np.uint8)
    image[random.random((height, width)) < 0.01] = 255
    return image if image.mean() < 40 else image // 4


@settings(deadline=None)
@given(draw_dark_images())
@example(np.zeros((3, 5, 3), np.uint8))
@example(np.full((1, 1, 3), 39, np.uint8))
def test_a_dark_picture_is_brightened_and_keeps_its_order(image: np.ndarray) -> None:
    before = image.copy()
    brightened = images.brighten_image(image)
    np.testing.assert_array_equal(image, before)
    assert brightened.shape == image.shape
    assert brightened.dtype == np.uint8
    assert (brightened >= image).all()
    order = np.argsort(image, axis=None)
    assert (np.diff(brightened.ravel()[order].astype(int)) >= 0).all()
    assert not brightened[image == 0].any()
    assert (brightened[image == 255] == 255).all()


@settings(deadline=None)
@given(st.integers(2, 39))
def test_a_dark_picture_gets_the_mean_of_a_dim_one(level: int) -> None:
    assert (images.brighten_image(np.full((9, 7, 3), level, np.uint8)) == 90).all()


@settings(deadline=None)
@given(st.integers(40, 255), st.integers(0, 39))
def test_other_pictures_are_not_brightened(level: int, contrast: int) -> None:
    image = np.full((6, 8, 3), level, np.uint8)
    image[:, ::2] -= contrast
    image[:, 1::2] = np.minimum(image[:, 1::2].astype(int) + contrast, 255)
    assert (images.brighten_image(image) is image) == (image.mean() >= 40)


@pytest.mark.parametrize("share", [0.45, 0.9])
def test_black_pixels_outside_a_picture_do_not_make_it_dark(share: float) -> None:
    image = np.full((100, 40, 3), 70, np.uint8)
    image[: round(100 * share)] = 0
    assert image.mean() < 40
    assert images.brighten_image(image) is image


def test_a_dark_picture_beside_black_pixels_is_brightened_as_without_them() -> None:
    picture = np.full((60, 40, 3), 20, np.uint8)
    padded = np.concatenate([np.zeros_like(picture), picture])
    np.testing.assert_array_equal(images.brighten_image(padded)[60:], images.brighten_image(picture))
    assert not images.brighten_image(padded)[:60].any()


def test_a_black_picture_stays_black() -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    assert images.brighten_image(image) is image


def test_a_picture_of_one_colour_is_not_taken_for_black() -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    image[..., 0] = 60  # mean of the three channels: 20
    assert images.brighten_image(image)[..., 0].min() > 60


def test_a_picture_that_is_small_enough_is_not_shrunk() -> None:
    np.testing.assert_array_equal(images.shrink_image(NOISE, 160), NOISE)
    np.testing.assert_array_equal(images.shrink_image(NOISE, 161), NOISE)


@pytest.mark.parametrize("side", [None, 20])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.99])
@pytest.mark.parametrize(
    ("content", "end"),
    [
        pytest.param(encode_image(NOISE, "JPEG"), b"", id="JPEG"),
        pytest.param(encode_image(NOISE, "JPEG"), b"\xff\xd9", id="JPEG, end marker"),
        pytest.param(PROGRESSIVE, b"\xff\xd9", id="JPEG, progressive, end marker"),
        pytest.param(STRAY, b"", id="JPEG, stray bytes"),
        pytest.param(encode_image(NOISE), b"", id="PNG"),
        pytest.param(encode_image(NOISE), encode_image(NOISE)[-12:], id="PNG, end chunk"),
        pytest.param(encode_image(NOISE, "WEBP"), b"", id="WebP"),
        pytest.param(encode_image(NOISE, "BMP"), b"", id="BMP"),
        pytest.param(encode_image(NOISE, "GIF"), b"", id="GIF"),
        pytest.param(encode_image(NOISE, "TIFF"), b"", id="TIFF"),
    ],
)
def test_a_file_that_is_cut_off_is_unreadable(content: bytes, end: bytes, share: float, side: int | None) -> None:
    with pytest.raises(UnreadableImageError):
        EncodedImage(content[: int(len(content) * share)] + end).read_pixels(side)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"\1hello", "not an image: neither JPEG nor PNG", id="unknown"),
        pytest.param(b"hello, I am text", "text, not an image", id="text"),
        pytest.param(b"\xff\xd8", "truncated: the JPEG ends in its header", id="JPEG of two bytes"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "not an image|broken", id="PNG of eight bytes"),
        pytest.param(encode_image(RGB, "ICO"), "an icon, which is not read", id="ICO"),
    ],
)
def test_what_is_no_picture_is_unreadable(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        images.decode_image(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_orientation_is_told_whether_it_is_applied_or_not(kind: str) -> None:
    for stored, told in ((6, 6), (1, 1), (9, 1), (None, 1)):
        exif = Image.Exif()
        if stored:
            exif[0x0112] = stored
        content = encode_image(RGB, kind, exif=exif)
        assert EncodedImage(content).orientation == told
        assert EncodedImage(content, exif="ignore").orientation == told
    assert images.DecodedImage(draw_pattern(), "5-3610a686").orientation == 1
    assert images.DecodedImage(draw_pattern(), "5-3610a686", 6).orientation == 6


def test_a_picture_tells_its_content_and_so_does_what_is_wrong_with_it() -> None:
    content = encode_image(RGB)
    assert (
        EncodedImage(content).content == images.describe_content(content) == f"{len(content)}-{zlib.crc32(content):08x}"
    )
    for broken, size in ((b"hello", 100), (b"", 100), (content, 10), (b"\xff\xd8", 100)):
        with pytest.raises(UnreadableImageError) as refusal:
            EncodedImage(broken, max_pixels=size)
        assert refusal.value.content == images.describe_content(broken)
    assert UnreadableImageError("of another kind").content is None


# -- hashes of crops


def differing(one: bytes | None, other: bytes | None) -> int:
    """Count bits that differ."""
    assert one is not None
    assert other is not None
    return int(np.bitwise_count(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum())


def scene(seed: int, side: int = 640) -> NDArray[np.uint8]:
    """Draw blots of all sizes, as photographs have them."""
    random = np.random.default_rng(seed)
    total = sum(
        cv2.resize(random.normal(size=(n, n, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC) / n
        for n in (4, 8, 16, 32, 64, 128, 256)
    )
    return np.clip(128 + 400 * np.asarray(total), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("box", [(100.3, 50.0, 420.7, 333.2), (200, 200, 290, 270), (-40.5, 30, 150, 700)])
def test_crops_that_look_alike_have_hashes_that_are_alike(box: tuple[float, ...]) -> None:
    """Fewer than 31 of 256 bits apart, which PDQ's authors take for the same picture."""
    image = scene(0)
    x1, y1, x2, y2 = (int(side) for side in (max(0, np.floor(box[0])), max(0, np.floor(box[1])), *np.ceil(box[2:])))
    crop = image[y1:y2, x1:x2]
    height, width = crop.shape[:2]
    hashed = images.hash_crop(image, box)
    assert hashed is not None
    assert len(hashed) == 32
    assert differing(hashed, bytes(32)) == 128
    assert hashed == images.hash_crop(np.ascontiguousarray(crop), [0, 0, width, height])
    encoded = images.decode_image(encode_image(crop, "JPEG", quality=80))
    assert differing(hashed, images.hash_crop(encoded, [0, 0, width, height])) < 31
    half = cv2.resize(encoded, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    assert differing(hashed, images.hash_crop(np.asarray(half, np.uint8), [0, 0, width // 2, height // 2])) < 31


def test_different_crops_differ_in_half_of_the_bits() -> None:
    hashes = [images.hash_crop(scene(k), [0, 0, 200, 200]) for k in range(12)]
    distances = [differing(a, b) for k, a in enumerate(hashes) for b in hashes[:k]]
    assert 118 < np.mean(distances) < 138
    assert min(distances) > 90


@pytest.mark.parametrize(
    "box", [(-20, 0, -1, 50), (0, 48, 10, 60), (64, 0, 90, 48), (10, 10, 10, 20), (30, 30, 20, 40)]
)
def test_what_is_outside_of_the_image_has_no_hash(box: tuple[float, ...]) -> None:
    assert images.hash_crop(draw_pattern(), box) is None


def test_the_hash_of_a_crop_never_changes() -> None:
    """Runs keep hashes: who changes them raises `schema.CROP_HASH_VERSION` and writes down the new ones."""
    assert schema.CROP_HASH_VERSION == 1
    found = [
        images.hash_crop(draw_pattern(), [0, 0, 64, 48]),
        images.hash_crop(draw_pattern(300, 200), [7.5, 9, 250.5, 190]),
    ]
    written = [
        "3b0cec2b157eeed13a9ef24b23c08a41f3d76ee2abfd69e37c2d6880c4001dc1",
        "cc45a1152eef7315e0444bbb3cd5f81152ec4f55fe0454bb12d5df81552d40b7",
    ]
    # Of what averages are rounded to, a bit may depend on the processor.
    assert max(differing(one, bytes.fromhex(known)) for one, known in zip(found, written, strict=True)) < 4


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5)])
def test_crops_of_all_sizes_have_a_hash(size: tuple[int, int]) -> None:
    image = scene(3, 320)[: size[1], : size[0]]
    hashed = images.hash_crop(image, [0, 0, *size])
    assert hashed is not None
    assert len(hashed) == 32


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(make_huge_png(30_000, 30_000), id="PNG"),
        pytest.param(make_huge_png(12_000, 12_000), id="PNG that Pillow accepts"),
        pytest.param(make_huge_jpeg(30_000, 30_000), id="JPEG"),
    ],
)
def test_of_a_too_large_image_only_the_header_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(content)
    setup = "import pathlib\nfrom detectime import images\ncontent = pathlib.Path(sys.argv[1]).read_bytes()"
    work = (
        "try: images.decode_image(content, max_pixels=100_000_000)\n"
        "except images.UnreadableImageError as error: print(error)"
    )
    megabytes, (reason,) = measure_memory(setup, work, tmp_path / "huge")
    assert reason.startswith("too large: ")
    assert megabytes < 50


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_max_pixels_is_exact(kind: str) -> None:
    content = encode_image(RGB, kind)
    assert images.decode_image(content, max_pixels=64 * 48).shape == (48, 64, 3)
    with pytest.raises(UnreadableImageError, match=r"64 x 48 pixels, more than max_pixels \(3071\)"):
        images.decode_image(content, max_pixels=64 * 48 - 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (31, 7)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_odd_sizes(kind: str, size: tuple[int, int]) -> None:
    assert images.decode_image(encode_image(Image.new("RGB", size), kind)).shape == (size[1], size[0], 3)
