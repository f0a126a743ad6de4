"""What a source lists, in memory that a million files do not fill: see `list_source`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.notes import Note
from detectime.sources.contract import Source, SourceError

_SHOWN = 20  # files that a table does not name
_PIECE = 100_000  # files that are Python's objects at a time


@dataclass(frozen=True)
class Listing:
    """The files of a source, or why there are none.

    Parameters
    ----------
    names
        Their paths as the bytes that they are, binary: a name need not be UTF-8.
    stamps
        What the source tells of each without reading it, text; null where it tells nothing.
    notes
        What is worth telling about the place.
    unreachable
        Why nothing could be listed, in a sentence; an empty place counts, since an unmounted drive leaves its folder
        behind. None if something was.
    error
        What the source raised, if it did.
    """

    names: pa.Array
    stamps: pa.Array
    notes: list[Note] = field(default_factory=list)
    unreachable: str | None = None
    error: SourceError | None = None

    def find(self, names: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return the place of each name, binary, in the listing: int32, null where it is not listed."""
        places = pc.index_in(names, value_set=self.names)
        return places.combine_chunks() if isinstance(places, pa.ChunkedArray) else places

    def count_unlisted(self, places: pa.Array) -> dict[Hashable, Any]:
        """Say which files a frame table does not name.

        Parameters
        ----------
        places
            The places in the listing of the files that the table names; nulls are passed over.

        Returns
        -------
        dict
            For the table's ``attrs``: `unlisted`, how many they are, and `unlisted_names`, the first twenty by name.

        Examples
        --------
        >>> listing = Listing(pa.array([b"a.jpg", b"b.jpg"]), pa.array(["1", "2"]))
        >>> listing.count_unlisted(listing.find(pa.array([b"b.jpg", b"c.jpg"])))
        {'unlisted': 1, 'unlisted_names': ['a.jpg']}
        """
        is_other = np.ones(len(self.names), bool)
        is_other[places.drop_null().to_numpy()] = False
        others = self.names.filter(pa.array(is_other))
        first = others.take(pc.bottom_k_unstable(others, k=min(_SHOWN, len(others))))
        return {"unlisted": len(others), "unlisted_names": [os.fsdecode(name) for name in first.to_pylist()]}


def list_source(source: Source) -> Listing:
    """List the frames of a source; a place that cannot be listed is told in the listing, not raised."""
    return collect_listing(source, source.list_frames())


def collect_listing(source: Source, listed: Iterable[tuple[str, str | None]]) -> Listing:
    """Collect what a source yields: names, each with its stamp."""
    pieces = []
    empty = pa.array([], pa.binary()), pa.array([], pa.string())
    try:
        pieces = list(_pieces(iter(listed)))
        notes = source.notes() if pieces else []
    except SourceError as error:
        return Listing(*empty, unreachable=str(error), error=error)
    if not pieces:
        return Listing(*empty, unreachable=f"{source.root} lists nothing")
    names, stamps = zip(*pieces, strict=True)
    return Listing(pa.concat_arrays(names), pa.concat_arrays(stamps), notes)


def _pieces(listed: Iterator[tuple[str, str | None]]) -> Iterator[tuple[pa.Array, pa.Array]]:
    while True:
        names, stamps = [], []
        for name, stamp in itertools.islice(listed, _PIECE):  # a list of pairs would keep the garbage collector busy
            names.append(os.fsencode(name))
            stamps.append(stamp)
        if not names:
            return
        yield pa.array(names, pa.binary()), pa.array(stamps, pa.string())
