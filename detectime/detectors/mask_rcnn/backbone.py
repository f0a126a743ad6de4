"""ResNet with a feature pyramid: from pixels to the maps P2 … P6.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv:1512.03385); Lin et al., Feature Pyramid
Networks for Object Detection, CVPR 2017 (arXiv:1612.03144). Layers bear Keras's names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812

from detectime.detectors.mask_rcnn.convolution import Convolution, Layers
from detectime.detectors.mask_rcnn.weights import blocks


@dataclass(frozen=True)
class _Block:
    """A bottleneck: 1×1, 3×3, 1×1, added to what went in, or to its projection in the first block of a stage."""

    reduce: Convolution
    look: Convolution
    restore: Convolution
    project: Convolution | None

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        beside = self.project(maps) if self.project else maps
        return self.restore(self.look(self.reduce(maps))).add_(beside).relu_()


class Backbone:
    """ResNet and pyramid."""

    def __init__(self, layers: Layers, backbone: str) -> None:
        # 3 cells of padding and no more: "valid" after an explicit ZeroPadding2D.
        stem = layers.convolution("conv1", "bn_conv1", stride=2, relu=True)
        self._stem = Convolution(stem.weight, stem.bias, stride=2, padding=3, relu=True)
        self._stages: dict[int, list[_Block]] = {2: [], 3: [], 4: [], 5: []}
        for stage, block in blocks(backbone):
            first = block == "a"

            def make(
                branch: str, stride: int = 1, relu: bool = False, at: str = f"{stage}{block}_branch"
            ) -> Convolution:
                return layers.convolution(f"res{at}{branch}", f"bn{at}{branch}", stride=stride, relu=relu)

            # Here the first 1×1 has the stride; torchvision's ResNet has it at the 3×3.
            stride = 2 if first and stage > 2 else 1
            self._stages[stage].append(
                _Block(
                    make("2a", stride, relu=True),
                    make("2b", relu=True),
                    make("2c"),
                    make("1", stride) if first else None,
                )
            )
        self._laterals = {level: layers.convolution(f"fpn_c{level}p{level}") for level in (2, 3, 4, 5)}
        self._smooth = {level: layers.convolution(f"fpn_p{level}", large=True) for level in (2, 3, 4, 5)}

    def __call__(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Make the maps P2 … P6, shapes (B, 256, H / 4, W / 4) … (B, 256, H / 64, W / 64).

        Parameters
        ----------
        pixels
            RGB less the mean colour, shape (B, 3, H, W), H and W multiples of 64.
        """
        maps = pool_same(self._stem(pixels))
        laterals = {}
        for stage, stage_blocks in self._stages.items():
            for block in stage_blocks:
                maps = block(maps)
            laterals[stage] = self._laterals[stage](maps)
        for level in (4, 3, 2):
            laterals[level].add_(F.interpolate(laterals[level + 1], scale_factor=2.0, mode="nearest"))
        pyramid = [self._smooth[level](laterals.pop(level)) for level in (2, 3, 4, 5)]
        # A 1×1 pooling of P5; some draw P6 from C5 instead.
        pyramid.append(pyramid[-1][:, :, ::2, ::2].contiguous(memory_format=torch.channels_last))
        return pyramid


def pool_same(maps: torch.Tensor) -> torch.Tensor:
    """Take the maximum of 3×3 cells at stride 2, padded as TensorFlow's 'same' pads: even sizes at bottom and right.

    Torch's own padding of 1 would be at all four sides, which shifts every map by a cell. Sizes are even here.
    """
    # What is padded must not win: nothing below 0 comes out of the ReLU before, but other maps may come.
    return F.max_pool2d(F.pad(maps, (0, 1, 0, 1), value=float("-inf")), 3, 2)
