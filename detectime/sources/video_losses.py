"""Where pictures are gone from a video, as far as the headers of the others show it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Integers
from detectime.sources import h264, h264_order, mpeg
from detectime.sources.video_times import Hole

Picture = h264.Picture | mpeg.Picture
"""What the header of a picture says."""

_EVEN_SHARE = 0.9  # of the pictures: a stream with fewer equal steps counts unevenly
_NONE = np.array([], np.int64)


def choose_reader(codec: Any) -> Callable[[bytes], Picture | None] | None:
    """Choose how the headers of a stream are read, from its PyAV ``CodecContext``.

    None: they are not, since its decoder reports what is gone (HEVC), or they do not show it (VP8, VP9, AV1).
    """
    if codec.name == "h264":
        return h264.HeaderReader(bytes(codec.extradata or b"")).read_picture
    return mpeg.read_picture if codec.name in mpeg.CODECS else None


def find_gaps(pictures: Sequence[Any], stamps: Integers | None) -> Integers:
    """Return the packets before which pictures are gone that they depend on.

    Parameters
    ----------
    pictures
        What the reader of `choose_reader` returned for each packet.
    stamps
        int64: presentation times; None if they are not known.

    Examples
    --------
    >>> find_gaps([None, None], None).tolist()
    []
    """
    if any(isinstance(picture, mpeg.Picture) for picture in pictures):
        return mpeg.find_gaps(pictures, stamps)
    return h264_order.find_gaps(pictures)


def find_recoveries(pictures: Sequence[Any], keys: Integers) -> Integers:
    """Return, for each packet at which decoding may start, the packet from which on the pictures are right.

    Parameters
    ----------
    pictures
        What the reader of `choose_reader` returned for each packet.
    keys
        int64: the packets.

    Examples
    --------
    >>> find_recoveries([None, None], np.array([0, 1])).tolist()
    [0, 1]
    """
    if any(isinstance(picture, h264.Picture) for picture in pictures):
        return h264_order.find_recoveries(pictures, keys)
    return keys


def find_second_fields(pictures: Sequence[Any]) -> NDArray[np.bool_]:
    """Return which packets hold the second field of a frame, whose first field is in the packet before.

    Parameters
    ----------
    pictures
        What the reader of `choose_reader` returned for each packet.

    Examples
    --------
    >>> find_second_fields([None, None]).tolist()
    [False, False]
    """
    if any(isinstance(picture, h264.Picture) for picture in pictures):
        return h264_order.find_second_fields(pictures)
    return np.zeros(len(pictures), bool)


def hides_losses(codec: Any) -> bool:
    """Whether neither decoder nor headers of a stream, of which a PyAV ``CodecContext`` is given, show what is gone."""
    if codec.name == "mpeg4":  # without B pictures a camera that leaves out frames looks the same
        return not codec.has_b_frames
    return codec.name not in ("h264", "hevc", *mpeg.CODECS) and not codec.codec.intra_only


def examine_holes(
    holes: Sequence[Hole], shown: Integers, keys: Integers, pictures: Sequence[Any], is_avi: bool
) -> tuple[list[Hole], Integers]:
    """Compare holes with what the headers of pictures say.

    H.264 states their order. If it has no hole, the rate of the video is variable, and no picture is gone. If it has
    one of another length in a stream that counts evenly, it began anew there: the key at which it did so is gone.

    In MPEG-1, MPEG-2 and MPEG-4, of more missing pictures than there are B pictures in a row, others depend on one. In
    MPEG-4 without B pictures nothing can be told: a camera may have left frames out.

    Parameters
    ----------
    holes
        Holes in the times of frames.
    shown
        int64: the packet of each frame, in presentation order.
    keys
        int64: the packets at which decoding may start.
    pictures
        What the reader of `choose_reader` returned for each packet.
    is_avi
        Whether the holes are in an AVI file, which has them where a program says that it left out frames.

    Returns
    -------
    holes, gaps
        The holes in which frames may be missing; and the packets (int64) before which pictures are gone that they
        depend on.
    """
    if any(isinstance(picture, mpeg.Picture) for picture in pictures):
        return list(holes), _NONE if is_avi else _find_lost_anchors(holes, shown, keys, pictures)
    ordered = [pictures[packet] for packet in shown.tolist()] if holes else []
    if not any(isinstance(picture, h264.Picture) for picture in ordered):
        return list(holes), _NONE
    steps = [h264_order.compare_order(*pair) for pair in itertools.pairwise(ordered)]
    usual, count = Counter(step for step in steps if step is not None).most_common(1)[0] if any(steps) else (0, 0)
    if count < _EVEN_SHARE * sum(step is not None for step in steps) or usual <= 0:
        return list(holes), _NONE
    possible, gaps = [], []
    for hole in holes:
        step = steps[hole.after]
        if step == usual:
            continue
        possible.append(hole)
        if step is not None and (step - usual * (hole.missing + 1)) % ordered[hole.after].order_modulus:
            gaps.append(find_following(shown, hole))
    return possible, np.array(gaps, np.int64)


def _find_lost_anchors(
    holes: Sequence[Hole], shown: Integers, keys: Integers, pictures: Sequence[mpeg.Picture | None]
) -> Integers:
    """Return the packets that follow on holes in which a picture is gone that others depend on."""
    longest = mpeg.count_longest_between(pictures)
    if not longest and all(picture is None or picture.number is None for picture in pictures):
        return _NONE
    ordered = [pictures[packet] for packet in shown.tolist()]
    anchors = np.array([frame for frame, picture in enumerate(ordered) if picture and not picture.is_between], np.int64)
    gaps = []
    for hole in holes:
        # The last picture before the hole, and the first after it, that others may depend on.
        position = int(np.searchsorted(anchors, hole.after, "right"))
        if not 0 < position < len(anchors):
            continue
        before, after = anchors[position - 1 : position + 1].tolist()
        missing = sum(other.missing for other in holes if before <= other.after < after)
        following = find_following(shown, hole)
        is_harmless = following == shown[hole.after + 1] and following in keys
        if after - before - 1 + missing > longest and not is_harmless:
            gaps.append(following)
    return np.array(gaps, np.int64)


def find_following(shown: Integers, hole: Hole) -> int:
    """Return the first packet that is stored after all that are shown before a hole.

    Examples
    --------
    >>> find_following(np.array([0, 2, 1, 4, 3]), Hole(after=1, missing=2))
    3
    """
    return int(shown[: hole.after + 1].max()) + 1
