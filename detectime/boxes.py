"""Geometry on arrays of boxes.

A box is ``[x1, y1, x2, y2]`` in pixels of the upright frame, x to the right and y downwards. Every function takes
arrays of shape ``(..., 4)`` and broadcasts over the leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations of images that are stored lying on their side."""
_MIRRORED_IN_X = (2, 3, 6, 7)  # after width and height were exchanged, if they were
_MIRRORED_IN_Y = (3, 4, 7, 8)


HAND_CONTEXT = 0.6
"""Half side of the square around a hand that a classifier sees, in units of the hand's longer side."""


def as_boxes(values: ArrayLike) -> NDArray[np.float32]:
    """Return `values` as a float32 array of shape (N, 4), also if there are none.

    Raises
    ------
    ValueError
        If `values` do not make rows of four.

    Examples
    --------
    >>> as_boxes([]).shape, as_boxes([1, 2, 3, 4]).shape
    ((0, 4), (1, 4))
    """
    return np.asarray(values, dtype=np.float32).reshape(-1, 4)


def turn_boxes(boxes: ArrayLike, orientation: int, width: float, height: float) -> Floats:
    """Turn boxes in pixels of an image as stored to those of the upright image.

    Parameters
    ----------
    boxes
        Boxes, shape (..., 4).
    orientation
        EXIF orientation, 1 to 8; that of `invert_orientation` turns boxes of the upright image back.
    width, height
        Size of the image that the boxes belong to: 1, 1 for boxes in fractions of it.

    Returns
    -------
    ndarray
        float64, shape (..., 4), in the unit of `boxes`.

    Examples
    --------
    >>> turn_boxes([0, 0, 10, 20], 6, 640, 480).tolist()
    [460.0, 0.0, 480.0, 10.0]
    """
    b = np.array(boxes, dtype=np.float64)
    if orientation in SIDEWAYS:
        b, width, height = b[..., [1, 0, 3, 2]], height, width
    if orientation in _MIRRORED_IN_X:
        b[..., [0, 2]] = width - b[..., [2, 0]]
    if orientation in _MIRRORED_IN_Y:
        b[..., [1, 3]] = height - b[..., [3, 1]]
    return b


def invert_orientation(orientation: int) -> int:
    """Return the orientation that undoes another: 6 and 8 undo each other, any other one undoes itself.

    Examples
    --------
    >>> invert_orientation(6), invert_orientation(5)
    (8, 5)
    """
    return {6: 8, 8: 6}.get(orientation, orientation)


def compute_area(boxes: ArrayLike) -> Floats:
    """Compute areas in square pixels, shape (...); zero for a box whose corners are swapped.

    Examples
    --------
    >>> compute_area([[0, 0, 4, 3], [4, 0, 0, 3]]).tolist()
    [12.0, 0.0]
    """
    b = np.asarray(boxes, dtype=np.float64)
    return _multiply_sides(b[..., :2], b[..., 2:])


def make_context_squares(boxes: ArrayLike, coefficient: float) -> Floats:
    """Make the square with a box's centre and half side ``coefficient * max(width, height)``.

    Parameters
    ----------
    boxes
        Boxes, shape (..., 4).
    coefficient
        Half side in units of the box's longer side: 1.5 gives a square of three times that side.

    Returns
    -------
    ndarray
        Squares, float64, shape (..., 4). They may leave the frame: see `clip_boxes`.

    Examples
    --------
    >>> make_context_squares([10, 10, 14, 12], 1.5).tolist()
    [6.0, 5.0, 18.0, 17.0]
    """
    b = np.asarray(boxes, dtype=np.float64)
    low, high = b[..., :2], b[..., 2:]
    sides = high - low
    half = coefficient * np.maximum(sides[..., :1], sides[..., 1:])  # a maximum over an axis of two is slow
    centre = (low + high) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def clip_boxes(boxes: ArrayLike, width: ArrayLike, height: ArrayLike) -> Floats:
    """Clip boxes to frames of `width` × `height` pixels (scalars, or arrays of shape (...)).

    Examples
    --------
    >>> clip_boxes([-5, 10, 70, 40], 64, 48).tolist()
    [0.0, 10.0, 64.0, 40.0]
    """
    b = np.asarray(boxes, dtype=np.float64)
    w, h = np.asarray(width, dtype=np.float64), np.asarray(height, dtype=np.float64)
    limits = np.array([w, h, w, h]) if w.ndim == h.ndim == 0 else np.stack(np.broadcast_arrays(w, h, w, h), axis=-1)
    clipped: Floats = np.minimum(np.maximum(b, 0), limits)  # `np.clip` of a few boxes takes five times as long
    return clipped


def round_outward(boxes: ArrayLike) -> Integers:
    """Return the smallest integer boxes around `boxes`: floor of x1 and y1, ceil of x2 and y2.

    Examples
    --------
    >>> round_outward([1.2, 3.9, 5.0, 7.1]).tolist()
    [1, 3, 5, 8]
    """
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([np.floor(b[..., :2]), np.ceil(b[..., 2:])], axis=-1).astype(np.int64)


def compute_overlap(a: ArrayLike, b: ArrayLike) -> Floats:
    """Compute the area common to `a` and `b` in square pixels, shape (...); zero where they only touch.

    Examples
    --------
    >>> compute_overlap([0, 0, 4, 4], [[2, 2, 6, 6], [4, 0, 8, 4]]).tolist()
    [4.0, 0.0]
    """
    p, q = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return _multiply_sides(np.maximum(p[..., :2], q[..., :2]), np.minimum(p[..., 2:], q[..., 2:]))


def compute_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Compute the intersection over union of `a` and `b`, 0 to 1, shape (...); zero where both are empty.

    Examples
    --------
    >>> compute_iou([0, 0, 4, 4], [0, 0, 4, 2]).item()
    0.5
    """
    shared = compute_overlap(a, b)
    union = compute_area(a) + compute_area(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress_non_maximum(boxes: ArrayLike, scores: ArrayLike, max_iou: float) -> Integers:
    """Greedy non-maximum suppression.

    Parameters
    ----------
    boxes
        Shape (N, 4).
    scores
        Shape (N,). Boxes with equal scores keep their order.
    max_iou
        A box is dropped if its IoU with a better box that is kept exceeds this.

    Returns
    -------
    ndarray
        Indices of the kept boxes, best first, int64.

    Examples
    --------
    >>> suppress_non_maximum([[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]], [0.8, 0.9, 0.5], max_iou=0.5).tolist()
    [1, 2]
    """
    b = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if len(b) < 2:  # as in most frames
        return np.arange(len(b))
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    kept: list[int] = []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(int(best))
        order = others[compute_iou(b[best], b[others]) <= max_iou]
    return np.asarray(kept, dtype=np.int64)


def _multiply_sides(low: Floats, high: Floats) -> Floats:
    """Return areas, shape (...), of boxes from corner to corner, shapes (..., 2); zero where corners are swapped."""
    sides = np.maximum(high - low, 0)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area
