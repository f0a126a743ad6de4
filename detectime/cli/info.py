"""What the folder of a run holds, as text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from detectime.config import DetectionConfig, list_differences
from detectime.decision_files import FOLDER, hash_files, parse_decisions, read_files
from detectime.decisions import merge_decisions
from detectime.detection import manifest as manifests
from detectime.detection.manifest import Manifest, RunError
from detectime.detection.shards import SHARDS, DamagedError, Results
from detectime.notes import Note
from detectime.outcomes import summarize_samples
from detectime.schema import TableVersionError
from detectime.storage import run_tables, urls
from detectime.storage.store import Store, open_store

_FOLDERS = (".", SHARDS, FOLDER)  # of the files of a run
_SHOWN_FILES = 20


def describe_run(output: str | os.PathLike[str]) -> str:
    """Describe the folder of a run, finished or not: how it was made, its results, its files and its notes.

    Parameters
    ----------
    output
        The `output` of a run: a folder or a URL. Nothing in it is changed.

    Raises
    ------
    RunError
        If there is no such folder, or no run in it, or a newer detectime made it.

    Examples
    --------
    >>> print(describe_run("no/such/run"))
    Traceback (most recent call last):
        ...
    detectime.detection.manifest.RunError: no/such/run: there is no such folder; give the `output` of a run
    """
    location = os.fspath(output)
    if not urls.is_remote(location) and not os.path.isdir(urls.strip_file_scheme(location)):
        raise RunError(f"{location}: there is no such folder; give the `output` of a run")
    store = open_store(location, reading=True)
    manifest = manifests.read_manifest(store)
    if manifest is None:
        raise RunError(f"{store}: there is no run in this folder ({manifests.MANIFEST_FILE} is missing)")
    parts = [_describe_state(store, manifest), _describe_settings(manifest), _describe_files(store)]
    parts.append(_describe_notes(manifests.read_notes(manifest)))
    return "\n\n".join(filter(None, parts))


def _describe_state(store: Store, manifest: Manifest) -> str:
    data = manifest["configuration"]["data"]
    detection = manifests.get_config(manifest).detection
    state = f"finished {manifest['finished']}" if manifest["finished"] else "not finished: run it again to resume it"
    facts = {
        "run": f"{store}, {state}",
        "started": f"{manifest['started']}, last used by detectime {manifest['detectime']}",
        "images": data["images"],
        "labels": data["labels"],
        "boxes": f"in pixels of the {detection.pixels} frames",
        "quality": describe_quality(detection),
        "detectors": ", ".join(
            f"{name} (revision {value['revision']})" for name, value in manifest["detectors"].items()
        ),
        "detection": _count_detections(store, manifest),
    }
    if manifest["finished"]:
        facts["samples"] = _summarize_samples(store)
    decisions = _count_decisions(store, manifest)
    return _align(facts | {"decisions": decisions} if decisions else facts)


def _summarize_samples(store: Store) -> str:
    samples = run_tables.read_outcomes(store)
    if samples is None:  # of 0.2
        samples = run_tables.read_outcomes_csv(store)
    return "not paired yet" if samples is None else summarize_samples(samples)


def _count_decisions(store: Store, manifest: Manifest) -> str:
    """Say who decided, and whether all of it is applied; empty if nobody did."""
    files = read_files(store)
    counts = Counter(decision.reviewer for decision in merge_decisions(*parse_decisions(files)).decisions)
    people = ", ".join(f"{count:,} of {reviewer}" for reviewer, count in counts.most_common())
    is_new = hash_files(files) != (manifest["pairing"] or {}).get("decisions_sha256")
    return f"{people or 'none'}; not all are applied yet: detectime pair {store}" if is_new else people


def _count_detections(store: Store, manifest: Manifest) -> str:
    if manifest["finished"]:
        return ", ".join(f"{count:,} {outcome}" for outcome, count in manifest["outcomes"].items() if count)
    try:
        saved = len(Results(store))
    except (DamagedError, TableVersionError) as error:
        return str(error)
    rows = manifest["frames"].get("rows")  # 0.2 did not record it
    total = "" if rows is None else f" of {rows:,}"
    return f"{saved:,}{total} rows of the frame table have a saved result"


def _describe_settings(manifest: Manifest) -> str:
    settings = list_differences(manifests.get_config(manifest))
    paired = list_differences(manifests.get_config(_use_last_pairing(manifest)))
    settings |= {key: value for key, value in paired.items() if key.startswith("pairing.")}
    word = settings.pop("detection.quality", None)  # told above
    those = f"those of `quality: {word}`" if word else "the default"
    if not settings:
        return f"Settings: none differs from {those}"
    return f"Settings that differ from {those}\n" + _align(settings, indent="  ")


def _use_last_pairing(manifest: Manifest) -> Manifest:
    last = (manifest["pairing"] or {}).get("settings")
    configuration = manifest["configuration"]
    return manifest | {"configuration": configuration | {"pairing": last}} if last else manifest


def _describe_files(store: Store) -> str:
    names = [name.removeprefix("./") for folder in _FOLDERS for name in store.names(folder)]
    names = [name for name in names if not name.startswith(".")]
    sizes = {name: size for name in names if (size := _measure(store, name)) is not None}
    shown = {name: format_bytes(size) for name, size in list(sizes.items())[:_SHOWN_FILES]}
    hidden = len(sizes) - len(shown)
    more = f"\n  … and {hidden:,} more" if hidden else ""
    return f"Files, {format_bytes(sum(sizes.values()))} in all\n{_align(shown, indent='  ')}{more}"


def _measure(store: Store, name: str) -> int | None:
    file = store.open(name)
    if file is None:
        return None
    with file:
        return file.seek(0, os.SEEK_END)


def _describe_notes(notes: list[Note]) -> str:
    return "\n".join(["Notes", *(f"  {note}" for note in notes)]) if notes else ""


def _align(facts: dict[str, Any], indent: str = "") -> str:
    width = max(map(len, facts), default=0)
    return "\n".join(_format_facts(facts, width, indent))


def _format_facts(facts: dict[str, Any], width: int, indent: str) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{indent}{name:{width}}  {value}"


def describe_quality(detection: DetectionConfig) -> str:
    """Return the value of `quality` as text.

    Examples
    --------
    >>> describe_quality(DetectionConfig(quality="best")), describe_quality(DetectionConfig(quality=None))
    ('best', 'not used; every key has a value of its own')
    """
    return detection.quality or "not used; every key has a value of its own"


def format_bytes(size: float) -> str:
    """Return a size as text.

    Examples
    --------
    >>> format_bytes(999), format_bytes(1_234_567)
    ('999 B', '1.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
