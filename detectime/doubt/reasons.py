"""The reasons to doubt a frame, and how much each counts."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

SHOWN = 0.1
"""A reason is named if it alone raises the doubt of a frame to at least this."""


class Reason(StrEnum):
    """Reason to doubt a frame: its name in tables, its weight, and a sentence for people.

    The weights are round numbers: ``python -m benchmarks --only doubting`` says what others would change.

    Examples
    --------
    >>> Reason.JUMP.weight, Reason.JUMP.sentence
    (0.5, 'The box is elsewhere than in the frames before and after.')
    """

    weight: float
    sentence: str

    def __new__(cls, name: str, weight: float, sentence: str) -> Self:
        """Create a member whose value is its name in tables."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.weight, member.sentence = weight, sentence
        return member

    # The hand, as its detector saw it.
    LOW_SCORE = "low_score", 0.8, "The detector is not sure that this is a hand."
    LOW_PRESENCE = "low_presence", 0.8, "The landmark network is not sure that this is a hand."
    LOW_PROPOSAL = "low_proposal", 0.3, "The first network, which proposed the box, was not sure of it."
    CLOSE_SECOND = "close_second", 0.3, "Another hand was almost chosen."
    DETECTORS_DISAGREE = "detectors_disagree", 0.3, "Hand detectors, or two stages of one, found different boxes."
    LANDMARKS_OUTSIDE = "landmarks_outside", 0.5, "Landmarks of the hand lie outside its box."
    # The box, beside the face, the frame and others of its class.
    ODD_SIZE = "odd_size", 0.75, "The box is smaller or larger than usual for its class."
    ODD_SHAPE = "odd_shape", 0.3, "The box is wider or narrower than usual for its class."
    ODD_POSE = "odd_pose", 0.5, "The landmarks are unlike those of others of its class."
    ON_FACE = "on_face", 0.5, "The box lies on the face, more than is usual for its class."
    FAR_FROM_FACE = "far_from_face", 0.15, "The hand was found by the fallback, not near a face."
    AT_BORDER = "at_border", 0.15, "The box ends at the border of the frame."
    # The frames around it.
    JUMP = "jump", 0.5, "The box is elsewhere than in the frames before and after."
    GAP = "gap", 0.8, "There is no sample, but the frames before and after have one."
    MISSING_HERE = "missing_here", 0.4, "There is no sample, but most frames of the video have one."
    UNPAIRED_HAND = "unpaired_hand", 0.4, "There is no sample, but a hand was found away from the face."
    # The class.
    LONE_LABEL = "lone_label", 0.7, "The frames before and after have another class."
    POSE_OF_OTHER_CLASS = "pose_of_other_class", 0.8, "The landmarks are closer to those of another class."
    DUPLICATE_OTHER_LABEL = "duplicate_other_label", 0.7, "A near-duplicate has another class."
    LABEL_CONTRADICTED = "label_contradicted", 0.9, "A network sees the gesture of another class."
