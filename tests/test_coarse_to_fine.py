"""The search for faces from coarse to fine, with a network that finds every white rectangle."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from conftest import Box

from detectime.boxes import Floats
from detectime.detectors.coarse_to_fine import CoarseToFineDetector, CoarseToFineSettings, Confirmation
from detectime.images import RGB

CONFIRMATION = Confirmation(candidate_score=0.3, crop_side=100, crop_coefficient=1.0)


class Rectangles:
    """A network: finds rectangles whose longer side has at least `least` pixels; the score is the area's brightness."""

    def __init__(self, least: int = 8) -> None:
        self.least = least
        self.searched: list[tuple[int, int, float]] = []  # width, height and minimum score of each image

    def find_faces(self, images: Sequence[RGB], confidence: float) -> list[tuple[Floats, Floats]]:
        """Find rectangles."""
        assert len({image.shape for image in images}) == 1
        return [self._find(image, confidence) for image in images]

    def _find(self, image: RGB, confidence: float) -> tuple[Floats, Floats]:
        self.searched.append((image.shape[1], image.shape[0], confidence))
        _, labels, stats, _ = cv2.connectedComponentsWithStats((image[:, :, 0] > 40).astype(np.uint8))
        found, scores = [], []
        for k, (x, y, width, height, _) in enumerate(stats[1:], start=1):
            score = float(np.median(image[:, :, 0][labels == k])) / 255
            if max(width, height) >= self.least and score >= confidence:
                found.append([x, y, x + width, y + height])
                scores.append(score)
        return np.array(found, float).reshape(-1, 4), np.array(scores, np.float32)


def draw(*faces: Box, size: tuple[int, int] = (640, 480), brightness: int = 255) -> RGB:
    """Draw rectangles on black."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for x1, y1, x2, y2 in np.asarray(faces, int):
        image[y1:y2, x1:x2] = brightness
    return image


def make_detector(network: Rectangles, **settings: int) -> CoarseToFineDetector:
    """Make a detector."""
    return CoarseToFineDetector(network.find_faces, CoarseToFineSettings(**settings), CONFIRMATION)


def list_passes(network: Rectangles) -> list[tuple[int, float]]:
    """Return width and minimum score of each search of a whole image, and only the score of each crop."""
    return [(width if width >= 160 else 0, score) for width, _, score in network.searched]


@pytest.mark.parametrize(
    ("length", "passes"),
    [
        pytest.param(96, [(160, 0.3), (0, 0.6)], id="at once"),
        pytest.param(20, [(160, 0.3), (320, 0.3), (0, 0.6)], id="in the second pass"),
        pytest.param(10, [(160, 0.3), (320, 0.3), (640, 0.6)], id="in the last pass, which needs no second look"),
    ],
)
def test_the_resolution_doubles_until_a_face_is_found(length: int, passes: list[tuple[int, float]]) -> None:
    network, face = Rectangles(), (201, 103, 201 + length, 103 + length)
    (found,) = make_detector(network).detect([draw(face)])
    assert list_passes(network) == passes
    np.testing.assert_allclose(found.boxes, [face], atol=3)
    assert found.scores.tolist() == [1]


def test_the_look_at_a_candidate_gives_a_better_box() -> None:
    face = (203, 103, 250, 150)
    (coarse,) = make_detector(Rectangles(), face_max_resolution=160).detect([draw(face)])
    (found,) = make_detector(Rectangles()).detect([draw(face)])
    assert np.abs(found.boxes - face).max() < 0.5 < np.abs(coarse.boxes - face).max()


def test_a_candidate_that_is_not_confirmed_is_dropped() -> None:
    network = Rectangles()
    (found,) = make_detector(network).detect([draw((200, 100, 320, 220), brightness=100)])
    assert len(found) == 0
    assert list_passes(network) == [(160, 0.3), (0, 0.6), (320, 0.3), (0, 0.6), (640, 0.6)]


def test_another_face_in_the_crop_does_not_confirm_a_candidate() -> None:
    """The candidate is too dark to be a face; its crop holds a bright corner of another one."""
    image = np.maximum(draw((200, 100, 300, 200), brightness=100), draw((310, 100, 410, 200)))
    (found,) = make_detector(Rectangles()).detect([image])
    np.testing.assert_allclose(found.boxes, [(310, 100, 410, 200)], atol=3)


def test_with_many_candidates_the_next_resolution_is_searched_at_once() -> None:
    network = Rectangles(least=5)
    faces: list[Box] = [(20 + 80 * k, 100, 60 + 80 * k, 140) for k in range(7)]
    (found,) = make_detector(network).detect([draw(*faces)])
    assert list_passes(network) == [(160, 0.3), (320, 0.3), (640, 0.6)]
    assert len(found) == 7


def test_there_is_one_pass_if_the_first_resolution_is_not_smaller() -> None:
    network = Rectangles()
    (found,) = make_detector(network, face_first_resolution=320, face_max_resolution=320).detect(
        [draw((200, 100, 300, 200))]
    )
    assert list_passes(network) == [(320, 0.6)]
    assert len(found) == 1


def test_an_image_that_would_not_be_shrunk_takes_the_last_pass_alone() -> None:
    network = Rectangles()
    (found,) = make_detector(network).detect([draw((10, 10, 40, 40), size=(120, 90))])
    assert network.searched == [(120, 90, 0.6)]
    assert found.boxes.tolist() == [[10, 10, 40, 40]]


def test_images_of_any_size_are_searched_together_and_each_as_far_as_it_needs() -> None:
    network = Rectangles()
    images = [
        draw((201, 103, 297, 199)),
        draw((10, 10, 40, 40), size=(120, 90)),
        draw(),
        draw((201, 103, 221, 123)),
    ]
    found = make_detector(network).detect(images)
    assert [len(one) for one in found] == [1, 1, 0, 1]
    alone = [make_detector(Rectangles()).detect([image])[0] for image in images]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert sorted(width for width, *_ in network.searched if width >= 120) == [120, *[160] * 3, *[320] * 2, 640]


def test_boxes_are_clipped_to_the_image() -> None:
    def find_too_much(images: Sequence[RGB], _: float) -> list[tuple[Floats, Floats]]:
        outside = [[-50, -50, 40, 40], [-50, -50, -10, -10]]
        return [(np.array(outside, float), np.array([0.9, 0.8], np.float32)) for _ in images]

    settings = CoarseToFineSettings(face_first_resolution=640)
    (found,) = CoarseToFineDetector(find_too_much, settings, CONFIRMATION).detect([draw(size=(100, 80))])
    assert found.boxes.tolist() == [[0, 0, 40, 40]]
