"""Writing a hundred thousand small files into a store: `Store.put` would take minutes."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from detectime.storage import urls
from detectime.storage.folder import FolderStore
from detectime.storage.store import Store, StoreError

_PARTIAL = ".detectime-partial-"  # as those of `FolderStore`, whose lock deletes the ones that a killed process left
_UPLOADS = 32  # at the same time


def put_many(store: Store, files: Iterable[tuple[str, bytes]]) -> None:
    """Write small files, each of them whole or not at all.

    In a folder they are synced to disk together, at the end, instead of one by one; in a bucket several are uploaded
    at the same time.

    Parameters
    ----------
    store
        Where to.
    files
        The name and the content of each. They may be generated while they are written.

    Raises
    ------
    StoreError
        If a file cannot be written. Those before it are there.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     put_many(store, [("labels/a.txt", b"0"), ("labels/b.txt", b"")])
    ...     store.names("labels"), store.get("labels/a.txt")
    (['labels/a.txt', 'labels/b.txt'], b'0')
    """
    if isinstance(store, FolderStore):
        _write_files(store.folder, files)
        return
    for _, written in urls.map_ahead(lambda file: store.put(*file), files, _UPLOADS):
        written.result()


def delete_partials(store: Store) -> None:
    """Delete partly written files that killed processes left; call it only while nothing is written to the store.

    Examples
    --------
    >>> import tempfile
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     delete_partials(open_store(folder))
    """
    if isinstance(store, FolderStore):
        for partial in store.folder.rglob(f"{_PARTIAL}*"):
            with contextlib.suppress(OSError):
                partial.unlink()


def _write_files(root: Path, files: Iterable[tuple[str, bytes]]) -> None:
    partial = f"{root}/{_PARTIAL}{uuid.uuid4().hex}"
    made: set[str] = set()
    name = ""
    try:
        for name, content in files:
            parent = name.rpartition("/")[0]
            if parent not in made:
                Path(root, parent).mkdir(parents=True, exist_ok=True)
                made.add(parent)
            _write_file(partial, content)
            os.replace(partial, f"{root}/{name}")
        os.sync()
    except OSError as error:
        raise StoreError(
            f"{root}/{name}: cannot be written: {error.strerror or error}. Files saved before are intact: "
            "free disk space or choose another folder, then run again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)


def _write_file(path: str, content: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        while content:  # a write may be cut short, by a signal or a full disk
            content = content[file.write(content) or 0 :]
