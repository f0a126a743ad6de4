"""Hashes of samples, and pairs of similar ones, compared with brute force."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import make_detection, make_detection_row, make_detections_table, read_image
from finished_runs import copy_run, make_run
from hypothesis import given, settings
from hypothesis import strategies as st

from detectime import pairing, runs, similarity
from detectime.classifier import landmarks
from detectime.images import describe_content, hash_crop
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun
from detectime.similarity import count_different_bits, find_similar_pairs
from detectime.splits import find_links

FROZEN = Path(__file__).parent / "frozen" / "0.2.0" / "default"
NEAR, FAR = (100, 100, 200, 200), (400, 100, 500, 200)


@pytest.fixture(scope="module")
def sample_run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Open a run on the sample."""
    return copy_run(sample_run, tmp_path_factory.mktemp("sample") / "run")


class StoredDetections:
    """A run that has these detections and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def read_detections(self, columns: list[str]) -> pa.Table:
        return self._table.select(list(columns))


def make_samples(hands: dict[str, tuple[float, ...] | None]) -> pd.DataFrame:
    """Make a table of frames and the hand of each one's sample."""
    corners = np.array([hand or (np.nan,) * 4 for hand in hands.values()], float).reshape(-1, 4)
    columns = {f"hand_{name}": corners[:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))}
    return pd.DataFrame({"frame_path": list(hands), **columns})


def read_hashes(rows: list[dict[str, Any]], hands: dict[str, tuple[float, ...] | None]) -> list[bytes | None]:
    """Read the hashes of samples from rows of detections, None where there is none."""
    found: Any = StoredDetections(make_detections_table(*rows))
    hashes, has_hash = similarity.read_sample_hashes(found, make_samples(hands))
    assert not hashes[~has_hash].any()
    return [each.tobytes() if known else None for each, known in zip(hashes, has_hash, strict=True)]


def make_row(frame_path: str, hashes: dict[tuple[float, ...], bytes | None], content: str | None = None) -> Any:
    """Make a row of detections with these hands and their hashes."""
    hands = [make_detection(box) for box in hashes]  # type: ignore[arg-type]
    return make_detection_row(frame_path, hands=hands) | {"crop_hash": list(hashes.values()), "content": content}


def hash_of(number: int) -> bytes:
    return number.to_bytes(32, "little")


# -- the hash of a sample


def test_the_hash_is_that_of_the_hand_which_overlaps_most() -> None:
    rows = [make_row("a", {FAR: hash_of(1), NEAR: hash_of(2)}), make_row("b", {NEAR: hash_of(3)})]
    averaged = (104, 100, 204, 200)
    assert read_hashes(rows, {"b": NEAR, "a": averaged}) == [hash_of(3), hash_of(2)]


def test_the_first_of_equal_hands_counts() -> None:
    rows = [make_row("a", {(90, 100, 190, 200): hash_of(1), (110, 100, 210, 200): hash_of(2)})]
    assert read_hashes(rows, {"a": NEAR}) == [hash_of(1)]


@pytest.mark.parametrize(("right", "is_known"), [(200, True), (300, True), (301, False), (600, False)])
def test_a_hand_that_overlaps_little_is_another(right: float, is_known: bool) -> None:
    """At IoU .5 it is still the same hand."""
    assert read_hashes([make_row("a", {NEAR: hash_of(5)})], {"a": (100, 100, right, 200)}) == (
        [hash_of(5)] if is_known else [None]
    )


def test_without_hash_hand_or_detections_there_is_none() -> None:
    rows = [make_row("null", {NEAR: None}), make_row("empty", {}), make_row("apart", {NEAR: hash_of(7)})]
    hands: dict[str, tuple[float, ...] | None] = {"null": NEAR, "empty": NEAR, "apart": None, "unknown": NEAR}
    assert read_hashes(rows, hands) == [None] * 4
    assert read_hashes([], {"a": NEAR}) == [None]
    assert read_hashes(rows, {}) == []


def test_hashes_of_a_run_are_those_of_its_crops(sample_run: FinishedRun) -> None:
    samples = sample_run.outcomes.sample(frac=1, random_state=0)
    hashes, has_hash = similarity.read_sample_hashes(sample_run, samples)
    assert has_hash.tolist() == samples["outcome"].eq("paired").tolist()
    assert has_hash.sum() > 90
    for row in np.flatnonzero(has_hash)[:5]:
        sample = samples.iloc[row]
        image = read_image(SAMPLE / "TRAIN_DATA" / sample["frame_path"])
        assert hashes[row].tobytes() == hash_crop(image, pairing.get_boxes(sample, "hand").astype(np.float32))


