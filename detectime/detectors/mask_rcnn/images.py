"""Prepare images for the network: resize them, then pad them to a black canvas.

Resizing is that of scikit-image 0.16, the version of 2021 (bilinear, pixel centres, black outside, truncated to bytes),
in NumPy with the same order of operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors.mask_rcnn.config import MULTIPLE, NetworkSettings
from detectime.images import RGB

RESIZE_MODES = ("2021", "plain")
"""How images are shrunk: ``2021`` blurs them first, the default of scikit-image 0.16, which the 2021 notebook used;
``plain`` does not blur, like the code that trained the hand weights."""

Window = tuple[int, int, int, int]
"""y1, x1, y2, x2 in pixels of a canvas."""

_STRIP = 64  # rows blurred at a time: they fit into the CPU cache


@dataclass(frozen=True)
class Canvas:
    """Input of the network: an image, or a part of it, on a black background.

    Attributes
    ----------
    pixels
        RGB, uint8; its sides are multiples of 64.
    window
        Part of the canvas that the image covers.
    image_box
        Position of the whole image; it extends beyond the canvas if the canvas holds a part of the image.
    image_shape
        Height and width of the image before it was resized.

    Examples
    --------
    >>> Canvas(np.zeros((64, 64, 3), np.uint8), (0, 0, 48, 64), (0, 0, 48, 64), (480, 640)).image_shape
    (480, 640)
    """

    pixels: RGB
    window: Window
    image_box: Window
    image_shape: tuple[int, int]


def check_image(image: Any) -> None:
    """Reject anything but an RGB image.

    Raises
    ------
    ValueError
        If it is not a uint8 array of shape (height, width, 3), or has no pixels.

    Examples
    --------
    >>> check_image(np.zeros((4, 4)))
    Traceback (most recent call last):
    ValueError: image has dtype float64 and shape (4, 4); expected RGB, uint8, (height, width, 3)
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image is of type {type(image).__name__}; expected an array: RGB, uint8, (height, width, 3)")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"image has dtype {image.dtype} and shape {image.shape}; expected RGB, uint8, (height, width, 3)"
        )
    if not image.size:
        raise ValueError(f"image of shape {image.shape} has no pixels")


def make_canvas(image: RGB, settings: NetworkSettings, resizing: str = "2021") -> Canvas:
    """Resize an image and centre it on the square canvas.

    Parameters
    ----------
    image
        RGB, uint8, shape (H, W, 3).
    settings
        Settings of the network.
    resizing
        One of `RESIZE_MODES`.

    Raises
    ------
    ValueError
        If it is not an RGB image, or is so narrow that a side shrinks to zero.

    Examples
    --------
    >>> canvas = make_canvas(np.zeros((480, 640, 3), np.uint8), NetworkSettings())
    >>> canvas.pixels.shape, canvas.window
    ((1024, 1024, 3), (128, 0, 896, 1024))
    """
    resized = resize_image(image, settings, resizing)
    height, width = resized.shape[:2]
    side = settings.max_side
    top, left = (side - height) // 2, (side - width) // 2
    window = (top, left, top + height, left + width)
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[top : top + height, left : left + width] = resized
    return Canvas(pixels, window, window, (image.shape[0], image.shape[1]))


def resize_image(image: RGB, settings: NetworkSettings, resizing: str = "2021") -> RGB:
    """Shrink or enlarge an image to the size at which the network processes it, uint8.

    Parameters and exceptions are those of `make_canvas`.

    Examples
    --------
    >>> resize_image(np.zeros((720, 1280, 3), np.uint8), NetworkSettings()).shape
    (576, 1024, 3)
    """
    check_image(image)
    height, width = image.shape[:2]
    scale = max(1.0, settings.min_side / min(height, width), settings.min_scale)
    if round(max(height, width) * scale) > settings.max_side:
        scale = settings.max_side / max(height, width)
    if scale == 1:
        return image
    new_height, new_width = round(height * scale), round(width * scale)
    if not (new_height and new_width):
        raise ValueError(
            f"image of {width} × {height} pixels is too narrow: shrunk to {settings.max_side}, one side is zero"
        )
    if resizing == "2021":
        image = _blur_image(image, ((height / new_height - 1) / 2, (width / new_width - 1) / 2))
    # Truncated, not rounded, like the original.
    return resize_bilinear(image, new_height, new_width).astype(np.uint8)


