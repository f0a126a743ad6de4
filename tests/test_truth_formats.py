"""Readers of annotations: HaGRID, COCO, Pascal VOC, YOLO, CVAT and plain JSON, also broken and hostile files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import measure_memory

from detectime.labels.annotations import Annotations
from detectime.labels.coco import read_coco
from detectime.labels.cvat import read_cvat_annotations
from detectime.labels.hagrid_boxes import read_boxes
from detectime.labels.tables import TableError
from detectime.labels.truth_json import read_truth_file
from detectime.labels.voc import read_voc
from detectime.labels.yolo import read_yolo
from detectime.schema import CORNERS
from detectime.truth import FORMATS, TruthError
from detectime.truth.formats import read_annotations, recognise_format

DEEP = "[" * 5_000_000 + "]" * 5_000_000
BOMB = "".join(
    [
        '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a0 "boom">',
        *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)),
        "]><annotation><filename>&a11;</filename></annotation>",
    ]
)


def list_boxes(found: Annotations) -> list[tuple[Any, ...]]:
    """List picture, label and corners of each box."""
    names = found.images["name"].to_numpy(object)[found.boxes["image"].to_numpy()]
    return list(zip(names, found.boxes["label"], *(found.boxes[corner] for corner in CORNERS), strict=True))


def list_kinds(found: Annotations) -> dict[str, int]:
    return {note.kind: note.count for note in found.notes}


def write(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def has_no_box(corners: Any) -> bool:
    return bool(np.isnan(np.array(corners, float)).all())


# -- COCO


def make_coco(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Make a file with the pictures 7 and 8, and the categories 1, `ok`, and 2, `face`."""
    images = [
        {"id": 7, "file_name": "anna/1.jpg", "width": 640, "height": 480},
        {"id": 8, "file_name": "ben/2.jpg", "width": 0, "height": 0},
    ]
    categories = [{"id": 1, "name": "ok"}, {"id": 2, "name": "face", "supercategory": "hands"}]
    return {"info": {}, "images": images, "categories": categories, "annotations": list(annotations)} | changes


def annotate(bbox: Any, image: Any = 7, category: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": category, "bbox": bbox, **more}


def test_coco_is_read(tmp_path: Path) -> None:
    made = make_coco(annotate([1, 2, 30, 40]), annotate([5.5, 6, 7, 8], category=2))
    found = read_coco(write(tmp_path / "a.json", made))
    assert list_boxes(found) == [("anna/1.jpg", "ok", 1, 2, 31, 42), ("anna/1.jpg", "face", 5.5, 6, 12.5, 14)]
    assert found.images["name"].tolist() == ["anna/1.jpg", "ben/2.jpg"]  # also the picture without a box
    assert found.images["width"].tolist()[0] == 640
    assert math.isnan(found.images["width"][1])  # a size of 0 states none
    assert (found.unit, found.has_endings, found.notes) == ("pixels", True, ())


@pytest.mark.parametrize(
    "bbox", [[1, 2, -3, 4], [1, 2, 0, 4], [1, 2, 3], [], None, "1 2 3 4", [1, 2, float("nan"), 4], [1, 2, 10**400, 4]]
)
def test_coco_boxes_without_an_area_are_known_to_be_unknown(tmp_path: Path, bbox: Any) -> None:
    found = read_coco(write(tmp_path / "a.json", make_coco(annotate(bbox), annotate([1, 2, 3, 4]))))
    (_, label, *corners), second = list_boxes(found)
    assert label == "ok"
    assert has_no_box(corners)
    assert second[2:] == (1, 2, 4, 6)
    assert list_kinds(found) == {"no_area": 1}
    assert found.notes[0].example == "anna/1.jpg"


def test_coco_crowds_and_segmentations_are_noted(tmp_path: Path) -> None:
    made = make_coco(
        annotate([1, 2, 3, 4], iscrowd=1, segmentation={"counts": "x", "size": [480, 640]}),
        annotate([1, 2, 3, 4], segmentation=[[1, 1, 2, 2, 3, 3]]),
        annotate([1, 2, 3, 4], image=99),
        annotate([1, 2, 3, 4], category=55),
    )
    found = read_coco(write(tmp_path / "a.json", made))
    assert list_kinds(found) == {"crowd": 1, "segmentation": 1, "unlisted": 1, "no_area": 1}
    assert [label for _, label, *_ in list_boxes(found)] == ["ok", "ok", "category 55"]
    assert has_no_box(list_boxes(found)[0][2:])
    assert list_boxes(found)[1][2:] == (1, 2, 4, 6)


def test_all_coco_files_of_a_folder_are_read(tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "instances_train.json", make_coco(annotate([1, 2, 3, 4])))
    other = make_coco(annotate([5, 6, 7, 8]), images=[{"id": 7, "file_name": "carl/3.jpg"}])
    write(tmp_path / "annotations" / "instances_val.json", other)
    write(tmp_path / "package.json", {"name": "not annotations"})
    assert [box[0] for box in list_boxes(read_coco(str(tmp_path)))] == ["anna/1.jpg", "carl/3.jpg"]


def test_coco_files_without_boxes_are_noted_beside_others(tmp_path: Path) -> None:
    caption = {"id": 1, "image_id": 7, "caption": "a hand"}
    write(tmp_path / "captions_train.json", make_coco(caption))
    with pytest.raises(TableError, match="annotations\\[0\\] lacks image_id or category_id"):
        read_coco(str(tmp_path))
    write(tmp_path / "image_info_test.json", {"info": {}, "images": []})
    with pytest.raises(TableError, match="none of its 2 files of COCO has boxes"):
        read_coco(str(tmp_path))
    write(tmp_path / "instances_train.json", make_coco(annotate([1, 2, 3, 4])))
    found = read_coco(str(tmp_path))
    assert [box[0] for box in list_boxes(found)] == ["anna/1.jpg"]
    assert list_kinds(found) == {"boxless": 2}
    assert "(the first: 'captions_train.json')" in str(found.notes[0])


def test_pictures_that_two_coco_files_list_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "instances_train.json", make_coco(annotate([1, 2, 3, 4])))
    b = write(tmp_path / "person_keypoints_train.json", make_coco(annotate([1, 2, 3, 4])))
    with pytest.raises(TableError) as refusal:
        read_coco(str(tmp_path))
    assert str(refusal.value) == f"{a} and {b} list the same pictures, such as 'anna/1.jpg'; pass one of them"


