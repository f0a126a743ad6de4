"""The modules that an import loads, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from skips import EXTRAS

HEAVY = ["torch", "tensorflow", "jax", "ray", "av", "cv2", "onnxruntime", "pandas", "matplotlib"]
FOR_NOTEBOOKS = ["pandas", "matplotlib", "seaborn", "IPython", "papermill", "torch", "tensorflow", "ray"]
SCRIPT = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        pytest.param(["detectime"], HEAVY, id="the package"),
        pytest.param(["detectime.detection.worker", "detectime.detection.engines.local"], FOR_NOTEBOOKS, id="a worker"),
        pytest.param(["detectime.report.thumbnail_worker"], FOR_NOTEBOOKS, id="a worker of the report"),
    ],
)
def test_an_import_loads_no_heavy_modules(modules: list[str], unwanted: list[str]) -> None:
    command = [sys.executable, "-c", SCRIPT, *modules]
    loaded = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert set(modules) <= set(loaded)
    assert not set(unwanted) & set(loaded)


ALL = """
import pkgutil, sys, detectime
sys.path.insert(0, "")
for module in pkgutil.walk_packages(detectime.__path__, "detectime.", onerror=lambda _: None):
    if not module.name.endswith("__main__"):
        try:
            __import__(module.name)
        except ModuleNotFoundError as error:
            print("lacks", error.name)
print(len([name for name in sys.modules if name.startswith("detectime")]))
"""


def test_no_module_imports_the_users_definitions(tmp_path: Path) -> None:
    """Only notebooks of 2021 import `definitions`: a user's own file of that name must not be run."""
    (tmp_path / "definitions.py").write_text("raise SystemExit('the definitions of the user')")
    command = [sys.executable, "-c", ALL]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lacking, count = done.stdout.splitlines()
    assert {line.removeprefix("lacks ").partition(".")[0] for line in lacking} <= set(EXTRAS)
    assert int(count) > 40
