"""COCO, YOLO, Pascal VOC, HaGRID's JSON and the csv, each by a reader that is not ours, or by our own of HaGRID."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import math
import os
import tempfile
import tracemalloc
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from export_data import (
    CLASS_NAMES,
    DEFAULT,
    ODD_NAMES,
    Shown,
    draw_data,
    make_data,
    make_many,
    place_pictures,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from skips import need_extra

from detectime.exports import coco, hagrid_json, many_files, samples_csv, voc, yolo
from detectime.exports.contract import ExportData, ExportError, Format
from detectime.labels.hagrid import read_annotations
from detectime.labels.tables import TableError
from detectime.schema import CORNERS, TRUTH, TRUTH_SIZE
from detectime.sources.listing import Listing
from detectime.storage.store import StoreError, open_store

MODULES = (coco, hagrid_json, samples_csv, voc, yolo)
FORMATS: list[Format] = [module.FORMAT for module in MODULES]
SPLITS = ("train", "val", "test")
SLACK = 0.01  # pixels by which a box may change

each_format = pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)


def write(data: ExportData, kind: Format, folder: str | Path) -> ExportData:
    """Write an export; return what was exported, with the paths of the pictures."""
    placed = place_pictures(data, kind)
    kind.write(placed, open_store(folder))
    return placed


def list_files(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def iterate_objects(data: ExportData) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each picture with its objects."""
    objects = data.objects.to_dict("records")
    for number, image in enumerate(data.images.to_dict("records")):
        yield image, [row for row in objects if row["image"] == number]


def get_corners(row: dict[str, Any]) -> list[float]:
    return [row[name] for name in CORNERS]


def without_faults(kind: Format) -> st.SearchStrategy[str]:
    return CLASS_NAMES.filter(lambda name: kind.find_fault(name) is None)


# -- all formats


@each_format
@pytest.mark.parametrize("splits", [("",), SPLITS], ids=["unsplit", "split"])
def test_the_same_data_give_the_same_files_also_the_second_time(
    kind: Format, splits: tuple[str, ...], tmp_path: Path
) -> None:
    data = make_data(DEFAULT, ("ok", "peace", "like"), splits=splits, kept="frames")
    write(data, kind, tmp_path / "a")
    first = list_files(tmp_path / "a")
    assert first
    write(data, kind, tmp_path / "a")
    write(data, kind, tmp_path / "b")
    assert list_files(tmp_path / "a") == list_files(tmp_path / "b") == first


@each_format
@pytest.mark.parametrize("kept", ["frames", "none"])
def test_every_part_and_class_may_be_empty(kind: Format, kept: str, tmp_path: Path) -> None:
    write(make_data([], ("ok", "peace"), splits=SPLITS, kept=kept), kind, tmp_path)
    assert all(content is not None for content in list_files(tmp_path).values())
    assert list_files(tmp_path)


@each_format
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_files_stay_in_the_folder_and_have_no_odd_names(kind: Format, drawn: st.DataObject) -> None:
    data = drawn.draw(draw_data(class_names=without_faults(kind), kept=("frames",)))
    with tempfile.TemporaryDirectory() as parent:
        placed = write(data, kind, f"{parent}/export")
        names = {path.name for path in Path(parent).iterdir()}
        pictures = [Path(parent, "export", file).resolve() for file in placed.images["file"]]
        assert names == {"export"}
        assert all(Path(parent, "export").resolve() in picture.parents for picture in pictures)
        assert len({str(picture).casefold() for picture in pictures}) == len(data.images)


@pytest.mark.parametrize("kind", [coco.FORMAT, hagrid_json.FORMAT, voc.FORMAT, yolo.FORMAT], ids=lambda kind: kind.name)
def test_a_reader_that_opens_files_in_ascii_reads_every_name(kind: Format, tmp_path: Path) -> None:
    data = make_data(
        [[Shown("👌 שלום", (1, 2, 3, 4))]], ["👌 שלום"], kept="frames", video_name=["é"], frame_path=["ü.jpg"]
    )
    write(data, kind, tmp_path)
    assert all(content.isascii() for content in list_files(tmp_path).values())


