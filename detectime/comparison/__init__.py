"""Comparison of two outcomes of the same frames: two runs, two pairings of one run, or before and after decisions."""

from detectime.comparison.changes import Change, compare_samples, count_changes, count_classes
from detectime.comparison.comparison import (
    Comparison,
    ComparisonError,
    change_settings,
    compare_decisions,
    compare_runs,
    compare_settings,
)
from detectime.comparison.text import format_comparison, summarize_comparison, summarize_moves

__all__ = [
    "Change",
    "Comparison",
    "ComparisonError",
    "change_settings",
    "compare_decisions",
    "compare_runs",
    "compare_samples",
    "compare_settings",
    "count_changes",
    "count_classes",
    "format_comparison",
    "summarize_comparison",
    "summarize_moves",
]
