"""What annotations are once they belong to the frames of a run."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from detectime.errors import DocumentedError
from detectime.notes import Note

HAND, FACE = "hand", "face"
"""Kinds of annotated boxes."""


class TruthError(DocumentedError, ValueError):
    """Annotations that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Truth:
    """Annotated hands and faces of the frames of a run.

    Attributes
    ----------
    boxes
        One row per annotated hand or face, ordered as the frames: `frame_path` (str); `kind` (str), ``hand`` or
        ``face``; `label` (str), empty where the annotation has no class; `is_target` (bool), a hand that shows the
        class that its frame has after decisions; `x1`, `y1`, `x2`, `y2` (float64) in pixels of the run's frames, inside
        them.
    frames
        `frame_path` of every annotated frame that can be compared, also of those without a hand, in the order of the
        frame table. Nothing is known of other frames.
    origin
        Where it is from, for people: ``COCO, annotations/instances.json``.
    lists_all_hands
        False: only the hand that shows the class is listed, as in HaGRID's column and in exports of detectime.
    notes
        Findings: frames without annotation, annotations without frame, frames that cannot be compared …
    before_decisions
        True: it is what people decided, so that it judges the samples as they were before their decisions.
    """

    boxes: pd.DataFrame
    frames: pd.Index
    origin: str
    lists_all_hands: bool = True
    notes: tuple[Note, ...] = ()
    before_decisions: bool = False

    @property
    def names_classes(self) -> bool:
        """Whether any hand is annotated with a class; otherwise samples are compared by their boxes alone."""
        return bool((self.boxes.loc[self.boxes["kind"] == HAND, "label"] != "").any())

    @property
    def has_faces(self) -> bool:
        """Whether any face is annotated."""
        return bool((self.boxes["kind"] == FACE).any())
