"""Corrections made in CVAT, as decisions: what came back is compared with what was exported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats, Integers
from detectime.config import NO_GESTURE
from detectime.decisions import SAME_BOX, Action, Decision, DecisionError, check_reviewer
from detectime.exports import export, samples_csv
from detectime.exports.annotations import FACE
from detectime.judgements import Judgement, judge_frames, list_changed, note_unread
from detectime.labels.cvat import CvatAnnotations, read_cvat
from detectime.labels.tables import format_names
from detectime.notes import Note, note_found
from detectime.runs import FinishedRun
from detectime.schema import CORNERS
from detectime.storage.store import has_file, open_store

_DEFAULT_EXPORT = "exports/cvat"  # in the folder of a run, where notebook 02 writes it
_MOVED = 0.01  # pixels from which a corner counts as moved: CVAT keeps two decimals
_SAME_IOU = 1e-6  # difference up to which two boxes overlap a third alike


def import_cvat(
    run: FinishedRun,
    file: str | os.PathLike[str],
    reviewer: str,
    export_folder: str | os.PathLike[str] | None = None,
    *,
    reviewed: bool = False,
) -> tuple[list[Decision], list[Note]]:
    """Make decisions of what a team changed in CVAT. Nothing is written: see `decision_import.import_decisions`.

    Of each picture, the box of a gesture that overlaps the exported one most is compared with it. A box that was moved
    or drawn gives `box`, one that was deleted `reject`, and another class `label`. Pictures that are not in the file,
    such as those of other jobs, give no decision; nor do frames that changed, or on which somebody decided, since they
    were exported.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    file
        What CVAT exported as `CVAT for images 1.1`: ``annotations.xml``, or the zip with it; a path or URL.
    reviewer
        Who decided.
    export_folder
        The export that was corrected; None: ``exports/cvat`` in the folder of the run.
    reviewed
        Every picture in the file was looked at: boxes that nobody changed give `keep`, and pictures that have none, as
        they were exported, `reject`: there is no hand to draw.

    Returns
    -------
    decisions, notes
        In the order of the pictures in the file; for `DecisionLog.append`. And what was not used, or not decided.

    Raises
    ------
    TableError
        If the file cannot be read: see `labels.cvat.read_cvat`.
    ExportError
        If the export cannot be read.
    DecisionError
        If the export is not found, or the file does not fit it or the run: no picture is known, one has another size or
        occurs twice, a label is no class, or boxes were lost on their way into CVAT.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> decisions, notes = import_cvat(run, "task.zip", "anna", "exports/cvat")  # doctest: +SKIP
    >>> DecisionLog(run.store, "anna").append(*decisions)  # doctest: +SKIP
    """
    reviewer = check_reviewer(reviewer)
    found = read_cvat(file)
    exported, finished = _read_export(run, _find_export(run) if export_folder is None else export_folder)
    pictures, notes = _match_pictures(found.images, exported, os.fspath(file))
    notes += _note_absent(exported, pictures)
    pictures, changed = _drop_changed(run, pictures)
    drawn = _list_gestures(found, pictures, run, os.fspath(file))
    _check_losses(found, pictures, os.fspath(file))
    choice = _choose_boxes(drawn, pictures)
    judgements, decided = _drop_decided(run, _list_judgements(pictures, choice, reviewed=reviewed), finished)
    shown, pinned = _list_shown(run, pictures, judgements)
    decisions = judge_frames(run, judgements, reviewer, shown=shown)
    notes += [*changed, *decided, *pinned, *_note_choices(pictures, choice), *note_unread(decisions)]
    return decisions, [*found.notes, *notes]


@dataclass(frozen=True)
class _Choice:
    """The box of each picture that counts.

    Attributes
    ----------
    corners
        float64, shape (pictures, 4), NaN where there is none.
    class_name
        object, shape (pictures,): its label, None where there is none.
    is_unclear
        bool, shape (pictures,): several boxes could be meant, or shapes are not used.
    others
        int64, shape (pictures,): how many further boxes of gestures there are.
    """

    corners: Floats
    class_name: NDArray[np.object_]
    is_unclear: Flags
    others: Integers


# -- what was exported: one row per picture with its `file`, frame, class, box (NaN without a sample) and size


def _find_export(run: FinishedRun) -> str:
    folder = f"{run.store}/{_DEFAULT_EXPORT}"
    if not has_file(run.store, f"{_DEFAULT_EXPORT}/{samples_csv.FILE_NAME}"):
        raise DecisionError(f"{folder}: there is no export; give --export DIR, the export that went to CVAT")
    return folder


def _read_export(run: FinishedRun, folder: str | os.PathLike[str]) -> tuple[pd.DataFrame, str]:
    """Return the pictures of an export, and when it was finished."""
    state = export.read_export(folder)
    if state["finished"] is None:
        raise DecisionError(f"{folder}: this export is not finished; the same `detectime export` finishes it")
    if state["settings"]["box"] == "bbox":
        raise DecisionError(
            f"{folder}: this export holds crops instead of hands (box = bbox), from which no hand follows; export with "
            "`box: hand`"
        )
    rows = samples_csv.read_samples_csv(open_store(folder, reading=True))
    is_crop = (rows["crop_x2"] - rows["crop_x1"] != rows["width"]) | (
        rows["crop_y2"] - rows["crop_y1"] != rows["height"]
    )
    if is_crop.any():
        raise DecisionError(f"{folder}: this export holds pictures of crops; export with `images: frames`")
    pictures = rows.drop_duplicates("file").set_index("file")
    samples = rows[rows["kind"] == "sample"].set_index("file").reindex(pictures.index)
    classes = run.outcomes.set_index("frame_path")["class_name"].reindex(pictures["frame_path"])
    unknown = pictures["frame_path"][classes.isna().to_numpy()].tolist()
    if unknown:
        raise DecisionError(
            f"{folder}: frames of this export are not in {run.store}: {format_names(unknown)}; give the run that was "
            f"exported, {state['run']}"
        )
    exported = pictures[["frame_path", "width", "height", "content"]].copy()
    exported[list(CORNERS)] = samples[list(CORNERS)].to_numpy()
    is_sample = samples["kind"].notna().to_numpy()
    exported["class_name"] = np.where(is_sample, samples["class_name"].to_numpy(object), classes.to_numpy(object))
    return exported.reset_index(), str(state["started"])


def _drop_changed(run: FinishedRun, pictures: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """Leave out pictures whose frame was detected again, with another content, since it was exported."""
    frames = list_changed(run, pictures)
    why = "changed since the export; nothing is decided of"
    found = note_found("changed", frames, f"frame {why} it", f"frames {why} them")
    return pictures[~pictures["frame_path"].isin(frames)].reset_index(drop=True), found


def _drop_decided(run: FinishedRun, judgements: list[Judgement], finished: str) -> tuple[list[Judgement], list[Note]]:
    """Leave out judgements about frames on which somebody decided after they were exported."""
    later = {decision.frame_path for decision in run.decisions.decisions if decision.at > finished}
    frames = list(dict.fromkeys(judgement.frame_path for judgement in judgements if judgement.frame_path in later))
    why = "decided on after the export was made, which stands: what CVAT says of"
    rest = "does not count; export again to change it"
    found = note_found("decided", frames, f"frame was {why} it {rest}", f"frames were {why} them {rest}")
    return [judgement for judgement in judgements if judgement.frame_path not in later], found


# -- which picture is which


def _match_pictures(images: pd.DataFrame, exported: pd.DataFrame, file: str) -> tuple[pd.DataFrame, list[Note]]:
    """Return the exported pictures that are in the file, in its order, with `name` and `unused` of the file."""
    names = images["name"].tolist()
    rows = _match_names(names, exported[exported["file"] != exported["frame_path"]]["file"])
    if not (rows >= 0).any():
        rows = _match_paths(names, exported["frame_path"].tolist())
    is_known = rows >= 0
    if not is_known.any():
        raise DecisionError(
            f"{file}: none of its pictures was exported, such as {format_names(names[:1])}; exported are such as "
            f"{format_names(exported['file'].tolist()[:1]) or 'none'}; give the export that was corrected"
        )
    pictures = exported.iloc[rows[is_known]].reset_index(drop=True)
    pictures["name"] = images["name"][is_known].to_numpy(object)
    pictures["image"] = np.flatnonzero(is_known)
    pictures["unused"] = images["unused"].to_numpy()[is_known]
    _refuse_repeated(pictures, file)
    _refuse_other_sizes(pictures, images[is_known], file)
    unknown = images["name"][~is_known].tolist()
    return pictures, note_found("unknown", unknown, "picture was not exported", "pictures were not exported")


def _match_names(names: list[str], files: pd.Series) -> Integers:
    """Return the row of each name among the exported pictures, by its name without folders and ending; -1 for none.

    The names of exported pictures are unique: they end with a part of the hash of the frame's path.
    """
    known = {_get_stem(file): row for row, file in files.items()}
    return np.array([known.get(_get_stem(name), -1) for name in names], np.int64)


def _get_stem(path: str) -> str:
    return os.path.splitext(path.rpartition("/")[2])[0]


def _match_paths(names: list[str], frame_paths: list[str]) -> Integers:
    """Return the row of each name among the frames; -1 for none.

    CVAT may have put folders in front of all names, or have left out folders that all frames are in.
    """
    for asked, known in _list_variants(names, frame_paths):
        position = {path: row for row, path in enumerate(known)}
        rows = np.array([position.get(name, -1) for name in asked], np.int64)
        if (rows >= 0).any():
            return rows
    return np.full(len(names), -1)


def _list_variants(names: list[str], paths: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    yield names, paths
    for prefix in _list_prefixes(names):
        yield [name.removeprefix(prefix) for name in names], paths
    for prefix in _list_prefixes(paths):
        yield names, [path.removeprefix(prefix) for path in paths]


def _list_prefixes(paths: list[str]) -> Iterator[str]:
    """Yield the folders that all paths are in, the outermost first, each with its slash."""
    first, last = min(paths, default=""), max(paths, default="")  # the two that differ earliest
    for end, (letter, other) in enumerate(zip(first, last, strict=False), start=1):
        if letter != other:
            return
        if letter == "/":
            yield first[:end]


def _refuse_repeated(pictures: pd.DataFrame, file: str) -> None:
    repeated = pictures["frame_path"].duplicated(keep=False)
    if repeated.any():
        frame_path = pictures.loc[repeated, "frame_path"].iloc[0]
        names = pictures.loc[pictures["frame_path"] == frame_path, "name"].tolist()
        raise DecisionError(
            f"{file}: several pictures are of the frame {frame_path!r}: {format_names(names)}; export task by task"
        )


def _refuse_other_sizes(pictures: pd.DataFrame, images: pd.DataFrame, file: str) -> None:
    sizes, found = (table[["width", "height"]].to_numpy(np.int64) for table in (pictures, images))
    other = np.flatnonzero((sizes != found).any(axis=1))
    if len(other):
        first = int(other[0])
        (width, height), (found_width, found_height) = sizes[first].tolist(), found[first].tolist()
        raise DecisionError(
            f"{file}: {len(other)} of {len(pictures)} pictures do not have the size of their frame; the first, "
            f"{pictures['name'].iloc[first]!r}, is {found_width} × {found_height} instead of {width} × {height}; make "
            "the task of the exported pictures, as they are"
        )


def _note_absent(exported: pd.DataFrame, pictures: pd.DataFrame) -> list[Note]:
    absent = exported["file"][~exported["file"].isin(pictures["file"])].tolist()
    one = "picture of the export is not in the file: nothing is decided of it"
    return note_found("absent", absent, one, "pictures of the export are not in the file: nothing is decided of them")


# -- what was drawn


def _list_gestures(found: CvatAnnotations, pictures: pd.DataFrame, run: FinishedRun, file: str) -> pd.DataFrame:
    """Return the boxes that may be the sample of their picture: `picture`, its row, `label`, corners and `iou`.

    A box of the class no_gesture is none, unless the picture was exported as of this class, or no gesture is left and
    the box lies where the sample was: its class was changed.
    """
    vocabulary = set(run.config.labels)
    picture = np.full(len(found.images), -1)
    picture[pictures["image"]] = np.arange(len(pictures))
    drawn = found.boxes.assign(picture=picture[found.boxes["image"].to_numpy()])
    drawn = drawn[drawn["picture"] >= 0]
    drawn = drawn[(drawn["label"] != FACE) | (FACE in vocabulary)].reset_index(drop=True)
    _refuse_unknown_labels(drawn, pictures, [*run.config.labels, NO_GESTURE], file)
    row = drawn["picture"].to_numpy()
    drawn["iou"] = boxes.compute_iou(drawn[list(CORNERS)].to_numpy(), pictures[list(CORNERS)].to_numpy()[row])
    is_gesture = ((drawn["label"] != NO_GESTURE) | (pictures["class_name"] == NO_GESTURE).to_numpy()[row]).to_numpy()
    has_gesture = np.bincount(row[is_gesture], minlength=len(pictures)) > 0
    is_relabelled = ~has_gesture[row] & (drawn["iou"].to_numpy() >= SAME_BOX) & (NO_GESTURE in vocabulary)
    chosen: pd.DataFrame = drawn[is_gesture | is_relabelled].reset_index(drop=True)
    return chosen


def _refuse_unknown_labels(drawn: pd.DataFrame, pictures: pd.DataFrame, accepted: Iterable[str], file: str) -> None:
    known = list(dict.fromkeys(accepted))
    unknown = drawn[~drawn["label"].isin(known)]
    if len(unknown):
        name = pictures["name"].iloc[int(unknown["picture"].iloc[0])]
        labels = format_names(unknown["label"].unique().tolist())
        raise DecisionError(
            f"{file}: {len(unknown)} boxes have labels that are no class: {labels}; the first is in {name!r}; "
            f"accepted: {', '.join(known)}; change the label in CVAT, or add it to `labels` in config.yml"
        )


def _check_losses(found: CvatAnnotations, pictures: pd.DataFrame, file: str) -> None:
    """Refuse a file whose boxes were lost on their way into CVAT, so that no person deleted them."""
    samples = pictures[pictures["x1"].notna()]
    remedy = "upload annotations.xml to the task again, and correct it then"
    if len(samples) and found.boxes.empty and not found.images["unused"].any():
        raise DecisionError(f"{file}: has no boxes, of {len(samples)} that were exported; {remedy}")
    lost = samples[~samples["class_name"].isin(found.labels)] if found.labels else samples[:0]
    if len(lost):
        raise DecisionError(
            f"{file}: the task has no label {format_names(lost['class_name'].unique().tolist())}, so that CVAT did not "
            f"take {len(lost)} of the exported boxes; add the labels of labels.json to the task, {remedy}"
        )


def _choose_boxes(drawn: pd.DataFrame, pictures: pd.DataFrame) -> _Choice:
    """Choose the box that overlaps the exported one most; where none overlaps, the only one of the frame's class."""
    picture, iou, label = (drawn[name].to_numpy() for name in ("picture", "iou", "label"))
    corners = drawn[list(CORNERS)].to_numpy()
    is_own = label == pictures["class_name"].to_numpy(object)[picture]
    order = np.lexsort((~is_own, -iou, picture))
    first = order[np.unique(picture[order], return_index=True)[1]]
    counts = np.bincount(picture, minlength=len(pictures))
    chosen = np.full(len(pictures), -1)
    chosen[picture[first]] = first
    best = chosen[picture]  # of each box, the one that counts in its picture
    alike = (iou[best] - iou <= _SAME_IOU) & ((iou > 0) | (is_own == is_own[best]))
    equal = (label == label[best]) & (np.abs(corners - corners[best]).max(axis=1, initial=0) <= _MOVED)
    is_unclear = pictures["unused"].to_numpy() > 0
    is_unclear[picture[alike & ~equal]] = True
    return _Choice(
        corners=np.concatenate([corners, np.full((1, 4), np.nan)])[chosen],  # index -1, no box, takes the last
        class_name=np.array([*label, None], object)[chosen],
        is_unclear=is_unclear,
        others=np.maximum(counts - 1, 0),
    )


