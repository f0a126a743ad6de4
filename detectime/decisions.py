"""What people decided of frames: reading, appending and merging decisions, and applying them to outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["keep", "reject", "choose_hand", "box", "label", "undo"]
"""What was decided: the judged box is right, the frame has no right box, another detected hand, a drawn box, another
class, or that the person's latest decision about the frame no longer counts."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Decision:
    """A decision of a person about a frame: one line of a file in ``decisions/``.

    Attributes
    ----------
    at
        When: ISO 8601 in UTC, with microseconds.
    reviewer
        Who.
    action
        What was decided.
    frame_path, content
        The frame, and `images.describe_content` of its file when it was judged.
    judged_box
        The hand that was shown, x1, y1, x2, y2 in pixels of the frame; None if there was none.
    judged_class
        The class that was shown.
    box
        Of `box` and `choose_hand`: the hand, in pixels of the frame.
    bbox
        Of `box`: the crop, if it is not what follows from the hand; else None.
    class_name
        Of `label`: the class.
    pixels
        Which pixels the boxes are in: ``upright`` or ``stored``.
    """

    at: str
    reviewer: str
    action: Action
    frame_path: str
    content: str | None
    judged_box: Corners | None
    judged_class: str | None
    box: Corners | None = None
    bbox: Corners | None = None
    class_name: str | None = None
    pixels: str = "upright"
