"""Evaluation of a run against annotated hands: how good its samples are, and how sure that is.

The frames that count are those that are wanted and annotated. An annotated hand is a *target* if it shows the class of
its frame, and a sample is correct if its `hand` has an IoU of at least `CORRECT` with a target. All intervals hold 95 %
of the values that the measure takes if groups (`video_name`) are drawn at random: see `resampling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from detectime import pairing, resampling
from detectime.evaluation import average_precision, measures
from detectime.evaluation.annotated_frames import (
    CORRECT,
    Really,
    RunBoxes,
    collect_boxes,
    find_best_iou,
    find_rows,
    judge_frames,
)
from detectime.evaluation.average_precision import FrameBoxes, Ranking
from detectime.notes import Note, note_found
from detectime.paths import format_install
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES, Outcome
from detectime.truth import Truth
from detectime.truth.contract import HAND

_BINS = 20
_FEW_GROUPS = 10
_LEAST_HANDS = 10  # annotated ones, from which on truth is judged
_FEW_FOUND = 0.1  # of annotated hands that are detected: below it, truth may be wrong
_IMPLAUSIBLE = "implausible"  # kind of a note: see `report.verdict`


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good the samples of a run are, measured on its annotated frames.

    Attributes
    ----------
    frames
        One row per frame that counts, in the order of the frame table:

        - `frame_path`, `group` (its `video_name`), `class_name`, `outcome`, and `is_sample` (bool);
        - `iou` (float64): of the sample with the best target; 0 without a target, NaN without a sample;
        - `is_correct` (bool): whether `iou` is at least `CORRECT`;
        - `true_hands` (int64), annotated hands, and `target_hands`, those that show the class of the frame;
        - `found_hands` (int64): annotated hands with which a detected hand has an IoU of at least `CORRECT`, before
          pairing: every hand in the detections table counts, whatever its score and stage;
        - `true_faces` and `found_faces` (int64): the same of faces;
        - `best_iou` (float64): the largest of a detected hand with a target; 0 without a detected hand, NaN without a
          target;
        - `face_size`: one of `measures.FACE_SIZES`;
        - `really`: the name of a `Really`.
    measures
        One row per measure of all frames (`by` is ``all``, `name` too), of those of a class (``class``), and of those
        with a size of the face (``face size``). `frames` and `groups` count all that the row is about, `total` what the
        measure is a share of, and `low` and `high` are its interval, NaN if fewer than two groups have any of it:

        - ``correct``: correct samples / frames with a target. A frame without one is not among them;
        - ``precision``: correct samples / samples;
        - ``mean_iou``: the mean of `iou` over all samples, also the wrong ones;
        - ``hand_recall``: `found_hands` / `true_hands`; and ``face_recall``, if any face is annotated;
        - ``ap50`` and ``ap``: average precision of the samples, ranked by `hand_score` (a box that a person drew comes
          first), against all targets: see `average_precision.compute_ap`. A frame has one sample, so the second target
          of a frame is always missed. `total` is the number of targets;
        - ``hands_ap50`` and ``hands_ap``: that of all detected hands, ranked by score, against all annotated hands, if
          the annotations list all hands.
    iou_counts
        `samples` by IoU: one row per twentieth, from `low` up to, but without, `high`; the last one holds 1 too.
    really
        Number of frames: one row per outcome that occurs, one column per `Really`.
    origin
        Of the annotations.
    notes
        What the measures lack, and how far to trust them; findings about the annotations are in those of the truth.
    rankings
        What average precision ranks, by `measures.RANKINGS`; frames have the numbers of the rows of `frames`.
    compares_classes
        Whether the annotations name classes; otherwise only boxes are compared, and a sample may have a wrong label.
    """

    frames: pd.DataFrame = field(repr=False)
    measures: pd.DataFrame = field(repr=False)
    iou_counts: pd.DataFrame = field(repr=False)
    really: pd.DataFrame = field(repr=False)
    origin: str
    notes: tuple[Note, ...] = ()
    rankings: Mapping[str, Ranking] = field(default_factory=dict, repr=False)
    compares_classes: bool = True

    def list_worst(self, most: int) -> pd.DataFrame:
        """Return the worst frames: wrong samples, then frames whose hand has no sample, then the least exact boxes.

        Wrong samples and boxes come by `iou`, the smallest first; frames without a sample by `best_iou`, the largest
        first. Each kind has the worst frame of every group before the second of any.

        Parameters
        ----------
        most
            Number of rows at most. Frames that rightly have no sample are never among them.
        """
        frames = self.frames
        is_lost = (~frames["is_sample"] & (frames["target_hands"] > 0)).to_numpy()
        kind = np.select([frames["is_sample"] & ~frames["is_correct"], is_lost, frames["is_correct"]], [0, 1, 2], 3)
        rank = np.where(is_lost, -frames["best_iou"], frames["iou"])
        order = pd.DataFrame({"kind": kind, "rank": rank, "group": frames["group"].to_numpy()})
        order = order[order["kind"] < 3].sort_values("rank", kind="stable")
        order["turn"] = order.groupby(["kind", "group"]).cumcount()
        return frames.iloc[order.sort_values(["kind", "turn", "rank"], kind="stable").index[:most]]


