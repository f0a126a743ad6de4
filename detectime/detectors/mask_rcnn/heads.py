"""The heads that look at each proposal: its class, its box and, where asked for, its mask.

He et al., Mask R-CNN, ICCV 2017 (arXiv:1703.06870). What they look at is cut out of the pyramid by TensorFlow's
``crop_and_resize``, not by the paper's RoIAlign: one sample a bin, aligned at the corners.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.convolution import Layers
from detectime.detectors.mask_rcnn.proposals import Array

_CHUNK = 256  # boxes at a time: 51 MB of what they see, and some times that while it is interpolated


class BoxHead:
    """Class and box of each proposal."""

    def __init__(self, layers: Layers, pool: int) -> None:
        self._pool = pool
        self._dtype = layers.dtype
        # A 7×7 convolution over 7×7 cells is a dense layer.
        self._first = layers.dense("mrcnn_class_conv1", "mrcnn_class_bn1")
        self._second = layers.dense("mrcnn_class_conv2", "mrcnn_class_bn2")
        self._logits = layers.dense("mrcnn_class_logits")
        self._deltas = layers.dense("mrcnn_bbox_fc")

    def __call__(self, pyramid: Sequence[torch.Tensor], boxes: Array, area: int) -> tuple[Array, Array, Array]:
        """Look at the proposals of one image.

        Parameters
        ----------
        pyramid
            P2 … P5 of the image, each (256, H, W).
        boxes
            Normalised y1, x1, y2, x2, shape (N, 4).
        area
            Pixels of the canvas.

        Returns
        -------
        tuple
            Logits and probabilities, shape (N, classes), and deltas, shape (N, classes, 4).
        """
        logits, deltas = [], []
        for start in range(0, len(boxes), _CHUNK):
            pooled = pool(pyramid, boxes[start : start + _CHUNK], area, self._pool)
            seen = pooled.flatten(1).to(self._dtype)
            seen = F.linear(seen, *self._first).relu_()
            seen = F.linear(seen, *self._second).relu_()
            logits.append(F.linear(seen, *self._logits).float())
            deltas.append(F.linear(seen, *self._deltas).float())
        together = torch.cat(logits)
        return (
            together.cpu().numpy(),
            together.softmax(dim=1).cpu().numpy(),
            torch.cat(deltas).reshape(*together.shape, 4).cpu().numpy(),
        )


class MaskHead:
    """Mask of each detection."""

    def __init__(self, layers: Layers, pool: int) -> None:
        self._pool = pool
        self._dtype = layers.dtype
        self._looks = [layers.convolution(f"mrcnn_mask_conv{n}", f"mrcnn_mask_bn{n}", relu=True) for n in (1, 2, 3, 4)]
        kernel, bias = layers.folded("mrcnn_mask_deconv", None)
        # Keras: height, width, out, in; torch: in, out, height, width.
        self._enlarge = layers.tensor(kernel.transpose(3, 2, 0, 1)), layers.tensor(bias)
        self._masks = layers.convolution("mrcnn_mask")

    def __call__(self, pyramid: Sequence[torch.Tensor], boxes: Array, area: int, classes: NDArray[np.integer]) -> Array:
        """Masks of boxes, shape (N, 28, 28), in 0 … 1, each for its class, shape (N,); else as `BoxHead`."""
        found = []
        for start in range(0, len(boxes), _CHUNK):
            maps = pool(pyramid, boxes[start : start + _CHUNK], area, self._pool).permute(0, 3, 1, 2).to(self._dtype)
            for look in self._looks:
                maps = look(maps)
            maps = F.conv_transpose2d(maps, *self._enlarge, stride=2).relu_()
            answer = self._masks(maps).float().sigmoid().cpu().numpy()
            found.append(answer[np.arange(len(answer)), classes[start : start + _CHUNK]])
        side = 2 * self._pool
        return np.concatenate(found) if found else np.empty((0, side, side), np.float32)


def pool(pyramid: Sequence[torch.Tensor], boxes: Array, area: int, size: int) -> torch.Tensor:
    """Cut boxes out of the level of the pyramid that fits their size, float32, shape (N, size, size, C)."""
    level = levels(boxes, area)
    pooled = torch.empty(len(boxes), size, size, len(pyramid[0]), device=pyramid[0].device)
    for number, maps in enumerate(pyramid, start=2):
        here = np.flatnonzero(level == number)
        if len(here):
            pooled[torch.from_numpy(here).to(pooled.device)] = crop_and_resize(maps.permute(1, 2, 0), boxes[here], size)
    return pooled


def levels(boxes: Array, area: int) -> NDArray[np.int64]:
    """Level, 2 … 5, of each box: a box of 224×224 pixels is cut out of P4, one of half that side out of P3."""
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    unit = np.float32(224) / np.sqrt(np.float32(area))
    with np.errstate(divide="ignore"):  # a box without area: minus infinity, so P2
        above: Array = np.log(np.sqrt(height * width) / unit) / np.log(np.float32(2))
    # Clipped before it becomes an integer, for infinity's sake; half to even.
    return (4 + np.round(above)).clip(2, 5).astype(np.int64)


def crop_and_resize(maps: torch.Tensor, boxes: Array, size: int) -> torch.Tensor:
    """TensorFlow's ``crop_and_resize``: sample a map bilinearly at size × size points of each box.

    Where the points lie is computed here in float32, unfused and in TensorFlow's order, never on the device: a box that
    ends at 1.0 overshoots the last cell by a rounding error in one case of fifteen, and a point outside of the map is
    0, as in TensorFlow.

    Parameters
    ----------
    maps
        Shape (H, W, C).
    boxes
        Normalised y1, x1, y2, x2, shape (N, 4).

    Returns
    -------
    Tensor
        float32, shape (N, size, size, C).
    """
    height, width, channels = maps.shape
    top, bottom, down, inside_y = _samples(boxes[:, 0], boxes[:, 2], height, size)
    left, right, across, inside_x = _samples(boxes[:, 1], boxes[:, 3], width, size)
    cells = maps.reshape(height * width, channels)

    def there(values: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values).to(maps.device)

    def at(y: NDArray[np.int64], x: NDArray[np.int64]) -> torch.Tensor:
        cell = there((y[:, :, None] * width + x[:, None, :]).ravel())
        return cells.index_select(0, cell).float().view(len(boxes), size, size, channels)

    def between(a: torch.Tensor, b: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        return b.sub_(a).mul_(part).add_(a)

    to_right, to_bottom = there(across)[:, None, :, None], there(down)[:, :, None, None]
    upper = between(at(top, left), at(top, right), to_right)
    lower = between(at(bottom, left), at(bottom, right), to_right)
    sampled = between(upper, lower, to_bottom)
    outside = there(~(inside_y[:, :, None] & inside_x[:, None, :]))
    return sampled.masked_fill_(outside[..., None], 0)


def _samples(
    start: Array, end: Array, cells: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, NDArray[np.bool_]]:
    """Along one axis, for each box and sample: the cells before and after, the part between, whether it is inside."""
    last = np.float32(cells - 1)
    step = (end - start) * last / np.float32(size - 1)
    at = start[:, None] * last + np.arange(size, dtype=np.float32) * step[:, None]
    inside = (at >= 0) & (at <= last)
    at = np.where(inside, at, np.float32(0))
    before = np.floor(at)
    return before.astype(np.int64), np.ceil(at).astype(np.int64), at - before, inside
