"""Labels of videos: a csv with a row a span, of which the frame table's rows are made."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from detectime.boxes import Floats, Integers
from detectime.images import Unreadable
from detectime.labels import columns, read_csv, refuse, some
from detectime.sources import Missing
from detectime.sources.videos import Index, Videos, name

COLUMNS = ("file", "start", "end", "class_name")

_TOLERANCE = 0.0005  # seconds: many files round the times of their frames to a millisecond
_SECONDS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)?"


def read(
    labels_csv: str | os.PathLike[str], source: Videos, labels: Mapping[str, int], every: int | str | None = None
) -> pd.DataFrame:
    """Make a frame table of spans of videos.

    A file that is missing, or that is no video, has a row for each of its spans, as if it had one frame there: it is
    counted and listed as `missing` or `unreadable`, and the others are looked at.

    Parameters
    ----------
    labels_csv
        A csv file with the columns in `COLUMNS` (`class_name` may be called `class`), separated by commas or
        semicolons, in UTF-8. `start` and `end` are seconds from the first frame of the video; the frame at `end` is no
        part of the span; empty: from the beginning, to the end.
    source
        Where the videos are.
    labels
        The vocabulary: the number of each class.
    every
        Which frames of a span are taken, from its first one on: 10, every tenth; ``0.5 s``, one each half second; None:
        every frame.

    Returns
    -------
    DataFrame
        A row a frame, span by span in the order of the file: `frame_path`, ``<file>/<number>``; `video_name`, the file,
        or what the csv's own column of that name says; `frame_id` (int64), the frame's number in the video, from 0 on;
        `class_name`; further columns of the csv; `on_disk` (bool).

        ``attrs`` holds `duplicates`, the number of rows that repeated another and were dropped, `unlisted`, the number
        of videos that the csv does not name, and `notes`, sentences about spans and files that are not as labelled.

    Raises
    ------
    TableError
        If the csv cannot be read, lacks a column, or a row is wrong: a class that is no label, a span that ends before
        it begins, or one that overlaps another with other values. The first twenty wrong rows are named.
    """
    short = "class" in columns(labels_csv) and "class_name" not in columns(labels_csv)  # as many write it
    rows = read_csv(labels_csv, ("file", "start", "end", "class") if short else COLUMNS)
    rows = rows.rename(columns={"class": "class_name"} if short else {})
    rows = rows.rename(columns={made: f"{made}_in_csv" for made in ("label", "on_disk", "wanted", "frame_id")})
    kept = [str(column) for column in rows if column not in ("file", "start", "end")]
    times = rows[["start", "end"]].apply(lambda column: column.str.strip())
    good = times.apply(lambda column: column.str.fullmatch(_SECONDS)).all(axis=1)
    start, end = (pd.to_numeric(times[column].where(good, "").replace("", gap)) for column, gap in _OPEN.items())
    faults = {
        "the file is empty": rows["file"] == "",
        "the file must be a path below the images folder, without `..`, `.` or empty parts": rows["file"].str.contains(
            r"^/|(?:^|/)\.{1,2}(?:/|$)|//|/$", regex=True
        ),
        "start and end must be seconds, as 12.5, or empty": ~good,
        "the span ends before it begins": good & (end <= start),
        f"the class_name is no label; accepted: {', '.join(labels)}": ~rows["class_name"].isin(list(labels)),
    }
    if "video_name" in rows:
        faults["the video_name is empty"] = rows["video_name"] == ""
    refuse(rows, faults, COLUMNS, labels_csv)
    refuse(rows, _overlaps(rows, start, end, kept), COLUMNS, labels_csv)

    missing: list[int] = []  # rows, as the three that follow
    broken: list[int] = []
    after: list[int] = []
    beyond: list[int] = []
    numbers: list[Integers] = []
    indexes = _indexes(source, rows["file"])
    ordinal = rows.groupby("file").cumcount().tolist()
    for row, file in enumerate(rows["file"]):
        index = indexes[file]
        if isinstance(index, Exception):
            (missing if isinstance(index, Missing) else broken).append(row)
            numbers.append(np.array([ordinal[row]]))
            continue
        length = _length(index)
        numbers.append(_taken(index.seconds, start.iloc[row], end.iloc[row], every))
        if not len(numbers[-1]):
            after.append(row)
        elif np.isfinite(end.iloc[row]) and end.iloc[row] > length + _TOLERANCE:
            beyond.append(row)

    span = np.repeat(np.arange(len(rows)), [len(part) for part in numbers])
    table = rows[kept].take(span).reset_index(drop=True)
    files = rows["file"].to_numpy()
    paths = [name(files[row], number) for row, part in enumerate(numbers) for number in part.tolist()]
    table.insert(0, "frame_path", pd.Series(pa.array(paths, pa.large_string()).to_pandas(), index=table.index))
    if "video_name" not in table:
        table.insert(1, "video_name", rows["file"].take(span).to_numpy())
    table.insert(2, "frame_id", np.concatenate(numbers))
    table["on_disk"] = ~np.isin(span, missing)
    once = ~table["frame_path"].duplicated()
    named = set(files)
    attrs: dict[Hashable | None, object] = {
        "duplicates": int((~once).sum()),
        "unlisted": sum(file not in named for file in source.files()),
        "notes": [
            f"{len(found)} {what}: {some([_described(rows, row) for row in found])}"
            for found, what in (
                (missing, "spans are of videos that are not there"),
                (broken, "spans are of files that are no video"),
                (after, "spans have no frame: the video has none at that time"),
                (beyond, "spans end after their video"),
            )
            if found
        ],
    }
    table = table[once].reset_index(drop=True)
    table.attrs = attrs
    return table


_OPEN = {"start": "0", "end": "inf"}


def _indexes(source: Videos, files: pd.Series) -> dict[str, Index | Missing | Unreadable]:
    found: dict[str, Index | Missing | Unreadable] = {}
    for file in files.unique():
        try:
            found[file] = source.index(file)
        except (Missing, Unreadable) as error:
            found[file] = error
    return found


def _length(index: Index) -> float:
    """When the last frame's turn is over: it is shown as long as the others are on average."""
    last = float(index.seconds[-1])
    return last + last / (len(index) - 1) if len(index) > 1 else last


