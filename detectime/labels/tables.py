"""Tables of labels: their faults, and how those with wrong rows are refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from detectime.errors import DocumentedError
from detectime.labels.class_names import ClassNames
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import RESERVED_COLUMNS

_MAX_SHOWN = 20  # rows or names that a message lists


class TableError(DocumentedError, ValueError):
    """A table of labels that cannot be used; the message names the wrong rows and the remedy."""


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


def strip_current_folder(rows: pd.DataFrame, column: str) -> list[Note]:
    """Leave out ``./`` in front of paths, as ``find .`` writes it, in place; note how many had it.

    Parameters
    ----------
    rows
        A table with text columns.
    column
        That of the paths.

    Examples
    --------
    >>> rows = pd.DataFrame({"file": ["./a.mp4", "b.mp4"]})
    >>> print(*strip_current_folder(rows, "file"))
    1 file begins with ./, which is left out (the first: './a.mp4')
    >>> rows["file"].tolist()
    ['a.mp4', 'b.mp4']
    """
    has_it = rows[column].str.startswith("./")
    if not has_it.any():
        return []
    first = str(rows.loc[has_it, column].iloc[0])
    rows[column] = rows[column].str.replace(r"^(?:\./)+", "", regex=True)
    count = int(has_it.sum())
    begin = f"{column} begins" if count == 1 else f"{column}s begin"
    return [Note("current_folder", count, f"{begin} with ./, which is left out", first)]


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
    >>> rows = pd.DataFrame({"file": ["../a.mp4", "b.mp4"], "class_name": ["ok", "fist"]})
    >>> for fault, rows_with_it in find_faults(rows, "file", {"ok": 4}).items():
    ...     print(f"{rows_with_it.tolist()} {fault}")
    [False, False] the file is empty
    [False, False] the file is absolute; it must be relative to the images folder
    [True, False] the file has a part `..` or `.`; write it without, relative to the images folder
    [False, False] the file has an empty part
    [False, True] the class_name is not a label; accepted: ok, or add it to `labels` in config.yml
    """
    paths, name = rows[path_column], path_column
    # One pass over a whole column per fault: a table may have a million rows.
    faults = {
        f"the {name} is empty": paths == "",
        f"the {name} is absolute; it must be relative to the images folder": paths.str.startswith("/"),
        f"the {name} has a part `..` or `.`; write it without, relative to the images folder": paths.str.contains(
            r"(?:^|/)\.{1,2}(?:/|$)", regex=True
        ),
        f"the {name} has an empty part": paths.str.contains("//", regex=False) | paths.str.endswith("/"),
    }
    if "video_name" in rows:
        faults["the video_name is empty"] = rows["video_name"].str.strip() == ""
    is_unknown = ~rows["class_name"].isin(list(labels))
    first = rows["class_name"].iloc[int(is_unknown.to_numpy().argmax())] if is_unknown.any() else ""
    accepted = f"accepted: {', '.join(labels)}, or add it to `labels` in config.yml"
    unknown_class = f"the class_name is not a label; {accepted}{ClassNames(labels).ask(first)}"
    return faults | {unknown_class: is_unknown}


def refuse_rows(rows: pd.DataFrame, faults: Mapping[str, pd.Series], shown: Sequence[str], where: str) -> None:
    """Refuse a table that has wrong rows; the message lists the first twenty, each with its faults.

    Parameters
    ----------
    rows
        The table; its index counts the rows of the file from 0.
    faults
        Each fault, as a phrase, and for each row whether it has it (bool).
    shown
        Columns whose values the message shows.
    where
        What messages call the table: its file.

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

    _refuse_positions(rows, np.flatnonzero(is_wrong).tolist(), describe_faults, shown, where)


def refuse_rows_with_reasons(rows: pd.DataFrame, reasons: Mapping[int, str], shown: Sequence[str], where: str) -> None:
    """Refuse a table that has wrong rows, like `refuse_rows`, where each row has a reason of its own.

    Parameters
    ----------
    rows, shown, where
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
    _refuse_positions(rows, sorted(reasons), reasons.__getitem__, shown, where)


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


def _format_value(value: Any) -> str:
    return shorten_text(value) if isinstance(value, str) else str(value)


def _refuse_positions(
    rows: pd.DataFrame,
    wrong: Sequence[int],
    describe: Callable[[int], str],
    shown: Sequence[str],
    where: str,
) -> None:
    if not wrong:
        return
    lines = []
    previous = ""
    for row in wrong[:_MAX_SHOWN]:
        values = ", ".join(f"{column}={_format_value(rows[column].iloc[row])}" for column in shown)
        fault = describe(row)
        text = fault.partition("; accepted")[0] if fault == previous else fault  # the list of labels is told once
        lines.append(f"  row {rows.index[row] + 1}: {text} ({values})")
        previous = fault
    more = len(wrong) - len(lines)
    if more:
        lines.append(f"  and {more} more")
    lines.insert(0, f"{where}: wrong rows (row 1 follows the header):")
    # A terminal and papermill leave the last line visible.
    count = "1 row is" if len(wrong) == 1 else f"{len(wrong)} rows are"
    lines.append(f"{where}: {count} wrong; the first is {lines[1].lstrip()}")
    raise TableError("\n".join(lines))
