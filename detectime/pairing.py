"""Pairing: which hand of a frame is the sample, or why there is none. Arithmetic on detections; no image is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime import boxes
from detectime.boxes import Floats
from detectime.config import Pairing

OUTCOMES = ("paired", "fallback", "apart", "no_hand", "no_face", "missing", "unreadable", "failed", "left_out")
"""What became of a row of the frame table."""

SAMPLES = ("paired", "fallback")
"""The outcomes that give a sample."""

FALLBACKS = ("wider", "frame", "alone")
"""How a `fallback` was found: in a wider square around a face, in one by a look at the whole frame, without a face."""

_NONE, _WIDER, _FRAME, _ALONE = -1, 0, 1, 2  # places in it

TRUSTED = ("hagrid", "mediapipe", "mask_rcnn")
"""Whose hand is kept where two detectors found different ones near a face: measured by ``benchmarks/disagreement.py``
for the first two."""

_PIECE = 65_536  # rows
_SAME_HAND = 0.5  # hands of two detectors that overlap more (IoU) are one; then the average is better than either
_CORNERS = ("x1", "y1", "x2", "y2")


def pair(table: pd.DataFrame, detections: pa.Table, config: Pairing) -> pd.DataFrame:
    """Choose each frame's sample: the hand that overlaps the square around a face most.

    The overlap is the area common to the hand's box and the square around the face, in unclipped coordinates; of equal
    ones the first face's counts, then the first hand's, in detector order. Where several detectors looked, the hands of
    the most trusted one that has a pair are compared, see `TRUSTED`, and the hand's box is the average of those that
    agree on it. With a `fallback` frames without a pair are compared in a wider square; then, with what a look at the
    whole frame found, in that square again; and last the hand of the best score is taken, without a face.

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
        - `fallback`, one of `FALLBACKS` (categorical, NaN where it is none), and `found_by`, the detectors that agree
          on the hand, with plus signs between them (NaN where there is no sample);
        - `bbox_x1` … `bbox_y2`: what is cut out, integers as float64, NaN where there is no sample: the hand, or the
          square around it if the class is enlarged, inside the frame.

    Raises
    ------
    KeyError
        If a wanted frame has no detections.
    """
    looked_at = detections["frame_path"].combine_chunks()
    rows = pc.index_in(pa.array(table["frame_path"], pa.string()), value_set=looked_at).fill_null(-1).to_numpy().copy()
    wanted = table["wanted"].to_numpy()
    if (rows[wanted] < 0).any():
        frame_path = table.loc[wanted, "frame_path"].iloc[int(np.argmax(rows[wanted] < 0))]
        raise KeyError(f"{frame_path!r} is wanted, but was not looked at: run detection first")
    rows[~wanted] = -1  # no row of `best`
    # Piece by piece: what is needed on the way is many times the result.
    starts = range(0, max(1, detections.num_rows), _PIECE)
    best = pd.concat([_best_pairs(detections.slice(k, _PIECE), config) for k in starts], ignore_index=True)
    if not np.array_equal(rows, np.arange(len(best))):
        best = best.reindex(rows)
        best = best.fillna({"outcome": "left_out", "faces": 0, "hands": 0}).astype({"faces": "int64", "hands": "int64"})
    samples = pd.concat([table, best.set_axis(table.index)], axis=1)
    samples.attrs = dict(table.attrs)
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


@dataclass(frozen=True)
class _Found:
    """All boxes of one kind, frame after frame.

    `corners` (N, 4) and `scores` (N,) are float64; `detector` (N,) is the place of each box's detector in `detectors`,
    the most trusted first; `fallback` (N,) says which come from the look at a whole frame without a hand near a face;
    `counts` is how many boxes each frame has, and `frame` (N,) is each box's.
    """

    corners: Floats
    scores: Floats
    detector: NDArray[np.int64]
    detectors: list[str]
    fallback: NDArray[np.bool_]
    counts: NDArray[np.int64]
    frame: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.counts) - self.counts


def _found(column: pa.ChunkedArray) -> _Found:
    lists = column.combine_chunks()
    values = lists.flatten()
    numbers = [values.field(key).to_numpy(zero_copy_only=False).astype(np.float64) for key in (*_CORNERS, "score")]
    named = values.field("detector").dictionary_encode()
    names: list[str] = named.dictionary.to_pylist()
    detectors = sorted(names, key=lambda name: (TRUSTED.index(name) if name in TRUSTED else len(TRUSTED), name))
    places = np.array([detectors.index(name) for name in names], np.int64)
    detector = places[named.indices.to_numpy()] if names else np.empty(0, np.int64)
    fallback = pc.equal(values.field("stage"), "fallback").to_numpy(zero_copy_only=False)
    counts = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    frame = np.repeat(np.arange(len(counts)), counts)
    return _Found(np.column_stack(numbers[:4]), numbers[4], detector, detectors, fallback, counts, frame)


def _best_pairs(detections: pa.Table, config: Pairing) -> pd.DataFrame:
    """For each row of detections its outcome and its best pair."""
    faces, hands = _found(detections["faces"]), _found(detections["hands"])
    near, every = ~hands.fallback, np.ones(len(hands.frame), bool)
    steps = [(_NONE, config.crop_coefficient, near)]
    if config.fallback != "none":
        steps.append((_WIDER, config.wider_coefficient, near))
    if config.fallback == "frame":
        steps.append((_FRAME, config.wider_coefficient, every))

    count = detections.num_rows
    face, hand, overlap = np.full(count, -1), np.full(count, -1), np.full(count, np.nan)
    fallback = np.full(count, _NONE)
    for kind, coefficient, considered in steps:
        left = hand < 0
        best_face, best_hand, largest = _largest_overlap(faces, hands, coefficient, considered, left)
        paired = largest > 0
        face[paired], hand[paired], fallback[paired] = best_face[paired], best_hand[paired], kind
        overlap[left] = np.fmax(overlap[left], largest[left])
    if config.fallback == "frame":
        alone = (hand < 0) & (hands.counts > 0)
        hand[alone], fallback[alone] = _best_score(hands)[alone], _ALONE
    considered = near | np.isin(fallback, (_FRAME, _ALONE))[hands.frame]
    corners, found_by = _reconciled(hands, hand, considered)

    hand_counts = hands.counts if config.fallback == "frame" else np.bincount(hands.frame[near], minlength=count)
    looked_at = detections["outcome"].to_pandas().to_numpy(dtype=object)
    outcome = np.select(
        [looked_at != "ok", fallback != _NONE, hand >= 0, faces.counts == 0, hand_counts == 0],
        [looked_at, "fallback", "paired", "no_face", "no_hand"],
        default="apart",
    )
    columns: dict[str, object] = {
        "outcome": outcome,
        "error": detections["error"].to_pandas(),
        "width": detections["width"].to_pandas().to_numpy(dtype=np.float64),
        "height": detections["height"].to_pandas().to_numpy(dtype=np.float64),
        "faces": faces.counts,
        "hands": hand_counts,
        "overlap": overlap,
        "fallback": pd.Categorical.from_codes(fallback, pd.Index(FALLBACKS)),
        "found_by": found_by,
    }
    for name, values in (
        ("face", _take(np.column_stack([faces.corners, faces.scores]), face)),
        ("hand", np.column_stack([corners, _take(hands.scores[:, None], hand)])),
    ):
        columns |= {f"{name}_{key}": values[:, k] for k, key in enumerate((*_CORNERS, "score"))}
    return pd.DataFrame(columns)


def _largest_overlap(
    faces: _Found, hands: _Found, coefficient: float, considered: NDArray[np.bool_], left: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each frame that is left its best face, its best hand among those considered, and their overlap, or NaN."""
    # Every face of a frame with every hand of it, frame after frame, all hands for a face before the next face.
    pairs = np.where(left, faces.counts * hands.counts, 0)
    frame = np.repeat(np.arange(len(pairs)), pairs)
    position = np.arange(len(frame)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    face = faces.starts[frame] + position // np.maximum(hands.counts[frame], 1)
    hand = hands.starts[frame] + position % np.maximum(hands.counts[frame], 1)
    if not considered.all():
        frame, face, hand = (values[considered[hand]] for values in (frame, face, hand))
    overlap = boxes.overlap(boxes.square_around(faces.corners[face], coefficient), hands.corners[hand])

    # The largest overlap of each frame, of the most trusted detector that has one; the sort is stable, so that the
    # first face and hand win a tie.
    by_trust = [hands.detector[hand], overlap <= 0] if len(hands.detectors) > 1 else []
    order = np.lexsort((-overlap, *by_trust, frame))
    first = order[np.unique(frame[order], return_index=True)[1]]
    best_face, best_hand, largest = np.full(len(pairs), -1), np.full(len(pairs), -1), np.full(len(pairs), np.nan)
    best_face[frame[first]], best_hand[frame[first]], largest[frame[first]] = face[first], hand[first], overlap[first]
    return best_face, best_hand, largest


def _best_score(hands: _Found) -> NDArray[np.int64]:
    """For each frame its hand of the best score, of the most trusted detector; -1 where there is none."""
    order = np.lexsort((-hands.scores, hands.detector, hands.frame))
    frames, first = np.unique(hands.frame[order], return_index=True)
    best = np.full(len(hands.counts), -1)
    best[frames] = order[first]
    return best


def _reconciled(hands: _Found, chosen: NDArray[np.int64], considered: NDArray[np.bool_]) -> tuple[Floats, pd.Series]:
    """Average each chosen hand with those of other detectors that agree: boxes (frames, 4), and who found them."""
    there = np.flatnonzero(chosen >= 0)
    corners = _take(hands.corners, chosen)
    finders = np.zeros(len(chosen), np.int64)  # a bit for each detector
    finders[there] = 1 << hands.detector[chosen[there]]
    if len(hands.detectors) > 1:
        own = chosen[hands.frame]
        others = np.flatnonzero(considered & (own >= 0) & (hands.detector != hands.detector[own]))
        iou = boxes.iou(hands.corners[own[others]], hands.corners[others])
        others, iou = others[iou > _SAME_HAND], iou[iou > _SAME_HAND]
        # of each other detector the one that agrees best
        key = hands.frame[others] * len(hands.detectors) + hands.detector[others]
        order = np.lexsort((-iou, key))
        others = others[order[np.unique(key[order], return_index=True)[1]]]
        frame, number = hands.frame[others], np.ones(len(chosen))
        np.add.at(corners, frame, hands.corners[others])
        np.add.at(number, frame, 1)
        np.add.at(finders, frame, 1 << hands.detector[others])
        corners /= number[:, None]
    kinds = [kind for kind in np.unique(finders).tolist() if kind]
    names = ["+".join(name for k, name in enumerate(hands.detectors) if kind >> k & 1) for kind in kinds]
    codes = np.where(finders > 0, np.searchsorted(kinds, finders), -1)
    return corners, pd.Series(pd.Categorical.from_codes(codes, pd.Index(names, dtype=str))).astype("str")


def _take(values: Floats, rows: NDArray[np.int64]) -> Floats:
    """Rows of values, NaN for -1."""
    taken = np.full((len(rows), values.shape[1]), np.nan)
    taken[rows >= 0] = values[rows[rows >= 0]]
    return taken


def _add_bbox(samples: pd.DataFrame, config: Pairing) -> None:
    """Add what is cut out of each frame."""
    hand = boxes_of(samples, "hand")
    enlarged = samples["class_name"].isin(config.enlarged_classes).to_numpy()
    cut = np.where(enlarged[:, None], boxes.square_around(hand, config.crop_hand_coefficient), hand)
    cut = boxes.clip(cut, samples["width"].to_numpy(), samples["height"].to_numpy())
    there = samples["outcome"].isin(SAMPLES).to_numpy()
    bbox = np.full((len(samples), 4), np.nan)
    bbox[there] = boxes.to_integers(cut[there])
    samples[[f"bbox_{corner}" for corner in _CORNERS]] = bbox
