"""The Ray engine: workers on the nodes of a cluster, or on this machine.

Each Ray actor is a `remote.RemoteWorker`. Shards and results travel through Ray, and only this process writes files.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from detectime import paths
from detectime.config import RunConfig
from detectime.detection.engines import local
from detectime.detection.engines.cluster import NodeLostError, WorkerLostError, describe_need
from detectime.detection.engines.contract import DEFAULT_LIMITS, EngineError, Limits, Result, Shard, ShardQueue
from detectime.detection.engines.pool import Pool
from detectime.detection.engines.remote import RemoteWorker, probe_node
from detectime.detection.engines.worker_process import get_search_path
from detectime.detectors.registry import Chosen
from detectime.sources.contract import Source

_STORE = 150_000_000  # bytes of shared memory for results on this machine; the result of a shard is about 10 kB
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_CONNECT = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"
_THIS_MACHINE = "this machine"

_used_cluster = ""  # by this process so far: Ray cannot change clusters


def run_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig, limits: Limits = DEFAULT_LIMITS
) -> Iterator[Result]:
    """Run shards on Ray actors.

    Parameters
    ----------
    shards
        The work.
    chosen, source
        What every worker is built with. Every node must see the frames.
    settings
        `ray_address`, the cluster, None: start Ray on this machine; `workers` actors (None: as many as there is room
        for, and more when the cluster grows), each with `worker_cpus` and `worker_gpus`; `start_timeout` and
        `frame_timeout`.
    limits
        The other times and counts.

    Yields
    ------
    tuple
        Each shard and its detections table, or a `LostShard`, in the order in which they finish.

    Raises
    ------
    EngineError
        If Ray is not installed, the cluster cannot be used, a node lacks what a worker needs or does not see the
        frames, or no worker can start.
    """
    with _connect(chosen, settings, limits) as ray:
        cluster = _RayCluster(ray, chosen, source, settings, limits)
        pool = Pool(cluster, shards, settings, limits)
        if settings.ray_address:
            pool.check_nodes(partial(probe_node, *cluster.built_with))
        elif not cluster.count_room():
            raise EngineError(
                f"this machine has no room for a worker: {describe_need(settings)}; it has {cluster.describe_room()}"
            )
        yield from pool.run()


class _RayCluster:
    """The cluster that this process is connected to: see `cluster.Cluster`."""

    name = "Ray"

    def __init__(self, ray: ModuleType, chosen: Chosen, source: Source, settings: RunConfig, limits: Limits) -> None:
        self._ray, self._settings, self._limits = ray, settings, limits
        self.built_with = chosen, source, settings, limits
        self._actor = ray.remote(num_cpus=settings.worker_cpus, num_gpus=settings.worker_gpus)(RemoteWorker)
        # In a process of its own that ends with the probe. It reserves no CPU: all may be busy.
        self._probe = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(probe_node)

    def count_room(self) -> int:
        return sum(self._count_fitting(node) for node in self._list_nodes())

    def describe_room(self) -> str:
        resources = [node["Resources"] for node in self._list_nodes()]
        return "; ".join(f"{r.get('CPU', 0):g} CPUs and {r.get('GPU', 0):g} GPUs" for r in resources) or "no node"

    def start_worker(self) -> Any:
        return self._actor.remote(*self.built_with)

    def stop_worker(self, worker: Any) -> None:
        with contextlib.suppress(Exception):  # the actor or its node may be gone
            self._ray.kill(worker)

    def request_report(self, worker: Any, frame_paths: Shard) -> Any:
        return worker.report.remote(frame_paths)

    def submit_shard(self, worker: Any, shard: Shard) -> Any:
        return worker.run.remote(shard)

    def probe_nodes(self, frame_paths: Shard) -> dict[Any, str]:
        on_node = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        calls = {}
        for node in filter(self._count_fitting, self._list_nodes()):
            probe = self._probe.options(scheduling_strategy=on_node(node["NodeID"], soft=False))
            call = probe.remote(*self.built_with, frame_paths)
            calls[call] = f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']})"
        return calls

    def wait(self, calls: Sequence[Any], timeout: float) -> list[Any]:
        self._ray.wait(calls, timeout=timeout)  # returns with the first answer
        answered, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        return list(answered)

    def fetch(self, call: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(call, timeout=self._limits.answer)
        except exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, EngineError) else error
            raise EngineError(_get_last_line(cause)) from error
        except (exceptions.NodeDiedError, exceptions.TaskUnschedulableError) as error:
            raise NodeLostError(_get_last_line(error)) from error
        except exceptions.RayError as error:
            raise WorkerLostError(_get_last_line(error)) from error

    def _list_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _count_fitting(self, node: dict[str, Any]) -> int:
        """Return how many workers fit on a node."""
        has, cpus, gpus = node["Resources"], self._settings.worker_cpus, self._settings.worker_gpus
        by_cpu = int(has.get("CPU", 0) / cpus)
        return min(by_cpu, int(has.get("GPU", 0) / gpus)) if gpus else by_cpu


@contextlib.contextmanager
def _connect(chosen: Chosen, settings: RunConfig, limits: Limits) -> Iterator[ModuleType]:
    """Connect to the cluster for the block, or start Ray on this machine for the rest of this process's life."""
    try:
        import ray
    except ImportError as error:
        raise EngineError(
            f"engine: ray needs the extra `ray` ({error}); install it with: {paths.format_install('ray')}"
        ) from error
    address = settings.ray_address
    if address and not ray.is_initialized():
        _enable_token(address)
        _check_address(address, limits.answer)
    if _used_cluster and (_used_cluster == _THIS_MACHINE) != (address is None):
        raise _make_change_error(address)
    if ray.is_initialized():  # by the caller, or by an earlier run
        yield ray
        return
    try:
        ray.init(address, **_QUIET) if address else _start_ray(ray, chosen, settings)
    except Exception as error:  # of many types
        where = f"Ray at {address!r} (run.ray_address)" if address else "Ray on this machine"
        raise EngineError(f"{where} cannot be used: {_get_last_line(error)}") from error
    try:
        _remember_cluster(ray, address)
        yield ray
    finally:
        if address:
            ray.shutdown()