def test_coco_without_categories_has_no_labels(tmp_path: Path) -> None:
    made = make_coco(annotate([1, 2, 3, 4]))
    del made["categories"]
    assert [label for _, label, *_ in list_boxes(read_coco(write(tmp_path / "a.json", made)))] == [""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (make_coco(annotate([1, 2, 3, 4], image="7")), "no image_id of its 1 annotations is the id of a picture"),
        (make_coco(images=[{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]), "the id '7' of images\\[1\\]"),
        (make_coco(images=[{"id": 7}]), "images\\[0\\] lacks its id or file_name"),
        (make_coco(images=[{"id": [], "file_name": "a"}]), "images\\[0\\] lacks its id or file_name"),
        (make_coco(images=["a"]), "images\\[0\\] lacks its id or file_name"),
        (make_coco({"id": 3}), "annotations\\[0\\] lacks image_id or category_id"),
        (make_coco(images={}), "lacks the list images"),
        (make_coco(annotations=None), "lacks the list annotations"),
        (make_coco(categories=[3]), "categories must be a list of objects with id and name"),
        (make_coco(categories=[{"id": [], "name": "a"}]), "categories must be a list of objects with id and name"),
        ([1, 2], "lacks the list images"),
        ('{"images": [', "not valid JSON, perhaps cut off"),
        (DEEP, "not valid JSON, perhaps cut off \\(nested too deeply\\)"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 99 else "content",
)
def test_what_is_not_coco_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_coco(write(tmp_path / "a.json", content))


def test_halves_of_characters_in_names_do_no_harm(tmp_path: Path) -> None:
    made = make_coco(images=[{"id": 7, "file_name": "\ud800.jpg"}])
    assert read_coco(write(tmp_path / "a.json", made)).images["name"].tolist() == ["?.jpg"]


# -- Pascal VOC


def make_voc(*boxes: tuple[str, Any, Any, Any, Any], name: str = "1.jpg", more: str = "") -> str:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        f"</bndbox></object>"
        for label, x1, y1, x2, y2 in boxes
    )
    size = "<size><width>640</width><height>480</height></size>"
    return f"<annotation><folder>x</folder><filename>{name}</filename>{size}{objects}{more}</annotation>"


def test_voc_counts_pixels_from_one_as_the_devkit_does(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "anna" / "1.xml", make_voc(("ok", 1, 11, 20, 480)))
    write(tmp_path / "Annotations" / "anna" / "2.xml", make_voc(name="2.jpg"))
    found = read_voc(str(tmp_path))
    assert list_boxes(found) == [("anna/1", "ok", 0, 10, 20, 480)]
    assert found.images["name"].tolist() == ["anna/1", "anna/2"]
    assert found.images[["width", "height"]].to_numpy().tolist() == [[640, 480]] * 2
    assert found.notes == ()


@pytest.mark.parametrize("first", [0, 0.5, "7.25"])
def test_voc_whose_corners_are_edges_is_read_so(tmp_path: Path, first: Any) -> None:
    write(tmp_path / "1.xml", make_voc(("ok", first, 11, 20, 30)))
    write(tmp_path / "2.xml", make_voc(("ok", 5, 6, 7, 8), name="2.jpg"))
    found = read_voc(str(tmp_path))
    assert list_boxes(found)[1] == ("2", "ok", 5, 6, 7, 8)
    assert [str(note) for note in found.notes] == [
        "Corners are read as the edges of boxes, since some have decimals or are below 1; the devkit of VOC counts "
        "pixels from 1, from the first to the last inside the box."
    ]


def test_voc_parts_are_objects_and_what_has_no_box_is_noted(tmp_path: Path) -> None:
    part = "<part><name>hand</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    person = f"<object><name>person</name>{part}<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>99</xmax><ymax>99</ymax>"
    polygon = "<object><name>ok</name><polygon><x1>3</x1></polygon></object>"
    file = write(tmp_path / "1.xml", make_voc(more=f"{person}</bndbox></object>{polygon}"))
    boxes = list_boxes(read_voc(file))
    assert boxes[:2] == [("1", "person", 0, 0, 99, 99), ("1", "hand", 1, 1, 9, 9)]
    assert boxes[2][1] == "ok"
    assert has_no_box(boxes[2][2:])


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        ("1.xml", "frame.0001", "frame.0001"),
        ("1.xml", "frame.0001.jpg", "frame.0001"),
        ("frame.0001.xml", "", "frame.0001"),
        ("a/b.xml", "c.PNG", "a/c"),
        ("b.xml", "v\\c.png", "v/c"),
    ],
)
def test_voc_names(tmp_path: Path, file: str, name: str, expected: str) -> None:
    write(tmp_path / file, make_voc(name=name))
    assert read_voc(str(tmp_path)).images["name"].tolist() == [expected]


