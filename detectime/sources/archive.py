"""Frames in zip and tar archives, read in place: see `detectime.sources.contract`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa

from detectime.images import UnreadableImageError
from detectime.notes import Note, note_found
from detectime.sources.archive_index import load_members, read_about
from detectime.sources.archive_members import (
    MemberFinder,
    check_members,
    make_member_stamp,
    note_members,
    refuse_unreadable,
)
from detectime.sources.beside import Comparison, compare_contents, compare_names
from detectime.sources.contract import (
    MissingFrameError,
    RefusedSourceError,
    SourceError,
    UnreachableFrameError,
    check_file_size,
)
from detectime.sources.file_kinds import ARCHIVE_SUFFIXES, choose_image_names, is_archive_name, recognise_path
from detectime.sources.folder import FolderSource
from detectime.storage.name_index import NAME_COLUMN

_CHUNK = 65_536  # members that exist as Python objects at a time
_TRIED = 20  # files without a suffix that are opened to see whether they are images


@dataclass(frozen=True)
class ArchiveSource:
    """One archive, or all archives in a folder, as one tree of frames.

    A frame's path is that of the member in the archive, with one exception: if all members of ``train_data1.zip`` lie
    in folders below ``train_data1/`` or ``train_data/``, that first folder is left out. So is what macOS adds
    (``__MACOSX/``). ``tools/unpack.py`` does the same. Where a frame_path names no member, it is found with and without
    a folder that holds all images (`list_top_folders`), and in another spelling (`names.fold_name`).

    If an archive holds a path twice, the last member counts, as in unpacking; two archives that hold the same path of
    an image, or of what may say classes, are refused. A link to a member of the same archive is a frame of that
    content; other links, and members whose path has a part ``..``, are not frames. ``./`` and slashes in front of a
    path do not count.

    Parameters
    ----------
    root
        An archive, zip or tar by its content; or a folder of files with `ARCHIVE_SUFFIXES`.
    is_compared
        Whether image files beside the archives are compared with them: where nobody said which are the frames.
    """

    root: str
    is_compared: bool = field(default=False, compare=False)

    def list_frames(self) -> Iterator[tuple[str, str]]:
        """List all members, sorted by path. Only the directories of the archives are read.

        Yields
        ------
        frame_path, stamp
            The path; and the size with the content's CRC-32 in a zip, with the modification time in a tar.

        Raises
        ------
        SourceError
            If there is no archive, if one is broken or has only images that cannot be read, if two have a member of
            the same path, or if files beside them have the names of members and other contents.
        """
        archives = self._find_archives()
        rows = load_members(archives).rows
        refuse_unreadable(rows, archives)
        if self.is_compared:
            self._compare(archives).check(self.root)
        for first in range(0, len(rows), _CHUNK):
            chunk = rows.slice(first, _CHUNK)
            name, size, crc, mtime = (chunk.column(key).to_pylist() for key in (NAME_COLUMN, "size", "crc", "mtime"))
            yield from zip(map(os.fsdecode, name), map(make_member_stamp, size, crc, mtime), strict=True)

    def list_notes(self) -> list[Note]:
        """Return notes about members that are not frames or repeat others, and about images that are not read.

        Raises
        ------
        SourceError
            As `list_frames`.
        """
        archives = self._find_archives()
        rows = load_members(archives).rows
        notes = note_members(rows)
        if self.is_compared:
            notes += self._note_files(self._compare(archives))
        return notes

    def list_top_folders(self) -> tuple[str, ...]:
        """Return the folders that hold all images of an archive: a frame_path may begin with one, or not.

        Raises
        ------
        SourceError
            As `list_frames`.
        """
        return read_about(load_members(self._find_archives()).rows.schema).top_folders

    def check_frames(self, frame_paths: pa.Array | pa.ChunkedArray) -> None:
        """Refuse frames that no setting can read: encrypted, or compressed by a method that is not known.

        Parameters
        ----------
        frame_paths
            The frames that are wanted, text.

        Raises
        ------
        RefusedSourceError
            If there are any; the message names the archive, the count, one of them and what to do.
        """
        archives = self._find_archives()
        check_members(load_members(archives), archives, frame_paths)

    def read_frames(
        self, frame_paths: Iterable[str], max_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Read the bytes of members, one at a time: see `Source.read_frames`."""
        try:
            archives = self._find_archives()
            finder = MemberFinder(load_members(archives))
        except SourceError as error:  # it existed when the frames were listed
            yield from ((frame_path, UnreachableFrameError(str(error))) for frame_path in frame_paths)
            return
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for frame_path in frame_paths:
                try:
                    number, member = finder.find_member(frame_path)
                    archive = archives[number]
                    check_file_size(max(member.size, member.stored), max_bytes)
                    if archive not in files:
                        files[archive] = stack.enter_context(_open_archive(archive))
                    yield frame_path, member.read(files[archive])
                except (MissingFrameError, UnreadableImageError) as error:
                    yield frame_path, error

    def _find_archives(self) -> tuple[str, ...]:
        """Return the paths of the archives."""
        if not os.path.isdir(self.root):
            if os.path.exists(self.root) or self.root.lower().endswith(ARCHIVE_SUFFIXES):
                return (self.root,)
            accepted = " or ".join(ARCHIVE_SUFFIXES)
            raise SourceError(f"{self.root}: this is not an archive; accepted: names that end in {accepted}")
        try:
            with os.scandir(self.root) as entries:
                return choose_archives(self.root, [entry.path for entry in entries if not entry.is_dir()])
        except OSError as error:
            raise SourceError(
                f"{self.root}: the folder of the archives cannot be read: {error.strerror}; give it as `images`"
            ) from error

    def _compare(self, archives: tuple[str, ...]) -> Comparison:
        return compare_contents(self.root, archives, FolderSource(self.root).list_frames())

    def _note_files(self, found: Comparison) -> list[Note]:
        count = found.shared + found.files
        same = (
            f"; {found.shared} of them are members too, with the same contents" if found.shared and found.files else ""
        )
        same = "; they are members too, with the same contents" if found.shared and not found.files else same
        beside = f"beside the archives in {self.root}"
        text = f"image file {beside} is not" if count == 1 else f"image files {beside} are not"
        text += f" read{same}{_describe_unread(found)}; to read image files set `source_type: folder`"
        return [Note("passed_over", count, text, found.first_file)] if count else []


