"""Labels of videos: a csv with one row per span, expanded into one row per frame."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from detectime.boxes import Floats, Integers
from detectime.images import UnreadableImageError
from detectime.labels.columns import number_classes, set_attrs
from detectime.labels.csv_files import normalize_column
from detectime.labels.names import restore_class_names
from detectime.labels.span_columns import AmbiguousColumnsError, find_span_columns, is_measure, list_time_columns
from detectime.labels.table_files import (
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
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.file_kinds import IMAGE_SUFFIXES
from detectime.sources.listing import Listing, collect_listing
from detectime.sources.video_index import VideoIndex
from detectime.sources.video_times import Hole
from detectime.sources.videos import VideoSource, format_frame_path, is_video

COLUMNS = ("file", "start", "end", "class_name")
"""Columns of the csv."""

_IMAGE_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".gif")
"""Suffixes that a `file` must not have: FFmpeg takes an image for a video of one frame. A GIF may move."""

_CLASS_COLUMNS = ("class_name", "class")
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]+)?"
_BOTH = r"\W*[0-9.]+\s*(?:-|–|,|;|to)\s*[0-9.]+\W*"  # both ends in one column, such as [0.5, 1.5]
_FRACTION = r"[0-9]*\.[0-9]+"
_SCALES = {"seconds": 1.0, "milliseconds": 0.001, "frames": 1.0}
_TOLERANCE = 0.0005  # seconds: many files round the times of their frames to a millisecond
_SECONDS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)?"
_FRAMES = r"(?:[0-9]{1,15}(?:\.0+)?)?"
_RESERVED = RESERVED_COLUMNS | {"frame_path", "frame_id"}
_IF_EMPTY = {"start": "0", "end": "inf"}

_IndexOrError = VideoIndex | MissingFrameError | UnreadableImageError
"""The frames of a file, or the reason why it has none."""


def has_span_columns(names: Sequence[str]) -> bool:
    """Whether a csv with these columns holds spans of videos: it has the column `file` and no `frame_path`.

    Examples
    --------
    >>> has_span_columns(["file", "start", "end", "class_name"]), has_span_columns(["File", "Class"])
    (True, True)
    """
    spellings = {normalize_column(name) for name in names}
    return "file" in spellings and "frame_path" not in spellings


def list_videos(labels_csv: LabelTable, source: Source) -> Listing:
    """List the files of a source of videos.

    Raises
    ------
    TableError
        If the source is not one of videos; the message names the labels.
    """
    videos = _check_source(labels_csv, source)
    return collect_listing(videos, videos.list_files())


def read_spans(
    labels_csv: LabelTable,
    source: Source,
    listing: Listing,
    labels: Mapping[str, int],
    every: int | str | None = None,
    span_zero: str = "player",
) -> pd.DataFrame:
    """Read a csv of spans and expand it into a frame table.

    A file that does not exist, or is not a video, gets one row per span, as if each span had one frame: the rows are
    counted and listed as `missing` or `unreadable`, and the other videos are processed.

    Parameters
    ----------
    labels_csv
        A csv or Parquet file, or a DataFrame, with the columns in `COLUMNS` (`class_name` may be called `class`).
        `start` and `end` are in seconds (see `span_zero`); the frame at `end` is excluded; empty means from the
        beginning, to the end. `span_columns.find_span_columns` has other names of the two, also for milliseconds and
        numbers of frames, which count from 0. A row covers a whole file if no column looks like a time.
    source
        The videos, a `VideoSource`.
    listing
        Its files: see `list_videos`.
    labels
        The vocabulary: the number of each class.
    every
        Which frames of a span are taken, starting with its first: 10, every tenth frame; ``0.5 s``, one frame per half
        second; None: every frame.
    span_zero
        What `start` and `end` count from. ``player``: from where players begin, the beginning of the pictures or of the
        sound, whichever is earlier; ``first_picture``: from the first frame.

    Returns
    -------
    DataFrame
        One row per frame, span by span in the order of the file: `frame_path`, ``<file>/<number>``; `video_name`, the
        file, unless the csv has a column of that name; `frame_id` (int64), the frame's number in the video, from 0;
        `class_name`; further columns of the csv (one whose name detectime uses itself is renamed: see
        `tables.rename_reserved_columns`); `on_disk`, `stamp` and `label`, as in `frames_csv.read_frames_csv`.
        ``attrs`` are described in `columns.set_attrs`; `unlisted` counts videos.

    Raises
    ------
    TableError
        If the source is not one of videos, if the csv cannot be read or lacks a column, or if a row is wrong: its class
        is not in the vocabulary, its end is not after its start, or it overlaps another span of the video with other
        values. The message lists the first twenty wrong rows.
    """
    videos = _check_source(labels_csv, source)
    rows, unit, notes = _read_rows(labels_csv)
    sha256 = rows.attrs["labels_sha256"]
    notes += restore_class_names(rows, labels)
    kept = [str(column) for column in rows if column not in ("file", "start", "end")]
    start, end = _check_rows(rows, unit, kept, labels, labels_csv)
    indexes = _index_videos(videos, rows["file"])
    found = _find_frames(rows, start, end, unit, indexes, every, span_zero)
    table = _build_table(rows, kept, found, videos)
    is_repeated = table["frame_path"].duplicated()
    repeated = table["frame_path"][is_repeated]
    table = number_classes(table[~is_repeated].reset_index(drop=True), labels)
    files = pa.array(map(os.fsencode, indexes), pa.binary())
    positions = listing.find(files)
    notes += [*listing.note_respelled(files, positions), *listing.note_misplaced(files, positions)]
    late = _note_late_pictures(found.of_late_pictures, indexes, span_zero)
    notes += [*found.list_notes(rows), *late, *_note_damage(indexes)]
    set_attrs(table, listing, positions, sha256, repeated, notes)
    return table


@dataclass
class _SpanFrames:
    """The frames of each span, and the spans (positions of rows) that do not match their video."""

    numbers: list[Integers] = field(default_factory=list)  # per span: numbers of frames in the video
    of_missing_file: list[int] = field(default_factory=list)
    of_broken_file: list[int] = field(default_factory=list)
    without_frames: list[int] = field(default_factory=list)
    past_the_end: list[int] = field(default_factory=list)
    of_late_pictures: dict[str, None] = field(default_factory=dict)
    """Files, in order, of which `span_zero` decides the frames."""

    def list_notes(self, rows: pd.DataFrame) -> list[Note]:
        """Return a note for each kind of mismatch."""
        kinds = (
            ("missing_video", self.of_missing_file, "names a missing video", "name missing videos"),
            ("no_video", self.of_broken_file, "names a file that is not a video", "name files that are not videos"),
            ("no_frame", self.without_frames, "contains no frame", "contain no frame"),
            ("past_the_end", self.past_the_end, "ends after the end of its video", "end after the end of their video"),
        )
        return [
            note
            for kind, spans, one, many in kinds
            for note in note_found(kind, [_format_span(rows, row) for row in spans], f"span {one}", f"spans {many}")
        ]


def _check_source(labels_csv: LabelTable, source: Source) -> VideoSource:
    if isinstance(source, VideoSource):
        return source
    rows, _ = read_table(labels_csv, ("file",))
    where, first = describe_table(labels_csv), shorten_text(rows["file"].iloc[0])
    if is_video(rows["file"].iloc[0].strip()):
        raise TableError(f"{where}: the labels are spans of videos, such as {first}; set data.source_type to `videos`")
    raise TableError(
        f"{where}: the column file is for videos, and {first} is none; for images call it frame_path, and add "
        "video_name, frame_id and class_name; with one folder per class set `labels_type: folders` instead; for videos "
        "set data.source_type to `videos`"
    )


def _read_rows(labels_csv: LabelTable) -> tuple[pd.DataFrame, str, list[Note]]:
    """Read the csv, with its columns named as in `COLUMNS`, and the unit of `start` and `end`.

    Notes are about renamed columns, and rows that cover whole files.
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
        rows, renamed = rename_reserved_columns(rows, _RESERVED)
        others = [str(name) for name in rows if name not in ("file", "class_name")]
        text = "row covers a whole video" if len(rows) == 1 else "rows cover whole videos"
        why = f"the csv has no columns start and end{f', but {format_names(others)}' if others else ''}"
        return (
            rows.assign(start="", end=""),
            "seconds",
            [Note("whole_files", len(rows), f"{text}: {why}"), *notes, *renamed],
        )
    others = [name for name in list_time_columns(names) if name not in (found.start, found.end)]
    one, many = (
        "other column may be a time, and is kept as it is",
        "other columns may be times, and are kept as they are",
    )
    notes += note_found("unused_times", others, one, many)
    if (found.start, found.end) != ("start", "end"):
        pairs = f"{found.start} -> start", f"{found.end} -> end"
        notes += note_found(
            "other_spelling", pairs, "column is read in another spelling", "columns are read in another spelling"
        )
        rows = rows.rename(columns={found.start: "start", found.end: "end"})
    rows, renamed = rename_reserved_columns(rows, _RESERVED)
    if found.unit != "seconds":
        zero = ", the first of which is 0" if found.unit == "frames" else ""
        text = f"{'span is' if len(rows) == 1 else 'spans are'} in {found.unit}{zero}; the frame at the end is excluded"
        notes.append(Note("span_unit", len(rows), text))
    return rows, found.unit, [*notes, *renamed]


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


