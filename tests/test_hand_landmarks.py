"""The landmark network, which looks at the hand in a region."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import read_image

from detectime import boxes
from detectime.boxes import Floats
from detectime.detectors.hand_landmarks import LandmarkNetwork, make_square_region
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
