"""Detectors of faces and hands.

A detector is anything with ``detect(images, regions=None)``: `images` a sequence of RGB pixels (uint8, shape (H, W, 3))
of any sizes; `regions`, if given, for each image the boxes to search in, float, shape (N, 4); None searches the whole
image. It returns one `Detections` for each image, boxes in that image's pixels and inside it.

Where faces are known beforehand no detector looks: `face_cache` is asked by the name of a frame.

What a detector needs is imported when it is built, not before.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime import weights
from detectime.boxes import Floats
from detectime.config import FACE_CACHE, ConfigError, Detection, nearest
from detectime.images import RGB
from detectime.weights import File

_CUDA = "CUDAExecutionProvider"
_TOGETHER = 16  # images that a network gets at a time


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


class Unknown(LookupError):
    """A frame whose faces a cache does not know; the message says why."""


class Detector(Protocol):
    """What a detector is: see the module."""

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Return what is found in each image."""
        ...


@dataclass(frozen=True)
class Entry:
    """A detector that can be named in the configuration.

    `home` is where it is built; `weights` finds the files that it uses, or fetches them; `needs` are modules that the
    extra `extra` installs. A hand detector says where it searches if nobody says otherwise, near a face in the square
    of coefficient `reach` around it. A detector that is `reduced` may get a frame of fewer pixels than the file has;
    one that is `coarse` looks at a few pixels first, and may overlook a face beside a larger one. `pinned` are those of
    its files whose hash is known without them. What is asked `by_name` is no detector but a `face_cache.FaceCache`, and
    its file, wherever it lies, is the user's.
    """

    home: str
    weights: Callable[[], list[Path]]
    needs: tuple[str, ...] = ()
    extra: str = ""
    search: Literal["face", "frame"] = "face"
    reach: float = 2.0
    reduced: bool = True
    coarse: bool = False
    pinned: tuple[File, ...] = ()
    by_name: bool = False

    def build(self, config: Detection) -> Any:
        """Load the `Detector`, weights and all, or the face cache."""
        module, build = self.home.split(":")
        return getattr(importlib.import_module(module), build)(config)

    def fingerprint(self) -> dict[str, str]:
        """Sha256 of each weights file, by its name but for a cache's; files that are pinned need not be there."""
        if self.pinned:
            return {file.name: file.sha256 or "" for file in self.pinned}
        return {"rows" if self.by_name else path.name: weights.sha256(path) for path in self.weights()}


def _packaged(*names: str) -> Callable[[], list[Path]]:
    return lambda: [weights.packaged(name) for name in names]


def _for_torch(name: str) -> Callable[[], list[Path]]:
    return lambda: [weights.fetch(weights.FACES[name], weights.torch_hub())]


FACES = {
    "retinaface": Entry("detectime.detectors.retinaface:build", _packaged("retinaface_mobilenet025.onnx"), coarse=True),
    **{
        name: Entry(
            "detectime.detectors.face_detection:build",
            _for_torch(name),
            needs=("torch", "torchvision", "face_detection"),
            extra="torch",
            reduced=False,
        )
        for name in weights.FACES
    },
    FACE_CACHE: Entry("detectime.detectors.face_cache:build", list, by_name=True),
}
HANDS = {
    "mediapipe": Entry(
        "detectime.detectors.mediapipe:build", _packaged("palm_detection.onnx", "hand_landmark.onnx"), reach=2.1
    ),
    "hagrid": Entry(
        "detectime.detectors.hagrid:build",
        lambda: [weights.bring(weights.HAGRID_HANDS)],
        reach=2.6,
        pinned=(weights.HAGRID_HANDS,),
    ),
    "mask_rcnn": Entry(
        "detectime.detectors.mask_rcnn:build",
        lambda: [weights.find(weights.MASK_RCNN_HANDS)],
        needs=("torch", "h5py"),
        extra="torch",
        search="frame",
        reduced=False,
    ),
}


def check(config: Detection) -> None:
    """Refuse, before any work starts, detectors and devices that are not there, and a face cache that cannot be used.

    Raises
    ------
    ConfigError
        If there is no detector of a name, or none of the device that is asked for, or if the cache is wrong.
    """
    for entry in _all(config):
        if entry.by_name:
            entry.build(config)
        elif config.device == "cuda":
            torch_device("cuda") if "torch" in entry.needs else providers("cuda")


