"""Charts of a page: what each one shows, in percent of its own width and height.

Nothing is drawn here: ``templates/figures.html`` draws them as SVG whose shapes have sizes in percent and whose text
has the size of the page's text, so that a chart is as wide as its place, follows the theme and can be searched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from detectime.boxes import Floats
from detectime.report.pages import format_number

_BINS = 24  # of a histogram
_LEAST_SPAN = 1e-6  # of an axis; of large values, as a share of them
_TICKS = 4
_CELLS = 24  # per row of a map
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # between ticks, times a power of ten
_SHADES = 5  # of a map
_ENDS = (5, 25, 50, 75, 95)  # percentiles that a range shows


@dataclass(frozen=True)
class Tick:
    """A labelled value of an axis.

    Attributes
    ----------
    at
        Where it is, in percent of the axis.
    label
        What stands there.
    """

    at: float
    label: str


@dataclass(frozen=True)
class Segment:
    """A part of a bar: its name, where it begins and how long it is in percent of the bar's place, and its count."""

    name: str
    start: float
    length: float
    count: int


@dataclass(frozen=True)
class Bin:
    """A column of a histogram: its left edge, width and height in percent, and what it holds, in words."""

    left: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """The distribution of one quantity, counted in whole numbers.

    Attributes
    ----------
    title, unit
        Of the quantity: ``hand size`` in ``pixels``; no unit is an empty text.
    counted
        What is counted: ``samples``.
    summary
        The distribution in words.
    bins, x_ticks, y_ticks
        What is drawn.
    """

    title: str
    unit: str
    counted: str
    summary: str
    bins: tuple[Bin, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Cell:
    """A rectangle of a map: its place in percent, its shade from 1 to `_SHADES`, and its count."""

    x: float
    y: float
    width: float
    height: float
    shade: int
    count: int


@dataclass(frozen=True)
class Heatmap:
    """Where points lie in a frame: the cells that hold some, and the width divided by the height of the frames."""

    title: str
    summary: str
    cells: tuple[Cell, ...]
    aspect: float


@dataclass(frozen=True)
class Range:
    """The spread of a quantity in one class, in percent of the axis: percentiles 5, 25, 50, 75 and 95; as text too."""

    name: str
    low: float
    lower: float
    middle: float
    upper: float
    high: float
    text: str


@dataclass(frozen=True)
class Ranges:
    """The spread of a quantity in several classes, on an axis from the lowest to the highest of them."""

    title: str
    unit: str
    rows: tuple[Range, ...]
    more: int = 0


@dataclass(frozen=True)
class Interval:
    """A share with its interval, 0 to 100; `low` and `high` are None if it has none."""

    at: float
    low: float | None
    high: float | None


def stack_segments(counts: Mapping[str, int], most: int) -> tuple[Segment, ...]:
    """Divide a bar by its counts, in their order; a bar of `most` fills its place.

    Examples
    --------
    >>> [(part.name, part.start, part.length) for part in stack_segments({"paired": 3, "apart": 0, "no_hand": 1}, 8)]
    [('paired', 0.0, 37.5), ('no_hand', 37.5, 12.5)]
    """
    parts, start = [], 0.0
    for name, count in counts.items():
        if count:
            length = 100 * count / most
            parts.append(Segment(name, round(start, 3), round(length, 3), int(count)))
            start += length
    return tuple(parts)


def choose_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Choose about four round values from `low` to `high`.

    Parameters
    ----------
    low, high
        The ends of the axis.
    whole
        Whether only whole numbers make sense, as for counts.

    Examples
    --------
    >>> choose_ticks(0, 17, whole=True), choose_ticks(0, 1), choose_ticks(0, 2, whole=True)
    ([0.0, 5.0, 10.0, 15.0], [0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 1.0, 2.0])
    """
    span = high - low
    if not span > _LEAST_SPAN or not math.isfinite(span):
        return [low] if math.isfinite(low) else []
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * step for step in _STEPS), key=lambda step: abs(step - rough))
    step = max(1.0, float(math.ceil(step))) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def make_histogram(
    values: ArrayLike,
    title: str,
    *,
    unit: str = "",
    counted: str = "samples",
    limits: tuple[float, float] | None = None,
    whole: bool = False,
    end_is_open: bool = False,
) -> Histogram | None:
    """Count values in bins of one width.

    Parameters
    ----------
    values
        Shape (N,); missing ones are left out.
    title, unit, counted
        See `Histogram`.
    limits
        The ends of the axis; values beyond them are counted in the bins at the ends. None: those of the values.
    whole
        Whether the values are whole numbers: no bin then holds a part of one.
    end_is_open
        Whether the last bin holds what lies beyond the limit: its label says so.

    Returns
    -------
    Histogram or None
        None if there is no value.

    Examples
    --------
    >>> found = make_histogram([1, 1, 2, 4], "samples per video", counted="videos", whole=True)
    >>> [column.text for column in found.bins], [tick.label for tick in found.y_ticks]
    (['1: 2 videos', '2: 1 video', '4: 1 video'], ['0', '1', '2'])
    """
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    edges = _choose_whole_edges(found) if whole else _choose_edges(found, limits)
    counts, _ = np.histogram(np.clip(found, edges[0], edges[-1]), edges)
    chart = draw_counts(edges, counts, title, unit=unit, counted=counted, summary=_summarize(found, unit), whole=whole)
    return _open_end(chart) if end_is_open and chart.x_ticks else chart


def draw_counts(
    edges: ArrayLike,
    counts: ArrayLike,
    title: str,
    *,
    unit: str = "",
    counted: str = "samples",
    summary: str = "",
    whole: bool = False,
) -> Histogram:
    """Draw counts of bins as `make_histogram` does.

    Parameters
    ----------
    edges
        Shape (bins + 1,), ascending.
    counts
        Shape (bins,), whole numbers.
    title, unit, counted, summary
        See `Histogram`.
    whole
        Whether the bins lie around whole numbers.

    Examples
    --------
    >>> draw_counts([0, 0.5, 1], [0, 3], "IoU").bins
    (Bin(left=50.0, width=50.0, height=100.0, text='0.5–1: 3 samples'),)
    """
    ends, heights = np.asarray(edges, np.float64), np.asarray(counts, np.int64)
    low, span = float(ends[0]), float(ends[-1] - ends[0])
    most = max(1, int(heights.max(initial=0)))
    y_values = choose_ticks(0, most, whole=True)
    bins = tuple(
        Bin(
            round(100 * (left - low) / span, 3),
            round(100 * (right - left) / span, 3),
            round(100 * count / most, 3),
            f"{_name_bin(left, right, whole)}: {count:,} {counted if count != 1 else counted.removesuffix('s')}",
        )
        for left, right, count in zip(ends[:-1].tolist(), ends[1:].tolist(), heights.tolist(), strict=True)
        if count
    )
    x_values = choose_ticks(float(ends[0]) + 0.5 * whole, float(ends[-1]) - 0.5 * whole, whole=whole)
    return Histogram(
        title,
        unit,
        counted,
        summary,
        bins,
        _place_ticks(x_values, low, span),
        _place_ticks(y_values, 0, most),
    )


def make_heatmap(x: ArrayLike, y: ArrayLike, aspect: float, title: str) -> Heatmap | None:
    """Count points in the cells of a frame.

    Parameters
    ----------
    x, y
        Shape (N,): shares of the frame's width and height, from the top left.
    aspect
        Width divided by height of the frames.
    title
        Of the chart.

    Returns
    -------
    Heatmap or None
        None if there is no point.

    Examples
    --------
    >>> found = make_heatmap([0.0, 0.01, 0.99], [0.0, 0.01, 0.99], 4 / 3, "hand centre")
    >>> [(cell.x, cell.y, cell.shade, cell.count) for cell in found.cells]
    [(0.0, 0.0, 5, 2), (95.833, 94.444, 3, 1)]
    """
    points = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=-1).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    aspect = float(np.clip(aspect, 0.4, 2.5)) if math.isfinite(aspect) else 1.0
    columns, rows = (_CELLS, max(1, round(_CELLS / aspect))) if aspect >= 1 else (round(_CELLS * aspect), _CELLS)
    size = np.array([columns, rows])
    places = np.clip((points * size).astype(np.int64), 0, size - 1)
    cells, counts = np.unique(places[:, 1] * columns + places[:, 0], return_counts=True)
    shades = np.ceil(_SHADES * counts / counts.max()).astype(np.int64)
    drawn = tuple(
        Cell(
            round(100 * (cell % columns) / columns, 3),
            round(100 * (cell // columns) / rows, 3),
            round(100 / columns, 3),
            round(100 / rows, 3),
            shade,
            count,
        )
        for cell, shade, count in zip(cells.tolist(), shades.tolist(), counts.tolist(), strict=True)
    )
    middle = np.median(points, axis=0)
    summary = f"median at {100 * middle[0]:.0f} % of the width and {100 * middle[1]:.0f} % of the height"
    return Heatmap(title, summary, drawn, aspect)


def make_ranges(values: pd.Series, names: pd.Series, title: str, *, unit: str = "", most: int = 12) -> Ranges | None:
    """Measure the spread of a quantity in each class.

    Parameters
    ----------
    values, names
        Of each sample: the quantity, and the class.
    title, unit
        Of the quantity.
    most
        Classes that are shown: those with most samples, in the order of their medians.

    Returns
    -------
    Ranges or None
        None if there are no values, or only one class.

    Examples
    --------
    >>> found = make_ranges(pd.Series([10.0, 20.0, 30.0, 40.0]), pd.Series(["ok", "ok", "stop", "stop"]), "hand size")
    >>> [(row.name, row.text) for row in found.rows]
    [('ok', '15 (10.5–19.5)'), ('stop', '35 (30.5–39.5)')]
    """
    table = pd.DataFrame({"name": names.to_numpy(object), "value": values.to_numpy(np.float64)}).dropna()
    counts = table["name"].value_counts()
    if len(counts) < 2:
        return None
    shown = counts.index[:most]
    groups = table[table["name"].isin(shown)].groupby("name")["value"]
    found = [(str(name), np.percentile(group, _ENDS).tolist()) for name, group in groups]
    found.sort(key=lambda row: row[1][2])
    low, high = min(ends[0] for _, ends in found), max(ends[-1] for _, ends in found)
    rows = tuple(_make_range(name, ends, low, high - low or 1.0) for name, ends in found)
    return Ranges(title, unit, rows, max(0, len(counts) - most))


def make_interval(value: float, low: float, high: float) -> Interval | None:
    """Place a share and its interval on an axis from 0 to 1; None if there is no value.

    Examples
    --------
    >>> make_interval(0.9, 0.8, 0.95)
    Interval(at=90.0, low=80.0, high=95.0)
    """
    if not math.isfinite(value):
        return None
    if not (math.isfinite(low) and math.isfinite(high)):
        return Interval(_clip(value), None, None)
    return Interval(_clip(value), _clip(low), _clip(high))


def _open_end(chart: Histogram) -> Histogram:
    """Label the last tick as the end that holds everything beyond it."""
    last = chart.x_ticks[-1]
    return dataclasses.replace(chart, x_ticks=(*chart.x_ticks[:-1], Tick(last.at, f"≥ {last.label}")))


def _clip(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 3)


def _choose_edges(values: Floats, limits: tuple[float, float] | None) -> Floats:
    """Return edges of bins at round values."""
    low, high = limits or (float(values.min()), float(values.max()))
    if high - low <= max(_LEAST_SPAN, _LEAST_SPAN * max(abs(low), abs(high))):  # one value, as far as a chart can show
        low, high = low - 0.5, low + 0.5
    ticks = choose_ticks(low, high)
    step = (ticks[1] - ticks[0]) / round(_BINS / _TICKS) if len(ticks) > 1 else (high - low) / _BINS
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.round(np.arange(first, last + 1) * step, 10)


def _choose_whole_edges(values: Floats) -> Floats:
    """Return edges of bins that lie between whole numbers."""
    low, high = math.floor(values.min()), math.ceil(values.max())
    step = max(1, math.ceil((high - low + 1) / _BINS))
    first = low if step == 1 else low // step * step
    return np.arange(first, high + step + 1, step)[: (high - first) // step + 2] - 0.5


def _name_bin(left: float, right: float, whole: bool) -> str:
    if not whole:
        return f"{format_number(left)}–{format_number(right)}"
    first, last = round(left + 0.5), round(right - 0.5)
    return f"{first:,}" if first == last else f"{first:,}–{last:,}"


def _summarize(values: Floats, unit: str) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95]).tolist()
    unit = f" {unit}" if unit else ""
    if low == high:
        return f"nearly all {format_number(middle)}{unit}"
    return f"median {format_number(middle)}{unit}, most from {format_number(low)} to {format_number(high)}"


def _place_ticks(values: Iterable[float], low: float, span: float) -> tuple[Tick, ...]:
    return tuple(Tick(round(100 * (value - low) / span, 3), format_number(value)) for value in values)


def _make_range(name: str, ends: Sequence[float], start: float, span: float) -> Range:
    low, lower, middle, upper, high = (round(100 * (end - start) / span, 3) for end in ends)
    first, median, last = (format_number(ends[place]) for place in (0, 2, 4))
    return Range(name, low, lower, middle, upper, high, f"{median} ({first}–{last})")
