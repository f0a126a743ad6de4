"""A progress bar where somebody watches, and a line now and then where nobody does."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

_UNWATCHED_EVERY = 30.0  # seconds


class Progress:
    """Tells how far work on frames is: a context manager.

    Parameters
    ----------
    total
        Frames to do.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started = self._told = time.monotonic()
        # A bar redrawn in place would leave each of its states in a saved notebook or a log.
        self._watched = watched()
        self._bar = tqdm(total=total, unit="frame", disable=not self._watched, mininterval=0.5, smoothing=0.1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if not self._watched and self.total:
            self._tell()

    def add(self, frames: int) -> None:
        """Count frames that are done."""
        self.done += frames
        self._bar.update(frames)
        if not self._watched and time.monotonic() - self._told >= _UNWATCHED_EVERY:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        meter = tqdm.format_meter(self.done, self.total, self._told - self._started, unit="frame", ncols=0)
        print(meter, flush=True)


def watched() -> bool:
    """Whether a person sees the output as it comes: a terminal, or a notebook that is open in a browser."""
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ or "COLAB_RELEASE_TAG" in os.environ
