"""The contract of every detector, and the detections of the default ones."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Box, read_image
from numpy.typing import NDArray

from detectime import boxes, paths
from detectime.config import DetectionConfig
from detectime.detectors import onnx
from detectime.detectors.contract import Detections, Detector, DetectorSpec
from detectime.detectors.hagrid import HagridHands
from detectime.detectors.hand_landmarks import Hand, HandRegion
from detectime.detectors.registry import FACES, HANDS, choose_detectors
from detectime.errors import ConfigError
from detectime.images import RGB
from detectime.schema import LANDMARKS
from detectime.storage import downloads

# Detectors of an extra, and the face cache, have tests of their own.
BUILT_IN = [name for name, spec in (FACES | HANDS).items() if not spec.extra and not spec.by_name]
EXTRA = [("detector_type", name) for name in FACES if FACES[name].extra]
EXTRA += [("hand_detector", name) for name in HANDS if HANDS[name].extra]


@pytest.fixture(params=BUILT_IN)
def spec(request: pytest.FixtureRequest) -> DetectorSpec:
    """Return each built-in detector."""
    found = (FACES | HANDS)[request.param]
    if found.pinned:
        request.getfixturevalue(f"{found.name}_weights")
    return found


@pytest.fixture(scope="module")
def frames(shared: Path) -> list[RGB]:
    """Read sixteen real frames of several sizes, with and without hands."""
    root = shared / "frames" / "contest" / "TRAIN_DATA"
    paths = [*root.glob("room/*.jpg"), *root.glob("selfie/*.jpg"), *sorted(root.glob("*_pA/*.jpg"))[::7]][:16]
    images = [read_image(path) for path in paths]
    assert len({image.shape for image in images}) == 3
    return images


def make_noise(width: int, height: int) -> RGB:
    """Make an image of noise."""
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_contract(found: list[Detections], images: list[RGB]) -> None:
    """Assert the properties that every detector guarantees for every image."""
    assert len(found) == len(images)
    for one, image in zip(found, images, strict=True):
        assert one.boxes.dtype == one.scores.dtype == np.float32
        assert one.boxes.shape == (len(one), 4)
        assert one.scores.shape == (len(one),)
        assert ((one.scores >= 0) & (one.scores <= 1)).all()
        x1, y1, x2, y2 = one.boxes.T
        height, width = image.shape[:2]
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
        for probability in (one.presence, one.handedness):
            assert probability is None or ((probability >= 0) & (probability <= 1)).all()


def test_real_frames(spec: DetectorSpec, frames: list[RGB]) -> None:
    found = spec.build(DetectionConfig(), "cpu").detect(frames)
    assert_contract(found, frames)
    assert sum(map(len, found)) >= 4
    assert all((np.diff(one.scores) <= 0).all() for one in found)  # best first


@pytest.mark.parametrize(
    "size", [(1, 1), (31, 7), (1, 20_000), (20_000, 1), (640, 480)], ids=lambda s: f"{s[0]}x{s[1]}"
)
def test_any_size_is_accepted_and_a_black_image_has_no_detections(spec: DetectorSpec, size: tuple[int, int]) -> None:
    detector = spec.build(DetectionConfig(face_confidence=0.3, hand_confidence=0.3, hagrid_confidence=0.3), "cpu")
    dark = np.zeros((size[1], size[0], 3), np.uint8)
    found = detector.detect([dark, make_noise(*size)])
    assert_contract(found, [dark, make_noise(*size)])
    assert len(found[0]) == 0


def test_boxes_are_inside_the_image_at_any_threshold(spec: DetectorSpec) -> None:
    """At a very low threshold noise, or half a frame, gives many boxes, also at the borders."""
    rendered = [read_image(path) for path in sorted(paths.SAMPLE.rglob("*.jpg"))[::40]]
    halves = [np.ascontiguousarray(image[:, image.shape[1] // 2 :]) for image in rendered]
    images = [make_noise(61, 97), make_noise(81, 97), *halves]
    least = DetectionConfig(face_confidence=0.001, hand_confidence=0.001, hagrid_confidence=0.001)
    found = spec.build(least, "cpu").detect(images)
    assert_contract(found, images)
    assert sum(map(len, found)) > 0


def test_an_empty_batch_gives_no_detections(spec: DetectorSpec) -> None:
    assert spec.build(DetectionConfig(), "cpu").detect([]) == []


def test_the_batch_size_does_not_change_detections(spec: DetectorSpec, frames: list[RGB]) -> None:
    detector = spec.build(DetectionConfig(), "cpu")

    def in_groups_of(size: int) -> list[bytes]:
        groups = [detector.detect(frames[i : i + size]) for i in range(0, len(frames), size)]
        return [one.boxes.tobytes() + one.scores.tobytes() for group in groups for one in group]

    together = in_groups_of(16)
    assert len(together) == 16
    assert in_groups_of(1) == in_groups_of(3) == together


@pytest.mark.parametrize(
    ("name", "face", "tolerance"),
    # Boxes in pixels from another implementation of the network; the face of the selfie is twice as large.
    [
        ("room/0001.jpg", (699, 104, 786, 219), 4),
        ("room/0002.jpg", (698, 107, 782, 213), 4),
        ("selfie/0003.jpg", (338, 624, 1007, 1464), 12),
    ],
)
def test_faces_of_retinaface(name: str, face: Box, tolerance: float, shared: Path) -> None:
    image = read_image(shared / "frames" / "contest" / "TRAIN_DATA" / name)
    (once,) = FACES["retinaface"].build(DetectionConfig(face_first_resolution=640), "cpu").detect([image])
    assert len(once) == 1
    np.testing.assert_allclose(once.boxes[0], face, atol=tolerance)
    (coarse_to_fine,) = FACES["retinaface"].build(DetectionConfig(), "cpu").detect([image])
    assert len(coarse_to_fine) == 1
    assert boxes.compute_iou(coarse_to_fine.boxes[0], face) > 0.85


@pytest.fixture(scope="module")
def two_hands(shared: Path) -> tuple[RGB, NDArray[np.float64]]:
    """Return a frame that shows two hands, and their annotated boxes."""
    folder = shared / "frames" / "two_hands"
    name, entry = next(iter(json.loads((folder / "boxes.json").read_text()).items()))
    return read_image(folder / "images" / name), np.array(entry["hands"], float)


@pytest.fixture(scope="module")
def hand_detector() -> Detector:
    """Build the default hand detector."""
    return HANDS["mediapipe"].build(DetectionConfig(), "cpu")


@pytest.mark.parametrize(
    ("regions", "seen"),
    [
        pytest.param(lambda hands: hands, [0, 1], id="both"),
        pytest.param(lambda hands: hands[:1], [0], id="first"),
        pytest.param(lambda hands: hands[1:], [1], id="second"),
        pytest.param(lambda hands: np.repeat(hands, 3, axis=0), [0, 1], id="each three times"),
        pytest.param(lambda hands: hands[:0], [], id="none"),
        pytest.param(lambda hands: hands[:1] - 5000, [], id="outside the image"),
    ],
)
def test_hands_are_searched_only_in_the_regions(
    regions: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seen: list[int],
    two_hands: tuple[RGB, NDArray[np.float64]],
    hand_detector: Detector,
) -> None:
    image, hands = two_hands
    places = regions(boxes.make_context_squares(hands, 0.75))
    found = hand_detector.detect([image, image], [places, places[:0]])
    assert_contract(found, [image, image])
    matches = boxes.compute_iou(found[0].boxes[:, None], hands) > 0.6
    assert matches.sum(axis=0).tolist() == [int(k in seen) for k in (0, 1)]
    assert len(found[0]) == len(seen)
    assert len(found[1]) == 0


def test_a_box_surrounds_the_landmarks(two_hands: tuple[RGB, NDArray[np.float64]]) -> None:
    image, hands = two_hands
    detector = HANDS["mediapipe"].build(DetectionConfig(landmark_margin=0.1), "cpu")
    (found,) = detector.detect([image], [boxes.make_context_squares(hands, 0.75)])
    assert len(found) == 2
    assert found.landmarks is not None
    assert found.presence is not None
    assert found.proposals is not None
    points, depth = found.landmarks[:, :, :2], found.landmarks[:, :, 2]
    margin = 0.1 * (points.max(axis=1) - points.min(axis=1)).max(axis=1, keepdims=True)
    grown = np.concatenate([points.min(axis=1) - margin, points.max(axis=1) + margin], axis=1)
    np.testing.assert_allclose(found.boxes, boxes.clip_boxes(grown, image.shape[1], image.shape[0]), atol=0.01)
    # Depth is in pixels relative to the wrist: no point is farther from it than the hand is long.
    assert (depth[:, 0] == 0).all()
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1)
    farthest = np.abs(depth).max(axis=1)
    assert ((farthest > 0.02 * sides) & (farthest < sides)).all()
    # A hand's score is its presence; the palm is part of the hand.
    np.testing.assert_array_equal(found.scores, found.presence)
    palms = found.proposals[:, :4]
    assert (boxes.compute_overlap(palms, found.boxes) > 0.5 * boxes.compute_area(palms)).all()


@pytest.mark.usefixtures("hagrid_weights")
def test_a_hagrid_box_that_is_a_part_of_the_hand_is_mended(shared: Path) -> None:
    """The network boxes half of the fist of p05/0013; the landmarks have all of it."""
    folder = shared / "frames" / "webcam"
    truth = json.loads((folder / "truth.json").read_text())
    true = np.array(truth["p05/0013.jpg"]["hands"][0])
    (found,) = (
        HANDS["hagrid"].build(DetectionConfig(), "cpu").detect([read_image(folder / "TRAIN_DATA" / "p05" / "0013.jpg")])
    )
    assert found.proposals is not None
    assert found.presence is not None
    assert boxes.compute_iou(found.proposals[0, :4], true) < 0.5
    assert boxes.compute_iou(found.boxes[0], true) > 0.7
    assert found.scores[0] == min(found.presence[0], found.proposals[0, 4]) > 0.9


@pytest.mark.usefixtures("hagrid_weights")
def test_a_hagrid_box_that_is_not_confirmed_keeps_its_box_and_a_low_score(shared: Path) -> None:
    """Of p06/0016 the network boxes a joint of the thumb with a score of .99."""
    image = read_image(shared / "frames" / "webcam" / "TRAIN_DATA" / "p06" / "0016.jpg")
    (found,) = HANDS["hagrid"].build(DetectionConfig(), "cpu").detect([image])
    assert found.proposals is not None
    assert found.presence is not None
    doubtful = np.flatnonzero(found.presence < 0.5)
    assert len(doubtful) == 1
    assert found.proposals[doubtful, 4] > 0.7
    np.testing.assert_array_equal(found.scores[doubtful], found.presence[doubtful])
    assert boxes.compute_iou(found.boxes[doubtful], found.proposals[doubtful, :4]) > 0.5


def test_mirroring_swaps_the_handedness(two_hands: tuple[RGB, NDArray[np.float64]], hand_detector: Detector) -> None:
    image, hands = two_hands
    x1, y1, x2, y2 = hands.T
    flipped = np.stack([image.shape[1] - x2, y1, image.shape[1] - x1, y2], axis=1)
    for place, mirrored in zip(hands, flipped, strict=True):
        pictures = [image, np.ascontiguousarray(image[:, ::-1])]
        places = [boxes.make_context_squares(box[None], 0.75) for box in (place, mirrored)]
        (right,), (left,) = (found.handedness for found in hand_detector.detect(pictures, places))
        assert right == pytest.approx(1 - left, abs=0.1)
        assert abs(right - 0.5) > 0.3  # a confident probability


@pytest.mark.usefixtures("yunet_weights")
@pytest.mark.parametrize("name", ["retinaface", "yunet"])
def test_face_detectors_reject_regions(name: str) -> None:
    with pytest.raises(NotImplementedError):
        FACES[name].build(DetectionConfig(), "cpu").detect([make_noise(9, 9)], [np.empty((0, 4))])


GOOD = {
    "boxes": np.zeros((2, 4), np.float32),
    "scores": np.zeros(2, np.float32),
    "landmarks": np.zeros((2, 21, 3), np.float32),
    "presence": np.zeros(2, np.float32),
    "handedness": np.zeros(2, np.float32),
    "proposals": np.zeros((2, 5), np.float32),
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param("boxes", np.zeros((1, 4), np.float32), id="counts"),
        pytest.param("boxes", np.zeros((2, 5), np.float32), id="columns"),
        pytest.param("boxes", np.zeros(4, np.float32), id="one row"),
        pytest.param("boxes", np.zeros((2, 4)), id="float64 boxes"),
        pytest.param("scores", np.zeros(2), id="float64 scores"),
        pytest.param("scores", np.zeros((2, 1), np.float32), id="a score in two dimensions"),
        pytest.param("landmarks", np.zeros((2, 63), np.float32), id="flat landmarks"),
        pytest.param("landmarks", np.zeros((2, 20, 3), np.float32), id="landmarks"),
        pytest.param("landmarks", np.zeros((2, 21, 3)), id="float64 landmarks"),
        pytest.param("presence", np.zeros(3, np.float32), id="presence"),
        pytest.param("handedness", np.zeros(1, np.float32), id="handedness"),
        pytest.param("proposals", np.zeros((2, 4), np.float32), id="proposals"),
    ],
)
def test_detections_of_another_shape_or_dtype_are_rejected(name: str, values: np.ndarray) -> None:
    assert len(Detections(**GOOD)) == 2
    with pytest.raises(ValueError, match=r"; expected "):
        Detections(**GOOD | {name: values})


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
@pytest.mark.parametrize(("key", "name"), EXTRA)
def test_a_missing_extra_is_named(key: str, name: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        choose_detectors(DetectionConfig(**{key: name})).check()
    for words in (f"detection.{key} = '{name}': needs torch", "-e '.[torch]'"):
        assert words in str(refusal.value)


def test_the_fingerprint_names_every_weights_file(spec: DetectorSpec) -> None:
    files = {path.name: path for path in spec.find_weights(DetectionConfig())}
    assert files
    expected = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert spec.fingerprint(DetectionConfig()) == expected


def test_missing_packaged_weights_are_named() -> None:
    with pytest.raises(downloads.WeightsError, match=r"nothing\.onnx: packaged weights are missing; reinstall"):
        downloads.find_packaged_weights("nothing.onnx")


def test_a_session_runs_on_one_thread() -> None:
    options = onnx.open_session(downloads.find_packaged_weights("palm_detection.onnx")).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_a_session_has_the_sizes_that_are_asked_for() -> None:
    weights = downloads.find_packaged_weights("palm_detection.onnx")
    assert onnx.open_session(weights).get_inputs()[0].shape == ["N", "height", "width", 3]
    session = onnx.open_session(weights, dimensions={"height": 160, "width": 96})
    assert session.get_inputs()[0].shape == ["N", 160, 96, 3]


# -- how `hagrid` uses the landmarks, with a landmark network of known answers


HAGRID_BOX = np.array([100.0, 100, 140, 150])
GROWTH = np.array([0, 0, 10, 5])


def make_hand_around(box: NDArray[np.float64], presence: float) -> Hand:
    """Make a hand whose landmarks fill a box."""
    points = np.linspace(box[:2], box[2:], LANDMARKS)
    return Hand(points, np.zeros(LANDMARKS), presence, 0.5)


class FakeLandmarks:
    """A landmark network that finds the same hands, whatever the regions."""

    def __init__(self, hands: list[Hand]) -> None:
        self.hands = hands

    def find_landmarks(self, images: list[RGB], regions: list[HandRegion]) -> list[Hand]:
        assert len(images) == len(regions) == len(self.hands)
        return self.hands

    def retry_unconfirmed(self, images: list[RGB], hands: list[Hand]) -> list[Hand]:
        return hands


def refine_boxes(boxes_and_scores: list[tuple[NDArray[np.float64], float]], hands: list[Hand]) -> Detections:
    """Refine boxes in an image of 320 × 240; without a margin the box around a hand is that around its landmarks."""
    detector = HagridHands.__new__(HagridHands)  # without its weights
    detector.margin = 0.0
    detector._landmarks = FakeLandmarks(hands)
    found, scores = zip(*boxes_and_scores, strict=True)
    return detector._refine_boxes(np.zeros((240, 320, 3), np.uint8), np.array(found), np.array(scores))


def test_a_hagrid_box_that_agrees_with_the_landmarks_is_averaged() -> None:
    hand = make_hand_around(HAGRID_BOX + GROWTH, 0.6)
    found = refine_boxes([(HAGRID_BOX, 0.8)], [hand])
    share = 0.6**2 / (0.8**2 + 0.6**2)  # 0.36
    np.testing.assert_allclose(found.boxes, [HAGRID_BOX + share * GROWTH], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.6])
    np.testing.assert_allclose(found.proposals, [[*HAGRID_BOX, 0.8]])


@pytest.mark.parametrize(("presence", "is_moved"), [(0.3, False), (0.89, False), (0.9, True), (0.99, True)])
def test_a_hagrid_box_that_differs_from_the_landmarks_is_theirs_if_they_are_sure(
    presence: float, is_moved: bool
) -> None:
    whole = np.array([90.0, 60, 190, 180])
    assert boxes.compute_iou(HAGRID_BOX, whole) < 0.5
    found = refine_boxes([(HAGRID_BOX, 0.95)], [make_hand_around(whole, presence)])
    np.testing.assert_allclose(found.boxes, [whole if is_moved else HAGRID_BOX])
    np.testing.assert_allclose(found.scores, [min(presence, 0.95)], rtol=1e-6)


def test_hagrid_returns_no_box_of_landmarks_outside_the_image() -> None:
    outside, at_the_edge = np.array([330.0, 20, 360, 60]), np.array([300.0, 20, 340, 60])
    found = refine_boxes(
        [(HAGRID_BOX, 0.9), (HAGRID_BOX + 100, 0.9), (HAGRID_BOX, 0.8)],
        [make_hand_around(outside, 0.99), make_hand_around(at_the_edge, 0.95), make_hand_around(HAGRID_BOX, 0.7)],
    )
    np.testing.assert_allclose(found.boxes, [[300, 20, 320, 60], HAGRID_BOX])
    np.testing.assert_allclose(found.presence, [0.95, 0.7], rtol=1e-6)  # each array has the hands that are left
    np.testing.assert_allclose(found.proposals[:, 4], [0.9, 0.8], rtol=1e-6)


def test_hagrid_may_return_no_box_at_all() -> None:
    assert len(refine_boxes([(HAGRID_BOX, 0.9)], [make_hand_around(np.array([330.0, 20, 360, 60]), 0.99)])) == 0


def test_two_hagrid_boxes_of_parts_of_one_hand_become_one() -> None:
    whole = np.array([90.0, 60, 190, 180])
    other = HAGRID_BOX + np.array([50, 0, 50, 0])
    found = refine_boxes(
        [(HAGRID_BOX, 0.95), (other, 0.97)], [make_hand_around(whole, 0.98), make_hand_around(whole, 0.96)]
    )
    np.testing.assert_allclose(found.boxes, [whole])
    np.testing.assert_allclose(found.scores, [0.96], rtol=1e-6)
