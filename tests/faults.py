"""Helpers for tests of runs: small frames, sources with real faults, an engine without detectors, and processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from detectime import config as configuration
from detectime import runs
from detectime.config import Config
from detectime.detection import run
from detectime.detection.engines.contract import LostShard, Shard, ShardQueue
from detectime.detection.worker import make_row_without_boxes
from detectime.detectors.registry import Chosen
from detectime.images import RGB
from detectime.notes import Note
from detectime.schema import DETECTIONS
from detectime.sources.contract import Source
from detectime.sources.folder import FolderSource

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

COUNT = 60
FAULTS = ("die", "odd", "leave", "sleep", "spin", "hold", "freeze", "choke", "raise", "slow", "chat", "eat")


@dataclass(frozen=True)
class GreyFrame:
    """A lazy frame that breaks its contract: its pixels have one channel, on which detectors raise."""

    width: int = 8
    height: int = 8
    orientation: int = 1
    content: str = "a content"

    def decode(self) -> RGB:
        return np.zeros((8, 8), np.uint8)


@dataclass(frozen=True)
class FaultyFolder(FolderSource):
    """A folder in which a frame's name says which fault strikes the worker that opens it.

    The name is ``video/<fault>_<number>.jpg``.

    Parameters
    ----------
    journal
        A folder in which each worker keeps a file named after its process id, with the frame it is at.
    once
        Each fault strikes only once (needs `journal`).
    struck
        No fault strikes any more, and each frame that is opened leaves a file of its name in `journal`.
    pause
        Seconds before each frame.
    """

    journal: str = ""
    once: bool = False
    struck: bool = False
    pause: float = 0.0

    def read_frames(self, frame_paths: Iterable[str], max_bytes: int | None = None) -> Iterator[tuple[str, Any]]:
        for frame_path, frame in super().read_frames(self._strike_at(frame_paths), max_bytes):
            if find_fault(frame_path) == "choke" and self._strikes(frame_path):
                yield frame_path, GreyFrame()
            else:
                yield frame_path, frame

    def _strike_at(self, frame_paths: Iterable[str]) -> Iterator[str]:
        for frame_path in frame_paths:
            if self.journal:
                Path(self.journal, str(os.getpid())).write_text(frame_path)
                if self.struck:
                    Path(self.journal, frame_path.replace("/", "-")).touch()
            time.sleep(self.pause)
            fault = find_fault(frame_path)
            if fault is not None and fault != "choke" and self._strikes(frame_path):
                strike(fault)
            yield frame_path

    def _strikes(self, frame_path: str) -> bool:
        if self.struck:
            return False
        if not self.once:
            return True
        mark = Path(self.journal, "struck-" + frame_path.replace("/", "-"))
        if mark.exists():
            return False
        mark.touch()
        return True


def find_fault(frame_path: str) -> str | None:
    """Return the fault that a frame's name asks for, or None."""
    name = frame_path.rpartition("/")[2].partition("_")[0]
    return name if name in FAULTS else None


def strike(fault: str) -> None:
    """Strike this process with a fault."""
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "odd":
        os.kill(os.getpid(), 37)  # a signal without a name
    elif fault == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "hold":
        re.match("(a|a)*b", "a" * 60)  # in C, and holds the GIL
    elif fault == "chat":
        os.write(1, b"chatter\n" * 1_000_000)
    elif fault == "leave":
        print("the library gave up", file=sys.stderr, flush=True)
        os._exit(7)
    elif fault == "sleep":
        time.sleep(3600)
    elif fault == "spin":
        while True:
            pass
    elif fault == "raise":
        raise RuntimeError("the source is broken")
    elif fault == "eat":
        large = b"x" * 400_000_000
        del large
    elif fault == "slow":
        time.sleep(0.5)


@dataclass(frozen=True)
class ReportingFolder(FolderSource):
    """A folder whose worker describes itself in ``told.json``: its `sys.path`, threads and times (seconds)."""

    journal: str = ""

    def read_frames(self, frame_paths: Iterable[str], max_bytes: int | None = None) -> Iterator[tuple[str, Any]]:
        wall, processor = time.monotonic(), time.process_time()
        yield from super().read_frames(frame_paths, max_bytes)
        told = {
            "path": sys.path,
            "cv2": cv2.getNumThreads(),
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "wall": time.monotonic() - wall,
            "processor": time.process_time() - processor,
        }
        Path(self.journal, "told.json").write_text(json.dumps(told))


