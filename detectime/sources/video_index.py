"""What is known of a video file from its packets, before its frames are decoded."""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectime.boxes import Floats, Integers
from detectime.images import UnreadableImageError
from detectime.sources import mpeg, video_losses
from detectime.sources.video_packets import (
    UNKNOWN,
    Packets,
    count_lost,
    find_shown_order,
    is_start_incomplete,
    list_packets,
    open_video,
    read_packets,
)
from detectime.sources.video_times import Hole, find_holes, find_parts, join_parts
from detectime.storage import urls

_DEFAULT_RATE = 25  # frames per second where a file does not state it
_ORIENTATION_PACKETS = 60  # from the start of a file, in which the first frame that can be decoded is sought
_MAY_JUMP = 0x200  # AVFMT_TS_DISCONT: a format in which times may begin anew
_BLOCK = 2**20  # bytes that are read at a time
MAX_REORDERED = 16
"""Frames that are shown before one that is stored before them: the most that codecs allow."""
LAST_PACKETS = 2
"""Of a file that is cut off: the demuxer may flag the last or the one before it."""
NO_PICTURE = "the decoder makes no picture of this frame"


def _make_empty() -> Integers:
    return np.array([], np.int64)


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video, known from its packets; a packet is identified by its position in the file.

    Attributes
    ----------
    stamps
        int64, shape (packets,): presentation time of each packet, in the file's own units; over the joints of parts
        laid end to end it runs on. If the file has no times that can be trusted, the place in presentation order.
    sizes
        int64, shape (packets,): bytes of each packet.
    keys
        int64: the packets at which decoding may start.
    recoveries
        int64, shape of `keys`: the packet from which on the pictures are right if decoding starts at the key. It is the
        key itself, except where a stream is refreshed bit by bit.
    shown
        int64, shape (frames,): the packet of each frame, in presentation order.
    seconds
        float64, shape (frames + lost,): presentation time of each frame, from the first one on.
    lost
        How many more frames the file's header promises than there are: its end is missing. If the header only states a
        duration, the missing frames are counted at the rate of the others.
    seekable
        Whether `stamps` are the file's own. If not, packets are counted.
    second_fields
        int64: packets that hold the second field of a frame, whose first field is in the packet before.
    incomplete
        int64: packets of which data are missing.
    gaps
        int64: packets before which pictures are gone that they depend on.
    holes
        Where frames are missing from a constant rate: perhaps the camera left them out.
    hides_losses
        Whether frames may be wrong where others that they depend on are missing, since nothing in the file shows that.
    offset
        Seconds from the beginning of the file's first stream, where players begin, to the first frame: its sound may
        begin earlier.
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
    recoveries: Integers
    shown: Integers
    seconds: Floats
    seekable: bool
    lost: int = 0
    second_fields: Integers = field(default_factory=_make_empty)
    incomplete: Integers = field(default_factory=_make_empty)
    gaps: Integers = field(default_factory=_make_empty)
    holes: tuple[Hole, ...] = ()
    hides_losses: bool = False
    offset: float = 0.0
    damage: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    content: str = ""

    def __len__(self) -> int:
        return len(self.seconds)

    def find_start(self, packet: int) -> int:
        """Return the last key packet from which a packet can be decoded."""
        before = self.keys[: int(np.searchsorted(self.recoveries, packet, "right"))]
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


def describe_loss(number: int) -> str:
    """Describe that frames are gone after one.

    Examples
    --------
    >>> describe_loss(9)
    'frames are gone after frame 9'
    """
    return f"frames are gone after frame {number}"


def _describe_missing_data(number: int) -> str:
    return f"data are missing after frame {number}"


