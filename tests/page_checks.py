"""Faults of a page in a browser that a reader would meet: each check returns one sentence per fault.

Most look at the page as it is shown (`browser.OpenPage.show`), whatever its width and theme. What runs inside the page
is in ``page_checks.js``. `tests/test_page_checks.py` shows that each check finds its fault.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from browser import OpenPage
from numpy.typing import NDArray
from PIL import Image
from skips import need_extra

Colors = NDArray[np.float64]
"""Red, green and blue from 0 to 255 in the last axis."""

TILE = 4000
"""Height of one screenshot in pixels; Chromium repeats what lies beyond 16,384."""
SPOILT = 0.1
"""The share of the pixels behind a text that may lack contrast: where it touches the border of something else."""
A4 = (794, 1123)
"""A sheet of paper in CSS pixels."""
MARGIN = 57
"""15 mm of a sheet in CSS pixels, the widest margin that browsers propose."""
AXE_RULES = {"color-contrast": {"enabled": False}, "target-size": {"enabled": True}}
"""Rules of axe-core that are not as it comes: `find_pale_texts` sees more, and what a finger hits is 24 px wide."""
SMALLEST_PRINT = 9.3
"""7 pt in CSS pixels, the least size of letters on paper."""
MOST_STOPS = 250


def open_all(opened: OpenPage) -> None:
    """Open everything that is folded."""
    opened.page.evaluate("pageChecks.openAll()")


def find_layout_faults(opened: OpenPage, root: str = "", smallest: float = 11) -> list[str]:
    """Find what does not fit the window.

    That is: a page wider than the window; an element that leaves it other than in a region which scrolls and which the
    keyboard reaches; text that is cut off, that lies on other text, or is tiny; a word that is broken without a hyphen.

    Parameters
    ----------
    opened
        The page, as shown now.
    root
        A selector of the only element to look at, such as an open dialog.
    smallest
        The least size of letters in pixels.
    """
    arguments = [root, smallest]
    found: list[str] = opened.page.evaluate("values => pageChecks.findLayoutFaults(...values)", arguments)
    return found


def find_wrong_width(opened: OpenPage) -> list[str]:
    """Find a page that a phone lays out for a wider window, as it does without a `viewport` of the device's width."""
    wanted, laid_out = opened.page.viewport_size["width"], opened.page.evaluate("document.documentElement.clientWidth")
    return [] if wanted == laid_out else [f"laid out for {laid_out} px in a window of {wanted} px"]


# -- contrast


def find_pale_texts(opened: OpenPage) -> list[str]:
    """Find text whose contrast with what is drawn behind it, be it a picture, is below AA of WCAG 2.2."""
    opened.page.evaluate("scrollTo(0, 0)")
    height = opened.page.evaluate("document.documentElement.scrollHeight")
    return compare_with_background(opened.page, "", height)


def find_pale_texts_in_view(opened: OpenPage, root: str) -> list[str]:
    """Find such text in an element that is in view, such as an open dialog."""
    return compare_with_background(opened.page, root, None)


def compare_with_background(page: Any, root: str, height: int | None) -> list[str]:
    """List the faults of the texts in an element; the height is that of the page, None: what is in view is enough."""
    texts = page.evaluate("root => pageChecks.listColoredTexts(root)", root)
    page.evaluate("pageChecks.hideText()")
    behind = read_pixels(page.screenshot()) if height is None else take_whole_picture(page, height)
    page.evaluate("pageChecks.showText()")
    return [fault for text in texts for fault in describe_pale_text(text, behind)]


def take_whole_picture(page: Any, height: int) -> NDArray[np.uint8]:
    """Return the pixels of a page, also of what is not in view; (height, width, 3)."""
    session = page.context.new_cdp_session(page)
    size = {"x": 0, "width": page.viewport_size["width"], "scale": 1}
    options = {"format": "png", "optimizeForSpeed": True, "captureBeyondViewport": True}
    clips = [size | {"y": top, "height": min(TILE, height - top)} for top in range(0, height, TILE)]
    shots = [session.send("Page.captureScreenshot", options | {"clip": clip}) for clip in clips]
    session.detach()
    return np.concatenate([read_pixels(base64.b64decode(shot["data"])) for shot in shots])


