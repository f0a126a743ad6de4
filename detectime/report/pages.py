"""Pages that need nothing from outside: one HTML file with its styles, its script and its pictures inside.

Whatever comes from data is escaped: by jinja2, and before that by `show_controls`, since a name may hold characters
that turn the direction of a line or that no file may hold.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from detectime.schema import Outcome
from detectime.storage import store, urls

TEMPLATES = Path(__file__).parent / "templates"
"""The templates, styles and scripts of pages."""

_STYLES = ("style.css", "cards.css")
_SCRIPTS = ("page.js", "cards.js")
_LONGEST_NAME = 160  # characters of a name that are shown
_LONGEST_WORD = 24  # characters without a place to break, above which a line may be broken anywhere
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"

# Control characters, marks that turn the direction of a line, and halves of surrogate pairs; tab and newline are text.
_BEGINNING = b"<!doctype html"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_BREAKS = re.compile(r"(?<=[^/_.\-][/_.\-])(?=\w)")
_BREAKS_OF_LISTS = re.compile(r"(?<=[^\W\d],)(?=\w)|(?<=/)(?=\w)")
_LONG_WORDS = re.compile(rf"\S{{{_LONGEST_NAME + 1},}}")
_CODE = re.compile(r"`([^`]+)`")


class Figure(NamedTuple):
    """A number as text, and its interval below it, empty if there is none: both stay on their line."""

    text: str
    interval: str


def render_page(template: str, title: str, **values: Any) -> bytes:
    """Render a template as one HTML file that loads nothing from outside.

    Parameters
    ----------
    template
        A file of `TEMPLATES`; it extends ``page.html``, which has the styles and the script.
    title
        Of the page.
    values
        What the template shows. A name that it uses and that is missing is an error.

    Returns
    -------
    bytes
        UTF-8.

    Examples
    --------
    >>> page = render_page("page.html", "<b>").decode()
    >>> "<title>&lt;b&gt;</title>" in page, "default-src 'none'" in page
    (True, True)
    """
    script = _read_all(_SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _make_environment().get_template(template)
    text = page.render(
        title=title,
        style=Markup(_read_all(_STYLES)),
        script=Markup(script),
        script_digest=digest,
        outcome_colours={outcome.value: outcome.colour for outcome in Outcome},
        **values,
    )
    return text.encode()


def write_page(page: bytes, path: str | os.PathLike[str]) -> None:
    """Write a page to a file or a URL, whole or not at all; its folder is made if it is missing.

    Raises
    ------
    StoreError
        If it cannot be written, or there is a file of that name that is no page: it is kept.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(render_page("page.html", "empty"), f"{folder}/page.html")
    ...     Path(folder, "page.html").read_text()[:15]
    '<!doctype html>'
    """
    parent, name = store.open_parent_store(path)
    before = parent.get(name)
    if before is not None and before.strip() and not before.lstrip()[: len(_BEGINNING)].lower().startswith(_BEGINNING):
        raise store.StoreError(f"{os.fspath(path)}: this file is no page, and is not overwritten; give another name")
    parent.put(name, page)


def locate_place(place: str) -> str:
    """Return a path or URL independent of the current folder, so that a page does not depend on it.

    Examples
    --------
    >>> locate_place("s3://bucket/out"), locate_place("/data/out/")
    ('s3://bucket/out', '/data/out')
    """
    return place.rstrip("/") if urls.is_remote(place) else os.path.abspath(urls.strip_file_scheme(place))


def show_controls(value: Any) -> Any:
    r"""Return a value for a page, text with its control characters as escape sequences that can be seen.

    Examples
    --------
    >>> print(show_controls("a\x07b\u202e"))
    a\x07b\u202e
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), value)


def show_name(value: object) -> Markup:
    """Return a name or a path from data: isolated from the text around it, and with places where a line may break.

    A long name is shortened in the middle.

    Examples
    --------
    >>> show_name("videos/<ok>_1.mp4")
    Markup('<bdi>videos/&lt;ok&gt;_<wbr>1.<wbr>mp4</bdi>')
    """
    text = _shorten(show_controls(str(value)))
    parts = _BREAKS.split(text)
    kind = Markup(' class="path"') if any(len(part) > _LONGEST_WORD for part in parts) else ""
    return Markup("<bdi{}>{}</bdi>").format(kind, Markup("<wbr>").join(parts))


