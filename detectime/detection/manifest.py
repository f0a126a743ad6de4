"""``run.json``: what a run was made with, and whether it may go on with a configuration.

A run is bound to what decided its boxes: the settings of the detectors that it uses, their weights and revisions, and
how frames are read. A key that the user did not set takes the run's value; another value that was set is refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

import detectime
from detectime import config as configuration
from detectime import releases
from detectime.config import UNBOUND_KEYS, Config, DetectionConfig, PairingConfig
from detectime.detectors import face_cache
from detectime.detectors.registry import Chosen, choose_detectors, find_used_keys
from detectime.errors import ConfigError
from detectime.notes import Note, notes_from_json, notes_to_json
from detectime.storage import downloads
from detectime.storage import store as stores
from detectime.storage.downloads import WeightsError
from detectime.storage.store import Store

MANIFEST_FILE = "run.json"

Manifest = dict[str, Any]
"""The content of ``run.json``: see `make_manifest`."""

_VERSION = 2  # of the manifest; that of 0.2 has none
_KEPT_EVENTS = 100  # notes of past events
_OLD_CACHE = "rows"  # under which 0.2 recorded the sha256 of the whole file of a face cache


class RunError(RuntimeError):
    """A run that must not start; the message says why and what to do."""


def make_manifest(config: Config, detectors: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a run that begins.

    Parameters
    ----------
    config
        Resolved: see `resume_config`.
    detectors
        What `Chosen.fingerprints` returned.
    """
    return {
        "manifest_version": _VERSION,
        "detectime": detectime.__version__,
        "started": format_now(),
        "finished": None,
        "redetect": False,
        "peak_memory_of_a_worker": 0,  # bytes, of all that worked on this run
        "detectors": dict(detectors),
        "configuration": configuration.config_to_dict(config),
        "frames": {},  # labels' sha256, number of rows
        "outcomes": {},  # of detection, counted
        "pairing": None,  # the rule and the settings of the last pairing, the sha256 of its hands.json
        "notes": {"frames": [], "detection": [], "pairing": []},
    }


