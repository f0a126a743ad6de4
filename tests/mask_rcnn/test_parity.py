"""Stage by stage, and end to end, against what the original code found (TensorFlow 1.14)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from detectime.boxes import compute_iou

pytest.importorskip("torch", reason="the extra torch is not installed")

from detectime.detectors.mask_rcnn import detection, heads, proposals
from detectime.detectors.mask_rcnn.detection import Found

pytestmark = [pytest.mark.extra, pytest.mark.slow]

NAMES = ["resnet50_256_room1", "resnet50_256_crop", "resnet101_1024_room1"]
SMALL = NAMES[:2]


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, golden: Any, network: Any) -> dict[str, Any]:
    """The original's outputs, the network, and what it makes of the same canvas."""
    oracle = golden(request.param)
    net = network(oracle.settings)
    pyramid = net.pyramid([oracle["molded"]])
    scores, deltas = net.score_anchors(pyramid)
    side = oracle.settings.max_side
    return {
        "oracle": oracle,
        "network": net,
        "settings": oracle.settings,
        "pyramid": [level[0] for level in pyramid],
        "scores": scores[0],
        "deltas": deltas[0],
        "anchors": proposals.anchors(side, side, oracle.settings),
        "area": side * side,
    }


@pytest.fixture(scope="module")
def end_to_end(golden: Any, network: Any) -> Callable[[str], Found]:
    """What is found from the canvas on."""

    @cache
    def detect(name: str) -> Found:
        found: Found = network(golden(name).settings).detect([golden(name).molded])[0]
        return found

    return detect


def test_anchors(case: dict[str, Any]) -> None:
    oracle, anchors = case["oracle"], case["anchors"]
    assert anchors.dtype == np.float32
    assert len(anchors) == len(oracle["rpn_prob"])
    np.testing.assert_array_equal(anchors[:64], oracle["anchors_head"])
    np.testing.assert_allclose(anchors.sum(axis=0, dtype=float), oracle["anchors_sum"], rtol=1e-9)


