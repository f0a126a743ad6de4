"""Resizing of images, canvases and crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skips import need_extra

from detectime import images as decoding
from detectime.detectors.mask_rcnn import images
from detectime.detectors.mask_rcnn.config import NetworkSettings

DEFAULT = NetworkSettings()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_golden_canvas(golden: Any, shared: Path) -> None:
    # The original ran without blurring.
    oracle = golden("resnet101_1024_room1")
    image = decoding.decode_image((shared / "frames/contest/TRAIN_DATA/room/0001.jpg").read_bytes())
    canvas = images.make_canvas(image, DEFAULT, "plain")
    assert canvas.window == canvas.image_box == tuple(oracle["window"])
    difference = np.abs(canvas.pixels.astype(int) - oracle["molded"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.extra
@pytest.mark.parametrize("resizing", images.RESIZE_MODES)
@pytest.mark.parametrize(
    "shape", [(720, 1280), (480, 640), (1472, 1106), (1500, 2000), (100, 1500), (20, 20), (1025, 1024), (65, 4000)]
)
def test_resizing_equals_that_of_scikit_image(shape: tuple[int, int], resizing: str) -> None:
    transform = need_extra("skimage.transform")
    ndimage = need_extra("scipy.ndimage")
    image = noise(*shape)
    image[: shape[0] // 2] = np.sort(image[: shape[0] // 2], axis=1)  # a smooth half next to noise
    ours = images.resize_image(image, DEFAULT, resizing)
    theirs = image
    if resizing == "2021":  # scikit-image 0.16 blurred bytes; today's converts them to floats first
        deviations = [max(0.0, (old / new - 1) / 2) for old, new in zip(shape, ours.shape[:2], strict=True)]
        theirs = ndimage.gaussian_filter(theirs, (*deviations, 0), mode="constant", cval=0)
    theirs = transform.resize(
        theirs, ours.shape[:2], order=1, mode="constant", preserve_range=True, anti_aliasing=False
    ).astype(np.uint8)
    assert (np.abs(ours.astype(int) - theirs) <= 1).mean() > 0.99
    assert (ours == theirs).mean() > 0.98


def test_an_image_of_the_right_size_is_unchanged() -> None:
    image = noise(800, 1024)
    np.testing.assert_array_equal(images.resize_image(image, DEFAULT), image)


@pytest.mark.parametrize(
    ("shape", "fitted"),
    [
        ((720, 1280), (576, 1024)),
        ((480, 640), (768, 1024)),  # the shorter side would be 800, but the longer one 1067
        ((600, 700), (800, 933)),
        ((1, 1), (800, 800)),
        ((20000, 40), (1024, 2)),
    ],
)
def test_resized_sizes(shape: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert images.resize_image(np.zeros((*shape, 3), np.uint8), DEFAULT).shape[:2] == fitted


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (np.zeros((9, 9, 3)), "float64"),
        (np.zeros((9, 9), np.uint8), r"\(9, 9\)"),
        (np.zeros((9, 9, 1), np.uint8), r"\(9, 9, 1\)"),
        (np.zeros((9, 9, 4), np.uint8), r"\(9, 9, 4\)"),
        (np.zeros((2, 9, 9, 3), np.uint8), "RGB, uint8"),
        (np.zeros((0, 9, 3), np.uint8), "no pixels"),
        (np.zeros((9, 0, 3), np.uint8), "no pixels"),
        (np.zeros((1, 20000, 3), np.uint8), "20000 × 1 pixels is too narrow"),
        (np.zeros((20000, 1, 3), np.uint8), "1 × 20000 pixels is too narrow"),
        ([[1, 2, 3]], "list"),
        (None, "NoneType"),
    ],
)
def test_other_objects_are_rejected(image: Any, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        images.resize_image(image, DEFAULT)


@given(
    shape=st.tuples(st.integers(50, 2000), st.integers(50, 2000)),
    regions=st.lists(st.tuples(*[st.floats(-500, 2500)] * 4), max_size=4),
)
@example(shape=(64, 511), regions=[(0.0, 0.0, 1.0, 2.225073858507e-311)])
@settings(max_examples=40, deadline=None)
def test_crops_lie_on_the_canvas_and_contain_their_regions(shape: tuple[int, int], regions: Any) -> None:
    height, width = shape
    whole = images.make_canvas(np.full((*shape, 3), 200, np.uint8), DEFAULT, "plain")
    boxes = np.array(regions, float).reshape(-1, 4)
    crops = list(images.crop_regions(whole, boxes))
    top, left, bottom, right = whole.window
    covered = np.zeros(whole.pixels.shape[:2], bool)
    for crop in crops:
        assert crop.pixels.shape[0] % 64 == crop.pixels.shape[1] % 64 == 0
        y, x = top - crop.image_box[0], left - crop.image_box[1]
        rows, columns = crop.pixels.shape[:2]
        assert y % 64 == x % 64 == 0
        np.testing.assert_array_equal(crop.pixels, whole.pixels[y : y + rows, x : x + columns])
        y1, x1, y2, x2 = crop.window
        assert 0 <= y1 < y2 <= rows
        assert 0 <= x1 < x2 <= columns
        covered[y : y + rows, x : x + columns] = True
    for bx1, by1, bx2, by2 in boxes:
        x1, x2 = (left + np.clip([bx1, bx2], 0, width) * (right - left) / width).astype(int)
        y1, y2 = (top + np.clip([by1, by2], 0, height) * (bottom - top) / height).astype(int)
        assert covered[y1:y2, x1:x2].all()


def test_regions_share_a_crop_only_if_that_adds_no_pixels() -> None:
    whole = images.make_canvas(noise(1024, 1024), DEFAULT)
    apart = np.array([[0, 0, 100, 100], [900, 900, 1000, 1000]], float)
    assert [crop.pixels.shape[:2] for crop in images.crop_regions(whole, apart)] == [(128, 128), (128, 128)]
    close = np.array([[0, 0, 100, 100], [20, 20, 130, 120]], float)
    assert [crop.pixels.shape[:2] for crop in images.crop_regions(whole, close)] == [(128, 192)]
    assert not list(images.crop_regions(whole, np.empty((0, 4))))
    assert not list(images.crop_regions(whole, np.array([[2000.0, 0, 2100, 50]])))
