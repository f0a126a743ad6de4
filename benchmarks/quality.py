"""How good the samples are: the README's quality table.

Each data set is run as the notebook runs it and scored by `detectime.evaluate` against its ground truth; beside it
stands what a plain loop over MediaPipe's hands finds: the whole frame, the best hand, no face.

    python benchmarks/quality.py                    the rendered sample
    python benchmarks/quality.py --hagrid DIR       and HaGRID's layout: DIR/hagrid_dataset, DIR/hagrid_annotations/val
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd

import definitions
from detectime import config as configuration
from detectime import evaluate, frames, pairing, run
from detectime.config import Config
from detectime.detectors import mediapipe
from detectime.sources import Folder


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hagrid", type=Path, metavar="DIR", help="images with annotations in HaGRID's own layout")
    arguments = parser.parse_args()
    settings = configuration.load()
    sample = definitions.SAMPLE
    report("rendered sample", settings, sample / "TRAIN_DATA", sample / "train.csv", sample / "truth.json")
    if arguments.hagrid:
        annotations = arguments.hagrid / "hagrid_annotations" / "val"
        with tempfile.TemporaryDirectory() as folder:
            labels = Path(folder, "train.csv")
            frames.hagrid_labels(annotations).to_csv(labels, index=False)
            report("HaGRID", settings, arguments.hagrid / "hagrid_dataset", labels, annotations)


def report(name: str, settings: Config, images: Path, labels: Path, truth: Path) -> None:
    """Score the run and the loop on one data set."""
    source = Folder(str(images))
    table = frames.select(frames.read(labels, source, settings.labels), settings.classes)
    with tempfile.TemporaryDirectory() as output:
        detections = run.detect(table, source, settings, output)
    samples = pairing.pair(table, detections, settings.pairing)
    boxes = evaluate.read_hagrid(truth, samples) if truth.is_dir() else evaluate.read_truth(truth)
    for title, found in (
        ("detectime", samples),
        ("MediaPipe's hands in the whole frame, the best one, no face", whole_frame(table, source, settings)),
    ):
        print(f"\n{name}: {title}\n")
        print(evaluate.score(found, boxes).round(3).to_string())


def whole_frame(table: pd.DataFrame, source: Folder, settings: Config) -> pd.DataFrame:
    """Take the best hand of each whole frame as its sample."""
    detector = mediapipe.build(settings.detection)
    rows = []
    wanted = table[table["wanted"]]
    for _, frame in source.open(wanted["frame_path"]):
        found = [] if isinstance(frame, Exception) else detector.detect([frame])[0].boxes.tolist()
        rows.append(("paired", *found[0]) if found else ("no_hand", *[float("nan")] * 4))
    columns = ["outcome", *(f"hand_{corner}" for corner in ("x1", "y1", "x2", "y2"))]
    return pd.concat([wanted, pd.DataFrame(rows, columns=columns, index=wanted.index)], axis=1)


if __name__ == "__main__":
    main()
