"""The folder of an export: what it holds, whether it may be written to, and ``export.json``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import BaseModel, ValidationError, model_validator

from detectime import config as configuration
from detectime.detection import manifest
from detectime.detection.manifest import RecordedNote
from detectime.exports.annotations import Collected, choose_box
from detectime.exports.contract import NO_SPLIT, ExportConfig, ExportError, Format
from detectime.runs import FinishedRun
from detectime.schema import EXPORT_FILE
from detectime.storage import urls
from detectime.storage.store import Store, generate_free_names, open_store

VERSION = 1
"""Version of ``export.json``."""

OF_THE_CARD = ("license", "sources", "contact_sheet")
"""Settings that only the dataset card shows."""

_OWN_FILES = (".lock", EXPORT_FILE)
_DIGEST = "data_sha256"


class _Settings(BaseModel, strict=True):
    overwrite: bool
    images: str | None
    box: str | None
    faces: bool


class _Counts(BaseModel, strict=True):
    failed: int


class _State(BaseModel, strict=True):
    """What ``export.json`` must hold, of which type; other keys are accepted."""

    export_version: int
    format: str
    numbers: dict[str, int]
    splits: list[str]
    request: dict[str, Any]
    settings: _Settings
    started: str
    finished: str | None
    counts: _Counts | None = None
    data_notes: list[RecordedNote] = []
    notes: list[RecordedNote] = []

    @model_validator(mode="after")
    def check_finished(self) -> Self:
        """Refuse a finished export without counts."""
        if self.finished is not None and self.counts is None:
            raise ValueError("counts are missing")
        return self


def read_export(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``export.json``.

    Returns
    -------
    dict
        `format`, `settings`, `counts`, `notes`, `started` and `finished`, when (ISO 8601); the latter is None if it is
        not finished.

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
    found = read_state(store)
    if found is None:
        raise ExportError(f"{store}: this is no export ({EXPORT_FILE} is missing)")
    return found


def read_state(store: Store) -> dict[str, Any] | None:
    """Read ``export.json``; None if there is none. Raises `ExportError` as `read_export`."""
    content = store.get(EXPORT_FILE)
    if content is None:
        return None
    try:
        state = json.loads(content)
        if (
            isinstance(state, dict)
            and isinstance(state.get("export_version"), int)
            and state["export_version"] > VERSION
        ):
            raise ExportError(f"{store}/{EXPORT_FILE}: made by a newer detectime; install that version")
        _State.model_validate(state)
    except ValidationError as error:
        faults = "; ".join(configuration.list_faults(error))
        raise ExportError(f"{store}/{EXPORT_FILE}: damaged ({faults}); give another folder") from error
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{store}/{EXPORT_FILE}: damaged ({error}); give another folder") from error
    return state  # type: ignore[no-any-return]


def write_state(store: Store, state: dict[str, Any]) -> None:
    """Write ``export.json``."""
    store.put(EXPORT_FILE, json.dumps(state, indent=4, ensure_ascii=False).encode() + b"\n")


def describe_request(kind: Format, collected: Collected, config: ExportConfig) -> dict[str, Any]:
    """Return what an export is made of: two calls with equal requests write the same files, but for the card."""
    left_out = ("overwrite", *OF_THE_CARD)
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
    data = collected.data
    # As they were resolved: a default that is given asks for the same.
    settings |= {
        "images": data.pictures,
        "box": choose_box(kind, config),
        "split": data.splits != (NO_SPLIT,),
    }
    digest = hashlib.sha256(json.dumps([data.classes, data.numbers, data.splits, data.pictures]).encode())
    for table in (data.images, data.objects):
        sink = pa.BufferOutputStream()
        arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata()
        with pa.ipc.new_stream(sink, arrow.schema) as writer:
            writer.write_table(arrow)
        digest.update(sink.getvalue())
    return {"format": kind.name, **settings, _DIGEST: digest.hexdigest()}


def check_place(run: FinishedRun, target: str) -> None:
    """Refuse a folder inside the images: the next run would list what is written there.

    Raises
    ------
    ExportError
        If it is refused.
    """
    images = urls.strip_file_scheme(run.config.data.images)
    if urls.is_remote(target) or urls.is_remote(images) or not os.path.isdir(images):
        return
    if Path(images).resolve() in (Path(target).resolve(), *Path(target).resolve().parents):
        raise ExportError(
            f"{target}: this folder is inside the images, {images}, to which nothing is added; give another"
        )


def check_folder(folder: str, request: dict[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder that holds anything but this export, finished or not.

    Parameters
    ----------
    folder
        A folder or URL, which need not exist.
    request
        What `describe_request` returned.
    overwrite
        Another export may be there, unless it is in a bucket.

    Raises
    ------
    ExportError
        If it is refused.
    """
    store = open_store(folder, reading=True)
    earlier = read_state(store)
    others = [name for name in store.list_root() if name not in _OWN_FILES]
    if earlier is None and others:
        raise ExportError(f"{folder}: this folder holds something else, {others[0]!r} for one; give another folder")
    if earlier is None or earlier["request"] == request or not others:
        return
    if not overwrite:
        raise ExportError(
            f"{folder}: this folder holds an export of other samples or settings "
            f"({_name_difference(earlier['request'], request)}); give another folder, or `overwrite: true`, which sets "
            "the present export aside"
        )
    if urls.is_remote(folder):
        raise ExportError(f"{folder}: overwrite = true: exports in a bucket are not replaced; give another folder")


def set_aside(folder: str, request: dict[str, Any]) -> None:
    """Rename the folder of another export to a free name beside it; nothing is done if there is none.

    Parameters
    ----------
    folder
        A local folder that `check_folder` accepted, or a URL.
    request
        What `describe_request` returned.

    Raises
    ------
    StoreError
        If another call is writing to it.
    """
    store = open_store(folder, reading=True)
    earlier = read_state(store)
    if earlier is None or earlier["request"] == request or not set(store.list_root()) - set(_OWN_FILES):
        return
    with open_store(folder).lock():
        stem = f"{folder}.{manifest.format_file_time(manifest.format_now())}"
        os.rename(folder, next(name for name in generate_free_names(stem) if not os.path.lexists(name)))


def _name_difference(before: dict[str, Any], request: dict[str, Any]) -> str:
    keys = [key for key in request if key != _DIGEST and before.get(key) != request[key]]
    if not keys:
        return "the samples differ"
    return f"{keys[0]} = {before.get(keys[0])}, now {request[keys[0]]}"
