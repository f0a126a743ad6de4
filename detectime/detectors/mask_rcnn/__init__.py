"""Hands by Mask R-CNN: Matterport's network, of which the notebook of 2021 had a port, for inference in PyTorch.

He et al., Mask R-CNN, ICCV 2017 (arXiv:1703.06870), as Matterport's Mask_RCNN (MIT) implements it, in every oddity that
changes a box. Read in this order: `config`, `images`, `convolution`, `backbone`, `proposals`, `heads`, `detection`,
`network`. What uses it is `hands.MaskRCNNHands` here and `matterport.Model` in the notebook of 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from detectime.detectors.contract import DetectorSpec
from detectime.settings import CHECKED, Share
from detectime.storage.downloads import WeightsFile, find_weights

if TYPE_CHECKING:
    from detectime.detectors.mask_rcnn.hands import MaskRCNNHands


WEIGHTS = WeightsFile(
    "mask_rcnn_hand_detection.h5",
    "release 1.0 of github.com/theerapatkitti/hand_mask_rcnn, or your own training",
)
"""Weights of the hand detector of 2021."""


@dataclass(frozen=True, config=CHECKED)
class MaskRCNNSettings:
    """Keys of this detector."""

    mask_rcnn_confidence: Share = 0.95
    # A year is a number to YAML and to papermill.
    mask_rcnn_resize: Annotated[Literal["2021", "plain"], BeforeValidator(str)] = "2021"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


def build(settings: MaskRCNNSettings, device: str) -> MaskRCNNHands:
    """Build the detector that the settings describe.

    Raises
    ------
    ConfigError
        If there is no such device or precision here.
    ImportError
        If the extra ``torch`` is not installed.
    WeightsError
        If the weights are not there, or are not those of a ResNet-101 with two classes.
    """
    need()
    from detectime.detectors.mask_rcnn import weights
    from detectime.detectors.mask_rcnn.config import Settings
    from detectime.detectors.mask_rcnn.hands import MaskRCNNHands
    from detectime.detectors.mask_rcnn.network import Network

    network_settings = Settings(confidence=settings.mask_rcnn_confidence)
    state = weights.read(find_weights(WEIGHTS), network_settings)
    network = Network(network_settings, state, device, settings.precision)
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


def need() -> None:
    """Import what the extra ``torch`` brings.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to.
    """
    try:
        import h5py  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(f"mask_rcnn needs the extra 'torch': pip install -e '.[torch]' ({error})") from error
