"""URLs such as ``s3://bucket/folder``, read through fsspec and the library for the scheme.

Credentials and endpoints come from that library's own environment variables and configuration files.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from detectime import paths
from detectime.errors import DocumentedError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ATTEMPTS = 3
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}

Item = TypeVar("Item")
Result = TypeVar("Result")


class RemoteError(DocumentedError, OSError):
    """A URL cannot be opened or read: unknown scheme, library not installed, or an error that the library raised."""


def is_remote(path: str) -> bool:
    """Whether a path has a scheme other than ``file://``.

    Examples
    --------
    >>> is_remote("s3://bucket/run"), is_remote("data/run"), is_remote("file:///data/run")
    (True, False, False)
    """
    return bool(_SCHEME.match(path)) and not path.startswith("file://")


def strip_file_scheme(path: str) -> str:
    """Return a local path without its ``file://`` prefix, if it has one.

    Examples
    --------
    >>> strip_file_scheme("file:///data/run"), strip_file_scheme("data/run")
    ('/data/run', 'data/run')
    """
    return path.removeprefix("file://")


def open_file_system(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises
    ------
    RemoteError
        If the scheme is unknown, or if its library is not installed.
    """
    scheme = path.partition("://")[0]
    extra = _EXTRAS.get(scheme, "")
    try:
        import fsspec

        options = {"config_kwargs": {"retries": {"max_attempts": 0}}} if extra == "s3" else {}
        system, inside = fsspec.core.url_to_fs(path, use_listings_cache=False, **options)
        system.retries = _ATTEMPTS  # of 15 s without a byte, so that a server that hangs fails within a minute
    except ImportError as error:
        raise RemoteError(
            f"{path}: URLs with {scheme}:// need a library that is not installed ({error.name or error}); "
            f"install it with: {paths.format_install(extra or 's3')}"
        ) from error
    except ValueError as error:
        raise RemoteError(
            f"{path}: {error}; accepted: a folder, s3://…, gs://…, or another scheme that fsspec supports"
        ) from error
    return system, inside.rstrip("/")


def read_url(path: str) -> bytes:
    """Return the content of the file at a URL.

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
    except Exception as error:  # each library raises its own
        raise RemoteError(describe_error(error)) from error
    return content


def is_remote_folder(path: str) -> bool:
    """Whether a URL is a folder; False if that cannot be checked."""
    with contextlib.suppress(Exception):  # each library raises its own
        system, inside = open_file_system(path)
        return bool(system.isdir(inside))
    return False


def describe_error(error: BaseException) -> str:
    """Return the message of an error on one line, or the name of its class if it has none.

    Examples
    --------
    >>> describe_error(FileNotFoundError(2, "No such file or directory", "a.jpg")), describe_error(TimeoutError())
    ('No such file or directory', 'TimeoutError')
    """
    words = getattr(error, "strerror", None) or str(error)
    return " ".join(str(words).split()) or type(error).__name__


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 8
) -> Iterator[tuple[Item, Future[Result]]]:
    """Call a function on items in threads, at most `workers` items ahead of the consumer.

    Yields
    ------
    item, future
        In the order of `items`; the future may still be running.

    Examples
    --------
    >>> [(name, length.result()) for name, length in map_ahead(len, ["a", "bc"])]
    [('a', 1), ('bc', 2)]
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) >= workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
