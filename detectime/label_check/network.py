"""The network that tells 45 gestures apart, on onnxruntime: 0.4 MB.

Network and weights come from ``dynamic_gestures`` (Apache-2.0), whose authors made HaGRIDv2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.images import RGB, UnreadableImageError
from detectime.storage.downloads import WeightsFile

WEIGHTS = WeightsFile(
    "crops_classifier.onnx",
    "github.com/ai-forever/dynamic_gestures, commit f073b254 (Apache-2.0)",
    "https://raw.githubusercontent.com/ai-forever/dynamic_gestures/"
    "f073b2541ad53863ea2935498342cec0d3e1ce73/models/crops_classifier.onnx",
    "12a02344f63a7c4f2a2ca90f8740ca10a08c17b683b5585d73c3e88323056762",
)
"""The weights, downloaded on first use."""

GESTURES = (
    *("hand_down", "hand_right", "hand_left", "thumb_index", "thumb_left", "thumb_right", "thumb_down"),
    *("half_up", "half_left", "half_right", "half_down", "part_hand_heart", "part_hand_heart2", "fist_inverted"),
    *("two_left", "two_right", "two_down", "grabbing", "grip", "point", "call", "three3", "little_finger"),
    *("middle_finger", "dislike", "fist", "four", "like", "mute", "ok", "one", "palm", "peace", "peace_inverted"),
    *("rock", "stop", "stop_inverted", "three", "three2", "two_up", "two_up_inverted", "three_gun"),
    *("one_left", "one_right", "one_down"),
)
"""The classes of the network, in the order of its output; most have HaGRID's names."""

_SIDE, _MEAN, _SCALE = 128, 127.0, 128.0  # of the network's input
# The scores change with the margin. At one contradicted right label of 195, two looks miss 30 of 975 wrong ones, the
# first alone 66.
_LOOKS = ((1.0, 1), (1.1, -1))
"""Side of each square crop in units of the box's longer side; and whether it is mirrored."""


def classify_hand(session: Any, image: RGB, box: Floats) -> NDArray[np.float32]:
    """Return the score of each of `GESTURES` for a hand.

    Parameters
    ----------
    session
        Of the weights, from `onnx.open_session`.
    image
        RGB, uint8, shape (height, width, 3).
    box
        x1, y1, x2, y2 in pixels of the image, shape (4,).

    Returns
    -------
    ndarray
        Logits, float32, shape (45,), rounded to hundredths.

    Raises
    ------
    UnreadableImageError
        If the box lies outside the image.

    Examples
    --------
    >>> session = onnx.open_session(downloads.find_or_fetch_weights(WEIGHTS))  # doctest: +SKIP
    >>> scores = classify_hand(session, np.zeros((480, 640, 3), np.uint8), np.array([9, 9, 99, 99]))  # doctest: +SKIP
    """
    crops = [_cut_square(image, box, side)[:, ::step] for side, step in _LOOKS]
    (logits,) = onnx.run_session(session, ["labels"], crops, _make_input)
    scores: NDArray[np.float32] = np.round(logits.mean(axis=0), 2)
    return scores


def _cut_square(image: RGB, box: Floats, side: float) -> RGB:
    """Return the square around a box, clipped to the image and stretched, as in training, to the network's input."""
    crop = onnx.crop_region(image, geometry.make_context_squares(box, side / 2))
    if crop is None:
        raise UnreadableImageError("the hand is outside the frame")
    return np.asarray(cv2.resize(crop[0], (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR))


def _make_input(crops: Sequence[RGB]) -> NDArray[np.float32]:
    planes = onnx.stack_planes(crops)
    planes -= _MEAN
    planes /= _SCALE
    return planes
