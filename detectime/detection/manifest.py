"""``run.json``: what a run was made with, its counts and its notes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

import detectime
from detectime import config as configuration
from detectime import releases
from detectime.config import Config, PairingConfig
from detectime.errors import ConfigError, DocumentedError
from detectime.notes import Note, notes_from_json, notes_to_json
from detectime.schema import MANIFEST_FILE as MANIFEST_FILE  # as others import it from here
from detectime.storage.store import Store

Manifest = dict[str, Any]
"""The content of ``run.json``: see `make_manifest`."""

_VERSION = 2  # of the manifest; manifests of 0.2 have none
_KEPT_EVENTS = 100  # notes of past events
_STAGES = ("frames", "detection", "pairing")  # of notes


class RecordedNote(BaseModel, strict=True):
    """A note in ``run.json`` and the like."""

    kind: str
    count: int
    text: str
    example: str | None = None
    at: str | None = None


class _RecordedDetector(BaseModel, strict=True):
    revision: Any
    weights: dict[str, Any]


class _RecordedSplit(BaseModel, strict=True):
    shares: dict[str, float] | None = None
    seed: int | None = None
    column: str | None = None
    edited: bool = False
    sha256: str | None = None


class _RecordedImport(BaseModel, strict=True):
    sha256: str
    file: str
    reviewer: str
    decisions: str | None = None
    at: str


class _RecordedPairing(BaseModel, strict=True):
    settings: dict[str, Any] | None = None
    hands_sha256: str | None = None
    decisions_sha256: str | None = None
    detection_finished: str | None = None


class _Record(BaseModel, strict=True):
    """What a manifest must hold, of which type: see `make_manifest`. Other keys, of a newer version, are accepted."""

    detectime: str
    made_by: str
    started: str
    finished: str | None
    redetect: bool | dict[str, str] = False  # a dict while a redetect sets aside the old detections
    peak_memory_of_a_worker: int = 0
    detectors: dict[str, _RecordedDetector]
    configuration: dict[str, Any]
    frames: dict[str, Any]
    outcomes: dict[str, int]
    split: _RecordedSplit | None = None
    imported: list[_RecordedImport] = []
    pairing: _RecordedPairing | None
    notes: dict[str, list[RecordedNote]]


class RunError(DocumentedError, RuntimeError):
    """A run that must not start or cannot be read; the message says why and what to do."""


def make_manifest(config: Config, detectors: Mapping[str, Any]) -> Manifest:
    """Make the manifest of a new run.

    Parameters
    ----------
    config
        Resolved: see `resume_config`.
    detectors
        From `Chosen.fingerprints`.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> make_manifest(load_config(), {})["finished"] is None
    True
    """
    return {
        "manifest_version": _VERSION,
        "detectime": detectime.__version__,
        "made_by": detectime.__version__,
        "started": format_now(),
        "finished": None,
        "redetect": False,
        "peak_memory_of_a_worker": 0,  # bytes, the maximum over all workers of this run
        "detectors": dict(detectors),
        "configuration": configuration.config_to_dict(config),
        "frames": {},  # sha256 of the labels, number of rows
        "outcomes": {},  # counts of detection outcomes
        "split": None,  # how split.csv was made: shares, seed, or the column of the labels
        "imported": [],  # files whose edits became decisions: see `outcomes.find_import`
        "pairing": None,  # rule and settings of the last pairing, sha256 of its hands.json
        "notes": {stage: [] for stage in _STAGES},
    }


def read_manifest(store: Store) -> Manifest | None:
    """Read the manifest of a run of any version, upgraded to this version; None if there is none.

    Raises
    ------
    RunError
        If it is not a manifest, or was made by a newer detectime.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.storage.store import open_store
    >>> print(read_manifest(open_store(paths.SAMPLE, reading=True)))
    None
    """
    content = store.get(MANIFEST_FILE)
    if content is None:
        return None
    try:
        return _upgrade(json.loads(content), store)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ValidationError):
            reason = "; ".join(configuration.list_faults(error))
        else:
            reason = f"{type(error).__name__}: {error}"
        raise RunError(
            f"{store}/{MANIFEST_FILE}: this is not the manifest of a run ({reason}); put the right one back, or give "
            "another `output`"
        ) from error


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Write ``run.json``, whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.config import load_config
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_manifest(store, make_manifest(load_config(), {}))
    ...     read_manifest(store)["manifest_version"]
    2
    """
    store.put(MANIFEST_FILE, json.dumps(manifest, indent=4).encode() + b"\n")


