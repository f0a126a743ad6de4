"""Region proposal network, and the selection of proposals from its outputs.

Ren et al., Faster R-CNN, NIPS 2015 (arXiv:1506.01497). The network runs in torch; the rest is NumPy in float32, in the
order of operations of the original. Boxes are y1, x1, y2, x2, normalised so that the canvas is 0 … 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.config import STRIDES, NetworkSettings
from detectime.detectors.mask_rcnn.convolution import Convolution, LayerBuilder

Array = NDArray[np.float32]

_BLOCK = 256  # boxes that non-maximum suppression processes at a time


class ProposalNetwork:
    """Scores each anchor and predicts the offset of the object's box from it.

    Parameters
    ----------
    layers
        Builder with the weights.
    anchor_stride
        Distance between anchors in cells.
    """

    def __init__(self, layers: LayerBuilder, anchor_stride: int) -> None:
        self._shared = layers.build_convolution("rpn_conv_shared", stride=anchor_stride, relu=True)
        logits, deltas = layers.build_convolution("rpn_class_raw"), layers.build_convolution("rpn_bbox_pred")
        # Both have the same input: a single convolution reads it once.
        self._outputs = Convolution(torch.cat([logits.weight, deltas.weight]), torch.cat([logits.bias, deltas.bias]))
        self._logit_count = len(logits.bias)

    def __call__(self, pyramid: Sequence[torch.Tensor]) -> tuple[Array, Array]:
        """Return scores, shape (B, A), and deltas dy, dx, log dh, log dw, shape (B, A, 4), of all anchors."""
        scores, deltas = [], []
        for maps in pyramid:  # level by level, to save memory: the largest takes 134 MB
            outputs = self._outputs(self._shared(maps)).permute(0, 2, 3, 1).float()
            logits = outputs[..., : self._logit_count].reshape(len(maps), -1, 2)
            scores.append(logits.softmax(dim=2)[:, :, 1])
            deltas.append(outputs[..., self._logit_count :].reshape(len(maps), -1, 4))
        return torch.cat(scores, dim=1).cpu().numpy(), torch.cat(deltas, dim=1).cpu().numpy()


def select_proposals(scores: Array, deltas: Array, anchors: Array, settings: NetworkSettings) -> Array:
    """Select the proposals of one canvas from the outputs of the network.

    Parameters
    ----------
    scores, deltas, anchors
        Shapes (A,), (A, 4), (A, 4).
    settings
        Settings of the network.

    Returns
    -------
    ndarray
        float32, shape (`settings.proposals`, 4), highest score first; unused rows at the end are 0.

    Examples
    --------
    >>> anchors = np.array([[0, 0, 0.5, 0.5], [0, 0, 1, 1]], np.float32)
    >>> scores, deltas = np.array([0.2, 0.9], np.float32), np.zeros((2, 4), np.float32)
    >>> select_proposals(scores, deltas, anchors, NetworkSettings(proposals=3))
    array([[0. , 0. , 1. , 1. ],
           [0. , 0. , 0.5, 0.5],
           [0. , 0. , 0. , 0. ]], dtype=float32)
    """
    best = _find_highest(scores, settings.candidates)
    boxes = apply_deltas(anchors[best], deltas[best] * np.array(settings.rpn_deviation, np.float32))
    boxes = np.clip(boxes, np.float32(0), np.float32(1))
    kept = suppress_non_maximum(boxes, scores[best], settings.rpn_nms, settings.proposals)
    proposals = np.zeros((settings.proposals, 4), np.float32)
    proposals[: len(kept)] = boxes[kept]
    return proposals


def _find_highest(scores: Array, count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` highest scores, highest first; for equal scores the lower index first."""
    candidates = np.arange(len(scores))
    if count < len(scores):
        candidates = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    order: NDArray[np.intp] = candidates[np.argsort(-scores[candidates], kind="stable")[:count]]
    return order