def test_broken_and_other_xml_files_are_noted(tmp_path: Path) -> None:
    write(tmp_path / "1.xml", make_voc(("ok", 1, 11, 20, 30)))
    write(tmp_path / "2.xml", make_voc()[:-5])
    write(tmp_path / "bomb.xml", BOMB)
    write(tmp_path / "workspace.xml", "<project/>")
    found = read_voc(str(tmp_path))
    assert found.images["name"].tolist() == ["1"]
    assert list_kinds(found) == {"broken": 2, "other_file": 1}
    assert "not XML" in str(found.notes[0])


@pytest.mark.parametrize("content", [BOMB, "<annotations/>", "", "\0\0", '<?xml version="1.0" encoding="no"?><a/>'])
def test_a_file_that_is_not_voc_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(TableError, match="none of 1 XML files is an annotation of Pascal VOC"):
        read_voc(write(tmp_path / "1.xml", content))


def test_an_external_entity_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    document = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    write(tmp_path / "1.xml", f"{document}<annotation><filename>&e;</filename></annotation>")
    with pytest.raises(TableError, match="has a document type") as refusal:
        read_voc(str(tmp_path))
    assert "secret'" not in str(refusal.value)


# -- YOLO

ROW = "0 0.5 0.5 0.25 0.5\n"
CORNERS_OF_ROW = (0.375, 0.25, 0.625, 0.75)


def write_yolo(folder: Path, yaml: str | None = "names: [ok, face]\n", **files: str) -> str:
    """Write ``data.yaml``, and label files by their stem in ``labels/train``."""
    if yaml is not None:
        write(folder / "data.yaml", yaml)
    for name, text in files.items():
        write(folder / "labels" / "train" / f"{name}.txt", text)
    return str(folder)


