"""Decodes frames of one video file, with PyAV."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from detectime.images import MAX_PIXELS, UnreadableImageError
from detectime.sources.video_index import NO_PICTURE, VideoIndex, open_video, read_packets
from detectime.storage import urls

_MAX_GAP_SHARE = 0.05  # of the frames: a video with more gaps has frames of unequal duration
_GAPS_CHECKED = 3
_FRAMES_AFTER_GAP = 2
_SEEK_PAYS_AFTER = 8  # packets: fewer are decoded sooner than another position in the file is found
_SEEK_ATTEMPTS = 3  # keys that are tried, each before the last, before decoding starts from the beginning


class VideoDecoder:
    """An open video: reads forward, and seeks only where that is faster.

    Every frame is decoded from the last key that it can be decoded from, or from an earlier one. What was read before
    changes neither its pixels nor whether damage has reached it.

    Parameters
    ----------
    path, index
        The file, and its index.

    Raises
    ------
    MissingFrameError, UnreadableImageError
        If the file cannot be opened.
    """

    def __init__(self, path: str, index: VideoIndex) -> None:
        self._path, self._index = path, index
        self._frame_numbers = np.full(len(index.stamps), -1)
        self._frame_numbers[index.shown] = np.arange(len(index.shown))
        self._key_positions = dict(zip(index.stamps[index.keys].tolist(), index.keys.tolist(), strict=True))
        self._errors: dict[int, str] = {}  # by packet, since decoding began
        self._confirmed_errors: dict[int, str] = {}  # by packet, wherever decoding begins
        self._without_picture: set[int] = set()  # packets that give none wherever decoding begins
        self._number, self._frame = len(index), None  # of the last decoded frame
        self._start = self._position = 0  # packets: where decoding began, and the last one that was decoded
        self._container, self._stream = open_video(path)
        self._is_fresh = True

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read_frame(self, number: int) -> Any:
        """Return a frame as a PyAV ``VideoFrame``.

        Raises
        ------
        UnreadableImageError
            If the file ends before it, or if it or data that it depends on is damaged.
        """
        index = self._index
        if number >= len(index.shown):
            raise UnreadableImageError(f"the video ends early: {len(index.shown)} of its {len(index)} frames are there")
        packet = int(index.shown[number])
        start = index.find_start(packet)
        _raise_first(self._confirmed_errors, start, packet)
        if packet in self._without_picture:
            raise UnreadableImageError(NO_PICTURE)
        if number < self._number or start > self._position + _SEEK_PAYS_AFTER:
            self._restart(start)
        errors = self._advance(number, start)
        # Errors may come from packets before the key, and not every key is as good as the beginning: the decoder may
        # lack what it read before, or recover only after a while (intra refresh). So an error counts only if it occurs
        # from the last key and from an earlier one; a missing picture, only if it is missing from the beginning too.
        for earlier in self._list_restarts(start) if errors and (start or self._start) else ():
            self._restart(earlier)
            errors = self._advance(number, start)
            if not errors or (earlier < start and errors != {packet: NO_PICTURE}):
                break
        if errors == {packet: NO_PICTURE}:
            self._without_picture.add(packet)
            raise UnreadableImageError(NO_PICTURE)
        self._confirmed_errors |= errors
        _raise_first(errors, start, packet)
        return self._frame

    def _advance(self, number: int, start: int) -> dict[int, str]:
        """Decode up to a frame; return the errors of the packets that it depends on."""
        packet = int(self._index.shown[number])
        while self._number < number:
            self._number, self._frame = next(self._frames, (len(self._index), None))
        errors = {position: reason for position, reason in self._errors.items() if start <= position <= packet}
        return errors or ({packet: NO_PICTURE} if self._number != number else {})

    def _list_restarts(self, start: int) -> list[int]:
        """List the packets from which to decode again what follows a key: the key, and ever earlier ones."""
        before = self._index.keys[self._index.keys < start]
        steps = (2**k for k in range(1, len(before).bit_length()))
        return [start, *(int(before[-step]) for step in steps), *([0] if start else [])]

    def _restart(self, start: int) -> None:
        """Go to a packet at which decoding may start."""
        self._start = self._position = start
        self._number, self._frame = -1, None
        self._errors.clear()
        self._frames = self._decode(self._read_packets(start), start)

    def _read_packets(self, start: int) -> Iterator[Any]:
        """Yield the packets of the file from a position on."""
        index = self._index
        # Some formats seek to a later key than the one asked for, or into the middle of a packet.
        keys = index.keys[index.keys <= start][::-1][:_SEEK_ATTEMPTS] if start and index.seekable else ()
        for key in keys:
            self._is_fresh = False
            self._container.seek(int(index.stamps[key]), stream=self._stream)
            packets = read_packets(self._container, self._stream)
            for packet in packets:
                position = self._key_positions.get(packet.pts)
                if position is not None and index.sizes[position] == packet.size:
                    if position <= start:
                        return itertools.islice(itertools.chain([packet], packets), start - position, None)
                    break
        if not self._is_fresh:
            self._container.close()
            self._container, self._stream = open_video(self._path)
        self._is_fresh = False
        return itertools.islice(read_packets(self._container, self._stream), start, None)

    def _decode(self, packets: Iterator[Any], start: int) -> Iterator[tuple[int, Any]]:
        """Decode packets, the first of which is at `start`; yield frame numbers and frames."""
        index = self._index
        for position, packet in zip(range(start, len(index.stamps)), packets, strict=False):
            self._position = position
            indexed = index.stamps[position], index.sizes[position]
            if start and index.seekable and (packet.pts, packet.size) != indexed:
                return  # packets are split differently than from the beginning: decoding starts there then
            # A packet shown before the first key may depend on packets stored before that: it is decoded with those.
            if not start or index.stamps[position] >= index.stamps[start]:
                yield from self._decode_packet(packet, position)
        yield from self._decode_packet(None, len(index.stamps))

    def _decode_packet(self, packet: Any, position: int) -> Iterator[tuple[int, Any]]:
        """Decode one packet; None: what the decoder has kept back."""
        import av

        try:
            if packet is not None:
                if packet.is_corrupt:
                    reason = "the video ends early: this frame, or one that it depends on, is cut off"
                    raise UnreadableImageError(reason)
                packet.pts = packet.dts = position  # so that each frame carries the position of its packet
            for frame in self._stream.codec_context.decode(packet):
                yield int(self._frame_numbers[frame.pts]), frame
        except UnreadableImageError as error:
            self._errors[position] = str(error)
        except av.FFmpegError as error:
            reason = urls.describe_error(error)
            self._errors[position] = f"this frame, or one that it depends on, is damaged: {reason}"


def check_gaps(path: str, index: VideoIndex) -> VideoIndex:
    """Record where frames are missing in the middle of a video.

    There a frame lasts far longer than others, and the next ones are damaged. A gap alone is no damage: a camera may
    drop frames. A file that is known to be cut off or damaged is not checked.
    """
    durations = np.diff(index.seconds)
    gaps = np.flatnonzero(durations > 1.5 * np.median(durations)) if len(durations) else durations
    is_rare = 0 < len(gaps) <= _MAX_GAP_SHARE * len(durations)
    if index.lost or index.damage or not is_rare or index.width * index.height > MAX_PIXELS:
        return index
    with contextlib.suppress(UnreadableImageError), contextlib.closing(VideoDecoder(path, index)) as decoder:
        for number in gaps[:_GAPS_CHECKED].tolist():
            for follower in range(number + 1, min(number + 1 + _FRAMES_AFTER_GAP, len(index))):
                try:
                    decoder.read_frame(follower)
                except UnreadableImageError as error:
                    if str(error) != NO_PICTURE:
                        return dataclasses.replace(index, damage=f"frames are gone after frame {number}")
    return index


def _raise_first(errors: dict[int, str], start: int, packet: int) -> None:
    for position, reason in errors.items():
        if start <= position <= packet:
            raise UnreadableImageError(reason)
