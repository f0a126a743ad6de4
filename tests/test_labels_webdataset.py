"""WebDatasets as labels: tar files and folders of pictures with ``.cls`` and ``.json`` beside them."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import buckets
import numpy as np
import pandas as pd
import pytest
from conftest import LABELS, draw_pattern, encode_image
from hypothesis import example, given
from hypothesis import strategies as st
from skips import need_extra

from detectime import runs, sources
from detectime.exports.contract import ExportConfig
from detectime.exports.export import export_run
from detectime.labels import webdataset
from detectime.labels.annotations import GROUP_KEYS
from detectime.labels.tables import TableError
from detectime.labels.webdataset.class_lists import read_list_of_classes
from detectime.labels.webdataset.members import CLASS_KEYS, MemberError, parse_class, parse_facts
from detectime.labels.webdataset.samples import find_samples
from detectime.schema import TRUTH, TRUTH_SIZE
from detectime.sources.contract import SourceError
from detectime.sources.listing import list_source

PICTURE = b"not read"
_KEYS = [
    *(*CLASS_KEYS, *GROUP_KEYS, "frame_id", "bbox", "bboxes", "boxes", "hand", "labels", "width", "height", "objects"),
    *("frame_path", "crop_x1", "crop_y1", "crop_x2", "crop_y2", "x", "y", "w", "h", "x1", "y1", "x2", "y2", "kind"),
]

Members = dict[str, Any]
"""Content by name: bytes, text, or values that are stored as JSON."""


def write_tar(path: Path, members: Members) -> Path:
    """Write a tar file of the given members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(encoded := _encode(content))
            tar.addfile(member, io.BytesIO(encoded))
    return path


def write_files(folder: Path, members: Members) -> Path:
    for name, content in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode(content))
    return folder


def _encode(content: bytes | str | dict[str, Any]) -> bytes:
    if isinstance(content, dict):
        content = json.dumps(content)
    return content.encode() if isinstance(content, str) else content


def read(place: Path, labels: Mapping[str, int] = LABELS, **settings: Any) -> pd.DataFrame:
    source = sources.open_source(str(place))
    return webdataset.read_webdataset(source, list_source(source), labels, **settings)


def list_classes(place: Path) -> list[str]:
    source = sources.open_source(str(place))
    return webdataset.list_classes(source, list_source(source))


def notes_of(table: pd.DataFrame) -> dict[str, str]:
    return {note.kind: str(note) for note in table.attrs["notes"]}


def refuse(place: Path, **settings: Any) -> str:
    with pytest.raises(TableError) as caught:
        read(place, **settings)
    return str(caught.value)


SAMPLES: Members = {
    "s/0001.jpg": PICTURE,
    "s/0001.cls": "ok",
    "s/0002.jpg": PICTURE,
    "s/0002.cls": "stop",
}


@pytest.mark.parametrize("kind", ["tar", "tars", "folder"])
def test_tars_and_folders_are_read(tmp_path: Path, kind: str) -> None:
    """One tar, a folder of tars and an unpacked folder give the same table."""
    if kind == "folder":
        place = write_files(tmp_path / "set", {f"t/{name}": content for name, content in SAMPLES.items()})
    else:
        place = write_tar(tmp_path / "set" / "t-0.tar", {f"t/{name}": content for name, content in SAMPLES.items()})
        if kind == "tars":
            place = place.parent
            write_tar(place / "t-1.tar", {"t/s/0003.png": PICTURE, "t/s/0003.cls": "like"})
    table = read(place)
    assert table["frame_path"].tolist()[:2] == ["t/s/0001.jpg", "t/s/0002.jpg"]
    assert table["class_name"].tolist()[:2] == ["ok", "stop"]
    assert table["label"].tolist()[:2] == [LABELS["ok"], LABELS["stop"]]
    assert table["on_disk"].all()
    assert table["stamp"].notna().all()
    assert table.attrs["unlisted"] == 0
    assert len(table) == 2 + (kind == "tars")


