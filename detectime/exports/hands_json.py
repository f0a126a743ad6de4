"""``hands.json``: the samples as the 2021 notebook wrote them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd

from detectime import pairing
from detectime.schema import SAMPLES
from detectime.storage import store

FILE_NAME = "hands.json"


def write_hands_json(samples: pd.DataFrame, path: str | os.PathLike[str]) -> int:
    """Write the samples, whole or not at all.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    path
        The file: a JSON list, in the order of the frame table, indented by four, of ``{"frame_path": str, "video_name":
        str, "frame_id": int, "label": int, "bbox": [x1, y1, x2, y2]}``, the box in integer pixels.

    Returns
    -------
    int
        How many samples were written.

    Raises
    ------
    StoreError
        If the file cannot be written; what was there before is still there then.
    """
    place, name = store.open_parent_store(path)
    with place.writing(name) as file:
        file.writelines(encode_samples(samples))
    return int(samples["outcome"].isin(SAMPLES).sum())


def encode_samples(samples: pd.DataFrame) -> Iterator[bytes]:
    """Yield the pieces of the file that `write_hands_json` writes, in order: so it can be hashed on the way.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    """
    paired = samples[samples["outcome"].isin(SAMPLES)]
    yield b"["
    for k, record in enumerate(_records(paired)):
        yield f"{',' if k else ''}\n{record}".encode()
    yield b"\n]" if len(paired) else b"]"


def _records(paired: pd.DataFrame) -> Iterator[str]:
    """Yield the samples one by one as they stand in the file."""
    text = json.encoder.encode_basestring_ascii
    boxes = pairing.get_boxes(paired, "bbox").astype(np.int64).tolist()
    columns = (paired[name].tolist() for name in ("frame_path", "video_name", "frame_id", "label"))
    # Written out, since json.dumps takes six times as long, half a minute for a million samples.
    for frame_path, video_name, frame_id, label, (x1, y1, x2, y2) in zip(*columns, boxes, strict=True):
        yield f"""\
    {{
        "frame_path": {text(frame_path)},
        "video_name": {text(video_name)},
        "frame_id": {frame_id},
        "label": {label},
        "bbox": [
            {x1},
            {y1},
            {x2},
            {y2}
        ]
    }}"""
