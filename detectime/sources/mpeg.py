"""Headers of MPEG-1, MPEG-2 and MPEG-4 (part 2) pictures, read from packets: they show where pictures are gone.

A decoder that lacks a picture takes another in its place, and reports nothing. See ITU-T H.262, 6.3.8 and 6.3.9, and
ISO/IEC 14496-2, 6.3.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detectime.boxes import Integers

CODECS = ("mpeg1video", "mpeg2video", "mpeg4")
"""FFmpeg's names of the codecs whose headers are read here."""

_PICTURE, _GROUP, _VOP = b"\0\0\1\0", b"\0\0\1\xb8", b"\0\0\1\xb6"  # start codes
_MODULUS = 1024  # of `temporal_reference`
_MAX_LEFT_OUT = 9  # bytes of a picture that was left out, with its start code: none that was coded is as short
_MAX_GAP_SHARE = 0.2  # of the pictures: an encoder whose numbers have more gaps counts in another way


class Picture(NamedTuple):
    """What the header of a packet's picture says.

    Attributes
    ----------
    number
        Its place in presentation order (`temporal_reference`), which begins anew with a group; None in MPEG-4.
    is_between
        Whether it is a B picture: shown between the last two others in decoding order, on which it depends, while no
        picture depends on it.
    begins_group
        Whether a group begins with it.
    is_intra
        Whether it depends on no other picture: decoding may start at it.
    has_another
        Whether the packet holds another picture after it (MPEG-4 with a packed bitstream, as DivX and XviD store it in
        AVI files): the times of such packets are not those of their pictures.
    is_left_out
        Whether it only says that no picture was coded (MPEG-4), and a decoder returns none.
    """

    number: int | None
    is_between: bool
    begins_group: bool
    is_intra: bool = False
    has_another: bool = False
    is_left_out: bool = False


def read_picture(packet: bytes) -> Picture | None:
    """Read the header of a packet's picture; None if there is none.

    Examples
    --------
    >>> read_picture(bytes.fromhex("000001b8 00080000 00000100 00980000"))[:3]
    (2, True, True)
    """
    vop = packet.find(_VOP)
    if vop >= 0 and vop + 4 < len(packet):
        kind = packet[vop + 4] >> 6
        has_another = packet.find(_VOP, vop + 4) >= 0
        is_left_out = len(packet) - vop <= _MAX_LEFT_OUT
        return Picture(None, kind == 2, False, kind == 0, has_another, is_left_out)
    header = packet.find(_PICTURE)
    if header < 0 or header + 5 >= len(packet):
        return None
    value = int.from_bytes(packet[header + 4 : header + 6], "big")
    kind = value >> 3 & 7
    return Picture(value >> 6, kind == 3, begins_group=0 <= packet.find(_GROUP) < header, is_intra=kind == 1)


def find_gaps(pictures: Sequence[Picture | None], stamps: Integers | None) -> Integers:
    """Return the packets before which pictures are gone that they depend on.

    Parameters
    ----------
    pictures
        One per packet, in decoding order; None where nothing could be read.
    stamps
        int64: presentation times, which stand in where pictures have no number; None if they are not known.

    Returns
    -------
    int64
        Empty if nothing is gone, or if there are so many that the encoder must count in another way.

    Examples
    --------
    >>> numbers = [2, 0, 1, 5, 3, 4, 8, 6, 7, 9, 10]
    >>> pictures = [Picture(number, number % 3 != 2, number == 2) for number in numbers]
    >>> find_gaps(pictures, None).tolist()  # before 9 the picture 11 is gone
    [9, 10]
    """
    gaps: list[int] = []
    longest = count_longest_between(pictures)
    anchors: list[int] = []  # numbers of the last two pictures of the group that others may depend on
    for position, picture in enumerate(pictures):
        number = _get_number(picture, stamps, position)
        if picture is None or number is None:
            continue
        if picture.begins_group:
            anchors = []
        is_counted = picture.number is not None
        if picture.is_between:
            # It belongs before the last of the others, and after the one before that.
            is_gone = bool(anchors) and _subtract(number, anchors[-1], is_counted) > 0
            is_gone |= len(anchors) > 1 and _subtract(number, anchors[-2], is_counted) < 0
        else:
            step = _subtract(number, anchors[-1], is_counted) if anchors else 0
            # The pictures between this and the last follow.
            is_gone = step < 0 or (is_counted and step - 1 > longest)
            anchors = [*anchors[-1:], number]
        if is_gone:
            gaps.append(position)
    is_habit = len(gaps) > _MAX_GAP_SHARE * len(pictures)
    return np.array([] if is_habit else gaps, np.int64)


def _get_number(picture: Picture | None, stamps: Integers | None, position: int) -> int | None:
    if picture is None or picture.number is not None:
        return picture.number if picture else None
    return None if stamps is None else int(stamps[position])


def _subtract(number: int, other: int, is_counted: bool) -> int:
    """Return how far a number lies after another."""
    if not is_counted:
        return number - other
    return (number - other + _MODULUS // 2) % _MODULUS - _MODULUS // 2


def count_longest_between(pictures: Sequence[Picture | None]) -> int:
    """Return the length of the longest row of B pictures.

    Examples
    --------
    >>> count_longest_between([Picture(None, is_between, False) for is_between in (False, True, True, False)])
    2
    """
    longest = length = 0
    for picture in pictures:
        length = length + 1 if picture and picture.is_between else 0
        longest = max(longest, length)
    return longest
