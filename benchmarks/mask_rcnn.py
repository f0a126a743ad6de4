"""How fast the Mask R-CNN is: against a plain port of it, and near the faces against the whole frame.

The plain port is the same network as one would write it down first: maps in torch's default layout, batch normalisation
by itself, all proposals at once, float32, no masks. It and ours run in turn in one process, as many threads as torch
is set to; each peak of memory is that of a process of its own.

    python benchmarks/mask_rcnn.py                  weights drawn at random, the rendered sample
    python benchmarks/mask_rcnn.py --weights FILE   weights of a ResNet-101 with two classes
    python benchmarks/mask_rcnn.py --images DIR     all JPEG files below DIR
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from detectime import images
from detectime.boxes import Floats, compute_area, compute_iou, compute_overlap, make_context_squares
from detectime.config import DetectionConfig, PairingConfig
from detectime.detectors.contract import Detections
from detectime.detectors.mask_rcnn import detection, heads, proposals, weights
from detectime.detectors.mask_rcnn import images as molding
from detectime.detectors.mask_rcnn.backbone import max_pool_same
from detectime.detectors.mask_rcnn.config import NetworkSettings
from detectime.detectors.mask_rcnn.hands import MaskRCNNHands
from detectime.detectors.mask_rcnn.images import Canvas
from detectime.detectors.mask_rcnn.network import Network
from detectime.detectors.mask_rcnn.weights import Tensors
from detectime.detectors.registry import HANDS, choose_detectors
from detectime.images import RGB
from detectime.paths import SAMPLE

SETTINGS = NetworkSettings()
PLAIN = "plain port, float32"
OURS = {"ours, float32": "float32", "ours, bfloat16": "bfloat16"}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a Matterport .h5")
    parser.add_argument("--images", type=Path, metavar="DIR", default=SAMPLE / "TRAIN_DATA")
    parser.add_argument("--frames", type=int, default=8, help="how many frames are searched near their faces")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; as it is set to, if not given")
    parser.add_argument("--memory", metavar="VARIANT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    paths = sorted(arguments.images.rglob("*.jpg"))
    if not paths:
        parser.error(f"there are no JPEG files below {arguments.images}")
    frames = [images.decode_image(path.read_bytes()) for path in paths[:: max(1, len(paths) // arguments.frames)]]
    frames = frames[: arguments.frames]
    tensors = weights.read_weights(arguments.weights, SETTINGS) if arguments.weights else drawn()
    if arguments.memory:
        variant(arguments.memory, tensors)(canvas(frames[0]))
        print(peak())
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    speed(tensors, canvas(frames[0]), arguments.rounds)
    near(tensors, frames)


def speed(tensors: Tensors, molded: Canvas, rounds: int) -> None:
    """Time the variants in turn: each round runs each of them once."""
    names = [PLAIN, *OURS]
    if not bfloat16_here():
        print("no bf16 instructions: bfloat16 is left out\n")
        names.remove("ours, bfloat16")
    variants = {name: variant(name, tensors) for name in names}
    took: dict[str, list[float]] = {name: [] for name in names}
    for n in range(rounds + 1):
        for name, run in variants.items():
            started = time.perf_counter()
            run(molded)
            if n:  # the first round warms up
                took[name].append(time.perf_counter() - started)
    del variants
    print(f"one canvas of {SETTINGS.max_side} × {SETTINGS.max_side}, {rounds} rounds\n")
    print(f"{'':24} {'seconds: median':>16} {'least':>7} {'most':>7} {'ratio':>7} {'peak memory':>14}")
    for name in names:
        ratios = [ours / plain for ours, plain in zip(took[name], took[PLAIN], strict=True)]
        print(
            f"{name:24} {statistics.median(took[name]):16.2f} {min(took[name]):7.2f} {max(took[name]):7.2f}"
            f" {statistics.median(ratios):7.2f} {memory(name):11.2f} GB"
        )


def near(tensors: Tensors, frames: list[RGB]) -> None:
    """Compare the search near the faces with that in the whole frame.

    With weights drawn at random a frame has a hundred "hands", of which the largest near a face makes the pair, and
    what is beyond a region weighs as much as what is in it: such weights tell what it costs, not what it keeps.
    """
    hands = MaskRCNNHands(Network(SETTINGS, tensors, "cpu"))
    default = choose_detectors(DetectionConfig())
    finder = default.build(default.faces)
    rows = []
    for frame in frames:
        faces = finder.detect([frame])[0]
        if not len(faces):
            continue
        regions = make_context_squares(faces.boxes, HANDS["mask_rcnn"].reach)
        started = time.perf_counter()
        whole = hands.detect([frame])[0]
        between = time.perf_counter()
        close = hands.detect([frame], [regions])[0]
        ended = time.perf_counter()
        pixels = sum(part.pixels[:, :, 0].size for part in molding.crop_regions(canvas(frame), regions))
        first, second = chosen(faces, whole), chosen(faces, close)
        kept = first is not None and second is not None and bool(compute_iou(first, second) >= 0.5)
        inside = whole.boxes[
            compute_overlap(whole.boxes[:, None], regions[None]).max(axis=1) > 0.9 * compute_area(whole.boxes)
        ]
        again = compute_iou(inside[:, None], close.boxes[None]).max(axis=1, initial=0) >= 0.5
        rows.append(
            (
                between - started,
                ended - between,
                pixels / SETTINGS.max_side**2,
                first is not None,
                kept,
                len(inside),
                again.sum(),
            )
        )
    print("\nnear the faces against the whole frame, float32\n")
    if not rows:
        print("no frame has a face")
        return
    whole_time, near_time, share, pairs, kept_pairs, insides, agains = np.array(rows, float).T
    print(f"frames with a face              {len(rows)} of {len(frames)}")
    print(f"seconds, median                 {np.median(near_time):.2f} against {np.median(whole_time):.2f}")
    print(f"time, all frames                {near_time.sum() / whole_time.sum():.2f} of the whole frames'")
    print(f"pixels, all frames              {share.mean():.2f} of the whole frames'")
    print(f"pairs kept (IoU at least 0.5)   {int(kept_pairs.sum())} of {int(pairs.sum())}")
    print(f"hands there, found again        {int(agains.sum())} of {int(insides.sum())}")


def chosen(faces: Detections, hands: Detections) -> Floats | None:
    """Box of the hand that overlaps a face's neighbourhood most, shape (4,)."""
    shared = compute_overlap(
        make_context_squares(faces.boxes, PairingConfig.crop_coefficient)[:, None], hands.boxes[None]
    )
    if not shared.size or not shared.max() > 0:
        return None
    best: Floats = hands.boxes[int(np.argmax(shared)) % len(hands)]
    return best