@dataclass(frozen=True)
class UnsendableFolder(FolderSource):
    """A source that cannot be pickled."""

    handle: Any = None


def make_unsendable(root: str) -> UnsendableFolder:
    """Make a source that cannot be pickled."""
    return UnsendableFolder(root, handle=threading.Lock())


@dataclass(frozen=True)
class UnreceivableFolder(FolderSource):
    """A source that can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, (self.root,)


def _refuse(root: str) -> None:
    raise RuntimeError(f"{root} is not for workers")


@dataclass(frozen=True)
class ImaginaryFolder(FolderSource):
    """A folder that lists 2000 frames, all of them empty files: for engines that read no frame."""

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        return ((name, f"stamp of {name}") for name in name_frames(2000))

    def read_frames(self, frame_paths: Iterable[str], max_bytes: int | None = None) -> Iterator[tuple[str, Any]]:
        return ((frame_path, b"") for frame_path in frame_paths)


def make_frames(folder: Path, names: Sequence[str], size: tuple[int, int] = (96, 72)) -> list[str]:
    """Write a different small JPEG for each name; return the names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        pixels = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(path), pixels)
    return list(names)


def name_frames(count: int, **faults: Sequence[int]) -> list[str]:
    """Name `count` frames; `faults` gives the positions of faults: ``name_frames(9, die=[4])``."""
    kinds = {position: fault for fault, positions in faults.items() for position in positions}
    return [f"video_{i % 3}/{kinds.get(i, 'frame')}_{i:04d}.jpg" for i in range(count)]


NAMES = name_frames(COUNT)
"""The frames of the fixture `images`."""


def tabulate_frames(frame_paths: Sequence[str], there: Iterable[str] | None = None) -> pd.DataFrame:
    """Make a frame table of these frames, all wanted; those in `there` (None: all) are on disk."""
    on_disk = set(frame_paths if there is None else there)
    return pd.DataFrame(
        {
            "frame_path": list(frame_paths),
            "video_name": [name.rpartition("/")[0] for name in frame_paths],
            "frame_id": range(len(frame_paths)),
            "class_name": "stop",
            "label": 1,
            "on_disk": [name in on_disk for name in frame_paths],
            "wanted": True,
        }
    )


def make_config(**parameters: Any) -> Config:
    """Load the project's configuration with these parameters."""
    return configuration.load_config(None, parameters)


def make_row(frame_path: str, missing: bool = False) -> dict[str, Any]:
    """Make a row of the detections table that depends only on the frame's name."""
    if missing:
        return make_row_without_boxes(frame_path, "missing", "gone")
    corner = zlib.crc32(frame_path.encode()) % 1000
    box = {"x1": corner, "y1": 1.5, "x2": corner + 20, "y2": 30.25, "score": 0.75}
    count = corner % 3
    return {
        "frame_path": frame_path,
        "content": f"{corner}-{zlib.crc32(frame_path.encode()):08x}",
        "outcome": "ok",
        "error": None,
        "width": 2000,
        "height": 480,
        "faces": [{**box, "detector": "retinaface", "stage": "frame"}],
        "hands": [{**box, "detector": "mediapipe", "stage": "near"}] * count,
        "landmarks": [None] * count,
        "presence": [0.5] * count,
        "handedness": [None] * count,
        "proposal": [box] * count,
        "crop_hash": [zlib.crc32(frame_path.encode()).to_bytes(32)] * count,
    }


