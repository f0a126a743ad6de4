"""The peers, each a loop in its own process: plain decoding, and MediaPipe 0.10, which needs its own environment."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import definitions

PINNED = "mediapipe==0.10.21"  # the last release that includes its models; needs Python 3.12 or older
_ENVIRONMENT = definitions.ROOT_DIR / ".venv-mediapipe"
_HERE = Path(__file__).parent


class Loop:
    """A loop in a process that waits for orders."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def time(self, folder: Path, names: Sequence[str]) -> float:
        """Return the CPU seconds of one pass over files."""
        return float(self._ask({"time": str(folder), "names": list(names)}))

    def find_best_hands(self, folder: Path, names: Sequence[str]) -> list[list[float] | None]:
        """Return the box of the best hand of each file, or None."""
        found: list[list[float] | None] = self._ask({"find": str(folder), "names": list(names)})
        return found

    def _ask(self, order: dict[str, object]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} exited with status {self._process.wait()}")
        return json.loads(answer)


def start_decode_loop() -> contextlib.AbstractContextManager[Loop]:
    """Start a loop that only decodes."""
    return _start_loop(Path(sys.executable), "decode_loop.py")


def start_mediapipe() -> contextlib.AbstractContextManager[Loop]:
    """Start the MediaPipe loop; the first call creates its environment (1 GB).

    Raises
    ------
    subprocess.CalledProcessError
        If the environment cannot be created.
    """
    python = _ENVIRONMENT / "bin" / "python"
    if not (_ENVIRONMENT / "ready").is_file():
        print(f"creating {_ENVIRONMENT.name} with {PINNED} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PINNED], check=True)
        (_ENVIRONMENT / "ready").touch()
    return _start_loop(python, "mediapipe_loop.py")


@contextlib.contextmanager
def _start_loop(python: Path, script: str) -> Iterator[Loop]:
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
