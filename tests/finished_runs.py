"""Finished runs on real frames, for the tests of what follows a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectime import outcomes, runs, sources
from detectime.config import load_config
from detectime.detection import run
from detectime.labels import frame_table
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun


def make_run(output: Path, **parameters: Any) -> FinishedRun:
    """Detect and pair frames, those of the sample unless `images` and `labels` are given, and open the run."""
    places = {"images": str(SAMPLE / "TRAIN_DATA"), "labels": str(SAMPLE / "train.csv"), "output": str(output)}
    config = load_config(parameters=places | {"workers": 2} | parameters)
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.read_labels(config, source)
    table = frame_table.select_frames(table, config.classes, config.selection.limit)
    run.detect_frames(table, source, config, config.data.output)
    finished = runs.open_run(output)
    outcomes.pair_run(finished, config.pairing)
    return finished
