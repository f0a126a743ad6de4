"""Render the sample on which the demo runs: short videos of a posed 3D hand beside a face.

The output has the layout of the contest's data, and the truth beside it::

    data/sample/TRAIN_DATA/<video_name>/<frame>.jpg   640 x 480
    data/sample/train.csv                             video_name, frame_id, class_name, frame_path
    data/sample/truth.json                            {frame_path: {"hands": [box], "faces": [box]}}, a frame a line

A box is ``[x1, y1, x2, y2]`` in pixels. The box of a hand is exact: that of the rendered vertices of the hand mesh down
to the wrist, without forearm and sleeve, clipped to the frame. The box of the face was marked by hand and moves with
the picture. Running the script again gives the same files, with the same package versions and the same OpenGL driver.

Sources:

- the rigged hand: ``generic-hand/right.glb`` of the npm package ``@webxr-input-profiles/assets`` 1.0.20,
  MIT License, copyright (c) 2019 Amazon;
- the person: ``skimage.data.astronaut()``, Eileen Collins, NASA, public domain;
- backgrounds, all inside scikit-image's wheel: ``coffee()`` (Rachel Michetti, CC0), ``rocket()`` (SpaceX, public
  domain), ``brick()`` and ``gravel()`` (CC0Textures, CC0), ``grass()`` (linolafett, CC0); the others are drawn here.

It needs the extra ``sample`` (``pip install -e '.[sample]'``) and, unless ``--hand`` is given, npm::

    python tools/render_sample.py --output data/sample
"""

# The third-party packages below are an optional extra and partly without types: mypy passes with and without them.
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-call"

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pygltflib
import skimage.data
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (registers the renderer that draws off screen)
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkLogger, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkFiltersCore import vtkPolyDataNormals
from vtkmodules.vtkFiltersModeling import vtkLoopSubdivisionFilter
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkLight,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkWindowToImageFilter,
)
from vtkmodules.vtkRenderingOpenGL2 import vtkRenderStepsPass, vtkSSAOPass

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
Box = list[float]
Colour = tuple[float, float, float]

NPM_PACKAGE = "@webxr-input-profiles/assets@1.0.20"
HAND_IN_PACKAGE = "package/dist/profiles/generic-hand/right.glb"

WIDTH, HEIGHT = 640, 480
JPEG_QUALITY = 80
SUBDIVISIONS = 2  # of the hand mesh, which is coarse
SUPERSAMPLING = 2  # the hand is drawn larger and scaled down, which smooths its edges

# In the astronaut's picture (512 x 512 pixels): the face box as detectors give it (forehead to chin, ear to ear), the
# outline of the person, which GrabCut refines, and the skin of face and neck.
FACE_BOX = (175.0, 60.0, 273.0, 177.0)
# fmt: off
OUTLINE = (
    (194, 25), (215, 17), (235, 15), (255, 19), (278, 31), (294, 52), (302, 82), (299, 102), (290, 119), (276, 131),
    (272, 138), (266, 150), (258, 168), (256, 175), (280, 192), (298, 212), (304, 232), (306, 238), (325, 246),
    (340, 260), (350, 290), (358, 320), (364, 345), (368, 348), (385, 345), (410, 345), (435, 352), (460, 372),
    (478, 395), (490, 425), (496, 452), (502, 462), (502, 495), (500, 512), (108, 512), (30, 512), (30, 500), (22, 450),
    (19, 410), (22, 370), (30, 320), (42, 285), (55, 262), (75, 240), (100, 220), (116, 206), (114, 190), (122, 172),
    (135, 158), (155, 150), (175, 148), (183, 145), (179, 131), (172, 122), (162, 111), (155, 95), (153, 78), (159, 58),
    (170, 44), (182, 34),
)
SKIN = (
    (184, 84), (210, 79), (235, 80), (250, 84), (266, 92), (272, 108), (278, 128), (270, 136), (262, 155), (255, 176),
    (250, 188), (225, 191), (200, 186), (186, 183), (187, 170), (183, 150), (180, 132), (173, 124), (179, 112),
)
# fmt: on
SUIT: Colour = (0.92, 0.36, 0.17)

FACE_HEIGHT_M = 0.2  # of that face box: makes the hand as large as a hand beside that face
SHOULDER_M = np.array([0.19, -0.31, -0.03])  # seen from the middle of the face: outwards, up, to the camera

CAMERA_M = 0.9  # from the camera to the plane of the face, metres

FINGERS = ("index", "middle", "ring", "pinky")
WRIST_M = np.array([0.038, 0.060, 0.010])  # the middle of the wrist in the mesh at rest; what lies below is forearm
WRIST_RADII_M = (0.0265, 0.0185)  # half the mesh's width and half its depth there
FOREARM_M = 0.25


@dataclass(frozen=True)
class Finger:
    """How a finger is bent; degrees, zero is straight.

    Attributes
    ----------
    knuckle, middle, end : float
        Bend towards the palm at the three joints.
    spread : float
        Turn sideways at the knuckle, towards the thumb.
    """

    knuckle: float = 0.0
    middle: float = 0.0
    end: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True)
class Thumb:
    """How the thumb is bent; degrees, zero is the mesh at rest.

    Attributes
    ----------
    fold, swing, roll : float
        Rotation of its metacarpal about the local x, y and z axis: towards the palm, away from the index finger, about
        its own axis.
    middle, end : float
        Bend at the two joints above.
    """

    fold: float = 0.0
    swing: float = 0.0
    roll: float = 0.0
    middle: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Pose:
    """A hand's shape and how it is held, for a right hand at the viewer's left.

    Attributes
    ----------
    thumb : Thumb
    fingers : mapping of str to Finger
        By name; a finger that is not named is straight.
    roll, yaw, pitch, tilt : float
        Degrees, applied in this order to a hand with the palm to the camera and the fingers up: about the axis to the
        camera (positive: towards the viewer's left), about the vertical (positive: the palm to the viewer's right),
        about the horizontal (positive: the fingers lean to the camera), about the axis to the camera once more.
    elbow : tuple of float
        Direction from the wrist to the elbow: outwards (away from the body's middle), up, to the camera.
    anchor : str
        The joint that is put where the hand is to be.
    place : tuple of float
        Where that is, seen from the middle of the face: outwards, up, to the camera; metres.
    """

    thumb: Thumb
    fingers: Mapping[str, Finger] = field(default_factory=dict)
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    tilt: float = 0.0
    elbow: tuple[float, float, float] = (0.42, -1.0, 0.1)
    anchor: str = "middle-finger-phalanx-proximal"
    place: tuple[float, float, float] = (0.19, -0.02, 0.08)