class InstantEngine:
    """An engine that opens no frame, returns rows of `make_row`, and records its shards in `asked`.

    Parameters
    ----------
    stop_after
        Number of shards after which it raises KeyboardInterrupt.
    loses
        Frames whose worker dies.
    knows
        Whether the frame at which a worker died is known.
    seed
        Results come in random order, with this seed. None: in the order of the shards.
    missing
        Frames that do not exist.
    """

    def __init__(
        self,
        stop_after: int | None = None,
        loses: Iterable[str] = (),
        knows: Callable[[], bool] = lambda: True,
        seed: int | None = None,
        missing: Iterable[str] = (),
    ) -> None:
        self.stop_after = stop_after
        self.loses = set(loses)
        self.knows = knows
        self.random = None if seed is None else np.random.default_rng(seed)
        self.missing = set(missing)
        self.asked: list[Shard] = []

    def __call__(
        self, shards: ShardQueue, chosen: Chosen, source: Source, settings: configuration.RunConfig
    ) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
        shards.share_among(settings.workers or 1)
        waiting: list[Shard] = []
        while shards or waiting:
            while shards and (self.random is None or len(waiting) < 4):
                waiting.append(shards.popleft())
                if self.random is None:
                    break
            shard = waiting.pop(0 if self.random is None else int(self.random.integers(len(waiting))))
            self.asked.append(shard)
            if self.stop_after is not None and len(self.asked) > self.stop_after:
                raise KeyboardInterrupt
            fatal = next((position for position, name in enumerate(shard) if name in self.loses), None)
            if fatal is None:
                rows = [make_row(name, name in self.missing) for name in shard]
                yield shard, pa.Table.from_pylist(rows, schema=DETECTIONS)
            else:
                yield shard, LostShard("the worker died", fatal if self.knows() else None)

    @property
    def frames(self) -> list[str]:
        """All frames of the shards so far, in order, repetitions included."""
        return [name for shard in self.asked for name in shard]


def list_stored_files(output: Path) -> set[str]:
    """List the files in a run's folder, without the lock."""
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()} - {".lock"}


def read_manifest(output: Path) -> dict[str, Any]:
    """Read the ``run.json`` of a run."""
    content: dict[str, Any] = json.loads((output / "run.json").read_text())
    return content


def list_notes(output: Path, kind: str) -> list[Note]:
    """List the notes of one kind of a finished run."""
    return [note for note in runs.open_run(output).notes if note.kind == kind]


def refuse_work(*_: Any) -> Any:
    """Be an engine that must not be called."""
    raise AssertionError("the engine was called")


FINISHED = {"run.json", "frames.parquet", "detections.parquet"}
"""The files of a finished run before it is paired."""


def count_saved_rows(output: Path) -> int:
    """Count the rows in the complete shards of a running run."""
    return sum(pq.ParquetFile(path).metadata.num_rows for path in sorted((output / "shards").glob("0*.parquet")))


def list_children(parent: int | None = None) -> list[int]:
    """List the process ids of the children of a process (None: this one), zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == (parent or os.getpid()):
                    found.append(int(entry.name))
    return sorted(found)


def read_process_state(process: int) -> str:
    """Return the state of a process: R, S, T, Z…, or "" if it does not exist."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def list_workers(journal: Path) -> list[int]:
    """List the living workers that have opened a frame."""
    return [
        int(name) for name in os.listdir(journal) if name.isdigit() and read_process_state(int(name)) not in ("", "Z")
    ]


def wait_until(condition: Callable[[], Any], limit: float = 60.0) -> Any:
    """Return the value of `condition` as soon as it is true; fail after `limit` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"did not happen within {limit:g} s")


_SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import faults
from detectime.detection import run
print("started", flush=True)
found = run.detect_frames(
    faults.tabulate_frames(faults.name_frames({count}, **{faults!r})),
    faults.FaultyFolder({images!r}, journal={journal!r}, pause={pause!r}),
    faults.make_config(**{parameters!r}),
    {output!r},
)
print("rows", found.num_rows, flush=True)
"""


@contextlib.contextmanager
def start_driver(
    images: Path,
    output: Path,
    count: int,
    journal: Path,
    pause: float = 0.0,
    faults: dict[str, list[int]] | None = None,
    **parameters: Any,
) -> Iterator[subprocess.Popen[str]]:
    """Start a run in a process of its own, the leader of its process group: a script without a main guard."""
    script = _SCRIPT.format(
        here=str(HERE),
        count=count,
        faults=faults or {},
        images=str(images),
        journal=str(journal),
        pause=pause,
        parameters=parameters,
        output=str(output),
    )
    path = journal.parent / "driver.py"
    path.write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=copy_bare_environment(),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def copy_bare_environment() -> dict[str, str]:
    """Return the environment without Python's own variables, such as PYTHONPATH."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def run_uninterrupted(images: Path, frame_paths: Sequence[str], output: Path, **parameters: Any) -> pa.Table:
    """Run in this process, without faults, to the end."""
    return run.detect_frames(
        tabulate_frames(frame_paths), FolderSource(str(images)), make_config(**parameters), str(output)
    )
