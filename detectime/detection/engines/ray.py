"""The Ray engine: workers on the nodes of a cluster, or on this machine.

An actor holds one worker process of the local engine on its node, so that a frame that kills or hangs a worker costs
what it costs there, and is named. An actor or a node that is lost is nobody's fault: its shards go to other actors.
Shards and results travel with Ray; this process alone writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import detectime
from detectime.config import RunConfig
from detectime.detection.engines import local
from detectime.detection.engines.contract import EngineError, LostShard, Shard, ShardQueue
from detectime.detectors.registry import Chosen, choose_detectors
from detectime.sources.contract import Source

_EXTRA = "pip install -c constraints.txt -e '.[ray]'"
_ANSWER = 60.0  # seconds for a cluster to answer, and for a result to arrive that is said to be there
_PROBE = 180.0  # seconds for a node to show what it has
_PROBED = 5  # frames
_AHEAD = 2  # shards that an actor has, so that it never waits for this process
_ATTEMPTS = 3  # a shard that loses its actor so often may be the reason for it
_FAILED_STARTS = 3  # in a row, of each actor: there is no use in trying on
_REST = 2.0  # seconds after a failed start
_GROWTH = 10.0  # seconds between two looks at how large the cluster is
_STORE = 150_000_000  # bytes of shared memory for results on this machine; a shard takes some ten thousand
_OWN = "this machine"
_CHECK = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"

_logger = logging.getLogger(__name__)

_cluster = ""  # the one that this process has worked with


def run_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Run shards on actors: see `detectime.detection.engines`.

    Parameters
    ----------
    shards
        The work; each shard is the paths of its frames.
    chosen, source
        What every worker is built with. Every node must see the frames.
    settings
        `ray_address`, the cluster, None: Ray is started on this machine; `workers` actors, None: as many as there is
        room for, and more when the cluster grows, each with `worker_cpus` and `worker_gpus`; `start_timeout` and
        `frame_timeout`.

    Raises
    ------
    EngineError
        If Ray or the cluster is not there, if a node lacks what a worker needs or does not see the frames, or if no
        worker can start.
    """
    with _connected(chosen, settings) as ray:
        pool = _Pool(ray, chosen, source, settings, shards)
        shards.share_among(settings.workers or max(1, _room(ray, settings)))
        if settings.ray_address:
            pool.check_nodes()
        elif not _room(ray, settings):
            raise EngineError(f"this machine has no room for a worker: {_wanted(settings)}; it has {_has(ray)}")
        try:
            yield from pool.results()
        finally:
            pool.stop()


@dataclass(frozen=True)
class _Shown:
    """What a machine has."""

    version: str
    detectors: dict[str, dict[str, Any]]
    seen: tuple[str, ...]
    """Frames that are there."""


class _OwnShards(deque[Shard]):
    """The shards of one worker: there is nobody to share them with."""

    def share_among(self, workers: int) -> None:
        """Leave them as they are."""


class _Host:
    """An actor: one worker process on its node, and after it another."""

    def __init__(self, chosen: Chosen, source: Source, settings: RunConfig) -> None:
        self._chosen = chosen
        self._shards = _OwnShards()
        self._results = local.run_shards(self._shards, chosen, source, dataclasses.replace(settings, workers=1))
        self._broken: EngineError | None = None

    def show(self, few: Shard) -> _Shown:
        """Say what this node has, after a look at a few frames."""
        seen = tuple(name for name in few if _is_seen(self.look((name,))))
        return _Shown(detectime.__version__, self._chosen.fingerprints(), seen)

    def look(self, shard: Shard) -> pa.Table | LostShard:
        if self._broken:
            raise self._broken
        self._shards.append(shard)  # before the engine goes on: one that has no shard left ends
        try:
            _, result = next(self._results)
        except EngineError as error:
            self._broken = error
            raise
        return result


def _is_seen(result: pa.Table | LostShard) -> bool:
    # A frame that costs its worker is there; one that may not be read is `unreadable`.
    return isinstance(result, LostShard) or result["outcome"][0].as_py() not in ("missing", "unreadable")


