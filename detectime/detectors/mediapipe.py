"""Hand detector: MediaPipe's palm and landmark models on onnxruntime.

The palm model proposes hands, the landmark model refines each to 21 landmarks. Zhang et al., MediaPipe Hands: On-device
Real-time Hand Tracking, 2020 (arXiv:2006.10214). Anchors, regions and thresholds follow the graph ``palm_detection`` of
MediaPipe 0.10 (Apache-2.0, see NOTICE); MediaPipe itself is not required.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import hand_landmarks, onnx
from detectime.detectors.contract import Detections, DetectorSpec, list_packaged_weights
from detectime.detectors.hand_landmarks import Hand, HandRegion, LandmarkNetwork, LandmarkSettings
from detectime.images import RGB
from detectime.settings import CHECKED, Share
from detectime.storage import downloads

_PALM_WEIGHTS = "palm_detection.onnx"
_PALM_SIDE = 192  # side of the palm network's square input, in pixels
_GRIDS = ((24, 2), (12, 6))  # per level: cells per side, anchors per cell
_PALM_NMS = 0.3  # IoU above which palms are averaged into one
_MAX_PALMS = 4  # per region: the hands of two people
_WRIST, _MIDDLE = 0, 2  # the palm keypoints that give the hand's direction
_PALM_REGION_SIDE = 2.6  # side of the landmark network's region, in palm sides
_PALM_REGION_SHIFT = 0.5  # shift of the region's centre towards the fingers, in palm heights
_MIN_SHIFT = 0.05  # without a shift larger than this, in region sides, the second pass is skipped
_SAME_HAND = 0.5  # IoU above which two detections are the same hand


@dataclass(frozen=True)
class _Palm:
    """A palm in pixels of the image: centre and keypoints (x, y), and the size of its box."""

    centre: Floats
    keypoints: Floats
    width: float
    height: float
    score: float

    @property
    def box(self) -> Floats:
        half = np.array([self.width, self.height]) / 2
        return np.concatenate([self.centre - half, self.centre + half])


@checked_dataclass(frozen=True, config=CHECKED)
class MediaPipeSettings(LandmarkSettings):
    """Keys of this detector."""

    hand_confidence: Share = 0.5
    """mediapipe: minimum score of a hand."""


class MediaPipeHands:
    """Hand detector.

    Parameters
    ----------
    confidence
        Minimum score, 0…1. A hand's score is the minimum of its palm score and its presence.
    margin
        See `LandmarkSettings`.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Examples
    --------
    >>> from detectime.images import decode_image
    >>> from detectime.paths import SAMPLE
    >>> image = decode_image((SAMPLE / "TRAIN_DATA" / "stop_01" / "0001.jpg").read_bytes())
    >>> (hands,) = MediaPipeHands(0.5, None).detect([image])
    >>> len(hands), hands.landmarks.shape
    (1, (1, 21, 3))
    """

    def __init__(self, confidence: float, margin: float | None, device: str = "cpu") -> None:
        self.confidence = confidence
        self.margin = margin
        self._palm_session = onnx.open_session(downloads.find_packaged_weights(_PALM_WEIGHTS), device)
        self._landmarks = LandmarkNetwork(device)

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Detect hands in each image, best first, clipped to the image.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3); sizes may differ.
        regions
            For each image the regions to search for palms, shape (N, 4); None searches whole images. A hand may extend
            outside its region.
        """
        if regions is None:
            regions = [np.array([[0, 0, image.shape[1], image.shape[0]]], float) for image in images]
        palms = self._detect_palms(images, regions)
        hands = self._refine_palms([(image, palm) for image, own in zip(images, palms, strict=True) for palm in own])
        return [
            self._select_hands(image, own, [next(hands) for _ in own]) for image, own in zip(images, palms, strict=True)
        ]

    def _select_hands(self, image: RGB, palms: Sequence[_Palm], hands: Sequence[Hand]) -> Detections:
        """Drop low scores and duplicates."""
        if not palms:
            return Detections.none()
        height, width = image.shape[:2]
        scores = np.array([min(p.score, h.presence) for p, h in zip(palms, hands, strict=True)], np.float32)
        boxes = geometry.clip_boxes([hand.make_box(self.margin) for hand in hands], width, height)
        confident = np.flatnonzero((scores >= self.confidence) & (geometry.compute_area(boxes) > 0))
        kept = confident[geometry.suppress_non_maximum(boxes[confident], scores[confident], _SAME_HAND)]
        return hand_landmarks.make_detections(
            [hands[k] for k in kept.tolist()],
            boxes[kept],
            scores[kept],
            np.array([[*palms[k].box, palms[k].score] for k in kept.tolist()]),
        )

    def _detect_palms(self, images: Sequence[RGB], regions: Sequence[Floats]) -> list[list[_Palm]]:
        """Return the palms of each image, best first, without duplicates."""
        squares, origins = [], []
        for n, (image, own_regions) in enumerate(zip(images, regions, strict=True)):
            for crop in (onnx.crop_region(image, region) for region in own_regions):
                if crop is not None:
                    square, scale, padding = _letterbox(crop[0])
                    squares.append(square)
                    origins.append((n, scale, crop[1] - padding / scale))
        found: list[list[_Palm]] = [[] for _ in images]
        if not squares:
            return found
        offsets, logits = onnx.run_session(self._palm_session, ("boxes", "scores"), squares, hand_landmarks.make_input)
        for (n, scale, corner), own_offsets, scores in zip(origins, offsets, _sigmoid(logits[:, :, 0]), strict=True):
            found[n] += self._decode_palms(own_offsets, scores, scale, corner)[:_MAX_PALMS]
        for n, palms in enumerate(found):
            kept = geometry.suppress_non_maximum([p.box for p in palms], [p.score for p in palms], _SAME_HAND)
            found[n] = [palms[k] for k in kept]
        return found

    def _decode_palms(self, offsets: Floats, scores: Floats, scale: float, corner: Floats) -> list[_Palm]:
        """Return the palms in one square, best first, in pixels of the image.

        `scale` is square pixels per image pixel, `corner` the position of the square's origin in the image.
        """
        selected = np.flatnonzero(scores >= self.confidence)
        # Centre, size and seven keypoints, each x, y; all but the size are relative to the anchor.
        values = offsets[selected].reshape(-1, 9, 2) / _PALM_SIDE
        values[:, [0, 2, 3, 4, 5, 6, 7, 8]] += _ANCHORS[selected, None]
        palms = []
        for group in _group_palms(values, scores[selected]):
            weights = scores[selected[group]] / scores[selected[group]].sum()
            mean = (values[group] * weights[:, None, None]).sum(axis=0) * _PALM_SIDE
            points = np.delete(mean, 1, axis=0) / scale + corner
            width, height = mean[1] / scale
            palms.append(_Palm(points[0], points[1:], float(width), float(height), float(scores[selected[group[0]]])))
        return palms

    def _refine_palms(self, palms: Sequence[tuple[RGB, _Palm]]) -> Iterator[Hand]:
        """Run the landmark network on the region of each palm, with a second pass where the region is off."""
        images, regions = [image for image, _ in palms], [_make_palm_region(palm) for _, palm in palms]
        hands = self._landmarks.look_at_hands(images, regions)
        # A palm locates its hand only roughly. A second pass on the region of the landmarks, as MediaPipe uses it from
        # one video frame to the next, gives a tighter and more stable box.
        repeated = [
            n
            for n, (hand, region) in enumerate(zip(hands, regions, strict=True))
            if hand.presence >= self.confidence and _measure_shift(region, hand.make_region()) > _MIN_SHIFT
        ]
        second = self._landmarks.look_at_hands(
            [images[n] for n in repeated], [hands[n].make_region() for n in repeated]
        )
        for n, hand in zip(repeated, second, strict=True):
            hands[n] = hand
        return iter(hands)


