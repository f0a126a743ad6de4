"""Finished runs on real frames, for the tests of what follows a run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from detectime import outcomes, paths, runs, sources
from detectime.config import load_config
from detectime.detection import run
from detectime.labels import frame_table
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun


def make_run(output: Path, **parameters: Any) -> FinishedRun:
    """Detect and pair frames, those of the sample unless `images` and `labels` are given, and open the run."""
    places = {"images": str(SAMPLE / "TRAIN_DATA"), "labels": str(SAMPLE / "train.csv"), "output": str(output)}
    config = load_config(parameters=places | {"workers": 1} | parameters)  # starting a second one takes longer
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.read_labels(config, source)
    table = frame_table.select_frames(table, config.classes, config.selection.limit)
    run.detect_frames(table, source, config, config.data.output)
    finished = runs.open_run(output)
    outcomes.pair_run(finished, config.pairing)
    return finished


def copy_run(run: Path, output: Path) -> FinishedRun:
    """Copy the folder of a run, and open the copy."""
    return runs.open_run(shutil.copytree(run, output))


def write_notebook(path: Path, *added: str) -> str:
    """Write notebook 01 with these cells at its end, and without its figures, report and explorer, which take longest.

    Returns its name, for ``--notebook``.
    """
    content = nbformat.read(paths.NOTEBOOKS / paths.DATA_LOADER, as_version=4)
    left_out = re.compile(r"charts\.plot_|notebook\.(show_report|make_explorer)")
    content.cells = [cell for cell in content.cells if cell.cell_type == "code" and not left_out.search(cell.source)]
    content.cells += [nbformat.v4.new_code_cell(cell) for cell in added]
    nbformat.write(content, path)
    return path.name
