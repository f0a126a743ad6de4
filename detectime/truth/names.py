"""Which annotated picture is which frame, by their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime.boxes import Flags, Integers
from detectime.exports.contract import ExportError
from detectime.exports.picture_names import name_pictures
from detectime.labels.annotations import Annotations
from detectime.notes import Note, note_found
from detectime.schema import CORNERS

_SEVERAL = -2  # instead of a row
_ENDING = re.compile(r"\.[^./]*$")
_EXPORTED = re.compile(r"(?:^|-)[0-9a-f]{10}$")  # names that `exports.picture_names` gives
_PICTURE_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")  # not the number in `frame.0001`
_ROBOFLOW = re.compile(r"_(jpg|jpeg|png|webp|bmp)\.rf\.[0-9a-f]{32}(?=\.[^./]*$|$)", re.IGNORECASE)
_LABEL_STUDIO = re.compile(r"(^|[/\\])[0-9a-f]{8}-(?=[^/\\]+$)")
_SPLITS = frozenset(["train", "val", "valid", "test"])
_LAYOUT = _SPLITS | {"images", "labels", "obj_train_data", "data"}  # folders that tools put pictures into
_COMMON = re.compile(r"[^\W\d_]*[ _.-]*\d*")  # file names that many folders have, such as `frame_0001`


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
    """Find the frame of each annotated picture.

    A picture is, in this order, the frame whose path its annotation states; whose path is its name; that detectime
    exports under its name; or whose path ends with its name, or is the end of it, by whole folders. Then the same
    without leading folders such as ``train`` and ``images``, unless the frame lies in such a split itself; without
    what Roboflow or Label Studio added to the name; by the file name alone, if no other picture and frame has it and
    it is more than a word and a number, which many folders have; and without the ending, whatever the case.

    It is none if several frames match equally. If several pictures are one frame, the one counts that matched in the
    earliest way; or, if their boxes are equal, the first; or else none.

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
    names = annotations.images["name"].tolist()
    frames = list(frame_paths) if annotations.has_endings else [_ENDING.sub("", path) for path in frame_paths]
    known = _index_paths(frames)
    stated = _index_paths(frame_paths)
    ways = [
        [stated.get(path, -1) for path in annotations.images["frame_path"].tolist()],
        [known.get(name, -1) for name in names],
    ]
    ways.append(_match_exported(names, frame_paths, annotations.has_endings, _find_missing(ways)))
    kinds = ["", "", ""]
    for way in _list_loose_ways(names, frames):
        missing = _find_missing(ways)
        if not any(missing):
            break
        ways.append(way.match([name if is_missing else "" for name, is_missing in zip(names, missing, strict=True)]))
        kinds.append(way.kind)
    return _choose_matches(np.array(ways, np.int64).reshape(len(ways), len(names)), kinds, annotations)


def _index_paths(paths: Sequence[str]) -> dict[str, int]:
    """Return the row of each path, `_SEVERAL` where there are several."""
    rows: dict[str, int] = {}
    for row, path in enumerate(paths):
        rows[path] = _SEVERAL if path in rows else row
    return rows


def _find_missing(ways: Sequence[Sequence[int]]) -> list[bool]:
    return [all(row == -1 for row in rows) for rows in zip(*ways, strict=True)]


def _match_exported(
    names: Sequence[str], frame_paths: Sequence[str], has_endings: bool, is_missing: Sequence[bool]
) -> list[int]:
    """Match pictures that an export of detectime named, whatever folders they lie in."""
    stems = [re.split(r"[/\\]", name)[-1] if missing else "" for name, missing in zip(names, is_missing, strict=True)]
    stems = [_ENDING.sub("", stem) for stem in stems] if has_endings else stems
    if not any(map(_EXPORTED.search, stems)):
        return [-1] * len(names)
    try:
        known = _index_paths(name_pictures(frame_paths))
    except ExportError:  # two frames would get one name, so that there was no such export
        return [-1] * len(names)
    return [known.get(stem, -1) for stem in stems]


class _Way(NamedTuple):
    """A way to match names of which some are empty, and match nothing."""

    kind: str
    """Of the note."""
    match: Callable[[Sequence[str]], list[int]]


