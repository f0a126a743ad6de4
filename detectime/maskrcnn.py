"""Import path of the 2021 notebook; the detector is in `detectime.detectors.mask_rcnn`.

Importing this module installs the patch of `detectime.detectors.face_detection_patch`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from detectime.detectors import face_detection_patch

if TYPE_CHECKING:
    from detectime.detectors.mask_rcnn.matterport import Model

face_detection_patch.install_patch()


def load_model_custom(config: Any, path: str | os.PathLike[str], **options: Any) -> Model:
    """Build the Mask R-CNN that an ``mrcnn.config.Config`` describes.

    Parameters
    ----------
    config
        An ``mrcnn.config.Config``, or any object with its attributes.
    path
        Weights file, ``.h5``.
    options
        Keyword arguments of `detectime.detectors.mask_rcnn.matterport.Model`: resizing, device and precision.

    Raises
    ------
    ImportError
        If the extra ``torch`` is not installed.
    """
    from detectime.detectors import mask_rcnn

    mask_rcnn.require_torch()
    from detectime.detectors.mask_rcnn.matterport import Model

    return Model(config, path, **options)
