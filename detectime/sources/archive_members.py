"""Members of archives: which one a frame_path names, and which cannot be read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.notes import Note
from detectime.sources.archive_index import Member, read_about
from detectime.sources.contract import MissingFrameError, RefusedSourceError
from detectime.sources.file_kinds import choose_image_names
from detectime.sources.names import FoldedNames, find_odd_names, fold_name
from detectime.sources.zip_members import READABLE, describe_repacking, name_method
from detectime.storage.name_index import NAME_COLUMN, NameIndex


class MemberFinder:
    """Finds the member that a frame_path names, in the order of `Listing.find`.

    Parameters
    ----------
    index
        Of the archives.
    """

    def __init__(self, index: NameIndex) -> None:
        self._index = index
        self._folders = read_about(index.rows.schema).top_folders

    def find_member(self, frame_path: str) -> tuple[int, Member]:
        """Return the number of the archive, and the member.

        Raises
        ------
        MissingFrameError
            If there is none, or if there are several and none of exactly this name.
        """
        row = self._index.find(frame_path)
        if row is None:
            row = self._index.find(self._find_spelling(frame_path))
            assert row is not None
        return row.pop("archive"), Member(**row)

    def find_place(self, frame_path: str) -> int | None:
        """Return the row of the index; None if there is none."""
        try:
            name = self.find_member(frame_path)[1].name
        except MissingFrameError:
            return None
        place: int = pc.index(self._index.rows.column(NAME_COLUMN), pa.scalar(name, pa.binary())).as_py()
        return place

    def _find_spelling(self, frame_path: str) -> str:
        names = dict.fromkeys([frame_path, fold_name(frame_path)])
        folders = dict.fromkeys([*self._folders, *map(fold_name, self._folders)])
        forms = [frame_path]
        for name, folder in itertools.product(names, folders):
            forms += [name.removeprefix(folder)] if name.startswith(folder) else []
            forms.append(folder + name)
        for form in forms:
            if self._exists(form):
                return form
        folded = _fold_names(self._index.rows)
        for form in forms:
            found = folded.find(form, self._exists)
            if len(found) > 1:
                raise MissingFrameError(
                    f"{len(found)} members of the archives differ from this name by Unicode form or blanks alone"
                )
            if found:
                return found[0]
        raise MissingFrameError("no such member in the archives")

    def _exists(self, name: str) -> bool:
        return self._index.find(name) is not None


_folded: list[tuple[pa.RecordBatch, FoldedNames]] = []  # of the last index


def _fold_names(rows: pa.RecordBatch) -> FoldedNames:
    """Return the names of an index by their folded form; made once per process."""
    for known, folded in _folded:
        if known is rows:
            return folded
    names = rows.column(NAME_COLUMN)
    folded = FoldedNames(map(os.fsdecode, names.take(find_odd_names(names)).to_pylist()))
    _folded[:] = [(rows, folded)]
    return folded


def find_unreadable(rows: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the members of zips that are encrypted, or compressed by a method that is not read: int64."""
    method = rows.column("method")
    is_readable = pc.or_kleene(method.is_null(), pc.is_in(method, value_set=pa.array(READABLE, pa.int32())))
    return np.flatnonzero(~is_readable.to_numpy(zero_copy_only=False)).astype(np.int64)


def refuse_unreadable(rows: pa.RecordBatch, archives: Sequence[str]) -> None:
    """Refuse archives if not one of their images can be read.

    Raises
    ------
    RefusedSourceError
        Naming an archive, the count, one of them and what to do.
    """
    unreadable = find_unreadable(rows)
    if len(unreadable):
        is_image = choose_image_names(rows.column(NAME_COLUMN)).to_numpy(zero_copy_only=False)
        if is_image.sum() == is_image[unreadable].sum() > 0:
            refuse_members(rows, unreadable[is_image[unreadable]], archives)


def check_members(index: NameIndex, archives: Sequence[str], frame_paths: pa.Array | pa.ChunkedArray) -> None:
    """Refuse frames that no setting can read: see `ArchiveSource.check_frames`."""
    unreadable = find_unreadable(index.rows)
    if not len(unreadable):
        return
    finder = MemberFinder(index)
    asked = pc.unique(frame_paths)
    places = pc.index_in(pc.cast(asked, pa.binary()), value_set=index.rows.column(NAME_COLUMN))
    others = pc.filter(asked, pc.is_null(places)).to_pylist()
    found = {*places.to_pylist(), *map(finder.find_place, others)}
    refuse_members(index.rows, unreadable[[place in found for place in unreadable.tolist()]], archives)


def refuse_members(
    rows: pa.RecordBatch, places: np.ndarray[tuple[int], np.dtype[np.int64]], archives: Sequence[str]
) -> None:
    """Refuse members that cannot be read; none: nothing happens."""
    if len(places):
        first = rows.slice(int(places[0]), 1).to_pylist()[0]
        archive, method = archives[first["archive"]], first["method"]
        what = "image is" if len(places) == 1 else "images are"
        raise RefusedSourceError(
            f"{archive}: {len(places)} {what} {name_method(method)}, which is not read (the first: "
            f"{os.fsdecode(first[NAME_COLUMN])!r}); {describe_repacking(method)}"
        )


def note_members(rows: pa.RecordBatch) -> list[Note]:
    """Return notes about members that are not frames, that repeat a path, or that cannot be read."""
    about = read_about(rows.schema)
    notes: list[Note] = []
    if about.ignored:
        what = "member of an archive is not a frame" if about.ignored == 1 else "members of archives are not frames"
        text = f"{what}: links that lead to no file in it, devices, or paths that have a part `..`"
        notes.append(Note("ignored", about.ignored, text, about.first_ignored))
    if about.repeated:
        what = "member of an archive has" if about.repeated == 1 else "members of archives have"
        text = f"{what} the path of a later one, which is read, as in unpacking"
        notes.append(Note("repeated", about.repeated, text, about.first_repeated))
    unreadable = find_unreadable(rows)
    if len(unreadable):
        first = rows.slice(int(unreadable[0]), 1).to_pylist()[0]
        what = "member of an archive cannot" if len(unreadable) == 1 else "members of archives cannot"
        text = f"{what} be read: {name_method(first['method'])}"
        notes.append(Note("unreadable_members", len(unreadable), text, os.fsdecode(first[NAME_COLUMN])))
    return notes


def make_member_stamp(size: int, crc: int | None, mtime: int | None) -> str:
    """Make the stamp of a member.

    Examples
    --------
    >>> make_member_stamp(5, 0x3610a686, None), make_member_stamp(5, None, 1_700_000_000)
    ('5-3610a686', '5-1700000000')
    """
    return f"{size}-{mtime}" if crc is None else f"{size}-{crc:08x}"
