"""Figures of the notebooks. Each public function returns a matplotlib figure and has no other effect."""

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
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from detectime import boxes, pairing
from detectime.boxes import Floats
from detectime.comparison import Change, Comparison
from detectime.config import Config, PairingConfig
from detectime.doubt import Reason
from detectime.images import RGB, FrameImage, UnreadableImageError, blur_boxes
from detectime.report.summary import describe_hands
from detectime.report.verdict import DOUBTFUL
from detectime.schema import CORNERS, SAMPLES, Outcome, check_outcomes
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.reading import read_images
from detectime.splits.counts import count_split

COLOURS = {outcome.value: outcome.colour for outcome in Outcome}
"""The colour of each outcome."""

_FACE, _SQUARE, _HAND, _BBOX = "#4cc9f0", "#4cc9f0", "#ffb703", "#fb5607"
_BARS = "#2a9d5c"
_PARTS = ("#2a9d5c", "#f4a261", "#277da1", "#e9c46a", "#9b5de5", "#6c757d")  # of a split
_MISSING = "#d62839"
_DOUBTFUL, _LITTLE_DOUBT = "#d1600a", "#b9c4cc"
_VERDICTS = {"right": _BARS, "wrong": _MISSING}
_CHANGES = {
    Change.GAINED.value: _BARS,
    Change.MOVED.value: "#277da1",
    Change.RELABELLED.value: "#9b5de5",
    Change.LOST.value: _MISSING,
    Change.OTHER_REASON.value: "#6c757d",
}
_DASHED = (0, (4, 2))
_COLUMNS = 4  # frames per row of a gallery
_THUMBNAIL = 300  # pixels of a thumbnail's longer side: the size of a gallery does not depend on that of its frames
_MOST_POINTS = 3000  # of a scatter plot: more are slow to draw and hide each other
_DPI = 80

_Found = tuple[list[Any], list[Any]]  # faces and hands of a frame


