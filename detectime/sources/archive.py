"""Frames in archives, zip or tar, that are read where they lie: see `detectime.sources`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.images import EncodedImage, UnreadableImageError
from detectime.notes import Note, note_found
from detectime.sources.contract import (
    MissingFrameError,
    SourceError,
    UnreachableFrameError,
    describe_contents,
    most_bytes,
    open_pictures,
)
from detectime.storage import name_index
from detectime.storage.name_index import NAME_COLUMN, NameIndex

ARCHIVE_SUFFIXES = (".zip", ".tar")
"""What the name of an archive ends in."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_NO_FRAME = re.compile(rb"^$|^/|//|/$|(?:^|/)\.\.?(?:/|$)")  # what no frame_path may be
_IGNORED = b"ignored"
_NOT_A_FILE = -1  # as the start of a member: a link, say
_PIECE = 65_536  # members that are Python's objects at a time
_SHOWN = 5  # names that an error gives
_EXACT = 2**53  # a time beyond it is damage

# <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>: 4.3.16, 4.3.15, 4.3.14, 4.3.12 and 4.3.7
_END = struct.Struct("<4s4H2LH")
_LOCATOR_64 = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 65_535
_IN_EXTRA = 0xFFFFFFFF  # the number needs 64 bits and stands in the extra field 1
_ENCRYPTED, _UTF_8 = 0x1, 0x800  # flags
_STORED, _DEFLATED = 0, 8  # methods

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


class _Member(NamedTuple):
    """A row of the index, but for its archive."""

    name: bytes
    start: int
    stored: int
    size: int
    crc: int | None
    mtime: int | None


