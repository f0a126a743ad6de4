"""Unpack a zip archive of frames: only complete files, and only below one folder.

Needs nothing but Python 3.8, so that ``download_data.sh`` works before ``make setup``::

    python3 tools/unpack.py ZIP           # check the archive: read every member and compare its checksum
    python3 tools/unpack.py ZIP FOLDER    # unpack it, and print the top-level names that it has in FOLDER, one per line

Paths are kept, with one exception. ``frame_path`` in the csv is ``<video_name>/<frame>.jpg``: if every member of
``train_data1.zip`` lies below ``train_data1/`` or ``train_data/``, and in folders there, that first folder is dropped,
as the script of 2021 did. What macOS adds (``__MACOSX/``) is skipped. ``detectime.sources.archive``, which reads frames
without unpacking them, does the same.

An archive with a member that could be written outside FOLDER is refused before anything is written. Frames that exist
and have the right checksum are not written again, so an interrupted run resumes.

Exit status: 0 if everything is unpacked, 1 if the archive is refused, 3 if it is damaged, 4 if the disk is full.
"""

from __future__ import annotations

import argparse
import errno
import re
import shutil
import stat
import struct
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Python 3.8 cannot evaluate it
    Members = dict[tuple[str, ...], zipfile.ZipInfo]
    """Files of an archive by the parts of their path below the folder."""

_REFUSED, _DAMAGED, _DISK_FULL = 1, 3, 4
_BLOCK = 1 << 20  # bytes
_PROGRESS_EVERY = 100  # frames
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DAMAGE_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError)  # zipfile raises all of them


class RefusedError(Exception):
    """The archive is not unpacked; the message has the reason."""


def check_content(archive: zipfile.ZipFile) -> None:
    """Read every member; `zipfile` raises an error if one has another checksum or ends early."""
    for member in archive.infolist():
        with archive.open(member) as content:
            while content.read(_BLOCK):
                pass


def list_members(archive: zipfile.ZipFile, stem: str) -> Members:
    """Return the files of an archive after checking that every member stays below the folder.

    Parameters
    ----------
    archive
        An open archive.
    stem
        The archive's file name without its suffix.

    Raises
    ------
    RefusedError
        If a member is neither a file nor a folder, could be written outside the folder, or is encrypted.

    Examples
    --------
    >>> import io
    >>> archive = zipfile.ZipFile(io.BytesIO(), "w")
    >>> archive.writestr("train_data1/stop_1/0001.jpg", b"")
    >>> list(list_members(archive, "train_data1"))
    [('stop_1', '0001.jpg')]
    """
    files: Members = {}
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))  # Windows separators
        fault = _find_fault(member, path)
        if fault:
            raise RefusedError(f"refused, nothing was unpacked: its member {member.filename!r} {fault}")
        if not member.is_dir() and path.parts[0] != "__MACOSX":
            files[path.parts] = member
    if not files:
        raise RefusedError("it contains no files")
    first = {parts[0] for parts in files}
    if first in ({stem}, {"train_data"}) and any(len(parts) > 2 for parts in files):
        return {parts[1:]: member for parts, member in files.items() if len(parts) > 1}
    return files


def unpack_members(archive: zipfile.ZipFile, files: Members, folder: Path, name: str) -> None:
    """Write the files that do not exist yet; each gets its name when it is complete.

    Parameters
    ----------
    archive
        An open archive.
    files
        The members to write, from `list_members`.
    folder
        An existing folder.
    name
        The archive's name in the progress display.

    Raises
    ------
    RefusedError
        If there is too little space. This is known in advance, even if a small archive expands to a very large one.
    OSError
        If a file cannot be written.
    """
    _check_space(files, folder)
    temporary = _choose_temporary_name(files)
    for number, (parts, member) in enumerate(files.items(), 1):
        target = folder.joinpath(*parts)
        if not _is_unpacked(target, member):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(temporary)
            with archive.open(member) as content, partial.open("wb") as copy:
                shutil.copyfileobj(content, copy, _BLOCK)  # raises BadZipFile if the checksum differs
            partial.replace(target)
        if sys.stderr.isatty() and (number % _PROGRESS_EVERY == 0 or number == len(files)):
            end = "\n" if number == len(files) else ""
            print(f"\r{name}: frame {number} of {len(files)}", end=end, file=sys.stderr, flush=True)


def main() -> int:
    """Check or unpack an archive; print the reason if that fails."""
    parser = argparse.ArgumentParser(description="Check or unpack an archive of frames.")
    parser.add_argument("zip", type=Path)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="an existing folder; without it, the archive is only checked"
    )
    arguments = parser.parse_args()
    name = _CONTROL.sub("?", arguments.zip.name)
    try:
        with zipfile.ZipFile(arguments.zip) as archive:
            if arguments.folder is None:
                check_content(archive)
            else:
                files = list_members(archive, arguments.zip.stem)
                unpack_members(archive, files, arguments.folder, name)
                print("\n".join(sorted({parts[0] for parts in files})), flush=True)
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return _DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else _REFUSED
    except (RefusedError, RuntimeError) as error:  # RuntimeError: encrypted, or an unknown compression method
        print(f"{name}: {_CONTROL.sub('?', str(error))}", file=sys.stderr)
        return _REFUSED
    except _DAMAGE_ERRORS as error:
        print(f"{name}: {_describe_damage(arguments.zip)}: {_CONTROL.sub('?', str(error))}", file=sys.stderr)
        return _DAMAGED
    return 0


def _find_fault(member: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """Return why a member must not be unpacked, or an empty string."""
    if not path.parts:
        return "has no name"
    if path.is_absolute():
        return "has an absolute path"
    if ".." in path.parts:
        return "leaves the folder"
    if _CONTROL.search(member.filename):
        return "has control characters in its name"
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the archive was not made on Unix
    if kind not in (0, stat.S_IFDIR if member.is_dir() else stat.S_IFREG):
        return "is a link" if stat.S_ISLNK(kind) else "is neither a file nor a folder"
    if member.flag_bits & 1:
        return "is encrypted"
    return ""


def _check_space(files: Members, folder: Path) -> None:
    needed = sum(member.file_size for parts, member in files.items() if not _has_size(folder.joinpath(*parts), member))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RefusedError(f"unpacked, it needs {needed / 1e9:.1f} GB more, but {folder} has {free / 1e9:.1f} GB free")


def _choose_temporary_name(files: Members) -> str:
    """Return a name that no member has; it is fixed, so that the next run overwrites what a killed one left."""
    temporary = ".part"
    while any(temporary in map(str.lower, parts) for parts in files):
        temporary += "_"
    return temporary


def _has_size(target: Path, member: zipfile.ZipInfo) -> bool:
    return target.is_file() and target.stat().st_size == member.file_size


def _is_unpacked(target: Path, member: zipfile.ZipInfo) -> bool:
    """Return whether a file has the member's checksum; after a power failure, the right size proves nothing."""
    if not _has_size(target, member):
        return False
    checksum = 0
    with target.open("rb") as content:
        for block in iter(lambda: content.read(_BLOCK), b""):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.CRC


def _describe_damage(path: Path) -> str:
    with path.open("rb") as content:
        start = content.read(40)
    return "the archive is damaged" if start[:2] == b"PK" else f"not a zip archive, it begins with {start!r}"


if __name__ == "__main__":
    sys.exit(main())
