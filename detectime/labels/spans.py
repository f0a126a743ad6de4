"""Labels of videos: a csv with one row per span, expanded into one row per frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.boxes import Floats, Integers
from detectime.images import UnreadableImageError
from detectime.labels.columns import number_classes, set_attrs
from detectime.labels.csv_files import normalize_column
from detectime.labels.names import restore_class_names
from detectime.labels.span_rows import TOLERANCE, check_rows, read_rows
from detectime.labels.table_files import LabelTable, describe_table, read_table
from detectime.labels.tables import TableError, strip_current_folder
from detectime.notes import Note, note_found, shorten_text
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.listing import Listing, collect_listing
from detectime.sources.names import show_name
from detectime.sources.video_index import VideoIndex
from detectime.sources.video_times import Hole
from detectime.sources.videos import VideoSource, format_frame_path, is_video

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
        A csv or Parquet file, or a DataFrame, with the columns in `span_rows.COLUMNS` (many call `class_name` `class`).
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
    rows, unit, notes = read_rows(labels_csv)
    sha256 = rows.attrs["labels_sha256"]
    notes += [*strip_current_folder(rows, "file"), *restore_class_names(rows, labels), *_unify_files(rows, listing)]
    kept = [str(column) for column in rows if column not in ("file", "start", "end")]
    start, end = check_rows(rows, unit, labels, labels_csv)
    indexes = _index_videos(videos, rows["file"])
    found = _find_frames(rows, start, end, unit, indexes, every, span_zero)
    late = _note_late_pictures(found.of_late_pictures, indexes, span_zero)
    if len(found.without_frames) == len(rows):
        raise TableError(
            f"{describe_table(labels_csv)}: no span contains a frame of its video; the first is "
            f"{_format_span(rows, 0)}, in {unit}: columns start and end are in seconds, start_ms and end_ms in "
            f"milliseconds, start_frame and end_frame in frames{''.join(f'; {note}' for note in late)}"
        )
    table = _build_table(rows, kept, found, videos)
    is_repeated = table["frame_path"].duplicated()
    repeated = table["frame_path"][is_repeated]
    table = number_classes(table[~is_repeated].reset_index(drop=True), labels)
    files = pa.array(map(os.fsencode, indexes), pa.binary())
    positions = listing.find(files)
    notes += [*listing.note_respelled(files, positions), *listing.note_misplaced(files, positions)]
    notes += [*found.list_notes(rows), *late, *_note_damage(indexes)]
    set_attrs(table, listing, positions, sha256, repeated, notes)
    return table


def take_steps(source: Source, listing: Listing, every: int | str | None) -> Listing:
    """Take every Nth frame of videos, or one per step of seconds, from a listing of all frames.

    Parameters
    ----------
    source
        Of the listing; nothing is done unless it is a `VideoSource`.
    listing
        Its frames.
    every
        As that of `read_spans`, from the first frame of each video on.

    Examples
    --------
    >>> from detectime.sources import open_source
    >>> from detectime.sources.listing import list_source
    >>> source = open_source("clips", "videos")  # doctest: +SKIP
    >>> len(take_steps(source, list_source(source), "0.5 s").names)  # doctest: +SKIP
    12
    """
    if every is None or not isinstance(source, VideoSource) or not len(listing.names):
        return listing
    files = pc.replace_substring_regex(listing.names, r"(?s)/[^/]*$", "").dictionary_encode()
    indexes = _index_videos(source, pd.Series([os.fsdecode(file) for file in files.dictionary.to_pylist()]))
    wanted = [
        os.fsencode(format_frame_path(file, number))
        for file, index in indexes.items()
        if isinstance(index, VideoIndex)
        for number in _take_steps(index.seconds, 0, len(index), every).tolist()
    ]
    is_wanted = pc.is_in(listing.names, value_set=pa.array(wanted, pa.binary()))
    names, stamps = listing.names.filter(is_wanted), listing.stamps.filter(is_wanted)
    return Listing(names, stamps, listing.notes, top_folders=listing.top_folders)


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


def _unify_files(rows: pd.DataFrame, listing: Listing) -> list[Note]:
    """Give files that are named in several spellings the first of them, so that their spans are compared."""
    names = rows["file"].unique().tolist()
    positions = listing.find(pa.array(map(os.fsencode, names), pa.binary())).to_pylist()
    first: dict[int, str] = {}
    other = {
        name: first[position]
        for name, position in zip(names, positions, strict=True)
        if position is not None and first.setdefault(position, name) != name
    }
    rows["file"] = rows["file"].replace(other)
    shown = [f"{show_name(name)} -> {show_name(kept)}" for name, kept in other.items()]
    one, many = (
        "name of a video is another spelling of an earlier",
        "names of videos are other spellings of earlier ones",
    )
    return note_found("same_file", shown, one, many)


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
            end_of_video = offsets[0] + _estimate_duration(index) + TOLERANCE
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
    first, last = np.searchsorted(times, np.array([start, end]) - TOLERANCE)
    return _take_steps(times, int(first), int(last), every, max(start, offset))


def _take_steps(times: Floats, first: int, last: int, every: int | str | None, start: float | None = None) -> Integers:
    """Take frames from the first to the one before the last: every Nth, or one per step of seconds from a start on."""
    if not isinstance(every, str):
        return np.arange(first, last, every or 1)
    # Take the first frame of each step; steps may be far shorter than frames. They begin with the pictures.
    begin = (times[first] if first < last else 0.0) if start is None else start
    steps = np.maximum(times[first:last] - begin + TOLERANCE, 0) // float(every.removesuffix("s"))
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


def _format_span(rows: pd.DataFrame, row: int) -> str:
    file, start, end = rows[["file", "start", "end"]].iloc[row]
    where = f"row {rows.index[row] + 1}, {file}"
    return f"{where} {start}–{end}" if start or end else where