FIST = Finger(78, 98, 58)
CURLED = dict.fromkeys(FINGERS, FIST)
# The angles of the thumb of victory, mute and ok were solved for touching: the folded ring finger, the folded middle
# finger, the tip of the index finger.
POSES = {
    "stop": Pose(
        Thumb(),
        {"index": Finger(4, 4, 3, 3), "middle": Finger(2, 4, 3), "ring": Finger(3, 5, 3), "pinky": Finger(4, 6, 4, -3)},
    ),
    "victory": Pose(
        Thumb(fold=34, swing=20, roll=-9, middle=43, end=26),
        CURLED | {"index": Finger(5, 3, 2, 12), "middle": Finger(3, 3, 2, -9)},
    ),
    "mute": Pose(
        Thumb(fold=31, swing=18, roll=-7, middle=30, end=32),
        CURLED | {"index": Finger(4, 4, 3)},
        yaw=72,
        tilt=5,
        elbow=(0.55, -1.0, 0.0),
        anchor="index-finger-phalanx-intermediate",
        place=(0.0, -0.055, 0.06),
    ),
    "ok": Pose(
        Thumb(fold=20, swing=10, roll=-11, middle=21, end=22),
        {
            "index": Finger(48, 58, 28, 2),
            "middle": Finger(14, 12, 6),
            "ring": Finger(5, 9, 4),
            "pinky": Finger(0, 6, 4, -6),
        },
        yaw=28,
    ),
    "like": Pose(
        Thumb(fold=-15, swing=10),
        CURLED,
        roll=90,
        yaw=112,
        tilt=14,
        elbow=(0.7, -0.9, -0.3),
    ),
    "dislike": Pose(
        Thumb(fold=-15, swing=10),
        CURLED,
        roll=-90,
        yaw=-6,
        tilt=2,
        elbow=(1.0, -0.45, -0.2),
    ),
    "no_gesture": Pose(
        Thumb(fold=12, middle=10, end=10),
        {
            "index": Finger(22, 26, 14),
            "middle": Finger(28, 32, 18),
            "ring": Finger(32, 36, 20),
            "pinky": Finger(34, 38, 22),
        },
        yaw=165,
        tilt=-55,
        elbow=(1.0, -0.45, 0.0),
    ),
}


@dataclass(frozen=True)
class HandModel:
    """A skinned hand mesh; metres, fingers along -y, palm towards -x, thumb towards -z.

    Attributes
    ----------
    vertices : ndarray, float64 (V, 3)
        At rest.
    triangles : ndarray, int64 (T, 3)
    weights : ndarray, float64 (V, J)
        How much each joint moves each vertex; rows add up to one.
    rest : ndarray, float64 (J, 4, 4)
        From each joint's own axes to the mesh's, at rest.
    joints : dict of str to int
        The row of each joint, by its name.
    """

    vertices: Floats
    triangles: npt.NDArray[np.int64]
    weights: Floats
    rest: Floats
    joints: dict[str, int]


def load_hand(path: Path) -> HandModel:
    """Read a skinned hand from a binary glTF file.

    Parameters
    ----------
    path : Path
        ``right.glb`` of the package named in this module's docstring.

    Returns
    -------
    HandModel
    """
    gltf = pygltflib.GLTF2().load(str(path))
    primitive, skin = gltf.meshes[0].primitives[0], gltf.skins[0]
    vertices = _accessor(gltf, primitive.attributes.POSITION).astype(np.float64)
    joint_of = _accessor(gltf, primitive.attributes.JOINTS_0).astype(np.int64)
    share = _accessor(gltf, primitive.attributes.WEIGHTS_0).astype(np.float64)
    weights = np.zeros((len(vertices), len(skin.joints)))
    np.add.at(weights, (np.arange(len(vertices))[:, None], joint_of), share)
    inverse_bind = _accessor(gltf, skin.inverseBindMatrices).astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
    # the file lists a vertex once for each texture coordinate; smoothing needs a closed surface
    _, first, merged = np.unique(vertices.round(6), axis=0, return_index=True, return_inverse=True)
    return HandModel(
        vertices=vertices[first],
        triangles=merged.reshape(-1)[_accessor(gltf, primitive.indices).astype(np.int64).reshape(-1, 3)],
        weights=(weights / weights.sum(axis=1, keepdims=True))[first],
        rest=np.asarray(np.linalg.inv(inverse_bind), dtype=np.float64),
        joints={gltf.nodes[node].name: row for row, node in enumerate(skin.joints)},
    )


def _accessor(gltf: Any, index: int) -> npt.NDArray[Any]:
    """One accessor of a glTF file as an array (count, components)."""
    types = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
    components = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
    accessor = gltf.accessors[index]
    view = gltf.bufferViews[accessor.bufferView]
    count = components[accessor.type]
    offset = (view.byteOffset or 0) + (accessor.byteOffset or 0)
    flat = np.frombuffer(gltf.binary_blob(), types[accessor.componentType], accessor.count * count, offset)
    return flat.reshape(accessor.count, count)


def rotation(axis: str, degrees: float) -> Floats:
    """Rotation about one axis.

    Parameters
    ----------
    axis : {'x', 'y', 'z'}
    degrees : float
        Counter-clockwise, seen against the axis.

    Returns
    -------
    ndarray, float64 (3, 3)
    """
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def bend(hand: HandModel, pose: Pose) -> Floats:
    """Bend fingers and thumb.

    Parameters
    ----------
    hand : HandModel
    pose : Pose

    Returns
    -------
    ndarray, float64 (J, 4, 4)
        From each joint's own axes to the mesh's, bent.
    """
    bent = hand.rest.copy()
    for chain in _turns(pose):
        parent = hand.joints["wrist"]
        for name, turn in chain:
            joint = hand.joints[name]
            step = np.linalg.inv(hand.rest[parent]) @ hand.rest[joint]
            step[:3, :3] = step[:3, :3] @ turn
            bent[joint] = bent[parent] @ step
            parent = joint
    return bent


