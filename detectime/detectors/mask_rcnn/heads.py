"""Heads of the network: class, box and, on request, mask of each proposal.

He et al., Mask R-CNN, ICCV 2017 (arXiv:1703.06870). Features are cropped from the pyramid by TensorFlow's
``crop_and_resize`` instead of the paper's RoIAlign: one sample per bin, corners aligned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.convolution import LayerBuilder
from detectime.detectors.mask_rcnn.proposals import Array

_CHUNK = 256  # boxes per step: their features take 51 MB, and a few times that during interpolation


class BoxHead:
    """Class and box of each proposal.

    Parameters
    ----------
    layers
        Builder with the weights.
    pool
        Side of the cropped features in cells.
    """

    def __init__(self, layers: LayerBuilder, pool: int) -> None:
        self._pool = pool
        self._dtype = layers.dtype
        # A 7×7 convolution over 7×7 cells is a dense layer.
        self._first = layers.build_dense("mrcnn_class_conv1", "mrcnn_class_bn1")
        self._second = layers.build_dense("mrcnn_class_conv2", "mrcnn_class_bn2")
        self._logits = layers.build_dense("mrcnn_class_logits")
        self._deltas = layers.build_dense("mrcnn_bbox_fc")

    def __call__(self, pyramid: Sequence[torch.Tensor], boxes: Array, area: int) -> tuple[Array, Array, Array]:
        """Classify the proposals of one canvas and refine their boxes.

        Parameters
        ----------
        pyramid
            P2 … P5 of the canvas, each (256, H, W).
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
            pooled = pool_boxes(pyramid, boxes[start : start + _CHUNK], area, self._pool)
            features = pooled.flatten(1).to(self._dtype)
            features = F.linear(features, *self._first).relu_()
            features = F.linear(features, *self._second).relu_()
            logits.append(F.linear(features, *self._logits).float())
            deltas.append(F.linear(features, *self._deltas).float())
        all_logits = torch.cat(logits)
        return (
            all_logits.cpu().numpy(),
            all_logits.softmax(dim=1).cpu().numpy(),
            torch.cat(deltas).reshape(*all_logits.shape, 4).cpu().numpy(),
        )


class MaskHead:
    """Mask of each detection; parameters as those of `BoxHead`."""

    def __init__(self, layers: LayerBuilder, pool: int) -> None:
        self._pool = pool
        self._dtype = layers.dtype
        self._convolutions = [
            layers.build_convolution(f"mrcnn_mask_conv{n}", f"mrcnn_mask_bn{n}", relu=True) for n in (1, 2, 3, 4)
        ]
        kernel, bias = layers.fold_norm("mrcnn_mask_deconv", None)
        # Keras: height, width, out, in; torch: in, out, height, width.
        self._upsample = layers.to_tensor(kernel.transpose(3, 2, 0, 1)), layers.to_tensor(bias)
        self._masks = layers.build_convolution("mrcnn_mask")

    def __call__(self, pyramid: Sequence[torch.Tensor], boxes: Array, area: int, classes: NDArray[np.integer]) -> Array:
        """Compute the mask of each box for its class.

        Parameters
        ----------
        pyramid, boxes, area
            As for `BoxHead`.
        classes
            Class of each box, shape (N,).

        Returns
        -------
        ndarray
            Probabilities, float32, shape (N, 28, 28).
        """
        masks = []
        for start in range(0, len(boxes), _CHUNK):
            pooled = pool_boxes(pyramid, boxes[start : start + _CHUNK], area, self._pool)
            maps = pooled.permute(0, 3, 1, 2).to(self._dtype)
            for convolve in self._convolutions:
                maps = convolve(maps)
            maps = F.conv_transpose2d(maps, *self._upsample, stride=2).relu_()
            all_classes = self._masks(maps).float().sigmoid().cpu().numpy()
            masks.append(all_classes[np.arange(len(all_classes)), classes[start : start + _CHUNK]])
        side = 2 * self._pool
        return np.concatenate(masks) if masks else np.empty((0, side, side), np.float32)


