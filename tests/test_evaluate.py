"""Scores, and the quality that the default detectors must reach on real frames and on the sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import detected, detections, looked_at, make_frame_table

import definitions
from detectime import config as configuration
from detectime import evaluation, pairing, sources
from detectime.config import Config, PairingConfig
from detectime.detection import run
from detectime.labels import frame_table
from detectime.sources.folder import FolderSource


def test_counts_each_frame_that_has_truth(tmp_path: Path) -> None:
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
    found = detections(
        looked_at("right.jpg", [face], [(100, 100, 200, 200)]),
        looked_at("wrong.jpg", [face], [(100, 100, 200, 200)]),
        looked_at("none.jpg", [face]),
        looked_at("without truth.jpg", [face], [(100, 100, 200, 200)]),
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


def test_counts_what_a_fallback_found(tmp_path: Path) -> None:
    far = (100, 100, 120, 120)
    table = make_frame_table({"frame_path": name} for name in ("wider.jpg", "alone.jpg", "wrong.jpg"))
    found = detections(
        looked_at("wider.jpg", [(150, 100, 170, 120)], [far]),
        looked_at("alone.jpg", [], [detected(far, stage="fallback")]),
        looked_at("wrong.jpg", [], [detected((0, 0, 9, 9), stage="fallback")]),
    )
    (tmp_path / "truth.json").write_text(json.dumps({name: {"hands": [far]} for name in table["frame_path"]}))
    truth = evaluation.read_truth(tmp_path / "truth.json")
    counts = [
        evaluation.score_samples(pairing.pair_frames(table, found, PairingConfig(fallback=fallback)), truth).loc["all"]
        for fallback in ("none", "wider", "frame")
    ]
    columns = ["frames", "samples", "correct", "wrong"]
    assert [list(count[columns]) for count in counts] == [[3, 0, 0, 0], [3, 1, 1, 0], [3, 3, 2, 1]]


def test_compares_the_hand_not_the_enlarged_box(tmp_path: Path) -> None:
    table = make_frame_table([{"frame_path": "a.jpg", "class_name": "mute"}])
    found = detections(looked_at("a.jpg", [(200, 100, 300, 200)], [(220, 180, 280, 260)]))
    (tmp_path / "truth.json").write_text(json.dumps({"a.jpg": {"hands": [[220, 180, 280, 260]]}}))
    samples = pairing.pair_frames(table, found, PairingConfig())
    assert evaluation.compute_best_iou(samples, evaluation.read_truth(tmp_path / "truth.json")).tolist() == [1.0]


def hagrid_settings(shared: Path) -> Config:
    folder = shared / "frames" / "hagrid"
    return configuration.load_config(
        parameters={"images": folder / "hagrid_dataset", "labels": folder / "hagrid_annotations" / "val"}
    )


def test_reads_hagrid(shared: Path) -> None:
    settings = hagrid_settings(shared)
    table = frame_table.read_labels(settings, sources.open_source(settings))
    assert len(table) == 48
    assert table["on_disk"].all()
    assert set(table["class_name"]) == {"stop", "victory", "mute", "ok", "like", "dislike"}
    assert not table.duplicated(["video_name", "frame_id"]).any()
    expected = {"duplicates": 0, "unlisted": 0, "unlisted_names": [], "notes": [], "unreachable": None}
    assert {name: table.attrs[name] for name in expected} == expected


def detect(images: Path, labels: Path, output: Path) -> pd.DataFrame:
    settings = configuration.load_config()
    source = FolderSource(str(images))
    table = frame_table.select_frames(frame_table.read_frames_csv(labels, source, settings.labels), settings.classes)
    return pairing.pair_frames(table, run.detect_frames(table, source, settings, str(output)), settings.pairing)


@pytest.mark.slow
def test_quality_on_hagrid(shared: Path, tmp_path: Path) -> None:
    settings = hagrid_settings(shared)
    source = sources.open_source(settings)
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
    samples = detect(contest / "TRAIN_DATA", contest / "train.csv", tmp_path / "run")
    wanted = samples[samples["wanted"]]
    assert len(wanted) == 103
    assert (wanted["outcome"] == "paired").mean() >= 0.95


@pytest.mark.slow
def test_quality_on_the_sample(tmp_path: Path) -> None:
    sample = definitions.SAMPLE
    samples = detect(sample / "TRAIN_DATA", sample / "train.csv", tmp_path / "run")
    scores = evaluation.score_samples(samples, evaluation.read_truth(sample / "truth.json"))
    assert scores.loc["all", "recall"] >= 0.85
    assert scores.loc["all", "precision"] >= 0.97
    assert scores.loc["all", "mean_iou"] >= 0.75
