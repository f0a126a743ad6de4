"""The explorer in the kernel: what it answers, what it writes and when, and what goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FROZEN
from faults import wait_until

from detectime import outcomes
from detectime.comparison import change_settings, compare_samples, count_changes
from detectime.decision_files import DecisionLog
from detectime.detection import manifest
from detectime.doubt import score_doubt
from detectime.judgements import judge_frame
from detectime.runs import FinishedRun, open_run
from detectime.schema import SAMPLES, Outcome
from detectime.widgets import Explorer, Review, explorer

NARROW = {"crop_coefficient": 0.9}


@pytest.fixture
def run(sample_run: Path, tmp_path: Path) -> FinishedRun:
    shutil.copytree(sample_run, tmp_path / "out")
    return open_run(tmp_path / "out")


class Desk:
    """An explorer without a browser: requests go in, replies come out."""

    def __init__(self, run: FinishedRun, **values: Any) -> None:
        self.explorer = Explorer(run, **values)
        self.sent: list[dict[str, Any]] = []
        self.explorer.send = lambda content, buffers=None: self.sent.append(content)

    def ask(self, kind: str, **values: Any) -> dict[str, Any]:
        self.explorer._receive(None, {"kind": kind, "id": 7, **values}, [])
        (reply,) = [message for message in self.sent if message.get("id") == 7]
        self.sent.remove(reply)
        return reply

    def select(self, settings: dict[str, Any] | None = None, sort: str = "table", **wanted: Any) -> dict[str, Any]:
        return self.ask("select", filter=wanted, sort=sort, descending=sort != "table", settings=settings)

    def list_rows(self, selected: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while len(rows) < selected["total"]:
            part = {"selection": selected["selection"], "from": len(rows), "to": len(rows) + 400}
            rows += self.ask("rows", **part)["rows"]
        return rows


def test_facts_add_up(run: FinishedRun) -> None:
    facts = Desk(run).ask("open")["facts"]
    samples = run.outcomes
    assert facts["frames"] == len(samples) == sum(outcome["count"] for outcome in facts["outcomes"])
    assert facts["samples"] == sum(outcome["count"] for outcome in facts["outcomes"] if outcome["is_sample"])
    assert facts["wanted"] == int(samples["wanted"].sum())
    assert set(facts["classes"]) == set(samples["class_name"])
    assert facts["groups"] == sorted(samples["video_name"].unique())
    assert facts["settings"]["crop_coefficient"] == run.pairing.crop_coefficient
    assert json.dumps(facts), "it is a message"


def test_rows_are_those_of_the_table_with_the_boxes_of_their_samples(run: FinishedRun) -> None:
    desk = Desk(run)
    rows = desk.list_rows(desk.select())
    samples = run.outcomes
    assert [row["frame_path"] for row in rows] == samples["frame_path"].tolist() == desk.explorer.selected
    for row, values in zip(rows, samples.to_dict("records"), strict=True):
        assert row["outcome"] == values["outcome"]
        boxes = {box["kind"]: box["corners"] for box in row["boxes"]}
        assert ("hand" in boxes) == (values["outcome"] in SAMPLES)
        if "hand" in boxes:
            assert np.allclose(boxes["hand"], [values[f"hand_{k}"] for k in ("x1", "y1", "x2", "y2")], atol=0.06)
        assert (row["width"] is None) == (values["outcome"] == "left_out")


def test_settings_are_tried_without_writing_anything(run: FinishedRun) -> None:
    files = {path: path.stat().st_mtime_ns for path in Path(str(run.store)).rglob("*") if path.is_file()}
    desk = Desk(run)
    selected = desk.select(NARROW, changes=["lost"])
    expected = run.pair_frames(change_settings(run.pairing, NARROW)).samples
    changes = compare_samples(run.outcomes, expected)
    assert selected["samples"] == int(expected["outcome"].isin(SAMPLES).sum()) < selected["saved_samples"]
    assert selected["outcomes"] == expected["outcome"].value_counts().to_dict()
    counts = count_changes(changes)
    assert selected["changes"] == {name: counts[name] for name in selected["changes"]}
    assert sum(each["samples"] for each in selected["classes"].values()) == selected["samples"]
    rows = desk.list_rows(selected)
    lost = changes.loc[changes["change"] == "lost", "frame_path"].tolist()
    assert [row["frame_path"] for row in rows] == lost
    assert len(lost) > 5
    for row in rows:
        assert row["change"] == "lost"
        assert [box["kind"] for box in row["boxes"]] == ["before"]
        before = run.outcomes.set_index("frame_path").loc[row["frame_path"], ["hand_x1", "hand_y1"]]
        assert np.allclose(row["boxes"][0]["corners"][:2], before.astype(float), atol=0.06)
    assert {path: path.stat().st_mtime_ns for path in Path(str(run.store)).rglob("*") if path.is_file()} == files
    assert desk.select()["changes"] is None, "back to what is saved"


def test_apply_writes_what_was_tried(run: FinishedRun) -> None:
    desk = Desk(run)
    tried = desk.select(NARROW)
    applied = desk.ask("apply", settings=NARROW)
    assert applied["kind"] == "applied"
    assert f"{tried['samples']} of 108 gesture frames have a sample" in applied["text"]
    assert len(json.loads(Path(str(run.store), "hands.json").read_text())) == tried["samples"]
    assert open_run(str(run.store)).pairing.crop_coefficient == 0.9
    assert applied["facts"]["settings"]["crop_coefficient"] == 0.9
    again = desk.select()
    assert (again["samples"], again["saved_samples"], again["changes"]) == (tried["samples"],) * 2 + (None,)


def test_stale_rows_and_missing_frames_are_told(run: FinishedRun) -> None:
    desk = Desk(run)
    old = desk.select()
    desk.select(classes=["ok"])
    assert desk.ask("rows", selection=old["selection"], **{"from": 0, "to": 9})["stale"]
    assert desk.ask("frame", row=10**6)["kind"] == "fault"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"settings": {"crop_coefficient": 0}}, "pairing.crop_coefficient = 0"),
        ({"settings": {"rule": "2021"}}, "rule: this setting cannot be tried here"),
        ({"filter": {"klasses": ["ok"]}}, "klasses: there is no such filter"),
        ({"sort": "dout"}, "did you mean 'doubt'"),
        ({"settings": {"min_hand_score": 2}}, "min_hand_score = 2"),
    ],
)
def test_wrong_requests_are_refused_by_name(values: dict[str, Any], message: str, run: FinishedRun) -> None:
    desk = Desk(run)
    before = desk.select()
    reply = desk.ask("select", **({"filter": {}, "sort": "table", "settings": None} | values))
    assert reply["kind"] == "fault"
    assert message in reply["text"]
    assert desk.list_rows(before), "the selection stays"


def test_a_frame_shows_everything_that_is_known(run: FinishedRun) -> None:
    desk = Desk(run)
    doubt = score_doubt(run)
    desk.explorer.set_doubt(doubt)
    row = int(doubt["doubt"].fillna(0).argmax())
    reply = desk.ask("frame", row=row)
    frame, strip = reply["frame"], reply["strip"]
    assert {box["kind"] for box in frame["boxes"]} >= {"face", "square", "hand"}
    assert any(line.startswith(f"Doubt {doubt['doubt'].iloc[row]:.2f}: ") for line in frame["lines"])
    assert {each["group"] for each in strip} == {frame["group"]}
    assert [each["frame_id"] for each in strip] == sorted(each["frame_id"] for each in strip)
    assert row in [each["row"] for each in strip]
    assert reply["place"] == row, "in the order of the table"
    desk.select(outcomes=["no_hand"])
    assert desk.ask("frame", row=row)["place"] is None


def test_doubt_comes_by_itself_and_sorts(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_PICTURES_FIRST", 0.0)
    desk = Desk(run)
    assert not desk.ask("open")["facts"]["doubt_ready"]
    wait_until(lambda: {"kind": "facts", "facts": {"doubt_ready": True}} in desk.sent)
    rows = desk.list_rows(desk.select(sort="doubt", doubt=[0.2, 1.0]))
    expected = score_doubt(run).query("doubt >= 0.2").sort_values("doubt", ascending=False, kind="stable")
    assert [row["frame_path"] for row in rows] == expected["frame_path"].tolist()
    assert len(rows) > 3


def test_decisions_that_were_not_paired_are_shown_and_told(run: FinishedRun) -> None:
    path = run.outcomes.loc[run.outcomes["outcome"] == "paired", "frame_path"].iloc[0]
    DecisionLog(run.store, "anna").append(judge_frame(run, path, "anna", "reject"))
    desk = Desk(open_run(str(run.store)))
    facts = desk.ask("open")["facts"]
    assert "Decisions or detections are newer than hands.json" in facts["state"]
    assert facts["reviewers"] == ["anna"]
    (row,) = desk.list_rows(desk.select(decided="yes"))
    assert (row["frame_path"], row["outcome"], row["decision"]) == (path, "rejected", "reject")
    (row,) = desk.list_rows(desk.select(decided="new"))
    assert row["frame_path"] == path
    assert facts["needs_pairing"]
    tried = desk.list_rows(desk.select({"crop_coefficient": 2.0}, decided="yes"))
    assert [each["outcome"] for each in tried] == ["rejected"], "a decision holds under other settings"
    desk.ask("apply", settings=None)
    assert path not in Path(str(run.store), "hands.json").read_text()


def test_decisions_of_a_review_beside_it_are_noticed(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_CHECKED", -1.0)
    desk = Desk(run)
    assert desk.select(decided="new")["total"] == 0
    path = run.outcomes.loc[run.outcomes["outcome"] == "paired", "frame_path"].iloc[0]
    DecisionLog(run.store, "anna").append(judge_frame(run, path, "anna", "reject"))
    assert desk.select(decided="new")["total"] == 1
    (news,) = desk.sent
    assert (news["kind"], news["facts"]["needs_pairing"], news["facts"]["reviewers"]) == ("facts", True, ["anna"])
    desk.sent.clear()
    outcomes.pair_run(run)
    assert desk.select(decided="yes")["total"] == 1
    (news,) = desk.sent
    assert not news["facts"]["needs_pairing"]


def test_a_run_that_got_other_frames_is_not_mixed_up(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_CHECKED", -1.0)
    desk = Desk(run)
    desk.select()
    before = Path(str(run.store), "hands.json").read_bytes()
    monkeypatch.setattr(desk.explorer.frames, "samples", desk.explorer.frames.samples.iloc[:40])
    assert "has other frames now" in desk.ask("apply", settings=NARROW)["text"]
    assert Path(str(run.store), "hands.json").read_bytes() == before


def test_while_frames_are_detected_the_grid_stays(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_CHECKED", -1.0)
    desk = Desk(run)
    total = desk.select()["total"]
    found = manifest.read_manifest(run.store)
    assert found is not None
    found["finished"] = None
    manifest.write_manifest(run.store, found)
    assert desk.select()["total"] == total
    assert desk.sent[-1]["facts"]["state"] == "Frames of this run are being detected."


def test_squares_and_counts_are_those_that_are_tried(run: FinishedRun) -> None:
    desk = Desk(run)
    facts = desk.ask("open")["facts"]
    assert [outcome["name"] for outcome in facts["outcomes"]] == [outcome.value for outcome in Outcome]
    selected = desk.select({"crop_coefficient": 0.6}, outcomes=["apart"])
    (row, *_) = desk.list_rows(selected)
    boxes = desk.ask("frame", row=row["row"])["frame"]["boxes"]
    face, square = (next(box["corners"] for box in boxes if box["kind"] == kind) for kind in ("face", "square"))
    longer = max(face[2] - face[0], face[3] - face[1])
    assert (square[2] - square[0]) / 2 == pytest.approx(0.6 * longer, abs=0.3)


def test_a_run_that_is_at_work_is_not_written(run: FinishedRun) -> None:
    desk = Desk(run)
    before = Path(str(run.store), "hands.json").read_bytes()
    with open_run(str(run.store)).store.lock():
        reply = desk.ask("apply", settings=NARROW)
    assert reply["kind"] == "fault"
    assert "nothing was changed" in reply["text"]
    assert Path(str(run.store), "hands.json").read_bytes() == before


def test_the_static_picture_says_what_the_set_is(run: FinishedRun) -> None:
    still = Desk(run).explorer.make_still()
    assert still.jpeg[:2] == b"\xff\xd8"
    assert "100 of 108 gesture frames have a sample" in still.text


def test_without_pictures_the_sentence_stays(run: FinishedRun, tmp_path: Path) -> None:
    manifest = Path(str(run.store), "run.json")
    manifest.write_text(manifest.read_text().replace(run.config.data.images, str(tmp_path / "gone")))
    still = Desk(open_run(str(run.store))).explorer.make_still()
    assert still.jpeg == b""
    bundle = still.make_bundle("key")
    assert "<img" not in bundle["text/html"]
    assert "100 of 108" in bundle["text/html"]


def test_a_run_of_0_2_is_explored_and_reviewed(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "out")
    run = open_run(tmp_path / "out")
    desk = Desk(run)
    selected = desk.select(NARROW, changes=["lost"])
    assert selected["samples"] < selected["saved_samples"] == 99
    assert len(desk.list_rows(selected)) == selected["changes"]["lost"]
    assert desk.ask("frame", row=0)["frame"]["lines"]
    review = Review(run, reviewer="anna")
    sent: list[dict[str, Any]] = []
    review.send = lambda content, buffers=None: sent.append(content)
    for message in ({"kind": "item", "at": 0}, {"kind": "decide", "at": 0, "action": "reject"}, {"kind": "pair"}):
        review._receive(None, message | {"id": 1}, [])
    item, decided, paired = sent
    assert (item["item"]["at"], decided["progress"]["decided"]) == (0, 1)
    assert "1 rejected" in paired["text"]