def _refuse_values(rows: pd.DataFrame) -> None:
    """Refuse columns whose values may be times, although their names do not say so."""
    names = [str(name) for name in rows if name not in ("file", "class_name")]
    values = {name: rows[name].str.strip() for name in names}
    remedy = "accepted: start and end, in seconds; if each row is about a whole video, add both, empty"
    for name, column in values.items():
        if column.str.fullmatch(f"{_CLOCK}|{_BOTH}").all():
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


def _check_rows(
    rows: pd.DataFrame, unit: str, kept: list[str], labels: Mapping[str, int], labels_csv: LabelTable
) -> tuple[pd.Series, pd.Series]:
    """Refuse the csv if a row is wrong; return where spans start and end, in seconds or frames."""
    times = rows[["start", "end"]].apply(lambda column: column.str.strip())
    form = _FRAMES if unit == "frames" else _SECONDS
    are_times = times.apply(lambda column: column.str.fullmatch(form)).all(axis=1)
    start, end = (
        pd.to_numeric(times[column].where(are_times, "").replace("", value)) * _SCALES[unit]
        for column, value in _IF_EMPTY.items()
    )
    accepted = "whole numbers of frames" if unit == "frames" else f"{unit}, such as 12.5"
    faults = find_faults(rows, "file", labels) | {
        "the file is an image; list images in a csv with frame_path": rows["file"]
        .str.strip()
        .str.lower()
        .str.endswith(_IMAGE_SUFFIXES),
        f"start and end must be {accepted}, or empty": ~are_times,
        "the end is not after the start": are_times & (end <= start),
    }
    refuse_rows(rows, faults, COLUMNS, describe_table(labels_csv))
    overlaps = _find_overlaps(rows, start, end, kept)
    refuse_rows_with_reasons(rows, overlaps, COLUMNS, describe_table(labels_csv))
    return start, end


