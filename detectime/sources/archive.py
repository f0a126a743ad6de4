"""Frames in zip and tar archives, read in place: see `detectime.sources.contract`."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from detectime.images import UnreadableImageError
from detectime.notes import Note, note_found
from detectime.sources.archive_index import IGNORED_KEY, Member, index_archives
from detectime.sources.contract import MissingFrameError, SourceError, UnreachableFrameError, check_file_size
from detectime.storage import name_index
from detectime.storage.name_index import NAME_COLUMN, NameIndex

ARCHIVE_SUFFIXES = (".zip", ".tar")
"""Suffixes of archives that are read."""

_COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_CHUNK = 65_536  # members that exist as Python objects at a time

# <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, 4.3.7
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED_FLAG = 0x1
_STORED, _DEFLATED = 0, 8  # methods


@dataclass(frozen=True)
class ArchiveSource:
    """One archive, or all archives in a folder, as one tree of frames.

    A frame's path is that of the member in the archive, with one exception: if all members of ``train_data1.zip`` lie
    in folders below ``train_data1/`` or ``train_data/``, that first folder is left out. So is what macOS adds
    (``__MACOSX/``). ``tools/unpack.py`` does the same.

    If an archive holds a path twice, the last member counts, as in unpacking; two archives that hold the same path are
    refused. Links, and members whose path is absolute or has a part ``..``, are not frames.

    Parameters
    ----------
    root
        A file with one of `ARCHIVE_SUFFIXES`, or a folder of such files.
    """

    root: str

    def list_frames(self) -> Iterator[tuple[str, str]]:
        """List all members, sorted by path. Only the directories of the archives are read.

        Yields
        ------
        frame_path, stamp
            The path; and the size with the content's CRC-32 in a zip, with the modification time in a tar.

        Raises
        ------
        SourceError
            If there is no archive, if one is broken, or if two have a member of the same path.
        """
        rows = self._load_index(self._find_archives()).rows
        for first in range(0, len(rows), _CHUNK):
            chunk = rows.slice(first, _CHUNK)
            name, size, crc, mtime = (chunk.column(key).to_pylist() for key in (NAME_COLUMN, "size", "crc", "mtime"))
            yield from zip(map(os.fsdecode, name), map(_make_stamp, size, crc, mtime), strict=True)

    def list_notes(self) -> list[Note]:
        """Return a note about members that are not frames.

        Raises
        ------
        SourceError
            As `list_frames`.
        """
        ignored, first = json.loads(self._load_index(self._find_archives()).rows.schema.metadata[IGNORED_KEY])
        text = "members of archives are not frames: links, or paths that are absolute or have a part `..`"
        return [Note("ignored", ignored, text, first)] if ignored else []

    def list_top_folders(self) -> tuple[str, ...]:
        """Return the folders that hold all members of an archive: a frame_path may begin with one, or not."""
        return ()

    def read_frames(
        self, frame_paths: Iterable[str], max_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Read the bytes of members, one at a time: see `Source.read_frames`."""
        try:
            archives = self._find_archives()
            index = self._load_index(archives)
        except SourceError as error:  # it existed when the frames were listed
            yield from ((frame_path, UnreachableFrameError(str(error))) for frame_path in frame_paths)
            return
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for frame_path in frame_paths:
                try:
                    row = index.find(frame_path)
                    if row is None:
                        raise MissingFrameError("no such member in the archives")
                    archive, member = archives[row.pop("archive")], Member(**row)
                    check_file_size(max(member.size, member.stored), max_bytes)
                    if archive not in files:
                        files[archive] = stack.enter_context(_open_archive(archive))
                    yield frame_path, _read_member(files[archive], member)
                except (MissingFrameError, UnreadableImageError) as error:
                    yield frame_path, error

    def _find_archives(self) -> tuple[str, ...]:
        """Return the paths of the archives."""
        archives: tuple[str, ...] = (self.root,)
        if os.path.isdir(self.root):
            try:
                inside = sorted(entry.path for entry in os.scandir(self.root) if not entry.name.startswith("."))
            except OSError as error:
                raise SourceError(
                    f"{self.root}: the folder of the archives cannot be read: {error.strerror}; give it as `images`"
                ) from error
            suffixes = (*ARCHIVE_SUFFIXES, *_COMPRESSED_SUFFIXES)
            archives = tuple(path for path in inside if path.lower().endswith(suffixes))
            if not archives:
                raise SourceError(
                    f"{self.root}: there is no archive in this folder; accepted: names that end in "
                    f"{' or '.join(ARCHIVE_SUFFIXES)}, or another value of data.source_type"
                )
        for path in archives:
            if path.lower().endswith(_COMPRESSED_SUFFIXES):
                raise SourceError(
                    f"{path}: a compressed tar can only be read from its start; decompress it to a .tar, or make a .zip"
                )
            if not path.lower().endswith(ARCHIVE_SUFFIXES):
                raise SourceError(
                    f"{path}: this is not an archive; accepted: names that end in {' or '.join(ARCHIVE_SUFFIXES)}"
                )
        return archives

    def _load_index(self, archives: tuple[str, ...]) -> NameIndex:
        try:
            return name_index.load_or_build(index_archives, archives)
        except OSError as error:
            raise SourceError(
                f"{error.filename or self.root}: the archive cannot be read: {error.strerror or error}; "
                "give it, or its folder, as `images`"
            ) from error