def test_contents_of_a_run_are_those_of_its_files(sample_run: FinishedRun) -> None:
    frames = sample_run.outcomes.iloc[[9, 3]]
    read = [describe_content((SAMPLE / "TRAIN_DATA" / path).read_bytes()) for path in frames["frame_path"]]
    assert similarity.read_contents(sample_run, frames).tolist() == read
    assert similarity.read_contents(sample_run, frames.assign(frame_path="gone")).tolist() == [None, None]
    assert similarity.read_contents(sample_run, frames[:0]).tolist() == []


def test_a_run_of_0_2_has_neither() -> None:
    run = runs.open_run(FROZEN)
    samples = run.outcomes
    assert not similarity.read_sample_hashes(run, samples)[1].any()
    assert set(similarity.read_contents(run, samples)) == {None}


# -- the landmarks of a sample


def test_landmarks_are_those_that_the_network_is_surest_of() -> None:
    """`hagrid` and `mediapipe` both find a hand, and the landmark network sees it turned upright in only one box."""

    def find(*looks: tuple[tuple[float, ...], float | None, float | None]) -> float:
        row = make_row("a", {box: None for box, _, _ in looks})
        row["landmarks"] = [None if value is None else [value] * 63 for _, value, _ in looks]
        row["presence"] = [presence for _, _, presence in looks]
        found = landmarks.find_landmarks(make_samples({"a": NEAR}), make_detections_table(row))
        assert found.shape == (1, 21, 3)
        return float(found[0, 20, 2])

    near = (NEAR[0], NEAR[1], NEAR[2] + 1, NEAR[3])
    assert find((NEAR, 1, 0.06), (near, 2, 0.99)) == 2
    assert find((NEAR, 1, 0.99), (near, 2, 0.06)) == 1
    assert find((near, 1, 0.99), (NEAR, 2, 0.99)) == 2  # alike: the one that overlaps most
    assert find((NEAR, 1, 0.06), (FAR, 2, 0.99)) == 1
    assert find((NEAR, None, 0.99), (near, 2, None)) == 2
    assert math.isnan(find((NEAR, None, 0.99), (FAR, 2, 0.99)))


# -- different bits


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_bits_are_counted(a: bytes, b: bytes) -> None:
    expected = (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()
    assert count_different_bits(np.frombuffer(a, np.uint64), np.frombuffer(b, np.uint64)) == expected


def find_by_brute_force(hashes: np.ndarray, labels: np.ndarray, bits: int) -> set[tuple[int, int, int]]:
    distance = count_different_bits(hashes[:, None], hashes[None])
    first, second = np.nonzero(np.triu(distance <= bits, 1) & (labels[:, None] != labels[None]))
    return set(zip(first.tolist(), second.tolist(), distance[first, second].tolist(), strict=True))


def collect_pairs(hashes: np.ndarray, labels: np.ndarray, bits: int) -> list[tuple[int, int, int]]:
    return [
        pair
        for batch in find_similar_pairs(hashes, labels, bits)
        for pair in zip(*(v.tolist() for v in batch), strict=True)
    ]


def make_similar(count: int, seed: int, most: int) -> np.ndarray:
    """Return random hashes, of which many differ from another one in up to `most` bits."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (count, 256), dtype=np.uint8)
    for row in range(max(1, count // 3), count):
        bits[row] = bits[random.integers(row)]
        bits[row, random.choice(256, random.integers(most + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)


@pytest.mark.parametrize("bits", [0, 1, 15, 16, 31, 32, 50])
def test_pairs_are_those_of_brute_force(bits: int) -> None:
    hashes, labels = make_similar(600, bits, 2 * bits + 2), np.random.default_rng(1).integers(0, 40, 600)
    expected = find_by_brute_force(hashes, labels, bits)
    found = collect_pairs(hashes, labels, bits)
    assert set(found) == expected
    assert len(found) == len(expected)  # each once
    assert any(distance == bits for *_, distance in found)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 40), groups=st.integers(1, 5), bits=st.integers(0, 31), seed=st.integers(0, 2**32))
def test_pairs_of_few_hashes(count: int, groups: int, bits: int, seed: int) -> None:
    hashes, labels = make_similar(count, seed, 40), np.random.default_rng(seed).integers(0, groups, count)
    assert sorted(collect_pairs(hashes, labels, bits)) == sorted(find_by_brute_force(hashes, labels, bits))


def make_still(count: int, group_size: int, patterns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes of groups in which all crops are alike, and the group of each; groups share a few patterns."""
    random = np.random.default_rng(seed)
    groups = np.arange(count) // group_size
    bits = random.integers(0, 2, (patterns, 256), dtype=np.uint8)[groups % patterns]
    for position in random.integers(0, 256, (6, count)):
        bits[np.arange(count), position] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64), groups


