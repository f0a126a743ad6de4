"""Frames that changed after detection, and locations that no longer exist: contract 5, with real files."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import draw_pattern, encode_image
from faults import read_manifest, refuse_work

from detectime import config as configuration
from detectime import outcomes, runs, sources
from detectime.detection import resume, run, shards
from detectime.detection.engines import local
from detectime.detection.engines.contract import Engine
from detectime.detection.manifest import RunError
from detectime.images import UnreadableImageError, describe_content
from detectime.labels import frame_table
from detectime.notes import Note
from detectime.sources.folder import FolderSource
from detectime.storage import store as stores
from detectime.storage.downloads import WeightsError
from detectime.storage.folder import FolderStore

pytestmark = pytest.mark.slow

COUNT = 6


def encode_blocks(seed: int) -> bytes:
    """Encode random blocks as JPEG."""
    shades = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return encode_image(np.kron(shades, np.ones((16, 16, 1), np.uint8)), "JPEG", quality=90)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a folder with frames and their labels."""
    images = tmp_path / "images"
    images.mkdir()
    rows = [f"{k}.jpg,v,{k},stop" for k in range(COUNT)]
    for k in range(COUNT):
        (images / f"{k}.jpg").write_bytes(encode_blocks(k))
    (tmp_path / "t.csv").write_text("\n".join(["frame_path,video_name,frame_id,class_name", *rows]))
    return tmp_path


def detect(project: Path, images: Path | None = None, engine: Engine | None = None, **parameters: Any) -> list[Note]:
    """Run detection as the notebook does, into the folder ``out``; returns the notes of the run."""
    given = {
        "images": str(images or project / "images"),
        "labels": str(project / "t.csv"),
        "output": str(project / "out"),
    }
    config, _ = resume.resume_config(configuration.load_config(parameters={**given, "workers": 1, **parameters}))
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes, config.selection.limit)
    run.detect_frames(table, source, config, config.data.output, engine)
    return runs.open_run(project / "out").notes


def read_rows(project: Path) -> pd.DataFrame:
    """Read the detections table of a run, indexed by frame path."""
    table: pd.DataFrame = pq.read_table(project / "out" / "detections.parquet").to_pandas()
    return table.set_index("frame_path")


def count_kinds(notes: list[Note]) -> dict[str, int]:
    """Return the count of each kind of note."""
    return {note.kind: note.count for note in notes}


