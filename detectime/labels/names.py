"""Names in labels that are one name to people: classes and groups that differ by Unicode form or blanks alone."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime.labels.class_names import ClassNames
from detectime.notes import Note, note_found
from detectime.sources.names import find_odd_names, fold_name, show_name


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

    A split would divide one person otherwise.

    Parameters
    ----------
    table
        With `video_name` (text), which is changed.

    Examples
    --------
    >>> table = pd.DataFrame({"video_name": ["Zoe\\u0308", "Zo\\u00eb ", "ben"]})
    >>> notes = unify_groups(table)
    >>> notes[0].count, table["video_name"].nunique()
    (1, 2)
    """
    names = pc.unique(pa.array(table["video_name"], pa.large_string(), from_pandas=True))
    odd = names.take(find_odd_names(names.cast(pa.large_binary()))).to_pylist()
    if not odd:
        return []
    ordered = names.to_pylist()
    wanted = {fold_name(name) for name in odd}
    first: dict[str, str] = {}
    merged: dict[str, str] = {}
    for name in ordered:
        folded = fold_name(name)
        if folded in wanted:
            other = first.setdefault(folded, name)
            if other != name:
                merged[name] = other
    if not merged:
        return []
    table["video_name"] = table["video_name"].replace(merged)
    one = "video_name differs from another by Unicode form or blanks alone: they are one group"
    many = "video_names differ from another by Unicode form or blanks alone: they are one group each"
    return note_found(
        "respelled_group", [f"{show_name(old)} -> {show_name(new)}" for old, new in merged.items()], one, many
    )


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
