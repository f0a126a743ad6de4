"""Exports of real runs: what is in them, whose pixels, what is refused, and what a kill leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import buckets
import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import encode_image
from finished_runs import make_run
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from PIL import Image
from skips import need_extra

from detectime import outcomes, pairing, runs
from detectime.detection.manifest import RunError
from detectime.errors import ConfigError
from detectime.exports.annotations import FACE
from detectime.exports.contract import ExportConfig, ExportError, make_export_config
from detectime.exports.export import export_run, read_export
from detectime.exports.picture_names import name_pictures
from detectime.exports.registry import FORMATS
from detectime.exports.samples_csv import read_samples_csv
from detectime.images import decode_image
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES
from detectime.storage.store import open_store

WITH_PICTURES = [name for name, kind in FORMATS.items() if kind.images != "none"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return make_run(tmp_path_factory.mktemp("run"), classes="stop,ok,mute,no_gesture")


def read_rows(folder: str) -> pd.DataFrame:
    return read_samples_csv(open_store(folder, reading=True))


def export(run: FinishedRun, name: str, to: Path, **settings: Any) -> pd.DataFrame:
    (made,) = export_run(run, [name], to, ExportConfig(**settings))
    return read_rows(made.folder)


def list_files(folder: Path) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


# -- what is in an export


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_every_sample(run: FinishedRun, name: str, tmp_path: Path) -> None:
    (made,) = export_run(run, [name], tmp_path)
    samples = run.outcomes[run.outcomes["outcome"].isin(SAMPLES)]
    rows = read_rows(made.folder)
    assert made.counts["samples"] == len(samples)
    assert sorted(rows.loc[rows["kind"] == "sample", "frame_path"]) == sorted(samples["frame_path"])
    assert read_export(made.folder)["finished"]
    assert (Path(made.folder) / "README.md").is_file()
    assert not (Path(made.folder) / ".progress").exists() or not os.listdir(Path(made.folder) / ".progress")


def test_boxes_are_those_of_the_outcomes(run: FinishedRun, tmp_path: Path) -> None:
    for box in ("hand", "bbox"):
        rows = export(run, "csv", tmp_path / box, box=box)
        samples = run.outcomes.set_index("frame_path").loc[rows["frame_path"]]
        expected = pairing.get_boxes(samples, box)
        found = rows[["x1", "y1", "x2", "y2"]].to_numpy()
        assert np.abs(found - np.clip(expected, 0, [640, 480, 640, 480])).max() < 1e-3


def test_crops_show_the_pixels_of_the_bbox(run: FinishedRun, tmp_path: Path) -> None:
    rows = export(run, "imagefolder", tmp_path)
    samples = run.outcomes.set_index("frame_path")
    assert {Path(file).parent.name for file in rows["file"]} <= set(run.config.classes)
    for row in rows.to_dict("records")[::7]:
        frame = decode_image((SAMPLE / "TRAIN_DATA" / row["frame_path"]).read_bytes())
        x1, y1, x2, y2 = pairing.get_boxes(samples.loc[row["frame_path"]], "bbox").astype(int)
        crop = decode_image((tmp_path / "imagefolder" / row["file"]).read_bytes())
        assert crop.shape == (y2 - y1, x2 - x1, 3)
        assert np.abs(crop.astype(int) - frame[y1:y2, x1:x2]).mean() < 3


def test_frames_are_copied_without_what_tells_of_a_person(own: FinishedRun, tmp_path: Path) -> None:
    images = Path(own.config.data.images)
    plain, tagged = own.outcomes.loc[own.outcomes["outcome"].isin(SAMPLES), "frame_path"].tolist()[:2]
    exif = Image.Exif()
    exif[0x010F] = "PhoneOfAnna"
    Image.open(images / tagged).save(images / tagged, exif=exif, comment=b"Anna", quality="keep")
    changed = make_run(tmp_path / "again", images=str(images), classes="stop")
    rows = export(changed, "coco", tmp_path).set_index("frame_path")
    folder = tmp_path / "coco"
    assert (folder / rows.loc[plain, "file"]).read_bytes() == (images / plain).read_bytes()
    copied = (folder / rows.loc[tagged, "file"]).read_bytes()
    assert b"Anna" in (images / tagged).read_bytes()
    assert b"Anna" not in copied
    assert np.array_equal(decode_image(copied), decode_image((images / tagged).read_bytes()))


def test_no_gesture_adds_further_hands_and_frames_without_a_gesture(run: FinishedRun, tmp_path: Path) -> None:
    rows = export(run, "csv", tmp_path, no_gesture=True)
    frames = run.outcomes[run.outcomes["class_name"] == "no_gesture"]
    assert set(frames["frame_path"]) <= set(rows["frame_path"])
    assert set(rows.loc[rows["kind"] == "other_hand", "class_name"]) <= {"no_gesture"}


def test_faces_are_a_class_of_their_own(run: FinishedRun, tmp_path: Path) -> None:
    rows = export(run, "csv", tmp_path, faces=True)
    faces = rows[rows["kind"] == "face"]
    assert len(faces) >= 10
    assert set(faces["class_name"]) == {FACE}
    assert set(faces["label"]).isdisjoint(run.config.labels.values())


def test_only_reviewed_samples(run: FinishedRun, tmp_path: Path) -> None:
    assert len(export(run, "csv", tmp_path, only="reviewed")) == 0


def test_missed_frames_go_to_people_who_draw_the_hand(run: FinishedRun, tmp_path: Path) -> None:
    rows = export(run, "cvat", tmp_path, only="missed")
    missed = run.outcomes[~run.outcomes["outcome"].isin(SAMPLES) & run.outcomes["wanted"]]
    assert sorted(rows["frame_path"]) == sorted(missed["frame_path"])
    assert len(rows) >= 4
    assert rows["x1"].isna().all()


def test_thinning_leaves_out_and_counts(run: FinishedRun, tmp_path: Path) -> None:
    everything = export(run, "csv", tmp_path / "all")
    (made,) = export_run(run, ["csv"], tmp_path / "third", ExportConfig(every=3))
    rows = read_rows(made.folder)
    assert made.counts["thinned"] == len(everything) - len(rows) > 0
    counts = everything.groupby(["video_name", "class_name"]).size()
    assert (rows.groupby(["video_name", "class_name"]).size() == -(-counts // 3)).all()


# -- whose pixels


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Run on frames that are stored turned in all ways, as JPEG and PNG."""
    folder = tmp_path_factory.mktemp("turned")
    (folder / "images" / "v").mkdir(parents=True)
    table = pd.read_csv(SAMPLE / "train.csv")
    frame = Image.open(SAMPLE / "TRAIN_DATA" / table.loc[table["class_name"] == "stop", "frame_path"].iloc[0])
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    rows = []
    for orientation, method in undo.items():
        stored = frame if method is None else frame.transpose(Image.Transpose(method))
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png"):
            name = f"v/{orientation}.{suffix}"
            stored.save(folder / "images" / name, exif=exif, quality=95)
            rows.append({"frame_path": name, "video_name": "v", "frame_id": orientation, "class_name": "stop"})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return make_run(folder / "out", images=str(folder / "images"), labels=str(folder / "labels.csv"))


