"""`pair_run`: the files it writes, and a hands.json that was edited by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
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
    """Return the folder of a run of 0.2 that this version paired once."""
    folder = Path(shutil.copytree(FROZEN, tmp_path / "run"))
    outcomes.pair_run(runs.open_run(folder))
    return folder


def pair_output(output: Path, settings: PairingConfig | None = None) -> list[Note]:
    opened = runs.open_run(output)
    outcomes.pair_run(opened, settings)
    return [note for note in opened.notes if note.kind == "edited"]


def list_kept(output: Path) -> list[Path]:
    return sorted(file for file in output.glob("hands.*.json") if not file.name.endswith(".written.json"))


def edit_samples(output: Path, change: Any) -> bytes:
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
    ("change", "summary"),
    [
        (lambda rows: rows[3]["bbox"].__setitem__(0, 7), "changed boxes: 1"),
        (lambda rows: rows[3].update(label=6), "changed labels: 1"),
        (lambda rows: rows.pop(3), "removed samples: 1"),
        (lambda rows: rows.append({**rows[3], "frame_path": "new.jpg"}), "added samples: 1"),
    ],
)
def test_an_edited_file_is_kept_and_noted(output: Path, change: Any, summary: str) -> None:
    written = (output / "hands.json").read_bytes()
    frame = json.loads(written)[3]["frame_path"]
    content = edit_samples(output, change)
    (note,) = pair_output(output)
    assert summary in str(note)
    assert note.example in (frame, "new.jpg")
    (copy,) = list_kept(output)
    assert f"`detectime decisions import {output} {copy.name}`" in str(note)
    assert copy.read_bytes() == content
    before = json.loads((output / outcomes.name_written_file(copy.name)).read_bytes())
    assert [{key: sample[key] for key in sample if key != "content"} for sample in before] == json.loads(written)
    assert (output / "hands.json").read_bytes() == written
    assert pair_output(output) == [note]  # it stays on record, and nothing is added
    assert list_kept(output) == [copy]


def test_what_an_edited_file_was_edited_from_is_kept_only_if_it_is_certain(output: Path) -> None:
    """A killed pairing may have left the outcomes of other settings behind."""
    edit_samples(output, lambda rows: rows.pop(3))
    samples = outcomes.find_written_samples(runs.open_run(output))
    assert samples is not None
    other = runs.open_run(output).pair_frames(PairingConfig(crop_hand_coefficient=2.0)).samples
    run_tables.write_outcomes(stores.open_store(output), other)
    assert outcomes.find_written_samples(runs.open_run(output)) is None
    pair_output(output)
    assert len(list_kept(output)) == 1
    assert list(output.glob("*.written.json")) == []


@pytest.mark.parametrize("content", [b"", b"not json", b'{"a": 1}', b"[1, 2]", b"[]", b"\xff\xfe"])
def test_any_other_content_is_kept(output: Path, content: bytes) -> None:
    (output / "hands.json").write_bytes(content)
    assert len(pair_output(output)) == 1
    assert [copy.read_bytes() for copy in list_kept(output)] == [content]


def test_two_edits_in_one_second_are_both_kept(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "format_now", lambda: "2026-01-02T03:04:05+00:00")
    first = edit_samples(output, lambda rows: rows.pop())
    pair_output(output)
    second = edit_samples(output, lambda rows: rows.pop(0))
    pair_output(output)
    assert {copy.name: copy.read_bytes() for copy in list_kept(output)} == {
        "hands.20260102T030405Z.json": first,
        "hands.20260102T030405Z.2.json": second,
    }


def test_another_setting_does_not_count_as_an_edit(output: Path) -> None:
    before = (output / "hands.json").read_bytes()
    assert pair_output(output, PairingConfig(crop_hand_coefficient=2.0)) == []
    assert (output / "hands.json").read_bytes() != before
    assert pair_output(output) == []  # the new file is now the known one
    assert runs.open_run(output).pairing == PairingConfig(crop_hand_coefficient=2.0)


def test_a_kill_before_the_file_appears_does_not_count_as_an_edit(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (output / "hands.json").read_bytes()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    write = manifest.write_manifest

    def write_and_be_killed(*given: Any) -> None:
        write(*given)
        killed()

    monkeypatch.setattr(manifest, "write_manifest", write_and_be_killed)
    with pytest.raises(KeyboardInterrupt):
        pair_output(output, PairingConfig(crop_hand_coefficient=2.0))
    monkeypatch.undo()
    assert (output / "hands.json").read_bytes() == before
    assert pair_output(output, PairingConfig(crop_hand_coefficient=2.0)) == []
    assert list_kept(output) == []


def test_an_edited_file_of_0_2_is_kept(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FROZEN, tmp_path / "run"))
    content = edit_samples(folder, lambda rows: rows[0]["bbox"].__setitem__(2, 1))
    (note,) = pair_output(folder)
    assert "changed boxes: 1" in str(note)
    assert [copy.read_bytes() for copy in list_kept(folder)] == [content]
    assert (folder / "hands.json").read_bytes() == (FROZEN / "hands.json").read_bytes()


def test_a_deleted_file_is_written_again(output: Path) -> None:
    written = (output / "hands.json").read_bytes()
    (output / "hands.json").unlink()
    assert pair_output(output) == []
    assert (output / "hands.json").read_bytes() == written


def test_a_score_below_that_of_detection_is_noted(output: Path) -> None:
    opened = runs.open_run(output)
    outcomes.pair_run(opened, PairingConfig(min_hand_score=0.3, min_face_score=0.9))
    (note,) = [note for note in opened.notes if note.kind == "ignored"]
    assert "pairing.min_hand_score = 0.3" in str(note)
    assert "0.5" in str(note)


@pytest.mark.parametrize("name", ["cascade", "averaged"])
def test_a_score_below_that_of_a_detector_that_doubts_its_hands_has_an_effect(name: str, tmp_path: Path) -> None:
    """The score of such a hand is its presence, which may be far below the `hagrid_confidence` of the run."""
    opened = runs.open_run(shutil.copytree(FROZEN.parent / name, tmp_path / "run"))
    outcomes.pair_run(opened, PairingConfig(min_hand_score=0.3, min_face_score=0.3))
    (note,) = [note for note in opened.notes if note.kind == "ignored"]
    assert "pairing.min_face_score = 0.3" in str(note)
    assert "0.6" in str(note)


def test_a_frame_with_another_hand_near_a_face_is_noted(output: Path) -> None:
    file = output / "detections.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    row = next(row for row in rows if len(row["hands"]) == 1)
    (hand,) = row["hands"]
    half = (hand["x2"] - hand["x1"]) / 2
    row["hands"].append(hand | {"x1": hand["x1"] - half, "x2": hand["x2"] - half, "score": 0.51})
    before = [note for note in runs.open_run(output).notes if note.kind == "other_hand"]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    opened = runs.open_run(output)
    samples = outcomes.pair_run(opened)
    assert samples.set_index("frame_path").loc[row["frame_path"], "other_hand"]
    (note,) = [note for note in opened.notes if note.kind == "other_hand"]
    assert note.count == sum(note.count for note in before) + 1
    assert "another hand near a face" in str(note)


def test_minimum_scores_apply_without_another_detection(output: Path) -> None:
    every = int(runs.open_run(output).outcomes["outcome"].eq("paired").sum())
    samples = outcomes.pair_run(runs.open_run(output), PairingConfig(min_hand_score=0.95))
    few = samples[samples["outcome"] == "paired"]
    assert 0 < len(few) < every
    assert (few["hand_score"] >= 0.95).all()


def test_a_frame_table_is_read_as_it_was_written(output: Path) -> None:
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


def test_stored_outcomes_encode_to_the_written_file(output: Path) -> None:
    samples = runs.open_run(output).outcomes
    assert b"".join(hands_json.encode_samples(samples)) == (output / "hands.json").read_bytes()


def test_an_edited_file_that_is_restored_is_kept_again(output: Path) -> None:
    """A user may rename the edited file back to hands.json; the next pairing must not silently overwrite it."""
    content = edit_samples(output, lambda rows: rows.pop(3))
    pair_output(output)
    (copy,) = list_kept(output)
    copy.rename(output / "hands.json")
    assert pair_output(output)
    assert [file.read_bytes() for file in list_kept(output)] == [content]


@pytest.mark.parametrize("gone", ["outcomes.csv", "outcomes.parquet", "both"])
def test_a_file_of_0_2_is_recognised_without_its_tables(tmp_path: Path, gone: str) -> None:
    folder = Path(shutil.copytree(FROZEN, tmp_path / "run"))
    table = runs.open_run(folder).frames
    if gone != "outcomes.parquet":
        (folder / "outcomes.csv").unlink()
        run_tables.write_frames(stores.open_store(folder), table)
    assert pair_output(folder) == []
    assert list_kept(folder) == []


def test_a_damaged_outcomes_table_is_written_again(output: Path) -> None:
    content = edit_samples(output, lambda rows: rows.pop(3))
    table = output / "outcomes.parquet"
    table.write_bytes(table.read_bytes()[:100])
    assert len(pair_output(output)) == 1
    assert [file.read_bytes() for file in list_kept(output)] == [content]
    assert len(pq.read_table(table)) == 120


@pytest.mark.parametrize("content", [b"[" * 100_000, b'[{"frame_path": 5}]'])
def test_odd_json_is_kept(output: Path, content: bytes) -> None:
    (output / "hands.json").write_bytes(content)
    assert len(pair_output(output)) == 1
    assert [file.read_bytes() for file in list_kept(output)] == [content]


def test_missing_detections_are_an_error(output: Path) -> None:
    (output / "detections.parquet").unlink()
    with pytest.raises(RunError, match=r"detections\.parquet: the detections of this run are missing"):
        pair_output(output)


def test_a_run_that_another_process_grew_meanwhile_is_reloaded(output: Path) -> None:
    opened = runs.open_run(output)
    assert len(opened.frames) == 120
    store = stores.open_store(output)
    run_tables.write_frames(store, opened.frames.assign(wanted=opened.frames["class_name"] == "ok"))
    made = manifest.read_manifest(store)
    assert made is not None
    manifest.write_manifest(store, made | {"finished": "2026-12-24T00:00:00+00:00"})
    samples = outcomes.pair_run(opened)
    assert set(samples.loc[samples["outcome"] == "paired", "class_name"]) == {"ok"}


def test_opening_writes_nothing_and_needs_no_write_permission(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    monkeypatch.setattr("os.access", lambda *_: False)  # a read-only disk; root may write anyway
    opened = runs.open_run(output)
    assert len(opened.outcomes) == len(opened.frames)
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before
