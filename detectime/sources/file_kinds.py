"""What a file that is given as `images`, or lies among archives, is by its content."""

from __future__ import annotations

import os
import re
import struct
import tarfile
import zipfile
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from detectime.decoding.naming import name_content, read_brand

ARCHIVE_SUFFIXES = (".zip", ".tar")
"""Suffixes of archives that are read."""

IMAGE_SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .png .bmp .dib .webp .gif .tif .tiff .heic .heif .avif .jp2 .ppm .pgm .pnm".split()
)
"""Suffixes of image files, in lower case."""

_COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_OTHER_SUFFIXES = (".7z", ".rar", ".iso")
_PART = re.compile(r"\.(zip|7z|tar|tgz|gz|rar)\.\d{2,4}$|\.z\d{2}$|\.r\d{2}$", re.IGNORECASE)
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods", ".parquet", ".json", ".jsonl")

_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"(\xb5/\xfd", "zstd", "unzstd"),
    (b"\x1f\x9d", "compress", "uncompress"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4"),
    (b"LZIP", "lzip", "lzip -d"),
)
_IMAGE_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
_IMAGE = r"(?i)(?:" + "|".join(suffix.replace(".", r"\.") for suffix in IMAGE_SUFFIXES) + r")$"
_WITHOUT_SUFFIX = r"(?:^|/)[^./]+$"
_START = 40_000  # bytes that tell the kind
_ISO = (32_769, b"CD001")
_TAIL = 66_000  # bytes at the end, with the longest comment of a zip
_END = struct.Struct("<4s2H")  # of a zip's directory: the signature, and the numbers of two parts
_REMEDIES = (
    ("a Git LFS pointer", "fetch the file with: git lfs pull"),
    ("a git-annex pointer", "fetch the file with: git annex get"),
    ("an HTML page", "download it again"),
    ("XML", "download it again"),
    ("JSON", "download it again"),
    ("only zero bytes", "copy it again"),
)


class FileKind(NamedTuple):
    """What a file is.

    Attributes
    ----------
    name
        ``zip``, ``tar``, ``video``, ``image``, or another one that is read as nothing; empty: unknown.
    sentence
        What it is and what to do about it, to follow the path of the file; None for what is read.
    """

    name: str
    sentence: str | None = None


