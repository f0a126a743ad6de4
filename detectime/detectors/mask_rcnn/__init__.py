"""Hand detector of 2021: Matterport's Mask R-CNN, inference in PyTorch.

He et al., Mask R-CNN, ICCV 2017 (arXiv:1703.06870), as implemented by Matterport's Mask_RCNN (MIT), including every
quirk that changes a box. Data flows through `config`, `images`, `convolution`, `backbone`, `proposals`, `heads`,
`detection` and `network`, in that order. The entry points are `hands.MaskRCNNHands` and, for the 2021 notebook,
`matterport.Model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from detectime import paths
from detectime.detectors.contract import DetectorSpec
from detectime.settings import CHECKED, Share
from detectime.storage.downloads import WeightsFile, find_weights

if TYPE_CHECKING:
    from detectime.detectors.mask_rcnn.hands import MaskRCNNHands


WEIGHTS = WeightsFile(
    "mask_rcnn_hand_detection.h5",
    "release 1.0 of github.com/theerapatkitti/hand_mask_rcnn, or your own training",
)
"""Weights of the 2021 hand detector."""


@dataclass(frozen=True, config=CHECKED)
class MaskRCNNSettings:
    """Keys that this detector reads.

    Examples
    --------
    >>> MaskRCNNSettings(mask_rcnn_resize=2021).mask_rcnn_resize
    '2021'
    """

    mask_rcnn_confidence: Share = 0.95
    """mask_rcnn: minimum score of a hand."""
    # YAML and papermill pass 2021 as a number.
    mask_rcnn_resize: Annotated[Literal["2021", "plain"], BeforeValidator(str)] = "2021"
    """mask_rcnn: 2021: a large frame is blurred before it is shrunk, as in 2021 | plain: without blur."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """mask_rcnn: float32 | bfloat16, faster on a CPU that supports it | float16, only on a GPU."""


def build(settings: MaskRCNNSettings, device: str) -> MaskRCNNHands:
    """Build the detector from its settings.

    Raises
    ------
    ConfigError
        If this machine does not support the device or the precision.
    ImportError
        If the extra ``torch`` is not installed.
    WeightsError
        If the weights are missing, or do not belong to a ResNet-101 with two classes.
    """
    require_torch()
    from detectime.detectors.mask_rcnn.config import NetworkSettings
    from detectime.detectors.mask_rcnn.hands import MaskRCNNHands
    from detectime.detectors.mask_rcnn.network import Network
    from detectime.detectors.mask_rcnn.weights import read_weights

    network_settings = NetworkSettings(confidence=settings.mask_rcnn_confidence)
    tensors = read_weights(find_weights(WEIGHTS), network_settings)
    network = Network(network_settings, tensors, device, settings.precision)
    return MaskRCNNHands(network, settings.mask_rcnn_resize)


SPEC = DetectorSpec(
    "mask_rcnn",
    MaskRCNNSettings,
    build,
    find_weights=lambda _: [find_weights(WEIGHTS)],
    trust=1,
    confidence="mask_rcnn_confidence",
    search="frame",
    reduced=False,
    needs=("torch", "h5py"),
    extra="torch",
)


def require_torch() -> None:
    """Check that the extra ``torch`` is installed.

    Raises
    ------
    ImportError
        If it is not; the message contains the command that installs it.
    """
    try:
        import h5py  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(f"mask_rcnn needs the extra 'torch': {paths.format_install('torch')} ({error})") from error
