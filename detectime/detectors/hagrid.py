"""Hand detector trained by ai-forever on HaGRIDv2, on onnxruntime: 1.2 MB.

Network and weights come from ``dynamic_gestures`` (Apache-2.0). The data set: Nuzhdin et al., HaGRIDv2: 1M Images for
Static and Dynamic Hand Gesture Recognition, 2024 (arXiv:2412.01508).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from pydantic.dataclasses import dataclass

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import hand_landmarks, onnx
from detectime.detectors.contract import Detections, DetectorSpec
from detectime.detectors.hand_landmarks import Hand, LandmarkNetwork, LandmarkSettings
from detectime.images import RGB, brighten_image, shrink_image
from detectime.settings import CHECKED, Share
from detectime.storage import downloads
from detectime.storage.downloads import WeightsFile

WEIGHTS = WeightsFile(
    "hand_detector.onnx",
    "github.com/ai-forever/dynamic_gestures, commit f073b254 (Apache-2.0)",
    "https://raw.githubusercontent.com/ai-forever/dynamic_gestures/"
    "f073b2541ad53863ea2935498342cec0d3e1ce73/models/hand_detector.onnx",
    "a8ef73d466b61a8e8677be9c47008b217a11d1b265d95e36bf2521ff93329af6",
)
"""The weights, downloaded on first use."""

_WIDTH, _HEIGHT = 320, 240  # input of the network, in pixels
_MEAN, _SCALE = 127.0, 128.0
_SAME_HAND = 0.5  # IoU above which two boxes show the same hand
_SURE = 0.9  # presence from which the box around the landmarks is preferred to one of the network that differs
_REGION_SIDE = 1.6  # side of the region around a box, for the landmark network, in units of its longer side


@dataclass(frozen=True, config=CHECKED)
class HagridSettings(LandmarkSettings):
    """Keys of this detector."""

    hagrid_confidence: Share = 0.7
    """hagrid: minimum score of the network, which itself drops scores below 0.7."""


class HagridHands:
    """Hand detector.

    The landmark network finds the hand in a region around each box, which is often only a part of the hand. Where the
    box and that around the landmarks agree, they are averaged, weighted with the squares of score and presence. Where
    they differ, the latter is taken if its presence is at least 0.9. Any other box stays as it is, with the presence as
    its score if that is lower: about one in ten boxes of HaGRID's hands is good and not confirmed.

    Parameters
    ----------
    confidence
        Minimum score of the network, 0…1. A hand's score is the minimum of that score and its presence.
    margin
        See `LandmarkSettings`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, confidence: float, margin: float | None, device: str = "cpu") -> None:
        self.confidence = confidence
        self.margin = margin
        self._landmarks = LandmarkNetwork(device)
        self._session = onnx.open_session(downloads.find_or_fetch_weights(WEIGHTS), device)

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Detect hands in each image, best first, clipped to the image.

        The output has no batch index, so regions run one at a time.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3); sizes may differ.
        regions
            For each image the regions to search, shape (N, 4); None searches whole images.
        """
        searched = [None] * len(images) if regions is None else regions
        return [self._detect_in_image(image, own) for image, own in zip(images, searched, strict=True)]

    def _detect_in_image(self, image: RGB, regions: Floats | None) -> Detections:
        height, width = image.shape[:2]
        if regions is None:
            regions = np.array([[0, 0, width, height]], float)
        found = [f for f in (self._detect_in_region(image, region) for region in regions) if len(f[1])]
        if not found:
            return Detections.none()
        corners = geometry.clip_boxes(np.concatenate([c for c, _ in found]), width, height)
        scores = np.concatenate([s for _, s in found])
        inside = geometry.compute_area(corners) > 0
        corners, scores = corners[inside], scores[inside]
        kept = geometry.suppress_non_maximum(corners, scores, _SAME_HAND)
        return self._refine_boxes(image, corners[kept], scores[kept])

    def _refine_boxes(self, image: RGB, boxes: Floats, scores: Floats) -> Detections:
        """Return the hand of each box, with duplicates dropped: two boxes may be parts of one hand."""
        height, width = image.shape[:2]
        hands = self._find_hands(image, boxes)
        around = geometry.clip_boxes(geometry.as_boxes([hand.make_box(self.margin) for hand in hands]), width, height)
        presence = np.array([hand.presence for hand in hands])
        weights = np.square([scores, presence])[:, :, None]
        average = (weights[0] * boxes + weights[1] * around) / weights.sum(axis=0)
        is_same = geometry.compute_iou(around, boxes) > _SAME_HAND
        is_sure = presence >= _SURE
        refined = np.where(is_same[:, None], average, np.where(is_sure[:, None], around, boxes))
        new_scores = np.minimum(scores, presence)
        inside = np.flatnonzero(geometry.compute_area(refined) > 0)  # landmarks may lie outside the image
        kept = inside[geometry.suppress_non_maximum(refined[inside], new_scores[inside], _SAME_HAND)]
        proposals = np.column_stack([boxes, scores])
        return hand_landmarks.make_detections(
            [hands[k] for k in kept.tolist()], refined[kept], new_scores[kept], proposals[kept]
        )

    def _find_hands(self, image: RGB, boxes: Floats) -> list[Hand]:
        """Return the hand at each box."""
        images = [image] * len(boxes)
        regions = [hand_landmarks.make_square_region(box, _REGION_SIDE) for box in boxes]
        return self._landmarks.retry_unconfirmed(images, self._landmarks.find_landmarks(images, regions))

    def _detect_in_region(self, image: RGB, region: Floats) -> tuple[Floats, Floats]:
        """Return boxes, shape (N, 4), in pixels of the image, and scores, shape (N,), of the hands in one region."""
        crop = onnx.crop_region(image, region)
        if crop is None:
            return np.empty((0, 4)), np.empty(0)
        pixels, corner = crop
        height, width = pixels.shape[:2]
        # Stretched, not padded, as in training: on frames of HaGRID this finds two more hands per hundred.
        pixels = shrink_image(pixels, 2 * _WIDTH)
        pixels = np.asarray(cv2.resize(pixels, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_LINEAR))
        pixels = brighten_image(pixels)
        network_input = onnx.stack_planes([pixels])
        network_input -= _MEAN
        network_input /= _SCALE
        boxes, _, scores = self._session.run(None, {"input": network_input})  # boxes are relative to the region
        kept = scores >= self.confidence
        return boxes[kept] * [width, height, width, height] + np.concatenate([corner, corner]), scores[kept]


def build(settings: HagridSettings, device: str) -> HagridHands:
    """Build the detector from its settings; missing weights are downloaded.

    Raises
    ------
    WeightsError
        If the weights are missing and cannot be downloaded.
    """
    return HagridHands(settings.hagrid_confidence, settings.landmark_margin, device)


SPEC = DetectorSpec(
    "hagrid",
    HagridSettings,
    build,
    find_weights=lambda _: [
        downloads.find_or_fetch_weights(WEIGHTS),
        downloads.find_packaged_weights(hand_landmarks.WEIGHTS),
    ],
    revision=2,
    doubt=0.5,
    trust=3,  # the ranks come from ``benchmarks/disagreement.py``
    confidence="hagrid_confidence",
    reach=2.6,
    pinned=(WEIGHTS,),
    packaged=(hand_landmarks.WEIGHTS,),
)
