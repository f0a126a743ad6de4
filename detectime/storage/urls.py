"""Paths with a scheme, as ``s3://bucket/folder``, through fsspec and the library of that scheme.

Who may read and write there, at which address, is what those libraries' own environment variables and files say.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ATTEMPTS = 3
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}

Item = TypeVar("Item")
Result = TypeVar("Result")


class RemoteError(OSError):
    """A scheme that nothing here can read; the message says what is missing."""


def is_remote(path: str) -> bool:
    """Whether a path has a scheme; ``file://`` is another way to write a local one, see `strip_file_scheme`."""
    return bool(_SCHEME.match(path)) and not path.startswith("file://")


def strip_file_scheme(path: str) -> str:
    """Return a local path without the ``file://`` that it may have."""
    return path.removeprefix("file://")


def open_file_system(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path with a scheme, and the path in it.

    Raises
    ------
    RemoteError
        If the scheme is not known, or if its library is not installed.
    """
    scheme = path.partition("://")[0]
    extra = _EXTRAS.get(scheme, "")
    try:
        import fsspec

        options = {"config_kwargs": {"retries": {"max_attempts": 0}}} if extra == "s3" else {}
        system, inside = fsspec.core.url_to_fs(path, use_listings_cache=False, **options)
        # What hangs is given up within a minute: 15 s without a byte, and so often.
        system.retries = _ATTEMPTS
    except ImportError as error:
        raise RemoteError(
            f"{path}: paths that begin with {scheme}:// need a library that is not installed ({error.name or error}); "
            f"install it with: pip install -c constraints.txt -e '.[{extra or 's3'}]'"
        ) from error
    except ValueError as error:
        raise RemoteError(f"{path}: {error}; accepted: a folder, s3://…, gs://…, or what fsspec knows") from error
    return system, inside.rstrip("/")


def read_url(path: str) -> bytes:
    """Return the content of a file whose path has a scheme.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    system, inside = open_file_system(path)
    try:
        content: bytes = system.cat_file(inside)
    except OSError:
        raise
    except Exception as error:  # each library has its own
        raise RemoteError(describe_error(error)) from error
    return content


def is_remote_folder(path: str) -> bool:
    """Whether a path with a scheme is a folder, as far as can be told."""
    with contextlib.suppress(Exception):  # each library has its own
        system, inside = open_file_system(path)
        return bool(system.isdir(inside))
    return False


def describe_error(error: BaseException) -> str:
    """Return what went wrong, in the words of whoever noticed it."""
    words = getattr(error, "strerror", None) or str(error)
    return " ".join(str(words).split()) or type(error).__name__


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], most: int = 8
) -> Iterator[tuple[Item, Future[Result]]]:
    """Do work on items in threads, some ahead of who asks: what waits for a server waits for several answers at once.

    Yields
    ------
    item, future
        In the order of `items`; the future is done, or soon will be.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(most)
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= most:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
