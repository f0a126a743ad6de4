"""Fixtures: weights in the original layout, and outputs of the original code. Neither is part of the project."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skips import need_extra

from detectime.detectors.mask_rcnn.config import NetworkSettings
from detectime.detectors.mask_rcnn.images import Canvas

SHARED = Path(__file__).parents[3] / "shared"
TOOL = SHARED / "tools" / "make_mask_rcnn_weights.py"


@dataclass(frozen=True)
class Golden:
    """Outputs of the original code for one image."""

    name: str
    values: dict[str, np.ndarray]

    @property
    def settings(self) -> NetworkSettings:
        backbone, side = self.name.split("_")[:2]
        confidence = json.loads(str(self.values["versions"]))["min_conf"]
        return NetworkSettings(
            backbone=backbone, min_side=min(800, int(side)), max_side=int(side), confidence=float(confidence)
        )

    @property
    def canvas(self) -> Canvas:
        top, left, bottom, right = (int(v) for v in self.values["window"])
        window = (top, left, bottom, right)
        height, width = (int(v) for v in self.values["shape"][:2])
        return Canvas(self.values["molded"], window, window, (height, width))

    def __getitem__(self, key: str) -> np.ndarray:
        return self.values[key]


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """Read the outputs with a given name."""
    if not (SHARED / "golden" / "mask_rcnn").is_dir():
        pytest.skip("the shared folder lacks golden/mask_rcnn")

    @cache
    def read(name: str) -> Golden:
        with np.load(SHARED / "golden" / "mask_rcnn" / f"{name}.npz") as file:
            return Golden(name, dict(file))

    return read


@pytest.fixture(scope="session")
def tool() -> dict[str, Any]:
    """Load the tool that generates deterministic weights in the original layout."""
    need_extra("h5py")
    if not TOOL.is_file():
        pytest.skip(f"the shared folder lacks tools/{TOOL.name}")
    return runpy.run_path(str(TOOL))


@pytest.fixture(scope="session")
def h5(tool: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write the weights file of a backbone with two classes."""
    folder = tmp_path_factory.mktemp("mask_rcnn")

    @cache
    def make(backbone: str) -> Path:
        path = folder / f"{backbone}.h5"
        tool["write"](str(path), tool["generate"](backbone, 2, 0))
        return path

    return make


@pytest.fixture(scope="session")
def network(h5: Callable[[str], Path]) -> Callable[[NetworkSettings], Any]:
    """Build a network with these weights."""
    need_extra("torch")
    from detectime.detectors.mask_rcnn import weights
    from detectime.detectors.mask_rcnn.network import Network

    @cache
    def build(settings: NetworkSettings) -> Network:
        return Network(settings, weights.read_weights(h5(settings.backbone), settings), "cpu")

    return build
