"""Pictures of frames for the widgets: JPEGs that worker processes make, the latest wishes first.

A frame is never decoded in the kernel: one that kills or delays its decoder costs a process, and only its own picture.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait

import numpy as np
import pyarrow as pa
import simplejpeg

from detectime.detection.engines.contract import EngineError, Limits, LostShard
from detectime.detection.engines.worker_process import WorkerProcess, WorkerReady
from detectime.errors import DocumentedError
from detectime.images import RGB, shrink_image
from detectime.report.thumbnail_worker import Cut, ThumbnailTask, ThumbnailWorker
from detectime.runs import FinishedRun
from detectime.storage import urls

LARGE = 1280
"""Longer side of a picture of one frame, in pixels, at most."""

SMALL = 256
"""Longer side of a picture in a grid or a strip, in pixels, at most."""

_QUALITY = 85
_MOST_BYTES = 2**26  # of a picture; a JPEG of 1,280 pixels has no more than a few megabytes
_CACHED = 96 * 2**20  # bytes of pictures that are kept
_WORKERS = 2  # so that one frame that hangs its decoder does not stop the others
_BATCH = 8  # small pictures that a worker makes at a time: neighbours in a video are decoded together
_FRAME_TIMEOUT = 10.0  # seconds; somebody waits
_IDLE = 30.0  # seconds after which a process without work ends
_LONGEST_WAIT = 3600.0  # seconds; the system accepts no infinite wait
_LIMITS = Limits(start=60.0)


@dataclass(frozen=True)
class Wish:
    """A picture that somebody wants to see.

    Attributes
    ----------
    row
        The frame, as a number that whoever asks chose.
    side
        Longer side of the picture in pixels, at most.
    """

    row: int
    side: int


@dataclass(frozen=True)
class Picture:
    """What became of a wish: a JPEG, or the reason why there is none."""

    jpeg: bytes | None
    fault: str | None = None


class FramePictures:
    """Makes pictures of the frames of a run, in threads that each have a worker process.

    Parameters
    ----------
    run
        The run: where its frames are and how they are read.
    make_task
        Returns what has to be known of a frame, by its row, or a sentence why it cannot be shown.
    deliver
        Called, in any thread, with each wish and its picture.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> pictures = FramePictures(open_run("output"), make_task, print)  # doctest: +SKIP
    >>> pictures.request([Wish(0, LARGE)])  # doctest: +SKIP
    """

    def __init__(
        self,
        run: FinishedRun,
        make_task: Callable[[Wish], ThumbnailTask | str],
        deliver: Callable[[Wish, Picture], None],
    ) -> None:
        self._run, self._make_task, self._deliver = run, make_task, deliver
        self._changed = threading.Condition()
        self._wishes: deque[Wish] = deque()
        self._at_work: set[Wish] = set()
        self._alone: set[Wish] = set()  # wishes that shared a batch with one that was lost
        self._cache: OrderedDict[Wish, Picture] = OrderedDict()
        self._cached = 0
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def request(self, wishes: Sequence[Wish]) -> None:
        """Replace the wishes that nobody works on yet. The first one is the most urgent."""
        wanted = list(dict.fromkeys(wishes))
        with self._changed:
            known = {wish: self._recall(wish) for wish in wanted}
            self._wishes = deque(wish for wish in wanted if known[wish] is None and wish not in self._at_work)
            self._start_threads()
            self._changed.notify_all()
        for wish, picture in known.items():
            if picture is not None:
                self._deliver(wish, picture)

    def close(self) -> None:
        """End the threads and their processes. Nothing is delivered after the pictures that are being made."""
        with self._changed:
            self._is_closed = True
            self._wishes.clear()
            self._changed.notify_all()

    def _recall(self, wish: Wish) -> Picture | None:
        """Return a picture that was made; its last use is now."""
        picture = self._cache.get(wish)
        if picture is not None:
            self._cache.move_to_end(wish)
        return picture

    def _keep(self, wish: Wish, picture: Picture) -> None:
        if picture.jpeg is None:  # the next look may find that the cause is gone
            return
        self._cached += len(picture.jpeg) - len((self._cache.pop(wish, None) or Picture(b"")).jpeg or b"")
        self._cache[wish] = picture
        while self._cached > _CACHED and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cached -= len(oldest.jpeg or b"")

    def _start_threads(self) -> None:
        for _ in range(min(_WORKERS, len(self._wishes)) - len(self._threads)):
            thread = threading.Thread(target=self._serve, name="detectime pictures", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _take_batch(self) -> list[Wish]:
        """Wait for wishes, and take the first ones; none if there were none for long, or this is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._wishes or self._is_closed, timeout=_IDLE)
            batch: list[Wish] = []
            while self._wishes and len(batch) < _BATCH:
                is_alone = self._wishes[0].side > SMALL or self._wishes[0] in self._alone
                if batch and is_alone:
                    break
                batch.append(self._wishes.popleft())
                if is_alone:
                    break
            self._at_work.update(batch)
            if not batch:
                self._threads.remove(threading.current_thread())
            return batch

    def _finish(self, wish: Wish, picture: Picture) -> None:
        with self._changed:
            self._at_work.discard(wish)
            self._alone.discard(wish)
            self._keep(wish, picture)
            is_wanted = not self._is_closed
        if is_wanted:
            self._deliver(wish, picture)

    def _return(self, wishes: Sequence[Wish]) -> None:
        """Try wishes again, each by itself: one of their batch harmed its decoder."""
        with self._changed:
            self._at_work.difference_update(wishes)
            self._alone.update(wishes)
            self._wishes.extendleft(reversed(wishes))

    def _serve(self) -> None:
        """Make pictures until there were no wishes for long. Runs in a thread."""
        worker: WorkerProcess | None = None
        try:
            while batch := self._take_batch():
                try:
                    worker = self._make_batch(worker, batch)
                except Exception as error:  # whatever it is, a thread that dies silently would leave wishes unanswered
                    fault = str(error) if isinstance(error, DocumentedError) else f"{type(error).__name__}: {error}"
                    for wish in batch:
                        self._finish(wish, Picture(None, f"The picture cannot be made: {fault}"))
        finally:
            if worker is not None:
                worker.stop()

    def _make_batch(self, worker: WorkerProcess | None, batch: Sequence[Wish]) -> WorkerProcess | None:
        """Make the pictures of a batch; return the process if it is of further use."""
        found = {wish: self._make_task(wish) for wish in batch}
        for wish, fault in found.items():
            if isinstance(fault, str):
                self._finish(wish, Picture(None, fault))
        tasks = {wish: task for wish, task in found.items() if isinstance(task, ThumbnailTask)}
        if not tasks:
            return worker
        if worker is None:
            worker = _start_worker(self._run)
        result = _run_shard(worker, tuple(tasks.values()))
        worker.shard = ()
        wishes = list(tasks)
        if isinstance(result, LostShard):
            at = 0 if len(wishes) == 1 else result.at
            if at is not None:
                self._finish(wishes[at], Picture(None, f"The frame cannot be shown: reading it {result.reason}."))
            self._return([wish for k, wish in enumerate(wishes) if k != at])
        else:
            for wish, made in zip(wishes, result.to_pylist(), strict=True):
                fault = made["fault"]
                picture = (
                    Picture(made["pictures"][0])
                    if fault is None
                    else Picture(None, f"The frame cannot be shown: {_explain_move(self._run) or fault}.")
                )
                self._finish(wish, picture)
        if isinstance(result, LostShard) or worker.is_worn:
            worker.stop()
            return None
        return worker


