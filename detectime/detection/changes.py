"""Frames that changed since detection: a different stamp triggers a check, and the content decides."""

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
from detectime.sources.reading import read_contents


@dataclass(frozen=True)
class Changes:
    """The comparison of a frame table with the results of a run; arrays have one element per row of the table.

    Attributes
    ----------
    changed
        bool: whether the frame has other content now.
    unread
        bool: whether the frame has another stamp and could not be read.
    compared
        How many frames could be compared.
    first
        The first frame that changed.
    unknown
        How many of the changed frames have another size and no recorded content.
    contents
        Text: the content of a frame that was read and did not change; null elsewhere.
    assumed
        How many of these have no recorded content, as in runs of 0.2, and count as unchanged because their size is.
    stamps
        Text: the stamp that the frame's result gets; null: it keeps its own.
    has_new_stamps
        Whether any of these differs from the recorded one.
    """

    changed: Flags
    unread: Flags
    compared: int
    first: str | None
    unknown: int
    contents: pa.Array
    assumed: int
    stamps: pa.Array
    has_new_stamps: bool

    @property
    def count(self) -> int:
        """How many frames changed."""
        return int(self.changed.sum())


def list_stamps(table: pd.DataFrame, source: Source) -> tuple[pa.Array, str | None]:
    """Return the stamps of a frame table: its own column, or without one the listing of the source.

    Returns
    -------
    stamps, unreachable
        Text, null where the source does not have the frame or knows nothing of it; and why the source could not be
        listed, None if it could.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.sources import open_source
    >>> table = pd.DataFrame({"frame_path": ["a.jpg"], "stamp": ["10-1"]})
    >>> list_stamps(table, open_source(str(paths.SAMPLE)))[0].to_pylist()
    ['10-1']
    """
    if "stamp" in table:
        return _flatten(pa.array(table["stamp"], pa.string(), from_pandas=True)), table.attrs.get("unreachable")
    listing = list_source(source)
    positions = listing.find(pa.array(table["frame_path"], pa.string()).cast(pa.binary()))
    return listing.stamps.take(positions), listing.unreachable


def find_changes(
    table: pd.DataFrame,
    stamps: pa.Array,
    rows: Integers,
    index: pa.Table,
    pending: Flags,
    source: Source,
    max_pixels: int,
) -> Changes:
    """Compare wanted frames with what was recorded when detection ran on them.

    A frame with another stamp is read. If its content is equal it is the same frame, as in a copy of a data set. A
    frame that was missing has nothing to compare.

    Parameters
    ----------
    table
        The frame table, with `wanted`.
    stamps
        From `list_stamps`.
    rows
        For each row of the table the row of `index` that counts, -1 where there is none.
    index
        With `stamp`, `content` and `outcome`: see `shards.Results`.
    pending
        bool, shape (rows of the table,): frames that are processed in any case.
    source
        Where the frames are.
    max_pixels
        Files that are larger than any image of so many pixels are not read.
    """
    taken = pa.array(rows, mask=rows < 0)
    old_stamps, content = _flatten(index["stamp"].take(taken)), _flatten(index["content"].take(taken))
    is_missing = pc.equal(index["outcome"].take(taken), "missing").fill_null(False)
    was_missing = _flatten(is_missing).to_numpy(zero_copy_only=False)
    is_known = table["wanted"].to_numpy() & (rows >= 0) & ~was_missing & ~pending & ~_is_null(stamps)
    differs = is_known & _differ(old_stamps, stamps)
    suspects = np.flatnonzero(differs & ~_is_null(old_stamps))
    changed = np.zeros(len(table), bool)
    unread = np.zeros(len(table), bool)
    contents: dict[int, str] = {}
    assumed = 0
    for k, found in zip(suspects.tolist(), _read_suspects(table, suspects, source, max_pixels), strict=True):
        if found is None:  # deleted meanwhile, or not readable: nothing shows that it is a different frame
            unread[k] = True
            continue
        recorded, old_stamp = content[k].as_py(), old_stamps[k].as_py()
        if recorded is None and old_stamp != found and _get_size(old_stamp) == _get_size(found):
            assumed += 1
        elif found not in (recorded, old_stamp):  # the stamp of a zip's member is its content
            changed[k] = True
            continue
        contents[k] = found
    differs &= ~unread
    new_contents = pa.nulls(len(table), pa.string())
    if contents:
        new_contents = pa.array([contents.get(k) for k in range(len(table))], pa.string())
    return Changes(
        changed,
        unread,
        compared=int(np.count_nonzero(is_known & ~_is_null(old_stamps))),
        first=str(table["frame_path"].iloc[int(np.argmax(changed))]) if changed.any() else None,
        unknown=int((changed & _is_null(content)).sum()),
        contents=new_contents,
        assumed=assumed,
        stamps=pc.if_else(pa.array(is_known & ~unread), stamps, pa.scalar(None, pa.string())),
        has_new_stamps=bool(differs.any()),
    )


