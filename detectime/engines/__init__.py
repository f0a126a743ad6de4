"""Engines run shards on workers: on this machine, or on a cluster.

An engine is a function ``detect(shards, chosen, source, settings)``. It takes shards from the left of `shards` until
none is left and yields, in no order, each shard and what became of it: a table, or `Lost`. Whoever takes what it yields
may put more shards there. A table may say in its metadata, under `PEAK_MEMORY`, how many bytes its worker has had at
most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from detectime.config import Run
from detectime.detectors.registry import Chosen
from detectime.sources import Source

Shard = tuple[str, ...]
"""The paths of some frames."""

PEAK_MEMORY = b"peak_memory"


class Work(Protocol):
    """Shards that are left."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def popleft(self) -> Shard:
        """Take the first of them."""
        ...

    def share_among(self, workers: int) -> None:
        """Learn how many workers there are, so that each gets some of a small set: called before the first is taken."""
        ...


class EngineError(RuntimeError):
    """Workers that cannot start at all; the message says why."""


@dataclass(frozen=True)
class Lost:
    """A shard whose worker died or was stopped."""

    reason: str
    at: int | None
    """Position of the frame that the worker was at; None where that is not known."""


def peak_memory(table: pa.Table) -> int:
    """Bytes that the worker of a table has had at most; 0 where that is not told."""
    return int((table.schema.metadata or {}).get(PEAK_MEMORY, 0))


Engine = Callable[[Work, Chosen, Source, Run], Iterator[tuple[Shard, pa.Table | Lost]]]


def of(settings: Run) -> Engine:
    """Return the engine that a configuration names."""
    if settings.uses_ray:
        from detectime.engines import ray

        return ray.detect
    from detectime.engines import local

    return local.detect
