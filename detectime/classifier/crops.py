"""Crops as a classifier sees them: the square around a hand, within the frame, fitted into a square of pixels."""

from __future__ import annotations

import cv2
import numpy as np

from detectime import boxes
from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.images import RGB, shrink_image

_GREY = 127  # of what surrounds a crop that is no square


def cut_hand(pixels: RGB, hand: Floats, side: int) -> RGB | None:
    """Cut a hand out of a frame as a classifier sees it, in training and in use.

    It is the context square of the hand, and not the `bbox` of ``hands.json``: that is larger for `enlarged_classes`,
    so that its extent tells the class, and nobody could cut it where the class is not known.

    Parameters
    ----------
    pixels
        The upright frame: RGB, uint8, shape (height, width, 3).
    hand
        x1, y1, x2, y2 in pixels of the frame, shape (4,).
    side
        Of the square in pixels.

    Returns
    -------
    ndarray or None
        uint8, shape (side, side, 3); None if the hand lies outside the frame.

    Examples
    --------
    >>> cut_hand(np.zeros((48, 64, 3), np.uint8), np.array([10.0, 10.0, 20.0, 30.0]), 32).shape
    (32, 32, 3)
    """
    cut = onnx.crop_region(pixels, boxes.make_context_squares(hand, boxes.HAND_CONTEXT))
    return None if cut is None else fit_square(cut[0], side)


def fit_square(image: RGB, side: int) -> RGB:
    """Fit an image into a square: scaled, its proportions kept, and centred on grey.

    Training and recognition both call this; what follows lies in the graph of the model.

    Parameters
    ----------
    image
        uint8, shape (height, width, 3), red first.
    side
        Of the square in pixels.

    Returns
    -------
    ndarray
        uint8, shape (side, side, 3).

    Raises
    ------
    ValueError
        If the image is no such array, or has no pixels.

    Examples
    --------
    >>> square = fit_square(np.zeros((48, 64, 3), np.uint8), 32)
    >>> square.shape, square[:, 0, 0].tolist() == [127] * 4 + [0] * 24 + [127] * 4
    ((32, 32, 3), True)
    """
    if image.dtype != np.uint8 or image.shape[2:] != (3,) or not image.size:
        raise ValueError(
            f"an image of {image.dtype}, shape {image.shape}; expected uint8 from 0 to 255, shape (height, width, 3), "
            "red first, with pixels"
        )
    height, width = image.shape[:2]
    if max(height, width) < side:
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        fitted = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    else:
        fitted = shrink_image(image, side)
    square = np.full((side, side, 3), _GREY, np.uint8)
    top, left = (side - fitted.shape[0]) // 2, (side - fitted.shape[1]) // 2
    square[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return square
