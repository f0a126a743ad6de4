"""A progress bar if somebody watches, and a line every half minute if nobody does; both on standard output.

Standard error is for errors: a notebook shows it in red.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tqdm import tqdm


class Progress:
    """Shows the progress of work; a context manager.

    Parameters
    ----------
    total
        Units to do; None if not known.
    unit
        ``frame``, or ``B`` for bytes, which are shown in thousands and millions.
    name
        Shown before the count.
    done
        Units that were finished earlier.
    watched
        Whether to draw a bar; None: as `is_watched` says.
    every
        Seconds between two lines if nobody watches.
    clock
        Returns the time in seconds.

    Examples
    --------
    >>> with Progress(2, name="frames") as progress:
    ...     progress.add(2)  # doctest: +ELLIPSIS
    frames: 100% 2/2 [00:00<00:00, ...frame/s]
    """

    def __init__(
        self,
        total: int | None,
        unit: str = "frame",
        *,
        name: str = "",
        done: int = 0,
        watched: bool | None = None,
        every: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.done = done
        self._clock, self._every = clock, every
        self._started = self._reported = clock()
        self._meter: dict[str, Any] = {"unit": unit, "unit_scale": unit == "B", "initial": done}
        self._name = name
        # A bar redrawn in place would leave each of its states in a saved notebook or a log.
        self._watched = is_watched() if watched is None else watched
        self._bar = tqdm(
            desc=name or None,
            total=total,
            file=sys.stdout,
            disable=not self._watched,
            mininterval=0.5,
            smoothing=0.1,
            **self._meter,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if not self._watched and self.total:
            self._report()

    def add(self, count: int) -> None:
        """Add finished units."""
        self.done += count
        self._bar.update(count)
        if not self._watched and self._clock() - self._reported >= self._every:
            self._report()

    def _report(self) -> None:
        self._reported = self._clock()
        spent = self._reported - self._started
        total: Any = self.total  # tqdm takes None, and its types do not know
        meter = tqdm.format_meter(self.done, total, spent, prefix=self._name, ncols=0, **self._meter)
        tqdm.write(meter, file=sys.stdout)
        sys.stdout.flush()  # a pipe or a file is buffered


def is_watched() -> bool:
    """Whether a person watches standard output: a terminal, or a notebook that is open in a browser.

    Examples
    --------
    >>> is_watched()
    False
    """
    return sys.stdout.isatty() or "JPY_SESSION_NAME" in os.environ or "COLAB_RELEASE_TAG" in os.environ