def test_no_picture_is_read(tmp_path: Path) -> None:
    """Only members with labels are asked of the source."""
    source = sources.open_source(str(write_tar(tmp_path / "a.tar", SAMPLES)))
    asked: list[str] = []

    class Watching:
        root = source.root

        def read_frames(self, paths: Any, max_bytes: int | None = None) -> Any:
            def watch() -> Any:
                for path in paths:
                    asked.append(path)
                    yield path

            return source.read_frames(watch(), max_bytes)

    webdataset.read_webdataset(Watching(), list_source(source), LABELS)  # type: ignore[arg-type]
    assert sorted(asked) == ["s/0001.cls", "s/0002.cls"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("ok", "ok", id="name"),
        pytest.param(" ok\r\n\r\n", "ok", id="blanks"),
        pytest.param(b"\xef\xbb\xbfok\n", "ok", id="BOM"),
        pytest.param("ok".encode("utf-16"), "ok", id="UTF-16"),
        pytest.param('"ok"', "ok", id="JSON text"),
        pytest.param("[4]", "ok", id="JSON list"),
        pytest.param(str(LABELS["ok"]), "ok", id="number"),
        pytest.param(f"{LABELS['ok']}.0", "ok", id="float"),
        pytest.param(f"0{LABELS['ok']}", "ok", id="leading zero"),
    ],
)
def test_forms_of_cls(tmp_path: Path, content: str | bytes, expected: str) -> None:
    """Names and numbers are understood in all spellings that tools write."""
    table = read(write_files(tmp_path, {"1.jpg": PICTURE, "1.cls": content}))
    assert table["class_name"].tolist() == [expected]


@pytest.mark.parametrize(
    "facts",
    [
        {"class_name": "ok", "label": 1},
        {"class": "ok"},
        {"label": "ok"},
        {"label": LABELS["ok"]},
        {"cls": str(LABELS["ok"])},
        {"class_name": None, "label": " ok "},
        {"label": ["ok"]},
        {"labels": ["no_gesture", "ok"], "bboxes": [[0, 0, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1]]},
    ],
)
def test_class_in_json(tmp_path: Path, facts: dict[str, Any]) -> None:
    """The class is under the first key that has one."""
    assert read(write_files(tmp_path, {"1.jpg": PICTURE, "1.json": facts}))["class_name"].tolist() == ["ok"]


def test_groups_and_numbers_of_frames_in_json(tmp_path: Path) -> None:
    """A number as user_id is text; a frame without a number has that in its name."""
    facts: list[dict[str, Any]] = [
        {"video_name": "v", "frame_id": 7},
        {"video_name": "v", "frame_id": "0009"},
        {"user_id": 17},
        {"user_id": "17", "frame_id": 3},
    ]
    members: Members = {}
    for k, each in enumerate(facts):
        members |= {f"{k}.jpg": PICTURE, f"{k}.json": {"label": "ok", **each}}
    table = read(write_tar(tmp_path / "a.tar", members))
    assert table["video_name"].tolist() == ["v", "v", "17", "17"]
    assert table["frame_id"].tolist() == [7, 9, 2, 3]
    assert table["frame_id"].dtype == "int64"


def test_groups_of_paths(tmp_path: Path) -> None:
    """Where no JSON says who is in a picture, its path does; a group that the user chose is not for the others."""
    members: Members = {}
    for name in ("anna_1", "anna_2", "ben_1", "ben_2"):
        members |= {f"{name}.jpg": PICTURE, f"{name}.cls": "ok"}
    place = write_tar(tmp_path / "a.tar", members)
    assert read(place)["video_name"].tolist() == ["anna", "anna", "ben", "ben"]
    assert read(place, group_by="file")["video_name"].nunique() == 4
    members["ben_1.json"] = {"person": "Ben"}
    table = read(write_tar(tmp_path / "b.tar", members))
    assert table["video_name"].tolist() == ["anna", "anna", "Ben", "ben"]


def test_numbers_that_count_samples_are_no_groups(tmp_path: Path) -> None:
    """Keys that count on say nothing about who is in a picture, unless the user says so."""
    members: Members = {}
    for k in range(20):
        members |= {f"{k:06}.jpg": PICTURE, f"{k:06}.cls": "ok"}
    table = read(place := write_tar(tmp_path / "a.tar", members))
    assert table["video_name"].nunique() == 20
    assert "video_name in a .json" in notes_of(table)["no_groups"]
    assert read(place, group_by="numbers")["video_name"].nunique() == 1
    times: Members = {}
    for k in range(20):
        name = f"2024-05-01 1{k // 10}-22-{k:02}"
        times |= {f"{name}.jpg": PICTURE, f"{name}.cls": "ok"}
    assert read(write_tar(tmp_path / "b.tar", times))["video_name"].nunique() == 2


