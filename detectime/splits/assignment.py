"""Assigning groups to the parts of a split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime.candidates import Indices
from detectime.notes import Note, shorten_text
from detectime.splits import shortcomings
from detectime.splits.counts import USUAL_PARTS, are_samples, order_parts
from detectime.splits.leaks import ALLOWED, KINDS
from detectime.splits.split_file import FILE_NAME, SplitError, check_case, check_part_name
from detectime.splits.stratification import choose_parts

SHARES: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}
"""The parts and their shares of the samples of each class."""

_ROUNDING = 1e-6  # of the sum of shares
_TRIES = 8  # of which the best split counts


def make_split(
    samples: pd.DataFrame,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    *,
    column: str | None = None,
    earlier: pd.DataFrame | None = None,
    links: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[Note]]:
    """Assign the groups of wanted frames to the parts of a split.

    Each part gets its share of the samples of each class, as well as whole groups allow. Groups without samples are
    shared out too, so that they keep their place when they get some.

    Parameters
    ----------
    samples
        The outcomes table; the order of its rows has no effect.
    shares
        The parts and their shares of the samples; the sum is 1.
    seed
        Another number gives another split.
    column
        A column of the table with the part of each frame, which is taken as it is; `shares`, `seed`, `earlier` and
        `links` have no effect.
    earlier
        The present split: its groups keep their parts, and only others are assigned.
    links
        Pairs of groups that belong in one part: see `leaks.find_links`.

    Returns
    -------
    split
        One row per group, sorted by part and name: `video_name` and `split` (text). Groups of `earlier` that have no
        wanted frames any more are kept.
    notes
        Classes that are not in every part, groups that had to stay together, parts that are far from their share.

    Raises
    ------
    SplitError
        If `shares` or the values of the column are not valid, a group has several parts, or a part would be empty.

    Examples
    --------
    >>> rows = [(f"v{k}", f"v{k}/{frame}.jpg") for k in range(10) for frame in range(3)]
    >>> samples = pd.DataFrame(rows, columns=["video_name", "frame_path"]).assign(class_name="ok", outcome="paired")
    >>> split, notes = make_split(samples)
    >>> split["split"].value_counts().to_dict(), notes
    ({'train': 8, 'val': 1, 'test': 1}, [])
    """
    wanted = _select_wanted(samples)
    if column is not None:
        split = _sort_split(_read_column(wanted, column), USUAL_PARTS)
        notes = shortcomings.note_classes(assign_splits(wanted, split))
        return split, [*shortcomings.note_only_part(split), *notes]
    check_shares(shares)
    names = np.unique(wanted["video_name"].to_numpy(dtype=object)).astype(object)
    fixed = _find_fixed(names, shares, earlier)
    units = _join_groups(names, links)
    part = _assign_units(_count_samples(wanted, names), units, names, shares, fixed, seed)
    split = pd.DataFrame({"video_name": names, "split": np.array(list(shares), dtype=object)[part]}, dtype=str)
    gone = split[:0] if earlier is None else earlier[~earlier["video_name"].isin(names)]
    _check_filled({*split["split"], *gone["split"]}, shares, units, links)
    assigned = assign_splits(wanted, split)
    notes = [
        *shortcomings.note_tied(names[units != np.arange(len(units))], links),
        *shortcomings.note_shares(assigned, shares),
        *shortcomings.note_classes(assigned, shares),
        *shortcomings.note_gone(gone["video_name"]),
    ]
    return _sort_split(pd.concat([split, gone], ignore_index=True), tuple(shares)), notes


def assign_splits(samples: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Add the column `split`, the part of each row's group.

    Parameters
    ----------
    samples
        Rows with `video_name`.
    split
        One row per group: what `make_split` or `read_split` returned.

    Returns
    -------
    DataFrame
        A copy; `split` (text) is empty for rows that are not `wanted`, if their group has no part. A column of that
        name from the labels is replaced.

    Raises
    ------
    SplitError
        If groups have no part.

    Examples
    --------
    >>> split = pd.DataFrame({"video_name": ["a", "b"], "split": ["train", "test"]})
    >>> assign_splits(pd.DataFrame({"video_name": ["b", "a", "b"]}), split)["split"].tolist()
    ['test', 'train', 'test']
    """
    position = pd.Index(split["video_name"]).get_indexer(pd.Index(samples["video_name"]))
    parts = np.append(split["split"].to_numpy(dtype=object), "")[position]
    is_wanted = samples["wanted"].to_numpy(bool) if "wanted" in samples else np.ones(len(samples), bool)
    _check_known(samples["video_name"][(position < 0) & is_wanted], samples, split)
    assigned = samples.assign(split=pd.Series(parts, index=samples.index, dtype=str))
    assigned.attrs = dict(samples.attrs)
    return assigned


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse shares that are not the shares of at least one part.

    Raises
    ------
    SplitError
        If a name or a share is not valid, or the sum is not 1.

    Examples
    --------
    >>> check_shares({"train": 0.5, "test": 0.25})
    Traceback (most recent call last):
    detectime.splits.split_file.SplitError: shares: the sum is 0.75; accepted: positive numbers whose sum is 1, such \
