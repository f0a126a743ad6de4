"""What an import pulls in, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["torch", "tensorflow", "jax", "ray", "av", "cv2", "onnxruntime", "pandas", "matplotlib"]
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
        pytest.param(
            ["detectime.detection.worker", "detectime.detection.engines.local"], FOR_NOTEBOOKS, 10, id="a worker"
        ),
    ],
)
def test_an_import_is_light(modules: list[str], unwanted: list[str], seconds: float) -> None:
    command = [sys.executable, "-c", SCRIPT, *modules]
    took, loaded = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert set(modules) <= set(loaded)
    assert not set(unwanted) & set(loaded)
    assert took < seconds


ALL = """
import pkgutil, sys, detectime
sys.path.insert(0, "")
for module in pkgutil.walk_packages(detectime.__path__, "detectime.", onerror=lambda _: None):
    if not module.name.endswith("__main__"):
        try:
            __import__(module.name)
        except ImportError as error:
            print(error)
print(len([name for name in sys.modules if name.startswith("detectime")]))
"""


def test_a_file_of_the_callers_does_not_stand_in_for_one_of_ours(tmp_path: Path) -> None:
    """`definitions` is for notebooks of 2021 alone: whoever has a file of that name keeps it."""
    (tmp_path / "definitions.py").write_text("raise SystemExit('the definitions of somebody else')")
    command = [sys.executable, "-c", ALL]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 40
