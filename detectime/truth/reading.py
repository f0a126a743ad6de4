"""Annotations as the truth of a run: from one's own files, from what came with the labels, or from decisions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os

import numpy as np
import pandas as pd

from detectime import pairing
from detectime.boxes import Floats
from detectime.labels import annotated
from detectime.labels.annotations import Annotations
from detectime.labels.formats import FORMATS
from detectime.labels.tables import TableError, format_names
from detectime.labels.truth_json import FILE_NAME, read_truth_file
from detectime.notes import Note, note_found
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES, TRUTH, TRUTH_SIZE, Outcome
from detectime.settings import suggest_name
from detectime.storage import urls
from detectime.truth.binding import bind_annotations
from detectime.truth.contract import HAND, Truth, TruthError
from detectime.truth.formats import Found, check_format, read_annotations
from detectime.truth.names import Matches, match_names
from detectime.truth.pixels import place_boxes

_PIXELS = ("upright", "stored")
_OF_THE_LABELS = "the annotations of the labels"
_BESIDE = f"{FILE_NAME} beside the labels"
_EXPORTED = (
    "annotated picture was exported by detectime: unless somebody corrected its boxes, they are what a run chose, and "
    "prove nothing",
    "annotated pictures were exported by detectime: unless somebody corrected their boxes, they are what a run chose, "
    "and prove nothing",
)
_REVIEWED = (
    "The truth is what people decided of samples that they saw: it judges what detection and pairing chose before, not "
    "the outcomes that have the decisions."
)


def read_truth(
    run: FinishedRun,
    path: str | os.PathLike[str] | None = None,
    *,
    truth_format: str | None = None,
    truth_pixels: str | None = None,
) -> Truth | None:
    """Read the annotated hands and faces of the frames of a run.

    Boxes are matched with frames by name (`names.match_names`), brought into the pixels of the run
    (`pixels.place_boxes`), and are hands or faces by their label (`targets.read_labels`). What cannot be compared is
    left out, and noted: a frame with a hand whose box is not known, for one, since a sample there may be right.

    Parameters
    ----------
    run
        What `runs.open_run` returned. It must be paired.
    path
        A file or folder of HaGRID, COCO, Pascal VOC, YOLO or CVAT, or a JSON file like the sample's ``truth.json``; a
        local path, or the URL of a file. None: `data.truth` of the run; or else the boxes that came with the
        labels; or else a ``truth.json`` beside the labels, if it has most of the wanted frames, or most of its frames
        are those of the run.
    truth_format
        ``hagrid``, ``coco``, ``voc``, ``yolo``, ``cvat`` or ``truth.json``; None: as recognised.
    truth_pixels
        Which pixels the boxes of frames are in that are stored rotated or mirrored: ``upright`` or ``stored``; None:
        `data.truth_pixels` of the run.

    Returns
    -------
    Truth or None
        None if `path` is None and nothing is annotated. If the ``truth.json`` beside the labels cannot be used, truth
        without frames, with a note that says why.

    Raises
    ------
    TruthError
        If the annotations at `path` cannot be read, are of other frames, or none of them can be compared. Those that
        the run names, or that lie beside its labels, are noted then, and the truth has no frames.
    RunError
        If the outcomes of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> truth = read_truth(open_run("output"), "annotations/instances.json")  # doctest: +SKIP
    >>> len(truth.frames), truth.origin  # doctest: +SKIP
    (120, 'COCO, annotations/instances.json')
    """
    truth_pixels = truth_pixels or run.config.data.truth_pixels
    if truth_pixels not in (None, *_PIXELS):
        raise TruthError(f"truth_pixels = {truth_pixels!r}: {suggest_name(truth_pixels, _PIXELS)}")
    check_format(truth_format)
    configured = run.config.data.truth
    if path is None and configured is not None:
        try:
            return read_truth(run, configured, truth_format=truth_format, truth_pixels=truth_pixels)
        except TruthError as error:  # a finished run is reported for ever, whatever became of its annotations
            remedy = "if it is elsewhere now: `detectime relocate RUN --images DIR --truth PATH`"
            return _note_unused(f"`truth` of the run, {configured},", f"{error} ({remedy})")
    path = None if path is None else os.fspath(path)
    if path is None:
        return _read_own_truth(run, truth_pixels)
    truth = _match_annotations(read_annotations(path, truth_format), run, _find_outcomes(run), path, truth_pixels)
    if truth.frames.empty:
        reasons = "; ".join(map(str, truth.notes))
        raise TruthError(f"{path}: no annotated frame can be compared: {reasons}")
    return truth


def read_reviewed(run: FinishedRun) -> Truth | None:
    """Return what people decided about the hands of frames, as truth.

    It judges what detection and pairing chose before there were decisions,
    ``pairing.pair_frames(run.frames, run.detections, run.pairing)``: the outcomes of the run agree with it.

    Parameters
    ----------
    run
        What `runs.open_run` returned.

    Returns
    -------
    Truth or None
        Of each frame on which somebody decided, other than about its class alone: the hand that was kept, chosen or
        drawn, or none if it was rejected. None if there are no decisions.

    Raises
    ------
    RunError
        If the outcomes cannot be read.
    StoreError
        If the decisions cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> read_reviewed(open_run("output")).origin  # doctest: +SKIP
    'decisions of 2 people'
    """
    outcomes = _find_outcomes(run)
    decision = outcomes["decision"].fillna("")
    is_sample = outcomes["outcome"].isin(SAMPLES)
    is_reviewed = ~decision.isin(["", "label"]) & (is_sample | (outcomes["outcome"] == Outcome.REJECTED))
    reviewed = outcomes[is_reviewed.to_numpy()]
    if reviewed.empty:
        return None
    with_hand = reviewed[is_sample[is_reviewed].to_numpy()]
    names = {"frame_path": with_hand["frame_path"].to_numpy(object), "label": with_hand["class_name"].to_numpy(object)}
    boxes = pd.DataFrame(names, dtype="str").assign(is_target=True)
    boxes.insert(1, "kind", HAND)
    boxes[list(CORNERS)] = pairing.get_boxes(with_hand, "hand")
    people = reviewed["decided_by"].str.split(", ").explode().nunique()
    origin = f"decisions of {people} {'person' if people == 1 else 'people'}"
    frames = pd.Index(reviewed["frame_path"], name="frame_path")
    notes = (Note("reviewed", len(frames), _REVIEWED),)
    return Truth(boxes, frames, origin, lists_all_hands=False, notes=notes, before_decisions=True)


def read_truth_json(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read annotated hands from a JSON file like the sample's ``truth.json``, without a run.

    Parameters
    ----------
    path
        JSON: ``{frame_path: {"hands": [[x1, y1, x2, y2], …], …}}``, in pixels.

    Returns
    -------
    DataFrame
        Truth: one row per hand, with `frame_path` and `x1`, `y1`, `x2`, `y2` (float64); a frame without a hand has one
        row of NaN.

    Raises
    ------
    TruthError
        If it cannot be read.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> read_truth_json(SAMPLE / "truth.json").columns.tolist()
    ['frame_path', 'x1', 'y1', 'x2', 'y2']
    """
    try:
        found = read_truth_file(os.fspath(path))
    except TableError as error:
        raise TruthError(str(error)) from error
    frames = found.images["name"].rename("frame_path").rename_axis("image").reset_index()
    hands = found.boxes[found.boxes["label"] != "face"]
    return frames.merge(hands, on="image", how="left")[["frame_path", *CORNERS]]


