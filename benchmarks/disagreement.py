"""Whose hand to keep where two detectors found different ones near a face: what the `trust` of a detector rests on."""

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
from benchmarks.quality import EVERY
from detectime import boxes, evaluation, pairing
from detectime.config import Config
from detectime.detection.worker import Worker
from detectime.images import RGB

Spoiling = Callable[[RGB], np.ndarray]


def report(frames: Frames, settings: Config) -> None:
    """Print the table: each detector by itself on frames that are spoilt in many ways."""
    detection = dataclasses.replace(settings.detection, **EVERY)
    variant = dataclasses.replace(settings, detection=detection)
    worker = make_worker(detection)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, spoil in spoilings().items():
            place = Path(folder, name)
            for frame in frames.names:
                image = cv2.imread(str(frames.images / frame), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
                assert image is not None
                (place / frame).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(place / frame), spoil(np.asarray(image, np.uint8)), [cv2.IMWRITE_JPEG_QUALITY, 95])
            rows.append(each_alone(frames, place, worker, variant))
    found = pd.concat(rows)
    both = found.dropna()
    kinds = {
        "both, and they agree": both[both["agreement"] > 0.5],
        "both, and they differ": both[both["agreement"] <= 0.5],
        "hagrid alone": found[found["mediapipe"].isna() & found["hagrid"].notna()],
        "mediapipe alone": found[found["hagrid"].isna() & found["mediapipe"].notna()],
    }
    measure.print_table(
        f"{frames.title}, its {len(frames.names)} frames spoilt in {len(rows)} ways: who found a hand near a face",
        ("", "frames", "hagrid's is correct", "mediapipe's is correct", "mean IoU of the two", "of their average"),
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


def each_alone(frames: Frames, images: Path, worker: Worker, settings: Config) -> pd.DataFrame:
    """IoU with the truth of each detector's hand, NaN without one, and the IoU of the two."""
    table = frames.looked_at(worker, images)
    alone = {}
    for name in ("hagrid", "mediapipe"):
        rows = table.to_pylist()
        for row in rows:
            row["hands"] = [hand for hand in row["hands"] if hand["detector"] == name]
        alone[name] = frames.paired(rows, settings)
    hands = [pairing.get_boxes(samples, "hand") for samples in alone.values()]
    (first, second), average = alone.values(), (hands[0] + hands[1]) / 2
    truth = frames.read_truth(first)
    corners = {f"hand_{c}": average[:, k] for k, c in enumerate(("x1", "y1", "x2", "y2"))}
    there = {"outcome": np.where(np.isnan(average[:, 0]), "no_hand", "paired")}
    return pd.DataFrame(
        {
            "hagrid": evaluation.compute_best_iou(first, truth),
            "mediapipe": evaluation.compute_best_iou(second, truth),
            "average": evaluation.compute_best_iou(first.assign(**corners, **there), truth),
            "agreement": boxes.compute_iou(*hands),
        }
    )


def spoilings() -> dict[str, Spoiling]:
    """Ways to spoil a frame that leave its boxes where they are, in shares of it."""
    noise = np.random.default_rng(0)

    def smaller(scale: float) -> Spoiling:
        return lambda image: np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))

    def brighter(factor: float) -> Spoiling:
        return lambda image: np.clip(image * factor, 0, 255).astype(np.uint8)

    return {
        "as they are": lambda image: image,
        "half": smaller(0.5),
        "a third": smaller(1 / 3),
        "noise": lambda image: np.clip(image + noise.normal(0, 30, image.shape), 0, 255).astype(np.uint8),
        "dark": brighter(0.25),
        "bright": brighter(2.2),
        "blurred": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 4)),
        "grey": lambda image: np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
        "flat": lambda image: (image * 0.3 + 90).astype(np.uint8),
        "coarse": lambda image: np.asarray(
            cv2.resize(cv2.resize(image, (160, 160), interpolation=cv2.INTER_AREA), image.shape[1::-1])
        ),
    }
