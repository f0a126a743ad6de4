"""The face cache: faces from the contest's JSON or from another run, and files that are rejected before work starts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import (
    LABELS,
    Box,
    draw_pattern,
    encode_image,
    make_detection,
    make_detection_row,
    make_detections_table,
    make_worker,
    read_image,
)
from faults import InstantEngine, make_config, name_frames, tabulate_frames
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from PIL import Image

from detectime import outcomes, paths, runs
from detectime.cli.estimate import estimate_run
from detectime.config import Config, DetectionConfig
from detectime.detection import run, shards
from detectime.detection.manifest import RunError
from detectime.detectors import face_cache
from detectime.detectors.contract import UnknownFrameError
from detectime.detectors.face_cache import FaceCache
from detectime.detectors.registry import choose_detectors
from detectime.errors import ConfigError
from detectime.images import shrink_image
from detectime.labels import frame_table, frames_csv
from detectime.schema import DETECTIONS_FILE
from detectime.sources.folder import FolderSource
from detectime.storage import store as stores

SAMPLE = paths.SAMPLE / "TRAIN_DATA"


pytestmark = pytest.mark.usefixtures("temporary_folder")  # the index of a cache is stored in it


def cached(path: Path, **parameters: Any) -> DetectionConfig:
    return DetectionConfig(detector_type="face_cache", face_cache=str(path), **parameters)


def open_cache(path: Path, **parameters: Any) -> FaceCache:
    return face_cache.build(cached(path, **parameters), "cpu")


def check(config: DetectionConfig) -> None:
    """Check the cache as a run does before it starts."""
    choose_detectors(config).check()


def write(path: Path, rows: object) -> Path:
    path.write_text(json.dumps(rows))
    return path


def write_run(folder: Path, *rows: Mapping[str, Any], name: str = DETECTIONS_FILE) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(make_detections_table(*rows), folder / name)
    return folder / name


def row(frame_path: str, *box: object) -> dict[str, Any]:
    return {"frame_path": frame_path, "bbox_a": list(box) or None}


# -- valid files


def test_the_boxes_of_the_json_are_returned_as_faces(tmp_path: Path) -> None:
    rows = [row("v/ü.jpg", 10, 20.5, 30, 40), row("v/none.jpg"), row("a.jpg", -5, 400, 100, 100)]
    rows += [row("v/ü.jpg", 10, 20.5, 30, 40), row("far.jpg", 700, 0, 10, 10), row("flat.jpg", 5, 5, 0, 9)]
    known = open_cache(write(tmp_path / "faces.json", rows), face_confidence=1.0)
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


def test_the_faces_of_a_run_keep_their_scores(tmp_path: Path) -> None:
    first = make_detection_row("b.jpg") | {
        "faces": [make_detection((1, 2, 3, 4), score=0.9), make_detection((5, 6, 7, 8), score=0.5)]
    }
    rows = [
        first,
        make_detection_row("a.jpg"),
        make_detection_row("gone.jpg", outcome="missing"),
        make_detection_row("c.jpg", [(0, 0, 9, 9)]),
    ]
    write_run(tmp_path, *rows)
    for path, confidence, count in ((tmp_path, 0.4, 2), (tmp_path / DETECTIONS_FILE, 0.6, 1), (tmp_path, 0.95, 0)):
        known = open_cache(path, face_confidence=confidence)
        found = known.faces_of("b.jpg", 640, 480)
        np.testing.assert_allclose(found.boxes, np.array([[1, 2, 3, 4], [5, 6, 7, 8]])[:count])
        np.testing.assert_allclose(found.scores, [0.9, 0.5][:count])
        assert len(known.faces_of("a.jpg", 640, 480)) == 0
        assert len(known.known.rows) == 3
        with pytest.raises(UnknownFrameError, match="the face cache has no row for this frame"):
            known.faces_of("gone.jpg", 640, 480)


def test_the_format_is_recognised_by_the_content(tmp_path: Path) -> None:
    assert open_cache(write_run(tmp_path, make_detection_row("a.jpg", [(0, 0, 9, 9)]), name="faces.json")).knows(
        "a.jpg"
    )


def test_a_column_is_selected(tmp_path: Path) -> None:
    rows = [{"frame_path": "a.jpg", "bbox_a": [0, 0, 5, 5], "bbox_b": None, "label": 1}]
    path = write(tmp_path / "faces.json", rows)
    assert len(open_cache(path, face_cache_column="bbox_a").faces_of("a.jpg", 9, 9)) == 1
    assert len(open_cache(path, face_cache_column="bbox_b").faces_of("a.jpg", 9, 9)) == 0


@effort(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    rows=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
        st.none() | st.tuples(*[st.floats(-50, 50, width=32)] * 2, *[st.just(0.0) | st.floats(2, 99, width=32)] * 2),
        min_size=1,
        max_size=9,  # from ten on, numbers that can only be corners are refused
    ),
    indent=st.none() | st.integers(0, 3),
)
def test_any_list_of_boxes_is_read(rows: dict[str, Any], indent: int | None, tmp_path: Path) -> None:
    listed = [{"bbox_a": box and list(box), "frame_path": name} for name, box in rows.items()]
    path = tmp_path / f"{uuid.uuid4().hex}.json"  # a name of its own, so that no earlier index is reused
    path.write_text(json.dumps(listed, indent=indent, ensure_ascii=False), encoding="utf-8")
    known = open_cache(path)
    assert len(known.known.rows) == len(rows)
    for name, box in rows.items():
        found = known.faces_of(name, 1000, 1000)
        x, y, width, height = np.array(box or (0, 0, 0, 0), np.float64)
        corners = np.clip(np.array([x, y, x + width, y + height]).astype(np.float32), 0, 1000)
        assert found.boxes.tolist() == ([corners.tolist()] if (corners[2:] > corners[:2]).all() else [])


# -- invalid files


GOOD = row("good.jpg", 1, 2, 3, 4)
INVALID: dict[str, tuple[object, Sequence[str]]] = {
    "no list": ({"frame_path": ["a.jpg"]}, ["not a face cache", "a JSON list of rows"]),
    "no rows": ([], ["the list has no rows", "accepted: bbox_"]),
    "no boxes": ([{"frame_path": "a.jpg"}], ["the first row has no column bbox_"]),
    "several columns": ([{"frame_path": "a.jpg", "bbox_a": None, "bbox_b": None}], ["several", "bbox_a, bbox_b"]),
    "no object": ([GOOD, 5], ["row 2: 5 has no frame_path", "1 rows of the face cache are invalid"]),
    "no frame_path": ([GOOD, {"bbox_a": None}], ["row 2: {'bbox_a': None} has no frame_path"]),
    "empty frame_path": ([row("", 1, 2, 3, 4)], ["row 1: {'frame_path': ''", "has no frame_path"]),
    "a number as frame_path": ([{"frame_path": 5, "bbox_a": None}], ["row 1: {'frame_path': 5", "has no frame_path"]),
    "no box": (
        [GOOD, {"frame_path": "a.jpg"}],
        ["row 2: bbox_a of 'a.jpg' is ()", "accepted: [x, y, width, height] in pixels, or null"],
    ),
    "three numbers": ([row("a.jpg", 1, 2, 3)], ["row 1: bbox_a of 'a.jpg' is [1, 2, 3]; accepted: [x, y, "]),
    "text": ([row("a.jpg", 1, 2, 3, "4")], ["row 1: bbox_a of 'a.jpg' is [1, 2, 3, '4']; accepted: "]),
    "truth": ([row("a.jpg", 1, 2, 3, True)], ["row 1: bbox_a of 'a.jpg' is [1, 2, 3, True]; accepted: "]),
    "null": ([row("a.jpg", 1, 2, 3, None)], ["row 1: bbox_a of 'a.jpg' is [1, 2, 3, None]; accepted: "]),
    "NaN": ([row("a.jpg", 1, 2, 3, float("nan"))], ["row 1: bbox_a of 'a.jpg' is [1, 2, 3, nan]; accepted: "]),
    "infinity": ([row("a.jpg", float("-inf"), 2, 3, 4)], ["row 1: bbox_a of 'a.jpg' is [-inf, 2, 3, 4]; accepted: "]),
    "far": ([row("a.jpg", 10**400, 2, 3, 4)], ["row 1: bbox_a of 'a.jpg' is [1000"]),
    "negative": ([GOOD, GOOD, row("a.jpg", 1, 2, -3, 4)], ["row 3: bbox_a of 'a.jpg' is [1, 2, -3, 4]; accepted: "]),
    "two answers": (
        [GOOD, row("a.jpg"), row("a.jpg", 1, 2, 3, 4), GOOD],
        [
            "row 3: 'a.jpg' has another box in an earlier row",
            "1 rows of the face cache are invalid; the first is row 3",
        ],
    ),
    "a box, then none": ([GOOD, row("good.jpg")], ["row 2: 'good.jpg' has another box in an earlier row"]),
    "many": ([GOOD, *[row("a.jpg", 1)] * 30], ["row 2: ", "row 21: ", "and 10 more", "30 rows of the face cache"]),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_json_is_rejected_before_work_starts(name: str, tmp_path: Path) -> None:
    content, words = INVALID[name]
    with pytest.raises(ConfigError) as refusal:
        check(cached(write(tmp_path / "faces.json", content)))
    for word in (*words, "faces.json", "detection.face_cache"):
        assert word in str(refusal.value)
    assert "row 22: " not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b'[{"frame_path": "a.jpg", "bbox_a": null}', r"neither JSON .*delimiter: .*\(char 40\)", id="cut"),
        pytest.param(
            b'[{"frame_path": "a.jpg"}, {"fra', r"neither JSON .*Unterminated string .*\(char 27\)", id="cut row"
        ),
        pytest.param(b'[{"frame_path": a.jpg', r"neither JSON .*Expecting value: .* \(char 16\)", id="no JSON"),
        pytest.param(b"", "neither JSON in UTF-8 nor the detections of a run", id="empty"),
        pytest.param(b"[" * 100_000, "neither JSON .*recursion", id="deep"),
        pytest.param(bytes(range(128, 256)), "neither JSON in UTF-8 .*codec can't decode", id="binary"),
        pytest.param(b"PAR1 and then nothing", "damaged", id="no Parquet"),
        pytest.param(
            b'{"frame_path": "a", "bbox_a": null}\n{"frame_path": "b"}\n', "one JSON value per line", id="lines"
        ),
        pytest.param(b"frame_path,x,y,w,h\na.jpg,1,2,3,4\n", "a csv or other text", id="csv"),
        pytest.param(b"<annotations></annotations>", "XML instead of JSON", id="XML"),
        pytest.param(b"\x1f\x8b\x08", "compressed by gzip; decompress it", id="gzip"),
        pytest.param(b"[NaN", "not valid JSON", id="cut number"),
        pytest.param(
            b'{"a.jpg": [1, 2, 3, 4]}', r"not a face cache but an object with a box for each path; .*row", id="keyed"
        ),
        pytest.param(
            b'{"images": [], "annotations": []}', r"not a face cache but COCO's annotations; accepted: a", id="COCO"
        ),
        pytest.param(
            b'[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', "this is COCO's results; accepted: bbox_", id="results"
        ),
        pytest.param(
            b'[{"file": "a.jpg", "box": 1}]', "no column bbox_<detector>, but file, box; accepted", id="other"
        ),
        pytest.param(b"[[1, 2, 3, 4]]", "not a face cache but a list of 1 value", id="lists"),
    ],
)
def test_a_broken_file_is_rejected(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "faces").write_bytes(content)
    with pytest.raises(ConfigError, match=f"faces: .*{words}"):
        check(cached(tmp_path / "faces"))


FACE = (300, 100, 120, 160)  # of a frame of 1280 x 720
CLOSE = (200, 50, 300, 400)  # of a frame of 640 x 480


def scatter(box: Box, count: int, width: float = 1, height: float = 1) -> list[dict[str, Any]]:
    """Make rows of boxes like one, divided by the size of the frame."""
    x, y, w, h = box
    return [
        row(f"{k}.jpg", (x + 9 * k) / width, (y + 4 * k) / height, (w + k) / width, (h + 2 * k) / height)
        for k in range(count)
    ]


UNIT = [
    pytest.param(scatter(FACE, 1, 1280, 720), r"1 of 1 faces are fractions of the frame .*'0.jpg'.*0.222\)", id="one"),
    pytest.param(scatter(FACE, 30, 1280, 720), "30 of 30 faces are fractions of the frame instead of pixels", id="all"),
    pytest.param([*scatter(FACE, 9, 1280, 720), row("p", *FACE)], "9 of 10 faces are fractions", id="most"),
    pytest.param(
        [*scatter(FACE, 9), row("few.jpg", 0.4, 0.2, 0.1, 0.2)],
        r"1 of 10 faces .*\(the first: 'few.jpg'",
        id="one of ten",
    ),
    pytest.param(
        [row("none.jpg"), row("a.jpg", 0.4, 0.2, 0.1, 0.2), row("z.jpg", 0, 0, 0, 0)], "1 of 1", id="and nulls"
    ),
    pytest.param([row("a.jpg", 0, 0, 1, 1)] * 2, "1 of 1 faces are fractions", id="the whole frame"),
]


@pytest.mark.parametrize(("rows", "words"), UNIT)
def test_fractions_of_the_frame_are_rejected(rows: list[dict[str, Any]], words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "faces.json", rows)
    with pytest.raises(ConfigError, match=rf"detection.face_cache: .*faces.json: {words}"):
        check(cached(path))
    with pytest.raises(ConfigError, match="multiply x and width by the width of the frame"):
        check(cached(path))  # with the index that exists now


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row("a.jpg"), row("b.jpg")], id="only nulls"),
        pytest.param([row("a.jpg", 0, 0, 0, 0), row("b.jpg")], id="only empty boxes"),
        pytest.param([*scatter(FACE, 9), row("a.jpg", 30, 40, 1.5, 1.5), row("b.jpg", 0, 0, 1, 1)], id="some tiny"),
        pytest.param([*scatter(FACE, 200), row("a.jpg", 0, 0, 0.5, 0.5)], id="one cut at the corner"),
        pytest.param(scatter(CLOSE, 12), id="close"),
    ],
)
def test_faces_in_pixels_are_accepted(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    check(cached(write(tmp_path / "faces.json", rows)))


@pytest.mark.parametrize("box", [(550, 100, 120, 160), (220, 100, 120, 145)])
def test_corners_instead_of_sizes_are_rejected(box: Box, tmp_path: Path) -> None:
    rows = scatter(box, 12)
    for entry in rows:
        x, y, width, height = entry["bbox_a"]
        entry["bbox_a"] = [x, y, x + width, y + height]
    with pytest.raises(ConfigError, match=r"these boxes are \[x1, y1, x2, y2\] instead of .* times as wide as high"):
        check(cached(write(tmp_path / "faces.json", rows)))


def test_an_unreadable_file_is_rejected(tmp_path: Path) -> None:
    for place, words in (
        (str(tmp_path / "nowhere.json"), r"nowhere\.json cannot be read: No such file"),
        (str(tmp_path), rf"{DETECTIONS_FILE} cannot be read: No such file.*the folder of a finished run"),
        ("s3://bucket/faces.json", "it cannot be read from a bucket"),
    ):
        with pytest.raises(ConfigError, match=words):
            check(DetectionConfig(detector_type="face_cache", face_cache=place))
    pq.write_table(pa.table({"frame_path": ["a.jpg"]}), tmp_path / DETECTIONS_FILE)
    with pytest.raises(ConfigError, match="not the detections of a run"):
        check(cached(tmp_path))


def test_an_unknown_column_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"column = 'bbox_b': .*faces\.json has no such column; .*accepted: bbox_a"):
        open_cache(write(tmp_path / "faces.json", [GOOD]), face_cache_column="bbox_b")
    write_run(tmp_path, make_detection_row("a.jpg"))
    with pytest.raises(ConfigError, match=r"column = 'bbox_b': .* the detections of a run, which have no such columns"):
        open_cache(tmp_path, face_cache_column="bbox_b")


@pytest.mark.parametrize("key", ["face_cache", "face_cache_column"])
def test_an_unused_cache_is_rejected(key: str) -> None:
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
def test_an_unknown_frame_fails_alone(batch: int, tmp_path: Path) -> None:
    for name, size in (("a.png", (64, 48)), ("b.png", (64, 48)), ("other.png", (48, 64)), ("new.png", (64, 48))):
        (tmp_path / name).write_bytes(encode_image(draw_pattern(*size)))
    (tmp_path / "text.png").write_text("hello")
    rows = [
        make_detection_row(name, [(8, 8, 32, 32)], size=(64, 48))
        for name in ("a.png", "b.png", "other.png", "text.png")
    ]
    write_run(tmp_path, *rows)
    worker = make_worker(detector_type="face_cache", face_cache=str(tmp_path), batch=batch)
    found = worker(FolderSource(str(tmp_path)), ["a.png", "new.png", "other.png", "text.png", "b.png"]).to_pylist()
    assert [row["outcome"] for row in found] == ["ok", "failed", "failed", "unreadable", "ok"]
    assert found[1]["error"] == "the face cache has no row for this frame"
    assert found[2]["error"] == "the face cache knows this frame with 64 x 48 pixels, but it has 48 x 64"
    box = {"x1": 8.0, "y1": 8.0, "x2": 32.0, "y2": 32.0, "score": 0.75, "detector": "face_cache", "stage": "frame"}
    assert found[0]["faces"] == found[4]["faces"] == [box]


# -- a run


def run_and_pair(folder: Path, output: Path, table: Any, **parameters: Any) -> tuple[pa.Table, bytes]:
    """Run detection and pairing; return the detections and the bytes of ``hands.json``."""
    given = make_config(images=str(folder), output=str(output), **parameters)
    run.detect_frames(table, FolderSource(str(folder)), given, str(output))
    outcomes.pair_run(runs.open_run(output), given.pairing)
    return shards.read_detections(stores.open_store(str(output)), None), (output / "hands.json").read_bytes()


def as_json(found: pa.Table) -> list[dict[str, Any]]:
    """Convert the best face of each frame to the contest's format."""
    return [
        row(frame["frame_path"], face["x1"], face["y1"], face["x2"] - face["x1"], face["y2"] - face["y1"])
        for frame in found.to_pylist()
        for face in [*frame["faces"], None][:1]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("frame_set", [pytest.param("contest", marks=pytest.mark.large), "sample"])
def test_cached_faces_give_the_same_hands(frame_set: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    contest = frame_set == "contest"
    folder = request.getfixturevalue("shared") / "frames" / "contest" if contest else paths.SAMPLE
    images = folder / "TRAIN_DATA"
    table = frame_table.select_frames(
        frames_csv.read_frames_csv(folder / "train.csv", FolderSource(str(images)), LABELS),
        [*LABELS],
        None if contest else 30,
    )
    live, hands = run_and_pair(images, tmp_path / "live", table)
    known = {"detector_type": "face_cache", "face_cache": str(tmp_path / "live")}
    found, same = run_and_pair(images, tmp_path / "cached", table, **known)
    assert found["hands"].equals(live["hands"])
    assert same == hands
    assert len(json.loads(hands)) >= (80 if contest else 20)
    known["face_cache"] = str(write(tmp_path / "faces.json", as_json(live)))
    found, same = run_and_pair(images, tmp_path / "json", table, **known)
    # The JSON holds one face per frame.
    alone = pc.less_equal(pc.list_value_length(live["faces"]), 1)
    assert found["hands"].filter(alone).equals(live["hands"].filter(alone))
    assert same == hands


@pytest.mark.slow
def test_the_second_pass_for_smaller_faces_is_not_repeated(tmp_path: Path) -> None:
    """A second pass for smaller faces stored both faces, so the cache needs no such pass."""
    images = tmp_path / "frames"
    images.mkdir()
    bystander, other = (read_image(SAMPLE / name) for name in ("no_gesture_01/0001.jpg", "stop_01/0001.jpg"))
    small = shrink_image(other, other.shape[1] // 2)
    both = np.zeros((max(len(bystander), len(small)), bystander.shape[1] + small.shape[1], 3), np.uint8)
    both[: len(bystander), : bystander.shape[1]] = bystander
    both[: len(small), bystander.shape[1] :] = small
    (images / "both.png").write_bytes(encode_image(both))
    live, hands = run_and_pair(images, tmp_path / "live", tabulate_frames(["both.png"]))
    assert [len(frame["faces"]) for frame in live.to_pylist()] == [2]
    known = {"detector_type": "face_cache", "face_cache": str(tmp_path / "live")}
    found, same = run_and_pair(images, tmp_path / "cached", tabulate_frames(["both.png"]), **known)
    assert found["hands"].equals(live["hands"])
    assert same == hands
    assert len(json.loads(hands)) == 1


# -- whether the faces fit the frames


def bring(tmp_path: Path, boxes: Sequence[object], size: tuple[int, int] = (64, 48)) -> Config:
    """Make frames with cached boxes, and return the configuration of a run."""
    images = tmp_path / "images"
    images.mkdir()
    names = [f"{k:02}.png" for k in range(len(boxes))]
    for name in names:
        (images / name).write_bytes(encode_image(draw_pattern(*size)))
    lines = [f"{name},v,{k},ok" for k, name in enumerate(names)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["frame_path,video_name,frame_id,class_name", *lines]))
    rows = [{"frame_path": name, "bbox_a": box} for name, box in zip(names, boxes, strict=True)]
    places = {"images": str(images), "labels": str(labels), "output": str(tmp_path / "out")}
    cache = str(write(tmp_path / "faces.json", rows))
    return make_config(detector_type="face_cache", face_cache=cache, workers=1, **places)


INSIDE = [8, 8, 24, 30]
FAR = [2000, 1000, 120, 140]
MISFITS = [
    pytest.param([INSIDE] * 12, (64, 48), [], id="inside"),
    pytest.param([[-8, -8, 40, 40]] * 12, (64, 48), [], id="past the edge"),
    pytest.param(
        [*[INSIDE] * 9, FAR, [60, 8, 24, 30], None],
        (64, 48),
        [
            "2 of 11 frames have a face in the face cache that lies outside the frame (the first: '09.png: "
            "[2000, 1000, 120, 140] in 64 x 48 pixels')"
        ],
        id="some outside",
    ),
    pytest.param(
        [None, [0, 0, 0, 0], [5, 5, 0, 9]],
        (64, 48),
        ["3 of 3 frames have no face in the face cache (the first: '00.png')"],
        id="no face",
    ),
    pytest.param(
        [INSIDE, None, None],
        (64, 48),
        ["2 of 3 frames have no face in the face cache (the first: '01.png')"],
        id="hardly any",
    ),
    pytest.param(
        [*[INSIDE] * 100, [0.3, 0.2, 0.2, 0.3]],
        (64, 48),
        ["1 frame has a cached face in fractions of the frame; they are used as pixels (the first: '100.png')"],
        id="one of fractions",
    ),
    pytest.param(
        [[30, 20, 20 + k, 30] for k in range(10)],
        (640, 480),
        [
            "All cached faces lie in the first 100 pixels of their frames (the median of their longer sides is 30): if "
            "they are percent, multiply them by the size of the frame and divide by 100."
        ],
        id="percent",
    ),
]


@pytest.mark.parametrize(("boxes", "size", "expected"), MISFITS)
def test_faces_that_do_not_fit_their_frames_are_noted(
    boxes: list[object], size: tuple[int, int], expected: list[str], tmp_path: Path
) -> None:
    config = bring(tmp_path, boxes, size)
    assert [str(note) for note in estimate_run(config).notes] == expected
    source = FolderSource(config.data.images)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    for _ in range(2):  # a run that has nothing to do keeps its notes
        run.detect_frames(table, source, config, config.data.output)
        notes = [note for note in runs.open_run(config.data.output).notes if note.kind.startswith(("cached", "no_"))]
        assert [str(note) for note in notes] == expected
    Path(str(config.detection.face_cache)).unlink()
    run.detect_frames(table, source, config, config.data.output)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([FAR, None, [1e9] * 4], r"2 of 2 frames .* outside the frame .*2000.* in 64 x 48 pixels'\); was it made"),
        ([[30, 20, 40, 44]] * 3, r"boxes are \[x1, y1, x2, y2\] .* 3 of 3 would leave their frame .*subtract x1"),
    ],
    ids=["all outside", "corners"],
)
def test_faces_that_cannot_be_of_the_frames_are_refused(boxes: list[object], words: str, tmp_path: Path) -> None:
    config = bring(tmp_path, boxes)
    source = FolderSource(config.data.images)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    with pytest.raises(ConfigError, match=rf"detection.face_cache = .*{words}"):
        run.detect_frames(table, source, config, config.data.output)
    assert not (tmp_path / "out" / "run.json").exists()
    with pytest.raises(ConfigError, match=words):
        estimate_run(config)


