"""Frames of video files, decoded when they are asked for: see `detectime.sources`."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectime.boxes import Floats, Integers
from detectime.images import DecodedImage, EncodedImage, UnreadableImageError, check_size, turn_upright
from detectime.notes import Note
from detectime.sources.contract import VIDEO_SUFFIXES, MissingFrameError, SourceError, is_video
from detectime.sources.folder import FolderSource, make_stamp
from detectime.storage import urls

_NAME = re.compile(r"(.+)/(\d{6,})", re.DOTALL)
_SEEK_PAYS = 8  # packets that are decoded sooner than another place of the file is found
_NO_PICTURE = "the decoder makes no picture of this frame"
_DURATION = re.compile(r"(\d+):(\d+):(\d+\.?\d*)")  # as Matroska's tag has it
_FORM = "no such frame: the form is <file>/<six digits>, as anna.mp4/000003"
_FEW_GAPS = 0.05  # share of the frames: with more of them a video has frames that last unequally long
_GAPS_LOOKED_AT = 3
_LONGEST = 7 * 86400  # seconds: a header that promises more is damaged, and its frames would fill the memory
_BLOCK = 2**20  # bytes that are read at a time
_TRIES = 3  # keys that are gone to, one before the other, before all is decoded from the beginning


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video, known from its packets; a packet is named by its place in the file.

    Attributes
    ----------
    stamps
        int64, shape (packets,): when what a packet holds is shown, in the file's own units.
    sizes
        int64, shape (packets,): bytes of each.
    keys
        int64: the packets at which decoding may start.
    shown
        int64, shape (frames,): the packet of each frame, in the order in which they are shown.
    seconds
        float64, shape (frames + lost,): when each is shown, from the first on.
    lost
        How many more frames the file's header promises than there are: its end is missing. A header that only knows how
        long they last promises as many as there would be at the pace of the others.
    seekable
        Whether `stamps` are the file's own; if it has none that can be trusted they are counted.
    damage
        Where frames are gone, or why the file could not be read on, in words; empty if neither is known.
    content
        Size and CRC-32 of the file, as `images.describe_content` has them.
    """

    stamps: Integers
    sizes: Integers
    keys: Integers
    shown: Integers
    seconds: Floats
    lost: int
    seekable: bool
    damage: str = ""
    content: str = ""

    def __len__(self) -> int:
        return len(self.seconds)

    def start(self, packet: int) -> int:
        """Return the last key that everything needed for `packet` follows."""
        before = self.keys[: int(np.searchsorted(self.keys, packet, "right"))]
        # What is stored after a key and shown before it may need what is stored before the key.
        good = before[self.stamps[before] <= self.stamps[packet]]
        return int(good[-1]) if len(good) else 0


