"""The whole network: from canvases to detections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detectime.detectors.mask_rcnn import detection
from detectime.detectors.mask_rcnn.backbone import Backbone
from detectime.detectors.mask_rcnn.config import Settings
from detectime.detectors.mask_rcnn.convolution import Layers
from detectime.detectors.mask_rcnn.detection import Found
from detectime.detectors.mask_rcnn.heads import BoxHead, MaskHead
from detectime.detectors.mask_rcnn.images import Molded
from detectime.detectors.mask_rcnn.proposals import Array, ProposalNetwork, anchors, propose
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
        What it is.
    tensors
        Its weights, as `weights.read` returns them.
    device
        ``auto`` (CUDA if there is a GPU), ``cpu`` or ``cuda``. On CUDA it was not tested.
    precision
        ``float32``, ``bfloat16``, or ``float16`` (on CUDA only). Boxes are computed in float32 in any case.

    Raises
    ------
    ConfigError
        If there is no such device or precision here.
    """

    def __init__(self, settings: Settings, tensors: Tensors, device: str = "auto", precision: str = "float32") -> None:
        self.settings = settings
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device = {device!r}: accepted: auto, cpu, cuda")
        self.device = choose_torch_device(device)
        if precision not in PRECISIONS:
            raise ConfigError(f"precision = {precision!r}: accepted: {', '.join(PRECISIONS)}")
        if precision == "float16" and self.device.type == "cpu":
            raise ConfigError("precision = 'float16': accepted on a CPU: float32, bfloat16")
        self.dtype = PRECISIONS[precision]
        layers = Layers(tensors, self.device, self.dtype)
        self._backbone = Backbone(layers, settings.backbone)
        self._proposals = ProposalNetwork(layers, settings.anchor_stride)
        self._boxes = BoxHead(layers, settings.pool)
        self._masks = MaskHead(layers, settings.mask_pool)

    def detect(self, molded: Sequence[Molded], *, masks: bool = False) -> list[Found]:
        """Detect on each canvas; those of one size that follow each other go in batches of `settings.batch`."""
        found = []
        for batch in _batches(molded, self.settings.batch):
            with torch.inference_mode():
                pyramid = self.pyramid([canvas.pixels for canvas in batch])
                scores, deltas = self.score_anchors(pyramid)
                for n, canvas in enumerate(batch):
                    own = [level[n] for level in pyramid[:4]]
                    found.append(self._detect(own, scores[n], deltas[n], canvas, masks))
        return found

    def _detect(self, pyramid: list[torch.Tensor], scores: Array, deltas: Array, molded: Molded, masks: bool) -> Found:
        height, width = molded.pixels.shape[:2]
        proposals = propose(scores, deltas, anchors(height, width, self.settings), self.settings)
        _, probabilities, refinements = self.classify(pyramid, proposals, height * width)
        rows = detection.choose(proposals, probabilities, refinements, molded.window, (height, width), self.settings)
        boxes, kept = detection.unmold(rows, molded)
        rows = rows[kept]
        classes = rows[:, 4].astype(np.int32)
        whole = None
        if masks:
            small = self._masks(pyramid, rows[:, :4], height * width, classes)
            whole = detection.paste(small, boxes, molded.shape)
        return Found(boxes, classes, rows[:, 5], whole)

    def pyramid(self, pixels: Sequence[RGB]) -> list[torch.Tensor]:
        """P2 … P6 of canvases of one size; P2 is (B, 256, H / 4, W / 4)."""
        with torch.inference_mode():
            # In float64 first, as the original; the padding has its mean subtracted, too.
            centred = np.stack([canvas - np.array(self.settings.mean_rgb) for canvas in pixels]).astype(np.float32)
            images = torch.from_numpy(centred).to(self.device, self.dtype)
            return self._backbone(images.permute(0, 3, 1, 2))

    def score_anchors(self, pyramid: Sequence[torch.Tensor]) -> tuple[Array, Array]:
        """Scores, shape (B, A), and deltas, shape (B, A, 4), of all anchors.

        Raises
        ------
        FloatingPointError
            If the numbers left the range of the precision.
        """
        with torch.inference_mode():
            scores, deltas = self._proposals(pyramid)
        _refuse_overflow(scores, deltas)
        return scores, deltas

    def classify(self, pyramid: Sequence[torch.Tensor], proposals: Array, area: int) -> tuple[Array, Array, Array]:
        """Logits, probabilities and deltas of the proposals of one image: see `BoxHead`."""
        with torch.inference_mode():
            logits, probabilities, deltas = self._boxes(pyramid, proposals, area)
        _refuse_overflow(logits, deltas)
        return logits, probabilities, deltas


def _batches(molded: Iterable[Molded], most: int) -> Iterable[list[Molded]]:
    batch: list[Molded] = []
    for canvas in molded:
        if batch and (len(batch) == most or canvas.pixels.shape != batch[0].pixels.shape):
            yield batch
            batch = []
        batch.append(canvas)
    if batch:
        yield batch


def _refuse_overflow(*answers: NDArray[np.floating]) -> None:
    """Boxes made of infinities would be random ones."""
    if not all(np.isfinite(answer).all() for answer in answers):
        raise FloatingPointError("mask_rcnn: the network's numbers overflow in this precision; use float32")
