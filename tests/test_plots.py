"""Figures: that they are drawn from whatever a run gives, and do not grow with it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import detections, encode, frame_table, looked_at, pattern
from matplotlib.figure import Figure

from detectime import pairing, plots
from detectime.config import Pairing
from detectime.sources import Folder

mpl.use("agg")


def drawn(figure: Figure | None) -> bytes:
    """Draw a figure as a notebook does; a warning, of a glyph that a font lacks, say, is an error."""
    assert figure is not None
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(stream, format="jpeg", bbox_inches="tight")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("paired.jpg", "apart.jpg", "no_face.jpg", "$x_{1.jpg", "\N{GRINNING FACE}\n<b>.jpg"):
        (tmp_path / name).write_bytes(encode(pattern(640, 480), "JPEG"))
    return tmp_path


FACE, NEAR, FAR = (300, 100, 380, 200), (180, 150, 260, 240), (10, 400, 60, 470)
FOUND = detections(
    looked_at("paired.jpg", [FACE], [NEAR, FAR]),
    looked_at("apart.jpg", [FACE], [FAR]),
    looked_at("no_face.jpg"),
    looked_at("$x_{1.jpg", [FACE], [NEAR]),
    looked_at("\N{GRINNING FACE}\n<b>.jpg", [FACE], [NEAR]),
    looked_at("gone.jpg", outcome="missing"),
)
SAMPLES = pairing.pair(
    frame_table({"frame_path": path, "class_name": "mute"} for path in FOUND["frame_path"].to_pylist()),
    FOUND,
    Pairing(),
)


@pytest.mark.parametrize("outcome", sorted(set(SAMPLES["outcome"])))
def test_gallery_of_each_outcome(outcome: str, folder: Path) -> None:
    chosen = SAMPLES[SAMPLES["outcome"] == outcome]
    figure = plots.gallery(chosen, FOUND, Folder(str(folder)), Pairing(), title=f"{outcome} $\\frac{{$", most=8)
    assert len(drawn(figure)) < 300_000


def test_gallery_shows_crops_below_frames(folder: Path) -> None:
    chosen = SAMPLES[SAMPLES["frame_path"] == "paired.jpg"]
    figure = plots.gallery(chosen, FOUND, Folder(str(folder)), Pairing(), title="one", most=4)
    assert figure is not None
    frame, crop = (ax.images[0].get_array() for ax in figure.axes if ax.images)
    assert frame is not None
    assert crop is not None
    assert frame.shape[0] / frame.shape[1] == pytest.approx(480 / 640, abs=0.01)
    sides = chosen[["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]].to_numpy()[0]
    assert crop.shape[0] / crop.shape[1] == pytest.approx((sides[3] - sides[1]) / (sides[2] - sides[0]), abs=0.01)


def test_a_frame_that_changed_is_told(folder: Path) -> None:
    (folder / "paired.jpg").write_bytes(encode(pattern(20, 10), "JPEG"))
    chosen = SAMPLES[SAMPLES["frame_path"] == "paired.jpg"]
    figure = plots.gallery(chosen, FOUND, Folder(str(folder)), Pairing(), title="one", most=4)
    assert "changed since" in "".join(text.get_text() for ax in figure.axes for text in ax.texts)  # type: ignore[union-attr]
    drawn(figure)


def test_classes_stay_apart_whatever_they_are_called() -> None:
    names = ["停止", "开始", "$\\frac$", "x" * 50 + "1", "x" * 50 + "2", "ok"]
    samples = pd.concat([SAMPLES[SAMPLES["outcome"] == "paired"].iloc[:1]] * len(names), ignore_index=True)
    samples = samples.assign(class_name=names, label=range(len(names)))
    for figure in (plots.classes(samples), plots.outcomes(samples), plots.distributions(samples)):
        drawn(figure)
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert len(set(labels)) == len(names)


def test_gallery_of_nothing_is_none(folder: Path) -> None:
    assert plots.gallery(SAMPLES[:0], FOUND, Folder(str(folder)), Pairing(), title="none", most=4) is None
    assert plots.gallery(SAMPLES, FOUND, Folder(str(folder)), Pairing(), title="none", most=0) is None


def test_gallery_reads_only_what_it_shows(folder: Path) -> None:
    read: list[str] = []

    class Watched(Folder):
        def open(self, frame_paths):  # type: ignore[no-untyped-def]
            return super().open(read.append(path) or path for path in frame_paths)  # type: ignore[func-returns-value]

    plots.gallery(SAMPLES, FOUND, Watched(str(folder)), Pairing(), title="two", most=2)
    assert len(read) == 2


@pytest.mark.parametrize("rows", [slice(None), slice(0), slice(1)], ids=["all", "none", "one"])
def test_other_figures(rows: slice) -> None:
    samples = SAMPLES[rows]
    for figure in (plots.classes(samples), plots.outcomes(samples), plots.distributions(samples)):
        assert len(drawn(figure)) < 300_000


def test_distributions_of_many_samples_are_quick_and_small() -> None:
    many = SAMPLES[SAMPLES["outcome"] == "paired"].sample(50_000, replace=True, random_state=0).reset_index(drop=True)
    many["class_name"] = np.where(np.arange(len(many)) % 2, "mute", "ok")
    assert len(drawn(plots.distributions(many))) < 300_000
