"""Frames a second by number of workers and by engine, and what the process that drives them takes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from typing import Literal

import pandas as pd

from benchmarks import measure
from benchmarks.data import Frames
from detectime.config import Config
from detectime.detection import engines, run
from detectime.detection.engines import local
from detectime.detection.engines.contract import Shard
from detectime.detectors.registry import choose_detectors
from detectime.sources.folder import FolderSource

SHARD = 10  # frames
MANY = 2000  # frames
RATE = 200  # frames a second


def report(frames: Frames, settings: Config, rounds: int) -> None:
    """Print the tables: one worker and as many as there are cores, the local engine and Ray, in turn."""
    many = local.count_available_cores()
    rates: dict[int, list[float]] = {1: [], many: []}
    for _ in range(rounds):
        for workers, measured in rates.items():
            measured.append(rate(frames.names * 4, frames, settings, workers))
    measure.print_table(
        f"{frames.title}, the local engine: frames a second once the models are loaded",
        ("workers", "frames a second", "× one worker"),
        ((workers, measure.spread(r), measure.ratios(r, rates[1])) for workers, r in rates.items()),
    )
    contenders: list[Literal["local", "ray"]] = ["local"]
    if importlib.util.find_spec("ray"):
        contenders.append("ray")
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    share: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(min(rounds, 3)):
        for name in contenders:
            seconds, driver = whole_run(frames, settings, name)
            wall[name].append(seconds)
            share[name].append(100 * driver / MANY * RATE)
    measure.print_table(
        f"{frames.title}: {MANY} frames, {many} workers, shards of {settings.run.save_per_num_images}, after the first",
        ("engine", "seconds", "× local", f"driver, % of a core at {RATE} frames/s"),
        (
            (name, measure.spread(wall[name]), measure.ratios(wall[name], wall["local"]), measure.spread(share[name]))
            for name in contenders
        ),
    )


class Shards(deque[Shard]):
    """Shards that are cut already, however many workers there are."""

    def share_among(self, workers: int) -> None:
        """Leave them as they are."""


def rate(names: list[str], frames: Frames, settings: Config, workers: int) -> float:
    """Frames a second of one pass, the start of the workers left out."""
    shards = Shards(tuple(names[i : i + SHARD]) for i in range(0, len(names), SHARD))
    config = dataclasses.replace(settings.run, workers=workers)
    done, started, first = 0, 0.0, 0
    chosen = choose_detectors(settings.detection)
    for shard, _ in local.run_shards(shards, chosen, FolderSource(str(frames.images)), config):
        done += len(shard)
        if not started and done >= 2 * SHARD * workers:  # two shards for each worker: all of them are warm by then
            started, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - started)


def whole_run(frames: Frames, settings: Config, name: Literal["local", "ray"]) -> tuple[float, float]:
    """Wall seconds of a run but for its start and end, and the CPU seconds of this process meanwhile."""
    settings = dataclasses.replace(settings, run=dataclasses.replace(settings.run, engine=name))
    engine = engines.choose_engine(settings.run)
    moments: list[tuple[float, float]] = []

    def timed(*arguments: object) -> Iterator[object]:
        for result in engine(*arguments):  # type: ignore[arg-type]
            moments.append((time.perf_counter(), time.process_time()))
            yield result

    # Many names for few frames: links, so that each is a frame of its own.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        names = [f"{k:04d}.jpg" for k in range(MANY)]
        for k, link in enumerate(names):
            os.symlink(frames.images / frames.names[k % len(frames.names)], os.path.join(folder, link))
        table = pd.DataFrame({"frame_path": names, "on_disk": True, "wanted": True})
        run.detect_frames(table, FolderSource(folder), settings, os.path.join(folder, "run"), timed)  # type: ignore[arg-type]
    (begun, used), (ended, at_last) = moments[0], moments[-1]
    return ended - begun, at_last - used
