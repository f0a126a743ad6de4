"""The poses: how thumb and fingers are bent for each gesture, and how the hand is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .frame import Floats


def rotation(axis: str, degrees: float) -> Floats:
    """Rotate about ``x``, ``y`` or ``z``, counter-clockwise seen against the axis: (3, 3)."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


@dataclass(frozen=True)
class Finger:
    """The bend at a finger's three joints, and at the knuckle the turn towards the thumb; degrees, zero is straight."""

    knuckle: float
    middle: float
    end: float
    spread: float = 0.0


@dataclass(frozen=True)
class Thumb:
    """How the thumb is bent; degrees, zero is the mesh at rest."""

    fold: float = 0.0  # of its metacarpal, towards the palm
    swing: float = 0.0  # of its metacarpal, away from the index finger
    roll: float = 0.0  # of its metacarpal, about its own axis
    middle: float = 0.0  # the two joints above
    end: float = 0.0


@dataclass(frozen=True)
class Pose:
    """A hand's shape and how it is held, for a right hand at the viewer's left.

    Roll, yaw, pitch and tilt turn it, in this order and in degrees, from the palm to the camera and the fingers up.
    Directions and places have three components: outwards (away from the body's middle), up, to the camera.
    """

    thumb: Thumb
    fingers: tuple[Finger, ...]  # index, middle, ring, pinky
    roll: float = 0.0  # about the axis to the camera; positive: towards the viewer's left
    yaw: float = 0.0  # about the vertical; positive: the palm to the viewer's right
    pitch: float = 0.0  # about the horizontal; positive: the fingers lean to the camera
    tilt: float = 0.0  # about the axis to the camera once more
    elbow: tuple[float, float, float] = (0.42, -1.0, 0.1)  # its direction from the wrist
    anchor: str = "middle-finger-phalanx-proximal"  # the joint that is put at ``place``
    place: tuple[float, float, float] = (0.19, -0.02, 0.08)  # seen from the middle of the face; metres

    def moved(self, yaw: float, pitch: float, tilt: float, bend: float) -> Pose:
        """Turn the hand a little and bend its fingers a little more or less; degrees."""
        fingers = tuple(replace(f, knuckle=f.knuckle + bend, middle=f.middle + bend / 2) for f in self.fingers)
        return replace(self, yaw=self.yaw + yaw, pitch=self.pitch + pitch, tilt=self.tilt + tilt, fingers=fingers)

    def turns(self) -> Iterator[list[tuple[str, Floats]]]:
        """For thumb and fingers, yield the rotation (3, 3) of each joint in its own axes, from the wrist outwards."""
        thumb = self.thumb
        yield [
            ("thumb-metacarpal", rotation("y", thumb.swing) @ rotation("x", -thumb.fold) @ rotation("z", thumb.roll)),
            ("thumb-phalanx-proximal", rotation("x", -thumb.middle)),
            ("thumb-phalanx-distal", rotation("x", -thumb.end)),
            ("thumb-tip", np.eye(3)),
        ]
        for name, finger in zip(("index", "middle", "ring", "pinky"), self.fingers, strict=True):
            yield [
                (f"{name}-finger-metacarpal", np.eye(3)),
                (f"{name}-finger-phalanx-proximal", rotation("y", finger.spread) @ rotation("x", -finger.knuckle)),
                (f"{name}-finger-phalanx-intermediate", rotation("x", -finger.middle)),
                (f"{name}-finger-phalanx-distal", rotation("x", -finger.end)),
                (f"{name}-finger-tip", np.eye(3)),
            ]

    def orientation(self, side: int) -> Floats:
        """From the mesh's axes to the world's, (3, 3); with ``side`` 1 it mirrors as well, for a left hand."""
        upright = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])  # fingers up, palm to the camera
        turned = rotation("y", self.yaw) @ rotation("z", self.roll) @ upright
        turned = rotation("z", self.tilt) @ rotation("x", self.pitch) @ turned
        held: Floats = np.diag([-side, 1.0, 1.0]) @ turned
        return held


FOLDED = Finger(78, 98, 58)
# The angles of the thumb of victory, mute and ok were solved for touching: the folded ring finger, the folded middle
# finger, the tip of the index finger.
POSES = {
    "stop": Pose(Thumb(), (Finger(4, 4, 3, 3), Finger(2, 4, 3), Finger(3, 5, 3), Finger(4, 6, 4, -3))),
    "victory": Pose(
        Thumb(fold=34, swing=20, roll=-9, middle=43, end=26),
        (Finger(5, 3, 2, 12), Finger(3, 3, 2, -9), FOLDED, FOLDED),
    ),
    "mute": Pose(
        Thumb(fold=31, swing=18, roll=-7, middle=30, end=32),
        (Finger(4, 4, 3), FOLDED, FOLDED, FOLDED),
        yaw=72,
        tilt=5,
        elbow=(0.55, -1.0, 0.0),
        anchor="index-finger-phalanx-intermediate",
        place=(0.0, -0.055, 0.06),
    ),
    "ok": Pose(
        Thumb(fold=20, swing=10, roll=-11, middle=21, end=22),
        (Finger(48, 58, 28, 2), Finger(14, 12, 6), Finger(5, 9, 4), Finger(0, 6, 4, -6)),
        yaw=28,
    ),
    "like": Pose(Thumb(fold=-15, swing=10), (FOLDED,) * 4, roll=90, yaw=112, tilt=14, elbow=(0.7, -0.9, -0.3)),
    "dislike": Pose(Thumb(fold=-15, swing=10), (FOLDED,) * 4, roll=-90, yaw=-6, tilt=2, elbow=(1.0, -0.45, -0.2)),
    "no_gesture": Pose(
        Thumb(fold=12, middle=10, end=10),
        (Finger(22, 26, 14), Finger(28, 32, 18), Finger(32, 36, 20), Finger(34, 38, 22)),
        yaw=165,
        tilt=-55,
        elbow=(1.0, -0.45, 0.0),
    ),
}
