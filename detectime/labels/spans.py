"""Labels of videos: a csv with one row per span, of which the frame table's rows are made."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from detectime.boxes import Floats, Integers
from detectime.images import UnreadableImageError
from detectime.labels.tables import (
    TableError,
    count_repeated,
    note_renamed,
    read_columns,
    read_csv,
    refuse_each,
    refuse_rows,
    rename_reserved,
)
from detectime.notes import Note, note_found
from detectime.schema import RESERVED_COLUMNS
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.listing import Listing, collect_listing
from detectime.sources.videos import VideoIndex, VideoSource, format_frame_path

COLUMNS = ("file", "start", "end", "class_name")

_TOLERANCE = 0.0005  # seconds: many files round the times of their frames to a millisecond
_SECONDS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)?"
_OPEN = {"start": "0", "end": "inf"}

_Known = VideoIndex | MissingFrameError | UnreadableImageError
"""What is known of a file: its frames, or why it has none."""


def are_spans(names: Sequence[str]) -> bool:
    """Whether labels with these columns are spans of videos: they name a `file`, and no `frame_path`."""
    return "file" in names and "frame_path" not in names


def list_videos(labels_csv: str | os.PathLike[str], source: Source) -> Listing:
    """List the files of a source of videos.

    Raises
    ------
    TableError
        If it is another source, which has no spans.
    """
    videos = _as_videos(labels_csv, source)
    return collect_listing(videos, videos.list_files())


def read_spans(
    labels_csv: str | os.PathLike[str],
    source: Source,
    listing: Listing,
    labels: Mapping[str, int],
    every: int | str | None = None,
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
    listing
        Its files: see `list_videos`.
    labels
        The vocabulary: the number of each class.
    every
        Which frames of a span are taken, from its first one on: 10, every tenth; ``0.5 s``, one each half second; None:
        every frame.

    Returns
    -------
    DataFrame
        One row per frame, span by span in the order of the file: `frame_path`, ``<file>/<number>``; `video_name`, the
        file, or what the csv's own column of that name says; `frame_id` (int64), the frame's number in the video, from
        0 on; `class_name`; further columns of the csv (one that has the name of a column of detectime's is renamed: see
        `tables.rename_reserved`); `on_disk` (bool) and `stamp` (text), and ``attrs``, as in
        `frame_table.read_frames_csv`. `unlisted` counts videos.

    Raises
    ------
    TableError
        If the source is another, if the csv cannot be read or lacks a column, or if a row is wrong: a class that is no
        label, a span that ends before it begins, or one that overlaps another with other values. The first twenty wrong
        rows are named.
    """
    videos = _as_videos(labels_csv, source)
    rows, notes = _rows(labels_csv)
    kept = [str(column) for column in rows if column not in ("file", "start", "end")]
    start, end = _check(rows, kept, labels, labels_csv)
    indexes = _indexes(videos, rows["file"])
    found = _find_frames(rows, start, end, indexes, every)
    table = _make_table(rows, kept, found, videos)
    again = table["frame_path"].duplicated()
    attrs: dict[Hashable, Any] = {
        **count_repeated(table["frame_path"][again]),
        **listing.count_unlisted(listing.find(pa.array(map(os.fsencode, indexes), pa.binary()))),
        "labels_sha256": rows.attrs["labels_sha256"],
        "unreachable": listing.unreachable,
        "notes": [*notes, *found.notes(rows), *_note_damage(indexes), *listing.notes],
    }
    table = table[~again].reset_index(drop=True)
    table.attrs = attrs
    return table


@dataclass
class _Found:
    """Frames of each span: their numbers in the video; and spans, by their rows, that are not as labelled."""

    numbers: list[Integers] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)  # rows, as those that follow
    broken: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    beyond: list[int] = field(default_factory=list)

    def notes(self, rows: pd.DataFrame) -> list[Note]:
        """Return a note of each kind."""
        kinds = (
            ("missing_video", self.missing, "is of a video that is not there", "are of videos that are not there"),
            ("no_video", self.broken, "is of a file that is no video", "are of files that are no video"),
            ("no_frame", self.after, "has no frame at its time", "have no frame at their time"),
            ("past_the_end", self.beyond, "ends after its video", "end after their video"),
        )
        return [
            note
            for kind, which, one, many in kinds
            for note in note_found(kind, [_described(rows, row) for row in which], f"span {one}", f"spans {many}")
        ]


