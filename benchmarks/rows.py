"""What many frames cost apart from looking at them: seconds and memory, with a detector that costs nothing.

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
from detectime.labels import frame_table
from detectime.schema import BOXES, DETECTIONS, LANDMARKS
from detectime.sources.contract import Source
from detectime.sources.folder import FolderSource

Step = tuple[str, Callable[[Any], Any]]

ROWS = 1_000_000
A_VIDEO = 60  # frames


@dataclass(frozen=True)
class Imagined(FolderSource):
    """A folder that says it has the frames."""

    rows: int = ROWS

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """Name the frames, each with a stamp."""
        return ((name(k), f"{100_000 + k}-{1_700_000_000_000_000_000 + k}") for k in range(self.rows))


def name(k: int) -> str:
    """Path of a frame."""
    return f"video_{k // A_VIDEO:05d}/{k:07d}.jpg"


def costless(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Find, at once, a face and a hand in each frame."""
    shards.share_among(1)
    found = DETECTIONS.empty_table()
    while shards:
        shard = shards.popleft()
        if len(found) < len(shard):  # that costs more than all else
            found = pa.table(found_in(shard, np.random.default_rng(0)), schema=DETECTIONS)
        yield shard, found.slice(0, len(shard)).set_column(0, DETECTIONS.field(0), pa.array(shard))


def found_in(shard: Shard, random: np.random.Generator) -> dict[str, Any]:
    """Return the columns of a table of detections."""
    count = len(shard)
    points = pa.array(random.uniform(0, 500, count * 3 * LANDMARKS).astype("f4"))
    hashes = pa.array([random.bytes(32) for _ in shard], DETECTIONS.field("crop_hash").type.value_type)
    probabilities = pa.array(random.uniform(0, 1, count).astype("f4"))
    proposals = boxes(random, count).flatten()
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
        "faces": boxes(random, count),
        "hands": boxes(random, count),
        "landmarks": one_each(pa.FixedSizeListArray.from_arrays(points, 3 * LANDMARKS)),
        "presence": one_each(probabilities),
        "handedness": one_each(probabilities),
        "proposal": one_each(
            pa.StructArray.from_arrays([proposals.field(field.name) for field in fields], fields=fields)
        ),
        "crop_hash": one_each(hashes),
    }


def one_each(values: pa.Array) -> pa.ListArray:
    """Return lists of one element."""
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32)), values)


def boxes(random: np.random.Generator, count: int) -> pa.ListArray:
    """One box for each frame."""
    corner, size = random.uniform(0, 500, (2, count)).astype("f4"), random.uniform(10, 100, (2, count)).astype("f4")
    numbers = [*corner, *(corner + size), np.full(count, 0.9, "f4")]
    values = [*(pa.array(n) for n in numbers), pa.array(["costless"] * count), pa.array(["near"] * count)]
    struct = pa.StructArray.from_arrays(values, fields=list(BOXES.value_type))
    return one_each(struct)


def stages(rows: int, folder: Path) -> dict[str, list[Step]]:
    """Say what each process does: steps, each a name and a call that takes what the step before returned."""
    labels, output = folder / "train.csv", str(folder / "run")
    settings = configuration.load_config(
        parameters={"labels": str(labels), "output": output, "save_per_num_images": 1000}
    )
    source = Imagined(str(folder), rows=rows)
    known: list[Any] = []  # the frame table

    def table() -> None:
        known.append(
            frame_table.select_frames(frame_table.read_frames_csv(labels, source, settings.labels), settings.classes)
        )

    def detect() -> pa.Table:
        return run.detect_frames(known[0], source, settings, output, costless)

    def pair(_: pa.Table) -> Any:
        return outcomes.pair_run(runs.open_run(output), settings.pairing)

    read: Step = ("the frame table: read, check, match", lambda _: table())
    return {
        "a run, shards of 1,000": [read, ("detection", lambda _: detect())],
        "the finished run again": [read, ("detection", lambda _: detect())],
        "and its pairing": [read, ("detection", lambda _: detect()), ("pairing, the outcomes and hands.json", pair)],
    }


def measured(steps: list[Step]) -> Iterator[tuple[str, str, str]]:
    """Take steps; yields the name, the seconds and the peak memory so far of each."""
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
    if len(sys.argv) > 2:  # a process of its own
        _, _, folder, stage = sys.argv
        with contextlib.redirect_stdout(io.StringIO()):
            taken = list(measured(stages(rows, Path(folder))[stage]))
        print(json.dumps(taken))
        return
    table: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        with Path(folder, "train.csv").open("w") as file:
            file.write("video_name,frame_id,class_name,frame_path\n")
            file.writelines(f"{name(k)[:11]},{k},ok,{name(k)}\n" for k in range(rows))
        for stage in stages(rows, Path(folder)):
            command = [sys.executable, "-m", "benchmarks.rows", str(rows), folder, stage]
            said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            table += [(stage, *step) for step in json.loads(said)]
    measure.print_table(
        f"{rows:,} frames, nothing to look at, each stage in a process of its own",
        ("", "step", "seconds", "peak memory so far, MB"),
        table,
    )


if __name__ == "__main__":
    main()
