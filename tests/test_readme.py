"""The README's code and commands are those of the project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import definitions
from detectime import paths

README = (definitions.ROOT_DIR / "README.md").read_text()


@pytest.mark.slow
def test_the_code_runs_as_a_plain_script(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    os.symlink(paths.SAMPLE / "TRAIN_DATA", tmp_path / "DIR")
    os.symlink(paths.SAMPLE / "train.csv", tmp_path / "train.csv")
    (tmp_path / "script.py").write_text(code)
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, timeout=120)
    assert len(json.loads((tmp_path / "out" / "hands.json").read_text())) > 90


def test_commands_and_files_are_there() -> None:
    listed = subprocess.run(
        ["make", "help"], cwd=definitions.ROOT_DIR, capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"make ([a-z]+)", README))
    assert targets
    assert targets <= set(re.findall(r"^([a-z]+) ", listed, re.MULTILINE))
    files = re.findall(r"(?:benchmarks|docs|notebooks|tools)/[\w.]+\.\w+", README)
    assert files
    assert [name for name in files if not (definitions.ROOT_DIR / name).is_file()] == []
