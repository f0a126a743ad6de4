"""A store in a local folder: see `detectime.storage.store`."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import filelock

from detectime.storage.store import LockedError, NameTakenError, StoreError

_LOCK = ".lock"
_PARTIAL = ".detectime-partial-"  # prefix of files that are being written
_PARTIAL_MAX_AGE = 60.0  # seconds since the last write
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
# What FAT and some FUSE file systems return for os.link
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


class FolderStore:
    """A store in a local folder.

    Parameters
    ----------
    folder
        Created if it does not exist, and checked for write permission, unless `reading` is set.
    reading
        If true, the folder is neither created nor checked.

    Raises
    ------
    StoreError
        If the folder cannot be created or written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = FolderStore(folder)
    ...     store.put("run.json", b"{}")
    ...     store.get("run.json"), store.get("hands.json")
    (b'{}', None)
    """

    def __init__(self, folder: str | os.PathLike[str], *, reading: bool = False) -> None:
        self.folder = Path(folder)
        if reading:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: the output folder cannot be created: {error.strerror}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise StoreError(
                f"{self.folder}: the output folder is not writable: no permission, or a read-only file system"
            )

    def __str__(self) -> str:
        return str(self.folder)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open `name` for writing; the file appears, synced to disk, when the block ends without an error.

        Raises
        ------
        StoreError
            If the disk is full or the file cannot be written; an earlier file of that name stays as it was.
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
                f"{target}: cannot be written: {error.strerror or error}. Files saved before are intact: "
                "free disk space or give another `output`, then run again"
            ) from error
        finally:
            if partial is not None:
                with contextlib.suppress(OSError):
                    partial.unlink()

    def put(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        with self.writing(name) as file:
            file.write(content)

    def append(self, name: str, content: bytes) -> None:
        """Append to a file, synced to disk; only one process may append to it.

        Raises
        ------
        StoreError
            If the disk is full or the file cannot be written; what it held before is kept.
        """
        target = self.folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            is_new = not target.exists()
            with target.open("ab", buffering=0) as file:
                _append_or_restore(file, content)
            if is_new:
                _sync_folder(target.parent)
        except OSError as error:
            raise StoreError(
                f"{target}: cannot be written: {error.strerror or error}. What was saved before is intact: free disk "
                "space, or check the permissions of the folder, then try again"
            ) from error

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise StoreError(f"{self.folder}: this is a file; give a folder as `output`") from error
        except OSError as error:
            raise StoreError(f"{self.folder / name}: cannot be read: {error.strerror}") from error

    def open(self, name: str) -> BinaryIO | None:
        """Open a file to read parts of it, or return None if it does not exist."""
        try:
            return (self.folder / name).open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.folder / name}: cannot be read: {error.strerror}") from error

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield each name with the content of its file, in order; None for files that do not exist."""
        return ((name, self.get(name)) for name in names)

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names of the files in the folder `prefix`, without partly written ones."""
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

    def list_root(self) -> list[str]:
        """Return the sorted names of the files and folders at the root, without partly written ones."""
        try:
            return sorted(name for name in os.listdir(self.folder) if not name.startswith(_PARTIAL))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be listed: {error.strerror}") from error

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; names that do not exist are ignored."""
        for name in names:
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"{self.folder / name}: cannot be deleted: {error.strerror}") from error

    def rename(self, name: str, new_name: str) -> None:
        """Rename a file into an existing folder without overwriting another file.

        Raises
        ------
        NameTakenError
            If `new_name` exists.
        StoreError
            If `name` does not exist or cannot be renamed.
        """
        source, target = self.folder / name, self.folder / new_name
        try:
            _rename_without_overwriting(source, target)
        except FileExistsError as error:
            raise NameTakenError(
                f"{source}: cannot be renamed to {target}, which already exists; move that file elsewhere and run again"
            ) from error
        except OSError as error:
            raise StoreError(f"{source}: cannot be renamed to {target}: {error.strerror or error}") from error
        for folder in {target.parent, source.parent}:
            _sync_folder(folder)

    @contextlib.contextmanager
    def lock(self, patience: float = 10.0) -> Iterator[None]:
        """Keep other runs out of this folder during the block.

        The operating system releases the lock when the process ends, even if it is killed.

        Parameters
        ----------
        patience
            Seconds to wait for another run to end; a kernel that was just killed takes a moment to exit.

        Raises
        ------
        LockedError
            If another run still holds the lock after `patience` seconds.
        StoreError
            If the folder cannot be locked.
        """
        path = self.folder / _LOCK
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=patience)
        except filelock.Timeout as error:
            raise LockedError(
                f"{self.folder}: another run is writing to this folder (it holds {path}): wait for it, stop it, "
                "or give another `output`"
            ) from error
        except OSError as error:
            remedy = "; make the folder writable, or copy it and use the copy" if error.errno in _READ_ONLY else ""
            raise StoreError(f"{path}: the output folder cannot be locked: {error.strerror}{remedy}") from error
        try:
            self._delete_stale_partials()
            yield
        finally:
            lock.release()

    def _delete_stale_partials(self) -> None:
        """Delete the partial files of writers that were killed."""
        for folder in (self.folder, *(entry for entry in self.folder.iterdir() if entry.is_dir())):
            for partial in folder.glob(f"{_PARTIAL}*"):
                with contextlib.suppress(FileNotFoundError):
                    # A recent one may belong to a writer that needs no lock, such as an export of hands.json.
                    if time.time() - partial.stat().st_mtime > _PARTIAL_MAX_AGE:
                        partial.unlink()


def _rename_without_overwriting(source: Path, target: Path) -> None:
    """Rename a file; raise FileExistsError if `target` exists.

    A plain rename would silently replace a file that another process creates in the meantime; a hard link fails
    instead. A process killed between link and unlink leaves the file under both names.
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


def _append_or_restore(file: FileIO, content: bytes) -> None:
    """Append to a file and sync it; after an error it is as long as before."""
    size = file.seek(0, os.SEEK_END)
    rest = memoryview(content)
    try:
        while rest:  # a full disk may take a part
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, where the file system supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
