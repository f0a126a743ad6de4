"""JupyterLab in Chromium: notebook 01 as a person sees it, as delivered and after typical mistakes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import launch_chrome
from skips import need_extra

from detectime import paths
from detectime.cli.projects import init_project

need_extra("jupyterlab")
need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]

NOTEBOOK_PANEL = ".jp-NotebookPanel .jp-WindowedPanel-outer"
ERROR = '.jp-Notebook .jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]'  # of exceptions too
FILE = ".jp-FileBrowser .jp-DirListing-itemName"
SECONDS = 120


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
    """Open what `jupyter lab`, typed in the project, says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    for kind in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{kind}_DIR"] = str(tmp_path / "jupyter" / kind.lower())
    environment["JUPYTER_PATH"] = str(tmp_path / "jupyter" / "path")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jupyter = str(Path(sys.executable).with_name("jupyter"))
    command = [jupyter, "lab", "--no-browser", f"--port={port}", "--allow-root"]
    log = tmp_path / "jupyter.log"
    with log.open("w") as stderr:
        server = subprocess.Popen(command, cwd=project, env=environment, stdout=stderr, stderr=stderr)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        opened = context.new_page()
        opened.set_default_timeout(SECONDS * 1000)
        opened.goto(wait_for_url(log))
        opened.wait_for_selector(f"{NOTEBOOK_PANEL} .jp-Cell")
        opened.locator(FILE, has_text="config.yml").wait_for()  # the root
        wait_until(lambda: "Kernel started" in log.read_text() and get_status(opened) == "idle", "the kernel is ready")
        yield opened
    finally:
        context.close()
        stop_server(server)


def stop_server(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def wait_for_url(log: Path) -> str:
    """Return the URL that a Jupyter server prints."""
    urls: list[str] = []
    wait_until(lambda: urls.extend(re.findall(r"http://127\S+token=\w+", log.read_text())) or urls, "the server's URL")
    return urls[-1]


def wait_until(is_done: Any, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_done():
        assert time.monotonic() < deadline, f"waited too long: {what}"
        time.sleep(0.2)


def get_status(page: Any) -> str:
    status: str = page.locator(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator").get_attribute("data-status")
    return status


def replace_line(page: Any, line: str, text: str) -> None:
    """Type another text over a line of a cell that begins with `line`."""
    found = page.locator(f"{NOTEBOOK_PANEL} .cm-line", has_text=re.compile(f"^{re.escape(line)}")).first
    found.click()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    page.keyboard.insert_text(text)


def run_all(page: Any) -> None:
    """Choose Run All Cells in the menu, and wait until no cell is running or waits to be run."""
    before = list_prompts(page)
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    wait_until(lambda: list_prompts(page) != before and "[*]:" not in list_prompts(page), "the cells are executed")
    page.wait_for_timeout(1500)  # scrolling


def list_prompts(page: Any) -> list[str]:
    """List the prompts of the code cells: ``[1]:``, ``[*]:`` if it waits or is executed, ``[ ]:``."""
    prompts: list[str] = page.locator(f"{NOTEBOOK_PANEL} .jp-CodeCell .jp-InputPrompt").all_text_contents()
    return prompts


def is_in_view(page: Any, element: Any) -> bool:
    """Return whether the whole element lies within the visible part of the notebook."""
    inner, outer = element.bounding_box(), page.locator(NOTEBOOK_PANEL).bounding_box()
    return bool(outer["y"] <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"])


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
