"""`trace_frame`: everything that a run knows of one frame."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_runs import make_run

import detectime
import detectime.config
from detectime import decision_files, outcomes, runs
from detectime.decisions import Decision, format_time
from detectime.detection.manifest import RunError
from detectime.runs import FinishedRun
from detectime.schema import DETECTIONS, DamagedTableError
from detectime.splits import write_split
from detectime.storage import run_tables
from detectime.trace import Trace, UntracedFrameError, format_trace, trace_frame

FROZEN = Path(__file__).parent / "frozen" / "0.2.0" / "default"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trace") / "run"
    make_run(output, limit=30)
    return output


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> FinishedRun:
    """Open a copy of a run over 30 frames of the sample; the others are left out."""
    return runs.open_run(shutil.copytree(finished, tmp_path / "run"))


def trace(run: FinishedRun, frame_path: str) -> Trace:
    """Trace a frame, and check that JSON can hold what is told."""
    found = trace_frame(run, frame_path)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def read_hands(run: FinishedRun) -> dict[str, dict[str, Any]]:
    return {sample["frame_path"]: sample for sample in json.loads(run.store.get("hands.json") or b"")}


def decide(run: FinishedRun, frame_path: str, action: Any, reviewer: str = "anna", **more: Any) -> None:
    content = run.read_detections(["frame_path", "content"]).to_pandas().set_index("frame_path")["content"]
    log = decision_files.DecisionLog(run.store, reviewer)
    log.append(Decision(format_time(), reviewer, action, frame_path, content[frame_path], None, "stop", **more))


def test_the_sample_is_that_of_hands_json(run: FinishedRun) -> None:
    hands = read_hands(run)
    assert len(hands) > 20
    for frame_path, outcome in run.outcomes.set_index("frame_path")["outcome"].iloc[::4].items():
        found = trace(run, str(frame_path))
        assert found["outcome"]["name"] == outcome
        sample, listed = found["sample"], hands.get(str(frame_path))
        assert (sample is None) == (listed is None)
        if sample and listed:
            assert (sample["bbox"], sample["label"]) == (listed["bbox"], listed["label"])
            assert found["frame"]["class_name"] == sample["class_name"]


def test_the_facts_are_those_of_the_tables(run: FinishedRun) -> None:
    frame_path = next(iter(read_hands(run)))
    found = trace(run, frame_path)
    (row,) = (row for row in run.read_detections().to_pylist() if row["frame_path"] == frame_path)
    detection, outcome = found["detection"], run.outcomes.set_index("frame_path").loc[frame_path]
    assert detection["content"] == row["content"]
    assert (detection["width"], detection["height"]) == (640, 480)
    assert [face["score"] for face in detection["faces"]] == [face["score"] for face in row["faces"]]
    hand = detection["hands"][0]
    assert [hand["x1"], hand["detector"]] == [row["hands"][0]["x1"], "mediapipe"]
    assert np.shape(hand["landmarks"]) == (21, 3)
    assert np.ravel(hand["landmarks"]).tolist() == row["landmarks"][0]
    assert hand["presence"] == row["presence"][0]
    assert bytes.fromhex(hand["crop_hash"]) == row["crop_hash"][0]
    pair = found["pairing"]
    assert pair["rule"] == pair["settings"]["rule"] == run.pairing.rule
    assert pair["hand"] == outcome[["hand_x1", "hand_y1", "hand_x2", "hand_y2"]].tolist()
    assert pair["face"] == outcome[["face_x1", "face_y1", "face_x2", "face_y2"]].tolist()
    assert pair["overlap"] == outcome["overlap"]
    assert found["sample"]["hand"] == pair["hand"]
    weights = {name for detector in found["detectors"].values() for name in detector["weights"]}
    assert "palm_detection.onnx" in weights
    assert found["detectors"] == run.manifest["detectors"]
    assert found["configuration"] == {"selection.limit": 30, "run.workers": 1}
    assert found["versions"] == dict.fromkeys(("made_by", "detectime", "this"), detectime.__version__)
    assert found["source"] == {"images": run.config.data.images, "source_type": "folder"}
    assert (found["started"], found["finished"]) == (run.manifest["started"], run.manifest["finished"])


def test_the_settings_are_those_of_the_last_pairing(run: FinishedRun) -> None:
    frame_path = next(iter(read_hands(run)))
    outcomes.pair_run(run, detectime.config.PairingConfig(crop_coefficient=0.1, enlarged_classes=("stop",)))
    found = trace(run, frame_path)
    assert found["outcome"]["name"] == run.outcomes.set_index("frame_path").loc[frame_path, "outcome"] == "apart"
    assert found["pairing"]["settings"]["crop_coefficient"] == 0.1
    assert found["pairing"]["hand"] is None
    assert found["configuration"]["pairing.enlarged_classes"] == ["stop"]


def test_a_frame_that_was_not_detected(run: FinishedRun) -> None:
    left_out = run.outcomes.query("outcome == 'left_out'")["frame_path"].iloc[0]
    found = trace(run, left_out)
    assert found["outcome"]["name"] == "left_out"
    assert (found["detection"], found["sample"], found["pairing"]["face"]) == (None, None, None)


def test_a_frame_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.jpg").write_bytes(b"hello")
    (tmp_path / "train.csv").write_text("video_name,frame_id,class_name,frame_path\nv,1,ok,a.jpg\nv,2,ok,b.jpg\n")
    run = make_run(tmp_path / "run", images=str(images), labels=str(tmp_path / "train.csv"))
    found = trace(run, "a.jpg")
    assert found["outcome"]["name"] == "unreadable"
    assert "text, not an image" in found["outcome"]["error"]
    assert format_trace(found).startswith("a.jpg: unreadable. text, not an image")
    assert trace(run, "b.jpg")["outcome"]["name"] == "missing"


def test_the_part_of_the_split(run: FinishedRun) -> None:
    frame_path, sample = next(iter(read_hands(run).items()))
    assert trace(run, frame_path)["split"] is None
    write_split(run.store, pd.DataFrame({"video_name": [sample["video_name"]], "split": ["val"]}))
    assert trace(run, frame_path)["split"] == "val"
    other = run.outcomes.query(f"video_name != '{sample['video_name']}'")["frame_path"].iloc[0]
    assert trace(run, other)["split"] is None


def test_decisions_show_and_those_that_count_are_marked(run: FinishedRun) -> None:
    frame_path = next(iter(read_hands(run)))
    chosen = trace(run, frame_path)["pairing"]["hand"]
    decide(run, frame_path, "reject")
    decide(run, frame_path, "box", "ben", box=(10.0, 20.0, 30.0, 40.0))
    decide(run, frame_path, "label", class_name="ok")
    decide(run, frame_path, "label", "carl", class_name="mute")
    decide(run, frame_path, "undo", "carl")
    before = trace(run, frame_path)
    assert before["needs_pairing"]
    assert before["outcome"]["name"] == "paired"
    told = [(each["reviewer"], each["action"], each["counts"]) for each in before["decisions"]]
    assert told == [
        *(("anna", "reject", False), ("ben", "box", True), ("anna", "label", True)),
        *(("carl", "label", False), ("carl", "undo", False)),
    ]
    outcomes.pair_run(run)
    found = trace(run, frame_path)
    assert not found["needs_pairing"]
    assert (found["outcome"]["name"], found["outcome"]["decision"]) == ("corrected", "box+label")
    assert found["sample"] | {"hand": None} == {
        "class_name": "ok",
        "label": 4,
        "bbox": read_hands(run)[frame_path]["bbox"],
        "hand": None,
    }
    assert found["sample"]["bbox"] == [10, 20, 30, 40]
    assert found["frame"]["class_name"] == "stop"
    assert found["pairing"]["hand"] == chosen
    assert found["outcome"]["decided_by"] == "ben, anna"
    text = format_trace(found)
    assert text.startswith(f"{frame_path}: corrected. ")
    assert re.search(r"^decision +box\+label by ben, anna, 20", text, re.MULTILINE)
    names = [line.split("  ")[0] for line in text.splitlines()[1:] if not line.startswith(" ")]
    assert {"needs_pairing", "configuration", "decision"} <= set(names)  # each is apart from its value


def test_a_decision_that_pairing_does_not_apply_does_not_count(run: FinishedRun) -> None:
    frame_path = next(iter(read_hands(run)))
    decide(run, frame_path, "box", box=(5000.0, 20.0, 5010.0, 40.0))  # outside the frame
    decide(run, frame_path, "label", class_name="wave")  # no class
    assert [each["counts"] for each in trace(run, frame_path)["decisions"]] == [False, False]


def test_frames_detected_since_the_pairing_are_told(run: FinishedRun) -> None:
    file = Path(str(run.store), "run.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"finished": "2030-01-02T03:04:05+00:00"}))
    assert trace(runs.open_run(str(run.store)), next(iter(read_hands(run))))["needs_pairing"]


@pytest.mark.large
def test_the_decisions_of_a_frame_are_found_among_many(run: FinishedRun) -> None:
    frame_path = next(iter(read_hands(run)))
    others = [Decision(format_time(k), "anna", "keep", f"{k}.jpg", None, None, "stop") for k in range(124_000)]
    lines = b"".join(decision_files._encode(each) for each in others)
    run.store.append("decisions/anna-1.jsonl", lines)
    decide(run, frame_path, "reject")
    began = time.process_time()
    assert [each["action"] for each in trace(run, frame_path)["decisions"]] == ["reject"]
    assert time.process_time() - began < 2


def test_a_decision_about_other_content_does_not_count(run: FinishedRun) -> None:
    frame_path = next(iter(read_hands(run)))
    log = decision_files.DecisionLog(run.store, "anna")
    log.append(Decision(format_time(), "anna", "reject", frame_path, "5-3610a686", None, "stop"))
    assert [each["counts"] for each in trace(run, frame_path)["decisions"]] == [False]


def test_an_unknown_frame_is_refused_with_the_closest_name(run: FinishedRun) -> None:
    with pytest.raises(UntracedFrameError, match=r"'stop_1/0002\.jpg' is not a frame_path .* mean 'stop_01/0002\.jpg'"):
        trace_frame(run, "stop_1/0002.jpg")
    with pytest.raises(LookupError, match=r"did you mean 'stop_02/0009\.jpg'"):
        trace_frame(run, "TRAIN_DATA/stop_02/0009.jpg")
    with pytest.raises(UntracedFrameError, match=r"'' is not a frame_path of this run; accepted: a frame_path of outc"):
        trace_frame(run, "")


def test_a_run_of_0_2(tmp_path: Path) -> None:
    run = runs.open_run(shutil.copytree(FROZEN, tmp_path / "run"))
    rows = pd.read_csv(FROZEN / "outcomes.csv")
    hands = read_hands(run)
    for row in rows.iloc[::9].to_dict("records"):
        found = trace(run, row["frame_path"])
        assert found["outcome"]["name"] == row["outcome"]
        assert (found["sample"] or {}).get("bbox") == hands.get(row["frame_path"], {}).get("bbox")
        assert found["pairing"]["pixels"] == "stored"
    with pytest.raises(UntracedFrameError, match="did you mean"):
        trace_frame(run, "stop_01/1.jpg")


def test_a_damaged_table_is_named(run: FinishedRun) -> None:
    frame_path = next(iter(read_hands(run)))
    content = bytearray(run.store.get("detections.parquet") or b"")
    run.store.put("detections.parquet", bytes(content[: len(content) // 2]))
    with pytest.raises(RunError, match=r"detections\.parquet: damaged .*; run again: the file is kept"):
        trace_frame(run, frame_path)
    run.store.put("detections.parquet", bytes(content))
    run.store.put("outcomes.parquet", b"PAR1")
    with pytest.raises(DamagedTableError, match=r"outcomes\.parquet: damaged"):
        trace_frame(run, frame_path)
    run.store.delete(["outcomes.parquet"])
    assert trace(run, frame_path)["outcome"]["name"] == "paired"
    run.store.delete(["detections.parquet"])
    with pytest.raises(RunError, match=r"detections\.parquet: the detections of this run are missing"):
        trace_frame(run, frame_path)


def test_the_text_has_a_line_per_fact(run: FinishedRun) -> None:
    text = format_trace(trace(run, next(iter(read_hands(run)))))
    assert "palm_detection.onnx" in text
    assert "landmarks" not in text
    assert "decisions      none" in text.splitlines()
    assert all(line == line.rstrip() for line in text.splitlines())
    assert any(line.startswith("sample         class_name: stop") for line in text.splitlines())


@pytest.mark.large
def test_a_large_run_is_traced_quickly(run: FinishedRun) -> None:
    count = 175_000
    names = pa.array([f"video_{k // 90:05}/{k % 90:04}.jpg" for k in range(count)])
    rows = np.arange(count) % 30
    detections = run.read_detections().take(pa.array(rows)).set_column(0, DETECTIONS.field("frame_path"), names)
    with run.store.writing("detections.parquet") as file:
        pq.write_table(detections, file, row_group_size=run_tables.ROWS_PER_GROUP)
    samples = run.outcomes.iloc[rows].assign(frame_path=names.to_pandas().array).reset_index(drop=True)
    frames = samples[["frame_path", "video_name", "frame_id", "class_name", "label", "on_disk", "wanted"]]
    run_tables.write_outcomes(run.store, samples)
    run_tables.write_frames(run.store, frames)
    opened = runs.open_run(str(run.store))
    began = time.process_time()
    assert trace(opened, "video_01500/0045.jpg")["outcome"]["name"] == "paired"
    assert time.process_time() - began < 2
    began = time.process_time()
    with pytest.raises(UntracedFrameError, match=r"did you mean 'video_01500/0045\.jpg'"):
        trace_frame(opened, "video_01500/045.jpg")
    assert time.process_time() - began < 4
