"""Which frames the explorer shows, and in which order: arithmetic on the outcomes table, the doubt and the changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats
from detectime.candidates import Indices
from detectime.comparison import Change, count_changes
from detectime.config import make_section
from detectime.decisions import is_text
from detectime.errors import ConfigError
from detectime.schema import SAMPLES, Outcome
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

Decided = Literal["any", "yes", "no", "new"]
"""Whether people decided on a frame: no matter, yes, no, or since the run was paired."""

DECIDED: tuple[str, ...] = get_args(Decided)

_COUNTED = tuple(change.value for change in Change if change.is_change or change is Change.OTHER_REASON)
_CHECKED = ConfigDict(extra="forbid", strict=True)


def _read_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(name, str) and is_text(name) for name in value):
        return tuple(value)
    raise ValueError("accepted: a list of names")


def _read_range(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    is_range = isinstance(value, list | tuple) and len(value) == 2
    if is_range and all(type(limit) in (int, float) and math.isfinite(limit) for limit in value):
        return float(value[0]), float(value[1])
    raise ValueError("accepted: null, or the lowest and the highest doubt")


def _read_text(value: Any) -> str:
    if isinstance(value, str) and is_text(value):
        return value
    raise ValueError("accepted: text")


def _check_names(*accepted: str) -> AfterValidator:
    """Return a validator that refuses names that do not exist."""

    def check(names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in accepted:
                raise ValueError(f"there is no {name!r}; {suggest_name(name, accepted)}")
        return names

    return AfterValidator(check)


_Names = Annotated[tuple[str, ...], BeforeValidator(_read_names)]
_Text = Annotated[str, BeforeValidator(_read_text)]


@dataclass(frozen=True, config=_CHECKED)
class Filter:
    """Which frames are wanted: those that meet all conditions that are set.

    Attributes
    ----------
    classes, outcomes, changes
        Names of classes, of `schema.Outcome` and of `comparison.Change`: one of each kind; empty: all.
    group
        Its name or, if there is no such group, a part of names, in small or capital letters.
    detector
        One that agrees on the hand.
    text
        A part of the path, the group, the class or the error, in small or capital letters.
    decided, decided_by
        One of `DECIDED`; a person who decided on the frame, alone or beside another one.
    doubt
        The lowest and the highest, both included; None: no matter.
    """

    classes: _Names = ()
    outcomes: Annotated[_Names, _check_names(*(outcome.value for outcome in Outcome))] = ()
    changes: Annotated[_Names, _check_names(*(change.value for change in Change))] = ()
    group: _Text = ""
    detector: _Text = ""
    text: _Text = ""
    decided: Decided = "any"
    decided_by: _Text = ""
    doubt: Annotated[tuple[float, float] | None, BeforeValidator(_read_range)] = None


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
    >>> read_filter({"doubt": 0.5})
    Traceback (most recent call last):
        ...
    detectime.errors.ConfigError: doubt = 0.5: accepted: null, or the lowest and the highest doubt
    """
    return make_section(Filter, values, "filter")


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
        The outcomes: what `pairing.pair_frames` returned.
    wanted
        The filter. Conditions about doubt and changes are ignored where these are None.
    doubt
        float64, shape (N,), of each row; NaN, where a frame is not wanted, is in no range.
    changes
        Of each row, categorical: one of `comparison.Change`.
    new
        Paths of frames that people decided on since the run was paired.

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
        kept &= np.asarray(changes.isin(wanted.changes), bool)
    if wanted.group:
        kept &= _match_group(samples["video_name"], wanted.group)
    if wanted.detector:
        kept &= _match_values(
            samples["found_by"], lambda values: (wanted.detector in names.split("+") for names in values)
        )
    if wanted.decided == "new":
        kept &= samples["frame_path"].isin(new).to_numpy()
    elif wanted.decided != "any":
        kept &= samples["decision"].notna().to_numpy() == (wanted.decided == "yes")
    if wanted.decided_by:
        kept &= _match_values(
            samples["decided_by"], lambda values: (_names_person(names, wanted.decided_by) for names in values)
        )
    if wanted.doubt is not None and doubt is not None:
        low, high = wanted.doubt
        kept &= (doubt >= low) & (doubt <= high)
    if wanted.text:
        kept &= _find_text(samples, wanted.text)
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
        int64: row numbers, in the order of the table.
    by
        One of `SORTS`. The size of a hand is its share of the frame.
    descending
        Whether the largest comes first.
    doubt
        As for `select_rows`; None: frames stay in the order of the table if they are sorted by it.

    Returns
    -------
    ndarray
        int64: the row numbers in that order.

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
    if by == "table":
        return rows[::-1] if descending else rows
    values = _find_values(samples, rows, by, doubt)
    return rows[np.argsort(-values if descending else values, kind="stable")]


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
        `samples`, `saved_samples`; `outcomes`, numbers of frames by name, ``left_out`` too; `changes`, numbers of
        wanted frames by name, or None; `classes`, by name `frames`, `samples` and `saved_samples` of wanted frames.

    Examples
    --------
    >>> samples = pd.DataFrame({"class_name": ["ok"], "outcome": ["paired"], "wanted": [True]})
    >>> count_rows(samples, samples, None)["classes"]
    {'ok': {'frames': 1, 'samples': 1, 'saved_samples': 1}}
    """
    codes, names = pd.factorize(samples["outcome"])
    is_sample, was_sample = (table["outcome"].isin(SAMPLES).to_numpy() for table in (samples, saved))
    found = None if changes is None else count_changes(changes)
    return {
        "samples": int(is_sample.sum()),
        "saved_samples": int(was_sample.sum()),
        "outcomes": dict(zip(map(str, names), np.bincount(codes, minlength=len(names)).tolist(), strict=True)),
        "changes": None if found is None else {name: int(found[name]) for name in _COUNTED},
        "classes": _count_classes(samples, is_sample, was_sample),
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


def _count_classes(samples: pd.DataFrame, is_sample: Flags, was_sample: Flags) -> dict[str, dict[str, int]]:
    codes, names = pd.factorize(samples["class_name"])
    kinds = {"frames": samples["wanted"].to_numpy(bool), "samples": is_sample, "saved_samples": was_sample}
    counts = {kind: np.bincount(codes[rows], minlength=len(names)).tolist() for kind, rows in kinds.items()}
    return {str(name): {kind: counts[kind][k] for kind in counts} for k, name in enumerate(names)}


def _find_text(samples: pd.DataFrame, text: str) -> Flags:
    """Whether the path, the group, the class or the error contains a text."""
    found = _match_text(samples["frame_path"], text)
    for name in ("video_name", "class_name", "error"):
        found |= _match_values(samples[name], lambda values: _match_text(values, text))
    return found


def _match_group(column: pd.Series, group: str) -> Flags:
    exact: Flags = (column == group).to_numpy(bool)
    return exact if exact.any() else _match_values(column, lambda values: _match_text(values, group))


def _match_text(values: pd.Series, text: str) -> Flags:
    """Whether values contain a text, in small or capital letters."""
    found = pc.match_substring(pa.array(values, pa.string(), from_pandas=True), text, ignore_case=True)
    matched: Flags = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
    return matched.copy()


def _match_values(column: pd.Series, match: Callable[[pd.Series], Iterable[bool]]) -> Flags:
    """Whether values of a column match, asked once for equal ones; none where there is no value."""
    codes, values = pd.factorize(column)
    return np.array([*match(pd.Series(values.astype(str), dtype=object)), False])[codes]


def _names_person(names: str, person: str) -> bool:
    """Whether one of the people who decided is a person, or all of them: two are joined by a comma."""
    return person == names or person in names.split(", ")


def _find_values(samples: pd.DataFrame, rows: Indices, by: str, doubt: Floats | None) -> Floats:
    """Return what rows are sorted by, NaN where there is nothing."""
    if by == "doubt":
        return np.full(len(rows), np.nan) if doubt is None else doubt[rows]
    if by == "group":
        codes, _ = pd.factorize(samples["video_name"], sort=True)
        return np.where(codes < 0, np.nan, codes)[rows]
    if by == "size":
        area = boxes.compute_area(pairing.get_boxes(samples, "hand")[rows])
        share: Floats = area / (samples["width"] * samples["height"]).to_numpy(np.float64)[rows]
        return share
    values: Floats = samples[by].to_numpy(np.float64)[rows]
    return values
