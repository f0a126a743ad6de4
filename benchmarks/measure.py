"""What the tables share: CPU time, contenders in turn, numbers with their spread."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call, of all threads of this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Ask each contender for its seconds, round after round: what a noisy machine does to one it does to all."""
    for measure in contenders.values():  # models load, caches fill
        measure()
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            measured[name].append(measure())
    return measured


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, on one core."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Median of values, and the least and the most of them."""
    several = sorted(values)
    middle = statistics.median(several)
    return f"{middle:.{digits}f} ({several[0]:.{digits}f}…{several[-1]:.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Ratio of two contenders, round by round."""
    return spread((a / b for a, b in zip(ours, theirs, strict=True)), 2)


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row) + " |", flush=True)
