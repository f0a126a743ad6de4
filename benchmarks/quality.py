"""Score samples with `detectime.evaluation`, and those of the MediaPipe loop: its best hand, without a face."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd

from benchmarks import measure
from benchmarks.data import Frames, make_worker
from benchmarks.peers import Loop
from detectime.config import Config

BOTH: dict[str, Any] = {"hand_detector": ("hagrid", "mediapipe")}
EVERY = {**BOTH, "near_coefficient": 0.0}
VARIANTS: dict[str, tuple[dict[str, Any], Literal["none", "frame"]]] = {
    "default: mediapipe": ({}, "none"),
    "default, fallback: frame": ({"whole_frame": True}, "frame"),
    "hagrid, mediapipe": (BOTH, "none"),
    "hagrid, mediapipe, fallback: frame": ({**BOTH, "whole_frame": True}, "frame"),
    "both (near_coefficient: 0)": (EVERY, "none"),
    "both, fallback: frame": ({**EVERY, "whole_frame": True}, "frame"),
}


def print_report(sets: Iterable[Frames], settings: Config, peer: Loop | None) -> None:
    """Print one table per data set."""
    for frames in sets:
        rows = []
        for name, (keys, fallback) in VARIANTS.items():
            detection = dataclasses.replace(settings.detection, **keys)
            pairing = dataclasses.replace(settings.pairing, fallback=fallback)
            variant = dataclasses.replace(settings, detection=detection, pairing=pairing)
            rows.append((name, frames.make_samples(make_worker(detection), frames.images, variant)))
        if peer:
            rows.append(
                (
                    "MediaPipe 0.10 on the whole frame, best hand, without faces",
                    find_best_hands(frames, peer, rows[0][1]),
                )
            )
        head = ("", "samples", "by fallback", "correct", "wrong", "precision", "mean IoU")
        measure.print_table(
            f"{frames.title}, {len(frames.names)} frames", head, (make_row(frames, name, found) for name, found in rows)
        )


def make_row(frames: Frames, name: str, samples: pd.DataFrame) -> tuple[object, ...]:
    """Return the row of one contender in the table."""
    fallback = int((samples["outcome"] == "fallback").sum())
    if not frames.has_truth:
        count = int(samples["outcome"].isin(("paired", "fallback")).sum())
        return name, count, fallback, "–", "–", "–", "–"
    row = frames.score(samples)
    whole = (int(row[key]) for key in ("correct", "wrong"))
    return name, int(row["samples"]), fallback, *whole, f"{row['precision']:.3f}", f"{row['mean_iou']:.3f}"


def find_best_hands(frames: Frames, peer: Loop, samples: pd.DataFrame) -> pd.DataFrame:
    """Return samples with the hands that the peer found."""
    wanted = samples[samples["wanted"]]
    found = peer.find_best_hands(frames.images, wanted["frame_path"].tolist())
    hands = pd.DataFrame([box or [float("nan")] * 4 for box in found], index=wanted.index)
    outcome = ["paired" if box else "no_hand" for box in found]
    corners = {f"hand_{corner}": hands[k] for k, corner in enumerate(("x1", "y1", "x2", "y2"))}
    return wanted.assign(outcome=outcome, **corners)
