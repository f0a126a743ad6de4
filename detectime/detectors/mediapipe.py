"""Hands by MediaPipe's two models on onnxruntime: palms are found first, then each hand's 21 landmarks.

Zhang et al., MediaPipe Hands: On-device Real-time Hand Tracking, 2020 (arXiv:2006.10214). Anchors, regions and
thresholds follow MediaPipe 0.10's graphs ``palm_detection`` and ``hand_landmark`` (Apache-2.0, see NOTICE); MediaPipe
itself is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.detectors.contract import Detections, DetectorSpec, list_packaged_weights
from detectime.images import RGB
from detectime.schema import LANDMARKS
from detectime.settings import CHECKED, Share
from detectime.storage import downloads

_PALM_WEIGHTS, _HAND_WEIGHTS = "palm_detection.onnx", "hand_landmark.onnx"
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
_SEEN_WELL = 0.05  # a second look is not worth its time where its region would lie this close, in its sides
_SAME_HAND = 0.5  # hands that overlap more (IoU) are one
_DEPTH = 0.4  # what MediaPipe's graph divides z by, "to account for the Z coordinate distribution in the training data"


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


@dataclass(frozen=True)
class _Hand:
    """What the landmark network says of a region: see `Detections` for `presence` and `handedness`.

    `points` (21, 2) are the landmarks in pixels of the image, `depth` (21,) their z in the same unit.
    """

    points: Floats
    depth: Floats
    presence: float
    handedness: float

    def box(self, margin: float) -> Floats:
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        grown = margin * (high - low).max()
        return np.concatenate([low - grown, high + grown])


@checked_dataclass(frozen=True, config=CHECKED)
class MediaPipeSettings:
    """Keys of this detector."""

    hand_confidence: Share = 0.5
    landmark_margin: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1


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

    def __init__(self, confidence: float, margin: float, device: str = "cpu") -> None:
        self.confidence = confidence
        self.margin = margin
        self._palm_session = onnx.open_session(downloads.find_packaged_weights(_PALM_WEIGHTS), device)
        self._hand_session = onnx.open_session(downloads.find_packaged_weights(_HAND_WEIGHTS), device)

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
        if regions is None:
            regions = [np.array([[0, 0, image.shape[1], image.shape[0]]], float) for image in images]
        palms = self._palms(images, regions)
        hands = self._hands([(image, palm) for image, found in zip(images, palms, strict=True) for palm in found])
        return [
            self._choose(image, found, [next(hands) for _ in found]) for image, found in zip(images, palms, strict=True)
        ]

    def _choose(self, image: RGB, palms: Sequence[_Palm], hands: Sequence[_Hand]) -> Detections:
        """Hands of an image that are sure, each once."""
        if not palms:
            return Detections.none()
        height, width = image.shape[:2]
        scores = np.array([min(p.score, h.presence) for p, h in zip(palms, hands, strict=True)], np.float32)
        found = geometry.clip_boxes([hand.box(self.margin) for hand in hands], width, height)
        sure = np.flatnonzero((scores >= self.confidence) & (geometry.compute_area(found) > 0))
        kept = sure[geometry.suppress_non_maximum(found[sure], scores[sure], _SAME_HAND)]
        chosen = [(palms[k], hands[k]) for k in kept.tolist()]
        points = [np.column_stack([hand.points, hand.depth - hand.depth[0]]) for _, hand in chosen]
        return Detections(
            geometry.as_boxes(found[kept]),
            scores[kept],
            landmarks=np.asarray(points, np.float32).reshape(-1, LANDMARKS, 3),
            presence=np.array([hand.presence for _, hand in chosen], np.float32),
            handedness=np.array([hand.handedness for _, hand in chosen], np.float32),
            proposals=np.array([[*palm.box, palm.score] for palm, _ in chosen], np.float32).reshape(-1, 5),
        )

    def _palms(self, images: Sequence[RGB], regions: Sequence[Floats]) -> list[list[_Palm]]:
        """Palms of each image, best first, each once."""
        squares, places = [], []
        for n, (image, own) in enumerate(zip(images, regions, strict=True)):
            for cut in (onnx.crop_region(image, region) for region in own):
                if cut is not None:
                    square, scale, inner = _letterbox(cut[0])
                    squares.append(square)
                    places.append((n, scale, cut[1] - inner / scale))
        found: list[list[_Palm]] = [[] for _ in images]
        if not squares:
            return found
        offsets, logits = onnx.run_session(self._palm_session, ("boxes", "scores"), squares, _as_input)
        for (n, scale, corner), own, score in zip(places, offsets, _sigmoid(logits[:, :, 0]), strict=True):
            found[n] += self._decode(own, score, scale, corner)[:_MOST_PALMS]
        for n, palms in enumerate(found):
            kept = geometry.suppress_non_maximum([p.box for p in palms], [p.score for p in palms], _SAME_HAND)
            found[n] = [palms[k] for k in kept]
        return found

    def _decode(self, offsets: Floats, scores: Floats, scale: float, corner: Floats) -> list[_Palm]:
        """Palms of one square, best first, in pixels of the image: `scale`, and where in it the square begins."""
        sure = np.flatnonzero(scores >= self.confidence)
        # x, y, width, height, then seven keypoints' x, y; all but the sides are offsets to the anchor
        values = offsets[sure].reshape(-1, 9, 2) / _PALM_SIDE
        values[:, [0, 2, 3, 4, 5, 6, 7, 8]] += _ANCHORS[sure, None]
        palms = []
        for group in _same(values, scores[sure]):
            share = scores[sure[group]] / scores[sure[group]].sum()
            mean = (values[group] * share[:, None, None]).sum(axis=0) * _PALM_SIDE
            points = np.delete(mean, 1, axis=0) / scale + corner
            width, height = mean[1] / scale
            palms.append(_Palm(points[0], points[1:], float(width), float(height), float(scores[sure[group[0]]])))
        return palms

    def _hands(self, palms: Sequence[tuple[RGB, _Palm]]) -> Iterator[_Hand]:
        """Look closely at palms, each in its image."""
        regions = [_around_palm(palm) for _, palm in palms]
        hands = self._landmarks([(image, region) for (image, _), region in zip(palms, regions, strict=True)])
        # A palm tells only roughly where its hand is. Where the landmarks' own region is another one, a second look at
        # that, as MediaPipe has it from one frame of a video to the next, makes the box tighter and steadier.
        again = [
            n
            for n, (hand, region) in enumerate(zip(hands, regions, strict=True))
            if hand.presence >= self.confidence and _shift(region, _around_landmarks(hand.points)) > _SEEN_WELL
        ]
        second = self._landmarks([(palms[n][0], _around_landmarks(hands[n].points)) for n in again])
        for n, hand in zip(again, second, strict=True):
            hands[n] = hand
        return iter(hands)

    def _landmarks(self, places: Sequence[tuple[RGB, Floats]]) -> list[_Hand]:
        """Look at regions, each an affine map (see `_region`) to its image."""
        if not places:
            return []
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        side = (_HAND_SIDE, _HAND_SIDE)
        crops = [np.asarray(cv2.warpAffine(image, to_image, side, flags=flags), np.uint8) for image, to_image in places]
        outputs = onnx.run_session(self._hand_session, ("landmarks", "presence", "handedness"), crops, _as_input)
        hands = []
        for values, presence, handedness, (_, to_image) in zip(*outputs, places, strict=True):
            points = values.reshape(LANDMARKS, 3)
            scale = float(np.hypot(*to_image[:, 0]))
            hands.append(
                _Hand(
                    points[:, :2] @ to_image[:, :2].T + to_image[:, 2],
                    points[:, 2] / _DEPTH * scale,
                    float(presence[0]),
                    float(handedness[0]),
                )
            )
        return hands


def build(settings: MediaPipeSettings, device: str) -> MediaPipeHands:
    """Build the detector that the settings describe."""
    return MediaPipeHands(settings.hand_confidence, settings.landmark_margin, device)


SPEC = DetectorSpec(
    "mediapipe",
    MediaPipeSettings,
    build,
    list_packaged_weights(_PALM_WEIGHTS, _HAND_WEIGHTS),
    trust=2,
    confidence="hand_confidence",
    reach=2.1,
)


def _make_anchors() -> NDArray[np.float32]:
    """Anchor centres x, y in 0…1, shape (2016, 2), in the palm network's order."""
    levels = []
    for cells, repeats in _GRIDS:
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / cells
        levels.append(np.repeat(centres, repeats, axis=0))
    return np.concatenate(levels).astype(np.float32)


