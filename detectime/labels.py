"""A csv of labels: text, of which each wrong row is named."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import remote

_SHOWN = 20  # rows, or names, that a message names
_MADE_HERE = re.compile(
    "label|on_disk|wanted|outcome|error|width|height|faces|hands|true_hands|overlap|fallback|found_by|(face|hand|bbox)_(x1|y1|x2|y2|score)"
)


class TableError(ValueError):
    """A frame table that cannot be used; the message names the rows and the remedy."""


def columns(path: str | os.PathLike[str]) -> list[str]:
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
        Its columns, all text.

    Raises
    ------
    TableError
        If the file cannot be read, lacks a column or has one twice, or has no rows.
    """
    with _faults_of_the_file(path):
        names, separator = _header(path)
        _check_names(names, needed, path)
        with warnings.catch_warnings(), _opened(path) as file:
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops surplus fields and only warns
            rows = pd.read_csv(
                file, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False
            )
    if rows.empty:
        raise TableError(f"{path}: the table has no rows")
    return rows.rename(columns=str.strip)


def kept_as(name: str) -> str:
    """Name of a column of the csv in the frame table: another if one of that name is made here or in pairing."""
    return f"{name}_in_csv" if _MADE_HERE.fullmatch(name) else name


def refuse(
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
    """Refuse a table, as `refuse`, of whose rows each has a reason of its own.

    Parameters
    ----------
    rows, shown, path
        As those of `refuse`.
    reasons
        What is wrong with the wrong rows, by their places in the table.

    Raises
    ------
    TableError
        If a row is wrong.
    """
    _refuse(rows, sorted(reasons), reasons.__getitem__, shown, path)


def short(value: str, length: int = 80) -> str:
    """Text as Python would write it, so that no control character reaches a terminal, cut in the middle if long."""
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[: length // 2]}…{shown[-length // 2 :]}"


def some(names: Sequence[str], count: int | None = None) -> str:
    """Text that lists names: the first of them, and how many more there are of `count`, or of those given."""
    listed = ", ".join(short(name) for name in names[:_SHOWN])
    more = (len(names) if count is None else count) - _SHOWN
    return f"{listed} and {more} more" if more > 0 else listed


def unlisted(names: pa.Array, listed: pa.Array) -> dict[Hashable, Any]:
    """Say which files of a source a frame table does not name.

    Parameters
    ----------
    names
        The files that the source has, as binary.
    listed
        The files that the table names, as binary.

    Returns
    -------
    dict
        For the table's ``attrs``: `unlisted`, how many they are, and `unlisted_names`, the first twenty by name.
    """
    others = names.filter(pc.invert(pc.is_in(names, value_set=listed)))
    first = others.take(pc.bottom_k_unstable(others, k=min(_SHOWN, len(others))))
    return {"unlisted": len(others), "unlisted_names": [os.fsdecode(name) for name in first.to_pylist()]}


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
        values = ", ".join(f"{column}={short(rows[column].iloc[row])}" for column in shown)
        lines.append(f"  row {rows.index[row] + 1}: {reason(row)} ({values})")
    more = len(wrong) - len(lines)
    if more:
        lines.append(f"  and {more} more")
    # The last line is what papermill and a terminal leave in sight.
    lines.insert(0, f"{path}: wrong rows of the frame table (row 1 follows the header):")
    lines.append(f"{path}: {len(wrong)} rows of the frame table are wrong; the first is{lines[1][1:]}")
    raise TableError("\n".join(lines))


def _header(path: str | os.PathLike[str]) -> tuple[list[str], str]:
    with _opened(path) as file:
        line = io.TextIOWrapper(file, encoding="utf-8-sig", newline="").readline()
    if line.startswith("{"):
        raise TableError(f"{path}: these look like HaGRID's annotations: give their folder as `labels`")
    separator = ";" if line.count(";") > line.count(",") else ","
    return [name.strip() for name in next(csv.reader([line], delimiter=separator), [])], separator


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    if not remote.is_remote(str(path)):
        return open(path, "rb")
    try:
        return io.BytesIO(remote.read(str(path)))
    except OSError as error:
        if remote.is_folder(str(path)):
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
        raise TableError(f"{path}: the labels cannot be read: {remote.reason(error)}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: the labels are not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise TableError(f"{path}: this is not a csv file: {' '.join(str(error).split())}") from error


def _check_names(names: Sequence[str], needed: Sequence[str], path: object) -> None:
    """Refuse a file that lacks a column, or has one twice."""
    for column in needed:
        if column not in names:
            there = ", ".join(short(name) for name in names[:_SHOWN])
            raise TableError(f"{path}: the column {column} is missing; the file has {there or 'none'}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TableError(f"{path}: the column {short(twice[0])} is there twice; rename one")
