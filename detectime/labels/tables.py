"""Reading csv files of labels, and refusing those with wrong rows."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from detectime.errors import DocumentedError
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import RESERVED_COLUMNS
from detectime.storage import urls

_MAX_SHOWN = 20  # rows or names that a message lists
_KNOWN_COLUMNS = {"frame_path", "video_name", "frame_id", "class_name", "file", "start", "end", "class"}


class TableError(DocumentedError, ValueError):
    """A table of labels that cannot be used; the message names the wrong rows and the remedy."""


def read_columns(path: str | os.PathLike[str]) -> list[str]:
    """Return the column names of a csv file.

    Raises
    ------
    TableError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
    ...     _ = file.write(b"file;start; end ;class\\nanna.mp4;1;2;ok\\n")
    ...     file.flush()
    ...     read_columns(file.name)
    ['file', 'start', 'end', 'class']
    """
    with _explain_file_errors(path):
        return _read_header(path)[0]


def read_csv(path: str | os.PathLike[str], needed: Sequence[str]) -> pd.DataFrame:
    """Read a csv file in UTF-8, separated by commas or semicolons.

    Parameters
    ----------
    path
        The file.
    needed
        Columns that it must have.

    Returns
    -------
    DataFrame
        All columns as text; surrounding blanks are stripped from their names. ``attrs`` holds `labels_sha256`, the
        SHA-256 of the file in hexadecimal.

    Raises
    ------
    TableError
        If the file cannot be read, has no rows, lacks a column or has one twice.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
    ...     _ = file.write(b"frame_path,class_name\\na.jpg,ok\\n")
    ...     file.flush()
    ...     read_csv(file.name, ["class_name"]).to_dict("records")
    [{'frame_path': 'a.jpg', 'class_name': 'ok'}]
    """
    with _explain_file_errors(path):
        names, separator = _read_header(path)
        _check_column_names(names, needed, path)
        with warnings.catch_warnings(), _open_file(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops surplus fields and only warns
            rows = pd.read_csv(
                file, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False
            )
    if rows.empty:
        raise TableError(f"{path}: the table has no rows")
    if len(rows.columns) != len(names):
        raise TableError(f"{path}: the header has {len(names)} columns, but the rows have {len(rows.columns)}")
    rows.columns = pd.Index(names)  # pandas renames some, such as empty ones
    rows.attrs = {"labels_sha256": sha256}
    return rows


def hash_labels(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file of labels in hexadecimal.

    Raises
    ------
    TableError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
    ...     hash_labels(file.name)[:16]
    'e3b0c44298fc1c14'
    """
    with _explain_file_errors(path), _open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rename_reserved_columns(
    rows: pd.DataFrame, reserved: Collection[str] = RESERVED_COLUMNS
) -> tuple[pd.DataFrame, list[Note]]:
    """Rename columns of the labels whose names detectime uses itself, and note which: see `map_reserved_columns`.

    Examples
    --------
    >>> rows, notes = rename_reserved_columns(pd.DataFrame({"frame_path": ["a.jpg"], "width": ["640"]}))
    >>> list(rows.columns)
    ['frame_path', 'width_in_csv']
    >>> print(*notes)
    1 column of the labels was renamed, since detectime adds one of that name (the first: 'width -> width_in_csv')
    """
    renamed = map_reserved_columns(list(rows.columns), reserved)
    one = "column of the labels was renamed, since detectime adds one of that name"
    many = "columns of the labels were renamed, since detectime adds columns of those names"
    notes = note_found("renamed", [f"{name} -> {new}" for name, new in renamed.items()], one, many)
    return rows.rename(columns=renamed), notes


def map_reserved_columns(names: Sequence[str], reserved: Collection[str] = RESERVED_COLUMNS) -> dict[str, str]:
    """Map each reserved column name to a new one that no other column has.

    Parameters
    ----------
    names
        All columns of the labels, each once.
    reserved
        Names that they must not have.

    Examples
    --------
    >>> map_reserved_columns(["frame_path", "width", "height", "width_in_csv"])
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


def find_faults(rows: pd.DataFrame, path_column: str, labels: Mapping[str, int]) -> dict[str, pd.Series]:
    """Find the faults that rows of any csv of labels can have, for `refuse_rows`.

    Parameters
    ----------
    rows
        Text columns: `path_column`, `class_name` and perhaps `video_name`.
    path_column
        The column of paths below the images folder.
    labels
        The vocabulary.

    Returns
    -------
    dict
        Each fault, as a phrase, and for each row whether it has it (bool).

    Examples
    --------
    >>> rows = pd.DataFrame({"file": ["../a.mp4", "b.mp4"], "class_name": ["ok", "okay"]})
    >>> for fault, rows_with_it in find_faults(rows, "file", {"ok": 4}).items():
    ...     print(f"{rows_with_it.tolist()} {fault}")
    [False, False] the file is empty
    [False, False] the file is absolute; it must be relative to the images folder
    [True, False] the file contains `..` or `.`; it must not leave the images folder
    [False, False] the file has an empty part
    [False, True] the class_name is not a label; accepted: ok, or add it to `labels` in config.yml
    """
    paths, name = rows[path_column], path_column
    # One pass over a whole column per fault: a table may have a million rows.
    faults = {
        f"the {name} is empty": paths == "",
        f"the {name} is absolute; it must be relative to the images folder": paths.str.startswith("/"),
        f"the {name} contains `..` or `.`; it must not leave the images folder": paths.str.contains(
            r"(?:^|/)\.{1,2}(?:/|$)", regex=True
        ),
        f"the {name} has an empty part": paths.str.contains("//", regex=False) | paths.str.endswith("/"),
    }
    if "video_name" in rows:
        faults["the video_name is empty"] = rows["video_name"] == ""
    unknown_class = f"the class_name is not a label; accepted: {', '.join(labels)}, or add it to `labels` in config.yml"
    return faults | {unknown_class: ~rows["class_name"].isin(list(labels))}


def refuse_rows(
    rows: pd.DataFrame, faults: Mapping[str, pd.Series], shown: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Refuse a table that has wrong rows; the message lists the first twenty, each with its faults.

    Parameters
    ----------
    rows
        The table; its index counts the rows of the file from 0.
    faults
        Each fault, as a phrase, and for each row whether it has it (bool).
    shown
        Columns whose values the message shows.
    path
        The file.

    Raises
    ------
    TableError
        If a row is wrong.

    Examples
    --------
    >>> rows = pd.DataFrame({"file": ["a.mp4", ""]})
    >>> refuse_rows(rows, {"the file is empty": rows["file"] == ""}, ["file"], "spans.csv")
    Traceback (most recent call last):
    detectime.labels.tables.TableError: spans.csv: wrong rows (row 1 follows the header):
      row 2: the file is empty (file='')
    spans.csv: 1 row is wrong; the first is row 2: the file is empty (file='')
    """
    is_wrong = np.logical_or.reduce([np.zeros(len(rows), bool), *(fault.to_numpy(bool) for fault in faults.values())])

    def describe_faults(row: int) -> str:
        return "; ".join(text for text, fault in faults.items() if fault.iloc[row])

    _refuse_positions(rows, np.flatnonzero(is_wrong).tolist(), describe_faults, shown, path)


