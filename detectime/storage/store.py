"""Where results live: a place whose files appear whole or not at all, for one writer at a time.

A folder of this machine, or one in a bucket that is named by a scheme, as ``s3://bucket/folder``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from detectime.storage import urls


class StoreError(RuntimeError):
    """Results cannot be kept where they should be; the message says why and what to do."""


class NameTakenError(StoreError):
    """A file of the new name is there already; neither of the two was touched."""


class Store(Protocol):
    """What a run needs of the place of its results; ``str()`` names it. Every method raises `StoreError`."""

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open `name` for writing; it appears, whole and safe, when the block ends without an error.

        What was there before is still there if it cannot be written.
        """
        ...

    def put(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        ...

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if there is no such file."""
        ...

    def open(self, name: str) -> BinaryIO | None:
        """Open a file to read parts of it; None if there is no such file. What goes wrong later is an `OSError`."""
        ...

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """`get` several files, one after the other."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names of the whole files in the folder `prefix`."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete files that this store wrote; one that is gone already is no error."""
        ...

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name; its content stays as it is, and a file of the new name is never overwritten.

        Raises
        ------
        NameTakenError
            If there is something of the new name.
        """
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out while the block lasts; refused if another run works here."""
        ...


def open_store(place: str | os.PathLike[str], *, reading: bool = False) -> Store:
    """Return the store of a folder, or of a place with a scheme.

    Parameters
    ----------
    place
        The folder is made if it is not there, and must be one that can be written to.
    reading
        If true nothing of that is asked: what lies there is read, and whoever writes finds out.

    Raises
    ------
    StoreError
        If it cannot be made or written to, or if what its scheme needs is not installed.
    """
    path = os.fspath(place)
    if urls.is_remote(path):
        from detectime.storage.bucket import BucketStore

        return BucketStore(path)
    from detectime.storage.folder import FolderStore

    return FolderStore(urls.strip_file_scheme(path), reading=reading)


def open_parent_store(file: str | os.PathLike[str]) -> tuple[Store, str]:
    """Return the store that a file lies in, and the file's name there; raises as `open_store`."""
    path = urls.strip_file_scheme(os.fspath(file))
    place, _, name = path.rpartition("/")
    return open_store(place or ("/" if path.startswith("/") else ".")), name


def generate_free_names(stem: str, ending: str = "") -> Iterator[str]:
    """Yield names to try, one after the other, until one is free.

    Examples
    --------
    >>> names = generate_free_names("hands.20261126T010203Z", ".json")
    >>> next(names), next(names)
    ('hands.20261126T010203Z.json', 'hands.20261126T010203Z.2.json')
    """
    yield f"{stem}{ending}"
    yield from (f"{stem}.{number}{ending}" for number in itertools.count(2))


def find_free_name(store: Store, stem: str, ending: str = "") -> str:
    """Return the first of `generate_free_names` that no file has; raises `StoreError` if that cannot be told."""
    return next(name for name in generate_free_names(stem, ending) if not has_file(store, name))


def rename_to_free_name(store: Store, name: str, stem: str, ending: str = "") -> str:
    """Rename a file to the first of `generate_free_names` that is free, and return its new name.

    Raises
    ------
    StoreError
        If there is no such file, or if it cannot be renamed.
    """
    for new_name in generate_free_names(stem, ending):
        with contextlib.suppress(NameTakenError):
            store.rename(name, new_name)
            return new_name
    raise AssertionError("there are more names than files")


def has_file(store: Store, name: str) -> bool:
    """Whether a store has a file."""
    file = store.open(name)
    if file is not None:
        file.close()
    return file is not None
