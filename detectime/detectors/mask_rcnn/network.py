"""The whole network: from canvases to detected objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn.backbone import Backbone
from detectime.detectors.mask_rcnn.config import NetworkSettings
from detectime.detectors.mask_rcnn.convolution import LayerBuilder
from detectime.detectors.mask_rcnn.detection import Instances, paste_masks, select_detections, unmold_boxes
from detectime.detectors.mask_rcnn.heads import BoxHead, MaskHead
from detectime.detectors.mask_rcnn.images import Canvas
from detectime.detectors.mask_rcnn.proposals import Array, ProposalNetwork, make_anchors, select_proposals
from detectime.detectors.mask_rcnn.weights import Tensors
from detectime.detectors.onnx import choose_torch_device
from detectime.errors import ConfigError
from detectime.images import RGB

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Network:
    """Mask R-CNN for inference.

    Parameters
    ----------
    settings
        Settings of the network.
    tensors
        Weights, the result of `weights.read_weights`.
    device
        ``auto`` (CUDA if there is a GPU), ``cpu`` or ``cuda``.
    precision
        ``float32``, ``bfloat16`` or ``float16`` (CUDA only). Boxes are always computed in float32.

    Raises
    ------
    ConfigError
        If this machine does not support the device or the precision.
    """

    def __init__(
        self, settings: NetworkSettings, tensors: Tensors, device: str = "auto", precision: str = "float32"
    ) -> None:
        self.settings = settings
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device = {device!r}: accepted: auto, cpu, cuda")
        self.device = choose_torch_device(device)
        if precision not in PRECISIONS:
            raise ConfigError(f"precision = {precision!r}: accepted: {', '.join(PRECISIONS)}")
        if precision == "float16" and self.device.type == "cpu":
            raise ConfigError("precision = 'float16': accepted on a CPU: float32, bfloat16")
        self.dtype = PRECISIONS[precision]
        layers = LayerBuilder(tensors, self.device, self.dtype)
        self._backbone = Backbone(layers, settings.backbone)
        self._proposals = ProposalNetwork(layers, settings.anchor_stride)
        self._boxes = BoxHead(layers, settings.pool)
        self._masks = MaskHead(layers, settings.mask_pool)

    def detect(self, canvases: Sequence[Canvas], *, masks: bool = False) -> list[Instances]:
        """Detect objects on each canvas; consecutive canvases of the same size form batches of `settings.batch`."""
        detected = []
        for batch in _split_batches(canvases, self.settings.batch):
            with torch.inference_mode():
                pyramid = self.compute_pyramid([canvas.pixels for canvas in batch])
                scores, deltas = self.score_anchors(pyramid)
                for n, canvas in enumerate(batch):
                    own = [level[n] for level in pyramid[:4]]
                    detected.append(self._detect_on_canvas(own, scores[n], deltas[n], canvas, masks))
        return detected

    def _detect_on_canvas(
        self, pyramid: list[torch.Tensor], scores: Array, deltas: Array, canvas: Canvas, masks: bool
    ) -> Instances:
        height, width = canvas.pixels.shape[:2]
        proposals = select_proposals(scores, deltas, make_anchors(height, width, self.settings), self.settings)
        _, probabilities, refinements = self.classify_boxes(pyramid, proposals, height * width)
        rows = select_detections(proposals, probabilities, refinements, canvas.window, (height, width), self.settings)
        boxes, kept = unmold_boxes(rows, canvas)
        rows = rows[kept]
        classes = rows[:, 4].astype(np.int32)
        pasted = None
        if masks:
            small = self._masks(pyramid, rows[:, :4], height * width, classes)
            pasted = paste_masks(small, boxes, canvas.image_shape)
        return Instances(boxes, classes, rows[:, 5], pasted)

    def compute_pyramid(self, pixels: Sequence[RGB]) -> list[torch.Tensor]:
        """Compute P2 … P6 of canvases of the same size; P2 is (B, 256, H / 4, W / 4)."""
        with torch.inference_mode():
            # In float64 first, like the original; the mean is subtracted from the padding too.
            centred = np.stack([canvas - np.array(self.settings.mean_rgb) for canvas in pixels]).astype(np.float32)
            images = torch.from_numpy(centred).to(self.device, self.dtype)
            return self._backbone(images.permute(0, 3, 1, 2))

    def score_anchors(self, pyramid: Sequence[torch.Tensor]) -> tuple[Array, Array]:
        """Return the scores, shape (B, A), and the deltas, shape (B, A, 4), of all anchors.

        Raises
        ------
        FloatingPointError
            If the precision overflows.
        """
        with torch.inference_mode():
            scores, deltas = self._proposals(pyramid)
        _check_finite(scores, deltas)
        return scores, deltas

    def classify_boxes(self, pyramid: Sequence[torch.Tensor], boxes: Array, area: int) -> tuple[Array, Array, Array]:
        """Return the logits, probabilities and deltas of the proposals of one canvas: see `BoxHead`.

        Raises
        ------
        FloatingPointError
            If the precision overflows.
        """
        with torch.inference_mode():
            logits, probabilities, deltas = self._boxes(pyramid, boxes, area)
        _check_finite(logits, deltas)
        return logits, probabilities, deltas


def _split_batches(canvases: Iterable[Canvas], max_size: int) -> Iterator[list[Canvas]]:
    batch: list[Canvas] = []
    for canvas in canvases:
        if batch and (len(batch) == max_size or canvas.pixels.shape != batch[0].pixels.shape):
            yield batch
            batch = []
        batch.append(canvas)
    if batch:
        yield batch


def _check_finite(*outputs: NDArray[np.floating]) -> None:
    """Reject infinities and NaN, from which arbitrary boxes would follow."""
    if not all(np.isfinite(output).all() for output in outputs):
        raise FloatingPointError("mask_rcnn: the network overflows in this precision; use float32")
