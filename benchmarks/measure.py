"""Shared by all tables: measure CPU time, run contenders in turn, format numbers with their spread."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


def time_cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call, summed over all threads of this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def time_in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each contender once per round, so that noise of the machine affects all of them alike."""
    for measure in contenders.values():  # loads models and fills caches
        measure()
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            measured[name].append(measure())
    return measured


@contextlib.contextmanager
def use_one_core() -> Iterator[None]:
    """Pin this process, and those that it starts in the block, to one core."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def format_spread(values: Iterable[float], digits: int = 1) -> str:
    """Format the median of values, with minimum and maximum."""
    ordered = sorted(values)
    median = statistics.median(ordered)
    return f"{median:.{digits}f} ({ordered[0]:.{digits}f}…{ordered[-1]:.{digits}f})"


def format_ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Format the ratio of two contenders, computed per round."""
    return format_spread((a / b for a, b in zip(ours, theirs, strict=True)), 2)


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row) + " |", flush=True)
