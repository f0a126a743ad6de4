"""An export from beginning to end: collected, its pictures written, then its tables and its card.

``export.json`` is there from the beginning and says at the end when the export was finished. An export that was killed
is recognised by it and finished by the same call; a folder that holds anything else is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import detectime
from detectime import sources
from detectime.config import RunConfig
from detectime.detection import manifest
from detectime.exports import contact_sheet, dataset_card, samples_csv
from detectime.exports.annotations import Collected, collect_annotations
from detectime.exports.chunks import Written, delete_records
from detectime.exports.contract import Export, ExportConfig, ExportData, ExportError, Format
from detectime.exports.many_files import delete_partials
from detectime.exports.pictures import Reading, read_crops, write_pictures
from detectime.exports.registry import find_format
from detectime.exports.selection import select_frames
from detectime.notes import Note, notes_from_json, notes_to_json
from detectime.runs import FinishedRun
from detectime.storage import urls
from detectime.storage.store import Store, generate_free_names, open_store

EXPORT_FILE = "export.json"
"""Name of the file that says what an export holds, and whether it is finished."""

_VERSION = 1
_OWN_FILES = (".lock",)  # of a store


def export_run(
    run: FinishedRun,
    formats: Sequence[str],
    to: str | os.PathLike[str],
    config: ExportConfig | None = None,
    *,
    workers: int | None = None,
) -> list[Export]:
    """Export the samples of a run in one or several formats, each to a folder of its own.

    What cannot be exported is refused before anything is written. A frame whose file changed or is gone is named in a
    note, and the others are written. A call that was killed is finished by the same call.

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
    ExportError
        If a format, a setting or a class name does not fit, or the folder holds something else.
    SplitError
        If the split does not fit the samples, or leaks.
    StoreError
        If a file cannot be written.
    """
    config = config or ExportConfig()
    dataset_card.check_license(config.license)
    kinds = [find_format(name) for name in dict.fromkeys(formats)]
    if not kinds:
        raise ExportError("no format is given; see `detectime export --help`")
    target = urls.strip_file_scheme(os.fspath(to))
    _check_place(run, target)
    run.refresh()
    selection = select_frames(run, config)
    collected = [collect_annotations(run, selection, kind, config) for kind in kinds]
    requests = [_describe_request(kind, each, config) for kind, each in zip(kinds, collected, strict=True)]
    folders = [f"{target.rstrip('/')}/{kind.name}" for kind in kinds]
    for folder, request in zip(folders, requests, strict=True):
        _check_folder(folder, request, config)
    settings = RunConfig(workers=workers)
    return [
        _Exporter(run, kind, each, config, folder, settings).export(request)
        for kind, each, folder, request in zip(kinds, collected, folders, requests, strict=True)
    ]


def read_export(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``export.json``.

    Returns
    -------
    dict
        `format`, `settings`, `counts`, `notes`, and `finished`, when (ISO 8601); None if it is not finished.

    Raises
    ------
    ExportError
        If there is none, it is damaged, or a newer detectime made it.

    Examples
    --------
    >>> read_export("no/such/folder")
    Traceback (most recent call last):
        ...
    detectime.exports.contract.ExportError: no/such/folder: this is no export (export.json is missing)
    """
    store = open_store(folder, reading=True)
    found = _read_state(store)
    if found is None:
        raise ExportError(f"{store}: this is no export ({EXPORT_FILE} is missing)")
    return found


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
    ) -> None:
        self._run, self._kind, self._collected, self._config = run, kind, collected, config
        self._folder, self._settings = folder, settings
        # Not that of the run, which may have indexed a video before it was replaced.
        self._source = sources.open_source(run.config.data.images, run.config.data.source_type)
        self._reading = Reading(run.config.detection.exif, run.config.detection.max_pixels)

    def export(self, request: dict[str, Any]) -> Export:
        """Write what is not there yet."""
        earlier = _read_state(open_store(self._folder, reading=True))
        if earlier is not None and earlier["request"] != request:
            _set_aside(self._folder)
        store = open_store(self._folder)
        with store.lock():
            earlier = _read_state(store)
            if earlier is not None and earlier["finished"] and not earlier["counts"]["failed"]:
                notes = tuple(notes_from_json(earlier["notes"]))
                return Export(self._folder, self._kind.name, earlier["counts"], notes)
            state = {
                "export_version": _VERSION,
                "detectime": detectime.__version__,
                "format": self._kind.name,
                "run": str(self._run.store),
                "settings": dataclasses.asdict(self._config),
                "numbers": dict(self._collected.data.numbers),
                "splits": list(self._collected.data.splits),
                "request": request,
                "finished": None,
            }
            _write_state(store, state)
            return self._write(store, state)

    def _write(self, store: Store, state: dict[str, Any]) -> Export:
        delete_partials(store)
        data, written = self._write_pictures(store)
        notes = [*self._collected.notes, *_note_failed(written)]
        self._kind.write(data, store)
        samples_csv.write_samples_csv(data, store)
        if self._config.contact_sheet:
            crops = read_crops(data, self._collected, self._source, self._reading)
            contact_sheet.write_contact_sheet(store, crops)
        notes += dataset_card.write_dataset_card(store, data, self._kind, self._config, self._run, notes)
        counts = _count(data, written, self._collected)
        state |= {"counts": counts, "notes": notes_to_json(notes), "finished": manifest.format_now()}
        _write_state(store, state)
        if not written.failed:
            delete_records(store)
        return Export(self._folder, self._kind.name, counts, tuple(notes))

    def _write_pictures(self, store: Store) -> tuple[ExportData, Written]:
        """Write the pictures; return the neutral table of those that exist, with their files."""
        data = self._collected.data
        if data.pictures == "none":
            return data, Written({}, set())
        written = write_pictures(self._collected, self._kind, store, self._source, self._reading, self._settings)
        if written.failed:
            data = data.select_images(~data.images["frame_path"].isin(written.failed).to_numpy())
        return dataclasses.replace(
            data, images=data.images.assign(file=_list_files(data, self._kind, written))
        ), written


