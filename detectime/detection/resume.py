"""Whether a run may go on with a configuration, and what the configuration takes over from the run.

What decided the boxes of a run binds it: the settings of the detectors that it uses, their weights and revisions, and
how frames are read. A key that the user did not set takes the run's value; a different value that was set is refused.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from detectime import releases, sources
from detectime.config import Config, DetectionConfig, PairingConfig, config_to_dict, list_faults
from detectime.detection.manifest import Manifest, RunError, get_config, get_pairing_config, read_manifest
from detectime.detectors import face_cache, quality
from detectime.detectors.contract import Quality
from detectime.detectors.registry import UNBOUND_KEYS, Chosen, choose_detectors, find_used_keys
from detectime.errors import ConfigError
from detectime.notes import Note
from detectime.settings import list_field_names
from detectime.storage import downloads
from detectime.storage import store as stores
from detectime.storage.downloads import WeightsError
from detectime.storage.store import Store

_OLD_CACHE_KEY = "rows"  # under which 0.2 recorded the sha256 of the whole file of a face cache
_COMPLETING_KEYS = ("face_cache_pixels",)  # which a run that lacks them may be given: no box was made without them
_PLACE_KEYS = ("images", "labels", "labels_type", "source_type", "group_by", "every")
_DETECTOR_KEYS = (
    "detector_type",
    "hand_detector",
    "detector_settings",
    "face_cache",
    "face_cache_column",
    "face_cache_pixels",
)


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
        The configuration of the run, in which `detection.whole_frame` is true or false; and a note that lists the keys
        that took the run's value.

    Raises
    ------
    RunError
        If a key that binds the run was set to another value, unless `run.redetect` is true.
    ConfigError
        If there is no detector of a name, or a setting of a detector that is not used differs from its default.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> config, notes = resume_config(load_config(parameters={"output": "s-new-folder", "fallback": "frame"}))
    >>> config.detection.whole_frame, notes
    (True, [])
    """
    if store is None:
        store = stores.open_store(config.data.output, reading=True)
    manifest = read_manifest(store)
    if manifest is None:
        config = _resolve_whole_frame(config, None)
        choose_detectors(config.detection)
        return config, []
    run = get_config(manifest)
    if config.labels_are_auto:  # a class keeps its number
        config = dataclasses.replace(config, labels=run.labels)
    pairing = get_pairing_config(manifest)
    if config.run.redetect is True:
        run, pairing = _forget_defaults(run, pairing, releases.find_release(manifest["made_by"]), config)
    taken: dict[str, Any] = {}
    differences: list[str] = []
    config = _take_places(config, run, taken)
    config = _take_truth(config, run, taken)
    config = _take_span_zero(config, run, taken)
    config = _take_pairing(config, run, pairing, taken)
    config = _take_detection(config, run, taken, differences)
    if differences and config.run.redetect is not True:
        raise RunError(
            f"{store}: this folder holds a run with another detection configuration; give another `output`, go back to "
            "its values, or set `redetect: true` to process every frame again: " + "; ".join(differences)
        )
    choose_detectors(config.detection)
    if not taken:
        return config, []
    listed = ", ".join(f"{key} = {_format_value(value)}" for key, value in taken.items())
    one, many = "setting was not given and keeps the value", "settings were not given and keep the values"
    binding = any(key.startswith("detection.") for key in taken)
    remedy = "given as an option or a parameter, another value replaces it, also `null` for no value" + (
        "; of `detection` only with `redetect: true`, or in another `output`" if binding else ""
    )
    text = f"{one if len(taken) == 1 else many} of the run in {store}: {listed} ({remedy})"
    return config, [Note("resumed", len(taken), text)]


