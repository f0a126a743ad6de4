"""Figures: drawn from any output of a run, and bounded in size."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import (
    draw_pattern,
    encode_image,
    make_detection,
    make_detection_row,
    make_detections_table,
    make_frame_table,
)
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from detectime import config as configuration
from detectime import pairing
from detectime.config import PairingConfig
from detectime.report import charts
from detectime.sources.folder import FolderSource

mpl.use("agg")


def draw_figure(figure: Figure | None) -> bytes:
    """Draw a figure as a notebook does; any warning, such as of a missing glyph, is an error."""
    assert figure is not None
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(stream, format="jpeg", bbox_inches="tight")
    plt.close(figure)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("paired.jpg", "apart.jpg", "no_face.jpg", "wider.jpg", "alone.jpg", "$x_{1.jpg", ODD):
        (tmp_path / name).write_bytes(encode_image(draw_pattern(640, 480), "JPEG"))
    return tmp_path


ODD = "\N{GRINNING FACE}\n<b>.jpg"
FACE, NEAR, FAR, WIDER = (300, 100, 380, 200), (180, 150, 260, 240), (10, 400, 60, 470), (110, 150, 160, 240)
FOUND = make_detections_table(
    make_detection_row("paired.jpg", [FACE], [NEAR, FAR]),
    make_detection_row("apart.jpg", [FACE], [FAR]),
    make_detection_row("no_face.jpg"),
    make_detection_row("$x_{1.jpg", [FACE], [NEAR]),
    make_detection_row(ODD, [FACE], [NEAR]),
    make_detection_row("wider.jpg", [FACE], [WIDER]),
    make_detection_row("alone.jpg", [], [make_detection(FAR, stage="fallback")]),
    make_detection_row("gone.jpg", outcome="missing"),
)
TABLE = make_frame_table({"frame_path": path, "class_name": "mute"} for path in FOUND["frame_path"].to_pylist())
CONFIG = configuration.load_config()
SAMPLES = pairing.pair_frames(TABLE, FOUND, PairingConfig())
FALLBACK = pairing.pair_frames(TABLE, FOUND, PairingConfig(fallback="frame"))


@pytest.mark.parametrize("outcome", sorted({*SAMPLES["outcome"], *FALLBACK["outcome"]}))
def test_gallery_of_each_outcome(outcome: str, folder: Path) -> None:
    chosen = pd.concat([SAMPLES[SAMPLES["outcome"] == outcome], FALLBACK[FALLBACK["outcome"] == outcome]])
    figure = charts.plot_gallery(
        chosen, FOUND, FolderSource(str(folder)), CONFIG, title=f"{outcome} $\\frac{{$", most=8
    )
    assert len(draw_figure(figure)) < 300_000


def test_gallery_shows_crops_below_frames(folder: Path) -> None:
    chosen = SAMPLES[SAMPLES["frame_path"] == "paired.jpg"]
    figure = charts.plot_gallery(chosen, FOUND, FolderSource(str(folder)), CONFIG, title="one", most=4)
    assert figure is not None
    frame, crop = (ax.images[0].get_array() for ax in figure.axes if ax.images)
    assert frame is not None
    assert crop is not None
    assert frame.shape[0] / frame.shape[1] == pytest.approx(480 / 640, abs=0.01)
    sides = chosen[["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]].to_numpy()[0]
    assert crop.shape[0] / crop.shape[1] == pytest.approx((sides[3] - sides[1]) / (sides[2] - sides[0]), abs=0.01)


@pytest.mark.parametrize(
    ("name", "half_side"),  # the face is 100 pixels high
    [("paired.jpg", 150), ("wider.jpg", 250), ("alone.jpg", None)],
)
def test_gallery_shows_the_square_in_which_the_hand_was_found(name: str, half_side: float | None, folder: Path) -> None:
    chosen = FALLBACK[FALLBACK["frame_path"] == name]
    figure = charts.plot_gallery(chosen, FOUND, FolderSource(str(folder)), CONFIG, title="one", most=1)
    draw_figure(figure)
    assert figure is not None
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_width() > 0]
    widths = [box.get_width() for box in boxes if box.get_linestyle() not in ("-", "solid")]
    assert widths == ([] if half_side is None else [pytest.approx(2 * half_side * 300 / 640)])  # of the thumbnail


def test_a_frame_that_changed_is_marked(folder: Path) -> None:
    (folder / "paired.jpg").write_bytes(encode_image(draw_pattern(20, 10), "JPEG"))
    chosen = SAMPLES[SAMPLES["frame_path"] == "paired.jpg"]
    figure = charts.plot_gallery(chosen, FOUND, FolderSource(str(folder)), CONFIG, title="one", most=4)
    assert "changed since" in "".join(text.get_text() for ax in figure.axes for text in ax.texts)  # type: ignore[union-attr]
    draw_figure(figure)


def test_class_names_in_figures_are_unique() -> None:
    names = ["停止", "开始", "$\\frac$", "x" * 50 + "1", "x" * 50 + "2", "ok"]
    samples = pd.concat([SAMPLES[SAMPLES["outcome"] == "paired"].iloc[:1]] * len(names), ignore_index=True)
    samples = samples.assign(class_name=names, label=range(len(names)))
    for figure in (charts.plot_classes(samples), charts.plot_outcomes(samples), charts.plot_distributions(samples)):
        draw_figure(figure)
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert len(set(labels)) == len(names)


@pytest.mark.parametrize("unknown", ["new_kind", "", np.nan, None])
def test_gallery_rejects_an_unknown_outcome(unknown: object, folder: Path) -> None:
    samples = SAMPLES.astype({"outcome": "object"})
    samples.iloc[-1, samples.columns.get_loc("outcome")] = unknown
    with pytest.raises(ValueError, match="unknown outcomes"):
        charts.plot_gallery(samples, FOUND, FolderSource(str(folder)), CONFIG, title="all", most=1)


def test_gallery_of_nothing_is_none(folder: Path) -> None:
    assert charts.plot_gallery(SAMPLES[:0], FOUND, FolderSource(str(folder)), CONFIG, title="none", most=4) is None
    assert charts.plot_gallery(SAMPLES, FOUND, FolderSource(str(folder)), CONFIG, title="none", most=0) is None


def test_gallery_reads_only_the_frames_it_shows(folder: Path) -> None:
    read: list[str] = []

    class RecordingSource(FolderSource):
        def read_frames(self, frame_paths, *options):  # type: ignore[no-untyped-def]
            paths = (read.append(path) or path for path in frame_paths)  # type: ignore[func-returns-value]
            return super().read_frames(paths, *options)

    charts.plot_gallery(SAMPLES, FOUND, RecordingSource(str(folder)), CONFIG, title="two", most=2)
    assert len(read) == 2


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(SAMPLES, id="all"),
        pytest.param(SAMPLES[:0], id="none"),
        pytest.param(SAMPLES[:1], id="one"),
        pytest.param(FALLBACK[FALLBACK["outcome"] == "fallback"], id="fallbacks"),
    ],
)
def test_figures_of_counts_are_small(samples: pd.DataFrame) -> None:
    for figure in (charts.plot_classes(samples), charts.plot_outcomes(samples), charts.plot_distributions(samples)):
        assert len(draw_figure(figure)) < 300_000


def test_distributions_of_many_samples_are_small() -> None:
    many = SAMPLES[SAMPLES["outcome"] == "paired"].sample(50_000, replace=True, random_state=0).reset_index(drop=True)
    many["class_name"] = np.where(np.arange(len(many)) % 2, "mute", "ok")
    assert len(draw_figure(charts.plot_distributions(many))) < 300_000
