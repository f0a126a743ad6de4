"""Measure trying settings of pairing, as the explorer does: pairing again, what changed, filters and order.

python -m benchmarks.exploring [FRAMES]

Frames have one or two faces, and up to two hands, each found by none, one or both of two detectors.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks import measure
from benchmarks.rows import FRAMES_PER_VIDEO, ListedFolder, format_frame_path
from detectime import config as configuration
from detectime import outcomes, pairing, runs
from detectime.boxes import Floats
from detectime.candidates import Indices
from detectime.comparison import compare_samples
from detectime.config import RunConfig
from detectime.detection import run as detection_run
from detectime.detection.engines.contract import LostShard, Shard, ShardQueue
from detectime.detectors.registry import Chosen
from detectime.labels import frame_table, frames_csv
from detectime.schema import BOXES, upgrade_table
from detectime.sources.contract import Source
from detectime.widgets import selection
from detectime.widgets.trial import Trial

FRAMES = 175_000  # as many as the contest has
ROUNDS = 9
_DETECTORS = ("hagrid", "mediapipe")
_FOUND = 0.85  # share of the hands that a detector finds
_SIZE = np.array([640, 480])


def run_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Return random faces and hands: an engine without detection."""
    shards.share_among(1)
    random = np.random.default_rng(0)
    while shards:
        shard = shards.popleft()
        yield shard, upgrade_table(pa.table(make_columns(shard, random)))


def make_columns(shard: Shard, random: np.random.Generator) -> dict[str, Any]:
    """Return the columns of a detections table that are not derived from hands."""
    count = len(shard)
    faces = random.choice([1, 2], count, p=[0.8, 0.2])
    face_corners = _make_corners(random.uniform([200, 100], [440, 240], (faces.sum(), 2)), random.uniform(40, 80))
    first = np.cumsum(faces) - faces
    owner, corners, detectors = _find_hands(face_corners[first], random)
    return {
        "frame_path": pa.array(shard, pa.string()),
        "content": [f"{k}-{k:08x}" for k in random.integers(2**31, size=count)],
        "outcome": ["ok"] * count,
        "width": np.full(count, _SIZE[0], np.int32),
        "height": np.full(count, _SIZE[1], np.int32),
        "orientation": np.ones(count, np.int8),
        "faces": _make_boxes(faces, face_corners, np.full(len(face_corners), "retinaface"), random),
        "hands": _make_boxes(np.bincount(owner, minlength=count), corners, detectors, random),
    }


def _find_hands(faces: Floats, random: np.random.Generator) -> tuple[NDArray[np.int64], Floats, NDArray[np.str_]]:
    """Return the row, the corners and the detector of each hand that is found near some faces, by frame."""
    hands = random.choice([0, 1, 2], len(faces), p=[0.05, 0.6, 0.35])
    owner = np.repeat(np.arange(len(faces)), hands)
    centre = (faces[owner, :2] + faces[owner, 2:]) / 2 + random.normal(0, 70, (len(owner), 2))
    corners = _make_corners(centre, random.uniform(25, 60, (len(owner), 1)))
    found = np.flatnonzero(random.random((len(owner), len(_DETECTORS))) < _FOUND)  # by hand, then by detector
    hand, detector = np.divmod(found, len(_DETECTORS))
    seen = np.clip(corners[hand] + random.normal(0, 2, (len(hand), 4)), 0, np.tile(_SIZE, 2))
    return owner[hand], seen, np.array(_DETECTORS)[detector]


def _make_corners(centre: Floats, half: Floats | float) -> Floats:
    return np.concatenate([centre - half, centre + half], axis=1)


def _make_boxes(
    counts: NDArray[np.int64], corners: Floats, detectors: NDArray[np.str_], random: np.random.Generator
) -> pa.ListArray:
    scores = random.uniform(0.2, 1, len(corners))
    numbers = [pa.array(values.astype(np.float32)) for values in (*corners.T, scores)]
    values = [*numbers, pa.array(detectors, pa.string()), pa.array(["near"] * len(corners), pa.string())]
    struct = pa.StructArray.from_arrays(values, fields=list(BOXES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.insert(np.cumsum(counts), 0, 0).astype(np.int32)), struct, type=BOXES)


