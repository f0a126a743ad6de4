"""Crops of samples, read again from their frames."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import encode_image, read_image
from finished_runs import make_run
from PIL import Image

from detectime import pairing
from detectime.boxes import round_outward
from detectime.crops import read_crops
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES

ONE, TWO, THREE = "mute_01/0001.jpg", "ok_01/0001.jpg", "ok_01/0002.jpg"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("crops")
    for name in ("mute_01", "ok_01"):
        shutil.copytree(SAMPLE / "TRAIN_DATA" / name, folder / "images" / name)
    return make_run(folder / "run", images=str(folder / "images"), classes="mute,ok")


@pytest.fixture
def samples(run: FinishedRun) -> pd.DataFrame:
    rows = run.outcomes
    return rows[rows["outcome"].isin(SAMPLES) & rows["frame_path"].isin([ONE, TWO, THREE])]


def test_crops_are_the_pixels_inside_the_bbox(run: FinishedRun, samples: pd.DataFrame) -> None:
    backwards = samples[::-1]
    assert backwards["frame_path"].tolist() == [THREE, TWO, ONE]
    crops = list(read_crops(run, backwards))
    boxes = round_outward(pairing.get_boxes(backwards, "bbox"))
    for path, crop, (x1, y1, x2, y2) in zip(backwards["frame_path"], crops, boxes.astype(int), strict=True):
        frame = read_image(Path(run.config.data.images, path))
        np.testing.assert_array_equal(crop, frame[y1:y2, x1:x2])


def test_frames_are_read_one_by_one(run: FinishedRun, samples: pd.DataFrame) -> None:
    crops = read_crops(run, samples.assign(frame_path=[ONE, "gone/1.jpg", THREE]))
    assert next(crops) is not None
    assert next(crops) is None
    assert next(crops) is not None
    assert list(crops) == []


def test_a_box_outside_the_frame_has_no_crop(run: FinishedRun, samples: pd.DataFrame) -> None:
    outside = samples.assign(bbox_x1=-40.0, bbox_x2=-5.0)
    assert list(read_crops(run, outside)) == [None] * 3
    partly = samples.assign(bbox_x1=-5.0, bbox_y1=-5.0, bbox_x2=9.5, bbox_y2=20.0)
    assert [crop.shape for crop in read_crops(run, partly) if crop is not None] == [(20, 10, 3)] * 3


@pytest.mark.parametrize("content", [b"no image", encode_image(Image.new("RGB", (64, 48)))], ids=["damaged", "smaller"])
def test_a_frame_that_changed_has_no_crop(content: bytes, run: FinishedRun, samples: pd.DataFrame) -> None:
    path = Path(run.config.data.images, TWO)
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        assert [crop is None for crop in read_crops(run, samples)] == [False, True, False]
    finally:
        path.write_bytes(before)


def test_a_frame_of_unknown_size_has_a_crop(run: FinishedRun, samples: pd.DataFrame) -> None:
    unknown = samples.assign(width=np.nan, height=np.nan)
    for crop, known in zip(read_crops(run, unknown), read_crops(run, samples), strict=True):
        np.testing.assert_array_equal(crop, known)
    assert None not in [crop if crop is None else crop.shape for crop in read_crops(run, unknown)]


def test_faces_are_blurred_in_the_crop_alone(run: FinishedRun, samples: pd.DataFrame) -> None:
    face = pairing.get_boxes(samples, "face")
    around = samples.assign(**{f"bbox_{name}": face[:, n] for n, name in enumerate(("x1", "y1", "x2", "y2"))})
    for plain, blurred in zip(read_crops(run, around), read_crops(run, around, blur_faces=True), strict=True):
        assert plain is not None
        assert blurred is not None
        assert plain.shape == blurred.shape
        assert np.abs(plain.astype(int) - blurred).mean() > 3
    away = samples.assign(bbox_x1=0.0, bbox_y1=0.0, bbox_x2=20.0, bbox_y2=20.0)
    for plain, blurred in zip(read_crops(run, away), read_crops(run, away, blur_faces=True), strict=True):
        np.testing.assert_array_equal(plain, blurred)
