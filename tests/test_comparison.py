"""What differs between two runs: frame by frame, per class, in settings, against truth; as text, page and table."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import FROZEN, LABELS, Box, make_detection_row, make_frame_table
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from PIL import Image

from detectime import boxes, comparison, evaluation, outcomes, runs, sources
from detectime.cli.main import main
from detectime.comparison import (
    Change,
    Comparison,
    ComparisonError,
    compare_decisions,
    compare_runs,
    compare_samples,
    compare_settings,
    count_changes,
    count_classes,
    format_comparison,
    summarize_comparison,
    summarize_moves,
)
from detectime.comparison.changes import fit_boxes
from detectime.config import PairingConfig, load_config
from detectime.decision_files import DecisionLog
from detectime.detection import run as detection_run
from detectime.detection.manifest import RunError
from detectime.errors import ConfigError
from detectime.judgements import Judgement, judge_frames
from detectime.labels import frame_table
from detectime.notes import Note
from detectime.report import comparison as report_comparison
from detectime.report.comparison import make_comparison_page
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, DETECTIONS, SAMPLES, Outcome
from detectime.truth import Truth

FACE: Box = (100, 100, 150, 150)
HAND: Box = (160, 100, 200, 150)
NEAR: Box = (165, 100, 205, 150)  # IoU with HAND .78
ALONE: Box = (500, 300, 540, 360)  # no pair with FACE

PAIRED: dict[str, Any] = {"faces": [FACE], "hands": [HAND]}
MOVED: dict[str, Any] = {"faces": [FACE], "hands": [NEAR]}
APART: dict[str, Any] = {"faces": [FACE], "hands": [ALONE]}
NO_HAND: dict[str, Any] = {"faces": [FACE]}
NO_FACE: dict[str, Any] = {"hands": [HAND]}
MISSING: dict[str, Any] = {"outcome": "missing"}


class KnownDetections:
    """An engine that returns given rows of the detections table."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.rows = rows

    def __call__(self, shards: Any, *_: Any) -> Iterator[tuple[Any, pa.Table]]:
        shards.share_among(1)
        while shards:
            shard = shards.popleft()
            yield shard, pa.Table.from_pylist([dict(self.rows[name]) for name in shard], schema=DETECTIONS)


def make_run(
    output: Path,
    frames: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    images: Path | None = None,
    **parameters: Any,
) -> FinishedRun:
    """Make a paired run.

    Parameters
    ----------
    output
        Its folder.
    frames
        By `frame_path`: arguments of `make_detection_row`, and columns of the detections table.
    labels
        By `frame_path`: columns of the frame table that are not the default: class ok, a group per folder.
    images
        The folder of the frames.
    parameters
        Of the configuration.
    """
    rows = {name: _make_row(name, **values) for name, values in frames.items()}
    config = load_config(
        parameters={"images": str(images or output.parent), "output": str(output), "source_type": "folder"} | parameters
    )
    of_labels = labels or {}
    table = make_frame_table(
        {
            "frame_path": name,
            "video_name": name.partition("/")[0],
            "on_disk": values.get("outcome") != "missing",
            **of_labels.get(name, {}),
        }
        for name, values in frames.items()
    )
    table["label"] = table["class_name"].map(config.labels).astype("int64")
    table = frame_table.select_frames(table.drop(columns="wanted"), config.classes, config.selection.limit)
    source = sources.open_source(config.data.images, config.data.source_type)
    detection_run.detect_frames(table, source, config, str(output), KnownDetections(rows))
    made = runs.open_run(output)
    outcomes.pair_run(made, config.pairing)
    return made


def _make_row(
    frame_path: str, *, content: str | None = "5-36", orientation: int | None = 1, **values: Any
) -> dict[str, Any]:
    return {**make_detection_row(frame_path, **values), "content": content, "orientation": orientation}


def get_changes(found: Comparison) -> dict[str, str]:
    return dict(zip(found.frames["frame_path"], found.frames["change"].astype(str), strict=True))


def get_notes(found: Comparison) -> dict[str, Any]:
    return {note.kind: note for note in found.notes}


@pytest.fixture
def before(tmp_path: Path) -> FinishedRun:
    """Make a run of one frame for each change."""
    frames = {
        "v/same.jpg": PAIRED,
        "v/moved.jpg": PAIRED,
        "v/gained.jpg": NO_HAND,
        "w/lost.jpg": PAIRED,
        "w/relabelled.jpg": PAIRED,
        "w/other.jpg": NO_HAND,
        "w/without.jpg": APART,
    }
    return make_run(tmp_path / "before", frames)


@pytest.fixture
def after(tmp_path: Path) -> FinishedRun:
    """Make the other run."""
    frames = {
        "v/same.jpg": PAIRED,
        "v/moved.jpg": MOVED,
        "v/gained.jpg": PAIRED,
        "w/lost.jpg": MISSING,
        "w/relabelled.jpg": PAIRED,
        "w/other.jpg": NO_FACE,
        "w/without.jpg": APART,
    }
    return make_run(tmp_path / "after", frames, {"w/relabelled.jpg": {"class_name": "stop"}}, crop_coefficient=1.4)


# -- the arithmetic


