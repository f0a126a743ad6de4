"""``hands.json``: the samples as the 2021 notebook wrote them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from detectime import pairing
from detectime.store import Store

NAME = "hands.json"


def write(samples: pd.DataFrame, path: str | os.PathLike[str]) -> int:
    """Write the samples of paired frames, whole or not at all.

    Parameters
    ----------
    samples
        What `pairing.pair` returned.
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
    path = Path(path)
    count = 0
    with Store(path.parent).writing(path.name) as file:
        file.write(b"[")
        for record in records(samples):
            text = json.dumps(record, indent=4).replace("\n", "\n    ")
            file.write(f"{',' if count else ''}\n    {text}".encode())
            count += 1
        file.write(b"\n]" if count else b"]")
    return count


def records(samples: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the samples one by one, as they stand in the file."""
    paired = samples[samples["outcome"] == "paired"]
    boxes = pairing.boxes_of(paired, "bbox").astype(np.int64).tolist()
    columns = (paired[name].tolist() for name in ("frame_path", "video_name", "frame_id", "label"))
    for frame_path, video_name, frame_id, label, bbox in zip(*columns, boxes, strict=True):
        yield {
            "frame_path": frame_path,
            "video_name": video_name,
            "frame_id": frame_id,
            "label": label,
            "bbox": bbox,
        }
