"""What runs on the nodes of a cluster, whichever engine put it there."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

import detectime
from detectime.config import RunConfig
from detectime.detection.engines import local
from detectime.detection.engines.cluster import NodeReport
from detectime.detection.engines.contract import DEFAULT_LIMITS, EngineError, FixedShards, Limits, LostShard, Shard
from detectime.detectors.registry import Chosen, choose_detectors
from detectime.sources.contract import Source


class RemoteWorker:
    """A worker on a node: it runs one process of the local engine, so that a frame costs at most that process.

    Parameters
    ----------
    chosen, source, settings, limits
        As for the local engine, apart from `workers`, which is 1. The process starts with the first shard.
    """

    def __init__(self, chosen: Chosen, source: Source, settings: RunConfig, limits: Limits = DEFAULT_LIMITS) -> None:
        self._chosen = chosen
        self._shards = FixedShards()
        settings = dataclasses.replace(settings, workers=1)
        self._results = local.run_shards(self._shards, chosen, source, settings, limits)
        self._fault: EngineError | None = None

    def report(self, frame_paths: Shard) -> NodeReport:
        """Report what this node has, after running detection on some frames.

        Raises
        ------
        EngineError
            If worker processes cannot start here.
        """
        readable = tuple(frame_path for frame_path in frame_paths if _is_readable(self.run((frame_path,))))
        return NodeReport(detectime.__version__, self._chosen.fingerprints(), readable)

    def run(self, shard: Shard) -> pa.Table | LostShard:
        """Run detection on a shard.

        Raises
        ------
        EngineError
            If worker processes cannot start here: now, or at an earlier call.
        """
        if self._fault:
            raise self._fault
        self._shards.append(shard)  # before the engine continues: it ends when its queue is empty
        try:
            _, result = next(self._results)
        except EngineError as error:
            self._fault = error
            raise
        return result


def probe_node(chosen: Chosen, source: Source, settings: RunConfig, limits: Limits, frame_paths: Shard) -> NodeReport:
    """Report what this machine has, on the CPU and with a short `frame_timeout`: GPUs may be busy.

    Raises
    ------
    EngineError
        If worker processes cannot start here.
    """
    quick = dataclasses.replace(settings, frame_timeout=min(settings.frame_timeout, limits.probe / 6))
    on_cpu = choose_detectors(dataclasses.replace(chosen.config, device="cpu"))
    return RemoteWorker(on_cpu, source, quick, limits).report(frame_paths)


def _is_readable(result: pa.Table | LostShard) -> bool:
    # A frame that costs its process exists; one that this node may not read is `unreadable`.
    return isinstance(result, LostShard) or result["outcome"][0].as_py() not in ("missing", "unreadable")
