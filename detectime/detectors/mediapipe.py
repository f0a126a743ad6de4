"""Hand detector: MediaPipe's palm and landmark models on onnxruntime.

The palm model proposes hands, the landmark model refines each to 21 landmarks. Zhang et al., MediaPipe Hands: On-device
Real-time Hand Tracking, 2020 (arXiv:2006.10214). Anchors and the merging of palms follow the graph ``palm_detection``
of MediaPipe 0.10 (Apache-2.0, see NOTICE); MediaPipe itself is not required.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import hand_landmarks, onnx
from detectime.detectors.contract import Detections, DetectorSpec, list_packaged_weights
from detectime.detectors.hand_landmarks import Hand, HandRegion, LandmarkNetwork, LandmarkSettings
from detectime.images import RGB, brighten_image
from detectime.settings import CHECKED, Share
from detectime.storage import downloads

_PALM_WEIGHTS = "palm_detection.onnx"
# Sides of the palm network's square input, in pixels, each where the one before found no hand. It was trained at 192;
# near a face 128 finds as many hands for less than half of the cost, and in a whole image hands are small.
_SIDES_IN_REGION, _SIDES_IN_IMAGE = (128, 192), (192, 320)
_LEVELS = ((8, 2), (16, 6))  # stride in pixels, anchors per cell
_PALM_SCORE = 0.4  # minimum score of a palm; whether there is a hand the landmark network decides
_PALM_NMS = 0.3  # IoU above which palms are averaged into one
_MAX_PALMS = 4  # per region: the hands of two people
_WRIST, _MIDDLE = 0, 2  # the palm keypoints that give the hand's direction
# The landmark network's region. With MediaPipe's 2.6 and 0.5 open hands leave it, so that they need a second look.
_PALM_REGION_SIDE = 3.2  # in palm sides
_PALM_REGION_SHIFT = 0.4  # of the region's centre towards the fingers, in palm heights
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
        Minimum score of a hand, 0…1: its presence.
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
        self._device = device
        for side in _SIDES_IN_REGION:
            _open_palm_session(side, device)
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
        sides = _SIDES_IN_REGION
        if regions is None:
            sides = _SIDES_IN_IMAGE
            regions = [np.array([[0, 0, image.shape[1], image.shape[0]]], float) for image in images]
        found = [Detections.none()] * len(images)
        for side in sides:
            pending = [n for n, hands in enumerate(found) if not len(hands)]
            if not pending:
                break
            hands = self._detect_at([images[n] for n in pending], [regions[n] for n in pending], side)
            for n, own in zip(pending, hands, strict=True):
                found[n] = own
        return found

    def _detect_at(self, images: Sequence[RGB], regions: Sequence[Floats], side: int) -> list[Detections]:
        """Detect hands whose palms are found in regions shrunk to `side` pixels."""
        palms = self._detect_palms(images, regions, side)
        hands = self._refine_palms([(image, palm) for image, own in zip(images, palms, strict=True) for palm in own])
        return [
            self._select_hands(image, own, [next(hands) for _ in own]) for image, own in zip(images, palms, strict=True)
        ]

    def _select_hands(self, image: RGB, palms: Sequence[_Palm], hands: Sequence[Hand]) -> Detections:
        """Drop low scores and duplicates."""
        if not palms:
            return Detections.none()
        height, width = image.shape[:2]
        scores = np.array([hand.presence for hand in hands], np.float32)
        boxes = geometry.clip_boxes([hand.make_box(self.margin) for hand in hands], width, height)
        confident = np.flatnonzero((scores >= self.confidence) & (geometry.compute_area(boxes) > 0))
        kept = confident[geometry.suppress_non_maximum(boxes[confident], scores[confident], _SAME_HAND)]
        return hand_landmarks.make_detections(
            [hands[k] for k in kept.tolist()],
            boxes[kept],
            scores[kept],
            np.array([[*palms[k].box, palms[k].score] for k in kept.tolist()]),
        )

    def _detect_palms(self, images: Sequence[RGB], regions: Sequence[Floats], side: int) -> list[list[_Palm]]:
        """Return the palms of each image, best first, without duplicates."""
        squares, origins = [], []
        for n, (image, own_regions) in enumerate(zip(images, regions, strict=True)):
            for crop in (onnx.crop_region(image, region) for region in own_regions):
                if crop is not None:
                    square, scale, padding = _letterbox(crop[0], side)
                    squares.append(square)
                    origins.append((n, scale, crop[1] - padding / scale))
        found: list[list[_Palm]] = [[] for _ in images]
        if not squares:
            return found
        session = _open_palm_session(side, self._device)
        offsets, logits = onnx.run_session(session, ("boxes", "scores"), squares, hand_landmarks.make_input)
        for (n, scale, corner), own_offsets, scores in zip(origins, offsets, _sigmoid(logits[:, :, 0]), strict=True):
            found[n] += _decode_palms(own_offsets, scores, side, scale, corner)[:_MAX_PALMS]
        for n, palms in enumerate(found):
            kept = geometry.suppress_non_maximum([p.box for p in palms], [p.score for p in palms], _SAME_HAND)
            found[n] = [palms[k] for k in kept]
        return found

    def _refine_palms(self, palms: Sequence[tuple[RGB, _Palm]]) -> Iterator[Hand]:
        """Look at the region of each palm, and again, at that of the landmarks, where the hand is not confirmed."""
        images = [image for image, _ in palms]
        hands = self._landmarks.find_landmarks(images, [_make_palm_region(palm) for _, palm in palms])
        return iter(self._landmarks.retry_unconfirmed(images, hands, self.confidence))


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
    revision=2,
    trust=2,
    confidence="hand_confidence",
    reach=2.1,
)


@functools.cache
def _open_palm_session(side: int, device: str) -> Any:
    """Open the palm network for squares of one side; detectors in one process share it."""
    weights = downloads.find_packaged_weights(_PALM_WEIGHTS)
    return onnx.open_session(weights, device, {"height": side, "width": side})


def _decode_palms(offsets: Floats, scores: Floats, side: int, scale: float, corner: Floats) -> list[_Palm]:
    """Return the palms in one square, best first, in pixels of the image.

    Parameters
    ----------
    offsets, scores
        Output of the network, shapes (A, 18) and (A,).
    side
        Of the square, in pixels.
    scale, corner
        Pixels of the square per pixel of the image, and the x, y of the square's origin in the image.
    """
    selected = np.flatnonzero(scores >= _PALM_SCORE)
    # Centre, size and seven keypoints, each x, y; all but the size are relative to the anchor.
    values = offsets[selected].reshape(-1, 9, 2) / side
    values[:, [0, 2, 3, 4, 5, 6, 7, 8]] += _make_anchors(side)[selected, None]
    palms = []
    for group in _group_palms(values, scores[selected]):
        weights = scores[selected[group]] / scores[selected[group]].sum()
        mean = (values[group] * weights[:, None, None]).sum(axis=0) * side
        points = np.delete(mean, 1, axis=0) / scale + corner
        width, height = mean[1] / scale
        palms.append(_Palm(points[0], points[1:], float(width), float(height), float(scores[selected[group[0]]])))
    return palms


@functools.cache
def _make_anchors(side: int) -> NDArray[np.float32]:
    """Return the anchor centres x, y in 0…1, shape (A, 2), in the palm network's order, for a square of this side."""
    levels = []
    for stride, repeats in _LEVELS:
        cells = side // stride
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / cells
        levels.append(np.repeat(centres, repeats, axis=0))
    return np.concatenate(levels).astype(np.float32)


def _letterbox(image: RGB, side: int) -> tuple[RGB, float, Floats]:
    """Fit an image into a black square of `side` pixels; return the square, the scale, and the x, y padding."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    square = np.zeros((side, side, 3), np.uint8)
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    square[top : top + size[1], left : left + size[0]] = brighten_image(small)
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


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
