"""Scores of gestures for the samples of a run: those that are kept, and new ones from worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from detectime import sources
from detectime.boxes import Integers
from detectime.config import RunConfig, list_faults
from detectime.crops import has_other_size
from detectime.detection.engines import local
from detectime.detection.engines.contract import FixedShards, LostShard
from detectime.detectors import onnx
from detectime.errors import ConfigError
from detectime.exports.pictures import Reading
from detectime.images import UnreadableImageError, compute_max_bytes, open_image
from detectime.label_check.kept_scores import KeptScores, describe_samples
from detectime.label_check.network import GESTURES, WEIGHTS, classify_hand
from detectime.notes import Note, note_found
from detectime.progress import Progress
from detectime.runs import FinishedRun
from detectime.schema import CORNERS
from detectime.sources.contract import MissingFrameError, ReadFrame, Source
from detectime.storage import downloads

_CHUNK_FRAMES = 500
_LOST_WORKERS = 3  # that a chunk may lose before its frames are given up

_RESULT = pa.schema([pa.field("failed", pa.string()), pa.field("scores", pa.list_(pa.float32()))])
"""What a worker returns, one row per frame: why it has no scores, or null; and its scores."""


class GestureScores(NamedTuple):
    """What the network sees in samples.

    Attributes
    ----------
    values
        float32, shape (samples, 45): the logit of each of `GESTURES`; a row of NaN where the frame cannot be read.
    notes
        Findings.
    """

    values: NDArray[np.float32]
    notes: tuple[Note, ...]


def read_gesture_scores(run: FinishedRun, samples: pd.DataFrame, *, workers: int | None = None) -> GestureScores:
    """Return the scores of samples: those that are kept, and new ones for samples that are new or changed.

    Frames are read in worker processes, so that one that kills a decoder, or takes longer than a minute, costs only
    itself. New scores are kept in ``label_check.parquet`` in the folder of the run, and are there chunk by chunk: a
    process that is killed loses little. They belong to the content of a frame, the hand in it, and the weights.

    Parameters
    ----------
    run
        The run.
    samples
        Rows of its outcomes with a sample.
    workers
        Number of processes; None: one per core. The scores do not depend on it.

    Raises
    ------
    ConfigError
        If the number of workers is not accepted.
    WeightsError
        If there are new scores to compute, and the weights are missing and cannot be downloaded.
    EngineError
        If no worker can start.
    TableVersionError
        If a newer detectime kept scores.
    StoreError
        If the folder of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> read_gesture_scores(run, run.outcomes.head(2)).values.shape  # doctest: +SKIP
    (2, 45)
    """
    settings = _make_settings(workers)
    table = describe_samples(samples)
    kept = KeptScores(run.store)
    values = kept.find(table)
    pending = np.flatnonzero(np.isnan(values[:, 0]))
    failed: dict[int, str] = {}
    with Progress(len(table), name="label check: frames", done=len(table) - len(pending)) as progress:
        for found in _compute(run, _make_tasks(table, samples, pending), settings) if len(pending) else ():
            values[found.rows] = found.scores
            failed |= found.failed
            kept.keep(table.iloc[found.rows], found.scores)
            progress.add(len(found.rows) + len(found.failed))
    kept.merge()
    return GestureScores(values, (*kept.list_notes(), *_note_failed(table, failed)))


class _Task(NamedTuple):
    """A sample whose scores a worker computes: its row, and its frame as it was at detection, None where unknown."""

    row: int
    frame_path: str
    content: str | None
    size: tuple[float, float]
    box: tuple[float, ...]


def _make_tasks(table: pd.DataFrame, samples: pd.DataFrame, rows: Integers) -> list[_Task]:
    chosen = table.iloc[rows]
    sizes = samples[["width", "height"]].iloc[rows].to_numpy(np.float64, na_value=np.nan).tolist()
    boxes = chosen[list(CORNERS)].to_numpy().tolist()
    columns = zip(rows.tolist(), chosen["frame_path"], chosen["content"], sizes, boxes, strict=True)
    return [_Task(row, path, content or None, tuple(size), tuple(box)) for row, path, content, size, box in columns]


class _Queue(FixedShards):
    """The chunks of a call. A chunk whose worker died comes back without the frame that the worker was at."""

    def __init__(self, tasks: Sequence[_Task], workers: int) -> None:
        frames = min(_CHUNK_FRAMES, -(-len(tasks) // workers))
        super().__init__(tuple(tasks[first : first + frames]) for first in range(0, len(tasks), frames))
        self._losses: Counter[int] = Counter()

    def return_lost(self, tasks: Sequence[_Task], lost: LostShard) -> dict[int, str]:
        """Put a lost chunk back; return the frames that are given up: their rows, and why."""
        if lost.at is not None:
            rest = (*tasks[: lost.at], *tasks[lost.at + 1 :])
            self.extend([rest] if rest else [])
            return {tasks[lost.at].row: lost.reason}
        self._losses[tasks[0].row] += 1
        if self._losses[tasks[0].row] >= _LOST_WORKERS:
            return {task.row: lost.reason for task in tasks}
        self.append(tuple(tasks))
        return {}


class _Found(NamedTuple):
    """What became of a chunk: rows of samples, their scores, shape (rows, 45), and why others have none, by row."""

    rows: list[int]
    scores: NDArray[np.float32]
    failed: dict[int, str]


def _compute(run: FinishedRun, tasks: Sequence[_Task], settings: RunConfig) -> Iterator[_Found]:
    reading = Reading(run.config.detection.exif, run.config.detection.max_pixels)
    make_worker = partial(_Worker, downloads.find_or_fetch_weights(WEIGHTS), reading)
    # Not that of the run, which may have indexed a video before it was replaced.
    source = sources.open_source(run.config.data.images, run.config.data.source_type)
    workers = settings.workers or local.count_available_cores()
    queue = _Queue(tasks, workers)
    results = local.run_workers(queue, make_worker, source, workers, settings.frame_timeout)
    with closing(results):  # type: ignore[type-var]
        for chunk, result in results:
            if isinstance(result, LostShard):
                yield _Found([], np.empty((0, len(GESTURES)), np.float32), queue.return_lost(chunk, result))
            else:
                yield _read_result(chunk, result)


def _read_result(tasks: Sequence[_Task], result: pa.Table) -> _Found:
    reasons = dict(zip((task.row for task in tasks), result["failed"].to_pylist(), strict=True))
    scores = result["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(GESTURES))
    failed = {row: reason for row, reason in reasons.items() if reason is not None}
    return _Found([row for row in reasons if row not in failed], scores, failed)


class _Worker:
    """Computes the scores of chunks. Built once per process."""

    def __init__(self, weights: Path, reading: Reading) -> None:
        self._session = onnx.open_session(weights)
        self._reading = reading

    def __call__(self, source: Source, tasks: Sequence[_Task], at: Callable[[int | None], None]) -> pa.Table:
        """Return a table in the schema `_RESULT`; `at` is called with the position of each frame."""
        rows = []
        frames = source.read_frames([task.frame_path for task in tasks], compute_max_bytes(self._reading.max_pixels))
        for position, task in enumerate(tasks):
            at(position)
            _, frame = next(frames)
            rows.append(self._try_scores(task, frame))
        for _ in frames:  # nothing is left: the source may close its files
            pass
        return pa.Table.from_pylist(rows, schema=_RESULT)

    def _try_scores(self, task: _Task, frame: ReadFrame) -> dict[str, object]:
        try:
            return {"failed": None, "scores": self._compute_scores(task, frame)}
        except (UnreadableImageError, MissingFrameError) as error:
            return {"failed": str(error), "scores": None}

    def _compute_scores(self, task: _Task, frame: ReadFrame) -> NDArray[np.float32]:
        if isinstance(frame, MissingFrameError | UnreadableImageError):
            raise frame
        image = open_image(frame, exif=self._reading.exif, max_pixels=self._reading.max_pixels)
        if (task.content and image.content != task.content) or has_other_size(image, *task.size):
            raise UnreadableImageError("the file changed since detection; run again to detect it again")
        return classify_hand(self._session, image.read_pixels(), np.array(task.box))


def _note_failed(table: pd.DataFrame, failed: dict[int, str]) -> list[Note]:
    paths = table["frame_path"].iloc[sorted(failed)].tolist()
    reason = f"not checked; first reason: {failed[min(failed)]}" if failed else ""
    return note_found("unchecked", paths, f"frame was {reason}", f"frames were {reason}")


def _make_settings(workers: int | None) -> RunConfig:
    try:
        return RunConfig(workers=workers)
    except ValidationError as error:
        raise ConfigError("\n".join(list_faults(error))) from error