@dataclass(eq=False)
class _Actor:
    """An actor, seen from here."""

    handle: Any
    ready: bool = False
    shards: dict[Shard, float] = field(default_factory=dict)
    """What it was given, and the moment at which it is late with that."""


class _Pool:
    """The actors of a run, as many as there is work and room for."""

    def __init__(self, ray: Any, chosen: Chosen, source: Source, settings: RunConfig, shards: ShardQueue) -> None:
        self._ray, self._settings, self._shards = ray, settings, shards
        self._host = ray.remote(num_cpus=settings.worker_cpus, num_gpus=settings.worker_gpus)(_Host)
        self._built_with = chosen, source, settings
        self._again: deque[Shard] = deque()  # comes before the others
        self._few: Shard = ()  # frames that a node must see
        self._here: _Shown | None = None
        self._actors: list[_Actor] = []
        self._calls: dict[Any, tuple[_Actor, Shard]] = {}
        self._losses: Counter[Shard] = Counter()
        self._failed_starts = 0
        self._resting_until = -math.inf
        self._heard = time.monotonic()  # when a worker was last there
        self._most, self._counted = 0, -math.inf

    def check_nodes(self) -> None:
        """Have each node show that a worker can start there and sees what one sees here."""
        self._again.append(self._shards.popleft())
        self._few = self._again[0][:_PROBED]
        self._here = _check_nodes(self._ray, *self._built_with, self._few)

    def results(self) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
        while self._left() or self._calls:
            self._grow()
            self._give()
            for answer in self._answers():
                actor, shard = self._calls.pop(answer, (None, ()))
                if actor:  # one that is not gone meanwhile
                    yield from self._take(answer, actor, shard)
            self._check_deadlines()
            yield from self._given_up()

    def _answers(self) -> list[Any]:
        """Wait a moment for answers."""
        if not self._calls:  # it rests after a failed start
            time.sleep(0.1)
            return []
        self._ray.wait(list(self._calls), timeout=1.0)
        answered, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return list(answered)

    def stop(self) -> None:
        for actor in list(self._actors):
            self._drop(actor)

    def _left(self) -> int:
        return len(self._again) + len(self._shards)

    def _grow(self) -> None:
        """Start actors where there is work and room, and let go of those that have none left."""
        for actor in [actor for actor in self._actors if not self._left() and not actor.shards]:
            self._drop(actor)  # a cluster that can shrinks
        if time.monotonic() - self._counted > _GROWTH:
            # One at least: for it a cluster that can grows.
            self._most = self._settings.workers or max(1, _room(self._ray, self._settings))
            self._counted = time.monotonic()
        idle = sum(1 for actor in self._actors if not actor.shards)
        starting = 0 if time.monotonic() < self._resting_until else self._most - len(self._actors)
        for _ in range(min(starting, self._left() - idle)):
            actor = _Actor(self._host.remote(*self._built_with))
            self._actors.append(actor)
            self._calls[actor.handle.show.remote(self._few)] = actor, ()

    def _give(self) -> None:
        """Give each actor a shard, and, while there are plenty, the next one."""
        for most in range(1, _AHEAD + 1):
            for actor in self._actors:
                if actor.ready and len(actor.shards) < most and self._left() > (most - 1) * len(self._actors):
                    shard = self._again.popleft() if self._again else self._shards.popleft()
                    limit = local.START_LIMIT + self._settings.frame_timeout * (len(shard) + 1)
                    actor.shards[shard] = max([time.monotonic(), *actor.shards.values()]) + limit
                    self._calls[actor.handle.look.remote(shard)] = actor, shard

    def _take(self, answer: Any, actor: _Actor, shard: Shard) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
        """Take an answer: a result, that an actor is ready, or that one is lost."""
        exceptions = self._ray.exceptions
        try:
            value = self._ray.get(answer, timeout=_ANSWER)
        except exceptions.RayTaskError as error:  # the node cannot start workers: that is no frame's fault
            self._again.extend(actor.shards)
            self._drop(actor)
            self._fail_start(str(error.cause))
        except exceptions.RayError as error:
            self._lose(actor)
            if not actor.ready:
                self._fail_start(f"the actor was lost: {_last_line(error)}")
        else:
            self._heard = time.monotonic()
            if actor.ready:
                self._failed_starts = 0
                del actor.shards[shard]
                yield shard, value
            elif self._here and (fault := _difference(value, self._here)):  # a node that came later
                self._drop(actor)
                self._fail_start(fault)
            else:
                actor.ready = True

    def _lose(self, actor: _Actor) -> None:
        """Put the shards of an actor that is gone back: others do them."""
        self._again.extend(actor.shards)
        self._losses.update(list(actor.shards)[:1])  # the one that it was at
        self._drop(actor)

    def _drop(self, actor: _Actor) -> None:
        if actor in self._actors:
            self._actors.remove(actor)
        self._calls = {call: taken for call, taken in self._calls.items() if taken[0] is not actor}
        with contextlib.suppress(Exception):  # it, or its node, may be gone
            self._ray.kill(actor.handle)

    def _given_up(self) -> Iterator[tuple[Shard, LostShard]]:
        """Hand back what lost its actor again and again: a frame in it may be the reason."""
        for shard in [shard for shard in self._again if self._losses[shard] >= _ATTEMPTS]:
            self._again.remove(shard)
            del self._losses[shard]
            yield shard, LostShard("the Ray actor was lost several times", None)

    def _fail_start(self, reason: str) -> None:
        self._failed_starts += 1
        self._resting_until = time.monotonic() + _REST  # a cluster that has just lost a node needs a moment
        if self._failed_starts >= _FAILED_STARTS * self._most:  # a node that is lost takes all with it that start there
            raise EngineError(f"workers cannot start on Ray: {reason}")
        if self._failed_starts == 1:
            _logger.warning("a worker could not start on Ray and is started again: %s", reason)

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        for actor in [actor for actor in self._actors if now > min(actor.shards.values(), default=math.inf)]:
            _logger.warning("an actor of Ray did not answer in time; others do its work")
            self._lose(actor)
        if any(actor.ready for actor in self._actors):
            self._heard = now
        elif now - self._heard > self._settings.start_timeout:
            raise EngineError(
                f"Ray gave no worker within {self._settings.start_timeout:g} s (run.start_timeout): each wants "
                f"{_wanted(self._settings)}; the cluster has {_has(self._ray)}. Nothing that was saved is lost"
            )