@pytest.mark.parametrize(("pixels", "box"), [("stored", [50, 5, 12, 30]), ("upright", [5, 50, 30, 12])])
@pytest.mark.parametrize("exif", ["apply", "ignore"])
def test_faces_are_compared_with_frames_in_their_own_pixels(
    pixels: str, box: list[int], exif: str, tmp_path: Path
) -> None:
    config = bring(tmp_path, [INSIDE, box])
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "images" / "01.png").write_bytes(encode_image(draw_pattern(64, 48), exif=turned))
    detection = replace(config.detection, face_cache_pixels=pixels, exif=exif)
    config = replace(config, detection=detection)
    source = FolderSource(config.data.images)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    found = run.detect_frames(table, source, config, config.data.output)
    assert pc.list_value_length(found["faces"]).to_pylist() == [1, 1]
    assert "cached_outside" not in [note.kind for note in runs.open_run(config.data.output).notes]


def detect(table: Any, cache: Path, output: Path, **parameters: Any) -> pa.Table:
    given = make_config(detector_type="face_cache", face_cache=str(cache), output=str(output), **parameters)
    return run.detect_frames(table, FolderSource("/nowhere"), given, str(output), InstantEngine())


def test_a_run_is_bound_to_the_content_of_the_cache_not_to_its_path(tmp_path: Path) -> None:
    listed = name_frames(6)
    table, longer = tabulate_frames(listed[:4]), tabulate_frames(listed)
    first = write(tmp_path / "faces.json", [row(name) for name in listed])
    detect(table, first, tmp_path / "out")
    moved = first.rename(tmp_path / "other.json")
    assert len(detect(longer, moved, tmp_path / "out")) == 6
    moved.write_text(json.dumps([row(name) for name in listed], indent=1))  # the same content in other bytes
    assert len(detect(longer, moved, tmp_path / "out")) == 6
    write(moved, [row(name, 0, 0, 5, 5) for name in listed])
    words = r"the face cache holds other faces \('[0-9a-f]{64}' then, '[0-9a-f]{64}' now\)"
    with pytest.raises(RunError, match=words):
        detect(longer, moved, tmp_path / "out")


def test_a_run_is_bound_to_the_column(tmp_path: Path) -> None:
    table = tabulate_frames(name_frames(3))
    rows = [{"frame_path": name, "bbox_a": [0, 0, 5, 5], "bbox_b": None} for name in table["frame_path"]]
    cache = write(tmp_path / "faces.json", rows)
    detect(table, cache, tmp_path / "out", face_cache_column="bbox_a")
    with pytest.raises(RunError, match=r"detection\.face_cache_column: the run has 'bbox_a', now it is 'bbox_b'"):
        detect(table, cache, tmp_path / "out", face_cache_column="bbox_b")


def test_a_cache_without_any_wanted_frame_is_rejected(tmp_path: Path) -> None:
    table = tabulate_frames(name_frames(6))
    table.loc[0, "wanted"] = False
    cache = write(tmp_path / "faces.json", [row(table["frame_path"][0])])
    with pytest.raises(ConfigError, match=r"face_cache = .*faces\.json': it has none of the wanted frames"):
        detect(table, cache, tmp_path / "out")
    assert not (tmp_path / "out" / "run.json").exists()
    assert len(detect(table.assign(wanted=True), cache, tmp_path / "out")) == 6
