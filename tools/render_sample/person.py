"""The person: the astronaut, cut out of her picture, with skin and hair recoloured."""

# skimage, if installed, has untyped functions
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data

from .frame import HEIGHT, WIDTH, Colour, Floats, Image, blur
from .poses import rotate

# In her picture (512 x 512 pixels): the face box as detectors return it (forehead to chin, ear to ear), the outline,
# which GrabCut refines, and the skin of face and neck.
FACE_MIDDLE, FACE_SIZE = np.array([224.0, 118.5]), np.array([98.0, 117.0])
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
SUIT = (0.92, 0.36, 0.17)

FACE_HEIGHT_M = 0.2  # of that face box: the scale at which the hand has its real size
SHOULDER_M = np.array([0.19, -0.31, -0.03])  # from the centre of the face: outwards, up, to the camera


@dataclass(frozen=True)
class Look:
    """Skin and hair colours of the person in a video."""

    tone: Colour  # the hand's skin
    face: Colour  # factor for the skin of the astronaut
    hair: Colour  # factor for her hair


LOOKS = {
    "light": Look((0.99, 0.77, 0.66), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "rosy": Look((0.96, 0.69, 0.59), (0.98, 0.92, 0.92), (0.75, 0.62, 0.52)),
    "olive": Look((0.80, 0.58, 0.43), (0.86, 0.80, 0.72), (0.48, 0.42, 0.38)),
    "tan": Look((0.66, 0.44, 0.31), (0.74, 0.64, 0.55), (0.36, 0.32, 0.30)),
    "brown": Look((0.46, 0.29, 0.20), (0.60, 0.48, 0.40), (0.26, 0.24, 0.23)),
}


@dataclass(frozen=True)
class Person:
    """The astronaut, cut out, with masks of skin and hair."""

    picture: Floats  # RGB, 0 to 255, (512, 512, 3)
    alpha: Floats  # her coverage of each pixel, 0 to 1, (512, 512, 1)
    skin: Floats  # coverage by skin
    hair: Floats  # coverage by hair

    def tint(self, look: Look) -> Floats:
        """Return the picture with skin and hair recoloured."""
        factor: Floats = 1 + self.skin * (np.array(look.face) - 1) + self.hair * (np.array(look.hair) - 1)
        return self.picture * factor


def cut_out_person() -> Person:
    """Cut the astronaut out of her picture."""
    picture = skimage.data.astronaut()
    inside, skin = _fill_polygon(OUTLINE), blur(_fill_polygon(SKIN), 2.5)[..., None]
    kernel = np.ones((9, 9), np.uint8)
    labels = np.full(inside.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(inside, kernel) > 0] = cv2.GC_PR_BGD
    labels[inside > 0] = cv2.GC_PR_FGD
    labels[cv2.erode(inside, kernel) > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    person = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    alpha = blur(np.asarray(cv2.erode(person, np.ones((3, 3), np.uint8))), 1.0)[..., None]
    head = np.zeros_like(inside)
    head[:150] = 1
    hair = blur(head, 4.0)[..., None] * alpha * (1 - skin)
    return Person(picture.astype(np.float64), alpha, skin, hair)


def _fill_polygon(polygon: tuple[tuple[int, int], ...]) -> Image:
    """Return the mask of a polygon in the astronaut's picture: (512, 512), zero or one."""
    mask = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(mask, [np.array(polygon, dtype=np.int32)], 1)
    return mask


def make_placement(x: float, y: float, size: float, degrees: float, flipped: bool) -> Floats:
    """Return the affine map (2, 3) that moves the centre of the astronaut's face to a pixel of the frame."""
    linear = size * rotate("z", degrees)[:2, :2] @ np.diag([-1.0 if flipped else 1.0, 1.0])
    return np.column_stack([linear, np.array([x, y]) - linear @ FACE_MIDDLE])


def warp_person(picture: Floats, affine: Floats) -> Floats:
    """Warp a picture into the frame, its last row repeated below so that the body reaches the bottom of the frame."""
    longer = cv2.copyMakeBorder(picture, 0, 100, 0, 0, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.warpAffine(longer, affine, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR), dtype=np.float64)
