"""Compare the samples of this tree with those of another commit on frames with annotated hands of known people."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import measure
from benchmarks.against import check_out, locate_weights, run_notebook
from benchmarks.quality import VARIANTS
from benchmarks.world_report import format_cells
from benchmarks.worlds import MEASURES, World, compare_variants, score_frames, score_variant
from detectime.schema import CORNERS

FALLBACK = {"fallback": "frame"}
BOTH = {"hand_detector": "hagrid, mediapipe"}
THEIRS: dict[str, dict[str, Any]] = {
    "default": {},
    "default, fallback: frame": FALLBACK,
    "hagrid, mediapipe, fallback: frame": {**BOTH, **FALLBACK},
    "both averaged, fallback: frame": {**BOTH, "near_coefficient": 0, **FALLBACK},
}
"""What the commit is run with: keys that all releases have."""

PAIRS = (
    ("balanced", "default"),
    ("balanced, fallback: frame", "default, fallback: frame"),
    ("fast, fallback: frame", "default, fallback: frame"),
    ("fast, fallback: frame", "hagrid, mediapipe, fallback: frame"),
    ("best, fallback: frame", "default, fallback: frame"),
    ("best, fallback: frame", "both averaged, fallback: frame"),
)
"""A variant of this tree, and that of the commit with which it is compared."""


def print_report(commit: str, worlds: Sequence[World]) -> None:
    """Print one table per world.

    Raises
    ------
    CommitError
        If git cannot check the commit out, or if its notebook fails.
    WeightsError
        If downloaded weights are missing.
    """
    environment = locate_weights()
    with check_out(commit) as tree, tempfile.TemporaryDirectory() as folder:
        for number, world in enumerate(worlds):
            theirs = {
                name: score_frames(world, run_commit(tree, world, keys, Path(folder, f"{number} {name}"), environment))
                for name, keys in THEIRS.items()
            }
            ours = {name: score_variant(world, VARIANTS[name]) for name, _ in PAIRS}
            rows = []
            for own, other in PAIRS:
                compared = compare_variants(theirs[other], ours[own])
                rows.append((f"{own} − {other} of {commit}", *format_cells(compared, "difference", "+")))
            head = ("", *(name.replace("mean_iou", "mean IoU") for name in MEASURES))
            measure.print_table(f"{world.frames.title}: difference, the same people drawn for both", head, rows)


def run_commit(
    tree: Path, world: World, keys: Mapping[str, Any], folder: Path, environment: Mapping[str, str]
) -> pd.DataFrame:
    """Run the notebook of a commit on the frames of a world, and return its samples, one row per frame of the table."""
    frames = world.frames
    places = {"images": frames.images, "labels": frames.labels}
    run = run_notebook(tree, {**places, **keys}, folder, environment)
    table = frames.table[["frame_path", "video_name", "wanted"]]
    outcomes = pd.read_csv(run / "outcomes.csv").set_index("frame_path").reindex(table["frame_path"])
    columns = ["outcome", "fallback", "found_by", "hand_score", *(f"hand_{corner}" for corner in CORNERS)]
    return pd.concat([table, outcomes.reindex(columns=columns).set_axis(table.index)], axis=1)
