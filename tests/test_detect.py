"""The worker and the cascade: which detector searches which frame, the units of boxes, and the effect of bad frames."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from conftest import PER_HAND, Box, draw_noise, draw_pattern, encode_image, make_worker, measure_memory, read_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from detectime import boxes, paths
from detectime.boxes import Floats
from detectime.config import DetectionConfig
from detectime.detection.cascade import HandDetections
from detectime.detection.worker import Worker
from detectime.detectors.contract import Detections, DetectorSpec, FaceSettings
from detectime.detectors.registry import FACES, HANDS, Chosen, choose_detectors
from detectime.errors import ConfigError
from detectime.images import RGB, EncodedImage, describe_content, hash_crop, shrink_image
from detectime.schema import DETECTIONS
from detectime.sources.folder import FolderSource

CASCADE = "hagrid,mediapipe"


@pytest.fixture(scope="module")
def contest(shared: Path) -> Path:
    """Return the folder of the contest's frames."""
    return shared / "frames" / "contest" / "TRAIN_DATA"


def open_image(path: Path) -> EncodedImage:
    """Open an image file."""
    return EncodedImage(path.read_bytes())


# -- the cascade, with detectors of coloured areas


COLOURS = {"face": (20, 20, 230), "red": (230, 20, 20), "green": (20, 230, 20)}
CELL, INSET = 16, 2  # pixels


class ColourDetector:
    """A detector of the areas of one colour; with regions, of those that overlap one."""

    def __init__(self, colour: tuple[int, int, int]) -> None:
        self.colour = colour
        self.seen: list[tuple[int, ...]] = []

    def detect(self, images: Sequence[RGB], regions: Sequence[Floats] | None = None) -> list[Detections]:
        each = [None] * len(images) if regions is None else regions
        return [self._detect(image, own) for image, own in zip(images, each, strict=True)]

    def _detect(self, image: RGB, regions: Floats | None) -> Detections:
        self.seen.append(image.shape[:2])
        mask = np.abs(image.astype(int) - self.colour).max(axis=2) < 100
        areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:]
        x, y, width, height, _ = areas[areas[:, 4] > 20].T  # smaller ones are JPEG artefacts at edges
        found = np.column_stack([x, y, x + width, y + height])
        if regions is not None:
            found = found[(boxes.compute_overlap(found[:, None], regions) > 0).any(axis=1)]
        return Detections(boxes.as_boxes(found), np.ones(len(found), np.float32))


def make_spec(name: str, detector: Any, **values: Any) -> DetectorSpec:
    """Make the spec of a detector object without settings."""
    settings = FaceSettings if name in ("face", "failing") else NoSettings
    return DetectorSpec(
        name, settings, lambda _, device: detector, lambda _: [], reach=10.0, own_fingerprint=lambda _: {}, **values
    )


@dataclass(frozen=True)
class NoSettings:
    """The settings of a detector without any."""


@pytest.fixture
def coloured(monkeypatch: pytest.MonkeyPatch) -> dict[str, ColourDetector]:
    """Register a detector for each colour; `green` needs full resolution."""
    made = {name: ColourDetector(colour) for name, colour in COLOURS.items()}
    for name, detector in made.items():
        monkeypatch.setitem(
            FACES if name == "face" else HANDS, name, make_spec(name, detector, reduced=name != "green")
        )
    return made


def make_colour_worker(**parameters: Any) -> Worker:
    """Build a worker with colour detectors."""
    return make_worker(**{"detector_type": "face", "hand_detector": "red,green", **parameters})


def draw(rows: Sequence[str], cell: int = CELL) -> NDArray[np.uint8]:
    """Draw a sketch: ``F`` is a face, ``r`` and ``g`` are red and green hands, anything else is background."""
    image = np.full((len(rows) * cell, len(rows[0]) * cell, 3), 128, np.uint8)
    for name, found in ((name, list_boxes(rows, name, cell)) for name in COLOURS):
        for x1, y1, x2, y2 in found:
            image[y1:y2, x1:x2] = COLOURS[name]
    return image


