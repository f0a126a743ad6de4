"""When the frames of a video are shown: over the joints of parts laid end to end, and where frames are missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Floats, Integers

_MAX_STEP_AHEAD = 10.0  # seconds that decoding times may jump ahead without a joint: FFmpeg's threshold
_ROUNDING = 0.001  # seconds: many files round the times of their frames to a millisecond
_REGULAR_SHARE = 0.95  # of the frames, which last equally long if the rate is constant
_MAX_MISSING_SHARE = 0.2  # of the frames: where more are missing, pictures were stored only when something moved
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


def join_parts(shown: Integers, decoded: Integers, tick: float) -> Integers:
    """Let the times of parts that are laid end to end run on, as FFmpeg does.

    Decoding times that jump back, or far ahead, go on one frame after the last.

    Parameters
    ----------
    shown, decoded
        int64, shape (packets,), in file order: presentation and decoding time of each packet, in ticks.
    tick
        Seconds.

    Returns
    -------
    int64, shape (packets,)
        Presentation times, those of the first part unchanged.

    Examples
    --------
    >>> stamps = np.array([1, 2, 3, 1, 2])
    >>> join_parts(stamps, stamps, tick=1 / 25).tolist()
    [1, 2, 3, 4, 5]
    """
    steps = np.diff(decoded)
    is_joint = (steps < 0) | (steps > _MAX_STEP_AHEAD / tick)
    regular = steps[~is_joint & (steps > 0)]
    frame = round(float(np.median(regular))) if len(regular) else 0
    if not frame or not is_joint.any():
        return shown
    shifts = np.where(is_joint, frame - steps, 0)
    joined: Integers = shown + np.concatenate([[0], np.cumsum(shifts)])
    return joined


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
    if missing.sum() > _MAX_MISSING_SHARE * (len(seconds) + missing.sum()):
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