def read_pixels(content: bytes) -> NDArray[np.uint8]:
    """Decode a screenshot; (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def describe_pale_text(text: dict[str, Any], behind: NDArray[np.uint8]) -> Iterator[str]:
    """Yield a fault if a text, as `listColoredTexts` tells it, lacks contrast on any of its lines."""
    for left, top, right, bottom in text["rects"]:
        trim = 0.15 * (bottom - top)  # the line's box is higher than its letters
        pixels = behind[round(top + trim) : round(bottom - trim), max(0, round(left)) : round(right)].astype(float)
        if not pixels.size:
            continue
        if text["halo"]:
            pixels = np.broadcast_to(np.asarray(text["halo"], float), pixels.shape)
        ink = text["alpha"] * np.asarray(text["color"]) + (1 - text["alpha"]) * pixels
        contrast = np.quantile(compute_contrast(ink, pixels), SPOILT)
        if contrast < text["needed"] - 0.05:
            yield f"{text['name']} has a contrast of {contrast:.1f}, not {text['needed']}"
            return


def compute_contrast(one: Colors, other: Colors) -> Colors:
    """Compute the contrast of colours by WCAG: from 1 to 21."""
    lights = np.stack(np.broadcast_arrays(compute_luminance(one), compute_luminance(other)))
    return np.asarray((lights.max(0) + 0.05) / (lights.min(0) + 0.05))


def compute_luminance(colors: Colors) -> Colors:
    """Compute the relative luminance of sRGB colours."""
    parts = colors / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def find_pale_colors(opened: OpenPage, variables: Sequence[str], least: float = 3) -> list[str]:
    """Find colours of charts, given as CSS variables, that are too close to the page's background (3: WCAG 1.4.11)."""
    background, *colors = opened.page.evaluate("names => pageChecks.readColors(names)", list(variables))
    faults = [f"{name} is not defined" for name, color in zip(variables, colors, strict=True) if color is None]
    for name, color in zip(variables, colors, strict=True):
        if color is not None and (contrast := compute_contrast(*np.array([color[:3], background[:3]]))) < least:
            faults.append(f"{name} has a contrast of {contrast:.1f}, not {least}")
    return faults


# -- structure


def find_axe_faults(opened: OpenPage) -> list[str]:
    """Find what axe-core objects to: names, roles, headings, landmarks, what fingers hit, and more."""
    axe = need_extra("axe_playwright_python.sync_playwright").Axe()
    options = {"resultTypes": ["violations"], "rules": AXE_RULES, "preload": False}
    violations = axe.run(opened.page, options=options).response["violations"]
    return [f"{found['id']}: {found['help']}: {node['html'][:160]}" for found in violations for node in found["nodes"]]


def find_structure_faults(opened: OpenPage) -> list[str]:
    """Find pictures without a name, headings that skip a level, and parts with nothing in them."""
    finders = ("findNameless", "findHeadingFaults", "findEmptySections")
    return [fault for finder in finders for fault in opened.page.evaluate(f"pageChecks.{finder}()")]


def find_policy_holes(opened: OpenPage) -> list[str]:
    """Find what injected markup could do: the page's policy must stop scripts and every request. Spoils the page."""
    holes: list[str] = opened.page.evaluate("pageChecks.findPolicyHoles()")
    return holes


# -- the first screen and the keyboard


def find_missing_on_first_screen(opened: OpenPage, texts: list[str], pictures: int = 1) -> list[str]:
    """Find which of these texts and how many pictures lie outside what is seen before scrolling."""
    height = opened.page.viewport_size["height"]
    text, seen = opened.page.evaluate("height => pageChecks.readFirstScreen('', height)", height)
    shown = drop_spaces(text)
    missing = [
        f"{wanted!r} is not on the first screen: {text!r}" for wanted in texts if drop_spaces(wanted) not in shown
    ]
    enough = [] if seen >= pictures else [f"{seen} of {pictures} pictures are on the first screen"]
    return missing + enough


