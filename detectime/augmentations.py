"""Import path of the 2021 notebook; the geometry is in `detectime.boxes`.

Importing this module installs the patch of `detectime.detectors.face_detection_patch`.
"""

from __future__ import annotations

from collections.abc import Sequence

from detectime import boxes
from detectime.detectors import face_detection_patch
from detectime.images import RGB

face_detection_patch.install_patch()


def result_crop(img: RGB, face: Sequence[float], crop_coefficient: float = 1.5) -> tuple[int, int, int, int]:
    """Return the context square of a box, clipped to the frame.

    The function of 2021 shifted a square that crossed the top or left border, and did not clip at the right and bottom.

    Parameters
    ----------
    img
        The frame, shape (H, W, 3).
    face
        Box of a face or a hand: x, y of the top left corner, width, height, in pixels.
    crop_coefficient
        Half side of the square, in units of the box's longer side.

    Returns
    -------
    tuple of int
        x1, y1, x2, y2 in pixels: floor of x1 and y1, ceil of x2 and y2.

    Examples
    --------
    >>> import numpy as np
    >>> result_crop(np.zeros((480, 640, 3), np.uint8), [300, 200, 40, 60])
    (230, 140, 410, 320)
    """
    height, width = img.shape[:2]
    x, y, w, h = (float(value) for value in face)
    square = boxes.make_context_squares([x, y, x + w, y + h], crop_coefficient)
    x1, y1, x2, y2 = boxes.round_outward(boxes.clip_boxes(square, width, height)).tolist()
    return x1, y1, x2, y2
