"""Pairing: choose the hand of each frame that becomes its sample, or state why there is none.

Pairing is arithmetic on stored detections; it reads no images. `pair_candidates` maps `Candidates` and `PairingConfig`
to `Pairs`. It is composed of

- `score_candidates`: the overlap of each pair of a face and a hand;
- `choose_candidates`: which pair of a frame wins, by one of the `RULES`;
- `reconcile_hands`: the average of the chosen hand and those of other detectors that agree.

Everything else is independent of the rule: `candidates.find_candidates` lists the pairs of each frame,
`_name_outcomes` turns `Pairs` into a `schema.Outcome` per frame, and `pair_frames` builds the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime import boxes
from detectime import config as configuration
from detectime.boxes import Flags, Floats
from detectime.candidates import Candidates, FlatBoxes, Indices, find_candidates
from detectime.config import PairingConfig
from detectime.schema import CORNERS, DECISION_COLUMNS, SAMPLES, Outcome, check_outcomes

RULES = ("2021", "confidence")
"""Which pair wins: ``2021``, the largest overlap, among the pairs of the most trusted detector; ``confidence``, the
largest overlap times the square of the hand's score, whichever detector it is from."""

FALLBACKS = ("wider", "frame", "alone")
"""How a `fallback` found its hand: ``wider``, in a wider square around a face; ``frame``, in that square, but among the
hands detected in the whole frame; ``alone``, by its score, without a face."""

_NO_FALLBACK, _WIDER, _FRAME, _ALONE = -1, 0, 1, 2  # indices into FALLBACKS

_CHUNK = 65_536  # rows of detections paired at a time
_LEAST_WEIGHT = 1e-6  # of a hand with a score of 0
_CONFIDENT = 0.5  # score from which another hand is worth a note
_PART = 0.5  # share of the smaller box inside the larger one, above which it may be a part of the same hand
_SAME_HAND = 0.5  # IoU above which boxes of two detectors show the same hand, and their average is the better box


@dataclass(frozen=True)
class Pairs:
    """What a rule chose: one element per frame in each array.

    Attributes
    ----------
    face, hand
        int64, shape (frames,): indices into the candidates' faces and hands, -1 where none was chosen.
    fallback
        int64, shape (frames,): index into `FALLBACKS`, -1 where the fallback was not used.
    overlap
        float64, shape (frames,): square pixels; NaN where no pair was compared.
    square
        float64, shape (frames, 4): context square of the chosen face, not clipped; NaN where no face was chosen.
    corners
        float64, shape (frames, 4): the chosen hand, averaged over the detectors that agree; NaN where there is none.
    finders
        int64, shape (frames,): bit k is set if the k-th of the candidates' hand detectors agrees on the hand.
    other_hand
        bool, shape (frames,): whether a hand near a face is not the chosen one.
    face_counts, hand_counts
        int64, shape (frames,): number of boxes that the configuration admits.
    """

    face: Indices
    hand: Indices
    fallback: Indices
    overlap: Floats
    square: Floats
    corners: Floats
    finders: Indices
    other_hand: Flags
    face_counts: Indices
    hand_counts: Indices


