"""Progress: a bar on a terminal or in a notebook, lines elsewhere, and nothing on standard error."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable

import pytest

from detectime import progress
from detectime.progress import Progress

WORK = """
import sys
from detectime import progress
progress._UNWATCHED_EVERY = 0.0
with progress.Progress(int(sys.argv[1]) or None, name="frames") as told:
    for _ in range(5):
        told.add(2)
"""


def environment(**variables: str) -> dict[str, str]:
    """What a process finds that no notebook has started."""
    return {k: v for k, v in os.environ.items() if k not in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG")} | variables


def start(total: int, stdout: int, stderr: int, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORK, str(total)]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment(**variables))


def read_terminal(master: int) -> str:
    """Read what came to a terminal until nobody has it open any more."""
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux says so in this way
            part = b""
        if not part:
            os.close(master)
            return b"".join(parts).decode()
        parts.append(part)


def test_on_a_terminal_a_bar_is_drawn_on_standard_output() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # a new one has no width
    process = start(10, slave, subprocess.PIPE)
    os.close(slave)
    shown = read_terminal(master)
    assert process.communicate(timeout=30) == (None, b"")
    assert process.returncode == 0
    states = shown.split("\r")
    assert "frames:   0%" in states[1]
    assert "10/10" in shown
    assert "█" in shown


@pytest.mark.parametrize("total", [10, 0], ids=["of 10", "of nobody knows how many"])
def test_into_a_pipe_lines_are_written_at_once_though_standard_error_is_a_terminal(total: int) -> None:
    master, slave = pty.openpty()
    process = start(total, subprocess.PIPE, slave)
    os.close(slave)
    assert read_terminal(master) == ""
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"\r" not in out
    assert b"\x1b" not in out
    lines = out.decode().splitlines()
    done = [int(re.findall(r"(\d+)(?:/10|frame)", line)[0]) for line in lines]
    assert done == ([2, 4, 6, 8, 10, 10] if total else [2, 4, 6, 8, 10])
    assert all(line.startswith("frames: ") for line in lines)


def test_a_line_is_there_before_the_work_ends() -> None:
    code = WORK.replace("told.add(2)", "told.add(2); sys.stdin.readline()")
    command = [sys.executable, "-c", code, "10"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert b"2/10" in process.stdout.readline()  # it waits for an answer meanwhile
    process.communicate(b"\n" * 5, timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("variable", ["JPY_SESSION_NAME", "COLAB_RELEASE_TAG"])
def test_in_a_notebook_that_is_open_a_bar_is_drawn_on_standard_output(variable: str) -> None:
    process = start(10, subprocess.PIPE, subprocess.PIPE, **{variable: "a browser"})
    out, err = process.communicate(timeout=30)
    assert err == b""
    assert b"\r" in out
    assert b"10/10" in out


# -- by a clock of our own


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that goes when it is told to; nobody watches."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "is_watched", lambda: False)

    def go(seconds: float) -> None:
        now[0] += seconds

    return go


def test_nobody_watches_a_line_every_half_minute(
    clock: Callable[[float], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with Progress(1000) as told:
        for _ in range(100):
            clock(1.0)
            told.add(10)
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [re.findall(r"\d+/1000", line) for line in lines] == [
        ["300/1000"],
        ["600/1000"],
        ["900/1000"],
        ["1000/1000"],
    ]
    assert "10.00frame/s" in lines[-1]


def test_what_was_done_before_counts_and_its_time_does_not(
    clock: Callable[[float], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with Progress(3_000_000, "B", name="weights.onnx", done=1_000_000) as told:
        clock(2.0)
        told.add(2_000_000)
    assert capfd.readouterr().out == "weights.onnx: 100% 3.00M/3.00M [00:02<00:00, 1.00MB/s]\n"


def test_an_error_has_its_last_line_too(clock: Callable[[float], None], capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with Progress(1000) as told:
            clock(5.0)
            told.add(250)
            raise KeyError("work")

    with pytest.raises(KeyError):
        work()
    (line,) = capfd.readouterr().out.splitlines()
    assert "250/1000" in line
