"""Runs without detectors, for tests of what binds a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from faults import ImaginaryFolder, InstantEngine, list_stored_files, make_config, name_frames, tabulate_frames

from detectime.config import Config
from detectime.detection import resume, run
from detectime.detection.engines.contract import Engine
from detectime.detection.manifest import RunError
from detectime.errors import ConfigError
from detectime.storage import store as stores

NAMES = name_frames(12)
MORE = name_frames(16)


def detect(
    output: Path, frame_paths: Iterable[str] = NAMES, engine: Engine | None = None, **parameters: Any
) -> tuple[InstantEngine, Config]:
    """Run without detectors, resuming as the notebook does; returns the engine and the resolved configuration."""
    config = make_config(**{"save_per_num_images": 3, "output": str(output), **parameters})
    return detect_with(config, output, frame_paths, engine)


def detect_with(
    config: Config, output: Path, frame_paths: Iterable[str] = NAMES, engine: Engine | None = None
) -> tuple[InstantEngine, Config]:
    """Run without detectors; returns the engine and the resolved configuration."""
    resolved, _ = resume.resume_config(config, stores.open_store(str(output)))
    source = ImaginaryFolder("/nowhere")
    engine = engine or InstantEngine()
    run.detect_frames(tabulate_frames(list(frame_paths)), source, config, str(output), engine)
    assert isinstance(engine, InstantEngine)
    return engine, resolved


def read_files(folder: Path) -> dict[str, bytes]:
    """Read all files in a run's folder."""
    return {name: (folder / name).read_bytes() for name in list_stored_files(folder)}


def expect_refusal(output: Path, frame_paths: Iterable[str] = NAMES, **parameters: Any) -> str:
    """Start a run that must be rejected without changing anything; returns the message."""
    before, engine = read_files(output), InstantEngine()
    with pytest.raises((RunError, ConfigError)) as refusal:
        detect(output, frame_paths, engine, **parameters)
    assert read_files(output) == before
    assert engine.asked == []
    return str(refusal.value)
