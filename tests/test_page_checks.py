"""Each check of `page_checks` finds its fault on a small page that has it, and nothing on a page without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import page_checks
import pytest
from browser import VARIABLE, OpenPage, find_chrome, launch_chrome, open_page, show_each
from page_checks import (
    find_axe_faults,
    find_dialog_faults,
    find_keyboard_faults,
    find_layout_faults,
    find_missing_on_first_screen,
    find_pale_colors,
    find_pale_texts,
    find_policy_holes,
    find_print_faults,
    find_size_faults,
    find_structure_faults,
    find_too_many_pages,
    find_wrong_width,
)
from skips import need_extra

need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]

PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'; "
    "base-uri 'none'; form-action 'none'"
)
SCRIPT = """
const dialog = document.querySelector("dialog");
document.querySelector("main button").addEventListener("click", () => dialog.showModal());
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
{policy}
<title>A page</title>
<style>
:root {{ color-scheme: light dark; --bar: light-dark(#1f6f8b, #7cc4dd); --pale: #888888 }}
body {{ margin: 16px; font: 16px/1.5 sans-serif; background: light-dark(white, #111); color: light-dark(#222, #eee) }}
a {{ color: light-dark(#0b5cad, #8ec5ff) }}
button, summary, a {{ display: inline-block; min-height: 24px }}
button {{ color: inherit; background: transparent; border: 1px solid }}
dialog {{ color: light-dark(#222, #eee); background: light-dark(white, #222) }}
@media print {{ :root {{ color-scheme: light }} tr, figure {{ break-inside: avoid }} }}
{style}
</style>
</head>
<body>
<a href="#main">Skip to the content</a>
<main id="main">
<h1>A page</h1>
{body}
<p>Text.</p>
<button type="button">Enlarge</button>
<details><summary>More</summary><p>Folded text.</p></details>
<dialog aria-label="The picture"><p>The large picture.</p><button type="button" autofocus>Close</button></dialog>
</main>
<script>{script}</script>
</body>
</html>
"""

GOOD = f"""
<section><h2>Words</h2><p>Confidence is not broken; honorificabilitudinitatibusandmore is, as it must be in a window.
<span style="opacity: 0">Unseen</span></p></section>
<div tabindex="0" style="overflow-x: auto"><table><thead><tr><th scope="col">A</th></tr></thead>
<tbody><tr><td>1</td></tr></tbody></table></div>
<figure><img src="{PICTURE}" alt="A hand" width="50" height="50"><figcaption>The first</figcaption></figure>
<svg role="img" aria-label="Ten bars" width="200" height="40"><rect width="200" height="40" fill="#202020"/>
<text x="9" y="25" fill="#ffffff">On a bar</text></svg>
"""

Opener = Callable[..., OpenPage]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with launch_chrome() as chrome:
        yield chrome


@pytest.fixture(scope="module", params=[390])
def window(chrome: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Open a window of this width, for one page after another."""
    blank = tmp_path_factory.mktemp("blank") / "blank.html"
    blank.write_text("<!doctype html>")
    with open_page(chrome, blank, request.param) as opened:
        yield opened


@pytest.fixture
def open_body(window: OpenPage, tmp_path: Path) -> Opener:
    """Open a page with this body."""

    def open_it(body: str, style: str = "", script: str = SCRIPT, policy: str = "") -> OpenPage:
        page = tmp_path / "page.html"
        page.write_text(PAGE.format(body=body, style=style, script=script, policy=make_policy(policy)))
        window.visit(page, window.page.viewport_size["width"])
        return window

    return open_it


def make_policy(policy: str) -> str:
    """Make the element that states a policy."""
    hashed = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # of an empty script
    return f'<meta http-equiv="Content-Security-Policy" content="{policy.format(hashed)}">' if policy else ""


@pytest.mark.parametrize("window", [390, 1440], indirect=True)
def test_nothing_is_found_on_a_good_page(open_body: Opener) -> None:
    opened = open_body(GOOD)
    page_checks.open_all(opened)
    for view in show_each(opened, (opened.page.viewport_size["width"],)):
        found = find_layout_faults(opened) + find_wrong_width(opened) + find_pale_texts(opened)
        assert found + find_pale_colors(opened, ["--bar"]) == [], view
    assert find_structure_faults(opened) + find_axe_faults(opened) == []
    assert find_keyboard_faults(opened) == []
    assert find_dialog_faults(opened, "main button") == []
    assert find_print_faults(opened) == []
    assert find_missing_on_first_screen(opened, ["A page", "Confidence"]) == []
    assert opened.list_events() == []


LAYOUT = {
    "a wide element": ('<p id="wide" style="width: 500px">Wide</p>', "the page is 51"),
    "its name": ('<p id="wide" style="width: 500px">Wide</p>', '<p#wide> "Wide" reaches from 16 to 516 px in 390 px'),
    "a wide element although the body hides it": (
        '<style>body { overflow-x: hidden }</style><div id="wide" style="width: 500px">Wide</div>',
        "<div#wide>",
    ),
    "text of a drawing": (
        '<svg style="overflow: visible" width="100" height="30" role="img"><text x="350" y="20">Beyond</text></svg>',
        '<text> "Beyond" reaches',
    ),
    "a region that scrolls without the keyboard": (
        '<div id="region" style="overflow: auto"><p style="width: 900px">Wide</p></div>',
        '<div#region> "Wide" scrolls, and the keyboard cannot reach it',
    ),
    "cut text": (
        '<p id="cut" style="width: 90px; overflow: hidden; white-space: nowrap">More than fits here</p>',
        'the text of <p#cut> "More than fits here" is cut off by <p#cut>',
    ),
    "an ellipsis": (
        '<p id="cut" style="width: 90px; overflow: clip; white-space: pre; text-overflow: ellipsis">Too much text</p>',
        "is cut off",
    ),
    "cut lines": (
        '<p id="cut" style="height: 30px; overflow: hidden; width: 90px">Two lines of text</p>',
        "is cut off",
    ),
    "text cut by a drawing": (
        '<svg width="50" height="30" role="img"><text id="cut" x="9" y="20">Long text</text></svg>',
        "the text of <text#cut>",
    ),
    "a broken word": (
        '<p style="width: 60px; overflow-wrap: anywhere">confidence</p>',
        '"confidence" is broken over 2 lines in <p> "confidence"',
    ),
    "a broken number": ('<p style="width: 40px; word-break: break-all">174,998</p>', '"174,998" is broken'),
    "a broken word of a name": ('<p style="width: 40px; word-break: break-all">no_gesture</p>', '"gesture" is broken'),
    "text on text": (
        '<p style="position: relative; height: 30px"><b style="position: absolute">One</b>'
        '<i style="position: absolute; left: 9px">Two</i></p>',
        "lie on each other",
    ),
    "tiny text": ('<p id="tiny" style="font-size: 9px">Tiny</p>', '<p#tiny> "Tiny" has letters of 9 px'),
    "tiny text of a scaled drawing": (
        '<svg viewBox="0 0 1000 100" width="340" role="img"><text y="50" font-size="20">Small</text></svg>',
        '<text> "Small" has letters of 6.8 px',
    ),
}


@pytest.mark.parametrize(("body", "fault"), LAYOUT.values(), ids=LAYOUT)
def test_layout(open_body: Opener, body: str, fault: str) -> None:
    opened = open_body(body)
    assert_found(fault, find_layout_faults(opened))


NO_FAULT = {
    "a path may break": '<p style="width: 60px; overflow-wrap: anywhere"><code>confidence</code></p>',
    "between words": '<p style="width: 60px">no_<wbr>gesture and high-<wbr>minded conscience</p>',
    "a long name": f'<p style="width: 90px; overflow-wrap: anywhere">{"gesture" * 8}</p>',
    "a region that scrolls": '<div tabindex="0" style="overflow: auto"><p style="width: 900px">Wide</p></div>',
    "text for screen readers": (
        '<p style="position: absolute; width: 1px; height: 1px; overflow: hidden; white-space: nowrap">Read aloud</p>'
    ),
    "a picture cut to size": (
        f'<div style="width: 50px; height: 50px; overflow: hidden"><img src="{PICTURE}" alt="A hand" width="900"></div>'
    ),
    "what is folded": '<details><summary>More</summary><p style="width: 900px">Wide</p></details>',
}


@pytest.mark.parametrize("body", NO_FAULT.values(), ids=NO_FAULT)
def test_no_fault_of_layout(open_body: Opener, body: str) -> None:
    opened = open_body(body)
    assert find_layout_faults(opened) == []


def test_a_fault_that_is_folded_is_found_when_it_is_opened(open_body: Opener) -> None:
    opened = open_body('<details><summary>More</summary><p style="width: 900px">Wide</p></details>')
    page_checks.open_all(opened)
    assert_found('"Wide" reaches', find_layout_faults(opened))


def test_a_page_without_a_viewport(chrome: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!doctype html><title>A page</title><p>Text")
    with open_page(chrome, tmp_path / "page.html", 390) as opened:
        assert find_wrong_width(opened) == ["laid out for 980 px in a window of 390 px"]


PALE = {
    "grey on white": ('<p style="color: #808080">Pale</p>', "light", "has a contrast of 3.9, not 4.5"),
    "only in the dark": ('<p style="color: #333">Dark</p>', "dark", '<p> "Dark" has a contrast of 1.5, not 4.5'),
    "a modern colour": ('<p style="color: oklch(70% 0.1 200)">Pale</p>', "light", '<p> "Pale" has a contrast of'),
    "a large text": ('<p style="color: #aaa; font-size: 24px">Pale</p>', "light", "has a contrast of 2.3, not 3"),
    "opacity": ('<div style="opacity: .5"><p>Pale</p></div>', "light", '<p> "Pale"'),
    "on a gradient": (
        '<p style="color: white; background: linear-gradient(90deg, #111, #eee)">All along the line of this text</p>',
        "light",
        '<p> "All along',
    ),
    "on a picture": (
        '<div style="position: relative; height: 30px"><svg width="90" height="30" role="img" aria-label="A bar">'
        '<rect width="90" height="30" fill="#333"/></svg><b style="position: absolute; left: 4px; color: #444">'
        "Over</b></div>",
        "light",
        '<b> "Over"',
    ),
    "in a drawing": (
        '<svg width="90" height="30" role="img" aria-label="A bar"><rect width="90" height="30" fill="#ff8"/>'
        '<text x="9" y="20" fill="white">Bar</text></svg>',
        "light",
        '<text> "Bar"',
    ),
    "far below": ('<div style="height: 5000px"></div><p style="color: #999">Pale</p>', "light", '<p> "Pale"'),
}


@pytest.mark.parametrize(("body", "theme", "fault"), PALE.values(), ids=PALE)
def test_pale_text(open_body: Opener, body: str, theme: str, fault: str) -> None:
    opened = open_body(body)
    opened.show(390, theme)
    assert_found(fault, find_pale_texts(opened))


def test_a_halo_is_what_lies_behind(open_body: Opener) -> None:
    style = "paint-order: stroke; stroke: rgb(0 0 0 / 85%); stroke-width: {}"
    drawing = f"""<svg width="90" height="30" role="img" aria-label="A box"><rect width="90" height="30" fill="#888"/>
        <text x="9" y="20" fill="white" style="{style}">Box</text></svg>"""
    assert find_pale_texts(open_body(drawing.format("0.28em"))) == []
    assert_found('<text> "Box"', find_pale_texts(open_body(drawing.format("1px"))))


def test_large_text_may_be_paler(open_body: Opener) -> None:
    opened = open_body('<p style="color: #808080; font-size: 24px">Large</p>')
    assert find_pale_texts(opened) == []


def test_pale_colors_of_charts(open_body: Opener) -> None:
    opened = open_body("", style=":root { --bar: light-dark(#ddd, #ddd) }")
    assert find_pale_colors(opened, ["--pale", "--bar", "--none"]) == [
        "--none is not defined",
        "--bar has a contrast of 1.4, not 3",
    ]
    opened.show(390, "dark")
    assert find_pale_colors(opened, ["--pale", "--bar"]) == []


def test_axe(open_body: Opener) -> None:
    body = f"""<img src="{PICTURE}"><button style="width: 24px"></button>
        <button style="min-height: 9px; width: 9px; padding: 0">1</button><button style="padding: 0">2</button>"""
    opened = open_body(body)
    found = find_axe_faults(opened)
    assert {fault.partition(":")[0] for fault in found} >= {"image-alt", "button-name", "target-size"}


STRUCTURE = {
    "no alt": (f'<img src="{PICTURE}">', '<img> "" has no alt text'),
    "an empty alt": (f'<img src="{PICTURE}" alt=" ">', "has no alt text"),
    "one alt for all": (f'<img src="{PICTURE}" alt="crop">' * 4, '4 pictures share the alt text "crop"'),
    "a drawing without a name": ('<svg id="chart" role="img"></svg>', '<svg#chart> "" has no name'),
    "a drawing without a role": ("<svg><text>12</text></svg>", 'neither role="img" nor aria-hidden'),
    "two titles": ("<h1>Another</h1>", "2 headings are h1"),
    "a level that is left out": ("<h3>Deep</h3>", '<h3> "Deep" follows a heading of level 1'),
    "an empty heading": ("<h2> </h2>", "is empty"),
    "an empty section": ("<section><h2>Evaluation</h2></section>", '<section> "Evaluation" is empty'),
    "an empty table": ("<table><thead><tr><th>Class</th></tr></thead></table>", '<table> "Class" is empty'),
    "an empty list": ('<ul id="list"></ul>', "<ul#list>"),
    "empty details": ("<details><summary>More</summary></details>", '<details> "More" is empty'),
}


@pytest.mark.parametrize(("body", "fault"), STRUCTURE.values(), ids=STRUCTURE)
def test_structure(open_body: Opener, body: str, fault: str) -> None:
    opened = open_body(body)
    assert_found(fault, find_structure_faults(opened))


EVENTS = {
    "a request": ('<img src="http://127.0.0.1:9/a.png" alt="Outside">', "", "requests http://127.0.0.1:9/a.png"),
    "a file beside it": ('<link rel="stylesheet" href="style.css">', "", "style.css"),
    "a forbidden request": (
        '<img src="http://127.0.0.1:9/a.png" alt="">',
        POLICY,
        "img-src forbids http://127.0.0.1:9",
    ),
    "a forbidden script": ("<script>alert(1)</script>", POLICY, "script-src-elem forbids inline"),
    "an alert": ("<script>alert(1)</script>", "", "opens a dialog: 1"),
    "an error": ("<script>missing()</script>", "", "error: missing is not defined"),
    "a message": ("<script>console.error('wrong')</script>", "", "console: wrong"),
}


@pytest.mark.parametrize(("body", "policy", "event"), EVENTS.values(), ids=EVENTS)
def test_events(open_body: Opener, body: str, policy: str, event: str) -> None:
    opened = open_body(body, policy=policy)
    assert_found(event, opened.list_events())


def test_a_page_without_a_policy(open_body: Opener) -> None:
    opened = open_body("")
    holes = find_policy_holes(opened)
    assert len(holes) == 10
    assert "the policy does not stop script-src" in holes


@pytest.mark.parametrize(
    ("changed", "hole"),
    [("script-src 'unsafe-inline'", "script-src-attr"), ("img-src *", "img-src"), ("base-uri *", "base-uri")],
)
def test_a_policy_with_a_hole(open_body: Opener, changed: str, hole: str) -> None:
    directive = changed.partition(" ")[0]
    policy = "; ".join(changed if part.startswith(directive) else part for part in POLICY.split("; "))
    opened = open_body("", policy=policy)
    assert f"the policy does not stop {hole}" in find_policy_holes(opened)


def test_a_policy_without_a_hole(open_body: Opener) -> None:
    opened = open_body("", script="", policy=POLICY)
    assert find_policy_holes(opened) == []


def test_the_first_screen(open_body: Opener) -> None:
    low = f"""<p>99&nbsp;sam<wbr>ples <b>of</b> six</p><div style="height: 900px"></div>
        <p>Too few</p><img src="{PICTURE}" alt="A hand">"""
    opened = open_body(low)
    missing = find_missing_on_first_screen(opened, ["99 samples of", "Too few"])
    assert len(missing) == 2
    assert missing[0].startswith(
        "'Too few' is not on the first screen: 'Skip to the content A page 99\\xa0sam ples  of  six'"
    )
    assert missing[1] == "0 of 1 pictures are on the first screen"


KEYBOARD = {
    "no way to the content": ('<script>document.querySelector("a").remove()</script>', "the first stop is no link"),
    "a button left out": ('<button tabindex="-1">Other</button>', "1 of 2 <button> are reached"),
    "no ring": ("<style>button:focus { outline: none }</style>", 'the focus is not visible on <button> "Enlarge"'),
    "out of view": ('<button style="position: fixed; top: -99px">Other</button>', '<button> "Other" is out of view'),
}


@pytest.mark.parametrize(("body", "fault"), KEYBOARD.values(), ids=KEYBOARD)
def test_the_keyboard(open_body: Opener, body: str, fault: str) -> None:
    opened = open_body(body)
    assert_found(fault, find_keyboard_faults(opened))


DIALOGS = {
    "it stays shut": ("", "", "opens no dialog"),
    "Escape does nothing": (
        "",
        SCRIPT + 'dialog.addEventListener("keydown", e => e.preventDefault())',
        "does not close",
    ),
    "the focus is lost": (
        "",
        SCRIPT + 'dialog.addEventListener("close", () => setTimeout(() => document.activeElement.blur()))',
        "comes back to nothing",
    ),
    "it is too wide": ("<style>dialog { min-width: 900px }</style>", SCRIPT, "in the dialog: <p>"),
    "it is pale": (
        "<style>dialog { color: #999 }</style>",
        SCRIPT,
        'in the dialog: <p> "The large picture." has a contrast',
    ),
}


@pytest.mark.parametrize(("body", "script", "fault"), DIALOGS.values(), ids=DIALOGS)
def test_dialogs(open_body: Opener, body: str, script: str, fault: str) -> None:
    opened = open_body(body, script=script)
    assert_found(fault, find_dialog_faults(opened, "main button"))


ROWS = "<tr><td>1</td></tr>" * 120
PRINT = {
    "a table wider than the sheet": (
        '<table id="wide"><tr><td style="min-width: 900px">1</td></tr></table>',
        "<table#wide>",
    ),
    "what would scroll": (
        '<div id="region" tabindex="0" style="overflow: auto"><p style="width: 900px">Wide</p></div>',
        '<div#region> "Wide" would scroll: paper cuts it at 648 of 900 px',
    ),
    "what would scroll down": (
        '<div id="region" tabindex="0" style="overflow-y: auto; height: 90px"><p style="height: 900px">High</p></div>',
        "would scroll: paper cuts it at 90 of",
    ),
    "rows": (f'<style>tr {{ break-inside: auto !important }}</style><table id="rows">{ROWS}</table>', "may be cut"),
    "a head": (
        "<style>thead { display: table-row-group }</style><table><thead><tr><th>A</th></tr></thead></table>",
        '<thead> "A" is not repeated',
    ),
    "what is fixed": ('<p style="position: sticky; top: 0">Bar</p>', '<p> "Bar" is printed on every page'),
    "white on a colour that is not printed": (
        '<p style="color: white; background: black">Badge</p>',
        '<p> "Badge" has a contrast of 1 on paper',
    ),
}


@pytest.mark.parametrize(("body", "fault"), PRINT.values(), ids=PRINT)
def test_print(open_body: Opener, body: str, fault: str) -> None:
    opened = open_body(body)
    assert_found(fault, find_print_faults(opened))


def test_many_pages(open_body: Opener) -> None:
    opened = open_body(
        '<p style="break-after: page">One</p>' * 3, style="@media print { details { break-before: page } }"
    )
    assert find_print_faults(opened) == []
    assert find_too_many_pages(opened, 4) == ["5 pages, more than 4"]
    assert find_too_many_pages(opened, 5) == []


def test_a_dark_theme_is_not_printed(open_body: Opener) -> None:
    opened = open_body("", style="@media print { :root { color-scheme: dark } }")
    assert_found('<p> "Text." has a contrast of 1.2 on paper', find_print_faults(opened))


def test_a_colour_that_is_printed(open_body: Opener) -> None:
    opened = open_body('<p style="color: white; background: black; print-color-adjust: exact">Badge</p>')
    assert find_print_faults(opened) == []


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(bytes(1001))
    assert find_size_faults(tmp_path / "page.html", 1000) == ["page.html has 1,001 bytes, more than 1,000"]
    assert find_size_faults(tmp_path / "page.html", 1001) == []


def test_the_browser_that_is_named_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "chrome"
    program.touch(mode=0o755)
    monkeypatch.setenv(VARIABLE, str(program))
    assert find_chrome() == str(program)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(pytest.fail.Exception, match=f"{VARIABLE}=.*/none is not a program"):
        find_chrome()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "google-chrome").touch(mode=0o755)
    assert find_chrome() == str(tmp_path / "google-chrome")
    (tmp_path / "google-chrome").unlink()
    assert find_chrome(own=str(program)) in (
        str(program),
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    )


def assert_found(fault: str, faults: list[str]) -> None:
    assert any(fault in found for found in faults), faults
