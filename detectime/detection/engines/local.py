"""The local engine: one process for each core of this machine.

Each worker has a pipe of its own and shares nothing with the others, so that one may be killed at any moment without
harm to the rest. A worker ends when its pipe does, that is, when the process that started it is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from detectime.config import RunConfig
from detectime.detection.engines.contract import PEAK_MEMORY, EngineError, LostShard, Shard, ShardQueue, get_peak_memory
from detectime.detectors.registry import Chosen
from detectime.sources.contract import Source

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
START_LIMIT = 120.0
"""Seconds within which a worker must have loaded its models."""

_FAILED_STARTS = 3  # as many workers in a row that die while they start: there is no use in trying on
# A worker is replaced after so many frames, or if it has grown by so many bytes since its first shard: so what its
# libraries leak, or keep of one large frame, is given back.
_RECYCLED_AFTER = 20_000
_GROWN = 2**30

# Not by multiprocessing, whose children import the caller's script anew, and run it if it has no main guard.
_COMMAND = "import sys; from detectime.detection.engines.local import serve_shards; serve_shards(int(sys.argv[1]))"


def run_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Run shards on worker processes: see `detectime.detection.engines`.

    Parameters
    ----------
    shards
        The work; each shard is the paths of its frames.
    chosen, source
        What every worker is built with.
    settings
        `workers` processes (None: see `processes`); a worker that says nothing for `frame_timeout` seconds is stopped.

    Raises
    ------
    EngineError
        If workers cannot start.
    """
    most = count_workers(chosen, settings)
    shards.share_among(most)
    workers: list[_Worker] = []
    failed_starts = 0
    try:
        while shards or any(worker.shard for worker in workers):
            while len(workers) < min(most, len(shards) + sum(1 for worker in workers if worker.shard)):
                workers.append(_Worker(chosen, source, settings.frame_timeout))
            for worker in workers:
                if worker.ready and not worker.shard and shards:
                    worker.give(shards.popleft())
            patience = max(0.0, min(worker.deadline for worker in workers) - time.monotonic())
            heard = wait([worker.pipe for worker in workers], timeout=min(patience, 3600))
            for worker in list(workers):
                event = worker.hear() if worker.pipe in heard else worker.check_deadline()
                if isinstance(event, _Ready):
                    failed_starts = 0
                elif event is not None:
                    shard, worker.shard = worker.shard, ()
                    if isinstance(event, LostShard) or worker.is_worn:
                        workers.remove(worker)
                        worker.stop()
                    if shard:
                        yield shard, event
                    elif not worker.ready and isinstance(event, LostShard):
                        failed_starts += 1
                        if failed_starts >= _FAILED_STARTS:
                            raise EngineError(f"workers cannot start: {event.reason}")
    finally:
        for worker in workers:
            worker.stop()


def count_workers(chosen: Chosen, settings: RunConfig) -> int:
    """Return how many workers a run has: as many as are asked for, or one per core; one where a GPU does the work."""
    return settings.workers or (1 if chosen.on_gpu else count_available_cores())


def count_available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, math.floor(int(quota) / int(period))))
    return cores


def get_search_path() -> str:
    """Return the search path of a worker: all that the caller can import, and nothing else."""
    return os.pathsep.join(entry for entry in sys.path if isinstance(entry, str))  # "" is the current folder


@dataclass(frozen=True)
class _Ready:
    """A worker has loaded its models."""