def _index_videos(source: VideoSource, files: pd.Series) -> dict[str, _IndexOrError]:
    indexes: dict[str, _IndexOrError] = {}
    for file in files.unique():
        try:
            indexes[file] = source.index_file(file)
        except (MissingFrameError, UnreadableImageError) as error:
            indexes[file] = error
    return indexes


def _find_frames(
    rows: pd.DataFrame,
    start: pd.Series,
    end: pd.Series,
    unit: str,
    indexes: Mapping[str, _IndexOrError],
    every: int | str | None,
    span_zero: str,
) -> _SpanFrames:
    """Find the frames of each span; a file without an index has one frame per span."""
    found = _SpanFrames()
    ordinals = rows.groupby("file").cumcount().tolist()
    for row, file in enumerate(rows["file"]):
        index = indexes[file]
        if isinstance(index, Exception):
            (found.of_missing_file if isinstance(index, MissingFrameError) else found.of_broken_file).append(row)
            found.numbers.append(np.array([ordinals[row]]))
            continue
        first, last = float(start.iloc[row]), float(end.iloc[row])
        if unit == "frames":
            numbers = _take_steps(index.seconds, int(min(first, len(index))), int(min(last, len(index))), every)
            end_of_video = float(len(index))
        else:
            offsets = (index.offset, 0.0) if span_zero == "player" else (0.0, index.offset)
            numbers, others = (_choose_frames(index.seconds, offset, first, last, every) for offset in offsets)
            end_of_video = offsets[0] + _estimate_duration(index) + _TOLERANCE
            if not np.array_equal(numbers, others):
                found.of_late_pictures[file] = None
        found.numbers.append(numbers)
        if not len(numbers):
            found.without_frames.append(row)
        elif np.isfinite(last) and last > end_of_video:
            found.past_the_end.append(row)
    return found


