"""Finished runs, opened by their folder alone: the input of pairing, exports, reports and widgets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import corrections, decision_files, pairing, sources
from detectime.config import Config, PairingConfig, check_truth
from detectime.decisions import Decision, MergedDecisions, find_contradictions, merge_decisions
from detectime.detection import manifest, shards
from detectime.detection.manifest import Manifest, RunError
from detectime.detection.shards import DamagedError
from detectime.labels import frame_table
from detectime.labels.tables import TableError, rename_reserved_columns
from detectime.notes import Note, notes_from_json
from detectime.schema import DECISION_COLUMNS, DETECTIONS_FILE, OUTCOME_COLUMNS, OUTCOMES_FILE, PAIRING_COLUMNS
from detectime.sources.contract import Source, SourceError
from detectime.sources.listing import Listing, list_source
from detectime.sources.reading import read_contents
from detectime.storage import run_tables, urls
from detectime.storage import store as stores
from detectime.storage.store import Store, has_file

_COMPARED = 200  # frames of which `relocate_run` reads the content


@dataclasses.dataclass(frozen=True)
class PairedFrames:
    """The outcomes of a run, with the decisions of people.

    Attributes
    ----------
    samples
        As `corrections.apply_decisions` returns them.
    notes
        Findings about decisions, and renamed columns.
    decisions_sha256
        Of the files of decisions that were applied; None if there are none.
    counting
        The decisions that were applied.
    contradictions
        Between them and those of others: see `decisions.find_contradictions`.
    """

    samples: pd.DataFrame
    notes: list[Note]
    decisions_sha256: str | None
    counting: list[Decision]
    contradictions: pd.DataFrame


class FinishedRun:
    """A finished run of this or any earlier release. Tables are read on access; the source is not listed.

    Parameters
    ----------
    store
        The folder of the run.

    Attributes
    ----------
    manifest
        The content of ``run.json``, upgraded to this release.
    config
        The configuration of the run; its `data.output` is the folder in which the run lies now.

    Raises
    ------
    RunError
        If there is no run, or it is not finished.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.manifest: Manifest = _read_finished(store)
        self.config: Config = _get_config(store, self.manifest)
        self._renamed: list[Note] = []  # columns of `frames`

    def __repr__(self) -> str:
        return f"FinishedRun({str(self.store)!r}, finished {self.manifest['finished']})"

    def refresh(self) -> None:
        """Reload what another process may have changed; raises as the class."""
        found = _read_finished(self.store)
        if found["finished"] != self.manifest["finished"]:
            self.__dict__.pop("frames", None)
        self.manifest.clear()
        self.manifest.update(found)
        before, self.config = self.config.data, _get_config(self.store, found)
        if self.config.data != before:  # the images may have moved
            self.__dict__.pop("source", None)

    @cached_property
    def frames(self) -> pd.DataFrame:
        """The frame table of the run: one row per frame, with `wanted`; decisions are not applied.

        A column of an earlier release that has the name of one of today's outcomes table is renamed as those of labels.

        Raises
        ------
        RunError
            If the run was made by 0.2, which stored no frame table, and neither its ``outcomes.csv`` nor its labels can
            be read.
        """
        table, notes = rename_reserved_columns(self._read_frames(), OUTCOME_COLUMNS)
        self._renamed = notes
        return table

    def _read_frames(self) -> pd.DataFrame:
        stored = run_tables.read_frames(self.store)
        if stored is not None:
            if "wanted" not in stored or stored["wanted"].dtype != bool:
                raise RunError(
                    f"{self.store}: the frame table of this run does not say which frames are wanted; run again to "
                    "rewrite it"
                )
            return stored
        try:
            table = frame_table.read_labels(self.config, self.source)
        except (TableError, SourceError) as error:
            raise RunError(
                f"{self.store}: this run of an earlier release has no frame table, and its labels cannot be read "
                f"({str(error).splitlines()[-1]}); run the notebook once with its labels"
            ) from error
        return frame_table.select_frames(table, self.config.classes, self.config.selection.limit)

    @property
    def detections(self) -> pa.Table:
        """The detections table, only the columns that pairing reads: `schema.PAIRING_COLUMNS`."""
        return self.read_detections(PAIRING_COLUMNS)

    def read_detections(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the detections table.

        Parameters
        ----------
        columns
            Columns of `schema.DETECTIONS`; None: all.

        Raises
        ------
        RunError
            If the file is damaged or missing.
        """
        try:
            table = shards.read_detections(self.store, columns)
            if not len(table) and any(self.manifest["outcomes"].values()):
                raise RunError(
                    f"{self.store}/{DETECTIONS_FILE}: the detections of this run are missing; restore the file, or "
                    "run again to repeat detection"
                )
            return table
        except DamagedError as error:
            raise RunError(
                f"{self.store}/{error}; run again: the file is kept, and detection is repeated for frames lost from it"
            ) from error

    @property
    def outcomes(self) -> pd.DataFrame:
        """The outcomes table that `outcomes.pair_run` wrote; if it does not exist, the frames are paired now.

        Columns that an earlier release did not write are null.
        """
        stored = run_tables.read_outcomes(self.store)
        return self.pair_frames(self.pairing).samples if stored is None else _add_new_columns(stored)

    def pair_frames(self, settings: PairingConfig) -> PairedFrames:
        """Pair the frames and apply the decisions of people; nothing is written.

        Raises
        ------
        RunError
            If the frame table or the detections cannot be read.
        StoreError
            If the decisions cannot be read.
        """
        files = decision_files.read_files(self.store)
        if not files:
            samples = pairing.pair_frames(self.frames, self.detections, settings)
            return PairedFrames(samples, self._renamed, None, [], find_contradictions(MergedDecisions()))
        decisions = merge_decisions(*decision_files.parse_decisions(files))
        found = corrections.apply_decisions(self.frames, self.detections, decisions, settings, self.config)
        notes = [*self._renamed, *decisions.notes, *found.notes]
        digest = decision_files.hash_files(files)
        return PairedFrames(found.samples, notes, digest, found.counting, found.contradictions)

    @property
    def decisions(self) -> MergedDecisions:
        """What people decided so far, read anew and merged; it may be more than the last pairing applied.

        Raises
        ------
        StoreError
            If the decisions cannot be read.
        """
        return merge_decisions(*decision_files.read_decisions(self.store))

    @property
    def has_new_decisions(self) -> bool:
        """Whether `outcomes` lack decisions: their files are not those that the last pairing applied."""
        applied = (self.manifest["pairing"] or {}).get("decisions_sha256")
        return applied != decision_files.hash_files(decision_files.read_files(self.store))

    @property
    def has_new_detections(self) -> bool:
        """Whether frames were detected since the last pairing."""
        finished, record = self.manifest["finished"], self.manifest["pairing"]
        if record is None:  # never paired, or begun again with `redetect`
            return has_file(self.store, OUTCOMES_FILE)
        return bool(record.get("detection_finished", finished) != finished)

    @property
    def needs_pairing(self) -> bool:
        """Whether `outcomes` are out of date: frames were detected, or decisions made, since the last pairing."""
        return self.has_new_detections or self.has_new_decisions

    def check_paired(self, *, with_decisions: bool = True) -> None:
        """Refuse a run whose `outcomes` are out of date.

        Parameters
        ----------
        with_decisions
            If false, decisions may be newer than the last pairing.

        Raises
        ------
        RunError
            If frames were detected, or decisions made, since the last pairing.
        """
        has_new_detections = self.has_new_detections
        if has_new_detections or (with_decisions and self.has_new_decisions):
            what = "frames were detected" if has_new_detections else "decisions were made"
            raise RunError(
                f"{self.store}: {what} since this run was paired; pair it again, which takes seconds: "
                f"`detectime pair {self.store}`, or outcomes.pair_run(run)"
            )

    @property
    def pairing(self) -> PairingConfig:
        """Settings of the last pairing."""
        return manifest.get_pairing_config(self.manifest)

    @cached_property
    def source(self) -> Source:
        """The source of the frames.

        Raises
        ------
        SourceError
            If a package that the source needs is not installed.
        """
        return sources.open_source(self.config.data.images, self.config.data.source_type)

    @property
    def notes(self) -> list[Note]:
        """Findings of the run, stored in its manifest."""
        return manifest.read_notes(self.manifest)


def open_run(output: str | os.PathLike[str]) -> FinishedRun:
    """Open a finished run; nothing in its folder is changed.

    Parameters
    ----------
    output
        The `output` of the run: a folder or URL.

    Raises
    ------
    RunError
        If there is no run, it is not finished, or a newer detectime made it.

    Examples
    --------
    >>> open_run("no/such/run")
    Traceback (most recent call last):
        ...
    detectime.detection.manifest.RunError: no/such/run: there is no such folder; pass the `output` of a run
    """
    location = os.fspath(output)
    if not urls.is_remote(location) and not os.path.isdir(urls.strip_file_scheme(location)):
        raise RunError(f"{location}: there is no such folder; pass the `output` of a run")
    return FinishedRun(stores.open_store(location, reading=True))


def relocate_run(run: FinishedRun, images: str, source_type: str | None = None, *, truth: str | None = None) -> Note:
    """Record where the frames of a run are now, as after it was copied to another machine.

    Frames are compared by their names, and up to 200 of them by their content. Only ``run.json`` is written: its
    `data.images` and `data.source_type` (and `data.labels`, where the images are the labels), `data.truth` if it is
    given, and the note, which keeps the former places.

    Parameters
    ----------
    run
        The run.
    images
        An absolute path, or a URL.
    source_type
        ``folder``, ``archives`` or ``videos``; None: that of the run, or as recognised if the run has none.
    truth
        Where the annotated boxes are: an absolute path, which must exist, or a URL. None: as in the run.

    Returns
    -------
    Note
        Where the frames were and are, how many are there, and how many of those compared have other content.

    Raises
    ------
    RunError
        If no frame of the run is there, or more than half of those compared are other pictures.
    ConfigError
        If `truth` does not exist.
    SourceError
        If the place cannot be listed.
    StoreError
        If the folder of the run cannot be written to, or another process is working in it.

    Examples
    --------
    >>> print(relocate_run(open_run("out"), "/home/anna/frames"))  # doctest: +SKIP
    The images moved from /content/frames to /home/anna/frames: 24 of 24 frames are there, and 24 of 24 that were …
    """
    with run.store.lock():
        run.refresh()
        data = run.manifest["configuration"]["data"]
        moved = {"images": images, "source_type": source_type or data["source_type"]}
        if data["labels"] == data["images"]:
            moved["labels"] = images
        text = _compare_frames(run, sources.open_source(images, moved["source_type"]))
        if truth is not None:
            check_truth(dataclasses.replace(run.config, data=dataclasses.replace(run.config.data, truth=truth)))
            moved["truth"] = truth
            former = "" if data["truth"] is None else f"; they were at {data['truth']}"
            text += f" The annotated boxes are at {truth}{', as before' if truth == data['truth'] else former}."
        if moved.items() <= data.items():
            return Note("moved", 1, f"The images are at {images}, as before: {text}")
        came = f"are at {images}, as before" if images == data["images"] else f"moved from {data['images']} to {images}"
        note = Note("moved", 1, f"The images {came}: {text}", at=manifest.format_now())
        data |= moved
        recorded = notes_from_json(run.manifest["notes"]["detection"])
        states = [each for each in recorded if each.at is None and each.kind != "unreachable"]
        manifest.replace_notes(run.manifest, "detection", [*states, note])
        manifest.write_manifest(run.store, run.manifest)
        run.refresh()
    return note


def _compare_frames(run: FinishedRun, source: Source) -> str:
    """Say how many frames of a run a source has, and how many of them are the same; refuse other frames."""
    listing = list_source(source)
    if listing.unreachable:
        raise listing.error or SourceError(listing.unreachable)
    known = run.read_detections(["frame_path", "content", "outcome"])
    known = known.filter(pc.not_equal(known["outcome"], "missing"))
    names = known["frame_path"].cast(pa.binary())
    positions = listing.find(names)
    is_there = pc.is_valid(positions)
    here = known.filter(is_there).select(["frame_path", "content"])
    if not len(here):
        raise RunError(_describe_strangers(run, source, listing, names, positions))
    counts = f"{len(here):,} of {len(known):,} frames are there"
    here = here.filter(pc.is_valid(here["content"]))
    if not len(here):
        return f"{counts}, of which only the names could be compared."
    chosen = here.take(np.unique(np.linspace(0, len(here) - 1, min(_COMPARED, len(here))).astype(np.int64)))
    read = read_contents(source, chosen["frame_path"].to_pylist(), max_pixels=run.config.detection.max_pixels)
    differing = [name for (name, found), old in zip(read, chosen["content"].to_pylist(), strict=True) if found != old]
    if 2 * len(differing) > len(chosen):
        raise RunError(
            f"{source.root}: {len(differing)} of {len(chosen)} frames that were compared have other content than when "
            f"{run.store} was made (the first: {differing[0]!r}), so nothing was changed; give the same pictures. If "
            f"they did change, `detectime run --images {source.root} --redetect changed` processes them again"
        )
    compared = f"{len(chosen) - len(differing)} of {len(chosen)} that were compared are the same"
    return f"{counts}, and {compared}{f' (not {differing[0]!r})' if differing else ''}."


def _describe_strangers(
    run: FinishedRun, source: Source, listing: Listing, names: pa.ChunkedArray, positions: pa.Array
) -> str:
    """Say that a source has no frame of a run, and what it has instead."""
    hints = "; ".join(map(str, listing.note_misplaced(names, positions)))
    parent = _find_parent(source.root, listing, names)
    hints = f"give {parent}" if parent else hints or "give the folder that frame_path begins in"
    first, other = os.fsdecode(names[0].as_py()), os.fsdecode(listing.names[0].as_py())
    return (
        f"{source.root}: not one of the {len(names):,} frames of {run.store} is there, so nothing was changed (the "
        f"first is {first!r}; a file that exists is called {other!r}); {hints}"
    )


def _find_parent(root: str, listing: Listing, names: pa.ChunkedArray) -> str | None:
    """Return the folder above a source that has frames of a run, if their names begin as `root` ends."""
    parts = root.rstrip("/").split("/")
    for depth in range(1, len(parts)):
        start = os.fsencode("/".join(parts[-depth:]) + "/")
        shorter = pc.binary_replace_slice(names.filter(pc.starts_with(names, start)), 0, len(start), b"")
        if pc.any(pc.is_in(shorter, value_set=listing.names)).as_py():
            return "/".join(parts[:-depth]) or "/"
    return None


def _get_config(store: Store, found: Manifest) -> Config:
    """Return the configuration of a run, whose folder may have been copied to where it lies now."""
    config, output = manifest.get_config(found), str(store)
    output = output if urls.is_remote(output) else os.path.abspath(output)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, output=output))


def _read_finished(store: Store) -> Manifest:
    """Read the manifest of a finished run."""
    found = manifest.read_manifest(store)
    if found is None:
        raise RunError(f"{store}: there is no run in this folder ({manifest.MANIFEST_FILE} is missing)")
    if found["finished"] is None:
        raise RunError(f"{store}: this run is not finished; run it again to resume it")
    return found


def _add_new_columns(samples: pd.DataFrame) -> pd.DataFrame:
    """Add columns, null, to outcomes that were written before there were any of that name."""
    names = samples.columns.tolist()
    own = names[names.index("outcome") :]  # those before are of the frame table
    missing = [name for name in ("content", *DECISION_COLUMNS) if name not in own]
    if not missing:
        return samples
    renamed, _ = rename_reserved_columns(samples, missing)
    nulls = pa.nulls(len(samples), pa.string()).to_pandas().array
    for name in missing:
        renamed.insert(names.index("error") + 1 if name == "content" else len(renamed.columns), name, nulls)
    return renamed
