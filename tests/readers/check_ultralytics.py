"""YOLO as Ultralytics reads it: ``.ci/nightly`` runs this file in ``.venv-readers``.

Ultralytics is under the AGPL and brings opencv-python: it is no extra, and nothing of ours imports it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": tempfile.mkdtemp()}  # read by the import

import numpy as np
import pytest
from export_data import Shown, make_data, place_pictures
from PIL import Image
from ultralytics import YOLO, settings
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset

from detectime.exports import yolo
from detectime.exports.contract import ExportData
from detectime.schema import CORNERS
from detectime.storage.store import open_store

NAMES = ("ok", "- item: <b>", 'say "hi"', "never shown")
SIZE = (333, 217)


@pytest.fixture(params=[("",), ("train", "val"), ("train", "test")], ids="-".join)
def export(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, ExportData]:
    """Write an export with grey pictures; some have several boxes, or none."""
    ends = np.sort(np.random.default_rng(3).random((12, 2, 2)), axis=1) * SIZE
    shown = [Shown(NAMES[number % 3], tuple(box)) for number, box in enumerate(ends.reshape(-1, 4).tolist())]
    pictures = [*([one] for one in shown[:6]), shown[6:], [], [Shown("ok", (0.0, 0.0, *map(float, SIZE)))]]
    data = make_data(pictures, NAMES, splits=request.param, kept="frames", size=SIZE)
    folder = tmp_path / "export"
    placed = place_pictures(data, yolo.FORMAT)
    for file in placed.images["file"]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, "grey").save(folder / file)
    yolo.FORMAT.write(placed, open_store(folder))
    return folder, placed


def read_labels(described: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """Read the labels of a part as training does."""
    labels: list[dict[str, Any]] = YOLODataset(img_path=described[part], data=described, augment=False).labels
    return labels


def test_labels_are_read_as_they_were_exported(
    export: tuple[Path, ExportData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, data = export
    monkeypatch.chdir(tmp_path)  # the folder of data.yaml counts, not the current one
    described = check_det_dataset(str(folder / yolo.FILE_NAME), autodownload=False)
    assert described["names"] == dict(enumerate(NAMES))
    parts = {"": "train", "val": "val", "train": "train", "test": "test"}
    for split in data.splits:
        images = data.images[data.images["split"] == split]
        labels = {Path(label["im_file"]).stem: label for label in read_labels(described, parts[split])}
        assert set(labels) == set(images["name"])
        for row, name in zip(images.index, images["name"], strict=True):
            check_boxes(data.objects[data.objects["image"] == row], labels[name])
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def check_boxes(expected: Any, label: dict[str, Any]) -> None:
    """Compare the boxes of a picture with what was exported."""
    assert sorted(label["cls"].ravel().astype(int).tolist()) == sorted(expected["index"].tolist())
    centres, sizes = label["bboxes"][:, :2] * SIZE, label["bboxes"][:, 2:] * SIZE
    corners = np.hstack([centres - sizes / 2, centres + sizes / 2])
    wanted = expected[list(CORNERS)].to_numpy()
    assert corners[np.lexsort(corners.T)] == pytest.approx(wanted[np.lexsort(wanted.T)], abs=0.01)


def test_moved_and_trained(export: tuple[Path, ExportData], tmp_path: Path) -> None:
    folder = shutil.move(export[0], tmp_path / "moved")
    settings.update({"runs_dir": str(tmp_path / "runs")})
    model = YOLO("yolo11n.yaml")  # untrained: nothing is downloaded
    model.train(
        data=str(folder / yolo.FILE_NAME),
        **{"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "plots": False},
        project=str(tmp_path / "runs"),
    )
    assert list((tmp_path / "runs").rglob("last.pt"))