@dataclass(frozen=True)
class VideoSource:
    """The frames of a folder of videos, or of one: ``<file>/<number>``, from ``000000`` on in the order they are shown.

    The number has six digits, or more if it needs them: ``anna.mp4/3`` is no frame, ``anna.mp4/000003`` is one.
    A frame has the same pixels whichever others are read before it. One that is damaged, or comes after damage that it
    depends on, is `Unreadable`, as are those that the header promises past the end of the file.

    Parameters
    ----------
    root
        The folder that every frame's path is relative to, or a video file, whose path is its name.
    exif
        ``apply``: frames are turned and mirrored as the file's display matrix says; ``ignore``: they are not.
    max_pixels
        Larger frames are not decoded.

    Raises
    ------
    SourceError
        If PyAV is not installed, or the place has a scheme.
    """

    root: str
    exif: str = "ignore"
    max_pixels: int = 100_000_000
    _indexes: dict[str, VideoIndex] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fail before work starts if no video can be read at all."""
        if urls.is_remote(self.root):
            raise SourceError(f"{self.root}: videos are read from a folder of this machine; give one as `images`")
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise SourceError(
                f"{self.root}: videos need PyAV, which is not installed; install it with: "
                "pip install -c constraints.txt -e '.[video]'"
            ) from error

    def list_files(self) -> Iterator[tuple[str, str | None]]:
        """Walk over the video files, known by their suffixes (`sources.contract.VIDEO_SUFFIXES`), in no order.

        Yields
        ------
        file, stamp
            The path relative to the root, and what `stamp` returns.

        Raises
        ------
        SourceError
            If the folder cannot be listed.
        """
        if os.path.isfile(self.root):
            file = os.path.basename(self.root)
            yield file, self.stamp(file)
        else:
            yield from FolderSource(self.root).list_files(VIDEO_SUFFIXES)

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        """Walk over the frames of all videos; a file that is no video has none.

        Yields
        ------
        frame_path, stamp
            The path of a frame, and the stamp of its video: see `stamp`.

        Raises
        ------
        SourceError
            If the folder cannot be listed.
        """
        for file, stamp in self.list_files():
            try:
                count = len(self.index(file))
            except (MissingFrameError, UnreadableImageError):  # `open` says why
                continue
            yield from ((format_frame_path(file, number), stamp) for number in range(count))

    def stamp(self, file: str) -> str | None:
        """Return size and time of change of a file, in bytes and nanoseconds; None if it is not there."""
        try:
            return make_stamp(os.stat(self._path(file)))
        except (OSError, ValueError):
            return None

    def notes(self) -> list[Note]:
        """Return nothing: `labels.spans.read_spans` tells of videos that are damaged."""
        return []

    def index(self, file: str) -> VideoIndex:
        """Return what is known of a video from its packets. Its pixels are decoded only if its times are no use.

        It is kept, and goes to the workers with the source: each file is read for it once.

        Raises
        ------
        Missing
            If there is no such file.
        Unreadable
            If it is no video.
        """
        if file not in self._indexes:
            path = self._path(file)
            index = _index(path)
            if not index.lost and not index.damage:
                index = _with_gaps(path, index, self.max_pixels)
            self._indexes[file] = dataclasses.replace(index, content=_describe_file(path))
        return self._indexes[file]

    def open(
        self, frame_paths: Iterable[str]
    ) -> Iterator[tuple[str, EncodedImage | MissingFrameError | UnreadableImageError]]:
        """Read frames in the order in which they are named; of consecutive ones of a video each is decoded once.

        Yields
        ------
        frame_path, frame
            The path as it was given; the picture, or the reason why there is none.
        """
        for file, paths in itertools.groupby(frame_paths, _file):
            named = list(paths)
            try:
                index = self.index(file)
                decoder = _Decoder(self._path(file), index, self.max_pixels)
            except (MissingFrameError, UnreadableImageError) as error:
                reason = MissingFrameError(_FORM) if isinstance(error, MissingFrameError) and _short(file) else error
                yield from ((frame_path, reason) for frame_path in named)
                continue
            with contextlib.closing(decoder):
                for frame_path in named:
                    try:
                        number = _number(frame_path, len(index))
                        if number is None:
                            raise MissingFrameError(f"no such frame: the video has {len(index)}")
                        frame = decoder.read(number)
                        check_size(frame.width, frame.height, self.max_pixels)  # another than the header's
                        yield frame_path, self._decoded(frame, index.content)
                    except (MissingFrameError, UnreadableImageError) as error:
                        if isinstance(error, UnreadableImageError):
                            error.content = index.content
                        yield frame_path, error

    def read_contents(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        """Describe the bytes of the videos that frames are in, each file once: see `Source.read_contents`."""
        for frame_path in frame_paths:
            try:
                yield frame_path, self.index(_file(frame_path)).content
            except (MissingFrameError, UnreadableImageError):
                yield frame_path, None

    def _decoded(self, frame: Any, content: str) -> DecodedImage:
        """Turn a frame of PyAV's into a picture."""
        image = frame.to_ndarray(format="rgb24", threads=1)
        if self.exif != "apply":
            return DecodedImage(image, content)
        orientation = _orientation(frame)
        return DecodedImage(turn_upright(image, orientation), content, orientation)

    def _path(self, file: str) -> str:
        if not os.path.isfile(self.root):
            return os.path.join(self.root, file)
        return self.root if file == os.path.basename(self.root) else os.path.join(self.root, file)


def format_frame_path(file: str, number: int) -> str:
    """Path of a frame of a video."""
    return f"{file}/{number:06d}"


def _file(frame_path: str) -> str:
    match = _NAME.fullmatch(frame_path)
    return match[1] if match else frame_path


def _short(file: str) -> bool:
    """Whether what should be a file is a frame whose number has too few digits."""
    folder, _, digits = file.rpartition("/")
    return is_video(folder) and digits.isdecimal()


