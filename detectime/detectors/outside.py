"""Outside detectors: those of other packages, named ``my_package.module:build``. See ``docs/detectors.md``."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors.contract import Detections, DetectorSpec
from detectime.errors import ConfigError
from detectime.images import RGB


@dataclass(frozen=True)
class CheckedDetector:
    """An outside detector whose detections are validated before they are stored.

    Parameters
    ----------
    detector
        The object that its `build` returned.
    name
        ``my_package.module:build``, for messages.

    Examples
    --------
    >>> class Left:
    ...     def detect(self, images, regions=None):
    ...         return [Detections(np.array([[-5, 0, 9, 9]], np.float32), np.array([0.5], np.float32)) for _ in images]
    >>> (found,) = CheckedDetector(Left(), "my_hands:build").detect([np.zeros((48, 64, 3), np.uint8)])
    >>> found.boxes.tolist()
    [[0.0, 0.0, 9.0, 9.0]]
    """

    detector: Any
    name: str

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Run the detector and clip its boxes to the images. The detector is not called for an empty batch.

        Parameters
        ----------
        images, regions
            As `contract.Detector.detect`.

        Raises
        ------
        ValueError
            If it returns anything but one `Detections` per image, or an invalid box or score.
        """
        if not images:
            return []
        found = self.detector.detect(images, regions)
        if not isinstance(found, Sequence) or len(found) != len(images):
            returned = f"{len(found)} results" if isinstance(found, Sequence) else f"a {type(found).__name__}"
            raise ValueError(
                f"{self.name} returned {returned} for {len(images)} images; accepted: a list with one result per image"
            )
        return [self._check(one, image) for one, image in zip(found, images, strict=True)]

    def _check(self, found: Any, image: RGB) -> Detections:
        if not isinstance(found, Detections):
            raise ValueError(f"{self.name} returned a {type(found).__name__} for an image; accepted: Detections")
        height, width = image.shape[:2]
        inside = geometry.as_boxes(geometry.clip_boxes(found.boxes, width, height))
        # Both comparisons are negated so that NaN fails them.
        for box in found.boxes[~(geometry.compute_area(inside) > 0)][:1]:
            raise ValueError(
                f"{self.name} returned the box {box.tolist()} for an image of {width} x {height} pixels; accepted: "
                "x1, y1, x2, y2 with x1 < x2 and y1 < y2, at least partly inside the image"
            )
        for score in found.scores[~((found.scores >= 0) & (found.scores <= 1))][:1]:
            raise ValueError(f"{self.name} returned the score {score}; accepted: 0 to 1")
        return found if np.array_equal(inside, found.boxes) else replace(found, boxes=inside)


def is_outside(name: str) -> bool:
    """Whether a name is that of an outside detector.

    Examples
    --------
    >>> is_outside("my_package.hands:build"), is_outside("mediapipe")
    (True, False)
    """
    return ":" in name


def describe_outside(name: str, key: str, settings: Mapping[str, Any], device: str) -> DetectorSpec:
    """Build an outside detector and read its properties.

    Parameters
    ----------
    name
        ``my_package.module:build``, where ``build(settings, device)`` returns the detector.
    key
        Key of the configuration that holds the name, for messages.
    settings
        Its section of `detection.detector_settings`.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Returns
    -------
    DetectorSpec
        With the detector's `fingerprint`, and with its `revision`, `search`, `reach` and `reduced` if it has them. The
        first call of the spec's `build` returns the detector built here, so that a worker loads the weights once; a
        call of its `fingerprint` drops that detector, since only a driver, which runs no detection, needs it.

    Raises
    ------
    ConfigError
        If it cannot be imported or built, has no fingerprint, or a property has an invalid value.
    """
    detector = _build_detector(name, key, settings, device)
    if not callable(getattr(detector, "detect", None)):
        raise ConfigError(f"{key} = {name!r}: the object it returns has no method detect(images, regions=None)")
    distribution, fingerprint = _find_distribution(name), _read_fingerprint(detector, name, key)
    read = partial(_read_property, detector, name, key)
    built = [detector]

    def build(settings: Mapping[str, Any], device: str) -> CheckedDetector:
        return CheckedDetector(built.pop() if built else _build_detector(name, key, settings, device), name)

    def get_fingerprint(_: Any) -> dict[str, str]:
        built.clear()  # free the weights
        return fingerprint

    return DetectorSpec(
        name,
        settings=type(None),
        build=build,
        find_weights=lambda _: [],
        revision=read("revision", 1, lambda value: type(value) is int and value >= 1, "a whole number of 1 or more"),
        search=read("search", "face", lambda value: value in ("face", "frame"), "face, frame"),
        reach=read("reach", 2.0, _is_coefficient, "a number above 0"),
        reduced=read("reduced", True, lambda value: type(value) is bool, "True, False"),
        distribution=distribution,
        version=importlib.metadata.version(distribution) if distribution else None,
        own_fingerprint=get_fingerprint,
    )