_ANCHORS = _make_anchors()


def _letterbox(image: RGB) -> tuple[RGB, float, Floats]:
    """Fit an image into the palm network's square, black beside it: pixels, scale, and its x, y in them."""
    height, width = image.shape[:2]
    scale = _PALM_SIDE / max(height, width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (_PALM_SIDE - inner[0]) // 2, (_PALM_SIDE - inner[1]) // 2
    square = np.zeros((_PALM_SIDE, _PALM_SIDE, 3), np.uint8)
    square[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return square, scale, np.array([left, top], float)


def _as_input(images: Sequence[RGB]) -> NDArray[np.float32]:
    return np.stack(images).astype(np.float32) / np.float32(255)


def _same(values: Floats, scores: Floats) -> list[NDArray[np.intp]]:
    """Group detections of one palm: indices of each group, best first; the best of a group leads it."""
    centres, sides = values[:, 0], values[:, 1]
    found = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    order = np.argsort(-scores, kind="stable")
    groups = []
    while len(order):
        same = geometry.compute_iou(found[order[0]], found[order]) > _PALM_NMS
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


def _shift(a: Floats, b: Floats) -> float:
    """Distance of the centres of two regions, in sides of the second."""
    middle = np.full(2, _HAND_SIDE / 2)
    moved = (a[:, :2] - b[:, :2]) @ middle + a[:, 2] - b[:, 2]
    return float(np.hypot(*moved) / (np.hypot(*b[:, 0]) * _HAND_SIDE))


def _axes(up: Floats) -> Floats:
    """Rotation, shape (2, 2), whose columns are where x and y of an input point in the image, if up is `up` there."""
    x, y = up / max(float(np.hypot(*up)), 1e-6)
    return np.array([[-y, -x], [x, -y]])


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
