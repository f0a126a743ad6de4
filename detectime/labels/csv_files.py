"""Csv files as they are: their separator and header, the row that breaks one, and what a file is that is none."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from detectime.labels.tables import TableError
from detectime.notes import shorten_text

CsvFile = io.BufferedReader | io.BytesIO
"""An open file of bytes."""

SEPARATORS = ",;\t|"
"""What may stand between the values of a csv."""
_SEPARATOR_LINE = re.compile(r"\ufeff?sep=(.)\r?\n?", re.IGNORECASE)  # that Excel understands
_MAX_SHOWN = 20  # values that a message lists
_KNOWN_COLUMNS = {"frame_path", "video_name", "frame_id", "class_name", "file", "start", "end", "class"}
_CHUNK = 2**20  # bytes
_HEAD = 4096  # bytes that tell what a file is
_PARQUET = b"PAR1"
_OTHER_FILES = (
    (b"\x1f\x8b", "compressed by gzip; decompress it (`gunzip`)"),
    (b"BZh", "compressed by bzip2; decompress it (`bunzip2`)"),
    (b"\xfd7zXZ", "compressed by xz; decompress it (`unxz`)"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; decompress it (`unzstd`)"),
    (b"PK", "a zip archive, such as an Excel workbook (.xlsx); save its sheet as csv, in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls); save its sheet as csv, in UTF-8"),
    (b"\xff\xfe", "in UTF-16, which Excel calls Unicode text; save it as csv, in UTF-8"),
    (b"\xfe\xff", "in UTF-16, which Excel calls Unicode text; save it as csv, in UTF-8"),
    (b"%PDF", "a PDF; provide the table as csv, in UTF-8"),
    (b"\xff\xd8\xff", "a JPEG image; set `images` to images, and `labels` to the table with their classes"),
    (b"\x89PNG", "a PNG image; set `images` to images, and `labels` to the table with their classes"),
    (b"ARROW1", "an Arrow (Feather) file; write the table as csv or Parquet"),
    (b"\x89HDF", "an HDF5 file; write the table as csv or Parquet"),
    (b"\x93NUMPY", "an array of NumPy; write the table as csv or Parquet"),
    (b"\x80\x04\x95", "a pickle of Python; write the table as csv or Parquet"),
    (b"\x80\x05\x95", "a pickle of Python; write the table as csv or Parquet"),
    (b"SQLite format 3", "a database; export the table as csv, in UTF-8"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; run `git lfs pull`"),
)
"""First bytes of what is taken for a csv, and what it is, with the remedy."""
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body)", re.IGNORECASE)


def normalize_column(name: str) -> str:
    """Return the name of a column in lower case, its words joined by underscores.

    Examples
    --------
    >>> [normalize_column(name) for name in ("StartTime", "start time", "Start (s)", "END")]
    ['start_time', 'start_time', 'start_s', 'end']
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\W_]+", "_", words).strip("_").casefold()


def recognise_table(file: CsvFile, path: str | os.PathLike[str]) -> str:
    """Return whether a file is ``parquet`` or ``csv``, by its first bytes.

    Raises
    ------
    TableError
        If it is neither: the message says what it is, and what to do.

    Examples
    --------
    >>> recognise_table(io.BytesIO(b"frame_path,class_name\\n"), "labels.csv")
    'csv'
    >>> recognise_table(io.BytesIO(b"\\x1f\\x8b"), "a.csv")
    Traceback (most recent call last):
        ...
    detectime.labels.tables.TableError: a.csv: this is not a csv file but compressed by gzip; decompress it (`gunzip`)
    """
    head = file.read(_HEAD)
    file.seek(0)
    where = os.fspath(path)
    if head.startswith(_PARQUET):
        return "parquet"
    for start, what in _OTHER_FILES:
        if head.startswith(start):
            raise TableError(f"{where}: this is not a csv file but {what}")
    if _WEB_PAGE.match(head):
        raise TableError(f"{where}: this is not a csv file but a web page; download the file itself")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text and len(head) < _HEAD:
        raise TableError(f"{where}: this file is empty; set `labels` to the csv with the labels")
    if text.startswith(b"<?xml"):
        raise TableError(
            f"{where}: this is XML, not a csv file; if it holds annotations of CVAT, give it the ending .xml, and for "
            "those of VOC set `labels` to their folder"
        )
    if text.startswith((b"{", b"[")):
        raise TableError(
            f"{where}: this is JSON, not a csv file; if it holds annotations, set `labels_type` to their format, as "
            "coco, or `labels` to the folder of HaGRID's"
        )
    return "csv"


