"""The pictures of an export, written by worker processes: frames that are copied, turned or cut out, and crops."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import simplejpeg
from PIL import Image

from detectime.boxes import round_outward
from detectime.config import RunConfig
from detectime.decoding import jpeg
from detectime.detection.engines import local
from detectime.detection.engines.contract import DEFAULT_LIMITS, Limits, LostShard
from detectime.exports.annotations import Collected
from detectime.exports.chunks import RESULT, Chunks, FrameTask, Written
from detectime.exports.contract import ExportData, ExportHead, Format, Picture
from detectime.exports.many_files import put_many
from detectime.exports.registry import FORMATS
from detectime.images import RGB, FrameImage, UnreadableImageError, blur_boxes, compute_max_bytes, open_image
from detectime.progress import Progress
from detectime.schema import CORNERS
from detectime.sources.contract import MissingFrameError, ReadFrame, Source
from detectime.sources.reading import read_contents, read_images
from detectime.storage.store import Store, StoreError, open_store

_STORE_ERROR = b"store_error"  # metadata key of a result
_QUALITY = 95  # of JPEG files
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_AS_READERS_EXPECT = ("L", "RGB")  # modes of a JPEG that every reader decodes to the same colours


@dataclass(frozen=True)
class Reading:
    """How frames are read: see `images.open_image`."""

    exif: str
    max_pixels: int


def write_pictures(
    collected: Collected,
    kind: Format,
    store: Store,
    source: Source,
    reading: Reading,
    settings: RunConfig,
    limits: Limits = DEFAULT_LIMITS,
) -> Written:
    """Write the pictures that are not there yet, and show the progress.

    Parameters
    ----------
    collected, kind
        What is exported, and the format.
    store
        The folder of the export.
    source, reading
        Where the frames are, and how they are read.
    settings
        `workers`, the number of processes, None: one per core; `frame_timeout`, the seconds that a frame may take.
    limits
        Of the engine.

    Raises
    ------
    StoreError
        If a file cannot be written.
    EngineError
        If no worker can start.
    """
    read = partial(read_contents, source, max_pixels=reading.max_pixels)
    chunks = Chunks(collected, kind, store, read)
    head = ExportHead(collected.data.classes, collected.data.numbers, collected.data.pictures)
    make_worker = partial(PictureWorker, str(store), kind.name, reading, head)
    workers = settings.workers or local.count_available_cores()
    with Progress(chunks.frames, name=f"{kind.name}: frames", done=chunks.frames - chunks.pending) as progress:
        if not chunks.pending:
            return chunks.written
        results = local.run_workers(chunks, make_worker, source, workers, settings.frame_timeout, limits)
        with closing(results):  # type: ignore[type-var]
            for tasks, result in results:
                if isinstance(result, LostShard):
                    progress.add(chunks.return_lost(tasks, result))
                else:
                    _raise_store_error(result)
                    progress.add(chunks.finish(tasks, result))
    return chunks.written


def read_crops(
    data: ExportData, collected: Collected, source: Source, reading: Reading, most: int = 8
) -> dict[str, list[RGB]]:
    """Read some crops of each class, of as many groups as possible; frames that cannot be read are left out.

    Parameters
    ----------
    data
        What is exported.
    collected
        Holds the faces to blur.
    source, reading
        Where the frames are, and how they are read.
    most
        Crops per class.
    """
    samples = data.objects[data.objects["kind"] == "sample"]
    frames = data.images.iloc[samples["image"]]
    chosen = pd.DataFrame({"class_name": samples["class_name"].to_numpy(), "group": frames["video_name"].to_numpy()})
    chosen["round"] = chosen.groupby(["class_name", "group"]).cumcount()  # the first of each group, then the second …
    chosen = chosen.sort_values("round", kind="stable").groupby("class_name").head(most).sort_index()
    faces = dict(zip(collected.data.images["frame_path"], collected.faces, strict=False))
    corners = round_outward(samples[list(CORNERS)].to_numpy())[chosen.index]
    paths = frames["frame_path"].to_numpy()[chosen.index].tolist()
    crops: dict[str, list[RGB]] = {name: [] for name in data.classes if name in set(chosen["class_name"])}
    images = read_images(source, paths, exif=reading.exif, max_pixels=reading.max_pixels)
    for (path, image), name, (x1, y1, x2, y2) in zip(images, chosen["class_name"], corners.tolist(), strict=True):
        if not isinstance(image, Exception):
            pixels = blur_boxes(image.read_pixels(), faces.get(path, ()))
            crops[name].append(pixels[max(0, y1) : y2, max(0, x1) : x2])
    return crops


class PictureWorker:
    """Writes the pictures of chunks. Built once per process.

    Parameters
    ----------
    location, format_name
        The folder of the export, and its format.
    reading
        How frames are read.
    head
        What the format needs to know of the export.
    """

    def __init__(self, location: str, format_name: str, reading: Reading, head: ExportHead) -> None:
        self._store = open_store(location)
        self._format, self._reading, self._head = FORMATS[format_name], reading, head

    def __call__(self, source: Source, tasks: Sequence[FrameTask], at: Callable[[int | None], None]) -> pa.Table:
        """Write the pictures of a chunk; return a table in the schema `chunks.RESULT`.

        Parameters
        ----------
        source
            Where the frames are.
        tasks
            The frames of a chunk.
        at
            Called with the position of each frame before work on it begins.
        """
        rows: list[dict[str, Any]] = []
        pictures = self._iterate_pictures(source, tasks, at, rows)
        try:
            if self._format.write_shard is None:
                put_many(self._store, map(self._name_picture, pictures))
            elif held := list(pictures):
                self._format.write_shard(self._store, tasks[0].file, held, self._head)
        except StoreError as error:  # a full disk ends the export, and no frame is to blame
            return RESULT.empty_table().replace_schema_metadata({_STORE_ERROR: str(error)})
        return pa.Table.from_pylist(rows, schema=RESULT)

    def _iterate_pictures(
        self,
        source: Source,
        tasks: Sequence[FrameTask],
        at: Callable[[int | None], None],
        rows: list[dict[str, Any]],
    ) -> Iterator[Picture]:
        """Yield the pictures of all frames, and append a row of the result for each frame."""
        max_bytes = compute_max_bytes(self._reading.max_pixels)
        frames = source.read_frames([task.frame_path for task in tasks], max_bytes)
        for position, task in enumerate(tasks):
            at(position)
            _, frame = next(frames)
            made, reason = self._try_pictures(task, frame)
            yield from made
            rows.append({"failed": reason, "pngs": [each.row["name"] for each in made if each.suffix == ".png"]})
        for _ in frames:  # nothing is left: the source may close its files
            pass

    def _try_pictures(self, task: FrameTask, frame: ReadFrame) -> tuple[list[Picture], str | None]:
        """Return the pictures of a frame, or why there are none."""
        try:
            return list(self._make_pictures(task, frame)), None
        except (UnreadableImageError, MissingFrameError) as error:
            return [], str(error)

    def _name_picture(self, picture: Picture) -> tuple[str, bytes]:
        assert self._format.name_picture is not None
        return f"{self._format.name_picture(picture.row)}{picture.suffix}", picture.encoded

    def _make_pictures(self, task: FrameTask, frame: ReadFrame) -> Iterator[Picture]:
        """Yield the pictures of a frame.

        Raises
        ------
        MissingFrameError, UnreadableImageError
            If there is no frame, or it is not the one that detection ran on.
        """
        if isinstance(frame, MissingFrameError | UnreadableImageError):
            raise frame
        image = open_image(frame, exif=self._reading.exif, max_pixels=self._reading.max_pixels)
        _check_frame(image, task)
        if self._head.pictures == "frames" and not len(task.faces) and _may_copy(frame, image):
            assert isinstance(frame, bytes)
            if task.content is None:
                image.read_pixels()  # nobody knows yet whether it can be decoded
            yield Picture(task.images[0], task.objects[0], jpeg.drop_metadata(frame), ".jpg")
            return
        suffix = ".png" if isinstance(frame, bytes) and frame.startswith(_PNG) else ".jpg"
        pixels = blur_boxes(image.read_pixels(), task.faces)
        for row, objects in zip(task.images, task.objects, strict=True):
            cut = pixels[row["crop_y1"] : row["crop_y2"], row["crop_x1"] : row["crop_x2"]]
            yield Picture(row, objects, encode_picture(cut, suffix), suffix)


def encode_picture(pixels: RGB, suffix: str) -> bytes:
    """Encode pixels as a file: ``.png``, without loss, or ``.jpg``, of quality 95 with full colour resolution.

    Parameters
    ----------
    pixels
        uint8, shape (height, width, 3), red first.
    suffix
        ``.jpg`` or ``.png``.

    Examples
    --------
    >>> encode_picture(np.zeros((48, 64, 3), np.uint8), ".png")[:4]
    b'\\x89PNG'
    """
    if suffix == ".png":
        return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1])
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=_QUALITY, colorspace="RGB", colorsubsampling="444"
    )
    return encoded


def _check_frame(image: FrameImage, task: FrameTask) -> None:
    if task.content is not None and image.content != task.content:
        raise UnreadableImageError("the file changed since detection; run again to detect it again")
    if (image.width, image.height) != (task.width, task.height):
        raise UnreadableImageError(
            f"the frame has {image.width} x {image.height} pixels, and had {task.width} x {task.height} at detection; "
            "run again to detect it again"
        )


def _may_copy(frame: ReadFrame, image: FrameImage) -> bool:
    """Whether every reader shows a file as it is here: an upright JPEG of ordinary colours."""
    if not isinstance(frame, bytes) or not frame.startswith(_JPEG) or image.orientation != 1:
        return False
    try:
        with Image.open(io.BytesIO(frame)) as header:
            return header.format in ("JPEG", "MPO") and header.mode in _AS_READERS_EXPECT
    except Exception:  # hostile bytes make Pillow raise errors of many types
        return False


def _raise_store_error(result: pa.Table) -> None:
    message = (result.schema.metadata or {}).get(_STORE_ERROR)
    if message is not None:
        raise StoreError(message.decode())
