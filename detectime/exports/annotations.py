"""The neutral table of an export, made from the outcomes and detections of a run: see `contract.ExportData`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import detectime
from detectime import boxes, pairing, splits
from detectime.boxes import Flags, Floats, Integers
from detectime.candidates import FlatBoxes, find_candidates
from detectime.config import NO_GESTURE
from detectime.exports.contract import NO_SPLIT, ExportConfig, ExportData, ExportError, Format
from detectime.exports.picture_names import name_pictures
from detectime.exports.selection import Selection, read_detections_of
from detectime.notes import Note, note_found
from detectime.runs import FinishedRun
from detectime.schema import CORNERS

FACE = "face"
"""The class of the faces, if they are exported."""

_CONFIDENT = 0.5  # score from which another hand counts
_SAME_HAND = 0.5  # share of the smaller box inside the larger one, above which both show the same hand
_COVERED = 0.1  # share of a hand under a blurred face that is worth a note


@dataclass(frozen=True)
class Collected:
    """What is exported in a format, before any file is written.

    Attributes
    ----------
    data
        The neutral table.
    faces
        One array of faces per picture, float64, shape (faces, 4), in pixels of the frame; empty if none are blurred.
    notes
        Findings.
    thinned
        The number of samples of each class that were left out as redundant.
    """

    data: ExportData
    faces: list[Floats]
    notes: tuple[Note, ...]
    thinned: dict[str, int]


@dataclass(frozen=True)
class _Boxes:
    """Boxes of frames: the row of each one's frame, ascending; corners, shape (N, 4); scores."""

    frame: Integers
    corners: Floats
    scores: Floats


def collect_annotations(run: FinishedRun, selection: Selection, kind: Format, config: ExportConfig) -> Collected:
    """Collect what an export holds in a format.

    Parameters
    ----------
    run
        The run.
    selection
        The frames that are exported.
    kind
        The format.
    config
        What is exported; `images` and `box` that are None get the format's defaults.

    Raises
    ------
    ExportError
        If the format cannot hold what is asked for, or a class of that name.
    RunError
        If the detections of the run cannot be read.
    """
    pictures = config.images or kind.images
    check_settings(kind, config)
    classes, numbers = _list_classes(run, config)
    _check_classes(kind, classes)
    hands, faces = _read_boxes(run, selection)
    box = choose_box(kind, config)
    objects = _list_objects(selection, hands, faces, config, classes, box)
    images, objects = _list_images(selection.frames, objects, numbers, pictures)
    rows = _find_rows(images, selection.frames)
    contents = selection.contents.to_numpy(dtype=object)[rows]
    images["content"] = np.array([content or "" for content in contents], dtype=object)
    about = {"detectime": detectime.__version__, "output": str(run.store), "finished": run.manifest["finished"]}
    if selection.parts != (NO_SPLIT,):
        about["split"] = _describe_split(run)
    data = ExportData(images, objects, classes, numbers, selection.parts, pictures, about)
    fault = kind.find_data_fault(data)
    if fault:
        raise ExportError(f"{kind.name}: {fault}")
    notes = [*selection.notes, *_note_turned_frames(selection.frames, pictures, run)]
    if pictures != "crops":
        notes += _note_other_hands(selection.frames, hands, config)
    if config.no_gesture:
        notes += _note_undetected(run)
    if config.blur_faces:
        notes += _note_blurring(selection, faces)
    blurred = _group_corners(faces, len(selection.frames), rows) if config.blur_faces else []
    return Collected(data, blurred, tuple(notes), selection.thinned)


def choose_box(kind: Format, config: ExportConfig) -> str:
    """Return which box is exported: as set, or the crop for pictures of crops, or the format's default."""
    return config.box or ("bbox" if (config.images or kind.images) == "crops" else kind.box)


