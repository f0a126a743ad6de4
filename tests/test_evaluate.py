"""Scores, and the minimum quality of the default detectors on real frames and on the sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_detection, make_detection_row, make_detections_table, make_frame_table

from detectime import config as configuration
from detectime import evaluation, pairing, paths, sources
from detectime.config import Config, PairingConfig
from detectime.detection import run
from detectime.labels import frame_table, frames_csv
from detectime.sources.folder import FolderSource


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
    boxes = {
        "right.jpg": {"hands": [[0, 0, 10, 10], [100, 100, 200, 180]]},
        "wrong.jpg": {"hands": []},
        "none.jpg": {"hands": [[100, 100, 200, 200]]},
        "not wanted.jpg": {"hands": [[1, 1, 2, 2]]},
    }
    truth.write_text(json.dumps(boxes))
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