@pytest.mark.parametrize("name", ["coco", "imagefolder"])
def test_every_reader_shows_the_same_pixels(turned: FinishedRun, name: str, tmp_path: Path) -> None:
    rows = export(turned, name, tmp_path)
    assert len(rows) == 16
    folder = tmp_path / name / ("images" if name == "coco" else "")
    for row in rows.to_dict("records"):
        file = next(folder.rglob(Path(row["file"]).name))
        pillow = np.asarray(Image.open(file).convert("RGB"))
        ignoring = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        turning = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        assert ignoring is not None
        assert turning is not None
        assert pillow.shape == ignoring.shape == turning.shape
        assert np.abs(pillow.astype(int) - ignoring).max() <= 3
        if name == "coco":
            assert pillow.shape[:2] == (row["height"], row["width"])


def test_frames_ignored_orientations_are_written_as_stored(turned: FinishedRun, tmp_path: Path) -> None:
    images, labels = turned.config.data.images, turned.config.data.labels
    stored = make_run(tmp_path / "run", images=images, labels=labels, exif="ignore")
    rows = export(stored, "coco", tmp_path)
    for row in rows.to_dict("records"):
        shown = Image.open(tmp_path / "coco" / "images" / Path(row["file"]).name)
        original = Image.open(Path(images) / row["frame_path"])
        assert shown.size == original.size
        assert shown.getexif().get(0x0112, 1) == 1


