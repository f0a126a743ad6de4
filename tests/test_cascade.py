"""The cascade of hand detectors: hands that their detector doubts, and runs in which every detector searches."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from conftest import Box, encode_image, make_worker

from detectime import boxes
from detectime.boxes import Floats
from detectime.detection.cascade import ImageDetections
from detectime.detectors.contract import Detections
from detectime.detectors.registry import FACES, HANDS
from detectime.images import RGB, EncodedImage

FACE, SMALL_FACE = (300, 200, 340, 240), (80, 80, 100, 100)
NEAR = (345, 200, 365, 230)  # touches the context square of 1.5, which ends at x = 380
TWO_LENGTHS_AWAY = (400, 200, 410, 220)  # 80 pixels from the centre of the face, inside the searched square
SURE, DOUBTED = 0.9, 0.1
OUTSIDE = "outside_hands:build"


class FakeHands:
    """A detector that finds the same hands in every image: some near faces, others in whole images."""

    def __init__(self, near: Sequence[tuple[Box, float | None]] = (), anywhere: Sequence[Any] = ()) -> None:
        self.near, self.anywhere = near, anywhere
        self.fingerprint = {"weights": "1"}  # which an outside detector must have

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        return [self._make_detections(self.anywhere if regions is None else self.near) for _ in images]

    def _make_detections(self, hands: Sequence[tuple[Box, float | None]]) -> Detections:
        scores = np.full(len(hands), SURE, np.float32)
        presence = [presence for _, presence in hands]
        known = None if None in presence else np.array(presence, np.float32)
        return Detections(boxes.as_boxes([box for box, _ in hands]), scores, presence=known)


class FakeFaces:
    """A face detector that finds a second, smaller face only where it does not begin at a low resolution."""

    def __init__(self, is_fine: bool) -> None:
        self.found = [FACE, SMALL_FACE] if is_fine else [FACE]

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        return [Detections(boxes.as_boxes(self.found), np.ones(len(self.found), np.float32)) for _ in images]


@pytest.fixture(autouse=True)
def fake_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Substitute the face detector."""

    def build(settings: Any, device: str) -> FakeFaces:
        return FakeFaces(settings.face_first_resolution == settings.face_max_resolution)

    monkeypatch.setitem(FACES, "retinaface", dataclasses.replace(FACES["retinaface"], build=build))


def detect_hands(monkeypatch: pytest.MonkeyPatch, hands: dict[str, FakeHands], **parameters: Any) -> ImageDetections:
    """Run these hand detectors, in this order, on one image; all else is real, so each spec keeps its doubt."""
    for name, fake in hands.items():
        if name in HANDS:
            spec = dataclasses.replace(HANDS[name], build=lambda *_, fake=fake: fake, find_weights=lambda _: [])
            monkeypatch.setitem(HANDS, name, spec)
        else:
            module = types.ModuleType(OUTSIDE.partition(":")[0])
            module.build = lambda *_, fake=fake: fake
            monkeypatch.setitem(sys.modules, module.__name__, module)
    image = EncodedImage(encode_image(np.full((480, 640, 3), 128, np.uint8)))
    (found,) = make_worker(hand_detector=tuple(hands), **parameters).cascade.detect([image])
    return found


def list_searches(found: ImageDetections) -> list[str]:
    """List detector, stage and number of hands of each search."""
    return [f"{search.detector} {search.stage} {len(search.detections)}" for search in found.hands]