def variant(name: str, tensors: Tensors) -> Callable[[Canvas], object]:
    """Build the plain port, or ours in a precision."""
    if name == PLAIN:
        port = Port(tensors)
        return lambda molded: port.detect(molded)
    network = Network(SETTINGS, tensors, "cpu", OURS[name])
    return lambda molded: network.detect([molded])


def memory(name: str) -> float:
    """Peak of resident memory, in GB, of a process that loads a variant and runs it once."""
    command = [sys.executable, *sys.argv, "--memory", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]) / 1e6


def peak() -> int:
    """Peak of this process's resident memory in kB; what `getrusage` tells would include the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def bfloat16_here() -> bool:
    """Tell whether the processor has instructions for bfloat16; torch computes it without them, but slowly."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def canvas(frame: RGB) -> Canvas:
    """Put a frame on the network's canvas."""
    return molding.make_canvas(frame, SETTINGS)


def drawn() -> Tensors:
    """Weights drawn at random, scaled such that the numbers neither vanish nor overflow."""
    generator = np.random.default_rng(0)
    tensors: Tensors = {}
    for path, shape in weights.list_tensor_shapes(SETTINGS).items():
        name = path.split("/", 1)[1].removesuffix(":0")
        if name.endswith("kernel"):
            values = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
            values *= 0.2 if name.startswith(("rpn_bbox", "mrcnn_bbox")) else 1
        elif name.endswith("gamma"):
            values = np.full(shape, 0.35 if "branch2c" in name else 1.0)  # residual sums stay bounded
        elif name.endswith("variance"):
            values = np.full(shape, 5000.0 if name.startswith("bn_conv1") else 1.0)  # that of pixels, seen by conv1
        else:
            values = generator.uniform(-0.1, 0.1, shape)
        tensors[name] = values.astype(np.float32)
    return tensors