@dataclass(frozen=True)
class FileAsFolder(FolderSource):
    """A file where `source_type: folder` asks for a folder."""

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """Refuse to list anything.

        Raises
        ------
        RefusedSourceError
            Always; the message says what the file is.
        """
        kind = recognise_path(self.root)
        read = "video" if kind.name == "video" else "archive"
        other = f"this is no folder; leave source_type out to read it as {read}"
        raise RefusedSourceError(f"{self.root}: {kind.sentence or other}")


@dataclass(frozen=True)
class FolderBesideArchives(FolderSource):
    """A folder of image files in which archives lie too, perhaps of the same images.

    Parameters
    ----------
    archives
        The archives that are not read.
    folder
        A folder beside them; None: the image files lie beside them.
    """

    archives: tuple[str, ...] = field(default=(), repr=False)
    folder: str | None = None
    _found: list[Comparison] = field(default_factory=list, repr=False, compare=False)

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """List the files: see `FolderSource.list_frames`.

        Raises
        ------
        RefusedSourceError
            If a file has the name of a member of an archive and another content.
        """
        readable = tuple(path for path in self.archives if path.lower().endswith(ARCHIVE_SUFFIXES))
        if readable:
            listed = list(super().list_frames())
            found = compare_contents(self.root, readable, listed)
            found.check(self.root)
            self._found[:] = [found]
            yield from listed
        else:
            yield from super().list_frames()

    def list_notes(self) -> list[Note]:
        """Return a note about the archives, with what is known once the files were listed."""
        found = self._found[0] if self._found else Comparison()
        if self.folder is not None:
            why = f"because there are folders beside, such as {self.folder!r}"
        else:
            why = "because there are image files beside"
        if found.shared and not found.members:
            why += "; its images are among the files, with the same contents"
        elif found.members:
            images = "image is" if found.members == 1 else "images are"
            why += f"; {found.members} {images} in archives alone (such as {found.first_member!r})"
        if found.reason is not None:
            why += f"; nothing was compared: {found.reason}"
        why += f"{_describe_unread(found)}; to read archives set `source_type: archives`"
        one, many = f"archive in {self.root} is not read {why}", f"archives in {self.root} are not read {why}"
        names = sorted(map(os.path.basename, self.archives))
        return [*super().list_notes(), *note_found("passed_over", names, one, many)]


