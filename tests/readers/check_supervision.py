"""COCO, YOLO and Pascal VOC as supervision reads them: ``make test-all`` runs this file in ``.venv-readers``.

supervision brings opencv-python, which overwrites the headless one: so it is installed without what it depends on, in
an environment that borrows the rest from ``.venv-all``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
from export_data import Shown, make_data, place_pictures
from PIL import Image

from detectime.exports import coco, voc, yolo
from detectime.exports.contract import ExportData, Format
from detectime.schema import CORNERS
from detectime.storage.store import open_store

NAMES = ("ok", "👌 שלום", 'say "hi"', "- item: <b>&amp;</b>", " 007 ", "never shown")
SIZE = (333, 217)


@pytest.fixture(params=[("",), ("train", "val")], ids=["unsplit", "split"])
def data(request: pytest.FixtureRequest) -> ExportData:
    """Return boxes of all classes but one, at the edges too, a picture with several and one without."""
    rng = np.random.default_rng(3)
    ends = np.sort(rng.random((18, 2, 2)), axis=1) * SIZE
    shown = [Shown(NAMES[number % 5], tuple(box)) for number, box in enumerate(ends.reshape(-1, 4).tolist())]
    edges = [Shown("ok", (0.0, 0.0, *map(float, SIZE))), Shown("ok", (332.5, 216.25, 333.0, 217.0))]
    pictures = [*([one] for one in shown[:9]), shown[9:], [], edges]
    return make_data(pictures, NAMES, splits=request.param, kept="frames", size=SIZE)


def write(data: ExportData, kind: Format, folder: Path) -> ExportData:
    """Write an export with grey pictures."""
    placed = place_pictures(data, kind)
    for file in placed.images["file"]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, "grey").save(folder / file)
    kind.write(placed, open_store(folder))
    return placed


def check_boxes(data: ExportData, split: str, read: supervision.DetectionDataset, slack: float) -> None:
    """Compare classes and boxes with what was exported."""
    images = data.images[data.images["split"] == split]
    assert {Path(path).name for path in read.image_paths} == {Path(file).name for file in images["file"]}
    for path in read.image_paths:
        row = images.index[images["file"].map(lambda file, path=path: Path(file).name == Path(path).name)][0]
        expected = data.objects[data.objects["image"] == row]
        found = read.annotations[path]
        names: list[Any] = [read.classes[index] for index in found.class_id] if len(found) else []
        order = np.lexsort(found.xyxy.T)
        wanted = np.lexsort(expected[list(CORNERS)].to_numpy().T)
        assert [names[index] for index in order] == expected["class_name"].iloc[wanted].tolist()
        corners = expected[list(CORNERS)].to_numpy()[wanted]
        assert found.xyxy[order] == pytest.approx(corners, abs=slack)


def test_coco(data: ExportData, tmp_path: Path) -> None:
    placed = write(data, coco.FORMAT, tmp_path)
    for split in data.splits:
        read = supervision.DetectionDataset.from_coco(
            images_directory_path=str(tmp_path / "images" / split),
            annotations_path=str(tmp_path / coco.name_file(split)),
        )
        assert tuple(read.classes) == NAMES
        check_boxes(placed, split, read, 0.01)


def test_yolo(data: ExportData, tmp_path: Path) -> None:
    placed = write(data, yolo.FORMAT, tmp_path)
    for split in data.splits:
        read = supervision.DetectionDataset.from_yolo(
            images_directory_path=str(tmp_path / "images" / split),
            annotations_directory_path=str(tmp_path / "labels" / split),
            data_yaml_path=str(tmp_path / yolo.FILE_NAME),
        )
        assert tuple(read.classes) == NAMES
        check_boxes(placed, split, read, 0.01)


def test_voc(data: ExportData, tmp_path: Path) -> None:
    placed = write(data, voc.FORMAT, tmp_path)
    read = supervision.DetectionDataset.from_pascal_voc(
        images_directory_path=str(tmp_path / "JPEGImages"), annotations_directory_path=str(tmp_path / "Annotations")
    )
    assert set(read.classes) == set(NAMES[:5])
    whole = placed.images.assign(split="")
    check_boxes(ExportData(whole, placed.objects, placed.classes, placed.numbers), "", read, 1)
