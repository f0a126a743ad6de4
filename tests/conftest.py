"""What several test files share."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from detectime import images
from detectime.config import DetectionConfig
from detectime.detection.worker import Worker
from detectime.detectors.hagrid import WEIGHTS
from detectime.detectors.registry import choose_detectors
from detectime.schema import DETECTIONS
from detectime.storage import downloads

LABELS = {"no_gesture": 0, "stop": 1, "victory": 2, "mute": 3, "ok": 4, "like": 5, "dislike": 6}
SHARED = Path(__file__).parents[2] / "shared"

OWN_FOLDERS = {
    "video/1.jpg other/2.jpg": "video/1.jpg other/2.jpg",
    "train_data7/video/1.jpg train_data7/other/2.jpg train_data7/read.me": "video/1.jpg other/2.jpg read.me",
    "train_data/video/1.jpg": "video/1.jpg",
    "train_data7/video/1.jpg __MACOSX/train_data7/._video": "video/1.jpg",
    "train_data7/1.jpg": "train_data7/1.jpg",  # a video of that name
    "train_data8/video/1.jpg": "train_data8/video/1.jpg",
    "train_data7/video/1.jpg other/2.jpg": "train_data7/video/1.jpg other/2.jpg",
}
"""Members of an archive ``train_data7``, and what they are called once it is unpacked, or read where it lies."""

Box = tuple[float, float, float, float]

PER_HAND = ("landmarks", "presence", "handedness", "proposal", "crop_hash")
"""Columns of the detections table with one element per hand."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def worker() -> Worker:
    """Give a worker with the default detectors."""
    return make_worker()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Find the folder of real frames, which is no part of the project."""
    if not SHARED.is_dir():
        pytest.skip("there is no folder of real frames beside the project")
    return SHARED


@pytest.fixture
def hagrid_weights(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the weights of `hagrid` found, which the package does not bring."""
    for folder in (SHARED / "weights", *downloads.list_weights_folders()):
        if (folder / WEIGHTS.name).is_file():
            monkeypatch.setenv("DETECTIME_WEIGHTS", str(folder))
            return folder / WEIGHTS.name
    pytest.skip(f"{WEIGHTS.name} is neither in {SHARED / 'weights'} nor where detectime looks for it")


def make_worker(**parameters: Any) -> Worker:
    """Build a worker here, with the detectors that these keys of `detection` choose."""
    return Worker(choose_detectors(DetectionConfig(**parameters)))


def read_image(path: Path) -> images.RGB:
    """Decode a file."""
    return images.decode_image(path.read_bytes())


def encode(picture: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """Make an image file's bytes."""
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind, **options)
    return stream.getvalue()


def pattern(width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Draw a smooth picture without any symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, x + 2 * y], axis=-1).astype(np.uint8)


def make_frame_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a frame table as `labels.frame_table.select_frames` gives it; a row needs no more than its `frame_path`."""
    default = {"video_name": "video", "frame_id": 0, "class_name": "ok", "on_disk": True, "wanted": True}
    table = pd.DataFrame([default | row for row in rows])
    table["label"] = table["class_name"].map(LABELS).astype("int64")
    return table


def detected(box: Box, detector: str = "test", stage: str = "frame", score: float = 0.75) -> dict[str, Any]:
    """Make a detection of a row."""
    corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
    return {**corners, "score": score, "detector": detector, "stage": stage}


def looked_at(
    frame_path: str,
    faces: Iterable[Box] = (),
    hands: Iterable[Box | dict[str, Any]] = (),
    size: tuple[int, int] = (640, 480),
    outcome: str = "ok",
) -> dict[str, Any]:
    """Make a row of the detections table; a hand is a box, or made by `detected`."""
    ok = outcome == "ok"
    found = [hand if isinstance(hand, dict) else detected(hand) for hand in hands]
    return {
        "frame_path": frame_path,
        "outcome": outcome,
        "error": None if ok else "a reason",
        "width": size[0] if ok else None,
        "height": size[1] if ok else None,
        "faces": [detected(box) for box in faces],
        "hands": found,
        **{column: [None] * len(found) for column in PER_HAND},
    }


def detections(*rows: Mapping[str, Any]) -> pa.Table:
    """Make a detections table of rows by `looked_at`."""
    return pa.Table.from_pylist(list(rows), schema=DETECTIONS)
