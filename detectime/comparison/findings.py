"""Findings about two outcomes of the same frames that counts of samples do not show."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from detectime.boxes import Flags
from detectime.exports import hands_json
from detectime.notes import Note, note_found
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES


def note_state(run: FinishedRun, letter: str) -> Iterator[Note]:
    """Note what the outcomes of a run lack: newer decisions, and edits of its ``hands.json``.

    Parameters
    ----------
    run
        The run.
    letter
        ``A`` or ``B``.
    """
    if run.has_new_decisions:
        text = f"Decisions were made since {letter} was paired, and are not compared: `detectime pair {run.store}`."
        yield Note("new_decisions", 1, text)
    expected, content = (run.manifest["pairing"] or {}).get("hands_sha256"), run.store.get(hands_json.FILE_NAME)
    if expected and content is not None and hashlib.sha256(content).hexdigest() != expected:
        text = (
            f"The {hands_json.FILE_NAME} of {letter} was edited; what pairing wrote is compared, without the edits: "
            f"`detectime decisions import {run.store}` makes decisions of them."
        )
        yield Note("edited", 1, text)


def note_unshared(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[Note]:
    """Note frames that only one of two outcomes tables has.

    Examples
    --------
    >>> a, b = pd.DataFrame({"frame_path": ["1.jpg", "2.jpg"]}), pd.DataFrame({"frame_path": ["2.jpg"]})
    >>> print(*note_unshared(a, b))
    1 frame is only in A, and not compared (the first: '1.jpg')
    """
    paths_a, paths_b = pd.Index(a["frame_path"]), pd.Index(b["frame_path"])
    if paths_a.equals(paths_b):
        return
    for letter, paths, others in (("A", paths_a, paths_b), ("B", paths_b, paths_a)):
        text = f"only in {letter}, and not compared"
        only = paths[others.get_indexer(paths) < 0].tolist()  # `isin` takes ten times as long on text
        yield from note_found(f"only_in_{letter.lower()}", only, f"frame is {text}", f"frames are {text}")


def note_pixels(pixels_a: str, pixels_b: str) -> Iterator[Note]:
    """Note that boxes are in other pixels, and are turned to be compared.

    Examples
    --------
    >>> print(*note_pixels("stored", "upright"))
    The boxes of A are in pixels of the stored frames, and turned to be compared with those of B, of the upright frames.
    """
    if pixels_a != pixels_b:
        text = (
            f"The boxes of A are in pixels of the {pixels_a} frames, and turned to be compared with those of B, of the "
            f"{pixels_b} frames."
        )
        yield Note("turned", 1, text)


def note_pictures(a: pd.DataFrame, b: pd.DataFrame, frames: pd.DataFrame) -> Iterator[Note]:
    """Note frames of two runs that were not, or may not have been, the same picture in both.

    Parameters
    ----------
    a, b
        The outcomes of the compared frames.
    frames
        What `changes.compare_samples` returned for them.
    """
    paths = frames["frame_path"]
    what = "other content in B than in A, so that the two boxes are not of the same picture"
    changed = paths[frames["content_changed"]].tolist()
    yield from note_found("content_changed", changed, f"frame has {what}", f"frames have {what}")
    is_known, is_decoded = ((a[name].notna().to_numpy() & b[name].notna().to_numpy()) for name in ("content", "width"))
    unknown = paths[is_decoded & ~is_known].tolist()
    what = "compared without knowing whether the file changed: an earlier release did not record its content"
    yield from note_found("unknown_content", unknown, f"frame is {what}", f"frames are {what}")
    both = frames["outcome_a"].isin(SAMPLES) & frames["outcome_b"].isin(SAMPLES)
    lost = paths[both & frames["iou"].isna()].tolist()
    what = "a sample in both, but the boxes cannot be compared: the picture has another shape, or nobody knows its turn"
    yield from note_found("other_shape", lost, f"frame has {what}", f"frames have {what}")


def note_decisions(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[Note]:
    """Note frames that people decided on in one of two outcomes tables only; the tables have the same frames.

    Examples
    --------
    >>> a = pd.DataFrame({"frame_path": ["1.jpg"], "decision": [None]})
    >>> print(*note_decisions(a, a.assign(decision="reject")))
    1 frame was decided by people in B only (the first: '1.jpg')
    """
    decided_a, decided_b = (samples["decision"].notna().to_numpy() for samples in (a, b))
    for letter, rows in (("A", decided_a & ~decided_b), ("B", decided_b & ~decided_a)):
        paths = a["frame_path"][rows].tolist()
        text = f"decided by people in {letter} only"
        yield from note_found("decided", paths, f"frame was {text}", f"frames were {text}")


def note_classes(a: pd.DataFrame, b: pd.DataFrame, frames: pd.DataFrame) -> Iterator[Note]:
    """Note what differs in classes and groups beside samples of another class.

    Parameters
    ----------
    a, b, frames
        As of `note_pictures`.
    """
    paths = frames["frame_path"]
    both = frames["outcome_a"].isin(SAMPLES) & frames["outcome_b"].isin(SAMPLES)
    differs = _differ(a, b, "class_name")
    what = "another class in B than in A, and not a sample in both"
    found = paths[differs & ~both.to_numpy()].tolist()
    yield from note_found("other_class", found, f"frame has {what}", f"frames have {what}")
    found = paths[~differs & _differ(a, b, "label")].tolist()
    what = "the same class, but another number of it in B than in A (`label` in hands.json)"
    yield from note_found("other_label", found, f"frame has {what}", f"frames have {what}")
    found = paths[_differ(a, b, "video_name")].tolist()
    what = "another group (video_name) in B than in A"
    yield from note_found("other_group", found, f"frame has {what}", f"frames have {what}")


def merge_notes(a: Sequence[Note], b: Sequence[Note]) -> list[Note]:
    """Return the notes of both, and say of which one those are that the other does not have.

    Examples
    --------
    >>> note = Note("undecoded", 1, "frame was not decoded", "1.jpg")
    >>> print(*merge_notes([note], [Note("few", 1, "There are few groups.")]))
    1 frame was not decoded (in A) (the first: '1.jpg') There are few groups (in B).
    """
    both = [note for note in a if note in b]
    only = [("A", note) for note in a if note not in b] + [("B", note) for note in b if note not in a]
    return both + [dataclasses.replace(note, text=_add_letter(note.text, letter)) for letter, note in only]


def _add_letter(text: str, letter: str) -> str:
    return f"{text.removesuffix('.')} (in {letter}){'.' if text.endswith('.') else ''}"


def _differ(a: pd.DataFrame, b: pd.DataFrame, column: str) -> Flags:
    return np.asarray(a[column].array != b[column].array, dtype=bool)
