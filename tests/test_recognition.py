"""Exported models in use, with onnxruntime alone: crops, landmarks, and videos rendered, recognised and shown."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from browser import launch_chrome, open_page
from conftest import draw_noise, draw_pattern, encode_image, read_image
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import definitions
from detectime.boxes import compute_iou
from detectime.classifier.crops import cut_hand, fit_square
from detectime.classifier.model_file import ModelFileError, read_model_file
from detectime.classifier.recognition import GestureRecognizer
from detectime.classifier.video import RecognizedVideo, choose_config, recognize_video, render_video, show_video
from detectime.classifier.video_files import VideoError, VideoWriter, open_capture, read_chunks
from detectime.config import Config, load_config
from detectime.images import RGB
from detectime.runs import FinishedRun, open_run
from detectime.schema import Outcome
from detectime.sources import open_source

pytestmark = pytest.mark.slow

SIDE = 32
COLOURS = ("red", "green", "blue")
SIDES = ("right", "left")  # of the frame
SAMPLE = definitions.ROOT_DIR / "data" / "sample" / "TRAIN_DATA"
FRAMES = [f"{video}/{number:04d}.jpg" for video in ("stop_01", "mute_02", "ok_01", "like_02") for number in (1, 6)]
HAND = ["hand_x1", "hand_y1", "hand_x2", "hand_y2"]

FIXED = """
import numpy as np

from detectime.detectors.contract import Detections

FINGERPRINT = {"weights": "abc", "version": "1"}


class Fixed:
    fingerprint = FINGERPRINT

    def __init__(self, box):
        self.box = box

    def detect(self, images, regions=None):
        return [self.look(*image.shape[:2], image) for image in images]

    def look(self, height, width, image):
        if image.mean() > 250:
            raise RuntimeError("it is\\nwhite")
        if image.mean() < 5:
            return Detections.none()
        box = np.array([self.box], np.float32) * [width, height, width, height]
        return Detections(box.astype(np.float32), np.array([0.75], np.float32))


def build_faces(settings, device):
    return Fixed([0.25, 0.25, 0.5, 0.5])


def build(settings, device):
    return Fixed([0.5, 0.25, 0.75, 0.5])
