"""A few of many frames that differ: of other groups first, then with other crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from detectime.boxes import Flags
from detectime.candidates import Indices
from detectime.runs import FinishedRun
from detectime.schema import CORNERS
from detectime.similarity import WORDS, Hashes, count_different_bits, read_sample_hashes

_POOL = 128  # candidates of a table
_ALL_POOLS = 40_000  # candidates of all tables together, about
_SMALLEST_POOL = 16
_NO_ROWS = pd.DataFrame({"frame_path": pd.Series([], dtype=object)})
_UNKNOWN_BITS = 64  # between crops of which one has no hash: more than near-duplicates, less than other recordings
_ALL_BITS = 256
_LAST = np.iinfo(np.int64).max


def choose_frames(
    run: FinishedRun, tables: Sequence[pd.DataFrame], counts: Sequence[int], varied: Sequence[bool]
) -> list[pd.DataFrame]:
    """Choose some rows of each of several tables.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    tables
        Rows of its outcomes.
    counts
        The number of rows to choose of each table, at most.
    varied
        For each table, whether to choose frames that differ, from each other and from those of the tables before;
        otherwise the first ones are chosen.

    Returns
    -------
    list of DataFrame
        The chosen rows of each table, in the order of choice.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """
    most = max(_SMALLEST_POOL, min(_POOL, _ALL_POOLS // max(1, int(np.count_nonzero(counts)))))
    pools = [
        _pool_rows(table, most, count, is_varied) if count else _NO_ROWS
        for table, count, is_varied in zip(tables, counts, varied, strict=True)
    ]
    hashes, has_hash = _read_hashes(run, pools)
    chosen: list[pd.DataFrame] = []
    taken: set[str] = set()
    start = 0
    for pool, count, is_varied in zip(pools, counts, varied, strict=True):
        rows = slice(start, start := start + len(pool))
        if is_varied and count:
            is_taken = np.array([path in taken for path in pool["frame_path"]], bool)
            pool = pool.iloc[choose_varied(pool["video_name"], hashes[rows], has_hash[rows], is_taken, count)]
        taken.update(pool["frame_path"])
        chosen.append(pool)
    return chosen


def _pool_rows(table: pd.DataFrame, most: int, count: int, is_varied: bool) -> pd.DataFrame:
    """Return candidates, at least `count` if there are so many rows."""
    if not is_varied:
        return table.iloc[:count]
    pool = pool_frames(table["video_name"], max(most, 2 * count))
    if len(pool) < count:
        rest = np.setdiff1d(np.arange(len(table)), pool)
        pool = np.concatenate([pool, rest[: count - len(pool)]])
    return table.iloc[pool]


def _read_hashes(run: FinishedRun, pools: Sequence[pd.DataFrame]) -> tuple[Hashes, Flags]:
    """Return the hashes of the crops of all pools, one after the other."""
    columns = ["frame_path", *(f"hand_{corner}" for corner in CORNERS)]
    tables = [pool[columns] for pool in pools if len(pool)]
    if not tables:
        return np.zeros((0, WORDS), np.uint64), np.zeros(0, bool)
    return read_sample_hashes(run, pd.concat(tables, ignore_index=True))


def pool_frames(groups: ArrayLike, most: int) -> Indices:
    """Choose candidates, spread over the groups, and in each group over its length: middle, quarters, eighths.

    The middle of a recording shows what it is of more often than its begin, and neighbours look alike.

    Parameters
    ----------
    groups
        The group of each frame, shape (N,), in the order of the frames.
    most
        The number of candidates, about. If there are more groups, some of them have no candidate.

    Returns
    -------
    ndarray
        int64: positions, each once; first one of each group, then the second of each, and so on.

    Examples
    --------
    >>> pool_frames(["a"] * 4 + ["b"] * 2, 4).tolist()
    [2, 5, 1, 4]
    """
    codes, names = pd.factorize(np.asarray(groups, dtype=object), use_na_sentinel=False)
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(names))
    starts = np.cumsum(counts) - counts
    kept = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(np.int64))
    per_group = -(-most // max(1, len(kept)))
    offsets = (counts[kept] * _halve_repeatedly(per_group)[:, None]).astype(np.int64)
    positions = order[(starts[kept] + offsets).ravel()]
    _, first = np.unique(positions, return_index=True)
    pooled: Indices = positions[np.sort(first)]
    return pooled


def choose_varied(groups: ArrayLike, hashes: Hashes, has_hash: Flags, is_taken: Flags, count: int) -> list[int]:
    """Choose frames one by one: not taken, of the group that has the fewest so far, and unlike all chosen ones.

    Parameters
    ----------
    groups
        The group of each candidate, shape (N,).
    hashes, has_hash
        Of their crops: see `similarity.read_sample_hashes`.
    is_taken
        Whether a candidate is shown elsewhere, and so comes last, shape (N,).
    count
        The number of frames; fewer if there are not so many.

    Returns
    -------
    list of int
        Positions, in the order in which they were chosen; the first of equals comes first.

    Examples
    --------
    >>> hashes = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 255], [0, 0, 0, 0]], np.uint64)
    >>> choose_varied(["a", "a", "a", "b"], hashes, np.ones(4, bool), np.zeros(4, bool), 3)
    [0, 3, 2]
    """
    codes, names = pd.factorize(np.asarray(groups, dtype=object), use_na_sentinel=False)
    used = np.zeros(len(names), np.int64)
    nearest = np.full(len(codes), _ALL_BITS)
    is_left = np.ones(len(codes), bool)
    chosen: list[int] = []
    for _ in range(min(count, len(codes))):
        rank = (is_taken * (count + 1) + used[codes]) * (_ALL_BITS + 1) - nearest
        best = int(np.where(is_left, rank, _LAST).argmin())
        chosen.append(best)
        is_left[best] = False
        used[codes[best]] += 1
        bits = np.where(has_hash & has_hash[best], count_different_bits(hashes, hashes[best]), _UNKNOWN_BITS)
        nearest = np.minimum(nearest, bits)
    return chosen


def _halve_repeatedly(count: int) -> NDArray[np.float64]:
    """Return 1/2, 1/4, 3/4, 1/8, 5/8, 3/8, 7/8 …: the van der Corput sequence."""
    numbers, fractions, part = np.arange(1, count + 1), np.zeros(count), 0.5
    while numbers.any():
        fractions += part * (numbers % 2)
        numbers, part = numbers // 2, part / 2
    return fractions
