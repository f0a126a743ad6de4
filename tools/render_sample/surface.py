"""A surface: a triangle mesh for VTK, smoothed and with normals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .frame import Floats

Triangles = npt.NDArray[np.int64]


def surface(points: Floats, triangles: Triangles, subdivisions: int = 0) -> vtk.vtkPolyData:
    """Make a mesh of points (N, 3) and triangles (T, 3) ready to draw.

    Every triangle is split into four by Loop's scheme ``subdivisions`` times; which point comes where depends on the
    triangles alone.
    """
    vertices, cells = vtk.vtkPoints(), vtk.vtkCellArray()
    vertices.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=1))
    for triangle in triangles.tolist():
        cells.InsertNextCell(3, triangle)
    subdivision = vtk.vtkLoopSubdivisionFilter(number_of_subdivisions=subdivisions)
    smoothing = subdivision >> vtk.vtkPolyDataNormals(splitting=False, consistency=False)
    return smoothing(vtk.vtkPolyData(points=vertices, polys=cells))


def points_of(mesh: vtk.vtkPolyData) -> Floats:
    """Return the points, (N, 3)."""
    return np.array(vtk_to_numpy(mesh.GetPoints().GetData()), dtype=np.float64)


def normals_of(mesh: vtk.vtkPolyData) -> Floats:
    """Return the normal at each point, (N, 3)."""
    return np.array(vtk_to_numpy(mesh.GetPointData().GetNormals()), dtype=np.float64)


def triangles_of(mesh: vtk.vtkPolyData) -> Triangles:
    """Return the points of each triangle, (T, 3)."""
    return np.array(vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()), dtype=np.int64).reshape(-1, 3)
