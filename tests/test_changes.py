"""Frames that changed since they were looked at, and places that are gone: contract 5, with real files."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import draw_pattern, encode_image

from detectime import config as configuration
from detectime import outcomes, runs, sources
from detectime.detection import manifest, resume, run, shards
from detectime.detection.manifest import RunError
from detectime.images import describe_content
from detectime.labels import frame_table
from detectime.notes import Note
from detectime.storage import store as stores
from detectime.storage.downloads import WeightsError
from detectime.storage.folder import FolderStore

pytestmark = pytest.mark.slow

COUNT = 6


def picture(seed: int) -> bytes:
    shades = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return encode_image(np.kron(shades, np.ones((16, 16, 1), np.uint8)), "JPEG", quality=90)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a folder of frames, their labels, and nothing else."""
    images = tmp_path / "images"
    images.mkdir()
    rows = [f"{k}.jpg,v,{k},stop" for k in range(COUNT)]
    for k in range(COUNT):
        (images / f"{k}.jpg").write_bytes(picture(k))
    (tmp_path / "t.csv").write_text("\n".join(["frame_path,video_name,frame_id,class_name", *rows]))
    return tmp_path


def detect(place: Path, images: Path | None = None, **parameters: Any) -> list[Note]:
    given = {"images": str(images or place / "images"), "labels": str(place / "t.csv"), "output": str(place / "out")}
    config, _ = resume.resume_config(configuration.load_config(parameters={**given, "workers": 1, **parameters}))
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes, config.selection.limit)
    run.detect_frames(table, source, config, config.data.output)
    return runs.open_run(place / "out").notes


def rows(place: Path) -> pd.DataFrame:
    table: pd.DataFrame = pq.read_table(place / "out" / "detections.parquet").to_pandas()
    return table.set_index("frame_path")


def kinds(notes: list[Note]) -> dict[str, int]:
    return {note.kind: note.count for note in notes}


