"""The hand detector behind the contract, and the 2021 interface."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skips import need_extra

from detectime.detectors.contract import Detections
from detectime.errors import ConfigError

need_extra("torch")

from detectime.detectors.mask_rcnn.config import NetworkSettings  # noqa: E402
from detectime.detectors.mask_rcnn.hands import MaskRCNNHands  # noqa: E402
from detectime.detectors.mask_rcnn.images import Canvas  # noqa: E402
from detectime.detectors.mask_rcnn.network import Network  # noqa: E402
from detectime.maskrcnn import load_model_custom  # noqa: E402

pytestmark = [pytest.mark.extra, pytest.mark.slow]

SMALL = NetworkSettings(backbone="resnet50", min_side=256, max_side=256, confidence=0.7)


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw squares of random colours."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (-(-height // 20), -(-width // 20), 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(20, 0).repeat(20, 1)[:height, :width])


@pytest.fixture(scope="module")
def hands(network: Any) -> MaskRCNNHands:
    return MaskRCNNHands(network(SMALL), "plain")


def test_detections_satisfy_the_contract(hands: MaskRCNNHands) -> None:
    frames = [image(300, 400), image(200, 120, 1), image(256, 256, 2)]
    found = hands.detect(frames)
    assert len(found) == len(frames)
    for frame, detections in zip(frames, found, strict=True):
        assert isinstance(detections, Detections)
        assert len(detections)
        assert (np.diff(detections.scores) <= 0).all()
        assert (detections.scores >= 0.7).all()
        x1, y1, x2, y2 = detections.boxes.T
        assert (x1 >= 0).all()
        assert (x1 < x2).all()
        assert (x2 <= frame.shape[1]).all()
        assert (y1 >= 0).all()
        assert (y1 < y2).all()
        assert (y2 <= frame.shape[0]).all()
    alone = hands.detect(frames[1:2])[0]
    np.testing.assert_allclose(alone.boxes, found[1].boxes, atol=1)
    assert hands.detect([]) == []


def test_a_region_of_the_whole_canvas_changes_nothing(hands: MaskRCNNHands) -> None:
    frame = image(512, 512)
    whole = hands.detect([frame])[0]
    near = hands.detect([frame], [np.array([[0.0, 0, 512, 512]])])[0]
    np.testing.assert_array_equal(whole.boxes, near.boxes)
    np.testing.assert_array_equal(whole.scores, near.scores)


def test_boxes_of_a_region_are_in_the_pixels_of_the_image(hands: MaskRCNNHands) -> None:
    # The same content, alone and as part of a larger grey image; neither is resized.
    content = image(128, 128, 3)
    frame = np.full((256, 256, 3), 110, np.uint8)
    frame[64:192, 128:256] = content
    regions = np.array([[130.0, 70, 250, 190]])
    near = hands.detect([frame], [regions])[0]
    canvas = Canvas(content, (0, 0, 128, 128), (0, 0, 128, 128), (128, 128))
    alone = hands.network.detect([canvas])[0]
    assert len(near) == len(alone.boxes) > 0
    np.testing.assert_allclose(near.boxes - (128, 64, 128, 64), alone.boxes[:, [1, 0, 3, 2]], atol=1)


def test_regions(hands: MaskRCNNHands) -> None:
    frame = image(256, 256)
    none, two = hands.detect([frame, frame], [np.empty((0, 4)), np.array([[0.0, 0, 60, 60], [190, 190, 250, 250]])])
    assert not len(none)
    for x1, y1, x2, y2 in two.boxes:
        assert max(x2, y2) <= 64 or min(x1, y1) >= 128
    with pytest.raises(ValueError, match="zip"):
        hands.detect([frame], [])


@pytest.mark.parametrize(
    "bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), "u1")]
)
def test_other_arrays_are_rejected(hands: MaskRCNNHands, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image"):
        hands.detect([bad])


def test_bfloat16_finds_boxes(h5: Callable[[str], Path]) -> None:
    from detectime.detectors.mask_rcnn import weights

    network = Network(SMALL, weights.read_weights(h5("resnet50"), SMALL), "cpu", "bfloat16")
    found = MaskRCNNHands(network).detect([image(300, 400)])[0]
    assert len(found)
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("device", "precision", "part"),
    [("gpu", "float32", "device = 'gpu'"), ("cpu", "int8", "precision = 'int8'"), ("cpu", "float16", "float16")],
)
def test_unsupported_devices_and_precisions_are_rejected(device: str, precision: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        Network(SMALL, {}, device, precision)


def test_an_overflow_is_an_error(network: Any) -> None:
    net = network(SMALL)
    pyramid = [maps * float("inf") for maps in net.compute_pyramid([image(256, 256)])]
    with pytest.raises(FloatingPointError, match="overflow"):
        net.score_anchors(pyramid)


@pytest.fixture(scope="module")
def config() -> Any:
    mrcnn_config = need_extra("mrcnn.config")

    class InferenceConfig(mrcnn_config.Config):  # type: ignore[misc]
        NAME = "hands"
        NUM_CLASSES = 1 + 1
        BACKBONE = "resnet50"
        IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
        IMAGES_PER_GPU = 1

    return InferenceConfig()


@pytest.fixture(scope="module")
def detector_hands(config: Any, h5: Callable[[str], Path]) -> Any:
    return load_model_custom(config, h5("resnet50"), resizing="plain")


def test_2021_detect(detector_hands: Any) -> None:
    frame = image(300, 400)
    (result,) = detector_hands.detect([frame], verbose=0)
    assert set(result) == {"rois", "class_ids", "scores"}
    assert result["rois"].dtype == result["class_ids"].dtype == np.int32
    assert result["scores"].dtype == np.float32
    assert result["rois"].shape == (len(result["scores"]), 4)
    assert set(result["class_ids"]) == {1}
    for y1, x1, y2, x2 in result["rois"]:
        assert 0 <= y1 < y2 <= 300
        assert 0 <= x1 < x2 <= 400


def test_2021_boxes_equal_those_of_the_detector(detector_hands: Any, hands: MaskRCNNHands) -> None:
    frame = image(300, 400)
    (result,) = detector_hands.detect([frame])
    np.testing.assert_array_equal(result["rois"][:, [1, 0, 3, 2]], hands.detect([frame])[0].boxes)


def test_2021_takes_any_number_of_images(detector_hands: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(detector_hands.detect([image(99, 70)] * 2, verbose=1)) == 2
    assert "2 images" in capsys.readouterr().out
    assert detector_hands.detect([]) == []


def test_2021_masks(detector_hands: Any) -> None:
    (result,) = detector_hands.detect([image(300, 400)], masks=True)
    assert result["masks"].shape == (300, 400, len(result["rois"]))
    assert result["masks"].dtype == bool
    y1, x1, y2, x2 = result["rois"][0]
    result["masks"][y1:y2, x1:x2, 0] = False
    assert not result["masks"][:, :, 0].any()


def test_2021_unknown_resizing_is_rejected(config: Any, h5: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="resizing = 'cubic': accepted: 2021, plain"):
        load_model_custom(config, h5("resnet50"), resizing="cubic")


def test_importing_the_2021_path_loads_neither_torch_nor_h5py() -> None:
    script = (
        "import sys, detectime.maskrcnn, detectime.detectors.mask_rcnn; assert not {'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
