"""The figures of the notebooks. Each function returns a matplotlib figure and draws nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from detectime import boxes, pairing
from detectime.boxes import Floats
from detectime.config import PairingConfig
from detectime.images import RGB, EncodedImage, UnreadableImageError
from detectime.schema import SAMPLES, Outcome, check_outcomes
from detectime.sources.contract import MissingFrameError, Source

COLOURS = {outcome.value: outcome.colour for outcome in Outcome}
"""The colour of each outcome."""

_FACE, _SQUARE, _HAND, _BBOX = "#4cc9f0", "#4cc9f0", "#ffb703", "#fb5607"
_COLUMNS = 4  # frames side by side in a gallery
_THUMBNAIL = 300  # pixels of a thumbnail's longer side: what a gallery costs does not depend on the frames
_DPI = 80


def use_jpeg() -> None:
    """Have notebooks keep figures as JPEG: a tenth of a PNG where figures show photographs."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80})


def plot_classes(table: pd.DataFrame) -> Figure:
    """Draw how many frames each class has, and what of them this run wants.

    Parameters
    ----------
    table
        The frame table, with `wanted`.
    """
    state = np.select([~table["wanted"], ~table["on_disk"]], ["left_out", "missing"], default="wanted")
    colours = {"wanted": COLOURS["paired"], "missing": COLOURS["missing"], "left_out": COLOURS["left_out"]}
    return _stacked(table, pd.Series(state, index=table.index), colours, "frames")


def plot_outcomes(samples: pd.DataFrame) -> Figure:
    """Draw what became of the frames of each class.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    """
    return _stacked(samples, samples["outcome"], COLOURS, "frames")


