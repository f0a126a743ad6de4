"""Detectors of faces and hands.

A detector is anything with ``detect(images, regions=None)``: `images` a sequence of RGB pixels (uint8, shape (H, W, 3))
of any sizes; `regions`, if given, for each image the boxes to search in, float, shape (N, 4); None searches the whole
image. It returns one `Detections` for each image, boxes in that image's pixels and inside it.

What a detector needs is imported when it is built, not before.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from detectime import weights
from detectime.boxes import Floats
from detectime.config import ConfigError, Detection, nearest
from detectime.images import RGB


@dataclass(frozen=True)
class Detections:
    """What was found in an image: `boxes` float32 (N, 4) in pixels, `scores` float32 (N,) in 0…1, in detector order."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse shapes and types that no detector may return."""
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or self.scores.shape != self.boxes.shape[:1]:
            raise ValueError(f"boxes {self.boxes.shape} and scores {self.scores.shape}; needed are (N, 4) and (N,)")
        if self.boxes.dtype != np.float32 or self.scores.dtype != np.float32:
            raise ValueError(f"boxes {self.boxes.dtype} and scores {self.scores.dtype}; needed is float32")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Detections:
        """Nothing was found."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32))


class Detector(Protocol):
    """What a detector is: see the module."""

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Return what is found in each image."""
        ...


@dataclass(frozen=True)
class Entry:
    """A detector that can be named in the configuration.

    `home` is where it is built; `weights` finds the files that it uses, or fetches them; `needs` are modules that the
    extra `extra` installs. A hand detector says where it searches if nobody says otherwise; a face detector that
    `shrinks` gets the frame as it is and obeys ``face_max_resolution`` itself.
    """

    home: str
    weights: Callable[[], list[Path]]
    needs: tuple[str, ...] = ()
    extra: str = ""
    search: Literal["face", "frame"] = "face"
    shrinks: bool = False

    def build(self, config: Detection) -> Detector:
        """Load the detector, weights and all."""
        module, build = self.home.split(":")
        detector: Detector = getattr(importlib.import_module(module), build)(config)
        return detector

    def fingerprint(self) -> dict[str, str]:
        """Sha256 of each weights file, by its name."""
        return {path.name: weights.sha256(path) for path in self.weights()}


def _packaged(*names: str) -> Callable[[], list[Path]]:
    return lambda: [weights.packaged(name) for name in names]


def _for_torch(name: str) -> Callable[[], list[Path]]:
    return lambda: [weights.fetch(weights.FACES[name], weights.torch_hub())]


FACES = {
    "retinaface": Entry("detectime.detectors.retinaface:build", _packaged("retinaface_mobilenet025.onnx")),
    **{
        name: Entry(
            "detectime.detectors.face_detection:build",
            _for_torch(name),
            needs=("torch", "torchvision", "face_detection"),
            extra="torch",
            shrinks=True,
        )
        for name in weights.FACES
    },
}
HANDS = {
    "mediapipe": Entry("detectime.detectors.mediapipe:build", _packaged("palm_detection.onnx", "hand_landmark.onnx")),
    "mask_rcnn": Entry(
        "detectime.detectors.mask_rcnn:build",
        lambda: [weights.find(weights.MASK_RCNN_HANDS)],
        needs=("torch", "h5py"),
        extra="torch",
        search="frame",
    ),
}


def check(config: Detection) -> None:
    """Refuse names that no detector has, before any work starts.

    Raises
    ------
    ConfigError
        If there is no detector of a name.
    """
    faces(config)
    hands(config)


def faces(config: Detection) -> Entry:
    """Return the face detector that ``detection.detector_type`` names.

    Raises
    ------
    ConfigError
        If there is none of that name, or if it needs an extra that is not installed.
    """
    return _find(FACES, "detection.detector_type", config.detector_type)


def hands(config: Detection) -> Entry:
    """Return the hand detector that ``detection.hand_detector`` names.

    Raises
    ------
    ConfigError
        If there is none of that name, or if it needs an extra that is not installed.
    """
    return _find(HANDS, "detection.hand_detector", config.hand_detector)


def _find(entries: dict[str, Entry], key: str, name: str) -> Entry:
    if name not in entries:
        raise ConfigError(f"{key}: there is no detector {name!r}; {nearest(name, entries)}")
    entry = entries[name]
    lacking = [module for module in entry.needs if importlib.util.find_spec(module) is None]
    if lacking:
        raise ConfigError(
            f"{key} = {name!r}: it needs {', '.join(lacking)}, which the light installation lacks; "
            f"install the extra: pip install -e .[{entry.extra}]"
        )
    return entry


def torch_device(name: str) -> Any:
    """Return the ``torch.device`` that ``detection.device`` names.

    Raises
    ------
    ConfigError
        If a GPU is asked for and torch sees none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("detection.device = 'cuda': torch sees no CUDA device; accepted here: auto, cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def session(path: Path) -> Any:
    """Open an ONNX model on onnxruntime for one thread: a process has one core, and more threads gain nothing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