def _index_packets(path: str) -> VideoIndex:
    container, stream = open_video(path)
    with container:
        if container.format.name.endswith("_pipe") or container.format.name == "image2":  # FFmpeg's names of images
            raise UnreadableImageError("an image, not a video; list images in a csv with frame_path")
        packets = list_packets(container, stream)
        if not packets.is_kept.any():
            raise UnreadableImageError("not a video: there is no picture in it")
        stamps = _find_stamps(packets, container, stream)
        if stamps is None:
            index = _index_order(path, packets, stream)
        else:
            index = _index_times(packets, stamps, container, stream)
        step = index.seconds[-1] / (len(index) - 1) if len(index) > 1 else 1 / _get_rate(stream)
        lost = count_lost(path, container, stream, packets, index.seconds, step)
        first = stream.start_time if stamps is None else int(stamps[index.shown[0]])
        ahead = index.seconds[-1] + step * np.arange(1, lost + 1)
        index = dataclasses.replace(
            index,
            seconds=np.concatenate([index.seconds, ahead]),
            lost=lost,
            second_fields=np.flatnonzero(packets.is_second_field),
            incomplete=_find_incomplete(packets, path, container),
            offset=_find_offset(first, container, stream),
            hides_losses=video_losses.hides_losses(stream.codec_context),
            damage=packets.damage,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
        )
    return _find_losses(index, packets, stamps, is_avi=container.format.name == "avi")


def _index_times(packets: Packets, stamps: Integers, container: Any, stream: Any) -> VideoIndex:
    """Index frames by the times of their packets."""
    keys, kept = np.flatnonzero(packets.is_key), np.flatnonzero(packets.is_kept)
    tick = float(stream.time_base)
    shown = kept[np.argsort(stamps[kept], kind="stable")]
    seconds = (stamps[shown] - stamps[shown[0]]) * tick
    return VideoIndex(
        stamps=stamps,
        sizes=packets.sizes,
        keys=keys,
        recoveries=video_losses.find_recoveries(packets.pictures, keys),
        shown=shown,
        seconds=seconds,
        seekable=np.array_equal(stamps, packets.stamps),
        holes=tuple(_find_holes(shown, seconds, keys, _find_parts(packets, container, stream), tick)),
    )


def _find_parts(packets: Packets, container: Any, stream: Any) -> Integers:
    """Return the first packet of each part that is laid after another."""
    if not container.format.flags & _MAY_JUMP or UNKNOWN in packets.decoded:
        return np.zeros(1, np.int64)
    return find_parts(packets.decoded, float(stream.time_base))


def _find_holes(shown: Integers, seconds: Floats, keys: Integers, parts: Integers, tick: float) -> list[Hole]:
    """Find holes within parts: the first frame after a joint may be shown late, and parts may differ in rate."""
    part_of_frame = np.searchsorted(parts, shown, "right")
    begins = np.flatnonzero(np.diff(part_of_frame, prepend=0))
    holes = [
        Hole(begin + after, missing)
        for begin, times in zip(begins.tolist(), np.split(seconds, begins[1:]), strict=True)
        for after, missing in find_holes(times, tick)
    ]
    # Of frames before the first key, those they depend on are not in the file.
    first = int(np.isin(shown, keys).argmax())
    return [hole for hole in holes if hole.after >= first]


def _index_order(path: str, packets: Packets, stream: Any) -> VideoIndex:
    """Index frames by the order in which the decoder returns them: their packets have no times that can be trusted."""
    shown = find_shown_order(path)
    count = len(packets.sizes)
    # A packet without a picture counts as the last, so that it is decoded wherever decoding starts.
    stamps = np.full(count, len(shown))
    stamps[shown] = np.arange(len(shown))
    keys = np.flatnonzero(packets.is_key & (stamps < len(shown)))
    if stream.codec_context.name != "h264" or len(np.unique(shown)) < len(shown) or not len(keys):
        # A packet may hold two pictures (MPEG-4), which only a decoder that began at the first knows.
        stamps, keys = np.arange(count), np.zeros(1, np.int64)
    return VideoIndex(
        stamps=stamps,
        sizes=packets.sizes,
        keys=keys,
        recoveries=video_losses.find_recoveries(packets.pictures, keys),
        shown=shown,
        seconds=np.arange(len(shown)) / _get_rate(stream),
        seekable=False,
    )


def _get_rate(stream: Any) -> float:
    return float(stream.average_rate or _DEFAULT_RATE)


def _find_offset(first: int | None, container: Any, stream: Any) -> float:
    """Return the seconds from the beginning of the first stream to a time of the video stream.

    A container's own `start_time` may be a decoding time.
    """
    if first is None:
        return 0.0
    begins = [
        float(other.start_time * other.time_base)
        for other in container.streams
        if other.type in ("audio", "video")
        and other is not stream
        and other.start_time is not None
        # The picture of a cover is no video.
        and not other.disposition & other.disposition.attached_pic
    ]
    begin = float(first * stream.time_base)
    return begin - min([begin, *begins])


