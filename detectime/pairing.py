"""Pairing: which hand of a frame is the sample, or why there is none. Arithmetic on detections; no image is needed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from detectime import boxes
from detectime.boxes import Floats
from detectime.config import Pairing

OUTCOMES = ("paired", "apart", "no_hand", "no_face", "missing", "unreadable", "failed", "left_out")
"""What became of a row of the frame table."""

_CORNERS = ("x1", "y1", "x2", "y2")


def pair(table: pd.DataFrame, detections: pa.Table, config: Pairing) -> pd.DataFrame:
    """Choose each frame's sample: the hand that overlaps the square around a face most.

    The overlap is the area common to the hand's box and the square around the face, in unclipped coordinates; of equal
    ones the first face's counts, then the first hand's, in detector order.

    Parameters
    ----------
    table
        The frame table, with `wanted`.
    detections
        What `run.detect` returned: at least a row for each wanted frame.
    config
        Coefficients, and which classes are enlarged.

    Returns
    -------
    DataFrame
        A row for each row of `table`, in its order: its columns, and

        - `outcome`, one of `OUTCOMES`, and `error`, why the frame could not be looked at (text; NaN where it could);
        - `width`, `height` of the frame in pixels (float64, NaN where it was not decoded);
        - `faces`, `hands`: how many were found (int64);
        - `face_x1` … `face_y2`, `hand_x1` … `hand_y2`: the pair, in pixels, and `face_score`, `hand_score` (float64,
          NaN where there is none);
        - `overlap`, square pixels (float64, NaN where nothing was compared);
        - `bbox_x1` … `bbox_y2`: what is cut out, integers as float64, NaN where there is no sample: the hand, or the
          square around it if the class is enlarged, inside the frame.

    Raises
    ------
    KeyError
        If a wanted frame has no detections.
    """
    rows = pd.Index(detections["frame_path"].to_pandas()).get_indexer(pd.Index(table["frame_path"]))
    wanted = table["wanted"].to_numpy()
    if (rows[wanted] < 0).any():
        frame_path = table.loc[wanted, "frame_path"].iloc[int(np.argmax(rows[wanted] < 0))]
        raise KeyError(f"{frame_path!r} is wanted, but was not looked at: run detection first")
    rows[~wanted] = -1  # no row of `best`
    best = _best_pairs(detections, config.crop_coefficient).reindex(rows).set_axis(table.index)
    best = best.fillna({"outcome": "left_out", "faces": 0, "hands": 0}).astype({"faces": "int64", "hands": "int64"})
    samples = table.assign(**{str(column): best[column] for column in best})
    _add_bbox(samples, config)
    return samples


def boxes_of(samples: pd.DataFrame, what: str) -> Floats:
    """Take the boxes of `what` (``face``, ``hand`` or ``bbox``) out of samples: float64, shape (N, 4)."""
    values: Floats = samples[[f"{what}_{corner}" for corner in _CORNERS]].to_numpy(dtype=np.float64)
    return values


def count_outcomes(samples: pd.DataFrame) -> pd.DataFrame:
    """Count outcomes by class: a row a class and one for all, a column for each outcome that occurs, and their sum."""
    kinds = samples.groupby(["label", "class_name"])["outcome"].value_counts().unstack(fill_value=0)
    kinds = kinds.reindex(columns=[outcome for outcome in OUTCOMES if outcome in kinds]).droplevel("label")
    kinds.loc["all"] = kinds.sum()
    return kinds.assign(frames=kinds.sum(axis=1)).rename_axis(columns=None)


def _best_pairs(detections: pa.Table, coefficient: float) -> pd.DataFrame:
    """For each row of detections its outcome and its best pair."""
    count = detections.num_rows
    faces, face_counts, face_scores = _flat(detections["faces"])
    hands, hand_counts, hand_scores = _flat(detections["hands"])
    face_starts = np.cumsum(face_counts) - face_counts
    hand_starts = np.cumsum(hand_counts) - hand_counts

    # Every face of a frame with every hand of it, frame after frame, all hands for a face before the next face.
    pairs = face_counts * hand_counts
    frame = np.repeat(np.arange(count), pairs)
    position = np.arange(len(frame)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    face = face_starts[frame] + position // np.maximum(hand_counts[frame], 1)
    hand = hand_starts[frame] + position % np.maximum(hand_counts[frame], 1)
    overlap = boxes.overlap(boxes.square_around(faces[face], coefficient), hands[hand])

    # The largest overlap of each frame; the sort is stable, so that the first face and hand win a tie.
    order = np.lexsort((-overlap, frame))
    first = order[np.unique(frame[order], return_index=True)[1]]
    best = np.full(count, -1)
    best[frame[first]] = first
    largest = np.full(count, np.nan)
    largest[frame[first]] = overlap[first]
    paired = largest > 0

    looked_at = detections["outcome"].to_pandas().to_numpy(dtype=object)
    outcome = np.select(
        [looked_at != "ok", face_counts == 0, hand_counts == 0, ~paired],
        [looked_at, "no_face", "no_hand", "apart"],
        default="paired",
    )
    columns: dict[str, object] = {
        "outcome": outcome,
        "error": detections["error"].to_pandas(),
        "width": detections["width"].to_pandas().to_numpy(dtype=np.float64),
        "height": detections["height"].to_pandas().to_numpy(dtype=np.float64),
        "faces": face_counts,
        "hands": hand_counts,
        "overlap": largest,
    }
    for name, found, scores, chosen in (("face", faces, face_scores, face), ("hand", hands, hand_scores, hand)):
        values = np.full((count, 5), np.nan)
        values[paired] = np.column_stack([found, scores])[chosen[best[paired]]]
        columns |= {f"{name}_{key}": values[:, k] for k, key in enumerate((*_CORNERS, "score"))}
    return pd.DataFrame(columns)


def _flat(column: pa.ChunkedArray) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Boxes (N, 4) of all frames one after another, how many each frame has, and scores (N,)."""
    lists = column.combine_chunks()
    counts = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    values = lists.flatten()
    numbers = [values.field(key).to_numpy(zero_copy_only=False).astype(np.float64) for key in (*_CORNERS, "score")]
    return np.column_stack(numbers[:4]), counts, numbers[4]


def _add_bbox(samples: pd.DataFrame, config: Pairing) -> None:
    """Add what is cut out of each frame."""
    hand = boxes_of(samples, "hand")
    enlarged = samples["class_name"].isin(config.enlarged_classes).to_numpy()
    cut = np.where(enlarged[:, None], boxes.square_around(hand, config.crop_hand_coefficient), hand)
    cut = boxes.clip(cut, samples["width"].to_numpy(), samples["height"].to_numpy())
    there = samples["outcome"].to_numpy() == "paired"
    bbox = np.full((len(samples), 4), np.nan)
    bbox[there] = boxes.to_integers(cut[there])
    samples[[f"bbox_{corner}" for corner in _CORNERS]] = bbox
