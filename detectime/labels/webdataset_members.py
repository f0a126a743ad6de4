"""What the members of a sample of a WebDataset say: the class in ``.cls``, and more in ``.json``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MOST_CLASS_BYTES = 4096
"""Size of a ``.cls`` that is read at most."""

MOST_FACTS_BYTES = 4 * 2**20
"""Size of a ``.json`` that is read at most."""

CLASS_KEYS = ("class_name", "class", "label", "cls")
"""Keys of the class in a ``.json``, in the order in which they are looked for."""

GROUP_KEYS = ("video_name", "user_id", "person", "video", "group", "subject")
"""Keys of the video or person in a ``.json``, in the order in which they are looked for."""

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
    lines = [line for line in map(_strip, _decode(content).splitlines()) if line]
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
        facts = json.loads(_decode(content))
    except (ValueError, RecursionError) as error:
        if isinstance(error, MemberError):
            raise
        raise MemberError("is empty" if not content.strip() else "is no valid JSON") from error
    if not isinstance(facts, dict):
        raise MemberError(f"holds a {_KINDS.get(type(facts), 'value')} instead of an object")
    group = next((text for key in GROUP_KEYS if (text := _read_text(facts.get(key))) is not None), None)
    is_export = all(key in facts for key in _OWN)
    size = _read_length(facts.get("width")), _read_length(facts.get("height"))
    return Facts(
        _find_class(facts),
        group,
        _read_id(facts.get("frame_id")),
        tuple(_read_objects(facts) if is_export else _read_boxes(facts)),
        size,
        is_export,
    )


_KINDS = {list: "list", str: "text", int: "number", float: "number", bool: "truth value", type(None): "null"}


def read_list_of_classes(content: bytes, name: str) -> dict[int, str]:
    """Return the numbers and names in a file that lists classes.

    A text file has one name per line, in the order of their numbers from 0, or each with its number, or one line of
    names with commas; a JSON file a list
    of names, the number of each name or the name of each number, or the list that detectime exports.

    Parameters
    ----------
    content
        Of the file.
    name
        Of the file: its ending says what it is.

    Raises
    ------
    MemberError
        If it is nothing of these.

    Examples
    --------
    >>> read_list_of_classes(b"fist\\nok\\n", "classes.txt"), read_list_of_classes(b'{"ok": 4}', "classes.json")
    ({0: 'fist', 1: 'ok'}, {4: 'ok'})
    """
    pairs = _list_json(content) if name.lower().endswith(".json") else _list_lines(_decode(content))
    found: dict[int, str] = {}
    for number, class_name in pairs:
        if found.setdefault(number, class_name) != class_name:
            raise MemberError(f"gives the number {number} to several classes")
    if not found:
        raise MemberError("lists no class")
    return found


def is_text(text: str) -> bool:
    """Whether text can be stored: JSON can hold halves of characters.

    Examples
    --------
    >>> is_text("Zo\\u00eb"), is_text("\\ud800")
    (True, False)
    """
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _decode(content: bytes) -> str:
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise MemberError("is not UTF-8") from error
    if "\0" in text:
        raise MemberError("is no text")
    return text


def _strip(text: str) -> str:
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
        text = _strip(value)
        if not is_text(text):
            raise MemberError("has a class that is no valid text")
        return _read_number(text) if text else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_text(value: Any) -> str | None:
    """Return a name, also of a number; None if there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if _strip(text) and is_text(text) else None


def _read_id(value: Any) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and re.fullmatch(r"[0-9]{1,18}", text) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_id = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_ID
    return value if is_id else None


def _read_length(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        length = float(value)
    except OverflowError:
        return math.nan
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


def _list_lines(text: str) -> list[tuple[int, str]]:
    lines = [line for line in map(_strip, text.splitlines()) if line]
    if len(lines) == 1 and "," in text:
        lines = [part for part in map(_strip, text.split(",")) if part]
    numbered = [re.fullmatch(r"([0-9]{1,9})\s*[:,;\t =]\s*(\S.*)", line) for line in lines]
    if lines and all(numbered):
        return [(int(found[1]), found[2]) for found in numbered if found]
    named = [re.fullmatch(r"(\S.*?)\s*[:,;\t =]\s*([0-9]{1,9})", line) for line in lines]
    names = [(int(found[2]), found[1]) for found in named if found]
    # Not `finger 1`, `finger 2`: there the number is part of the name.
    if lines and all(named) and len({name for _, name in names}) == len(lines):
        return names
    return list(enumerate(lines))


def _list_json(content: bytes) -> list[tuple[int, str]]:
    try:
        value = json.loads(_decode(content))
    except (ValueError, RecursionError) as error:
        raise MemberError("is no valid JSON") from error
    if isinstance(value, dict):
        inside = [value[key] for key in ("classes", "names", "class_names", "labels", "categories") if key in value]
        if len(inside) == 1 and isinstance(inside[0], list | dict):
            value = inside[0]
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        is_number_first = all(re.fullmatch(r"[0-9]{1,9}", key) for key in value)
        is_number_first &= all(isinstance(name, str) for name in value.values())
        pairs = [(int(key), name) if is_number_first else (name, key) for key, name in value.items()]
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        for item in value:
            number = next((item[key] for key in ("index", "id", "label") if type(item.get(key)) is int), None)
            names = (item[key] for key in ("class_name", "name", "class", "label") if isinstance(item.get(key), str))
            pairs.append((number, next(names, None)))
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for number, name in pairs:
        if type(number) is not int or not isinstance(name, str) or not is_text(name):
            raise MemberError("is no list of class names, and no object with the number of each")
    return [(number, _strip(name)) for number, name in pairs]
