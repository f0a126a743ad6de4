"""When the frames of a video are shown: over the joints of parts laid end to end, and where frames are missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Floats, Integers

_MAX_STEP_AHEAD = 10.0  # seconds that decoding times may jump ahead without a joint: FFmpeg's threshold
_ROUNDING = 0.001  # seconds: many files round the times of their frames to a millisecond
_REGULAR_SHARE = 0.95  # of the frames, which last equally long if the rate is constant
_MAX_MISSING_SHARE = 0.2  # of the frames there are: if more are missing, in several holes, nothing moved there
_ALIKE = 3  # gaps of equal length in a row: the rate was lower for a while
_MAX_FRACTION = 0.2  # of a frame, by which a gap may differ from a whole number of frames


class Hole(NamedTuple):
    """Frames that are missing from a video of constant rate.

    Attributes
    ----------
    after
        Number of the last frame before it.
    missing
        How many frames of the usual duration fit into it.
    """

    after: int
    missing: int


def find_parts(decoded: Integers, tick: float) -> Integers:
    """Find parts that are laid end to end: decoding times jump back, or far ahead, where one begins.

    Parameters
    ----------
    decoded
        int64, shape (packets,), in file order: decoding time of each packet, in ticks.
    tick
        Seconds.

    Returns
    -------
    int64, shape (parts,)
        The first packet of each part.

    Examples
    --------
    >>> find_parts(np.array([1, 2, 3, 1, 2]), tick=1 / 25).tolist()
    [0, 3]
    """
    steps = np.diff(decoded)
    return np.concatenate([[0], np.flatnonzero((steps < 0) | (steps > _MAX_STEP_AHEAD / tick)) + 1])


def join_parts(shown: Integers, decoded: Integers, is_key: NDArray[np.bool_], parts: Integers) -> Integers:
    """Let the times of parts that are laid end to end run on, as FFmpeg does.

    Decoding times of a part go on one frame after the last of the part before. A decoder returns all pictures of a part
    before those of the next, even if these should be shown sooner: the next part begins after them then.

    Parameters
    ----------
    shown, decoded
        int64, shape (packets,), in file order: presentation and decoding time of each packet, in ticks.
    is_key
        bool, shape (packets,): whether decoding may start at the packet.
    parts
        int64: the first packet of each part.

    Returns
    -------
    int64, shape (packets,)
        Presentation times, those of the first part unchanged.

    Examples
    --------
    >>> stamps = np.array([1, 2, 3, 1, 2])
    >>> join_parts(stamps, stamps, np.ones(5, bool), np.array([0, 3])).tolist()
    [1, 2, 3, 4, 5]
    """
    joined = shown.copy()
    ends = np.append(parts[1:], len(shown))
    frames = [_find_step(decoded[begin:end]) for begin, end in zip(parts, ends, strict=True)]
    shift, last = 0, int(shown[: ends[0]].max(initial=0))
    for number in range(1, len(parts)):
        begin, end = int(parts[number]), int(ends[number])
        frame = frames[number - 1] or frames[number]
        shift += int(decoded[begin - 1]) + frame - int(decoded[begin])
        joined[begin:end] += shift
        # Where only the clock was set, in the middle of a stream, pictures of both sides depend on each other.
        if is_key[begin]:
            joined[begin:end] += max(0, last + frame - int(joined[begin:end].min()))
        last = max(last, int(joined[begin:end].max()))
    return joined


def _find_step(decoded: Integers) -> int:
    """Return the usual step of decoding times, in ticks; 0 if it is not known."""
    steps = np.diff(decoded)
    return round(float(np.median(steps[steps > 0]))) if (steps > 0).any() else 0


def find_holes(seconds: Floats, tick: float) -> list[Hole]:
    """Find the holes in an otherwise constant rate; if the rate varies, there are none.

    Parameters
    ----------
    seconds
        float64: presentation times.
    tick
        Their resolution, in seconds.

    Examples
    --------
    >>> find_holes(np.delete(np.arange(100) / 25, [30, 31]), tick=0.001)
    [Hole(after=29, missing=2)]
    """
    durations = np.diff(seconds)
    usual = _find_usual_duration(durations, max(tick, _ROUNDING))
    if usual is None:
        return []
    frames = np.rint(durations / usual).astype(np.int64)
    is_long = (frames > 1) & (np.abs(durations / usual - frames) < _MAX_FRACTION)
    holes = np.flatnonzero(is_long & ~_mark_alike(frames))
    missing = frames[holes] - 1
    # A recording of a screen stores pictures only when something moves, and has several holes: one may be a long loss.
    if missing.sum() - missing.max(initial=0) > _MAX_MISSING_SHARE * len(seconds):
        return []
    return [Hole(after, count) for after, count in zip(holes.tolist(), missing.tolist(), strict=True)]


def _find_usual_duration(durations: Floats, rounding: float) -> float | None:
    """Return the duration of a frame; None if they differ by more than rounding explains."""
    if not len(durations):
        return None
    ordered = np.sort(durations)
    # The times of a constant rate are rounded, so that durations take two adjacent values at most.
    last = np.searchsorted(ordered, ordered + 1.01 * rounding, "right")
    first = int(np.argmax(last - np.arange(len(ordered))))
    regular = ordered[first : last[first]]
    usual = float(regular.mean())
    return usual if usual > 0 and len(regular) >= _REGULAR_SHARE * len(ordered) else None


def _mark_alike(frames: Integers) -> NDArray[np.bool_]:
    """Mark durations, in frames, that stand in a row of equal ones."""
    begins = np.flatnonzero(np.diff(frames, prepend=-1))
    lengths = np.diff(begins, append=len(frames))
    return np.repeat(lengths >= _ALIKE, lengths) & (frames > 1)
