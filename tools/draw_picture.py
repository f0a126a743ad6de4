"""Draw the picture of the README: the first screen of the report on the rendered sample, on a desk and on a phone.

make demo test-browser && .venv/bin/python -m tools.draw_picture
"""

from __future__ import annotations

import io
import os
import shutil

from PIL import Image

import definitions

_REPORT = definitions.ROOT_DIR / "reports" / "demo" / "report.html"
_TARGET = definitions.ROOT_DIR / "docs" / "report.jpg"
_DESK, _PHONE = (1180, 844, "light"), (390, 844, "dark")  # width, height, theme
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
                device_scale_factor=1.5,
            )
            page.goto(_REPORT.as_uri())
            pictures.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        chrome.close()
    width = sum(picture.width for picture in pictures) + _GAP
    joined = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, 0))
        left += picture.width + _GAP
    joined.save(_TARGET, quality=82, optimize=True, progressive=True)


if __name__ == "__main__":
    main()
