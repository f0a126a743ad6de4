"""Splits: which group gets which part, what keeps its place, split.csv, and leaks."""

from __future__ import annotations

import hashlib
import io
import itertools
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from detectime import outcomes, runs, splits
from detectime.detection import manifest
from detectime.report import charts
from detectime.runs import FinishedRun
from detectime.similarity import count_different_bits
from detectime.splits import SplitError, leaks
from detectime.splits.assignment import SHARES
from detectime.splits.stratification import choose_parts, measure_deviation
from detectime.storage import run_tables
from detectime.storage import store as stores
from detectime.storage.store import Store

mpl.use("agg")

FROZEN = Path(__file__).parent / "frozen" / "0.2.0" / "default"
CLASSES = ("ok", "stop", "like")

Groups = dict[str, dict[str, int]]
GROUPS = st.dictionaries(
    st.text(st.sampled_from('ab7,";\nä'), max_size=3),
    st.dictionaries(st.sampled_from(CLASSES), st.integers(0, 12), max_size=3),
    min_size=3,
    max_size=14,
)
"""Groups and the number of their samples of each class."""


def make_samples(groups: Groups) -> pd.DataFrame:
    """Make outcomes of these groups; each also has a frame without a sample."""
    rows = [
        (name, class_name, f"{number}/{class_name}/{k}.jpg", "paired" if k else "no_hand")
        for number, (name, counts) in enumerate(groups.items())
        for class_name, count in (counts or {"ok": 0}).items()
        for k in range(count + 1)
    ]
    table = pd.DataFrame(rows, columns=["video_name", "class_name", "frame_path", "outcome"])
    return table.assign(wanted=True, label=pd.factorize(table["class_name"])[0], frame_id=range(len(table)))


def make_even(count: int, classes: tuple[str, ...] = ("ok",), size: int = 5) -> pd.DataFrame:
    """Make outcomes of groups ``v00`` …, each with samples of one of the classes in turn."""
    return make_samples({f"v{k:02d}": {classes[k % len(classes)]: size} for k in range(count)})


def get_parts(split: pd.DataFrame) -> dict[str, str]:
    assert not split["video_name"].duplicated().any()
    return dict(zip(split["video_name"], split["split"], strict=True))


def make_links(*pairs: tuple[str, str]) -> pd.DataFrame:
    links = pd.DataFrame(pairs, columns=["group", "other_group"])
    frames = {name.replace("group", "frame_path"): links[name] + "/1.jpg" for name in links}
    return links.assign(kind="similar", **frames)


# -- assigning groups


@settings(max_examples=80, deadline=None)
@given(groups=GROUPS, seed=st.integers(0, 5), order=st.integers(0, 99))
def test_every_group_has_one_part_whatever_the_order_of_rows(groups: Groups, seed: int, order: int) -> None:
    samples = make_samples(groups)
    split, notes = splits.make_split(samples, seed=seed)
    assert set(get_parts(split)) == set(groups)
    assert set(split["split"]) == set(SHARES)
    shuffled = samples.sample(frac=1, random_state=order)
    again, notes_again = splits.make_split(shuffled, seed=seed)
    pd.testing.assert_frame_equal(again, split)
    assert notes_again == notes


@settings(max_examples=50, deadline=None)
@given(groups=GROUPS, more=GROUPS, most=GROUPS)
def test_a_run_that_grows_twice_keeps_every_group_where_it_is(groups: Groups, more: Groups, most: Groups) -> None:
    grown = [groups, more | groups, most | more | groups]
    earlier: pd.DataFrame | None = None
    for now in grown:
        split, _ = splits.make_split(make_samples(now), earlier=earlier)
        parts = get_parts(split)
        assert set(parts) == set(now)
        if earlier is not None:
            assert get_parts(earlier).items() <= parts.items()
        earlier = split


def test_many_peoples_videos_keep_their_shares_while_they_grow() -> None:
    random = np.random.default_rng(0)
    people = {f"person {k}": {name: int(random.integers(0, 30)) for name in CLASSES} for k in range(900)}
    earlier: pd.DataFrame | None = None
    for count in (300, 500, 900):
        samples = make_samples(dict(itertools.islice(people.items(), count)))
        split, notes = splits.make_split(samples, earlier=earlier)
        assert notes == []
        counts = splits.count_split(splits.assign_splits(samples, split))
        for name in (*CLASSES, "all"):
            found = counts.loc[name].xs("samples", level=1)
            shares = (found / found.sum()).to_dict()
            assert shares == pytest.approx(dict(SHARES), abs=0.01)
        if earlier is not None:
            assert get_parts(earlier).items() <= get_parts(split).items()
        earlier = split


def test_new_groups_make_up_for_what_is_missing() -> None:
    """The present split has no test; the new videos are few, and still enough."""
    earlier = pd.DataFrame({"video_name": [f"v{k:02d}" for k in range(16)], "split": ["train"] * 14 + ["val"] * 2})
    split, notes = splits.make_split(make_even(20), earlier=earlier)
    assert sorted(part for name, part in get_parts(split).items() if name >= "v16") == [
        "test",
        "test",
        "train",
        "train",
    ]
    assert notes == []