def extract_truth(samples: pd.DataFrame, truth_pixels: str | None = None, pixels: str = "upright") -> pd.DataFrame:
    """Extract annotated hands that came with the labels, as with HaGRID or COCO.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned. The optional column `schema.TRUTH` holds the boxes of a frame as JSON,
        ``[[x1, y1, x2, y2], …]``, as fractions of the frame's width and height; the optional column
        `schema.TRUTH_SIZE` the size that the annotation states.
    truth_pixels
        Which pixels these boxes are in: ``upright`` or ``stored``; None: unknown (`data.truth_pixels`).
    pixels
        Which pixels the samples are in, and the truth to return (`detection.pixels`).

    Returns
    -------
    DataFrame
        Truth, as from `read_truth_json`, of the frames that were decoded. ``attrs["notes"]`` tells which annotated
        frames are left out: those that are stored rotated or mirrored, if neither `truth_pixels` nor the stated size
        tells whether they were annotated so, and those whose annotation states a size of another shape than the frame
        has.

    Raises
    ------
    TruthError
        If a value of the column is not such a list.

    Examples
    --------
    >>> frame = {"frame_path": "a.jpg", "width": 640, "height": 480, "true_hands": "[[0.25, 0.5, 0.5, 0.75]]"}
    >>> extract_truth(pd.DataFrame([frame])).to_numpy().tolist()
    [['a.jpg', 160.0, 240.0, 320.0, 360.0]]
    """
    if TRUTH not in samples:
        truth = pd.DataFrame({"frame_path": pd.Series(dtype=str), **{name: pd.Series(dtype=float) for name in CORNERS}})
        truth.attrs["notes"] = []
        return truth
    frames = samples[(_find_annotated(samples) & samples["width"].notna()).to_numpy()]
    annotations = _parse_column(frames)
    placed = place_boxes(annotations, frames, np.zeros(len(frames), bool), truth_pixels, pixels)
    image = annotations.boxes["image"].to_numpy(np.int64)
    is_used = placed.is_usable[image]
    truth = pd.DataFrame(placed.corners[is_used], columns=list(CORNERS))
    truth.insert(0, "frame_path", frames["frame_path"].to_numpy()[image[is_used]])
    truth.attrs["notes"] = placed.notes
    return truth


