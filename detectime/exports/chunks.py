"""The pictures of an export cut into chunks: what a worker gets, and the record of what became of it.

The record of a chunk appears when all its pictures are there. An export that was killed goes on with the chunks that
have none, and with the frames that failed.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from detectime.boxes import Floats, Integers
from detectime.detection.engines.contract import LostShard
from detectime.exports.annotations import Collected
from detectime.exports.contract import ExportError, Format
from detectime.storage.store import Store

_RECORDS = ".progress"  # folder of the records
_CHUNK_FRAMES = 500
_CHUNK_PIXELS = 500_000_000  # of all frames of a chunk, whose encoded pictures are in memory at once
_LOST_WORKERS = 3  # that a chunk may lose before a frame of it is known to be the reason

RESULT = pa.schema([pa.field("failed", pa.string()), pa.field("pngs", pa.list_(pa.string()))])
"""What a worker returns of a chunk, one row per frame: why it has no picture, or null; and the names of its pictures
that are PNG files."""


@dataclass(frozen=True)
class FrameTask:
    """A frame whose pictures a worker writes.

    Attributes
    ----------
    frame_path, content, width, height
        The frame; its content at detection, None if unknown; its size as it is exported.
    images, objects
        Its rows of `ExportData.images`, and for each of them its rows of `ExportData.objects`.
    faces
        float64, shape (faces, 4): what is blurred.
    chunk, file
        The number of its chunk; the path of the file that holds all pictures of the chunk, empty if each has its own.
    """

    frame_path: str
    content: str | None
    width: int
    height: int
    images: list[dict[str, Any]]
    objects: list[list[dict[str, Any]]]
    faces: Floats
    chunk: int
    file: str


@dataclass
class Written:
    """What became of the pictures of an export.

    Attributes
    ----------
    failed
        Why a frame has no picture, by `frame_path`.
    pngs
        Names of the pictures that are PNG files; all others are JPEG files.
    """

    failed: dict[str, str]
    pngs: set[str]


class Chunks:
    """The chunks without a record, as a queue of the local engine: see `engines.contract.ShardQueue`.

    The frames that failed in an earlier call are tried again, if their source has them now.

    Parameters
    ----------
    collected, kind
        What is exported, and the format.
    store
        The folder of the export.
    read_contents
        Returns the present content of each frame, None if it cannot be read: see `sources.reading.read_contents`.

    Attributes
    ----------
    frames, pending
        The number of frames, and of those that a worker has still to write.
    written
        What became of the pictures so far.
    """

    def __init__(
        self,
        collected: Collected,
        kind: Format,
        store: Store,
        read_contents: Callable[[Sequence[str]], Iterable[tuple[str, str | None]]] = lambda frame_paths: (),
    ) -> None:
        self._collected, self._store, self._read_contents = collected, store, read_contents
        self._is_whole = kind.write_shard is not None  # a chunk is one file
        images, objects = collected.data.images, collected.data.objects
        self._image_starts = _find_starts(images["frame_path"].to_numpy())
        self._object_starts = np.searchsorted(objects["image"].to_numpy(), np.arange(len(images) + 1))
        self.frames = len(self._image_starts) - 1
        self._chunks = self._cut()
        self.files = self._name_files(kind)
        self.written = Written({}, set())
        self._kept: dict[int, dict[str, Any]] = {}  # records of chunks of which only failed frames are tried again
        done = self._read_records()
        self._numbers = deque(number for number in range(len(self._chunks)) if number not in done)
        self._returned: deque[tuple[FrameTask, ...]] = deque()
        self._lost: dict[int, dict[str, str]] = {}
        self._losses: Counter[int] = Counter()
        self.pending = sum(self._count_pending(number) for number in self._numbers)

    def __len__(self) -> int:
        return len(self._returned) + len(self._numbers)

    def share_among(self, workers: int) -> None:
        """Leave the chunks as they are, whatever the number of workers: files depend on them."""

    def popleft(self) -> tuple[Any, ...]:
        """Return the tasks of the next chunk."""
        return self._returned.popleft() if self._returned else self._make_tasks(self._numbers.popleft())

    def finish(self, tasks: Sequence[FrameTask], result: pa.Table) -> int:
        """Record what became of a chunk; return its number of frames."""
        reasons = zip(tasks, result["failed"].to_pylist(), strict=True)
        failed = {task.frame_path: reason for task, reason in reasons if reason is not None}
        pngs = [name for names in result["pngs"].to_pylist() for name in names]
        return self._record(tasks[0].chunk, failed, pngs)

    def return_lost(self, tasks: Sequence[FrameTask], lost: LostShard) -> int:
        """Put a chunk back whose worker died, without the frame that the worker was processing.

        Returns
        -------
        int
            The number of frames of the chunk if no other is left, otherwise 0.
        """
        number = tasks[0].chunk
        if lost.at is None:
            self._losses[number] += 1
            if self._losses[number] >= _LOST_WORKERS:
                raise ExportError(f"{tasks[0].frame_path!r} and frames after it cannot be exported: {lost.reason}")
            self._returned.append(tuple(tasks))
            return 0
        self._lost.setdefault(number, {})[tasks[lost.at].frame_path] = lost.reason
        rest = (*tasks[: lost.at], *tasks[lost.at + 1 :])
        if rest:
            self._returned.append(rest)
            return 0
        return self._record(number, {}, [])

    def _cut(self) -> list[Integers]:
        """Return the frames of each chunk: it lies in one part of the split."""
        images = self._collected.data.images.iloc[self._image_starts[:-1]]
        split = images["split"].to_numpy()
        pixels = (images["width"] * images["height"]).to_numpy(np.int64)
        return [
            chunk
            for part in self._collected.data.splits
            for chunk in _cut_frames(np.flatnonzero(split == part), pixels)
        ]

    def _name_files(self, kind: Format) -> list[str]:
        """Return the file of each chunk; empty texts if each picture has its own."""
        if kind.name_shard is None:
            return [""] * len(self._chunks)
        split = self._collected.data.images["split"].to_numpy()
        parts = [str(split[self._image_starts[chunk[0]]]) for chunk in self._chunks]
        counts, seen = Counter(parts), Counter[str]()
        names = []
        for part in parts:
            names.append(kind.name_shard(part, seen[part], counts[part]))
            seen[part] += 1
        return names

    def _make_tasks(self, number: int) -> tuple[FrameTask, ...]:
        frames = self._chunks[number]
        counts = self._image_starts[frames + 1] - self._image_starts[frames]
        rows = _join_ranges(self._image_starts[frames], counts)
        images: list[Any] = self._collected.data.images.iloc[rows].to_dict("records")
        sizes = self._object_starts[rows + 1] - self._object_starts[rows]
        taken = _join_ranges(self._object_starts[rows], sizes)
        objects: list[Any] = self._collected.data.objects.iloc[taken].to_dict("records")
        per_image = _group(objects, sizes)
        faces = self._collected.faces
        tasks = tuple(
            self._make_task(number, shown, boxes, faces[start] if faces else np.empty((0, 4)))
            for shown, boxes, start in zip(
                _group(images, counts), _group(per_image, counts), self._image_starts[frames].tolist(), strict=True
            )
        )
        retried = self._kept[number]["retried"] if number in self._kept else None
        return tasks if retried is None else tuple(task for task in tasks if task.frame_path in retried)

    def _make_task(
        self, number: int, images: list[dict[str, Any]], objects: list[list[dict[str, Any]]], faces: Floats
    ) -> FrameTask:
        frame = images[0]
        return FrameTask(
            frame_path=frame["frame_path"],
            content=frame["content"] or None,
            width=frame["width"],
            height=frame["height"],
            images=images,
            objects=objects,
            faces=faces,
            chunk=number,
            file=self.files[number],
        )

    def _count_pending(self, number: int) -> int:
        return len(self._kept[number]["retried"]) if number in self._kept else len(self._chunks[number])

    def _record(self, number: int, failed: dict[str, str], pngs: list[str]) -> int:
        count = self._count_pending(number)
        kept = self._kept.pop(number, {"failed": {}, "pngs": [], "retried": set()})
        earlier = {path: reason for path, reason in kept["failed"].items() if path not in kept["retried"]}
        record = {"failed": earlier | failed | self._lost.pop(number, {}), "pngs": [*kept["pngs"], *pngs]}
        self._store.put(_name_record(number), json.dumps(record).encode())
        self._add(record)
        return count

    def _add(self, record: dict[str, Any]) -> None:
        self.written.failed.update(record["failed"])
        self.written.pngs.update(record["pngs"])

    def _read_records(self) -> set[int]:
        """Add the records of finished chunks in which no frame is to be tried again; return their numbers."""
        done = set()
        for name, content in self._store.contents(self._store.names(_RECORDS)):
            number, record = int(name.rpartition("/")[2].removesuffix(".json")), json.loads(content or b"{}")
            if not record:
                continue
            recovered = self._find_recovered(record["failed"])
            if not recovered:
                self._add(record)
                done.add(number)
            elif not self._is_whole:
                self._kept[number] = record | {"retried": recovered}
        return done

    def _find_recovered(self, failed: dict[str, str]) -> set[str]:
        """Return the frames that failed, and whose source has now what detection ran on."""
        if not failed:
            return set()
        images = self._collected.data.images
        rows = images[images["frame_path"].isin(failed)]
        expected = dict(zip(rows["frame_path"], rows["content"], strict=True))
        present = self._read_contents(list(failed))
        return {path for path, content in present if content is not None and expected.get(path) in ("", content)}


def _cut_frames(frames: Integers, pixels: Integers) -> Iterator[Integers]:
    """Cut frames into chunks of limited number and size."""
    first = total = 0
    for k, size in enumerate(pixels[frames].tolist()):
        if k > first and (k - first >= _CHUNK_FRAMES or total + size > _CHUNK_PIXELS):
            yield frames[first:k]
            first, total = k, 0
        total += size
    if len(frames):
        yield frames[first:]


def _join_ranges(starts: Integers, counts: Integers) -> Integers:
    """Return the numbers from each start on, as many as its count."""
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + np.arange(int(counts.sum())) - before


def _group(values: list[Any], counts: Integers) -> list[list[Any]]:
    """Return lists of as many values as each count says."""
    rest = iter(values)
    return [list(itertools.islice(rest, count)) for count in counts.tolist()]


def _name_record(number: int) -> str:
    return f"{_RECORDS}/{number:06}.json"


def delete_records(store: Store) -> None:
    """Delete the records of an export in which no frame failed, when it is finished."""
    store.delete(store.names(_RECORDS))


def _find_starts(frame_paths: Any) -> Any:
    """Return the index of the first picture of each frame, and at the end the number of pictures."""
    if not len(frame_paths):
        return np.zeros(1, np.int64)
    changes = np.flatnonzero(frame_paths[1:] != frame_paths[:-1]) + 1
    return np.concatenate([[0], changes, [len(frame_paths)]])
