"""The sections of the report on what made the set: versions, weights, files by their sha256, the command, settings."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

import detectime
from detectime.config import LABELS, PARAMETERS, SECTIONS, Config, config_to_dict, list_differences
from detectime.detection.manifest import Manifest
from detectime.exports import hands_json
from detectime.notes import Note
from detectime.report.pages import locate_place
from detectime.report.sections import Section, Table
from detectime.runs import FinishedRun

_PLACES = ("images", "labels", "output")
_LONGEST_VALUE = 1_000  # characters of a setting
_MOST_ITEMS = 40
_NO_EFFECT = ("run.", "display.")
"""Sections whose keys change no result."""


def describe_provenance(run: FinishedRun) -> Section:
    """Show what made the set, and the command that makes it again."""
    made = run.manifest
    values = {"facts": _list_facts(run), "weights": _list_weights(made), "command": format_command(run)}
    return Section("provenance", "How it was made", values)


def describe_settings(run: FinishedRun) -> Section:
    """Show the settings: what differs from the defaults in view, everything folded."""
    config = use_last_pairing(run)
    differences = list_differences(config).items()
    changed = {key: _shorten_value(value) for key, value in differences if not key.startswith(_NO_EFFECT)}
    if config.labels != LABELS:
        changed["labels"] = _shorten_value(config.labels)
    everything = {
        f"{section}.{key}": _shorten_value(value)
        for section in SECTIONS
        for key, value in config_to_dict(getattr(config, section)).items()
    }
    everything["labels"] = _shorten_value(config.labels)
    return Section("settings", "Settings", {"changed": changed, "everything": everything})


def use_last_pairing(run: FinishedRun) -> Config:
    """Return the configuration of a run with the settings of its last pairing."""
    return dataclasses.replace(run.config, pairing=run.pairing)


def format_command(run: FinishedRun) -> str:
    """Return the command that makes the set again, with each setting that differs from its default.

    Parameters
    ----------
    run
        Its places are written as they were given.
    """
    config = use_last_pairing(run)
    changed = list_differences(config)
    settings = {key.partition(".")[2]: value for key, value in changed.items() if not key.startswith(_NO_EFFECT)}
    places = {name: getattr(config.data, name) for name in _PLACES}
    parts = ["detectime run"]
    for name, value in {**places, **{name: settings[name] for name in settings if name in PARAMETERS}}.items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else format_value(value)
        parts.append(f"--{name.replace('_', '-')} {shlex.quote(text)}")
    return " \\\n  ".join(parts)


def note_files(run: FinishedRun) -> list[Note]:
    """Note a ``hands.json`` that is not the one that the last pairing wrote, or that is gone."""
    record = run.manifest["pairing"] or {}
    written = record.get("hands_sha256")
    found = hash_samples(run)
    if written is None or found == written:
        return []
    what = "is gone" if found is None else "was edited after it was written"
    command = f"detectime pair {shlex.quote(str(run.store))}"
    text = f"The file {hands_json.FILE_NAME} {what}; this page shows what pairing gives: `{command}`."
    return [Note("edited", 1, text)]


def hash_samples(run: FinishedRun) -> str | None:
    """Return the sha256 of the ``hands.json`` in the folder of a run; None if there is none."""
    content = run.store.get(hands_json.FILE_NAME)
    return None if content is None else hashlib.sha256(content).hexdigest()


def format_value(value: Any) -> str:
    """Return a value as YAML writes it, in one line.

    Examples
    --------
    >>> format_value(None), format_value(True), format_value(["ok", "like"]), format_value("a b")
    ('null', 'true', '[ok, like]', 'a b')
    """
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1_000_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _shorten_value(value: Any) -> str:
    """Return a value as `format_value` does; of many labels or names, the first."""
    shown, more = value, 0
    if isinstance(value, Mapping | list) and len(value) > _MOST_ITEMS:
        more = len(value) - _MOST_ITEMS
        items = list(value.items() if isinstance(value, Mapping) else value)[:_MOST_ITEMS]
        shown = dict(items) if isinstance(value, Mapping) else items
    text = format_value(shown)
    short = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"
    return f"{short} and {more:,} more" if more else short


def _list_facts(run: FinishedRun) -> dict[str, str]:
    """List what made the run; a fact that an early release did not record is left out."""
    made, record = run.manifest, run.manifest["pairing"] or {}
    facts = {
        "images": run.config.data.images,
        "labels": run.config.data.labels,
        "sha256 of the labels": made["frames"].get("labels_sha256"),
        "folder of the run": locate_place(str(run.store)),
        "sha256 of hands.json": hash_samples(run),
        "started": made["started"],
        "finished": made["finished"],
        "detection by": f"detectime {made['made_by']}",
        "pairing by": f"detectime {record['detectime']}" if "detectime" in record else None,
        "this page by": f"detectime {detectime.__version__}",
        "boxes in": f"pixels of the {run.config.detection.pixels} frames",
    }
    return {name: str(value) for name, value in facts.items() if value}


def _list_weights(made: Manifest) -> Table | None:
    rows = [
        [name, made_with.get("revision", 1), file, str(sha256)]
        for name, made_with in made["detectors"].items()
        for file, sha256 in _get_weights(made_with).items()
    ]
    if not rows:
        return None
    return Table("Detectors and their weights", ["detector", "revision", "file", "sha256"], rows)


def _get_weights(made_with: Mapping[str, Any]) -> Mapping[str, Any]:
    return made_with.get("weights") or {"none": "–"}
