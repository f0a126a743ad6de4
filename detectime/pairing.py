"""Pairing: which hand of a frame is the sample, or why there is none. Arithmetic on detections; no image is needed.

Four functions stand one after the other: `find_candidates` flattens detections, `score_candidates` gives each pair of a
face and a hand its overlap, `choose_candidates` takes the best pair of each frame, and `reconcile_hands` averages the
hand with those of other detectors. `pair_candidates` combines them by the rule `RULE`; `pair_frames` makes the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime import boxes
from detectime.boxes import Flags, Floats
from detectime.config import PairingConfig
from detectime.detectors.registry import TRUSTED
from detectime.schema import SAMPLES, Outcome, check_outcomes

RULE = "2021"
"""Name of the combination that `pair_candidates` is; ``run.json`` records it."""

FALLBACKS = ("wider", "frame", "alone")
"""How a `fallback` was found: in a wider square around a face, in one by a look at the whole frame, without a face."""

_NONE, _WIDER, _FRAME, _ALONE = -1, 0, 1, 2  # places in it

_PIECE = 65_536  # rows
_SAME_HAND = 0.5  # hands of two detectors that overlap more (IoU) are one; then the average is better than either
_CORNERS = ("x1", "y1", "x2", "y2")

Places = NDArray[np.int64]


@dataclass(frozen=True)
class FlatBoxes:
    """All boxes of one kind, frame after frame.

    Attributes
    ----------
    corners
        float32, shape (N, 4): x1, y1, x2, y2 in pixels of the frame.
    scores
        float32, shape (N,).
    frame
        int32, shape (N,): the row of each box's frame.
    counts
        int32, shape (frames,): how many boxes each frame has.
    detector
        int8, shape (N,): the place of each box's detector in `detectors`.
    detectors
        Names, the most trusted first.
    fallback
        bool, shape (N,): whether the box comes from the look at a whole frame that had no hand near a face.
    """

    corners: NDArray[np.float32]
    scores: NDArray[np.float32]
    frame: NDArray[np.int32]
    counts: NDArray[np.int32]
    detector: NDArray[np.int8]
    detectors: tuple[str, ...]
    fallback: Flags

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Candidates:
    """The faces and hands of all frames, and every pair of them within a frame.

    Attributes
    ----------
    faces, hands
        The boxes.
    face, hand
        int32, shape (P,): places in `faces` and `hands`. Pairs stand frame after frame, and within a frame all hands
        with its first face before those with the next.
    frame
        int32, shape (P,): the row of each pair's frame.
    """

    faces: FlatBoxes
    hands: FlatBoxes
    face: NDArray[np.int32]
    hand: NDArray[np.int32]
    frame: NDArray[np.int32]

    def select(self, considered: Flags) -> Candidates:
        """Return the same boxes with some of the pairs: bool, shape (P,)."""
        if considered.all():
            return self
        places = np.flatnonzero(considered)
        return replace(self, face=self.face.take(places), hand=self.hand.take(places), frame=self.frame.take(places))


@dataclass(frozen=True)
class Pairs:
    """What became of each frame, whether or not it could be read; all arrays have shape (frames, …).

    Attributes
    ----------
    face, hand
        int64: places in the candidates' faces and hands, -1 where there is none.
    fallback
        int64: place in `FALLBACKS`, -1 where the sample is none.
    overlap
        float64, square pixels; NaN where nothing was compared.
    square
        float64, shape (frames, 4): the context square that decided, unclipped; NaN where none did.
    corners
        float64, shape (frames, 4): the hand, averaged over the detectors that agree; NaN where there is none.
    finders
        int64: a bit for each of the candidates' hand detectors that agrees.
    face_counts, hand_counts
        int64: how many boxes counted.
    """

    face: Places
    hand: Places
    fallback: Places
    overlap: Floats
    square: Floats
    corners: Floats
    finders: Places
    face_counts: Places
    hand_counts: Places


def pair_frames(table: pd.DataFrame, detections: pa.Table, config: PairingConfig) -> pd.DataFrame:
    """Choose each frame's sample: the hand that overlaps the context square of a face most.

    The overlap is the area common to the hand's box and the square, in unclipped coordinates; of equal ones the first
    face's counts, then the first hand's, in detector order. Where several detectors looked, the hands of the most
    trusted one that has a pair are compared, and the hand's box is the average of those that agree on it. With a
    `fallback` frames without a pair are compared in a wider square; then, with what a look at the whole frame found, in
    that square again; and last the hand of the best score is taken, without a face.

    Parameters
    ----------
    table
        The frame table, with `wanted`.
    detections
        What `detection.run.detect_frames` returned: at least a row for each wanted frame.
    config
        Coefficients, least scores, and which classes are enlarged.

    Returns
    -------
    DataFrame
        One row for each row of `table`, in its order: its columns, and

        - `outcome`, one of `schema.Outcome`, and `error`, why the frame could not be looked at (text; NaN where it
          could);
        - `width`, `height` of the frame in pixels, and its stored `orientation` (float64, NaN where unknown);
        - `faces`, `hands`: how many were found (int64);
        - `overlap`, square pixels (float64, NaN where nothing was compared);
        - `fallback`, one of `FALLBACKS` (categorical, NaN where it is none), and `found_by`, the detectors that agree
          on the hand, with plus signs between them (NaN where there is no sample);
        - `face_x1` … `face_y2`, `hand_x1` … `hand_y2`: the pair, in pixels, and `face_score`, `hand_score` (float64,
          NaN where there is none);
        - `square_x1` … `square_y2`: the context square that decided, which may leave the frame (float64, NaN where none
          did);
        - `bbox_x1` … `bbox_y2`: what is cut out, integers as float64, NaN where there is no sample: the hand, or its
          context square if the class is enlarged, inside the frame.

    Raises
    ------
    KeyError
        If a wanted frame has no detections.
    """
    found = detections["frame_path"].combine_chunks()
    rows = pc.index_in(pa.array(table["frame_path"], pa.string()), value_set=found).fill_null(-1).to_numpy().copy()
    wanted = table["wanted"].to_numpy()
    if (rows[wanted] < 0).any():
        frame_path = table.loc[wanted, "frame_path"].iloc[int(np.argmax(rows[wanted] < 0))]
        raise KeyError(f"{frame_path!r} is wanted, but was not looked at: run detection first")
    rows[~wanted] = -1  # no row of `best`
    # Piece by piece: what is needed on the way is many times the result.
    starts = range(0, max(1, detections.num_rows), _PIECE)
    best = pd.concat([_pair_piece(detections.slice(k, _PIECE), config) for k in starts], ignore_index=True)
    if not np.array_equal(rows, np.arange(len(best))):
        best = best.reindex(rows)
        nothing = {"outcome": Outcome.LEFT_OUT.value, "faces": 0, "hands": 0}
        best = best.fillna(nothing).astype({"faces": "int64", "hands": "int64"})
    samples = pd.concat([table, best.set_axis(table.index)], axis=1)
    samples.attrs = dict(table.attrs)
    _add_bbox(samples, config)
    return samples


def get_boxes(samples: pd.DataFrame, what: str) -> Floats:
    """Take the boxes of `what` (``face``, ``hand``, ``square`` or ``bbox``) out of samples: float64, shape (N, 4)."""
    values: Floats = samples[[f"{what}_{corner}" for corner in _CORNERS]].to_numpy(dtype=np.float64)
    return values


def count_outcomes(samples: pd.DataFrame) -> pd.DataFrame:
    """Count outcomes by class.

    Returns
    -------
    DataFrame
        One row per class and one for all, a column for each outcome that occurs, and `frames`, their sum.

    Raises
    ------
    ValueError
        If a row has an outcome that `schema.Outcome` does not know.
    """
    kinds = samples[["label", "class_name", "outcome"]]
    check_outcomes(kinds["outcome"].astype("object").fillna("nothing").unique())
    counted = kinds.groupby(["label", "class_name"])["outcome"].value_counts().unstack(fill_value=0)
    counted = counted.reindex(columns=[outcome.value for outcome in Outcome if outcome.value in counted])
    counted = counted.droplevel("label")
    counted.loc["all"] = counted.sum()
    return counted.assign(frames=counted.sum(axis=1)).rename_axis(columns=None)


def find_candidates(detections: pa.Table) -> Candidates:
    """Flatten the faces and hands of frames, and pair each face with each hand of its frame.

    Parameters
    ----------
    detections
        With the columns `faces` and `hands` of `schema.DETECTIONS`.
    """
    faces, hands = _flatten(detections["faces"]), _flatten(detections["hands"])
    pairs = faces.counts.astype(np.int64) * hands.counts
    frame = np.repeat(np.arange(len(pairs)), pairs)
    position = np.arange(len(frame)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    per_face = np.maximum(hands.counts[frame], 1)
    face = _starts(faces.counts)[frame] + position // per_face
    hand = _starts(hands.counts)[frame] + position % per_face
    return Candidates(faces, hands, face.astype(np.int32), hand.astype(np.int32), frame.astype(np.int32))


def score_candidates(candidates: Candidates, coefficient: float) -> Floats:
    """Return the area common to each pair's hand and the context square of its face.

    Parameters
    ----------
    candidates
        The pairs.
    coefficient
        Half side of the square, in lengths of the face's longer side.

    Returns
    -------
    ndarray
        float64, shape (P,), in square pixels.
    """
    corners, face = candidates.faces.corners, candidates.face
    if len(face) < len(corners):  # only the squares that are compared
        corners, face = corners.take(face, axis=0), np.arange(len(face), dtype=np.int32)
    square, hand = boxes.make_context_squares(corners, coefficient).T, candidates.hands.corners.T
    # Column by column, as `boxes.compute_overlap` computes it, without arrays of all corners of all pairs.
    sides = []
    for low, high in ((0, 2), (1, 3)):
        begin = np.maximum(square[low].take(face), hand[low].take(candidates.hand))
        end = np.minimum(square[high].take(face), hand[high].take(candidates.hand))
        sides.append(np.maximum(end - begin, 0.0))
    overlap: Floats = sides[0] * sides[1]
    return overlap


def choose_candidates(candidates: Candidates, overlap: Floats) -> Places:
    """Choose each frame's pair: the largest overlap, of the most trusted detector that has one; of equals the first.

    Parameters
    ----------
    candidates
        The pairs.
    overlap
        float64, shape (P,): what `score_candidates` returned.

    Returns
    -------
    ndarray
        int64, shape (frames,): the place of the pair, -1 where there is none; where no pair overlaps, one of them.
    """
    detectors = candidates.hands.detectors
    if len(detectors) < 2:
        return _choose_first_largest(candidates.frame, overlap, len(candidates.faces.counts))
    rank = np.where(overlap > 0, candidates.hands.detector.take(candidates.hand), len(detectors))
    return _choose_first_largest(candidates.frame, overlap, len(candidates.faces.counts), rank)


def reconcile_hands(hands: FlatBoxes, chosen: Places, considered: Flags) -> tuple[Floats, Places]:
    """Average each chosen hand with those of other detectors that agree with it.

    Parameters
    ----------
    hands
        All hands.
    chosen
        int64, shape (frames,): each frame's hand, -1 where there is none.
    considered
        bool, shape (N,): which hands count.

    Returns
    -------
    corners, finders
        float64, shape (frames, 4), NaN where there is no hand; int64, shape (frames,): a bit for each of
        `hands.detectors` that agrees.
    """
    there = np.flatnonzero(chosen >= 0)
    corners = _take(hands.corners, chosen)
    finders = np.zeros(len(chosen), np.int64)
    finders[there] = np.int64(1) << hands.detector[chosen[there]].astype(np.int64)
    if len(hands.detectors) < 2:
        return corners, finders
    own = chosen.take(hands.frame)
    others = np.flatnonzero(considered & (own >= 0) & (hands.detector != hands.detector.take(own)))
    iou = boxes.compute_iou(hands.corners.take(own[others], axis=0), hands.corners.take(others, axis=0))
    others, iou = others[iou > _SAME_HAND], iou[iou > _SAME_HAND]
    # Of each other detector the hand that agrees best.
    key = hands.frame[others].astype(np.int64) * len(hands.detectors) + hands.detector[others]
    order = np.lexsort((-iou, key))
    others = others[order[np.unique(key[order], return_index=True)[1]]]
    frame, number = hands.frame[others], np.ones(len(chosen))
    np.add.at(corners, frame, hands.corners[others])
    np.add.at(number, frame, 1)
    np.add.at(finders, frame, np.int64(1) << hands.detector[others].astype(np.int64))
    return corners / number[:, None], finders


def pair_candidates(candidates: Candidates, config: PairingConfig) -> Pairs:
    """Pair frames by the rule `RULE`: see `pair_frames`.

    Parameters
    ----------
    candidates
        What `find_candidates` returned: the same for any configuration.
    config
        Coefficients, least scores, and the fallback.
    """
    faces, hands = candidates.faces, candidates.hands
    is_face, is_hand = _reach(faces, config.min_face_score), _reach(hands, config.min_hand_score)
    near = is_hand & ~hands.fallback
    every = candidates.select(is_face.take(candidates.face) & is_hand.take(candidates.hand))
    of_near = every.select(near.take(every.hand))
    steps = [(_NONE, config.crop_coefficient, of_near)]
    if config.fallback != "none":
        steps.append((_WIDER, config.wider_coefficient, of_near))
    if config.fallback == "frame":
        # Of the other hands none overlaps this square: the step before compared them.
        steps.append((_FRAME, config.wider_coefficient, every.select(hands.fallback.take(every.hand))))

    count = len(faces.counts)
    face, hand, fallback = np.full(count, -1), np.full(count, -1), np.full(count, _NONE)
    overlap, square = np.full(count, np.nan), np.full((count, 4), np.nan)
    for kind, coefficient, considered in steps:
        left = considered.select((hand < 0).take(considered.frame))
        if not len(left.face):
            continue
        values = score_candidates(left, coefficient)
        best = choose_candidates(left, values)
        # -1, no pair, takes the values of the last one; the conditions below discard them.
        largest = np.where(best >= 0, values.take(best), np.nan)
        overlap = np.fmax(overlap, largest)
        paired = largest > 0
        face, hand = np.where(paired, left.face.take(best), face), np.where(paired, left.hand.take(best), hand)
        fallback[paired] = kind
        square[paired] = boxes.make_context_squares(faces.corners.take(face[paired], axis=0), coefficient)
    if config.fallback == "frame":
        best = _choose_best_score(hands, is_hand & (hand < 0).take(hands.frame))
        alone = best >= 0
        hand[alone], fallback[alone] = best[alone], _ALONE
    counting = near
    if config.fallback == "frame":
        counting = near | (is_hand & (fallback >= _FRAME).take(hands.frame))
    corners, finders = reconcile_hands(hands, hand, counting)
    counted = is_hand if config.fallback == "frame" else near
    face_counts, hand_counts = _count(faces, is_face), _count(hands, counted)
    return Pairs(face, hand, fallback, overlap, square, corners, finders, face_counts, hand_counts)


def _flatten(column: pa.ChunkedArray) -> FlatBoxes:
    lists = column.combine_chunks()
    values = lists.flatten()
    corners = [values.field(key).to_numpy(zero_copy_only=False) for key in _CORNERS]
    named = values.field("detector").dictionary_encode()
    names: list[str] = named.dictionary.to_pylist()
    detectors = sorted(names, key=lambda name: (TRUSTED.index(name) if name in TRUSTED else len(TRUSTED), name))
    places = np.array([detectors.index(name) for name in names], np.int8)
    detector = places[named.indices.to_numpy()] if names else np.empty(0, np.int8)
    counts = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int32)
    return FlatBoxes(
        np.column_stack(corners).astype(np.float32).reshape(-1, 4),
        values.field("score").to_numpy(zero_copy_only=False).astype(np.float32),
        np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        counts,
        detector,
        tuple(detectors),
        pc.equal(values.field("stage"), "fallback").to_numpy(zero_copy_only=False),
    )


def _starts(counts: NDArray[np.int32]) -> Places:
    """Return the place of each frame's first box."""
    return np.cumsum(counts, dtype=np.int64) - counts


