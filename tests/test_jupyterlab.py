"""JupyterLab in Chromium: notebook 01 as a person sees it, as delivered and after typical mistakes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import launch_chrome
from lab import ERROR, FILE, NOTEBOOK_PANEL, is_in_view, list_prompts, open_lab, replace_line, run_all
from skips import need_extra

from detectime import paths
from detectime.cli.projects import init_project

need_extra("jupyterlab")
need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch_chrome() as chrome:
        yield chrome


@pytest.fixture
def project(tmp_path: Path) -> Path:
    init_project(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def other_kernel(tmp_path: Path) -> None:
    """Make the kernel one that has no detectime."""
    start = (
        "import sys; sys.modules['detectime'] = None; from ipykernel import kernelapp; kernelapp.launch_new_instance()"
    )
    command = [sys.executable, "-c", start, "-f", "{connection_file}"]
    folder = tmp_path / "jupyter" / "path" / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Other", "language": "python"}))


@pytest.fixture
def page(browser: Any, project: Path, tmp_path: Path) -> Iterator[Any]:
    with open_lab(browser, project, tmp_path) as opened:
        yield opened


def test_the_notebook_as_delivered(page: Any, project: Path) -> None:
    assert page.locator(".jp-NotebookPanel:visible").count() == 1
    assert page.title().startswith(paths.DATA_LOADER[:10])
    shown = page.locator(FILE).all_inner_texts()
    assert sorted(shown) == sorted(entry.name for entry in project.iterdir()), "the root"

    run_all(page)

    assert page.locator(ERROR).count() == 0
    prompts = list_prompts(page)
    assert len(prompts) > 10
    assert all(
        prompt in (f"[{number}]:", "")
        for number, prompt in enumerate(prompts, start=1)  # "": the code is folded
    ), prompts
    box = page.locator(f"{NOTEBOOK_PANEL} .jp-RenderedHTML", has_text="rendered sample, not your data").first
    box.scroll_into_view_if_needed()
    assert is_in_view(page, box)
    assert 'images = "' in box.inner_text()
    assert len(json.loads((project / "reports/sample/hands.json").read_text())) > 90


MISTAKES = {
    "misspelt name": ({"limit:": "limt: int = 3"}, ["ConfigError", "limt", "did you mean 'limit'?"]),
    "no such folder": (
        {"images:": 'images = "no/such/folder"', "labels:": f'labels = "{paths.SAMPLE / "train.csv"}"'},
        ["project/no/such/folder"],
    ),
    "wrong class": ({"classes:": 'classes = "stop,victry"'}, ["ConfigError", "victry", "did you mean 'victory'?"]),
}


@pytest.mark.parametrize(("lines", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_shows_one_message_in_view(page: Any, lines: dict[str, str], message: list[str]) -> None:
    for line, text in lines.items():
        replace_line(page, line, text)
    for _ in range(2):  # again with what the kernel has imported by now: the error comes at once
        run_all(page)

        errors = page.locator(ERROR)
        assert errors.count() == 1, errors.all_inner_texts()
        text = errors.first.inner_text().replace("\n", " ")
        assert [part for part in message if part not in text] == [], text
        assert "Traceback" not in text
        assert "----" not in text
        assert is_in_view(page, errors.first)


def test_a_kernel_without_detectime_is_told_in_view(other_kernel: None, page: Any) -> None:
    run_all(page)

    errors = page.locator(ERROR)
    assert errors.count() == 1, errors.all_text_contents()
    text = errors.first.inner_text()
    assert "detectime is not installed for this kernel" in text
    assert "Traceback" not in text
    assert is_in_view(page, errors.first)
