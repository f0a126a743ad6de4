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
from detectime.sources import mpeg, video_keys, video_losses
from detectime.sources.contract import MissingFrameError
from detectime.storage import urls

UNKNOWN = int(np.iinfo(np.int64).min)
"""A time that a packet does not have."""

_DURATION = re.compile(r"(\d+):(\d+):(\d+\.?\d*)")  # the format of Matroska's tag
_FEW_BYTES = {"probesize": "200000"}  # what is read at most to find the streams of a file: FFmpeg reads 5 MB
# With what pictures of the other codec begin, in a transport stream whose parts are encoded in different ways.
_OTHER_DELIMITERS = {"h264": b"\0\0\1\x46\1", "hevc": b"\0\0\1\x09"}
_DELIMITER_BYTES = 6  # that a delimiter takes at most, with a start code of four bytes
_MAX_ATTEMPTS = 100  # at reading on: more packets of sound than are stored between two pictures
_MOST_LOST = 10_000_000  # frames: two days of 60 per second, for the same reason as the next
_MAX_DURATION = 7 * 86400  # seconds: a header that states more is damaged, and its frames would fill the memory


def open_video(path: str, **options: str) -> tuple[Any, Any]:
    """Open a file with PyAV: the container and its video stream, decoded on one thread, with errors reported.

    Parameters
    ----------
    path
        The file.
    options
        Of FFmpeg's demuxer.

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
        container = av.open(path, options=options)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFrameError(urls.describe_error(error)) from error
    except (OSError, ValueError, av.FFmpegError) as error:  # whatever FFmpeg finds in hostile bytes
        raise UnreadableImageError(f"not a video: {urls.describe_error(error)}") from error
    stream: Any = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        what = "there is no picture in it" if stream is None else "no decoder knows its pictures"
        raise UnreadableImageError(f"not a video: {what}")
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
    is_mp4 = "mp4" in container.format.name.split(",")
    attempts = 0
    # In an MP4 that is cut off, each packet of any stream that is gone ends the reading, though others may follow.
    while attempts < (_MAX_ATTEMPTS if is_mp4 else 1):
        attempts += 1
        for packet in container.demux(stream):
            if packet.size:
                attempts = 0
                yield packet


class Packets(NamedTuple):
    """What is known of the packets of a stream, in file order; arrays of shape (packets,).

    Some formats state the times of a few packets only (`is_timed`), from which FFmpeg reckons those of the others.
    """

    stamps: Integers
    decoded: Integers
    sizes: Integers
    is_key: NDArray[np.bool_]
    is_kept: NDArray[np.bool_]
    is_corrupt: NDArray[np.bool_]
    is_second_field: NDArray[np.bool_]
    is_timed: NDArray[np.bool_]
    pictures: list[video_losses.Picture | None]
    damage: str


def list_packets(container: Any, stream: Any) -> Packets:
    """List the packets of a stream, as far as the file can be read."""
    import av

    read_picture = video_losses.choose_reader(stream.codec_context)
    is_start = video_keys.choose_test(stream.codec_context)
    other = _OTHER_DELIMITERS.get(stream.codec_context.name) if container.format.name == "mpegts" else None
    is_read = bool(read_picture or is_start or other)
    is_program_stream = container.format.name == "mpeg"
    rows: list[tuple[int, int, int, bool, bool, bool, bool]] = []
    pictures: list[video_losses.Picture | None] = []
    damage, data = "", b""
    try:
        for packet in _demux(container, stream):
            previous, data = data, bytes(packet) if is_read else b""
            if other is not None and other in data[:_DELIMITER_BYTES]:
                # The decoder would lose the pictures that it has kept back. The packet before may hold both.
                if other in previous:
                    del rows[-1], pictures[-1]
                damage = f"it cannot be read on after {len(rows)} frames: what follows is encoded in another way"
                break
            stamp, decoded = (UNKNOWN if time is None else time for time in (packet.pts, packet.dts))
            is_key = packet.is_keyframe and (is_start is None or is_start(data))
            # Of a program stream, the pictures that begin a packet of the container have a position and a time.
            is_timed = packet.pos is not None or not is_program_stream
            flags = is_key, not packet.is_discard, packet.is_corrupt, is_timed
            rows.append((stamp, decoded, packet.size, *flags))
            pictures.append(read_picture(data) if read_picture else None)
    except av.FFmpegError as error:
        damage = f"it cannot be read on after {len(rows)} frames: {urls.describe_error(error)}"
    table = np.array(rows, np.int64).reshape(-1, 7).T
    stamps, times, sizes = table[:3]
    is_key, is_kept, is_corrupt, is_timed = table[3:].astype(bool)
    is_key = video_keys.distrust_keys(is_key, stream.codec_context)
    is_second = video_losses.find_second_fields(pictures)
    is_kept &= np.array([not (isinstance(each, mpeg.Picture) and each.is_left_out) for each in pictures], bool)
    is_key, is_kept = is_key & ~is_second, is_kept & ~is_second
    return Packets(stamps, times, sizes, is_key, is_kept, is_corrupt, is_second, is_timed, pictures, damage)


def is_start_incomplete(path: str) -> bool:
    """Whether data of the first picture of a transport stream are missing: it has no packet before it to be flagged."""
    import av

    try:
        container, stream = open_video(path, **_FEW_BYTES)
    except UnreadableImageError:  # the stream is not announced before
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
    """Return how many frames the header promises past the end of the file; 0 if no file could have so many."""
    count = _count_promised(path, container, stream, packets, seconds, step)
    return count if count <= _MOST_LOST else 0


def _count_promised(path: str, container: Any, stream: Any, packets: Packets, seconds: Floats, step: float) -> int:
    promised = int(stream.frames)
    if "mp4" in container.format.name.split(","):
        promised = max(promised, len(stream.index_entries))  # the first counts no fragments
    if promised:
        return max(0, promised - _count_stored(container, packets))
    known = packets.stamps[packets.stamps != UNKNOWN]
    if not len(known):
        return 0
    # The last frame lasts a while too; where frames last unequally long nobody knows how long.
    after = _read_promised_duration(path, container, stream) - float(np.ptp(known) * stream.time_base)
    return round(after / step) - 1 if after > 1.5 * max(np.diff(seconds), default=step) else 0


def _count_stored(container: Any, packets: Packets) -> int:
    """Return how many of the frames that a header counts have been read."""
    if container.format.name == "avi" and UNKNOWN not in packets.decoded:
        # Frames that were dropped when the file was recorded count too: they are empty, which the demuxer passes over.
        return max(len(packets.decoded), int(packets.decoded.max()) + 1)
    return len(packets.decoded)


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