def read_manifest(store: Store) -> Manifest | None:
    """Read the manifest of a run of any version, upgraded to this one's form; None if there is none.

    Raises
    ------
    RunError
        If it is no manifest, or was made by a newer detectime.
    StoreError
        If it cannot be read.
    """
    content = store.get(MANIFEST_FILE)
    if content is None:
        return None
    try:
        return _upgrade(json.loads(content), store)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{store}/{MANIFEST_FILE}: this is no manifest of a run ({type(error).__name__}: {error}); put the "
            "right one back, or give another `output`"
        ) from error


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Write ``run.json``, whole or not at all."""
    store.put(MANIFEST_FILE, json.dumps(manifest, indent=4).encode() + b"\n")


def get_config(manifest: Manifest) -> Config:
    """Return the configuration of a run; a key that its release did not have has today's default.

    Raises
    ------
    RunError
        If a value is not accepted any more.
    """
    try:
        return configuration.config_from_dict(manifest["configuration"])
    except ConfigError as error:
        raise RunError(f"{MANIFEST_FILE}: the configuration of this run cannot be used: {error}") from error


def get_pairing_config(manifest: Manifest) -> PairingConfig:
    """Return the settings of the last pairing of a run, those that it was begun with if it was not paired.

    Raises
    ------
    RunError
        If a value is not accepted any more.
    """
    settings = (manifest["pairing"] or {}).get("settings") or manifest["configuration"]["pairing"]
    return get_config(manifest | {"configuration": manifest["configuration"] | {"pairing": settings}}).pairing


def resume_config(config: Config, store: Store | None = None) -> tuple[Config, list[Note]]:
    """Give the keys that the user did not set the values of the run that is resumed, if there is one.

    Nothing is written, and no weights are loaded or downloaded.

    Parameters
    ----------
    config
        As it was loaded.
    store
        The folder of the run; None: `data.output`.

    Returns
    -------
    Config, list of Note
        The configuration that the run has, `detection.whole_frame` being true or false; and a note that lists the keys
        that took the run's value.

    Raises
    ------
    RunError
        If a key that binds the run was set to another value, unless `run.redetect` is true.
    ConfigError
        If there is no detector of a name, or a setting of a detector that is not used differs from its default.
    """
    if store is None:
        store = stores.open_store(config.data.output, reading=True)
    manifest = read_manifest(store)
    if manifest is None:
        config = _resolve_whole_frame(config, None)
        choose_detectors(config.detection)
        return config, []
    before = get_config(manifest)
    taken: dict[str, Any] = {}
    differing: list[str] = []
    config = _take_pairing(config, before, manifest, taken)
    config = _take_detection(config, before, taken, differing)
    if differing and config.run.redetect is not True:
        raise RunError(
            f"{store}: this folder holds a run with another detection configuration; give another `output`, go back to "
            "its values, or say `redetect: true` to look at every frame again: " + "; ".join(differing)
        )
    choose_detectors(config.detection)
    if not taken:
        return config, []
    listed = ", ".join(f"{key} = {_shown(value)}" for key, value in taken.items())
    were = (
        "setting was not given and keeps the value"
        if len(taken) == 1
        else "settings were not given and keep the values"
    )
    return config, [Note("resumed", len(taken), f"{were} of the run in {store}: {listed}")]


def check_detectors(
    manifest: Manifest, chosen: Chosen, config: Config, store: Store, growing: bool
) -> tuple[dict[str, Any], list[Note]]:
    """Compare the detectors of a run with those of today.

    Parameters
    ----------
    manifest
        Of the run.
    chosen
        The detectors by the configuration of the run.
    config
        The configuration, for what the user set.
    store
        The folder of the run, for messages.
    growing
        Whether frames are to be looked at. A finished run pairs for ever, whatever became of its detectors.

    Returns
    -------
    dict, list of Note
        What the manifest is to record of the detectors; and notes about differences that do no harm.

    Raises
    ------
    RunError
        If the run would mix boxes of different detectors.
    ConfigError, WeightsError
        If frames are to be looked at and a detector or its weights are not there.
    """
    before: dict[str, Any] = manifest["detectors"]
    try:
        today = chosen.fingerprints()
    except (ConfigError, WeightsError) as error:
        if growing:
            raise
        reason = str(error).partition("\n")[0]
        return before, [Note("detectors", 1, f"A detector could not be compared with that of the run: {reason}")]
    differing: dict[str, list[str]] = {}
    notes = []
    for name, now_it_is in today.items():
        was = before.get(name, {"revision": 1, "weights": {}})
        if found := _compare(name, was, _comparable(name, was, now_it_is, chosen)):
            differing[name] = found
        if was.get("version") != now_it_is.get("version"):
            notes.append(
                Note("detectors", 1, f"The detector {name} has version {now_it_is['version']}; the run began with "
                     f"{was.get('version')}")
            )  # fmt: skip
    if not differing:
        return {
            name: now_it_is | {"weights": _keep_old_cache(before.get(name), now_it_is)}
            for name, now_it_is in today.items()
        }, notes
    reasons = "; ".join(itertools.chain.from_iterable(differing.values()))
    key = "detection.face_cache"
    is_explicit = config.is_explicit(key) and not config.was_resumed(key)
    if growing or (is_explicit and face_cache.SPEC.name in differing):
        raise RunError(
            f"{store}: this folder holds a run of other detectors, whose boxes must not be mixed with today's: "
            f"{reasons}. Give another `output`, or say `redetect: true` to look at every frame again; "
            "what the run has stays usable as it is"
        )
    return before, [
        *notes,
        Note("detectors", len(differing), f"Detectors changed since this run: {reasons}"),
    ]


def replace_notes(manifest: Manifest, stage: str, notes: Iterable[Note]) -> None:
    """Store the notes of a stage (``frames``, ``detection``, ``pairing``); those of past events stay, each once."""
    events = [note for note in notes_from_json(manifest["notes"].get(stage, ())) if note.at]
    fresh = [note for note in notes if note not in events]
    manifest["notes"][stage] = notes_to_json([*events[-_KEPT_EVENTS:], *fresh])


def read_notes(manifest: Manifest) -> list[Note]:
    """Return all notes of a run, those of the frame table first."""
    return [
        note
        for stage in ("frames", "detection", "pairing")
        for note in notes_from_json(manifest["notes"].get(stage, ()))
    ]


def format_now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def format_file_time(at: str) -> str:
    """Return a time of `format_now` as a part of a file's name.

    Examples
    --------
    >>> format_file_time("2026-11-26T01:02:03+00:00")
    '20261126T010203Z'
    """
    return at.replace("-", "").replace(":", "").replace("+0000", "Z")


def _upgrade(manifest: Any, store: Store) -> Manifest:
    """Bring a manifest of any version to this one's form."""
    version = manifest.get("manifest_version", 1)
    if version > _VERSION:
        raise RunError(
            f"{store}/{MANIFEST_FILE}: made by a newer detectime ({manifest.get('detectime')}); install that version"
        )
    if version == 1:
        settings = manifest["configuration"]
        manifest = manifest | {
            "manifest_version": _VERSION,
            "redetect": False,
            "peak_memory_of_a_worker": manifest.get("peak_memory_of_a_worker", 0),
            "detectors": {
                name: {"revision": 1, "weights": dict(files)} for name, files in manifest["detectors"].items()
            },
            "frames": {},
            "outcomes": manifest.get("outcomes", {}),
            # What hands.json was made with, if it was made: its sha256 was not recorded.
            "pairing": {"rule": "2021", "settings": settings.get("pairing", {}), "hands_sha256": None},
            "notes": {"frames": [], "detection": [], "pairing": []},
        }
    release = ".".join(str(manifest["detectime"]).split(".")[:2])
    for key, default in releases.DEFAULTS.get(release, {}).items():
        section, _, name = key.partition(".")
        manifest["configuration"].setdefault(section, {}).setdefault(name, default)
    for key in ("started", "finished", "detectors", "notes"):
        manifest[key]
    manifest["configuration"]["data"]["images"]
    return manifest  # type: ignore[no-any-return]