@settings(max_examples=20, deadline=None)
@given(patterns=st.integers(1, 4), group_size=st.integers(10, 150), bits=st.sampled_from([8, 12, 31]))
def test_pairs_of_still_videos(patterns: int, group_size: int, bits: int) -> None:
    hashes, groups = make_still(300, group_size, patterns)
    assert sorted(collect_pairs(hashes, groups, bits)) == sorted(find_by_brute_force(hashes, groups, bits))


@pytest.mark.parametrize(("count", "group_size", "patterns"), [(20_000, 20_000, 1), (20_000, 300, 1), (20_000, 300, 5)])
def test_still_videos_are_linked_at_once(count: int, group_size: int, patterns: int) -> None:
    """All pairs of alike crops would be up to 200 million."""
    hashes, groups = make_still(count, group_size, patterns)
    samples = pd.DataFrame({"frame_path": [f"{k:05}" for k in range(count)], "video_name": groups.astype(str)})
    began = time.process_time()
    links = find_links(samples, [None] * count, hashes, np.ones(count, bool))
    assert time.process_time() - began < 4
    assert len(links) == len(set(groups)) - min(patterns, len(set(groups)))  # a tree per pattern


@settings(max_examples=50, deadline=None)
@given(count=st.integers(2, 60), groups=st.integers(2, 12), seed=st.integers(0, 2**32))
def test_links_connect_what_all_pairs_connect(count: int, groups: int, seed: int) -> None:
    hashes, labels = make_similar(count, seed, 40), np.random.default_rng(seed).integers(0, groups, count)
    samples = pd.DataFrame({"frame_path": [f"{k:02}" for k in range(count)], "video_name": labels.astype(str)})
    links = find_links(samples, [None] * count, hashes, np.ones(count, bool))
    linked = zip(links["group"].astype(int), links["other_group"].astype(int), strict=True)
    pairs = {(int(labels[a]), int(labels[b])) for a, b, _ in find_by_brute_force(hashes, labels, 31)}
    assert find_units(groups, linked) == find_units(groups, pairs)


def find_units(groups: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the least group that pairs connect with each."""
    units = list(range(groups))
    for a, b in pairs:
        low, high = sorted((units[a], units[b]))
        units = [low if unit == high else unit for unit in units]
    return units


def test_equal_hashes_are_pairs_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_CHUNK", 100)
    hashes, labels = np.zeros((60, 4), np.uint64), np.arange(60)
    batches = list(find_similar_pairs(hashes, labels))
    assert max(len(first) for first, *_ in batches) <= 160  # `_CHUNK`, or one row
    assert sum(len(first) for first, *_ in batches) == 60 * 59 // 2


def test_the_largest_distance_does_not_overflow() -> None:
    hashes = np.array([[0] * 4, [2**64 - 1] * 4], np.uint64)
    assert collect_pairs(hashes, np.arange(2), 31) == []
    assert collect_pairs(np.array([[0] * 4, [0, 0, 0, 2**64 - 1]], np.uint64), np.arange(2), 64) == [(0, 1, 64)]


# -- the default


@pytest.mark.slow
def test_the_default_tells_copies_from_other_recordings(shared: Path, tmp_path: Path) -> None:
    """A picture that was saved again, of another data set, is found; no other pair across people comes near."""
    webcam, two_hands = shared / "frames" / "webcam" / "TRAIN_DATA", shared / "frames" / "two_hands" / "images"
    names = [
        *(path for k in range(1, 7) for path in sorted((webcam / f"p0{k}").iterdir())),
        *sorted(two_hands.iterdir()),
    ]
    folder = tmp_path / "frames"
    lines = ["video_name,frame_id,class_name,frame_path"]
    for number, path in enumerate(names):
        group = path.parent.name
        (folder / group).mkdir(parents=True, exist_ok=True)
        (folder / group / path.name).symlink_to(path)
        lines.append(f"{group},{number},stop,{group}/{path.name}")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    run = make_run(tmp_path / "run", images=str(folder), labels=str(tmp_path / "train.csv"))
    samples = run.outcomes
    hashes, has_hash = similarity.read_sample_hashes(run, samples)
    samples, hashes = samples[has_hash].reset_index(drop=True), hashes[has_hash]
    assert len(samples) > 140
    groups = pd.factorize(samples["video_name"])[0]
    paths = samples["frame_path"]
    found = {frozenset((paths[a], paths[b])) for a, b, _ in collect_pairs(hashes, groups, similarity.SIMILAR_BITS)}
    assert found == {frozenset(("p06/0014.jpg", "images/996_pic00014.jpg"))}
    (_, *others) = sorted(distance for *_, distance in find_by_brute_force(hashes, groups, 256))
    assert min(others) > 2 * similarity.SIMILAR_BITS
