"""Labels of videos: a csv with a row a span, of which the frame table's rows are made."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from detectime.boxes import Floats, Integers
from detectime.images import Unreadable
from detectime.labels import TableError, columns, kept_as, read_csv, refuse, refuse_each, some
from detectime.sources import Missing, Source
from detectime.sources.videos import Index, Videos, name

COLUMNS = ("file", "start", "end", "class_name")

_TOLERANCE = 0.0005  # seconds: many files round the times of their frames to a millisecond
_SECONDS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)?"
_OPEN = {"start": "0", "end": "inf"}


def read(
    labels_csv: str | os.PathLike[str], source: Source, labels: Mapping[str, int], every: int | str | None = None
) -> pd.DataFrame:
    """Make a frame table of spans of videos.

    A file that is missing, or that is no video, has a row for each of its spans, as if it had one frame there: it is
    counted and listed as `missing` or `unreadable`, and the others are looked at.

    Parameters
    ----------
    labels_csv
        A csv file with the columns in `COLUMNS` (`class_name` may be called `class`), separated by commas or
        semicolons, in UTF-8. `start` and `end` are seconds from the first frame of the video; the frame at `end` is no
        part of the span; empty: from the beginning, to the end. Without these two columns a row is a whole file.
    source
        Where the videos are: `Videos`.
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
        `class_name`; further columns of the csv (one that has the name of a column that is made here or in pairing, as
        `width`, is called `width_in_csv`); `on_disk` (bool).

        ``attrs`` holds `duplicates`, the number of rows that repeated another and were dropped, `unlisted`, the number
        of videos that the csv does not name, and `notes`, sentences about spans and files that are not as labelled.

    Raises
    ------
    TableError
        If the source is another, if the csv cannot be read or lacks a column, or if a row is wrong: a class that is no
        label, a span that ends before it begins, or one that overlaps another with other values. The first twenty wrong
        rows are named.
    """
    if not isinstance(source, Videos):
        raise TableError(f"{labels_csv}: these are spans of videos: give data.source = videos")
    rows, whole = _rows(labels_csv)
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
    refuse_each(rows, _overlaps(rows, start, end, kept), COLUMNS, labels_csv)

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
            *(["there are no columns start and end: each row is a whole file"] if whole else []),
            *(
                f"{len(found)} {one if len(found) == 1 else many}: {some([_described(rows, row) for row in found])}"
                for found, one, many in (
                    (missing, "span is of a video that is not there", "spans are of videos that are not there"),
                    (broken, "span is of a file that is no video", "spans are of files that are no video"),
                    (after, "span has no frame at its time", "spans have no frame at their time"),
                    (beyond, "span ends after its video", "spans end after their video"),
                )
                if found
            ),
            *_damages({file: index for file, index in indexes.items() if isinstance(index, Index)}),
        ],
    }
    table = table[once].reset_index(drop=True)
    table.attrs = attrs
    return table


def _rows(labels_csv: str | os.PathLike[str]) -> tuple[pd.DataFrame, bool]:
    """Read the csv and name its columns as `COLUMNS`; tell whether its rows are whole files."""
    names = columns(labels_csv)
    class_name = "class" if "class" in names and "class_name" not in names else "class_name"  # as many write it
    whole = "start" not in names and "end" not in names
    rows = read_csv(labels_csv, ("file", class_name) if whole else ("file", "start", "end", class_name))
    rows = rows.rename(columns=kept_as).rename(columns={class_name: "class_name", "frame_id": "frame_id_in_csv"})
    return (rows.assign(start="", end="") if whole else rows), whole


def _damages(indexes: Mapping[str, Index]) -> list[str]:
    """Tell by name which videos are not as they once were."""
    short = [f"{file} ({index.lost} of {len(index)} frames)" for file, index in indexes.items() if index.lost]
    broken = [f"{file} ({index.damage})" for file, index in indexes.items() if index.damage]
    notes = []
    if short:
        ends = "video holds" if len(short) == 1 else "videos hold"
        notes.append(
            f"{len(short)} {ends} fewer frames than the header promises, the last are unreadable: {some(short)}; if "
            "not the end is missing but something before it, what follows it has other numbers"
        )
    if broken:
        are = "video is" if len(broken) == 1 else "videos are"
        notes.append(
            f"{len(broken)} {are} damaged: {some(broken)}; frames after the damage may be wrong, or have other numbers"
        )
    return notes


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
    # A frame is taken if a step is over that was not over at the frame before it; steps may be far shorter than frames.
    steps = np.maximum(seconds[first:last] - start + _TOLERANCE, 0) // float(every.removesuffix("s"))
    found: Integers = first + np.flatnonzero(np.diff(steps, prepend=-1))
    return found


def _overlaps(rows: pd.DataFrame, start: pd.Series, end: pd.Series, values: list[str]) -> dict[int, str]:
    """Tell rows whose span claims the time of another of the same video with another class, or another value."""
    # Rows of one kind have the same values; the names of the kinds are of no matter.
    kinds = rows.groupby(values, sort=False, dropna=False).ngroup().to_numpy()
    classes, files = rows["class_name"].to_numpy(), rows["file"].to_numpy()
    begins, ends = start.to_numpy(), end.to_numpy()
    reasons: dict[int, str] = {}
    last: list[int] = []  # rows, of two kinds at most
    for row in np.lexsort([begins, files]).tolist():
        going_on = [k for k in last if files[k] == files[row] and ends[k] > begins[row] + _TOLERANCE]
        other = next((k for k in going_on if kinds[k] != kinds[row]), None)
        if other is not None:
            what = "class" if classes[other] != classes[row] else "value of a further column"
            reasons[row] = f"the span overlaps that of row {other + 1}, which has another {what}"
        # What ends last and what of the other kinds ends last: if any overlaps the next row one of these does.
        latest, *others = sorted([*going_on, row], key=lambda k: -ends[k])
        last = [latest, *[k for k in others if kinds[k] != kinds[latest]][:1]]
    return reasons


def _described(rows: pd.DataFrame, row: int) -> str:
    file, start, end = rows[["file", "start", "end"]].iloc[row]
    return f"row {row + 1}, {file} {start}–{end}" if start or end else f"row {row + 1}, {file}"