def _list_loose_ways(names: Sequence[str], frames: Sequence[str]) -> Iterator[_Way]:
    """Yield the ways that need less than the whole name, the surest first."""
    yield _Way("by_end", lambda asked: _match_ends(asked, frames))
    yield _Way("by_end", lambda asked: _match_below_layout(asked, frames))
    yield _Way("renamed", lambda asked: _match_ends(_change(asked, _restore_name), frames))
    yield _Way("renamed", lambda asked: _match_below_layout(_change(asked, _restore_name), frames))
    folded = [_fold_name(path) for path in frames]
    own = {_get_file_name(path) for path in folded}
    restored = [name if _get_file_name(_fold_name(name)) in own else _restore_name(name) for name in names]
    plain = [_fold_name(name) for name in restored]
    yield _Way("by_file_name", lambda asked: _match_file_names(_take(restored, asked), restored, frames))
    yield _Way("by_ending", lambda asked: _refuse_shared(_match_ends(_take(plain, asked), folded)))
    yield _Way("by_ending", lambda asked: _refuse_shared(_match_below_layout(_take(plain, asked), folded)))
    yield _Way("by_ending", lambda asked: _match_file_names(_take(plain, asked), plain, folded))


def _take(forms: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Return the form of each name that is asked for, empty for the others."""
    return [form if name else "" for form, name in zip(forms, asked, strict=True)]


def _restore_name(name: str) -> str:
    """Undo what Roboflow, or else Label Studio, did to the name of a picture."""
    restored = _ROBOFLOW.sub("", name)
    return _LABEL_STUDIO.sub(r"\1", name) if restored == name else restored


def _fold_name(name: str) -> str:
    return _PICTURE_ENDING.sub("", name).casefold()


def _change(names: Sequence[str], change: Callable[[str], str]) -> list[str]:
    """Return changed names, empty where nothing changes."""
    return ["" if (changed := change(name)) == name else changed for name in names]


def _refuse_shared(rows: list[int]) -> list[int]:
    """Refuse frames that several names match: they may be different pictures."""
    taken = pd.Series(rows, dtype=np.int64)
    is_shared = taken.duplicated(keep=False) & (taken >= 0)
    return taken.mask(is_shared, _SEVERAL).tolist()


def _match_below_layout(names: Sequence[str], frame_paths: Sequence[str]) -> list[int]:
    """Match names without the folders of a layout; not with frames in a split, of which the name may state another."""
    outside = [path if _SPLITS.isdisjoint(part.casefold() for part in path.split("/")) else "" for path in frame_paths]
    return _match_ends(_change(names, _drop_layout), outside)


def _drop_layout(name: str) -> str:
    parts = _split_path(name)
    kept = next((depth for depth, part in enumerate(parts[:-1]) if part.casefold() not in _LAYOUT), len(parts) - 1)
    return "/".join(parts[kept:]) if kept > 0 else name


def _match_file_names(names: Sequence[str], all_names: Sequence[str], frame_paths: Sequence[str]) -> list[int]:
    """Match names by their last part, if it is that of one picture and one frame, and not a common one."""
    if not any(names):
        return [-1] * len(names)
    pictures = _index_paths([_get_file_name(name) for name in all_names])
    frames = _index_paths([_get_file_name(path) for path in frame_paths])
    rows = [-1] * len(names)
    for position, name in enumerate(map(_get_file_name, names)):
        if name and pictures[name] != _SEVERAL and not _COMMON.fullmatch(_PICTURE_ENDING.sub("", name)):
            rows[position] = max(frames.get(name, -1), -1)
    return rows


def _get_file_name(path: str) -> str:
    return (_split_path(path) or [""])[-1]


def _match_ends(names: Sequence[str], frame_paths: Sequence[str]) -> list[int]:
    """Match names with paths of which one is the end of the other; empty names match nothing."""
    if not any(names):
        return [-1] * len(names)
    asked = [_split_path(name) for name in names]
    frames = [_split_path(path) for path in frame_paths]
    depths = sorted({len(parts) for parts in frames}, reverse=True)
    short = sorted({len(parts) for parts in asked if parts} & set(range(max(depths, default=0) + 1)))
    ends: dict[str, int] = {}
    for row, parts in enumerate(frames):
        for end in _list_ends(parts, short):
            ends[end] = _SEVERAL if end in ends else row
    whole = _index_paths(["/".join(parts) for parts in frames])
    return [_find_end(parts, ends, whole, depths) if parts else -1 for parts in asked]


def _find_end(parts: list[str], ends: Mapping[str, int], whole: Mapping[str, int], depths: Sequence[int]) -> int:
    row = ends.get("/".join(parts), -1)
    if row == -1:
        found = (whole[end] for end in _list_ends(parts, depths) if end in whole)
        row = next(found, -1)
    return row


def _list_ends(parts: list[str], depths: Iterable[int]) -> list[str]:
    """Return the ends of a path that have so many parts."""
    return ["/".join(parts[-depth:]) for depth in depths if 0 < depth <= len(parts)]


def _split_path(path: str) -> list[str]:
    """Return the parts of a path, without what means nothing, in one Unicode form."""
    text = path if path.isascii() else unicodedata.normalize("NFC", path)
    return [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _choose_matches(ways: Integers, kinds: Sequence[str], annotations: Annotations) -> Matches:
    """Choose the first way that matched each picture, and the picture that matched each frame best.

    Parameters
    ----------
    ways
        Shape (ways, images): the row of the frame, -1 or `_SEVERAL`.
    kinds
        The kind of the note on each way; empty for none.
    """
    way = (ways != -1).argmax(axis=0) if ways.size else np.zeros(ways.shape[1], np.int64)
    row = ways[way, np.arange(ways.shape[1])]
    names = annotations.images["name"].to_numpy(object)
    row = _drop_worse(row, way)
    repeated = _find_repeated(row)
    row[_find_copies(row, repeated, annotations)] = -1
    is_unclear = (row == _SEVERAL) | _find_repeated(row)
    is_unknown = (row == -1) & ~repeated
    is_sure = (row >= 0) & ~is_unclear
    notes = [
        *note_found("without_frame", names[is_unknown].tolist(), *_WITHOUT_FRAME),
        *note_found("ambiguous", names[is_unclear].tolist(), *_AMBIGUOUS),
        *note_found("repeated", names[repeated & (row == -1)].tolist(), *_REPEATED),
        *_note_loose(names, np.where(is_sure, np.array(kinds, object)[way], "")),
    ]
    is_exported = np.isin(way, (0, 2)) & (row >= 0)
    return Matches(np.where(is_unclear, -1, row), is_exported, notes)


_WITHOUT_FRAME = "annotated picture is no frame of the run", "annotated pictures are no frames of the run"
_AMBIGUOUS = (
    "annotated picture could be several frames, or several pictures could be its frame: it is not compared",
    "annotated pictures could be several frames, or several pictures could be their frame: they are not compared",
)
_REPEATED = (
    "annotated picture repeats another, with the same boxes, and is not used",
    "annotated pictures repeat others, with the same boxes, and are not used",
)
_LOOSE = {
    "by_end": "by the end of {} path alone",
    "renamed": "without what Roboflow or Label Studio added to {} name",
    "by_file_name": "by {} file name alone, in whatever folder",
    "by_ending": "but for the ending or the case of {} name",
}


def _note_loose(names: NDArray[np.object_], kind: NDArray[np.object_]) -> list[Note]:
    """Note pictures that matched by less than their path; `kind` says how, shape (images,), or is empty."""
    notes = []
    for each, how in _LOOSE.items():
        one = f"annotated picture matched a frame {how.format('its')}"
        many = f"annotated pictures matched a frame {how.format('their')}"
        notes += note_found(each, names[kind == each].tolist(), one, many)
    return notes


def _drop_worse(row: Integers, way: Integers) -> Integers:
    """Drop matches with frames that another picture matched in an earlier way."""
    best = pd.Series(way).groupby(row).transform("min").to_numpy()
    return np.where((row >= 0) & (way > best), -1, row)


def _find_repeated(row: Integers) -> Flags:
    repeated: Flags = (pd.Series(row).duplicated(keep=False) & (row >= 0)).to_numpy()
    return repeated


def _find_copies(row: Integers, repeated: Flags, annotations: Annotations) -> Flags:
    """Find pictures whose frame an earlier picture has too, with equal boxes, if all of the frame's pictures agree."""
    images = np.flatnonzero(repeated)
    found = pd.DataFrame({"row": row[images], "hash": _hash_boxes(annotations)[images]})
    agrees = found.groupby("row")["hash"].transform("nunique") == 1
    is_copy = np.zeros(len(row), bool)
    is_copy[images] = (agrees & found["row"].duplicated()).to_numpy()
    return is_copy


def _hash_boxes(annotations: Annotations) -> NDArray[np.uint64]:
    """Return a hash of the labels and boxes of each picture, whatever their order."""
    hashes = pd.util.hash_pandas_object(annotations.boxes[["label", *CORNERS]], index=False).to_numpy()
    totals = np.zeros(len(annotations.images), np.uint64)
    np.add.at(totals, annotations.boxes["image"].to_numpy(np.int64), hashes)
    return totals