def drop_spaces(text: str) -> str:
    """Return a text without white space, which differs in a page by where its lines and elements end."""
    return "".join(text.split())


def list_stops(opened: OpenPage) -> list[dict[str, Any]]:
    """List where the tabulator stops, from the top of the page: kind, name, ring (visible?) and shown (in view?)."""
    opened.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    stops: list[dict[str, Any]] = []
    while len(stops) < MOST_STOPS:
        opened.page.keyboard.press("Tab")
        stop = opened.page.evaluate("pageChecks.describeFocus()")
        if stop is None:
            break
        stops.append(stop)
    return stops


def find_keyboard_faults(opened: OpenPage) -> list[str]:
    """Find what the keyboard cannot reach (the content, a folded part, a button), and a focus that is not seen."""
    stops = list_stops(opened)
    kinds = [stop["kind"] for stop in stops]
    expected = opened.page.evaluate("pageChecks.countControls()")
    faults = [] if kinds[:1] == ["link"] else ["the first stop is no link to the content"]
    faults += [
        f"{kinds.count(kind)} of {number} <{kind}> are reached"
        for kind, number in expected.items()
        if kinds.count(kind) < min(number, MOST_STOPS - 1)
    ]
    faults += [f"the focus is not visible on {stop['name']}" for stop in stops if not stop["ring"]]
    return faults + [f"{stop['name']} is out of view when it has the focus" for stop in stops if not stop["shown"]]


def find_dialog_faults(opened: OpenPage, button: str) -> list[str]:
    """Find a dialog that Enter on a button does not open, that Escape does not close, or that loses the focus.

    Parameters
    ----------
    opened
        The page.
    button
        A selector; its first match is tried.
    """
    page = opened.page
    page.locator(button).first.focus()
    before = page.evaluate("pageChecks.describeFocus()")
    press(page, "Enter")
    if page.locator("dialog[open]").count() != 1:
        return [f"Enter on {before['name']} opens no dialog"]
    inside = page.evaluate("document.activeElement.closest('dialog') !== null")
    faults = [] if inside else ["the dialog has not the focus"]
    faults += [f"in the dialog: {fault}" for fault in find_layout_faults(opened, "dialog[open]")]
    faults += [f"in the dialog: {fault}" for fault in find_pale_texts_in_view(opened, "dialog[open]")]
    press(page, "Escape")
    if page.locator("dialog[open]").count():
        return [*faults, "Escape does not close the dialog"]
    after = page.evaluate("pageChecks.describeFocus()")
    back = after["name"] if after else "nothing"
    return (
        faults if back == before["name"] else [*faults, f"the focus was on {before['name']} and comes back to {back}"]
    )


def press(page: Any, key: str) -> None:
    """Press a key, and wait until the page has answered."""
    page.keyboard.press(key)
    page.evaluate("pageChecks.settle()")


# -- print


def find_print_faults(opened: OpenPage) -> list[str]:
    """Find what paper of the format A4 would lose or cut, and text that is pale on it."""
    page, before = opened.page, opened.page.viewport_size
    page.set_viewport_size({"width": A4[0] - 2 * MARGIN, "height": A4[1] - 2 * MARGIN})
    page.emulate_media(media="print")
    page.evaluate("pageChecks.settle()")
    faults = [*find_layout_faults(opened, smallest=SMALLEST_PRINT), *page.evaluate("pageChecks.findPrintFaults()")]
    page.emulate_media(media="null")  # as before
    page.set_viewport_size(before)
    return faults


def find_too_many_pages(opened: OpenPage, most: int) -> list[str]:
    """Find a page that needs more sheets of A4."""
    pages = count_pages(opened.page.pdf(format="A4", prefer_css_page_size=True))
    return [f"{pages} pages, more than {most}"] if pages > most else []


def count_pages(document: bytes) -> int:
    """Count the pages of a PDF."""
    return len(re.findall(rb"/Type\s*/Page\b", document))


def find_size_faults(path: Path, most: int) -> list[str]:
    """Find a file of more bytes than a page may have."""
    size = path.stat().st_size
    return [f"{path.name} has {size:,} bytes, more than {most:,}"] if size > most else []