def make_samples(rows: list[tuple[str, str, Box]], names: list[str] | None = None) -> pd.DataFrame:
    """Make an outcomes table from classes, outcomes and boxes; frames without a sample have none."""
    table = pd.DataFrame(
        {
            "frame_path": names or [f"{number}.jpg" for number in range(len(rows))],
            "video_name": "v",
            "class_name": [name for name, _, _ in rows],
            "label": [LABELS[name] for name, _, _ in rows],
            "outcome": [outcome for _, outcome, _ in rows],
            "content": "5-36",
            "width": 640.0,
            "height": 480.0,
            "orientation": 1.0,
        }
    )
    corners = np.array([box if outcome in SAMPLES else [np.nan] * 4 for _, outcome, box in rows], float).reshape(-1, 4)
    for kind in ("hand", "bbox"):
        table[[f"{kind}_{corner}" for corner in CORNERS]] = corners
    return table


OUTCOMES = [outcome.value for outcome in Outcome]
ROWS = st.tuples(st.sampled_from(["ok", "mute"]), st.sampled_from(OUTCOMES), st.sampled_from([HAND, NEAR, ALONE]))
PAIRS = st.lists(st.tuples(ROWS, ROWS), max_size=12)


def name_change(a: tuple[str, str, Box], b: tuple[str, str, Box]) -> Change:
    """Say what became of a frame, without tables."""
    has_a, has_b = (row[1] in SAMPLES for row in (a, b))
    if has_a and has_b:
        return Change.RELABELLED if a[0] != b[0] else Change.SAME if a[2] == b[2] else Change.MOVED
    if has_a or has_b:
        return Change.GAINED if has_b else Change.LOST
    return Change.SAME_WITHOUT if a[1] == b[1] else Change.OTHER_REASON


@given(PAIRS)
@effort(max_examples=60, deadline=None)
def test_every_frame_has_the_change_that_follows_from_its_two_rows(pairs: list[Any]) -> None:
    a, b = (make_samples([pair[side] for pair in pairs]) for side in (0, 1))
    found = compare_samples(a, b)
    assert found["change"].astype(str).tolist() == [name_change(*pair).value for pair in pairs]
    both = [one[1] in SAMPLES and other[1] in SAMPLES for one, other in pairs]
    expected = [
        boxes.compute_iou(one[2], other[2]) if is_both else np.nan
        for (one, other), is_both in zip(pairs, both, strict=True)
    ]
    np.testing.assert_allclose(found["iou"], np.array(expected, float))


@given(PAIRS)
@effort(max_examples=60, deadline=None)
def test_counts_of_classes_add_up(pairs: list[Any]) -> None:
    a, b = (make_samples([pair[side] for pair in pairs]) for side in (0, 1))
    counts = count_classes(compare_samples(a, b))
    for samples, column in ((a, "samples_a"), (b, "samples_b")):
        classes = samples.loc[samples["outcome"].isin(SAMPLES), "class_name"].value_counts()
        assert counts.loc[counts[column] > 0, column].to_dict() == classes.to_dict()
    change = counts["gained"] - counts["lost"] + counts["relabelled_in"] - counts["relabelled_out"]
    assert (counts["samples_b"] == counts["samples_a"] + change).all()


@given(PAIRS, st.randoms(use_true_random=False))
@effort(max_examples=40, deadline=None)
def test_neither_the_order_of_the_rows_nor_the_index_matters(pairs: list[Any], random: Any) -> None:
    a, b = (make_samples([pair[side] for pair in pairs]) for side in (0, 1))
    order = list(range(len(b)))
    random.shuffle(order)
    shuffled = b.iloc[order].set_axis(range(100, 100 + len(b)))
    pd.testing.assert_frame_equal(compare_samples(a, shuffled), compare_samples(a, b))


def test_the_reverse_comparison_is_the_mirror_image() -> None:
    rows = [("ok", outcome, box) for outcome in OUTCOMES for box in (HAND, NEAR)]
    a, b = make_samples(rows), make_samples(rows[3:] + rows[:3])
    there, back = count_changes(compare_samples(a, b)), count_changes(compare_samples(b, a))
    assert there[Change.GAINED] == back[Change.LOST] > 0
    assert there.drop(["gained", "lost"]).to_dict() == back.drop(["gained", "lost"]).to_dict()


def test_a_crop_that_alone_differs_is_a_move_with_an_iou_of_1() -> None:
    a = make_samples([("mute", "paired", HAND)])
    found = compare_samples(a, a.assign(bbox_x1=0.0))
    assert found[["change", "iou"]].values.tolist() == [["moved", 1.0]]
    assert summarize_moves(found)["crop_only"] == 1


def test_a_hand_that_differs_by_less_than_its_crop_shows_is_the_same() -> None:
    a = make_samples([("ok", "paired", HAND)])
    found = compare_samples(a, a.assign(hand_x1=160.25))
    assert found["change"].tolist() == ["same"]
    assert found["iou"].iloc[0] < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("pixels_a", "pixels_b"), [("stored", "upright"), ("upright", "stored")])
