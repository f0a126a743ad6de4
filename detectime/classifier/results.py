"""What the predictions of a classifier say: beside those of others, with the cause of each mistake, and as files.

This module imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pandas as pd

from detectime import label_check
from detectime.classifier.baselines import predict_majority, predict_zero_shot
from detectime.classifier.measures import Measures
from detectime.classifier.mistakes import find_mistakes
from detectime.doubt import score_doubt
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.storage.store import open_store

if TYPE_CHECKING:
    from detectime.classifier.training import TrainedClassifier
    from detectime.classifier.training_set import TrainingSet


def compare_baselines(
    run: FinishedRun, training_set: TrainingSet, predictions: pd.DataFrame, name: str, workers: int | None = None
) -> tuple[dict[str, pd.DataFrame], list[Note]]:
    """Put the predictions of the most frequent class, and of a network of other gestures (zero-shot), beside others.

    Parameters
    ----------
    run
        The run.
    training_set
        The training set of the classifier.
    predictions
        Of the classifier, on the test part.
    name
        Of the classifier.
    workers
        Processes that read frames; None: one per core.

    Returns
    -------
    predictions, notes
        By the name of the model; the network is left out where its weights are not there, which a note says.

    Examples
    --------
    >>> compare_baselines(run, found, predictions, "landmarks")[0].keys()  # doctest: +SKIP
    dict_keys(['landmarks', 'the most frequent class', 'zero-shot'])
    """
    known = training_set.samples["class_name"].iloc[training_set.train]
    found = {name: predictions, "the most frequent class": predict_majority(known, predictions)}
    outcomes = run.outcomes
    rows = outcomes.iloc[pd.Index(outcomes["frame_path"]).get_indexer(pd.Index(predictions["frame_path"]))]
    others, notes = predict_zero_shot(run, rows, training_set.classes, workers=workers)
    if others is not None:
        found["zero-shot"] = others.reset_index(drop=True)
    return found, notes


def explain_mistakes(
    run: FinishedRun, predictions: pd.DataFrame, *, check_labels: bool, workers: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List wrong predictions with a guess at their cause: see `mistakes.find_mistakes`.

    Parameters
    ----------
    run
        The run.
    predictions
        What `training.predict_samples` returned.
    check_labels
        Whether the network that checks labels is there, and looks at these samples.
    workers
        Processes that read frames for that; None: one per core.

    Returns
    -------
    mistakes, doubt
        What `mistakes.find_mistakes` and `doubt.score_doubt` returned.

    Examples
    --------
    >>> mistakes, doubtful = explain_mistakes(run, predictions, check_labels=True)  # doctest: +SKIP
    """
    outcomes = run.outcomes
    rows = outcomes[outcomes["frame_path"].isin(predictions["frame_path"])]
    labels = label_check.check_labels(run, rows, workers=workers) if check_labels else None
    doubt = score_doubt(run, labels=labels)
    return find_mistakes(run, predictions, doubt, labels), doubt


def write_results(
    to: str, trained: TrainedClassifier, measures: Measures, predictions: pd.DataFrame, mistakes: pd.DataFrame
) -> None:
    """Write ``measures.json``, ``predictions.csv``, ``mistakes.csv`` and ``history.csv`` beside the model.

    Parameters
    ----------
    to
        The folder.
    trained, measures, predictions, mistakes
        What training, `measure_predictions`, `predict_samples` and `find_mistakes` returned.

    Raises
    ------
    StoreError
        If the folder cannot be written to.

    Examples
    --------
    >>> write_results("output/classifier", trained, measures, predictions, mistakes)  # doctest: +SKIP
    """
    store = open_store(to)
    tables = {"predictions": predictions, "mistakes": mistakes, "history": trained.history}
    for name, table in tables.items():
        store.put(f"{name}.csv", table.to_csv(index=False).encode())
    content = {
        "overall": json.loads(measures.overall.to_json(orient="index")),
        "per_class": json.loads(measures.per_class.to_json(orient="records")),
        "samples": measures.samples,
        "groups": measures.groups,
        "notes": [str(note) for note in (*trained.training_set.notes, *measures.notes)],
        "epoch": trained.epoch,
        "settings": dataclasses.asdict(trained.settings),
    }
    store.put("measures.json", json.dumps(content, indent=4, ensure_ascii=False).encode())
