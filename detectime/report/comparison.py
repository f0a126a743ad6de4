"""The page that shows what differs between two runs, or between a run and other settings of its pairing.

First how many samples were gained, lost, moved and given another class, then these per class, what differs in the
settings, and the frames themselves, as cards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import detectime
from detectime.boxes import Flags
from detectime.comparison import Change, Comparison, count_changes
from detectime.comparison.changes import fit_boxes
from detectime.comparison.text import (
    FAR,
    choose_classes,
    count_reasons,
    describe_moves,
    format_difference,
    judge_difference,
    summarize_comparison,
)
from detectime.evaluation.measures import name_measure
from detectime.pairing import get_boxes
from detectime.report import figures, sections
from detectime.report.card_boxes import CardBox
from detectime.report.cards import Gallery, GalleryRequest, list_kinds, make_galleries
from detectime.report.measured import format_measure
from detectime.report.pages import count_items, render_page
from detectime.report.report import BUDGET, SMALL_BUDGET
from detectime.report.sections import Section, Table
from detectime.runs import FinishedRun
from detectime.schema import Outcome

_SMALL = 3_000  # frames of a comparison whose page has at most `SMALL_BUDGET` bytes
_TEXT_PER_CARD = 1_500  # bytes
_SHOWN, _MORE = 8, 16  # cards of each change in view, and more
_SHOWN_SETTINGS = 12
_MOST_REASONS = 12
_WITHOUT_FRAME = (Outcome.MISSING, Outcome.UNREADABLE, Outcome.FAILED, Outcome.LEFT_OUT)
"""Outcomes of frames in B that are shown from A, if A has a sample of them."""
_BAR = (Change.SAME, Change.MOVED, Change.RELABELLED, Change.GAINED, Change.LOST)  # parts of a bar, in their order


@dataclass(frozen=True)
class ClassChanges:
    """The samples of a class, or of several, in A and B, and how they changed.

    Attributes
    ----------
    name
        The class.
    samples_a, samples_b
        How many there are.
    changes
        How many gained, lost, moved, came from another class and went to one, in the order of the columns.
    bar
        The same as parts of a bar.
    """

    name: str
    samples_a: int
    samples_b: int
    changes: tuple[int, ...]
    bar: tuple[figures.Segment, ...]


@dataclass(frozen=True)
class MeasureChange:
    """A measure in A and B, and the difference: as text, and where to draw it, in percent of an axis around 0."""

    name: str
    a: str
    b: str
    difference: str
    interval: str
    verdict: str
    place: figures.Interval | None


@dataclass(frozen=True)
class _Material:
    """What a page is made of."""

    a: FinishedRun
    b: FinishedRun
    comparison: Comparison


def make_comparison_page(a: FinishedRun, b: FinishedRun, comparison: Comparison, *, blur_faces: bool = False) -> bytes:
    """Make the page of a comparison: one HTML file that loads nothing from outside.

    Frames are read from the run `b`, and from `a` where B could not use them.

    Parameters
    ----------
    a, b
        The runs; of `comparison.compare_settings` and `comparison.compare_decisions` both are the same.
    comparison
        What was found.
    blur_faces
        Make the faces that were found unrecognisable.

    Returns
    -------
    bytes
        HTML, at most `report.BUDGET` bytes whatever the runs.

    Raises
    ------
    RunError
        If the detections of a run cannot be read.

    Examples
    --------
    >>> from detectime.comparison import compare_runs
    >>> from detectime.runs import open_run
    >>> a, b = open_run("before"), open_run("after")  # doctest: +SKIP
    >>> page = make_comparison_page(a, b, compare_runs(a, b))  # doctest: +SKIP
    """
    material = _Material(a, b, comparison)
    budget = SMALL_BUDGET if len(comparison.frames) <= _SMALL else BUDGET
    room = budget - len(_render(material, []))
    requests = _request_from_b(material), _request_from_a(material)
    while True:
        page = _render(material, _make_pictures(material, requests, room, blur_faces))
        if len(page) <= budget or room <= 0:
            return page
        room -= len(page) - budget + _TEXT_PER_CARD


def list_class_changes(classes: pd.DataFrame) -> tuple[list[ClassChanges], ClassChanges | None, ClassChanges]:
    """List the samples of each class; of many classes, of those that changed most.

    Parameters
    ----------
    classes
        `Comparison.classes`.

    Returns
    -------
    rows, others, total
        One row per listed class, the sum of the others (None if there are none), and the sum of all.

    Examples
    --------
    >>> columns = ["samples_a", "samples_b", "gained", "lost", "moved", "relabelled_in", "relabelled_out", "same"]
    >>> classes = pd.DataFrame([[2, 3, 1, 0, 0, 0, 0, 2]], index=["ok"], columns=columns)
    >>> rows, others, total = list_class_changes(classes)
    >>> [(part.name, part.count) for part in rows[0].bar], others, total.samples_b
    ([('same', 2), ('gained', 1)], None, 3)
    """
    shown, hidden = choose_classes(classes, sections.MOST_CLASSES)
    lengths = classes[["same", "moved", "relabelled_in", "gained", "lost"]].sum(axis=1)
    most = max(1, int(lengths.loc[shown].max())) if len(shown) else 1
    rows = [_make_row(name, row, most) for name, row in classes.loc[shown].iterrows()]
    others = _sum_rows(f"{len(hidden):,} more", classes.loc[hidden]) if len(hidden) else None
    return rows, others, _sum_rows("all", classes)


def list_measure_changes(measures: pd.DataFrame) -> list[MeasureChange]:
    """List measures of A and B and their differences; those that neither has are left out.

    Parameters
    ----------
    measures
        `Comparison.measures`.

    Examples
    --------
    >>> row = {"measure": "precision", "a": 0.95, "b": 0.97, "difference": 0.02, "low": -0.01, "high": 0.05}
    >>> found = list_measure_changes(pd.DataFrame([row]))[0]
    >>> found.name, found.difference, found.verdict
    ('precision', '+0.020', 'no certain difference')
    """
    known = measures[measures["difference"].notna()]
    ends = known[["difference", "low", "high"]].abs().to_numpy(np.float64)
    span = float(np.nanmax(ends)) if len(known) else 1.0
    return [_make_measure(row, span or 1.0) for _, row in known.iterrows()]


def _make_measure(row: pd.Series, span: float) -> MeasureChange:
    name = str(row["measure"])
    value, low, high = (float(row[column]) for column in ("difference", "low", "high"))
    has_interval = not (math.isnan(low) or math.isnan(high))
    at, left, right = (round(50 + 50 * end / span, 2) for end in (value, *((low, high) if has_interval else (0, 0))))
    return MeasureChange(
        name_measure(name),
        format_measure(name, float(row["a"])),
        format_measure(name, float(row["b"])),
        format_difference(value),
        f"{format_difference(low)} to {format_difference(high)}" if has_interval else "",
        judge_difference(low, high, row.get("groups")),
        figures.Interval(at, left if has_interval else None, right if has_interval else None),
    )


def _make_row(name: Any, row: pd.Series, most: int) -> ClassChanges:
    names = ("gained", "lost", "moved", "relabelled_in", "relabelled_out")
    counts = {kind.value: int(row["relabelled_in" if kind is Change.RELABELLED else kind.value]) for kind in _BAR}
    changes = tuple(int(row[column]) for column in names)
    bar = figures.stack_segments(counts, most)
    return ClassChanges(str(name), int(row["samples_a"]), int(row["samples_b"]), changes, bar)


def _sum_rows(name: str, classes: pd.DataFrame) -> ClassChanges:
    total = classes.sum()
    return _make_row(name, total, max(1, int(total[["same", "moved", "relabelled_in", "gained", "lost"]].sum())))


# -- pictures


def _make_pictures(
    material: _Material,
    requests: tuple[Sequence[GalleryRequest], Sequence[GalleryRequest]],
    room: int,
    blur_faces: bool,
) -> list[Gallery]:
    """Make the cards, with their texts in about `room` bytes."""
    cards = [sum(min(len(request.rows), request.shown + request.more) for request in each) for each in requests]
    budget = max(room // 4, room - _TEXT_PER_CARD * sum(cards))
    found: list[Gallery] = []
    for run, each, count in zip((material.b, material.a), requests, cards, strict=True):
        if count:
            share = budget * count // sum(cards)
            found += make_galleries(run, each, budget=share, blur_faces=blur_faces)
    return found


def _request_from_b(material: _Material) -> list[GalleryRequest]:
    """Ask for frames of each change, as B has them, with the boxes of A."""
    frames, is_unusable = material.comparison.frames, _find_unusable(material.comparison)
    requests = []
    for kind, sentence in (
        (Change.GAINED, "Only B has a sample of these frames."),
        (Change.LOST, "Only A has a sample of these frames: “before” marks its hand."),
        (Change.RELABELLED, "Both have a sample of these frames, of another class; “before” marks the hand of A."),
        (Change.MOVED, "Both have a sample of these frames, and the crops differ; “before” marks the hand of A."),
    ):
        rows = np.flatnonzero((frames["change"] == kind.value).to_numpy() & ~is_unusable)
        if len(rows):
            requests.append(_request_change(material, kind, sentence, rows))
    return requests


def _request_change(material: _Material, kind: Change, sentence: str, rows: Any) -> GalleryRequest:
    comparison = material.comparison
    if kind is Change.MOVED:
        rows = rows[_order_moves(comparison.frames.iloc[rows])]
        sentence += f" The least alike come first. {describe_moves(comparison.frames)}."
    frames = comparison.frames.iloc[rows]
    return GalleryRequest(
        kind.value,
        kind.heading,
        sentence,
        comparison.samples_b.iloc[rows],
        lines=_describe_frames(frames, comparison.samples_b.iloc[rows]),
        boxes={} if kind is Change.GAINED else _list_boxes_of_a(material, rows),
        varied=kind is not Change.MOVED,
        shown=_SHOWN,
        more=_MORE,
    )


def _request_from_a(material: _Material) -> list[GalleryRequest]:
    """Ask for frames that B lost since it could not use them, as A has them."""
    comparison = material.comparison
    rows = np.flatnonzero(_find_unusable(comparison))
    if not len(rows):
        return []
    frames, samples = comparison.frames.iloc[rows], comparison.samples_a.iloc[rows]
    outcomes = zip(frames["frame_path"].tolist(), frames["outcome_b"].tolist(), strict=True)
    lines = {path: [f"B: {outcome}"] for path, outcome in outcomes}
    return [
        GalleryRequest(
            "lost-frames",
            "Lost with their frames",
            "Only A has a sample of these frames: B did not have or could not use them. They are shown from A.",
            samples,
            lines=lines,
            shown=_SHOWN,
            more=_MORE,
        )
    ]


def _find_unusable(comparison: Comparison) -> Flags:
    """Whether A has a sample of a frame that B could not use."""
    frames = comparison.frames
    unusable = frames["outcome_b"].isin([outcome.value for outcome in _WITHOUT_FRAME])
    found: Flags = ((frames["change"] == Change.LOST.value) & unusable).to_numpy()
    return found


def _order_moves(frames: pd.DataFrame) -> Any:
    """Order moved samples: those that are far first, then by turns of the groups, the least alike of each first."""
    table = pd.DataFrame({"iou": frames["iou"].fillna(-1).to_numpy(), "group": frames["video_name"].to_numpy()})
    table = table.sort_values("iou", kind="stable")
    table["turn"] = table.groupby("group", sort=False).cumcount()
    table["near"] = table["iou"] >= FAR
    return table.sort_values(["near", "turn", "iou"], kind="stable").index.to_numpy()


def _describe_frames(frames: pd.DataFrame, samples: pd.DataFrame) -> Mapping[str, Sequence[str]]:
    """Say how each frame changed: its outcome and class before, the IoU, its content, and who decided."""
    columns = ["frame_path", "class_a", "class_b", "outcome_a", "outcome_b", "iou", "content_changed"]
    decisions = zip(samples["decision"].tolist(), samples["decided_by"].tolist(), strict=True)
    rows = zip(*(frames[column].tolist() for column in columns), decisions, strict=True)
    return {path: _describe_frame(*values) for path, *values in rows}


def _describe_frame(
    class_a: str,
    class_b: str,
    outcome_a: str,
    outcome_b: str,
    iou: float,
    content_changed: bool,
    decided: tuple[Any, Any],
) -> list[str]:
    lines = [f"A: {class_a}, {outcome_a}" if class_a != class_b else f"A: {outcome_a}"]
    lines += [] if math.isnan(iou) else [f"IoU of the hands {iou:.2f}"]
    lines += ["the frame itself changed"] if content_changed else []
    decision, person = decided
    return [*lines, f"{decision} by {person}"] if isinstance(decision, str) else lines


def _list_boxes_of_a(material: _Material, rows: Any) -> Mapping[str, Sequence[CardBox]]:
    """List the hand of A of each frame, in the pixels of B; none where that is impossible.

    Where the hand is the same and only its crop is not, the crop is listed.
    """
    a, b = (samples.iloc[rows] for samples in (material.comparison.samples_a, material.comparison.samples_b))
    pixels = [run.config.detection.pixels for run in (material.a, material.b)]
    hands, crops = (fit_boxes(get_boxes(a, kind), a, b, *pixels) for kind in ("hand", "bbox"))
    is_same = (hands == get_boxes(b, "hand")).all(axis=1)
    corners = np.where(is_same[:, None], crops, hands).round(1)
    known = ~np.isnan(corners).any(axis=1)
    found = zip(a["frame_path"][known].tolist(), corners[known].tolist(), strict=True)
    return {path: [CardBox("before", (x1, y1, x2, y2))] for path, (x1, y1, x2, y2) in found}


# -- the page


def _render(material: _Material, galleries: Sequence[Gallery]) -> bytes:
    comparison = material.comparison
    changes = count_changes(comparison.frames)
    samples = [int(comparison.classes[name].sum()) for name in ("samples_a", "samples_b")]
    return render_page(
        "comparison.html",
        f"{count_items(samples[1], 'sample')} instead of {samples[0]:,}",
        sides=_list_sides(material),
        samples=samples,
        frames=int(changes.sum()),
        settings=list(comparison.settings[["key", "a", "b"]].itertuples(index=False, name=None)),
        numbers=[(kind, int(changes[kind.value])) for kind in Change if kind.is_change],
        verdict=summarize_comparison(comparison),
        has_truth=comparison.measures is not None,
        version=detectime.__version__,
        sections=_make_sections(comparison, galleries),
    )


def _list_sides(material: _Material) -> list[tuple[str, str, str, str]]:
    """List the letter and name of A and B, when they were made, and by which release."""
    names = material.comparison.name_a, material.comparison.name_b
    runs = [run.manifest for run in (material.a, material.b)]
    return [
        (letter, name, str(made["finished"]), str(made["detectime"]))
        for letter, name, made in zip("AB", names, runs, strict=True)
    ]


def _make_sections(comparison: Comparison, galleries: Sequence[Gallery]) -> list[Section]:
    """Make the sections that have something to show, in their order."""
    makers = [
        _describe_classes(comparison),
        _describe_measures(comparison),
        _describe_settings(comparison.settings),
        _describe_changes(galleries),
        _describe_outcomes(comparison),
        sections.describe_notes(comparison.notes),
    ]
    return [section for section in makers if section is not None]


def _describe_classes(comparison: Comparison) -> Section | None:
    if comparison.classes.empty:
        return None
    rows, others, total = list_class_changes(comparison.classes)
    kinds = [kind for kind in _BAR if count_changes(comparison.frames)[kind.value]]
    values = {"kinds": kinds, "rows": rows, "others": others, "total": total}
    return Section("classes", "Samples per class", values | {"has_relabelled": Change.RELABELLED in kinds})


def _describe_measures(comparison: Comparison) -> Section | None:
    if comparison.measures is None:
        return None
    rows = list_measure_changes(comparison.measures)
    first = comparison.measures.iloc[0]
    counts = {name: int(first[name]) for name in ("frames", "groups")}
    values = {"rows": rows, "origin": comparison.origin, **counts}
    return Section("truth", "Against annotated hands", values)


def _describe_settings(settings: pd.DataFrame) -> Section | None:
    if settings.empty:
        return None
    rows = list(settings[["key", "a", "b"]].itertuples(index=False, name=None))
    return Section("settings", "Settings that differ", {"rows": rows[:_SHOWN_SETTINGS], "rest": rows[_SHOWN_SETTINGS:]})


def _describe_changes(galleries: Sequence[Gallery]) -> Section | None:
    if not galleries:
        return None
    return Section("changes", "Frames that changed", {"galleries": galleries, "kinds": list_kinds(galleries)})


def _describe_outcomes(comparison: Comparison) -> Section | None:
    """Show which outcomes became which, and how far samples moved."""
    reasons = count_reasons(comparison.frames)
    moved = comparison.frames.loc[comparison.frames["change"] == Change.MOVED.value, "iou"]
    chart = figures.make_histogram(moved, "IoU of moved hands", limits=(0.0, 1.0)) if (moved < 1).any() else None
    if reasons.empty and chart is None:
        return None
    rows = reasons.head(_MOST_REASONS).to_numpy(object).tolist()
    hidden = int(reasons["frames"].iloc[_MOST_REASONS:].sum())
    more = f"and {count_items(hidden, 'frame')} more" if hidden else ""
    table = Table("Outcomes that changed", ["in A", "in B", "frames"], rows, more) if rows else None
    return Section("outcomes", "Outcomes and distances", {"table": table, "chart": chart})
