"""The hand detector: the network behind the detector contract."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors.contract import Detections
from detectime.detectors.mask_rcnn.detection import Instances
from detectime.detectors.mask_rcnn.images import RESIZE_MODES, Canvas, crop_regions, make_canvas
from detectime.detectors.mask_rcnn.network import Network
from detectime.errors import ConfigError
from detectime.images import RGB


class MaskRCNNHands:
    """Hand detector.

    Parameters
    ----------
    network
        The network; every class except the background counts as a hand.
    resizing
        How images are shrunk, one of `images.RESIZE_MODES`.

    Raises
    ------
    ConfigError
        If `resizing` is not one of them.
    """

    def __init__(self, network: Network, resizing: str = "2021") -> None:
        if resizing not in RESIZE_MODES:
            raise ConfigError(f"mask_rcnn_resize = {resizing!r}: accepted: {', '.join(RESIZE_MODES)}")
        self.network = network
        self.resizing = resizing

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Detect hands in a batch of images. Boxes are in pixels of the image and inside it, highest score first.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each.
        regions
            For each image the boxes to search, shape (N, 4); None searches whole images. A region keeps the scale that
            the whole image would have, so that a small region is cheap. Hands may extend beyond their region.

        Raises
        ------
        ValueError
            If an image is not RGB of dtype uint8, has no pixels, or is so narrow that a side shrinks to zero.
        """
        image_regions = [None] * len(images) if regions is None else regions
        canvases, owners = [], []
        for n, (image, own_regions) in enumerate(zip(images, image_regions, strict=True)):
            for canvas in self._make_canvases(image, own_regions):
                canvases.append(canvas)
                owners.append(n)
        instances = self.network.detect(canvases)
        return [
            self._merge([own for own, owner in zip(instances, owners, strict=True) if owner == n], image)
            for n, image in enumerate(images)
        ]

    def _make_canvases(self, image: RGB, regions: Floats | None) -> list[Canvas]:
        whole = make_canvas(image, self.network.settings, self.resizing)
        return [whole] if regions is None else list(crop_regions(whole, regions))

    def _merge(self, parts: Sequence[Instances], image: RGB) -> Detections:
        """Merge the detections on all canvases of one image."""
        if not parts:
            return Detections.none()
        height, width = image.shape[:2]
        boxes = np.concatenate([part.boxes for part in parts])[:, [1, 0, 3, 2]]
        scores = np.concatenate([part.scores for part in parts]).astype(np.float32)
        boxes = geometry.clip_boxes(boxes, width, height)
        if len(parts) > 1:  # the same hand may be in several regions
            kept = geometry.suppress_non_maximum(boxes, scores, self.network.settings.nms)
            boxes, scores = boxes[kept], scores[kept]
        return Detections(geometry.as_boxes(boxes), scores)
