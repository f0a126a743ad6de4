"""JupyterLab in a browser for the tests: its server, its pages, and what a person does there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOTEBOOK_PANEL = ".jp-NotebookPanel .jp-WindowedPanel-outer"
ERROR = '.jp-Notebook .jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]'  # of exceptions too
FILE = ".jp-FileBrowser .jp-DirListing-itemName"
SECONDS = 120


@contextmanager
def open_lab(browser: Any, project: Path, folder: Path, variables: dict[str, str] | None = None) -> Iterator[Any]:
    """Open what `jupyter lab`, typed in the project, says.

    Parameters
    ----------
    browser
        What `browser.launch_chrome` yields.
    project
        The folder in which it is typed.
    folder
        For the server's own files.
    variables
        Further environment variables of the server, and so of kernels.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    for kind in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{kind}_DIR"] = str(folder / "jupyter" / kind.lower())
    environment["JUPYTER_PATH"] = str(folder / "jupyter" / "path")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jupyter = str(Path(sys.executable).with_name("jupyter"))
    command = [jupyter, "lab", "--no-browser", f"--port={port}", "--allow-root"]
    log = folder / "jupyter.log"
    with log.open("w") as stderr:
        server = subprocess.Popen(
            command, cwd=project, env=environment | (variables or {}), stdout=stderr, stderr=stderr
        )
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
    """Return the URL that a Jupyter server prints, once the server listens: it prints the URL before that."""
    urls: list[str] = []
    wait_until(lambda: urls.extend(re.findall(r"http://127\S+token=\w+", log.read_text())) or urls, "the server's URL")
    wait_until(lambda: is_listening(urllib.parse.urlsplit(urls[-1]).port), "the server listens")
    return urls[-1]


def is_listening(port: int | None) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


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
    wait_until(lambda: list_prompts(page) != before, "the cells begin")  # they may end with the same numbers
    wait_until(lambda: "[*]:" not in list_prompts(page), "the cells are executed")
    page.wait_for_timeout(1500)  # scrolling


def list_prompts(page: Any) -> list[str]:
    """List the prompts of the code cells: ``[1]:``, ``[*]:`` if it waits or is executed, ``[ ]:``."""
    prompts: list[str] = page.locator(f"{NOTEBOOK_PANEL} .jp-CodeCell .jp-InputPrompt").all_text_contents()
    return prompts


def is_in_view(page: Any, element: Any) -> bool:
    """Return whether the whole element lies within the visible part of the notebook."""
    inner, outer = element.bounding_box(), page.locator(NOTEBOOK_PANEL).bounding_box()
    return bool(outer["y"] <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"])
