"""Images as the network takes them: shrunk or enlarged, then put on a black canvas.

The resizing is scikit-image's of 2021 (0.16: bilinear, pixel centres, black outside, truncated to bytes), written with
NumPy in the same order of operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors.mask_rcnn.config import MULTIPLE, Settings
from detectime.images import RGB

RESIZING = ("2021", "plain")
"""How an image shrinks: blurred first, as scikit-image 0.16 did unless told not to (the notebook of 2021 did not tell
it), or not blurred, as the code that the hand weights were trained with."""

Window = tuple[int, int, int, int]
"""y1, x1, y2, x2 in pixels of a canvas."""

_STRIP = 64  # rows that are blurred at a time: they stay in the processor's cache


@dataclass(frozen=True)
class Molded:
    """A canvas for the network.

    `pixels` is RGB, uint8, its sides multiples of 64; `window` the part of it that the image fills; `frame` where the
    whole image lies, which leaves the canvas if only a part of the image was put on it; `shape` the height and width
    of the image before it was resized.
    """

    pixels: RGB
    window: Window
    frame: Window
    shape: tuple[int, int]


def check(image: Any) -> None:
    """Refuse what is no RGB image.

    Raises
    ------
    ValueError
        If it is not a uint8 array of shape (height, width, 3), or has no pixels.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is {type(image).__name__}; needed is an array: RGB, uint8, (height, width, 3)")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is {image.dtype} of shape {image.shape}; needed is RGB, uint8, (height, width, 3)")
    if not image.size:
        raise ValueError(f"an image of shape {image.shape} has no pixels")


def fit(image: RGB, settings: Settings, resizing: str = "2021") -> RGB:
    """Shrink or enlarge an image to the size at which the network sees it, uint8.

    Raises
    ------
    ValueError
        If it is no RGB image, or so narrow that nothing is left of it.
    """
    check(image)
    height, width = image.shape[:2]
    scale = max(1.0, settings.min_side / min(height, width), settings.min_scale)
    if round(max(height, width) * scale) > settings.max_side:
        scale = settings.max_side / max(height, width)
    if scale == 1:
        return image
    new_height, new_width = round(height * scale), round(width * scale)
    if not (new_height and new_width):
        raise ValueError(
            f"an image of {width} × {height} pixels is too narrow: shrunk to {settings.max_side}, nothing is left of it"
        )
    if resizing == "2021":
        image = _blur(image, ((height / new_height - 1) / 2, (width / new_width - 1) / 2))
    # Truncated, not rounded, as the original is.
    return resize(image, new_height, new_width).astype(np.uint8)


def square(fitted: RGB, shape: tuple[int, int], settings: Settings) -> Molded:
    """Put a fitted image in the middle of the square canvas; `shape` is the image's before it was fitted."""
    height, width = fitted.shape[:2]
    side = settings.max_side
    top, left = (side - height) // 2, (side - width) // 2
    window = (top, left, top + height, left + width)
    return Molded(_canvas(fitted, side, side, top, left), window, window, shape)


def near(molded: Molded, regions: Floats) -> Iterator[Molded]:
    """Cut neighbourhoods out of a canvas, each as small as it can be.

    They are cut along a grid of 64 pixels, the coarsest stride of the network, so that its cells and anchors are those
    that it would have had on the whole canvas.

    Parameters
    ----------
    molded
        The whole image.
    regions
        x1, y1, x2, y2 in pixels of the image, shape (N, 4). Where two of them together make a canvas that is no larger
        than theirs, they share it.
    """
    height, width = molded.shape
    top, left, bottom, right = molded.window
    scale = np.array([(bottom - top) / height, (right - left) / width] * 2)
    boxes = geometry.clip_boxes(np.asarray(regions, dtype=np.float64).reshape(-1, 4), width, height)
    boxes = boxes[geometry.compute_area(boxes) > 0][:, [1, 0, 3, 2]] * scale + np.array([top, left] * 2)
    cells = np.concatenate([np.floor(boxes[:, :2] / MULTIPLE), np.ceil(boxes[:, 2:] / MULTIPLE)], axis=1)
    for y1, x1, y2, x2 in _share([tuple(part) for part in (cells * MULTIPLE).astype(int).tolist()]):
        yield Molded(
            molded.pixels[y1:y2, x1:x2],
            (max(top, y1) - y1, max(left, x1) - x1, min(bottom, y2) - y1, min(right, x2) - x1),
            (top - y1, left - x1, bottom - y1, right - x1),
            molded.shape,
        )


