"""Score samples with `detectime.evaluation`, and those of the MediaPipe loop: its best hand, without a face."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from benchmarks import measure
from benchmarks.data import WORDS, Frames
from benchmarks.peers import Loop
from benchmarks.worlds import World
from detectime import config as configuration

VARIANTS: dict[str, dict[str, Any]] = {
    name: {"quality": word, **others}
    for word in WORDS
    for name, others in ((word, {}), (f"{word}, fallback: frame", {"fallback": "frame"}))
}
PEER = "MediaPipe 0.10, whole frame, best hand, without faces"


def print_report(worlds: Iterable[World], peer: Loop | None) -> None:
    """Print one table per data set."""
    for world in worlds:
        rows = [
            (name, world.make_samples(configuration.load_config(parameters=parameters)))
            for name, parameters in VARIANTS.items()
        ]
        if peer:
            rows.append((PEER, world.find_best_hands(peer)))
        head = ("", "samples", "by fallback", "correct", "wrong", "precision", "mean IoU")
        frames = world.frames
        measure.print_table(
            f"{frames.title}, {len(frames.names)} frames", head, (make_row(frames, name, found) for name, found in rows)
        )


def make_row(frames: Frames, name: str, samples: pd.DataFrame) -> tuple[object, ...]:
    """Return the row of one contender in the table."""
    fallback = int((samples["outcome"] == "fallback").sum())
    if not frames.has_truth:
        count = int(samples["outcome"].isin(("paired", "fallback")).sum())
        return name, count, fallback, "–", "–", "–", "–"
    row = frames.score(samples)
    whole = (int(row[key]) for key in ("correct", "wrong"))
    return name, int(row["samples"]), fallback, *whole, f"{row['precision']:.3f}", f"{row['mean_iou']:.3f}"
