"""Matterport's own interface to the network, for code that was written for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from detectime.detectors.mask_rcnn import images as molding
from detectime.detectors.mask_rcnn import weights
from detectime.detectors.mask_rcnn.config import follow
from detectime.detectors.mask_rcnn.network import Network
from detectime.errors import ConfigError
from detectime.images import RGB


class Model:
    """What ``mrcnn.model.MaskRCNN(mode="inference", …)`` was once its weights were loaded.

    Parameters
    ----------
    config
        An ``mrcnn.config.Config``, or a subclass of it.
    path
        The weights, a Matterport ``.h5``.
    resizing
        How an image shrinks: ``2021`` or ``plain``, see `images.RESIZING`.
    device, precision
        See `Network`.
    """

    def __init__(
        self,
        config: Any,
        path: str | os.PathLike[str],
        *,
        resizing: str = "2021",
        device: str = "auto",
        precision: str = "float32",
    ) -> None:
        if resizing not in molding.RESIZING:
            raise ConfigError(f"resizing = {resizing!r}: accepted: {', '.join(molding.RESIZING)}")
        self.config = config
        self.resizing = resizing
        settings = follow(config)
        self.network = Network(settings, weights.read(path, settings), device, precision)

    def detect(self, images: Sequence[RGB], verbose: int = 0, *, masks: bool = False) -> list[dict[str, Any]]:
        """Detect objects.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each: any number of them, of any sizes. They go through the network in batches
            of the configuration's IMAGES_PER_GPU.
        verbose
            Above 0: tell what is done.
        masks
            Also find masks, which takes longer.

        Returns
        -------
        list
            For each image a dictionary: ``rois`` int32 (N, 4), y1, x1, y2, x2 in pixels of the image, y2 and x2
            exclusive; ``class_ids`` int32 (N,); ``scores`` float32 (N,), best first; with `masks`, ``masks`` bool
            (H, W, N).

        Raises
        ------
        ValueError
            If an image is not RGB of type uint8, has no pixels, or is so narrow that nothing is left of it once it is
            shrunk.
        """
        settings = self.network.settings
        if verbose:
            print(f"Processing {len(images)} images")
        canvases = [
            molding.square(molding.fit(image, settings, self.resizing), (image.shape[0], image.shape[1]), settings)
            for image in images
        ]
        return [
            {"rois": found.boxes, "class_ids": found.classes, "scores": found.scores}
            | ({} if found.masks is None else {"masks": found.masks})
            for found in self.network.detect(canvases, masks=masks)
        ]
