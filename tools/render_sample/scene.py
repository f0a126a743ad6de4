"""The scene: background, person, hand and arm composed to the frames of a video, with their truth."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import vtk

from .arm import make_arm
from .backgrounds import make_background
from .camera import Camera, Part
from .frame import HEIGHT, WIDTH, Box, Floats, Image, blur, make_bounding_box, simulate_webcam
from .hand import SUBDIVISIONS, WRIST_M, Hand
from .person import FACE_HEIGHT_M, FACE_SIZE, LOOKS, SHOULDER_M, SUIT, Person, make_placement, warp_person
from .poses import POSES, Pose
from .skin import add_blotches, paint_skin
from .surface import get_points, get_triangles, make_surface
from .videos import Video, make_sway

Truth = dict[str, list[Box]]


def render_video(video: Video, hand: Hand, person: Person, rng: np.random.Generator) -> Iterator[tuple[Image, Truth]]:
    """Yield the frames of a video, RGB (480, 640, 3), each with the boxes of its ``hands`` and ``faces``."""
    look = LOOKS[video.look]
    picture, scenery = person.tint(look), make_background(video.background)
    at_rest = make_surface(hand.vertices, hand.triangles, SUBDIVISIONS)
    colours, above_wrist = paint_skin(hand, at_rest, look.tone), get_points(at_rest)[:, 1] <= WRIST_M[1]
    head = make_sway(rng, (5.0, 3.0, 0.012, 1.5), video.frames)  # pixels, pixels, scale, degrees
    move = make_sway(rng, (0.012, 0.012, 0.02), video.frames)  # metres
    turn = make_sway(rng, (8.0, 5.0, 6.0, 3.0), video.frames)  # degrees: yaw, pitch, tilt, bend of the fingers
    exposure = rng.uniform(0.9, 1.06) * (1 + 0.015 * make_sway(rng, (1.0,), video.frames)[:, 0])
    for k in range(video.frames):
        x, y, size = video.face_x + head[k, 0], video.face_y + head[k, 1], video.size * (1 + head[k, 2])
        affine = make_placement(x, y, size, head[k, 3], video.flipped)
        cover = warp_person(person.alpha, affine)[..., None]
        canvas = scenery * (1 - cover) + warp_person(picture, affine) * cover
        corners = np.array([x, y]) + np.outer((-0.5, 0.5), size * FACE_SIZE)
        truth: Truth = {"hands": [], "faces": [make_bounding_box(corners)]}
        if video.hand:
            camera = Camera(size * FACE_SIZE[1] / FACE_HEIGHT_M)
            face, pose = camera.unproject(x, y), POSES[video.gesture].vary(*turn[k])
            shoulder = face + SHOULDER_M * (video.side, 1, 1)
            offset = np.array(pose.position) + video.shift + move[k] + video.get_remoteness(k) * np.array(video.start)
            held, forearm, sleeve = _make_limb(hand, pose, video.side, face + offset * (video.side, 1, 1), shoulder)
            arm_points = get_points(forearm)
            bare = Part(forearm, add_blotches(np.array(look.tone), arm_points - arm_points[0]), roughness=0.6)
            cloth = Part(sleeve, np.broadcast_to(SUIT, get_points(sleeve).shape), roughness=0.9)
            drawn, alpha = camera.draw_parts([Part(held, colours, roughness=0.55), bare, cloth])
            fade = 1 - cover * _mask_sleeve_end([held, forearm], shoulder, camera)
            drawn, alpha = drawn * fade, alpha * fade
            canvas *= 1 - 0.35 * cover * _cast_shadow(alpha)
            canvas = canvas * (1 - alpha) + drawn
            truth["hands"] = [make_bounding_box(camera.project(get_points(held)[above_wrist]))]
        yield simulate_webcam(canvas * exposure[k], rng), truth


def _make_limb(hand: Hand, pose: Pose, side: int, position: Floats, shoulder: Floats) -> tuple[vtk.vtkPolyData, ...]:
    """Pose a hand with its anchor at a position, and add an arm; return hand, forearm and sleeve."""
    bent, turn = hand.bend_joints(pose), pose.make_orientation(side)
    anchor = bent[hand.joints[pose.anchor], :3, 3]

    def to_world(points: Floats) -> Floats:
        world: Floats = (points - anchor) @ turn.T + position
        return world

    triangles = hand.triangles if side < 0 else hand.triangles[:, ::-1]  # mirroring turns the mesh inside out
    elbow = np.array(pose.elbow) / np.linalg.norm(pose.elbow) * (side, 1, 1)
    held = make_surface(to_world(hand.move_vertices(bent)), triangles, SUBDIVISIONS)
    return held, *make_arm(to_world(WRIST_M), elbow, shoulder, turn)


def _mask_sleeve_end(bare: list[vtk.vtkPolyData], shoulder: Floats, camera: Camera) -> Floats:
    """Mask where the rendered sleeve blends into that of the picture, 0 to 1, (480, 640, 1); zero on skin."""
    skin = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mesh in bare:
        for triangle in camera.project(get_points(mesh))[get_triangles(mesh)].round().astype(np.int32):
            cv2.fillConvexPoly(skin, triangle, 1)
    skin = np.asarray(cv2.dilate(skin, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre = camera.project(shoulder[None])[0]
    near: Floats = np.clip((0.11 - np.hypot(x - centre[0], y - centre[1]) / camera.scale) / 0.06, 0, 1)
    return (near * (1 - skin))[..., None]


def _cast_shadow(alpha: Floats) -> Floats:
    """Return the shadow of the hand on what is behind it: 0 to 1, (480, 640, 1)."""
    shifted = cv2.warpAffine(alpha, np.array([[1.0, 0.0, -6.0], [0.0, 1.0, 10.0]]), (WIDTH, HEIGHT))
    return blur(np.asarray(shifted), 9.0)[..., None]
