"""Quantize the hand landmark model: most convolutions in 8-bit integers.

On a CPU with 8-bit dot products a hand takes half of the time in float32; the landmarks move by .7 pixels of the
224-pixel input on average. The first five convolutions stay in float32: with four the error is half as large again,
with none three times as large. Weights have seven bits, so that sums do not overflow on any CPU.

`tools.convert_weights` calls `quantize`. The ranges of the activations are in ``hand_landmark_ranges.json``; they were
measured on the rendered sample by

    python -m tools.quantize_hands
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from detectime.paths import SAMPLE

RANGES = Path(__file__).with_name("hand_landmark_ranges.json")
IN_FLOAT = 5  # convolutions that stay in float32, counted from the input
OPERATORS = ["Conv", "Clip", "Relu", "Add"]


def quantize(model: bytes) -> bytes:
    """Quantize the ONNX file of the landmark model; inputs and outputs stay, and the bytes are reproducible."""
    ranges: dict[str, list[float]] = json.loads(RANGES.read_text())
    overrides = {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()}
    with tempfile.TemporaryDirectory() as folder:
        plain, small = write_prepared(model, Path(folder)), Path(folder, "small.onnx")
        convolutions = [node.name for node in onnx.load(plain).graph.node if node.op_type == "Conv"]
        quantize_static(
            plain,
            small,
            # Calibration data is mandatory; the ranges of this black image are overridden.
            _Reader([np.zeros((1, 224, 224, 3), np.float32)]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=convolutions[:IN_FLOAT],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": overrides},
        )
        return small.read_bytes()


def measure_ranges(model: bytes, images: list[NDArray[np.float32]]) -> dict[str, list[float]]:
    """Measure the smallest and the largest value of each activation over images of shape (1, 224, 224, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            write_prepared(model, Path(folder)),
            OPERATORS,
            str(Path(folder, "augmented.onnx")),
            CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Reader(images))
        found = calibrator.compute_data().data
    return {name: [float(f"{float(v.item()):.5g}") for v in data.range_value] for name, data in sorted(found.items())}


def write_prepared(model: bytes, folder: Path) -> Path:
    """Write a model in the form the quantizer needs: constants folded, every node named."""
    raw, plain = folder / "raw.onnx", folder / "plain.onnx"
    raw.write_bytes(model)
    quant_pre_process(raw, plain, skip_symbolic_shape=True)
    graph = onnx.load(plain)
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(graph, plain)
    return plain


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: list[NDArray[np.float32]]) -> None:
        self._images: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input, or None."""
        image = next(self._images, None)
        return None if image is None else {"input": image}


def main() -> None:
    """Measure the ranges on the crops that the detector processes in the sample."""
    from detectime import config, sources
    from detectime.detection.worker import Worker
    from detectime.detectors.mediapipe import MediaPipeHands
    from detectime.detectors.registry import choose_detectors
    from tools import convert_weights

    crops: list[NDArray[np.float32]] = []

    class Recording:
        """A session that records its inputs."""

        def __init__(self, session: Any) -> None:
            self._session = session

        def run(self, names: list[str], inputs: dict[str, NDArray[np.float32]]) -> Any:
            crops.extend(np.split(inputs["input"], len(inputs["input"])))
            return self._session.run(names, inputs)

    train = SAMPLE / "TRAIN_DATA"
    settings = config.load_config(parameters={"images": str(train)})
    source = sources.open_source(settings.data.images, settings.data.source_type)
    worker = Worker(choose_detectors(settings.detection))
    for search in worker.cascade._searches:
        if isinstance(search.detector, MediaPipeHands):
            network = search.detector._landmarks
            network._session = Recording(network._session)
    worker(source, sorted(name for name, _ in source.list_frames()))
    with tempfile.TemporaryDirectory() as folder:
        convert_weights.download_wheels(Path(folder))
        model = dict(convert_weights.convert_hand_models(Path(folder), "full"))["hand_landmark.onnx"]
    ranges = measure_ranges(model, crops)
    RANGES.write_text(json.dumps(ranges, indent=0) + "\n")
    print(f"{RANGES}: {len(ranges)} activations over {len(crops)} crops")


if __name__ == "__main__":
    main()
