"""What each section and key of ``config.yml`` means, read from the code: one text for all who show it."""

from __future__ import annotations

import inspect
from functools import cache

from detectime.config import SECTIONS
from detectime.settings import read_descriptions


@cache
def read_key_help() -> dict[str, str]:
    """Return the description of each section and key, from the docstrings of the settings classes and their fields.

    Returns
    -------
    dict
        By ``section`` and ``section.key``; a text on several lines as one.

    Examples
    --------
    >>> read_key_help()["selection.limit"]
    'Only the first N frames of these classes; null: all.'
    """
    found: dict[str, str] = {}
    for section, kind in SECTIONS.items():
        first, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
        found[section] = " ".join(first.split())
        found |= {f"{section}.{key}": text for key, text in read_descriptions(kind).items()}
    return found
