"""Splitting a run: what the notebook and the command call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from detectime import similarity
from detectime.detection import manifest
from detectime.labels.grouping import NO_GROUPS
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.splits import leaks, shortcomings
from detectime.splits.assignment import SHARES, assign_splits, make_split
from detectime.splits.counts import are_samples
from detectime.splits.split_file import FILE_NAME, check_names, hash_split, read_split, update_split


def split_run(
    run: FinishedRun,
    shares: Mapping[str, float] | None = None,
    seed: int | None = None,
    *,
    column: str | None = None,
    allow_similar: bool = False,
) -> tuple[pd.DataFrame, list[Note]]:
    """Split a run into parts that do not leak, and write ``split.csv``; no frame is read.

    Groups that are in ``split.csv`` keep their parts, and only others are assigned. Groups whose samples are the same
    frame, parts of one video, or near-duplicate crops are put into one part.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    shares, seed
        As for `assignment.make_split`. None: as when ``split.csv`` was made, or, if there is none, `assignment.SHARES`
        and 0.
    column
        As for `assignment.make_split`. A ``split.csv`` that has other parts is renamed to ``split.<time>.csv``.
    allow_similar
        Near-duplicates and parts of one video may lie in different parts of the split; a note counts them.

    Returns
    -------
    samples
        The outcomes of wanted frames, with the column `split`.
    notes
        What the split could not do, and what could not be checked.

    Raises
    ------
    SplitError
        If the split cannot be made, or leaks because of groups whose part is given. Then ``split.csv`` stays as it is.
    RunError
        If a table of the run cannot be read.
    StoreError
        If the folder cannot be written to, or another process is working in it.
    """
    with run.store.lock():
        run.refresh()
        outcomes = run.outcomes
        wanted = outcomes[outcomes["wanted"].to_numpy(bool)].reset_index(drop=True)
        earlier = read_split(run.store)
        made = _read_record(run, earlier)
        chosen = _choose(made, shares, seed)
        if earlier is not None and column is None:
            check_names(earlier, outcomes["video_name"])
        split, notes = _make_split(run, wanted, earlier, chosen, column, allow_similar)
        is_grown = earlier is None or not wanted["video_name"].isin(earlier["video_name"]).all()
        notes += _note_record(made, chosen, shares, seed, is_grown, column)
        notes += [note for note in run.notes if note.kind == NO_GROUPS]
        notes += shortcomings.note_moved(*update_split(run.store, split, earlier))
        run.manifest["split"] = _describe_record(run, made, chosen, is_grown, column)
        manifest.write_manifest(run.store, run.manifest)
    if column is None and "split" in outcomes:
        notes.append(
            Note("unused_column", 1, 'The column split of the labels is not used; to take it: column = "split".')
        )
    return assign_splits(wanted, split), notes


def _make_split(
    run: FinishedRun,
    wanted: pd.DataFrame,
    earlier: pd.DataFrame | None,
    chosen: tuple[Mapping[str, float], int],
    column: str | None,
    allow_similar: bool,
) -> tuple[pd.DataFrame, list[Note]]:
    """Make a split that does not leak; frames without a sample, such as black ones, tie no groups."""
    samples = wanted[are_samples(wanted)].reset_index(drop=True)
    contents = similarity.read_contents(run, samples)
    hashes, has_hash = similarity.read_sample_hashes(run, samples)
    links = leaks.find_links(samples, contents, hashes, has_hash)
    ties = links[~links["kind"].isin(leaks.ALLOWED)] if allow_similar else links
    split, notes = make_split(wanted, *chosen, column=column, earlier=earlier, links=ties)
    found = leaks.find_leaks(assign_splits(samples, split), links)
    place = FILE_NAME if column is None else f"the column {column!r} of the labels"
    new = () if column is not None or earlier is None else set(samples["video_name"]) - set(earlier["video_name"])
    notes += leaks.refuse_leaks(found, allow_similar=allow_similar, place=place, new=new)
    return split, [*notes, *leaks.note_unknown(samples, contents, has_hash)]


def _read_record(run: FinishedRun, earlier: pd.DataFrame | None) -> dict[str, Any]:
    """Return how the present ``split.csv`` was made; `edited`: whether it is not as it was written."""
    if earlier is None:
        return {}
    made = run.manifest.get("split") or {}
    is_other = made.get("sha256") not in (None, hash_split(run.store))  # None: of an early 0.3, which did not say
    return {**made, "edited": not made or is_other or made.get("edited", False)}


def _choose(
    made: Mapping[str, Any], shares: Mapping[str, float] | None, seed: int | None
) -> tuple[Mapping[str, float], int]:
    """Return the shares and the seed: those given, those of the present split, or the default."""
    known = made.get("seed")
    return made.get("shares") or SHARES if shares is None else shares, (known or 0) if seed is None else seed


def _describe_record(
    run: FinishedRun,
    made: Mapping[str, Any],
    chosen: tuple[Mapping[str, float], int],
    is_grown: bool,
    column: str | None,
) -> dict[str, Any] | None:
    """Return what ``run.json`` says of ``split.csv``: what its parts come from. None: from a person alone."""
    if column is not None:
        how: dict[str, Any] = {"shares": None, "seed": None, "column": column, "edited": False}
    elif is_grown:
        is_edited = made.get("edited", False) or made.get("column") is not None  # a person chose earlier parts
        how = {"shares": dict(chosen[0]), "seed": chosen[1], "column": None, "edited": is_edited}
    elif "column" in made:
        how = dict(made)
    else:
        return None
    return how | {"sha256": hash_split(run.store)}


def _note_record(
    made: Mapping[str, Any],
    chosen: tuple[Mapping[str, float], int],
    shares: Mapping[str, float] | None,
    seed: int | None,
    is_grown: bool,
    column: str | None,
) -> list[Note]:
    """Note what was taken from the present split, and a seed that changes nothing."""
    notes = []
    if column is None and shares is None and made.get("shares") and chosen[0] != SHARES:
        text = ", ".join(f"{name} {share:g}" for name, share in chosen[0].items())
        notes.append(Note("shares_of_run", 1, f"The shares are those with which {FILE_NAME} was made: {text}."))
    if column is None and not is_grown and seed not in (None, made.get("seed")):
        notes.append(Note("unused_seed", 1, f"The seed has no effect: all groups are in {FILE_NAME}."))
    return notes
