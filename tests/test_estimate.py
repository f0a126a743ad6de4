"""`detectime run --dry-run`: what a run would do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectime import paths, sources
from detectime.cli import estimate
from detectime.cli.estimate import estimate_run
from detectime.config import load_config
from detectime.detection import run
from detectime.detection.manifest import RunError
from detectime.labels import frame_table

SAMPLE = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv"}


def run_on_sample(output: Path, **parameters: Any) -> None:
    config = load_config(parameters={**SAMPLE, "output": output, "workers": 1, **parameters})
    source = sources.open_source(config.data.images)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes, config.selection.limit)
    run.detect_frames(table, source, config, config.data.output)


def estimate_sample(output: Path, **parameters: Any) -> estimate.Estimate:
    return estimate_run(load_config(parameters={**SAMPLE, "output": output, "workers": 2, **parameters}))


def test_a_few_frames_are_measured_all_of_them(tmp_path: Path) -> None:
    found = estimate_sample(tmp_path / "run", limit=3)
    assert (found.frames, found.pending.done, found.measured, found.workers) == (3, 0, 3, 2)
    assert 0.002 < found.seconds_per_frame < 5
    assert found.seconds == pytest.approx(found.seconds_per_frame * 3 / 2)
    assert not (tmp_path / "run").exists()


def test_only_what_is_pending_counts(tmp_path: Path) -> None:
    run_on_sample(tmp_path / "run", limit=8)
    found = estimate_sample(tmp_path / "run", limit=20)
    assert (found.frames, found.pending.done, found.pending.changed) == (12, 8, 0)
    assert estimate_sample(tmp_path / "run", limit=8).frames == 0
    assert estimate_sample(tmp_path / "run", limit=8).seconds == 0
    assert estimate_sample(tmp_path / "run", limit=8, redetect=True).frames == 8


def test_changed_frames_are_pending(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    shutil.copytree(SAMPLE["images"], frames)
    run_on_sample(tmp_path / "run", images=frames, limit=8)
    shutil.copy(frames / "ok_01" / "0001.jpg", frames / "stop_01" / "0001.jpg")
    found = estimate_sample(tmp_path / "run", images=frames, limit=8)
    assert (found.frames, found.pending.done, found.pending.changed) == (1, 7, 1)


def test_a_run_that_would_be_refused_is_refused(tmp_path: Path) -> None:
    run_on_sample(tmp_path / "run", limit=2)
    with pytest.raises(RunError, match=r"hand_confidence: the run has 0\.5, now it is 0\.7"):
        estimate_sample(tmp_path / "run", hand_confidence=0.7)
    with pytest.raises(RunError, match="not one of the 108 wanted frames exists"):
        estimate_sample(tmp_path / "other", images=tmp_path)
    (tmp_path / "run" / "detections.parquet").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"detections.parquet: damaged .* what can be read of it is kept"):
        estimate_sample(tmp_path / "run", limit=2)
    assert (tmp_path / "run" / "detections.parquet").read_bytes() == b"damaged"


def test_the_measured_frames_are_neighbours_spread_over_the_table() -> None:
    available = np.ones(1000, bool)
    available[:100] = False
    rows = estimate._choose_rows(available)
    assert len(rows) == 20
    assert rows[0] == 100
    assert rows[-1] == 999
    assert (np.diff(rows) == 1).sum() == 16
    assert len(estimate._choose_rows(np.ones(21, bool))) <= 20
    assert estimate._choose_rows(np.zeros(9, bool)).tolist() == []
