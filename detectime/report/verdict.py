"""The verdict on a training set: what is wrong with it, worst first, each with its number and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from detectime.config import NO_GESTURE
from detectime.evaluation import Evaluation
from detectime.labels.grouping import NO_GROUPS
from detectime.notes import format_count
from detectime.report.summary import SetFacts, count_negatives
from detectime.schema import Outcome

MOST = 5
"""Findings that the report shows."""

DOUBTFUL = 0.5
"""Doubt from which a frame is counted as doubtful."""

_BROKEN = (Outcome.MISSING, Outcome.UNREADABLE, Outcome.FAILED)
_LOST = (Outcome.NO_FACE, Outcome.NO_HAND, Outcome.APART)
_LEAST_SHARE = 0.05  # of the frames of a class without a sample, below which they are no finding
_LEAST_FRAMES = 3
_IMBALANCE = 5  # ratio of the largest to the smallest class
_SMALL_CLASS = 50  # samples
_DOMINANT = 0.6  # share of the samples of a class that come from one group
_SHOWN_NAMES, _LONGEST_NAME = 3, 40  # names in a sentence, and characters of one
_IMPLAUSIBLE = "implausible"  # kind of the notes of an evaluation whose truth seems wrong

_CAUSES = {
    Outcome.NO_FACE: ("no face was found", "set `fallback: frame` to take hands without a face, or look at why"),
    Outcome.NO_HAND: ("no hand was found near the face", "look at them; `quality: best` finds more hands"),
    Outcome.APART: (
        "no hand touches the square around a face",
        "set `fallback: wider` or a larger `crop_coefficient`, which takes seconds",
    ),
}
_REPAIRS = {
    Outcome.MISSING: ("not in the source", "put them there, or take them out of the labels, and run again"),
    Outcome.UNREADABLE: ("not readable", "replace the files, and run again with `retry_failed: true`"),
    Outcome.FAILED: ("lost to an error of detection", "see the reasons, and run again with `retry_failed: true`"),
}


@dataclass(frozen=True)
class Finding:
    """Something to know about a training set.

    Attributes
    ----------
    severity
        0 to 1: how much of the set it may spoil. Findings are shown worst first.
    text
        A sentence with its number.
    remedy
        What to do, a phrase that follows a colon; empty if there is nothing to do.
    anchor
        The id of the section of the report that shows more; None if there is none.
    """

    severity: float
    text: str
    remedy: str = ""
    anchor: str | None = None


def judge_set(
    facts: SetFacts,
    evaluation: Evaluation | None = None,
    doubt: pd.DataFrame | None = None,
    labels: pd.DataFrame | None = None,
    unseen: Counter[str] | None = None,
    seen: int = 0,
    *,
    reviewed: Evaluation | None = None,
) -> list[Finding]:
    """Judge a training set.

    Parameters
    ----------
    facts
        What `summary.describe_set` returned.
    evaluation
        What `evaluation.evaluate_run` returned, if there is truth.
    doubt
        What `doubt.score_doubt` returned.
    labels
        What `label_check.check_labels` returned.
    unseen, seen
        Why frames that the report was to show could not be read, with the number of frames; and how many could be.
    reviewed
        The samples before people decided, compared with what they decided.

    Returns
    -------
    list of Finding
        At most `MOST`, the worst first. If nothing is wrong, one says so.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> from detectime.report.summary import describe_set
    >>> run = open_run("out")  # doctest: +SKIP
    >>> print(judge_set(describe_set(run, run.outcomes))[0].text)  # doctest: +SKIP
    4 of 6 classes have one group, a video or person (like, mute, ok and 1 more): they cannot be split
    """
    if not facts.samples:
        return [_judge_nothing(facts)]
    gestures = facts.classes[facts.classes["class_name"] != NO_GESTURE]  # negatives need no hand
    found = [
        *_judge_files(facts),
        *_judge_classes(gestures),
        *_judge_losses(facts, gestures),
        *_judge_other_hands(facts),
        *_judge_left_out(facts),
        *_judge_turned(facts),
        *_judge_truth(evaluation),
        *_judge_doubt(facts, doubt),
        *_judge_labels(labels),
        *_judge_groups(facts),
        *_judge_split(facts),
        *_judge_decisions(facts),
        *_judge_reviewed(reviewed),
        *_judge_pictures(facts, unseen or Counter(), seen),
    ]
    found.sort(key=lambda finding: -finding.severity)
    if not found:
        least = int(facts.classes["groups"].min())
        text = f"Nothing stands out: each of {len(facts.classes):,} classes has samples of at least {least:,} groups"
        return [Finding(0.0, text, "look at the samples below before you trust them", "samples")]
    return found[:MOST]


def _judge_nothing(facts: SetFacts) -> Finding:
    if not facts.frames:
        return Finding(1.0, *_judge_no_frames(facts))
    outcome, count = max(facts.outcomes.items(), key=lambda item: item[1])
    cause, remedy = _find_cause(outcome, facts)
    text = f"None of {format_count(facts.frames, 'frame')} gave a sample; {count:,} {_are(count)} {outcome}: {cause}"
    return Finding(1.0, text, remedy, "without")


def _find_cause(outcome: Outcome, facts: SetFacts) -> tuple[str, str]:
    """Return why frames have an outcome, and what to do."""
    limits = {
        Outcome.NO_FACE: ("face", "min_face_score", facts.min_face_score),
        Outcome.NO_HAND: ("hand", "min_hand_score", facts.min_hand_score),
    }
    what, key, limit = limits.get(outcome, ("", "", None))
    if limit is not None:
        return f"no {what} with a score of {limit:g} was found", f"lower `{key}`, which takes seconds, or look at why"
    return {**_CAUSES, **_REPAIRS}.get(outcome, (outcome.sentence.rstrip("."), "see the frames below"))


def _judge_no_frames(facts: SetFacts) -> tuple[str, str]:
    negatives = count_negatives(facts)
    if negatives and negatives == sum(facts.left_out.values()):
        text = f"All {format_count(negatives, 'frame')} are of {NO_GESTURE}, and a gesture is wanted"
        return text, f"add frames of gestures; with {NO_GESTURE} in `classes` these frames are taken too"
    return "No frame is wanted: the run has no frames of its classes", "see `classes` and `limit`"


def _judge_files(facts: SetFacts) -> Iterator[Finding]:
    if facts.has_stale_files:
        text = "hands.json is older than the decisions or detections that this page shows"
        yield Finding(0.99, text, "`detectime pair` writes it again")
    for outcome in _BROKEN:
        count = facts.outcomes.get(outcome, 0)
        if count:
            what, remedy = _REPAIRS[outcome]
            text = f"{format_count(count, 'frame')} of {facts.frames:,} {_are(count)} {what}"
            yield Finding(0.3 + 0.6 * count / facts.frames, text, remedy, "without")


def _judge_classes(classes: pd.DataFrame) -> Iterator[Finding]:
    empty = classes.loc[classes["samples"] == 0, "class_name"].tolist()
    if empty:
        text = f"{_count_of(len(empty), len(classes))} {_have(len(empty))} no sample: {_list_names(empty)}"
        yield Finding(0.95, text, "see the reasons, or take the class out of `classes`", "classes")
    single = classes.loc[classes["groups"] == 1, "class_name"].tolist()
    if single:
        cannot = "it cannot be split" if len(single) == 1 else "they cannot be split"
        what = f"one group, a video or person ({_list_names(single)})"
        text = f"{_count_of(len(single), len(classes))} {_have(len(single))} only {what}: {cannot}"
        each = _choose(len(single), "it", "each")
        remedy = f"record {each} in another video, or with another person"
        yield Finding(0.5 + 0.4 * len(single) / len(classes), text, remedy, "classes")
    pairs = int((classes["groups"] == 2).sum())
    if pairs:
        which = f"{_count_of(pairs, len(classes))} {_have(pairs)} only two groups"
        text = f"{which}: enough for train and test, not for a third part"
        yield Finding(0.1 + 0.2 * pairs / len(classes), text, "record more people", "classes")
    filled = classes[classes["samples"] > 0]
    if len(filled) == 1:
        text = f"All samples are of one class, {_name(filled.iloc[0])}: a classifier needs two"
        yield Finding(0.9, text, "add frames of other classes, or no_gesture", "classes")
    small = filled[filled["samples"] < _SMALL_CLASS].sort_values("samples", kind="stable")
    if len(small):
        names = [f"{name} {count:,}" for name, count in small[["class_name", "samples"]].itertuples(index=False)]
        text = f"{_count_of(len(small), len(classes))} {_have(len(small))} fewer than {_SMALL_CLASS} samples"
        yield Finding(
            0.2 + 0.05 * len(small) / len(classes),
            f"{text} ({_list_names(names)})",
            "record more, preferably with other people",
            "classes",
        )
    yield from _judge_balance(filled)
    yield from _judge_dominance(classes[classes["groups"] > 1])


def _judge_balance(classes: pd.DataFrame) -> Iterator[Finding]:
    if len(classes) < 2:
        return
    large, small = _find_largest(classes, classes["samples"]), _find_largest(classes, -classes["samples"])
    ratio = large["samples"] / small["samples"]
    if ratio >= _IMBALANCE:
        text = (
            f"{_name(large)} has {ratio:,.0f} times as many samples as {_name(small)} "
            f"({large['samples']:,} and {small['samples']:,})"
        )
        yield Finding(min(0.7, 0.1 * np.log2(ratio)), text, "add frames of the small class, or weight it", "classes")


def _judge_dominance(classes: pd.DataFrame) -> Iterator[Finding]:
    shares = classes["largest"] / classes["samples"]
    if len(shares) and shares.max() >= _DOMINANT:
        worst = _find_largest(classes, shares)
        text = f"{shares.max():.0%} of the samples of {_name(worst)} come from one of its {worst['groups']:,} groups"
        yield Finding(0.2 * shares.max(), _space_percent(text), "add other groups, or thin that one", "distributions")


def _judge_other_hands(facts: SetFacts) -> Iterator[Finding]:
    count = facts.other_hands
    if count >= max(_LEAST_FRAMES, _LEAST_SHARE * facts.samples):
        samples = format_count(facts.samples, "sample")
        text = f"{count:,} of {samples} {_have(count)} another hand near a face: it may be meant"
        yield Finding(0.2 + 0.5 * count / facts.samples, text, "look at them, and choose the hand", "notes")


def _judge_losses(facts: SetFacts, classes: pd.DataFrame) -> Iterator[Finding]:
    """Find the class that lost the largest share of its frames to each reason."""
    if classes.empty:
        return
    for outcome in _LOST:
        counts, (cause, remedy) = classes[outcome.value], _find_cause(outcome, facts)
        total = int(counts.sum())
        shares = counts / classes["frames"]
        worst = _find_largest(classes, shares)
        if shares.max() >= _LEAST_SHARE and worst[outcome.value] >= _LEAST_FRAMES:
            lost = f"{worst[outcome.value]:,} of {worst['frames']:,} frames"
            text = f"{_name(worst)}: {shares.max():.0%} {outcome}, {cause} in {lost}"
            severity = min(0.9, 0.6 * shares.max() + 0.6 * total / facts.frames)
        elif total >= max(_LEAST_FRAMES, _LEAST_SHARE * facts.frames):
            text = f"{total / facts.frames:.0%} of the frames are {outcome}: {cause} in {total:,} of {facts.frames:,}"
            severity = 1.2 * total / facts.frames
        else:
            continue
        yield Finding(min(0.9, severity), _space_percent(text), remedy, "without")


def _judge_left_out(facts: SetFacts) -> Iterator[Finding]:
    negatives = count_negatives(facts)
    others = sum(facts.left_out.values()) - negatives
    if negatives:
        text = f"{format_count(negatives, f'{NO_GESTURE} frame')} {_are(negatives)} left out: they are your negatives"
        remedy = f"add {NO_GESTURE} to `classes`, and export with `no_gesture: true`"
        yield Finding(0.15, text, remedy)
    if others:
        text = f"{format_count(others, 'frame')} {_are(others)} left out by `classes` or `limit`"
        share = others / (others + facts.frames)
        yield Finding(0.2 * share, text, "remove these limits to include them")


def _judge_turned(facts: SetFacts) -> Iterator[Finding]:
    if not facts.turned:
        return
    count = format_count(facts.turned, "frame")
    if facts.exif == "apply":
        text = f"{count} {_was(facts.turned)} turned upright by EXIF or a video's display matrix, with boxes to match"
        yield Finding(0.12, text, "read them upright too; exports are written upright")
    else:
        text = f"{count} {_are(facts.turned)} stored rotated or mirrored, and used like that"
        yield Finding(0.3 + 0.5 * facts.turned / facts.frames, text, "use `exif: apply`, and run again")


def _judge_truth(evaluation: Evaluation | None) -> Iterator[Finding]:
    if evaluation is None:
        return
    doubts = [note for note in evaluation.notes if note.kind == _IMPLAUSIBLE]
    if doubts:  # before anybody rejects right samples
        text = f"The annotations do not seem to fit these frames: {doubts[0]}"
        yield Finding(0.9, text.rstrip("."), "correct them before you believe the evaluation", "evaluation")
        return
    table = evaluation.measures
    row = table[(table["by"] == "all") & (table["measure"] == "precision")]
    if not len(row) or np.isnan(row["value"].iloc[0]):
        return
    value, low, high = row[["value", "low", "high"]].iloc[0].tolist()
    is_sample = evaluation.frames["is_sample"]
    count, wrong = int(is_sample.sum()), int((is_sample & ~evaluation.frames["is_correct"]).sum())
    if not wrong:
        yield Finding(0.05, _praise_samples(count, evaluation.compares_classes), "", "evaluation")
        return
    interval = "" if np.isnan(low) else f", 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    text = f"{wrong:,} of {format_count(count, 'annotated sample')} {_are(wrong)} wrong ({value:.1%} right{interval})"
    severity = min(0.95, 0.25 + 3 * (1 - value))
    yield Finding(severity, _space_percent(text), "look at them, and correct or reject them", "evaluation")


def _praise_samples(count: int, compares_classes: bool) -> str:
    if compares_classes:
        return _choose(count, "The only annotated sample is right", f"All {count:,} annotated samples are right")
    boxes = _choose(
        count, "The box of the only annotated sample is", f"The boxes of all {count:,} annotated samples are"
    )
    return f"{boxes} right; the annotations name no classes, so labels were not compared"


def _judge_doubt(facts: SetFacts, doubt: pd.DataFrame | None) -> Iterator[Finding]:
    count = 0 if doubt is None else int((doubt["doubt"] >= DOUBTFUL).sum())
    if count:
        text = f"{format_count(count, 'frame')} {_are(count)} doubtful"
        yield Finding(
            0.1 + 0.5 * count / facts.frames,
            text,
            _choose(count, "look at it first: its reasons are given", "look at them first: their reasons are given"),
            "doubt",
        )


def _judge_labels(labels: pd.DataFrame | None) -> Iterator[Finding]:
    count = 0 if labels is None else int(labels["contradicts"].sum())
    if count:
        text = f"{format_count(count, 'label')} {_are(count)} contradicted by the classifier of crops"
        share = count / len(labels) if labels is not None else 0
        yield Finding(0.2 + share, text, "look at them, and change the class of those that are wrong", "doubt")


def _judge_split(facts: SetFacts) -> Iterator[Finding]:
    """Find the part of the split that lacks most classes."""
    if not facts.lacking:
        return
    part, names = max(facts.lacking.items(), key=lambda item: len(item[1]))
    text = (
        f"{_count_of(len(names), len(facts.classes))} {_have(len(names))} no samples in {part} ({_list_names(names)})"
    )
    severity = 0.4 + 0.4 * len(names) / len(facts.classes)
    yield Finding(
        severity, text, "record them in other videos or with other people, or split into fewer parts", "split"
    )


def _judge_groups(facts: SetFacts) -> Iterator[Finding]:
    """Find frames of which nobody knows who is in them."""
    count = sum(note.count for note in facts.notes if note.kind == NO_GROUPS)
    if count:
        text = (
            f"Nothing says who is in {format_count(count, 'file')}, so that a split cannot know who is who, and may "
            "put one person into several parts"
        )
        remedy = "put the files of each person into a folder of their own below that of the class, or set `group_by`"
        yield Finding(0.7, text, remedy, "classes")


def _judge_decisions(facts: SetFacts) -> Iterator[Finding]:
    count = facts.contradictions
    if count:
        text = f"People disagree on {format_count(count, 'frame')}: the latest decision counts"
        yield Finding(0.2 + 0.5 * count / facts.frames, text, "look at them together", "decisions")


def _judge_reviewed(evaluation: Evaluation | None) -> Iterator[Finding]:
    if evaluation is None or not evaluation.frames["is_sample"].any():
        return
    is_sample = evaluation.frames["is_sample"]
    count, wrong = int(is_sample.sum()), int((is_sample & ~evaluation.frames["is_correct"]).sum())
    samples, were = format_count(count, "sample"), _choose(wrong, "was", "were")
    text = f"Of {samples} that people looked at, {wrong:,} {were} wrong before"
    yield Finding(0.22, text, "expect the same of the others, if they were chosen at random", "evaluation")


def _judge_pictures(facts: SetFacts, unseen: Counter[str], seen: int) -> Iterator[Finding]:
    count = unseen.total()
    if not count:
        return
    ((reason, _),) = unseen.most_common(1)
    if not seen:
        text = f"None of {format_count(count, 'frame')} that this page was to show can be read: {reason}"
        remedy = f"make {facts.images} reachable to see them, or say where they are with `detectime relocate`"
        yield Finding(0.6, text, f"{remedy}; boxes and counts are valid without")
        return
    text = f"{count:,} of {format_count(count + seen, 'frame')} on this page cannot be shown: {reason}"
    yield Finding(
        0.3 + 0.6 * count / (count + seen), text, "run again: frames that changed are detected anew", "samples"
    )


def _find_largest(classes: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Return the first row with the largest value."""
    return classes.iloc[int(np.argmax(values.to_numpy()))]


def _name(row: pd.Series) -> str:
    return _shorten(str(row["class_name"]))


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def _list_names(names: Sequence[str]) -> str:
    shown = ", ".join(map(_shorten, names[:_SHOWN_NAMES]))
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES:,} more"


def _count_of(number: int, total: int) -> str:
    if total == 1:
        return "The only class"
    if number == total == 2:
        return "Both classes"
    return f"All {total:,} classes" if number == total else f"{number:,} of {total:,} classes"


def _choose(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def _are(number: int) -> str:
    return _choose(number, "is", "are")


def _was(number: int) -> str:
    return _choose(number, "was", "were")


def _have(number: int) -> str:
    return _choose(number, "has", "have")


def _space_percent(text: str) -> str:
    return text.replace("%", " %").replace("  %", " %")
