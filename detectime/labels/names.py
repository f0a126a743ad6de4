"""Names in labels that are one name to people: classes and groups that differ by Unicode form or blanks alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.labels.class_names import ClassNames
from detectime.notes import Note, note_found
from detectime.sources.names import find_odd_names, fold_name, show_name

_WHOLE_FLOAT = r"^(-?[0-9]+)\.0+$"
_SIMILAR = ((r"[^\pL\pM\pN]+", "_"), (r"(^|[^0-9])0+([0-9])", r"\1\2"))
"""What is replaced in the names of groups that people may take for one."""
_MOST_GROUPS = 100_000  # where each file is a group, there are no persons to tell apart


def restore_class_names(rows: pd.DataFrame, labels: Mapping[str, int]) -> list[Note]:
    """Give classes that are no labels, but another spelling of one, the spelling of the label; note which.

    Parameters
    ----------
    rows
        With `class_name` (text), which is changed.
    labels
        The vocabulary: the number of each class.

    Examples
    --------
    >>> rows = pd.DataFrame({"class_name": ["ok ", "OK"]})
    >>> print(*restore_class_names(rows, {"ok": 4}))
    1 class is read as the label that differs by Unicode form or blanks alone (the first: "'ok ' -> 'ok'")
    >>> rows["class_name"].tolist()
    ['ok', 'OK']
    """
    names = ClassNames(labels)
    found = {name: names.find(name) for name in rows["class_name"].unique().tolist()}
    restored = {name: label for name, label in found.items() if label not in (None, name)}
    if not restored:
        return []
    rows["class_name"] = rows["class_name"].replace(restored)
    why = "label that differs by Unicode form or blanks alone"
    shown = [f"{show_name(old)} -> {label!r}" for old, label in restored.items()]
    return note_found("respelled_class", shown, f"class is read as the {why}", f"classes are read as the {why}")


def unify_groups(table: pd.DataFrame) -> list[Note]:
    """Make groups that differ by Unicode form or blanks alone one group, in the first spelling; note which.

    A split would divide one person otherwise. ``12.0``, as pandas writes 12 in a column with empty values, is 12.
    Groups that differ by a little more, and may yet be one person, are noted.

    Parameters
    ----------
    table
        With `video_name` (text), which is changed.

    Examples
    --------
    >>> table = pd.DataFrame({"video_name": ["Zoe\\u0308", "Zo\\u00eb ", "ben_1", "Ben 01"]})
    >>> notes = unify_groups(table)
    >>> [(note.kind, note.count) for note in notes], table["video_name"].nunique()
    ([('respelled_group', 1), ('similar_group', 1)], 3)
    """
    names = pc.unique(pa.array(table["video_name"], pa.large_string(), from_pandas=True))
    odd = names.take(find_odd_names(names.cast(pa.large_binary()))).to_pylist()
    odd += names.filter(pc.match_substring_regex(names, _WHOLE_FLOAT)).to_pylist()
    if not odd:
        return _note_similar(names)
    wanted = set(map(fold_group, odd))
    first: dict[str, str] = {}
    merged: dict[str, str] = {}
    for name in names.to_pylist():
        folded = fold_group(name)
        if folded in wanted:
            other = first.setdefault(folded, name)
            if other != name:
                merged[name] = other
    table["video_name"] = table["video_name"].replace(merged) if merged else table["video_name"]
    why = "Unicode form, blanks or .0 behind a number alone"
    one = f"video_name differs from another by {why}: they are one group"
    many = f"video_names differ from another by {why}: they are one group each"
    shown = [f"{show_name(old)} -> {show_name(new)}" for old, new in merged.items()]
    left = pa.array([name for name in names.to_pylist() if name not in merged], names.type)
    return [*note_found("respelled_group", shown, one, many), *_note_similar(left)]


def fold_group(name: str) -> str:
    """Return what the name of a group has in common with its other spellings: see `unify_groups`.

    Examples
    --------
    >>> fold_group("12.0 ")
    '12'
    """
    return re.sub(_WHOLE_FLOAT, r"\1", fold_name(name))


def _note_similar(names: pa.Array) -> list[Note]:
    """Note groups that people may take for one."""
    if len(names) > _MOST_GROUPS:
        return []
    keys = pc.utf8_lower(pc.utf8_normalize(names, "NFC"))
    for pattern, other in _SIMILAR:
        keys = pc.replace_substring_regex(keys, pattern, other)
    codes = keys.dictionary_encode()
    if len(codes.dictionary) == len(names):
        return []
    pairs = pd.DataFrame({"code": codes.indices.to_numpy(), "name": names.to_pylist()})
    pairs["first"] = pairs.groupby("code")["name"].transform("first")
    others = pairs[pairs["code"].duplicated()]
    shown = [
        f"{show_name(name)}, like {show_name(first)}"
        for name, first in zip(others["name"], others["first"], strict=True)
    ]
    why = "case, leading zeros or separators alone"
    one = f"video_name differs from another by {why}, and is a group of its own; if both are one, write them in one way"
    many = (
        f"video_names differ from others by {why}, and are groups of their own; if two are one, write them in one way"
    )
    return note_found("similar_group", shown, one, many)


def note_repeated_ids(table: pd.DataFrame) -> list[Note]:
    """Note rows that have the `video_name` and `frame_id` of an earlier row: perhaps one frame twice.

    Examples
    --------
    >>> table = pd.DataFrame({"frame_path": ["a.jpg", "b.jpg"], "video_name": "v", "frame_id": 1})
    >>> print(*note_repeated_ids(table))
    1 row has the video_name and frame_id of an earlier one (the first: 'b.jpg: v, 1')
    """
    codes = pd.factorize(table["video_name"])[0]
    is_repeated = pd.DataFrame({"group": codes, "frame_id": table["frame_id"].to_numpy()}).duplicated().to_numpy()
    count = int(is_repeated.sum())
    if not count:
        return []
    row = table.iloc[int(is_repeated.argmax())]
    text = f"{'row has' if count == 1 else 'rows have'} the video_name and frame_id of an earlier one"
    return [Note("repeated_frame_id", count, text, f"{row['frame_path']}: {row['video_name']}, {row['frame_id']}")]
