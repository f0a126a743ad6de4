"""Signals from landmarks: a pose unlike those of its class, or closer to those of another class.

A pose is the landmarks in the plane, from the wrist, scaled to a length of 1, and mirrored if the hand is a left one.
It is not turned: some gestures differ in their direction alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from detectime.boxes import Floats
from detectime.candidates import Indices
from detectime.doubt.chosen_hands import ChosenHands
from detectime.doubt.reasons import Reason
from detectime.doubt.signals import Signals, make_ramp
from detectime.schema import LANDMARKS

_FEW = 5  # samples of a class that say little of its poses
_MOST_CLASSES = 64  # that are compared with each pose: the largest
_USUAL, _ODD = 1.0, 4.0  # distance from the median pose of the class, in units of the median distance
_CLOSER, _MUCH_CLOSER = 0.0, 2.0  # logarithm of the ratio of the squared distances to the own and another class
_MIXED, _DISTINCT = 0.5, 0.9  # share of the poses of a class that are closest to it


def score_poses(samples: pd.DataFrame, hands: ChosenHands) -> Signals:
    """Score the pose of each sample against those of all samples.

    Parameters
    ----------
    samples
        Rows of outcomes, with `class_name`.
    hands
        What `read_chosen_hands` returned of them; rows without landmarks get 0.
    """
    known = np.flatnonzero(~np.isnan(hands.landmarks[:, 0, 0]))
    poses = _make_poses(hands.landmarks[known], hands.handedness[known])
    classes, _ = pd.factorize(samples["class_name"].to_numpy(dtype=object)[known])
    odd, other = np.zeros(len(samples)), np.zeros(len(samples))
    odd[known] = _score_distances(poses, classes)
    other[known] = _score_other_classes(poses, classes)
    return {Reason.ODD_POSE: odd, Reason.POSE_OF_OTHER_CLASS: other}


def _make_poses(landmarks: Floats, handedness: Floats) -> Floats:
    """Return poses, float32, shape (N, 40)."""
    points = landmarks[:, 1:, :2] - landmarks[:, :1, :2]
    points /= np.maximum(np.linalg.norm(points, axis=(1, 2), keepdims=True), 1e-6)
    points[handedness < 0.5, :, 0] *= -1
    return np.asarray(points.reshape(-1, 2 * (LANDMARKS - 1)), np.float32)


def _score_distances(poses: Floats, classes: Indices) -> Floats:
    """Return how far each pose is from the median of its class; 0 in small classes."""
    scores = np.zeros(len(poses))
    for rows in _list_classes(classes):
        distance = np.linalg.norm(poses[rows] - np.median(poses[rows], axis=0), axis=1)
        scores[rows] = make_ramp(distance / max(float(np.median(distance)), 1e-6), _USUAL, _ODD)
    return scores


def _score_other_classes(poses: Floats, classes: Indices) -> Floats:
    """Return how much closer each pose is to the mean of another class than to that of its own, without itself.

    Classes whose poses are mixed, such as the absence of a gesture, are closest to others anyway: they get less or 0.
    """
    scores = np.zeros(len(poses))
    compared = _list_classes(classes)[:_MOST_CLASSES]
    if len(compared) < 2:
        return scores
    means = np.array([poses[rows].mean(axis=0) for rows in compared])
    for number, rows in enumerate(compared):
        own = _measure_distances(poses[rows], means[number : number + 1])[:, 0]
        own *= (len(rows) / (len(rows) - 1)) ** 2  # as if the mean were that of the others
        nearest = _measure_distances(poses[rows], np.delete(means, number, axis=0)).min(axis=1)
        ratio = np.log(np.maximum(own, 1e-9) / np.maximum(nearest, 1e-9))
        is_distinct = make_ramp(np.mean(ratio < 0), _MIXED, _DISTINCT)
        scores[rows] = is_distinct * make_ramp(ratio, _CLOSER, _MUCH_CLOSER)
    return scores


def _list_classes(classes: Indices) -> list[Indices]:
    """Return the positions of the poses of each class that has enough of them, the largest class first."""
    order = np.argsort(classes, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
    return sorted((own for own in rows if len(own) >= _FEW), key=len, reverse=True)


def _measure_distances(poses: Floats, means: Floats) -> Floats:
    """Return squared distances, shape (poses, means)."""
    lengths = np.square(poses).sum(axis=1)[:, None] + np.square(means).sum(axis=1)
    squared: Floats = np.maximum(lengths - 2 * poses @ means.T, 0)
    return squared