def check_settings(kind: Format, config: ExportConfig) -> None:
    """Refuse settings that do not fit a format.

    Raises
    ------
    ExportError
        If the format cannot hold what is asked for; the message names the setting and what is accepted.
    """
    pictures = config.images or kind.images
    box = config.box or kind.box
    wanted = [
        ("images", pictures, kind.accepted_images),
        ("box", box, kind.accepted_boxes),
        ("only", config.only, kind.accepted_only),
    ]
    for key, value, accepted in wanted:
        if value not in accepted:
            raise ExportError(f"{key} = {value}: {kind.name} accepts {', '.join(accepted)}")
    if config.faces and pictures == "crops":
        raise ExportError(
            f"faces = true: {kind.name} with images = {pictures} holds no boxes in frames; set it to false"
        )
    if config.blur_faces and pictures == "none":
        raise ExportError("blur_faces = true: with images = none no picture is written; choose crops or frames")
    if config.contact_sheet and pictures == "none":
        raise ExportError("contact_sheet = true: with images = none no picture is written; choose crops or frames")


def _list_classes(run: FinishedRun, config: ExportConfig) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the classes in the order of their numbers, and the number of each."""
    vocabulary = dict(run.config.labels)
    wanted = set(run.config.classes) | ({NO_GESTURE} if config.no_gesture else set())
    classes = sorted(wanted, key=lambda name: (vocabulary.get(name, -1), name))
    numbers = {name: vocabulary[name] for name in classes if name in vocabulary}
    if config.no_gesture and NO_GESTURE not in vocabulary:
        numbers[NO_GESTURE] = max(vocabulary.values(), default=-1) + 1
    if config.faces:
        if FACE in vocabulary:
            raise ExportError(f"faces = true: the vocabulary has a class {FACE!r} already; rename it in section labels")
        classes.append(FACE)
        numbers[FACE] = max([*vocabulary.values(), *numbers.values()], default=-1) + 1
    return tuple(classes), numbers


def _check_classes(kind: Format, classes: Sequence[str]) -> None:
    faults = [(name, fault) for name in classes if (fault := kind.find_fault(name))]
    if faults:
        lines = [f"class {name!r}: {kind.name} cannot hold this name: {fault}" for name, fault in faults]
        remedy = "rename it in section labels of config.yml and in the labels, and run again"
        raise ExportError("\n".join([*lines[:-1], f"{lines[-1]}; {remedy}"]))
    folded: dict[str, str] = {}
    for name in classes:
        first = folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if first != name:
            raise ExportError(
                f"classes {first!r} and {name!r} differ only by case or by Unicode form, so that their files would be "
                "one on many systems; rename one in section labels"
            )


def _describe_split(run: FinishedRun) -> str:
    """Say how the split was made, a sentence."""
    made = run.manifest.get("split")
    if not made:
        return "The parts are those of split.csv."
    is_edited = made.get("edited") or made.get("sha256") not in (None, splits.hash_split(run.store))
    end = ", and edited by hand since." if is_edited else "."
    if made["column"] is not None:
        return f"The parts are those of the column {made['column']} of the labels{end}"
    shares = ", ".join(f"{name} {share:g}" for name, share in made["shares"].items())
    return f"Made by detectime from the shares {shares}, stratified by class, with the seed {made['seed']}{end}"


# -- what was detected in the frames


def _read_boxes(run: FinishedRun, selection: Selection) -> tuple[_Boxes, _Boxes]:
    """Return the further hands and the faces of all frames."""
    found = find_candidates(read_detections_of(run, ["frame_path", "faces", "hands"], selection.frames))
    own = np.where(selection.is_sample[:, None], pairing.get_boxes(selection.frames, "hand"), np.nan)
    return _take_boxes(found.hands, _find_other_hands(found.hands, own)), _take_boxes(found.faces, None)


def _take_boxes(found: FlatBoxes, rows: Integers | None) -> _Boxes:
    rows = np.arange(len(found)) if rows is None else rows
    return _Boxes(
        found.frame[rows].astype(np.int64),
        found.corners[rows].astype(np.float64),
        found.scores[rows].astype(np.float64),
    )


def _find_other_hands(hands: FlatBoxes, own: Floats) -> Integers:
    """Return the indices of confident hands that are not the sample, each hand once, the best first within a frame.

    Parameters
    ----------
    hands
        All hands.
    own
        Shape (frames, 4): the sample of each frame; NaN where there is none.
    """
    is_other = hands.scores >= _CONFIDENT
    is_other &= ~_show_same_hand(hands.corners, own[hands.frame])
    candidates = np.flatnonzero(is_other)
    order = candidates[np.lexsort((-hands.scores[candidates], hands.frame[candidates]))]
    earlier: dict[int, list[Floats]] = {}
    chosen: list[int] = []
    for index, frame in zip(order.tolist(), hands.frame[order].tolist(), strict=True):
        kept = earlier.setdefault(frame, [])
        if not any(_show_same_hand(hands.corners[index], other) for other in kept):
            kept.append(hands.corners[index])
            chosen.append(index)
    return np.array(chosen, np.int64)


def _show_same_hand(a: Floats, b: Floats) -> Flags:
    """Whether boxes show the same hand: one may be of a part of it, which the IoU would miss."""
    smaller = np.minimum(boxes.compute_area(a), boxes.compute_area(b))
    same: Flags = boxes.compute_overlap(a, np.nan_to_num(b)) > _SAME_HAND * np.nan_to_num(smaller)
    return same


# -- the tables


def _list_objects(
    selection: Selection,
    hands: _Boxes,
    faces: _Boxes,
    config: ExportConfig,
    classes: tuple[str, ...],
    box: str,
) -> pd.DataFrame:
    """Return the columns of `ExportData.objects`, `image` being the frame: sample, further hands, faces."""
    frames, rows = selection.frames, np.flatnonzero(selection.is_sample)
    names = frames["class_name"].to_numpy(dtype=object)[rows]
    samples = _Boxes(rows, pairing.get_boxes(frames, box)[rows], frames["hand_score"].to_numpy(np.float64)[rows])
    parts = [_make_objects(samples, names, "sample")]
    if config.no_gesture:
        parts.append(_make_objects(hands, NO_GESTURE, "other_hand"))
    if config.faces:
        parts.append(_make_objects(faces, FACE, "face"))
    objects = pd.concat(parts, ignore_index=True).sort_values("image", kind="stable", ignore_index=True)
    width, height = (frames[side].to_numpy(np.float64)[objects["image"]] for side in ("width", "height"))
    objects[list(CORNERS)] = boxes.clip_boxes(objects[list(CORNERS)].to_numpy(), width, height)
    index = {name: k for k, name in enumerate(classes)}
    objects.insert(2, "index", objects["class_name"].map(index).to_numpy(np.int64))
    return objects


def _make_objects(found: _Boxes, class_name: Any, kind: str) -> pd.DataFrame:
    corners = {name: found.corners[:, k] for k, name in enumerate(CORNERS)}
    columns = {"image": found.frame, "class_name": class_name, **corners, "score": found.scores, "kind": kind}
    return pd.DataFrame(columns).astype({"class_name": object})


def _list_images(
    frames: pd.DataFrame, objects: pd.DataFrame, numbers: dict[str, int], pictures: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `ExportData.images`, and the objects with the row of their picture."""
    names = np.array(name_pictures(frames["frame_path"]), dtype=object)
    if pictures != "crops":
        images = _describe_images(frames, names)
        zeros = np.zeros(len(images), np.int64)
        return _add_crop(images, np.column_stack([zeros, zeros, images["width"], images["height"]])), objects
    frame = objects["image"].to_numpy(np.int64)
    number = (objects.groupby("image").cumcount() + 1).tolist()
    endings = np.array([f"-{k}" if k > 1 else "" for k in number], dtype=object)
    images = _describe_images(frames.iloc[frame], names[frame] + endings)
    images["class_name"] = objects["class_name"].to_numpy()
    images["label"] = objects["class_name"].map(numbers).to_numpy(np.int64)
    crop = boxes.round_outward(objects[list(CORNERS)].to_numpy())
    crop = boxes.clip_boxes(crop, images["width"].to_numpy(), images["height"].to_numpy()).astype(np.int64)
    return _add_crop(images, crop), objects.assign(image=np.arange(len(objects)))