def _turns(pose: Pose) -> Iterator[list[tuple[str, Floats]]]:
    """For thumb and fingers, the rotation of each joint in its own axes, from the wrist outwards."""
    thumb = pose.thumb
    yield [
        ("thumb-metacarpal", rotation("y", thumb.swing) @ rotation("x", -thumb.fold) @ rotation("z", thumb.roll)),
        ("thumb-phalanx-proximal", rotation("x", -thumb.middle)),
        ("thumb-phalanx-distal", rotation("x", -thumb.end)),
        ("thumb-tip", np.eye(3)),
    ]
    for name in FINGERS:
        finger = pose.fingers.get(name, Finger())
        yield [
            (f"{name}-finger-metacarpal", np.eye(3)),
            (f"{name}-finger-phalanx-proximal", rotation("y", finger.spread) @ rotation("x", -finger.knuckle)),
            (f"{name}-finger-phalanx-intermediate", rotation("x", -finger.middle)),
            (f"{name}-finger-phalanx-distal", rotation("x", -finger.end)),
            (f"{name}-finger-tip", np.eye(3)),
        ]


def skinned(hand: HandModel, bent: Floats) -> Floats:
    """Move the vertices with the joints (linear blend skinning).

    Parameters
    ----------
    hand : HandModel
    bent : ndarray, float64 (J, 4, 4)
        As ``bend`` returns it.

    Returns
    -------
    ndarray, float64 (V, 3)
        Metres, in the mesh's axes.
    """
    motion = bent @ np.linalg.inv(hand.rest)
    moved: Floats = np.einsum("vj,jik,vk->vi", hand.weights, motion[:, :3, :3], hand.vertices)
    moved += hand.weights @ motion[:, :3, 3]
    return moved


def polydata(points: Floats, triangles: npt.NDArray[np.int64]) -> vtkPolyData:
    """Wrap a triangle mesh for VTK.

    Parameters
    ----------
    points : ndarray, float64 (N, 3)
    triangles : ndarray, int64 (T, 3)

    Returns
    -------
    vtkPolyData
    """
    vtk_points = vtkPoints()
    vtk_points.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=1))
    cells = vtkCellArray()
    for triangle in triangles.tolist():
        cells.InsertNextCell(3, triangle)
    mesh = vtkPolyData()
    mesh.SetPoints(vtk_points)
    mesh.SetPolys(cells)
    return mesh


def surface(points: Floats, triangles: npt.NDArray[np.int64], subdivisions: int = 0) -> vtkPolyData:
    """Make a mesh ready to draw.

    Parameters
    ----------
    points : ndarray, float64 (N, 3)
    triangles : ndarray, int64 (T, 3)
    subdivisions : int
        How often every triangle is split into four by Loop's scheme; which point comes where depends on the triangles
        alone.

    Returns
    -------
    vtkPolyData
        With normals.
    """
    subdivision = vtkLoopSubdivisionFilter()
    subdivision.SetInputData(polydata(points, triangles))
    subdivision.SetNumberOfSubdivisions(subdivisions)
    normals = vtkPolyDataNormals()
    if subdivisions:
        normals.SetInputConnection(subdivision.GetOutputPort())
    else:
        normals.SetInputData(polydata(points, triangles))
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.Update()
    mesh: vtkPolyData = normals.GetOutput()
    return mesh


def points_of(mesh: vtkPolyData) -> Floats:
    """Return the points of a mesh, float64 (N, 3)."""
    return np.array(vtk_to_numpy(mesh.GetPoints().GetData()), dtype=np.float64)


def skin_noise(points: Floats) -> Floats:
    """Blotches of skin: a sum of plane waves of 5 to 30 mm.

    Parameters
    ----------
    points : ndarray, float64 (N, 3)
        Metres, fixed to the skin.

    Returns
    -------
    ndarray, float64 (N,)
        About -1 to 1.
    """
    rng = np.random.default_rng(1)
    waves, phases = rng.normal(0, 260, (16, 3)), rng.uniform(0, 2 * np.pi, 16)
    blotches: Floats = np.sin(points @ waves.T + phases).mean(axis=1) * 2
    return blotches


def skin_colours(hand: HandModel, tone: Colour) -> Floats:
    """Paint the hand: blotches, a lighter palm, red finger tips and knuckles, creases and nails.

    Parameters
    ----------
    hand : HandModel
    tone : tuple of float
        Skin on the back of the hand, RGB, 0 to 1.

    Returns
    -------
    ndarray, float64 (N, 3)
        A colour for each point of the subdivided mesh.
    """
    mesh = surface(hand.vertices, hand.triangles, SUBDIVISIONS)
    points, normals = points_of(mesh), np.array(vtk_to_numpy(mesh.GetPointData().GetNormals()), dtype=np.float64)
    back = np.array(tone)
    palm = 0.72 * back + 0.28 * np.array((0.93, 0.68, 0.58))  # palms differ less between people than backs do
    palmar = np.clip(0.5 - normals[:, 0] * 1.2, 0, 1)[:, None]
    colours = (back * (1 - palmar) + palm * palmar) * (1 + 0.045 * skin_noise(points)[:, None])
    red, dark, nail = (np.zeros(len(points)) for _ in range(3))
    for name, row in hand.joints.items():
        if name == "wrist" or name.endswith("metacarpal"):
            continue
        # in a joint's own axes: x across the finger, y out of its back, z towards the wrist; millimetres
        across, out, along = ((points - hand.rest[row, :3, 3]) @ hand.rest[row, :3, :3]).T * 1000
        near = across**2 + out**2 + along**2 < 13**2
        if name.endswith("tip"):
            red += np.exp(-(across**2 + out**2 + along**2) / 9**2)
            nail = np.maximum(nail, near * (out > 2) * _inside((across / 5.2) ** 4 + ((along - 1.5) / 6.5) ** 4))
        else:
            red += 0.6 * near * (out > 0) * np.exp(-(across**2 + along**2) / 7**2)
            dark += near * (out < 0) * np.exp(-((along / 1.1) ** 2))
    colours *= 1 - np.clip(red, 0, 1)[:, None] * np.array((-0.02, 0.10, 0.10))
    colours *= 1 - 0.13 * np.clip(dark, 0, 1)[:, None]
    return colours + nail[:, None] * 0.35 * (0.5 * back + 0.5 * np.array((0.98, 0.80, 0.76)) - colours)


