"""``split.csv``: the part of each group, one row per group. People may edit it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from detectime.detection.manifest import format_file_time, format_now
from detectime.errors import DocumentedError
from detectime.notes import shorten_text
from detectime.storage.store import Store, rename_to_free_name

FILE_NAME = "split.csv"
COLUMNS = ("video_name", "split")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")
_ACCEPTED = "a word of up to 40 letters, digits, _ and -, such as train"
_REMEDY = "correct it, or rename the file and make the split again"


class SplitError(DocumentedError, ValueError):
    """A split that cannot be made, read or used, or that leaks; the message names the groups and the remedy."""


def write_split(store: Store, split: pd.DataFrame) -> None:
    """Write ``split.csv`` atomically, in UTF-8.

    Parameters
    ----------
    store
        The folder of the run.
    split
        One row per group: `video_name`, any text, and `split`.

    Raises
    ------
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_split(store, pd.DataFrame({"video_name": ["007", "a,b"], "split": ["train", "test"]}))
    ...     print(store.get("split.csv").decode(), end="")
    video_name,split
    007,train
    "a,b",test
    """
    rows = zip(split["video_name"], split["split"], strict=True)
    lines = [encode_row(*COLUMNS), *(encode_row(name, part) for name, part in rows)]
    store.put(FILE_NAME, "".join(f"{line}\n" for line in lines).encode())


def update_split(store: Store, split: pd.DataFrame, earlier: pd.DataFrame | None) -> tuple[list[str], str | None]:
    """Write a split, and lose nothing of a ``split.csv`` that a person may have edited.

    If no group changes its part, rows of new groups are appended to the file, whose other rows and columns stay as they
    are; without new groups it is not touched. Otherwise it is renamed to ``split.<time>.csv``.

    Parameters
    ----------
    store
        The folder of the run.
    split
        One row per group: `video_name` and `split`.
    earlier
        What `read_split` returned.

    Returns
    -------
    moved
        Groups of `earlier` that have another part in `split`, or none.
    kept
        The name of the file with their earlier parts; None if there are no such groups.

    Raises
    ------
    StoreError
        If a file cannot be written or renamed.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put("split.csv", b"split;remark;video_name\\ntrain;good light;a\\n")
    ...     split = pd.DataFrame({"video_name": ["a", "b"], "split": ["train", "test"]})
    ...     moved, kept = update_split(store, split, read_split(store))
    ...     print(store.get("split.csv").decode(), end="")
    split;remark;video_name
    train;good light;a
    test;;b
    """
    if earlier is None:
        write_split(store, split)
        return [], None
    parts = dict(zip(split["video_name"], split["split"], strict=True))
    known = dict(zip(earlier["video_name"], earlier["split"], strict=True))
    moved = [name for name, part in known.items() if parts.get(name) != part]
    if moved:
        kept = rename_to_free_name(store, FILE_NAME, f"split.{format_file_time(format_now())}", ".csv")
        write_split(store, split)
        return moved, kept
    new = {name: part for name, part in parts.items() if name not in known}
    if new:
        store.put(FILE_NAME, _append_rows(store.get(FILE_NAME) or b"", new))
    return [], None


def read_split(store: Store) -> pd.DataFrame | None:
    """Read ``split.csv``, or return None if there is none.

    Semicolons, as spreadsheets write, and further columns are accepted; a row may be repeated.

    Parameters
    ----------
    store
        The folder of the run.

    Returns
    -------
    DataFrame
        One row per group, in the order of the file: `video_name` and `split` (text).

    Raises
    ------
    SplitError
        If it is not such a table, a part has no valid name, or a group is in two parts; the message names the line.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put("split.csv", b"video_name,split\\n007,train\\nNA,test\\n")
    ...     read_split(store).values.tolist()
    [['007', 'train'], ['NA', 'test']]
    """
    content = store.get(FILE_NAME)
    if content is None:
        return None
    place = f"{store}/{FILE_NAME}"
    found: dict[str, tuple[str, int]] = {}
    for line, name, part in _read_rows(content, place):
        check_part_name(part, f"{place}, line {line}: group {shorten_text(name)}")
        known, first = found.setdefault(name, (part, line))
        if known != part:
            raise SplitError(
                f"{place}: group {shorten_text(name)} is in {known} (line {first}) and in {part} (line {line}); a "
                "group belongs in one part: delete one of both lines"
            )
    split = pd.DataFrame({"video_name": list(found), "split": [part for part, _ in found.values()]}, dtype=str)
    check_case(split["split"], place)
    return split


def hash_split(store: Store) -> str | None:
    """Return the SHA-256 of ``split.csv`` in hexadecimal digits, None if there is none: who edits it changes it.

    Raises
    ------
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     hash_split(open_store(folder)) is None
    True
    """
    content = store.get(FILE_NAME)
    return None if content is None else hashlib.sha256(content).hexdigest()


def check_names(split: pd.DataFrame, groups: Iterable[str]) -> None:
    """Refuse groups of a split that a run lacks, if it has a group which differs only by blanks or case.

    Parameters
    ----------
    split
        What `read_split` returned.
    groups
        The `video_name` of frames of the run, also several times.

    Raises
    ------
    SplitError
        If there are such.

    Examples
    --------
    >>> check_names(pd.DataFrame({"video_name": ["Anna "], "split": "train"}), ["anna", "ben"])
    Traceback (most recent call last):
    detectime.splits.split_file.SplitError: split.csv: the run has no group 'Anna ', but 'anna'; correct the name
    """
    found = set(groups)
    alike = {_fold_name(name): name for name in found - set(split["video_name"])}
    for name in split["video_name"]:
        if name not in found and _fold_name(name) in alike:
            other = shorten_text(alike[_fold_name(name)])
            raise SplitError(f"{FILE_NAME}: the run has no group {shorten_text(name)}, but {other}; correct the name")


def encode_row(name: str, part: str) -> str:
    """Return a row of ``split.csv`` without its end.

    Examples
    --------
    >>> encode_row("a,b", "train")
    '"a,b",train'
    """
    return f"{_encode_name(name)},{part}"


def check_part_name(part: object, place: str) -> None:
    """Refuse a name of a part that could not be the name of a folder.

    Parameters
    ----------
    part
        The name.
    place
        Where it stands, for the message.

    Raises
    ------
    SplitError
        If it is refused.

    Examples
    --------
    >>> check_part_name("train", "shares")
    >>> check_part_name("", "shares")
    Traceback (most recent call last):
    detectime.splits.split_file.SplitError: shares: the part is empty; accepted: a word of up to 40 letters, digits, \
