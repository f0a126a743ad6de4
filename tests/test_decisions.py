"""What people decide: the files, how decisions of several people merge, and what they make of the outcomes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import buckets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import (
    FROZEN,
    LABELS,
    Box,
    make_detection,
    make_detection_row,
    make_detections_table,
    make_frame_table,
)
from finished_runs import make_run
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from skips import need_extra

from detectime import corrections, decision_files, outcomes, pairing, runs
from detectime.boxes import compute_iou
from detectime.cli.finished import note_old_reports
from detectime.cli.main import _mark_pairing, main
from detectime.config import Config, PairingConfig, load_config
from detectime.decision_files import DecisionLog, read_decisions
from detectime.decision_import import import_decisions, import_hands_json, read_file
from detectime.decisions import (
    Action,
    Corners,
    Decision,
    DecisionError,
    MergedDecisions,
    find_contradictions,
    merge_decisions,
    note_contradictions,
)
from detectime.detection.manifest import RunError
from detectime.exports import hands_json
from detectime.judgements import Judgement, judge_frame, judge_frames
from detectime.paths import SAMPLE
from detectime.report.report import write_report
from detectime.schema import DECISION_COLUMNS, DETECTIONS, OUTCOME_COLUMNS, Outcome
from detectime.storage import run_tables
from detectime.storage import store as stores
from detectime.storage.folder import FolderStore
from detectime.storage.store import StoreError

FACE: Box = (100, 100, 150, 150)
HAND: Box = (160, 100, 200, 150)
NEAR: Box = (165, 100, 205, 150)  # IoU with HAND .78
FAR: Box = (300, 300, 340, 360)
CONFIG = load_config()


def decide(
    action: Action,
    frame_path: str = "a.jpg",
    *,
    by: str = "anna",
    second: int = 0,
    judged: Corners | None = HAND,
    **values: Any,
) -> Decision:
    at = f"2027-01-02T03:{second // 60:02}:{second % 60:02}.000000+00:00"
    given: dict[str, Any] = {"content": None, "judged_class": "ok"} | values
    return Decision(at=at, reviewer=by, action=action, frame_path=frame_path, judged_box=judged, **given)


def apply(
    decisions: Iterable[Decision],
    rows: Iterable[dict[str, Any]],
    detected: Iterable[dict[str, Any]],
    config: Config | None = None,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Apply decisions; returns the samples by frame, and the counts of the notes."""
    config = config or CONFIG
    table, detections = make_frame_table(rows), make_detections_table(*detected)
    merged = merge_decisions(decisions)
    samples, notes, *_ = corrections.apply_decisions(table, detections, merged, config.pairing, config)
    assert pairing.count_outcomes(samples).loc["all", "frames"] == len(table)
    return samples.set_index("frame_path", drop=False), {note.kind: note.count for note in notes}


def apply_to_one(decisions: Iterable[Decision], hands: Iterable[Box] = (HAND,), **values: Any) -> pd.Series:
    """Apply decisions about a.jpg, and return its row."""
    detected = make_detection_row("a.jpg", [FACE], hands) | values
    samples, _ = apply(decisions, [{"frame_path": "a.jpg"}], [detected])
    return samples.loc["a.jpg"]


def get_box(row: pd.Series, kind: str) -> list[float]:
    return [float(corner) for corner in pairing.get_boxes(row, kind)]


# -- files


def append(folder: Path, *decisions: Decision) -> DecisionLog:
    log = DecisionLog(stores.open_store(folder), decisions[0].reviewer)
    log.append(*decisions)
    return log


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    made = [
        decide("box", second=0, box=(1.5, 2, 3, 4), bbox=(0, 0, 9, 9), content="5-3610a686"),
        decide("label", 'ä "b"\n/ü.jpg', second=1, class_name="ok", judged=None, pixels="stored"),
        decide("undo", second=2),
    ]
    log = append(tmp_path, *made)
    log.append(decide("keep", second=3))
    assert read_decisions(stores.open_store(tmp_path)) == ([*made, decide("keep", second=3)], [])
    (file,) = (tmp_path / "decisions").iterdir()
    assert f"decisions/{file.name}" == log.name
    assert [json.loads(line)["version"] for line in file.read_text().splitlines()] == [1] * 4


@pytest.mark.parametrize(
    ("reviewer", "slug"),
    [
        ("Anna K.", "anna-k"),
        ("  José Müller ", "jose-muller"),
        ("Анна", "reviewer"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 500, "x" * 40),
        ("😀", "reviewer"),
    ],
)
def test_a_person_may_have_any_name(tmp_path: Path, reviewer: str, slug: str) -> None:
    log = append(tmp_path, decide("keep", by=reviewer.strip()))
    assert log.name is not None
    assert log.name.startswith(f"decisions/{slug}-2")
    ((found,), _) = read_decisions(stores.open_store(tmp_path))
    assert found.reviewer == reviewer.strip()


@pytest.mark.parametrize("reviewer", ["", "  ", None, "\ud800"])
def test_a_person_must_have_a_name(tmp_path: Path, reviewer: Any) -> None:
    with pytest.raises(DecisionError, match="give the name of the person"):
        DecisionLog(stores.open_store(tmp_path), reviewer)


def test_two_starts_at_the_same_time_have_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_files, "_make_file_stem", lambda _: "anna-20270102T030405Z")
    for second in range(3):
        append(tmp_path, decide("keep", second=second))
    names = [f"anna-20270102T030405Z{number}.jsonl" for number in (".2", ".3", "")]
    assert sorted(file.name for file in (tmp_path / "decisions").iterdir()) == names


def test_nothing_is_written_before_the_first_decision(tmp_path: Path) -> None:
    log = DecisionLog(stores.open_store(tmp_path), "anna")
    log.append()
    assert log.name is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "decision",
    [
        decide("keep", by="ben"),
        decide("box"),
        decide("label"),
        decide("box", box=(1.0, 2.0, float("nan"), 4.0)),
        dataclasses.replace(decide("keep"), at="yesterday"),
        dataclasses.replace(decide("keep"), pixels="other"),
        dataclasses.replace(decide("keep"), frame_path=""),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, decision: Decision) -> None:
    with pytest.raises(DecisionError):
        DecisionLog(stores.open_store(tmp_path), "anna").append(decide("keep"), decision)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_is_set_back_does_not_change_the_order(tmp_path: Path) -> None:
    log = append(tmp_path, decide("keep", second=50))
    log.append(decide("undo", second=10))
    found, _ = read_decisions(stores.open_store(tmp_path))
    assert not merge_decisions(found)


def test_decisions_of_one_time_are_told_apart(tmp_path: Path) -> None:
    """Equal lines would count once: the second keep would vanish."""
    log = append(tmp_path, decide("keep", second=50))
    log.append(decide("undo", second=10), decide("keep", second=10))
    found, _ = read_decisions(stores.open_store(tmp_path))
    assert [decision.at[-15:-6] for decision in found] == ["50.000000", "50.000001", "50.000002"]
    assert list_counting(merge_decisions(found)) == [("anna", "keep")]
    later = dataclasses.replace(decide("reject"), at="2027-01-02T05:03:50+02:00")  # the time of the first
    log.append(later)
    assert read_decisions(stores.open_store(tmp_path))[0][-1].at == "2027-01-02T03:03:50.000000+00:00"


def test_the_decisions_of_one_frame_are_read_alone(tmp_path: Path) -> None:
    name = 'ä "b".jpg'
    log = append(tmp_path, decide("keep", "a.jpg"), decide("keep", name, second=1), decide("undo", name, second=2))
    assert log.name is not None
    with (tmp_path / log.name).open("ab") as file:  # as other programs write JSON
        escaped = {"version": 1, **dataclasses.asdict(decide("reject", name, second=3))}
        file.write(json.dumps(escaped).encode() + b'\n{"version": 1, "at"')
    found, _ = read_decisions(stores.open_store(tmp_path), name)
    assert [decision.action for decision in found] == ["keep", "undo", "reject"]


def test_after_a_failed_write_another_file_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = append(tmp_path, decide("keep", second=0))

    def fail(*_: Any) -> None:
        raise StoreError("full")

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "append", fail)
        with pytest.raises(StoreError, match="full"):
            log.append(decide("reject", second=1))
    log.append(decide("reject", second=2))
    found, notes = read_decisions(stores.open_store(tmp_path))
    assert ([decision.action for decision in found], notes) == (["keep", "reject"], [])
    assert len(list((tmp_path / "decisions").iterdir())) == 2


def test_a_full_disk_leaves_whole_lines(small_disk: Path) -> None:
    log = append(small_disk, decide("keep"))
    (small_disk / "filler").write_bytes(b"x" * 900_000)
    with pytest.raises(StoreError, match=r"\.jsonl: cannot be written"):
        log.append(*[decide("keep", second=k) for k in range(1000)])
    assert read_decisions(stores.open_store(small_disk)) == ([decide("keep")], [])


def make_lines(*lines: Any) -> bytes:
    """Return lines of a file: decisions, objects, or bytes."""
    parts = [
        line
        if isinstance(line, bytes)
        else json.dumps({"version": 1, **dataclasses.asdict(line)} if isinstance(line, Decision) else line).encode()
        for line in lines
    ]
    return b"\n".join(parts)


