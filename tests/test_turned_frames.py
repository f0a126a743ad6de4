"""Frames that are stored rotated or mirrored: upright by default, in every file of a run, and told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import encode_image, make_detection_row, make_detections_table, make_frame_table, read_image
from faults import list_notes, make_config, read_manifest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detectime import boxes, evaluation, outcomes, pairing, runs
from detectime.config import Config, PairingConfig
from detectime.detection import resume, run
from detectime.detection.manifest import RunError
from detectime.errors import ConfigError
from detectime.images import RGB, turn_upright
from detectime.labels import frame_table, frames_csv
from detectime.notebook import show_result
from detectime.paths import SAMPLE
from detectime.sources.folder import FolderSource
from detectime.storage import run_tables
from detectime.storage.store import open_store

ORIENTATIONS = range(1, 9)
FRAME = SAMPLE / "TRAIN_DATA" / "like_01" / "0003.jpg"

pytestmark = pytest.mark.usefixtures("temporary_folder")  # the index of a face cache is stored in it


def store_turned(upright: RGB, orientation: int, kind: str = "PNG", **options: Any) -> bytes:
    """Encode a picture as a camera held in another way does: rotated or mirrored, with the orientation in EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode_image(turn_upright(upright, boxes.invert_orientation(orientation)), kind, exif=exif, **options)


def make_folder(folder: Path, orientations: Iterable[int] = ORIENTATIONS, path: Path = FRAME) -> tuple[Path, Path]:
    """Store one frame in several orientations; return the folder and the labels."""
    upright = read_image(path)
    images = folder / "images"
    images.mkdir()
    rows = ["frame_path,video_name,frame_id,class_name"]
    for number, orientation in enumerate(orientations, 1):
        (images / f"{number}.png").write_bytes(store_turned(upright, orientation))
        rows.append(f"{number}.png,v,{number},like")
    labels = folder / "labels.csv"
    labels.write_text("\n".join(rows))
    return images, labels


def detect(images: Path, labels: Path, output: Path, **parameters: Any) -> Config:
    """Run detection and pairing as the notebook does."""
    given = {"images": str(images), "labels": str(labels), "output": str(output), "workers": 1, **parameters}
    config, _ = resume.resume_config(make_config(**given))
    source = FolderSource(str(images))
    table = frame_table.select_frames(frames_csv.read_frames_csv(labels, source, config.labels), config.classes)
    run.detect_frames(table, source, config, str(output))
    outcomes.pair_run(runs.open_run(output), config.pairing)
    return config


def read_boxes(output: Path) -> list[list[int]]:
    return [sample["bbox"] for sample in json.loads((output / "hands.json").read_bytes())]


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    data=st.data(),
)
def test_a_box_is_turned_as_the_pixels_are(orientation: int, size: tuple[int, int], data: st.DataObject) -> None:
    width, height = size
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    stored = np.zeros((height, width, 3), np.uint8)
    stored[y1:y2, x1:x2] = 255
    upright = turn_upright(stored, orientation)
    rows, columns = np.nonzero(upright[..., 0])
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    turned = boxes.turn_boxes([[x1, y1, x2, y2]], orientation, width, height)
    assert turned.tolist() == [expected]
    back = boxes.turn_boxes(turned, boxes.invert_orientation(orientation), upright.shape[1], upright.shape[0])
    assert back.tolist() == [[x1, y1, x2, y2]]


def test_frames_are_upright_by_default_whatever_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = make_folder(tmp_path)
    output = tmp_path / "run"
    config = detect(images, labels, output)
    found = read_boxes(output)
    assert len(found) == 8
    assert found == [found[0]] * 8  # the same pixels, so the same box
    table = runs.open_run(output).read_detections().to_pylist()
    assert [row["orientation"] for row in table] == [*ORIENTATIONS]
    height, width = read_image(FRAME).shape[:2]
    assert {(row["width"], row["height"]) for row in table} == {(width, height)}
    (note,) = list_notes(output, "turned")
    text = "frames are stored rotated or mirrored and were turned upright, with their boxes"
    assert (note.count, note.text, note.example) == (7, text, "2.png")
    written = read_manifest(output)["notes"]["detection"]
    assert [each["kind"] for each in written] == ["turned"]
    detections = runs.open_run(output).detections
    assert str(note) in run.summarize_detections(detections, config.detection.exif)
    samples = run_tables.read_outcomes(open_store(output))
    assert samples is not None
    assert samples["orientation"].tolist() == [*ORIENTATIONS]
    show_result(samples, config)
    assert "boxes are in pixels of the upright frame" in capsys.readouterr().out


