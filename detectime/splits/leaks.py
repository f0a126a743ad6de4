"""Leaks of a split: pictures in one part that are equal to, or look like, pictures in another."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.boxes import Flags
from detectime.candidates import Indices
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import SAMPLES
from detectime.similarity import (
    PARTS,
    SIMILAR_BITS,
    Batch,
    Hashes,
    count_different_bits,
    find_similar_pairs,
    split_hashes,
)
from detectime.sources.videos import VIDEO_SUFFIXES
from detectime.splits.split_file import SplitError, encode_row

Contents = Sequence[str | None] | NDArray[np.object_] | pd.Series

KINDS = {
    "same_group": "have frames in two parts",
    "same_content": "hold the same frame",
    "same_video": "are cut from the same video",
    "similar": "hold near-duplicate crops",
}
"""What a leak is, the worst first, and in words."""

ALLOWED = ("same_video", "similar")
"""Kinds of leaks that `allow_similar` allows: different pictures, though alike."""

_SORTED_PARTS = 3  # of a hash, by which neighbours are sorted after the first
_SHOWN = 5  # leaks that a message names
_LINK_COLUMNS = ("kind", "group", "other_group", "frame_path", "other_frame_path", "distance")


def find_links(
    samples: pd.DataFrame, contents: Contents, hashes: Hashes, has_hash: Flags, bits: int = SIMILAR_BITS
) -> pd.DataFrame:
    """Find groups that hold equal or similar pictures, so that they belong in one part of a split.

    Not every such pair of groups is listed, but enough of them to connect all groups that hold equal or similar
    pictures: if two of these lie in different parts, a listed pair does.

    Parameters
    ----------
    samples
        Rows of outcomes, such as those of wanted frames.
    contents
        What `similarity.read_contents` returned of these rows.
    hashes, has_hash
        What `similarity.read_sample_hashes` returned of these rows.
    bits
        Crops whose hashes differ in at most so many bits are similar.

    Returns
    -------
    DataFrame
        One row per pair of groups: `kind`, a key of `KINDS`, the worst that applies; `group`, `other_group`, two
        different `video_name`; `frame_path`, `other_frame_path`, two of their frames that are alike if they are
        `similar`; `distance` (int64), the number of different bits, 0 if the kind is another. Sorted by kind, then by
        names, whatever the order of `samples`.

    Examples
    --------
    >>> names = ["a/1.jpg", "b/1.jpg", "c/1.jpg"]
    >>> samples = pd.DataFrame({"frame_path": names, "video_name": ["a", "b", "c"]})
    >>> hashes = np.array([[0, 0, 0, 1], [2**40 - 1] * 4, [0, 0, 0, 3]], np.uint64)
    >>> links = find_links(samples, ["9 af", "9 af", None], hashes, np.ones(3, bool))
    >>> links[["kind", "group", "other_group", "distance"]].values.tolist()
    [['same_content', 'a', 'b', 0], ['similar', 'a', 'c', 1]]
    """
    order = np.argsort(samples["frame_path"].to_numpy(dtype=object), kind="stable")
    samples, hashes, has_hash = samples.iloc[order], hashes[order], has_hash[order]
    groups, _ = pd.factorize(samples["video_name"].to_numpy(dtype=object), sort=True)
    frames, videos = _number_contents(np.asarray(contents, dtype=object)[order], samples["frame_path"])
    found = {
        "same_content": _link_equal(frames, groups),
        "same_video": _link_equal(videos, groups),
        "similar": _link_similar(hashes, has_hash, groups, bits),
    }
    links = pd.concat([_describe_links(kind, pairs, samples) for kind, pairs in found.items()], ignore_index=True)
    return links.drop_duplicates(["group", "other_group"], ignore_index=True)


def find_leaks(samples: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
    """Find which linked groups lie in different parts of a split, and which groups lie in several.

    Parameters
    ----------
    samples
        Rows with the column `split`, such as `splits.assign_splits` returned.
    links
        What `find_links` returned of the same rows.

    Returns
    -------
    DataFrame
        The columns of `links`, and `split`, `other_split`: one row per leak, the worst kind first. `group` is in the
        larger of both parts.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a/1.jpg", "a/2.jpg"], "video_name": "a", "split": ["train", "test"]})
    >>> links = find_links(samples, [None, None], np.zeros((2, 4), np.uint64), np.zeros(2, bool))
    >>> find_leaks(samples, links)[["kind", "frame_path", "other_frame_path"]].values.tolist()
    [['same_group', 'a/2.jpg', 'a/1.jpg']]
    """
    parts = samples.drop_duplicates(["video_name", "split"]).sort_values(["video_name", "split"])
    first = parts.drop_duplicates("video_name").set_index("video_name")["split"]
    leaks = links.assign(split=links["group"].map(first), other_split=links["other_group"].map(first))
    leaks = leaks[(leaks["split"] != leaks["other_split"]).to_numpy()]
    divided = _describe_divided_groups(parts)
    leaks = pd.concat([divided, leaks], ignore_index=True) if len(divided) else leaks.reset_index(drop=True)
    return _put_larger_part_first(leaks, samples["split"].value_counts())


def refuse_leaks(
    leaks: pd.DataFrame, *, allow_similar: bool = False, place: str = "split.csv", new: Collection[str] = ()
) -> list[Note]:
    """Refuse leaks, or note those that are allowed.

    Parameters
    ----------
    leaks
        What `find_leaks` returned.
    allow_similar
        Near-duplicates, and different frames of one video, are noted instead of refused. The same frame in two parts
        never is.
    place
        Where the parts of groups are written, for the message.
    new
        Groups that had no part before. Where one leaks, the parts of others need not change: it is alike with several.

    Raises
    ------
    SplitError
        If there are leaks. The message counts them by kind, and names the groups and frames of the first, and the lines
        to change.

    Examples
    --------
    >>> rows = [["similar", "a", "b", "a/1.jpg", "b/1.jpg", 4, "train", "test"]]
    >>> leaks = pd.DataFrame(rows, columns=[*_LINK_COLUMNS, "split", "other_split"])
    >>> print(*refuse_leaks(leaks, allow_similar=True))
    1 or more pairs of groups in different parts hold near-duplicate crops, or parts of one video (the first: 'a and b')
    """
    refused = leaks[~leaks["kind"].isin(ALLOWED if allow_similar else ())]
    if len(refused):
        raise SplitError(_describe_leaks(refused, place, new))
    pairs = (leaks["group"] + " and " + leaks["other_group"]).tolist()
    where, what = "in different parts", "near-duplicate crops, or parts of one video"
    text = f"or more pairs of groups {where} hold {what}"  # `find_links` lists no more than connect them
    return note_found("similar", pairs, text, text)


def check_leaks(
    samples: pd.DataFrame, contents: Contents, hashes: Hashes, has_hash: Flags, *, allow_similar: bool = False
) -> list[Note]:
    """Refuse a split that has equal or similar pictures in two parts.

    Parameters
    ----------
    samples
        Rows with the column `split`: what is trained and tested with.
    contents, hashes, has_hash
        Of these rows: see `find_links`.
    allow_similar
        As for `refuse_leaks`.

    Returns
    -------
    list of Note
        What was allowed, and how many pictures could not be compared.

    Raises
    ------
    SplitError
        As `refuse_leaks`.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a/1.jpg", "b/1.jpg"], "video_name": ["a", "b"]})
    >>> samples = samples.assign(split=["train", "test"])
    >>> check_leaks(samples, ["9 af", "9 c0"], np.array([[0] * 4, [2**64 - 1] * 4], np.uint64), np.ones(2, bool))
    []
    """
    leaks = find_leaks(samples, find_links(samples, contents, hashes, has_hash))
    notes = refuse_leaks(leaks, allow_similar=allow_similar)
    return [*notes, *note_unknown(samples, contents, has_hash)]


def note_unknown(samples: pd.DataFrame, contents: Contents, has_hash: Flags) -> list[Note]:
    """Note how many pictures cannot be compared with those of other groups, for lack of a hash or content.

    Parameters
    ----------
    samples
        Rows of outcomes; only those with a sample need a hash.
    contents, has_hash
        Of these rows: see `find_links`.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a.jpg"]})
    >>> print(*note_unknown(samples, ["9 af"], np.zeros(1, bool)))
    1 sample has no hash of its crop: near-duplicates of it were not looked for (the first: 'a.jpg')
    """
    without_hash, without_content = ~has_hash, pd.isna(np.asarray(contents, dtype=object))
    if "outcome" in samples:
        without_hash = without_hash & samples["outcome"].isin(SAMPLES).to_numpy()
    paths, not_sought = samples["frame_path"], "were not looked for"
    return [
        *note_found(
            "unknown_hash",
            paths[without_hash].tolist(),
            f"sample has no hash of its crop: near-duplicates of it {not_sought}",
            f"samples have no hash of their crops: near-duplicates of them {not_sought}",
        ),
        *note_found(
            "unknown_content",
            paths[without_content].tolist(),
            f"frame has no recorded content: copies of it {not_sought}",
            f"frames have no recorded content: copies of them {not_sought}",
        ),
    ]


def _number_contents(contents: NDArray[np.object_], frame_paths: pd.Series) -> tuple[Indices, Indices]:
    """Give equal frames, and equal video files, equal numbers.

    Returns
    -------
    frames
        int64, shape (N,): equal for frames with the same bytes, or frames of one number of equal videos; -1 where the
        content is unknown.
    videos
        int64, shape (N,): equal for frames of equal videos; -1 for other frames, and where the content is unknown.
    """
    files, _ = pd.factorize(contents)
    suffixes = "|".join(map(re.escape, VIDEO_SUFFIXES))
    pattern = rf"(?is)^.*(?:{suffixes})/(?P<number>[0-9]{{6,}})$"
    numbers = pc.extract_regex(pa.array(frame_paths, pa.string()), pattern)
    number = pc.struct_field(numbers, "number").to_numpy(zero_copy_only=False)
    frames = pd.DataFrame({"file": files, "number": number}).groupby(["file", "number"], dropna=False).ngroup()
    is_known = files >= 0
    videos = np.where(is_known & numbers.is_valid().to_numpy(zero_copy_only=False), files, -1)
    return np.where(is_known, frames.to_numpy(np.int64), -1), videos.astype(np.int64)


def _link_equal(values: Indices, groups: Indices) -> Batch:
    """Return pairs of rows that connect all groups in which a value occurs; -1 is no value."""
    rows = np.flatnonzero(values >= 0)
    rows = rows[np.lexsort((rows, groups[rows], values[rows]))]
    first, second = rows[:-1], rows[1:]
    linked = (values[first] == values[second]) & (groups[first] != groups[second])
    return first[linked], second[linked], np.zeros(int(linked.sum()), np.int64)


def _link_similar(hashes: Hashes, has_hash: Flags, groups: Indices, bits: int) -> Batch:
    """Return pairs of rows that connect all groups with similar hashes, and no more of them than that takes."""
    rows = np.flatnonzero(has_hash)
    order = np.lexsort((rows, groups[rows], *hashes[rows].T))
    rows = rows[order]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (hashes[rows[1:]] != hashes[rows[:-1]]).any(axis=1)
    number = np.full(len(hashes), -1)
    number[rows] = np.cumsum(is_new) - 1
    distinct = rows[is_new]  # so that many equal hashes cost nothing
    units = _Units(groups)
    found = [units.join(_link_equal(number, groups))]
    own, of_group = hashes[distinct], groups[distinct]
    labels = units.of_group[of_group]
    for pairs in itertools.chain(_find_neighbours(own, bits), find_similar_pairs(own, labels, bits)):
        first, second, distance = pairs
        found.append(units.join((distinct[first], distinct[second], distance)))
        labels[:] = units.of_group[of_group]  # pairs of connected groups are not sought any more
    first, second, distance = (np.concatenate(values) for values in zip(*found, strict=True))
    return first, second, distance


def _find_neighbours(hashes: Hashes, bits: int) -> Iterator[Batch]:
    """Yield similar hashes that are next to each other when sorted by a part: most links of still videos, at once."""
    parts = split_hashes(hashes)
    for part in range(PARTS):
        order = np.lexsort([parts[:, (part + k) % PARTS] for k in range(_SORTED_PARTS, -1, -1)])
        distance = count_different_bits(hashes[order[1:]], hashes[order[:-1]])
        close = np.flatnonzero(distance <= bits)
        yield order[close], order[close + 1], distance[close]


class _Units:
    """Groups that pairs of rows connect.

    Attributes
    ----------
    of_group
        int64: the number of each group's unit.
    """

    def __init__(self, groups: Indices) -> None:
        self._groups = groups
        self.of_group = np.arange(groups.max(initial=-1) + 1)

    def join(self, pairs: Batch) -> Batch:
        """Connect groups, the most similar first; returns the pairs of rows that connect two units."""
        first, second, distance = pairs
        units = self.of_group[self._groups]
        apart = np.flatnonzero(units[first] != units[second])
        first, second, distance = _keep_closest((first[apart], second[apart], distance[apart]), self._groups)
        order = np.lexsort((second, first, distance))
        first, second, distance = first[order], second[order], distance[order]
        roots = self.of_group.tolist()
        one, other = self._groups[first].tolist(), self._groups[second].tolist()
        joined = [_join_units(roots, a, b) for a, b in zip(one, other, strict=True)]
        self.of_group = np.array([_find_root(roots, group) for group in range(len(roots))], np.int64)
        kept = np.flatnonzero(joined)
        return first[kept], second[kept], distance[kept]


def _join_units(roots: list[int], group: int, other: int) -> bool:
    """Connect two groups; returns whether they were not connected before."""
    a, b = sorted((_find_root(roots, group), _find_root(roots, other)))
    roots[b] = a
    return a != b


def _find_root(roots: list[int], group: int) -> int:
    """Return the first group of a unit, and shorten the way to it."""
    while roots[group] != group:
        roots[group] = roots[roots[group]]
        group = roots[group]
    return group


def _keep_closest(pairs: Batch, groups: Indices) -> Batch:
    """Keep the most similar pair of rows of each pair of groups; the first of equals."""
    first, second, distance = pairs
    low, high = np.minimum(groups[first], groups[second]), np.maximum(groups[first], groups[second])
    order = np.lexsort((second, first, distance, high, low))
    pair = low[order] * (groups.max(initial=0) + 1) + high[order]
    kept = order[np.flatnonzero(np.diff(pair, prepend=-1))]
    return first[kept], second[kept], distance[kept]


def _describe_links(kind: str, pairs: Batch, samples: pd.DataFrame) -> pd.DataFrame:
    """Return links as a table, `group` before `other_group` in the order of names."""
    first, second, distance = pairs
    names, paths = (samples[column].to_numpy(dtype=object) for column in ("video_name", "frame_path"))
    swapped = names[first] > names[second]
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    values = (kind, names[first], names[second], paths[first], paths[second], distance)
    links = pd.DataFrame(dict(zip(_LINK_COLUMNS, values, strict=True)))
    return links.sort_values(["group", "other_group", "frame_path", "other_frame_path"])


def _describe_divided_groups(parts: pd.DataFrame) -> pd.DataFrame:
    """Return groups in several parts as leaks, one row per further part.

    Parameters
    ----------
    parts
        One row per group and part, sorted.
    """
    first, further = parts.drop_duplicates("video_name"), parts[parts.duplicated("video_name")]
    pairs = first.merge(further, on="video_name", suffixes=("", "_other"))
    return pd.DataFrame(
        {
            "kind": "same_group",
            "group": pairs["video_name"],
            "other_group": pairs["video_name"],
            "frame_path": pairs["frame_path"],
            "other_frame_path": pairs["frame_path_other"],
            "distance": 0,
            "split": pairs["split"],
            "other_split": pairs["split_other"],
        }
    )


def _put_larger_part_first(leaks: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """Exchange both sides of leaks so that `group` is in the part with more rows, and sort them, the worst first."""
    exchanged = leaks["other_split"].map(sizes).to_numpy() > leaks["split"].map(sizes).to_numpy()
    for name in ("group", "frame_path", "split"):
        one, other = leaks[name].to_numpy(dtype=object), leaks[f"other_{name}"].to_numpy(dtype=object)
        leaks = leaks.assign(
            **{name: np.where(exchanged, other, one), f"other_{name}": np.where(exchanged, one, other)}
        )
    rank = leaks["kind"].map(list(KINDS).index)
    return leaks.assign(rank=rank).sort_values(["rank", "group", "other_group"], ignore_index=True).drop(columns="rank")


def _describe_leaks(leaks: pd.DataFrame, place: str, new: Collection[str]) -> str:
    """Return the message about leaks that are refused."""
    counts = leaks["kind"].value_counts()
    kinds = ", ".join(f"that {words}: {counts[kind]:,}" for kind, words in KINDS.items() if kind in counts)
    shown = leaks.head(_SHOWN)
    examples = "; ".join(
        _describe_leak({str(key): value for key, value in row.items()}) for row in shown.to_dict("records")
    )
    more = f"; and {len(leaks) - _SHOWN:,} more" if len(leaks) > _SHOWN else ""
    allow = "; or accept near-duplicates and parts of one video: allow_similar = true"
    lines = ", ".join(
        f"`{encode_row(name, part)}`" for name, part in zip(shown["other_group"], shown["split"], strict=True)
    )
    names = dict.fromkeys(name for pair in zip(shown["group"], shown["other_group"], strict=True) for name in pair)
    between = [shorten_text(name) for name in names if name in new]
    put = "Put both groups of each pair into one part"
    if between:
        is_one = len(between) == 1
        first = f"{', '.join(between)} {'is' if is_one else 'are'} new and alike with groups of several parts: leave "
        put = (
            f"{first}{'it' if is_one else 'them'} out, or divide {'it' if is_one else 'them'} into several groups; or "
        )
        put += "put both groups of each pair into one part"
    return (
        f"the split leaks; pairs of groups in different parts {kinds}. {examples}{more}. {put}, in {place}: "
        f"{lines}{allow if leaks['kind'].isin(ALLOWED).all() else ''}"
    )


def _describe_leak(leak: dict[str, Any]) -> str:
    frames = " and ".join(shorten_text(leak[name]) for name in ("frame_path", "other_frame_path"))
    groups = f"{shorten_text(leak['group'])} ({leak['split']})"
    if leak["kind"] == "same_group":
        return f"{groups} also has frames in {leak['other_split']}: {frames}"
    distance = f", {leak['distance']} of 256 bits differ" if leak["kind"] == "similar" else ""
    other = f"{shorten_text(leak['other_group'])} ({leak['other_split']})"
    return f"{groups} and {other} {KINDS[leak['kind']]}: {frames}{distance}"
