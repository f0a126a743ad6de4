"""A session: what is tried next, what became of it, and the inputs that failed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from tqdm import tqdm

from tools.fuzz import mutate
from tools.fuzz.kinds import Kind
from tools.fuzz.watch import Trial, Workers
from tools.fuzz.worker import Answer

LEAST = 50
"""Inputs of each kind that a session of a minute or longer must have tried; of a shorter one as many fewer."""

_BATCH = 16  # inputs whose content is changed at once
_MOST_SAVED = 3  # inputs of each cause of failure
_REPAIRED = 0.5  # share of inputs whose checksums are made right


@dataclass
class Tally:
    """What became of the inputs of a kind."""

    kind: Kind
    seeds: Sequence[bytes]
    inputs: Iterator[bytes]
    verdicts: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    given: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0
    saved: list[Path] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """How many inputs were tried."""
        return self.verdicts.total()

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        self.verdicts[answer.verdict] += 1
        self.seconds += answer.seconds
        self.slowest = max(self.slowest, answer.seconds)
        self.memory = max(self.memory, answer.memory)
        if answer.verdict == "failed":
            self.causes[answer.cause] += 1


def generate_inputs(kind: Kind, seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Yield inputs without end: first the real ones, then changed ones, which follow from the seed alone.

    Examples
    --------
    >>> from tools.fuzz.kinds import KINDS
    >>> found = [generate_inputs(KINDS["csv_frames"], [b"a,b\\n1,2\\n"], seed=7) for _ in range(2)]
    >>> [next(found[0]) for _ in range(40)] == [next(found[1]) for _ in range(40)]
    True
    """
    yield from seeds
    source = random.Random(f"{kind.name} {seed}")
    strategy = None if kind.change is None else kind.change(seeds)
    while True:
        changed = [] if strategy is None else _draw(strategy, source.getrandbits(32))
        yield from changed
        for _ in range(max(len(changed), 1)):
            content = source.choice([*seeds, *changed[:2]])
            content = mutate.mutate_bytes(content, seeds, kind.tokens, source)
            if kind.repair is not None and source.random() < _REPAIRED:
                content = kind.repair(content)
            yield content


def _draw(strategy: st.SearchStrategy[bytes], seed: int) -> list[bytes]:
    """Draw a batch of examples: hypothesis looks for nothing here, and minimises nothing."""
    found: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=_BATCH,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(content: bytes) -> None:
        found.append(content)

    # A file so odd that the library refuses to write it ends the batch; of less odd ones it warns.
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        collect()
    return found


@dataclass(frozen=True)
class Limits:
    """When a session ends.

    Parameters
    ----------
    until
        By `time.monotonic`.
    least
        Inputs of each kind that are tried before the time is shared fairly.
    most
        Inputs of each kind besides the real ones; None: no limit.
    """

    until: float
    least: int
    most: int | None = None


def run_session(tallies: Sequence[Tally], workers: Workers, limits: Limits, keep: Path, seed: int) -> None:
    """Try inputs until the time is over or all are tried, and count what becomes of them.

    A kind of which too few inputs were tried comes first. After that, a kind that is quick is tried more often than one
    that is slow, though not as many times more often as it is quicker.
    """
    start = time.monotonic()
    total = max(1, round(limits.until - start))
    pause = 0.2 if sys.stderr.isatty() else 30.0  # seconds between lines
    form = "{l_bar}{bar}| {n:.0f}/{total} s{postfix}"
    with tqdm(total=total, mininterval=pause, maxinterval=pause, bar_format=form) as bar:
        while _give_inputs(tallies, workers, limits) or workers.is_busy:
            for trial, answer in workers.collect(max(0.01, limits.until - time.monotonic())):
                _count(tallies, trial, answer, keep, seed)
            tried = sum(tally.tried for tally in tallies)
            bar.set_postfix_str(f"{tried} inputs, {count_failures(tallies)} failures", refresh=False)
            bar.update(min(total, time.monotonic() - start) - bar.n)


def _give_inputs(tallies: Sequence[Tally], workers: Workers, limits: Limits) -> bool:
    """Give an input to each worker that is free; return whether there may be more."""
    while time.monotonic() < limits.until:
        if not workers.count_free:
            return True
        tally = _choose(tallies, limits)
        if tally is None:
            return False
        workers.give(Trial(tally.kind.name, tally.kind.ending, tally.given, next(tally.inputs)))
        tally.given += 1
    return False


def _choose(tallies: Sequence[Tally], limits: Limits) -> Tally | None:
    """Choose the kind of the next input; None if all are tried."""
    left = [tally for tally in tallies if limits.most is None or tally.given < limits.most + len(tally.seeds)]
    few = [tally for tally in left if tally.given < limits.least]
    if few:
        return min(few, key=lambda tally: tally.given)
    return min(left, key=lambda tally: tally.given * math.sqrt(tally.seconds), default=None)


def _count(tallies: Sequence[Tally], trial: Trial, answer: Answer, keep: Path, seed: int) -> None:
    """Count an answer; an input that failed is saved, if there are not enough of its cause."""
    tally = next(tally for tally in tallies if tally.kind.name == trial.kind)
    if answer.verdict == "refused" and trial.number < len(tally.seeds):
        answer = dataclasses.replace(answer, verdict="failed", cause=f"a real input is refused: {answer.cause}")
    tally.add(answer)
    if answer.verdict == "failed" and tally.causes[answer.cause] <= _MOST_SAVED:
        tally.saved.append(save_failure(keep, trial, answer, seed))


def count_failures(tallies: Sequence[Tally]) -> int:
    """Return how many inputs failed."""
    return sum(tally.verdicts["failed"] for tally in tallies)


def save_failure(keep: Path, trial: Trial, answer: Answer, seed: int) -> Path:
    """Save an input that failed, and beside it what happened and how to repeat it."""
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{trial.kind}-{seed}-{trial.number}.{trial.ending}"
    path.write_bytes(trial.content)
    repeat = f"python -m tools.fuzz --repeat {path}"
    path.with_name(f"{path.name}.txt").write_text(f"{answer.cause}\n\n{repeat}\n\n{answer.report}\n", errors="replace")
    return path
