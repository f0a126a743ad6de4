"""Figures of a trained classifier. Each public function returns a matplotlib figure and has no other effect."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from detectime import boxes, pairing
from detectime.boxes import Floats
from detectime.classifier.measures import Measures
from detectime.classifier.mistakes import Cause
from detectime.notes import format_count
from detectime.report import charts
from detectime.runs import FinishedRun
from detectime.schema import CORNERS

_TRAIN, _HELD_OUT = "#277da1", "#d1600a"
_SCORES = {"recall": "#2a9d5c", "f1": "#9b5de5"}
_MODELS = {"accuracy": "accuracy", "macro_f1": "macro F1"}
_CAUSES = {cause.value: cause.colour for cause in Cause}
_LEGEND = {"context square": "context square of the face", "bbox": "crop"}
_FEW_EPOCHS = 30  # up to which each is marked
_MOST_NUMBERS = 40  # classes up to which cells of a confusion matrix have room for numbers
_WIDTH = 46  # characters of a line of a card
_HOLLOW = "hollow: no interval, since all drawn groups say the same"
_DPI = 80


def plot_history(history: pd.DataFrame) -> Figure:
    """Draw loss and accuracy by epoch: of the training samples, and of held-out ones if there are any.

    Parameters
    ----------
    history
        One row per epoch: `epoch`, `train_loss`, `train_accuracy`, `val_loss` and `val_accuracy`; the last two are NaN
        without held-out samples.

    Examples
    --------
    >>> history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.8, 0.9], "train_accuracy": [0.2, 0.7]})
    >>> figure = plot_history(history.assign(val_loss=np.nan, val_accuracy=np.nan))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['training']
    >>> plt.close(figure)
    """
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), dpi=_DPI, layout="constrained")
    marker = "o" if len(history) <= _FEW_EPOCHS else None
    for ax, measure in zip(axes, ("loss", "accuracy"), strict=True):
        for part, colour, name in (("train", _TRAIN, "training"), ("val", _HELD_OUT, "groups held out")):
            values = history[f"{part}_{measure}"]
            if values.notna().any():
                ax.plot(history["epoch"], values, color=colour, marker=marker, markersize=4, label=name)
        ax.set(xlabel="epoch", title=measure)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1.02)
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def plot_learning_curve(curve: pd.DataFrame) -> Figure | None:
    """Draw the accuracy of classifiers that were trained on fewer groups of each class.

    Parameters
    ----------
    curve
        What `training.measure_learning_curve` returned.

    Returns
    -------
    Figure or None
        None if there is one classifier only: no class has two groups to train on.

    Examples
    --------
    >>> rows = {"groups_per_class": [1, 2], "groups": [6, 12], "samples": [48, 97], "accuracy": [0.7, 0.8]}
    >>> figure = plot_learning_curve(pd.DataFrame(rows))
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['1\\n48 samples', '2\\n97 samples']
    >>> plt.close(figure)
    """
    if len(curve) < 2:
        return None
    with sns.axes_style("whitegrid"):
        figure, ax = plt.subplots(figsize=(6, 3.2), dpi=_DPI, layout="constrained")
    ax.plot(curve["groups_per_class"], curve["accuracy"], color=_HELD_OUT, marker="o")
    for count, accuracy in zip(curve["groups_per_class"], curve["accuracy"], strict=True):
        ax.annotate(
            f"{100 * accuracy:.0f}%", (count, accuracy), (0, 6), textcoords="offset points", ha="center", fontsize=8
        )
    labels = [f"{row.groups_per_class}\n{row.samples:,} samples" for row in curve.itertuples()]
    ax.set_xticks(curve["groups_per_class"], labels)
    ax.set(xlabel="groups of each class to train on, at most", ylabel="accuracy on the test part", ylim=(0, 1.1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def plot_confusion(measures: Measures) -> Figure:
    """Draw which class was predicted for the samples of each class: numbers of samples, colours by share of the class.

    Parameters
    ----------
    measures
        What `measures.measure_predictions` returned.

    Examples
    --------
    >>> plot_confusion(measures)  # doctest: +SKIP
    """
    counts = measures.confusion
    names = [charts.make_plain(str(name), 20) for name in counts.index]
    shares = counts.div(np.maximum(counts.sum(axis=1), 1), axis=0)
    side = 1.6 + min(0.44 * len(names), 10)
    figure, ax = plt.subplots(figsize=(side + 1.2, side), dpi=_DPI, layout="constrained")
    numbers = counts.astype(str).where(counts > 0, "")
    sns.heatmap(
        shares,
        annot=numbers if len(names) <= _MOST_NUMBERS else None,
        fmt="",
        annot_kws={"fontsize": 8},
        cmap="Blues",
        vmin=0,
        vmax=1,
        square=True,
        linewidths=0.5,
        xticklabels=names,
        yticklabels=names,
        cbar_kws={"label": "share of the class", "format": PercentFormatter(1), "shrink": 0.7},
        ax=ax,
    )
    ax.set(xlabel="predicted", ylabel="labelled")
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return figure


def plot_class_scores(measures: Measures) -> Figure:
    """Draw recall and F1 of each class with their intervals, and how many samples and groups they are from.

    Parameters
    ----------
    measures
        What `measures.measure_predictions` returned.

    Examples
    --------
    >>> plot_class_scores(measures)  # doctest: +SKIP
    """
    table = measures.per_class
    rows = np.arange(len(table), dtype=np.float64)
    with sns.axes_style("whitegrid", {"axes.grid.axis": "x"}):
        figure, ax = plt.subplots(figsize=(9, 1.2 + 0.4 * len(table)), dpi=_DPI, layout="constrained")
    for (measure, colour), shift in zip(_SCORES.items(), (-0.14, 0.14), strict=True):
        name = {"f1": "F1"}.get(measure, measure)
        limits = table[[measure, f"{measure}_low", f"{measure}_high"]].to_numpy(np.float64)
        _draw_intervals(ax, rows + shift, limits, colour, name)
    names = [charts.make_plain(str(name), 20) for name in table["class_name"]]
    ax.set_yticks(rows, names)
    ax.set(xlim=(0, 1.02), ylim=(len(table) - 0.4, -0.6))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    for row, samples, groups in zip(rows, table["samples"], table["groups"], strict=True):
        text = f"{format_count(samples, 'sample')} · {format_count(groups, 'group')}"
        ax.annotate(
            text, (1.02, row), (6, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False
        )
    figure.legend(*ax.get_legend_handles_labels(), fontsize=8, loc="outside upper right", ncols=2, frameon=False)
    return figure


def plot_models(compared: pd.DataFrame) -> Figure:
    """Draw accuracy and macro F1 of several models with their intervals.

    Parameters
    ----------
    compared
        What `measures.compare_models` returned.

    Examples
    --------
    >>> plot_models(compare_models({"small": predictions, "majority": majority}, classes))  # doctest: +SKIP
    """
    rows = np.arange(len(compared), dtype=np.float64)
    with sns.axes_style("whitegrid", {"axes.grid.axis": "x"}):
        size = (9, 1.0 + 0.4 * len(rows))
        figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, dpi=_DPI, layout="constrained")
    for ax, (measure, title) in zip(axes, _MODELS.items(), strict=True):
        limits = compared[[measure, f"{measure}_low", f"{measure}_high"]].to_numpy(np.float64)
        _draw_intervals(ax, rows, limits, _SCORES["recall"], title)
        for row, value in zip(rows, limits[:, 0], strict=True):
            ax.annotate(
                f"{100 * value:.0f}%", (value, row), (0, 5), textcoords="offset points", ha="center", fontsize=8
            )
        ax.set(title=title, xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6))
        ax.xaxis.set_major_formatter(PercentFormatter(1))
    axes[0].set_yticks(rows, [charts.make_plain(str(name)) for name in compared.index])
    return figure


def plot_mistakes(run: FinishedRun, mistakes: pd.DataFrame, most: int = 12) -> Figure | None:
    """Draw wrong predictions as cards: the frame with its boxes, the crop, both classes, and a guess at the cause.

    The crop, which is outlined in the frame, is that of `classifier.crops.cut_hand`: what a classifier of crops sees.

    Parameters
    ----------
    run
        The run; the frames that are shown are read again. One that is gone has a card that says so.
    mistakes
        What `mistakes.find_mistakes` returned.
    most
        Maximum number of cards: the surest mistake of each kind in each group, then the second ones.

    Returns
    -------
    Figure or None
        None if no prediction is wrong.

    Examples
    --------
    >>> plot_mistakes(run, find_mistakes(run, predictions))  # doctest: +SKIP
    """
    turn = mistakes.groupby(["video_name", "class_name", "predicted"]).cumcount()  # frames of one group are alike
    shown = mistakes.loc[turn.sort_values(kind="stable").index[:most]]
    samples = _use_crops(run.outcomes.set_index("frame_path", drop=False).loc[shown["frame_path"]])
    title = format_count(len(mistakes), "wrong prediction") + (
        f", {len(shown)} shown" if len(shown) < len(mistakes) else ""
    )
    figure = charts.plot_gallery(samples, run.detections, run.source, run.config, title=title, most=most)
    if figure is None:
        return None
    for name in (text for legend in figure.legends for text in legend.get_texts()):
        name.set_text(_LEGEND.get(name.get_text(), name.get_text()))
    frames = [ax for ax in figure.axes if ax.get_title()]
    for ax, mistake in zip(frames, shown.to_dict("records"), strict=True):
        classes = [charts.make_plain(str(mistake[column]), 16) for column in ("class_name", "predicted")]
        what = f"labelled {classes[0]}, predicted {classes[1]} ({mistake['probability']:.2f})"
        ax.set_title(f"{what}\n{ax.get_title()}", fontsize=8)
        _write_guess(_find_last_row(ax), mistake["why"], _CAUSES[mistake["cause"]])
    return figure


def _use_crops(samples: pd.DataFrame) -> pd.DataFrame:
    """Return samples whose `bbox`, which a gallery outlines and cuts out, is what a classifier sees."""
    squares = boxes.make_context_squares(pairing.get_boxes(samples, "hand"), boxes.HAND_CONTEXT)
    crops = boxes.round_outward(boxes.clip_boxes(squares, samples["width"], samples["height"]))
    is_inside = (crops[:, 2:] > crops[:, :2]).all(axis=1, keepdims=True)
    columns = [f"bbox_{corner}" for corner in CORNERS]
    return samples.assign(**dict(zip(columns, np.where(is_inside, crops, samples[columns]).T, strict=True)))


def _draw_intervals(ax: Axes, rows: Floats, limits: Floats, colour: str, name: str) -> None:
    """Draw a point per row, and a line between its limits; hollow without limits. `limits`: value, low and high."""
    value, low, high = limits.T
    if (np.isnan(low) & ~np.isnan(value)).any():
        ax.figure.supxlabel(_HOLLOW, fontsize=8)
    ax.hlines(rows, low, high, color=colour, linewidth=2, alpha=0.6)
    inside = np.where(np.isnan(low), "white", colour).tolist()
    ax.scatter(value, rows, facecolors=inside, edgecolors=colour, s=36, label=name, zorder=3, clip_on=False)


def _find_last_row(ax: Axes) -> Axes:
    """Return the axes below those of a frame, which hold its crop; the same if the gallery has no crops."""
    figure, place = ax.get_figure(), ax.get_subplotspec()
    assert figure is not None
    assert place is not None
    below = figure.axes.index(ax) + place.get_gridspec().ncols
    found = figure.axes[below] if below < len(figure.axes) else ax
    return ax if found.get_title() else found


def _write_guess(ax: Axes, why: str, colour: str) -> None:
    lines = textwrap.wrap(charts.make_plain(why, 300), _WIDTH)
    ax.text(
        *(0.5, -0.04, "\n".join(lines)),
        ha="center",
        va="top",
        fontsize=7,
        color=colour,
        transform=ax.transAxes,
    )
