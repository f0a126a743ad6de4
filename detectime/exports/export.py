"""An export from beginning to end: collected, its pictures written, then its tables and its card.

``export.json`` is there from the beginning and says at the end when the export was finished. An export that was killed
is recognised by it and finished by the same call; a folder that holds anything else is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

import detectime
from detectime import sources
from detectime.config import RunConfig, list_faults
from detectime.detection import manifest
from detectime.errors import ConfigError
from detectime.exports import contact_sheet, dataset_card, failed_csv, samples_csv
from detectime.exports.annotations import Collected, collect_annotations
from detectime.exports.chunks import Chunks, Written, delete_records
from detectime.exports.contract import Export, ExportConfig, ExportData, ExportError, Format
from detectime.exports.export_folder import (
    VERSION,
    check_folder,
    check_place,
    describe_request,
    read_state,
    set_aside,
    write_state,
)
from detectime.exports.export_folder import read_export as read_export  # as others import it from here
from detectime.exports.many_files import delete_partials
from detectime.exports.pictures import Reading, read_crops, write_pictures
from detectime.exports.registry import find_format
from detectime.exports.selection import select_frames
from detectime.notes import Note, notes_from_json, notes_to_json
from detectime.runs import FinishedRun
from detectime.storage import urls
from detectime.storage.store import Store, open_store


def export_run(
    run: FinishedRun,
    formats: Sequence[str],
    to: str | os.PathLike[str],
    config: ExportConfig | None = None,
    *,
    workers: int | None = None,
) -> list[Export]:
    """Export the samples of a run in one or several formats, each to a folder of its own.

    What cannot be exported is refused before anything is written. A frame whose file changed or is gone is named, and
    the others are written. A call that was killed is finished by the same call.

    Parameters
    ----------
    run
        The run, paired since the last decision.
    formats
        Names of `registry.FORMATS`.
    to
        A folder or a URL; the export is in its folder ``coco`` for the format ``coco``.
    config
        What is exported; None: the defaults.
    workers
        Number of processes that write pictures; None: one per core.

    Returns
    -------
    list of Export
        One per format.

    Raises
    ------
    ConfigError
        If the licence or the number of workers is not accepted.
    ExportError
        If a format, a setting or a class name does not fit, the folder holds something else, or no frame can be read.
    SplitError
        If the split does not fit the samples, or leaks.
    RunError
        If the run has to be paired again, or a table of it cannot be read.
    StoreError
        If a file cannot be written.
    """
    config = config or ExportConfig()
    dataset_card.check_license(config.license)
    settings = _make_settings(workers)
    kinds = [find_format(name) for name in dict.fromkeys(formats)]
    if not kinds:
        raise ExportError("no format is given; see `detectime export --help`")
    target = urls.strip_file_scheme(os.fspath(to))
    check_place(run, target)
    run.refresh()
    selection = select_frames(run, config)
    collected = [collect_annotations(run, selection, kind, config) for kind in kinds]
    requests = [describe_request(kind, each, config) for kind, each in zip(kinds, collected, strict=True)]
    folders = [f"{target.rstrip('/')}/{kind.name}" for kind in kinds]
    for folder, request in zip(folders, requests, strict=True):
        check_folder(folder, request, overwrite=config.overwrite)
    return [
        _Exporter(run, kind, each, config, folder, settings, request).export()
        for kind, each, folder, request in zip(kinds, collected, folders, requests, strict=True)
    ]


def _make_settings(workers: int | None) -> RunConfig:
    try:
        return RunConfig(workers=workers)
    except ValidationError as error:
        raise ConfigError("\n".join(list_faults(error))) from error


class _Exporter:
    """Writes one export."""

    def __init__(
        self,
        run: FinishedRun,
        kind: Format,
        collected: Collected,
        config: ExportConfig,
        folder: str,
        settings: RunConfig,
        request: dict[str, Any],
    ) -> None:
        self._run, self._kind, self._collected, self._config = run, kind, collected, config
        self._folder, self._settings, self._request = folder, settings, request
        # Not that of the run, which may have indexed a video before it was replaced.
        self._source = sources.open_source(run.config.data.images, run.config.data.source_type)
        self._reading = Reading(run.config.detection.exif, run.config.detection.max_pixels)

    def export(self) -> Export:
        """Write what is not there yet."""
        set_aside(self._folder, self._request)
        store = open_store(self._folder)
        with store.lock():
            earlier = read_state(store)
            if earlier is not None and earlier["request"] == self._request and self._is_complete(store, earlier):
                return self._renew_card(store, earlier)
            check_folder(self._folder, self._request, overwrite=False)  # another call may have been faster
            state = {
                "export_version": VERSION,
                "detectime": detectime.__version__,
                "format": self._kind.name,
                "run": str(self._run.store),
                "settings": dataclasses.asdict(self._config),
                "numbers": dict(self._collected.data.numbers),
                "splits": list(self._collected.data.splits),
                "request": self._request,
                "started": self._find_start(earlier),
                "finished": None,
            }
            write_state(store, state)
            return self._write(store, state)

    def _find_start(self, earlier: dict[str, Any] | None) -> str:
        """Return when this export began, perhaps in a call that was killed."""
        is_same = earlier is not None and earlier["request"] == self._request
        return str(earlier["started"]) if is_same and earlier is not None else manifest.format_now()

    def _write(self, store: Store, state: dict[str, Any]) -> Export:
        data, written = self._write_pictures(store)
        self._kind.write(data, store)
        samples_csv.write_samples_csv(data, store)
        failed_csv.write_failed_csv(written.failed, store)
        delete_partials(store)  # not before the pictures: workers of a killed process may live a moment longer
        notes = [*self._collected.notes, *failed_csv.note_failed(written.failed), *_note_nothing(data)]
        state |= {"counts": _count(data, written, self._collected), "data_notes": notes_to_json(notes)}
        export = self._finish(store, state, data)
        if not written.failed:
            delete_records(store)
        return export

    def _finish(self, store: Store, state: dict[str, Any], data: ExportData) -> Export:
        """Write the card, and that the export is finished."""
        if self._config.contact_sheet and len(data.objects):
            crops = read_crops(data, self._collected, self._source, self._reading)
            contact_sheet.write_contact_sheet(store, crops)
        notes = notes_from_json(state["data_notes"])
        digest = hashlib.sha256(json.dumps(self._request, sort_keys=True).encode()).hexdigest()
        notes += dataset_card.write_dataset_card(store, data, self._kind, self._config, self._run, notes, digest=digest)
        state |= {
            "settings": dataclasses.asdict(self._config),
            "notes": notes_to_json(notes),
            "finished": manifest.format_now(),
        }
        write_state(store, state)
        return Export(self._folder, self._kind.name, state["counts"], tuple(notes))

    def _renew_card(self, store: Store, state: dict[str, Any]) -> Export:
        """Return an export that is there, with a new card if its settings differ."""
        settings = dataclasses.asdict(self._config) | {"overwrite": state["settings"]["overwrite"]}
        if state["settings"] == settings:
            return Export(self._folder, self._kind.name, state["counts"], tuple(notes_from_json(state["notes"])))
        files = samples_csv.read_samples_csv(store).drop_duplicates("name").set_index("name")["file"]
        data = self._collected.data
        images = data.images.assign(file=files.reindex(data.images["name"]).to_numpy(dtype=object))
        return self._finish(store, state, dataclasses.replace(data, images=images))

    def _is_complete(self, store: Store, state: dict[str, Any]) -> bool:
        """Whether an export is finished, no frame failed, and no local file of it was deleted."""
        if not state["finished"] or state["counts"]["failed"]:
            return False
        if self._collected.data.pictures == "none" or urls.is_remote(self._folder):
            return True
        if self._kind.write_shard is not None:
            files = Chunks(self._collected, self._kind, store).files
        else:
            files = samples_csv.read_samples_csv(store)["file"].unique().tolist()
        return all(os.path.exists(f"{self._folder}/{file}") for file in files)

    def _write_pictures(self, store: Store) -> tuple[ExportData, Written]:
        """Write the pictures; return the neutral table of those that exist, with their files."""
        data = self._collected.data
        if data.pictures == "none":
            return data, Written({}, set())
        written = write_pictures(self._collected, self._kind, store, self._source, self._reading, self._settings)
        if written.failed:
            data = data.select_images(~data.images["frame_path"].isin(written.failed).to_numpy())
            if not len(data.images):
                raise ExportError(
                    f"{self._folder}: no frame could be exported, for one {next(iter(written.failed))!r}: "
                    f"{next(iter(written.failed.values()))}; are the images at {self._run.config.data.images}? If they "
                    f"are elsewhere now: `detectime relocate {shlex.quote(str(self._run.store))} --images DIR`"
                )
        return dataclasses.replace(
            data, images=data.images.assign(file=_list_files(data, self._kind, written))
        ), written


def _list_files(data: ExportData, kind: Format, written: Written) -> list[str]:
    suffixes = [".png" if name in written.pngs else ".jpg" for name in data.images["name"]]
    if kind.name_picture is None:
        return [f"{name}{suffix}" for name, suffix in zip(data.images["name"], suffixes, strict=True)]
    rows: list[Any] = data.images.to_dict("records")
    return [f"{kind.name_picture(row)}{suffix}" for row, suffix in zip(rows, suffixes, strict=True)]


def _note_nothing(data: ExportData) -> list[Note]:
    if len(data.images):
        return []
    return [Note("nothing", 1, "There is nothing to export: no frame has what was asked for. See outcomes.csv.")]


def _count(data: ExportData, written: Written, collected: Collected) -> dict[str, int]:
    return {
        "pictures": 0 if data.pictures == "none" else len(data.images),
        "objects": len(data.objects),
        "samples": int((data.objects["kind"] == "sample").sum()),
        "failed": len(written.failed),
        "thinned": sum(collected.thinned.values()),
    }
