"""The doubt of each frame of a run: signals, weighted and combined."""

from __future__ import annotations

import numpy as np
import pandas as pd

from detectime.boxes import Floats
from detectime.doubt.box_position import score_boxes
from detectime.doubt.chosen_hands import read_chosen_hands
from detectime.doubt.detected_hand import score_hands, score_unpaired_hands
from detectime.doubt.duplicates import score_duplicates
from detectime.doubt.poses import score_poses
from detectime.doubt.reasons import SHOWN, Reason
from detectime.doubt.signals import Signals, make_ramp
from detectime.doubt.videos import score_neighbours
from detectime.label_check import CONTRADICTED
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.schema import CORNERS

_UNSURE, _CONTRADICTED = 0.0, -12.0  # margins of the network that checks labels
_DIGIT = 5  # bits that hold the number of a reason
_LAST = (1 << _DIGIT) - 1
_MOST_NAMED = 12  # digits of an int64


def score_doubt(
    run: FinishedRun, samples: pd.DataFrame | None = None, *, labels: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Score how much each frame of a run should be doubted: those with the highest doubt are worth a look first.

    Each `Reason` applies to a frame by a share from 0 to 1. The doubt is 1 − Π (1 − weight × share) over all reasons: a
    rank, not a probability. No frames are read.

    What a person decided is not doubted, unless a near-duplicate has another class. Frames that were not seen (missing,
    unreadable, failed) have a doubt of 0 too, unless their class stands alone among their neighbours.

    Parameters
    ----------
    run
        What `runs.open_run` returned, of this or any earlier release: what it did not store gives no reason.
    samples
        Rows of its outcomes, with all frames of a video that have any, since they are compared; None: all.
    labels
        What `label_check.check_labels` returned; None: the network that it asks is not used.

    Returns
    -------
    DataFrame
        One row per row of `samples`, with its index:

        - `frame_path`;
        - `doubt`: float64, 0…1; NaN if the frame is not wanted;
        - `reasons`: text, names of `Reason` joined by ", ", the one that contributes most first; empty if there is
          none. One that by itself would give a doubt of less than 0.1 is not named;
        - `suggested_x1` … `suggested_y2`: float64, in pixels of the frame, where a frame without a sample is between
          two that have one: the hand between theirs, interpolated; NaN elsewhere;
        - a column per `Reason`, by its name: float64, 0…1, 0 also where nothing is known.

        ``attrs["notes"]`` has the findings.

    Raises
    ------
    RunError
        If the detections cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> doubt = score_doubt(open_run("output"))  # doctest: +SKIP
    >>> doubt.nlargest(20, "doubt")[["frame_path", "doubt", "reasons"]]  # doctest: +SKIP
    """
    samples = run.outcomes if samples is None else samples
    rows = samples.reset_index(drop=True)
    signals, notes = _score_samples(run, rows)
    neighbours, suggested = score_neighbours(rows)
    signals |= neighbours | {Reason.LABEL_CONTRADICTED: _score_contradictions(rows, labels)}
    shares = _select_shares(rows, signals)
    contributions = shares * np.array([reason.weight for reason in Reason])
    columns: dict[str, object] = {
        "frame_path": rows["frame_path"],
        "doubt": np.where(rows["wanted"], 1 - np.prod(1 - contributions, axis=1), np.nan),
        "reasons": _name_reasons(contributions * _mark_named(rows, labels)),
    }
    suggested[shares[:, list(Reason).index(Reason.GAP)] == 0] = np.nan  # of frames that a person decided
    columns |= {f"suggested_{corner}": suggested[:, k] for k, corner in enumerate(CORNERS)}
    columns |= {reason.value: shares[:, k] for k, reason in enumerate(Reason)}
    doubt = pd.DataFrame(columns).set_axis(samples.index)
    doubt.attrs["notes"] = notes
    return doubt


def _score_samples(run: FinishedRun, rows: pd.DataFrame) -> tuple[Signals, list[Note]]:
    """Score each sample by itself, and against the other samples of its class; rows without a sample get 0."""
    hands = read_chosen_hands(run, rows)
    duplicates, notes = score_duplicates(run, rows)
    return {
        **score_hands(rows, hands, run.config.detection.near_coefficient == 0, run.pairing),
        **score_boxes(rows),
        **score_poses(rows, hands),
        Reason.UNPAIRED_HAND: score_unpaired_hands(rows, hands),
        Reason.DUPLICATE_OTHER_LABEL: duplicates,
    }, notes


def _score_contradictions(rows: pd.DataFrame, labels: pd.DataFrame | None) -> Floats:
    """Return by how much the network prefers another class; 0 where it was not asked."""
    if labels is None:
        return np.zeros(len(rows))
    margins = pd.Series(labels["margin"].to_numpy(np.float64), index=labels["frame_path"].to_numpy())
    return make_ramp(margins.reindex(rows["frame_path"]).to_numpy(np.float64), _UNSURE, _CONTRADICTED)


def _mark_named(rows: pd.DataFrame, labels: pd.DataFrame | None) -> Floats:
    """Return 0 for what is not named though it counts, shape (N, reasons): a label of which the network is unsure."""
    named = np.ones((len(rows), len(Reason)))
    if labels is not None:
        contradicted = labels.loc[labels["margin"] < CONTRADICTED, "frame_path"]
        named[:, list(Reason).index(Reason.LABEL_CONTRADICTED)] = rows["frame_path"].isin(contradicted)
    return named


def _select_shares(rows: pd.DataFrame, signals: Signals) -> Floats:
    """Return the share of each reason, shape (N, reasons), without those that do not count for a row."""
    shares = np.column_stack([signals[reason] for reason in Reason])
    is_decided = rows["decision"].notna().to_numpy()
    kept = [reason is Reason.DUPLICATE_OTHER_LABEL for reason in Reason]
    shares *= np.where(is_decided[:, None], kept, True)
    shares[~rows["wanted"].to_numpy()] = 0
    return shares


def _name_reasons(contributions: Floats) -> pd.Series:
    """Return the names of the reasons of each row, the strongest first.

    Few combinations occur: each is a number whose digits are the reasons, and only different numbers become text.
    """
    names = [reason.value for reason in Reason]
    order = np.argsort(-contributions, axis=1, kind="stable")[:, :_MOST_NAMED]
    is_shown = np.take_along_axis(contributions, order, axis=1) >= SHOWN
    digits = np.where(is_shown, order + 1, 0).astype(np.int64)
    combined = (digits << (_DIGIT * np.arange(order.shape[1]))).sum(axis=1)
    codes, unique = pd.factorize(combined)
    texts = [
        ", ".join(names[digit - 1] for k in range(_MOST_NAMED) if (digit := (number >> (_DIGIT * k)) & _LAST))
        for number in unique.tolist()
    ]
    return pd.Series(pd.array(texts, dtype="str").take(codes))
