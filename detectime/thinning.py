"""Thinning: marking samples that repeat an earlier one of their group. Nothing is deleted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from detectime.boxes import Flags
from detectime.candidates import Indices
from detectime.notes import Note, note_found
from detectime.schema import SAMPLES
from detectime.similarity import SIMILAR_BITS, Hashes, count_different_bits

NEIGHBOURS = 30
"""A sample is compared with so many preceding ones of its group and class."""

_MOST_NEIGHBOURS = 62  # bits of an int64, one per neighbour


def mark_redundant(
    samples: pd.DataFrame,
    hashes: Hashes,
    has_hash: Flags,
    *,
    bits: int = SIMILAR_BITS,
    neighbours: int = NEIGHBOURS,
) -> Flags:
    """Mark samples that look like an earlier one of the same group and class, which is kept.

    Samples of a group and class are visited in the order of their `frame_id`. A sample is redundant if it looks like
    one of the samples before it that are kept, among the `neighbours` last ones.

    Parameters
    ----------
    samples
        Rows of outcomes, in any order; only those with a sample are marked.
    hashes, has_hash
        What `similarity.read_sample_hashes` returned of these rows. Samples without a hash are kept.
    bits
        Crops whose hashes differ in at most so many bits look alike; 0 to 256.
    neighbours
        1 to 62.

    Returns
    -------
    ndarray
        bool, shape (N,): True where a sample is redundant.

    Raises
    ------
    ValueError
        If `neighbours` is not in its range.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": list("abcd"), "frame_id": range(4)})
    >>> samples = samples.assign(video_name="v", class_name="ok")
    >>> hashes = np.array([[0] * 4, [3] * 4, [7] * 4, [0] * 4], np.uint64)
    >>> mark_redundant(samples, hashes, np.ones(4, bool), bits=8).tolist()
    [False, True, False, True]
    """
    if not 1 <= neighbours <= _MOST_NEIGHBOURS:
        raise ValueError(f"neighbours = {neighbours}: accepted: 1 to {_MOST_NEIGHBOURS}")
    order, sequence = _order_samples(samples)
    alike = _find_alike(hashes[order], has_hash[order], sequence, bits, neighbours)
    redundant = np.zeros(len(samples), bool)
    redundant[order] = _visit_in_order(alike, neighbours)
    return redundant


def mark_every(samples: pd.DataFrame, n: int) -> Flags:
    """Mark all samples but every n-th of each group and class, beginning with the first by `frame_id`.

    Parameters
    ----------
    samples
        Rows of outcomes, in any order; only those with a sample are counted and marked.
    n
        1: none is marked.

    Returns
    -------
    ndarray
        bool, shape (N,): True where a sample is redundant.

    Raises
    ------
    ValueError
        If `n` is less than 1.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": list("abc"), "frame_id": [7, 9, 8]})
    >>> samples = samples.assign(video_name="v", class_name="ok")
    >>> mark_every(samples, 2).tolist()
    [False, False, True]
    """
    if n < 1:
        raise ValueError(f"n = {n}: accepted: 1 or more")
    order, sequence = _order_samples(samples)
    starts = np.flatnonzero(np.diff(sequence, prepend=-1))
    position = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    redundant = np.zeros(len(samples), bool)
    redundant[order] = position % n > 0
    return redundant


def count_redundant(samples: pd.DataFrame) -> pd.DataFrame:
    """Count redundant samples by class.

    Parameters
    ----------
    samples
        Rows of outcomes with the column `redundant` (bool), such as `mark_redundant` returned.

    Returns
    -------
    DataFrame
        One row per class and a last row ``all``: `samples`, `redundant`, `kept` (int64).

    Examples
    --------
    >>> rows = {"class_name": ["ok", "ok", "stop"], "redundant": [False, True, False]}
    >>> count_redundant(pd.DataFrame(rows)).to_dict("index")["ok"]
    {'samples': 2, 'redundant': 1, 'kept': 1}
    """
    rows = samples.iloc[_find_samples(samples)]
    classes = rows.groupby("class_name")["redundant"]
    counts = pd.DataFrame({"samples": classes.size(), "redundant": classes.sum()}).astype("int64")
    counts.loc["all"] = counts.sum()
    return counts.assign(kept=counts["samples"] - counts["redundant"])


def note_redundant(samples: pd.DataFrame, redundant: Flags, has_hash: Flags) -> list[Note]:
    """Note how many samples are redundant, and how many could not be compared.

    Parameters
    ----------
    samples
        Rows of outcomes.
    redundant, has_hash
        bool, shape (N,): what `mark_redundant` returned, and what it was given.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a.jpg", "b.jpg"]})
    >>> print(*note_redundant(samples, np.array([False, True]), np.array([True, True])))
    1 sample looks like an earlier one of its group and class (the first: 'b.jpg')
    """
    is_sample = np.zeros(len(samples), bool)
    is_sample[_find_samples(samples)] = True
    paths, why = samples["frame_path"], "no hash of {} crop, and {} kept by thinning"
    return [
        *note_found(
            "redundant",
            paths[redundant].tolist(),
            "sample looks like an earlier one of its group and class",
            "samples look like an earlier one of their group and class",
        ),
        *note_found(
            "unknown_hash",
            paths[is_sample & ~has_hash].tolist(),
            f"sample has {why.format('its', 'is')}",
            f"samples have {why.format('their', 'are')}",
        ),
    ]


def _find_samples(rows: pd.DataFrame) -> Indices:
    """Return the positions of rows with a sample; of all rows, if the table has no outcomes."""
    return np.flatnonzero(rows["outcome"].isin(SAMPLES)) if "outcome" in rows else np.arange(len(rows))


def _order_samples(samples: pd.DataFrame) -> tuple[Indices, Indices]:
    """Return the positions of samples by group, class and frame, and the number of each one's group and class.

    The order does not depend on that of the rows.
    """
    rows = _find_samples(samples)
    group, kind, path = (
        pd.factorize(samples[name].to_numpy(dtype=object)[rows], sort=True)[0]
        for name in ("video_name", "class_name", "frame_path")
    )
    order = np.lexsort((path, samples["frame_id"].to_numpy()[rows], kind, group))
    sequence = group * (kind.max(initial=0) + 1) + kind
    return rows[order], sequence[order].astype(np.int64)


def _find_alike(hashes: Hashes, has_hash: Flags, sequence: Indices, bits: int, neighbours: int) -> Indices:
    """Return for each sample a number whose bit k says whether it looks like the one k + 1 before it."""
    alike = np.zeros(len(hashes), np.int64)
    for k in range(1, min(neighbours, len(hashes) - 1) + 1):
        compared = (sequence[k:] == sequence[:-k]) & has_hash[k:] & has_hash[:-k]
        is_close = count_different_bits(hashes[k:], hashes[:-k]) <= bits
        alike[k:] |= (compared & is_close).astype(np.int64) << (k - 1)
    return alike


def _visit_in_order(alike: Indices, neighbours: int) -> Flags:
    """Return which samples look like a kept one before them: what is kept depends on all that went before."""
    redundant = np.zeros(len(alike), bool)
    kept, window = 0, (1 << neighbours) - 1  # bit k of `kept`: the sample k + 1 before
    for position, before in enumerate(alike.tolist()):
        is_redundant = before & kept != 0
        redundant[position] = is_redundant
        kept = (kept << 1 | (not is_redundant)) & window
    return redundant
