"""Splitting a run: what the notebook and the command call."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from detectime import similarity
from detectime.detection import manifest
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.splits import leaks
from detectime.splits.assignment import SHARES, assign_splits, make_split
from detectime.splits.counts import are_samples
from detectime.splits.split_file import FILE_NAME, read_split, write_split


def split_run(
    run: FinishedRun,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    *,
    column: str | None = None,
    allow_similar: bool = False,
) -> tuple[pd.DataFrame, list[Note]]:
    """Split a run into parts that do not leak, and write ``split.csv``; no frame is read.

    Groups that are in ``split.csv`` keep their parts, and only others are assigned. Groups that hold the same frame,
    parts of one video, or near-duplicate crops are put into one part.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    shares, seed, column
        As for `assignment.make_split`.
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
        earlier = None if column is not None else read_split(run.store)
        contents = similarity.read_contents(run, wanted)
        hashes, has_hash = similarity.read_sample_hashes(run, wanted)
        is_sample = are_samples(wanted)
        has_hash &= is_sample  # a person may have rejected it
        links = leaks.find_links(wanted, contents, hashes, has_hash)
        ties = links[~links["kind"].isin(leaks.ALLOWED)] if allow_similar else links
        split, notes = make_split(wanted, shares, seed, column=column, earlier=earlier, links=ties)
        wanted = assign_splits(wanted, split)
        place = FILE_NAME if column is None else f"the column {column!r} of the labels"
        if len(leaks.find_leaks(wanted, links)):  # those of frames without a sample do no harm
            kept = wanted[is_sample]
            links = leaks.find_links(kept, contents[is_sample], hashes[is_sample], has_hash[is_sample])
            found = leaks.find_leaks(kept, links)
            notes += leaks.refuse_leaks(found, allow_similar=allow_similar, place=place)
        write_split(run.store, split)
        run.manifest["split"] = {"shares": dict(shares), "seed": seed, "column": column}
        manifest.write_manifest(run.store, run.manifest)
    if column is None and "split" in outcomes:
        notes.append(
            Note("unused_column", 1, 'The column split of the labels is not used; to take it: column = "split".')
        )
    return wanted, [*notes, *leaks.note_unknown(wanted, contents, has_hash)]
