"""The frame: its size, boxes in it, and the look of a webcam."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
Box = list[float]  # x1, y1, x2, y2, pixels
Colour = tuple[float, float, float]  # RGB, 0 to 1

WIDTH, HEIGHT = 640, 480


def make_bounding_box(points: Floats) -> Box:
    """Return the bounding box of points (N, 2), pixels, clipped to the frame."""
    corners = np.clip([points.min(axis=0), points.max(axis=0)], 0, (WIDTH, HEIGHT))
    return [round(float(value), 1) for value in corners.reshape(-1)]


def blur(picture: npt.NDArray[Any], sigma: float) -> Floats:
    """Blur a picture or a mask; ``sigma`` in pixels."""
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float64), (0, 0), sigma), dtype=np.float64)


def simulate_webcam(picture: Floats, rng: np.random.Generator) -> Image:
    """Simulate a webcam: slight blur, and noise that is coarser in colour than in brightness."""
    unsharp = blur(picture, 0.6)
    brightness = rng.normal(0, 1.7, (HEIGHT, WIDTH, 1))
    colour = cv2.resize(rng.normal(0, 1.6, (HEIGHT // 2, WIDTH // 2, 3)), (WIDTH, HEIGHT))
    return np.clip(unsharp + brightness + colour, 0, 255).round().astype(np.uint8)
