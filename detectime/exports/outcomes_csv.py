"""``outcomes.csv``: every row of the frame table with what became of it, for a spreadsheet or a script."""

from __future__ import annotations

import os

import pandas as pd

from detectime.storage import store

FILE_NAME = "outcomes.csv"


def write_outcomes_csv(samples: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write all rows, whole or not at all.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned: its columns are the file's.
    path
        The file: csv in UTF-8.

    Raises
    ------
    StoreError
        If the file cannot be written; what was there before is still there then.
    """
    place, name = store.open_parent_store(path)
    with place.writing(name) as file:
        samples.to_csv(file, mode="wb", index=False, float_format="%.6g", lineterminator="\n")