def _inside(value: Floats) -> Floats:
    """One where ``value`` is below one, falling softly to zero."""
    return np.clip((1.2 - value) / 0.4, 0, 1)


def tube(path: Floats, radii: Floats, across: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Lay a tube with elliptic sections along a path.

    Parameters
    ----------
    path : ndarray, float64 (N, 3)
    radii : ndarray, float64 (N, 2)
        Half width (along ``across``) and half depth.
    across : ndarray, float64 (3,)
        Roughly the direction of the width.

    Returns
    -------
    points : ndarray, float64 (N * 48, 3)
    triangles : ndarray, int64 (T, 3)
    """
    sides = 48
    forward = np.gradient(path, axis=0)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    depth = np.cross(forward, across)
    depth /= np.linalg.norm(depth, axis=1, keepdims=True)
    width = np.cross(depth, forward)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
    rings = (
        path[:, None]
        + np.cos(angle) * (radii[:, :1] * width)[:, None]
        + np.sin(angle) * (radii[:, 1:] * depth)[:, None]
    )
    ring, side = np.meshgrid(np.arange(len(path) - 1), np.arange(sides), indexing="ij")
    here, beside = ring * sides + side, ring * sides + (side + 1) % sides
    quads = np.stack([here, beside, beside + sides, here + sides], axis=-1).reshape(-1, 4)
    return rings.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


@dataclass(frozen=True)
class Placed:
    """A posed hand in the world: metres, x right, y up, z to the camera, the face in the plane z = 0.

    Attributes
    ----------
    hand, arm, sleeve : vtkPolyData
    shoulder : ndarray, float64 (3,)
        Where the sleeve ends.
    """

    hand: vtkPolyData
    arm: vtkPolyData
    sleeve: vtkPolyData
    shoulder: Floats


def hold(pose: Pose, side: int) -> Floats:
    """Orientation of a held hand.

    Parameters
    ----------
    pose : Pose
    side : int
        -1: right hand, at the viewer's left; 1: left hand, the mirror image.

    Returns
    -------
    ndarray, float64 (3, 3)
        From the mesh's axes to the world's; with ``side`` 1 it mirrors as well.
    """
    upright = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])  # fingers up, palm to the camera
    turned = rotation("y", pose.yaw) @ rotation("z", pose.roll) @ upright
    turned = rotation("z", pose.tilt) @ rotation("x", pose.pitch) @ turned
    held: Floats = np.diag([-side, 1.0, 1.0]) @ turned
    return held


def place(hand: HandModel, pose: Pose, side: int, face: Floats, offset: Floats) -> Placed:
    """Bend a hand, turn it, put it somewhere and give it a forearm in a sleeve.

    Parameters
    ----------
    hand : HandModel
    pose : Pose
    side : int
        As in ``hold``.
    face : ndarray, float64 (3,)
        The middle of the face, metres in the world.
    offset : ndarray, float64 (3,)
        Where the pose's anchor goes, seen from there: outwards, up, to the camera; metres.

    Returns
    -------
    Placed
    """
    bent, turn = bend(hand, pose), hold(pose, side)
    anchor, position = bent[hand.joints[pose.anchor], :3, 3], face + offset * (side, 1, 1)

    def to_world(points: Floats) -> Floats:
        world: Floats = (points - anchor) @ turn.T + position
        return world

    triangles = hand.triangles if side < 0 else hand.triangles[:, ::-1]  # a mirrored mesh is inside out
    out_of_hand, across = turn @ (0.0, 1.0, 0.0), turn @ (0.0, 0.0, 1.0)
    shoulder = face + SHOULDER_M * (side, 1, 1)
    elbow = np.array(pose.elbow) / np.linalg.norm(pose.elbow) * (side, 1, 1)
    arm, sleeve = _arm_paths(to_world(WRIST_M), out_of_hand, elbow, shoulder)
    down_arm, down_sleeve = np.linspace(0, 1, len(arm))[:, None], np.linspace(0, 1, len(sleeve))[:, None]
    arm_radii = np.array(WRIST_RADII_M) * (1 - down_arm) + np.array([0.039, 0.037]) * down_arm
    sleeve_radii = np.array([0.045, 0.043]) + 0.03 * down_sleeve + 0.0006 * np.sin(down_sleeve * 45)
    sleeve_radii *= np.clip(down_sleeve / 0.02, 0.6, 1)  # the cuff closes round the arm
    return Placed(
        hand=surface(to_world(skinned(hand, bent)), triangles, SUBDIVISIONS),
        arm=surface(*tube(arm, arm_radii, across)),
        sleeve=surface(*tube(sleeve, sleeve_radii, across)),
        shoulder=shoulder,
    )


def _arm_paths(wrist: Floats, out_of_hand: Floats, elbow: Floats, shoulder: Floats) -> tuple[Floats, Floats]:
    """Lay the middle line of the bare forearm and of the sleeve: from the wrist to the elbow, then to the shoulder."""
    wrist_end = wrist + 0.03 * out_of_hand
    corners = np.array([wrist - 0.005 * out_of_hand, wrist_end, wrist_end + FOREARM_M * elbow, shoulder])
    reached = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    steps = np.arange(0.0, reached[-1], 0.004)
    path = np.stack([np.interp(steps, reached, corners[:, axis]) for axis in range(3)], axis=1)
    for _ in range(2):  # rounds wrist and elbow, leaves the ends where they are
        ends = np.concatenate([2 * path[:1] - path[12:0:-1], path, 2 * path[-1:] - path[-2:-14:-1]])
        path = np.stack([np.convolve(ends[:, axis], np.ones(25) / 25, mode="valid") for axis in range(3)], axis=1)
    return path[:35], path[23:]


@dataclass(frozen=True)
class Camera:
    """A pinhole before the middle of the frame.

    Attributes
    ----------
    scale : float
        Pixels of the frame for a metre in the plane of the face.
    """

    scale: float

    def project(self, points: Floats) -> Floats:
        """Project points of the world.

        Parameters
        ----------
        points : ndarray, float64 (N, 3)
            Metres.

        Returns
        -------
        ndarray, float64 (N, 2)
            Pixels of the frame, x right, y down.
        """
        magnified = self.scale * CAMERA_M / (CAMERA_M - points[:, 2:])
        pixels: Floats = np.array([WIDTH, HEIGHT]) / 2 + points[:, :2] * (1, -1) * magnified
        return pixels

    def point(self, x: float, y: float) -> Floats:
        """Return the point of the plane of the face that is seen at a pixel, float64 (3,)."""
        return np.array([(x - WIDTH / 2) / self.scale, (HEIGHT / 2 - y) / self.scale, 0.0])


def draw(placed: Placed, colours: Floats, tone: Colour, sleeve: Colour, camera: Camera) -> tuple[Floats, Floats]:
    """Draw hand, forearm and sleeve.

    Parameters
    ----------
    placed : Placed
    colours : ndarray, float64 (N, 3)
        As ``skin_colours`` returns it.
    tone, sleeve : tuple of float
        Colour of the forearm and of the sleeve, RGB, 0 to 1.
    camera : Camera

    Returns
    -------
    picture : ndarray, float64 (480, 640, 3)
        RGB, 0 to 255, black where nothing is; already multiplied by ``alpha``.
    alpha : ndarray, float64 (480, 640, 1)
        How much of each pixel is covered, 0 to 1.
    """
    renderer = vtkRenderer()
    renderer.SetBackground(0, 1, 0)  # no skin or cloth is pure green: what is, is empty
    arm_points = points_of(placed.arm)
    arm = np.array(tone) * (1 + 0.045 * skin_noise(arm_points - arm_points[0])[:, None])
    renderer.AddActor(_actor(placed.hand, colours, roughness=0.55))
    renderer.AddActor(_actor(placed.arm, arm, roughness=0.6))
    renderer.AddActor(_actor(placed.sleeve, np.broadcast_to(sleeve, points_of(placed.sleeve).shape), roughness=0.9))
    for position, intensity in (((0.35, 0.6, 1.0), 2.3), ((-1.0, 0.2, 0.6), 0.9), ((0.0, -1.0, 0.6), 0.4)):
        light = vtkLight()
        light.SetPosition(*position)
        light.SetIntensity(intensity)
        renderer.AddLight(light)
    view = renderer.GetActiveCamera()
    view.SetPosition(0, 0, CAMERA_M)
    view.SetFocalPoint(0, 0, 0)
    view.SetViewUp(0, 1, 0)
    view.SetViewAngle(float(2 * np.degrees(np.arctan(HEIGHT / 2 / camera.scale / CAMERA_M))))
    renderer.ResetCameraClippingRange()
    occlusion = vtkSSAOPass()  # dark between the fingers: without it the hand looks like plastic and detectors miss it
    occlusion.SetRadius(0.02)
    occlusion.SetKernelSize(64)
    occlusion.SetBias(0.001)
    occlusion.BlurOn()
    occlusion.SetDelegatePass(vtkRenderStepsPass())
    renderer.SetPass(occlusion)
    drawn = _snapshot(renderer, WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING)
    empty = (drawn[..., 1] > 200) & (drawn[..., 0] < 60) & (drawn[..., 2] < 60)
    drawn[empty] = 0
    shrink = (WIDTH, HEIGHT)
    picture = cv2.resize(drawn, shrink, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize((~empty).astype(np.float64), shrink, interpolation=cv2.INTER_AREA)
    return picture.astype(np.float64), alpha[..., None].astype(np.float64)


def _actor(mesh: vtkPolyData, colours: Floats, roughness: float) -> vtkActor:
    """Give a mesh a colour (RGB, 0 to 1) at each point and make it ready to draw."""
    scalars = numpy_to_vtk(np.clip(colours * 255, 0, 255).astype(np.uint8), deep=1)
    scalars.SetName("colour")
    mesh.GetPointData().SetScalars(scalars)
    mapper = vtkPolyDataMapper()
    mapper.SetInputData(mesh)
    actor = vtkActor()
    actor.SetMapper(mapper)
    surface = actor.GetProperty()
    surface.SetInterpolationToPBR()
    surface.SetMetallic(0)
    surface.SetRoughness(roughness)
    return actor


def _snapshot(renderer: vtkRenderer, width: int, height: int) -> Floats:
    """Draw off screen, RGB (height, width, 3), 0 to 255."""
    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)  # no blending with the green: the picture is scaled down instead
    window.SetSize(width, height)
    window.AddRenderer(renderer)
    window.Render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)
    picture: Floats = pixels[::-1, :, :3].astype(np.float64)
    window.Finalize()
    return picture


@dataclass(frozen=True)
class Person:
    """The astronaut, cut out.

    Attributes
    ----------
    picture : ndarray, float64 (512, 512, 3)
        RGB, 0 to 255.
    alpha, skin, hair : ndarray, float64 (512, 512, 1)
        How much of a pixel is hers, is skin, is hair; 0 to 1.
    """

    picture: Floats
    alpha: Floats
    skin: Floats
    hair: Floats


def cut_out_person() -> Person:
    """Cut the astronaut out of her picture.

    Returns
    -------
    Person
    """
    picture = skimage.data.astronaut()
    inside = _filled(OUTLINE)
    kernel = np.ones((9, 9), np.uint8)
    labels = np.full(inside.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(inside, kernel) > 0] = cv2.GC_PR_BGD
    labels[inside > 0] = cv2.GC_PR_FGD
    labels[cv2.erode(inside, kernel) > 0] = cv2.GC_FGD
    labels[-4:][inside[-4:] > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    person = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    alpha = _soft(np.asarray(cv2.erode(person, np.ones((3, 3), np.uint8))), 1.0)
    skin = _soft(_filled(SKIN), 2.5)
    head = np.zeros_like(inside)
    head[:150] = 1
    return Person(picture.astype(np.float64), alpha, skin, _soft(head, 4.0) * alpha * (1 - skin))


def _filled(polygon: tuple[tuple[float, float], ...]) -> Image:
    """Fill a polygon of the astronaut's picture: a mask (512, 512), zero or one."""
    mask = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(mask, [np.array(polygon, dtype=np.int32)], 1)
    return mask


def _blurred(picture: Floats, sigma: float) -> Floats:
    """Blur a picture; ``sigma`` in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), dtype=np.float64)


def _soft(mask: npt.NDArray[Any], sigma: float) -> Floats:
    """Soften the edge of a mask: float64 (H, W, 1)."""
    return _blurred(mask.astype(np.float64), sigma)[..., None]


@dataclass(frozen=True)
class Look:
    """Skin and hair of a video's person.

    Attributes
    ----------
    tone : tuple of float
        The hand's skin, RGB, 0 to 1.
    face, hair : tuple of float
        What the astronaut's skin and hair are multiplied by.
    """

    tone: Colour
    face: Colour = (1.0, 1.0, 1.0)
    hair: Colour = (1.0, 1.0, 1.0)


LOOKS = {
    "light": Look((0.99, 0.77, 0.66), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "rosy": Look((0.96, 0.69, 0.59), (0.98, 0.92, 0.92), (0.75, 0.62, 0.52)),
    "olive": Look((0.80, 0.58, 0.43), (0.86, 0.80, 0.72), (0.48, 0.42, 0.38)),
    "tan": Look((0.66, 0.44, 0.31), (0.74, 0.64, 0.55), (0.36, 0.32, 0.30)),
    "brown": Look((0.46, 0.29, 0.20), (0.60, 0.48, 0.40), (0.26, 0.24, 0.23)),
}


def tinted(person: Person, look: Look) -> Floats:
    """Give the person another skin and hair.

    Parameters
    ----------
    person : Person
    look : Look

    Returns
    -------
    ndarray, float64 (512, 512, 3)
        RGB, 0 to 255.
    """
    factor: Floats = 1 + person.skin * (np.array(look.face) - 1) + person.hair * (np.array(look.hair) - 1)
    return person.picture * factor


def background(name: str) -> Floats:
    """One of the backgrounds, out of focus.

    Parameters
    ----------
    name : str
        A picture of scikit-image (``coffee``, ``rocket``, ``brick``, ``gravel``, ``grass``) or a drawn one (``wall``,
        ``shelves``, ``lights``).

    Returns
    -------
    ndarray, float64 (480, 640, 3)
        RGB, 0 to 255.
    """
    tints = {"brick": (1.2, 0.86, 0.70), "gravel": (1.15, 1.05, 0.92), "grass": (0.75, 0.95, 0.55)}
    drawn = {"wall": _wall, "shelves": _shelves, "lights": _lights}
    if name in drawn:
        return drawn[name]()
    picture = getattr(skimage.data, name)().astype(np.float64)
    if picture.ndim == 2:
        picture = picture[..., None] * np.array(tints[name])
    scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR))
    top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - WIDTH) // 2
    return _blurred(picture[top : top + HEIGHT, left : left + WIDTH], 3.0)


def _wall() -> Floats:
    """Draw a painted wall, light falling from the left, its foot of another colour."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    light = 0.75 + 0.3 * np.exp(-((x - 150) ** 2 + (y - 120) ** 2) / 330**2)
    wall: Floats = light[..., None] * np.where((y > 400)[..., None], (150.0, 140.0, 128.0), (196.0, 204.0, 198.0))
    return _blurred(wall, 3.0)


def _shelves() -> Floats:
    """Draw shelves with books."""
    rng = np.random.default_rng(11)
    picture = np.full((HEIGHT, WIDTH, 3), (92.0, 66.0, 46.0))
    for top in range(-20, HEIGHT, 125):
        x = 4
        while x < WIDTH:
            width, height = int(rng.integers(10, 32)), int(rng.integers(75, 108))
            picture[max(top + 112 - height, 0) : top + 112, x : x + width] = rng.uniform(60, 190) + rng.uniform(
                -40, 40, 3
            )
            x += width + int(rng.integers(1, 4))
    return _blurred(picture, 4.0)


def _lights() -> Floats:
    """Draw a dusky street far out of focus."""
    rng = np.random.default_rng(5)
    picture = np.linspace((58.0, 62.0, 92.0), (34.0, 32.0, 40.0), HEIGHT)[:, None] * np.ones((1, WIDTH, 1))
    for _ in range(70):
        disc = np.zeros((HEIGHT, WIDTH), np.uint8)
        centre = (int(rng.integers(0, WIDTH)), int(rng.integers(60, HEIGHT)))
        cv2.circle(disc, centre, int(rng.integers(6, 22)), 1, -1)
        picture += (
            disc[..., None] * rng.uniform(0.1, 0.4) * np.array((255.0, rng.uniform(140, 230), rng.uniform(60, 200)))
        )
    return _blurred(np.minimum(picture, 255), 2.0)


@dataclass(frozen=True)
class Video:
    """What a video shows.

    Attributes
    ----------
    name, gesture : str
    look, background : str
    side : int
        -1: a right hand at the viewer's left; 1: a left hand at the viewer's right.
    face_x, face_y : float
        Where the middle of the face is, pixels.
    size : float
        Scale of the astronaut's picture; at 1 her face is 114 pixels high.
    shift : tuple of float
        Added to the pose's place: outwards, up, to the camera; metres.
    away : int
        So many frames at the start show the hand away from the face, on its way there.
    start : tuple of float
        Where it is then, seen from its place: outwards, up, to the camera; metres.
    flipped : bool
        Whether the astronaut's picture is mirrored.
    hand : bool
        Whether a hand is shown at all.
    frames : int
    """

    name: str
    gesture: str
    look: str
    background: str
    side: int
    face_x: float
    face_y: float
    size: float
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    away: int = 0
    start: tuple[float, float, float] = (0.08, -0.42, 0.02)
    flipped: bool = False
    hand: bool = True
    frames: int = 9


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
    Video(
        "like_02",
        "like",
        "light",
        "brick",
        1,
        280,
        175,
        1.10,
        (0.0, -0.08, 0.02),
        away=2,
        start=(0.157, -0.03, 0.0),
        flipped=True,
    ),
    Video("dislike_01", "dislike", "olive", "wall", 1, 290, 165, 1.0, (0.0, -0.04, 0.03)),
    Video("dislike_02", "dislike", "rosy", "rocket", -1, 350, 175, 1.05, (0.01, -0.06, 0.05), flipped=True),
    Video("no_gesture_01", "no_gesture", "tan", "lights", 1, 320, 170, 1.05, hand=False, frames=6),
    Video(
        "no_gesture_02",
        "no_gesture",
        "light",
        "coffee",
        -1,
        330,
        160,
        0.90,
        (-0.08, -0.43, 0.08),
        frames=6,
        flipped=True,
    ),
)