@contextlib.contextmanager
def _connected(chosen: Chosen, settings: RunConfig) -> Iterator[Any]:
    """Connect to the cluster while the block lasts, or start Ray on this machine while this process lasts.

    Ray cannot leave one cluster and work with another in one process: its actors then never start.
    """
    global _cluster
    try:
        import ray
    except ImportError as error:
        raise EngineError(f"engine: ray needs what is not installed ({error}); install it with: {_EXTRA}") from error
    address = settings.ray_address
    if address and not ray.is_initialized():
        _send_token(address)
        _check_address(address)
    if _cluster and (_cluster == _OWN) != (address is None):
        raise _cannot_change(address or _OWN)
    if ray.is_initialized():  # by whoever calls, or by a run before this one
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            ray.init(address, **quiet)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told without being asked
            cores = max(
                local.count_available_cores(), math.ceil(local.count_workers(chosen, settings) * settings.worker_cpus)
            )
            modules = {"env_vars": {"PYTHONPATH": local.get_search_path()}}
            # By an explicit address: without one Ray joins a cluster that happens to run.
            ray.init(
                "local",
                num_cpus=cores,
                object_store_memory=_STORE,
                include_dashboard=False,
                runtime_env=modules,
                **quiet,
            )
    except Exception as error:  # of many kinds
        where = f"Ray at {address!r} (run.ray_address)" if address else "Ray on this machine"
        raise EngineError(f"{where} cannot be used: {_last_line(error)}") from error
    cluster = ray.get_runtime_context().gcs_address if address else _OWN
    try:
        if _cluster not in ("", cluster):
            raise _cannot_change(str(address))
        _cluster = cluster
        yield ray
    finally:
        if address:
            ray.shutdown()