def pair_frames(table: pd.DataFrame, detections: pa.Table, config: PairingConfig) -> pd.DataFrame:
    """Choose the sample of each frame: the hand with the largest overlap with the context square of a face.

    The overlap is the area common to the hand box and the square, before clipping to the frame. Ties go to the first
    face, then to the first hand, in detector order. By the rule ``confidence`` each overlap is multiplied by the square
    of the hand's score; by the rule ``2021`` only hands of the most trusted detector that has an overlapping pair
    compete. The box of the winner is averaged with those of other detectors that agree. With a `fallback`, frames
    without a pair are compared again in a wider square, then with the hands detected in the whole frame in that square;
    finally the hand with the best score is taken, without a face.

    Parameters
    ----------
    table
        The frame table, with `wanted`.
    detections
        What `detection.run.detect_frames` returned: at least one row per wanted frame.
    config
        Coefficients, minimum scores, fallback and enlarged classes.

    Returns
    -------
    DataFrame
        One row per row of `table`, in the same order: its columns, followed by

        - `outcome`, one of `schema.Outcome`, and `error`, why detection failed (text; NaN where it did not);
        - `content`, of the frame's file at detection: see `images.describe_content` (text; NaN where unknown);
        - `width`, `height` of the frame in pixels, and its stored `orientation` (float64, NaN where unknown);
        - `faces`, `hands`: numbers of boxes (int64);
        - `overlap`, square pixels (float64, NaN where no pair was compared);
        - `fallback`, one of `FALLBACKS` (categorical, NaN where the fallback was not used), and `found_by`, the
          detectors that agree on the hand, joined by plus signs (NaN where there is no hand);
        - `other_hand`, whether a hand near a face is not the chosen one (bool);
        - `face_x1` … `face_y2`, `hand_x1` … `hand_y2`: the chosen pair, in pixels, and `face_score`, `hand_score`
          (float64, NaN where there is none);
        - `square_x1` … `square_y2`: the context square of the chosen face, which may extend beyond the frame (float64,
          NaN where no face was chosen);
        - `bbox_x1` … `bbox_y2`: the crop, integers as float64, NaN where there is no sample: the hand, or its context
          square if the class is enlarged, clipped to the frame;
        - `decision`, `decided_by`, `decided_at`: null, until `corrections.apply_decisions` fills them (text).

    Raises
    ------
    KeyError
        If a wanted frame has no detections.

    Examples
    --------
    >>> face = {"x1": 300, "y1": 200, "x2": 340, "y2": 240, "score": 0.9, "detector": "retinaface", "stage": "frame"}
    >>> hand = face | {"x1": 350.5, "x2": 370, "detector": "mediapipe", "stage": "near"}
    >>> row = {"frame_path": "a.jpg", "outcome": "ok", "error": None, "content": "5-3610a686", "orientation": 1}
    >>> detections = pa.Table.from_pylist([row | {"width": 640, "height": 480, "faces": [face], "hands": [hand]}])
    >>> table = pd.DataFrame({"frame_path": ["a.jpg"], "class_name": ["ok"], "wanted": [True]})
    >>> samples = pair_frames(table, detections, PairingConfig())
    >>> samples.loc[0, "outcome"], samples.loc[0, "found_by"]
    ('paired', 'mediapipe')
    >>> get_boxes(samples, "bbox").tolist()
    [[350.0, 200.0, 370.0, 240.0]]
    """
    rows = _find_rows(table, detections)
    # In chunks: the intermediate arrays are many times the size of the result.
    starts = range(0, max(1, detections.num_rows), _CHUNK)
    paired = pd.concat([_pair_chunk(detections.slice(start, _CHUNK), config) for start in starts], ignore_index=True)
    if not np.array_equal(rows, np.arange(len(paired))):
        paired = paired.reindex(rows)
        left_out = {"outcome": Outcome.LEFT_OUT.value, "faces": 0, "hands": 0, "other_hand": False}
        paired = paired.fillna(left_out).astype({"faces": "int64", "hands": "int64", "other_hand": "bool"})
    samples = pd.concat([table, paired.set_axis(table.index)], axis=1)
    samples.attrs = dict(table.attrs)
    _add_bbox(samples, config)
    for name in DECISION_COLUMNS:
        samples[name] = pa.nulls(len(samples), pa.string()).to_pandas().array
    return samples


