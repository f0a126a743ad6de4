"""A csv of labels: text, of which each wrong row is named."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import os
import warnings
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from detectime.notes import Note, note_found, shorten_text
from detectime.schema import RESERVED_COLUMNS
from detectime.storage import urls

_SHOWN = 20  # rows, or names, that a message names
_EXPECTED = {"frame_path", "video_name", "frame_id", "class_name", "file", "start", "end", "class"}  # columns


class TableError(ValueError):
    """A frame table that cannot be used; the message names the rows and the remedy."""


def read_columns(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of a csv file's columns.

    Raises
    ------
    TableError
        If the file cannot be read.
    """
    with _faults_of_the_file(path):
        return _header(path)[0]


def read_csv(path: str | os.PathLike[str], needed: Sequence[str]) -> pd.DataFrame:
    """Read a csv file in UTF-8.

    Parameters
    ----------
    path
        The file.
    needed
        Columns that it must have.

    Returns
    -------
    DataFrame
        Its columns, all text, by their names without blanks around them. ``attrs`` holds `labels_sha256`, the SHA-256
        of the file in hexadecimal.

    Raises
    ------
    TableError
        If the file cannot be read, lacks a column or has one twice, or has no rows.
    """
    with _faults_of_the_file(path):
        names, separator = _header(path)
        _check_names(names, needed, path)
        with warnings.catch_warnings(), _opened(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops surplus fields and only warns
            rows = pd.read_csv(
                file, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False
            )
    if rows.empty:
        raise TableError(f"{path}: the table has no rows")
    if len(rows.columns) != len(names):
        raise TableError(f"{path}: the header has {len(names)} columns, and the rows have {len(rows.columns)}")
    rows.columns = pd.Index(names)  # pandas has names of its own for some, such as empty ones
    rows.attrs = {"labels_sha256": sha256}
    return rows


def hash_labels(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file of labels in hexadecimal.

    Raises
    ------
    TableError
        If the file cannot be read.
    """
    with _faults_of_the_file(path), _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rename_reserved(names: Sequence[str], reserved: Collection[str] = RESERVED_COLUMNS) -> dict[str, str]:
    """Find other names for columns of labels that are called as columns that detectime adds.

    Parameters
    ----------
    names
        All columns of the labels, each once.
    reserved
        Names that they may not have.

    Returns
    -------
    dict
        The columns to rename, in their order, and their new names, which no other column has.

    Examples
    --------
    >>> rename_reserved(["frame_path", "width", "height", "width_in_csv"])
    {'width': 'width_in_csv_2', 'height': 'height_in_csv'}
    """
    taken = {*names, *reserved}
    renamed = {}
    for name in names:
        if name in reserved:
            candidates = (f"{name}_in_csv{f'_{k}' if k > 1 else ''}" for k in itertools.count(1))
            renamed[name] = next(candidate for candidate in candidates if candidate not in taken)
            taken.add(renamed[name])
    return renamed


def note_renamed(renamed: Mapping[str, str]) -> list[Note]:
    """Return a note about columns that `rename_reserved` has renamed.

    Examples
    --------
    >>> print(*note_renamed({"width": "width_in_csv"}))
    1 column of the labels was renamed, since detectime adds one of that name (the first: 'width -> width_in_csv')
    """
    one = "column of the labels was renamed, since detectime adds one of that name"
    many = "columns of the labels were renamed, since detectime adds columns of those names"
    return note_found("renamed", [f"{name} -> {new}" for name, new in renamed.items()], one, many)


def refuse_rows(
    rows: pd.DataFrame, faults: Mapping[str, pd.Series], shown: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Refuse a table if a row is wrong, naming the first twenty with what is wrong with each.

    Parameters
    ----------
    rows
        The table; its index counts the rows of the file from 0.
    faults
        What may be wrong with a row, in words, and for each row whether it is.
    shown
        Columns whose values are shown.
    path
        The file.

    Raises
    ------
    TableError
        If a row is wrong.
    """
    wrong = np.logical_or.reduce([np.zeros(len(rows), bool), *(fault.to_numpy(bool) for fault in faults.values())])

    def reason(row: int) -> str:
        return "; ".join(words for words, fault in faults.items() if fault.iloc[row])

    _refuse(rows, np.flatnonzero(wrong).tolist(), reason, shown, path)


def refuse_each(
    rows: pd.DataFrame, reasons: Mapping[int, str], shown: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Refuse a table, as `refuse_rows`, of whose rows each has a reason of its own.

    Parameters
    ----------
    rows, shown, path
        As those of `refuse_rows`.
    reasons
        What is wrong with the wrong rows, by their places in the table.

    Raises
    ------
    TableError
        If a row is wrong.
    """
    _refuse(rows, sorted(reasons), reasons.__getitem__, shown, path)


def list_some(names: Sequence[str], count: int | None = None) -> str:
    """Text that lists names: the first of them, and how many more there are of `count`, or of those given."""
    listed = ", ".join(shorten_text(name) for name in names[:_SHOWN])
    more = (len(names) if count is None else count) - _SHOWN
    return f"{listed} and {more} more" if more > 0 else listed


def count_repeated(repeated: Sequence[str] | pd.Series = ()) -> dict[Hashable, Any]:
    """Return `duplicates` and `first_duplicate` for the ``attrs`` of a frame table, of frames whose rows were dropped.

    Examples
    --------
    >>> count_repeated(["a.jpg", "b.jpg"])
    {'duplicates': 2, 'first_duplicate': 'a.jpg'}
    """
    return {"duplicates": len(repeated), "first_duplicate": next(map(str, repeated), None)}


def _refuse(
    rows: pd.DataFrame,
    wrong: Sequence[int],
    reason: Callable[[int], str],
    shown: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    if not wrong:
        return
    lines = []
    for row in wrong[:_SHOWN]:
        values = ", ".join(f"{column}={shorten_text(rows[column].iloc[row])}" for column in shown)
        lines.append(f"  row {rows.index[row] + 1}: {reason(row)} ({values})")
    more = len(wrong) - len(lines)
    if more:
        lines.append(f"  and {more} more")
    # The last line is what papermill and a terminal leave in sight.
    lines.insert(0, f"{path}: wrong rows of the frame table (row 1 follows the header):")
    lines.append(f"{path}: {len(wrong)} rows of the frame table are wrong; the first is{lines[1][1:]}")
    raise TableError("\n".join(lines))


def _header(path: str | os.PathLike[str]) -> tuple[list[str], str]:
    """Return the names of a csv file's columns without blanks around them, and what separates its fields."""
    headers: list[tuple[list[str], str]] = []
    with _opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        if text.readline().startswith("{"):
            raise TableError(f"{path}: these look like HaGRID's annotations: give their folder as `labels`")
        for separator in ",;":
            text.seek(0)
            with contextlib.suppress(csv.Error):
                row = next(csv.reader(text, delimiter=separator), [])  # a name in quotes may go on in further lines
                headers.append(([name.strip() for name in row], separator))
    if not headers:
        raise TableError(f"{path}: this is not a csv file: its first line cannot be read")
    # A name may hold the other separator, even often.
    return max(headers, key=lambda header: (len(_EXPECTED.intersection(header[0])), len(header[0])))


def _opened(path: str | os.PathLike[str]) -> io.BufferedReader | io.BytesIO:
    if not urls.is_remote(str(path)):
        return open(path, "rb")
    try:
        return io.BytesIO(urls.read_url(str(path)))
    except OSError as error:
        if urls.is_remote_folder(str(path)):
            raise TableError(
                f"{path}: a folder of labels cannot be read in a bucket; bring the annotations here"
            ) from error
        raise


@contextlib.contextmanager
def _faults_of_the_file(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TableError(f"{path}: there is no such file; give the csv of the labels as `labels`") from error
    except OSError as error:
        raise TableError(f"{path}: the labels cannot be read: {urls.describe_error(error)}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: the labels are not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise TableError(f"{path}: this is not a csv file: {' '.join(str(error).split())}") from error


def _check_names(names: Sequence[str], needed: Sequence[str], path: object) -> None:
    """Refuse a file that lacks a column, or has one twice."""
    for column in needed:
        if column not in names:
            there = ", ".join(shorten_text(name) for name in names[:_SHOWN])
            raise TableError(f"{path}: the column {column} is missing; the file has {there or 'none'}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TableError(f"{path}: the column {shorten_text(twice[0])} is there twice; rename one")