def refuse_rows_with_reasons(
    rows: pd.DataFrame, reasons: Mapping[int, str], shown: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Refuse a table that has wrong rows, like `refuse_rows`, where each row has a reason of its own.

    Parameters
    ----------
    rows, shown, path
        As those of `refuse_rows`.
    reasons
        The positions of the wrong rows in the table, and what is wrong with each.

    Raises
    ------
    TableError
        If a row is wrong.

    Examples
    --------
    >>> refuse_rows_with_reasons(pd.DataFrame({"file": ["a.mp4"]}), {}, ["file"], "spans.csv")
    """
    _refuse_positions(rows, sorted(reasons), reasons.__getitem__, shown, path)


def format_names(names: Sequence[str]) -> str:
    """List names in a text: the first twenty, and how many more there are.

    Examples
    --------
    >>> format_names(["a.jpg", "b.jpg"])
    "'a.jpg', 'b.jpg'"
    """
    listed = ", ".join(shorten_text(name) for name in names[:_MAX_SHOWN])
    more = len(names) - _MAX_SHOWN
    return f"{listed} and {more} more" if more > 0 else listed


def _refuse_positions(
    rows: pd.DataFrame,
    wrong: Sequence[int],
    describe: Callable[[int], str],
    shown: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    if not wrong:
        return
    lines = []
    previous = ""
    for row in wrong[:_MAX_SHOWN]:
        values = ", ".join(f"{column}={shorten_text(rows[column].iloc[row])}" for column in shown)
        fault = describe(row)
        text = fault.partition("; accepted")[0] if fault == previous else fault  # the list of labels is told once
        lines.append(f"  row {rows.index[row] + 1}: {text} ({values})")
        previous = fault
    more = len(wrong) - len(lines)
    if more:
        lines.append(f"  and {more} more")
    lines.insert(0, f"{path}: wrong rows (row 1 follows the header):")
    # A terminal and papermill leave the last line visible.
    count = "1 row is" if len(wrong) == 1 else f"{len(wrong)} rows are"
    lines.append(f"{path}: {count} wrong; the first is {lines[1].lstrip()}")
    raise TableError("\n".join(lines))


def _read_header(path: str | os.PathLike[str]) -> tuple[list[str], str]:
    """Return the column names of a csv file, without surrounding blanks, and its separator."""
    headers: list[tuple[list[str], str]] = []
    with _open_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        if text.readline().startswith("{"):
            raise TableError(f"{path}: this looks like a file of HaGRID's annotations; set `labels` to their folder")
        for separator in ",;":
            text.seek(0)
            with contextlib.suppress(csv.Error):
                row = next(csv.reader(text, delimiter=separator), [])  # a quoted name may contain line breaks
                headers.append(([name.strip() for name in row], separator))
    if not headers:
        raise TableError(f"{path}: not a csv file: the first line cannot be parsed")
    # A name may contain the other separator, even several times.
    return max(headers, key=lambda header: (len(_KNOWN_COLUMNS.intersection(header[0])), len(header[0])))


def _open_file(path: str | os.PathLike[str]) -> io.BufferedReader | io.BytesIO:
    if not urls.is_remote(str(path)):
        return open(path, "rb")
    try:
        return io.BytesIO(urls.read_url(str(path)))
    except OSError as error:
        if urls.is_remote_folder(str(path)):
            raise TableError(
                f"{path}: a folder of labels cannot be read from a bucket; download it and set `labels` to the copy"
            ) from error
        raise


@contextlib.contextmanager
def _explain_file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; set `labels` to the csv with the labels") from error
    except OSError as error:
        raise TableError(f"{path}: the labels cannot be read: {urls.describe_error(error)}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: the labels are not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise TableError(f"{path}: not a csv file: {' '.join(str(error).split())}") from error


def _check_column_names(names: Sequence[str], needed: Sequence[str], path: object) -> None:
    """Refuse a file that lacks a column or has one twice."""
    for column in needed:
        if column not in names:
            present = ", ".join(shorten_text(name) for name in names[:_MAX_SHOWN])
            raise TableError(f"{path}: the column {column} is missing; the file has {present or 'none'}")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise TableError(f"{path}: the column {shorten_text(repeated[0])} appears twice; rename one of them")
