"""The sections of the report that judge the set: doubt, and the comparison with annotated hands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from detectime.doubt import Reason
from detectime.evaluation import Evaluation
from detectime.report import figures
from detectime.report.cards import Gallery, list_kinds
from detectime.report.pages import Figure, count_items, format_number, format_share
from detectime.report.sections import MOST_CLASSES, Section, Table
from detectime.report.verdict import DOUBTFUL

_NAMES = {
    "correct": ("Correct", "annotated frames whose sample is right"),
    "precision": ("Precision", "samples that are right"),
    "mean_iou": ("Mean IoU", "overlap of the samples with the annotated hand"),
    "hand_recall": ("Hands found", "annotated hands that were detected, before pairing"),
    "face_recall": ("Faces found", "annotated faces that were detected"),
    "ap50": ("AP at IoU 0.5", "average precision of the samples as detections"),
    "ap": ("AP", "mean of the average precision at IoU 0.5 to 0.95"),
}
"""The title and the meaning of each measure, in the order of the page."""

_IN_TABLES = ("correct", "precision", "mean_iou", "hand_recall")


@dataclass(frozen=True)
class Measure:
    """A measure of the whole set: its title and meaning, its value and interval as text, and where to draw them."""

    title: str
    meaning: str
    text: str
    interval: str
    place: figures.Interval | None


def describe_doubt(
    doubt: pd.DataFrame | None, gallery: Gallery | None, contradicted: Gallery | None = None
) -> Section | None:
    """Show the most doubtful frames and their reasons; None if nothing is doubtful.

    Parameters
    ----------
    doubt
        What `doubt.score_doubt` returned.
    gallery
        Of frames with a doubt of at least `verdict.DOUBTFUL`; None if none of them can be shown.
    contradicted
        Of samples whose label the network contradicts; None if there are none, or they cannot be shown.
    """
    is_doubtful = np.zeros(0, bool) if doubt is None else (doubt["doubt"] >= DOUBTFUL).to_numpy()
    galleries = [found for found in (contradicted, gallery) if found is not None]
    if doubt is None or not (is_doubtful.any() or galleries):
        return None
    values = {
        "galleries": galleries,
        "kinds": list_kinds(galleries),
        "reasons": _count_reasons(doubt.loc[is_doubtful, "reasons"]),
        "count": int(is_doubtful.sum()),
        "frames": int(doubt["doubt"].notna().sum()),
        "threshold": format_number(DOUBTFUL),
    }
    return Section("doubt", "Worth checking", values)


def describe_evaluation(evaluation: Evaluation | None, galleries: Sequence[Gallery] = ()) -> Section | None:
    """Show how samples compare with annotated hands; None without annotated frames.

    Parameters
    ----------
    evaluation
        What `evaluation.evaluate_run` returned.
    galleries
        Of wrong samples, and of hands without one.
    """
    if evaluation is None or evaluation.frames.empty:
        return None
    values = {
        "origin": evaluation.origin,
        "frames": len(evaluation.frames),
        "groups": int(evaluation.frames["group"].nunique()),
        "measures": list_measures(evaluation.measures),
        "iou": _draw_iou(evaluation.iou_counts),
        "tables": [
            table
            for table in (
                _list_by(evaluation.measures, "class", "Measures by class", "class"),
                _list_by(
                    evaluation.measures, "face size", "Measures by size of the face, as a share of the frame", "face"
                ),
                _list_really(evaluation.really),
            )
            if table
        ],
        "galleries": galleries,
        "kinds": list_kinds(galleries),
    }
    return Section("evaluation", "Against annotated hands", values)


def list_measures(measures: pd.DataFrame) -> list[Measure]:
    """List the measures of the whole set: `Evaluation.measures` with ``by`` = ``all``.

    Examples
    --------
    >>> row = {"by": "all", "name": "all", "measure": "correct", "value": 0.97, "low": 0.9, "high": 0.99}
    >>> [(found.title, found.interval) for found in list_measures(pd.DataFrame([row]))]
    [('Correct', '90 to 99')]
    """
    rows = measures[measures["by"] == "all"]
    columns = [rows["measure"].tolist(), *rows[["value", "low", "high"]].to_numpy(np.float64).T.tolist()]
    values = {name: numbers for name, *numbers in zip(*columns, strict=True)}
    return [_make_measure(name, *values[name]) for name in _NAMES if name in values and not math.isnan(values[name][0])]


def find_precision(measures: pd.DataFrame) -> Measure | None:
    """Return the precision of the whole set; None if no annotated frame has a sample.

    Examples
    --------
    >>> row = {"by": "all", "name": "all", "measure": "precision", "value": 0.97, "low": 0.9, "high": 0.99}
    >>> find_precision(pd.DataFrame([row])).text
    '97\xa0%'
    """
    title = _NAMES["precision"][0]
    return next((found for found in list_measures(measures) if found.title == title), None)


def format_measure(name: str, value: float) -> str:
    """Return the value of a measure: a share in percent, except for an IoU and average precision.

    Examples
    --------
    >>> format_measure("mean_iou", 0.856), format_measure("ap", float("nan"))
    ('0.86', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if _is_mean(name) else format_share(value)


def _make_measure(name: str, value: float, low: float, high: float) -> Measure:
    title, meaning = _NAMES[name]
    place = figures.make_interval(value, low, high)
    return Measure(title, meaning, format_measure(name, value), _format_interval(name, low, high), place)


def _format_interval(name: str, low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high) or low == high:  # without an error, or without a success: see the notes
        return ""
    return f"{low:.2f} to {high:.2f}" if _is_mean(name) else f"{100 * low:.0f} to {100 * high:.0f}"


def _is_mean(name: str) -> bool:
    return name in ("mean_iou", "ap50", "ap")


def _count_reasons(found: pd.Series) -> list[tuple[str, str, int, float]]:
    """Return the name of each reason, its sentence, its frames and the length of its bar, the most frequent first."""
    counts = found.str.split(", ").explode().value_counts()
    sentences = {reason.value: reason.sentence for reason in Reason}
    most = max(1, int(counts.max())) if len(counts) else 1
    return [
        (name.replace("_", " "), sentences[name], count, round(100 * count / most, 3))
        for name, count in zip(counts.index.tolist(), counts.tolist(), strict=True)
        if name in sentences
    ]


def _list_by(measures: pd.DataFrame, by: str, caption: str, title: str) -> Table | None:
    """List measures of parts of the set; of many parts, the worst."""
    rows = measures[(measures["by"] == by) & measures["measure"].isin(_IN_TABLES)]
    if rows["name"].nunique() < 2:
        return None
    shown = [measure for measure in _IN_TABLES if (rows["measure"] == measure).any()]
    names, more = _choose_names(rows)
    texts = {name: _format_cells(part, shown) for name, part in rows[rows["name"].isin(names)].groupby("name")}
    columns = [title, "frames", "groups", *(_NAMES[measure][0] for measure in shown)]
    note = f"and {count_items(more, 'class', 'classes')} that do better" if more else ""
    return Table(caption, columns, [[name, *texts[name]] for name in names], note)


def _choose_names(rows: pd.DataFrame) -> tuple[list[str], int]:
    """Return the names of parts to list, in their order, those with the smallest share correct; and how many remain."""
    names = list(dict.fromkeys(rows["name"].tolist()))
    correct = rows[rows["measure"] == "correct"].sort_values("value", kind="stable")["name"].tolist()
    chosen = set(list(dict.fromkeys([*correct, *names]))[:MOST_CLASSES])
    return [name for name in names if name in chosen], max(0, len(names) - MOST_CLASSES)


def _format_cells(part: pd.DataFrame, measures: Sequence[str]) -> list[int | Figure]:
    """Return the frames and groups of a part of the set, and each measure with its interval."""
    columns = zip(
        part["measure"].tolist(), *part[["value", "low", "high"]].to_numpy(np.float64).T.tolist(), strict=True
    )
    values = {name: numbers for name, *numbers in columns}
    texts = [_format_cell(measure, *values.get(measure, [math.nan] * 3)) for measure in measures]
    return [int(part["frames"].iloc[0]), int(part["groups"].iloc[0]), *texts]


def _format_cell(name: str, value: float, low: float, high: float) -> Figure:
    return Figure(format_measure(name, value), _format_interval(name, low, high))


def _list_really(really: pd.DataFrame) -> Table | None:
    """List what the frames of each outcome really were."""
    if really.empty:
        return None
    kept = really.loc[:, (really != 0).any(axis=0)]
    rows = [[str(name), *row] for name, row in zip(kept.index, kept.to_numpy().tolist(), strict=True)]
    columns = ["outcome", *(str(name).replace("_", " ") for name in kept.columns)]
    return Table("What the frames of each outcome really were", columns, rows)


def _draw_iou(counts: pd.DataFrame) -> figures.Histogram | None:
    if not counts["samples"].sum():
        return None
    edges = [*counts["low"].tolist(), counts["high"].iloc[-1]]
    return figures.draw_counts(edges, counts["samples"], "IoU with the annotated hand")
