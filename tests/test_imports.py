"""What an import pulls in, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "tensorflow", "jax", "ray", "cv2", "onnxruntime", "pandas", "matplotlib"]
FOR_NOTEBOOKS = ["pandas", "matplotlib", "seaborn", "IPython", "papermill", "torch", "tensorflow", "ray"]
SCRIPT = """
import importlib, json, sys, time
started = time.perf_counter()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([time.perf_counter() - started, sorted(sys.modules)]))
"""


@pytest.mark.parametrize(
    ("modules", "unwanted", "seconds"),
    [
        pytest.param(["detectime"], HEAVY, 1, id="the package"),
        pytest.param(["detectime.detect", "detectime.engines.local"], FOR_NOTEBOOKS, 10, id="a worker"),
    ],
)
def test_an_import_is_light(modules: list[str], unwanted: list[str], seconds: float) -> None:
    command = [sys.executable, "-c", SCRIPT, *modules]
    took, loaded = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert set(modules) <= set(loaded)
    assert not set(unwanted) & set(loaded)
    assert took < seconds