def use_jpeg() -> None:
    """Make notebooks store figures as JPEG: a tenth of the size of PNG where figures show photographs."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80})


def plot_classes(table: pd.DataFrame) -> Figure:
    """Draw the number of frames per class: wanted, missing in the source, or left out of the run.

    Parameters
    ----------
    table
        The frame table, with `wanted` and `on_disk`.

    Examples
    --------
    >>> row = {"label": 4, "class_name": "ok", "wanted": True, "on_disk": True}
    >>> figure = plot_classes(pd.DataFrame([row, row | {"wanted": False}]))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['wanted', 'left_out']
    >>> plt.close(figure)
    """
    state = np.select([~table["wanted"], ~table["on_disk"]], ["left_out", "missing"], default="wanted")
    colours = {"wanted": COLOURS["paired"], "missing": COLOURS["missing"], "left_out": COLOURS["left_out"]}
    return _draw_stacked_bars(table, pd.Series(state, index=table.index), colours)


def plot_outcomes(samples: pd.DataFrame) -> Figure:
    """Draw the number of frames per class, divided by outcome.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.

    Raises
    ------
    ValueError
        If a row has an outcome that is not in `schema.Outcome`.

    Examples
    --------
    >>> row = {"label": 4, "class_name": "ok", "outcome": "paired"}
    >>> figure = plot_outcomes(pd.DataFrame([row, row | {"outcome": "no_face"}]))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['paired', 'no_face']
    >>> plt.close(figure)
    """
    check_outcomes(samples["outcome"].unique())
    return _draw_stacked_bars(samples, samples["outcome"], COLOURS)


def plot_gallery(
    samples: pd.DataFrame,
    detections: pa.Table,
    source: Source,
    config: Config,
    *,
    title: str,
    most: int,
) -> Figure | None:
    """Draw frames with their detections, and below each frame the crop of its sample.

    Parameters
    ----------
    samples
        Rows of `pairing.pair_frames` to choose from, such as those of one class or outcome.
    detections
        What `detection.run.detect_frames` returned.
    source
        The source of the frames; only frames that are shown are read.
    config
        How frames are read (`detection`), and the context squares of faces without a pair (`pairing`).
    title
        Title of the figure.
    most
        Maximum number of frames, spread evenly over `samples`.

    Returns
    -------
    Figure or None
        None if there is nothing to show.

    Raises
    ------
    ValueError
        If a row has an outcome that is not in `schema.Outcome`.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> from detectime.paths import SAMPLE
    >>> from detectime.schema import DETECTIONS
    >>> from detectime.sources.folder import FolderSource
    >>> source = FolderSource(str(SAMPLE / "TRAIN_DATA"))
    >>> row = {"frame_path": "stop_01/0001.jpg", "outcome": "no_face", "error": None, "width": 640, "height": 480}
    >>> samples, detections = pd.DataFrame([row]), DETECTIONS.empty_table()
    >>> figure = plot_gallery(samples, detections, source, load_config(), title="no_face", most=4)
    >>> figure.axes[0].get_title()
    'stop_01/0001.jpg'
    >>> plt.close(figure)
    """
    check_outcomes(samples["outcome"].unique())
    shown = samples.iloc[_spread_evenly(len(samples), most)]
    if shown.empty:
        return None
    figure, cells = _make_cells(len(shown), bool(shown["outcome"].isin(SAMPLES).any()))
    found = _group_boxes(detections, shown["frame_path"], config.pairing)
    reading = config.detection
    images = read_images(source, shown["frame_path"], exif=reading.exif, max_pixels=reading.max_pixels)
    for (above, below), (_, sample), (_, image) in zip(cells, shown.iterrows(), images, strict=True):
        above.set_title(make_plain(sample["frame_path"]), fontsize=8)
        try:
            pixels = _read_pixels(image)
        except (MissingFrameError, UnreadableImageError) as error:
            write_text(above, sample["error"] if isinstance(sample["error"], str) else str(error))
            continue
        if pixels.shape[:2] != (sample["height"], sample["width"]):
            write_text(above, "changed since detection")
            continue
        boxes_found = found.get(sample["frame_path"], ([], []))
        if config.display.blur_faces:
            pixels = blur_boxes(pixels, [[face[corner] for corner in CORNERS] for face in boxes_found[0]])
        _draw_frame(above, pixels, sample, boxes_found, config.pairing)
        if below is not None and sample["outcome"] in SAMPLES:
            _draw_crop(below, pixels, sample)
    figure.suptitle(make_plain(title, 80), fontsize=11, fontweight="bold", x=0.01, ha="left")
    if found:
        is_enlarged = any(_is_enlarged(sample) for _, sample in shown.iterrows())
        figure.legend(handles=_make_legend(is_enlarged), loc="upper right", ncols=4, fontsize=8, frameon=False)
    return figure


def plot_split(samples: pd.DataFrame) -> Figure:
    """Draw how a split divides each class: the shares of its samples, and its groups in each part.

    Parameters
    ----------
    samples
        Rows with the column `split`, such as `splits.split_run` returned.

    Examples
    --------
    >>> rows = {"video_name": ["a", "b"], "outcome": "paired", "split": ["train", "test"]}
    >>> figure = plot_split(pd.DataFrame(rows).assign(label=4, class_name="ok"))
    >>> [text.get_text() for text in figure.axes[1].texts]
    ['1 · 1']
    >>> plt.close(figure)
    """
    names = _name_classes(samples)
    counts = count_split(samples).reindex([*names, "all"], fill_value=0)
    parts = dict.fromkeys(counts.columns.get_level_values(0))
    found, groups = (
        pd.DataFrame({part: counts[part, kind] for part in parts}, counts.index) for kind in ("samples", "groups")
    )
    labels = [*names.values(), "all"]
    with sns.axes_style("whitegrid", {"axes.grid.axis": "x"}):
        size = (11, 1.2 + 0.34 * len(labels))
        figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, dpi=_DPI, layout="constrained")
    _draw_parts(left, found.div(np.maximum(found.sum(axis=1), 1), axis=0))
    _draw_parts(right, groups[:-1])  # beside the sum, the classes could not be seen
    _write_group_counts(right, groups[:-1])
    left.set(xlim=(0, 1), ylim=(len(labels) - 0.4, -0.6), xlabel="share of the samples")
    left.set_yticks(range(len(labels)), labels)
    left.xaxis.set_major_formatter(PercentFormatter(1))
    right.set_xlabel("groups")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.margins(x=0.25)
    right.grid(axis="y", visible=False)
    if len(groups.columns):
        figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside upper right", ncols=6, frameon=False)
    return figure


def plot_distributions(samples: pd.DataFrame) -> Figure:
    """Draw the distributions that describe a training set: classes, videos, and the hands' sizes, centres and scores.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.

    Raises
    ------
    ValueError
        If a row has an outcome that is not in `schema.Outcome`.

    Examples
    --------
    >>> hand = {"hand_x1": 10.0, "hand_y1": 10.0, "hand_x2": 50.0, "hand_y2": 60.0, "hand_score": 0.9}
    >>> label = {"label": 4, "class_name": "ok", "video_name": "v"}
    >>> frame = {"outcome": "paired", "width": 640, "height": 480}
    >>> figure = plot_distributions(pd.DataFrame([frame | label | hand]))
    >>> figure.axes[0].get_title()
    'samples per class'
    >>> plt.close(figure)
    """
    check_outcomes(samples["outcome"].unique())
    paired = samples[samples["outcome"].isin(SAMPLES)]
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(2, 3, figsize=(11.6, 6), dpi=_DPI, layout="constrained")
    titles = (
        "samples per class",
        "hand size (√area, pixels)",
        "hand centre in the frame",
        "hand score",
        "samples per video",
        "hand aspect ratio (width / height)",
    )
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set_title(title, fontsize=10)
    if paired.empty:
        for ax in axes.flat:
            write_text(ax, "no samples")
        return figure
    data = _describe_hands(paired, _name_classes(samples))
    videos = paired.groupby(["class_name", "video_name"]).size()
    names = data["class"].cat.categories
    palette = dict(zip(names, sns.color_palette("deep", len(names)), strict=True))
    _draw_class_counts(axes[0, 0], data, palette)
    _draw_sizes(axes[0, 1], data, palette)
    _draw_centres(axes[0, 2], data, palette)
    sns.histplot(data, x="score", bins=np.linspace(0, 1, 41), ax=axes[1, 0], color=_BARS)
    sns.histplot(x=videos, ax=axes[1, 1], color=_BARS, bins=min(30, int(videos.max())))
    sns.histplot(x=np.clip(data["aspect_ratio"], 0, 3), bins=30, ax=axes[1, 2], color=_BARS)
    for ax, unit in zip(axes.flat, ("", "", "", "samples", "videos", "samples"), strict=True):
        ax.set(xlabel="", ylabel=unit)
    for counts in (axes[0, 0].xaxis, *(ax.yaxis for ax in axes[1])):
        counts.set_major_locator(MaxNLocator(integer=True))
    return figure


def plot_doubt(doubt: pd.DataFrame) -> Figure | None:
    """Draw how doubtful frames are, and for which reasons; from `verdict.DOUBTFUL` on in another colour.

    Parameters
    ----------
    doubt
        What `doubt.score_doubt` returned.

    Returns
    -------
    Figure or None
        None if there is no reason to doubt any frame.

    Examples
    --------
    >>> doubt = pd.DataFrame({"doubt": [0.7, 0.2, 0.0], "reasons": ["jump, odd_size", "jump", ""]})
    >>> figure = plot_doubt(doubt)
    >>> print(*(text.get_text() for text in figure.axes[1].get_yticklabels()), sep="\\n")
    The box is elsewhere than in the frames before and after.
    The box is smaller or larger than usual for its class.
    >>> plt.close(figure)
    """
    known = doubt[doubt["doubt"].notna()]
    named = known.assign(reason=known["reasons"].str.split(", ")).explode("reason")
    sentences = {reason.value: reason.sentence for reason in Reason}
    named = named[named["reason"].isin(list(sentences))]
    if named.empty:
        return None
    is_doubtful = named["doubt"] >= DOUBTFUL
    counts = pd.crosstab(named["reason"], is_doubtful).reindex(columns=[True, False], fill_value=0)
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    with sns.axes_style("whitegrid"):
        figure, (left, right) = plt.subplots(
            1,
            2,
            figsize=(11.6, max(3.0, 1.0 + 0.26 * len(counts))),
            width_ratios=[1, 1.1],
            dpi=_DPI,
            layout="constrained",
        )
    edges = np.linspace(0, 1, 21)
    bars = left.bar(edges[:-1], np.histogram(known["doubt"], edges)[0], width=0.05, align="edge")
    for bar, low in zip(bars, edges[:-1], strict=True):
        bar.set_facecolor(_DOUBTFUL if low >= DOUBTFUL - 1e-9 else _LITTLE_DOUBT)
    left.set(xlim=(0, 1), xlabel="doubt", ylabel="frames (logarithmic)")
    left.set_yscale("symlog", linthresh=1)  # few frames should be doubtful, and must be seen all the same
    left.yaxis.set_major_formatter("{x:,.0f}")
    base = np.zeros(len(counts))
    labels = {True: f"doubt of {DOUBTFUL:g} or more", False: "less"}
    for kind, colour in ((True, _DOUBTFUL), (False, _LITTLE_DOUBT)):
        values = counts[kind].to_numpy(float)
        right.barh(range(len(counts)), values, left=base, color=colour, label=labels[kind])
        base += values
    right.set_yticks(range(len(counts)), [sentences[name] for name in counts.index], fontsize=8)
    right.invert_yaxis()
    right.set_xlabel("frames")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.grid(axis="y", visible=False)
    figure.legend(*right.get_legend_handles_labels(), fontsize=8, loc="outside upper right", ncols=2, frameon=False)
    return figure


def plot_verdicts(verdicts: pd.DataFrame) -> Figure:
    """Draw how many of the samples that people judged are right, by class.

    Parameters
    ----------
    verdicts
        One row per sample: `label`, `class_name`, and `verdict`, ``right`` or ``wrong``.

    Examples
    --------
    >>> figure = plot_verdicts(pd.DataFrame([{"label": 4, "class_name": "ok", "verdict": "wrong"}]))
    >>> figure.axes[0].get_xlabel()
    'samples that were judged'
    >>> plt.close(figure)
    """
    return _draw_stacked_bars(verdicts, verdicts["verdict"], _VERDICTS, "samples that were judged")


def plot_changes(comparison: Comparison) -> Figure | None:
    """Draw how many frames of each class have another sample, or none any more: one colour per kind of change.

    Parameters
    ----------
    comparison
        What a function of `comparison` returned.

    Returns
    -------
    Figure or None
        None if nothing changed.

    Examples
    --------
    >>> from detectime.comparison import compare_decisions
    >>> from detectime.runs import open_run
    >>> plot_changes(compare_decisions(open_run("output")))  # doctest: +SKIP
    """
    change = comparison.frames["change"].astype(str)
    is_change = change.isin(list(_CHANGES)).to_numpy()
    if not is_change.any():
        return None
    return _draw_stacked_bars(comparison.samples_b[is_change], change[is_change], _CHANGES, "frames that changed")


def _draw_stacked_bars(table: pd.DataFrame, state: pd.Series, colours: dict[str, str], unit: str = "frames") -> Figure:
    """Draw one bar per class, its frames divided by a state, which must be one of the keys of `colours`."""
    names = _name_classes(table)
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
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(table):
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _draw_parts(ax: Axes, table: pd.DataFrame) -> None:
    """Draw one bar per row, divided by the columns, which are the parts of a split."""
    left = np.zeros(len(table))
    for k, name in enumerate(table):
        values = table[name].to_numpy(dtype=float)
        ax.barh(range(len(table)), values, left=left, color=_PARTS[k % len(_PARTS)], label=make_plain(str(name)))
        left += values


def _write_group_counts(ax: Axes, groups: pd.DataFrame) -> None:
    """Write the number of groups in each part behind the bars, in red where a part has none."""
    for row, numbers in enumerate(groups.to_numpy().tolist()):
        ax.annotate(
            " · ".join(map(str, numbers)),
            (sum(numbers), row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="#333333" if all(numbers) else _MISSING,
        )


def _describe_hands(paired: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return what `summary.describe_hands` does, and the class of each sample under its name in figures."""
    data = describe_hands(paired)
    kinds = data["class_name"].map(names)
    present = set(kinds)
    data["class"] = pd.Categorical(kinds, categories=[name for name in names.values() if name in present])
    return data


