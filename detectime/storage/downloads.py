"""Locate weights files: packaged, supplied by the user, or downloaded with `pooch` and checked.

Weights that the package does not include are searched for in the folder that the environment variable
``DETECTIME_WEIGHTS`` names, then in ``model/``. If neither has the file, it is downloaded: from the base address in
``DETECTIME_MIRROR`` if that is set, otherwise from its published address.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from detectime import paths
from detectime.errors import DocumentedError
from detectime.progress import Progress

PACKAGED = Path(__file__).parent.parent / "detectors" / "models"
"""Folder of the weights that the package includes."""

_log = logging.getLogger(__name__)

_FOLDER = "DETECTIME_WEIGHTS"
_MIRROR = "DETECTIME_MIRROR"
_BLOCK = 1 << 20  # bytes
_TRANSIENT = (408, 425, 429)  # statuses below 500 that are worth another attempt
# With a compressed transfer, Content-Length would not be the size of the file.
_HEADERS = {"User-Agent": "detectime", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Retries:
    """How often a download is attempted.

    Parameters
    ----------
    attempts
        The number of attempts.
    pause
        Seconds after the first failed attempt; they double after each further one.
    timeout
        Seconds without a byte after which an attempt fails.
    """

    attempts: int = 5
    pause: float = 1.0
    timeout: float = 30.0


RETRIES = Retries()
"""Of every download for which nothing else is given."""


class WeightsError(DocumentedError, RuntimeError):
    """Weights are missing, wrong or unreadable; the message names the file and the folder where it belongs."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that the package does not include.

    Parameters
    ----------
    name
        File name.
    origin
        Where the file comes from, in words.
    address
        URL of the file; None if only the user or a mirror can provide it.
    sha256
        Published hash, in hexadecimal; None if there is none, so that the loader has to check the content.

    Examples
    --------
    >>> WeightsFile("faces.onnx", "release 1.0 of example/faces").address is None
    True
    """

    name: str
    origin: str
    address: str | None = None
    sha256: str | None = None


def find_packaged_weights(name: str) -> Path:
    """Return the path of weights that the package includes.

    Raises
    ------
    WeightsError
        If the installation lacks the file.

    Examples
    --------
    >>> find_packaged_weights("palm_detection.onnx").name
    'palm_detection.onnx'
    """
    path = PACKAGED / name
    if not path.is_file():
        raise WeightsError(f"{path}: packaged weights are missing; reinstall detectime")
    return path


def list_weights_folders() -> list[Path]:
    """Return the folders that are searched for the user's weights, in order; error messages recommend the first.

    Examples
    --------
    >>> list_weights_folders()[-1] == paths.find_model_folder()
    True
    """
    named = os.environ.get(_FOLDER)
    return [*([Path(named).expanduser().absolute()] if named else []), paths.find_model_folder()]


def find_weights(file: WeightsFile) -> Path:
    """Return the path of weights that the user supplied.

    Raises
    ------
    WeightsError
        If none of the `list_weights_folders` has the file, or it has another hash.

    Examples
    --------
    >>> find_weights(WeightsFile("no such file.onnx", "example/faces"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    detectime.storage.downloads.WeightsError: no such file.onnx: weights are missing. They come from example/faces; ...
    """
    path = _find_user_file(file)
    if path is None:
        raise _make_missing_error(file)
    return path


def fetch_weights(file: WeightsFile, cache: Path, retries: Retries | None = None) -> Path:
    """Copy weights from the user's folder to the folder where a library expects them, or download them there.

    Parameters
    ----------
    file
        The weights.
    cache
        The library's folder. A valid file in it is kept.
    retries
        How often a download is attempted; None: as `RETRIES`.

    Returns
    -------
    Path
        ``cache / file.name``.

    Raises
    ------
    WeightsError
        If the file is missing and cannot be downloaded, has another hash, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "faces.onnx")
    >>> path.write_bytes(b"weights")
    7
    >>> fetch_weights(WeightsFile(path.name, "example/faces", sha256=hash_file(path)), path.parent) == path
    True
    >>> folder.cleanup()
    """
    target = cache / file.name
    supplied = _find_user_file(file)
    if _is_valid(target, file.sha256 if supplied is None else hash_file(supplied)):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache / f".{file.name}.lock"):
            if supplied is not None:
                with supplied.open("rb") as content, _open_atomically(target) as copy:
                    shutil.copyfileobj(content, copy, _BLOCK)
            elif not _is_valid(target, file.sha256):  # another process may have downloaded it meanwhile
                _download(file, target, retries or RETRIES)
    except OSError as error:
        raise WeightsError(f"{target}: cannot write the weights: {error.strerror or error}") from error
    return target


def find_or_fetch_weights(file: WeightsFile) -> Path:
    """Return the path of the user's weights, or of a download in the first writable of the `list_weights_folders`.

    Raises
    ------
    WeightsError
        As `fetch_weights`.
    """
    # Only existing folders: a misspelled DETECTIME_WEIGHTS must not create one.
    writable = [folder for folder in list_weights_folders() if os.access(folder, os.W_OK)]
    return _find_user_file(file) or fetch_weights(file, writable[0] if writable else paths.find_model_folder())


def find_torch_cache() -> Path:
    """Return the folder in which torch keeps downloaded weights, without importing torch.

    Examples
    --------
    >>> find_torch_cache().name
    'checkpoints'
    """
    if "torch" in sys.modules:
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints"
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"


def hash_file(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal; it is cached until the file's size or modification time changes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     hash_file(Path(file.name))[:16]
    'e3b0c44298fc1c14'
    """
    status = path.stat()
    return _hash_version(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _hash_version(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_user_file(file: WeightsFile) -> Path | None:
    """Return the checked file from the first user folder that has it, or None."""
    for folder in list_weights_folders():
        path = folder / file.name
        if path.is_file():
            _check_user_file(file, path)
            return path
    return None


def _check_user_file(file: WeightsFile, path: Path) -> None:
    try:
        found = hash_file(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights: {error.strerror}") from error
    if file.sha256 not in (None, found):
        remedy = "delete it to download the right file" if file.address else "replace it with the right file"
        raise WeightsError(
            f"{path}: wrong or damaged weights: the sha256 is {found}, but that of the file from {file.origin} is "
            f"{file.sha256}; {remedy}"
        )


def _make_missing_error(file: WeightsFile) -> WeightsError:
    return WeightsError(f"{file.name}: weights are missing. They come from {file.origin}; {_recommend_folder(file)}")


def _recommend_folder(file: WeightsFile) -> str:
    alternative = "" if os.environ.get(_FOLDER) else f", or into a folder named by the environment variable {_FOLDER}"
    return f"put {file.name} into {list_weights_folders()[0]}{alternative}"


def _is_valid(path: Path, sha256: str | None) -> bool:
    return path.is_file() and (sha256 is None or hash_file(path) == sha256)


@contextlib.contextmanager
def _open_atomically(target: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only when it is complete and on the disk."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _download(file: WeightsFile, target: Path, retries: Retries) -> None:
    """Download a file, with several attempts if the network or the server fails."""
    import requests

    address = _choose_address(file)
    _log.info("%s: downloading from %s", file.name, address)
    for failures in range(1, retries.attempts + 1):
        try:
            _download_once(file, address, target, retries.timeout)
            break
        except (requests.RequestException, ValueError) as error:  # ValueError: another hash
            reason = _explain_failure(error)
            if failures == retries.attempts or not _is_transient(error):
                raise WeightsError(
                    f"{file.name}: weights are missing and cannot be downloaded from {address}: {reason}; "
                    f"{_recommend_folder(file)}"
                ) from None  # the message has the reason
        pause = retries.pause * 2 ** (failures - 1)
        _log.warning("%s: %s; trying %s again in %g s", file.name, reason, address, pause)
        time.sleep(pause)


def _choose_address(file: WeightsFile) -> str:
    mirror = os.environ.get(_MIRROR)
    address = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.address
    if address is None:
        raise _make_missing_error(file)
    return address


def _download_once(file: WeightsFile, address: str, target: Path, timeout: float) -> None:
    import pooch

    def download(url: str, temporary: str, _: object) -> None:
        # pooch's temporary file is readable by its owner only; a new one has the permissions that the umask gives.
        os.unlink(temporary)
        with _PoochProgress(file.name) as progress, open(temporary, "xb") as content:
            options = {"progressbar": progress, "chunk_size": _BLOCK, "timeout": timeout, "headers": _HEADERS}
            pooch.HTTPDownloader(**options)(url, content, None)
            content.flush()
            os.fsync(content.fileno())  # pooch does not

    with _silence(pooch.get_logger()):
        pooch.retrieve(address, file.sha256, target.name, target.parent, downloader=download)


class _PoochProgress(contextlib.ExitStack):
    """`Progress` with the methods that pooch calls: it sets `total`, then calls `update`, `reset` and `close`."""

    total = 0  # bytes; 0 if the server does not send a size

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._shown: Progress | None = None

    def update(self, count: int) -> None:
        if self._shown is None:
            self._shown = self.enter_context(Progress(self.total or None, "B", name=self._name))
        # pooch counts full chunks and, at the end, all bytes once more.
        self._shown.add(min(count, self.total - self._shown.done) if self.total else count)

    def reset(self) -> None: ...


@contextlib.contextmanager
def _silence(logger: logging.Logger) -> Iterator[None]:
    """Suppress the informational messages of a logger: pooch writes them to standard error."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_transient(error: Exception) -> bool:
    """Return whether another attempt may succeed: not with an invalid address, another hash or an HTTP 4xx status."""
    response: Any = getattr(error, "response", None)
    if response is not None:
        return response.status_code >= 500 or response.status_code in _TRANSIENT
    return not isinstance(error, ValueError)


def _explain_failure(error: Exception) -> str:
    """Return the reason for a failure without the exceptions that requests, urllib3 and pooch wrap around it."""
    response: Any = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    reason: object = error.args[0] if error.args else error
    while isinstance(reason, BaseException) and reason.__cause__ is not None:
        reason = reason.__cause__
    return str(reason).split(". ")[0] or type(error).__name__  # pooch appends advice in further sentences
