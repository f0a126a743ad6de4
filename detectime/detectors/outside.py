"""Detectors from outside the package, named ``my_package.module:build``: see ``docs/detectors.md``."""

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
    """A detector from outside, whose answers are checked before they are stored.

    Parameters
    ----------
    detector
        What its `build` returned.
    name
        ``my_package.module:build``, for messages.
    """

    detector: Any
    name: str

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Ask the detector, and clip its boxes to their images. It is not asked about no image at all.

        Raises
        ------
        ValueError
            If it returns anything but one `Detections` for each image, or a box or a score that cannot be.
        """
        if not images:
            return []
        found = self.detector.detect(images, regions)
        if not isinstance(found, Sequence) or len(found) != len(images):
            what = f"{len(found)} results" if isinstance(found, Sequence) else f"a {type(found).__name__}"
            raise ValueError(f"{self.name} returned {what} for {len(images)} images; accepted: a list, one for each")
        return [self._check(one, image) for one, image in zip(found, images, strict=True)]

    def _check(self, found: Any, image: RGB) -> Detections:
        if not isinstance(found, Detections):
            raise ValueError(f"{self.name} returned a {type(found).__name__} for an image; accepted: Detections")
        height, width = image.shape[:2]
        inside = geometry.as_boxes(geometry.clip_boxes(found.boxes, width, height))
        # Written so that a NaN is wrong too.
        for box in found.boxes[~(geometry.compute_area(inside) > 0)][:1]:
            raise ValueError(
                f"{self.name} returned the box {box.tolist()} for an image of {width} x {height} pixels; accepted: "
                "x1, y1, x2, y2 with x1 < x2 and y1 < y2, of which something is inside the image"
            )
        for score in found.scores[~((found.scores >= 0) & (found.scores <= 1))][:1]:
            raise ValueError(f"{self.name} returned the score {score}; accepted: 0 to 1")
        return found if np.array_equal(inside, found.boxes) else replace(found, boxes=inside)


def is_outside(name: str) -> bool:
    """Whether a name of a detector is that of one from outside.

    Examples
    --------
    >>> is_outside("my_package.hands:build"), is_outside("mediapipe")
    (True, False)
    """
    return ":" in name


def describe_outside(name: str, key: str, settings: Mapping[str, Any], device: str) -> DetectorSpec:
    """Build a detector from outside, to learn what it says of itself.

    Parameters
    ----------
    name
        ``my_package.module:build``, where ``build(settings, device)`` returns the detector.
    key
        Of the configuration, for messages.
    settings
        Its section of `detection.detector_settings`.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Returns
    -------
    DetectorSpec
        With its `fingerprint`, and its `revision`, `search`, `reach` and `reduced` where it has them. The first
        detector that it builds is the one that was built here, so that a worker loads weights once. Whoever asks for
        the fingerprint starts workers and does not look itself: the detector is let go then.

    Raises
    ------
    ConfigError
        If it cannot be imported or built, has no fingerprint, or says of itself what cannot be.
    """
    detector = _build(name, key, settings, device)
    if not callable(getattr(detector, "detect", None)):
        raise ConfigError(f"{key} = {name!r}: what it returns has no method detect(images, regions=None)")
    distribution, fingerprint = _find_distribution(name), _read_fingerprint(detector, name, key)
    read = partial(_read_property, detector, name, key)
    built = [detector]

    def build(settings: Mapping[str, Any], device: str) -> CheckedDetector:
        return CheckedDetector(built.pop() if built else _build(name, key, settings, device), name)

    def tell_fingerprint(_: Any) -> dict[str, str]:
        built.clear()
        return fingerprint

    return DetectorSpec(
        name,
        settings=type(None),
        build=build,
        find_weights=lambda _: [],
        revision=read("revision", 1, lambda value: type(value) is int and value >= 1, "a whole number, 1 or more"),
        search=read("search", "face", lambda value: value in ("face", "frame"), "face, frame"),
        reach=read("reach", 2.0, _is_coefficient, "a number above 0"),
        reduced=read("reduced", True, lambda value: type(value) is bool, "True, False"),
        distribution=distribution,
        version=importlib.metadata.version(distribution) if distribution else None,
        own_fingerprint=tell_fingerprint,
    )


def _build(name: str, key: str, settings: Mapping[str, Any], device: str) -> Any:
    build = _import(name, key)
    try:
        return build(copy.deepcopy(dict(settings)), device)
    except (Exception, SystemExit) as error:  # whatever somebody else's code raises
        raise ConfigError(
            f"{key} = {name!r}: it cannot be built with {dict(settings)!r}: {type(error).__name__}: {error}"
        ) from error


def _import(name: str, key: str) -> Callable[[dict[str, Any], str], Any]:
    module, _, attribute = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # whatever an import meets
        raise ConfigError(
            f"{key} = {name!r}: it cannot be imported: {type(error).__name__}: {error}; accepted: "
            "package.module:function, which this Python can import"
        ) from error
    if not callable(build):
        raise ConfigError(f"{key} = {name!r}: {attribute} is not callable; accepted: build(settings, device)")
    return build  # type: ignore[no-any-return]


def _read_property(
    detector: Any, name: str, key: str, what: str, default: Any, accepts: Callable[[Any], bool], accepted: str
) -> Any:
    """Return what a detector says of itself, or the default where it says nothing."""
    value = getattr(detector, what, default)
    if not accepts(value):
        raise ConfigError(f"{key} = {name!r}: its {what} is {value!r}; accepted: {accepted}")
    return value


def _is_coefficient(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _read_fingerprint(detector: Any, name: str, key: str) -> dict[str, str]:
    """Return what the detector says of its weights and its algorithm, as text by name."""
    found = getattr(detector, "fingerprint", None)
    if callable(found):
        try:
            found = found()
        except Exception as error:  # whatever somebody else's code raises
            raise ConfigError(f"{key} = {name!r}: its fingerprint(): {type(error).__name__}: {error}") from error
    found = {"fingerprint": found} if isinstance(found, str) and found else found
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, str) and v for v in found.values()):
        raise ConfigError(
            f"{key} = {name!r}: the detector has no fingerprint, so that a run could mix its boxes with those of other "
            "weights; give it an attribute or method `fingerprint`: text, or names and texts, such as the sha256 of "
            "its weights and its version"
        )
    return {str(part): text for part, text in found.items()}


def _find_distribution(name: str) -> str | None:
    """Return the installed distribution that the module of a name comes from; None if it is no part of one."""
    module = name.partition(":")[0]
    found = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    if len(found) > 1:  # parts of a namespace
        path = module.replace(".", "/")
        found = [one for one in found if any(str(f).startswith(path) for f in importlib.metadata.files(one) or ())]
    return found[0] if found else _find_editable(getattr(sys.modules[module], "__file__", None))


def _find_editable(file: str | None) -> str | None:
    """Return the distribution, installed as editable (PEP 660), whose folder holds a file; None if none does.

    A file that lies in a clone of detectime is no part of detectime.
    """
    for distribution in importlib.metadata.distributions() if file else ():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        folder = url2pathname(urlparse(origin.get("url", "")).path)
        is_there = origin.get("dir_info", {}).get("editable") and Path(str(file)).is_relative_to(folder)
        if is_there and distribution.name != "detectime":
            return distribution.name
    return None
