"""Measure everything but detection on many frames: seconds and memory, with an engine that returns random boxes.

python -m benchmarks.rows [ROWS]
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import measure
from detectime import config as configuration
from detectime import outcomes, runs
from detectime.config import RunConfig
from detectime.detection import run
from detectime.detection.engines.contract import LostShard, Shard, ShardQueue
from detectime.detectors.registry import Chosen
from detectime.labels import frame_table, frames_csv
from detectime.schema import BOXES, DETECTIONS, LANDMARKS
from detectime.sources.contract import Source
from detectime.sources.folder import FolderSource

Step = tuple[str, Callable[[Any], Any]]

ROWS = 1_000_000
FRAMES_PER_VIDEO = 60


@dataclass(frozen=True)
class ListedFolder(FolderSource):
    """A folder that lists frames without having any files."""

    rows: int = ROWS

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """List the frames, each with a stamp."""
        return ((format_frame_path(k), f"{100_000 + k}-{1_700_000_000_000_000_000 + k}") for k in range(self.rows))


def format_frame_path(k: int) -> str:
    """Return the path of a frame."""
    return f"video_{k // FRAMES_PER_VIDEO:05d}/{k:07d}.jpg"


def run_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Return one face and one hand for each frame, at random positions: an engine without detection."""
    shards.share_among(1)
    detections = DETECTIONS.empty_table()
    while shards:
        shard = shards.popleft()
        if len(detections) < len(shard):  # build it once: this takes longer than everything else
            detections = pa.table(make_columns(shard, np.random.default_rng(0)), schema=DETECTIONS)
        yield shard, detections.slice(0, len(shard)).set_column(0, DETECTIONS.field(0), pa.array(shard))


def make_columns(shard: Shard, random: np.random.Generator) -> dict[str, Any]:
    """Return the columns of a detections table."""
    count = len(shard)
    points = pa.array(random.uniform(0, 500, count * 3 * LANDMARKS).astype("f4"))
    hashes = pa.array([random.bytes(32) for _ in shard], DETECTIONS.field("crop_hash").type.value_type)
    probabilities = pa.array(random.uniform(0, 1, count).astype("f4"))
    proposals = make_boxes(random, count).flatten()
    fields = list(DETECTIONS.field("proposal").type.value_type)
    return {
        "frame_path": shard,
        "stamp": pa.nulls(count, pa.string()),
        "content": [f"{k}-{k:08x}" for k in random.integers(2**31, size=count)],
        "outcome": ["ok"] * count,
        "error": pa.nulls(count, pa.string()),
        "width": np.full(count, 640, np.int32),
        "height": np.full(count, 480, np.int32),
        "orientation": pa.nulls(count, pa.int8()),
        "faces": make_boxes(random, count),
        "hands": make_boxes(random, count),
        "landmarks": wrap_each(pa.FixedSizeListArray.from_arrays(points, 3 * LANDMARKS)),
        "presence": wrap_each(probabilities),
        "handedness": wrap_each(probabilities),
        "proposal": wrap_each(
            pa.StructArray.from_arrays([proposals.field(field.name) for field in fields], fields=fields)
        ),
        "crop_hash": wrap_each(hashes),
    }


def wrap_each(values: pa.Array) -> pa.ListArray:
    """Wrap each value in a list of its own."""
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32)), values)


def make_boxes(random: np.random.Generator, count: int) -> pa.ListArray:
    """Return one random box per frame."""
    corner, size = random.uniform(0, 500, (2, count)).astype("f4"), random.uniform(10, 100, (2, count)).astype("f4")
    numbers = [*corner, *(corner + size), np.full(count, 0.9, "f4")]
    values = [*(pa.array(n) for n in numbers), pa.array(["random"] * count), pa.array(["near"] * count)]
    struct = pa.StructArray.from_arrays(values, fields=list(BOXES.value_type))
    return wrap_each(struct)


def write_labels(rows: int, folder: Path) -> Path:
    """Write the labels of imagined frames."""
    labels = folder / "train.csv"
    with labels.open("w") as file:
        file.write("video_name,frame_id,class_name,frame_path\n")
        file.writelines(f"{format_frame_path(k)[:11]},{k},ok,{format_frame_path(k)}\n" for k in range(rows))
    return labels


def list_stages(rows: int, folder: Path) -> dict[str, list[Step]]:
    """Return the steps of each process: names and functions; each function takes what the previous one returned."""
    labels, output = folder / "train.csv", str(folder / "run")
    settings = configuration.load_config(
        parameters={"labels": str(labels), "output": output, "save_per_num_images": 1000}
    )
    source = ListedFolder(str(folder), rows=rows)
    tables: list[Any] = []  # the frame table, once it is read

    def read_table() -> None:
        tables.append(
            frame_table.select_frames(frames_csv.read_frames_csv(labels, source, settings.labels), settings.classes)
        )

    def detect() -> pa.Table:
        return run.detect_frames(tables[0], source, settings, output, run_shards)

    def pair(_: pa.Table) -> Any:
        return outcomes.pair_run(runs.open_run(output), settings.pairing)

    read: Step = ("read, check and match the frame table", lambda _: read_table())
    return {
        "new run, shards of 1,000": [read, ("detection", lambda _: detect())],
        "finished run again": [read, ("detection", lambda _: detect())],
        "finished run, with pairing": [
            read,
            ("detection", lambda _: detect()),
            ("pairing, outcomes, hands.json", pair),
        ],
    }


def measure_steps(steps: list[Step]) -> Iterator[tuple[str, str, str]]:
    """Run the steps, and yield the name, the seconds and the peak memory so far of each."""
    value: Any = None
    first: Step = ("imports", lambda _: None)
    for what, step in [first, *steps]:
        before = time.perf_counter()
        value = step(value)
        seconds = time.perf_counter() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        yield what, f"{seconds:.1f}", f"{peak:.0f}"


def main() -> None:
    """Print the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    if len(sys.argv) > 2:  # this process measures one stage
        _, _, folder, stage = sys.argv
        with contextlib.redirect_stdout(io.StringIO()):
            taken = list(measure_steps(list_stages(rows, Path(folder))[stage]))
        print(json.dumps(taken))
        return
    table: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_labels(rows, Path(folder))
        for stage in list_stages(rows, Path(folder)):
            command = [sys.executable, "-m", "benchmarks.rows", str(rows), folder, stage]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            table += [(stage, *step) for step in json.loads(printed)]
    measure.print_table(
        f"{rows:,} frames, no detection, each stage in a separate process",
        ("", "step", "seconds", "peak memory so far, MB"),
        table,
    )


if __name__ == "__main__":
    main()