def _build_detector(name: str, key: str, settings: Mapping[str, Any], device: str) -> Any:
    build = _import_function(name, key)
    try:
        return build(copy.deepcopy(dict(settings)), device)
    except (Exception, SystemExit) as error:  # other people's code may raise anything
        raise ConfigError(
            f"{key} = {name!r}: cannot be built with {dict(settings)!r}: {type(error).__name__}: {error}"
        ) from error


def _import_function(name: str, key: str) -> Callable[[dict[str, Any], str], Any]:
    module, _, attribute = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # other people's code may raise anything
        raise ConfigError(
            f"{key} = {name!r}: cannot be imported: {type(error).__name__}: {error}; accepted: "
            "package.module:function, importable by this Python"
        ) from error
    if not callable(build):
        raise ConfigError(f"{key} = {name!r}: {attribute} is not callable; accepted: build(settings, device)")
    return build  # type: ignore[no-any-return]


def _read_property(
    detector: Any, name: str, key: str, attribute: str, default: Any, accepts: Callable[[Any], bool], accepted: str
) -> Any:
    """Return an attribute of a detector, or the default if it has none, after a check."""
    value = getattr(detector, attribute, default)
    if not accepts(value):
        raise ConfigError(f"{key} = {name!r}: its {attribute} is {value!r}; accepted: {accepted}")
    return value


def _is_coefficient(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _read_fingerprint(detector: Any, name: str, key: str) -> dict[str, str]:
    """Return the detector's description of its weights and algorithm, as texts by name."""
    found = getattr(detector, "fingerprint", None)
    if callable(found):
        try:
            found = found()
        except Exception as error:  # other people's code may raise anything
            raise ConfigError(f"{key} = {name!r}: fingerprint() raises {type(error).__name__}: {error}") from error
    found = {"fingerprint": found} if isinstance(found, str) and found else found
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, str) and v for v in found.values()):
        raise ConfigError(
            f"{key} = {name!r}: the detector has no fingerprint, so a run could mix boxes from different weights; give "
            "it an attribute or method `fingerprint`: a text, or a dict of texts, such as the sha256 of its weights"
        )
    return {str(part): text for part, text in found.items()}


def _find_distribution(name: str) -> str | None:
    """Return the installed distribution that contains the module of a name; None if there is none."""
    module = name.partition(":")[0]
    found = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    if len(found) > 1:  # parts of a namespace package
        path = module.replace(".", "/")
        found = [one for one in found if any(str(f).startswith(path) for f in importlib.metadata.files(one) or ())]
    return found[0] if found else _find_editable(getattr(sys.modules[module], "__file__", None))


def _find_editable(file: str | None) -> str | None:
    """Return the editable distribution (PEP 660) whose folder contains a file; None if there is none.

    A user's file in a clone of detectime does not count as part of detectime.
    """
    for distribution in importlib.metadata.distributions() if file else ():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        folder = url2pathname(urlparse(origin.get("url", "")).path)
        contains_file = origin.get("dir_info", {}).get("editable") and Path(str(file)).is_relative_to(folder)
        if contains_file and distribution.name != "detectime":
            return distribution.name
    return None
