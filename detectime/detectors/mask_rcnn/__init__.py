"""Hands by Mask R-CNN: Matterport's network, of which the notebook of 2021 had a port, for inference in PyTorch.

He et al., Mask R-CNN, ICCV 2017 (arXiv:1703.06870), as Matterport's Mask_RCNN (MIT) implements it, in every oddity that
changes a box. Read in this order: `config`, `images`, `convolution`, `backbone`, `proposals`, `heads`, `detection`,
`network`. What uses it is `hands.MaskRCNNHands` here and `matterport.Model` in the notebook of 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectime.weights import MASK_RCNN_HANDS, find

if TYPE_CHECKING:
    from detectime.config import Detection
    from detectime.detectors.mask_rcnn.hands import MaskRCNNHands


def build(config: Detection) -> MaskRCNNHands:
    """Build the detector that the configuration describes.

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

    settings = Settings(confidence=config.mask_rcnn_confidence)
    network = Network(settings, weights.read(find(MASK_RCNN_HANDS), settings), config.device, config.precision)
    return MaskRCNNHands(network, config.mask_rcnn_resize)


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