def make_run(frames: int, folder: Path) -> str:
    """Detect and pair imagined frames of a few classes; return the folder of the run."""
    settings = configuration.load_config(
        parameters={"labels": str(folder / "labels.csv"), "output": str(folder / "run"), "save_per_num_images": 5000}
    )
    numbers = np.arange(frames)
    paths = [format_frame_path(k) for k in range(frames)]
    classes = np.array(settings.classes, object)[numbers // FRAMES_PER_VIDEO % len(settings.classes)]
    labels = {"video_name": [path[:11] for path in paths], "frame_id": numbers, "class_name": classes}
    pd.DataFrame(labels | {"frame_path": paths}).to_csv(folder / "labels.csv", index=False)
    source = ListedFolder(str(folder), rows=frames)
    table = frames_csv.read_frames_csv(folder / "labels.csv", source, settings.labels)
    table = frame_table.select_frames(table, settings.classes)
    detection_run.detect_frames(table, source, settings, settings.data.output, run_shards)
    outcomes.pair_run(runs.open_run(settings.data.output), settings.pairing)
    return settings.data.output


def measure_steps(output: str) -> dict[str, list[tuple[float, float]]]:
    """Return CPU and wall seconds of each step of a moved slider, once per round."""
    run = runs.open_run(output)
    frames, detections, settings = run.frames, run.detections, run.pairing
    trial = Trial(run)
    doubt = np.random.default_rng(0).random(len(trial.saved))
    measured: dict[str, list[tuple[float, float]]] = {}

    def measure_step(name: str, work: Callable[[], Any]) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        measured.setdefault(name, []).append((time.process_time() - cpu, time.perf_counter() - wall))
        return result

    for k in range(ROUNDS):
        tried = dataclasses.replace(settings, crop_coefficient=1.2 + k / 100)
        measure_step("build (`Trial`), once", partial(Trial, run))
        samples = measure_step("pair (`Trial.pair`)", partial(trial.pair, tried))
        changes = measure_step("what changed (`compare_samples`)", partial(compare_samples, trial.saved, samples))
        measure_step("every filter, and order", partial(select_and_sort, samples, changes, doubt))
        measure_step("counts", partial(selection.count_rows, samples, trial.saved, changes))
        parts = [seconds[-1] for seconds in list(measured.values())[1:5]]
        total = sum(cpu for cpu, _ in parts), sum(wall for _, wall in parts)
        measured.setdefault("all but build", []).append(total)
        measure_step("beside it: `pair_frames` alone", partial(pairing.pair_frames, frames, detections, tried))
    return measured


def select_and_sort(samples: pd.DataFrame, changes: pd.DataFrame, doubt: Floats) -> Indices:
    """Apply a filter with conditions of every kind, all of which most frames meet, and sort these."""
    wanted = selection.Filter(
        classes=tuple(samples["class_name"].unique()),
        outcomes=("paired", "apart"),
        changes=("moved", "same", "gained", "lost"),
        group="VIDEO",
        detector="hagrid",
        text="JPG",
        decided="no",
        doubt=(0.0, 0.95),
    )
    rows = selection.select_rows(samples, wanted, doubt=doubt, changes=changes["change"])
    return selection.sort_rows(samples, rows, "hand_score", doubt=doubt)


def measure_memory(output: str) -> tuple[float, float, float]:
    """Return the peak memory in MB before a trial is built, with it, and after it paired."""
    run = runs.open_run(output)
    before = _read_peak()
    trial = Trial(run)
    built = _read_peak()
    samples = trial.pair(dataclasses.replace(run.pairing, crop_coefficient=2.0))
    compare_samples(trial.saved, samples)
    return before, built, _read_peak()


def _read_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploring", description="Measure trials of settings.")
    parser.add_argument("frames", type=int, nargs="?", default=FRAMES, metavar="FRAMES", help=f"default: {FRAMES}")
    parser.add_argument("--stage", choices=("make", "steps", "memory"), help=argparse.SUPPRESS)  # in its own process
    parser.add_argument("--of", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    stages: dict[str, Callable[[], object]] = {
        "make": lambda: make_run(arguments.frames, arguments.of),
        "steps": lambda: measure_steps(str(arguments.of / "run")),
        "memory": lambda: measure_memory(str(arguments.of / "run")),
    }
    if arguments.stage:
        with contextlib.redirect_stdout(io.StringIO()):  # progress
            found = stages[arguments.stage]()
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.exploring", str(arguments.frames), "--of", folder, "--stage"]
        _, measured, memory = (
            json.loads(subprocess.run([*command, stage], stdout=subprocess.PIPE, check=True).stdout) for stage in stages
        )
    measure.print_table(
        f"Trying a setting in the explorer, {arguments.frames:,} frames",
        ("step", "CPU ms", "wall ms"),
        (
            (name, *(measure.format_spread(1000 * second for second in kind) for kind in zip(*seconds, strict=True)))
            for name, seconds in measured.items()
        ),
    )
    before, built, paired = memory
    measure.print_table(
        f"Memory of a trial, {arguments.frames:,} frames: peaks in one process",
        ("", "MB"),
        [
            ("imports", f"{before:.0f}"),
            ("building it: the tables are read", f"{built:.0f}"),
            ("pairing, and comparing", f"{paired:.0f}"),
        ],
    )


if __name__ == "__main__":
    main()