@pytest.mark.parametrize(
    ("presences", "searches"),
    [
        pytest.param([SURE], ["hagrid near 1"], id="sure"),
        pytest.param([0.5], ["hagrid near 1"], id="just sure"),
        pytest.param([0.49], ["hagrid near 1", "mediapipe near 1"], id="just doubted"),
        pytest.param([DOUBTED], ["hagrid near 1", "mediapipe near 1"], id="doubted"),
        pytest.param([DOUBTED, SURE], ["hagrid near 2"], id="one of two is sure"),
    ],
)
def test_a_near_hand_that_its_detector_doubts_leaves_the_image_to_the_next(
    presences: list[float], searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hagrid = FakeHands([(NEAR, presence) for presence in presences])
    found = detect_hands(monkeypatch, {"hagrid": hagrid, "mediapipe": FakeHands([(NEAR, SURE)])})
    assert list_searches(found) == searches
    assert len(found.hands[0].detections) == len(presences)  # doubted hands are kept all the same


@pytest.mark.parametrize(
    ("presence", "searches"),
    [
        pytest.param(SURE, ["hagrid fallback 1"], id="sure"),
        pytest.param(DOUBTED, ["hagrid fallback 1", "mediapipe fallback 1"], id="doubted"),
    ],
)
def test_a_doubted_hand_of_the_whole_image_leaves_it_to_the_next(
    presence: float, searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = {
        "hagrid": FakeHands(anywhere=[(TWO_LENGTHS_AWAY, presence)]),
        "mediapipe": FakeHands(anywhere=[(TWO_LENGTHS_AWAY, SURE)]),
    }
    found = detect_hands(monkeypatch, hands, whole_frame=True)
    assert [name for name in list_searches(found) if "near" not in name] == searches


@pytest.mark.parametrize(
    ("hagrid", "mediapipe", "faces"),
    [
        pytest.param(SURE, None, 1, id="sure"),
        pytest.param(DOUBTED, SURE, 1, id="the second is sure"),
        pytest.param(DOUBTED, None, 2, id="doubted"),
    ],
)
def test_smaller_faces_are_searched_for_if_all_near_hands_are_doubted(
    hagrid: float, mediapipe: float | None, faces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = FakeHands([] if mediapipe is None else [(NEAR, mediapipe)])
    found = detect_hands(monkeypatch, {"hagrid": FakeHands([(NEAR, hagrid)]), "mediapipe": second})
    assert len(found.faces) == faces
    assert found.faces.boxes[0].tolist() == list(FACE)


@pytest.mark.parametrize("whole_frame", [False, True])
def test_without_a_coefficient_every_detector_searches_near_faces(
    whole_frame: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = {"hagrid": FakeHands([(NEAR, SURE)]), "mediapipe": FakeHands([(NEAR, SURE)])}
    found = detect_hands(monkeypatch, hands, near_coefficient=0.0, whole_frame=whole_frame)
    assert list_searches(found) == ["hagrid near 1", "mediapipe near 1"]
    assert len(found.faces) == 1  # a hand is near: neither smaller faces nor whole images are searched


def test_without_a_coefficient_a_far_hand_stops_no_further_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near is by the default of the key then: pairing would not take a hand that is two face lengths away."""
    far = FakeHands([(TWO_LENGTHS_AWAY, SURE)], anywhere=[(NEAR, SURE)])
    found = detect_hands(monkeypatch, {"hagrid": far, "mediapipe": far}, near_coefficient=0.0, whole_frame=True)
    assert len(found.faces) == 2
    assert list_searches(found) == ["hagrid near 1", "mediapipe near 1", "hagrid fallback 1"]


@pytest.mark.parametrize("presence", [None, math.nan, 0.0], ids=["none", "nan", "zero"])
@pytest.mark.parametrize(("stage", "whole_frame"), [("near", False), ("fallback", True)])
def test_an_outside_detector_doubts_no_hand(
    stage: str, whole_frame: bool, presence: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its presence means: only the spec of a built-in detector says below which presence a hand is doubted."""
    hand = [(NEAR, presence)]
    outside = FakeHands(hand) if stage == "near" else FakeHands(anywhere=hand)
    hands = {OUTSIDE: outside, "mediapipe": FakeHands(anywhere=[(NEAR, SURE)])}
    found = detect_hands(monkeypatch, hands, whole_frame=whole_frame)
    last = found.hands[-1]
    assert (last.detector, last.stage, len(last.detections)) == (OUTSIDE, stage, 1)
