"""The classes of the samples of a WebDataset: what numbers stand for, and whether two statements agree."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from detectime.labels.class_names import ClassNames
from detectime.labels.tables import TableError
from detectime.labels.webdataset.class_lists import ClassNumbers
from detectime.labels.webdataset.members import Class
from detectime.notes import shorten_text
from detectime.sources.names import fold_name


class Statement(NamedTuple):
    """What the members of a sample say about its class; None: nothing."""

    path: str
    """Of the picture."""
    in_class: Class | None
    """What ``.cls`` says."""
    in_facts: Class | None
    """What ``.json`` says."""
    is_export: bool = False
    """Whether detectime wrote the ``.json``."""


def learn_numbers(statements: Iterable[Statement]) -> ClassNumbers | None:
    """Return what numbers in ``.cls`` stand for in an export of detectime, by its ``.json``; None if it is none.

    Examples
    --------
    >>> learn_numbers([Statement("a.jpg", 0, "ok", is_export=True)]).names
    {0: 'ok'}
    """
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for statement in statements:
        if statement.is_export and isinstance(statement.in_class, int) and isinstance(statement.in_facts, str):
            counts[statement.in_class][statement.in_facts] += 1
    names = {number: min(found, key=lambda name: (-found[name], name)) for number, found in counts.items()}
    return ClassNumbers(names, "the JSON files of the export") if names else None


def resolve_classes(
    statements: Sequence[Statement], numbers: ClassNumbers | None, labels: Mapping[str, int], where: str
) -> list[str]:
    """Return the class of each sample in the spelling of the vocabulary.

    A number is that of a class in the file that lists classes, or else in the vocabulary. A name that is a label stays
    a name, though it looks like a number.

    Parameters
    ----------
    statements
        Each has a class in ``.cls``, in ``.json``, or in both.
    numbers
        What `find_class_list` or `learn_numbers` found.
    labels
        The vocabulary.
    where
        The place, for messages.

    Raises
    ------
    TableError
        If a class is not a label, or if ``.cls`` and ``.json`` of a sample disagree.

    Examples
    --------
    >>> found = [Statement("a.jpg", 4, None), Statement("b.jpg", "ok", 4)]
    >>> resolve_classes(found, None, {"stop": 1, "ok": 4}, "shards")
    ['ok', 'ok']
    """
    resolver = _Resolver(numbers, labels)
    names: list[str] = []
    unknown: dict[str, list[str]] = {}
    contradictions: list[str] = []
    has_number = False
    for statement in statements:
        said = [resolver.resolve(value) for value in statement[1:3] if value is not None]
        if len(said) == 2 and said[0] != said[1]:
            shown = [shorten_text(str(value)) for value in statement[1:3]]
            has_number |= any(isinstance(value, int) for value in statement[1:3])
            contradictions.append(f"{statement.path}: .cls says {shown[0]}, .json says {shown[1]}")
        name = said[-1]
        if name not in labels:
            unknown.setdefault(name, []).append(statement.path)
        names.append(name)
    if contradictions:
        raise TableError(_explain_contradictions(contradictions, has_number and not resolver.numbers.origin, where))
    if unknown:
        raise TableError(_explain_unknown(unknown, resolver, labels, where))
    return names


def list_class_names(statements: Iterable[Statement], numbers: ClassNumbers | None, where: str) -> list[str]:
    """Return the names of the classes, sorted, where no vocabulary gives them numbers.

    Raises
    ------
    TableError
        If only numbers are known.

    Examples
    --------
    >>> list_class_names([Statement("a.jpg", "ok", None)], None, "shards")
    ['ok']
    """
    names = set()
    known = numbers.names if numbers else {}
    for statement in statements:
        values = [value for value in (statement.in_facts, statement.in_class) if value is not None]
        said = [known.get(value) if isinstance(value, int) else value for value in values]
        name = next((name for name in said if name is not None), None)
        if name is None:
            raise TableError(
                f"{where}: the class of {shorten_text(statement.path)} is the number {values[0]}, and `labels: auto` "
                "needs names; put a file classes.txt there, with one name per line in the order of the numbers from 0, "
                "or give the number of each class in the section `labels` of config.yml"
            )
        names.add(fold_name(name))
    return sorted(names)


class _Resolver:
    """Finds the label that a name or a number in a sample stands for."""

    def __init__(self, numbers: ClassNumbers | None, labels: Mapping[str, int]) -> None:
        self.numbers = numbers or ClassNumbers({number: name for name, number in labels.items()}, "")
        self._labels = labels
        self._names = ClassNames(labels)
        self._known: dict[Class, str] = {}

    def resolve(self, value: Class) -> str:
        """Return a label; or else the name, or the number as text, which is none."""
        if value not in self._known:
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: Class) -> str:
        text = str(value)
        if text in self._labels and not (self.numbers.origin and isinstance(value, int)):
            return text
        if isinstance(value, str):
            name = self._names.find(value)
            if name is not None:
                return name
            if not re.fullmatch(r"[0-9]{1,18}", value):
                return value
        name = self.numbers.names.get(int(value), text)
        return self._names.find(name) or name


def _explain_contradictions(contradictions: Sequence[str], needs_list: bool, where: str) -> str:
    shown = "; ".join(contradictions[:3]) + (f"; and {len(contradictions) - 3} more" if len(contradictions) > 3 else "")
    what = "sample contradicts itself" if len(contradictions) == 1 else "samples contradict themselves"
    remedy = "correct one, or remove the .cls or the class in the .json of all"
    if needs_list:
        remedy += (
            "; numbers are those of the section `labels`: if they are others, put a file classes.txt there, with one "
            "name per line in the order of the numbers from 0"
        )
    return f"{where}: {len(contradictions)} {what}: {shown}; {remedy}"


def _explain_unknown(
    unknown: Mapping[str, list[str]], resolver: _Resolver, labels: Mapping[str, int], where: str
) -> str:
    count = sum(map(len, unknown.values()))
    listed = {name: f"{len(paths):,}, such as {shorten_text(paths[0])}" for name, paths in unknown.items()}
    what = "sample has a class that is" if count == 1 else "samples have classes that are"
    accepted = ", ".join(f"{name} ({number})" for name, number in labels.items())
    origin = resolver.numbers.origin
    remedy = "add the names to `labels` in config.yml, or set `labels: auto`"
    if any(re.fullmatch(r"-?[0-9]+", name) for name in unknown):
        remedy = (
            f"numbers are those of {origin}: correct it"
            if origin
            else (
                "numbers are those of the section `labels` in config.yml: correct them, or put a file classes.txt "
                "there, with one name per line in the order of the numbers from 0"
            )
        )
    return (
        f"{where}: {count} {what} no label: {ClassNames(labels).list_unknown(listed)}; accepted: {accepted}; {remedy}"
    )