def _find_losses(index: VideoIndex, packets: Packets, stamps: Integers | None, is_avi: bool) -> VideoIndex:
    """Find where pictures are gone, as far as the headers of the others show it."""
    # An AVI file states no times: FFmpeg may put the first frame too early.
    holes = [hole for hole in index.holes if hole.after or not is_avi]
    keys = index.keys[packets.is_timed[index.keys]]
    holes, in_holes = video_losses.examine_holes(holes, index.shown, keys, packets.pictures, is_avi)
    in_holes = _spread_over_doubt(in_holes, np.flatnonzero(packets.is_timed))
    gaps = np.union1d(video_losses.find_gaps(packets.pictures, stamps), in_holes)
    # The end of a file that is cut off is no damage in its middle.
    inside = index.incomplete[index.incomplete < len(index.stamps) - LAST_PACKETS]
    damage = index.damage
    for lost, describe in ((gaps, describe_loss), (inside, _describe_missing_data)):
        if len(lost) and not damage:
            damage = describe(int(np.argmax(index.shown >= lost.min())) - 1)
    # Of the last frames of a file that is cut off, those stored after the cut are missing.
    end = len(index.shown) - (MAX_REORDERED if index.lost else 0)
    holes = [hole for hole in holes if hole.after < end]
    return dataclasses.replace(index, holes=tuple(holes), gaps=gaps, damage=damage)


def _spread_over_doubt(gaps: Integers, timed: Integers) -> Integers:
    """Return all packets before which pictures may be gone: of packets whose times are reckoned, any may be the one."""
    places = np.searchsorted(timed, gaps)  # of the first packet that has a time, from a gap on
    before = np.append(timed, -1)[places - 1] + 1
    after = np.append(timed, gaps.max(initial=0))[places]
    return np.concatenate([before, np.maximum(after, gaps)])


def _find_stamps(packets: Packets, container: Any, stream: Any) -> Integers | None:
    """Return the presentation time of each packet; None if the file has none that can be trusted."""
    if any(isinstance(picture, mpeg.Picture) and picture.has_another for picture in packets.pictures):
        return None
    stamps = packets.stamps.copy()
    second = np.flatnonzero(packets.is_second_field & (stamps == UNKNOWN))
    stamps[second] = stamps[second - 1]
    if UNKNOWN in stamps:
        return None
    stamps = join_parts(stamps, packets.decoded, packets.is_key, _find_parts(packets, container, stream))
    # If frames are stored in another order than they are shown in, stamps in file order are not presentation times.
    # An AVI file has no others.
    frames = stamps[~packets.is_second_field]
    are_decoding_times = bool((np.diff(frames) > 0).all()) and _is_reordered(packets, stream)
    return None if are_decoding_times or len(np.unique(frames)) < len(frames) else stamps


def _is_reordered(packets: Packets, stream: Any) -> bool:
    """Whether frames may be stored in another order than they are shown in."""
    pictures = [picture for picture in packets.pictures if isinstance(picture, mpeg.Picture)]
    if pictures:  # some encoders announce B pictures and make none
        return any(picture.is_between for picture in pictures)
    return bool(stream.codec_context.has_b_frames)


def _find_incomplete(packets: Packets, path: str, container: Any) -> Integers:
    """Return the packets of which data are missing.

    In a transport stream the demuxer flags the packet before the one in question. Where parts are laid end to end, the
    last packet of one seems to be incomplete, since the packets are not counted on. If a key follows, nothing else
    depends on what may be missing, and whether the packet itself is complete is seen when it is decoded.
    """
    found = np.flatnonzero(packets.is_corrupt)
    if container.format.name != "mpegts":
        return found
    is_joint = np.array([_is_joint(packets, int(position) + 2) for position in found], bool)
    suspects = found[~is_joint]
    following = suspects[suspects + 1 < len(packets.is_key)] + 1
    first = [0] if is_start_incomplete(path) else []
    return np.concatenate([suspects, following, first]).astype(np.int64)


def _is_joint(packets: Packets, following: int) -> bool:
    """Whether a part laid after another seems to begin at a packet: one that seems to be incomplete is before it."""
    if following >= len(packets.sizes) or not packets.is_key[following]:
        return False
    # Where each packet is a key, the times decide.
    return not packets.is_key[following - 1] or bool(packets.decoded[following] < packets.decoded[following - 1])


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
