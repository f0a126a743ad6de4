"""The contract of a detector: its `detect` method, its `Detections`, and the `DetectorSpec` that describes it."""

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
from detectime.errors import DocumentedError
from detectime.images import RGB
from detectime.schema import LANDMARKS
from detectime.settings import CHECKED, Coefficient, Names, Share
from detectime.storage import downloads
from detectime.storage.downloads import WeightsFile

Quality = Literal["fast", "balanced", "best"]
"""A word for values of many keys of `detection`: see `detectime.detectors.quality`."""


@dataclass(frozen=True)
class Detections:
    """Detections in one image, in the order the detector returned them, in pixels of the image.

    The optional arrays are None if the detector does not provide them.

    Parameters
    ----------
    boxes
        float32, shape (N, 4): x1, y1, x2, y2, inside the image.
    scores
        float32, shape (N,), 0…1.
    landmarks
        float32, shape (N, 21, 3): x, y, z of the landmarks of each hand, all in pixels, z relative to the wrist.
    presence
        float32, shape (N,): probability that the box holds a hand.
    handedness
        float32, shape (N,): probability of a right hand, assuming that the image is not mirrored.
    proposals
        float32, shape (N, 5): x1, y1, x2, y2 and score of each box before refinement; it may extend outside the image.

    Raises
    ------
    ValueError
        If an array has another shape or dtype.

    Examples
    --------
    >>> found = Detections(np.array([[10, 20, 40, 60]], np.float32), np.array([0.9], np.float32))
    >>> len(found), found.landmarks is None
    (1, True)
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None = None
    presence: NDArray[np.float32] | None = None
    handedness: NDArray[np.float32] | None = None
    proposals: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check the shape and the dtype of each array."""
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
                raise ValueError(f"{name}: shape {values.shape}; expected {shape}, one row per score")
            if values.dtype != np.float32:
                raise ValueError(f"{name}: dtype {values.dtype}; expected float32")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Detections:
        """Return empty detections.

        Examples
        --------
        >>> Detections.none().boxes.shape
        (0, 4)
        """
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32))


class UnknownFrameError(DocumentedError, LookupError):
    """The face cache has no faces for a frame; the message gives the reason."""