def test_without_pictures_turned_frames_are_noted(turned: FinishedRun, tmp_path: Path) -> None:
    (made,) = export_run(turned, ["coco"], tmp_path, ExportConfig(images="none"))
    (note,) = [note for note in made.notes if note.kind == "turned"]
    assert note.count == 14


def test_faces_are_blurred_and_all_else_stays(run: FinishedRun, tmp_path: Path) -> None:
    plain = export(run, "coco", tmp_path / "plain", faces=True)
    export(run, "coco", tmp_path / "blurred", blur_faces=True)
    face = plain[plain["kind"] == "face"].iloc[0]
    name = Path(face["file"]).name
    sharp, blurred = (
        decode_image((tmp_path / kind / "coco" / "images" / name).read_bytes()).astype(float)
        for kind in ("plain", "blurred")
    )
    x1, y1, x2, y2 = (int(face[corner]) for corner in ("x1", "y1", "x2", "y2"))
    edges = [cv2.Laplacian(image[y1:y2, x1:x2], cv2.CV_64F).var() for image in (sharp, blurred)]
    assert edges[1] < edges[0] / 4
    assert np.abs(sharp[-40:] - blurred[-40:]).mean() < 3


def test_archives_and_videos_are_cut_out(run: FinishedRun, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as archive:
        for file in sorted((SAMPLE / "TRAIN_DATA").rglob("*.jpg")):
            archive.write(file, file.relative_to(SAMPLE / "TRAIN_DATA").as_posix())
    archived = make_run(tmp_path / "run", images=str(tmp_path / "frames.zip"), classes="stop,ok,mute,no_gesture")
    export(archived, "coco", tmp_path / "a")
    export(run, "coco", tmp_path / "b")
    a, b = (list_files(tmp_path / side / "coco" / "images") for side in ("a", "b"))
    assert a == b


# -- what goes wrong costs its own frame


@pytest.fixture
def own(tmp_path: Path) -> FinishedRun:
    """Run on a copy of some frames, which a test may change."""
    shutil.copytree(SAMPLE / "TRAIN_DATA", tmp_path / "images")
    return make_run(tmp_path / "out", images=str(tmp_path / "images"), classes="stop")


@pytest.mark.parametrize("name", ["coco", "imagefolder", "webdataset", "huggingface"])
def test_frames_that_changed_or_are_gone_are_named(own: FinishedRun, name: str, tmp_path: Path) -> None:
    paths = own.outcomes.loc[own.outcomes["outcome"].isin(SAMPLES), "frame_path"].tolist()
    images = Path(own.config.data.images)
    (images / paths[0]).unlink()
    (images / paths[1]).write_bytes(encode_image(np.zeros((480, 640, 3), np.uint8), "JPEG"))
    (made,) = export_run(own, [name], tmp_path / "to")
    assert made.counts["failed"] == 2
    notes = [note for note in made.notes if note.kind == "not_exported"]
    assert sorted(note.example for note in notes if note.example) == sorted(paths[:2])
    listed = pd.read_csv(Path(made.folder) / "not_exported.csv")
    assert listed["frame_path"].tolist() == sorted(paths[:2])
    assert set(read_rows(made.folder)["frame_path"]) == set(paths) - set(paths[:2])
    shutil.copyfile(SAMPLE / "TRAIN_DATA" / paths[0], images / paths[0])
    (again,) = export_run(own, [name], tmp_path / "to")
    assert again.counts["failed"] == 1
    assert set(read_rows(made.folder)["frame_path"]) == set(paths) - {paths[1]}


# -- an export is whole, and nothing is overwritten


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_the_same_call_writes_the_same_bytes(run: FinishedRun, name: str, tmp_path: Path) -> None:
    export_run(run, [name], tmp_path / "one", workers=1)
    export_run(run, [name], tmp_path / "two", workers=2)
    one, two = (list_files(tmp_path / side / name) for side in ("one", "two"))
    for files in (one, two):
        files.pop("export.json")
    assert one == two


@pytest.mark.parametrize("name", ["coco", "webdataset"])
def test_an_absent_source_costs_nothing_that_was_exported(own: FinishedRun, name: str, tmp_path: Path) -> None:
    images = Path(own.config.data.images)
    path = own.outcomes.loc[own.outcomes["outcome"].isin(SAMPLES), "frame_path"].iloc[0]
    (images / path).unlink()
    (first,) = export_run(own, [name], tmp_path / "to")
    before = list_files(Path(first.folder))
    images.rename(tmp_path / "unmounted")
    (again,) = export_run(own, [name], tmp_path / "to")
    after = list_files(Path(first.folder))
    assert again.counts == first.counts
    for files in (before, after):
        files.pop("export.json")
    assert after == before
    with pytest.raises(ExportError, match=r"no frame could be exported.*are the images at"):
        export_run(own, [name], tmp_path / "other")


@pytest.mark.parametrize("name", ["coco", "webdataset"])
def test_a_file_that_was_deleted_is_written_again(run: FinishedRun, name: str, tmp_path: Path) -> None:
    (made,) = export_run(run, [name], tmp_path)
    before = list_files(Path(made.folder))
    file = next(file for file in Path(made.folder).rglob("*") if file.suffix in (".jpg", ".tar"))
    file.unlink()
    export_run(run, [name], tmp_path)
    after = list_files(Path(made.folder))
    for files in (before, after):
        files.pop("export.json")
    assert after == before


def test_a_licence_is_added_without_writing_pictures_again(run: FinishedRun, tmp_path: Path) -> None:
    export_run(run, ["coco"], tmp_path)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "coco" / "images").rglob("*")}
    (made,) = export_run(run, ["coco"], tmp_path, ExportConfig(license="mit", sources="Rendered", contact_sheet=True))
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert "license: mit" in (tmp_path / "coco" / "README.md").read_text()
    assert (tmp_path / "coco" / "contact_sheet.jpg").is_file()
    assert not [note for note in made.notes if "licence" in note.text]