def _choose_frames(seconds: Floats, offset: float, start: float, end: float, every: int | str | None) -> Integers:
    """Choose the frames of a span by the times at which they are shown, which begin with an offset."""
    times = seconds + offset
    first, last = np.searchsorted(times, np.array([start, end]) - _TOLERANCE)
    return _take_steps(times, int(first), int(last), every, max(start, offset))


def _take_steps(times: Floats, first: int, last: int, every: int | str | None, start: float | None = None) -> Integers:
    """Take frames from the first to the one before the last: every Nth, or one per step of seconds from a start on."""
    if not isinstance(every, str):
        return np.arange(first, last, every or 1)
    # Take the first frame of each step; steps may be far shorter than frames. They begin with the pictures.
    begin = (times[first] if first < last else 0.0) if start is None else start
    steps = np.maximum(times[first:last] - begin + _TOLERANCE, 0) // float(every.removesuffix("s"))
    found: Integers = first + np.flatnonzero(np.diff(steps, prepend=-1))
    return found


def _estimate_duration(index: VideoIndex) -> float:
    """Return the end of the last frame in seconds, assuming that it lasts as long as the others on average."""
    last = float(index.seconds[-1])
    return last + last / (len(index) - 1) if len(index) > 1 else last


def _build_table(rows: pd.DataFrame, kept: list[str], found: _SpanFrames, videos: VideoSource) -> pd.DataFrame:
    """Build one row per frame of each span."""
    span = np.repeat(np.arange(len(rows)), [len(numbers) for numbers in found.numbers])
    table = rows[kept].take(span).reset_index(drop=True)
    files = rows["file"].tolist()
    paths = [
        format_frame_path(file, number)
        for file, numbers in zip(files, found.numbers, strict=True)
        for number in numbers.tolist()
    ]
    table.insert(0, "frame_path", pd.Series(pa.array(paths, pa.large_string()).to_pandas(), index=table.index))
    if "video_name" not in table:
        table.insert(1, "video_name", rows["file"].take(span).to_numpy())
    table.insert(2, "frame_id", np.concatenate(found.numbers))
    table["on_disk"] = ~np.isin(span, found.of_missing_file)
    stamps = {file: videos.make_stamp(file) for file in set(files)}
    table["stamp"] = pa.array([stamps[file] for file in files], pa.string()).take(pa.array(span)).to_pandas()
    return table