@pytest.mark.parametrize(("classes", "each"), [(34, 1), (34, 3), (18, 4), (6, 2)])
def test_more_classes_than_groups_cover_leave_the_shares_as_they_are(classes: int, each: int) -> None:
    """A run grows a few groups at a time, and each new one has a class that val or test lacks."""
    random, groups = np.random.default_rng(0), {}
    earlier: pd.DataFrame | None = None
    for count in (12, 18, 24, 60):
        while len(groups) < count:
            chosen = random.choice(classes, each, replace=False)
            groups[f"v{len(groups):02d}"] = {f"class {k}": int(random.integers(5, 10)) for k in chosen}
        samples = make_samples(groups)
        earlier, notes = splits.make_split(samples, earlier=earlier)
        shares = splits.assign_splits(samples, earlier)["split"].value_counts(normalize=True)
        assert shares["train"] > 0.65
    assert shares.to_dict() == pytest.approx(dict(SHARES), abs=0.1)
    assert all("go where a class is lacking" in str(note) for note in notes if note.kind == "share")


def test_the_seed_decides() -> None:
    samples = make_even(50)
    found = {tuple(splits.make_split(samples, seed=seed)[0]["video_name"]) for seed in range(5)}
    assert len(found) == 5


def test_each_class_gets_its_shares() -> None:
    samples = make_even(100, CLASSES)
    split, notes = splits.make_split(samples, {"a": 0.5, "b": 0.3, "c": 0.2}, seed=3)
    counts = splits.count_split(splits.assign_splits(samples, split))
    for name in CLASSES:
        groups = counts.loc[name].xs("groups", level=1)
        assert groups.to_dict() == pytest.approx({"a": 0.5 * 33.3, "b": 0.3 * 33.3, "c": 0.2 * 33.3}, abs=1)
    assert notes == []


def test_rare_classes_are_in_every_part() -> None:
    groups: Groups = {f"v{k:03d}": {"ok": 20} for k in range(200)}
    groups |= {f"rare{k}": {"stop": size} for k, size in enumerate((90, 80, 4, 3, 3))}
    samples = make_samples(groups)
    for seed in range(5):
        split, notes = splits.make_split(samples, seed=seed)
        stop = splits.count_split(splits.assign_splits(samples, split)).loc["stop"]
        assert stop.xs("groups", level=1).min() >= 1
        assert stop["train"]["samples"] >= 0.75 * 180
        assert notes == []


def test_groups_without_samples_are_shared_out_too() -> None:
    groups: Groups = {f"v{k:03d}": {"ok": 5} for k in range(50)} | {f"empty{k:03d}": {} for k in range(50)}
    split, _ = splits.make_split(make_samples(groups))
    empty = split[split["video_name"].str.startswith("empty")]["split"].value_counts()
    assert empty.to_dict() == {"train": 40, "val": 5, "test": 5}


def test_frames_that_are_not_wanted_have_no_part() -> None:
    samples = make_even(12)
    samples["wanted"] = samples["video_name"] != "v03"
    split, _ = splits.make_split(samples)
    assert "v03" not in get_parts(split)
    assigned = splits.assign_splits(samples, split)
    assert set(assigned.loc[~assigned["wanted"], "split"]) == {""}
    assert set(assigned.loc[assigned["wanted"], "split"]) == set(SHARES)


@pytest.mark.parametrize("seed", range(6))
def test_parts_are_balanced_better_than_by_chance(seed: int) -> None:
    random, shares = np.random.default_rng(seed), np.array([0.8, 0.1, 0.1])
    counts = random.poisson(random.lognormal(2, 1, (60, 1)) * random.lognormal(0, 0.6, (60, 8))).astype(float)
    parts = choose_parts(counts, shares, np.full(60, -1), random.permutation(480).reshape(60, 8).astype(np.uint64))

    def rate(found: np.ndarray) -> float:
        return float((np.square(measure_deviation(counts, found, shares)) / shares[:, None]).sum())

    assert rate(parts) < 0.5 * min(rate(random.choice(3, 60, p=shares)) for _ in range(200))


@pytest.mark.large
def test_a_large_split_takes_seconds() -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(35_000), 30)
    samples = pd.DataFrame({"video_name": [f"{k:x}" for k in group], "class_name": random.integers(0, 34, len(group))})
    samples = samples.assign(class_name="c" + samples["class_name"].astype(str), frame_path="", outcome="paired")
    began = time.process_time()
    split, notes = splits.make_split(samples)
    assert time.process_time() - began < 15
    assert notes == []
    assert split["split"].value_counts(normalize=True).to_dict() == pytest.approx(dict(SHARES), abs=0.01)


# -- few groups


def test_a_class_in_one_group_is_named() -> None:
    groups: Groups = {f"v{k}": {"ok": 9} for k in range(10)} | {"only": {"stop": 9}}
    _, (note,) = splits.make_split(make_samples(groups))
    assert str(note) == (
        "Class 'stop' has one group, 'only': all its samples are in train, none in val and test; record it in another "
        "video, or with another person."
    )


def test_a_class_in_two_groups_can_be_tested() -> None:
    groups: Groups = {f"v{k}": {"ok": 9} for k in range(20)} | {"s1": {"stop": 9}, "s2": {"stop": 9}}
    _, notes = splits.make_split(make_samples(groups))
    (note,) = [note for note in notes if note.kind == "class_not_in_part"]
    assert "Class 'stop' has 2 groups ('s1', 's2'): all its samples are in train and test, none in val" in str(note)


def test_no_part_is_empty_if_there_are_enough_groups() -> None:
    """Two videos of each of three classes cannot cover three parts, but fill them."""
    split, notes = splits.make_split(make_even(6, CLASSES))
    assert split["split"].value_counts().to_dict() == {"train": 4, "val": 1, "test": 1}
    assert [note.kind for note in notes].count("class_not_in_part") == 3
    assert [note.kind for note in notes].count("share") == 3


