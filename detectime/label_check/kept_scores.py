"""The scores that are kept in the folder of a run, and to what they belong."""

from __future__ import annotations

import contextlib
import uuid

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime import pairing
from detectime.label_check.network import GESTURES, WEIGHTS
from detectime.notes import Note, note_found
from detectime.schema import CORNERS, DamagedTableError
from detectime.storage import run_tables
from detectime.storage.store import Store, StoreError

FILE_NAME = "label_check.parquet"
"""Name of the table of kept scores in the folder of a run."""

_VERSION = 1
_PART = "label_check.part-"  # begins the name of a file with the scores of one chunk
_ATTRIBUTES = {"weights_sha256": WEIGHTS.sha256, "revision": 1}  # another revision when other crops are looked at


def describe_samples(samples: pd.DataFrame) -> pd.DataFrame:
    """Return what the scores of each sample belong to: its frame, its hand, and the content, empty where unknown."""
    table = pd.DataFrame(pairing.get_boxes(samples, "hand"), columns=list(CORNERS))
    table.insert(0, "frame_path", samples["frame_path"].to_numpy(object))
    table.insert(1, "content", samples["content"].fillna("").to_numpy(object))
    return table


class KeptScores:
    """The scores in the folder of a run: one table, and beside it a file per chunk that is not part of it yet.

    A folder that cannot be written to is read; what is new is then computed again next time, which a note says.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._damaged: set[str] = set()
        self._fault: StoreError | None = None
        self._parts: list[str] = []
        self._table = self._read()

    def find(self, table: pd.DataFrame) -> NDArray[np.float32]:
        """Return the kept scores of samples, shape (samples, 45); rows of NaN where there are none."""
        values = np.full((len(table), len(GESTURES)), np.nan, np.float32)
        if self._table is None:
            return values
        places = pd.Index(self._table["frame_path"]).get_indexer(table["frame_path"])
        found = self._table.iloc[places]  # the last row where there is none
        is_same = (places >= 0) & (found["content"].to_numpy() == table["content"].to_numpy())
        is_same &= (found[list(CORNERS)].to_numpy() == table[list(CORNERS)].to_numpy()).all(axis=1)
        values[is_same] = found[list(GESTURES)].to_numpy(np.float32)[is_same]
        return values

    def keep(self, table: pd.DataFrame, scores: NDArray[np.float32]) -> None:
        """Keep scores in a file of their own. Without the content nobody could tell whether the frame changed."""
        columns = pd.DataFrame(scores, columns=list(GESTURES), index=table.index)
        rows = table.join(columns)[table["content"].ne("").to_numpy()]
        if self._fault is not None or rows.empty:
            return
        name = f"{_PART}{uuid.uuid4().hex}.parquet"
        try:
            self._write(name, rows)
            self._parts.append(name)
        except StoreError as error:
            self._fault = error

    def merge(self) -> None:
        """Make one table of all that is kept."""
        if not self._parts:
            return
        # Another process may be working in the folder: the parts stay, and the next call reads and merges them.
        with contextlib.suppress(StoreError), self._store.lock():
            table = self._read()
            if table is not None:
                self._write(FILE_NAME, table)
                self._store.delete(self._parts)

    def list_notes(self) -> list[Note]:
        """Return what went wrong."""
        ending = "damaged: what it held was computed again"
        notes = note_found("damaged", sorted(self._damaged), f"file was {ending}", f"files were {ending}")
        if self._fault is not None:
            text = f"What the network saw is not kept, and is computed again next time: {self._fault}"
            notes.append(Note("not_kept", 1, text))
        return notes

    def _read(self) -> pd.DataFrame | None:
        """Read the table and the files beside it: one row per frame, sorted, so that equal rows make equal files."""
        self._parts = [name for name in self._store.list_root() if name.startswith(_PART)]
        tables = [table for name in (FILE_NAME, *self._parts) if (table := self._read_file(name)) is not None]
        if not tables:
            return None
        rows = pd.concat(tables).drop_duplicates("frame_path", keep="last")
        return rows.sort_values("frame_path", ignore_index=True)

    def _read_file(self, name: str) -> pd.DataFrame | None:
        """Read one file; None if there is none, it is of other weights, or damaged."""
        try:
            read = run_tables.read_table(self._store, name, _VERSION)
        except DamagedTableError:
            self._damaged.add(name)
            return None
        return None if read is None or read[1] != _ATTRIBUTES else read[0]

    def _write(self, name: str, table: pd.DataFrame) -> None:
        run_tables.write_table(self._store, name, table, _VERSION, _ATTRIBUTES)
