"""Figures of crops: what a classifier will see, and what thinning leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detectime.crops import read_crops
from detectime.images import RGB
from detectime.report import charts
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES

_PER_ROW = 8  # crops
_MOST_ROWS = 40
_STRIPS = 6  # of redundant samples
_CELL = 1.25  # inches
_DPI = 80
_GOES = "#d62839"


def plot_batch(run: FinishedRun, exported: pd.DataFrame, *, blur_faces: bool = False) -> Figure | None:
    """Draw some exported samples of each class, of as many groups as possible: one row per class.

    Parameters
    ----------
    run
        The run that was exported; the frames that are shown are read again.
    exported
        What `exports.samples_csv.read_samples_csv` returned, only rows of samples.
    blur_faces
        As in the export.

    Returns
    -------
    Figure or None
        None if there are no samples. Of more than 40 classes, the first 40 are shown.

    Examples
    --------
    >>> plot_batch(run, exported[exported["kind"] == "sample"])  # doctest: +SKIP
    """
    shuffled = exported.rename(columns={name: f"bbox_{name}" for name in CORNERS}).sample(frac=1, random_state=0)
    turn = shuffled.groupby(["class_name", "video_name"]).cumcount()  # the first of each group, then the second …
    ordered = shuffled.assign(turn=turn).sort_values("turn", kind="stable")
    chosen = ordered.groupby("class_name").head(_PER_ROW).sort_values("label", kind="stable")
    rows = [_Row(str(name), found) for name, found in chosen.groupby("class_name", sort=False)]
    return _draw_rows(run, rows[:_MOST_ROWS], blur_faces)


def plot_redundant(run: FinishedRun, samples: pd.DataFrame, *, blur_faces: bool = False) -> Figure | None:
    """Draw samples that thinning leaves out, each beside its neighbours: one row for each of a few groups.

    Parameters
    ----------
    run
        The run; the frames that are shown are read again.
    samples
        Rows of its outcomes, with `redundant`.
    blur_faces
        Make the faces that were found unrecognisable.

    Returns
    -------
    Figure or None
        None if nothing is left out.

    Examples
    --------
    >>> plot_redundant(run, samples.assign(redundant=redundant))  # doctest: +SKIP
    """
    found = samples[samples["outcome"].isin(SAMPLES).to_numpy()].sort_values(["frame_id", "frame_path"])
    groups = found.groupby(["class_name", "video_name"], sort=True)
    counts = groups["redundant"].sum()
    shown = counts[counts > 0].nlargest(_STRIPS).index
    return _draw_rows(
        run,
        [_Row(f"{name}\n{group}", _cut_strip(groups.get_group((name, group)))) for name, group in shown],
        blur_faces,
    )


class _Row(NamedTuple):
    """A row of a figure: its name, and samples as for `read_crops`, perhaps with `redundant`."""

    name: str
    samples: pd.DataFrame


def _cut_strip(group: pd.DataFrame) -> pd.DataFrame:
    """Return the samples of a group from the one before the first redundant one on."""
    first = int(np.argmax(group["redundant"].to_numpy()))
    return group.iloc[max(0, min(first - 1, len(group) - _PER_ROW)) :].head(_PER_ROW)


def _draw_rows(run: FinishedRun, rows: Sequence[_Row], blur_faces: bool) -> Figure | None:
    if not rows:
        return None
    size = (_CELL * _PER_ROW + 1, _CELL * len(rows))
    figure, axes = plt.subplots(len(rows), _PER_ROW, figsize=size, squeeze=False, dpi=_DPI, layout="constrained")
    for ax in axes.flat:
        ax.set_axis_off()
    for row, cells in zip(rows, axes, strict=True):
        label = "\n".join(charts.make_plain(line, 20) for line in row.name.splitlines())
        cells[0].text(-0.08, 0.5, label, ha="right", va="center", fontsize=9, transform=cells[0].transAxes)
        goes = row.samples["redundant"].tolist() if "redundant" in row.samples else [None] * len(row.samples)
        for ax, crop, is_redundant in zip(
            cells, read_crops(run, row.samples, blur_faces=blur_faces), goes, strict=False
        ):
            _draw_crop(ax, crop)
            if is_redundant is not None:
                ax.set_title(
                    "goes" if is_redundant else "stays", fontsize=8, color=_GOES if is_redundant else "#333333"
                )
    return figure


def _draw_crop(ax: Axes, crop: RGB | None) -> None:
    if crop is None:
        charts.write_text(ax, "cannot be read")
    else:
        scale = charts.show_image(ax, crop)
        height, width = (side * scale for side in crop.shape[:2])
        half = max(height, width) / 2  # square axes, so that names and titles are in line
        ax.set(xlim=(width / 2 - half, width / 2 + half), ylim=(height / 2 + half, height / 2 - half))
