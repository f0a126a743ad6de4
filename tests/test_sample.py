"""The rendered sample: layout, labels and truth."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from conftest import read_image

import definitions
from detectime import paths

SAMPLE = paths.SAMPLE
TABLE = pd.read_csv(SAMPLE / "train.csv")
TRUTH = json.loads((SAMPLE / "truth.json").read_text())


def test_the_layout_is_that_of_the_contest() -> None:
    videos = TABLE.groupby("class_name")["video_name"].nunique()
    assert videos.to_dict() == dict.fromkeys(["no_gesture", "stop", "victory", "mute", "ok", "like", "dislike"], 2)
    assert 100 <= len(TABLE) <= 140
    on_disk = {str(path.relative_to(SAMPLE / "TRAIN_DATA")) for path in (SAMPLE / "TRAIN_DATA").rglob("*.jpg")}
    assert set(TABLE["frame_path"]) == on_disk == set(TRUTH)
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) <= 6_000_000


def test_boxes_are_inside_the_frames() -> None:
    for frame_path, truth in TRUTH.items():
        assert read_image(SAMPLE / "TRAIN_DATA" / frame_path).shape == (480, 640, 3)
        assert len(truth["faces"]) == 1
        for x1, y1, x2, y2 in truth["faces"] + truth["hands"]:
            assert 0 <= x1 < x2 <= 640
            assert 0 <= y1 < y2 <= 480
    gestures = TABLE.loc[TABLE["class_name"] != "no_gesture", "frame_path"]
    assert all(len(TRUTH[frame_path]["hands"]) == 1 for frame_path in gestures)


@pytest.mark.parametrize("name", ["tools/render_sample/__main__.py", "tools/convert_weights.py"])
def test_tools_are_part_of_the_project(name: str) -> None:
    assert (definitions.ROOT_DIR / name).is_file()
