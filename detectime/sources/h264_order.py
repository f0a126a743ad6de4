"""What the numbers of H.264 pictures tell: where pictures are gone, and which fields belong together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Integers
from detectime.sources.h264 import Picture

_BOTH = 3  # sum of the parities of two fields that make a frame; of two frames or equal fields it is another
_MAX_GAP_SHARE = 0.2  # of the pictures: an encoder whose numbers have more gaps counts in another way


def find_gaps(pictures: Sequence[Picture | None]) -> Integers:
    """Return the packets before which reference pictures are gone.

    Parameters
    ----------
    pictures
        One per packet, in decoding order; None where nothing could be read.

    Returns
    -------
    int64
        Empty if nothing is gone, if the stream allows gaps, or if there are so many that its encoder must count in
        another way.

    Examples
    --------
    >>> numbers = [0, 1, 2, 2, 5]
    >>> find_gaps([Picture(number, 16, number == 0, number != 2) for number in numbers]).tolist()
    [4]
    """
    gaps: list[int] = []
    last: Picture | None = None  # the last reference picture
    for position, picture in enumerate(pictures):
        if picture is None:
            continue
        if last and picture.modulus and not picture.is_idr:
            step = (picture.frame_num - last.frame_num) % picture.modulus
            if step > 1 or (step == 0 and not picture.parity):
                gaps.append(position)
                last = picture._replace(frame_num=picture.frame_num - 1)  # told once
        if picture.is_reference:
            last = picture._replace(frame_num=0) if picture.resets else picture
    is_habit = len(gaps) > _MAX_GAP_SHARE * len(pictures)
    return np.array([] if is_habit else gaps, np.int64)


def find_second_fields(pictures: Sequence[Picture | None]) -> NDArray[np.bool_]:
    """Return which packets hold the second field of a frame, whose first field is in the packet before.

    Parameters
    ----------
    pictures
        One per packet, in decoding order.

    Examples
    --------
    >>> find_second_fields([Picture(7, 16, False, True, parity) for parity in (1, 2, 0)]).tolist()
    [False, True, False]
    """
    found = np.zeros(len(pictures), bool)
    for position, (first, second) in enumerate(itertools.pairwise(pictures), start=1):
        if first and second and not found[position - 1] and not second.is_idr:
            found[position] = first.frame_num == second.frame_num and first.parity + second.parity == _BOTH
    return found


def find_recoveries(pictures: Sequence[Picture | None], keys: Integers) -> Integers:
    """Return, for each packet at which decoding may start, the packet from which on the pictures are right.

    Parameters
    ----------
    pictures
        One per packet, in decoding order.
    keys
        int64: the packets.

    Returns
    -------
    int64, shape of `keys`
        The key itself, except where a stream is refreshed bit by bit; ``len(pictures)`` if it ends before that.
    """
    found = keys.copy()
    for row, key in enumerate(keys.tolist()):
        picture = pictures[key]
        left = picture.recovery if picture else 0
        last, position = picture.frame_num if picture else 0, key
        while left > 0 and (position := position + 1) < len(pictures):
            later = pictures[position]
            if later and later.frame_num != last:
                last, left = later.frame_num, left - 1
        found[row] = position
    return found


def compare_order(before: Picture | None, after: Picture | None) -> int | None:
    """Return how far a picture is shown after another, in units of the stream; negative if the order begins anew.

    None if that is not known, or no matter: the order begins anew at a picture that depends on nothing.

    Examples
    --------
    >>> first, second = (Picture(0, 16, False, True, order=order, order_modulus=16) for order in (14, 2))
    >>> compare_order(first, second), compare_order(second, first)
    (4, -4)
    """
    if before is None or after is None or before.order is None or after.order is None or after.is_idr:
        return None
    half = after.order_modulus // 2
    return (after.order - before.order + half) % after.order_modulus - half
