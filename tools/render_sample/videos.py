"""The videos of the sample: contents and motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frame import Floats


@dataclass(frozen=True)
class Video:
    """Contents of a video; positions have three components: outwards, up, to the camera."""

    name: str
    gesture: str
    look: str
    background: str
    side: int  # -1: a right hand at the viewer's left; 1: a left hand at the viewer's right
    face_x: float  # centre of the face, pixels
    face_y: float
    size: float  # scale of the astronaut's picture; at 1 her face is 117 pixels high
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)  # added to the position of the pose, metres
    away: int = 0  # number of frames at the start with the hand away from the face
    start: tuple[float, float, float] = (0.08, -0.42, 0.02)  # its offset in those frames, metres
    flipped: bool = False  # mirror the picture of the astronaut
    hand: bool = True  # show a hand
    frames: int = 9

    def get_remoteness(self, k: int) -> float:
        """Return the remaining part of the way from ``start`` in frame ``k``: 1 at ``start``, 0 at the position."""
        if k < self.away:
            return 1 - 0.02 * k
        along = min((k - self.away + 1) / 1.6, 1.0) if self.away else 1.0
        return 1 - along**2 * (3 - 2 * along)


# fmt: off
VIDEOS = (
    Video("stop_01", "stop", "light", "wall", -1, 350, 165, 0.95),
    Video("stop_02", "stop", "brown", "brick", 1, 270, 175, 1.10, (0.02, 0.01, 0.04), away=2, flipped=True),
    Video("victory_01", "victory", "olive", "gravel", 1, 290, 165, 0.92),
    Video("victory_02", "victory", "rosy", "lights", -1, 360, 170, 1.05, (0.0, -0.03, 0.05), away=2, flipped=True),
    Video("mute_01", "mute", "light", "coffee", -1, 330, 165, 1.00),
    Video("mute_02", "mute", "tan", "grass", 1, 310, 180, 1.15, (0.0, 0.0, 0.02), flipped=True),
    Video("ok_01", "ok", "rosy", "grass", -1, 345, 170, 1.00, flipped=True),
    Video("ok_02", "ok", "tan", "shelves", 1, 280, 165, 0.90, (0.0, -0.02, 0.05), away=2),
    Video("like_01", "like", "brown", "lights", -1, 350, 165, 0.98, (0.0, -0.05, 0.04)),
    Video("like_02", "like", "light", "brick", 1, 280, 175, 1.10, (0.0, -0.08, 0.02), away=2, flipped=True,
          start=(0.157, -0.03, 0.0)),
    Video("dislike_01", "dislike", "olive", "wall", 1, 290, 165, 1.00, (0.0, -0.04, 0.03)),
    Video("dislike_02", "dislike", "rosy", "rocket", -1, 350, 175, 1.05, (0.01, -0.06, 0.05), flipped=True),
    Video("no_gesture_01", "no_gesture", "tan", "lights", 1, 320, 170, 1.05, hand=False, frames=6),
    Video("no_gesture_02", "no_gesture", "light", "coffee", -1, 330, 160, 0.90, (-0.08, -0.43, 0.08), flipped=True,
          frames=6),
)
# fmt: on


def make_sway(rng: np.random.Generator, amplitudes: tuple[float, ...], frames: int) -> Floats:
    """Return a smooth random motion around zero: (frames, len(amplitudes))."""
    t, count = np.arange(frames)[:, None], len(amplitudes)
    slow = np.sin(2 * np.pi * (t / rng.uniform(9, 15, count) + rng.uniform(0, 1, count)))
    fast = np.sin(2 * np.pi * (t / rng.uniform(4, 6, count) + rng.uniform(0, 1, count)))
    wandering: Floats = (0.75 * slow + 0.25 * fast) * amplitudes
    return wandering
