"""Faces that are known: from the organisers' JSON and from another run, and what is refused before work starts."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import LABELS, Box, detected, detections, encode, looked_at, make_worker, pattern, read_image
from faults import Instant, names, settings, table_of
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from detectime import outcomes, paths, runs
from detectime.config import DetectionConfig
from detectime.detection import run, shards
from detectime.detection.manifest import RunError
from detectime.detectors import face_cache
from detectime.detectors.contract import UnknownFrameError
from detectime.detectors.face_cache import FaceCache
from detectime.detectors.registry import choose_detectors
from detectime.errors import ConfigError
from detectime.images import shrink_image
from detectime.labels import frame_table
from detectime.schema import DETECTIONS_FILE
from detectime.sources.folder import FolderSource
from detectime.storage import name_index
from detectime.storage import store as stores

SAMPLE = paths.SAMPLE / "TRAIN_DATA"


@pytest.fixture(autouse=True)
def own_tables(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tables put into a folder of the test, also by its workers."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(tempfile, "tempdir", None)
    name_index._made_once.cache_clear()


def cached(path: Path, **parameters: Any) -> DetectionConfig:
    return DetectionConfig(detector_type="face_cache", face_cache=str(path), **parameters)


def opened(path: Path, **parameters: Any) -> FaceCache:
    return face_cache.build(cached(path, **parameters), "cpu")


def check(config: DetectionConfig) -> None:
    """Refuse a cache as a run does before it starts."""
    choose_detectors(config).check()


def write(path: Path, rows: object) -> Path:
    path.write_text(json.dumps(rows))
    return path


def write_run(folder: Path, *rows: Mapping[str, Any], name: str = DETECTIONS_FILE) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(detections(*rows), folder / name)
    return folder / name


def row(frame_path: str, *box: object) -> dict[str, Any]:
    return {"frame_path": frame_path, "bbox_a": list(box) or None}


# -- what is known


def test_boxes_of_the_json_are_the_faces(tmp_path: Path) -> None:
    rows = [row("v/ü.jpg", 10, 20.5, 30, 40), row("v/none.jpg"), row("a.jpg", -5, 400, 100, 100)]
    rows += [row("v/ü.jpg", 10, 20.5, 30, 40), row("far.jpg", 700, 0, 10, 10), row("flat.jpg", 5, 5, 0, 9)]
    known = opened(write(tmp_path / "faces.json", rows), face_confidence=1.0)
    expected: dict[str, list[Box]] = {
        "v/ü.jpg": [(10, 20.5, 40, 60.5)],
        "v/none.jpg": [],
        "a.jpg": [(0, 400, 95, 480)],
        "far.jpg": [],
        "flat.jpg": [],
    }
    assert len(known.known.rows) == len(expected)
    for name, boxes in expected.items():
        found = known.faces_of(name, 640, 480)
        np.testing.assert_array_equal(found.boxes, np.array(boxes, np.float32).reshape(-1, 4))
        np.testing.assert_array_equal(found.scores, np.ones(len(boxes), np.float32))


def test_faces_of_a_run_have_its_scores(tmp_path: Path) -> None:
    first = looked_at("b.jpg") | {"faces": [detected((1, 2, 3, 4), score=0.9), detected((5, 6, 7, 8), score=0.5)]}
    rows = [first, looked_at("a.jpg"), looked_at("gone.jpg", outcome="missing"), looked_at("c.jpg", [(0, 0, 9, 9)])]
    write_run(tmp_path, *rows)
    for path, confidence, count in ((tmp_path, 0.4, 2), (tmp_path / DETECTIONS_FILE, 0.6, 1), (tmp_path, 0.95, 0)):
        known = opened(path, face_confidence=confidence)
        found = known.faces_of("b.jpg", 640, 480)
        np.testing.assert_allclose(found.boxes, np.array([[1, 2, 3, 4], [5, 6, 7, 8]])[:count])
        np.testing.assert_allclose(found.scores, [0.9, 0.5][:count])
        assert len(known.faces_of("a.jpg", 640, 480)) == 0
        assert len(known.known.rows) == 3
        with pytest.raises(UnknownFrameError, match="the face cache has no row for this frame"):
            known.faces_of("gone.jpg", 640, 480)


def test_the_content_says_what_a_file_is(tmp_path: Path) -> None:
    assert opened(write_run(tmp_path, looked_at("a.jpg", [(0, 0, 9, 9)]), name="faces.json")).knows("a.jpg")


def test_one_of_several_columns(tmp_path: Path) -> None:
    rows = [{"frame_path": "a.jpg", "bbox_a": [0, 0, 5, 5], "bbox_b": None, "label": 1}]
    path = write(tmp_path / "faces.json", rows)
    assert len(opened(path, face_cache_column="bbox_a").faces_of("a.jpg", 9, 9)) == 1
    assert len(opened(path, face_cache_column="bbox_b").faces_of("a.jpg", 9, 9)) == 0


@effort(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    rows=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
        st.none() | st.tuples(*[st.floats(-50, 50, width=32)] * 2, *[st.floats(0, 99, width=32)] * 2),
        min_size=1,
        max_size=30,
    ),
    block=st.integers(1, 400),
    indent=st.none() | st.integers(0, 3),
)
def test_json_in_blocks_is_read_as_in_one(
    rows: dict[str, Any], block: int, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [{"bbox_a": box and list(box), "frame_path": name} for name, box in rows.items()]
    (tmp_path / "faces.json").write_text(json.dumps(listed, indent=indent, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(face_cache, "_BLOCK", max(block, 400))
    assert list(face_cache._json_rows(str(tmp_path / "faces.json"))) == listed
    name_index._made_once.cache_clear()
    shutil.rmtree(name_index._folder())
    known = opened(tmp_path / "faces.json")
    for name, box in rows.items():
        found = known.faces_of(name, 1000, 1000)
        x, y, width, height = np.array(box or (0, 0, 0, 0), np.float64)
        corners = np.clip(np.array([x, y, x + width, y + height]).astype(np.float32), 0, 1000)
        assert found.boxes.tolist() == ([corners.tolist()] if (corners[2:] > corners[:2]).all() else [])


# -- what is refused


GOOD = row("good.jpg", 1, 2, 3, 4)
WRONG: dict[str, tuple[object, Sequence[str]]] = {
    "no list": ({"frame_path": ["a.jpg"]}, ["this is no face cache", "a JSON list of rows"]),
    "no rows": ([], ["the first row has no column bbox_"]),
    "no boxes": ([{"frame_path": "a.jpg"}], ["the first row has no column bbox_"]),
    "several columns": ([{"frame_path": "a.jpg", "bbox_a": None, "bbox_b": None}], ["several", "bbox_a, bbox_b"]),
    "no object": ([GOOD, 5], ["row 2: it is no object", "1 rows of the face cache are wrong"]),
    "no frame_path": ([GOOD, {"bbox_a": None}], ["row 2: the frame_path is None"]),
    "empty frame_path": ([row("", 1, 2, 3, 4)], ["row 1: the frame_path is ''"]),
    "no box": ([GOOD, {"frame_path": "a.jpg"}], ["row 2: bbox_a is not [x, y, width, height] or null"]),
    "three numbers": ([row("a.jpg", 1, 2, 3)], ["row 1: bbox_a is not", "'a.jpg': [1, 2, 3]"]),
    "text": ([row("a.jpg", 1, 2, 3, "4")], ["row 1: bbox_a is not"]),
    "truth": ([row("a.jpg", 1, 2, 3, True)], ["row 1: bbox_a is not"]),
    "null": ([row("a.jpg", 1, 2, 3, None)], ["row 1: bbox_a is not"]),
    "NaN": ([row("a.jpg", 1, 2, 3, float("nan"))], ["row 1: bbox_a has a number that is no place in a frame"]),
    "infinity": ([row("a.jpg", float("-inf"), 2, 3, 4)], ["no place in a frame"]),
    "far": ([row("a.jpg", 10**400, 2, 3, 4)], ["no place in a frame"]),
    "negative": ([GOOD, GOOD, row("a.jpg", 1, 2, -3, 4)], ["row 3: bbox_a has a negative size"]),
    "two answers": (
        [GOOD, row("a.jpg"), row("a.jpg", 1, 2, 3, 4), GOOD],
        ["row 3: 'a.jpg' had another box before", "1 rows of the face cache are wrong; the first is row 3"],
    ),
    "many": ([GOOD, *[row("a.jpg", 1)] * 30], ["row 2: ", "row 21: ", "and 10 more", "30 rows of the face cache"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_json_is_refused_before_work_starts(name: str, tmp_path: Path) -> None:
    content, words = WRONG[name]
    with pytest.raises(ConfigError) as refusal:
        check(cached(write(tmp_path / "faces.json", content)))
    for word in (*words, "faces.json"):
        assert word in str(refusal.value)
    assert "row 22: " not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b'[{"frame_path": "a.jpg", "bbox_a": null}', "this JSON is broken: it ends early", id="cut"),
        pytest.param(b'[{"frame_path": "a.jpg", "bbox_a": null}, {"fra', "this JSON is broken: it ends", id="cut row"),
        pytest.param(b'[{"frame_path": a.jpg' + b" " * 4_000_000, 'no row of JSON at \'{"frame_path": a', id="no JSON"),
        pytest.param(b"", "this is no face cache", id="empty"),
        pytest.param(bytes(range(256)), "this is no JSON in UTF-8", id="binary"),
        pytest.param(b"PAR1 and then nothing", "damaged", id="no Parquet"),
    ],
)
def test_a_broken_file_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "faces").write_bytes(content)
    with pytest.raises(ConfigError, match=f"faces: .*{words}"):
        check(cached(tmp_path / "faces"))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for place, words in (
        (str(tmp_path / "nowhere.json"), r"nowhere\.json cannot be read: No such file"),
        (str(tmp_path), rf"{DETECTIONS_FILE} cannot be read: No such file.*the folder of a finished run"),
        ("s3://bucket/faces.json", "it cannot be read in a bucket"),
    ):
        with pytest.raises(ConfigError, match=words):
            check(DetectionConfig(detector_type="face_cache", face_cache=place))
    pq.write_table(pa.table({"frame_path": ["a.jpg"]}), tmp_path / DETECTIONS_FILE)
    with pytest.raises(ConfigError, match="these are not the detections of a run"):
        check(cached(tmp_path))


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"column = 'bbox_b': .*faces\.json has no such column; .*accepted: bbox_a"):
        opened(write(tmp_path / "faces.json", [GOOD]), face_cache_column="bbox_b")
    write_run(tmp_path, looked_at("a.jpg"))
    with pytest.raises(ConfigError, match=r"column = 'bbox_b': .* what a run found, which has no such columns"):
        opened(tmp_path, face_cache_column="bbox_b")


@pytest.mark.parametrize("key", ["face_cache", "face_cache_column"])
def test_a_cache_that_nobody_would_read_is_refused(key: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        choose_detectors(DetectionConfig(**{key: "a"}))
    for words in (
        f"detection.{key} = 'a': only face_cache reads it",
        "this run uses retinaface",
        "accepted here: None",
    ):
        assert words in str(refusal.value)


# -- a worker


@pytest.mark.parametrize("batch", [1, 4])
def test_a_frame_that_is_not_known_fails_and_costs_no_other(batch: int, tmp_path: Path) -> None:
    for name, size in (("a.png", (64, 48)), ("b.png", (64, 48)), ("other.png", (48, 64)), ("new.png", (64, 48))):
        (tmp_path / name).write_bytes(encode(pattern(*size)))
    (tmp_path / "text.png").write_text("hello")
    rows = [looked_at(name, [(8, 8, 32, 32)], size=(64, 48)) for name in ("a.png", "b.png", "other.png", "text.png")]
    write_run(tmp_path, *rows)
    worker = make_worker(detector_type="face_cache", face_cache=str(tmp_path), batch=batch)
    found = worker(FolderSource(str(tmp_path)), ["a.png", "new.png", "other.png", "text.png", "b.png"]).to_pylist()
    assert [row["outcome"] for row in found] == ["ok", "failed", "failed", "unreadable", "ok"]
    assert found[1]["error"] == "the face cache has no row for this frame"
    assert found[2]["error"] == "the face cache knows this frame with 64 x 48 pixels, but it has 48 x 64"
    box = {"x1": 8.0, "y1": 8.0, "x2": 32.0, "y2": 32.0, "score": 0.75, "detector": "face_cache", "stage": "frame"}
    assert found[0]["faces"] == found[4]["faces"] == [box]


# -- a run


def finished(folder: Path, output: Path, table: Any, **parameters: Any) -> tuple[pa.Table, bytes]:
    """Run, pair and export: the detections, and the bytes of the samples."""
    given = settings(images=str(folder), output=str(output), **parameters)
    run.detect_frames(table, FolderSource(str(folder)), given, str(output))
    outcomes.pair_run(runs.open_run(output), given.pairing)
    return shards.read_detections(stores.open_store(str(output)), None), (output / "hands.json").read_bytes()


def as_json(found: pa.Table) -> list[dict[str, Any]]:
    """Write the best face of each frame as the organisers did."""
    return [
        row(frame["frame_path"], face["x1"], face["y1"], face["x2"] - face["x1"], face["y2"] - face["y1"])
        for frame in found.to_pylist()
        for face in [*frame["faces"], None][:1]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("frame_set", ["contest", "sample"])
def test_with_the_faces_of_a_run_the_same_hands_are_found(
    frame_set: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    contest = frame_set == "contest"
    folder = request.getfixturevalue("shared") / "frames" / "contest" if contest else paths.SAMPLE
    images = folder / "TRAIN_DATA"
    table = frame_table.select_frames(
        frame_table.read_frames_csv(folder / "train.csv", FolderSource(str(images)), LABELS),
        [*LABELS],
        None if contest else 30,
    )
    live, hands = finished(images, tmp_path / "live", table)
    known = {"detector_type": "face_cache", "face_cache": str(tmp_path / "live")}
    found, same = finished(images, tmp_path / "cached", table, **known)
    assert found["hands"].equals(live["hands"])
    assert same == hands
    assert len(json.loads(hands)) >= (80 if contest else 20)
    known["face_cache"] = str(write(tmp_path / "faces.json", as_json(live)))
    found, same = finished(images, tmp_path / "json", table, **known)
    # Of several faces the JSON has one.
    alone = pc.less_equal(pc.list_value_length(live["faces"]), 1)
    assert found["hands"].filter(alone).equals(live["hands"].filter(alone))
    assert same == hands


@pytest.mark.slow
def test_the_finer_look_for_smaller_faces_is_not_needed_again(tmp_path: Path) -> None:
    """A run that found a second face where nobody else showed a hand knows both."""
    images = tmp_path / "frames"
    images.mkdir()
    bystander, other = (read_image(SAMPLE / name) for name in ("no_gesture_01/0001.jpg", "stop_01/0001.jpg"))
    small = shrink_image(other, other.shape[1] // 2)
    both = np.zeros((max(len(bystander), len(small)), bystander.shape[1] + small.shape[1], 3), np.uint8)
    both[: len(bystander), : bystander.shape[1]] = bystander
    both[: len(small), bystander.shape[1] :] = small
    (images / "both.png").write_bytes(encode(both))
    live, hands = finished(images, tmp_path / "live", table_of(["both.png"]))
    assert [len(frame["faces"]) for frame in live.to_pylist()] == [2]
    known = {"detector_type": "face_cache", "face_cache": str(tmp_path / "live")}
    found, same = finished(images, tmp_path / "cached", table_of(["both.png"]), **known)
    assert found["hands"].equals(live["hands"])
    assert same == hands
    assert len(json.loads(hands)) == 1


def detect(table: Any, cache: Path, output: Path, **parameters: Any) -> pa.Table:
    given = settings(detector_type="face_cache", face_cache=str(cache), output=str(output), **parameters)
    return run.detect_frames(table, FolderSource("/nowhere"), given, str(output), Instant())


def test_a_run_is_bound_to_what_the_cache_holds_not_to_where_it_lies(tmp_path: Path) -> None:
    listed = names(6)
    table, longer = table_of(listed[:4]), table_of(listed)
    first = write(tmp_path / "faces.json", [row(name) for name in listed])
    detect(table, first, tmp_path / "out")
    moved = first.rename(tmp_path / "other.json")
    assert len(detect(longer, moved, tmp_path / "out")) == 6
    moved.write_text(json.dumps([row(name) for name in listed], indent=1))  # in other words the same
    assert len(detect(longer, moved, tmp_path / "out")) == 6
    write(moved, [row(name, 0, 0, 5, 5) for name in listed])
    words = r"the face cache holds other faces \('[0-9a-f]{64}' then, '[0-9a-f]{64}' now\)"
    with pytest.raises(RunError, match=words):
        detect(longer, moved, tmp_path / "out")


def test_a_run_is_bound_to_the_column(tmp_path: Path) -> None:
    table = table_of(names(3))
    rows = [{"frame_path": name, "bbox_a": [0, 0, 5, 5], "bbox_b": None} for name in table["frame_path"]]
    cache = write(tmp_path / "faces.json", rows)
    detect(table, cache, tmp_path / "out", face_cache_column="bbox_a")
    with pytest.raises(RunError, match=r"detection\.face_cache_column: the run has 'bbox_a', now it is 'bbox_b'"):
        detect(table, cache, tmp_path / "out", face_cache_column="bbox_b")


def test_a_cache_that_knows_none_of_the_wanted_frames_is_refused(tmp_path: Path) -> None:
    table = table_of(names(6))
    table.loc[0, "wanted"] = False
    cache = write(tmp_path / "faces.json", [row(table["frame_path"][0])])
    with pytest.raises(ConfigError, match=r"face_cache = .*faces\.json': it knows none of the wanted frames"):
        detect(table, cache, tmp_path / "out")
    assert not (tmp_path / "out" / "run.json").exists()
    assert len(detect(table.assign(wanted=True), cache, tmp_path / "out")) == 6
