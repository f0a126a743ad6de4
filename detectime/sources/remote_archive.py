"""Frames in zip and tar archives at a URL: see `detectime.sources.archive`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa

from detectime.images import UnreadableImageError
from detectime.notes import Note
from detectime.sources.archive import choose_archives
from detectime.sources.archive_index import Member, index_opened, read_about
from detectime.sources.archive_members import (
    MemberFinder,
    check_members,
    make_member_stamp,
    note_members,
    refuse_unreadable,
)
from detectime.sources.bucket import fetch_bytes, make_stamp
from detectime.sources.contract import MissingFrameError, SourceError, UnreachableFrameError, check_file_size
from detectime.sources.zip_members import HEADER_SIZE
from detectime.storage import name_index, urls
from detectime.storage.name_index import NAME_COLUMN, NameIndex

_BLOCK = 8 * 2**20  # bytes fetched at a time while an archive is indexed
_BEFORE_CONTENT = HEADER_SIZE + 2 * 65_535  # bytes of a zip's header at most, with the name and what follows
_USUAL = HEADER_SIZE + 512
_CHUNK = 65_536  # members that exist as Python objects at a time


class _Archive(NamedTuple):
    """An archive at a URL: its path in the file system, and the version of it: size and ETag, or what there is."""

    path: str
    version: str


@dataclass(frozen=True)
class RemoteArchiveSource:
    """One archive at a URL, or all archives in a folder of a bucket, as one tree of frames: see `ArchiveSource`.

    Each archive is read once, from its start (a zip: its directory alone), to index it. The index is kept in the
    temporary folder of the machine until the archive has another size or ETag. Frames are then fetched by range.

    Parameters
    ----------
    root
        The URL.

    Raises
    ------
    SourceError
        If the package that the URL's scheme needs is not installed.
    """

    root: str

    def __post_init__(self) -> None:
        """Fail before work starts if nothing can be read."""
        try:
            urls.open_file_system(self.root)
        except urls.RemoteError as error:
            raise SourceError(str(error)) from error

    def list_frames(self) -> Iterator[tuple[str, str]]:
        """List all members, sorted by path.

        Yields
        ------
        frame_path, stamp
            The path; and the size with the content's CRC-32 in a zip; in a tar with the modification time and what the
            server says of the archive's version.

        Raises
        ------
        SourceError
            As `ArchiveSource.list_frames`, or if the server does not answer.
        """
        archives, index = self._load_index()
        rows = index.rows
        refuse_unreadable(rows, self._name_archives(archives))
        versions = [archive.version.partition("-")[2] for archive in archives]
        for first in range(0, len(rows), _CHUNK):
            columns = rows.slice(first, _CHUNK).select([NAME_COLUMN, "size", "crc", "mtime", "archive"]).to_pydict()
            for name, size, crc, mtime, number in zip(*columns.values(), strict=True):
                stamp = make_member_stamp(size, crc, mtime)
                version = "" if crc is not None or not versions[number] else f"-{versions[number]}"
                yield os.fsdecode(name), stamp + version

    def list_notes(self) -> list[Note]:
        """Return notes about members that are not frames, repeat others or cannot be read."""
        return note_members(self._load_index()[1].rows)

    def list_top_folders(self) -> tuple[str, ...]:
        """Return the folders that hold all members of an archive: a frame_path may begin with one, or not."""
        return read_about(self._load_index()[1].rows.schema).top_folders

    def check_frames(self, frame_paths: pa.Array | pa.ChunkedArray) -> None:
        """Refuse frames that no setting can read: see `ArchiveSource.check_frames`.

        Raises
        ------
        RefusedSourceError
            If there are any.
        """
        archives, index = self._load_index()
        check_members(index, self._name_archives(archives), frame_paths)

    def read_frames(
        self, frame_paths: Iterable[str], max_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Fetch the bytes of members, some ahead: see `Source.read_frames`."""
        try:
            archives, index = self._load_index()
        except SourceError as error:
            yield from ((frame_path, UnreachableFrameError(str(error))) for frame_path in frame_paths)
            return
        files, _ = urls.open_file_system(self.root)  # once: each thread would open a connection of its own
        finder = MemberFinder(index)

        def fetch(frame_path: str) -> bytes:
            number, member = finder.find_member(frame_path)
            check_file_size(max(member.size, member.stored), max_bytes)
            return _fetch_member(files, archives[number].path, member)

        for frame_path, fetched in urls.map_ahead(fetch, frame_paths):
            try:
                yield frame_path, fetched.result()
            except (MissingFrameError, UnreadableImageError) as error:
                yield frame_path, error

    def _name_archives(self, archives: tuple[_Archive, ...]) -> list[str]:
        return [_make_url(self.root, archive.path) for archive in archives]

    def _load_index(self) -> tuple[tuple[_Archive, ...], NameIndex]:
        archives = self._find_archives()
        try:
            return archives, name_index.load_or_build(_index_remote, (), self.root, json.dumps(archives))
        except SourceError:
            raise
        except Exception as error:  # each library raises its own
            raise SourceError(
                f"{self.root}: the archive cannot be read: {urls.describe_error(error)}; give it, or its folder, as "
                "`images`"
            ) from error

    def _find_archives(self) -> tuple[_Archive, ...]:
        files, inside = urls.open_file_system(self.root)
        try:
            entry = files.info(inside)
            if entry["type"] == "file":
                return (_Archive(inside, make_stamp(entry) or ""),)
            entries = [entry for entry in files.ls(inside, detail=True) if entry["type"] != "directory"]
        except Exception as error:  # each library raises its own
            raise SourceError(
                f"{self.root}: the archives cannot be listed: {urls.describe_error(error)}; give the place as `images`"
            ) from error
        known = {entry["name"]: _Archive(entry["name"], make_stamp(entry) or "") for entry in entries}
        return tuple(known[path] for path in choose_archives(self.root, list(known)))


def _index_remote(_: tuple[str, ...], root: str, archives: str) -> Any:
    """Build the index of archives, `archives` being the JSON of what `_find_archives` returned."""
    files, _inside = urls.open_file_system(root)
    paths = {_make_url(root, path): path for path, _version in json.loads(archives)}
    return index_opened(
        list(paths),
        lambda url: cast(BinaryIO, files.open(paths[url], "rb", block_size=_BLOCK, cache_type="readahead")),
    )


def _make_url(root: str, path: str) -> str:
    """Return the URL of a path in the file system of another URL."""
    return path if "://" in path else f"{root.partition('://')[0]}://{path.lstrip('/')}"


def _fetch_member(files: Any, path: str, member: Member) -> bytes:
    """Fetch the bytes of a member, and what it needs of its header in a zip."""
    if member.crc is None:
        content = _fetch_range(files, path, member.start, member.stored) if member.stored else b""
        return member._replace(start=0).read(io.BytesIO(content))
    for before in (len(member.name) + _USUAL, _BEFORE_CONTENT):
        content = _fetch_range(files, path, member.start, before + member.stored)
        if before == _BEFORE_CONTENT or _is_whole(content, member):
            break
    return member._replace(start=0).read(io.BytesIO(content))


def _fetch_range(files: Any, path: str, start: int, count: int) -> bytes:
    content = fetch_bytes(files, path, start, start + count)
    if len(content) > count:
        raise UnreachableFrameError("the server sends the whole file where a part is asked for; download the archive")
    return content


def _is_whole(content: bytes, member: Member) -> bool:
    """Whether the bytes from a member's header on reach to the end of its content."""
    name, extra = (int.from_bytes(content[k : k + 2], "little") for k in (26, 28))
    return len(content) >= HEADER_SIZE + name + extra + member.stored