def _check(
    rows: pd.DataFrame, kept: list[str], labels: Mapping[str, int], labels_csv: str | os.PathLike[str]
) -> tuple[pd.Series, pd.Series]:
    """Refuse the csv if a row is wrong; return where spans start and end, in seconds."""
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
    refuse_rows(rows, faults, COLUMNS, labels_csv)
    refuse_each(rows, _overlaps(rows, start, end, kept), COLUMNS, labels_csv)
    return start, end


def _find_frames(
    rows: pd.DataFrame, start: pd.Series, end: pd.Series, indexes: Mapping[str, _Known], every: int | str | None
) -> _Found:
    """Find the frames of each span; a file without an index has one for each of its spans."""
    found = _Found()
    ordinal = rows.groupby("file").cumcount().tolist()
    for row, file in enumerate(rows["file"]):
        index = indexes[file]
        if isinstance(index, Exception):
            (found.missing if isinstance(index, MissingFrameError) else found.broken).append(row)
            found.numbers.append(np.array([ordinal[row]]))
            continue
        found.numbers.append(_taken(index.seconds, start.iloc[row], end.iloc[row], every))
        if not len(found.numbers[-1]):
            found.after.append(row)
        elif np.isfinite(end.iloc[row]) and end.iloc[row] > _length(index) + _TOLERANCE:
            found.beyond.append(row)
    return found


def _make_table(rows: pd.DataFrame, kept: list[str], found: _Found, videos: VideoSource) -> pd.DataFrame:
    """Make one row per frame of each span."""
    span = np.repeat(np.arange(len(rows)), [len(part) for part in found.numbers])
    table = rows[kept].take(span).reset_index(drop=True)
    files = rows["file"].tolist()
    paths = [
        format_frame_path(file, number)
        for file, part in zip(files, found.numbers, strict=True)
        for number in part.tolist()
    ]
    table.insert(0, "frame_path", pd.Series(pa.array(paths, pa.large_string()).to_pandas(), index=table.index))
    if "video_name" not in table:
        table.insert(1, "video_name", rows["file"].take(span).to_numpy())
    table.insert(2, "frame_id", np.concatenate(found.numbers))
    table["on_disk"] = ~np.isin(span, found.missing)
    stamps = {file: videos.stamp(file) for file in set(files)}
    table["stamp"] = pa.array([stamps[file] for file in files], pa.string()).take(pa.array(span)).to_pandas()
    return table


def _as_videos(labels_csv: str | os.PathLike[str], source: Source) -> VideoSource:
    if not isinstance(source, VideoSource):
        raise TableError(f"{labels_csv}: these are spans of videos: give data.source = videos")
    return source


def _rows(labels_csv: str | os.PathLike[str]) -> tuple[pd.DataFrame, list[Note]]:
    """Read the csv and name its columns as `COLUMNS`; tell of what was renamed, and of rows that are whole files."""
    names = read_columns(labels_csv)
    class_name = "class" if "class" in names and "class_name" not in names else "class_name"  # as many write it
    whole = "start" not in names and "end" not in names
    rows = read_csv(labels_csv, ("file", class_name) if whole else ("file", "start", "end", class_name))
    rows = rows.rename(columns={class_name: "class_name"})
    renamed = rename_reserved(list(rows.columns), RESERVED_COLUMNS | {"frame_path", "frame_id"})
    rows = rows.rename(columns=renamed)
    notes = note_renamed(renamed)
    if not whole:
        return rows, notes
    what = "row is a whole video" if len(rows) == 1 else "rows are whole videos"
    notes.insert(0, Note("whole_files", len(rows), f"{what}: there are no columns start and end"))
    return rows.assign(start="", end=""), notes


def _note_damage(indexes: Mapping[str, _Known]) -> list[Note]:
    """Tell by name which videos are not as they once were."""
    videos = {file: index for file, index in indexes.items() if isinstance(index, VideoIndex)}
    short = [f"{file} ({index.lost} of {len(index)} frames)" for file, index in videos.items() if index.lost]
    why = (
        "fewer frames than the header promises, the last are unreadable; if not the end is missing but something "
        "before it, what follows it has other numbers"
    )
    broken = [f"{file} ({index.damage})" for file, index in videos.items() if index.damage]
    what = "damaged; frames after the damage may be wrong, or have other numbers"
    return [
        *note_found("cut_video", short, f"video holds {why}", f"videos hold {why}"),
        *note_found("damaged_video", broken, f"video is {what}", f"videos are {what}"),
    ]


def _indexes(source: VideoSource, files: pd.Series) -> dict[str, _Known]:
    found: dict[str, _Known] = {}
    for file in files.unique():
        try:
            found[file] = source.index(file)
        except (MissingFrameError, UnreadableImageError) as error:
            found[file] = error
    return found


def _length(index: VideoIndex) -> float:
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
