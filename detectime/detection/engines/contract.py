"""Engines run shards on workers: on this machine, or on a cluster.

An engine is a function ``run_shards(shards, chosen, source, settings)``. It takes shards from the queue until none is
left and yields, in no order, each shard with its result: a table, or `LostShard`. The caller may add shards to
the queue while it takes results. The metadata of a table may hold, under `PEAK_MEMORY`, the peak memory of its worker in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from detectime.config import RunConfig
from detectime.detectors.registry import Chosen
from detectime.sources.contract import Source

Shard = tuple[str, ...]
"""The paths of some frames."""

PEAK_MEMORY = b"peak_memory"


class ShardQueue(Protocol):
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
class LostShard:
    """A shard whose worker died or was stopped."""

    reason: str
    at: int | None
    """Position of the frame that the worker was at; None where that is not known."""


def get_peak_memory(table: pa.Table) -> int:
    """Bytes that the worker of a table has had at most; 0 where that is not told."""
    return int((table.schema.metadata or {}).get(PEAK_MEMORY, 0))


Engine = Callable[[ShardQueue, Chosen, Source, RunConfig], Iterator[tuple[Shard, pa.Table | LostShard]]]
