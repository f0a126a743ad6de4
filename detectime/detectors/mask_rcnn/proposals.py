"""The region proposal network, and how its answers become proposals.

Ren et al., Faster R-CNN, NIPS 2015 (arXiv:1506.01497). The network runs in torch; what follows is NumPy in float32 and
in the original's order of operations. Boxes are y1, x1, y2, x2, normalised such that the canvas is 0 … 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.config import STRIDES, Settings
from detectime.detectors.mask_rcnn.convolution import Convolution, Layers

Array = NDArray[np.float32]

_BLOCK = 256  # boxes that non-maximum suppression takes up at a time


class ProposalNetwork:
    """For each anchor how likely it holds an object, and how the object's box differs from it."""

    def __init__(self, layers: Layers, anchor_stride: int) -> None:
        self._shared = layers.convolution("rpn_conv_shared", stride=anchor_stride, relu=True, large=True)
        logits, deltas = layers.convolution("rpn_class_raw"), layers.convolution("rpn_bbox_pred")
        # The two look at the same map: as one convolution they read it once.
        self._both = Convolution(torch.cat([logits.weight, deltas.weight]), torch.cat([logits.bias, deltas.bias]))
        self._logits = len(logits.bias)

    def __call__(self, pyramid: Sequence[torch.Tensor]) -> tuple[Array, Array]:
        """Scores, shape (B, anchors), and deltas dy, dx, log dh, log dw, shape (B, anchors, 4)."""
        scores, deltas = [], []
        for maps in pyramid:  # one by one: the largest alone takes 134 MB
            answer = self._both(self._shared(maps)).permute(0, 2, 3, 1).float()
            logits = answer[..., : self._logits].reshape(len(maps), -1, 2)
            scores.append(logits.softmax(dim=2)[:, :, 1])
            deltas.append(answer[..., self._logits :].reshape(len(maps), -1, 4))
        return torch.cat(scores, dim=1).cpu().numpy(), torch.cat(deltas, dim=1).cpu().numpy()


def propose(scores: Array, deltas: Array, anchors: Array, settings: Settings) -> Array:
    """Turn the network's answers for one image into proposals.

    Parameters
    ----------
    scores, deltas, anchors
        Shapes (A,), (A, 4), (A, 4).

    Returns
    -------
    ndarray
        Shape (`settings.proposals`, 4), best first; rows of 0 at the end where there are fewer.
    """
    best = _best(scores, settings.candidates)
    boxes = shifted(anchors[best], deltas[best] * np.array(settings.rpn_deviation, np.float32))
    boxes = np.clip(boxes, np.float32(0), np.float32(1))
    kept = non_maximum_suppression(boxes, scores[best], settings.rpn_nms, settings.proposals)
    proposals = np.zeros((settings.proposals, 4), np.float32)
    proposals[: len(kept)] = boxes[kept]
    return proposals


def _best(scores: Array, count: int) -> NDArray[np.intp]:
    """Find the `count` highest scores: indices, highest first; of equal ones the lower index comes first."""
    likely = np.arange(len(scores))
    if count < len(scores):
        likely = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    order: NDArray[np.intp] = likely[np.argsort(-scores[likely], kind="stable")[:count]]
    return order


@functools.lru_cache(maxsize=32)
def anchors(height: int, width: int, settings: Settings) -> Array:
    """Anchors of a canvas, normalised, shape (A, 4): by level P2 … P6, then y, x, ratio. Some leave the canvas."""
    ratios = np.array(settings.anchor_ratios, float)
    levels = []
    for stride, side in zip(STRIDES, settings.anchor_sides, strict=True):
        step = settings.anchor_stride
        # Centres lie on the corners of cells, not in their middle.
        y, x = np.mgrid[: -(-height // stride) : step, : -(-width // stride) : step] * stride
        centres = np.stack([y, x], axis=-1).reshape(-1, 1, 2)
        halves = np.stack([side / np.sqrt(ratios), side * np.sqrt(ratios)], axis=1) / 2
        levels.append(np.concatenate([centres - halves, centres + halves], axis=2).reshape(-1, 4))
    found = normalised(np.concatenate(levels), height, width)
    found.flags.writeable = False
    return found


def normalised(boxes: NDArray[np.floating], height: int, width: int) -> Array:
    """From pixels to 0 … 1, such that the last pixel's number, not the size, is 1."""
    scale = np.array([height - 1, width - 1, height - 1, width - 1], float)
    share: NDArray[np.float64] = (boxes - np.array([0.0, 0, 1, 1])) / scale
    return share.astype(np.float32)


def shifted(boxes: Array, deltas: Array) -> Array:
    """Move and scale boxes, shape (N, 4), by dy, dx, log dh, log dw in units of their own height and width.

    Raises
    ------
    FloatingPointError
        If a box becomes infinite, as only broken weights make it.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + np.float32(0.5) * sides + deltas[:, :2] * sides
    with np.errstate(over="raise"):
        sides = sides * np.exp(deltas[:, 2:])
    corners = centres - np.float32(0.5) * sides
    return np.concatenate([corners, corners + sides], axis=1)


def non_maximum_suppression(boxes: Array, scores: Array, max_iou: float, most: int) -> NDArray[np.intp]:
    """TensorFlow's greedy suppression, to the bit.

    A box goes if its IoU, in float32, with a better one that is kept is above `max_iou`; of equal scores the lower
    index is the better one. Boxes without an area overlap nothing.

    Parameters
    ----------
    boxes, scores
        Shapes (N, 4) and (N,). Corners may come in any order.

    Returns
    -------
    ndarray
        Indices of at most `most` boxes, best first.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    ordered = ordered[order]
    limit = np.float32(max_iou)
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        block = ordered[start : start + _BLOCK]
        alive: NDArray[np.bool_] = np.all(_iou(block, ordered[kept]) <= limit, axis=1)
        overlaps = _iou(block, block) > limit
        for i in range(len(block)):
            if alive[i]:
                alive[i + 1 :] &= ~overlaps[i, i + 1 :]
        kept = np.concatenate([kept, start + np.flatnonzero(alive)])
        if len(kept) >= most:
            break
    return order[kept[:most]]


def _iou(a: Array, b: Array) -> Array:
    """IoU of each of `a` with each of `b`, shape (len(a), len(b)), in TensorFlow's order of operations."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, np.float32(0))
    shared = sides[:, :, 0] * sides[:, :, 1]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    some = (area_a[:, None] > 0) & (area_b[None] > 0)
    union = area_a[:, None] + area_b[None] - shared
    iou: Array = np.divide(shared, union, out=np.zeros_like(shared), where=some)
    return iou