def test_boxes_in_other_pixels_are_turned(orientation: int, pixels_a: str, pixels_b: str) -> None:
    stored, size = np.array([HAND]), (640, 480)
    upright = boxes.turn_boxes(stored, orientation, *size)
    upright_size = size[::-1] if orientation in boxes.SIDEWAYS else size
    tables = {}
    for pixels, corners, (width, height) in (("stored", stored, size), ("upright", upright, upright_size)):
        table = make_samples([("ok", "paired", tuple(corners[0]))])
        tables[pixels] = table.assign(width=float(width), height=float(height), orientation=float(orientation))
    found = compare_samples(tables[pixels_a], tables[pixels_b], pixels_a=pixels_a, pixels_b=pixels_b)
    assert found[["change", "iou", "content_changed"]].values.tolist() == [["same", 1.0, False]]


def test_the_orientation_of_either_run_serves() -> None:
    a = make_samples([("ok", "paired", (0, 0, 10, 20))]).assign(orientation=np.nan)  # as 0.2
    b = make_samples([("ok", "paired", (460, 0, 480, 10))]).assign(orientation=6.0, width=480.0, height=640.0)
    assert compare_samples(a, b, pixels_a="stored")["change"].tolist() == ["same"]
    unknown = compare_samples(a, b.assign(orientation=np.nan), pixels_a="stored")
    assert unknown["change"].tolist() == ["moved"]
    assert unknown["iou"].isna().all()


def test_boxes_of_a_shrunk_edition_are_scaled_and_its_frames_changed() -> None:
    a = make_samples([("ok", "paired", (20, 20, 40, 40))])
    b = make_samples([("ok", "paired", (10, 10, 20, 20))]).assign(width=320.0, height=240.0)
    assert compare_samples(a, b)[["change", "iou", "content_changed"]].values.tolist() == [["same", 1.0, True]]
    other = compare_samples(a, b.assign(height=320.0))
    assert other["iou"].isna().all()
    assert np.isnan(fit_boxes(np.ones((1, 4)), a, b.assign(height=320.0))).all()


def test_unknown_contents_are_not_changed_contents() -> None:
    a = make_samples([("ok", "paired", HAND)] * 3)
    b = a.assign(content=pd.array(["5-36", "6-36", None], "str"))
    assert compare_samples(a, b)["content_changed"].tolist() == [False, True, False]
    assert compare_samples(b.assign(content=None), a)["content_changed"].tolist() == [False] * 3


def test_many_rows_are_compared_at_once() -> None:
    count = 175_000
    random = np.random.default_rng(0)
    table = make_samples([("ok", "paired", HAND)]).loc[np.zeros(count, int)].reset_index(drop=True)
    table = table.assign(frame_path=pd.array([f"v/{k}.jpg" for k in range(count)], "str"))
    other = table.assign(hand_x1=random.uniform(0, 160, count), outcome=random.choice(["paired", "apart"], count))
    began = time.process_time()
    compare_samples(table, other)
    assert time.process_time() - began < 0.5  # 0.03 on a machine with nothing else to do


# -- runs


def test_every_change_of_two_runs(before: FinishedRun, after: FinishedRun) -> None:
    found = compare_runs(before, after)
    assert get_changes(found) == {
        "v/same.jpg": "same",
        "v/moved.jpg": "moved",
        "v/gained.jpg": "gained",
        "w/lost.jpg": "lost",
        "w/relabelled.jpg": "relabelled",
        "w/other.jpg": "other_reason",
        "w/without.jpg": "same_without",
    }
    assert found.frames.loc[1, "iou"] == pytest.approx(boxes.compute_iou(HAND, NEAR))
    assert found.classes.loc["ok"].to_dict() == {
        "samples_a": 4,
        "samples_b": 3,
        "gained": 1,
        "lost": 1,
        "moved": 1,
        "relabelled_in": 0,
        "relabelled_out": 1,
        "same": 1,
    }
    assert found.settings.values.tolist() == [["pairing.crop_coefficient", "1.5", "1.4"]]
    assert list(found.samples_b["frame_path"]) == list(found.frames["frame_path"])


def test_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frames = dict.fromkeys(["v/1.jpg", "v/2.jpg", "v/3.jpg"], PAIRED)
    labels = {"v/1.jpg": {"class_name": "dislike"}, "v/2.jpg": {"class_name": "stop"}}
    a, b = (make_run(tmp_path / name, frames, labels) for name in "ab")
    assert list(compare_runs(a, b).classes.index) == ["stop", "ok", "dislike"]


def test_frames_in_one_run_only_are_counted_and_named(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {"v/1.jpg": PAIRED, "v/2.jpg": PAIRED, "v/3.jpg": PAIRED})
    b = make_run(tmp_path / "b", {"v/4.jpg": PAIRED, "v/2.jpg": PAIRED})
    found = compare_runs(a, b)
    assert get_changes(found) == {"v/2.jpg": "same"}
    notes = get_notes(found)
    assert (notes["only_in_a"].count, notes["only_in_a"].example) == (2, "v/1.jpg")
    assert (notes["only_in_b"].count, notes["only_in_b"].example) == (1, "v/4.jpg")


def test_runs_without_a_common_frame_are_refused_with_counts_and_names(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {"v/1.jpg": PAIRED, "v/2.jpg": PAIRED})
    b = make_run(tmp_path / "b", {"v/4.jpg": PAIRED})
    with pytest.raises(ComparisonError, match=r"2 frames \(the first: 'v/1.jpg'\).* 1 frame \(the first: 'v/4.jpg'\)"):
        compare_runs(a, b)


