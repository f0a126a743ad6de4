"""The hand detector: the network behind the contract of `detectime.detectors`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectime import boxes as geometry
from detectime.boxes import Floats
from detectime.detectors.contract import Detections
from detectime.detectors.mask_rcnn import images as molding
from detectime.detectors.mask_rcnn.detection import Found
from detectime.detectors.mask_rcnn.images import Molded
from detectime.detectors.mask_rcnn.network import Network
from detectime.errors import ConfigError
from detectime.images import RGB


class MaskRCNNHands:
    """Hand detector.

    Parameters
    ----------
    network
        With the weights; each of its classes but the background counts as a hand.
    resizing
        How an image shrinks: ``2021`` or ``plain``, see `images.RESIZING`.
    """

    def __init__(self, network: Network, resizing: str = "2021") -> None:
        if resizing not in molding.RESIZING:
            raise ConfigError(f"mask_rcnn_resize = {resizing!r}: accepted: {', '.join(molding.RESIZING)}")
        self.network = network
        self.resizing = resizing

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        """Find hands in each image, best first, in the image's pixels and inside it.

        Parameters
        ----------
        images
            RGB, uint8, shape (H, W, 3) each.
        regions
            For each image the boxes in which hands are searched, shape (N, 4); None: the whole image. A region goes in
            at the scale at which it would have gone in with the whole image, so that a small one costs little. A hand
            may reach out of its region.

        Raises
        ------
        ValueError
            If an image is not RGB of type uint8, has no pixels, or is so narrow that nothing is left of it once it is
            shrunk.
        """
        places = [None] * len(images) if regions is None else regions
        canvases, owners = [], []
        for n, (image, place) in enumerate(zip(images, places, strict=True)):
            for canvas in self._mold(image, place):
                canvases.append(canvas)
                owners.append(n)
        found = self.network.detect(canvases)
        return [
            self._merge([f for f, owner in zip(found, owners, strict=True) if owner == n], image)
            for n, image in enumerate(images)
        ]

    def _mold(self, image: RGB, regions: Floats | None) -> list[Molded]:
        """Canvases that are looked at for an image."""
        settings = self.network.settings
        fitted = molding.fit(image, settings, self.resizing)
        whole = molding.square(fitted, (image.shape[0], image.shape[1]), settings)
        return [whole] if regions is None else list(molding.near(whole, regions))

    def _merge(self, found: Sequence[Found], image: RGB) -> Detections:
        """One answer for an image out of those for its canvases."""
        if not found:
            return Detections.none()
        height, width = image.shape[:2]
        boxes = np.concatenate([f.boxes for f in found])[:, [1, 0, 3, 2]]
        scores = np.concatenate([f.scores for f in found]).astype(np.float32)
        boxes = geometry.clip_boxes(boxes, width, height)
        if len(found) > 1:  # regions may share a hand
            kept = geometry.suppress_non_maximum(boxes, scores, self.network.settings.nms)
            boxes, scores = boxes[kept], scores[kept]
        return Detections(geometry.as_boxes(boxes), scores)
