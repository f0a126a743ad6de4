"""A store in a bucket, or wherever fsspec can write: see `detectime.storage.store`."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from detectime.storage import urls
from detectime.storage.lease import Lease, LeaseTimes
from detectime.storage.store import NameTakenError, StoreError


class BucketStore:
    """A store in a folder of a bucket.

    A file is one object, uploaded by a single PUT or, if large, by one multipart upload, so it appears atomically.

    Parameters
    ----------
    location
        URL, with its scheme.
    lease_times
        Timing of the lease that keeps other runs out; the defaults if None.

    Raises
    ------
    StoreError
        If the library for the scheme is not installed.
    """

    def __init__(self, location: str, lease_times: LeaseTimes | None = None) -> None:
        self.location = location.rstrip("/")
        self._lease_times = lease_times or LeaseTimes()
        self._lease: Lease | None = None
        try:
            self._fs, self._root = urls.open_file_system(self.location)
        except urls.RemoteError as error:
            raise StoreError(str(error)) from error

    def __str__(self) -> str:
        return self.location

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open `name` for writing; the file is uploaded when the block ends without an error.

        Raises
        ------
        StoreError
            If it cannot be written; an earlier file of that name stays as it was.
        """
        suffix = os.path.splitext(name)[1]
        try:
            with tempfile.NamedTemporaryFile(prefix="detectime-", suffix=suffix) as file:
                yield file  # type: ignore[misc]
                file.flush()
                self._check_lease()
                with self._convert_errors("written", name):
                    self._fs.put_file(file.name, f"{self._root}/{name}")
        except OSError as error:
            raise StoreError(
                f"{self.location}/{name}: its temporary copy cannot be written to {tempfile.gettempdir()}: "
                f"{urls.describe_error(error)}; free disk space there, or set TMPDIR to another folder"
            ) from error

    def put(self, name: str, content: bytes) -> None:
        """Write a whole file by a single PUT."""
        self._check_lease()
        with self._convert_errors("written", name):
            self._fs.pipe_file(f"{self._root}/{name}", content)

    def append(self, name: str, content: bytes) -> None:
        """Append to a file by writing it again, whole; only one process may append to it."""
        self.put(name, (self.get(name) or b"") + content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a whole file by a conditional PUT, unless it exists; return whether it was written."""
        with self._convert_errors("written", name):
            try:
                self._fs.pipe_file(f"{self._root}/{name}", content, mode="create")
            except FileExistsError:
                return False
        return True

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        with self._convert_errors("read", name):
            try:
                content: bytes = self._fs.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
        return content

    def open(self, name: str) -> BinaryIO | None:
        """Open a file to read parts of it, or return None if it does not exist."""
        content = self.get(name)  # read at once: a failure in the middle would be another error for each library
        return None if content is None else io.BytesIO(content)

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield each name with the content of its file, in order; several are fetched at the same time."""
        for name, fetched in urls.map_ahead(self.get, names):
            yield name, fetched.result()

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names of the files in the folder `prefix`."""
        folder = f"{self._root}/{prefix}"
        with self._convert_errors("listed", prefix):
            try:
                entries = self._fs.ls(folder, detail=True)
            except FileNotFoundError:
                return []
        paths = (entry["name"] for entry in entries if entry["type"] == "file")
        return sorted(f"{prefix}/{path.removeprefix(f'{folder}/')}" for path in paths if path != folder)

    def list_root(self) -> list[str]:
        """Return the sorted names of the files and folders at the root."""
        with self._convert_errors("listed", ""):
            try:
                entries = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        names = (path.rstrip("/").rpartition("/")[2] for path in entries)
        return sorted(name for name in names if name and not self._root.endswith(f"/{name}"))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; names that do not exist are ignored."""
        self._check_lease()
        paths = [f"{self._root}/{name}" for name in names]
        if paths:
            with self._convert_errors("deleted", "shards"):
                for _, deleted in urls.map_ahead(self._fs.rm_file, paths):  # `rm` would expand `[` and `*`
                    with contextlib.suppress(FileNotFoundError):
                        deleted.result()

    def rename(self, name: str, new_name: str) -> None:
        """Rename a file by a copy on the server, without overwriting another file.

        A bucket has no atomic rename: a process killed between copy and delete leaves the file under both names.

        Raises
        ------
        NameTakenError
            If `new_name` exists.
        StoreError
            If `name` does not exist or cannot be renamed.
        """
        self._check_lease()
        with self._convert_errors("renamed", name):
            if self._has_object(new_name):
                raise NameTakenError(
                    f"{self.location}/{name}: cannot be renamed to {new_name}, which already exists; move that file "
                    "elsewhere and run again"
                )
            self._fs.cp_file(f"{self._root}/{name}", f"{self._root}/{new_name}")
            self._fs.rm_file(f"{self._root}/{name}")

    def _has_object(self, name: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            self._fs.info(f"{self._root}/{name}")  # not `exists`, which is also False if the server does not answer
            return True
        return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of this location during the block: see `detectime.storage.lease`.

        If another run takes the lease over, every write, rename and deletion raises from then on.

        Raises
        ------
        StoreError
            If another run holds the lease, or if the location cannot be written to.
        """
        # The lease has a store of its own, since this one checks the lease before it writes.
        lease = Lease(BucketStore(self.location), self._lease_times)
        lease.acquire()
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
    def _convert_errors(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except NameTakenError:
            raise
        except Exception as error:  # each library raises its own
            raise StoreError(
                f"{self.location}/{name}: cannot be {action}: {urls.describe_error(error)}. Files saved before are "
                "intact: check the permission, the address and the network, or give another `output`, then run again"
            ) from error