def test_the_same_run_twice_is_refused(before: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(before.store))
    with pytest.raises(ComparisonError, match="the same run twice"):
        compare_runs(before, runs.open_run("../before/"))


def test_a_run_that_goes_on_is_refused(before: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(FROZEN / "interrupted", tmp_path / "going")
    assert main(["compare", str(before.store), str(tmp_path / "going")]) == 1
    assert "not finished; run it again to resume it" in capsys.readouterr().err


def test_frames_detected_since_the_last_pairing_are_refused(before: FinishedRun, after: FinishedRun) -> None:
    after.manifest["pairing"]["detection_finished"] = "2020-01-01T00:00:00+00:00"
    with pytest.raises(RunError, match="frames were detected since this run was paired"):
        compare_runs(before, after)


def test_changed_frames_are_told(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {"v/1.jpg": PAIRED, "v/2.jpg": PAIRED, "v/3.jpg": PAIRED})
    changed = {"v/1.jpg": PAIRED, "v/2.jpg": PAIRED | {"content": "6-37"}, "v/3.jpg": PAIRED | {"content": None}}
    found = compare_runs(a, make_run(tmp_path / "b", changed))
    notes = get_notes(found)
    assert (notes["content_changed"].count, notes["content_changed"].example) == (1, "v/2.jpg")
    assert (notes["unknown_content"].count, notes["unknown_content"].example) == (1, "v/3.jpg")
    assert found.frames["content_changed"].tolist() == [False, True, False]


def test_upright_and_stored_runs_are_compared_after_turning(tmp_path: Path) -> None:
    turned = {kind: [tuple(boxes.turn_boxes(box, 6, 640, 480))] for kind, (box,) in PAIRED.items()}
    a = make_run(tmp_path / "a", {"v/1.jpg": PAIRED | {"orientation": 6}}, exif="ignore")
    b = make_run(tmp_path / "b", {"v/1.jpg": {**turned, "size": (480, 640), "orientation": 6}})
    found = compare_runs(a, b)
    assert get_changes(found) == {"v/1.jpg": "same"}
    assert get_notes(found)["turned"].text.startswith("The boxes of A are in pixels of the stored frames")
    assert ["detection.exif", "ignore", "apply"] in found.settings.values.tolist()


def test_boxes_that_cannot_be_compared_are_told(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {"v/1.jpg": PAIRED})
    b = make_run(tmp_path / "b", {"v/1.jpg": PAIRED | {"size": (640, 640)}})
    found = compare_runs(a, b)
    assert get_changes(found) == {"v/1.jpg": "moved"}
    assert (get_notes(found)["other_shape"].count, summarize_moves(found.frames)["unknown"]) == (1, 1)


def test_another_number_and_another_group_of_a_class_are_told(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {"v/1.jpg": PAIRED, "v/2.jpg": NO_HAND})
    labels = {"v/1.jpg": {"video_name": "w"}, "v/2.jpg": {"class_name": "stop"}}
    b = make_run(tmp_path / "b", {"v/1.jpg": PAIRED, "v/2.jpg": NO_HAND}, labels)
    notes = get_notes(compare_runs(a, b))
    assert notes["other_group"].example == "v/1.jpg"
    assert notes["other_class"].example == "v/2.jpg"
    outcomes_of_b = b.outcomes.assign(label=9)
    assert {
        note.kind
        for note in comparison.findings.note_classes(
            a.outcomes, outcomes_of_b, compare_samples(a.outcomes, outcomes_of_b)
        )
    } >= {"other_label"}


def test_runs_of_0_2_are_compared(tmp_path: Path) -> None:
    a, b = (runs.open_run(shutil.copytree(FROZEN / name, tmp_path / name)) for name in ("default", "averaged"))
    found = compare_runs(a, b)
    made_by_0_2 = [
        {row["frame_path"]: row["bbox"] for row in json.loads((FROZEN / name / "hands.json").read_text())}
        for name in ("default", "averaged")
    ]
    same = [path for path, bbox in made_by_0_2[0].items() if made_by_0_2[1].get(path) == bbox]
    assert sorted(path for path, change in get_changes(found).items() if change == "same") == sorted(same)
    counts = count_changes(found.frames)
    assert counts[Change.GAINED] == len(made_by_0_2[1].keys() - made_by_0_2[0].keys())
    assert counts[Change.LOST] == len(made_by_0_2[0].keys() - made_by_0_2[1].keys())
    assert get_notes(found)["unknown_content"].count == 108
    assert ["pairing.crop_coefficient", "1.5", "1.2"] in found.settings.values.tolist()


def test_no_sample_at_all(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path / name, {"v/1.jpg": NO_HAND, "v/2.jpg": APART}) for name in "ab")
    found = compare_runs(a, b)
    assert summarize_comparison(found) == ["Neither A nor B has a sample of the 2 frames that both have."]
    assert "ok   0  0" in format_comparison(found)


# -- decisions


def decide(run: FinishedRun, *judgements: Judgement) -> None:
    DecisionLog(run.store, "anna").append(*judge_frames(run, judgements, "anna"))


