"""Reports: of notebooks of any version, and of files that are not notebooks (one line, no traceback)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectime.report import html as html_report
from detectime.report.html import ReportError
from detectime.storage.store import StoreError

ACCEPTED = "accepted: a notebook (.ipynb) of nbformat 4, as Jupyter and papermill save it"
EXECUTED: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# What was found\n", "In words."]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"tags": []},
            "execution_count": 1,
            "source": "secret_code()",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["2 of 3 ", "frames\n"]},
                {"output_type": "display_data", "metadata": {}, "data": {"text/html": ["<b>a table</b>"]}},
            ],
        },
        {
            "cell_type": "code",
            "id": "c",
            "metadata": {"tags": ["not-in-report"]},
            "execution_count": 2,
            "source": "",
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "nobody's business"}],
        },
    ],
}
OLD = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": "old"},
    "worksheets": [{"cells": [{"cell_type": "markdown", "metadata": {}, "source": "text"}]}],
}
NOT_NOTEBOOKS = [
    pytest.param("{}", "JSON without `nbformat`", id="an empty object"),
    pytest.param("[1]", "JSON without `nbformat`", id="a list"),
    pytest.param("5", "JSON without `nbformat`", id="a number"),
    pytest.param("null", "JSON without `nbformat`", id="null"),
    pytest.param('{"cells": 3}', "JSON without `nbformat`", id="cells alone"),
    pytest.param('{"nbformat": 4}', "invalid notebook (", id="a format alone"),
    pytest.param(json.dumps(EXECUTED | {"cells": 3}), "invalid notebook (", id="cells of a number"),
    pytest.param(json.dumps(EXECUTED | {"cells": [5]}), "invalid notebook (", id="a cell of a number"),
    pytest.param(json.dumps(OLD), "nbformat '3' is not supported", id="nbformat 3"),
    pytest.param(json.dumps(EXECUTED | {"nbformat": "4\n" * 999}), r"nbformat '4\n4\n", id="a long format"),
    pytest.param("frame_path,class_name\na.jpg,ok\n", "not JSON", id="text"),
    pytest.param("", "not JSON", id="nothing"),
    pytest.param("[" * 100_000, "not JSON", id="depth"),
    pytest.param(b"\x89PNG\r\n\x1a\n\x00\xff", "not JSON", id="binary"),
]


def make_report(notebook: Path, page: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "detectime.report", str(notebook), str(page)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: object) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("no report: ")
    assert len(line) < 500
    for part in parts:
        assert str(part) in line


def write_file(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("content", "reason"), NOT_NOTEBOOKS)
def test_a_file_that_is_not_a_notebook_is_one_line(content: str | bytes, reason: str, tmp_path: Path) -> None:
    given, page = write_file(tmp_path / "given.json", content), tmp_path / "report.html"
    assert_one_line(make_report(given, page), f"{given}: ", reason, ACCEPTED)
    with pytest.raises(ReportError) as refusal:
        html_report.write_report(given, page)
    assert str(refusal.value).startswith(f"{given}: ")
    assert reason in str(refusal.value)
    assert not page.exists()


def test_an_unreadable_file_is_one_line(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    absent = tmp_path / "absent.ipynb"
    assert_one_line(make_report(absent, page), f"{absent}: cannot be read: No such file or directory", ACCEPTED)
    assert_one_line(make_report(tmp_path, page), f"{tmp_path}: cannot be read: Is a directory", ACCEPTED)
    assert not page.exists()


def test_an_unwritable_page_is_one_line(tmp_path: Path) -> None:
    notebook = write_file(tmp_path / "out.ipynb", json.dumps(EXECUTED))
    assert_one_line(make_report(notebook, tmp_path), f"{tmp_path}: cannot be written: Is a directory")
    with pytest.raises(StoreError):
        html_report.write_report(notebook, tmp_path)


@pytest.mark.parametrize("minor", [0, 2, 4, 5, 9])
def test_a_notebook_of_any_minor_version_is_converted(minor: int, tmp_path: Path) -> None:
    notebook = write_file(tmp_path / "out & more.ipynb", json.dumps(EXECUTED | {"nbformat_minor": minor}))
    done = make_report(notebook, tmp_path / "new" / "report.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "new" / "report.html").read_text()
    assert "<title>out &amp; more</title>" in page
    for shown in ("What was found", "In words.", "2 of 3 frames", "<b>a table</b>"):
        assert shown in page
    assert "secret_code" not in page
    assert "nobody's business" not in page


def test_cells_without_ids_are_converted(tmp_path: Path) -> None:
    cells = [{key: value for key, value in cell.items() if key != "id"} for cell in EXECUTED["cells"]]
    notebook = write_file(tmp_path / "out.ipynb", json.dumps(EXECUTED | {"cells": cells}))
    done = make_report(notebook, tmp_path / "report.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 3 frames" in (tmp_path / "report.html").read_text()


def list_keys(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the keys and indices that lead to every value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [keys, *(found for key, part in inside for found in list_keys(part, (*keys, key)))]


def replace_value(value: Any, keys: tuple[Any, ...], new: Any) -> Any:
    """Copy a JSON value with one value inside it replaced."""
    if not keys:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[keys[0]] = replace_value(value[keys[0]], keys[1:], new)
    return copy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sampled_from(list_keys(EXECUTED)), new=JSON)
def test_a_notebook_with_any_value_replaced_is_converted_or_refused(
    keys: tuple[Any, ...], new: Any, tmp_path: Path
) -> None:
    notebook = write_file(tmp_path / "out.ipynb", json.dumps(replace_value(EXECUTED, keys, new)))
    page = tmp_path / "report.html"
    page.unlink(missing_ok=True)
    try:
        html_report.write_report(notebook, page)
    except ReportError as refusal:
        assert str(refusal).startswith(f"{notebook}: ")  # noqa: PT017
        assert not page.exists()
    else:
        assert page.read_text().endswith("</html>\n")
