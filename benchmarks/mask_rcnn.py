"""Speed of the Mask R-CNN: compared with a plain port, and near the faces compared with the whole frame.

The plain port is a straightforward eager implementation of the same network: torch's default memory layout, separate
batch normalisation, all proposals at once, float32, no masks. It alternates with ours in one process, with torch's
number of threads; each memory peak is measured in a separate process. The aim is a ratio of 0.8 at most in float32.

    python -m benchmarks.mask_rcnn                  random weights, the rendered sample
    python -m benchmarks.mask_rcnn --weights FILE   weights of a ResNet-101 with two classes
    python -m benchmarks.mask_rcnn --images DIR     all JPEG files below DIR
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
from detectime.detectors.mask_rcnn.backbone import max_pool_same
from detectime.detectors.mask_rcnn.config import NetworkSettings
from detectime.detectors.mask_rcnn.hands import MaskRCNNHands
from detectime.detectors.mask_rcnn.images import Canvas, crop_regions, make_canvas
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
    parser.add_argument("--frames", type=int, default=8, help="number of frames to search near their faces")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, after one that warms up")
    parser.add_argument("--threads", type=int, help="number of torch threads (default: torch's own)")
    parser.add_argument("--memory", metavar="VARIANT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    paths = sorted(arguments.images.rglob("*.jpg"))
    if not paths:
        parser.error(f"no JPEG files below {arguments.images}")
    frames = [images.decode_image(path.read_bytes()) for path in paths[:: max(1, len(paths) // arguments.frames)]]
    frames = frames[: arguments.frames]
    tensors = weights.read_weights(arguments.weights, SETTINGS) if arguments.weights else draw_weights()
    if arguments.memory:
        build_variant(arguments.memory, tensors)(make_canvas(frames[0], SETTINGS))
        print(read_memory_peak())
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    compare_variants(tensors, make_canvas(frames[0], SETTINGS), arguments.rounds)
    compare_regions(tensors, frames)


def compare_variants(tensors: Tensors, canvas: Canvas, rounds: int) -> None:
    """Time the variants in turn: each round runs each of them once."""
    names = [PLAIN, *OURS]
    if not has_bfloat16():
        print("bfloat16 is left out: the CPU has no bfloat16 instructions\n")
        names.remove("ours, bfloat16")
    variants = {name: build_variant(name, tensors) for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for n in range(rounds + 1):
        for name, run in variants.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            run(canvas)
            if n:  # the first round warms up
                wall[name].append(time.perf_counter() - wall_start)
                cpu[name].append(time.process_time() - cpu_start)
    del variants
    print(
        f"one canvas of {SETTINGS.max_side} × {SETTINGS.max_side}, {rounds} rounds; ratios to the plain port: medians\n"
    )
    print(f"{'':24} {'seconds: median':>16} {'min':>7} {'max':>7} {'ratio':>7} {'CPU ratio':>10} {'peak memory':>14}")
    for name in names:
        print(
            f"{name:24} {statistics.median(wall[name]):16.2f} {min(wall[name]):7.2f} {max(wall[name]):7.2f}"
            f" {compute_ratio(wall, name):7.2f} {compute_ratio(cpu, name):10.2f} {measure_memory_peak(name):11.2f} GB"
        )


def compute_ratio(seconds: dict[str, list[float]], name: str) -> float:
    """Return the median, over the rounds, of a variant's time relative to the plain port's."""
    return statistics.median(ours / plain for ours, plain in zip(seconds[name], seconds[PLAIN], strict=True))


def compare_regions(tensors: Tensors, frames: list[RGB]) -> None:
    """Compare the search near the faces with that of the whole frame.

    Random weights measure the cost only. To measure whether the same hands are detected, use `--weights`.
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
        near = hands.detect([frame], [regions])[0]
        ended = time.perf_counter()
        crops = crop_regions(make_canvas(frame, SETTINGS), regions)
        pixels = sum(crop.pixels[:, :, 0].size for crop in crops)
        first, second = choose_hand(faces, whole), choose_hand(faces, near)
        is_kept = first is not None and second is not None and bool(compute_iou(first, second) >= 0.5)
        inside = whole.boxes[
            compute_overlap(whole.boxes[:, None], regions[None]).max(axis=1) > 0.9 * compute_area(whole.boxes)
        ]
        is_matched = compute_iou(inside[:, None], near.boxes[None]).max(axis=1, initial=0) >= 0.5
        rows.append(
            (
                between - started,
                ended - between,
                pixels / SETTINGS.max_side**2,
                first is not None,
                is_kept,
                len(inside),
                is_matched.sum(),
            )
        )
    print("\nnear the faces, compared with the whole frame, float32\n")
    if not rows:
        print("no frame has a face")
        return
    whole_time, near_time, pixel_share, pairs, kept_pairs, inside_hands, matched_hands = np.array(rows, float).T
    print(f"frames with a face              {len(rows)} of {len(frames)}")
    print(f"seconds, median                 {np.median(near_time):.2f}; whole frame {np.median(whole_time):.2f}")
    print(f"time, all frames                {near_time.sum() / whole_time.sum():.2f} × whole frame")
    print(f"pixels, all frames              {pixel_share.mean():.2f} × whole frame")
    print(f"pairs kept (IoU at least 0.5)   {int(kept_pairs.sum())} of {int(pairs.sum())}")
    print(f"hands in regions, matched       {int(matched_hands.sum())} of {int(inside_hands.sum())}")