JUDGEMENTS = (
    Judgement("v/same.jpg", "reject"),
    Judgement("v/gained.jpg", "box", HAND),
    Judgement("v/moved.jpg", "label", class_name="like"),
    Judgement("w/lost.jpg", "keep"),
)
DECIDED = {
    "v/same.jpg": "lost",
    "v/moved.jpg": "relabelled",
    "v/gained.jpg": "gained",
    "w/lost.jpg": "same",
    "w/relabelled.jpg": "same",
    "w/other.jpg": "same_without",
    "w/without.jpg": "same_without",
}


def test_a_run_before_and_after_decisions(before: FinishedRun) -> None:
    decide(before, *JUDGEMENTS)
    found = compare_decisions(before)
    assert get_changes(found) == DECIDED
    by_path = found.frames.set_index("frame_path")
    assert list(by_path.loc["v/same.jpg", ["outcome_a", "outcome_b"]]) == ["paired", "rejected"]
    assert list(by_path.loc["v/gained.jpg", ["outcome_a", "outcome_b"]]) == ["no_hand", "corrected"]
    assert (get_notes(found)["decided"].count, found.name_b.endswith("with the decisions of people")) == (4, True)


def test_a_run_without_decisions_has_nothing_to_be_compared_with(before: FinishedRun) -> None:
    with pytest.raises(ComparisonError, match=r"there are no decisions.*--fallback frame"):
        compare_decisions(before)


def test_decisions_that_only_one_run_has(before: FinishedRun, tmp_path: Path) -> None:
    copy = runs.open_run(shutil.copytree(str(before.store), tmp_path / "copy"))
    decide(copy, *JUDGEMENTS)
    untouched = compare_runs(before, copy)
    assert set(get_changes(untouched).values()) == {"same", "same_without"}
    assert "detectime pair" in get_notes(untouched)["new_decisions"].text
    outcomes.pair_run(copy)
    found = compare_runs(before, copy)
    assert get_changes(found) == DECIDED
    assert (get_notes(found)["decided"].count, get_notes(found)["decided"].text) == (
        4,
        "frames were decided by people in B only",
    )
    assert "new_decisions" not in get_notes(found)


def test_edits_of_hands_json_are_told(before: FinishedRun, after: FinishedRun) -> None:
    after.store.put("hands.json", b"[]")
    notes = get_notes(compare_runs(before, after))
    assert "hands.json of B was edited" in notes["edited"].text


# -- settings


def test_settings_are_compared_and_nothing_is_written(before: FinishedRun, tmp_path: Path) -> None:
    files = {path: path.read_bytes() for path in Path(str(before.store)).rglob("*") if path.is_file()}
    found = compare_settings(before, PairingConfig(fallback="frame"))
    assert get_changes(found)["w/without.jpg"] == "gained"
    assert get_changes(found)["w/other.jpg"] == "same_without"
    assert found.name_b == f"{before.store} with fallback = frame"
    assert found.settings.values.tolist() == [["pairing.fallback", "none", "frame"]]
    assert {path: path.read_bytes() for path in Path(str(before.store)).rglob("*") if path.is_file()} == files
    assert before.pairing.fallback == "none"


