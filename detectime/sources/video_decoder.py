"""Decodes frames of one video file, with PyAV."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from detectime.images import MAX_PIXELS, UnreadableImageError
from detectime.sources.video_index import LAST_PACKETS, MAX_REORDERED, NO_PICTURE, VideoIndex, describe_loss
from detectime.sources.video_losses import find_following
from detectime.sources.video_packets import open_video, read_packets
from detectime.storage import urls

_DAMAGED = "this frame, or one that it depends on, is damaged"
_HOLES_CHECKED = 3
_FRAMES_AFTER_HOLE = 60
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
        self._incomplete, self._second_fields = set(index.incomplete.tolist()), set(index.second_fields.tolist())
        self._errors: dict[int, str] = {}  # by packet, since decoding began
        self._confirmed_errors: dict[int, str] = {}  # by packet, wherever decoding begins
        self._without_picture: set[int] = set()  # packets that give none wherever decoding begins
        # What a frame may depend on may be shown after it: the last such frame, by packet.
        self._last_needed = np.maximum.accumulate(self._frame_numbers)
        self._frames: dict[int, Any] = {}  # decoded ones, by number, from the last that was asked for
        self._reached = len(index)  # number of the last decoded frame
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
        start, last = index.find_start(packet), self._find_last(packet)
        _raise_known(index, start, last)
        _raise_first(self._confirmed_errors, start, last)
        if packet in self._without_picture:
            raise UnreadableImageError(NO_PICTURE)
        if number not in self._frames and (number <= self._reached or start > self._position + _SEEK_PAYS_AFTER):
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
        _raise_first(errors, start, last)
        return self._frames[number]

    def _advance(self, number: int, start: int) -> dict[int, str]:
        """Decode up to a frame, and what it may depend on; return the errors of these packets.

        Some errors are told by the decoded frame alone, and it may be shown after those that depend on it.
        """
        packet = int(self._index.shown[number])
        self._frames = {known: frame for known, frame in self._frames.items() if known >= number}
        while self._reached < min(int(self._last_needed[packet]), number + MAX_REORDERED):
            self._reached, frame = next(self._output, (len(self._index), None))
            if frame is not None and self._reached >= number:
                self._frames[self._reached] = frame
        last = self._find_last(packet)
        errors = {position: reason for position, reason in self._errors.items() if start <= position <= last}
        return errors or ({packet: NO_PICTURE} if number not in self._frames else {})

    def _find_last(self, packet: int) -> int:
        """Return the last packet of the frame that begins with a packet."""
        return packet + (packet + 1 in self._second_fields)

    def _list_restarts(self, start: int) -> list[int]:
        """List the packets from which to decode again what follows a key: the key, and ever earlier ones."""
        before = self._index.keys[self._index.keys < start]
        steps = (2**k for k in range(1, len(before).bit_length()))
        return [start, *(int(before[-step]) for step in steps), *([0] if start else [])]

    def _restart(self, start: int) -> None:
        """Go to a packet at which decoding may start."""
        self._start = self._position = start
        self._reached = -1
        self._frames.clear()
        self._errors.clear()
        self._output = self._decode(self._read_packets(start), start)

    def _read_packets(self, start: int) -> Iterator[Any]:
        """Yield the packets of the file from a position on."""
        import av

        index = self._index
        # Some formats seek to a later key than the one asked for, or into the middle of a packet.
        keys = index.keys[index.keys <= start][::-1][:_SEEK_ATTEMPTS] if start and index.seekable else ()
        for key in keys:
            self._is_fresh = False
            try:
                self._container.seek(int(index.stamps[key]), stream=self._stream)
            except (av.FFmpegError, OSError, ValueError):  # as FFmpeg does in a damaged file: it is read from its start
                break
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

        if position in self._incomplete:  # what depends on it is not read
            return
        try:
            if packet is not None:
                packet.pts = packet.dts = position  # so that each frame carries the position of its packet
            for frame in self._stream.codec_context.decode(packet):
                if frame.is_corrupt:
                    self._errors[frame.pts] = f"{_DAMAGED}: the decoder reports errors in it"
                number = int(self._frame_numbers[frame.pts])
                if number > self._reached:
                    yield number, frame
        except av.FFmpegError as error:
            reason = urls.describe_error(error)
            self._errors[position] = f"{_DAMAGED}: {reason}"


def check_holes(path: str, index: VideoIndex) -> VideoIndex:
    """Find out by decoding whether frames are lost in the holes of a video.

    The decoder reports errors then in the frames that follow. A hole alone is no damage: a camera may leave out frames.
    A file that is known to be cut off or damaged is not checked.
    """
    if index.lost or index.damage or not index.holes or index.width * index.height > MAX_PIXELS:
        return index
    with contextlib.suppress(UnreadableImageError), contextlib.closing(VideoDecoder(path, index)) as decoder:
        for hole in index.holes[:_HOLES_CHECKED]:
            packet = find_following(index.shown, hole)
            for follower in range(hole.after + 1, min(hole.after + 1 + _FRAMES_AFTER_HOLE, len(index.shown))):
                if index.find_start(int(index.shown[follower])) > packet:
                    break
                try:
                    decoder.read_frame(follower)
                except UnreadableImageError as error:
                    if str(error) != NO_PICTURE:
                        gaps = np.append(index.gaps, packet)
                        return dataclasses.replace(index, gaps=gaps, damage=describe_loss(hole.after))
    return index


def _raise_known(index: VideoIndex, start: int, packet: int) -> None:
    """Raise if a packet, or one that it depends on, is incomplete or follows on a loss."""
    if not len(index.incomplete) and not len(index.gaps):
        return
    for position in index.incomplete[(start <= index.incomplete) & (index.incomplete <= packet)].tolist():
        where = "the video ends early" if position >= len(index.stamps) - LAST_PACKETS else "data are missing"
        raise UnreadableImageError(f"{where}: this frame, or one that it depends on, is cut off")
    if ((start < index.gaps) & (index.gaps <= packet)).any():  # a gap before a key does not reach beyond it
        raise UnreadableImageError(f"{_DAMAGED}: frames before it are gone")


def _raise_first(errors: dict[int, str], start: int, packet: int) -> None:
    for position, reason in errors.items():
        if start <= position <= packet:
            raise UnreadableImageError(reason)
