"""What a detector is, what it returns, and what the package knows of it before it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime.boxes import Floats
from detectime.images import RGB
from detectime.schema import LANDMARKS
from detectime.settings import CHECKED, Coefficient, Names, Share
from detectime.storage import downloads
from detectime.storage.downloads import WeightsFile


@dataclass(frozen=True)
class Detections:
    """What was found in an image, in detector order, in pixels of the image.

    Parameters
    ----------
    boxes
        float32, shape (N, 4): x1, y1, x2, y2, inside the image.
    scores
        float32, shape (N,), 0…1.
    landmarks
        float32, shape (N, 21, 3): x, y, z of each hand's points, z in pixels too and 0 at the wrist. As the next three,
        None from a detector that does not tell.
    presence
        float32, shape (N,): the probability that it is a hand.
    handedness
        float32, shape (N,): the probability that it is a right hand, if the image is not mirrored.
    proposals
        float32, shape (N, 5): x1, y1, x2, y2 and score of each box before it was refined; it may leave the image.

    Raises
    ------
    ValueError
        If shapes or types are others.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None = None
    presence: NDArray[np.float32] | None = None
    handedness: NDArray[np.float32] | None = None
    proposals: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Refuse shapes and types that no detector may return."""
        count = self.scores.shape[:1]
        shapes = {
            "boxes": (*count, 4),
            "scores": count,
            "landmarks": (*count, LANDMARKS, 3),
            "presence": count,
            "handedness": count,
            "proposals": (*count, 5),
        }
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is None and name not in ("boxes", "scores"):
                continue
            if values.shape != shape or len(shape) < 1:
                raise ValueError(f"{name} have the shape {values.shape}; expected {shape}, N boxes as there are scores")
            if values.dtype != np.float32:
                raise ValueError(f"{name} are {values.dtype}; expected float32")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Detections:
        """Return what stands for nothing found."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32))


class UnknownFrameError(LookupError):
    """A frame whose faces a cache does not know; the message says why."""


class Detector(Protocol):
    """Anything with `detect`."""

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Find faces, or hands, in images.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each, of any sizes.
        regions
            For each image the boxes to search in, float, shape (N, 4); None: the whole image.

        Returns
        -------
        list of Detections
            One for each image.
        """
        ...


@checked_dataclass(frozen=True, config=CHECKED)
class FaceSettings:
    """Keys of every face detector, and of the face cache."""

    face_confidence: Share = 0.6
    face_max_resolution: Annotated[int, Field(ge=32, le=8192)] = 640


@checked_dataclass(frozen=True, config=CHECKED)
class SearchedFaceSettings(FaceSettings):
    """Keys of face detectors that look at the frame."""

    face_nms: Share = 0.3


@checked_dataclass(frozen=True, config=CHECKED)
class SharedSettings:
    """Keys of `detection` that belong to no single detector: which are used, how frames are read and searched."""

    detector_type: str = "retinaface"
    hand_detector: Annotated[Names, Field(min_length=1)] = ("mediapipe",)
    near_coefficient: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.5
    search: Literal["face", "frame"] | None = None
    search_coefficient: Coefficient | None = None
    whole_frame: bool | None = None
    reduced_decoding: bool = True
    exif: Literal["ignore", "apply"] = "ignore"
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = 100_000_000  # above it Pillow refuses an image itself
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None


@dataclass(frozen=True)
class DetectorSpec:
    """What is known of a detector before it is built. Each detector's module has one, called ``SPEC``.

    Parameters
    ----------
    name
        As `detector_type` or `hand_detector` names it, and as the detections table records it.
    settings
        A dataclass whose fields are the keys of `detection` that this detector reads.
    build
        Called with the settings and the device (``auto``, ``cpu``, ``cuda``), loads the `Detector`.
    find_weights
        Called with the settings, returns the weights files, and downloads what is not there.
    revision
        Raised whenever the same settings and weights give other boxes, a default of `search` or `reach` included: a run
        of an earlier revision is not grown by a later one.
    trust
        Where two detectors find different hands near a face, the hand of the more trusted one is kept.
    confidence
        The key of its least score among its settings.
    search, reach
        Where hands are searched unless the configuration says otherwise; near a face: the coefficient of the square.
    reduced
        Whether it may get a frame of fewer pixels than the file has.
    coarse
        Whether it looks at few pixels first, and may overlook a face beside a larger one.
    by_name
        Whether it looks at no pixels: it is a `face_cache.FaceCache`, asked by the frame's name, and its file is the
        user's.
    pinned
        Those of its files whose sha256 is known without them.
    needs, extra
        Modules that it imports, and the extra that installs them.
    distribution, version
        Of a detector from outside, the installed distribution that it comes from; None where there is none.
    own_fingerprint
        Called with the settings, tells one set of weights, or of known faces, from another, as text by name; None: the
        sha256 of each weights file.
    """

    name: str
    settings: type
    build: Callable[[Any, str], Any]
    find_weights: Callable[[Any], list[Path]]
    revision: int = 1
    trust: int = 0
    confidence: str = ""
    search: Literal["face", "frame"] = "face"
    reach: float = 2.0
    reduced: bool = True
    coarse: bool = False
    by_name: bool = False
    pinned: tuple[WeightsFile, ...] = ()
    needs: tuple[str, ...] = ()
    extra: str = ""
    distribution: str | None = None
    version: str | None = None
    own_fingerprint: Callable[[Any], dict[str, str]] | None = None

    def fingerprint(self, settings: Any) -> dict[str, str]:
        """Return what tells one set of weights from another; pinned files need not be there.

        Raises
        ------
        WeightsError
            If a file is needed and cannot be had.
        """
        if self.own_fingerprint is not None:
            return self.own_fingerprint(settings)
        if self.pinned:
            return {file.name: file.sha256 or "" for file in self.pinned}
        return {path.name: downloads.hash_file(path) for path in self.find_weights(settings)}


def list_packaged_weights(*names: str) -> Callable[[Any], list[Path]]:
    """Return the `find_weights` of a detector whose weights come with the package."""
    return lambda _: [downloads.find_packaged_weights(name) for name in names]
