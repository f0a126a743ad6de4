"""The files of decisions: ``decisions/<reviewer>-<time>.jsonl`` in the folder of a run.

There is one per person and start. Each line is one decision; lines are only ever appended, so that a process that is
killed loses at most the line that it was writing.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from detectime.decisions import (
    ACTIONS,
    NEEDED,
    Action,
    Corners,
    Decision,
    DecisionError,
    check_reviewer,
    is_text,
    parse_corners,
)
from detectime.notes import Note, note_found
from detectime.storage.store import Store, StoreError, find_free_name

FOLDER = "decisions"
"""Folder of a run with the files of decisions."""

_ENDING = ".jsonl"
_VERSION = 1  # of a line
_LONGEST_SLUG = 40
_PIXELS = ("upright", "stored")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # which some editors put first


class DecisionLog:
    """A person's file of decisions: one is made at the first `append`.

    Parameters
    ----------
    store
        The folder of the run.
    reviewer
        The person, as in the decisions.

    Attributes
    ----------
    name
        Of the file, with its folder; None until something was appended.

    Raises
    ------
    DecisionError
        If the name of the person is empty or not text.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.decisions import format_time
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     log = DecisionLog(store, "Anna K.")
    ...     log.append(Decision(format_time(), "Anna K.", "keep", "a.jpg", None, (1, 2, 3, 4), "ok"))
    ...     found, notes = read_decisions(store)
    >>> log.name[:17], [decision.action for decision in found], notes
    ('decisions/anna-k-', ['keep'], [])
    """

    def __init__(self, store: Store, reviewer: str) -> None:
        self.reviewer = check_reviewer(reviewer)
        self.name: str | None = None
        self._store = store
        self._last = ""

    def append(self, *decisions: Decision) -> None:
        """Append decisions; they are on disk, or in the bucket, when this returns.

        A clock that is set back does not change their order: times always increase within a file.

        Raises
        ------
        DecisionError
            If a decision is another person's, or could not be read again, such as a `box` without a box.
        StoreError
            If they cannot be written. What was appended before is kept, and the next call begins another file.
        """
        if not decisions:
            return
        decisions = self._check(decisions)
        times = list(itertools.accumulate((each.at for each in decisions), _increase, initial=self._last))[1:]
        lines = [_encode(dataclasses.replace(each, at=at)) for each, at in zip(decisions, times, strict=True)]
        if self.name is None:
            self.name = find_free_name(self._store, f"{FOLDER}/{_make_file_stem(self.reviewer)}", _ENDING)
        try:
            self._store.append(self.name, b"".join(lines))
        except StoreError:
            if self._is_begun():
                self.name = None  # its last line may be torn, and the next one must not join it
            raise
        self._last = times[-1]

    def _is_begun(self) -> bool:
        """Whether the file has anything, or nobody knows."""
        try:
            return self.name is None or bool(self._store.get(self.name))
        except StoreError:
            return True

    def _check(self, decisions: Sequence[Decision]) -> tuple[Decision, ...]:
        """Return decisions as they will be read."""
        checked = []
        for decision in decisions:
            if decision.reviewer != self.reviewer:
                raise DecisionError(
                    f"reviewer {decision.reviewer!r}: this file is that of {self.reviewer!r}; open a DecisionLog for "
                    "each person"
                )
            try:
                checked.append(_decode(_encode(decision)))
            except (_NewerError, ValueError, TypeError) as error:
                raise DecisionError(f"{decision.frame_path}: this decision cannot be stored: {error}") from error
        return tuple(checked)


def read_decisions(store: Store, frame_path: str | None = None) -> tuple[list[Decision], list[Note]]:
    """Read the decisions of a run.

    Parameters
    ----------
    store
        The folder of the run.
    frame_path
        Only decisions about this frame, many times as fast; None: all.

    Returns
    -------
    decisions, notes
        In the order of the files' names and of their lines; and the lines and files that cannot be used, if all are
        read.

    Raises
    ------
    StoreError
        If the files cannot be listed or read.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_decisions(open_store(folder))
    ([], [])
    """
    files = read_files(store)
    if frame_path is None:
        return parse_decisions(files)
    decisions, _ = parse_decisions({name: _select_lines(content, frame_path) for name, content in files.items()})
    return [decision for decision in decisions if decision.frame_path == frame_path], []


def read_files(store: Store) -> dict[str, bytes]:
    """Return the content of each file in ``decisions/`` by name, sorted; hidden files are ignored.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.append("decisions/anna.jsonl", b"{}")
    ...     read_files(store)
    {'decisions/anna.jsonl': b'{}'}
    """
    names = [name for name in store.names(FOLDER) if not name.startswith(f"{FOLDER}/.")]
    return {name: content for name, content in store.contents(names) if content is not None}


def hash_files(files: Mapping[str, bytes]) -> str | None:
    """Return the SHA-256 of files, names and contents, in hexadecimal; None if there are none.

    Examples
    --------
    >>> hash_files({"decisions/anna.jsonl": b"{}"})[:8], hash_files({})
    ('180d5ca7', None)
    """
    if not files:
        return None
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{len(name)} {name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def parse_decisions(files: Mapping[str, bytes]) -> tuple[list[Decision], list[Note]]:
    """Parse the files of `read_files`; returns as `read_decisions`.

    A last line that was not written in full is ignored, as is any other line that cannot be read: notes name them.

    Examples
    --------
    >>> from detectime.decisions import format_time
    >>> line = _encode(Decision(format_time(), "anna", "reject", "a.jpg", None, (1, 2, 3, 4), "ok"))
    >>> found, notes = parse_decisions({"decisions/anna.jsonl": line + line[:30]})
    >>> len(found), *map(str, notes)
    (1, "1 decision was not written in full and does not count (the first: 'decisions/anna.jsonl, line 2')")
    """
    decisions: list[Decision] = []
    notes: list[Note] = []
    for name in sorted(files):
        if name.endswith(_ENDING):
            found, faults = _parse_lines(files[name])
            decisions += found
            notes += _note_faults(name, faults)
    others = sorted(name for name in files if not name.endswith(_ENDING))
    one = f"file in {FOLDER}/ is not read, since its name does not end in {_ENDING}"
    many = f"files in {FOLDER}/ are not read, since their names do not end in {_ENDING}"
    return decisions, [*notes, *note_found("not_read", others, one, many)]


def _select_lines(content: bytes, frame_path: str) -> bytes:
    """Return the lines that may be about a frame, in either way in which JSON writes its path."""
    written = {json.dumps(frame_path, ensure_ascii=is_ascii).encode() for is_ascii in (False, True)}
    return b"\n".join(line for line in content.split(b"\n") if any(path in line for path in written))


class _Fault(NamedTuple):
    """A line that cannot be used."""

    kind: str
    line: int
    reason: str


_FAULTS = {
    "torn": ("decision was not written in full and does not count",) * 2,  # only the last line of a file can be torn
    "broken": (
        "line of decisions cannot be read and does not count",
        "lines of decisions cannot be read and do not count",
    ),
    "newer": (
        "decision of a newer detectime does not count; install that version",
        "decisions of a newer detectime do not count; install that version",
    ),
}


class _NewerError(Exception):
    """A line that only a newer detectime can read."""


def _parse_lines(content: bytes) -> tuple[list[Decision], list[_Fault]]:
    """Parse the lines of a file. What follows the last line break is a decision if it is whole."""
    decisions, faults = [], []
    lines = content.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            decisions.append(_decode(line))
        except _NewerError as error:
            faults.append(_Fault("newer", number, str(error)))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            faults.append(_Fault("torn" if number == len(lines) else "broken", number, str(error)))
    return decisions, faults


def _note_faults(name: str, faults: Sequence[_Fault]) -> list[Note]:
    """Make a note of each kind of fault in a file."""
    notes = []
    for kind, (one, many) in _FAULTS.items():
        found = [fault for fault in faults if fault.kind == kind]
        if found:
            reason = "" if kind == "torn" else f"; first reason: {found[0].reason}"
            text = f"{one if len(found) == 1 else many}{reason}"
            notes.append(Note(kind, len(found), text, f"{name}, line {found[0].line}"))
    return notes


def _encode(decision: Decision) -> bytes:
    """Return a decision as a line."""
    return json.dumps({"version": _VERSION} | vars(decision), ensure_ascii=False).encode() + b"\n"


def _decode(line: bytes) -> Decision:
    """Return the decision in a line.

    Raises
    ------
    _NewerError
        If its version or action is not known here.
    ValueError, TypeError, OverflowError, RecursionError
        If it is no decision.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    version, action = values.get("version"), values.get("action")
    if not isinstance(version, int) or not isinstance(action, str):
        raise ValueError("version or action is missing")
    if version > _VERSION:
        raise _NewerError(f"version {version}; this detectime reads up to {_VERSION}")
    if action not in ACTIONS:
        raise _NewerError(f"the action {action!r} is not known")
    found = Decision(
        at=_parse_time(_read_text(values, "at")),
        reviewer=check_reviewer(_read_text(values, "reviewer")),
        action=cast("Action", action),
        frame_path=_read_text(values, "frame_path"),
        content=_read_optional_text(values, "content"),
        judged_box=_read_corners(values, "judged_box"),
        judged_class=_read_optional_text(values, "judged_class"),
        box=_read_corners(values, "box"),
        bbox=_read_corners(values, "bbox"),
        class_name=_read_optional_text(values, "class_name"),
        pixels=_read_text(values, "pixels"),
    )
    needed = NEEDED.get(action)
    if needed and getattr(found, needed) is None:
        raise ValueError(f"`{action}` needs the key `{needed}`")
    if found.pixels not in _PIXELS:
        raise ValueError(f"pixels = {found.pixels!r}; accepted: {', '.join(_PIXELS)}")
    return found


def _read_text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value or not is_text(value):
        raise ValueError(f"{key} = {value!r} is not text")
    return value


def _read_optional_text(values: Mapping[str, Any], key: str) -> str | None:
    return None if values.get(key) is None else _read_text(values, key)


def _read_corners(values: Mapping[str, Any], key: str) -> Corners | None:
    return None if values.get(key) is None else parse_corners(values[key], key)


def _parse_time(text: str) -> str:
    """Return a time as `format_time` writes it."""
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"at = {text!r} has no time zone")
    return time.astimezone(datetime.UTC).isoformat(timespec="microseconds")


def _increase(last: str, at: str) -> str:
    """Return a time, or the microsecond after the last one if it is not later."""
    if at > last:
        return at
    return (datetime.datetime.fromisoformat(last) + datetime.timedelta(microseconds=1)).isoformat(
        timespec="microseconds"
    )


def _make_file_stem(reviewer: str) -> str:
    """Return a file name for a person who starts now, without its ending: ASCII, so that every disk can hold it."""
    plain = unicodedata.normalize("NFKD", reviewer).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST_SLUG].strip("-") or "reviewer"
    start = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{slug}-{start}"
