"""Hands by MediaPipe's two models on onnxruntime: palms are found first, then each hand's 21 landmarks.

Zhang et al., MediaPipe Hands: On-device Real-time Hand Tracking, 2020 (arXiv:2006.10214). Anchors, regions and
thresholds follow MediaPipe 0.10's graphs ``palm_detection`` and ``hand_landmark`` (Apache-2.0, see NOTICE); MediaPipe
itself is not needed.
"""

from __future__ import annotations

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
_KNUCKLES = [5, 9, 9, 13]  # landmarks of index, middle (counts twice) and ring finger: with the wrist, the direction
_SECOND_REACH = 1.6  # side of the region of the second look, in hands
_SAME_HAND = 0.5  # hands that overlap more (IoU) are one


@dataclass(frozen=True)
class _Palm:
    """A palm in pixels of the image: centre and keypoints (x, y), and the sides of its box."""

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
        Least score, 0…1. A hand's score is the lesser of two: the palm's, and that of being a hand once it is looked
        at closely.
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
        palms = [palms[k] for k in kept]
        hands = [self._hand(image, palm) for palm in palms]
        found = geometry.clip([box for box, _ in hands], width, height)
        scores = np.array([min(palm.score, score) for palm, (_, score) in zip(palms, hands, strict=True)], np.float32)
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

    def _hand(self, image: RGB, palm: _Palm) -> tuple[Floats, float]:
        """Look at a palm closely: the hand's box, shape (4,), in pixels of the image, and its score of being a hand."""
        points, presence = self._landmarks(image, _around_palm(palm))
        if presence >= self.confidence:
            # A palm tells only roughly how large its hand is. A second look, at the landmarks' own region, as MediaPipe
            # has it from one frame of a video to the next, makes the box tighter and steadier.
            points, presence = self._landmarks(image, _around_landmarks(points))
        low, high = points.min(axis=0), points.max(axis=0)
        margin = self.margin * (high - low).max()
        return np.concatenate([low - margin, high + margin]), presence

    def _landmarks(self, image: RGB, to_image: Floats) -> tuple[Floats, float]:
        """Landmarks, shape (21, 2), in pixels of the image, of the hand in a region, and its score of being a hand."""
        crop = cv2.warpAffine(image, to_image, (_HAND_SIDE, _HAND_SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        landmarks, presence = self._hand_session.run(
            ["landmarks", "presence"], {"input": crop[None].astype(np.float32) / 255}
        )
        return landmarks.reshape(21, 3)[:, :2] @ to_image[:, :2].T + to_image[:, 2], float(presence.item())


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
    square[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
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


def _around_palm(palm: _Palm) -> Floats:
    """Region of the hand that a palm belongs to, further towards the fingers: see `_region`."""
    up = palm.keypoints[_MIDDLE] - palm.keypoints[_WRIST]
    centre = palm.centre + _SHIFT * palm.height * up / max(float(np.hypot(*up)), 1e-6)
    return _region(centre, _REACH * max(palm.width, palm.height), up)


def _around_landmarks(points: Floats) -> Floats:
    """Region of a hand, from its landmarks, shape (21, 2): see `_region`."""
    up = points[_KNUCKLES].mean(axis=0) - points[0]
    turned = points @ _axes(up)
    low, high = turned.min(axis=0), turned.max(axis=0)
    return _region(_axes(up) @ (low + high) / 2, _SECOND_REACH * float((high - low).max()), up)


def _region(centre: Floats, side: float, up: Floats) -> Floats:
    """Affine map, shape (2, 3), from pixels of the landmark network's input to a square of the image.

    Parameters
    ----------
    centre, side
        The square's, in pixels of the image.
    up
        Direction in the image that points upwards in the network's input, shape (2,).
    """
    turn = side / _HAND_SIDE * _axes(up)
    return np.column_stack([turn, centre - turn @ np.full(2, _HAND_SIDE / 2)])


def _axes(up: Floats) -> Floats:
    """Rotation, shape (2, 2), whose columns are where x and y of an input point in the image, if up is `up` there."""
    x, y = up / max(float(np.hypot(*up)), 1e-6)
    return np.array([[-y, -x], [x, -y]])


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
