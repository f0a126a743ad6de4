"""The store of a run's files: a local folder, or a folder in a bucket (``s3://bucket/folder``).

A file is written atomically: it is there in full, or not at all. One run at a time holds the store's lock.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, Protocol

from detectime.errors import DocumentedError
from detectime.storage import urls

if TYPE_CHECKING:
    from detectime.storage.lease import LeaseTimes


class StoreError(DocumentedError, RuntimeError):
    """A file cannot be read, written, listed or locked; the message names the cause and the remedy."""


class NameTakenError(StoreError):
    """A file of the new name already exists; neither file was changed."""


class LockedError(StoreError):
    """Another run, or another process, is writing to this location."""


class Store(Protocol):
    """The files of a run, by name. ``str()`` returns the location. Every method raises `StoreError`."""

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open `name` for writing; the file appears when the block ends without an error.

        If it cannot be written, an earlier file of that name stays as it was.
        """
        ...

    def put(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        ...

    def append(self, name: str, content: bytes) -> None:
        """Append to a file, which is created if it does not exist; the content is stored when this returns.

        A process that is killed meanwhile leaves the earlier content and, in a folder, perhaps a part of the new one.
        Only one process may append to a file.
        """
        ...

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        ...

    def open(self, name: str) -> BinaryIO | None:
        """Open a file to read parts of it, or return None if it does not exist. Later failures are an `OSError`."""
        ...

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield each name with the content of its file, in order; None for files that do not exist."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names of the files in the folder `prefix`, without partly written ones."""
        ...

    def list_root(self) -> list[str]:
        """Return the sorted names of the files and folders at the root, without partly written ones."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; names that do not exist are ignored."""
        ...

    def rename(self, name: str, new_name: str) -> None:
        """Rename a file without changing its content and without overwriting another.

        Raises
        ------
        NameTakenError
            If `new_name` exists.
        """
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out during the block; raises if another run holds the lock."""
        ...


def open_store(
    location: str | os.PathLike[str], *, reading: bool = False, lease_times: LeaseTimes | None = None
) -> Store:
    """Open the store at a local folder or a URL.

    Parameters
    ----------
    location
        A folder, which is created if it does not exist and must be writable; or a URL.
    reading
        If true, the folder is neither created nor checked, so that a read-only folder can be read.
    lease_times
        Timing of the lease that locks a folder in a bucket; ignored for a local folder.

    Raises
    ------
    StoreError
        If the folder cannot be created or written to, or if the library for the URL's scheme is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(f"file://{folder}/run")
    ...     store.put("shards/000001.parquet", b"rows")
    ...     store.names("shards"), store.get("run.json")
    (['shards/000001.parquet'], None)
    """
    path = os.fspath(location)
    if urls.is_remote(path):
        from detectime.storage.bucket import BucketStore

        return BucketStore(path, lease_times)
    from detectime.storage.folder import FolderStore

    return FolderStore(urls.strip_file_scheme(path), reading=reading)


def open_parent_store(file: str | os.PathLike[str]) -> tuple[Store, str]:
    """Return the store of the folder that contains a file, and the file's name in it; raises as `open_store`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store, name = open_parent_store(f"{folder}/hands.json")
    ...     str(store) == folder, name
    (True, 'hands.json')
    """
    path = urls.strip_file_scheme(os.fspath(file))
    folder, _, name = path.rpartition("/")
    return open_store(folder or ("/" if path.startswith("/") else ".")), name


def generate_free_names(stem: str, ending: str = "") -> Iterator[str]:
    """Yield candidate names without end: the plain one, then numbered ones.

    Examples
    --------
    >>> names = generate_free_names("hands.20261126T010203Z", ".json")
    >>> next(names), next(names)
    ('hands.20261126T010203Z.json', 'hands.20261126T010203Z.2.json')
    """
    yield f"{stem}{ending}"
    yield from (f"{stem}.{number}{ending}" for number in itertools.count(2))


def find_free_name(store: Store, stem: str, ending: str = "") -> str:
    """Return the first of `generate_free_names` that does not exist; raises `StoreError` if that cannot be checked.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put("run.old.json", b"{}")
    ...     find_free_name(store, "run.old", ".json")
    'run.old.2.json'
    """
    return next(name for name in generate_free_names(stem, ending) if not has_file(store, name))


def rename_to_free_name(store: Store, name: str, stem: str, ending: str = "") -> str:
    """Rename a file to the first of `generate_free_names` that does not exist, and return the new name.

    Raises
    ------
    StoreError
        If the file does not exist or cannot be renamed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put("hands.json", b"[]")
    ...     rename_to_free_name(store, "hands.json", "hands.old", ".json"), has_file(store, "hands.json")
    ('hands.old.json', False)
    """
    for new_name in generate_free_names(stem, ending):
        with contextlib.suppress(NameTakenError):
            store.rename(name, new_name)
            return new_name
    raise AssertionError("generate_free_names never ends")


def has_file(store: Store, name: str) -> bool:
    """Whether a file exists in a store.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.put("hands.json", b"[]")
    ...     has_file(store, "hands.json"), has_file(store, "run.json")
    (True, False)
    """
    file = store.open(name)
    if file is not None:
        file.close()
    return file is not None
