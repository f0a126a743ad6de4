"""ResNet with a feature pyramid network: from pixels to the feature maps P2 … P6.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv:1512.03385); Lin et al., Feature Pyramid
Networks for Object Detection, CVPR 2017 (arXiv:1612.03144). Layers have the names of the Keras model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812

from detectime.detectors.mask_rcnn.convolution import Convolution, LayerBuilder
from detectime.detectors.mask_rcnn.weights import list_blocks


@dataclass(frozen=True)
class _Bottleneck:
    """Residual block: 1×1, 3×3 and 1×1 convolutions. The first block of a stage projects its shortcut."""

    reduce: Convolution
    convolve: Convolution
    expand: Convolution
    project: Convolution | None

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        shortcut = self.project(maps) if self.project else maps
        return self.expand(self.convolve(self.reduce(maps))).add_(shortcut).relu_()


class Backbone:
    """ResNet and feature pyramid.

    Parameters
    ----------
    layers
        Builder with the weights.
    backbone
        ``resnet50`` or ``resnet101``.
    """

    def __init__(self, layers: LayerBuilder, backbone: str) -> None:
        self._stem = layers.build_convolution("conv1", "bn_conv1", stride=2, padding=3, relu=True)
        self._stages: dict[int, list[_Bottleneck]] = {2: [], 3: [], 4: [], 5: []}
        for stage, letter in list_blocks(backbone):
            self._stages[stage].append(_build_bottleneck(layers, stage, letter))
        self._laterals = {level: layers.build_convolution(f"fpn_c{level}p{level}") for level in (2, 3, 4, 5)}
        self._smoothing = {level: layers.build_convolution(f"fpn_p{level}") for level in (2, 3, 4, 5)}

    def __call__(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps P2 … P6, shapes (B, 256, H / 4, W / 4) … (B, 256, H / 64, W / 64).

        Parameters
        ----------
        pixels
            RGB minus the mean colour, shape (B, 3, H, W), H and W multiples of 64.
        """
        maps = max_pool_same(self._stem(pixels))
        laterals = {}
        for stage, blocks in self._stages.items():
            for block in blocks:
                maps = block(maps)
            laterals[stage] = self._laterals[stage](maps)
        for level in (4, 3, 2):
            laterals[level].add_(F.interpolate(laterals[level + 1], scale_factor=2.0, mode="nearest"))
        pyramid = [self._smoothing[level](laterals.pop(level)) for level in (2, 3, 4, 5)]
        # 1×1 max pooling of P5 at stride 2; other implementations compute P6 from C5.
        pyramid.append(pyramid[-1][:, :, ::2, ::2].contiguous(memory_format=torch.channels_last))
        return pyramid


def _build_bottleneck(layers: LayerBuilder, stage: int, letter: str) -> _Bottleneck:
    def build(branch: str, stride: int = 1, *, relu: bool = False) -> Convolution:
        name = f"{stage}{letter}_branch{branch}"
        return layers.build_convolution(f"res{name}", f"bn{name}", stride=stride, relu=relu)

    is_first = letter == "a"
    # The first 1×1 convolution has the stride; in torchvision's ResNet the 3×3 has it.
    stride = 2 if is_first and stage > 2 else 1
    project = build("1", stride) if is_first else None
    return _Bottleneck(build("2a", stride, relu=True), build("2b", relu=True), build("2c"), project)


def max_pool_same(maps: torch.Tensor) -> torch.Tensor:
    """Max-pool 3×3 at stride 2 with TensorFlow's 'same' padding: even sizes are padded at the bottom and the right.

    Torch's own padding of 1 applies to all four sides and would shift every map by one cell. All sizes here are even.

    Examples
    --------
    >>> max_pool_same(torch.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[10.0, 11.0], [14.0, 15.0]]]]
    """
    # Padding must never be the maximum; maps that do not follow a ReLU may be negative.
    return F.max_pool2d(F.pad(maps, (0, 1, 0, 1), value=float("-inf")), 3, 2)
