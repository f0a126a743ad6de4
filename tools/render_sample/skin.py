"""The skin of the hand: blotches, palm, red fingertips and knuckles, creases, nails."""

from __future__ import annotations

import numpy as np
import vtk

from .frame import Colour, Floats
from .hand import Hand
from .surface import get_normals, get_points


def add_blotches(colours: Floats, points: Floats) -> Floats:
    """Add blotches to skin: a sum of plane waves of 5 to 30 mm; points (N, 3) in metres, in coordinates of the skin."""
    rng = np.random.default_rng(1)
    waves, phases = rng.normal(0, 260, (16, 3)), rng.uniform(0, 2 * np.pi, 16)
    blotches: Floats = np.sin(points @ waves.T + phases).mean(axis=1) * 2
    return colours * (1 + 0.045 * blotches[:, None])


def paint_skin(hand: Hand, mesh: vtk.vtkPolyData, tone: Colour) -> Floats:
    """Return the colour of each point of the hand's surface at rest, (N, 3); ``tone`` is that of its back."""
    points, back = get_points(mesh), np.array(tone)
    palm = 0.72 * back + 0.28 * np.array((0.93, 0.68, 0.58))  # palms differ less between people than backs of hands
    palmar = np.clip(0.5 - get_normals(mesh)[:, 0] * 1.2, 0, 1)[:, None]
    colours = add_blotches(back * (1 - palmar) + palm * palmar, points)
    red, dark, nail = np.zeros((3, len(points)))
    for name, row in hand.joints.items():
        if name == "wrist" or name.endswith("metacarpal"):
            continue
        # In the axes of the joint: x across the finger, y out of its back, z towards the wrist; millimetres.
        across, out, along = ((points - hand.rest[row, :3, 3]) @ hand.rest[row, :3, :3]).T * 1000
        near = across**2 + out**2 + along**2 < 13**2
        if name.endswith("tip"):
            red += np.exp(-(across**2 + out**2 + along**2) / 9**2)
            oval = (across / 5.2) ** 4 + ((along - 1.5) / 6.5) ** 4
            nail = np.maximum(nail, near * (out > 2) * np.clip((1.2 - oval) / 0.4, 0, 1))
        else:
            red += 0.6 * near * (out > 0) * np.exp(-(across**2 + along**2) / 7**2)
            dark += near * (out < 0) * np.exp(-((along / 1.1) ** 2))
    colours *= 1 - np.clip(red, 0, 1)[:, None] * np.array((-0.02, 0.10, 0.10))
    colours *= 1 - 0.13 * np.clip(dark, 0, 1)[:, None]
    return colours + nail[:, None] * 0.35 * (0.5 * back + 0.5 * np.array((0.98, 0.80, 0.76)) - colours)
