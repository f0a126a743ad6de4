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
from detectime.labels import frame_table, hagrid
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
            "lists": {"bboxes": [BOX], "labels": [], "user_id": "ann"},
            "none": None,
            "keys": {"bboxes": [BOX]},
            "other": {"meta": 1},
        },
        fist={"x": record("fist")},
    )
    table = read(tmp_path, ["stop/good.jpg"])
    assert table["frame_path"].tolist() == ["stop/good.jpg", "stop/over.jpg", "stop/without.jpg"]
    assert table["on_disk"].tolist() == [True, False, False]
    assert json.loads(table[schema.TRUTH][1]) == [[0, 0.5, 0.4, 1]]
    found = [(note.kind, note.count, note.example) for note in table.attrs["notes"]]
    assert found == [
        ("malformed", 10, "stop/outside"),
        ("clipped", 1, "stop/over"),
        ("without_box", 1, "stop/without"),
        ("absent_class", 5, "dislike"),
        ("other_class", 1, "fist"),
    ]
    texts = [str(note) for note in table.attrs["notes"]]
    assert texts[0] == "10 records are malformed and left out (the first: 'stop/outside')"
    assert texts[1] == "1 image has a box that extends past its edge; it is clipped (the first: 'stop/over')"


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
        (lambda f: annotate(f).joinpath("ok.json").write_text('{"a": {'), r"ok.json: not valid JSON"),
        (lambda f: annotate(f).joinpath("ok.json").write_bytes(b"\xff\xfe\x00"), r"ok.json: not valid JSON"),
        (lambda f: annotate(f, ok=[1]), r"ok.json: not annotations of HaGRID"),
        (lambda f: annotate(f, ok={"a": {"user_id": 1}}), r"none of the records can be used; the first: 'ok/a'"),
        (lambda f: annotate(f, ok={"a": record("ok")}, like={"a": record("like")}), r"1 images have several records"),
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


@pytest.mark.slow
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
