"""Pairing of a finished run: the only place that writes its outcomes and ``hands.json``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

import detectime
from detectime import pairing
from detectime.config import NO_GESTURE, PairingConfig
from detectime.detection import manifest
from detectime.detection.manifest import Manifest, RunError
from detectime.detectors.registry import FACES, HANDS
from detectime.exports import hands_json, outcomes_csv
from detectime.notes import Note, note_found
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, Outcome, TableVersionError
from detectime.storage import run_tables
from detectime.storage.store import LockedError, Store, rename_to_free_name

_WITHOUT_DETECTIONS = (
    (Outcome.MISSING, "frame is missing", "frames are missing"),
    (Outcome.UNREADABLE, "frame cannot be decoded", "frames cannot be decoded"),
    (Outcome.FAILED, "frame failed", "frames failed"),
)
_DIFFERENCES = ("changed boxes", "changed labels", "other changes", "added samples", "removed samples")


def pair_run(run: FinishedRun, settings: PairingConfig | None = None) -> pd.DataFrame:
    """Pair the detections of a run, and write ``outcomes.parquet``, ``outcomes.csv`` and ``hands.json``.

    What people decided is applied: see `corrections.apply_decisions`. No frames are read. A ``hands.json`` that was
    edited by hand is not overwritten: it is renamed to ``hands.<time>.json``, and a note counts the differences. What
    it was edited from is kept beside it as ``hands.<time>.written.json``, for `decision_import`: see
    `find_written_samples`.

    Parameters
    ----------
    run
        What `runs.open_run` returned. Its manifest and notes are updated.
    settings
        Pairing settings; None: those of the last pairing of the run.

    Returns
    -------
    DataFrame
        What `corrections.apply_decisions` returns: one row per row of the frame table.

    Raises
    ------
    RunError
        If the frame table or the detections cannot be read.
    StoreError
        If the folder cannot be written to, or another process is working in it.
    """
    with lock_run(run):
        return pair_locked_run(run, settings)


@contextlib.contextmanager
def lock_run(run: FinishedRun) -> Iterator[None]:
    """Keep other processes out of the folder of a run during the block, and reload what they changed before.

    Raises
    ------
    StoreError
        If the folder cannot be written to, or another process is working in it.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> with lock_run(run):  # doctest: +SKIP
    ...     samples = pair_locked_run(run)
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run.store.lock())
        except LockedError as error:
            reason = str(error).partition(": wait for it")[0]  # another `output` is no remedy here
            raise LockedError(f"{reason}; nothing was changed. Wait until it is done, then try again") from error
        run.refresh()
        yield


def pair_locked_run(run: FinishedRun, settings: PairingConfig | None = None) -> pd.DataFrame:
    """Do what `pair_run` does, within `lock_run`."""
    store = run.store
    if settings is None:
        settings = run.pairing
    paired = run.pair_frames(settings)
    samples = paired.samples
    before = store.get(hands_json.FILE_NAME)
    edited = [] if before is None else _keep_edited_file(store, before, samples, run)
    pixels = run.config.detection.pixels
    run_tables.write_outcomes(store, samples, pixels)
    outcomes_csv.write_outcomes_csv(samples, f"{store}/{outcomes_csv.FILE_NAME}")
    record = {
        **pairing.describe_pairing(settings),
        "pixels": pixels,  # which the boxes of all files are in
        "labels_sha256": run.frames.attrs.get("labels_sha256"),
        "decisions_sha256": paired.decisions_sha256,
        "detection_finished": run.manifest["finished"],
        "detectime": detectime.__version__,
        "previous_sha256": None if before is None or edited else hashlib.sha256(before).hexdigest(),
    }
    found = [
        *edited,
        *paired.notes,
        *_note_frames_without_detections(samples),
        *_note_other_hands(samples),
        *_note_ineffective_scores(settings, run.manifest),
    ]
    manifest.replace_notes(run.manifest, "pairing", found)
    run.manifest.setdefault("imported", [])  # see `find_import`
    _write_samples(store, samples, run.manifest, record)
    return samples


def find_import(run: FinishedRun, digest: str) -> dict[str, Any] | None:
    """Return the record of an import of decisions from a file, if it was imported.

    Parameters
    ----------
    run
        The run.
    digest
        The sha256 of the file, in hexadecimal.

    Returns
    -------
    dict or None
        `sha256`; `file`, its name; `reviewer`; `at`, when (ISO 8601); and `decisions`, the file that holds them, None
        if there were none.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> find_import(open_run("output"), "180d5ca7")  # doctest: +SKIP
    """
    imports: list[dict[str, Any]] = run.manifest.get("imported", [])
    return next((record for record in imports if record["sha256"] == digest), None)


