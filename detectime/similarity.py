"""Pictures that are equal or look alike: the hashes of samples' crops, and pairs of them that differ in few bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats
from detectime.candidates import Indices
from detectime.runs import FinishedRun
from detectime.schema import CORNERS

SIMILAR_BITS = 31
"""Crops whose hashes differ in at most so many of the 256 bits are near-duplicates.

Of real hands, a crop saved again as a JPEG of quality 50 differs in 21 bits or fewer, and one whose box moved by 1 % of
its side in 28 or fewer (three of four); crops of different recordings differ in 84 or more."""

WORDS = 4
"""A hash is an array of so many uint64."""

PARTS = 16
"""Parts of a hash, of 16 bits each."""

Hashes = NDArray[np.uint64]
Batch = tuple[Indices, Indices, Indices]

_SAME_HAND = 0.5  # IoU of a sample's hand and a detected one, from which the hash of the latter is that of the sample
_LABEL_BITS = 40  # labels are less than 2**40
_FEW = 8  # candidates: so few are compared without seeking those of another label
_PART_VALUES = 1 << 16
_CHUNK = 1 << 20  # candidates that are compared at a time


def read_contents(run: FinishedRun, samples: pd.DataFrame) -> NDArray[np.object_]:
    """Read what detection stored of the bytes of each frame: see `images.describe_content`.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    samples
        Rows of its outcomes, in any order.

    Returns
    -------
    ndarray
        object, shape (N,): text, of frames of a video that of the file; None where it is unknown, as in runs of 0.2.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """
    detections = run.read_detections(("frame_path", "content"))
    rows = pa.array(find_rows(samples, detections))
    taken = detections["content"].take(pc.if_else(pc.greater_equal(rows, 0), rows, None))
    return np.array(taken.to_pylist(), dtype=object)


def read_sample_hashes(run: FinishedRun, samples: pd.DataFrame) -> tuple[Hashes, Flags]:
    """Read the hash of each sample's crop: that of the detected hand which overlaps the sample's `hand` most.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    samples
        Rows of its outcomes, in any order.

    Returns
    -------
    hashes
        uint64, shape (N, 4); zeros where there is none.
    has_hash
        bool, shape (N,). False without a sample, if no detected hand has an IoU of .5 with the `hand`, as may be where
        a person drew it, and in runs of 0.2, which stored no hashes.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """
    detections = run.read_detections(("frame_path", "hands", "crop_hash"))
    return _find_hashes(samples, detections, find_rows(samples, detections))


def count_different_bits(a: Hashes, b: Hashes) -> Indices:
    """Count the bits in which hashes differ.

    Parameters
    ----------
    a, b
        uint64, shape (..., 4); the leading axes are broadcast.

    Returns
    -------
    ndarray
        int64, shape (...): 0 to 256.

    Examples
    --------
    >>> count_different_bits(np.array([0, 0, 0, 7], np.uint64), np.array([[0, 0, 0, 7], [1, 0, 0, 4]], np.uint64))
    array([0, 3])
    """
    count: Indices = np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)
    return count


def find_similar_pairs(hashes: Hashes, labels: NDArray[np.integer], bits: int = SIMILAR_BITS) -> Iterator[Batch]:
    """Find all pairs of hashes that differ in at most `bits` bits and have different labels.

    Two hashes that differ in few bits differ in even fewer in one of their parts: at most ``bits // 16`` in one of 16.
    So only pairs with such parts are compared. 175,000 random hashes take a few seconds at the default; the time grows
    with the square of their number, and tenfold with every 16 bits. Many similar hashes of one label take no more.

    Parameters
    ----------
    hashes
        uint64, shape (N, 4).
    labels
        Integers from 0 to 2**40, shape (N,), such as the number of each hash's video. The caller may change them
        between two batches: pairs whose labels have become equal are not sought any more.
    bits
        Largest number of different bits.

    Yields
    ------
    first, second, distance
        int64, shape (pairs,): positions of the two hashes, first < second, and the number of different bits. Each pair
        is yielded once, in no particular order; memory does not grow with the number of pairs.

    Examples
    --------
    >>> hashes = np.array([[0, 0, 0, 7], [0, 0, 0, 4], [9, 9, 9, 9]], np.uint64)
    >>> [(a.tolist(), b.tolist(), d.tolist()) for a, b, d in find_similar_pairs(hashes, np.arange(3), bits=2)]
    [([0], [1], [2])]
    """
    parts = split_hashes(hashes)
    for part in range(PARTS):
        order = np.lexsort((labels, parts[:, part]))
        words, own = np.ascontiguousarray(hashes[order].T), labels[order]
        for first, second in _find_candidates(parts[order, part], own, bits // PARTS):
            close = _select_close(words, first, second, bits)
            first, second = order[first[close]], order[second[close]]
            # A pair may have several such parts: the first of them yields it.
            new = _find_first_part(parts[first], parts[second], bits // PARTS) == part
            new &= labels[first] != labels[second]
            if new.any():
                first, second = first[new], second[new]
                distance = count_different_bits(hashes[first], hashes[second])
                yield np.minimum(first, second), np.maximum(first, second), distance


def split_hashes(hashes: Hashes) -> NDArray[np.uint16]:
    """Return the parts of hashes, uint16, shape (N, 16).

    Examples
    --------
    >>> split_hashes(np.array([[2**16, 0, 0, 5]], np.uint64))[0, [1, 12]].tolist()
    [1, 5]
    """
    return np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, PARTS)


def _find_candidates(
    values: NDArray[np.uint16], labels: NDArray[np.integer], radius: int
) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of positions of different labels whose values differ in at most `radius` bits, each pair once.

    Parameters
    ----------
    values, labels
        Ascending by value, then by label.
    """
    begins = np.insert(np.cumsum(np.bincount(values, minlength=_PART_VALUES)), 0, 0)
    keys = values.astype(np.int64) << _LABEL_BITS | labels  # ascending: where each label of each value begins and ends
    masks = np.arange(_PART_VALUES)
    for mask in masks[np.bitwise_count(masks) <= radius].tolist():
        other = (values ^ np.uint16(mask)).astype(np.int64)
        rows = np.flatnonzero(values < other) if mask else np.arange(len(values))  # the other way round: the same pair
        own = other[rows] << _LABEL_BITS | labels[rows]
        last, first = begins[other[rows] + 1], begins[other[rows]]
        if not mask:
            first = np.searchsorted(keys, own, side="right")
        large = np.flatnonzero(last - first > _FEW)
        start, stop = first.copy(), first.copy()  # of those with the same label
        start[large] = np.searchsorted(keys, own[large])
        stop[large] = np.searchsorted(keys, own[large], side="right")
        for begin, end in ((first, start), (stop, last)) if mask else ((first, last),):
            for a, b in _expand_ranges(rows, begin, end):
                differ = np.flatnonzero(labels[a] != labels[b])
                yield a[differ], b[differ]


