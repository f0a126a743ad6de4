"""The page of a run that is not finished: how far it is."""

from __future__ import annotations

import os
import shlex
from pathlib import PurePosixPath

import filelock

from detectime.detection import manifest as manifests
from detectime.detection.manifest import Manifest
from detectime.detection.shards import DamagedError, Results
from detectime.report.pages import locate_place, render_page
from detectime.schema import TableVersionError
from detectime.storage import urls
from detectime.storage.folder import FolderStore
from detectime.storage.store import Store, StoreError, open_store


def find_unfinished(location: str) -> tuple[Store, Manifest] | None:
    """Return the store and the manifest of a run that is not finished; None for any other place.

    Examples
    --------
    >>> print(find_unfinished("no/such/run"))
    None
    """
    if not urls.is_remote(location) and not os.path.isdir(urls.strip_file_scheme(location)):
        return None  # `open_run` says so
    store = open_store(location, reading=True)
    found = manifests.read_manifest(store)
    return None if found is None or found["finished"] is not None else (store, found)


def render_unfinished(store: Store, manifest: Manifest) -> bytes:
    """Render a page that says how far a run is, and what to do.

    Examples
    --------
    >>> page = render_unfinished(*find_unfinished("out"))  # doctest: +SKIP
    """
    try:
        saved, fault = len(Results(store)), None
    except (DamagedError, TableVersionError) as error:
        saved, fault = None, str(error)
    rows = manifest["frames"].get("rows")
    name = PurePosixPath(locate_place(str(store))).name
    return render_page(
        "unfinished.html",
        f"{name}: not finished",
        name=name,
        store=shlex.quote(str(store)),
        started=str(manifest["started"]),
        at=manifests.format_now(),
        is_running=_is_running(store),
        version=str(manifest["detectime"]),
        images=str(manifest["configuration"]["data"]["images"]),
        saved=saved,
        rows=rows,
        fault=fault,
        notes=[str(note) for note in manifests.read_notes(manifest)],
    )


def _is_running(store: Store) -> bool:
    """Whether a process is working in the folder of a run. A bucket is not asked: that would take its lease."""
    if not isinstance(store, FolderStore):
        return False
    try:
        with store.lock(patience=0):
            return False
    except StoreError as error:
        return isinstance(error.__cause__, filelock.Timeout)