_ and -, such as train
    """
    if not isinstance(part, str) or not _PART.fullmatch(part):
        is_empty = part is None or part == "" or part != part
        what = "the part is empty" if is_empty else f"part {shorten_text(str(part))}"
        raise SplitError(f"{place}: {what}; accepted: {_ACCEPTED}")


def check_case(parts: Iterable[str], place: str) -> None:
    """Refuse parts whose names differ in case only: their folders would be one on some disks.

    Raises
    ------
    SplitError
        If there are such.

    Examples
    --------
    >>> check_case(["train", "test", "train"], "split.csv")
    """
    names: dict[str, str] = {}
    for part in parts:
        other = names.setdefault(part.lower(), part)
        if other != part:
            raise SplitError(f"{place}: parts {other} and {part} differ in case only; write both the same way")


def _encode_name(name: str) -> str:
    is_plain = name and not re.search(r'[",;\r\n\ufeff]|^\s|\s$', name)
    return name if is_plain else f'"{name.replace(chr(34), chr(34) * 2)}"'


def _fold_name(name: str) -> str:
    return " ".join(name.split()).casefold()


def _append_rows(content: bytes, parts: Mapping[str, str]) -> bytes:
    """Append rows of groups to a table, in the order of its columns; further columns are empty."""
    text = content.decode("utf-8-sig")
    separator = _find_separator(text)
    header = [name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))]
    found = re.search(r"\r\n|\r|\n", text)
    end = found.group() if found else "\n"
    rows = ({"video_name": _encode_name(name), "split": part} for name, part in parts.items())
    lines = "".join(f"{separator.join(row.get(column, '') for column in header)}{end}" for row in rows)
    return content + ("" if content.endswith((b"\n", b"\r")) else end).encode() + lines.encode()


def _find_separator(text: str) -> str:
    return ";" if text.partition("\n")[0].count(";") else ","


def _read_rows(content: bytes, place: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, group and part of each row."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SplitError(f"{place}: {error}; save it as CSV in UTF-8") from error
    try:
        separator = _find_separator(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, place)
        name, part = map(header.index, COLUMNS)
        for row in reader:
            if row and len(row) != len(header):
                raise SplitError(
                    f"{place}, line {reader.line_num}: {len(row)} fields instead of {len(header)}; names with commas "
                    f"stand in quotes; {_REMEDY}"
                )
            if row:
                yield reader.line_num, row[name], row[part].strip()
    except csv.Error as error:
        raise SplitError(f"{place}, line {reader.line_num}: {error}; {_REMEDY}") from error


def _check_header(header: list[str], place: str) -> None:
    for column in COLUMNS:
        if header.count(column) != 1:
            what = "has no column" if column not in header else "has several columns"
            shown = ", ".join(header)
            raise SplitError(
                f"{place}: the table {what} {column}; accepted: {','.join(COLUMNS)}; its first line: {shown}"
            )