@dataclass(frozen=True)
class ArchiveSource:
    """One archive, or all those that lie in a folder, as one tree of frames.

    A frame's path is that of the member, as in the archive, with one exception. Where all of ``train_data1.zip`` lies
    below ``train_data1/`` or ``train_data/``, and in folders there, that first folder is left out; what macOS adds
    (``__MACOSX/``) is left out too. ``tools/unpack.py`` does the same.

    A member that is there twice in an archive is the last of them, as whoever unpacks it finds; one that is in two
    archives is refused. Links, and members whose path is absolute or has a part ``..``, are no frames.

    Parameters
    ----------
    root
        A file whose name ends in one of `ARCHIVE_SUFFIXES`, or a folder of such files.
    exif, max_pixels
        How frames are decoded: see `images.EncodedImage`.
    """

    root: str
    exif: str = "ignore"
    max_pixels: int = 100_000_000

    def list_frames(self) -> Iterator[tuple[str, str]]:
        """Walk over all members, sorted by path. The directories of the archives are read, and nothing else of them.

        Yields
        ------
        frame_path, stamp
            Its path; its size with the CRC-32 of its content in a zip, with its time in a tar.

        Raises
        ------
        SourceError
            If there is no archive, if one is broken, or if two have a member of the same path.
        """
        rows = self._index(self._archives()).rows
        for first in range(0, len(rows), _PIECE):
            piece = rows.slice(first, _PIECE)
            name, size, crc, mtime = (piece.column(key).to_pylist() for key in (NAME_COLUMN, "size", "crc", "mtime"))
            yield from zip(map(os.fsdecode, name), map(_stamp, size, crc, mtime), strict=True)

    def notes(self) -> list[Note]:
        """Return a note about members that are no frames.

        Raises
        ------
        SourceError
            As `list_frames`.
        """
        ignored, first = json.loads(self._index(self._archives()).rows.schema.metadata[_IGNORED])
        text = "members of archives are no frames: links, or paths that are absolute or have a part `..`"
        return [Note("ignored", ignored, text, first)] if ignored else []

    def open(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
        """Read frames, one at a time.

        Yields
        ------
        frame_path, frame
            The path as it was given; the picture, whose pixels are decoded when they are asked for, or the reason why
            there is none.
        """
        yield from open_pictures(self._read_members(frame_paths), self.exif, self.max_pixels)

    def read_contents(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        """Describe the encoded bytes of members, one at a time: see `Source.read_contents`."""
        yield from describe_contents(self._read_members(frame_paths))

    def _read_members(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Yield each path with the bytes of its member, or with the reason why there are none."""
        try:
            archives = self._archives()
            index = self._index(archives)
        except SourceError as error:  # it was there when the frames were listed
            yield from ((frame_path, UnreachableFrameError(str(error))) for frame_path in frame_paths)
            return
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for frame_path in frame_paths:
                try:
                    row = index.find(frame_path)
                    if row is None:
                        raise MissingFrameError("no such member in the archives")
                    archive, member = archives[row.pop("archive")], _Member(**row)
                    if archive not in files:
                        files[archive] = stack.enter_context(_opened(archive))
                    yield frame_path, _read(files[archive], member, most_bytes(self.max_pixels))
                except (MissingFrameError, UnreadableImageError) as error:
                    yield frame_path, error

    def _archives(self) -> tuple[str, ...]:
        """Paths of the archives."""
        archives: tuple[str, ...] = (self.root,)
        if os.path.isdir(self.root):
            try:
                inside = sorted(entry.path for entry in os.scandir(self.root) if not entry.name.startswith("."))
            except OSError as error:
                raise SourceError(
                    f"{self.root}: the folder of the archives cannot be read: {error.strerror}; give it as `images`"
                ) from error
            archives = tuple(path for path in inside if path.lower().endswith((*ARCHIVE_SUFFIXES, *_COMPRESSED)))
            if not archives:
                raise SourceError(
                    f"{self.root}: there is no archive in this folder; accepted: names that end in "
                    f"{' or '.join(ARCHIVE_SUFFIXES)}, or another value of data.source"
                )
        for path in archives:
            if path.lower().endswith(_COMPRESSED):
                raise SourceError(
                    f"{path}: a compressed tar can only be read from its start; decompress it to a .tar, or make a .zip"
                )
            if not path.lower().endswith(ARCHIVE_SUFFIXES):
                raise SourceError(
                    f"{path}: this is no archive; accepted: names that end in {' or '.join(ARCHIVE_SUFFIXES)}"
                )
        return archives

    def _index(self, archives: tuple[str, ...]) -> NameIndex:
        try:
            return name_index.load_or_build(_make_index, archives)
        except OSError as error:
            raise SourceError(
                f"{error.filename or self.root}: the archive cannot be read: {error.strerror or error}; "
                "give it, or its folder, as `images`"
            ) from error


@dataclass(frozen=True)
class FoundArchives:
    """What was seen of archives in a place.

    Parameters
    ----------
    are_the_source
        Whether frames are read from archives there, if nothing else is asked for.
    notes
        About archives that are passed over.
    """

    are_the_source: bool = False
    notes: tuple[Note, ...] = ()


def find_archives(images: str) -> FoundArchives:
    """See whether a place is an archive, or a folder that has archives and no folders in it."""
    if not os.path.isdir(images):
        return FoundArchives(images.lower().endswith((*ARCHIVE_SUFFIXES, *_COMPRESSED)))
    archives: list[str] = []
    folder = None
    with contextlib.suppress(OSError), os.scandir(images) as entries:  # the source says what is wrong with a folder
        for entry in (entry for entry in entries if not entry.name.startswith(".")):
            if entry.is_dir():
                folder = entry.name
            elif entry.name.lower().endswith(ARCHIVE_SUFFIXES):
                archives.append(entry.name)
    if folder is None:
        return FoundArchives(bool(archives))
    why = f"read, since there are folders beside, such as {folder!r}; to read archives say `source: archives`"
    one, many = f"archive in {images} is not {why}", f"archives in {images} are not {why}"
    return FoundArchives(notes=tuple(note_found("passed_over", sorted(archives), one, many)))


def _make_index(archives: tuple[str, ...]) -> pa.Table:
    """Read the directories of archives: a row a member, in the schema `_SCHEMA`, each name once."""
    tables, ignored = [_SCHEMA.empty_table()], 0
    first_ignored: str | None = None
    for number, archive in enumerate(archives):
        pieces = [_SCHEMA.empty_table()]
        members = (_zip_members if archive.lower().endswith(".zip") else _tar_members)(archive)
        while piece := list(itertools.islice(members, _PIECE)):
            kept: list[_Member] = []
            others: list[_Member] = []
            for member in piece:
                no_frame = member.start == _NOT_A_FILE or _NO_FRAME.search(member.name)
                (others if no_frame else kept).append(member)
            if kept:
                name, *numbers = zip(*kept, strict=True)
                columns = [name, [number] * len(kept), *numbers]
                pieces.append(pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], _SCHEMA))
            if others and first_ignored is None:
                first_ignored = os.fsdecode(others[0].name)
            ignored += len(others)
        tables.append(_without_own_folder(pa.concat_tables(pieces), archive))
    table = _each_once(pa.concat_tables(tables).combine_chunks(), archives)
    return table.replace_schema_metadata({_IGNORED: json.dumps([ignored, first_ignored])})


def _without_own_folder(members: pa.Table, archive: str) -> pa.Table:
    """Leave out what `ArchiveSource` leaves out of the members of one archive, and of their paths."""
    members = members.filter(pc.invert(pc.starts_with(members[NAME_COLUMN], b"__MACOSX/")))
    names = members[NAME_COLUMN]
    if not pc.any(pc.greater(pc.count_substring(names, b"/"), 1)).as_py():
        return members
    for folder in (os.fsencode(Path(archive).stem) + b"/", b"train_data/"):
        if pc.all(pc.starts_with(names, folder)).as_py():
            # Not `binary_slice` without a stop, which fails on every even number of names.
            inside = pc.binary_replace_slice(names, start=0, stop=len(folder), replacement=b"")
            return members.set_column(0, _SCHEMA.field(NAME_COLUMN), inside)
    return members


def _each_once(table: pa.Table, archives: tuple[str, ...]) -> pa.Table:
    """Keep the last of the members of one path in one archive, and refuse two archives that have the same path."""
    if pc.count_distinct(table[NAME_COLUMN]).as_py() == len(table):
        return table
    order = pc.sort_indices(table[NAME_COLUMN]).to_numpy()  # stable
    names, owners = table[NAME_COLUMN].take(order).combine_chunks(), table["archive"].to_numpy()[order]
    again = np.append(pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False), False)
    (both,) = np.nonzero(again[:-1] & (owners[1:] != owners[:-1]))
    if len(both):
        shown = ", ".join(repr(os.fsdecode(names[k].as_py())) for k in both[:_SHOWN].tolist())
        first, second = archives[owners[both[0]]], archives[owners[both[0] + 1]]
        raise SourceError(
            f"{first} and {second}: both have members of the same path, {len(both)} in all ({shown}); "
            "a frame_path must name one frame: delete one of them, or put them into folders of their own"
        )
    return table.take(order[~again])


def _stamp(size: int, crc: int | None, mtime: int | None) -> str:
    return f"{size}-{mtime}" if crc is None else f"{size}-{crc:08x}"


def _opened(archive: str) -> BinaryIO:
    try:
        return open(archive, "rb")
    except OSError as error:
        raise UnreachableFrameError(f"{archive}: cannot be opened: {error.strerror}") from error


def _read(file: BinaryIO, member: _Member, most: int) -> bytes:
    """Return the content of a member, after a check that it is whole."""
    if max(member.size, member.stored) > most:
        raise UnreadableImageError(f"too large: {member.size} bytes")
    try:
        file.seek(member.start)
        method = _STORED if member.crc is None else _skip_local_header(file)
        content = file.read(member.stored)
    except (OSError, struct.error) as error:
        raise UnreadableImageError(f"cannot be read: {error}") from error
    if len(content) < member.stored:
        raise UnreadableImageError("truncated: the archive ends early")
    if method == _DEFLATED:
        try:  # one byte more than is said to be there tells that more is
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)
        except zlib.error as error:
            raise UnreadableImageError(f"broken in the archive: {error}") from error
    if len(content) != member.size or member.crc not in (None, zlib.crc32(content)):
        raise UnreadableImageError("broken in the archive: its size or its checksum is another one")
    return content


# -- zip: the standard library's reader makes an object of each member, of a million in each worker a gigabyte


def _skip_local_header(file: BinaryIO) -> int:
    """Go to the content of a member, and return its method."""
    signature, _, flags, method, *_, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    if signature != b"PK\3\4":
        raise UnreadableImageError("broken in the archive: its header is not where the directory says")
    if flags & _ENCRYPTED:
        raise UnreadableImageError("encrypted")
    if method not in (_STORED, _DEFLATED):
        raise UnreadableImageError(
            f"compressed by method {method} of zip; accepted: {_STORED}, stored, and {_DEFLATED}, deflated"
        )
    file.seek(name + extra, os.SEEK_CUR)
    return int(method)


def _zip_members(archive: str) -> Iterator[_Member]:
    """Walk over the central directory of a zip; a link is `_NOT_A_FILE`."""
    with open(archive, "rb") as file:
        directory, before = _central_directory(file, archive)
    at = 0
    while at < len(directory):
        try:
            fields = _ENTRY.unpack_from(directory, at)
        except struct.error as error:
            raise _broken(archive, "its central directory ends early") from error
        signature, _, _, flags, _, _, _, crc, stored, size, *lengths, _, _, attributes, start = fields
        name_at = at + _ENTRY.size
        at = name_at + sum(lengths)
        if signature != b"PK\1\2" or at > len(directory):
            raise _broken(archive, "its central directory is damaged")
        extra_at = name_at + lengths[0]
        name = directory[name_at:extra_at].replace(b"\\", b"/")  # as Windows writes it
        if _IN_EXTRA in (size, stored, start):
            extra = directory[extra_at : extra_at + lengths[1]]
            size, stored, start = _wide(extra, (size, stored, start), archive)
        if not name.endswith(b"/"):
            start = _NOT_A_FILE if stat.S_ISLNK(attributes >> 16) else before + start
            yield _Member(_as_utf_8(name, flags), start, stored, size, crc, None)


def _central_directory(file: BinaryIO, archive: str) -> tuple[bytes, int]:
    """Return the central directory of a zip, and how many bytes stand before what the zip takes for its start."""
    length = file.seek(0, os.SEEK_END)
    tail_at = max(0, length - _END.size - _LONGEST_COMMENT - _LOCATOR_64.size - _END_64.size)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise _broken(archive, "it has no central directory at its end")
    *_, disk, _, _, _, size, start, _ = _END.unpack_from(tail, at)
    wide_at = at - _LOCATOR_64.size - _END_64.size
    if wide_at >= 0 and tail[at - _LOCATOR_64.size : at].startswith(b"PK\6\7"):
        signature, *_, disk, _, _, _, size, start = _END_64.unpack_from(tail, wide_at)
        if signature != b"PK\6\6":
            raise _broken(archive, "the end of its central directory is damaged")
        at = wide_at
    before = tail_at + at - size - start
    if disk or before < 0:
        raise _broken(archive, "it is one part of several, or what stands before its central directory is missing")
    file.seek(before + start)
    return file.read(size), before


def _wide(extra: bytes, numbers: tuple[int, int, int], archive: str) -> list[int]:
    """Put in what stands in the extra field of a large member, in this order, where the short field had no room."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            found = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            return [next(found, number) if number == _IN_EXTRA else number for number in numbers]
        at += 4 + length
    raise _broken(archive, "its central directory lacks the size of a large member")


def _as_utf_8(name: bytes, flags: int) -> bytes:
    """Name of a member in UTF-8; without the flag it is in code page 437, but macOS writes UTF-8 without it."""
    if not flags & _UTF_8 and not name.isascii():
        try:
            name.decode()
        except UnicodeDecodeError:
            return name.decode("cp437").encode()
    return name


# -- tar


class _Plain(tarfile.TarInfo):
    """A header of a tar, of whose fields those of a plain file that matter here are read, in half of the time."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Plain:
        """Read a header; any but that of a plain file the standard library reads."""
        size, mtime, checksum = (buf[a:b].rstrip(b" \0") for a, b in ((124, 136), (136, 148), (148, 156)))
        if (
            len(buf) == tarfile.BLOCKSIZE
            and buf[156:157] == tarfile.REGTYPE
            and buf[257:262] == b"ustar"
            and size.isdigit()
            and mtime.isdigit()
            and checksum.isdigit()
            and int(checksum, 8) == sum(buf) - sum(buf[148:156]) + 8 * ord(" ")
        ):
            name, prefix = (buf[a:b].partition(b"\0")[0].decode(encoding, errors) for a, b in ((0, 100), (345, 500)))
            header = cls(f"{prefix}/{name}" if prefix else name)
            header.size, header.mtime = int(size, 8), int(mtime, 8)
            return header
        return super().frombuf(buf, encoding, errors)


def _tar_members(archive: str) -> Iterator[_Member]:
    """Walk over the headers of a tar; what is neither a plain file nor a folder is `_NOT_A_FILE`."""
    try:
        with tarfile.open(archive, "r:", tarinfo=_Plain, encoding="utf-8", errors="surrogateescape") as tar:
            while (header := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                if not header.isdir():
                    start = header.offset_data if header.isreg() and not header.issparse() else _NOT_A_FILE
                    mtime = int(header.mtime) if abs(header.mtime) < _EXACT else 0  # a damaged one may be infinite
                    yield _Member(_bare(header.name), start, header.size, header.size, None, mtime)
            file = tar.fileobj
            assert file is not None
            # The library takes whatever is no header for the end of the archive, which is a block of zeros.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise _broken(archive, "it does not end where its members end")
    except (tarfile.TarError, ValueError) as error:
        raise _broken(archive, str(error)) from error


def _bare(name: str) -> bytes:
    """Name without the ``./`` that `tar` puts before those of a folder that is called ``.``."""
    return os.fsencode(name.removeprefix("./"))


def _broken(archive: str, reason: str) -> SourceError:
    kind = "zip" if archive.lower().endswith(".zip") else "tar"
    return SourceError(f"{archive}: this {kind} is cut off or broken: {reason}; get it again, or move it elsewhere")