def get_config(manifest: Manifest) -> Config:
    """Return the configuration of a run; keys that its release did not have get today's defaults.

    Raises
    ------
    RunError
        If a value is no longer accepted.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> get_config(make_manifest(load_config(), {})).pairing.fallback
    'none'
    """
    try:
        return configuration.config_from_dict(manifest["configuration"])
    except ConfigError as error:
        raise RunError(f"{MANIFEST_FILE}: the configuration of this run cannot be used: {error}") from error


def get_pairing_config(manifest: Manifest) -> PairingConfig:
    """Return the settings of a run's last pairing; if it was not paired, those that it was started with.

    Raises
    ------
    RunError
        If a value is no longer accepted.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> get_pairing_config(make_manifest(load_config(parameters={"fallback": "wider"}), {})).fallback
    'wider'
    """
    settings = (manifest["pairing"] or {}).get("settings") or manifest["configuration"]["pairing"]
    return get_config(manifest | {"configuration": manifest["configuration"] | {"pairing": settings}}).pairing


def replace_notes(manifest: Manifest, stage: str, notes: Iterable[Note]) -> None:
    """Replace the notes of a stage (``frames``, ``detection``, ``pairing``), except those of past events.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> manifest = make_manifest(load_config(), {})
    >>> replace_notes(manifest, "pairing", [Note("moved", 1, "The images moved.")])
    >>> print(*read_notes(manifest))
    The images moved.
    """
    events = [note for note in notes_from_json(manifest["notes"].get(stage, ())) if note.at]
    fresh = [note for note in notes if note not in events]
    manifest["notes"][stage] = notes_to_json([*events[-_KEPT_EVENTS:], *fresh])


def read_notes(manifest: Manifest) -> list[Note]:
    """Return all notes of a run, those of the frame table first: see `replace_notes`.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> read_notes(make_manifest(load_config(), {}))
    []
    """
    return [note for stage in _STAGES for note in notes_from_json(manifest["notes"].get(stage, ()))]


def format_now() -> str:
    """Return the current time in UTC, ISO 8601 to the second.

    Examples
    --------
    >>> format_now().endswith("+00:00")
    True
    """
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def format_file_time(at: str) -> str:
    """Return a time from `format_now` in a form that suits a file name.

    Examples
    --------
    >>> format_file_time("2026-11-26T01:02:03+00:00")
    '20261126T010203Z'
    """
    return at.replace("-", "").replace(":", "").replace("+0000", "Z")


def _upgrade(manifest: Any, store: Store) -> Manifest:
    """Upgrade a manifest of any version to this one."""
    version = manifest.get("manifest_version", 1)
    if version > _VERSION:
        raise RunError(
            f"{store}/{MANIFEST_FILE}: made by a newer detectime ({manifest.get('detectime')}); install that version"
        )
    if version == 1:
        manifest = manifest | {
            "manifest_version": _VERSION,
            "redetect": False,
            "peak_memory_of_a_worker": manifest.get("peak_memory_of_a_worker", 0),
            "detectors": {
                name: {"revision": 1, "weights": dict(files)} for name, files in manifest["detectors"].items()
            },
            "frames": {},
            "outcomes": manifest.get("outcomes", {}),
            # What hands.json was made with, if it exists: its sha256 was not recorded.
            "pairing": {"rule": "2021", "hands_sha256": None},
            "notes": {"frames": [], "detection": [], "pairing": []},
        }
    release = releases.find_release(str(manifest["detectime"]))
    tree = configuration.rename_old_keys(manifest["configuration"], f"{store}/{MANIFEST_FILE}")
    for section in configuration.SECTIONS:
        tree[section] = releases.list_defaults(release, section) | tree.get(section, {})
    manifest["configuration"] = tree
    manifest.setdefault("made_by", manifest["detectime"])  # `detectime` is the version that wrote last
    if version == 1:
        manifest["pairing"]["settings"] = tree["pairing"]
    _Record.model_validate(manifest)
    manifest["configuration"]["data"]["images"]
    return manifest  # type: ignore[no-any-return]