def crop_regions(canvas: Canvas, regions: Floats) -> Iterator[Canvas]:
    """Crop regions from a canvas, each as small as possible.

    Crops are aligned to a grid of 64 pixels, the coarsest stride of the network, so that cells and anchors are the same
    as on the whole canvas.

    Parameters
    ----------
    canvas
        The whole image.
    regions
        x1, y1, x2, y2 in pixels of the image, shape (N, 4). Two regions share a crop if it has no more pixels than
        their own crops have together: neighbouring faces are then processed once.

    Examples
    --------
    >>> whole = make_canvas(np.zeros((1024, 1024, 3), np.uint8), NetworkSettings())
    >>> [crop.pixels.shape for crop in crop_regions(whole, np.array([[0.0, 0, 100, 100], [20, 20, 130, 120]]))]
    [(128, 192, 3)]
    """
    height, width = canvas.image_shape
    top, left, bottom, right = canvas.window
    scale = np.array([(bottom - top) / height, (right - left) / width] * 2)
    boxes = geometry.clip_boxes(np.asarray(regions, dtype=np.float64).reshape(-1, 4), width, height)
    boxes = boxes[:, [1, 0, 3, 2]] * scale + np.array([top, left] * 2)
    # Filtered after scaling: a side of 1e-300 pixels is lost when the window's position is added.
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    cells = np.concatenate([np.floor(boxes[:, :2] / MULTIPLE), np.ceil(boxes[:, 2:] / MULTIPLE)], axis=1)
    for y1, x1, y2, x2 in _merge_regions([tuple(region) for region in (cells * MULTIPLE).astype(int).tolist()]):
        yield Canvas(
            canvas.pixels[y1:y2, x1:x2],
            (max(top, y1) - y1, max(left, x1) - x1, min(bottom, y2) - y1, min(right, x2) - x1),
            (top - y1, left - x1, bottom - y1, right - x1),
            canvas.image_shape,
        )


def _merge_regions(regions: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Merge regions y1, x1, y2, x2 as long as that adds no pixels."""
    pending, merged = list(regions), []
    while pending:
        region = pending.pop(0)
        for other in pending:
            union = (*np.minimum(region[:2], other[:2]).tolist(), *np.maximum(region[2:], other[2:]).tolist())
            if _count_pixels(union) <= _count_pixels(region) + _count_pixels(other):
                pending.remove(other)
                pending.insert(0, union)
                break
        else:
            merged.append(region)
    return merged


def _count_pixels(region: tuple[int, ...]) -> int:
    return (region[2] - region[0]) * (region[3] - region[1])


def resize_bilinear(image: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """Interpolate linearly between pixel centres; outside the image, values are 0.

    Parameters
    ----------
    image
        Any numeric dtype, shape (H, W, ...).
    height, width
        New size.

    Returns
    -------
    ndarray
        float64, shape (height, width, ...), between the minimum and the maximum of `image`.

    Examples
    --------
    >>> resize_bilinear(np.array([[0, 4]]), 1, 4)
    array([[0., 1., 3., 3.]])
    """
    top, bottom, y_weights = _find_neighbours(image.shape[0], height)
    left, right, x_weights = _find_neighbours(image.shape[1], width)
    trailing = (1,) * (image.ndim - 2)
    x_weights, y_weights = x_weights.reshape(2, 1, -1, *trailing), y_weights.reshape(2, -1, 1, *trailing)

    def resize_rows(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = x_weights[0] * image[rows][:, left] + x_weights[1] * image[rows][:, right]
        return values

    values: NDArray[np.float64] = y_weights[0] * resize_rows(top) + y_weights[1] * resize_rows(bottom)
    # Mixing with the 0 outside must not make the border darker than the darkest pixel.
    return values.clip(image.min(), image.max())


def _find_neighbours(before: int, after: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Find, for each of `after` positions, its two neighbours among `before`, and their weights, shape (2, after)."""
    positions = (np.arange(after) + 0.5) * (before / after) - 0.5
    low = np.floor(positions)
    high = np.ceil(positions)
    part = positions - low
    weights = np.stack([(1 - part) * (low >= 0), part * (high < before)])
    return np.clip(low, 0, None).astype(np.intp), np.clip(high, None, before - 1).astype(np.intp), weights


def _blur_image(image: RGB, deviations: Sequence[float]) -> RGB:
    """Blur by a Gaussian with standard deviations in pixels for y and x; black outside, truncated to bytes after each.

    Equals SciPy's ``gaussian_filter`` on bytes, including its order of additions, which truncation makes visible.
    """
    for axis, deviation in enumerate(deviations):
        if deviation > 1e-15:
            image = np.ascontiguousarray(np.swapaxes(_blur_rows(np.swapaxes(image, 0, axis), deviation), 0, axis))
    return image


def _blur_rows(image: RGB, deviation: float) -> RGB:
    """Blur along the first axis."""
    reach = int(4 * deviation + 0.5)
    kernel = np.exp(-0.5 / deviation**2 * np.arange(-reach, reach + 1) ** 2)
    kernel = (kernel / kernel.sum())[reach:]
    height = len(image)
    blurred = np.empty(image.shape, np.uint8)
    for start in range(0, height, _STRIP):
        stop = min(start + _STRIP, height)
        strip = np.zeros((stop - start + 2 * reach, *image.shape[1:]), np.uint16)
        first, last = max(0, start - reach), min(height, stop + reach)
        strip[first - start + reach : last - start + reach] = image[first:last]
        middle = strip[reach : reach + stop - start]
        total = middle * kernel[0]
        for distance in range(reach, 0, -1):
            above = strip[reach - distance : reach - distance + len(middle)]
            below = strip[reach + distance : reach + distance + len(middle)]
            total += (above + below) * kernel[distance]
        blurred[start:stop] = total
    return blurred