def measure_peak(chunks: Iterator[bytes]) -> int:
    """Return the most memory that is in use while chunks are made, in bytes."""
    tracemalloc.start()
    try:
        for _ in chunks:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.large
@pytest.mark.parametrize(
    "encode",
    [
        lambda data: coco.encode_instances(data, ""),
        lambda data: hagrid_json.encode_records(data, np.arange(len(data.images))),
    ],
    ids=["coco", "hagrid"],
)
def test_memory_does_not_grow_with_the_number_of_pictures(encode: Callable[[ExportData], Iterator[bytes]]) -> None:
    few, many = (measure_peak(encode(make_many(count, splits=("",)))) for count in (10_000, 40_000))
    assert many < 1.3 * few


# -- COCO


def load_coco(folder: str | Path, split: str) -> COCO:
    return COCO(f"{folder}/{coco.name_file(split)}")


@given(draw_data())
@settings(max_examples=60, deadline=None)
def test_pycocotools_reads_the_same_boxes_and_names(data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        placed = write(data, coco.FORMAT, folder)
        sets = {split: load_coco(folder, split) for split in data.splits}
    numbers: list[int] = []
    for row, (image, objects) in enumerate(iterate_objects(placed)):
        read = sets[image["split"]]
        found = read.loadImgs(row + 1)[0]
        assert (found["width"], found["height"]) == (image["width"], image["height"])
        assert (found["frame_path"], found["video_name"]) == (image["frame_path"], image["video_name"])
        folder_name = f"images/{image['split']}/".replace("//", "/") if data.pictures == "frames" else ""
        assert folder_name + found["file_name"] == image["file"]
        annotations = read.loadAnns(read.getAnnIds(imgIds=[row + 1]))
        numbers += [annotation["id"] for annotation in annotations]
        for annotation, shown in zip(annotations, objects, strict=True):
            x, y, width, height = annotation["bbox"]
            assert [x, y, x + width, y + height] == pytest.approx(get_corners(shown), abs=SLACK)
            assert annotation["area"] == pytest.approx(width * height)
            assert read.loadCats(annotation["category_id"])[0]["name"] == shown["class_name"]
    assert len(set(numbers)) == len(data.objects)
    assert sum(len(read.getImgIds()) for read in sets.values()) == len(data.images)
    for read in sets.values():
        assert [category["name"] for category in read.loadCats(read.getCatIds())] == list(data.classes)


def test_coco_counts_from_one_and_keeps_scores_apart(tmp_path: Path) -> None:
    write(make_data(), coco.FORMAT, tmp_path)
    made = json.loads((tmp_path / "annotations/instances.json").read_bytes())
    assert [category["id"] for category in made["categories"]] == [1, 2]
    assert [image["id"] for image in made["images"]] == [1, 2, 3]
    assert made["annotations"][0]["bbox"] == [10.25, 20.5, 99.875, 199.5625]
    assert [annotation["attributes"]["score"] for annotation in made["annotations"]] == [0.75, 0.75, None]
    assert all("score" not in annotation and annotation["iscrowd"] == 0 for annotation in made["annotations"])


def test_pycocotools_scores_the_exported_boxes_as_perfect(tmp_path: Path) -> None:
    from pycocotools.cocoeval import COCOeval

    write(make_data(), coco.FORMAT, tmp_path)
    truth = load_coco(tmp_path, "")
    found = truth.loadRes([{**annotation, "score": 0.9} for annotation in truth.dataset["annotations"]])
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


# -- YOLO


def read_yolo(folder: str | Path, image: dict[str, Any]) -> list[tuple[int, list[Decimal]]]:
    """Read the label file of a picture; returns classes, and corners as fractions."""
    path = Path(folder, "labels", image["split"], f"{image['name']}.txt")
    found = []
    for line in path.read_text(encoding="ascii").splitlines():
        index, *values = line.split(" ")
        x, y, width, height = map(Decimal, values)
        assert all(0 <= value <= 1 for value in (x, y, width, height))
        found.append((int(index), [x - width / 2, y - height / 2, x + width / 2, y + height / 2]))
    return found


@given(draw_data())
@settings(max_examples=100, deadline=None)
def test_yolo_labels_have_the_same_boxes_inside_the_picture(data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(data, yolo.FORMAT, folder)
        described = yaml.safe_load(Path(folder, "data.yaml").read_text(encoding="ascii"))
        for image, objects in iterate_objects(data):
            for (index, corners), shown in zip(read_yolo(folder, image), objects, strict=True):
                sizes = [image["width"], image["height"]] * 2
                assert all(0 <= corner <= 1 for corner in corners)
                assert min(corners[2] - corners[0], corners[3] - corners[1]) > 0
                pixels = [float(corner) * size for corner, size in zip(corners, sizes, strict=True)]
                assert pixels == pytest.approx(get_corners(shown), abs=SLACK)
                assert described["names"][index] == shown["class_name"]
    assert list(described["names"].items()) == list(enumerate(data.classes))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 65535))
