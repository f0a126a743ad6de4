"""What a split could not do: classes that are not in every part, parts far from their share, groups kept together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from detectime.notes import Note, note_found, shorten_text
from detectime.splits.counts import are_samples, order_parts
from detectime.splits.split_file import FILE_NAME

_NOTED_DEVIATION = 0.05  # of a part's share of the samples
_SHOWN = 3  # groups that a note names
_REMEDY = "record it in another video, or with another person"


def note_classes(assigned: pd.DataFrame, parts: Iterable[str] | None = None) -> list[Note]:
    """Note each class that has no samples in some part.

    Parameters
    ----------
    assigned
        Rows with `class_name`, `video_name` and `split`.
    parts
        Names of the parts in their order; None: those that occur.

    Examples
    --------
    >>> rows = {"class_name": ["ok", "stop"], "video_name": ["v3", "v1"], "split": ["train", "test"]}
    >>> for note in note_classes(pd.DataFrame(rows)):
    ...     print(note)
    Class 'ok' has one group, 'v3': all its samples are in train, none in test; record it in another video, or with \
another person.
    Class 'stop' has one group, 'v1': all its samples are in test, none in train; record it in another video, or with \
another person.
    """
    parts = order_parts(assigned["split"]) if parts is None else list(parts)
    found = assigned.loc[are_samples(assigned), ["class_name", "video_name", "split"]].drop_duplicates()
    notes = []
    for name, rows in found.groupby("class_name"):
        present = set(rows["split"])
        lacking = [part for part in parts if part not in present]
        if lacking:
            notes.append(Note("class_not_in_part", 1, _describe_class(str(name), rows, present, lacking)))
    return notes


def note_shares(assigned: pd.DataFrame, shares: Mapping[str, float]) -> list[Note]:
    """Note each part whose share of the samples is far from the wanted one.

    Parameters
    ----------
    assigned
        Rows with `split`.
    shares
        The wanted share of each part.

    Examples
    --------
    >>> print(note_shares(pd.DataFrame({"split": ["train"] * 7 + ["test"] * 3}), {"train": 0.9, "test": 0.1})[0])
    Part train has 70 % of the samples instead of 90 %: groups are not divided, keep their part, and go where a class \
is lacking.
    """
    parts = assigned.loc[are_samples(assigned), "split"].value_counts(normalize=True)
    why = "groups are not divided, keep their part, and go where a class is lacking"
    return [
        Note(
            "share", 1, f"Part {name} has {actual:.0%} of the samples instead of {share:.0%}: {why}.".replace("%", " %")
        )
        for name, share in shares.items()
        if len(parts) and abs((actual := float(parts.get(name, 0))) - share) > _NOTED_DEVIATION
    ]


def note_tied(tied: Iterable[str], links: pd.DataFrame | None) -> list[Note]:
    """Note how many groups were kept together with others.

    Parameters
    ----------
    tied
        The groups that follow another one.
    links
        What `leaks.find_links` returned: the first is the example.

    Examples
    --------
    >>> links = pd.DataFrame({"group": ["a"], "other_group": ["b"]})
    >>> print(*note_tied(["b"], links))
    1 group is kept in one part with another that holds equal or similar pictures (the first: 'a and b')
    """
    count = len(list(tied))
    if links is None or not count:
        return []
    first = f"{links['group'].iloc[0]} and {links['other_group'].iloc[0]}"
    are = "group is" if count == 1 else "groups are"
    that = "another that holds" if count == 1 else "others that hold"
    return [Note("tied", count, f"{are} kept in one part with {that} equal or similar pictures", first)]


def note_only_part(split: pd.DataFrame) -> list[Note]:
    """Note that all groups are in one part.

    Examples
    --------
    >>> print(*note_only_part(pd.DataFrame({"video_name": ["a", "b"], "split": "train"})))
    All groups are in one part, train: nothing is left to test with.
    """
    parts = split["split"].unique()
    if len(parts) != 1:
        return []
    return [Note("only_part", 1, f"All groups are in one part, {parts[0]}: nothing is left to test with.")]


def note_moved(names: Sequence[str], kept: str | None) -> list[Note]:
    """Note groups of ``split.csv`` that got another part, or none any more.

    Parameters
    ----------
    names
        The groups.
    kept
        The file with their earlier parts.

    Examples
    --------
    >>> print(*note_moved(["v7"], "split.20260101T120000.csv"))
    1 group changed its part; the earlier parts are in split.20260101T120000.csv (the first: 'v7')
    """
    where = f"; the earlier parts are in {kept}"
    one, many = f"group changed its part{where}", f"groups changed their parts{where}"
    return note_found("moved", names, one, many)


def note_gone(names: pd.Series) -> list[Note]:
    """Note groups of ``split.csv`` that have no wanted frames.

    Examples
    --------
    >>> print(*note_gone(pd.Series(["v7"])))
    1 group of split.csv has no wanted frames; it keeps its part (the first: 'v7')
    """
    why = f"of {FILE_NAME}"
    one, many = (
        "group {} has no wanted frames; it keeps its part",
        "groups {} have no wanted frames; they keep their part",
    )
    return note_found("gone", names.tolist(), one.format(why), many.format(why))


def _describe_class(name: str, rows: pd.DataFrame, present: set[str], lacking: list[str]) -> str:
    """Return the sentence about a class that is not in every part."""
    groups = sorted(set(rows["video_name"]))
    shown = ", ".join(map(shorten_text, groups[:_SHOWN])) + (", …" if len(groups) > _SHOWN else "")
    held = f"one group, {shown}" if len(groups) == 1 else f"{len(groups)} groups ({shown})"
    where = f"all its samples are in {' and '.join(order_parts(present))}, none in {' and '.join(lacking)}"
    return f"Class {shorten_text(name)} has {held}: {where}; {_REMEDY}."
