"""Labels of frames: a csv with one row per frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.labels.columns import add_listing, number_classes, set_attrs
from detectime.labels.names import fold_group, note_repeated_ids, restore_class_names
from detectime.labels.table_files import LabelTable, describe_table, read_table
from detectime.labels.tables import find_faults, refuse_rows, rename_reserved_columns, strip_current_folder
from detectime.notes import Note, note_found
from detectime.sources.contract import Source
from detectime.sources.listing import list_source

COLUMNS = ("frame_path", "video_name", "frame_id", "class_name")
"""Columns that the csv must have."""


def read_frames_csv(
    labels_csv: LabelTable,
    source: Source,
    labels: Mapping[str, int],
    read_earlier: Callable[[], pd.DataFrame | None] = lambda: None,
) -> pd.DataFrame:
    """Read a csv with one row per frame, check it, and match it with the files of the source.

    Parameters
    ----------
    labels_csv
        A csv or Parquet file, or a DataFrame, with the columns in `COLUMNS`: see `table_files.read_table`.
    source
        Where frames come from.
    labels
        The vocabulary: the number of each class.
    read_earlier
        Called if the source cannot be listed or lists nothing: returns the frame table of an earlier run, from which
        `on_disk` is taken, or None.

    Returns
    -------
    DataFrame
        One row per frame, in the order of the file: the columns of the file (`frame_id` as int64, all others as text;
        one whose name detectime uses itself, such as `width`, is renamed: see `tables.rename_reserved_columns`), and

        - `label` (int64), the number of its class;
        - `on_disk` (bool), whether the source has the frame;
        - `stamp` (text), its stamp in the listing of the source; NaN if it has none.

        ``attrs`` are described in `columns.set_attrs`; `first_duplicate` is a frame_path.

    Raises
    ------
    TableError
        If the file cannot be read, lacks a column, or has wrong rows: the message lists the first twenty.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.sources.folder import FolderSource
    >>> labels = {"no_gesture": 0, "stop": 1, "victory": 2, "mute": 3, "ok": 4, "like": 5, "dislike": 6}
    >>> source = FolderSource(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> table = read_frames_csv(paths.SAMPLE / "train.csv", source, labels)
    >>> table[["frame_path", "frame_id", "label", "on_disk"]].to_dict("records")[0]
    {'frame_path': 'stop_01/0001.jpg', 'frame_id': 1, 'label': 1, 'on_disk': True}
    """
    rows, notes = read_table(labels_csv, COLUMNS)
    sha256 = rows.attrs["labels_sha256"]
    rows, renamed = rename_reserved_columns(rows)
    notes += strip_current_folder(rows, "frame_path")
    rows, repeated = _drop_repeated(rows)
    notes += [*renamed, *restore_class_names(rows, labels)]
    _check_rows(rows, describe_table(labels_csv), labels)
    numbers = pc.utf8_trim_whitespace(pa.array(rows["frame_id"]))
    if pc.any(pc.match_substring(numbers, ".")).as_py():  # pandas writes 1.0 beside empty values
        numbers = pc.replace_substring_regex(numbers, r"\.0+$", "")
    rows["frame_id"] = numbers.cast(pa.int64()).to_numpy()
    table = number_classes(rows.reset_index(drop=True), labels)
    del rows
    notes += note_repeated_ids(table)
    listing = list_source(source)
    paths = pa.array(table["frame_path"], pa.string()).cast(pa.binary())
    positions = listing.find(paths)
    notes += [*listing.note_respelled(paths, positions), *listing.note_misplaced(paths, positions)]
    notes += _note_same_file(table, positions, describe_table(labels_csv))
    del paths
    add_listing(table, listing, positions)
    if listing.unreachable:
        table["on_disk"] = _find_on_disk(table, read_earlier())
    set_attrs(table, listing, positions, sha256, repeated, notes)
    del listing, positions
    pa.default_memory_pool().release_unused()  # Arrow keeps freed memory; here that is more than the table
    return table


def _drop_repeated(rows: pd.DataFrame) -> tuple[pd.DataFrame, Sequence[str] | pd.Series]:
    """Drop rows that repeat another in every column; also return their frame_paths."""
    # pandas would build a million Python objects for what Arrow does in place.
    if pc.count_distinct(pa.array(rows["frame_path"])).as_py() == len(rows):
        return rows, ()
    return rows.drop_duplicates(), rows["frame_path"][rows.duplicated()]


def _note_same_file(table: pd.DataFrame, positions: pa.Array, where: str) -> list[Note]:
    """Note rows that name the file of an earlier row in another spelling; refuse them if class or group differ."""
    known = positions.drop_null()
    if pc.count_distinct(known).as_py() == len(known):
        return []
    rows = table[["frame_path", "video_name", "class_name"]].assign(file=positions.to_pandas()).dropna(subset="file")
    shared = rows[rows["file"].duplicated(keep=False)]
    shared = shared.assign(video_name=shared["video_name"].map(fold_group))
    faults = {}
    for column, what in (("class_name", "classes"), ("video_name", "groups")):
        has_two = shared.groupby("file")[column].transform("nunique") > 1
        faults[f"the frame has two {what}, in two spellings of its name"] = has_two.reindex(
            table.index, fill_value=False
        )
    refuse_rows(table, faults, COLUMNS, where)
    again = shared.loc[shared["file"].duplicated(), "frame_path"].tolist()
    one, many = "row names the file of an earlier row", "rows name the file of an earlier row"
    return note_found("same_file", again, f"{one} in another spelling", f"{many} in another spelling")


def _check_rows(table: pd.DataFrame, where: str, labels: Mapping[str, int]) -> None:
    """Refuse the table if a row is wrong; rows that repeat another in every column are already dropped."""
    frame_path = table["frame_path"]
    is_repeated = pd.Series(False, index=table.index)
    if pc.count_distinct(pa.array(frame_path)).as_py() < len(table):
        is_repeated = frame_path.duplicated(keep=False)
    class_counts = table[is_repeated].groupby("frame_path")["class_name"].nunique()
    has_two_classes = is_repeated & frame_path.isin(class_counts.index[class_counts > 1])
    faults = find_faults(table, "frame_path", labels) | {
        "the frame_id is not a whole number": ~table["frame_id"].str.fullmatch(r"\s*-?[0-9]{1,18}(\.0+)?\s*"),
        "the frame has two classes": has_two_classes,
        "the frame appears twice, with another video_name, frame_id or column": is_repeated & ~has_two_classes,
    }
    refuse_rows(table, faults, COLUMNS, where)


def _find_on_disk(table: pd.DataFrame, earlier: pd.DataFrame | None) -> NDArray[np.bool_]:
    """Return which frames the source had when it was last listed; none if that is unknown."""
    if earlier is None:
        return np.zeros(len(table), bool)
    on_disk = pa.array(earlier["frame_path"][earlier["on_disk"]], pa.string())
    found: NDArray[np.bool_] = pc.is_in(pa.array(table["frame_path"], pa.string()), value_set=on_disk).to_numpy(
        zero_copy_only=False
    )
    return found
