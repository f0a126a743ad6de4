"""The arm: a bare forearm and a sleeve, from the wrist to the elbow and on to the shoulder."""

from __future__ import annotations

import numpy as np
import vtk

from .frame import Floats
from .surface import make_surface

FOREARM_M = 0.25
WRIST_RADII_M = (0.0265, 0.0185)  # half the width and half the depth of the hand mesh at the wrist
SIDES = 48  # of a cross-section


def make_arm(wrist: Floats, elbow: Floats, shoulder: Floats, turn: Floats) -> tuple[vtk.vtkPolyData, vtk.vtkPolyData]:
    """Build forearm and sleeve; ``elbow``: unit vector to it; ``turn``, (3, 3): from the hand's axes to the world's."""
    out_of_hand, across = turn @ (0.0, 1.0, 0.0), turn @ (0.0, 0.0, 1.0)
    wrist_end = wrist + 0.03 * out_of_hand
    corners = np.array([wrist - 0.005 * out_of_hand, wrist_end, wrist_end + FOREARM_M * elbow, shoulder])
    reached = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    steps = np.arange(0.0, reached[-1], 0.004)
    path = np.stack([np.interp(steps, reached, corners[:, axis]) for axis in range(3)], axis=1)
    for _ in range(2):  # smooth wrist and elbow, keep the ends
        ends = np.concatenate([2 * path[:1] - path[12:0:-1], path, 2 * path[-1:] - path[-2:-14:-1]])
        path = np.stack([np.convolve(ends[:, axis], np.ones(25) / 25, mode="valid") for axis in range(3)], axis=1)
    bare, dressed = path[:35], path[23:]
    down = np.linspace(0, 1, len(bare))[:, None]
    bare_radii = np.array(WRIST_RADII_M) * (1 - down) + np.array([0.039, 0.037]) * down
    down = np.linspace(0, 1, len(dressed))[:, None]
    dressed_radii = np.array([0.045, 0.043]) + 0.03 * down + 0.0006 * np.sin(down * 45)
    dressed_radii *= np.clip(down / 0.02, 0.6, 1)  # the cuff closes around the arm
    return _make_tube(bare, bare_radii, across), _make_tube(dressed, dressed_radii, across)


def _make_tube(path: Floats, radii: Floats, across: Floats) -> vtk.vtkPolyData:
    """Sweep an ellipse along a path (N, 3); ``radii`` (N, 2): roughly along ``across``, and perpendicular to it."""
    forward = np.gradient(path, axis=0)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    depth = np.cross(forward, across)
    depth /= np.linalg.norm(depth, axis=1, keepdims=True)
    width = np.cross(depth, forward)
    angle = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)[:, None]
    rings = path[:, None] + np.cos(angle) * (radii[:, :1] * width)[:, None]
    rings += np.sin(angle) * (radii[:, 1:] * depth)[:, None]
    ring, side = np.meshgrid(np.arange(len(path) - 1), np.arange(SIDES), indexing="ij")
    here, beside = ring * SIDES + side, ring * SIDES + (side + 1) % SIDES
    quads = np.stack([here, beside, beside + SIDES, here + SIDES], axis=-1).reshape(-1, 4)
    return make_surface(rings.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
