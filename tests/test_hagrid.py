"""HaGRID's annotations as labels, in the layouts of its editions."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import LABELS, make_detection_row, make_detections_table
from faults import make_config

from detectime import evaluation, pairing, schema, sources
from detectime.config import HAGRID_CLASSES
from detectime.errors import ConfigError
from detectime.labels import frame_table, hagrid, hagrid_boxes
from detectime.labels.tables import TableError
from detectime.sources.listing import Listing

BOX = [0.25, 0.5, 0.25, 0.25]


def record(label: str, user: Any = "ann", box: Any = BOX, **more: Any) -> dict[str, Any]:
    """Make a record of a gesture, with a second hand that shows none."""
    return {"bboxes": [[0, 0, 0.1, 0.1], box], "labels": ["no_gesture", label], "user_id": user, **more}


def annotate(folder: Path, **classes: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in classes.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    return folder


def read(
    folder: Path,
    names: Iterable[str] = (),
    classes: dict[str, str] = HAGRID_CLASSES,
    labels: Mapping[str, int] = LABELS,
) -> pd.DataFrame:
    return hagrid.read_annotations(folder, listing(*(name.encode() for name in names)), classes, labels)


def listing(*names: bytes) -> Listing:
    """List files; the stamp of each is its position."""
    return Listing(pa.array(names, pa.binary()), pa.array([str(k) for k in range(len(names))]))


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        pytest.param("peace/{}.jpg", ("",), id="v2"),
        pytest.param("train_val_peace/{}.jpg", ("train", "val"), id="v1"),
        pytest.param("hagrid-512/peace/{}.jpeg", ("train", "test"), id="512 px"),
        pytest.param("{}.jpg", ("",), id="no folders"),
    ],
)
def test_layouts(pattern: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    for k, part in enumerate(parts):
        annotate(tmp_path / part, peace={f"a{k}": record("peace"), f"b{k}": record("peace", "bob")})
    names = [pattern.format(f"{image}{k}") for k in range(len(parts)) for image in "ab"]
    table = read(tmp_path, [*names, "other/c.jpg"])
    assert sorted(table["frame_path"]) == sorted(names)
    assert table["on_disk"].all()
    assert set(table["class_name"]) == {"victory"}
    assert table.groupby("video_name")["frame_id"].agg(list).to_dict() == {
        user: list(range(len(parts))) for user in ("ann", "bob")
    }
    assert set(table[schema.TRUTH]) == {"[[0.25, 0.5, 0.5, 0.75]]"}
    assert {key: table.attrs[key] for key in ("duplicates", "unlisted", "unlisted_names")} == {
        "duplicates": 0,
        "unlisted": 1,
        "unlisted_names": ["other/c.jpg"],
    }


def test_an_image_whose_path_is_not_utf8_is_missing(tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a": record("ok"), "b": record("ok")})
    table = hagrid.read_annotations(tmp_path, listing(b"\xff/ok/a.jpg", b"ok/b.jpg"), HAGRID_CLASSES, {"ok": 4})
    assert table["frame_path"].tolist() == ["ok/a.jpg", "ok/b.jpg"]
    assert table["on_disk"].tolist() == [False, True]
    assert table["stamp"].isna().tolist() == [True, False]


def test_defects_are_noted(tmp_path: Path) -> None:
    annotate(
        tmp_path,
        stop={
            "good": record("stop"),
            "over": record("stop", box=[-0.1, 0.5, 0.5, 0.6]),
            "without": {"bboxes": [BOX], "labels": ["no_gesture"], "user_id": "ann"},
            "outside": record("stop", box=[1.5, 0, 0.2, 0.2]),
            "nan": record("stop", box=[float("nan")] * 4),
            "short": record("stop", box=[1, 2, 3]),
            "text": record("stop", box=["a", "b", "c", "d"]),
            "nobody": record("stop", ""),
            "number": record("stop", 5),
            "flat": record("stop", box=[0.5, 0.5, 0, 0.1]),
            "lists": {"bboxes": [BOX], "labels": [], "user_id": "ann"},
            "kind": {"bboxes": [BOX], "labels": [3], "user_id": "ann"},
            "one": {"bboxes": BOX, "labels": "stop", "user_id": "ann"},
            "huge": record("stop", box=[0.5, 0.5, 10**400, 0.1]),
            "half": record("stop", "\ud800"),
            "true": record("stop", True),
            "": record("stop"),
            "deeper": {"x": record("stop")},
            "none": None,
            "keys": {"bboxes": [BOX]},
            "other": {"meta": 1},
        },
        fist={"x": record("fist")},
    )
    table = read(tmp_path, ["stop/good.jpg"])
    assert table["frame_path"].tolist() == ["stop/good.jpg", "stop/over.jpg", "stop/without.jpg", "stop/number.jpg"]
    assert table["on_disk"].tolist() == [True, False, False, False]
    assert table["video_name"].tolist()[3] == "5"
    assert json.loads(table[schema.TRUTH][1]) == [[0, 0.5, 0.4, 1]]
    texts = [str(note) for note in table.attrs["notes"]]
    left_out = {text.split(" left out: ")[1]: text[0] for text in texts if " left out: " in text}
    assert left_out == {
        "a box lies outside the image (the first: 'stop/outside')": "1",
        "a box holds NaN or an infinite number (the first: 'stop/nan')": "2",
        "a box is not four numbers (the first: 'stop/short')": "2",
        "user_id is missing or empty (the first: 'stop/nobody')": "2",
        "a box has a width or height of 0 or less (the first: 'stop/flat')": "1",
        "labels and bboxes differ in length (the first: 'stop/lists')": "1",
        "a label is not text (the first: 'stop/kind')": "1",
        "labels is missing or not a list (the first: 'stop/one')": "1",
        "its name or user_id holds half a character (the first: 'stop/half')": "1",
        "user_id is neither text nor a number (the first: 'stop/true')": "1",
        "the name of the image is empty (the first: 'stop/')": "1",
        "it holds records itself (the first: 'stop/deeper')": "1",
        "it is not an object with user_id, labels and bboxes (the first: 'stop/none')": "2",
    }
    found = [(note.kind, note.count, note.example) for note in table.attrs["notes"] if note.kind != "malformed"]
    assert found == [
        ("clipped", 1, "stop/over"),
        ("without_box", 1, "stop/without"),
        ("numbered", 1, "stop/number"),
        ("absent_class", 5, "dislike"),
        ("other_class", 1, "fist"),
    ]
    assert "1 image has a box that extends past the edge; it is clipped (the first: 'stop/over')" in texts


def list_kinds(table: pd.DataFrame) -> dict[str, int]:
    return {note.kind: note.count for note in table.attrs["notes"] if note.kind != "absent_class"}


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (None, "user_id is missing or empty in 2 .*'ok/a'.*; add the person as `user_id`"),
        (["ann"], "user_id is neither text nor a number in 2"),
        (" ", "user_id is missing or empty in 2"),
        (float("nan"), "user_id is missing or empty in 2"),
    ],
)
def test_records_that_cannot_be_used_are_refused_by_their_reason(user: Any, reason: str, tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a": record("ok", user), "b": record("ok", user)})
    with pytest.raises(TableError, match=f"none of the records can be used: {reason}"):
        read(tmp_path)


def test_a_number_as_user_id_is_its_digits(tmp_path: Path) -> None:
    users = {"a": 17, "b": "17", "c": 17.0, "d": 1.5}
    annotate(tmp_path, ok={name: record("ok", user) for name, user in users.items()})
    table = read(tmp_path)
    assert table["video_name"].tolist() == ["17", "17", "17", "1.5"]
    assert table["frame_id"].tolist() == [0, 1, 2, 0]
    assert list_kinds(table) == {"numbered": 3}


def test_an_image_twice_in_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "ok.json").write_text(f'{{"a": {json.dumps(record("ok", "bob"))}, "a": {json.dumps(record("ok"))}}}')
    table = read(tmp_path)
    assert table["video_name"].tolist() == ["ann"]
    assert list_kinds(table) == {"twice": 1}


# -- the unit of boxes

PIXELS = [160, 240, 160, 120]  # `BOX` in an image of 640 x 480


def test_boxes_in_pixels_are_divided_by_the_stated_size(tmp_path: Path) -> None:
    size = {"width": 640, "height": 480.0}
    records = {name: record("ok", box=PIXELS, **size) for name in "abc"}
    records |= {"bare": record("ok", box=PIXELS), "share": record("ok", box=[0.5, 0.5, 1, 1], **size)}
    annotate(tmp_path, ok=records, like={"d": record("like")})
    table = read(tmp_path)
    assert table[schema.TRUTH].tolist() == ["[[0.25, 0.5, 0.5, 0.75]]"] * 4  # decided for each file
    assert table[schema.TRUTH_SIZE].dropna().tolist() == ["640x480"] * 3
    assert list_kinds(table) == {"malformed": 1, "pixels": 1}
    left_out = {str(note.text) for note in table.attrs["notes"] if note.kind == "malformed"}
    assert left_out == {
        "record is left out: boxes are in pixels or percent, and the width and height of the image are not stated",
        "record is left out: a box is in pixels and most of its file are fractions, or the other way round",
    }


def test_boxes_in_pixels_without_a_size_are_refused(tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a": record("ok", box=[100, 100, 50, 50])})
    with pytest.raises(
        TableError, match=r"are in pixels or percent, .* not stated in 1 .*'ok/a'.*; write.* percent by 100"
    ):
        read(tmp_path)


def test_pixels_that_were_not_divided_are_not_said_to_be(tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a": record("ok", box=[100, 100, 50, 50])}, like={"d": record("like")})
    assert list_kinds(read(tmp_path)) == {"malformed": 1}


def test_records_with_labels_of_other_classes_are_told(tmp_path: Path) -> None:
    none = record("no_gesture")  # of another hand
    annotate(tmp_path, ok={"a": record("like"), "b": record("OK"), "c": record("ok"), "d": none})
    table = read(tmp_path)
    assert table["class_name"].tolist() == ["ok"] * 4
    note = next(note for note in table.attrs["notes"] if note.kind == "other_label")
    assert (note.count, note.example) == (2, "ok/a")


def test_a_box_in_pixels_among_fractions_is_left_out(tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a": record("ok"), "b": record("ok"), "c": record("ok", box=PIXELS, width=640, height=480)})
    table = read(tmp_path)
    assert len(table) == 2
    assert "a box is in pixels and most of its file are fractions" in str(table.attrs["notes"][0])


@pytest.mark.parametrize(
    ("boxes", "size", "words"),
    [
        ([[0.5, 0.5, 0.7, 0.8], [0.2, 0.4, 0.4, 0.7], [0.6, 0.1, 0.8, 0.3]], {}, r"\[x1, y1, x2, y2\] instead of"),
        (
            [[320, 240, 440, 380], [400, 200, 500, 300], [128, 100, 256, 240]],
            {"width": 640, "height": 480},
            r"\[x1, y1, x2, y2\] instead of .* 2 of 3 would leave their image; subtract x1 from x2",
        ),
        (
            [[25, 50, 25, 25], [10, 20, 20, 30], [60, 60, 10, 20]],
            {"width": 640, "height": 480},
            "these boxes are percent",
        ),
    ],
    ids=["corners", "corners in pixels", "percent"],
)
def test_numbers_that_mean_something_else_are_refused(
    boxes: list[list[float]], size: dict[str, int], words: str, tmp_path: Path
) -> None:
    records = [{"bboxes": [box], "labels": ["ok"], "user_id": "ann", **size} for box in boxes]
    annotate(tmp_path, ok={str(k): record for k, record in enumerate(records)})
    with pytest.raises(TableError, match=rf"ok.json: these boxes are .*{words}|ok.json: {words}"):
        read(tmp_path)
    with pytest.raises(TableError, match=words):
        hagrid_boxes.read_boxes(tmp_path)


# -- keys


@pytest.mark.parametrize(
    ("keys", "names", "found"),
    [
        (["a.jpg", "b.JPEG", "c.png"], ["ok/a.jpg", "ok/b.jpg", "x/c.PNG"], ["ok/a.jpg", "ok/b.jpg", "x/c.PNG"]),
        (["a.jpg", "b"], ["ok/a.jpg.png", "ok/a.jpg", "b.jpg"], ["ok/a.jpg.png", "b.jpg"]),  # the exact name first
        (["train/ok/a.jpg", "ok\\b.jpg", "./c"], ["ok/a.jpg", "ok/b.jpg", "c.jpg"], ["ok/a.jpg", "ok/b.jpg", "c.jpg"]),
        (["ann/1.jpg", "bob/1.jpg"], ["x/bob/1.jpg", "x/ann/1.jpg"], ["x/ann/1.jpg", "x/bob/1.jpg"]),
        (["ann/1", "bob/1", "cat/1"], ["bob/1.jpg", "ann/1.png"], ["ann/1.png", "bob/1.jpg", "ok/cat/1.jpg"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["a.jpg"], ["like/a.jpg", "ok/a.jpg"], ["ok/a.jpg"]),
        (["like/a.jpg"], ["like/a.jpg", "ok/a.jpg"], ["like/a.jpg"]),
        (["v1.5", "1.2"], ["v1.5.jpg", "1.2.png"], ["v1.5.jpg", "1.2.png"]),
        (["gone.jpg"], ["a.jpg"], ["ok/gone.jpg"]),
        (
            ["Zo\u00eb", "ann ", " bob.jpg"],
            ["Zoe\u0308.jpg", "ann.jpg", "bob.jpg"],
            ["Zoe\u0308.jpg", "ann.jpg", "bob.jpg"],
        ),
        (["ann "], ["1/ann.jpg", "2/ann.jpg"], ["ok/ann .jpg"]),  # which of them is not known
    ],
)
def test_keys_that_are_paths_or_file_names_are_understood(
    keys: list[str], names: list[str], found: list[str], tmp_path: Path
) -> None:
    annotate(tmp_path, ok={key: record("ok") for key in keys})
    table = read(tmp_path, names)
    assert table["frame_path"].tolist() == found
    assert table["on_disk"].tolist() == [path in names for path in found]
    assert table["frame_path"].is_unique


def test_shortened_keys_are_told_and_both_forms_are_one_image(tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a": record("ok"), "a.jpg": record("ok", box=[0, 0, 0.5, 0.5]), "ok/a.png": record("ok")})
    table = read(tmp_path, ["ok/a.jpg"])
    assert table["frame_path"].tolist() == ["ok/a.jpg"]
    assert table.attrs["duplicates"] == 2
    assert list_kinds(table) == {"shortened": 2, "editions": 1}
    annotate(tmp_path, ok={"a": record("ok"), "a.jpg": record("ok", "bob")})
    with pytest.raises(
        TableError, match=r"1 image has several records that differ in class or user_id: 'a'.*user_id 'bob'"
    ):
        read(tmp_path, ["ok/a.jpg"])


def test_several_images_that_a_key_may_mean_are_refused(tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a.jpg": record("ok")})
    with pytest.raises(TableError, match=r"2 images share their name with another: '1/a.jpg', '2/a.jpg'; set `images`"):
        read(tmp_path, ["1/a.jpg", "2/a.jpg"])


# -- files


def test_editions_that_disagree_about_a_box_are_told(tmp_path: Path) -> None:
    annotate(tmp_path / "train", ok={"a": record("ok"), "b": record("ok")})
    annotate(tmp_path / "ann_old", ok={"a": record("ok", box=[0, 0, 0.1, 0.1]), "b": record("ok")})
    table = read(tmp_path)
    assert table[schema.TRUTH].tolist() == ["[[0, 0, 0.1, 0.1]]", "[[0.25, 0.5, 0.5, 0.75]]"]
    (note,) = [note for note in table.attrs["notes"] if note.kind == "editions"]
    assert (note.count, note.example) == (1, "a")
    assert "the record of ann_old/ok.json is used, not that of train/ok.json; to use that, take ann_old" in note.text


def test_files_without_records_are_told(tmp_path: Path) -> None:
    annotate(tmp_path, ok={}, like={"a": record("like")})
    assert list_kinds(read(tmp_path)) == {"without_records": 1}
    annotate(tmp_path, like={})
    with pytest.raises(TableError, match=r"can be used: there are none in like.json, ok.json"):
        read(tmp_path)


COCO: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "ok.json: the file is empty"),
    "zeros": (bytes(99), "ok.json: the file holds nothing but zeros"),
    "gzip": (b"\x1f\x8b\x08\0", "compressed by gzip; decompress it"),
    "page": (b"<!DOCTYPE html><html>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
    "lines": (b'{"a": {"labels": []}}\n{"b": {"labels": []}}\n', "one JSON value per line"),
    "csv": (b"image,label\na,ok\n", "a csv"),
    "coco": (json.dumps(COCO).encode(), "this is COCO's annotations; set data.labels_type to `coco`"),
    "list": (json.dumps([record("ok")]).encode(), "this is a list"),
    "plain list": (b"[1]", "this is a list of 1 value"),
    "one record": (json.dumps(record("ok")).encode(), "this is a single record"),
    "text": (b'"ok"', "this is a text"),
    "truth": (b'{"a.jpg": {"hands": [[1, 2, 3, 4]]}}', "this is annotated hands as a truth.json has them"),
    "wrapped": (json.dumps({"train": {"a": record("ok")}}).encode(), "it holds records itself .*; move the records"),
    "deep": (b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    content, words = OTHER_FILES[name]
    (tmp_path / "ok.json").write_bytes(content)
    with pytest.raises(TableError, match=words):
        read(tmp_path)
    with pytest.raises(TableError, match=words):
        hagrid_boxes.read_boxes(tmp_path / "ok.json")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "it is empty; set `labels`"),
        (["readme.txt"], r"it holds readme.txt and no .json file"),
        (["annotations.zip"], r"but the archive annotations.zip; unpack it"),
        (["notes.json"], r"but notes.json; set `labels`"),
    ],
)
def test_a_folder_without_annotations_is_told(names: list[str], words: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(TableError, match=f"this folder of labels has no stop.json.*{words}"):
        read(tmp_path)
    with pytest.raises(TableError, match=words):
        hagrid.list_classes(tmp_path)


def test_classes_are_listed_from_files_with_records(tmp_path: Path) -> None:
    annotate(tmp_path / "train", ok={"a": record("ok")}, fist={"b": record("fist")}, about={"version": 2}, like={})
    annotate(tmp_path / "val", ok={"c": record("ok")})
    assert hagrid.list_classes(tmp_path) == ["fist", "ok"]
    assert read(tmp_path / "val" / "ok.json")["frame_path"].tolist() == ["ok/c.jpg"]  # one file
    assert hagrid.hash_annotations(tmp_path / "val" / "ok.json", HAGRID_CLASSES, HAGRID_CLASSES.values()) == (
        hagrid.hash_annotations(tmp_path / "val", HAGRID_CLASSES, HAGRID_CLASSES.values())
    )


def test_all_boxes_are_read_like_those_of_the_labels(tmp_path: Path) -> None:
    size = {"width": 640, "height": 480}
    records = {f"{name}.jpg": record("ok", box=PIXELS, **size) for name in "abc"} | {"d": record("ok", box=PIXELS)}
    for entry in records.values():
        entry["bboxes"][0] = [0, 0, 64, 48]
    annotate(tmp_path, ok=records)
    found = hagrid_boxes.read_boxes(tmp_path)
    assert found.images["name"].tolist() == ["a", "b", "c"]
    assert found.boxes[["x1", "y1", "x2", "y2"]].to_numpy()[:2].tolist() == [[0, 0, 0.1, 0.1], [0.25, 0.5, 0.5, 0.75]]
    assert {note.kind: note.count for note in found.notes} == {"pixels": 1, "malformed": 1}


def test_only_classes_mapped_to_a_label_are_read(tmp_path: Path) -> None:
    annotate(tmp_path, stop={"a": record("stop")}, stop_inverted={"b": record("stop_inverted")}, ok={"c": record("ok")})
    classes = {"stop": "stop", "stop_inverted": "stop", "ok": "fine"}
    table = read(tmp_path, classes=classes, labels={"stop": 1})
    assert table["frame_path"].tolist() == ["stop/a.jpg", "stop_inverted/b.jpg"]
    assert set(table["class_name"]) == {"stop"}
    with pytest.raises(ConfigError, match=r"hagrid_classes.ok: 'fine' is not a label; .*accepted: no_gesture"):
        make_config(hagrid_classes=classes)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda f: annotate(f, fist={"a": record("fist")}),
            r"this folder of labels has no stop.json, .*data.hagrid_classes",
        ),
        (lambda f: annotate(f).joinpath("ok.json").write_text('{"a": {'), r"ok.json: not valid JSON, .*; download"),
        (lambda f: annotate(f).joinpath("ok.json").write_bytes(b"\xff\xfe\x00"), r"ok.json: not valid JSON"),
        (lambda f: annotate(f, ok=[1]), r"ok.json: not annotations of HaGRID"),
        (
            lambda f: annotate(f, ok={"a": {"user_id": 1}}),
            r"none of the records can be used: labels is missing .*'ok/a'",
        ),
        (lambda f: annotate(f, ok={"a": record("ok")}, like={"a": record("like")}), r"1 image has several records"),
    ],
)
def test_invalid_annotations_are_refused(make: Any, reason: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(TableError, match=reason):
        read(tmp_path)


def test_repeated_records_are_dropped(tmp_path: Path) -> None:
    for part in ("train", "val"):
        annotate(tmp_path / part, ok={"a": record("ok")})
    table = read(tmp_path)
    assert (len(table), table.attrs["duplicates"], table.attrs["first_duplicate"]) == (1, 1, "a")


def test_the_sha256_covers_the_files_that_are_read(tmp_path: Path) -> None:
    annotate(tmp_path / "val", ok={"a": record("ok")})
    annotate(tmp_path / "train", ok={"b": record("ok")}, fist={"c": record("fist")})
    sha256 = read(tmp_path).attrs["labels_sha256"]
    lines = [
        f"{part}/ok.json {hashlib.sha256((tmp_path / part / 'ok.json').read_bytes()).hexdigest()}\n"
        for part in ("train", "val")
    ]
    assert sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert hagrid.hash_annotations(tmp_path, HAGRID_CLASSES, HAGRID_CLASSES.values()) == sha256
    annotate(tmp_path / "train", fist={"d": record("fist")})  # is not read
    assert hagrid.hash_annotations(tmp_path, HAGRID_CLASSES, HAGRID_CLASSES.values()) == sha256
    annotate(tmp_path / "train", ok={"d": record("ok")})
    assert hagrid.hash_annotations(tmp_path, HAGRID_CLASSES, HAGRID_CLASSES.values()) != sha256


def test_an_image_in_the_folder_of_its_class_is_preferred(tmp_path: Path) -> None:
    annotate(tmp_path, ok={"a": record("ok")})
    table = read(tmp_path, ["like/a.jpg", "ok/a.jpg"])
    assert table[["frame_path", "stamp"]].to_numpy().tolist() == [["ok/a.jpg", "1"]]
    with pytest.raises(
        TableError, match=r"2 images share their .*'512/ok/a.jpg', 'ok/a.jpg'; set `images` to a folder"
    ):
        read(tmp_path, ["512/ok/a.jpg", "ok/a.jpg"])


def test_the_boxes_are_used_by_the_evaluation(tmp_path: Path) -> None:
    labels = annotate(
        tmp_path / "labels", ok={"a": record("ok"), "b": record("ok"), "c": record("ok", box=[0, 0, 1, 1])}
    )
    for name in "ab":
        (tmp_path / "images" / "ok").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "ok" / f"{name}.jpg").touch()
    config = make_config(images=str(tmp_path / "images"), labels=str(labels))
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    assert table["label"].tolist() == [4] * 3
    hand = (100, 100, 200, 150)
    found = make_detections_table(
        make_detection_row("ok/a.jpg", [(100, 0, 200, 90)], [hand], size=(400, 200)),
        make_detection_row("ok/b.jpg", size=(400, 200)),
        make_detection_row("ok/c.jpg", outcome="missing"),
    )
    samples = pairing.pair_frames(table, found, config.pairing)
    truth = evaluation.extract_truth(samples)
    assert truth.to_numpy().tolist() == [["ok/a.jpg", *hand], ["ok/b.jpg", *hand]]
    score = evaluation.score_samples(samples, truth).loc["all"]
    assert score[["frames", "samples", "correct"]].tolist() == [2, 1, 1]
    plain = samples.drop(columns=schema.TRUTH)
    assert evaluation.score_samples(plain, evaluation.extract_truth(plain)).loc["all", "frames"] == 0
    with pytest.raises(ValueError, match="true_hands: a value is not a list of boxes"):
        evaluation.extract_truth(samples.assign(true_hands="left"))


@pytest.mark.large
@pytest.mark.parametrize("pattern", ["{}/{}.jpg", "train_val_{}/{}.jpg"])
def test_140_000_records_are_read(pattern: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = []
    for part in ("train", "val"):
        for name in HAGRID_CLASSES:
            images = [str(uuid.UUID(bytes=random.bytes(16))) for _ in range(11_667)]
            landmarks = random.random((21, 2)).tolist()
            records = {i: record(name, f"{random.integers(30_000):064x}", landmarks=[landmarks]) for i in images}
            annotate(tmp_path / part, **{name: records})
            names += [pattern.format(name, image) for image in images]
    table = read(tmp_path, names)
    assert table["on_disk"].all()
    assert len(table) == len(names) == 140_004
