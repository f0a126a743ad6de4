"""The listing of a source, as Arrow arrays: a million files take little memory."""

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

_NAMES_SHOWN = 20  # of files that a table does not name
_CHUNK = 100_000  # files that exist as Python objects at a time


@dataclass(frozen=True)
class Listing:
    """The files of a source, or the reason why it has none.

    Parameters
    ----------
    names
        Paths as bytes, binary: a file name need not be UTF-8.
    stamps
        The stamp of each, text; null where the source knows nothing.
    notes
        Notes about the location.
    unreachable
        Why nothing could be listed, as a sentence. An empty location counts: an unmounted drive leaves an empty folder.
        None if files were listed.
    error
        The error that the source raised, if it did.

    Examples
    --------
    >>> listing = Listing(pa.array([b"a.jpg", b"b.jpg"]), pa.array(["1", "2"]))
    >>> listing.find(pa.array([b"b.jpg", b"c.jpg"])).to_pylist()
    [1, None]
    """

    names: pa.Array
    stamps: pa.Array
    notes: list[Note] = field(default_factory=list)
    unreachable: str | None = None
    error: SourceError | None = None

    def find(self, names: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return the position of each name, binary, in the listing: int32, null where it is not listed."""
        positions = pc.index_in(names, value_set=self.names)
        return positions.combine_chunks() if isinstance(positions, pa.ChunkedArray) else positions

    def count_unlisted(self, positions: pa.Array) -> dict[Hashable, Any]:
        """Count the files that a frame table does not name.

        Parameters
        ----------
        positions
            Positions in the listing of the files that the table names; nulls are skipped.

        Returns
        -------
        dict
            For the table's ``attrs``: `unlisted`, the count, and `unlisted_names`, the first twenty in order.

        Examples
        --------
        >>> listing = Listing(pa.array([b"a.jpg", b"b.jpg"]), pa.array(["1", "2"]))
        >>> listing.count_unlisted(listing.find(pa.array([b"b.jpg", b"c.jpg"])))
        {'unlisted': 1, 'unlisted_names': ['a.jpg']}
        """
        is_unlisted = np.ones(len(self.names), bool)
        is_unlisted[positions.drop_null().to_numpy()] = False
        others = self.names.filter(pa.array(is_unlisted))
        first = others.take(pc.bottom_k_unstable(others, k=min(_NAMES_SHOWN, len(others))))
        return {"unlisted": len(others), "unlisted_names": [os.fsdecode(name) for name in first.to_pylist()]}


def list_source(source: Source) -> Listing:
    """List the frames of a source; if that fails the listing has the reason, and nothing is raised.

    Examples
    --------
    >>> from detectime.sources import open_source
    >>> print(list_source(open_source("/nobody/has/this")).unreachable)
    /nobody/has/this: the images folder cannot be read: No such file or directory; give it as `images`
    """
    return collect_listing(source, source.list_frames())


def collect_listing(source: Source, listed: Iterable[tuple[str, str | None]]) -> Listing:
    """Collect names and stamps that a source yields; raises nothing, as `list_source`.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.sources import open_source
    >>> collect_listing(open_source(str(paths.SAMPLE)), [("a.jpg", "1")]).names.to_pylist()
    [b'a.jpg']
    """
    empty = pa.array([], pa.binary()), pa.array([], pa.string())
    try:
        chunks = list(_collect_chunks(iter(listed)))
        notes = source.list_notes() if chunks else []
    except SourceError as error:
        return Listing(*empty, unreachable=str(error), error=error)
    if not chunks:
        return Listing(*empty, unreachable=f"{source.root} lists nothing")
    names, stamps = zip(*chunks, strict=True)
    return Listing(pa.concat_arrays(names), pa.concat_arrays(stamps), notes)


def _collect_chunks(listed: Iterator[tuple[str, str | None]]) -> Iterator[tuple[pa.Array, pa.Array]]:
    while True:
        names, stamps = [], []
        for name, stamp in itertools.islice(listed, _CHUNK):  # a list of pairs would keep the garbage collector busy
            names.append(os.fsencode(name))
            stamps.append(stamp)
        if not names:
            return
        yield pa.array(names, pa.binary()), pa.array(stamps, pa.string())
