"""The face detectors of 2021: face-detection 0.2.2 on torch, and the patch for it."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import make_worker, read_image
from hypothesis import given
from hypothesis import strategies as st
from serving import serve_file
from skips import need_extra

from detectime import boxes, paths
from detectime.detectors import face_detection_patch, onnx
from detectime.detectors.contract import Detections
from detectime.detectors.face_detection import WEIGHTS, TorchFaces
from detectime.errors import ConfigError
from detectime.images import RGB, EncodedImage
from detectime.storage import downloads
from detectime.storage.downloads import WeightsError

torch = need_extra("torch")
fd = need_extra("face_detection")

pytestmark = [
    pytest.mark.extra,
    pytest.mark.filterwarnings("ignore:.*autocast:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*(pretrained|weight enum):UserWarning"),
]

NAMES = [*WEIGHTS]
MOBILENET = "RetinaNetMobileNetV1"
# Faces that the notebook of 2021 detects at max_resolution 640: x1, y1, x2, y2.
FACES_2021 = {
    "room/0001.jpg": (699, 104, 786, 219),
    "room/0002.jpg": (698, 107, 782, 213),
    "selfie/0003.jpg": (338, 624, 1007, 1464),
}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the developer's own weights, and patch the library, which tests also call directly."""
    face_detection_patch.install_patch()
    monkeypatch.setattr(paths, "find_model_folder", lambda: tmp_path / "model")
    for name in ("DETECTIME_WEIGHTS", "DETECTIME_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    before = torch.hub._hub_dir
    torch.hub.set_dir(str(tmp_path / "torch" / "hub"))
    yield
    torch.hub._hub_dir = before


@pytest.fixture
def real(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use the real weights of the MobileNet."""
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(shared / "weights"))
    return shared / "frames" / "contest" / "TRAIN_DATA"


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of untrained weights with the right structure."""
    from face_detection.dsfd.config import resnet152_model_config
    from face_detection.dsfd.face_ssd import SSD
    from face_detection.retinaface.config import cfg_mnet, cfg_re50
    from face_detection.retinaface.models.retinaface import RetinaFace

    folder = tmp_path_factory.mktemp("synthetic")
    torch.manual_seed(0)
    networks = {MOBILENET: lambda: RetinaFace(cfg_mnet), "RetinaNetResNet50": lambda: RetinaFace(cfg_re50)}
    for name, network in {**networks, "DSFDDetector": lambda: SSD(resnet152_model_config)}.items():
        state = network().state_dict()
        if name == "RetinaNetResNet50":  # as the published file has them
            state = {f"module.{key}": value for key, value in state.items()}
        torch.save(state, folder / WEIGHTS[name].name)
    return folder


@pytest.fixture
def build(synthetic: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TorchFaces]:
    """Build a detector with synthetic weights."""
    known = {name: downloads.WeightsFile(file.name, file.origin) for name, file in WEIGHTS.items()}
    monkeypatch.setattr(face_detection_patch, "WEIGHTS", known)
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(synthetic))

    def made(name: str, confidence: float = 0.001, device: str = "cpu") -> TorchFaces:
        return TorchFaces(name, confidence, 0.3, 640, device)

    return made


def make_noise(width: int, height: int, seed: int = 0) -> RGB:
    """Make an image of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(script: str, **variables: str) -> str:
    """Run a script in a process of its own and return its output."""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load_unpatched_anchors() -> ModuleType:
    """Load the published module of the library's anchor generator, unpatched."""
    from face_detection.retinaface import prior_box

    spec = importlib.util.spec_from_file_location("published_prior_box", prior_box.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_levels(width: int, height: int) -> tuple[Any, Any, Any, Any]:
    """Return grids, image size, strides and sides of the MobileNet's anchors, in 64 bits."""
    steps = np.array([8, 16, 32])
    grids = np.array([[-(-height // step), -(-width // step)] for step in steps])
    return grids, np.array([height, width]), steps, np.array([[16, 32], [64, 128], [256, 512]])


# ---- parity ----


@pytest.mark.parametrize("frame", FACES_2021)
def test_faces_match_the_notebook_of_2021(frame: str, real: Path) -> None:
    image = read_image(real / frame)
    (found,) = TorchFaces(MOBILENET, 0.5, 0.3, 640, "cpu").detect([image])
    assert len(found) == 1
    assert np.abs(found.boxes[0] - FACES_2021[frame]).max() <= 2
    assert found.scores[0] > 0.99


def test_a_worker_passes_full_size_frames(real: Path) -> None:
    """The library shrinks images itself; shrinking them before would change the faces."""
    worker = make_worker(detector_type=MOBILENET, face_confidence=0.5, device="cpu")
    for frame, expected in FACES_2021.items():
        image = read_image(real / frame)
        ((faces, _),) = worker.cascade.detect([EncodedImage((real / frame).read_bytes())])
        (direct,) = fd.build_detector(
            MOBILENET, confidence_threshold=0.5, nms_iou_threshold=0.3, device=torch.device("cpu"), max_resolution=640
        ).batched_detect(image[None])
        assert np.abs(faces.boxes[0] - expected).max() <= 2
        np.testing.assert_array_equal(
            faces.boxes, boxes.as_boxes(boxes.clip_boxes(direct[:, :4], image.shape[1], image.shape[0]))
        )


def test_a_batch_gives_the_same_faces_as_single_images(real: Path) -> None:
    paths = [*sorted(real.glob("room/*.jpg")), *sorted(real.glob("selfie/*.jpg")), *sorted(real.glob("palm_pA/*.jpg"))]
    images = [read_image(path) for path in paths][:14]
    assert len({image.shape for image in images}) == 3
    detector = TorchFaces(MOBILENET, 0.3, 0.3, 640, "cpu")
    together = detector.detect(images)
    assert sum(map(len, together)) >= len(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        assert len(alone) == len(found)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=0.5)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)


# ---- the patch ----

CALL = """
import cv2, torch
from detectime import images
image = images.decode_image(open({image!r}, 'rb').read())
detector = fd.build_detector({name!r}, confidence_threshold=.5, nms_iou_threshold=.3,
                             device=torch.device('cpu'), max_resolution=640)
for det in detector.detect(image):
    x1, y1, x2, y2, s = det.tolist()
    print(round(x1), round(y1), round(x2), round(y2))
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from detectime.utils import read_image; import face_detection as fd",
        "import face_detection as fd; from detectime.augmentations import result_crop",
        "import face_detection as fd; from detectime.maskrcnn import load_model_custom",
    ],
    ids=["before", "after", "after, by another path"],
)
def test_the_library_called_directly_works(imports: str, real: Path) -> None:
    call = CALL.format(image=str(real / "room" / "0001.jpg"), name=MOBILENET)
    x1, y1, x2, y2 = map(int, run(imports + call).split())
    assert np.abs(np.subtract((x1, y1, x2, y2), FACES_2021["room/0001.jpg"])).max() <= 2
    assert (downloads.find_torch_cache() / "RetinaFace_mobilenet025.pth").is_file()  # the library's own cache


def test_importing_detectime_imports_neither_torch_nor_the_library() -> None:
    modules = "detectime, detectime.utils, detectime.augmentations, detectime.maskrcnn, detectime.detectors.registry"
    loaded = set(run(f"import sys, {modules}; print(*sys.modules)").split())
    assert "detectime.detectors.face_detection" in loaded
    assert not {"torch", "torchvision", "face_detection", "numpy.testing"} & loaded


def test_importing_detectime_alone_patches_nothing() -> None:
    script = "import sys; before = sys.meta_path[:]; import detectime; print(sys.meta_path == before)"
    assert run(script).strip() == "True"
    script = (
        "import face_detection.retinaface.prior_box as box; ours = box.generate_prior_box; import {}; print(ours is"
    )
    assert run(script.format("detectime.detectors.registry") + " box.generate_prior_box)").strip() == "True"
    assert run(script.format("detectime.utils") + " box.generate_prior_box)").strip() == "False"


def test_a_different_module_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "face_detection.py").write_text("answer = 42\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import detectime.utils, face_detection"
    assert run(f"{script}; print(face_detection.answer)").strip() == "42"


def test_the_library_still_needs_the_patch() -> None:
    """If this fails, the library is fixed and `generate_anchors` can be removed."""
    prior_box = load_unpatched_anchors()
    with pytest.raises(ValueError, match=r"negative dimensions|broadcast"), np.errstate(over="ignore"):
        prior_box.PriorBox(
            {"min_sizes": [[16, 32], [64, 128], [256, 512]], "steps": [8, 16, 32], "clip": False}, (720, 1280)
        ).forward()


@pytest.mark.parametrize("size", [(64, 64), (33, 200), (250, 190), (1, 1), (300, 17)], ids=str)
def test_anchors_match_the_library(size: tuple[int, int]) -> None:
    grids, image_size, steps, sides = make_levels(*size)
    narrow = [array.astype(np.int16) for array in (grids, image_size, steps, sides)]
    expected = load_unpatched_anchors().generate_prior_box(*narrow)
    found = face_detection_patch.generate_anchors(*narrow)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@given(st.integers(1, 200), st.integers(1, 200))
def test_anchors_of_any_size_match_the_library_in_64_bits(width: int, height: int) -> None:
    np.testing.assert_array_equal(
        face_detection_patch.generate_anchors(*make_levels(width, height)),
        load_unpatched_anchors().generate_prior_box(*make_levels(width, height)),
    )


@pytest.mark.parametrize("size", [(640, 360), (640, 640), (1280, 720), (482, 640)], ids=str)
def test_anchors_of_large_images_match_the_library_in_64_bits(size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(
        face_detection_patch.generate_anchors(*make_levels(*size)),
        load_unpatched_anchors().generate_prior_box(*make_levels(*size)),
    )


# ---- weights ----


@pytest.mark.parametrize("name", ["RetinaNetResNet50", "DSFDDetector"])
def test_weights_without_a_sha256_are_downloaded_from_a_mirror(
    name: str, synthetic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = WEIGHTS[name]
    with serve_file((synthetic / file.name).read_bytes()) as server:
        server.cuts = [1_000_000]
        monkeypatch.setenv("DETECTIME_MIRROR", server.address)
        found = TorchFaces(name, 0.001, 0.3, 640, "cpu").detect([make_noise(96, 64)])
        assert len(server.asked) == 2
    assert len(found) == 1
    assert downloads.hash_file(downloads.find_torch_cache() / file.name) == downloads.hash_file(synthetic / file.name)


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_are_one_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTIME_MIRROR", "http://127.0.0.1:9")  # no server
    monkeypatch.setattr(downloads, "RETRIES", downloads.Retries(pause=0.001))
    with pytest.raises(WeightsError) as refusal:
        fd.build_detector(name, device=torch.device("cpu"))
    for word in (WEIGHTS[name].name, "http://127.0.0.1:9/", f"into {tmp_path / 'model'}"):
        assert word in str(refusal.value)


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def make_invalid_weights(kind: str, synthetic: Path, tmp_path: Path) -> bytes:
    """Return the bytes of an invalid weights file."""
    whole = (synthetic / WEIGHTS["RetinaNetResNet50"].name).read_bytes()
    if kind in ("a pickle that executes", "a checkpoint"):
        torch.save({"weight": Evil(tmp_path / "evil")} if kind != "a checkpoint" else {"epoch": 3}, tmp_path / "made")
        return (tmp_path / "made").read_bytes()
    return {
        "empty": b"",
        "a page": b"<html>410 Gone</html>",
        "cut": whole[: len(whole) // 2],
        "a bare pickle that executes": pickle.dumps(Evil(tmp_path / "evil")),
        "of another network": (synthetic / WEIGHTS[MOBILENET].name).read_bytes(),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "a page",
        "cut",
        "a checkpoint",
        "a pickle that executes",
        "a bare pickle that executes",
        "of another network",
    ],
)
def test_an_invalid_weights_file_is_named_and_executes_nothing(
    kind: str, synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = WEIGHTS["RetinaNetResNet50"].name
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_bytes(make_invalid_weights(kind, synthetic, tmp_path))
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "mine"))
    with pytest.raises(
        WeightsError, match=f"{name}: (torch cannot read|this file does not contain|these weights do not fit)"
    ):
        TorchFaces("RetinaNetResNet50", 0.5, 0.3, 640, "cpu")
    assert not (tmp_path / "evil").exists()
    # A valid file in its place is used.
    (tmp_path / "mine" / name).write_bytes((synthetic / name).read_bytes())
    TorchFaces("RetinaNetResNet50", 0.5, 0.3, 640, "cpu")


# ---- the contract ----


@pytest.mark.parametrize("name", NAMES)
def test_any_size_is_accepted_and_boxes_are_inside(name: str, build: Callable[..., TorchFaces]) -> None:
    sizes = [(1, 1), (31, 7), (7, 31), (1, 20_000), (20_000, 1), (640, 1), (61, 97), (128, 96), (128, 96)]
    images = [make_noise(*size, seed=k) for k, size in enumerate(sizes)]
    found = build(name).detect(images)
    assert len(found) == len(images)
    for one, image in zip(found, images, strict=True):
        assert isinstance(one, Detections)
        height, width = image.shape[:2]
        x1, y1, x2, y2 = one.boxes.T
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
        assert (np.diff(one.scores) <= 0).all()  # best first
    assert sum(map(len, found)) > 0
    assert len(found[3]) == len(found[4]) == 0  # no pixels are left of them at 640


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(make_noise(64, 48).astype(np.float32), id="float"),
        pytest.param(make_noise(64, 48)[:, :, 0], id="grey"),
        pytest.param(np.dstack([make_noise(64, 48), make_noise(64, 48)[:, :, :1]]), id="with alpha"),
        pytest.param(make_noise(64, 48)[None], id="a batch"),
    ],
)
def test_anything_but_rgb_is_rejected(image: Any, build: Callable[..., TorchFaces]) -> None:
    with pytest.raises(ValueError, match="accepted: RGB, uint8"):
        build(MOBILENET).detect([make_noise(64, 48), image])


def test_the_anchor_cache_is_limited(build: Callable[..., TorchFaces]) -> None:
    detector = build(MOBILENET)
    for side in range(32, 32 + 40):
        detector.detect([make_noise(side, 32)])
    assert len(detector._detector.prior_box_cache) <= 16


def test_regions_are_rejected(build: Callable[..., TorchFaces]) -> None:
    with pytest.raises(NotImplementedError, match="whole image"):
        build(MOBILENET).detect([make_noise(64, 48)], [np.zeros((1, 4))])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_rejected(build: Callable[..., TorchFaces]) -> None:
    with pytest.raises(ConfigError, match="device = 'cuda': torch finds no CUDA device"):
        build(MOBILENET, device="cuda")
    assert onnx.choose_torch_device("auto").type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_the_same_faces_within_a_pixel(name: str, build: Callable[..., TorchFaces]) -> None:
    image = make_noise(320, 240)
    (there,), (here,) = build(name, device="cuda").detect([image]), build(name, device="cpu").detect([image])
    assert np.isfinite(there.boxes).all()
    if name == MOBILENET:  # the others have random weights here, whose scores are all near the threshold
        near = boxes.compute_iou(here.boxes[:, None], there.boxes[None]).max(axis=1, initial=0)
        assert (near > 0.9).mean() > 0.97


@pytest.mark.parametrize(("search", "stage"), [(None, "near"), ("face", "near"), ("frame", "frame")])
def test_hands_are_searched_at_the_configured_stage(search: Any, stage: str, real: Path) -> None:
    from detectime.sources.folder import FolderSource

    worker = make_worker(detector_type=MOBILENET, search=search, device="cpu")
    (row,) = worker(FolderSource(str(real)), ["palm_pA/0030.jpg"]).to_pylist()
    assert row["outcome"] == "ok", row["error"]
    assert [hand["stage"] for hand in row["hands"]] == [stage] * len(row["hands"])
    assert len(row["hands"]) >= 1
    assert {face["detector"] for face in row["faces"]} == {MOBILENET}