def _take_pairing(config: Config, before: Config, manifest: Manifest, taken: dict[str, Any]) -> Config:
    run = get_pairing_config(manifest)
    values = {}
    for field in dataclasses.fields(run):
        key, value = f"pairing.{field.name}", getattr(run, field.name)
        if getattr(config.pairing, field.name) == value:
            if config.was_resumed(key):
                taken[key] = value
            continue
        if config.is_explicit(key):
            continue
        if value == "frame" and (config.detection.whole_frame is False or not before.detection.whole_frame):
            continue  # this `fallback` needs what is not looked for
        values[field.name] = taken[key] = value
    return _replace_keys(config, "pairing", values)


def _take_detection(config: Config, before: Config, taken: dict[str, Any], differing: list[str]) -> Config:
    """Take the run's detectors first, then the settings of those."""
    names = ("detector_type", "hand_detector", "detector_settings", "face_cache", "face_cache_column")
    run = _leave_unused(before.detection, config)
    config = _take_keys(config, run, names, taken, differing)
    used = [key for key in find_used_keys(config.detection) if key not in (*names, "whole_frame")]
    config = _take_keys(config, run, used, taken, differing)
    did = bool(run.whole_frame)
    not_given = config.detection.whole_frame is None or config.was_resumed("detection.whole_frame")
    if did and not_given and config.pairing.fallback != "frame":
        taken["detection.whole_frame"] = True
    config = _resolve_whole_frame(config, did)
    if config.detection.whole_frame != did:
        differing.append(_difference("detection.whole_frame", did, config.detection.whole_frame))
        if config.pairing.fallback == "frame":
            differing.append("pairing.fallback = 'frame' is what asks for detection.whole_frame")
    return config


