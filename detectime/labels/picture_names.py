"""Which annotated picture is which file, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime.boxes import Flags, Integers
from detectime.labels.annotations import Annotations
from detectime.labels.layout import ENDING, LABEL_STUDIO, LAYOUT, ROBOFLOW, SPLITS
from detectime.notes import Note, note_found
from detectime.schema import CORNERS
from detectime.sources.names import fold_name

SEVERAL = -2
"""Instead of a row: several may be meant."""

_ENDING = re.compile(r"\.[^./]*$")
_PICTURE_ENDING = re.compile(ENDING)
_ROBOFLOW = re.compile(rf"{ROBOFLOW}[0-9a-f]{{32}}(?=\.[^./]*$|$)", re.IGNORECASE)
_LABEL_STUDIO = re.compile(rf"(^|[/\\]){LABEL_STUDIO}(?=[^/\\]+$)")
_COMMON = re.compile(r"[^\W\d_]*[ _.-]*\d*")  # file names that many folders have, such as `frame_0001`

FindExported = Callable[[Sequence[str], Sequence[bool]], list[int]]
"""Finds the rows of the names, -1 for none, of which the second parameter says that they are not found yet."""


@dataclass(frozen=True)
class PictureMatches:
    """The path of each annotated picture.

    Attributes
    ----------
    row
        int64, shape (images,): the row of its path; -1 where there is none, or several may be meant.
    way
        int64, shape (images,): 0, by the path that the annotation states; 1, by its name; 2, as exported; more: by less
        than its name.
    kind
        object, shape (images,): the kind of the note on pictures that matched by less than their name, else empty.
    is_unclear
        bool, shape (images,): several paths match equally, or several pictures its path.
    is_copy
        bool, shape (images,): it repeats an earlier picture, with equal boxes.
    """

    row: Integers
    way: Integers
    kind: NDArray[np.object_]
    is_unclear: Flags
    is_copy: Flags


def match_pictures(
    annotations: Annotations, paths: Sequence[str], find_exported: FindExported | None = None
) -> PictureMatches:
    """Find the path of each annotated picture.

    A picture is, in this order, at the path that its annotation states; that is its name; that detectime exports under
    its name; or that ends with its name, or is the end of it, by whole folders. Then the same without leading folders
    such as ``train`` and ``images``, unless the path lies in such a split itself; without what Roboflow or Label Studio
    added to the name; by the file name alone, if no other picture and path has it and it is more than a word and a
    number, which many folders have; and without the ending, whatever the case.

    It is nowhere if several paths match equally. If several pictures have one path, the one counts that matched in the
    earliest way; or, if their boxes are equal, the first; or else none.

    Parameters
    ----------
    annotations
        Of any format.
    paths
        Of all files, each once.
    find_exported
        Finds pictures that detectime exported.

    Examples
    --------
    >>> from detectime.labels.annotations import AnnotationColumns
    >>> columns = AnnotationColumns()
    >>> for name in ("images/anna/1.jpg", "2.jpg", "3.jpg"):
    ...     _ = columns.add_image(name)
    >>> found = match_pictures(columns.collect("pixels"), ["anna/1.jpg", "anna/2.jpg", "ben/2.jpg", "ben/3.jpg"])
    >>> found.row.tolist(), found.is_unclear.tolist()
    ([0, -1, 3], [False, True, False])
    """
    names = annotations.images["name"].tolist()
    files = list(paths) if annotations.has_endings else [drop_ending(path) for path in paths]
    known = index_paths(files)
    stated = index_paths(paths)
    ways = [
        [stated.get(path, -1) for path in annotations.images["frame_path"].tolist()],
        [known.get(name, -1) for name in names],
    ]
    ways.append([-1] * len(names) if find_exported is None else find_exported(names, _find_missing(ways)))
    kinds = ["", "", ""]
    for way in _list_loose_ways(names, files):
        missing = _find_missing(ways)
        if not any(missing):
            break
        ways.append(way.match([name if is_missing else "" for name, is_missing in zip(names, missing, strict=True)]))
        kinds.append(way.kind)
    return _choose_matches(np.array(ways, np.int64).reshape(len(ways), len(names)), kinds, annotations)


def note_loose_matches(matches: PictureMatches, names: Sequence[str], what: str = "file") -> list[Note]:
    """Note pictures that matched by less than their name.

    Parameters
    ----------
    matches
        Of the pictures.
    names
        Of the pictures.
    what
        What they matched: ``file`` or ``frame``.

    Examples
    --------
    >>> found = PictureMatches(np.array([0]), np.array([3]), np.array(["by_end"], object), *[np.array([False])] * 2)
    >>> print(*note_loose_matches(found, ["images/a.jpg"]))
    1 annotated picture matched a file by the end of its path alone (the first: 'images/a.jpg')
    """
    is_sure = matches.row >= 0
    texts = np.array(names, object)
    notes = []
    for kind, how in _LOOSE.items():
        one = f"annotated picture matched a {what} {how.format('its')}"
        many = f"annotated pictures matched a {what} {how.format('their')}"
        notes += note_found(kind, texts[is_sure & (matches.kind == kind)].tolist(), one, many)
    return notes


def drop_ending(path: str) -> str:
    """Return a path without the ending of its file.

    Examples
    --------
    >>> drop_ending("v.1/a.jpg"), drop_ending("v.1/a")
    ('v.1/a', 'v.1/a')
    """
    return _ENDING.sub("", path)


def split_path(path: str) -> list[str]:
    """Return the parts of a path, without what means nothing, in one spelling: see `names.fold_name`.

    Examples
    --------
    >>> split_path("./images\\\\anna/1.jpg"), split_path("my\\u00a0set/1.jpg ")
    (['images', 'anna', '1.jpg'], ['my set', '1.jpg'])
    """
    return [part for part in fold_name(path.replace("\\", "/")).split("/") if part not in ("", ".", "..")]


def index_paths(paths: Sequence[str]) -> dict[str, int]:
    """Return the row of each path, `SEVERAL` where there are several.

    Examples
    --------
    >>> index_paths(["a", "b", "a"])
    {'a': -2, 'b': 1}
    """
    rows: dict[str, int] = {}
    for row, path in enumerate(paths):
        rows[path] = SEVERAL if path in rows else row
    return rows


def _find_missing(ways: Sequence[Sequence[int]]) -> list[bool]:
    return [all(row == -1 for row in rows) for rows in zip(*ways, strict=True)]


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
    return taken.mask(is_shared, SEVERAL).tolist()


def _match_below_layout(names: Sequence[str], frame_paths: Sequence[str]) -> list[int]:
    """Match names without the folders of a layout; not with frames in a split, of which the name may state another."""
    outside = [path if SPLITS.isdisjoint(part.casefold() for part in path.split("/")) else "" for path in frame_paths]
    return _match_ends(_change(names, _drop_layout), outside)


def _drop_layout(name: str) -> str:
    parts = split_path(name)
    kept = next((depth for depth, part in enumerate(parts[:-1]) if part.casefold() not in LAYOUT), len(parts) - 1)
    return "/".join(parts[kept:]) if kept > 0 else name


def _match_file_names(names: Sequence[str], all_names: Sequence[str], frame_paths: Sequence[str]) -> list[int]:
    """Match names by their last part, if it is that of one picture and one frame, and not a common one."""
    if not any(names):
        return [-1] * len(names)
    pictures = index_paths([_get_file_name(name) for name in all_names])
    frames = index_paths([_get_file_name(path) for path in frame_paths])
    rows = [-1] * len(names)
    for position, name in enumerate(map(_get_file_name, names)):
        if name and pictures[name] != SEVERAL and not _COMMON.fullmatch(_PICTURE_ENDING.sub("", name)):
            rows[position] = max(frames.get(name, -1), -1)
    return rows


def _get_file_name(path: str) -> str:
    return (split_path(path) or [""])[-1]


def _match_ends(names: Sequence[str], frame_paths: Sequence[str]) -> list[int]:
    """Match names with paths of which one is the end of the other; empty names match nothing."""
    if not any(names):
        return [-1] * len(names)
    asked = [split_path(name) for name in names]
    frames = [split_path(path) for path in frame_paths]
    depths = sorted({len(parts) for parts in frames}, reverse=True)
    short = sorted({len(parts) for parts in asked if parts} & set(range(max(depths, default=0) + 1)))
    ends: dict[str, int] = {}
    for row, parts in enumerate(frames):
        for end in _list_ends(parts, short):
            ends[end] = SEVERAL if end in ends else row
    whole = index_paths(["/".join(parts) for parts in frames])
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


def _choose_matches(ways: Integers, kinds: Sequence[str], annotations: Annotations) -> PictureMatches:
    """Choose the first way that matched each picture, and the picture that matched each path best.

    Parameters
    ----------
    ways
        Shape (ways, images): the row of the path, -1 or `SEVERAL`.
    kinds
        The kind of the note on each way; empty for none.
    """
    way = (ways != -1).argmax(axis=0) if ways.size else np.zeros(ways.shape[1], np.int64)
    row = ways[way, np.arange(ways.shape[1])]
    row = _drop_worse(row, way)
    repeated = _find_repeated(row)
    is_copy = _find_copies(row, repeated, annotations)
    row[is_copy] = -1
    is_unclear = (row == SEVERAL) | _find_repeated(row)
    row = np.where(is_unclear, -1, row)
    return PictureMatches(row, way, np.array(kinds, object)[way], is_unclear, is_copy)


_LOOSE = {
    "by_end": "by the end of {} path alone",
    "renamed": "without what Roboflow or Label Studio added to {} name",
    "by_file_name": "by {} file name alone, in whatever folder",
    "by_ending": "but for the ending or the case of {} name",
}


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