def _draw_class_counts(ax: Axes, data: pd.DataFrame, palette: dict[str, Any]) -> None:
    names = list(palette)
    ax.barh(range(len(names)), data["class"].value_counts().reindex(names), color=list(palette.values()))
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()


def _draw_sizes(ax: Axes, data: pd.DataFrame, palette: dict[str, Any]) -> None:
    patches = ax.boxplot(
        [data.loc[data["class"] == name, "size"] for name in palette],
        orientation="horizontal",
        tick_labels=list(palette),
        widths=0.7,
        patch_artist=True,
        flierprops={"markersize": 2},
    )
    for patch, colour in zip(patches["boxes"], palette.values(), strict=True):
        patch.set_facecolor(colour)
    ax.invert_yaxis()
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(LogLocator(2, subs=[1, 1.5]))
    ax.xaxis.set_major_formatter("{x:g}")


def _draw_centres(ax: Axes, data: pd.DataFrame, palette: dict[str, Any]) -> None:
    some = data.iloc[_spread_evenly(len(data), _MOST_POINTS)]
    sns.scatterplot(some, x="x", y="y", hue="class", palette=palette, s=14, alpha=0.6, ax=ax, linewidth=0)
    ax.set(xlim=(0, 1), ylim=(1, 0))
    ax.legend(fontsize=7, loc="upper right")


