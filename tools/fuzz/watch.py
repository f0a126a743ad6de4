"""Worker processes that are watched: one that hangs, dies or takes too much memory is replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

from tools.fuzz.worker import PACKAGE, Answer

_START_LIMIT = 120.0  # seconds
_SURPLUS = 2**30  # bytes above the most that is allowed, where a process is stopped at once
_LAST_OUTPUT = 20_000  # bytes
_PAUSE = 0.2  # seconds between looks at the memory
_WORN = 2**30  # bytes, above which a process is replaced, whoever took them
_COMMAND = "import sys; from tools.fuzz import worker; worker.main(int(sys.argv[1]), *sys.argv[2:])"
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF"}
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Trial:
    """An input that is tried: the number of it among those of its kind, 0 for the first, and its bytes."""

    kind: str
    ending: str
    number: int
    content: bytes


class _Process:
    """A worker process, and what it has to do."""

    def __init__(self, material: Path, scratch: Path, faults: Sequence[str], limit: float, most_memory: float) -> None:
        self._limit, self._most_memory = limit, most_memory
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `stop`
        self.trial: Trial | None = None
        self.is_ready = self.is_over = False
        self._started = time.monotonic()
        self.deadline = self._started + _START_LIMIT
        self.pipe, other_end = Pipe()
        command = [sys.executable, "-c", _COMMAND, str(other_end.fileno()), str(material), str(scratch), *faults]
        self._process = subprocess.Popen(
            command,
            pass_fds=[other_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        other_end.close()

    def give(self, trial: Trial) -> None:
        """Give it an input."""
        self.trial, self._started = trial, time.monotonic()
        self.deadline = self._started + self._limit
        with contextlib.suppress(OSError):  # if it is gone, reading will show it
            self.pipe.send((trial.kind, trial.ending, trial.content))

    def take_answer(self) -> Answer | None:
        """Return the answer; None if the process only says that it has started."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            return self._fail(self._describe_end())
        self.deadline = math.inf
        if not self.is_ready:
            self.is_ready = True
            return None
        assert isinstance(answer, Answer)
        if answer.memory > self._most_memory and answer.verdict != "failed":
            return dataclasses.replace(answer, verdict="failed", cause=self._describe_excess())
        return answer

    def find_fault(self) -> Answer | None:
        """Return the failure of a process that takes too long or too much memory."""
        if self.pipe.poll():
            return None
        if time.monotonic() > self.deadline:
            return self._fail(f"hang: more than {self._limit:g} s" if self.is_ready else "the worker does not start")
        memory = self._read_memory()
        if memory > self._most_memory + _SURPLUS:
            return self._fail(self._describe_excess(), memory)
        return None

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _fail(self, cause: str, memory: int = 0) -> Answer:
        """Stop the process, and return a failure with the lines of its Python code, where it says them."""
        self.is_over = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGABRT)  # faulthandler writes the lines of Python code
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - _LAST_OUTPUT))
        output = self._output.read().decode(errors="replace")
        lines = (line.partition(PACKAGE)[2].replace('"', "") for line in output.splitlines() if PACKAGE in line)
        place = next(lines, "")  # the innermost
        seconds = time.monotonic() - self._started
        return Answer("failed", f"{cause}{f' in {place}' if place else ''}", output, seconds, memory)

    def _describe_excess(self) -> str:
        return f"memory: more than {self._most_memory / 2**30:g} GB"

    def _describe_end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        status = self._process.poll()
        names = {known.value: known.name for known in signal.Signals}
        return f"crash: {names.get(-status, status) if status is not None and status < 0 else f'status {status}'}"

    def _read_memory(self) -> int:
        with contextlib.suppress(OSError, ValueError, IndexError):  # Linux only
            return _PAGE * int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return 0


class Workers:
    """Worker processes that are kept for many inputs.

    Parameters
    ----------
    count
        Of processes.
    material, scratch
        Folders: what inputs are read with, and one for what comes and goes.
    faults
        Functions, ``MODULE:FUNCTION``, that each process calls at its start: faults that the fuzzer is to find.
    limit
        Seconds that an input may take.
    most_memory
        Bytes that a process may have in use while it reads an input.
    """

    def __init__(
        self, count: int, material: Path, scratch: Path, faults: Sequence[str], limit: float, most_memory: float
    ) -> None:
        self._arguments = material, scratch, faults, limit, most_memory
        self._processes = [_Process(*self._arguments) for _ in range(count)]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.stop()

    @property
    def count_free(self) -> int:
        """How many processes have nothing to do."""
        return sum(process.is_ready and process.trial is None for process in self._processes)

    @property
    def is_busy(self) -> bool:
        """Whether a process has an input."""
        return any(process.trial is not None for process in self._processes)

    def give(self, trial: Trial) -> None:
        """Give an input to a process that is free."""
        next(process for process in self._processes if process.is_ready and process.trial is None).give(trial)

    def collect(self, seconds: float) -> list[tuple[Trial, Answer]]:
        """Wait so long for answers at most, and return them; processes that failed are replaced."""
        wait([process.pipe for process in self._processes], min(seconds, _PAUSE))
        found = []
        for position, process in enumerate(self._processes):
            answer = process.take_answer() if process.pipe.poll() else process.find_fault()
            if answer is None:
                continue
            trial, process.trial = process.trial, None
            if trial is None:
                raise RuntimeError(f"a worker of the fuzzer ended: {answer.cause}\n{answer.report}")
            found.append((trial, answer))
            if process.is_over or answer.memory > _WORN:
                process.stop()
                self._processes[position] = _Process(*self._arguments)
        return found
