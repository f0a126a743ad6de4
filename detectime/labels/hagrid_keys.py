"""Which image of the source each record of HaGRID's annotations is about, by the key of the record."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
    shortened = keys.filter(is_long)
    if len(shortened):
        is_long = pc.and_not(is_long, pc.is_in(keys.cast(pa.binary()), value_set=stems))
        shortened = keys.filter(is_long)
    if not len(shortened):
        positions = _match_stems(keys, records["class"], stems, listing, annotations)
        names = keys
    else:
        found = _LongKeys(keys, is_long, stems)
        positions = _match_stems(found.names, records["class"], stems, listing, annotations, found.rows)
        positions = found.match_rows(positions, records["class"], listing, annotations)
        names = found.names
    positions = _match_folded(names, positions, stems)
    return _find_paths(positions, names, shortened, listing)


def _trim_keys(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return keys as paths without ending."""
    paths = pc.replace_substring_regex(pc.replace_substring(keys, "\\", "/"), _KEY_START, "")
    return pc.replace_substring_regex(paths, _KEY_ENDING, "")


class _LongKeys:
    """Keys that have folders or an ending.

    Attributes
    ----------
    names
        Of all records: the key, or the name of the image that a long key ends with. Where several files or keys have
        that name, it is the long key without ending.
    rows
        int64: the rows of the latter.
    """

    def __init__(self, keys: pa.ChunkedArray, is_long: pa.ChunkedArray, stems: pa.Array) -> None:
        rows = np.flatnonzero(is_long.to_numpy())
        long = keys.filter(is_long)
        trimmed = _trim_keys(long)
        names = pc.replace_substring_regex(trimmed, _FOLDERS, "")
        columns = {"key": long, "trimmed": trimmed, "name": names}
        table = pd.DataFrame({name: texts.to_pandas().to_numpy() for name, texts in columns.items()}, index=rows)
        distinct = table[["trimmed", "name"]].drop_duplicates()
        several = set(distinct.loc[distinct["name"].duplicated(), "name"])
        is_listed_twice = pc.greater(pc.struct_field((counts := pc.value_counts(stems)), 1), 1)
        twice = set(counts.field(0).filter(is_listed_twice).to_pylist())
        is_shared = np.array([name in several or name.encode() in twice for name in table["name"].tolist()], bool)
        self._alone = ~table["name"].isin(several)
        self._table = table
        self.rows: NDArray[np.int64] = rows[is_shared]
        table["text"] = table["name"].where(~is_shared, table["trimmed"])
        all_names = keys.to_pandas().to_numpy(object, copy=True)
        all_names[rows] = table["text"].to_numpy(object)
        self.names = pa.chunked_array([pa.array(all_names, pa.large_string())])

    def match_rows(
        self, positions: pa.Array, classes: pa.ChunkedArray, listing: Listing, annotations: str | os.PathLike[str]
    ) -> pa.Array:
        """Add the positions of `rows` to those of the others.

        Raises
        ------
        TableError
            If several images could be meant.
        """
        if not len(self.rows):
            return positions
        wanted = self._table.loc[self.rows]
        stems = pc.replace_substring_regex(listing.names, _STEM, r"\1")
        asked = pa.array([name.encode() for name in set(wanted["name"])], pa.binary())
        candidates = pc.indices_nonzero(pc.is_in(stems, value_set=asked))
        paths = {
            position: os.fsdecode(path)
            for position, path in zip(candidates.to_pylist(), listing.names.take(candidates).to_pylist(), strict=True)
        }
        ends = _PathEnds(paths, {1, *(trimmed.count("/") + 1 for trimmed in wanted["trimmed"])})
        of_class = classes.take(pa.array(self.rows)).cast(pa.string()).to_pylist()
        ambiguous: list[str] = []
        found = positions.to_pandas().to_numpy(np.float64, copy=True)
        columns = (wanted["key"], wanted["trimmed"], wanted["name"], self._alone[self.rows], of_class)
        for row, key, trimmed, name, is_alone, class_name in zip(self.rows.tolist(), *columns, strict=True):
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
    keys: pa.ChunkedArray,
    classes: pa.ChunkedArray,
    stems: pa.Array,
    listing: Listing,
    annotations: str | os.PathLike[str],
    left_out: NDArray[np.int64] | None = None,
) -> pa.Array:
    """Find the position in the listing of the image with each name, except for some rows, which get null."""
    images = keys.cast(pa.binary())
    if left_out is not None and len(left_out):
        is_left_out = np.zeros(len(keys), bool)
        is_left_out[left_out] = True
        images = pc.if_else(pa.array(is_left_out), pa.scalar(None, pa.binary()), images.combine_chunks())
        images = pa.chunked_array([images])
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
    if not len(missing):
        return positions
    is_left = np.ones(len(stems), bool)
    is_left[positions.drop_null().to_numpy()] = False
    spellings: dict[str, list[int]] = {}
    odd = find_odd_names(stems).to_numpy()
    odd = odd[is_left[odd]]
    for position, stem in zip(odd.tolist(), stems.take(pa.array(odd)).to_pylist(), strict=True):
        spellings.setdefault(fold_name(os.fsdecode(stem)), []).append(position)
    asked = names.take(pa.array(missing))
    odd_asked = find_odd_names(asked.cast(pa.binary())).to_numpy()
    if not spellings and not len(odd_asked):
        return positions
    folded = asked.to_pandas().to_numpy(object, copy=True)
    folded[odd_asked] = [fold_name(name) for name in folded[odd_asked]]
    plain = pc.index_in(pa.array([name.encode() for name in folded], pa.binary()), value_set=stems)
    found = positions.to_pandas().to_numpy(np.float64, copy=True)
    for row, name, position in zip(missing.tolist(), folded.tolist(), plain.to_pylist(), strict=True):
        free = [position] if position is not None and is_left[position] else []
        free += [other for other in spellings.get(name, ()) if other != position]
        if len(free) == 1:
            found[row] = free[0]
    return pa.array(found, pa.float64(), from_pandas=True).cast(pa.int32())


def _find_paths(positions: pa.Array, names: pa.ChunkedArray, shortened: pa.ChunkedArray, listing: Listing) -> Matches:
    paths = listing.names.take(positions)
    try:
        return Matches(positions, paths.cast(pa.string()), names, shortened)
    except pa.ArrowInvalid:  # a path that is not UTF-8 cannot be a frame_path
        paths = pa.array([_decode_path(path) for path in paths.to_pylist()], pa.string())
        return Matches(pc.if_else(paths.is_valid(), positions, pa.scalar(None, pa.int32())), paths, names, shortened)


def _decode_path(path: bytes | None) -> str | None:
    try:
        return None if path is None else path.decode()
    except UnicodeDecodeError:
        return None
