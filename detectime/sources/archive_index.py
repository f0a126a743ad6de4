"""The members of archives as one table, built once: see `detectime.storage.name_index`."""

from __future__ import annotations

import json
import os
import posixpath
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.images import UnreadableImageError
from detectime.sources.contract import RefusedSourceError, SourceError
from detectime.sources.file_kinds import FileKind, choose_image_names, recognise_file
from detectime.sources.tar_members import list_segments, list_tar, read_tar_member
from detectime.sources.zip_members import encode_name, find_method, list_zip, read_zip_member
from detectime.storage import name_index
from detectime.storage.name_index import NAME_COLUMN, NameIndex

_ABOUT_KEY = b"about"
_NOT_PLAIN = re.compile(rb"^/|//|(?:^|/)\.\.?(?:/|$)|/$|^$")
_MAY_SAY_CLASSES = rb"(?i)\.(?:cls|jsn?|json)$|(?:class|label|name|idx)[^/]*$"
"""Of a member that is no image, and yet must be one alone; others, such as a LICENSE in each archive, need not."""
_NOT_A_FILE, _LINK = -1, -2  # as the start of a device, and of a link whose target is not known yet
_MAX_LINKS = 40  # from one to the next
_MAX_TARGET = 4096  # bytes of the path that a link leads to
_MAX_FOLDERS = 32  # own folders of archives that are tried one after the other
_CHUNK = 65_536  # members that exist as Python objects at a time
_NAMES_SHOWN = 5
_MAX_TIME = 2**53  # a larger one is damage

