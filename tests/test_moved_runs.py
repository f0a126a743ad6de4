"""A run that goes from Colab to a laptop and back, as docs/move.md tells it, with the processes that people start."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import finished_runs
import pytest
from conftest import draw_pattern, encode_image

from detectime.detection.manifest import RunError
from detectime.errors import ConfigError
from detectime.paths import SAMPLE
from detectime.report.provenance import format_command
from detectime.runs import FinishedRun, open_run, relocate_run
from detectime.schema import SAMPLES
from detectime.sources.contract import SourceError
from detectime.truth import read_truth
from detectime.widgets import Review

pytestmark = pytest.mark.slow

FRAMES = SAMPLE / "TRAIN_DATA"
VIDEOS = ("ok_01", "stop_01", "victory_01")
_EACH = 4  # frames
_FIRST = 9  # frames that are processed on Colab; the laptop adds the others


@pytest.fixture
def colab(tmp_path: Path) -> Path:
    """Return what looks like a folder of the drive: an archive of frames, and their labels."""
    drive = tmp_path / "content" / "drive" / "MyDrive"
    drive.mkdir(parents=True)
    with (SAMPLE / "train.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["video_name"] in VIDEOS and int(row["frame_id"]) <= _EACH]
    with (drive / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with zipfile.ZipFile(drive / "frames.zip", "w") as archive:
        for row in rows:
            archive.write(FRAMES / row["frame_path"], row["frame_path"])
    return drive


@pytest.fixture
def copied(sample_run: Path, tmp_path: Path) -> FinishedRun:
    """Return a copy of the run on the sample."""
    return open_run(shutil.copytree(sample_run, tmp_path / "out"))


def call(folder: Path, *arguments: str, status: int = 0) -> str:
    """Run the command in a folder; return what it printed."""
    command = [sys.executable, "-m", "detectime", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def process(folder: Path, images: str, *options: str) -> str:
    """Run detection and pairing, as on either machine."""
    places = ["--images", images, "--labels", "labels.csv", "--output", "out"]
    return call(folder, "run", *places, "--workers", "1", "--fallback", "frame", "--samples-per-class", "1", *options)


def list_samples(run: FinishedRun) -> list[str]:
    samples: list[str] = run.outcomes.loc[run.outcomes["outcome"].isin(SAMPLES).to_numpy(), "frame_path"].tolist()
    return samples


def review_frame(folder: Path, path: str, action: str) -> bytes:
    """Decide on a frame in the review; return its picture, nothing if it cannot be shown."""
    review = Review(open_run(folder / "out"), frames=[path], reviewer=folder.name)
    sent: list[dict[str, Any]] = []
    review.send = lambda content, buffers=None: sent.append(content)
    review._receive(None, {"kind": "item", "id": 1, "at": 0}, [])
    item = sent[-1]["item"]
    seen = {"seen": item["box"], "seen_class": item["class_name"], "box": None, "class_name": None}
    review._receive(None, {"kind": "decide", "id": 2, "at": 0, "action": action, **seen}, [])
    assert [each["kind"] for each in sent if each.get("id") == 2] == ["decided"]
    return review.make_still().jpeg


def read_hands(folder: Path) -> dict[str, Any]:
    return {row["frame_path"]: row for row in json.loads((folder / "out" / "hands.json").read_text())}


def list_moves(folder: Path) -> list[str]:
    return [note.text for note in open_run(folder / "out").notes if note.kind == "moved"]


@pytest.mark.large  # the page docs/move.md, whose commands are run too, has a part of it
def test_from_colab_to_a_laptop_and_back(colab: Path, tmp_path: Path) -> None:
    process(colab, "frames.zip", "--limit", str(_FIRST))
    laptop, away = tmp_path / "laptop", tmp_path / "away"
    shutil.copytree(colab, laptop)
    with zipfile.ZipFile(laptop / "frames.zip") as archive:
        archive.extractall(laptop / "pictures")
    (laptop / "frames.zip").unlink()
    (tmp_path / "content").rename(away)

    # Without the frames: what needs none works, and what does says how to go on.
    call(laptop, "split", "out", "--shares", "train=0.5,test=0.5", "--allow-similar")
    call(laptop, "export", "out", "coco", "--images", "none", "--to", "exports")
    remedy = "`detectime relocate out --images DIR`"
    assert remedy in call(laptop, "export", "out", "imagefolder", "--to", "exports", status=1)
    call(laptop, "report", "out", "--to", "before.html")
    assert "detectime relocate" in (laptop / "before.html").read_text()
    first, second, third = list_samples(open_run(laptop / "out"))[:3]

    # With them, elsewhere and unpacked.
    told = call(laptop, "relocate", "out", "--images", "pictures")
    counts = f"{_FIRST} of {_FIRST} frames are there, and {_FIRST} of {_FIRST} that were compared are the same."
    assert told.strip() == f"The images moved from {colab}/frames.zip to {laptop}/pictures: {counts}"
    call(laptop, "report", "out")
    assert "cannot be shown" not in (laptop / "out" / "report.html").read_text()
    assert (laptop / "out" / "report.html").stat().st_size > 2 * (laptop / "before.html").stat().st_size
    call(laptop, "export", "out", "imagefolder", "--to", "exports")
    assert len(list((laptop / "exports" / "imagefolder").rglob("*.jpg"))) == len(read_hands(laptop))

    # Decisions of two people, on either side, merged.
    assert review_frame(laptop, first, "reject")
    away.rename(tmp_path / "content")
    assert review_frame(colab, second, "reject")
    assert review_frame(colab, third, "keep")
    for here, there in ((laptop, colab), (colab, laptop)):
        shutil.copytree(here / "out" / "decisions", there / "out" / "decisions", dirs_exist_ok=True)
    for folder in (laptop, colab):
        call(folder, "pair", "out")
        assert {first, second} & set(read_hands(folder)) == set()
        assert third in read_hands(folder)
    assert read_hands(laptop) == read_hands(colab)

    # The laptop adds frames, and Colab goes on with its run.
    process(laptop, "pictures", "--limit", "null")
    shutil.rmtree(colab / "out")
    shutil.copytree(laptop / "out", colab / "out")
    call(colab, "relocate", "out", "--images", "frames.zip")
    assert len(open_run(colab / "out").detections) == len(VIDEOS) * _EACH
    told = process(colab, "frames.zip", "--limit", "null", "--dry-run")
    assert f"pending   0 frames; {len(VIDEOS) * _EACH} are done" in told
    call(colab, "pair", "out")
    assert read_hands(colab) == read_hands(laptop)
    assert {first, second} & set(read_hands(colab)) == set()
    places = [str(laptop / "pictures"), str(colab / "frames.zip")]
    assert [move.partition(":")[0].rpartition(" to ")[2] for move in list_moves(colab)] == places


# -- where the frames are


def test_only_run_json_is_written(copied: FinishedRun, tmp_path: Path) -> None:
    output = Path(str(copied.store))
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    frames, former = shutil.copytree(FRAMES, tmp_path / "frames"), copied.source
    note = relocate_run(copied, str(frames))
    after = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    assert {name for name in after if after[name] != before.get(name)} == {"run.json"}
    changed = json.loads(after["run.json"]), json.loads(before["run.json"])
    assert {key for key in changed[0] if changed[0][key] != changed[1][key]} == {"configuration", "notes"}
    assert note in open_run(output).notes
    assert copied.source is not former
    assert copied.source.root == str(frames)
    assert "108 of 108 frames are there, and 108 of 108 that were compared are the same." in str(note)
    assert str(relocate_run(copied, str(frames))).startswith(f"The images are at {frames}, as before: 108 of 108")
    assert [each for each in open_run(output).notes if each.kind == "moved"] == [note]


def test_annotated_boxes_move_too_and_output_needs_nothing(sample_run: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(sample_run, tmp_path / "out"))
    recorded = json.loads((output / "run.json").read_text())
    recorded["configuration"]["data"]["truth"] = "/content/truth.json"
    (output / "run.json").write_text(json.dumps(recorded))
    run = open_run(output)
    former = read_truth(run)
    assert former is not None
    assert [note.kind for note in former.notes] == ["unused_truth"]
    boxes = shutil.copy(SAMPLE / "truth.json", tmp_path / "boxes.json")
    (tmp_path / "others.json").write_text('{"x.jpg": {"hands": [[1, 1, 2, 2]]}}')

    places = ["relocate", "out", "--images", str(FRAMES), "--truth"]
    before = (output / "run.json").read_bytes()
    assert "no such file or folder" in call(tmp_path, *places, "gone.json", status=1)
    assert "is a frame of the run" in call(tmp_path, *places, "others.json", status=1)
    with pytest.raises(ConfigError, match="no such file or folder"):
        relocate_run(run, str(FRAMES), truth=str(tmp_path / "gone.json"))
    assert (output / "run.json").read_bytes() == before
    told = f"The annotated boxes are at {boxes}; they were at /content/truth.json."
    assert told in call(tmp_path, *places, "boxes.json")
    assert told.replace("; they were at /content/truth.json", ", as before") in call(tmp_path, *places, "boxes.json")

    run.refresh()
    found = read_truth(run)
    assert found is not None
    assert len(found.frames) == 108
    (note,) = [note for note in run.notes if note.kind == "moved"]
    assert told in note.text
    assert f"--output {output} \\\n" in format_command(run)
    assert f"--truth {boxes}" in format_command(run)


def test_some_frames_are_enough_and_others_are_counted(copied: FinishedRun, tmp_path: Path) -> None:
    names = copied.detections["frame_path"].to_pylist()
    for name in names[:10]:
        (tmp_path / "frames" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FRAMES / name, tmp_path / "frames" / name)
    (tmp_path / "frames" / names[3]).write_bytes(encode_image(draw_pattern(60, 40), "JPEG"))
    text = relocate_run(copied, str(tmp_path / "frames")).text
    assert text.endswith(f"10 of 108 frames are there, and 9 of 10 that were compared are the same (not {names[3]!r}).")


def test_other_pictures_of_the_same_names_are_refused(copied: FinishedRun, tmp_path: Path) -> None:
    before = (tmp_path / "out" / "run.json").read_bytes()
    for number, name in enumerate(copied.frames["frame_path"]):
        (tmp_path / "frames" / name).parent.mkdir(parents=True, exist_ok=True)
        content = (FRAMES / name).read_bytes()
        (tmp_path / "frames" / name).write_bytes(content + b"\0" * (number % 2 or number == 0))
    with pytest.raises(
        RunError, match=r"\d\d of 108 frames that were compared have other content .*nothing was changed"
    ):
        relocate_run(copied, str(tmp_path / "frames"))
    assert (tmp_path / "out" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "nowhere: the images folder cannot be read: No such file or directory"),
        ("above", r"not one of the 108 frames .* found with 'TRAIN_DATA' in front"),
        ("strangers", r"not one of the 108 frames .*\(the first is 'stop_01/0001.jpg'; .* called 'a.jpg'\)"),
    ],
)
def test_a_place_without_the_frames_is_refused(copied: FinishedRun, tmp_path: Path, place: str, message: str) -> None:
    shutil.copytree(FRAMES, tmp_path / "above" / "TRAIN_DATA")
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "a.jpg").write_bytes(encode_image(draw_pattern(60, 40), "JPEG"))
    before = (tmp_path / "out" / "run.json").read_bytes()
    with pytest.raises((RunError, SourceError), match=message):
        relocate_run(copied, str(tmp_path / place))
    assert (tmp_path / "out" / "run.json").read_bytes() == before


@pytest.mark.parametrize(("place", "slash"), [("anna/stop", "/"), ("anna", "")])
def test_the_folder_above_that_has_the_frames_is_named(tmp_path: Path, place: str, slash: str) -> None:
    for name in ("abel", "anna"):
        shutil.copytree(FRAMES / "stop_01", tmp_path / "frames" / name / "stop")
    run = finished_runs.make_run(
        tmp_path / "out", images=str(tmp_path / "frames"), labels=None, labels_type="folders", workers=1
    )
    with pytest.raises(RunError, match=rf"not one of the .* is there, .*; give {tmp_path / 'frames'}$"):
        relocate_run(run, f"{tmp_path / 'frames' / place}{slash}")
    relocate_run(run, str(tmp_path / "frames"))


def test_images_that_are_their_own_labels_move_as_one(tmp_path: Path) -> None:
    for video in VIDEOS[:2]:
        folder = tmp_path / "frames" / video.partition("_")[0]
        folder.mkdir(parents=True)
        shutil.copy(FRAMES / video / "0001.jpg", folder / f"{video}.jpg")
    frames = str(tmp_path / "frames")
    run = finished_runs.make_run(tmp_path / "out", images=frames, labels=None, labels_type="folders", workers=1)
    (tmp_path / "frames").rename(tmp_path / "moved")
    relocate_run(run, str(tmp_path / "moved"), "folder")
    data = open_run(tmp_path / "out").config.data
    assert (data.images, data.labels, data.source_type) == (*[str(tmp_path / "moved")] * 2, "folder")


def test_a_run_of_an_earlier_release_is_compared_by_name(tmp_path: Path) -> None:
    """0.2 recorded no content."""
    run = open_run(shutil.copytree(Path(__file__).parent / "frozen" / "0.2.0" / "default", tmp_path / "out"))
    for name in run.frames["frame_path"]:
        (tmp_path / "frames" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "frames" / name).write_bytes(b"")
    text = relocate_run(run, str(tmp_path / "frames")).text
    assert text.endswith("frames are there, of which only the names could be compared.")


def test_a_move_that_detection_notices_stays_on_record(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "frames").mkdir(exist_ok=True)
        shutil.copy(FRAMES / "ok_01" / "0001.jpg", tmp_path / "frames" / name)
    rows = "frame_path,video_name,frame_id,class_name\na.jpg,v,1,ok\nb.jpg,v,2,ok\n"
    (tmp_path / "labels.csv").write_text(rows)
    for place in ("frames", "elsewhere", "elsewhere"):
        if not (tmp_path / place).exists():
            (tmp_path / "frames").rename(tmp_path / place)
        run = finished_runs.make_run(
            tmp_path / "out", images=str(tmp_path / place), labels=str(tmp_path / "labels.csv"), workers=1
        )
    (note,) = [note for note in run.notes if note.kind == "moved"]
    assert f"from {tmp_path}/frames to {tmp_path}/elsewhere" in note.text
