"""Geometry, by its properties and against counting pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectime import boxes

GRID = 12
Box = tuple[float, ...]


def box_of(number: st.SearchStrategy[float]) -> st.SearchStrategy[Box]:
    """Draw boxes whose corners are in order."""
    side = st.tuples(number, number).map(sorted)
    return st.tuples(side, side).map(lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1]))


on_grid = box_of(st.integers(0, GRID))
anywhere = box_of(st.floats(-5000, 5000, width=32))


def pixels(box: Box) -> NDArray[np.bool_]:
    """Paint a box of whole numbers."""
    x1, y1, x2, y2 = (int(corner) for corner in box)
    painted = np.zeros((GRID, GRID), bool)
    painted[y1:y2, x1:x2] = True
    return painted


def counted_iou(a: Box, b: Box) -> float:
    """Divide counted pixels."""
    union = int((pixels(a) | pixels(b)).sum())
    return int((pixels(a) & pixels(b)).sum()) / union if union else 0.0


@given(anywhere, st.integers(1, 4000), st.integers(1, 4000))
def test_a_clipped_box_is_the_part_inside_the_frame(box: Box, width: int, height: int) -> None:
    x1, y1, x2, y2 = clipped = boxes.clip_boxes(box, width, height)
    assert 0 <= x1 <= x2 <= width
    assert 0 <= y1 <= y2 <= height
    assert boxes.compute_area(clipped) == boxes.compute_overlap(box, [0, 0, width, height])


def test_each_box_is_clipped_to_its_own_frame() -> None:
    clipped = boxes.clip_boxes([[-5, -5, 99, 99], [-5, -5, 99, 99]], [10, 20], [30, 40])
    assert clipped.tolist() == [[0, 0, 10, 30], [0, 0, 20, 40]]


@given(anywhere)
def test_integers_enclose_and_no_smaller_ones_do(box: Box) -> None:
    x1, y1, x2, y2 = boxes.round_outward(box).tolist()
    assert x1 <= box[0] < x1 + 1
    assert y1 <= box[1] < y1 + 1
    assert x2 - 1 < box[2] <= x2
    assert y2 - 1 < box[3] <= y2


@given(on_grid, on_grid)
def test_overlap_iou_and_area_count_pixels(a: Box, b: Box) -> None:
    assert boxes.compute_area(a) == pixels(a).sum()
    assert boxes.compute_overlap(a, b) == boxes.compute_overlap(b, a) == (pixels(a) & pixels(b)).sum()
    assert boxes.compute_iou(a, b) == boxes.compute_iou(b, a) == counted_iou(a, b)


@given(anywhere, anywhere)
def test_iou_is_a_share(a: Box, b: Box) -> None:
    assert 0 <= boxes.compute_iou(a, b) <= 1


def test_a_box_out_of_order_is_empty() -> None:
    assert boxes.compute_area([5, 5, 1, 1]) == 0
    assert boxes.compute_overlap([5, 5, 1, 1], [0, 0, 9, 9]) == 0


@given(anywhere, st.floats(0.1, 10))
def test_the_square_has_the_centre_of_the_box_and_its_side(box: Box, coefficient: float) -> None:
    x1, y1, x2, y2 = boxes.make_context_squares(box, coefficient)
    side = 2 * coefficient * max(box[2] - box[0], box[3] - box[1])
    assert [x2 - x1, y2 - y1] == pytest.approx([side, side], abs=1e-6)
    assert [x1 + x2, y1 + y2] == pytest.approx([box[0] + box[2], box[1] + box[3]], abs=1e-6)


def naive_suppression(found: list[Box], scores: list[float], max_iou: float) -> list[int]:
    """Keep a box if none of the better ones that were kept covers it."""
    kept: list[int] = []
    for k in sorted(range(len(found)), key=lambda k: (-scores[k], k)):
        if all(counted_iou(found[k], found[better]) <= max_iou for better in kept):
            kept.append(k)
    return kept


@given(st.lists(st.tuples(on_grid, st.sampled_from([0.25, 0.5, 0.75])), max_size=8), st.sampled_from([0, 0.25, 0.5, 1]))
def test_suppression_is_the_naive_one(found: list[tuple[Box, float]], max_iou: float) -> None:
    corners, scores = [box for box, _ in found], [score for _, score in found]
    assert boxes.suppress_non_maximum(corners, scores, max_iou).tolist() == naive_suppression(corners, scores, max_iou)


NONE = np.empty((0, 4))


@pytest.mark.parametrize(
    ("result", "shape"),
    [
        pytest.param(boxes.as_boxes([]), (0, 4), id="as_boxes"),
        pytest.param(boxes.compute_area(NONE), (0,), id="area"),
        pytest.param(boxes.make_context_squares(NONE, 1.5), (0, 4), id="square_around"),
        pytest.param(boxes.clip_boxes(NONE, 640, 480), (0, 4), id="clip"),
        pytest.param(boxes.clip_boxes(NONE, np.empty(0), np.empty(0)), (0, 4), id="clip, a frame each"),
        pytest.param(boxes.round_outward(NONE), (0, 4), id="to_integers"),
        pytest.param(boxes.compute_overlap(NONE, NONE), (0,), id="overlap"),
        pytest.param(boxes.compute_overlap(NONE[:, None], np.ones((3, 4))), (0, 3), id="overlap with some"),
        pytest.param(boxes.compute_iou(NONE, [0, 0, 1, 1]), (0,), id="iou"),
        pytest.param(boxes.suppress_non_maximum([], [], 0.3), (0,), id="non_maximum_suppression"),
    ],
)
def test_no_boxes_give_no_boxes(result: NDArray[Any], shape: tuple[int, ...]) -> None:
    assert result.shape == shape


def test_what_makes_no_rows_of_four_is_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        boxes.as_boxes([1, 2, 3])