def test_spellings_of_endings(tmp_path: Path) -> None:
    """Case in endings does not count, and folders may have dots."""
    table = read(write_tar(tmp_path / "a.tar", {"v1.0/A.JPG": PICTURE, "v1.0/A.CLS": "ok", "v1.0/A.Json": {}}))
    assert table["frame_path"].tolist() == ["v1.0/A.JPG"]


def test_several_pictures_are_told(tmp_path: Path) -> None:
    """Of several pictures NAME.jpg is taken, and the note names another."""
    members: Members = {"1.a.png": PICTURE, "1.jpg": PICTURE, "1.mask.png": PICTURE, "1.cls": "ok"}
    table = read(write_tar(tmp_path / "a.tar", members))
    assert table["frame_path"].tolist() == ["1.jpg"]
    assert "1.jpg, not 1.a.png" in notes_of(table)["several"]
    assert table.attrs["unlisted"] == 0


@pytest.mark.parametrize("name", ["jpg", "image.jpg", "input.jpg"])
def test_what_the_picture_is_called_says_nothing_of_its_group(name: str, tmp_path: Path) -> None:
    members: Members = {}
    for key in ("0001", "0002", "anna/1", "anna/2", "x/0004"):
        members |= {f"{key}.{name}": PICTURE, f"{key}.cls": "ok"}
    table = read(write_tar(tmp_path / "a.tar", members))
    assert table["video_name"].tolist() == ["0001", "0002", "anna", "anna", "x"]
    assert table["frame_id"].tolist() == [1, 2, 1, 2, 4]


def test_names_with_dots(tmp_path: Path) -> None:
    """Names with dots whose classes are their own are samples of their own, also one without a class."""
    members: Members = {"anna.1.jpg": PICTURE, "anna.1.cls": "ok", "anna.2.jpg": PICTURE, "anna.2.cls": "stop"}
    table = read(write_tar(tmp_path / "a.tar", members | {"anna.3.jpg": PICTURE}))
    assert table["class_name"].tolist() == ["ok", "stop"]
    assert notes_of(table)["dotted"].startswith("3 pictures")
    assert notes_of(table)["no_class"].startswith("1 picture has neither .cls nor .json")


def test_what_is_no_sample_is_told(tmp_path: Path) -> None:
    """Captions, videos, hidden files and files of other kinds are neither samples nor silently dropped."""
    more = {"s/0001.txt": "a hand", "s/0009.mp4": b"", "s/0009.cls": "ok", "README.md": "", "s/._0001.jpg": PICTURE}
    table = read(write_tar(tmp_path / "a.tar", SAMPLES | more))
    assert len(table) == 2
    assert notes_of(table)["no_picture"].startswith("1 sample has no picture")
    assert table.attrs["unlisted_names"] == ["README.md", "s/._0001.jpg"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a .cls that is empty"),
        (" \n", "a .cls that is empty"),
        ("ok\nstop", "a .cls that has several lines"),
        ('["ok", "stop"]', "a .cls that has several classes"),
        (b"\xff\xd8\xff\xe0", "a .cls that is not UTF-8"),
        (b"\0" * 20, "a .cls that is no text"),
        ("x" * 5000, "a .cls that is larger than 4,096 bytes"),
    ],
)
def test_broken_cls(tmp_path: Path, content: str | bytes, reason: str) -> None:
    """A picture whose class cannot be read is counted with the reason, and left out."""
    members: Members = SAMPLES | {"s/0003.jpg": PICTURE, "s/0003.cls": content}
    table = read(write_tar(tmp_path / "a.tar", members))
    assert len(table) == 2
    assert f"1 picture has {reason}" in notes_of(table)["no_class"]
    assert "s/0003.jpg" in notes_of(table)["no_class"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b'{"label": "ok"', "is no valid JSON"),
        ("[1, 2]", "holds a list instead of an object"),
        ("[" * 100_000, "is no valid JSON"),
        (b"\xff" * 9, "is not UTF-8"),
        ('{"label": ["ok", "stop"]}', "has several classes"),
        (b" " * (4 * 2**20 + 1), "too large"),
        ('{"label": "\\ud800"}', "has a class that is no valid text"),
    ],
)
def test_broken_json(tmp_path: Path, content: str | bytes, reason: str) -> None:
    """A JSON file that cannot be read costs the picture if there is no class beside; otherwise it is told."""
    members: Members = SAMPLES | {"s/0003.jpg": PICTURE, "s/0003.json": content, "s/0002.json": content}
    table = read(write_tar(tmp_path / "a.tar", members))
    assert table["frame_path"].tolist() == ["s/0001.jpg", "s/0002.jpg"]
    assert reason in notes_of(table)["no_class"]
    assert reason in notes_of(table)["broken_member"]


