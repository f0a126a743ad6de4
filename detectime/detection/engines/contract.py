"""What an engine is, and the types that engines and the run share.

An engine is a function ``run_shards(shards, chosen, source, settings)``. It takes shards from the queue until the queue
is empty and yields each shard with its result, in any order: a detections table, or `LostShard`. The caller may add
shards to the queue between two results. The schema metadata of a table may hold the peak memory of its worker in bytes,
under the key `PEAK_MEMORY`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from detectime.config import RunConfig
from detectime.detectors.registry import Chosen
from detectime.errors import DocumentedError
from detectime.sources.contract import Source

Shard: TypeAlias = tuple[Any, ...]
"""What the worker needs of each frame of a shard: for detection, its `frame_path`."""

ShardWorker: TypeAlias = Callable[[Source, Shard, Callable[[int | None], None]], pa.Table]
"""What processes a shard in a worker process, such as `worker.Worker`: ``worker(source, shard, at)`` returns a table,
and calls `at` with the position of each frame before work on it begins."""

WorkerMaker: TypeAlias = Callable[[], ShardWorker]
"""Makes the worker in its process; it is sent there, so it can be pickled."""

PEAK_MEMORY = b"peak_memory"


class ShardQueue(Protocol):
    """The shards that no worker has taken yet."""

    def __len__(self) -> int:
        """Return the number of shards."""
        ...

    def popleft(self) -> Shard:
        """Remove and return the first shard."""
        ...

    def share_among(self, workers: int) -> None:
        """Cut the frames so that each of `workers` workers gets some. Called once, before the first `popleft`."""
        ...


class FixedShards(deque[Shard]):
    """A queue of shards that are cut already.

    Examples
    --------
    >>> queue = FixedShards([("a.jpg", "b.jpg"), ("c.jpg",)])
    >>> queue.share_among(8)
    >>> queue.popleft()
    ('a.jpg', 'b.jpg')
    """

    def share_among(self, workers: int) -> None:
        """Leave the shards as they are."""


class EngineError(DocumentedError, RuntimeError):
    """The engine cannot run workers at all; the message gives the reason."""


@dataclass(frozen=True)
class LostShard:
    """The result of a shard whose worker died or was stopped.

    Examples
    --------
    >>> LostShard("took longer than 60 s", at=3)
    LostShard(reason='took longer than 60 s', at=3)
    """

    reason: str
    at: int | None
    """Index in the shard of the frame that the worker was processing; None if unknown."""


@dataclass(frozen=True)
class Limits:
    """How long an engine waits and how often it retries. Users never set these; tests shorten them.

    Times are in seconds. What users set (`frame_timeout`, `start_timeout`) is in `config.RunConfig`.

    Examples
    --------
    >>> Limits(start=5.0).start
    5.0
    """

    start: float = 120.0
    """A worker process loads its models."""
    failed_starts: int = 3
    """Consecutive failed starts, per worker of a cluster, that end the run."""
    recycle_frames: int = 20_000
    """Frames after which a worker process is replaced, which returns memory that its libraries leak."""
    recycle_growth: int = 2**30
    """Growth of a process's peak memory since its first shard, in bytes, after which it is replaced."""
    answer: float = 60.0
    """A cluster answers, and a finished result arrives."""
    probe: float = 180.0
    """Every node of a cluster reports."""
    rest: float = 2.0
    """Pause after a failed start: a cluster that has just lost a node needs a moment."""
    turn: float = 1.0
    """Longest wait for an answer before deadlines are checked."""
    growth: float = 10.0
    """Time between two counts of how many workers the cluster has room for."""
    lost_workers: int = 3
    """Workers that a shard loses before it is given up: one of its frames may be the reason."""


DEFAULT_LIMITS = Limits()


def get_peak_memory(table: pa.Table) -> int:
    """Return the peak memory of the worker that made a table, in bytes; 0 if unknown.

    Examples
    --------
    >>> table = pa.table({"frame_path": ["a.jpg"]})
    >>> get_peak_memory(table), get_peak_memory(table.replace_schema_metadata({PEAK_MEMORY: "1024"}))
    (0, 1024)
    """
    return int((table.schema.metadata or {}).get(PEAK_MEMORY, 0))


Result: TypeAlias = tuple[Shard, pa.Table | LostShard]
"""A shard and its detections table, or how it was lost."""

Engine: TypeAlias = Callable[[ShardQueue, Chosen, Source, RunConfig], Iterator[Result]]
