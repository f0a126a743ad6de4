"""A finished run, opened by its folder alone: what pairing, exports, reports and widgets work on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property

import pandas as pd
import pyarrow as pa

from detectime import pairing, sources
from detectime.config import Config, PairingConfig
from detectime.detection import manifest, shards
from detectime.detection.manifest import Manifest, RunError
from detectime.detection.shards import DamagedError
from detectime.labels import frame_table
from detectime.labels.tables import TableError
from detectime.notes import Note
from detectime.schema import DETECTIONS_FILE, PAIRING_COLUMNS
from detectime.sources.contract import Source, SourceError
from detectime.storage import run_tables, urls
from detectime.storage import store as stores
from detectime.storage.store import Store


class FinishedRun:
    """A run of this release or an earlier one. Tables are read when they are asked for, frames are not listed.

    Parameters
    ----------
    store
        Its folder.

    Attributes
    ----------
    manifest
        The content of ``run.json``, in this release's form.
    config
        The configuration that it was made with.

    Raises
    ------
    RunError
        If there is no run, or it is not finished.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.manifest: Manifest = _read_finished(store)
        self.config: Config = manifest.get_config(self.manifest)

    def __repr__(self) -> str:
        return f"FinishedRun({str(self.store)!r}, finished {self.manifest['finished']})"

    def refresh(self) -> None:
        """Take over what another process did to the run meanwhile; raises as the class."""
        found = _read_finished(self.store)
        if found["finished"] != self.manifest["finished"]:
            self.__dict__.pop("frames", None)
        self.manifest.clear()
        self.manifest.update(found)
        self.config = manifest.get_config(found)

    @cached_property
    def frames(self) -> pd.DataFrame:
        """The frame table as it was resolved: one row per frame, with `wanted`.

        Raises
        ------
        RunError
            If the run was made by 0.2, whose table can only be read from its ``outcomes.csv`` or its labels, and
            neither is there.
        """
        table = run_tables.read_frames(self.store)
        if table is not None:
            return table
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
        """What was found, the columns that pairing reads: `schema.PAIRING_COLUMNS`."""
        return self.read_detections(PAIRING_COLUMNS)

    def read_detections(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read columns of the detections table; None: all of `schema.DETECTIONS`.

        Raises
        ------
        RunError
            If the file is damaged, or gone.
        """
        try:
            table = shards.read_detections(self.store, columns)
            if not len(table) and any(self.manifest["outcomes"].values()):
                raise RunError(
                    f"{self.store}/{DETECTIONS_FILE}: the detections of this run are gone; put the file back, or run "
                    "again to look at its frames again"
                )
            return table
        except DamagedError as error:
            raise RunError(
                f"{self.store}/{error}; run it again: the file is kept, and what is lost of it is looked at again"
            ) from error

    @property
    def outcomes(self) -> pd.DataFrame:
        """What became of each row of the frame table: as `outcomes.pair_run` wrote it, or else paired now."""
        table = run_tables.read_outcomes(self.store)
        return pairing.pair_frames(self.frames, self.detections, self.pairing) if table is None else table

    @property
    def pairing(self) -> PairingConfig:
        """The settings of the last pairing."""
        return manifest.get_pairing_config(self.manifest)

    @cached_property
    def source(self) -> Source:
        """Where the frames were.

        Raises
        ------
        SourceError
            If what the source needs is not installed.
        """
        return sources.open_source(self.config)

    @property
    def notes(self) -> list[Note]:
        """What is worth telling of the run."""
        return manifest.read_notes(self.manifest)


def open_run(output: str | os.PathLike[str]) -> FinishedRun:
    """Open a finished run by its folder.

    Parameters
    ----------
    output
        The folder, or a place with a scheme, that a run wrote to. Nothing in it is changed.

    Raises
    ------
    RunError
        If there is no run, it is not finished, or a newer detectime made it.
    """
    place = os.fspath(output)
    if not urls.is_remote(place) and not os.path.isdir(urls.strip_file_scheme(place)):
        raise RunError(f"{place}: there is no such folder; give the `output` of a run")
    return FinishedRun(stores.open_store(place, reading=True))


def _read_finished(store: Store) -> Manifest:
    """Read the manifest of a run that is finished."""
    found = manifest.read_manifest(store)
    if found is None:
        raise RunError(f"{store}: there is no run in this folder ({manifest.MANIFEST_FILE} is not there)")
    if found["finished"] is None:
        raise RunError(f"{store}: this run is not finished; run it again, and it goes on where it was left")
    return found
