"""What was decided about a frame, as the review shows it: its box and class now, other hands, and words."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from detectime.decisions import Corners, Decision
from detectime.report.card_boxes import DetectedBoxes, Row, get_box
from detectime.schema import SAMPLES, Outcome
from detectime.widgets.review_queue import is_same_hand


def find_state(values: Row, decisions: Sequence[Decision]) -> tuple[Corners | None, str]:
    """Return the hand and the class of a frame with what was decided since it was paired."""
    box, class_name = get_box(values, "hand"), str(values["class_name"])
    for decision in decisions:
        if decision.action == "label":
            class_name = str(decision.class_name)
        elif decision.hand is not None:
            x1, y1, x2, y2 = (round(corner, 1) for corner in decision.hand)
            box = x1, y1, x2, y2
    return box, class_name


def list_hands(values: Row, detected: DetectedBoxes, shown: Corners | None) -> list[tuple[Corners, str]]:
    """Return the other hands of a frame: those that were detected, and that of the sample if another one is shown."""
    found = [(box.corners, box.label) for box in detected.list_boxes(values) if box.kind == "other"]
    hand = get_box(values, "hand")
    if hand is not None and values["outcome"] in SAMPLES:
        found.insert(0, (hand, "hand of the sample"))
    return [(corners, label) for corners, label in found if not is_same_hand(corners, shown)]


def is_rejected(values: Row, decisions: Sequence[Decision]) -> bool:
    """Whether the last word about the hand of a frame is that there is no right box."""
    hands = [each for each in decisions if each.action != "label"]
    return hands[-1].action == "reject" if hands else values["outcome"] == Outcome.REJECTED


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