def list_boxes(rows: Sequence[str], name: str, cell: int = CELL) -> list[tuple[int, int, int, int]]:
    """List the boxes of a colour in a sketch."""
    inset = cell * INSET // CELL
    return [
        (x * cell + inset, y * cell + inset, (x + 1) * cell - inset, (y + 1) * cell - inset)
        for y, row in enumerate(rows)
        for x, kind in enumerate(row)
        if kind == {"face": "F", "red": "r", "green": "g"}[name]
    ]


def list_searches(hands: Sequence[HandDetections]) -> list[tuple[str, str, list[Box]]]:
    """Convert searches to the form of `search_slowly`."""
    return [
        (search.detector, search.stage, [tuple(box) for box in search.detections.boxes.tolist()]) for search in hands
    ]


@pytest.mark.parametrize(
    ("sketch", "parameters", "searches"),
    [
        pytest.param("rF.g", {}, ["red near 1"], id="the first finds one near"),
        pytest.param("r.Fg", {}, ["red near 1", "green near 1"], id="the first finds one far away"),
        pytest.param("..F.", {}, ["red near 0", "green near 0"], id="no hand"),
        pytest.param("r..g", {}, [], id="no face"),
        pytest.param("r.Fg", {"near_coefficient": 2.5}, ["red near 1"], id="near reaches farther"),
        pytest.param("rF.g", {"near_coefficient": 0.0}, ["red near 1", "green near 1"], id="every detector searches"),
        pytest.param("r.Fg", {"search_coefficient": 1.5}, ["red near 0", "green near 1"], id="searched nearby"),
        pytest.param("gFr.", {"hand_detector": "green,red"}, ["green near 1"], id="another order"),
        pytest.param("rF.g", {"search": "frame"}, ["red frame 1"], id="searched anywhere"),
        pytest.param("r..g", {"search": "frame"}, [], id="searched anywhere, no face"),
        pytest.param("rF.g", {"whole_frame": True}, ["red near 1"], id="whole frame, near"),
        pytest.param(
            "r.F.", {"whole_frame": True}, ["red near 1", "green near 0", "red fallback 1"], id="whole frame, far"
        ),
        pytest.param(
            ["F.g", "...", "..."],
            {"whole_frame": True, "search_coefficient": 1.0},
            ["red near 0", "green near 0", "red fallback 0", "green fallback 1"],
            id="whole frame, found by the second",
        ),
        pytest.param("r..g", {"whole_frame": True}, ["red fallback 1"], id="whole frame, no face"),
        pytest.param("...g", {"whole_frame": True}, ["red fallback 0", "green fallback 1"], id="whole frame, second"),
        pytest.param(
            "r.F.",
            {"whole_frame": True, "search": "frame"},
            ["red frame 1", "green frame 0"],
            id="whole frame, searched before",
        ),
        pytest.param(
            "r...", {"whole_frame": True, "search": "frame"}, ["red fallback 1"], id="whole frame, searched, no face"
        ),
    ],
)
def test_which_searches_are_made(
    sketch: str | list[str], parameters: dict[str, Any], searches: list[str], coloured: dict[str, ColourDetector]
) -> None:
    rows = [sketch] if isinstance(sketch, str) else sketch
    ((faces, hands),) = make_colour_worker(**parameters).cascade.detect([EncodedImage(encode_image(draw(rows)))])
    assert [tuple(box) for box in faces.boxes.tolist()] == list_boxes(rows, "face")
    assert [f"{search.detector} {search.stage} {len(search.detections)}" for search in hands] == searches
    for detector, _, found in list_searches(hands):
        assert set(found) <= set(list_boxes(rows, detector))


