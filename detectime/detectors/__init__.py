"""Detectors of faces and hands: see `contract` for what one is, `registry` for how one is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectime.config import DetectionConfig


def check(config: DetectionConfig) -> None:
    """Do what notebooks of 0.2 call by this name: see `registry.Chosen.check`."""
    from detectime.detectors.registry import choose_detectors

    choose_detectors(config).check()
