"""Chrome or Chromium for the tests: finding it, starting it, and opening a page while watching what it does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from skips import need_extra

VARIABLE = "DETECTIME_CHROME"
"""The environment variable that names the browser to use."""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATION = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"  # macOS puts it on no PATH
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

PHONE, DESK = (360, 390), (820, 1440)
"""Widths of windows, in CSS pixels."""
HEIGHTS = {360: 780, 390: 844, 820: 1180, 1440: 900}
THEMES = ("light", "dark")
CHECKS = Path(__file__).with_name("page_checks.js")


def find_chrome(own: str = "") -> str | None:
    """Return the path of a Chrome or Chromium: the one that `VARIABLE` names, or else one that is installed.

    Parameters
    ----------
    own
        Where Playwright would have its own Chromium, which is often not installed.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return shutil.which(named) or pytest.fail(f"{VARIABLE}={named} is not a program")
    return next(filter(None, map(shutil.which, (*PROGRAMS, APPLICATION, own))), None)


@contextmanager
def launch_chrome() -> Iterator[Any]:
    """Start a browser without a window, or skip the test; to look on, start it with ``headless=False``."""
    sync_api = need_extra("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        program = find_chrome(playwright.chromium.executable_path)
        if program is None:
            pytest.skip(f"the program chromium (or Google Chrome, or what {VARIABLE} names) is not installed")
        chrome = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chrome
        chrome.close()


@dataclass
class OpenPage:
    """A page in the browser, with what it did that a report must not do."""

    page: Any
    url: str = ""
    events: list[str] = field(default_factory=list)
    """Requests for anything but the page itself, errors, messages, dialogs."""

    def visit(self, path: Path, width: int) -> None:
        """Open another page, from a file."""
        self.url = path.as_uri()
        self.events.clear()
        self.page.goto(self.url)
        self.show(width)

    def show(self, width: int, theme: str = "light") -> None:
        """Give the window another width, and the device another theme."""
        self.page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        self.page.emulate_media(color_scheme=theme)
        self.page.evaluate("pageChecks.settle()")

    def list_events(self) -> list[str]:
        """List what the page did until now, with what its policy stopped."""
        return [*self.events, *self.page.evaluate("pageChecks.violations")]


@contextmanager
def open_page(chrome: Any, path: Path, width: int = 390) -> Iterator[OpenPage]:
    """Open a page from a file; narrow windows are those of a phone, which has a touch screen and heeds `viewport`.

    Nothing moves, so that what is measured is final.
    """
    size = {"width": width, "height": HEIGHTS[width]}
    context = chrome.new_context(
        viewport=size, is_mobile=width in PHONE, has_touch=width in PHONE, reduced_motion="reduce"
    )
    context.add_init_script(path=CHECKS)
    opened = OpenPage(context.new_page())
    watch(opened)
    try:
        opened.visit(path, width)
        yield opened
    finally:
        context.close()


def watch(opened: OpenPage) -> None:
    """Note what a page does."""

    def note_request(request: Any) -> None:
        if request.url.partition("#")[0] != opened.url and not request.url.startswith("data:"):
            opened.events.append(f"requests {request.url}")

    def note_message(message: Any) -> None:
        if message.type in ("error", "warning"):
            opened.events.append(f"console: {message.text}")

    def note_dialog(dialog: Any) -> None:
        opened.events.append(f"opens a dialog: {dialog.message}")
        dialog.dismiss()

    opened.page.on("request", note_request)
    opened.page.on("console", note_message)
    opened.page.on("pageerror", lambda error: opened.events.append(f"error: {error}"))
    opened.page.on("dialog", note_dialog)


def show_each(opened: OpenPage, widths: tuple[int, ...]) -> Iterator[str]:
    """Show a page in windows of these widths and in both themes; yields the name of each view."""
    for width in widths:
        for theme in THEMES:
            opened.show(width, theme)
            yield f"{width} px, {theme}"