def _taken(seconds: Floats, start: float, end: float, every: int | str | None) -> Integers:
    """Choose frames of a span by when they are shown."""
    first, last = np.searchsorted(seconds, np.array([start, end]) - _TOLERANCE)
    if not isinstance(every, str):
        return np.arange(first, last, every or 1)
    step = float(every.removesuffix("s"))
    due = start + step * np.arange(0, max(0, np.ceil((min(end, seconds[-1] + step) - start) / step)))
    numbers = np.unique(np.searchsorted(seconds, due - _TOLERANCE))
    found: Integers = numbers[numbers < last]
    return found


def _overlaps(rows: pd.DataFrame, start: pd.Series, end: pd.Series, values: list[str]) -> dict[str, pd.Series]:
    """Tell rows whose span claims the time of another of the same video with another class, or another value."""
    # Rows of one kind have the same values; the names of the kinds are of no matter.
    kinds = rows.groupby(values, sort=False, dropna=False).ngroup().to_numpy()
    classes, files = rows["class_name"].to_numpy(), rows["file"].to_numpy()
    begins, ends = start.to_numpy(), end.to_numpy()
    reasons: dict[str, pd.Series] = {}
    going_on: list[int] = []  # rows whose span is not over yet
    for row in np.lexsort([begins, files]).tolist():
        going_on = [k for k in going_on if files[k] == files[row] and ends[k] > begins[row] + _TOLERANCE]
        for other in (k for k in going_on if kinds[k] != kinds[row]):
            what = "class" if classes[other] != classes[row] else "value of a further column"
            reason = f"the span overlaps that of row {other + 1}, which has another {what}"
            reasons.setdefault(reason, pd.Series(False, index=rows.index))[row] = True
        going_on.append(row)
    return reasons


def _described(rows: pd.DataFrame, row: int) -> str:
    file, start, end = rows[["file", "start", "end"]].iloc[row]
    return f"row {row + 1}, {file} {start}–{end}" if start or end else f"row {row + 1}, {file}"
