"""Where weights come from: the package itself, a folder of the user's, or a download that is checked.

A file that the package does not bring is looked for in the folder that the environment variable ``DETECTIME_WEIGHTS``
names, then in ``model/``. What can be downloaded is, if it is in neither; the variable ``DETECTIME_MIRROR`` may name
another address, below which the files lie by their names.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import http.client
import logging
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import filelock

from detectime import paths
from detectime.progress import Progress

PACKAGED = Path(__file__).parent.parent / "detectors" / "models"

_log = logging.getLogger(__name__)

_FOLDER = "DETECTIME_WEIGHTS"
_MIRROR = "DETECTIME_MIRROR"
_BLOCK = 1 << 20  # bytes
_PATIENCE = 30.0  # seconds without a byte
_ATTEMPTS = 5  # in a row that bring nothing
_PAUSE = 1.0  # seconds after the first of them; twice as long after each further one
_OURS = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)  # faults of this disk


class WeightsError(RuntimeError):
    """Weights that are not there; the message names the file and where it belongs."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that the package does not bring.

    `origin` says in words where it comes from; `address` is None where it is not downloaded unless a mirror is named,
    `hash_file` where nobody published one: then whoever loads the file checks what it holds.
    """

    name: str
    origin: str
    address: str | None = None
    sha256: str | None = None


def find_packaged_weights(name: str) -> Path:
    """Path of weights that the package brings.

    Raises
    ------
    WeightsError
        If the installation lacks the file.
    """
    path = PACKAGED / name
    if not path.is_file():
        raise WeightsError(f"{path}: these weights come with the package, but are not there; install it anew")
    return path


def list_weights_folders() -> list[Path]:
    """Folders in which the user's weights are looked for, in this order; the first is where a message sends them."""
    named = os.environ.get(_FOLDER)
    return [*([Path(named).expanduser().absolute()] if named else []), paths.MODEL]


def find_weights(file: WeightsFile) -> Path:
    """Path of weights that the user brings.

    Raises
    ------
    WeightsError
        If the file is in none of the `list_weights_folders`, or is another one of the same name.
    """
    path = _brought(file)
    if path is None:
        raise WeightsError(f"{file.name}: these weights are not there. They come from {file.origin}; {_belongs(file)}")
    return path


def fetch_weights(file: WeightsFile, cache: Path) -> Path:
    """Put weights where a library looks for them: from the user's folder, or else by a download.

    Parameters
    ----------
    file
        What is wanted.
    cache
        The library's folder. What lies there already, and is right, stays.

    Returns
    -------
    Path
        ``cache / file.name``.

    Raises
    ------
    WeightsError
        If there is no such file and it cannot be downloaded, or if what came is another one.
    """
    target = cache / file.name
    brought = _brought(file)
    if _is_there(target, file.sha256 if brought is None else hash_file(brought)):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache / f".{file.name}.lock"):
            if brought is not None:
                with brought.open("rb") as content, _whole(target) as copy:
                    shutil.copyfileobj(content, copy, _BLOCK)
            elif not _is_there(target, file.sha256):  # another process may have brought it meanwhile
                _download(file, target)
    except OSError as error:
        raise WeightsError(f"{target}: these weights cannot be written: {error.strerror or error}") from error
    return target


def find_or_fetch_weights(file: WeightsFile) -> Path:
    """Path of weights that are the user's or, once they were downloaded, lie in one of the `list_weights_folders`.

    Raises
    ------
    WeightsError
        As `fetch_weights`.
    """
    writable = [
        folder for folder in list_weights_folders() if os.access(folder, os.W_OK)
    ]  # a name with a typo is no folder to make
    return _brought(file) or fetch_weights(file, writable[0] if writable else paths.MODEL)


def find_torch_cache() -> Path:
    """Folder in which torch keeps what it downloaded; torch need not be loaded, or even there."""
    if "torch" in sys.modules:
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints"
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"


