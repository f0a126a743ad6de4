"""Convolutions with batch normalisation folded into their weights.

Feature maps are torch tensors of shape (B, C, H, W), stored as (B, H, W, C), torch's ``channels_last``: on a CPU that
and the folding take about a third off the time of a plain eager network (`benchmarks/mask_rcnn.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.weights import Tensors

_EPSILON = 1e-3  # of Keras's batch normalisation; torch's default differs


@dataclass(frozen=True)
class Convolution:
    """Convolution with bias, optionally followed by a ReLU.

    Attributes
    ----------
    weight, bias
        Shapes (out, in, height, width) and (out,).
    stride, padding
        In cells; padding is zero.
    relu
        Whether a ReLU follows.

    Examples
    --------
    >>> edge = Convolution(torch.tensor([[[[-1.0, 1.0]]]]), torch.zeros(1), relu=True)
    >>> edge(torch.tensor([[[[5.0, 7.0, 4.0]]]])).tolist()
    [[[[2.0, 0.0]]]]
    """

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int = 1
    padding: int = 0
    relu: bool = False

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Convolve maps, shape (B, in, H, W)."""
        convolved = F.conv2d(maps, self.weight, self.bias, self.stride, self.padding)
        return convolved.relu_() if self.relu else convolved


@dataclass(frozen=True)
class LayerBuilder:
    """Builds layers from the tensors of a weights file, on a device and in a precision."""

    tensors: Tensors
    device: torch.device
    dtype: torch.dtype

    def build_convolution(
        self, name: str, norm: str | None = None, *, stride: int = 1, padding: int | None = None, relu: bool = False
    ) -> Convolution:
        """Build a convolution.

        Parameters
        ----------
        name, norm
            Keras names of the convolution and of the batch normalisation after it.
        stride, relu
            See `Convolution`.
        padding
            In cells; None: 1 for a 3×3 kernel, which preserves the size of the map, otherwise 0.
        """
        kernel, bias = self.fold_norm(name, norm)
        weight = kernel.transpose(3, 2, 0, 1)  # Keras: height, width, in, out
        if padding is None:
            padding = 1 if weight.shape[2] == 3 else 0
        channels_last = self.to_tensor(weight).contiguous(memory_format=torch.channels_last)
        return Convolution(channels_last, self.to_tensor(bias), stride, padding, relu)

    def build_dense(self, name: str, norm: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weight, shape (out, in), and the bias of a dense layer, or of a convolution over the whole input.

        Inputs are flattened in the order y, x, channel.
        """
        kernel, bias = self.fold_norm(name, norm)
        return self.to_tensor(kernel.reshape(-1, kernel.shape[-1]).T), self.to_tensor(bias)

    def fold_norm(self, name: str, norm: str | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fold a batch normalisation into the kernel (out is its last axis) and the bias of the layer before it."""
        kernel = self.tensors[f"{name}/kernel"].astype(np.float64)
        bias = self.tensors[f"{name}/bias"].astype(np.float64)
        if norm is None:
            return kernel, bias
        gamma, beta, mean, variance = (
            self.tensors[f"{norm}/{part}"].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        return kernel * scale, (bias - mean) * scale + beta

    def to_tensor(self, values: NDArray[Any]) -> torch.Tensor:
        """Copy an array to the device, in the precision."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, self.dtype)
