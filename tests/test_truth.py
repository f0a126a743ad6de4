"""Truth of a run: which annotation is of which frame, in which pixels, and which hand shows the class."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import LABELS, make_detection_row, make_frame_table
from faults import ImaginaryFolder, make_config
from finished_runs import make_run
from hypothesis import given
from hypothesis import strategies as st

from detectime import boxes as geometry
from detectime import evaluation, outcomes, pairing, runs, truth
from detectime.config import load_config
from detectime.decision_files import DecisionLog
from detectime.detection import run as detection
from detectime.exports.contract import ExportConfig
from detectime.exports.export import export_run
from detectime.exports.picture_names import name_pictures
from detectime.judgements import judge_frame
from detectime.labels.annotations import AnnotationColumns, Annotations
from detectime.paths import SAMPLE
from detectime.report.report import make_report
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, DETECTIONS
from detectime.truth import Truth, TruthError, read_reviewed, read_truth
from detectime.truth.names import match_names
from detectime.truth.pixels import place_boxes
from detectime.truth.targets import find_targets, list_kinds, read_labels

HAND = (100.0, 50.0, 200.0, 150.0)
FACE = (200.0, 20.0, 280.0, 120.0)


class PreparedEngine:
    """An engine that returns rows of the detections table that are given."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.rows = rows

    def __call__(self, shards: Any, *_: Any) -> Iterator[tuple[Any, pa.Table]]:
        shards.share_among(1)
        while shards:
            shard = shards.popleft()
            yield shard, pa.Table.from_pylist([dict(self.rows[name]) for name in shard], schema=DETECTIONS)


def finish_run(folder: Path, *frames: Mapping[str, Any], labels: str = "train.csv", **parameters: Any) -> FinishedRun:
    """Make a finished run of frames whose detections are given; nothing is decoded.

    Parameters
    ----------
    folder
        Where; the run is in ``out``.
    frames
        Columns of the frame table, and `row`, changes to the row of the detections.
    labels
        Path of the labels, in the folder; need not exist.
    parameters
        Of the configuration.
    """
    table = make_frame_table({key: value for key, value in frame.items() if key != "row"} for frame in frames)
    rows = {
        frame["frame_path"]: make_detection_row(frame["frame_path"], [FACE], [HAND]) | frame.get("row", {})
        for frame in frames
    }
    config = make_config(output=str(folder / "out"), labels=str(folder / labels), **parameters)
    detection.detect_frames(table, ImaginaryFolder("/nowhere"), config, config.data.output, PreparedEngine(rows))
    run = runs.open_run(folder / "out")
    outcomes.pair_run(run)
    return run


def write_truth(path: Path, **frames: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(frames.get("content", frames)))
    return str(path)


def list_boxes(found: Truth) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in found.boxes[["frame_path", "kind", "is_target", *CORNERS]].itertuples(index=False)]


def list_kinds_of_notes(found: Truth) -> dict[str, int]:
    return {note.kind: note.count for note in found.notes}