def change_time(path: Path, seconds: int = 100) -> None:
    """Change the modification time of a file, whatever the resolution of the file system."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


def test_stamp_and_content_are_stored_at_detection(project: Path) -> None:
    detect(project)
    table = read_rows(project)
    assert len(table) == COUNT
    for path, row in table.iterrows():
        file = project / "images" / str(path)
        assert row["stamp"] == f"{file.stat().st_size}-{file.stat().st_mtime_ns}"
        assert row["content"] == describe_content(file.read_bytes())


def test_a_replaced_frame_is_processed_again(project: Path) -> None:
    detect(project)
    before = read_rows(project)
    file = project / "images" / "3.jpg"
    file.write_bytes(encode_image(draw_pattern(200, 100), "JPEG"))
    change_time(file)
    notes = detect(project)
    after = read_rows(project)
    assert (after.loc["3.jpg", "width"], after.loc["3.jpg", "height"]) == (200, 100)
    assert after.loc["3.jpg", "content"] == describe_content(file.read_bytes())
    assert (
        after.drop("3.jpg")
        .drop(columns=["faces", "hands"])
        .equals(before.drop("3.jpg").drop(columns=["faces", "hands"]))
    )
    (note,) = [note for note in notes if note.kind == "changed"]
    assert (note.count, note.example) == (1, "3.jpg")
    (again,) = [note for note in detect(project) if note.kind == "changed"]
    assert again == note  # the event stays on record, and nothing is new


@pytest.mark.parametrize("how", ["touched", "copied"])
def test_new_times_alone_do_not_trigger_detection(project: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(project)
    images = project / "images"
    if how == "copied":
        images = Path(shutil.copytree(images, project / "copy"))
    for file in images.iterdir():
        change_time(file)
    notes = detect(project, images, engine=refuse_work)
    assert "changed" not in count_kinds(notes)
    file = images / "2.jpg"
    assert read_rows(project).loc["2.jpg", "stamp"] == f"{file.stat().st_size}-{file.stat().st_mtime_ns}"  # renewed
    monkeypatch.setattr(FolderSource, "read_frames", lambda *_: pytest.fail("a frame was read again"))
    detect(project, images)


def test_most_frames_changed_is_rejected_without_redetect(project: Path) -> None:
    detect(project)
    for k in range(4):
        file = project / "images" / f"{k}.jpg"
        file.write_bytes(encode_blocks(100 + k))
        change_time(file)
    before = read_rows(project)
    with pytest.raises(RunError, match=r"4 of 6 frames have other content.*0\.jpg.*redetect: changed"):
        detect(project)
    assert read_rows(project)["content"].equals(before["content"])
    notes = detect(project, redetect="changed")
    assert count_kinds(notes)["changed"] == 4
    assert read_rows(project).loc["0.jpg", "content"] == describe_content(encode_blocks(100))
    assert count_kinds(detect(project))["changed"] == 4  # the event of before, and no new one


def test_half_of_the_frames_may_change(project: Path) -> None:
    detect(project)
    for k in range(COUNT // 2):
        (project / "images" / f"{k}.jpg").write_bytes(encode_blocks(100 + k))
        change_time(project / "images" / f"{k}.jpg")
    assert count_kinds(detect(project))["changed"] == COUNT // 2


def test_a_repaired_frame_is_processed_again(project: Path) -> None:
    good = (project / "images" / "1.jpg").read_bytes()
    (project / "images" / "1.jpg").write_bytes(good[: len(good) // 2])
    detect(project)
    assert read_rows(project).loc["1.jpg", "outcome"] == "unreadable"
    assert read_rows(project).loc["1.jpg", "content"] == describe_content(good[: len(good) // 2])
    (project / "images" / "1.jpg").write_bytes(good)
    change_time(project / "images" / "1.jpg")
    detect(project)
    assert read_rows(project).loc["1.jpg", "outcome"] == "ok"


@pytest.mark.parametrize("gone", ["unmounted", "empty"])
def test_a_finished_run_works_without_its_drive(project: Path, gone: str) -> None:
    detect(project)
    outcomes.pair_run(runs.open_run(project / "out"))
    hands, stamps = (project / "out" / "hands.json").read_bytes(), read_rows(project)["stamp"]
    shutil.move(project / "images", project / "elsewhere")
    if gone == "empty":
        (project / "images").mkdir()
    notes = detect(project)
    assert count_kinds(notes)["unreachable"] == 1
    assert "missing" not in count_kinds(notes)
    opened = runs.open_run(project / "out")
    outcomes.pair_run(opened)
    assert (project / "out" / "hands.json").read_bytes() == hands
    assert opened.frames["on_disk"].all()  # as far as is known
    assert read_rows(project)["stamp"].equals(stamps)
    if gone == "empty":
        (project / "images").rmdir()
    shutil.move(project / "elsewhere", project / "images")
    assert "unreachable" not in count_kinds(detect(project))


def test_pending_frames_need_the_drive(project: Path) -> None:
    detect(project, limit=3)
    shutil.move(project / "images", project / "elsewhere")
    with pytest.raises(RunError, match="is the drive mounted"):
        detect(project)
    shutil.move(project / "elsewhere", project / "images")
    detect(project)
    assert len(read_rows(project)) == COUNT


def test_deleted_and_restored_frames_are_noted(project: Path) -> None:
    (project / "images" / "5.jpg").rename(project / "5.jpg")
    notes = detect(project)
    assert count_kinds(notes)["missing"] == 1
    (project / "5.jpg").rename(project / "images" / "5.jpg")
    (project / "images" / "0.jpg").unlink()
    notes = detect(project)
    assert (count_kinds(notes)["back"], count_kinds(notes)["gone"]) == (1, 1)
    assert read_rows(project).loc["0.jpg", "outcome"] == "ok"
    detect(project, retry_failed=True)
    assert read_rows(project).loc["5.jpg", "outcome"] == "ok"


def test_a_zip_of_the_same_frames_is_the_same_set(project: Path) -> None:
    detect(project)
    with zipfile.ZipFile(project / "frames.zip", "w") as archive:
        for file in (project / "images").iterdir():
            archive.write(file, file.name)
    detect(project, project / "frames.zip", engine=refuse_work)
    assert read_rows(project)["stamp"].str.fullmatch(r"\d+-[0-9a-f]{8}").all()


def test_an_unreadable_drive_changes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame with another stamp that cannot be read keeps its row, and is compared the next time."""
    detect(project)
    change_time(project / "images" / "2.jpg")
    before = read_rows(project)
    monkeypatch.setattr(
        FolderSource,
        "read_frames",
        lambda self, paths, _: ((path, UnreadableImageError("cannot be read")) for path in paths),
    )
    assert count_kinds(detect(project, engine=refuse_work))["unread"] == 1
    assert read_rows(project)["stamp"].equals(before["stamp"])
    monkeypatch.undo()
    detect(project, engine=refuse_work)
    assert not read_rows(project)["stamp"].equals(before["stamp"])


