"""Which frames a person is asked about, in which order; how far the review is, and how good the samples are so far."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime import boxes, resampling
from detectime.boxes import Flags, Floats
from detectime.candidates import Indices
from detectime.decisions import SAME_BOX, Corners, Decision, DecisionError, MergedDecisions, holds, merge_decisions
from detectime.schema import SAMPLES, Outcome
from detectime.settings import suggest_name

Order = Literal["doubt", "random", "frames"]
"""The most doubtful frames first, samples at random, or frames that the caller named, in their order."""

ORDERS: tuple[Order, ...] = ("doubt", "random")
"""What `by` may be."""

_NOT_SHOWN = (Outcome.MISSING.value, Outcome.UNREADABLE.value)
_DECIDED = 0.95  # share of the first frames of a random order that are decided, to stand for all
_Z = 1.959964  # standard normal deviates that enclose 95 %


@dataclass(frozen=True)
class Precision:
    """How many of the samples that were judged are right.

    Attributes
    ----------
    judged, right
        Numbers of samples.
    low, high
        The 95 % interval of the share that is right, from 0 to 1; NaN if nothing was judged.
    """

    judged: int
    right: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share that is right; NaN if nothing was judged."""
        return self.right / self.judged if self.judged else math.nan


def choose_rows(
    samples: pd.DataFrame,
    by: Order,
    *,
    doubt: Floats | None = None,
    decisions: MergedDecisions | None = None,
    frames: Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Indices:
    """Choose the frames that a person is asked about, in order.

    Parameters
    ----------
    samples
        The outcomes of a run, with a range as index.
    by
        ``doubt``: wanted frames, the most doubtful first; those without a sample only if there is a reason to doubt
        them. Before them come those that people decided on, in the order of their decisions, so that a review that is
        begun again can go back. ``random``: samples. ``frames``: those of `frames`.
    doubt
        Of each row, NaN where it is not wanted.
    decisions
        What people decided so far: the samples that they rejected since are asked about as if they were still there, so
        that a review that goes on another day is about the same frames.
    frames
        Paths, for ``frames``.
    sample
        The number of frames, at most, beside those that are decided; None: all.
    seed
        For ``random``: another number draws other frames.

    Returns
    -------
    ndarray
        int64: row numbers.

    Raises
    ------
    DecisionError
        If there is no such order, or a path is not in the table.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a", "b", "c"], "outcome": ["paired", "apart", "paired"]})
    >>> samples = samples.assign(wanted=True)
    >>> choose_rows(samples, "doubt", doubt=np.array([0.1, 0.5, 0.0])).tolist()
    [1, 0, 2]
    >>> sorted(choose_rows(samples, "random").tolist())
    [0, 2]
    """
    paths = samples["frame_path"]
    is_shown = ~samples["outcome"].isin(_NOT_SHOWN).to_numpy()
    if by == "frames":
        rows = _find_frames(paths, () if frames is None else frames)
    elif by == "random":
        judged, added = _find_judged_samples(paths, decisions)
        was_sample = (samples["outcome"].isin(SAMPLES).to_numpy() | judged) & ~added
        drawn = np.flatnonzero(was_sample & is_shown)
        keys = [hashlib.blake2b(f"{seed} {path}".encode(), digest_size=8).digest() for path in paths.iloc[drawn]]
        rows = drawn[np.argsort(np.array(keys, "S8"), kind="stable")]
    elif by == "doubt":
        values = np.zeros(len(samples)) if doubt is None else np.nan_to_num(doubt)
        is_sample = samples["outcome"].isin(SAMPLES).to_numpy()
        asked = samples["wanted"].to_numpy(bool) & (is_sample | (values > 0))
        decided = _find_last_times(paths, decisions)
        first = sorted(np.flatnonzero((decided != "") & is_shown), key=lambda row: str(decided[row]))
        rest = np.flatnonzero(asked & is_shown & (decided == ""))
        rest = rest[np.argsort(-values[rest], kind="stable")][:sample]
        return np.concatenate([np.array(first, np.int64), rest])
    else:
        raise DecisionError(f"by = {by!r}: {suggest_name(by, ORDERS)}")
    return rows[:sample].astype(np.int64)


class ReviewQueue:
    """The frames of a review, and what is decided about them so far.

    Parameters
    ----------
    samples
        The outcomes of the run, with a range as index.
    rows
        What `choose_rows` returned.
    decisions
        All decisions so far.
    reviewer
        Whose decisions make a frame count as decided; None: anybody's.

    Attributes
    ----------
    rows
        The same.
    is_decided
        bool, shape (N,): which frames are decided.
    verdicts
        float64, shape (N,): 1 where the sample is right as it was shown, 0 where it is not, NaN where nobody judged it
        or there was none. It is right if the last word about its hand is a box that overlaps the one that was judged
        first with an IoU of at least `decisions.SAME_BOX`, and the last word about its class is the first class.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a"], "video_name": ["v"], "content": ["5-36"]})
    >>> queue = ReviewQueue(samples, np.array([0]), [])
    >>> queue.find_first(), queue.measure_precision().judged
    (0, 0)
    """

    def __init__(
        self, samples: pd.DataFrame, rows: Indices, decisions: Iterable[Decision], reviewer: str | None = None
    ) -> None:
        self.rows, self._reviewer = rows, reviewer
        chosen = samples.iloc[rows]
        self._paths: list[str] = chosen["frame_path"].tolist()
        self._contents = [text if isinstance(text, str) else None for text in chosen["content"].tolist()]
        self._groups = chosen["video_name"].to_numpy()
        self._decisions: dict[str, list[Decision]] = defaultdict(list)
        for decision in decisions:
            self._decisions[decision.frame_path].append(decision)
        self.is_decided = np.zeros(len(rows), bool)
        self.verdicts = np.full(len(rows), np.nan)
        for at, path in enumerate(self._paths):
            if path in self._decisions:
                self._update(at)

    def __len__(self) -> int:
        return len(self.rows)

    def set_decisions(self, at: int, decisions: Iterable[Decision]) -> list[Decision]:
        """Replace the decisions about the frame at a position; return those that are new."""
        path = self._paths[at]
        before = set(self._decisions.get(path, ()))
        self._decisions[path] = list(decisions)
        self._update(at)
        return [decision for decision in self._decisions[path] if decision not in before]

    def list_live(self, at: int) -> list[Decision]:
        """Return what was decided about the present content of a frame and was not undone, the oldest first."""
        merged = merge_decisions(self._decisions.get(self._paths[at], ()))
        return [decision for decision in merged.decisions if holds(decision, self._contents[at])]

    def find_first(self) -> int:
        """Return the position of the first frame that is not decided; the number of frames if all are."""
        return int(np.argmin(self.is_decided)) if not self.is_decided.all() else len(self)

    def measure_precision(self, *, is_random: bool = False) -> Precision:
        """Measure how many of the samples that were judged are right, as they were shown.

        The interval is the wider one of two: the groups of the samples drawn with replacement, 1,000 times, and
        Wilson's score interval, which is no point where all samples are right.

        Parameters
        ----------
        is_random
            Whether the order is random, so that its first frames stand for all. Then only those count: as many as there
            are while at most one in twenty of them is not decided. Later ones may have been decided for another reason,
            such as their doubt.
        """
        is_judged = ~np.isnan(self.verdicts)
        if is_random:
            is_judged[self._count_first() :] = False
        right, groups = self.verdicts[is_judged], self._groups[is_judged]
        if not len(right):
            return Precision(0, 0, math.nan, math.nan)
        values = np.column_stack([right, np.ones(len(right))])
        sums = resampling.draw_groups(groups) @ resampling.sum_groups(groups, values)
        low, high = (float(limit) for limit in resampling.compute_interval(sums[:, 0] / sums[:, 1]))
        wilson = compute_wilson_interval(int(right.sum()), len(right))
        return Precision(len(right), int(right.sum()), float(np.fmin(low, wilson[0])), float(np.fmax(high, wilson[1])))

    def _count_first(self) -> int:
        """Return how many frames, from the first one on, are decided but for one in twenty."""
        shares = np.cumsum(self.is_decided) / np.arange(1, len(self) + 1)
        enough = np.flatnonzero(shares >= _DECIDED)
        return int(enough[-1]) + 1 if len(enough) else 0

    def _update(self, at: int) -> None:
        counted = [each for each in self.list_live(at) if self._reviewer in (None, each.reviewer)]
        verdict = _judge(counted)
        self.is_decided[at] = bool(counted)
        self.verdicts[at] = np.nan if verdict is None else verdict


def _judge(decisions: Sequence[Decision]) -> bool | None:
    """Return whether a sample was right as it was shown; None if nobody said so, or there was none."""
    labels = [each for each in decisions if each.action == "label"]
    hands = [each for each in decisions if each.action != "label"]
    if not decisions or decisions[0].judged_box is None:
        return None
    has_other_class = bool(labels) and labels[-1].class_name != labels[0].judged_class
    if not hands:
        return False if has_other_class else None
    return is_same_hand(hands[-1].hand, hands[0].judged_box) and not has_other_class


def is_same_hand(one: Corners | None, other: Corners | None) -> bool:
    """Whether two boxes show the same hand, as decisions are compared: see `decisions.SAME_BOX`.

    Examples
    --------
    >>> is_same_hand((0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 9.0)), is_same_hand(None, (0.0, 0.0, 10.0, 9.0))
    (True, False)
    """
    if one is None or other is None:
        return False
    return bool(boxes.compute_iou(np.array(one), np.array(other)) >= SAME_BOX)


def compute_wilson_interval(right: int, judged: int) -> tuple[float, float]:
    """Compute Wilson's score interval of a share at 95 % (Wilson 1927).

    Examples
    --------
    >>> [round(limit, 3) for limit in compute_wilson_interval(20, 20)]
    [0.839, 1.0]
    """
    share, spread = right / judged, _Z * _Z / judged
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / judged + spread / (4 * judged))
    return (middle - half if right else 0.0), (middle + half if right < judged else 1.0)  # exact at both ends


