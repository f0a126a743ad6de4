"""The three torch face detectors of face-detection 0.2.2, which the notebook of 2021 used.

RetinaFace (Deng et al., CVPR 2020) with MobileNet-0.25 or ResNet-50, and DSFD (Li et al., CVPR 2019) with ResNet-152.
The published library needs the patch in `face_detection_patch`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors.contract import Detections, DetectorSpec, SearchedFaceSettings
from detectime.detectors.face_detection_patch import WEIGHTS, install_patch
from detectime.detectors.onnx import choose_torch_device
from detectime.images import RGB
from detectime.storage import downloads
from detectime.storage.downloads import WeightsError

_BATCH = 8  # images per inference; larger batches are not faster on a CPU
_CACHED_SIZES = 16  # image sizes whose anchors the library may cache


class TorchFaces:
    """Face detector of the library; building one installs the patch.

    Parameters
    ----------
    name
        ``RetinaNetMobileNetV1``, ``RetinaNetResNet50`` or ``DSFDDetector``.
    confidence
        Minimum score, 0…1.
    nms
        Maximum IoU of two faces that are both kept, 0…1.
    max_resolution
        Longer side, in pixels, to which the library shrinks larger images.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        If the device does not exist.
    WeightsError
        If the weights are missing, cannot be downloaded, or belong to another network.
    """

    def __init__(self, name: str, confidence: float, nms: float, max_resolution: int, device: str = "auto") -> None:
        install_patch()
        import face_detection

        self.max_resolution = max_resolution
        try:
            self._detector = face_detection.build_detector(
                name,
                confidence_threshold=confidence,
                nms_iou_threshold=nms,
                device=choose_torch_device(device),
                max_resolution=max_resolution,
            )
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            path = downloads.find_torch_cache() / WEIGHTS[name].name
            raise WeightsError(f"{path}: these weights do not fit {name}; delete the file. {error}") from error

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Detect faces in each image, best first, clipped to the image.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3); sizes may differ. An image so narrow that shrinking leaves it no pixels gets
            no faces.
        regions
            Not supported.

        Raises
        ------
        NotImplementedError
            If `regions` are given.
        ValueError
            If an image is not RGB of dtype uint8.
        """
        if regions is not None:
            raise NotImplementedError("regions: face detectors search the whole image")
        found = [Detections.none()] * len(images)
        for indices in self._group_by_size(images):
            height, width = images[indices[0]].shape[:2]
            results = self._detector.batched_detect(np.stack([images[index] for index in indices]))
            for index, rows in zip(indices, results, strict=True):
                found[index] = _make_detections(rows, width, height)
        self._limit_anchor_cache()
        return found

    def _group_by_size(self, images: Sequence[RGB]) -> list[list[int]]:
        """Return batches of indices of images of one size."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"image of {image.dtype}, shape {image.shape}; accepted: RGB, uint8, shape (H, W, 3)")
            scale = min(1.0, self.max_resolution / max(*image.shape[:2], 1))
            if int(min(image.shape[:2]) * scale):
                groups[image.shape].append(index)
        return [group[start : start + _BATCH] for group in groups.values() for start in range(0, len(group), _BATCH)]

    def _limit_anchor_cache(self) -> None:
        """Clear the library's cache of anchors, which otherwise grows with every new image size."""
        net = self._detector.net
        cache: dict[Any, Any] = getattr(self._detector, "prior_box_cache", None) or getattr(net, "prior_cache", {})
        if len(cache) > _CACHED_SIZES:
            cache.clear()


def build(name: str, settings: SearchedFaceSettings, device: str) -> TorchFaces:
    """Build a detector by name; raises as `TorchFaces`."""
    return TorchFaces(name, settings.face_confidence, settings.face_nms, settings.face_max_resolution, device)


def _find_weights(name: str, _: SearchedFaceSettings) -> list[Path]:
    return [downloads.fetch_weights(WEIGHTS[name], downloads.find_torch_cache())]


SPECS = tuple(
    DetectorSpec(
        name,
        SearchedFaceSettings,
        partial(build, name),
        partial(_find_weights, name),
        confidence="face_confidence",
        reduced=False,
        needs=("torch", "torchvision", "face_detection"),
        extra="torch",
    )
    for name in WEIGHTS
)


def _make_detections(rows: NDArray[np.float32], width: int, height: int) -> Detections:
    """Convert the library's rows (x1, y1, x2, y2, score), which may extend outside the image."""
    found = geometry.clip_boxes(rows[:, :4], width, height)
    inside = geometry.compute_area(found) > 0
    return Detections(geometry.as_boxes(found[inside]), rows[inside, 4].astype(np.float32))
