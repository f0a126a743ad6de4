"""What a run would do, and how long it would take: measured on a few of its frames."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa

from detectime import pairing, sources
from detectime.boxes import Flags, Integers
from detectime.config import Config
from detectime.detection import resume, run, shards, turned_frames
from detectime.detection.engines.local import count_workers
from detectime.detection.manifest import read_manifest
from detectime.detection.run import Pending
from detectime.detection.worker import Worker
from detectime.detectors.registry import choose_detectors
from detectime.exports import hands_json, outcomes_csv
from detectime.labels import frame_table, vocabulary
from detectime.notes import Note
from detectime.sources.contract import Source
from detectime.storage import run_tables
from detectime.storage import store as stores

_FRAMES = 20  # that are measured
_BLOCK = 5  # neighbours among them: a video is decoded in order


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Parameters
    ----------
    config
        The configuration, with the values of the run that is in its `data.output`.
    table
        The frame table, with `wanted`.
    pending
        The frames that it would process.
    notes
        What the run would note about its settings and detectors.
    measured
        Frames that the numbers below were measured on; 0 if none could be.
    seconds_per_frame
        On one core.
    workers
        Worker processes of this machine; None if the run uses a cluster.
    bytes_per_frame
        Of the detections.
    bytes_per_row
        Of the other tables, which have a row for every row of the frame table.
    """

    config: Config
    table: pd.DataFrame
    pending: Pending
    notes: list[Note]
    measured: int
    seconds_per_frame: float
    workers: int | None
    bytes_per_frame: float
    bytes_per_row: float

    @property
    def frames(self) -> int:
        """Frames to process."""
        return int(self.pending.frames.sum())

    @property
    def seconds(self) -> float:
        """Time of detection on this machine, or on one core if the run uses a cluster."""
        return self.frames * self.seconds_per_frame / min(self.workers or 1, max(self.frames, 1))

    @property
    def bytes(self) -> float:
        """Size of the files that the run adds; while it works, detections need their share of it twice."""
        return self.frames * self.bytes_per_frame + len(self.table) * self.bytes_per_row


def estimate_run(config: Config) -> Estimate:
    """Say what a run would do, without doing it: nothing is written to its folder.

    Detection runs on twenty of the pending frames, in this process. Weights that a detector downloads are downloaded.

    Parameters
    ----------
    config
        As it was loaded.

    Raises
    ------
    RunError
        If a run in the output folder does not go with the configuration, or cannot be read.
    TableError, SourceError
        If the labels or the frames cannot be read.
    ConfigError, WeightsError
        If a detector cannot be built.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> from detectime.paths import SAMPLE
    >>> place = {"images": SAMPLE / "TRAIN_DATA", "labels": SAMPLE / "train.csv", "output": "no/such/run"}
    >>> estimate = estimate_run(load_config(parameters=place))
    >>> estimate.frames, estimate.measured, 1000 < estimate.bytes < 1_000_000
    (108, 20, True)
    """
    store = stores.open_store(config.data.output, reading=True)
    config, notes = resume.resume_config(config, store)
    source = sources.open_source(config.data.images, config.data.source_type)
    config = vocabulary.number_labels(config, source)
    table = frame_table.read_labels(config, source)
    table = frame_table.select_frames(table, config.classes, config.selection.limit)
    pending = run.find_pending(table, source, config, store)
    chosen = choose_detectors(config.detection)
    if pending.frames.any():
        chosen.check()
    existing = read_manifest(store)
    if existing is not None and config.run.redetect is not True:
        notes += resume.check_detectors(existing, chosen, config, store, bool(pending.frames.any()))[1]
    workers = None if config.run.uses_ray else count_workers(chosen, config.run)
    rows = _choose_rows(pending.frames & table["on_disk"].to_numpy())
    if not len(rows):
        return Estimate(config, table, pending, notes, 0, 0.0, workers, 0.0, 0.0)
    wanted = table.loc[table["wanted"], "frame_path"]
    chosen.prepare(wanted)
    notes += turned_frames.check_cached_faces(chosen, source, wanted)
    measured = table.iloc[rows]
    detections, seconds = _detect(Worker(chosen), source, measured["frame_path"].tolist())
    with tempfile.TemporaryDirectory(prefix="detectime-") as folder:
        # The difference between half and all of them: a small file is mostly its footer.
        half = len(rows) // 2
        few = _measure_files(folder, measured.head(half), detections.slice(0, half), config)
        all_ = _measure_files(folder, measured, detections, config)
    per_frame, per_row = ((new - old) / (len(rows) - half) for new, old in zip(all_, few, strict=True))
    return Estimate(config, table, pending, notes, len(rows), seconds / len(rows), workers, per_frame, per_row)


def _choose_rows(available: Flags) -> Integers:
    """Choose up to `_FRAMES` rows, in blocks of neighbours that are spread over the table."""
    rows: Integers = np.flatnonzero(available)
    if len(rows) <= _FRAMES:
        return rows
    starts = np.linspace(0, len(rows) - _BLOCK, _FRAMES // _BLOCK).astype(int)
    chosen: Integers = rows[np.unique(starts[:, None] + np.arange(_BLOCK))]
    return chosen


def _detect(worker: Worker, source: Source, frame_paths: list[str]) -> tuple[pa.Table, float]:
    """Run detection on frames; return their rows and the seconds it took, as a worker process takes them."""
    with _use_one_thread():
        worker(source, frame_paths[:1])  # the first frame takes longer
        start = time.perf_counter()
        detections = worker(source, frame_paths)
        return detections, time.perf_counter() - start


@contextlib.contextmanager
def _use_one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _measure_files(folder: str, table: pd.DataFrame, detections: pa.Table, config: Config) -> tuple[int, int]:
    """Write the files of a run into a folder; return the bytes of the detections, and of all others."""
    store = stores.open_store(folder)
    shards.save_shard(store, 1, detections)
    samples = pairing.pair_frames(table, detections, config.pairing)
    run_tables.write_frames(store, table)
    run_tables.write_outcomes(store, samples)
    outcomes_csv.write_outcomes_csv(samples, f"{store}/{outcomes_csv.FILE_NAME}")
    store.put(hands_json.FILE_NAME, b"".join(hands_json.encode_samples(samples)))
    sizes = {path: path.stat().st_size for path in Path(folder).rglob("*.*") if path.is_file()}
    size = sum(value for path, value in sizes.items() if path.parent.name == shards.SHARDS)
    return size, sum(sizes.values()) - size
