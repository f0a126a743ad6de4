"""Pairing of a finished run: the one place that writes its outcomes and ``hands.json``."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator

import pandas as pd

import detectime
from detectime import config as configuration
from detectime import pairing
from detectime.config import PairingConfig
from detectime.detection import manifest
from detectime.detection.manifest import Manifest, RunError
from detectime.detectors.registry import FACES, HANDS
from detectime.exports import hands_json, outcomes_csv
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.schema import Outcome, TableVersionError
from detectime.storage import run_tables
from detectime.storage.store import Store, rename_to_free_name

_BROKEN = (
    (Outcome.MISSING, "frame is missing", "frames are missing"),
    (Outcome.UNREADABLE, "frame cannot be decoded", "frames cannot be decoded"),
    (Outcome.FAILED, "frame failed", "frames failed"),
)
_FIELDS = ("bbox", "label", "video_name", "frame_id")


def pair_run(run: FinishedRun, settings: PairingConfig | None = None) -> pd.DataFrame:
    """Pair what a run found, and write ``outcomes.parquet``, ``outcomes.csv`` and ``hands.json``.

    No frame is needed. A ``hands.json`` that somebody edited is not overwritten: it is kept as ``hands.<time>.json``,
    and a note says what differs.

    Parameters
    ----------
    run
        What `runs.open_run` returned. Its manifest and notes are brought up to date.
    settings
        How to pair; None: as the run was paired last.

    Returns
    -------
    DataFrame
        What `pairing.pair_frames` returns: one row for each row of the frame table.

    Raises
    ------
    RunError
        If the frame table or the detections cannot be read.
    StoreError
        If the folder cannot be written to, or another run works in it.
    """
    store = run.store
    with store.lock():
        run.refresh()
        if settings is None:
            settings = run.pairing
        samples = pairing.pair_frames(run.frames, run.detections, settings)
        before = store.get(hands_json.FILE_NAME)
        edited = [] if before is None else _keep_edited(store, before, samples, run)
        run_tables.write_outcomes(store, samples)
        outcomes_csv.write_outcomes_csv(samples, f"{store}/{outcomes_csv.FILE_NAME}")
        made = {
            "rule": pairing.RULE,
            "settings": configuration.config_to_dict(settings),
            "labels_sha256": run.frames.attrs.get("labels_sha256"),
            "detectime": detectime.__version__,
            "previous_sha256": None if before is None or edited else hashlib.sha256(before).hexdigest(),
        }
        manifest.replace_notes(run.manifest, "pairing", [*edited, *_describe(samples, settings, run.manifest)])
        with store.writing(hands_json.FILE_NAME) as file:
            digest = hashlib.sha256()
            for piece in hands_json.encode_samples(samples):
                digest.update(piece)
                file.write(piece)
            # Before the file appears: if this is killed in between, the old file is still known as unedited.
            run.manifest["pairing"] = made | {"hands_sha256": digest.hexdigest()}
            manifest.write_manifest(store, run.manifest)
    return samples


def _describe(samples: pd.DataFrame, settings: PairingConfig, made: Manifest) -> list[Note]:
    """Return notes about frames that could not be looked at, and about settings that do nothing."""
    notes = []
    for outcome, one, many in _BROKEN:
        found = samples.loc[samples["outcome"] == outcome.value, ["frame_path", "error"]]
        if len(found):
            what = one if len(found) == 1 else many
            text = f"{what}; first reason: {found['error'].iloc[0]}"
            notes.append(Note(outcome.value, len(found), text, str(found["frame_path"].iloc[0])))
    detection = made["configuration"]["detection"]
    chosen = {
        "min_face_score": [FACES.get(detection["detector_type"])],
        "min_hand_score": [HANDS.get(name) for name in detection["hand_detector"]],
    }
    for key, specs in chosen.items():
        value = getattr(settings, key)
        kept = [detection[spec.confidence] for spec in specs if spec]  # one from outside says nothing of it
        if value is not None and kept and value <= min(kept):
            text = f"The setting pairing.{key} = {value} does nothing: detection kept nothing below {min(kept)}."
            notes.append(Note("ignored", 1, text))
    return notes


def _keep_edited(store: Store, content: bytes, samples: pd.DataFrame, run: FinishedRun) -> list[Note]:
    """Keep a ``hands.json`` that is not the one that was written under another name, and say what differs."""
    made = run.manifest["pairing"] or {}
    found = hashlib.sha256(content).hexdigest()
    if made.get("hands_sha256") and found in (made["hands_sha256"], made["previous_sha256"]):
        return []
    if found == _hash(hands_json.encode_samples(samples)):  # what is about to be written
        return []
    written = None
    for written in _read_written(run):
        # 0.2 did not record the hash of what it wrote.
        if not made.get("hands_sha256") and found == _hash(hands_json.encode_samples(written)):
            return []
    differences, first = _compare(content, written)
    counted = ", ".join(f"{count} {what}" for what, count in differences.items() if count) or "other text"
    at = manifest.format_now()
    kept = rename_to_free_name(store, hands_json.FILE_NAME, f"hands.{manifest.format_file_time(at)}", ".json")
    name = hands_json.FILE_NAME
    text = f"The {name} was edited ({counted}); it is kept as {kept}, and its changes are not in the new one."
    return [Note("edited", max(1, sum(differences.values())), text, first, at)]


def _read_written(run: FinishedRun) -> Iterator[pd.DataFrame]:
    """Yield the outcomes that the present ``hands.json`` may have been written of, the likeliest last."""
    with contextlib.suppress(TableVersionError, RunError):  # the table of 0.2's run may be gone
        if not (run.manifest["pairing"] or {}).get("hands_sha256"):
            yield pairing.pair_frames(run.frames, run.detections, run.pairing)
    with contextlib.suppress(TableVersionError):
        written = run_tables.read_outcomes(run.store)
        if written is None:
            written = run_tables.read_outcomes_csv(run.store)
        if written is not None:
            yield written


def _compare(content: bytes, written: pd.DataFrame | None) -> tuple[dict[str, int], str | None]:
    """Count what differs between an edited file and what was written; and name the first frame of it."""
    differences = {
        "changed boxes": 0,
        "changed labels": 0,
        "other changes": 0,
        "added samples": 0,
        "removed samples": 0,
    }
    try:
        edited = {row["frame_path"]: row for row in json.loads(content)}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"file that is not a list of samples": 1}, None
    if written is None:
        return differences, None
    before = {row["frame_path"]: row for row in json.loads(b"".join(hands_json.encode_samples(written)))}
    first = None
    for path in [*before, *(path for path in edited if path not in before)]:
        old, new = before.get(path), edited.get(path)
        if old == new:
            continue
        first = first or str(path)
        if old is None or new is None:
            differences["added samples" if old is None else "removed samples"] += 1
            continue
        changed = next((field for field in _FIELDS if old.get(field) != new.get(field)), None)
        differences[{"bbox": "changed boxes", "label": "changed labels"}.get(str(changed), "other changes")] += 1
    return differences, first


def _hash(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