def test_an_older_manifest_is_upgraded_in_its_file(project: Path) -> None:
    detect(project)
    path = project / "out" / "run.json"
    content = read_manifest(project / "out")
    added = ("manifest_version", "made_by", "redetect", "frames", "pairing", "notes")
    old = {key: value for key, value in content.items() if key not in added}
    old["detectors"] = {name: detector["weights"] for name, detector in content["detectors"].items()}
    path.write_text(json.dumps(old))
    detect(project, engine=refuse_work)
    upgraded = read_manifest(project / "out")
    assert upgraded["manifest_version"] == 2
    assert upgraded.keys() == content.keys()
    assert upgraded["detectors"] == {
        name: detector | {"revision": 1} for name, detector in content["detectors"].items()
    }  # 0.2 knew no revisions


# -- runs of 0.2, which recorded neither stamps nor contents


def clear_columns(project: Path, *columns: str) -> None:
    """Remove columns, as in a run of 0.2, which recorded neither stamps nor contents."""
    path = project / "out" / "detections.parquet"
    table = pq.read_table(path)
    for name in columns:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.nulls(len(table), pa.string()))
    pq.write_table(table, path)


def test_without_contents_frames_of_the_same_size_are_unchanged(project: Path) -> None:
    detect(project)
    clear_columns(project, "content")
    for file in (project / "images").iterdir():
        change_time(file)
    notes = detect(project, engine=refuse_work)
    assert count_kinds(notes)["assumed"] == COUNT  # with a note
    assert read_rows(project).loc["0.jpg", "content"] == describe_content((project / "images" / "0.jpg").read_bytes())


def test_without_contents_a_frame_of_another_size_has_changed(project: Path) -> None:
    detect(project)
    clear_columns(project, "content")
    file = project / "images" / "4.jpg"
    file.write_bytes(encode_image(draw_pattern(200, 100), "JPEG"))
    change_time(file)
    notes = detect(project)
    assert count_kinds(notes)["changed"] == 1
    assert read_rows(project).loc["4.jpg", "width"] == 200


def test_a_restored_frame_is_not_compared(project: Path) -> None:
    for k in range(4):
        (project / "images" / f"{k}.jpg").rename(project / f"{k}.jpg")
    detect(project)
    for k in range(4):
        (project / f"{k}.jpg").rename(project / "images" / f"{k}.jpg")
    detect(project)
    for k in range(4):
        change_time(project / "images" / f"{k}.jpg")
    assert count_kinds(detect(project))["back"] == 4
    detect(project, retry_failed=True)
    assert set(read_rows(project)["outcome"]) == {"ok"}


def test_a_suspect_frame_that_cannot_be_read_is_noted(project: Path) -> None:
    detect(project)
    (project / "images" / "2.jpg").unlink()
    os.mkfifo(project / "images" / "2.jpg")
    (note,) = [note for note in detect(project) if note.kind == "unread"]
    assert (note.count, note.example) == (1, "2.jpg")
    assert read_rows(project).loc["2.jpg", "outcome"] == "ok"


# -- locations that no longer exist


def test_a_wrong_location_is_not_recorded(project: Path) -> None:
    detect(project)
    notes = detect(project, project / "typo")
    assert "moved" not in count_kinds(notes)
    assert runs.open_run(project / "out").config.data.images == str(project / "images")


