"""The process in which inputs are read: it takes one after the other, and says what became of it."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import definitions

_GUARD = 12 * 2**30  # bytes of addresses, where the system stops the process
_LONGEST_CAUSE = 200  # characters

PACKAGE = f"{definitions.ROOT_DIR / 'detectime'}/"
"""How the paths of detectime's modules begin."""


@dataclass(frozen=True)
class Answer:
    """What became of an input.

    Attributes
    ----------
    verdict
        ``accepted``, ``refused`` or ``failed``.
    cause
        Of a failure: what tells it from others: the error and the last line of detectime that led to it. Otherwise the
        message of the refusal.
    report
        Of a failure: the traceback.
    seconds, memory
        What it took; the memory is the most that the process had in use, in bytes.
    """

    verdict: str
    cause: str = ""
    report: str = ""
    seconds: float = 0.0
    memory: int = 0


def main(pipe: int, material: str, scratch: str, *faults: str) -> None:
    """Answer until the pipe is closed."""
    faulthandler.enable()
    with contextlib.suppress(ValueError, OSError):  # not everywhere
        resource.setrlimit(resource.RLIMIT_AS, (_GUARD, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    from tools.fuzz import targets

    for fault in faults:
        module, _, function = fault.partition(":")
        getattr(importlib.import_module(module), function)()
    connection = Connection(pipe)
    connection.send("ready")
    while True:
        try:
            kind, ending, content = connection.recv()
        except EOFError:
            return
        connection.send(_read_input(targets.get_target(kind), targets.Place, Path(material), scratch, ending, content))


def _read_input(
    read: Callable[..., None],
    make_place: Callable[..., object],
    material: Path,
    scratch: str,
    ending: str,
    content: bytes,
) -> Answer:
    """Read an input in a folder of its own, and measure what it takes."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    (folder / "temporary").mkdir()
    (folder / "scratch").mkdir()
    tempfile.tempdir = str(folder / "temporary")
    path = folder / f"input.{ending}"
    path.write_bytes(content)
    _forget_peak()
    start = time.perf_counter()
    try:
        verdict, cause, report = _judge(lambda: read(path, make_place(material, folder / "scratch")))
        seconds, memory = time.perf_counter() - start, read_peak()
    finally:
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)
    return Answer(verdict, cause.replace(str(folder), "."), report.replace(str(folder), "."), seconds, memory)


def _judge(read: Callable[[], None]) -> tuple[str, str, str]:
    """Return the verdict, its cause and a report."""
    from detectime.errors import DocumentedError

    try:
        read()
    except DocumentedError as error:
        message = str(error)
        return (
            ("refused", message, "") if message.strip() else ("failed", f"{type(error).__name__} without a message", "")
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pyo3's panics are no Exception
        return "failed", describe_cause(error), "".join(traceback.format_exception(error))
    return "accepted", "", ""


def describe_cause(error: BaseException) -> str:
    """Describe an error by its type and by the last line of detectime that led to it.

    Examples
    --------
    >>> describe_cause(ValueError("a"))
    'ValueError'
    """
    if type(error).__name__ == "WrongAnswerError":
        return f"wrong answer: {re.sub('[0-9]+', 'N', str(error))}"[:_LONGEST_CAUSE]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)] or frames
    where = f" in {own[-1].filename.removeprefix(PACKAGE)}:{own[-1].name}" if own else ""
    return f"{type(error).__name__}{where}"


def _forget_peak() -> None:
    """Make the system count the peak anew."""
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/clear_refs").write_text("5")


def read_peak() -> int:
    """Return the most memory in use, in bytes: since `_forget_peak` on Linux, elsewhere since the start."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
