"""Scores, and the minimum quality of the default detectors on real frames and on the sample."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import make_detection, make_detection_row, make_detections_table, make_frame_table
from finished_runs import copy_run
from skips import need_extra

from detectime import boxes, evaluation, pairing, paths, resampling, sources
from detectime import config as configuration
from detectime.config import Config, PairingConfig
from detectime.detection import run
from detectime.detection.manifest import RunError
from detectime.evaluation import Evaluation, Really, average_precision, compare_evaluations, evaluate_run, measures
from detectime.labels import frame_table, frames_csv
from detectime.runs import FinishedRun
from detectime.schema import CORNERS
from detectime.sources.folder import FolderSource
from detectime.truth import Truth, read_truth

# -- scores without intervals


def test_each_wanted_frame_with_truth_counts(tmp_path: Path) -> None:
    face = (200, 100, 300, 200)
    table = make_frame_table(
        [
            {"frame_path": "right.jpg", "class_name": "ok"},
            {"frame_path": "wrong.jpg", "class_name": "ok"},
            {"frame_path": "none.jpg", "class_name": "like"},
            {"frame_path": "without truth.jpg", "class_name": "like"},
            {"frame_path": "not wanted.jpg", "class_name": "stop", "wanted": False},
        ]
    )
    found = make_detections_table(
        make_detection_row("right.jpg", [face], [(100, 100, 200, 200)]),
        make_detection_row("wrong.jpg", [face], [(100, 100, 200, 200)]),
        make_detection_row("none.jpg", [face]),
        make_detection_row("without truth.jpg", [face], [(100, 100, 200, 200)]),
    )
    truth = tmp_path / "truth.json"
    annotated = {
        "right.jpg": {"hands": [[0, 0, 10, 10], [100, 100, 200, 180]]},
        "wrong.jpg": {"hands": []},
        "none.jpg": {"hands": [[100, 100, 200, 200]]},
        "not wanted.jpg": {"hands": [[1, 1, 2, 2]]},
    }
    truth.write_text(json.dumps(annotated))
    scores = evaluation.score_samples(pairing.pair_frames(table, found, PairingConfig()), evaluation.read_truth(truth))
    assert list(scores.index) == ["ok", "like", "all"]
    expected = {"frames": 3, "samples": 2, "correct": 1, "wrong": 1, "recall": 1 / 3, "precision": 0.5, "mean_iou": 0.4}
    assert scores.loc["all"].to_dict() == pytest.approx(expected)
    assert np.isnan(scores.loc["like", "precision"])


def test_samples_of_a_fallback_count(tmp_path: Path) -> None:
    far = (100, 100, 120, 120)
    table = make_frame_table({"frame_path": name} for name in ("wider.jpg", "alone.jpg", "wrong.jpg"))
    found = make_detections_table(
        make_detection_row("wider.jpg", [(150, 100, 170, 120)], [far]),
        make_detection_row("alone.jpg", [], [make_detection(far, stage="fallback")]),
        make_detection_row("wrong.jpg", [], [make_detection((0, 0, 9, 9), stage="fallback")]),
    )
    (tmp_path / "truth.json").write_text(json.dumps({name: {"hands": [far]} for name in table["frame_path"]}))
    truth = evaluation.read_truth(tmp_path / "truth.json")
    counts = [
        evaluation.score_samples(pairing.pair_frames(table, found, PairingConfig(fallback=fallback)), truth).loc["all"]
        for fallback in ("none", "wider", "frame")
    ]
    columns = ["frames", "samples", "correct", "wrong"]
    assert [list(count[columns]) for count in counts] == [[3, 0, 0, 0], [3, 1, 1, 0], [3, 3, 2, 1]]


def test_the_hand_is_compared_not_the_enlarged_box(tmp_path: Path) -> None:
    table = make_frame_table([{"frame_path": "a.jpg", "class_name": "mute"}])
    found = make_detections_table(make_detection_row("a.jpg", [(200, 100, 300, 200)], [(220, 180, 280, 260)]))
    (tmp_path / "truth.json").write_text(json.dumps({"a.jpg": {"hands": [[220, 180, 280, 260]]}}))
    samples = pairing.pair_frames(table, found, PairingConfig())
    assert evaluation.compute_best_iou(samples, evaluation.read_truth(tmp_path / "truth.json")).tolist() == [1.0]


def make_hagrid_config(shared: Path) -> Config:
    folder = shared / "frames" / "hagrid"
    return configuration.load_config(
        parameters={"images": folder / "hagrid_dataset", "labels": folder / "hagrid_annotations" / "val"}
    )


def test_hagrid_is_read_without_notes(shared: Path) -> None:
    settings = make_hagrid_config(shared)
    table = frame_table.read_labels(settings, sources.open_source(settings.data.images, settings.data.source_type))
    assert len(table) == 48
    assert table["on_disk"].all()
    assert set(table["class_name"]) == {"stop", "victory", "mute", "ok", "like", "dislike"}
    assert not table.duplicated(["video_name", "frame_id"]).any()
    expected = {"duplicates": 0, "unlisted": 0, "unlisted_names": [], "notes": [], "unreachable": None}
    assert {name: table.attrs[name] for name in expected} == expected


def pair_images(images: Path, labels: Path, output: Path) -> pd.DataFrame:
    settings = configuration.load_config()
    source = FolderSource(str(images))
    table = frame_table.select_frames(frames_csv.read_frames_csv(labels, source, settings.labels), settings.classes)
    return pairing.pair_frames(table, run.detect_frames(table, source, settings, str(output)), settings.pairing)


@pytest.mark.slow
def test_quality_on_hagrid(shared: Path, tmp_path: Path) -> None:
    settings = make_hagrid_config(shared)
    source = sources.open_source(settings.data.images, settings.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(settings, source), settings.classes)
    samples = pairing.pair_frames(
        table, run.detect_frames(table, source, settings, str(tmp_path / "run")), settings.pairing
    )
    score = evaluation.score_samples(samples, evaluation.extract_truth(samples)).loc["all"]
    assert score["frames"] == 48
    assert score["correct"] >= 44
    assert score["wrong"] <= 1
    assert score["mean_iou"] >= 0.84


@pytest.mark.slow
def test_quality_on_contest_frames(shared: Path, tmp_path: Path) -> None:
    contest = shared / "frames" / "contest"
    samples = pair_images(contest / "TRAIN_DATA", contest / "train.csv", tmp_path / "run")
    wanted = samples[samples["wanted"]]
    assert len(wanted) == 103
    assert (wanted["outcome"] == "paired").mean() >= 0.95


@pytest.mark.slow
def test_quality_on_the_sample(tmp_path: Path) -> None:
    sample = paths.SAMPLE
    samples = pair_images(sample / "TRAIN_DATA", sample / "train.csv", tmp_path / "run")
    scores = evaluation.score_samples(samples, evaluation.read_truth(sample / "truth.json"))
    assert scores.loc["all", "recall"] >= 0.85
    assert scores.loc["all", "precision"] >= 0.97
    assert scores.loc["all", "mean_iou"] >= 0.75


# -- evaluation of a run

FACE, NEAR, FAR = (200, 100, 300, 200), (100, 100, 200, 200), (600, 440, 639, 479)


class TableRun(FinishedRun):
    """A finished run of tables that are in memory."""

    def __init__(self, table: pd.DataFrame, detections: pa.Table, settings: PairingConfig | None = None) -> None:
        self._detections = detections
        self._outcomes = pairing.pair_frames(table, detections, settings or PairingConfig())

    @property
    def outcomes(self) -> pd.DataFrame:
        return self._outcomes

    def read_detections(self, columns: Any = None) -> pa.Table:
        return self._detections.select(columns)

    def check_paired(self, *, with_decisions: bool = True) -> None:
        pass


def make_truth(
    hands: Mapping[str, Iterable[Any]],
    others: Mapping[str, Iterable[Any]] | None = None,
    faces: Mapping[str, Iterable[Any]] | None = None,
    **options: Any,
) -> Truth:
    """Make the annotations of frames: targets, hands that are none, and faces."""
    kinds = (("hand", True, hands), ("hand", False, others or {}), ("face", False, faces or {}))
    rows = [
        (frame, kind, "", is_target, *box)
        for kind, is_target, found in kinds
        for frame, annotated in found.items()
        for box in annotated
    ]
    table = pd.DataFrame(rows, columns=["frame_path", "kind", "label", "is_target", *CORNERS])
    return Truth(table, pd.Index([*hands], dtype=str), "by hand", **options)


def get_values(found: Evaluation, by: str = "all", name: str = "all", column: str = "value") -> dict[str, float]:
    chosen = found.measures[(found.measures["by"] == by) & (found.measures["name"] == name)]
    return dict(zip(chosen["measure"], chosen[column], strict=True))


@pytest.fixture
def every_kind() -> tuple[TableRun, Truth]:
    """Return a run with a frame of each kind, and its annotations."""
    names = ["right", "loose", "other", "empty", "none", "unchosen", "undetected", "two", "left out", "unknown"]
    rows = [
        {"frame_path": name, "video_name": f"video {k % 2}", "class_name": "ok" if k < 5 else "like"}
        for k, name in enumerate(names)
    ]
    table = make_frame_table(row | {"wanted": row["frame_path"] != "left out"} for row in rows)
    found = {name: [NEAR] for name in names} | {"none": [], "unchosen": [FAR], "undetected": []}
    detections = make_detections_table(*(make_detection_row(name, [FACE], hands) for name, hands in found.items()))
    hands = {
        "right": [(100, 100, 200, 190)],
        "loose": [(100, 100, 200, 149)],
        "other": [FAR],
        "empty": [],
        "none": [],
        "unchosen": [FAR],
        "undetected": [NEAR],
        "two": [FAR, (100, 100, 200, 180)],
        "left out": [NEAR],
    }
    others = {"other": [(100, 100, 200, 195)], "none": [NEAR]}
    return TableRun(table, detections), make_truth(hands, others, {"right": [FACE], "two": [(0, 0, 5, 5)]})


def test_each_frame_is_what_its_annotations_say(every_kind: tuple[TableRun, Truth]) -> None:
    found = evaluate_run(*every_kind)
    frames = found.frames.set_index("frame_path")
    assert frames["really"].to_dict() == {
        "right": "correct",
        "loose": "wrong box",
        "other": "wrong class",
        "empty": "no hand",
        "none": "no hand",
        "unchosen": "hand detected but not chosen",
        "undetected": "hand not detected",
        "two": "correct",
    }
    assert frames.loc[frames["is_sample"], "iou"].to_dict() == pytest.approx(
        {"right": 0.9, "loose": 0.49, "other": 0, "empty": 0, "two": 0.8}
    )
    assert frames["best_iou"].dropna().to_dict() == pytest.approx(
        {"right": 0.9, "loose": 0.49, "other": 0, "unchosen": 1, "undetected": 0, "two": 0.8}
    )
    assert frames["true_hands"].tolist() == [1, 1, 2, 0, 1, 1, 1, 2]
    assert frames["target_hands"].tolist() == [1, 1, 1, 0, 0, 1, 1, 2]
    assert frames["found_hands"].tolist() == [1, 0, 1, 0, 0, 1, 0, 1]
    assert frames["found_faces"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert frames["outcome"]["unchosen"] == "apart"


def test_measures_are_the_ratios_that_they_say(every_kind: tuple[TableRun, Truth]) -> None:
    found = evaluate_run(*every_kind)
    expected = {
        "correct": (2 / 6, 6),  # neither `empty` nor `none` has a hand to find
        "precision": (2 / 5, 5),
        "mean_iou": ((0.9 + 0.49 + 0.8) / 5, 5),
        "hand_recall": (4 / 9, 9),
        "face_recall": (1 / 2, 2),
    }
    values, totals = get_values(found), get_values(found, column="total")
    for name, (value, total) in expected.items():
        assert (values[name], totals[name]) == pytest.approx((value, total)), name
    assert get_values(found, "class", "ok")["correct"] == pytest.approx(1 / 3)
    assert get_values(found, "class", "like")["precision"] == 1
    rows = found.measures.drop_duplicates(["by", "name"])
    assert rows["frames"][rows["by"] == "class"].tolist() == [5, 3]  # in the order of their labels
    assert found.measures["groups"][0] == 2


def test_counts_add_up(every_kind: tuple[TableRun, Truth]) -> None:
    found = evaluate_run(*every_kind)
    assert found.really.to_numpy().sum() == len(found.frames) == 8
    assert found.really.columns.tolist() == [kind.value for kind in Really]
    assert found.really.loc["paired"].tolist() == [2, 1, 1, 0, 0, 1]
    assert found.iou_counts["samples"].sum() == found.frames["is_sample"].sum()
    assert found.iou_counts["samples"][found.iou_counts["low"] >= 0.5].sum() == found.frames["is_correct"].sum()
    assert found.iou_counts["low"].tolist() == pytest.approx([k / 20 for k in range(20)])


def test_an_iou_of_a_half_is_correct_and_one_is_in_the_last_bin() -> None:
    table = make_frame_table({"frame_path": name} for name in ("half", "whole"))
    found = make_detections_table(*(make_detection_row(name, [FACE], [NEAR]) for name in ("half", "whole")))
    result = evaluate_run(TableRun(table, found), make_truth({"half": [(100, 100, 200, 150)], "whole": [NEAR]}))
    assert result.frames["is_correct"].all()
    assert result.iou_counts["samples"].tolist() == [0] * 10 + [1] + [0] * 8 + [1]


def test_the_note_says_which_frames_have_no_hand(every_kind: tuple[TableRun, Truth]) -> None:
    notes = {note.kind: note for note in evaluate_run(*every_kind).notes}
    assert (notes["no_target"].count, notes["no_target"].example) == (2, "empty")
    assert notes["few_groups"].count == 2


def test_faces_are_grouped_by_their_share_of_the_longer_side() -> None:
    sizes = {"none": None, "small": 79.9, "eighth": 80, "quarter": 160, "two": 200}
    table = make_frame_table({"frame_path": name} for name in sizes)
    rows = [
        make_detection_row(name, [] if size is None else [(0, 0, 10, 10), (0, 0, 40, size)], size=(480, 640))
        for name, size in sizes.items()
    ]
    found = evaluate_run(TableRun(table, make_detections_table(*rows)), make_truth({name: [NEAR] for name in sizes}))
    assert found.frames["face_size"].tolist() == ["no face", "< 1/8", "1/8–1/4", "> 1/4", "> 1/4"]
    sizes = found.measures[found.measures["by"] == "face size"].drop_duplicates("name")
    assert sizes["name"].tolist() == list(measures.FACE_SIZES)
    assert sizes["frames"].tolist() == [1, 1, 1, 2]


def make_random_run(seed: int, frames: int = 60, groups: int = 8) -> tuple[TableRun, Truth]:
    """Make a run and annotations at random: several hands and faces, some found, some of another class."""
    random = np.random.default_rng(seed)
    names = [f"{k:03d}.jpg" for k in range(frames)]
    classes = ["ok", "like", "stop"]
    table = make_frame_table(
        {"frame_path": name, "video_name": f"v{random.integers(groups)}", "class_name": classes[random.integers(3)]}
        for name in names
    )
    rows, hands, others, faces = [], {}, {}, {}
    for name in names:
        true = [np.array([x, y, x + 60, y + 70]) for x, y in random.uniform(0, 380, (random.integers(0, 4), 2))]
        detected = [box + random.normal(0, 12, 4) for box in true if random.random() < 0.7]
        face = (200.0, 150.0, 200 + random.uniform(20, 200), 250.0)
        found = [make_detection(tuple(box), score=random.random()) for box in detected]
        rows.append(make_detection_row(name, [face] if random.random() < 0.9 else [], found))
        hands[name], others[name], faces[name] = true[:2], true[2:], [face]
    return TableRun(table, make_detections_table(*rows)), make_truth(hands, others, faces)


def compute_plainly(found: TableRun, truth: Truth, chosen: Callable[[pd.Series], bool]) -> dict[str, float]:
    """Compute the measures frame by frame, in the plainest way."""
    detections = {row["frame_path"]: row for row in found.read_detections(["frame_path", "faces", "hands"]).to_pylist()}
    frames = with_target = samples = correct = hands = found_hands = faces = found_faces = 0
    total = 0.0
    for _, row in found.outcomes.iterrows():
        if not chosen(row):
            continue
        frames += 1
        known = truth.boxes[truth.boxes["frame_path"] == row["frame_path"]]

        def measure(box: Any, kind: str, column: str = "kind", known: pd.DataFrame = known) -> float:
            annotated = known[known[column] == kind][list(CORNERS)].to_numpy(float)
            return max((float(boxes.compute_iou(box, other)) for other in annotated), default=0.0)

        with_target += bool(known["is_target"].any())
        if row["outcome"] in ("paired", "fallback", "corrected"):
            iou = measure([row[f"hand_{corner}"] for corner in CORNERS], True, "is_target")
            samples, correct, total = samples + 1, correct + (iou >= 0.5), total + iou
        detected = detections[row["frame_path"]]
        for _, box in known.iterrows():
            kind = "hands" if box["kind"] == "hand" else "faces"
            near = [
                float(boxes.compute_iou([box[corner] for corner in CORNERS], [other[corner] for corner in CORNERS]))
                for other in detected[kind]
            ]
            is_found = max(near, default=0.0) >= 0.5
            hands, found_hands = hands + (kind == "hands"), found_hands + (kind == "hands" and is_found)
            faces, found_faces = faces + (kind == "faces"), found_faces + (kind == "faces" and is_found)
    parts = {"correct": (correct, with_target), "precision": (correct, samples), "mean_iou": (total, samples)}
    parts |= {"hand_recall": (found_hands, hands), "face_recall": (found_faces, faces)}
    return {name: part / whole if whole else np.nan for name, (part, whole) in parts.items()} | {"frames": frames}


@pytest.mark.parametrize("seed", range(4))
def test_measures_equal_those_computed_frame_by_frame(seed: int) -> None:
    run, truth = make_random_run(seed)
    found = evaluate_run(run, truth)
    size = found.frames.set_index("frame_path")["face_size"]
    choices: dict[str, Callable[[pd.Series, str], bool]] = {
        "all": lambda row, name: True,
        "class": lambda row, name: row["class_name"] == name,
        "face size": lambda row, name: size[row["frame_path"]] == name,
    }
    parts = found.measures.drop_duplicates(["by", "name"])
    assert parts["by"].unique().tolist() == list(choices)
    for by, name, frames in parts[["by", "name", "frames"]].itertuples(index=False):
        expected = compute_plainly(run, truth, lambda row, by=by, name=name: choices[by](row, name))
        assert frames == expected.pop("frames")
        values = get_values(found, by, name)
        assert {key: values[key] for key in expected} == pytest.approx(expected, nan_ok=True), (by, name)


def test_correct_is_the_recall_of_before_where_every_frame_has_a_hand() -> None:
    run, truth = make_random_run(0)
    has_hand = truth.boxes[truth.boxes["is_target"]]
    truth = Truth(has_hand, pd.Index(has_hand["frame_path"].unique()), "by hand")
    scores = evaluation.score_samples(run.outcomes, has_hand[["frame_path", *CORNERS]])
    found = evaluate_run(run, truth)
    for name, row in scores.iterrows():
        values = get_values(found, "all" if name == "all" else "class", str(name))
        expected = [row["recall"], row["precision"], row["mean_iou"]]
        assert [values[key] for key in ("correct", "precision", "mean_iou")] == pytest.approx(expected)


def test_intervals_are_those_of_drawn_groups() -> None:
    found = evaluate_run(*make_random_run(1, frames=200, groups=20))
    for by, name, frames in [
        ("all", "all", found.frames),
        ("class", "like", found.frames[found.frames["class_name"] == "like"]),
    ]:
        groups = sorted(frames["group"].unique())
        counts = resampling.draw_groups(groups)
        values = []
        for count in counts:
            drawn = frames["group"].map(dict(zip(groups, count, strict=True)))
            values.append((drawn * frames["is_correct"]).sum() / (drawn * frames["is_sample"]).sum())
        limits = np.percentile(values, [2.5, 97.5]).tolist()
        low, high = (get_values(found, by, name, column)["precision"] for column in ("low", "high"))
        assert [low, high] == pytest.approx(limits)


def test_a_note_says_that_no_error_is_no_promise() -> None:
    table = make_frame_table({"frame_path": f"{k}", "video_name": f"v{k % 12}"} for k in range(24))
    found = make_detections_table(*(make_detection_row(f"{k}", [FACE], [NEAR] * (k > 0)) for k in range(24)))
    result = evaluate_run(TableRun(table, found), make_truth({f"{k}": [NEAR] for k in range(24)}))
    (note,) = (note for note in result.notes if note.kind == "perfect")
    assert str(note).startswith("2 measures have no error in any of 12 groups (precision, mean IoU): ")
    assert "up to 25.0 % of other groups" in str(note)


def make_like(count: int = 24, annotated: Any = NEAR) -> tuple[TableRun, Truth]:
    """Make frames of the class like, each with a hand that was detected and one that is annotated."""
    names = [f"{k}" for k in range(count)]
    rows = ({"frame_path": name, "video_name": f"v{name[-1]}", "class_name": "like"} for name in names)
    found = make_detections_table(*(make_detection_row(name, [FACE], [NEAR]) for name in names))
    return TableRun(make_frame_table(rows), found), make_truth({name: [annotated] for name in names})


def get_notes(found: Evaluation) -> dict[str, str]:
    return {note.kind: str(note) for note in found.notes}


def test_a_note_says_that_nothing_right_is_no_certainty_either() -> None:
    found = evaluate_run(*make_like(annotated=FAR))
    assert get_values(found, column="high")["precision"] == 0
    text = get_notes(found)["all_wrong"]
    assert "measures have nothing right in any of 10 groups (correct, precision, mean IoU, hand recall" in text
    assert "up to 30.0 % of other groups may have something right" in text
    assert "all_wrong" not in get_notes(evaluate_run(*make_like()))


def test_annotated_hands_that_are_elsewhere_are_implausible() -> None:
    run, truth = make_like(annotated=FAR)
    assert get_notes(evaluate_run(run, truth))["implausible"].startswith("The annotated hands are nowhere near")
    assert "implausible" not in get_notes(evaluate_run(*make_like(9, FAR)))
    names = run.outcomes["frame_path"]
    few = make_detections_table(*(make_detection_row(name, [FACE], [NEAR] * (k < 12)) for k, name in enumerate(names)))
    poor = TableRun(make_frame_table({"frame_path": name} for name in names), few)
    assert "implausible" not in get_notes(evaluate_run(poor, truth))


def test_annotated_classes_of_other_frames_are_implausible() -> None:
    run, truth = make_like()
    assert "implausible" not in get_notes(evaluate_run(run, truth))
    labels = ["dislike"] * 13 + ["stop"] * 11
    turned = dataclasses.replace(truth, boxes=truth.boxes.assign(is_target=False, label=labels))
    assert get_notes(evaluate_run(run, turned))["implausible"].startswith(
        "The class 'dislike' is annotated on 13 frames of 'like': is the order of the class names"
    )


def test_one_group_has_no_interval() -> None:
    run, truth = make_random_run(0, groups=1)
    found = evaluate_run(run, truth)
    assert found.measures[["low", "high"]].isna().all(axis=None)
    assert found.measures["value"].notna().any()
    assert "All annotated frames are of one video" in str(next(n for n in found.notes if n.kind == "one_group"))


def test_a_measure_of_one_group_has_no_interval() -> None:
    """Of two groups one has no sample at all: nothing is known of how precision differs between groups."""
    table = make_frame_table({"frame_path": f"{k}", "video_name": f"v{k % 2}"} for k in range(8))
    found = make_detections_table(*(make_detection_row(f"{k}", [FACE], [NEAR] * (1 - k % 2)) for k in range(8)))
    result = evaluate_run(TableRun(table, found), make_truth({f"{k}": [NEAR] for k in range(8)}))
    assert get_values(result)["precision"] == 1
    low = get_values(result, column="low")
    assert np.isnan(low["precision"])
    assert (low["correct"], get_values(result, column="high")["correct"]) == (0, 1)


def test_no_annotated_frame_is_wanted() -> None:
    run, truth = make_random_run(0)
    nothing = Truth(truth.boxes, pd.Index(["elsewhere.jpg"]), "by hand")
    found = evaluate_run(run, nothing)
    assert len(found.frames) == 0
    assert found.measures["value"].isna().all()
    assert found.really.to_numpy().sum() == 0
    assert found.iou_counts["samples"].sum() == 0
    assert found.list_worst(5).empty
    assert [note.kind for note in found.notes] == ["not_evaluated"]
    compared = compare_evaluations(found, evaluate_run(run, truth))
    assert (compared["frames"] == 0).all()
    assert compared["difference"].isna().all()


def test_the_worst_come_first_and_each_group_in_turn(every_kind: tuple[TableRun, Truth]) -> None:
    found = evaluate_run(*every_kind)
    worst = found.list_worst(10)["frame_path"].tolist()
    # `other` is in video 0, `empty` and `loose` in video 1; `none` is right.
    assert worst == ["other", "empty", "loose", "unchosen", "undetected", "two", "right"]
    assert found.list_worst(2)["frame_path"].tolist() == worst[:2]
    run, truth = make_random_run(0, frames=200)
    wrong = evaluate_run(run, truth).list_worst(200)
    first = wrong[wrong["is_sample"] & ~wrong["is_correct"]].head(8)
    assert first["group"].nunique() == min(8, wrong[wrong["is_sample"] & ~wrong["is_correct"]]["group"].nunique())


def test_samples_may_be_other_outcomes_of_the_run(every_kind: tuple[TableRun, Truth]) -> None:
    run, truth = every_kind
    none = run.outcomes.assign(outcome=run.outcomes["outcome"].replace({"paired": "rejected"}))
    found = evaluate_run(run, truth, none)
    assert get_values(found)["correct"] == 0
    assert np.isnan(get_values(found)["precision"])
    assert get_values(found)["hand_recall"] == get_values(evaluate_run(run, truth))["hand_recall"]


# -- average precision


def test_without_hotcoco_a_note_names_the_extra(
    every_kind: tuple[TableRun, Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(average_precision, "has_hotcoco", lambda: False)
    found = evaluate_run(*every_kind)
    assert not found.measures["measure"].str.contains("ap").any()
    assert "[evaluate]" in str(next(note for note in found.notes if note.kind == "no_ap"))


@pytest.mark.extra
def test_average_precision_ranks_samples_and_detected_hands() -> None:
    need_extra("hotcoco")
    run, truth = make_random_run(2)
    found = evaluate_run(run, truth)
    assert "no_ap" not in {note.kind for note in found.notes}
    values, totals = get_values(found), get_values(found, column="total")
    assert values["hands_ap50"] > values["ap50"] > values["ap"] > 0
    assert totals["ap"] == totals["ap50"] == found.frames["target_hands"].sum()
    assert totals["hands_ap"] == found.frames["true_hands"].sum()
    for kind, prefix in measures.RANKINGS.items():
        expected = average_precision.accumulate_ap(found.rankings[kind].matches)
        assert [values[f"{prefix}ap50"], values[f"{prefix}ap"]] == pytest.approx(expected.tolist())
    low, high = (get_values(found, column=column) for column in ("low", "high"))
    assert all(low[name] < values[name] < high[name] for name in values)


@pytest.mark.extra
def test_unlisted_hands_are_no_errors_of_detection() -> None:
    need_extra("hotcoco")
    run, truth = make_random_run(0)
    found = evaluate_run(run, Truth(truth.boxes, truth.frames, "HaGRID", lists_all_hands=False))
    assert {"ap", "ap50"} <= set(found.measures["measure"])
    assert not found.measures["measure"].str.startswith("hands_").any()


@pytest.mark.extra
def test_a_box_that_a_person_drew_ranks_first() -> None:
    need_extra("hotcoco")
    table = make_frame_table({"frame_path": name} for name in ("drawn", "wrong"))
    detections = make_detections_table(make_detection_row("drawn", [FACE]), make_detection_row("wrong", [FACE], [NEAR]))
    run = TableRun(table, detections)
    drawn = run.outcomes.copy()
    drawn.loc[0, "outcome"] = "corrected"
    drawn.loc[0, [f"hand_{corner}" for corner in CORNERS]] = NEAR
    assert np.isnan(drawn["hand_score"][0])
    found = evaluate_run(run, make_truth({"drawn": [NEAR], "wrong": [FAR]}), drawn)
    assert get_values(found)["ap"] == pytest.approx(51 / 101)  # precision 1 up to a recall of a half


@pytest.mark.extra
def test_more_classes_than_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    need_extra("hotcoco")
    monkeypatch.setattr(measures, "MOST_CLASSES", 2)
    found = evaluate_run(*make_random_run(0))
    ranked = found.measures[found.measures["measure"] == "ap"]
    assert set(ranked["by"]) == {"all", "face size"}
    assert next(note for note in found.notes if note.kind == "many_classes").count == 3


# -- two evaluations compared


def test_the_same_groups_are_drawn_for_both() -> None:
    run, truth = make_random_run(0, frames=300, groups=30)
    better = TableRun.__new__(TableRun)
    better.__dict__.update(run.__dict__)
    lost = run.outcomes.sample(frac=0.1, random_state=0).index
    samples = run.outcomes.copy()
    samples.loc[lost, "outcome"] = "rejected"
    a, b = evaluate_run(run, truth, samples), evaluate_run(run, truth)
    compared = compare_evaluations(a, b).set_index("measure")
    assert compared.loc["correct", "a"] == get_values(a)["correct"]
    assert compared.loc["correct", "b"] == get_values(b)["correct"]
    assert compared["difference"].tolist() == pytest.approx((compared["b"] - compared["a"]).tolist())
    width = compared.loc["correct", "high"] - compared.loc["correct", "low"]
    alone = get_values(b, column="high")["correct"] - get_values(b, column="low")["correct"]
    assert 0 < width < alone
    assert compared.loc["correct", "low"] > 0
    assert (compared.loc[["hand_recall", "face_recall"], ["difference", "low", "high"]] == 0).all(axis=None)


def test_common_frames_are_compared_by_name_in_any_order() -> None:
    run, truth = make_random_run(0)
    some = run.outcomes.iloc[::-1].iloc[:40]
    a, b = evaluate_run(run, truth), evaluate_run(run, truth, some)
    compared = compare_evaluations(a, b).set_index("measure")
    assert (compared["frames"] == 40).all()
    assert (compared["groups"] == some["video_name"].nunique()).all()
    assert (compared["difference"].abs() < 1e-12).all()
    assert compared["a"].to_dict() == pytest.approx(get_values(b))
    assert compare_evaluations(b, a)["b"].tolist() == pytest.approx(compared["a"].tolist())


def test_faces_that_one_of_two_lacks_are_not_compared() -> None:
    run, truth = make_random_run(0)
    hands = Truth(truth.boxes[truth.boxes["kind"] == "hand"], truth.frames, "by hand")
    a, b = evaluate_run(run, truth), evaluate_run(run, hands)
    for compared in (compare_evaluations(a, b), compare_evaluations(b, a)):
        assert "face_recall" not in set(compared["measure"])
        assert compared["difference"].tolist() == pytest.approx([0] * len(compared))


# -- real runs


@pytest.mark.slow
def test_the_sample_is_evaluated(sample_run: Path, tmp_path: Path) -> None:
    finished = copy_run(sample_run, tmp_path / "run")
    truth = read_truth(finished)
    assert truth is not None
    found = evaluate_run(finished, truth)
    scores = evaluation.score_samples(finished.outcomes, evaluation.read_truth(paths.SAMPLE / "truth.json"))
    values = get_values(found)
    assert found.frames["group"].nunique() == finished.frames.query("wanted")["video_name"].nunique()
    assert values["precision"] == pytest.approx(scores.loc["all", "precision"])
    assert values["mean_iou"] == pytest.approx(scores.loc["all", "mean_iou"])
    assert values["hand_recall"] >= values["correct"] >= 0.85
    assert values["face_recall"] > 0.9
    assert not any(note.kind == "implausible" for note in found.notes)
    halves = truth.boxes.assign(**{corner: truth.boxes[corner] / 4 for corner in ("x1", "y1", "x2", "y2")})
    note = evaluate_run(finished, dataclasses.replace(truth, boxes=halves)).notes[0]
    assert (note.kind, str(note)[:57]) == ("implausible", "The annotated hands are nowhere near the detected ones: b")
    turned = {"stop": "victory", "victory": "mute", "mute": "ok", "ok": "like", "like": "dislike", "dislike": "stop"}
    classes = finished.outcomes.set_index("frame_path")["class_name"].reindex(truth.boxes["frame_path"]).map(turned)
    boxes = truth.boxes.assign(label=classes.to_numpy(), is_target=False)
    note = evaluate_run(finished, dataclasses.replace(truth, boxes=boxes)).notes[0]
    assert note.kind == "implausible"
    assert "is annotated on 18 frames of" in note.text
    finished.manifest["finished"] = "2000-01-01T00:00:00"  # as if detected again
    with pytest.raises(RunError, match="pair it again"):
        evaluate_run(finished, truth)


@pytest.mark.slow
@pytest.mark.extra
def test_a_thousand_draws_of_464_images_are_quick() -> None:
    need_extra("hotcoco")
    run, truth = make_random_run(0, frames=464, groups=200)
    evaluate_run(run, truth)
    start = time.process_time()
    evaluate_run(run, truth)
    assert time.process_time() - start < 5