@dataclass(frozen=True)
class FoundArchives:
    """The archives at a location.

    Attributes
    ----------
    are_the_source
        Whether frames are read from them unless the user asks for something else.
    is_compared
        Whether image files lie beside them.
    archives
        Those in a folder that is not read as archives.
    folder
        A folder beside these.
    """

    are_the_source: bool = False
    is_compared: bool = False
    archives: tuple[str, ...] = ()
    folder: str | None = None


def find_archives(images: str) -> FoundArchives:
    """Find out whether a location is an archive, or a folder that holds archives and no folders.

    Image files beside the archives are the frames if all images of the archives are among them, by name, or if the
    archives hold none. No content is read: `list_frames` of the sources compares them.

    Examples
    --------
    >>> find_archives("frames.zip").are_the_source
    True
    """
    if not os.path.isdir(images):
        is_archive = is_archive_name(images) if not os.path.exists(images) else recognise_path(images).name != "video"
        return FoundArchives(is_archive)
    archives, others, files, folder = _scan_folder(images)
    if folder is not None or not (archives or others):
        return FoundArchives(archives=(*archives, *others), folder=folder)
    if not files:
        return FoundArchives(bool(archives or others))
    if not archives:
        return FoundArchives(archives=others)
    if not others:
        with contextlib.suppress(SourceError):  # it is reported when the frames are listed
            found = compare_names(files, archives)
            if not found.members:
                return FoundArchives(archives=archives)
    return FoundArchives(are_the_source=True, is_compared=True)


def _scan_folder(root: str) -> tuple[tuple[str, ...], tuple[str, ...], list[str], str | None]:
    """Return archives that are read, other ones, the names of image files, and one of the folders in a folder."""
    archives: list[str] = []
    others: list[str] = []
    files: list[str] = []
    folder = None
    with contextlib.suppress(OSError), os.scandir(root) as entries:  # the source reports what is wrong with a folder
        for entry in (entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))):
            if entry.is_dir():
                folder = entry.name
            elif is_archive_name(entry.name):
                (archives if entry.name.lower().endswith(ARCHIVE_SUFFIXES) else others).append(entry.path)
            else:
                files.append(entry.name)
    images = _choose_images(root, files) if folder is None and (archives or others) else []
    return tuple(sorted(archives)), tuple(sorted(others)), images, folder


def _choose_images(root: str, files: list[str]) -> list[str]:
    """Choose the image files; of files without a suffix the first ones tell whether they are images."""
    is_image = choose_image_names(pa.array(map(os.fsencode, files), pa.binary())).to_pylist()
    images = [name for name, chosen in zip(files, is_image, strict=True) if chosen]
    firsts = [name for name in images[:_TRIED] if "." not in name]
    if firsts and not any(recognise_path(os.path.join(root, name)).name == "image" for name in firsts):
        return []
    return images


def choose_archives(root: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Choose the archives among the files in a folder, those that cannot be read included.

    Raises
    ------
    SourceError
        If there are none.

    Examples
    --------
    >>> choose_archives("frames", ["frames/b.tar", "frames/a.zip", "frames/train.csv", "frames/._a.zip"])
    ('frames/a.zip', 'frames/b.tar')
    """
    names = sorted(path for path in paths if not path.rpartition("/")[2].startswith("."))
    archives = tuple(path for path in names if is_archive_name(path))
    if not archives:
        raise SourceError(
            f"{root}: there is no archive in this folder; accepted: names that end in "
            f"{' or '.join(ARCHIVE_SUFFIXES)}, or another value of data.source_type"
        )
    return archives


def _describe_unread(found: Comparison) -> str:
    return f"; of {found.unread} only the size was compared" if found.unread else ""


def _open_archive(archive: str) -> BinaryIO:
    try:
        return open(archive, "rb")
    except OSError as error:
        raise UnreachableFrameError(f"{archive}: cannot be opened: {error.strerror}") from error
