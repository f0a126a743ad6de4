"""Draw the picture of the README: frames of the sample with their detections, and the crops below.

make demo && python tools/draw_picture.py
"""

from __future__ import annotations

import dataclasses

import matplotlib as mpl

import definitions
from detectime import runs
from detectime.report import charts
from detectime.schema import SAMPLES

VIDEOS = ("stop_02", "victory_02", "mute_02", "dislike_01")


def main() -> None:
    """Write docs/sample.jpg from the run of ``make demo``."""
    mpl.use("agg")
    run = runs.open_run(definitions.ROOT_DIR / "reports" / "demo")
    samples = run.outcomes
    paired = samples[samples["outcome"].isin(SAMPLES)]
    chosen = paired[paired["frame_path"].isin([f"{name}/0005.jpg" for name in VIDEOS])]
    title = "Detections in a frame, and the crop of its sample"
    config = dataclasses.replace(run.config, pairing=run.pairing)
    figure = charts.plot_gallery(chosen, run.detections, run.source, config, title=title, most=4)
    assert figure is not None
    target = definitions.ROOT_DIR / "docs" / "sample.jpg"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=110, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
