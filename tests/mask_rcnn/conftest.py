"""Weights in the original's layout and the original's outputs, which are no part of the project."""

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

from detectime.detectors.mask_rcnn.config import Settings
from detectime.detectors.mask_rcnn.images import Molded

SHARED = Path(__file__).parents[3] / "shared"
TOOL = SHARED / "tools" / "make_mask_rcnn_weights.py"


@dataclass(frozen=True)
class Golden:
    """What the original code found on one image."""

    name: str
    values: dict[str, np.ndarray]

    @property
    def settings(self) -> Settings:
        backbone, side = self.name.split("_")[:2]
        confidence = json.loads(str(self.values["versions"]))["min_conf"]
        return Settings(
            backbone=backbone, min_side=min(800, int(side)), max_side=int(side), confidence=float(confidence)
        )

    @property
    def molded(self) -> Molded:
        top, left, bottom, right = (int(v) for v in self.values["window"])
        window = (top, left, bottom, right)
        height, width = (int(v) for v in self.values["shape"][:2])
        return Molded(self.values["molded"], window, window, (height, width))

    def __getitem__(self, key: str) -> np.ndarray:
        return self.values[key]


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """Read the outputs of a name."""
    if not (SHARED / "golden" / "mask_rcnn").is_dir():
        pytest.skip("there is no folder of the original's outputs beside the project")

    @cache
    def read(name: str) -> Golden:
        with np.load(SHARED / "golden" / "mask_rcnn" / f"{name}.npz") as file:
            return Golden(name, dict(file))

    return read


@pytest.fixture(scope="session")
def tool() -> dict[str, Any]:
    """Find the tool that makes deterministic weights in the layout of the original."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    if not TOOL.is_file():
        pytest.skip("there is no tool beside the project that makes weights")
    return runpy.run_path(str(TOOL))


@pytest.fixture(scope="session")
def h5(tool: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make the file of a backbone, with two classes."""
    folder = tmp_path_factory.mktemp("mask_rcnn")

    @cache
    def make(backbone: str) -> Path:
        path = folder / f"{backbone}.h5"
        tool["write"](str(path), tool["generate"](backbone, 2, 0))
        return path

    return make


@pytest.fixture(scope="session")
def network(h5: Callable[[str], Path]) -> Callable[[Settings], Any]:
    """Build a network with those weights."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from detectime.detectors.mask_rcnn import weights
    from detectime.detectors.mask_rcnn.network import Network

    @cache
    def build(settings: Settings) -> Network:
        return Network(settings, weights.read(h5(settings.backbone), settings), "cpu")

    return build
