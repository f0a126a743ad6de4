"""Names that differ by Unicode form or by blanks alone: the same name to people, different files to a disk."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

_INVISIBLE = (0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
_JOINERS = "\u200c\u200d"  # invisible too, but inside a word they make another one
_BLANKS = (0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
_PLAIN = dict.fromkeys(_INVISIBLE, None) | dict.fromkeys(_BLANKS, " ")
"""What becomes of characters that cannot be seen, or not told from a blank: as macOS has before PM in the time."""
_ODD_BYTES = r"[^\x20-\x7e]|(?:^|/) | (?:/|$)"
"""What a name has whose folded form may be another name; applied to bytes."""


def fold_name(name: str) -> str:
    """Return what a name has in common with its other spellings.

    macOS and Windows hand out names in different Unicode forms: ``ë`` as one character, or as ``e`` with a mark. Blanks
    at the ends of a name cannot be seen, nor can characters without width, and no-break spaces look like others. Case,
    and the number of blanks inside, make another name.

    Parameters
    ----------
    name
        A name, or a path whose parts are separated by slashes.

    Returns
    -------
    str
        The name in the form NFC, with plain blanks, each part without blanks at its ends.

    Examples
    --------
    >>> fold_name("Zoe\\u0308 /1.jpg") == "Zo\\u00eb/1.jpg"
    True
    >>> fold_name("5.04\\u202fPM.png"), fold_name("an\\u200bna")
    ('5.04 PM.png', 'anna')
    """
    plain = name if name.isascii() else unicodedata.normalize("NFC", name.translate(_PLAIN))
    return "/".join(_strip_blanks(part) for part in plain.split("/"))


def _strip_blanks(text: str) -> str:
    previous = None
    while text != previous:
        previous, text = text, text.strip().strip(_JOINERS)
    return text


def show_name(name: str) -> str:
    """Return a name for a message: its Unicode form is said where it may be overlooked.

    Examples
    --------
    >>> print(show_name("Zoe\\u0308"), show_name("anna "))
    'Zoë' (decomposed) 'anna '
    """
    is_decomposed = unicodedata.normalize("NFC", name) != name
    return f"{name!r} (decomposed)" if is_decomposed else repr(name)


def find_odd_names(names: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Find the names of a listing whose folded form may be another name.

    Parameters
    ----------
    names
        Paths as bytes, binary.

    Returns
    -------
    Array
        int64: their positions.

    Examples
    --------
    >>> find_odd_names(pa.array([b"a b.jpg", b"a.jpg ", b"Zo\\xc3\\xab.jpg"])).to_pylist()
    [1, 2]
    """
    is_odd = pc.match_substring_regex(names, _ODD_BYTES)
    positions = pc.indices_nonzero(is_odd).cast(pa.int64())
    return positions.combine_chunks() if isinstance(positions, pa.ChunkedArray) else positions


class FoldedNames:
    """The names of a folder or a listing by their folded form.

    Only names that differ from their folded form are kept: there are few.

    Parameters
    ----------
    names
        All names, or at least those of `find_odd_names`.

    Examples
    --------
    >>> names = FoldedNames(["Zoe\\u0308", "anna"])
    >>> names.find("Zo\\u00eb", exists=lambda name: name == "anna") == ["Zoe\\u0308"]
    True
    >>> names.find("anna ", exists=lambda name: name == "anna")
    ['anna']
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._spellings: dict[str, list[str]] = {}
        for name in names:
            folded = fold_name(name)
            if folded != name:
                self._spellings.setdefault(folded, []).append(name)

    def find(self, name: str, exists: Callable[[str], bool]) -> list[str]:
        """Return the other spellings of a name that exist.

        Parameters
        ----------
        name
            A name that does not exist itself.
        exists
            Whether a name that equals its folded form exists.
        """
        folded = fold_name(name)
        found = [spelling for spelling in self._spellings.get(folded, ()) if spelling != name]
        return [folded, *found] if folded != name and exists(folded) else found

    def list_folded(self) -> list[str]:
        """Return the folded forms of the names that differ from theirs."""
        return list(self._spellings)

    def list_twins(self, exists: Callable[[str], bool]) -> list[str]:
        """Return the folded form of each group of names that have one folded form."""
        return [folded for folded, names in self._spellings.items() if len(names) + exists(folded) > 1]