def make_crops(
    hands: Floats, class_names: pd.Series, width: Floats, height: Floats, config: PairingConfig
) -> boxes.Integers:
    """Make the crop, `bbox`, of each hand: the hand, or its context square if its class is enlarged.

    Parameters
    ----------
    hands
        Shape (N, 4), in pixels of the frame; no NaN.
    class_names
        Text, one per hand.
    width, height
        Shape (N,), of the frames in pixels.
    config
        With the enlarged classes and their coefficient.

    Returns
    -------
    ndarray
        int64, shape (N, 4), clipped to the frame and rounded outward.

    Examples
    --------
    >>> hand, size = np.array([[10.5, 20, 30, 40]] * 2), np.array([64, 64])
    >>> make_crops(hand, pd.Series(["ok", "mute"]), size, size, PairingConfig()).tolist()
    [[10, 20, 30, 40], [0, 0, 51, 60]]
    """
    is_enlarged = class_names.isin(config.enlarged_classes).to_numpy()
    crop = np.where(is_enlarged[:, None], boxes.make_context_squares(hands, config.crop_hand_coefficient), hands)
    return boxes.round_outward(boxes.clip_boxes(crop, width, height))


def describe_pairing(config: PairingConfig) -> dict[str, Any]:
    """Return the rule and its settings as ``run.json`` records them.

    Examples
    --------
    >>> description = describe_pairing(PairingConfig(rule="2021", fallback="wider"))
    >>> description["rule"], description["settings"]["fallback"]
    ('2021', 'wider')
    """
    return {"rule": config.rule, "settings": configuration.config_to_dict(config)}


def get_boxes(samples: pd.DataFrame | pd.Series, kind: str) -> Floats:
    """Return one kind of box of samples as an array.

    Parameters
    ----------
    samples
        Rows that `pair_frames` returned, or one of them.
    kind
        ``face``, ``hand``, ``square`` or ``bbox``.

    Returns
    -------
    ndarray
        float64, shape (N, 4), or (4,) for a single row; NaN where there is no such box.

    Examples
    --------
    >>> samples = pd.DataFrame({"hand_x1": [10], "hand_y1": [20], "hand_x2": [30], "hand_y2": [40]})
    >>> get_boxes(samples, "hand")
    array([[10., 20., 30., 40.]])
    """
    values: Floats = samples[[f"{kind}_{corner}" for corner in CORNERS]].to_numpy(dtype=np.float64)
    return values


def count_outcomes(samples: pd.DataFrame) -> pd.DataFrame:
    """Count outcomes by class.

    Parameters
    ----------
    samples
        What `pair_frames` returned.

    Returns
    -------
    DataFrame
        One row per class and a last row ``all``; one column per outcome that occurs, and `frames`, their sum.

    Raises
    ------
    ValueError
        If a row has an outcome that is not in `schema.Outcome`.

    Examples
    --------
    >>> outcomes = ["paired", "paired", "apart"]
    >>> samples = pd.DataFrame({"label": [4, 4, 5], "class_name": ["ok", "ok", "like"], "outcome": outcomes})
    >>> count_outcomes(samples).loc["all"].to_dict()
    {'paired': 2, 'apart': 1, 'frames': 3}
    """
    kinds = samples[["label", "class_name", "outcome"]]
    check_outcomes(kinds["outcome"].unique())
    counts = kinds.groupby(["label", "class_name"])["outcome"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=[outcome.value for outcome in Outcome if outcome.value in counts])
    counts = counts.droplevel("label")
    counts.loc["all"] = counts.sum()
    return counts.assign(frames=counts.sum(axis=1)).rename_axis(columns=None)