"""
"""A face left of the middle of each frame, and a hand right of it, without landmarks; none in a black frame."""


def write_model(path: Path, kind: str = "crops", **changes: Any) -> Path:
    """Write a model that names the strongest colour of a crop, or on which side of x = 320 landmarks lie."""
    names = COLOURS if kind == "crops" else SIDES
    weights = np.eye(3, dtype=np.float32) / 20 if kind == "crops" else np.array([[1, -1], [0, 0], [0, 0]], np.float32)
    shift = np.zeros(3, np.float32) if kind == "crops" else np.array([-320, 320], np.float32)
    shape: list[Any] = ["N", SIDE, SIDE, 3] if kind == "crops" else ["N", 21, 3]
    nodes = [
        helper.make_node("Cast", [kind], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["mean"], axes=[*range(1, len(shape) - 1)], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["product"]),
        helper.make_node("Add", ["product", "shift"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(kind, TensorProto.UINT8 if kind == "crops" else TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(names)])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(shift, "shift"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata = {
        **{"version": 1, "model": "small", "input": kind, "side": SIDE if kind == "crops" else None},
        **{"box": "context" if kind == "crops" else None, "classes": names, "numbers": [*range(len(names))]},
        **{"trained_on": {"samples": 9, "groups": 3}, "detectime": "0.3.0"},
    }
    helper.set_model_props(model, {"detectime": json.dumps(metadata | changes)})
    onnx.save(model, path)
    return path


def compute_probabilities(crops: list[RGB]) -> NDArray[np.float64]:
    """Do what the model of crops does."""
    logits = np.stack([fit_square(crop, SIDE).mean(axis=(0, 1), dtype=np.float64) for crop in crops]) / 20
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def read_video(path: Path) -> list[RGB]:
    with open_capture(path) as capture:
        return [frame.pixels for chunk in read_chunks(capture) for frame in chunk]


def write_video(path: Path, frames: list[RGB], code: str = "mp4v", fps: float = 10) -> Path:
    """Write a video as OpenCV does, of frames of one size."""
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, size)
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture
def fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """Return a configuration whose detectors find the same everywhere."""
    (tmp_path / "fixed_boxes.py").write_text(FIXED)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"detector_type": "fixed_boxes:build_faces", "hand_detector": "fixed_boxes:build"}
    yield load_config(parameters=names)
    sys.modules.pop("fixed_boxes", None)


# -- models


def test_crops_of_any_size_are_named(tmp_path: Path) -> None:
    recognizer = GestureRecognizer(write_model(tmp_path / "model.onnx"))
    sizes = itertools.cycle([(9, 50), (200, 40), (SIDE, SIDE), (1, 300)])
    crops = [np.full((*size, 3), 20, np.uint8) for size in itertools.islice(sizes, 70)]
    for number, crop in enumerate(crops):
        crop[..., number % 3] = 240
    found = recognizer.recognize_crops(crops)
    assert found.names == [COLOURS[number % 3] for number in range(70)]
    assert found.probabilities.shape == (70, 3)
    assert np.abs(found.probabilities - compute_probabilities(crops)).max() < 1e-4
    assert np.array_equal(found.probabilities[40:41], recognizer.recognize_crops(crops[40:41]).probabilities)
    names, probabilities = recognizer.recognize_crops([])
    assert names == []
    assert probabilities.shape == (0, 3)


def test_squares_keep_proportions_and_are_centred() -> None:
    tall, wide = np.zeros((60, 20, 3), np.uint8), np.zeros((5, 10, 3), np.uint8)
    tall[:30], wide[:, :5] = 255, 255
    square = fit_square(tall, 30)
    assert (square[:, :10] == 127).all()
    assert (square[:, 20:] == 127).all()
    assert (square[:15, 10:20] == 255).all()
    assert (square[15:, 10:20] == 0).all()
    enlarged = fit_square(wide, 30)
    assert (enlarged[:7] == 127).all()
    assert (enlarged[22:] == 127).all()
    assert (enlarged[8:21, :12] == 255).all()
    assert (enlarged[8:21, 18:] == 0).all()
    assert np.array_equal(fit_square(square, 30), square)
    for other in (wide / 255, wide.astype(np.uint16), wide[..., :1], wide[..., 0], wide[:0]):
        with pytest.raises(ValueError, match=r"an image of \w+, shape .*; expected uint8"):
            fit_square(other, 30)


def test_landmarks_are_named_and_a_hand_without_is_refused(tmp_path: Path) -> None:
    recognizer = GestureRecognizer(write_model(tmp_path / "model.onnx", "landmarks"))
    points = np.zeros((2, 21, 3), np.float32)
    points[0, :, 0], points[1, :, 0] = 319, 400
    found = recognizer.recognize_landmarks(points)
    assert found.names == ["left", "right"]
    assert found.probabilities[0] == pytest.approx([1 / (1 + np.e**2), 1 / (1 + np.e**-2)], abs=1e-5)
    assert recognizer.recognize_landmarks(points[:0]).names == []
    for broken in (points[:, :20], points[0], np.full_like(points, np.nan)):
        with pytest.raises(ValueError, match=r"landmarks of shape .*; expected \(N, 21, 3\), all of them numbers"):
            recognizer.recognize_landmarks(broken)


def test_what_a_model_does_not_look_at_is_refused(tmp_path: Path) -> None:
    crops = GestureRecognizer(write_model(tmp_path / "crops.onnx"))
    landmarks = GestureRecognizer(write_model(tmp_path / "landmarks.onnx", "landmarks"))
    with pytest.raises(ModelFileError, match=r"crops.onnx: this is a model of crops, not of landmarks; call recogn"):
        crops.recognize_landmarks(np.zeros((1, 21, 3)))
    with pytest.raises(
        ModelFileError, match=r"landmarks.onnx: this is a model of landmarks.* or give a model of crops"
    ):
        landmarks.recognize_crops([np.zeros((9, 9, 3), np.uint8)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"version": 2, "detectime": "9.1"},
            r"made by a newer detectime \(9.1; .*reads up to 1\); install that version",
        ),
        ({"side": "32"}, r"its metadata are damaged \(side = '32'"),
        ({"side": 64}, r"do not fit together \(its input has the shape \['N', 32, 32, 3\]"),
        ({"classes": ["red"], "numbers": [0]}, r"\(1 classes, 1 numbers, output shape \['N', 3\]\)"),
        ({"input": "landmarks"}, r"do not fit together \(it has the input \['crops'\]"),
        ({"numbers": [1]}, r"do not fit together \(3 classes, 1 numbers"),
    ],
)
def test_models_that_contradict_themselves_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_model(tmp_path / "model.onnx", **changes)
    with pytest.raises(ModelFileError, match=re.escape(f"{path}: ") + ".*" + message):
        read_model_file(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    outside = definitions.ROOT_DIR / "detectime" / "detectors" / "models" / "palm_detection.onnx"
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(write_model(tmp_path / "whole.onnx").read_bytes()[:-20])
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    for path, message in {
        tmp_path / "absent.onnx": "there is no such file",
        tmp_path: "this is a folder",
        text: "onnxruntime cannot open it",
        cut: "onnxruntime cannot open it",
        outside: "detectime did not export this model",
    }.items():
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}") + ".*; give a model file that"):
            read_model_file(path)


# -- videos


class Clip(NamedTuple):
    """A video rendered from a run, and what a process without torch and PyAV made of it."""

    run: FinishedRun
    rendered: Path
    drawn: Path
    frames: pd.DataFrame
    by_landmarks: pd.DataFrame
    printed: str


RECOGNIZE = """
import sys