def test_settings_keep_decisions(before: FinishedRun) -> None:
    decide(before, *JUDGEMENTS)
    found = compare_settings(before, PairingConfig(fallback="frame"))
    changes = get_changes(found)
    assert {changes[path] for path in ("v/same.jpg", "v/moved.jpg", "v/gained.jpg")} == {"same_without", "same"}
    assert "decided" not in get_notes(found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fallbck": "frame"}, "no such setting of pairing; did you mean 'fallback'"),
        ({"fallback": "fram"}, "pairing.fallback = 'fram': did you mean 'frame'"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        comparison.change_settings(PairingConfig(), changes)


# -- truth


def make_truth(corners: Mapping[str, Box]) -> Truth:
    rows = [(path, "hand", "", True, *box) for path, box in corners.items()]
    table = pd.DataFrame(rows, columns=["frame_path", "kind", "label", "is_target", *CORNERS])
    return Truth(table.astype(dict.fromkeys(CORNERS, "float64")), pd.Index(list(corners)), "by hand")


def make_many(output: Path, wrong: int, groups: int = 10) -> FinishedRun:
    """Make a run of 40 frames of some groups, so many of which have a wrong box."""
    frames = {
        f"g{k % groups}/{k}.jpg": APART | {"faces": [(490, 300, 540, 350)]} if k < wrong else PAIRED for k in range(40)
    }
    return make_run(output, frames)


def test_truth_gives_paired_differences(tmp_path: Path) -> None:
    a, b = make_many(tmp_path / "a", 20), make_many(tmp_path / "b", 0)
    truth = make_truth(dict.fromkeys(a.frames["frame_path"], HAND))
    found = compare_runs(a, b, truth)
    assert found.measures is not None
    expected = evaluation.compare_evaluations(*(evaluation.evaluate_run(run, truth) for run in (a, b)))
    pd.testing.assert_frame_equal(found.measures, expected)
    row = found.measures.set_index("measure").loc["correct"]
    assert list(row[["a", "b", "difference"]]) == [0.5, 1.0, 0.5]
    assert 0 < row["low"] <= 0.5 <= row["high"]
    (_, sentence) = summarize_comparison(found)
    assert "correct 0.500 → 1.000, difference +0.500" in sentence
    assert "B is better" in sentence
    assert "Truth: by hand (40 frames, 10 groups)" in format_comparison(found)


def test_few_groups_are_too_few_to_tell(tmp_path: Path) -> None:
    a, b = make_many(tmp_path / "a", 0, groups=6), make_many(tmp_path / "b", 20, groups=6)
    found = compare_runs(a, b, make_truth(dict.fromkeys(a.frames["frame_path"], HAND)))
    (_, sentence) = summarize_comparison(found)
    assert "A looks better, but 6 groups are too few to tell" in sentence
    assert "A is better" not in read_page(a, b, found)


def test_notes_are_about_the_frames_that_are_compared(tmp_path: Path) -> None:
    """A has frames of another group, which are wrong, and B some that are not annotated for A."""
    shared = dict.fromkeys(["v/1.jpg", "v/2.jpg", "w/1.jpg"], PAIRED)
    a = make_run(tmp_path / "a", shared | dict.fromkeys([f"x{k}/1.jpg" for k in range(12)], APART))
    b = make_run(tmp_path / "b", shared | {"y/1.jpg": PAIRED})
    truth_a = make_truth(dict.fromkeys(["v/1.jpg", "w/1.jpg", "x0/1.jpg", "x1/1.jpg", "x2/1.jpg"], HAND))
    truth_b = make_truth(dict.fromkeys(["v/1.jpg", "v/2.jpg", "w/1.jpg", "y/1.jpg"], HAND))
    found = compare_runs(a, b, truth_a, truth_b)
    assert found.measures is not None
    expected = evaluation.compare_evaluations(evaluation.evaluate_run(a, truth_a), evaluation.evaluate_run(b, truth_b))
    pd.testing.assert_frame_equal(found.measures, expected)
    kinds = [note.kind for note in found.notes]
    assert [kinds.count(kind) for kind in ("few_groups", "perfect", "all_wrong")] == [1, 1, 0]
    assert get_notes(found)["few_groups"].count == 2
    assert not any("(in " in str(note) for note in found.notes)
    assert "Truth: by hand (2 frames, 2 groups)" in format_comparison(found)


def test_no_frame_is_annotated_in_both(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path / name, dict.fromkeys(["v/1.jpg", "v/2.jpg"], PAIRED)) for name in "ab")
    found = compare_runs(a, b, make_truth({"v/1.jpg": HAND}), make_truth({"v/2.jpg": HAND}))
    assert "(0 frames, 0 groups)" in format_comparison(found)
    assert [note.kind for note in found.notes].count("not_evaluated") == 1
    assert "No annotated frame is in both" in read_page(a, b, found)


def test_truth_in_the_pixels_of_one_run_does_not_serve_another(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {"v/1.jpg": PAIRED})
    b = make_run(tmp_path / "b", {"v/1.jpg": PAIRED | {"size": (320, 240)}})
    with pytest.raises(ComparisonError, match="truth_b=read_truth"):
        compare_runs(a, b, make_truth({"v/1.jpg": HAND}))


# -- text


def test_a_table_of_many_classes_is_short_and_adds_up(tmp_path: Path) -> None:
    labels = {f"class {k}": k for k in range(10_000)}
    rows = [("ok", "paired", HAND)] * 20_000
    a = make_samples(rows).assign(class_name=[f"class {k // 2}" for k in range(20_000)])
    b = a.assign(outcome=["apart" if k < 100 else "paired" for k in range(20_000)])
    frames = compare_samples(a, b)
    found = Comparison(
        "a", "b", frames, count_classes(frames), None, "", pd.DataFrame({"key": [], "a": [], "b": []}), (), a, b
    )
    text = format_comparison(found)
    assert len(labels) == len(found.classes)
    assert len(text.splitlines()) < 50
    assert re.search(r"^all +20000 +19900 +0 +100 +0 +19900$", text, re.MULTILINE)
    assert re.search(r"^9,970 more +19940 +19900 +0 +40 +0 +19900$", text, re.MULTILINE)


def test_nothing_of_the_data_controls_the_terminal(tmp_path: Path) -> None:
    a = make_samples([("ok", "paired", HAND)]).assign(class_name="\x1b[2J", frame_path="\x07.jpg")
    frames = compare_samples(a, a)
    empty = pd.DataFrame({"key": ["\x1b"], "a": ["\x07"], "b": [""]})
    text = format_comparison(Comparison("\x1b]", "b", frames, count_classes(frames), None, "", empty, (), a, a))
    assert all(character.isprintable() or character == "\n" for character in text)


def test_equal_samples_are_said_to_be_equal(before: FinishedRun, tmp_path: Path) -> None:
    copy = runs.open_run(shutil.copytree(str(before.store), tmp_path / "copy"))
    assert summarize_comparison(compare_runs(before, copy)) == ["No sample differs: A and B have the same 4."]


def test_the_summary_counts_every_change(before: FinishedRun, after: FinishedRun) -> None:
    assert summarize_comparison(compare_runs(before, after)) == [
        "B has as many samples as A, 4 (1 gained, 1 lost); 1 moved, 1 has another class, 1 is the same."
    ]


# -- the page


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Write the frames of `before` and `after`, each of its own colour."""
    folder = tmp_path / "images"
    for number, name in enumerate(DECIDED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 480), (30 * number, 90, 120)).save(folder / name)
    return folder


def make_pair(
    tmp_path: Path,
    images: Path,
    rows_a: Mapping[str, Any],
    rows_b: Mapping[str, Any],
    labels: Sequence[Mapping[str, Any]] = ({}, {}),
) -> list[FinishedRun]:
    sides = zip("ab", (rows_a, rows_b), labels, strict=True)
    return [make_run(tmp_path / name, rows, of_labels, images=images) for name, rows, of_labels in sides]


def read_page(a: FinishedRun, b: FinishedRun, found: Comparison, **options: Any) -> str:
    return make_comparison_page(a, b, found, **options).decode()


def list_cards(page: str, key: str) -> list[str]:
    """Return the cards of a gallery."""
    gallery = re.search(f'<section class="gallery" id="{key}">(.*?)</section>', page, re.DOTALL)
    return [] if gallery is None else re.findall("<figure class=.card.*?</figure>", gallery[1], re.DOTALL)


UNKNOWN = {"content": None}  # of generated pictures


def test_the_page_shows_every_change(tmp_path: Path, images: Path) -> None:
    rows_a = {
        "v/same.jpg": PAIRED,
        "v/moved.jpg": PAIRED,
        "v/gained.jpg": NO_HAND,
        "w/lost.jpg": PAIRED,
        "w/relabelled.jpg": PAIRED,
        "w/other.jpg": PAIRED,
    }
    rows_b = rows_a | {"v/moved.jpg": MOVED, "v/gained.jpg": PAIRED, "w/lost.jpg": NO_HAND, "w/other.jpg": MISSING}
    a, b = make_pair(
        tmp_path,
        images,
        {name: row | UNKNOWN for name, row in rows_a.items()},
        {name: row | UNKNOWN for name, row in rows_b.items()},
        ({}, {"w/relabelled.jpg": {"class_name": "stop"}}),
    )
    page = read_page(a, b, compare_runs(a, b))
    shown = {key: list_cards(page, key) for key in ("gained", "lost", "relabelled", "moved", "lost-frames")}
    assert {key: len(cards) for key, cards in shown.items()} == dict.fromkeys(shown, 1)
    assert all("data:image/" in cards[0] for cards in shown.values())
    assert {key for key, cards in shown.items() if 'class="before"' in cards[0]} == {"lost", "relabelled", "moved"}
    assert "IoU of the hands 0.78" in shown["moved"][0]
    assert "A: ok, paired" in shown["relabelled"][0]
    assert "B: missing" in shown["lost-frames"][0]
    assert "4 samples, 5 before" in re.sub(r"\s+", " ", page.replace("\N{NO-BREAK SPACE}", " "))


def test_a_page_with_truth_shows_differences_and_intervals(tmp_path: Path, images: Path) -> None:
    a, b = make_many(tmp_path / "a", 20), make_many(tmp_path / "b", 0)
    page = read_page(a, b, compare_runs(a, b, make_truth(dict.fromkeys(a.frames["frame_path"], HAND))))
    section = re.search('<section id="truth".*?</section>', page, re.DOTALL)
    assert section is not None
    assert "+0.500" in section[0]
    assert "B is better" in section[0]
    assert "Whether B is better is not known" not in page


def test_names_cannot_leave_their_place(tmp_path: Path, images: Path) -> None:
    script = "<script>alert(1)</script>"
    labels = {"v/1.jpg": {"video_name": script, "class_name": "stop"}}
    a, b = make_pair(tmp_path, images, {"v/1.jpg": PAIRED}, {"v/1.jpg": MOVED}, (labels, labels))
    found = compare_runs(a, b)
    named = dataclasses.replace(
        found,
        name_a=script,
        frames=found.frames.assign(class_a=script, class_b=script),
        classes=found.classes.rename(index={"stop": script}),
        samples_b=found.samples_b.assign(class_name=script, decision=script, decided_by=script),
        settings=pd.DataFrame({"key": [script], "a": [script], "b": [script]}),
        notes=(Note("a", 1, script, script),),
    )
    page = read_page(a, b, named)
    assert page.count("<script") == read_page(a, b, found).count("<script")
    assert "&lt;script&gt;" in page


def test_a_page_without_any_sample(tmp_path: Path, images: Path) -> None:
    rows = {"v/same.jpg": NO_HAND, "gone.jpg": MISSING}
    a, b = make_pair(tmp_path, images, rows, rows)
    page = read_page(a, b, compare_runs(a, b))
    assert "Neither A nor B has a sample of the 2 frames that both have." in page
    assert 'id="changes"' not in page


def test_a_page_of_many_classes_is_small(tmp_path: Path, images: Path) -> None:
    a, b = make_pair(tmp_path, images, {"v/1.jpg": PAIRED}, {"v/1.jpg": PAIRED})
    found = compare_runs(a, b)
    names = [f"class {k}" for k in range(10_000)]
    table = pd.concat([found.frames] * 10_000, ignore_index=True).assign(class_a=names, class_b=names)
    page = read_page(a, b, dataclasses.replace(found, frames=table, classes=count_classes(table)))
    assert len(page) < 200_000
    assert "9,960 more" in page


def test_the_least_alike_hands_of_every_group_come_first() -> None:
    frames = pd.DataFrame({"iou": [0.9, 0.2, 0.3, 0.6, np.nan], "video_name": ["v", "v", "v", "w", "w"]})
    order = report_comparison._order_moves(frames).tolist()
    assert order == [4, 1, 2, 3, 0]


# -- the command


def test_the_command(
    before: FinishedRun, after: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "changes.csv"
    assert main(["compare", str(before.store), str(after.store), "--csv", str(table)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"A  {before.store}"[:20])
    assert "pairing.crop_coefficient  1.5 → 1.4" in printed
    rows = pd.read_csv(table)
    assert rows["change"].tolist() == compare_runs(before, after).frames["change"].astype(str).tolist()
    assert list(rows.columns) == list(compare_runs(before, after).frames.columns)


def test_the_command_with_settings(before: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(before.store), "--fallback", "frame", "--min_hand_score", "null"]) == 0
    assert "1 more sample" in capsys.readouterr().out


def test_the_command_with_truth_and_a_page(
    before: FinishedRun, after: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, page = tmp_path / "truth.json", tmp_path / "page.html"
    truth.write_text(json.dumps({name: {"hands": [HAND]} for name in DECIDED}))
    options = ["--truth", str(truth), "--to", str(page), "--blur-faces"]
    assert main(["compare", str(before.store), str(after.store), *options]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^ *correct +0\.500 +0\.667 +\+0\.167", printed, re.MULTILINE)
    assert "not decoded, and is not compared (in B) (the first: 'w/lost.jpg')" in printed
    assert "Against annotated hands" in page.read_text()


def test_both_runs_are_judged_by_the_same_annotations(
    before: FinishedRun, after: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, run in enumerate((before, after)):
        name_truth(run, write_hands(tmp_path / f"{number}.json"))
    assert main(["compare", str(before.store), str(after.store)]) == 2
    assert "name different annotations" in capsys.readouterr().err
    name_truth(after, None)
    assert main(["compare", str(before.store), str(after.store)]) == 0
    assert "0.json (6 frames, 2 groups)" in capsys.readouterr().out
    name_truth(before, None)
    name_truth(after, str(tmp_path / "1.json"))
    assert main(["compare", str(before.store), str(after.store)]) == 0
    printed = capsys.readouterr().out
    assert "1.json (6 frames, 2 groups)" in printed
    assert re.search(r"data\.truth +null → ", printed)


def test_annotations_that_one_run_names_are_in_the_pixels_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = boxes.turn_boxes(HAND, boxes.invert_orientation(6), 640, 480)
    (tmp_path / "stored.json").write_text(json.dumps({"v/1.jpg": {"hands": [np.array(stored).tolist()]}}))
    given: dict[str, Any] = {"truth": str(tmp_path / "stored.json"), "truth_pixels": "stored"}
    frames = {"v/1.jpg": PAIRED | {"orientation": 6}}
    made = [make_run(tmp_path / name, frames, **options) for name, options in (("a", dict[str, Any]()), ("b", given))]
    assert main(["compare", *(str(run.store) for run in made)]) == 0
    assert re.search(r"mean IoU +1.000 +1.000", capsys.readouterr().out)


@pytest.mark.parametrize("named", [(True, False), (False, True), (True, True)])
def test_annotations_that_are_gone_are_told_and_stop_no_comparison(
    named: tuple[bool, bool],
    before: FinishedRun,
    after: FinishedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for run, is_named in zip((before, after), named, strict=True):
        name_truth(run, str(tmp_path / "gone.json") if is_named else None)
    assert main(["compare", str(before.store), str(after.store)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("is not used") == 1
    assert "gone.json" in printed
    assert "Against the truth" not in printed


def write_hands(path: Path) -> str:
    path.write_text(json.dumps({name: {"hands": [HAND]} for name in DECIDED}))
    return str(path)


def name_truth(run: FinishedRun, truth: str | None) -> None:
    """Name annotations in the configuration of a run."""
    path = Path(str(run.store)) / "run.json"
    made = json.loads(path.read_text())
    made["configuration"]["data"]["truth"] = truth
    path.write_text(json.dumps(made))


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["{a}"], 1, "there are no decisions"),
        (["{a}", "{b}", "--fallback", "frame"], 2, "--fallback: settings are for one run"),
        (["{a}", "--crop-coefficient", "-1"], 2, "--crop-coefficient = -1: accepted: more than 0"),
        (["{a}", "--falback", "frame"], 2, "did you mean --fallback"),
        (["{a}", "{a}"], 1, "the same run twice"),
        (["{a}", "nowhere"], 1, "nowhere: there is no such folder"),
    ],
)
def test_wrong_commands(
    options: list[str],
    status: int,
    said: str,
    before: FinishedRun,
    after: FinishedRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given_options = [option.format(a=before.store, b=after.store) for option in options]
    assert main(["compare", *given_options]) == status
    assert said in capsys.readouterr().err