def test_yolo_corners_stay_inside_in_floats_too(start: float, end: float, side: int) -> None:
    start, end = sorted((start * side, end * side))
    data = make_data([[Shown("ok", (start, 0, end, side))]], ["ok"], size=(side, side))
    x, y, width, height = map(float, "".join(yolo.encode_labels(data)).split()[1:])
    for centre, length in ((x, width), (y, height)):
        assert centre - length / 2 >= 0
        assert centre + length / 2 <= 1


ONE = (Shown("ok", (1, 2, 30, 40)),)


@pytest.mark.parametrize(
    ("splits", "used", "expected"),
    [
        (SPLITS, SPLITS, {"train": "images/train", "val": "images/val", "test": "images/test"}),
        (("train", "val"), ("train", "val"), {"train": "images/train", "val": "images/val"}),
        (("train", "test"), ("train", "test"), {"train": "images/train", "val": "images/train", "test": "images/test"}),
        (SPLITS, ("train", "test"), {"train": "images/train", "val": "images/train", "test": "images/test"}),
        (("",), ("",), {"train": "images", "val": "images"}),
        (("a", "b"), ("a", "b"), {"train": ["images/a", "images/b"], "val": ["images/a", "images/b"]}),
        (("a", "val"), ("a", "val"), {"train": "images/a", "val": "images/val"}),
        (("train", "val", "x"), ("train", "val", "x"), {"train": "images/train", "val": "images/val"}),
        (SPLITS, (), {"train": "images/train", "val": "images/train"}),
    ],
)
def test_data_yaml_names_the_folders_that_have_pictures(
    splits: tuple[str, ...], used: tuple[str, ...], expected: dict[str, Any]
) -> None:
    data = make_data([ONE] * len(used), ["ok"], splits=splits, kept="frames", split=used)
    text = yolo.encode_data_yaml(data)
    folders = yaml.safe_load(text)
    assert {name: folders[name] for name in folders if name != "names"} == expected
    assert ("val is train again" in text) == (expected["val"] == expected["train"])


def test_data_yaml_says_where_pictures_belong_and_which_part_is_not_used() -> None:
    assert "There are no pictures" in yolo.encode_data_yaml(make_data())
    assert "There are no pictures" not in yolo.encode_data_yaml(make_data(kept="frames"))
    data = make_data([ONE] * 2, ["ok"], splits=("train", "line\nbreak"), kept="frames")
    text = yolo.encode_data_yaml(data)
    assert "Neither train, val nor test: 'images/line\\nbreak'" in text
    assert yaml.safe_load(text)["names"] == {0: "ok"}


def test_a_picture_without_boxes_has_an_empty_label_file(tmp_path: Path) -> None:
    write(make_data(kept="frames"), yolo.FORMAT, tmp_path)
    assert list_files(tmp_path)["labels/v-2.txt"] == b""