@pytest.mark.parametrize("yaml", ["names: [ok, face]\n", "names: {0: ok, '1': face}\n", "names:\n  1: face\n  0: ok\n"])
def test_yolo_is_read(tmp_path: Path, yaml: str) -> None:
    folder = write_yolo(tmp_path, yaml, a=f"{ROW}1 0 0 1 1\n", empty="")
    for path in (folder, f"{folder}/data.yaml"):
        found = read_yolo(path)
        expected = [("images/train/a", "ok", *CORNERS_OF_ROW), ("images/train/a", "face", -0.5, -0.5, 0.5, 0.5)]
        assert list_boxes(found) == expected
        assert found.images["name"].tolist() == ["images/train/a", "images/train/empty"]
        assert (found.unit, found.has_endings, found.notes) == ("fractions", False, ())


@pytest.mark.parametrize(
    ("row", "yaml", "kinds"),
    [
        ("0 0.375 0.25 0.625 0.25 0.625 0.75 0.375 0.75", "", {"polygon": 1}),
        ("0 0.5 0.5 0.25 0.5 0.9", "", {"scored": 1}),
        (f"0 0.5 0.5 0.25 0.5 {'0.1 0.2 2 ' * 21}", "", {}),
        (f"0 0.5 0.5 0.25 0.5 {'0.1 0.2 ' * 21}", "kpt_shape: [21, 2]", {}),
        ("0.0 5e-1 .5 0.25 0.5", "", {}),
    ],
)
def test_yolo_rows_of_other_kinds(tmp_path: Path, row: str, yaml: str, kinds: dict[str, int]) -> None:
    found = read_yolo(write_yolo(tmp_path, f"names: [ok]\n{yaml}\n", a=row))
    assert list_boxes(found) == [("images/train/a", "ok", *CORNERS_OF_ROW)]
    assert list_kinds(found) == kinds


@pytest.mark.parametrize("row", ["ok 0.5 0.5 0.25 0.5", "0 0.5 0.5", "0", "images/a.jpg", "0.5 1 1 1 1", "nan 1 1 1 1"])
def test_a_picture_whose_yolo_rows_are_broken_is_not_annotated(tmp_path: Path, row: str) -> None:
    found = read_yolo(write_yolo(tmp_path, a=ROW, b=f"{ROW}{row}\n"))
    assert found.images["name"].tolist() == ["images/train/a"]
    assert list_kinds(found) == {"broken": 1}


def test_yolo_labels_beside_pictures_with_classes_txt(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "ok\nface\n")
    write(tmp_path / "README.txt", "not labels")
    write(tmp_path / "anna" / "1.txt", ROW)
    assert list_boxes(read_yolo(str(tmp_path))) == [("anna/1", "ok", *CORNERS_OF_ROW)]
    write(tmp_path / "labels" / "classes.txt", "ok\nface\n")
    write(tmp_path / "labels" / "train.txt", ROW)  # of the picture train.jpg
    assert [box[:2] for box in list_boxes(read_yolo(str(tmp_path)))] == [("images/train", "ok")]
    assert [box[:2] for box in list_boxes(read_yolo(str(tmp_path / "labels")))] == [("train", "ok")]


@pytest.mark.parametrize("file", ["labels/classes.txt", "train/_darknet.labels"])
def test_the_folder_of_the_label_files_may_name_the_classes(tmp_path: Path, file: str) -> None:
    write(tmp_path / file, "ok\nface\n")
    write((tmp_path / file).parent / "1.txt", f"{ROW}1 0 0 1 1\n")
    assert [box[1] for box in list_boxes(read_yolo(str(tmp_path)))] == ["ok", "face"]
    write(tmp_path / "valid" / "_darknet.labels", "ok\nface\n")
    write(tmp_path / "valid" / "classes.txt", "ok\nface\n\n")
    assert [box[1] for box in list_boxes(read_yolo(str(tmp_path)))] == ["ok", "face"]
    write(tmp_path / "valid" / "_darknet.labels", "face\nok\n")
    with pytest.raises(TableError, match="name the classes differently; pass the folder of one of them"):
        read_yolo(str(tmp_path))


def test_yolo_of_label_studio_is_not_taken_for_coco(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "ok\nface\n")
    write(tmp_path / "notes.json", {"categories": [{"id": 0, "name": "ok"}], "info": {"year": 2024}})
    write(tmp_path / "labels" / "1.txt", ROW)
    assert list_boxes(read_annotations(str(tmp_path)).annotations) == [("images/1", "ok", *CORNERS_OF_ROW)]
    (tmp_path / "classes.txt").unlink()
    assert recognise_format(str(tmp_path)) == "yolo"  # the JSON is none of COCO
    with pytest.raises(TruthError, match="the format of this file is not recognised"):
        recognise_format(str(tmp_path / "notes.json"))


