"""Measure pairing: flattening once, pairing again with other parameters, and building the table of outcomes.

python -m benchmarks.pairing [FRAMES]

Boxes lie at random positions, so only a quarter of the frames pair without a fallback; real frames need it much less.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks import measure
from detectime import pairing
from detectime.candidates import find_candidates
from detectime.config import PairingConfig
from detectime.schema import BOXES, DETECTIONS, PAIRING_COLUMNS

FRAMES = 175_000  # as many as the contest has
ROUNDS = 9
SETTINGS = {
    "default": PairingConfig(),
    "wider square, minimum score": PairingConfig(crop_coefficient=2.0, min_hand_score=0.3),
    "fallback: wider": PairingConfig(fallback="wider"),
    "fallback: frame": PairingConfig(fallback="frame"),
}


def make_random_detections(frames: int) -> pa.Table:
    """Return random detections: on average 1.2 faces and 1.4 hands per frame."""
    random = np.random.default_rng(0)
    faces = random.choice([0, 1, 2, 3], frames, p=[0.05, 0.75, 0.15, 0.05])
    hands = random.choice([0, 1, 2, 3], frames, p=[0.05, 0.6, 0.25, 0.1])
    columns = {
        "frame_path": pa.array([f"{k:07d}.jpg" for k in range(frames)]),
        "content": pa.nulls(frames, pa.string()),
        "outcome": pa.array(["ok"] * frames),
        "error": pa.nulls(frames, pa.string()),
        "width": pa.array(np.full(frames, 640, np.int32)),
        "height": pa.array(np.full(frames, 480, np.int32)),
        "orientation": pa.nulls(frames, pa.int8()),
        "faces": make_random_boxes(random, faces, "retinaface"),
        "hands": make_random_boxes(random, hands, "mediapipe"),
    }
    return pa.table(columns, schema=pa.schema([DETECTIONS.field(name) for name in PAIRING_COLUMNS]))


def make_random_boxes(random: np.random.Generator, counts: np.ndarray, detector: str) -> pa.ListArray:
    """Return random boxes, `counts` of them for each frame."""
    total = int(counts.sum())
    corner = random.uniform([[0], [0]], [[560], [400]], (2, total)).astype(np.float32)
    size = random.uniform(20, 80, (2, total)).astype(np.float32)
    numbers = [*corner, *(corner + size), random.random(total, np.float32)]
    values = [*map(pa.array, numbers), pa.array([detector] * total), pa.array(["near"] * total)]
    struct = pa.StructArray.from_arrays(values, fields=list(BOXES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.insert(np.cumsum(counts), 0, 0).astype(np.int32)), struct)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairing", description="Measure pairing.")
    parser.add_argument("frames", type=int, nargs="?", default=FRAMES, metavar="FRAMES", help=f"default: {FRAMES}")
    frames = parser.parse_args().frames
    detections = make_random_detections(frames)
    table = pd.DataFrame({"frame_path": detections["frame_path"].to_pandas(), "class_name": "ok", "label": 4})
    table = table.assign(video_name="v", frame_id=0, on_disk=True, wanted=True)
    candidates = find_candidates(detections)
    work: dict[str, Callable[[], object]] = {
        "flattening once (`find_candidates`)": partial(find_candidates, detections),
        **{
            f"pairing again (`pair_candidates`), {name}": partial(pairing.pair_candidates, candidates, config)
            for name, config in SETTINGS.items()
        },
        "all, including the table of outcomes (`pair_frames`)": partial(
            pairing.pair_frames, table, detections, PairingConfig()
        ),
    }
    measured = measure.time_in_turn({name: partial(measure.time_cpu, w) for name, w in work.items()}, ROUNDS)
    measure.print_table(
        f"Pairing, {frames:,} frames, {len(candidates.face):,} face-hand pairs, one thread",
        ("", "CPU ms"),
        ((name, measure.format_spread(1000 * second for second in seconds)) for name, seconds in measured.items()),
    )


if __name__ == "__main__":
    main()