def summarize_samples(samples: pd.DataFrame) -> str:
    """Say how many wanted frames have a sample, and what became of the others.

    Parameters
    ----------
    samples
        What `pair_run` returned.

    Examples
    --------
    >>> outcomes = ["paired", "corrected", "apart", "left_out"]
    >>> classes = ["ok", "ok", "ok", "no_gesture"]
    >>> samples = pd.DataFrame({"class_name": classes, "outcome": outcomes, "wanted": [True, True, True, False]})
    >>> print(summarize_samples(samples))
    2 of 3 gesture frames have a sample (1 corrected); 1 apart
    """
    wanted = samples[samples["wanted"]]
    counts = wanted["outcome"].value_counts()
    count = int(counts.reindex(SAMPLES).sum())
    kind = "wanted" if (wanted["class_name"] == NO_GESTURE).any() else "gesture"
    frames = f"{kind} {'frame' if len(wanted) == 1 else 'frames'}"
    others = [f"{counts[outcome]:,} {outcome}" for outcome in Outcome if outcome in counts and not outcome.is_sample]
    result = f"{count:,} of {len(wanted):,} {frames} {'has' if count == 1 else 'have'} a sample"
    if Outcome.CORRECTED in counts:
        result += f" ({counts[Outcome.CORRECTED]:,} {Outcome.CORRECTED})"
    return f"{result}; {', '.join(others)}" if others else result


def _write_samples(store: Store, samples: pd.DataFrame, run_manifest: Manifest, record: dict[str, Any]) -> None:
    """Write ``hands.json``, and the record of what made it into the manifest."""
    with store.writing(hands_json.FILE_NAME) as file:
        digest = hashlib.sha256()
        for chunk in hands_json.encode_samples(samples):
            digest.update(chunk)
            file.write(chunk)
        # Before the file appears: if the process is killed in between, the old file still counts as not edited.
        run_manifest["pairing"] = record | {"hands_sha256": digest.hexdigest()}
        manifest.write_manifest(store, run_manifest)


def _note_frames_without_detections(samples: pd.DataFrame) -> list[Note]:
    notes = []
    for outcome, one, many in _WITHOUT_DETECTIONS:
        frames = samples.loc[samples["outcome"] == outcome.value, ["frame_path", "error"]]
        if len(frames):
            text = f"{one if len(frames) == 1 else many}; first reason: {frames['error'].iloc[0]}"
            notes.append(Note(outcome.value, len(frames), text, str(frames["frame_path"].iloc[0])))
    return notes


def _note_other_hands(samples: pd.DataFrame) -> list[Note]:
    is_open = samples["other_hand"] & samples["decision"].isna()  # a person who decided saw the other hand
    frames = samples.loc[is_open, "frame_path"].tolist()
    what = "another hand near a face, which may be the one that shows the gesture: see `other_hand` in outcomes.csv"
    return note_found("other_hand", frames, f"frame holds {what}", f"frames hold {what}")


def _note_ineffective_scores(settings: PairingConfig, run_manifest: Manifest) -> list[Note]:
    """Note minimum scores that are not above what detection required anyway."""
    detection = run_manifest["configuration"]["detection"]
    specs_by_key = {
        "min_face_score": [FACES.get(detection["detector_type"])],
        "min_hand_score": [HANDS.get(name) for name in detection["hand_detector"]],
    }
    notes = []
    for key, specs in specs_by_key.items():
        value = getattr(settings, key)
        # User-supplied detectors declare no minimum; a detector that doubts its hands keeps lower scores too.
        minimums = [0.0 if spec.doubt else detection[spec.confidence] for spec in specs if spec]
        if value is not None and minimums and value <= min(minimums):
            text = f"The setting pairing.{key} = {value} has no effect: detection kept no boxes below {min(minimums)}."
            notes.append(Note("ignored", 1, text))
    return notes


def _keep_edited_file(store: Store, content: bytes, samples: pd.DataFrame, run: FinishedRun) -> list[Note]:
    """Rename a ``hands.json`` that pairing did not write, and note how it differs.

    Parameters
    ----------
    content
        Of the present file.
    samples
        What is about to be written.
    """
    record = run.manifest["pairing"] or {}
    digest = hashlib.sha256(content).hexdigest()
    if record.get("hands_sha256") and digest in (record["hands_sha256"], record["previous_sha256"]):
        return []
    if digest == _hash_chunks(hands_json.encode_samples(samples)):
        return []
    written = None
    for written in _read_written_outcomes(run):
        # 0.2 did not record the hash of the file it wrote.
        if not record.get("hands_sha256") and digest == _hash_chunks(hands_json.encode_samples(written)):
            return []
    summary, count, first = _compare_samples(content, written)
    at = manifest.format_now()
    name = hands_json.FILE_NAME
    kept = rename_to_free_name(store, name, f"hands.{manifest.format_file_time(at)}", ".json")
    edited_from = find_written_samples(run)
    if edited_from is not None:
        store.put(name_written_file(kept), json.dumps(edited_from, ensure_ascii=False).encode())
    if _holds_samples(content, samples):
        text = f"The edited {name} ({summary}) is kept as {kept}; the new {name} has the same samples."
    elif find_import(run, digest):
        text = f"The edited {name} ({summary}) is kept as {kept}; it was imported as decisions."
    else:
        command = f"detectime decisions import {shlex.quote(str(store))} {kept}"
        text = (
            f"The edited {name} ({summary}) is kept as {kept}; the new {name} does not contain its changes. To make "
            f"decisions of them: `{command}`."
        )
    return [Note("edited", max(1, count), text, first, at)]


