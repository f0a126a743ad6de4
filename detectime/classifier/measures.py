"""How good predictions are: accuracy, macro F1 and each class, with intervals by group.

The values are scikit-learn's. An interval holds 95 % of the values that a measure takes if whole groups (`video_name`:
videos or people) are drawn at random: see `resampling`. Frames of one group are alike, so that an interval over frames
would be too narrow.

Predictions are a DataFrame with one row per evaluated sample: `frame_path`, `video_name`, `class_name`, `predicted`
(the name of a class), `probability` (float64, of `predicted`) and `own_probability` (of `class_name`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime import resampling
from detectime.boxes import Floats, Integers
from detectime.notes import Note, note_found

_FEW_GROUPS = 20
"""Groups below which intervals are said to be too narrow. Where 90 % of frames are right, and groups differ (a beta
distribution whose parameters add up to 4), those of 20 groups hold the true value 91 times in 100, those of 6 only 78,
those of 3 only 70."""

_RISK = 0.05  # that a limit is wrong, where no prediction is


@dataclass(frozen=True, eq=False)
class Measures:
    """How good predictions are.

    Attributes
    ----------
    overall
        Rows `accuracy` and `macro_f1`, columns `value`, `low` and `high`, float64. Macro F1 is the mean F1 of the
        classes that occur among the evaluated samples or were predicted for one, as scikit-learn's
        ``f1_score(true, predicted, average="macro")``; in a draw, of those that occur or are predicted in it. The
        limits are NaN if all draws are alike: all samples are of one group, or right, or wrong.
    per_class
        One row per class, in the order of the classes: `class_name`, `samples` and `groups` (int64), and `precision`,
        `recall`, `recall_low`, `recall_high`, `f1`, `f1_low`, `f1_high` (float64). A class of one group has no limits,
        nor has a measure that is the same in all draws, such as that of a class that is always right; one without
        samples has no recall, one that was never predicted no precision, and one with neither no F1: these are NaN. F1
        has its limits from the draws in which the class occurs.
    confusion
        Number of samples, int64: one row per class (`class_name`), one column per class that was predicted.
    samples, groups
        How many were evaluated.
    notes
        What the measures lack, and how far to trust them.
    """

    overall: pd.DataFrame = field(repr=False)
    per_class: pd.DataFrame = field(repr=False)
    confusion: pd.DataFrame = field(repr=False)
    samples: int
    groups: int
    notes: tuple[Note, ...] = ()


def measure_predictions(predictions: pd.DataFrame, classes: Sequence[str]) -> Measures:
    """Measure predictions, with intervals by group.

    Parameters
    ----------
    predictions
        One row per evaluated sample: see the module.
    classes
        All classes, in the order of the rows of the result.

    Raises
    ------
    ValueError
        If there is no prediction, or one has a class that is not among `classes`.

    Examples
    --------
    >>> columns = ["video_name", "class_name", "predicted"]
    >>> rows = [("anna", "ok", "ok"), ("anna", "stop", "stop"), ("ben", "ok", "stop"), ("ben", "stop", "stop")]
    >>> measures = measure_predictions(pd.DataFrame(rows, columns=columns), ["ok", "stop"])
    >>> measures.overall.round(2).loc["accuracy"].tolist()
    [0.75, 0.5, 1.0]
    >>> measures.per_class[["class_name", "samples", "groups", "recall"]].values.tolist()
    [['ok', 2, 2, 0.5], ['stop', 2, 2, 1.0]]
    """
    from sklearn.metrics import accuracy_score, confusion_matrix

    names = list(classes)
    true, predicted = _number_classes(predictions, names)
    groups = predictions["video_name"].to_numpy(object)
    counts = _count_by_group(true, predicted, groups, len(names))
    drawn = _measure_counts(np.tensordot(resampling.draw_groups(groups), counts, axes=1))
    per_class = _measure_classes(true, predicted, groups, names, drawn)
    # Macro F1 is without the classes that neither occur nor are predicted, whose F1 is NaN.
    values = {"accuracy": accuracy_score(true, predicted), "macro_f1": per_class["f1"].mean()}
    rows = [(value, *_compute_interval(drawn[name])) for name, value in values.items()]
    overall = pd.DataFrame(rows, list(values), ["value", "low", "high"], np.float64)
    matrix = confusion_matrix(true, predicted, labels=range(len(names)))
    return Measures(
        overall,
        per_class,
        pd.DataFrame(matrix, pd.Index(names, name="class_name"), pd.Index(names, name="predicted")),
        len(predictions),
        len(set(groups)),
        tuple(_list_notes(per_class, overall, len(set(groups)))),
    )


def compare_models(predictions: Mapping[str, pd.DataFrame], classes: Sequence[str]) -> pd.DataFrame:
    """Compare the predictions of several models on the samples that all of them have.

    Every model gets the same draws of groups.

    Parameters
    ----------
    predictions
        What each model predicted, by its name.
    classes
        All classes.

    Returns
    -------
    DataFrame
        One row per model (index `model`), in the order given: `samples` and `groups` (int64), `accuracy`,
        `accuracy_low`, `accuracy_high`, `macro_f1`, `macro_f1_low` and `macro_f1_high` (float64). ``attrs["notes"]``
        says if samples were left out, since a model has no prediction of them.

    Raises
    ------
    ValueError
        If the models have no sample in common, or as `measure_predictions`.

    Examples
    --------
    >>> rows = pd.DataFrame({"frame_path": ["a", "b"], "video_name": ["v", "w"], "class_name": ["ok", "stop"]})
    >>> given = {"all ok": rows.assign(predicted="ok"), "right": rows.assign(predicted=rows["class_name"])}
    >>> compare_models(given, ["ok", "stop"])["accuracy"].to_dict()
    {'all ok': 0.5, 'right': 1.0}
    """
    paths = [found["frame_path"].tolist() for found in predictions.values()]
    common = set(paths[0]).intersection(*paths[1:])
    rows = []
    for name, found in predictions.items():
        measures = measure_predictions(found[found["frame_path"].isin(common)], classes)
        row: dict[str, object] = {"model": name, "samples": measures.samples, "groups": measures.groups}
        for measure, value, low, high in measures.overall.itertuples():
            row |= {measure: value, f"{measure}_low": low, f"{measure}_high": high}
        rows.append(row)
    compared = pd.DataFrame(rows).set_index("model")
    left = [path for path in dict.fromkeys(path for each in paths for path in each) if path not in common]
    text = "left out of the comparison: not every model has a prediction of"
    compared.attrs["notes"] = note_found("left_out", left, f"sample is {text} it", f"samples are {text} them")
    return compared


def _number_classes(predictions: pd.DataFrame, names: list[str]) -> tuple[Integers, Integers]:
    """Return the positions of the true and the predicted classes among the names."""
    if predictions.empty:
        raise ValueError("predictions: there are none, so that there is nothing to measure")
    numbers = []
    for column in ("class_name", "predicted"):
        found = pd.Index(names).get_indexer(pd.Index(predictions[column]))
        if (found < 0).any():
            unknown = predictions[column].iloc[int(found.argmin())]
            raise ValueError(f"predictions: {column} {unknown!r} is not among the classes {', '.join(names)}")
        numbers.append(found.astype(np.int64))
    return numbers[0], numbers[1]


def _count_by_group(true: Integers, predicted: Integers, groups: NDArray[Any], classes: int) -> Floats:
    """Count the right predictions, samples and predictions of each class: float64, shape (groups, classes, 3)."""
    numbers, count = resampling.number_groups(groups)
    counted = [
        np.bincount(numbers[chosen] * classes + kind[chosen], minlength=count * classes)
        for kind, chosen in ((true, true == predicted), (true, slice(None)), (predicted, slice(None)))
    ]
    return np.stack(counted, axis=-1).reshape(count, classes, 3).astype(np.float64)


def _measure_counts(counts: Floats) -> dict[str, Floats]:
    """Return the measures of draws, shape (draws,), and of each class, shape (draws, classes).

    Parameters
    ----------
    counts
        Right predictions, samples and predictions: shape (draws, classes, 3). NaN gives NaN.
    """
    right, samples, predicted = np.moveaxis(counts, -1, 0)
    occurs = np.where(samples == 0, np.nan, 1.0)
    with np.errstate(invalid="ignore"):
        f1 = 2 * right / (samples + predicted)
        shown = np.count_nonzero(samples + predicted > 0, axis=1)
        return {
            "recall": right / samples,
            "f1": f1 * occurs,
            "accuracy": right.sum(axis=1) / samples.sum(axis=1),
            "macro_f1": np.nansum(f1, axis=1) / np.where(shown, shown, np.nan),
        }


def _compute_interval(drawn: Floats) -> tuple[Floats, Floats]:
    """Return the limits of draws; NaN where draws are alike, which says nothing of other groups."""
    low, high = resampling.compute_interval(drawn)
    return np.where(low == high, np.nan, low), np.where(low == high, np.nan, high)


def _measure_classes(
    true: Integers, predicted: Integers, groups: NDArray[Any], names: list[str], drawn: Mapping[str, Floats]
) -> pd.DataFrame:
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, samples = precision_recall_fscore_support(
        true, predicted, labels=range(len(names)), zero_division=np.nan
    )
    shown = pd.DataFrame({"class": true, "group": groups}).drop_duplicates()["class"]
    count = np.bincount(shown, minlength=len(names))
    # scikit-learn's numbers of samples are floats where no prediction is right.
    table = pd.DataFrame({"class_name": names, "samples": samples.astype(np.int64), "groups": count})
    table["precision"] = precision
    for measure, value in {"recall": recall, "f1": f1}.items():
        low, high = (np.where(count < 2, np.nan, limit) for limit in _compute_interval(drawn[measure]))
        table[measure], table[f"{measure}_low"], table[f"{measure}_high"] = value, low, high
    return table


def _list_notes(per_class: pd.DataFrame, overall: pd.DataFrame, groups: int) -> list[Note]:
    absent, alone = (per_class.loc[per_class["groups"] == count] for count in (0, 1))
    notes: list[Note] = []
    for is_meant, text in (
        (absent["f1"].isna(), "{} no sample among the evaluated ones, and {} not in macro F1"),
        (absent["f1"].notna(), "{} no sample among the evaluated ones, but {} predicted: F1 is 0"),
    ):
        one, many = f"class {text.format('has', 'is')}", f"classes {text.format('have', 'are')}"
        notes += note_found("absent", absent.loc[is_meant, "class_name"].tolist(), one, many)
    if groups == 1:
        return [*notes, Note("one_group", 1, "All evaluated samples are of one group: nothing is known of others.")]
    one, many = (f"evaluated in one group alone: {whose} recall and F1 have no interval" for whose in ("its", "their"))
    notes += note_found("one_group", alone["class_name"].tolist(), f"class is {one}", f"classes are {many}")
    if groups < _FEW_GROUPS:
        notes.append(Note("few_groups", groups, "groups are evaluated: intervals over so few are too narrow"))
    if overall.loc["accuracy", "value"] == 1:
        share = 100 * (1 - _RISK ** (1 / groups))
        text = f"No prediction is wrong; still, up to {share:.0f} % of other groups may have wrong ones."
        notes.append(Note("all_right", 1, text))
    return notes
