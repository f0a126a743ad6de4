"""``outcomes.csv``: the outcomes table as text, for spreadsheets and scripts."""

from __future__ import annotations

import os

import pandas as pd

from detectime.storage import store

FILE_NAME = "outcomes.csv"


def write_outcomes_csv(samples: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write all rows atomically: a failed write leaves the previous file in place.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned; the file has the same columns.
    path
        The file: CSV in UTF-8.

    Raises
    ------
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "outcomes.csv")
    ...     write_outcomes_csv(pd.DataFrame({"frame_path": ["v/1.jpg"], "overlap": [1 / 3]}), path)
    ...     print(path.read_text(), end="")
    frame_path,overlap
    v/1.jpg,0.333333
    """
    parent, name = store.open_parent_store(path)
    with parent.writing(name) as file:
        samples.to_csv(file, mode="wb", index=False, float_format="%.6g", lineterminator="\n")
