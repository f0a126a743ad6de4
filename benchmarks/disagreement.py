"""Measure which of two detectors to trust where they found different hands near a face: the basis of `trust`."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks import measure
from benchmarks.data import Frames, make_worker
from benchmarks.quality import VARIANTS
from detectime import boxes, evaluation, pairing
from detectime import config as configuration
from detectime.config import Config
from detectime.detection.worker import Worker
from detectime.images import RGB

Distortion = Callable[[RGB], np.ndarray]


def print_report(frames: Frames, settings: Config) -> None:
    """Print the table: each detector alone on frames that are distorted in many ways."""
    detection = configuration.load_config(parameters=VARIANTS["best"]).detection
    variant = dataclasses.replace(settings, detection=detection)
    worker = make_worker(detection)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, distort in make_distortions().items():
            target = Path(folder, name)
            for frame in frames.names:
                image = cv2.imread(str(frames.images / frame), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
                assert image is not None
                (target / frame).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(target / frame), distort(np.asarray(image, np.uint8)), [cv2.IMWRITE_JPEG_QUALITY, 95])
            rows.append(evaluate_each_detector(frames, target, worker, variant))
    found = pd.concat(rows)
    both = found.dropna()
    kinds = {
        "both, agreeing": both[both["agreement"] > 0.5],
        "both, differing": both[both["agreement"] <= 0.5],
        "only hagrid": found[found["mediapipe"].isna() & found["hagrid"].notna()],
        "only mediapipe": found[found["hagrid"].isna() & found["mediapipe"].notna()],
    }
    measure.print_table(
        f"{frames.title}, {len(frames.names)} frames distorted in {len(rows)} ways: who found a hand near a face",
        (
            "",
            "frames",
            "hagrid correct",
            "mediapipe correct",
            "mean IoU, hagrid · mediapipe",
            "mean IoU of the averaged box",
        ),
        (
            (
                kind,
                len(group),
                *(int((group[name] >= evaluation.CORRECT).sum()) for name in ("hagrid", "mediapipe")),
                " · ".join(f"{group[name].mean():.3f}" for name in ("hagrid", "mediapipe")),
                f"{group['average'].mean():.3f}",
            )
            for kind, group in kinds.items()
        ),
    )


def evaluate_each_detector(frames: Frames, images: Path, worker: Worker, settings: Config) -> pd.DataFrame:
    """Return the IoU with the truth of each detector's hand (NaN if it found none) and the IoU of the two hands."""
    table = frames.detect(worker, images)
    alone = {}
    for name in ("hagrid", "mediapipe"):
        rows = table.to_pylist()
        for row in rows:
            row["hands"] = [hand for hand in row["hands"] if hand["detector"] == name]
        alone[name] = frames.pair(rows, settings)
    hands = [pairing.get_boxes(samples, "hand") for samples in alone.values()]
    (first, second), average = alone.values(), (hands[0] + hands[1]) / 2
    truth = frames.read_truth(first)
    corners = {f"hand_{c}": average[:, k] for k, c in enumerate(("x1", "y1", "x2", "y2"))}
    outcome = {"outcome": np.where(np.isnan(average[:, 0]), "no_hand", "paired")}
    return pd.DataFrame(
        {
            "hagrid": evaluation.compute_best_iou(first, truth),
            "mediapipe": evaluation.compute_best_iou(second, truth),
            "average": evaluation.compute_best_iou(first.assign(**corners, **outcome), truth),
            "agreement": boxes.compute_iou(*hands),
        }
    )


def make_distortions() -> dict[str, Distortion]:
    """Return distortions that leave the boxes of a frame in place, relative to its size."""
    noise = np.random.default_rng(0)

    def scale_by(scale: float) -> Distortion:
        return lambda image: np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))

    def brighten(factor: float) -> Distortion:
        return lambda image: np.clip(image * factor, 0, 255).astype(np.uint8)

    return {
        "unchanged": lambda image: image,
        "half size": scale_by(0.5),
        "third size": scale_by(1 / 3),
        "noise": lambda image: np.clip(image + noise.normal(0, 30, image.shape), 0, 255).astype(np.uint8),
        "dark": brighten(0.25),
        "bright": brighten(2.2),
        "blurred": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 4)),
        "grey": lambda image: np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
        "low contrast": lambda image: (image * 0.3 + 90).astype(np.uint8),
        "low resolution": lambda image: np.asarray(
            cv2.resize(cv2.resize(image, (160, 160), interpolation=cv2.INTER_AREA), image.shape[1::-1])
        ),
    }
