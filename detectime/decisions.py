"""What people decided of frames: decisions, and how those of several people merge.

`decision_files` stores them, `judgements` makes them, and `corrections` applies them to the outcomes.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from detectime import boxes
from detectime.boxes import Flags, Floats
from detectime.errors import DocumentedError
from detectime.notes import Note

Action = Literal["keep", "reject", "choose_hand", "box", "label", "undo"]
"""What was decided: the judged box is right, the frame has no right box, another detected hand, a drawn box, another
class, or that the person's latest decision about the frame no longer counts."""

ACTIONS: tuple[str, ...] = get_args(Action)

NEEDED: dict[str, str] = {"box": "box", "choose_hand": "box", "label": "class_name"}
"""What an action needs, if anything."""

SAME_BOX = 0.5
"""IoU from which two boxes count as the same judgement."""

Corners = tuple[float, float, float, float]

_CONTRADICTION = (
    *("frame_path", "aspect", "reviewer", "decision", "at"),
    *("other_reviewer", "other_decision", "other_at"),
)


class DecisionError(DocumentedError, ValueError):
    """A decision that cannot be made, or files of decisions that cannot be used; the message says why."""


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
        Of `keep`, `choose_hand` and `box`: the crop, if it is not what follows from the hand; else None.
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

    @property
    def hand(self) -> Corners | None:
        """The box that the person wants: the kept, the chosen or the drawn one; None if there is none."""
        return None if self.action == "reject" else self.box or self.judged_box