def hash_text(file: CsvFile, path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file of text in hexadecimal.

    Raises
    ------
    TableError
        If there is a null byte, at which pandas would cut a value.

    Examples
    --------
    >>> hash_text(io.BytesIO(b""), "labels.csv")[:16]
    'e3b0c44298fc1c14'
    """
    digest, position = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        if (null := chunk.find(b"\0")) >= 0:
            raise TableError(
                f"{os.fspath(path)}: this is not text: byte {position + null} is a null; if the file is not damaged, "
                "save it as csv, in UTF-8"
            )
        digest.update(chunk)
        position += len(chunk)
    return digest.hexdigest()


class Header(NamedTuple):
    """The header of a csv file.

    Attributes
    ----------
    names
        Of the columns, without surrounding blanks.
    separator
        A comma, a semicolon, a tab or a vertical bar.
    skipped
        How many lines precede it: one if that states the separator, as Excel does.
    """

    names: list[str]
    separator: str
    skipped: int = 0


def read_header(file: CsvFile, path: object) -> Header:
    """Read the header of a csv file.

    Raises
    ------
    TableError
        If the first line cannot be parsed, or is a comment.
    UnicodeDecodeError
        If it is not in UTF-8.

    Examples
    --------
    >>> read_header(io.BytesIO(b"file;start; end ;class\\n"), "spans.csv")
    Header(names=['file', 'start', 'end', 'class'], separator=';', skipped=0)
    """
    headers: list[Header] = []
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        first = text.readline()
        skipped = int(bool(_SEPARATOR_LINE.fullmatch(first)))
        if first.startswith("#"):
            raise TableError(f"{path}: the first line, {shorten_text(first.strip())}, is a comment; remove it")
        for separator in SEPARATORS:
            text.seek(0)
            with contextlib.suppress(csv.Error):
                lines = (row for row in csv.reader(itertools.islice(text, skipped, None), delimiter=separator) if row)
                names = [name.strip() for name in next(lines, [])]  # a quoted name may contain line breaks
                headers.append(Header(names, separator, skipped))
    finally:
        text.detach()
    if not headers:
        raise TableError(f"{path}: not a csv file: the first line cannot be parsed")
    # A name may contain the other separator, even several times.
    return max(headers, key=lambda header: (_count_known(header.names), len(header.names)))


def _count_known(names: Sequence[str]) -> int:
    return len(_KNOWN_COLUMNS.intersection(map(normalize_column, names)))


def find_short_rows(file: CsvFile, header: Header) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a csv that have fewer values than the header, counted from 1, with their values.

    Examples
    --------
    >>> file = io.BytesIO(b"a,b\\n1,2\\n3\\n")
    >>> list(find_short_rows(file, read_header(file, "a.csv")))
    [(2, ['3'])]
    """
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        lines = (
            row for row in csv.reader(itertools.islice(text, header.skipped, None), delimiter=header.separator) if row
        )
        yield from ((row, fields) for row, fields in enumerate(lines) if row and len(fields) < len(header.names))
    finally:
        text.detach()


def explain_break(file: CsvFile, header: Header, reason: str) -> str:
    """Say which row of a csv has too many values, or opens a quote that is never closed.

    Parameters
    ----------
    file, header
        What `read_header` took and returned.
    reason
        What pandas said of it.

    Examples
    --------
    >>> explain_break(io.BytesIO(b"a,b\\n1,2\\n1,2,3\\n"), Header(["a", "b"], ","), "").split(";")[0]
    "row 2 (row 1 follows the header) has 3 values, the header 2: '1', '2', '3'"
    """
    names, separator, _ = header
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    fields: list[str] = []
    row = -1  # of the header
    try:
        for fields in csv.reader(itertools.islice(text, header.skipped, None), delimiter=separator):
            row += bool(fields)  # pandas skips empty lines too
            if len(fields) > len(names):
                break
    except csv.Error as error:
        return f"row {row + 1} (row 1 follows the header) cannot be parsed: {error}"
    finally:
        text.detach()
    if len(fields) > len(names) and not any(fields[len(names) :]):
        return f"rows end with {separator!r} behind their last value, the header does not; remove it there"
    if len(fields) > len(names) == 1:
        what = shorten_text(names[0])
        return f"the first line, {what}, is no header of {len(fields)} columns; remove what stands above the header"
    if len(fields) > len(names):
        shown = ", ".join(shorten_text(value) for value in fields[:_MAX_SHOWN])
        return (
            f"row {row} (row 1 follows the header) has {len(fields)} values, the header {len(names)}: {shown}; put a "
            f"value that contains {separator!r} into double quotes"
        )
    if "EOF inside string" in reason:
        shown = shorten_text(fields[-1]) if fields else ""
        return (
            f"row {row} (row 1 follows the header) opens a quote that is never closed: {shown}; close it, or remove it"
        )
    return f"not a csv file: {' '.join(reason.split())}"