def test_what_ultralytics_keeps_of_earlier_labels_is_deleted(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / "labels" / name).mkdir(parents=True)
        (tmp_path / "labels" / f"{name}.cache").write_bytes(b"earlier boxes")
    write(make_data(splits=("train", "val"), kept="frames"), yolo.FORMAT, tmp_path)
    assert not [name for name in list_files(tmp_path) if name.endswith(".cache")]
    (tmp_path / "labels.cache").write_bytes(b"earlier boxes")
    write(make_data(kept="frames"), yolo.FORMAT, tmp_path)
    assert not (tmp_path / "labels.cache").exists()


# -- Pascal VOC


def has_xml_path(data: ExportData) -> bool:
    return data.pictures == "frames" or all(voc.find_fault(path) is None for path in data.images["frame_path"])


@given(draw_data(class_names=without_faults(voc.FORMAT)).filter(has_xml_path))
@settings(max_examples=60, deadline=None)
def test_an_xml_reader_reads_the_same_boxes_and_names(data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        placed = write(data, voc.FORMAT, folder)
        for image, objects in iterate_objects(placed):
            root = ElementTree.parse(f"{folder}/Annotations/{image['name']}.xml").getroot()
            prefix = "JPEGImages/" if data.pictures == "frames" else ""
            assert prefix + str(root.findtext("filename")) == image["file"]
            assert [int(str(root.findtext(f"size/{name}"))) for name in ("width", "height", "depth")] == [
                *(image["width"], image["height"], 3)
            ]
            for element, shown in zip(root.iter("object"), objects, strict=True):
                assert element.findtext("name") == shown["class_name"]
                x1, y1, x2, y2 = (
                    int(str(element.findtext(f"bndbox/{name}"))) for name in ("xmin", "ymin", "xmax", "ymax")
                )
                assert 1 <= x1 <= x2 <= image["width"]
                assert 1 <= y1 <= y2 <= image["height"]
                assert [x1 - 1, y1 - 1, x2, y2] == pytest.approx(get_corners(shown), abs=1)
        listed = {
            split: Path(folder, f"ImageSets/Main/{split or 'trainval'}.txt").read_text().splitlines()
            for split in data.splits
        }
    for split, names in listed.items():
        assert names == data.images.loc[data.images["split"] == split, "name"].tolist()


@pytest.mark.parametrize("path", ["bell\a.jpg", "null\x01.jpg", "\ufffe", "esc\x1b"])
def test_voc_refuses_a_path_that_xml_cannot_hold(path: str, tmp_path: Path) -> None:
    data = make_data([ONE], ["ok"], frame_path=[path], file=[path])
    with pytest.raises(ExportError, match=r"cannot hold the character U\+....; rename the file, or export"):
        write(data, voc.FORMAT, tmp_path)
    write(dataclasses.replace(data, pictures="frames"), voc.FORMAT, tmp_path)


# -- HaGRID


def read_hagrid(folder: str | Path, data: ExportData) -> Any:
    files = [path.relative_to(folder).as_posix().encode() for path in Path(folder).rglob("*.jpg")]
    listing = Listing(pa.array(files, pa.binary()), pa.array(["1"] * len(files), pa.string()))
    classes = {name: name for name in data.classes}
    return read_annotations(f"{folder}/hagrid_annotations", listing, classes, dict(data.numbers))


@given(draw_data(class_names=without_faults(hagrid_json.FORMAT), kept=("frames",)))
@settings(max_examples=60, deadline=None)
def test_our_own_reader_of_hagrid_reads_the_same_boxes_people_and_files(data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        placed = write(data, hagrid_json.FORMAT, folder)
        for file in placed.images["file"]:
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, file).touch()
        if not len(data.images):
            with pytest.raises(TableError, match="none of the records"):
                read_hagrid(folder, data)
            return
        table = read_hagrid(folder, data).set_index("frame_path")
    kinds = {note.kind for note in table.attrs.get("notes", [])}
    assert not kinds & {"malformed", "clipped", "absent_class", "other_class"}
    assert len(table) == len(data.images)
    for image, objects in iterate_objects(placed):
        row = table.loc[image["file"]]
        assert (row["video_name"], row["class_name"]) == (image["video_name"], image["class_name"])
        assert row[TRUTH_SIZE] == f"{image['width']}x{image['height']}"
        expected = [get_corners(shown) for shown in objects if shown["class_name"] == image["class_name"]]
        sizes = [image["width"], image["height"]] * 2
        boxes = [[float(side) * size for side, size in zip(box, sizes, strict=True)] for box in json.loads(row[TRUTH])]
        for box, wanted in zip(boxes, expected, strict=True):
            assert box == pytest.approx(wanted, abs=SLACK)


def test_hagrid_keeps_further_hands_under_their_own_class(tmp_path: Path) -> None:
    other = Shown("no_gesture", (200, 100, 300, 200), kind="other_hand")
    data = make_data([[*ONE, other]], ["no_gesture", "ok"], kept="frames", splits=("train", "val"))
    placed = write(data, hagrid_json.FORMAT, tmp_path)
    assert placed.images["file"].tolist() == ["hagrid_dataset/ok/v-0.jpg"]
    record = json.loads((tmp_path / "hagrid_annotations/train/ok.json").read_bytes())["v-0"]
    assert record["labels"] == ["ok", "no_gesture"]
    assert record["user_id"] == "v"
    empty = ["train/no_gesture.json", "val/no_gesture.json", "val/ok.json"]
    assert [json.loads((tmp_path / "hagrid_annotations" / name).read_bytes()) for name in empty] == [{}, {}, {}]


# -- csv


@given(draw_data() | draw_data(kept=("crops",), one_object=True))
@settings(max_examples=100, deadline=None)
def test_the_csv_comes_back_exactly(data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        samples_csv.write_samples_csv(data, store)
        rows = samples_csv.read_samples_csv(store)
        with open(f"{folder}/samples.csv", encoding="utf-8", newline="") as file:
            plain = list(csv.DictReader(file))
    expected = [(image, shown) for image, objects in iterate_objects(data) for shown in objects or [None]]
    of_image = ["file", "name", "frame_path", "video_name", "frame_id", "split", "width", "height", "decision"]
    of_image += [f"crop_{corner}" for corner in CORNERS]
    for row, text, (image, shown) in zip(rows.to_dict("records"), plain, expected, strict=True):
        assert [row[name] for name in of_image] == [image[name] for name in of_image]
        assert [text[name] for name in of_image] == [str(image[name]) for name in of_image]
        if shown is None:
            assert (row["class_name"], row["kind"], text["label"], text["x1"]) == ("", "", "", "")
            assert all(math.isnan(row[name]) for name in (*CORNERS, "score"))
        else:
            assert (row["class_name"], row["kind"]) == (shown["class_name"], shown["kind"])
            assert row["label"] == data.numbers[shown["class_name"]] == int(text["label"])
            assert get_corners(row) == get_corners(shown) == [float(text[name]) for name in CORNERS]
            assert row["score"] == shown["score"] or (math.isnan(row["score"]) and math.isnan(shown["score"]))


def test_line_breaks_in_text_do_not_depend_on_the_blocks_of_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["line\nbreak" * 20] * 50
    data = make_data([ONE] * 50, ["ok"], video_name=names)
    write(data, samples_csv.FORMAT, tmp_path)
    monkeypatch.setattr(samples_csv, "_LARGEST_ROW", 1000)
    assert samples_csv.read_samples_csv(open_store(tmp_path))["video_name"].tolist() == names


def test_the_csv_is_where_it_belongs(tmp_path: Path) -> None:
    data = make_data(splits=("train",), kept="frames")
    placed = write(data, samples_csv.FORMAT, tmp_path)
    assert placed.images["file"].tolist() == ["images/train/v-0.jpg", "images/train/v-1.jpg", "images/train/v-2.jpg"]
    assert list_files(tmp_path).keys() == {"samples.csv"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; export again"),
        (b"", "not as detectime wrote it"),
        (b"file;x1\na;1\n", "not as detectime wrote it"),
        (b'"file","x1"\n"a",1\n', "not as detectime wrote it"),
    ],
)
def test_a_csv_that_is_not_ours_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "samples.csv").write_bytes(content)
    with pytest.raises(ExportError, match=message):
        samples_csv.read_samples_csv(open_store(tmp_path))


