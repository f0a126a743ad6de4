"""The sections of the report on what the set holds. A section that has nothing to show is None.

Everything is bounded, whatever the run: of many classes, the largest and the worst are listed, and the sum of the
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from detectime import splits
from detectime.boxes import Integers
from detectime.decisions import find_contradictions
from detectime.notes import Note
from detectime.report import figures
from detectime.report.cards import Gallery, list_kinds
from detectime.report.pages import count_items, format_share
from detectime.report.summary import SetFacts, describe_hands
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, Outcome
from detectime.splits import SplitError

MOST_CLASSES = 40
"""Classes that a table lists."""

_MOST_BARS = 12  # classes as bars; of more, the distribution is drawn
_MOST_ROWS = 12  # of a table of reasons, people or contradictions
_MOST_NOTES = 40
_LONGEST_ASPECT_RATIO = 3.0
_USUAL_SCORE = 0.5  # which most detectors require

WITHOUT_PICTURE = (Outcome.MISSING, Outcome.UNREADABLE, Outcome.FAILED)
"""Outcomes of frames that cannot be shown."""


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes
    ----------
    anchor
        Its id, and the name of its template in ``sections``.
    title
        Its heading.
    values
        What its template shows.
    """

    anchor: str
    title: str
    values: Mapping[str, Any]