def test_pyramid(case: dict[str, Any]) -> None:
    for number, maps in enumerate(case["pyramid"], start=2):
        step = max(1, 16 // 2 ** (number - 2))
        ours = maps.permute(1, 2, 0).numpy()
        assert np.abs(ours[::step, ::step, ::8] - case["oracle"][f"P{number}_sample"]).max() < 5.8e-4
        assert np.abs(ours).max() == pytest.approx(case["oracle"][f"P{number}_stats"][2], rel=1e-4)


def test_proposal_network(case: dict[str, Any]) -> None:
    assert np.abs(case["scores"] - case["oracle"]["rpn_prob"]).max() < 7.3e-5
    assert np.abs(case["deltas"][::16] - case["oracle"]["rpn_delta_sample"]).max() < 2.3e-4


def test_proposals(case: dict[str, Any]) -> None:
    # TensorFlow 1.14 has an order of its own for equal scores, so ranks differ here and there.
    ours = proposals.propose(case["oracle"]["rpn_prob"], case["deltas"], case["anchors"], case["settings"])
    theirs = case["oracle"]["rpn_rois"]
    assert ours.shape == theirs.shape
    nearest = np.abs(ours[None] - theirs[:, None]).max(axis=2).min(axis=1)
    assert (nearest < 1e-4).mean() > 0.99


def test_box_head(case: dict[str, Any]) -> None:
    oracle = case["oracle"]
    pyramid = case["pyramid"][:4]
    pooled = heads.pool(pyramid, oracle["rpn_rois"], case["area"], case["settings"].pool).numpy()
    assert np.abs(pooled[::10, :, :, ::16] - oracle["pooled_sample"]).max() < 5e-4
    logits, probabilities, deltas = case["network"].classify(pyramid, oracle["rpn_rois"], case["area"])
    assert np.abs(logits - oracle["mrcnn_logits"]).max() < 2.4e-4
    assert np.abs(probabilities - oracle["mrcnn_class"]).max() < 7e-5
    assert np.abs(deltas - oracle["mrcnn_bbox"]).max() < 1.1e-4


def test_detections_of_the_oracles_answers_are_the_same(case: dict[str, Any]) -> None:
    oracle = case["oracle"]
    molded = oracle.molded
    rows = detection.choose(
        oracle["rpn_rois"],
        oracle["mrcnn_class"],
        oracle["mrcnn_bbox"],
        molded.window,
        molded.pixels.shape[:2],
        case["settings"],
    )
    assert len(rows) == np.count_nonzero(oracle["detections"][:, 4])
    np.testing.assert_allclose(rows[:, :4], oracle["detections"][: len(rows), :4], atol=1.2e-7)
    np.testing.assert_array_equal(rows[:, 4:], oracle["detections"][: len(rows), 4:])
    boxes, kept = detection.unmold(rows, molded)
    np.testing.assert_array_equal(boxes, oracle["rois"])
    np.testing.assert_array_equal(rows[kept, 4], oracle["class_ids"])
    np.testing.assert_array_equal(rows[kept, 5], oracle["scores"])


def test_from_the_oracles_proposals_on_all_detections_are_the_same(case: dict[str, Any]) -> None:
    oracle = case["oracle"]
    molded = oracle.molded
    _, probabilities, deltas = case["network"].classify(case["pyramid"][:4], oracle["rpn_rois"], case["area"])
    canvas = molded.pixels.shape[:2]
    rows = detection.choose(oracle["rpn_rois"], probabilities, deltas, molded.window, canvas, case["settings"])
    boxes, kept = detection.unmold(rows, molded)
    matched, scores, pixels = compare(boxes, rows[kept, 5], oracle)
    assert matched == len(oracle["rois"])
    assert scores < 1e-4
    assert pixels <= 1


@pytest.mark.parametrize("name", NAMES)
def test_end_to_end(golden: Any, end_to_end: Callable[[str], Found], name: str) -> None:
    found = end_to_end(name)
    matched, scores, pixels = compare(found.boxes, found.scores, golden(name))
    # A proposal that ends at the canvas's edge is sampled just inside or just outside of it, which its last bit
    # decides; random weights make another detection of that. In the large case 13 of 1000 proposals are such, and three
    # detections of 75 differ, also where the network is run in float64.
    assert matched >= 0.955 * len(golden(name)["rois"])
    assert scores < 1e-4
    assert pixels <= 1


def test_end_to_end_all_together(golden: Any, end_to_end: Callable[[str], Found]) -> None:
    found = [(end_to_end(name), golden(name)) for name in NAMES]
    matched = sum(compare(ours.boxes, ours.scores, oracle)[0] for ours, oracle in found)
    assert matched >= 0.97 * sum(len(oracle["rois"]) for _, oracle in found)


@pytest.mark.parametrize("name", SMALL)
def test_masks(golden: Any, network: Any, name: str) -> None:
    oracle = golden(name)
    found = network(oracle.settings).detect([oracle.molded], masks=True)[0]
    assert found.masks is not None
    assert found.masks.shape == (*oracle.molded.shape, len(found.boxes))
    overlaps = compute_iou(oracle["rois"][:, None], found.boxes[None])
    best = overlaps.argmax(axis=1)
    same = overlaps.max(axis=1) > 0.9
    areas = found.masks.sum(axis=(0, 1))[best]
    close = np.abs(areas - oracle["mask_area"]) <= 0.01 * oracle["mask_area"] + 10
    assert close[same].mean() > 0.97


def test_the_batch_does_not_change_the_boxes(golden: Any, network: Any) -> None:
    import dataclasses

    first, second = golden(SMALL[0]), golden(SMALL[1])
    canvases = [first.molded, second.molded, first.molded]
    one = network(first.settings).detect(canvases)
    three = network(dataclasses.replace(first.settings, batch=3)).detect(canvases)
    for alone, together in zip(one, three, strict=True):
        overlaps = compute_iou(alone.boxes[:, None], together.boxes[None])
        assert len(alone.boxes) == len(together.boxes)
        assert np.abs(alone.boxes - together.boxes[overlaps.argmax(axis=1)]).max() <= 1


def compare(boxes: np.ndarray, scores: np.ndarray, oracle: Any) -> tuple[int, float, int]:
    """How many of the oracle's detections are found, and by how much scores and corners of those differ at most."""
    overlaps = compute_iou(oracle["rois"][:, None], boxes[None])
    best, same = overlaps.argmax(axis=1), overlaps.max(axis=1) > 0.9
    return (
        int(same.sum()),
        float(np.abs(scores[best] - oracle["scores"])[same].max()),
        int(np.abs(boxes[best] - oracle["rois"])[same].max()),
    )