def score_candidates(candidates: Candidates, coefficient: float) -> Floats:
    """Compute the area common to the hand of each pair and the context square of its face.

    Parameters
    ----------
    candidates
        The pairs.
    coefficient
        Half side of the square, in units of the face's longer side.

    Returns
    -------
    ndarray
        float64, shape (P,), in square pixels.

    Examples
    --------
    >>> face = {"x1": 300, "y1": 200, "x2": 340, "y2": 240, "score": 0.9, "detector": "retinaface", "stage": "frame"}
    >>> hands = [face | {"x1": x, "x2": x + 20} for x in (350, 370, 390)]
    >>> candidates = find_candidates(pa.table({"faces": [[face]], "hands": [hands]}))
    >>> score_candidates(candidates, coefficient=1.5)  # the square ends at x = 380
    array([800., 400.,   0.])
    """
    corners, face = candidates.faces.corners, candidates.face
    if len(face) < len(corners):  # build only the squares that are compared
        corners, face = corners.take(face, axis=0), np.arange(len(face), dtype=np.int32)
    square, hand = boxes.make_context_squares(corners, coefficient).T, candidates.hands.corners.T
    # Equals `boxes.compute_overlap`, but axis by axis, without arrays of all corners of all pairs.
    sides = []
    for low, high in ((0, 2), (1, 3)):
        begin = np.maximum(square[low].take(face), hand[low].take(candidates.hand))
        end = np.minimum(square[high].take(face), hand[high].take(candidates.hand))
        sides.append(np.maximum(end - begin, 0.0))
    overlap: Floats = sides[0] * sides[1]
    return overlap


def choose_candidates(candidates: Candidates, overlap: Floats, rule: str) -> Indices:
    """Choose the pair of each frame.

    Parameters
    ----------
    candidates
        The pairs.
    overlap
        float64, shape (P,): what `score_candidates` returned.
    rule
        One of `RULES`.

    Returns
    -------
    ndarray
        int64, shape (frames,): index of the pair, the first of equals; -1 where the frame has no pair. Where no pair
        overlaps, it is any of them.

    Examples
    --------
    >>> face = {"x1": 300, "y1": 200, "x2": 340, "y2": 240, "score": 0.9, "detector": "retinaface", "stage": "frame"}
    >>> hands = [face | {"x1": x, "x2": x + 20, "score": score} for x, score in ((390, 0.9), (350, 0.1), (370, 0.9))]
    >>> candidates = find_candidates(pa.table({"faces": [[face], [face]], "hands": [hands, []]}))
    >>> overlap = score_candidates(candidates, 1.5)
    >>> [choose_candidates(candidates, overlap, rule).tolist() for rule in ("2021", "confidence")]
    [[1, -1], [2, -1]]
    """
    frames, hands = len(candidates.faces.counts), candidates.hands
    if rule == "confidence":
        # A score of 0 leaves an overlapping pair behind all others, but before those that do not overlap.
        return _choose_largest(candidates.frame, overlap * _weigh(hands, candidates.hand), frames, overlap <= 0)
    if len(hands.detectors) < 2:
        return _choose_largest(candidates.frame, overlap, frames)
    rank = np.where(overlap > 0, hands.detector.take(candidates.hand), len(hands.detectors))
    return _choose_largest(candidates.frame, overlap, frames, rank)


def reconcile_hands(hands: FlatBoxes, chosen: Indices, considered: Flags, rule: str) -> tuple[Floats, Indices]:
    """Average each chosen hand with the best agreeing hand of each other detector.

    Parameters
    ----------
    hands
        All hands.
    chosen
        int64, shape (frames,): index of each frame's hand, -1 where there is none.
    considered
        bool, shape (N,): which hands may be averaged.
    rule
        One of `RULES`: by ``confidence``, boxes are weighted with the square of their score.

    Returns
    -------
    corners
        float64, shape (frames, 4), NaN where there is no hand.
    finders
        int64, shape (frames,): bit k is set if ``hands.detectors[k]`` agrees.

    Examples
    --------
    >>> hand = {"x1": 10, "y1": 10, "x2": 30, "y2": 30, "score": 0.9, "detector": "hagrid", "stage": "near"}
    >>> both = [hand, hand | {"x2": 34, "detector": "mediapipe"}]
    >>> hands = find_candidates(pa.table({"faces": [[hand]], "hands": [both]})).hands
    >>> corners, finders = reconcile_hands(hands, np.array([0]), np.array([True, True]), "2021")
    >>> corners.tolist(), finders.tolist()
    ([[10.0, 10.0, 32.0, 30.0]], [3])
    """
    has_hand = np.flatnonzero(chosen >= 0)
    corners = _take_rows(hands.corners, chosen)
    finders = np.zeros(len(chosen), np.int64)
    finders[has_hand] = np.int64(1) << hands.detector[chosen[has_hand]].astype(np.int64)
    if len(hands.detectors) < 2:
        return corners, finders
    others = _find_agreeing_hands(hands, chosen.take(hands.frame), considered)
    frame, total = hands.frame[others], np.ones(len(chosen))
    np.add.at(finders, frame, np.int64(1) << hands.detector[others].astype(np.int64))
    if rule == "2021":
        np.add.at(corners, frame, hands.corners[others])
        np.add.at(total, frame, 1)
        return corners / total[:, None], finders
    weights = _weigh(hands, others) / np.maximum(_weigh(hands, chosen[frame]), _LEAST_WEIGHT)
    shift = np.zeros_like(corners)  # so that corners on which all agree stay as they are
    np.add.at(shift, frame, weights[:, None] * (hands.corners[others] - corners[frame]))
    np.add.at(total, frame, weights)
    return corners + shift / total[:, None], finders