def test_every_torn_tail_is_ignored_and_told() -> None:
    whole = make_lines(decide("keep"), b"")
    last = make_lines(decide("reject", "ä.jpg"), b"")
    for length in range(1, len(last)):
        found, notes = decision_files.parse_decisions({"decisions/a.jsonl": whole + last[:length]})
        is_whole = length == len(last) - 1  # only the line break is missing
        assert len(found) == 1 + is_whole
        assert [str(note) for note in notes] == [
            "1 decision was not written in full and does not count (the first: 'decisions/a.jsonl, line 2')"
        ] * (not is_whole)


FIELDS = {"version": 1, **dataclasses.asdict(decide("keep"))}


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (b"nonsense", "broken", "Expecting value"),
        (b"\xff\xfe\x00", "broken", "decode"),
        (b"[" * 100_000, "broken", ""),
        (b"[1]", "broken", "not a JSON object"),
        ({"version": 1}, "broken", "version or action is missing"),
        ({**FIELDS, "reviewer": ""}, "broken", "reviewer"),
        ({**FIELDS, "reviewer": "\ud800"}, "broken", "reviewer"),
        ({**FIELDS, "at": "2027-01-02T03:04:05"}, "broken", "time zone"),
        ({**FIELDS, "judged_box": [1, 2, 3]}, "broken", "judged_box"),
        ({**FIELDS, "judged_box": [1, 2, 3, float("nan")]}, "broken", "judged_box"),
        ({**FIELDS, "judged_box": [1, 2, 3, True]}, "broken", "judged_box"),
        ({**FIELDS, "judged_box": [1, 2, 3, 10**400]}, "broken", ""),
        ({**FIELDS, "action": "box"}, "broken", "`box` needs the key `box`"),
        ({**FIELDS, "pixels": "turned"}, "broken", "upright, stored"),
        ({**FIELDS, "action": "praise"}, "newer", "'praise' is not known"),
        ({**FIELDS, "version": 2}, "newer", "version 2"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_the_others_are_used(line: Any, kind: str, reason: str) -> None:
    files = {"decisions/a.jsonl": make_lines(decide("keep"), line, decide("undo"), b"")}
    found, (note,) = decision_files.parse_decisions(files)
    assert [decision.action for decision in found] == ["keep", "undo"]
    assert (note.kind, note.count, note.example) == (kind, 1, "decisions/a.jsonl, line 2")
    assert reason in note.text


def test_files_that_an_editor_saved_are_read(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + make_lines(decide("keep"), decide("reject")).replace(b"\n", b"\r\n") + b"\r\n\r\n"
    assert decision_files.parse_decisions({"decisions/a.jsonl": content}) == ([decide("keep"), decide("reject")], [])
    (tmp_path / "decisions").mkdir()
    for name in ("anna.json", ".DS_Store"):
        (tmp_path / "decisions" / name).write_bytes(b"")
    found, (note,) = read_decisions(stores.open_store(tmp_path))
    assert (found, note.example) == ([], "decisions/anna.json")


APPEND = """
import sys
from detectime.decision_files import DecisionLog
from detectime.decisions import Decision, format_time
from detectime.storage.store import open_store
log = DecisionLog(open_store(sys.argv[1]), "anna")
for k in range(100_000):
    log.append(Decision(format_time(), "anna", "keep", f"{k}.jpg", None, (1.0, 2.0, 3.0, 4.0), "ok"))
    print(k, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_appended(tmp_path: Path) -> None:
    for start in range(3):
        writer = subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)]
        os.kill(writer.pid, signal.SIGKILL)
        told += [int(line) for line in writer.communicate()[0].splitlines() if line]
        found, _ = read_decisions(stores.open_store(tmp_path))
        names = [decision.frame_path for decision in found if decision.at]
        assert len(list((tmp_path / "decisions").iterdir())) == start + 1
        assert sum(name == f"{told[-1]}.jpg" for name in names) >= 1
        assert {f"{k}.jpg" for k in told} <= set(names)


@pytest.mark.extra
def test_decisions_in_a_bucket(s3_server: str) -> None:
    need_extra("moto")
    store = stores.open_store(f"{buckets.make_bucket()}/run")
    assert read_decisions(store) == ([], [])
    log = DecisionLog(store, "anna")
    for second in range(3):
        log.append(decide("keep", f"{second}.jpg", second=second))
    DecisionLog(store, "ben").append(decide("reject", by="ben", second=9))
    found, notes = read_decisions(store)
    assert ([(decision.reviewer, decision.frame_path) for decision in found], notes) == (
        [("anna", "0.jpg"), ("anna", "1.jpg"), ("anna", "2.jpg"), ("ben", "a.jpg")],
        [],
    )


def test_append_keeps_what_a_store_holds(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for content in (b"one\n", b"", b"two\n"):
        store.append("folder/file", content)
    assert store.get("folder/file") == b"one\ntwo\n"
    with pytest.raises(StoreError, match="cannot be written"):
        store.append("folder", b"three")


# -- merging


def list_counting(merged: MergedDecisions) -> list[tuple[str, str]]:
    return [(found[-1].reviewer, found[-1].action) for found in (*merged.hands.values(), *merged.labels.values())]


@pytest.mark.parametrize(
    ("decisions", "counting"),
    [
        ([], []),
        ([decide("keep")], [("anna", "keep")]),
        ([decide("keep", second=0), decide("reject", second=1)], [("anna", "reject")]),
        ([decide("keep", second=1), decide("reject", second=0)], [("anna", "keep")]),
        ([decide("keep"), decide("label", class_name="ok")], [("anna", "keep"), ("anna", "label")]),
        ([decide("undo")], []),
        ([decide("keep", second=0), decide("undo", second=1)], []),
        ([decide("undo", second=0), decide("keep", second=1)], [("anna", "keep")]),
        ([decide("keep", second=0), decide("reject", second=1), decide("undo", second=2)], [("anna", "keep")]),
        (
            [decide("keep", second=0), decide("label", class_name="ok", second=1), decide("undo", second=2)],
            [("anna", "keep")],
        ),
        ([decide("keep", second=0), decide("undo", "b.jpg", second=1)], [("anna", "keep")]),
        ([decide("keep", second=0), decide("undo", by="ben", second=1)], [("anna", "keep")]),
        ([decide("keep", second=0), decide("reject", by="ben", second=1)], [("ben", "reject")]),
        (
            [decide("keep", second=0), decide("reject", by="ben", second=1), decide("undo", by="ben", second=2)],
            [("anna", "keep")],
        ),
        (  # a copy of a file
            [decide("keep", second=0), decide("reject", second=1), *[decide("undo", second=2)] * 2],
            [("anna", "keep")],
        ),
    ],
)
def test_the_latest_that_was_not_undone_counts(decisions: list[Decision], counting: list[tuple[str, str]]) -> None:
    for order in (decisions, decisions[::-1]):
        merged = merge_decisions(order)
        assert list_counting(merged) == counting
        assert len(merged) == bool(counting)
        assert len(merged.decisions) >= len(counting)


@pytest.mark.parametrize(
    ("first", "second", "contradicts"),
    [
        (decide("keep"), decide("reject"), True),
        (decide("reject"), decide("keep", judged=NEAR), True),
        (decide("reject"), decide("box", box=FAR), False),  # another box than the rejected one
        (decide("reject"), decide("box", box=NEAR), True),
        (decide("reject", judged=None), decide("box", judged=None, box=HAND), True),
        (decide("reject"), decide("reject", judged=FAR), False),
        (decide("keep"), decide("keep", judged=NEAR), False),
        (decide("keep"), decide("box", box=FAR), True),
        (decide("box", box=FAR), decide("choose_hand", box=FAR), False),
        (decide("keep", judged=None), decide("box", judged=None, box=FAR), True),
        (decide("keep", judged=None), decide("reject", judged=None), False),
        (decide("keep", content="5-3610a686"), decide("reject", content="6-3610a686"), False),  # other pictures
        (decide("keep", content="5-3610a686"), decide("reject"), True),
        (decide("label", class_name="ok"), decide("label", class_name="like"), True),
        (decide("label", class_name="ok"), decide("label", class_name="ok"), False),
        (decide("label", class_name="ok"), decide("reject"), False),
    ],
)
def test_contradictions_are_listed(first: Decision, second: Decision, contradicts: bool) -> None:
    later = dataclasses.replace(second, reviewer="ben", at=decide("keep", second=9).at)
    table = find_contradictions(merge_decisions([first, later]))
    assert len(table) == contradicts
    if contradicts:
        assert table.loc[0, ["frame_path", "reviewer", "other_reviewer"]].tolist() == ["a.jpg", "ben", "anna"]
        (note,) = note_contradictions(table)
        assert note.example is not None
        assert note.example.startswith("a.jpg: ben: ")
    same_person = merge_decisions([first, dataclasses.replace(later, reviewer="anna")])
    assert find_contradictions(same_person).empty


def test_a_word_on_other_content_hides_no_contradiction() -> None:
    said = [
        decide("keep", by="ben", content="1-a", second=0),
        decide("keep", by="ben", content="2-b", second=1),
        decide("reject", content="1-a", second=2),
    ]
    assert find_contradictions(merge_decisions(said))["other_decision"].tolist() == ["keep [160, 100, 200, 150]"]


def test_only_decisions_that_hold_contradict_each_other() -> None:
    said = [
        decide("keep", by="ben", content="1-a", second=0),
        decide("reject", content="1-a", second=1),
        decide("keep", content="2-b", second=2),
    ]
    rows = [{"frame_path": "a.jpg"}]
    for content, count in (("1-a", 1), ("2-b", 0), ("3-c", 0)):
        _, notes = apply(said, rows, [make_detection_row("a.jpg", [FACE], [HAND]) | {"content": content}])
        assert notes.get("contradiction", 0) == count


# -- applying: hands


def test_a_kept_box_changes_nothing_but_the_decision() -> None:
    row = apply_to_one([decide("keep")])
    plain = apply_to_one([])
    changed = [
        name for name in row.index if not (pd.isna(row[name]) and pd.isna(plain[name])) and row[name] != plain[name]
    ]
    assert changed == list(DECISION_COLUMNS)
    assert row[list(DECISION_COLUMNS)].tolist() == ["keep", "anna", decide("keep").at]


def test_a_kept_box_is_pinned_when_pairing_chooses_another() -> None:
    row = apply_to_one([decide("keep", judged=HAND)], hands=[FAR, (155, 100, 200, 155)])
    assert (row["outcome"], row["decision"]) == ("corrected", "keep")
    assert get_box(row, "hand") == get_box(row, "bbox") == list(HAND)
    assert pd.isna(row["hand_score"])
    assert pd.isna(row["found_by"])


def test_a_chosen_hand_has_its_score_and_detector() -> None:
    other = make_detection(FAR, detector="hagrid", score=0.25)
    samples, _ = apply(
        [decide("choose_hand", box=FAR)],
        [{"frame_path": "a.jpg"}],
        [make_detection_row("a.jpg", [FACE], [HAND, other])],
    )
    row = samples.loc["a.jpg"]
    assert (row["outcome"], row["hand_score"], row["found_by"], row["overlap"]) == ("corrected", 0.25, "hagrid", 0)
    assert get_box(row, "hand") == list(FAR)
    assert get_box(row, "face") == list(FACE)


def test_a_drawn_box_makes_a_sample_of_a_frame_without_one() -> None:
    row = apply_to_one([decide("box", judged=None, box=(10.5, 20.25, 30, 40))], hands=[])
    assert (row["outcome"], row["decision"]) == ("corrected", "box")
    assert get_box(row, "hand") == [10.5, 20.25, 30, 40]
    assert get_box(row, "bbox") == [10, 20, 30, 40]
    assert row[["overlap", "fallback", "found_by", "hand_score"]].isna().all()


def test_the_crop_follows_from_the_decided_class() -> None:
    decisions = [decide("box", box=(100, 100, 110, 120)), decide("label", class_name="mute")]
    row = apply_to_one(decisions)
    assert row[["outcome", "decision", "class_name", "label"]].tolist() == [
        "corrected",
        "box+label",
        "mute",
        LABELS["mute"],
    ]
    assert get_box(row, "bbox") == [75, 80, 135, 140]


def test_a_decision_may_have_a_crop_of_its_own() -> None:
    row = apply_to_one([decide("box", box=HAND, bbox=(150.5, 90, 900, 160))])
    assert (row["outcome"], row["found_by"]) == ("corrected", "test")  # the hand is that of pairing
    assert get_box(row, "bbox") == [150, 90, 640, 160]


@pytest.mark.parametrize("box", [(700, 10, 800, 20), (-20, -20, 0, 0), (10, 10, 10, 20), (20, 20, 10, 10)])
@pytest.mark.parametrize("kind", ["box", "bbox"])
def test_a_box_outside_the_frame_is_told_and_not_applied(box: Corners, kind: str) -> None:
    values = {"box": FAR, kind: box}
    samples, notes = apply(
        [decide("box", **values)], [{"frame_path": "a.jpg"}], [make_detection_row("a.jpg", [FACE], [HAND])]
    )
    assert notes == {"outside": 1}
    assert samples.loc["a.jpg", "outcome"] == "paired"
    assert pd.isna(samples.loc["a.jpg", "decision"])


def test_a_box_is_clipped_to_its_frame() -> None:
    row = apply_to_one([decide("box", box=(-5, 470, 20, 500))])
    assert get_box(row, "hand") == get_box(row, "bbox") == [0, 470, 20, 480]


def test_a_hand_of_a_fallback_keeps_its_origin_only_if_it_is_kept() -> None:
    config = load_config(parameters={"fallback": "wider"})
    rows, detected = [{"frame_path": "a.jpg"}], [make_detection_row("a.jpg", [FACE], [(240, 100, 280, 150)])]
    for decision, expected in ((decide("keep", judged=(240, 100, 280, 150)), "wider"), (decide("box", box=FAR), None)):
        samples, _ = apply([decision], rows, detected, config)
        row = samples.loc["a.jpg"]
        assert (row["outcome"], row["fallback"] if expected else None) == (
            "fallback" if expected else "corrected",
            expected,
        )
        assert pd.isna(row["fallback"]) == (expected is None)


def test_a_rejected_frame_gives_no_sample() -> None:
    row = apply_to_one([decide("reject")])
    assert (row["outcome"], row["decision"], row["decided_by"]) == ("rejected", "reject", "anna")
    assert row[["bbox_x1", "bbox_y2"]].isna().all()
    assert get_box(row, "hand") == list(HAND)  # what was rejected


@pytest.mark.parametrize(
    ("decisions", "hands", "outcome", "asked"),
    [
        ([decide("reject", judged=NEAR)], [HAND], "rejected", 0),
        ([decide("reject", judged=FAR)], [HAND], "paired", 1),
        ([decide("reject", judged=None)], [HAND], "paired", 1),
        ([decide("reject", judged=None)], [], "no_hand", 0),
        ([decide("reject", judged=HAND)], [], "no_hand", 0),
        ([decide("keep", judged=None)], [], "no_hand", 0),
        ([decide("keep", judged=None)], [HAND], "paired", 1),
        # Who drew another box found the first one wrong: it does not come back when the drawn one is rejected.
        ([decide("box", box=FAR, second=0), decide("reject", by="ben", judged=FAR, second=1)], [HAND], "rejected", 0),
        ([decide("box", box=NEAR, second=0), decide("reject", by="ben", judged=FAR, second=1)], [HAND], "paired", 1),
        ([decide("box", box=FAR, second=1), decide("reject", judged=HAND, second=0)], [HAND], "corrected", 0),
    ],
)
def test_a_rejected_box_is_asked_again_if_there_is_another(
    decisions: list[Decision], hands: list[Box], outcome: str, asked: int
) -> None:
    detected = [make_detection_row("a.jpg", [FACE], hands)]
    samples, notes = apply(decisions, [{"frame_path": "a.jpg"}], detected)
    assert samples.loc["a.jpg", "outcome"] == outcome
    notes.pop("contradiction", None)
    assert notes == ({"asked_again": 1} if asked else {})
    assert pd.isna(samples.loc["a.jpg", "decision"]) == bool(asked)


@pytest.mark.parametrize(
    ("judged", "found", "state"),
    [
        ("1-a", "1-a", {}),
        (None, None, {}),
        ("1-a", None, {}),
        (None, "1-a", {"unchecked": 1}),
        ("1-a", "2-b", {"stale": 1}),
    ],
)
def test_a_decision_holds_as_long_as_the_content(judged: str | None, found: str | None, state: dict[str, int]) -> None:
    detected = [make_detection_row("a.jpg", [FACE], [HAND]) | {"content": found}]
    for decision in (decide("box", box=FAR, content=judged), decide("label", class_name="like", content=judged)):
        samples, notes = apply([decision], [{"frame_path": "a.jpg"}], detected)
        assert notes == state
        assert (samples.loc["a.jpg", "outcome"] == "corrected") == ("stale" not in state)


def test_an_older_decision_about_the_present_content_counts() -> None:
    decisions = [decide("box", box=FAR, content="1-a", second=0), decide("reject", content="2-b", second=1)]
    assert apply_to_one(decisions, content="1-a")["decision"] == "box"
    assert apply_to_one(decisions, content="2-b")["decision"] == "reject"
    assert pd.isna(apply_to_one(decisions, content="3-c")["decision"])


@pytest.mark.parametrize("outcome", ["missing", "unreadable", "failed"])
def test_a_box_in_a_frame_that_was_not_decoded_is_told(outcome: str) -> None:
    detected = [make_detection_row("a.jpg", outcome=outcome)]
    decisions = [decide("box", judged=None, box=FAR)]
    samples, notes = apply(decisions, [{"frame_path": "a.jpg"}], detected)
    assert (samples.loc["a.jpg", "outcome"], notes) == (outcome, {"no_size": 1})


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("exif", ["apply", "ignore"])
def test_boxes_in_other_pixels_are_turned(orientation: int, exif: str) -> None:
    """A pixel stays where it is: the corner of the stored frame is known for each orientation."""
    config = load_config(parameters={"exif": exif})
    sideways = orientation >= 5
    stored = (640, 480)
    upright = stored[::-1] if sideways else stored
    corner_when_upright = {1: "00", 2: "10", 3: "11", 4: "01", 5: "00", 6: "10", 7: "11", 8: "01"}[orientation]
    long, high = (20, 10) if not sideways else (10, 20)
    right, low = (upright[0] - long, upright[1] - high)
    x, y = (right if corner_when_upright[0] == "1" else 0), (low if corner_when_upright[1] == "1" else 0)
    boxes_of = {"stored": (0.0, 0.0, 20.0, 10.0), "upright": (float(x), float(y), float(x + long), float(y + high))}
    own, other = ("upright", "stored") if exif == "apply" else ("stored", "upright")
    size = upright if exif == "apply" else stored
    detected = [make_detection_row("a.jpg", [], [], size=size) | {"orientation": orientation}]
    decision = decide("box", judged=None, box=boxes_of[other], bbox=boxes_of[other], pixels=other)
    samples, notes = apply([decision], [{"frame_path": "a.jpg"}], detected, config)
    assert notes == {}
    assert get_box(samples.loc["a.jpg"], "hand") == pytest.approx(boxes_of[own])
    assert get_box(samples.loc["a.jpg"], "bbox") == list(boxes_of[own])


def test_boxes_in_other_pixels_of_a_frame_that_may_be_turned_are_told() -> None:
    detected = [make_detection_row("a.jpg", [FACE], [HAND])]
    for decision, state in (
        (decide("box", box=FAR, pixels="stored"), {"unknown_pixels": 1}),
        (decide("reject", pixels="stored"), {"unknown_pixels": 1}),
        (decide("label", class_name="like", pixels="stored"), {}),
    ):
        samples, notes = apply([decision], [{"frame_path": "a.jpg"}], detected)
        assert notes == state
        assert pd.isna(samples.loc["a.jpg", "decision"]) == bool(state)


# -- applying: classes

FRAMES: list[dict[str, Any]] = [
    {"frame_path": "a.jpg"},
    {"frame_path": "none.jpg", "class_name": "no_gesture", "wanted": False},
    {"frame_path": "past the limit.jpg", "wanted": False},
]
DETECTED = [make_detection_row(row["frame_path"], [FACE], [HAND]) for row in FRAMES]


def test_another_class_is_a_correction() -> None:
    samples, notes = apply([decide("label", class_name="like")], FRAMES, DETECTED)
    row = samples.loc["a.jpg"]
    assert row[["outcome", "class_name", "label", "decision"]].tolist() == [
        "corrected",
        "like",
        LABELS["like"],
        "label",
    ]
    assert notes == {}
    samples, _ = apply([decide("label", class_name="ok")], FRAMES, DETECTED)
    assert samples.loc["a.jpg", ["outcome", "decision"]].tolist() == ["paired", "label"]


def test_a_frame_of_an_unwanted_class_is_left_out() -> None:
    decisions = [decide("label", class_name="no_gesture"), decide("box", box=FAR)]
    samples, notes = apply(decisions, FRAMES, DETECTED)
    row = samples.loc["a.jpg"]
    assert row[["outcome", "wanted", "class_name"]].tolist() == ["left_out", False, "no_gesture"]
    assert row[["hand_x1", "bbox_x1", "width"]].isna().all()
    assert notes == {"relabelled": 1, "left_out_box": 1}


def test_a_left_out_frame_of_a_wanted_class_pairs_if_it_was_detected() -> None:
    decisions = [
        decide("label", "none.jpg", class_name="mute"),
        decide("label", "past the limit.jpg", class_name="like"),
    ]
    samples, notes = apply(decisions, FRAMES, DETECTED)
    row = samples.loc["none.jpg"]
    assert row[["outcome", "wanted", "class_name", "decision"]].tolist() == ["corrected", True, "mute", "label"]
    assert get_box(row, "bbox") == [105, 50, 255, 200]  # of an enlarged class
    assert samples.loc["past the limit.jpg", ["outcome", "class_name"]].tolist() == ["left_out", "like"]
    assert notes == {}
    samples, notes = apply(decisions, FRAMES, DETECTED[:1])
    assert samples.loc["none.jpg", ["outcome", "wanted"]].tolist() == ["left_out", False]
    assert notes == {"undetected": 1}


def test_an_unknown_class_and_an_unknown_frame_are_told() -> None:
    decisions = [
        decide("label", class_name="wave"),
        decide("keep", "gone.jpg"),
        decide("label", "gone.jpg", class_name="ok"),
    ]
    samples, notes = apply(decisions, FRAMES, DETECTED)
    assert notes == {"unknown_class": 1, "unlisted": 1}
    assert samples["decision"].isna().all()


def test_two_people_who_decided_of_box_and_class_are_both_named() -> None:
    row = apply_to_one([decide("keep", second=1), decide("label", by="ben", class_name="like")])
    assert row[list(DECISION_COLUMNS)].tolist() == ["keep+label", "anna, ben", decide("keep", second=1).at]


# -- properties

corner = st.integers(-50, 700).map(float)
drawn = st.one_of(
    st.sampled_from([HAND, NEAR, FAR]), st.tuples(corner, corner, corner, corner).map(lambda box: tuple(box))
)
made_decisions = st.builds(
    lambda action, frame, by, second, judged, box, bbox, name, content, pixels: decide(
        action,
        f"{frame}.jpg",
        by=by,
        second=second,
        judged=judged,
        box=box if action in ("box", "choose_hand") else None,
        bbox=bbox if action == "box" else None,
        class_name=name if action == "label" else None,
        content=content,
        pixels=pixels,
    ),
    st.sampled_from(["keep", "reject", "choose_hand", "box", "label", "undo"]),
    st.integers(0, 7),
    st.sampled_from(["anna", "ben"]),
    st.integers(0, 99),
    st.none() | drawn,
    drawn,
    st.none() | drawn,
    st.sampled_from(["ok", "mute", "no_gesture", "wave"]),
    st.sampled_from([None, "1-a", "2-b"]),
    st.sampled_from(["upright", "stored"]),
)
detected_rows = st.builds(
    lambda hands, content, outcome, orientation, size: (
        make_detection_row("", [FACE], hands, size, outcome)
        | {"content": content, "orientation": orientation if outcome == "ok" else None}
    ),
    st.lists(st.sampled_from([HAND, NEAR, FAR]), max_size=2),
    st.sampled_from([None, "1-a"]),
    st.sampled_from(["ok", "ok", "ok", "missing"]),
    st.sampled_from([None, 1, 6]),
    st.sampled_from([(640, 480), (320, 400)]),
)


@effort(deadline=None, max_examples=60)
@given(
    decisions=st.lists(made_decisions, max_size=12),
    found=st.lists(detected_rows, min_size=7, max_size=7),
    kinds=st.lists(st.sampled_from([("ok", True), ("mute", True), ("no_gesture", False)]), min_size=7, max_size=7),
)
def test_only_decided_rows_change_and_all_boxes_are_inside(
    decisions: list[Decision], found: list[dict[str, Any]], kinds: list[tuple[str, bool]]
) -> None:
    config = CONFIG
    table = make_frame_table(
        {"frame_path": f"{k}.jpg", "class_name": name, "wanted": wanted} for k, (name, wanted) in enumerate(kinds)
    )
    detections = make_detections_table(*(row | {"frame_path": f"{k}.jpg"} for k, row in enumerate(found)))
    merged = merge_decisions(decisions)
    samples, notes, *_ = corrections.apply_decisions(table, detections, merged, config.pairing, config)
    plain = pairing.pair_frames(table, detections, config.pairing)
    undecided = ~samples["frame_path"].isin(merged.hands.keys() | merged.labels.keys())
    pd.testing.assert_frame_equal(samples[undecided], plain[undecided])
    assert samples.dtypes.tolist() == plain.dtypes.tolist()
    assert pairing.count_outcomes(samples).loc["all", "frames"] == len(table)
    is_sample = samples["outcome"].isin([one.value for one in Outcome if one.is_sample])
    for kind in ("hand", "bbox"):
        corners = pairing.get_boxes(samples[is_sample], kind)
        size = samples.loc[is_sample, ["width", "height"]].to_numpy()
        assert (corners[:, :2] >= 0).all()
        assert (corners[:, 2:] <= size).all()
        assert (corners[:, :2] < corners[:, 2:]).all()
    assert samples.loc[~is_sample, "bbox_x1"].isna().all()
    assert (samples["wanted"] == (samples["outcome"] != "left_out")).all()
    assert samples.loc[samples["outcome"].isin(["corrected", "rejected"]), "decision"].notna().all()
    json.loads(b"".join(hands_json.encode_samples(samples)))
    # Every decided frame that is wanted shows its decision, or a note tells why not.
    silent = ~undecided & samples["wanted"] & samples["decision"].isna()
    assert sum(note.count for note in notes if note.kind not in ("unchecked", "contradiction")) >= silent.sum()


def test_nothing_changes_without_decisions() -> None:
    table, detections, config = make_frame_table(FRAMES), make_detections_table(*DETECTED), CONFIG
    samples, notes, *_ = corrections.apply_decisions(table, detections, MergedDecisions(), config.pairing, config)
    pd.testing.assert_frame_equal(samples, pairing.pair_frames(table, detections, config.pairing))
    assert notes == []


# -- runs


def copy_run_of_0_2(folder: Path) -> Path:
    """Copy a run of 0.2, as if it had been made of the sample of this clone: its frames are read."""
    output = Path(shutil.copytree(FROZEN / "default", folder / "run"))
    made = json.loads((output / "run.json").read_text())
    made["configuration"]["data"]["images"] = str(SAMPLE / "TRAIN_DATA")
    (output / "run.json").write_text(json.dumps(made))
    return output


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return the folder of a run of 0.2 that this version paired once."""
    folder = copy_run_of_0_2(tmp_path)
    outcomes.pair_run(runs.open_run(folder))
    return folder


def decide_and_pair(output: Path, reviewer: str, *judgements: Judgement) -> runs.FinishedRun:
    opened = runs.open_run(output)
    DecisionLog(opened.store, reviewer).append(*judge_frames(opened, judgements, reviewer))
    outcomes.pair_run(opened)
    return opened


def read_samples(output: Path) -> dict[str, dict[str, Any]]:
    return {row["frame_path"]: row for row in json.loads((output / "hands.json").read_bytes())}


def test_a_run_of_0_2_with_decisions(output: Path) -> None:
    before = read_samples(output)
    first, second, third, fourth = list(before)[:4]
    opened = decide_and_pair(
        output,
        "Anna K.",
        Judgement(first, "box", box=(10, 20, 30, 40)),
        Judgement(second, "reject"),
        Judgement(third, "label", class_name="dislike"),
        Judgement(fourth, "keep"),
    )
    after = read_samples(output)
    assert after.keys() == before.keys() - {second}
    assert after[first]["bbox"] == [10, 20, 30, 40]
    assert after[third]["label"] == LABELS["dislike"]
    assert {path for path in after if after[path] != before[path]} == {first, third}
    table = pq.read_table(output / "outcomes.parquet")
    assert table.column_names[-3:] == list(DECISION_COLUMNS)
    assert table["decision"].drop_null().to_pylist() == ["box", "reject", "label", "keep"]
    assert table["decided_by"].drop_null().to_pylist() == ["Anna K."] * 4
    view = pd.read_csv(output / "outcomes.csv", keep_default_na=False)
    assert view["decision"].value_counts().to_dict() == {"": 116, "box": 1, "reject": 1, "label": 1, "keep": 1}
    counts = pairing.count_outcomes(opened.outcomes).loc["all"]
    assert counts[["corrected", "rejected"]].tolist() == [2, 1]
    summary = outcomes.summarize_samples(opened.outcomes)
    assert "(2 corrected); 1 rejected" in summary
    found, _ = read_decisions(opened.store)
    assert all(decision.content for decision in found)  # read from the frames: 0.2 recorded none
    assert (found[0].judged_class, found[0].pixels) == (opened.frames["class_name"].iloc[0], "stored")


def test_a_run_knows_whether_decisions_are_new(output: Path) -> None:
    opened = runs.open_run(output)
    assert not opened.has_new_decisions
    assert opened.manifest["pairing"]["decisions_sha256"] is None
    assert not opened.decisions
    log = DecisionLog(opened.store, "anna")
    frame_path = str(opened.frames["frame_path"].iloc[0])
    log.append(judge_frame(opened, frame_path, "anna", "reject"))
    assert opened.has_new_decisions
    outcomes.pair_run(opened)
    assert not opened.has_new_decisions
    assert not runs.open_run(output).has_new_decisions
    log.append(judge_frame(opened, frame_path, "anna", "undo"))
    assert runs.open_run(output).has_new_decisions
    assert opened.decisions.hands == {}
    written = (FROZEN / "default" / "hands.json").read_bytes()
    assert (output / "hands.json").read_bytes() != written
    outcomes.pair_run(opened)
    assert (output / "hands.json").read_bytes() == written


def test_a_run_that_was_not_paired_is_paired_with_decisions(tmp_path: Path) -> None:
    folder = copy_run_of_0_2(tmp_path)
    opened = runs.open_run(folder)
    decision = judge_frame(opened, str(opened.frames["frame_path"].iloc[0]), "anna", "reject")
    DecisionLog(opened.store, "anna").append(decision)
    assert opened.has_new_decisions
    assert opened.outcomes.loc[0, "outcome"] == "rejected"
    assert not (folder / "outcomes.parquet").exists()


def test_what_cannot_be_used_is_a_note_of_the_run(output: Path) -> None:
    opened = runs.open_run(output)
    frame_path = str(opened.frames["frame_path"].iloc[0])
    log = DecisionLog(opened.store, "anna")
    log.append(judge_frame(opened, frame_path, "anna", "keep"))
    assert log.name is not None
    with (output / log.name).open("ab") as file:
        file.write(b'{"version": 1, "at"')
    DecisionLog(opened.store, "ben").append(judge_frame(opened, frame_path, "ben", "reject"))
    outcomes.pair_run(opened)
    kinds = {note.kind: str(note) for note in runs.open_run(output).notes}
    assert f"{log.name}, line 2" in kinds["torn"]
    assert "1 contradiction between two people's decisions: the latest counts" in kinds["contradiction"]
    assert frame_path in kinds["contradiction"]
    outcomes.pair_run(opened)
    assert [note.kind for note in opened.notes].count("torn") == 1


def replace_hands(output: Path, change: dict[str, Box | None]) -> None:
    """Give frames other detected hands, as a re-run with another detector would."""
    file = output / "detections.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    for row in rows:
        if row["frame_path"] in change:
            box = change[row["frame_path"]]
            row["hands"] = [] if box is None else [make_detection(box, detector="mediapipe", stage="near")]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)


def test_two_people_decide_and_the_run_is_detected_again_with_other_boxes(output: Path) -> None:
    """Pinned boxes stay, a rejected one stays away, a better one is asked about, and contradictions are listed."""
    samples = runs.open_run(output).outcomes
    paired = samples[samples["outcome"] == "paired"].set_index("frame_path")
    kept, drawn_on, rejected, better, disputed, plain = paired.index[:6]
    box = {path: pairing.get_boxes(paired.loc[path], "hand") for path in paired.index[:6]}
    decide_and_pair(
        output,
        "anna",
        Judgement(kept, "keep"),
        Judgement(drawn_on, "box", box=(5, 6, 70, 80)),
        Judgement(rejected, "reject"),
        Judgement(better, "reject"),
        Judgement(disputed, "keep"),
    )
    decide_and_pair(output, "ben", Judgement(disputed, "box", box=(5, 6, 70, 80)), Judgement(kept, "keep"))
    face = {path: pairing.get_boxes(paired.loc[path], "face") for path in paired.index[:6]}
    moved = {path: tuple((face[path] + [-3, -3, 3, 3]).tolist()) for path in (kept, drawn_on, disputed, better, plain)}
    assert compute_iou(box[better], moved[better]) < 0.5
    slightly = tuple((box[rejected] + 1).tolist())
    replace_hands(output, {**moved, rejected: slightly})
    opened = runs.open_run(output)
    after = outcomes.pair_run(opened).set_index("frame_path")
    assert pairing.get_boxes(after.loc[kept], "hand") == pytest.approx(box[kept])
    assert after.loc[kept, ["outcome", "decision", "decided_by"]].tolist() == ["corrected", "keep", "ben"]
    assert get_box(after.loc[drawn_on], "bbox") == get_box(after.loc[disputed], "bbox") == [5, 6, 70, 80]
    assert after.loc[rejected, ["outcome", "decision"]].tolist() == ["rejected", "reject"]
    assert after.loc[better, "outcome"] == "paired"
    assert pd.isna(after.loc[better, "decision"])
    assert pairing.get_boxes(after.loc[plain], "hand") == pytest.approx(np.clip(moved[plain], 0, None))
    notes = {note.kind: note for note in opened.notes}
    assert notes["asked_again"].example == better
    assert notes["contradiction"].count == 1
    table = opened.pair_frames(opened.pairing).contradictions
    assert table[["frame_path", "reviewer", "other_reviewer"]].to_numpy().tolist() == [[disputed, "ben", "anna"]]


def test_outcomes_of_an_earlier_release_get_the_columns(output: Path) -> None:
    store = stores.open_store(output)
    stored = run_tables.read_outcomes(store)
    assert stored is not None
    old = stored.drop(columns=list(DECISION_COLUMNS))
    old.insert(4, "decision", "the user's")
    run_tables.write_outcomes(store, old)
    found = runs.open_run(output).outcomes
    assert found.columns[-3:].tolist() == list(DECISION_COLUMNS)
    assert found["decision"].isna().all()
    assert set(found["decision_in_csv"]) == {"the user's"}


def test_a_column_of_a_user_of_0_2_is_renamed(tmp_path: Path) -> None:
    folder = copy_run_of_0_2(tmp_path)
    old = pd.read_csv(folder / "outcomes.csv", dtype=str, keep_default_na=False)
    for name in ("decided_by", "orientation"):
        old.insert(4, name, "the user's")
    old.to_csv(folder / "outcomes.csv", index=False)
    opened = runs.open_run(folder)
    samples = outcomes.pair_run(opened)
    assert samples.columns.is_unique
    assert set(samples["decided_by_in_csv"]) == set(samples["orientation_in_csv"]) == {"the user's"}
    assert samples["decided_by"].isna().all()
    assert (folder / "hands.json").read_bytes() == (FROZEN / "default" / "hands.json").read_bytes()
    (note,) = [note for note in opened.notes if note.kind == "renamed"]
    assert note.count == 2


def test_columns_of_outcomes_are_in_one_place() -> None:
    samples = pairing.pair_frames(make_frame_table(FRAMES), make_detections_table(*DETECTED), PairingConfig())
    assert set(samples.columns[-len(OUTCOME_COLUMNS) :]) == set(OUTCOME_COLUMNS)
    assert samples.columns[-3:].tolist() == list(DECISION_COLUMNS)


# -- making decisions


def test_a_judgement_becomes_a_decision(output: Path) -> None:
    opened = runs.open_run(output)
    row = opened.outcomes[opened.outcomes["outcome"] == "paired"].iloc[0]
    made = judge_frame(opened, row["frame_path"], " anna ", "box", box=np.array([1, 2, 30, 40]))  # type: ignore[arg-type]
    assert (made.reviewer, made.action, made.box, made.class_name) == ("anna", "box", (1.0, 2.0, 30.0, 40.0), None)
    assert made.judged_box == pytest.approx(get_box(row, "hand"))
    assert made.judged_class == row["class_name"]
    encoded = (SAMPLE / "TRAIN_DATA" / row["frame_path"]).read_bytes()
    assert made.content is not None
    assert made.content.startswith(f"{len(encoded)}-")
    several = judge_frames(opened, [Judgement(row["frame_path"], "undo")] * 3, "anna")
    assert len({decision.at for decision in several}) == 3  # equal decisions would count once


def test_the_content_of_detection_is_used_where_it_is_known(output: Path) -> None:
    file = output / "detections.parquet"
    table = pq.read_table(file)
    opened = runs.open_run(output)
    full = opened.read_detections()
    rows = [row | {"content": "1-a"} for row in full.to_pylist()]
    assert len(table) == len(rows)
    pq.write_table(pa.Table.from_pylist(rows, DETECTIONS), file)
    made = judge_frame(runs.open_run(output), rows[0]["frame_path"], "anna", "keep")
    assert made.content == "1-a"


def test_a_frame_that_cannot_be_read_has_no_content(output: Path, tmp_path: Path) -> None:
    file = output / "run.json"
    made = json.loads(file.read_text())
    made["configuration"]["data"]["images"] = str(tmp_path / "moved away")
    file.write_text(json.dumps(made))
    opened = runs.open_run(output)
    assert judge_frame(opened, str(opened.frames["frame_path"].iloc[0]), "anna", "keep").content is None


def test_a_kept_crop_of_a_person_is_kept(output: Path) -> None:
    frame_path = next(iter(read_samples(output)))
    decide_and_pair(output, "anna", Judgement(frame_path, "box", box=(10, 10, 20, 20), bbox=(5, 6, 70, 80)))
    decide_and_pair(output, "ben", Judgement(frame_path, "keep"))
    assert read_samples(output)[frame_path]["bbox"] == [5, 6, 70, 80]
    other = next(path for path in read_samples(output) if path != frame_path)
    assert judge_frame(runs.open_run(output), other, "ben", "keep").bbox is None


@pytest.mark.parametrize(
    ("judgement", "message"),
    [
        (Judgement("nowhere.jpg", "keep"), "have no such frame"),
        (Judgement("stop_01/0001.jpg", "kep"), "did you mean 'keep'"),  # type: ignore[arg-type]
        (Judgement("stop_01/0001.jpg", "box"), "`box` needs the argument `box`"),
        (Judgement("stop_01/0001.jpg", "label"), "`label` needs the argument `class_name`"),
        (Judgement("stop_01/0001.jpg", "label", class_name="stp"), "did you mean 'stop'"),
        (Judgement("stop_01/0001.jpg", "keep", class_name="stop"), "`class_name` does not belong to `keep`"),
        (Judgement("stop_01/0001.jpg", "reject", box=HAND), "`box` does not belong to `reject`"),
        (Judgement("stop_01/0001.jpg", "box", box=(1, 2, 3)), "four finite numbers"),  # type: ignore[arg-type]
        (Judgement("stop_01/0001.jpg", "box", box=(1, 2, float("inf"), 4)), "four finite numbers"),
        (Judgement("stop_01/0001.jpg", "box", box=(10, 2, 3, 4)), "x1 must be less than x2"),
        (Judgement("stop_01/0001.jpg", "box", box=(9000, 2, 9003, 4)), "outside its frame of 640 × 480"),
        (Judgement("stop_01/0001.jpg", "box", box=HAND, bbox=(9000, 2, 9003, 4)), "bbox = "),
    ],
)
def test_a_judgement_that_cannot_be_is_refused(output: Path, judgement: Judgement, message: str) -> None:
    good = Judgement("stop_01/0001.jpg", "keep")
    with pytest.raises(DecisionError, match="1 judgement is refused") as refusal:
        judge_frames(runs.open_run(output), [good, judgement], "anna")
    assert message in str(refusal.value)
    assert "  2. " in str(refusal.value)


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run over 30 frames, whose contents are known."""
    output = tmp_path_factory.mktemp("detected") / "run"
    make_run(output, limit=30)
    return output


@pytest.fixture
def fresh(detected: Path, tmp_path: Path) -> Path:
    """Return a copy of a run of this version."""
    return Path(shutil.copytree(detected, tmp_path / "fresh"))


def replace_contents(output: Path, content: str, *frame_paths: str) -> None:
    """Give frames another content in the detections, as a re-run does whose files changed."""
    rows = runs.open_run(output).read_detections().to_pylist()
    rows = [row | {"content": content} if row["frame_path"] in frame_paths else row for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, DETECTIONS), output / "detections.parquet")


def list_sample_paths(output: Path) -> list[str]:
    return list(read_samples(output))


def test_the_outcomes_have_the_content_of_each_frame(fresh: Path) -> None:
    opened = runs.open_run(fresh)
    found = opened.outcomes.dropna(subset="content").set_index("frame_path")["content"].to_dict()
    stored = opened.read_detections(["frame_path", "content"]).to_pylist()
    assert found == {row["frame_path"]: row["content"] for row in stored}
    old = run_tables.read_outcomes(opened.store)
    assert old is not None
    run_tables.write_outcomes(opened.store, old.drop(columns="content"))
    assert opened.outcomes["content"].isna().all()
    assert opened.outcomes.columns.tolist() == old.columns.tolist()
    frame_path = list_sample_paths(fresh)[0]
    assert judge_frame(opened, frame_path, "anna", "keep").content == found[frame_path]


def test_a_judgement_is_about_what_was_shown(fresh: Path) -> None:
    frame_path = list_sample_paths(fresh)[0]
    opened = runs.open_run(fresh)
    samples = opened.outcomes
    replace_contents(fresh, "1-a", frame_path)
    (made,) = judge_frames(opened, [Judgement(frame_path, "keep")], "anna", shown=samples)
    assert made.content == samples.set_index("frame_path")["content"][frame_path] != "1-a"


def test_a_run_that_was_detected_again_is_paired_before_it_is_judged(fresh: Path) -> None:
    frame_path = list_sample_paths(fresh)[0]
    opened = runs.open_run(fresh)
    DecisionLog(opened.store, "ben").append(judge_frame(opened, frame_path, "ben", "keep"))
    judge_frame(opened, frame_path, "anna", "keep")  # newer decisions are fine
    file = fresh / "run.json"
    made = json.loads(file.read_text())
    for changed in ({"finished": "2030-01-02T03:04:05+00:00"}, {"pairing": None}):  # as `redetect` leaves it
        file.write_text(json.dumps(made | changed))
        with pytest.raises(RunError, match="frames were detected since this run was paired; pair it again"):
            judge_frame(runs.open_run(fresh), frame_path, "anna", "keep")


def test_a_chosen_hand_is_one_that_was_detected(fresh: Path) -> None:
    opened = runs.open_run(fresh)
    frame_path = list_sample_paths(fresh)[0]
    (row,) = (row for row in opened.read_detections().to_pylist() if row["frame_path"] == frame_path)
    hand = [row["hands"][0][corner] for corner in ("x1", "y1", "x2", "y2")]
    made = judge_frame(opened, frame_path, "anna", "choose_hand", box=[corner + 0.75 for corner in hand])
    assert made.box == tuple(hand)
    nearest = re.escape(str([round(corner, 2) for corner in hand]))
    with pytest.raises(DecisionError, match=f"no such hand was detected; the nearest is {nearest}"):
        judge_frame(opened, frame_path, "anna", "choose_hand", box=[corner + 1.25 for corner in hand])
    without = opened.outcomes.query("hands == 0 and outcome == 'no_hand'")["frame_path"].iloc[0]
    with pytest.raises(DecisionError, match="no hand was detected in this frame; draw one"):
        judge_frame(opened, without, "anna", "choose_hand", box=hand)


# -- edits of hands.json


def edit(output: Path, change: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((output / "hands.json").read_bytes())
    change(rows)
    (output / "hands.json").write_text(json.dumps(rows, indent=4))
    return rows


def change_everything(rows: list[dict[str, Any]]) -> None:
    """Edit in every way that decisions can hold."""
    mute = [row for row in rows if row["label"] == LABELS["mute"]]
    others = [row for row in rows if row["label"] != LABELS["mute"]]
    others[0]["bbox"] = [1, 2, 33, 44]
    others[1]["label"] = LABELS["dislike"] if others[1]["label"] != LABELS["dislike"] else LABELS["like"]
    others[2]["label"] = LABELS["mute"]  # the crop stays, though a larger one would follow
    others[3] |= {"label": LABELS["mute"], "bbox": [5, 6, 77, 88]}
    mute[0]["bbox"] = [100, 100, 200, 200]
    mute[1]["bbox"] = [100, 100, 230, 180]  # not a square
    mute[2]["label"] = LABELS["ok"]  # the crop stays, though a smaller one would follow
    mute[3]["bbox"] = [0, 0, 640, 480]
    rows.remove(others[4])
    rows.remove(mute[4])


@pytest.mark.parametrize("when", ["before pairing", "after pairing", "from elsewhere", "formatted otherwise"])
def test_edits_become_decisions(output: Path, tmp_path: Path, when: str) -> None:
    edited = edit(output, change_everything)
    file: str | None = None
    if when == "formatted otherwise":
        (output / "hands.json").write_text(json.dumps(edited))
    if when in ("after pairing", "from elsewhere"):
        opened = runs.open_run(output)
        outcomes.pair_run(opened)
        (note,) = [note for note in opened.notes if note.kind == "edited"]
        kept, written = sorted(output.glob("hands.2*.json"))
        assert written.name == f"{kept.stem}.written.json"
        assert f"`detectime decisions import {output} {kept.name}`" in str(note)
        file = kept.name
        if when == "from elsewhere":
            file = str(shutil.copy(kept, tmp_path / kept.name))
    opened = runs.open_run(output)
    decisions, notes = import_hands_json(opened, file, reviewer="anna")
    assert notes == []
    actions = pd.Series([decision.action for decision in decisions]).value_counts().to_dict()
    assert actions == {"box": 7, "label": 4, "reject": 2}
    DecisionLog(opened.store, "anna").append(*decisions)
    outcomes.pair_run(opened)
    assert json.loads((output / "hands.json").read_bytes()) == edited
    counts = pairing.count_outcomes(opened.outcomes).loc["all"]
    assert counts[["corrected", "rejected"]].tolist() == [8, 2]
    told = [str(note) for note in opened.notes if note.kind == "edited"]
    if when == "before pairing":
        assert told == []
    if when == "formatted otherwise":
        assert "the new hands.json has the same samples" in told[0]


def test_an_added_sample_is_a_drawn_box(output: Path) -> None:
    samples = outcomes.pair_run(runs.open_run(output), PairingConfig(min_hand_score=0.95))
    without = samples.loc[samples["outcome"].isin(["no_hand", "apart"])].iloc[0]
    bare = {name: without[name] for name in ("frame_path", "video_name")} | {"frame_id": int(without["frame_id"])}
    added = {**bare, "label": LABELS["mute"], "bbox": [10, 20, 110, 120]}
    edit(output, lambda rows: rows.append(added))
    opened = runs.open_run(output)
    decisions, notes = import_hands_json(opened, reviewer="anna")
    assert (decisions[0].action, decisions[0].judged_box, notes) == ("box", None, [])
    DecisionLog(opened.store, "anna").append(*decisions)
    outcomes.pair_run(opened)
    assert read_samples(output)[without["frame_path"]] == added


def test_a_file_that_was_not_edited_gives_no_decisions(output: Path) -> None:
    opened = runs.open_run(output)
    decisions, (note,) = import_hands_json(opened, reviewer="anna")
    assert (decisions, note.kind) == ([], "unedited")


def test_edits_are_compared_with_what_was_edited(output: Path) -> None:
    """What changed since, such as other settings of pairing, is no edit."""
    frame_path = edit(output, lambda rows: rows[3].update(bbox=[1, 2, 33, 44]))[3]["frame_path"]
    opened = runs.open_run(output)
    outcomes.pair_run(opened, PairingConfig(crop_hand_coefficient=2.0, min_hand_score=0.9))
    kept, written = sorted(output.glob("hands.2*.json"))
    decisions, notes = import_hands_json(opened, kept.name, reviewer="anna")
    assert ([(one.action, one.frame_path) for one in decisions], notes) == ([("box", frame_path)], [])
    written.unlink()  # as earlier releases left it
    with pytest.raises(DecisionError, match=r"53 of 99 samples differ .* not known; nothing was decided. Put the file"):
        import_hands_json(opened, kept.name, reviewer="anna")
    outcomes.pair_run(opened, PairingConfig())
    decisions, (note,) = import_hands_json(opened, kept.name, reviewer="anna")
    assert (note.kind, [one.action for one in decisions]) == ("compared_with_present", ["box"])


def test_an_edit_of_0_2_is_imported(tmp_path: Path) -> None:
    folder = copy_run_of_0_2(tmp_path)
    edited = edit(folder, change_everything)
    opened = runs.open_run(folder)
    decisions, notes = import_hands_json(opened, reviewer="anna")
    assert (len(decisions), notes) == (13, [])
    DecisionLog(opened.store, "anna").append(*decisions)
    outcomes.pair_run(opened)
    assert json.loads((folder / "hands.json").read_bytes()) == edited


def test_what_no_decision_holds_is_told(output: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["video_name"] = "another"
        rows[1]["comment"] = "nice"
        rows[2]["bbox"] = [1.5, 2, 33, 44]

    edit(output, change)
    decisions, notes = import_hands_json(runs.open_run(output), reviewer="anna")
    assert [(note.kind, note.count) for note in notes] == [("other_edits", 2), ("rounded", 1)]
    assert [decision.action for decision in decisions] == ["box"]


def test_an_edit_of_a_frame_that_changed_since_is_left_out(fresh: Path) -> None:
    """The old picture's box must not come onto the new picture."""
    added = runs.open_run(fresh).outcomes.query("outcome == 'no_hand'").iloc[0]
    changed, edited, _, also = (row["frame_path"] for row in edit(fresh, lambda rows: move_and_add(rows, added))[:4])
    outcomes.pair_run(runs.open_run(fresh))
    (kept,) = (file.name for file in fresh.glob("hands.2*Z.json"))
    replace_contents(fresh, "1-a", changed, added["frame_path"])
    opened = runs.open_run(fresh)
    decisions, notes = import_hands_json(opened, kept, reviewer="anna")
    assert [decision.frame_path for decision in decisions] == [edited]
    assert [(note.kind, note.count, note.example) for note in notes] == [("changed", 2, changed)]
    assert also not in {decision.frame_path for decision in decisions}
    outcomes.pair_run(opened)  # with the new contents: what the file was edited from stays known
    assert import_hands_json(opened, kept, reviewer="anna")[1] == notes


def move_and_add(rows: list[dict[str, Any]], added: Any) -> None:
    for row in rows[:2]:
        row["bbox"] = [1, 2, 33, 44]
    bare = {name: added[name] for name in ("frame_path", "video_name")}
    rows.append({**bare, "frame_id": int(added["frame_id"]), "label": int(added["label"]), "bbox": [5, 5, 50, 50]})


def import_file(output: Path, file: str | None = None, reviewer: str = "anna") -> list[Decision]:
    opened = runs.open_run(output)
    find = partial(import_hands_json, opened, file, reviewer=reviewer)
    return import_decisions(opened, file, reviewer, find)[0]


def test_a_file_is_imported_once_and_its_note_goes(output: Path) -> None:
    frame_path = edit(output, lambda rows: rows[3].update(bbox=[1, 2, 33, 44]))[3]["frame_path"]
    outcomes.pair_run(runs.open_run(output))
    (kept,) = (file.name for file in output.glob("hands.2*Z.json"))
    assert [note.kind for note in runs.open_run(output).notes] == ["edited"]
    (decision,) = import_file(output, kept)
    assert read_samples(output)[frame_path]["bbox"] == [1, 2, 33, 44]
    assert [note.kind for note in runs.open_run(output).notes] == []
    (record,) = runs.open_run(output).manifest["imported"]
    assert (record["reviewer"], Path(record["file"]).name) == ("anna", kept)
    with pytest.raises(DecisionError, match=rf"{kept}: anna imported this content at 20.*; nothing was decided"):
        import_file(output, kept, reviewer="ben")
    assert read_decisions(stores.open_store(output))[0] == [decision]
    (output / record["decisions"]).unlink()  # takes the import back
    outcomes.pair_run(runs.open_run(output))
    assert read_samples(output)[frame_path]["bbox"] != [1, 2, 33, 44]
    assert len(import_file(output, kept)) == 1


def test_an_imported_file_that_is_set_aside_does_not_ask_for_an_import(output: Path) -> None:
    edit(output, lambda rows: rows[3].update(bbox=[1, 2, 33, 44], comment="which no decision holds"))
    import_file(output)
    (note,) = (note for note in runs.open_run(output).notes if note.kind == "edited")
    assert "; it was imported as decisions" in str(note)


def test_a_locked_folder_is_left_as_it_is(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(output, lambda rows: rows.pop())
    monkeypatch.setattr(FolderStore, "lock", partialmethod(FolderStore.lock, patience=0.1))
    with FolderStore(output).lock(), pytest.raises(StoreError, match="another run is writing") as refusal:
        import_file(output)
    assert "nothing was changed. Wait until it is done, then try again" in str(refusal.value)
    assert "output`" not in str(refusal.value)
    assert not (output / "decisions").exists()
    assert len(import_file(output)) == 1


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "Permission denied; make the folder writable, or copy it and use the copy"),
        (errno.EROFS, "Read-only file system; make the folder writable, or copy it and use the copy"),
        (errno.ENOSPC, "No space left on device"),
    ],
)
def test_nobody_waits_for_a_folder_that_cannot_be_locked(
    code: int, remedy: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("filelock.FileLock.acquire", fail)
    run = runs.open_run(output)
    for act in (outcomes.pair_run, lambda run: runs.relocate_run(run, "elsewhere")):
        with pytest.raises(StoreError) as refusal:
            act(run)
        assert str(refusal.value) == f"{output / '.lock'}: the output folder cannot be locked: {remedy}"


def test_an_emptied_file_is_refused(output: Path) -> None:
    (output / "hands.json").write_bytes(b"[]")
    with pytest.raises(DecisionError, match="no sample is left of 99, which would reject them all; nothing was deci"):
        import_hands_json(runs.open_run(output), reviewer="anna")


# -- the command line


def call(*arguments: object, capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    """Run the command in this process; returns what it printed."""
    assert main([str(argument) for argument in arguments]) == status
    printed = capsys.readouterr()
    return printed.err if status else printed.out


def test_the_command_imports_once_and_says_what_of(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("decisions", "import", output, "--reviewer", "anna")
    told = call(*command, capsys=capsys).splitlines()
    assert told[:3] == [
        f"Importing {output}/hands.json",
        f"Note: The file {output}/hands.json is as it was written: there is nothing to decide.",
        "Nothing was decided",
    ]
    edit(output, lambda rows: rows[3].update(bbox=[1, 2, 33, 44]))
    kept = shutil.copy(output / "hands.json", output / "edited.json")
    assert "1 decision of anna in" in call(*command, capsys=capsys)
    assert "anna imported this content at" in call(*command[:3], kept, *command[3:], capsys=capsys, status=1)
    task = output / "task.zip"
    task.write_bytes(b"PK")
    assert "task.zip: cannot be read" in call(*command[:3], task, capsys=capsys, status=1)


def test_the_command_lists_what_does_not_count_and_all_contradictions(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("decisions", "list", output, capsys=capsys) == f"No decisions in {output}/decisions\n"
    opened = runs.open_run(output)
    paths = list_sample_paths(output)[:25]
    for name, action in (("ben", "keep"), ("anna", "reject")):
        said = [Judgement(path, action) for path in paths]  # type: ignore[arg-type]
        DecisionLog(opened.store, name).append(*judge_frames(opened, said, name))
    stale = dataclasses.replace(judge_frame(opened, paths[0], "ben", "keep"), content="1-a", frame_path="gone.jpg")
    DecisionLog(opened.store, "ben").append(stale)
    told = call("decisions", "list", output, capsys=capsys)
    assert told.startswith("anna  reject  25\nben  keep  26\nNote: 25 contradictions between")
    assert "Note: 1 decided frame is not in the labels" in told
    assert told.count("keep [") == 20 + 1
    assert "… and 5 more: --all" in told
    assert told.splitlines()[-1] == f"Not all are applied yet: detectime pair {output}"
    assert call("decisions", "list", output, "--all", capsys=capsys).count("keep [") == 25 + 1
    every = json.loads(call("decisions", "list", output, "--json", capsys=capsys))
    assert [values["counts"] for values in every] == [False] * 25 + [True] * 25 + [False]


def test_info_tells_who_decided(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "decisions  " not in call("info", output, capsys=capsys)
    opened = runs.open_run(output)
    paths = list_sample_paths(output)
    log = DecisionLog(opened.store, "anna")
    log.append(*judge_frames(opened, [Judgement(path, "keep") for path in paths[:2]], "anna"))
    DecisionLog(opened.store, "ben").append(judge_frame(opened, paths[0], "ben", "keep"))
    told = call("info", output, capsys=capsys)
    assert f"decisions  2 of anna, 1 of ben; not all are applied yet: detectime pair {output}\n" in told
    assert str(log.name) in told
    outcomes.pair_run(opened)
    assert "decisions  2 of anna, 1 of ben\n" in call("info", output, capsys=capsys)


def test_info_of_a_run_of_0_2_counts_its_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy_run_of_0_2(tmp_path)
    told = call("info", folder, capsys=capsys)
    assert "99 of 108 gesture frames have a sample" in told
    made = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(made | {"finished": None}))
    told = call("info", folder, capsys=capsys)
    assert re.search(r"detection  \d+ rows of the frame table have a saved result", told)


def test_a_report_of_another_pairing_says_so(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stores.open_store(output)
    notebook = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
    store.put("report.ipynb", notebook)
    assert note_old_reports(store) == []  # nobody knows which pairing it shows
    store.put("report.ipynb", _mark_pairing(notebook, store))
    write_report(str(output))
    assert note_old_reports(store) == []
    opened = runs.open_run(output)
    DecisionLog(opened.store, "anna").append(judge_frame(opened, list_sample_paths(output)[0], "anna", "reject"))
    told = call("pair", output, capsys=capsys)
    assert "Note: Decisions or another pairing came after report.html and report.ipynb; `detectime report" in told
    call("report", output, capsys=capsys)
    (note,) = note_old_reports(store)
    assert "came after report.ipynb;" in note.text


def test_a_path_counts_before_a_file_of_that_name_in_the_run(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = runs.open_run(output)
    monkeypatch.chdir(tmp_path)
    assert read_file(opened, "hands.json")[0] == read_file(opened, None)[0] == f"{output}/hands.json"
    (tmp_path / "hands.json").write_bytes(b"[1]")
    assert read_file(opened, "hands.json") == ("hands.json", b"[1]")


def test_frames_that_cannot_be_read_are_counted(output: Path, tmp_path: Path) -> None:
    file = output / "run.json"
    made = json.loads(file.read_text())
    made["configuration"]["data"]["images"] = str(tmp_path / "moved away")
    file.write_text(json.dumps(made))
    edited = edit(output, lambda rows: [row.update(bbox=[1, 2, 33, 44]) for row in rows[:2]])
    _, (note,) = import_hands_json(runs.open_run(output), reviewer="anna")
    assert (note.kind, note.count, note.example) == ("unread", 2, edited[0]["frame_path"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append(5), "sample 100: '5' is not an object"),
        (lambda rows: rows[2].pop("bbox"), "sample 3: "),
        (lambda rows: rows[2].update(bbox=[1, 2, 3]), "four finite numbers"),
        (lambda rows: rows[2].update(bbox=[1, 2, 3, float("nan")]), "four finite numbers"),
        (lambda rows: rows[2].update(bbox=[1, 2, 3, "4"]), "four finite numbers"),
        (lambda rows: rows[2].update(bbox=[10, 2, 3, 4]), "has no area"),
        (lambda rows: rows[2].update(bbox=[1000, 2, 1003, 4]), "outside the frame of 640 × 480 pixels"),
        (lambda rows: rows[2].update(label=99), "label = 99"),
        (lambda rows: rows[2].update(label="ok"), "label = 'ok'"),
        (lambda rows: rows[2].update(label=True), "label = True"),
        (lambda rows: rows[2].update(frame_path="new.jpg"), "frame_path = 'new.jpg'"),
        (lambda rows: rows[2].update(frame_path=7), "frame_path = '7'"),
        (lambda rows: rows.append(rows[0]), "has a sample already"),
    ],
)
def test_a_malformed_sample_is_named_and_nothing_is_decided(output: Path, change: Any, message: str) -> None:
    edit(output, change)
    with pytest.raises(DecisionError, match="nothing was decided") as refusal:
        import_hands_json(runs.open_run(output), reviewer="anna")
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 2
    assert not (output / "decisions").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not JSON"), (b'{"a": 1}', "not a list"), (b"[" * 100_000, "not JSON")]
)
def test_a_file_that_is_no_list_is_refused(output: Path, content: bytes, message: str) -> None:
    (output / "hands.json").write_bytes(content)
    with pytest.raises(DecisionError, match=message):
        import_hands_json(runs.open_run(output), reviewer="anna")


def test_a_file_that_is_not_there_is_refused(output: Path) -> None:
    with pytest.raises(DecisionError, match=r"hands\.9\.json: the file cannot be read"):
        import_hands_json(runs.open_run(output), "hands.9.json", reviewer="anna")
    (output / "hands.json").unlink()
    with pytest.raises(DecisionError, match="there is no such file"):
        import_hands_json(runs.open_run(output), reviewer="anna")
