"""Thinning: which samples are redundant, compared with the rule applied one sample after the other."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectime import thinning
from detectime.similarity import count_different_bits

ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"),  # group
        st.sampled_from(["ok", "stop"]),
        st.integers(0, 9),  # frame_id
        st.sampled_from(["paired", "paired", "fallback", "corrected", "no_hand"]),
        st.integers(0, 4),  # look
        st.booleans(),
    ),
    max_size=40,
)


def make_table(rows: list[tuple[str, str, int, str, int, bool]]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Make samples, their hashes and which are known; looks next to each other differ in 20 bits."""
    names = ["video_name", "class_name", "frame_id", "outcome", "look", "has_hash"]
    table = pd.DataFrame(rows, columns=names)
    table["frame_path"] = [f"{k:03d}.jpg" for k in range(len(rows))]
    bits = np.arange(256)[None] < 20 * table["look"].to_numpy(int)[:, None]
    hashes = np.packbits(bits, axis=1).view(np.uint64).reshape(-1, 4)
    return table, hashes, table["has_hash"].to_numpy(bool)


def thin_one_by_one(
    table: pd.DataFrame, hashes: np.ndarray, has_hash: np.ndarray, bits: int, neighbours: int
) -> list[bool]:
    redundant = [False] * len(table)
    samples = table[table["outcome"] != "no_hand"].sort_values(["frame_id", "frame_path"])
    for _, rows in samples.groupby(["video_name", "class_name"]):
        before: list[int] = []
        for row in rows.index:
            compared = [
                other for other in before[-neighbours:] if not redundant[other] and has_hash[row] & has_hash[other]
            ]
            redundant[row] = any(count_different_bits(hashes[row], hashes[other]) <= bits for other in compared)
            before.append(row)
    return redundant


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, bits=st.sampled_from([0, 20, 31, 40]), neighbours=st.integers(1, 6))
def test_redundant_samples_are_those_of_the_rule(
    rows: list[tuple[str, str, int, str, int, bool]], bits: int, neighbours: int
) -> None:
    table, hashes, has_hash = make_table(rows)
    found = thinning.mark_redundant(table, hashes, has_hash, bits=bits, neighbours=neighbours)
    assert found.tolist() == thin_one_by_one(table, hashes, has_hash, bits, neighbours)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99), n=st.integers(1, 5))
def test_the_order_of_rows_has_no_effect(rows: list[tuple[str, str, int, str, int, bool]], seed: int, n: int) -> None:
    table, hashes, has_hash = make_table(rows)
    order = np.random.default_rng(seed).permutation(len(rows))
    similar = thinning.mark_redundant(table, hashes, has_hash)
    assert (
        similar[order].tolist() == thinning.mark_redundant(table.iloc[order], hashes[order], has_hash[order]).tolist()
    )
    every = thinning.mark_every(table, n)
    assert every[order].tolist() == thinning.mark_every(table.iloc[order], n).tolist()


@settings(max_examples=100, deadline=None)
@given(rows=ROWS)
def test_what_is_kept_is_not_redundant_if_all_were_compared(rows: list[tuple[str, str, int, str, int, bool]]) -> None:
    table, hashes, has_hash = make_table(rows)
    kept = ~thinning.mark_redundant(table, hashes, has_hash, neighbours=50)
    assert not thinning.mark_redundant(table[kept], hashes[kept], has_hash[kept], neighbours=50).any()
    assert kept[table["outcome"].eq("no_hand").to_numpy()].all()
    assert kept[~has_hash].all()


def test_samples_far_apart_are_not_compared() -> None:
    """One of 31 equal frames is kept: the scene is still there after a second."""
    table, hashes, has_hash = make_table([("a", "ok", k, "paired", 0, True) for k in range(100)])
    kept = np.flatnonzero(~thinning.mark_redundant(table, hashes, has_hash))
    assert kept.tolist() == [0, 31, 62, 93]


