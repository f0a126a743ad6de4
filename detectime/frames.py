"""The frame table: one row a frame, made of labels, checked, and matched with the files that are there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import hagrid, spans
from detectime.config import Config
from detectime.labels import TableError, columns, kept_as, read_csv, refuse, some, unlisted
from detectime.sources import Source

__all__ = ["COLUMNS", "TableError", "counts", "of", "read", "select", "summary"]

COLUMNS = ("frame_path", "video_name", "frame_id", "class_name")
_NAMES = 100_000  # of files that are Python's strings at a time


def of(config: Config, source: Source) -> pd.DataFrame:
    """Make the frame table of a configuration, whatever its labels are.

    - A folder: HaGRID's annotations, see `hagrid.read`.
    - A csv with the column `file` and without `frame_path`: a row a span of a video, see `spans.read`.
    - Any other csv: a row a frame, see `read`.

    Parameters
    ----------
    config
        `data.labels`, where the labels are; `data.every` and `data.hagrid_classes`; `labels`, the vocabulary.
    source
        Where the frames are.

    Returns
    -------
    DataFrame
        As `read` returns it. ``attrs`` may hold `notes` as well: what was left out, in sentences; see `summary`.

    Raises
    ------
    TableError
        If the labels cannot be used: the first twenty wrong rows are named.
    """
    labels = config.data.labels
    if os.path.isdir(labels):
        table = hagrid.read(labels, _names(source), config.data.hagrid_classes, config.labels)
    elif "file" in (names := columns(labels)) and "frame_path" not in names:
        table = spans.read(labels, source, config.labels, config.data.every)
    else:
        return read(labels, source, config.labels)
    return _numbered(table, config.labels)


def read(labels_csv: str | os.PathLike[str], source: Source, labels: Mapping[str, int]) -> pd.DataFrame:
    """Read a frame table, check it, number its classes, and see which of its frames are there.

    Parameters
    ----------
    labels_csv
        A csv file with the columns in `COLUMNS`, separated by commas or semicolons, in UTF-8.
    source
        Where the frames are.
    labels
        The vocabulary: the number of each class.

    Returns
    -------
    DataFrame
        A row a frame, in the order of the file: its columns (text, but `frame_id`, int64; one that has the name of a
        column that is made here or in pairing, as `width`, is called `width_in_csv`), and

        - `label` (int64), the number of its class;
        - `on_disk` (bool), whether the source has it.

        ``attrs`` holds `duplicates`, the number of rows that repeated another and were dropped, `unlisted`, the number
        of files of the source that the table does not name, and `unlisted_names`, the first twenty of them.

    Raises
    ------
    TableError
        If the file cannot be read, lacks a column, or a row is wrong: the first twenty wrong rows are named.
    """
    table = read_csv(labels_csv, COLUMNS).rename(columns=kept_as)
    rows = len(table)
    # What pandas makes a million objects of, Arrow does in place.
    if pc.count_distinct(pa.array(table["frame_path"])).as_py() < rows:
        table = table.drop_duplicates()
    _check_rows(table, labels_csv, labels)
    table["frame_id"] = pa.array(table["frame_id"]).cast(pa.int64()).to_numpy()
    duplicates = rows - len(table)
    table = _numbered(table.reset_index(drop=True), labels)
    names = _names(source)
    listed = pa.array(table["frame_path"], pa.string()).cast(pa.binary())
    table["on_disk"] = pc.is_in(listed, value_set=names).to_numpy(zero_copy_only=False)
    table.attrs = {"duplicates": duplicates, **unlisted(names, listed)}
    del names, listed
    pa.default_memory_pool().release_unused()  # Arrow keeps what is free; here that is more than the table
    return table


def select(table: pd.DataFrame, classes: Sequence[str], limit: int | None = None) -> pd.DataFrame:
    """Say which rows a run wants.

    Parameters
    ----------
    table
        What `read` returned.
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


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count frames and videos of each class: a row a class, in the order of the labels."""
    kinds = table.groupby(["label", "class_name"], as_index=False)
    return kinds.agg(
        videos=("video_name", "nunique"),
        frames=("frame_path", "size"),
        missing=("on_disk", lambda there: int((~there).sum())),
        wanted=("wanted", "sum"),
    ).set_index("class_name")


def summary(table: pd.DataFrame) -> str:
    """Say in words how many frames there are, and what was left out.

    Parameters
    ----------
    table
        What `select` returned.
    """
    others, named = table.attrs["unlisted"], table.attrs.get("unlisted_names")
    there = (
        f"{len(table)} frames, {int(table['wanted'].sum())} of them wanted; {int((~table['on_disk']).sum())} are not "
        f"on the disk; {table.attrs['duplicates']} repeated rows dropped; {others} files that the table does not "
        f"name{f': {some(named, others)}' if named else ''}"
    )
    return "\n".join([there, *table.attrs.get("notes", ())])


def _numbered(table: pd.DataFrame, labels: Mapping[str, int]) -> pd.DataFrame:
    """Add the number of each row's class."""
    numbers = pc.index_in(pa.array(table["class_name"]), value_set=pa.array(list(labels), pa.large_string()))
    table["label"] = np.array(list(labels.values()), np.int64)[numbers.to_numpy()]
    return table


def _names(source: Source) -> pa.Array:
    """Names of the source's files as the bytes that they are: a name need not be UTF-8, and a million are compact."""
    names = source.names()
    chunks = iter(lambda: [os.fsencode(name) for name in itertools.islice(names, _NAMES)], [])
    return pa.chunked_array([pa.array(chunk, pa.binary()) for chunk in chunks], pa.binary()).combine_chunks()


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
    refuse(table, faults, COLUMNS, path)