def _spread_evenly(count: int, most: int) -> list[int]:
    """Choose at most `most` of `count` indices, evenly spaced."""
    if count <= most:
        return list(range(count))
    indices: list[int] = np.linspace(0, count - 1, max(most, 0)).round().astype(int).tolist()
    return indices


def _make_cells(count: int, with_crops: bool) -> tuple[Figure, list[tuple[Axes, Axes | None]]]:
    """Return an empty gallery, and for each frame the axes of the frame and of its crop."""
    rows = -(-count // _COLUMNS)
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
    above = list(axes[:: len(heights)].flat)[:count]
    below = list(axes[1::2].flat)[:count] if with_crops else [None] * count
    return figure, list(zip(above, below, strict=True))


def _read_pixels(image: FrameImage | MissingFrameError | UnreadableImageError) -> RGB:
    if isinstance(image, Exception):
        raise image
    return image.read_pixels()


def _group_boxes(detections: pa.Table, frame_paths: Iterable[str], config: PairingConfig) -> dict[str, _Found]:
    """Return the faces and hands that pairing considered, by frame."""
    rows = detections.filter(pc.is_in(detections["frame_path"], pa.array(frame_paths, pa.string()))).to_pylist()
    stages = {"near", "frame"} | ({"fallback"} if config.fallback == "frame" else set())
    return {
        row["frame_path"]: (row["faces"], [hand for hand in row["hands"] if hand["stage"] in stages])
        for row in rows
        if row["outcome"] == "ok"
    }


def _draw_frame(ax: Axes, frame: RGB, sample: pd.Series, found: _Found, config: PairingConfig) -> None:
    """Draw a frame with its detections in thin lines, and the pair of its sample in thick ones."""
    height, width = frame.shape[:2]
    scale = show_image(ax, frame)
    faces, hands = (np.array([[box[corner] for corner in CORNERS] for box in side]).reshape(-1, 4) for side in found)
    is_sample = sample["outcome"] in SAMPLES
    # Without a pair, the squares of the last step of pairing.
    coefficient = config.crop_coefficient if config.fallback == "none" else config.wider_coefficient
    for box in faces:
        _outline_box(ax, box * scale, _FACE, 0.8)
        if not is_sample:
            _outline_box(ax, boxes.make_context_squares(box, coefficient) * scale, _SQUARE, 0.8, dashed=True)
    for box in hands:
        _outline_box(ax, box * scale, _HAND, 0.8)
    if is_sample:
        _outline_pair(ax, sample, scale)
    ax.set(xlim=(-0.5, width * scale - 0.5), ylim=(height * scale - 0.5, -0.5))


def _outline_pair(ax: Axes, sample: pd.Series, scale: float) -> None:
    face, square, hand, bbox = (pairing.get_boxes(sample, kind) * scale for kind in ("face", "square", "hand", "bbox"))
    if not np.isnan(face).any():
        _outline_box(ax, square, _SQUARE, 1.2, dashed=True)
        _outline_box(ax, face, _FACE, 2)
    _outline_box(ax, hand, _HAND, 2)
    if _is_enlarged(sample):
        _outline_box(ax, bbox, _BBOX, 1.6)


def _is_enlarged(sample: pd.Series) -> bool:
    """Return whether the crop is larger than the hand."""
    return bool(sample["bbox_x2"] - sample["bbox_x1"] > sample["hand_x2"] - sample["hand_x1"] + 2)  # 2: rounding


def _draw_crop(ax: Axes, frame: RGB, sample: pd.Series) -> None:
    x1, y1, x2, y2 = pairing.get_boxes(sample, "bbox").astype(int)
    show_image(ax, frame[y1:y2, x1:x2])


def show_image(ax: Axes, image: RGB) -> float:
    """Show an image as a thumbnail, and return its scale."""
    height, width = image.shape[:2]
    scale = float(min(1.0, _THUMBNAIL / max(height, width)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    ax.imshow(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return scale


def _outline_box(ax: Axes, box: Floats, colour: str, line_width: float, *, dashed: bool = False) -> None:
    x1, y1, x2, y2 = box
    style = _DASHED if dashed else "solid"
    ax.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=line_width, linestyle=style)
    )


def _make_legend(with_bbox: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=_FACE, linewidth=2, label="face"),
        Line2D([], [], color=_SQUARE, linewidth=1.2, linestyle=_DASHED, label="context square"),
        Line2D([], [], color=_HAND, linewidth=2, label="hand"),
    ]
    if with_bbox:
        handles.append(Line2D([], [], color=_BBOX, linewidth=1.6, label="bbox"))
    return handles


def write_text(ax: Axes, text: str) -> None:
    """Write text in the middle of axes."""
    ax.text(
        0.5,
        0.5,
        make_plain(text, 120),
        ha="center",
        va="center",
        wrap=True,
        fontsize=8,
        color="#555555",
        transform=ax.transAxes,
    )


def make_plain(text: str, length: int = 34) -> str:
    """Return text that a figure can show: one line, only glyphs of the font, no formulas, cut at the start if long."""
    shown = "".join(c if _has_glyph(c) else "\N{REPLACEMENT CHARACTER}" for c in text)
    return (shown if len(shown) <= length else "…" + shown[1 - length :]).replace("$", r"\$")


def _has_glyph(character: str) -> bool:
    """Return whether the font of figures has a glyph for a character, as far as that is certain."""
    return character.isprintable() and ord(character) < 0x2500


def _name_classes(table: pd.DataFrame) -> dict[str, str]:
    """Return the name of each class in figures, in the order of the labels; names are unique."""
    kinds = table[["label", "class_name"]].drop_duplicates().sort_values("label")
    return {
        name: make_plain(name)
        if len(name) <= 30 and all(map(_has_glyph, name))
        else f"{make_plain(name, 20)} ({label})"
        for label, name in kinds.itertuples(index=False)
    }
