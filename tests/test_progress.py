"""Progress: a bar on a terminal or in a notebook, lines elsewhere, nothing on standard error."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from detectime.progress import FILE_VARIABLE, Progress, ProgressState, read_state

WORK = """
import sys
from detectime import progress
with progress.Progress(int(sys.argv[1]) or None, name="frames", every=0.0) as shown:
    for _ in range(5):
        shown.add(2)
"""


def make_environment(**variables: str) -> dict[str, str]:
    """Return an environment without the variables of a notebook."""
    return {k: v for k, v in os.environ.items() if k not in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG")} | variables


def start_work(total: int, stdout: int, stderr: int, **variables: str) -> subprocess.Popen[bytes]:
    """Run `WORK` in a process of its own; a total of 0 stands for an unknown one."""
    command = [sys.executable, "-c", WORK, str(total)]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, env=make_environment(**variables))


def read_terminal(master: int) -> str:
    """Read the output to a terminal until every process has closed it."""
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux reports the end in this way
            part = b""
        if not part:
            os.close(master)
            return b"".join(parts).decode()
        parts.append(part)


def test_a_terminal_shows_a_bar_on_standard_output() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # a new terminal has no width
    process = start_work(10, slave, subprocess.PIPE)
    os.close(slave)
    shown = read_terminal(master)
    assert process.communicate(timeout=30) == (None, b"")
    assert process.returncode == 0
    states = shown.split("\r")
    assert "frames:   0%" in states[1]
    assert "10/10" in shown
    assert "█" in shown


@pytest.mark.parametrize("total", [10, 0], ids=["of 10", "of unknown"])
def test_a_pipe_gets_lines_even_if_standard_error_is_a_terminal(total: int) -> None:
    master, slave = pty.openpty()
    process = start_work(total, subprocess.PIPE, slave)
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


def test_a_line_is_written_before_the_work_ends() -> None:
    code = WORK.replace("shown.add(2)", "shown.add(2); sys.stdin.readline()")
    command = [sys.executable, "-c", code, "10"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=make_environment())
    assert process.stdout is not None
    assert b"2/10" in process.stdout.readline()  # the process waits for its input meanwhile
    process.communicate(b"\n" * 5, timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("variable", ["JPY_SESSION_NAME", "COLAB_RELEASE_TAG"])
def test_an_open_notebook_shows_a_bar_on_standard_output(variable: str) -> None:
    process = start_work(10, subprocess.PIPE, subprocess.PIPE, **{variable: "a browser"})
    out, err = process.communicate(timeout=30)
    assert err == b""
    assert b"\r" in out
    assert b"10/10" in out


# -- with an injected clock


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_a_viewer_a_line_is_written_every_half_minute(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(1000, watched=False, clock=clock) as progress:
        for _ in range(100):
            clock.now += 1.0
            progress.add(10)
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


def test_earlier_work_counts_in_the_total_but_not_in_the_rate(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(3_000_000, "B", name="weights.onnx", done=1_000_000, watched=False, clock=clock) as progress:
        clock.now += 2.0
        progress.add(2_000_000)
    assert capfd.readouterr().out == "weights.onnx: 100% 3.00M/3.00M [00:02<00:00, 1.00MB/s]\n"


def test_after_an_error_the_last_line_is_written_too(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with pytest.raises(KeyError, match="work"), Progress(1000, watched=False, clock=clock) as progress:  # noqa: PT012
        clock.now += 5.0
        progress.add(250)
        raise KeyError("work")
    (line,) = capfd.readouterr().out.splitlines()
    assert "250/1000" in line


# -- the file


def test_each_work_writes_its_state_to_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    file = tmp_path / "progress.json"
    assert read_state(file) is None
    with Progress(1000, name="frames", done=100, watched=False, clock=clock, file=file) as progress:
        assert read_state(file) == ProgressState(1, "frames", "frame", 1000, 100, 100)
        clock.now += 0.1
        progress.add(50)
        assert read_state(file) == ProgressState(1, "frames", "frame", 1000, 100, 100)  # not with every frame
        clock.now += 1.0
        progress.add(50)
        assert read_state(file) == ProgressState(1, "frames", "frame", 1000, 200, 100)
    assert read_state(file) == ProgressState(1, "frames", "frame", 1000, 200, 100, is_over=True)
    with Progress(None, "B", name="weights", watched=False, clock=clock, file=file):
        assert read_state(file) == ProgressState(2, "weights", "B", None, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "progress.json"
    variables = make_environment(**{FILE_VARIABLE: str(file)})
    subprocess.run([sys.executable, "-c", WORK, "10"], env=variables, check=True, capture_output=True)
    assert read_state(file) == ProgressState(1, "frames", "frame", 10, 10, is_over=True)


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '{"work": 1}', '{"unknown": 1}'])
def test_what_is_not_a_state_counts_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(content)
    assert read_state(tmp_path / "progress.json") is None


def test_work_goes_on_if_its_state_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Progress(10, watched=False, file=tmp_path / "no folder" / "progress.json") as progress:
        progress.add(10)
    assert "10/10" in capfd.readouterr().out


def test_a_device_is_not_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As `os.devnull`, which a run as root could replace."""
    file = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as special:
        special.bind(str(file))
        with Progress(10, watched=False, file=file) as progress:
            progress.add(10)
        assert file.is_socket()
