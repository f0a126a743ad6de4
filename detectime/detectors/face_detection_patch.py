"""A patch for face-detection 0.2.2, the library of the 2021 face detectors.

The published library has two faults: its anchors overflow 16 bits under NumPy 2, and the address of its weights returns
410 Gone. The patch replaces both functions inside the library. The 2021 import paths (`detectime.augmentations`,
`detectime.maskrcnn`, `detectime.utils`) install it, because notebooks of 2021 call ``face_detection.build_detector``
themselves, and so does building one of the detectors in `face_detection`. Installing the patch imports neither the
library nor torch.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from detectime.storage import downloads
from detectime.storage.downloads import WeightsError, WeightsFile

_COPY = (
    "release v0.1 of github.com/archiducarmel/FaceDetection_DSFD_RetinaFace, an unverified copy: the library's own "
    "address returns 410 Gone, and no sha256 was published"
)
WEIGHTS = {
    "RetinaNetMobileNetV1": WeightsFile(
        "RetinaFace_mobilenet025.pth",
        "github.com/hukkelas/DSFD-Pytorch-Inference, commit 382de8f (Apache-2.0)",
        "https://raw.githubusercontent.com/hukkelas/DSFD-Pytorch-Inference/"
        "382de8f715f9e4311e5d08241c1725e820cd8dce/RetinaFace_mobilenet025.pth",
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    ),
    # No address: a file without a known sha256 is only downloaded from a mirror that the user names.
    "RetinaNetResNet50": WeightsFile("RetinaFace_ResNet50.pth", _COPY),
    "DSFDDetector": WeightsFile("WIDERFace_DSFD_RES152.pth", _COPY),
}
"""Weights of face-detection 0.2.2, by the library's name of the detector."""

_LIBRARY = "face_detection"


class _PatchingFinder(MetaPathFinder):
    """Import hook that leaves finding face_detection to the other finders and patches it once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _LIBRARY:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            _patch_after_loading(spec.loader)
        return spec


def _patch_after_loading(loader: Any) -> None:
    execute = loader.exec_module

    def execute_and_patch(module: ModuleType) -> None:
        execute(module)
        patch_library()

    loader.exec_module = execute_and_patch


def install_patch() -> None:
    """Patch face_detection now if it is loaded, otherwise when it is imported.

    Examples
    --------
    >>> install_patch()
    """
    if _LIBRARY in sys.modules:
        patch_library()
    elif not any(isinstance(finder, _PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchingFinder())


def patch_library() -> None:
    """Replace the broken functions of face-detection 0.2.2: its anchor generator and its download of weights.

    Does nothing if a different module has the name face_detection.
    """
    try:
        from face_detection.dsfd import detect as dsfd
        from face_detection.retinaface import detect as retinaface
        from face_detection.retinaface import prior_box
    except ImportError:
        return
    prior_box.generate_prior_box = generate_anchors
    dsfd.load_state_dict_from_url = retinaface.load_state_dict_from_url = load_state_dict


def generate_anchors(feature_maps: Any, image_size: Any, steps: Any, min_sizes: Any) -> NDArray[np.float32]:
    """Generate the anchors of an image in the library's order, computed in 64 bits.

    Parameters
    ----------
    feature_maps
        Rows and columns of the grid of each level, shape (L, 2).
    image_size
        Height and width in pixels.
    steps
        Pixels between the centres of each level, shape (L,).
    min_sizes
        Sides, in pixels, of the anchors in a cell of each level, shape (L, S).

    Returns
    -------
    ndarray
        Centre x, centre y, width and height of each anchor relative to the image, float32, flat.

    Examples
    --------
    >>> generate_anchors([[1, 2]], (8, 16), [8], [[4]]).reshape(-1, 4).tolist()
    [[0.25, 0.5, 0.25, 0.5], [0.75, 0.5, 0.25, 0.5]]
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
    """Load weights by the file name in the library's dead address; the file is kept in torch's cache.

    Parameters
    ----------
    url
        The library's address; only its file name is used.
    map_location
        As in ``torch.load``. Other arguments of ``torch.hub.load_state_dict_from_url`` are ignored.

    Raises
    ------
    WeightsError
        If the file is missing and cannot be downloaded, or does not hold weights.
    """
    name = Path(urlparse(url).path).name
    (file,) = (file for file in WEIGHTS.values() if file.name == name)
    return _read_state_dict(downloads.fetch_weights(file, downloads.find_torch_cache()), map_location)


def _read_state_dict(path: Path, map_location: Any) -> dict[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the file format of 2019
            state = torch.load(path, map_location=map_location, weights_only=True)  # does not execute pickled code
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path}: torch cannot read weights from this file ({reason}); delete it") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: this file does not contain a dict of tensors; delete it")
    return state
