"""What a trained classifier has to beat: the most frequent class, and a network that detectime did not train.

Both return predictions as `measures` takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from detectime import label_check
from detectime.boxes import Flags, Floats
from detectime.label_check.scores import read_gesture_scores
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.storage import downloads
from detectime.storage.downloads import WeightsError

_KEPT = ["frame_path", "video_name", "class_name"]


def predict_majority(train_class_names: Iterable[str], samples: pd.DataFrame) -> pd.DataFrame:
    """Predict the most frequent class of the training samples for every sample.

    Parameters
    ----------
    train_class_names
        The class of each training sample. Of equally frequent classes, the first by name is taken.
    samples
        Rows of samples: `frame_path`, `video_name` and `class_name`.

    Returns
    -------
    DataFrame
        Predictions, with the index of `samples`: see `measures`. Probabilities are the shares of the classes among the
        training samples.

    Raises
    ------
    ValueError
        If there are no training samples.

    Examples
    --------
    >>> samples = pd.DataFrame({"frame_path": ["a"], "video_name": ["v"], "class_name": ["ok"]})
    >>> predict_majority(["stop", "stop", "ok", "stop"], samples).values.tolist()
    [['a', 'v', 'ok', 'stop', 0.75, 0.25]]
    """
    shares = pd.Series(list(train_class_names), dtype=object).value_counts(normalize=True).sort_index()
    if shares.empty:
        raise ValueError("train_class_names: there are none, so that no class is the most frequent")
    predictions = samples[_KEPT].copy()
    predictions["predicted"] = str(shares.idxmax())
    predictions["probability"] = float(shares.max())
    predictions["own_probability"] = shares.reindex(samples["class_name"], fill_value=0.0).to_numpy(np.float64)
    return predictions


def predict_zero_shot(
    run: FinishedRun, samples: pd.DataFrame, classes: Sequence[str], *, workers: int | None = None
) -> tuple[pd.DataFrame | None, list[Note]]:
    """Predict with the network that checks labels, which knows 45 gestures, and which detectime did not train.

    It was trained on HaGRID: if the samples are from there, a note says that its predictions are no comparison. It
    chooses among the classes that it knows; samples of the others are always wrong. Frames are read, and scores
    kept, as `label_check.check_labels` does. Nothing is downloaded.

    Parameters
    ----------
    run
        The run.
    samples
        Rows of its outcomes with a sample.
    classes
        The classes to choose from, those of the classifier that is compared; what the network calls them is found as
        by `label_check.match_classes`, with `data.hagrid_classes` of the run.
    workers
        Number of processes; None: one per core.

    Returns
    -------
    predictions, notes
        Predictions, with the index of `samples`: see `measures`. A sample whose frame cannot be read has none.
        Probabilities are from the softmax of the best score of each class, and not calibrated. None if the network is
        missing or knows fewer than two of the classes, or no frame can be read; the notes say why, and which classes it
        does not know.

    Raises
    ------
    RunError, EngineError, TableVersionError, StoreError
        As `label_check.check_labels`.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> predictions, notes = predict_zero_shot(run, run.outcomes.query("outcome == 'paired'"), ["ok"])  # doctest: +SKIP
    """
    gestures = label_check.match_classes(classes, run.config.data.hagrid_classes)
    known = [name for name, own in gestures.items() if own]
    if len(known) < 2:
        text = f"The network that checks labels knows {len(known)} of these classes, so that it cannot tell them apart."
        return None, [Note("no_zero_shot", 1, text)]
    try:
        downloads.find_weights(label_check.WEIGHTS)
    except WeightsError as error:
        return None, [Note("no_zero_shot", 1, f"No comparison with the network that checks labels: {error}")]
    found = read_gesture_scores(run, samples, workers=workers)
    is_read = ~np.isnan(found.values[:, 0])
    if not is_read.any():
        text = "No comparison with the network that checks labels: none of these samples can be read."
        return None, [Note("no_zero_shot", 1, text), *found.notes]
    is_meant = np.array([[gesture in gestures[name] for gesture in label_check.GESTURES] for name in known], bool)
    shares = _share_classes(found.values[is_read].astype(np.float64), is_meant)
    chosen = shares.argmax(axis=1)
    predictions = samples.loc[is_read, _KEPT].copy()
    own = pd.Index(known).get_indexer(pd.Index(predictions["class_name"]))
    rows = np.arange(len(chosen))
    predictions["predicted"] = np.array(known, object)[chosen]
    predictions["probability"] = shares[rows, chosen]
    predictions["own_probability"] = np.where(own < 0, 0.0, shares[rows, own])
    unknown = [name for name in classes if name not in known]
    return predictions, [*_note_training(run, samples), *_note_unknown(unknown), *found.notes]


def _share_classes(scores: Floats, is_meant: Flags) -> Floats:
    """Return the softmax of the best score of each class: shape (samples, classes)."""
    best = np.stack([scores[:, own].max(axis=1) for own in is_meant], axis=1)
    powers = np.exp(best - best.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _note_training(run: FinishedRun, samples: pd.DataFrame) -> list[Note]:
    """Note that the network was trained on HaGRID, if the samples are from there."""
    # A run does not store how its labels were recognised where `labels_type` is null, but HaGRID's people are named by
    # hashes: most by 64 digits, some by 32.
    if run.config.data.labels_type != "hagrid" and not samples["video_name"].str.fullmatch("[0-9a-f]{32,64}").all():
        return []
    text = "These are samples of HaGRID, on which the network that checks labels was trained: it is no comparison."
    return [Note("trained_on", 1, text)]


def _note_unknown(names: list[str]) -> list[Note]:
    """Note the classes that the network cannot predict."""
    if not names:
        return []
    text = (
        f"{'class is' if len(names) == 1 else 'classes are'} unknown to the network that checks labels: "
        f"it is always wrong about {', '.join(names)}; if it has a gesture under another name, say so in "
        "data.hagrid_classes"
    )
    return [Note("unknown_class", len(names), text)]
