"""The frame table: one row a frame, read from a csv, checked, and matched with the files that are there."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import remote
from detectime.sources import Source

COLUMNS = ("frame_path", "video_name", "frame_id", "class_name")
_MADE_HERE = re.compile(
    "label|on_disk|wanted|outcome|error|width|height|faces|hands|overlap|fallback|found_by|(face|hand|bbox)_(x1|y1|x2|y2|score)"
)
_SHOWN = 20  # rows that an error names
_NAMES = 100_000  # of files that are Python's strings at a time


class TableError(ValueError):
    """A frame table that cannot be used; the message names the rows and the remedy."""


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

        ``attrs`` holds `duplicates`, the number of rows that repeated another and were dropped, and `unlisted`, the
        number of files of the source that the table does not name.

    Raises
    ------
    TableError
        If the file cannot be read, lacks a column, or a row is wrong: the first twenty wrong rows are named.
    """
    table = _read_csv(labels_csv)
    if table.empty:
        raise TableError(f"{labels_csv}: the table has no rows")
    rows = len(table)
    # What pandas makes a million objects of, Arrow does in place.
    if pc.count_distinct(pa.array(table["frame_path"])).as_py() < rows:
        table = table.drop_duplicates()
    _check_rows(table, labels_csv, labels)
    table["frame_id"] = pa.array(table["frame_id"]).cast(pa.int64()).to_numpy()
    numbers = pc.index_in(pa.array(table["class_name"]), value_set=pa.array(list(labels), pa.large_string()))
    table["label"] = np.array(list(labels.values()), np.int64)[numbers.to_numpy()]
    duplicates = rows - len(table)
    table = table.reset_index(drop=True)
    names = _names(source)
    listed = pa.array(table["frame_path"], pa.string()).cast(pa.binary())
    table["on_disk"] = pc.is_in(listed, value_set=names).to_numpy(zero_copy_only=False)
    table.attrs = {"duplicates": duplicates, "unlisted": len(names) - int(table["on_disk"].sum())}
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


HAGRID = {"stop": "stop", "peace": "victory", "mute": "mute", "ok": "ok", "like": "like", "dislike": "dislike"}
"""HaGRID's names of the contest's gestures, and the contest's."""


def hagrid_labels(annotations: str | os.PathLike[str], names: Mapping[str, str] = HAGRID) -> pd.DataFrame:
    """Make labels of HaGRID's annotations: what `read` reads, once it is written as a csv.

    Parameters
    ----------
    annotations
        A folder of HaGRID's ``<class>.json``.
    names
        HaGRID's name of each class that is wanted, and ours.

    Returns
    -------
    DataFrame
        `frame_path`, ``<class>/<image>.jpg``; `video_name`, the person; `frame_id`, the image's ordinal among the
        person's; `class_name`, ours.
    """
    rows = []
    for theirs, ours in names.items():
        images = json.loads(Path(annotations, f"{theirs}.json").read_text(encoding="utf-8"))
        rows += [(f"{theirs}/{image}.jpg", found["user_id"], ours) for image, found in images.items()]
    labels = pd.DataFrame(rows, columns=["frame_path", "video_name", "class_name"])
    return labels.assign(frame_id=labels.groupby("video_name").cumcount())


def _names(source: Source) -> pa.Array:
    """Names of the source's files as the bytes that they are: a name need not be UTF-8, and a million are compact."""
    names = source.names()
    chunks = iter(lambda: [os.fsencode(name) for name in itertools.islice(names, _NAMES)], [])
    return pa.chunked_array([pa.array(chunk, pa.binary()) for chunk in chunks], pa.binary()).combine_chunks()


def _read_csv(path: str | os.PathLike[str]) -> pd.DataFrame:
    try:
        content = remote.read(str(path)) if remote.is_remote(str(path)) else None
        with open(path, "rb") if content is None else io.BytesIO(content) as file:
            header = io.TextIOWrapper(file, encoding="utf-8-sig", newline="").readline()
        separator = ";" if header.count(";") > header.count(",") else ","
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
        _check_names(names, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops surplus fields and only warns
            return pd.read_csv(
                path if content is None else io.BytesIO(content),
                sep=separator,
                encoding="utf-8-sig",
                dtype=str,
                keep_default_na=False,
                index_col=False,
            ).rename(columns=_column)
    except FileNotFoundError as error:
        raise TableError(f"{path}: there is no such file; give the csv of the labels as `labels`") from error
    except OSError as error:
        raise TableError(f"{path}: the labels cannot be read: {remote.reason(error)}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: the labels are not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise TableError(f"{path}: this is not a csv file: {' '.join(str(error).split())}") from error


def _column(name: str) -> str:
    """Name of a column of the csv in the table: another one if it is the name of a column that is made here."""
    name = name.strip()
    return f"{name}_in_csv" if _MADE_HERE.fullmatch(name) else name


def _check_names(names: Sequence[str], path: object) -> None:
    """Refuse a file that lacks a column, or has one twice."""
    for column in COLUMNS:
        if column not in names:
            there = ", ".join(_short(name) for name in names[:_SHOWN])
            raise TableError(f"{path}: the column {column} is missing; the file has {there or 'none'}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TableError(f"{path}: the column {_short(twice[0])} is there twice; rename one")


def _check_rows(table: pd.DataFrame, path: object, labels: Mapping[str, int]) -> None:
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
    wrong = np.logical_or.reduce([fault.to_numpy(dtype=bool) for fault in faults.values()])
    if not wrong.any():
        return
    lines = []
    for row in np.flatnonzero(wrong)[:_SHOWN]:
        reasons = "; ".join(reason for reason, fault in faults.items() if fault.iloc[row])
        values = ", ".join(f"{column}={_short(table[column].iloc[row])}" for column in COLUMNS)
        lines.append(f"  row {table.index[row] + 1}: {reasons} ({values})")
    more = int(wrong.sum()) - len(lines)
    if more:
        lines.append(f"  and {more} more")
    # The last line is what papermill and a terminal leave in sight.
    lines.insert(0, f"{path}: wrong rows of the frame table (row 1 follows the header):")
    lines.append(f"{path}: {int(wrong.sum())} rows of the frame table are wrong; the first is{lines[1][1:]}")
    raise TableError("\n".join(lines))


def _short(value: str, length: int = 80) -> str:
    """Text as Python would write it, so that no control character reaches a terminal, cut in the middle if long."""
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[: length // 2]}…{shown[-length // 2 :]}"
