"""Doubt: which frames are most likely to be wrong, and why, from what a run knows."""

from detectime.doubt.reasons import Reason
from detectime.doubt.scoring import score_doubt

__all__ = ["Reason", "score_doubt"]
