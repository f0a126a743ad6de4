"""What the members of a sample of a WebDataset say: the class in ``.cls``, and more in ``.json``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from detectime.labels.annotations import find_group, parse_number

MOST_CLASS_BYTES = 4096
"""Size of a ``.cls`` that is read at most."""

MOST_FACTS_BYTES = 4 * 2**20
"""Size of a ``.json`` that is read at most."""

CLASS_KEYS = ("class_name", "class", "label", "cls")
"""Keys of the class in a ``.json``, in the order in which they are looked for."""

Class = str | int
"""A class by its name or by its number."""

_INTEGER = re.compile(r"(?:0|-?[1-9][0-9]{0,17})(?:\.0+)?")
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_BOX_KEYS = ("bboxes", "bbox", "boxes", "hands", "hand")
_CROP = ("crop_x1", "crop_y1", "crop_x2", "crop_y2")
_OWN = ("frame_path", "objects", *_CROP)
_LARGEST_ID = 2**63 - 1


class MemberError(ValueError):
    """A member that says no class; the message follows the name of the file and "which"."""


class Box(NamedTuple):
    """An annotated box, in pixels or in fractions of the picture."""

    label: Class | None
    """What it shows; None: the class of the sample."""
    numbers: tuple[float, float, float, float]
    """x, y, width, height."""


class Facts(NamedTuple):
    """What a ``.json`` says."""

    class_name: Class | None = None
    group: str | None = None
    frame_id: int | None = None
    boxes: tuple[Box, ...] = ()
    size: tuple[float, float] = (math.nan, math.nan)
    """Width and height of the picture; NaN where they are not stated."""
    is_export: bool = False
    """Whether detectime wrote it: the number in ``.cls`` is then a position in its ``classes.json``."""


def parse_class(content: bytes) -> Class:
    """Return the class in a ``.cls``: a name, or a number.

    Raises
    ------
    MemberError
        If it has none, or several.

    Examples
    --------
    >>> parse_class(b"\\xef\\xbb\\xbf ok \\r\\n"), parse_class(b"7"), parse_class(b'"ok"')
    ('ok', 7, 'ok')
    """
    if len(content) > MOST_CLASS_BYTES:
        raise MemberError(f"is larger than {MOST_CLASS_BYTES:,} bytes")
    lines = [line for line in map(strip_text, decode_text(content).splitlines()) if line]
    if not lines:
        raise MemberError("is empty")
    if len(lines) > 1:
        raise MemberError("has several lines instead of one class")
    text = lines[0]
    if text[0] in '"[{':
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        found = _read_class(value)
        if found is None:
            raise MemberError("has no class")
        return found
    return _read_number(text)


def parse_facts(content: bytes) -> Facts:
    """Return what a ``.json`` says; a key that is missing, or has another kind of value, counts as not stated.

    Boxes are under ``bboxes`` (with `labels`, one per box, as in HaGRID's records), ``bbox``, ``boxes``, ``hands`` or
    ``hand``: lists ``[x, y, width, height]``, or objects with ``x1``, ``y1``, ``x2``, ``y2`` and the like; or as
    detectime exports them.

    Raises
    ------
    MemberError
        If it is not a JSON object, or has several classes.

    Examples
    --------
    >>> parse_facts(b'{"label": "ok", "user_id": 17, "bbox": [0.25, 0.5, 0.25, 0.25]}')[:4]
    ('ok', '17', None, (Box(label=None, numbers=(0.25, 0.5, 0.25, 0.25)),))
    """
    if len(content) > MOST_FACTS_BYTES:
        raise MemberError(f"is larger than {MOST_FACTS_BYTES:,} bytes")
    try:
        facts = json.loads(decode_text(content))
    except (ValueError, RecursionError) as error:
        if isinstance(error, MemberError):
            raise
        raise MemberError("is empty" if not content.strip() else "is no valid JSON") from error
    if not isinstance(facts, dict):
        raise MemberError(f"holds a {_KINDS.get(type(facts), 'value')} instead of an object")
    group = find_group(facts)
    is_export = all(key in facts for key in _OWN)
    size = _read_length(facts.get("width")), _read_length(facts.get("height"))
    return Facts(
        _find_class(facts),
        group if group and is_text(group) else None,
        _read_id(facts.get("frame_id")),
        tuple(_read_objects(facts) if is_export else _read_boxes(facts)),
        size,
        is_export,
    )


_KINDS = {list: "list", str: "text", int: "number", float: "number", bool: "truth value", type(None): "null"}


def is_text(text: str) -> bool:
    """Whether text can be stored: JSON can hold halves of characters.

    Examples
    --------
    >>> is_text("Zo\\u00eb"), is_text("\\ud800")
    (True, False)
    """
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def decode_text(content: bytes) -> str:
    """Return the text in a member, whatever Unicode encoding it has.

    Raises
    ------
    MemberError
        If it is no text.

    Examples
    --------
    >>> decode_text("ok".encode("utf-16")), decode_text(b"\\xef\\xbb\\xbfok")
    ('ok', 'ok')
    """
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise MemberError("is not UTF-8") from error
    if "\0" in text:
        raise MemberError("is no text")
    return text


def strip_text(text: str) -> str:
    """Return text without blanks at its ends, also those that Python does not know as such.

    Examples
    --------
    >>> strip_text(" \\ufeffok ")
    'ok'
    """
    return text.strip().strip("\ufeff\u200b").strip()


def _read_number(text: str) -> Class:
    """Return the number that a text is; or the text, if it is none."""
    return int(text.partition(".")[0]) if text.isascii() and _INTEGER.fullmatch(text) else text


def _find_class(facts: Mapping[str, Any]) -> Class | None:
    found = next((name for key in CLASS_KEYS if (name := _read_class(facts.get(key))) is not None), None)
    labels = facts.get("labels")
    if found is None and isinstance(labels, list):
        names = [name for name in map(_read_class, labels) if name is not None and name != "no_gesture"]
        if len(set(names)) > 1:
            raise MemberError("has several classes in `labels`")
        found = names[0] if names else None
    return found


def _read_class(value: Any) -> Class | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and value:
        raise MemberError("has several classes")
    if isinstance(value, str):
        text = strip_text(value)
        if not is_text(text):
            raise MemberError("has a class that is no valid text")
        return _read_number(text) if text else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_id(value: Any) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and re.fullmatch(r"[0-9]{1,18}", text) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_id = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_ID
    return value if is_id else None


def _read_length(value: Any) -> float:
    length = parse_number(value)
    return length if math.isfinite(length) and length > 0 else math.nan


def _read_objects(facts: Mapping[str, Any]) -> Iterable[Box]:
    """Yield the boxes of samples that detectime exported, if the picture is the whole frame."""
    if [facts[key] for key in _CROP] != [0, 0, facts.get("width"), facts.get("height")]:
        return
    for value in facts["objects"] if isinstance(facts["objects"], list) else ():
        numbers = _read_numbers(value) if isinstance(value, dict) else None
        if numbers is not None and value.get("kind") == "sample":
            yield Box(_find_label(value), numbers)


def _read_boxes(facts: Mapping[str, Any]) -> Iterable[Box]:
    for key in _BOX_KEYS:
        value = facts.get(key)
        if isinstance(value, dict) or (isinstance(value, list) and value and not isinstance(value[0], list | dict)):
            value = [value]
        if not isinstance(value, list):
            continue
        labels = facts.get("labels")
        if not isinstance(labels, list) or len(labels) != len(value):
            labels = [None] * len(value)
        for one, label in zip(value, labels, strict=True):
            numbers = _read_numbers(one)
            if numbers is not None:
                yield Box(_find_label(one if isinstance(one, dict) else {"label": label}), numbers)
        return


def _find_label(values: Mapping[str, Any]) -> Class | None:
    try:
        return next((name for key in CLASS_KEYS if (name := _read_class(values.get(key))) is not None), None)
    except MemberError:
        return ""  # of no class


def _read_numbers(value: Any) -> tuple[float, float, float, float] | None:
    """Return a box as x, y, width, height; None if it is not one."""
    if isinstance(value, list):
        return _read_four(value)
    if not isinstance(value, dict):
        return None
    for keys in _CORNERS:
        if all(key in value for key in keys):
            corners = _read_four([value[key] for key in keys])
            if corners is None:
                return None
            x1, y1, x2, y2 = corners
            return x1, y1, x2 - x1, y2 - y1
    sides = next((keys for keys in _SIDES if all(key in value for key in keys)), None)
    return None if sides is None else _read_four([value[key] for key in sides])


def _read_four(values: list[Any]) -> tuple[float, float, float, float] | None:
    if len(values) != 4 or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return None
    try:
        x, y, width, height = map(float, values)
    except OverflowError:
        return None
    return x, y, width, height