def test_few_classes_are_refused(tmp_path: Path) -> None:
    """A set of which most pictures have no class is refused with the reasons and the remedy."""
    members: Members = (
        SAMPLES | {f"s/1{k}.jpg": PICTURE for k in range(3)} | {f"s/1{k}.txt": "a hand" for k in range(3)}
    )
    message = refuse(write_tar(tmp_path / "a.tar", members))
    assert "3 of 5 pictures have no class: 3 have neither .cls nor .json (such as 's/10.jpg')" in message
    assert "a .txt is a caption" in message
    assert "labels_type: folders" in message


def test_no_sample_is_refused(tmp_path: Path) -> None:
    """A place without pictures is refused, naming what is there."""
    assert "'readme.md'" in refuse(write_files(tmp_path / "none", {"readme.md": "", "1.cls": "ok"}))
    write_tar(tmp_path / "parts" / "train" / "a.tar", SAMPLES)
    assert "such as 'train/a.tar'; give one of their folders as `images`" in refuse(tmp_path / "parts")
    write_tar(tmp_path / "parts" / "a.tar", SAMPLES)
    assert "such as 'a.tar'; set `source_type: archives`" in refuse(tmp_path / "parts")
    videos = write_tar(tmp_path / "videos.tar", {"1.MP4": b"", "1.cls": "ok"})
    assert "but videos, such as '1.MP4'; unpack them into a folder, and set `source_type: videos`" in refuse(videos)


def test_unknown_class_is_refused(tmp_path: Path) -> None:
    """A class that is no label is refused, with the one that was perhaps meant."""
    members: Members = SAMPLES | {"s/0003.jpg": PICTURE, "s/0003.cls": "OK"}
    message = refuse(write_tar(tmp_path / "a.tar", members))
    assert "'OK' (1, such as 's/0003.jpg'; did you mean 'ok'?)" in message
    assert "labels: auto" in message
    assert "classes.txt" in refuse(write_tar(tmp_path / "b.tar", {"1.jpg": PICTURE, "1.cls": "77"}))


def test_contradictions_are_refused(tmp_path: Path) -> None:
    """A class in ``.cls`` and another in ``.json`` is refused, naming the sample."""
    message = refuse(write_tar(tmp_path / "a.tar", SAMPLES | {"s/0002.json": {"label": "ok"}}))
    assert "s/0002.jpg: .cls says 'stop', .json says 'ok'" in message
    assert "classes.txt" not in message
    numbers: Members = {"1.jpg": PICTURE, "1.cls": str(LABELS["ok"]), "1.json": {"label": "stop"}}
    assert "classes.txt" in refuse(write_tar(tmp_path / "b.tar", numbers))
    numbers["1.json"] = {"label": "ok"}
    assert len(read(write_tar(tmp_path / "c.tar", numbers))) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "stop\nok\n"),
        ("classes.txt", "0 stop\n1 ok"),
        ("classes.txt", "ok: 1\nstop: 0"),
        ("meta/Classes.TXT", b"\xef\xbb\xbfstop\r\nok\r\n"),
        ("classes.json", '["stop", "ok"]'),
        ("class_to_idx.json", '{"ok": 1, "stop": 0}'),
        ("id2label.json", '{"1": "ok", "0": "stop"}'),
        ("classes.json", '{"names": ["stop", "ok"]}'),
        ("classes.json", '[{"class_name": "stop", "index": 0, "label": 9}, {"class_name": "ok", "index": 1}]'),
    ],
)
@pytest.mark.parametrize("is_beside", [False, True])
def test_numbers_of_a_list(tmp_path: Path, name: str, content: str, is_beside: bool) -> None:
    """A file says what numbers stand for, in the tar or beside it; `labels: auto` takes its names."""
    members: Members = {"1.jpg": PICTURE, "1.cls": "1", "2.jpg": PICTURE, "2.cls": "0"}
    if is_beside:
        write_files(tmp_path, {name.rpartition("/")[2]: content})
    else:
        members[name] = content
    place = write_tar(tmp_path / "a.tar", members)
    table = read(place)
    assert table["class_name"].tolist() == ["ok", "stop"]
    assert "1 -> ok" in notes_of(table)["class_numbers"] or "0 -> stop" in notes_of(table)["class_numbers"]
    assert table.attrs["unlisted"] == 0
    assert list_classes(place) == list_classes(tmp_path) == ["ok", "stop"]


