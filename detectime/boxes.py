"""Geometry on arrays of boxes.

A box is ``[x1, y1, x2, y2]`` in pixels of the frame it was found in, x to the right and y downwards; every function
takes arrays of shape ``(..., 4)`` and broadcasts over the leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def as_boxes(values: ArrayLike) -> NDArray[np.float32]:
    """Return `values` as a float32 array of shape (N, 4), also where there are none.

    Raises
    ------
    ValueError
        If `values` do not make rows of four.
    """
    return np.asarray(values, dtype=np.float32).reshape(-1, 4)


def compute_area(boxes: ArrayLike) -> Floats:
    """Area in square pixels, shape (...); zero for a box whose sides are not in order."""
    b = np.asarray(boxes, dtype=np.float64)
    sides = np.clip(b[..., 2:] - b[..., :2], 0, None)
    return sides[..., 0] * sides[..., 1]


def make_context_squares(boxes: ArrayLike, coefficient: float) -> Floats:
    """Square with a box's centre and the half side ``coefficient * max(width, height)``.

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
    """
    x1, y1, x2, y2 = np.moveaxis(np.asarray(boxes, dtype=np.float64), -1, 0)  # a maximum over an axis of two is slow
    half = coefficient * np.maximum(x2 - x1, y2 - y1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return np.stack([x - half, y - half, x + half, y + half], axis=-1)


def clip_boxes(boxes: ArrayLike, width: ArrayLike, height: ArrayLike) -> Floats:
    """Cut boxes at the borders of frames of `width` × `height` pixels (scalars, or arrays of shape (...))."""
    b = np.asarray(boxes, dtype=np.float64)
    w, h = np.asarray(width, dtype=np.float64), np.asarray(height, dtype=np.float64)
    limits = np.stack(np.broadcast_arrays(w, h, w, h), axis=-1)
    return np.clip(b, 0, limits)


def round_outward(boxes: ArrayLike) -> Integers:
    """Smallest integer boxes around `boxes`: floor of x1 and y1, ceil of x2 and y2."""
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([np.floor(b[..., :2]), np.ceil(b[..., 2:])], axis=-1).astype(np.int64)


def compute_overlap(a: ArrayLike, b: ArrayLike) -> Floats:
    """Area in square pixels that `a` and `b` share, shape (...) after broadcasting; zero where they only touch."""
    p, q = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    shared = np.concatenate(
        np.broadcast_arrays(np.maximum(p[..., :2], q[..., :2]), np.minimum(p[..., 2:], q[..., 2:])), axis=-1
    )
    return compute_area(shared)


def compute_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of `a` and `b` in 0…1, shape (...) after broadcasting; zero where both are empty."""
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
        Shape (N,). Equal scores keep the order they came in.
    max_iou
        A box is dropped if its IoU with a better one that was kept is larger than this.

    Returns
    -------
    ndarray
        Indices of the boxes that are kept, best first, int64.
    """
    b = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    kept: list[int] = []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(int(best))
        order = others[compute_iou(b[best], b[others]) <= max_iou]
    return np.asarray(kept, dtype=np.int64)
