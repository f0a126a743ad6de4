"""The palm network of the hand detector `mediapipe`: its two sizes, its anchors and its squares; and dark frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from conftest import Box, darken, draw_noise, read_image
from hypothesis import example, given
from hypothesis import strategies as st

from detectime import boxes, paths
from detectime.boxes import Floats
from detectime.config import DetectionConfig
from detectime.detectors import hagrid, hand_landmarks, mediapipe
from detectime.detectors.contract import Detector
from detectime.detectors.mediapipe import MediaPipeHands
from detectime.detectors.registry import HANDS
from detectime.images import RGB

SIDES = (128, 192, 320)
NEAR = paths.SAMPLE / "TRAIN_DATA" / "stop_01" / "0001.jpg"
LIKE = paths.SAMPLE / "TRAIN_DATA" / "like_01" / "0008.jpg"
SMALL = paths.SAMPLE / "TRAIN_DATA" / "stop_02" / "0006.jpg"
"""In a square of 128 pixels with the whole of this frame the palm is too small."""
SMALL_HAND = (354.0, 93.0, 474.0, 239.0)
WHOLE = np.array([[0, 0, 640, 480]], float)


@pytest.fixture(scope="module")
def detector() -> MediaPipeHands:
    """Build the detector."""
    return MediaPipeHands(0.5, None)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that records each call of the palm network: side, and number of squares."""
    calls: list[tuple[int, int]] = []
    open_session = mediapipe._open_palm_session

    class Recorder:
        def __init__(self, side: int, device: str) -> None:
            self.side, self.session = side, open_session(side, device)

        def run(self, names: list[str], inputs: dict[str, Floats]) -> Any:
            assert inputs["input"].shape[1:] == (self.side, self.side, 3)
            calls.append((self.side, len(inputs["input"])))
            return self.session.run(names, inputs)

    monkeypatch.setattr(mediapipe, "_open_palm_session", Recorder)
    return calls


def surround(image: RGB, width: int, height: int) -> RGB:
    """Return a grey image with another in its top left corner."""
    larger = np.full((height, width, 3), 128, np.uint8)
    larger[: image.shape[0], : image.shape[1]] = image
    return larger


# -- from coarse to fine


def test_a_palm_that_is_found_in_the_small_square_is_searched_once(
    detector: MediaPipeHands, searched: list[tuple[int, int]]
) -> None:
    image = read_image(NEAR)
    assert [len(found) for found in detector.detect([image], [WHOLE])] == [1]
    assert searched == [(128, 1)]
    assert [len(found) for found in detector.detect([image])] == [1]
    assert searched == [(128, 1), (192, 1)]


