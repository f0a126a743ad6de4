"""Annotations that are bound to the frames of a run: which can be compared, and which hands show the class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime.boxes import Flags, Integers
from detectime.config import Config
from detectime.labels.annotations import Annotations
from detectime.labels.tables import format_names
from detectime.notes import Note, note_found
from detectime.schema import CORNERS
from detectime.truth.contract import FACE, HAND, Truth, TruthError
from detectime.truth.names import Matches
from detectime.truth.pixels import place_boxes
from detectime.truth.targets import UNKNOWN, find_targets, list_kinds, note_labels, read_labels

_UNANNOTATED = "frame is not annotated, and not compared", "frames are not annotated, and not compared"
_UNDECODED = (
    "annotated frame was not decoded, and is not compared",
    "annotated frames were not decoded, and are not compared",
)
_UNKNOWN_HAND = (
    "annotated frame has a hand whose box is not known, and is not compared",
    "annotated frames have a hand whose box is not known, and are not compared",
)
_UNKNOWN_LABEL = (
    "annotated frame has only boxes whose label does not tell whether they are hands, and is not compared",
    "annotated frames have only boxes whose labels do not tell whether they are hands, and are not compared",
)


def bind_annotations(
    annotations: Annotations,
    matches: Matches,
    outcomes: pd.DataFrame,
    config: Config,
    origin: str,
    truth_pixels: str | None,
    *,
    lists_all_hands: bool,
) -> Truth:
    """Bind annotations to the frames that they match.

    Parameters
    ----------
    annotations
        Of any format.
    matches
        The row of `outcomes` of each of its pictures.
    outcomes
        Of the run.
    config
        Of the run.
    origin, lists_all_hands
        As in `Truth`.
    truth_pixels
        See `pixels.place_boxes`.

    Raises
    ------
    TruthError
        If no label means a hand or a face, so that nobody knows what was annotated.
    """
    chosen, frames, is_exported = _select_decoded(annotations, matches, outcomes)
    placed = place_boxes(chosen, frames, is_exported, truth_pixels, config.detection.pixels)
    boxes = _describe_boxes(chosen, frames, config, origin)
    boxes[list(CORNERS)] = placed.corners
    is_used, left_out = _choose_frames(boxes, frames, placed.is_usable)
    is_kept = is_used[boxes["image"]] & boxes["x1"].notna() & boxes["kind"].isin((HAND, FACE))
    return Truth(
        boxes[is_kept].drop(columns="image").reset_index(drop=True),
        pd.Index(pd.array(frames["frame_path"][is_used].tolist(), "str"), name="frame_path"),
        origin,
        lists_all_hands,
        (
            *annotations.notes,
            *matches.notes,
            *_note_frames(outcomes, matches.row),
            *placed.notes,
            *note_labels(boxes["label"], boxes["kind"].to_numpy(object)),
            *left_out,
        ),
    )


def _select_decoded(
    annotations: Annotations, matches: Matches, outcomes: pd.DataFrame
) -> tuple[Annotations, pd.DataFrame, Flags]:
    """Return the annotations of decoded frames, in the order of the frames; these; and which were exported."""
    images = np.flatnonzero(matches.row >= 0)
    images = images[outcomes["width"].notna().to_numpy()[matches.row[images]]]
    images = images[np.argsort(matches.row[images], kind="stable")]
    return _select_images(annotations, images), outcomes.iloc[matches.row[images]], matches.is_exported[images]


def _select_images(annotations: Annotations, images: Integers) -> Annotations:
    """Return the annotations of some pictures, numbered anew in their order."""
    position = np.full(len(annotations.images), -1)
    position[images] = np.arange(len(images))
    image = position[annotations.boxes["image"].to_numpy(np.int64)]
    rows = np.argsort(image, kind="stable")
    rows = rows[image[rows] >= 0]
    boxes = annotations.boxes.iloc[rows].assign(image=image[rows]).reset_index(drop=True)
    return dataclasses.replace(annotations, images=annotations.images.iloc[images].reset_index(drop=True), boxes=boxes)


def _describe_boxes(annotations: Annotations, frames: pd.DataFrame, config: Config, origin: str) -> pd.DataFrame:
    """Return the columns of `Truth.boxes` but for the corners, and `image`, the row of the frame."""
    image, labels = annotations.boxes["image"].to_numpy(np.int64), annotations.boxes["label"]
    meanings = read_labels(labels.unique(), config)
    kinds = list_kinds(labels, meanings)
    _refuse_unknown_labels(labels, kinds, origin, config)
    classes = pd.Series(frames["class_name"].to_numpy(object)[image])
    return pd.DataFrame(
        {
            "image": image,
            "frame_path": pd.array(frames["frame_path"].to_numpy(object)[image].tolist(), "str"),
            "kind": pd.array(kinds.tolist(), "str"),
            "label": labels,
            "is_target": find_targets(labels, kinds, annotations.boxes["image"], classes, meanings),
        }
    )


def _refuse_unknown_labels(labels: pd.Series, kinds: NDArray[np.object_], origin: str, config: Config) -> None:
    if len(kinds) and UNKNOWN in kinds and not np.isin(kinds, (HAND, FACE)).any():
        raise TruthError(
            f"{origin}: no label means a hand or a face: {format_names(labels.unique().tolist())}; accepted: hand, "
            f"face, and the classes {', '.join(config.labels)}; rename them, or map them in data.hagrid_classes"
        )


def _choose_frames(boxes: pd.DataFrame, frames: pd.DataFrame, is_usable: Flags) -> tuple[Flags, list[Note]]:
    """Return which frames can be compared, and notes about those of which too little is known."""
    is_hand, is_unknown = (boxes["kind"] == HAND).to_numpy(), (boxes["kind"] == UNKNOWN).to_numpy()
    has_hand = _mark_frames(boxes, is_hand, len(frames))
    is_lost = _mark_frames(boxes, is_hand & boxes["x1"].isna().to_numpy(), len(frames)) & is_usable
    is_open = _mark_frames(boxes, is_unknown, len(frames)) & ~has_hand & is_usable
    paths = frames["frame_path"]
    notes = [
        *note_found("unknown_hand", paths[is_lost].tolist(), *_UNKNOWN_HAND),
        *note_found("unknown_label", paths[is_open].tolist(), *_UNKNOWN_LABEL),
    ]
    return is_usable & ~is_lost & ~is_open, notes


def _mark_frames(boxes: pd.DataFrame, chosen: Flags, count: int) -> Flags:
    marked = np.zeros(count, bool)
    marked[boxes["image"].to_numpy()[chosen]] = True
    return marked


def _note_frames(outcomes: pd.DataFrame, row: Integers) -> list[Note]:
    """Note wanted frames that are not annotated, or were not decoded."""
    is_annotated = np.zeros(len(outcomes), bool)
    is_annotated[row[row >= 0]] = True
    wanted, decoded = outcomes["wanted"].to_numpy(bool), outcomes["width"].notna().to_numpy()
    paths = outcomes["frame_path"]
    return [
        *note_found("unannotated", paths[wanted & ~is_annotated].tolist(), *_UNANNOTATED),
        *note_found("undecoded", paths[wanted & is_annotated & ~decoded].tolist(), *_UNDECODED),
    ]