_SCHEMA = pa.schema(
    [
        pa.field(NAME_COLUMN, pa.binary(), nullable=False),
        pa.field("archive", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # in a zip of the local header, in a tar of the content
        pa.field("stored", pa.int64(), nullable=False),  # bytes in the archive
        pa.field("size", pa.int64(), nullable=False),  # bytes of the content
        pa.field("crc", pa.uint32()),  # of the content; null in a tar, which has none
        pa.field("mtime", pa.int64()),  # seconds; null in a zip, whose stamps are made of `crc`
        pa.field("method", pa.int32()),  # of a zip, or `zip_members.ENCRYPTED`; null in a tar
        pa.field("segments", pa.list_(pa.int64())),  # of a sparse file in a tar: see `tar_members.list_segments`
    ]
)


class Member(NamedTuple):
    """A row of the index without its archive: see the schema."""

    name: bytes
    start: int
    stored: int
    size: int
    crc: int | None
    mtime: int | None
    method: int | None = None
    segments: list[int] | None = None

    def read(self, file: BinaryIO) -> bytes:
        """Return the content, checked to be whole.

        Raises
        ------
        UnreadableImageError
            If it cannot be had.
        """
        try:
            if self.crc is None:
                return read_tar_member(file, self.start, self.stored, self.size, self.segments)
            return read_zip_member(file, self.start, self.stored, self.size, self.crc)
        except (OSError, ValueError) as error:
            raise UnreadableImageError(f"cannot be read: {error}") from error


@dataclass(frozen=True)
class About:
    """What is known of the archives beside their members.

    Attributes
    ----------
    ignored, first_ignored
        How many members are not frames, and one of them.
    repeated, first_repeated
        How many members have the path of a later one of the same archive, and one of them.
    top_folders
        See `Source.list_top_folders`.
    """

    ignored: int = 0
    first_ignored: str | None = None
    repeated: int = 0
    first_repeated: str | None = None
    top_folders: tuple[str, ...] = ()


def read_about(schema: pa.Schema) -> About:
    """Return what `index_members` knows of the archives, from the schema of its table."""
    about = json.loads(schema.metadata[_ABOUT_KEY])
    return About(**about | {"top_folders": tuple(about["top_folders"])})


def load_members(archives: tuple[str, ...]) -> NameIndex:
    """Return the index of local archives, built once: see `index_members`.

    Raises
    ------
    SourceError
        As `index_members`, and if a file does not exist.
    """
    try:
        return name_index.load_or_build(index_members, archives)
    except OSError as error:
        raise SourceError(
            f"{error.filename or archives[0]}: the archive cannot be read: {error.strerror or error}; "
            "give it, or its folder, as `images`"
        ) from error


def index_members(archives: tuple[str, ...]) -> pa.Table:
    """Read the directories of local archives.

    Parameters
    ----------
    archives
        Paths of zip and tar files.

    Returns
    -------
    Table
        One row per member, each name once; `read_about` has more.

    Raises
    ------
    SourceError
        If a file is not a zip or a tar, or is broken, or if two have a member of the same path.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".zip") as file:
    ...     with zipfile.ZipFile(file, "w") as target:
    ...         target.writestr("./anna/0001.jpg", b"hello")
    ...     index_members((file.name,)).select(["name", "size"]).to_pylist()
    [{'name': b'anna/0001.jpg', 'size': 5}]
    """
    return index_opened(archives, lambda archive: open(archive, "rb"))


def index_opened(archives: Sequence[str], open_archive: Callable[[str], BinaryIO]) -> pa.Table:
    """Do what `index_members` does with archives of any place.

    Parameters
    ----------
    archives
        Their paths or URLs.
    open_archive
        Opens one of them for reading.
    """
    tables: list[pa.Table] = []
    own_folders: list[str] = []
    ignored: list[str] = []
    count_ignored = 0
    for number, archive in enumerate(archives):
        with open_archive(archive) as file:
            collector = _collect_members(file, archive, number)
            table = collector.make_table(file)
        members, folder = _strip_own_folder(table, archive)
        tables.append(members)
        own_folders += [folder] if folder else []
        count_ignored += collector.ignored
        ignored += [collector.first_ignored] if collector.first_ignored else []
    all_members = pa.concat_tables([_SCHEMA.empty_table(), *tables]).combine_chunks()
    table, repeated, first_repeated = _keep_last_of_each(all_members, archives)
    about = About(
        count_ignored,
        ignored[0] if ignored else None,
        repeated,
        first_repeated,
        _list_top_folders(table[NAME_COLUMN], tables, own_folders, archives),
    )
    return table.replace_schema_metadata({_ABOUT_KEY: json.dumps(asdict(about))})


def _collect_members(file: BinaryIO, archive: str, number: int) -> _Collector:
    kind = recognise_file(file, archive)
    if kind.name not in ("zip", "tar") and kind.sentence is None and kind.name != "video":
        suffix = archive.lower().rpartition(".")[2]
        kind = FileKind(suffix) if suffix in ("zip", "tar") else kind
    collector = _Collector(number)
    try:
        if kind.name == "zip":
            list_zip(file, collector.add_zipped)
        elif kind.name == "tar":
            list_tar(file, collector.add_tarred)
        else:
            video = "this is a video; leave source_type out, or move it elsewhere" if kind.name == "video" else None
            accepted = "this is not an archive; accepted: zip and tar files"
            raise RefusedSourceError(f"{archive}: {kind.sentence or video or accepted}")
    except ValueError as error:
        raise SourceError(
            f"{archive}: this {kind.name} is cut off or broken: {error}; get it again, or move it elsewhere"
        ) from error
    return collector


class _Link(NamedTuple):
    """A link in an archive: the path of the member that it leads to, or a member whose content is that path."""

    target: bytes | Member | None
    is_hard: bool


class _Collector:
    """Collects members of one archive into Arrow tables: a million Python objects would be half a gigabyte."""

    def __init__(self, number: int) -> None:
        self.ignored = 0
        self.first_ignored: str | None = None
        self._number = number
        self._links: list[_Link] = []  # the place of each is in `stored` of its row
        self._members: list[Member] = []
        self._tables: list[pa.Table] = [_SCHEMA.empty_table()]

    def add_zipped(self, member: zipfile.ZipInfo) -> None:
        name, method = encode_name(member), find_method(member)
        found = Member(name, member.header_offset, member.compress_size, member.file_size, member.CRC, None, method)
        if stat.S_ISLNK(member.external_attr >> 16):
            self._add_link(found, _Link(found if found.size <= _MAX_TARGET else None, is_hard=False))
        else:
            self._add(found)

    def add_tarred(self, header: tarfile.TarInfo) -> None:
        segments = list_segments(header)
        stored = header.size if segments is None else sum(segments[1::2])
        start = header.offset_data if header.isreg() else _NOT_A_FILE
        mtime = int(header.mtime) if abs(header.mtime) < _MAX_TIME else 0  # a damaged one may be infinite
        name = os.fsencode(header.name)
        found = Member(name, start, stored, header.size, None, mtime, None, segments)
        if header.islnk():
            self._add_link(found, _Link(_clean_name(os.fsencode(header.linkname)), is_hard=True))
        elif header.issym():
            self._add_link(found, _Link(_find_target(name, os.fsencode(header.linkname)), is_hard=False))
        else:
            self._add(found)

    def make_table(self, file: BinaryIO) -> pa.Table:
        """Return all members; a link has the content of what it leads to."""
        self._flush()
        table = pa.concat_tables(self._tables)
        return self._resolve_links(table, file) if self._links else table

    def _add_link(self, member: Member, link: _Link) -> None:
        self._links.append(link)
        self._add(member._replace(start=_LINK, stored=len(self._links) - 1))

    def _add(self, member: Member) -> None:
        name: bytes | None = member.name
        if _NOT_PLAIN.search(member.name):
            name = _clean_name(member.name)
        if member.start == _NOT_A_FILE or name is None:
            self._ignore(member.name)
            return
        self._members.append(member._replace(name=name) if name is not member.name else member)
        if len(self._members) == _CHUNK:
            self._flush()

    def _ignore(self, name: bytes) -> None:
        self.ignored += 1
        self.first_ignored = self.first_ignored or os.fsdecode(name)

    def _flush(self) -> None:
        if self._members:
            name, *numbers = zip(*self._members, strict=True)
            columns = [name, [self._number] * len(name), *numbers]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            self._tables.append(pa.Table.from_arrays(arrays, schema=_SCHEMA))
            self._members = []

    def _resolve_links(self, table: pa.Table, file: BinaryIO) -> pa.Table:
        """Replace each link by what it leads to, and ignore those that lead to nothing in the archive."""
        names, starts = table[NAME_COLUMN], table["start"].to_numpy()
        link_rows = np.flatnonzero(starts == _LINK)
        targets = dict(zip(link_rows.tolist(), self._read_targets(table, link_rows, file), strict=True))
        wanted = pa.array({target for target in targets.values() if target is not None}, pa.binary())
        places: dict[bytes, list[int]] = {}
        for row in pc.indices_nonzero(pc.is_in(names, value_set=wanted)).to_pylist():
            places.setdefault(names[row].as_py(), []).append(row)
        source = np.arange(len(table))
        is_kept = np.ones(len(table), bool)
        for row in targets:
            found: int | None = row
            for _ in range(_MAX_LINKS):
                if found is None or found not in targets:
                    break
                link = self._links[table["stored"][found].as_py()]
                found = _choose_place(places.get(targets[found] or b"", []), found, link.is_hard)
            if found is None or found in targets:  # also a circle of links
                is_kept[row] = False
                self._ignore(names[row].as_py())
            else:
                source[row] = found
        resolved = table.take(source).set_column(0, _SCHEMA.field(NAME_COLUMN), names)
        return resolved.filter(pa.array(is_kept))

    def _read_targets(self, table: pa.Table, rows: Any, file: BinaryIO) -> list[bytes | None]:
        """Return the path in the archive that each link leads to; None if it leads out of it, or cannot be read."""
        targets: list[bytes | None] = []
        for row in rows.tolist():
            target = self._links[table["stored"][row].as_py()].target
            if isinstance(target, Member):
                try:
                    target = _find_target(target.name, target.read(file))
                except UnreadableImageError:
                    target = None
            targets.append(target)
        return targets


def _choose_place(places: list[int], link: int, is_hard: bool) -> int | None:
    """Choose the member that a link means among those of one path; a hard link means one that was there before it."""
    others = [place for place in places if place != link]
    earlier = [place for place in others if place < link] if is_hard else []
    found = earlier or others
    return found[-1] if found else None


def _clean_name(name: bytes) -> bytes | None:
    """Return a path without what does not change it: slashes in front, ``./`` and ``//``; None if it is no path."""
    if name.endswith(b"/"):
        return None
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    return None if b".." in parts or not parts else b"/".join(parts)


def _find_target(link: bytes, target: bytes) -> bytes | None:
    """Return the path in the archive that a symbolic link leads to; None if it leads out of it."""
    if target.startswith(b"/") or not target:
        return None
    return _clean_name(posixpath.normpath(posixpath.join(posixpath.dirname(link.lstrip(b"/")), target)))


def _strip_own_folder(members: pa.Table, archive: str) -> tuple[pa.Table, str | None]:
    """Leave out what `ArchiveSource` leaves out of the members of one archive, and of their paths.

    Returns
    -------
    members, folder
        The members; and the folder that was left out of their paths, with a slash, None if there is none.
    """
    members = members.filter(pc.invert(pc.starts_with(members[NAME_COLUMN], b"__MACOSX/")))
    names = members[NAME_COLUMN]
    if not pc.any(pc.greater(pc.count_substring(names, b"/"), 1)).as_py():
        return members, None
    for folder in (f"{PurePosixPath(archive).stem}/", "train_data/"):
        if pc.all(pc.starts_with(names, os.fsencode(folder))).as_py():
            return members.set_column(0, _SCHEMA.field(NAME_COLUMN), _strip_folder(names, folder)), folder
    return members, None


def _strip_folder(names: pa.ChunkedArray, folder: str) -> pa.ChunkedArray:
    # Not `binary_slice` without a stop, which fails for every even number of names.
    return pc.binary_replace_slice(names, start=0, stop=len(os.fsencode(folder)), replacement=b"")


def _list_top_folders(
    names: pa.ChunkedArray, tables: Sequence[pa.Table], own_folders: Sequence[str], archives: Sequence[str]
) -> tuple[str, ...]:
    """Return the folders that a frame_path may have in front, or not.

    They are those that were left out of the paths; those that all images lie in; the name of a single archive, into
    whose folder Windows unpacks it; and, of several archives each of which has one folder of its own, these folders, if
    no path without them means two members.
    """
    folders = list(dict.fromkeys(own_folders))
    whole = _list_common_folders(names)
    folders += [folder for folder in whole if folder not in folders]
    if len(archives) == 1 and (unpacked := f"{PurePosixPath(archives[0]).stem}/") not in folders:
        folders.append(unpacked)
    if not whole and len(tables) > 1:
        singles = [next(iter(_list_common_folders(table[NAME_COLUMN])), None) for table in tables]
        inside = [
            _strip_folder(table[NAME_COLUMN], folder) if folder else table[NAME_COLUMN]
            for table, folder in zip(tables, singles, strict=True)
        ]
        chunks = pa.chunked_array([chunk for array in inside for chunk in array.chunks], pa.binary())
        if any(singles) and pc.count_distinct(chunks).as_py() == len(chunks):
            folders += [folder for folder in dict.fromkeys(singles) if folder and folder not in folders]
    return tuple(folders) if len(folders) <= _MAX_FOLDERS else ()


def _list_common_folders(names: pa.ChunkedArray) -> list[str]:
    """Return the folder that all images lie in, then the one in that, and so on: ``a/``, ``a/b/``."""
    is_image = choose_image_names(names)
    names = names.filter(is_image) if pc.any(is_image).as_py() else names
    folders: list[str] = []
    if not len(names):
        return folders
    parts = names[0].as_py().split(b"/")[:-1]
    for count in range(1, min(len(parts), _MAX_FOLDERS) + 1):
        folder = b"/".join(parts[:count]) + b"/"
        if not pc.all(pc.starts_with(names, folder)).as_py():
            break
        folders.append(os.fsdecode(folder))
    return folders


def _keep_last_of_each(table: pa.Table, archives: Sequence[str]) -> tuple[pa.Table, int, str | None]:
    """Keep the last of the members of one path, and refuse two archives with the same path of a frame or its class.

    Returns
    -------
    table, count, first
        The members; and of how many another one of the same path is kept, with the first of those paths.
    """
    if pc.count_distinct(table[NAME_COLUMN]).as_py() == len(table):
        return table, 0, None
    order = pc.sort_indices(table[NAME_COLUMN]).to_numpy()  # stable
    names, owners = table[NAME_COLUMN].take(order).combine_chunks(), table["archive"].to_numpy()[order]
    has_later = np.append(pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False), False)
    matters = pc.or_(choose_image_names(names), pc.match_substring_regex(names, _MAY_SAY_CLASSES))
    (shared,) = np.nonzero(has_later[:-1] & (owners[1:] != owners[:-1]) & matters[:-1].to_numpy(zero_copy_only=False))
    if len(shared):
        shown = ", ".join(repr(os.fsdecode(names[k].as_py())) for k in shared[:_NAMES_SHOWN].tolist())
        first, second = archives[owners[shared[0]]], archives[owners[shared[0] + 1]]
        raise SourceError(
            f"{first} and {second}: both have members of the same path, {len(shared)} in all ({shown}); "
            "a frame_path must name one frame: delete one of them, or put them into folders of their own"
        )
    repeated = os.fsdecode(names[int(np.argmax(has_later))].as_py())
    return table.take(order[~has_later]), int(has_later.sum()), repeated