def _note_late_pictures(files: Iterable[str], indexes: Mapping[str, _IndexOrError], span_zero: str) -> list[Note]:
    """Note the videos of which `span_zero` decides the frames, and how to set it."""
    late = [f"{file} ({index.offset:.3f} s)" for file in files if isinstance(index := indexes[file], VideoIndex)]
    other, rule, value = {
        "player": ("the first picture", "spans count from there, as in players", "first_picture"),
        "first_picture": ("the sound, as players do", "spans count from the first picture", "player"),
    }[span_zero]
    what = f"{rule}; to count from {other}, set data.span_zero to `{value}`"
    return note_found(
        "late_pictures",
        late,
        f"video begins with its sound, before its pictures; {what}",
        f"videos begin with their sound, before their pictures; {what}",
    )


def _note_damage(indexes: Mapping[str, _IndexOrError]) -> list[Note]:
    """Note which videos are cut off or damaged, have a hole, or are stored rotated."""
    videos = {file: index for file, index in indexes.items() if isinstance(index, VideoIndex)}
    cut = [f"{file} ({index.lost} of {len(index)} frames)" for file, index in videos.items() if index.lost]
    why = (
        "fewer frames than the header promises, and the last are unreadable; if frames are lost before the end, those "
        "after them are misnumbered"
    )
    damaged = [f"{file} ({index.damage})" for file, index in videos.items() if index.damage]
    what = "damaged; frames after the damage may be wrong or misnumbered"
    holes = [
        f"{file} ({_describe_holes(index.holes)})" for file, index in videos.items() if index.holes and not index.damage
    ]
    turned = [file for file, index in videos.items() if index.orientation != 1]
    rotated = "stored rotated or mirrored: see detection.exif"
    lacks = "frames in a constant rate: they are lost, or the camera left them out"
    if any(index.hides_losses for index in videos.values() if index.holes and not index.damage):
        lacks += "; frames after them may be wrong, since some formats (as VP8, VP9 and AV1) do not show a loss"
    return [
        *note_found("cut_video", cut, f"video has {why}", f"videos have {why}"),
        *note_found("damaged_video", damaged, f"video is {what}", f"videos are {what}"),
        *note_found("turned", turned, f"video is {rotated}", f"videos are {rotated}"),
        *note_found("hole", holes, f"video lacks {lacks}", f"videos lack {lacks}"),
    ]


def _describe_holes(holes: Sequence[Hole]) -> str:
    """Describe the first of the holes of a video."""
    first = f"{holes[0].missing} after frame {holes[0].after}"
    return first if len(holes) == 1 else f"{first}, the first of {len(holes)} holes"


def _find_overlaps(rows: pd.DataFrame, start: pd.Series, end: pd.Series, values: list[str]) -> dict[int, str]:
    """Find rows whose span overlaps another of the same video that has another class or another value."""
    # Rows with the same values have the same group number.
    groups = rows.groupby(values, sort=False, dropna=False).ngroup().to_numpy()
    classes, files = rows["class_name"].to_numpy(), rows["file"].to_numpy()
    starts, ends = start.to_numpy(), end.to_numpy()
    reasons: dict[int, str] = {}
    open_rows: list[int] = []  # of two groups at most
    for row in np.lexsort([starts, files]).tolist():
        overlapping = [k for k in open_rows if files[k] == files[row] and ends[k] > starts[row] + _TOLERANCE]
        other = next((k for k in overlapping if groups[k] != groups[row]), None)
        if other is not None:
            what = "class" if classes[other] != classes[row] else "value in a further column"
            reasons[row] = f"the span overlaps row {other + 1}, which has another {what}"
        # Keep the row that ends last, and the last of the other groups: if any overlaps the next row, one of them does.
        latest, *others = sorted([*overlapping, row], key=lambda k: -ends[k])
        open_rows = [latest, *[k for k in others if groups[k] != groups[latest]][:1]]
    return reasons


def _format_span(rows: pd.DataFrame, row: int) -> str:
    file, start, end = rows[["file", "start", "end"]].iloc[row]
    return f"row {row + 1}, {file} {start}–{end}" if start or end else f"row {row + 1}, {file}"
