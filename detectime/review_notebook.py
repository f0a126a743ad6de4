"""What notebook 03 calls in its kernel: its parameters, checked, and what it says about doubt and decisions."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from IPython.display import display
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import notebook
from detectime.comparison import Comparison, format_comparison
from detectime.config import make_absolute
from detectime.doubt import Reason
from detectime.errors import ConfigError
from detectime.evaluation import Evaluation, evaluate_run
from detectime.notebook_parameters import describe_changes, find_output, list_values, read_settings
from detectime.notes import format_count
from detectime.outcomes import summarize_samples
from detectime.report import measured
from detectime.report.verdict import DOUBTFUL
from detectime.runs import FinishedRun
from detectime.settings import CHECKED, Count
from detectime.storage import urls
from detectime.truth import Truth
from detectime.truth.formats import check_format
from detectime.widgets import Review
from detectime.widgets.review_queue import ReviewQueue

_SHOWN = 12  # frames in the table of doubtful ones
_MOST_REASONS = 3  # sentences of one
_SENTENCES = {reason.value: reason.sentence for reason in Reason}
_NOBODY = "Nobody has decided on a frame yet."
_JUDGE = f"{_NOBODY} Judge frames in the review above, then run the cells from here on again."
_GO_BACK = f"{_NOBODY} Scroll up to the review, judge frames, then run the cells below it again."


@checked_dataclass(frozen=True, config=CHECKED)
class ReviewSettings:
    """The settings of notebook 03.

    Attributes
    ----------
    output
        The folder of the run; empty: `load_settings` finds it.
    reviewer, by, sample, seed
        See `widgets.Review`.
    truth, truth_format
        See `truth.read_truth`.
    check_labels
        Whether a network checks the class of each sample: see `label_check.check_labels`.
    workers
        Processes that read frames for that; None: one per core.
    """

    output: str = ""
    reviewer: str | None = None
    by: Literal["doubt", "random"] | None = None
    sample: Count | None = None
    seed: int = 0
    truth: str | None = None
    truth_format: str | None = None
    check_labels: bool = False
    workers: Count | None = None


def start_notebook(names: Mapping[str, Any], cells: Sequence[str]) -> ReviewSettings:
    """Read the parameters of notebook 03 and show them; see `notebook.prepare_kernel` for what else is done.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Raises
    ------
    ConfigError, DecisionError, TruthError
        As `load_settings`.

    Examples
    --------
    >>> start_notebook({"sample": 200}, ["sample = 200"]).sample  # doctest: +SKIP
    200
    """
    notebook.prepare_kernel()
    settings = load_settings(names, cells)
    notebook.show_facts(_list_facts(settings), list_values(settings))
    return settings


def load_settings(names: Mapping[str, Any], cells: Sequence[str]) -> ReviewSettings:
    """Return the settings that the parameters of notebook 03 describe; None means the default.

    Without `output`, it is the run that the project's ``config.yml`` names or, if there is none, that of the rendered
    sample. Relative paths are relative to `paths.find_base`.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Raises
    ------
    ConfigError
        If a parameter is unknown, a value is not accepted, or there is no run, or no truth where it should be.
    DecisionError
        If the name of the reviewer is empty or not text.
    TruthError
        If there is no such format of truth.

    Examples
    --------
    >>> settings = load_settings({"output": "/runs/out", "sample": 200}, [])
    >>> settings.output, settings.sample, settings.by
    ('/runs/out', 200, None)
    """
    settings = read_settings(ReviewSettings, names, cells)
    settings = dataclasses.replace(settings, output=find_output(settings.output))
    check_format(settings.truth_format)
    if settings.truth is None:
        return settings
    place = make_absolute(settings.truth, None)
    if not urls.is_remote(place) and not os.path.exists(urls.strip_file_scheme(place)):
        raise ConfigError(
            f"truth = {settings.truth!r}: there is no such file or folder; accepted: annotations, or None"
        )
    return dataclasses.replace(settings, truth=place)


def describe_doubt(doubt: pd.DataFrame) -> str:
    """Say how many frames are doubtful.

    Parameters
    ----------
    doubt
        What `doubt.score_doubt` returned.

    Examples
    --------
    >>> doubt = pd.DataFrame({"doubt": [0.7, 0.2, 0.0, float("nan")], "reasons": ["jump", "jump", "", ""]})
    >>> print(describe_doubt(doubt))
    1 of 3 frames is doubtful (a doubt of 0.5 or more); there is a reason to look at 2.
    """
    values = doubt["doubt"].to_numpy(np.float64)
    count, frames, reasons = int((values >= DOUBTFUL).sum()), int((~np.isnan(values)).sum()), doubt["reasons"] != ""
    are = "is" if count == 1 else "are"
    return (
        f"{count:,} of {frames:,} frames {are} doubtful (a doubt of {DOUBTFUL:g} or more); there is a reason to look "
        f"at {int((reasons & (values >= 0)).sum()):,}."
    )


def list_doubtful(doubt: pd.DataFrame, samples: pd.DataFrame, most: int = _SHOWN) -> pd.DataFrame:
    """List the most doubtful frames with their reasons.

    Parameters
    ----------
    doubt
        What `doubt.score_doubt` returned.
    samples
        The outcomes of the run, row by row.
    most
        Number of rows at most.

    Returns
    -------
    DataFrame
        `doubt`, `frame_path`, `class_name`, `outcome`, and `reasons`: up to three sentences. Frames without a reason
        are not among them.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a", "b"], "class_name": "ok", "outcome": "paired"})
    >>> doubt = pd.DataFrame({"frame_path": ["a", "b"], "doubt": [0.2, 0.0], "reasons": ["close_second", ""]})
    >>> list_doubtful(doubt, samples).values.tolist()
    [[0.2, 'a', 'ok', 'paired', 'Another hand was almost chosen.']]
    """
    chosen = doubt.reset_index(drop=True).query("doubt > 0 and reasons != ''")
    chosen = chosen.sort_values("doubt", ascending=False, kind="stable").head(most)
    rows = samples.reset_index(drop=True).loc[chosen.index, ["frame_path", "class_name", "outcome"]]
    rows.insert(0, "doubt", chosen["doubt"].round(2))
    return rows.assign(reasons=[_list_sentences(names) for names in chosen["reasons"]])


def show_doubtful(doubt: pd.DataFrame, samples: pd.DataFrame) -> None:
    """Say how many frames are doubtful, and show the most doubtful ones as a table: see `list_doubtful`.

    Examples
    --------
    >>> show_doubtful(doubt, run.outcomes)  # doctest: +SKIP
    """
    print(describe_doubt(doubt))
    for note in doubt.attrs.get("notes", ()):
        print(f"- {note}")
    _show_table(list_doubtful(doubt, samples))


def describe_decisions(run: FinishedRun) -> str:
    """Say what people decided, and how many of their decisions count.

    Parameters
    ----------
    run
        The run, paired.

    Examples
    --------
    >>> print(describe_decisions(run))  # doctest: +SKIP
    27 decisions on 25 frames by anna and ben. They count for 24 frames: 12 paired, 8 corrected, 4 rejected.
    """
    merged = run.decisions
    if not len(merged):
        return _JUDGE
    people = sorted({decision.reviewer for decision in merged.decisions})
    names = people[0] if len(people) == 1 else f"{', '.join(people[:-1])} and {people[-1]}"
    outcomes = run.outcomes
    outcome = outcomes.loc[outcomes["decision"].notna(), "outcome"]
    counts = outcome.value_counts()
    found = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return (
        f"{format_count(len(merged.decisions), 'decision')} on {format_count(len(merged), 'frame')} by {names}. "
        f"They count for {format_count(len(outcome), 'frame')}{f': {found}' if found else ''}."
    )


def count_decisions(run: FinishedRun) -> pd.DataFrame:
    """Count the decisions of each person, by what they say; those that were undone are not among them.

    Returns
    -------
    DataFrame
        int64: one row per person, one column per action that occurs, and `all`.

    Examples
    --------
    >>> count_decisions(run)  # doctest: +SKIP
    """
    made = [(decision.reviewer, decision.action) for decision in run.decisions.decisions]
    table = pd.DataFrame(made, columns=["reviewer", "action"])
    counts = pd.crosstab(table["reviewer"], table["action"]).rename_axis(columns=None)
    return counts.assign(all=counts.sum(axis=1))


def show_decisions(run: FinishedRun) -> None:
    """Say what people decided, and show who decided what; without decisions, say what to do.

    Parameters
    ----------
    run
        The run, paired.

    Examples
    --------
    >>> show_decisions(run)  # doctest: +SKIP
    """
    print(describe_decisions(run))
    if len(run.decisions):
        _show_table(count_decisions(run).reset_index())


def judge_samples(run: FinishedRun) -> pd.DataFrame:
    """Return the samples that people judged, as they were shown, and whether they were right.

    Parameters
    ----------
    run
        The run.

    Returns
    -------
    DataFrame
        `frame_path`, `video_name`, `label` and `class_name` as in the labels, and `verdict`: ``right`` or ``wrong``,
        see `review_queue.ReviewQueue`. Frames that had no sample when they were judged are left out.

    Raises
    ------
    RunError, StoreError
        If tables or decisions of the run cannot be read.

    Examples
    --------
    >>> judge_samples(run)["verdict"].value_counts()  # doctest: +SKIP
    """
    samples, decisions = run.outcomes.reset_index(drop=True), run.decisions.decisions
    decided = samples["frame_path"].isin({decision.frame_path for decision in decisions}).to_numpy()
    queue = ReviewQueue(samples, np.flatnonzero(decided), decisions)
    paths = samples.loc[decided, "frame_path"]
    labelled = run.frames.set_index("frame_path")[["video_name", "label", "class_name"]]
    rows = labelled.loc[paths].reset_index().assign(verdict=np.where(queue.verdicts == 1, "right", "wrong"))
    judged: pd.DataFrame = rows[~np.isnan(queue.verdicts)].reset_index(drop=True)
    return judged


def describe_precision(review: Review) -> list[str]:
    """Say how many of the samples that people judged were right, and what that says about the others.

    Parameters
    ----------
    review
        The review of the run.

    Examples
    --------
    >>> print(*describe_precision(review), sep="\\n")  # doctest: +SKIP
    10 of 38 samples that people judged were right as they were.
    """
    verdicts = judge_samples(review.run)["verdict"]
    if verdicts.empty:
        return [_JUDGE if not len(review.run.decisions) else "Nobody has judged a sample yet."]
    right = int((verdicts == "right").sum())
    were = "was" if right == 1 else "were"
    sentences = [f"{right:,} of {format_count(len(verdicts), 'sample')} that people judged {were} right."]
    if review.by != "random":
        advice = (
            "Doubtful samples are wrong more often than others: how good all are, a random choice tells, sample = 200."
        )
        return [*sentences, advice]
    found = review.queue.measure_precision(is_random=True)
    if not found.judged:
        return [*sentences, f"{review.reviewer} has not judged the first of those drawn at random yet."]
    share, low, high = (100 * value for value in (found.value, found.low, found.high))
    return [
        *sentences,
        f"Of the first {found.judged:,} of {len(review.queue):,} drawn at random, {share:.0f} % are right, says "
        f"{review.reviewer}. Of all samples of the run, between {low:.0f} and {high:.0f} % are (95 % interval).",
    ]


def tabulate_measures(evaluation: Evaluation) -> pd.DataFrame:
    """Return the measures of all frames as they are shown to people.

    Parameters
    ----------
    evaluation
        What `evaluation.evaluate_run` returned.

    Returns
    -------
    DataFrame
        Text: one row per measure, with its meaning, its value, and its 95 % interval (empty if there is none).

    Examples
    --------
    >>> tabulate_measures(evaluate_run(run, truth))  # doctest: +SKIP
    """
    rows = [
        (each.title, each.text, each.interval, each.meaning) for each in measured.list_measures(evaluation.measures)
    ]
    return pd.DataFrame(rows, columns=["measure", "value", "95 % interval", "meaning"])


def show_evaluation(run: FinishedRun, truth: Truth | None) -> None:
    """Compare the samples of a run with annotated hands, and show the measures; without these, say so.

    Parameters
    ----------
    run
        The run, paired.
    truth
        What `truth.read_truth` returned.

    Raises
    ------
    RunError
        If tables of the run cannot be read, or it was not paired since the last decision.

    Examples
    --------
    >>> show_evaluation(run, None)  # doctest: +SKIP
    There are no annotated boxes to compare with; if you have some, set truth.
    """
    if truth is None:
        print("There are no annotated boxes to compare with; if you have some, set truth.")
        return
    found = evaluate_run(run, truth)
    frames = format_count(len(found.frames), "frame", groups=found.frames["group"].nunique())
    print(f"{frames}, annotated in {truth.origin}.")
    for note in (*truth.notes, *found.notes):
        print(f"- {note}")
    _show_table(tabulate_measures(found))


def show_comparison(comparison: Comparison | None) -> None:
    """Show what decisions changed.

    Parameters
    ----------
    comparison
        What `comparison.compare_decisions` returned; None: nobody decided.

    Examples
    --------
    >>> show_comparison(None)
    Nobody has decided on a frame yet: there is nothing to compare.
    """
    print(f"{_NOBODY[:-1]}: there is nothing to compare." if comparison is None else format_comparison(comparison))


def show_result(run: FinishedRun) -> None:
    """Show what the run is now, and what to do next; for the rendered sample, also that it is no data of the user's.

    Parameters
    ----------
    run
        The run, paired.

    Examples
    --------
    >>> show_result(run)  # doctest: +SKIP
    """
    outcomes = run.outcomes
    decided = int(outcomes["decision"].notna().sum())
    files = f"hands.json and outcomes.csv in {run.store}"
    lines = [
        f"Decisions count for {format_count(decided, 'frame')}: {files} have them." if decided else _GO_BACK,
        "Next: notebook 02 splits and exports the set; with only = 'reviewed', just the samples that somebody judged.",
    ]
    if notebook.is_sample(run.config.data.images):
        lines.append("This was the rendered sample, not your data: run notebook 01 on it, then this one again.")
    notebook.show_box(f"{summarize_samples(outcomes)}.", *lines)


def _show_table(rows: pd.DataFrame) -> None:
    """Show a table whose text is left-aligned and never cut; nothing if it has no rows."""
    if len(rows):
        style = rows.style.hide(axis="index").format(precision=2, escape="html")
        style = style.set_table_styles([{"selector": "th, td", "props": "text-align: left; vertical-align: top;"}])
        with pd.option_context("display.max_colwidth", None):
            text = rows.to_string(index=False)
        display({"text/html": style.to_html(), "text/plain": text}, raw=True)


def _list_sentences(names: str) -> str:
    return " ".join(_SENTENCES[name] for name in names.split(", ")[:_MOST_REASONS])


def _list_facts(settings: ReviewSettings) -> dict[str, str]:
    """Return what is shown of the settings at first sight."""
    default = ReviewSettings(settings.output, settings.reviewer, settings.by)
    by = settings.by or ("doubt" if settings.sample is None else "random")
    order = {"doubt": "doubt: the most doubtful first", "random": "random: samples, drawn at random"}[by]
    return {
        "run": settings.output,
        "reviewer": settings.reviewer or "the name of your account; set reviewer if several people judge",
        "by": order,
        "not the default": describe_changes(settings, default),
    }