def test_a_csv_with_a_changed_number_is_refused(tmp_path: Path) -> None:
    write(make_data(), samples_csv.FORMAT, tmp_path)
    path = tmp_path / "samples.csv"
    path.write_text(path.read_text().replace("10.25", '"10,25"'))
    with pytest.raises(ExportError, match="not as detectime wrote it"):
        samples_csv.read_samples_csv(open_store(tmp_path))


# -- names that a format cannot hold


@pytest.mark.parametrize(
    ("kind", "name", "fault"),
    [
        (voc.FORMAT, "bell\a", "U+0007"),
        (voc.FORMAT, "\ufffe", "U+FFFE"),
        (voc.FORMAT, "", "empty"),
        (hagrid_json.FORMAT, "a/b", "'/'"),
        (hagrid_json.FORMAT, "..", "folder"),
        (hagrid_json.FORMAT, ".", "folder"),
        (hagrid_json.FORMAT, "", "folder"),
        (hagrid_json.FORMAT, "nul\0", "'\\x00'"),
        (hagrid_json.FORMAT, "é" * 126, "255 bytes"),
    ],
)
def test_a_format_says_why_it_cannot_hold_a_name(kind: Format, name: str, fault: str) -> None:
    assert fault in str(kind.find_fault(name))


@each_format
def test_most_odd_names_are_no_fault(kind: Format) -> None:
    refused = {name for name in ODD_NAMES if kind.find_fault(name)}
    assert refused == ({"a/b", "..", "<b>&amp;</b>", "x" * 300} if kind is hagrid_json.FORMAT else set())


