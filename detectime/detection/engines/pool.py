"""The bookkeeping of engines whose workers run on a cluster.

A `Pool` records which worker has which shards and when they are due. It starts workers while there is work and room,
stops idle ones, returns the shards of a lost worker to the queue, and gives up a shard that keeps losing its worker. It
reaches the cluster only through the protocol `cluster.Cluster`, so an engine is one file: an implementation of that
protocol whose workers are `remote.RemoteWorker`, and a function that connects and runs a pool. `ray` is an example.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from detectime.config import RunConfig
from detectime.detection.engines.cluster import (
    Call,
    Cluster,
    NodeLostError,
    NodeReport,
    Worker,
    WorkerLostError,
    describe_need,
)
from detectime.detection.engines.contract import (
    DEFAULT_LIMITS,
    EngineError,
    Limits,
    LostShard,
    Result,
    Shard,
    ShardQueue,
)

_PROBED = 5  # frames that a node must be able to read
_AHEAD = 2  # shards per worker, so that a worker never waits for the next one

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Member:
    """A worker of the pool."""

    handle: Worker
    is_ready: bool = False
    deadlines: dict[Shard, float] = field(default_factory=dict)
    """The shards it has, in the order of submission, and when each is due."""


class _Backlog:
    """The shards that no worker has: first those that lost their worker, then the queue of the run."""

    def __init__(self, queue: ShardQueue, lost_workers: int) -> None:
        self._queue, self._limit = queue, lost_workers
        self._returned: deque[Shard] = deque()
        self._losses: Counter[Shard] = Counter()

    def __len__(self) -> int:
        return len(self._returned) + len(self._queue)

    def popleft(self) -> Shard:
        return self._returned.popleft() if self._returned else self._queue.popleft()

    def put_back(self, shards: Iterable[Shard]) -> None:
        self._returned.extend(shards)

    def count_loss(self, shard: Shard) -> None:
        self._losses[shard] += 1

    def forget_losses(self, shard: Shard) -> None:
        self._losses.pop(shard, None)

    def pop_hopeless(self) -> list[Shard]:
        """Remove and return the shards that have lost too many workers."""
        hopeless = [shard for shard in self._returned if self._losses[shard] >= self._limit]
        for shard in hopeless:
            self._returned.remove(shard)
            self.forget_losses(shard)
        return hopeless


class Pool:
    """The workers of a run: as many as there is work and room for.

    Parameters
    ----------
    cluster
        Where the workers run.
    shards
        The work. The pool shares it among the workers that there is room for now.
    settings
        `workers`, None: as many as there is room for, and more when the cluster grows; `frame_timeout` and
        `start_timeout`; `worker_cpus` and `worker_gpus` for messages.
    limits
        The other times and counts.
    clock, sleep
        The time in seconds, and a function that waits so long.
    """

    def __init__(
        self,
        cluster: Cluster,
        shards: ShardQueue,
        settings: RunConfig,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster, self._settings, self._limits = cluster, settings, limits
        self._clock, self._sleep = clock, sleep
        self._backlog = _Backlog(shards, limits.lost_workers)
        self._members: list[_Member] = []
        self._calls: dict[Call, tuple[_Member, Shard]] = {}
        self._probed: Shard = ()
        self._expected: NodeReport | None = None
        self._failed_starts = 0
        self._rests_until = -math.inf
        self._last_ready = clock()
        self._count_room()
        shards.share_among(self._room)

    def check_nodes(self, report_here: Callable[[Shard], NodeReport]) -> None:
        """Check that every node can process the frames; a node that joins later is checked when its worker starts.

        Parameters
        ----------
        report_here
            Returns the report of this machine on some frames.

        Raises
        ------
        EngineError
            If a node differs from this machine, does not see the frames or does not answer. The message lists all.
        """
        first = self._backlog.popleft()
        self._backlog.put_back([first])
        self._probed = first[:_PROBED]
        nodes = self._cluster.probe_nodes(self._probed)
        self._expected = report_here(self._probed)  # while the nodes prepare theirs
        answered = self._wait_for_all(nodes)
        checked = [
            (node, self._find_fault(call, self._expected) if call in answered else self._describe_silence())
            for call, node in nodes.items()
        ]
        faults = "\n".join(f"  {node}: {fault}" for node, fault in checked if fault)
        if faults:
            raise EngineError(f"these nodes of the {self._cluster.name} cluster cannot work for this run:\n{faults}")

    def run(self) -> Iterator[Result]:
        """Yield each shard with its result until the queue is empty, then stop the workers.

        Raises
        ------
        EngineError
            If no worker can start, or none is ready within `start_timeout`.
        """
        self._last_ready = self._clock()
        try:
            while self._backlog or self._calls:
                self._resize()
                self._assign_shards()
                yield from self._take_answers()
                self._drop_late_workers()
                self._check_start_timeout()
                for shard in self._backlog.pop_hopeless():
                    reason = f"its worker on {self._cluster.name} was lost {self._limits.lost_workers} times"
                    yield shard, LostShard(reason, None)
        finally:
            for member in list(self._members):
                self._drop(member)

    # -- starting and stopping workers

    def _resize(self) -> None:
        """Start workers where there is work and room; stop those without work, so that the cluster can shrink."""
        for member in [member for member in self._members if not self._backlog and not member.deadlines]:
            self._drop(member)
        if self._clock() - self._counted > self._limits.growth:
            self._count_room()
        if self._clock() >= self._rests_until:
            idle = sum(not member.deadlines for member in self._members)
            for _ in range(min(self._room - len(self._members), len(self._backlog) - idle)):
                self._start_worker()

    def _count_room(self) -> None:
        # At least one: an autoscaling cluster adds nodes only for a worker that waits for one.
        self._room = self._settings.workers or max(1, self._cluster.count_room())
        self._counted = self._clock()

    def _start_worker(self) -> None:
        member = _Member(self._cluster.start_worker())
        self._members.append(member)
        self._calls[self._cluster.request_report(member.handle, self._probed)] = member, ()

    def _drop(self, member: _Member) -> None:
        """Stop a worker and forget its calls; its shards go back to the queue."""
        self._members.remove(member)
        self._calls = {call: (owner, shard) for call, (owner, shard) in self._calls.items() if owner is not member}
        self._backlog.put_back(member.deadlines)
        self._cluster.stop_worker(member.handle)

    def _lose(self, member: _Member) -> None:
        """Drop a worker that is gone or stuck; the shard that it was processing may be the reason."""
        for shard in list(member.deadlines)[:1]:
            self._backlog.count_loss(shard)
        self._drop(member)

    def _count_failed_start(self, reason: str) -> None:
        self._failed_starts += 1
        self._rests_until = self._clock() + self._limits.rest
        # Per worker, since a lost node takes all workers with it that start there.
        if self._failed_starts >= self._limits.failed_starts * self._room:
            raise EngineError(f"workers cannot start on {self._cluster.name}: {reason}")
        if self._failed_starts == 1:
            _logger.warning("a worker could not start on %s and will be restarted: %s", self._cluster.name, reason)

    # -- shards and answers

    def _assign_shards(self) -> None:
        """Give each ready worker a shard and, while there is more than one for each, a second one."""
        for most in range(1, _AHEAD + 1):
            for member in self._members:
                is_enough = len(self._backlog) > (most - 1) * len(self._members)
                if member.is_ready and len(member.deadlines) < most and is_enough:
                    self._submit(member, self._backlog.popleft())

    def _submit(self, member: _Member, shard: Shard) -> None:
        # The node may have to start a new process for this shard; each frame has its timeout there.
        limit = self._limits.start + self._settings.frame_timeout * (len(shard) + 1)
        member.deadlines[shard] = max([self._clock(), *member.deadlines.values()]) + limit
        self._calls[self._cluster.submit_shard(member.handle, shard)] = member, shard

    def _take_answers(self) -> Iterator[Result]:
        if not self._calls:  # there is no worker, and none may start yet
            self._sleep(max(0.0, self._rests_until - self._clock()))
            return
        for call in self._cluster.wait(list(self._calls), self._limits.turn):
            if call in self._calls:  # else its worker was dropped because of another answer
                yield from self._take_answer(call)

    def _take_answer(self, call: Call) -> Iterator[Result]:
        member, shard = self._calls.pop(call)
        try:
            answer = self._cluster.fetch(call)
        except EngineError as error:  # a fault of the node: no shard is to blame
            self._drop(member)
            self._count_failed_start(str(error))
        except WorkerLostError as error:
            self._lose(member)
            if not member.is_ready:
                self._count_failed_start(f"the worker was lost: {error}")
        else:
            self._last_ready = self._clock()
            if member.is_ready:
                yield self._finish(member, shard, answer)
            else:
                self._admit(member, answer)

    def _finish(self, member: _Member, shard: Shard, result: pa.Table | LostShard) -> Result:
        self._failed_starts = 0
        self._backlog.forget_losses(shard)
        del member.deadlines[shard]
        return shard, result

    def _admit(self, member: _Member, report: NodeReport) -> None:
        """Give work to a worker from now on, unless its node, which may have joined later, does not fit."""
        fault = self._expected and report.find_fault(self._expected)
        if fault:
            self._drop(member)
            self._count_failed_start(fault)
        else:
            member.is_ready = True

    # -- deadlines

    def _drop_late_workers(self) -> None:
        now = self._clock()
        for member in [member for member in self._members if now > min(member.deadlines.values(), default=math.inf)]:
            _logger.warning("a worker on %s did not answer in time; other workers take over", self._cluster.name)
            self._lose(member)

    def _check_start_timeout(self) -> None:
        if any(member.is_ready for member in self._members):
            self._last_ready = self._clock()
        elif self._clock() - self._last_ready > self._settings.start_timeout:
            raise EngineError(
                f"{self._cluster.name} started no worker within {self._settings.start_timeout:g} s "
                f"(run.start_timeout): each needs {describe_need(self._settings)}; the cluster has "
                f"{self._cluster.describe_room()}. Saved results are kept"
            )

    # -- nodes

    def _wait_for_all(self, calls: Iterable[Call]) -> set[Call]:
        """Wait for all answers, at most `Limits.probe` seconds; return the calls that are answered."""
        waiting = list(calls)
        answered: set[Call] = set()
        until = self._clock() + self._limits.probe
        while waiting and self._clock() < until:
            answered.update(self._cluster.wait(waiting, until - self._clock()))
            waiting = [call for call in waiting if call not in answered]
        return answered

    def _describe_silence(self) -> str:
        return f"no answer within {self._limits.probe:g} s"

    def _find_fault(self, probe: Call, expected: NodeReport) -> str | None:
        try:
            report: NodeReport = self._cluster.fetch(probe)
        except NodeLostError:  # it left the cluster: no worker will start there
            return None
        except (WorkerLostError, EngineError) as error:
            return f"{error}; detectime and what its detectors need must be installed on every node"
        return report.find_fault(expected)
