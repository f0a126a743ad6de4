"""Engines run shards on workers: on this machine, or on a cluster.

An engine is a function ``detect(shards, config, source, settings)``: it takes shards from the left of `shards`, a deque
or another `Work`, until it is empty and yields, for each one, the shard and what became of it, a table or `Lost`, in no
order. Whoever takes what it yields may put more shards there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from detectime.config import Detection, Run
from detectime.sources import Source

Shard = tuple[str, ...]
"""The paths of some frames."""


class Work(Protocol):
    """Shards that are left."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def popleft(self) -> Shard:
        """Take the first of them."""
        ...


class EngineError(RuntimeError):
    """Workers that cannot start at all; the message says why."""


@dataclass(frozen=True)
class Lost:
    """A shard whose worker died or was stopped."""

    reason: str
    at: int | None
    """Position of the frame that the worker was at; None where that is not known."""


Engine = Callable[[Work, Detection, Source, Run], Iterator[tuple[Shard, pa.Table | Lost]]]


def of(settings: Run) -> Engine:
    """Return the engine that a configuration names."""
    if settings.uses_ray:
        from detectime.engines import ray

        return ray.detect
    from detectime.engines import local

    return local.detect
