"""Comparison of two runs, of two pairings of one run, or of one before and after the decisions of people."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from detectime import config as configuration
from detectime import evaluation, pairing
from detectime.boxes import Flags
from detectime.comparison import differing_settings, findings
from detectime.comparison.changes import align_frames, compare_samples, count_classes
from detectime.config import PairingConfig
from detectime.errors import ConfigError, DocumentedError
from detectime.notes import Note, shorten_text
from detectime.runs import FinishedRun
from detectime.settings import list_field_names, suggest_name
from detectime.truth import Truth

_MOST_NAMED = 4  # settings in the name of a side


class ComparisonError(DocumentedError, ValueError):
    """Runs that cannot be compared; the message says why and what to do."""


@dataclass(frozen=True)
class Comparison:
    """What differs between two outcomes of the same frames, A and B.

    Attributes
    ----------
    name_a, name_b
        What they are: the folders of two runs, or one folder and what is different about it.
    frames
        One row per frame that both have: see `changes.compare_samples`.
    classes
        One row per class: see `changes.count_classes`.
    measures
        Against truth, paired: see `evaluation.compare_evaluations`. None without truth.
    origin
        Where the truth is from; empty without truth.
    settings
        One row per setting that differs: `key`, such as ``pairing.fallback``, and `a`, `b`, its values (text).
    notes
        Findings: frames that only one has, frames whose content changed, decisions that only one has …
    samples_a, samples_b
        The outcomes of these frames, one row per row of `frames`, with boxes in the pixels of their own run.
    """

    name_a: str
    name_b: str
    frames: pd.DataFrame
    classes: pd.DataFrame
    measures: pd.DataFrame | None
    origin: str
    settings: pd.DataFrame
    notes: tuple[Note, ...]
    samples_a: pd.DataFrame = field(repr=False)
    samples_b: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class _Side:
    """One of the two: A or B."""

    letter: str
    name: str
    run: FinishedRun
    samples: pd.DataFrame
    truth: Truth | None

    @property
    def pixels(self) -> str:
        return self.run.config.detection.pixels


def compare_runs(
    a: FinishedRun, b: FinishedRun, truth: Truth | None = None, truth_b: Truth | None = None
) -> Comparison:
    """Compare the samples of two runs, frame by frame.

    Compared are the outcomes that were written last, with the decisions that were applied to them.

    Parameters
    ----------
    a, b
        The runs. Frames are the same if their `frame_path` is.
    truth
        Annotated hands, in the pixels of the frames of `a`.
    truth_b
        The same, in the pixels of the frames of `b`; None: as `truth`.

    Returns
    -------
    Comparison
        Nothing is written.

    Raises
    ------
    ComparisonError
        If the runs are one and the same, have no frame in common, or `truth` does not fit the pixels of `b`.
    RunError
        If tables of a run cannot be read, or frames were detected since it was paired.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> comparison = compare_runs(open_run("before"), open_run("after"))  # doctest: +SKIP
    >>> comparison.frames.query("change == 'lost'")["frame_path"].tolist()  # doctest: +SKIP
    ['anna/0001.jpg']
    """
    if os.path.realpath(str(a.store)) == os.path.realpath(str(b.store)):  # a URL stays different from any other
        raise ComparisonError(
            f"{a.store}: this is the same run twice; give two runs, or pairing settings to compare the run with, such "
            "as --fallback frame or compare_settings(run, PairingConfig(fallback='frame'))"
        )
    for run in (a, b):
        run.check_paired(with_decisions=False)
    sides = (
        _Side("A", str(a.store), a, a.outcomes, truth),
        _Side("B", str(b.store), b, b.outcomes, truth_b or truth),
    )
    if truth is not None and truth_b is None:
        _check_pixels(*sides, truth)
    notes = [note for side in sides for note in findings.note_state(side.run, side.letter)]
    differing = differing_settings.tabulate_differences(*map(differing_settings.list_settings, (a, b)))
    return _compare_sides(*sides, differing, notes)


def compare_settings(run: FinishedRun, settings: PairingConfig, truth: Truth | None = None) -> Comparison:
    """Compare the pairing of a run, A, with what other settings would choose, B; nothing is written.

    Both are paired now, with the decisions that there are.

    Parameters
    ----------
    run
        The run.
    settings
        Of the other pairing.
    truth
        Annotated hands, in the pixels of its frames.

    Raises
    ------
    RunError
        If tables of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> compare_settings(open_run("output"), PairingConfig(fallback="frame")).classes  # doctest: +SKIP
    """
    settings_of = [differing_settings.list_pairing_settings(value) for value in (run.pairing, settings)]
    differing = differing_settings.tabulate_differences(*settings_of)
    a = _Side("A", str(run.store), run, run.pair_frames(run.pairing).samples, truth)
    b = _Side("B", f"{run.store} with {_name_settings(differing)}", run, run.pair_frames(settings).samples, truth)
    return _compare_sides(a, b, differing, [])


def change_settings(settings: PairingConfig, changes: Mapping[str, Any]) -> PairingConfig:
    """Return settings of pairing with other values of some keys.

    Parameters
    ----------
    settings
        Such as `FinishedRun.pairing`.
    changes
        Values by key.

    Raises
    ------
    ConfigError
        If a key is unknown, or a value is not accepted.

    Examples
    --------
    >>> change_settings(PairingConfig(), {"fallback": "frame"}).fallback
    'frame'
    >>> change_settings(PairingConfig(), {"crop_coefficient": 0})
    Traceback (most recent call last):
        ...
    detectime.errors.ConfigError: given as a parameter: pairing.crop_coefficient = 0: accepted: more than 0
    """
    for key in changes:
        if key not in list_field_names(PairingConfig):
            hint = suggest_name(key, list_field_names(PairingConfig))
            raise ConfigError(f"{key}: there is no such setting of pairing; {hint}")
    try:
        return dataclasses.replace(settings, **changes)
    except ValidationError as error:
        faults = (f"given as a parameter: pairing.{fault}" for fault in configuration.list_faults(error))
        raise ConfigError("\n".join(faults)) from error


def compare_decisions(run: FinishedRun, truth: Truth | None = None) -> Comparison:
    """Compare what pairing alone chooses, A, with the decisions of people applied to it, B; nothing is written.

    Parameters
    ----------
    run
        The run. Decisions that were made since it was paired count too.
    truth
        Annotated hands, in the pixels of its frames.

    Raises
    ------
    ComparisonError
        If nobody decided anything.
    RunError
        If tables of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> compare_decisions(open_run("output")).classes  # doctest: +SKIP
    """
    decided = run.pair_frames(run.pairing)
    if decided.decisions_sha256 is None:
        raise ComparisonError(
            f"{run.store}: there are no decisions, so there is nothing to compare this run with; give another run, or "
            "pairing settings, such as --fallback frame"
        )
    alone = pairing.pair_frames(run.frames, run.detections, run.pairing)
    a = _Side("A", f"{run.store} without decisions", run, alone, truth)
    b = _Side("B", f"{run.store} with the decisions of people", run, decided.samples, truth)
    return _compare_sides(a, b, differing_settings.tabulate_differences({}, {}), decided.notes)


def _compare_sides(a: _Side, b: _Side, settings: pd.DataFrame, notes: list[Note]) -> Comparison:
    shared_a, shared_b = align_frames(a.samples, b.samples)
    if shared_a.empty:
        raise ComparisonError(_describe_strangers(a, b))
    frames = compare_samples(shared_a, shared_b, pixels_a=a.pixels, pixels_b=b.pixels)
    measures, found = _compare_with_truth(
        dataclasses.replace(a, samples=shared_a), dataclasses.replace(b, samples=shared_b)
    )
    notes = [
        *(_note_runs(a, b, shared_a, shared_b, frames) if a.run is not b.run else ()),
        *findings.note_decisions(shared_a, shared_b),
        *findings.note_classes(shared_a, shared_b, frames),
        *notes,
        *found,
    ]
    return Comparison(
        name_a=a.name,
        name_b=b.name,
        frames=frames,
        classes=_sort_classes(count_classes(frames), shared_a, shared_b),
        measures=measures,
        origin=a.truth.origin if a.truth is not None and measures is not None else "",
        settings=settings,
        notes=tuple(dict.fromkeys(notes)),
        samples_a=shared_a,
        samples_b=shared_b,
    )


def _note_runs(
    a: _Side, b: _Side, shared_a: pd.DataFrame, shared_b: pd.DataFrame, frames: pd.DataFrame
) -> Iterator[Note]:
    """Note in what the frames of two runs differ."""
    yield from findings.note_unshared(a.samples, b.samples)
    yield from findings.note_pixels(a.pixels, b.pixels)
    yield from findings.note_pictures(shared_a, shared_b, frames)


def _name_settings(differing: pd.DataFrame) -> str:
    """Return the settings of B in a few words."""
    if not 0 < len(differing) < _MOST_NAMED:
        return f"{len(differing)} other settings" if len(differing) else "the same settings"
    keys = differing["key"].str.removeprefix("pairing.")
    return ", ".join(f"{key} = {value}" for key, value in zip(keys, differing["b"], strict=True))


def _describe_strangers(a: _Side, b: _Side) -> str:
    parts = [_describe_frames(side) for side in (a, b)]
    return (
        f"{a.name} and {b.name} have no frame in common: {parts[0]} in the first, {parts[1]} in the second; compare "
        "runs whose frames have the same frame_path"
    )


def _describe_frames(side: _Side) -> str:
    paths = side.samples["frame_path"]
    count = f"{len(paths):,} {'frame' if len(paths) == 1 else 'frames'}"
    return f"{count} (the first: {shorten_text(str(paths.iloc[0]))})" if len(paths) else count


def _sort_classes(counts: pd.DataFrame, a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Sort classes by their number in A; then follow those that only B has."""
    known = [samples[["label", "class_name"]].drop_duplicates().sort_values("label") for samples in (a, b)]
    order = pd.Index(pd.concat(known)["class_name"].unique())
    return counts.reindex(order[order.isin(counts.index)]).rename_axis("class_name")


