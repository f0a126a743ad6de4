"""The samples and frames that an export holds: reviewed or not, thinned, and in parts of the split without leaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import similarity, splits, thinning
from detectime.boxes import Flags
from detectime.config import NO_GESTURE
from detectime.exports.contract import NO_SPLIT, ExportConfig, ExportError
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, Outcome


@dataclass(frozen=True)
class Selection:
    """What an export holds, whatever its format.

    Attributes
    ----------
    frames
        Rows of the outcomes table in its order, numbered from 0, with `split`: frames with a sample; with `no_gesture`
        also detected frames of that class without one; of `missed` frames only those without one, unless a person
        confirmed that there is no hand.
    is_sample
        bool, shape (frames,): whether the frame has a sample.
    contents
        `images.describe_content` of each frame at detection, None where unknown.
    parts
        Names of the parts of the split, train first; ``("",)``: not split.
    notes
        Findings.
    thinned
        The number of samples of each class that `thin` and `every` left out.
    """

    frames: pd.DataFrame
    is_sample: Flags
    contents: pd.Series
    parts: tuple[str, ...]
    notes: tuple[Note, ...]
    thinned: dict[str, int]


def select_frames(run: FinishedRun, config: ExportConfig) -> Selection:
    """Select what an export of a run holds. No frame is read.

    Parameters
    ----------
    run
        The run, paired since the last decision.
    config
        What is exported.

    Raises
    ------
    ExportError
        If there is no split where one is asked for.
    SplitError
        If the split does not fit the samples, or leaks.
    RunError
        If decisions were made or frames detected since the run was paired, or a table of the run cannot be read.
    """
    run.check_paired()
    split = _read_split(run, config)
    rows = run.outcomes
    rows.attrs = {}
    is_sample, is_background = _choose_rows(run, rows, config)
    samples = rows[is_sample].reset_index(drop=True)
    redundant, notes = _find_redundant(run, samples, config)
    thinned = {str(name): int(count) for name, count in samples.loc[redundant, "class_name"].value_counts().items()}
    chosen = is_sample | is_background
    chosen[np.flatnonzero(is_sample)[redundant]] = False
    frames = rows[chosen].reset_index(drop=True)
    frames = frames.assign(split=NO_SPLIT) if split is None else splits.assign_splits(frames, split)
    contents = _list_contents(run, frames)
    if split is not None:
        notes += _check_leaks(run, frames, is_sample[chosen], contents, config)
    parts = (NO_SPLIT,) if split is None else tuple(splits.order_parts(split["split"]))
    return Selection(frames, is_sample[chosen], contents, parts, tuple(notes), thinned)


def read_detections_of(run: FinishedRun, columns: Sequence[str], frames: pd.DataFrame) -> pa.Table:
    """Read columns of the detections table, one row per frame, in the order of the frames.

    Parameters
    ----------
    run
        The run.
    columns
        `frame_path` and any of `content`, `faces`, `hands`.
    frames
        Rows with `frame_path`. A frame without detections, in which a person drew a box, has a row without boxes.

    Raises
    ------
    RunError
        If the detections cannot be read.
    """
    detections = run.read_detections(columns)
    rows = pc.index_in(pa.array(frames["frame_path"], pa.string()), value_set=detections["frame_path"].combine_chunks())
    nothing: dict[str, object] = {"frame_path": "", "content": None, "faces": [], "hands": []}
    last = pa.Table.from_pylist([{name: nothing[name] for name in columns}], schema=detections.schema)
    return pa.concat_tables([detections, last]).take(rows.fill_null(len(detections)))


def _list_contents(run: FinishedRun, frames: pd.DataFrame) -> pd.Series:
    """Return the content of each frame at detection, None where it is unknown."""
    contents = frames["content"].astype(object).where(frames["content"].notna(), None)
    if not contents.isna().any():
        return contents
    stored = read_detections_of(run, ["frame_path", "content"], frames)["content"].to_pylist()
    return contents.where(contents.notna(), pd.Series(stored, contents.index, dtype=object))


def _choose_rows(run: FinishedRun, rows: pd.DataFrame, config: ExportConfig) -> tuple[Flags, Flags]:
    """Return which rows are exported with their sample, and which without one."""
    is_sample = rows["outcome"].isin(SAMPLES).to_numpy()
    is_rejected = (rows["outcome"] == Outcome.REJECTED).to_numpy()
    is_empty = (rows["width"].notna() & rows["wanted"]).to_numpy() & ~is_sample
    if config.only == "missed":
        return np.zeros(len(rows), bool), is_empty & ~_mark_confirmed(run, rows, is_rejected)
    is_background = is_empty & ~is_rejected & (rows["class_name"] == NO_GESTURE).to_numpy() & config.no_gesture
    if config.only == "reviewed":
        is_reviewed = rows["decision"].notna().to_numpy()
        is_sample, is_background = is_sample & is_reviewed, is_background & is_reviewed
    return is_sample, is_background


def _mark_confirmed(run: FinishedRun, rows: pd.DataFrame, is_rejected: Flags) -> Flags:
    """Return the rows without a sample of which a person said that they have no hand.

    A frame whose box was rejected still needs another one, unless somebody saw it without a box, and drew none.
    """
    is_confirmed = rows["decision"].str.contains("keep|reject", na=False).to_numpy(bool)
    if not (is_confirmed & is_rejected).any():
        return is_confirmed
    seen = {path for path, found in run.decisions.hands.items() if found[-1].judged_box is None}
    marked: Flags = is_confirmed & (~is_rejected | rows["frame_path"].isin(seen).to_numpy())
    return marked


def _find_redundant(run: FinishedRun, samples: pd.DataFrame, config: ExportConfig) -> tuple[Flags, list[Note]]:
    redundant = np.zeros(len(samples), bool)
    notes: list[Note] = []
    if config.thin is not None:
        hashes, has_hash = similarity.read_sample_hashes(run, samples)
        redundant |= thinning.mark_redundant(samples, hashes, has_hash, bits=config.thin)
        notes = thinning.note_redundant(samples, redundant, has_hash)
    if config.every > 1:
        redundant |= thinning.mark_every(samples, config.every)
    return redundant, notes


def _read_split(run: FinishedRun, config: ExportConfig) -> pd.DataFrame | None:
    """Return the split that is used, if any."""
    if config.split is False:
        return None
    split = splits.read_split(run.store)
    if split is None and config.split:
        raise ExportError(f"split = true: {run.store} has no split.csv; make one: `detectime split {run.store}`")
    return split


def _check_leaks(
    run: FinishedRun, frames: pd.DataFrame, is_sample: Flags, contents: pd.Series, config: ExportConfig
) -> list[Note]:
    """Refuse samples that are alike in two parts of the split."""
    samples = frames[is_sample].reset_index(drop=True)
    hashes, has_hash = similarity.read_sample_hashes(run, samples)
    found = contents[is_sample].reset_index(drop=True)
    return list(splits.check_leaks(samples, found, hashes, has_hash, allow_similar=config.allow_similar))
