"""Detectors on onnxruntime and torch: devices, sessions, and images as the input of a network."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.errors import ConfigError
from detectime.images import RGB

CUDA = "CUDAExecutionProvider"
_TOGETHER = 16  # images that a network gets at a time


def choose_torch_device(name: str) -> Any:
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


def choose_providers(device: str) -> list[str]:
    """Return onnxruntime's names of the device that ``detection.device`` names, and of what does the rest.

    Raises
    ------
    ConfigError
        If a GPU is asked for and onnxruntime knows none.
    """
    import onnxruntime

    known = CUDA in onnxruntime.get_available_providers()
    available = known and _count_gpus() > 0
    if device == "cuda" and not available:
        reason = "there is no GPU that answers" if known else "this onnxruntime cannot use one (onnxruntime-gpu can)"
        raise ConfigError(f"detection.device = 'cuda': {reason}; accepted here: auto, cpu")
    return [*([CUDA] if available and device != "cpu" else []), "CPUExecutionProvider"]


@functools.cache
def _count_gpus() -> int:
    """Count the GPUs that NVIDIA's driver knows: onnxruntime only says what it was built for."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def open_session(path: Path, device: str = "cpu") -> Any:
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
    session = onnxruntime.InferenceSession(str(path), options, providers=choose_providers(device))
    if device == "cuda" and CUDA not in session.get_providers():  # onnxruntime only logs that a GPU does not answer
        raise ConfigError("detection.device = 'cuda': onnxruntime found no GPU that works; accepted here: auto, cpu")
    return session


def run_session(
    session: Any, names: Sequence[str], images: Sequence[RGB], prepare: Callable[[Sequence[RGB]], NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Run a session on images of one size, a few at a time: memory does not grow with their number.

    Returns
    -------
    list of ndarray
        For each of the outputs `names` what the session gives for all images, which `prepare` makes its input of.
    """
    answers = [
        session.run(list(names), {"input": prepare(images[k : k + _TOGETHER])})
        for k in range(0, len(images), _TOGETHER)
    ]
    return [np.concatenate(each) for each in zip(*answers, strict=True)]


def crop_region(image: RGB, region: Floats) -> tuple[RGB, Floats] | None:
    """Cut a region, in whole pixels, out of an image: its pixels, and its x, y; None where nothing of it is inside."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = geometry.round_outward(geometry.clip_boxes(region, width, height))
    return (image[y1:y2, x1:x2], np.array([x1, y1], float)) if x2 > x1 and y2 > y1 else None
