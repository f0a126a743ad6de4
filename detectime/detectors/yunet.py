"""Face detector: YuNet on onnxruntime, for two thirds of RetinaFace's CPU time.

Wu, Peng, Yu, YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 2023. The weights come from
``libfacedetection.train`` (Apache-2.0). The outputs are decoded as OpenCV's ``FaceDetectorYN`` does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Floats
from detectime.detectors import onnx
from detectime.detectors.coarse_to_fine import CoarseToFineDetector, CoarseToFineSettings, Confirmation
from detectime.detectors.contract import DetectorSpec
from detectime.images import RGB
from detectime.storage import downloads
from detectime.storage.downloads import WeightsFile

WEIGHTS = WeightsFile(
    "yunet_n_dynamic.onnx",
    "github.com/ShiqiYu/libfacedetection.train, commit 0047ac24 (Apache-2.0)",
    "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
    "0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/yunet_n_dynamic.onnx",
    "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
)
"""The weights, downloaded on first use."""

_STRIDES = (8, 16, 32)  # of the levels, in pixels
_OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox") for stride in _STRIDES)

# In a shrunk frame hands score up to .7, and 99 % of the faces more than .67. Faces are 48 pixels long in the crops.
_CONFIRMATION = Confirmation(candidate_score=0.65, crop_side=96, crop_coefficient=1.0)


class YuNet:
    """The network.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._session = onnx.open_session(downloads.find_or_fetch_weights(WEIGHTS), device)

    def find_faces(self, images: Sequence[RGB], confidence: float) -> list[tuple[Floats, Floats]]:
        """Find faces in images of one size: see `coarse_to_fine.FindFaces`."""
        outputs = onnx.run_session(self._session, _OUTPUTS, images, _make_input)
        classes, objects, offsets = (np.concatenate(outputs[n : n + 3], axis=1) for n in (0, 3, 6))
        scores = np.sqrt(classes * objects)[:, :, 0]
        cells = _make_cells(*_pad_shape(images[0].shape))
        found = []
        for image_offsets, image_scores in zip(offsets, scores, strict=True):
            selected = np.flatnonzero(image_scores >= confidence)
            found.append((_decode_boxes(image_offsets[selected], cells[selected]), image_scores[selected]))
        return found


def build(settings: CoarseToFineSettings, device: str) -> CoarseToFineDetector:
    """Build the detector from its settings; missing weights are downloaded.

    Raises
    ------
    WeightsError
        If the weights are missing and cannot be downloaded.
    """
    return CoarseToFineDetector(YuNet(device).find_faces, settings, _CONFIRMATION)


SPEC = DetectorSpec(
    "yunet",
    CoarseToFineSettings,
    build,
    find_weights=lambda _: [downloads.find_or_fetch_weights(WEIGHTS)],
    confidence="face_confidence",
    coarse=True,
    pinned=(WEIGHTS,),
)


def _pad_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width, rounded up to whole cells of the coarsest level."""
    most = _STRIDES[-1]
    return -(-shape[0] // most) * most, -(-shape[1] // most) * most


def _make_input(images: Sequence[RGB]) -> NDArray[np.float32]:
    # The network expects BGR from 0 to 255, padded at the right and at the bottom.
    height, width = images[0].shape[:2]
    padded = np.zeros((len(images), 3, *_pad_shape(images[0].shape)), np.float32)
    padded[:, ::-1, :height, :width] = onnx.stack_planes(images)
    return padded


@functools.lru_cache(maxsize=64)
def _make_cells(height: int, width: int) -> Floats:
    """Return x, y of the first pixel and the stride of each cell, float64, shape (N, 3), in the network's order."""
    levels = []
    for stride in _STRIDES:
        y, x = np.mgrid[:height:stride, :width:stride]
        levels.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    return np.concatenate(levels).astype(float)


def _decode_boxes(offsets: Floats, cells: Floats) -> Floats:
    """Convert the network's offsets from cells, shape (N, 4), to boxes, float64, shape (N, 4)."""
    strides = cells[:, 2:]
    centres = cells[:, :2] + offsets[:, :2] * strides
    halves = np.exp(offsets[:, 2:]) * strides / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)
