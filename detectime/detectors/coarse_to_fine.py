"""Search for faces from coarse to fine: shared by the face detectors that run on onnxruntime.

A large face is found in a small image, at a fraction of the cost, and a look at it in full resolution tells whether it
is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.detectors.contract import Detections, SearchedFaceSettings
from detectime.images import RGB, shrink_image
from detectime.settings import CHECKED

_MAX_CANDIDATES = 6  # with more candidates the next resolution is cheaper than a crop of each
_SAME_FACE = 0.3  # minimum IoU of a candidate and the face detected in its crop

FindFaces = Callable[[Sequence[RGB], float], Sequence[tuple[Floats, Floats]]]
"""A network: function of images of one size, at least one, and of the minimum score.

For each image it returns boxes in pixels of the image, float64, shape (N, 4), and their scores, float32, shape (N,).
Boxes may overlap and extend outside the image.
"""


@checked_dataclass(frozen=True, config=CHECKED)
class CoarseToFineSettings(SearchedFaceSettings):
    """Keys of face detectors that work from coarse to fine."""

    face_first_resolution: Annotated[int, Field(ge=32, le=8192)] = 160
    """retinaface, yunet: the longer side of the shrunk frame, in pixels; doubled while no face is detected."""


@dataclass(frozen=True)
class Confirmation:
    """How the candidates in a shrunk image are confirmed; it depends on the network.

    Parameters
    ----------
    candidate_score
        Minimum score of a candidate, 0…1.
    crop_side
        Longer side, in pixels, to which a candidate's crop is shrunk.
    crop_coefficient
        Of the context square that is cropped around a candidate.

    Examples
    --------
    >>> Confirmation(candidate_score=0.3, crop_side=112, crop_coefficient=1.3125).crop_side
    112
    """

    candidate_score: float
    crop_side: int
    crop_coefficient: float


class CoarseToFineDetector:
    """Face detector that works from coarse to fine.

    The image is shrunk to `face_first_resolution` pixels and searched for candidates. Each candidate is confirmed in a
    crop of the full image, which also gives a better box. If none is confirmed, the resolution doubles, up to
    `face_max_resolution`. There is one pass, at `face_max_resolution`, if the first resolution is not smaller.

    Parameters
    ----------
    find_faces
        The network.
    settings
        `face_confidence` is the minimum score of a face, and `face_nms` the maximum IoU of two that are both kept, 0…1.
    confirmation
        How candidates are confirmed.

    Examples
    --------
    A network that returns one box, whatever the image shows:

    >>> face = np.array([[8.0, 8.0, 24.0, 32.0]]), np.ones(1, np.float32)
    >>> settings = CoarseToFineSettings(face_first_resolution=640)
    >>> confirmation = Confirmation(candidate_score=0.3, crop_side=112, crop_coefficient=1.3125)
    >>> detector = CoarseToFineDetector(lambda images, _: [face] * len(images), settings, confirmation)
    >>> (faces,) = detector.detect([np.zeros((960, 1280, 3), np.uint8)])
    >>> faces.boxes.tolist()
    [[16.0, 16.0, 48.0, 64.0]]
    """

    def __init__(self, find_faces: FindFaces, settings: CoarseToFineSettings, confirmation: Confirmation) -> None:
        self.confidence = settings.face_confidence
        self.nms = settings.face_nms
        self.first = settings.face_first_resolution
        self.most = settings.face_max_resolution
        self._find_faces = find_faces
        self._confirmation = confirmation

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Detect faces in each image, best first, clipped to the image.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3); sizes may differ.
        regions
            Not supported.

        Raises
        ------
        NotImplementedError
            If `regions` are given.
        """
        if regions is not None:
            raise NotImplementedError("regions: face detectors search the whole image")
        found: dict[int, Detections] = {}
        side = self.first
        while side < self.most and len(found) < len(images):
            # Smaller images would not be shrunk: the last pass searches them as they are.
            pending = [n for n, image in enumerate(images) if n not in found and max(image.shape) > side]
            faces = self._detect_and_confirm([images[n] for n in pending], side)
            found |= {n: f for n, f in zip(pending, faces, strict=True) if len(f)}
            side *= 2
        pending = [n for n in range(len(images)) if n not in found]
        found |= zip(pending, self._detect_at([images[n] for n in pending], self.most, self.confidence), strict=True)
        return [found[n] for n in range(len(images))]

    def _detect_and_confirm(self, images: Sequence[RGB], side: int) -> list[Detections]:
        """Detect candidates at a longer side of `side` pixels and return those confirmed in a crop of the image."""
        crops, origins = [], []
        for n, candidates in enumerate(self._detect_at(images, side, self._confirmation.candidate_score)):
            for box in candidates.boxes if len(candidates) <= _MAX_CANDIDATES else ():
                square = geometry.make_context_squares(box, self._confirmation.crop_coefficient)
                crop = onnx.crop_region(images[n], square)
                if crop is not None:
                    crops.append(crop[0])
                    origins.append((n, box, crop[1]))
        found: list[list[tuple[Floats, float]]] = [[] for _ in images]
        in_crops = self._detect_at(crops, self._confirmation.crop_side, self.confidence)
        for (n, box, corner), in_crop in zip(origins, in_crops, strict=True):
            faces = in_crop.boxes + np.concatenate([corner, corner])
            ious = geometry.compute_iou(faces, box)
            if ious.max(initial=0) >= _SAME_FACE:
                found[n].append((faces[ious.argmax()], float(in_crop.scores[ious.argmax()])))
        return [self._merge_faces(faces) for faces in found]

    def _merge_faces(self, faces: Sequence[tuple[Floats, float]]) -> Detections:
        if not faces:
            return Detections.none()
        corners = geometry.as_boxes([box for box, _ in faces])
        scores = np.array([score for _, score in faces], np.float32)
        kept = geometry.suppress_non_maximum(corners, scores, self.nms)
        return Detections(corners[kept], scores[kept])

    def _detect_at(self, images: Sequence[RGB], side: int, confidence: float) -> list[Detections]:
        """Detect faces in images shrunk to a longer side of `side` pixels; boxes are in pixels of the original."""
        small = [shrink_image(image, side) for image in images]
        found: dict[int, Detections] = {}
        for shape in dict.fromkeys(image.shape for image in small):
            batch = [n for n, image in enumerate(small) if image.shape == shape]
            faces = self._find_faces([small[n] for n in batch], confidence)
            for n, (boxes, scores) in zip(batch, faces, strict=True):
                found[n] = self._select_faces(boxes, scores, images[n].shape, shape)
        return [found[n] for n in range(len(images))]

    def _select_faces(
        self, boxes: Floats, scores: Floats, shape: tuple[int, ...], small_shape: tuple[int, ...]
    ) -> Detections:
        """Return the faces of an image, scaled to its shape and clipped, without overlapping ones."""
        if not len(boxes):
            return Detections.none()
        height, width = shape[:2]
        x, y = width / small_shape[1], height / small_shape[0]
        boxes = geometry.clip_boxes(boxes * np.array([x, y, x, y]), width, height)
        inside = geometry.compute_area(boxes) > 0
        boxes, scores = boxes[inside], scores[inside]
        kept = geometry.suppress_non_maximum(boxes, scores, self.nms)
        return Detections(geometry.as_boxes(boxes[kept]), scores[kept].astype(np.float32))
