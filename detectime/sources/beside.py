"""Whether archives and the image files beside them are the same pictures."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.boxes import Flags, Integers
from detectime.images import UnreadableImageError
from detectime.sources.archive_index import Member, load_members, read_about
from detectime.sources.contract import RefusedSourceError, SourceError
from detectime.sources.file_kinds import choose_image_names
from detectime.sources.folder import FolderSource
from detectime.sources.listing import Listing
from detectime.storage import name_index
from detectime.storage.name_index import NAME_COLUMN

_MAX_READ = 2**30  # bytes of image files whose contents are compared, the newest first; of the others the sizes are
_MAX_FILES = 50_000
_CHUNK = 50_000  # files that exist as Python objects at a time
_BLOCK = 2**20  # bytes
_ABOUT_KEY = b"about"
_AES = 99


@dataclass(frozen=True)
class Comparison:
    """Image files, and the images in archives beside them.

    Attributes
    ----------
    shared
        How many files are in the archives by name.
    files, first_file
        How many files are not, and one of them.
    members, first_member
        How many images of the archives are not among the files, and one of them.
    unread
        Of how many shared ones only the size was compared.
    differing
        How many shared ones have other contents in the archives.
    example
        One of those, and how it differs.
    reason
        Why nothing could be compared; None if something was.
    """

    shared: int = 0
    files: int = 0
    first_file: str | None = None
    members: int = 0
    first_member: str | None = None
    unread: int = 0
    differing: int = 0
    example: str | None = None
    reason: str | None = None

    def check(self, root: str) -> None:
        """Refuse a location whose image files differ from the archives.

        Raises
        ------
        RefusedSourceError
            If any do; the message names both remedies.

        Examples
        --------
        >>> Comparison(shared=2).check("frames")
        """
        if self.differing:
            files = (
                "image file differs from its namesake"
                if self.differing == 1
                else "image files differ from their namesakes"
            )
            raise RefusedSourceError(
                f"{root}: {self.differing} {files} in the archives beside ({self.example}); which are the frames? Set "
                "`source_type: folder` to read the image files, or `source_type: archives` to read the archives, or "
                "move one of them elsewhere"
            )


def compare_contents(root: str, archives: tuple[str, ...], listed: Iterable[tuple[str, str | None]]) -> Comparison:
    """Compare image files with archives beside them. This is done once: the result is kept until a file changes.

    Names are compared first, then sizes, then the contents of the newest files: by the CRC-32 of a zip's directory, and
    by the bytes in a tar. A file below ``anna/`` is also compared with the members of ``anna.zip``.

    Parameters
    ----------
    root
        A folder.
    archives
        Paths of the archives in it.
    listed
        All files below it, as `FolderSource` lists them.
    """
    names, stamps = _collect(listed)
    order = pc.sort_indices(names)
    digest = hashlib.sha256()
    for array in (names.take(order), stamps.take(order)):
        for value in pa.RecordBatch.from_arrays([array], ["value"]).column(0).buffers():
            digest.update(b"" if value is None else value)
    try:
        table = name_index.load_or_build(_compare, archives, root, digest.hexdigest())
    except SourceError as error:
        return Comparison(reason=str(error))
    except OSError as error:
        return Comparison(reason=f"{error.filename or root}: {error.strerror or error}")
    return Comparison(**json.loads(table.rows.schema.metadata[_ABOUT_KEY]))


def compare_names(names: Sequence[str], archives: tuple[str, ...]) -> Comparison:
    """Compare the names of image files in one folder with archives beside them; no content is read.

    Raises
    ------
    SourceError
        If an archive cannot be read.
    """
    files = pa.array([os.fsencode(name) for name in names], pa.binary())
    members = load_members(archives).rows
    return _count(files, members, _match(files, members, archives))


def _compare(archives: tuple[str, ...], root: str, digest: str) -> pa.Table:
    """Return a table of nothing whose metadata is the comparison; `digest` names the files that are there."""
    names, stamps = _collect(FolderSource(root).list_frames())
    is_known = pc.and_(choose_image_names(names), stamps.is_valid())
    names, stamps = names.filter(is_known), stamps.filter(is_known)
    members = load_members(archives).rows
    places = _match(names, members, archives)
    counted = _count(names, members, places)
    (rows,) = np.nonzero(places >= 0)
    size, mtime = _split_stamps(stamps.take(rows))
    expected = members.column("size").take(places[rows]).to_numpy()
    differs = size != expected
    differing, unread = int(differs.sum()), 0
    example = None
    if differing:
        first = int(np.argmax(differs))
        name = os.fsdecode(names[rows[first]].as_py())
        where = _name_archive(members, places[rows[first]], archives)
        example = f"{name!r} has {size[first]} bytes, and {expected[first]} in {where}"
    alike = np.flatnonzero(~differs)
    alike = alike[np.argsort(-mtime[alike], kind="stable")]
    is_read = (np.cumsum(size[alike]) <= _MAX_READ) & (np.arange(len(alike)) < _MAX_FILES)
    unread += int((~is_read).sum())
    chosen = rows[alike[is_read]]
    with contextlib.ExitStack() as stack:
        opened = _Archives(archives, stack)
        for row in chosen.tolist():
            name = os.fsdecode(names[row].as_py())
            is_equal = opened.compare(os.path.join(root, name), members, int(places[row]))
            if is_equal is None:
                unread += 1
            elif not is_equal:
                differing += 1
                where = _name_archive(members, places[row], archives)
                example = example or f"{name!r} has as many bytes in {where}, and other ones"
    about = asdict(counted) | {"unread": unread, "differing": differing, "example": example}
    return pa.table({NAME_COLUMN: pa.array([], pa.binary())}).replace_schema_metadata({_ABOUT_KEY: json.dumps(about)})


class _Archives:
    """Archives, opened when their members are asked for."""

    def __init__(self, archives: tuple[str, ...], stack: contextlib.ExitStack) -> None:
        self._archives = archives
        self._stack = stack
        self._files: dict[int, BinaryIO] = {}

    def compare(self, path: str, members: pa.RecordBatch, place: int) -> bool | None:
        """Whether a file has the content of a member; None if either cannot be read."""
        row = members.slice(place, 1).to_pylist()[0]
        number = row.pop("archive")
        member = Member(**row)
        if member.method == _AES and not member.crc:  # which may have none
            return None
        try:
            crc = member.crc
            if crc is None:
                if number not in self._files:
                    file = open(self._archives[number], "rb")  # noqa: SIM115
                    self._files[number] = self._stack.enter_context(file)
                crc = zlib.crc32(member.read(self._files[number]))
            return crc == _compute_crc(path)
        except (OSError, UnreadableImageError):
            return None


def _compute_crc(path: str) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _name_archive(members: pa.RecordBatch, place: int, archives: tuple[str, ...]) -> str:
    number: int = members.column("archive")[int(place)].as_py()
    return os.path.basename(archives[number])


def _match(names: pa.Array, members: pa.RecordBatch, archives: tuple[str, ...]) -> Integers:
    """Return the member that each file is by its name: int64, shape (files,); -1 where there is none."""
    known = members.column(NAME_COLUMN)
    owners = members.column("archive").to_numpy()
    listing = Listing(known, pa.nulls(len(known), pa.string()), top_folders=read_about(members.schema).top_folders)
    places = _find(names, listing)
    for number, archive in enumerate(archives):
        folder = os.fsencode(PurePosixPath(archive).stem) + b"/"
        is_inside = pc.starts_with(names, folder).to_numpy(zero_copy_only=False) & (places < 0)
        if is_inside.any():
            inside = pc.binary_replace_slice(names.filter(pa.array(is_inside)), 0, len(folder), b"")
            found = _find(inside, listing)
            found[(found >= 0) & (owners[found] != number)] = -1
            places[is_inside] = found
    return places


def _find(names: pa.Array, listing: Listing) -> Integers:
    found: Integers = listing.find(names).fill_null(-1).to_numpy().astype(np.int64)
    return found


def _count(names: pa.Array, members: pa.RecordBatch, places: Integers) -> Comparison:
    known = members.column(NAME_COLUMN)
    is_only_member: Flags = choose_image_names(known).to_numpy(zero_copy_only=False).copy()
    is_only_member[places[places >= 0]] = False
    is_only_file = places < 0
    return Comparison(
        shared=int((places >= 0).sum()),
        files=int(is_only_file.sum()),
        first_file=_show_first(names, is_only_file),
        members=int(is_only_member.sum()),
        first_member=_show_first(known, is_only_member),
    )


def _show_first(names: pa.Array, flags: Flags) -> str | None:
    return os.fsdecode(names[int(np.argmax(flags))].as_py()) if flags.any() else None


def _collect(listed: Iterable[tuple[str, str | None]]) -> tuple[pa.Array, pa.Array]:
    """Return names, binary, and stamps, text, of files."""
    names, stamps = [pa.array([], pa.binary())], [pa.array([], pa.string())]
    iterator: Iterator[tuple[str, str | None]] = iter(listed)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        names.append(pa.array([os.fsencode(name) for name, _ in chunk], pa.binary()))
        stamps.append(pa.array([stamp for _, stamp in chunk], pa.string()))
    return pa.concat_arrays(names), pa.concat_arrays(stamps)


def _split_stamps(stamps: pa.Array) -> tuple[Integers, Integers]:
    """Return size in bytes and modification time in nanoseconds of files: see `folder.make_stamp`."""
    parts = pc.split_pattern(stamps, "-", max_splits=1)
    size, mtime = (pc.list_element(parts, k).cast(pa.int64()).to_numpy() for k in (0, 1))
    return size, mtime
