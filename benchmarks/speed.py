"""How fast a run is: CPU time of a frame by stage, and frames a second by number of workers.

python benchmarks/speed.py                      the rendered sample
python benchmarks/speed.py --images DIR         all images below a folder
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import cv2

import definitions
from detectime import config as configuration
from detectime import detectors, images
from detectime.boxes import square_around
from detectime.config import Config
from detectime.detect import Worker
from detectime.engines import local
from detectime.sources import Folder

ROUNDS = 3


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="DIR", default=definitions.SAMPLE / "TRAIN_DATA")
    folder = parser.parse_args().images
    cv2.setNumThreads(1)
    settings = configuration.load()
    source = Folder(str(folder))
    names = sorted(name for name in source.names() if name.endswith(".jpg"))
    print(f"{len(names)} frames, {ROUNDS} rounds; CPU milliseconds a frame, one thread, median (least … most)\n")
    stages(settings, folder, names)
    print("\nframes a second, from the first frame to the last, models loaded\n")
    throughput(settings, source, names)


def stages(settings: Config, folder: Path, names: list[str]) -> None:
    """Time each stage by itself."""
    worker = Worker(settings.detection)
    hands = detectors.hands(settings.detection).build(settings.detection)
    contents = [(folder / name).read_bytes() for name in names]
    frames = [images.decode(content) for content in contents]
    found = [worker.look(frame)[0] for frame in frames]
    regions = [square_around(faces.boxes, settings.detection.search_coefficient) for faces in found]
    table = {
        "decode": lambda: [images.decode(content) for content in contents],
        "hands near the faces": lambda: [hands.detect([f], [r]) for f, r in zip(frames, regions, strict=True)],
        "faces and hands": lambda: [worker.look(frame) for frame in frames],
        "all: read, decode, detect, keep": lambda: worker(Folder(str(folder)), names),
    }
    for name, work in table.items():
        times = sorted(cpu(work) / len(names) * 1000 for _ in range(ROUNDS))
        print(f"  {name:34} {statistics.median(times):6.1f}   ({times[0]:.1f} … {times[-1]:.1f})")


def throughput(settings: Config, source: Folder, names: list[str]) -> None:
    """Time the local engine with one worker and with all cores, in turn."""
    many = local.available_cores()
    rates: dict[int, list[float]] = {1: [], many: []}
    for _ in range(ROUNDS):
        for workers, measured in rates.items():
            measured.append(rate(settings, source, names * 2, workers))
    for workers, measured in rates.items():
        print(
            f"  {workers} worker(s)   {statistics.median(measured):6.1f}   ({min(measured):.1f} … {max(measured):.1f})"
        )
    ratio = statistics.median(b / a for a, b in zip(rates[1], rates[many], strict=True))
    print(f"\n  {many} workers / 1 worker: {ratio:.2f}")


def rate(settings: Config, source: Folder, names: list[str], workers: int) -> float:
    """Frames a second of one pass, the start of the workers left out."""
    shards = deque(tuple(names[i : i + 10]) for i in range(0, len(names), 10))
    run = dataclasses.replace(settings.run, workers=workers)
    done, started, first = 0, 0.0, 0
    for shard, _ in local.detect(shards, settings.detection, source, run):
        done += len(shard)
        if not started and done >= 10 * workers:  # as many shards as workers: all of them are warm by then
            started, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - started)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    main()
