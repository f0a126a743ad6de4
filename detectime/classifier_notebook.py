"""What notebook 04 calls in its kernel: its parameters, checked, and what it says about a classifier.

This module imports no torch: a kernel without it is told so, and what to install, before anything else.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from IPython.display import display
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import notebook, paths, runs, splits
from detectime.classifier import video
from detectime.classifier.measures import Measures
from detectime.classifier.mistakes import Cause
from detectime.classifier.recognition import GestureRecognizer
from detectime.classifier.settings import TrainingSettings
from detectime.config import make_absolute
from detectime.errors import ConfigError, DocumentedError
from detectime.labels.grouping import NO_GROUPS
from detectime.notebook_parameters import describe_changes, find_output, list_values, read_settings
from detectime.notes import Note, format_count
from detectime.runs import FinishedRun
from detectime.settings import CHECKED, Count
from detectime.storage import urls
from detectime.storage.store import StoreError, open_store
from detectime.widgets import Review

if TYPE_CHECKING:
    from detectime.classifier.training import TrainedClassifier
    from detectime.classifier.training_set import TrainingSet

FOLDER = "classifier"
"""Folder of classifiers in that of the run, if no other is given: each model has one of its own there."""

_PACKAGES = {"torch": "torch", "torchvision": "torchvision", "sklearn": "scikit-learn", "onnxscript": "onnxscript"}
_PROBE = "can-be-written.tmp"
_CLIP_FRAMES = 120  # of the video that the exported model is tried on


class MissingTrainingError(DocumentedError, ModuleNotFoundError):
    """Packages that training needs are not installed."""


@checked_dataclass(frozen=True, config=CHECKED)
class ClassifierSettings:
    """The settings of notebook 04.

    Attributes
    ----------
    output
        The folder of the run; empty: `load_settings` finds it.
    to
        The folder of the model and its results; empty: `load_settings` chooses it.
    shares
        Of the split, if the run has none yet: see `training_set.split_if_needed`.
    allow_similar
        Near-duplicates and parts of one video may lie in different parts of the split.
    workers
        Processes that read frames; None: one per core.
    reviewer
        The name that stands beside decisions on mistakes; None: that of the account.
    training
        The model and how it is trained; `load_settings` resolves it.
    """

    output: str = ""
    to: str = ""
    shares: dict[str, float] | None = None
    allow_similar: bool = False
    workers: Count | None = None
    reviewer: str | None = None
    training: TrainingSettings = TrainingSettings()


def start_notebook(names: Mapping[str, Any], cells: Sequence[str]) -> ClassifierSettings:
    """Read the parameters of notebook 04 and show them; see `notebook.prepare_kernel` for what else is done.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Raises
    ------
    MissingTrainingError
        If packages of the extra ``torch`` are not installed.
    ModelWeightsError
        If the model begins with weights, and they are not there.
    ConfigError, DecisionError, SplitError
        As `load_settings`.
    RunError, StoreError
        If there is no finished run.

    Examples
    --------
    >>> start_notebook({"model": "small"}, ['model = "small"']).training.side  # doctest: +SKIP
    96
    """
    notebook.prepare_kernel()
    settings = load_settings(names, cells)
    runs.open_run(settings.output)  # a missing one is told before a folder is made in its place
    check_packages()
    from detectime.classifier.models import check_model

    check_model(settings.training)
    _check_folder(settings.to)
    notebook.show_facts(_list_facts(settings), list_values(settings))
    return settings


def check_packages() -> None:
    """Refuse to go on without what training needs.

    Raises
    ------
    MissingTrainingError
        If packages of the extra ``torch`` are not installed.

    Examples
    --------
    >>> check_packages()  # doctest: +SKIP
    """
    missing = [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingTrainingError(
            f"training needs the extra `torch`; not installed: {', '.join(missing)}; install it with: "
            f"{paths.format_install('torch')}, and restart the kernel"
        )


def load_settings(names: Mapping[str, Any], cells: Sequence[str]) -> ClassifierSettings:
    """Return the settings that the parameters of notebook 04 describe; None means the default.

    Without `output`, it is the run that the project's ``config.yml`` names or, if there is none, that of the rendered
    sample. Without `to`, the results go to a folder ``classifier/<model>`` in it. Relative paths are relative to
    `paths.find_base`.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Raises
    ------
    ConfigError
        If a parameter is unknown, a value is not accepted, or there is no run.
    DecisionError
        If the name of the reviewer is empty or not text.
    SplitError
        If the shares are not valid.

    Examples
    --------
    >>> settings = load_settings({"output": "/runs/out", "model": "small", "epochs": 5}, [])
    >>> settings.to, settings.training.side, settings.training.epochs
    ('/runs/out/classifier/small', 96, 5)
    """
    settings = read_settings(ClassifierSettings, names, cells)
    training = settings.training
    _check_model(training)
    output = find_output(settings.output)
    to = make_absolute(settings.to, None) if settings.to else f"{output.rstrip('/')}/{FOLDER}/{training.model}"
    if urls.is_remote(to):
        raise ConfigError(f"to = {to!r}: videos are written to folders only; set to to a folder on this machine")
    if training.weights is not None:
        training = dataclasses.replace(training, weights=make_absolute(training.weights, None))
    return dataclasses.replace(settings, output=output, to=to, training=training.resolve())


def _check_folder(to: str) -> None:
    """Refuse a folder that cannot be written to, before anything is trained."""
    try:
        store = open_store(to)
        store.put(_PROBE, b"")
        store.delete([_PROBE])
    except StoreError as error:
        raise ConfigError(
            f"to = {to!r}: the results cannot be written there; choose another folder ({error})"
        ) from error


def _check_model(training: TrainingSettings) -> None:
    """Refuse settings that the model does not use."""
    if training.model == "landmarks" and training.side is not None:
        raise ConfigError(f"side = {training.side}: model = 'landmarks' sees no crops; leave it out, or choose a model")
    if training.model != "pretrained" and training.weights is not None:
        raise ConfigError(
            f"weights = {training.weights!r}: model = {training.model!r} begins with none; set model = 'pretrained'"
        )


def show_training_set(training_set: TrainingSet, notes: Sequence[Note] = ()) -> None:
    """Show the samples and groups of each class in each part, and what to know before training.

    Parameters
    ----------
    training_set
        What `training_set.read_training_set` returned.
    notes
        Further findings, such as of the split.

    Examples
    --------
    >>> show_training_set(found)  # doctest: +SKIP
    """
    used = training_set.samples[training_set.samples["split"] != ""]
    counts = splits.count_split(used)
    order = [name for name in training_set.dataset.classes if name in counts.index]
    display(counts.reindex([*order, "all"]).rename_axis(None))
    print(training_set.parts)
    told: set[str] = set()
    for note in (*notes, *training_set.notes):
        if str(note) not in told:
            print(f"- {note}")
        told.add(str(note))


def describe_training(trained: TrainedClassifier) -> str:
    """Say what was trained, on what, and which epoch was kept.

    Parameters
    ----------
    trained
        What `training.train_classifier` returned.

    Examples
    --------
    >>> print(describe_training(trained))  # doctest: +SKIP
    Trained on 48 samples of 6 groups, on the CPU; the weights are those of epoch 80, the last.
    """
    found = trained.training_set
    groups = len(set(found.groups[found.train]))
    kept = "the last" if trained.epoch == len(trained.history) else f"of {len(trained.history)}, the least val_loss"
    begun = f" It began with {trained.origin}." if trained.origin else ""
    sided = ", ".join(map(repr, trained.sided))
    mirrored = f" Hands were mirrored at random, but for {sided}: left and right differ there." if sided else ""
    return (
        f"Trained on {format_count(len(found.train), 'sample', groups)}, on the "
        f"{'GPU' if trained.device == 'cuda' else 'CPU'}; the weights are those of epoch {trained.epoch}, {kept}."
        f"{begun}{mirrored}"
    )


def describe_measures(measures: Measures, training_set: TrainingSet) -> str:
    """Say how good a classifier is on groups that it has not seen, and what that does not say.

    Parameters
    ----------
    measures
        What `measures.measure_predictions` returned.
    training_set
        Its training set.

    Examples
    --------
    >>> print(describe_measures(measures, found))  # doctest: +SKIP
    On 52 samples of 6 groups that it has not seen: accuracy .81 (.60–.95), macro F1 .79 (.55–.94).
    """
    texts, brackets = [], ""
    for row, name in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
        value, low, high = (f"{number:.3f}".removeprefix("0") for number in measures.overall.loc[row])
        is_known = low != "nan"
        texts.append(f"{name} {value} ({low}–{high})" if is_known else f"{name} {value}")
        brackets = " In brackets: 95 % intervals, by group." if is_known else brackets
    tested = format_count(measures.samples, "sample", measures.groups)
    lines = [f"On {tested} that it has not seen: {', '.join(texts)}.{brackets}"]
    return "\n".join([*lines, *(f"- {note}" for note in (*_find_doubts(training_set), *measures.notes))])


def _find_doubts(training_set: TrainingSet) -> list[Note]:
    """Return the notes that say that a person may be in training and in the test."""
    return [note for note in training_set.notes if note.kind == NO_GROUPS]


def describe_comparison(compared: pd.DataFrame) -> str:
    """Say whether a classifier has learnt anything.

    Parameters
    ----------
    compared
        What `measures.compare_models` returned of `compare_baselines`: the classifier first.

    Examples
    --------
    >>> rows = pd.DataFrame({"accuracy": [0.8, 0.2]}, ["small", "the most frequent class"])
    >>> print(describe_comparison(rows))
    small is right for 80 % of the samples; always naming the most frequent class would be for 20 %.
    """
    name, own, frequent = compared.index[0], *(float(share) for share in compared["accuracy"].iloc[:2])
    shares = (
        f"{name} is right for {100 * own:.0f} % of the samples; always naming the most frequent class would be for "
        f"{100 * frequent:.0f} %."
    )
    advice = "It is no better than that: take another model, train for longer, or add people."
    return shares if own > frequent else f"{shares} {advice}"


def describe_mistakes(mistakes: pd.DataFrame) -> str:
    """Say how many predictions are wrong, and what they may come from.

    Parameters
    ----------
    mistakes
        What `mistakes.find_mistakes` returned.

    Examples
    --------
    >>> print(describe_mistakes(pd.DataFrame({"frame_path": ["ok_01/0001.jpg"], "cause": ["label"]})))
    1 prediction is wrong. A guess at the causes: 1 label.
    """
    count = len(mistakes)
    if not count:
        return "No prediction is wrong."
    counts = mistakes["cause"].value_counts()
    causes = ", ".join(f"{counts[cause]:,} {cause}" for cause in Cause if cause in counts)
    return (
        f"{format_count(count, 'prediction')} {'is' if count == 1 else 'are'} wrong. A guess at the causes: {causes}."
    )


def show_video(run: FinishedRun, training_set: TrainingSet, model_file: str | os.PathLike[str], to: str) -> None:
    """Show a video of frames that a classifier has not seen, recognised by its exported file; or say why there is none.

    Parameters
    ----------
    run
        The run.
    training_set
        The training set of the classifier.
    model_file
        What `onnx_export.export_classifier` returned.
    to
        The folder for ``clip.webm`` and ``recognised.webm``.

    Examples
    --------
    >>> show_video(run, found, "classifier/model.onnx", "classifier")  # doctest: +SKIP
    """
    try:
        clip = video.render_video(run, choose_clip(training_set), f"{to}/clip.webm")
        config, notes = video.choose_config(run)
        made = video.recognize_video(GestureRecognizer(model_file), clip.path, f"{to}/recognised.webm", config)
    except DocumentedError as error:  # of frames, or weights, that are gone: the classifier is there all the same
        print(f"There is no video: {error}")
        return
    print(made)
    for note in (*clip.notes, *notes, *made.notes):
        print(f"- {note}")
    display(video.show_video(made.path))


def open_review(run: FinishedRun, mistakes: pd.DataFrame, reviewer: str | None, doubt: pd.DataFrame) -> Review | None:
    """Return a review of the mistakes, the surest first; None if there is none.

    Parameters
    ----------
    run
        The run.
    mistakes
        What `mistakes.find_mistakes` returned.
    reviewer
        The name of the person; None: that of the account.
    doubt
        What `doubt.score_doubt` returned.

    Examples
    --------
    >>> open_review(run, mistakes, "anna", doubt)  # doctest: +SKIP
    """
    if mistakes.empty:
        return None
    return Review(run, frames=mistakes["frame_path"].tolist(), reviewer=reviewer, doubt=doubt)


def choose_clip(training_set: TrainingSet, most: int = _CLIP_FRAMES) -> list[str]:
    """Choose frames of groups that the classifier has not seen: of each class the first ones.

    Parameters
    ----------
    training_set
        The training set of the classifier.
    most
        Number of frames at most, shared by the classes.

    Returns
    -------
    list of str
        Their paths: samples of the test part.

    Examples
    --------
    >>> choose_clip(found)[:2]  # doctest: +SKIP
    ['stop_02/0001.jpg', 'stop_02/0002.jpg']
    """
    test = training_set.samples.iloc[training_set.test]
    share = max(1, most // max(1, test["class_name"].nunique()))
    return test.groupby("class_name", sort=False).head(share)["frame_path"].tolist()


def show_result(run: FinishedRun, settings: ClassifierSettings, measures: Measures, training_set: TrainingSet) -> None:
    """Show where the model is and how it is used; for the rendered sample, also that it is no data of the user's.

    Parameters
    ----------
    run
        The run.
    settings
        The settings of the notebook.
    measures
        What `measures.measure_predictions` returned.
    training_set
        The training set of the classifier.

    Examples
    --------
    >>> show_result(run, settings, measures, found)  # doctest: +SKIP
    """
    value, low, high = 100 * measures.overall.loc["accuracy"].to_numpy(np.float64)
    interval = "" if math.isnan(low) else f" ({low:.0f} to {high:.0f} % with other groups)"
    lines = [
        *(["A person may be in training and in the test: see the notes."] if _find_doubts(training_set) else []),
        f"{settings.to} has model.onnx, predictions.csv, mistakes.csv, history.csv, measures.json and two videos.",
        "GestureRecognizer of detectime.classifier.recognition runs the model; it needs no torch.",
    ]
    if notebook.is_sample(run.config.data.images):
        lines.append("This was the rendered sample: run notebook 01 on your own data, then this one again.")
    right = f"{value:.0f} % of {format_count(measures.samples, 'sample', measures.groups)} not seen"
    notebook.show_box(f"{right} are right{interval}.", *lines)


def _list_facts(settings: ClassifierSettings) -> dict[str, str]:
    """Return what is shown of the settings at first sight."""
    training = settings.training
    side = "" if training.side is None else f", crops of {training.side} pixels"
    default = ClassifierSettings(
        settings.output, settings.to, training=TrainingSettings(model=training.model).resolve()
    )
    return {
        "run": settings.output,
        "model": f"{training.model}: {training.epochs} epochs{side}",
        "results": settings.to,
        "not the default": describe_changes(settings, default),
    }
