"""What many frames cost apart from looking at them: seconds and memory, with a detector that costs nothing.

python -m benchmarks.rows [ROWS]
"""

from __future__ import annotations

import resource
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
from detectime.engines import Shard, Work
from detectime.exports import hands_json
from detectime.schema import BOXES, DETECTIONS
from detectime.sources.folder import Folder

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


def costless(shards: Work, config: Detection, source: Folder, settings: Run) -> Iterator[tuple[Shard, pa.Table]]:
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


def main() -> None:
    """Print the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    table: list[tuple[str, str, str]] = []

    def timed(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
        before = time.perf_counter()
        result = work(*arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        table.append((what, f"{time.perf_counter() - before:.1f}", f"{peak:.0f}"))
        return result

    with tempfile.TemporaryDirectory() as folder:
        labels, output = Path(folder, "train.csv"), str(Path(folder, "run"))
        with labels.open("w") as file:
            file.write("video_name,frame_id,class_name,frame_path\n")
            file.writelines(f"{name(k)[:11]},{k},ok,{name(k)}\n" for k in range(rows))
        settings = configuration.load(parameters={"labels": str(labels), "output": output, "save_per_num_images": 1000})
        source = Imagined(folder, rows=rows)
        timed("imports", lambda: None)
        known = timed("the frame table: read, check, match", frames.read, labels, source, settings.labels)
        wanted = frames.select(known, settings.classes)
        timed("a run, shards of 1,000", run.detect, wanted, source, settings, output, costless)
        found = timed("the finished run again", run.detect, wanted, source, settings, output, costless)
        samples = timed("pairing", pairing.pair, wanted, found, settings.pairing)
        timed("hands.json", hands_json.write, samples, Path(folder, "hands.json"))
    measure.print_table(f"{rows:,} frames, nothing to look at", ("", "seconds", "peak memory so far, MB"), table)


if __name__ == "__main__":
    main()
