"""Frames at a URL such as ``s3://bucket/folder``: see `detectime.sources.contract`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from detectime.images import UnreadableImageError
from detectime.notes import Note
from detectime.sources.contract import MissingFrameError, SourceError, UnreachableFrameError
from detectime.sources.names import fold_name
from detectime.storage import urls

_VERSION_KEYS = ("ETag", "etag", "md5", "mtime", "LastModified", "created", "updated")  # in fsspec's listings


@dataclass(frozen=True)
class BucketSource:
    """Image files in a bucket, or wherever fsspec can read.

    Parameters
    ----------
    root
        The URL that every `frame_path` is relative to.
    ahead_bytes
        How much of a file is fetched ahead; of a larger one the rest follows when it is its turn.

    Raises
    ------
    SourceError
        If the package that the URL's scheme needs is not installed.
    """

    root: str
    ahead_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        """Fail before work starts if nothing can be read."""
        try:
            urls.open_file_system(self.root)
        except urls.RemoteError as error:
            raise SourceError(str(error)) from error

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """List the files below the root, each once, folder by folder.

        Yields
        ------
        frame_path, stamp
            The path relative to the root; the size and the ETag, or another mark of a version that the server gives.

        Raises
        ------
        SourceError
            If a folder cannot be listed.
        """
        files, root = urls.open_file_system(self.root)
        pending = [root]
        while pending:
            inside: list[str] = []
            for folder, listed in urls.map_ahead(lambda folder: files.ls(folder, detail=True), pending):
                try:
                    entries = listed.result()
                except Exception as error:  # each library raises its own
                    raise SourceError(
                        f"{self.root}: the images cannot be listed: {urls.describe_error(error)}; "
                        "give the place as `images`"
                    ) from error
                for entry in entries:
                    path = entry["name"].rstrip("/")
                    if path == folder:  # an object that a program made for the folder, or a folder without a name
                        continue
                    if entry["type"] == "directory":
                        inside.append(path)
                    else:
                        yield path.removeprefix(f"{root}/"), make_stamp(entry)
            pending = inside

    def list_notes(self) -> list[Note]:
        """Return no notes: there are none about a bucket."""
        return []

    def check_frames(self, frame_paths: pa.Array | pa.ChunkedArray) -> None:
        """Refuse nothing: what a frame is shows when it is read."""

    def list_top_folders(self) -> tuple[str, ...]:
        """Return no folders: the root is the folder of the frames."""
        return ()

    def read_frames(
        self, frame_paths: Iterable[str], max_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Fetch the bytes of files, some ahead: see `Source.read_frames`.

        Of other spellings only those of names are found that are not plain ASCII themselves, or have blanks at the ends
        of a part: a folder of a bucket is not listed for every file that is missing.
        """
        files, root = urls.open_file_system(self.root)  # once: each thread would open a connection of its own
        spellings = _Spellings(files, root)

        def fetch(frame_path: str) -> tuple[str, bytes]:
            try:
                return frame_path, fetch_bytes(files, f"{root}/{frame_path}", 0, self.ahead_bytes)
            except MissingFrameError:
                spelling = spellings.find(frame_path)
                if spelling is None:
                    raise
                return spelling, fetch_bytes(files, f"{root}/{spelling}", 0, self.ahead_bytes)

        for frame_path, fetched in urls.map_ahead(fetch, frame_paths):
            try:
                spelling, content = fetched.result()
                if len(content) == self.ahead_bytes:
                    content = fetch_bytes(files, f"{root}/{spelling}", 0, None if max_bytes is None else max_bytes + 1)
                    if max_bytes is not None and len(content) > max_bytes:
                        raise UnreadableImageError(f"too large: more than {max_bytes} bytes")
                yield frame_path, content
            except (MissingFrameError, UnreadableImageError) as error:
                yield frame_path, error


class _Spellings:
    """Finds other spellings of paths in a bucket: see `names.fold_name`.

    Parameters
    ----------
    files, root
        A file system of fsspec, and the path in it that frame_paths are relative to.
    """

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self._root = root
        self._names: dict[str, list[str]] = {}

    def find(self, frame_path: str) -> str | None:
        """Return the path of the only file that differs from one by its spelling; None if there is none.

        Raises
        ------
        MissingFrameError
            If there are several.
        """
        found: list[str] = []
        for part in frame_path.split("/"):
            names = self._list("/".join([self._root, *found]))
            same = [part] if part in names else [name for name in names if fold_name(name) == fold_name(part)]
            if len(same) > 1:
                raise MissingFrameError(
                    f"{len(same)} names in the folder differ from {part!r} by Unicode form or blanks"
                )
            if not same:
                return None
            found += same
        return "/".join(found)

    def _list(self, folder: str) -> list[str]:
        """Return the names in a folder, asked for once; none if it cannot be listed."""
        if folder not in self._names:
            names: list[str] = []
            with contextlib.suppress(Exception):  # each library raises its own
                names = [path.rstrip("/").rpartition("/")[2] for path in self._files.ls(folder, detail=False)]
            self._names[folder] = names
        return self._names[folder]


def make_stamp(entry: Mapping[str, Any]) -> str | None:
    """Make the stamp of an entry of fsspec's listing, in which each library has its own keys.

    Examples
    --------
    >>> make_stamp({"name": "a.jpg", "size": 5, "ETag": '"abc"'})
    '5-abc'
    """
    version = next((entry[key] for key in _VERSION_KEYS if entry.get(key) is not None), None)
    known = [str(part).strip('"') for part in (entry.get("size"), version) if part is not None]
    return "-".join(known) or None


def fetch_bytes(files: Any, path: str, start: int, end: int | None) -> bytes:
    """Fetch the bytes of a file from `start` to before `end`; None: to its end.

    Raises
    ------
    MissingFrameError, UnreadableImageError
        If they cannot be had.
    """
    try:
        content: bytes = files.cat_file(path, start=start, end=end)
    except FileNotFoundError as error:
        raise MissingFrameError(f"no such file: {urls.describe_error(error)}") from error
    except (IsADirectoryError, PermissionError) as error:
        raise UnreadableImageError(f"cannot be read: {urls.describe_error(error)}") from error
    except Exception as error:  # each library raises its own
        if _is_range_error(error):  # an empty file has no bytes to ask for
            return b""
        raise UnreachableFrameError(f"cannot be fetched: {urls.describe_error(error)}") from error
    return content


def _is_range_error(error: Exception) -> bool:
    """Whether a server answered that there are no such bytes, by S3's code or HTTP's."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "code", None)
    return code in ("InvalidRange", 416, "416")
