"""Convolutions with batch normalisation folded in, and what makes the large ones fast on a CPU.

Maps are torch tensors of shape (B, C, H, W) that lie in memory as (B, H, W, C), torch's ``channels_last``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.weights import Tensors

_EPSILON = 1e-3  # of Keras's batch normalisation; torch's default is another
_STRIP = 2**21  # numbers that Winograd's algorithm has in hand at a time: 8 MiB, about what caches hold


@dataclass(frozen=True)
class Convolution:
    """A convolution with its bias, and a ReLU if wanted.

    Attributes
    ----------
    weight, bias
        Shapes (out, in, height, width) and (out,).
    stride, padding
        In cells; what is padded is 0.
    winograd
        Where it is quicker: see `Winograd`.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int = 1
    padding: int = 0
    relu: bool = False
    winograd: Winograd | None = None

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Convolve maps, shape (B, in, H, W)."""
        if self.winograd and maps.shape[2] % 2 == 0 and maps.shape[3] % 2 == 0:
            convolved = self.winograd(maps)
        else:
            convolved = F.conv2d(maps, self.weight, self.bias, self.stride, self.padding)
        return convolved.relu_() if self.relu else convolved


class Winograd:
    """A 3×3 convolution, padded by 1, in 4/9 of the multiplications: the algorithm F(2×2, 3×3).

    Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (arXiv:1509.09308), equations 8 to 12.
    Each 2×2 of the output comes from a 4×4 of the input; the two, and the kernel, are transformed such that the
    convolution becomes 16 products of matrices. In float32 it is no less exact than the direct sum. It pays where there
    are many cells and at least 256 channels: in the pyramid and the proposal network, nearly half of all the work.

    Parameters
    ----------
    weight
        Float, shape (out, in, 3, 3).
    bias
        Shape (out,).
    """

    _INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    _KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2
    _OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

    def __init__(self, weight: NDArray[np.floating], bias: torch.Tensor) -> None:
        transformed = np.einsum("ax,by,oixy->abio", self._KERNEL, self._KERNEL, weight, optimize=True)
        self._weight = torch.from_numpy(transformed.reshape(16, *transformed.shape[2:])).to(bias)
        # Both axes at once: one matrix for the sixteen cells.
        self._to_products = torch.from_numpy(np.kron(self._INPUT, self._INPUT)).to(bias)
        self._from_products = torch.from_numpy(np.kron(self._OUTPUT, self._OUTPUT)).to(bias)
        self._bias = bias

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Convolve maps, shape (B, in, H, W), with even H and W."""
        batch, before, height, width = maps.shape
        after = len(self._bias)
        padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        convolved = padded.new_empty(batch, height, width, after)
        tiles = width // 2
        step = max(1, _STRIP // (16 * tiles * max(before, after)))
        _, down, across, channel = padded.stride()
        for image, out in zip(padded, convolved, strict=True):
            # The same strips whatever the batch, so that an image's numbers do not depend on it.
            for start in range(0, height // 2, step):
                rows = min(step, height // 2 - start)
                squares = image[2 * start :].as_strided(
                    (4, 4, rows, tiles, before), (down, across, 2 * down, 2 * across, channel)
                )
                products = self._to_products @ squares.reshape(16, -1)
                products = torch.bmm(products.view(16, rows * tiles, before), self._weight)
                values = self._from_products @ products.view(16, -1)
                place = out[2 * start : 2 * (start + rows)].view(rows, 2, tiles, 2, after).permute(1, 3, 0, 2, 4)
                torch.add(values.view(2, 2, rows, tiles, after), self._bias, out=place)
        return convolved.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Layers:
    """Makes layers out of a file's tensors, on a device and in a precision."""

    tensors: Tensors
    device: torch.device
    dtype: torch.dtype

    def convolution(
        self, name: str, norm: str | None = None, *, stride: int = 1, relu: bool = False, large: bool = False
    ) -> Convolution:
        """Make the convolution of a name, with the batch normalisation of another.

        Parameters
        ----------
        name, norm
            Keras's names of the layers.
        stride, relu
            See `Convolution`. Padding keeps the size of what a 3×3 kernel sees; other kernels are not padded.
        large
            It sees maps so large that Winograd's algorithm pays on a CPU.
        """
        kernel, bias = self.folded(name, norm)
        weight = kernel.transpose(3, 2, 0, 1)  # Keras: height, width, in, out
        side = weight.shape[2]
        bias_here = self.tensor(bias)
        return Convolution(
            self.tensor(weight).contiguous(memory_format=torch.channels_last),
            bias_here,
            stride,
            padding=1 if side == 3 else 0,
            relu=relu,
            winograd=Winograd(weight, bias_here) if large and stride == 1 and self.device.type == "cpu" else None,
        )

    def dense(self, name: str, norm: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight, shape (out, in), and bias of a dense layer, or of a convolution over all that there is.

        The numbers that go in are in the order y, x, channel.
        """
        kernel, bias = self.folded(name, norm)
        return self.tensor(kernel.reshape(-1, kernel.shape[-1]).T), self.tensor(bias)

    def folded(self, name: str, norm: str | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Kernel and bias of a layer, the following normalisation worked into them: out is the kernel's last axis."""
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

    def tensor(self, values: NDArray[Any]) -> torch.Tensor:
        """`values` on the device, in the precision."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, self.dtype)