def test_another_class_or_group_is_not_redundant() -> None:
    rows = [("a", "ok", 0, "paired", 0, True), ("a", "stop", 1, "paired", 0, True), ("b", "ok", 2, "paired", 0, True)]
    table, hashes, has_hash = make_table(rows)
    assert not thinning.mark_redundant(table, hashes, has_hash).any()


def test_a_slow_movement_is_sampled_evenly() -> None:
    """Each sample is compared with kept ones, so a chain of small differences is not one group."""
    table, hashes, has_hash = make_table([("a", "ok", k, "paired", k, True) for k in range(12)])
    kept = np.flatnonzero(~thinning.mark_redundant(table, hashes, has_hash, bits=40))
    assert kept.tolist() == [0, 3, 6, 9]


def test_every_third_sample_of_each_group_and_class_is_kept() -> None:
    rows = [("a", "ok", k, "paired", 0, True) for k in range(7)] + [("a", "stop", 9, "paired", 0, True)]
    rows.insert(1, ("a", "ok", 0, "no_hand", 0, True))
    table, *_ = make_table(rows)
    redundant = thinning.mark_every(table, 3)
    assert table.loc[~redundant, "frame_id"].tolist() == [0, 0, 3, 6, 9]
    assert not thinning.mark_every(table, 1).any()


def test_redundant_samples_are_counted_by_class() -> None:
    rows = [("a", "ok", k, "paired", 0, True) for k in range(3)] + [("a", "stop", 9, "paired", 0, False)]
    table, hashes, has_hash = make_table([*rows, ("a", "stop", 10, "no_hand", 0, True)])
    redundant = thinning.mark_redundant(table, hashes, has_hash)
    counts = thinning.count_redundant(table.assign(redundant=redundant))
    assert counts.loc["ok"].tolist() == [3, 2, 1]
    assert counts.loc["stop"].tolist() == [1, 0, 1]
    assert counts.loc["all"].tolist() == [4, 2, 2]
    similar, unknown = thinning.note_redundant(table, redundant, has_hash)
    assert (similar.count, similar.example) == (2, "001.jpg")
    assert (unknown.count, unknown.example) == (1, "003.jpg")


def test_nothing_has_nothing_redundant() -> None:
    table, hashes, has_hash = make_table([])
    assert thinning.mark_redundant(table, hashes, has_hash).tolist() == []
    assert thinning.mark_every(table, 2).tolist() == []
    counts = thinning.count_redundant(table.assign(redundant=False))
    assert counts.to_dict("index") == {"all": {"samples": 0, "redundant": 0, "kept": 0}}


@pytest.mark.parametrize("neighbours", [0, 63])
def test_neighbours_out_of_range_are_refused(neighbours: int) -> None:
    with pytest.raises(ValueError, match="1 to 62"):
        thinning.mark_redundant(*make_table([]), neighbours=neighbours)
    with pytest.raises(ValueError, match="1 or more"):
        thinning.mark_every(make_table([])[0], 0)


def test_the_most_neighbours_are_compared() -> None:
    rows = [("a", "ok", k, "paired", (k % 62 > 0) * (k + 1), True) for k in range(63)]
    table, _, has_hash = make_table(rows)
    hashes = np.random.default_rng(0).integers(0, 2**63, (63, 4)).astype(np.uint64)
    hashes[62] = hashes[0]
    assert np.flatnonzero(thinning.mark_redundant(table, hashes, has_hash, neighbours=62)).tolist() == [62]
    assert not thinning.mark_redundant(table, hashes, has_hash, neighbours=61).any()


@pytest.mark.slow
def test_many_samples_take_about_a_second() -> None:
    count = 175_000
    table = pd.DataFrame({"frame_id": np.arange(count), "class_name": "ok", "outcome": "paired"})
    table["video_name"] = [f"v{k // 70:05d}" for k in range(count)]
    table["frame_path"] = [f"v{k // 70:05d}/{k:06d}.jpg" for k in range(count)]
    hashes = np.random.default_rng(0).integers(0, 2**63, (count, 4)).astype(np.uint64)
    began = time.process_time()
    thinning.mark_redundant(table, hashes, np.ones(count, bool))
    assert time.process_time() - began < 3