def _reach(found: FlatBoxes, least: float | None) -> Flags:
    """Say which boxes have at least a score."""
    return np.ones(len(found), bool) if least is None else found.scores >= np.float32(least)


def _count(found: FlatBoxes, counting: Flags) -> Places:
    if counting.all():
        return found.counts.astype(np.int64)
    return np.bincount(found.frame[counting], minlength=len(found.counts))


def _choose_best_score(hands: FlatBoxes, counting: Flags) -> Places:
    """Return each frame's hand of the best score, of the most trusted detector; -1 where there is none."""
    places = np.flatnonzero(counting)
    rank = hands.detector.take(places) if len(hands.detectors) > 1 else None
    best = _choose_first_largest(hands.frame.take(places), hands.scores.take(places), len(hands.counts), rank)
    there = best >= 0
    best[there] = places.take(best[there])
    return best


def _choose_first_largest(
    frame: NDArray[np.int32], values: Floats, frames: int, rank: NDArray[np.integer] | None = None
) -> Places:
    """Return the place of each frame's largest value, among those of its lowest rank; of equals the first.

    Parameters
    ----------
    frame
        int32, shape (N,), ascending: the row of each value's frame.
    values
        Shape (N,).
    frames
        How many frames there are.
    rank
        Shape (N,); None: all have the same.

    Returns
    -------
    ndarray
        int64, shape (frames,); -1 where a frame has no value.
    """
    best = np.full(frames, -1)
    if not len(frame):
        return best
    starts = _starts_of_frames(frame)
    lengths = np.diff(starts, append=len(frame))
    if rank is not None:
        lowest = np.repeat(np.minimum.reduceat(rank, starts), lengths)
        values = np.where(rank == lowest, values, -np.inf)
    largest = np.repeat(np.maximum.reduceat(values, starts), lengths)
    places = np.flatnonzero(values == largest)
    owner = frame.take(places)
    first = _starts_of_frames(owner)
    best[owner.take(first)] = places.take(first)
    return best


