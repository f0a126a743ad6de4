"""The poses: the bend of thumb and fingers for each gesture, and the orientation of the hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .frame import Floats


def rotate(axis: str, degrees: float) -> Floats:
    """Return the rotation (3, 3) about ``x``, ``y`` or ``z``, counter-clockwise when looking against the axis."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


@dataclass(frozen=True)
class Finger:
    """Bend at the three joints of a finger, and its spread towards the thumb; degrees, zero is straight."""

    knuckle: float
    middle: float
    end: float
    spread: float = 0.0


@dataclass(frozen=True)
class Thumb:
    """Bend of the thumb; degrees, zero is the mesh at rest."""

    fold: float = 0.0  # of its metacarpal, towards the palm
    swing: float = 0.0  # of its metacarpal, away from the index finger
    roll: float = 0.0  # of its metacarpal, about its own axis
    middle: float = 0.0  # the two joints above
    end: float = 0.0


@dataclass(frozen=True)
class Pose:
    """Shape and orientation of a right hand at the viewer's left.

    Roll, yaw, pitch and tilt rotate it, in this order and in degrees, starting from palm to the camera, fingers up.
    Directions and positions have three components: outwards (away from the body), up, to the camera.
    """

    thumb: Thumb
    fingers: tuple[Finger, ...]  # index, middle, ring, pinky
    roll: float = 0.0  # about the axis to the camera; positive: towards the viewer's left
    yaw: float = 0.0  # about the vertical axis; positive: palm to the viewer's right
    pitch: float = 0.0  # about the horizontal axis; positive: fingers lean to the camera
    tilt: float = 0.0  # about the axis to the camera again
    elbow: tuple[float, float, float] = (0.42, -1.0, 0.1)  # direction from the wrist
    anchor: str = "middle-finger-phalanx-proximal"  # the joint at ``position``
    position: tuple[float, float, float] = (0.19, -0.02, 0.08)  # from the centre of the face; metres

    def vary(self, yaw: float, pitch: float, tilt: float, bend: float) -> Pose:
        """Return the pose with small changes of yaw, pitch, tilt and bend of the fingers; degrees."""
        fingers = tuple(replace(f, knuckle=f.knuckle + bend, middle=f.middle + bend / 2) for f in self.fingers)
        return replace(self, yaw=self.yaw + yaw, pitch=self.pitch + pitch, tilt=self.tilt + tilt, fingers=fingers)

    def list_rotations(self) -> Iterator[list[tuple[str, Floats]]]:
        """Yield for thumb and fingers the rotation (3, 3) of each joint in its own axes, from the wrist outwards."""
        thumb = self.thumb
        yield [
            ("thumb-metacarpal", rotate("y", thumb.swing) @ rotate("x", -thumb.fold) @ rotate("z", thumb.roll)),
            ("thumb-phalanx-proximal", rotate("x", -thumb.middle)),
            ("thumb-phalanx-distal", rotate("x", -thumb.end)),
            ("thumb-tip", np.eye(3)),
        ]
        for name, finger in zip(("index", "middle", "ring", "pinky"), self.fingers, strict=True):
            yield [
                (f"{name}-finger-metacarpal", np.eye(3)),
                (f"{name}-finger-phalanx-proximal", rotate("y", finger.spread) @ rotate("x", -finger.knuckle)),
                (f"{name}-finger-phalanx-intermediate", rotate("x", -finger.middle)),
                (f"{name}-finger-phalanx-distal", rotate("x", -finger.end)),
                (f"{name}-finger-tip", np.eye(3)),
            ]

    def make_orientation(self, side: int) -> Floats:
        """Return the transform (3, 3) from the axes of the mesh to the world; ``side`` 1 mirrors it to a left hand."""
        upright = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])  # fingers up, palm to the camera
        turned = rotate("y", self.yaw) @ rotate("z", self.roll) @ upright
        turned = rotate("z", self.tilt) @ rotate("x", self.pitch) @ turned
        held: Floats = np.diag([-side, 1.0, 1.0]) @ turned
        return held


FOLDED = Finger(78, 98, 58)
# The thumb angles of victory, mute and ok were solved so that the thumb touches the folded ring finger, the folded
# middle finger, and the tip of the index finger.
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
        position=(0.0, -0.055, 0.06),
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
