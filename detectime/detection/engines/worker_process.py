"""A worker process of the local engine: `WorkerProcess` is the end that starts it, `serve_shards` runs in it.

Each process has its own pipe and shares nothing with the others, so killing one never harms the rest. A process ends
when its pipe does, that is, when the process that started it is gone.
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
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from detectime import progress
from detectime.detection.engines.contract import (
    DEFAULT_LIMITS,
    PEAK_MEMORY,
    EngineError,
    Limits,
    LostShard,
    Shard,
    WorkerMaker,
    get_peak_memory,
)
from detectime.sources.contract import Source

# Not started by multiprocessing, whose children import the caller's script again and run it if it has no main guard.
_COMMAND = (
    "import sys; from detectime.detection.engines.worker_process import serve_shards; serve_shards(int(sys.argv[1]))"
)
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_EXIT_WAIT = 5.0  # seconds; a process that waits for a drive without an answer does not exit even when killed
_LAST_OUTPUT = 10_000  # bytes of a process's output in which its last line is searched


class WorkerReady:
    """The event that a worker has loaded its models."""


Event: TypeAlias = WorkerReady | pa.Table | LostShard
"""What a worker process did: it became ready, finished its shard, or is of no more use."""


class WorkerProcess:
    """A worker process, as the process that started it sees it.

    Attributes
    ----------
    shard
        The shard that it has; empty if none. The caller empties it when the result is taken.
    is_ready
        Whether it has loaded its models.
    is_worn
        Whether it has to be replaced: it has processed many frames, or its memory has grown.
    pipe
        To wait for messages with `multiprocessing.connection.wait`.
    deadline
        When its next message is due, by `time.monotonic`; infinite while it has nothing to do.

    Raises
    ------
    EngineError
        If the source cannot be pickled.
    """

    def __init__(
        self, make_worker: WorkerMaker, source: Source, frame_timeout: float, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._frame_timeout, self._limits = frame_timeout, limits
        self.shard: Shard = ()
        self.is_ready = self.is_worn = False
        self._at: int | None = None
        self._frames = self._first_peak = 0
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        self.pipe, other_end = Pipe()
        try:
            self._process = _start_process(other_end.fileno(), self._output.fileno())
        finally:
            other_end.close()
        self.deadline = time.monotonic() + limits.start
        try:
            self._send((make_worker, source))
        except Exception as error:  # pickling raises errors of many types
            self.stop()
            raise EngineError(f"{type(source).__name__} cannot be sent to a worker: {error}") from error

    def give(self, shard: Shard) -> None:
        """Give it a shard to process."""
        self.shard, self._at = shard, None
        self.deadline = time.monotonic() + self._frame_timeout
        self._send(shard)

    def read_event(self) -> Event | None:
        """Read one message; return None if it only reports progress."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            return LostShard(self._describe_end(), self._at)
        if kind == "at":
            self._at = value  # None: several frames at once, each with its own time
            self.deadline = time.monotonic() + self._frame_timeout * (len(self.shard) if value is None else 1)
            return None
        self.deadline = math.inf
        if kind == "broken":
            return LostShard(value, self._at)
        if kind == "ready":
            self.is_ready = True
            return WorkerReady()
        table: pa.Table = value
        self._measure_wear(table)
        return table

    def check_deadline(self) -> LostShard | None:
        """Return why the worker has to be stopped if its message is overdue."""
        # An unread message counts: this process may have been busy, or the computer was suspended.
        if time.monotonic() < self.deadline or self.pipe.poll():
            return None
        if self.is_ready:
            return LostShard(f"took longer than {self._frame_timeout:g} s", self._at)
        return LostShard(f"did not load its models within {self._limits.start:g} s", self._at)

    def stop(self) -> None:
        """Kill the process."""
        self.pipe.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_WAIT)
        self._output.close()

    def _send(self, message: object) -> None:
        # If the process is gone, reading the pipe will show it.
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def _measure_wear(self, table: pa.Table) -> None:
        peak = get_peak_memory(table)
        self._frames += len(self.shard)
        self._first_peak = self._first_peak or peak
        has_grown = peak > self._first_peak + self._limits.recycle_growth
        self.is_worn = self._frames >= self._limits.recycle_frames or has_grown

    def _describe_end(self) -> str:
        """Describe how the process ended, with the last line of its output."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_WAIT)
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - _LAST_OUTPUT))
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        end = _describe_status(self._process.returncode)
        return f"{end}: {lines[-1]}" if lines else end


def get_search_path() -> str:
    """Return the module search path of this process as a `PYTHONPATH` for workers: they import what it can import.

    Examples
    --------
    >>> set(get_search_path().split(os.pathsep)) <= set(sys.path)
    True
    """
    return os.pathsep.join(entry for entry in sys.path if isinstance(entry, str))  # "" is the current folder


def _start_process(pipe: int, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _COMMAND, str(pipe)],
        pass_fds=[pipe],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={
            **{name: value for name, value in os.environ.items() if name != progress.FILE_VARIABLE},
            "OMP_NUM_THREADS": "1",
            "OPENCV_LOG_LEVEL": "OFF",
            "PYTHONPATH": get_search_path(),
        },
    )


def _describe_status(status: int | None) -> str:
    if status is None or status >= 0:
        return f"the worker ended with status {status}"
    names = {known.value: known.name for known in signal.Signals}
    return f"the worker was killed by {names.get(-status, f'signal {-status}')}"


# -- in the worker process


def serve_shards(handle: int) -> None:
    """Process shards from a pipe until it ends. Runs in a process of its own.

    Parameters
    ----------
    handle
        File descriptor of this end of the pipe. It receives ``(make_worker, source)``, then shards. It sends
        ``("ready", None)``; then for each shard ``("at", index)`` before each frame, or ``("at", None)`` before several
        at once, and ``("done", table)``; or ``("broken", reason)``, after which the process ends.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    pipe: Connection[Any, Any] = Connection(handle)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # In a thread, so that the end of the pipe ends this process even while it works.
    threading.Thread(target=_receive, args=(pipe, inbox), daemon=True).start()
    try:
        _work(pipe, inbox)
    except Exception as error:
        traceback.print_exc()
        pipe.send(("broken", f"{type(error).__name__}: {error}"))
        raise SystemExit(1) from error


def _receive(pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any]) -> None:
    """Move messages from the pipe to the inbox; exit with the pipe."""
    while True:
        try:
            inbox.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(0)
        except Exception as error:  # a message that cannot be unpickled here
            inbox.put(error)


def _work(pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any]) -> None:
    import cv2  # after the parent can be told that it fails

    cv2.setNumThreads(1)
    make_worker, source = _get_message(inbox)
    worker = make_worker()
    pipe.send(("ready", None))
    while True:
        table = worker(source, _get_message(inbox), lambda index: pipe.send(("at", index)))
        metadata = {**(table.schema.metadata or {}), PEAK_MEMORY: str(_read_peak_memory())}
        pipe.send(("done", table.replace_schema_metadata(metadata)))


def _get_message(inbox: queue.SimpleQueue[Any]) -> Any:
    message = inbox.get()
    if isinstance(message, Exception):
        raise message
    return message


def _read_peak_memory() -> int:
    """Return the peak memory of this process in bytes; 0 if unknown."""
    with contextlib.suppress(OSError):
        # Not getrusage, whose maximum a child inherits from its parent.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _die_with_parent() -> None:
    """Have Linux kill this process when the thread that started it is gone.

    The end of the pipe has the same effect, unless a library keeps the interpreter lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
