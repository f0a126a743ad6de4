"""Results in a bucket, or wherever fsspec can write: see `detectime.storage.store`."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from detectime.storage import urls
from detectime.storage.store import NameTakenError, StoreError

_log = logging.getLogger(__name__)

_LOCKS = ".lock"
_BEAT = 4.0  # seconds between two signs of life of who holds the lock
_ABANDONED = 20.0  # seconds without one
_PATIENCE = 10.0  # seconds to wait for another run to end
_FREE = b"{}"
_DIGITS = 9  # of a lock's number, so that names sort as numbers do


class BucketStore:
    """A folder of a bucket. An object appears whole or not at all: a file is one PUT, a large one one upload of parts.

    Parameters
    ----------
    place
        With its scheme.

    Raises
    ------
    StoreError
        If what the scheme needs is not installed.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        try:
            self._files, self._root = urls.open_file_system(self.place)
        except urls.RemoteError as error:
            raise StoreError(str(error)) from error
        self._lease: _Lease | None = None

    def __str__(self) -> str:
        return self.place

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open `name` for writing; it appears, whole, when the block ends without an error.

        Raises
        ------
        StoreError
            If it cannot be written; what was there before is still there then.
        """
        self._check_lease()
        suffix = os.path.splitext(name)[1]
        try:
            with tempfile.NamedTemporaryFile(prefix="detectime-", suffix=suffix) as file:
                yield file  # type: ignore[misc]
                file.flush()
                with self._telling("written", name):
                    self._files.put_file(file.name, f"{self._root}/{name}")
        except OSError as error:
            raise StoreError(
                f"{self.place}/{name}: cannot be written to {tempfile.gettempdir()} first: "
                f"{urls.describe_error(error)}; make room there, or name another folder in TMPDIR"
            ) from error

    def put(self, name: str, content: bytes) -> None:
        """Write a whole file, by a single PUT."""
        self._check_lease()
        self._put(name, content)

    def _put(self, name: str, content: bytes, **options: Any) -> None:
        with self._telling("written", name):
            self._files.pipe_file(f"{self._root}/{name}", content, **options)

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if there is no such file."""
        with self._telling("read", name):
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
        return content

    def open(self, name: str) -> BinaryIO | None:
        """Open a file to read parts of it; None if there is no such file."""
        content = self.get(name)  # what fails in the middle would be another error for each library
        return None if content is None else io.BytesIO(content)

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """`get` several files, some ahead: each takes its time to come."""
        for name, fetched in urls.map_ahead(self.get, names):
            yield name, fetched.result()

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names of the files in the folder `prefix`."""
        folder = f"{self._root}/{prefix}"
        with self._telling("listed", prefix):
            try:
                entries = self._files.ls(folder, detail=True)
            except FileNotFoundError:
                return []
        found = (entry["name"] for entry in entries if entry["type"] == "file")
        return sorted(f"{prefix}/{path.removeprefix(f'{folder}/')}" for path in found if path != folder)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files that this store wrote; one that is gone already is no error."""
        self._check_lease()
        doomed = [f"{self._root}/{name}" for name in names]
        if doomed:
            with self._telling("deleted", "shards"):
                for _, gone in urls.map_ahead(self._files.rm_file, doomed):  # `rm` would take `[` and `*` for patterns
                    with contextlib.suppress(FileNotFoundError):
                        gone.result()

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name: the server copies it, and the first copy is deleted then.

        No server can do both at once. A process that is killed between the two leaves the file with both names.

        Raises
        ------
        NameTakenError
            If there is a file of the new name, which is never overwritten.
        StoreError
            If there is no such file, or if it cannot be renamed.
        """
        self._check_lease()
        with self._telling("renamed", name):
            if self._is_there(new_name):
                raise NameTakenError(
                    f"{self.place}/{name}: cannot be renamed to {new_name}, which is there already; move that "
                    "elsewhere, and run again"
                )
            self._files.cp_file(f"{self._root}/{name}", f"{self._root}/{new_name}")
            self._files.rm_file(f"{self._root}/{name}")

    def _is_there(self, name: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            self._files.info(f"{self._root}/{name}")  # `exists` says no, too, where the server gave no answer
            return True
        return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of this place.

        A lock is an object with a number; who makes the next one, which the server lets nobody else make then, holds
        it, and says every few seconds that he lives. One that gave no sign for a while is taken over.

        Raises
        ------
        StoreError
            If another run works here, or if nothing can be written here.
        """
        lease = _Lease(self)
        lease.take()
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            lease.release()

    def _check_lease(self) -> None:
        if self._lease:
            self._lease.check()

    @contextlib.contextmanager
    def _telling(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NameTakenError):
            raise
        except Exception as error:  # each library has its own
            raise StoreError(
                f"{self.place}/{name}: cannot be {what}: {urls.describe_error(error)}. Nothing that was saved is "
                "lost: see to the permission, the address and the network, or give another `output`, and run again"
            ) from error


