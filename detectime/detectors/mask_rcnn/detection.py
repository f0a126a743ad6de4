"""From the heads' answers to boxes in an image's pixels.

NumPy, in the original's precisions and order of operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.config import Settings
from detectime.detectors.mask_rcnn.images import Molded, Window, resize
from detectime.detectors.mask_rcnn.proposals import Array, non_maximum_suppression, normalised, shifted


@dataclass(frozen=True)
class Found:
    """Detections in an image, best first.

    `boxes` are y1, x1, y2, x2 in pixels, y2 and x2 exclusive, int32, shape (N, 4); `classes` int32 and `scores`
    float32, shape (N,); `masks` bool, shape (height, width, N), or None where they were not asked for.
    """

    boxes: NDArray[np.int32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    masks: NDArray[np.bool_] | None = None


def choose(
    proposals: Array, probabilities: Array, deltas: Array, window: Window, canvas: tuple[int, int], settings: Settings
) -> Array:
    """Choose among the classified proposals of one image.

    Parameters
    ----------
    proposals, probabilities, deltas
        Shapes (N, 4), (N, classes), (N, classes, 4).
    window
        Part of the canvas that the image fills: boxes are cut there.
    canvas
        Height and width in pixels.

    Returns
    -------
    ndarray
        Rows y1, x1, y2, x2 (normalised), class, score, best first, float32, shape (M, 6), M at most
        `settings.detections`.
    """
    rows = np.arange(len(proposals))
    classes = probabilities.argmax(axis=1)
    scores = probabilities[rows, classes]
    boxes = shifted(proposals, deltas[rows, classes] * np.array(settings.deviation, np.float32))
    low, high = np.split(_normalised_window(window, canvas), 2)
    boxes = np.clip(boxes, np.tile(low, 2), np.tile(high, 2))
    # A confidence of 0 keeps all; the comparison is float32's.
    sure = np.flatnonzero((classes > 0) & (scores >= np.float32(settings.confidence)))
    kept = np.concatenate(
        [np.empty(0, np.intp)]
        + [
            of_class[non_maximum_suppression(boxes[of_class], scores[of_class], settings.nms, settings.detections)]
            for of_class in (sure[classes[sure] == label] for label in np.unique(classes[sure]))
        ]
    )
    kept = np.sort(kept)
    best = kept[np.argsort(-scores[kept], kind="stable")[: settings.detections]]
    return np.column_stack([boxes[best], classes[best], scores[best]]).astype(np.float32)


def _normalised_window(window: Window, canvas: tuple[int, int]) -> Array:
    """Normalise a window, all in float32."""
    scale = np.array([*canvas, *canvas], np.float32) - np.float32(1)
    return (np.array(window, np.float32) - np.array([0, 0, 1, 1], np.float32)) / scale


def unmold(rows: Array, molded: Molded) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Bring boxes back to the pixels of the image.

    Parameters
    ----------
    rows
        What `choose` returns.
    molded
        The canvas that they were found on.

    Returns
    -------
    tuple
        y1, x1, y2, x2, int32, shape (K, 4), and the K rows that have an area.
    """
    canvas = molded.pixels.shape[:2]
    frame = normalised(np.array(molded.frame, float), *canvas)
    shift, sides = np.tile(frame[:2], 2), np.tile(frame[2:] - frame[:2], 2)
    height, width = molded.shape
    scale = np.array([height - 1, width - 1, height - 1, width - 1])
    relative = (rows[:, :4] - shift) / sides
    # In float64, and half to even.
    boxes = np.around(relative * scale + np.array([0, 0, 1, 1])).astype(np.int32)
    kept = np.flatnonzero((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) > 0)
    return boxes[kept], kept


def paste(masks: Array, boxes: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Put small masks, shape (N, 28, 28), into their boxes in an image of `shape`: bool, shape (height, width, N)."""
    full = np.zeros((*shape, len(masks)), bool)
    for n, (mask, (y1, x1, y2, x2)) in enumerate(zip(masks, boxes.tolist(), strict=True)):
        full[y1:y2, x1:x2, n] = resize(mask, y2 - y1, x2 - x1) >= 0.5
    return full
