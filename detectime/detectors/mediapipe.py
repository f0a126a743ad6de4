"""Hands by MediaPipe's two models on onnxruntime: palms are found first, then each hand's 21 landmarks.

Zhang et al., MediaPipe Hands: On-device Real-time Hand Tracking, 2020 (arXiv:2006.10214). Anchors, regions and
thresholds follow MediaPipe 0.10's graphs ``palm_detection`` and ``hand_landmark`` (Apache-2.0, see NOTICE); MediaPipe
itself is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime import detectors, weights
from detectime.boxes import Floats
from detectime.config import Detection
from detectime.detectors import Detections
from detectime.images import RGB

_PALM_SIDE = 192  # pixels of the palm network's square input
_HAND_SIDE = 224  # pixels of the landmark network's
_GRIDS = ((24, 2), (12, 6))  # cells a side, anchors a cell
_PALM_NMS = 0.3  # palms that overlap more (IoU) are averaged into one
_MOST_PALMS = 4  # in one region: two people's hands
_WRIST, _MIDDLE = 0, 2  # of the palm's seven keypoints: they tell which way the hand points
_REACH = 2.6  # side of the landmark network's region, in palms
_SHIFT = 0.5  # how far that region's centre lies towards the fingers, in palms
_SAME_HAND = 0.5  # hands that overlap more (IoU) are one


@dataclass(frozen=True)
class _Palm:
    """A palm in pixels of the image: centre and keypoints (x, y), and the longer side of its box."""

    centre: Floats
    keypoints: Floats
    width: float
    height: float
    score: float

    @property
    def box(self) -> Floats:
        half = np.array([self.width, self.height]) / 2
        return np.concatenate([self.centre - half, self.centre + half])


class MediaPipeHands:
    """Hand detector.

    Parameters
    ----------
    confidence
        Least score of a palm, and of its being a hand once it is looked at closely; 0…1.
    margin
        A hand's box is the box of its landmarks, grown by this share of its longer side on each side.
    """

    def __init__(self, confidence: float, margin: float) -> None:
        self.confidence = confidence
        self.margin = margin
        self._palm_session = detectors.session(weights.packaged("palm_detection.onnx"))
        self._hand_session = detectors.session(weights.packaged("hand_landmark.onnx"))

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Find hands in each image, best first, in the image's pixels and inside it.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each.
        regions
            For each image the boxes in which palms are searched, shape (N, 4); None: the whole image. A hand may reach
            out of its region.
        """
        places = [None] * len(images) if regions is None else regions
        return [self._detect(image, place) for image, place in zip(images, places, strict=True)]

    def _detect(self, image: RGB, regions: Floats | None) -> Detections:
        height, width = image.shape[:2]
        if regions is None:
            regions = np.array([[0, 0, width, height]], float)
        palms = [palm for region in regions for palm in self._palms(image, region)]
        if not palms:
            return Detections.none()
        kept = geometry.non_maximum_suppression([p.box for p in palms], [p.score for p in palms], _SAME_HAND)
        found, scores = self._hands(image, [palms[k] for k in kept])
        found = geometry.clip(found, width, height)
        sure = np.flatnonzero((scores >= self.confidence) & (geometry.area(found) > 0))
        kept = geometry.non_maximum_suppression(found[sure], scores[sure], _SAME_HAND)
        return Detections(geometry.as_boxes(found[sure][kept]), scores[sure][kept])

    def _palms(self, image: RGB, region: Floats) -> list[_Palm]:
        """Palms in one region of an image, best first."""
        height, width = image.shape[:2]
        x1, y1, x2, y2 = geometry.to_integers(geometry.clip(region, width, height))
        if x2 <= x1 or y2 <= y1:
            return []
        square, scale, left, top = _letterbox(image[y1:y2, x1:x2])
        offsets, logits = self._palm_session.run(None, {"input": square[None].astype(np.float32) / 255})
        scores = _sigmoid(logits[0, :, 0])
        sure = np.flatnonzero(scores >= self.confidence)
        # x, y, width, height, then seven keypoints' x, y; all but the sides are offsets to the anchor
        values = offsets[0, sure].reshape(-1, 9, 2) / _PALM_SIDE
        values[:, [0, 2, 3, 4, 5, 6, 7, 8]] += _ANCHORS[sure, None]
        palms = []
        for group in _same(values, scores[sure]):
            share = scores[sure[group]] / scores[sure[group]].sum()
            mean = (values[group] * share[:, None, None]).sum(axis=0) * _PALM_SIDE
            points = (np.delete(mean, 1, axis=0) - (left, top)) / scale + (x1, y1)
            palm_width, palm_height = mean[1] / scale
            palms.append(
                _Palm(points[0], points[1:], float(palm_width), float(palm_height), float(scores[sure[group[0]]]))
            )
        return palms[:_MOST_PALMS]

    def _hands(self, image: RGB, palms: list[_Palm]) -> tuple[Floats, NDArray[np.float32]]:
        """Look at each palm closely: boxes (N, 4) in pixels of the image, and scores (N,) of being a hand."""
        maps = [_to_image(palm) for palm in palms]
        crops = [
            cv2.warpAffine(image, m, (_HAND_SIDE, _HAND_SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            for m in maps
        ]
        # One by one: a hand's landmarks must not depend on how many others there are.
        outputs = [self._hand_session.run(None, {"input": crop[None].astype(np.float32) / 255})[:2] for crop in crops]
        found = np.empty((len(palms), 4))
        for k, ((landmarks, _), to_image) in enumerate(zip(outputs, maps, strict=True)):
            points = landmarks.reshape(21, 3)[:, :2] @ to_image[:, :2].T + to_image[:, 2]
            low, high = points.min(axis=0), points.max(axis=0)
            margin = self.margin * (high - low).max()
            found[k] = [*(low - margin), *(high + margin)]
        return found, np.array([presence.item() for _, presence in outputs], np.float32)


def build(config: Detection) -> MediaPipeHands:
    """Build the detector that the configuration describes."""
    return MediaPipeHands(config.hand_confidence, config.landmark_margin)


def _make_anchors() -> NDArray[np.float32]:
    """Anchor centres x, y in 0…1, shape (2016, 2), in the palm network's order."""
    levels = []
    for cells, repeats in _GRIDS:
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / cells
        levels.append(np.repeat(centres, repeats, axis=0))
    return np.concatenate(levels).astype(np.float32)


_ANCHORS = _make_anchors()


def _letterbox(image: RGB) -> tuple[RGB, float, int, int]:
    """Fit an image into the palm network's square, black beside it: pixels, scale, and its left and top in them."""
    height, width = image.shape[:2]
    scale = _PALM_SIDE / max(height, width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (_PALM_SIDE - inner[0]) // 2, (_PALM_SIDE - inner[1]) // 2
    square = np.zeros((_PALM_SIDE, _PALM_SIDE, 3), np.uint8)
    square[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    return square, scale, left, top


def _same(values: Floats, scores: Floats) -> list[NDArray[np.intp]]:
    """Group detections of one palm: indices of each group, best first; the best of a group leads it."""
    centres, sides = values[:, 0], values[:, 1]
    found = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    order = np.argsort(-scores, kind="stable")
    groups = []
    while len(order):
        same = geometry.iou(found[order[0]], found[order]) > _PALM_NMS
        same[0] = True
        groups.append(order[same])
        order = order[~same]
    return groups


def _to_image(palm: _Palm) -> Floats:
    """Affine map, shape (2, 3), from pixels of the landmark network's input to pixels of the image.

    The region stands upright along the line from the wrist to the middle finger, and lies towards the fingers.
    """
    across, along = palm.keypoints[_MIDDLE] - palm.keypoints[_WRIST]
    angle = math.pi / 2 - math.atan2(-along, across)
    cos, sin = math.cos(angle), math.sin(angle)
    centre = palm.centre + _SHIFT * palm.height * np.array([sin, -cos])
    scale = _REACH * max(palm.width, palm.height) / _HAND_SIDE
    turn = scale * np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([turn, centre - turn @ (np.full(2, _HAND_SIDE / 2))])


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