sys.modules["torch"] = sys.modules["torchvision"] = sys.modules["av"] = None
from pathlib import Path

from detectime.classifier.recognition import GestureRecognizer
from detectime.classifier.video import recognize_video, render_video
from detectime.runs import open_run

folder = Path(sys.argv[1])
run = open_run(sys.argv[2])
video = render_video(run, sys.argv[3:], folder / "clip.webm", fps=5)
assert video.frame_paths == tuple(sys.argv[3:]) and not video.notes
for kind in ("crops", "landmarks"):
    found = recognize_video(GestureRecognizer(folder / f"{kind}.onnx"), video.path, folder / f"{kind}.webm", run.config)
    assert not found.notes
    found.frames.to_parquet(folder / f"{kind}.parquet")
    print(found)
"""


@pytest.fixture(scope="module")
def clip(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("clip")
    for kind in ("crops", "landmarks"):
        write_model(folder / f"{kind}.onnx", kind)
    command = [sys.executable, "-c", RECOGNIZE, str(folder), str(sample_run), *FRAMES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nor does OpenCV complain
    tables = [pd.read_parquet(folder / f"{kind}.parquet") for kind in ("crops", "landmarks")]
    return Clip(open_run(sample_run), folder / "clip.webm", folder / "crops.webm", *tables, done.stdout)


def find_outcomes(run: FinishedRun) -> pd.DataFrame:
    return run.outcomes.set_index("frame_path").loc[FRAMES]


def test_a_rendered_video_shows_the_frames_of_the_run(clip: Clip) -> None:
    shown = read_video(clip.rendered)
    assert len(shown) == len(FRAMES)
    for frame, path in zip(shown, FRAMES, strict=True):
        assert np.abs(frame.astype(int) - read_image(SAMPLE / path)).mean() < 4
    with open_capture(clip.rendered) as capture:
        assert capture.get(cv2.CAP_PROP_FPS) == 5


def test_hands_of_a_video_are_those_of_the_run(clip: Clip) -> None:
    expected = find_outcomes(clip.run)
    assert {"paired", "no_hand"} == set(expected["outcome"])  # the frames have both
    assert clip.frames["frame"].tolist() == list(range(len(FRAMES)))
    assert clip.frames["outcome"].tolist() == expected["outcome"].tolist()
    assert clip.frames["predicted"].isna().tolist() == clip.frames["probability"].isna().tolist()
    is_sample = (expected["outcome"] == "paired").to_numpy()
    assert clip.frames["predicted"].notna().tolist() == is_sample.tolist()
    # Of `mute` too: its larger `bbox` could not be cut where the class is not known.
    assert compute_iou(clip.frames[HAND][is_sample], expected[HAND][is_sample]).min() > 0.85


def test_the_model_sees_the_crops_of_training(clip: Clip) -> None:
    seen = clip.frames[clip.frames["predicted"].notna()]
    frames = read_video(clip.rendered)
    crops = [
        cut_hand(frames[row.frame], np.array([getattr(row, name) for name in HAND]), SIDE) for row in seen.itertuples()
    ]
    expected = compute_probabilities([crop for crop in crops if crop is not None])
    assert len(expected) == len(seen)
    assert seen["predicted"].tolist() == [COLOURS[k] for k in expected.argmax(axis=1)]
    assert np.abs(seen["probability"] - expected.max(axis=1)).max() < 1e-4


def test_the_model_sees_the_landmarks_of_the_chosen_hand(clip: Clip) -> None:
    seen = clip.by_landmarks[clip.by_landmarks["predicted"].notna()]
    assert seen["frame"].tolist() == clip.frames.loc[clip.frames["predicted"].notna(), "frame"].tolist()
    middle = (seen["hand_x1"] + seen["hand_x2"]) / 2
    assert {"left", "right"} == set(seen["predicted"])
    assert seen["predicted"].tolist() == ["left" if x < 320 else "right" for x in middle]


def test_what_is_recognised_is_said(clip: Clip) -> None:
    first = clip.printed.splitlines()
    found = int(clip.frames["predicted"].notna().sum())
    assert any(line.startswith(f"{found} of {len(FRAMES)} frames have a gesture: ") for line in first)
    assert f"{len(FRAMES) - found} no_hand" in clip.printed


def test_each_frame_is_drawn_with_its_hand_or_the_reason(clip: Clip) -> None:
    colour = np.array([int(Outcome.PAIRED.colour[k : k + 2], 16) for k in (1, 3, 5)])
    before, after = read_video(clip.rendered), read_video(clip.drawn)
    for row, plain, drawn in zip(clip.frames.itertuples(), before, after, strict=True):
        changed = np.abs(drawn.astype(int) - plain).max(axis=2) > 40
        if row.outcome == "paired":
            x1, y1, x2, y2 = (round(getattr(row, name)) for name in HAND)
            edge = drawn[y1 + 1, x1 + 5 : x2 - 5].astype(int)
            assert np.abs(edge.mean(axis=0) - colour).max() < 60  # VP8 halves the resolution of colours
            assert edge[:, 1].mean() - edge[:, 0].mean() > 25
            assert drawn[y1 - 22 : y1 - 3, x1 + 2 : x1 + 60].max() > 200  # white on black
            assert (drawn[y1 - 22 : y1 - 3, x1 + 2 : x1 + 60].max(axis=2) < 60).mean() > 0.4
            assert not changed[y2 + 12 :].any()
        else:
            assert (drawn[-22:-3, 2:200].max(axis=2) < 60).mean() > 0.4
            assert drawn[-22:-3, 2:200].max() > 200
            assert not changed[:-40].any()


def test_frames_of_other_sizes_are_fitted_and_unreadable_ones_noted(sample_run: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    large = np.full((900, 1501, 3), (200, 30, 30), np.uint8)
    tall = np.full((800, 200, 3), (30, 200, 30), np.uint8)
    (frames / "large.png").write_bytes(encode_image(large))
    (frames / "tall.png").write_bytes(encode_image(tall))
    (frames / "broken.jpg").write_bytes(encode_image(draw_pattern(), "JPEG")[:-200])
    run = open_run(sample_run)
    run.__dict__["source"] = open_source(str(frames))
    video = render_video(run, ["gone.jpg", "large.png", "broken.jpg", "tall.png"], tmp_path / "clip.webm")
    assert video.frame_paths == ("large.png", "tall.png")
    (note,) = video.notes
    assert str(note).startswith("2 frames are left out: they cannot be read (the first: 'gone.jpg: ")
    first, second = read_video(video.path)
    assert first.shape == second.shape == (766, 1280, 3)  # of 767.5: even
    assert np.abs(first.astype(int) - (200, 30, 30)).max() < 12
    width = round(200 * 766 / 800)
    left = (1280 - width) // 2
    assert np.abs(second[10:-10, left + 4 : left + width - 4].astype(int) - (30, 200, 30)).max() < 12
    assert second[:, : left - 8].max() < 12
    assert second[:, left + width + 8 :].max() < 12


def interrupt(frame: RGB, writer: VideoWriter) -> RGB:
    writer.write(frame)
    raise KeyboardInterrupt


def test_a_video_is_written_whole_or_not_at_all(clip: Clip, tmp_path: Path) -> None:
    target = tmp_path / "clip.webm"
    target.write_bytes(b"earlier")
    with pytest.raises(VideoError, match=r"no frame of .* can be read \(the first: 'gone.jpg: .*; restore them"):
        render_video(clip.run, ["gone.jpg"], target)
    with pytest.raises(VideoError, match="no frame was named"):
        render_video(clip.run, [], target)
    with pytest.raises(KeyboardInterrupt), VideoWriter(target, 10) as writer:
        writer.write(interrupt(draw_pattern(), writer))
    assert target.read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webm"]
    with VideoWriter(target, 10) as writer:
        writer.write(draw_pattern())
    assert len(read_video(target)) == 1


def write_noise(path: Path) -> None:
    with VideoWriter(path, 10) as writer:
        for seed in range(14):
            writer.write(draw_noise(640, 480, seed))


def test_a_full_disk_is_noticed(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(
        VideoError, match=r"only \d+ of 14 frames were written; is the disk of .*small disk full\? Free"
    ):
        write_noise(tmp_path / "clip.webm")
    assert not (tmp_path / "clip.webm").exists()
    assert list(small_disk.iterdir()) == []


def test_names_and_rates_that_cannot_be_written_are_refused(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"clip.mp4: videos are written as .webm, which browsers play"):
        render_video(clip.run, FRAMES[:1], tmp_path / "clip.mp4")
    for fps in (0, -1, float("nan"), 1000):
        with pytest.raises(VideoError, match=r"fps = .*: accepted: more than 0, up to 120"):
            render_video(clip.run, FRAMES[:1], tmp_path / "clip.webm", fps)


def test_files_that_are_no_videos_are_refused(tmp_path: Path, fixed: Config) -> None:
    recognizer = GestureRecognizer(write_model(tmp_path / "model.onnx"))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path, message in {
        text: "OpenCV cannot read this as a video; convert it",
        tmp_path: "this is a folder; give a video",
        tmp_path / "gone.mp4": "there is no such file; give a video",
    }.items():
        with pytest.raises(VideoError, match=re.escape(f"{path}: {message}")):
            recognize_video(recognizer, path, tmp_path / "to.webm", fixed)
    video = write_video(tmp_path / "clip.webm", [draw_pattern()], "VP80")
    before = video.read_bytes()
    with pytest.raises(VideoError, match="this is the video itself; write to another file"):
        recognize_video(recognizer, video, video, fixed)
    assert video.read_bytes() == before


def recognize(folder: Path, video: Path, config: Config, kind: str = "crops") -> RecognizedVideo:
    recognizer = GestureRecognizer(write_model(folder / f"{kind}.onnx", kind))
    return recognize_video(recognizer, video, folder / "drawn.webm", config)


def test_each_outcome_of_a_frame_is_drawn_in_a_large_video(tmp_path: Path, fixed: Config) -> None:
    red = np.full((720, 1280, 3), (200, 60, 60), np.uint8)
    frames = [red, np.zeros_like(red), np.full_like(red, 255), red]
    found = recognize(tmp_path, write_video(tmp_path / "clip.mp4", frames), fixed)
    assert found.frames["outcome"].tolist() == ["paired", "no_face", "failed", "paired"]
    assert found.frames.loc[2, "error"] == "RuntimeError: it is\nwhite"
    assert found.frames.loc[0, HAND].tolist() == [640, 180, 960, 360]
    assert found.frames["predicted"].tolist() == ["red", None, None, "red"]
    drawn = read_video(found.path)
    assert drawn[0].shape == (360, 640, 3)
    colour = [int(Outcome.PAIRED.colour[k : k + 2], 16) for k in (1, 3, 5)]
    assert np.abs(drawn[0][91, 330:470].mean(axis=0) - colour).max() < 40  # the box is scaled as the frame is
    for frame in drawn[1:3]:
        assert frame[-22:-3, 2:200].max() > 200
    assert str(found) == "2 of 4 frames have a gesture: 2 red, 1 no_face, 1 failed"


def test_a_hand_without_landmarks_is_not_recognised(tmp_path: Path, fixed: Config) -> None:
    video = write_video(
        tmp_path / "clip.mp4", [np.full((480, 640, 3), 90, np.uint8)] * 20
    )  # more than are held at once
    found = recognize(tmp_path, video, fixed, "landmarks")
    assert found.frames["outcome"].tolist() == ["paired"] * 20
    assert found.frames["predicted"].isna().all()
    assert found.frames["frame"].tolist() == list(range(20))
    assert str(found) == "0 of 20 frames have a gesture: 20 paired"


def test_a_video_on_its_side_is_turned_as_its_run_turned_frames(tmp_path: Path, fixed: Config) -> None:
    frame = np.full((480, 640, 3), 90, np.uint8)
    video = write_video(tmp_path / "clip.mp4", [frame] * 2)
    content = bytearray(video.read_bytes())
    start = content.index(b"tkhd") + 44  # the display matrix, here a quarter turn
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 480 << 16, 0, 1 << 30)
    video.write_bytes(content)
    upright = recognize(tmp_path, video, fixed)
    assert upright.frames.loc[0, HAND].tolist() == [240, 160, 360, 320]
    assert read_video(upright.path)[0].shape == (640, 480, 3)
    names = {"detector_type": "fixed_boxes:build_faces", "hand_detector": "fixed_boxes:build", "exif": "ignore"}
    stored = recognize(tmp_path, video, load_config(parameters=names))
    assert stored.frames.loc[0, HAND].tolist() == [320, 120, 480, 240]


def test_frames_that_a_video_has_lost_are_noted(tmp_path: Path, fixed: Config) -> None:
    frames = [draw_noise(320, 240, seed) for seed in range(30)]
    video = write_video(tmp_path / "clip.webm", frames, "VP80")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    found = recognize(tmp_path, video, fixed)
    assert 5 < len(found.frames) < 25
    (note,) = found.notes
    assert str(note) == f"The video has 30 frames by its header; {len(found.frames)} could be decoded."


def test_an_impossible_rate_is_replaced(tmp_path: Path, fixed: Config) -> None:
    video = write_video(tmp_path / "clip.mp4", [np.full((240, 320, 3), 90, np.uint8)] * 3, fps=1000)
    with open_capture(recognize(tmp_path, video, fixed).path) as capture:
        assert capture.get(cv2.CAP_PROP_FPS) == 25


def test_a_video_of_variable_rate_keeps_its_length(tmp_path: Path, fixed: Config) -> None:
    video = write_video(tmp_path / "clip.webm", [np.full((240, 320, 3), 90, np.uint8)] * 6, "VP80", 30)
    content = video.read_bytes()
    for before, after in zip((33, 67, 100, 133, 167), (70, 500, 660, 1450, 2100), strict=True):  # ms
        parts = content.split(b"\x81" + before.to_bytes(2, "big"))  # of the first track
        assert len(parts) == 2
        content = (b"\x81" + after.to_bytes(2, "big")).join(parts)
    start = content.index(b"\x44\x89\x88") + 3  # its length
    video.write_bytes(content[:start] + struct.pack(">d", 2133) + content[start + 8 :])
    with open_capture(video) as capture:
        assert capture.get(cv2.CAP_PROP_FPS) == 30
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 64
    found = recognize(tmp_path, video, fixed)
    assert (len(found.frames), found.notes) == (6, ())
    with open_capture(found.path) as capture:
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5 / 2.1, rel=0.01)


def test_faces_of_a_cache_are_detected_in_a_video(sample_run: Path, tmp_path: Path) -> None:
    run = open_run(sample_run)
    config, notes = choose_config(run)
    assert (config, notes) == (run.config, [])
    cached = {"detector_type": "face_cache", "face_cache": str(sample_run), "face_cache_pixels": "upright"}
    run.config = dataclasses.replace(config, detection=dataclasses.replace(config.detection, **cached))
    run.manifest["pairing"]["settings"]["crop_coefficient"] = 1.75
    config, (note,) = choose_config(run)
    assert config.pairing.crop_coefficient == 1.75
    assert str(note) == "A video has no faces in the cache of this run: retinaface detects them."
    video = write_video(tmp_path / "clip.mp4", [read_image(SAMPLE / FRAMES[0])])
    assert recognize(tmp_path, video, config).frames["outcome"].tolist() == ["paired"]


def test_a_face_cache_is_refused(tmp_path: Path) -> None:
    config = load_config(parameters={"detector_type": "face_cache", "face_cache": str(tmp_path / "faces.json")})
    video = write_video(tmp_path / "clip.mp4", [draw_pattern()])
    with pytest.raises(
        VideoError, match="takes faces from a cache, which has those of no video; give one with another"
    ):
        recognize(tmp_path, video, config)


# -- in a notebook


def test_a_notebook_holds_a_small_video_and_one_frame_of_a_large_one(clip: Clip) -> None:
    small = show_video(clip.drawn).data
    (encoded,) = re.findall(
        r'<video src="data:video/webm;base64,([^"]+)" poster="data:image/jpeg;base64,[^"]+" controls', small
    )
    assert base64.b64decode(encoded) == clip.drawn.read_bytes()
    assert "crops.webm: 1.6 s" in small
    large = show_video(clip.drawn, most_bytes=1000).data
    assert "<video" not in large
    assert re.search(
        r"crops.webm: 0.\d MB are too many for a notebook; this is one frame. Open it in a browser.", large
    )
    (encoded,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', large)
    still = cv2.cvtColor(cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), 1), cv2.COLOR_BGR2RGB)
    middle = read_video(clip.drawn)[len(FRAMES) // 2]
    assert np.abs(still.astype(int) - middle).mean() < 4


def test_names_of_files_are_text(clip: Clip, tmp_path: Path) -> None:
    path = shutil.copy(clip.drawn, tmp_path / "<b>clip.webm")
    for most in (10**9, 1):
        assert "<b>" not in show_video(path, most).data


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with launch_chrome() as found:
        yield found


@pytest.mark.browser
@pytest.mark.extra
def test_a_browser_plays_the_video(clip: Clip, tmp_path: Path, chrome: Any) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>Video</title>{show_video(clip.drawn).data}")
    play = """async () => {
        const video = document.querySelector("video");
        const wait = name => new Promise(resolve => video.addEventListener(name, resolve, {once: true}));
        const ended = wait("ended");
        video.loop = false;
        await video.play();
        await ended;
        const sought = wait("seeked");
        video.currentTime = 0.5;
        await sought;
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
        canvas.getContext("2d").drawImage(video, 0, 0);
        return [video.duration, canvas.toDataURL()];
    }"""
    with open_page(chrome, page) as opened:
        duration, picture = opened.page.evaluate(play)
    assert duration == pytest.approx(len(FRAMES) / 5, abs=0.01)
    content = np.frombuffer(base64.b64decode(picture.partition(",")[2]), np.uint8)
    shown = cv2.cvtColor(cv2.imdecode(content, 1), cv2.COLOR_BGR2RGB)
    assert np.abs(shown.astype(int) - read_video(clip.drawn)[2]).mean() < 5
