"""``hands.json``: the samples, in the format of the 2021 notebook."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from detectime import pairing
from detectime.schema import SAMPLES
from detectime.storage import store

FILE_NAME = "hands.json"

_COLUMNS = ("frame_path", "video_name", "frame_id", "label")


def write_hands_json(samples: pd.DataFrame, path: str | os.PathLike[str]) -> int:
    """Write the samples atomically: a failed write leaves the previous file in place.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    path
        The file: a JSON list in the order of the frame table, indented by four, of ``{"frame_path": str, "video_name":
        str, "frame_id": int, "label": int, "bbox": [x1, y1, x2, y2]}``, the box in integer pixels.

    Returns
    -------
    int
        Number of samples written.

    Raises
    ------
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> row = {"frame_path": "v/1.jpg", "video_name": "v", "frame_id": 1, "label": 4, "outcome": "paired"}
    >>> samples = pd.DataFrame([row | {"bbox_x1": 1.0, "bbox_y1": 2.0, "bbox_x2": 3.0, "bbox_y2": 4.0}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "hands.json")
    ...     count = write_hands_json(samples, path)
    ...     print(count, json.loads(path.read_bytes()))
    1 [{'frame_path': 'v/1.jpg', 'video_name': 'v', 'frame_id': 1, 'label': 4, 'bbox': [1, 2, 3, 4]}]
    """
    parent, name = store.open_parent_store(path)
    with parent.writing(name) as file:
        file.writelines(encode_samples(samples))
    return int(samples["outcome"].isin(SAMPLES).sum())


def encode_samples(samples: pd.DataFrame, chunk_rows: int = 4096) -> Iterator[bytes]:
    """Yield the content of ``hands.json`` in chunks, so that it can be hashed while it is written.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    chunk_rows
        Samples that are encoded at a time: memory does not grow with their number.

    Yields
    ------
    bytes
        Joined, the chunks equal ``json.dumps(records, indent=4)`` of the list of all samples.

    Examples
    --------
    >>> b"".join(encode_samples(pd.DataFrame({"outcome": ["no_hand"]})))
    b'[]'
    """
    rows = np.flatnonzero(samples["outcome"].isin(SAMPLES))
    for start in range(0, len(rows), chunk_rows):
        text = json.dumps(_make_records(samples.iloc[rows[start : start + chunk_rows]]), indent=4)
        yield b"," if start else b"["
        yield text.removeprefix("[").removesuffix("\n]").encode()
    yield b"\n]" if len(rows) else b"[]"


def _make_records(paired: pd.DataFrame) -> list[dict[str, Any]]:
    """Return samples as plain Python values, in the order of the keys in the file."""
    columns: dict[str, list[Any]] = {name: paired[name].tolist() for name in _COLUMNS}
    columns["bbox"] = pairing.get_boxes(paired, "bbox").astype(np.int64).tolist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
