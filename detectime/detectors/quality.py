"""The words of `detection.quality`: each stands for values of some keys of `detection`.

An explicit key counts more than the word, the word more than the default of the key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from detectime.detectors.contract import Quality
from detectime.detectors.registry import DetectionConfig, find_used_keys
from detectime.settings import list_defaults, list_field_names

BUNDLES: dict[str, dict[str, Any]] = {
    # Small networks come first: for faces, and one for hands that was trained on HaGRID; MediaPipe's palms are searched
    # where that one finds no hand.
    "fast": {"detector_type": "yunet", "hand_detector": ("hagrid", "mediapipe")},
    # The weights in the package: nothing is downloaded. The values are the defaults of the keys.
    "balanced": {"detector_type": "retinaface", "hand_detector": ("mediapipe",), "near_coefficient": 1.5},
    # Both hand detectors look at every frame, and boxes on which they agree are averaged.
    "best": {"hand_detector": ("hagrid", "mediapipe"), "near_coefficient": 0.0},
}
"""The keys that each word sets. `whole_frame` follows the user's `fallback`, and no word sets it."""


def find_defaults(detection: DetectionConfig) -> dict[str, Any]:
    """Return the value that each key of `detection` has, by the word and the detectors, if it is not set.

    A key of the word's that none of the detectors reads keeps its own default.

    Examples
    --------
    >>> find_defaults(DetectionConfig(quality="best"))["hand_detector"]
    ('hagrid', 'mediapipe')
    """
    used = find_used_keys(detection)
    bundle = BUNDLES.get(detection.quality or "", {})
    return list_defaults(type(detection)) | {key: value for key, value in bundle.items() if key in used}


def apply_quality(detection: DetectionConfig, quality: Quality | None, given: Collection[str]) -> DetectionConfig:
    """Return the configuration under a word: every key that is not given takes the word's value or its default.

    Parameters
    ----------
    detection
        The values of the keys that are given.
    quality
        The word; None: no word, only defaults.
    given
        Names of keys.

    Examples
    --------
    >>> apply_quality(DetectionConfig(near_coefficient=2.0), "best", ["near_coefficient"]).near_coefficient
    2.0
    """
    kept = {name: getattr(detection, name) for name in list_field_names(type(detection)) if name in given}
    kept["quality"] = quality
    # Which keys of the word apply depends on the detectors, which the word may set.
    detectors = dataclasses.replace(detection, **(find_defaults(type(detection)(quality=quality)) | kept))
    return dataclasses.replace(detectors, **(find_defaults(detectors) | kept))