@functools.lru_cache(maxsize=32)
def make_anchors(height: int, width: int, settings: NetworkSettings) -> Array:
    """Return the anchors of a canvas, normalised, shape (A, 4), ordered by level (P2 … P6), y, x and ratio.

    Anchors may extend beyond the canvas. The array is cached and read-only.

    Examples
    --------
    >>> make_anchors(1024, 1024, NetworkSettings()).shape
    (261888, 4)
    """
    ratios = np.array(settings.anchor_ratios, float)
    levels = []
    for stride, side in zip(STRIDES, settings.anchor_sides, strict=True):
        step = settings.anchor_stride
        # Centres are at the corners of cells, not in their middle.
        y, x = np.mgrid[: -(-height // stride) : step, : -(-width // stride) : step] * stride
        centres = np.stack([y, x], axis=-1).reshape(-1, 1, 2)
        halves = np.stack([side / np.sqrt(ratios), side * np.sqrt(ratios)], axis=1) / 2
        levels.append(np.concatenate([centres - halves, centres + halves], axis=2).reshape(-1, 4))
    anchors = normalise_boxes(np.concatenate(levels), height, width)
    anchors.flags.writeable = False
    return anchors


def normalise_boxes(boxes: NDArray[np.floating], height: int, width: int) -> Array:
    """Convert pixels to 0 … 1, where 1 is the index of the last pixel, not the size.

    Examples
    --------
    >>> normalise_boxes(np.array([0.0, 0, 64, 64]), 64, 64)
    array([0., 0., 1., 1.], dtype=float32)
    """
    scale = np.array([height - 1, width - 1, height - 1, width - 1], float)
    normalised: NDArray[np.float64] = (boxes - np.array([0.0, 0, 1, 1])) / scale
    return normalised.astype(np.float32)


def apply_deltas(boxes: Array, deltas: Array) -> Array:
    """Move and scale boxes, shape (N, 4), by dy, dx, log dh, log dw in units of their own height and width.

    Raises
    ------
    FloatingPointError
        If a box becomes infinite, which happens only with broken weights.

    Examples
    --------
    >>> apply_deltas(np.array([[0, 0, 0.5, 0.5]], np.float32), np.array([[0.5, 0, 0, 0]], np.float32))
    array([[0.25, 0.  , 0.75, 0.5 ]], dtype=float32)
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + np.float32(0.5) * sides + deltas[:, :2] * sides
    with np.errstate(over="raise"):
        sides = sides * np.exp(deltas[:, 2:])
    corners = centres - np.float32(0.5) * sides
    return np.concatenate([corners, corners + sides], axis=1)


def suppress_non_maximum(boxes: Array, scores: Array, max_iou: float, max_count: int) -> NDArray[np.intp]:
    """Greedy non-maximum suppression, bit for bit that of TensorFlow.

    A box is dropped if its IoU, in float32, with a kept box of a higher score exceeds `max_iou`. For equal scores the
    lower index counts as higher. Boxes without area overlap nothing.

    Parameters
    ----------
    boxes, scores
        Shapes (N, 4) and (N,). The corners of a box may be in any order.
    max_iou
        Threshold, 0 … 1.
    max_count
        Maximum number of boxes to keep.

    Returns
    -------
    ndarray
        Indices of the kept boxes, highest score first.

    Examples
    --------
    >>> boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 0.2, 0.2]], np.float32)
    >>> suppress_non_maximum(boxes, np.array([0.8, 0.9, 0.7], np.float32), 0.5, 100)
    array([1, 2])
    """
    order = np.argsort(-scores, kind="stable")
    ordered = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    ordered = ordered[order]
    limit = np.float32(max_iou)
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        block = ordered[start : start + _BLOCK]
        is_alive: NDArray[np.bool_] = np.all(_compute_iou(block, ordered[kept]) <= limit, axis=1)
        is_overlapping = _compute_iou(block, block) > limit
        for i in range(len(block)):
            if is_alive[i]:
                is_alive[i + 1 :] &= ~is_overlapping[i, i + 1 :]
        kept = np.concatenate([kept, start + np.flatnonzero(is_alive)])
        if len(kept) >= max_count:
            break
    return order[kept[:max_count]]


def _compute_iou(a: Array, b: Array) -> Array:
    """Compute the IoU of each of `a` with each of `b`, shape (len(a), len(b)), in TensorFlow's order of operations."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, np.float32(0))
    shared = sides[:, :, 0] * sides[:, :, 1]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    has_area = (area_a[:, None] > 0) & (area_b[None] > 0)
    union = area_a[:, None] + area_b[None] - shared
    iou: Array = np.divide(shared, union, out=np.zeros_like(shared), where=has_area)
    return iou
