"""What was decided about a frame, as the review shows it: the other hands, and what people said."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from detectime.decisions import Corners, Decision
from detectime.report.card_boxes import DetectedBoxes, Row
from detectime.widgets.review_queue import is_same_hand


def list_hands(
    values: Row, detected: DetectedBoxes, shown: Corners | None, own: Corners | None
) -> list[tuple[Corners, str]]:
    """Return the hands of a frame that are not the shown one, each with a few words.

    Parameters
    ----------
    values
        A row of the outcomes.
    detected
        What was detected in its frame.
    shown
        The hand on the screen.
    own
        The hand that pairing alone chooses, which may be an average of detected ones: it comes first.
    """
    boxes = [(box.corners, box.label) for box in detected.list_boxes(values) if box.kind == "other"]
    found = [(own, "hand that pairing chose")] if own is not None else []
    found += [(corners, label) for corners, label in boxes if not is_same_hand(corners, own)]
    return [(corners, label) for corners, label in found if not is_same_hand(corners, shown)]


def describe_decisions(decisions: Sequence[Decision], reviewer: str) -> list[str]:
    """Return a line per person: what holds of what they decided, and when they decided last.

    Parameters
    ----------
    decisions
        Those that were not undone, the oldest first.
    reviewer
        The person who reads it: "you".
    """
    lines = []
    for name in dict.fromkeys(each.reviewer for each in decisions):
        own = [each for each in decisions if each.reviewer == name]
        last = {each.action == "label": each for each in own}  # about the class, and about the hand
        who = "you" if name == reviewer else name
        lines.append(f"{who}: {', '.join(map(_name_action, last.values()))} ({_format_day(own[-1])})")
    return lines


def describe_decision(decision: Decision) -> str:
    """Return what one person decided, and when."""
    return f"{decision.reviewer}: {_name_action(decision)} ({_format_day(decision)})"


def _name_action(decision: Decision) -> str:
    return f"class {decision.class_name}" if decision.action == "label" else decision.action.replace("_", " ")


def _format_day(decision: Decision) -> str:
    return datetime.datetime.fromisoformat(decision.at).astimezone().strftime("%d %b %Y, %H:%M")