def find_other_hands(near: Candidates, chosen: Indices, coefficient: float) -> Flags:
    """Find the frames with a confident hand near a face that is not the chosen one, such as another person's.

    Parameters
    ----------
    near
        The pairs, without hands that were detected in the whole frame.
    chosen
        int64, shape (frames,): index of each frame's hand, -1 where there is none.
    coefficient
        As for `score_candidates`.

    Returns
    -------
    ndarray
        bool, shape (frames,): False where no hand was chosen.

    Examples
    --------
    >>> face = {"x1": 300, "y1": 200, "x2": 340, "y2": 240, "score": 0.9, "detector": "retinaface", "stage": "frame"}
    >>> hands = [face | {"x1": x, "x2": x + 20} for x in (350, 250)]
    >>> candidates = find_candidates(pa.table({"faces": [[face], [face]], "hands": [hands, hands[:1]]}))
    >>> find_other_hands(candidates, np.array([0, 2]), 1.5).tolist()
    [True, False]
    """
    own, hands = chosen.take(near.frame), near.hands
    is_confident = hands.scores.take(near.hand) >= _CONFIDENT
    pairs = np.flatnonzero((score_candidates(near, coefficient) > 0) & (own >= 0) & is_confident)
    other, mine = hands.corners.take(near.hand.take(pairs), axis=0), hands.corners.take(own.take(pairs), axis=0)
    # Not the IoU: a box of a part of the hand lies inside that of the whole.
    smaller = np.minimum(boxes.compute_area(other), boxes.compute_area(mine))
    found = np.zeros(len(chosen), bool)
    found[near.frame.take(pairs[boxes.compute_overlap(other, mine) <= _PART * smaller])] = True
    return found


