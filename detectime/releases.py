"""Defaults and names of earlier releases, for older ``config.yml`` files and older runs.

The defaults of a release are added here when it is made, and never changed afterwards: see ``CONTRIBUTING.md``.
"""

from __future__ import annotations

from typing import Any

from detectime.errors import ConfigError

CONFIG_VERSION = "0.3"
"""Value of `config_version` in the ``config.yml`` of this release."""

OLDEST = "0.2"
"""The release of a ``config.yml`` or a ``run.json`` that states none."""

OLD_PARAMETERS = {"source": "source_type"}
"""Old names of parameters and keys, which stay accepted, and their present names."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "0.2": {
        "data.source": None,
        "data.every": None,
        "data.hagrid_classes": {
            "stop": "stop", "peace": "victory", "mute": "mute", "ok": "ok", "like": "like", "dislike": "dislike",
        },
        "selection.classes": None,
        "selection.limit": None,
        "detection.detector_type": "retinaface",
        "detection.face_cache": None,
        "detection.face_cache_column": None,
        "detection.face_confidence": 0.6,
        "detection.face_nms": 0.3,
        "detection.face_max_resolution": 640,
        "detection.face_first_resolution": 160,
        "detection.hand_detector": ["mediapipe"],
        "detection.near_coefficient": 1.5,
        "detection.hand_confidence": 0.5,
        "detection.hagrid_confidence": 0.7,
        "detection.search": None,
        "detection.search_coefficient": None,
        "detection.whole_frame": None,
        "detection.landmark_margin": 0.1,
        "detection.mask_rcnn_confidence": 0.95,
        "detection.mask_rcnn_resize": "2021",
        "detection.precision": "float32",
        "detection.device": "auto",
        "detection.batch": None,
        "detection.reduced_decoding": True,
        "detection.exif": "ignore",
        "detection.max_pixels": 100_000_000,
        "pairing.crop_coefficient": 1.5,
        "pairing.crop_hand_coefficient": 1.5,
        "pairing.enlarged_classes": ["mute"],
        "pairing.fallback": "none",
        "pairing.wider_coefficient": 2.5,
        "run.workers": None,
        "run.save_per_num_images": 100,
        "run.frame_timeout": 60.0,
        "run.retry_failed": False,
        "run.engine": None,
        "run.ray_address": None,
        "run.worker_cpus": 1.0,
        "run.worker_gpus": 0.0,
        "run.start_timeout": 300.0,
        "display.samples_per_class": 4,
    },
}  # fmt: skip
DEFAULTS["0.3"] = {key: value for key, value in DEFAULTS["0.2"].items() if key != "data.source"} | {
    "data.source_type": None,
    "data.labels_type": None,
    "data.group_by": None,
    "data.span_zero": "player",
    "data.truth": None,
    "data.truth_pixels": None,
    "detection.quality": "balanced",
    "detection.exif": "apply",
    "detection.face_cache_pixels": None,
    "detection.detector_settings": {},
    "detection.landmark_margin": None,
    "pairing.rule": "confidence",
    "pairing.min_face_score": None,
    "pairing.min_hand_score": None,
    "run.redetect": False,
    "display.blur_faces": False,
}


IMPLIED: dict[str, dict[str, Any]] = {
    "0.2": {"data.span_zero": "first_picture", "detection.quality": None, "pairing.rule": "2021"}
}
"""What runs of a release did before there was a key for it."""


def check_version(version: Any, file: str) -> str:
    """Return the release that a ``config.yml`` was written for, as text; the oldest if it states none.

    Raises
    ------
    ConfigError
        If this version does not know the release.

    Examples
    --------
    >>> check_version(None, "config.yml")
    '0.2'
    """
    known = OLDEST if version is None else str(version)
    if known not in DEFAULTS:
        raise ConfigError(
            f"{file}: config_version = {version!r}: this detectime does not know it; accepted: {', '.join(DEFAULTS)}, "
            "or install the detectime that the file was written for"
        )
    return known


def find_release(version: str) -> str:
    """Return the release, in the form of `CONFIG_VERSION`, of a version of detectime.

    Examples
    --------
    >>> find_release("0.2.1")
    '0.2'
    """
    return ".".join(version.split(".")[:2])


def list_defaults(release: str, section: str) -> dict[str, Any]:
    """Return the default of each key of a section in a release, also of keys that it did not have yet.

    Examples
    --------
    >>> list_defaults("0.2", "pairing")["rule"]
    '2021'
    """
    values = DEFAULTS.get(release, {}) | IMPLIED.get(release, {})
    found = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{section}.")}
    return {OLD_PARAMETERS.get(name, name): value for name, value in found.items()}


def is_default(version: str, key: str, value: Any) -> bool:
    """Whether a value, in the form of `config.config_to_dict`, was the default of a key in a release.

    Examples
    --------
    >>> is_default("0.2", "detection.hand_detector", ["mediapipe"])
    True
    """
    defaults = DEFAULTS[version]
    if key not in defaults:
        section, _, name = key.partition(".")
        key = next((f"{section}.{old}" for old, new in OLD_PARAMETERS.items() if new == name), key)
    return key in defaults and bool(defaults[key] == value)