class Table(NamedTuple):
    """A table: the names of its columns, and rows of a name and texts.

    Attributes
    ----------
    caption
        What it shows.
    columns
        The first is that of the names.
    rows
        A name from data first, then a text or a whole number for each other column.
    more
        A sentence on rows that are not listed; may be empty.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    more: str = ""


@dataclass(frozen=True)
class ClassRow:
    """The frames of a class, or of several: its name, counts, and the bar of its outcomes."""

    name: str
    frames: int
    samples: int
    share: float
    groups: int | None
    outcomes: tuple[int, ...]
    bar: tuple[figures.Segment, ...]


def describe_classes(facts: SetFacts) -> Section | None:
    """Show what became of the frames of each class; None without frames.

    Parameters
    ----------
    facts
        What `summary.describe_set` returned.
    """
    if not facts.frames:
        return None
    outcomes = list(facts.outcomes)
    shown, others = choose_classes(facts.classes)
    most = int(shown["frames"].max())
    rows = [_make_row(row, outcomes, most) for row in shown.to_dict("records")]
    values = {
        "outcomes": outcomes,
        "rows": rows,
        "others": _sum_rows(others, outcomes, None) if len(others) else None,
        "other_count": len(others),
        "total": _sum_rows(facts.classes, outcomes, facts.groups),
        "left_out": facts.left_out,
    }
    return Section("classes", "Outcomes per class", values)


def choose_classes(classes: pd.DataFrame, most: int = MOST_CLASSES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose the classes to list: half of them the largest, the others those with the smallest share of samples.

    Parameters
    ----------
    classes
        `SetFacts.classes`.
    most
        How many.

    Returns
    -------
    shown, others
        In the order of the table.

    Examples
    --------
    >>> table = pd.DataFrame({"class_name": ["a", "b", "c"], "frames": [9, 5, 5], "samples": [9, 5, 1]})
    >>> [part["class_name"].tolist() for part in choose_classes(table, 2)]
    [['a', 'c'], ['b']]
    """
    if len(classes) <= most:
        return classes, classes.iloc[:0]
    frames, share = classes["frames"].to_numpy(), (classes["samples"] / classes["frames"]).to_numpy()
    is_shown = np.zeros(len(classes), bool)
    is_shown[np.argsort(-frames, kind="stable")[: most // 2]] = True
    worst = np.lexsort((-frames, share))
    is_shown[worst[~is_shown[worst]][: most - most // 2]] = True
    return classes[is_shown], classes[~is_shown]


def describe_samples(galleries: Sequence[Gallery], classes: int) -> Section | None:
    """Show samples of each class; None without samples.

    Parameters
    ----------
    galleries
        One for each class that is shown.
    classes
        The number of classes that have samples.

    Examples
    --------
    >>> print(describe_samples([], 0))
    None
    """
    if not galleries:
        return None
    return Section("samples", "Samples", {"galleries": galleries, "kinds": list_kinds(galleries), "classes": classes})


def describe_without(facts: SetFacts, galleries: Sequence[Gallery], samples: pd.DataFrame) -> Section | None:
    """Show frames without a sample, by reason; None if each frame has one.

    Parameters
    ----------
    facts
        What `summary.describe_set` returned.
    galleries
        One for each reason whose frames can be shown; if there are none, the reasons are listed.
    samples
        The outcomes of the run, whose errors are counted.
    """
    lost = {outcome: count for outcome, count in facts.outcomes.items() if not outcome.is_sample}
    if not lost:
        return None
    errors = _count_errors(
        samples[samples["wanted"].to_numpy(bool)], [kind for kind in WITHOUT_PICTURE if kind in lost]
    )
    values = {
        "reasons": list(lost.items()) if not galleries else [],
        "galleries": galleries,
        "kinds": list_kinds(galleries),
        "errors": errors,
        "count": sum(lost.values()),
        "frames": facts.frames,
    }
    return Section("without", "Frames without a sample", values)


def describe_distributions(samples: pd.DataFrame, facts: SetFacts) -> Section | None:
    """Show the distributions of a set: classes, groups, and the hands' sizes, centres, scores and shapes."""
    if not facts.samples:
        return None
    hands = describe_hands(samples)
    found = samples[samples["outcome"].isin(SAMPLES)]
    histograms = [
        figures.make_histogram(hands["size"], "Hand size", unit="pixels"),
        figures.make_histogram(hands["score"], "Hand score", limits=(min(_USUAL_SCORE, hands["score"].min()), 1.0)),
        _count_per_group(hands),
        figures.make_histogram(
            hands["aspect_ratio"], "Hand width / height", limits=(0, _LONGEST_ASPECT_RATIO), end_is_open=True
        ),
        _count_per_class(facts) if len(facts.classes) > _MOST_BARS else None,
    ]
    aspect = float((found["width"] / found["height"]).median())
    values = {
        "bars": _draw_class_bars(facts) if 1 < len(facts.classes) <= _MOST_BARS else None,
        "histograms": [found for found in histograms if found],
        "ranges": figures.make_ranges(hands["size"], hands["class_name"], "Hand size per class", unit="pixels"),
        "centres": figures.make_heatmap(hands["x"], hands["y"], aspect, "Hand centre in the frame"),
    }
    return Section("distributions", "Distributions", values)


def describe_decisions(run: FinishedRun, samples: pd.DataFrame) -> Section | None:
    """Show what people decided, and where they contradict each other; None if nobody decided."""
    merged = run.decisions
    if not merged.decisions:
        return None
    decided = samples[samples["decision"].notna()]
    counts = pd.crosstab(decided["decided_by"], decided["decision"])
    people = [[str(name), *row, sum(row)] for name, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)]
    people.sort(key=lambda row: -row[-1])
    by_person = Table(
        "Decisions that count, by reviewer",
        ["reviewer", *map(str, counts.columns), "all"],
        people[:_MOST_ROWS],
        _count_more(len(people) - _MOST_ROWS, "reviewer"),
    )
    values = {
        "decided": len(decided),
        "frames": len(samples),
        "made": len(merged.decisions),
        "by_person": by_person if people else None,
        "contradictions": _list_contradictions(find_contradictions(merged)),
    }
    return Section("decisions", "Decisions", values)


def describe_split(run: FinishedRun, samples: pd.DataFrame) -> Section | None:
    """Show how the set is divided; None if it is not."""
    try:
        split = splits.read_split(run.store)
        if split is None:
            return None
        counts = splits.count_split(splits.assign_splits(samples[samples["wanted"].to_numpy(bool)], split))
    except SplitError as error:
        return Section("split", "Split", {"fault": str(error), "table": None, "parts": []})
    parts = list(dict.fromkeys(counts.columns.get_level_values(0)))
    numbers = counts.to_numpy(np.int64).reshape(len(counts), len(parts), 2)  # samples and groups
    total, classes = numbers[-1], numbers[:-1]
    order = np.argsort((classes[..., 0] > 0).all(axis=1), kind="stable")  # those that a part lacks first
    shown = np.sort(order[:MOST_CLASSES])
    rows = [[str(counts.index[number]), *_format_parts(classes[number])] for number in shown]
    table = Table(
        "Samples and groups of each class in each part",
        ["class", *parts],
        [*rows, ["all", *_format_parts(total)]],
        _count_more(len(classes) - len(rows), "class", "classes"),
    )
    sizes = dict(zip(parts, total[:, 0].tolist(), strict=True))
    return Section("split", "Split", {"fault": None, "table": table, "parts": _draw_parts(sizes)})


def describe_notes(notes: Iterable[Note]) -> Section | None:
    """Show the findings of the run and of what judged it, each once; None if there are none.

    Examples
    --------
    >>> describe_notes([Note("moved", 2, "frames moved")] * 2).values["notes"]
    ['2 frames moved']
    """
    found = list(dict.fromkeys(notes))
    if not found:
        return None
    texts = [str(note) for note in found[:_MOST_NOTES]]
    return Section("notes", "Notes", {"notes": texts, "more": max(0, len(found) - _MOST_NOTES)})


def _make_row(row: Mapping[Any, Any], outcomes: Sequence[Outcome], most: int) -> ClassRow:
    counts = {outcome.value: int(row[outcome.value]) for outcome in outcomes}
    frames, samples = int(row["frames"]), int(row["samples"])
    bar = figures.stack_segments(counts, most)
    return ClassRow(
        str(row["class_name"]), frames, samples, samples / frames, int(row["groups"]), tuple(counts.values()), bar
    )


def _sum_rows(classes: pd.DataFrame, outcomes: Sequence[Outcome], groups: int | None) -> ClassRow:
    """Sum the rows of classes; a group may have several classes, so that groups cannot be summed."""
    counts = {outcome.value: int(classes[outcome.value].sum()) for outcome in outcomes}
    frames, samples = int(classes["frames"].sum()), int(classes["samples"].sum())
    bar = figures.stack_segments(counts, frames)
    return ClassRow("all", frames, samples, samples / frames, groups, tuple(counts.values()), bar)


def _count_errors(wanted: pd.DataFrame, kinds: Sequence[Outcome]) -> Table | None:
    """Count the reasons of frames that detection could not use."""
    rows = wanted.loc[wanted["outcome"].isin([kind.value for kind in kinds]), ["outcome", "error", "frame_path"]]
    if rows.empty:
        return None
    groups = rows.fillna({"error": "unknown"}).groupby(["outcome", "error"], sort=False)["frame_path"]
    found = groups.agg(["size", "first"]).sort_values("size", ascending=False, kind="stable").reset_index()
    shown = found.head(_MOST_ROWS)[["first", "outcome", "error", "size"]].to_numpy(object).tolist()
    hidden = int(found["size"].iloc[_MOST_ROWS:].sum())
    more = f"and {count_items(hidden, 'frame')} with other reasons" if hidden else ""
    return Table("Frames that could not be used", ["first frame", "outcome", "reason", "frames"], shown, more)


def _count_per_group(hands: pd.DataFrame) -> figures.Histogram | None:
    sizes = hands.groupby("video_name", observed=True).size()
    return figures.make_histogram(sizes, "Samples per group", counted="groups", whole=True)


def _count_per_class(facts: SetFacts) -> figures.Histogram | None:
    return figures.make_histogram(facts.classes["samples"], "Samples per class", counted="classes", whole=True)


def _draw_class_bars(facts: SetFacts) -> list[tuple[str, int, float]]:
    """Return the name, the samples and the length of the bar of each class, the longest first."""
    table = facts.classes.sort_values("samples", ascending=False, kind="stable")
    most = max(1, int(table["samples"].max()))
    counts = zip(table["class_name"].tolist(), table["samples"].tolist(), strict=True)
    return [(str(name), count, round(100 * count / most, 3)) for name, count in counts]


def _list_contradictions(table: pd.DataFrame) -> Table | None:
    if table.empty:
        return None
    columns = ["frame_path", "reviewer", "decision", "other_reviewer", "other_decision"]
    titles = ["frame", "who counts", "their decision", "who contradicts", "their decision"]
    rows = table[columns].head(_MOST_ROWS).to_numpy(object).tolist()
    more = _count_more(len(table) - _MOST_ROWS, "contradiction")
    return Table("Contradictions between people: the latest word counts", titles, rows, more)


def _format_parts(numbers: Integers) -> list[str]:
    """Return the samples and the groups of each part, shape (parts, 2), as text."""
    return [f"{samples:,} in {count_items(groups, 'group')}" for samples, groups in numbers.tolist()]


def _draw_parts(sizes: Mapping[str, int]) -> list[tuple[str, int, str, float]]:
    """Return the name, the samples, their share, and the length of the bar of each part."""
    total = max(1, sum(sizes.values()))
    return [(part, count, format_share(count / total), round(100 * count / total, 3)) for part, count in sizes.items()]


def _count_more(count: int, one: str, many: str | None = None) -> str:
    return f"and {count_items(count, one, many)} more" if count > 0 else ""