def _compare_with_truth(a: _Side, b: _Side) -> tuple[pd.DataFrame | None, list[Note]]:
    """Compare samples of the same frames, row by row, on those that are wanted and annotated in both."""
    if a.truth is None or b.truth is None:
        return None, []
    if a.truth.frames.empty or b.truth.frames.empty:
        return None, findings.merge_notes(a.truth.notes, b.truth.notes)
    counts = _find_counted(a.samples, a.truth) & _find_counted(b.samples, b.truth)
    found_a = evaluation.evaluate_run(a.run, a.truth, a.samples[counts])
    found_b = evaluation.evaluate_run(b.run, b.truth, b.samples[counts])
    notes = findings.merge_notes([*a.truth.notes, *found_a.notes], [*b.truth.notes, *found_b.notes])
    return evaluation.compare_evaluations(found_a, found_b), notes


def _find_counted(samples: pd.DataFrame, truth: Truth) -> Flags:
    """Whether frames are wanted and annotated."""
    is_annotated = truth.frames.get_indexer(pd.Index(samples["frame_path"])) >= 0
    counted: Flags = is_annotated & samples["wanted"].to_numpy(bool)
    return counted


def _check_pixels(a: _Side, b: _Side, truth: Truth) -> None:
    """Refuse truth in the pixels of A for a B whose frames have others."""
    annotated, _ = align_frames(a.samples, pd.DataFrame({"frame_path": truth.frames}))
    shared_a, shared_b = align_frames(annotated, b.samples)
    sizes = [shared[["width", "height"]].to_numpy(np.float64) for shared in (shared_a, shared_b)]
    differs = ((sizes[0] != sizes[1]) & ~np.isnan(sizes[0] + sizes[1])).any(axis=1)
    if a.pixels != b.pixels or differs.any():
        what = (
            f"{a.pixels} and {b.pixels} pixels" if a.pixels != b.pixels else f"other sizes, {differs.sum():,} of them"
        )
        raise ComparisonError(
            f"the frames of {a.name} and {b.name} have {what}, and the truth is in those of the first; read it for the "
            "second too: compare_runs(a, b, truth, truth_b=read_truth(b, …))"
        )
