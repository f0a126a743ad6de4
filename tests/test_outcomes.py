"""`pair_run`: what it writes, and a hands.json that somebody edited."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from detectime import outcomes, runs
from detectime.config import PairingConfig
from detectime.detection import manifest
from detectime.detection.manifest import RunError
from detectime.exports import hands_json
from detectime.notes import Note
from detectime.storage import run_tables
from detectime.storage import store as stores

FROZEN = Path(__file__).parent / "frozen" / "0.2.0" / "default"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Give a run of 0.2 that was paired once by this version."""
    folder = Path(shutil.copytree(FROZEN, tmp_path / "run"))
    outcomes.pair_run(runs.open_run(folder))
    return folder


def pair(output: Path, settings: PairingConfig | None = None) -> list[Note]:
    opened = runs.open_run(output)
    outcomes.pair_run(opened, settings)
    return [note for note in opened.notes if note.kind == "edited"]


def kept(output: Path) -> list[Path]:
    return sorted(output.glob("hands.*.json"))


def edit(output: Path, change: Any) -> bytes:
    rows = json.loads((output / "hands.json").read_bytes())
    change(rows)
    content = json.dumps(rows, indent=4).encode()
    (output / "hands.json").write_bytes(content)
    return content


def test_writes_the_tables_and_records_what_made_them(output: Path) -> None:
    content = (output / "hands.json").read_bytes()
    made = json.loads((output / "run.json").read_text())["pairing"]
    assert made["hands_sha256"] == hashlib.sha256(content).hexdigest()
    assert (made["rule"], made["settings"]["crop_coefficient"]) == ("2021", 1.5)
    table = pq.read_table(output / "outcomes.parquet")
    view = pd.read_csv(output / "outcomes.csv", keep_default_na=False)
    assert table.column_names == view.columns.tolist()
    assert len(table) == len(view) == 120
    assert sum(outcome == "paired" for outcome in table["outcome"].to_pylist()) == len(json.loads(content))


def test_opens_what_was_written(output: Path) -> None:
    opened = runs.open_run(output)
    again = outcomes.pair_run(opened)
    found = opened.outcomes
    assert found.columns.tolist() == again.columns.tolist()
    assert found["bbox_x1"].equals(again["bbox_x1"])
    assert found["frame_path"].tolist() == again["frame_path"].tolist()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[3]["bbox"].__setitem__(0, 7), "1 changed boxes"),
        (lambda rows: rows[3].update(label=6), "1 changed labels"),
        (lambda rows: rows.pop(3), "1 removed samples"),
        (lambda rows: rows.append({**rows[3], "frame_path": "new.jpg"}), "1 added samples"),
    ],
)
def test_an_edited_file_is_kept_and_told(output: Path, change: Any, told: str) -> None:
    written = (output / "hands.json").read_bytes()
    frame = json.loads(written)[3]["frame_path"]
    content = edit(output, change)
    (note,) = pair(output)
    assert told in str(note)
    assert note.example in (frame, "new.jpg")
    (copy,) = kept(output)
    assert copy.name in str(note)
    assert copy.read_bytes() == content
    assert (output / "hands.json").read_bytes() == written
    assert pair(output) == [note]  # it stays on record; nothing new
    assert kept(output) == [copy]


@pytest.mark.parametrize("content", [b"", b"not json", b'{"a": 1}', b"[1, 2]", b"[]", b"\xff\xfe"])
def test_whatever_lies_there_is_kept(output: Path, content: bytes) -> None:
    (output / "hands.json").write_bytes(content)
    assert len(pair(output)) == 1
    assert [copy.read_bytes() for copy in kept(output)] == [content]


def test_two_edits_in_one_second_are_both_kept(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "format_now", lambda: "2026-01-02T03:04:05+00:00")
    first = edit(output, lambda rows: rows.pop())
    pair(output)
    second = edit(output, lambda rows: rows.pop(0))
    pair(output)
    assert {copy.name: copy.read_bytes() for copy in kept(output)} == {
        "hands.20260102T030405Z.json": first,
        "hands.20260102T030405Z.2.json": second,
    }


def test_another_setting_is_no_edit(output: Path) -> None:
    before = (output / "hands.json").read_bytes()
    assert pair(output, PairingConfig(crop_hand_coefficient=2.0)) == []
    assert (output / "hands.json").read_bytes() != before
    assert pair(output) == []  # and it is the run's own now
    assert runs.open_run(output).pairing == PairingConfig(crop_hand_coefficient=2.0)


def test_a_kill_before_the_file_appears_is_no_edit(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (output / "hands.json").read_bytes()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    write = manifest.write_manifest

    def write_and_be_killed(*given: Any) -> None:
        write(*given)
        killed()

    monkeypatch.setattr(manifest, "write_manifest", write_and_be_killed)
    with pytest.raises(KeyboardInterrupt):
        pair(output, PairingConfig(crop_hand_coefficient=2.0))
    monkeypatch.undo()
    assert (output / "hands.json").read_bytes() == before
    assert pair(output, PairingConfig(crop_hand_coefficient=2.0)) == []
    assert kept(output) == []


def test_a_run_of_0_2_whose_file_was_edited_keeps_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FROZEN, tmp_path / "run"))
    content = edit(folder, lambda rows: rows[0]["bbox"].__setitem__(2, 1))
    (note,) = pair(folder)
    assert "1 changed boxes" in str(note)
    assert [copy.read_bytes() for copy in kept(folder)] == [content]
    assert (folder / "hands.json").read_bytes() == (FROZEN / "hands.json").read_bytes()