def test_lists_that_disagree_are_refused(tmp_path: Path) -> None:
    """Two lists of classes must agree, and a list must be one."""
    members: Members = {"1.jpg": PICTURE, "1.cls": "0", "a/classes.txt": "ok\nstop", "b/classes.txt": "stop\nok"}
    assert "a/classes.txt; keep one" in refuse(write_tar(tmp_path / "a.tar", members))
    members = {"1.jpg": PICTURE, "1.cls": "0", "classes.json": "{"}
    assert "classes.json: this file should say" in refuse(write_tar(tmp_path / "b.tar", members))


def test_numbers_are_noted(tmp_path: Path) -> None:
    """What numbers were taken for is a note; `labels: auto` refuses them."""
    place = write_tar(tmp_path / "a.tar", {"1.jpg": PICTURE, "1.cls": str(LABELS["ok"])})
    assert f"{LABELS['ok']} -> ok" in notes_of(read(place))["class_numbers"]
    with pytest.raises(TableError, match=r"`labels: auto` needs names; put a file classes\.txt there"):
        list_classes(place)


def test_names_that_look_like_numbers(tmp_path: Path) -> None:
    """A label that is called as a number goes before the number of another."""
    place = write_tar(tmp_path / "a.tar", {"1.jpg": PICTURE, "1.cls": "1"})
    assert read(place, labels={"0": 1, "1": 0})["class_name"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"bbox": [0.25, 0.5, 0.25, 0.25]}, "[[0.25, 0.5, 0.5, 0.75]]"),
        ({"bbox": [16, 24, 16, 12], "width": 64, "height": 48}, "[[0.25, 0.5, 0.5, 0.75]]"),
        ({"hand": {"x1": 16, "y1": 24, "x2": 32, "y2": 36}, "width": 64, "height": 48}, "[[0.25, 0.5, 0.5, 0.75]]"),
        (
            {"bboxes": [[0, 0, 0.1, 0.1], [0.25, 0.5, 0.25, 0.25]], "labels": ["no_gesture", "ok"]},
            "[[0.25, 0.5, 0.5, 0.75]]",
        ),
        ({"boxes": [{"x": 0.9, "y": 0, "w": 0.5, "h": 0.5, "label": "ok"}]}, "[[0.9, 0, 1, 0.5]]"),
    ],
)
def test_boxes(tmp_path: Path, facts: dict[str, Any], expected: str) -> None:
    """Boxes of the class become truth, as fractions of the picture."""
    table = read(write_tar(tmp_path / "a.tar", {"1.jpg": PICTURE, "1.json": {"label": "ok"} | facts}))
    assert table[TRUTH].tolist() == [expected]
    assert (TRUTH_SIZE in table) == ("width" in facts)


