"""Crops as a classifier sees them: fitted into a square."""

from __future__ import annotations

import cv2
import numpy as np

from detectime.images import RGB, shrink_image

_GREY = 127  # of what surrounds a crop that is no square


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
        If the image has no pixels.

    Examples
    --------
    >>> square = fit_square(np.zeros((48, 64, 3), np.uint8), 32)
    >>> square.shape, square[:, 0, 0].tolist() == [127] * 4 + [0] * 24 + [127] * 4
    ((32, 32, 3), True)
    """
    height, width = image.shape[:2]
    if not image.size:
        raise ValueError(f"pixels of shape {image.shape}: there is nothing to fit into a square")
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