def _starts_of_frames(frame: NDArray[np.int32]) -> Places:
    """Return the place of the first element of each frame that occurs: `frame` is ascending."""
    return np.flatnonzero(np.diff(frame, prepend=-1) != 0)  # four times as fast as on integers


def _pair_piece(detections: pa.Table, config: PairingConfig) -> pd.DataFrame:
    """Return for each row of detections its outcome and its best pair."""
    candidates = find_candidates(detections)
    faces, hands = candidates.faces, candidates.hands
    found = pair_candidates(candidates, config)
    looked_at = detections["outcome"].to_pandas().to_numpy(dtype=object)
    outcome = np.select(
        [looked_at != "ok", found.fallback != _NONE, found.hand >= 0, found.face_counts == 0, found.hand_counts == 0],
        [looked_at, Outcome.FALLBACK.value, Outcome.PAIRED.value, Outcome.NO_FACE.value, Outcome.NO_HAND.value],
        default=Outcome.APART.value,
    )
    columns: dict[str, object] = {
        "outcome": outcome,
        "error": detections["error"].to_pandas(),
        **{
            name: detections[name].to_pandas().to_numpy(dtype=np.float64) for name in ("width", "height", "orientation")
        },
        "faces": found.face_counts,
        "hands": found.hand_counts,
        "overlap": found.overlap,
        "fallback": pd.Categorical.from_codes(found.fallback, pd.Index(FALLBACKS)),
        "found_by": _name_finders(found.finders, hands.detectors),
    }
    for name, corners, scores in (
        ("face", _take(faces.corners, found.face), _take(faces.scores[:, None], found.face)),
        ("hand", found.corners, _take(hands.scores[:, None], found.hand)),
    ):
        columns |= {f"{name}_{corner}": corners[:, k] for k, corner in enumerate(_CORNERS)}
        columns[f"{name}_score"] = scores[:, 0]
    columns |= {f"square_{corner}": found.square[:, k] for k, corner in enumerate(_CORNERS)}
    return pd.DataFrame(columns)


