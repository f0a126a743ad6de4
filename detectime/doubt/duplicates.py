"""Signals from near-duplicates: the same picture with two labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime.boxes import Floats
from detectime.candidates import Indices
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.similarity import Hashes, find_similar_pairs, read_sample_hashes

_MOST_PAIRS = 5_000_000  # so that crops that are all alike, as of blank frames, cost no more


def score_duplicates(run: FinishedRun, samples: pd.DataFrame) -> tuple[Floats, list[Note]]:
    """Score each sample by its near-duplicates of other classes.

    Of two crops that are alike, the one that contradicts more others is doubted more: where one of ten has another
    label, it gets 9/10, and each of the others 1/10.

    Parameters
    ----------
    run
        The run, with the hashes of crops; without hashes, as in runs of 0.2, all samples get 0.
    samples
        Rows of its outcomes.

    Returns
    -------
    scores, notes
        float64, shape (N,), 0…1; and a note if not all pairs were compared.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """
    hashes, has_hash = read_sample_hashes(run, samples)
    rows = np.flatnonzero(has_hash)
    classes, _ = pd.factorize(samples["class_name"].to_numpy(dtype=object)[rows])
    first, second = _find_pairs(hashes[rows], classes)
    scores = np.zeros(len(samples))
    scores[rows] = _share_doubt(first, second, len(rows))
    text = "crops that are alike and have different classes were found; further ones were not sought"
    return scores, [Note("similar", len(first), text)] if len(first) > _MOST_PAIRS else []


def _find_pairs(hashes: Hashes, classes: NDArray[np.integer]) -> tuple[Indices, Indices]:
    """Return pairs of near-duplicates of different classes."""
    found, count = [(np.empty(0, np.int64), np.empty(0, np.int64))], 0
    for first, second, _ in find_similar_pairs(hashes, classes):
        found.append((first, second))
        count += len(first)
        if count > _MOST_PAIRS:
            break
    first, second = (np.concatenate(values) for values in zip(*found, strict=True))
    return first, second


def _share_doubt(first: Indices, second: Indices, count: int) -> Floats:
    """Return the mean over the pairs of each crop of its share of the contradictions of both."""
    both, others = np.concatenate([first, second]), np.concatenate([second, first])
    contradictions = np.bincount(both, minlength=count)
    share = contradictions[both] / (contradictions[both] + contradictions[others])
    return np.bincount(both, share, minlength=count) / np.maximum(contradictions, 1)