def hash_file(path: Path) -> str:
    """Hash of a file's content, in hexadecimal: what tells one set of weights from another."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    """Hash of a file, remembered until the file changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _brought(file: WeightsFile) -> Path | None:
    """Find the file in the user's folders, and check it; None if it is not there."""
    for folder in list_weights_folders():
        path = folder / file.name
        if path.is_file():
            try:
                found = hash_file(path)
            except OSError as error:
                raise WeightsError(f"{path}: these weights cannot be read: {error.strerror}") from error
            if file.sha256 not in (None, found):
                raise WeightsError(
                    f"{path}: these are other weights, or broken ones: their sha256 is {found}, that of the right ones "
                    f"(from {file.origin}) is {file.sha256}; delete it"
                    + (", and the right ones are downloaded" if file.address else ", and put the right ones there")
                )
            return path
    return None


def _belongs(file: WeightsFile) -> str:
    elsewhere = "" if os.environ.get(_FOLDER) else f", or into a folder that the variable {_FOLDER} names"
    return f"put {file.name} into {list_weights_folders()[0]}{elsewhere}"


def _is_there(path: Path, wanted: str | None) -> bool:
    return path.is_file() and (wanted is None or hash_file(path) == wanted)


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears whole, or not at all."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _download(file: WeightsFile, target: Path) -> None:
    """Download a file, going on where an earlier attempt, in this process or another, was cut off."""
    mirror = os.environ.get(_MIRROR)
    address = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.address
    if address is None:
        raise WeightsError(f"{file.name}: these weights are not there. They come from {file.origin}; {_belongs(file)}")
    partial = target.with_name(f"{target.name}.part")
    told = f"{file.name}: these weights are not there, and cannot be fetched from {address}"
    failures = 0
    while True:
        resumed = partial.stat().st_size if partial.exists() else 0
        try:
            _transfer(address, partial, file.name)
        except _Refused as error:
            raise WeightsError(f"{told}: {error}; {_belongs(file)}") from None  # the reason stands in the message
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                raise
            failures = 1 if partial.exists() and partial.stat().st_size > resumed else failures + 1
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            if failures >= _ATTEMPTS or isinstance(error, ValueError):
                raise WeightsError(f"{told}: {reason}; {_belongs(file)}") from None
            pause = _PAUSE * 2 ** (failures - 1)
            _log.warning("%s: %s; trying %s again in %g s", file.name, reason, address, pause)
            time.sleep(pause)
            continue
        found = hash_file(partial)
        if file.sha256 in (None, found):
            break
        partial.unlink()
        if not resumed:
            raise WeightsError(
                f"{told}: what came from there is something else (its sha256 is {found}, that of the weights is "
                f"{file.sha256}); {_belongs(file)}"
            )
        # What was resumed may have been of another file: once more from the start.
    with partial.open("rb") as content:
        os.fsync(content.fileno())
    partial.replace(target)


class _Refused(Exception):
    """An answer that will be the same the next time."""


def _transfer(address: str, partial: Path, name: str) -> None:
    """Ask once for what a partial file still lacks.

    Raises
    ------
    _Refused
        If the server has no such file.
    OSError, HTTPException
        If what came is not all: another attempt goes on from there.
    ValueError
        If `address` is none.
    """
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "detectime", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        # An opener of its own knows the proxies that the environment names now.
        response = urllib.request.build_opener().open(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if error.headers.get("Content-Range", "").strip() == f"bytes */{have}":
                    return  # nothing is lacking
                partial.unlink()  # it is longer than the file: from the start
                raise ConnectionError("the server could not go on where an earlier attempt was cut off") from error
            if error.code < 500 and error.code not in (408, 425, 429):
                raise _Refused(f"HTTP {error.code} {error.reason}") from error
            raise
    with response:
        start = _start(response)
        if start not in (0, have):
            partial.unlink(missing_ok=True)
            raise ConnectionError(f"the server went on at byte {start}, not at {have}")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        size = "" if total is None else f", {total / 1e6:.1f} MB"
        _log.info("%s: downloading from %s%s", name, address, size)
        with (
            partial.open("r+b" if start else "wb") as file,
            Progress(total, "B", name=name, done=start) as progress,
        ):
            file.seek(start)
            while block := response.read(_BLOCK):
                file.write(block)
                progress.add(len(block))
            got = file.tell()
    if total is not None and got < total:
        raise ConnectionError(f"the connection ended after {got} of {total} bytes")


def _start(response: http.client.HTTPResponse) -> int:
    """Position in the file of an answer's first byte."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(given[1]) if given else -1
