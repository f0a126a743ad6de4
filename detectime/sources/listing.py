"""The listing of a source, as Arrow arrays: a million files take little memory."""

from __future__ import annotations

import contextlib
import itertools
import os
import urllib.parse
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.notes import Note, note_found
from detectime.sources.contract import RefusedSourceError, Source, SourceError
from detectime.sources.names import FoldedNames, find_odd_names, fold_name, show_name

_NAMES_SHOWN = 20  # of files that a table does not name
_FOLDERS_TRIED = 8  # in front of a name, in which it may be found
_CHUNK = 100_000  # files that exist as Python objects at a time


@dataclass(frozen=True)
class Listing:
    """The files of a source, or the reason why it has none.

    Parameters
    ----------
    names
        Paths as bytes, binary: a file name need not be UTF-8.
    stamps
        The stamp of each, text; null where the source knows nothing.
    notes
        Notes about the location.
    unreachable
        Why nothing could be listed, as a sentence. An empty location counts: an unmounted drive leaves an empty folder.
        None if files were listed.
    error
        The error that the source raised, if it did.
    top_folders
        See `Source.list_top_folders`.

    Examples
    --------
    >>> listing = Listing(pa.array([b"a.jpg", b"b.jpg"]), pa.array(["1", "2"]))
    >>> listing.find(pa.array([b"b.jpg", b"c.jpg"])).to_pylist()
    [1, None]
    """

    names: pa.Array
    stamps: pa.Array
    notes: list[Note] = field(default_factory=list)
    unreachable: str | None = None
    error: SourceError | None = None
    top_folders: tuple[str, ...] = ()

    def find(self, names: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return the position of each name, binary, in the listing: int32, null where it is not listed.

        A name that is not listed stands for one that lacks, or has, one of `top_folders` in front; or else for one that
        `sources.names.fold_name` makes equal, if there is exactly one. `Source.read_frames` does the same.
        """
        positions = _combine(pc.index_in(names, value_set=self.names))
        if not positions.null_count or not len(self.names):
            return positions
        unmatched = pc.indices_nonzero(positions.is_null())
        found = self._find_other_spellings(_combine(names.take(unmatched)))
        if found.null_count < len(found):
            positions = pc.replace_with_mask(positions, positions.is_null(), found)
        return positions

    @cached_property
    def _folded(self) -> FoldedNames:
        odd = self.names.take(find_odd_names(self.names))
        return FoldedNames(map(os.fsdecode, odd.to_pylist()))

    def _find_other_spellings(self, names: pa.Array) -> pa.Array:
        """Return the positions of names, none of which is listed as it is: int32, null where there is none."""
        positions = pa.nulls(len(names), pa.int32())
        forms = [names, *_change_top_folders(names, self.top_folders)]
        if self.top_folders and len(find_odd_names(names)):
            plain = pa.array([os.fsencode(fold_name(os.fsdecode(name))) for name in names.to_pylist()], pa.binary())
            folders = dict.fromkeys([*self.top_folders, *map(fold_name, self.top_folders)])
            forms += _change_top_folders(plain, list(folders))
        for form in forms:
            positions = pc.coalesce(positions, pc.index_in(form, value_set=self.names, skip_nulls=True))
        for form in forms:
            if positions.null_count:
                positions = pc.coalesce(positions, self._find_folded(pc.if_else(positions.is_null(), form, None)))
        return positions

    def _find_folded(self, names: pa.Array) -> pa.Array:
        """Return the positions of names of which the listing has exactly one other spelling; nulls match nothing."""
        asked = [None if name is None else os.fsdecode(name) for name in names.to_pylist()]
        folded = {fold_name(name) for name in asked if name is not None}
        encoded = pa.array(sorted(map(os.fsencode, folded)), pa.binary())
        existing = {os.fsdecode(name) for name in encoded.filter(pc.is_in(encoded, value_set=self.names)).to_pylist()}
        found: list[bytes | None] = []
        for name in asked:
            spellings = [] if name is None else self._folded.find(name, existing.__contains__)
            found.append(os.fsencode(spellings[0]) if len(spellings) == 1 else None)
        return pc.index_in(pa.array(found, pa.binary()), value_set=self.names, skip_nulls=True)

    def note_twins(self) -> list[Note]:
        """Return a note about files whose names differ by Unicode form, or by blanks at the ends, alone."""
        names = pa.array(sorted(map(os.fsencode, self._folded.list_folded())), pa.binary())
        existing = {os.fsdecode(name) for name in names.filter(pc.is_in(names, value_set=self.names)).to_pylist()}
        twins = self._folded.list_twins(existing.__contains__)
        why = "in several spellings (Unicode form, blanks at the ends): they are different files"
        return note_found("twins", twins, f"file name is there {why}", f"file names are there {why}")

    def note_misplaced(self, names: pa.Array | pa.ChunkedArray, positions: pa.Array) -> list[Note]:
        """Return a note about names that are not listed, if most of them would be in another form.

        Parameters
        ----------
        names
            As the labels have them, binary.
        positions
            What `find` returned for them.
        """
        missing = _combine(names).filter(positions.is_null())
        if not len(missing) or not len(self.names):
            return []
        found = [
            (int(pc.sum(pc.is_in(form, value_set=listed)).as_py()), how)
            for how, form, listed in _list_other_forms(missing, self.names)
        ]
        count, how = max(found, key=lambda each: each[0])
        if count * 2 <= len(missing):
            return []
        what = "missing frame would be" if count == 1 else "missing frames would be"
        return [Note("misplaced", count, f"{what} found {how}", os.fsdecode(missing[0].as_py()))]

    def note_respelled(self, names: pa.Array | pa.ChunkedArray, positions: pa.Array) -> list[Note]:
        """Return a note about names that `find` found in another spelling.

        Parameters
        ----------
        names
            As the labels have them, binary.
        positions
            What `find` returned for them.
        """
        listed = self.names.take(positions)
        differs = pc.fill_null(pc.not_equal(listed, _combine(names)), False)
        pairs = zip(names.filter(differs).to_pylist(), listed.filter(differs).to_pylist(), strict=True)
        first = (" -> ".join(show_name(os.fsdecode(name)) for name in pair) for pair in pairs)
        count = int(pc.sum(differs).as_py() or 0)
        one, many = "file is in the source in another spelling", "files are in the source in another spelling"
        why = "(Unicode form, blanks at the ends, or an archive's own top folder)"
        return [Note("respelled", count, f"{one if count == 1 else many} {why}", next(first))] if count else []

    def count_unlisted(self, positions: pa.Array) -> dict[Hashable, Any]:
        """Count the files that a frame table does not name.

        Parameters
        ----------
        positions
            Positions in the listing of the files that the table names; nulls are skipped.

        Returns
        -------
        dict
            For the table's ``attrs``: `unlisted`, the count, and `unlisted_names`, the first twenty in order.

        Examples
        --------
        >>> listing = Listing(pa.array([b"a.jpg", b"b.jpg"]), pa.array(["1", "2"]))
        >>> listing.count_unlisted(listing.find(pa.array([b"b.jpg", b"c.jpg"])))
        {'unlisted': 1, 'unlisted_names': ['a.jpg']}
        """
        is_unlisted = np.ones(len(self.names), bool)
        is_unlisted[positions.drop_null().to_numpy()] = False
        others = self.names.filter(pa.array(is_unlisted))
        first = others.take(pc.bottom_k_unstable(others, k=min(_NAMES_SHOWN, len(others))))
        return {"unlisted": len(others), "unlisted_names": [os.fsdecode(name) for name in first.to_pylist()]}


def _list_other_forms(names: pa.Array, listed: pa.Array) -> Iterator[tuple[str, pa.Array, pa.Array]]:
    """Yield other forms of names and of listed names that may be equal, and what is said of them."""
    slashed = pc.replace_substring(names, "\\", "/")
    yield "with / instead of \\", slashed, listed
    folders = os.fsdecode(slashed[0].as_py()).split("/")[:_FOLDERS_TRIED]
    for depth in range(1, len(folders)):
        folder = "/".join(folders[:depth])
        yield (
            f"without {folder!r} in front",
            pc.replace_substring_regex(slashed, rf"^(?:[^/]*/){{{depth}}}", ""),
            listed,
        )
    top = pc.unique(pc.replace_substring_regex(listed, "(?s)/.*", ""))
    if len(top) == 1:
        folder = os.fsdecode(top[0].as_py())
        yield f"with {folder!r} in front", pc.binary_replace_slice(names, 0, 0, top[0].as_py() + b"/"), listed
    yield "with another ending", *(pc.replace_substring_regex(each, r"(?s)\.[^./]*$", "") for each in (names, listed))
    if pc.any(pc.match_substring(names, "%")).as_py():
        plain = [urllib.parse.unquote_to_bytes(name) for name in names.to_pylist()]
        yield "with blanks and the like instead of %20", pa.array(plain, pa.binary()), listed
    with contextlib.suppress(pa.ArrowInvalid):  # names that are not UTF-8
        yield "in another case", *(pc.utf8_lower(each.cast(pa.string())) for each in (names, listed))
    own, others = (pc.replace_substring_regex(each, r"(?s)^.*/", "") for each in (slashed, listed))
    counts = pc.value_counts(others)
    yield "in other folders", own, counts.field("values").filter(pc.equal(counts.field("counts"), 1))


def list_source(source: Source) -> Listing:
    """List the frames of a source; if it cannot be reached the listing has the reason.

    Raises
    ------
    RefusedSourceError
        If somebody must decide first what the frames are.

    Examples
    --------
    >>> from detectime.sources import open_source
    >>> print(list_source(open_source("/nobody/has/this")).unreachable)
    /nobody/has/this: the images folder cannot be read: No such file or directory; give it as `images`
    """
    return collect_listing(source, source.list_frames())


def collect_listing(source: Source, listed: Iterable[tuple[str, str | None]]) -> Listing:
    """Collect names and stamps that a source yields; raises the same as `list_source`.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.sources import open_source
    >>> collect_listing(open_source(str(paths.SAMPLE)), [("a.jpg", "1")]).names.to_pylist()
    [b'a.jpg']
    """
    empty = pa.array([], pa.binary()), pa.array([], pa.string())
    try:
        chunks = list(_collect_chunks(iter(listed)))
        notes = source.list_notes()
        top_folders = source.list_top_folders() if chunks else ()
    except RefusedSourceError:
        raise
    except SourceError as error:
        return Listing(*empty, unreachable=str(error), error=error)
    if not chunks:
        return Listing(*empty, unreachable="; ".join([f"{source.root} lists nothing", *map(str, notes)]))
    names, stamps = zip(*chunks, strict=True)
    listing = Listing(pa.concat_arrays(names), pa.concat_arrays(stamps), notes, top_folders=top_folders)
    notes += listing.note_twins()
    return listing


def _combine(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _change_top_folders(names: pa.Array, folders: Sequence[str]) -> Iterator[pa.Array]:
    """Yield names without each folder, null where they do not begin with it, and names with it."""
    nothing = pa.scalar(None, names.type)
    for folder in map(os.fsencode, folders):
        # Not `binary_slice` without a stop, which fails for every even number of names.
        inside = pc.binary_replace_slice(names, start=0, stop=len(folder), replacement=b"")
        yield pc.if_else(pc.starts_with(names, folder), inside, nothing)
        yield pc.binary_replace_slice(names, start=0, stop=0, replacement=folder)


def _collect_chunks(listed: Iterator[tuple[str, str | None]]) -> Iterator[tuple[pa.Array, pa.Array]]:
    while True:
        names, stamps = [], []
        for name, stamp in itertools.islice(listed, _CHUNK):  # a list of pairs would keep the garbage collector busy
            names.append(os.fsencode(name))
            stamps.append(stamp)
        if not names:
            return
        yield pa.array(names, pa.binary()), pa.array(stamps, pa.string())