def build(settings: MediaPipeSettings, device: str) -> MediaPipeHands:
    """Build the detector from its settings.

    Examples
    --------
    >>> build(MediaPipeSettings(landmark_margin=0.2), "cpu").margin
    0.2
    """
    return MediaPipeHands(settings.hand_confidence, settings.landmark_margin, device)


SPEC = DetectorSpec(
    "mediapipe",
    MediaPipeSettings,
    build,
    list_packaged_weights(_PALM_WEIGHTS, hand_landmarks.WEIGHTS),
    trust=2,
    confidence="hand_confidence",
    reach=2.1,
)


def _make_anchors() -> NDArray[np.float32]:
    """Return the anchor centres x, y in 0…1, shape (2016, 2), in the palm network's order."""
    levels = []
    for cells, repeats in _GRIDS:
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / cells
        levels.append(np.repeat(centres, repeats, axis=0))
    return np.concatenate(levels).astype(np.float32)


_ANCHORS = _make_anchors()


def _letterbox(image: RGB) -> tuple[RGB, float, Floats]:
    """Fit an image into the palm network's black square; return the square, the scale, and the x, y padding."""
    height, width = image.shape[:2]
    scale = _PALM_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (_PALM_SIDE - size[0]) // 2, (_PALM_SIDE - size[1]) // 2
    square = np.zeros((_PALM_SIDE, _PALM_SIDE, 3), np.uint8)
    square[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return square, scale, np.array([left, top], float)


def _group_palms(values: Floats, scores: Floats) -> list[NDArray[np.intp]]:
    """Group the detections of each palm; return indices, the best group and the best of each group first."""
    centres, sides = values[:, 0], values[:, 1]
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    order = np.argsort(-scores, kind="stable")
    groups = []
    while len(order):
        same = geometry.compute_iou(boxes[order[0]], boxes[order]) > _PALM_NMS
        same[0] = True
        groups.append(order[same])
        order = order[~same]
    return groups


def _make_palm_region(palm: _Palm) -> HandRegion:
    """Return the region of the hand that a palm belongs to, shifted towards the fingers."""
    up = palm.keypoints[_MIDDLE] - palm.keypoints[_WRIST]
    centre = palm.centre + _PALM_REGION_SHIFT * palm.height * up / max(float(np.hypot(*up)), 1e-6)
    return HandRegion(centre, _PALM_REGION_SIDE * max(palm.width, palm.height), up)


def _measure_shift(a: HandRegion, b: HandRegion) -> float:
    """Return the distance between the centres of two regions, in sides of the second."""
    return float(np.hypot(*(a.centre - b.centre)) / b.side)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
