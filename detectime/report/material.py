"""What a report is made of: the samples of a run, what judged them, and the facts of the set."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from detectime import pairing
from detectime.doubt import score_doubt
from detectime.evaluation import Evaluation, evaluate_run
from detectime.notes import Note
from detectime.report import provenance
from detectime.report.summary import SetFacts, describe_set
from detectime.runs import FinishedRun
from detectime.truth import Truth


@dataclass(frozen=True)
class Material:
    """What a report is made of.

    Attributes
    ----------
    run
        The run.
    samples
        Its outcomes, with all decisions and detections, whether it was paired since or not.
    facts
        What `summary.describe_set` returned of them.
    doubt
        What `doubt.score_doubt` returned.
    evaluation, truth
        The comparison with annotated hands, and these; None if there are none.
    judged
        The samples that were compared: those of the set or, with what people decided as truth, those before that.
    labels
        What `label_check.check_labels` returned; None if labels were not checked.
    """

    run: FinishedRun
    samples: pd.DataFrame
    facts: SetFacts
    doubt: pd.DataFrame
    evaluation: Evaluation | None
    truth: Truth | None
    judged: pd.DataFrame
    labels: pd.DataFrame | None


def collect_material(run: FinishedRun, truth: Truth | None = None, labels: pd.DataFrame | None = None) -> Material:
    """Judge the samples of a run, and collect the facts of the set.

    If frames were detected or decisions made since the last pairing, the frames are paired in memory.

    Raises
    ------
    RunError, TableVersionError, StoreError
        If a table of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> collect_material(open_run("out")).facts.samples  # doctest: +SKIP
    100
    """
    is_stale = run.needs_pairing
    notes: list[Note] = []
    if is_stale:
        paired = run.pair_frames(run.pairing)
        samples, notes = paired.samples, paired.notes
    else:
        samples = run.outcomes
    judged = samples
    if truth is not None and truth.before_decisions:
        judged = pairing.pair_frames(run.frames, run.detections, run.pairing)
    evaluation = None if truth is None else evaluate_run(run, truth, judged)
    doubt = score_doubt(run, samples, labels=labels)
    compared = [*(truth.notes if truth else ()), *(evaluation.notes if evaluation else ())]
    compared += [] if labels is None else labels.attrs.get("notes", [])
    compared += doubt.attrs.get("notes", [])
    found = [*notes, *provenance.note_files(run), *compared]
    facts = describe_set(run, samples, notes=found, has_stale_files=is_stale)
    return Material(run, samples, facts, doubt, evaluation, truth, judged, labels)