@dataclass(frozen=True)
class Frame:
    """A finished frame.

    Attributes
    ----------
    picture : ndarray, uint8 (480, 640, 3)
        RGB.
    hands, faces : list of Box
        The truth.
    """

    picture: Image
    hands: list[Box]
    faces: list[Box]


def sway(rng: np.random.Generator, amplitudes: tuple[float, ...], moments: int) -> Floats:
    """Smooth wandering about zero.

    Parameters
    ----------
    rng : numpy.random.Generator
    amplitudes : tuple of float
    moments : int
        Number of frames.

    Returns
    -------
    ndarray, float64 (moments, len(amplitudes))
    """
    t = np.arange(moments)[:, None]
    count = len(amplitudes)
    slow = np.sin(2 * np.pi * (t / rng.uniform(9, 15, count) + rng.uniform(0, 1, count)))
    fast = np.sin(2 * np.pi * (t / rng.uniform(4, 6, count) + rng.uniform(0, 1, count)))
    wandering: Floats = (0.75 * slow + 0.25 * fast) * amplitudes
    return wandering


def render_video(video: Video, hand: HandModel, person: Person, rng: np.random.Generator) -> Iterator[Frame]:
    """Render the frames of a video.

    Parameters
    ----------
    video : Video
    hand : HandModel
    person : Person
    rng : numpy.random.Generator

    Yields
    ------
    Frame
    """
    look = LOOKS[video.look]
    picture, scenery = tinted(person, look), background(video.background)
    colours = skin_colours(hand, look.tone)
    above_wrist = points_of(surface(hand.vertices, hand.triangles, SUBDIVISIONS))[:, 1] <= WRIST_M[1]
    head = sway(rng, (5.0, 3.0, 0.012, 1.5), video.frames)  # pixels, pixels, scale, degrees
    move = sway(rng, (0.012, 0.012, 0.02), video.frames)  # metres
    turn = sway(rng, (8.0, 5.0, 6.0, 3.0), video.frames)  # degrees: yaw, pitch, tilt, bend of the fingers
    exposure = rng.uniform(0.9, 1.06) * (1 + 0.015 * sway(rng, (1.0,), video.frames)[:, 0])
    for k in range(video.frames):
        x, y, size = video.face_x + head[k, 0], video.face_y + head[k, 1], video.size * (1 + head[k, 2])
        affine = _placement(x, y, size, float(head[k, 3]), video.flipped)
        layer, cover = _warp(picture, affine), _warp(person.alpha, affine)[..., None]
        canvas = scenery * (1 - cover) + layer * cover
        hands = []
        if video.hand:
            camera = Camera(size * (FACE_BOX[3] - FACE_BOX[1]) / FACE_HEIGHT_M)
            pose = _moved(POSES[video.gesture], turn[k])
            offset = np.array(pose.place) + video.shift + move[k] + _remoteness(k, video.away) * np.array(video.start)
            placed = place(hand, pose, video.side, camera.point(x, y), offset)
            drawn, alpha = draw(placed, colours, look.tone, SUIT, camera)
            fade = 1 - cover * _sleeve_end(placed, camera)
            drawn, alpha = drawn * fade, alpha * fade
            canvas *= 1 - 0.35 * cover * _shadow(alpha)
            canvas = canvas * (1 - alpha) + drawn
            box = _box(camera.project(points_of(placed.hand)[above_wrist]))
            hands = [box] if box else []
        yield Frame(_photographed(canvas * exposure[k], rng), hands, [_face_box(affine)])


