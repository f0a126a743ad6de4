"""What pairing costs: flattening once, pairing again with other parameters, and the table of outcomes.

python -m benchmarks.pairing [FRAMES]

Boxes lie anywhere, so that only a quarter of the frames pair at once: real frames leave much less to a fallback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks import measure
from detectime import pairing
from detectime.config import PairingConfig
from detectime.schema import BOXES, DETECTIONS, PAIRING_COLUMNS

FRAMES = 175_000  # of the contest
ROUNDS = 9
SETTINGS = {
    "the default": PairingConfig(),
    "a wider square and a least score": PairingConfig(crop_coefficient=2.0, min_hand_score=0.3),
    "fallback: wider": PairingConfig(fallback="wider"),
    "fallback: frame": PairingConfig(fallback="frame"),
}


def imagine_detections(frames: int) -> pa.Table:
    """Return detections of frames with 1.2 faces and 1.4 hands on average."""
    random = np.random.default_rng(0)
    faces = random.choice([0, 1, 2, 3], frames, p=[0.05, 0.75, 0.15, 0.05])
    hands = random.choice([0, 1, 2, 3], frames, p=[0.05, 0.6, 0.25, 0.1])
    columns = {
        "frame_path": pa.array([f"{k:07d}.jpg" for k in range(frames)]),
        "outcome": pa.array(["ok"] * frames),
        "error": pa.nulls(frames, pa.string()),
        "width": pa.array(np.full(frames, 640, np.int32)),
        "height": pa.array(np.full(frames, 480, np.int32)),
        "orientation": pa.nulls(frames, pa.int8()),
        "faces": imagine_boxes(random, faces, "retinaface"),
        "hands": imagine_boxes(random, hands, "mediapipe"),
    }
    return pa.table(columns, schema=pa.schema([DETECTIONS.field(name) for name in PAIRING_COLUMNS]))


def imagine_boxes(random: np.random.Generator, counts: np.ndarray, detector: str) -> pa.ListArray:
    """Return so many random boxes for each frame."""
    total = int(counts.sum())
    corner = random.uniform([[0], [0]], [[560], [400]], (2, total)).astype(np.float32)
    size = random.uniform(20, 80, (2, total)).astype(np.float32)
    numbers = [*corner, *(corner + size), random.random(total, np.float32)]
    values = [*map(pa.array, numbers), pa.array([detector] * total), pa.array(["near"] * total)]
    struct = pa.StructArray.from_arrays(values, fields=list(BOXES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.insert(np.cumsum(counts), 0, 0).astype(np.int32)), struct)


def main() -> None:
    """Print the table."""
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES
    detections = imagine_detections(frames)
    table = pd.DataFrame({"frame_path": detections["frame_path"].to_pandas(), "class_name": "ok", "label": 4})
    table = table.assign(video_name="v", frame_id=0, on_disk=True, wanted=True)
    candidates = pairing.find_candidates(detections)
    work: dict[str, Callable[[], object]] = {
        "flattening (`find_candidates`), once": partial(pairing.find_candidates, detections),
        **{
            f"pairing again (`pair_candidates`), {name}": partial(pairing.pair_candidates, candidates, config)
            for name, config in SETTINGS.items()
        },
        "all, with the table of outcomes (`pair`)": partial(pairing.pair_frames, table, detections, PairingConfig()),
    }
    measured = measure.in_turn({name: partial(measure.cpu, w) for name, w in work.items()}, ROUNDS)
    measure.print_table(
        f"Pairing, {frames:,} frames, {len(candidates.face):,} pairs of a face and a hand, one thread",
        ("", "CPU ms"),
        ((name, measure.spread(1000 * second for second in seconds)) for name, seconds in measured.items()),
    )


if __name__ == "__main__":
    main()
