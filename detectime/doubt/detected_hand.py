"""Signals from detection: how sure the detectors are of a sample's hand, and whether they agree."""

from __future__ import annotations

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats
from detectime.candidates import Candidates, FlatBoxes, Indices
from detectime.config import PairingConfig
from detectime.doubt.chosen_hands import ChosenHands
from detectime.doubt.reasons import Reason
from detectime.doubt.signals import Signals, make_ramp
from detectime.schema import Outcome

_SURE = 0.99  # score from which a hand is not doubted
_SURE_PROPOSAL, _UNSURE_PROPOSAL = 0.9, 0.4
_ONE_HAND = 0.5  # share of the smaller box inside the larger one, from which both may be parts of one hand
_AGREE = 0.5  # IoU of the boxes of two detectors that agree
_UNCONFIRMED = 0.5  # disagreement of a hand that only one of several detectors found
_FEW_OUTSIDE, _MANY_OUTSIDE = 0.05, 0.5  # shares of the landmarks, or of the proposed box
_TOLERANCE = 0.05  # by which landmarks may lie outside the box, in units of its longer side


def score_hands(samples: pd.DataFrame, hands: ChosenHands, all_searched: bool, settings: PairingConfig) -> Signals:
    """Score what detection says of the hand of each sample.

    Parameters
    ----------
    samples
        Rows of outcomes, with `hand_score`, `found_by`, `width` and `height`.
    hands
        What `read_chosen_hands` returned of them.
    all_searched
        Whether all detectors searched every frame, so that each hand should have been found by all.
    settings
        Of the pairing that chose the hands.
    """
    score = samples["hand_score"].to_numpy(np.float64)
    return {
        Reason.LOW_SCORE: _doubt_score(score),
        # Where the score is the presence, or lower, it says no more than the score.
        Reason.LOW_PRESENCE: np.where(hands.presence < score - 1e-6, _doubt_score(hands.presence), 0),
        Reason.LOW_PROPOSAL: make_ramp(hands.proposals[:, 4], _SURE_PROPOSAL, _UNSURE_PROPOSAL),
        Reason.CLOSE_SECOND: _score_second(hands, settings),
        Reason.DETECTORS_DISAGREE: np.maximum(_score_proposals(hands), _score_detectors(hands, all_searched)),
        Reason.LANDMARKS_OUTSIDE: make_ramp(_count_outside(samples, hands), _FEW_OUTSIDE, _MANY_OUTSIDE),
    }


def score_unpaired_hands(samples: pd.DataFrame, hands: ChosenHands) -> Floats:
    """Return the best score of a hand in each frame whose hands are all away from the faces; 0 in other frames."""
    detected = hands.candidates.hands
    best = np.zeros(len(detected.counts) + 1)  # the last is that of rows without detections
    np.maximum.at(best, detected.frame, detected.scores)
    is_apart = (samples["outcome"] == Outcome.APART.value).to_numpy()
    return np.where(is_apart, make_ramp(best[hands.frame], 0, 1), 0)


def _doubt_score(score: Floats) -> Floats:
    """Return doubt that rises quickly at first: right hands have scores near 1, wrong ones any."""
    return make_ramp(np.sqrt(np.clip(1 - score, 0, 1)), np.sqrt(1 - _SURE), 1)


def _score_second(hands: ChosenHands, settings: PairingConfig) -> Floats:
    """Return how close another hand of the frame comes to the chosen one, whatever the rule that chose it.

    Hands are compared by the overlap with the square of a face times the squared score; where the chosen one overlaps
    none, by the squared score alone.
    """
    detected, chosen = hands.candidates.hands, _find_chosen(hands)
    other = np.flatnonzero(_find_others(detected, chosen, settings))
    value, squared = _find_best_overlaps(hands.candidates, settings), np.square(detected.scores, dtype=np.float64)
    value *= squared
    own = chosen.take(detected.frame[other])
    is_near = value.take(own) > 0
    theirs, its = (np.where(is_near, value.take(k), squared.take(k)) for k in (other, own))
    ratio = theirs / np.maximum(its, 1e-9)
    best = np.zeros(len(detected.counts) + 1)
    np.maximum.at(best, detected.frame[other], ratio)
    return make_ramp(best[hands.frame], 0.3, 1)