def prepare(config: Detection, frame_paths: Iterable[str]) -> None:
    """Do once, before work starts, what each worker would do: weights are downloaded.

    Raises
    ------
    ConfigError
        If the faces are to come from a cache that knows none of these frames.
    WeightsError
        If weights are not there and cannot be downloaded.
    """
    for entry in _all(config):
        entry.weights()
        if entry.by_name and not any(map(entry.build(config).knows, frame_paths)):
            raise ConfigError(
                f"detection.face_cache = {config.face_cache!r}: it knows none of the wanted frames; accepted: a cache "
                "whose frame_path are those of the labels"
            )


def faces(config: Detection) -> Entry:
    """Return the face detector that ``detection.detector_type`` names.

    Raises
    ------
    ConfigError
        If there is none of that name, or if it needs an extra that is not installed.
    """
    entry = _find(FACES, "detection.detector_type", config.detector_type)
    if entry.by_name:
        from detectime.detectors import face_cache

        return replace(entry, weights=lambda: [face_cache.file_of(config)])
    return entry


def hands(config: Detection) -> dict[str, Entry]:
    """Return the hand detectors that ``detection.hand_detector`` names, in the order in which they are asked.

    Raises
    ------
    ConfigError
        If there is none of a name, or if one needs an extra that is not installed.
    """
    return {name: _find(HANDS, "detection.hand_detector", name) for name in config.hand_detector}


def fingerprints(config: Detection) -> dict[str, dict[str, str]]:
    """Sha256 of the weights of each detector that a configuration names: detector, file, hash."""
    named = {config.detector_type: faces(config), **hands(config)}
    return {name: entry.fingerprint() for name, entry in named.items()}


def _all(config: Detection) -> list[Entry]:
    return [faces(config), *hands(config).values()]


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


def on_gpu(config: Detection) -> bool:
    """Whether the detectors work on a GPU: then a batch of frames costs less than one after another."""
    return all(
        torch_device(config.device).type == "cuda" if "torch" in entry.needs else _CUDA in providers(config.device)
        for entry in _all(config)
        if not entry.by_name
    )


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


def providers(device: str) -> list[str]:
    """Return onnxruntime's names of the device that ``detection.device`` names, and of what does the rest.

    Raises
    ------
    ConfigError
        If a GPU is asked for and onnxruntime knows none.
    """
    import onnxruntime

    known = _CUDA in onnxruntime.get_available_providers()
    available = known and _gpus() > 0
    if device == "cuda" and not available:
        reason = "there is no GPU that answers" if known else "this onnxruntime cannot use one (onnxruntime-gpu can)"
        raise ConfigError(f"detection.device = 'cuda': {reason}; accepted here: auto, cpu")
    return [*([_CUDA] if available and device != "cpu" else []), "CPUExecutionProvider"]


@functools.cache
def _gpus() -> int:
    """How many GPUs NVIDIA's driver knows: onnxruntime only says what it was built for."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def session(path: Path, device: str = "cpu") -> Any:
    """Open an ONNX model on onnxruntime for one thread: a process has one core, and more threads gain nothing.

    Raises
    ------
    ConfigError
        If there is no such device.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    opened = onnxruntime.InferenceSession(str(path), options, providers=providers(device))
    if device == "cuda" and _CUDA not in opened.get_providers():  # onnxruntime only logs that a GPU does not answer
        raise ConfigError("detection.device = 'cuda': onnxruntime found no GPU that works; accepted here: auto, cpu")
    return opened


def run(
    opened: Any, names: Sequence[str], images: Sequence[RGB], prepare: Callable[[Sequence[RGB]], NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Run a session on images of one size, a few at a time: memory does not grow with their number.

    Returns
    -------
    list of ndarray
        For each of the outputs `names` what the session gives for all images, which `prepare` makes its input of.
    """
    answers = [
        opened.run(list(names), {"input": prepare(images[k : k + _TOGETHER])}) for k in range(0, len(images), _TOGETHER)
    ]
    return [np.concatenate(each) for each in zip(*answers, strict=True)]


def crop(image: RGB, region: Floats) -> tuple[RGB, Floats] | None:
    """Cut a region, in whole pixels, out of an image: its pixels, and its x, y; None where nothing of it is inside."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = geometry.to_integers(geometry.clip(region, width, height))
    return (image[y1:y2, x1:x2], np.array([x1, y1], float)) if x2 > x1 and y2 > y1 else None