as {"train": 0.8, "val": 0.1, "test": 0.1}
    """
    accepted = 'accepted: positive numbers whose sum is 1, such as {"train": 0.8, "val": 0.1, "test": 0.1}'
    for name, share in shares.items():
        check_part_name(name, "shares")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
            raise SplitError(f"shares: the share of {name} is {share!r}; {accepted}")
    check_case(list(shares), "shares")
    if abs(sum(shares.values()) - 1) > _ROUNDING:
        raise SplitError(f"shares: the sum is {sum(shares.values()):g}; {accepted}")


def _select_wanted(samples: pd.DataFrame) -> pd.DataFrame:
    return samples[samples["wanted"].to_numpy(bool)] if "wanted" in samples else samples


def _sort_split(split: pd.DataFrame, parts: Sequence[str]) -> pd.DataFrame:
    """Sort rows by part, in this order, and by name."""
    order = order_parts(split["split"], parts)
    rank = split["split"].map(order.index)
    return split.assign(rank=rank).sort_values(["rank", "video_name"], ignore_index=True)[["video_name", "split"]]


def _read_column(wanted: pd.DataFrame, column: str) -> pd.DataFrame:
    """Read the part of each group from a column, which must have one value per group."""
    if column not in wanted:
        names = ", ".join(map(str, wanted.columns))
        raise SplitError(f"column = {column!r}: the frame table has no such column; accepted: {names}")
    rows = wanted[["video_name", column, "frame_path"]].set_axis(["video_name", "split", "frame_path"], axis=1)
    values = rows.drop_duplicates(["video_name", "split"]).sort_values("video_name", kind="stable")
    for name, part, frame in values.itertuples(index=False):
        check_part_name(part, f"column {column!r}: frame {shorten_text(frame)} of group {shorten_text(name)}")
    repeated = values[values["video_name"].duplicated(keep=False)]
    if len(repeated):
        name, part, frame = repeated.iloc[0]
        _, other, other_frame = repeated.iloc[1]
        count = repeated["video_name"].nunique()
        raise SplitError(
            f"column {column!r}: {count:,} {'group is' if count == 1 else 'groups are'} in several parts; the first, "
            f"{shorten_text(name)}, is in {part} (frame {shorten_text(frame)}) and in {other} (frame "
            f"{shorten_text(other_frame)}); give all frames of a group one value"
        )
    check_case(values["split"].unique(), f"column {column!r}")
    return values[["video_name", "split"]].astype(str)


def _find_fixed(names: NDArray[np.object_], shares: Mapping[str, float], earlier: pd.DataFrame | None) -> Indices:
    """Return the part that each group has already, int64; -1 if it has none."""
    if earlier is None:
        return np.full(len(names), -1)
    unknown = order_parts(set(earlier["split"]) - set(shares))
    if unknown:
        raise SplitError(
            f"{FILE_NAME} has the {'part' if len(unknown) == 1 else 'parts'} {', '.join(unknown)}, and shares has not "
            f"(it has {', '.join(shares)}); add a share, or rename {FILE_NAME} to split all groups anew"
        )
    part = earlier["split"].map(list(shares).index).to_numpy(np.int64)
    found: Indices = np.append(part, -1)[pd.Index(earlier["video_name"]).get_indexer(names)]
    return found


def _join_groups(names: NDArray[np.object_], links: pd.DataFrame | None) -> Indices:
    """Return the unit of each group, int64: linked groups have the same one, the position of its first group."""
    units = np.arange(len(names))
    if links is None:
        return units
    index = pd.Index(names)
    pairs = np.column_stack(
        [index.get_indexer(pd.Index(links["group"])), index.get_indexer(pd.Index(links["other_group"]))]
    )
    for group, other in pairs[(pairs >= 0).all(axis=1)].tolist():
        a, b = _find_root(units, group), _find_root(units, other)
        units[max(a, b)] = min(a, b)
    return np.array([_find_root(units, group) for group in range(len(names))], np.int64)


def _find_root(units: Indices, group: int) -> int:
    """Return the first group of a unit, and shorten the way to it."""
    while units[group] != group:
        units[group] = units[units[group]]
        group = int(units[group])
    return group


def _count_samples(wanted: pd.DataFrame, names: NDArray[np.object_]) -> NDArray[np.float64]:
    """Count the samples of each group by class, sorted by name; a last column counts groups that have none."""
    found = wanted[are_samples(wanted)]
    kinds, class_names = pd.factorize(found["class_name"].to_numpy(dtype=object), sort=True)
    cells = pd.Index(names).get_indexer(pd.Index(found["video_name"])) * (len(class_names) + 1) + kinds
    counts = np.bincount(cells, minlength=len(names) * (len(class_names) + 1)).astype(np.float64)
    counts = counts.reshape(len(names), len(class_names) + 1)
    counts[:, -1] = counts.sum(axis=1) == 0
    return counts


def _assign_units(
    counts: NDArray[np.float64],
    units: Indices,
    names: NDArray[np.object_],
    shares: Mapping[str, float],
    fixed: Indices,
    seed: int,
) -> Indices:
    """Return the part of each group: the one that it has, or that of its unit."""
    roots, unit = np.unique(units, return_inverse=True)
    sums = np.zeros((len(roots), counts.shape[1]))
    np.add.at(sums, unit, counts)
    wanted_shares = np.array(list(shares.values()))
    place = np.full(len(roots), -1)
    # If its groups lie in several parts already, the larger part: `find_leaks` names them.
    for part in np.argsort(wanted_shares, kind="stable").tolist():
        place[unit[fixed == part]] = part
    ranks = np.frombuffer(b"".join(_hash_name(name, seed) for name in names[roots]), np.uint64).reshape(-1, _TRIES)
    part = choose_parts(sums, wanted_shares, place, ranks)[unit]
    return np.where(fixed >= 0, fixed, part)


def _hash_name(name: str, seed: int) -> bytes:
    """Return random numbers, as bytes, that depend on a name, whatever other names there are."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8 * _TRIES).digest()


