"""A progress bar where somebody watches, and a line now and then where nobody does; both on standard output.

Standard error stays for errors: a notebook shows what is written there in red.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

_UNWATCHED_EVERY = 30.0  # seconds


class Progress:
    """Shows how far work is: a context manager.

    Parameters
    ----------
    total
        Units to do; None if not known.
    unit
        ``frame``, or ``B`` for bytes, which are shown in thousands and millions.
    name
        What the work is on.
    done
        Units that were done before.

    Examples
    --------
    >>> with Progress(2, name="frames") as progress:
    ...     progress.add(2)  # doctest: +ELLIPSIS
    frames: 100% 2/2 [00:00<00:00, ...frame/s]
    """

    def __init__(self, total: int | None, unit: str = "frame", *, name: str = "", done: int = 0) -> None:
        self.total = total
        self.done = done
        self._started = self._reported = time.monotonic()
        self._meter: dict[str, Any] = {"unit": unit, "unit_scale": unit == "B", "initial": done}
        self._name = name
        # A bar redrawn in place would leave each of its states in a saved notebook or a log.
        self._watched = is_watched()
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
        """Count what is done."""
        self.done += count
        self._bar.update(count)
        if not self._watched and time.monotonic() - self._reported >= _UNWATCHED_EVERY:
            self._report()

    def _report(self) -> None:
        self._reported = time.monotonic()
        spent = self._reported - self._started
        total: Any = self.total  # tqdm takes None, and its types do not know
        meter = tqdm.format_meter(self.done, total, spent, prefix=self._name, ncols=0, **self._meter)
        tqdm.write(meter, file=sys.stdout)
        sys.stdout.flush()  # into a pipe or a file it would wait for more


def is_watched() -> bool:
    """Whether a person sees standard output as it comes: a terminal, or a notebook that is open in a browser."""
    return sys.stdout.isatty() or "JPY_SESSION_NAME" in os.environ or "COLAB_RELEASE_TAG" in os.environ
