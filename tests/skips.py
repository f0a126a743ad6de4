"""Skips: one wording for missing extras, a summary by reason, and a failure when a reason is not expected.

``pytest --expected-skips FILE`` (may be repeated) fails the session if a test is skipped for a reason that no file
lists. A file has one pattern per line, in which ``*`` stands for any text, followed by ``  # `` and why it is expected.
A test that needs an extra must have the marker `extra`, so that ``make test-all`` runs it.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXTRAS = {
    "av": "video",
    "axe_playwright_python": "browser",
    "datasets": "formats",
    "face_detection": "torch",
    "fsspec": "s3",
    "gcsfs": "gs",
    "h5py": "torch",
    "hotcoco": "evaluate",
    "huggingface_hub": "formats",
    "jupyterlab": "lab",
    "moto": "buckets",
    "mrcnn": "torch",
    "onnxscript": "torch",
    "pillow_heif": "heif",
    "playwright": "browser",
    "ray": "ray",
    "s3fs": "s3",
    "scipy": "reference",
    "skimage": "reference",
    "sklearn": "torch",
    "tensorflow": "reference",
    "torch": "torch",
    "torchvision": "torch",
    "webdataset": "formats",
}
"""The extra that installs a module."""


NEEDS = "needs the extra"


def need_extra(module: str) -> Any:
    """Import a module that only an extra installs; skip the test, or the test file, if it is not installed."""
    return pytest.importorskip(module, reason=f"{NEEDS} `{EXTRAS[module.partition('.')[0]]}`")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--expected-skips``."""
    parser.addoption(
        "--expected-skips",
        action="append",
        default=[],
        metavar="FILE",
        help="fail if a test is skipped for a reason that is not in this file (may be repeated)",
    )


def read_patterns(path: Path) -> list[re.Pattern[str]]:
    """Read the expected reasons of a file.

    Raises
    ------
    pytest.UsageError
        A pattern has no comment that explains it.
    """
    patterns = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            pattern, _, why = line.partition("  # ")
            if not why.strip():
                raise pytest.UsageError(f"{path}:{number}: {pattern!r} lacks a comment: PATTERN  # why it is expected")
            patterns.append(re.compile(".*".join(map(re.escape, pattern.strip().split("*"))), re.DOTALL))
    return patterns


def list_skipped(config: pytest.Config) -> list[Any]:
    """List the reports of skipped tests and test files of this session."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return list(reporter.stats.get("skipped", [])) if reporter else []


def get_reason(report: Any) -> str:
    """Return why a test was skipped."""
    reason: str = report.longrepr[2]
    return reason.removeprefix("Skipped: ")


def find_errors(config: pytest.Config) -> list[str]:
    """List the skips that ``--expected-skips`` rejects: unexpected ones, and tests that no environment runs."""
    files = config.getoption("expected_skips")
    if not files:
        return []
    patterns = [pattern for file in files for pattern in read_patterns(Path(file))]
    skipped = list_skipped(config)
    reasons = [
        reason for reason in dict.fromkeys(map(get_reason, skipped)) if not any(p.fullmatch(reason) for p in patterns)
    ]
    unmarked = [
        report.nodeid
        for report in skipped
        if isinstance(report, pytest.TestReport)
        and get_reason(report).startswith(NEEDS)
        and "extra" not in report.keywords
    ]
    return [
        *(f"unexpected skip: {reason!r} is not in {', '.join(files)}" for reason in reasons),
        *(f"{test} needs an extra and lacks the marker `extra`: `make test-all` does not run it" for test in unmarked),
    ]


def pytest_configure(config: pytest.Config) -> None:
    """Reject a broken list before any test runs."""
    for file in config.getoption("expected_skips"):
        if not Path(file).is_file():
            raise pytest.UsageError(f"--expected-skips {file}: no such file")
        read_patterns(Path(file))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a session in which no test failed, but skips are errors."""
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and find_errors(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List skips by reason, the most frequent first."""
    counts = Counter(map(get_reason, list_skipped(config)))
    if counts:
        terminalreporter.section("skips by reason")
    for reason, count in counts.most_common():
        terminalreporter.line(f"{count:5}  {reason}")
    for error in find_errors(config):
        terminalreporter.line(f"ERROR: {error}")