def test_coco_that_lists_its_pictures_late_is_recognised(tmp_path: Path) -> None:
    made = make_coco(annotate([1, 2, 3, 4]), categories=[{"id": n, "name": "x" * 99} for n in range(1, 999)])
    file = write(tmp_path / "a.json", {key: made[key] for key in ("categories", "annotations", "images")})
    write(tmp_path / "classes.txt", "ok\n")
    write(tmp_path / "splits.txt", "1.jpg\n")  # no label file
    for path in (file, str(tmp_path)):
        assert recognise_format(path) == "coco"


def test_yolo_follows_data_yaml_elsewhere(tmp_path: Path) -> None:
    yaml = "path: ../set\ntrain: [images/train, images/more]\nval: images/val\ntest:\nnames: [ok]\n"
    write(tmp_path / "config" / "data.yaml", yaml)
    write(tmp_path / "set" / "labels" / "train" / "1.txt", ROW)
    write(tmp_path / "set" / "labels" / "val" / "2.txt", ROW)
    write(tmp_path / "set" / "labels" / "unused" / "3.txt", ROW)
    found = read_yolo(str(tmp_path / "config" / "data.yaml"))
    assert found.images["name"].tolist() == ["images/train/1", "images/val/2"]


@pytest.mark.parametrize("place", ["../../../../../../..", "/", "../secret", "/proc/images", "a\\0b/images"])
def test_data_yaml_leads_nowhere_else(tmp_path: Path, place: str) -> None:
    write(tmp_path / "secret" / "1.txt", ROW)
    folder = write_yolo(tmp_path / "set", f'train: "{place}"\nnames: [ok]\n', a=ROW)
    assert read_yolo(folder).images["name"].tolist() == ["images/train/a"]


def test_yolo_classes_need_names(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "a" / "b", None, a=ROW)
    found = read_yolo(folder)
    assert [box[1] for box in list_boxes(found)] == [""]
    assert [str(note) for note in found.notes] == ["The only class, 0, has no name, and counts as any hand."]
    write(Path(folder) / "labels" / "b.txt", "5 0.5 0.5 0.25 0.5\n")
    with pytest.raises(TableError, match=r"nothing names its classes '0', '5'; pass the data\.yaml"):
        read_yolo(folder)
    write(tmp_path / "data.yaml", "names: [ok, a, b, c, d, face]\n")  # two folders above
    assert sorted(box[1] for box in list_boxes(read_yolo(folder))) == ["face", "ok"]


@pytest.mark.parametrize("names", ["{1: ok, 2: stop}", "[ok]"])
def test_names_that_do_not_fit_the_numbers_are_refused(tmp_path: Path, names: str) -> None:
    """Those that count from 1 would give each box the class of another."""
    folder = write_yolo(tmp_path, f"names: {names}\n", a=ROW, b="1 0.5 0.5 0.25 0.5\n")
    with pytest.raises(
        TableError, match=r"nothing names the classes '[01]' of its boxes: there are names of '[01]'.*from 0"
    ):
        read_yolo(folder)


def test_names_that_yaml_takes_for_true_and_false_are_text(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, "names: [no, Yes, on, 5]\nkpt_shape: [21, 3]\n", a=ROW, b="1 0.5 0.5 0.25 0.5\n")
    assert [box[1] for box in list_boxes(read_yolo(folder))] == ["no", "Yes"]


def test_broken_rows_of_yolo_are_named_where_there_are_no_others(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, a="ok 0.5 0.5 0.25 0.5\n", b="0,0.5,0.5,0.25,0.5\n")
    with pytest.raises(TableError, match=r"no label files of YOLO, .*2 label files have rows that are not YOLO's"):
        read_yolo(folder)


def test_broken_files_of_voc_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.xml", make_voc() if name == "a" else "<annotation>")
    (note,) = read_voc(str(tmp_path)).notes
    assert str(note).startswith("2 files of XML are broken and not used, the first: 'not XML")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: 3", "names must list the names of classes, or map numbers to them"),
        ("names: [[a]]", "names must list the names of classes"),
        ("names: {ok: 0}", "names must list the names of classes"),
        ("- names", "does not describe a data set"),
        ("names: [", "not valid YAML"),
        ("? [a]\n: b", "not valid YAML"),
        (f"names: {DEEP[:100_000]}", "not valid YAML"),
        ("#" * (2**20 + 1), "larger than 1,048,576 bytes"),
        ("names: &a [b]\nx: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
    ids=lambda value: value[:20],
)
def test_a_data_yaml_that_is_none_is_refused(tmp_path: Path, yaml: str, message: str) -> None:
    write(tmp_path / "data.yaml", yaml)
    with pytest.raises(TableError, match=message):
        read_yolo(str(tmp_path))


