"""The members of a zip: where they are, and their content. See `detectime.sources.archive_index`."""

from __future__ import annotations

import bz2
import lzma
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from detectime.images import UnreadableImageError

ENCRYPTED = -1
"""Instead of the method of a member that is encrypted."""

_STORED, _DEFLATED, _BZIP2, _LZMA, _XZ = 0, 8, 12, 14, 95
READABLE = (_STORED, _DEFLATED, _BZIP2, _LZMA, _XZ)
"""Methods that are read."""

_METHOD_NAMES = {
    ENCRYPTED: "encrypted",
    1: "compressed by Shrink",
    6: "compressed by Implode",
    9: "compressed by Deflate64",
    20: "compressed by Zstandard",
    93: "compressed by Zstandard",
    94: "compressed as MP3",
    96: "compressed as JPEG",
    97: "compressed as WavPack",
    98: "compressed by PPMd",
    99: "encrypted by AES",
}

# <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, 4.3.7
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
HEADER_SIZE = _LOCAL_HEADER.size
"""Bytes of the header before a member, without its name and what follows that."""

_ENCRYPTED_FLAG, _END_MARK_FLAG, _UTF_8_FLAG = 0x1, 0x2, 0x800
_UNICODE_PATH = 0x7075  # 4.6.9
_LZMA_MEMORY = 256 * 2**20  # bytes
_UNKNOWN_SIZE = 2**64 - 1


def name_method(method: int) -> str:
    """Say how a member is compressed.

    Examples
    --------
    >>> name_method(9), name_method(ENCRYPTED), name_method(19)
    ('compressed by Deflate64', 'encrypted', 'compressed by method 19 of zip')
    """
    return _METHOD_NAMES.get(method, f"compressed by method {method} of zip")


def describe_repacking(method: int) -> str:
    """Say what to do about members that cannot be read.

    Examples
    --------
    >>> describe_repacking(9)
    'unpack the archive, for instance with 7z x, and give the folder, or pack that again: zip -r'
    """
    with_password = " and its password" if method in (ENCRYPTED, 99) else ""
    return f"unpack the archive, for instance with 7z x{with_password}, and give the folder, or pack that again: zip -r"


_END = b"PK\5\6"  # of a zip
_LONGEST_END = 66_000  # bytes, with the longest comment


class _StreamedZip(zipfile.ZipFile):
    """Hands on the members of a zip one by one, instead of keeping an object for each."""

    def __init__(self, archive: BinaryIO, take: Callable[[zipfile.ZipInfo], None]) -> None:
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


def _is_zip_before(archive: BinaryIO, end: int) -> bool:
    """Whether a zip ends shortly before a place in a file: what makes a zip unpack itself is none."""
    archive.seek(0)
    if archive.read(4) != b"PK\3\4":
        return False
    archive.seek(max(end - _LONGEST_END, 0))
    return _END in archive.read(min(end, _LONGEST_END))


def list_zip(archive: BinaryIO, take: Callable[[zipfile.ZipInfo], None]) -> None:
    """Call a function with each member of a zip that is not a folder; no object is kept.

    Raises
    ------
    ValueError
        If the archive is broken; the message has the reason.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w") as target:
    ...     target.writestr("anna/0001.jpg", b"hello")
    >>> list_zip(file, lambda member: print(member.filename))
    anna/0001.jpg
    """

    first = math.inf

    def take_file(member: zipfile.ZipInfo) -> None:
        nonlocal first
        first = min(first, member.header_offset)
        if not member.filename.endswith(("/", "\\")):
            if member.header_offset < 0:
                raise ValueError("what stands before its central directory is missing")
            take(member)

    try:
        with _StreamedZip(archive, take_file):
            pass
        if 0 < first < math.inf and _is_zip_before(archive, int(first)):
            raise ValueError("another zip stands in front of it in the file, as if they were joined; take them apart")
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, struct.error) as error:
        raise ValueError(str(error)) from error


