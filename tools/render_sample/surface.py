"""Surfaces: smoothed triangle meshes with normals, for VTK."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .frame import Floats

Triangles = npt.NDArray[np.int64]


def make_surface(points: Floats, triangles: Triangles, subdivisions: int = 0) -> vtk.vtkPolyData:
    """Make a mesh with normals from points (N, 3) and triangles (T, 3).

    Loop's scheme splits every triangle into four ``subdivisions`` times; the order of points depends on the triangles
    only.
    """
    vertices, cells = vtk.vtkPoints(), vtk.vtkCellArray()
    vertices.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=1))
    for triangle in triangles.tolist():
        cells.InsertNextCell(3, triangle)
    subdivision = vtk.vtkLoopSubdivisionFilter(number_of_subdivisions=subdivisions)
    smoothing = subdivision >> vtk.vtkPolyDataNormals(splitting=False, consistency=False)
    return smoothing(vtk.vtkPolyData(points=vertices, polys=cells))


def get_points(mesh: vtk.vtkPolyData) -> Floats:
    """Return the points, (N, 3)."""
    return np.array(vtk_to_numpy(mesh.GetPoints().GetData()), dtype=np.float64)


def get_normals(mesh: vtk.vtkPolyData) -> Floats:
    """Return the normal at each point, (N, 3)."""
    return np.array(vtk_to_numpy(mesh.GetPointData().GetNormals()), dtype=np.float64)


def get_triangles(mesh: vtk.vtkPolyData) -> Triangles:
    """Return the indices of the points of each triangle, (T, 3)."""
    return np.array(vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()), dtype=np.int64).reshape(-1, 3)
