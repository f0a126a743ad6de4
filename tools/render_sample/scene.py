"""The scene: background, person, hand and arm put together into the frames of a video, and the truth about them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import vtk

from .arm import arm
from .backgrounds import background
from .camera import Camera, Part
from .frame import HEIGHT, WIDTH, Box, Floats, Image, blurred, box_round, photographed
from .hand import SUBDIVISIONS, WRIST_M, Hand
from .person import FACE_HEIGHT_M, FACE_SIZE, LOOKS, SHOULDER_M, SUIT, Person, placement, warped
from .poses import POSES, Pose
from .skin import blotched, skin_colours
from .surface import points_of, surface, triangles_of
from .videos import Video, sway

Truth = dict[str, list[Box]]


def render(video: Video, hand: Hand, person: Person, rng: np.random.Generator) -> Iterator[tuple[Image, Truth]]:
    """Yield the frames of a video, RGB (480, 640, 3), each with the boxes of its ``hands`` and ``faces``."""
    look = LOOKS[video.look]
    picture, scenery = person.tinted(look), background(video.background)
    at_rest = surface(hand.vertices, hand.triangles, SUBDIVISIONS)
    colours, above_wrist = skin_colours(hand, at_rest, look.tone), points_of(at_rest)[:, 1] <= WRIST_M[1]
    head = sway(rng, (5.0, 3.0, 0.012, 1.5), video.frames)  # pixels, pixels, scale, degrees
    move = sway(rng, (0.012, 0.012, 0.02), video.frames)  # metres
    turn = sway(rng, (8.0, 5.0, 6.0, 3.0), video.frames)  # degrees: yaw, pitch, tilt, bend of the fingers
    exposure = rng.uniform(0.9, 1.06) * (1 + 0.015 * sway(rng, (1.0,), video.frames)[:, 0])
    for k in range(video.frames):
        x, y, size = video.face_x + head[k, 0], video.face_y + head[k, 1], video.size * (1 + head[k, 2])
        affine = placement(x, y, size, head[k, 3], video.flipped)
        cover = warped(person.alpha, affine)[..., None]
        canvas = scenery * (1 - cover) + warped(picture, affine) * cover
        corners = np.array([x, y]) + np.outer((-0.5, 0.5), size * FACE_SIZE)
        truth: Truth = {"hands": [], "faces": [box_round(corners)]}
        if video.hand:
            camera = Camera(size * FACE_SIZE[1] / FACE_HEIGHT_M)
            face, pose = camera.point(x, y), POSES[video.gesture].moved(*turn[k])
            shoulder = face + SHOULDER_M * (video.side, 1, 1)
            offset = np.array(pose.place) + video.shift + move[k] + video.remoteness(k) * np.array(video.start)
            held, forearm, sleeve = _limb(hand, pose, video.side, face + offset * (video.side, 1, 1), shoulder)
            arm_points = points_of(forearm)
            bare = Part(forearm, blotched(np.array(look.tone), arm_points - arm_points[0]), roughness=0.6)
            cloth = Part(sleeve, np.broadcast_to(SUIT, points_of(sleeve).shape), roughness=0.9)
            drawn, alpha = camera.draw([Part(held, colours, roughness=0.55), bare, cloth])
            fade = 1 - cover * _sleeve_end([held, forearm], shoulder, camera)
            drawn, alpha = drawn * fade, alpha * fade
            canvas *= 1 - 0.35 * cover * _shadow(alpha)
            canvas = canvas * (1 - alpha) + drawn
            truth["hands"] = [box_round(camera.project(points_of(held)[above_wrist]))]
        yield photographed(canvas * exposure[k], rng), truth


def _limb(hand: Hand, pose: Pose, side: int, position: Floats, shoulder: Floats) -> tuple[vtk.vtkPolyData, ...]:
    """Bend a hand, turn it, put its anchor at a position, give it an arm: the hand, the forearm, the sleeve."""
    bent, turn = hand.bent(pose), pose.orientation(side)
    anchor = bent[hand.joints[pose.anchor], :3, 3]

    def to_world(points: Floats) -> Floats:
        world: Floats = (points - anchor) @ turn.T + position
        return world

    triangles = hand.triangles if side < 0 else hand.triangles[:, ::-1]  # a mirrored mesh is inside out
    elbow = np.array(pose.elbow) / np.linalg.norm(pose.elbow) * (side, 1, 1)
    held = surface(to_world(hand.skinned(bent)), triangles, SUBDIVISIONS)
    return held, *arm(to_world(WRIST_M), elbow, shoulder, turn)


def _sleeve_end(bare: list[vtk.vtkPolyData], shoulder: Floats, camera: Camera) -> Floats:
    """Mark where the drawn sleeve passes into the sleeve of the picture, 0 to 1, (480, 640, 1): never on the skin."""
    skin = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mesh in bare:
        for triangle in camera.project(points_of(mesh))[triangles_of(mesh)].round().astype(np.int32):
            cv2.fillConvexPoly(skin, triangle, 1)
    skin = np.asarray(cv2.dilate(skin, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre = camera.project(shoulder[None])[0]
    near: Floats = np.clip((0.11 - np.hypot(x - centre[0], y - centre[1]) / camera.scale) / 0.06, 0, 1)
    return (near * (1 - skin))[..., None]


def _shadow(alpha: Floats) -> Floats:
    """Throw the hand's shadow on what is behind it: 0 to 1, (480, 640, 1)."""
    shifted = cv2.warpAffine(alpha, np.array([[1.0, 0.0, -6.0], [0.0, 1.0, 10.0]]), (WIDTH, HEIGHT))
    return blurred(np.asarray(shifted), 9.0)[..., None]
