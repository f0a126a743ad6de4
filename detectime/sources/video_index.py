"""What is known of a video file from its packets, before its frames are decoded."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectime.boxes import Floats, Integers
from detectime.images import UnreadableImageError
from detectime.sources.contract import MissingFrameError
from detectime.storage import urls

_DURATION = re.compile(r"(\d+):(\d+):(\d+\.?\d*)")  # the format of Matroska's tag
_DEFAULT_RATE = 25  # frames per second where a file does not state it
_MAX_DURATION = 7 * 86400  # seconds: a header that states more is damaged, and its frames would fill the memory
_ORIENTATION_PACKETS = 60  # from the start of a file, in which the first frame that can be decoded is sought
_BLOCK = 2**20  # bytes that are read at a time
NO_PICTURE = "the decoder makes no picture of this frame"


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video, known from its packets; a packet is identified by its position in the file.

    Attributes
    ----------
    stamps
        int64, shape (packets,): presentation time of each packet, in the file's own units.
    sizes
        int64, shape (packets,): bytes of each packet.
    keys
        int64: the packets at which decoding may start.
    shown
        int64, shape (frames,): the packet of each frame, in presentation order.
    seconds
        float64, shape (frames + lost,): presentation time of each frame, from the first one on.
    lost
        How many more frames the file's header promises than there are: its end is missing. If the header only states a
        duration, the missing frames are counted at the rate of the others.
    seekable
        Whether `stamps` are the file's own. If it has none that can be trusted, packets are counted.
    damage
        Where frames are missing, or why the file could not be read to its end; empty if nothing is known to be wrong.
    width, height
        Frame size that the header states, in pixels, as stored.
    orientation
        EXIF orientation, 1 to 8, that the file's display matrix amounts to.
    content
        Size and CRC-32 of the file: see `images.describe_content`.
    """

    stamps: Integers
    sizes: Integers
    keys: Integers
    shown: Integers
    seconds: Floats
    lost: int
    seekable: bool
    damage: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    content: str = ""

    def __len__(self) -> int:
        return len(self.seconds)

    def find_start(self, packet: int) -> int:
        """Return the last key packet from which a packet can be decoded."""
        before = self.keys[: int(np.searchsorted(self.keys, packet, "right"))]
        # A packet stored after a key but shown before it may depend on packets stored before the key.
        usable = before[self.stamps[before] <= self.stamps[packet]]
        return int(usable[-1]) if len(usable) else 0


def index_video(path: str) -> VideoIndex:
    """Index a video file. Its pixels are decoded only where its packets do not tell enough.

    Raises
    ------
    MissingFrameError
        If there is no such file.
    UnreadableImageError
        If it is not a video.
    """
    index = _index_packets(path)
    return dataclasses.replace(index, orientation=_find_orientation(path), content=_describe_file(path))


def open_video(path: str) -> tuple[Any, Any]:
    """Open a file with PyAV: the container and its video stream, decoded on one thread, with errors reported.

    Raises
    ------
    MissingFrameError
        If there is no such file.
    UnreadableImageError
        If it is not a video.
    """
    import av

    try:
        if not os.path.isfile(path):  # opening a pipe would wait for its writer
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


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream, as far as the file can be read."""
    import av

    packets = _demux(container, stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.FFmpegError):
            return


def _demux(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream; raise if the file cannot be read on."""
    return (packet for packet in container.demux(stream) if packet.size)