def _placement(x: float, y: float, size: float, degrees: float, flipped: bool) -> Floats:
    """Return the affine map (2, 3) that puts the middle of the astronaut's face at a pixel of the frame."""
    middle = np.array([(FACE_BOX[0] + FACE_BOX[2]) / 2, (FACE_BOX[1] + FACE_BOX[3]) / 2])
    linear = size * rotation("z", degrees)[:2, :2] @ np.diag([-1.0 if flipped else 1.0, 1.0])
    return np.column_stack([linear, np.array([x, y]) - linear @ middle])


def _warp(picture: Floats, affine: Floats) -> Floats:
    """Carry a picture into the frame; its last row goes on below, so that the body never ends above the frame's end."""
    longer = cv2.copyMakeBorder(picture, 0, 100, 0, 0, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.warpAffine(longer, affine, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR), dtype=np.float64)


def _face_box(affine: Floats) -> Box:
    """Carry the face box into the frame: its middle and its size; it stays upright."""
    middle = affine[:, :2] @ ((FACE_BOX[0] + FACE_BOX[2]) / 2, (FACE_BOX[1] + FACE_BOX[3]) / 2) + affine[:, 2]
    size = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    half = np.array([FACE_BOX[2] - FACE_BOX[0], FACE_BOX[3] - FACE_BOX[1]]) / 2 * size
    return _box(np.array([middle - half, middle + half])) or []


