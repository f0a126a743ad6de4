"""Keeps an import path of the notebook of 2021; the detector's home is `detectime.detectors.mask_rcnn`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectime.detectors.mask_rcnn.matterport import Model


def load_model_custom(config: Any, path: str | os.PathLike[str], **options: Any) -> Model:
    """Build the Mask R-CNN that an ``mrcnn.config.Config`` describes, with the weights of a ``.h5`` file.

    `options` are those of `detectime.detectors.mask_rcnn.matterport.Model`: how images shrink, device and precision.
    """
    from detectime.detectors import mask_rcnn

    mask_rcnn.need()
    from detectime.detectors.mask_rcnn.matterport import Model

    return Model(config, path, **options)
