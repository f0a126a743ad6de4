"""The cluster that a `pool.Pool` works with, as an engine implements it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from detectime.config import RunConfig
from detectime.detection.engines.contract import Shard

Worker = Any
"""A cluster's handle of a `remote.RemoteWorker`."""

Call = Any
"""A cluster's handle of a call that is not answered yet; hashable."""


class WorkerLostError(Exception):
    """The worker that had to answer is gone; the message gives the reason."""


class NodeLostError(WorkerLostError):
    """The node that had to answer is gone."""


@dataclass(frozen=True)
class NodeReport:
    """What a node has: compared with this machine's report before the node processes frames."""

    version: str
    """Of detectime."""
    detectors: dict[str, dict[str, Any]]
    """The fingerprints of the detectors: see `Chosen.fingerprints`."""
    readable: Shard
    """Those of the probed frames that the node can read."""

    def find_fault(self, expected: NodeReport) -> str | None:
        """Return what keeps the node from working for a machine whose report is `expected`; None if nothing does.

        Examples
        --------
        >>> NodeReport("0.3.0", {}, ()).find_fault(NodeReport("0.4.0", {}, ()))
        'it has detectime 0.3.0, this machine has 0.4.0'
        """
        if self.version != expected.version:
            return f"it has detectime {self.version}, this machine has {expected.version}"
        if self.detectors != expected.detectors:
            return f"its detectors differ: it has {self.detectors}, this machine has {expected.detectors}"
        if expected.readable and not self.readable:
            return (
                f"it does not see the frames (for example {expected.readable[0]!r}): `images` must be a location that "
                "every node sees, such as a mounted drive or s3://…"
            )
        return None


class Cluster(Protocol):
    """What a pool needs from a cluster. Only `wait` and `fetch` block."""

    @property
    def name(self) -> str:
        """Name of the cluster in messages."""
        ...

    def count_room(self) -> int:
        """Return how many workers fit on the nodes that are up, busy or not."""
        ...

    def describe_room(self) -> str:
        """Describe the resources of the nodes for an error message."""
        ...

    def start_worker(self) -> Worker:
        """Request a worker. It may start later, or never."""
        ...

    def stop_worker(self, worker: Worker) -> None:
        """Stop a worker and its process. Does nothing if the worker is gone."""
        ...

    def request_report(self, worker: Worker, frame_paths: Shard) -> Call:
        """Call `RemoteWorker.report` on a worker. The answer is a `NodeReport`."""
        ...

    def submit_shard(self, worker: Worker, shard: Shard) -> Call:
        """Call `RemoteWorker.run` on a worker. The answer is a table or `LostShard`."""
        ...

    def probe_nodes(self, frame_paths: Shard) -> dict[Call, str]:
        """Call `remote.probe_node` on every node with room for a worker; return the name of the node of each call."""
        ...

    def wait(self, calls: Sequence[Call], timeout: float) -> Iterable[Call]:
        """Wait for the first answer, at most `timeout` seconds; return all calls that are answered."""
        ...

    def fetch(self, call: Call) -> Any:
        """Return the answer of a call.

        Raises
        ------
        EngineError
            If the node cannot run workers.
        NodeLostError, WorkerLostError
            If the node or the worker is gone.
        """
        ...


def describe_need(settings: RunConfig) -> str:
    """Describe the resources that a worker needs, by the keys that set them.

    Examples
    --------
    >>> describe_need(RunConfig(worker_gpus=0.5))
    'worker_cpus: 1, worker_gpus: 0.5'
    """
    return f"worker_cpus: {settings.worker_cpus:g}, worker_gpus: {settings.worker_gpus:g}"
