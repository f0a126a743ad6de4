"""Which image of the source each record of HaGRID's annotations is about, by the key of the record."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.labels.layout import decode_names
from detectime.labels.tables import TableError, format_names
from detectime.sources.listing import Listing
from detectime.sources.names import find_odd_names, fold_name

_IMAGE = r"\.(?:jpe?g|jfif|png|webp|bmp|gif|tiff?|heic|heif|avif)"
_LONG = rf"(?i)[/\\]|{_IMAGE}$"
_KEY_ENDING = rf"(?i){_IMAGE}$"
_KEY_START = r"^(?:\./+|/+)+"
_STEM = r"(?s)^(?:.*/)?([^/]*?)(?:\.[^./]*)?$"
_FOLDERS = r"(?s)^.*/"
_FOLDER = r"(?s)^(?:.*/)?([^/]*)/[^/]*$"


class Matches(NamedTuple):
    """The image of each record."""

    positions: pa.Array
    """int32: where it is in the listing, null where it is not listed."""
    paths: pa.Array
    """string: its path there, null where it is not listed."""
    names: pa.ChunkedArray
    """large_string: what it is called where it is not listed, without ending."""
    shortened: pa.ChunkedArray
    """large_string: the keys that are no plain name."""


def strip_ending(key: str) -> str:
    """Return a key without the ending of an image.

    Examples
    --------
    >>> strip_ending("ok/7f3a.JPG"), strip_ending("v1.5")
    ('ok/7f3a', 'v1.5')
    """
    return re.sub(_KEY_ENDING, "", key)


def match_images(records: pa.Table, listing: Listing, annotations: str | os.PathLike[str]) -> Matches:
    r"""Find the image of each record in the listing.

    A key is the name of an image without folders and ending. If no image has this name, but the key begins with folders
    or ends as images do, it is the image whose path it is; whose path ends with it; the same without regard to the
    ending; or, if no other key has that name in other folders, the image of that name. At last, names that differ by
    Unicode form or by blanks at their ends count as the same. Of several images with one name, the one in a folder of
    its class is meant.

    Parameters
    ----------
    records
        `image` (large_string), the key of each record; `class` (dictionary of text).
    listing
        The files of the source.
    annotations
        For messages.

    Raises
    ------
    TableError
        If several images could be meant.

    Examples
    --------
    >>> records = pa.table({"image": ["7f3a", "ok/00ff.png"], "class": pa.array(["ok", "ok"]).dictionary_encode()})
    >>> listing = Listing(pa.array([b"train/ok/00ff.jpg", b"ok/7f3a.jpg"]), pa.array(["1", "2"]))
    >>> match_images(records, listing, "annotations").paths.to_pylist()
    ['ok/7f3a.jpg', 'train/ok/00ff.jpg']
    """
    keys = records["image"]
    stems = pc.replace_substring_regex(listing.names, _STEM, r"\1")
    is_long = pc.match_substring_regex(keys, _LONG)
    if pc.any(is_long).as_py():
        is_long = pc.and_not(is_long, pc.is_in(keys.cast(pa.binary()), value_set=stems))
    shortened = keys.filter(is_long)
    if len(shortened):
        names, shared = _shorten_keys(keys, is_long, stems)
        is_shared = pa.array(np.isin(np.arange(len(keys)), shared.index))
        alone = pc.if_else(is_shared, pa.scalar(None, pa.large_string()), names)
        positions = _match_stems(alone, records["class"], stems, listing, annotations)
        positions = _match_ends(positions, shared, records["class"], stems, listing, annotations)
    else:
        names = keys
        positions = _match_stems(names, records["class"], stems, listing, annotations)
    positions = _match_folded(names, positions, stems)
    return _find_paths(positions, names, shortened, listing)


def _shorten_keys(
    keys: pa.ChunkedArray, is_long: pa.ChunkedArray, stems: pa.Array
) -> tuple[pa.ChunkedArray, pd.DataFrame]:
    """Take long keys for the names of images.

    Returns
    -------
    names
        Of all records: the key, or the name that a long key ends with; if several files or keys have that name, its
        path without ending.
    shared
        The latter: `key`, `trimmed` (that path), `name`, and `is_alone`, whether no other key has the name.
    """
    long = keys.filter(is_long)
    paths = pc.replace_substring_regex(pc.replace_substring(long, "\\", "/"), _KEY_START, "")
    trimmed = pc.replace_substring_regex(paths, _KEY_ENDING, "")
    columns = {"key": long, "trimmed": trimmed, "name": pc.replace_substring_regex(trimmed, _FOLDERS, "")}
    table = pd.DataFrame({name: texts.to_pandas().to_numpy(object) for name, texts in columns.items()})
    table.index = np.flatnonzero(is_long.to_numpy())
    distinct = table[["trimmed", "name"]].drop_duplicates()
    table["is_alone"] = ~table["name"].isin(distinct.loc[distinct["name"].duplicated(), "name"])
    counts = pc.value_counts(stems)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    is_twice = pc.is_in(pa.array(table["name"], pa.large_string()).cast(pa.binary()), value_set=twice)
    is_shared = ~table["is_alone"] | is_twice.to_numpy(zero_copy_only=False)
    names = keys.to_pandas().to_numpy(object, copy=True)
    names[table.index] = table["name"].where(~is_shared, table["trimmed"])
    return pa.chunked_array([pa.array(names, pa.large_string())]), table[is_shared]


def _match_ends(
    positions: pa.Array,
    shared: pd.DataFrame,
    classes: pa.ChunkedArray,
    stems: pa.Array,
    listing: Listing,
    annotations: str | os.PathLike[str],
) -> pa.Array:
    """Add the positions of the images whose paths end with keys.

    Raises
    ------
    TableError
        If several images could be meant.
    """
    asked = pa.array([name.encode() for name in set(shared["name"])], pa.binary())
    candidates = pc.indices_nonzero(pc.is_in(stems, value_set=asked))
    names = map(os.fsdecode, listing.names.take(candidates).to_pylist())
    paths = dict(zip(candidates.to_pylist(), names, strict=True))
    ends = _PathEnds(paths, {1, *(trimmed.count("/") + 1 for trimmed in shared["trimmed"])})
    of_class = classes.take(pa.array(shared.index)).cast(pa.string()).to_pylist()
    ambiguous: list[str] = []
    found = positions.to_pandas().to_numpy(np.float64, copy=True)
    for (row, key, trimmed, name, is_alone), class_name in zip(shared.itertuples(), of_class, strict=True):
        best = ends.find(key, trimmed, name if is_alone else None)
        own = [position for position in best if _is_of_class(_get_folder(paths[position]), class_name)]
        best = own if own and len(best) > 1 else best
        if len(best) > 1:
            ambiguous += [paths[position] for position in best]
        found[row] = best[0] if best else np.nan
    if ambiguous:
        raise _make_ambiguity_error(ambiguous, annotations)
    return pa.array(found, pa.float64(), from_pandas=True).cast(pa.int32())


class _PathEnds:
    """Paths by their last parts.

    Parameters
    ----------
    paths
        By position.
    depths
        How many parts the keys have.
    """

    def __init__(self, paths: dict[int, str], depths: set[int]) -> None:
        self._places: dict[str, int] = {}
        self._ends: dict[str, list[int]] = {}
        self._trimmed: dict[str, list[int]] = {}
        for position, path in paths.items():
            self._places[path] = position
            parts = path.split("/")
            stem = parts[-1].rpartition(".")[0] or parts[-1]
            for depth in depths:
                if depth <= len(parts):
                    folders = parts[len(parts) - depth : -1]
                    self._ends.setdefault("/".join([*folders, parts[-1]]), []).append(position)
                    self._trimmed.setdefault("/".join([*folders, stem]), []).append(position)

    def find(self, key: str, trimmed: str, name: str | None) -> list[int]:
        """Return the positions of the paths that a key may mean, the surest first; by its `name` at last."""
        path = re.sub(_KEY_START, "", key.replace("\\", "/"))
        if path in self._places:
            return [self._places[path]]
        return self._ends.get(path) or self._trimmed.get(trimmed) or (self._trimmed.get(name) if name else None) or []


def _get_folder(path: str) -> str:
    return path.rpartition("/")[0].rpartition("/")[2]


def _is_of_class(folder: str, class_name: str) -> bool:
    return folder == class_name or folder.endswith(f"_{class_name}")


def _match_stems(
    names: pa.ChunkedArray,
    classes: pa.ChunkedArray,
    stems: pa.Array,
    listing: Listing,
    annotations: str | os.PathLike[str],
) -> pa.Array:
    """Find the position in the listing of the image with each name."""
    images = names.cast(pa.binary())
    positions = pa.array(np.arange(len(stems), dtype=np.int32))
    if pc.count_distinct(stems).as_py() < len(stems):
        is_annotated = pc.is_in(stems, value_set=images.combine_chunks())
        positions, stems = positions.filter(is_annotated), stems.filter(is_annotated)
        is_kept = _prefer_class_folders(listing.names.take(positions), stems, images, classes, annotations)
        positions, stems = positions.filter(is_kept), stems.filter(is_kept)
    return positions.take(pc.index_in(images, value_set=stems).combine_chunks())


def _prefer_class_folders(
    names: pa.Array,
    stems: pa.Array,
    images: pa.ChunkedArray,
    classes: pa.ChunkedArray,
    annotations: str | os.PathLike[str],
) -> pa.Array:
    """Choose, of several images with one name, the one in a folder of its class.

    Returns
    -------
    Array
        bool: which of the files are kept.

    Raises
    ------
    TableError
        If several are left.
    """
    files = pd.DataFrame({"name": names.to_pandas(), "stem": stems.to_pandas()})
    is_shared = files["stem"].duplicated(keep=False)
    class_of = pd.Series(classes.to_pandas().to_numpy(object), images.to_pandas().to_numpy(object))
    class_of = class_of[class_of.index.isin(set(files.loc[is_shared, "stem"]))]
    class_of = class_of[~class_of.index.duplicated()]
    is_kept = ~is_shared
    folders = pc.replace_substring_regex(pa.array(files.loc[is_shared, "name"], pa.binary()), _FOLDER, r"\1")
    for row, stem, folder in zip(
        files.index[is_shared], files.loc[is_shared, "stem"], folders.to_pylist(), strict=True
    ):
        is_kept[row] = _is_of_class(os.fsdecode(folder), class_of[stem])
    is_kept |= ~files["stem"].isin(files.loc[is_kept, "stem"])  # none is in a folder of its class
    kept = files[is_kept]
    ambiguous = kept.loc[kept["stem"].duplicated(keep=False), "name"]
    if len(ambiguous):
        raise _make_ambiguity_error([os.fsdecode(name) for name in ambiguous.tolist()], annotations)
    return pa.array(is_kept)


def _make_ambiguity_error(paths: list[str], annotations: str | os.PathLike[str]) -> TableError:
    return TableError(
        f"{annotations}: {len(paths)} images share their name with another: {format_names(paths)}; set `images` to a "
        "folder with one edition of the data set"
    )


def _match_folded(names: pa.ChunkedArray, positions: pa.Array, stems: pa.Array) -> pa.Array:
    """Match the names that are left with files that are left, without regard to Unicode form and blanks at the ends."""
    missing = np.flatnonzero(positions.is_null().to_numpy(zero_copy_only=False))
    asked = names.take(pa.array(missing))
    odd, odd_asked = find_odd_names(stems), find_odd_names(asked.cast(pa.binary()))
    if not len(missing) or not len(odd) + len(odd_asked):
        return positions
    folded: Any = asked.to_pandas().to_numpy(object, copy=True)
    folded[odd_asked.to_numpy()] = [fold_name(name) for name in folded[odd_asked.to_numpy()]]
    may_fit = pc.is_in(stems, value_set=pa.array([name.encode() for name in folded], pa.binary())).to_numpy(False)
    may_fit[odd.to_numpy()] = True
    may_fit[positions.drop_null().to_numpy()] = False
    left = np.flatnonzero(may_fit)
    spellings: dict[str, list[int]] = {}
    for position, stem in zip(left.tolist(), stems.take(pa.array(left)).to_pylist(), strict=True):
        spellings.setdefault(fold_name(os.fsdecode(stem)), []).append(position)
    found = positions.to_pandas().to_numpy(np.float64, copy=True)
    for row, name in zip(missing.tolist(), folded.tolist(), strict=True):
        if len(fitting := spellings.get(name, [])) == 1:
            found[row] = fitting[0]
    return pa.array(found, pa.float64(), from_pandas=True).cast(pa.int32())


def _find_paths(positions: pa.Array, names: pa.ChunkedArray, shortened: pa.ChunkedArray, listing: Listing) -> Matches:
    paths = listing.names.take(positions)
    try:
        return Matches(positions, paths.cast(pa.string()), names, shortened)
    except pa.ArrowInvalid:  # a path that is not UTF-8 cannot be a frame_path
        paths = decode_names(paths).cast(pa.string())
        return Matches(pc.if_else(paths.is_valid(), positions, pa.scalar(None, pa.int32())), paths, names, shortened)