def plot_gallery(
    samples: pd.DataFrame,
    detections: pa.Table,
    source: Source,
    config: PairingConfig,
    *,
    title: str,
    most: int,
) -> Figure | None:
    """Draw frames with everything that was found in them, and below each one what is cut out of it.

    Parameters
    ----------
    samples
        The rows of `pairing.pair_frames` to choose from: those of one class, or of one reason.
    detections
        What `detection.run.detect_frames` returned.
    source
        Where the frames are; only those that are shown are read.
    config
        For the context squares of faces without a pair.
    title
        Stands above the frames.
    most
        How many frames are shown: spread evenly over `samples`.

    Returns
    -------
    Figure or None
        None if there is nothing to show.
    """
    check_outcomes(samples["outcome"].unique())
    shown = samples.iloc[_spread(len(samples), most)]
    if shown.empty:
        return None
    with_crops = bool(shown["outcome"].isin(SAMPLES).any())
    rows = -(-len(shown) // _COLUMNS)
    heights = [1.0, 0.62] if with_crops else [1.0]
    figure, axes = plt.subplots(
        rows * len(heights),
        _COLUMNS,
        figsize=(2.9 * _COLUMNS, 2.35 * rows * sum(heights) + 0.5),
        height_ratios=heights * rows,
        squeeze=False,
        dpi=_DPI,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.set_axis_off()
    found = _by_frame(detections, shown["frame_path"], config)
    for k, ((_, sample), (_, frame)) in enumerate(zip(shown.iterrows(), source.open(shown["frame_path"]), strict=True)):
        above = axes[k // _COLUMNS * len(heights), k % _COLUMNS]
        above.set_title(_plain(sample["frame_path"]), fontsize=8)
        try:
            image = _pixels(frame)
        except (MissingFrameError, UnreadableImageError) as error:
            _write(above, sample["error"] if isinstance(sample["error"], str) else str(error))
            continue
        if image.shape[:2] != (sample["height"], sample["width"]):
            _write(above, "changed since it was looked at")
            continue
        _draw_frame(above, image, sample, found.get(sample["frame_path"], ([], [])), config)
        if with_crops and sample["outcome"] in SAMPLES:
            _draw_crop(axes[k // _COLUMNS * len(heights) + 1, k % _COLUMNS], image, sample)
    figure.suptitle(_plain(title, 80), fontsize=11, fontweight="bold", x=0.01, ha="left")
    if len(found):
        enlarged = any(_is_enlarged(sample) for _, sample in shown.iterrows())
        figure.legend(handles=_legend(enlarged), loc="upper right", ncols=4, fontsize=8, frameon=False)
    return figure


def plot_distributions(samples: pd.DataFrame) -> Figure:
    """Draw what helps to judge a training set: sizes, places, scores, and how samples spread over classes and videos.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    """
    check_outcomes(samples["outcome"].unique())
    paired = samples[samples["outcome"].isin(SAMPLES)]
    hand = pairing.get_boxes(paired, "hand")
    centre = (hand[:, :2] + hand[:, 2:]) / 2
    names = _class_names(samples)
    kind = paired["class_name"].map(names).to_numpy()
    present = [name for name in names.values() if name in set(kind)]
    data = pd.DataFrame(
        {
            "class": pd.Categorical(kind, categories=present),
            "size": np.sqrt(boxes.compute_area(hand)),
            "x": centre[:, 0] / paired["width"].to_numpy(),
            "y": centre[:, 1] / paired["height"].to_numpy(),
            "score": paired["hand_score"].to_numpy(),
        }
    )
    videos = paired.groupby(["class_name", "video_name"]).size().rename("samples").reset_index()
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(2, 3, figsize=(11.6, 6), dpi=_DPI, layout="constrained")
    palette = dict(zip(present, sns.color_palette("deep", len(present)), strict=True))
    titles = (
        "samples per class",
        "hand size: √area, pixels",
        "hand's centre in the frame",
        "hand's score",
        "samples per video",
        "hand's width / height",
    )
    for ax, text in zip(axes.flat, titles, strict=True):
        ax.set_title(text, fontsize=10)
    if paired.empty:
        for ax in axes.flat:
            _write(ax, "no samples")
        return figure
    count = data["class"].value_counts().reindex(present)
    axes[0, 0].barh(range(len(present)), count, color=[palette[name] for name in present])
    axes[0, 0].set_yticks(range(len(present)), present)
    axes[0, 0].invert_yaxis()
    patches = axes[0, 1].boxplot(
        [data.loc[data["class"] == name, "size"] for name in present],
        orientation="horizontal",
        tick_labels=present,
        widths=0.7,
        patch_artist=True,
        flierprops={"markersize": 2},
    )
    for patch, name in zip(patches["boxes"], present, strict=True):
        patch.set_facecolor(palette[name])
    axes[0, 1].invert_yaxis()
    axes[0, 1].set_xscale("log", base=2)
    axes[0, 1].xaxis.set_major_locator(LogLocator(2, subs=[1, 1.5]))
    axes[0, 1].xaxis.set_major_formatter("{x:g}")
    # A million points are a blot and a slow figure: a few thousand say the same.
    some = data.iloc[_spread(len(data), 3000)]
    sns.scatterplot(some, x="x", y="y", hue="class", palette=palette, s=14, alpha=0.6, ax=axes[0, 2], linewidth=0)
    axes[0, 2].set(xlim=(0, 1), ylim=(1, 0))
    axes[0, 2].legend(fontsize=7, loc="upper right")
    sns.histplot(data, x="score", bins=np.linspace(0, 1, 41), ax=axes[1, 0], color="#2a9d5c")
    sns.histplot(videos, x="samples", ax=axes[1, 1], color="#2a9d5c", bins=min(30, int(videos["samples"].max())))
    axes[1, 1].set_ylabel("videos")
    sides = hand[:, 2:] - hand[:, :2]
    sns.histplot(x=np.clip(sides[:, 0] / sides[:, 1], 0, 3), bins=30, ax=axes[1, 2], color="#2a9d5c")
    for ax in axes.flat:
        ax.set(xlabel="", ylabel=ax.get_ylabel() if ax in (axes[1, 0], axes[1, 1], axes[1, 2]) else "")
    return figure


def _stacked(table: pd.DataFrame, state: pd.Series, colours: dict[str, str], unit: str) -> Figure:
    """Draw one bar per class, divided by a state; one that has no colour is an error, since bars would not add up."""
    unknown = sorted({str(name) for name in state.astype("object").fillna("nothing").unique()} - set(colours))
    if unknown:
        raise ValueError(f"unknown outcomes: {', '.join(unknown)}; known are {', '.join(colours)}")
    names = _class_names(table)
    count = pd.crosstab(table["class_name"].to_numpy(), state.to_numpy()).reindex(index=list(names))
    count = count[[name for name in colours if name in count]]
    with sns.axes_style("whitegrid", {"axes.grid.axis": "x"}):
        figure, ax = plt.subplots(figsize=(9, 0.8 + 0.34 * len(names)), dpi=_DPI, layout="constrained")
    left = np.zeros(len(names))
    for name in count:
        values = count[name].to_numpy(dtype=float)
        ax.barh(range(len(names)), values, left=left, color=colours[str(name)], label=str(name))
        left += values
    ax.set_yticks(range(len(names)), list(names.values()))
    ax.invert_yaxis()
    ax.set_xlabel(unit)
    if len(table):
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _spread(count: int, most: int) -> list[int]:
    """Choose at most `most` of `count` positions, evenly."""
    if count <= most:
        return list(range(count))
    positions: list[int] = np.linspace(0, count - 1, max(most, 0)).round().astype(int).tolist()
    return positions


def _pixels(frame: EncodedImage | MissingFrameError | UnreadableImageError) -> RGB:
    if isinstance(frame, Exception):
        raise frame
    return frame.pixels()


def _by_frame(
    detections: pa.Table, frame_paths: Iterable[str], config: PairingConfig
) -> dict[str, tuple[list[Any], list[Any]]]:
    """Faces and hands of some frames that pairing considered."""
    rows = detections.filter(pc.is_in(detections["frame_path"], pa.array(frame_paths, pa.string()))).to_pylist()
    stages = {"near", "frame"} | ({"fallback"} if config.fallback == "frame" else set())
    return {
        row["frame_path"]: (row["faces"], [hand for hand in row["hands"] if hand["stage"] in stages])
        for row in rows
        if row["outcome"] == "ok"
    }


def _draw_frame(
    ax: Axes, frame: RGB, sample: pd.Series, found: tuple[list[Any], list[Any]], config: PairingConfig
) -> None:
    """Draw a frame, all that was found in it thinly, and the pair of its sample."""
    height, width = frame.shape[:2]
    scale = _show(ax, frame)
    faces, hands = (np.array([[b[c] for c in ("x1", "y1", "x2", "y2")] for b in side]).reshape(-1, 4) for side in found)
    paired = sample["outcome"] in SAMPLES
    coefficient = config.crop_coefficient if config.fallback == "none" else config.wider_coefficient  # the last tried
    for box in faces:
        _outline(ax, box * scale, _FACE, 0.8)
        if not paired:
            _outline(ax, boxes.make_context_squares(box, coefficient) * scale, _SQUARE, 0.8, dashed=True)
    for box in hands:
        _outline(ax, box * scale, _HAND, 0.8)
    if paired:
        face, hand, bbox = (
            sample[[f"{what}_{c}" for c in ("x1", "y1", "x2", "y2")]].to_numpy(dtype=float)
            for what in ("face", "hand", "bbox")
        )
        if not np.isnan(face).any():
            square = sample[[f"square_{c}" for c in ("x1", "y1", "x2", "y2")]].to_numpy(dtype=float)
            _outline(ax, square * scale, _SQUARE, 1.2, dashed=True)
            _outline(ax, face * scale, _FACE, 2)
        _outline(ax, hand * scale, _HAND, 2)
        if _is_enlarged(sample):
            _outline(ax, bbox * scale, _BBOX, 1.6)
    ax.set(xlim=(-0.5, width * scale - 0.5), ylim=(height * scale - 0.5, -0.5))


def _is_enlarged(sample: pd.Series) -> bool:
    """Whether more than a sample's hand is cut out."""
    return bool(sample["bbox_x2"] - sample["bbox_x1"] > sample["hand_x2"] - sample["hand_x1"] + 2)  # 2: rounding


def _draw_crop(ax: Axes, frame: RGB, sample: pd.Series) -> None:
    x1, y1, x2, y2 = (int(sample[f"bbox_{corner}"]) for corner in ("x1", "y1", "x2", "y2"))
    _show(ax, frame[y1:y2, x1:x2])


def _show(ax: Axes, image: RGB) -> float:
    """Show an image as a thumbnail; return its scale."""
    height, width = image.shape[:2]
    scale = float(min(1.0, _THUMBNAIL / max(height, width)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    ax.imshow(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return scale


def _outline(ax: Axes, box: Floats, colour: str, line_width: float, *, dashed: bool = False) -> None:
    x1, y1, x2, y2 = box
    style = (0, (4, 2)) if dashed else "solid"
    ax.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=line_width, linestyle=style)
    )


def _legend(enlarged: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=_FACE, linewidth=2, label="face"),
        Line2D([], [], color=_SQUARE, linewidth=1.2, linestyle=(0, (4, 2)), label="its context square"),
        Line2D([], [], color=_HAND, linewidth=2, label="hand"),
    ]
    if enlarged:
        handles.append(Line2D([], [], color=_BBOX, linewidth=1.6, label="bbox"))
    return handles


def _write(ax: Axes, text: str) -> None:
    ax.text(
        0.5,
        0.5,
        _plain(text, 120),
        ha="center",
        va="center",
        wrap=True,
        fontsize=8,
        color="#555555",
        transform=ax.transAxes,
    )


def _plain(text: str, length: int = 34) -> str:
    """Text that a figure can show: nothing that breaks the line, is no glyph of its font or is read as a formula."""
    shown = "".join(c if _can_show(c) else "\N{REPLACEMENT CHARACTER}" for c in text)
    return (shown if len(shown) <= length else "…" + shown[1 - length :]).replace("$", r"\$")


def _can_show(character: str) -> bool:
    return character.isprintable() and ord(character) < 0x2500


def _class_names(table: pd.DataFrame) -> dict[str, str]:
    """Name of each class in figures, in the order of the labels; two classes never have the same."""
    kinds = table[["label", "class_name"]].drop_duplicates().sort_values("label")
    return {
        name: _plain(name) if len(name) <= 30 and all(map(_can_show, name)) else f"{_plain(name, 20)} ({label})"
        for label, name in kinds.itertuples(index=False)
    }
