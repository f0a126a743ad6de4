"""Measure frames per second by number of workers and by engine, and the CPU time of the driver process."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Literal

import pandas as pd

from benchmarks import measure
from benchmarks.data import Frames
from detectime.config import Config
from detectime.detection import engines, run
from detectime.detection.engines import local
from detectime.detection.engines.contract import FixedShards
from detectime.detectors.registry import choose_detectors
from detectime.sources.folder import FolderSource

SHARD = 10  # frames per shard
MANY = 2000  # frames of a full run
RATE = 200  # frames per second at which the load of the driver is stated


def print_report(frames: Frames, settings: Config, rounds: int) -> None:
    """Print the tables: one worker and one per core, and the local engine and Ray, each measured in turn."""
    many, size = local.count_available_cores(), settings.run.save_per_num_images
    rates: dict[int, list[float]] = {1: [], many: []}
    for _ in range(rounds):
        for workers, measured in rates.items():
            measured.append(measure_rate(frames.names * 4, frames, settings, workers))
    measure.print_table(
        f"{frames.title}, local engine: frames per second after the models are loaded",
        ("workers", "frames per second", "× one worker"),
        ((workers, measure.format_spread(r), measure.format_ratios(r, rates[1])) for workers, r in rates.items()),
    )
    contenders: list[Literal["local", "ray"]] = ["local"]
    if importlib.util.find_spec("ray"):
        contenders.append("ray")
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    share: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(min(rounds, 3)):
        for name in contenders:
            seconds, driver = time_run(frames, settings, name)
            wall[name].append(seconds)
            share[name].append(100 * driver / MANY * RATE)
    measure.print_table(
        f"{frames.title}: {MANY} frames, {many} workers, shards of {size}, after the first shard",
        ("engine", "seconds", "× local", f"driver, % of one core at {RATE} frames/s"),
        (
            (
                name,
                measure.format_spread(wall[name]),
                measure.format_ratios(wall[name], wall["local"]),
                measure.format_spread(share[name]),
            )
            for name in contenders
        ),
    )


def measure_rate(names: list[str], frames: Frames, settings: Config, workers: int) -> float:
    """Return the frames per second of one pass, without the start of the workers."""
    shards = FixedShards(tuple(names[i : i + SHARD]) for i in range(0, len(names), SHARD))
    config = dataclasses.replace(settings.run, workers=workers)
    done, started, first = 0, 0.0, 0
    chosen = choose_detectors(settings.detection)
    for shard, _ in local.run_shards(shards, chosen, FolderSource(str(frames.images)), config):
        done += len(shard)
        if not started and done >= 2 * SHARD * workers:  # two shards per worker: all workers have loaded their models
            started, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - started)


def time_run(frames: Frames, settings: Config, name: Literal["local", "ray"]) -> tuple[float, float]:
    """Return the wall seconds of a run between its first and last shard, and the CPU seconds of this process."""
    settings = dataclasses.replace(settings, run=dataclasses.replace(settings.run, engine=name))
    engine = engines.choose_engine(settings.run)
    moments: list[tuple[float, float]] = []

    def timed(*arguments: object) -> Iterator[object]:
        for result in engine(*arguments):  # type: ignore[arg-type]
            moments.append((time.perf_counter(), time.process_time()))
            yield result

    # A few files become many frames: each frame is a symbolic link with its own name.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        names = [f"{k:04d}.jpg" for k in range(MANY)]
        for k, link in enumerate(names):
            os.symlink(frames.images / frames.names[k % len(frames.names)], os.path.join(folder, link))
        table = pd.DataFrame({"frame_path": names, "on_disk": True, "wanted": True})
        run.detect_frames(table, FolderSource(folder), settings, os.path.join(folder, "run"), timed)  # type: ignore[arg-type]
    (start, start_cpu), (end, end_cpu) = moments[0], moments[-1]
    return end - start, end_cpu - start_cpu