class Detector(Protocol):
    """Any object with this `detect` method."""

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Detect faces, or hands, in a batch of images.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3); sizes may differ.
        regions
            For each image the regions to search, float, shape (N, 4); None searches whole images.

        Returns
        -------
        list of Detections
            One per image.
        """
        ...


@checked_dataclass(frozen=True, config=CHECKED)
class FaceSettings:
    """Keys that every face detector and the face cache read."""

    face_confidence: Share = 0.6
    """Minimum score of a face."""
    face_max_resolution: Annotated[int, Field(ge=32, le=8192)] = 640
    """The largest longer side of the shrunk frame, in pixels; face detectors without a first resolution use this one
    alone. A larger value detects smaller faces."""


@checked_dataclass(frozen=True, config=CHECKED)
class SearchedFaceSettings(FaceSettings):
    """Keys of face detectors that process the pixels of the frame."""

    face_nms: Share = 0.3
    """Of two faces that overlap more than this (IoU), only the one with the higher score is kept."""


@checked_dataclass(frozen=True, config=CHECKED)
class SharedSettings:
    """Keys of `detection` that belong to no single detector: which detectors run, how frames are read and searched."""

    quality: Quality | None = "balanced"
    """fast: the least time; downloads weights of 1.5 MB once | balanced: with the weights in the package alone | best:
    the best boxes, for more time; downloads 1.2 MB of weights. The word sets those of the keys below that are not set:
    see docs/configuration.md; null: no word, as in runs of 0.2."""
    detector_type: str = "retinaface"
    """Face detector: retinaface; yunet (0.3 MB, downloaded); those of 2021: RetinaNetMobileNetV1, RetinaNetResNet50,
    DSFDDetector; face_cache: no detection, the faces are known."""
    hand_detector: Annotated[Names, Field(min_length=1)] = ("mediapipe",)
    """Hand detector: mediapipe, hagrid (1.2 MB, downloaded), mask_rcnn (that of 2021), your own as
    package.module:function (docs/detectors.md), or a list: each runs where those before it detected no hand near a
    face."""
    near_coefficient: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.5
    """Near means touching the square around a face with this half side, in face lengths; 0: all hand detectors run."""
    search: Literal["face", "frame"] | None = None
    """face: hands near the faces | frame: anywhere in a frame with a face | null: the detector's default."""
    search_coefficient: Coefficient | None = None
    """Search near faces: half side of the square around a face, in face lengths; null: the detector's default."""
    whole_frame: bool | None = None
    """true: also search the whole frame if no hand is near a face; null: if `fallback` is frame, or this run did
    before."""
    reduced_decoding: bool = True
    """Decode a JPEG much larger than the detectors need at 1/2, 1/4 or 1/8 size."""
    exif: Literal["apply", "ignore"] = "apply"
    """apply: frames are turned upright, as viewers and players show them, by their EXIF orientation or a video's
    display matrix | ignore: they are used as stored."""
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = 100_000_000  # the upper limit is Pillow's own
    """A frame with more pixels is `unreadable`; only its header is read."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one | cpu | cuda. A run is not bound to it."""
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Frames processed together; null: 1, on a GPU 16. A run is not bound to it."""

    @property
    def pixels(self) -> str:
        """Which pixels boxes are in: those of the ``upright`` frame, or of the frame as ``stored``."""
        return "upright" if self.exif == "apply" else "stored"


@dataclass(frozen=True)
class DetectorSpec:
    """Properties of a detector that are known before it is built. Each built-in detector's module has a ``SPEC``.

    Parameters
    ----------
    name
        Value of `detector_type` or `hand_detector`; also stored in the detections table.
    settings
        Dataclass whose fields are the keys of `detection` that this detector reads.
    build
        Function of the settings and the device (``auto``, ``cpu``, ``cuda``) that loads and returns the `Detector`.
    find_weights
        Function of the settings that returns the paths of the weights files and downloads missing ones.
    revision
        Number to raise whenever the same settings and weights give different boxes, also through a new default of
        `search` or `reach`. A run of an earlier revision cannot be grown.
    trust
        Rank among hand detectors: by the pairing rule ``2021``, where two detect different hands near a face, the
        higher rank wins.
    doubt
        Presence below which a hand does not count as found, so that the next detector is asked.
    confidence
        Name of the key, among its settings, that holds the score threshold.
    search, reach
        Default region for hand search: the whole ``frame``, or near a ``face`` with `reach` as the coefficient of the
        context square.
    reduced
        Whether it accepts a frame decoded at a reduced size.
    coarse
        Whether it starts at a low resolution and may miss a face that is smaller than another one in the frame.
    by_name
        Whether it is a `face_cache.FaceCache`, which finds faces by the frame's name and processes no pixels.
    pinned
        Weights files whose sha256 is known in advance.
    packaged
        Names of weights that the package contains, used beside the pinned ones.
    needs, extra
        Modules that it imports, and the extra that installs them.
    distribution, version
        Installed distribution of an outside detector; None if it belongs to none.
    own_fingerprint
        Function of the settings that returns texts by name which identify the weights, or the cached faces; None means
        the sha256 of each weights file.

    Examples
    --------
    >>> spec = DetectorSpec("mine", FaceSettings, build=lambda settings, device: ..., find_weights=lambda settings: [])
    >>> spec.revision, spec.search
    (1, 'face')
    """

    name: str
    settings: type
    build: Callable[[Any, str], Any]
    find_weights: Callable[[Any], list[Path]]
    revision: int = 1
    trust: int = 0
    doubt: float = 0.0
    confidence: str = ""
    search: Literal["face", "frame"] = "face"
    reach: float = 2.0
    reduced: bool = True
    coarse: bool = False
    by_name: bool = False
    pinned: tuple[WeightsFile, ...] = ()
    packaged: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    extra: str = ""
    distribution: str | None = None
    version: str | None = None
    own_fingerprint: Callable[[Any], dict[str, str]] | None = None

    def fingerprint(self, settings: Any) -> dict[str, str]:
        """Return texts by name that identify the weights. Files with a pinned sha256 need not exist.

        Raises
        ------
        WeightsError
            If a required file is missing and cannot be downloaded.

        Examples
        --------
        >>> from detectime.detectors.registry import HANDS, DetectionConfig
        >>> list(HANDS["mediapipe"].fingerprint(DetectionConfig()))
        ['palm_detection.onnx', 'hand_landmark.onnx']
        """
        if self.own_fingerprint is not None:
            return self.own_fingerprint(settings)
        if self.pinned:
            packaged = {name: downloads.hash_file(downloads.find_packaged_weights(name)) for name in self.packaged}
            return {file.name: file.sha256 or "" for file in self.pinned} | packaged
        return {path.name: downloads.hash_file(path) for path in self.find_weights(settings)}


def list_packaged_weights(*names: str) -> Callable[[Any], list[Path]]:
    """Return a `find_weights` function for weights that the package contains.

    Examples
    --------
    >>> [path.name for path in list_packaged_weights("palm_detection.onnx")(None)]
    ['palm_detection.onnx']
    """
    return lambda _: [downloads.find_packaged_weights(name) for name in names]
