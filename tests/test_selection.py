"""Filters, order and counts of the explorer: each equals a loop over the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_detection, make_detection_row, make_detections_table, make_frame_table
from hypothesis import given, settings
from hypothesis import strategies as st

from detectime import pairing
from detectime.comparison import Change, compare_samples
from detectime.config import PairingConfig
from detectime.errors import ConfigError
from detectime.schema import SAMPLES
from detectime.widgets.selection import SORTS, Filter, count_rows, list_detectors, read_filter, select_rows, sort_rows

COUNT = 300
GROUPS = ("a", "A b", "ab.*", "Äpfel", "b(", "a\\", "")
PEOPLE = (None, None, "anna", "ben", "anna, ben", "Anna K., jr")


def make_samples(seed: int = 0) -> pd.DataFrame:
    """Pair random detections of two detectors, and pretend that people decided on some."""
    random = np.random.default_rng(seed)

    def make_hand() -> dict[str, Any]:
        x, y, size = random.integers(0, 400, 3)
        detector = str(random.choice(["hagrid", "mediapipe"]))
        hand: dict[str, Any] = make_detection((x, y, x + size / 4 + 1, y + size / 4 + 1), detector)
        return hand | {"score": random.integers(0, 5) / 4}

    rows: list[dict[str, Any]] = []
    detected = []
    for k in range(COUNT):
        group = str(random.choice(GROUPS))
        name = str(random.choice(["ok", "mute", "no_gesture"]))
        rows.append({"frame_path": f"{group}/{k}.JPG", "video_name": group, "class_name": name})
        rows[-1]["wanted"] = name != "no_gesture"
        faces = [(200, 200, 240, 250)] * int(random.integers(0, 3))
        hands = [make_hand() for _ in range(random.integers(0, 4))]
        if hands and random.random() < 0.5:
            hands.append(hands[0] | {"detector": "hagrid"})
        outcome = "ok" if random.random() < 0.9 else "unreadable"
        row = make_detection_row(str(rows[-1]["frame_path"]), faces, hands, outcome=outcome)
        for face in row["faces"]:
            face["score"] = random.integers(0, 5) / 4
        if outcome != "ok":
            row |= {"error": f"Cut off at byte {k}", "faces": [], "hands": []}
        detected.append(row)
    samples = pairing.pair_frames(make_frame_table(rows), make_detections_table(*detected), PairingConfig())
    people = pd.Series([PEOPLE[k] for k in random.choice(len(PEOPLE), COUNT)], dtype=object)
    return samples.assign(decided_by=people, decision=people.where(people.isna(), "keep"))


SAMPLES_TABLE = make_samples()
OTHER = SAMPLES_TABLE.assign(
    outcome=make_samples(1)["outcome"], **{f"{kind}_x1": SAMPLES_TABLE[f"{kind}_x1"] - 1 for kind in ("hand", "bbox")}
)
CHANGES = compare_samples(SAMPLES_TABLE, OTHER)
DOUBT = np.where(SAMPLES_TABLE["wanted"], np.random.default_rng(2).integers(0, 5, COUNT) / 4, np.nan)
NEW = frozenset(SAMPLES_TABLE["frame_path"].iloc[::7])


def meets(row: dict[Any, Any], wanted: Filter, doubt: float, change: str, groups: set[str]) -> Iterator[bool]:
    """Yield whether a row meets each condition that is set."""
    if wanted.classes:
        yield row["class_name"] in wanted.classes
    if wanted.outcomes:
        yield row["outcome"] in wanted.outcomes
    if wanted.changes:
        yield change in wanted.changes
    if wanted.group in groups:
        yield row["video_name"] == wanted.group or not wanted.group
    else:
        yield wanted.group.lower() in row["video_name"].lower()
    if wanted.detector:
        yield isinstance(row["found_by"], str) and wanted.detector in row["found_by"].split("+")
    texts = [
        row["frame_path"],
        row["video_name"],
        row["class_name"],
        row["error"] if isinstance(row["error"], str) else "",
    ]
    yield any(wanted.text.lower() in text.lower() for text in texts)
    is_decided = isinstance(row["decision"], str)
    yield {"any": True, "yes": is_decided, "no": not is_decided, "new": row["frame_path"] in NEW}[wanted.decided]
    if wanted.decided_by:
        names = row["decided_by"] if is_decided else ""
        yield wanted.decided_by == names or wanted.decided_by in names.split(", ")
    if wanted.doubt is not None:
        yield wanted.doubt[0] <= doubt <= wanted.doubt[1]


def some(*values: str) -> st.SearchStrategy[list[str]]:
    return st.one_of(st.just([]), st.lists(st.sampled_from(values), max_size=4))


filters = st.fixed_dictionaries(
    {},
    optional={
        "classes": some("ok", "mute", "no_gesture", "wave"),
        "outcomes": some("paired", "apart", "no_hand", "no_face", "left_out", "unreadable"),
        "changes": some("gained", "lost", "moved", "same", "other_reason"),
        "group": st.sampled_from([*GROUPS, "B", "Z", "äPFEL", ".", "\\"]),
        "detector": st.sampled_from(["", "hagrid", "mediapipe", "media", "hagrid+mediapipe"]),
        "text": st.sampled_from(["", "1", ".jpg", "a", "ÄP", ".*", "(", "\\", "byte 1", "[", "\0", "no such"]),
        "decided": st.sampled_from(["any", "yes", "no", "new"]),
        "decided_by": st.sampled_from(["", "anna", "ben", "Anna K., jr", "nobody"]),
        "doubt": st.sampled_from([None, [0, 1], [0.25, 0.5], [0.5, 0.5], [1, 0]]),
    },
)


@settings(deadline=None, max_examples=150)
@given(values=filters)
def test_a_filter_equals_a_loop_over_the_rows(values: dict[str, Any]) -> None:
    wanted = read_filter(values)
    groups = set(SAMPLES_TABLE["video_name"])
    rows = zip(SAMPLES_TABLE.to_dict("records"), DOUBT.tolist(), CHANGES["change"].tolist(), strict=True)
    expected = [k for k, (row, doubt, change) in enumerate(rows) if all(meets(row, wanted, doubt, change, groups))]
    found = select_rows(SAMPLES_TABLE, wanted, doubt=DOUBT, changes=CHANGES["change"], new=NEW)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_an_empty_filter_wants_all_rows() -> None:
    assert read_filter({}) == Filter()
    assert select_rows(SAMPLES_TABLE, Filter()).tolist() == list(range(COUNT))
    assert select_rows(SAMPLES_TABLE.iloc[:0], Filter(text="a", group="b", detector="c")).tolist() == []


def test_what_is_not_known_is_no_condition() -> None:
    wanted = read_filter({"changes": ["moved"], "doubt": [0.5, 1]})
    assert len(select_rows(SAMPLES_TABLE, wanted)) == COUNT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"klass": []}, r"klass: there is no such filter; did you mean 'classes'\? accepted: classes, outcomes, "),
        ({"classes": "ok"}, "classes = 'ok': accepted: a list of names"),
        ({"classes": [1]}, r"classes = \[1\]: accepted: a list of names"),
        ({"classes": None}, "classes = None: accepted: a list of names"),
        ({"outcomes": ["pared"]}, r"outcomes = \['pared'\]: there is no 'pared'; did you mean 'paired'\?"),
        ({"changes": ["moved", "x"]}, "changes = .*: there is no 'x'; accepted: gained, lost, "),
        ({"group": 3}, "group = 3: accepted: text"),
        ({"text": "\ud800"}, "text = .*: accepted: text"),
        ({"decided": "later"}, "decided = 'later': accepted: any, yes, no, new"),
        ({"decided": []}, r"decided = \[\]: .*"),
        ({"doubt": [0.5]}, r"doubt = \[0.5\]: accepted: null, or the lowest and the highest doubt"),
        ({"doubt": [0, "1"]}, "doubt = .*: accepted: null, or"),
        ({"doubt": [0, math.nan]}, "doubt = .*: accepted: null, or"),
        ({"doubt": {"low": 0}}, "doubt = .*: accepted: null, or"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        read_filter(values)


def get_value(row: dict[Any, Any], by: str, doubt: float) -> Any:
    """Return what a row is sorted by, NaN or None if there is nothing."""
    match by:
        case "doubt":
            return doubt
        case "size":
            return (row["hand_x2"] - row["hand_x1"]) * (row["hand_y2"] - row["hand_y1"]) / (640 * 480)
        case "group":
            return row["video_name"]
    return row[by]


@pytest.mark.parametrize("by", [name for name in SORTS if name != "table"])
@pytest.mark.parametrize("descending", [False, True])
def test_rows_are_sorted_stably_with_nothing_last(by: str, descending: bool) -> None:
    rows = np.arange(0, COUNT, 2)
    values = {k: get_value(SAMPLES_TABLE.iloc[k].to_dict(), by, DOUBT[k]) for k in rows.tolist()}
    known = [k for k in values if values[k] == values[k]]
    # Python keeps equal values in order, also in reverse.
    expected = sorted(known, key=lambda k: values[k], reverse=descending)
    expected += [k for k in values if k not in known]
    found = sort_rows(SAMPLES_TABLE, rows, by, descending, doubt=DOUBT)
    assert found.tolist() == expected
    assert len({str(values[k]) for k in known}) > 3


def test_the_order_of_the_table_can_be_reversed() -> None:
    rows = np.array([2, 5, 9])
    assert sort_rows(SAMPLES_TABLE, rows, "table").tolist() == [2, 5, 9]
    assert sort_rows(SAMPLES_TABLE, rows, "table", descending=True).tolist() == [9, 5, 2]
    assert sort_rows(SAMPLES_TABLE, rows, "doubt", descending=True).tolist() == [2, 5, 9]  # not scored yet


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="sort = 'doubts': did you mean 'doubt'"):
        sort_rows(SAMPLES_TABLE, np.arange(3), "doubts")


def test_counts_are_those_of_a_loop() -> None:
    counts = count_rows(OTHER, SAMPLES_TABLE, CHANGES)
    is_sample, was_sample = OTHER["outcome"].isin(SAMPLES), SAMPLES_TABLE["outcome"].isin(SAMPLES)
    assert counts["samples"] == is_sample.sum()
    assert counts["saved_samples"] == was_sample.sum()
    assert counts["outcomes"] == OTHER["outcome"].value_counts().to_dict()
    both_left_out = (OTHER["outcome"] == "left_out") & (SAMPLES_TABLE["outcome"] == "left_out")
    expected = CHANGES.loc[~both_left_out, "change"].value_counts()
    names = [Change.GAINED, Change.LOST, Change.RELABELLED, Change.MOVED, Change.OTHER_REASON]
    assert counts["changes"] == {name.value: expected[name.value] for name in names}
    for name, found in counts["classes"].items():
        of_class = OTHER["class_name"] == name
        assert found == {
            "frames": (of_class & OTHER["wanted"]).sum(),
            "samples": (of_class & is_sample).sum(),
            "saved_samples": (of_class & was_sample).sum(),
        }
    assert counts["classes"].keys() == set(OTHER["class_name"])
    assert count_rows(SAMPLES_TABLE, SAMPLES_TABLE, None)["changes"] is None


def test_detectors_are_listed() -> None:
    assert list_detectors(SAMPLES_TABLE) == ["hagrid", "mediapipe"]
    assert list_detectors(SAMPLES_TABLE.iloc[:0]) == []
