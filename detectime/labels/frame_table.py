"""The frame table: one row per frame, made of labels, checked, and matched with the files that are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.config import Config
from detectime.labels import hagrid, spans
from detectime.labels.tables import (
    TableError,
    count_repeated,
    hash_labels,
    note_renamed,
    read_columns,
    read_csv,
    refuse_rows,
    rename_reserved,
)
from detectime.notes import Note
from detectime.sources.contract import Source, SourceError
from detectime.sources.listing import Listing, list_source
from detectime.storage import run_tables, urls
from detectime.storage import store as stores

COLUMNS = ("frame_path", "video_name", "frame_id", "class_name")


Known = Callable[[], pd.DataFrame | None]
"""Reads the frame table of an earlier run, with its ``attrs``; returns None if there is none."""


def read_labels(config: Config, source: Source) -> pd.DataFrame:
    """Make the frame table of a configuration, whatever its labels are.

    - A folder: HaGRID's annotations, see `labels.hagrid.read_annotations`.
    - A csv with the column `file` and without `frame_path`: one row per span of a video, see `labels.spans.read_spans`.
    - Any other csv: one row per frame, see `read_frames_csv`.

    Parameters
    ----------
    config
        `data.labels`, where the labels are; `data.every` and `data.hagrid_classes`; `labels`, the vocabulary; and
        `data.output`: if the source cannot be listed, or lists nothing, the frame table of the run there stands in.
    source
        Where the frames are.

    Returns
    -------
    DataFrame
        As `read_frames_csv` returns it.

    Raises
    ------
    TableError
        If the labels cannot be used: the first twenty wrong rows are named.
    SourceError
        If the frames cannot be listed, which HaGRID's annotations and spans need, and there is no run of the same
        labels.
    """
    labels, known = config.data.labels, partial(_read_known, config.data.output)
    are_hagrid = os.path.isdir(labels)
    try:
        are_spans = not are_hagrid and spans.are_spans(read_columns(labels))
    except TableError:  # they may lie on the drive that is gone
        listing = list_source(source)
        before = known() if listing.unreachable else None
        if before is None:
            raise
        return _reuse(before, {}, listing, config.labels)
    if not are_hagrid and not are_spans:
        return read_frames_csv(labels, source, config.labels, known)
    listing = list_source(source) if are_hagrid else spans.list_videos(labels, source)
    made_with = {"hagrid_classes": config.data.hagrid_classes} if are_hagrid else {"every": config.data.every}
    before = known() if listing.unreachable else None
    if before is not None:
        classes = config.data.hagrid_classes
        sha256 = hagrid.hash_annotations(labels, classes, config.labels) if are_hagrid else hash_labels(labels)
        return _reuse(before, {"labels_sha256": sha256, "made_with": made_with}, listing, config.labels)
    if listing.error:
        raise listing.error
    if are_hagrid:
        table = hagrid.read_annotations(labels, listing, config.data.hagrid_classes, config.labels)
    else:
        table = spans.read_spans(labels, source, listing, config.labels, config.data.every)
    table.attrs["made_with"] = made_with
    return _numbered(table, config.labels)


def read_frames_csv(
    labels_csv: str | os.PathLike[str], source: Source, labels: Mapping[str, int], known: Known = lambda: None
) -> pd.DataFrame:
    """Read a frame table, check it, number its classes, and see which of its frames are there.

    Parameters
    ----------
    labels_csv
        A csv file with the columns in `COLUMNS`, separated by commas or semicolons, in UTF-8.
    source
        Where the frames are.
    labels
        The vocabulary: the number of each class.
    known
        Called if the source cannot be listed, or lists nothing: `on_disk` is taken from what it returns.

    Returns
    -------
    DataFrame
        One row per frame, in the order of the file: its columns (text, but `frame_id`, int64; one that is called as a
        column of detectime's, such as `width`, is renamed, see `labels.tables.rename_reserved`), and

        - `label` (int64), the number of its class;
        - `on_disk` (bool), whether the source has it;
        - `stamp` (text), what the source's listing tells of its file; NaN where it does not have it, or tells nothing.

        ``attrs`` holds

        - `duplicates`, the number of rows that repeated another and were dropped, and `first_duplicate`, the
          frame_path of the first;
        - `unlisted`, the number of files of the source that the table does not name, and `unlisted_names`, the first
          twenty of them;
        - `labels_sha256`, the SHA-256 of the labels in hexadecimal;
        - `unreachable`, why the source could not be listed, in a sentence; None if it could;
        - `list_notes`, what else is worth telling, a list of `Note`: see the function `list_notes` for all.

    Raises
    ------
    TableError
        If the file cannot be read, lacks a column, or a row is wrong: the first twenty wrong rows are named.
    """
    rows = read_csv(labels_csv, COLUMNS)
    sha256 = rows.attrs["labels_sha256"]
    renamed = rename_reserved(list(rows.columns))
    rows, repeated = _drop_repeated(rows.rename(columns=renamed))
    _check_rows(rows, labels_csv, labels)
    rows["frame_id"] = pa.array(rows["frame_id"]).cast(pa.int64()).to_numpy()
    table = _numbered(rows.reset_index(drop=True), labels)
    del rows
    listing = list_source(source)
    table.attrs = {
        **repeated,
        **_match(table, listing, known),
        "labels_sha256": sha256,
        "unreachable": listing.unreachable,
        "notes": [*note_renamed(renamed), *listing.notes],
    }
    del listing
    pa.default_memory_pool().release_unused()  # Arrow keeps what is free; here that is more than the table
    return table


def select_frames(table: pd.DataFrame, classes: Sequence[str], limit: int | None = None) -> pd.DataFrame:
    """Say which rows a run wants.

    Parameters
    ----------
    table
        What `read_frames_csv` returned.
    classes
        The classes that are wanted.
    limit
        Only the first `limit` rows of those classes; None: all.

    Returns
    -------
    DataFrame
        The table with a column `wanted` (bool).
    """
    wanted = table["class_name"].isin(classes)
    if limit is not None:
        wanted &= wanted.cumsum() <= limit
    selected = table.assign(wanted=wanted)
    selected.attrs = dict(table.attrs)
    return selected


def count_frames(table: pd.DataFrame) -> pd.DataFrame:
    """Count frames and videos of each class: one row per class, in the order of the labels."""
    kinds = table.groupby(["label", "class_name"], as_index=False)
    return kinds.agg(
        videos=("video_name", "nunique"),
        frames=("frame_path", "size"),
        missing=("on_disk", lambda there: int((~there).sum())),
        wanted=("wanted", "sum"),
    ).set_index("class_name")


def list_notes(table: pd.DataFrame) -> list[Note]:
    """Return what is worth telling of a frame table: rows repeated, files not named, frames not there, and the rest.

    Parameters
    ----------
    table
        What `read_labels`, `read_frames_csv` or `select_frames` returned.
    """
    attrs = table.attrs
    repeated, others = attrs.get("duplicates", 0), attrs.get("unlisted", 0)
    what = "row repeated another and was dropped" if repeated == 1 else "rows repeated another and were dropped"
    found = [Note("repeated", repeated, what, attrs.get("first_duplicate"))]
    what = "file of the source is not named" if others == 1 else "files of the source are not named"
    first = next(iter(attrs.get("unlisted_names", ())), None)
    found.append(Note("unlisted", others, f"{what} by the labels", first))
    if not attrs.get("unreachable"):
        missing = table["frame_path"][~table["on_disk"]]
        what = "frame of the labels is not there" if len(missing) == 1 else "frames of the labels are not there"
        found.append(Note("missing", len(missing), what, None if missing.empty else str(missing.iloc[0])))
    if "wanted" in table:
        left_out = table["frame_path"][~table["wanted"]]
        what = f"{'frame is' if len(left_out) == 1 else 'frames are'} left out: of another class, or past the limit"
        found.append(Note("left_out", len(left_out), what, None if left_out.empty else str(left_out.iloc[0])))
    return [*(note for note in found if note.count), *attrs.get("notes", ())]


def summarize_frames(table: pd.DataFrame) -> str:
    """Say how many frames there are in one line, and what is worth telling of them in a line each.

    Parameters
    ----------
    table
        What `select_frames` returned.
    """
    unreachable = table.attrs.get("unreachable")
    there = f"the source cannot be reached: {unreachable}" if unreachable else f"{table['on_disk'].sum()} are there"
    first = f"{len(table)} frames, {table['wanted'].sum()} of them wanted; {there}"
    return "\n".join([first, *map(str, list_notes(table))])


def _numbered(table: pd.DataFrame, labels: Mapping[str, int]) -> pd.DataFrame:
    """Add the number of each row's class."""
    numbers = pc.index_in(pa.array(table["class_name"]), value_set=pa.array(list(labels), pa.large_string()))
    table["label"] = np.array(list(labels.values()), np.int64)[numbers.to_numpy()]
    return table


def _drop_repeated(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[Hashable, Any]]:
    """Drop rows that repeat another in every column; say how many, and the first one's frame_path."""
    # What pandas makes a million objects of, Arrow does in place.
    if pc.count_distinct(pa.array(rows["frame_path"])).as_py() == len(rows):
        return rows, count_repeated()
    return rows.drop_duplicates(), count_repeated(rows["frame_path"][rows.duplicated()])


def _match(table: pd.DataFrame, listing: Listing, known: Known) -> dict[Hashable, Any]:
    """Add `on_disk` and `stamp`; return what `Listing.count_unlisted` says."""
    places = listing.find(pa.array(table["frame_path"], pa.string()).cast(pa.binary()))
    if listing.unreachable:
        table["on_disk"] = _was_on_disk(table, known())
        table["stamp"] = _no_stamps(table)
    else:
        table["on_disk"] = places.is_valid().to_numpy(zero_copy_only=False)
        table["stamp"] = listing.stamps.take(places).to_pandas()
    return listing.count_unlisted(places)


def _was_on_disk(table: pd.DataFrame, known: pd.DataFrame | None) -> NDArray[np.bool_]:
    """Say which frames the source had when it was listed last; none if that is not known."""
    if known is None:
        return np.zeros(len(table), bool)
    there = pa.array(known["frame_path"][known["on_disk"]], pa.string())
    found: NDArray[np.bool_] = pc.is_in(pa.array(table["frame_path"], pa.string()), value_set=there).to_numpy(
        zero_copy_only=False
    )
    return found


def _read_known(output: str) -> pd.DataFrame | None:
    """Read the frame table of the run in a folder, if there is one."""
    if not urls.is_remote(output) and not os.path.isdir(urls.strip_file_scheme(output)):
        return None
    return run_tables.read_frames(stores.open_store(output))


def _reuse(
    known: pd.DataFrame, identity: Mapping[str, Any], listing: Listing, labels: Mapping[str, int]
) -> pd.DataFrame:
    """Return the table of an earlier run, if it was made of the same labels, in place of one that cannot be made."""
    # A run of 0.2 did not record what its table was made of.
    is_same = all(known.attrs.get(key) in (None, value) for key, value in identity.items())
    if not is_same or not known["class_name"].isin(list(labels)).all():
        if listing.error:
            raise listing.error
        raise SourceError(
            f"{listing.unreachable}, and the labels are not those of the run that is there; is the drive mounted, is "
            "`images` the folder of the frames?"
        )
    table = known.drop(columns="wanted", errors="ignore").reset_index(drop=True)
    table["stamp"] = _no_stamps(table)
    table.attrs = known.attrs | {"unreachable": listing.unreachable}
    return _numbered(table, labels)


def _no_stamps(table: pd.DataFrame) -> pd.Series:
    stamps: pd.Series = pa.nulls(len(table), pa.string()).to_pandas()
    return stamps


def _check_rows(table: pd.DataFrame, path: str | os.PathLike[str], labels: Mapping[str, int]) -> None:
    """Refuse the table if a row is wrong, naming the first rows with what is wrong with each."""
    frame_path = table["frame_path"]
    several = pd.Series(False, index=table.index)
    if pc.count_distinct(pa.array(frame_path)).as_py() < len(table):
        several = frame_path.duplicated(keep=False)
    again = table[several]
    two_classes = several & frame_path.isin(
        again.groupby("frame_path")["class_name"].nunique().loc[lambda n: n > 1].index
    )
    # One pass for each fault, over whole columns: a table may have a million rows.
    faults = {
        "the frame_path is empty": frame_path == "",
        "the frame_path is absolute; it must be relative to the images folder": frame_path.str.startswith("/"),
        "the frame_path has a part `..` or `.`; it may not leave the images folder": frame_path.str.contains(
            r"(?:^|/)\.{1,2}(?:/|$)", regex=True
        ),
        "the frame_path has an empty part": frame_path.str.contains("//", regex=False) | frame_path.str.endswith("/"),
        "the video_name is empty": table["video_name"] == "",
        "the frame_id is not a whole number": ~table["frame_id"].str.fullmatch(r"-?[0-9]{1,18}"),
        f"the class_name is no label; accepted: {', '.join(labels)}": ~table["class_name"].isin(list(labels)),
        "the frame has two classes": two_classes,
        "the frame is there twice, with another video_name, frame_id or column": several & ~two_classes,
    }
    refuse_rows(table, faults, COLUMNS, path)