def _describe_images(frames: pd.DataFrame, names: Any) -> pd.DataFrame:
    """Return the columns of `ExportData.images` but for the crop."""
    columns: dict[str, Any] = {"name": names, "file": frames["frame_path"]}
    columns |= {name: frames[name] for name in ("frame_path", "video_name", "frame_id", "class_name", "label", "split")}
    columns |= {side: frames[side].astype(np.int64) for side in ("width", "height")}
    columns["decision"] = frames["decision"].fillna("").astype(object)
    return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})


def _add_crop(images: pd.DataFrame, crop: Any) -> pd.DataFrame:
    return images.assign(**{f"crop_{corner}": crop[:, k] for k, corner in enumerate(CORNERS)})


def _find_rows(images: pd.DataFrame, frames: pd.DataFrame) -> Integers:
    """Return the row of each picture's frame."""
    position = pd.Series(np.arange(len(frames)), index=frames["frame_path"])
    return position.reindex(images["frame_path"]).to_numpy(np.int64)


def _group_corners(found: _Boxes, frames: int, rows: Integers) -> list[Floats]:
    """Return the boxes of each row's frame."""
    starts = np.searchsorted(found.frame, np.arange(frames + 1))
    return [found.corners[starts[row] : starts[row + 1]] for row in rows.tolist()]


