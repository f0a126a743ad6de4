"""The summary of skips by reason, and the failure when a reason is not expected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from skips import read_patterns

HERE = Path(__file__).parent
TESTS = """
import pytest
from skips import need_extra

def test_that_passes(): ...

@pytest.mark.parametrize("number", range(3))
def test_that_is_skipped(number):
    pytest.skip("there is no /proc")

@pytest.mark.extra
def test_that_needs_an_extra():
    need_extra("torch")
"""
PROC, EXTRA = "there is no /proc  # Linux only\n", "needs the extra `*`  # not installed\n"


SERIAL: tuple[str, ...] = ()
PARALLEL = ("-n", "2", "--dist", "loadfile")  # as `make test`


@pytest.fixture(params=[SERIAL, PARALLEL], ids=["serial", "parallel"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Give the options of pytest by which it runs the tests in its own process, or in two others."""
    return tuple(request.param)


def run_pytest(
    folder: Path, lists: list[str], options: tuple[str, ...] = SERIAL, tests: str = TESTS
) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own, without torch; `lists` are the contents of ``--expected-skips`` files."""
    (folder / "torch.py").write_text("raise ModuleNotFoundError('torch')")
    (folder / "test_some.py").write_text(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-W",
        "ignore",
        "-p",
        "skips",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
        *options,
    ]
    for number, content in enumerate(lists):
        (folder / f"{number}.txt").write_text(content)
        command += ["--expected-skips", f"{number}.txt"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(HERE)])
    command.append("test_some.py")
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lists", [[], [f"# a comment\n\n{PROC}", EXTRA]])
def test_skips_are_listed_by_reason(lists: list[str], options: tuple[str, ...], tmp_path: Path) -> None:
    done = run_pytest(tmp_path, lists, options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 4 skipped" in done.stdout
    assert [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("    ")] == [
        ["3", "there is no /proc"],
        ["1", "needs the extra `torch`"],
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (EXTRA + "there is no  # only a part of the reason\n", "there is no /proc"),
        (PROC + "needs the extra `t`  # another extra\n", "needs the extra `torch`"),
    ],
)
def test_an_unexpected_reason_fails_the_session(
    content: str, reason: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_pytest(tmp_path, [content], options)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"ERROR: unexpected skip: {reason!r} is not in 0.txt" in done.stdout
    assert done.stdout.count("unexpected skip") == 1


def test_a_skipped_file_counts_once(options: tuple[str, ...], tmp_path: Path) -> None:
    done = run_pytest(tmp_path, [PROC], options, "from skips import need_extra\nneed_extra('torch')\n")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "    1  needs the extra `torch`\n" in done.stdout
    assert "unexpected skip: 'needs the extra `torch`'" in done.stdout


def test_a_test_that_no_environment_runs_fails_the_session(options: tuple[str, ...], tmp_path: Path) -> None:
    done = run_pytest(tmp_path, [PROC, EXTRA], options, TESTS.replace("@pytest.mark.extra\n", ""))
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "ERROR: test_some.py::test_that_needs_an_extra needs an extra and lacks the marker `extra`" in done.stdout


def test_an_expected_reason_needs_a_comment(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ["there is no /proc\n"])
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "0.txt:1: 'there is no /proc' lacks a comment" in done.stderr


def test_the_project_lists_are_valid() -> None:
    files = sorted((HERE / "expected_skips").iterdir())
    assert [file.name for file in files] == ["extras.txt", "machine.txt"]
    assert all(read_patterns(file) for file in files)