@dataclass(eq=False)
class _Worker:
    """A worker process, seen from the process that started it."""

    chosen: Chosen
    source: Source
    limit: float
    shard: Shard = ()
    ready: bool = False
    is_worn: bool = False
    _frames: int = 0
    _first_peak: int = 0
    _at: int | None = None
    pipe: Connection[Any, Any] = field(init=False)
    deadline: float = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)
    _errors: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.pipe, theirs = Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF", "PYTHONPATH": get_search_path()},
            )
        finally:
            theirs.close()
        self.deadline = time.monotonic() + START_LIMIT
        try:
            self._send((self.chosen, self.source))
        except Exception as error:  # whatever pickling meets
            self.stop()
            raise EngineError(f"{type(self.source).__name__} cannot be sent to a worker: {error}") from error

    def give(self, shard: Shard) -> None:
        self.shard, self._at = shard, None
        self.deadline = time.monotonic() + self.limit
        self._send(shard)

    def hear(self) -> pa.Table | LostShard | _Ready | None:
        """Take one message: None if it only says that the worker goes on."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            return LostShard(self._obituary(), self._at)
        if kind == "at":
            self._at = value  # None: at several frames, of which each has its time
            self.deadline = time.monotonic() + self.limit * (len(self.shard) if value is None else 1)
            return None
        self.deadline = math.inf
        if kind == "ready":
            self.ready = True
            return _Ready()
        if kind == "broken":
            return LostShard(value, self._at)
        self._frames += len(self.shard)
        self._first_peak = self._first_peak or get_peak_memory(value)
        self.is_worn = self._frames >= _RECYCLED_AFTER or get_peak_memory(value) > self._first_peak + _GROWN
        return value

    def check_deadline(self) -> LostShard | None:
        # What it said meanwhile counts: the time may have been spent here, or the computer slept.
        if time.monotonic() < self.deadline or self.pipe.poll():
            return None
        doing = "took longer than" if self.ready else "did not load its models within"
        return LostShard(f"{doing} {self.limit if self.ready else START_LIMIT:g} s", self._at)

    def stop(self) -> None:
        self.pipe.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a drive that does not answer
            self._process.wait(timeout=5)
        self._errors.close()

    def _send(self, message: object) -> None:
        # A worker that is gone is noticed when its pipe is read.
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def _obituary(self) -> str:
        """How the process ended, and its last words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        status = self._process.returncode
        if status is not None and status < 0:
            names = {known.value: known.name for known in signal.Signals}
            how = f"the worker was killed by {names.get(-status, f'signal {-status}')}"
        else:
            how = f"the worker ended with status {status}"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 10_000))
        words = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {words[-1]}" if words else how


def serve_shards(handle: int) -> None:
    """Work for the process at the other end of a pipe, until the pipe ends. Runs in a process of its own.

    Parameters
    ----------
    handle
        File descriptor of this end of the pipe. It brings ``(chosen, source)``, then shards; it takes ``("ready",
        None)``, then for each shard ``("at", position)`` before each frame, or ``("at", None)`` before several, and
        ``("done", table)``, or ``("broken", reason)``.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: it is the other end's to decide
    pipe: Connection[Any, Any] = Connection(handle)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        # In a thread, so that the end of the pipe ends this process also while it works.
        while True:
            try:
                inbox.put(pipe.recv())
            except (EOFError, OSError):
                os._exit(0)
            except Exception as error:  # what was sent cannot be made again here
                inbox.put(error)

    threading.Thread(target=listen, daemon=True).start()
    try:
        import cv2

        from detectime.detection.worker import Worker

        cv2.setNumThreads(1)
        built_with = inbox.get()
        if isinstance(built_with, Exception):
            raise built_with
        chosen, source = built_with
        worker = Worker(chosen)
        pipe.send(("ready", None))
        while True:
            shard = inbox.get()
            table = worker(source, shard, lambda position: pipe.send(("at", position)))
            pipe.send(
                ("done", table.replace_schema_metadata({**table.schema.metadata, PEAK_MEMORY: str(_peak_memory())}))
            )
    except Exception as error:
        traceback.print_exc()
        pipe.send(("broken", f"{type(error).__name__}: {error}"))
        raise SystemExit(1) from error


def _peak_memory() -> int:
    """Bytes that this process has had at most."""
    with contextlib.suppress(OSError):
        # getrusage would tell what the process had that started this one, if that was more.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _die_with_parent() -> None:
    """Have Linux kill this process when the thread that started it is gone.

    The end of the pipe does that as well, but not while a library runs without letting other threads have a turn.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
