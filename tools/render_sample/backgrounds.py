"""The backgrounds: scikit-image pictures and drawn ones, out of focus; RGB, 0 to 255, float64 (480, 640, 3)."""

from __future__ import annotations

import cv2
import numpy as np
import skimage.data

from .frame import HEIGHT, WIDTH, Floats, blur

# tints of grey pictures
GREY = {"brick": (1.2, 0.86, 0.70), "gravel": (1.15, 1.05, 0.92), "grass": (0.75, 0.95, 0.55)}


def make_background(name: str) -> Floats:
    """Return a background by name: ``wall``, ``shelves``, ``lights``, or a picture of scikit-image."""
    drawn = {"wall": _draw_wall, "shelves": _draw_shelves, "lights": _draw_lights}
    if name in drawn:
        return drawn[name]()
    picture = getattr(skimage.data, name)().astype(np.float64)
    if name in GREY:
        picture = picture[..., None] * np.array(GREY[name])
    scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR))
    top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - WIDTH) // 2
    return blur(picture[top : top + HEIGHT, left : left + WIDTH], 3.0)


def _draw_wall() -> Floats:
    """Draw a painted wall with light from the left; its base has another colour."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    light = 0.75 + 0.3 * np.exp(-((x - 150) ** 2 + (y - 120) ** 2) / 330**2)
    paint = np.where((y > 400)[..., None], (150.0, 140.0, 128.0), (196.0, 204.0, 198.0))
    return blur(light[..., None] * paint, 3.0)


def _draw_shelves() -> Floats:
    """Draw shelves with books."""
    rng = np.random.default_rng(11)
    picture = np.full((HEIGHT, WIDTH, 3), (92.0, 66.0, 46.0))
    for top in range(-20, HEIGHT, 125):
        x = 4
        while x < WIDTH:
            width, height = int(rng.integers(10, 32)), int(rng.integers(75, 108))
            colour = rng.uniform(60, 190) + rng.uniform(-40, 40, 3)
            picture[max(top + 112 - height, 0) : top + 112, x : x + width] = colour
            x += width + int(rng.integers(1, 4))
    return blur(picture, 4.0)


def _draw_lights() -> Floats:
    """Draw a street at dusk, far out of focus."""
    rng = np.random.default_rng(5)
    picture = np.linspace((58.0, 62.0, 92.0), (34.0, 32.0, 40.0), HEIGHT)[:, None] * np.ones((1, WIDTH, 1))
    for _ in range(70):
        disc = np.zeros((HEIGHT, WIDTH), np.uint8)
        centre = (int(rng.integers(0, WIDTH)), int(rng.integers(60, HEIGHT)))
        cv2.circle(disc, centre, int(rng.integers(6, 22)), 1, -1)
        brightness = rng.uniform(0.1, 0.4)
        colour = np.array((255.0, rng.uniform(140, 230), rng.uniform(60, 200)))
        picture += disc[..., None] * brightness * colour
    return blur(np.minimum(picture, 255), 2.0)