def _list_files(data: ExportData, kind: Format, written: Written) -> list[str]:
    suffixes = [".png" if name in written.pngs else ".jpg" for name in data.images["name"]]
    if kind.name_picture is None:
        return [f"{name}{suffix}" for name, suffix in zip(data.images["name"], suffixes, strict=True)]
    rows: list[Any] = data.images.to_dict("records")
    return [f"{kind.name_picture(row)}{suffix}" for row, suffix in zip(rows, suffixes, strict=True)]


def _note_failed(written: Written) -> list[Note]:
    if not written.failed:
        return []
    frame_path, reason = next(iter(sorted(written.failed.items())))
    count = len(written.failed)
    text = f"{'frame was' if count == 1 else 'frames were'} not exported; first reason: {reason}"
    return [Note("not_exported", count, text, frame_path)]


def _count(data: ExportData, written: Written, collected: Collected) -> dict[str, int]:
    return {
        "pictures": 0 if data.pictures == "none" else len(data.images),
        "objects": len(data.objects),
        "samples": int((data.objects["kind"] == "sample").sum()),
        "failed": len(written.failed),
        "thinned": sum(collected.thinned.values()),
    }


# -- the folder and its state


def _check_place(run: FinishedRun, target: str) -> None:
    """Refuse a folder inside the images: the next run would list what is written there."""
    images = urls.strip_file_scheme(run.config.data.images)
    if urls.is_remote(target) or urls.is_remote(images) or not os.path.isdir(images):
        return
    if Path(images).resolve() in (Path(target).resolve(), *Path(target).resolve().parents):
        raise ExportError(
            f"{target}: this folder is inside the images, {images}, to which nothing is added; give another"
        )


def _check_folder(folder: str, request: dict[str, Any], config: ExportConfig) -> None:
    """Refuse a folder that holds anything but this export, finished or not."""
    store = open_store(folder, reading=True)
    earlier = _read_state(store)
    if earlier is None:
        names = [name.removeprefix("./") for name in store.names(".")]
        folders = [] if urls.is_remote(folder) or not os.path.isdir(folder) else os.listdir(folder)
        others = sorted({*names, *folders} - {*_OWN_FILES})
        if others:
            raise ExportError(f"{folder}: this folder holds something else, {others[0]!r} for one; give another folder")
        return
    if earlier["request"] == request:
        return
    if not config.overwrite:
        raise ExportError(
            f"{folder}: this folder holds an export of other samples or settings "
            f"({_name_difference(earlier, request)}); "
            "give another folder, or `overwrite: true`, which sets the present export aside"
        )
    if urls.is_remote(folder):
        raise ExportError(f"{folder}: overwrite = true: exports in a bucket are not replaced; give another folder")


def _name_difference(earlier: dict[str, Any], request: dict[str, Any]) -> str:
    before = earlier["request"]
    keys = [key for key in request if before.get(key) != request[key]]
    if keys in (["data_sha256"], []):
        return "the samples differ"
    key = next(key for key in keys if key != "data_sha256")
    return f"{key} = {before.get(key)}, now {request[key]}"


def _set_aside(folder: str) -> None:
    """Rename the folder of an earlier export to a free name beside it."""
    stem = f"{folder}.{manifest.format_file_time(manifest.format_now())}"
    aside = next(name for name in generate_free_names(stem) if not os.path.lexists(name))
    os.rename(folder, aside)


def _describe_request(kind: Format, collected: Collected, config: ExportConfig) -> dict[str, Any]:
    """Return what an export is made of: two calls with equal requests write the same files."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name != "overwrite"}
    data = collected.data
    digest = hashlib.sha256(json.dumps([data.classes, data.numbers, data.splits, data.pictures]).encode())
    for table in (data.images, data.objects):
        sink = pa.BufferOutputStream()
        arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata()
        with pa.ipc.new_stream(sink, arrow.schema) as writer:
            writer.write_table(arrow)
        digest.update(sink.getvalue())
    return {"format": kind.name, **settings, "data_sha256": digest.hexdigest()}


def _read_state(store: Store) -> dict[str, Any] | None:
    content = store.get(EXPORT_FILE)
    if content is None:
        return None
    try:
        state: dict[str, Any] = json.loads(content)
        version, _ = state["export_version"], state["request"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{store}/{EXPORT_FILE}: damaged ({error}); give another folder") from error
    if version > _VERSION:
        raise ExportError(f"{store}/{EXPORT_FILE}: made by a newer detectime; install that version")
    return state


def _write_state(store: Store, state: dict[str, Any]) -> None:
    store.put(EXPORT_FILE, json.dumps(state, indent=4, ensure_ascii=False).encode() + b"\n")