def test_two_calls_do_not_mix(run: FinishedRun, tmp_path: Path) -> None:
    from detectime.storage.store import StoreError

    export_run(run, ["csv"], tmp_path)
    with open_store(tmp_path / "csv").lock(), pytest.raises(StoreError, match="another run is writing"):
        export_run(run, ["csv"], tmp_path, ExportConfig(every=2, overwrite=True))
    assert os.listdir(tmp_path) == ["csv"]


def test_chunks_are_of_one_part_and_full(run: FinishedRun) -> None:
    from detectime.exports import chunks
    from detectime.exports.annotations import collect_annotations
    from detectime.exports.selection import select_frames

    collected = collect_annotations(run, select_frames(run, ExportConfig()), FORMATS["webdataset"], ExportConfig())
    images = collected.data.images
    images["split"] = ["train" if k % 3 else "test" for k in range(len(images))]
    data = dataclasses.replace(collected.data, splits=("train", "test"))
    cut = chunks.Chunks(
        dataclasses.replace(collected, data=data), FORMATS["webdataset"], open_store("/nowhere", reading=True)
    )
    assert cut.files == ["train-000000.tar", "test-000000.tar"]
    tasks = [cut.popleft() for _ in range(2)]
    assert [{image["split"] for task in chunk for image in task.images} for chunk in tasks] == [{"train"}, {"test"}]
    for task in (task for chunk in tasks for task in chunk):
        assert task.images[0]["frame_path"] == task.frame_path
        assert [each[0]["class_name"] for each in task.objects] == [image["class_name"] for image in task.images]