def test_labels_on_a_lost_drive_are_taken_from_the_run(project: Path) -> None:
    detect(project)
    shutil.move(project / "t.csv", project / "images")
    shutil.move(project / "images", project / "elsewhere")
    assert count_kinds(detect(project))["unreachable"] == 1


@pytest.mark.parametrize("how", ["gone", "no weights"])
def test_a_redetect_that_cannot_start_changes_nothing(project: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(project)
    before = {file.name: file.read_bytes() for file in (project / "out").iterdir() if file.is_file()}
    if how == "gone":
        shutil.move(project / "images", project / "elsewhere")
        error, words = RunError, "is the drive mounted"
    else:
        monkeypatch.setenv("DETECTIME_WEIGHTS", str(project / "nowhere"))
        monkeypatch.setattr("detectime.paths.find_model_folder", lambda: project / "model")
        monkeypatch.setenv("DETECTIME_MIRROR", "file:///nowhere")
        error, words = WeightsError, "weights are missing and cannot be downloaded"
    with pytest.raises(error, match=words):
        detect(project, redetect=True, **({} if how == "gone" else {"hand_detector": "hagrid"}))
    assert {file.name: file.read_bytes() for file in (project / "out").iterdir() if file.is_file()} == before


def test_a_redetect_killed_before_a_rename_resumes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(project)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderStore, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        detect(project, redetect=True)
    monkeypatch.undo()
    notes = detect(project)
    assert count_kinds(notes)["redetected"] == COUNT
    assert len(read_rows(project)) == COUNT
    (kept,) = (project / "out").glob("detections.*Z.parquet")
    assert pq.read_metadata(kept).num_rows == COUNT


def test_a_redetect_killed_within_a_rename_processes_every_frame(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename is a link and an unlink. In between there are both names, and old rows must not count as new ones."""
    detect(project)

    def die(store: FolderStore, name: str, new_name: str) -> None:
        os.link(store.folder / name, store.folder / new_name)
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderStore, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        detect(project, redetect=True)
    monkeypatch.undo()
    processed: list[str] = []

    def engine(*arguments: Any) -> Iterator[Any]:
        for shard, result in local.run_shards(*arguments):
            processed.extend(shard)
            yield shard, result

    detect(project, engine=engine)
    assert len(processed) == COUNT
    (kept,) = (project / "out").glob("detections.*Z.parquet")
    assert pq.read_metadata(kept).num_rows == COUNT


def damage(path: Path, column: str) -> bytes:
    """Damage a column of a table file; returns the damaged content."""
    chunk = pq.read_metadata(path).row_group(0)
    damaged = next(c for k in range(chunk.num_columns) if (c := chunk.column(k)).path_in_schema.startswith(column))
    content = bytearray(path.read_bytes())
    middle = damaged.data_page_offset + damaged.total_compressed_size // 2
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    return bytes(content)


def test_rows_saved_from_two_damaged_files_are_kept(project: Path) -> None:
    detect(project)
    out = project / "out"
    shards.save_shard(stores.open_store(out), 7, pq.read_table(out / "detections.parquet").slice(0, 2))
    damaged = {
        damage(out / "detections.parquet", "landmarks"),
        damage(out / "shards" / "000000007.parquet", "crop_hash"),
    }
    assert len([note for note in detect(project, engine=refuse_work) if note.kind == "damaged"]) == 2
    assert len(read_rows(project)) == COUNT
    assert {file.read_bytes() for file in out.rglob("*.damaged")} == damaged


def test_lost_detections_are_noted(project: Path) -> None:
    detect(project)
    (project / "out" / "detections.parquet").unlink()
    assert count_kinds(detect(project))["lost"] == COUNT
    assert len(read_rows(project)) == COUNT


def test_damage_in_a_column_without_use_for_pairing_loses_only_that_column(project: Path) -> None:
    detect(project)
    path = project / "out" / "detections.parquet"
    content = damage(path, "landmarks")
    assert count_kinds(detect(project, engine=refuse_work))["damaged"] == 1
    found = pq.read_table(path)
    assert len(found) == COUNT
    assert (project / "out" / "detections.parquet.damaged").read_bytes() == content
