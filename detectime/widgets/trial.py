"""Pairing tried under other settings: what a run would give, without writing anything."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import corrections, decision_files
from detectime.config import Config, PairingConfig
from detectime.decisions import MergedDecisions, merge_decisions
from detectime.detection import manifest
from detectime.detection.manifest import RunError
from detectime.pairing import PreparedFrames
from detectime.runs import FinishedRun
from detectime.schema import DECISION_COLUMNS, OUTCOMES_FILE
from detectime.storage.store import has_file

_RELABELLED = ("class_name", "label", "wanted")  # columns of the frame table that a decision may change


class DecidedFrames:
    """The frames of a run and what people decided of them, to be paired again and again.

    The decisions are applied to the rows that they are about, in a table of these alone: what becomes of a frame does
    not depend on others.

    Parameters
    ----------
    frames
        The frame table, with a range as index.
    detections, decisions, config
        As for `corrections.apply_decisions`.

    Raises
    ------
    MissingDetectionsError
        If a wanted frame has no detections.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> from detectime.decisions import MergedDecisions
    >>> from detectime.schema import DETECTIONS
    >>> frames = pd.DataFrame({"frame_path": ["a.jpg"], "class_name": "ok", "label": 4, "wanted": False})
    >>> decided = DecidedFrames(frames, DETECTIONS.empty_table(), MergedDecisions(), load_config())
    >>> decided.pair(PairingConfig())["outcome"].tolist()
    ['left_out']
    """

    def __init__(self, frames: pd.DataFrame, detections: pa.Table, decisions: MergedDecisions, config: Config) -> None:
        paths = pa.array(decisions.hands.keys() | decisions.labels.keys(), pa.string())
        self._decisions, self._config = decisions, config
        self._rows = np.flatnonzero(frames["frame_path"].isin(paths.to_pylist()))
        self._table = frames.iloc[self._rows]
        is_decided = pc.is_in(detections["frame_path"], value_set=paths)
        self._detections = detections.filter(is_decided).combine_chunks()
        self._frames = PreparedFrames(self._relabel(frames), detections)

    def pair(self, settings: PairingConfig) -> pd.DataFrame:
        """Return the samples of `corrections.apply_decisions`."""
        if not len(self._rows):
            return self._frames.pair(settings)
        return self._frames.pair(settings, self._rows, self._pair_decided(settings))

    def _pair_decided(self, settings: PairingConfig) -> pd.DataFrame:
        """Return the outcomes of the frames that people decided on."""
        return corrections.apply_decisions(
            self._table, self._detections, self._decisions, settings, self._config
        ).samples

    def _relabel(self, frames: pd.DataFrame) -> pd.DataFrame:
        """Return the frame table with the classes that people decided: they are the same under all settings."""
        if not len(self._rows):
            return frames
        paired = self._pair_decided(self._config.pairing)
        columns = {name: frames[name].copy() for name in _RELABELLED}
        for name, column in columns.items():
            column.iloc[self._rows] = paired[name].array
        return frames.assign(**columns)


class Trial:
    """Pairs a run under any settings, with the decisions of people, several times as fast as the run does.

    What no setting changes is kept as of the last `refresh`: beside the frame table and `saved`, which takes 0.4 KB per
    frame, the boxes as flat arrays, which take 0.2 KB per frame where it has a few. A result takes as much as `saved`.

    Parameters
    ----------
    run
        What `runs.open_run` returned.

    Attributes
    ----------
    saved
        The outcomes of the run as its last pairing wrote them. If detections or decisions are newer, or it was never
        paired: what pairing with the settings of the run gives now. One row per row of the frame table.
    needs_pairing
        Whether detections or decisions are newer than what the last pairing wrote.
    new_decisions
        Paths of the frames that people decided on since then.

    Raises
    ------
    RunError
        If the frame table, the detections or the outcomes cannot be read.
    StoreError
        If the decisions cannot be read.

    Examples
    --------
    >>> from detectime.comparison import compare_samples, count_changes
    >>> from detectime.runs import open_run
    >>> trial = Trial(open_run("output"))  # doctest: +SKIP
    >>> samples = trial.pair(PairingConfig(crop_coefficient=2.0))  # doctest: +SKIP
    >>> count_changes(compare_samples(trial.saved, samples))["gained"]  # doctest: +SKIP
    12
    """

    saved: pd.DataFrame
    needs_pairing: bool
    new_decisions: frozenset[str]

    def __init__(self, run: FinishedRun) -> None:
        self._run = run
        self.refresh()

    def refresh(self) -> None:
        """Read the run anew: its tables, and what people decided; raises as the class, and then nothing changes."""
        run = self._run
        run.refresh()
        table = run.frames.reset_index(drop=True)
        files = decision_files.read_files(run.store)
        decisions = merge_decisions(*decision_files.parse_decisions(files))
        frames = DecidedFrames(table, run.detections, decisions, run.config)
        written = run.outcomes.reset_index(drop=True) if has_file(run.store, OUTCOMES_FILE) else None
        if written is not None and not written["frame_path"].equals(table["frame_path"]):
            written = None
        applied = (run.manifest["pairing"] or {}).get("decisions_sha256")
        has_new_decisions = applied != decision_files.hash_files(files)
        needs_pairing = has_new_decisions or run.has_new_detections or written is None
        saved = frames.pair(run.pairing) if written is None or needs_pairing else written
        self.new_decisions = _find_new_decisions(saved, written) if has_new_decisions else frozenset()
        self._frames, self.saved, self.needs_pairing = frames, saved, needs_pairing
        self._state = _describe_state(run)

    @property
    def is_outdated(self) -> bool:
        """Whether people decided, or the run was paired or grew, since the last `refresh`.

        Raises
        ------
        RunError
            If frames are being detected.
        """
        return _describe_state(self._run) != self._state

    def pair(self, settings: PairingConfig) -> pd.DataFrame:
        """Pair the frames and apply the decisions of people; nothing is read or written.

        Returns
        -------
        DataFrame
            The samples of `FinishedRun.pair_frames`, with a range as index.
        """
        return self._frames.pair(settings)


def _describe_state(run: FinishedRun) -> tuple[str | None, str | None, str | None]:
    """Return what tells whether decisions, the written samples or the detections have changed."""
    found = manifest.read_manifest(run.store)
    if found is None or found["finished"] is None:
        raise RunError(f"{run.store}: frames are being detected")
    digest = decision_files.hash_files(decision_files.read_files(run.store))
    return digest, (found["pairing"] or {}).get("hands_sha256"), found["finished"]


def _find_new_decisions(now: pd.DataFrame, written: pd.DataFrame | None) -> frozenset[str]:
    """Return the paths of frames whose decision is not the written one: also those whose decision was undone."""
    names = list(DECISION_COLUMNS)
    is_new = now["decision"].notna()
    if written is not None:
        is_new = (now[names].fillna("") != written[names].fillna("")).any(axis=1)
    return frozenset(now.loc[is_new, "frame_path"].tolist())