def choose_hand(faces: Detections, hands: Detections) -> Floats | None:
    """Return the hand box with the largest overlap with a face's context square, shape (4,)."""
    overlaps = compute_overlap(
        make_context_squares(faces.boxes, PairingConfig.crop_coefficient)[:, None], hands.boxes[None]
    )
    if not overlaps.size or not overlaps.max() > 0:
        return None
    best: Floats = hands.boxes[int(np.argmax(overlaps)) % len(hands)]
    return best


def build_variant(name: str, tensors: Tensors) -> Callable[[Canvas], object]:
    """Build the plain port, or our network in a precision."""
    if name == PLAIN:
        return PlainPort(tensors).detect
    network = Network(SETTINGS, tensors, "cpu", OURS[name])
    return lambda canvas: network.detect([canvas])


def measure_memory_peak(name: str) -> float:
    """Measure the peak resident memory, in GB, of a process that loads a variant and runs it once."""
    command = [sys.executable, *sys.argv, "--memory", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]) / 1e6


def read_memory_peak() -> int:
    """Return the peak resident memory of this process in kB; `getrusage` would include the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def has_bfloat16() -> bool:
    """Return whether the CPU has bfloat16 instructions; without them torch is slow in this precision."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def draw_weights() -> Tensors:
    """Draw random weights, scaled so that activations neither vanish nor overflow."""
    generator = np.random.default_rng(0)
    tensors: Tensors = {}
    for path, shape in weights.list_tensor_shapes(SETTINGS).items():
        name = path.split("/", 1)[1].removesuffix(":0")
        if name.endswith("kernel"):
            values = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
            values *= 0.2 if name.startswith(("rpn_bbox", "mrcnn_bbox")) else 1
        elif name.endswith("gamma"):
            values = np.full(shape, 0.35 if "branch2c" in name else 1.0)  # keeps residual sums bounded
        elif name.endswith("variance"):
            values = np.full(
                shape, 5000.0 if name.startswith("bn_conv1") else 1.0
            )  # the variance of pixels after conv1
        else:
            values = generator.uniform(-0.1, 0.1, shape)
        tensors[name] = values.astype(np.float32)
    return tensors


class PlainPort:
    """A straightforward implementation of the same network."""

    def __init__(self, tensors: Tensors) -> None:
        # Torch's order: out, in, height, width; dense: out, in.
        self.w = {
            name: torch.from_numpy(np.ascontiguousarray(t.transpose(3, 2, 0, 1) if t.ndim == 4 else t.T))
            for name, t in tensors.items()
        }

    def convolve(self, x: torch.Tensor, name: str, norm: str = "", stride: int = 1, padding: int = 0) -> torch.Tensor:
        """Convolve, then apply the batch normalisation."""
        x = F.conv2d(x, self.w[f"{name}/kernel"], self.w[f"{name}/bias"], stride, padding)
        if not norm:
            return x
        mean, variance, gamma, beta = (
            self.w[f"{norm}/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=1e-3)

    def compute_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute P2 … P6."""
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

    def detect(self, canvas: Canvas) -> object:
        """Detect on one canvas; the steps outside the layers are ours."""
        height, width = canvas.pixels.shape[:2]
        with torch.inference_mode():
            pixels = (canvas.pixels - np.array(SETTINGS.mean_rgb)).astype(np.float32)
            pyramid = self.compute_pyramid(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous())
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
            class_logits, refinements = (
                F.linear(x, self.w[f"{name}/kernel"], self.w[f"{name}/bias"])
                for name in ("mrcnn_class_logits", "mrcnn_bbox_fc")
            )
            rows = detection.select_detections(
                rois,
                class_logits.softmax(dim=1).numpy(),
                refinements.reshape(len(rois), -1, 4).numpy(),
                canvas.window,
                (height, width),
                SETTINGS,
            )
            return detection.unmold_boxes(rows, canvas)


if __name__ == "__main__":
    main()
