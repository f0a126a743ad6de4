"""Print how good each variant is in each world, over all frames, by person and by size of the face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import measure, wrong_frames
from benchmarks.peers import Loop
from benchmarks.quality import PEER, VARIANTS
from benchmarks.worlds import (
    FACE_SIZES,
    MEASURES,
    World,
    compare_variants,
    group_by_face_size,
    score_frames,
    score_variant,
    summarize_variant,
)
from detectime import evaluation

BASELINES = ("balanced", "balanced, fallback: frame")

_MOST_PEOPLE = 12  # for a table with a column per person


def print_report(worlds: Iterable[World], peer: Loop | None, output: Path) -> None:
    """Print the tables of each world, and write the wrong frames of each variant below `output`."""
    wrong = []
    for world in worlds:
        scored = {name: score_variant(world, parameters) for name, parameters in VARIANTS.items()}
        if peer:
            scored[PEER] = score_frames(world, world.find_best_hands(peer))
        _print_tables(world.frames.title, scored)
        for name, frames in scored.items():
            found = wrong_frames.select_wrong(frames).assign(variant=name)
            wrong.append(found)
            wrong_frames.write_sheets(world, name, found, output)
    if not wrong:
        print("\nNo people are known in these frames: pass `--hagrid` or `--webcam`.")
        return
    path = wrong_frames.write_table(pd.concat(wrong), output)
    print(f"\nEvery wrong or missing frame: `{path.name}`, and the pictures beside it.")


def _print_tables(title: str, scored: Mapping[str, pd.DataFrame]) -> None:
    first = next(iter(scored.values()))
    what = f"{title}, {len(first)} frames of {first['person'].nunique()} people"
    head = ("", *(name.replace("mean_iou", "mean IoU") for name in MEASURES))
    rows = [(name, *format_cells(summarize_variant(frames), "value")) for name, frames in scored.items()]
    measure.print_table(f"{what}: 95 % intervals over people", head, rows)
    for baseline in BASELINES:
        others = [(name, frames) for name, frames in scored.items() if name != baseline]
        rows = [
            (name, *format_cells(compare_variants(scored[baseline], frames), "difference", "+"))
            for name, frames in others
        ]
        measure.print_table(f"{title}: difference to `{baseline}`, the same people drawn for both", head, rows)
    people = first["person"].unique()
    if len(people) <= _MOST_PEOPLE:
        head = ("", *(f"{person}: {(first['person'] == person).sum()}" for person in people))
        rows = [
            (name, *(_format_person(frames[frames["person"] == person]) for person in people))
            for name, frames in scored.items()
        ]
        measure.print_table(f"{title}, by person: frames, correct · wrong · mean IoU", head, rows)
    for kind in FACE_SIZES:
        groups = list(group_by_face_size(first, kind))
        head = ("", *(f"{name}: {len(each)} frames, {each['person'].nunique()} people" for name, each in groups))
        rows = [
            (name, *(_format_group(each) for _, each in group_by_face_size(frames, kind)))
            for name, frames in scored.items()
        ]
        measure.print_table(
            f"{title}, by the longer side of the face, {kind}: correct (interval) · precision · mean IoU", head, rows
        )


def format_cells(summary: pd.DataFrame, column: str, sign: str = "") -> list[str]:
    """Format each measure with its interval."""
    return [
        f"{row[column]:{sign}.3f}"
        + ("" if np.isnan(row["low"]) else f" ({row['low']:{sign}.3f}…{row['high']:{sign}.3f})")
        for _, row in summary.iterrows()
    ]


def _format_person(frames: pd.DataFrame) -> str:
    """Format the numbers of correct and wrong samples of one person, and their mean IoU."""
    samples, correct = frames["iou"].notna().sum(), (frames["iou"] >= evaluation.CORRECT).sum()
    return f"{correct} · {samples - correct} · {frames['iou'].mean():.2f}"


def _format_group(frames: pd.DataFrame) -> str:
    """Format the measures of some frames, the first one with its interval."""
    summary = summarize_variant(frames)
    return " · ".join([format_cells(summary, "value")[0], *(f"{value:.3f}" for value in summary["value"].iloc[1:])])
