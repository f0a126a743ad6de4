"""Whether the class of a sample is the gesture that its hand shows, as far as a small network can tell.

The network knows 45 gestures, most of HaGRID's among them. It contradicts a label only by a wide margin: it finds
most wrong labels and many wrong boxes, and is itself wrong too often to decide anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime.boxes import Flags, Floats, Integers
from detectime.label_check.network import GESTURES
from detectime.label_check.scores import read_gesture_scores
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES

CONTRADICTED = -6.0
"""Margin below which a label counts as contradicted. On the 195 hands of HaGRID, contest and webcam on which it was
chosen, 1 right label is contradicted, and 96 % of the labels of the other five classes are."""

_ALIKE = (
    ("stop", "palm", "stop_inverted"),
    ("peace", "peace_inverted"),
    ("two_up", "two_up_inverted"),
    ("fist", "fist_inverted"),
)
"""Gestures that are one class unless the classes of a run tell them apart: from the front and from the back, and an
open hand with its fingers together or apart."""


def check_labels(
    run: FinishedRun,
    samples: pd.DataFrame | None = None,
    *,
    classes: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> pd.DataFrame:
    """Compare the class of each sample with what a network sees.

    Frames are read again in worker processes; what the network saw is kept in ``label_check.parquet`` in the folder of
    the run, so that only new and changed samples are looked at. The weights (0.4 MB) are downloaded on first use.

    Parameters
    ----------
    run
        The run.
    samples
        Rows of its outcomes; those without a sample are ignored. None: all.
    classes
        HaGRID's class names, and the name of the run's class for each; None: `data.hagrid_classes` of the run. Classes
        of equal names need no entry: see `match_classes`.
    workers
        Number of processes; None: one per core. The result does not depend on it.

    Returns
    -------
    DataFrame
        One row per sample, indexed as `samples`. `frame_path`; `seen`, the gesture with the best score, in the
        network's words; `predicted`, the class of the run that it means, empty if none; `probability` of that class, or
        of `seen`, and `own_probability`, of the sample's class, float64, 0…1, from the softmax of the scores, and not
        calibrated; `margin` (float64), the best score of a gesture of the sample's class minus the best of any other:
        negative where another gesture is more likely; and `contradicts`, whether the margin is below `CONTRADICTED`.
        Of samples that cannot be checked, `seen` and `predicted` are empty, numbers NaN, and `contradicts` is false.
        ``attrs["notes"]`` says which these are.

    Raises
    ------
    ConfigError
        If the number of workers is not accepted.
    WeightsError
        If there is something to look at, and the weights are missing and cannot be downloaded.
    RunError
        If a table of the run cannot be read.
    EngineError
        If no worker can start.
    TableVersionError
        If a newer detectime made ``label_check.parquet``.
    StoreError
        If the folder of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> labels = check_labels(open_run("output"))  # doctest: +SKIP
    >>> labels[labels["contradicts"]].sort_values("margin")  # doctest: +SKIP
    """
    table = run.outcomes if samples is None else samples
    rows = table[table["outcome"].isin(SAMPLES).to_numpy()]
    gestures = match_classes(run.config.labels, run.config.data.hagrid_classes if classes is None else classes)
    is_known = rows["class_name"].isin([name for name, own in gestures.items() if own]).to_numpy()
    scores = np.full((len(rows), len(GESTURES)), np.nan, np.float32)
    scores[is_known], notes = read_gesture_scores(run, rows[is_known], workers=workers)
    labels = compare_scores(rows["class_name"], scores, gestures)
    labels.insert(0, "frame_path", rows["frame_path"].to_numpy(object))
    labels.attrs["notes"] = [*_note_unknown(rows.loc[~is_known, "class_name"]), *notes]
    return labels


def match_classes(vocabulary: Iterable[str], classes: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Find the network's gestures that each class of a run means.

    Parameters
    ----------
    vocabulary
        The classes of the run.
    classes
        HaGRID's class names, and the name of the run's class for each, as in `data.hagrid_classes`.

    Returns
    -------
    dict
        For each class its gestures, in the order of `GESTURES`: those that `classes` map to it, that of the same name,
        and those like them that no other class means. Empty if the network knows none.

    Examples
    --------
    >>> match_classes(["stop", "victory", "wave"], {"peace": "victory"})
    {'stop': ('palm', 'stop', 'stop_inverted'), 'victory': ('peace', 'peace_inverted'), 'wave': ()}
    >>> match_classes(["stop", "palm"], {})
    {'stop': ('stop', 'stop_inverted'), 'palm': ('palm', 'stop_inverted')}
    """
    meant = {name: {name, *(theirs for theirs, ours in classes.items() if ours == name)} for name in vocabulary}
    taken = set().union(*meant.values())
    for own in meant.values():
        own |= {gesture for group in _ALIKE if own & set(group) for gesture in group if gesture not in taken}
    return {name: tuple(gesture for gesture in GESTURES if gesture in own) for name, own in meant.items()}