def test_names_that_nest_references_are_not_expanded(tmp_path: Path) -> None:
    nested = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    with pytest.raises(TableError, match="names must list the names of classes"):
        read_yolo(write_yolo(tmp_path, f"a0: &a0 [x]\n{nested}names: *a29\n", a=ROW))


def test_no_label_files_of_yolo(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there are no label files of YOLO"):
        read_yolo(write_yolo(tmp_path))


# -- CVAT, HaGRID, plain JSON


def test_shapes_of_cvat_that_are_no_boxes_hide_hands(tmp_path: Path) -> None:
    shape = '<polygon label="ok" source="manual" occluded="0" points="1,1;9,1;5,9" z_order="0"/>'
    box = '<box label="ok" source="manual" occluded="0" xtl="1" ytl="2" xbr="30" ybr="40" z_order="0"/>'
    image = '<image id="{}" name="{}.jpg" width="640" height="480">{}</image>'.format
    body = f"{image(0, 'a', box)}{image(1, 'b', box + shape)}{image(2, 'c', '')}"
    file = write(tmp_path / "annotations.xml", f"<annotations><version>1.1</version>{body}</annotations>")
    found = read_cvat_annotations(file)
    assert [box[:2] for box in list_boxes(found)] == [("a.jpg", "ok"), ("b.jpg", "ok"), ("b.jpg", "")]
    assert has_no_box(list_boxes(found)[2][2:])
    assert list_kinds(found) == {"polygon": 1}


def test_a_tag_of_cvat_hides_a_hand_where_there_is_no_box(tmp_path: Path) -> None:
    box = '<box label="ok" source="manual" occluded="0" xtl="1" ytl="2" xbr="30" ybr="40" z_order="0"/>'
    image = '<image id="{}" name="{}.jpg" width="640" height="480"><tag label="stop"/>{}</image>'.format
    body = f"{image(0, 'a', box)}{image(1, 'b', '')}"
    file = write(tmp_path / "annotations.xml", f"<annotations><version>1.1</version>{body}</annotations>")
    found = read_cvat_annotations(file)
    assert [box[:2] for box in list_boxes(found)] == [("a.jpg", "ok"), ("b.jpg", "stop")]
    assert has_no_box(list_boxes(found)[1][2:])
    assert found.tags == ((0, "stop"), (1, "stop"))


def test_all_hands_of_hagrid_are_read(tmp_path: Path) -> None:
    record = {"user_id": "ann", "labels": ["ok", "no_gesture"], "bboxes": [[0, 0, 0.5, 0.5], [0.5, 0.25, 0.25, 0.5]]}
    sized = {"labels": [], "bboxes": [], "width": 64, "height": 48}
    write(tmp_path / "train" / "ok.json", {"7f3a": record, "00ff": sized, "bad": {"labels": ["ok"], "bboxes": []}})
    write(tmp_path / "export.json", {"request": {"box": "hand"}})
    found = read_boxes(str(tmp_path))
    assert list_boxes(found) == [("7f3a", "ok", 0, 0, 0.5, 0.5), ("7f3a", "no_gesture", 0.5, 0.25, 0.75, 0.75)]
    assert found.images["width"].tolist()[1] == 64
    assert list_kinds(found) == {"malformed": 1}
    assert found.notes[0].example == "ok/bad"


def test_the_shared_hagrid_annotations_are_read(shared: Path) -> None:
    found = read_boxes(shared / "frames" / "hagrid" / "hagrid_annotations")
    assert len(found.images) == 48
    assert {"ok", "no_gesture"} <= set(found.boxes["label"])


@pytest.mark.parametrize("file", ["webcam/truth.json", "two_hands/boxes.json"])
def test_the_shared_boxes_are_read(shared: Path, file: str) -> None:
    path = shared / "frames" / file
    found = read_truth_file(str(path))
    content = json.loads(path.read_text())
    assert found.images["name"].tolist() == list(content)
    assert len(found.boxes) == sum(len(frame["hands"]) for frame in content.values())
    assert found.images["width"].notna().all()
    assert found.boxes[list(CORNERS)].notna().all(axis=None)


def test_plain_json_may_have_labels_faces_and_a_size(tmp_path: Path) -> None:
    frame = {"hands": [[1, 2, 3, 4], [5, 6, 7, 8]], "labels": ["ok", "hand"], "faces": [[9, 9, 20, 20]]}
    found = read_truth_file(
        write(tmp_path / "truth.json", {"a.jpg": frame | {"size": [64, 48]}, "b.jpg": {"hands": []}})
    )
    assert [box[1:3] for box in list_boxes(found)] == [("ok", 1), ("hand", 5), ("face", 9)]
    assert found.images["height"].tolist()[0] == 48
    assert found.images["name"].tolist() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.jpg": {}}, "'a.jpg': lacks the list \"hands\""),
        ({"a.jpg": [[1, 2, 3, 4]]}, "'a.jpg': lacks the list \"hands\""),
        ({"a.jpg": {"hands": {}}}, "'a.jpg': lacks the list \"hands\""),
        ({"a.jpg": {"hands": [], "faces": 3}}, '"faces" must be a list'),
        ({"a.jpg": {"hands": [[1, 2, 3, 4]], "labels": []}}, '"labels" must be a list of one text per hand'),
        ({"a.jpg": {"hands": [[1, 2, 3, 4]], "labels": [3]}}, '"labels" must be a list of one text per hand'),
        ([], "holds a list instead of"),
        ('{"a.jpg": {"hands": []}, "a.jpg": {"hands": []}}', "'a.jpg' is there twice"),
        (DEEP, "nested too deeply"),
        ('{"a.jpg": {"hands": [[1' + "0" * 5000 + ", 2, 3, 4]]}}", "not valid JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 99 else "content",
)
def test_json_of_another_form_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_truth_file(write(tmp_path / "truth.json", content))