def _find_last_times(paths: pd.Series, decisions: MergedDecisions | None) -> NDArray[np.object_]:
    """Return when somebody last decided on each frame; an empty text if nobody did."""
    found = np.full(len(paths), "", object)
    if decisions is not None and len(decisions):
        last = {each.frame_path: each.at for each in decisions.decisions}  # the oldest come first
        rows = pd.Index(paths).get_indexer(pd.Index(list(last), dtype=object))
        found[rows[rows >= 0]] = np.array(list(last.values()), object)[rows >= 0]
    return found


def _find_frames(paths: pd.Series, frames: Iterable[str]) -> Indices:
    wanted = list(dict.fromkeys(frames))
    rows = pd.Index(paths).get_indexer(pd.Index(wanted, dtype=object))
    missing = [path for path, row in zip(wanted, rows, strict=True) if row < 0]
    if missing:
        raise DecisionError(f"{missing[0]!r}: the labels of the run have no such frame ({len(missing)} are unknown)")
    found: Indices = rows.astype(np.int64)
    return found


def _find_judged_samples(paths: pd.Series, decisions: MergedDecisions | None) -> tuple[Flags, Flags]:
    """Return which rows had a sample when they were judged first, whatever became of it, and which had none."""
    first: dict[str, bool] = {}
    for decision in () if decisions is None else decisions.decisions:  # the oldest come first
        first.setdefault(decision.frame_path, decision.judged_box is not None)
    flags = [paths.isin([path for path, had in first.items() if had is kind]).to_numpy() for kind in (True, False)]
    return flags[0], flags[1]