def _box(pixels: Floats) -> Box | None:
    """Put a box round points (N, 2) and clip it to the frame; None where nothing of it is inside."""
    limits = np.array([WIDTH, HEIGHT], dtype=np.float64)
    x1, y1 = np.clip(pixels.min(axis=0), 0, limits)
    x2, y2 = np.clip(pixels.max(axis=0), 0, limits)
    return [round(float(value), 1) for value in (x1, y1, x2, y2)] if x2 > x1 and y2 > y1 else None


def _moved(pose: Pose, turn: Floats) -> Pose:
    """Turn a pose a little and bend its fingers a little more or less; degrees: yaw, pitch, tilt, bend."""
    yaw, pitch, tilt, more = (float(value) for value in turn)
    fingers = {
        name: replace(finger, knuckle=finger.knuckle + more, middle=finger.middle + more / 2)
        for name, finger in pose.fingers.items()
    }
    return replace(pose, yaw=pose.yaw + yaw, pitch=pose.pitch + pitch, tilt=pose.tilt + tilt, fingers=fingers)


def _remoteness(k: int, away: int) -> float:
    """Say how far a hand that is away for ``away`` frames still is from its place in frame ``k``: 1 far, 0 there."""
    if k < away:
        return 1 - 0.02 * k
    along = min((k - away + 1) / 1.6, 1.0) if away else 1.0
    return 1 - along**2 * (3 - 2 * along)