def test_boxes_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    """Boxes in pixels without a size, and those of other classes, are notes."""
    members: Members = {"1.jpg": PICTURE, "1.json": {"label": "ok", "bbox": [16, 24, 16, 12]}}
    members |= {
        "2.jpg": PICTURE,
        "2.json": {"label": "ok", "boxes": [{"x1": 1, "y1": 2, "x2": 3, "y2": 4, "label": "no"}]},
    }
    table = read(write_tar(tmp_path / "a.tar", members))
    assert table.get(TRUTH, pd.Series([None] * 2)).isna().all()
    assert "width and height" in notes_of(table)["unused_box"]
    assert "1 picture has no box of its class" in notes_of(table)["without_box"]


def test_order_does_not_matter(tmp_path: Path) -> None:
    """The order of members changes nothing."""
    first = read(write_tar(tmp_path / "a.tar", SAMPLES))
    other = read(write_tar(tmp_path / "b.tar", dict(reversed(SAMPLES.items()))))
    pd.testing.assert_frame_equal(first, other)
    assert first.attrs["labels_sha256"] == other.attrs["labels_sha256"]
    changed = read(write_tar(tmp_path / "c.tar", SAMPLES | {"s/0002.cls": "like"}))
    assert first.attrs["labels_sha256"] != changed.attrs["labels_sha256"]


def test_recognition(tmp_path: Path) -> None:
    """Pictures beside classes are recognised; pictures beside annotations of all are not."""
    cases = {
        "tar": (SAMPLES, True),
        "one cls": ({"a/1.jpg": PICTURE, "a/2.jpg": PICTURE, "a/1.cls": "ok"}, True),
        "json": ({"1.jpg": PICTURE, "1.json": {"label": "ok"}}, True),
        "few json": ({"1.jpg": PICTURE, "2.jpg": PICTURE, "3.jpg": PICTURE, "1.json": {}}, False),
        "coco": ({"1.jpg": PICTURE, "train.json": {}}, False),
        "folders": ({"ok/1.jpg": PICTURE}, False),
    }
    for name, (members, expected) in cases.items():
        source = sources.open_source(str(write_tar(tmp_path / f"{name}.tar", members)))
        assert webdataset.is_webdataset(list_source(source)) == expected, name


@pytest.mark.extra
def test_shards_of_the_library(tmp_path: Path) -> None:
    """Shards that the library `webdataset` wrote are read, and both agree about what a sample is."""
    library = need_extra("webdataset")
    jpeg = encode_image(draw_pattern(8, 8))
    with library.ShardWriter(str(tmp_path / "%06d.tar"), maxcount=2, verbose=0) as writer:
        for k, name in enumerate(["ok", "stop", "like"]):
            facts = {"user_id": "ann", "frame_id": k, "label": name}
            writer.write({"__key__": f"part/{k:04}", "jpg": jpeg, "cls": LABELS[name], "json": facts, "txt": "a hand"})
    table = read(tmp_path)
    assert table["class_name"].tolist() == ["ok", "stop", "like"]
    assert table["video_name"].tolist() == ["ann"] * 3
    assert table["frame_id"].tolist() == [0, 1, 2]
    shards = sorted(map(str, tmp_path.glob("*.tar")))
    keys = [sample["__key__"] for sample in library.WebDataset(shards, shardshuffle=False)]
    assert keys == [path.rpartition(".")[0] for path in table["frame_path"]]


@pytest.mark.parametrize("images", ["frames", "crops"])
@pytest.mark.parametrize("has_list", [True, False])
def test_our_own_export_comes_back(sample_run: Path, tmp_path: Path, images: Any, has_list: bool) -> None:
    """Classes, groups and numbers of frames are those of the run; boxes too, of pictures that are whole frames."""
    run = runs.open_run(str(sample_run))
    export_run(run, ["webdataset"], str(tmp_path), ExportConfig(images=images))
    place = tmp_path / "webdataset"
    if not has_list:  # the positions in .cls are then understood by the JSON files
        (place / "classes.json").unlink()
    table = read(place)
    samples = pd.read_csv(place / "samples.csv")
    samples["file"] = samples["file"].str.rpartition("/")[2]
    expected = samples.set_index("file").loc[table["frame_path"]]
    for name in ("video_name", "frame_id", "class_name"):
        assert table[name].tolist() == expected[name].tolist()
    assert not {"no_class", "several"} & notes_of(table).keys()
    assert table.attrs["unlisted"] == 0
    assert list_classes(place) == sorted(table["class_name"].unique())
    if images == "crops":
        assert TRUTH not in table
        return
    boxes = np.array([json.loads(text)[0] for text in table[TRUTH]]) * [640, 480, 640, 480]
    np.testing.assert_allclose(boxes, expected[["x1", "y1", "x2", "y2"]], atol=0.01)
    assert set(table[TRUTH_SIZE]) == {"640x480"}


