"""Frames of video files, decoded on demand: see `detectime.sources.contract`."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from detectime.images import RGB, UnreadableImageError
from detectime.notes import Note
from detectime.paths import format_install
from detectime.sources.contract import MissingFrameError, SourceError
from detectime.sources.folder import FolderSource, find_spelling, make_stamp
from detectime.sources.names import fold_name
from detectime.sources.video_decoder import VideoDecoder, check_holes
from detectime.sources.video_index import VideoIndex, index_video
from detectime.storage import urls

VIDEO_SUFFIXES = tuple(".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv".split())
"""Suffixes of video files, in lower case."""

_FRAME_PATH = re.compile(r"(.+)/(\d{6,})", re.DOTALL)
_WRONG_FORM = "no such frame: the form is <file>/<six digits>, as anna.mp4/000003"


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video that is decoded on demand: see `images.LazyFrame`.

    Parameters
    ----------
    number
        Its position in presentation order, from 0 on.
    index
        Of its video.
    decoder
        Of its video.
    """

    number: int
    index: VideoIndex = field(repr=False)
    decoder: VideoDecoder = field(repr=False)

    @property
    def width(self) -> int:
        """Width as stored, in pixels, as the file's header states it."""
        return self.index.width

    @property
    def height(self) -> int:
        """Height as stored, in pixels, as the file's header states it."""
        return self.index.height

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8, that the file's display matrix amounts to."""
        return self.index.orientation

    @property
    def content(self) -> str:
        """`images.describe_content` of the video file."""
        return self.index.content

    def decode(self) -> RGB:
        """Decode the frame: RGB, uint8, shape (height, width, 3), as stored.

        Raises
        ------
        UnreadableImageError
            If the video ends before it, or if it or data that it depends on is damaged.
        """
        frame = self.decoder.read_frame(self.number)
        return np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)


@dataclass(frozen=True)
class VideoSource:
    """The frames of a folder of videos, or of one video: ``<file>/<number>``, from ``000000`` on in presentation order.

    The number has six digits, or more if needed: ``anna.mp4/3`` is not a frame, ``anna.mp4/000003`` is. A frame has the
    same pixels whichever others are read before it. A frame is unreadable if it is damaged or depends on damaged data,
    or if the header promises it past the end of the file.

    Parameters
    ----------
    root
        The folder that every `frame_path` is relative to; or a video file, whose path is its name.

    Raises
    ------
    SourceError
        If PyAV is not installed, or the location is a URL.
    """

    root: str
    _indexes: dict[str, VideoIndex] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fail before work starts if no video can be read."""
        if urls.is_remote(self.root):
            raise SourceError(f"{self.root}: videos are read from a folder of this machine; give one as `images`")
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise SourceError(
                f"{self.root}: videos need PyAV, which is not installed; install it with: {format_install('video')}"
            ) from error

    def list_files(self) -> Iterator[tuple[str, str | None]]:
        """List the video files, recognised by `VIDEO_SUFFIXES`, in no particular order.

        Yields
        ------
        file, stamp
            The path relative to the root, and its stamp: see `make_stamp`.

        Raises
        ------
        SourceError
            If the folder cannot be listed.
        """
        if os.path.isfile(self.root):
            file = os.path.basename(self.root)
            yield file, self.make_stamp(file)
        else:
            yield from FolderSource(self.root).list_files(VIDEO_SUFFIXES)

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """List the frames of all videos; a file that is not a video has none.

        Yields
        ------
        frame_path, stamp
            The path of a frame, and the stamp of its video.

        Raises
        ------
        SourceError
            If the folder cannot be listed.
        """
        for file, stamp in self.list_files():
            try:
                count = len(self.index_file(file))
            except (MissingFrameError, UnreadableImageError):  # `read_frames` yields the reason
                continue
            yield from ((format_frame_path(file, number), stamp) for number in range(count))

    def make_stamp(self, file: str) -> str | None:
        """Return size in bytes and modification time in nanoseconds of a file; None if it does not exist."""
        try:
            return make_stamp(os.stat(self._find_path(file)))
        except (OSError, ValueError):
            return None

    def list_notes(self) -> list[Note]:
        """Return no notes: `labels.spans.read_spans` reports damaged videos."""
        return []

    def check_frames(self, frame_paths: pa.Array | pa.ChunkedArray) -> None:
        """Refuse nothing: what a frame is shows when it is read."""

    def list_top_folders(self) -> tuple[str, ...]:
        """Return no folders: videos lie in a folder, not in an archive."""
        return ()

    def index_file(self, file: str) -> VideoIndex:
        """Return the index of a video. It is kept, and travels to the workers: each file is indexed once.

        Raises
        ------
        MissingFrameError
            If there is no such file.
        UnreadableImageError
            If it is not a video.
        """
        if file not in self._indexes:
            path = self._find_path(file)
            self._indexes[file] = check_holes(path, index_video(path))
        return self._indexes[file]

    def read_frames(
        self,
        frame_paths: Iterable[str],
        max_bytes: int | None = None,  # a video is not read whole
    ) -> Iterator[tuple[str, VideoFrame | MissingFrameError | UnreadableImageError]]:
        """Read frames: see `Source.read_frames`. Of consecutive frames of a video each is decoded once."""
        for file, paths in itertools.groupby(frame_paths, _get_file):
            try:
                index = self.index_file(file)
                decoder = VideoDecoder(self._find_path(file), index)
            except (MissingFrameError, UnreadableImageError) as error:
                reason = MissingFrameError(_WRONG_FORM) if _lacks_digits(error, file) else error
                yield from ((frame_path, reason) for frame_path in paths)
                continue
            with contextlib.closing(decoder):
                for frame_path in paths:
                    number = _parse_number(frame_path, len(index))
                    if number is None:
                        yield frame_path, MissingFrameError(f"no such frame: the video has {len(index)}")
                    else:
                        yield frame_path, VideoFrame(number, index, decoder)

    def _find_path(self, file: str) -> str:
        if not os.path.isfile(self.root):
            path = os.path.join(self.root, file)
            if not _exists(path):
                path = os.path.join(self.root, find_spelling(self.root, file) or file)
            return path
        is_root = fold_name(file) == fold_name(os.path.basename(self.root))
        return self.root if is_root else os.path.join(self.root, file)


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a NUL character
        return False


def is_video(name: str) -> bool:
    """Whether a name has the suffix of a video file.

    Examples
    --------
    >>> is_video("anna.MP4"), is_video("anna.jpg")
    (True, False)
    """
    return name.lower().endswith(VIDEO_SUFFIXES)


def format_frame_path(file: str, number: int) -> str:
    """Return the path of a frame of a video.

    Examples
    --------
    >>> format_frame_path("anna.mp4", 3)
    'anna.mp4/000003'
    """
    return f"{file}/{number:06d}"


def _get_file(frame_path: str) -> str:
    match = _FRAME_PATH.fullmatch(frame_path)
    return match[1] if match else frame_path


def _lacks_digits(error: Exception, file: str) -> bool:
    """Whether what should be a file is the path of a frame whose number has too few digits."""
    folder, _, digits = file.rpartition("/")
    return isinstance(error, MissingFrameError) and is_video(folder) and digits.isdecimal()


def _parse_number(frame_path: str, count: int) -> int | None:
    """Return the number of a frame; None if there is no such frame among `count`."""
    match = _FRAME_PATH.fullmatch(frame_path)
    number = int(match[2]) if match else count
    is_frame = match and number < count and format_frame_path(match[1], number) == frame_path
    return number if is_frame else None