def evaluate_run(run: FinishedRun, truth: Truth, samples: pd.DataFrame | None = None) -> Evaluation:
    """Evaluate the samples of a run, and what it detected, against annotated hands.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    truth
        What `truth.read_truth` returned. What people decided, `truth.read_reviewed`, judges only the samples before
        the decisions: pass ``pairing.pair_frames(run.frames, run.detections, run.pairing)``.
    samples
        The outcomes to evaluate, of frames of this run; None: its `outcomes`.

    Returns
    -------
    Evaluation
        Average precision is there only if hotcoco, of the extra ``evaluate``, is installed; otherwise a note says so.

    Raises
    ------
    RunError
        If `samples` is None and the outcomes are out of date, or the tables cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> from detectime.truth import read_truth
    >>> run = open_run("output")  # doctest: +SKIP
    >>> evaluation = evaluate_run(run, read_truth(run, "truth.json"))  # doctest: +SKIP
    >>> evaluation.measures.query("by == 'all'")  # doctest: +SKIP
    """
    if samples is None:
        run.check_paired()
        samples = run.outcomes
    is_annotated = find_rows(samples["frame_path"], truth.frames) >= 0
    counted = samples[is_annotated & samples["wanted"].to_numpy(bool)].reset_index(drop=True)
    found = collect_boxes(run, truth, counted)
    frames = judge_frames(counted, found)
    rankings = _rank_boxes(found, len(frames), truth.lists_all_hands) if average_precision.has_hotcoco() else {}
    classes = counted.sort_values("label", kind="stable")["class_name"].unique().tolist()
    table = measures.measure_frames(frames, classes, rankings)
    return Evaluation(
        frames=frames,
        measures=table,
        iou_counts=_count_iou(frames["iou"]),
        really=_count_really(frames),
        origin=truth.origin,
        notes=(*_note_implausible(frames, found, truth), *_note_measures(frames, rankings), *_note_certain(table)),
        rankings=rankings,
        compares_classes=truth.names_classes,
    )


def _count_iou(iou: pd.Series) -> pd.DataFrame:
    """Return `Evaluation.iou_counts`."""
    limits = np.arange(_BINS + 1) / _BINS
    counts, _ = np.histogram(iou.dropna(), limits)
    return pd.DataFrame({"low": limits[:-1], "high": limits[1:], "samples": counts})


def _count_really(frames: pd.DataFrame) -> pd.DataFrame:
    """Return `Evaluation.really`."""
    counts = pd.crosstab(frames["outcome"], frames["really"])
    outcomes = [outcome.value for outcome in Outcome if outcome.value in counts.index]
    kinds = [kind.value for kind in Really]
    return counts.reindex(index=outcomes, columns=kinds, fill_value=0).rename_axis(index="outcome", columns="really")


def _rank_boxes(found: RunBoxes, count: int, lists_all_hands: bool) -> dict[str, Ranking]:
    """Return `Evaluation.rankings`."""
    scores = np.where(np.isnan(found.sample_scores), np.inf, found.sample_scores)
    rankings = {"samples": Ranking(found.samples, scores, found.get_targets(), count)}
    if lists_all_hands:
        rankings["hands"] = Ranking(found.found_hands, found.found_scores, found.hands, count)
    return rankings


def _note_measures(frames: pd.DataFrame, rankings: Mapping[str, Ranking]) -> list[Note]:
    """Note what the measures lack."""
    if frames.empty:
        return [Note("not_evaluated", 1, "None of the annotated frames is wanted: nothing is measured")]
    notes = note_found(
        "no_target",
        frames["frame_path"][frames["target_hands"] == 0].tolist(),
        "frame has no annotated hand of its class: a sample of it is wrong, and it is not among those of `correct`",
        "frames have no annotated hand of their class: a sample of them is wrong, and they are not among those of "
        "`correct`",
    )
    if not rankings:
        text = (
            f"Average precision is left out: it needs hotcoco, of the extra `evaluate` ({format_install('evaluate')})"
        )
        notes.append(Note("no_ap", 1, text))
    return [*notes, *_note_groups(frames["group"].nunique()), *_note_classes(frames, rankings)]


