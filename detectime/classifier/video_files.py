"""Video files as OpenCV reads and writes them: without sound; of what it writes, browsers play VP8 in a ``.webm``."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from detectime.errors import DocumentedError
from detectime.images import RGB
from detectime.storage.store import open_store

SUFFIX = ".webm"
"""Of the videos that are written."""

_CODEC = cv2.VideoWriter.fourcc(*"VP80")  # VP9 is no smaller here, and takes four times as long
_CHUNK = 16  # frames in memory
_NEAR = 0.98  # of the length that a header says
_USUAL_RATE, _LARGEST_RATE = 25.0, 120.0  # frames per second; browsers' recordings claim 1000


class VideoError(DocumentedError, RuntimeError):
    """A video that cannot be read or written; the message names it, and says why and what to do."""


@dataclass(frozen=True)
class VideoFrame:
    """A decoded frame, which a worker takes like one of a run: see `images.LazyFrame`."""

    pixels: RGB
    width: int
    height: int
    orientation: int = 1  # OpenCV has turned it
    content: str = ""

    def decode(self) -> RGB:
        """Return the pixels."""
        return self.pixels


@contextlib.contextmanager
def open_capture(path: Path, is_upright: bool = True) -> Iterator[cv2.VideoCapture]:
    """Open a video for reading; its frames are turned as the file says, or not."""
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise VideoError(f"{path}: {what}; give a video")
    with _without_messages():
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise VideoError(f"{path}: OpenCV cannot read this as a video; convert it to mp4 or webm")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(is_upright))
        yield capture
    finally:
        capture.release()


def read_chunks(capture: cv2.VideoCapture, size: int = _CHUNK) -> Iterator[list[VideoFrame]]:
    """Yield the frames that are left, several at a time."""
    while True:
        chunk: list[VideoFrame] = []
        while len(chunk) < size and (read := capture.read())[0]:
            pixels = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            chunk.append(VideoFrame(np.asarray(pixels, dtype=np.uint8), pixels.shape[1], pixels.shape[0]))
        if not chunk:
            return
        yield chunk


@dataclass(frozen=True)
class Timing:
    """How many frames a video has, and when they are shown.

    Attributes
    ----------
    frames
        That can be decoded.
    promised
        Number of frames by the header, 0 if it says none; many headers only estimate it from length and rate.
    rate
        Frames per second on average: headers of videos of variable rate are wrong about it.
    is_cut_off
        Whether frames are missing, and the last one is long before the end that the header says.
    """

    frames: int
    promised: int
    rate: float
    is_cut_off: bool


def measure_timing(path: Path) -> Timing:
    """Decode a video once for its timing, which costs little beside detection."""
    with open_capture(path) as capture:
        claimed, promised = capture.get(cv2.CAP_PROP_FPS), max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        count, last = 0, 0.0
        while capture.grab():
            count, last = count + 1, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    measured = (count - 1) / last if last > 0 else 0.0
    rate = next((each for each in (measured, claimed) if 0 < each <= _LARGEST_RATE), _USUAL_RATE)
    length = promised / claimed if claimed > 0 else 0.0
    is_cut_off = count < _NEAR * promised and last + 1 / rate < _NEAR * length
    return Timing(count, promised, rate, is_cut_off)


class VideoWriter:
    """Writes frames into a video that appears when it is whole; a context manager.

    Parameters
    ----------
    path
        The file, ``.webm``.
    fps
        Frames per second.

    Raises
    ------
    VideoError
        If the path has another suffix; at the end, if not all frames can be read back.
    StoreError
        If the folder cannot be written to.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with VideoWriter(Path(folder, "clip.webm"), fps=10) as writer:
    ...         writer.write(np.zeros((48, 64, 3), np.uint8))
    ...     with open_capture(Path(folder, "clip.webm")) as capture:
    ...         [[frame]] = read_chunks(capture)
    >>> frame.pixels.shape
    (48, 64, 3)
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() != SUFFIX:
            raise VideoError(f"{path}: videos are written as {SUFFIX}, which browsers play; give a name that ends so")
        if not 0 < fps <= _LARGEST_RATE:
            raise VideoError(f"{path}: fps = {fps}: accepted: more than 0, up to {_LARGEST_RATE:.0f}")
        self._path, self._fps, self._count = path, fps, 0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        self._store = open_store(os.path.dirname(self._path.absolute()))  # it refuses before there is any work
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / f"video{SUFFIX}"
        return self

    def write(self, pixels: RGB) -> None:
        """Add a frame; the first one decides the size, which is even."""
        if self._writer is None:
            height, width = pixels.shape[:2]
            self._size = max(2, width - width % 2), max(2, height - height % 2)
            with _without_messages():  # one says that the codec has no tag in this format, which needs none
                self._writer = cv2.VideoWriter(str(self._file), cv2.CAP_FFMPEG, _CODEC, self._fps, self._size)
            if not self._writer.isOpened():
                raise VideoError(f"{self._path}: this OpenCV cannot write VP8; install opencv-python-headless")
        self._writer.write(cv2.cvtColor(_fit_frame(pixels, *self._size), cv2.COLOR_RGB2BGR))
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._folder:
            if self._writer is not None:
                self._writer.release()
            if kind is None:
                self._check()
                with self._store.writing(self._path.name) as target, self._file.open("rb") as file:
                    shutil.copyfileobj(file, target)

    def _check(self) -> None:
        """Count the frames in the file: OpenCV does not say whether one was lost, as on a full disk."""
        count = 0
        if self._file.is_file():
            with open_capture(self._file) as capture:
                while capture.grab():
                    count += 1
        if count < self._count:
            raise VideoError(
                f"{self._path}: only {count:,} of {self._count:,} frames were written; is the disk of "
                f"{tempfile.gettempdir()} full? Free disk space, or set TMPDIR to a folder on another disk"
            )


def _fit_frame(pixels: RGB, width: int, height: int) -> RGB:
    """Fit a frame into a size: as it is but for a last row or column, or scaled, on black."""
    if pixels.shape[0] - height in (0, 1) and pixels.shape[1] - width in (0, 1):
        return pixels[:height, :width]
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    fitted = np.zeros((height, width, 3), np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    scaled = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    fitted[top : top + size[1], left : left + size[0]] = scaled
    return fitted


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """Drop what FFmpeg's code writes to standard error, past Python: a notebook would show it in red."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