def _cannot_change(to: str) -> EngineError:
    return EngineError(
        f"this process has worked with Ray at {_cluster!r}, and Ray cannot change to {to!r} (run.ray_address): restart "
        "the kernel"
    )


def _send_token(address: str) -> None:
    """Have Ray's client send the token of the cluster: Ray 2.60 does so elsewhere by itself, there if it is told to."""
    known = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if address.startswith("ray://") and (known or Path("~/.ray/auth_token").expanduser().is_file()):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_address(address: str) -> None:
    """Try in a process of its own, since Ray waits for minutes for a cluster that is not there, and then may abort."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _CHECK, address], capture_output=True, text=True, timeout=_ANSWER, check=False
        )
        reason = None if tried.returncode == 0 else _last_line(tried.stderr)
    except subprocess.TimeoutExpired:
        reason = f"no answer within {_ANSWER:g} s"
    if reason:
        raise EngineError(
            f"Ray at {address!r} (run.ray_address) cannot be used: {reason}; is the cluster up, can this machine reach "
            "it, and has it the same versions of Python and Ray?"
        )


def _check_nodes(ray: Any, chosen: Chosen, source: Source, settings: RunConfig, few: Shard) -> _Shown:
    """Have each node show what it has; returns what this machine has."""
    probe = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_probe)  # in a process that ends with it
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    asked = {}
    for node in (node for node in ray.nodes() if node["Alive"] and _fits(node, settings)):
        there = probe.options(scheduling_strategy=affinity(node["NodeID"], soft=False))
        asked[there.remote(chosen, source, settings, few)] = node
    here = _probe(chosen, source, settings, few)
    if asked:
        ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE)
    faults = []
    for answer, node in asked.items():
        try:
            fault = _difference(ray.get(answer, timeout=0.1), here)
        except ray.exceptions.GetTimeoutError:
            fault = f"no answer within {_PROBE:g} s"
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            continue  # it is gone meanwhile
        except ray.exceptions.RayError as error:
            fault = f"{_last_line(error)}; detectime and what its detectors need must be installed on every node"
        if fault:
            faults.append(f"  {node['NodeManagerAddress']} ({node['NodeManagerHostname']}): {fault}")
    if faults:
        raise EngineError("nodes of the Ray cluster that cannot work for this run:\n" + "\n".join(faults))
    return here


def _probe(chosen: Chosen, source: Source, settings: RunConfig, few: Shard) -> _Shown:
    """Show what this machine has: runs on each node, without its GPU, and here."""
    quick = dataclasses.replace(settings, frame_timeout=min(settings.frame_timeout, _PROBE / 6))
    on_cpu = choose_detectors(dataclasses.replace(chosen.config, device="cpu"))
    return _Host(on_cpu, source, quick).show(few)


def _difference(there: _Shown, here: _Shown) -> str | None:
    """Say what keeps a node from work."""
    if there.version != here.version:
        return f"it has detectime {there.version}, and here is {here.version}"
    if there.detectors != here.detectors:
        return f"its detectors are others than here: {there.detectors}, and here {here.detectors}"
    if here.seen and not there.seen:
        return (
            f"it does not see the frames (for one, {here.seen[0]!r}): let `images` be a place that all nodes see, as a "
            "mounted drive or s3://…"
        )
    return None


def _room(ray: Any, settings: RunConfig) -> int:
    """Workers that the nodes have room for."""
    return sum(_fits(node, settings) for node in ray.nodes() if node["Alive"])


def _fits(node: dict[str, Any], settings: RunConfig) -> int:
    has = node["Resources"]
    cpus = int(has.get("CPU", 0) / settings.worker_cpus)
    return min(cpus, int(has.get("GPU", 0) / settings.worker_gpus)) if settings.worker_gpus else cpus


def _wanted(settings: RunConfig) -> str:
    return f"worker_cpus: {settings.worker_cpus:g}, worker_gpus: {settings.worker_gpus:g}"


def _has(ray: Any) -> str:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes) or "no node"


def _last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
