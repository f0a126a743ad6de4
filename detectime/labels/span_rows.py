"""The rows of a csv of spans: which columns are times, and which rows are refused."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from detectime.labels.span_columns import AmbiguousColumnsError, find_span_columns, is_measure, list_time_columns
from detectime.labels.table_files import (
    OTHER_SPELLING,
    LabelTable,
    describe_table,
    match_columns,
    read_columns,
    read_table,
)
from detectime.labels.tables import (
    TableError,
    find_faults,
    format_names,
    refuse_rows,
    refuse_rows_with_reasons,
    rename_reserved_columns,
)
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import RESERVED_COLUMNS
from detectime.sources.file_kinds import IMAGE_SUFFIXES

COLUMNS = ("file", "start", "end", "class_name")
"""Columns of the csv."""

_IMAGE_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".gif")
"""Suffixes that a `file` must not have: FFmpeg takes an image for a video of one frame. A GIF may move."""

TOLERANCE = 0.0005
"""Seconds: many files round the times of their frames to a millisecond."""

_CLASS_COLUMNS = ("class_name", "class")
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]+)?|PT[0-9.HMS]+|(?:[0-9]+h)?[0-9]+(?:m|')[0-9.]+(?:s|\")?"
_BOTH = r"\W*[0-9.]+\s*s?\s*(?:-|–|—|,|;|\||to)\s*[0-9.]+\s*s?\W*|.*start.*end.*"  # such as [0.5, 1.5]
_FRACTION = r"[0-9]*\.[0-9]+"
_SCALES = {"seconds": 1.0, "milliseconds": 0.001, "frames": 1.0}
_SECONDS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)?"
_FRAMES = r"(?:[0-9]{1,15}(?:\.0+)?)?"
_RESERVED = RESERVED_COLUMNS | {"frame_path", "frame_id"}
_IF_EMPTY = {"start": "0", "end": "inf"}


def read_rows(labels_csv: LabelTable) -> tuple[pd.DataFrame, str, list[Note]]:
    """Read a table of spans.

    Returns
    -------
    rows, unit, notes
        All columns as text, with the names in `COLUMNS`; what `start` and `end` are in, see
        `span_columns.SpanColumns`; and notes about renamed columns, and rows that cover whole files, whose `start` and
        `end` are empty.

    Raises
    ------
    TableError
        If it cannot be read, lacks a column, or has one that may be a time and is not understood.

    Examples
    --------
    >>> rows, unit, _ = read_rows(pd.DataFrame({"file": ["a.mp4"], "Start": [1], "End": [2.5], "class": ["ok"]}))
    >>> rows.to_dict("records"), unit
    ([{'file': 'a.mp4', 'start': '1', 'end': '2.5', 'class_name': 'ok'}], 'seconds')
    """
    names, where = read_columns(labels_csv), describe_table(labels_csv)
    class_name = choose_class_column(names)
    rows, notes = read_table(labels_csv, ("file", class_name))
    rows = rows.rename(columns={class_name: "class_name"})
    try:
        found = find_span_columns([str(name) for name in rows if name not in ("file", "class_name")])
        if found is None:
            _refuse_values(rows)
    except AmbiguousColumnsError as error:
        raise TableError(f"{where}: {error}") from error
    if found is None:
        rows, reserved = rename_reserved_columns(rows, _RESERVED)
        return rows.assign(start="", end=""), "seconds", [_note_whole_files(rows), *notes, *reserved]
    others = [name for name in list_time_columns(names) if name not in (found.start, found.end)]
    is_empty = (rows[[found.start, found.end]] == "").all(axis=None)
    if is_empty and (pair := _find_other_pair(others)) and (rows[pair] != "").any(axis=None):
        raise TableError(
            f"{where}: {found.start} and {found.end} are empty, but {format_names(pair)} may say when something is; "
            "rename the columns that hold the times to start and end, or remove the others"
        )
    one, many = "other column may be a time, and is kept", "other columns may be times, and are kept"
    notes += note_found("unused_times", others, one, many)
    renamed = {found.start: "start", found.end: "end"}
    changed = [f"{old} -> {new}" for old, new in renamed.items() if old != new]
    notes += note_found("other_spelling", changed, *OTHER_SPELLING)
    if found.unit != "seconds":
        zero = ", the first of which is 0" if found.unit == "frames" else ""
        text = f"{'span is' if len(rows) == 1 else 'spans are'} in {found.unit}{zero}; the frame at the end is excluded"
        notes.append(Note("span_unit", len(rows), text))
    rows, reserved = rename_reserved_columns(rows.rename(columns=renamed), _RESERVED)
    return rows, found.unit, [*notes, *reserved]


def _find_other_pair(names: Sequence[str]) -> list[str]:
    """Return the columns of a pair of times among others; none if there is none, or more."""
    with contextlib.suppress(AmbiguousColumnsError):
        found = find_span_columns(names)
        return [found.start, found.end] if found else []
    return []


def _note_whole_files(rows: pd.DataFrame) -> Note:
    others = [str(name) for name in rows if name not in ("file", "class_name")]
    text = "row covers a whole video" if len(rows) == 1 else "rows cover whole videos"
    has = f", but {format_names(others)}" if others else ""
    return Note("whole_files", len(rows), f"{text}: the csv has no columns start and end{has}")


def choose_class_column(names: Sequence[str]) -> str:
    """Return what the column of classes is called, in this spelling or another: many call it `class`.

    Examples
    --------
    >>> choose_class_column(["file", "Class"]), choose_class_column(["file", "class", "class_name"])
    ('class', 'class_name')
    """
    for name in _CLASS_COLUMNS:
        if name in names or match_columns(names, [name]):
            return name
    return "class_name"


def check_rows(
    rows: pd.DataFrame, unit: str, labels: Mapping[str, int], labels_csv: LabelTable
) -> tuple[pd.Series, pd.Series]:
    """Refuse a table of spans that has wrong rows.

    Parameters
    ----------
    rows, unit
        What `read_rows` returned.
    labels
        The vocabulary: the number of each class.
    labels_csv
        The table, for messages.

    Returns
    -------
    start, end
        float64: where each span starts and ends, in seconds or in frames; the end is infinite where it is empty.

    Raises
    ------
    TableError
        If a row is wrong, or overlaps another of the video with other values; the message lists the first twenty.

    Examples
    --------
    >>> rows, unit, _ = read_rows(pd.DataFrame({"file": ["a.mp4"], "start_ms": [500], "end_ms": [""], "class": ["ok"]}))
    >>> start, end = check_rows(rows, unit, {"ok": 4}, "spans.csv")
    >>> start.tolist(), end.tolist()
    ([0.5], [inf])
    """
    times = rows[["start", "end"]].apply(lambda column: column.str.strip())
    form = _FRAMES if unit == "frames" else _SECONDS
    are_times = times.apply(lambda column: column.str.fullmatch(form)).all(axis=1)
    start, end = (
        pd.to_numeric(times[column].where(are_times, "").replace("", value)) * _SCALES[unit]
        for column, value in _IF_EMPTY.items()
    )
    accepted = "whole numbers of frames" if unit == "frames" else f"{unit}, such as 12.5 (not 12,5 or 0:12.5)"
    are_images = rows["file"].str.strip().str.lower().str.endswith(_IMAGE_SUFFIXES)
    faults = find_faults(rows, "file", labels) | {
        "the file is an image; list images in a csv with frame_path": are_images,
        f"start and end must be {accepted}, or empty": ~are_times,
        "the end is not after the start": are_times & (end <= start),
    }
    refuse_rows(rows, faults, COLUMNS, describe_table(labels_csv))
    values = [str(column) for column in rows if column not in ("file", "start", "end")]
    overlaps = _find_overlaps(rows, start, end, values)
    refuse_rows_with_reasons(rows, overlaps, COLUMNS, describe_table(labels_csv))
    return start, end


def _refuse_values(rows: pd.DataFrame) -> None:
    """Refuse columns whose values may be times, although their names do not say so."""
    names = [str(name) for name in rows if name not in ("file", "class_name")]
    values = {name: rows[name].str.strip() for name in names}
    remedy = "accepted: start and end, in seconds; if each row is about a whole video, add both, empty"
    for name, column in values.items():
        if column.str.fullmatch(f"{_CLOCK}|{_BOTH}").all() and not is_measure(name):
            raise AmbiguousColumnsError(
                f"{shorten_text(name)} holds what may be times, such as {shorten_text(column.iloc[0])}; {remedy}"
            )
    for first, last in itertools.pairwise(names):
        pair = [values[name] for name in (first, last)]
        are_seconds = all(column.str.fullmatch(_SECONDS).all() and (column != "").all() for column in pair)
        if not are_seconds or not any(column.str.fullmatch(_FRACTION).any() for column in pair):
            continue
        start, end = (column.astype("float64") for column in pair)
        if (start < end).all() and not is_measure(first) and not is_measure(last):
            raise AmbiguousColumnsError(
                f"{shorten_text(first)} and {shorten_text(last)} may say where spans start and end; did you mean "
                f"'start' and 'end'? {remedy}"
            )


def _find_overlaps(rows: pd.DataFrame, start: pd.Series, end: pd.Series, values: list[str]) -> dict[int, str]:
    """Find rows whose span overlaps another of the same video that has another class or another value."""
    # Rows with the same values have the same group number.
    groups = rows.groupby(values, sort=False, dropna=False).ngroup().to_numpy()
    classes, files = rows["class_name"].to_numpy(), rows["file"].to_numpy()
    starts, ends = start.to_numpy(), end.to_numpy()
    reasons: dict[int, str] = {}
    open_rows: list[int] = []  # of two groups at most
    for row in np.lexsort([starts, files]).tolist():
        overlapping = [k for k in open_rows if files[k] == files[row] and ends[k] > starts[row] + TOLERANCE]
        other = next((k for k in overlapping if groups[k] != groups[row]), None)
        if other is not None:
            what = "class" if classes[other] != classes[row] else "value in a further column"
            reasons[row] = f"the span overlaps row {rows.index[other] + 1}, which has another {what}"
        # Keep the row that ends last, and the last of the other groups: if any overlaps the next row, one of them does.
        latest, *others = sorted([*overlapping, row], key=lambda k: -ends[k])
        open_rows = [latest, *[k for k in others if groups[k] != groups[latest]][:1]]
    return reasons