def _note_implausible(frames: pd.DataFrame, found: RunBoxes, truth: Truth) -> list[Note]:
    """Note annotations that seem to be wrong: nearly all hands elsewhere, or of other classes than the frames."""
    hands, annotated = len(found.hands.frame), frames["true_hands"] > 0
    if hands < _LEAST_HANDS:
        return []
    if frames["found_hands"].sum() < _FEW_FOUND * hands:
        has_found = np.isin(frames.index[annotated], found.found_hands.frame)
        return _note_elsewhere(hands) if has_found.mean() > 0.5 else []  # a detector that finds nothing proves nothing
    is_wrong = annotated & ((frames["target_hands"] == 0) | (frames["really"] == Really.WRONG_CLASS))
    if is_wrong.sum() <= annotated.sum() / 2:
        return []
    return [Note(_IMPLAUSIBLE, int(is_wrong.sum()), _describe_confusion(frames[is_wrong], truth))]


def _note_elsewhere(hands: int) -> list[Note]:
    text = (
        "The annotated hands are nowhere near the detected ones: boxes of other frames or of another size, or x, y, "
        "width and height instead of corners?"
    )
    return [Note(_IMPLAUSIBLE, hands, text)]


def _describe_confusion(frames: pd.DataFrame, truth: Truth) -> str:
    """Say which class is annotated on frames of which other class most often."""
    classes = frames.set_index("frame_path")["class_name"]
    boxes = truth.boxes[(truth.boxes["kind"] == HAND) & ~truth.boxes["is_target"].to_numpy(bool)]
    boxes = boxes[boxes["label"] != ""].drop_duplicates(["frame_path", "label"])
    pairs = pd.DataFrame({"label": boxes["label"].to_numpy(), "name": classes.reindex(boxes["frame_path"]).to_numpy()})
    counts = pairs.dropna().value_counts()
    if counts.empty:
        return "Most hands are annotated with another class than that of their frame."
    (label, name), count = counts.index[0], int(counts.iloc[0])
    return (
        f"The class {label!r} is annotated on {count:,} {'frame' if count == 1 else 'frames'} of {name!r}: is the "
        "order of the class names that of the annotations?"
    )


def _note_certain(table: pd.DataFrame) -> list[Note]:
    """Note that no draw has an error, or that none has anything right: by the rule of three, a few other groups may."""
    table = table[table["by"] == "all"]
    return [
        *_note_unanimous("perfect", table[table["low"] == 1], "no error", "one"),
        *_note_unanimous("all_wrong", table[table["high"] == 0], "nothing right", "something right"),
    ]


def _note_unanimous(kind: str, rows: pd.DataFrame, what: str, other: str) -> list[Note]:
    if rows.empty:
        return []
    count, groups = len(rows), int(rows["groups"].iloc[0])
    have = "measure has" if count == 1 else "measures have"
    text = (
        f"{have} {what} in any of {groups:,} groups ({', '.join(map(measures.name_measure, rows['measure']))}): the "
        f"interval has no width, but up to {100 * min(3 / groups, 1):.1f} % of other groups may have {other}"
    )
    return [Note(kind, count, text)]


def _note_groups(count: int) -> list[Note]:
    """Note that there are too few groups for intervals, or more than are drawn one by one."""
    if count == 1:
        text = "All annotated frames are of one video (`video_name`): that says nothing about others, so no interval"
        return [Note("one_group", 1, text)]
    if 1 < count < _FEW_GROUPS:
        return [Note("few_groups", count, "videos (`video_name`) are annotated: intervals over so few are too narrow")]
    if count > resampling.MOST_GROUPS:
        return [Note("bundles", count, f"groups were drawn in {resampling.MOST_GROUPS:,} bundles of whole groups")]
    return []


def _note_classes(frames: pd.DataFrame, rankings: Mapping[str, Ranking]) -> list[Note]:
    """Note that classes have no average precision of their own."""
    count = frames["class_name"].nunique()
    if not rankings or count <= measures.MOST_CLASSES:
        return []
    text = f"classes have no average precision of their own: there are more than {measures.MOST_CLASSES}"
    return [Note("many_classes", count, text)]