def _name_finders(finders: Places, detectors: tuple[str, ...]) -> pd.Series:
    """Return the names of the detectors that agree on each hand, NaN where there is none."""
    kinds = [kind for kind in np.unique(finders).tolist() if kind]
    names = ["+".join(name for k, name in enumerate(detectors) if kind >> k & 1) for kind in kinds]
    codes = np.where(finders > 0, np.searchsorted(kinds, finders), -1)
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(names, dtype=str))).astype("str")


def _take(values: Floats, rows: Places) -> Floats:
    """Return rows of values as float64, NaN for -1."""
    if not len(values):
        return np.full((len(rows), values.shape[1]), np.nan)
    taken = values.take(rows, axis=0).astype(np.float64)
    taken[rows < 0] = np.nan
    return taken


def _add_bbox(samples: pd.DataFrame, config: PairingConfig) -> None:
    """Add what is cut out of each frame."""
    hand = get_boxes(samples, "hand")
    enlarged = samples["class_name"].isin(config.enlarged_classes).to_numpy()
    cut = np.where(enlarged[:, None], boxes.make_context_squares(hand, config.crop_hand_coefficient), hand)
    cut = boxes.clip_boxes(cut, samples["width"].to_numpy(), samples["height"].to_numpy())
    there = samples["outcome"].isin(SAMPLES).to_numpy()
    bbox = np.full((len(samples), 4), np.nan)
    bbox[there] = boxes.round_outward(cut[there])
    samples[[f"bbox_{corner}" for corner in _CORNERS]] = bbox