@pytest.mark.extra
@pytest.mark.parametrize("kind", ["tar", "tars", "files"])
def test_buckets(s3_server: str, tmp_path: Path, kind: str) -> None:
    """A tar, a folder of tars and loose files in a bucket are read as local ones are."""
    bucket = buckets.make_bucket()
    facts: Members = {f"s/{k}.json": {"user_id": "ann", "frame_id": k} for k in ("0001", "0002")}
    write_files(tmp_path / "files", SAMPLES | facts | {"classes.txt": "stop"})
    write_tar(tmp_path / "tars" / "a.tar", SAMPLES | facts)
    write_files(tmp_path / "tars", {"classes.txt": "ok\nstop"})
    write_tar(tmp_path / "tars" / "b.tar", {"t/0003.jpg": PICTURE, "t/0003.cls": "0"})
    buckets.upload(tmp_path, bucket)
    place = {"tar": "tars/b.tar", "tars": "tars", "files": "files"}[kind]
    source = sources.open_source(f"{bucket}/{place}", "archives" if kind == "tars" else None)
    table = webdataset.read_webdataset(source, list_source(source), LABELS)
    local = read(tmp_path / place)
    pd.testing.assert_frame_equal(table.drop(columns="stamp"), local.drop(columns="stamp"))
    assert len(table) == {"tar": 1, "tars": 3, "files": 2}[kind]
    assert table["class_name"].iloc[-1] == ("stop" if kind == "files" else "ok")
    assert table["stamp"].notna().all()


@pytest.mark.extra
def test_a_server_that_goes_away_is_an_error(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are not left out because a server does not answer."""
    bucket = buckets.make_bucket()
    buckets.upload(write_files(tmp_path, SAMPLES), bucket)
    source = sources.open_source(bucket)
    listing = list_source(source)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{buckets.find_free_port()}")
    need_extra("s3fs").S3FileSystem.clear_instance_cache()
    with pytest.raises(TableError, match=r"cannot be fetched.*; try again"):
        webdataset.read_webdataset(source, listing, LABELS)
    need_extra("s3fs").S3FileSystem.clear_instance_cache()


def test_samples_of_nothing(tmp_path: Path) -> None:
    """A listing that failed has no sample, and is refused with its reason."""
    listing = list_source(source := sources.open_source("/nobody/has/this"))
    assert not len(find_samples(listing).paths)
    with pytest.raises(SourceError, match="cannot be read"):
        webdataset.list_classes(source, listing)
    assert "lists nothing" in refuse(tmp_path)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["ok", "1", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)


_EXPORT = {"class_name": "ok", "frame_path": "a.jpg", "crop_x1": 0, "crop_y1": 0, "crop_x2": 4, "crop_y2": 4}


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=8))
@example(_EXPORT | {"width": 4, "height": 4, "objects": [[1, 2, 3, 4], 7, {"kind": "sample"}]})
def test_any_json_is_facts_or_a_fault(facts: dict[str, Any]) -> None:
    """Whatever a JSON file holds, facts can be stored, or it is told what is wrong."""
    try:
        found = parse_facts(json.dumps(facts).encode())
    except MemberError:
        return
    for text in (found.class_name, found.group):
        assert not isinstance(text, str) or text.encode()
    assert found.frame_id is None or -(2**63) < found.frame_id < 2**63
    assert all(len(box.numbers) == 4 for box in found.boxes)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_class_or_a_fault(content: bytes) -> None:
    """Whatever a ``.cls`` or a list of classes holds, it is understood, or it is told what is wrong."""
    for parse in (parse_class, parse_facts, lambda data: read_list_of_classes(data, "classes.json")):
        with contextlib.suppress(MemberError):
            parse(content)
    with contextlib.suppress(MemberError):
        assert read_list_of_classes(content, "classes.txt")
