"""What each key of ``config.yml`` means, read from the comments of the delivered file: one text for all who show it."""

from __future__ import annotations

import re
from functools import cache

from detectime import paths
from detectime.config import SECTIONS
from detectime.settings import list_field_names

_KEY = re.compile(r"  (?P<key>\w+):.*?\s# (?P<text>.*)")
_SECTION = re.compile(r"(?P<section>\w+):(.*?\s# (?P<text>.*))?")
_CONTINUED = re.compile(r"\s+#\s+(?P<text>.*)")


@cache
def read_key_help() -> dict[str, str]:
    """Return the comment of each section and key of the delivered ``config.yml``.

    Returns
    -------
    dict
        By ``section`` and ``section.key``; a comment on several lines as one.

    Examples
    --------
    >>> read_key_help()["selection.limit"]
    'only the first N frames of these classes; null: all'
    """
    found: dict[str, str] = {}
    section = name = ""
    for line in paths.CONFIG.read_text(encoding="utf-8").splitlines():
        if name and (match := _CONTINUED.fullmatch(line)):
            found[name] += f" {match['text']}"
        elif (match := _SECTION.fullmatch(line)) and match["section"] in SECTIONS:
            section = name = match["section"]
            found[name] = match["text"] or ""
        elif (match := _KEY.fullmatch(line)) and section and match["key"] in list_field_names(SECTIONS[section]):
            name = f"{section}.{match['key']}"
            found[name] = match["text"]
    return found