def age(path: Path, seconds: int = 100) -> None:
    """Give a file another time, whatever the clock's step is."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


def test_stamp_and_content_are_stored_at_detection(place: Path) -> None:
    detect(place)
    for path, row in rows(place).iterrows():
        file = place / "images" / str(path)
        assert row["stamp"] == f"{file.stat().st_size}-{file.stat().st_mtime_ns}"
        assert row["content"] == describe_content(file.read_bytes())


def test_a_frame_that_was_replaced_is_looked_at_again(place: Path) -> None:
    detect(place)
    before = rows(place)
    file = place / "images" / "3.jpg"
    file.write_bytes(encode_image(draw_pattern(200, 100), "JPEG"))
    age(file)
    notes = detect(place)
    after = rows(place)
    assert (after.loc["3.jpg", "width"], after.loc["3.jpg", "height"]) == (200, 100)
    assert after.loc["3.jpg", "content"] == describe_content(file.read_bytes())
    assert (
        after.drop("3.jpg")
        .drop(columns=["faces", "hands"])
        .equals(before.drop("3.jpg").drop(columns=["faces", "hands"]))
    )
    (note,) = [note for note in notes if note.kind == "changed"]
    assert (note.count, note.example) == (1, "3.jpg")
    (again,) = [note for note in detect(place) if note.kind == "changed"]
    assert again == note  # an event stays on record, and nothing is new


@pytest.mark.parametrize("how", ["touched", "copied"])
def test_new_times_alone_detect_nothing_again(place: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(place)
    images = place / "images"
    if how == "copied":
        images = Path(shutil.copytree(images, place / "copy"))
    for file in images.iterdir():
        age(file)
    monkeypatch.setattr(run._Run, "_process", lambda *_: pytest.fail("a frame was processed again"))
    notes = detect(place, images)
    assert "changed" not in kinds(notes)
    file = images / "2.jpg"
    assert rows(place).loc["2.jpg", "stamp"] == f"{file.stat().st_size}-{file.stat().st_mtime_ns}"  # renewed
    read: list[Any] = []
    monkeypatch.setattr(
        "detectime.detection.changes._read_contents", lambda table, suspects, source: read.extend(suspects) or []
    )
    detect(place, images)
    assert read == []


def test_a_set_of_which_most_changed_is_refused_until_it_is_said(place: Path) -> None:
    detect(place)
    for k in range(4):
        file = place / "images" / f"{k}.jpg"
        file.write_bytes(picture(100 + k))
        age(file)
    before = rows(place)
    with pytest.raises(RunError, match=r"4 of 6 frames have other content.*0\.jpg.*redetect: changed"):
        detect(place)
    assert rows(place)["content"].equals(before["content"])
    notes = detect(place, redetect="changed")
    assert kinds(notes)["changed"] == 4
    assert rows(place).loc["0.jpg", "content"] == describe_content(picture(100))
    assert kinds(detect(place))["changed"] == 4  # of the event, none anew


def test_half_may_change(place: Path) -> None:
    detect(place)
    for k in range(COUNT // 2):
        (place / "images" / f"{k}.jpg").write_bytes(picture(100 + k))
        age(place / "images" / f"{k}.jpg")
    assert kinds(detect(place))["changed"] == COUNT // 2


def test_a_frame_that_was_broken_and_is_mended_is_looked_at_again(place: Path) -> None:
    good = (place / "images" / "1.jpg").read_bytes()
    (place / "images" / "1.jpg").write_bytes(good[: len(good) // 2])
    detect(place)
    assert rows(place).loc["1.jpg", "outcome"] == "unreadable"
    assert rows(place).loc["1.jpg", "content"] == describe_content(good[: len(good) // 2])
    (place / "images" / "1.jpg").write_bytes(good)
    age(place / "images" / "1.jpg")
    detect(place)
    assert rows(place).loc["1.jpg", "outcome"] == "ok"


@pytest.mark.parametrize("gone", ["unmounted", "empty"])
def test_a_finished_run_whose_drive_is_gone_goes_on(place: Path, gone: str) -> None:
    detect(place)
    outcomes.pair_run(runs.open_run(place / "out"))
    hands, stamps = (place / "out" / "hands.json").read_bytes(), rows(place)["stamp"]
    shutil.move(place / "images", place / "elsewhere")
    if gone == "empty":
        (place / "images").mkdir()
    notes = detect(place)
    assert kinds(notes)["unreachable"] == 1
    assert "missing" not in kinds(notes)
    opened = runs.open_run(place / "out")
    outcomes.pair_run(opened)
    assert (place / "out" / "hands.json").read_bytes() == hands
    assert opened.frames["on_disk"].all()  # as far as is known
    assert rows(place)["stamp"].equals(stamps)
    if gone == "empty":
        (place / "images").rmdir()
    shutil.move(place / "elsewhere", place / "images")
    assert "unreachable" not in kinds(detect(place))


def test_a_run_that_lacks_frames_is_refused_while_the_drive_is_gone(place: Path) -> None:
    detect(place, limit=3)
    shutil.move(place / "images", place / "elsewhere")
    with pytest.raises(RunError, match="is the drive mounted"):
        detect(place)
    shutil.move(place / "elsewhere", place / "images")
    detect(place)
    assert len(rows(place)) == COUNT


def test_frames_that_are_gone_and_frames_that_are_back_are_told(place: Path) -> None:
    (place / "images" / "5.jpg").rename(place / "5.jpg")
    notes = detect(place)
    assert kinds(notes)["missing"] == 1
    (place / "5.jpg").rename(place / "images" / "5.jpg")
    (place / "images" / "0.jpg").unlink()
    notes = detect(place)
    assert (kinds(notes)["back"], kinds(notes)["gone"]) == (1, 1)
    assert rows(place).loc["0.jpg", "outcome"] == "ok"
    detect(place, retry_failed=True)
    assert rows(place).loc["5.jpg", "outcome"] == "ok"


def test_a_folder_that_becomes_a_zip_of_the_same_frames_is_the_same_set(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect(place)
    with zipfile.ZipFile(place / "frames.zip", "w") as archive:
        for file in (place / "images").iterdir():
            archive.write(file, file.name)
    monkeypatch.setattr(run._Run, "_process", lambda *_: pytest.fail("a frame was processed again"))
    detect(place, place / "frames.zip")
    assert rows(place)["stamp"].str.fullmatch(r"\d+-[0-9a-f]{8}").all()


def test_a_drive_that_may_not_be_read_changes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame whose stamp is another one and that cannot be read is kept, and compared the next time."""
    detect(place)
    age(place / "images" / "2.jpg")
    before = rows(place)
    monkeypatch.setattr(
        sources.folder.Folder,
        "read_contents",
        lambda self, paths: ((path, None) for path in paths),  # type: ignore[attr-defined]
    )
    detect(place)
    assert rows(place)["stamp"].equals(before["stamp"])


