"""Engines run shards of frames on workers, on this machine or on a cluster; `contract` defines what an engine is."""

from __future__ import annotations

from detectime.config import RunConfig
from detectime.detection.engines.contract import Engine, EngineError

__all__ = ["EngineError", "choose_engine"]


def choose_engine(settings: RunConfig) -> Engine:
    """Return the engine that the run settings select.

    Ray itself is imported only when the engine runs.

    Examples
    --------
    >>> choose_engine(RunConfig()).__module__
    'detectime.detection.engines.local'
    >>> choose_engine(RunConfig(ray_address="ray://head:10001")).__module__
    'detectime.detection.engines.ray'
    """
    if settings.uses_ray:
        from detectime.detection.engines import ray

        return ray.run_shards
    from detectime.detection.engines import local

    return local.run_shards