# -- which format it is

WRITERS: dict[str, Callable[[Path], str]] = {
    "coco": lambda folder: write(folder / "a.json", make_coco(annotate([1, 2, 3, 4]))),
    "hagrid": lambda folder: write(folder / "ok.json", {"7f": {"labels": ["ok"], "bboxes": [[0, 0, 1, 1]]}}),
    "truth.json": lambda folder: write(folder / "truth.json", {"a.jpg": {"hands": [[1, 2, 3, 4]]}}),
    "voc": lambda folder: write(folder / "1.xml", make_voc(("ok", 1, 2, 3, 4))),
    "cvat": lambda folder: write(
        folder / "annotations.xml",
        '<annotations><version>1.1</version><image name="a.jpg" width="9" height="9"><box label="ok" xtl="1" ytl="2" '
        'xbr="3" ybr="4"/></image></annotations>',
    ),
    "yolo": lambda folder: f"{write_yolo(folder, a=ROW)}/data.yaml",
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats_are_recognised(tmp_path: Path, name: str) -> None:
    assert set(WRITERS) == set(FORMATS)
    file = WRITERS[name](tmp_path / "set")
    for path in (file, str(tmp_path / "set"), f"file://{file}"):
        found, origin, is_export = read_annotations(path)
        assert not is_export
        assert [label for _, label, *_ in list_boxes(found)] == ["" if name == "truth.json" else "ok"]
        assert origin.startswith(f"{FORMATS[name].title}, ")
    assert recognise_format(file) == name
    assert len(read_annotations(file, name).annotations.boxes) == 1


def test_a_file_that_begins_with_a_mark_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(make_coco(annotate([1, 2, 3, 4]))).encode())
    assert len(read_annotations(str(tmp_path / "a.json")).annotations.boxes) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"a": 1}, "the format of this file is not recognised; pass truth_format: hagrid, coco"),
        ("a.json", "", "the format of this file is not recognised"),
        ("a.xml", BOMB, "the format of this file is not recognised"),
        ("a.jpg", "\xff\xd8", "the format of this file is not recognised"),
        ("a.zip", "PK\x03\x04", "cannot be read: File is not a zip file"),
    ],
)
def test_a_file_of_no_format_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(TruthError, match=message):
        read_annotations(write(tmp_path / name, content))


@pytest.mark.parametrize("path", ["no/such.json", "", "a\0b", "no://such/file.json"])
def test_what_cannot_be_opened_is_named(path: str) -> None:
    with pytest.raises(TruthError):
        read_annotations(path)


