"""Draw the picture of the README: a frame of each gesture of the sample with its boxes, and what is cut out of it.

make demo && python tools/draw_picture.py
"""

from __future__ import annotations

import matplotlib as mpl

from detectime import paths, runs
from detectime.report import charts
from detectime.schema import SAMPLES

VIDEOS = ("stop_02", "victory_02", "mute_02", "dislike_01")


def main() -> None:
    """Write docs/sample.jpg from what ``make demo`` found."""
    mpl.use("agg")
    run = runs.open_run(paths.ROOT_DIR / "reports" / "demo")
    samples = run.outcomes
    paired = samples[samples["outcome"].isin(SAMPLES)]
    chosen = paired[paired["frame_path"].isin([f"{name}/0005.jpg" for name in VIDEOS])]
    title = "What is found in a frame, and what is cut out of it"
    figure = charts.plot_gallery(chosen, run.detections, run.source, run.pairing, title=title, most=4)
    assert figure is not None
    target = paths.ROOT_DIR / "docs" / "sample.jpg"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=110, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
