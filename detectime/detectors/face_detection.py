"""Faces by the three detectors of face-detection 0.2.2 on torch, which the notebook of 2021 used.

RetinaFace (Deng et al., CVPR 2020) with MobileNet-0.25 or ResNet-50, and DSFD (Li et al., CVPR 2019) with ResNet-152.

The library does not work as it is published: its anchors overflow 16 bits under NumPy 2, and its weights' address
answers 410 Gone. `patch_library` puts both right.
"""

from __future__ import annotations

import pickle
import warnings
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors.contract import Detections, DetectorSpec, SearchedFaceSettings
from detectime.detectors.onnx import choose_torch_device
from detectime.images import RGB
from detectime.storage import downloads
from detectime.storage.downloads import WeightsError, WeightsFile

_COPY = (
    "release v0.1 of github.com/archiducarmel/FaceDetection_DSFD_RetinaFace, a copy that could not be compared: the "
    "library's own address answers 410 Gone, and nobody published a sha256"
)
WEIGHTS = {
    "RetinaNetMobileNetV1": WeightsFile(
        "RetinaFace_mobilenet025.pth",
        "github.com/hukkelas/DSFD-Pytorch-Inference, commit 382de8f (Apache-2.0)",
        "https://raw.githubusercontent.com/hukkelas/DSFD-Pytorch-Inference/"
        "382de8f715f9e4311e5d08241c1725e820cd8dce/RetinaFace_mobilenet025.pth",
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    ),
    # Whoever trusts a copy brings it, or names its address: nothing is downloaded that cannot be checked.
    "RetinaNetResNet50": WeightsFile("RetinaFace_ResNet50.pth", _COPY),
    "DSFDDetector": WeightsFile("WIDERFace_DSFD_RES152.pth", _COPY),
}
"""Weights of face-detection 0.2.2, by the name of the detector."""

_BATCH = 8  # frames that go through the network together; a CPU gains nothing by more
_SIZES = 16  # sizes of frames whose anchors are kept


class TorchFaces:
    """Face detector.

    Parameters
    ----------
    name
        ``RetinaNetMobileNetV1``, ``RetinaNetResNet50`` or ``DSFDDetector``.
    confidence
        Least score, 0…1.
    nms
        Largest IoU of two faces that are both kept, 0…1.
    max_resolution
        Larger images are shrunk to this longer side, in pixels, in the library's own way.
    device
        ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, name: str, confidence: float, nms: float, max_resolution: int, device: str = "auto") -> None:
        import face_detection

        patch_library()
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
            raise WeightsError(f"{path}: these weights are not those of {name}; delete them. {error}") from error

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Find faces in each image, best first, in the image's pixels and inside it.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each. Those of one size are looked at together. One that is so narrow that
            nothing is left of it when it is shrunk has no faces.
        regions
            Not supported: faces are what regions are made of.

        Raises
        ------
        ValueError
            If an image is something else than RGB, uint8.
        """
        if regions is not None:
            raise NotImplementedError("faces are searched in the whole image")
        found = [Detections.none()] * len(images)
        for positions in self._batches(images):
            height, width = images[positions[0]].shape[:2]
            rows = self._detector.batched_detect(np.stack([images[position] for position in positions]))
            for position, row in zip(positions, rows, strict=True):
                found[position] = _detections(row, width, height)
        self._forget_sizes()
        return found

    def _batches(self, images: Sequence[RGB]) -> list[list[int]]:
        """Positions of images that can be looked at together."""
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"an image of {image.dtype}, shape {image.shape}; needed is RGB, uint8, (H, W, 3)")
            shrink = min(1.0, self.max_resolution / max(*image.shape[:2], 1))
            if int(min(image.shape[:2]) * shrink):
                alike[image.shape].append(position)
        return [same[start : start + _BATCH] for same in alike.values() for start in range(0, len(same), _BATCH)]

    def _forget_sizes(self) -> None:
        """Keep the library from remembering the anchors of every size of image that it ever saw."""
        net = self._detector.net
        cache: dict[Any, Any] = getattr(self._detector, "prior_box_cache", None) or getattr(net, "prior_cache", {})
        if len(cache) > _SIZES:
            cache.clear()


def build(name: str, settings: SearchedFaceSettings, device: str) -> TorchFaces:
    """Build the detector of a name that the settings describe."""
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


def _detections(rows: NDArray[np.float32], width: int, height: int) -> Detections:
    """Take detections from the library's rows x1, y1, x2, y2, score, which may leave the image."""
    found = geometry.clip_boxes(rows[:, :4], width, height)
    inside = geometry.compute_area(found) > 0
    return Detections(geometry.as_boxes(found[inside]), rows[inside, 4].astype(np.float32))


def patch_library() -> None:
    """Put right what is wrong in face-detection 0.2.2.

    This replaces two functions inside the library: its generator of anchors, by one that computes the same in 64 bits,
    and its download of weights, by `detectime.storage.downloads`. `detectime.detectors.face_detection_patch` calls it.
    """
    try:
        from face_detection.dsfd import detect as dsfd
        from face_detection.retinaface import detect as retinaface
        from face_detection.retinaface import prior_box
    except ImportError:
        return  # something else of this name
    prior_box.generate_prior_box = generate_anchors
    dsfd.load_state_dict_from_url = retinaface.load_state_dict_from_url = load_state_dict


def generate_anchors(feature_maps: Any, image_size: Any, steps: Any, min_sizes: Any) -> NDArray[np.float32]:
    """Anchors of an image: centre x, centre y, width, height, as shares of it, in the library's order, float32, flat.

    Parameters
    ----------
    feature_maps
        Rows and columns of each level's grid, shape (L, 2).
    image_size
        Height and width in pixels.
    steps
        Pixels between the centres of each level, shape (L,).
    min_sizes
        Sides in pixels of the anchors in a cell of each level, shape (L, S).
    """
    height, width = (int(side) for side in image_size)
    levels = []
    for (rows, columns), step, sides in zip(
        np.asarray(feature_maps, np.int64), np.asarray(steps, np.int64), np.asarray(min_sizes, np.int64), strict=True
    ):
        level = np.empty((rows, columns, len(sides), 4), np.float32)
        level[..., 0] = ((np.arange(columns) + 0.5) * step / width)[None, :, None]
        level[..., 1] = ((np.arange(rows) + 0.5) * step / height)[:, None, None]
        level[..., 2] = sides / width
        level[..., 3] = sides / height
        levels.append(level.ravel())
    return np.concatenate(levels)


def load_state_dict(url: str, *_: Any, map_location: Any = None, **__: Any) -> dict[str, Any]:
    """Load the weights of which the library knows a dead address; the file lies in torch's cache afterwards.

    Raises
    ------
    WeightsError
        If they cannot be had, or if the file is not what it should be.
    """
    name = Path(urlparse(url).path).name
    (file,) = (file for file in WEIGHTS.values() if file.name == name)
    return _read(downloads.fetch_weights(file, downloads.find_torch_cache()), map_location)


def _read(path: Path, map_location: Any) -> dict[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the old format that the files of 2019 have
            state = torch.load(path, map_location=map_location, weights_only=True)  # executes nothing in the file
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path}: these are no weights that torch can read ({first}); delete them") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: these are no weights, but a {type(state).__name__}; delete them")
    return state