# -- notes


def _note_turned_frames(frames: pd.DataFrame, pictures: str, run: FinishedRun) -> list[Note]:
    """Note frames whose boxes do not fit what some readers show, if they are not written upright."""
    if pictures != "none" or "orientation" not in frames:
        return []
    turned = frames.loc[frames["orientation"].fillna(1) > 1, "frame_path"].tolist()
    why = (
        f"stored rotated or mirrored, and the boxes are in pixels of the {run.config.detection.pixels} frame: a reader "
        "that does otherwise shows them elsewhere; `images: frames` writes pictures that all readers show alike"
    )
    return note_found("turned", turned, f"frame is {why}", f"frames are {why}")


def _note_other_hands(frames: pd.DataFrame, hands: _Boxes, config: ExportConfig) -> list[Note]:
    """Note hands that a detector would be trained to ignore."""
    if config.no_gesture:
        return []
    paths = frames["frame_path"].to_numpy()[hands.frame].tolist()
    why = (
        "not annotated in the exported frames, which trains a detector to ignore such hands; `no_gesture: true` writes "
        "them as the class no_gesture"
    )
    return note_found("other_hands", paths, f"further hand is {why}", f"further hands are {why}")


def _note_undetected(run: FinishedRun) -> list[Note]:
    """Note frames labelled no_gesture that were not wanted, so that nobody knows which hands they show."""
    frames = run.frames
    paths = frames.loc[(frames["class_name"] == NO_GESTURE) & ~frames["wanted"], "frame_path"].tolist()
    why = "labelled no_gesture, not detected and so not exported; to take them, run again with no_gesture in `classes`"
    return note_found("undetected", paths, f"frame is {why}", f"frames are {why}")


def _note_blurring(selection: Selection, faces: _Boxes) -> list[Note]:
    frames = selection.frames
    is_found = np.isin(np.arange(len(frames)), faces.frame)
    missing = frames["frame_path"][~is_found].tolist()
    why = "no face that was found: nothing is blurred, look at"
    hand = pairing.get_boxes(frames, "hand")[faces.frame]
    share = boxes.compute_overlap(hand, faces.corners) / np.maximum(boxes.compute_area(hand), 1)
    covered = np.unique(faces.frame[(share > _COVERED) & selection.is_sample[faces.frame]])
    what = "partly blurred with a face beside or behind it"
    return [
        *note_found("not_blurred", missing, f"frame has {why} it", f"frames have {why} them"),
        *note_found(
            "blurred_hand", frames["frame_path"].to_numpy()[covered].tolist(), f"hand is {what}", f"hands are {what}"
        ),
    ]