def make_cut(side: int) -> Cut:
    """Return the picture of a whole frame with this longer side, in pixels, at most.

    Examples
    --------
    >>> make_cut(256).side
    256
    """
    return Cut(side, _MOST_BYTES)


def encode_jpeg(pixels: RGB, side: int, most_bytes: int) -> bytes:
    """Encode pixels as JPEG, ten times as fast as WebP: see `thumbnails.Encoder`; the number of bytes has no limit.

    Examples
    --------
    >>> encode_jpeg(np.zeros((90, 160, 3), np.uint8), 80, 10**6)[:2]
    b'\\xff\\xd8'
    """
    shrunk = shrink_image(pixels, side) if max(pixels.shape[:2]) > side else pixels
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(shrunk), quality=_QUALITY, colorsubsampling="420")
    return encoded


def _explain_move(run: FinishedRun) -> str:
    """Say what to do if the place of all frames is gone, as after a run was copied; empty if it is there."""
    images = run.config.data.images
    if urls.is_remote(images) or os.path.exists(urls.strip_file_scheme(images)):
        return ""
    return (
        f"there is nothing at {images}. If the images are elsewhere now: "
        f"`detectime relocate {shlex.quote(str(run.store))} --images DIR`, then open the run again"
    )


def _start_worker(run: FinishedRun) -> WorkerProcess:
    reading = run.config.detection
    make_worker = partial(ThumbnailWorker, reading.exif, reading.max_pixels, encode_jpeg)
    worker = WorkerProcess(make_worker, run.source, min(_FRAME_TIMEOUT, run.config.run.frame_timeout), _LIMITS)
    event = wait_for_event(worker)
    if not isinstance(event, WorkerReady):
        worker.stop()
        raise EngineError(event.reason if isinstance(event, LostShard) else "the worker did not start")
    return worker


def _run_shard(worker: WorkerProcess, tasks: tuple[ThumbnailTask, ...]) -> pa.Table | LostShard:
    worker.give(tasks)
    event = wait_for_event(worker)
    assert not isinstance(event, WorkerReady)
    return event


def wait_for_event(worker: WorkerProcess) -> WorkerReady | pa.Table | LostShard:
    """Wait until a process is ready, has finished its shard, or is of no more use."""
    while True:
        patience = max(0.0, worker.deadline - time.monotonic())
        is_readable = wait([worker.pipe], timeout=min(patience, _LONGEST_WAIT))
        event = worker.read_event() if is_readable else worker.check_deadline()
        if event is not None:
            return event