class Port:
    """The same network, written down plainly."""

    def __init__(self, tensors: Tensors) -> None:
        # Kernels as torch has them: out, in, height, width; dense ones out, in.
        self.w = {
            name: torch.from_numpy(np.ascontiguousarray(t.transpose(3, 2, 0, 1) if t.ndim == 4 else t.T))
            for name, t in tensors.items()
        }

    def convolve(self, x: torch.Tensor, name: str, norm: str = "", stride: int = 1, padding: int = 0) -> torch.Tensor:
        """Convolve, then normalise."""
        x = F.conv2d(x, self.w[f"{name}/kernel"], self.w[f"{name}/bias"], stride, padding)
        if not norm:
            return x
        mean, variance, gamma, beta = (
            self.w[f"{norm}/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=1e-3)

    def pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """P2 … P6."""
        x = max_pool_same(F.relu(self.convolve(x, "conv1", "bn_conv1", 2, 3)))
        stages = {}
        for stage, block in weights.list_blocks(SETTINGS.backbone):
            name, norm = f"res{stage}{block}_branch", f"bn{stage}{block}_branch"
            stride = 2 if block == "a" and stage > 2 else 1
            y = F.relu(self.convolve(x, name + "2a", norm + "2a", stride))
            y = F.relu(self.convolve(y, name + "2b", norm + "2b", padding=1))
            y = self.convolve(y, name + "2c", norm + "2c")
            if block == "a":
                x = self.convolve(x, name + "1", norm + "1", stride)
            x = stages[stage] = F.relu(x + y)
        tops = {5: self.convolve(stages[5], "fpn_c5p5")}
        for level in (4, 3, 2):
            tops[level] = self.convolve(stages[level], f"fpn_c{level}p{level}") + F.interpolate(
                tops[level + 1], scale_factor=2
            )
        maps = [self.convolve(tops[level], f"fpn_p{level}", padding=1) for level in (2, 3, 4, 5)]
        return [*maps, F.max_pool2d(maps[-1], 1, 2)]

    def detect(self, molded: Canvas) -> object:
        """Detect on one canvas; what follows the layers is ours."""
        height, width = molded.pixels.shape[:2]
        with torch.inference_mode():
            pixels = (molded.pixels - np.array(SETTINGS.mean_rgb)).astype(np.float32)
            pyramid = self.pyramid(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous())
            scores, deltas = [], []
            for maps in pyramid:
                shared = F.relu(self.convolve(maps, "rpn_conv_shared", padding=1))
                logits = self.convolve(shared, "rpn_class_raw").permute(0, 2, 3, 1).reshape(-1, 2)
                scores.append(logits.softmax(dim=1)[:, 1])
                deltas.append(self.convolve(shared, "rpn_bbox_pred").permute(0, 2, 3, 1).reshape(-1, 4))
            rois = proposals.select_proposals(
                torch.cat(scores).numpy(),
                torch.cat(deltas).numpy(),
                proposals.make_anchors(height, width, SETTINGS),
                SETTINGS,
            )
            pooled = heads.pool_boxes([level[0] for level in pyramid[:4]], rois, height * width, SETTINGS.pool)
            x = pooled.permute(0, 3, 1, 2).contiguous()
            x = F.relu(self.convolve(x, "mrcnn_class_conv1", "mrcnn_class_bn1"))
            x = F.relu(self.convolve(x, "mrcnn_class_conv2", "mrcnn_class_bn2")).flatten(1)
            answers = [
                F.linear(x, self.w[f"{name}/kernel"], self.w[f"{name}/bias"])
                for name in ("mrcnn_class_logits", "mrcnn_bbox_fc")
            ]
            rows = detection.select_detections(
                rois,
                answers[0].softmax(dim=1).numpy(),
                answers[1].reshape(len(rois), -1, 4).numpy(),
                molded.window,
                (height, width),
                SETTINGS,
            )
            return detection.unmold_boxes(rows, molded)


if __name__ == "__main__":
    main()
