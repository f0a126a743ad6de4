"""A progress bar if somebody watches, and a line every half minute if nobody does; both on standard output.

Standard error is for errors: a notebook shows it in red. A notebook that runs without a viewer can also write its
progress to a file, from which the process that started it draws the bar.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tqdm import tqdm

FILE_VARIABLE = "DETECTIME_PROGRESS"
"""Environment variable that names the file to which progress is written; without it none is written."""

_FILE_INTERVAL = 0.5  # seconds between two states in the file


@dataclass(frozen=True)
class ProgressState:
    """The state of work in another process.

    Parameters
    ----------
    work
        Which work of that process: 1, 2, …
    name, unit, total, done
        As the parameters and the attribute of `Progress`.
    earlier
        Units that were finished before this work began.
    is_over
        Whether the work has ended, finished or not.

    Examples
    --------
    >>> ProgressState(1, "frames", "frame", 100, 40, 30).done
    40
    """

    work: int
    name: str
    unit: str
    total: int | None
    done: int
    earlier: int = 0
    is_over: bool = False


def read_state(path: str | os.PathLike[str]) -> ProgressState | None:
    """Read the file that a process writes its progress to; None if there is none yet.

    Examples
    --------
    >>> print(read_state("no such file.json"))
    None
    """
    with contextlib.suppress(OSError, ValueError, TypeError), open(path, encoding="utf-8") as file:
        return ProgressState(**json.load(file))
    return None


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
    file
        Where each state is written too, as a `ProgressState`; None: the file that `FILE_VARIABLE` names, if any;
        an empty text: nowhere. A device such as ``/dev/null`` is left alone: the file is replaced at each state.

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
        file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.total = total
        self.done = done
        self._earlier = done
        self._file = os.environ.get(FILE_VARIABLE) if file is None else file
        if self._file and os.path.exists(self._file) and not os.path.isfile(self._file):
            self._file = None
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
            smoothing=0,  # results arrive in bursts, shard by shard: the average since the start is steadier
            **self._meter,
        )

        previous = read_state(self._file) if self._file else None
        self._work = 1 if previous is None else previous.work + 1
        self._save()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._save(is_over=True)
        if not self._watched and self.total:
            self._report()

    def add(self, count: int) -> None:
        """Add finished units."""
        self.done += count
        self._bar.update(count)
        if self._file and self._clock() - self._saved >= _FILE_INTERVAL:
            self._save()
        if not self._watched and self._clock() - self._reported >= self._every:
            self._report()

    def redraw(self) -> None:
        """Draw the bar again, so that the time goes on while no unit is finished."""
        self._bar.refresh()

    def _save(self, *, is_over: bool = False) -> None:
        """Write the state to the file, whole; work goes on without it if it cannot be written."""
        self._saved = self._clock()
        if not self._file:
            return
        state = ProgressState(
            self._work, self._name, str(self._meter["unit"]), self.total, self.done, self._earlier, is_over
        )
        with contextlib.suppress(OSError):
            aside = f"{os.fspath(self._file)}.{os.getpid()}"
            with open(aside, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(state), file)
            os.replace(aside, self._file)

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
