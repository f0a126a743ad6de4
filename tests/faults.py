"""What the tests of runs share: small frames, a source with real faults, an engine that costs nothing, processes."""

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
import pytest

from detectime import config as configuration
from detectime.config import Config
from detectime.detection import run
from detectime.detection.engines.contract import LostShard, Shard, ShardQueue
from detectime.detection.worker import make_row_without_boxes
from detectime.detectors.registry import Chosen
from detectime.images import RGB, EncodedImage, UnreadableImageError
from detectime.schema import DETECTIONS
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.folder import FolderSource

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

FAULTS = ("die", "odd", "leave", "sleep", "spin", "hold", "freeze", "choke", "raise", "slow", "chat", "eat")


class Choking(EncodedImage):
    """A picture of no pixels: no detector can look at it."""

    def __init__(self) -> None:
        self.width = self.height = 0
        self.content = "a content"
        self.orientation = None

    def pixels(self, side: int | None = None) -> RGB:
        return np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Faulty(FolderSource):
    """A folder where the name of a frame says what goes wrong with it, in the worker that opens it.

    The name is ``video/<fault>_<number>.jpg``; what is after the fault is no matter. With ``journal``, a folder, each
    worker keeps a file of its process id there, with the frame it is at; with ``once``, a fault strikes one time only;
    with ``struck`` it strikes no more, and each frame that is opened leaves a file of its name.
    """

    journal: str = ""
    once: bool = False
    struck: bool = False
    pause: float = 0.0

    def open(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
        for frame_path, frame in super().open(self._faults(frame_paths)):
            if fault_of(frame_path) == "choke" and self._strikes(frame_path):
                yield frame_path, Choking()
            else:
                yield frame_path, frame

    def _faults(self, frame_paths: Iterable[str]) -> Iterator[str]:
        for frame_path in frame_paths:
            if self.journal:
                Path(self.journal, str(os.getpid())).write_text(frame_path)
                if self.struck:
                    Path(self.journal, frame_path.replace("/", "-")).touch()
            time.sleep(self.pause)
            fault = fault_of(frame_path)
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


def fault_of(frame_path: str) -> str | None:
    """Return the fault that a frame's name asks for."""
    name = frame_path.rpartition("/")[2].partition("_")[0]
    return name if name in FAULTS else None


def strike(fault: str) -> None:
    """Do what a fault is, to this process."""
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "odd":
        os.kill(os.getpid(), 37)  # a signal that has no name
    elif fault == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "hold":
        re.match("(a|a)*b", "a" * 60)  # in C, and no other thread gets a turn
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
class Telling(FolderSource):
    """A folder that has its worker tell about itself, in ``told.json``."""

    journal: str = ""

    def open(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
        wall, processor = time.monotonic(), time.process_time()
        yield from super().open(frame_paths)
        told = {
            "path": sys.path,
            "cv2": cv2.getNumThreads(),
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "wall": time.monotonic() - wall,
            "processor": time.process_time() - processor,
        }
        Path(self.journal, "told.json").write_text(json.dumps(told))


@dataclass(frozen=True)
class Unsendable(FolderSource):
    """A source that cannot be pickled."""

    handle: Any = None


def unsendable(root: str) -> Unsendable:
    return Unsendable(root, handle=threading.Lock())


@dataclass(frozen=True)
class Unreceivable(FolderSource):
    """A source that can be pickled, but not unpickled in another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, (self.root,)


def _refuse(root: str) -> None:
    raise RuntimeError(f"{root} is not for workers")


def make_frames(folder: Path, names: Sequence[str], size: tuple[int, int] = (96, 72)) -> list[str]:
    """Write a small JPEG for each name, no two alike; return the names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        pixels = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(path), pixels)
    return list(names)


def names(count: int, **faults: Sequence[int]) -> list[str]:
    """Names of `count` frames; `faults` gives the positions of those that have one: ``names(9, die=[4])``."""
    kinds = {position: fault for fault, positions in faults.items() for position in positions}
    return [f"video_{i % 3}/{kinds.get(i, 'frame')}_{i:04d}.jpg" for i in range(count)]


def table_of(frame_paths: Sequence[str], there: Iterable[str] | None = None) -> pd.DataFrame:
    """A frame table in which every frame is wanted."""
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


def settings(**parameters: Any) -> Config:
    """The project's configuration with these parameters."""
    return configuration.load_config(None, parameters)


def row(frame_path: str, missing: bool = False) -> dict[str, Any]:
    """A row that depends on the frame alone."""
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


class Instant:
    """An engine that looks at no image, and knows what it was asked for.

    Parameters
    ----------
    stop_after
        Shards, then Ctrl-C comes.
    loses
        Frames whose worker dies; `knows` says whether it is known at which frame.
    seed
        Results come in an order drawn with it; None: in the order of the shards.
    missing
        Frames that are not there.
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
                rows = [row(name, name in self.missing) for name in shard]
                yield shard, pa.Table.from_pylist(rows, schema=DETECTIONS)
            else:
                yield shard, LostShard("the worker died", fatal if self.knows() else None)

    @property
    def frames(self) -> list[str]:
        """Frames that were asked for, in order, each as often as it was."""
        return [name for shard in self.asked for name in shard]


def stored(output: Path) -> set[str]:
    """Names of all that lies in a run's folder, but for the lock."""
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()} - {".lock"}


FINISHED = {"run.json", "frames.parquet", "detections.parquet"}
"""What a finished run leaves in its folder, before it is paired."""


def saved_rows(output: Path) -> int:
    """How many rows the whole shards of a run hold, while it works."""
    import pyarrow.parquet as pq

    return sum(pq.ParquetFile(path).metadata.num_rows for path in sorted((output / "shards").glob("0*.parquet")))


def children(of: int | None = None) -> list[int]:
    """Process ids of the living children of a process, zombies too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == (of or os.getpid()):
                    found.append(int(entry.name))
    return sorted(found)


def state(process: int) -> str:
    """R, S, T, Z… or "" for a process that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def working(journal: Path) -> list[int]:
    """Workers that have opened a frame and live."""
    return [int(name) for name in os.listdir(journal) if name.isdigit() and state(int(name)) not in ("", "Z")]


def wait_until(condition: Callable[[], Any], limit: float = 20.0) -> Any:
    """Return what `condition` returns as soon as that is true."""
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
    faults.table_of(faults.names({count}, **{faults!r})),
    faults.Faulty({images!r}, journal={journal!r}, pause={pause!r}),
    faults.settings(**{parameters!r}),
    {output!r},
)
print("rows", found.num_rows, flush=True)
"""


@contextlib.contextmanager
def driver(
    images: Path,
    output: Path,
    count: int,
    journal: Path,
    pause: float = 0.0,
    faults: dict[str, list[int]] | None = None,
    **parameters: Any,
) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, the leader of its group; a plain script with no main guard."""
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
        env=bare_environment(),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def bare_environment() -> dict[str, str]:
    """The environment without what would tell Python where its modules are."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def uninterrupted(images: Path, frame_paths: Sequence[str], output: Path, **parameters: Any) -> pa.Table:
    """What a run finds that nothing disturbs."""
    return run.detect_frames(table_of(frame_paths), FolderSource(str(images)), settings(**parameters), str(output))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "small disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