def _list_judgements(pictures: pd.DataFrame, choice: _Choice, *, reviewed: bool) -> list[Judgement]:
    """Return what was said of the pictures, in their order; of the hand before the class."""
    before, after = pictures[list(CORNERS)].to_numpy(), choice.corners
    had_box, has_box = ~np.isnan(before[:, 0]), ~np.isnan(after[:, 0])
    is_equal = np.abs(after - before).max(axis=1, initial=0) <= _MOVED
    kinds: dict[Action, Flags] = {
        "reject": ~has_box & (had_box | reviewed),
        "box": has_box & ~is_equal,
        "keep": is_equal & reviewed,
        "label": has_box & (choice.class_name != pictures["class_name"].to_numpy(object)),
    }
    said = [(row, action) for action, flags in kinds.items() for row in np.flatnonzero(flags & ~choice.is_unclear)]
    paths, corners = pictures["frame_path"].tolist(), after.tolist()
    return [
        Judgement(
            paths[row],
            action,
            box=tuple(corners[row]) if action == "box" else None,
            class_name=choice.class_name[row] if action == "label" else None,
        )
        for row, action in sorted(said, key=lambda each: each[0])
    ]


def _list_shown(
    run: FinishedRun, pictures: pd.DataFrame, judgements: Iterable[Judgement]
) -> tuple[pd.DataFrame, list[Note]]:
    """Return the outcomes of the pictures as they were exported; the crop stays where the hand is still the same.

    Kept boxes that are not the present ones are noted.
    """
    outcomes = run.outcomes.set_index("frame_path", drop=False).loc[pictures["frame_path"]].reset_index(drop=True)
    exported, hand = pictures[list(CORNERS)].to_numpy(), pairing.get_boxes(outcomes, "hand")
    is_equal = np.abs(exported - hand).max(axis=1, initial=0) <= _MOVED
    kept = {judgement.frame_path for judgement in judgements if judgement.action == "keep"}
    pinned = [path for path in pictures["frame_path"][~is_equal].tolist() if path in kept]
    one = "kept box is not what pairing gives today: it is pinned as it was exported"
    many = "kept boxes are not what pairing gives today: they are pinned as they were exported"
    crop = np.where(is_equal[:, None], pairing.get_boxes(outcomes, "bbox"), np.nan)
    for k, corner in enumerate(CORNERS):
        outcomes[f"hand_{corner}"], outcomes[f"bbox_{corner}"] = exported[:, k], crop[:, k]
    outcomes["class_name"] = pictures["class_name"].to_numpy(object)
    outcomes["content"] = pictures["content"].replace("", None).to_numpy(object)
    return outcomes, note_found("pinned", pinned, one, many)


def _note_choices(pictures: pd.DataFrame, choice: _Choice) -> list[Note]:
    unclear = pictures["name"][choice.is_unclear].tolist()
    several = pictures["name"][~choice.is_unclear & (choice.others > 0)].tolist()
    why = "shapes that are not used, or several boxes that could be the sample: nothing is decided of"
    rule = "several boxes of gestures: the one that counts is that which overlaps the exported box most"
    return [
        *note_found("unclear", unclear, f"picture has {why} it", f"pictures have {why} them"),
        *note_found("several", several, f"picture has {rule}", f"pictures have {rule}"),
    ]
