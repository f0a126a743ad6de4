"""Evaluation of a run against annotated hands: how good its samples are, and how sure that is."""

from detectime.evaluation.annotated_frames import CORRECT, Really
from detectime.evaluation.run_evaluation import (
    Evaluation,
    compare_evaluations,
    compute_best_iou,
    evaluate_run,
    score_samples,
)
from detectime.truth import extract_truth
from detectime.truth import read_truth_json as read_truth  # its name up to 0.3; `extract_truth` was here too

__all__ = [
    "CORRECT",
    "Evaluation",
    "Really",
    "compare_evaluations",
    "compute_best_iou",
    "evaluate_run",
    "extract_truth",
    "read_truth",
    "score_samples",
]