@pytest.mark.parametrize(("exif", "pixels"), [("apply", "upright"), ("ignore", "stored")])
def test_every_table_says_which_pixels_its_boxes_are_in(exif: str, pixels: str, tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path, [1])
    output = tmp_path / "run"
    detect(images, labels, output, exif=exif)
    assert read_manifest(output)["pairing"]["pixels"] == pixels
    read = run_tables.read_table(open_store(output), "outcomes.parquet", 1)
    assert read is not None
    assert read[1] == {"pixels": pixels}
    assert pd.read_csv(output / "outcomes.csv")["orientation"].tolist() == [1]


def test_ignored_orientations_are_told_with_what_that_means(tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path, [1, 1, 3])
    output = tmp_path / "run"
    detect(images, labels, output, exif="ignore")
    (note,) = list_notes(output, "turned")
    assert (note.count, note.example) == (1, "3.png")
    assert "frame is stored rotated or mirrored and used like that, since detection.exif is `ignore`" in note.text
    assert "the boxes do not fit what viewers, players and cv2.imread show" in note.text
    assert "`exif: apply`" in note.text
    assert runs.open_run(output).read_detections(["orientation"])["orientation"].to_pylist() == [1, 1, 3]


def test_a_run_without_turned_frames_has_no_note(tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path, [1])
    detect(images, labels, tmp_path / "run")
    assert list_notes(tmp_path / "run", "turned") == []


# -- the face cache


def write_cache(folder: Path, images: Path, labels: Path, pixels: str) -> tuple[Path, list[list[int]]]:
    """Write the faces of the frames in one kind of pixels; return the file, and the samples to expect."""
    output = folder / "known"
    detect(images, labels, output)
    rows = []
    for row in runs.open_run(output).read_detections().to_pylist():
        face = row["faces"][0]
        corners = [face[name] for name in ("x1", "y1", "x2", "y2")]
        if pixels == "stored":
            back = boxes.invert_orientation(row["orientation"])
            corners = boxes.turn_boxes(corners, back, row["width"], row["height"]).tolist()
        x1, y1, x2, y2 = corners
        rows.append({"frame_path": row["frame_path"], "bbox_mtcnn": [x1, y1, x2 - x1, y2 - y1]})
    file = folder / "faces.json"
    file.write_text(json.dumps(rows))
    return file, read_boxes(output)


@pytest.mark.parametrize("pixels", ["stored", "upright"])
def test_cached_faces_are_turned_if_they_are_in_other_pixels(pixels: str, tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path)
    cache, expected = write_cache(tmp_path, images, labels, pixels)
    known = {"detector_type": "face_cache", "face_cache": str(cache)}
    detect(images, labels, tmp_path / "upright", **known, face_cache_pixels=pixels)
    assert np.abs(np.array(read_boxes(tmp_path / "upright")) - expected).max() <= 2
    # Used as stored: each box is the same place of the stored picture. A lying hand is found less often.
    detect(images, labels, tmp_path / "stored", **known, face_cache_pixels=pixels, exif="ignore")
    for row in runs.open_run(tmp_path / "stored").read_detections().to_pylist():
        face = row["faces"][0]
        stored = [face[name] for name in ("x1", "y1", "x2", "y2")]
        turned = boxes.turn_boxes(stored, row["orientation"], row["width"], row["height"])
        if row["orientation"] == 1:
            first = turned
        np.testing.assert_allclose(turned, first, atol=0.01)


def test_a_cache_that_does_not_state_its_pixels_is_refused_before_work_starts(tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path, [1, 1, 6])
    cache, _ = write_cache(tmp_path, images, labels, "stored")
    with pytest.raises(ConfigError) as refusal:
        detect(images, labels, tmp_path / "run", detector_type="face_cache", face_cache=str(cache))
    for word in ("detection.face_cache_pixels = None", "'3.png'", "EXIF orientation 6", "`stored`", "`upright`"):
        assert word in str(refusal.value)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_cache_of_upright_frames_needs_no_statement(tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path, [1, 1])
    cache, expected = write_cache(tmp_path, images, labels, "stored")
    detect(images, labels, tmp_path / "run", detector_type="face_cache", face_cache=str(cache))
    assert np.abs(np.array(read_boxes(tmp_path / "run")) - expected).max() <= 2


def test_a_run_may_be_told_the_pixels_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_folder(tmp_path, [1, 6, 1])
    cache, expected = write_cache(tmp_path, images, labels, "stored")
    known = {"detector_type": "face_cache", "face_cache": str(cache)}
    output = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("detectime.detection.turned_frames._PROBES", 2)  # the first and the last
        detect(images, labels, output, **known)
    _, failed, _ = runs.open_run(output).read_detections().to_pylist()
    assert failed["outcome"] == "failed"
    assert "set detection.face_cache_pixels" in failed["error"]
    detect(images, labels, output, **known, face_cache_pixels="stored", retry_failed=True)
    assert len(read_boxes(output)) == 3
    assert np.abs(np.array(read_boxes(output)) - expected).max() <= 2
    with pytest.raises(RunError, match=r"face_cache_pixels: the run has 'stored', now it is 'upright'"):
        detect(images, labels, output, face_cache_pixels="upright")


