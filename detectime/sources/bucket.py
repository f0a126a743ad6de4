"""Frames in a place with a scheme, as ``s3://bucket/folder``: see `detectime.sources`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detectime.images import EncodedImage, UnreadableImageError
from detectime.notes import Note
from detectime.sources.contract import (
    MissingFrameError,
    SourceError,
    UnreachableFrameError,
    describe_contents,
    most_bytes,
    open_pictures,
)
from detectime.storage import urls

_MARKS = ("ETag", "etag", "md5", "mtime", "LastModified", "created", "updated")  # of a version, in fsspec's listings
_FIRST = 16 * 2**20  # bytes of a frame that are fetched ahead; of a larger one the rest follows when it is its turn


@dataclass(frozen=True)
class BucketSource:
    """Image files in a bucket, or wherever fsspec can read.

    Parameters
    ----------
    root
        What every frame's path is relative to, with its scheme.
    exif, max_pixels
        How frames are decoded: see `images.EncodedImage`.

    Raises
    ------
    SourceError
        If what the scheme needs is not installed.
    """

    root: str
    exif: str = "ignore"
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        """Fail before work starts if it cannot be read at all."""
        try:
            urls.open_file_system(self.root)
        except urls.RemoteError as error:
            raise SourceError(str(error)) from error

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """Walk over the files below the root, each once, folder by folder.

        Yields
        ------
        frame_path, stamp
            The path relative to the root; the size and the ETag, or else what the server tells of its time.

        Raises
        ------
        SourceError
            If a folder cannot be listed.
        """
        files, root = urls.open_file_system(self.root)
        waiting = [root]
        while waiting:
            inside: list[str] = []
            for folder, listed in urls.map_ahead(lambda folder: files.ls(folder, detail=True), waiting):
                try:
                    entries = listed.result()
                except Exception as error:  # each library has its own
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
                        yield path.removeprefix(f"{root}/"), _stamp(entry)
            waiting = inside

    def notes(self) -> list[Note]:
        """Return nothing: there is nothing to tell about a bucket."""
        return []

    def open(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
        """Read frames in the order in which they are named; some are fetched ahead.

        Yields
        ------
        frame_path, frame
            The path as it was given; the picture, whose pixels are decoded when they are asked for, or the reason why
            there is none.
        """
        yield from open_pictures(self._fetch_files(frame_paths), self.exif, self.max_pixels)

    def read_contents(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        """Describe the encoded bytes of files, which are fetched for it: see `Source.read_contents`."""
        yield from describe_contents(self._fetch_files(frame_paths))

    def _fetch_files(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Yield each path with the bytes of its file, or with the reason why there are none; some are fetched ahead."""
        files, root = urls.open_file_system(self.root)  # once: each thread would get a connection of its own
        for frame_path, fetched in urls.map_ahead(lambda name: _fetch(files, f"{root}/{name}", _FIRST), frame_paths):
            try:
                content = fetched.result()
                if len(content) == _FIRST:
                    most = most_bytes(self.max_pixels)
                    content = _fetch(files, f"{root}/{frame_path}", most + 1)
                    if len(content) > most:
                        raise UnreadableImageError(f"too large: more than {most} bytes")
                yield frame_path, content
            except (MissingFrameError, UnreadableImageError) as error:
                yield frame_path, error


def _stamp(entry: Mapping[str, Any]) -> str | None:
    """Make a stamp of an entry of fsspec's listing, of which each library has its own keys."""
    mark = next((entry[key] for key in _MARKS if entry.get(key) is not None), None)
    known = [str(part).strip('"') for part in (entry.get("size"), mark) if part is not None]
    return "-".join(known) or None


def _fetch(files: Any, path: str, most: int) -> bytes:
    """Return the first bytes of a file, at most so many."""
    try:
        content: bytes = files.cat_file(path, start=0, end=most)
    except FileNotFoundError as error:
        raise MissingFrameError(f"no such file: {urls.describe_error(error)}") from error
    except (IsADirectoryError, PermissionError) as error:
        raise UnreadableImageError(f"cannot be read: {urls.describe_error(error)}") from error
    except Exception as error:  # each library has its own
        if _is_of_range(error):  # no byte of an empty file can be asked for
            return b""
        raise UnreachableFrameError(f"cannot be fetched: {urls.describe_error(error)}") from error
    return content


def _is_of_range(error: Exception) -> bool:
    """Whether a server said that there are no such bytes, in the words of S3 or by HTTP's number."""
    said = getattr(error.__cause__, "response", None)
    code = said.get("Error", {}).get("Code") if isinstance(said, dict) else getattr(error, "code", None)
    return code in ("InvalidRange", 416, "416")