def check_detectors(
    manifest: Manifest, chosen: Chosen, config: Config, store: Store, is_growing: bool
) -> tuple[dict[str, Any], list[Note]]:
    """Compare the detectors of a run with those that are installed now.

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
    is_growing
        Whether frames are to be processed. A finished run pairs for ever, whatever became of its detectors.

    Returns
    -------
    dict, list of Note
        What the manifest is to record of the detectors; and notes about harmless differences.

    Raises
    ------
    RunError
        If the run would mix boxes of different detectors.
    ConfigError, WeightsError
        If frames are to be processed and a detector or its weights are missing.
    """
    recorded: dict[str, Any] = manifest["detectors"]
    try:
        current = chosen.fingerprints()
    except (ConfigError, WeightsError) as error:
        if is_growing:
            raise
        reason = str(error).partition("\n")[0]
        return recorded, [Note("detectors", 1, f"A detector could not be compared with that of the run: {reason}")]
    differing: dict[str, list[str]] = {}
    notes = []
    for name, fingerprint in current.items():
        old = recorded.get(name, {"revision": 1, "weights": {}})
        if differences := _compare_detector(name, old, _convert_fingerprint(name, old, fingerprint, chosen)):
            differing[name] = differences
        if old.get("version") != fingerprint.get("version"):
            text = f"The detector {name} has version {fingerprint['version']}; the run began with {old.get('version')}"
            notes.append(Note("detectors", 1, text))
    if not differing:
        return {
            name: fingerprint | {"weights": _keep_old_cache_key(recorded.get(name), fingerprint)}
            for name, fingerprint in current.items()
        }, notes
    reasons = "; ".join(itertools.chain.from_iterable(differing.values()))
    key = "detection.face_cache"
    is_explicit = config.is_explicit(key) and not config.was_resumed(key)
    if is_growing or (is_explicit and face_cache.SPEC.name in differing):
        raise RunError(
            f"{store}: this folder holds a run of other detectors, whose boxes must not be mixed with those of the "
            f"installed ones: {reasons}. Give another `output`, or set `redetect: true` to process every frame again; "
            "the results of the run stay usable as they are"
        )
    return recorded, [*notes, Note("detectors", len(differing), f"Detectors changed since this run: {reasons}")]


def _forget_defaults(run: Config, pairing: PairingConfig, release: str, config: Config) -> tuple[Config, PairingConfig]:
    """Give keys today's default where a run has that of its own release: nobody set them."""
    word = run.detection.quality
    has_words = "detection.quality" in releases.DEFAULTS.get(release, {"detection.quality": None})
    if not has_words and not config.is_explicit("detection.quality"):
        word = DetectionConfig().quality
    run = _apply_quality(run, word, _list_own_keys(run.detection, release, "detection"))
    kept = {name: getattr(pairing, name) for name in _list_own_keys(pairing, release, "pairing")}
    return run, PairingConfig(**kept)


def _list_own_keys(values: Any, release: str, section: str) -> list[str]:
    """Return the keys of a section whose value was not the default of a release."""
    old, plain = releases.list_defaults(release, section), config_to_dict(values)
    return [name for name, value in plain.items() if name not in old or value != old[name]]


def _take_places(config: Config, run: Config, taken: dict[str, Any]) -> Config:
    """Take over where frames and labels are, and what they are, if no labels are given and none are at the default."""
    data = config.data
    given = {name for name in _PLACE_KEYS if config.is_explicit(f"data.{name}")}
    if "labels" in given or os.path.exists(data.labels) or ("images" not in given and os.path.exists(data.images)):
        return config
    values = {name: getattr(run.data, name) for name in _PLACE_KEYS if name not in given}
    if run.data.labels == run.data.images:  # the images are the labels, wherever they are now
        values["labels"] = values.get("images", data.images)
    values = {name: value for name, value in values.items() if value != getattr(data, name)}
    taken |= {f"data.{name}": value for name, value in values.items()}
    return _replace_keys(config, "data", values)


def _take_truth(config: Config, run: Config, taken: dict[str, Any]) -> Config:
    """Take over where the annotated boxes are, and which pixels they are in, if no others are given."""
    if run.data.truth is None or config.is_explicit("data.truth"):
        return config
    names = ["truth"] if config.is_explicit("data.truth_pixels") else ["truth", "truth_pixels"]
    values = {name: getattr(run.data, name) for name in names if getattr(run.data, name) != getattr(config.data, name)}
    taken |= {f"data.{name}": value for name, value in values.items()}
    return _replace_keys(config, "data", values)