def resize(image: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """Interpolate linearly between pixel centres; outside of the image there is 0.

    Parameters
    ----------
    image
        Any numbers, shape (H, W, ...).

    Returns
    -------
    ndarray
        float64, shape (height, width, ...), within the least and the largest value of `image`.
    """
    top, bottom, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    more = (1,) * (image.ndim - 2)
    across, down = across.reshape(2, 1, -1, *more), down.reshape(2, -1, 1, *more)

    def row(at: NDArray[np.intp]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = across[0] * image[at][:, left] + across[1] * image[at][:, right]
        return values

    values: NDArray[np.float64] = down[0] * row(top) + down[1] * row(bottom)
    # Where the border is mixed with the 0 outside, it does not become darker than the darkest pixel.
    return values.clip(image.min(), image.max())


def _neighbours(before: int, after: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each of `after` positions the two neighbours among `before`, and their weights, shape (2, after)."""
    at = (np.arange(after) + 0.5) * (before / after) - 0.5
    low = np.floor(at)
    high = np.ceil(at)
    part = at - low
    weights = np.stack([(1 - part) * (low >= 0), part * (high < before)])
    return np.clip(low, 0, None).astype(np.intp), np.clip(high, None, before - 1).astype(np.intp), weights


def _blur(image: RGB, deviations: Sequence[float]) -> RGB:
    """Blur by a Gaussian of so many pixels down and across, black outside, truncated to bytes after each of the two.

    What SciPy's ``gaussian_filter`` makes of bytes: its order of additions is kept, since truncation shows it.
    """
    for axis, deviation in enumerate(deviations):
        if deviation > 1e-15:
            image = np.ascontiguousarray(np.swapaxes(_blur_rows(np.swapaxes(image, 0, axis), deviation), 0, axis))
    return image


def _blur_rows(image: RGB, deviation: float) -> RGB:
    reach = int(4 * deviation + 0.5)
    bell = np.exp(-0.5 / deviation**2 * np.arange(-reach, reach + 1) ** 2)
    bell = (bell / bell.sum())[reach:]
    height = len(image)
    blurred = np.empty(image.shape, np.uint8)
    for start in range(0, height, _STRIP):
        stop = min(start + _STRIP, height)
        strip = np.zeros((stop - start + 2 * reach, *image.shape[1:]), np.uint16)
        first, last = max(0, start - reach), min(height, stop + reach)
        strip[first - start + reach : last - start + reach] = image[first:last]
        middle = strip[reach : reach + stop - start]
        total = middle * bell[0]
        for distance in range(reach, 0, -1):
            above = strip[reach - distance : reach - distance + len(middle)]
            below = strip[reach + distance : reach + distance + len(middle)]
            total += (above + below) * bell[distance]
        blurred[start:stop] = total
    return blurred


def _canvas(pixels: RGB, height: int, width: int, top: int, left: int) -> RGB:
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def _share(parts: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Join parts, y1, x1, y2, x2, as long as that costs no larger canvas."""
    todo, done = list(parts), []
    while todo:
        part = todo.pop(0)
        for other in todo:
            both = (*np.minimum(part[:2], other[:2]).tolist(), *np.maximum(part[2:], other[2:]).tolist())
            if _pixels(both) <= _pixels(part) + _pixels(other):
                todo.remove(other)
                todo.insert(0, both)
                break
        else:
            done.append(part)
    return done


def _pixels(part: tuple[int, ...]) -> int:
    return (part[2] - part[0]) * (part[3] - part[1])