@pytest.mark.parametrize("exif", ["apply", "ignore"])
def test_the_run_of_a_cache_states_its_pixels_itself(exif: str, tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path, [1, 3])
    detect(images, labels, tmp_path / "first", exif=exif)
    output = tmp_path / "second"
    detect(images, labels, output, detector_type="face_cache", face_cache=str(tmp_path / "first"))
    assert {row["outcome"] for row in runs.open_run(output).read_detections().to_pylist()} == {"ok"}
    assert len(read_boxes(output)) == 2 if exif == "apply" else 1
    other = "stored" if exif == "apply" else "upright"
    with pytest.raises(ConfigError, match=rf"face_cache_pixels = '{other}': the run of"):
        detect(
            images, labels, tmp_path / "third",
            detector_type="face_cache", face_cache=str(tmp_path / "first"), face_cache_pixels=other,
        )  # fmt: skip


# -- annotated boxes


def make_samples(orientation: int, size: tuple[int, int], stated: str | None = None) -> pd.DataFrame:
    """Make the outcome of one annotated frame."""
    table = make_frame_table([{"frame_path": "a.jpg"}]).assign(wanted=True, true_hands="[[0.1, 0.2, 0.3, 0.6]]")
    if stated:
        table["true_size"] = stated
    row = make_detection_row("a.jpg", size=size) | {"orientation": orientation}
    return pairing.pair_frames(table, make_detections_table(row), PairingConfig())


@pytest.mark.parametrize(
    ("orientation", "truth_pixels", "pixels", "expected"),
    [
        (1, None, "upright", (10, 40, 30, 120)),
        (6, "upright", "upright", (10, 40, 30, 120)),
        (6, "stored", "upright", (40, 20, 80, 60)),  # [x, y] of 200 x 100 becomes [100 - y, x] of 100 x 200
        (6, "stored", "stored", (10, 40, 30, 120)),
        (8, "upright", "stored", (40, 20, 80, 60)),
        (3, "stored", "upright", (70, 80, 90, 160)),
        (6, None, "upright", None),
    ],
)
def test_annotated_boxes_are_turned_if_they_are_in_other_pixels(
    orientation: int, truth_pixels: str | None, pixels: str, expected: tuple[int, ...] | None
) -> None:
    samples = make_samples(orientation, (100, 200))
    truth = evaluation.extract_truth(samples, truth_pixels, pixels)
    if expected is None:
        assert len(truth) == 0
        (note,) = truth.attrs["notes"]
        assert (note.count, note.example) == (1, "a.jpg")
        assert "set data.truth_pixels to `stored` (before) or `upright` (after)" in note.text
        return
    assert truth.attrs["notes"] == []
    np.testing.assert_allclose(truth[["x1", "y1", "x2", "y2"]].to_numpy(), [expected])


@pytest.mark.parametrize(
    ("orientation", "truth_pixels", "stated", "fits"),
    [
        (1, None, "100x200", True),
        (1, None, "512x1024", True),  # boxes in fractions fit a shrunk edition
        (1, None, "33x67", True),  # also if its sides are rounded
        (1, None, "200x100", False),
        (1, None, "100x150", False),
        (6, "stored", "200x100", True),
        (6, "stored", "100x200", False),
        (6, "upright", "100x200", True),
        (6, "upright", "200x100", False),
        (3, "stored", "100x200", True),
        (1, "stored", "200x100", False),
    ],
)
def test_an_annotation_of_another_shape_than_its_frame_is_named(
    orientation: int, truth_pixels: str | None, stated: str, fits: bool
) -> None:
    truth = evaluation.extract_truth(make_samples(orientation, (100, 200), stated), truth_pixels)
    assert len(truth) == fits
    notes = truth.attrs["notes"]
    assert [note.kind for note in notes] == ([] if fits else ["other_shape"])
    if not fits:
        assert notes[0].example == f"a.jpg: {stated} stated, 100x200 found"


# -- runs of other configurations


def test_a_run_goes_on_with_what_it_had(tmp_path: Path) -> None:
    images, labels = make_folder(tmp_path, [1, 6])
    output = tmp_path / "run"
    detect(images, labels, output, exif="ignore")
    before = (output / "hands.json").read_bytes()
    config = detect(images, labels, output)  # not given
    assert config.detection.exif == "ignore"
    assert (output / "hands.json").read_bytes() == before
    (note,) = list_notes(output, "resumed")
    assert "detection.exif = 'ignore'" in note.text