# -- the sample and its own truth


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Make a run over two frames of each video of the sample."""
    folder = tmp_path_factory.mktemp("few")
    rows = pd.read_csv(SAMPLE / "train.csv")
    rows[rows["frame_id"] <= 2].to_csv(folder / "train.csv", index=False)
    return make_run(folder / "out", labels=str(folder / "train.csv"))


def test_the_samples_own_truth_is_the_default(few: FinishedRun, tmp_path: Path) -> None:
    assert read_truth(few) is None  # there is none beside these labels
    given = read_truth(few, SAMPLE / "truth.json")
    assert given is not None
    (tmp_path / "labels").mkdir()
    for name in ("train.csv", "truth.json"):
        source = SAMPLE if name == "truth.json" else Path(few.config.data.labels).parent
        shutil.copy(source / name, tmp_path / "labels" / name)
    paths = few.frames.loc[few.frames["wanted"], "frame_path"]
    run = finish_run(tmp_path, *({"frame_path": path} for path in paths), labels="labels/train.csv")
    found = read_truth(run)
    assert found is not None
    pd.testing.assert_index_equal(found.frames, given.frames)
    assert found.origin == "plain JSON, labels/truth.json"
    assert found.has_faces
    assert found.frames.tolist() == paths.tolist()
    content = json.loads((SAMPLE / "truth.json").read_text())
    assert len(found.boxes) == sum(len(content[path]["hands"] + content[path]["faces"]) for path in found.frames)
    assert found.boxes.loc[found.boxes["kind"] == "hand", "is_target"].all()
    assert not found.boxes.loc[found.boxes["kind"] == "face", "is_target"].any()
    assert list_kinds_of_notes(found) == {"without_frame": len(content) - len(found.frames)}


def test_the_truth_agrees_with_the_scores(few: FinishedRun) -> None:
    """Boxes are those that `evaluation.read_truth` of earlier releases reads."""
    found = read_truth(few, SAMPLE / "truth.json")
    assert found is not None
    scores = evaluation.score_samples(few.outcomes, evaluation.read_truth(SAMPLE / "truth.json"))
    hands = found.boxes[found.boxes["kind"] == "hand"]
    pd.testing.assert_frame_equal(evaluation.score_samples(few.outcomes, hands), scores)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no JSON", "not valid JSON"),
        ("[]", "holds a list instead of"),
        ({"a.jpg": {"hands": []}, "b.jpg": {"hands": []}, "1.jpg": {"hands": []}}, "1 of its 3 pictures is a frame"),
        ({}, "0 of its 0 pictures are frames"),
        ({"1.jpg": {"hands": [HAND], "labels": ["thumb"]}, "2.jpg": {"hands": []}}, "no label means a hand or a face"),
        ({"1.jpg": {"hands": [[0.1, 0.1, 0.2, 0.2]] * 3}, "2.jpg": {"hands": []}}, "these are fractions, not pixels"),
    ],
)
def test_a_truth_json_beside_the_labels_that_is_not_taken_is_named(tmp_path: Path, content: Any, reason: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "truth.json").write_text(text)
    run = finish_run(tmp_path, {"frame_path": "1.jpg"}, {"frame_path": "2.jpg"})
    found = read_truth(run)
    assert found is not None
    assert (len(found.frames), len(found.boxes), found.has_faces) == (0, 0, False)
    assert found.origin == "truth.json beside the labels"
    (note,) = found.notes
    assert str(note).startswith("The truth.json beside the labels is not used: ")
    assert reason in str(note)
    measured = evaluation.evaluate_run(run, found)
    assert measured.frames.empty
    assert [note.kind for note in measured.notes] == ["not_evaluated"]
    assert "The truth.json beside the labels is not used" in make_report(run, found).decode()
    assert evaluation.compare_evaluations(measured, measured)["frames"].sum() == 0
    with pytest.raises(TruthError):
        read_truth(run, tmp_path / "no.json")


@pytest.mark.parametrize("formats", [["coco", "voc", "yolo", "cvat", "hagrid"]])
@pytest.mark.parametrize("pictures", ["frames", "none"])
def test_exports_come_back_as_truth(few: FinishedRun, tmp_path: Path, formats: list[str], pictures: Any) -> None:
    export_run(few, formats, tmp_path, ExportConfig(images=pictures, faces=True))
    samples = few.outcomes[few.outcomes["hand_x1"].notna()]
    for name in formats:
        found = read_truth(few, tmp_path / name)
        assert found is not None
        assert found.frames.tolist() == samples["frame_path"].tolist()
        hands = found.boxes[found.boxes["is_target"]]
        assert hands["frame_path"].tolist() == samples["frame_path"].tolist()
        assert hands["label"].tolist() == samples["class_name"].tolist()
        difference = np.abs(hands[list(CORNERS)].to_numpy() - pairing.get_boxes(samples, "hand"))
        assert difference.max() < (1 if name == "voc" else 1e-4), name
        assert found.has_faces
        assert not found.lists_all_hands
        assert set(list_kinds_of_notes(found)) <= {"exported", "unannotated", "voc_pixels"}


def test_an_exported_picture_is_known_wherever_it_went(few: FinishedRun, tmp_path: Path) -> None:
    paths = few.frames["frame_path"].tolist()
    columns = AnnotationColumns()
    for name in name_pictures(paths[:3]):
        columns.add_image(f"job 7/{name}.png")
    found = match_names(columns.collect("pixels"), paths)
    assert found.row.tolist() == [0, 1, 2]
    assert found.is_exported.all()


def test_an_export_of_crops_is_no_truth(few: FinishedRun, tmp_path: Path) -> None:
    export_run(few, ["coco"], tmp_path, ExportConfig(images="none", box="bbox"))
    with pytest.raises(TruthError, match="holds crops instead of hands"):
        read_truth(few, tmp_path / "coco" / "annotations" / "instances.json")
    state = json.loads((tmp_path / "coco" / "export.json").read_text())
    state["request"]["box"], state["finished"] = "hand", None
    (tmp_path / "coco" / "export.json").write_text(json.dumps(state))
    with pytest.raises(TruthError, match="this export is not finished"):
        read_truth(few, tmp_path / "coco")


def test_hagrid_is_read_from_the_column_and_from_its_files(shared: Path, tmp_path: Path) -> None:
    folder = shared / "frames" / "hagrid"
    annotations = folder / "hagrid_annotations"
    run = make_run(tmp_path / "out", images=str(folder / "hagrid_dataset"), labels=str(annotations / "val"), limit=6)
    own, files = read_truth(run), read_truth(run, annotations)
    assert own is not None
    assert files is not None
    assert not own.lists_all_hands
    assert files.lists_all_hands
    assert own.origin == "HaGRID, the annotations of the labels"
    assert own.frames.tolist() == files.frames.tolist() == run.frames.loc[run.frames["wanted"], "frame_path"].tolist()
    targets = files.boxes[files.boxes["is_target"]].reset_index(drop=True)
    assert own.boxes["is_target"].all()
    np.testing.assert_allclose(own.boxes[list(CORNERS)], targets[list(CORNERS)], atol=1e-4)
    assert len(files.boxes) >= len(targets)


# -- names


def match(names: list[str], frames: list[str], *, has_endings: bool = True) -> tuple[list[int], dict[str, int]]:
    columns = AnnotationColumns()
    for number, name in enumerate(names):
        columns.add_box(columns.add_image(name), "ok", (number, 1, number + 5, 6))
    found = match_names(columns.collect("pixels", has_endings=has_endings), frames)
    return found.row.tolist(), {note.kind: note.count for note in found.notes}


@pytest.mark.parametrize(
    ("names", "frames", "rows", "kinds"),
    [
        (["v/1.jpg", "v/2.jpg"], ["v/2.jpg", "v/1.jpg"], [1, 0], {}),
        (["1.jpg"], ["v/1.jpg"], [0], {"by_end": 1}),
        (["images/v/1.jpg"], ["v/1.jpg"], [0], {"by_end": 1}),
        (["C:\\x\\v\\1.jpg"], ["v/1.jpg"], [0], {"by_end": 1}),
        (["../images/./v//1.jpg"], ["v/1.jpg"], [0], {"by_end": 1}),
        (["./v/1.jpg"], ["v/1.jpg"], [0], {"by_end": 1}),
        (["e\u0301/1.jpg"], ["é/1.jpg"], [0], {"by_end": 1}),
        (["1.jpg"], ["v/1.jpg", "w/1.jpg"], [-1], {"ambiguous": 1}),
        (["11.jpg", "1.jpg"], ["v/1.jpg"], [-1, 0], {"without_frame": 1, "by_end": 1}),  # whole folders alone
        (["a/1.jpg", "b/1.jpg"], ["1.jpg"], [-1, -1], {"ambiguous": 2}),
        (["1.jpg", "b/1.jpg"], ["1.jpg"], [0, -1], {"without_frame": 1}),  # the exact one counts
        (["train/1.jpg"], ["val/1.jpg"], [-1], {"without_frame": 1}),  # a common end alone is none
        (["b/v/1.jpg"], ["v/1.jpg", "1.jpg"], [0], {"by_end": 1}),  # the longest end
        (["v/1.jpg", "v/1.jpg"], ["v/1.jpg"], [-1, -1], {"ambiguous": 2}),  # with different boxes
        (["", "/", ".."], ["v/1.jpg"], [-1, -1, -1], {"without_frame": 3}),
        (["../../etc/passwd"], ["v/1.jpg"], [-1], {"without_frame": 1}),
        ([], ["v/1.jpg"], [], {}),
    ],
)
def test_names_match_frames(names: list[str], frames: list[str], rows: list[int], kinds: dict[str, int]) -> None:
    assert match(names, frames) == (rows, kinds)


UUID = "5b1f0a52-3c3e-4c29-9d10-0a7a1c1f2e33"
HASH = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "folder", ["train/images", "images/train", "images", "obj_train_data", "train", "valid", "DATA"]
)
def test_pictures_in_the_folders_of_a_layout_match_frames(folder: str) -> None:
    frames = [f"dislike/{UUID}.jpg", "ok/other.jpg"]
    assert match([f"{folder}/{UUID}"], frames, has_endings=False) == ([0], {"by_end": 1})
    assert match([f"{folder}/{UUID}.jpg"], frames) == ([0], {"by_end": 1})


@pytest.mark.parametrize(
    ("names", "frames", "rows", "kinds"),
    [
        ([f"mine/{UUID}.jpg"], [f"dislike/{UUID}.jpg"], [0], {"by_file_name": 1}),
        ([f"mine/{UUID}.jpg", f"more/{UUID}.jpg"], [f"ok/{UUID}.jpg"], [-1, -1], {"without_frame": 2}),
        ([f"mine/{UUID}.jpg"], [f"a/{UUID}.jpg", f"b/{UUID}.jpg"], [-1], {"without_frame": 1}),
        (["carl/0001.jpg"], ["anna/0001.jpg"], [-1], {"without_frame": 1}),  # a number is no name
        (["carl/frame_0001.jpg"], ["anna/frame_0001.jpg"], [-1], {"without_frame": 1}),
        (["val/anna/1.jpg"], ["train/anna/1.jpg"], [-1], {"without_frame": 1}),  # another split
        (["train/1.jpg"], ["anna/1.jpg", "ben/1.jpg"], [-1], {"ambiguous": 1}),
        ([f"train/1_jpg.rf.{HASH}.jpg"], ["anna/1.jpg"], [0], {"renamed": 1}),
        ([f"anna/1_jpg.rf.{HASH}.jpg"], ["anna/1.jpg", "ben/1.jpg"], [0], {"renamed": 1}),
        ([f"1_png.rf.{HASH}.jpg"], ["anna/1.png"], [0], {"by_ending": 1}),
        ([f"1_jpg.rf.{HASH}.jpg", f"1_jpg.rf.{HASH[::-1]}.jpg"], ["1.jpg"], [-1, -1], {"ambiguous": 2}),
        ([f"1_jpg.rf.{HASH[1:]}.jpg"], ["1.jpg"], [-1], {"without_frame": 1}),
        (["images/1a2b3c4d-1.jpg"], ["anna/1.jpg"], [0], {"renamed": 1}),
        (["1a2b3c4d-1.jpg"], ["anna/1.jpg", "ben/1.jpg"], [-1], {"ambiguous": 1}),
        ([f"mine/{UUID}.PNG"], [f"ok/{UUID}.jpg"], [0], {"by_ending": 1}),
        (["v/1.JPG", "V/2.png"], ["v/1.jpg", "v/2.jpg"], [0, 1], {"by_ending": 2}),
        (["1.PNG", "1.webp"], ["v/1.jpg"], [-1, -1], {"ambiguous": 2}),
        (["v/1.webp"], ["v/1.jpg", "v/1.png"], [-1], {"ambiguous": 1}),
        (["v/1.jpg", "v/1.png"], ["v/1.jpg"], [0, -1], {"without_frame": 1}),  # the exact one counts
        (["clip/frame.0002"], ["clip/frame.0001"], [-1], {"without_frame": 1}),  # a number is no ending
    ],
)
def test_names_that_tools_changed_match_frames(
    names: list[str], frames: list[str], rows: list[int], kinds: dict[str, int]
) -> None:
    assert match(names, frames) == (rows, kinds)


def test_what_matched_loosely_is_said() -> None:
    columns = AnnotationColumns()
    columns.add_image(f"mine/{UUID}.jpg")
    (note,) = match_names(columns.collect("pixels"), [f"ok/{UUID}.jpg"]).notes
    assert str(note).startswith("1 annotated picture matched a frame by its file name alone, in whatever folder (the")


def test_different_pictures_without_boxes_are_not_one_for_their_ending() -> None:
    columns = AnnotationColumns()
    for name in ("v/1.png", "v/1.webp"):
        columns.add_image(name)
    assert match_names(columns.collect("pixels"), ["v/1.jpg"]).row.tolist() == [-1, -1]


def test_names_without_endings_match_frames() -> None:
    frames = ["v/1.jpg", "v/2.png", "v/2.jpg", "clip.mp4/000003"]
    names = ["v/1", "images/v/2", "clip.mp4/000003"]
    assert match(names, frames, has_endings=False) == ([0, -1, 3], {"ambiguous": 1})


def test_a_picture_that_is_there_twice_counts_once() -> None:
    columns = AnnotationColumns()
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
        image = columns.add_image(name)
        columns.add_box(image, "ok", (1, 2, 3, 4))
        columns.add_box(image, "face", (5, 6, 7, 8))
    found = match_names(columns.collect("pixels"), ["1.jpg", "2.jpg"])
    assert found.row.tolist() == [0, -1, 1]
    assert [note.kind for note in found.notes] == ["repeated", "by_end"]


FOLDERS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(FOLDERS, max_size=5), st.lists(FOLDERS, max_size=5, unique=True))
def test_a_match_is_the_only_end_of_the_other(names: list[str], frames: list[str]) -> None:
    rows, _ = match(names, frames)
    taken = [row for row in rows if row >= 0]
    assert len(set(taken)) == len(taken)
    for name, row in zip(names, rows, strict=True):
        if row >= 0:
            frame = frames[row]
            assert f"/{name}".endswith(f"/{frame}") or f"/{frame}".endswith(f"/{name}")
            assert name == frame or name not in frames


# -- pixels


def place(
    corners: tuple[float, ...] | None,
    stated: tuple[float, float],
    size: tuple[int, int],
    orientation: int = 1,
    truth_pixels: str | None = None,
    pixels: str = "upright",
    unit: Any = "pixels",
    exported: bool = False,
) -> tuple[Any, list[str]]:
    """Place the only box of one picture; returns its corners, None if the frame cannot be compared, and notes."""
    columns = AnnotationColumns()
    image = columns.add_image("a.jpg", *stated)
    if corners is not None:
        columns.add_box(image, "ok", corners)
    frames = pd.DataFrame(
        {"frame_path": ["a.jpg"], "width": [size[0]], "height": [size[1]], "orientation": [orientation]}
    )
    found = place_boxes(columns.collect(unit), frames, np.array([exported]), truth_pixels, pixels)
    kinds = [note.kind for note in found.notes]
    if not found.is_usable[0]:
        return None, kinds
    return [tuple(row) for row in found.corners.tolist()], kinds


NONE = (np.nan, np.nan)


@pytest.mark.parametrize(
    ("arguments", "expected", "kinds"),
    [
        (((10, 20, 30, 60), NONE, (100, 200)), (10, 20, 30, 60), []),
        (((10, 20, 30, 60), (100, 200), (100, 200)), (10, 20, 30, 60), []),
        (((10, 20, 30, 60), (50, 100), (100, 200)), (20, 40, 60, 120), ["scaled"]),
        (((10, 20, 30, 60), (200, 100), (100, 200)), None, ["other_shape"]),
        (((-9, 20, 30, 260), NONE, (100, 200)), (0, 20, 30, 200), ["clipped"]),
        (((-1, 20, 30, 201), NONE, (100, 200)), (0, 20, 30, 200), []),  # rounding
        # Stored 200 x 100, shown as 100 x 200: [x, y] becomes [100 - y, x].
        (((20, 10, 60, 30), (200, 100), (100, 200), 6), (70, 20, 90, 60), []),
        (((20, 10, 60, 30), (100, 50), (100, 200), 6), (40, 40, 80, 120), ["scaled"]),
        (((10, 20, 30, 60), (100, 200), (100, 200), 6), (10, 20, 30, 60), []),
        (((10, 20, 30, 60), NONE, (100, 200), 6), None, ["unknown_pixels"]),
        (((10, 20, 30, 60), NONE, (100, 200), 6, "upright"), (10, 20, 30, 60), []),
        (((20, 10, 60, 30), NONE, (100, 200), 6, "stored"), (70, 20, 90, 60), []),
        (((20, 10, 60, 30), (100, 200), (100, 200), 6, "stored"), None, ["other_shape"]),
        (((10, 20, 30, 60), (100, 100), (100, 100), 6), None, ["unknown_pixels"]),  # a square does not tell
        (((10, 20, 30, 60), (100, 200), (100, 200), 3), None, ["unknown_pixels"]),  # nor does half a turn
        (((10, 20, 30, 60), (100, 200), (100, 200), 3, None, "upright", "pixels", True), (10, 20, 30, 60), []),
        (((10, 20, 30, 60), (100, 200), (100, 200), 3, "stored"), (70, 140, 90, 180), []),
        (((10, 20, 30, 60), (7, 8), (100, 200), 6), None, ["other_shape"]),
        (((70, 20, 90, 60), (100, 200), (200, 100), 6, "upright", "stored"), (20, 10, 60, 30), []),
        (((0.1, 0.1, 0.3, 0.3), NONE, (100, 200), 1, None, "upright", "fractions"), (10, 20, 30, 60), []),
        (((0.1, 0.1, 0.3, 0.3), (50, 100), (100, 200), 1, None, "upright", "fractions"), (10, 20, 30, 60), []),
        (((0.1, 0.1, 0.3, 0.3), NONE, (100, 200), 6, "stored", "upright", "fractions"), (70, 20, 90, 60), []),
        ((None, NONE, (100, 200), 6), "no box", []),  # a frame without a box needs no pixels
        ((None, (7, 8), (100, 200)), None, ["other_shape"]),  # but may be of another picture
    ],
)
def test_boxes_are_placed_in_the_pixels_of_the_run(arguments: tuple[Any, ...], expected: Any, kinds: list[str]) -> None:
    found, noted = place(*arguments)
    assert noted == kinds
    if expected is None or expected == "no box":
        assert found == (None if expected is None else [])
    else:
        np.testing.assert_allclose(found, [expected], atol=1e-9)


def test_a_box_outside_its_frame_is_not_known() -> None:
    found, kinds = place((700, 20, 800, 60), NONE, (640, 480))
    assert kinds == ["outside"]
    assert np.isnan(found).all()


@given(st.integers(1, 8), st.sampled_from(["upright", "stored"]))
def test_turning_back_gives_the_box_of_the_run(orientation: int, pixels: str) -> None:
    width, height, hand = 640, 480, (30.0, 50.0, 130.0, 90.0)
    inverse = geometry.invert_orientation(orientation) if pixels == "upright" else orientation
    other = geometry.turn_boxes(hand, inverse, width, height)
    found, kinds = place(
        tuple(other), NONE, (width, height), orientation, {"upright": "stored"}.get(pixels, "upright"), pixels
    )
    assert kinds == []
    np.testing.assert_allclose(found, [hand])


# -- labels


@pytest.mark.parametrize(
    ("label", "kind", "class_name"),
    [
        ("ok", "hand", "ok"), ("OK", "hand", "ok"), (" ok ", "hand", "ok"), ("peace", "hand", "victory"),
        ("victory", "hand", "victory"), ("Peace", "hand", "victory"), ("no_gesture", "hand", "no_gesture"),
        ("rock", "hand", ""), ("hand_heart", "hand", ""), ("", "hand", None), ("hand", "hand", None),
        ("Hands", "hand", None), ("left_hand", "hand", None), ("right-hand", "hand", None),
        ("face", "face", None), ("FACE", "face", None), ("head", "other", None), ("person", "other", None),
        ("handbag", "unknown", None), ("thumb", "unknown", None), ("category 3", "unknown", None),
    ],
)  # fmt: skip
def test_what_labels_mean(label: str, kind: str, class_name: str | None) -> None:
    meaning = read_labels([label], load_config())[label]
    assert (meaning.kind, meaning.class_name) == (kind, class_name)


def test_the_vocabulary_comes_first(tmp_path: Path) -> None:
    config = load_config()
    config.labels.update({"face": 8, "rock": 9, "Hand": 10, "Ok": 11})
    found = read_labels(["face", "rock", "hand", "OK", "ok"], config)
    assert [found[label].class_name for label in ("face", "rock", "hand", "ok")] == ["face", "rock", "Hand", "ok"]
    assert found["OK"].kind == "unknown"  # it may be ok or Ok


def test_hands_of_no_class_are_targets_where_none_is_of_the_class() -> None:
    labels = pd.Series(["ok", "hand", "like", "hand", "hand", "like", "no_gesture"])
    frame = pd.Series(["a", "a", "b", "b", "c", "d", "e"])
    classes = pd.Series(["ok", "ok", "ok", "ok", "ok", "like", "no_gesture"])
    meanings = read_labels(labels, load_config())
    found = find_targets(labels, list_kinds(labels, meanings), frame, classes, meanings)
    assert found.tolist() == [True, False, False, True, True, True, True]


# -- frames that can be compared


def test_what_cannot_be_compared_is_left_out_and_named(tmp_path: Path) -> None:
    frames = {
        "right.jpg": {"hands": [HAND], "faces": [FACE]},
        "none.jpg": {"hands": []},
        "no area.jpg": {"hands": [HAND, [5, 5, 5, 9]]},
        "no face.jpg": {"hands": [HAND], "faces": [[0, 0, 0, 0]]},
        "outside.jpg": {"hands": [[700, 700, 800, 800]]},
        "dog.jpg": {"hands": [HAND], "labels": ["dog"]},
        "person.jpg": {"hands": [HAND], "labels": ["person"]},
        "other.jpg": {"hands": [HAND], "labels": ["like"]},
        "turned.jpg": {"hands": [HAND]},
        "shape.jpg": {"hands": [HAND], "size": [480, 640]},
        "gone.jpg": {"hands": [HAND]},
        "left out.jpg": {"hands": [HAND]},
        "elsewhere.jpg": {"hands": [HAND]},
    }
    rows: list[dict[str, Any]] = [{"frame_path": name} for name in frames if name != "elsewhere.jpg"]
    by_name = {row["frame_path"]: row for row in rows}
    by_name["turned.jpg"]["row"] = {"orientation": 3}
    by_name["gone.jpg"]["row"] = make_detection_row("gone.jpg", outcome="missing")
    by_name["left out.jpg"]["wanted"] = False
    run = finish_run(tmp_path, *rows, {"frame_path": "unannotated.jpg"})
    found = read_truth(run, write_truth(tmp_path / "boxes.json", content=frames))
    assert found is not None
    assert found.frames.tolist() == ["right.jpg", "none.jpg", "no face.jpg", "person.jpg", "other.jpg"]
    assert list_boxes(found) == [
        ("right.jpg", "hand", True, *HAND),
        ("right.jpg", "face", False, *FACE),
        ("no face.jpg", "hand", True, *HAND),
        ("other.jpg", "hand", False, *HAND),
    ]
    assert list_kinds_of_notes(found) == {
        **{"no_area": 2, "without_frame": 1, "unannotated": 1, "undecoded": 1, "unknown_pixels": 1, "other_shape": 1},
        **{"outside": 1, "other_label": 2, "unknown_hand": 2, "unknown_label": 1},
    }
    texts = {note.kind: str(note) for note in found.notes}
    assert texts["without_frame"].endswith("(the first: 'elsewhere.jpg')")
    assert texts["unannotated"] == ("1 frame is not annotated, and not compared (the first: 'unannotated.jpg')")
    assert "'dog' (1), 'person' (1)" in texts["other_label"]
    assert found.lists_all_hands


def test_annotations_of_other_frames_are_refused(tmp_path: Path) -> None:
    run = finish_run(tmp_path, {"frame_path": "anna/1.jpg"}, {"frame_path": "ben/1.jpg"})
    other = write_truth(tmp_path / "boxes.json", content={"carl/2.jpg": {"hands": []}, "carl/3.jpg": {"hands": []}})
    with pytest.raises(TruthError) as refusal:
        read_truth(run, other)
    assert str(refusal.value) == (
        f"{other}: none of the 2 annotated pictures is a frame of the run, by its path or the end of it: they are such "
        "as 'carl/2.jpg', 'carl/3.jpg', the 2 frames such as 'anna/1.jpg', 'ben/1.jpg'. Name pictures as `frame_path` "
        "does, or give the annotations of these frames"
    )
    ambiguous = write_truth(tmp_path / "boxes.json", content={"1.jpg": {"hands": []}})
    with pytest.raises(TruthError, match="1 annotated picture could be several frames"):
        read_truth(run, ambiguous)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"hands": [[0, 0, 0, 0]]}, "no annotated frame can be compared: 1 annotation has no box with an area"),
        ({"hands": [HAND], "size": [99, 640]}, "no annotated frame can be compared: .*do the images belong to another"),
        ({"hands": [HAND], "labels": ["thumb"]}, "no label means a hand or a face: 'thumb'; accepted: hand, face, and"),
    ],
)
def test_annotations_of_which_none_can_be_compared_are_refused(tmp_path: Path, frame: Any, message: str) -> None:
    run = finish_run(tmp_path, {"frame_path": "a.jpg"})
    with pytest.raises(TruthError, match=message):
        read_truth(run, write_truth(tmp_path / "boxes.json", content={"a.jpg": frame}))


def test_pixels_are_those_of_the_configuration_unless_given(tmp_path: Path) -> None:
    file = write_truth(tmp_path / "boxes.json", content={"a.jpg": {"hands": [HAND]}})
    turned = {"frame_path": "a.jpg", "row": {"orientation": 3}}
    run = finish_run(tmp_path, turned, truth_pixels="stored")
    upside_down = tuple(geometry.turn_boxes(HAND, 3, 640, 480))
    for pixels, expected in ((None, upside_down), ("stored", upside_down), ("upright", HAND)):
        found = read_truth(run, file, truth_pixels=pixels)
        assert found is not None
        assert list_boxes(found) == [("a.jpg", "hand", True, *expected)]
    with pytest.raises(TruthError, match="truth_pixels = 'up': accepted: upright, stored"):
        read_truth(run, file, truth_pixels="up")


def test_the_configuration_may_name_the_truth(tmp_path: Path) -> None:
    file = write_truth(tmp_path / "boxes.json", content={"a.jpg": {"hands": [HAND]}})
    found = read_truth(finish_run(tmp_path, {"frame_path": "a.jpg"}, truth=file))
    assert found is not None
    assert found.frames.tolist() == ["a.jpg"]


def test_a_column_is_read_with_the_class_of_the_labels(tmp_path: Path) -> None:
    boxes = "[[0.25, 0.25, 0.5, 0.5]]"
    frames: list[dict[str, Any]] = [
        {"frame_path": "a.jpg", "true_hands": boxes},
        {"frame_path": "b.jpg", "true_hands": boxes},
        {"frame_path": "c.jpg", "true_hands": "[]"},
        {"frame_path": "d.jpg", "true_hands": boxes, "row": {"orientation": 6, "width": 480, "height": 640}},
    ]
    sizes = ("640x480", None, None, "640x480")
    run = finish_run(tmp_path, *(frame | {"true_size": size} for frame, size in zip(frames, sizes, strict=True)))
    decide(run, "b.jpg", "label", class_name="like")
    found = read_truth(run)
    assert found is not None
    assert found.frames.tolist() == ["a.jpg", "b.jpg", "d.jpg"]
    assert found.boxes["is_target"].tolist() == [True, False, True]  # a person said that b.jpg shows another class
    assert list_boxes(found)[0][3:] == (160, 120, 320, 240)
    np.testing.assert_allclose(list_boxes(found)[2][3:], (240, 160, 360, 320))  # annotated as it is stored
    assert list_kinds_of_notes(found) == {"unannotated": 1}
    extracted = truth.extract_truth(run.outcomes)
    np.testing.assert_array_equal(extracted[list(CORNERS)], found.boxes[list(CORNERS)])


# -- decisions


def decide(run: FinishedRun, frame_path: str, action: Any, **what: Any) -> None:
    DecisionLog(run.store, "anna").append(judge_frame(run, frame_path, "anna", action, **what))
    outcomes.pair_run(run)


def test_decisions_are_truth(tmp_path: Path) -> None:
    names = ("kept.jpg", "rejected.jpg", "drawn.jpg", "labelled.jpg", "open.jpg")
    run = finish_run(tmp_path, *({"frame_path": name} for name in names))
    assert read_reviewed(run) is None
    decide(run, "kept.jpg", "keep")
    decide(run, "rejected.jpg", "reject")
    decide(run, "drawn.jpg", "box", box=(10.0, 20.0, 30.0, 40.0))
    decide(run, "drawn.jpg", "label", class_name="like")
    DecisionLog(run.store, "anna").append(judge_frame(run, "labelled.jpg", "anna", "label", class_name="like"))
    assert run.has_new_decisions  # of which the last is not in the outcomes yet
    found = read_reviewed(run)
    assert found is not None
    assert found.frames.tolist() == ["kept.jpg", "rejected.jpg", "drawn.jpg"]
    assert list_boxes(found) == [("kept.jpg", "hand", True, *HAND), ("drawn.jpg", "hand", True, 10, 20, 30, 40)]
    assert found.boxes["label"].tolist() == ["ok", "like"]
    assert found.origin == "decisions of 1 person"
    assert not found.lists_all_hands
    assert "not the outcomes that have the decisions" in str(found.notes[0])


# -- large tables


def make_many(count: int) -> tuple[Annotations, list[str]]:
    paths = [f"video {number // 90}/{number:07}.jpg" for number in range(count)]
    columns = AnnotationColumns()
    for path in paths:
        columns.add_box(columns.add_image(f"images/{path}", 640, 480), "ok", HAND)
    return columns.collect("pixels"), paths


def test_many_frames_are_matched() -> None:
    annotations, paths = make_many(20_000)
    found = match_names(annotations, paths[::-1])
    assert found.row.tolist() == list(range(19_999, -1, -1))
    assert [(note.kind, note.count) for note in found.notes] == [("by_end", 20_000)]


def test_the_vocabulary_of_these_tests_is_the_default() -> None:
    assert dict(load_config().labels) == LABELS


def test_an_unknown_format_is_refused_without_a_path_too(few: FinishedRun) -> None:
    with pytest.raises(TruthError, match="truth_format = 'xml': accepted: hagrid, coco"):
        read_truth(few, truth_format="xml")


def test_annotations_that_the_run_names_and_that_are_gone_are_noted(few: FinishedRun, monkeypatch: Any) -> None:
    monkeypatch.setitem(few.config.data.__dict__, "truth", "/nowhere/truth.json")
    found = read_truth(few)
    assert found is not None
    assert len(found.frames) == 0
    assert "`truth` of the run, /nowhere/truth.json, is not used: " in found.notes[0].text
    with pytest.raises(TruthError, match="no such file"):
        read_truth(few, "/nowhere/truth.json")


@pytest.mark.parametrize(
    ("label", "kind", "class_name"),
    [
        ("left_hand", "hand", ""),
        ("Hand", "hand", ""),
        ("hand_ok", "hand", "ok"),
        ("right-hand like", "hand", "like"),
        ("no hand", "unknown", ""),
        ("hand_unheard_of", "unknown", ""),
    ],
)
def test_labels_with_the_word_hand(label: str, kind: str, class_name: str) -> None:
    meaning = read_labels([label], load_config())[label]
    assert (meaning.kind, meaning.class_name or "") == (kind, class_name)