def pair_candidates(candidates: Candidates, config: PairingConfig) -> Pairs:
    """Apply the rule that `pair_frames` describes.

    Parameters
    ----------
    candidates
        What `find_candidates` returned: independent of any configuration.
    config
        The rule, coefficients, minimum scores and the fallback.

    Examples
    --------
    >>> face = {"x1": 300, "y1": 200, "x2": 340, "y2": 240, "score": 0.9, "detector": "retinaface", "stage": "frame"}
    >>> hands = [face | {"x1": 390, "x2": 400}]
    >>> candidates = find_candidates(pa.table({"faces": [[face]], "hands": [hands]}))
    >>> pair_candidates(candidates, PairingConfig()).hand.tolist()
    [-1]
    >>> pairs = pair_candidates(candidates, PairingConfig(fallback="wider"))
    >>> pairs.hand.tolist(), FALLBACKS[pairs.fallback[0]]
    ([0], 'wider')
    """
    faces, hands, whole_frame = candidates.faces, candidates.hands, config.fallback == "frame"
    is_face, is_hand = _meets_score(faces, config.min_face_score), _meets_score(hands, config.min_hand_score)
    eligible = candidates.select(is_face.take(candidates.face) & is_hand.take(candidates.hand))
    chosen = _Choice(len(faces.counts), config.rule)
    for fallback, coefficient, compared in _list_steps(eligible, config):
        chosen.add_pairs(compared, coefficient, fallback)
    if whole_frame:
        chosen.add_best_scores(hands, is_hand)
    near = is_hand & ~hands.fallback
    considered = near | (is_hand & (chosen.fallback >= _FRAME).take(hands.frame))
    corners, finders = reconcile_hands(hands, chosen.hand, considered, config.rule)
    return Pairs(
        face=chosen.face,
        hand=chosen.hand,
        fallback=chosen.fallback,
        overlap=chosen.overlap,
        square=chosen.square,
        corners=corners,
        finders=finders,
        other_hand=find_other_hands(eligible.select(near.take(eligible.hand)), chosen.hand, config.crop_coefficient),
        face_counts=_count_boxes(faces, is_face),
        hand_counts=_count_boxes(hands, is_hand if whole_frame else near),
    )


def _list_steps(eligible: Candidates, config: PairingConfig) -> Iterator[tuple[int, float, Candidates]]:
    """Yield what a frame is compared with until it has a pair: fallback (index), coefficient and pairs."""
    is_fallback = eligible.hands.fallback.take(eligible.hand)
    near = eligible.select(~is_fallback)
    yield _NO_FALLBACK, config.crop_coefficient, near
    if config.fallback != "none":
        yield _WIDER, config.wider_coefficient, near
    if config.fallback == "frame":
        # None of the other hands overlaps this square: the step before compared them.
        yield _FRAME, config.wider_coefficient, eligible.select(is_fallback)


class _Choice:
    """The face and hand chosen so far; each step fills frames that have no hand yet. Attributes as in `Pairs`."""

    def __init__(self, frames: int, rule: str) -> None:
        self._rule = rule
        self.face, self.hand = np.full(frames, -1), np.full(frames, -1)
        self.fallback = np.full(frames, _NO_FALLBACK)
        self.overlap, self.square = np.full(frames, np.nan), np.full((frames, 4), np.nan)

    def add_pairs(self, candidates: Candidates, coefficient: float, fallback: int) -> None:
        """Take the best overlapping pair of each frame."""
        left = candidates.select((self.hand < 0).take(candidates.frame))
        if not len(left.face):
            return
        overlap = score_candidates(left, coefficient)
        best = choose_candidates(left, overlap, self._rule)
        # Index -1, no pair, takes the values of the last pair; `np.where` discards them.
        largest = np.where(best >= 0, overlap.take(best), np.nan)
        paired = largest > 0
        self.overlap = np.fmax(self.overlap, largest)
        self.face = np.where(paired, left.face.take(best), self.face)
        self.hand = np.where(paired, left.hand.take(best), self.hand)
        self.fallback[paired] = fallback
        corners = left.faces.corners.take(self.face[paired], axis=0)
        self.square[paired] = boxes.make_context_squares(corners, coefficient)

    def add_best_scores(self, hands: FlatBoxes, is_hand: Flags) -> None:
        """Take the hand with the best score, by the rule ``2021`` of the most trusted detector, without a face."""
        left = np.flatnonzero(is_hand & (self.hand < 0).take(hands.frame))
        by_trust = self._rule == "2021" and len(hands.detectors) > 1
        rank = hands.detector.take(left) if by_trust else None
        best = _choose_largest(hands.frame.take(left), hands.scores.take(left), len(hands.counts), rank)
        alone = best >= 0
        self.hand[alone], self.fallback[alone] = left.take(best[alone]), _ALONE


