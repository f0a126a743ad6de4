"""Files that say what the numbers of classes stand for: ``classes.txt``, ``class_to_idx.json`` and the like."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.labels.tables import TableError
from detectime.labels.webdataset.members import MemberError, decode_text, is_text, strip_text
from detectime.notes import shorten_text
from detectime.sources.contract import Source
from detectime.sources.listing import Listing
from detectime.storage import urls

_LISTS = (
    *("classes.txt", "classes.json", "class_names.txt", "class_names.json", "classnames.txt", "classnames.json"),
    *("classes.names", "obj.names", "labels.txt", "labels.json", "class_to_idx.json", "idx_to_class.json"),
    *("id2label.json", "label2id.json", "label_map.json", "label_names.txt"),
)
"""Names of files that say what the numbers of classes stand for."""

_IS_LIST = rf"(?:^|/)(?:{'|'.join(map(re.escape, _LISTS))})$"
_MOST_BYTES = 2**20


class ClassNumbers(NamedTuple):
    """What the numbers of classes stand for."""

    names: Mapping[int, str]
    origin: str
    """Where that is from: a file, or empty for the vocabulary."""


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
    pairs = _list_json(content) if name.lower().endswith(".json") else _list_lines(decode_text(content))
    found: dict[int, str] = {}
    for number, class_name in pairs:
        if found.setdefault(number, class_name) != class_name:
            raise MemberError(f"gives the number {number} to several classes")
    if not found:
        raise MemberError("lists no class")
    return found


def find_class_list(source: Source, listing: Listing) -> ClassNumbers | None:
    """Find what says what the numbers of classes stand for: a file among those of a source, or beside its archives.

    Raises
    ------
    TableError
        If it cannot be read, or if there are several that disagree.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.sources import open_source
    >>> from detectime.sources.listing import list_source
    >>> source = open_source(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> find_class_list(source, list_source(source)) is None
    True
    """
    found: dict[int, str] = {}
    origins: dict[int, str] = {}
    for origin, content in _read_inside(source, listing) or _read_beside(source.root):
        try:
            names = read_list_of_classes(content, origin)
        except MemberError as error:
            raise TableError(
                f"{origin}: this file should say what the numbers of classes stand for, but {error}; accepted: one "
                "name per line, or a JSON list of names; else give it another name"
            ) from error
        for number, name in names.items():
            if found.setdefault(number, name) != name:
                raise TableError(
                    f"{origin}: {number} is {shorten_text(name)} here, and {shorten_text(found[number])} in "
                    f"{origins[number]}; keep one of the files"
                )
            origins.setdefault(number, origin)
    return ClassNumbers(found, next(iter(origins.values()))) if found else None


def list_class_files(listing: Listing) -> NDArray[np.int64]:
    """Return the positions of the files in a listing that say, by their names, what the numbers of classes stand for.

    Examples
    --------
    >>> list_class_files(Listing(pa.array([b"a.jpg", b"train/Classes.txt"]), pa.nulls(2, pa.string()))).tolist()
    [1]
    """
    is_list = pc.match_substring_regex(listing.names, _IS_LIST, ignore_case=True)
    return np.flatnonzero(is_list.to_numpy(zero_copy_only=False))


def _list_lines(text: str) -> list[tuple[int, str]]:
    lines = [line for line in map(strip_text, text.splitlines()) if line]
    if len(lines) == 1 and "," in text:
        lines = [part for part in map(strip_text, text.split(",")) if part]
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
        value = json.loads(decode_text(content))
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
    return [(number, strip_text(name)) for number, name in pairs]


def _read_inside(source: Source, listing: Listing) -> list[tuple[str, bytes]]:
    """Read the lists of classes among the files of a source."""
    positions = list_class_files(listing)
    paths = sorted(map(os.fsdecode, listing.names.take(pa.array(positions)).to_pylist()))
    found = []
    for path, content in source.read_frames(paths, _MOST_BYTES):
        if not isinstance(content, bytes):
            reason = content if isinstance(content, Exception) else "it is a video"
            raise TableError(f"{source.root}: the list of classes {shorten_text(path)} cannot be read: {reason}")
        found.append((path, content))
    return found


def _read_beside(root: str) -> list[tuple[str, bytes]]:
    """Read the lists of classes that lie in the root, or beside it if it is one archive: they are no members."""
    paths = _list_remote(root) if urls.is_remote(root) else _list_local(urls.strip_file_scheme(root))
    found = []
    for path in sorted(path for path in paths if path.rpartition("/")[2].lower() in _LISTS):
        try:
            content = urls.read_url(path) if urls.is_remote(path) else Path(path).read_bytes()
        except OSError as error:
            raise TableError(f"{path}: the list of classes cannot be read: {urls.describe_error(error)}") from error
        found.append((path, content))
    return found


def _list_local(root: str) -> list[str]:
    folder = root if os.path.isdir(root) else os.path.dirname(root)
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder or ".")]
    except OSError:  # the listing of the source tells
        return []


def _list_remote(root: str) -> list[str]:
    """List the files at a URL, or beside it; none where a server lists nothing: a note says what numbers stand for."""
    scheme = root.partition("://")[0]
    with contextlib.suppress(Exception):  # each library raises its own
        files, inside = urls.open_file_system(root)
        folder = inside if files.isdir(inside) else inside.rpartition("/")[0]
        return [path if "://" in path else f"{scheme}://{path}" for path in files.ls(folder, detail=False)]
    return []
