"""MediaPipe's landmark network on onnxruntime: the hand in a region, and the probability that there is one.

Any hand detector can refine its boxes with it. Zhang et al., MediaPipe Hands: On-device Real-time Hand Tracking, 2020
(arXiv:2006.10214). Regions follow the graph ``hand_landmark`` of MediaPipe 0.10 (Apache-2.0, see NOTICE); MediaPipe
itself is not required.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.detectors.contract import Detections
from detectime.images import RGB, brighten_image
from detectime.schema import LANDMARKS
from detectime.settings import CHECKED
from detectime.storage import downloads

WEIGHTS = "hand_landmark.onnx"
"""The weights, which the package includes."""

PRESENT = 0.5
"""Presence from which there is a hand."""

ENDS = (0, 4, 8, 12, 16, 20)
"""The landmarks at the wrist and the fingertips."""

_SIDE = 224  # side of the network's square input, in pixels
_CENTRE = np.full(2, _SIDE / 2)
_DEPTH_SCALE = 0.4  # MediaPipe's graph divides z by it to fit the distribution of z in the training data
_KNUCKLES = [5, 9, 9, 13]  # index, middle (twice, as its weight) and ring finger: with the wrist, the direction
_REGION_SIDE = 1.6  # side of the region around landmarks, in hand sides
# In palm lengths; fitted to HaGRID and to webcam frames with equal weight (`python -m benchmarks.hand_boxes`).
_END_RADIUS, _JOINT_RADIUS = 0.15, 0.22
_RADII = np.where(np.isin(np.arange(LANDMARKS), ENDS), _END_RADIUS, _JOINT_RADIUS)


@checked_dataclass(frozen=True, config=CHECKED)
class LandmarkSettings:
    """Keys of the detectors that use this network. Without a margin see `Hand.make_box`."""

    landmark_margin: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """mediapipe, hagrid: null: the box surrounds discs around the 21 landmarks, smaller ones at wrist and fingertips |
    0.10: the box around the landmarks, with that share of its longer side as margin."""


@dataclass(frozen=True)
class HandRegion:
    """A square region of an image, rotated so that the hand in it is upright.

    Parameters
    ----------
    centre
        x, y in pixels of the image, shape (2,).
    side
        In pixels of the image.
    up
        Direction x, y in the image that is upward in the network's input, shape (2,).
    """

    centre: Floats
    side: float
    up: Floats

    def make_affine(self) -> Floats:
        """Return the affine map, shape (2, 3), from the network's input to the image."""
        linear = self.side / _SIDE * _make_rotation(self.up)
        return np.concatenate([linear, (self.centre - linear @ _CENTRE)[:, None]], axis=1)


@dataclass(frozen=True)
class Hand:
    """Output of the landmark network for a region; see `Detections` for `presence` and `handedness`.

    `points`, shape (21, 2), are landmarks in pixels of the image; `depth`, shape (21,), is their z in the same unit.
    """

    points: Floats
    depth: Floats
    presence: float
    handedness: float

    def make_box(self, margin: float | None = None) -> Floats:
        """Return the box around the hand, shape (4,).

        Parameters
        ----------
        margin
            None: the box of `surround_discs`, with the fitted radii; otherwise that around the landmarks, padded by
            this fraction of its longer side.
        """
        if margin is None:
            return self.surround_discs(_RADII)
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        uniform = margin * (high - low).max()
        return np.concatenate([low - uniform, high + uniform])

    def surround_discs(self, radii: Floats) -> Floats:
        """Return the box, shape (…, 4), around discs with the landmarks as centres, since these lie inside the hand.

        Parameters
        ----------
        radii
            Shape (…, 21), in palm lengths: the distance, in depth too, from the wrist to the knuckles. So a fist has
            the discs of an open hand, while a share of the box's longer side would be smaller.
        """
        palm = np.linalg.norm(self._find_knuckles() - [*self.points[0], self.depth[0]])
        padding = palm * np.asarray(radii)[..., None]
        return np.concatenate([(self.points - padding).min(axis=-2), (self.points + padding).max(axis=-2)], axis=-1)

    def make_region(self) -> HandRegion:
        """Return the region in which to look at this hand again."""
        up = self._find_knuckles()[:2] - self.points[0]
        rotation = _make_rotation(up)
        rotated = self.points @ rotation
        low, high = rotated.min(axis=0), rotated.max(axis=0)
        return HandRegion(rotation @ (low + high) / 2, _REGION_SIDE * float((high - low).max()), up)

    def _find_knuckles(self) -> Floats:
        """Return the point x, y, z between the knuckles."""
        sums = [*self.points[_KNUCKLES].sum(axis=0), self.depth[_KNUCKLES].sum()]
        return np.array(sums) / len(_KNUCKLES)


