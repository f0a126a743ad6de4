"""The review: a person judges frame after frame by keys, the most doubtful first or a random sample."""

from __future__ import annotations

import contextlib
import getpass
import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from detectime import outcomes
from detectime.boxes import Floats
from detectime.decision_files import DecisionLog, read_decisions
from detectime.decisions import (
    Action,
    Corners,
    Decision,
    DecisionError,
    check_reviewer,
    merge_decisions,
    parse_corners,
)
from detectime.detection import manifest
from detectime.doubt import Reason, score_doubt
from detectime.errors import DocumentedError
from detectime.judgements import Judgement, judge_frames
from detectime.report.card_boxes import get_box, is_larger
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES, Outcome
from detectime.settings import suggest_name
from detectime.widgets.frame_state import describe_decision, describe_decisions, list_hands
from detectime.widgets.frame_widget import (
    FrameWidget,
    Message,
    Reply,
    check_run,
    describe_pairing,
    read_script,
    read_style,
)
from detectime.widgets.review_queue import ORDERS, Order, ReviewQueue, choose_rows
from detectime.widgets.run_frames import RunFrames, get_only_row, is_same_box
from detectime.widgets.still import Still, make_still
from detectime.widgets.trial import DecidedFrames

_KEYS = "abcdef"  # of the other hands
_DIGITS = 9  # classes that have a key
_CHECKED = 2.0  # seconds between two looks at whether another process works in the run
_MOST_REASONS = 6
_ROUNDED = 0.06  # pixels: boxes on the screen are rounded to tenths