@pytest.mark.parametrize(("count", "empty"), [(1, "val and test"), (2, "val")])
def test_fewer_groups_than_parts_are_refused(count: int, empty: str) -> None:
    with pytest.raises(
        SplitError, match=f"leaves? {empty} empty; give fewer parts than train, val, test, or add videos"
    ):
        splits.make_split(make_even(count))
    assert len(splits.make_split(make_even(2), {"train": 0.8, "test": 0.2})[0]) == 2
    assert get_parts(splits.make_split(make_even(1), {"train": 1})[0]) == {"v00": "train"}


# -- groups that belong together


def count_units(groups: list[str], pairs: Iterable[tuple[str, str]]) -> int:
    """Count the sets of groups that pairs connect."""
    unit_of = {name: {name} for name in groups}
    for a, b in pairs:
        joined = unit_of[a] | unit_of[b]
        unit_of |= dict.fromkeys(joined, joined)
    return len({id(unit) for unit in unit_of.values()})


@settings(max_examples=100, deadline=None)
@given(groups=GROUPS, data=st.data())
def test_linked_groups_are_in_one_part(groups: Groups, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(sorted(groups)), st.sampled_from(sorted(groups))), max_size=6))
    units = count_units(sorted(groups), pairs)
    if units < 3:
        with pytest.raises(SplitError, match="tied to|empty" if units < len(groups) else "empty"):
            splits.make_split(make_samples(groups), links=make_links(*pairs))
        return
    split, notes = splits.make_split(make_samples(groups), links=make_links(*pairs))
    parts = get_parts(split)
    assert all(parts[a] == parts[b] for a, b in pairs)
    assert any(note.kind == "tied" for note in notes) == any(a != b for a, b in pairs)


def test_a_group_follows_the_one_that_has_a_part() -> None:
    samples, earlier = make_even(12), pd.DataFrame({"video_name": ["v04"], "split": ["test"]})
    split, notes = splits.make_split(samples, earlier=earlier, links=make_links(("v04", "v07"), ("v07", "v09")))
    assert {get_parts(split)[name] for name in ("v04", "v07", "v09")} == {"test"}
    (note,) = [note for note in notes if note.kind == "tied"]
    assert str(note).startswith("2 groups are kept in one part with others that hold equal or similar pictures")
    assert note.example == "v04 and v07"


def test_ties_that_leave_a_part_empty_are_refused() -> None:
    pairs = [(f"v{k:02d}", f"v{k + 1:02d}") for k in range(8)]
    links = make_links(*pairs)
    with pytest.raises(SplitError, match=r"10 groups of frames .*, tied to 2 by .* leave val empty;") as refusal:
        splits.make_split(make_even(10), links=links)
    assert "(the first: 'v00' and 'v01' hold near-duplicate crops, 'v00/1.jpg' and 'v01/1.jpg')" in str(refusal.value)
    assert "allow_similar = true" in str(refusal.value)
    with pytest.raises(SplitError, match="leave val empty") as refusal:
        splits.make_split(make_even(10), links=links.assign(kind="same_content"))
    assert "allow_similar" not in str(refusal.value)


def test_a_group_that_is_not_wanted_now_fills_its_part() -> None:
    earlier = pd.DataFrame({"video_name": ["v00", "v01", "gone"], "split": ["train", "val", "test"]})
    split, notes = splits.make_split(make_even(2), earlier=earlier)
    assert get_parts(split)["gone"] == "test"
    assert "gone" in {note.kind for note in notes}


def test_one_group_leaves_parts_empty() -> None:
    with pytest.raises(SplitError, match=r"^1 group of frames \(video_name\) leaves val and test empty"):
        splits.make_split(make_even(1))


# -- shares and columns


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.8, "test": 0.1}, "the sum is 0.9; accepted: positive numbers whose sum is 1"),
        ({"train": 80, "test": 20}, "the sum is 100"),
        ({"train": 1.0, "test": 0.0}, "the share of test is 0.0"),
        ({"train": 1.5, "test": -0.5}, "the share of test is -0.5"),
        ({"train": float("nan"), "test": 0.5}, "the share of train is nan"),
        ({"train": "0.5", "test": 0.5}, "the share of train is '0.5'"),
        ({"train": True}, "the share of train is True"),
        ({"": 1.0}, "the part is empty"),
        ({"a/b": 1.0}, "part 'a/b'; accepted: a word"),
        ({"Test": 0.5, "test": 0.5}, "Test and test differ in case only"),
        ({}, "the sum is 0"),
    ],
)
def test_wrong_shares_are_refused(shares: dict[str, Any], message: str) -> None:
    with pytest.raises(SplitError) as refusal:
        splits.make_split(make_even(10), shares)
    assert message in str(refusal.value)


def test_the_sum_of_shares_may_be_rounded() -> None:
    splits.make_split(make_even(10), {"a": 1 / 3, "b": 1 / 3, "c": 0.3333333})


def test_a_column_is_taken_as_it_is() -> None:
    samples = make_even(4)
    samples["part"] = samples["video_name"].map({"v00": "Train", "v01": "validation", "v02": "Train", "v03": "test-2"})
    earlier = pd.DataFrame({"video_name": ["v00"], "split": ["test"]})
    split, notes = splits.make_split(samples, {"nonsense": 5}, column="part", earlier=earlier)
    assert get_parts(split) == {"v00": "Train", "v01": "validation", "v02": "Train", "v03": "test-2"}
    assert notes == []


