"""Frames that changed since they were looked at: another stamp triggers a check, the content decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.boxes import Flags, Integers
from detectime.notes import Note, note_found
from detectime.progress import Progress
from detectime.sources.contract import Source
from detectime.sources.listing import list_source


@dataclass(frozen=True)
class Changes:
    """What became of frames that were looked at before.

    Attributes
    ----------
    changed
        For each row of the frame table, whether the frame has other content now.
    compared
        How many frames could be compared.
    first
        The first frame that changed.
    unknown
        How many of those that changed have no content recorded and another size.
    contents
        For each row of the frame table the content that was read of a frame that did not change; null elsewhere.
    assumed
        How many of these had no content recorded, as in runs of 0.2, and count as the same since their size is.
    unread
        For each row of the frame table, whether a frame with another stamp could not be read.
    stamps
        For each row of the frame table the stamp that its row of results is to have; null: its own.
    are_stamps_new
        Whether one of these is another one than the row has.
    """

    changed: Flags
    unread: Flags
    compared: int
    first: str | None
    unknown: int
    contents: pa.Array
    assumed: int
    stamps: pa.Array
    are_stamps_new: bool

    @property
    def count(self) -> int:
        """How many frames changed."""
        return int(self.changed.sum())


def list_stamps(table: pd.DataFrame, source: Source) -> tuple[pa.Array, str | None]:
    """Return the stamps of a frame table: its own column, or where it has none what the source lists now.

    Returns
    -------
    stamps, unreachable
        Text, null where the source does not have the frame, or tells nothing of it; and why nothing could be listed,
        None if something was.
    """
    if "stamp" in table:
        return _flat(pa.array(table["stamp"], pa.string(), from_pandas=True)), table.attrs.get("unreachable")
    listing = list_source(source)
    places = listing.find(pa.array(table["frame_path"], pa.string()).cast(pa.binary()))
    return listing.stamps.take(places), listing.unreachable


def find_changes(
    table: pd.DataFrame, stamps: pa.Array, rows: Integers, index: pa.Table, pending: Flags, source: Source
) -> Changes:
    """Compare wanted frames with what was recorded when they were looked at.

    A frame whose stamp is another one is read: with equal content it is the same frame, as in a copy of a data set. One
    that was missing was never looked at, and has nothing to compare.

    Parameters
    ----------
    table
        The frame table, with `wanted`.
    stamps
        What `list_stamps` returned.
    rows
        For each row of the table the row of `index` that counts, -1 where there is none.
    index
        With `stamp`, `content` and `outcome`: see `detection.shards.Results`.
    pending
        bool, shape (rows of the table,): frames that are looked at in any case.
    source
        Where the frames are.
    """
    taken = pa.array(rows, mask=rows < 0)
    then, content = _flat(index["stamp"].take(taken)), _flat(index["content"].take(taken))
    missing = pc.equal(index["outcome"].take(taken), "missing").fill_null(False)
    looked_at = table["wanted"].to_numpy() & (rows >= 0) & ~_flat(missing).to_numpy(zero_copy_only=False) & ~pending
    known = looked_at & ~_is_null(stamps)
    differs = known & _differ(then, stamps)
    suspects = np.flatnonzero(differs & ~_is_null(then))
    changed = np.zeros(len(table), bool)
    unread = np.zeros(len(table), bool)
    contents: dict[int, str] = {}
    assumed = 0
    for k, found in zip(suspects.tolist(), _read_contents(table, suspects, source), strict=True):
        if found is None:  # it is gone meanwhile, or may not be read: nothing says that it is another one
            unread[k] = True
            continue
        was, stamp = content[k].as_py(), then[k].as_py()
        if was is None and stamp != found and _size(stamp) == _size(found):
            assumed += 1
        elif found not in (was, stamp):  # the stamp of a member of a zip is its content
            changed[k] = True
            continue
        contents[k] = found
    differs &= ~unread
    count = int(np.count_nonzero(known & ~_is_null(then)))
    first = str(table["frame_path"].iloc[int(np.argmax(changed))]) if changed.any() else None
    unknown = int((changed & _is_null(content)).sum())
    read = pa.nulls(len(table), pa.string())
    if contents:
        read = pa.array([contents.get(k) for k in range(len(table))], pa.string())
    renewed = pc.if_else(pa.array(known & ~unread), stamps, pa.scalar(None, pa.string()))
    return Changes(changed, unread, count, first, unknown, read, assumed, renewed, bool(differs.any()))


def describe_changes(changes: Changes, at: str) -> list[Note]:
    """Return the note about frames that changed and are looked at again."""
    if not changes.count:
        return []
    unknown = f" ({changes.unknown} by their size alone: no content was recorded)" if changes.unknown else ""
    one = "frame changed since it was looked at, and was"
    were = one if changes.count == 1 else "frames changed since they were looked at, and were"
    return [Note("changed", changes.count, f"{were} looked at again{unknown}", changes.first, at)]


def describe_doubts(table: pd.DataFrame, changes: Changes, at: str) -> list[Note]:
    """Return notes about frames of which another stamp could not be followed by a comparison of contents."""
    notes = []
    if changes.assumed:
        frame = "frame has" if changes.assumed == 1 else "frames have"
        text = f"{frame} another time and the same size; with no content recorded by 0.2 they count as the same"
        notes.append(Note("assumed", changes.assumed, text, None, at))
    what = "may have changed and cannot be read; what was found before is kept"
    unread = table["frame_path"][changes.unread].tolist()
    return [*notes, *note_found("unread", unread, f"frame {what}", f"frames {what}")]


def _size(text: str) -> str:
    """Return the size that a stamp or a content begins with."""
    return text.partition("-")[0]


def _read_contents(table: pd.DataFrame, rows: Integers, source: Source) -> Iterator[str | None]:
    """Read frames and yield what `images.describe_content` says of each; None where one cannot be read."""
    if not len(rows):
        return
    with Progress(len(rows), name="checking frames that may have changed") as progress:
        for _, content in source.read_contents(table["frame_path"].iloc[rows]):
            yield content
            progress.add(1)


def _differ(a: pa.Array, b: pa.Array) -> Flags:
    """Whether texts differ, null being a text of its own."""
    equal: Flags = pc.equal(a, b).fill_null(False).to_numpy(zero_copy_only=False)
    return ~(equal | (_is_null(a) & _is_null(b)))


def _is_null(values: pa.Array) -> Flags:
    flags: Flags = values.is_null().to_numpy(zero_copy_only=False)
    return flags


def _flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
