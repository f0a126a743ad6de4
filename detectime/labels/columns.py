"""Columns and ``attrs`` that every frame table has, whatever its labels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.notes import Note
from detectime.sources.listing import Listing


def number_classes(table: pd.DataFrame, labels: Mapping[str, int]) -> pd.DataFrame:
    """Add the column `label` (int64) to a table, the number of each row's class, and return the table.

    Examples
    --------
    >>> number_classes(pd.DataFrame({"class_name": ["ok", "stop"]}), {"stop": 1, "ok": 4})["label"].tolist()
    [4, 1]
    """
    positions = pc.index_in(pa.array(table["class_name"]), value_set=pa.array(list(labels), pa.large_string()))
    table["label"] = np.array(list(labels.values()), np.int64)[positions.to_numpy()]
    return table


def add_listing(table: pd.DataFrame, listing: Listing, positions: pa.Array) -> None:
    """Add the columns `on_disk` (bool) and `stamp` (text, NaN where unknown) to a table.

    Parameters
    ----------
    table
        One row per frame.
    listing
        The files of the source.
    positions
        int32: the position of each row's file in the listing, null where it is not listed.

    Examples
    --------
    >>> listing = Listing(pa.array([b"a.jpg", b"b.jpg"]), pa.array(["1", "2"]))
    >>> table = pd.DataFrame({"frame_path": ["b.jpg", "c.jpg"]})
    >>> add_listing(table, listing, listing.find(pa.array([b"b.jpg", b"c.jpg"])))
    >>> table["on_disk"].tolist(), table["stamp"].isna().tolist()
    ([True, False], [False, True])
    """
    table["on_disk"] = positions.is_valid().to_numpy(zero_copy_only=False)
    table["stamp"] = listing.stamps.take(positions).to_pandas()


def set_attrs(
    table: pd.DataFrame,
    listing: Listing,
    positions: pa.Array,
    labels_sha256: str,
    repeated: Sequence[str] | pd.Series = (),
    notes: Sequence[Note] = (),
) -> None:
    """Set the ``attrs`` of a frame table.

    - `duplicates`, how many rows repeated another and were dropped; `first_duplicate`, the first of them;
    - `unlisted`, how many files of the source the labels do not name; `unlisted_names`, the first twenty;
    - `labels_sha256`, the SHA-256 of the labels in hexadecimal;
    - `unreachable`, why the source could not be listed, as a sentence; None if it could;
    - `notes`, other findings, a list of `Note`: `frame_table.list_notes` returns all.

    Parameters
    ----------
    table
        One row per frame.
    listing
        The files of the source.
    positions
        int32: the positions in the listing of the files that the labels name; nulls are skipped.
    labels_sha256
        Of the labels.
    repeated
        What identifies the rows that were dropped.
    notes
        Notes about the labels; those about the source follow.

    Examples
    --------
    >>> listing = Listing(pa.array([b"a.jpg", b"b.jpg"]), pa.array(["1", "2"]))
    >>> table = pd.DataFrame({"frame_path": ["a.jpg"]})
    >>> set_attrs(table, listing, listing.find(pa.array([b"a.jpg"])), "e3b0c4", repeated=["a.jpg"])
    >>> table.attrs["first_duplicate"], table.attrs["unlisted_names"]
    ('a.jpg', ['b.jpg'])
    """
    table.attrs = {
        "duplicates": len(repeated),
        "first_duplicate": next(map(str, repeated), None),
        **listing.count_unlisted(positions),
        "labels_sha256": labels_sha256,
        "unreachable": listing.unreachable,
        "notes": [*notes, *listing.notes],
    }
