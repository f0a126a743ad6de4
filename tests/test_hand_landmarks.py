"""The landmark network, which looks at the hand in a region."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import darken, read_image

from detectime import boxes
from detectime.boxes import Floats
from detectime.detectors import hand_landmarks
from detectime.detectors.hand_landmarks import Hand, HandRegion, LandmarkNetwork, make_square_region
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


def make_hand(presence: float, seed: int) -> Hand:
    return Hand(np.random.default_rng(seed).random((21, 2)) * 100, np.zeros(21), presence, 0.5)


def test_a_hand_is_confirmed_and_a_wall_is_not(network: LandmarkNetwork, hands: tuple[RGB, Floats]) -> None:
    image, true = hands
    regions = [make_square_region(box, 2.0) for box in (*true, np.array([20.0, 20, 140, 200]))]
    first, second, other = network.find_landmarks([image] * 3, regions)
    for hand, box in zip((first, second), true, strict=True):
        assert hand.presence > 0.9
        assert boxes.compute_iou(hand.make_box(0.1), box) > 0.7
    assert other.presence < 0.1


def test_a_part_of_a_hand_gives_the_whole_hand(network: LandmarkNetwork, hands: tuple[RGB, Floats]) -> None:
    image, true = hands
    for box in true:
        part = np.concatenate([box[:2], box[2:] - 0.3 * (box[2:] - box[:2])])
        assert boxes.compute_iou(part, box) < 0.5
        (first,) = network.find_landmarks([image], [make_square_region(part, 2.0)])
        (second,) = network.find_landmarks([image], [first.make_region()])
        assert boxes.compute_iou(second.make_box(0.1), box) > 0.7


def test_the_region_of_a_hand_holds_it_with_the_fingers_up(network: LandmarkNetwork, hands: tuple[RGB, Floats]) -> None:
    image, true = hands
    (hand,) = network.find_landmarks([image], [make_square_region(true[0], 2.0)])
    affine = hand.make_region().make_affine()
    inside = (hand.points - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    assert ((inside > 0) & (inside < 224)).all()
    wrist, knuckle = inside[0], inside[[5, 9, 9, 13]].mean(axis=0)
    assert knuckle[1] < wrist[1]
    assert knuckle[0] == pytest.approx(wrist[0])


def test_hands_that_are_not_confirmed_are_looked_at_again(
    network: LandmarkNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[RGB, HandRegion]] = []
    second = [make_hand(0.6, seed=7), make_hand(0.2, seed=8)]

    def look(images: Sequence[RGB], regions: Sequence[HandRegion]) -> list[Hand]:
        asked.extend(zip(images, regions, strict=True))
        return second

    monkeypatch.setattr(network, "find_landmarks", look)
    images = [np.full((9, 9, 3), n, np.uint8) for n in range(3)]
    first = [make_hand(presence, seed) for seed, presence in enumerate((0.3, 0.5, 0.4))]
    assert network.retry_unconfirmed(images, first) == [
        second[0],
        first[1],
        first[2],
    ]  # of each hand the larger presence
    assert [image is images[n] for (image, _), n in zip(asked, (0, 2), strict=True)] == [True, True]
    for (_, region), hand in zip(asked, (first[0], first[2]), strict=True):
        np.testing.assert_array_equal(region.make_affine(), hand.make_region().make_affine())


@pytest.mark.parametrize(("presence", "count"), [(0.0, 0), (0.35, 1), (0.45, 2), (1.0, 3)])
def test_the_presence_of_a_confirmed_hand_can_be_given(
    presence: float, count: int, network: LandmarkNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def look(images: Sequence[RGB], regions: Sequence[HandRegion]) -> list[Hand]:
        asked.append(len(regions))
        return [make_hand(0.0, seed) for seed in range(len(images))]

    monkeypatch.setattr(network, "find_landmarks", look)
    first = [make_hand(value, seed) for seed, value in enumerate((0.3, 0.5, 0.4))]
    assert network.retry_unconfirmed([np.zeros((9, 9, 3), np.uint8)] * 3, first, presence) == first
    assert sum(asked) == count


def test_a_second_look_confirms_a_hand_that_the_first_did_not(
    network: LandmarkNetwork, hands: tuple[RGB, Floats]
) -> None:
    """In a region that is far too large, or that holds only a part of the hand."""
    image, true = hands
    regions = [make_square_region(box, side) for box in true for side in (0.8, 1.6, 4.0, 6.0)]
    first = network.find_landmarks([image] * len(regions), regions)
    again = network.retry_unconfirmed([image] * len(regions), first)
    doubtful = [n for n, hand in enumerate(first) if hand.presence < 0.5]
    assert 0 < len(doubtful) < len(regions)
    assert all(again[n] is hand for n, hand in enumerate(first) if n not in doubtful)
    assert all(again[n].presence >= first[n].presence for n in doubtful)
    assert any(again[n].presence > 0.9 for n in doubtful)


def test_a_dark_hand_is_confirmed(
    network: LandmarkNetwork, hands: tuple[RGB, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, true = hands
    dark = darken(image, 0.04)
    regions = [make_square_region(box, 1.6) for box in true]
    bright = network.find_landmarks([dark] * 2, regions)
    monkeypatch.setattr(hand_landmarks, "brighten_image", lambda pixels: pixels)
    plain = network.find_landmarks([dark] * 2, regions)
    for hand, other, box in zip(bright, plain, true, strict=True):
        assert hand.presence > 0.9
        assert boxes.compute_iou(hand.make_box(0.1), box) > 0.7
        assert other.presence < hand.presence
    assert min(hand.presence for hand in plain) < 0.5


def test_no_regions_give_no_hands(network: LandmarkNetwork) -> None:
    assert network.find_landmarks([], []) == network.retry_unconfirmed([], []) == []


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
