"""Wrong predictions, and what each may come from: a wrong label, a wrong box, a weak model or a hard hand.

The cause is a guess from what the run, and another network, know of the frame; a look at the frame decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Self

import numpy as np
import pandas as pd

from detectime.doubt import Reason, score_doubt
from detectime.doubt.reasons import SHOWN
from detectime.runs import FinishedRun

_LABEL_REASONS = (Reason.LONE_LABEL, Reason.POSE_OF_OTHER_CLASS, Reason.DUPLICATE_OTHER_LABEL)
# An odd pose speaks against either: it is left out. What the network says depends on what it sees: `_guess_cause`.
_BOX_REASONS = tuple(
    reason for reason in Reason if reason not in (*_LABEL_REASONS, Reason.LABEL_CONTRADICTED, Reason.ODD_POSE)
)
_GUESSED = 0.4
"""Doubt of the label, or of the box, from which on it is held to be the cause. Of 252 mistakes that were made on
purpose on samples of HaGRID, the contest and the rendered videos, a third each (another label, where the true class or
a third one is predicted; a box on the face, on a part of the hand or beside it; another prediction: `model` or `hand`),
the guess is right for 93 in 100, without the network for 87. Of HaGRID's people there is one photo each: there it is
right for 88, without the network for 69, and then for half of the labels."""
_MOST_REASONS = 2  # sentences of a guess


class Cause(StrEnum):
    """What a wrong prediction may come from: its name in tables, its colour in figures, and a sentence."""

    colour: str
    sentence: str

    def __new__(cls, name: str, colour: str, sentence: str) -> Self:
        """Create a member whose value is its name in tables."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.colour, member.sentence = colour, sentence
        return member

    LABEL = "label", "#7b2cbf", "The label may be wrong: the hand seems to show another class."
    BOX = "box", "#b34700", "The box may be wrong: it may not hold the hand that shows the gesture."
    MODEL = "model", "#5c6773", "The model may be too weak: another network sees the labelled class."
    HAND = "hand", "#277da1", "The hand may be hard to tell: little speaks against its label or its box."


def find_mistakes(
    run: FinishedRun,
    predictions: pd.DataFrame,
    doubt: pd.DataFrame | None = None,
    labels: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """List wrong predictions, the surest first, and guess what each comes from.

    Parameters
    ----------
    run
        The run whose samples were predicted. No frames are read.
    predictions
        One row per evaluated sample: see `measures`.
    doubt
        What `doubt.score_doubt` returned of the run, with the same `labels`; None: it is computed.
    labels
        What `label_check.check_labels` returned; None: the network that checks labels says nothing, and no mistake is
        put down to the model.

    Returns
    -------
    DataFrame
        The wrong rows of `predictions`, with `cause`, the name of a `Cause`, and `why`, a sentence with its numbers.

    Raises
    ------
    RunError
        If tables of the run cannot be read.

    Examples
    --------
    >>> find_mistakes(run, predictions)[["frame_path", "predicted", "cause"]]  # doctest: +SKIP
    """
    wrong = predictions[(predictions["predicted"] != predictions["class_name"]).to_numpy()]
    wrong = wrong.sort_values("probability", ascending=False, kind="stable").reset_index(drop=True)
    if wrong.empty:
        return wrong.assign(cause=pd.Series(dtype=object), why=pd.Series(dtype=object))
    doubt = score_doubt(run, labels=labels) if doubt is None else doubt
    decided = run.outcomes.dropna(subset=["decision"]).set_index("frame_path")["decided_by"]
    tables = [doubt.set_index("frame_path")]
    if labels is not None:
        seen = labels.set_index("frame_path")[["predicted", "probability", "own_probability"]]
        tables.append(seen.add_prefix("seen_"))
    known = wrong.join(pd.concat(tables, axis=1).reindex(wrong["frame_path"]).reset_index(drop=True))
    known["decided_by"] = decided.reindex(wrong["frame_path"]).to_numpy(object)
    guesses = [_guess_cause(row) for row in known.to_dict("records")]
    return wrong.assign(cause=[str(cause) for cause, _ in guesses], why=[why for _, why in guesses])


def _guess_cause(row: dict[Any, Any]) -> tuple[Cause, str]:
    """Return the cause of a wrong prediction, and why.

    Parameters
    ----------
    row
        A row of predictions with the doubt of the frame, what the network that checks labels sees (`seen_predicted`,
        `seen_probability`, `seen_own_probability`), if it was asked, and who decided on it (`decided_by`).
    """
    if isinstance(row["decided_by"], str):
        return _blame_model_or_hand(row, f"{row['decided_by']} decided on its label and its box.")
    # A network that sees another of the classes speaks against the label, one that sees none of them against the box.
    is_seen = bool(row.get("seen_predicted", True))
    of_label = (*_LABEL_REASONS, Reason.LABEL_CONTRADICTED) if is_seen else _LABEL_REASONS
    of_box = _BOX_REASONS if is_seen else (*_BOX_REASONS, Reason.LABEL_CONTRADICTED)
    label, box = (float(1 - np.prod([1 - _weigh(row, each) for each in reasons])) for reasons in (of_label, of_box))
    if max(label, box) < _GUESSED:
        return _blame_model_or_hand(
            row,
            f"little speaks against its label (doubt {label:.2f}) or its box ({box:.2f}). The model gives "
            f"{row['class_name']} {row['own_probability']:.2f}.",
        )
    if label >= box:
        return Cause.LABEL, f"Perhaps a wrong label (doubt {label:.2f}): {_list_sentences(row, of_label)}"
    return Cause.BOX, f"Perhaps a wrong box (doubt {box:.2f}): {_list_sentences(row, of_box)}"


def _blame_model_or_hand(row: dict[Any, Any], trusted: str) -> tuple[Cause, str]:
    """Return the cause of a wrong prediction of a hand whose label and box are trusted, and why."""
    if "seen_predicted" not in row:
        return Cause.HAND, f"Perhaps a hard hand: {trusted} No other network has seen it."
    if row["seen_predicted"] != row["class_name"]:
        return Cause.HAND, f"Perhaps a hard hand: {trusted}"
    seen = f"another network sees {row['class_name']} ({row['seen_probability']:.2f})"
    return Cause.MODEL, f"Perhaps a weak model: {seen}; {trusted}"


def _weigh(row: dict[Any, Any], reason: Reason) -> float:
    """Return the doubt that a reason gives by itself."""
    return reason.weight * float(np.nan_to_num(row[reason.value]))


def _list_sentences(row: dict[Any, Any], reasons: Iterable[Reason]) -> str:
    """Return what the reasons say that contribute most."""
    ordered = sorted(reasons, key=lambda reason: -_weigh(row, reason))[:_MOST_REASONS]
    return " ".join(_describe_reason(row, reason) for reason in ordered if _weigh(row, reason) >= SHOWN)


def _describe_reason(row: dict[Any, Any], reason: Reason) -> str:
    if reason is not Reason.LABEL_CONTRADICTED or "seen_predicted" not in row:
        return reason.sentence
    seen = row["seen_predicted"] or "no gesture of these classes"
    share, own = row["seen_probability"], row["seen_own_probability"]
    return f"Another network sees {seen} ({share:.2f}; {row['class_name']} {own:.2f})."
