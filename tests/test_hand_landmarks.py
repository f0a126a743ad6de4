"""The landmark network, which looks at the hand in a region."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import read_image

from detectime import boxes
from detectime.boxes import Floats
from detectime.detectors.hand_landmarks import Hand, LandmarkNetwork, make_square_region
from detectime.images import RGB


@pytest.fixture(scope="module")
def network() -> LandmarkNetwork:
    """Load the network."""
    return LandmarkNetwork()


@pytest.fixture(scope="module")
def hands(shared: Path) -> tuple[RGB, Floats]:
    """Return a frame that shows two hands, and their annotated boxes."""
    folder = shared / "frames" / "two_hands"
    name, entry = next(iter(json.loads((folder / "boxes.json").read_text()).items()))
    return read_image(folder / "images" / name), np.array(entry["hands"], float)


def test_a_hand_is_confirmed_and_a_wall_is_not(network: LandmarkNetwork, hands: tuple[RGB, Floats]) -> None:
    image, true = hands
    regions = [make_square_region(box, 2.0) for box in (*true, np.array([20.0, 20, 140, 200]))]
    first, second, other = network.look_at_hands([image] * 3, regions)
    for hand, box in zip((first, second), true, strict=True):
        assert hand.presence > 0.9
        assert boxes.compute_iou(hand.make_box(0.1), box) > 0.7
    assert other.presence < 0.1


def test_a_part_of_a_hand_gives_the_whole_hand(network: LandmarkNetwork, hands: tuple[RGB, Floats]) -> None:
    image, true = hands
    for box in true:
        part = np.concatenate([box[:2], box[2:] - 0.3 * (box[2:] - box[:2])])
        assert boxes.compute_iou(part, box) < 0.5
        (first,) = network.look_at_hands([image], [make_square_region(part, 2.0)])
        (second,) = network.look_at_hands([image], [first.make_region()])
        assert boxes.compute_iou(second.make_box(0.1), box) > 0.7


def test_the_region_of_a_hand_holds_it_with_the_fingers_up(network: LandmarkNetwork, hands: tuple[RGB, Floats]) -> None:
    image, true = hands
    (hand,) = network.look_at_hands([image], [make_square_region(true[0], 2.0)])
    affine = hand.make_region().make_affine()
    inside = (hand.points - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    assert ((inside > 0) & (inside < 224)).all()
    wrist, knuckle = inside[0], inside[[5, 9, 9, 13]].mean(axis=0)
    assert knuckle[1] < wrist[1]
    assert knuckle[0] == pytest.approx(wrist[0])


def test_no_regions_give_no_hands(network: LandmarkNetwork) -> None:
    assert network.look_at_hands([], []) == []


@pytest.mark.parametrize("margin", [None, 0.1])
def test_a_box_grows_with_the_hand(margin: float | None) -> None:
    points = np.random.default_rng(0).random((21, 2)) * 100
    hand = Hand(points, np.zeros(21), 1.0, 0.5)
    twice = Hand(2 * points, np.zeros(21), 1.0, 0.5)
    np.testing.assert_allclose(twice.make_box(margin), 2 * hand.make_box(margin))


def test_a_fist_has_the_discs_of_the_open_hand() -> None:
    """Straight fingers end above the knuckles, folded ones at the wrist; the palm is the same."""
    points = np.zeros((21, 2))
    points[[5, 9, 13, 17]] = [[-30, -100], [0, -100], [0, -100], [30, -100]]
    open_hand, fist = points.copy(), points.copy()
    open_hand[8] = [-30, -200]
    palm = np.hypot(*points[[5, 9, 9, 13]].mean(axis=0))
    for tips, top in ((open_hand, -200 - 0.15 * palm), (fist, -100 - 0.22 * palm)):
        box = Hand(tips, np.zeros(21), 1.0, 0.5).make_box()
        # Landmarks that are neither the wrist nor a tip lie at the wrist too.
        np.testing.assert_allclose(box, [-30 - 0.22 * palm, top, 30 + 0.22 * palm, 0.22 * palm])


def test_a_palm_that_points_at_the_camera_is_as_long() -> None:
    points, depth = np.zeros((21, 2)), np.zeros(21)
    depth[[5, 9, 13]] = -100
    np.testing.assert_allclose(Hand(points, depth, 1.0, 0.5).make_box(), [-22, -22, 22, 22])