def _expand_ranges(rows: Indices, first: Indices, last: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of each row with each position from `first` to before `last`, about `_CHUNK` pairs at a time."""
    counts = last - first
    rows, first, counts = (values[counts > 0] for values in (rows, first, counts))
    ends = np.cumsum(counts)
    start = 0
    while start < len(rows):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        count = counts[start:stop]
        position = np.arange(ends[stop - 1] - done) - np.repeat(ends[start:stop] - done - count, count)
        yield np.repeat(rows[start:stop], count), np.repeat(first[start:stop], count) + position
        start = stop


def _select_close(words: Hashes, first: Indices, second: Indices, bits: int) -> Indices:
    """Return which pairs differ in at most `bits` bits; most are dropped by the first half.

    Parameters
    ----------
    words
        Shape (4, N): of each hash.
    """
    kept = np.arange(len(first))
    distance = np.zeros(len(first), np.uint16)
    for half in (words[:2], words[2:]):
        for word in half:
            distance += np.bitwise_count(word.take(first) ^ word.take(second))
        close = np.flatnonzero(distance <= bits)
        kept, first, second, distance = kept[close], first[close], second[close], distance[close]
    return kept


def _find_first_part(a: NDArray[np.uint16], b: NDArray[np.uint16], radius: int) -> Indices:
    """Return the first part of each pair of hashes that differs in at most `radius` bits."""
    first: Indices = (np.bitwise_count(a ^ b) <= radius).argmax(axis=1)
    return first


def find_rows(samples: pd.DataFrame, detections: pa.Table) -> Indices:
    """Return the row of detections of each sample, int64, shape (N,); -1 where there is none.

    Examples
    --------
    >>> detections = pa.table({"frame_path": ["a.jpg", "b.jpg"]})
    >>> find_rows(pd.DataFrame({"frame_path": ["b.jpg", "c.jpg"]}), detections).tolist()
    [1, -1]
    """
    names = detections["frame_path"].combine_chunks()
    found = pc.index_in(pa.array(samples["frame_path"], pa.string()), value_set=names)
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _find_hashes(samples: pd.DataFrame, detections: pa.Table, rows: Indices) -> tuple[Hashes, Flags]:
    """Return what `read_sample_hashes` returns; `rows` are those of the samples' detections."""
    best = match_hands(pairing.get_boxes(samples, "hand"), detections["hands"], rows)
    matched = np.flatnonzero(best >= 0)
    stored = detections["crop_hash"].combine_chunks().flatten().take(pa.array(best[matched]))
    matched = matched[stored.is_valid().to_numpy(zero_copy_only=False)]
    hashes = np.zeros((len(samples), WORDS), np.uint64)
    hashes[matched] = np.frombuffer(b"".join(stored.drop_null().to_pylist()), np.uint64).reshape(-1, WORDS)
    has_hash = np.zeros(len(samples), bool)
    has_hash[matched] = True
    return hashes, has_hash


def match_hands(hand: Floats, column: pa.ChunkedArray, rows: Indices, preference: Floats | None = None) -> Indices:
    """Find the detected hand of each sample: the one that overlaps it most.

    Parameters
    ----------
    hand
        The hand of each sample, shape (N, 4); NaN where there is none.
    column
        The column `hands` of the detections.
    rows
        What `find_rows` returned.
    preference
        A number per hand of the flat list of all detected hands: of those that overlap a sample, the one with the
        largest is taken instead, and of equal ones the one that overlaps it most.

    Returns
    -------
    ndarray
        int64, shape (N,): index into the flat list of all detected hands; -1 where none has an IoU of .5.
    """
    lists = column.combine_chunks()
    counts = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    with_hand = np.flatnonzero((rows >= 0) & ~np.isnan(hand[:, 0]))
    found = counts[rows[with_hand]]
    owner = np.repeat(with_hand, found)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(found) - found, found)
    detected = (np.cumsum(counts) - counts)[rows[owner]] + position
    iou = boxes.compute_iou(hand[owner], _take_corners(lists.flatten(), detected))
    same = iou >= _SAME_HAND
    owner, detected, iou = owner[same], detected[same], iou[same]
    order = np.lexsort((-iou, owner) if preference is None else (-iou, -preference[detected], owner))
    owners, first = np.unique(owner[order], return_index=True)
    best = np.full(len(hand), -1)
    best[owners] = detected[order[first]]
    return best


def _take_corners(hands: Any, chosen: Indices) -> Floats:
    """Return the boxes of some of all hands, shape (N, 4)."""
    columns = [hands.field(corner).to_numpy(zero_copy_only=False).take(chosen) for corner in CORNERS]
    return np.column_stack(columns)