def note_changes(changes: Changes, at: str) -> list[Note]:
    """Return a note about changed frames, on which detection runs again; no note if none changed.

    Examples
    --------
    >>> no_text = pa.nulls(1, pa.string())
    >>> changes = Changes(np.array([True]), np.array([False]), 1, "a.jpg", 0, no_text, 0, no_text, False)
    >>> print(*note_changes(changes, "2026-11-26T01:02:03+00:00"))
    1 frame changed and was processed again (the first: 'a.jpg')
    """
    if not changes.count:
        return []
    unknown = f" ({changes.unknown} by their size alone: no content was recorded)" if changes.unknown else ""
    one, many = "frame changed and was", "frames changed and were"
    text = f"{one if changes.count == 1 else many} processed again{unknown}"
    return [Note("changed", changes.count, text, changes.first, at)]


def note_doubts(table: pd.DataFrame, changes: Changes, at: str) -> list[Note]:
    """Return notes about frames with another stamp whose contents could not be compared.

    Examples
    --------
    >>> no_text = pa.nulls(1, pa.string())
    >>> changes = Changes(np.array([False]), np.array([True]), 1, "a.jpg", 0, no_text, 0, no_text, False)
    >>> print(*note_doubts(pd.DataFrame({"frame_path": ["a.jpg"]}), changes, "2026-11-26T01:02:03+00:00"))
    1 frame may have changed and cannot be read; the detections of before are kept (the first: 'a.jpg')
    """
    notes = []
    if changes.assumed:
        frames = "frame has" if changes.assumed == 1 else "frames have"
        text = f"{frames} another time and the same size; 0.2 recorded no content, so they count as unchanged"
        notes.append(Note("assumed", changes.assumed, text, None, at))
    what = "may have changed and cannot be read; the detections of before are kept"
    unread = table["frame_path"][changes.unread].tolist()
    return [*notes, *note_found("unread", unread, f"frame {what}", f"frames {what}")]


def note_listing(table: pd.DataFrame, rows: Integers, index: pa.Table, retry_failed: bool) -> list[Note]:
    """Return notes about frames that are gone, and about missing ones that exist now.

    Parameters
    ----------
    table
        The frame table, with `wanted` and `on_disk`.
    rows, index
        As in `find_changes`.
    retry_failed
        Whether missing frames are processed again in any case.

    Examples
    --------
    >>> table = pd.DataFrame({"frame_path": ["a.jpg", "b.jpg"], "wanted": True, "on_disk": [True, False]})
    >>> print(*note_listing(table, np.array([0, 1]), pa.table({"outcome": ["ok", "ok"]}), retry_failed=False))
    1 processed frame is gone; its detections are kept (the first: 'b.jpg')
    """
    is_there = table["on_disk"].to_numpy()  # a source may have a frame and know no stamp
    if not len(index) or not is_there.any():
        return []
    known = table["wanted"].to_numpy() & (rows >= 0)
    was_missing = pc.equal(index["outcome"], "missing").to_numpy()[rows] & known
    gone = table["frame_path"][known & ~was_missing & ~is_there]
    back = table["frame_path"][was_missing & is_there] if not retry_failed else gone[:0]
    return [
        *note_found(
            "gone",
            list(gone),
            "processed frame is gone; its detections are kept",
            "processed frames are gone; their detections are kept",
        ),
        *note_found(
            "back",
            list(back),
            "frame that was missing exists now; `retry_failed` processes it",
            "frames that were missing exist now; `retry_failed` processes them",
        ),
    ]


def _get_size(text: str) -> str:
    """Return the size that a stamp or a content begins with."""
    return text.partition("-")[0]


def _read_suspects(table: pd.DataFrame, rows: Integers, source: Source, max_pixels: int) -> Iterator[str | None]:
    """Read frames and yield the content of each; None where one cannot be read."""
    if not len(rows):
        return
    with Progress(len(rows), name="checking frames that may have changed") as progress:
        for _, content in read_contents(source, table["frame_path"].iloc[rows], max_pixels=max_pixels):
            yield content
            progress.add(1)


def _differ(a: pa.Array, b: pa.Array) -> Flags:
    """Whether texts differ; null is equal to null alone."""
    equal: Flags = pc.equal(a, b).fill_null(False).to_numpy(zero_copy_only=False)
    return ~(equal | (_is_null(a) & _is_null(b)))


def _is_null(values: pa.Array) -> Flags:
    flags: Flags = values.is_null().to_numpy(zero_copy_only=False)
    return flags


def _flatten(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