# -- truth that comes with the labels


def _find_outcomes(run: FinishedRun) -> pd.DataFrame:
    """Return the outcomes with all decisions, whether the run was paired since or not."""
    return run.pair_frames(run.pairing).samples if run.needs_pairing else run.outcomes


def _read_own_truth(run: FinishedRun, truth_pixels: str | None) -> Truth | None:
    outcomes = _find_outcomes(run)
    if TRUTH in outcomes and _find_annotated(outcomes).any():
        return _read_column(run, outcomes, truth_pixels)
    file = _find_truth_beside(run)
    if file is None:
        return None
    try:
        found = read_annotations(file, FILE_NAME)
        names = found.annotations.images["name"]
        if not _fits(names, outcomes):
            return _note_unused(_BESIDE, _explain_misfit(names, outcomes))
        return _match_annotations(found, run, outcomes, file, truth_pixels)
    except TruthError as error:  # nobody said that it is one: no reason to stop
        return _note_unused(_BESIDE, str(error))


def _note_unused(what: str, reason: str) -> Truth:
    """Return truth without frames that says why annotations that nobody gave now are not used."""
    boxes = pd.DataFrame({name: pd.Series(dtype=str) for name in ("frame_path", "kind", "label")})
    boxes["is_target"] = np.zeros(0, bool)
    boxes[list(CORNERS)] = np.zeros((0, 4))
    frames = pd.Index([], dtype="str", name="frame_path")
    note = Note("unused_truth", 1, f"The {what} is not used: {reason}")
    return Truth(boxes, frames, what, notes=(note,))


def _explain_misfit(names: pd.Series, outcomes: pd.DataFrame) -> str:
    count, known = len(names), int(names.isin(outcomes["frame_path"]).sum())
    return (
        f"{known:,} of its {count:,} pictures {'is a frame' if known == 1 else 'are frames'} of the run, which is not "
        "most of either; if it is meant, give it as `truth`, otherwise move it elsewhere"
    )


def _find_truth_beside(run: FinishedRun) -> str | None:
    labels = run.config.data.labels
    if urls.is_remote(labels):
        return None
    file = os.path.join(os.path.dirname(urls.strip_file_scheme(labels)), FILE_NAME)
    return file if os.path.isfile(file) else None


def _fits(names: pd.Series, outcomes: pd.DataFrame) -> bool:
    """Whether most annotated pictures are frames of the run, or most wanted frames are annotated."""
    wanted = outcomes.loc[outcomes["wanted"], "frame_path"]
    return bool(names.isin(outcomes["frame_path"]).mean() > 0.5 or wanted.isin(names).mean() > 0.5)