def _take_span_zero(config: Config, run: Config, taken: dict[str, Any]) -> Config:
    """Take over what the spans of videos count from, and record it in `taken`. It decides frames, but no boxes."""
    key = "data.span_zero"
    are_videos = sources.are_videos(config.data.images, config.data.source_type)
    if not are_videos or config.is_explicit(key) or config.data.span_zero == run.data.span_zero:
        return config
    taken[key] = run.data.span_zero
    return _replace_keys(config, "data", {"span_zero": run.data.span_zero})


def _take_pairing(config: Config, run: Config, pairing: PairingConfig, taken: dict[str, Any]) -> Config:
    """Take over the settings of the last pairing, and record in `taken` which."""
    values = {}
    for field in dataclasses.fields(pairing):
        key, value = f"pairing.{field.name}", getattr(pairing, field.name)
        if getattr(config.pairing, field.name) == value:
            if config.was_resumed(key):
                taken[key] = value
            continue
        if config.is_explicit(key):
            continue
        if value == "frame" and (config.detection.whole_frame is False or not run.detection.whole_frame):
            continue  # this fallback needs a search that is not made
        values[field.name] = taken[key] = value
    return _replace_keys(config, "pairing", values)


def _take_detection(config: Config, run: Config, taken: dict[str, Any], differences: list[str]) -> Config:
    """Take over the run's `quality`, detectors and their settings; record what was taken, and what differs."""
    given = [name for name in list_field_names(type(config.detection)) if config.is_explicit(f"detection.{name}")]
    config = _take_quality(config, run.detection.quality, given, taken, differences)
    detection = _leave_out_unused(_get_run_keys(run.detection, config), config)
    config = _take_keys(config, detection, _DETECTOR_KEYS, taken, differences)
    config = _apply_quality(config, config.detection.quality, (*given, *_DETECTOR_KEYS))
    others = ("quality", "whole_frame", *_DETECTOR_KEYS)
    used = [key for key in find_used_keys(config.detection) if key not in others]
    config = _take_keys(config, detection, used, taken, differences)
    searched = bool(detection.whole_frame)
    is_unset = config.detection.whole_frame is None or config.was_resumed("detection.whole_frame")
    if searched and is_unset and config.pairing.fallback != "frame":
        taken["detection.whole_frame"] = True
    config = _resolve_whole_frame(config, searched)
    if config.detection.whole_frame != searched:
        differences.append(_describe_difference("detection.whole_frame", searched, config.detection.whole_frame))
        if config.pairing.fallback == "frame":
            differences.append("pairing.fallback = 'frame' is what asks for detection.whole_frame")
    return config


def _take_quality(
    config: Config, old: Quality | None, given: Collection[str], taken: dict[str, Any], differences: list[str]
) -> Config:
    """Take over the word of the run, and what it stands for."""
    key, new = "detection.quality", config.detection.quality
    if not config.is_explicit(key) or (old == new and config.was_resumed(key)):
        if old is not None and (old != new or config.was_resumed(key)):
            taken[key] = old
        return _apply_quality(config, old, given)
    if old is None and new is not None:
        differences.append(
            f"{key} = {new!r}: the run has no word, but values of its own, as all runs of 0.2; leave `quality` out"
        )
    elif old != new:
        differences.append(_describe_difference(key, old, new))
    return config


def _apply_quality(config: Config, word: Quality | None, given: Collection[str]) -> Config:
    return dataclasses.replace(config, detection=quality.apply_quality(config.detection, word, given))


def _get_run_keys(detection: DetectionConfig, config: Config) -> DetectionConfig:
    """Return the settings of a run; if it is detected again under another word, what that word leaves of them."""
    word = config.detection.quality
    if word == detection.quality or config.run.redetect is not True:
        return detection
    defaults, decided = quality.find_defaults(detection), quality.BUNDLES.get(word or "", {})
    own = [name for name in defaults if getattr(detection, name) != defaults[name] and name not in decided]
    return quality.apply_quality(detection, word, own)


