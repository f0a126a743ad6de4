"""Engines run shards on workers.

An engine is a function ``detect(shards, config, source, settings)``: it takes shards from the left of `shards`, a deque
or another `Work`, until it is empty and yields, for each one, the shard and what became of it, a table or `Lost`, in no
order. Whoever takes what it yields may put more shards there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
