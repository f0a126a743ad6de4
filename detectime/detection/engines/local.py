"""The local engine: one worker process per core of this machine."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import pyarrow as pa

from detectime.config import RunConfig
from detectime.detection.engines.contract import (
    DEFAULT_LIMITS,
    EngineError,
    Limits,
    LostShard,
    Result,
    ShardQueue,
    WorkerMaker,
)
from detectime.detection.engines.worker_process import Event, WorkerProcess, WorkerReady
from detectime.detection.worker import Worker
from detectime.detectors.registry import Chosen
from detectime.sources.contract import Source

_LONGEST_WAIT = 3600.0  # seconds; the system accepts no infinite wait
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def run_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig, limits: Limits = DEFAULT_LIMITS
) -> Iterator[Result]:
    """Run detection on shards in worker processes.

    Parameters
    ----------
    shards
        The work.
    chosen, source
        What every worker is built with.
    settings
        `workers`, the number of processes (see `count_workers`); a worker is stopped if it is silent for
        `frame_timeout` seconds.
    limits
        `start`, `failed_starts`, `recycle_frames` and `recycle_growth`.

    Yields
    ------
    tuple
        Each shard and its detections table, or a `LostShard`, in the order in which they finish.

    Raises
    ------
    EngineError
        If workers cannot start.

    Examples
    --------
    >>> from detectime.config import DetectionConfig
    >>> from detectime.detection.engines.contract import FixedShards
    >>> from detectime.detectors.registry import choose_detectors
    >>> from detectime.paths import SAMPLE
    >>> from detectime.sources.folder import FolderSource
    >>> chosen, source = choose_detectors(DetectionConfig()), FolderSource(str(SAMPLE / "TRAIN_DATA"))
    >>> shards = FixedShards([("like_01/0001.jpg", "no such frame.jpg")])
    >>> [table["outcome"].to_pylist() for _, table in run_shards(shards, chosen, source, RunConfig(workers=1))]
    [['ok', 'missing']]
    """
    make_worker = partial(Worker, chosen)
    yield from run_workers(shards, make_worker, source, count_workers(chosen, settings), settings.frame_timeout, limits)


def run_workers(
    shards: ShardQueue,
    make_worker: WorkerMaker,
    source: Source,
    workers: int,
    frame_timeout: float,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[Result]:
    """Run any work on shards of frames in worker processes: see `run_shards`, which does so for detection.

    Parameters
    ----------
    shards
        The work.
    make_worker, source
        What every worker process gets.
    workers
        The number of processes.
    frame_timeout
        Seconds after which a silent worker is stopped.
    limits
        As for `run_shards`.

    Yields
    ------
    tuple
        Each shard and the table that the worker returned, or a `LostShard`, in the order in which they finish.

    Raises
    ------
    EngineError
        If workers cannot start.
    """
    shards.share_among(workers)
    loop = _Loop(shards, workers, partial(WorkerProcess, make_worker, source, frame_timeout, limits), limits)
    try:
        yield from loop.run()
    finally:
        loop.stop()


class _Loop:
    """Keeps at most `most` workers busy until no shard is left."""

    def __init__(
        self, shards: ShardQueue, most: int, start_worker: Callable[[], WorkerProcess], limits: Limits
    ) -> None:
        self._shards, self._most, self._start_worker, self._limits = shards, most, start_worker, limits
        self._workers: list[WorkerProcess] = []
        self._failed_starts = 0

    def run(self) -> Iterator[Result]:
        while self._shards or self._count_busy():
            self._start_workers()
            self._assign_shards()
            for worker, event in self._wait_for_events():
                if isinstance(event, WorkerReady):
                    self._failed_starts = 0
                else:
                    yield from self._take_result(worker, event)

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def _count_busy(self) -> int:
        return sum(bool(worker.shard) for worker in self._workers)

    def _start_workers(self) -> None:
        while len(self._workers) < min(self._most, len(self._shards) + self._count_busy()):
            self._workers.append(self._start_worker())

    def _assign_shards(self) -> None:
        for worker in self._workers:
            if worker.is_ready and not worker.shard and self._shards:
                worker.give(self._shards.popleft())

    def _wait_for_events(self) -> Iterator[tuple[WorkerProcess, Event]]:
        """Wait until a worker sends a message or one is overdue."""
        patience = max(0.0, min(worker.deadline for worker in self._workers) - time.monotonic())
        readable = wait([worker.pipe for worker in self._workers], timeout=min(patience, _LONGEST_WAIT))
        for worker in list(self._workers):
            event = worker.read_event() if worker.pipe in readable else worker.check_deadline()
            if event is not None:
                yield worker, event

    def _take_result(self, worker: WorkerProcess, result: pa.Table | LostShard) -> Iterator[Result]:
        shard, worker.shard = worker.shard, ()
        is_lost = isinstance(result, LostShard)
        if is_lost or worker.is_worn:
            self._workers.remove(worker)
            worker.stop()
        if shard:
            yield shard, result
        elif is_lost and not worker.is_ready:
            self._count_failed_start(result.reason)

    def _count_failed_start(self, reason: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= self._limits.failed_starts:
            raise EngineError(f"workers cannot start: {reason}")


def count_workers(chosen: Chosen, settings: RunConfig) -> int:
    """Return the number of workers of a run: `workers` if set, else one per core, or one if the detectors use a GPU.

    Examples
    --------
    >>> from detectime.config import DetectionConfig
    >>> from detectime.detectors.registry import choose_detectors
    >>> count_workers(choose_detectors(DetectionConfig()), RunConfig(workers=3))
    3
    """
    return settings.workers or (1 if chosen.on_gpu else count_available_cores())


def count_available_cores(quota_file: Path = _CPU_QUOTA) -> int:
    """Return how many cores this process may use.

    Parameters
    ----------
    quota_file
        The ``cpu.max`` of the process's control group: microseconds of CPU time per period, or ``max``. The quota
        rounds down to whole cores. A file that is missing or malformed sets no quota.

    Returns
    -------
    int
        The cores of the process's affinity mask, limited by the quota; at least 1.

    Examples
    --------
    >>> 1 <= count_available_cores() <= os.cpu_count()
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = quota_file.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, math.floor(int(quota) / int(period))))
    return cores