def encode_name(member: zipfile.ZipInfo) -> bytes:
    """Return the name of a member in UTF-8, with slashes.

    Without the UTF-8 flag a name is in code page 437, but macOS writes UTF-8 without the flag, and others write the
    name once more in UTF-8.

    Examples
    --------
    >>> encode_name(zipfile.ZipInfo("v\\\\1.jpg"))
    b'v/1.jpg'
    """
    name = member.filename.replace("\\", "/")  # written by Windows
    if not member.flag_bits & _UTF_8_FLAG and not name.isascii():
        try:
            stored = name.encode("cp437")
        except UnicodeEncodeError:  # newer Pythons have read the second name
            return name.encode()
        try:
            stored.decode()
        except UnicodeDecodeError:
            return _find_second_name(member, member.filename.encode("cp437")) or name.encode()
        return stored
    return name.encode()


def _find_second_name(member: zipfile.ZipInfo, stored: bytes) -> bytes | None:
    """Return the name in UTF-8 that a member has beside the stored one; None if it has none that goes with that."""
    extra = member.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[1:5] == struct.pack("<L", zlib.crc32(stored)):
            return field[5:].replace(b"\\", b"/")
    return None


def find_method(member: zipfile.ZipInfo) -> int:
    """Return the method of a member, or `ENCRYPTED`."""
    return ENCRYPTED if member.flag_bits & _ENCRYPTED_FLAG and member.compress_type != 99 else member.compress_type


def read_exactly(file: BinaryIO, count: int) -> bytes:
    """Read bytes of an archive; nothing is allocated for bytes that it does not have.

    Raises
    ------
    UnreadableImageError
        If it has fewer.

    Examples
    --------
    >>> import io
    >>> read_exactly(io.BytesIO(b"hello"), 2)
    b'he'
    """
    start = file.tell()
    if not 0 <= count <= file.seek(0, os.SEEK_END) - start:
        raise UnreadableImageError("truncated: the archive ends early")
    file.seek(start)
    return file.read(count)


def read_zip_member(file: BinaryIO, start: int, stored: int, size: int, crc: int) -> bytes:
    """Return the content of a member, checked to be whole.

    At a known offset this needs no directory, which the standard library would read in every worker.

    Parameters
    ----------
    file
        The archive.
    start
        Where the member's header begins.
    stored, size, crc
        Bytes in the archive, bytes of the content, and its CRC-32, as the directory states them.

    Raises
    ------
    UnreadableImageError
        If it is damaged, encrypted, or compressed by another method than `READABLE` ones.
    OSError
        If the archive cannot be read.
    """
    file.seek(start)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise UnreadableImageError("truncated: the archive ends early")
    signature, _, flags, method, *_, name, extra = _LOCAL_HEADER.unpack(header)
    if signature != b"PK\3\4":
        raise UnreadableImageError("broken in the archive: its header is not where the directory says")
    if flags & _ENCRYPTED_FLAG:
        method = 99 if method == 99 else ENCRYPTED
    if method not in READABLE:
        raise UnreadableImageError(f"{name_method(method)}, which is not read; {describe_repacking(method)}")
    file.seek(name + extra, os.SEEK_CUR)
    content = read_exactly(file, stored)
    try:
        content = _decompress(content, method, size, bool(flags & _END_MARK_FLAG))
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        raise UnreadableImageError(f"broken in the archive: {error}") from error
    if len(content) != size or crc != zlib.crc32(content):
        raise UnreadableImageError("broken in the archive: its size or its checksum differs from the directory's")
    return content


def _decompress(content: bytes, method: int, size: int, has_end_mark: bool) -> bytes:
    """Decompress to at most one byte more than stated: that shows that there are more."""
    if method == _DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
    if method == _BZIP2:
        return bz2.BZ2Decompressor().decompress(content, size + 1)
    if method == _XZ:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY).decompress(content, size + 1)
    if method == _LZMA:  # a header of its own (5.8.8), where a file of LZMA has properties and size
        (length,) = struct.unpack_from("<H", content, 2)
        stated = struct.pack("<Q", _UNKNOWN_SIZE if has_end_mark else size)
        stream = content[4 : 4 + length] + stated + content[4 + length :]
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, _LZMA_MEMORY).decompress(stream, size + 1)
    return content