def _number(frame_path: str, count: int) -> int | None:
    """Return the number of a frame; None if there is no such one."""
    match = _NAME.fullmatch(frame_path)
    number = int(match[2]) if match else count
    return number if number < count and match and format_frame_path(match[1], number) == frame_path else None


def _open(path: str) -> tuple[Any, Any]:
    """Open a file and its video stream, on one thread; what is broken in it is told, not hidden."""
    import av

    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            os.stat(path)
            raise UnreadableImageError("not a regular file")
        container = av.open(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFrameError(urls.describe_error(error)) from error
    except (OSError, ValueError) as error:  # whatever FFmpeg finds in hostile bytes
        raise UnreadableImageError(f"not a video: {urls.describe_error(error)}") from error
    stream: Any = container.streams.best("video")
    if stream is None:
        container.close()
        raise UnreadableImageError("not a video: there is no picture in it")
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    stream.codec_context.options = {"err_detect": "explode"}
    return container, stream


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream up to where the file can be read."""
    import av

    packets = _to_the_end(container, stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.FFmpegError):
            return


def _to_the_end(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream; what keeps the file from being read on is raised."""
    return (packet for packet in container.demux(stream) if packet.size)


def _index(path: str) -> VideoIndex:
    import av

    container, stream = _open(path)
    with container:
        unknown = np.iinfo(np.int64).min
        reordered = stream.codec_context.has_b_frames
        found: list[tuple[int, int, bool, bool]] = []
        damage = ""
        try:
            for packet in _to_the_end(container, stream):
                stamp = unknown if packet.pts is None else packet.pts
                found.append((stamp, packet.size, packet.is_keyframe, packet.is_discard))
        except av.FFmpegError as error:
            damage = f"it cannot be read on after {len(found)} frames: {urls.describe_error(error)}"
        table = np.array(found, np.int64).reshape(-1, 4)
        stamps, sizes = table[:, 0].copy(), table[:, 1].copy()
        keys, kept = np.flatnonzero(table[:, 2]), np.flatnonzero(table[:, 3] == 0)
        if not len(kept):
            raise UnreadableImageError("not a video: there is no picture in it")
        in_order = bool((np.diff(stamps) > 0).all())
        # Where frames are stored in another order than they are shown in, stamps in the order of the file are no times
        # of showing: an AVI has no others.
        seekable = len(np.unique(stamps)) == len(stamps) and unknown not in stamps and not (in_order and reordered)
        if seekable:
            shown = kept[np.argsort(stamps[kept], kind="stable")]
            seconds = (stamps[shown] - stamps[shown[0]]) * float(stream.time_base)
        else:
            shown = _order_shown(path)
            stamps, keys = np.arange(len(stamps)), np.zeros(1, np.int64)
            seconds = np.arange(len(shown)) / float(stream.average_rate or 25)
        step = seconds[-1] / (len(seconds) - 1) if len(seconds) > 1 else 1 / float(stream.average_rate or 25)
        lost = max(0, stream.frames - len(stamps))
        known = table[table[:, 0] != unknown, 0]
        if len(known) and not stream.frames:
            # The last frame lasts a while too, and where frames last unequally long nobody knows how long.
            after = _promised(path, container, stream) - float(np.ptp(known) * stream.time_base)
            lost = round(after / step) - 1 if after > 1.5 * max(np.diff(seconds), default=step) else 0
        ahead = seconds[-1] + step * np.arange(1, lost + 1)
    return VideoIndex(stamps, sizes, keys, shown, np.concatenate([seconds, ahead]), lost, seekable, damage)


def _promised(path: str, container: Any, stream: Any) -> float:
    """Seconds from the first frame to the end of the last that a header without a count promises; 0 if it does not."""
    if not {"matroska", "flv"} & set(container.format.name.split(",")) or not container.duration:
        return 0.0  # the others guess it from what is there, and do not know what is missing
    first = float((stream.start_time or 0) * stream.time_base)
    whole = float(container.duration / 1e6)
    if whole > _LONGEST:
        return 0.0
    tag = _DURATION.fullmatch(stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds = map(float, tag.groups())
        return min(whole, 3600 * hours + 60 * minutes + seconds) - first
    # It is that of the longest stream, which may be the sound: if any goes on to the end the others do as well.
    if len(container.streams) > 1 and _end(path) > whole - 0.5:
        return 0.0
    return whole - first


def _end(path: str) -> float:
    """Seconds at which the last packet of any stream begins."""
    import av

    end = 0.0
    with contextlib.suppress(av.FFmpegError), _open(path)[0] as container:
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float(packet.pts * packet.time_base))
    return end


def _order_shown(path: str) -> Integers:
    """Packets in the order in which they are shown, by decoding them all."""
    import av

    container, stream = _open(path)
    shown: list[int] = []
    with container:
        for place, packet in enumerate(_packets(container, stream)):
            packet.pts = packet.dts = place
            with contextlib.suppress(av.FFmpegError):  # who reads it is told
                shown += [frame.pts for frame in stream.codec_context.decode(packet)]
        with contextlib.suppress(av.FFmpegError):
            shown += [frame.pts for frame in stream.codec_context.decode(None)]
    if not shown:
        raise UnreadableImageError("not a video: not one of its frames can be decoded")
    return np.array(shown, np.int64)


class _Decoder:
    """A video that is open: reads forward, and goes to another place of the file only where that is sooner.

    Every frame is decoded from the last key on that it can be decoded from, or from an earlier one: what is read before
    makes no difference to its pixels, nor to whether damage has reached it.
    """

    def __init__(self, path: str, index: VideoIndex, max_pixels: int) -> None:
        self._path, self._index = path, index
        self._numbers = np.full(len(index.stamps), -1)
        self._numbers[index.shown] = np.arange(len(index.shown))
        self._places = dict(zip(index.stamps[index.keys].tolist(), index.keys.tolist(), strict=True))
        self._errors: dict[int, str] = {}  # what is wrong with packets, as far as it is known since decoding began
        self._broken: dict[int, str] = {}  # what is wrong with them wherever it begins
        self._without: set[int] = set()  # packets of which no picture comes, wherever it begins
        self._at, self._frame = len(index), None  # the frame that came last, and its number
        self._begun = self._taken = 0  # packets: the one that decoding began with, and the last one
        self._container, self._stream = _open(path)
        self._fresh = True
        try:
            check_size(self._stream.codec_context.width, self._stream.codec_context.height, max_pixels)
        except UnreadableImageError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(self, number: int) -> Any:
        """Return a frame, PyAV's.

        Raises
        ------
        Unreadable
            If the file ends before it, or if it or what it depends on is damaged.
        """
        index = self._index
        if number >= len(index.shown):
            raise UnreadableImageError(f"the video ends early: {len(index.shown)} of its {len(index)} frames are there")
        packet = int(index.shown[number])
        start = index.start(packet)
        _raise_first(self._broken, start, packet)
        if packet in self._without:
            raise UnreadableImageError(_NO_PICTURE)
        if number < self._at or start > self._taken + _SEEK_PAYS:
            self._begin(start)
        faults = self._advance(number, start)
        # What was read before may do harm beyond a key; and not every key is as good as the beginning: the decoder may
        # miss what it was told before, or recover only after a while, where pictures are refreshed part by part. So a
        # fault has to show from the last key and from an earlier one, and where no picture comes, from the beginning.
        for begin in self._beginnings(start) if faults and (start or self._begun) else ():
            self._begin(begin)
            faults = self._advance(number, start)
            if not faults or (begin < start and faults != {packet: _NO_PICTURE}):
                break
        if faults == {packet: _NO_PICTURE}:
            self._without.add(packet)
            raise UnreadableImageError(_NO_PICTURE)
        self._broken |= faults
        _raise_first(faults, start, packet)
        return self._frame

    def _advance(self, number: int, start: int) -> dict[int, str]:
        """Decode up to a frame; return what is wrong with the packets that it depends on."""
        packet = int(self._index.shown[number])
        while self._at < number:
            self._at, self._frame = next(self._frames, (len(self._index), None))
        faults = {place: words for place, words in self._errors.items() if start <= place <= packet}
        return faults or ({packet: _NO_PICTURE} if self._at != number else {})

    def _beginnings(self, start: int) -> list[int]:
        """List where decoding may begin to get what follows a key: there, and ever farther before it."""
        before = self._index.keys[self._index.keys < start]
        steps = (2**k for k in range(1, len(before).bit_length()))
        return [start, *(int(before[-step]) for step in steps), *([0] if start else [])]

    def _begin(self, start: int) -> None:
        """Go to a packet at which decoding may start."""
        self._begun = self._taken = start
        self._at, self._frame = -1, None
        self._errors.clear()
        self._frames = self._decode(self._packets(start), start)

    def _packets(self, start: int) -> Iterator[Any]:
        """Yield the packets of the file from a place on."""
        index = self._index
        # Some formats lead to a later key than the one asked for, or into the middle of a packet.
        for key in index.keys[index.keys <= start][::-1][:_TRIES] if start and index.seekable else ():
            self._fresh = False
            self._container.seek(int(index.stamps[key]), stream=self._stream)
            packets = _packets(self._container, self._stream)
            for packet in packets:
                place = self._places.get(packet.pts)
                if place is not None and index.sizes[place] == packet.size:
                    if place <= start:
                        return itertools.islice(itertools.chain([packet], packets), start - place, None)
                    break
        if not self._fresh:
            self._container.close()
            self._container, self._stream = _open(self._path)
        self._fresh = False
        return itertools.islice(_packets(self._container, self._stream), start, None)

    def _decode(self, packets: Iterator[Any], start: int) -> Iterator[tuple[int, Any]]:
        """Decode packets, the first of which is at `start`; yield numbers and frames."""
        index = self._index
        for place, packet in zip(range(start, len(index.stamps)), packets, strict=False):
            self._taken = place
            if start and index.seekable and (packet.pts, packet.size) != (index.stamps[place], index.sizes[place]):
                return  # packets are cut in another way than from the beginning, where it is begun then
            # What is shown before the first key may need what is stored before it: asked for, it is begun with that.
            if not start or index.stamps[place] >= index.stamps[start]:
                yield from self._frames_of(packet, place)
        yield from self._frames_of(None, len(index.stamps))

    def _frames_of(self, packet: Any, place: int) -> Iterator[tuple[int, Any]]:
        """Decode one packet, or what is left in the decoder."""
        import av

        try:
            if packet is not None:
                if packet.is_corrupt:
                    raise UnreadableImageError(
                        "the video ends early: this frame, or one that it depends on, is cut off"
                    )
                packet.pts = packet.dts = place  # so each frame tells which packet it was in
            for frame in self._stream.codec_context.decode(packet):
                yield int(self._numbers[frame.pts]), frame
        except UnreadableImageError as error:
            self._errors[place] = str(error)
        except av.FFmpegError as error:
            self._errors[place] = f"this frame, or one that it depends on, is damaged: {urls.describe_error(error)}"


def _with_gaps(path: str, index: VideoIndex, max_pixels: int) -> VideoIndex:
    """Add where frames are gone in the middle: some last far longer than all others, and those that follow are damaged.

    A gap alone is no damage: a camera may leave out frames.
    """
    lasting = np.diff(index.seconds)
    long = np.flatnonzero(lasting > 1.5 * np.median(lasting)) if len(lasting) else lasting
    if not 0 < len(long) <= _FEW_GAPS * len(lasting):
        return index
    with contextlib.suppress(UnreadableImageError), contextlib.closing(_Decoder(path, index, max_pixels)) as decoder:
        for number in long[:_GAPS_LOOKED_AT].tolist():
            for follower in range(number + 1, min(number + 3, len(index))):
                try:
                    decoder.read(follower)
                except UnreadableImageError as error:
                    if str(error) != _NO_PICTURE:
                        return dataclasses.replace(index, damage=f"frames are gone after frame {number}")
    return index


def _raise_first(errors: dict[int, str], start: int, packet: int) -> None:
    for place, words in errors.items():
        if start <= place <= packet:
            raise UnreadableImageError(words)


def _orientation(frame: Any) -> int:
    """Return a frame's orientation, EXIF's 1 to 8, by its display matrix: right angles are all that cameras write."""
    found = [bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    if not found:
        return 1
    a, b, _, c, d = np.frombuffer(found[0], "<i4")[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(b) + abs(c) > abs(a) + abs(d):  # width and height change places
        return {(False, False): 5, (False, True): 6, (True, True): 7, (True, False): 8}[b < 0, c < 0]
    return {(False, False): 1, (False, True): 2, (True, True): 3, (True, False): 4}[d < 0, a < 0]


def _describe_file(path: str) -> str:
    """Describe a file as `images.describe_content` does, without its bytes in memory.

    Raises
    ------
    Unreadable
        If it cannot be read.
    """
    size = checksum = 0
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                size, checksum = size + len(block), zlib.crc32(block, checksum)
    except OSError as error:
        raise UnreadableImageError(f"cannot be read: {urls.describe_error(error)}") from error
    return f"{size}-{checksum:08x}"