def compare_evaluations(a: Evaluation, b: Evaluation) -> pd.DataFrame:
    """Compare two evaluations on the frames that both have, such as of two runs, or of two settings of one.

    Parameters
    ----------
    a, b
        What `evaluate_run` returned, with the same annotations.

    Returns
    -------
    DataFrame
        One row per measure of all frames that both evaluations have:

        - `measure`, and `frames` and `groups`, the numbers of what is compared;
        - `a` and `b` (float64), the values for these frames, and `difference`, by how much `b` is larger;
        - `low` and `high`: its 95 % interval. Each draw has the same groups for both, so that what makes a group hard
          for both does not widen it. NaN if fewer than two groups have any of what the measure is a share of.
    """
    return measures.compare_frames(a.frames, b.frames, a.rankings, b.rankings)


def compute_best_iou(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Compute the largest IoU of each sample's hand with an annotated hand of its frame.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned. The `hand` is compared, never an enlarged `bbox`.
    truth
        What `truth.read_truth_json` or `truth.extract_truth` returned.

    Returns
    -------
    Series
        float64, with the index of `samples`; NaN where there is no sample.

    Examples
    --------
    >>> hand = {"hand_x1": 0.0, "hand_y1": 0.0, "hand_x2": 10.0, "hand_y2": 10.0}
    >>> samples = pd.DataFrame([{"frame_path": "a.jpg", "outcome": "paired", **hand}])
    >>> truth = pd.DataFrame([{"frame_path": "a.jpg", "x1": 0, "y1": 0, "x2": 10, "y2": 8}])
    >>> compute_best_iou(samples, truth).tolist()
    [0.8]
    """
    is_sample = samples["outcome"].isin(SAMPLES).to_numpy()
    paths = [samples["frame_path"].to_numpy(object)[is_sample], truth["frame_path"].to_numpy(object)]
    numbers, _ = pd.factorize(np.concatenate(paths))
    own = FrameBoxes(numbers[: len(paths[0])], pairing.get_boxes(samples, "hand")[is_sample])
    best = np.full(len(samples), np.nan)
    others = FrameBoxes(numbers[len(paths[0]) :], truth[list(CORNERS)].fillna(0).to_numpy(np.float64))
    best[is_sample] = find_best_iou(own, others)
    return pd.Series(best, index=samples.index, name="iou")


def score_samples(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Compute recall, precision and mean IoU per class and in total, without intervals.

    Only wanted frames with truth count; without a sample they count as missed, also if they have no hand: `recall` is
    ``correct`` of `evaluate_run` only if every frame has one.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    truth
        What `truth.read_truth_json` or `truth.extract_truth` returned.

    Returns
    -------
    DataFrame
        One row per class and a last row ``all``:

        - `frames`: number of frames, and `samples`: how many of them have a sample;
        - `correct`: samples with an IoU of at least `CORRECT`, and `wrong`: the other samples;
        - `recall`: correct / frames, and `precision`: correct / samples;
        - `mean_iou` of all samples, including wrong ones.

    Examples
    --------
    >>> hand = {"hand_x1": 0.0, "hand_y1": 0.0, "hand_x2": 10.0, "hand_y2": 10.0}
    >>> label = {"label": 4, "class_name": "ok", "wanted": True}
    >>> samples = pd.DataFrame([{"frame_path": "a.jpg", "outcome": "paired", **label, **hand}])
    >>> truth = pd.DataFrame([{"frame_path": "a.jpg", "x1": 0, "y1": 0, "x2": 10, "y2": 8}])
    >>> score_samples(samples, truth).loc["all", ["frames", "correct", "mean_iou"]].to_list()
    [1.0, 1.0, 0.8]
    """
    counted = samples["wanted"] & samples["frame_path"].isin(truth["frame_path"])
    rows = samples.loc[counted, ["label", "class_name"]].assign(iou=compute_best_iou(samples[counted], truth))
    classes = {name: group["iou"] for (_, name), group in rows.groupby(["label", "class_name"])}
    scores = {name: _summarize_iou(iou) for name, iou in {**classes, "all": rows["iou"]}.items()}
    counts = dict.fromkeys(("frames", "samples", "correct", "wrong"), "int64")
    return pd.DataFrame(scores).T.astype(counts).rename_axis("class_name")


def _summarize_iou(iou: pd.Series) -> dict[str, float]:
    """Return the scores of frames, whose IoU is NaN where there is no sample."""
    sampled = iou.dropna()
    correct = int((sampled >= CORRECT).sum())
    return {
        "frames": len(iou),
        "samples": len(sampled),
        "correct": correct,
        "wrong": len(sampled) - correct,
        "recall": correct / len(iou) if len(iou) else np.nan,
        "precision": correct / len(sampled) if len(sampled) else np.nan,
        "mean_iou": sampled.mean(),
    }