def test_a_column_that_leaves_a_class_out_of_a_part_is_noted() -> None:
    samples = make_even(6, CLASSES)
    samples["part"] = np.where(samples["video_name"] < "v04", "train", "test")
    _, (note,) = splits.make_split(samples, column="part")
    assert "Class 'ok' has 2 groups ('v00', 'v03'): all its samples are in train, none in test" in str(note)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["train", "train", "test"], "'v00', is in train (frame '0/ok/0.jpg') and in test (frame '0/ok/2.jpg')"),
        (["train", "", "train"], "frame '0/ok/1.jpg' of group 'v00': the part is empty"),
        (["train", None, "train"], "frame '0/ok/1.jpg' of group 'v00': the part is empty"),
        (["a b"] * 3, "part 'a b'; accepted: a word"),
    ],
)
def test_a_wrong_column_is_refused(values: list[Any], message: str) -> None:
    samples = make_even(1, size=2).assign(part=values)
    with pytest.raises(SplitError) as refusal:
        splits.make_split(samples, column="part")
    assert str(refusal.value).startswith("column 'part': ")
    assert message in str(refusal.value)


def test_a_column_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SplitError, match=r"column = 'part': .*accepted: video_name, class_name"):
        splits.make_split(make_even(3), column="part")


def test_parts_that_the_shares_lack_are_refused() -> None:
    earlier = pd.DataFrame({"video_name": ["v00"], "split": ["holdout"]})
    with pytest.raises(SplitError, match=r"split\.csv has the part holdout, and shares has not .* rename split\.csv"):
        splits.make_split(make_even(10), earlier=earlier)


def test_groups_that_are_gone_keep_their_part() -> None:
    earlier = pd.DataFrame({"video_name": ["gone"], "split": ["val"]})
    split, (note,) = splits.make_split(make_even(10), earlier=earlier)
    assert get_parts(split)["gone"] == "val"
    assert str(note) == "1 group of split.csv has no wanted frames; it keeps its part (the first: 'gone')"
    assert split["split"].value_counts()["val"] == 2  # one of them has frames


# -- split.csv


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stores.open_store(tmp_path)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=8), st.sampled_from(["train", "val", "a-1"]), max_size=8))
def test_split_csv_comes_back_as_it_was(parts: dict[str, str]) -> None:
    split = pd.DataFrame({"video_name": list(parts), "split": list(parts.values())}, dtype=str)
    memory = MemoryStore()
    splits.write_split(memory, split)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(splits.read_split(memory), split)  # type: ignore[arg-type]


class MemoryStore:
    """A store with one file."""

    content = b""

    def put(self, name: str, content: bytes) -> None:
        assert name == "split.csv"
        self.content = content

    def get(self, _: str) -> bytes:
        return self.content


@pytest.mark.parametrize(
    "content",
    [
        "video_name,split\n007,train\nNA,test\n",
        "\ufeffvideo_name;split;remark\r\n007;train;\r\nNA; test ;looks odd\r\n",
        'split,video_name\ntrain,"007"\n\ntest,NA\ntrain,007\n',
    ],
)
def test_split_csv_may_be_edited(store: Store, content: str) -> None:
    store.put("split.csv", content.encode())
    split = splits.read_split(store)
    assert split is not None
    assert get_parts(split) == {"007": "train", "NA": "test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video_name,part\na,train\n", "the table has no column split; accepted: video_name,split"),
        ("", "the table has no column video_name"),
        ("video_name,split,split\n", "the table has several columns split"),
        ("video_name,split\na,train\nb,\n", "line 3: group 'b': the part is empty"),
        ("video_name,split\na,../x\n", "line 2: group 'a': part '../x'; accepted: a word"),
        ("video_name,split\na,train\nb,val\na,test\n", "'a' is in train (line 2) and in test (line 4)"),
        ("video_name,split\na,b,train\n", "line 2: 3 fields instead of 2; names with commas stand in quotes"),
        ("video_name,split\na\n", "line 2: 1 fields instead of 2"),
        ('video_name,split\n"a,train\n', "line 2: unexpected end of data"),
        ("video_name,split\na,Test\nb,test\n", "Test and test differ in case only"),
        (b"video_name,split\nJ\xf6rg,train\n", "save it as CSV in UTF-8"),
    ],
)
def test_a_wrong_split_csv_is_refused(store: Store, content: str | bytes, message: str) -> None:
    store.put("split.csv", content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SplitError) as refusal:
        splits.read_split(store)
    assert message in str(refusal.value)
    assert "split.csv" in str(refusal.value)


def test_without_split_csv_there_is_none(store: Store) -> None:
    assert splits.read_split(store) is None


def test_groups_that_split_csv_lacks_are_named() -> None:
    samples = make_even(3)
    split = pd.DataFrame({"video_name": ["v00", "v02"], "split": "train"})
    with pytest.raises(SplitError, match=r"split\.csv: 1 group is not in it, such as 'v01'; make the split again"):
        splits.assign_splits(samples, split)
    mangled = pd.DataFrame({"video_name": ["v00", "1", "v02"], "split": "train"})
    with pytest.raises(SplitError, match=r"such as 'v01'; it has '1' instead, so a spreadsheet may have changed"):
        splits.assign_splits(samples, mangled)
    samples["wanted"] = samples["video_name"] != "v01"
    assert splits.assign_splits(samples, split)["split"].tolist() == np.where(samples["wanted"], "train", "").tolist()


