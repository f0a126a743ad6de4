"""The frame table: one row per frame, read from labels of any kind and matched with the files of the source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from detectime.config import NO_GESTURE, Config
from detectime.errors import ConfigError
from detectime.labels.columns import number_classes
from detectime.labels.frames_csv import read_frames_csv
from detectime.labels.names import unify_groups
from detectime.labels.readers import choose_reader, find_labels_type
from detectime.labels.table_files import LabelTable
from detectime.labels.tables import TableError
from detectime.notes import Note
from detectime.sources.contract import Source, SourceError
from detectime.sources.listing import Listing, list_source
from detectime.storage import run_tables, urls
from detectime.storage import store as stores

_EARLIER_RULES = {"span_zero": "first_picture", "every": None}
"""What decided the rows before there was a choice."""


def read_labels(config: Config, source: Source, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """Read the labels of a configuration into a frame table, whatever their type: see `readers.find_labels_type`.

    Groups whose names differ by Unicode form or blanks alone become one: see `names.unify_groups`.

    Parameters
    ----------
    config
        `data.labels`, the labels; the other keys of `data` that the reader takes; `labels`, the vocabulary; and
        `data.output`: if the source cannot be listed, or lists nothing, the frame table of the run in that folder
        stands in.
    source
        Where frames come from.
    rows
        The labels as a DataFrame, with the columns of a csv of frames or of spans; None: `data.labels`.

    Returns
    -------
    DataFrame
        As `frames_csv.read_frames_csv` returns it. Except for a csv with one row per frame, ``attrs`` also holds
        `made_with`, the settings that decided its rows.

    Raises
    ------
    TableError
        If the labels cannot be used: the message lists the first twenty wrong rows.
    SourceError
        If the frames cannot be listed, which all labels but a csv of frames need, and there is no run of the same
        labels.
    ConfigError
        If the section `labels` is ``auto``: see `vocabulary.number_labels`.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.config import load_config
    >>> from detectime.sources.folder import FolderSource
    >>> config = load_config(parameters={"labels": str(paths.SAMPLE / "train.csv")})
    >>> table = read_labels(config, FolderSource(str(paths.SAMPLE / "TRAIN_DATA")))
    >>> len(table), table["on_disk"].all().item()
    (120, True)
    """
    if config.labels_are_auto:
        raise ConfigError(
            "labels = auto: the classes have no numbers yet; first: config = vocabulary.number_labels(config, source)"
        )
    table = _read_table(config, source, config.data.labels if rows is None else rows)
    table.attrs["notes"] = [*table.attrs.get("notes", ()), *unify_groups(table)]
    return table


def select_frames(table: pd.DataFrame, classes: Sequence[str], limit: int | None = None) -> pd.DataFrame:
    """Mark the rows that a run processes.

    Parameters
    ----------
    table
        A frame table, as `read_labels` returns it.
    classes
        The classes that are wanted.
    limit
        Only the first `limit` rows of those classes; None: all.

    Returns
    -------
    DataFrame
        A copy with the column `wanted` (bool); its ``attrs`` also hold `classes`.

    Examples
    --------
    >>> table = pd.DataFrame({"frame_path": ["a.jpg", "b.jpg", "c.jpg"], "class_name": ["ok", "stop", "ok"]})
    >>> select_frames(table, ["ok"], limit=1)["wanted"].tolist()
    [True, False, False]
    """
    wanted = table["class_name"].isin(classes)
    if limit is not None:
        wanted &= wanted.cumsum() <= limit
    selected = table.assign(wanted=wanted)
    selected.attrs = table.attrs | {"classes": list(classes)}
    return selected


def count_frames(table: pd.DataFrame) -> pd.DataFrame:
    """Count the videos and frames of each class.

    Parameters
    ----------
    table
        A frame table with the column `wanted`, as `select_frames` returns it.

    Returns
    -------
    DataFrame
        One row per class, in the order of their labels: `label`, `videos`, `frames`, `missing`, `wanted`.

    Examples
    --------
    >>> table = pd.DataFrame({"frame_path": ["v/1.jpg", "v/2.jpg"], "video_name": "v", "class_name": "ok", "label": 4})
    >>> count_frames(table.assign(on_disk=[True, False], wanted=True)).loc["ok"].to_dict()
    {'label': 4, 'videos': 1, 'frames': 2, 'missing': 1, 'wanted': 2}
    """
    classes = table.groupby(["label", "class_name"], as_index=False)
    return classes.agg(
        videos=("video_name", "nunique"),
        frames=("frame_path", "size"),
        missing=("on_disk", lambda on_disk: int((~on_disk).sum())),
        wanted=("wanted", "sum"),
    ).set_index("class_name")


def list_notes(table: pd.DataFrame) -> list[Note]:
    """Return all notes about a frame table.

    They are about repeated rows, unlisted files, frames that are missing or left out, and what its ``attrs`` hold.

    Parameters
    ----------
    table
        A frame table, as `read_labels` or `select_frames` returns it.

    Examples
    --------
    >>> table = pd.DataFrame({"frame_path": ["a.jpg", "b.jpg"], "on_disk": [True, False]})
    >>> table.attrs = {"duplicates": 2, "first_duplicate": "a.jpg"}
    >>> for note in list_notes(table):
    ...     print(note)
    2 rows repeated another and were dropped (the first: 'a.jpg')
    1 frame of the labels is missing from the source (the first: 'b.jpg')
    """
    attrs = table.attrs
    repeated, unlisted = attrs.get("duplicates", 0), attrs.get("unlisted", 0)
    text = "row repeated another and was dropped" if repeated == 1 else "rows repeated another and were dropped"
    notes = [Note("repeated", repeated, text, attrs.get("first_duplicate"))]
    text = f"{'file of the source is' if unlisted == 1 else 'files of the source are'} not named by the labels"
    notes.append(Note("unlisted", unlisted, text, next(iter(attrs.get("unlisted_names", ())), None)))
    if not attrs.get("unreachable"):
        one, many = "frame of the labels is missing from the source", "frames of the labels are missing from the source"
        notes += _note_frames("missing", table, ~table["on_disk"], one, many)
    if "wanted" in table:
        notes += _note_left_out(table)
    return [*(note for note in notes if note.count), *attrs.get("notes", ())]


def summarize_frames(table: pd.DataFrame) -> str:
    """Summarize a frame table: one line with the counts, and one line per note.

    Parameters
    ----------
    table
        A frame table with the column `wanted`, as `select_frames` returns it.

    Examples
    --------
    >>> table = pd.DataFrame({"frame_path": ["a.jpg", "b.jpg"], "on_disk": [True, False], "wanted": True})
    >>> print(summarize_frames(table))
    2 frames, 2 wanted, 1 found in the source
    1 frame of the labels is missing from the source (the first: 'b.jpg')
    """
    unreachable = table.attrs.get("unreachable")
    counts = f"{len(table)} {'frame' if len(table) == 1 else 'frames'}, {table['wanted'].sum()} wanted"
    if unreachable:
        counts += f"; the source cannot be reached: {unreachable}"
    else:
        counts += f", {table['on_disk'].sum()} found in the source"
    return "\n".join([counts, *map(str, list_notes(table))])


def _read_table(config: Config, source: Source, labels: LabelTable) -> pd.DataFrame:
    read_earlier = partial(_read_earlier, config.data.output)
    try:
        reader = choose_reader(find_labels_type(config, labels, source))
    except TableError:  # the labels may be on the drive that is not mounted
        listing = list_source(source)
        earlier = read_earlier() if listing.unreachable else None
        if earlier is None:
            raise
        return _reuse_earlier(earlier, {}, listing, config.labels)
    if reader is None:
        return read_frames_csv(labels, source, config.labels, read_earlier)
    listing = reader.list_files(labels, source)
    made_with = {setting: getattr(config.data, setting) for setting in reader.settings}
    earlier = read_earlier() if listing.unreachable else None
    if earlier is not None:
        identity = {"labels_sha256": reader.hash_labels(config, labels), "made_with": made_with}
        return _reuse_earlier(earlier, identity, listing, config.labels)
    if listing.error:
        raise listing.error
    table = reader.read(config, labels, source, listing)
    table.attrs["made_with"] = made_with
    return table


def _read_earlier(output: str) -> pd.DataFrame | None:
    """Read the frame table of the run in a folder, if there is one."""
    if not urls.is_remote(output) and not os.path.isdir(urls.strip_file_scheme(output)):
        return None
    return run_tables.read_frames(stores.open_store(output))


def _reuse_earlier(
    earlier: pd.DataFrame, identity: Mapping[str, Any], listing: Listing, labels: Mapping[str, int]
) -> pd.DataFrame:
    """Return the frame table of an earlier run in place of one that cannot be built, if it has the same labels."""
    # Runs of 0.2 did not record the labels' sha256 and `made_with`.
    known: dict[str, Any] = {key: earlier.attrs.get(key) for key in identity}
    if known.get("made_with"):
        rules = {key: value for key, value in _EARLIER_RULES.items() if key in identity["made_with"]}
        known["made_with"] = rules | known["made_with"]
    is_same = all(value is None or known[key] in (None, value) for key, value in identity.items())
    if not is_same or not earlier["class_name"].isin(list(labels)).all():
        if listing.error:
            raise listing.error
        raise SourceError(
            f"{listing.unreachable}, and the labels differ from those of the run in the output folder; check that the "
            "drive is mounted and that `images` is the folder of the frames"
        )
    table = earlier.drop(columns="wanted", errors="ignore").reset_index(drop=True)
    table["stamp"] = pa.nulls(len(table), pa.string()).to_pandas()
    about = {key: value for key, value in earlier.attrs.items() if key != "classes"}  # of `select_frames`
    table.attrs = about | {"unreachable": listing.unreachable}
    return number_classes(table, labels)


def _note_left_out(table: pd.DataFrame) -> list[Note]:
    """Return notes about frames that are not wanted; those of ``no_gesture`` apart, with the line that takes them."""
    left_out, classes, notes = ~table["wanted"], table.attrs.get("classes"), []
    if classes is not None and NO_GESTURE not in classes:
        is_no_gesture = table["class_name"] == NO_GESTURE
        take = f'left out; to take them: classes = "{",".join([*classes, NO_GESTURE])}"'
        one, many = f"frame of {NO_GESTURE} is {take}", f"frames of {NO_GESTURE} are {take}"
        notes = _note_frames(NO_GESTURE, table, is_no_gesture, one, many)
        left_out &= ~is_no_gesture
    why = "left out: of another class, or past the limit"
    return [*notes, *_note_frames("left_out", table, left_out, f"frame is {why}", f"frames are {why}")]


def _note_frames(kind: str, table: pd.DataFrame, mask: pd.Series, one: str, many: str) -> list[Note]:
    """Return a note that counts the rows of a mask and shows the first; none if there are none."""
    count = int(mask.sum())
    first = str(table["frame_path"].iloc[int(mask.to_numpy().argmax())]) if count else None
    return [Note(kind, count, one if count == 1 else many, first)] if count else []