# -- many small files


def test_put_many_leaves_earlier_files_whole_if_it_is_stopped(tmp_path: Path) -> None:
    def stop_after_one() -> Iterator[tuple[str, bytes]]:
        yield "labels/a.txt", b"new"
        raise KeyboardInterrupt

    store = open_store(tmp_path)
    many_files.put_many(store, [("labels/a.txt", b"old"), ("labels/b.txt", b"old")])
    with pytest.raises(KeyboardInterrupt):
        many_files.put_many(store, stop_after_one())
    assert list_files(tmp_path) == {"labels/a.txt": b"new", "labels/b.txt": b"old"}


def test_put_many_keeps_the_earlier_file_if_the_new_one_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = open_store(tmp_path)
    many_files.put_many(store, [("a.txt", b"old")])
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match=r"a\.txt: cannot be written: No space left on device"):
        many_files.put_many(store, [("a.txt", b"new")])
    assert list_files(tmp_path) == {"a.txt": b"old"}


def test_put_many_names_the_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"labels/a\.txt: cannot be written: .*run again"):
        many_files.put_many(open_store(tmp_path), [("labels/a.txt", b"")])


def test_put_many_writes_a_long_file_on_top_of_a_short_one(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    long = np.random.default_rng(0).bytes(3_000_000)
    many_files.put_many(store, [("a", b"x"), ("a", long), ("b/c/d", b"")])
    assert list_files(tmp_path) == {"a": long, "b/c/d": b""}


@pytest.mark.extra
@pytest.mark.parametrize("make", [lambda: yolo.FORMAT, lambda: voc.FORMAT], ids=["yolo", "voc"])
def test_many_files_are_the_same_in_a_bucket(make: Callable[[], Format], tmp_path: Path) -> None:
    fsspec = need_extra("fsspec")
    kind = make()
    data = make_data(splits=SPLITS, kept="frames")
    write(data, kind, tmp_path)
    store = open_store(f"memory://{tmp_path.name}-{kind.name}")
    kind.write(place_pictures(data, kind), store)
    files = fsspec.filesystem("memory").find(f"/{tmp_path.name}-{kind.name}")
    made = {name.split("/", 2)[2]: store.get(name.split("/", 2)[2]) for name in files}
    assert made == list_files(tmp_path)