def _leave_out_unused(detection: DetectionConfig, config: Config) -> DetectionConfig:
    """Reset the settings of a run that only detectors read which the user has replaced."""
    given = {key for key in ("detector_type", "hand_detector") if config.is_explicit(f"detection.{key}")}
    used = dataclasses.replace(detection, **{key: getattr(config.detection, key) for key in given})
    names = (used.detector_type, *used.hand_detector)
    sections = {name: section for name, section in detection.detector_settings.items() if name in names}
    left: dict[str, Any] = {"detector_settings": sections}
    if used.detector_type != face_cache.SPEC.name:
        left |= {"face_cache": None, "face_cache_column": None, "face_cache_pixels": None}
    return dataclasses.replace(
        detection, **{key: value for key, value in left.items() if not config.is_explicit(f"detection.{key}")}
    )


def _take_keys(
    config: Config, detection: DetectionConfig, keys: Iterable[str], taken: dict[str, Any], differences: list[str]
) -> Config:
    values = {}
    for name in keys:
        key, old, new = f"detection.{name}", getattr(detection, name), getattr(config.detection, name)
        if old == new:
            if config.was_resumed(key):
                taken[key] = old
            continue
        if not config.is_explicit(key):
            if name not in ("device", "batch"):
                values[name] = taken[key] = old
        elif name not in UNBOUND_KEYS and not (name in _COMPLETING_KEYS and old is None):
            differences.append(_describe_difference(key, old, new))
    return _replace_keys(config, "detection", values)


def _replace_keys(config: Config, section: str, values: dict[str, Any]) -> Config:
    """Set keys of a section; refuse settings of the user that do not go with them."""
    try:
        return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})
    except ValidationError as error:
        reasons = list_faults(error)
        kept = ", ".join(f"{section}.{key} = {_format_value(value)}" for key, value in values.items())
        raise ConfigError(f"{'; '.join(reasons)} (not given, and so as in the run: {kept})") from None


def _resolve_whole_frame(config: Config, searched: bool | None) -> Config:
    """Set `whole_frame` where it is not given: true if `fallback` needs it or the run searched whole frames."""
    if config.detection.whole_frame is not None:
        return config
    whole_frame = config.pairing.fallback == "frame" or searched is True
    return dataclasses.replace(config, detection=dataclasses.replace(config.detection, whole_frame=whole_frame))


def _describe_difference(key: str, old: Any, new: Any) -> str:
    return f"{key}: the run has {_format_value(old)}, now it is {_format_value(new)}"


def _format_value(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)


def _convert_fingerprint(
    name: str, old: Mapping[str, Any], fingerprint: dict[str, Any], chosen: Chosen
) -> dict[str, Any]:
    """Return a fingerprint in the form of the release that recorded the old one."""
    if name == face_cache.SPEC.name and _OLD_CACHE_KEY in old["weights"]:
        file = face_cache.find_cache_file(chosen.config)
        replaced = face_cache.read_replaced_sha256(file)  # a run of 0.2 that was rewritten since, with the same faces
        is_same = replaced == old["weights"][_OLD_CACHE_KEY]
        return fingerprint | {"weights": {_OLD_CACHE_KEY: replaced if is_same else downloads.hash_file(file)}}
    return fingerprint


def _keep_old_cache_key(old: Mapping[str, Any] | None, fingerprint: Mapping[str, Any]) -> Any:
    """Return the weights to record: a face cache in the form of 0.2, if the run recorded it so."""
    return old["weights"] if old and _OLD_CACHE_KEY in old["weights"] else fingerprint["weights"]


def _compare_detector(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return how a detector differs from that of the run."""
    differences = []
    if old["revision"] != new["revision"]:
        differences.append(f"{name} has revision {new['revision']}, the run was made by revision {old['revision']}")
    for file in dict.fromkeys([*old["weights"], *new["weights"]]):
        recorded, current = old["weights"].get(file), new["weights"].get(file)
        if recorded != current:
            what = "the face cache holds other faces" if name == face_cache.SPEC.name else f"weights of {name}: {file}"
            differences.append(f"{what} ({recorded!r} then, {current!r} now)")
    return differences
