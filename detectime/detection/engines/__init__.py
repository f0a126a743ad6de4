"""Engines run shards on workers: on this machine, or on a cluster. See `contract` for what an engine is."""

from __future__ import annotations

from detectime.config import RunConfig
from detectime.detection.engines.contract import Engine


def choose_engine(settings: RunConfig) -> Engine:
    """Return the engine that a configuration names."""
    if settings.uses_ray:
        from detectime.detection.engines import ray

        return ray.run_shards
    from detectime.detection.engines import local

    return local.run_shards