def show_text(value: object) -> Markup:
    r"""Return a sentence with what stands in backticks as code, and a number and its % in one line.

    A list without spaces and a path may be broken after a comma or a slash; a long word is shortened.

    Examples
    --------
    >>> show_text("12 % need `exif: apply`")
    Markup('12\xa0% need <code>exif: apply</code>')
    >>> show_text("1,200 of ok,like")
    Markup('1,200 of ok,<wbr>like')
    """
    text = str(show_controls(str(value))).replace(" %", f"{_NO_BREAK_SPACE}%")
    text = _LONG_WORDS.sub(lambda found: _shorten(found[0]), text)
    broken = _BREAKS_OF_LISTS.sub("<wbr>", str(escape(text)))
    return Markup(_CODE.sub(r"<code>\1</code>", broken))


def show_statement(value: str) -> Markup:
    """Return a text with a full stop. Its first letter stays: it may be that of a class.

    Examples
    --------
    >>> show_statement("like: 12 frames")
    Markup('like: 12 frames.')
    """
    text = value.strip()
    return show_text(text if text.endswith((".", "!", "?", "…")) else f"{text}.")


def show_sentence(value: str) -> Markup:
    """Return a phrase as a sentence: with a capital letter, and with a full stop.

    Examples
    --------
    >>> show_sentence("look at them")
    Markup('Look at them.')
    """
    text = value.strip()
    return show_statement(f"{text[:1].upper()}{text[1:]}")


def format_share(value: float, digits: int = 0) -> str:
    r"""Return a share in percent; a share that is not 0 or 1 is not rounded to these. A missing value is a dash.

    Examples
    --------
    >>> format_share(0.925), format_share(0.9999), format_share(float("nan"))
    ('92\xa0%', '>\xa099\xa0%', '–')
    """
    if math.isnan(value):
        return "–"
    step = 10.0**-digits
    shown = round(100 * value, digits)
    sign = ""
    if value > 0 and shown == 0:
        sign, shown = "< ", step
    elif value < 1 and shown == 100:
        sign, shown = "> ", 100 - step
    return f"{sign}{shown:.{digits}f}{_NO_BREAK_SPACE}%".replace(" ", _NO_BREAK_SPACE)


def format_number(value: float) -> str:
    """Return a number with three significant digits and commas between thousands; a missing value is a dash.

    Examples
    --------
    >>> format_number(12345), format_number(0.98765), format_number(121.4), format_number(float("nan"))
    ('12,345', '0.988', '121', '–')
    """
    if math.isnan(value):
        return "–"
    if abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}"


def format_day(value: str) -> str:
    """Return the day of a time, ISO 8601, as people write it; other text stays as it is.

    Examples
    --------
    >>> format_day("2026-11-26T21:01:44+00:00"), format_day("long ago")
    ('26 November 2026', 'long ago')
    """
    try:
        time = datetime.datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{time.day} {time:%B %Y}"


def format_time(value: str) -> str:
    """Return a time, ISO 8601, to the minute; other text stays as it is.

    Examples
    --------
    >>> format_time("2026-11-26T21:01:44+00:00")
    '26 November 2026, 21:01 UTC'
    """
    try:
        time = datetime.datetime.fromisoformat(value)
    except ValueError:
        return value
    zone = f" {time.tzname()}" if time.tzinfo else ""
    return f"{format_day(value)}, {time:%H:%M}{zone}"


def count_items(number: int, one: str, many: str | None = None) -> str:
    r"""Return a number and its unit.

    Examples
    --------
    >>> count_items(1, "class", "classes"), count_items(1200, "frame")
    ('1\xa0class', '1,200\xa0frames')
    """
    return f"{number:,}{_NO_BREAK_SPACE}{one if number == 1 else many or f'{one}s'}"


def _shorten(text: str) -> str:
    """Shorten a long name in the middle."""
    if len(text) <= _LONGEST_NAME:
        return text
    return f"{text[: _LONGEST_NAME // 2]}…{text[-_LONGEST_NAME // 2 :]}"


@functools.cache
def _make_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=show_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = {"name": show_name, "prose": show_text, "statement": show_statement, "sentence": show_sentence}
    formatted = {"share": format_share, "number": format_number, "day": format_day, "time": format_time}
    environment.tests["figure"] = lambda value: isinstance(value, Figure)
    environment.filters.update(shown | formatted | {"items_of": count_items, "count": "{:,}".format})
    return environment


@functools.cache
def _read_all(names: tuple[str, ...]) -> str:
    files = [TEMPLATES / name for name in names]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
