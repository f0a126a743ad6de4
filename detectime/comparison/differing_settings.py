"""Settings of two runs that differ, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from detectime import config as configuration
from detectime.config import PairingConfig
from detectime.runs import FinishedRun

_DIGEST = 12  # shown characters of a sha256
_SECTIONS = (
    "detection",
    "selection",
    "labels",
)  # of the configuration, all keys; `pairing` is that of the last pairing
_PLACES = (  # of `data`
    *("images", "labels", "source_type", "every", "span_zero", "truth", "truth_pixels", "hagrid_classes"),
)


def list_settings(run: FinishedRun) -> dict[str, str]:
    """Return what made the samples of a run: its settings, detectors and release, as text by dotted key.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> list_settings(open_run("output"))["pairing.fallback"]  # doctest: +SKIP
    'none'
    """
    found: dict[str, str] = {}
    for section in _SECTIONS:
        found |= _flatten(section, configuration.config_to_dict(getattr(run.config, section)))
    found |= list_pairing_settings(run.pairing)
    data = configuration.config_to_dict(run.config.data)
    found |= _flatten("data", {key: data[key] for key in _PLACES})
    for name, detector in run.manifest["detectors"].items():
        found |= _flatten(f"detectors.{name}", detector)
    return found | {"detectime": str(run.manifest["detectime"])}


def list_pairing_settings(settings: PairingConfig) -> dict[str, str]:
    """Return the settings of a pairing, as text by dotted key.

    Examples
    --------
    >>> list_pairing_settings(PairingConfig())["pairing.enlarged_classes"]
    'mute'
    """
    return _flatten("pairing", configuration.config_to_dict(settings))


def tabulate_differences(a: Mapping[str, str], b: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per key whose values differ: `key`, and `a`, `b`, empty where one lacks the key (text).

    Examples
    --------
    >>> tabulate_differences({"x": "1", "y": "2"}, {"x": "1", "y": "3", "z": "4"}).values.tolist()
    [['y', '2', '3'], ['z', '', '4']]
    """
    rows = [(key, a.get(key, ""), b.get(key, "")) for key in {**a, **b} if a.get(key) != b.get(key)]
    return pd.DataFrame(rows, columns=["key", "a", "b"], dtype="str")


def _flatten(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text by dotted key; sha256 sums are shortened."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        found |= _flatten(name, value) if isinstance(value, dict) else {name: _format_value(value)}
    return found


def _format_value(value: Any) -> str:
    if isinstance(value, str):
        return value[:_DIGEST] if len(value) == 64 and not set(value) - set("0123456789abcdef") else value
    if isinstance(value, list):
        return ", ".join(map(_format_value, value))
    return json.dumps(value, ensure_ascii=False)