def name_written_file(kept: str) -> str:
    """Return the name of the file that an edited ``hands.json``, kept under this name, was edited from.

    Examples
    --------
    >>> name_written_file("hands.20261126T010203Z.json")
    'hands.20261126T010203Z.written.json'
    """
    return f"{kept.removesuffix('.json')}.written.json"


def _holds_samples(content: bytes, samples: pd.DataFrame) -> bool:
    """Whether a file has the same samples, however it is formatted."""
    with contextlib.suppress(ValueError, RecursionError):
        return bool(json.loads(content) == json.loads(b"".join(hands_json.encode_samples(samples))))
    return False


def find_written_samples(run: FinishedRun) -> list[dict[str, Any]] | None:
    """Return the samples that ``hands.json`` had when it was written, even if it was edited or deleted since.

    Returns
    -------
    list of dict, or None
        Its samples, each with `content`, that of the frame then; and the `frame_path` and `content` of each frame
        without a sample. None if the outcomes that it was made from are lost. 0.2 did not record a hash that could
        tell; its outcomes are trusted.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> find_written_samples(open_run("output"))[0]["bbox"]  # doctest: +SKIP
    [182, 100, 284, 221]
    """
    record = run.manifest["pairing"] or {}
    known = {record.get("hands_sha256"), record.get("previous_sha256")}
    found = None
    for written in _read_written_outcomes(run):
        content = b"".join(hands_json.encode_samples(written))
        found = content, written
        if hashlib.sha256(content).hexdigest() in known:
            return _add_contents(*found)
    return None if found is None or record.get("hands_sha256") else _add_contents(*found)


def _add_contents(content: bytes, written: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the samples of a ``hands.json`` with their contents, and rows of the frames without a sample."""
    samples: list[dict[str, Any]] = json.loads(content)
    if "content" not in written.columns[written.columns.get_loc("outcome") :]:  # of an earlier release
        return samples
    texts = (text if isinstance(text, str) and text else None for text in written["content"].tolist())
    contents = dict(zip(written["frame_path"].tolist(), texts, strict=True))
    rows = [sample | {"content": contents.pop(sample["frame_path"])} for sample in samples]
    return [*rows, *({"frame_path": path, "content": text} for path, text in contents.items() if text)]


def _read_written_outcomes(run: FinishedRun) -> Iterator[pd.DataFrame]:
    """Yield the outcomes that the present ``hands.json`` may have been written from, the most likely last."""
    with contextlib.suppress(TableVersionError, RunError):  # the frame table of a run of 0.2 may be missing
        if not (run.manifest["pairing"] or {}).get("hands_sha256"):
            yield pairing.pair_frames(run.frames, run.detections, run.pairing)
    with contextlib.suppress(TableVersionError):
        written = run_tables.read_outcomes(run.store)
        if written is None:
            written = run_tables.read_outcomes_csv(run.store)
        if written is not None:
            yield written


def _compare_samples(content: bytes, written: pd.DataFrame | None) -> tuple[str, int, str | None]:
    """Compare an edited file with what was written.

    Returns
    -------
    summary, count, first
        The differences in words, their number, and the path of the first frame that differs.
    """
    try:
        edited = {row["frame_path"]: row for row in json.loads(content)}
    except (ValueError, TypeError, KeyError, RecursionError):
        return "not a list of samples", 1, None
    if written is None:
        return "unknown changes", 0, None
    before = {row["frame_path"]: row for row in json.loads(b"".join(hands_json.encode_samples(written)))}
    paths = [path for path in before | edited if before.get(path) != edited.get(path)]
    counts = Counter(_name_difference(before.get(path), edited.get(path)) for path in paths)
    summary = ", ".join(f"{name}: {counts[name]}" for name in _DIFFERENCES if counts[name])
    return summary or "formatting only", len(paths), str(paths[0]) if paths else None


def _name_difference(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    """Return which of `_DIFFERENCES` there is between two samples of a frame that are not equal."""
    if old is None:
        return "added samples"
    if new is None:
        return "removed samples"
    if old.get("bbox") != new.get("bbox"):
        return "changed boxes"
    return "changed labels" if old.get("label") != new.get("label") else "other changes"


def _hash_chunks(chunks: Iterable[bytes]) -> str:
    """Return the sha256 of joined chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
