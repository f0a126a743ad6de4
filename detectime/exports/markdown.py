"""Text and tables in Markdown, whatever characters they hold."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_INVISIBLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories of characters that break lines or do worse
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder the text that follows


def escape_markdown(text: str) -> str:
    """Return text that Markdown and HTML show as it is, also in the cell of a table.

    Control characters, line breaks and what reverses the direction of reading are shown by their numbers.

    Examples
    --------
    >>> print(escape_markdown("thumbs_up | <b>`x`"))
    thumbs\\_up &#124; &lt;b&gt;\\`x\\`
    >>> print(escape_markdown("two\\nlines"))
    two\\\\u000alines
    """
    shown = "".join(
        f"\\u{ord(character):04x}" if unicodedata.category(character) in _INVISIBLE or character in _OVERRIDES
        else character
        for character in text
    )  # fmt: skip
    for character, entity in {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}.items():
        shown = shown.replace(character, entity)
    shown = re.sub(r"([\\`*_\[\]~$!])", r"\\\1", shown)
    return re.sub(r"^ +| +$| {2,}", lambda blanks: "&nbsp;" * len(blanks[0]), shown)


def format_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return a table as lines of Markdown; columns of whole numbers are aligned to the right.

    Examples
    --------
    >>> print(*format_table(["class", "boxes"], [["ok", 1234], ["a|b", 0]]), sep="\\n")
    | class | boxes |
    | --- | ---: |
    | ok | 1,234 |
    | a&#124;b | 0 |
    """
    rows = [list(row) for row in rows]
    numeric = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    lines = [[escape_markdown(name) for name in header], ["---:" if right else "---" for right in numeric]]
    lines += [[_format_cell(value) for value in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _format_cell(value: Any) -> str:
    return f"{value:,}" if _is_number(value) else escape_markdown(str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
