"""The lease that keeps other runs out of a folder in a bucket.

A bucket has no file locks. Instead, a run creates a numbered object, such as ``.lock/000000007``, by a conditional PUT
(if-none-match), which succeeds for one run only. The holder renews the lease by overwriting its object. A run that
waits watches that object: if it does not change for `LeaseTimes.expire` seconds, the holder is gone, and the run takes
the lease over by creating the next number. The highest number counts, so a holder checks before it writes that the
highest number is still its own. A released lease stays in the bucket with empty content, so that numbers only grow.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Protocol

from detectime.storage.store import LockedError, Store, StoreError

_log = logging.getLogger(__name__)

_FOLDER = ".lock"
_DIGITS = 9  # fixed, so that names sort as numbers
_NAME = re.compile(rf"{_FOLDER}/\d{{{_DIGITS}}}")
_RELEASED = b"{}"


@dataclass(frozen=True)
class LeaseTimes:
    """Timing of a lease, in seconds; all runs that share a location must use the same.

    Parameters
    ----------
    renew
        Interval at which the holder renews the lease.
    expire
        Time without a renewal after which another run takes the lease over; several times `renew`.
    wait
        Time for which a run waits for a live holder to finish before it is refused.

    Examples
    --------
    >>> LeaseTimes(expire=60.0)
    LeaseTimes(renew=4.0, expire=60.0, wait=10.0)
    """

    renew: float = 4.0
    expire: float = 20.0
    wait: float = 10.0


class ConditionalStore(Store, Protocol):
    """A store that can create a file without overwriting one."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a whole file unless it exists; return whether it was written."""
        ...


class Lease:
    """The lease on a store, for one run.

    Parameters
    ----------
    store
        Where the lease is kept; it must not check this lease itself.
    times
        Timing.
    """

    def __init__(self, store: ConditionalStore, times: LeaseTimes) -> None:
        self._store = store
        self._times = times
        self._name = ""
        self._is_released = threading.Event()
        self._keeper = threading.Thread(target=self._keep_renewing, daemon=True)

    def acquire(self) -> None:
        """Wait until the lease is free or has expired, then take it and keep renewing it.

        Raises
        ------
        LockedError
            If another run holds the lease.
        StoreError
            If the store cannot be written to.
        """
        self._name = f"{_FOLDER}/{self._wait_until_free() + 1:0{_DIGITS}d}"
        if not self._store.create(self._name, _describe_self()):
            raise self._refuse(self._store.get(self._name) or b"")
        if self._store.create(self._name, _describe_self()):  # it exists, so the server should have refused
            _log.warning(
                "%s: a second run cannot be kept out of this location, because the server ignores conditional writes; "
                "do not start one",
                self._store,
            )
        self._store.delete([name for name in self._list_names() if name < self._name])
        self._keeper.start()

    def check(self) -> None:
        """Raise `StoreError` if another run has taken the lease over: this machine slept, or was cut off."""
        if self._list_names()[-1:] != [self._name]:
            raise StoreError(
                f"{self._store}: another run has taken this location over, because this run did not renew its lease "
                "in time; files saved before are intact"
            )

    def release(self) -> None:
        """Let the next run start at once."""
        self._is_released.set()
        self._keeper.join(self._times.expire)
        with contextlib.suppress(StoreError):  # then the next run waits until the lease expires
            self._write(_RELEASED)

    def _wait_until_free(self) -> int:
        """Return the number of the last lease once it is released or has expired; 0 if there is none."""
        began = renewed = time.monotonic()
        seen: tuple[int, bytes] | None = None
        while (latest := self._read_latest())[1] != _RELEASED:
            now = time.monotonic()
            if latest != seen:
                if now - began > self._times.wait:
                    raise self._refuse(latest[1])
                if seen is None:
                    _log.info("%s: checking whether %s is still running", self._store, _describe_holder(latest[1]))
                seen, renewed = latest, now
            elif now - renewed > self._times.expire:
                break
            time.sleep(self._times.renew / 8)
        return latest[0]

    def _keep_renewing(self) -> None:
        while not self._is_released.wait(self._times.renew):
            with contextlib.suppress(StoreError):  # the run's next write reports it
                self._write(_describe_self())

    def _write(self, content: bytes) -> None:
        self.check()
        self._store.put(self._name, content)

    def _list_names(self) -> list[str]:
        return [name for name in self._store.names(_FOLDER) if _NAME.fullmatch(name)]

    def _read_latest(self) -> tuple[int, bytes]:
        """Return the number and the content of the lease that counts."""
        names = self._list_names()
        if not names:
            return 0, _RELEASED
        return int(names[-1][-_DIGITS:]), self._store.get(names[-1]) or b""

    def _refuse(self, holder: bytes) -> LockedError:
        return LockedError(
            f"{self._store}: another run is writing to this location ({_describe_holder(holder)}): wait for it, "
            "stop it, or give another `output`"
        )


def _describe_self() -> bytes:
    """Return the content of a lease that this process holds; each call returns another."""
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "beat": uuid.uuid4().hex}).encode()


def _describe_holder(content: bytes) -> str:
    try:
        values = json.loads(content)
        return f"process {int(values['process'])} on {str(values['host'])[:80]!r}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"
