"""What many frames cost apart from looking at them: seconds and memory, with a detector that costs nothing.

python -m benchmarks.rows [ROWS]
"""

from __future__ import annotations

import contextlib
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
from detectime import frames, pairing, run
from detectime.config import Detection, Run
from detectime.engines import Lost, Shard, Work
from detectime.exports import hands_json
from detectime.schema import BOXES, DETECTIONS
from detectime.sources import Source
from detectime.sources.folder import Folder

Step = tuple[str, Callable[[Any], Any]]

ROWS = 1_000_000
A_VIDEO = 60  # frames


@dataclass(frozen=True)
class Imagined(Folder):
    """A folder that says it has the frames."""

    rows: int = ROWS

    def names(self) -> Iterator[str]:
        """Name the frames."""
        return map(name, range(self.rows))


def name(k: int) -> str:
    """Path of a frame."""
    return f"video_{k // A_VIDEO:05d}/{k:07d}.jpg"


def costless(shards: Work, config: Detection, source: Source, settings: Run) -> Iterator[tuple[Shard, pa.Table | Lost]]:
    """Find, at once, a face and a hand in each frame."""
    random = np.random.default_rng(0)
    while shards:
        shard = shards.popleft()
        count = len(shard)
        columns: list[Any] = [pa.array(shard), pa.array(["ok"] * count), pa.nulls(count, pa.string())]
        columns += [pa.array(np.full(count, side, np.int32)) for side in (640, 480)]
        yield shard, pa.Table.from_arrays([*columns, boxes(random, count), boxes(random, count)], schema=DETECTIONS)


def boxes(random: np.random.Generator, count: int) -> pa.ListArray:
    """One box for each frame."""
    corner, size = random.uniform(0, 500, (2, count)).astype("f4"), random.uniform(10, 100, (2, count)).astype("f4")
    numbers = [*corner, *(corner + size), np.full(count, 0.9, "f4")]
    values = [*(pa.array(n) for n in numbers), pa.array(["costless"] * count), pa.array(["near"] * count)]
    struct = pa.StructArray.from_arrays(values, fields=list(BOXES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32)), struct)


def stages(rows: int, folder: Path) -> dict[str, list[Step]]:
    """Say what each process does: steps, each a name and a call that takes what the step before returned."""
    labels, output = folder / "train.csv", str(folder / "run")
    settings = configuration.load(parameters={"labels": str(labels), "output": output, "save_per_num_images": 1000})
    source = Imagined(str(folder), rows=rows)
    known: list[Any] = []  # the frame table

    def table() -> None:
        known.append(frames.select(frames.read(labels, source, settings.labels), settings.classes))

    def detect() -> pa.Table:
        return run.detect(known[0], source, settings, output, costless)

    def pair(found: pa.Table) -> Any:
        return pairing.pair(known[0], found, settings.pairing)

    def write(samples: Any) -> None:
        hands_json.write(samples, folder / "hands.json")

    read: Step = ("the frame table: read, check, match", lambda _: table())
    return {
        "a run, shards of 1,000": [read, ("detection", lambda _: detect())],
        "the finished run again": [read, ("detection", lambda _: detect())],
        "and its pairing": [read, ("detection", lambda _: detect()), ("pairing", pair), ("hands.json", write)],
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
        with contextlib.redirect_stdout(None):
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
