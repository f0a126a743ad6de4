"""Small pictures of frames for a page, made by worker processes: a frame that harms its decoder costs only itself."""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from detectime.detection.engines import local
from detectime.detection.engines.contract import EngineError, LostShard, Shard
from detectime.report.thumbnail_worker import DATA_URI, Cut, ThumbnailTask, ThumbnailWorker
from detectime.runs import FinishedRun
from detectime.sources.contract import SourceError

_FRAMES_PER_WORKER = 60  # starting a process takes as long as reading about so many frames
_SHARD_FRAMES = 16
_FRAME_TIMEOUT = 20.0  # seconds; a run may wait longer, somebody who looks at a page does not
_MOST_LOSSES = 12  # workers: the rest of the frames is given up after that


@dataclass(frozen=True)
class Thumbnails:
    """What became of a frame.

    Attributes
    ----------
    pictures
        Data URIs, by cut; empty if there is a fault.
    size
        Width and height of the frame in pixels; None if there is a fault.
    fault
        Why there are no pictures.
    """

    pictures: Mapping[Cut, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    fault: str | None = None


def make_thumbnails(run: FinishedRun, tasks: Sequence[ThumbnailTask]) -> dict[str, Thumbnails]:
    """Read frames, each once, in the order of their names, as files hold them, and make their pictures.

    Parameters
    ----------
    run
        What `runs.open_run` returned; its configuration says how frames are read.
    tasks
        One per frame.

    Returns
    -------
    dict
        By `frame_path`. A frame that is gone, cannot be decoded, is not the one of the detection, or harms or delays
        its decoder has a fault; so has every frame if the source cannot be opened.
    """
    ordered = sorted(tasks, key=lambda task: task.frame_path)
    if not ordered:
        return {}
    queue = _TaskQueue(ordered)
    try:
        _run_workers(run, queue, min(local.count_available_cores(), 1 + len(tasks) // _FRAMES_PER_WORKER))
    except (SourceError, EngineError) as error:
        queue.give_up(str(error))
    return queue.made


def _run_workers(run: FinishedRun, queue: _TaskQueue, workers: int) -> None:
    reading = run.config.detection
    make_worker = partial(ThumbnailWorker, reading.exif, reading.max_pixels)
    patience = min(_FRAME_TIMEOUT, run.config.run.frame_timeout)
    with closing(local.run_workers(queue, make_worker, run.source, workers, patience)) as results:  # type: ignore[type-var]
        for tasks, result in results:
            if isinstance(result, LostShard):
                queue.return_lost(tasks, result)
            else:
                queue.finish(tasks, result)


class _TaskQueue:
    """The frames that no worker has taken yet, in order, and what became of the others: see `contract.ShardQueue`."""

    def __init__(self, tasks: Sequence[ThumbnailTask]) -> None:
        self._tasks, self._losses = tasks, 0
        self._shards: deque[Shard] = deque()
        self.made: dict[str, Thumbnails] = {}

    def __len__(self) -> int:
        return len(self._shards)

    def share_among(self, workers: int) -> None:
        """Cut the frames into shards of neighbours, as many for each worker."""
        length = max(1, min(_SHARD_FRAMES, math.ceil(len(self._tasks) / workers)))
        starts = range(0, len(self._tasks), length)
        self._shards.extend(tuple(self._tasks[start : start + length]) for start in starts)

    def popleft(self) -> Shard:
        """Return the next shard."""
        return self._shards.popleft()

    def finish(self, tasks: Sequence[ThumbnailTask], result: pa.Table) -> None:
        """Take what a worker made of a shard."""
        for task, row in zip(tasks, result.to_pylist(), strict=True):
            if row["fault"] is not None:
                self._note_fault(task, row["fault"])
                continue
            uris = [f"{DATA_URI}{base64.b64encode(picture).decode()}" for picture in row["pictures"]]
            pictures = dict(zip(task.cuts, uris, strict=True))
            self.made[task.frame_path] = Thumbnails(pictures, tuple(row["size"]))

    def return_lost(self, tasks: Shard, lost: LostShard) -> None:
        """Blame the frame at which the worker was; the others are tried again, one by one if that is unknown."""
        self._losses += 1
        at = 0 if len(tasks) == 1 else lost.at
        if at is None:
            rest = [(task,) for task in tasks]
        else:
            self._note_fault(tasks[at], f"reading it failed: {lost.reason}")
            rest = [part for part in (tasks[:at], tasks[at + 1 :]) if part]
        self._shards.extend(rest)
        if self._losses >= _MOST_LOSSES:
            self._shards.clear()
            self.give_up(f"not read, since {self._losses} frames before it failed: {lost.reason}")

    def give_up(self, reason: str) -> None:
        """Give a fault to each frame of which nothing is known yet."""
        for task in self._tasks:
            if task.frame_path not in self.made:
                self._note_fault(task, reason)

    def _note_fault(self, task: ThumbnailTask, reason: str) -> None:
        self.made[task.frame_path] = Thumbnails(fault=reason)
