"""The camera: a pinhole on the axis through the frame's centre; VTK renders its view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .frame import HEIGHT, WIDTH, Floats

DISTANCE_M = 0.9  # to the plane of the face
SUPERSAMPLING = 2  # render larger and scale down: antialiasing
LIGHTS = (((0.35, 0.6, 1.0), 2.3), ((-1.0, 0.2, 0.6), 0.9), ((0.0, -1.0, 0.6), 0.4))  # position, intensity


@dataclass(frozen=True)
class Part:
    """A mesh to render, in world coordinates, with the RGB of each point (N, 3), 0 to 1, and its roughness."""

    mesh: vtk.vtkPolyData
    colours: Floats
    roughness: float


@dataclass(frozen=True)
class Camera:
    """A camera in a world in metres: x right, y up, z to the camera, the face in the plane z = 0."""

    scale: float  # pixels per metre in the plane of the face

    def project(self, points: Floats) -> Floats:
        """Project points of the world, (N, 3), to pixels of the frame, (N, 2), x right, y down."""
        magnified = self.scale * DISTANCE_M / (DISTANCE_M - points[:, 2:])
        pixels: Floats = np.array([WIDTH, HEIGHT]) / 2 + points[:, :2] * (1, -1) * magnified
        return pixels

    def unproject(self, x: float, y: float) -> Floats:
        """Return the point, (3,), in the plane of the face that projects to a pixel."""
        return np.array([(x - WIDTH / 2) / self.scale, (HEIGHT / 2 - y) / self.scale, 0.0])

    def draw_parts(self, parts: Iterable[Part]) -> tuple[Floats, Floats]:
        """Render parts: RGB, 0 to 255, (480, 640, 3), and their coverage of each pixel, 0 to 1, (480, 640, 1).

        The picture is premultiplied by the coverage: black where nothing is.
        """
        # Pure green marks empty pixels: no skin or cloth has that colour.
        renderer = vtk.vtkRenderer(background=(0, 1, 0))
        for part in parts:
            renderer.AddActor(_make_actor(part))
        for position, intensity in LIGHTS:
            renderer.AddLight(vtk.vtkLight(position=position, intensity=intensity))
        angle = 2 * np.degrees(np.arctan(HEIGHT / 2 / self.scale / DISTANCE_M))
        renderer.SetActiveCamera(vtk.vtkCamera(position=(0, 0, DISTANCE_M), focal_point=(0, 0, 0), view_angle=angle))
        renderer.ResetCameraClippingRange()
        # Darkens gaps between fingers; without it the hand looks like plastic and detectors miss it.
        occlusion = vtk.vtkSSAOPass(radius=0.02, kernel_size=64, bias=0.001, blur=True)
        occlusion.SetDelegatePass(vtk.vtkRenderStepsPass())
        renderer.SetPass(occlusion)
        drawn = _render_off_screen(renderer)
        empty = (drawn[..., 1] > 200) & (drawn[..., 0] < 60) & (drawn[..., 2] < 60)
        drawn[empty] = 0
        picture = cv2.resize(drawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize((~empty).astype(np.float64), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        return picture.astype(np.float64), alpha[..., None].astype(np.float64)


def _make_actor(part: Part) -> vtk.vtkActor:
    """Make a VTK actor of a part."""
    part.mesh.GetPointData().SetScalars(numpy_to_vtk(np.clip(part.colours * 255, 0, 255).astype(np.uint8), deep=1))
    actor = vtk.vtkActor(mapper=vtk.vtkPolyDataMapper(input_data=part.mesh))
    actor.GetProperty().SetInterpolationToPBR()
    actor.GetProperty().SetRoughness(part.roughness)
    return actor


def _render_off_screen(renderer: vtk.vtkRenderer) -> Floats:
    """Render off screen: RGB, 0 to 255, ``SUPERSAMPLING`` times the size of the frame."""
    width, height = WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING
    # No multisampling, which would blend edges with the green: supersampling smooths them instead.
    window = vtk.vtkRenderWindow(off_screen_rendering=True, multi_samples=0, size=(width, height))
    window.AddRenderer(renderer)
    window.Render()
    shown = vtk.vtkWindowToImageFilter(input=window, read_front_buffer=False).update().output
    pixels = vtk_to_numpy(shown.GetPointData().GetScalars()).reshape(height, width, -1)
    picture: Floats = pixels[::-1, :, :3].astype(np.float64)
    window.Finalize()
    return picture