def test_an_older_manifest_is_written_back_in_todays_form(place: Path) -> None:
    detect(place)
    content = json.loads((place / "out" / "run.json").read_text())
    assert content["manifest_version"] == 2
    assert manifest.read_manifest(stores.open_store(place / "out")) == content


# -- runs of 0.2, which recorded neither stamps nor contents


def forget(place: Path, *columns: str) -> None:
    """Make a run look as one of 0.2 that was opened once: without the contents of its frames."""
    path = place / "out" / "detections.parquet"
    table = pq.read_table(path)
    for name in columns:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.nulls(len(table), pa.string()))
    pq.write_table(table, path)


def test_without_contents_a_copy_is_the_same_by_its_size(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(place)
    forget(place, "content")
    for file in (place / "images").iterdir():
        age(file)
    monkeypatch.setattr(run._Run, "_process", lambda *_: pytest.fail("a frame was processed again"))
    notes = detect(place)
    assert kinds(notes)["assumed"] == COUNT  # not without a word
    assert rows(place).loc["0.jpg", "content"] == describe_content((place / "images" / "0.jpg").read_bytes())


def test_without_contents_another_size_is_another_frame(place: Path) -> None:
    detect(place)
    forget(place, "content")
    file = place / "images" / "4.jpg"
    file.write_bytes(encode_image(draw_pattern(200, 100), "JPEG"))
    age(file)
    notes = detect(place)
    assert kinds(notes)["changed"] == 1
    assert rows(place).loc["4.jpg", "width"] == 200


def test_a_missing_frame_that_came_back_is_not_compared(place: Path) -> None:
    for k in range(4):
        (place / "images" / f"{k}.jpg").rename(place / f"{k}.jpg")
    detect(place)
    for k in range(4):
        (place / f"{k}.jpg").rename(place / "images" / f"{k}.jpg")
    detect(place)
    for k in range(4):
        age(place / "images" / f"{k}.jpg")
    assert kinds(detect(place))["back"] == 4
    detect(place, retry_failed=True)
    assert set(rows(place)["outcome"]) == {"ok"}


def test_a_frame_that_may_have_changed_and_cannot_be_read_is_noted(place: Path) -> None:
    detect(place)
    (place / "images" / "2.jpg").unlink()
    os.mkfifo(place / "images" / "2.jpg")
    (note,) = [note for note in detect(place) if note.kind == "unread"]
    assert (note.count, note.example) == (1, "2.jpg")
    assert rows(place).loc["2.jpg", "outcome"] == "ok"


# -- a place that is gone


def test_a_wrong_place_does_not_replace_the_right_one(place: Path) -> None:
    detect(place)
    notes = detect(place, place / "typo")
    assert "moved" not in kinds(notes)
    assert runs.open_run(place / "out").config.data.images == str(place / "images")


def test_labels_that_lie_on_the_drive_that_is_gone_are_taken_from_the_run(place: Path) -> None:
    detect(place)
    shutil.move(place / "t.csv", place / "images")
    shutil.move(place / "images", place / "elsewhere")
    assert kinds(detect(place))["unreachable"] == 1


@pytest.mark.parametrize("how", ["gone", "no weights"])
def test_a_redetect_that_cannot_begin_changes_nothing(place: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(place)
    before = {file.name: file.read_bytes() for file in (place / "out").iterdir() if file.is_file()}
    if how == "gone":
        shutil.move(place / "images", place / "elsewhere")
        error: type[Exception] = RunError
    else:
        monkeypatch.setenv("DETECTIME_WEIGHTS", str(place / "nowhere"))
        monkeypatch.setattr("detectime.paths.MODEL", place / "model")
        monkeypatch.setenv("DETECTIME_MIRROR", "http://127.0.0.1:9")
        monkeypatch.setattr("detectime.storage.downloads._PAUSE", 0.0)
        error = WeightsError
    with pytest.raises(error):
        detect(place, redetect=True, **({} if how == "gone" else {"hand_detector": "hagrid"}))
    assert {file.name: file.read_bytes() for file in (place / "out").iterdir() if file.is_file()} == before


def test_a_redetect_that_is_killed_while_it_renames_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(place)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderStore, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        detect(place, redetect=True)
    monkeypatch.undo()
    notes = detect(place)
    assert kinds(notes)["redetected"] == COUNT
    assert len(rows(place)) == COUNT
    (kept,) = (place / "out").glob("detections.*Z.parquet")
    assert pq.read_metadata(kept).num_rows == COUNT


def test_a_redetect_that_is_killed_in_the_middle_of_a_rename_looks_at_every_frame(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename is a link and an unlink: killed in between it leaves both names, and old rows must not pass for new."""
    detect(place)

    def killed(store: FolderStore, name: str, new_name: str) -> None:
        os.link(store.folder / name, store.folder / new_name)
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderStore, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        detect(place, redetect=True)
    monkeypatch.undo()
    counts: list[int] = []
    process = run._Run._process
    monkeypatch.setattr(run._Run, "_process", lambda call, *given: (counts.append(len(given[0])), process(call, *given)))
    detect(place)
    assert counts == [COUNT]
    (kept,) = (place / "out").glob("detections.*Z.parquet")
    assert pq.read_metadata(kept).num_rows == COUNT


def spoil(path: Path, column: str) -> bytes:
    """Damage a column of a table; returns the damaged file."""
    chunk = pq.read_metadata(path).row_group(0)
    spoilt = next(c for k in range(chunk.num_columns) if (c := chunk.column(k)).path_in_schema.startswith(column))
    content = bytearray(path.read_bytes())
    middle = spoilt.data_page_offset + spoilt.total_compressed_size // 2
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    return bytes(content)


def test_what_is_rescued_of_one_file_outlives_the_damage_of_the_next(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect(place)
    out = place / "out"
    shards.save_shard(stores.open_store(out), 7, pq.read_table(out / "detections.parquet").slice(0, 2))
    damaged = {spoil(out / "detections.parquet", "landmarks"), spoil(out / "shards" / "000000007.parquet", "crop_hash")}
    monkeypatch.setattr(run._Run, "_process", lambda *_: pytest.fail("a frame was processed again"))
    assert len([note for note in detect(place) if note.kind == "damaged"]) == 2
    assert len(rows(place)) == COUNT
    assert {file.read_bytes() for file in out.rglob("*.damaged")} == damaged


def test_detections_that_are_gone_are_noted(place: Path) -> None:
    detect(place)
    (place / "out" / "detections.parquet").unlink()
    assert kinds(detect(place))["lost"] == COUNT
    assert len(rows(place)) == COUNT


def test_damage_in_a_column_that_pairing_does_not_read_costs_that_column(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect(place)
    path = place / "out" / "detections.parquet"
    content = spoil(path, "landmarks")
    monkeypatch.setattr(run._Run, "_process", lambda *_: pytest.fail("a frame was processed again"))
    assert kinds(detect(place))["damaged"] == 1
    found = pq.read_table(path)
    assert len(found) == COUNT
    assert (place / "out" / "detections.parquet.damaged").read_bytes() == content
