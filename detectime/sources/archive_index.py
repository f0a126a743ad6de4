"""The members of archives as one table, built once: see `detectime.storage.name_index`."""

from __future__ import annotations

import json
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.sources.contract import SourceError
from detectime.storage.name_index import NAME_COLUMN

IGNORED_KEY = b"ignored"
"""Key of the table's metadata: how many members are not frames, and the first of them, as JSON."""

_NOT_A_FRAME_PATH = re.compile(rb"^$|^/|//|/$|(?:^|/)\.\.?(?:/|$)")
_NOT_A_FILE = -1  # as the start of a link, say
_CHUNK = 65_536  # members that exist as Python objects at a time
_NAMES_SHOWN = 5
_MAX_TIME = 2**53  # a larger one is damage
_UTF_8_FLAG = 0x800

_SCHEMA = pa.schema(
    [
        pa.field(NAME_COLUMN, pa.binary(), nullable=False),
        pa.field("archive", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # in a zip of the local header, in a tar of the content
        pa.field("stored", pa.int64(), nullable=False),  # bytes in the archive
        pa.field("size", pa.int64(), nullable=False),  # bytes of the content
        pa.field("crc", pa.uint32()),  # of the content; null in a tar, which has none
        pa.field("mtime", pa.int64()),  # seconds; null in a zip, whose stamps are made of `crc`
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


def index_archives(archives: tuple[str, ...]) -> pa.Table:
    """Read the directories of archives.

    Parameters
    ----------
    archives
        Paths of zip and tar files.

    Returns
    -------
    Table
        One row per member, each name once; the metadata tells which members are not frames, see `IGNORED_KEY`.

    Raises
    ------
    SourceError
        If an archive is broken, or if two have a member of the same path.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".zip") as file:
    ...     with zipfile.ZipFile(file, "w") as target:
    ...         target.writestr("anna/0001.jpg", b"hello")
    ...     index_archives((file.name,))["size"].to_pylist()
    [5]
    """
    tables, ignored = [_SCHEMA.empty_table()], 0
    first_ignored: str | None = None
    for number, archive in enumerate(archives):
        collector = _Collector(number)
        (_list_zip if archive.lower().endswith(".zip") else _list_tar)(archive, collector.add)
        tables.append(_strip_own_folder(collector.make_table(), archive))
        ignored += collector.ignored
        first_ignored = first_ignored or collector.first_ignored
    table = _keep_last_of_each(pa.concat_tables(tables).combine_chunks(), archives)
    return table.replace_schema_metadata({IGNORED_KEY: json.dumps([ignored, first_ignored])})


class _Collector:
    """Collects members of one archive into Arrow tables: a million Python objects would be half a gigabyte."""

    def __init__(self, number: int) -> None:
        self.ignored = 0
        self.first_ignored: str | None = None
        self._number = number
        self._members: list[Member] = []
        self._tables: list[pa.Table] = [_SCHEMA.empty_table()]

    def add(self, member: Member) -> None:
        if member.start == _NOT_A_FILE or _NOT_A_FRAME_PATH.search(member.name):
            self.ignored += 1
            self.first_ignored = self.first_ignored or os.fsdecode(member.name)
            return
        self._members.append(member)
        if len(self._members) == _CHUNK:
            self._flush()

    def make_table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables(self._tables)

    def _flush(self) -> None:
        if self._members:
            name, *numbers = zip(*self._members, strict=True)
            columns = [name, [self._number] * len(name), *numbers]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            self._tables.append(pa.Table.from_arrays(arrays, schema=_SCHEMA))
            self._members = []


class _StreamedZip(zipfile.ZipFile):
    """Hands on the members of a zip one by one, instead of keeping an object for each."""

    def __init__(self, archive: str, take: Callable[[zipfile.ZipInfo], None]) -> None:
        self._sink = _Sink(take)
        super().__init__(archive)

    @property
    def filelist(self) -> Any:
        return self._sink

    @filelist.setter
    def filelist(self, _: object) -> None: ...

    @property
    def NameToInfo(self) -> Any:  # noqa: N802 - the library's name
        return self._sink

    @NameToInfo.setter
    def NameToInfo(self, _: object) -> None: ...  # noqa: N802


class _Sink:
    """Takes the place of the list and of the dictionary to which ``ZipFile`` adds each member."""

    def __init__(self, take: Callable[[zipfile.ZipInfo], None]) -> None:
        self.append = take

    def __setitem__(self, name: str, member: zipfile.ZipInfo) -> None: ...

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        return iter(())


def _list_zip(archive: str, add: Callable[[Member], None]) -> None:
    def take(member: zipfile.ZipInfo) -> None:
        if not member.filename.endswith(("/", "\\")):
            if member.header_offset < 0:
                raise zipfile.BadZipFile("what stands before its central directory is missing")
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            start = _NOT_A_FILE if is_link else member.header_offset
            add(Member(_encode_name(member), start, member.compress_size, member.file_size, member.CRC, None))

    try:
        with _StreamedZip(archive, take):
            pass
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise _make_error(archive, str(error)) from error


def _encode_name(member: zipfile.ZipInfo) -> bytes:
    """Return the name of a member in UTF-8, with slashes.

    Without the UTF-8 flag a name is in code page 437, but macOS writes UTF-8 without the flag.
    """
    name = member.filename.replace("\\", "/")  # written by Windows
    if not member.flag_bits & _UTF_8_FLAG and not name.isascii():
        stored = name.encode("cp437")
        try:
            stored.decode()
        except UnicodeDecodeError:
            return name.encode()
        return stored
    return name.encode()


def _list_tar(archive: str, add: Callable[[Member], None]) -> None:
    try:
        with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            while (header := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                if not header.isdir():
                    start = header.offset_data if header.isreg() and not header.issparse() else _NOT_A_FILE
                    mtime = int(header.mtime) if abs(header.mtime) < _MAX_TIME else 0  # a damaged one may be infinite
                    name = os.fsencode(header.name.removeprefix("./"))  # `tar` writes it for a folder called `.`
                    add(Member(name, start, header.size, header.size, None, mtime))
            file = tar.fileobj
            assert file is not None
            # The library takes anything that is not a header for the end of the archive, which is a block of zeros.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise _make_error(archive, "it does not end where its members end")
    except (tarfile.TarError, ValueError) as error:
        raise _make_error(archive, str(error)) from error


def _make_error(archive: str, reason: str) -> SourceError:
    kind = "zip" if archive.lower().endswith(".zip") else "tar"
    return SourceError(f"{archive}: this {kind} is cut off or broken: {reason}; get it again, or move it elsewhere")


def _strip_own_folder(members: pa.Table, archive: str) -> pa.Table:
    """Leave out what `ArchiveSource` leaves out of the members of one archive, and of their paths."""
    members = members.filter(pc.invert(pc.starts_with(members[NAME_COLUMN], b"__MACOSX/")))
    names = members[NAME_COLUMN]
    if not pc.any(pc.greater(pc.count_substring(names, b"/"), 1)).as_py():
        return members
    for folder in (os.fsencode(Path(archive).stem) + b"/", b"train_data/"):
        if pc.all(pc.starts_with(names, folder)).as_py():
            # Not `binary_slice` without a stop, which fails for every even number of names.
            inside = pc.binary_replace_slice(names, start=0, stop=len(folder), replacement=b"")
            return members.set_column(0, _SCHEMA.field(NAME_COLUMN), inside)
    return members


def _keep_last_of_each(table: pa.Table, archives: tuple[str, ...]) -> pa.Table:
    """Keep the last of the members of one path in one archive, and refuse two archives with the same path."""
    if pc.count_distinct(table[NAME_COLUMN]).as_py() == len(table):
        return table
    order = pc.sort_indices(table[NAME_COLUMN]).to_numpy()  # stable
    names, owners = table[NAME_COLUMN].take(order).combine_chunks(), table["archive"].to_numpy()[order]
    has_later = np.append(pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False), False)
    (shared,) = np.nonzero(has_later[:-1] & (owners[1:] != owners[:-1]))
    if len(shared):
        shown = ", ".join(repr(os.fsdecode(names[k].as_py())) for k in shared[:_NAMES_SHOWN].tolist())
        first, second = archives[owners[shared[0]]], archives[owners[shared[0] + 1]]
        raise SourceError(
            f"{first} and {second}: both have members of the same path, {len(shared)} in all ({shown}); "
            "a frame_path must name one frame: delete one of them, or put them into folders of their own"
        )
    return table.take(order[~has_later])