def compute_overlap(a: Box, b: Box) -> float:
    """Compute the common area of two boxes."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def enlarge(face: Box, coefficient: float) -> Box:
    """Enlarge a square box."""
    more = (coefficient - 0.5) * (face[2] - face[0])
    return face[0] - more, face[1] - more, face[2] + more, face[3] + more


def search_slowly(rows: Sequence[str], config: DetectionConfig) -> list[tuple[str, str, list[Box]]]:
    """Search one frame in the order of the documentation: the oracle."""
    faces = list_boxes(rows, "face")
    taken: list[tuple[str, str, list[Box]]] = []

    near = config.near_coefficient or 1.5  # 0 has every detector search; near is by the default then

    def is_near() -> bool:
        return any(
            compute_overlap(enlarge(face, near), hand) > 0 for _, _, found in taken for hand in found for face in faces
        )

    for detector in config.hand_detector:
        if faces and (not config.near_coefficient or not is_near()):
            found: list[Box] = [*list_boxes(rows, detector)]
            if config.search == "frame":
                taken.append((detector, "frame", found))
            else:
                reach = config.search_coefficient or 10
                seen = [
                    hand for hand in found if any(compute_overlap(enlarge(face, reach), hand) > 0 for face in faces)
                ]
                taken.append((detector, "near", seen))
    is_searched = config.search == "frame" and faces  # the whole frame
    for detector in config.hand_detector if config.whole_frame and not is_searched else ():
        there = any(found for _, stage, found in taken if stage == "fallback")
        if not is_near() and not there:
            taken.append((detector, "fallback", [*list_boxes(rows, detector)]))
    return taken


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.lists(st.text("....Frg", min_size=5, max_size=5), min_size=3, max_size=3)
        | st.just(["F..r."])  # of another size
        | st.just(["r....", "....g"]),
        max_size=5,
    ),
    st.sampled_from(["red", "green", "red,green", "green,red"]),
    st.sampled_from([0.0, 1.5, 2.5]),
    st.sampled_from([None, 1.0, 2.5]),
    st.sampled_from([None, "face", "frame"]),
    st.booleans(),
)
def test_random_frames_are_looked_at_as_the_configuration_says(
    coloured: dict[str, ColourDetector],
    frames: list[list[str]],
    hand_detector: str,
    near: float,
    reach: float | None,
    search: str | None,
    whole_frame: bool,
) -> None:
    worker = make_colour_worker(
        hand_detector=hand_detector,
        near_coefficient=near,
        search_coefficient=reach,
        search=search,
        whole_frame=whole_frame,
    )
    found = worker.cascade.detect([EncodedImage(encode_image(draw(rows))) for rows in frames])
    assert [list_searches(hands) for _, hands in found] == [search_slowly(rows, worker.config) for rows in frames]


def test_an_image_without_further_search_is_not_decoded_again(coloured: dict[str, ColourDetector]) -> None:
    make_colour_worker(whole_frame=True).cascade.detect(
        [EncodedImage(encode_image(draw(["rF"]))), EncodedImage(encode_image(draw(["..F", "..."])))]
    )
    assert coloured["red"].seen == [(16, 32), (32, 48), (32, 48)]
    assert coloured["green"].seen == [(32, 48), (32, 48)]


# -- the pixels that boxes refer to


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(
    ("cell", "seen_by_face", "seen_by_red"),
    [
        # A face of 120 pixels has 15 at an eighth of the size; hands are searched where it has 60.
        pytest.param(160, 8, 2, id="hands need more pixels"),
        pytest.param(640, 8, 8, id="hands need no more pixels"),
    ],
)
def test_boxes_in_reduced_frames_are_in_pixels_of_the_full_frame(
    cell: int, seen_by_face: int, seen_by_red: int, orientation: int, coloured: dict[str, ColourDetector]
) -> None:
    rows = [".F....", "r....g", "......"] if cell == 160 else ["rF", ".g"]
    upright = draw(rows, cell)
    stored = {1: upright, 3: np.rot90(upright, 2), 6: np.rot90(upright)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame = EncodedImage(encode_image(np.ascontiguousarray(stored), "JPEG", exif=exif, subsampling=0), exif="apply")
    assert (frame.width, frame.height) == (upright.shape[1], upright.shape[0])
    worker = make_colour_worker(face_max_resolution=100, near_coefficient=0.0)
    ((faces, hands),) = worker.cascade.detect([frame])

    def size(factor: int) -> tuple[int, int]:
        return frame.height // factor, frame.width // factor

    assert {name: detector.seen for name, detector in coloured.items()} == {
        "face": [size(seen_by_face)],
        "red": [size(seen_by_red)],
        "green": [size(1)],  # it needs full resolution
    }
    np.testing.assert_allclose(faces.boxes, list_boxes(rows, "face", cell), atol=seen_by_face)
    for search, tolerance in zip(hands, (seen_by_red, 2), strict=True):
        np.testing.assert_allclose(search.detections.boxes, list_boxes(rows, search.detector, cell), atol=tolerance)


def test_without_reduced_decoding_detectors_get_every_pixel(coloured: dict[str, ColourDetector]) -> None:
    rows = ["rFg"]
    worker = make_colour_worker(face_max_resolution=100, near_coefficient=0.0, reduced_decoding=False)
    worker.cascade.detect([EncodedImage(encode_image(draw(rows, 320), "JPEG"))])
    assert [detector.seen for detector in coloured.values()] == [[(320, 960)]] * 3


def test_boxes_are_in_pixels_of_the_frame_at_any_resolution(contest: Path, worker: Worker) -> None:
    """A frame below `face_max_resolution`, and the same frame twice as large, above it."""
    small = read_image(contest / "room" / "0001.jpg")[::2, ::2]
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    (faces, _), (larger_faces, _) = worker.cascade.detect(
        [EncodedImage(encode_image(image)) for image in (small, large)]
    )
    assert len(faces) == 1
    np.testing.assert_allclose(larger_faces.boxes, 2 * faces.boxes, atol=3)


@pytest.mark.parametrize("name", ["selfie/0003.jpg", "room/0001.jpg"])
def test_reduced_decoding_finds_the_same(name: str, contest: Path) -> None:
    """The frames are enlarged to the size of a camera's, so that they are reduced at all."""
    image = cv2.resize(read_image(contest / name), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    frame = EncodedImage(encode_image(image, "JPEG"))
    (reduced,), (full,) = (make_worker(reduced_decoding=way).cascade.detect([frame]) for way in (True, False))
    assert len(reduced.hands) == len(full.hands) == 1
    hands, full_hands = reduced.hands[0].detections, full.hands[0].detections
    for found, expected in ((reduced.faces, full.faces), (hands, full_hands)):
        assert len(found) == len(expected) == 1
        assert boxes.compute_iou(found.boxes[0], expected.boxes[0]) > 0.9
    assert hands.landmarks is not None
    assert hands.proposals is not None
    assert full_hands.landmarks is not None
    assert full_hands.proposals is not None
    side = float((full_hands.boxes[0, 2:] - full_hands.boxes[0, :2]).max())
    np.testing.assert_allclose(hands.landmarks[0], full_hands.landmarks[0], atol=0.1 * side)
    assert boxes.compute_iou(hands.proposals[0, :4], full_hands.proposals[0, :4]) > 0.8
    assert np.abs(full_hands.landmarks[0, :, 2]).max() > 0.1 * side  # so an error in z would show


# -- real detectors


def test_a_frame_without_a_face_has_no_hands(shared: Path, worker: Worker) -> None:
    image = read_image(shared / "frames" / "contest" / "TRAIN_DATA" / "closer_pA" / "0034.jpg")
    ((faces, hands),) = worker.cascade.detect([EncodedImage(encode_image(image))])
    assert [len(faces), *(len(search.detections) for search in hands)] == [1, 1]
    x1, y1, x2, y2 = boxes.round_outward(hands[0].detections.boxes[0])
    alone = EncodedImage(encode_image(np.ascontiguousarray(image[y1:y2, x1:x2])))
    assert len(HANDS["mediapipe"].build(DetectionConfig(), "cpu").detect([alone.read_pixels()])[0]) == 1
    ((faces, hands),) = worker.cascade.detect([alone])
    assert (len(faces), hands) == (0, [])
    ((faces, (search,)),) = make_worker(whole_frame=True).cascade.detect([alone])
    assert (search.detector, search.stage, len(search.detections)) == ("mediapipe", "fallback", 1)


@pytest.mark.usefixtures("hagrid_weights")
def test_the_second_detector_finds_a_hand_that_the_first_overlooks(contest: Path) -> None:
    looks = {
        names: [(search.detector, search.stage, len(search.detections)) for search in hands]
        for names in ("hagrid", CASCADE)
        for _, hands in make_worker(hand_detector=names).cascade.detect([open_image(contest / "selfie" / "0003.jpg")])
    }
    assert looks == {"hagrid": [("hagrid", "near", 0)], CASCADE: [("hagrid", "near", 0), ("mediapipe", "near", 1)]}


@pytest.mark.usefixtures("hagrid_weights")
def test_the_second_detector_skips_a_frame_where_the_first_found_a_hand(contest: Path) -> None:
    ((_, hands),) = make_worker(hand_detector=CASCADE).cascade.detect([open_image(contest / "palm_pA" / "0034.jpg")])
    assert [(search.detector, search.stage, len(search.detections)) for search in hands] == [("hagrid", "near", 1)]


def test_a_worker_returns_the_schema(worker: Worker, contest: Path) -> None:
    table = worker(FolderSource(str(contest)), ["room/0001.jpg", "nowhere.jpg", "room/0002.jpg"])
    assert table.schema == DETECTIONS == worker(FolderSource(str(contest)), []).schema
    first, lost, second = table.to_pylist()
    assert (first["outcome"], first["width"], first["height"], lost["outcome"]) == ("ok", 1280, 720, "missing")
    assert {(box["detector"], box["stage"]) for box in first["faces"] + second["faces"]} == {("retinaface", "frame")}
    assert {(box["detector"], box["stage"]) for box in first["hands"] + second["hands"]} == {("mediapipe", "near")}
    assert first["content"] == describe_content((contest / "room" / "0001.jpg").read_bytes())
    assert (lost["content"], lost["stamp"], first["stamp"]) == (None, None, None)  # only the driver knows stamps


def test_a_row_has_one_element_per_hand(contest: Path) -> None:
    worker = make_worker(reduced_decoding=False)
    path = contest / "room" / "0001.jpg"
    (row,) = worker(FolderSource(str(contest)), ["room/0001.jpg"]).to_pylist()
    ((faces, (search,)),) = worker.cascade.detect([open_image(path)])
    assert len(faces) == 1
    assert {column: len(row[column]) for column in ("hands", *PER_HAND)} == dict.fromkeys(("hands", *PER_HAND), 1)
    found = search.detections
    assert found.landmarks is not None
    assert found.presence is not None
    assert found.handedness is not None
    assert found.proposals is not None
    np.testing.assert_array_equal(row["landmarks"][0], found.landmarks[0].ravel())
    assert row["presence"] == found.presence.tolist()
    assert row["handedness"] == found.handedness.tolist()
    assert list(row["proposal"][0].values()) == found.proposals[0].tolist()
    assert row["crop_hash"] == [hash_crop(read_image(path), found.boxes[0])]


@pytest.mark.parametrize("name", ["room/0001.jpg", "selfie/0003.jpg", "palm_pA/0034.jpg"])
def test_the_crop_hash_hardly_depends_on_the_decoded_size(name: str, contest: Path, worker: Worker) -> None:
    (row,) = worker(FolderSource(str(contest)), [name]).to_pylist()
    image = read_image(contest / name)
    assert len(row["hands"]) == 1
    for hand, found in zip(row["hands"], row["crop_hash"], strict=True):
        whole = hash_crop(image, [hand[corner] for corner in ("x1", "y1", "x2", "y2")])
        assert whole is not None
        assert (int.from_bytes(whole) ^ int.from_bytes(found)).bit_count() <= 31  # PDQ's limit for similar images


@pytest.mark.usefixtures("hagrid_weights")
def test_hands_of_both_detectors_have_landmarks(contest: Path) -> None:
    worker = make_worker(hand_detector=CASCADE, near_coefficient=0.0)
    (row,) = worker(FolderSource(str(contest)), ["palm_pA/0034.jpg"]).to_pylist()
    assert {box["detector"] for box in row["hands"]} == {"hagrid", "mediapipe"}
    for column in PER_HAND:
        assert len(row[column]) == len(row["hands"])
        assert None not in row[column]


@pytest.mark.parametrize(("exif", "size"), [("ignore", (64, 48)), ("apply", (48, 64))])
def test_the_orientation_is_recorded_whether_it_is_applied_or_not(
    exif: str, size: tuple[int, int], tmp_path: Path
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encode_image(draw_pattern(), "JPEG", exif=turned))
    (row,) = make_worker(exif=exif)(FolderSource(str(tmp_path)), ["a.jpg"]).to_pylist()
    assert (row["orientation"], (row["width"], row["height"])) == (6, size)


# -- batches


def test_the_batch_size_changes_no_byte(contest: Path, tmp_path: Path, hagrid_weights: Path) -> None:
    good = ["room/0001.jpg", "closer_pA/0034.jpg", "palm_pA/0034.jpg", "selfie/0003.jpg", "down_pA/0034.jpg"]
    for name in good:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(contest / name)
    content = (contest / good[0]).read_bytes()
    (tmp_path / "cut off.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").touch()
    names = [*good[:2], "cut off.jpg", *good[2:4], "nowhere.jpg", "empty.jpg", *good[4:], "nowhere either.jpg"]
    tables, positions = {}, {}
    for batch in (1, 3, 16):
        worker = make_worker(hand_detector=CASCADE, whole_frame=True, batch=batch)
        positions[batch] = []
        tables[batch] = worker(FolderSource(str(tmp_path)), names, positions[batch].append)
    for row in tables[1].to_pylist():
        file = tmp_path / row["frame_path"]
        assert row["content"] == (describe_content(file.read_bytes()) if file.exists() else None)
    assert tables[3].equals(tables[1])
    assert tables[16].equals(tables[1])
    outcomes = dict(zip(names, tables[1]["outcome"].to_pylist(), strict=True))
    assert outcomes == dict.fromkeys(good, "ok") | {
        "cut off.jpg": "unreadable",
        "empty.jpg": "unreadable",
        "nowhere.jpg": "missing",
        "nowhere either.jpg": "missing",
    }
    assert all(row["faces"] and row["hands"] for row in tables[1].to_pylist() if row["outcome"] == "ok")
    # Within a batch the current frame is unknown.
    assert positions[1] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert positions[3] == [None] * (9 + 3)
    assert positions[16] == [None] * (9 + 1)


def test_the_pixels_of_a_batch_are_limited(tmp_path: Path) -> None:
    worker = Worker(choose_detectors(DetectionConfig(batch=16)), batch_pixels=100)
    for name, side in (("a.png", 9), ("b.png", 9), ("c.png", 30), ("d.png", 5)):
        (tmp_path / name).write_bytes(encode_image(Image.new("RGB", (side, side))))
    positions: list[int | None] = []
    table = worker(FolderSource(str(tmp_path)), ["a.png", "b.png", "c.png", "d.png"], positions.append)
    assert positions == [None] * (4 + 3)
    assert table["width"].to_pylist() == [9, 9, 30, 5]


class FailingDetector:
    """A detector that fails on wide images."""

    def detect(self, images: Sequence[RGB], regions: object = None) -> list[Detections]:
        if any(image.shape[1] > image.shape[0] for image in images):
            raise MemoryError("too wide " + "x" * 10_000)
        return [Detections.none() for _ in images]


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_an_error_of_a_detector_fails_one_frame(batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACES, "failing", make_spec("failing", FailingDetector()))
    (tmp_path / "wide.png").write_bytes(encode_image(Image.new("RGB", (9, 5))))
    (tmp_path / "high.png").write_bytes(encode_image(Image.new("RGB", (5, 9))))
    worker = make_worker(detector_type="failing", batch=batch)
    names = ["high.png", "wide.png", "high.png", "gone.png", "high.png", "wide.png"]
    rows = worker(FolderSource(str(tmp_path)), names).to_pylist()
    assert [row["outcome"] for row in rows] == ["ok", "failed", "ok", "missing", "ok", "failed"]
    assert rows[1]["error"].startswith("MemoryError: too wide")
    assert len(rows[1]["error"]) <= 500


# -- invalid configurations


@pytest.mark.parametrize("key", ["detector_type", "hand_detector"])
def test_an_unknown_detector_is_rejected(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"detection\.{key}: there is no detector 'retinafaces'; .*accepted: "):
        make_worker(**{key: "retinafaces"})


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="onnxruntime has the CUDA provider"
)
@pytest.mark.parametrize("refuse", [Worker, Chosen.check])
def test_a_missing_gpu_is_rejected_before_any_frame_is_read(refuse: Any) -> None:
    with pytest.raises(ConfigError) as refusal:
        refuse(choose_detectors(DetectionConfig(device="cuda")))
    for words in ("detection.device = 'cuda'", "onnxruntime", "accepted here: auto, cpu"):
        assert words in str(refusal.value)