def recognise_file(file: BinaryIO, path: str) -> FileKind:
    """Say what a file is, by its content.

    Parameters
    ----------
    file
        Open for reading.
    path
        Of the file, for the remedy; of its name the suffix counts where the content says nothing.

    Raises
    ------
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import io
    >>> recognise_file(io.BytesIO(b"PK\\3\\4" + bytes(100)), "frames")
    FileKind(name='zip', sentence=None)
    >>> print(recognise_file(io.BytesIO(b"\\xff\\xd8\\xff\\xe0"), "frames/1.jpg").sentence)
    this is one image; give the folder that it lies in, frames, as `images`
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(_START)
    if not size:
        return FileKind("empty", "this file is empty, 0 bytes; get it again, or move it elsewhere")
    known = _recognise_part(file, path, start, size) or _recognise_archive(file, path, start)
    return known or _recognise_other(path, start, size)


def recognise_path(path: str) -> FileKind:
    """Say what a local file is; the kind is unknown if there is no such file, or if it cannot be read.

    Examples
    --------
    >>> recognise_path("nowhere.zip")
    FileKind(name='', sentence=None)
    """
    try:
        if not os.path.isfile(path):
            return FileKind("")
        with open(path, "rb") as file:
            return recognise_file(file, path)
    except (OSError, ValueError):
        return FileKind("")


def is_archive_name(name: str) -> bool:
    """Whether a name is that of an archive, or of a part of one, of a kind that is read or not.

    Examples
    --------
    >>> is_archive_name("a.ZIP"), is_archive_name("a.tar.gz"), is_archive_name("a.zip.001"), is_archive_name("a.csv.gz")
    (True, True, True, False)
    """
    known = (*ARCHIVE_SUFFIXES, *_COMPRESSED_SUFFIXES, *_OTHER_SUFFIXES)
    return name.lower().endswith(known) or bool(_PART.search(name))


def choose_image_names(names: pa.Array) -> pa.Array:
    """Choose the names of images: those that end as one, or, if none does, those without any suffix.

    Parameters
    ----------
    names
        Binary.

    Returns
    -------
    Array
        bool: whether a name is chosen.

    Examples
    --------
    >>> choose_image_names(pa.array([b"v/1.JPG", b"README", b"train.csv"])).to_pylist()
    [True, False, False]
    >>> choose_image_names(pa.array([b"v/0001", b"train.csv"])).to_pylist()
    [True, False]
    """
    found = pc.match_substring_regex(names, _IMAGE)
    return found if pc.any(found).as_py() else pc.match_substring_regex(names, _WITHOUT_SUFFIX)


def _recognise_part(file: BinaryIO, path: str, start: bytes, size: int) -> FileKind | None:
    """Recognise one of several files that are one archive."""
    name = os.path.basename(path)
    is_zip = start.startswith((b"PK\3\4", b"PK\7\x08PK")) or name.lower().endswith(".zip")
    number = 0
    if is_zip:
        file.seek(max(size - _TAIL, 0))
        tail = file.read(_TAIL)
        at = tail.rfind(b"PK\5\6")
        if at >= 0 and len(tail) - at >= _END.size:
            number = _END.unpack_from(tail, at)[1]
    is_last = number not in (0, 0xFFFF)
    if not is_last and not start.startswith(b"PK\7\x08PK\3\4") and not _PART.search(name):
        return None
    if re.search(r"\.\d{2,4}$", name):
        whole = name.rpartition(".")[0]
        return FileKind("part", f"this is one part of an archive in several files; join them: cat {whole}.* > {whole}")
    if name.lower().endswith((".rar", ".r00", ".r01", ".r02")):
        return FileKind("part", "this is one part of a RAR archive; unpack it with unrar or 7z, and give the folder")
    stem = name.rpartition(".")[0]
    join = f"zip -s 0 {stem}.zip --out {stem}-whole.zip"
    return FileKind("part", f"this is one part of a zip in several files; join them: {join}, and move the parts away")


def _recognise_archive(file: BinaryIO, path: str, start: bytes) -> FileKind | None:
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        if path.lower().endswith(_TABLE_SUFFIXES) or b"[Content_Types].xml" in start[:2000]:
            return _describe_table()
        return FileKind("zip")
    is_empty_tar = path.lower().endswith(".tar") and len(start) <= tarfile.RECORDSIZE and not start.strip(b"\0")
    if _is_tar(start) or is_empty_tar:
        return FileKind("tar")
    for beginning, name, command in _COMPRESSED:
        if start.startswith(beginning):
            return FileKind(name, _describe_compressed(name, path, command))
    for beginning, what in ((b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\7", "RAR")):
        if start.startswith(beginning):
            sentence = (
                f"this is a {what} archive, which is not read; unpack it, 7z x {os.path.basename(path)}, and give the"
            )
            return FileKind(what, f"{sentence} folder, or make a .zip or .tar of it")
    if start.startswith(_ISO[1], _ISO[0]):
        return FileKind("iso", "this is the image of a disc; unpack or mount it, and give the folder")
    return FileKind("zip") if path.lower().endswith(".zip") and zipfile.is_zipfile(file) else None


def _is_tar(start: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(start[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):  # the checksum of its first header is wrong
        return False
    return True


def _recognise_other(path: str, start: bytes, size: int) -> FileKind:
    brand = read_brand(start)
    is_webp = start.startswith(b"RIFF") and start.startswith(b"WEBP", 8)
    if start.startswith(_IMAGE_BEGINNINGS) or is_webp or brand in ("AVIF", "HEIC"):
        folder = os.path.dirname(path) or "."
        return FileKind("image", f"this is one image; give the folder that it lies in, {folder}, as `images`")
    what = name_content(start[:4096])
    if what is not None and what.startswith("a video"):
        return FileKind("video")
    if path.lower().endswith(_TABLE_SUFFIXES):
        return _describe_table()
    if what is None:
        return FileKind("")
    what = re.split(r"; |, not |, which ", what)[0]
    if what == "text" and path.lower().endswith(ARCHIVE_SUFFIXES):
        return FileKind("")  # the reader of the archive says what is wrong
    remedy = next((remedy for beginning, remedy in _REMEDIES if what.startswith(beginning)), None)
    return FileKind("other", f"this is {what}; {remedy or 'give a folder, an archive or a video as `images`'}")


def _describe_table() -> FileKind:
    return FileKind("table", "this is a table; give it as `labels`, and the place of its frames as `images`")


def _describe_compressed(name: str, path: str, command: str) -> str:
    file = os.path.basename(path)
    stem = re.sub(r"(\.tar)?\.\w+$", "", file)
    plain = f"{stem}-plain.tar" if file == f"{stem}.tar" else f"{stem}.tar"  # of another name than the file's
    what = f"this is a file compressed with {name}, which can only be read from its start"
    return f"{what}; decompress it to a .tar ({command} < {file} > {plain}), or make a .zip"
