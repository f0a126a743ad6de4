"""The camera: a pinhole before the middle of the frame; VTK draws what it sees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .frame import HEIGHT, WIDTH, Floats

DISTANCE_M = 0.9  # to the plane of the face
SUPERSAMPLING = 2  # the hand is drawn larger and scaled down, which smooths its edges
LIGHTS = (((0.35, 0.6, 1.0), 2.3), ((-1.0, 0.2, 0.6), 0.9), ((0.0, -1.0, 0.6), 0.4))  # position, intensity


@dataclass(frozen=True)
class Part:
    """Something to draw: a mesh in the world, RGB from 0 to 1 at each of its points (N, 3), and how dull it is."""

    mesh: vtk.vtkPolyData
    colours: Floats
    roughness: float


@dataclass(frozen=True)
class Camera:
    """A camera on a world in metres: x right, y up, z to the camera, the face in the plane z = 0."""

    scale: float  # pixels of the frame for a metre in the plane of the face

    def project(self, points: Floats) -> Floats:
        """From points of the world, (N, 3), to pixels of the frame, (N, 2), x right, y down."""
        magnified = self.scale * DISTANCE_M / (DISTANCE_M - points[:, 2:])
        pixels: Floats = np.array([WIDTH, HEIGHT]) / 2 + points[:, :2] * (1, -1) * magnified
        return pixels

    def point(self, x: float, y: float) -> Floats:
        """Return the point of the plane of the face that is seen at a pixel, (3,)."""
        return np.array([(x - WIDTH / 2) / self.scale, (HEIGHT / 2 - y) / self.scale, 0.0])

    def draw(self, parts: Iterable[Part]) -> tuple[Floats, Floats]:
        """Draw what is seen: RGB, 0 to 255, (480, 640, 3), and how much of each pixel it covers, 0 to 1, (480, 640, 1).

        The picture is already multiplied by the cover: black where nothing is.
        """
        renderer = vtk.vtkRenderer(background=(0, 1, 0))  # no skin or cloth is pure green: what is, is empty
        for part in parts:
            renderer.AddActor(_actor(part))
        for position, intensity in LIGHTS:
            renderer.AddLight(vtk.vtkLight(position=position, intensity=intensity))
        angle = 2 * np.degrees(np.arctan(HEIGHT / 2 / self.scale / DISTANCE_M))
        renderer.SetActiveCamera(vtk.vtkCamera(position=(0, 0, DISTANCE_M), focal_point=(0, 0, 0), view_angle=angle))
        renderer.ResetCameraClippingRange()
        # dark between the fingers: without it the hand looks like plastic and detectors miss it
        occlusion = vtk.vtkSSAOPass(radius=0.02, kernel_size=64, bias=0.001, blur=True)
        occlusion.SetDelegatePass(vtk.vtkRenderStepsPass())
        renderer.SetPass(occlusion)
        drawn = _snapshot(renderer)
        empty = (drawn[..., 1] > 200) & (drawn[..., 0] < 60) & (drawn[..., 2] < 60)
        drawn[empty] = 0
        picture = cv2.resize(drawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize((~empty).astype(np.float64), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        return picture.astype(np.float64), alpha[..., None].astype(np.float64)


def _actor(part: Part) -> vtk.vtkActor:
    """Give a mesh its colours and make it ready to draw."""
    part.mesh.GetPointData().SetScalars(numpy_to_vtk(np.clip(part.colours * 255, 0, 255).astype(np.uint8), deep=1))
    actor = vtk.vtkActor(mapper=vtk.vtkPolyDataMapper(input_data=part.mesh))
    actor.GetProperty().SetInterpolationToPBR()
    actor.GetProperty().SetRoughness(part.roughness)
    return actor


def _snapshot(renderer: vtk.vtkRenderer) -> Floats:
    """Draw off screen, RGB, 0 to 255, ``SUPERSAMPLING`` times as large as the frame."""
    width, height = WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING
    # no samples, so no blending with the green: the picture is scaled down instead
    window = vtk.vtkRenderWindow(off_screen_rendering=True, multi_samples=0, size=(width, height))
    window.AddRenderer(renderer)
    window.Render()
    shown = vtk.vtkWindowToImageFilter(input=window, read_front_buffer=False).update().output
    pixels = vtk_to_numpy(shown.GetPointData().GetScalars()).reshape(height, width, -1)
    picture: Floats = pixels[::-1, :, :3].astype(np.float64)
    window.Finalize()
    return picture
