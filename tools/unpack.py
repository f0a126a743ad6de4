"""Unpack an archive of frames: whole frames, and nowhere but below one folder.

Wants Python 3.8 and nothing else, so that ``download_data.sh`` can use it before ``make setup``::

    python3 tools/unpack.py ZIP           # only looks whether it is an archive
    python3 tools/unpack.py ZIP FOLDER    # unpacks it, and prints what lies in FOLDER now, a name a line

Paths stay as they are, with one exception. The csv's ``frame_path`` is ``<video_name>/<frame>.jpg``: where all of
``train_data1.zip`` lies below ``train_data1/`` or ``train_data/``, and in folders there, that first folder is left out,
as the script of 2021 did. What macOS adds (``__MACOSX/``) is left out too.
``detectime.sources.archive``, which reads frames without unpacking them, does the same.

An archive with a member that could reach beyond FOLDER is refused as a whole before anything is written. Frames that
are there already are not written again, so that what was interrupted goes on.

Exit status: 0 if all is there, 1 if the archive is refused, 3 if it is broken, 4 if the disk is full.
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

if TYPE_CHECKING:  # Python 3.8 could not evaluate it
    Members = dict[tuple[str, ...], zipfile.ZipInfo]
    """Files of an archive by the parts of their path below the folder."""

_BLOCK = 1 << 20  # bytes
_TOLD_EVERY = 100  # frames
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError)  # all that zipfile raises


class Refused(Exception):
    """An archive that is not unpacked; the message says why."""


def members(archive: zipfile.ZipFile, stem: str) -> Members:
    """Files of an archive, once every member is known to stay below the folder.

    Parameters
    ----------
    archive
        What was opened.
    stem
        The archive's name without its ending.

    Raises
    ------
    Refused
        If a member is neither a file nor a folder, could reach beyond the folder, or cannot be read.
    """
    files: Members = {}
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))  # as Windows writes it
        fault = _fault(member, path)
        if fault:
            raise Refused(f"refused, nothing was unpacked: its member {member.filename!r} {fault}")
        if not member.is_dir() and path.parts[0] != "__MACOSX":
            files[path.parts] = member
    if not files:
        raise Refused("it holds no files")
    first = {parts[0] for parts in files}
    if first in ({stem}, {"train_data"}) and any(len(parts) > 2 for parts in files):
        return {parts[1:]: member for parts, member in files.items() if len(parts) > 1}
    return files


def unpack(archive: zipfile.ZipFile, files: Members, folder: Path, name: str) -> None:
    """Write files that are not there yet; each appears whole.

    Parameters
    ----------
    archive
        What was opened.
    files
        What to write, from `members`.
    folder
        Where; it is there.
    name
        What to call the archive in front of whoever watches.

    Raises
    ------
    Refused
        If there is too little space: what an archive of a few bytes can grow to is known before.
    OSError
        If a file cannot be written.
    """
    needed = sum(member.file_size for parts, member in files.items() if not _has_size(folder.joinpath(*parts), member))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Refused(f"unpacked it takes {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free in {folder}")
    # One name for all, which no member has: a killed process leaves one file a folder, and the next takes it.
    temporary = ".part"
    while any(temporary in map(str.lower, parts) for parts in files):
        temporary += "_"
    for number, (parts, member) in enumerate(files.items(), 1):
        target = folder.joinpath(*parts)
        if not _is_there(target, member):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(temporary)
            with archive.open(member) as content, partial.open("wb") as copy:
                shutil.copyfileobj(content, copy, _BLOCK)  # raises where the content has another checksum
            partial.replace(target)
        if sys.stderr.isatty() and (number % _TOLD_EVERY == 0 or number == len(files)):
            end = "\n" if number == len(files) else ""
            print(f"\r{name}: frame {number} of {len(files)}", end=end, file=sys.stderr, flush=True)


def main() -> int:
    """Unpack, or say why not."""
    parser = argparse.ArgumentParser(description="Unpack an archive of frames.")
    parser.add_argument("zip", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", help="left out: only look whether it is an archive")
    asked = parser.parse_args()
    name = _CONTROL.sub("?", asked.zip.name)
    try:
        with zipfile.ZipFile(asked.zip) as archive:
            if asked.folder is not None:
                files = members(archive, asked.zip.stem)
                unpack(archive, files, asked.folder, name)
                print("\n".join(sorted({parts[0] for parts in files})), flush=True)
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 4 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 1
    except (Refused, NotImplementedError) as error:  # the latter: a compression that this Python does not know
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except _BROKEN as error:
        print(f"{name}: {_diagnosis(asked.zip)}: {_CONTROL.sub('?', str(error))}", file=sys.stderr)
        return 3
    return 0


def _fault(member: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """Say what speaks against a member, or nothing."""
    if not path.parts:
        return "has no name"
    if path.is_absolute():
        return "has an absolute path"
    if ".." in path.parts:
        return "leaves the folder"
    if _CONTROL.search(member.filename):
        return "has control characters in its name"
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
    if kind not in (0, stat.S_IFDIR if member.is_dir() else stat.S_IFREG):
        return "is a link" if stat.S_ISLNK(kind) else "is neither a file nor a folder"
    if member.flag_bits & 1:
        return "is encrypted"
    return ""


def _has_size(target: Path, member: zipfile.ZipInfo) -> bool:
    return target.is_file() and target.stat().st_size == member.file_size


def _is_there(target: Path, member: zipfile.ZipInfo) -> bool:
    """Whether a file has the member's content: by its checksum, for a power failure leaves whole sizes of nothing."""
    if not _has_size(target, member):
        return False
    checksum = 0
    with target.open("rb") as content:
        for block in iter(lambda: content.read(_BLOCK), b""):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.CRC


def _diagnosis(path: Path) -> str:
    with path.open("rb") as content:
        start = content.read(40)
    return "this archive is broken" if start[:2] == b"PK" else f"this is no zip archive, it begins with {start!r}"


if __name__ == "__main__":
    sys.exit(main())
