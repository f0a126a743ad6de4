"""The detections table: one row for each frame that was looked at, whatever detector looked."""

from __future__ import annotations

import pyarrow as pa

DETECTIONS_FILE = "detections.parquet"
"""Name of the table in the folder of a run."""

TRUTH = "true_hands"
"""Name of the column in which the frame table has annotated boxes: see `hagrid.read`."""

OUTCOMES = ("ok", "missing", "unreadable", "failed")
"""What became of looking at a frame; whether a sample follows from it is the pairing's business."""

BOXES = pa.list_(
    pa.struct(
        [
            pa.field("x1", pa.float32(), nullable=False),
            pa.field("y1", pa.float32(), nullable=False),
            pa.field("x2", pa.float32(), nullable=False),
            pa.field("y2", pa.float32(), nullable=False),
            pa.field("score", pa.float32(), nullable=False),
            pa.field("detector", pa.string(), nullable=False),  # its name in the configuration
            pa.field("stage", pa.string(), nullable=False),  # `near` a face, in the `frame`, or there as `fallback`
        ]
    )
)

DETECTIONS = pa.schema(
    [
        pa.field("frame_path", pa.string(), nullable=False),  # unique
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("error", pa.string()),  # why there are no boxes; null if `ok`
        pa.field("width", pa.int32()),  # of the decoded frame, in pixels; null unless it was decoded
        pa.field("height", pa.int32()),
        pa.field("faces", BOXES, nullable=False),
        pa.field("hands", BOXES, nullable=False),
    ]
)