def test_samples_are_counted_by_class_and_part() -> None:
    samples = make_samples({"a": {"ok": 2, "stop": 1}, "b": {"ok": 3}, "c": {}})
    split = pd.DataFrame({"video_name": ["a", "b", "c"], "split": ["train", "other", "test"]})
    counts = splits.count_split(splits.assign_splits(samples, split))
    assert counts["train"].to_dict("list") == {"samples": [2, 1, 3], "groups": [1, 1, 1]}
    assert counts["other"].to_dict("list") == {"samples": [3, 0, 3], "groups": [1, 0, 1]}
    assert counts.index.tolist() == ["ok", "stop", "all"]
    assert splits.count_split(splits.assign_splits(samples[:0], split)).index.tolist() == ["all"]


# -- leaks

LOOKS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 12), st.booleans(), st.integers(0, 15)), max_size=24
)
"""Frames: group, look, whether it has a hash, and number of its content."""


def make_frames(rows: list[tuple[str, int, bool, int]]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Make samples, contents, hashes and which are known; looks next to each other differ in 21 bits."""
    table = pd.DataFrame(rows, columns=["video_name", "look", "has_hash", "content"])
    table = table.assign(frame_path=[f"{k:02d}.jpg" for k in range(len(rows))], class_name="ok", outcome="paired")
    bits = np.arange(256)[None] < 21 * table["look"].to_numpy(int)[:, None]
    hashes = np.packbits(bits, axis=1).view(np.uint64).reshape(-1, 4)
    contents = np.array([f"9 {k}" if k < 12 else None for k in table["content"]], dtype=object)
    return table, contents, hashes, table["has_hash"].to_numpy(bool)


def find_leaking_pairs(frames: tuple[Any, ...], parts: list[str]) -> set[str]:
    """Compare all frames with all others; returns the kinds of leaks."""
    table, contents, hashes, has_hash = frames
    found = set()
    for a, b in itertools.combinations(range(len(table)), 2):
        if parts[a] == parts[b]:
            continue
        if table["video_name"][a] == table["video_name"][b]:
            found.add("same_group")
        elif contents[a] is not None and contents[a] == contents[b]:
            found.add("same_content")
        elif has_hash[a] and has_hash[b] and count_different_bits(hashes[a], hashes[b]) <= 31:
            found.add("similar")
    return found


@settings(max_examples=100, deadline=None)
@given(rows=LOOKS, data=st.data())
def test_leaks_are_found_as_by_brute_force(rows: list[tuple[str, int, bool, int]], data: st.DataObject) -> None:
    frames = make_frames(rows)
    groups = sorted(set(frames[0]["video_name"]))
    part_of = {name: data.draw(st.sampled_from("xyz")) for name in groups}
    samples = frames[0].assign(split=frames[0]["video_name"].map(part_of).astype(str))
    expected = find_leaking_pairs(frames, samples["split"].tolist())
    found = leaks.find_leaks(samples, leaks.find_links(samples, *frames[1:]))
    assert bool(len(found)) == bool(expected)
    assert ("same_content" in set(found["kind"])) == ("same_content" in expected)
    for leak in found.to_dict("records"):
        a, b = (samples.index[samples["frame_path"] == leak[name]][0] for name in ("frame_path", "other_frame_path"))
        assert samples["split"][[a, b]].tolist() == [leak["split"], leak["other_split"]]
        assert samples["video_name"][[a, b]].tolist() == [leak["group"], leak["other_group"]]
        if leak["kind"] == "similar":
            assert count_different_bits(frames[2][a], frames[2][b]) == leak["distance"] <= 31


@settings(max_examples=100, deadline=None)
@given(rows=LOOKS, seed=st.integers(0, 3), order=st.integers(0, 99))
def test_a_split_of_linked_groups_does_not_leak(rows: list[tuple[str, int, bool, int]], seed: int, order: int) -> None:
    samples, *keys = make_frames(rows)
    links = leaks.find_links(samples, *keys)
    mixed = np.random.default_rng(order).permutation(len(samples))
    pd.testing.assert_frame_equal(leaks.find_links(samples.iloc[mixed], *(key[mixed] for key in keys)), links)
    groups = sorted(set(samples["video_name"]))
    if count_units(groups, zip(links["group"], links["other_group"], strict=True)) < 2:
        with pytest.raises(SplitError, match="empty"):
            splits.make_split(samples, {"train": 0.7, "test": 0.3}, seed, links=links)
        return
    split, _ = splits.make_split(samples, {"train": 0.7, "test": 0.3}, seed, links=links)
    splits.check_leaks(splits.assign_splits(samples, split), *keys)


def test_the_message_names_groups_frames_and_the_lines_to_change() -> None:
    rows = [("a,1", 0, True, 0), ("b", 1, True, 1), ("c", 9, True, 0), ("a,1", 5, True, 3)]
    samples, *keys = make_frames(rows)
    samples["split"] = ["train", "test", "val", "train"]
    with pytest.raises(SplitError) as refusal:
        splits.check_leaks(samples, *keys)
    assert str(refusal.value) == (
        "the split leaks; pairs of groups in different parts that hold the same frame: 1, that hold near-duplicate "
        "crops: 1. 'a,1' (train) and 'c' (val) hold the same frame: '00.jpg' and '02.jpg'; 'a,1' (train) and 'b' "
        "(test) hold near-duplicate crops: '00.jpg' and '01.jpg', 21 of 256 bits differ. Put both groups of each pair "
        "into one part, in split.csv: `c,train`, `b,train`"
    )
    with pytest.raises(SplitError, match=r"hold the same frame: 1\. .* split\.csv: `c,train`$"):
        splits.check_leaks(samples, *keys, allow_similar=True)
    samples["split"] = ["train", "test", "train", "train"]
    with pytest.raises(SplitError, match="or accept near-duplicates and parts of one video: allow_similar = true"):
        splits.check_leaks(samples, *keys)
    (note,) = splits.check_leaks(samples, *keys, allow_similar=True)
    assert (note.kind, note.count, note.example) == ("similar", 1, "a,1 and b")


def test_a_group_in_two_parts_leaks() -> None:
    samples, *keys = make_frames([("a", 0, True, 0), ("a", 6, True, 1), ("b", 12, True, 2)])
    with pytest.raises(SplitError, match=r"'a' \(train\) also has frames in test: '01.jpg' and '00.jpg'"):
        splits.check_leaks(samples.assign(split=["test", "train", "train"]), *keys)


def test_frames_of_one_video_are_not_the_same_frame() -> None:
    """`content` is that of the file; two groups may be cut from one, and two files may be copies."""
    paths = ["a.mp4/000001", "a.mp4/000002", "Copy.MP4/000001", "a.mp4/b.jpg", "b.jpg"]
    samples = pd.DataFrame({"frame_path": paths, "video_name": ["p", "q", "r", "s", "t"]})
    contents = ["9 af", "9 af", "9 af", "9 c0", "9 c0"]
    links = leaks.find_links(samples, contents, np.zeros((5, 4), np.uint64), np.zeros(5, bool))
    assert links[["kind", "group", "other_group"]].values.tolist() == [
        ["same_content", "p", "r"],
        ["same_content", "s", "t"],
        ["same_video", "p", "q"],
        ["same_video", "q", "r"],
    ]
    samples["split"] = ["train", "test", "train", "train", "train"]
    with pytest.raises(SplitError, match="are cut from the same video") as refusal:
        splits.check_leaks(samples, contents, np.zeros((5, 4), np.uint64), np.zeros(5, bool))
    assert "same frame" not in str(refusal.value)


def test_what_cannot_be_compared_is_noted() -> None:
    samples, *keys = make_frames([("a", 0, False, 15), ("b", 6, True, 1), ("c", 12, False, 15)])
    samples = samples.assign(split="train", outcome=["paired", "paired", "no_hand"])
    notes = splits.check_leaks(samples, *keys)
    assert [(note.kind, note.count, note.example) for note in notes] == [
        ("unknown_hash", 1, "00.jpg"),
        ("unknown_content", 2, "00.jpg"),
    ]


# -- splitting a run


@pytest.fixture
def run(sample_run: Path, tmp_path: Path) -> FinishedRun:
    """Return a copy of a run on the sample, which has two videos of each class."""
    return runs.open_run(shutil.copytree(sample_run, tmp_path / "run"))


def copy_hand(run: FinishedRun, column: str, source: str, target: str) -> None:
    """Give the frame `target` of a run the content or hash of another."""
    file = Path(str(run.store), "detections.parquet")
    table = pq.read_table(file)
    paths, values = table["frame_path"].to_pylist(), table[column].to_pylist()
    values[paths.index(target)] = values[paths.index(source)]
    position = table.schema.get_field_index(column)
    columns = table.columns
    columns[position] = pa.array(values, table.schema.field(column).type)
    pq.write_table(pa.Table.from_arrays(columns, schema=table.schema), file)


HALVES = {"train": 0.5, "test": 0.5}


def find_names(run: FinishedRun) -> tuple[str, str]:
    """Return a sample of each of two groups."""
    samples = run.outcomes
    samples = samples[samples["outcome"] == "paired"]
    return tuple(samples.loc[samples["video_name"] == name, "frame_path"].iloc[0] for name in ("like_01", "ok_02"))


def test_a_run_is_split(run: FinishedRun) -> None:
    samples, notes = splits.split_run(run, HALVES)
    assert notes == []
    counts = splits.count_split(samples)
    assert (counts.xs("groups", axis="columns", level=1).drop("all") == 1).all(axis=None)
    read = splits.read_split(run.store)
    assert read is not None
    assert splits.assign_splits(samples, read)["split"].equals(samples["split"])
    before = run.store.get("split.csv")
    splits.split_run(run, HALVES, seed=1)
    assert run.store.get("split.csv") == before  # all groups keep their part


def test_an_edited_split_is_kept(run: FinishedRun) -> None:
    run.store.put("split.csv", b"video_name,split\nlike_02,test\nok_01,test\n")
    samples, _ = splits.split_run(run, HALVES)
    parts = get_parts(samples[["video_name", "split"]].drop_duplicates())
    assert (parts["like_02"], parts["ok_01"], parts["like_01"], parts["ok_02"]) == ("test", "test", "train", "train")


@pytest.mark.parametrize("column", ["content", "crop_hash"])
def test_groups_with_equal_pictures_stay_together(run: FinishedRun, column: str) -> None:
    first, second = find_names(run)
    copy_hand(run, column, first, second)
    for seed in range(3):
        run.store.delete(["split.csv"])
        samples, notes = splits.split_run(run, HALVES, seed)
        parts = samples.set_index("frame_path")["split"]
        assert parts[first] == parts[second]
        assert "tied" in {note.kind for note in notes}


@pytest.mark.parametrize("column", ["content", "crop_hash"])
def test_equal_pictures_in_given_parts_are_refused(run: FinishedRun, column: str) -> None:
    first, second = find_names(run)
    copy_hand(run, column, first, second)
    edited = b"video_name,split\nlike_01,train\nok_02,test\n"
    run.store.put("split.csv", edited)
    with pytest.raises(SplitError, match=rf"'{first}' and '{second}'.*in split\.csv: `.*`") as refusal:
        splits.split_run(run, HALVES)
    assert run.store.get("split.csv") == edited
    line = str(refusal.value).partition("split.csv: `")[2].partition("`")[0]
    name = line.partition(",")[0].encode()
    lines = [row for row in edited.split(b"\n") if not row.startswith(name)]
    run.store.put("split.csv", b"\n".join([*lines, line.encode()]))
    splits.split_run(run, HALVES)
    if column == "crop_hash":
        run.store.put("split.csv", edited)
        _, notes = splits.split_run(run, HALVES, allow_similar=True)
        assert [note.example for note in notes if note.kind == "similar"]


def test_a_new_group_between_two_parts_is_named_first(run: FinishedRun) -> None:
    """The parts of the earlier groups need not change: the new one is left out, or divided."""
    samples = run.outcomes[run.outcomes["outcome"] == "paired"]
    like, ok = find_names(run)
    *_, bridge, other = samples.loc[samples["video_name"] == "mute_01", "frame_path"]
    copy_hand(run, "content", like, bridge)
    copy_hand(run, "content", ok, other)
    rest = dict.fromkeys(set(samples["video_name"]) - {"mute_01"}, "train") | {"ok_02": "test"}
    run.store.put("split.csv", "".join(["video_name,split\n", *(f"{k},{v}\n" for k, v in rest.items())]).encode())
    with pytest.raises(SplitError, match="'mute_01' is new and alike with groups of several parts: leave it out, or"):
        splits.split_run(run, HALVES)
    run.store.put("split.csv", (run.store.get("split.csv") or b"") + b"mute_01,train\n")
    with pytest.raises(SplitError, match=r"\. Put both groups of each pair into one part, in split\.csv"):
        splits.split_run(run, HALVES)


def test_equal_frames_without_a_sample_do_not_leak(run: FinishedRun) -> None:
    samples = run.outcomes
    without = samples[samples["wanted"] & ~samples["outcome"].eq("paired")]
    first, second = without.drop_duplicates("video_name")["frame_path"].iloc[:2]
    copy_hand(run, "content", first, second)
    groups = [path.partition("/")[0] for path in (first, second)]
    run.store.put("split.csv", f"video_name,split\n{groups[0]},train\n{groups[1]},test\n".encode())
    splits.split_run(run, HALVES)


def test_equal_frames_without_a_sample_tie_no_groups(run: FinishedRun) -> None:
    """Videos begin with a black frame: tied by it, all would be in one part."""
    samples = run.outcomes
    without = samples[samples["wanted"] & ~samples["outcome"].eq("paired")]
    first, *others = without.drop_duplicates("video_name")["frame_path"]
    assert len(others) > 1
    for other in others:
        copy_hand(run, "content", first, other)
    _, notes = splits.split_run(run, HALVES)
    assert notes == []


def read_made(run: FinishedRun) -> dict[str, Any]:
    """Return what run.json says of the split."""
    made = runs.open_run(str(run.store)).manifest["split"]
    assert made["sha256"] == hashlib.sha256(run.store.get("split.csv") or b"").hexdigest()
    return {key: value for key, value in made.items() if key != "sha256"}


def forget_group(run: FinishedRun, name: str) -> None:
    """Take a group out of split.csv, as if the run had grown by it."""
    lines = (run.store.get("split.csv") or b"").splitlines(keepends=True)
    run.store.put("split.csv", b"".join(line for line in lines if not line.startswith(name.encode())))


def test_the_shares_of_a_split_are_remembered(run: FinishedRun) -> None:
    splits.split_run(run, {"train": 0.4, "test": 0.6}, seed=3)
    forget_group(run, "ok_01,")
    samples, notes = splits.split_run(run)
    assert set(samples["split"]) == {"train", "test"}
    (note,) = [note for note in notes if note.kind == "shares_of_run"]
    assert str(note) == "The shares are those with which split.csv was made: train 0.4, test 0.6."
    assert read_made(run) == {"shares": {"train": 0.4, "test": 0.6}, "seed": 3, "column": None, "edited": True}
    run.store.delete(["split.csv"])
    samples, _ = splits.split_run(run)
    assert set(samples["split"]) == set(SHARES)  # without split.csv, the default


def test_the_record_says_what_made_the_split(run: FinishedRun) -> None:
    splits.split_run(run, HALVES, seed=1)
    made = {"shares": HALVES, "seed": 1, "column": None, "edited": False}
    assert read_made(run) == made
    _, notes = splits.split_run(run, {"train": 0.7, "test": 0.3}, seed=2)
    assert "The seed has no effect: all groups are in split.csv." in map(str, notes)
    assert read_made(run) == made
    assert "unused_seed" not in {note.kind for note in splits.split_run(run, HALVES)[1]}


def test_the_record_says_that_a_person_edited_the_split(run: FinishedRun) -> None:
    splits.split_run(run, HALVES)
    content = run.store.get("split.csv") or b""
    run.store.put(
        "split.csv", content.replace(b"like_01,train", b"like_01,test").replace(b"ok_02,train", b"ok_02,test")
    )
    assert run.store.get("split.csv") != content
    for _ in range(2):
        splits.split_run(run)
        assert read_made(run)["edited"]


def test_a_split_of_a_person_alone_has_no_record(run: FinishedRun) -> None:
    splits.split_run(run, HALVES)
    run.manifest["split"] = None
    manifest.write_manifest(run.store, run.manifest)
    splits.split_run(run, HALVES)
    assert runs.open_run(str(run.store)).manifest["split"] is None


def add_column(run: FinishedRun, parts: Any) -> FinishedRun:
    """Return the run with the column `split` in its labels."""
    frames = run.frames
    table = frames.assign(split=parts)
    table.attrs = frames.attrs
    run_tables.write_frames(run.store, table)
    run = runs.open_run(str(run.store))
    outcomes.pair_run(run)
    return run


def test_a_column_sets_an_edited_split_aside(run: FinishedRun) -> None:
    run = add_column(run, np.where(run.frames["video_name"].str.endswith("1"), "train", "test"))
    groups = sorted(set(run.outcomes.loc[run.outcomes["wanted"], "video_name"]))
    edited = "video_name,split\n" + "".join(f"{name},test\n" for name in groups)
    run.store.put("split.csv", edited.encode())
    _, notes = splits.split_run(run, column="split")
    (note,) = [note for note in notes if note.kind == "moved"]
    assert note.count == sum(name.endswith("1") for name in groups)
    (kept,) = {path.name for path in Path(str(run.store)).glob("split.*")} - {"split.csv"}
    assert kept in str(note)
    assert run.store.get(kept) == edited.encode()
    assert read_made(run) == {"shares": None, "seed": None, "column": "split", "edited": False}
    assert splits.split_run(run, column="split")[1] == []  # nothing moves
    forget_group(run, "ok_01,")
    splits.split_run(run, HALVES)
    assert read_made(run) == {"shares": HALVES, "seed": 0, "column": None, "edited": True}
    assert len(list(Path(str(run.store)).glob("split.*"))) == 2


def test_a_column_with_one_part_is_noted(run: FinishedRun) -> None:
    _, notes = splits.split_run(add_column(run, "train"), column="split")
    assert "All groups are in one part, train: nothing is left to test with." in map(str, notes)


def test_what_a_person_wrote_beside_the_parts_is_kept(run: FinishedRun) -> None:
    groups = sorted(set(run.outcomes.loc[run.outcomes["wanted"], "video_name"]))
    edited = "split;remark;video_name\r\n" + f"train;good light;{groups[0]}\r\n\r\ntest;;{groups[1]}"
    run.store.put("split.csv", edited.encode())
    splits.split_run(run, HALVES)
    content = (run.store.get("split.csv") or b"").decode()
    assert content.startswith(f"{edited}\r\n")
    assert sorted(line.rpartition(";")[2] for line in content.splitlines()[1:] if line) == groups
    splits.split_run(run, HALVES)
    assert (run.store.get("split.csv") or b"").decode() == content


@pytest.mark.parametrize("name", ["OK_01", "ok_01 ", " ok_01"])
def test_a_name_that_differs_by_blanks_or_case_is_refused(run: FinishedRun, name: str) -> None:
    run.store.put("split.csv", f"video_name,split\n{name},test\n".encode())
    with pytest.raises(SplitError, match=rf"split\.csv: the run has no group '{name}', but 'ok_01'; correct the name"):
        splits.split_run(run, HALVES)


def test_a_column_of_the_labels_is_used_or_named(run: FinishedRun) -> None:
    run = add_column(run, np.where(run.frames["video_name"].str.endswith("1"), "train", "test"))
    _, notes = splits.split_run(run, HALVES)
    assert [str(note) for note in notes] == [
        'The column split of the labels is not used; to take it: column = "split".'
    ]
    samples, notes = splits.split_run(run, column="split")
    assert (samples["split"] == np.where(samples["video_name"].str.endswith("1"), "train", "test")).all()
    assert {note.kind for note in notes} <= {"moved"}
    read = splits.read_split(run.store)
    assert read is not None
    assert get_parts(read)["ok_02"] == "test"


def test_a_run_of_0_2_is_split_and_says_what_is_not_checked(tmp_path: Path) -> None:
    run = runs.open_run(shutil.copytree(FROZEN, tmp_path / "run"))
    samples, notes = splits.split_run(run, HALVES)
    found = {note.kind: note.count for note in notes}
    assert found["unknown_hash"] == samples["outcome"].eq("paired").sum()
    assert found["unknown_content"] == samples["outcome"].eq("paired").sum()


# -- the figure


@pytest.mark.parametrize("classes", [1, 7, 34])
def test_the_figure_shows_groups_of_each_class_and_part(classes: int) -> None:
    names = [f"class {k}" for k in range(classes)]
    samples = make_samples({f"v{k:03d}": {names[k % classes]: 3} for k in range(12 * classes)} | {"only": {"rare": 2}})
    samples = splits.assign_splits(samples, splits.make_split(samples)[0])
    figure = charts.plot_split(samples[samples["outcome"] == "paired"])
    left, right = figure.axes
    figure.draw_without_rendering()
    assert [label.get_text() for label in left.get_yticklabels()] == [*names, "rare", "all"]
    texts = sorted(right.texts, key=lambda text: text.xy[1])
    counts = splits.count_split(samples).xs("groups", axis="columns", level=1)
    assert len(texts) == classes + 1  # none for "all", which has no bar there
    for row, name in enumerate([*names, "rare"]):
        assert texts[row].get_text() == " · ".join(map(str, counts.loc[name]))
    assert texts[classes].get_text() == "1 · 0 · 0"
    assert texts[classes].get_color() != texts[0].get_color()
    assert all(float(tick).is_integer() for tick in right.get_xticks())
    stream = io.BytesIO()
    figure.savefig(stream, format="jpeg", bbox_inches="tight")
    plt.close(figure)
    assert len(stream.getvalue()) < 300_000


def test_the_figure_of_no_samples_is_empty() -> None:
    samples = make_even(3).assign(split="")[:0]
    figure = charts.plot_split(samples)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["all"]
    plt.close(figure)