def test_a_finished_export_is_left_alone(run: FinishedRun, tmp_path: Path) -> None:
    export_run(run, ["coco"], tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"}
    (again,) = export_run(run, ["coco"], tmp_path)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert again.counts["samples"] > 0


def test_a_default_that_is_given_asks_for_the_same(run: FinishedRun, tmp_path: Path) -> None:
    export_run(run, ["imagefolder"], tmp_path)
    (again,) = export_run(run, ["imagefolder"], tmp_path, ExportConfig(images="crops", box="bbox", split=False))
    assert again.counts["samples"] > 0
    with pytest.raises(ExportError, match="box = bbox, now hand"):
        export_run(run, ["imagefolder"], tmp_path, ExportConfig(box="hand"))


def test_other_settings_need_another_folder_or_overwrite(run: FinishedRun, tmp_path: Path) -> None:
    export_run(run, ["csv"], tmp_path)
    before = list_files(tmp_path / "csv")
    with pytest.raises(ExportError, match=r"other samples or settings \(every = 1, now 2\).*overwrite"):
        export_run(run, ["csv"], tmp_path, ExportConfig(every=2))
    assert list_files(tmp_path / "csv") == before
    export_run(run, ["csv"], tmp_path, ExportConfig(every=2, overwrite=True))
    (aside,) = [folder for folder in tmp_path.iterdir() if folder.name != "csv"]
    assert list_files(aside) == before


def test_a_folder_with_something_else_is_refused(run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"something else, 'thesis\.txt'"):
        export_run(run, ["csv", "coco"], tmp_path)
    assert os.listdir(tmp_path) == ["coco"]
    assert os.listdir(tmp_path / "coco") == ["thesis.txt"]


def test_the_images_are_no_place_for_an_export(own: FinishedRun) -> None:
    with pytest.raises(ExportError, match="inside the images"):
        export_run(own, ["coco"], Path(own.config.data.images) / "exports")


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("coco", {"images": "crops"}, "images = crops: coco accepts"),
        ("imagefolder", {"images": "none"}, "images = none: imagefolder accepts"),
        ("imagefolder", {"faces": True}, "faces = true"),
        ("coco", {"images": "none", "blur_faces": True}, "blur_faces = true"),
        ("coco", {"split": True}, r"no split\.csv"),
        ("csv", {"contact_sheet": True}, "contact_sheet = true"),
        ("cvat", {"box": "bbox"}, "box = bbox: cvat accepts hand"),
        ("coco", {"only": "missed"}, "only = missed: coco accepts all, reviewed"),
        ("cocoa", {}, "did you mean 'coco'"),
    ],
)
def test_what_cannot_be_is_refused_before_work(
    run: FinishedRun, name: str, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=reason):
        export_run(run, [name], tmp_path / "to", ExportConfig(**settings))
    assert not (tmp_path / "to").exists()


def test_numbers_out_of_range_are_refused_in_our_words(run: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="thin = 200: accepted: at most 128"):
        make_export_config({"thin": 200})
    with pytest.raises(ConfigError, match="workers = 0: accepted: at least 1"):
        export_run(run, ["csv"], tmp_path, workers=0)


def test_settings_are_checked_by_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'images'"):
        make_export_config({"image": "crops"})
    with pytest.raises(ConfigError, match="accepted: crops, frames, none"):
        make_export_config({"images": "crop"})