def _sleeve_end(placed: Placed, camera: Camera) -> Floats:
    """Mark where the drawn sleeve passes into the sleeve of the picture, 0 to 1, (480, 640, 1): never on the skin."""
    skin = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mesh in (placed.hand, placed.arm):
        corners = camera.project(points_of(mesh))[vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)]
        for triangle in corners.round().astype(np.int32):
            cv2.fillConvexPoly(skin, triangle, 1)
    bare = np.asarray(cv2.dilate(skin, np.ones((3, 3), np.uint8)), dtype=np.float64)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre = camera.project(placed.shoulder[None])[0]
    near: Floats = np.clip((0.11 - np.hypot(x - centre[0], y - centre[1]) / camera.scale) / 0.06, 0, 1)
    return (near * (1 - bare))[..., None]


def _shadow(alpha: Floats) -> Floats:
    """Throw the hand's shadow on what is behind it: 0 to 1, (480, 640, 1)."""
    shifted = cv2.warpAffine(alpha, np.array([[1.0, 0.0, -6.0], [0.0, 1.0, 10.0]]), (WIDTH, HEIGHT))
    return _soft(np.asarray(shifted), 9.0)


def _photographed(picture: Floats, rng: np.random.Generator) -> Image:
    """See it with a webcam: slightly unsharp, with noise that is coarser in colour than in brightness."""
    unsharp = _blurred(picture, 0.6)
    brightness = rng.normal(0, 1.7, (HEIGHT, WIDTH, 1))
    colour = cv2.resize(rng.normal(0, 1.6, (HEIGHT // 2, WIDTH // 2, 3)), (WIDTH, HEIGHT))
    return np.clip(unsharp + brightness + colour, 0, 255).round().astype(np.uint8)


def fetch_hand(folder: Path) -> Path:
    """Fetch the hand's mesh with npm.

    Parameters
    ----------
    folder : Path
        Where the package is unpacked.

    Returns
    -------
    Path
        ``right.glb``.

    Raises
    ------
    SystemExit
        If npm is not there or fails.
    """
    if shutil.which("npm") is None:
        raise SystemExit(
            f"npm is not installed: install it, or unpack {NPM_PACKAGE} yourself and give --hand right.glb"
        )
    packed = subprocess.run(["npm", "pack", "--silent", NPM_PACKAGE], cwd=folder, capture_output=True, text=True)
    if packed.returncode != 0:
        raise SystemExit(f"npm pack {NPM_PACKAGE} failed:\n{packed.stderr.strip()}")
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        archive.extract(HAND_IN_PACKAGE, folder, filter="data")
    return folder / HAND_IN_PACKAGE


def render_sample(hand_path: Path, output: Path, seed: int) -> int:
    """Render all videos and write frames, labels and truth.

    Parameters
    ----------
    hand_path : Path
        ``right.glb``.
    output : Path
        The sample's folder; an earlier sample in it is replaced.
    seed : int

    Returns
    -------
    int
        Number of frames.
    """
    hand, person = load_hand(hand_path), cut_out_person()
    images = output / "TRAIN_DATA"
    if images.exists():
        shutil.rmtree(images)
    rows, truth = [], {}
    for number, video in enumerate(VIDEOS):
        (images / video.name).mkdir(parents=True)
        rng = np.random.default_rng([seed, number])  # a video looks the same whatever comes before it
        for frame_id, frame in enumerate(render_video(video, hand, person, rng), start=1):
            frame_path = f"{video.name}/{frame_id:04d}.jpg"
            parameters = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            if not cv2.imwrite(str(images / frame_path), cv2.cvtColor(frame.picture, cv2.COLOR_RGB2BGR), parameters):
                raise OSError(f"could not write {images / frame_path}")
            rows.append((video.name, frame_id, video.gesture, frame_path))
            truth[frame_path] = {"hands": frame.hands, "faces": frame.faces}
        print(f"{video.name}: {video.frames} frames")
    with (output / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video_name", "frame_id", "class_name", "frame_path"))
        writer.writerows(rows)
    lines = ",\n".join(f"{json.dumps(path)}: {json.dumps(boxes)}" for path, boxes in truth.items())
    (output / "truth.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return len(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description="Render the sample on which the demo runs: short videos of a posed 3D hand beside a face, "
        "with labels (train.csv) and exact boxes (truth.json).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--hand",
        type=Path,
        metavar="PATH",
        help=f"generic-hand/right.glb of {NPM_PACKAGE}; without it, npm fetches the package into a temporary folder",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("data/sample"), help="folder to write; its TRAIN_DATA is replaced"
    )
    parser.add_argument("--seed", type=int, default=0, help="of motion, noise and exposure")
    arguments = parser.parse_args()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)  # without a display VTK warns, and then draws all the same
    with tempfile.TemporaryDirectory() as folder:
        hand = arguments.hand or fetch_hand(Path(folder))
        count = render_sample(hand, arguments.output, arguments.seed)
    print(f"{count} frames in {arguments.output}")


if __name__ == "__main__":
    main()