def _start_ray(ray: ModuleType, chosen: Chosen, settings: RunConfig) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no statistics unless the user asks for it
    needed = math.ceil(local.count_workers(chosen, settings) * settings.worker_cpus)
    ray.init(
        "local",  # without an address Ray joins any cluster that runs on this machine
        num_cpus=max(local.count_available_cores(), needed),
        object_store_memory=_STORE,
        include_dashboard=False,
        runtime_env={"env_vars": {"PYTHONPATH": get_search_path()}},
        **_QUIET,
    )


def _remember_cluster(ray: ModuleType, address: str | None) -> None:
    """Refuse a second cluster: in a process that has used another one, Ray never starts actors."""
    global _used_cluster
    cluster = ray.get_runtime_context().gcs_address if address else _THIS_MACHINE
    if _used_cluster not in ("", cluster):
        raise _make_change_error(address)
    _used_cluster = cluster


def _make_change_error(address: str | None) -> EngineError:
    return EngineError(
        f"this process has used Ray at {_used_cluster!r}, and Ray cannot change to {address or _THIS_MACHINE!r} "
        "(run.ray_address): restart the kernel"
    )


def _enable_token(address: str) -> None:
    """Have Ray's client send the cluster's token: with ``ray://``, Ray 2.60 does so only in this mode."""
    has_token = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if address.startswith("ray://") and (has_token or Path("~/.ray/auth_token").expanduser().is_file()):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_address(address: str, timeout: float) -> None:
    """Connect in another process first: Ray waits for minutes for a cluster that is down, and may abort the process."""
    command = [sys.executable, "-c", _CONNECT, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        fault = _get_last_line(done.stderr) if done.returncode else None
    except subprocess.TimeoutExpired:
        fault = f"no answer within {timeout:g} s"
    if fault:
        raise EngineError(
            f"Ray at {address!r} (run.ray_address) cannot be used: {fault}; check that the cluster is up, that this "
            "machine reaches it, and that both have the same versions of Python and Ray"
        )


def _get_last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