def _index_packets(path: str) -> VideoIndex:
    import av

    container, stream = open_video(path)
    with container:
        unknown = np.iinfo(np.int64).min
        is_reordered = stream.codec_context.has_b_frames
        packets: list[tuple[int, int, bool, bool]] = []
        damage = ""
        try:
            for packet in _demux(container, stream):
                stamp = unknown if packet.pts is None else packet.pts
                packets.append((stamp, packet.size, packet.is_keyframe, packet.is_discard))
        except av.FFmpegError as error:
            damage = f"it cannot be read on after {len(packets)} frames: {urls.describe_error(error)}"
        table = np.array(packets, np.int64).reshape(-1, 4)
        stamps, sizes = table[:, 0].copy(), table[:, 1].copy()
        keys, kept = np.flatnonzero(table[:, 2]), np.flatnonzero(table[:, 3] == 0)
        if not len(kept):
            raise UnreadableImageError("not a video: there is no picture in it")
        in_order = bool((np.diff(stamps) > 0).all())
        # If frames are stored in another order than they are shown in, stamps in file order are not presentation times.
        # An AVI file has no others.
        seekable = len(np.unique(stamps)) == len(stamps) and unknown not in stamps and not (in_order and is_reordered)
        rate = float(stream.average_rate or _DEFAULT_RATE)
        if seekable:
            shown = kept[np.argsort(stamps[kept], kind="stable")]
            seconds = (stamps[shown] - stamps[shown[0]]) * float(stream.time_base)
        else:
            shown = _find_shown_order(path)
            stamps, keys = np.arange(len(stamps)), np.zeros(1, np.int64)
            seconds = np.arange(len(shown)) / rate
        step = seconds[-1] / (len(seconds) - 1) if len(seconds) > 1 else 1 / rate
        lost = max(0, stream.frames - len(stamps))
        known = table[table[:, 0] != unknown, 0]
        if len(known) and not stream.frames:
            # The last frame lasts a while too; where frames last unequally long nobody knows how long.
            after = _read_promised_duration(path, container, stream) - float(np.ptp(known) * stream.time_base)
            lost = round(after / step) - 1 if after > 1.5 * max(np.diff(seconds), default=step) else 0
        ahead = seconds[-1] + step * np.arange(1, lost + 1)
        size = stream.codec_context.width, stream.codec_context.height
    return VideoIndex(stamps, sizes, keys, shown, np.concatenate([seconds, ahead]), lost, seekable, damage, *size)


def _read_promised_duration(path: str, container: Any, stream: Any) -> float:
    """Return the seconds from the first frame to the end of the last that a header without a frame count states.

    0 if the header does not state it.
    """
    if not {"matroska", "flv"} & set(container.format.name.split(",")) or not container.duration:
        return 0.0  # other formats estimate it from the packets that are there
    first = float((stream.start_time or 0) * stream.time_base)
    whole = float(container.duration / 1e6)
    if whole > _MAX_DURATION:
        return 0.0
    tag = _DURATION.fullmatch(stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds = map(float, tag.groups())
        return min(whole, 3600 * hours + 60 * minutes + seconds) - first
    # It is that of the longest stream, perhaps the sound: if any stream reaches the end, the file is not cut off.
    if len(container.streams) > 1 and _find_last_stamp(path) > whole - 0.5:
        return 0.0
    return whole - first


def _find_last_stamp(path: str) -> float:
    """Return the seconds at which the last packet of any stream begins."""
    import av

    last = 0.0
    with contextlib.suppress(av.FFmpegError), open_video(path)[0] as container:
        for packet in container.demux():
            if packet.pts is not None:
                last = max(last, float(packet.pts * packet.time_base))
    return last


def _find_shown_order(path: str) -> Integers:
    """Return the packets in presentation order, found by decoding all of them."""
    import av

    container, stream = open_video(path)
    shown: list[int] = []
    with container:
        for position, packet in enumerate(read_packets(container, stream)):
            packet.pts = packet.dts = position
            with contextlib.suppress(av.FFmpegError):  # reported when the frame is read
                shown += [frame.pts for frame in stream.codec_context.decode(packet)]
        with contextlib.suppress(av.FFmpegError):
            shown += [frame.pts for frame in stream.codec_context.decode(None)]
    if not shown:
        raise UnreadableImageError("not a video: not one of its frames can be decoded")
    return np.array(shown, np.int64)


def _find_orientation(path: str) -> int:
    """Decode the first frame that can be decoded, and return its orientation; 1 if there is none."""
    import av

    container, stream = open_video(path)
    with container:
        for number, packet in enumerate(read_packets(container, stream)):
            with contextlib.suppress(av.FFmpegError):
                for frame in stream.codec_context.decode(packet):
                    return read_orientation(frame)
            if number >= _ORIENTATION_PACKETS:
                break
        with contextlib.suppress(av.FFmpegError):
            for frame in stream.codec_context.decode(None):
                return read_orientation(frame)
    return 1


def read_orientation(frame: Any) -> int:
    """Return the EXIF orientation that the display matrix of a PyAV frame amounts to; cameras write right angles."""
    found = [bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    if not found:
        return 1
    a, b, _, c, d = np.frombuffer(found[0], "<i4")[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(b) + abs(c) > abs(a) + abs(d):  # width and height are swapped
        return {(False, False): 5, (False, True): 6, (True, True): 7, (True, False): 8}[b < 0, c < 0]
    return {(False, False): 1, (False, True): 2, (True, True): 3, (True, False): 4}[d < 0, a < 0]


def _describe_file(path: str) -> str:
    """Describe a file as `images.describe_content` does, block by block.

    Raises
    ------
    UnreadableImageError
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
