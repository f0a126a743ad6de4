"""Fit the box around a hand's landmarks to annotated hands, held out by person: the basis of `Hand.make_box`.

    python -m benchmarks.hand_boxes --hagrid DIR --webcam DIR

Landmarks are those of the detected hand that fits each annotated one best. Both data sets have equal weight: annotators
differ, and the larger set would decide alone otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import measure
from benchmarks.data import Frames
from benchmarks.worlds import World, split_people
from detectime import boxes, config, evaluation
from detectime.boxes import Flags, Floats
from detectime.detectors import hand_landmarks
from detectime.detectors.hand_landmarks import PRESENT, Hand
from detectime.schema import CORNERS, LANDMARKS

DETECTORS = ("mediapipe", "hagrid")
MARGIN = 0.10  # what the fit is compared with
RADII = np.round(np.arange(0.08, 0.32, 0.01), 2)  # that are tried, in palm lengths
_SAME_HAND = 0.3  # IoU above which a detected hand is the annotated one


def collect_hands(world: World, detector: str) -> pd.DataFrame:
    """Return one row per annotated hand that a detector found: its landmarks, the size of the frame and the truth."""
    settings = config.load_config(parameters={"hand_detector": [detector], "landmark_margin": MARGIN})
    truth = {path: rows[list(CORNERS)].to_numpy(np.float64) for path, rows in world.truth.groupby("frame_path")}
    people = world.frames.table.set_index("frame_path")["video_name"]
    rows = []
    for row in world.detect(settings.detection).to_pylist():
        for true in truth.get(row["frame_path"], []):
            found = [_make_hand(points) for points in row["landmarks"]]
            present = [hand for hand, presence in zip(found, row["presence"], strict=True) if presence >= PRESENT]
            iou = [float(boxes.compute_iou(hand.make_box(MARGIN), true)) for hand in present]
            if max(iou, default=0) > _SAME_HAND:
                hand, size = present[int(np.argmax(iou))], (row["width"], row["height"])
                rows.append((world.frames.title, people[row["frame_path"]], detector, hand, size, true))
    return pd.DataFrame(rows, columns=["world", "person", "detector", "hand", "size", "truth"])


def _make_hand(values: Sequence[float]) -> Hand:
    """Return a hand of stored landmarks."""
    points = np.reshape(values, (LANDMARKS, 3)).astype(np.float64)
    return Hand(points[:, :2], points[:, 2], 1.0, 0.5)


def compute_iou(hands: pd.DataFrame, candidates: Floats) -> Floats:
    """Compute the IoU with the truth of boxes, shape (N, …, 4), clipped to the frame."""
    size = np.array(hands["size"].tolist(), float).T.reshape(2, len(hands), *[1] * (candidates.ndim - 2))
    truth = np.array(hands["truth"].tolist()).reshape(len(hands), *[1] * (candidates.ndim - 2), 4)
    return boxes.compute_iou(boxes.clip_boxes(candidates, *size), truth)


def try_radii(hands: pd.DataFrame) -> Floats:
    """Return the IoU of each hand with each radius at the ends and at the joints: shape (N, len(RADII), len(RADII))."""
    is_end = np.isin(np.arange(LANDMARKS), hand_landmarks.ENDS)
    radii = np.where(is_end, RADII[:, None, None], RADII[:, None])  # ends, joints, landmarks
    tried = [hand.surround_discs(radii) for hand in hands["hand"]]
    return compute_iou(hands, np.array(tried))


def choose_radii(hands: pd.DataFrame, iou: Floats, chosen_on: Flags) -> tuple[int, int]:
    """Return the indices of the radii with the largest mean of the worlds' mean IoU on some of the hands."""
    means = [iou[chosen_on & (hands["world"] == world).to_numpy()].mean(axis=0) for world in hands["world"].unique()]
    ends, joints = np.unravel_index(np.argmax(np.mean(means, axis=0)), iou.shape[1:])
    return int(ends), int(joints)


def print_report(worlds: Sequence[World]) -> None:
    """Print the fit, and the IoU of boxes of persons that it did not see beside those of a margin."""
    hands = pd.concat([collect_hands(w, name) for name in DETECTORS for w in worlds], ignore_index=True)
    iou = try_radii(hands)
    held = np.zeros(len(hands))
    folds = []
    for _, held_out in split_people(hands["person"]):
        ends, joints = choose_radii(hands, iou, ~held_out)
        held[held_out] = iou[held_out, ends, joints]
        folds.append((RADII[ends], RADII[joints]))
    ends, joints = choose_radii(hands, iou, np.ones(len(hands), bool))
    low, high = np.min(folds, axis=0), np.max(folds, axis=0)
    print(
        f"\nBest radii in palm lengths, at ends and joints: {RADII[ends]} and {RADII[joints]}; "
        f"with one person left out {low[0]} to {high[0]} and {low[1]} to {high[1]}."
    )
    margin = compute_iou(hands, np.array([hand.make_box(MARGIN) for hand in hands["hand"]]))
    built_in = compute_iou(hands, np.array([hand.make_box() for hand in hands["hand"]]))
    rows = []
    for (detector, world), group in hands.groupby(["detector", "world"], sort=False):
        for name, values in (
            (f"margin {MARGIN}", margin),
            ("fitted, of persons left out", held),
            ("built in", built_in),
        ):
            own = values[group.index]
            wrong = int((own < evaluation.CORRECT).sum())
            rows.append((f"{detector}, {world}: {name}", len(own), f"{own.mean():.3f}", wrong))
    measure.print_table("Box around the landmarks", ("", "hands", "mean IoU", "wrong"), rows)


def main() -> None:
    """Read the data sets and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hagrid", type=Path, required=True)
    parser.add_argument("--webcam", type=Path, required=True)
    arguments = parser.parse_args()
    settings = config.load_config()
    worlds = [
        World(Frames.read_hagrid(arguments.hagrid, settings)),
        World(Frames.read_contest(arguments.webcam, settings)),
    ]
    print_report(worlds)


if __name__ == "__main__":
    main()
