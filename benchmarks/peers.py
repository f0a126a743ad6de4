"""The peer, MediaPipe 0.10, in an environment of its own: it cannot share one with what this package needs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import definitions

PINNED = "mediapipe==0.10.21"  # the last that brings its models; it needs Python 3.12 or older
_ENVIRONMENT = definitions.ROOT_DIR / ".venv-mediapipe"
_LOOP = Path(__file__).with_name("mediapipe_loop.py")


class MediaPipe:
    """MediaPipe's loop in a process that waits for orders."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def time(self, folder: Path, names: Sequence[str]) -> float:
        """CPU seconds of a pass over files: read them, find faces, find hands."""
        return float(self._ask({"time": str(folder), "names": list(names)}))

    def find(self, folder: Path, names: Sequence[str]) -> list[list[float] | None]:
        """Box of the best hand of each file."""
        found: list[list[float] | None] = self._ask({"find": str(folder), "names": list(names)})
        return found

    def _ask(self, order: dict[str, object]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"MediaPipe's loop ended with status {self._process.wait()}")
        return json.loads(answer)


@contextlib.contextmanager
def mediapipe() -> Iterator[MediaPipe]:
    """Start the loop; its environment is made the first time (1 GB).

    Raises
    ------
    subprocess.CalledProcessError
        If the environment cannot be made.
    """
    python = _ENVIRONMENT / "bin" / "python"
    if not (_ENVIRONMENT / "ready").is_file():
        print(f"making {_ENVIRONMENT.name} with {PINNED} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PINNED], check=True)
        (_ENVIRONMENT / "ready").touch()
    process = subprocess.Popen(
        [str(python), str(_LOOP)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield MediaPipe(process)
    finally:
        process.kill()
        process.wait()