def test_a_deleted_file_is_written_again(output: Path) -> None:
    written = (output / "hands.json").read_bytes()
    (output / "hands.json").unlink()
    assert pair(output) == []
    assert (output / "hands.json").read_bytes() == written


def test_a_score_that_detection_did_not_keep_is_told(output: Path) -> None:
    opened = runs.open_run(output)
    outcomes.pair_run(opened, PairingConfig(min_hand_score=0.3, min_face_score=0.9))
    (note,) = [note for note in opened.notes if note.kind == "ignored"]
    assert "pairing.min_hand_score = 0.3" in str(note)
    assert "0.5" in str(note)


def test_scores_can_be_tried_without_another_look(output: Path) -> None:
    every = int(runs.open_run(output).outcomes["outcome"].eq("paired").sum())
    samples = outcomes.pair_run(runs.open_run(output), PairingConfig(min_hand_score=0.95))
    few = samples[samples["outcome"] == "paired"]
    assert 0 < len(few) < every
    assert (few["hand_score"] >= 0.95).all()


def test_the_frame_table_survives_its_file(output: Path) -> None:
    store = stores.open_store(output)
    table = runs.open_run(output).frames
    table = table.assign(more=["ä", "", "x"] * 40, mixed=[1, "two", None] * 40)
    table.attrs = {"labels_sha256": "00", "notes": [Note("renamed", 1, "column is called otherwise", "row")]}
    run_tables.write_frames(store, table)
    found = run_tables.read_frames(store)
    assert found is not None
    assert found.attrs["notes"] == table.attrs["notes"]
    assert found["more"].tolist() == table["more"].tolist()
    assert found["mixed"].tolist()[:2] == ["1", "two"]
    assert found["mixed"].isna().sum() == 40
    assert found["wanted"].dtype == bool
    assert found.columns.tolist() == table.columns.tolist()


def test_nothing_but_pair_run_is_needed_to_write_the_samples(output: Path) -> None:
    samples = runs.open_run(output).outcomes
    assert b"".join(hands_json.encode_samples(samples)) == (output / "hands.json").read_bytes()


def test_an_edited_file_that_is_put_back_is_kept_again(output: Path) -> None:
    """Whoever wants the edited file back moves it there; the next pairing must not overwrite it without a word."""
    content = edit(output, lambda rows: rows.pop(3))
    pair(output)
    (copy,) = kept(output)
    copy.rename(output / "hands.json")
    assert pair(output)
    assert [file.read_bytes() for file in kept(output)] == [content]


@pytest.mark.parametrize("gone", ["outcomes.csv", "outcomes.parquet", "both"])
def test_a_file_of_0_2_is_known_without_its_tables(tmp_path: Path, gone: str) -> None:
    folder = Path(shutil.copytree(FROZEN, tmp_path / "run"))
    table = runs.open_run(folder).frames
    if gone != "outcomes.parquet":
        (folder / "outcomes.csv").unlink()
        run_tables.write_frames(stores.open_store(folder), table)
    assert pair(folder) == []
    assert kept(folder) == []


def test_a_damaged_table_of_outcomes_is_written_again(output: Path) -> None:
    content = edit(output, lambda rows: rows.pop(3))
    table = output / "outcomes.parquet"
    table.write_bytes(table.read_bytes()[:100])
    assert len(pair(output)) == 1
    assert [file.read_bytes() for file in kept(output)] == [content]
    assert len(pq.read_table(table)) == 120


@pytest.mark.parametrize("content", [b"[" * 100_000, b'[{"frame_path": 5}]'])
def test_odd_json_is_kept(output: Path, content: bytes) -> None:
    (output / "hands.json").write_bytes(content)
    assert len(pair(output)) == 1
    assert [file.read_bytes() for file in kept(output)] == [content]


def test_detections_that_are_gone_are_said(output: Path) -> None:
    (output / "detections.parquet").unlink()
    with pytest.raises(RunError, match=r"detections\.parquet: the detections of this run are gone"):
        pair(output)


def test_a_run_that_another_process_grows_meanwhile_is_seen_as_it_is(output: Path) -> None:
    opened = runs.open_run(output)
    assert len(opened.frames) == 120
    store = stores.open_store(output)
    run_tables.write_frames(store, opened.frames.assign(wanted=opened.frames["class_name"] == "ok"))
    made = manifest.read_manifest(store)
    assert made is not None
    manifest.write_manifest(store, made | {"finished": "2026-12-24T00:00:00+00:00"})
    samples = outcomes.pair_run(opened)
    assert set(samples.loc[samples["outcome"] == "paired", "class_name"]) == {"ok"}


def test_opening_writes_nothing_and_needs_no_permission_to(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    monkeypatch.setattr("os.access", lambda *_: False)  # a disk that is read-only; root may write anyway
    opened = runs.open_run(output)
    assert len(opened.outcomes) == len(opened.frames)
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before
