"""The class that a name means: it is found in any Unicode form, and suggested where the name differs by more."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from collections.abc import Mapping

from detectime.notes import shorten_text
from detectime.sources.names import fold_name

_SHOWN = 20  # names that a message lists
_SIMILAR = 0.75  # likeness of a misspelled name
_ADDED = frozenset(["copy", "kopie", "of"])  # what people and systems write before and after a name, beside numbers


class ClassNames:
    """The classes of a vocabulary, to be found by their names in labels, folders and annotations.

    Parameters
    ----------
    labels
        The vocabulary: the number of each class.

    Examples
    --------
    >>> names = ClassNames({"stop": 1, "ok": 4, "thumbs_up": 7})
    >>> names.find("ok "), names.find("OK"), names.find_similar("Thumbs Up")
    ('ok', None, 'thumbs_up')
    >>> print(names.ask("01_ok"), names.ask("stpo"), names.ask("4"), names.ask("dog"), sep="|")
    ; did you mean 'ok'?|; did you mean 'stop'?|; did you mean 'ok', whose number is 4?|
    """

    def __init__(self, labels: Mapping[str, int]) -> None:
        self._labels = labels
        self._spellings = {fold_name(name): name for name in labels}
        self._similar = {simplify_name(name): name for name in reversed(list(labels))}
        self._numbers = {str(number): name for name, number in labels.items()}

    def find(self, name: str) -> str | None:
        """Return the class that has a name, perhaps in another Unicode form or with blanks at its ends; else None."""
        return name if name in self._labels else self._spellings.get(fold_name(name))

    def find_similar(self, name: str) -> str | None:
        """Return the class that differs in case, blanks and punctuation alone; None: there is none."""
        return self._similar.get(simplify_name(name))

    def ask(self, name: str) -> str:
        """Return the question which class a name means, as the end of a sentence; empty if it is like none."""
        text = name.strip()
        if text in self._numbers:
            return f"; did you mean {shorten_text(self._numbers[text])}, whose number is {text}?"
        words = re.findall(r"[^\W_]+", text.casefold())
        while words and _is_added(words[-1]):
            words.pop()
        bare = "".join(itertools.dropwhile(_is_added, words))
        similar = self.find_similar(name) or self.find_similar(bare)
        found = similar or next(iter(difflib.get_close_matches(name, list(self._labels), 1, _SIMILAR)), None)
        return f"; did you mean {shorten_text(found)}?" if found else ""

    def list_unknown(self, found: Mapping[str, str]) -> str:
        """List names, or paths, that are no classes, with what is said of each: the first twenty, and how many more.

        Examples
        --------
        >>> ClassNames({"ok": 4}).list_unknown({"train/OK": "2 files"})
        "'train/OK' (2 files; did you mean 'ok'?)"
        """
        listed = [f"{shorten_text(n)} ({found[n]}{self.ask(n.rpartition('/')[2])})" for n in sorted(found)]
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        return ", ".join(listed[:_SHOWN]) + more


@functools.lru_cache(4096)
def simplify_name(name: str) -> str:
    """Return what a name has in common with others that people take for the same: letters and digits, without case.

    Examples
    --------
    >>> simplify_name("Thumbs Up") == simplify_name("thumbs_up")
    True
    """
    return re.sub(r"[\W_]+", "", fold_name(name).casefold()) or fold_name(name)


def _is_added(word: str) -> bool:
    return word.isdigit() or word in _ADDED
