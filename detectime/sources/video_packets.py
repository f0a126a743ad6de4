"""The packets of a video file: what they say before their frames are decoded."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Floats, Integers
from detectime.images import UnreadableImageError
from detectime.sources import video_losses
from detectime.sources.contract import MissingFrameError
from detectime.storage import urls

UNKNOWN = int(np.iinfo(np.int64).min)
"""A time that a packet does not have."""

_DURATION = re.compile(r"(\d+):(\d+):(\d+\.?\d*)")  # the format of Matroska's tag
_MAX_DURATION = 7 * 86400  # seconds: a header that states more is damaged, and its frames would fill the memory


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


class Packets(NamedTuple):
    """What is known of the packets of a stream, in file order; arrays of shape (packets,)."""

    stamps: Integers
    decoded: Integers
    sizes: Integers
    is_key: NDArray[np.bool_]
    is_kept: NDArray[np.bool_]
    is_corrupt: NDArray[np.bool_]
    is_second_field: NDArray[np.bool_]
    pictures: list[video_losses.Picture | None]
    damage: str


def list_packets(container: Any, stream: Any) -> Packets:
    """List the packets of a stream, as far as the file can be read."""
    import av

    read_picture = video_losses.choose_reader(stream.codec_context)
    rows: list[tuple[int, int, int, bool, bool, bool]] = []
    pictures: list[video_losses.Picture | None] = []
    damage = ""
    try:
        for packet in _demux(container, stream):
            stamp, decoded = (UNKNOWN if time is None else time for time in (packet.pts, packet.dts))
            flags = packet.is_keyframe, not packet.is_discard, packet.is_corrupt
            rows.append((stamp, decoded, packet.size, *flags))
            pictures.append(read_picture(bytes(packet)) if read_picture else None)
    except av.FFmpegError as error:
        damage = f"it cannot be read on after {len(rows)} frames: {urls.describe_error(error)}"
    table = np.array(rows, np.int64).reshape(-1, 6).T
    stamps, times, sizes = table[:3]
    is_key, is_kept, is_corrupt = table[3:].astype(bool)
    is_second = video_losses.find_second_fields(pictures)
    return Packets(
        stamps, times, sizes, is_key & ~is_second, is_kept & ~is_second, is_corrupt, is_second, pictures, damage
    )


def is_start_incomplete(path: str) -> bool:
    """Whether data of the first picture of a transport stream are missing: it has no packet before it to be flagged."""
    import av

    container, stream = open_video(path)
    with container:
        container.flags |= av.container.Flags.no_parse.value
        return any(packet.is_corrupt for packet in itertools.islice(read_packets(container, stream), 1))


def find_shown_order(path: str) -> Integers:
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


def count_lost(path: str, container: Any, stream: Any, packets: Packets, seconds: Floats, step: float) -> int:
    """Return how many frames the header promises past the end of the file."""
    if stream.frames:
        return max(0, int(stream.frames) - len(packets.stamps))
    known = packets.stamps[packets.stamps != UNKNOWN]
    if not len(known):
        return 0
    # The last frame lasts a while too; where frames last unequally long nobody knows how long.
    after = _read_promised_duration(path, container, stream) - float(np.ptp(known) * stream.time_base)
    return round(after / step) - 1 if after > 1.5 * max(np.diff(seconds), default=step) else 0


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
