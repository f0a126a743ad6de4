"""Keeps an import path of the notebook of 2021; the real home of the geometry is `detectime.boxes`."""

from __future__ import annotations

from collections.abc import Sequence

from detectime import boxes
from detectime.images import RGB


def result_crop(img: RGB, face: Sequence[float], crop_coefficient: float = 1.5) -> tuple[int, int, int, int]:
    """Square around a box, clipped to the frame.

    In 2021 a square that left the frame at the top or left was shifted, and at the right or bottom it was not clipped.

    Parameters
    ----------
    img
        The frame, shape (H, W, 3).
    face
        The box of a face or a hand: x, y of its top left corner, width, height, in pixels.
    crop_coefficient
        Half side of the square, in units of the box's longer side.

    Returns
    -------
    tuple
        x1, y1, x2, y2 in pixels: floor of the first two, ceil of the others.
    """
    height, width = img.shape[:2]
    x, y, w, h = (float(value) for value in face)
    square = boxes.make_context_squares([x, y, x + w, y + h], crop_coefficient)
    x1, y1, x2, y2 = boxes.round_outward(boxes.clip_boxes(square, width, height)).tolist()
    return x1, y1, x2, y2
