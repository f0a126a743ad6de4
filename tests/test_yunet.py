"""The face detector `yunet`: its decoding beside OpenCV's, and its faces beside those of `retinaface`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import read_image

from detectime import boxes
from detectime.config import DetectionConfig
from detectime.detectors import yunet
from detectime.detectors.contract import Detector
from detectime.detectors.registry import FACES
from detectime.images import RGB, shrink_image


@pytest.fixture(scope="module")
def frames(shared: Path) -> list[RGB]:
    """Read three frames of each of six people, whose faces are 94 to 280 pixels long."""
    return [read_image(path) for path in sorted((shared / "frames" / "webcam" / "TRAIN_DATA").glob("p*/*.jpg"))[::7]]


@pytest.fixture
def detector(yunet_weights: Path) -> Detector:
    """Build the detector."""
    assert yunet_weights.name == "yunet_n_dynamic.onnx"
    built: Detector = FACES["yunet"].build(DetectionConfig(), "cpu")
    return built


@pytest.mark.parametrize("side", [160, 333])
def test_boxes_and_scores_are_those_of_opencv(side: int, yunet_weights: Path, frames: list[RGB]) -> None:
    network = yunet.YuNet()
    compared = 0
    for frame in frames[::3]:
        image = shrink_image(frame, side)
        size = image.shape[1], image.shape[0]
        opencv = cv2.FaceDetectorYN.create(str(yunet_weights), "", size, score_threshold=0.5, nms_threshold=0.3)
        _, expected = opencv.detect(np.ascontiguousarray(image[:, :, ::-1]))
        ((found, scores),) = network.find_faces([image], 0.5)
        kept = boxes.suppress_non_maximum(found, scores, 0.3)
        corners = np.concatenate([expected[:, :2], expected[:, :2] + expected[:, 2:4]], axis=1)
        np.testing.assert_allclose(found[kept], corners, atol=0.01)
        np.testing.assert_allclose(scores[kept], expected[:, 14], atol=1e-4)
        compared += len(kept)
    assert compared >= 6


def test_faces_and_their_sizes_are_those_of_retinaface(detector: Detector, frames: list[RGB]) -> None:
    """Hands are searched and paired in squares of the face's longer side: coefficients mean the same for both."""
    retinaface = FACES["retinaface"].build(DetectionConfig(), "cpu")
    pairs = list(zip(detector.detect(frames), retinaface.detect(frames), strict=True))
    assert len(pairs) == 18
    assert all(boxes.compute_iou(ours.boxes[0], theirs.boxes[0]) > 0.65 for ours, theirs in pairs)
    sides = np.array([[(one.boxes[0, 2:] - one.boxes[0, :2]).max() for one in pair] for pair in pairs])
    assert np.median(sides[:, 0] / sides[:, 1]) == pytest.approx(1, abs=0.05)


def test_small_faces_are_found(detector: Detector, frames: list[RGB]) -> None:
    """In a fifth of their size, faces are 19 to 56 pixels long, and 5 to 14 in the first pass."""
    found = 0
    for frame, (face,) in zip(frames, (one.boxes[:1] for one in detector.detect(frames)), strict=True):
        small = cv2.resize(frame, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
        canvas = np.full_like(frame, 110)
        canvas[200 : 200 + small.shape[0], 300 : 300 + small.shape[1]] = small
        (faces,) = detector.detect([canvas])
        found += boxes.compute_iou(faces.boxes, face / 5 + [300, 200, 300, 200]).max(initial=0) > 0.5
    assert found >= 17


def test_neither_the_batch_nor_padding_moves_a_box(yunet_weights: Path, frames: list[RGB]) -> None:
    """Sides that are no multiples of 32 are padded with black."""
    assert yunet_weights.is_file()
    network = yunet.YuNet()
    images = [shrink_image(frame, 192)[:144] for frame in frames[:4]]
    padded = [np.concatenate([image, np.zeros((16, *image.shape[1:]), np.uint8)]) for image in images]
    assert images[0].shape[0] == 144
    together = network.find_faces(images, 0.6)
    assert sum(len(found) for found, _ in together) >= 4
    for (found, scores), image, other in zip(together, images, padded, strict=True):
        for again, scores_again in (*network.find_faces([image], 0.6), *network.find_faces([other], 0.6)):
            np.testing.assert_array_equal(again, found)
            np.testing.assert_array_equal(scores_again, scores)
