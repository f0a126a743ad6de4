"""What a JSON file of another tool is, so that a message can name it instead of what it lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_HEAD = 4096  # bytes that tell what a file is
_OTHER_FILES = (
    (b"\x1f\x8b", "compressed by gzip; decompress it (`gunzip`)"),
    (b"BZh", "compressed by bzip2; decompress it (`bunzip2`)"),
    (b"\xfd7zXZ", "compressed by xz; decompress it (`unxz`)"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; decompress it (`unzstd`)"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"PAR1", "a Parquet table instead of JSON"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; run `git lfs pull`"),
)
"""First bytes of a file, and what it is, with the remedy."""
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body)", re.IGNORECASE)
_XML = re.compile(rb"\s*<[?!A-Za-z]")
_CSV = re.compile(rb"[^\[{\"\n]*(?:\"[^\"\n]*\")?[,;\t][^\[{]*\n")


def _has_keys(*keys: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(key in value for key in keys)


def _holds(inner: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether the first value of a list or an object fulfils a condition."""

    def check(value: Any) -> bool:
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return any(inner(item) for item in list(values)[:1])

    return check


_FORMATS: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("COCO's annotations", _has_keys("images", "annotations")),
    ("COCO's annotations", _has_keys("annotations", "categories")),
    ("COCO's results", _holds(_has_keys("image_id", "bbox"))),
    ("annotations of LabelMe", _has_keys("shapes", "imagePath")),
    ("annotations of the VGG annotator (VIA)", _has_keys("_via_img_metadata")),
    ("annotations of the VGG annotator (VIA)", _holds(_has_keys("filename", "regions"))),
    ("an export of Label Studio", _holds(_has_keys("data", "annotations"))),
    ("a Jupyter notebook", _has_keys("cells", "nbformat")),
    ("GeoJSON", _has_keys("type", "features")),
    ("a run's run.json", _has_keys("configuration", "versions")),
    ("annotated hands as a truth.json has them", _holds(_has_keys("hands"))),
    ("HaGRID's annotations", _holds(_has_keys("bboxes", "labels"))),
    ("a face cache", _holds(lambda row: isinstance(row, dict) and any(str(key).startswith("bbox_") for key in row))),
    ("a run's hands.json", _holds(_has_keys("frame_path", "label", "bbox"))),
)
"""How people call a format, and what tells it; the first that fits counts."""


def name_format(value: Any) -> str | None:
    """Name the format of the content of a JSON file; None if it is not known.

    Parameters
    ----------
    value
        As ``json.loads`` returned it.

    Examples
    --------
    >>> name_format({"images": [], "annotations": [], "categories": []})
    "COCO's annotations"
    >>> name_format({"7f3a": {"bboxes": [[0, 0, 1, 1]], "labels": ["ok"], "user_id": "ann"}})
    "HaGRID's annotations"
    """
    return next((name for name, fits in _FORMATS if fits(value)), None)


def describe_value(value: Any) -> str:
    """Say what the content of a JSON file is, to follow "this is": its format, or else its kind.

    Examples
    --------
    >>> describe_value([1, 2]), describe_value({}), describe_value({"a": 1}), describe_value("ok")
    ('a list of 2 values', 'an empty object ({})', "an object whose first key is 'a'", 'a text')
    """
    name = name_format(value)
    if name is not None:
        return name
    if isinstance(value, list):
        return f"a list of {len(value):,} {'value' if len(value) == 1 else 'values'}" if value else "an empty list ([])"
    if isinstance(value, dict):
        first = next(iter(value), None)
        return "an empty object ({})" if first is None else f"an object whose first key is {str(first)[:40]!r}"
    return {str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def describe_broken(content: bytes, error: Exception) -> str:
    """Say what a file is that is not JSON, with the remedy, to follow its name and a colon.

    Parameters
    ----------
    content
        The file, or its beginning.
    error
        What ``json.loads`` raised.

    Examples
    --------
    >>> describe_broken(b"", ValueError("Expecting value"))
    'the file is empty; download or write it again'
    >>> describe_broken(b'{"a": 1}\\n{"b": 2}\\n', ValueError("Extra data"))
    'one JSON value per line (JSON lines); write all of them as one JSON value'
    """
    head = content[:_HEAD]
    if not head.strip(b"\xef\xbb\xbf \t\r\n\0"):
        what = "the file is empty" if not head.strip(b"\xef\xbb\xbf \t\r\n") else "the file holds nothing but zeros"
        return f"{what}; download or write it again"
    for start, kind in _OTHER_FILES:
        if head.startswith(start):
            return kind
    if _WEB_PAGE.match(head):
        return "a web page, not the file behind it; download the file itself"
    if _XML.match(head):
        return "XML instead of JSON"
    if _is_json_lines(head):
        return "one JSON value per line (JSON lines); write all of them as one JSON value"
    if _CSV.match(head):
        return "a csv or other text instead of JSON"
    if isinstance(error, RecursionError):
        return f"not valid JSON: nested too deeply ({error})"
    return f"not valid JSON, perhaps cut off ({error}); download or write it again"


def _is_json_lines(head: bytes) -> bool:
    first, newline, rest = head.strip().partition(b"\n")
    if not newline or not rest.lstrip().startswith((b"{", b"[")):
        return False
    try:
        return isinstance(json.loads(first), (dict, list))
    except (ValueError, RecursionError):
        return False