@dataclass(frozen=True)
class MergedDecisions:
    """The decisions of all people that were not undone.

    Attributes
    ----------
    hands
        By frame, those about its hand (`keep`, `reject`, `choose_hand`, `box`), the oldest first: the last one counts.
    labels
        By frame, those about its class, likewise.
    notes
        Findings: lines that cannot be read.
    """

    hands: Mapping[str, Sequence[Decision]] = field(default_factory=dict)
    labels: Mapping[str, Sequence[Decision]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        """Return the number of frames that were decided."""
        return len(self.hands.keys() | self.labels.keys())

    @property
    def decisions(self) -> list[Decision]:
        """All of them, the oldest first."""
        frames = itertools.chain(self.hands.values(), self.labels.values())
        return sorted(itertools.chain.from_iterable(frames), key=lambda decision: decision.at)


def format_time(later: int = 0) -> str:
    """Return the current time in UTC, or some microseconds later, as in `Decision.at`.

    Examples
    --------
    >>> len(format_time())
    32
    """
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(microseconds=later)
    return now.isoformat(timespec="microseconds")


def check_reviewer(reviewer: str) -> str:
    """Return the name of a person without spaces around it.

    Raises
    ------
    DecisionError
        If it is empty, or not text.

    Examples
    --------
    >>> check_reviewer(" Anna ")
    'Anna'
    """
    name = reviewer.strip() if isinstance(reviewer, str) else ""
    if not name or not is_text(name):
        raise DecisionError(
            f"reviewer = {reviewer!r}: this is no name; give the name of the person who decides, such as 'anna'"
        )
    return name


def parse_corners(value: Any, name: str) -> Corners:
    """Return a box as four floats.

    Parameters
    ----------
    value
        A list, tuple or array of four numbers.
    name
        Of the value, for the message.

    Raises
    ------
    ValueError
        If these are not four finite numbers.

    Examples
    --------
    >>> parse_corners([1, 2, 3, 4.5], "box")
    (1.0, 2.0, 3.0, 4.5)
    """
    numbers = value.tolist() if isinstance(value, np.ndarray) else value
    is_box = isinstance(numbers, list | tuple) and len(numbers) == 4
    if not is_box or not all(_is_finite(number) for number in numbers):
        raise ValueError(f"{name} = {value!r} is not a box of four finite numbers, x1, y1, x2, y2")
    x1, y1, x2, y2 = map(float, numbers)
    return x1, y1, x2, y2


def holds(decision: Decision, content: str | None) -> bool:
    """Whether a decision is about the present content of its frame; it is if either of them is unknown.

    Examples
    --------
    >>> decision = Decision(format_time(), "anna", "reject", "a.jpg", "5-3610a686", None, "ok")
    >>> holds(decision, "5-3610a686"), holds(decision, None), holds(decision, "6-00000000")
    (True, True, False)
    """
    return decision.content is None or content is None or decision.content == content


def list_corners(found: Iterable[Corners | None]) -> Floats:
    """Return boxes as float64 of shape (N, 4), NaN for None.

    Examples
    --------
    >>> list_corners([(1, 2, 3, 4), None]).tolist()
    [[1.0, 2.0, 3.0, 4.0], [nan, nan, nan, nan]]
    """
    rows = [(np.nan,) * 4 if box is None else box for box in found]
    corners: Floats = np.array(rows, np.float64).reshape(-1, 4)
    return corners


def merge_decisions(decisions: Iterable[Decision], notes: Iterable[Note] = ()) -> MergedDecisions:
    """Merge the decisions of all people.

    An `undo` takes back the latest decision of the same person about the same frame. Of what is left, the latest
    decision counts, whoever made it, about the hand and about the class of a frame on their own. Equal decisions, as in
    a copy of a file, count once.

    Parameters
    ----------
    decisions
        In any order; those of the same time count in the order given.
    notes
        Findings so far, which come first in the result.

    Examples
    --------
    >>> box = (10.0, 10.0, 20.0, 20.0)
    >>> anna = Decision("2027-01-02T03:04:05.000000+00:00", "anna", "keep", "a.jpg", None, box, "ok")
    >>> ben = Decision("2027-01-02T03:04:06.000000+00:00", "ben", "reject", "a.jpg", None, box, "ok")
    >>> merge_decisions([ben, anna]).hands["a.jpg"][-1].reviewer
    'ben'
    """
    live = _drop_undone(sorted(dict.fromkeys(decisions), key=lambda decision: decision.at))
    hands, labels = (
        _group_by_frame(decision for decision in live if (decision.action == "label") == is_label)
        for is_label in (False, True)
    )
    return MergedDecisions(hands, labels, tuple(notes))


def describe_decisions(decisions: Iterable[Decision], counting: Iterable[Decision]) -> list[dict[str, Any]]:
    """Return decisions as plain values for JSON, the oldest first, each with `counts`.

    Parameters
    ----------
    decisions
        Any, also those that were undone.
    counting
        Those that pairing applied.

    Examples
    --------
    >>> decision = Decision(format_time(), "anna", "reject", "a.jpg", None, None, "ok")
    >>> [(values["action"], values["counts"]) for values in describe_decisions([decision], [])]
    [('reject', False)]
    """
    applied = set(counting)
    ordered = sorted(decisions, key=lambda decision: decision.at)
    return [dataclasses.asdict(decision) | {"counts": decision in applied} for decision in ordered]


def find_contradictions(merged: MergedDecisions) -> pd.DataFrame:
    """Find people whose last words about the same content of a frame contradict the decision that counts.

    Parameters
    ----------
    merged
        Decisions that hold: of a frame with other content than the present one, nobody's word counts.

    Returns
    -------
    DataFrame
        One row per pair of people and frame: `frame_path`; `aspect`, ``hand`` or ``label``; `reviewer`, `decision`,
        `at` of the one that counts; `other_reviewer`, `other_decision`, `other_at`. All are text.

    Examples
    --------
    >>> box = (10.0, 10.0, 20.0, 20.0)
    >>> anna = Decision("2027-01-02T03:04:05.000000+00:00", "anna", "keep", "a.jpg", None, box, "ok")
    >>> ben = Decision("2027-01-02T03:04:06.000000+00:00", "ben", "reject", "a.jpg", None, box, "ok")
    >>> find_contradictions(merge_decisions([anna, ben]))[["reviewer", "other_reviewer"]].to_numpy().tolist()
    [['ben', 'anna']]
    """
    rows = [*_list_contradictions("hand", merged.hands), *_list_contradictions("label", merged.labels)]
    return pd.DataFrame(rows, columns=list(_CONTRADICTION), dtype=object)


def note_contradictions(table: pd.DataFrame) -> list[Note]:
    """Make a note of what `find_contradictions` found; none if there is nothing.

    Examples
    --------
    >>> note_contradictions(find_contradictions(MergedDecisions()))
    []
    """
    described = [
        f"{frame_path}: {reviewer}: {decision}, {other}: {other_decision}"
        for frame_path, _, reviewer, decision, _, other, other_decision, _ in table.head(1).itertuples(index=False)
    ]
    one = "contradiction between two people's decisions: the latest counts"
    many = "contradictions between two people's decisions: the latest count"
    return [Note("contradiction", len(table), one if len(table) == 1 else many, text) for text in described]


def _is_finite(value: Any) -> bool:
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def is_text(value: str) -> bool:
    """Whether a table can hold it: JSON can also write halves of characters.

    Examples
    --------
    >>> is_text("ä"), is_text("\\ud800")
    (True, False)
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _drop_undone(decisions: Sequence[Decision]) -> list[Decision]:
    """Return the decisions that no later `undo` took back; they are in the order of time."""
    stacks: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k, decision in enumerate(decisions):
        stack = stacks[decision.frame_path, decision.reviewer]
        if decision.action != "undo":
            stack.append(k)
        elif stack:
            stack.pop()
    return [decisions[k] for k in sorted(itertools.chain.from_iterable(stacks.values()))]


def _group_by_frame(decisions: Iterable[Decision]) -> dict[str, tuple[Decision, ...]]:
    grouped: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        grouped[decision.frame_path].append(decision)
    return {frame_path: tuple(found) for frame_path, found in grouped.items()}


def _list_contradictions(aspect: str, grouped: Mapping[str, Sequence[Decision]]) -> list[tuple[str, ...]]:
    """Return rows of `find_contradictions`."""
    pairs = list(_pair_last_words(grouped))
    if not pairs:
        return []
    differ = [a.class_name != b.class_name for a, b in pairs] if aspect == "label" else _find_other_hands(pairs)
    return [
        (a.frame_path, aspect, a.reviewer, _describe(a), a.at, b.reviewer, _describe(b), b.at)
        for (a, b), is_other in zip(pairs, differ, strict=True)
        if is_other
    ]


def _pair_last_words(grouped: Mapping[str, Sequence[Decision]]) -> Iterator[tuple[Decision, Decision]]:
    """Yield for each frame the decision that counts with the last word of each other person on the same content."""
    for decisions in grouped.values():
        counts = decisions[-1]
        said = [each for each in decisions if each.reviewer != counts.reviewer and holds(each, counts.content)]
        yield from ((counts, other) for other in {each.reviewer: each for each in said}.values())


def _find_other_hands(pairs: Sequence[tuple[Decision, Decision]]) -> Flags:
    """Whether two people want different hands, or one rejects what the other wants."""
    rejects = np.array([[decision.action == "reject" for decision in pair] for pair in pairs])
    first, second = (
        list_corners(decision.hand or decision.judged_box for decision in side) for side in zip(*pairs, strict=True)
    )
    empty = np.isnan(first[:, 0]).astype(int) + np.isnan(second[:, 0])  # how many of the two name no box
    are_same = (boxes.compute_iou(first, second) >= SAME_BOX) | (empty == 2)
    is_opposed = (rejects.sum(axis=1) == 1) & (are_same | (empty == 1)) & (empty < 2)
    differ: Flags = is_opposed | (~rejects.any(axis=1) & ~are_same)
    return differ


def _describe(decision: Decision) -> str:
    """Return what was decided in a few words."""
    if decision.action == "label":
        return f"label {decision.class_name}"
    box = decision.hand or decision.judged_box
    return f"{decision.action} {'nothing' if box is None else [round(corner) for corner in box]}"
