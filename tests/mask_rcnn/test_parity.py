"""Parity with the outputs of the original code (TensorFlow 1.14), stage by stage and end to end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from skips import need_extra

from detectime.boxes import compute_iou

need_extra("torch")

from detectime.detectors.mask_rcnn import detection, heads, proposals  # noqa: E402
from detectime.detectors.mask_rcnn.detection import Instances  # noqa: E402

pytestmark = [pytest.mark.extra, pytest.mark.slow]

NAMES = ["resnet50_256_room1", "resnet50_256_crop", "resnet101_1024_room1"]
SMALL = NAMES[:2]


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, golden: Any, network: Any) -> dict[str, Any]:
    """Outputs of the original, the network, and its outputs for the same canvas."""
    oracle = golden(request.param)
    net = network(oracle.settings)
    pyramid = net.compute_pyramid([oracle["molded"]])
    scores, deltas = net.score_anchors(pyramid)
    side = oracle.settings.max_side
    return {
        "oracle": oracle,
        "network": net,
        "settings": oracle.settings,
        "pyramid": [level[0] for level in pyramid],
        "scores": scores[0],
        "deltas": deltas[0],
        "anchors": proposals.make_anchors(side, side, oracle.settings),
        "area": side * side,
    }


@pytest.fixture(scope="module")
def end_to_end(golden: Any, network: Any) -> Callable[[str], Instances]:
    """Run the network on the canvas of the original."""

    @cache
    def detect(name: str) -> Instances:
        instances: Instances = network(golden(name).settings).detect([golden(name).canvas])[0]
        return instances

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
    # TensorFlow 1.14 orders equal scores differently, so some ranks differ.
    ours = proposals.select_proposals(case["oracle"]["rpn_prob"], case["deltas"], case["anchors"], case["settings"])
    theirs = case["oracle"]["rpn_rois"]
    assert ours.shape == theirs.shape
    nearest = np.abs(ours[None] - theirs[:, None]).max(axis=2).min(axis=1)
    assert (nearest < 1e-4).mean() > 0.99


def test_box_head(case: dict[str, Any]) -> None:
    oracle = case["oracle"]
    pyramid = case["pyramid"][:4]
    pooled = heads.pool_boxes(pyramid, oracle["rpn_rois"], case["area"], case["settings"].pool).numpy()
    assert np.abs(pooled[::10, :, :, ::16] - oracle["pooled_sample"]).max() < 5e-4
    logits, probabilities, deltas = case["network"].classify_boxes(pyramid, oracle["rpn_rois"], case["area"])
    assert np.abs(logits - oracle["mrcnn_logits"]).max() < 2.4e-4
    assert np.abs(probabilities - oracle["mrcnn_class"]).max() < 7e-5
    assert np.abs(deltas - oracle["mrcnn_bbox"]).max() < 1.1e-4


def test_detections_from_the_oracles_outputs_are_equal(case: dict[str, Any]) -> None:
    oracle = case["oracle"]
    canvas = oracle.canvas
    rows = detection.select_detections(
        oracle["rpn_rois"],
        oracle["mrcnn_class"],
        oracle["mrcnn_bbox"],
        canvas.window,
        canvas.pixels.shape[:2],
        case["settings"],
    )
    assert len(rows) == np.count_nonzero(oracle["detections"][:, 4])
    np.testing.assert_allclose(rows[:, :4], oracle["detections"][: len(rows), :4], atol=1.2e-7)
    np.testing.assert_array_equal(rows[:, 4:], oracle["detections"][: len(rows), 4:])
    boxes, kept = detection.unmold_boxes(rows, canvas)
    np.testing.assert_array_equal(boxes, oracle["rois"])
    np.testing.assert_array_equal(rows[kept, 4], oracle["class_ids"])
    np.testing.assert_array_equal(rows[kept, 5], oracle["scores"])


def test_detections_from_the_oracles_proposals_are_equal(case: dict[str, Any]) -> None:
    oracle = case["oracle"]
    canvas = oracle.canvas
    _, probabilities, deltas = case["network"].classify_boxes(case["pyramid"][:4], oracle["rpn_rois"], case["area"])
    rows = detection.select_detections(
        oracle["rpn_rois"], probabilities, deltas, canvas.window, canvas.pixels.shape[:2], case["settings"]
    )
    boxes, kept = detection.unmold_boxes(rows, canvas)
    matched, scores, pixels = compare(boxes, rows[kept, 5], oracle)
    assert matched == len(oracle["rois"])
    assert scores < 1e-4
    assert pixels <= 1


@pytest.mark.parametrize("name", NAMES)
def test_end_to_end(golden: Any, end_to_end: Callable[[str], Instances], name: str) -> None:
    found = end_to_end(name)
    matched, scores, pixels = compare(found.boxes, found.scores, golden(name))
    # A proposal that ends at the edge of the canvas is sampled just inside or just outside, depending on its last bit;
    # with random weights that changes the detection. In the large case this concerns 13 of 1000 proposals, and three
    # detections of 75 differ, even if the network runs in float64.
    assert matched >= 0.955 * len(golden(name)["rois"])
    assert scores < 1e-4
    assert pixels <= 1


def test_end_to_end_over_all_cases(golden: Any, end_to_end: Callable[[str], Instances]) -> None:
    found = [(end_to_end(name), golden(name)) for name in NAMES]
    matched = sum(compare(ours.boxes, ours.scores, oracle)[0] for ours, oracle in found)
    assert matched >= 0.97 * sum(len(oracle["rois"]) for _, oracle in found)


@pytest.mark.parametrize("name", SMALL)
def test_masks(golden: Any, network: Any, name: str) -> None:
    oracle = golden(name)
    found = network(oracle.settings).detect([oracle.canvas], masks=True)[0]
    assert found.masks is not None
    assert found.masks.shape == (*oracle.canvas.image_shape, len(found.boxes))
    overlaps = compute_iou(oracle["rois"][:, None], found.boxes[None])
    best = overlaps.argmax(axis=1)
    same = overlaps.max(axis=1) > 0.9
    areas = found.masks.sum(axis=(0, 1))[best]
    close = np.abs(areas - oracle["mask_area"]) <= 0.01 * oracle["mask_area"] + 10
    assert close[same].mean() > 0.97


def test_boxes_do_not_depend_on_the_batch_size(golden: Any, network: Any) -> None:
    import dataclasses

    first, second = golden(SMALL[0]), golden(SMALL[1])
    canvases = [first.canvas, second.canvas, first.canvas]
    one = network(first.settings).detect(canvases)
    three = network(dataclasses.replace(first.settings, batch=3)).detect(canvases)
    for alone, together in zip(one, three, strict=True):
        overlaps = compute_iou(alone.boxes[:, None], together.boxes[None])
        assert len(alone.boxes) == len(together.boxes)
        assert np.abs(alone.boxes - together.boxes[overlaps.argmax(axis=1)]).max() <= 1


def compare(boxes: np.ndarray, scores: np.ndarray, oracle: Any) -> tuple[int, float, int]:
    """Count the matched detections of the oracle and return the largest differences of their scores and corners."""
    overlaps = compute_iou(oracle["rois"][:, None], boxes[None])
    best, same = overlaps.argmax(axis=1), overlaps.max(axis=1) > 0.9
    return (
        int(same.sum()),
        float(np.abs(scores[best] - oracle["scores"])[same].max()),
        int(np.abs(boxes[best] - oracle["rois"])[same].max()),
    )