class _Lease:
    """The lock of a place, as one run holds it: an object whose name is a number and whose content changes."""

    def __init__(self, store: BucketStore) -> None:
        self._store = store
        self._name = ""
        self._told = 0.0  # when the last sign of life went out
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def take(self) -> None:
        """Wait for a run that ends, or that is gone, and take the lock."""
        began = changed = time.monotonic()
        seen: tuple[int, bytes] | None = None
        while (last := self._last()) and last[1] != _FREE:
            now = time.monotonic()
            if last != seen:
                if now - began > _PATIENCE:
                    raise StoreError(self._refusal(last[1]))
                if not seen:
                    _log.info("%s: waiting to see if %s still works here", self._store, _who(last[1]))
                seen, changed = last, now
            elif now - changed > _ABANDONED:
                break
            time.sleep(_BEAT / 8)
        number = last[0] + 1 if last else 1
        self._name = f"{_LOCKS}/{number:0{_DIGITS}d}"
        if not self._tell(mode="create"):
            raise StoreError(self._refusal(self._store.get(self._name) or b""))
        if self._tell(mode="create"):
            _log.warning(
                "%s: a second run could not be kept out of this place, because the server overwrites what must not be "
                "overwritten; do not start one",
                self._store,
            )
        self._store.delete([name for name in self._store.names(_LOCKS) if name < self._name])
        self._keeper.start()

    def check(self) -> None:
        """Refuse to go on if the lock was taken over meanwhile: this computer slept, or the network was gone."""
        if _now() - self._told < _ABANDONED / 2:
            return
        last = self._last()
        if last is None or not self._name.endswith(f"/{last[0]:0{_DIGITS}d}"):
            raise StoreError(
                f"{self._store}: another run has taken this place over, since this one gave no sign of life; nothing "
                "that was saved is lost"
            )
        self._tell()

    def release(self) -> None:
        """Let the next run begin at once; the object stays, so that numbers only grow."""
        self._over.set()
        self._keeper.join(_ABANDONED)
        with contextlib.suppress(StoreError):  # then the next one waits a little
            self._store._put(self._name, _FREE)

    def _keep(self) -> None:
        while not self._over.wait(_BEAT):
            with contextlib.suppress(StoreError):  # who writes next notices
                self.check()
                self._tell()

    def _tell(self, **options: Any) -> bool:
        """Give a sign of life: whether nobody was there already."""
        now = _now()
        me = {"host": socket.gethostname(), "process": os.getpid(), "beat": uuid.uuid4().hex}
        try:
            self._store._put(self._name, json.dumps(me).encode(), **options)
        except FileExistsError:
            return False
        self._told = now
        return True

    def _last(self) -> tuple[int, bytes] | None:
        """Return the number and the content of the lock that counts."""
        names = [name for name in self._store.names(_LOCKS) if re.fullmatch(rf"{_LOCKS}/\d{{{_DIGITS}}}", name)]
        if not names:
            return None
        return int(names[-1].rpartition("/")[2]), self._store.get(names[-1]) or b""

    def _refusal(self, holder: bytes) -> str:
        return (
            f"{self._store}: another run is writing to this place ({_who(holder)}): wait for it, stop it, or give "
            "another `output`"
        )


def _now() -> float:
    """Seconds that pass also while the computer sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _who(holder: bytes) -> str:
    try:
        values = json.loads(holder)
        return f"process {int(values['process'])} on {str(values['host'])[:80]!r}"
    except (ValueError, KeyError, TypeError):
        return "somebody"
