"""The review in the kernel: which frames, what is written of a decision and when, progress, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectime import outcomes
from detectime.comparison import change_settings
from detectime.decision_files import read_decisions
from detectime.decisions import Decision, DecisionError, format_time
from detectime.detection import manifest
from detectime.detection.manifest import RunError
from detectime.doubt import score_doubt
from detectime.errors import ConfigError
from detectime.judgements import judge_frame
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun, open_run, relocate_run
from detectime.schema import SAMPLES
from detectime.widgets import Explorer, Review
from detectime.widgets.pictures import LARGE
from detectime.widgets.review_queue import ReviewQueue, choose_rows, compute_wilson_interval

BOX = (10.0, 20.0, 60.0, 90.0)
PATIENCE = 60.0


@pytest.fixture
def run(sample_run: Path, tmp_path: Path) -> FinishedRun:
    shutil.copytree(sample_run, tmp_path / "out")
    return open_run(tmp_path / "out")


class Desk:
    """A review without a browser: requests go in, replies come out."""

    def __init__(self, run: FinishedRun, *arguments: Any, **values: Any) -> None:
        self.review = Review(run, *arguments, **({"reviewer": "anna"} | values))
        self.sent: list[dict[str, Any]] = []
        self.review.send = lambda content, buffers=None: self.sent.append(content)

    def ask(self, kind: str, **values: Any) -> dict[str, Any]:
        self.review._receive(None, {"kind": kind, "id": 7, **values}, [])
        replies = [message for message in self.sent if message.get("id") == 7]
        self.sent.clear()
        assert len(replies) == 1
        return replies[0]

    def decide(self, at: int, action: str, **values: Any) -> dict[str, Any]:
        given = {"box": values.get("box"), "class_name": values.get("class_name")}
        return self.ask("decide", at=at, action=action, **self.look(at), **given)

    def look(self, at: int) -> dict[str, Any]:
        """Return what a person sees of a frame, as the front end says it with a decision."""
        item = self.get_item(at)
        return {"seen": item["box"], "seen_class": item["class_name"]}

    def get_item(self, at: int) -> dict[str, Any]:
        item: dict[str, Any] = self.ask("item", at=at)["item"]
        return item


def read_lines(run: FinishedRun) -> list[tuple[str, str]]:
    decisions, notes = read_decisions(run.store)
    assert notes == []
    return [(decision.frame_path, decision.action) for decision in decisions]


def read_samples(run: FinishedRun) -> dict[str, dict[str, Any]]:
    return {row["frame_path"]: row for row in json.loads(Path(str(run.store), "hands.json").read_text())}


def find_at(desk: Desk, *, is_sample: bool = True) -> int:
    samples = desk.review.frames.samples["outcome"].isin(SAMPLES).to_numpy()
    return next(at for at, row in enumerate(desk.review.queue.rows.tolist()) if samples[row] == is_sample)


@pytest.mark.parametrize("widget", [Review, Explorer])
def test_frames_that_moved_away_name_the_remedy(run: FinishedRun, tmp_path: Path, widget: type[Review]) -> None:
    frames = shutil.copytree(SAMPLE / "TRAIN_DATA", tmp_path / "frames")
    relocate_run(run, str(frames))
    path = frames / str(run.outcomes["frame_path"].iat[0])
    path.rename(tmp_path / "gone.jpg")
    opened, sent = widget(run), queue.SimpleQueue[dict[str, Any]]()
    opened.send = lambda content, buffers=None: sent.put(content)
    wanted = [{"row": 0, "side": LARGE}]

    def ask() -> str:
        opened._receive(None, {"kind": "pictures", "wanted": wanted}, [])
        return str(sent.get(timeout=PATIENCE)["fault"])

    assert ask() == "The frame cannot be shown: No such file or directory."
    frames.rename(tmp_path / "elsewhere")
    remedy = f"If the images are elsewhere now: `detectime relocate {run.store} --images DIR`, then open the run again."
    assert ask() == f"The frame cannot be shown: there is nothing at {frames}. {remedy}"
    (tmp_path / "gone.jpg").rename(tmp_path / "elsewhere" / path.relative_to(frames))
    relocate_run(open_run(str(run.store)), str(tmp_path / "elsewhere"))
    opened.close()

    opened = widget(open_run(str(run.store)))
    opened.send = lambda content, buffers=None: sent.put(content)
    assert ask() == "None"
    opened.close()


def test_the_most_doubtful_frames_come_first(run: FinishedRun) -> None:
    doubt = score_doubt(run).set_index("frame_path")["doubt"]
    desk = Desk(run)
    found = [desk.get_item(at) for at in range(len(desk.review.queue))]
    values = [doubt[item["frame_path"]] for item in found]
    assert values == sorted(values, reverse=True)
    samples = run.outcomes
    asked = samples[samples["wanted"] & (samples["outcome"].isin(SAMPLES) | (doubt.to_numpy() > 0))]
    assert {item["frame_path"] for item in found} == set(asked["frame_path"])
    assert found[0]["doubt"] == round(values[0], 3) > 0
    assert found[0]["reasons"]
    assert all(sentence.endswith(".") for sentence in found[0]["reasons"])


def test_each_action_is_on_disk_when_the_reply_comes_and_hands_json_has_it(run: FinishedRun) -> None:
    desk = Desk(run)
    at = [k for k, row in enumerate(desk.review.queue.rows) if desk.review.frames.samples["outcome"][row] == "paired"]
    kept, rejected, drawn, named, renamed = at[:5]
    paths = {k: desk.get_item(k)["frame_path"] for k in at[:5]}
    expected: list[tuple[str, str]] = []
    for k, actions, values in (
        (kept, ["keep"], {}),
        (rejected, ["reject"], {}),
        (drawn, ["box"], {"box": BOX}),
        (named, ["label", "keep"], {"class_name": "stop"}),
        (renamed, ["label", "box"], {"class_name": "ok", "box": BOX}),
    ):
        action = "label" if actions[0] == "label" else actions[0]
        reply = desk.decide(k, action, **values)
        assert reply["kind"] == "decided", reply
        expected += [(paths[k], action) for action in actions]
        assert read_lines(run) == expected
    assert reply["progress"]["decided"] == 5
    assert reply["progress"]["pending"] == 5
    before = read_samples(run)
    assert before[paths[rejected]], "nothing is written to hands.json yet"
    paired = desk.ask("pair")
    assert paired["kind"] == "paired"
    assert paired["progress"]["pending"] == 0
    after = read_samples(run)
    labels = run.config.labels
    assert after[paths[kept]] == before[paths[kept]]
    assert paths[rejected] not in after
    assert after[paths[drawn]]["bbox"] == [int(corner) for corner in BOX]
    assert after[paths[named]]["label"] == labels["stop"]
    assert after[paths[renamed]]["label"] == labels["ok"]
    assert after[paths[renamed]]["bbox"] == [int(corner) for corner in BOX]


def test_another_detected_hand_is_chosen_as_it_was_detected(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    item = desk.get_item(at)
    desk.decide(at, "box", box=(1, 1, 20, 20))
    desk.ask("pair")
    (hand,) = desk.get_item(at)["hands"]
    assert (hand["key"], hand["label"]) == ("a", "hand that pairing chose")
    assert desk.decide(at, "choose_hand", box=hand["corners"])["kind"] == "decided"
    assert desk.get_item(at)["hands"] == []
    desk.ask("pair")
    found = read_samples(run)[item["frame_path"]]["bbox"]
    assert np.abs(np.array(found) - (item["crop"] or item["box"])).max() <= 1


def test_undo_takes_back_the_latest_decision_and_all_of_it(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    item = desk.get_item(at)
    desk.decide(at + 1, "keep")
    desk.decide(at, "label", class_name="stop")
    assert desk.get_item(at)["class_name"] == "stop"
    undone = desk.ask("undo")
    assert (undone["kind"], undone["at"], undone["progress"]["decided"]) == ("undone", at, 1)
    assert desk.get_item(at) == item
    assert desk.ask("undo")["at"] == at + 1
    assert desk.ask("undo")["at"] is None, "nothing is left"
    assert [action for _, action in read_lines(run)] == ["keep", "label", "keep", "undo", "undo", "undo"]
    outcomes.pair_run(run)
    assert run.outcomes["decision"].isna().all()


def test_a_frame_that_is_looked_at_again_shows_what_was_decided_and_keep_keeps_that(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    path = desk.get_item(at)["frame_path"]
    desk.decide(at, "label", class_name="stop", box=BOX)
    item = desk.get_item(at)
    assert (item["class_name"], tuple(item["box"]), item["crop"]) == ("stop", BOX, None)
    assert item["is_decided"]
    assert item["decisions"][0].startswith("you: class stop, box (")
    desk.decide(at, "keep")
    desk.ask("pair")
    sample = read_samples(run)[path]
    assert (sample["label"], sample["bbox"]) == (run.config.labels["stop"], [int(corner) for corner in BOX])


def test_a_review_goes_on_where_it_ended(run: FinishedRun) -> None:
    desk = Desk(run)
    for at in range(3):
        desk.decide(at, "keep")
    paths = [desk.get_item(at)["frame_path"] for at in range(6)]
    again = Desk(open_run(str(run.store)))
    facts = again.ask("open")["facts"]
    assert (facts["at"], facts["progress"]["decided"]) == (3, 3)
    assert again.get_item(3)["frame_path"] == paths[3]
    left = facts["progress"]["doubt_left"]
    assert left < 1
    outcomes.pair_run(run)
    later = Desk(open_run(str(run.store)))
    facts = later.ask("open")["facts"]
    assert (facts["at"], [later.get_item(at)["frame_path"] for at in range(4)]) == (3, paths[:4]), "one can go back"
    assert facts["progress"]["doubt_left"] == pytest.approx(left, abs=0.02)


def test_a_random_sample_is_the_same_after_decisions_were_applied(run: FinishedRun) -> None:
    desk = Desk(run, sample=40)
    assert desk.review.by == "random"
    paths = [desk.get_item(at)["frame_path"] for at in range(40)]
    samples = run.outcomes.set_index("frame_path")["outcome"]
    assert samples[paths].isin(SAMPLES).all()
    assert len({path.split("/")[0] for path in paths}) > 8, "of many groups"
    for at in range(10):
        desk.decide(at, "reject" if at < 3 else "keep")
    empty = samples.index[samples == "no_hand"][0]
    desk.review._log.append(judge_frame(run, empty, "anna", "box", box=BOX))
    outcomes.pair_run(run)
    again = Desk(open_run(str(run.store)), sample=40)
    assert [again.get_item(at)["frame_path"] for at in range(40)] == paths
    progress = again.ask("open")["facts"]["progress"]
    assert (progress["decided"], progress["judged"], progress["right"]) == (10, 10, 7)
    assert progress["low"] < 0.7 < progress["high"]
    assert "70 % of samples right (95 % interval" in progress["text"]
    other = Desk(open_run(str(run.store)), sample=40, seed=1)
    assert [other.get_item(at)["frame_path"] for at in range(40)] != paths
    ben = Desk(open_run(str(run.store)), sample=40, reviewer="ben")
    assert ben.ask("open")["facts"]["progress"]["decided"] == 0, "two people answer independently"
    assert any("anna: reject" in line for line in ben.get_item(0)["decisions"])


def test_what_was_decided_because_of_its_doubt_does_not_bias_a_random_sample(run: FinishedRun) -> None:
    doubtful = Desk(run)
    for at in range(30):
        doubtful.decide(at, "reject")
    desk = Desk(open_run(str(run.store)), sample=100)
    first = desk.ask("open")["facts"]
    assert first["progress"]["decided"] > 15
    assert first["progress"]["judged"] == first["at"] == desk.review.queue.find_first(), "the first ones in a row"
    order = [at for at in range(100) if not desk.review.queue.is_decided[at]]
    for at in order[:20]:
        desk.decide(at, "keep")
    found = desk.ask("open")["facts"]["progress"]
    assert found["judged"] == order[20]
    assert found["right"] == 20


def test_rejected_samples_stay_among_the_doubted_ones(run: FinishedRun) -> None:
    desk = Desk(run)
    at = [k for k, row in enumerate(desk.review.queue.rows) if desk.review.frames.samples["outcome"][row] == "paired"]
    for k in at[:4]:
        desk.decide(k, "reject")
    desk.ask("pair")
    progress = Desk(open_run(str(run.store))).ask("open")["facts"]["progress"]
    assert (progress["judged"], progress["right"], progress["decided"]) == (4, 0, 4)


def test_undoing_leaves_nothing_to_write(run: FinishedRun) -> None:
    desk = Desk(run)
    assert desk.decide(0, "label", class_name="stop")["progress"]["pending"] == 1
    assert desk.ask("undo")["progress"]["pending"] == 0
    desk.decide(0, "reject")
    assert desk.get_item(0)["is_rejected"]
    desk.ask("pair")
    assert desk.get_item(0)["is_rejected"], "as it is written"
    assert desk.decide(0, "keep")["kind"] in ("decided", "fault")


def test_a_path_is_no_run(run: FinishedRun) -> None:
    for widget in (Review, Explorer):
        with pytest.raises(ConfigError, match=r"pass what runs.open_run\('out'\) returns"):
            widget("out")  # type: ignore[operator]


def test_keeping_ones_own_correction_does_not_make_the_sample_right(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    desk.decide(at, "box", box=(1, 1, 20, 20))
    desk.ask("pair")
    progress = desk.decide(at, "keep")["progress"]
    assert (progress["judged"], progress["right"]) == (1, 0)


def test_a_random_sample_keeps_what_was_given_a_class_that_is_not_wanted(run: FinishedRun) -> None:
    desk = Desk(run, sample=20)
    paths = [desk.get_item(at)["frame_path"] for at in range(20)]
    for at in range(20):
        if at % 4:
            desk.decide(at, "keep")
        else:
            desk.decide(at, "label", class_name="no_gesture")
    desk.ask("pair")
    again = Desk(open_run(str(run.store)), sample=20)
    assert [again.get_item(at)["frame_path"] for at in range(20)] == paths
    progress = again.ask("open")["facts"]["progress"]
    assert (progress["judged"], progress["right"]) == (20, 15)


def test_only_what_was_on_the_screen_is_decided(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    seen, before = desk.look(at), desk.get_item(at)
    other = Desk(open_run(str(run.store)), reviewer="ben")
    other.decide(at, "box", box=BOX)
    reply = desk.ask("decide", at=at, action="keep", box=None, class_name=None, **seen)
    assert reply["kind"] == "decided", "it was seen before ben decided"
    assert tuple(desk.get_item(at)["box"]) == tuple(before["box"])
    stale = desk.look(at) | {"seen": BOX}
    reply = desk.ask("decide", at=at, action="keep", box=None, class_name=None, **stale)
    assert "has another box or class by now" in reply["text"]
    reply = desk.ask("decide", at=at, action="keep", box=None, class_name=None, **(desk.look(at) | {"seen_class": "x"}))
    assert "has another box or class by now" in reply["text"]


def test_what_is_undone_after_it_was_written_is_shown_as_pairing_alone_has_it(run: FinishedRun) -> None:
    desk = Desk(run)
    first, second, third = find_at(desk), find_at(desk) + 1, find_at(desk) + 2
    items = [desk.get_item(at) for at in (first, second, third)]
    desk.decide(first, "label", class_name="stop")
    desk.decide(second, "reject")
    desk.decide(third, "box", box=BOX)
    desk.ask("pair")
    for at, item in zip((third, second, first), reversed(items), strict=True):
        assert desk.ask("undo")["at"] == at
        assert desk.get_item(at) == item
    assert desk.ask("open")["facts"]["progress"]["pending"] == 3
    desk.decide(first, "keep")
    desk.ask("pair")
    assert read_samples(run)[items[0]["frame_path"]]["label"] == run.config.labels[items[0]["class_name"]]
    assert items[1]["frame_path"] in read_samples(run)


def test_the_same_person_elsewhere_is_not_undone(run: FinishedRun) -> None:
    desk, elsewhere = Desk(run), Desk(open_run(str(run.store)))
    desk.decide(0, "reject")
    elsewhere.decide(0, "box", box=BOX)
    assert "You decided on that frame again elsewhere" in desk.ask("undo")["text"]
    assert tuple(desk.get_item(0)["box"]) == BOX


def test_a_class_leaves_a_rejected_frame_rejected(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    desk.decide(at, "reject")
    desk.decide(at, "label", class_name="stop")
    item = desk.get_item(at)
    assert (item["is_rejected"], item["class_name"]) == (True, "stop")


def test_the_crop_is_the_one_that_will_be_written(run: FinishedRun) -> None:
    desk = Desk(run)
    at = next(at for at in range(len(desk.review.queue)) if desk.get_item(at)["class_name"] == "ok")
    assert desk.get_item(at)["crop"] is None
    desk.decide(at, "label", class_name="mute")
    item = desk.get_item(at)
    assert item["enlarge"] == run.pairing.crop_hand_coefficient
    desk.ask("pair")
    assert read_samples(run)[item["frame_path"]]["bbox"] == [int(corner) for corner in item["crop"]]


def test_a_box_in_a_frame_that_was_not_detected_is_refused(run: FinishedRun) -> None:
    path = run.outcomes.loc[run.outcomes["outcome"] == "left_out", "frame_path"].iloc[0]
    desk = Desk(run, frames=[path])
    assert "was not detected" in desk.decide(0, "box", box=(0, 0, 2, 2))["text"]
    assert desk.decide(0, "label", class_name="stop")["kind"] == "decided"
    assert "corrections" not in desk.ask("pair")["text"]
    assert "no detection ran on it" in desk.ask("pair")["text"], "what does not count is said"


def test_pairing_in_the_explorer_is_followed(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    seen = desk.look(at)
    outcomes.pair_run(run, change_settings(run.pairing, {"crop_coefficient": 0.5}))
    reply = desk.ask("decide", at=at, action="keep", box=None, class_name=None, **seen)
    lost = desk.get_item(at)["box"] is None
    assert (reply["kind"] == "fault") == lost


def test_two_people_at_once_see_each_other(run: FinishedRun) -> None:
    anna, ben = Desk(run), Desk(open_run(str(run.store)), reviewer="ben")
    at = find_at(anna)
    anna.decide(at, "reject")
    (line,) = ben.get_item(at)["decisions"]
    assert line.startswith("anna: reject")
    anna.decide(at, "keep")
    ben.review._receive(None, {"kind": "decide", "id": 8, "at": at, "action": "reject"}, [])
    news, decided = ben.sent
    assert "while you looked, anna: keep" in news["text"]
    assert decided["kind"] == "decided"
    assert sorted(action for _, action in read_lines(run)) == ["keep", "reject", "reject"]
    outcomes.pair_run(run)
    assert any(note.kind == "contradiction" for note in run.notes)


def test_named_frames_are_asked_about_in_their_order(run: FinishedRun) -> None:
    paths = run.outcomes["frame_path"].iloc[[9, 3, 50]]
    desk = Desk(run, frames=paths)
    paths = paths.tolist()
    assert [desk.get_item(at)["frame_path"] for at in range(3)] == paths
    with pytest.raises(DecisionError, match=r"'no/such.jpg': the labels of the run have no such frame"):
        Review(run, frames=[paths[0], "no/such.jpg"], reviewer="anna")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "dout"}, "did you mean 'doubt'"),
        ({"reviewer": "  "}, "give the name of the person"),
        ({"sample": 0}, "sample = 0: accepted: the number of frames"),
        ({"sample": 2.5}, "sample = 2.5: accepted: the number of frames"),
        ({"sample": True}, "sample = True: accepted: the number of frames"),
        ({"frames": "a.jpg"}, r"frames = 'a.jpg': accepted: a list of paths, such as \['a.jpg'\]"),
        ({"frames": ["a.jpg"], "by": "random"}, "by = 'random' and frames: accepted: one of them"),
        ({"by": "frames"}, "by = 'frames': did you mean"),
    ],
)
def test_wrong_arguments_are_refused(values: dict[str, Any], message: str, run: FinishedRun) -> None:
    with pytest.raises(DecisionError, match=message):
        Review(run, **({"reviewer": "anna"} | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"action": "box", "box": [10, 10, 5, 20]}, "it has no area"),
        ({"action": "box", "box": [900, 10, 950, 20]}, "outside its frame"),
        ({"action": "box", "box": None}, "needs the argument `box`"),
        ({"action": "choose_hand", "box": [1, 2, 3, 4]}, "no such hand was detected"),
        ({"action": "label", "class_name": "stpo"}, "did you mean 'stop'"),
        ({"action": "nod"}, "action = 'nod'"),
    ],
)
def test_a_refused_decision_is_told_and_writes_nothing(values: dict[str, Any], message: str, run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    reply = desk.ask("decide", **({"at": at, "box": None, "class_name": None} | desk.look(at) | values))
    assert reply["kind"] == "fault"
    assert message in reply["text"]
    assert read_lines(run) == []
    assert desk.ask("open")["facts"]["progress"]["decided"] == 0
    assert desk.decide(at, "keep")["kind"] == "decided"


def test_nothing_to_keep_is_told(run: FinishedRun) -> None:
    desk = Desk(run)
    reply = desk.decide(find_at(desk, is_sample=False), "keep")
    assert reply["text"].startswith("There is no box to keep")
    assert read_lines(run) == []


def fill_disk(filler: Path) -> None:
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_loses_nothing(sample_run: Path, small_disk: Path) -> None:
    shutil.copytree(sample_run, small_disk / "out")
    run = open_run(small_disk / "out")
    desk = Desk(run)
    assert desk.decide(0, "keep")["kind"] == "decided"
    filler = small_disk / "filler"
    fill_disk(filler)
    replies = [desk.decide(1, "keep") for _ in range(40)]
    faults = [reply for reply in replies if reply["kind"] == "fault"]
    assert faults, "a page of the file had room for some"
    assert "No space left" in faults[0]["text"]
    done = len(replies) - len(faults) + 1
    filler.unlink()
    assert desk.decide(2, "reject")["kind"] == "decided"
    decisions, notes = read_decisions(run.store)
    assert len(decisions) == done + 1
    assert decisions[-1].action == "reject"
    assert all(note.kind == "torn" for note in notes)
    files = list((small_disk / "out" / "decisions").iterdir())
    assert len(files) <= 2, "no empty file per attempt"


def test_a_run_that_is_detected_meanwhile_is_told(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(run)
    monkeypatch.setattr("detectime.widgets.review._CHECKED", -1.0)
    desk.decide(0, "keep")
    found = manifest.read_manifest(run.store)
    assert found is not None
    found["finished"] = None
    manifest.write_manifest(run.store, found)
    desk.review._receive(None, {"kind": "decide", "id": 8, "at": 1, "action": "keep"} | desk.look(1), [])
    kinds = [message["kind"] for message in desk.sent]
    assert sorted(kinds) == ["decided", "news"]
    assert "Frames of this run are being detected" in next(m["text"] for m in desk.sent if m["kind"] == "news")
    desk.sent.clear()
    assert desk.decide(2, "keep")["kind"] == "decided"
    assert len(read_lines(run)) == 3
    assert "not finished" in desk.ask("pair")["text"]


def test_a_manifest_that_cannot_be_read_makes_no_fault_of_a_decision(
    run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(run)
    monkeypatch.setattr("detectime.widgets.review._CHECKED", -1.0)
    Path(str(run.store), "run.json").write_text("{")
    assert desk.decide(0, "reject")["kind"] == "decided"
    assert len(read_lines(run)) == 1


def test_a_run_that_was_not_paired_since_it_grew_is_refused(run: FinishedRun) -> None:
    found = manifest.read_manifest(run.store)
    assert found is not None
    found["finished"] = "2099-01-01T00:00:00+00:00"
    manifest.write_manifest(run.store, found)
    with pytest.raises(RunError, match="pair it again"):
        Review(open_run(str(run.store)), reviewer="anna")


def test_decisions_about_frames_that_changed_do_not_count(run: FinishedRun) -> None:
    desk = Desk(run)
    at = find_at(desk)
    path = desk.get_item(at)["frame_path"]
    box = (1.0, 2.0, 30.0, 40.0)
    stale = Decision(format_time(), "ben", "box", path, "1-00000000", box, "ok", box=box)
    desk.review._log = type(desk.review._log)(run.store, "ben")
    desk.review._log.append(stale)
    again = Desk(open_run(str(run.store)))
    again_at = next(k for k in range(len(again.review.queue)) if again.get_item(k)["frame_path"] == path)
    assert again.get_item(again_at)["decisions"] == []
    assert again.ask("open")["facts"]["progress"]["decided"] == 0


def test_what_cannot_be_decoded_is_not_asked(run: FinishedRun) -> None:
    samples = run.outcomes
    samples.loc[:4, "outcome"] = "unreadable"
    rows = choose_rows(samples, "doubt", doubt=np.full(len(samples), 0.5))
    assert set(range(5)).isdisjoint(rows.tolist())


def test_the_number_of_frames_does_not_slow_a_decision_down() -> None:
    count = 175_000
    table = pd.DataFrame(
        {"frame_path": [f"{k}.jpg" for k in range(count)], "video_name": "v", "content": "5-36", "outcome": "paired"}
    )
    queue = ReviewQueue(table, np.arange(count), [])
    calls = 0

    class Counted(dict[str, Any]):
        def get(self, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            return super().get(*arguments)

    queue._decisions = Counted(queue._decisions)  # type: ignore[assignment]
    queue.set_decisions(5, [Decision(format_time(), "anna", "keep", "5.jpg", "5-36", BOX, "ok")])
    assert (queue.find_first(), int(queue.is_decided.sum())) == (0, 1)
    assert 0 < calls < 5, "only this frame is looked at"


def test_a_saved_notebook_has_a_picture_and_a_sentence(run: FinishedRun) -> None:
    still = Desk(run).review.make_still()
    bundle = still.make_bundle("a key")
    assert still.jpeg[:2] == b"\xff\xd8"
    assert 'data-detectime-still="a key"' in bundle["text/html"]
    assert "108 frames" in bundle["text/plain"]
    assert "<script" not in bundle["text/html"]


def judge(actions: Sequence[str], verdict_box: tuple[float, ...] = BOX) -> float:
    table = pd.DataFrame({"frame_path": ["a"], "video_name": ["v"], "content": ["5-36"]})
    decisions = [
        Decision(
            format_time(k),
            "anna",
            action,  # type: ignore[arg-type]
            "a",
            "5-36",
            BOX,
            "ok",
            box=verdict_box if action in ("box", "choose_hand") else None,  # type: ignore[arg-type]
            class_name={"label": "stop"}.get(action),
        )
        for k, action in enumerate(actions)
    ]
    return float(ReviewQueue(table, np.array([0]), decisions).verdicts[0])


@pytest.mark.parametrize(
    ("actions", "box", "right"),
    [
        (["keep"], BOX, 1.0),
        (["reject"], BOX, 0.0),
        (["box"], (11.0, 21.0, 61.0, 91.0), 1.0),
        (["box"], (200.0, 20.0, 260.0, 90.0), 0.0),
        (["choose_hand"], (200.0, 20.0, 260.0, 90.0), 0.0),
        (["label", "keep"], BOX, 0.0),
        (["label"], BOX, 0.0),
        (["reject", "undo"], BOX, np.nan),
        (["reject", "undo", "keep"], BOX, 1.0),
        (["reject", "keep"], BOX, 1.0),
        ([], BOX, np.nan),
    ],
)
def test_verdicts(actions: list[str], box: tuple[float, ...], right: float) -> None:
    assert judge(actions, box) == pytest.approx(right, nan_ok=True)


@given(judged=st.integers(1, 400), share=st.floats(0, 1))
def test_wilson_holds_the_share_and_narrows(judged: int, share: float) -> None:
    right = round(share * judged)
    low, high = compute_wilson_interval(right, judged)
    assert 0 <= low <= right / judged <= high <= 1
    assert low < high
    wider = compute_wilson_interval(right, judged), compute_wilson_interval(right * 10, judged * 10)
    assert wider[1][1] - wider[1][0] < wider[0][1] - wider[0][0]


def test_the_interval_of_a_random_sample_holds_the_share_of_all_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    table = pd.DataFrame({"frame_path": [str(k) for k in range(200)], "content": "5-36"})
    for _ in range(200):
        shares = rng.beta(9, 1, 50)  # of groups: right on average in 90 %
        group = rng.integers(0, 50, 200)
        queue = ReviewQueue(table.assign(video_name=group.astype(str)), np.arange(200), [])
        queue.verdicts = (rng.random(200) < shares[group]).astype(float)
        found = queue.measure_precision()
        held += found.low <= 0.9 <= found.high
    assert held >= 0.92 * 200
