"""The hand: a skinned mesh with its skeleton."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pygltflib

from .frame import Floats
from .poses import Pose
from .surface import Triangles

SUBDIVISIONS = 2  # the mesh is coarse
WRIST_M = np.array([0.038, 0.060, 0.010])  # centre of the wrist in the mesh at rest; everything below is forearm


@dataclass(frozen=True)
class Hand:
    """A right hand in metres: fingers along -y, palm towards -x, thumb towards -z."""

    vertices: Floats  # at rest, (V, 3)
    triangles: Triangles  # (T, 3)
    weights: Floats  # skinning weight of each joint for each vertex, (V, J); rows sum to one
    rest: Floats  # from the axes of each joint to those of the mesh, (J, 4, 4)
    joints: dict[str, int]  # row of each joint, by name

    def bend_joints(self, pose: Pose) -> Floats:
        """Bend fingers and thumb; return the transforms from the axes of each joint to those of the mesh, (J, 4, 4)."""
        bent = self.rest.copy()
        for chain in pose.list_rotations():
            parent = self.joints["wrist"]
            for name, turn in chain:
                joint = self.joints[name]
                step = np.linalg.inv(self.rest[parent]) @ self.rest[joint]
                step[:3, :3] = step[:3, :3] @ turn
                bent[joint] = bent[parent] @ step
                parent = joint
        return bent

    def move_vertices(self, bent: Floats) -> Floats:
        """Return the vertices moved with the bent joints (linear blend skinning), (V, 3), in the axes of the mesh."""
        motion = bent @ np.linalg.inv(self.rest)
        moved: Floats = np.einsum("vj,jik,vk->vi", self.weights, motion[:, :3, :3], self.vertices)
        moved += self.weights @ motion[:, :3, 3]
        return moved


def load_hand(path: Path) -> Hand:
    """Read ``right.glb``."""
    gltf = pygltflib.GLTF2().load(str(path))
    primitive, skin = gltf.meshes[0].primitives[0], gltf.skins[0]

    def read(accessor: int, kind: Any, columns: int) -> npt.NDArray[Any]:
        count = gltf.accessors[accessor].count
        start = gltf.bufferViews[gltf.accessors[accessor].bufferView].byteOffset
        return np.frombuffer(gltf.binary_blob(), kind, count * columns, start).reshape(count, columns)

    vertices = read(primitive.attributes.POSITION, np.float32, 3).astype(np.float64)
    triangles = read(primitive.indices, np.uint16, 1).reshape(-1, 3)
    weights = np.zeros((len(vertices), len(skin.joints)))
    joint, share = read(primitive.attributes.JOINTS_0, np.uint8, 4), read(primitive.attributes.WEIGHTS_0, np.float32, 4)
    np.add.at(weights, (np.arange(len(vertices))[:, None], joint), share)
    inverse_bind = read(skin.inverseBindMatrices, np.float32, 16).astype(np.float64)
    # The file repeats a vertex for each texture coordinate; smoothing needs a closed surface.
    _, first, merged = np.unique(vertices.round(6), axis=0, return_index=True, return_inverse=True)
    return Hand(
        vertices=vertices[first],
        triangles=merged.reshape(-1)[triangles],
        weights=(weights / weights.sum(axis=1, keepdims=True))[first],
        rest=np.asarray(np.linalg.inv(inverse_bind.reshape(-1, 4, 4).transpose(0, 2, 1)), dtype=np.float64),
        joints={gltf.nodes[node].name: row for row, node in enumerate(skin.joints)},
    )
