"""The pictures of an export cut into chunks: what a worker gets, and the record of what became of it.

The record of a chunk appears when all its pictures are there. An export that was killed goes on with the chunks that
have none.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from detectime.boxes import Floats
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

    Parameters
    ----------
    collected, kind
        What is exported, and the format.
    store
        The folder of the export.

    Attributes
    ----------
    frames, pending
        The number of frames, and of those whose chunk has no record.
    written
        What became of the pictures so far.
    """

    def __init__(self, collected: Collected, kind: Format, store: Store) -> None:
        self._collected, self._store = collected, store
        images, objects = collected.data.images, collected.data.objects
        self._image_starts = _find_starts(images["frame_path"].to_numpy())
        self._object_starts = np.searchsorted(objects["image"].to_numpy(), np.arange(len(images) + 1))
        self.frames = len(self._image_starts) - 1
        self._bounds = self._cut()
        self._files = self._name_files(kind)
        self.written = Written({}, set())
        done = self._read_records()
        self._numbers = deque(number for number in range(len(self._bounds)) if number not in done)
        self._returned: deque[tuple[FrameTask, ...]] = deque()
        self._lost: dict[int, dict[str, str]] = {}
        self._losses: Counter[int] = Counter()
        self.pending = sum(self._bounds[number][1] - self._bounds[number][0] for number in self._numbers)

    def __len__(self) -> int:
        return len(self._returned) + len(self._numbers)

    def share_among(self, workers: int) -> None:
        """Leave the chunks as they are, whatever the number of workers: files depend on them."""

    def popleft(self) -> tuple[Any, ...]:
        """Return the tasks of the next chunk."""
        return self._returned.popleft() if self._returned else self._make_tasks(self._numbers.popleft())

    def finish(self, tasks: Sequence[FrameTask], result: pa.Table) -> int:
        """Record what became of a chunk; return its number of frames."""
        number = tasks[0].chunk
        reasons = zip(tasks, result["failed"].to_pylist(), strict=True)
        failed = {task.frame_path: reason for task, reason in reasons if reason is not None}
        pngs = [name for names in result["pngs"].to_pylist() for name in names]
        return self._record(number, failed, pngs)

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

    def _cut(self) -> list[tuple[int, int]]:
        """Return the first frame of each chunk and the one after its last; a chunk lies in one part of the split."""
        images = self._collected.data.images.iloc[self._image_starts[:-1]]
        split = images["split"].to_numpy()
        pixels = (images["width"] * images["height"]).tolist()
        bounds: list[tuple[int, int]] = []
        first = total = 0
        for k in range(self.frames):
            is_full = k - first >= _CHUNK_FRAMES or total + pixels[k] > _CHUNK_PIXELS
            if k > first and (is_full or split[k] != split[first]):
                bounds.append((first, k))
                first, total = k, 0
            total += pixels[k]
        return [*bounds, (first, self.frames)] if self.frames else []

    def _name_files(self, kind: Format) -> list[str]:
        """Return the file of each chunk; empty texts if each picture has its own."""
        if kind.name_shard is None:
            return [""] * len(self._bounds)
        split = self._collected.data.images["split"].to_numpy()
        parts = [str(split[self._image_starts[first]]) for first, _ in self._bounds]
        counts, seen = Counter(parts), Counter[str]()
        names = []
        for part in parts:
            names.append(kind.name_shard(part, seen[part], counts[part]))
            seen[part] += 1
        return names

    def _make_tasks(self, number: int) -> tuple[FrameTask, ...]:
        first, last = self._bounds[number]
        start, end = int(self._image_starts[first]), int(self._image_starts[last])
        images: list[Any] = self._collected.data.images.iloc[start:end].to_dict("records")
        begin = int(self._object_starts[start])
        objects: list[Any] = self._collected.data.objects.iloc[begin : self._object_starts[end]].to_dict("records")
        starts = (self._object_starts[start : end + 1] - begin).tolist()
        per_image = [objects[low:high] for low, high in itertools.pairwise(starts)]
        limits = (self._image_starts[first : last + 1] - start).tolist()
        return tuple(
            self._make_task(number, start + low, images[low:high], per_image[low:high])
            for low, high in itertools.pairwise(limits)
        )

    def _make_task(
        self, number: int, row: int, images: list[dict[str, Any]], objects: list[list[dict[str, Any]]]
    ) -> FrameTask:
        frame, faces = images[0], self._collected.faces
        return FrameTask(
            frame_path=frame["frame_path"],
            content=frame["content"] or None,
            width=frame["width"],
            height=frame["height"],
            images=images,
            objects=objects,
            faces=faces[row] if faces else np.empty((0, 4)),
            chunk=number,
            file=self._files[number],
        )

    def _record(self, number: int, failed: dict[str, str], pngs: list[str]) -> int:
        record = {"failed": failed | self._lost.pop(number, {}), "pngs": pngs}
        self._store.put(f"{_RECORDS}/{number:06}.json", json.dumps(record).encode())
        self._add(record)
        first, last = self._bounds[number]
        return last - first

    def _add(self, record: dict[str, Any]) -> None:
        self.written.failed.update(record["failed"])
        self.written.pngs.update(record["pngs"])

    def _read_records(self) -> set[int]:
        """Add the records of chunks that were finished without a failure; return their numbers."""
        done = set()
        for name, content in self._store.contents(self._store.names(_RECORDS)):
            record = json.loads(content or b"{}")
            if record and not record["failed"]:  # frames that failed are tried again
                self._add(record)
                done.add(int(name.rpartition("/")[2].removesuffix(".json")))
        return done


def delete_records(store: Store) -> None:
    """Delete the records of an export in which no frame failed, when it is finished."""
    store.delete(store.names(_RECORDS))


def _find_starts(frame_paths: Any) -> Any:
    """Return the index of the first picture of each frame, and at the end the number of pictures."""
    if not len(frame_paths):
        return np.zeros(1, np.int64)
    changes = np.flatnonzero(frame_paths[1:] != frame_paths[:-1]) + 1
    return np.concatenate([[0], changes, [len(frame_paths)]])
