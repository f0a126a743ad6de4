"""Which annotated picture is which frame, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectime.boxes import Flags, Integers
from detectime.exports.contract import ExportError
from detectime.exports.picture_names import name_pictures
from detectime.labels.annotations import Annotations
from detectime.labels.picture_names import drop_ending, index_paths, match_pictures, note_loose_matches
from detectime.notes import Note, note_found

_EXPORTED = re.compile(r"(?:^|-)[0-9a-f]{10}$")  # names that `exports.picture_names` gives


@dataclass(frozen=True)
class Matches:
    """The frame of each annotated picture.

    Attributes
    ----------
    row
        int64, shape (images,): the row of its frame; -1 where there is none.
    is_exported
        bool, shape (images,): whether detectime exported the picture, so that its pixels are those of the run.
    notes
        Pictures that are no frames, or could be several, and those that matched by less than their whole path.
    """

    row: Integers
    is_exported: Flags
    notes: list[Note]


def match_names(annotations: Annotations, frame_paths: Sequence[str]) -> Matches:
    """Find the frame of each annotated picture, as `labels.picture_names.match_pictures` does.

    Parameters
    ----------
    annotations
        Of any format.
    frame_paths
        Paths of all frames, each once.

    Examples
    --------
    >>> from detectime.labels.annotations import AnnotationColumns
    >>> columns = AnnotationColumns()
    >>> for name in ("images/anna/1.jpg", "2.jpg", "3.jpg"):
    ...     _ = columns.add_image(name)
    >>> found = match_names(columns.collect("pixels"), ["anna/1.jpg", "anna/2.jpg", "ben/2.jpg", "ben/3.jpg"])
    >>> found.row.tolist()
    [0, -1, 3]
    """

    def find_exported(names: Sequence[str], is_missing: Sequence[bool]) -> list[int]:
        return _match_exported(names, frame_paths, annotations.has_endings, is_missing)

    found = match_pictures(annotations, frame_paths, find_exported)
    names = annotations.images["name"].to_numpy(object)
    is_unknown = (found.row == -1) & ~found.is_unclear & ~found.is_copy
    notes = [
        *note_found("without_frame", names[is_unknown].tolist(), *_WITHOUT_FRAME),
        *note_found("ambiguous", names[found.is_unclear].tolist(), *_AMBIGUOUS),
        *note_found("repeated", names[found.is_copy].tolist(), *_REPEATED),
        *note_loose_matches(found, names.tolist(), "frame"),
    ]
    is_exported = np.isin(found.way, (0, 2)) & (found.row >= 0)
    return Matches(found.row, is_exported, notes)


def _match_exported(
    names: Sequence[str], frame_paths: Sequence[str], has_endings: bool, is_missing: Sequence[bool]
) -> list[int]:
    """Match pictures that an export of detectime named, whatever folders they lie in."""
    stems = [re.split(r"[/\\]", name)[-1] if missing else "" for name, missing in zip(names, is_missing, strict=True)]
    stems = [drop_ending(stem) for stem in stems] if has_endings else stems
    if not any(map(_EXPORTED.search, stems)):
        return [-1] * len(names)
    try:
        known = index_paths(name_pictures(frame_paths))
    except ExportError:  # two frames would get one name, so that there was no such export
        return [-1] * len(names)
    return [known.get(stem, -1) for stem in stems]


_WITHOUT_FRAME = "annotated picture is no frame of the run", "annotated pictures are no frames of the run"
_AMBIGUOUS = (
    "annotated picture could be several frames, or several pictures could be its frame: it is not compared",
    "annotated pictures could be several frames, or several pictures could be their frame: they are not compared",
)
_REPEATED = (
    "annotated picture repeats another, with the same boxes, and is not used",
    "annotated pictures repeat others, with the same boxes, and are not used",
)