def _find_chosen(hands: ChosenHands) -> Indices:
    """Return the hand of each frame's sample, -1 where there is none."""
    chosen = np.full(len(hands.candidates.hands.counts), -1)
    is_known = hands.index >= 0
    chosen[hands.frame[is_known]] = hands.index[is_known]
    return chosen


def _find_others(detected: FlatBoxes, chosen: Indices, settings: PairingConfig) -> Flags:
    """Return which hands pairing may have chosen instead, and that are not a part of the same hand."""
    own = chosen.take(detected.frame)
    is_other: Flags = (own >= 0) & (own != np.arange(len(detected)))
    if settings.min_hand_score is not None:
        is_other &= detected.scores >= np.float32(settings.min_hand_score)
    found = np.flatnonzero(is_other)
    is_other[found] = _compute_inside(detected.corners[found], detected.corners[own[found]]) < _ONE_HAND
    return is_other


def _find_best_overlaps(candidates: Candidates, settings: PairingConfig) -> Floats:
    """Return the largest overlap of each hand with the square of a face, in square pixels."""
    coefficient = settings.crop_coefficient if settings.fallback == "none" else settings.wider_coefficient
    best = np.zeros(len(candidates.hands))
    np.maximum.at(best, candidates.hand, pairing.score_candidates(candidates, coefficient))
    return best


def _compute_inside(a: Floats, b: Floats) -> Floats:
    """Return the share of the smaller of two boxes inside the larger one."""
    smaller = np.minimum(boxes.compute_area(a), boxes.compute_area(b))
    return np.asarray(boxes.compute_overlap(a, b) / np.maximum(smaller, 1e-9))


def _score_proposals(hands: ChosenHands) -> Floats:
    """Return how far the proposed box lies outside the refined one: a palm is a part of its hand."""
    inside = _compute_inside(hands.proposals[:, :4], hands.boxes)
    return make_ramp(1 - inside, _FEW_OUTSIDE, _MANY_OUTSIDE)


def _score_detectors(hands: ChosenHands, all_searched: bool) -> Floats:
    """Return how little the hand agrees with those of other detectors at that place.

    Where all detectors searched every frame, a hand that only one of them found is half a disagreement.

    Parameters
    ----------
    hands, all_searched
        As for `score_hands`.
    """
    detected, chosen = hands.candidates.hands, _find_chosen(hands)
    if len(detected.detectors) < 2:
        return np.zeros(len(hands.index))
    own = chosen.take(detected.frame)
    other = np.flatnonzero((own >= 0) & (detected.detector != detected.detector.take(own)))
    iou = boxes.compute_iou(detected.corners[other], detected.corners[own[other]])
    best = np.zeros(len(detected.counts) + 1)
    np.maximum.at(best, detected.frame[other], iou)
    best = best[hands.frame]
    disagree = np.where(best > 0, make_ramp(best, _AGREE, 0), 0)
    if all_searched:
        disagree = np.where(best > 0, disagree, _UNCONFIRMED)
    return np.where(hands.index >= 0, disagree, 0)


def _count_outside(samples: pd.DataFrame, hands: ChosenHands) -> Floats:
    """Return the share of the landmarks in the frame that lie outside the box."""
    low, high = hands.boxes[:, None, :2], hands.boxes[:, None, 2:]
    tolerance = _TOLERANCE * (high - low).max(axis=2, keepdims=True)
    points, size = hands.landmarks[:, :, :2], samples[["width", "height"]].to_numpy(np.float64)[:, None]
    in_frame = ((points >= 0) & (points <= size)).all(axis=2)
    in_box = ((points >= low - tolerance) & (points <= high + tolerance)).all(axis=2)
    outside = np.count_nonzero(in_frame & ~in_box, axis=1)
    share: Floats = outside / np.maximum(np.count_nonzero(in_frame, axis=1), 1)
    return share
