"""Shared code of the detectors that run on onnxruntime or torch: device selection, sessions, crops."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.errors import ConfigError
from detectime.images import RGB

CUDA = "CUDAExecutionProvider"
_BATCH = 16  # images per inference


def choose_torch_device(name: str) -> Any:
    """Return the ``torch.device`` for a value of ``detection.device``.

    Parameters
    ----------
    name
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        If ``cuda`` is requested and torch has no CUDA device.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("detection.device = 'cuda': torch finds no CUDA device; accepted here: auto, cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def choose_providers(device: str) -> list[str]:
    """Return onnxruntime's execution providers for a value of ``detection.device``, in order of preference.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        If ``cuda`` is requested and not available.

    Examples
    --------
    >>> choose_providers("cpu")
    ['CPUExecutionProvider']
    """
    import onnxruntime

    is_supported = CUDA in onnxruntime.get_available_providers()
    available = is_supported and _count_gpus() > 0
    if device == "cuda" and not available:
        reason = "no GPU responds" if is_supported else "onnxruntime has no CUDA support; install onnxruntime-gpu"
        raise ConfigError(f"detection.device = 'cuda': {reason}; accepted here: auto, cpu")
    return [*([CUDA] if available and device != "cpu" else []), "CPUExecutionProvider"]


@functools.cache
def _count_gpus() -> int:
    """Count the GPUs that NVIDIA's driver reports; onnxruntime only lists the providers it was built with."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def open_session(path: Path, device: str = "cpu", dimensions: Mapping[str, int] | None = None) -> Any:
    """Open an ONNX model as a single-threaded onnxruntime session: there is one worker process per core.

    Parameters
    ----------
    path
        The ``.onnx`` file.
    device
        ``auto``, ``cpu`` or ``cuda``.
    dimensions
        Sizes by the names of the model's free dimensions. The graph is optimized for these sizes.

    Raises
    ------
    ConfigError
        If ``cuda`` is requested and not available.

    Examples
    --------
    >>> from detectime.storage.downloads import find_packaged_weights
    >>> [output.name for output in open_session(find_packaged_weights("palm_detection.onnx")).get_outputs()]
    ['boxes', 'scores']
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    for name, size in (dimensions or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(str(path), options, providers=choose_providers(device))
    if device == "cuda" and CUDA not in session.get_providers():  # onnxruntime falls back with only a log line
        raise ConfigError("detection.device = 'cuda': onnxruntime cannot use the GPU; accepted here: auto, cpu")
    return session


def run_session(
    session: Any, names: Sequence[str], images: Sequence[RGB], prepare: Callable[[Sequence[RGB]], NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Run a session on images of one size, in batches that bound the memory.

    Parameters
    ----------
    session
        From `open_session`; its only input is called ``input``.
    names
        Outputs to compute.
    images
        RGB, uint8, shape (H, W, 3), all of one size; at least one.
    prepare
        Function that converts a batch of images to the input array, float32.

    Returns
    -------
    list of ndarray
        For each of `names` the output for all images, stacked along the first axis.

    Examples
    --------
    >>> from detectime.storage.downloads import find_packaged_weights
    >>> session = open_session(find_packaged_weights("palm_detection.onnx"))
    >>> images = [np.zeros((192, 192, 3), np.uint8)] * 2
    >>> (scores,) = run_session(session, ["scores"], images, lambda batch: np.stack(batch).astype(np.float32) / 255)
    >>> scores.shape
    (2, 2016, 1)
    """
    batches = [
        session.run(list(names), {"input": prepare(images[start : start + _BATCH])})
        for start in range(0, len(images), _BATCH)
    ]
    if len(batches) == 1:  # as in most frames
        return list(batches[0])
    return [np.concatenate(outputs) for outputs in zip(*batches, strict=True)]


def stack_planes(images: Sequence[RGB]) -> NDArray[np.float32]:
    """Return images of one size with the channels first, float32, 0…255, shape (N, 3, H, W).

    Raises
    ------
    ValueError
        If the images do not have three channels, as from a source that breaks its contract.

    Examples
    --------
    >>> stack_planes([np.zeros((48, 64, 3), np.uint8)]).shape
    (1, 3, 48, 64)
    """
    if images[0].shape[2:] != (3,):  # else planes would be repeated without a word where a mean of three is subtracted
        raise ValueError(f"pixels of shape {images[0].shape}; expected (height, width, 3)")
    # In two thirds of the time that `cv2.dnn.blobFromImages` or a transposed copy takes.
    return np.array([cv2.split(image) for image in images], np.float32)


def crop_region(image: RGB, region: Floats) -> tuple[RGB, Floats] | None:
    """Crop a region, rounded outward to whole pixels and clipped to the image.

    Parameters
    ----------
    image
        RGB, uint8, shape (H, W, 3).
    region
        x1, y1, x2, y2 in pixels of the image, shape (4,).

    Returns
    -------
    tuple or None
        The crop, a view of `image`, and the x, y of its top left corner, float64, shape (2,); None if the region lies
        outside the image.

    Examples
    --------
    >>> crop, corner = crop_region(np.zeros((48, 64, 3), np.uint8), np.array([-5.0, 10.5, 20.0, 30.0]))
    >>> crop.shape, corner.tolist()
    ((20, 20, 3), [0.0, 10.0])
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = geometry.round_outward(geometry.clip_boxes(region, width, height)).tolist()
    return (image[y1:y2, x1:x2], np.array([x1, y1], float)) if x2 > x1 and y2 > y1 else None