@dataclass(frozen=True)
class FoundArchives:
    """The archives at a location.

    Attributes
    ----------
    are_the_source
        Whether frames are read from them unless the user asks for something else.
    notes
        About archives that are not read.
    """

    are_the_source: bool = False
    notes: tuple[Note, ...] = ()


def find_archives(images: str) -> FoundArchives:
    """Find out whether a location is an archive, or a folder that holds archives and no folders.

    Examples
    --------
    >>> find_archives("frames.zip").are_the_source
    True
    """
    if not os.path.isdir(images):
        return FoundArchives(images.lower().endswith((*ARCHIVE_SUFFIXES, *_COMPRESSED_SUFFIXES)))
    archives: list[str] = []
    folder = None
    with contextlib.suppress(OSError), os.scandir(images) as entries:  # the source reports what is wrong with a folder
        for entry in (entry for entry in entries if not entry.name.startswith(".")):
            if entry.is_dir():
                folder = entry.name
            elif entry.name.lower().endswith(ARCHIVE_SUFFIXES):
                archives.append(entry.name)
    if folder is None:
        return FoundArchives(bool(archives))
    why = f"read because there are folders beside, such as {folder!r}; to read archives set `source_type: archives`"
    one, many = f"archive in {images} is not {why}", f"archives in {images} are not {why}"
    return FoundArchives(notes=tuple(note_found("passed_over", sorted(archives), one, many)))


def _make_stamp(size: int, crc: int | None, mtime: int | None) -> str:
    return f"{size}-{mtime}" if crc is None else f"{size}-{crc:08x}"


def _open_archive(archive: str) -> BinaryIO:
    try:
        return open(archive, "rb")
    except OSError as error:
        raise UnreachableFrameError(f"{archive}: cannot be opened: {error.strerror}") from error


def _read_member(file: BinaryIO, member: Member) -> bytes:
    """Return the content of a member, checked to be whole.

    At a known offset this needs no directory, which the standard library would read in every worker.
    """
    try:
        file.seek(member.start)
        method = _STORED if member.crc is None else _skip_local_header(file)
        content = file.read(member.stored)
    except (OSError, struct.error) as error:
        raise UnreadableImageError(f"cannot be read: {error}") from error
    if len(content) < member.stored:
        raise UnreadableImageError("truncated: the archive ends early")
    if method == _DEFLATED:
        try:  # one byte more than stated shows that there are more
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)
        except zlib.error as error:
            raise UnreadableImageError(f"broken in the archive: {error}") from error
    if len(content) != member.size or member.crc not in (None, zlib.crc32(content)):
        raise UnreadableImageError("broken in the archive: its size or its checksum differs from the directory's")
    return content


def _skip_local_header(file: BinaryIO) -> int:
    """Move on to the content of a zip's member, and return its method."""
    signature, _, flags, method, *_, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\3\4":
        raise UnreadableImageError("broken in the archive: its header is not where the directory says")
    if flags & _ENCRYPTED_FLAG:
        raise UnreadableImageError("encrypted")
    if method not in (_STORED, _DEFLATED):
        raise UnreadableImageError(
            f"compressed by method {method} of zip; accepted: {_STORED}, stored, and {_DEFLATED}, deflated"
        )
    file.seek(name + extra, os.SEEK_CUR)
    return int(method)
