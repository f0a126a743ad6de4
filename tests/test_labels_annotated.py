"""COCO, CVAT, Pascal VOC and YOLO as labels: the class, the group and the boxes of each annotated picture."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from finished_runs import copy_run

from detectime.config import load_config
from detectime.exports.export import export_run
from detectime.labels import annotated
from detectime.labels.annotated import hash_annotations, list_classes, read_annotated, recognise
from detectime.labels.frame_table import read_labels
from detectime.labels.tables import TableError
from detectime.labels.vocabulary import number_labels
from detectime.paths import SAMPLE
from detectime.schema import CORNERS, TRUTH, TRUTH_SIZE
from detectime.sources import open_source
from detectime.sources.listing import Listing, list_source
from detectime.truth.contract import TruthError
from detectime.truth.formats import read_annotations

LABELS = {"no_gesture": 0, "stop": 1, "ok": 4, "thumbs_up": 7}
BOX = [160, 120, 320, 240]  # x, y, width, height in a picture of 640 x 480


def make_listing(*names: str) -> Listing:
    return Listing(pa.array([name.encode() for name in names], pa.binary()), pa.array(map(str, names), pa.string()))


def write_coco(
    folder: Path, pictures: Mapping[str, Sequence[str]], *, fields: Mapping[str, Any] | None = None, **size: int | None
) -> str:
    """Write a file of COCO: the labels of the boxes of each picture."""
    names = sorted({label for labels in pictures.values() for label in labels})
    sizes = {"width": 640, "height": 480} | size
    images = [{"id": k, "file_name": name, **sizes, **(fields or {})} for k, name in enumerate(pictures)]
    boxes = [
        {"id": 100 * k + n, "image_id": k, "category_id": names.index(label), "bbox": BOX}
        for k, labels in enumerate(pictures.values())
        for n, label in enumerate(labels)
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(names)]
    file = folder / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return str(file)


def read(path: str, *files: str, labels_type: str = "coco", group_by: str | None = None) -> pd.DataFrame:
    return read_annotated(path, labels_type, make_listing(*files), LABELS, group_by)


def list_kinds(table: pd.DataFrame) -> dict[str, int]:
    return {note.kind: note.count for note in table.attrs["notes"]}


# -- classes and boxes


def test_a_picture_is_of_the_class_of_its_boxes(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"a.jpg": ["ok"], "b.jpg": ["stop", "no_gesture"], "c.jpg": ["ok", "ok"]})
    table = read(path, "a.jpg", "b.jpg", "c.jpg")
    assert table["class_name"].tolist() == ["ok", "stop", "ok"]
    assert table["label"].tolist() == [4, 1, 4]
    box = "[0.25, 0.25, 0.75, 0.75]"
    assert table[TRUTH].tolist() == [f"[{box}]", f"[{box}]", f"[{box}, {box}]"]
    assert table[TRUTH_SIZE].tolist() == ["640x480"] * 3
    assert table["on_disk"].all()
    assert table["frame_id"].dtype == "int64"
    assert table.attrs["labels_sha256"] == hash_annotations(path, "coco")


def test_pictures_that_show_no_class_are_told(tmp_path: Path) -> None:
    pictures = {"a.jpg": ["ok"], "b.jpg": ["ok", "stop"], "c.jpg": ["dog"], "d.jpg": ["dog", "ok"], "e.jpg": []}
    table = read(write_coco(tmp_path, pictures), *pictures, "f.jpg", "instances.json", ".DS_Store")
    assert dict(zip(table["frame_path"], table["class_name"], strict=True)) == {
        "a.jpg": "ok",
        "d.jpg": "ok",
        "e.jpg": "no_gesture",
    }
    assert list_kinds(table).items() >= {"two_classes": 1, "other_label": 2, "without_box": 1}.items()
    (other,) = [str(note) for note in table.attrs["notes"] if note.kind == "other_label"]
    assert "'dog' (2); 1 picture is left out, with no box of a class" in other
    assert (table.attrs["unlisted"], table.attrs["unlisted_names"]) == (1, ["f.jpg"])


def test_pictures_without_boxes_are_left_out_without_no_gesture(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"a.jpg": ["ok"], "b.jpg": []})
    table = read_annotated(path, "coco", make_listing("a.jpg", "b.jpg"), {"ok": 1})
    assert table["frame_path"].tolist() == ["a.jpg"]
    assert any("left out, since no_gesture is not in `labels`" in str(note) for note in table.attrs["notes"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["dog", "cat"],
            r"none of its 2 labels is a class: 'cat', 'dog'; accepted: no_gesture, stop, ok, thumbs_up; add",
        ),
        (["Thumbs Up", "ok"], r"a label differs from classes in case.*'Thumbs Up' \(did you mean 'thumbs_up'\?\)"),
        (
            ["4", "dog"],
            r"none of its 2 labels is a class: '4', 'dog'; did you mean 'ok', whose number is 4\?; accepted",
        ),
        ([""], "no box that can be used has a label, so that no picture has a class; export upright boxes"),
        (["ok", "stop"], "no picture shows a class: 1 annotated picture has boxes of several classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=message):
        read(write_coco(tmp_path, {"a.jpg": labels}), "a.jpg")


def test_boxes_without_the_size_of_their_picture_are_not_used(tmp_path: Path) -> None:
    table = read(write_coco(tmp_path, {"a.jpg": ["ok"]}, width=None), "a.jpg")
    assert table[TRUTH].tolist() == ["[]"]
    assert TRUTH_SIZE not in table
    assert list_kinds(table)["without_size"] == 1


def test_a_picture_with_a_box_that_is_not_known_has_none(tmp_path: Path) -> None:
    file = Path(write_coco(tmp_path, {"a.jpg": ["ok", "ok"]}))
    content = json.loads(file.read_text())
    content["annotations"][1]["bbox"] = [0, 0, 0, 0]
    file.write_text(json.dumps(content))
    assert read(str(file), "a.jpg")[TRUTH].tolist() == ["[]"]


def test_boxes_that_leave_their_picture_are_told(tmp_path: Path) -> None:
    file = Path(write_coco(tmp_path, {f"{k}.jpg": ["ok"] for k in range(4)}))
    content = json.loads(file.read_text())
    for k, box in enumerate(([600, 120, 80, 240], [700, 120, 30, 240], [600, 120, 40.9, 240])):
        content["annotations"][k]["bbox"] = box
    file.write_text(json.dumps(content))
    table = read(str(file), *(f"{k}.jpg" for k in range(4)))
    assert table[TRUTH].tolist()[:2] == ["[[0.9375, 0.25, 1, 0.75]]", "[]"]
    assert list_kinds(table).items() >= {"clipped": 1, "outside": 1}.items()


# -- files


def test_pictures_are_found_by_the_end_of_their_path_and_may_be_missing(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"a/1.jpg": ["ok"], "./b\\2.jpg": ["ok"]})
    table = read(path, "images/a/1.jpg", "images/c/3.jpg")
    assert table["frame_path"].tolist() == ["images/a/1.jpg", "b/2.jpg"]
    assert table["on_disk"].tolist() == [True, False]
    assert table["stamp"].isna().tolist() == [False, True]
    assert table.attrs["unlisted_names"] == ["images/c/3.jpg"]
    assert list_kinds(table)["by_end"] == 1


def test_a_source_with_none_of_the_pictures_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"a/1.jpg": ["ok"]})
    with pytest.raises(TableError, match=r"none of the 1 annotated pictures is in `images`.*'a/1\.jpg'.*'x/9\.jpg'"):
        read(path, "x/9.jpg")
    assert not read(path)["on_disk"].any()  # the place is not mounted


def test_a_picture_that_could_be_several_files_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"1.jpg": ["ok"]})
    with pytest.raises(TableError, match="1 annotated picture could be several files of the source"):
        read(path, "a/1.jpg", "b/1.jpg")


@pytest.mark.parametrize(("second", "rows"), [(["ok"], 1), (["stop"], 0)])
def test_a_picture_that_is_listed_twice(second: list[str], rows: int, tmp_path: Path) -> None:
    file = Path(write_coco(tmp_path, {"a.jpg": ["ok"], "b.jpg": second, "c.jpg": ["ok"]}))
    file.write_text(file.read_text().replace('"b.jpg"', '"a.jpg"'))
    if not rows:
        with pytest.raises(TableError, match=r"annotated several times, with different classes: 'a\.jpg'"):
            read(str(file))
        return
    table = read(str(file))
    assert table["frame_path"].tolist() == ["a.jpg", "c.jpg"]
    assert table.attrs["duplicates"] == 1


# -- groups


@pytest.mark.parametrize(
    ("fields", "group"),
    [
        ({"user_id": 17}, "17"),
        ({"video_id": 3, "Subject": " anna "}, "anna"),
        ({"video_name": "v", "user_id": "u"}, "v"),
        ({"user_id": None, "license": 3}, "anna"),
        ({"user_id": True}, "anna"),
    ],
)
def test_groups_are_stated_or_found_by_name(fields: dict[str, Any], group: str, tmp_path: Path) -> None:
    pictures = {"anna_1.jpg": ["ok"], "anna_2.jpg": ["stop"]}
    table = read(write_coco(tmp_path, pictures, fields=fields), *pictures)
    assert table["video_name"].tolist() == [group, group]
    assert table["frame_id"].tolist() == [1, 2]
    assert list_kinds(table)["groups"] == 1


def test_a_folder_of_pictures_is_no_group(tmp_path: Path) -> None:
    pictures = {"train/images/x.jpg": ["ok"], "valid/images/y.jpg": ["stop"]}
    table = read(write_coco(tmp_path, pictures), *pictures)
    assert list_kinds(table)["no_groups"] == 2


def write_cvat(folder: Path, pictures: Mapping[str, str], inside: str = "") -> Path:
    """Write a file of CVAT: the label of the box of each picture."""
    box = '<box label="{}" occluded="0" xtl="160" ytl="120" xbr="480" ybr="360">{}</box>'
    images = "".join(
        f'<image id="{k}" name="{name}" width="640" height="480">{box.format(label, inside)}</image>'
        for k, (name, label) in enumerate(pictures.items())
    )
    file = folder / "annotations.xml"
    file.write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    return file


def test_attributes_of_cvat_name_the_person(tmp_path: Path) -> None:
    person = '<attribute name="Person">anna</attribute>'
    file = write_cvat(tmp_path, {"0.jpg": "ok", "1.jpg": "ok"}, person)
    table = read(str(file), "0.jpg", "1.jpg", labels_type="cvat")
    assert table["video_name"].tolist() == ["anna", "anna"]
    assert table[TRUTH].tolist() == ["[[0.25, 0.25, 0.75, 0.75]]"] * 2
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(file, "annotations.xml")
    assert recognise(str(tmp_path / "task.zip")) == "cvat"
    assert len(read(str(tmp_path / "task.zip"), "0.jpg", "1.jpg", labels_type="cvat")) == 2


def write_shapes(folder: Path, *contents: str) -> str:
    """Write a file of CVAT with the shapes of ``0.jpg``, ``1.jpg``, …"""
    images = [
        f'<image id="{k}" name="{k}.jpg" width="640" height="480">{shapes}</image>' for k, shapes in enumerate(contents)
    ]
    file = folder / "annotations.xml"
    file.write_text(f"<annotations><version>1.1</version>{''.join(images)}</annotations>")
    return str(file)


def make_box(label: str, more: str = "") -> str:
    return f'<box label="{label}" occluded="0" xtl="160" ytl="120" xbr="480" ybr="360"{more}></box>'


POLYGON = '<polygon label="stop" points="1,1;9,1;5,9"/>'
ROTATED = make_box("stop", ' rotation="15"')


def test_a_tag_of_cvat_is_the_class_of_its_picture(tmp_path: Path) -> None:
    def tag(label: str, person: str = "__undefined__") -> str:
        return f'<tag label="{label}"><attribute name="person">{person}</attribute></tag>'

    ok, hand = make_box("ok"), make_box("hand")
    contents = [tag("ok", "anna"), tag("stop") + hand, tag("ok") + ok, tag("stop") + ok, tag("blurry"), "", ok]
    path = write_shapes(tmp_path, *contents)
    table = read(path, *(f"{k}.jpg" for k in range(7)), labels_type="cvat").set_index("frame_path")
    box = "[[0.25, 0.25, 0.75, 0.75]]"
    assert table["class_name"].to_dict() == {
        **{"0.jpg": "ok", "1.jpg": "stop", "2.jpg": "ok", "5.jpg": "no_gesture", "6.jpg": "ok"}
    }
    assert table[TRUTH].tolist() == ["[]", "[]", box, "[]", box]
    assert table.loc["0.jpg", "video_name"] == "anna"
    assert "__undefined__" not in set(table["video_name"])
    assert list_kinds(table).items() >= {"tag": 5, "two_classes": 1, "other_label": 2, "without_box": 1}.items()
    assert list_classes(path, "cvat") == ["blurry", "hand", "ok", "stop"]


def test_a_picture_whose_shapes_are_not_read_is_left_out(tmp_path: Path) -> None:
    path = write_shapes(tmp_path, make_box("ok"), POLYGON, ROTATED, "")
    table = read(path, *(f"{k}.jpg" for k in range(4)), labels_type="cvat")
    assert table["class_name"].tolist() == ["ok", "no_gesture"]
    notes = [str(note) for note in table.attrs["notes"]]
    assert "1 shape is of the kind polygon and not used: only boxes are (the first: '1.jpg')" in notes
    assert "2 annotated pictures have nothing but shapes that are not used or have no label, and are left out" in str(
        notes
    )
    assert "other_label" not in list_kinds(table)
    path = write_shapes(tmp_path, POLYGON, ROTATED)
    with pytest.raises(TableError, match=r"1 box is rotated and not used.*1 shape is of the kind polygon"):
        read(path, "0.jpg", labels_type="cvat")
    with pytest.raises(TableError, match=r"no box has one that is; 1 box is rotated and not used"):
        list_classes(path, "cvat")


# -- other formats


def write_yolo(folder: Path, files: Sequence[str]) -> str:
    (folder / "data.yaml").write_text("train: train/images\nval: valid/images\nnames: [ok, stop]\n")
    for number, name in enumerate(files):
        label = folder / name.replace("images", "labels")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.with_suffix(".txt").write_text(f"{number % 2} 0.5 0.5 0.5 0.5\n")
    return str(folder)


def test_yolo_of_roboflow(tmp_path: Path) -> None:
    files = [f"{part}/images/anna_{k}_jpg.rf.{k}{'0' * 31}.jpg" for part in ("train", "valid") for k in range(2)]
    path = write_yolo(tmp_path, files)
    assert recognise(path) == recognise(f"{path}/data.yaml") == "yolo"
    for place in (path, f"{path}/data.yaml"):
        table = read(place, *files, "data.yaml", "train/labels/x.txt", labels_type="yolo")
        assert sorted(table["frame_path"]) == sorted(files)
        assert set(table["video_name"]) == {"anna"}
        assert set(table[TRUTH]) == {"[[0.25, 0.25, 0.75, 0.75]]"}
        assert TRUTH_SIZE not in table
        assert table.attrs["unlisted"] == 0
    assert list_classes(path, "yolo") == ["ok", "stop"]
    assert hash_annotations(path, "yolo") == hash_annotations(f"{path}/data.yaml", "yolo")


def write_voc(folder: Path, pictures: Mapping[str, str]) -> str:
    """Write files of VOC: the label of the box of each picture."""
    sizes = "<size><width>640</width><height>480</height></size>"
    corners = "<bndbox><xmin>161</xmin><ymin>121</ymin><xmax>480</xmax><ymax>360</ymax></bndbox>"
    (folder / "Annotations").mkdir(exist_ok=True)
    for name, label in pictures.items():
        (folder / "Annotations" / f"{Path(name).stem}.xml").write_text(
            f"<annotation><filename>{name}</filename>{sizes}<object><name>{label}</name>{corners}</object></annotation>"
        )
    return str(folder)


def test_voc_beside_its_pictures(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a.jpg": "ok", "b.jpg": "ok"})
    table = read(str(tmp_path), "JPEGImages/a.png", "JPEGImages/b.jpg", "Annotations/a.xml", labels_type="voc")
    assert recognise(str(tmp_path)) == "voc"
    assert table["frame_path"].tolist() == ["JPEGImages/a.png", "JPEGImages/b.jpg"]
    assert table[TRUTH].tolist() == ["[[0.25, 0.25, 0.75, 0.75]]"] * 2
    assert table.attrs["unlisted"] == 0


def test_faces_and_people_are_no_classes_by_themselves(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"a.jpg": ["ok", "face", "Person"], "b.jpg": ["zzz"]})
    assert list_classes(path, "coco") == ["ok", "zzz"]
    with pytest.raises(TableError, match="`labels: auto` takes the labels of boxes as classes"):
        list_classes(write_coco(tmp_path, {"a.jpg": ["face"]}), "coco")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"ok.json": '{"7f3a": {"bboxes": [[0, 0, 1, 1]], "labels": ["ok"], "user_id": "a"}}'}, "hagrid"),
        ({"readme.txt": "Thanks to all\n", "ok/1.jpg": ""}, None),
        ({"classes.txt": "ok\nstop\n", "1.txt": "0 0.5 0.5 0.1 0.1\n"}, "yolo"),
        ({"labels/1.txt": "0 0.5 0.5 0.1 0.1\n"}, "yolo"),
        ({"truth.json": '{"a.jpg": {"hands": []}}'}, None),
        ({"a.jpg": ""}, None),
    ],
)
def test_folders_are_recognised(files: dict[str, str], found: str | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert recognise(str(tmp_path)) == found


def test_attributes_of_coco_name_the_person(tmp_path: Path) -> None:
    file = Path(write_coco(tmp_path, {f"{k}.jpg": ["ok", "ok"] for k in range(4)}))
    content = json.loads(file.read_text())
    for annotation, person in zip(content["annotations"], ["", "anna", "ben", "", None, 5, "eve", ""], strict=True):
        annotation["attributes"] = {"occluded": False, "Person": person}
    content["images"][3]["attributes"] = {"user": "zoe"}
    file.write_text(json.dumps(content))
    assert read(str(file), *(f"{k}.jpg" for k in range(4)))["video_name"].tolist() == ["anna", "ben", "5", "zoe"]


@pytest.mark.parametrize("labels_type", ["cvat", "voc", "yolo"])
def test_another_format_than_the_stated_one_is_named(labels_type: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"these are annotations of COCO, not of .*; set `labels_type: coco`"):
        read(write_coco(tmp_path, {"a.jpg": ["ok"]}), "a.jpg", labels_type=labels_type)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a.jpg": {"hands": [[1, 2, 3, 4]]}}', "has boxes of hands but no classes.*give it as `truth`"),
        ("", "is empty"),
    ],
)
def test_files_that_say_no_class_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    file.write_text(text)
    with pytest.raises(TableError, match=message):
        recognise(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"id": 1, "annotations": [{"result": []}], "data": {"image": "a.jpg"}}], "an export of Label Studio, which"),
        ({"version": "5.0", "flags": {}, "shapes": [], "imagePath": "a.jpg"}, "annotations of LabelMe, which is not"),
        (
            {"a.jpg9": {"filename": "a.jpg", "size": 9, "regions": []}},
            r"VGG annotator \(VIA\).*export it there as COCO",
        ),
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "this is COCO's results, which is"),
    ],
)
def test_formats_that_are_not_read_are_named(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    for place in (str(tmp_path), str(file)):
        with pytest.raises(TableError, match=message):
            recognise(place)
        with pytest.raises(TruthError, match=message):
            read_annotations(place)
    with pytest.raises(TableError, match=message):
        read(str(file))


@pytest.mark.parametrize("content", [{}, {"categories": []}])
def test_annotations_of_no_picture_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": [], "annotations": []} | content))
    with pytest.raises(TableError, match="no picture shows a class: there are no annotated pictures; accepted: "):
        read(str(file), "a.jpg")


@pytest.mark.parametrize("labels_type", annotated.FORMATS)
def test_a_table_is_no_annotation(labels_type: str, tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"train\.csv: this is a table, not annotations of .*; leave `labels_type` out"
    ):
        read(str(SAMPLE / "train.csv"), labels_type=labels_type)
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.write(SAMPLE / "train.csv", "t.csv")
    with pytest.raises(TableError, match=r"this zip holds a table, 't\.csv'; unpack it, and give the table"):
        read(str(tmp_path / "t.csv.zip"), labels_type="cvat")


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(TableError, match="no such file or folder"):
        read_annotated("no/such.json", "coco", make_listing(), LABELS)


# -- numbers of classes


def write_labels(kind: str, folder: Path, classes: Sequence[str]) -> dict[str, str]:
    """Write a set of one picture per class, ``<number>.jpg`` of each; return the keys of its configuration."""
    images, pictures = folder / "images", {f"{k}.jpg": name for k, name in enumerate(classes)}
    for name, label in pictures.items():
        file = images / label / name if kind == "folders" else images / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"image")
        if kind == "webdataset":
            file.with_suffix(".cls").write_text(label)
        if kind == "yolo":
            (folder / name).with_suffix(".txt").write_text(f"{list(pictures).index(name)} 0.5 0.5 0.5 0.5\n")
    if kind in ("folders", "webdataset"):
        return {"images": str(images), "labels_type": kind}
    labels = str(folder)
    if kind == "coco":
        labels = write_coco(folder, {name: [label] for name, label in pictures.items()})
    elif kind == "cvat":
        labels = str(folder / "task.zip")
        with zipfile.ZipFile(labels, "w") as archive:
            archive.write(write_cvat(folder, pictures), "annotations.xml")
    elif kind == "voc":
        write_voc(folder, pictures)
    else:
        (folder / "data.yaml").write_text(f"names: [{', '.join(classes)}]\n")
    return {"images": str(images), "labels": labels}


@pytest.mark.parametrize("kind", ["folders", "webdataset", *annotated.FORMATS])
def test_classes_keep_their_numbers_when_one_more_is_there(kind: str, tmp_path: Path) -> None:
    def number(classes: Sequence[str], earlier: Mapping[str, int] | None = None) -> dict[str, int]:
        parameters = write_labels(kind, tmp_path, classes) | {"output": str(tmp_path / "out")}
        config = load_config(parameters=parameters)
        # As `resume_config` returns it: with the classes of the run that is continued.
        config = dataclasses.replace(config, labels=dict(earlier or {}), labels_are_auto=True)
        source = open_source(config.data.images)
        config = number_labels(config, source)
        table = read_labels(config, source)
        assert dict(zip(table["class_name"], table["label"], strict=True)) == config.labels
        return config.labels

    first = number(["stop", "ok"])
    assert first == {"ok": 0, "stop": 1}
    assert number(["stop", "ok", "like"], first) == {"ok": 0, "stop": 1, "like": 2}


# -- exports of detectime come back


@pytest.fixture(scope="module")
def exports(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    run = copy_run(sample_run, folder / "run")
    export_run(run, ["coco", "yolo", "voc", "cvat", "hagrid"], folder)
    return folder


@pytest.mark.parametrize(
    ("labels_type", "own_pictures"),
    # Records of HaGRID name pictures by their own names alone.
    [*((name, own) for name in annotated.FORMATS for own in (True, False)), ("hagrid", True)],
)
def test_exports_come_back(labels_type: str, own_pictures: bool, exports: Path, tmp_path: Path) -> None:
    samples = pd.read_csv(exports / labels_type / "samples.csv").set_index("frame_path")
    images = exports / labels_type if own_pictures else SAMPLE / "TRAIN_DATA"
    parameters = {"images": str(images), "labels": str(exports / labels_type), "output": str(tmp_path)}
    config = load_config(parameters=parameters)
    table = read_labels(config, open_source(str(images)))
    assert len(table) == len(samples)
    assert table["on_disk"].all()
    if own_pictures:
        stems = table["frame_path"].str.replace(r"^.*/|\.\w+$", "", regex=True)
        expected = samples.reset_index().set_index("name").loc[stems]
    else:
        expected = samples.loc[table["frame_path"]]
    assert table["class_name"].tolist() == expected["class_name"].tolist()
    assert table["video_name"].tolist() == expected["video_name"].tolist()
    if labels_type != "hagrid":  # which has no numbers
        assert table["frame_id"].tolist() == expected["frame_id"].tolist()
    boxes = np.array([json.loads(text)[0] for text in table[TRUTH]])
    sizes = expected[["width", "height"]].to_numpy()
    tolerance = 1.0 if labels_type == "voc" else 0.001  # pixels: VOC's are whole
    np.testing.assert_allclose(boxes * np.tile(sizes, 2), expected[list(CORNERS)].to_numpy(), atol=tolerance)


def test_an_export_of_crops_is_refused(exports: Path, tmp_path: Path) -> None:
    state = json.loads((exports / "coco" / "export.json").read_text())
    state["request"]["box"] = "bbox"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "export.json").write_text(json.dumps(state))
    path = write_coco(tmp_path / "annotations", {"a.jpg": ["ok"]})
    with pytest.raises(TableError, match="this export holds crops instead of hands"):
        read(path, "a.jpg")


def test_an_export_whose_table_is_gone_still_comes_back(exports: Path, tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    file.write_bytes((exports / "coco" / "annotations" / "instances.json").read_bytes())
    listing = list_source(open_source(str(SAMPLE / "TRAIN_DATA")))
    table = read_annotated(
        str(file), "coco", listing, {"ok": 1, "stop": 2, "victory": 3, "mute": 4, "like": 5, "dislike": 6}
    )
    assert (table["frame_path"].str.partition("/")[0] == table["video_name"]).all()
    assert table["on_disk"].all()


def test_types_are_those_of_the_configuration() -> None:
    for labels_type in annotated.FORMATS:
        assert load_config(parameters={"labels_type": labels_type}).data.labels_type == labels_type