def pool_boxes(pyramid: Sequence[torch.Tensor], boxes: Array, area: int, size: int) -> torch.Tensor:
    """Crop each box from the pyramid level that fits its size.

    Parameters
    ----------
    pyramid
        P2 … P5 of the canvas, each (C, H, W).
    boxes
        Normalised y1, x1, y2, x2, shape (N, 4).
    area
        Pixels of the canvas.
    size
        Side of the result in cells.

    Returns
    -------
    Tensor
        float32, shape (N, size, size, C).

    Examples
    --------
    >>> pyramid = [torch.full((1, side, side), float(side)) for side in (256, 128, 64, 32)]
    >>> pool_boxes(pyramid, np.array([[0, 0, 0.05, 0.05], [0, 0, 0.8, 0.8]], np.float32), 1024**2, 7)[:, 0, 0, 0]
    tensor([256.,  32.])
    """
    levels = assign_levels(boxes, area)
    pooled = torch.empty(len(boxes), size, size, len(pyramid[0]), device=pyramid[0].device)
    for level, maps in enumerate(pyramid, start=2):
        own = np.flatnonzero(levels == level)
        if len(own):
            pooled[torch.from_numpy(own).to(pooled.device)] = crop_and_resize(maps.permute(1, 2, 0), boxes[own], size)
    return pooled


def assign_levels(boxes: Array, area: int) -> NDArray[np.int64]:
    """Assign each box a pyramid level, 2 … 5: P4 for a box of 224×224 pixels, P3 for one of half that side.

    Examples
    --------
    >>> assign_levels(np.array([[0, 0, 0.21875, 0.21875], [0, 0, 0, 0]], np.float32), 1024**2)
    array([4, 2])
    """
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    unit = np.float32(224) / np.sqrt(np.float32(area))
    with np.errstate(divide="ignore"):  # log 0 of an empty box is minus infinity, which clips to P2
        offset: Array = np.log(np.sqrt(height * width) / unit) / np.log(np.float32(2))
    # Clip before the conversion to integers, which infinity would not survive; halves round to even.
    return (4 + np.round(offset)).clip(2, 5).astype(np.int64)


def crop_and_resize(maps: torch.Tensor, boxes: Array, size: int) -> torch.Tensor:
    """TensorFlow's ``crop_and_resize``: sample a map bilinearly at size × size points in each box.

    The sampling points are computed with NumPy in float32, unfused and in TensorFlow's order, never on the device: in
    one case of fifteen, a box that ends at 1.0 overshoots the last cell by a rounding error, and a point outside the
    map is 0, as in TensorFlow.

    Parameters
    ----------
    maps
        Shape (H, W, C).
    boxes
        Normalised y1, x1, y2, x2, shape (N, 4).
    size
        Points per side.

    Returns
    -------
    Tensor
        float32, shape (N, size, size, C).

    Examples
    --------
    >>> ramp = torch.arange(5.0).expand(5, 5)[:, :, None]
    >>> crop_and_resize(ramp, np.array([[0, 0.25, 1, 0.75]], np.float32), 3)[0, 0, :, 0]
    tensor([1., 2., 3.])
    """
    height, width, channels = maps.shape
    top, bottom, y_part, is_inside_y = _compute_samples(boxes[:, 0], boxes[:, 2], height, size)
    left, right, x_part, is_inside_x = _compute_samples(boxes[:, 1], boxes[:, 3], width, size)
    cells = maps.reshape(height * width, channels)

    def to_device(values: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values).to(maps.device)

    def gather(y: NDArray[np.int64], x: NDArray[np.int64]) -> torch.Tensor:
        index = to_device((y[:, :, None] * width + x[:, None, :]).ravel())
        return cells.index_select(0, index).float().view(len(boxes), size, size, channels)

    def interpolate(a: torch.Tensor, b: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        return b.sub_(a).mul_(part).add_(a)

    x_weight, y_weight = to_device(x_part)[:, None, :, None], to_device(y_part)[:, :, None, None]
    upper = interpolate(gather(top, left), gather(top, right), x_weight)
    lower = interpolate(gather(bottom, left), gather(bottom, right), x_weight)
    sampled = interpolate(upper, lower, y_weight)
    is_outside = to_device(~(is_inside_y[:, :, None] & is_inside_x[:, None, :]))
    return sampled.masked_fill_(is_outside[..., None], 0)


def _compute_samples(
    start: Array, end: Array, cells: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, NDArray[np.bool_]]:
    """Compute the samples along one axis, each result of shape (N, size).

    Returns the cells before and after each sample, its fractional position between them, and whether it is inside.
    """
    last = np.float32(cells - 1)
    step = (end - start) * last / np.float32(size - 1)
    positions = start[:, None] * last + np.arange(size, dtype=np.float32) * step[:, None]
    is_inside = (positions >= 0) & (positions <= last)
    positions = np.where(is_inside, positions, np.float32(0))
    before = np.floor(positions)
    return before.astype(np.int64), np.ceil(positions).astype(np.int64), positions - before, is_inside