class Review(FrameWidget):
    """Judge frames in a notebook: one key per decision, which is on disk before the next frame shows.

    Decisions go to ``decisions/<reviewer>-<time>.jsonl`` in the folder of the run, one file per person and start. They
    count from the next pairing on: the button "Write hands.json", `outcomes.pair_run` or ``detectime pair``.

    Parameters
    ----------
    run
        What `runs.open_run` returned; it must be paired.
    by
        ``doubt``: the most doubtful frames first; it starts with what nobody decided yet. ``random``: samples at
        random, which measures how many are right; what others decided is asked again, so that two people can answer
        independently. None: ``random`` if `sample` is given, else ``doubt``.
    reviewer
        The name of the person; None: that of the account.
    sample
        The number of frames, at most: ``Review(run, sample=200)`` answers "how good is it?".
    frames
        Paths of the frames to review, in this order, such as `Explorer.selected`.
    doubt
        What `doubt.score_doubt` returned, such as with a label check; None: it is computed.
    seed
        Of the random order.

    Raises
    ------
    DecisionError
        If the name is empty, there is no such order, or a frame is not in the table.
    RunError
        If frames were detected since the run was paired, or tables cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> Review(open_run("output"), reviewer="anna")  # doctest: +SKIP
    """

    _esm = read_script("review")
    _css = read_style("review")

    def __init__(
        self,
        run: FinishedRun,
        by: Order | None = None,
        *,
        reviewer: str | None = None,
        sample: int | None = None,
        frames: Sequence[str] | None = None,
        doubt: pd.DataFrame | None = None,
        seed: int | None = 0,
    ) -> None:
        check_run(run)
        _check_arguments(by, sample, frames, seed)
        run.check_paired(with_decisions=False)
        self.reviewer = check_reviewer(_find_account() if reviewer is None else reviewer)
        self.by: Order = "frames" if frames is not None else by or ("doubt" if sample is None else "random")
        super().__init__(run, RunFrames(run, run.outcomes))
        decided, _ = read_decisions(run.store)
        self._set_doubt(score_doubt(run, self.frames.samples) if doubt is None else doubt)
        rows = choose_rows(
            self.frames.samples,
            self.by,
            doubt=self._doubt,
            decisions=merge_decisions(decided),
            frames=frames,
            sample=sample,
            seed=seed or 0,
        )
        counted = self.reviewer if self.by == "random" else None
        self.queue = ReviewQueue(self.frames.samples, rows, decided, counted)
        self._log = DecisionLog(run.store, self.reviewer)
        self._undoable: list[tuple[int, list[Decision]]] = []  # by position
        self._paired = self._get_pairing()
        # What hands.json has of the frames that were decided since it was written, by position.
        self._written: dict[int, list[Decision]] = {}
        self._first_doubt = self._score_first_doubt()
        self._finished, self._looked = run.manifest["finished"], time.monotonic()
        self._told: set[str] = set()
        self._answers |= {
            "open": self._open,
            "item": self._get_item,
            "decide": self._decide,
            "undo": self._undo,
            "pair": self._pair,
        }

    def __repr__(self) -> str:
        return (
            f"Review({str(self.run.store)!r}, by={self.by!r}, reviewer={self.reviewer!r}, {len(self.queue):,} frames)"
        )

    def make_still(self) -> Still:
        """Make the static picture: the frames that are asked about first."""
        count = len(self.queue)
        order = {"doubt": "the most doubtful first", "random": "drawn at random", "frames": "as selected"}[self.by]
        text = (
            f"Review of {count:,} {'frame' if count == 1 else 'frames'} of {self.run.store}, {order}; run this cell in "
            "JupyterLab, Colab or VS Code to judge them by keys."
        )
        return make_still(self.run, self.frames, self.frames.samples.iloc[self.queue.rows[:12]], text, varied=False)

    def _set_doubt(self, doubt: pd.DataFrame) -> None:
        rows = pd.Index(doubt["frame_path"]).get_indexer(pd.Index(self.frames.samples["frame_path"]))
        if (rows < 0).any():
            raise DecisionError(
                "doubt: it lacks frames of this run; pass what doubt.score_doubt(run) returned, or None"
            )
        found = doubt.iloc[rows]
        self._doubt: Floats = found["doubt"].to_numpy(np.float64)
        self._reasons: list[str] = found["reasons"].tolist()
        self._suggested: Floats = found[[f"suggested_{corner}" for corner in CORNERS]].to_numpy(np.float64)

    # -- answers to messages

    def _open(self, _: Message) -> Reply:
        names = list(self.run.config.labels)
        wanted = [name for name in names if name in self.run.config.classes]
        ordered = [*wanted, *(name for name in names if name not in wanted)]
        keys = {name: str(k) for k, name in enumerate(ordered[:_DIGITS], start=1)}
        facts = {
            "total": len(self.queue),
            "at": self.queue.find_first(),
            "by": self.by,
            "reviewer": self.reviewer,
            "name": str(self.run.store),
            "classes": [{"name": name, "key": keys.get(name)} for name in ordered],
            "progress": self._describe_progress(),
        }
        return {"kind": "opened", "facts": facts}

    def _get_item(self, message: Message) -> Reply:
        at = self._check_position(message)
        row = int(self.queue.rows[at])
        self._follow_pairing()
        self._read_decisions(at)
        decisions = self.queue.list_live(at)
        values = get_only_row(self._pair_frame(at))
        box, crop = get_box(values, "hand"), get_box(values, "bbox")
        class_name = str(values["class_name"])
        detected = self.frames.read_boxes([row])
        is_enlarged = class_name in self.run.pairing.enlarged_classes
        suggested = self._suggested[row]
        item = self.frames.describe_row(values, row) | {
            "at": at,
            "class_name": class_name,
            "box": box,
            "crop": crop if is_larger(crop, box) else None,
            "enlarge": self.run.pairing.crop_hand_coefficient if is_enlarged else None,
            "faces": [list(face) for face in detected.list_faces(values)],
            "hands": [
                {"key": key, "corners": corners, "label": label}
                for key, (corners, label) in zip(
                    _KEYS, list_hands(values, detected, box, self._find_own_hand(at)), strict=False
                )
            ],
            "suggested": None if np.isnan(suggested[0]) else suggested.round(1).tolist(),
            "doubt": None if np.isnan(self._doubt[row]) else round(float(self._doubt[row]), 3),
            "reasons": self._list_reasons(row),
            "decisions": describe_decisions(decisions, self.reviewer),
            "is_decided": any(each.reviewer == self.reviewer for each in decisions),
            "is_rejected": values["outcome"] == Outcome.REJECTED,
        }
        return {"kind": "item", "at": at, "item": item}

    def _decide(self, message: Message) -> Reply:
        at = self._check_position(message)
        made = self._write(at, list(self._list_judgements(at, message)))
        self._undoable.append((at, made))
        self._look_around()
        return {"kind": "decided", "at": at, "progress": self._describe_progress()}

    def _undo(self, _: Message) -> Reply:
        at = None
        if self._undoable:
            at, made = self._undoable[-1]
            self._read_decisions(at)
            own = [each for each in self.queue.list_live(at) if each.reviewer == self.reviewer]
            if own[-len(made) :] != made:
                raise DecisionError("You decided on that frame again elsewhere: go back to it, and decide once more.")
            self._write(at, [Judgement(made[0].frame_path, "undo")] * len(made))
            self._undoable.pop()
        return {"kind": "undone", "at": at, "progress": self._describe_progress()}

    def _pair(self, _: Message) -> Reply:
        samples = outcomes.pair_run(self.run)
        if samples["frame_path"].tolist() == self.frames.samples["frame_path"].tolist():
            self.frames.set_samples(samples)
        else:
            self._tell("The run has other frames now: run this cell again to see them.")
        self._written, self._finished, self._paired = {}, self.run.manifest["finished"], self._get_pairing()
        text = describe_pairing(self.run, samples)
        return {"kind": "paired", "text": text, "progress": self._describe_progress()}

    # -- decisions

    def _pair_frame(self, at: int, live: Sequence[Decision] | None = None) -> pd.DataFrame:
        """Return the outcome of a frame as pairing would write it now, one row; `live`: instead of what was decided."""
        row = int(self.queue.rows[at])
        live = self.queue.list_live(at) if live is None else live
        if not live and not isinstance(self.frames.samples["decision"].iat[row], str):
            return self.frames.samples.iloc[[row]]
        table = self.run.frames.iloc[[row]].reset_index(drop=True)
        decided = DecidedFrames(table, self.frames.take_detections([row]), merge_decisions(live), self.run.config)
        return decided.pair(self.run.pairing)

    def _find_own_hand(self, at: int) -> Corners | None:
        """Return the hand that pairing alone chooses; None if there is none."""
        values = get_only_row(self._pair_frame(at, []))
        return get_box(values, "hand") if values["outcome"] in SAMPLES else None

    def _get_pairing(self) -> str | None:
        found: str | None = (self.run.manifest["pairing"] or {}).get("hands_sha256")
        return found

    def _follow_pairing(self) -> None:
        """Take what the explorer, or a cell, wrote of the same run."""
        if self._get_pairing() == self._paired:
            return
        self._paired, self._written = self._get_pairing(), {}
        samples = self.run.outcomes
        if samples["frame_path"].tolist() == self.frames.samples["frame_path"].tolist():
            self.frames.set_samples(samples)
        self.send({"kind": "news", "text": "The run was paired again: boxes may be others now."})

    def _list_judgements(self, at: int, message: Message) -> Iterator[Judgement]:
        """Yield what a message says of a frame: about its class, then about its hand, as it was shown."""
        action: Action = message["action"]
        self._follow_pairing()
        values = get_only_row(self._pair_frame(at))
        path, hand = values["frame_path"], get_box(values, "hand")
        seen, box = (
            None if message.get(name) is None else parse_corners(message[name], name) for name in ("seen", "box")
        )
        if "seen" in message and (not is_same_box(seen, hand) or message.get("seen_class") != values["class_name"]):
            raise DecisionError("This frame has another box or class by now. It is shown as it is: decide once more.")
        if box is not None and pd.isna(values["width"]):
            raise DecisionError("This frame was not detected, so that a box in it would not count.")
        if action == "label":
            yield Judgement(path, "label", class_name=message["class_name"])
            if box is not None:
                yield Judgement(path, "box", box)
            elif hand is not None and values["outcome"] in SAMPLES:
                yield Judgement(path, "keep")
        elif action == "keep":
            if hand is None:
                raise DecisionError("There is no box to keep: draw one, or reject the frame.")
            yield Judgement(path, "keep")
        elif action == "reject":
            yield Judgement(path, "reject")
        elif action == "choose_hand" and is_same_box(box, self._find_own_hand(at)):
            yield Judgement(path, "box", box)  # the one that pairing chose, which may be an average of detected ones
        else:
            yield Judgement(path, action, box)

    def _write(self, at: int, judgements: Sequence[Judgement]) -> list[Decision]:
        """Make decisions and write them: when this returns, they are on disk."""
        row = int(self.queue.rows[at])
        shown, detections = self._pair_frame(at), self.frames.take_detections([row])  # without what follows
        for other in self._read_decisions(at):
            if other.reviewer != self.reviewer:
                said = describe_decision(other)
                self._tell(f"{other.frame_path}: while you looked, {said}. The latest word counts.")
        made = judge_frames(self.run, judgements, self.reviewer, shown=shown, detections=detections)
        self._written.setdefault(at, self.queue.list_live(at))
        self._log.append(*made)
        self._read_decisions(at)
        return made

    def _read_decisions(self, at: int) -> list[Decision]:
        """Read what everybody decided about a frame; return what is new."""
        path = str(self.frames.samples["frame_path"].iat[self.queue.rows[at]])
        return self.queue.set_decisions(at, read_decisions(self.run.store, path)[0])

    def _check_position(self, message: Message) -> int:
        at = int(message["at"])
        if not 0 <= at < len(self.queue):
            raise DecisionError(f"There is no frame {at + 1} in this review of {len(self.queue)}.")
        return at

    # -- words

    def _describe_progress(self) -> Reply:
        is_decided, doubt = self.queue.is_decided, self._first_doubt
        left = float(doubt[~is_decided].sum() / doubt.sum()) if doubt.sum() > 0 else None
        precision = self.queue.measure_precision(is_random=self.by == "random")
        found = {
            "decided": int(is_decided.sum()),
            "total": len(self.queue),
            "doubt_left": None if self.by == "random" else left,
            "right": precision.right,
            "judged": precision.judged,
            "precision": _or_none(precision.value),
            "low": _or_none(precision.low),
            "high": _or_none(precision.high),
            "pending": sum(self.queue.list_live(at) != written for at, written in self._written.items()),
        }
        return found | {"text": self._describe_precision(found)}

    def _describe_precision(self, found: Reply) -> str:
        text = f"{found['decided']:,} of {found['total']:,} decided"
        if not found["judged"]:
            is_open = self.by == "random" and found["decided"]
            return f"{text}; no share yet, since the first ones are not decided" if is_open else text
        if self.by == "random":
            low, high = round(100 * found["low"]), round(100 * found["high"])
            of = "samples" if found["judged"] >= found["decided"] else f"the first {found['judged']:,}"
            return f"{text}; {100 * found['precision']:.0f} % of {of} right (95 % interval {low}–{high} %)"
        shown = {"doubt": "doubted samples", "frames": "selected samples"}[self.by]
        return f"{text}; {found['right']:,} of {found['judged']:,} {shown} were right"

    def _list_reasons(self, row: int) -> list[str]:
        names = [name for name in self._reasons[row].split(", ") if name]
        return [_REASONS[name].sentence for name in names[:_MOST_REASONS]]

    def _score_first_doubt(self) -> Floats:
        """Return the doubt of the queue's frames as if nobody had decided on them: decided ones are not doubted."""
        rows = self.queue.rows
        doubt = np.nan_to_num(self._doubt)
        if self.queue.is_decided.any() and self.by == "doubt":
            samples = self.frames.samples.assign(decision=None)
            doubt = np.nan_to_num(score_doubt(self.run, samples)["doubt"].to_numpy(np.float64))
        first: Floats = doubt[rows]
        return first

    def _look_around(self) -> None:
        """Say if another process works in the run, or did since it was opened; decisions are kept all the same."""
        if time.monotonic() - self._looked < _CHECKED:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(DocumentedError, OSError, ValueError):  # the decision before this is written
            found = manifest.read_manifest(self.run.store)
            if found is None or found["finished"] != self._finished:
                self._tell(
                    "Frames of this run are being detected, or were since this review began. Your decisions are kept, "
                    "and count where the frame is the same; run this cell again to see the new boxes."
                )

    def _tell(self, text: str) -> None:
        """Show a sentence, once."""
        if text not in self._told:
            self._told.add(text)
            self.send({"kind": "news", "text": text})


_REASONS = {reason.value: reason for reason in Reason}


def _find_account() -> str:
    """Return the name of the account; "reviewer" where there is none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"


def _check_arguments(by: str | None, sample: object, frames: object, seed: object) -> None:
    """Refuse arguments of a review that contradict each other, or are of no use."""
    if sample is not None and (isinstance(sample, bool) or not isinstance(sample, int | np.integer) or sample < 1):
        raise DecisionError(f"sample = {sample!r}: accepted: the number of frames, at least 1, or None for all")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
        raise DecisionError(f"seed = {seed!r}: accepted: a whole number, or None for 0")
    if isinstance(frames, str):
        raise DecisionError(f"frames = {frames!r}: accepted: a list of paths, such as [{frames!r}], or None")
    if by is not None and by not in ORDERS:
        raise DecisionError(f"by = {by!r}: {suggest_name(by, ORDERS)}")
    if by is not None and frames is not None:
        raise DecisionError(f"by = {by!r} and frames: accepted: one of them; frames come in their own order")


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