class LandmarkNetwork:
    """The landmark network.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``. Detectors in one process share the network.

    Examples
    --------
    >>> from detectime.images import decode_image
    >>> from detectime.paths import SAMPLE
    >>> image = decode_image((SAMPLE / "TRAIN_DATA" / "stop_01" / "0001.jpg").read_bytes())
    >>> (hand,) = LandmarkNetwork().find_landmarks([image], [make_square_region(np.array([350, 90, 430, 190]), 2.0)])
    >>> hand.points.shape
    (21, 2)
    """

    def __init__(self, device: str = "cpu") -> None:
        self._session = _open_session(device)

    def find_landmarks(self, images: Sequence[RGB], regions: Sequence[HandRegion]) -> list[Hand]:
        """Find the landmarks of the hand in each region.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3): one per region; several regions may lie in the same image.
        regions
            The regions. Where they leave the image, they are black.

        Returns
        -------
        list of Hand
            One per region, whether or not it holds a hand: see `Hand.presence`.
        """
        if not regions:
            return []
        affines = [region.make_affine() for region in regions]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crops = [
            brighten_image(np.asarray(cv2.warpAffine(image, affine, (_SIDE, _SIDE), flags=flags), np.uint8))
            for image, affine in zip(images, affines, strict=True)
        ]
        outputs = onnx.run_session(self._session, ("landmarks", "presence", "handedness"), crops, make_input)
        hands = []
        for values, presence, handedness, affine in zip(*outputs, affines, strict=True):
            points = values.reshape(LANDMARKS, 3)
            scale = float(np.hypot(*affine[:, 0]))
            hands.append(
                Hand(
                    points[:, :2] @ affine[:, :2].T + affine[:, 2],
                    points[:, 2] / _DEPTH_SCALE * scale,
                    float(presence[0]),
                    float(handedness[0]),
                )
            )
        return hands

    def retry_unconfirmed(self, images: Sequence[RGB], hands: Sequence[Hand], presence: float = PRESENT) -> list[Hand]:
        """Look a second time, at the region of the landmarks, where the first look did not confirm a hand.

        Parameters
        ----------
        images
            As for `find_landmarks`.
        hands
            What it returned.
        presence
            Minimum presence of a confirmed hand.

        Returns
        -------
        list of Hand
            Of the two looks that of larger presence.
        """
        again = [n for n, hand in enumerate(hands) if hand.presence < presence]
        second = self.find_landmarks([images[n] for n in again], [hands[n].make_region() for n in again])
        chosen = list(hands)
        for n, hand in zip(again, second, strict=True):
            chosen[n] = max(hand, hands[n], key=lambda each: each.presence)
        return chosen


def make_square_region(box: Floats, side: float) -> HandRegion:
    """Return the upright region with the centre of a box; `side` is in units of the box's longer side.

    Examples
    --------
    >>> make_square_region(np.array([10, 20, 30, 60]), 2.0).make_affine() @ [112, 112, 1]
    array([20., 40.])
    """
    longer = float((box[2:] - box[:2]).max())
    return HandRegion((box[:2] + box[2:]) / 2, side * longer, np.array([0.0, -1.0]))


def make_detections(hands: Sequence[Hand], boxes: Floats, scores: Floats, proposals: Floats) -> Detections:
    """Return hands as `Detections`.

    Parameters
    ----------
    hands
        The hands.
    boxes, scores, proposals
        Of each hand, as in `Detections`: shapes (N, 4), (N,), (N, 5).
    """
    points = [np.column_stack([hand.points, hand.depth - hand.depth[0]]) for hand in hands]
    return Detections(
        geometry.as_boxes(boxes),
        scores.astype(np.float32),
        landmarks=np.asarray(points, np.float32).reshape(-1, LANDMARKS, 3),
        presence=np.array([hand.presence for hand in hands], np.float32),
        handedness=np.array([hand.handedness for hand in hands], np.float32),
        proposals=np.asarray(proposals, np.float32).reshape(-1, 5),
    )


def make_input(images: Sequence[RGB]) -> NDArray[np.float32]:
    """Return the networks' input, float32, 0…1, shape (N, H, W, 3), of uint8 images of one size.

    Examples
    --------
    >>> float(make_input([np.full((224, 224, 3), 255, np.uint8)]).max())
    1.0
    """
    pixels = np.array(images, np.float32)
    pixels /= 255
    return pixels


@functools.cache
def _open_session(device: str) -> Any:
    return onnx.open_session(downloads.find_packaged_weights(WEIGHTS), device)


def _make_rotation(up: Floats) -> Floats:
    """Return the rotation, shape (2, 2), whose columns are the input's x and y axes in the image."""
    x, y = up / max(float(np.hypot(*up)), 1e-6)
    return np.array([[-y, -x], [x, -y]])