def compare_scores(
    class_names: pd.Series, scores: NDArray[np.float32], gestures: Mapping[str, tuple[str, ...]]
) -> pd.DataFrame:
    """Compare the class of each sample with the scores of its hand.

    Parameters
    ----------
    class_names
        The class of each sample.
    scores
        float32, shape (samples, 45), as `GestureScores.values`; rows of NaN are not compared.
    gestures
        What `match_classes` returned.

    Returns
    -------
    DataFrame
        As of `check_labels`, without `frame_path`, indexed as `class_names`.

    Examples
    --------
    >>> scores = np.where(np.array(GESTURES) == "like", 5, -5).astype(np.float32)
    >>> gestures = match_classes(["like", "fist"], {})
    >>> labels = compare_scores(pd.Series(["like", "fist"]), np.stack([scores, scores]), gestures)
    >>> labels[["seen", "predicted", "margin", "contradicts"]]
       seen predicted  margin  contradicts
    0  like      like    10.0        False
    1  like      like   -10.0         True
    """
    classes = list(gestures)
    is_meant = np.array([[gesture in gestures[name] for gesture in GESTURES] for name in classes], bool)
    is_compared = ~np.isnan(scores[:, 0])
    found = scores[is_compared].astype(np.float64)
    own = pd.Index(classes).get_indexer(pd.Index(class_names[is_compared]))
    seen = found.argmax(axis=1)
    predicted = _choose_classes(is_meant, own, seen)
    is_seen = np.where(predicted[:, None] < 0, np.arange(len(GESTURES)) == seen[:, None], is_meant[predicted])
    shares = _compute_softmax(found)
    margin = _subtract_others(found, is_meant[own])
    columns = {
        "seen": (np.array(GESTURES, object)[seen], ""),
        "predicted": (np.array([*classes, ""], object)[predicted], ""),
        "probability": ((shares * is_seen).sum(axis=1), np.nan),
        "own_probability": ((shares * is_meant[own]).sum(axis=1), np.nan),
        "margin": (margin, np.nan),
        "contradicts": (margin < CONTRADICTED, False),
    }
    spread = {name: _spread(values, is_compared, empty) for name, (values, empty) in columns.items()}
    return pd.DataFrame(spread, index=class_names.index)


def _spread(values: NDArray[Any], is_there: Flags, empty: object) -> NDArray[Any]:
    """Return an array with the values where they are there, and the empty value elsewhere."""
    spread = np.full(len(is_there), empty, values.dtype)
    spread[is_there] = values
    return spread


def _subtract_others(scores: Floats, is_own: Flags) -> Floats:
    """Return the best own score minus the best other one, shape (samples,); scores are hundredths."""
    best, other = np.where(is_own, scores, -np.inf), np.where(is_own, -np.inf, scores)
    margins: Floats = np.round(best.max(axis=1) - other.max(axis=1), 2)
    return margins


def _choose_classes(is_meant: Flags, own: Integers, seen: Integers) -> Integers:
    """Return the class that means the gesture which was seen: the sample's own if it does, else the first; or -1."""
    first = np.where(is_meant.any(axis=0), is_meant.argmax(axis=0), -1)
    return np.where(is_meant[own, seen], own, first[seen])


def _compute_softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _note_unknown(class_names: pd.Series) -> list[Note]:
    """Note the samples of classes that the network does not know."""
    if class_names.empty:
        return []
    names = sorted(set(class_names))
    text = (
        f"{'sample was' if len(class_names) == 1 else 'samples were'} not checked: the network knows no gesture for "
        f"{len(names)} {'class' if len(names) == 1 else 'classes'}; if it has one under another name, say so in "
        "data.hagrid_classes"
    )
    return [Note("unchecked", len(class_names), text, names[0])]
