"""The peers, loops in processes of their own: a plain decode, and MediaPipe 0.10, which needs its own environment."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detectime import paths

PINNED = "mediapipe==0.10.21"  # the last that brings its models; it needs Python 3.12 or older
_ENVIRONMENT = paths.ROOT_DIR / ".venv-mediapipe"
_HERE = Path(__file__).parent


class Loop:
    """A loop in a process that waits for orders."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def time(self, folder: Path, names: Sequence[str]) -> float:
        """CPU seconds of a pass over files: all that the loop does."""
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
            raise RuntimeError(f"{self._process.args!r} ended with status {self._process.wait()}")
        return json.loads(answer)


def decode() -> contextlib.AbstractContextManager[Loop]:
    """Start a loop that decodes and does nothing else."""
    return _loop(Path(sys.executable), "decode_loop.py")


def mediapipe() -> contextlib.AbstractContextManager[Loop]:
    """Start MediaPipe's loop; its environment is made the first time (1 GB).

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
    return _loop(python, "mediapipe_loop.py")


@contextlib.contextmanager
def _loop(python: Path, script: str) -> Iterator[Loop]:
    process = subprocess.Popen(
        [str(python), str(_HERE / script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Loop(process)
    finally:
        process.kill()
        process.wait()