@pytest.mark.parametrize(
    ("image", "regions", "sides", "hand"),
    [
        pytest.param(read_image(SMALL), [WHOLE], (128, 192), SMALL_HAND, id="region"),
        pytest.param(surround(read_image(LIKE), 1440, 1080), None, (192, 320), (219, 144, 272, 236), id="image"),
    ],
)
def test_a_small_palm_is_found_in_the_larger_square(
    image: RGB,
    regions: list[Floats] | None,
    sides: tuple[int, int],
    hand: Box,
    detector: MediaPipeHands,
    searched: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (found,) = detector.detect([image], regions)
    assert searched == [(side, 1) for side in sides]
    assert len(found) == 1
    assert boxes.compute_iou(found.boxes[0], hand) > 0.8
    monkeypatch.setattr(mediapipe, "_SIDES_IN_IMAGE" if regions is None else "_SIDES_IN_REGION", sides[:1])
    assert [len(found) for found in detector.detect([image], regions)] == [0]


def test_only_the_images_without_a_hand_are_searched_again(
    detector: MediaPipeHands, searched: list[tuple[int, int]]
) -> None:
    """Images do not change places; of one without a hand, each region is searched again."""
    near, small, noise = read_image(NEAR), read_image(SMALL), draw_noise(320, 240)
    regions = [WHOLE, np.repeat(WHOLE, 2, axis=0), WHOLE / 2, WHOLE[:0]]
    found = detector.detect([near, small, noise, near], regions)
    assert [len(one) for one in found] == [1, 1, 0, 0]
    assert boxes.compute_iou(found[1].boxes[0], SMALL_HAND) > 0.8
    totals = [sum(count for own, count in searched if own == side) for side in SIDES]
    assert totals == [4, 3, 0]


def test_no_regions_and_no_images_need_no_network(detector: MediaPipeHands, searched: list[tuple[int, int]]) -> None:
    assert detector.detect([]) == []
    assert [len(found) for found in detector.detect([read_image(NEAR)], [np.empty((0, 4))])] == [0]
    assert searched == []


def test_a_score_is_the_presence_and_may_exceed_that_of_the_palm(detector: MediaPipeHands) -> None:
    (found,) = detector.detect([read_image(NEAR)], [np.array([[100, 0, 400, 300.0]])])
    assert found.presence is not None
    assert found.proposals is not None
    np.testing.assert_array_equal(found.scores, found.presence)
    assert (found.proposals[:, 4] >= 0.4).all()
    assert found.scores[0] > found.proposals[0, 4]


@pytest.mark.parametrize(("confidence", "count"), [(0.5, 1), (0.9999, 0)])
def test_hands_below_the_confidence_are_dropped(confidence: float, count: int) -> None:
    assert [len(found) for found in MediaPipeHands(confidence, None).detect([read_image(NEAR)])] == [count]


# -- anchors, squares and what the network says of them


@pytest.mark.parametrize(("side", "count"), [(128, 896), (192, 2016), (320, 5600)])
def test_anchors_are_the_centres_of_all_cells(side: int, count: int) -> None:
    anchors = mediapipe._make_anchors(side)
    assert anchors.shape == (count, 2)
    assert anchors.dtype == np.float32
    fine = 2 * (side // 8) ** 2
    for own, stride, repeats in ((anchors[:fine], 8, 2), (anchors[fine:], 16, 6)):
        expected = [
            (x + stride / 2, y + stride / 2)
            for y in range(0, side, stride)
            for x in range(0, side, stride)
            for _ in range(repeats)
        ]
        np.testing.assert_allclose(own * side, expected, atol=1e-4)


@pytest.mark.parametrize("side", SIDES)
def test_the_network_has_one_output_per_anchor(side: int) -> None:
    pixels = np.zeros((2, side, side, 3), np.float32)
    session = mediapipe._open_palm_session(side, "cpu")
    offsets, logits = session.run(["boxes", "scores"], {"input": pixels})
    count = len(mediapipe._make_anchors(side))
    assert (offsets.shape, logits.shape) == ((2, count, 18), (2, count, 1))


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(SIDES))
@example(1, 20_000, 128)
@example(20_000, 1, 192)
def test_an_image_fits_into_its_square(width: int, height: int, side: int) -> None:
    square, scale, padding = mediapipe._letterbox(np.full((height, width, 3), 255, np.uint8), side)
    assert square.shape == (side, side, 3)
    assert square.dtype == np.uint8
    columns, rows = np.flatnonzero(square[..., 0].any(axis=0)), np.flatnonzero(square[..., 0].any(axis=1))
    for places, length, before in ((columns, width, padding[0]), (rows, height, padding[1])):
        np.testing.assert_array_equal(places, np.arange(places[0], places[-1] + 1))
        assert places[0] == before
        assert abs(len(places) - length * scale) <= 1
        assert 0 <= side - len(places) - 2 * before <= 1  # centred
    assert max(len(columns), len(rows)) == side
    assert (square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 255).all()


@pytest.mark.parametrize("side", SIDES)
def test_the_black_around_a_dark_image_stays_black(side: int) -> None:
    square, _, (left, _) = mediapipe._letterbox(np.full((40, 20, 3), 10, np.uint8), side)
    assert not square[:, : int(left)].any()
    assert (square[:, int(left) + 1 : side - int(left) - 1] == 90).all()


@pytest.mark.parametrize("side", SIDES)
def test_a_palm_is_decoded_to_pixels_of_the_image(side: int) -> None:
    """Two anchors that see one palm are averaged by score; another palm stays by itself, and a low score is dropped."""
    anchors = mediapipe._make_anchors(side) * side
    offsets, scores = np.zeros((len(anchors), 18)), np.zeros(len(anchors))

    def say(anchor: int, centre: Sequence[float], size: float, score: float) -> None:
        """Let an anchor report a palm whose keypoints lie to the right of its centre."""
        keypoints = [np.add(centre, [k, 0]) for k in range(7)]
        values = np.array([centre, *keypoints]) - anchors[anchor]
        offsets[anchor] = np.insert(values, 1, size, axis=0).ravel()
        scores[anchor] = score

    say(5, (40, 30), 20, 0.9)
    say(6, (44, 30), 20, 0.6)
    say(700, (90, 100), 30, 0.95)
    say(800, (20, 100), 30, 0.39)
    best, averaged = mediapipe._decode_palms(offsets, scores, side, 0.5, np.array([10.0, -20.0]))
    assert (best.score, averaged.score) == (0.95, 0.9)
    np.testing.assert_allclose(best.box, [160, 150, 220, 210], atol=1e-3)
    np.testing.assert_allclose(averaged.centre, [2 * 41.6 + 10, 2 * 30 - 20], atol=1e-3)
    np.testing.assert_allclose((averaged.width, averaged.height), 40, atol=1e-3)
    shifts = [[2 * k, 0] for k in range(7)]
    np.testing.assert_allclose(averaged.keypoints - averaged.centre, shifts, atol=1e-3)


@pytest.mark.parametrize("up", [(0, -1), (1, 0), (-3, 4)])
def test_the_region_of_a_palm_is_shifted_towards_the_fingers(up: tuple[float, float]) -> None:
    centre, direction = np.array([100.0, 200.0]), np.array(up) / np.hypot(*up)
    keypoints = np.zeros((7, 2))
    keypoints[0], keypoints[2] = centre - 20 * direction, centre + 20 * direction
    region = mediapipe._make_palm_region(mediapipe._Palm(centre, keypoints, 50.0, 50.0, 0.9))
    np.testing.assert_allclose(region.centre, centre + 20 * direction)
    assert region.side == pytest.approx(160)
    top = region.make_affine() @ [112, 0, 1]
    np.testing.assert_allclose(top, region.centre + 80 * direction)


# -- dark frames


@pytest.mark.usefixtures("hagrid_weights")
@pytest.mark.parametrize("name", ["mediapipe", "hagrid"])
def test_a_hand_in_the_dark_is_found_because_it_is_brightened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector: Detector = HANDS[name].build(DetectionConfig(), "cpu")
    image: RGB = read_image(NEAR)
    dark = darken(image, 0.06)
    (by_day,), (by_night,) = detector.detect([image]), detector.detect([dark])
    assert len(by_day) == len(by_night) == 1
    assert boxes.compute_iou(by_day.boxes[0], by_night.boxes[0]) > 0.8
    for module in (mediapipe, hagrid, hand_landmarks):
        monkeypatch.setattr(module, "brighten_image", lambda pixels: pixels)
    assert [len(found) for found in detector.detect([dark])] == [0]
    assert [len(found) for found in detector.detect([image])] == [1]