def _find_annotated(samples: pd.DataFrame) -> pd.Series:
    """Find frames whose column of boxes has one."""
    return samples[TRUTH].notna() & (samples[TRUTH] != "[]")


def _read_column(run: FinishedRun, outcomes: pd.DataFrame, truth_pixels: str | None) -> Truth:
    """Return the boxes of the column, which show the class that the frame has in the labels."""
    rows = np.flatnonzero(_find_annotated(outcomes))
    annotations = _parse_column(outcomes.iloc[rows])
    labelled = run.frames.set_index("frame_path")["class_name"].reindex(outcomes["frame_path"].iloc[rows])
    image = annotations.boxes["image"].to_numpy(np.int64)
    annotations.boxes["label"] = labelled.to_numpy(object)[image]
    matches = Matches(rows, np.zeros(len(rows), bool), [])
    return bind_annotations(
        annotations, matches, outcomes, run.config, _describe_labels(run), truth_pixels, lists_all_hands=False
    )


def _describe_labels(run: FinishedRun) -> str:
    """Say what the labels are, as far as they say so themselves or are still there."""
    data = run.config.data
    name: str | None = data.labels_type
    if name is None and not urls.is_remote(data.labels):
        with contextlib.suppress(TableError, OSError):
            name = annotated.recognise(data.labels)
    return (
        f"{FORMATS[name].title}, {_OF_THE_LABELS}"
        if name in FORMATS
        else f"{_OF_THE_LABELS[0].upper()}{_OF_THE_LABELS[1:]}"
    )


def _parse_column(frames: pd.DataFrame) -> Annotations:
    """Return the boxes of a column as annotations, one picture per row."""
    try:
        found = json.loads(f"[{','.join(frames[TRUTH])}]")
        corners = np.array([box for hands in found for box in hands], np.float64).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise TruthError(f"column {TRUTH}: a value is not a list of boxes [[x1, y1, x2, y2], …]: {error}") from error
    boxes = pd.DataFrame({"image": np.repeat(np.arange(len(frames)), [len(hands) for hands in found]), "label": ""})
    boxes[list(CORNERS)] = corners
    images = pd.DataFrame({"name": frames["frame_path"].to_numpy()})
    images[["width", "height"]] = _parse_sizes(frames)
    return Annotations(images, boxes, "fractions")


def _parse_sizes(frames: pd.DataFrame) -> Floats:
    if TRUTH_SIZE not in frames:
        return np.full((len(frames), 2), np.nan)
    sizes: Floats = frames[TRUTH_SIZE].fillna("nanxnan").str.split("x", expand=True).to_numpy(np.float64)
    return sizes.reshape(-1, 2)


# -- truth of one's own


def _match_annotations(
    found: Found, run: FinishedRun, outcomes: pd.DataFrame, path: str, truth_pixels: str | None
) -> Truth:
    annotations, frame_paths = found.annotations, outcomes["frame_path"].tolist()
    matches = match_names(annotations, frame_paths)
    if not (matches.row >= 0).any():
        raise TruthError(_explain_mismatch(annotations, matches, frame_paths, path))
    if found.is_export:
        matches = dataclasses.replace(matches, is_exported=matches.row >= 0)
    exported = annotations.images["name"].to_numpy(object)[matches.is_exported].tolist()
    matches.notes.extend(note_found("exported", exported, *_EXPORTED))
    return bind_annotations(
        annotations, matches, outcomes, run.config, found.origin, truth_pixels, lists_all_hands=not exported
    )


def _explain_mismatch(annotations: Annotations, matches: Matches, frame_paths: list[str], path: str) -> str:
    names = annotations.images["name"].tolist()
    reasons = [str(note) for note in matches.notes if note.kind == "ambiguous"]
    return (
        f"{path}: none of the {len(names):,} annotated pictures is a frame of the run, by its path or the end of it: "
        f"they are such as {format_names(names[:2]) or 'none'}, the {len(frame_paths):,} frames such as "
        f"{format_names(frame_paths[:2])}{''.join(f'; {reason}' for reason in reasons)}. Name pictures as `frame_path` "
        "does, or give the annotations of these frames"
    )
