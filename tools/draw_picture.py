"""Draw the picture of the README: the report on the rendered sample, its first screen and some cards, and on a phone.

make demo test-browser && .venv/bin/python -m tools.draw_picture
"""

from __future__ import annotations

import io
import os
import shutil
from typing import Any

from PIL import Image

import definitions

_REPORT = definitions.ROOT_DIR / "reports" / "demo" / "report.html"
_TARGET = definitions.ROOT_DIR / "docs" / "report.jpg"
_DESK, _PHONE = (1180, 664, "light"), (390, 960, "dark")  # width, height, theme
_CARDS = 296  # pixels of a gallery below the first screen
_SCALE = 1.5
_GAP = 24  # pixels between the two
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> None:
    """Write docs/report.jpg from the report of ``make demo``."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("DETECTIME_CHROME") or next(filter(None, map(shutil.which, _PROGRAMS)))
    pictures = []
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for width, height, theme in (_DESK, _PHONE):
            page = chrome.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
                device_scale_factor=_SCALE,
            )
            page.goto(_REPORT.as_uri())
            pictures.append(_open_picture(page.screenshot()))
            if theme == "light":
                pictures[-1] = _add_cards(page, pictures[-1])
        chrome.close()
    width = sum(picture.width for picture in pictures) + _GAP
    joined = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, 0))
        left += picture.width + _GAP
    joined.save(_TARGET, quality=76, optimize=True, progressive=True)


def _add_cards(page: Any, above: Image.Image) -> Image.Image:
    """Put the first gallery of samples below the first screen."""
    gallery = page.locator(".gallery").first
    gallery.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # pictures are loaded when they come into view
    place = gallery.bounding_box()
    clip = {"x": 0, "y": place["y"], "width": _DESK[0], "height": _CARDS}
    below = _open_picture(page.screenshot(clip=clip))
    joined = Image.new("RGB", (above.width, above.height + below.height), "white")
    joined.paste(above, (0, 0))
    joined.paste(below, (0, above.height))
    return joined


def _open_picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


if __name__ == "__main__":
    main()
