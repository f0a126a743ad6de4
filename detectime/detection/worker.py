"""A worker: reads the frames of a shard, runs the cascade on them, and makes one row per frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from detectime.detection.cascade import Cascade, ImageDetections
from detectime.detectors.contract import Detections, UnknownFrameError
from detectime.detectors.registry import Chosen
from detectime.images import RGB, FrameImage, UnreadableImageError
from detectime.schema import DETECTIONS, LANDMARKS
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.reading import read_images

Row = dict[str, Any]
"""A row of the detections table."""

_GPU_BATCH = 16  # frames
_DECODING_THREADS = 4
_MAX_ERROR = 500  # characters
_CORNERS = ("x1", "y1", "x2", "y2")


@dataclass
class _Frame:
    """A frame of a batch: its image, or the reason why there is none; and its pixels, if they are decoded ahead."""

    frame_path: str
    image: FrameImage | MissingFrameError | UnreadableImageError
    pixels: Future[RGB] | None = None


class Worker:
    """Runs detection on shards of frames. Built once per process; its models stay loaded.

    Parameters
    ----------
    chosen
        The detectors and their settings.
    batch_pixels
        Pixels of all frames of a batch, which may exceed it by one frame; two batches are in memory.

    Raises
    ------
    ConfigError
        If a detector needs an extra or a device that is not there, or cannot be built.
    WeightsError
        If weights are not there.
    """

    def __init__(self, chosen: Chosen, batch_pixels: int = 64_000_000) -> None:
        self.config = chosen.config
        self.cascade = Cascade(chosen)
        self._batch_pixels = batch_pixels
        self._batch_size = self.config.batch or (_GPU_BATCH if chosen.on_gpu else 1)

    def __call__(
        self, source: Source, frame_paths: Sequence[str], at: Callable[[int | None], None] = lambda _: None
    ) -> pa.Table:
        """Run detection on a shard.

        Parameters
        ----------
        source, frame_paths
            The frames.
        at
            Called with the position of each frame before work on it begins, or with None before several frames.

        Returns
        -------
        Table
            One row per frame, in order, in the schema `schema.DETECTIONS`.
        """
        rows: list[Row] = []
        batches = self._make_batches(self._read_frames(source, frame_paths, at))
        for batch in batches if self._batch_size == 1 else self._decode_ahead(batches):
            if self._batch_size > 1:
                at(None)
            rows += self._process_batch(batch)
        return pa.Table.from_pylist(rows, schema=DETECTIONS)

    def _read_frames(
        self, source: Source, frame_paths: Sequence[str], at: Callable[[int | None], None]
    ) -> Iterator[_Frame]:
        """Read frames, and report each before it is waited for, however far ahead the source reads."""
        images = read_images(source, frame_paths, exif=self.config.exif, max_pixels=self.config.max_pixels)
        for position in range(len(frame_paths)):
            at(position if self._batch_size == 1 else None)
            yield _Frame(*next(images))
        for _ in images:  # nothing is left: the source may close its files
            pass

    def _make_batches(self, frames: Iterable[_Frame]) -> Iterator[list[_Frame]]:
        batch: list[_Frame] = []
        pixels = 0
        for frame in frames:
            batch.append(frame)
            pixels += 0 if isinstance(frame.image, Exception) else frame.image.width * frame.image.height
            if len(batch) == self._batch_size or pixels > self._batch_pixels:
                yield batch
                batch, pixels = [], 0
        if batch:
            yield batch

    def _decode_ahead(self, batches: Iterable[list[_Frame]]) -> Iterator[list[_Frame]]:
        """Decode each batch in threads while the one before it is processed: the decoder releases the lock."""
        with ThreadPoolExecutor(_DECODING_THREADS) as threads:
            previous: list[_Frame] = []
            for batch in batches:
                for frame in batch:
                    if not isinstance(frame.image, Exception):
                        frame.pixels = threads.submit(frame.image.read_pixels, self.cascade.face_side)
                if previous:
                    yield _wait_for_pixels(previous)
                previous = batch
            if previous:
                yield _wait_for_pixels(previous)

    def _process_batch(self, batch: Sequence[_Frame]) -> list[Row]:
        readable = [(frame, frame.image) for frame in batch if not isinstance(frame.image, Exception)]
        try:
            pixels = [
                image.read_pixels(self.cascade.face_side) if frame.pixels is None else frame.pixels.result()
                for frame, image in readable
            ]
            frame_paths = [frame.frame_path for frame, _ in readable]
            found = iter(self.cascade.detect([image for _, image in readable], pixels, frame_paths) if readable else ())
        except Exception as error:  # an error of any kind costs one frame, neither the batch nor the run
            if len(batch) > 1:
                return [row for frame in batch for row in self._process_batch([frame])]
            ((frame, image),) = readable
            return [_make_error_row(frame.frame_path, error, image.content)]
        return [
            _make_error_row(frame.frame_path, frame.image, frame.image.content)
            if isinstance(frame.image, Exception)
            else self._make_row(frame.frame_path, frame.image, next(found))
            for frame in batch
        ]

    def _make_row(self, frame_path: str, image: FrameImage, found: ImageDetections) -> Row:
        hands = found.hands
        return {
            "frame_path": frame_path,
            "stamp": None,  # the driver knows it, from the listing of the source
            "content": image.content,
            "outcome": "ok",
            "error": None,
            "width": image.width,
            "height": image.height,
            "orientation": image.orientation,
            "faces": _make_boxes(found.faces, self.config.detector_type, "frame"),
            "hands": [box for each in hands for box in _make_boxes(each.detections, each.detector, each.stage)],
            "landmarks": [points for each in hands for points in _list_landmarks(each.detections)],
            "presence": [value for each in hands for value in _list_values(each.detections, "presence")],
            "handedness": [value for each in hands for value in _list_values(each.detections, "handedness")],
            "proposal": [_make_proposal(box) for each in hands for box in _list_values(each.detections, "proposals")],
            "crop_hash": [value for each in hands for value in each.crop_hashes],
        }


def make_row_without_boxes(frame_path: str, outcome: str, error: str, content: str | None = None) -> Row:
    """Make the row of a frame on which detection could not run.

    Parameters
    ----------
    frame_path, outcome, error
        Values of these columns.
    content
        `images.describe_content` of its bytes, if they are known.

    Examples
    --------
    >>> row = make_row_without_boxes("a.jpg", "missing", "no such file")
    >>> row["outcome"], row["faces"], row["hands"]
    ('missing', [], [])
    """
    return {
        "frame_path": frame_path,
        "stamp": None,
        "content": content,
        "outcome": outcome,
        "error": error[:_MAX_ERROR].encode(errors="replace").decode(),  # it may quote a name that is not Unicode
        "width": None,
        "height": None,
        "orientation": None,
        **{column: [] for column in ("faces", "hands", "landmarks", "presence", "handedness", "proposal", "crop_hash")},
    }


def _make_error_row(frame_path: str, error: Exception, content: str | None) -> Row:
    """Make the row of a frame that was missing, could not be decoded, or on which a detector failed."""
    if isinstance(error, MissingFrameError):
        return make_row_without_boxes(frame_path, "missing", str(error), content)
    if isinstance(error, UnreadableImageError):
        return make_row_without_boxes(frame_path, "unreadable", str(error), content)
    reason = str(error) if isinstance(error, UnknownFrameError) else f"{type(error).__name__}: {error}"
    return make_row_without_boxes(frame_path, "failed", reason, content)


def _wait_for_pixels(batch: list[_Frame]) -> list[_Frame]:
    wait([frame.pixels for frame in batch if frame.pixels])
    return batch


def _make_boxes(detections: Detections, detector: str, stage: str) -> list[Row]:
    return [
        {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": score, "detector": detector, "stage": stage}
        for (x1, y1, x2, y2), score in zip(detections.boxes.tolist(), detections.scores.tolist(), strict=True)
    ]


def _make_proposal(values: Sequence[float] | None) -> Row | None:
    return None if values is None else dict(zip((*_CORNERS, "score"), values, strict=True))


def _list_landmarks(detections: Detections) -> list[list[float] | None]:
    """Return x, y, z of all landmarks of each hand, in one list per hand; None where they are not known."""
    if detections.landmarks is None:
        return [None] * len(detections)
    return list(detections.landmarks.reshape(len(detections), 3 * LANDMARKS).tolist())


def _list_values(detections: Detections, name: str) -> list[Any]:
    """Return a property of each hand; None where it is not known."""
    values = getattr(detections, name)
    plain: list[Any] = [None] * len(detections) if values is None else values.tolist()
    return plain