KILLED = """
import sys
from detectime import runs
from detectime.exports import chunks, pictures
from detectime.exports.export import export_run
chunks._CHUNK_FRAMES = 7
export_run(runs.open_run(sys.argv[1]), [sys.argv[2]], sys.argv[3], workers=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["coco", *(pytest.param(name, marks=pytest.mark.large) for name in ("imagefolder", "huggingface")), "webdataset"],
)
def test_a_killed_export_is_finished_by_the_same_call(
    run: FinishedRun, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detectime.exports import chunks

    monkeypatch.setattr(chunks, "_CHUNK_FRAMES", 7)
    export_run(run, [name], tmp_path / "whole")
    to = tmp_path / "killed"
    for most in (1, 4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(run.store), name, str(to)])
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if len(list((to / name / ".progress").glob("*.json"))) >= most:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.01)
        assert process.wait() in (0, -signal.SIGKILL)
        for file in (to / name).rglob("*.jpg"):
            Image.open(file).load()
    export_run(run, [name], to)
    whole, killed = list_files(tmp_path / "whole" / name), list_files(to / name)
    for files in (whole, killed):
        files.pop("export.json")
    assert killed == whole


HOSTILE = """
import os, sys
from detectime.exports import pictures

def encode(pixels, suffix):
    if abs(float(pixels.mean()) - float(os.environ["KILLS"])) < 1e-9:
        os.kill(os.getpid(), 9)
    return original(pixels, suffix)

