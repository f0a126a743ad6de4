"""Matterport's interface to the network, for code written against it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from detectime.detectors.mask_rcnn.config import read_matterport_config
from detectime.detectors.mask_rcnn.images import RESIZE_MODES, make_canvas
from detectime.detectors.mask_rcnn.network import Network
from detectime.detectors.mask_rcnn.weights import read_weights
from detectime.errors import ConfigError
from detectime.images import RGB


class Model:
    """Equivalent of ``mrcnn.model.MaskRCNN(mode="inference", …)`` with loaded weights.

    Parameters
    ----------
    config
        An ``mrcnn.config.Config``, or a subclass of it.
    path
        Weights, a Matterport ``.h5`` file.
    resizing
        How images are shrunk, one of `images.RESIZE_MODES`.
    device, precision
        See `Network`.

    Raises
    ------
    ConfigError
        If the configuration, `resizing`, the device or the precision is not supported.
    WeightsError
        If the file is missing, unreadable, or does not match the configuration.
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
        if resizing not in RESIZE_MODES:
            raise ConfigError(f"resizing = {resizing!r}: accepted: {', '.join(RESIZE_MODES)}")
        self.config = config
        self.resizing = resizing
        settings = read_matterport_config(config)
        self.network = Network(settings, read_weights(path, settings), device, precision)

    def detect(self, images: Sequence[RGB], verbose: int = 0, *, masks: bool = False) -> list[dict[str, Any]]:
        """Detect objects.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each; number and sizes are arbitrary. They are processed in batches of the
            configuration's IMAGES_PER_GPU.
        verbose
            Above 0: print progress.
        masks
            Also compute masks, which takes longer.

        Returns
        -------
        list
            One dictionary per image: ``rois`` int32 (N, 4), y1, x1, y2, x2 in pixels of the image, y2 and x2
            exclusive; ``class_ids`` int32 (N,); ``scores`` float32 (N,), highest first; with `masks`, ``masks`` bool
            (H, W, N).

        Raises
        ------
        ValueError
            If an image is not RGB of dtype uint8, has no pixels, or is so narrow that a side shrinks to zero.
        """
        if verbose:
            print(f"Processing {len(images)} images")
        canvases = [make_canvas(image, self.network.settings, self.resizing) for image in images]
        return [
            {"rois": found.boxes, "class_ids": found.classes, "scores": found.scores}
            | ({} if found.masks is None else {"masks": found.masks})
            for found in self.network.detect(canvases, masks=masks)
        ]