def _leave_unused(before: DetectionConfig, config: Config) -> DetectionConfig:
    """Leave out of the settings of a run what detectors that the user did not name would have read."""
    given = {key for key in ("detector_type", "hand_detector") if config.is_explicit(f"detection.{key}")}
    used = dataclasses.replace(before, **{key: getattr(config.detection, key) for key in given})
    names = (used.detector_type, *used.hand_detector)
    left: dict[str, Any] = {
        "detector_settings": {name: section for name, section in before.detector_settings.items() if name in names}
    }
    if used.detector_type != face_cache.SPEC.name:
        left |= {"face_cache": None, "face_cache_column": None}
    return dataclasses.replace(
        before, **{key: value for key, value in left.items() if not config.is_explicit(f"detection.{key}")}
    )


def _take_keys(
    config: Config, before: DetectionConfig, keys: Iterable[str], taken: dict[str, Any], differing: list[str]
) -> Config:
    values = {}
    for name in keys:
        key, was, is_now = f"detection.{name}", getattr(before, name), getattr(config.detection, name)
        if was == is_now:
            if config.was_resumed(key):
                taken[key] = was
            continue
        if not config.is_explicit(key):
            if name not in ("device", "batch"):
                values[name] = taken[key] = was
        elif name not in UNBOUND_KEYS:
            differing.append(_difference(key, was, is_now))
    return _replace_keys(config, "detection", values)


def _replace_keys(config: Config, section: str, values: dict[str, Any]) -> Config:
    """Set keys of a section; refuse what was given if it does not go with them."""
    try:
        return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})
    except ValidationError as error:
        reasons = [str(e["msg"]).removeprefix("Value error, ") for e in error.errors()]
        kept = ", ".join(f"{section}.{key} = {_shown(value)}" for key, value in values.items())
        raise ConfigError(f"{'; '.join(reasons)} (not given, and so as the run has it: {kept})") from None


def _resolve_whole_frame(config: Config, before: bool | None) -> Config:
    """Say whether whole frames are looked at: where it is not given, if `fallback` needs it or the run did before."""
    if config.detection.whole_frame is not None:
        return config
    whole_frame = config.pairing.fallback == "frame" or before is True
    return dataclasses.replace(config, detection=dataclasses.replace(config.detection, whole_frame=whole_frame))


def _difference(key: str, was: Any, is_now: Any) -> str:
    return f"{key}: the run has {_shown(was)}, now it is {_shown(is_now)}"


def _shown(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)


def _comparable(name: str, was: Mapping[str, Any], today: dict[str, Any], chosen: Chosen) -> dict[str, Any]:
    """Return what is known of a detector today, in the form of the release that recorded it."""
    if name == face_cache.SPEC.name and _OLD_CACHE in was["weights"]:
        file = face_cache.find_cache_file(chosen.config)
        replaced = face_cache.read_replaced_sha256(file)  # a run of 0.2 that was rewritten since, with the same faces
        same = replaced == was["weights"][_OLD_CACHE]
        return today | {"weights": {_OLD_CACHE: replaced if same else downloads.hash_file(file)}}
    return today


def _keep_old_cache(was: Mapping[str, Any] | None, today: Mapping[str, Any]) -> Any:
    """Go on recording a face cache in the form of 0.2, where the run did."""
    return was["weights"] if was and _OLD_CACHE in was["weights"] else today["weights"]


def _compare(name: str, was: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """Say in which way a detector is not that of the run."""
    found = []
    if was["revision"] != today["revision"]:
        found.append(f"{name} has revision {today['revision']}, the run was made by revision {was['revision']}")
    for file in dict.fromkeys([*was["weights"], *today["weights"]]):
        old, new = was["weights"].get(file), today["weights"].get(file)
        if old != new:
            what = "the face cache holds other faces" if name == face_cache.SPEC.name else f"weights of {name}: {file}"
            found.append(f"{what} ({old!r} then, {new!r} now)")
    return found