def _pair_chunk(detections: pa.Table, config: PairingConfig) -> pd.DataFrame:
    """Return the outcome and the chosen boxes of each row of detections."""
    candidates = find_candidates(detections)
    faces, hands = candidates.faces, candidates.hands
    pairs = pair_candidates(candidates, config)
    detected = detections["outcome"].to_pandas().to_numpy(dtype=object)
    columns: dict[str, object] = {"outcome": _name_outcomes(detected, pairs)}
    columns |= {name: detections[name].to_pandas() for name in ("error", "content")}
    for name in ("width", "height", "orientation"):
        columns[name] = detections[name].to_pandas().to_numpy(dtype=np.float64)
    columns |= {"faces": pairs.face_counts, "hands": pairs.hand_counts, "overlap": pairs.overlap}
    columns["fallback"] = pd.Categorical.from_codes(pairs.fallback, pd.Index(FALLBACKS))
    columns["found_by"] = _name_finders(pairs.finders, hands.detectors)
    columns["other_hand"] = pairs.other_hand
    columns |= _name_corners("face", _take_rows(faces.corners, pairs.face))
    columns["face_score"] = _take_rows(faces.scores[:, None], pairs.face)[:, 0]
    columns |= _name_corners("hand", pairs.corners)
    columns["hand_score"] = _take_rows(hands.scores[:, None], pairs.hand)[:, 0]
    columns |= _name_corners("square", pairs.square)
    return pd.DataFrame(columns)


def _name_outcomes(detected: NDArray[np.object_], pairs: Pairs) -> NDArray[Any]:
    """Return the outcome of each frame: that of the first condition that holds.

    Parameters
    ----------
    detected
        Shape (frames,): outcomes of detection, one of `schema.DETECTION_OUTCOMES`.
    pairs
        What the rule chose.
    """
    conditions: list[tuple[Flags, Any]] = [
        (detected != "ok", detected),
        (pairs.fallback != _NO_FALLBACK, Outcome.FALLBACK.value),
        (pairs.hand >= 0, Outcome.PAIRED.value),
        (pairs.face_counts == 0, Outcome.NO_FACE.value),
        (pairs.hand_counts == 0, Outcome.NO_HAND.value),
    ]
    holds, names = [flags for flags, _ in conditions], [name for _, name in conditions]
    return np.select(holds, names, default=Outcome.APART.value)


def _name_finders(finders: Indices, detectors: tuple[str, ...]) -> pd.Series:
    """Return the names of the detectors that agree on each hand, NaN where there is no hand."""
    kinds = [kind for kind in np.unique(finders).tolist() if kind]
    names = ["+".join(name for k, name in enumerate(detectors) if kind >> k & 1) for kind in kinds]
    codes = np.where(finders > 0, np.searchsorted(kinds, finders), -1)
    # Not as str, which before pandas 3 is "nan" where there is no hand.
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(names, dtype=str))).astype(object)


def _name_corners(kind: str, values: Floats) -> dict[str, object]:
    """Return columns of boxes of shape (N, 4)."""
    return {f"{kind}_{corner}": values[:, k] for k, corner in enumerate(CORNERS)}


def _add_bbox(samples: pd.DataFrame, config: PairingConfig) -> None:
    """Add the columns of the crop, `bbox`."""
    is_sample = samples["outcome"].isin(SAMPLES).to_numpy()
    chosen = samples.loc[is_sample, ["class_name", "width", "height"]]
    hands = get_boxes(samples, "hand")[is_sample]
    bbox = np.full((len(samples), 4), np.nan)
    bbox[is_sample] = make_crops(
        hands, chosen["class_name"], chosen["width"].to_numpy(), chosen["height"].to_numpy(), config
    )
    samples[[f"bbox_{corner}" for corner in CORNERS]] = bbox


