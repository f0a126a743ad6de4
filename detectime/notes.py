"""Notes: findings worth reporting, such as files left out, rows repeated or frames changed.

The library prints nothing. Findings are returned as notes and stored in ``run.json``; the notebook, the command line
and the report show them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Note:
    """A finding, with a count and a first example.

    Parameters
    ----------
    kind
        One word to group and filter by, such as ``repeated``, ``renamed``, ``changed`` or ``damaged``.
    count
        How many items `text` is about.
    text
        A phrase that follows the count (``rows repeated another and were dropped``), or a whole sentence, which begins
        with a capital letter, if a count makes no sense.
    example
        The first item, such as a path; None if there is nothing to name.
    at
        When it happened (ISO 8601) if it is an event of the past; None if it describes the current state.

    Examples
    --------
    >>> str(Note("repeated", 2, "rows repeated another and were dropped", "anna/0001.jpg"))
    "2 rows repeated another and were dropped (the first: 'anna/0001.jpg')"
    >>> str(Note("moved", 1, "The images moved."))
    'The images moved.'
    """

    kind: str
    count: int
    text: str
    example: str | None = None
    at: str | None = None

    def __str__(self) -> str:
        shown = "" if self.example is None else f" (the first: {shorten_text(self.example)})"
        if self.text[:1].isupper():
            return f"{self.text.removesuffix('.')}{shown}."
        return f"{self.count} {self.text}{shown}"


def note_found(kind: str, found: Sequence[str], one: str, many: str) -> list[Note]:
    """Make a note that counts items and shows the first; no note if there are no items.

    Parameters
    ----------
    kind
        Of the note.
    found
        The items.
    one, many
        The text of the note for one item, and for several.

    Examples
    --------
    >>> print(*note_found("clipped", ["a.jpg"], "box is clipped", "boxes are clipped"))
    1 box is clipped (the first: 'a.jpg')
    >>> note_found("clipped", [], "box is clipped", "boxes are clipped")
    []
    """
    return [Note(kind, len(found), one if len(found) == 1 else many, found[0])] if found else []


def format_count(number: int, unit: str, groups: int | None = None) -> str:
    """Return a number and its unit, and of how many groups these are.

    Examples
    --------
    >>> format_count(1, "frame"), format_count(1200, "frame", groups=6)
    ('1 frame', '1,200 frames of 6 groups')
    """
    counted = f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"
    return counted if groups is None else f"{counted} of {format_count(groups, 'group')}"


def shorten_text(value: str, length: int = _SHOWN_CHARACTERS) -> str:
    """Return text as a Python literal, shortened in the middle, so that no control character reaches a terminal.

    Examples
    --------
    >>> shorten_text("a" * 100, 10)
    "'aaaa…aaaa'"
    """
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[: length // 2]}…{shown[-length // 2 :]}"


def notes_to_json(notes: Iterable[Note]) -> list[dict[str, Any]]:
    """Return notes as plain values for ``run.json``.

    Examples
    --------
    >>> notes_to_json([Note("moved", 1, "The images moved.")])
    [{'kind': 'moved', 'count': 1, 'text': 'The images moved.', 'example': None, 'at': None}]
    """
    return [dataclasses.asdict(note) for note in notes]


def notes_from_json(values: Iterable[Mapping[str, Any]]) -> list[Note]:
    """Return the notes that `notes_to_json` converted; unknown keys, of a newer version, are ignored.

    Examples
    --------
    >>> notes_from_json([{"kind": "moved", "count": 1, "text": "The images moved."}])
    [Note(kind='moved', count=1, text='The images moved.', example=None, at=None)]
    """
    known = {field.name for field in dataclasses.fields(Note)}
    return [Note(**{key: value for key, value in note.items() if key in known}) for note in values]
