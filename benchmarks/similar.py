"""Measure reading hashes, thinning, the search for leaks, and splitting; no frames are read.

python -m benchmarks.similar [SAMPLES]

Crops of a video are a random pattern with noise, in some videos little and in others much, so that a part of the
samples is redundant, and hardly any crops of two videos are alike. In still videos, all crops of all videos are alike.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import measure
from benchmarks.rows import make_columns
from detectime import similarity, splits, thinning
from detectime.candidates import find_candidates
from detectime.detection import shards
from detectime.schema import CORNERS, DETECTIONS, DETECTIONS_FILE
from detectime.similarity import Hashes
from detectime.storage import store as stores
from detectime.storage.store import Store

SAMPLES = 175_000  # as many as the contest has
FRAMES_PER_VIDEO = 70
CLASSES = 34
MOST_NOISE = 0.3  # share of the bits
STILL_NOISE = 0.02  # of still videos
ROUNDS = 3


class StoredRun:
    """A run of which only the detections exist."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read_detections(self, columns: Sequence[str]) -> pa.Table:
        """Read columns of the detections table."""
        return shards.read_detections(self._store, columns)


def make_hashes(count: int, random: np.random.Generator) -> Hashes:
    """Return the hashes of the crops of videos."""
    videos = -(-count // FRAMES_PER_VIDEO)
    patterns = random.integers(0, 2, (videos, 256), dtype=np.uint8).repeat(FRAMES_PER_VIDEO, axis=0)[:count]
    noise = random.uniform(0, MOST_NOISE, videos).repeat(FRAMES_PER_VIDEO)[:count]
    flipped = random.random((count, 256), dtype=np.float32) < noise[:, None]
    return np.packbits(patterns ^ flipped, axis=1).view(np.uint64)


def make_still_hashes(count: int, random: np.random.Generator) -> Hashes:
    """Return the hashes of one hand that does not move."""
    flipped = random.random((count, 256), dtype=np.float32) < STILL_NOISE
    return np.packbits(random.integers(0, 2, 256, dtype=np.uint8) ^ flipped, axis=1).view(np.uint64)


def make_detections(count: int, random: np.random.Generator) -> pa.Table:
    """Return detections of one hand per frame."""
    paths = [f"video_{k // FRAMES_PER_VIDEO:05d}/{k:07d}.jpg" for k in range(count)]
    values = pa.array([row.tobytes() for row in make_hashes(count, random)], pa.binary())
    hashes = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32)), values)
    return pa.table(make_columns(tuple(paths), random) | {"crop_hash": hashes}, schema=DETECTIONS)


def make_samples(detections: pa.Table, random: np.random.Generator) -> pd.DataFrame:
    """Return the columns of an outcomes table that are read here."""
    paths = detections["frame_path"].to_pandas()
    video = np.arange(len(paths)) // FRAMES_PER_VIDEO
    class_of = random.integers(0, CLASSES, video.max() + 1)
    table = pd.DataFrame({"frame_path": paths, "video_name": paths.str.slice(0, 11), "frame_id": np.arange(len(paths))})
    table["class_name"] = pd.Series(class_of[video]).map("class {:02d}".format)
    corners = find_candidates(detections).hands.corners
    hand = {f"hand_{corner}": corners[:, k] for k, corner in enumerate(CORNERS)}
    return table.assign(outcome="paired", wanted=True, **hand)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similar", description="Measure thinning and splitting.")
    parser.add_argument("samples", type=int, nargs="?", default=SAMPLES, metavar="SAMPLES", help=f"default: {SAMPLES}")
    count, random = parser.parse_args().samples, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        detections = make_detections(count, random)
        samples = make_samples(detections, random)
        pq.write_table(detections, f"{folder}/{DETECTIONS_FILE}")
        print_report(samples, StoredRun(stores.open_store(folder)))


def print_report(samples: pd.DataFrame, run: Any) -> None:
    """Print the CPU time of each step."""
    hashes, has_hash = similarity.read_sample_hashes(run, samples)
    contents = similarity.read_contents(run, samples)
    links = splits.find_links(samples, contents, hashes, has_hash)
    split, _ = splits.make_split(samples, links=links)
    assigned = splits.assign_splits(samples, split)
    redundant = thinning.mark_redundant(samples, hashes, has_hash)
    still = make_still_hashes(len(samples), np.random.default_rng(0))
    work: dict[str, Callable[[], object]] = {
        "reading the hashes (`read_sample_hashes`)": partial(similarity.read_sample_hashes, run, samples),
        f"thinning (`mark_redundant`), {redundant.mean():.0%} redundant": partial(
            thinning.mark_redundant, samples, hashes, has_hash
        ),
        "reading the contents (`read_contents`)": partial(similarity.read_contents, run, samples),
        f"similar groups (`find_links`), {len(links):,} pairs": partial(
            splits.find_links, samples, contents, hashes, has_hash
        ),
        "similar groups of still videos": partial(splits.find_links, samples, contents, still, has_hash),
        "splitting (`make_split`)": partial(splits.make_split, samples, links=links),
        "leaks (`check_leaks`)": partial(splits.check_leaks, assigned, contents, hashes, has_hash),
    }
    videos = samples["video_name"].nunique()
    measured = measure.time_in_turn({name: partial(measure.time_cpu, w) for name, w in work.items()}, ROUNDS)
    measure.print_table(
        f"Thinning and splitting, {len(samples):,} samples in {videos:,} videos, {CLASSES} classes",
        ("", "CPU s"),
        ((name, measure.format_spread(seconds, 2)) for name, seconds in measured.items()),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"\nPeak memory with the tables: {peak:.0f} MB.")


if __name__ == "__main__":
    main()