def _find_rows(table: pd.DataFrame, detections: pa.Table) -> Indices:
    """Return the row of detections of each row of the frame table, -1 where the frame is not wanted."""
    detected = detections["frame_path"].combine_chunks()
    index = pc.index_in(pa.array(table["frame_path"], pa.string()), value_set=detected)
    rows: Indices = index.fill_null(-1).to_numpy().copy()
    wanted = table["wanted"].to_numpy()
    if (rows[wanted] < 0).any():
        frame_path = table.loc[wanted, "frame_path"].iloc[int(np.argmax(rows[wanted] < 0))]
        raise KeyError(f"{frame_path!r}: this wanted frame has no detections; run detection first")
    rows[~wanted] = -1
    return rows


def _find_agreeing_hands(hands: FlatBoxes, own: Indices, considered: Flags) -> Indices:
    """Return the hands that agree best with the chosen hand of their frame, at most one per frame and other detector.

    Parameters
    ----------
    hands
        All hands.
    own
        int64, shape (N,): index of the chosen hand of each hand's frame, -1 where there is none.
    considered
        bool, shape (N,): which hands may agree.
    """
    others = np.flatnonzero(considered & (own >= 0) & (hands.detector != hands.detector.take(own)))
    iou = boxes.compute_iou(hands.corners.take(own[others], axis=0), hands.corners.take(others, axis=0))
    others, iou = others[iou > _SAME_HAND], iou[iou > _SAME_HAND]
    group = hands.frame[others].astype(np.int64) * len(hands.detectors) + hands.detector[others]
    order = np.lexsort((-iou, group))
    return others[order[np.unique(group[order], return_index=True)[1]]]


def _weigh(hands: FlatBoxes, chosen: NDArray[np.integer]) -> Floats:
    """Return the weights of hands, given by index: the squares of their scores, float64."""
    weights: Floats = np.square(hands.scores.take(chosen), dtype=np.float64)
    return weights


def _meets_score(found: FlatBoxes, minimum: float | None) -> Flags:
    """Return which boxes have at least the minimum score."""
    return np.ones(len(found), bool) if minimum is None else found.scores >= np.float32(minimum)


def _count_boxes(found: FlatBoxes, counted: Flags) -> Indices:
    """Return the number of counted boxes per frame."""
    if counted.all():
        return found.counts.astype(np.int64)
    return np.bincount(found.frame[counted], minlength=len(found.counts))


def _choose_largest(
    frame: NDArray[np.int32], values: Floats, frames: int, rank: NDArray[np.integer] | Flags | None = None
) -> Indices:
    """Return the index of each frame's largest value among those of its lowest rank; the first of equals.

    Parameters
    ----------
    frame
        int32, shape (N,), ascending: the row of each value's frame.
    values
        Shape (N,).
    frames
        Number of frames.
    rank
        Shape (N,); None: all are equal.

    Returns
    -------
    ndarray
        int64, shape (frames,); -1 where a frame has no value.
    """
    best = np.full(frames, -1)
    if not len(frame):
        return best
    starts = _find_group_starts(frame)
    lengths = np.diff(starts, append=len(frame))
    if rank is not None:
        lowest = np.repeat(np.minimum.reduceat(rank, starts), lengths)
        values = np.where(rank == lowest, values, -np.inf)
    largest = np.repeat(np.maximum.reduceat(values, starts), lengths)
    indices = np.flatnonzero(values == largest)
    owner = frame.take(indices)
    first = _find_group_starts(owner)
    best[owner.take(first)] = indices.take(first)
    return best


def _find_group_starts(frame: NDArray[np.int32]) -> Indices:
    """Return the index of the first element of each frame that occurs: `frame` is ascending."""
    return np.flatnonzero(np.diff(frame, prepend=-1) != 0)  # `flatnonzero` is four times as fast on bool


def _take_rows(values: Floats, rows: Indices) -> Floats:
    """Return rows of values as float64, NaN for index -1."""
    if not len(values):
        return np.full((len(rows), values.shape[1]), np.nan)
    taken = values.take(rows, axis=0).astype(np.float64)
    taken[rows < 0] = np.nan
    return taken
