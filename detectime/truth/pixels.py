"""Annotated boxes in the pixels of the frames of a run: scaled, turned, or left out where nobody can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from detectime import boxes as geometry
from detectime.boxes import Flags, Floats, Integers
from detectime.labels.annotations import Annotations
from detectime.notes import Note, note_found
from detectime.schema import CORNERS

_OUTSIDE = 1.0  # pixels by which a box may leave its frame without counting as clipped: annotations are rounded


@dataclass(frozen=True)
class Placed:
    """Annotated boxes in pixels of the run's frames.

    Attributes
    ----------
    corners
        float64, shape (boxes, 4), inside the frame; NaN where the box is not known, or outside of it.
    is_usable
        bool, shape (images,): whether its boxes can be compared with those of the run.
    notes
        Why others cannot, and boxes that were clipped or scaled.
    """

    corners: Floats
    is_usable: Flags
    notes: list[Note]


def place_boxes(
    annotations: Annotations, frames: pd.DataFrame, is_exported: Flags, truth_pixels: str | None, pixels: str
) -> Placed:
    """Convert annotated boxes to the pixels of a run.

    An annotation may state the size of its picture. If that has another shape than the frame, its boxes are not used.
    If it is of another size, as of a smaller edition, they are scaled. Whether the picture of a frame that is stored
    rotated or mirrored was annotated upright or as it is stored, `truth_pixels` tells, or else its shape, or else
    nothing.

    Parameters
    ----------
    annotations
        Of decoded frames.
    frames
        One row per picture: `frame_path`, `width` and `height` in pixels of the run, `orientation` (EXIF) if known.
    is_exported
        bool, shape (images,): detectime exported the picture, in the pixels of the run.
    truth_pixels
        Which pixels the others are in: ``upright`` or ``stored``; None: unknown.
    pixels
        Which pixels the run is in.

    Examples
    --------
    >>> from detectime.labels.annotations import AnnotationColumns
    >>> columns = AnnotationColumns()
    >>> columns.add_box(columns.add_image("a.jpg", 320, 240), "ok", (10, 20, 30, 40))
    >>> frames = pd.DataFrame({"frame_path": ["a.jpg"], "width": [640], "height": [480]})
    >>> place_boxes(columns.collect("pixels"), frames, np.array([False]), None, "upright").corners.tolist()
    [[20.0, 40.0, 60.0, 80.0]]
    """
    size = frames[["width", "height"]].to_numpy(np.float64)
    stated = annotations.images[["width", "height"]].to_numpy(np.float64)
    turned = np.where(is_exported, 1, _get_orientations(frames))
    image = annotations.boxes["image"].to_numpy(np.int64)
    has_boxes = np.bincount(image, minlength=len(frames)) > 0
    is_other, is_unknown = _choose_pixels(turned, stated, size, truth_pixels, pixels)
    is_unknown &= has_boxes
    is_sideways = is_other & np.isin(turned, geometry.SIDEWAYS)
    annotated = np.where(is_sideways[:, None], size[:, ::-1], size)  # of the frame in the pixels of its annotation
    is_stated = ~np.isnan(stated[:, 0])
    contradicts = is_stated & ~is_unknown & ~_have_same_shape(stated, annotated)
    is_scaled = is_stated & (annotations.unit == "pixels") & (stated != annotated).any(axis=1)
    is_scaled &= has_boxes & ~is_unknown & ~contradicts
    factors = np.ones_like(size) if annotations.unit == "pixels" else annotated.copy()
    factors[is_scaled] = annotated[is_scaled] / stated[is_scaled]
    corners = annotations.boxes[list(CORNERS)].to_numpy(np.float64) * np.tile(factors, 2)[image]
    corners = _turn_boxes(corners, np.where(is_other, turned, 1)[image], annotated[image], pixels)
    is_usable = ~is_unknown & ~contradicts
    inside, found = _clip_boxes(corners, size[image], frames["frame_path"].to_numpy(object)[image], is_usable[image])
    notes = _note_unusable(frames, is_unknown, contradicts, stated)
    paths = frames["frame_path"].to_numpy(object)
    scaled = note_found("scaled", paths[is_scaled].tolist(), *_SCALED)
    return Placed(inside, is_usable, [*notes, *scaled, *found])


_SCALED = (
    "annotated picture is of another size than its frame, and its boxes are scaled",
    "annotated pictures are of another size than their frames, and their boxes are scaled",
)


def _get_orientations(frames: pd.DataFrame) -> Integers:
    """Return the EXIF orientation of each frame; 1 where it is unknown, as in runs of 0.2."""
    if "orientation" not in frames:
        return np.ones(len(frames), np.int64)
    return frames["orientation"].fillna(1).to_numpy(np.int64)


def _choose_pixels(
    turned: Integers, stated: Floats, size: Floats, truth_pixels: str | None, pixels: str
) -> tuple[Flags, Flags]:
    """Find annotations that are in other pixels than those of the run, and those of which nobody knows.

    Returns
    -------
    is_other, is_unknown
        bool, shape (images,).
    """
    is_turned = turned > 1
    if truth_pixels is not None:
        return is_turned & (truth_pixels != pixels), np.zeros(len(turned), bool)
    as_is, exchanged = _have_same_shape(stated, size), _have_same_shape(stated, size[:, ::-1])
    tells = np.isin(turned, geometry.SIDEWAYS) & (as_is | exchanged) & ~(as_is & exchanged)
    return tells & exchanged, is_turned & ~tells & ~_contradicts_both(stated, as_is, exchanged, turned)


def _contradicts_both(stated: Floats, as_is: Flags, exchanged: Flags, turned: Integers) -> Flags:
    """Find annotations whose shape fits a frame in neither pixels."""
    fits = np.where(np.isin(turned, geometry.SIDEWAYS), as_is | exchanged, as_is)
    found: Flags = ~np.isnan(stated[:, 0]) & ~fits
    return found


def _have_same_shape(a: Floats, b: Floats) -> Flags:
    """Whether sizes, shape (N, 2), are of the same shape up to a pixel: boxes of a shrunk edition can be scaled."""
    tolerance = np.maximum(a.max(axis=1), b.max(axis=1))  # a pixel of the smaller one
    same: Flags = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) <= tolerance
    return same


def _turn_boxes(corners: Floats, turned: Integers, size: Floats, pixels: str) -> Floats:
    """Turn boxes that are in other pixels than those of the run.

    Parameters
    ----------
    turned
        Shape (boxes,): the EXIF orientation of the frame, 1 for boxes that stay.
    size
        Shape (boxes, 2): of the frame in the pixels of the annotation.
    """
    result = corners.copy()
    for stored in np.unique(turned[turned > 1]).tolist():
        chosen = turned == stored
        orientation = stored if pixels == "upright" else geometry.invert_orientation(stored)
        scale = np.tile(size[chosen], 2)
        after = scale[:, [1, 0, 3, 2]] if orientation in geometry.SIDEWAYS else scale
        result[chosen] = geometry.turn_boxes(corners[chosen] / scale, orientation, 1, 1) * after
    return result


def _clip_boxes(corners: Floats, size: Floats, paths: np.ndarray, is_usable: Flags) -> tuple[Floats, list[Note]]:
    """Clip boxes to their frames; one that lies outside becomes NaN."""
    inside = geometry.clip_boxes(corners, size[:, 0], size[:, 1])
    is_known = ~np.isnan(corners[:, 0]) & is_usable
    is_outside = is_known & ~((inside[:, 2:] > inside[:, :2]).all(axis=1))
    is_clipped = is_known & ~is_outside & (np.abs(corners - inside).max(axis=1, initial=0) > _OUTSIDE)
    inside[is_outside] = np.nan
    notes = [
        *note_found("outside", paths[is_outside].tolist(), *_OUTSIDE_TEXTS),
        *note_found("clipped", paths[is_clipped].tolist(), *_CLIPPED),
    ]
    return inside, notes


_OUTSIDE_TEXTS = (
    "annotated box lies outside its frame, and is not used",
    "annotated boxes lie outside their frames, and are not used",
)
_CLIPPED = (
    "annotated box is partly outside its frame, and clipped to it",
    "annotated boxes are partly outside their frames, and clipped to them",
)


def _note_unusable(frames: pd.DataFrame, is_unknown: Flags, contradicts: Flags, stated: Floats) -> list[Note]:
    why = (
        "stored rotated or mirrored, and nothing says whether the annotated boxes are in pixels before or after that: "
        "not compared; set data.truth_pixels to `stored` (before) or `upright` (after)"
    )
    one, many = f"annotated frame is {why}", f"annotated frames are {why}"
    notes = note_found("unknown_pixels", frames["frame_path"][is_unknown].tolist(), one, many)
    if not contradicts.any():
        return notes
    row = int(contradicts.argmax())
    first, (width, height) = frames.iloc[row], stated[row]
    found = f"{first['width']:.0f}x{first['height']:.0f} found"
    example = f"{first['frame_path']}: {width:.0f}x{height:.0f} stated, {found}"
    count = int(contradicts.sum())
    states = "annotation states" if count == 1 else "annotations state"
    text = (
        f"{states} the size of a picture of another shape than the frame, and {'is' if count == 1 else 'are'} not "
        "compared: do the images belong to another edition?"
    )
    return [*notes, Note("other_shape", count, text, example)]
