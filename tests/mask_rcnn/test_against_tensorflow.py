"""The three operations whose TensorFlow semantics are unusual, compared with TensorFlow itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skips import need_extra

torch = need_extra("torch")
need_extra("torchvision")  # must be imported before TensorFlow, or it crashes: both contain an LLVM
tf = need_extra("tensorflow")

from detectime.detectors.mask_rcnn.backbone import max_pool_same  # noqa: E402
from detectime.detectors.mask_rcnn.heads import crop_and_resize  # noqa: E402
from detectime.detectors.mask_rcnn.proposals import suppress_non_maximum  # noqa: E402

pytestmark = [pytest.mark.extra, pytest.mark.slow]


def draw_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Draw boxes of all kinds: inside, ending at 1.0, at the corner, without area, extending beyond the map."""
    corners = np.sort(generator.uniform(0, 1, (count, 2, 2)), axis=1).astype(np.float32)
    kind = generator.integers(0, 6, count)
    corners[kind == 1, 1] = 1
    corners[kind == 2, 1, 0] = 1
    corners[kind == 3, 1] = corners[kind == 3, 0]
    corners[kind == 4, 0] = 0
    corners[kind == 5] += generator.uniform(-0.2, 0.2, 2).astype(np.float32)
    return corners.reshape(count, 4)


@pytest.mark.parametrize(("cells", "size"), [(256, 7), (128, 7), (64, 14), (33, 7), (8, 7), (2, 7), (1, 7)])
def test_crop_and_resize(cells: int, size: int) -> None:
    generator = np.random.default_rng(cells)
    maps = generator.standard_normal((cells, cells, 4)).astype(np.float32)
    boxes = draw_boxes(generator, 2000)
    theirs = tf.image.crop_and_resize(maps[None], boxes, np.zeros(len(boxes), np.int32), (size, size)).numpy()
    ours = crop_and_resize(torch.from_numpy(maps), boxes, size).numpy()
    # Exact: which samples are outside. The values differ by a fused multiply-add in TensorFlow's loop.
    np.testing.assert_array_equal((ours == 0).all(axis=3), (theirs == 0).all(axis=3))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_boxes_that_end_at_one_overshoot_as_in_tensorflow() -> None:
    generator = np.random.default_rng(0)
    boxes = np.ones((2000, 4), np.float32)
    boxes[:, :2] = generator.uniform(0, 0.9, (2000, 2))
    ours = crop_and_resize(torch.ones(64, 64, 1), boxes, 7).numpy()
    theirs = tf.image.crop_and_resize(np.ones((1, 64, 64, 1)), boxes, np.zeros(2000, np.int32), (7, 7)).numpy()
    np.testing.assert_array_equal(ours, theirs)
    overshoot = (ours[:, -1, 0, 0] == 0).mean()
    assert 0.02 < overshoot < 0.15  # otherwise the test would cover no overshoot


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("limit", "most"), [(0.7, 1000), (0.3, 100), (0.5, 5)])
def test_non_maximum_suppression(seed: int, limit: float, most: int) -> None:
    generator = np.random.default_rng(seed)
    boxes = np.clip(draw_boxes(generator, 1500), 0, 1)
    if seed % 2:
        boxes = boxes[:, [2, 1, 0, 3]]  # corners in another order
    scores = generator.uniform(0, 1, len(boxes)).astype(np.float32)
    if seed % 3:
        scores = np.round(scores, 2)  # ties
    assert_same(boxes, scores, limit, most)


@given(
    corners=st.lists(st.tuples(*[st.integers(0, 8)] * 4), min_size=0, max_size=40),
    levels=st.integers(1, 4),
    limit=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0]),
    most=st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_non_maximum_suppression_of_small_integers(corners: Any, levels: int, limit: float, most: int) -> None:
    # Equal boxes, touching boxes, equal scores, and IoUs exactly at the threshold.
    boxes = np.array(corners, np.float32).reshape(-1, 4) / 8
    scores = (np.arange(len(boxes)) * 7 % levels).astype(np.float32)
    assert_same(boxes, scores, limit, most)


def assert_same(boxes: np.ndarray, scores: np.ndarray, limit: float, most: int) -> None:
    theirs = tf.image.non_max_suppression(boxes, scores, most, iou_threshold=limit).numpy()
    np.testing.assert_array_equal(suppress_non_maximum(boxes, scores, limit, most), theirs)


@pytest.mark.parametrize("sides", [(2, 2), (8, 6), (64, 32), (512, 2)])
def test_max_pooling_with_same_padding(sides: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).standard_normal((2, *sides, 3)).astype(np.float32)
    theirs = tf.nn.max_pool2d(maps, 3, 2, "SAME").numpy()
    ours = max_pool_same(torch.from_numpy(maps).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(ours, theirs)