# -- extreme sizes


@pytest.mark.parametrize("whole_frame", [False, True])
@pytest.mark.parametrize("hand_detector", ["mediapipe", CASCADE])
def test_extreme_sizes(hand_detector: str, whole_frame: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if hand_detector == CASCADE:
        request.getfixturevalue("hagrid_weights")
    sizes = [(1, 1), (20_000, 50), (50, 20_000)]
    for width, height in sizes:
        noise = draw_noise(width, height, seed=width)
        for kind in ("JPEG", "PNG"):
            (tmp_path / f"{width}.{kind}").write_bytes(encode_image(noise, kind))
    worker = make_worker(hand_detector=hand_detector, whole_frame=whole_frame, batch=4)
    names = [f"{width}.{kind}" for width, _ in sizes for kind in ("JPEG", "PNG")]
    for row, size in zip(
        worker(FolderSource(str(tmp_path)), names).to_pylist(), np.repeat(sizes, 2, axis=0), strict=True
    ):
        assert (row["outcome"], row["error"], row["width"], row["height"]) == ("ok", None, *size)


MAKE = """
import sys
from PIL import Image
Image.new("RGB", (12_000, 9_000), (40, 90, 150)).save(sys.argv[1])
"""
SETUP = """
from detectime.config import DetectionConfig
from detectime.detection.worker import Worker
from detectime.detectors.registry import choose_detectors
from detectime.sources.folder import FolderSource
worker = Worker(choose_detectors(DetectionConfig(max_pixels=int(sys.argv[3]))))
"""
DETECT = """
(row,) = worker(FolderSource(sys.argv[1]), [sys.argv[2]]).to_pylist()
print(row["outcome"], row["width"], row["error"], sep="|")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "limit"),
    # 108 million pixels: a JPEG is decoded to an eighth of its sides, anything else at full size, and stored twice.
    [("jpg", 150), ("png", 108 * 6 + 150)],
)
def test_the_memory_for_a_large_frame_is_limited(suffix: str, limit: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    subprocess.run([sys.executable, "-c", MAKE, path], check=True)
    megabytes, (row,) = measure_memory(SETUP, DETECT, tmp_path, path.name, 100_000_000)
    assert row == "unreadable|None|too large: 12000 x 9000 pixels, more than max_pixels (100000000)"
    assert megabytes < 60
    megabytes, (row,) = measure_memory(SETUP, DETECT, tmp_path, path.name, 120_000_000)
    assert row == "ok|12000|None"
    assert megabytes < limit


@pytest.mark.parametrize("smaller", [2, 3])
def test_a_smaller_person_beside_one_without_a_gesture_is_found(smaller: int, worker: Worker) -> None:
    """The coarse search finds only the larger face."""
    sample = paths.SAMPLE / "TRAIN_DATA"
    bystander, other = (read_image(sample / name) for name in ("no_gesture_01/0001.jpg", "stop_01/0001.jpg"))
    height, width = other.shape[0] // smaller, other.shape[1] // smaller
    both = np.zeros((bystander.shape[0], bystander.shape[1] + width, 3), np.uint8)
    both[:, : bystander.shape[1]] = bystander
    both[:height, bystander.shape[1] :] = shrink_image(other, width)[:height]
    ((faces, (search,)),) = worker.cascade.detect([EncodedImage(encode_image(both))])
    assert len(faces) == 2
    assert len(search.detections) == 1
    assert search.detections.boxes[0, 0] > bystander.shape[1]
