"""Finished runs of frames that do not exist, with random boxes: any number of rows, in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.rows import make_columns
from detectime import outcomes, runs
from detectime.config import RunConfig, config_from_dict, config_to_dict, load_config
from detectime.detection import run as detection
from detectime.detection.engines.contract import LostShard, Shard, ShardQueue
from detectime.detectors.registry import Chosen
from detectime.labels import frame_table, frames_csv
from detectime.runs import FinishedRun
from detectime.schema import DETECTIONS
from detectime.sources.contract import Source
from detectime.sources.folder import FolderSource

ALL_PAIRED = 100.0
"""A `crop_coefficient` with which every hand overlaps the square of its face."""


@dataclass(frozen=True)
class ImaginedFolder(FolderSource):
    """A folder that lists frames without having their files."""

    names: tuple[str, ...] = ()

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """List the frames, without stamps."""
        return ((name, None) for name in self.names)


def make_rows(count: int, classes: Sequence[str] = ("ok",), per_group: int = 10) -> pd.DataFrame:
    """Make labels: groups of frames, whose classes take turns."""
    numbers = np.arange(count)
    groups = numbers // per_group
    return pd.DataFrame(
        {
            "video_name": [f"video {group}" for group in groups],
            "frame_id": numbers,
            "class_name": np.array(classes, object)[groups % len(classes)],
            "frame_path": [f"video {group}/{number}.jpg" for group, number in zip(groups, numbers, strict=True)],
        }
    )


def make_imagined_run(
    folder: Path, rows: pd.DataFrame, *, lost: bool = False, also: Sequence[str] = (), **parameters: Any
) -> FinishedRun:
    """Make a run of imagined frames, with a random face and hand in each.

    Parameters
    ----------
    folder
        Where the labels, and the run in ``out``, are written.
    rows
        The labels: see `make_rows`. Their classes are the vocabulary.
    lost
        Whether no hand pairs with a face; else all do.
    also
        Classes of the vocabulary without a row.
    parameters
        Of the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "labels.csv", index=False)
    places = {"images": str(folder), "labels": str(folder / "labels.csv"), "output": str(folder / "out")}
    coefficient = 0.01 if lost else ALL_PAIRED
    given = places | {"crop_coefficient": coefficient, "save_per_num_images": 1000} | parameters
    labels = {name: number for number, name in enumerate(dict.fromkeys([*rows["class_name"], *also]))}
    selected = {key: given.pop(key) for key in ("classes", "limit") if key in given}
    tree = config_to_dict(load_config(parameters=given)) | {"labels": labels}
    tree["pairing"]["enlarged_classes"] = ()
    tree["selection"] |= selected
    config = config_from_dict(tree)
    source = ImaginedFolder(str(folder), names=tuple(rows["frame_path"]))
    table = frames_csv.read_frames_csv(folder / "labels.csv", source, config.labels)
    table = frame_table.select_frames(table, config.classes, config.selection.limit)
    detection.detect_frames(table, source, config, config.data.output, run_shards)
    finished = runs.open_run(config.data.output)
    outcomes.pair_run(finished, config.pairing)
    return finished


def run_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Return a face and a hand for each frame, in other places in each shard: an engine without detection."""
    shards.share_among(1)
    random = np.random.default_rng(0)
    while shards:
        shard = shards.popleft()
        columns = make_columns(shard, random) | {"content": pa.nulls(len(shard), pa.string())}
        yield shard, pa.table(columns, schema=DETECTIONS)