FRACTIONS = (0.1, 0.2, 0.4, 0.7)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", make_coco(*[annotate(list(FRACTIONS))] * 3)),
        ("a.json", {"a.jpg": {"hands": [FRACTIONS] * 3}}),
        ("a.xml", make_voc(*[("ok", *FRACTIONS)] * 3)),
        (
            "annotations.xml",
            '<annotations><version>1.1</version><image name="a.jpg" width="9" height="9">'
            + '<box label="ok" xtl="0.1" ytl="0.2" xbr="0.4" ybr="0.7"/>' * 3
            + "</image></annotations>",
        ),
    ],
)
def test_fractions_in_a_format_of_pixels_are_refused(tmp_path: Path, name: str, content: Any) -> None:
    with pytest.raises(
        TruthError, match=r"these are fractions, not pixels: the median side of its 3 boxes is 0.*multip"
    ):
        read_annotations(write(tmp_path / name, content))


def test_a_box_of_fractions_alone_is_refused_and_beside_pixels_not_used(tmp_path: Path) -> None:
    with pytest.raises(TruthError, match=r"these are fractions, not pixels: the median side of its box is 0\.5"):
        read_annotations(write(tmp_path / "a.json", make_coco(annotate(list(FRACTIONS)))))
    mixed = make_coco(annotate(list(FRACTIONS)), *[annotate([1, 2, 30, 400])] * 2)
    found = read_annotations(write(tmp_path / "a.json", mixed)).annotations
    assert found.boxes["x1"].isna().tolist() == [True, False, False]
    assert list_kinds(found) == {"other_unit": 1}


def test_percent_in_coco_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TruthError, match=r"these are percent, not pixels: the median side of its 3 boxes is 30;"):
        read_annotations(write(tmp_path / "a.json", make_coco(*[annotate([60, 50, 30, 30])] * 3)))
    made = make_coco(*[annotate([60, 50, 30, 30])] * 3, annotate([60, 50, 80, 30]))
    assert len(read_annotations(write(tmp_path / "a.json", made)).annotations.boxes) == 4


def test_a_few_small_boxes_are_not_taken_for_fractions(tmp_path: Path) -> None:
    few = make_coco(annotate([5, 6, 1, 1]), annotate([1, 1, 1, 1]))
    assert not read_annotations(write(tmp_path / "a.json", few)).annotations.boxes["x1"].isna().any()


def test_yolo_boxes_in_pixels_are_refused_or_not_used(tmp_path: Path) -> None:
    with pytest.raises(TruthError, match=r"these are pixels or percent, not fractions of the picture.*its box is 20;"):
        read_annotations(write_yolo(tmp_path, a="0 50 50 20 20\n"))
    found = read_annotations(write_yolo(tmp_path, a="0 50 50 20 20\n", b="0 0.5 0.5 0.2 0.2\n")).annotations
    assert found.boxes["x1"].isna().tolist() == [True, False]
    assert list_kinds(found) == {"other_unit": 1}


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_corners_instead_of_sizes_are_refused_in_coco(tmp_path: Path, count: int) -> None:
    file = write(tmp_path / "a.json", make_coco(*[annotate([300, 200, 520, 400])] * count))
    with pytest.raises(TruthError, match=rf"boxes are \[x1, y1, x2, y2\] instead.*{count} of {count} would leave"):
        read_annotations(file)
    leaving = make_coco(*[annotate([500, 200, 200, 100])] * count, annotate([10, 10, 100, 100]))
    assert len(read_annotations(write(tmp_path / "a.json", leaving)).annotations.boxes) == count + 1


def test_an_empty_folder_and_an_unknown_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(TruthError, match="no annotations were recognised in this folder"):
        read_annotations(str(tmp_path))
    with pytest.raises(TruthError, match="truth_format = 'coca': did you mean 'coco'"):
        read_annotations(str(tmp_path), "coca")


@pytest.mark.large
def test_memory_stays_small(tmp_path: Path) -> None:
    """A large segmentation per annotation is not kept: only what is read is."""
    polygon = [[float(number) for number in range(200)]]
    annotations = [annotate([1, 2, 3, 4], segmentation=polygon) for _ in range(20_000)]
    file = write(tmp_path / "a.json", make_coco(*annotations))
    setup = "from detectime.labels.coco import read_coco"
    megabytes, _ = measure_memory(setup, "read_coco(sys.argv[1])", file)
    assert megabytes < 3 * Path(file).stat().st_size / 1e6
