"""From the outputs of the heads to boxes and masks in pixels of the image.

NumPy, in the precision and the order of operations of the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.config import NetworkSettings
from detectime.detectors.mask_rcnn.images import Canvas, Window, resize_bilinear
from detectime.detectors.mask_rcnn.proposals import Array, apply_deltas, normalise_boxes, suppress_non_maximum


@dataclass(frozen=True)
class Instances:
    """Detected objects of one image, highest score first.

    Attributes
    ----------
    boxes
        int32, shape (N, 4): y1, x1, y2, x2 in pixels, y2 and x2 exclusive.
    classes, scores
        int32 and float32, shape (N,).
    masks
        bool, shape (height, width, N); None if they were not requested.

    Examples
    --------
    >>> found = Instances(np.array([[0, 0, 9, 9]], np.int32), np.array([1], np.int32), np.array([0.9], np.float32))
    >>> found.masks is None
    True
    """

    boxes: NDArray[np.int32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    masks: NDArray[np.bool_] | None = None


def select_detections(
    proposals: Array,
    probabilities: Array,
    deltas: Array,
    window: Window,
    canvas_shape: tuple[int, int],
    settings: NetworkSettings,
) -> Array:
    """Refine the classified proposals of one canvas and select its detections.

    Parameters
    ----------
    proposals, probabilities, deltas
        Shapes (N, 4), (N, classes), (N, classes, 4).
    window
        Part of the canvas that the image covers; boxes are clipped to it.
    canvas_shape
        Height and width in pixels.
    settings
        Settings of the network.

    Returns
    -------
    ndarray
        Rows of y1, x1, y2, x2 (normalised), class and score, highest score first, float32, shape (M, 6), with M at
        most `settings.detections`.

    Examples
    --------
    >>> proposals = np.array([[0, 0, 0.5, 0.5], [0, 0, 1, 1]], np.float32)
    >>> probabilities = np.array([[0.01, 0.99], [0.6, 0.4]], np.float32)
    >>> deltas = np.zeros((2, 2, 4), np.float32)
    >>> select_detections(proposals, probabilities, deltas, (0, 0, 64, 64), (64, 64), NetworkSettings()).round(2)
    array([[0.  , 0.  , 0.5 , 0.5 , 1.  , 0.99]], dtype=float32)
    """
    rows = np.arange(len(proposals))
    classes = probabilities.argmax(axis=1)
    scores = probabilities[rows, classes]
    boxes = apply_deltas(proposals, deltas[rows, classes] * np.array(settings.deviation, np.float32))
    low, high = np.split(_normalise_window(window, canvas_shape), 2)
    boxes = np.clip(boxes, np.tile(low, 2), np.tile(high, 2))
    # A confidence of 0 keeps everything; the comparison is in float32.
    candidates = np.flatnonzero((classes > 0) & (scores >= np.float32(settings.confidence)))
    kept = [np.empty(0, np.intp)]
    for label in np.unique(classes[candidates]):
        same = candidates[classes[candidates] == label]
        kept.append(same[suppress_non_maximum(boxes[same], scores[same], settings.nms, settings.detections)])
    indices = np.sort(np.concatenate(kept))
    best = indices[np.argsort(-scores[indices], kind="stable")[: settings.detections]]
    return np.column_stack([boxes[best], classes[best], scores[best]]).astype(np.float32)


def _normalise_window(window: Window, canvas_shape: tuple[int, int]) -> Array:
    """Normalise a window, entirely in float32."""
    scale = np.array([*canvas_shape, *canvas_shape], np.float32) - np.float32(1)
    return (np.array(window, np.float32) - np.array([0, 0, 1, 1], np.float32)) / scale


def unmold_boxes(rows: Array, canvas: Canvas) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Convert normalised boxes on a canvas to pixels of the image.

    Parameters
    ----------
    rows
        Result of `select_detections`.
    canvas
        The canvas of the detections.

    Returns
    -------
    tuple
        Boxes y1, x1, y2, x2, int32, shape (K, 4), and the indices of their rows: those with a positive area.

    Examples
    --------
    >>> canvas = Canvas(np.zeros((64, 64, 3), np.uint8), (0, 0, 64, 64), (0, 0, 64, 64), (128, 128))
    >>> unmold_boxes(np.array([[0, 0, 0.5, 0.5, 1, 0.99]], np.float32), canvas)[0]
    array([[ 0,  0, 64, 64]], dtype=int32)
    """
    image_box = normalise_boxes(np.array(canvas.image_box, float), *canvas.pixels.shape[:2])
    shift, sides = np.tile(image_box[:2], 2), np.tile(image_box[2:] - image_box[:2], 2)
    height, width = canvas.image_shape
    scale = np.array([height - 1, width - 1, height - 1, width - 1])
    relative = (rows[:, :4] - shift) / sides
    # In float64; halves round to even.
    boxes = np.around(relative * scale + np.array([0, 0, 1, 1])).astype(np.int32)
    kept = np.flatnonzero((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) > 0)
    return boxes[kept], kept


def paste_masks(masks: Array, boxes: NDArray[np.int32], image_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize masks, shape (N, 28, 28), to their boxes and paste them into the image: bool, shape (height, width, N).

    Examples
    --------
    >>> paste_masks(np.ones((1, 28, 28), np.float32), np.array([[1, 1, 3, 4]], np.int32), (4, 5))[:, :, 0].astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    pasted = np.zeros((*image_shape, len(masks)), bool)
    for n, (mask, (y1, x1, y2, x2)) in enumerate(zip(masks, boxes.tolist(), strict=True)):
        pasted[y1:y2, x1:x2, n] = resize_bilinear(mask, y2 - y1, x2 - x1) >= 0.5
    return pasted
