"""Which frames the explorer shows, and in which order: arithmetic on the outcomes table, the doubt and the changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats
from detectime.candidates import Indices
from detectime.comparison import Change, count_changes
from detectime.errors import ConfigError
from detectime.schema import SAMPLES
from detectime.settings import suggest_name

SORTS = {
    "table": "table order",
    "doubt": "doubt",
    "hand_score": "score of the hand",
    "face_score": "score of the face",
    "overlap": "overlap of hand and face",
    "size": "size of the hand",
    "group": "group",
}
"""What frames can be sorted by: names in messages, and as people read them."""

DECIDED = ("any", "yes", "no", "new")
"""Whether people decided on a frame: no matter, yes, no, or since the run was paired."""

_CHANGES = tuple(change.value for change in Change if change.is_change or change is Change.OTHER_REASON)


@dataclass(frozen=True)
class Filter:
    """Which frames are wanted: those that meet all conditions that are set.

    Attributes
    ----------
    classes, outcomes, changes
        Names; empty: all.
    group
        Its name or, if there is no such group, a part of names.
    detector
        One that agrees on the hand.
    text
        A part of the path, the group or the error, in small or capital letters.
    decided, decided_by
        One of `DECIDED`; the person.
    doubt
        The lowest and the highest; None: no matter.
    """

    classes: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    group: str = ""
    detector: str = ""
    text: str = ""
    decided: str = "any"
    decided_by: str = ""
    doubt: tuple[float, float] | None = None


def read_filter(values: Mapping[str, Any]) -> Filter:
    """Make a filter of the values of a message.

    Raises
    ------
    ConfigError
        If a key is unknown, or a value is not accepted.

    Examples
    --------
    >>> read_filter({"classes": ["ok"], "doubt": [0.5, 1]}).doubt
    (0.5, 1.0)
    >>> read_filter({"decided": "maybe"})
    Traceback (most recent call last):
        ...
    detectime.errors.ConfigError: decided = 'maybe': accepted: any, yes, no, new
    """
    names = [field.name for field in fields(Filter)]
    for key in values:
        if key not in names:
            raise ConfigError(f"{key}: there is no such filter; {suggest_name(key, names)}")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    found = Filter(**given)
    if found.decided not in DECIDED:
        raise ConfigError(f"decided = {found.decided!r}: {suggest_name(found.decided, DECIDED)}")
    if found.doubt is None:
        return found
    low, high = map(float, found.doubt)
    return replace(found, doubt=(low, high))


def select_rows(
    samples: pd.DataFrame,
    wanted: Filter,
    *,
    doubt: Floats | None = None,
    changes: pd.Series | None = None,
    new: Collection[str] = (),
) -> Indices:
    """Find the rows that a filter wants.

    Parameters
    ----------
    samples
        The outcomes.
    wanted
        The filter. Conditions about doubt and changes are ignored where these are None.
    doubt
        Of each row.
    changes
        Of each row, categorical: see `comparison.Change`.
    new
        Frames that people decided on since the run was paired.

    Returns
    -------
    ndarray
        int64: row numbers, in the order of the table.

    Examples
    --------
    >>> samples = pd.DataFrame({"class_name": ["ok", "stop"], "outcome": ["paired", "apart"]})
    >>> select_rows(samples, Filter(classes=("stop",))).tolist()
    [1]
    """
    kept = np.ones(len(samples), bool)
    for column, names in (("class_name", wanted.classes), ("outcome", wanted.outcomes)):
        if names:
            kept &= samples[column].isin(names).to_numpy()
    if wanted.changes and changes is not None:
        kept &= changes.isin(wanted.changes).to_numpy()
    if wanted.group:
        kept &= _match_group(samples["video_name"], wanted.group)
    if wanted.detector:
        kept &= _match_detector(samples["found_by"], wanted.detector)
    if wanted.text:
        kept &= np.logical_or.reduce([_match_text(samples[name], wanted.text) for name in _TEXTS])
    if wanted.decided == "new":
        kept &= samples["frame_path"].isin(new).to_numpy()
    elif wanted.decided != "any":
        kept &= samples["decision"].notna().to_numpy() == (wanted.decided == "yes")
    if wanted.decided_by:
        kept &= (samples["decided_by"] == wanted.decided_by).to_numpy()
    if wanted.doubt is not None and doubt is not None:
        low, high = wanted.doubt
        kept &= (doubt >= low) & (doubt <= high)  # NaN, not wanted, is neither
    return np.flatnonzero(kept)


def sort_rows(
    samples: pd.DataFrame, rows: Indices, by: str, descending: bool = False, *, doubt: Floats | None = None
) -> Indices:
    """Sort rows; equal ones stay in the order of the table, and those without a value come last.

    Parameters
    ----------
    samples
        The outcomes.
    rows
        Row numbers, in the order of the table.
    by
        One of `SORTS`.
    descending
        Whether the largest comes first.
    doubt
        Of each row; None: frames stay in the order of the table.

    Raises
    ------
    ConfigError
        If there is no such order.

    Examples
    --------
    >>> samples = pd.DataFrame({"hand_score": [0.5, None, 0.9]})
    >>> sort_rows(samples, np.arange(3), "hand_score", descending=True).tolist()
    [2, 0, 1]
    """
    if by not in SORTS:
        raise ConfigError(f"sort = {by!r}: {suggest_name(by, SORTS)}")
    if by == "table" or (by == "doubt" and doubt is None):
        return rows[::-1] if descending and by == "table" else rows
    values = _find_values(samples, rows, by, doubt)
    ordered: Indices = rows[np.argsort(-values if descending else values, kind="stable")]
    return ordered


def count_rows(samples: pd.DataFrame, saved: pd.DataFrame, changes: pd.DataFrame | None) -> dict[str, Any]:
    """Count what the settings that are tried give, beside what is saved.

    Parameters
    ----------
    samples, saved
        The outcomes under these settings, and those of the run, row by row.
    changes
        What `comparison.compare_samples` returned; None: the settings are those of the run.

    Returns
    -------
    dict
        `samples`, `saved_samples`; `outcomes`, numbers by name; `changes`, numbers by name, or None; `classes`, by name
        `frames`, `samples` and `saved_samples` of wanted frames.

    Examples
    --------
    >>> samples = pd.DataFrame({"class_name": ["ok"], "outcome": ["paired"], "wanted": [True]})
    >>> count_rows(samples, samples, None)["classes"]
    {'ok': {'frames': 1, 'samples': 1, 'saved_samples': 1}}
    """
    is_sample, was_sample = (table["outcome"].isin(SAMPLES).to_numpy() for table in (samples, saved))
    wanted = samples["wanted"].to_numpy(bool)
    codes, names = pd.factorize(samples["class_name"])
    counts = {
        name: np.bincount(codes[rows], minlength=len(names)).tolist()
        for name, rows in (("frames", wanted), ("samples", is_sample), ("saved_samples", was_sample))
    }
    classes = {str(name): {key: counts[key][k] for key in counts} for k, name in enumerate(names)}
    found = None if changes is None else count_changes(changes)
    return {
        "samples": int(is_sample.sum()),
        "saved_samples": int(was_sample.sum()),
        "outcomes": {str(name): int(count) for name, count in samples["outcome"].value_counts().items()},
        "changes": None if found is None else {name: int(found[name]) for name in _CHANGES},
        "classes": classes,
    }


def list_detectors(samples: pd.DataFrame) -> list[str]:
    """List the detectors that found the hands of samples.

    Examples
    --------
    >>> list_detectors(pd.DataFrame({"found_by": ["hagrid+mediapipe", None]}))
    ['hagrid', 'mediapipe']
    """
    joined = samples["found_by"].dropna().unique().tolist()
    return sorted({name for names in joined for name in str(names).split("+")})


_TEXTS = ("frame_path", "video_name", "error")


def _match_text(column: pd.Series, text: str) -> Flags:
    found = pc.match_substring(pa.array(column, pa.string(), from_pandas=True), text, ignore_case=True)
    matched: Flags = found.fill_null(False).to_numpy(zero_copy_only=False)
    return matched


def _match_group(column: pd.Series, group: str) -> Flags:
    exact: Flags = (column == group).to_numpy()
    return exact if exact.any() else _match_text(column, group)


def _match_detector(column: pd.Series, detector: str) -> Flags:
    joined = [names for names in column.dropna().unique().tolist() if detector in str(names).split("+")]
    found: Flags = column.isin(joined).to_numpy()
    return found


def _find_values(samples: pd.DataFrame, rows: Indices, by: str, doubt: Floats | None) -> Floats:
    """Return what rows are sorted by, NaN where there is nothing."""
    if by == "doubt" and doubt is not None:
        return doubt[rows]
    if by == "group":
        codes, _ = pd.factorize(samples["video_name"], sort=True)
        return codes[rows].astype(np.float64)
    chosen = samples.iloc[rows]
    if by == "size":
        area = boxes.compute_area(pairing.get_boxes(chosen, "hand"))
        share: Floats = area / (chosen["width"] * chosen["height"]).to_numpy(np.float64)
        return share
    values: Floats = chosen[by].to_numpy(np.float64)
    return values
