"""Frames a second by number of workers."""

from __future__ import annotations

import dataclasses
import time
from collections import deque

from benchmarks import measure
from benchmarks.data import Frames
from detectime.config import Config
from detectime.engines import local
from detectime.sources.folder import Folder

SHARD = 10  # frames


def report(frames: Frames, settings: Config, rounds: int) -> None:
    """Print the table: one worker and as many as there are cores, in turn."""
    many = local.available_cores()
    rates: dict[int, list[float]] = {1: [], many: []}
    for _ in range(rounds):
        for workers, measured in rates.items():
            measured.append(rate(frames, settings, workers))
    measure.print_table(
        f"{frames.title}, the local engine: frames a second once the models are loaded",
        ("workers", "frames a second", "× one worker"),
        ((workers, measure.spread(r), measure.ratios(r, rates[1])) for workers, r in rates.items()),
    )


def rate(frames: Frames, settings: Config, workers: int) -> float:
    """Frames a second of one pass, the start of the workers left out."""
    names = frames.names * 4
    shards = deque(tuple(names[i : i + SHARD]) for i in range(0, len(names), SHARD))
    run = dataclasses.replace(settings.run, workers=workers)
    done, started, first = 0, 0.0, 0
    for shard, _ in local.detect(shards, settings.detection, Folder(str(frames.images)), run):
        done += len(shard)
        if not started and done >= 2 * SHARD * workers:  # two shards for each worker: all of them are warm by then
            started, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - started)