def _check_filled(
    filled: Collection[str], shares: Mapping[str, float], units: Indices, links: pd.DataFrame | None
) -> None:
    """Refuse a split with an empty part."""
    empty = [name for name in shares if name not in filled]
    if not empty:
        return
    count, unit_count = len(units), len(np.unique(units))
    groups = "1 group of frames (video_name)" if count == 1 else f"{count:,} groups of frames (video_name)"
    tied, remedy = "", ""
    if links is not None and unit_count < count:
        tied = f", tied to {unit_count:,} by equal or similar pictures (the first: {_describe_tie(links)}),"
        is_allowed = links["kind"].isin(ALLOWED).any()
        remedy = "; or keep similar groups apart: allow_similar = true" if is_allowed else ""
    raise SplitError(
        f"{groups}{tied} {'leaves' if count == 1 else 'leave'} {' and '.join(empty)} empty; give fewer parts than "
        f"{', '.join(shares)}, or add videos or people{remedy}"
    )


def _describe_tie(links: pd.DataFrame) -> str:
    """Name the groups and frames of the first link."""
    group, other, frame, other_frame = (
        shorten_text(links[name].iloc[0]) for name in ("group", "other_group", "frame_path", "other_frame_path")
    )
    return f"{group} and {other} {KINDS[links['kind'].iloc[0]]}, {frame} and {other_frame}"


def _check_known(lacking: pd.Series, samples: pd.DataFrame, split: pd.DataFrame) -> None:
    """Refuse groups without a part."""
    names = lacking.drop_duplicates().tolist()
    if not names:
        return
    gone = split["video_name"][~split["video_name"].isin(samples["video_name"])].tolist()
    hint = f"; it has {shorten_text(gone[0])} instead, so a spreadsheet may have changed its names" if gone else ""
    are = "group is" if len(names) == 1 else "groups are"
    raise SplitError(
        f"{FILE_NAME}: {len(names):,} {are} not in it, such as {shorten_text(names[0])}{hint}; make the split again: "
        "only groups that are not in it are assigned, all others keep their part"
    )
