"""Results in a folder of this machine: see `detectime.storage.store`."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import filelock

from detectime.storage.store import NameTakenError, StoreError

_LOCK = ".lock"
_ABANDONED = 60.0  # seconds since the last write
_PARTIAL = ".detectime-partial-"
_NO_HARD_LINKS = (
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EINVAL,
)  # as FAT and some FUSE say it


class FolderStore:
    """A local folder.

    Parameters
    ----------
    folder
        Made if it is not there, and checked for permission to write, unless it is only for `reading`.

    Raises
    ------
    StoreError
        If the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], *, reading: bool = False) -> None:
        self.folder = Path(folder)
        if reading:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: the output folder cannot be made: {error.strerror}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise StoreError(
                f"{self.folder}: the output folder cannot be written to: no permission, or a read-only disk"
            )

    def __str__(self) -> str:
        return str(self.folder)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open `name` for writing; it appears, whole and on the disk, when the block ends without an error.

        Raises
        ------
        StoreError
            If the disk is full or the file cannot be written; what was there before is still there then.
        """
        target = self.folder / name
        partial: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.parent / f"{_PARTIAL}{uuid.uuid4().hex}"
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            partial = None
            _sync_folder(target.parent)
        except OSError as error:
            raise StoreError(
                f"{target}: cannot be written: {error.strerror or error}. Nothing that was saved before is lost: "
                "make room or give another `output`, and run again"
            ) from error
        finally:
            if partial is not None:
                with contextlib.suppress(OSError):
                    partial.unlink()

    def put(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        with self.writing(name) as file:
            file.write(content)

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if there is no such file."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.folder / name}: cannot be read: {error.strerror}") from error

    def open(self, name: str) -> BinaryIO | None:
        """Open a file to read parts of it; None if there is no such file."""
        try:
            return (self.folder / name).open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.folder / name}: cannot be read: {error.strerror}") from error

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """`get` several files, one after the other."""
        return ((name, self.get(name)) for name in names)

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names of the whole files in the folder `prefix`."""
        try:
            return sorted(
                f"{prefix}/{entry.name}"
                for entry in os.scandir(self.folder / prefix)
                if entry.is_file() and not entry.name.startswith(_PARTIAL)
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.folder / prefix}: cannot be listed: {error.strerror}") from error

    def delete(self, names: Iterable[str]) -> None:
        """Delete files that this store wrote; one that is gone already is no error."""
        for name in names:
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"{self.folder / name}: cannot be deleted: {error.strerror}") from error

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name, in a folder that is there.

        Raises
        ------
        NameTakenError
            If there is something of the new name, which is never overwritten.
        StoreError
            If there is no such file, or if it cannot be renamed.
        """
        source, target = self.folder / name, self.folder / new_name
        try:
            _move_without_overwriting(source, target)
        except FileExistsError as error:
            raise NameTakenError(
                f"{source}: cannot be renamed to {target}, which is there already; move that elsewhere, and run again"
            ) from error
        except OSError as error:
            raise StoreError(f"{source}: cannot be renamed to {target}: {error.strerror or error}") from error
        for folder in {target.parent, source.parent}:
            _sync_folder(folder)

    @contextlib.contextmanager
    def lock(self, patience: float = 10.0) -> Iterator[None]:
        """Keep other runs out of this folder.

        The operating system lets go of the lock when the process ends, however it ends.

        Parameters
        ----------
        patience
            Seconds to wait for another run to end: a kernel that was killed a moment ago lives that long.

        Raises
        ------
        StoreError
            If another run still works in this folder then.
        """
        path = self.folder / _LOCK
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=patience)
        except filelock.Timeout as error:
            raise StoreError(
                f"{self.folder}: another run is writing to this folder (it holds {path}): wait for it, stop it, "
                "or give another `output`"
            ) from error
        except OSError as error:
            raise StoreError(f"{path}: the output folder cannot be locked: {error.strerror}") from error
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Delete what writers that were killed left half written."""
        for place in (self.folder, *(entry for entry in self.folder.iterdir() if entry.is_dir())):
            for partial in place.glob(f"{_PARTIAL}*"):
                with contextlib.suppress(FileNotFoundError):
                    # What is young may belong to somebody who writes hands.json at this moment, outside of a run.
                    if time.time() - partial.stat().st_mtime > _ABANDONED:
                        partial.unlink()


def _move_without_overwriting(source: Path, target: Path) -> None:
    """Rename a file; FileExistsError if there is something of the new name.

    A plain rename would replace, without a word, what another process puts there at this moment. A second hard link
    cannot; a process that is killed before the first one is removed leaves the file with both names.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError from error
        source.replace(target)
    else:
        source.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a loss of power, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
