"""Edits found in a ``hands.json``, as decisions; and imports, whatever the file: each file is imported once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import boxes, outcomes, pairing
from detectime.config import PairingConfig
from detectime.decision_files import DecisionLog
from detectime.decisions import Corners, Decision, DecisionError, check_reviewer, parse_corners
from detectime.detection import manifest
from detectime.exports import hands_json
from detectime.judgements import Judgement, judge_frames, list_changed, note_unread
from detectime.notes import Note, note_found, shorten_text
from detectime.runs import FinishedRun
from detectime.schema import CORNERS
from detectime.storage import urls
from detectime.storage.store import has_file

_KEYS = {"frame_path", "label", "bbox"}
_MOST_SHOWN = 20  # faults in a message

Found = tuple[list[Decision], list[Note]]
"""What was found in a file: decisions, and notes."""


class _Sample(NamedTuple):
    """A sample of a ``hands.json``."""

    label: int
    bbox: Corners
    others: dict[str, Any]
    """The other keys."""


@dataclass
class _Edits:
    """What was said of the frames, and the frames with edits that no decision can hold."""

    judgements: list[Judgement] = field(default_factory=list)
    frames: dict[str, list[str]] = field(default_factory=lambda: {"other_edits": [], "rounded": []})


def import_decisions(
    run: FinishedRun, file: str | os.PathLike[str] | None, reviewer: str, find: Callable[[], Found]
) -> Found:
    """Find decisions in a file, store them, and pair the run again, while no other process works in its folder.

    The import is recorded in ``run.json``, and the same content is not imported twice. To take an import back, move its
    file out of ``decisions/``, and pair the run again.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    file
        As for `import_hands_json`, or what CVAT exported.
    reviewer
        Who decided.
    find
        Finds the decisions of this person in the file: calls `import_hands_json` or `cvat_decisions.import_cvat`.

    Returns
    -------
    decisions, notes
        What `find` returned.

    Raises
    ------
    DecisionError
        If the file was imported before, and all that `find` raises.
    StoreError
        If the folder cannot be written to, or another process is working in it. Nothing is stored then.

    Examples
    --------
    >>> from detectime.cvat_decisions import import_cvat
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> import_decisions(run, "task.zip", "anna", lambda: import_cvat(run, "task.zip", "anna"))  # doctest: +SKIP
    """
    reviewer = check_reviewer(reviewer)
    with outcomes.lock_run(run):
        path, content = read_file(run, file)
        digest = hashlib.sha256(content).hexdigest()
        _refuse_imported(run, path, digest)
        decisions, notes = find()
        log = DecisionLog(run.store, reviewer)
        log.append(*decisions)
        _record_import(run, {"sha256": digest, "file": path, "reviewer": reviewer, "decisions": log.name})
        outcomes.pair_locked_run(run)
    return decisions, notes


def read_file(run: FinishedRun, file: str | os.PathLike[str] | None) -> tuple[str, bytes]:
    """Find and read a file that is to be imported.

    Parameters
    ----------
    run
        The run.
    file
        A path or URL or, where there is no such file, the name of one in the folder of the run, such as
        ``hands.20270102T030405Z.json``; None: the ``hands.json`` of the run.

    Returns
    -------
    path, content
        Of the file that was found.

    Raises
    ------
    DecisionError
        If there is none, or it cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> read_file(open_run("output"), None)  # doctest: +SKIP
    ('output/hands.json', b'[...]')
    """
    name = hands_json.FILE_NAME if file is None else os.fspath(file)
    if file is None or ("/" not in name and not os.path.exists(name)):
        content = run.store.get(name)
        if content is not None:
            return f"{run.store}/{name}", content
    if file is None:
        raise DecisionError(f"{run.store}/{name}: there is no such file; give the edited one")
    try:
        is_remote = urls.is_remote(name)
        return name, urls.read_url(name) if is_remote else Path(urls.strip_file_scheme(name)).read_bytes()
    except OSError as error:
        raise DecisionError(f"{name}: the file cannot be read: {urls.describe_error(error)}") from error


def _refuse_imported(run: FinishedRun, path: str, digest: str) -> None:
    """Refuse a file whose decisions are there already."""
    earlier = outcomes.find_import(run, digest)
    if earlier is not None and earlier["decisions"] is not None and has_file(run.store, earlier["decisions"]):
        raise DecisionError(
            f"{path}: {earlier['reviewer']} imported this content at {earlier['at']}; nothing was decided. To import "
            f"it anew, take that import back first: move {run.store}/{earlier['decisions']} elsewhere"
        )


def _record_import(run: FinishedRun, record: Mapping[str, Any]) -> None:
    """Record an import in the manifest, and drop the note that asks for it."""
    made = run.manifest
    others = [earlier for earlier in made.get("imported", []) if earlier["sha256"] != record["sha256"]]
    made["imported"] = [*others, {**record, "at": manifest.format_now()}]
    kept = f" is kept as {os.path.basename(record['file'])};"
    made["notes"]["pairing"] = [note for note in made["notes"].get("pairing", []) if kept not in note["text"]]
    manifest.write_manifest(run.store, made)


def import_hands_json(run: FinishedRun, file: str | os.PathLike[str] | None = None, *, reviewer: str) -> Found:
    """Make decisions of the edits in a ``hands.json``. Nothing is written: see `import_decisions`.

    The file is compared with what it was edited from; a frame whose content changed since is left out. A changed box
    gives `box`, a changed label `label`, a removed sample `reject`, and an added one `box`. Once the decisions are
    stored and the run is paired again, its ``hands.json`` has the same samples as the edited one.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    file
        The edited file: see `read_file`.
    reviewer
        Who edited it.

    Returns
    -------
    decisions, notes
        In the order of the samples, those that were removed first; and what cannot be a decision.

    Raises
    ------
    DecisionError
        If the file cannot be read, is no list of samples, or a sample is not one that could be in it: the message lists
        the first twenty with their positions. If no sample is left in it while there were some; or if more than half of
        the samples differ and what it was edited from is not known.
    RunError
        If the tables of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> decisions, notes = import_hands_json(run, "hands.20270102T030405Z.json", reviewer="anna")  # doctest: +SKIP
    >>> DecisionLog(run.store, "anna").append(*decisions)  # doctest: +SKIP
    """
    check_reviewer(reviewer)
    path, content = read_file(run, file)
    is_present = content == run.store.get(hands_json.FILE_NAME)
    if is_present and hashlib.sha256(content).hexdigest() == (run.manifest["pairing"] or {}).get("hands_sha256"):
        return [], [Note("unedited", 1, f"The file {path} is as it was written: there is nothing to decide.")]
    samples = run.outcomes
    edited = _parse_edited(content, path, samples, run.config.labels)
    written, notes = _find_written(run, None if is_present else os.path.basename(path))
    if written is None:
        before = _parse_samples(json.loads(b"".join(hands_json.encode_samples(samples))))
    else:
        before = _parse_samples(written)
        samples = _restore_samples(samples, written, before, run)
    _refuse_mass_edit(path, before, edited, is_known=written is not None)
    edits = _find_edits(before, edited, samples, run)
    judgements, changed = _drop_changed(run, edits.judgements, samples)
    decisions = judge_frames(run, judgements, reviewer, shown=samples)
    return decisions, [*notes, *_note_edits(edits), *changed, *note_unread(decisions)]


def _refuse_mass_edit(
    path: str, before: Mapping[str, _Sample], edited: Mapping[str, _Sample], *, is_known: bool
) -> None:
    """Refuse a file that nobody can have meant: its samples are gone, or it is of something else."""
    if before and not edited:
        raise DecisionError(
            f"{path}: no sample is left of {len(before):,}, which would reject them all; nothing was decided. Restore "
            "the file, or reject the frames in a viewer or by judgements"
        )
    frames = before.keys() | edited.keys()
    differ = sum(before.get(frame_path) != edited.get(frame_path) for frame_path in frames)
    if not is_known and differ > len(frames) / 2:
        raise DecisionError(
            f"{path}: {differ:,} of {len(frames):,} samples differ from the present ones, and what the file was edited "
            "from is not known; nothing was decided. Put the file that it was edited from beside the run, as "
            f"{outcomes.name_written_file('hands.<time>.json')}, or make the edits in the present hands.json"
        )


def _drop_changed(
    run: FinishedRun, judgements: Iterable[Judgement], samples: pd.DataFrame
) -> tuple[list[Judgement], list[Note]]:
    """Leave out judgements about frames that have other content now than when the file was written."""
    judgements = list(judgements)
    judged = samples[samples["frame_path"].isin([each.frame_path for each in judgements])]
    changed = list_changed(run, judged)
    kept = [judgement for judgement in judgements if judgement.frame_path not in set(changed)]
    why = "changed since the file was written; nothing is decided of"
    return kept, note_found("changed", changed, f"edited frame {why} it", f"edited frames {why} them")


def _parse_edited(content: bytes, name: str, samples: pd.DataFrame, labels: Mapping[str, int]) -> dict[str, _Sample]:
    """Return the samples of an edited file by frame; refuse it if one of them cannot be."""
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DecisionError(f"{name}: this is not JSON ({error}); repair the file, then import it again") from error
    if not isinstance(entries, list):
        raise DecisionError(f"{name}: this is not a list of samples, but {type(entries).__name__}")
    sizes = dict(zip(samples["frame_path"], samples[["width", "height"]].to_numpy(np.float64), strict=True))
    found: dict[str, _Sample] = {}
    faults = []
    for position, entry in enumerate(entries, start=1):
        fault = _find_fault(entry, found, sizes, labels)
        if fault:
            faults.append(f"  sample {position}: {fault}")
        else:
            found[entry["frame_path"]] = _make_sample(entry)
    _refuse_faults(name, faults)
    return found


def _find_fault(
    entry: Any, found: Mapping[str, _Sample], sizes: Mapping[str, boxes.Floats], labels: Mapping[str, int]
) -> str | None:
    """Say why an entry is no sample of the run; None if it is one."""
    if not isinstance(entry, dict) or not entry.keys() >= _KEYS:
        return f"{shorten_text(str(entry))} is not an object with {', '.join(sorted(_KEYS))}"
    frame_path, label = entry["frame_path"], entry["label"]
    if not isinstance(frame_path, str) or frame_path not in sizes:
        return f"frame_path = {shorten_text(str(frame_path))}: the labels of the run have no such frame"
    if frame_path in found:
        return f"frame_path = {shorten_text(frame_path)}: this frame has a sample already"
    if isinstance(label, bool) or not isinstance(label, int | float) or label not in labels.values():
        accepted = ", ".join(f"{number} ({name})" for name, number in labels.items())
        return f"label = {label!r} of {shorten_text(frame_path)}; accepted: {accepted}"
    return _find_box_fault(entry["bbox"], frame_path, *sizes[frame_path])


def _find_box_fault(value: Any, frame_path: str, width: float, height: float) -> str | None:
    try:
        x1, y1, x2, y2 = parse_corners(value, "bbox")
    except ValueError as error:
        return f"{error}: {shorten_text(frame_path)}"
    if x1 >= x2 or y1 >= y2:
        return f"bbox = {value} of {shorten_text(frame_path)} has no area; x1 must be less than x2, and y1 less than y2"
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return (
            f"bbox = {value} of {shorten_text(frame_path)} lies outside the frame of {width:.0f} × {height:.0f} pixels"
        )
    return None


def _refuse_faults(name: str, faults: list[str]) -> None:
    if faults:
        more = [f"  and {len(faults) - _MOST_SHOWN} more"] if len(faults) > _MOST_SHOWN else []
        raise DecisionError(
            "\n".join(
                [
                    f"{name}: {len(faults)} {'sample' if len(faults) == 1 else 'samples'} cannot be used; nothing was "
                    "decided. Correct the file, then import it again:",
                    *faults[:_MOST_SHOWN],
                    *more,
                ]
            )
        )


def _make_sample(entry: Mapping[str, Any]) -> _Sample:
    others = {key: value for key, value in entry.items() if key not in _KEYS}
    return _Sample(int(entry["label"]), parse_corners(entry["bbox"], "bbox"), others)


def _parse_samples(rows: Iterable[Mapping[str, Any]]) -> dict[str, _Sample]:
    """Return the samples that detectime wrote, by frame."""
    samples = ({key: value for key, value in row.items() if key != "content"} for row in rows if "bbox" in row)
    return {sample["frame_path"]: _make_sample(sample) for sample in samples}


def _find_written(run: FinishedRun, kept: str | None) -> tuple[list[dict[str, Any]] | None, list[Note]]:
    """Return what a file was edited from, the present ``hands.json`` or one that was kept; None if it is unknown."""
    if kept is None:
        written = outcomes.find_written_samples(run)
    else:
        content = run.store.get(outcomes.name_written_file(kept))
        written = None if content is None else json.loads(content)
    if written is not None:
        return written, []
    text = (
        "What the file was edited from is not known: it was compared with the present samples, so that whatever else "
        "changed since then counts as an edit."
    )
    return None, [Note("compared_with_present", 1, text)]


def _restore_samples(
    samples: pd.DataFrame, written: Iterable[Mapping[str, Any]], before: Mapping[str, _Sample], run: FinishedRun
) -> pd.DataFrame:
    """Return outcomes with the hand, crop, class and content of each frame as a person saw them in the file.

    The hand of another box than the present one follows from the crop.
    """
    shown = samples[["frame_path", "class_name", "width", "height"]].copy()
    contents = {row["frame_path"]: row.get("content") for row in written}
    shown["content"] = np.array([contents.get(path) for path in shown["frame_path"].tolist()], object)
    crops = np.full((len(shown), 4), np.nan)
    rows = pc.index_in(pa.array(list(before), pa.string()), value_set=pa.array(shown["frame_path"], pa.string()))
    is_known = rows.is_valid().to_numpy(zero_copy_only=False)
    rows = rows.drop_null().to_numpy()
    known = [sample for sample, flag in zip(before.values(), is_known, strict=True) if flag]
    crops[rows] = np.array([sample.bbox for sample in known], np.float64).reshape(-1, 4)
    class_names = shown["class_name"].to_numpy(object).copy()
    names = {number: name for name, number in run.config.labels.items()}
    class_names[rows] = [
        names.get(sample.label, name) for sample, name in zip(known, class_names[rows].tolist(), strict=True)
    ]
    shown["class_name"] = class_names
    is_enlarged = shown["class_name"].isin(run.pairing.enlarged_classes).to_numpy()
    hands = np.where(is_enlarged[:, None], _invert_squares(crops, run.pairing.crop_hand_coefficient), crops)
    is_same = (crops == pairing.get_boxes(samples, "bbox")).all(axis=1)
    hands[is_same] = pairing.get_boxes(samples, "hand")[is_same]
    for k, corner in enumerate(CORNERS):
        shown[f"hand_{corner}"], shown[f"bbox_{corner}"] = hands[:, k], crops[:, k]
    return shown


def _invert_squares(squares: boxes.Floats, coefficient: float) -> boxes.Floats:
    """Return square boxes whose context squares these are: see `boxes.make_context_squares`."""
    return boxes.make_context_squares(squares, 1 / (4 * coefficient))


def _find_edits(
    before: Mapping[str, _Sample], edited: Mapping[str, _Sample], samples: pd.DataFrame, run: FinishedRun
) -> _Edits:
    """Compare the samples of each frame, and say what a person meant by a difference."""
    known = set(samples["frame_path"])
    names, settings = {number: name for name, number in run.config.labels.items()}, run.pairing
    edits = _Edits([Judgement(path, "reject") for path in before if path not in edited and path in known])
    changed = {path: sample for path, sample in edited.items() if before.get(path) != sample}
    for (frame_path, sample), seen in zip(changed.items(), _list_seen(samples, list(changed)), strict=True):
        old = before.get(frame_path)
        if old is not None and old.others != sample.others:
            edits.frames["other_edits"].append(frame_path)
        if not all(corner.is_integer() for corner in sample.bbox):
            edits.frames["rounded"].append(frame_path)
        edits.judgements += _judge_edit(frame_path, old, sample, names[sample.label], seen, settings)
    return edits


class _Seen(NamedTuple):
    """What a person saw of a frame: the class, the hand (NaN: none), and the size of the frame (NaN: unknown)."""

    class_name: str
    hand: boxes.Floats
    size: boxes.Floats


def _list_seen(samples: pd.DataFrame, frame_paths: list[str]) -> Iterator[_Seen]:
    rows = pc.index_in(pa.array(frame_paths, pa.string()), value_set=pa.array(samples["frame_path"], pa.string()))
    frames = samples.iloc[rows.to_numpy(zero_copy_only=False)]
    sizes = frames[["width", "height"]].to_numpy(np.float64)
    return map(_Seen, frames["class_name"].tolist(), pairing.get_boxes(frames, "hand"), sizes)


def _judge_edit(
    frame_path: str, old: _Sample | None, new: _Sample, new_class: str, seen: _Seen, settings: PairingConfig
) -> Iterator[Judgement]:
    """Yield what a changed or added sample says."""
    was_enlarged, is_enlarged = (name in settings.enlarged_classes for name in (seen.class_name, new_class))
    if old is None or old.bbox != new.bbox:
        crop = np.array(new.bbox) if np.isnan(seen.size).any() else boxes.clip_boxes(new.bbox, *seen.size)
        box = _invert_squares(crop, settings.crop_hand_coefficient) if is_enlarged else crop
        yield Judgement(frame_path, "box", parse_corners(box, "box"), new.bbox if is_enlarged else None)
    elif was_enlarged != is_enlarged:  # the crop is as it was, though another one would follow from the new class
        yield Judgement(frame_path, "box", parse_corners(seen.hand, "box"), new.bbox)
    if new_class != seen.class_name:
        yield Judgement(frame_path, "label", class_name=new_class)


def _note_edits(edits: _Edits) -> list[Note]:
    keys = "other keys than bbox and label, which no decision holds"
    others = note_found(
        "other_edits", edits.frames["other_edits"], f"sample has changed {keys}", f"samples have changed {keys}"
    )
    one = "edited box has fractions of pixels, and is rounded outward"
    many = "edited boxes have fractions of pixels, and are rounded outward"
    return [*others, *note_found("rounded", edits.frames["rounded"], one, many)]