original, pictures.encode_picture = pictures.encode_picture, encode
"""


def test_a_frame_that_kills_its_worker_costs_itself(
    own: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = own.outcomes[own.outcomes["outcome"].isin(SAMPLES)]
    row = samples.iloc[3]
    frame = decode_image((Path(own.config.data.images) / row["frame_path"]).read_bytes())
    x1, y1, x2, y2 = pairing.get_boxes(row, "bbox").astype(int)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HOSTILE)
    monkeypatch.setenv("KILLS", repr(float(frame[y1:y2, x1:x2].mean())))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (made,) = export_run(own, ["imagefolder"], tmp_path / "to", workers=1)
    assert made.counts["failed"] == 1
    (note,) = [note for note in made.notes if note.kind == "not_exported"]
    assert note.example == row["frame_path"]
    assert "SIGKILL" in note.text
    assert made.counts["samples"] == len(samples) - 1


# -- decisions and names


def test_decisions_are_exported_after_pairing_again(own: FinishedRun, tmp_path: Path) -> None:
    from detectime.decision_files import DecisionLog
    from detectime.judgements import judge_frame

    frame = own.outcomes.loc[own.outcomes["outcome"].isin(SAMPLES), "frame_path"].iloc[0]
    log = DecisionLog(own.store, "anna")
    log.append(judge_frame(own, frame, "anna", "box", box=(10.5, 20.25, 110.0, 220.0)))
    with pytest.raises(RunError, match="decisions were made since this run was paired; pair it again"):
        export_run(own, ["csv"], tmp_path / "to")
    outcomes.pair_run(own)
    rows = export(own, "csv", tmp_path / "to")
    row = rows[rows["frame_path"] == frame].iloc[0]
    assert row[["x1", "y1", "x2", "y2"]].tolist() == [10.5, 20.25, 110.0, 220.0]
    assert row["decision"] == "box"
    assert len(export(own, "csv", tmp_path / "reviewed", only="reviewed")) == 1


@given(st.lists(st.text(min_size=1, max_size=40), unique=True, max_size=20))
@effort(deadline=None)
def test_names_of_pictures_are_plain_and_different(frame_paths: list[str]) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        names = name_pictures(frame_paths)
        assert len({name.lower() for name in names}) == len(names)
        assert all(name.isascii() and name.replace("-", "").replace("_", "").isalnum() for name in names)
        assert all(len(name) <= 120 for name in names)


def test_a_clash_of_names_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    from detectime.exports import picture_names

    monkeypatch.setattr(picture_names, "_HASH_LENGTH", 0)
    with pytest.raises(ExportError, match=r"'a/b\.jpg' and 'a-b\.jpg'"):
        name_pictures(["a/b.jpg", "a-b.jpg"])


def test_export_json_says_what_was_asked_for(run: FinishedRun, tmp_path: Path) -> None:
    export_run(run, ["csv"], tmp_path, ExportConfig(every=2))
    state = json.loads((tmp_path / "csv" / "export.json").read_bytes())
    assert state["settings"]["every"] == 2
    assert state["run"] == str(run.store)
    with pytest.raises(ExportError, match="this is no export"):
        read_export(tmp_path)


def test_hagrid_is_read_back_with_all_classes(run: FinishedRun, tmp_path: Path) -> None:
    (made,) = export_run(run, ["hagrid"], tmp_path)
    folder = Path(made.folder)
    again = make_run(
        tmp_path / "again", images=str(folder / "hagrid_dataset"), labels=str(folder / "hagrid_annotations")
    )
    assert sorted(again.frames["class_name"].unique()) == ["mute", "ok", "stop"]
    assert len(again.frames) == made.counts["samples"]


def test_a_run_of_an_earlier_release_is_exported(tmp_path: Path) -> None:
    frozen = Path(__file__).parent / "frozen" / "0.2.0" / "default"
    old = runs.open_run(shutil.copytree(frozen, tmp_path / "run"))
    outcomes.pair_run(old)
    rows = export(old, "csv", tmp_path)
    assert len(rows) == int(old.outcomes["outcome"].isin(SAMPLES).sum())


def test_pictures_are_no_larger_than_needed(run: FinishedRun, tmp_path: Path) -> None:
    rows = export(run, "webdataset", tmp_path)
    assert len(rows)
    file = next((tmp_path / "webdataset").glob("*.tar"))
    assert io.BytesIO(file.read_bytes()).getbuffer().nbytes < 20_000_000


@pytest.mark.extra
@pytest.mark.parametrize("name", ["huggingface", "imagefolder", "webdataset"])
def test_datasets_reads_a_new_export_under_an_old_name(
    run: FinishedRun, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cache knows a folder by its name and the metadata of its card."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = need_extra("datasets")
    counts = []
    for every in (1, 4):
        (made,) = export_run(run, [name], tmp_path, ExportConfig(every=every, overwrite=True))
        loaded = datasets.load_dataset(made.folder, cache_dir=str(tmp_path / "cache"))
        counts.append((loaded["train"].num_rows, made.counts["pictures"]))
    assert counts[0][0] == counts[0][1] > counts[1][0] == counts[1][1]


@pytest.mark.extra
@pytest.mark.parametrize("name", ["coco", "webdataset", "csv"])
def test_a_bucket_holds_what_a_folder_does(s3_server: str, run: FinishedRun, name: str, tmp_path: Path) -> None:
    bucket = buckets.make_bucket()
    export_run(run, [name], tmp_path)
    (made,) = export_run(run, [name], f"{bucket}/exports")
    stored = {file.removeprefix(f"exports/{name}/"): content for file, content in buckets.read_stored(bucket).items()}
    local = list_files(tmp_path / name)
    for files in (stored, local):
        files.pop("export.json")
    assert stored == local
    (again,) = export_run(run, [name], f"{bucket}/exports")
    assert again.counts == made.counts
    with pytest.raises(ExportError, match="give another folder"):
        export_run(run, [name], f"{bucket}/exports", ExportConfig(every=2, overwrite=True))


@pytest.mark.extra
def test_a_bucket_with_something_else_is_refused(s3_server: str, run: FinishedRun, tmp_path: Path) -> None:
    bucket = buckets.make_bucket()
    (tmp_path / "hello.txt").write_text("mine")
    buckets.upload(tmp_path, f"{bucket}/exports/coco")
    buckets.upload(tmp_path, f"{bucket}/exports/csv/folder")
    for name, other in (("coco", "hello.txt"), ("csv", "folder")):
        with pytest.raises(ExportError, match=f"something else, '{other}'"):
            export_run(run, [name], f"{bucket}/exports")
